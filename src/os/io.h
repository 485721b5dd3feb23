/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * io -- descriptors: open, read, write, poll, epoll
 *
 * Returns    The call's result, or -errno. EINTR is retried, except in nr_os_poll() and the guarded
 *            calls, whose callers look at the interrupt first.
 */
#include "os/clock.h"
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#define NR_READABLE POLLIN
#define NR_WRITABLE POLLOUT

void nr_os_close(int *fd); /* closes and sets -1; -1 is allowed; keeps errno */

#define nr_cleanup_close __attribute__((cleanup(nr_os_close)))

int nr_os_open(const char *path, int flags, unsigned mode);
int nr_os_fstat(int fd, struct stat *ret);
int nr_os_stat(const char *path, struct stat *ret); /* does not follow a last symbolic link */
int nr_os_unlink(const char *path);
int nr_os_nonblocking(int fd, int on);
int nr_os_duplicate(int fd); /* close-on-exec */
bool nr_os_fd_is_open(int fd);
uint64_t nr_os_fd_limit(void); /* no descriptor is larger than this, or as large */
bool nr_os_same_file(int fd, int other_fd);

/* One ppoll; 0 on time-out, -EINTR on a signal. */
int nr_os_poll(struct pollfd *fds, unsigned count, struct nr_deadline *deadline);

int nr_os_epoll_new(void);
int nr_os_epoll_add(int epoll_fd, int fd, unsigned events); /* EPOLLIN, EPOLLOUT as NR_* */
int nr_os_epoll_remove(int epoll_fd, int fd);
int nr_os_epoll_add_tagged(int epoll_fd, int fd, unsigned events, uint64_t tag);
/* The tags of up to `count` (64 at most) that are ready; 0 also on a signal. */
int nr_os_epoll_wait(int epoll_fd, uint64_t *ret_tags, int count, struct nr_deadline *deadline);

void nr_os_drain(int fd); /* reads away what a non-blocking descriptor has */

int nr_os_eventfd(void); /* non-blocking, close-on-exec */
void nr_os_eventfd_set(int fd);
void nr_os_eventfd_clear(int fd);
int nr_os_eventfd_try(int fd); /* as set, and tells an error: -EBADF, ... */

/* Takes the descriptor away from a variable that closes it: return nr_steal_fd(&fd); */
static inline int nr_steal_fd(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}
