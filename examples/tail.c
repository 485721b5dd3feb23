/* SPDX-License-Identifier: MIT */
/* tail [PATH] -- a file that is read while another process writes it: each record comes whole, at once */
#include <naru/endpoint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int writer(const char *uri, struct naru_endpoint *inherited)
{
    struct naru_endpoint *file;
    char line[40];

    naru_close(inherited); /* it is the parent's */
    if (naru_open(&file, uri, NARU_SENDER, NULL) < 0) {
        fprintf(stderr, "writer: %s\n", naru_error_text());
        return 1;
    }
    for (int i = 1; i <= 5; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
        int length = snprintf(line, sizeof line, "record %d of 5", i);
        if (naru_send(file, line, (size_t)length, 5 * NARU_SECOND) < 0)
            return 1;
    }
    naru_close(file);
    return 0;
}

int main(int argc, char **argv)
{
    struct naru_endpoint *file;
    char uri[128], line[40], expected[40];
    size_t size_bytes;
    int status = 1, came = 0;

    snprintf(uri, sizeof uri, "file://%s", argc > 1 ? argv[1] : "/tmp/naru-example-tail");
    naru_unlink(uri); /* what an earlier run may have left */
    if (naru_open(&file, uri, NARU_RECEIVER, NULL) < 0)
        return fprintf(stderr, "%s\n", naru_error_text()), 1;
    if (fork() == 0)
        _exit(writer(uri, file));
    for (; came < 5; came++) {
        if (naru_recv(file, line, sizeof line - 1, &size_bytes, 5 * NARU_SECOND) < 0) {
            fprintf(stderr, "%s\n", naru_error_text());
            break;
        }
        line[size_bytes] = '\0';
        printf("as it comes: %s\n", line);
        snprintf(expected, sizeof expected, "record %d of 5", came + 1);
        if (strcmp(line, expected) != 0)
            break;
    }
    wait(&status);
    naru_close(file);
    naru_unlink(uri);
    return came != 5 || status != 0;
}
