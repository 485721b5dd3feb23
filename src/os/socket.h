/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * socket -- unix and TCP sockets, and what naming one in the file system needs
 *
 * Returns    The call's result, or -errno. EINTR is retried where that is harmless; sending and receiving
 *            here never sleep (MSG_DONTWAIT). Whoever wants to sleep in the call itself makes it through
 *            nr_endpoint_call() with SYS_sendmsg, SYS_recvmsg or SYS_recvfrom.
 */
#include "os/io.h"
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

/* Any address that a socket transport deals with. */
struct nr_os_address {
    union {
        struct sockaddr any;
        struct sockaddr_un local;
        struct sockaddr_in ipv4;
        struct sockaddr_in6 ipv6;
    };
    socklen_t size_bytes;
};

enum { NR_OS_FDS_MAX = 64 }; /* descriptors in one message */

int nr_os_socket_new(int family, int type); /* blocking, close-on-exec */
int nr_os_socket_pair(int ret[2]);          /* SOCK_SEQPACKET */
int nr_os_socket_bind(int fd, const struct nr_os_address *address);
int nr_os_socket_listen(int fd);
int nr_os_socket_connect(int fd,
                         const struct nr_os_address *address); /* -EINPROGRESS if non-blocking */
int nr_os_socket_accept(
    int fd);                    /* a blocking, close-on-exec descriptor; -EAGAIN if there is none */
int nr_os_socket_error(int fd); /* takes the pending error: 0 or -errno */
int nr_os_socket_shutdown(int fd);
bool nr_os_socket_is_to_itself(int fd); /* TCP's simultaneous open can connect a socket to itself */

int nr_os_socket_option(int fd, int level, int name, int value);
int nr_os_socket_send_room(int fd); /* SO_SNDBUF */
int nr_os_socket_no_delay(int fd);
int nr_os_socket_only_ipv6(int fd);
int nr_os_socket_peer(int fd, pid_t *ret_pid, uid_t *ret_uid); /* SO_PEERCRED */
int nr_os_socket_peer_pidfd(int fd, pid_t pid);                /* -errno if there is none */

/* How long a blocking send or receive on the socket may sleep: then it returns -EAGAIN. */
int nr_os_socket_patience(int fd, int64_t patience_ns);

/* One attempt each; MSG_NOSIGNAL. */
long nr_os_sendmsg_try(int fd, const struct msghdr *message);
long nr_os_recvmsg_try(int fd, struct msghdr *message, int flags);
long nr_os_send_try(int fd, const void *data, size_t size_bytes);
long nr_os_recv_try(int fd, void *data, size_t size_bytes);

/* Descriptors as control data. `room` has at least NR_OS_FDS_ROOM_BYTES, aligned for a long. */
#define NR_OS_FDS_ROOM_BYTES CMSG_SPACE(sizeof(int) * NR_OS_FDS_MAX)
void nr_os_fds_attach(struct msghdr *message, void *room, const int *fds, size_t fds_count);
/* Those that came; what is beyond `capacity` is closed. Returns true if any was cut off. */
bool nr_os_fds_detach(struct msghdr *message, int *fds, size_t capacity, size_t *ret_count);

/* Numeric addresses first, then names. Returns how many, at most `max`; -ENOENT: no such host. */
int nr_os_resolve(const char *host, uint16_t port, struct nr_os_address *ret, int max);

int nr_os_rename(const char *from, const char *to, bool may_replace);
int nr_os_chmod(const char *path, unsigned mode);
int nr_os_flock(int fd, bool lock); /* exclusive, one attempt: -EWOULDBLOCK; false: unlocks */

/* Tells of names that appear in a directory. */
int nr_os_watch_new(const char *directory);
void nr_os_watch_drain(int fd);

/* epoll with a pointer for each descriptor. */
int nr_os_epoll_watch(int epoll_fd, int fd, unsigned events, void *data);
int nr_os_epoll_take(int epoll_fd, void **ret_data, int max); /* what is ready now; never sleeps */

int64_t nr_os_now_coarse_ns(void); /* monotonic, a few milliseconds' resolution, nearly free */
int nr_os_at_fork(void (*in_child)(void));
