/* SPDX-License-Identifier: MIT */
#include "visit.h"
#include "output.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <naru/process.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { NR_VISIT_ANSWER_BYTES = 16 * 1024, NR_VISIT_SECONDS = 10, NR_VISIT_WORKERS = 2 };

static const char nr_visit_text[] = "a ferry landing\n";

struct nr_visit_server {
    struct nr_visit *visit;
    struct naru_child *child;
    char site[512];
    int port;
    char answer[NR_VISIT_ANSWER_BYTES]; /* the last one, with its head */
};

__attribute__((format(printf, 2, 3))) static int nr_visit_fail(struct nr_visit_server *server,
                                                               const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(server->visit->reason, sizeof server->visit->reason, format, arguments);
    va_end(arguments);
    return -1;
}

/* -- asking -------------------------------------------------------------------------------- */

/* One request in a connection of its own; its answer's body, or NULL if there was no whole one. */
static const char *nr_visit_ask(struct nr_visit_server *server, const char *path)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)server->port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    struct timeval limit = {.tv_sec = NR_VISIT_SECONDS};
    char request[256];
    size_t filled = 0;
    ssize_t size;

    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return NULL;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path,
                          server->visit->address);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        send(fd, request, (size_t)length, MSG_NOSIGNAL) != length) {
        close(fd);
        return NULL;
    }
    while (filled < sizeof server->answer - 1 &&
           (size = recv(fd, server->answer + filled, sizeof server->answer - 1 - filled, 0)) > 0)
        filled += (size_t)size;
    close(fd);
    server->answer[filled] = '\0';
    const char *body = strstr(server->answer, "\r\n\r\n");
    if (!body || strncmp(server->answer, "HTTP/1.1 200 ", 13) != 0)
        return NULL;
    server->visit->requests++;
    return body + 4;
}

/* The number behind "key": in the text. */
static long nr_visit_number(const char *text, const char *key)
{
    char name[32];

    snprintf(name, sizeof name, "\"%s\":", key);
    const char *found = text ? strstr(text, name) : NULL;
    return found ? strtol(found + strlen(name), NULL, 10) : -1;
}

/* How many workers are there, whole and ready; *ret_pid: one of them. */
static int nr_visit_workers(const char *status, long *ret_pid)
{
    const char *at = status ? strstr(status, "\"workers\":[") : NULL;
    int count = 0;

    while (at && (at = strstr(at, "{\"worker\":"))) {
        const char *state = strstr(at, "\"state\":\"");
        if (state && (strncmp(state + 9, "idle", 4) == 0 || strncmp(state + 9, "busy", 4) == 0)) {
            *ret_pid = nr_visit_number(at, "pid");
            count++;
        }
        at++;
    }
    return count;
}

/* -- its life ------------------------------------------------------------------------------ */

/* The line that it prints when it listens. */
static int nr_visit_hear(struct nr_visit_server *server, int fd)
{
    char line[512];
    size_t filled = 0;
    struct pollfd ready = {.fd = fd, .events = POLLIN};

    while (filled < sizeof line - 1 && poll(&ready, 1, NR_VISIT_SECONDS * 1000) == 1) {
        ssize_t size = read(fd, line + filled, sizeof line - 1 - filled);
        if (size <= 0)
            break;
        filled += (size_t)size;
        if (memchr(line, '\n', filled))
            break;
    }
    line[filled] = '\0';
    server->port = (int)nr_visit_number(line, "port");
    if (server->port <= 0)
        return nr_visit_fail(server, "the server did not start; try `naru httpd --root .`");
    snprintf(server->visit->address, sizeof server->visit->address, "127.0.0.1:%d", server->port);
    return 0;
}

