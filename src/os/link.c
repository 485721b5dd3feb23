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

int nr_os_gate_new(int ret[2])
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    ret[0] = ends[1];
    ret[1] = ends[0];
    return 0;
}

int nr_os_gate_open(int fd)
{
    ssize_t size;

    do
        size = write(fd, "", 1);
    while (size < 0 && errno == EINTR);
    return size < 0 ? -errno : 0;
}

int nr_os_gate_wait(int fd)
{
    ssize_t size;
    char byte;

    do
        size = read(fd, &byte, 1);
    while (size < 0 && errno == EINTR);
    return size > 0 ? 0 : size < 0 ? -errno : -EPIPE;
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

union nr_os_link_control {
    struct cmsghdr header;
    char room[CMSG_SPACE(NR_LINK_FDS_MAX * sizeof(int))];
};

int nr_os_link_put_packet(int fd, const struct iovec *parts, int parts_count, const int *fds,
                          unsigned fds_count)
{
    union {
        const struct iovec *given;
        struct iovec *wanted;
    } vector = {.given = parts};
    union nr_os_link_control control = {0};
    struct msghdr message = {.msg_iov = vector.wanted, .msg_iovlen = (size_t)parts_count};
    ssize_t size;

    if (fds_count) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(fds_count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(fds_count * sizeof(int));
        memcpy(CMSG_DATA(header), fds, fds_count * sizeof(int));
    }
    do
        size = sendmsg(fd, &message, MSG_NOSIGNAL);
    while (size < 0 && errno == EINTR);
    return size < 0 ? -errno : 0;
}

int nr_os_link_get_packet(int fd, void *data, size_t capacity_bytes, int *fds, unsigned *fds_count)
{
    union nr_os_link_control control;
    struct iovec part = {data, capacity_bytes};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = CMSG_SPACE(*fds_count * sizeof(int))};
    ssize_t size;

    do
        size = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    while (size < 0 && errno == EINTR);
    *fds_count = 0;
    if (size <= 0)
        return size < 0 && errno != ECONNRESET ? -errno : -EPIPE;
    const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
        *fds_count = (unsigned)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(header), *fds_count * sizeof(int));
    }
    return message.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ? -EMSGSIZE : (int)size;
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

/* -- to be notified ---------------------------------------------------------------------------- */

int nr_os_link_notified_new(char address[NR_LINK_ADDRESS_BYTES])
{
    struct sockaddr_un own = {.sun_family = AF_UNIX};
    socklen_t size = sizeof own;
    const int yes = 1;

    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes) < 0 ||
        bind(fd, (struct sockaddr *)&own, sizeof own.sun_family) < 0 ||
        getsockname(fd, (struct sockaddr *)&own, &size) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    size_t length = size - offsetof(struct sockaddr_un, sun_path); /* with the zero in front */
    if (length >= NR_LINK_ADDRESS_BYTES) {
        close(fd);
        return -ENAMETOOLONG;
    }
    memcpy(address, own.sun_path, length);
    address[0] = '@';
    address[length] = '\0';
    return fd;
}

static bool nr_os_link_is_from_user(struct msghdr *message)
{
    const struct cmsghdr *header = CMSG_FIRSTHDR(message);
    struct ucred sender;

    if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_CREDENTIALS)
        return false;
    memcpy(&sender, CMSG_DATA(header), sizeof sender);
    return sender.uid == 0 || sender.uid == geteuid();
}

static bool nr_os_link_says_ready(const char *text)
{
    static const char word[] = "READY=1";
    const size_t length = sizeof word - 1;

    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, word, length) == 0 && (line[length] == '\0' || line[length] == '\n'))
            return true;
    }
    return false;
}

/* The next datagram into text[]. 1; 0: there is none, or the end. Nothing but a datagram has credentials, be it empty. */
static int nr_os_link_notified_get(int fd, char text[NR_LINK_NOTICE_BYTES], bool *ret_is_from_user)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(struct ucred))]; /* and for no descriptors */
    } control;
    struct iovec part = {text, NR_LINK_NOTICE_BYTES - 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    ssize_t size;

    do
        size = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    while (size < 0 && errno == EINTR);
    if (size < 0)
        return errno == EAGAIN ? 0 : -errno;
    text[size] = '\0';
    *ret_is_from_user = nr_os_link_is_from_user(&message);
    return CMSG_FIRSTHDR(&message) != NULL;
}

int nr_os_link_notified_told(int fd)
{
    char text[NR_LINK_NOTICE_BYTES];
    bool is_from_user;
    int result;

    while ((result = nr_os_link_notified_get(fd, text, &is_from_user)) > 0)
        if (is_from_user && nr_os_link_says_ready(text))
            return 1;
    return result;
}

/* Whoever sleeps in a send, since nobody has read so far, is not woken by the shutdown, but by what is read behind it. */
void nr_os_link_notified_settle(int fd)
{
    char text[NR_LINK_NOTICE_BYTES];
    bool is_from_user;

    shutdown(fd, SHUT_RD);
    while (nr_os_link_notified_get(fd, text, &is_from_user) > 0)
        ;
}
