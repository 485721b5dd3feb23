/* SPDX-License-Identifier: MIT */
#include "scratch.h"
#include <arpa/inet.h>
#include <errno.h>
#include <naru/endpoint.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static uint32_t nr_scratch_random(void)
{
    uint32_t number = 0;

    if (getrandom(&number, sizeof number, 0) != (ssize_t)sizeof number)
        number = (uint32_t)getpid() * 2654435761u;
    return number;
}

void nr_scratch_init(struct nr_scratch *scratch)
{
    *scratch = (struct nr_scratch){0};
    snprintf(scratch->tag, sizeof scratch->tag, "naru-%d-%08x", (int)getpid(), nr_scratch_random());
}

static int nr_scratch_make_directory(struct nr_scratch *scratch)
{
    const char *parent = getenv("TMPDIR");
    char path[sizeof scratch->directory];

    if (scratch->directory[0])
        return 0;
    /* A socket's path has room for 107 characters: a deep TMPDIR won't do. */
    if (!parent || parent[0] != '/' || strlen(parent) > 60)
        parent = "/tmp";
    snprintf(path, sizeof path, "%s/naru-XXXXXX", parent);
    if (!mkdtemp(path))
        return -errno;
    memcpy(scratch->directory, path, sizeof path);
    return 0;
}

/* A port of the loopback that was free a moment ago. Who loses it to another program in between gets
   -EADDRINUSE from naru_open() and may ask again. */
static int nr_scratch_free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    int result = 0;
    if (bind(fd, (struct sockaddr *)&address, size) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        result = -errno;
    close(fd);
    return result < 0 ? result : ntohs(address.sin_port);
}

static void nr_scratch_start_janitor(struct nr_scratch *scratch);

static void nr_scratch_stop_janitor(struct nr_scratch *scratch)
{
    if (!scratch->janitor_pid)
        return;
    kill(scratch->janitor_pid, SIGKILL);
    while (waitpid(scratch->janitor_pid, NULL, 0) < 0 && errno == EINTR)
        ;
    scratch->janitor_pid = 0;
}

int nr_scratch_name(struct nr_scratch *scratch, const char *scheme, const char *purpose,
                    char ret_uri[NR_SCRATCH_URI_BYTES])
{
    char *uri = ret_uri;
    int result;

    if (scratch->uris_count == NR_SCRATCH_NAMES_MAX)
        return -ENOSPC;
    if (strcmp(scheme, "fifo") == 0 || strcmp(scheme, "file") == 0 || strcmp(scheme, "unix") == 0) {
        result = nr_scratch_make_directory(scratch);
        if (result < 0)
            return result;
        snprintf(uri, NR_SCRATCH_URI_BYTES, "%s://%s/%s", scheme, scratch->directory, purpose);
    } else if (strcmp(scheme, "sysv") == 0) {
        /* Positive, and never 0, which is IPC_PRIVATE. */
        snprintf(uri, NR_SCRATCH_URI_BYTES, "sysv://0x%08x", (nr_scratch_random() >> 1) | 1);
    } else if (strcmp(scheme, "tcp") == 0) {
        result = nr_scratch_free_port();
        if (result < 0)
            return result;
        snprintf(uri, NR_SCRATCH_URI_BYTES, "tcp://127.0.0.1:%d", result);
    } else {
        snprintf(uri, NR_SCRATCH_URI_BYTES, "%s://%s-%s", scheme, scratch->tag, purpose);
    }
    memcpy(scratch->uris[scratch->uris_count++], uri, NR_SCRATCH_URI_BYTES);
    if (strcmp(scheme, "sysv") == 0)
        nr_scratch_start_janitor(scratch);
    return 0;
}

void nr_scratch_forget(struct nr_scratch *scratch)
{
    if (scratch->uris_count)
        scratch->uris_count--;
}

static bool nr_scratch_has_scheme(const char *uri, const char *scheme)
{
    size_t length = strlen(scheme);

    return strncmp(uri, scheme, length) == 0 && uri[length] == ':';
}

void nr_scratch_unlink(struct nr_scratch *scratch)
{
    unsigned kept_count = 0;

    for (unsigned i = 0; i < scratch->uris_count; i++) {
        const char *uri = scratch->uris[i];

        if (nr_scratch_has_scheme(uri, "sysv"))
            memmove(scratch->uris[kept_count++], uri, NR_SCRATCH_URI_BYTES);
        /* Names without an object behind them go with their socket. */
        else if (!nr_scratch_has_scheme(uri, "tcp") && !nr_scratch_has_scheme(uri, "abstract"))
            naru_unlink(uri);
    }
    scratch->uris_count = kept_count;
    if (scratch->directory[0] && rmdir(scratch->directory) == 0)
        scratch->directory[0] = '\0';
}

static void nr_scratch_unlink_queues(struct nr_scratch *scratch)
{
    for (unsigned i = 0; i < scratch->uris_count; i++)
        if (nr_scratch_has_scheme(scratch->uris[i], "sysv"))
            naru_unlink(scratch->uris[i]);
    scratch->uris_count = 0;
}

/* Sleeps until this process is dead, and then removes the queues. */
static void nr_scratch_start_janitor(struct nr_scratch *scratch)
{
    pid_t parent = getpid();
    sigset_t all, before;
    int number;

    nr_scratch_stop_janitor(scratch);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0) {
        sigset_t only;

        sigemptyset(&only);
        sigaddset(&only, SIGUSR1);
        prctl(PR_SET_PDEATHSIG, SIGUSR1);
        while (getppid() == parent)
            sigwait(&only, &number);
        nr_scratch_unlink_queues(scratch);
        _exit(0);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    scratch->janitor_pid = pid > 0 ? pid : 0;
}

void nr_scratch_deinit(struct nr_scratch *scratch)
{
    nr_scratch_unlink(scratch);
    nr_scratch_unlink_queues(scratch);
    nr_scratch_stop_janitor(scratch);
}
