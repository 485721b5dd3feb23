/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * listening -- the socket that the server listens on, and what it tells its service manager
 *
 * What       HOST:PORT, [IPv6]:PORT or :PORT (every address); or the socket that a service manager has opened
 *            already (LISTEN_FDS, sd_listen_fds(3)). Port 0 lets the kernel choose.
 * Returns    -errno with a sentence in nr_listening_error().
 */
#include <stdbool.h>

struct nr_listening {
    int fd; /* non-blocking, close-on-exec */
    char host[64];
    int port;
    bool is_inherited;
};

int nr_listening_open(struct nr_listening *listening, const char *text, int backlog);
void nr_listening_close(struct nr_listening *listening);
const char *nr_listening_error(void);

/* Tells NOTIFY_SOCKET, if there is one (sd_notify(3)): "READY=1". */
void nr_listening_notify(const char *state);
