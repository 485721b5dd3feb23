/* SPDX-License-Identifier: MIT */
/* cell [URI] -- a thermometer keeps one value up to date; whoever looks sees the newest whole one */
#include <naru/endpoint.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

struct weather {
    double celsius, fahrenheit;
};

static const struct naru_options cell = {.size_bytes = sizeof cell, .pattern = NARU_CELL};

/* Until it is killed, at whatever moment. */
static int measure(const char *uri)
{
    struct naru_endpoint *writer;

    if (naru_open(&writer, uri, NARU_SENDER, &cell) < 0) {
        fprintf(stderr, "thermometer: %s\n", naru_error_text());
        return 1;
    }
    for (double celsius = 15;; celsius += 0.1, usleep(500)) {
        struct weather weather = {celsius, celsius * 1.8 + 32};
        if (naru_send(writer, &weather, sizeof weather, 0) < 0)
            return 1;
    }
}

static int look(const char *uri, const char *when)
{
    struct naru_endpoint *reader;
    struct weather weather;

    if (naru_open(&reader, uri, NARU_RECEIVER, &cell) < 0 ||
        naru_recv(reader, &weather, sizeof weather, NULL, 10 * NARU_SECOND) < 0) {
        fprintf(stderr, "%s: %s\n", when, naru_error_text());
        return 1;
    }
    double off = weather.celsius * 1.8 + 32 - weather.fahrenheit;
    int is_whole = off > -1e-9 && off < 1e-9;
    printf("%s: %.1f degrees Celsius, %.1f Fahrenheit, %s\n", when, weather.celsius,
           weather.fahrenheit, is_whole ? "which agree" : "which do not agree");
    naru_close(reader);
    return !is_whole;
}

int main(int argc, char **argv)
{
    const char *uri = argc > 1 ? argv[1] : "shm://example-thermometer";
    int failed = 0;

    for (int day = 1; day <= 3; day++) { /* the next one takes over where a dead one was */
        pid_t thermometer = fork();
        if (thermometer == 0)
            return measure(uri);
        usleep(20000);
        failed |= look(uri, "measuring");
        kill(thermometer, SIGKILL);
        waitpid(thermometer, NULL, 0);
        failed |= look(uri, "it died  ");
    }
    naru_unlink(uri);
    return failed;
}
