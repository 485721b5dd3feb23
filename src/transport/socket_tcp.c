/* SPDX-License-Identifier: MIT */
/*
 * socket_tcp -- addresses of tcp://host:port
 *
 * What       host is a number (127.0.0.1, [::1]), a name, or nothing: loopback. Who listens takes exactly
 *            that address, so that nothing is reachable from outside unless it was spelled out (0.0.0.0).
 * Trust      Any program of any user can connect to a TCP port: the frames are checked, the users are not.
 */
#include "base/cleanup.h"
#include "transport/socket.h"
#include <stdio.h>
#include <string.h>

enum { NR_TCP_ADDRESSES = 8, NR_TCP_HOST_BYTES = 256 };

struct nr_tcp_place {
    char host[NR_TCP_HOST_BYTES]; /* "": loopback */
    uint16_t port;
};

static int nr_tcp_bad_uri(const struct nr_uri *uri)
{
    return nr_fail(-EINVAL,
                   "tcp://%.80s: the form is tcp://host:port, such as tcp://127.0.0.1:7000, "
                   "tcp://[::1]:7000, or tcp://:7000 for this machine",
                   uri->rest);
}

static int nr_tcp_parse(struct nr_tcp_place *ret, const struct nr_uri *uri)
{
    const char *host = uri->rest, *port = strrchr(uri->rest, ':');
    struct nr_tcp_place place = {0};
    size_t length = port ? (size_t)(port - host) : 0;
    int64_t number;

    if (host[0] == '[') {
        const char *end = strchr(host, ']');
        if (!end || end[1] != ':')
            return nr_tcp_bad_uri(uri);
        port = end + 1;
        host++;
        length = (size_t)(end - host);
    } else if (memchr(host, ':', length)) { /* an IPv6 address without brackets */
        return nr_tcp_bad_uri(uri);
    }
    port = port ? port + 1 : uri->rest;
    if (length >= sizeof place.host || nr_uri_number(port, 1, 65535, &number) < 0)
        return nr_tcp_bad_uri(uri);
    memcpy(place.host, host, length);
    place.port = (uint16_t)number;
    *ret = place;
    return 0;
}

int nr_tcp_check_uri(const struct nr_uri *uri)
{
    struct nr_tcp_place place;

    return nr_tcp_parse(&place, uri);
}

/* Returns how many addresses. */
static int nr_tcp_resolve(const struct nr_request *request, struct nr_os_address *ret)
{
    struct nr_tcp_place place;
    int result = nr_tcp_parse(&place, &request->uri);

    if (result < 0)
        return result;
    if (!place.host[0] || strcmp(place.host, "localhost") == 0) {
        int count = nr_os_resolve("127.0.0.1", place.port, ret, 1);
        return count + nr_os_resolve("::1", place.port, ret + count, 1);
    }
    result = nr_os_resolve(place.host, place.port, ret, NR_TCP_ADDRESSES);
    return result < 0 ? nr_fail(-EINVAL,
                                "%s: there is no host \"%s\"; check the name, or give its address",
                                request->text, place.host)
                      : result;
}

static int nr_tcp_connect_one(const struct nr_os_address *address, struct nr_deadline *deadline)
{
    nr_cleanup_close int fd = nr_os_socket_new(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK);

    if (fd < 0)
        return fd;
    int result = nr_os_socket_connect(fd, address);
    if (result == -EINPROGRESS) {
        struct pollfd fds = {.fd = fd, .events = NR_WRITABLE};
        do
            result = nr_os_poll(&fds, 1, deadline);
        while (result == -EINTR);
        result = result == 0 ? -ETIMEDOUT : nr_os_socket_error(fd);
    }
    if (result < 0)
        return result;
    if (nr_os_socket_is_to_itself(fd))
        return -ECONNREFUSED;
    result = nr_os_nonblocking(fd, 0);
    return result < 0 ? result : nr_steal_fd(&fd);
}

int nr_tcp_connect(const struct nr_request *request, struct nr_deadline *deadline)
{
    struct nr_os_address addresses[NR_TCP_ADDRESSES];
    int count = nr_tcp_resolve(request, addresses);
    int worst = -ECONNREFUSED;

    if (count < 0)
        return count;
    for (int i = 0; i < count; i++) {
        int fd = nr_tcp_connect_one(&addresses[i], deadline);
        if (fd >= 0)
            return fd;
        if (fd != -ECONNREFUSED && fd != -EAFNOSUPPORT && fd != -EADDRNOTAVAIL &&
            fd != -ENETUNREACH)
            worst = fd;
    }
    if (worst == -ECONNREFUSED)
        return nr_fail(-ENOENT, "%s: nobody listens there; start the other side", request->text);
    if (worst == -EMFILE || worst == -ENFILE)
        return nr_fail(worst,
                       "%s: can't make a socket: %s; close descriptors, or raise `ulimit -n`",
                       request->text, nr_error_name(worst));
    return nr_fail(worst, "connecting to %s: %s; is the host up, and is a firewall in between?",
                   request->text, nr_error_name(worst));
}

static int nr_tcp_listen_one(struct nr_socket *s, const struct nr_os_address *address)
{
    nr_cleanup_close int fd = nr_os_socket_new(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK);

    if (fd < 0)
        return fd;
    nr_os_socket_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (address->any.sa_family == AF_INET6)
        nr_os_socket_only_ipv6(fd);
    int result = nr_os_socket_bind(fd, address);
    if (result == 0)
        result = nr_os_socket_listen(fd);
    if (result < 0)
        return result;
    s->listen_fd = nr_steal_fd(&fd);
    return 0;
}

int nr_tcp_listen(struct nr_socket *s, const struct nr_request *request)
{
    struct nr_os_address addresses[NR_TCP_ADDRESSES];
    int count = nr_tcp_resolve(request, addresses);
    int result = count;

    for (int i = 0; i < count; i++) {
        result = nr_tcp_listen_one(s, &addresses[i]);
        if (result == 0 || result == -EADDRINUSE)
            return result;
    }
    if (count < 0)
        return result;
    if (result == -EADDRNOTAVAIL)
        return nr_fail(result,
                       "%s: nobody listens there, and it is no address of this machine; start the "
                       "other side",
                       request->text);
    if (result == -EACCES)
        return nr_fail(result,
                       "%s: no permission to listen; ports below 1024 are root's, choose a higher "
                       "one",
                       request->text);
    return nr_fail(result, "%s: can't listen: %s", request->text, nr_error_name(result));
}
