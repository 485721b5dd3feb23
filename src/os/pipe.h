/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * pipe -- pipes and FIFOs in packet mode
 *
 * What       With O_DIRECT on the writing side each write of up to PIPE_BUF bytes is a packet of its own,
 *            and each read gives one packet: message boundaries without a lock. pipe(2), "packet mode".
 * Returns    As io.h. SIGPIPE is never raised (RWF_NOSIGNAL where the kernel has it, else it is blocked
 *            and taken away in the calling thread).
 */
#include "os/io.h"
#include "os/lock.h"
#include <limits.h>
#include <stdbool.h>
#include <sys/syscall.h>

#ifndef RWF_NOSIGNAL
#define RWF_NOSIGNAL 0x00000100 /* Linux 6.18 */
#endif

int nr_os_pipe_new(int fds[2]); /* [0] reads, [1] writes in packets; close-on-exec */
int nr_os_fifo_new(const char *path, unsigned mode);
int nr_os_pipe_packets(int fd); /* packet mode for this writing description */
int nr_os_pipe_resize(int fd, unsigned size_bytes);
int nr_os_pipe_size(int fd);

/* A description of its own for the pipe behind `fd`; flags as open(2). */
int nr_os_reopen(int fd, int flags);

/* `to` becomes what `from` is, in one step; `from` is closed. */
int nr_os_replace(int from, int to);

/*
 * A descriptor, and how it is told not to block. A pipe's own two descriptors take RWF_NOWAIT a call; those
 * opened by name (a FIFO, /proc/self/fd/N) refuse it on every kernel, and all do before 6.4. There O_NONBLOCK
 * is switched on and off, when the next call needs it otherwise. Blocking calls are made only by a process of
 * one thread (guard.h), so nobody switches it off under another one's hands.
 */
struct nr_os_pipe_end {
    int fd; /* -1: none; to be closed by its owner */
    bool lacks_nowait, is_nonblocking;
};
#define NR_OS_PIPE_END_NULL ((struct nr_os_pipe_end){.fd = -1})

/* Never block; -EAGAIN. */
long nr_os_pipe_read_now(struct nr_os_pipe_end *end, void *data, size_t size_bytes);
long nr_os_pipe_write_now(struct nr_os_pipe_end *end, const struct iovec *parts, int count);

/* True when a write says that the flags are unknown, or (in a sandbox) pwritev2 itself: the next
   nr_os_pipe_write_now() finds out which, and remembers. */
bool nr_os_pipe_is_refused(long result);

/* What this kernel lacks, once it has said so. */
extern bool nr_os_pipe_lacks_nosignal;

/* O_NONBLOCK as the next call needs it, where RWF_NOWAIT does not do. */
int nr_os_pipe_switch(struct nr_os_pipe_end *end, bool is_nonblocking);
static inline int nr_os_pipe_mode(struct nr_os_pipe_end *end, bool is_nonblocking)
{
    if (!nr_flag_get(&end->lacks_nowait) || nr_flag_get(&end->is_nonblocking) == is_nonblocking)
        return 0;
    return nr_os_pipe_switch(end, is_nonblocking);
}

/* The arguments for nr_endpoint_call() that block; false if this kernel's way can't be one call. */
static inline long nr_os_pipe_read_call(struct nr_os_pipe_end *end, void *data, size_t size_bytes,
                                        long arguments[6])
{
    nr_os_pipe_mode(end, false);
    arguments[0] = end->fd;
    arguments[1] = (long)data;
    arguments[2] = (long)size_bytes;
    return SYS_read;
}

static inline bool nr_os_pipe_write_call(struct nr_os_pipe_end *end, const struct iovec *parts,
                                         int count, long *ret_number, long arguments[6])
{
    if (nr_flag_get(&nr_os_pipe_lacks_nosignal))
        return false;
    nr_os_pipe_mode(end, false);
    *ret_number = SYS_pwritev2;
    arguments[0] = end->fd;
    arguments[1] = (long)parts;
    arguments[2] = count;
    arguments[3] = -1; /* the position: none */
    arguments[4] = 0;
    arguments[5] = RWF_NOSIGNAL;
    return true;
}

/* Waits, at most to the deadline, until someone opens `path`: an inotify descriptor to wait with. */
int nr_os_open_watch(const char *path);
