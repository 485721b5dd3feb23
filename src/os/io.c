/* SPDX-License-Identifier: MIT */
#include "os/io.h"
#include "os/process.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT, "one set of event bits serves both");

void nr_os_close(int *fd)
{
    int saved_errno = errno;

    if (*fd >= 0)
        close(*fd); /* Linux has released it even when it says EINTR */
    *fd = -1;
    errno = saved_errno;
}

int nr_os_open(const char *path, int flags, unsigned mode)
{
    int fd;

    do
        fd = open(path, flags | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

int nr_os_fstat(int fd, struct stat *ret)
{
    return fstat(fd, ret) < 0 ? -errno : 0;
}

int nr_os_stat(const char *path, struct stat *ret)
{
    return lstat(path, ret) < 0 ? -errno : 0;
}

int nr_os_unlink(const char *path)
{
    return unlink(path) < 0 ? -errno : 0;
}

int nr_os_nonblocking(int fd, int on)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0)
        return -errno;
    flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}

int nr_os_duplicate(int fd)
{
    int made = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    return made < 0 ? -errno : made;
}

uint64_t nr_os_fd_limit(void)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_NOFILE, &limit) < 0 ? 0 : limit.rlim_cur;
}

bool nr_os_fd_is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

bool nr_os_same_file(int fd, int other_fd)
{
    struct stat one, other;

    return fstat(fd, &one) == 0 && fstat(other_fd, &other) == 0 && one.st_dev == other.st_dev &&
           one.st_ino == other.st_ino;
}

int nr_os_poll(struct pollfd *fds, unsigned count, struct nr_deadline *deadline)
{
    struct timespec storage;
    int ready = ppoll(fds, count, nr_deadline_timespec(deadline, &storage), NULL);

    return ready < 0 ? -errno : ready;
}

int nr_os_epoll_new(void)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

int nr_os_epoll_add(int epoll_fd, int fd, unsigned events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};

    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int nr_os_epoll_remove(int epoll_fd, int fd)
{
    return epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL) < 0 ? -errno : 0;
}

int nr_os_epoll_add_tagged(int epoll_fd, int fd, unsigned events, uint64_t tag)
{
    struct epoll_event event = {.events = events, .data.u64 = tag};

    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int nr_os_epoll_wait(int epoll_fd, uint64_t *ret_tags, int count, struct nr_deadline *deadline)
{
    struct epoll_event events[64];
    struct timespec storage;
    const struct timespec *timeout = nr_deadline_timespec(deadline, &storage);
    int most = count < 64 ? count : 64;

    int ready = epoll_pwait2(epoll_fd, events, most, timeout, NULL);
    if (ready < 0 && nr_os_is_refused(errno)) { /* before Linux 5.11; rounded up */
        int64_t ms =
            timeout ? (int64_t)timeout->tv_sec * 1000 + (timeout->tv_nsec + 999999) / 1000000 : -1;
        ready = epoll_wait(epoll_fd, events, most, ms > INT_MAX ? INT_MAX : (int)ms);
    }
    if (ready < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < ready; i++)
        ret_tags[i] = events[i].data.u64;
    return ready;
}

void nr_os_drain(int fd)
{
    char scrap[4096];
    ssize_t size;

    do
        size = read(fd, scrap, sizeof scrap);
    while (size > 0 || (size < 0 && errno == EINTR));
}

int nr_os_eventfd(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    return fd < 0 ? -errno : fd;
}

void nr_os_eventfd_set(int fd)
{
    uint64_t one = 1;

    while (write(fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

int nr_os_eventfd_try(int fd)
{
    uint64_t one = 1;
    ssize_t size;

    do
        size = write(fd, &one, sizeof one);
    while (size < 0 && errno == EINTR);
    return size < 0 && errno != EAGAIN ? -errno : 0; /* EAGAIN: it is rung as far as can be */
}

void nr_os_eventfd_clear(int fd)
{
    uint64_t count;

    while (read(fd, &count, sizeof count) < 0 && errno == EINTR)
        ;
}
