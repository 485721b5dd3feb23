/* SPDX-License-Identifier: MIT */
#include "os/link.h"
#include "os/io.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

int nr_os_link_new(int ret[2])
{
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret) < 0 ? -errno : 0;
}

int nr_os_link_put(int fd, const void *data, size_t size_bytes)
{
    const char *from = data;

    while (size_bytes) {
        ssize_t size = send(fd, from, size_bytes, MSG_NOSIGNAL);
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            return -errno;
        from += size;
        size_bytes -= (size_t)size;
    }
    return 0;
}

int nr_os_link_get(int fd, void *data, size_t size_bytes)
{
    char *to = data;

    while (size_bytes) {
        ssize_t size = recv(fd, to, size_bytes, 0);
        if (size < 0 && errno == EINTR)
            continue;
        if (size <= 0)
            return size < 0 && errno != ECONNRESET ? -errno : -EPIPE;
        to += size;
        size_bytes -= (size_t)size;
    }
    return 0;
}

int nr_os_link_has(int fd)
{
    int count = 0;

    return ioctl(fd, FIONREAD, &count) < 0 ? -errno : count > 0;
}

/* To a pipe: SIGPIPE waits while we write, and one that our write raised is taken away. */
static ssize_t nr_os_link_write(int fd, const void *data, size_t size_bytes)
{
    sigset_t pipe_only, pending, before;
    const struct timespec now = {0};

    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
    ssize_t size = write(fd, data, size_bytes);
    int error = errno;
    if (size < 0 && error == EPIPE && !sigismember(&pending, SIGPIPE))
        while (sigtimedwait(&pipe_only, NULL, &now) < 0 && errno == EINTR)
            ;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return size;
}

int nr_os_link_put_any(int fd, const void *data, size_t size_bytes)
{
    ssize_t size;

    int result = nr_os_link_put(fd, data, size_bytes);
    if (result != -ENOTSOCK)
        return result;
    do
        size = nr_os_link_write(fd, data, size_bytes);
    while (size < 0 && errno == EINTR);
    return size < 0 ? -errno : 0;
}

int nr_os_link_notify(const char *address, const char *text)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t length = strlen(address);

    if (length == 0 || length >= sizeof to.sun_path || (address[0] != '/' && address[0] != '@'))
        return -EINVAL;
    memcpy(to.sun_path, address, length);
    if (address[0] == '@')
        to.sun_path[0] = '\0';
    nr_cleanup_close int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    ssize_t size;
    do
        size = sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&to,
                      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
    while (size < 0 && errno == EINTR);
    return size < 0 ? -errno : 0;
}
