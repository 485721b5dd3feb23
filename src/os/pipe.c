/* SPDX-License-Identifier: MIT */
#include "os/pipe.h"
#include "os/lock.h"
#include "os/process.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>

bool nr_os_pipe_lacks_nosignal;

int nr_os_pipe_new(int fds[2])
{
    return pipe2(fds, O_CLOEXEC | O_DIRECT) < 0 ? -errno : 0;
}

int nr_os_fifo_new(const char *path, unsigned mode)
{
    return mkfifo(path, mode) < 0 ? -errno : 0;
}

int nr_os_pipe_packets(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0)
        return -errno;
    return fcntl(fd, F_SETFL, (flags | O_DIRECT) & ~O_NONBLOCK) < 0 ? -errno : 0;
}

int nr_os_pipe_resize(int fd, unsigned size_bytes)
{
    return fcntl(fd, F_SETPIPE_SZ, size_bytes) < 0 ? -errno : 0;
}

int nr_os_pipe_size(int fd)
{
    int size_bytes = fcntl(fd, F_GETPIPE_SZ);

    return size_bytes < 0 ? -errno : size_bytes;
}

int nr_os_reopen(int fd, int flags)
{
    char path[32];

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return nr_os_open(path, flags, 0);
}

int nr_os_replace(int from, int to)
{
    int result;

    do
        result = dup3(from, to, O_CLOEXEC) < 0 ? -errno : 0;
    while (result == -EINTR || result == -EBUSY);
    close(from);
    return result;
}

bool nr_os_pipe_is_refused(long result)
{
    return result == -EOPNOTSUPP || nr_os_is_refused((int)result);
}

int nr_os_pipe_switch(struct nr_os_pipe_end *end, bool is_nonblocking)
{
    int result = nr_os_nonblocking(end->fd, is_nonblocking);

    if (result == 0)
        nr_flag_set(&end->is_nonblocking, is_nonblocking);
    return result;
}

long nr_os_pipe_read_now(struct nr_os_pipe_end *end, void *data, size_t size_bytes)
{
    const struct iovec part = {data, size_bytes};

    for (;;) {
        int result = nr_os_pipe_mode(end, true);
        if (result < 0)
            return result;
        ssize_t size = nr_flag_get(&end->lacks_nowait) ? read(end->fd, data, size_bytes)
                                                       : preadv2(end->fd, &part, 1, -1, RWF_NOWAIT);
        if (size >= 0)
            return size;
        if (nr_os_pipe_is_refused(-errno) && !nr_flag_get(&end->lacks_nowait))
            nr_flag_set(&end->lacks_nowait, true);
        else if (errno != EINTR)
            return -errno;
    }
}

/* Before 6.18: SIGPIPE waits while we write, and one that our write raised is taken away. */
static long nr_os_pipe_write_masked(int fd, const struct iovec *parts, int count, int flags)
{
    sigset_t pipe_only, before, pending;

    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
    ssize_t size = flags ? pwritev2(fd, parts, count, -1, flags) : writev(fd, parts, count);
    int error = size < 0 ? errno : 0;
    if (error == EPIPE && !sigismember(&pending, SIGPIPE))
        while (sigtimedwait(&pipe_only, NULL, &(struct timespec){0}) < 0 && errno == EINTR)
            ;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error ? -error : size;
}

long nr_os_pipe_write_now(struct nr_os_pipe_end *end, const struct iovec *parts, int count)
{
    for (;;) {
        int result = nr_os_pipe_mode(end, true);
        if (result < 0)
            return result;
        int flags = nr_flag_get(&end->lacks_nowait) ? 0 : RWF_NOWAIT;
        long size;

        if (nr_flag_get(&nr_os_pipe_lacks_nosignal)) {
            size = nr_os_pipe_write_masked(end->fd, parts, count, flags);
        } else {
            size = pwritev2(end->fd, parts, count, -1, flags | RWF_NOSIGNAL);
            size = size < 0 ? -errno : size;
        }
        bool is_refused = size < 0 && nr_os_pipe_is_refused(size);
        if (!is_refused && size != -EINTR)
            return size;
        /* Either flag may be what it does not take; O_NONBLOCK serves as well, so that one goes first. */
        if (is_refused && flags)
            nr_flag_set(&end->lacks_nowait, true);
        else if (is_refused && !nr_flag_get(&nr_os_pipe_lacks_nosignal))
            nr_flag_set(&nr_os_pipe_lacks_nosignal, true);
        else if (is_refused)
            return size;
    }
}

int nr_os_open_watch(const char *path)
{
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

    if (fd < 0)
        return -errno;
    if (inotify_add_watch(fd, path, IN_OPEN) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}
