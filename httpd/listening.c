/* SPDX-License-Identifier: MIT */
#include "listening.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { NR_LISTENING_FD_FIRST = 3 };

static char nr_listening_text[256];

const char *nr_listening_error(void)
{
    return nr_listening_text;
}

__attribute__((format(printf, 2, 3))) static int nr_listening_fail(int error, const char *format,
                                                                   ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(nr_listening_text, sizeof nr_listening_text, format, arguments);
    va_end(arguments);
    return error;
}

/* Host and port as they are, whatever was asked for. */
static int nr_listening_name(struct nr_listening *listening)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    char port[16];

    if (getsockname(listening->fd, (struct sockaddr *)&address, &length) < 0)
        return nr_listening_fail(-errno, "the socket has no name: %s", strerror(errno));
    if (getnameinfo((struct sockaddr *)&address, length, listening->host, sizeof listening->host,
                    port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return nr_listening_fail(-EAFNOSUPPORT, "the socket is none of TCP's");
    listening->port = atoi(port);
    return 0;
}

/* A number in the environment that concerns this process; -1: there is none. */
static int nr_listening_variable(const char *name)
{
    const char *text = getenv(name);
    char *end;

    if (!text || *text < '0' || *text > '9')
        return -1;
    long value = strtol(text, &end, 10);
    return *end || value > INT32_MAX ? -1 : (int)value;
}

/* 1: taken over; 0: nobody has opened one for us. */
static int nr_listening_inherit(struct nr_listening *listening)
{
    int count = nr_listening_variable("LISTEN_FDS"), listens = 0;
    socklen_t length = sizeof listens;

    if (nr_listening_variable("LISTEN_PID") != getpid() || count < 1)
        return 0;
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    if (count > 1)
        return nr_listening_fail(-EINVAL, "LISTEN_FDS says %d sockets, and one is served; give one",
                                 count);
    if (getsockopt(NR_LISTENING_FD_FIRST, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) < 0 ||
        !listens)
        return nr_listening_fail(-ENOTSOCK,
                                 "LISTEN_FDS says that descriptor 3 is a listening socket, and it "
                                 "is none");
    listening->fd = NR_LISTENING_FD_FIRST;
    listening->is_inherited = true;
    fcntl(listening->fd, F_SETFD, FD_CLOEXEC);
    fcntl(listening->fd, F_SETFL, fcntl(listening->fd, F_GETFL) | O_NONBLOCK);
    int result = nr_listening_name(listening);
    return result < 0 ? result : 1;
}

/* "HOST:PORT" into its parts. */
static int nr_listening_split(const char *text, char host[64], const char **ret_port)
{
    const char *colon = strrchr(text, ':');
    size_t length = colon ? (size_t)(colon - text) : 0;
    char *end;

    if (!colon || !colon[1] || colon[1] == '-' || strtol(colon + 1, &end, 10) > 65535 || *end)
        return nr_listening_fail(-EINVAL, "\"%s\" is not HOST:PORT, such as 127.0.0.1:8080", text);
    if (length > 1 && text[0] == '[' && text[length - 1] == ']') {
        text++;
        length -= 2;
    }
    if (length >= 64 || memchr(text, '[', length))
        return nr_listening_fail(-EINVAL, "\"%.*s\" is no host", (int)length, text);
    memcpy(host, text, length);
    host[length] = '\0';
    *ret_port = colon + 1;
    return 0;
}

static int nr_listening_bind(const struct addrinfo *address, int backlog)
{
    int on = 1;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    /* Accepted sockets inherit it. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, backlog) == 0)
        return fd;
    int error = -errno;
    close(fd);
    return error;
}

int nr_listening_open(struct nr_listening *listening, const char *text, int backlog)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found;
    char host[64];
    const char *port = NULL;

    *listening = (struct nr_listening){.fd = -1};
    int result = nr_listening_inherit(listening);
    if (result)
        return result < 0 ? result : 0;
    result = nr_listening_split(text, host, &port);
    if (result < 0)
        return result;
    int error = getaddrinfo(*host ? host : NULL, port, &hints, &found);
    if (error)
        return nr_listening_fail(-EADDRNOTAVAIL, "%s: %s", host, gai_strerror(error));
    result = -EADDRNOTAVAIL;
    for (const struct addrinfo *at = found; at && result < 0; at = at->ai_next)
        result = nr_listening_bind(at, backlog);
    freeaddrinfo(found);
    switch (result) {
    case -EADDRINUSE:
        return nr_listening_fail(
            result, "%s: another server listens there; stop it, or choose another port", text);
    case -EACCES:
        return nr_listening_fail(result,
                                 "%s: ports below 1024 are root's (ip_unprivileged_port_start); "
                                 "start as root with --user, or choose another port",
                                 text);
    case -EADDRNOTAVAIL:
        return nr_listening_fail(result, "%s: this machine has no such address", text);
    default:
        if (result < 0)
            return nr_listening_fail(result, "%s: %s", text, strerror(-result));
    }
    listening->fd = result;
    return nr_listening_name(listening);
}

void nr_listening_close(struct nr_listening *listening)
{
    if (listening->fd >= 0)
        close(listening->fd);
    listening->fd = -1;
}

void nr_listening_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = path ? strlen(path) : 0;

    if (length < 2 || length >= sizeof address.sun_path || (*path != '/' && *path != '@'))
        return;
    memcpy(address.sun_path, path, length);
    if (*path == '@')
        address.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
                  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
    close(fd);
}
