/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * link -- a stream between a parent and its child: a byte says "go on", "I am ready", or what went wrong
 *
 * What       A pair of stream sockets, because a write to a socket can be kept from raising SIGPIPE.
 */
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

int nr_os_link_new(int ret[2]); /* blocking, close-on-exec */

/*
 * A gate: a pipe that somebody waits behind until it is opened. ret[0] is the opener's side, ret[1] that of who waits. The
 * opener still has a copy of both, so that it can't get a SIGPIPE. wait: -EPIPE it will never be opened.
 */
int nr_os_gate_new(int ret[2]);
int nr_os_gate_open(int fd);
int nr_os_gate_wait(int fd);

/* All of it, or -errno: -EPIPE the other side is closed. */
int nr_os_link_put(int fd, const void *data, size_t size_bytes);
/* All of it; -EPIPE: it ended before. */
int nr_os_link_get(int fd, void *data, size_t size_bytes);

/*
 * Packets with descriptors. A packet link is made by nr_os_socket_pair(). get: the size, -EPIPE the other side is closed;
 * *fds_count is the room before and the number after; the descriptors are close-on-exec.
 */
enum { NR_LINK_FDS_MAX = 253 };
int nr_os_link_put_packet(int fd, const struct iovec *parts, int parts_count, const int *fds,
                          unsigned fds_count);
int nr_os_link_get_packet(int fd, void *data, size_t capacity_bytes, int *fds, unsigned *fds_count);

/* Does a byte wait there? */
int nr_os_link_has(int fd);

/* The same to whatever descriptor somebody gave us. */
int nr_os_link_put_any(int fd, const void *data, size_t size_bytes);

/*
 * A socket that sd_notify(3) tells, at an abstract address of the kernel's choice, "@...". told: 1 somebody with our user id, or root, has
 * said READY=1; 0 not yet, and what else was said is gone. settle: it stays readable, and nobody waits for room there any more.
 */
enum { NR_LINK_ADDRESS_BYTES = 16, NR_LINK_NOTICE_BYTES = 4096 };
int nr_os_link_notified_new(char address[NR_LINK_ADDRESS_BYTES]); /* the descriptor */
int nr_os_link_notified_told(int fd);
void nr_os_link_notified_settle(int fd);

/* A datagram to a unix socket, whose address is a path, or a name behind '@'. */
int nr_os_link_notify(const char *address, const char *text);
