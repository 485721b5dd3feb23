/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * link -- a stream between a parent and its child: a byte says "go on", "I am ready", or what went wrong
 *
 * What       A pair of stream sockets, because a write to a socket can be kept from raising SIGPIPE.
 */
#include <stddef.h>
#include <sys/types.h>

int nr_os_link_new(int ret[2]); /* blocking, close-on-exec */

/* All of it, or -errno: -EPIPE the other side is closed. */
int nr_os_link_put(int fd, const void *data, size_t size_bytes);
/* All of it; -EPIPE: it ended before. */
int nr_os_link_get(int fd, void *data, size_t size_bytes);

/* Does a byte wait there? */
int nr_os_link_has(int fd);

/* The same to whatever descriptor somebody gave us. */
int nr_os_link_put_any(int fd, const void *data, size_t size_bytes);

/* A datagram to a unix socket, whose address is a path, or a name behind '@'. */
int nr_os_link_notify(const char *address, const char *text);
