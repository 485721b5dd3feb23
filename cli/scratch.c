/* SPDX-License-Identifier: MIT */
#include "scratch.h"
#include <arpa/inet.h>
#include <errno.h>
#include <naru/endpoint.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
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
    return 0;
}

void nr_scratch_forget(struct nr_scratch *scratch)
{
    if (scratch->uris_count)
        scratch->uris_count--;
}

void nr_scratch_unlink(struct nr_scratch *scratch)
{
    for (unsigned i = 0; i < scratch->uris_count; i++) {
        const char *uri = scratch->uris[i];

        /* Names without an object behind them go with their socket. */
        if (strncmp(uri, "tcp:", 4) != 0 && strncmp(uri, "abstract:", 9) != 0)
            naru_unlink(uri);
    }
    scratch->uris_count = 0;
    if (scratch->directory[0] && rmdir(scratch->directory) == 0)
        scratch->directory[0] = '\0';
}

void nr_scratch_deinit(struct nr_scratch *scratch)
{
    nr_scratch_unlink(scratch);
}
