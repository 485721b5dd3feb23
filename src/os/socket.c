/* SPDX-License-Identifier: MIT */
#include "os/socket.h"
#include "os/process.h"
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

int nr_os_socket_new(int family, int type)
{
    int fd = socket(family, type | SOCK_CLOEXEC, 0);

    return fd < 0 ? -errno : fd;
}

int nr_os_socket_pair(int ret[2])
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret) < 0 ? -errno : 0;
}

int nr_os_socket_bind(int fd, const struct nr_os_address *address)
{
    return bind(fd, &address->any, address->size_bytes) < 0 ? -errno : 0;
}

int nr_os_socket_listen(int fd)
{
    return listen(fd, SOMAXCONN) < 0 ? -errno : 0;
}

int nr_os_socket_connect(int fd, const struct nr_os_address *address)
{
    int result;

    do
        result = connect(fd, &address->any, address->size_bytes);
    while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : 0;
}

int nr_os_socket_accept(int fd)
{
    int accepted;

    do
        accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    while (accepted < 0 && (errno == EINTR || errno == ECONNABORTED || errno == EPROTO));
    return accepted < 0 ? -errno : accepted;
}

int nr_os_socket_error(int fd)
{
    int error = 0;
    socklen_t size = sizeof error;

    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 ? -errno : -error;
}

int nr_os_socket_shutdown(int fd)
{
    return shutdown(fd, SHUT_RDWR) < 0 ? -errno : 0;
}

bool nr_os_socket_is_to_itself(int fd)
{
    struct sockaddr_storage mine = {0}, theirs = {0};
    socklen_t mine_size = sizeof mine, theirs_size = sizeof theirs;

    return getsockname(fd, (struct sockaddr *)&mine, &mine_size) == 0 &&
           getpeername(fd, (struct sockaddr *)&theirs, &theirs_size) == 0 &&
           mine_size == theirs_size && memcmp(&mine, &theirs, mine_size) == 0;
}

int nr_os_socket_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value) < 0 ? -errno : 0;
}

int nr_os_socket_send_room(int fd)
{
    int bytes = 0;
    socklen_t size = sizeof bytes;

    return getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, &size) < 0 ? -errno : bytes;
}

int nr_os_socket_no_delay(int fd)
{
    return nr_os_socket_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

int nr_os_socket_only_ipv6(int fd)
{
    return nr_os_socket_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
}

int nr_os_socket_peer(int fd, pid_t *ret_pid, uid_t *ret_uid)
{
    struct ucred credentials;
    socklen_t size = sizeof credentials;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
        return -errno;
    *ret_pid = credentials.pid;
    *ret_uid = credentials.uid;
    return 0;
}

/* The kernel's own descriptor names the very process; a pid may be another one's by now, so without
   SO_PEERPIDFD this is as good as the moment between the connection and this call is short. */
int nr_os_socket_peer_pidfd(int fd, pid_t pid)
{
    int pidfd = -1;
    socklen_t size = sizeof pidfd;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) == 0)
        return pidfd;
    return pid > 0 && errno == ENOPROTOOPT ? nr_os_pidfd_open(pid) : -ESRCH;
}

int nr_os_socket_patience(int fd, int64_t patience_ns)
{
    struct timeval patience = {
        .tv_sec = patience_ns / 1000000000,
        .tv_usec = patience_ns % 1000000000 / 1000,
    };

    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) < 0)
        return -errno;
    return 0;
}