static int nr_visit_start(struct nr_visit_server *server)
{
    const char *const argv[] = {"/proc/self/exe", "httpd",     "--root", server->site, "--listen",
                                "127.0.0.1:0",    "--workers", "2",      "--json",     NULL};
    int told[2], nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int64_t begin_ns = nr_output_now_ns();

    if (nothing < 0 || pipe2(told, O_CLOEXEC) < 0)
        return nr_visit_fail(server, "no descriptors: %s", strerror(errno));
    const struct naru_spawn_fd fds[] = {{
                                            told[1],
                                            1,
                                        },
                                        {nothing, 2}};
    struct naru_spawn_options options = {.size_bytes = sizeof options, .fds = fds, .fds_count = 2};
    int result = naru_spawn_program(&server->child, argv, &options);
    close(told[1]);
    close(nothing);
    if (result < 0)
        nr_visit_fail(server, "%s", naru_error_text());
    else
        result = nr_visit_hear(server, told[0]);
    close(told[0]);
    if (result < 0)
        return -1;
    const char *body = nr_visit_ask(server, "/text.txt");
    if (!body || strcmp(body, nr_visit_text) != 0)
        return nr_visit_fail(server, "the file did not come back as it is");
    server->visit->start_ns = nr_output_now_ns() - begin_ns;
    return 0;
}

/* Kills a worker, and asks until the status tells of it and all are there again. */
static int nr_visit_kill(struct nr_visit_server *server)
{
    long victim = -1, other;

    for (int i = 0; i < 100; i++, usleep(10000)) /* until both have begun */
        if (nr_visit_workers(nr_visit_ask(server, "/naru/status.json"), &victim) ==
            NR_VISIT_WORKERS)
            break;
    if (victim <= 0 || kill((pid_t)victim, SIGKILL) < 0)
        return nr_visit_fail(server, "there was no worker to kill");
    int64_t begin_ns = nr_output_now_ns();
    while (nr_output_now_ns() - begin_ns < NR_VISIT_SECONDS * NARU_SECOND) {
        const char *status = nr_visit_ask(server, "/naru/status.json");
        const char *cause = status ? strstr(status, "\"cause\":\"") : NULL;
        if (cause && nr_visit_workers(status, &other) == NR_VISIT_WORKERS) {
            snprintf(server->visit->cause, sizeof server->visit->cause, "%.*s",
                     (int)strcspn(cause + 9, "\""), cause + 9);
            server->visit->repair_ns = nr_output_now_ns() - begin_ns;
            return 0;
        }
        usleep(1000);
    }
    return nr_visit_fail(server, "worker %ld was killed, and none took its place", victim);
}

static int nr_visit_drain(struct nr_visit_server *server)
{
    struct naru_death death = {.size_bytes = sizeof death};
    int64_t begin_ns = nr_output_now_ns();

    naru_child_signal(server->child, SIGTERM);
    if (naru_child_wait(server->child, &death, NR_VISIT_SECONDS * NARU_SECOND) < 0)
        return nr_visit_fail(server, "%s", naru_error_text());
    server->visit->drain_ns = nr_output_now_ns() - begin_ns;
    return death.cause == NARU_EXITED && death.exit_status == 0
               ? 0
               : nr_visit_fail(server, "it did not end well: %s", death.text);
}

static int nr_visit_make_site(struct nr_visit_server *server)
{
    char path[600];

    if (!mkdtemp(server->site))
        return nr_visit_fail(server, "%s: %s", server->site, strerror(errno));
    snprintf(path, sizeof path, "%s/text.txt", server->site);
    FILE *file = fopen(path, "w");
    if (!file || fputs(nr_visit_text, file) < 0 || fclose(file) != 0)
        return nr_visit_fail(server, "%s: %s", path, strerror(errno));
    return 0;
}

static void nr_visit_remove_site(struct nr_visit_server *server)
{
    char path[600];

    snprintf(path, sizeof path, "%s/text.txt", server->site);
    unlink(path);
    rmdir(server->site);
}

int nr_visit_run(struct nr_visit *visit)
{
    struct nr_visit_server server = {.visit = visit};
    const char *folder = getenv("TMPDIR");

    *visit = (struct nr_visit){0};
    snprintf(server.site, sizeof server.site, "%s/naru-tour-XXXXXX",
             folder && *folder == '/' ? folder : "/tmp");
    int result = nr_visit_make_site(&server);
    if (result == 0)
        result = nr_visit_start(&server);
    if (result == 0)
        result = nr_visit_kill(&server);
    if (result == 0)
        result = nr_visit_drain(&server);
    naru_child_close(server.child); /* kills it, if it still lives */
    nr_visit_remove_site(&server);
    return result;
}