long nr_os_sendmsg_try(int fd, const struct msghdr *message)
{
    ssize_t size;

    do
        size = sendmsg(fd, message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (size < 0 && errno == EINTR);
    return size < 0 ? -errno : size;
}

long nr_os_recvmsg_try(int fd, struct msghdr *message, int flags)
{
    ssize_t size;

    do
        size = recvmsg(fd, message, flags | MSG_DONTWAIT);
    while (size < 0 && errno == EINTR);
    return size < 0 ? -errno : size;
}

long nr_os_send_try(int fd, const void *data, size_t size_bytes)
{
    ssize_t size;

    do
        size = send(fd, data, size_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (size < 0 && errno == EINTR);
    return size < 0 ? -errno : size;
}

long nr_os_recv_try(int fd, void *data, size_t size_bytes)
{
    ssize_t size;

    do
        size = recv(fd, data, size_bytes, MSG_DONTWAIT);
    while (size < 0 && errno == EINTR);
    return size < 0 ? -errno : size;
}

void nr_os_fds_attach(struct msghdr *message, void *room, const int *fds, size_t fds_count)
{
    memset(room, 0, CMSG_SPACE(sizeof(int) * fds_count));
    message->msg_control = room;
    message->msg_controllen = CMSG_SPACE(sizeof(int) * fds_count);
    struct cmsghdr *control = CMSG_FIRSTHDR(message);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(sizeof(int) * fds_count);
    memcpy(CMSG_DATA(control), fds, sizeof(int) * fds_count);
}

bool nr_os_fds_detach(struct msghdr *message, int *fds, size_t capacity, size_t *ret_count)
{
    bool cut = message->msg_flags & MSG_CTRUNC;
    size_t count = 0;

    struct cmsghdr *control = message->msg_controllen ? CMSG_FIRSTHDR(message) : NULL;
    for (; control; control = CMSG_NXTHDR(message, control)) {
        if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS)
            continue;
        size_t came = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < came; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(control) + i * sizeof fd, sizeof fd);
            if (count < capacity) {
                fds[count++] = fd;
            } else {
                close(fd);
                cut = true;
            }
        }
    }
    *ret_count = count;
    return cut;
}

static int nr_os_resolve_with(const char *host, uint16_t port, int flags, struct nr_os_address *ret,
                              int max)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    char port_text[8];
    int count = 0;

    snprintf(port_text, sizeof port_text, "%u", port);
    if (getaddrinfo(host, port_text, &hints, &list) != 0)
        return 0;
    for (struct addrinfo *one = list; one && count < max; one = one->ai_next) {
        if (one->ai_family != AF_INET && one->ai_family != AF_INET6)
            continue;
        ret[count] = (struct nr_os_address){.size_bytes = one->ai_addrlen};
        memcpy(&ret[count++].any, one->ai_addr, one->ai_addrlen);
    }
    freeaddrinfo(list);
    return count;
}

int nr_os_resolve(const char *host, uint16_t port, struct nr_os_address *ret, int max)
{
    int count = nr_os_resolve_with(host, port, AI_NUMERICHOST, ret, max);

    if (count == 0)
        count = nr_os_resolve_with(host, port, 0, ret, max);
    return count ? count : -ENOENT;
}

int nr_os_rename(const char *from, const char *to, bool may_replace)
{
    if (may_replace)
        return rename(from, to) < 0 ? -errno : 0;
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -errno;
    /* A file system without that flag: a link does not replace either. */
    if (link(from, to) < 0)
        return -errno;
    return unlink(from) < 0 ? -errno : 0;
}

int nr_os_chmod(const char *path, unsigned mode)
{
    return chmod(path, mode) < 0 ? -errno : 0;
}

int nr_os_flock(int fd, bool lock)
{
    int result;

    do
        result = flock(fd, lock ? LOCK_EX | LOCK_NB : LOCK_UN);
    while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : 0;
}

int nr_os_watch_new(const char *directory)
{
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

    if (fd < 0)
        return -errno;
    if (inotify_add_watch(fd, directory, IN_CREATE | IN_MOVED_TO | IN_ATTRIB) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

void nr_os_watch_drain(int fd)
{
    char events[4096];

    while (read(fd, events, sizeof events) > 0)
        ;
}

int nr_os_epoll_watch(int epoll_fd, int fd, unsigned events, void *data)
{
    struct epoll_event event = {.events = events, .data.ptr = data};

    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int nr_os_epoll_take(int epoll_fd, void **ret_data, int max)
{
    struct epoll_event events[64];
    int count;

    do
        count = epoll_wait(epoll_fd, events, max < 64 ? max : 64, 0);
    while (count < 0 && errno == EINTR);
    for (int i = 0; i < count; i++)
        ret_data[i] = events[i].data.ptr;
    return count < 0 ? -errno : count;
}

int64_t nr_os_now_coarse_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int nr_os_at_fork(void (*in_child)(void))
{
    return -pthread_atfork(NULL, NULL, in_child);
}
