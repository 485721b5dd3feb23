/* SPDX-License-Identifier: MIT */
/*
 * socket_open -- unix://, abstract://, tcp:// : attach or listen, pair, close
 *
 * Opening    CREATE_OR_ATTACH connects, and where nobody listens, listens; losing the race to another
 *            starter it connects again. ATTACH waits for a listener up to peer_timeout_ns: by inotify on the
 *            directory for unix://, else trying again after growing pauses of up to 50 ms. An attacher sends
 *            its hello and goes on; the listener's is awaited for 200 ms at most (it may be busy: its kernel
 *            has accepted us already), else checked at the first call.
 * Closing    Says END on each connection. A listener removes its socket's file, if it still is its own.
 */
#include "transport/socket.h"
#include "base/cleanup.h"
#include "os/process.h"
#include <stdlib.h>
#include <string.h>

static int nr_socket_refuse(const struct nr_request *request, bool is_stream)
{
    const struct naru_options *options = &request->options;
    static const char memory[] = "a socket has no memory of its own; use shm:// or file://";
    bool acknowledges = is_stream && options->acknowledge != NARU_UNACKNOWLEDGED;
    const struct nr_refusal refused[] = {
        {"when_full", options->when_full == NARU_FAIL ? 0 : options->when_full & ~NARU_BLOCK,
         "a socket can only wait or fail when it is full; use shm://"},
        {"when_full", options->when_full == NARU_FAIL && acknowledges,
         "an acknowledgement has to be waited for; add acknowledge = NARU_UNACKNOWLEDGED"},
        {"delivery", options->delivery == NARU_AT_LEAST_ONCE, memory},
        {"durability", options->durability, memory},
        {"capacity_messages", options->capacity_messages,
         "the kernel counts a socket's room in bytes; use shm:// or mq://"},
        {"payload_bytes", options->payload_bytes, memory},
        {"held_max", options->held_max, memory},
        {"participants_max", options->participants_max, "a listener takes all who come"},
        {"one_to_one", options->one_to_one, "a listener takes all who come; use naru_pair()"},
        {"acknowledge", is_stream ? 0 : options->acknowledge, "only tcp:// acknowledges"},
        {"type", (uint64_t)options->type, "only sysv:// selects by type"},
        {"signal_number", (uint64_t)options->signal_number, "only signal:// has one"},
        {"peer_uid_any", is_stream ? options->peer_uid_any : 0, "TCP does not tell users"},
    };

    return nr_request_refuse_each(request, refused, nr_count_of(refused));
}

static void nr_socket_release(struct naru_endpoint *endpoint)
{
    struct nr_socket *s = nr_socket_of(endpoint);

    if (s->listen_fd >= 0)
        nr_socket_listeners_remove(s);
    for (unsigned i = 0; i < s->connections_count; i++)
        nr_connection_free(s->connections[i]);
    s->connections_count = s->connections_capacity = 0;
    free(s->connections);
    free(s->overflow);
    s->connections = NULL;
    s->overflow = NULL;
    nr_os_close(&s->listen_fd);
    nr_os_close(&s->epoll_fd);
    nr_os_close(&s->out_epoll_fd);
    nr_os_close(&s->wake_fd);
}

static void nr_socket_free(struct nr_socket *s)
{
    if (!s)
        return;
    nr_socket_release(&s->endpoint);
    nr_endpoint_free(&s->endpoint);
}

static int nr_socket_new(struct nr_socket **ret, const struct nr_transport *transport,
                         const struct nr_request *request, const struct nr_socket_family *family)
{
    struct naru_endpoint *endpoint;
    int result = nr_socket_refuse(request, family == &nr_stream_family);

    if (result == 0)
        result = nr_endpoint_new(&endpoint, sizeof(struct nr_socket), transport, request);
    if (result < 0)
        return result;
    struct nr_socket *s = nr_socket_of(endpoint);
    s->family = family;
    s->lock = (struct nr_lock)NR_LOCK_INIT;
    s->asked = request->options;
    s->listen_fd = s->epoll_fd = s->out_epoll_fd = s->wake_fd = -1;
    if (!endpoint->options.message_size_max_bytes)
        endpoint->options.message_size_max_bytes = NR_MESSAGE_LIMIT_BYTES;
    if (!endpoint->options.when_full)
        endpoint->options.when_full = NARU_BLOCK;
    endpoint->options.delivery = NARU_AT_MOST_ONCE;
    if (family == &nr_stream_family && !endpoint->options.acknowledge)
        endpoint->options.acknowledge = NARU_ACKNOWLEDGED;
    *ret = s;
    return 0;
}

/* Greets the listener. -ECONNRESET: it left before it answered. */
static int nr_socket_attach(struct nr_socket *s, int fd)
{
    struct nr_deadline deadline = nr_deadline_in(NR_SOCKET_GREETING_NS);
    struct nr_socket_connection *c;

    int result = nr_connection_new(s, fd, &c);
    if (result < 0)
        return result;
    s->is_attached = true;
    result = nr_connection_join(s, c);
    if (result < 0) {
        nr_connection_free(c);
        return result;
    }
    s->family->put_hello(s, c, 0); /* if it has refused us already, its hello says so */
    while (result == 0 && !c->is_greeted && c->end == NR_SOCKET_OPEN) {
        nr_socket_listeners_serve();
        s->family->progress(s, c);
        if (!c->is_greeted && c->end == NR_SOCKET_OPEN)
            result = nr_connection_wait(s, c, NR_READABLE, -1, &deadline);
    }
    if (result == -ETIMEDOUT)
        result = 0; /* it is busy; its hello will be read later */
    else if (result == -EOWNERDEAD || c->end == NR_SOCKET_DIED)
        result = -ECONNRESET;
    else if (c->end > NR_SOCKET_DIED)
        result = nr_connection_verdict(s, c->end, c->pid, &c->hello);
    if (result < 0) {
        s->connections_count = 0;
        s->is_attached = false;
        nr_connection_free(c);
    }
    return result;
}

static int nr_socket_listen(struct nr_socket *s, const struct nr_request *request,
                            struct nr_deadline *deadline)
{
    int result =
        nr_socket_is_stream(s) ? nr_tcp_listen(s, request) : nr_unix_listen(s, request, deadline);

    if (result == -EADDRINUSE && request->options.create == NARU_CREATE)
        return nr_fail(-EEXIST,
                       "%s: someone listens there already; attach to it, or choose another "
                       "address",
                       request->text);
    if (result == 0)
        result = nr_socket_need_epoll(s);
    if (result == 0)
        nr_socket_listeners_add(s);
    return result;
}

/* Sleeps until another attempt makes sense. */
static int nr_socket_await_listener(const struct nr_request *request, int *watch_fd,
                                    int64_t *pause_ns, int latest, struct nr_deadline *deadline)
{
    if (nr_deadline_left_ns(deadline) == 0)
        return latest == -EAGAIN || latest == -EADDRINUSE
                   ? nr_fail(-ETIMEDOUT, "%s: its listener accepts nobody; is it stopped?",
                             request->text)
                   : latest;
    bool is_missing = latest == -ENOENT || latest == -ECONNREFUSED;
    if (*watch_fd == -1 && is_missing && strcmp(request->uri.scheme, "unix") == 0) {
        *watch_fd = nr_unix_watch(request);
        if (*watch_fd >= 0)
            return 0; /* it may have come before the watch was there */
    }
    struct nr_deadline pause = nr_deadline_in(*pause_ns);
    int64_t left_ns = nr_deadline_left_ns(deadline);
    bool is_watching = *watch_fd >= 0 && is_missing;
    if (left_ns < pause.timeout_ns)
        pause.timeout_ns = left_ns;
    struct pollfd fds = {.fd = *watch_fd, .events = NR_READABLE};
    nr_os_poll(&fds, 1, is_watching ? deadline : &pause);
    if (*watch_fd >= 0)
        nr_os_watch_drain(*watch_fd);
    *pause_ns = *pause_ns < 25000000 ? 2 * *pause_ns : 50000000;
    return 0;
}

static int nr_socket_reach(struct nr_socket *s, const struct nr_request *request)
{
    struct nr_deadline deadline = nr_deadline_in(request->options.peer_timeout_ns);
    enum naru_create create = request->options.create;
    nr_cleanup_close int watch_fd = -1;
    int64_t pause_ns = 1000000;

    for (;;) {
        int result = -ENOENT;
        if (create != NARU_CREATE) {
            result = nr_socket_is_stream(s) ? nr_tcp_connect(request, &deadline)
                                            : nr_unix_connect(request, &deadline);
            if (result >= 0)
                result = nr_socket_attach(s, result);
            if (result == -ECONNRESET)
                result = nr_fail(-ECONNREFUSED, "%s: the listener left while we attached",
                                 request->text);
        }
        if (create != NARU_ATTACH && (result == -ENOENT || result == -ECONNREFUSED)) {
            int listens = nr_socket_listen(s, request, &deadline);
            if (listens != -EADDRNOTAVAIL || create == NARU_CREATE)
                result = listens; /* else: another machine's address, so wait for its listener */
        }
        if (result != -ENOENT && result != -ECONNREFUSED && result != -EAGAIN &&
            result != -EADDRINUSE)
            return result;
        result = nr_socket_await_listener(request, &watch_fd, &pause_ns, result, &deadline);
        if (result < 0)
            return result;
    }
}

static int nr_socket_open(struct naru_endpoint **ret, const struct nr_request *request,
                          const struct nr_transport *transport,
                          const struct nr_socket_family *family)
{
    struct nr_socket *s;
    int result = family == &nr_stream_family ? nr_tcp_check_uri(&request->uri)
                                             : nr_unix_check_uri(&request->uri);

    if (result == 0)
        result = nr_socket_new(&s, transport, request, family);
    if (result < 0)
        return result;
    result = nr_socket_reach(s, request);
    if (result < 0) {
        nr_unix_remove(s);
        nr_socket_free(s);
        return result == -ENOTDIR
                   ? -ENOENT
                   : result; /* told apart above: only one of them is worth waiting for */
    }
    *ret = &s->endpoint;
    return 0;
}

static int nr_unix_open(struct naru_endpoint **ret, const struct nr_request *request)
{
    return nr_socket_open(ret, request, &nr_unix_transport, &nr_packet_family);
}

static int nr_abstract_open(struct naru_endpoint **ret, const struct nr_request *request)
{
    return nr_socket_open(ret, request, &nr_abstract_transport, &nr_packet_family);
}

static int nr_tcp_open(struct naru_endpoint **ret, const struct nr_request *request)
{
    return nr_socket_open(ret, request, &nr_tcp_transport, &nr_stream_family);
}

static int nr_unix_pair(struct naru_endpoint *ret[2], const struct nr_request *request)
{
    struct nr_socket *ends[2] = {NULL, NULL};
    struct nr_socket_connection *c;
    int fds[2] = {-1, -1};

    int result = nr_os_socket_pair(fds);
    if (result < 0)
        return nr_fail(result, "no socket pair: %s; close descriptors, or raise `ulimit -n`",
                       nr_error_name(result));
    for (int i = 0; i < 2 && result == 0; i++) {
        result = nr_socket_new(&ends[i], &nr_unix_transport, request, &nr_packet_family);
        if (result < 0)
            break;
        ends[i]->is_pair = true;
        result = nr_connection_new(ends[i], nr_steal_fd(&fds[i]), &c);
        if (result < 0)
            break;
        c->is_greeted = true;
        result = nr_connection_join(ends[i], c);
        if (result < 0)
            nr_connection_free(c);
    }
    if (result < 0) {
        nr_os_close(&fds[0]);
        nr_os_close(&fds[1]);
        nr_socket_free(ends[0]);
        nr_socket_free(ends[1]);
        return result;
    }
    ret[0] = &ends[0]->endpoint;
    ret[1] = &ends[1]->endpoint;
    return 0;
}

static int nr_socket_adopt(struct naru_endpoint *endpoint)
{
    struct nr_socket *s = nr_socket_of(endpoint);

    s->lock = (struct nr_lock)NR_LOCK_INIT; /* another thread of the parent may have held it */
    s->connections[0]->turn_taken = false;
    s->connections[0]->turn_waiters = s->connections[0]->pins = 0;
    nr_os_close(&s->connections[0]->turn_fd);
    return 0;
}

static unsigned nr_socket_descriptors_held(struct naru_endpoint *endpoint,
                                           int *ret[NR_ENDPOINT_FDS_MAX])
{
    struct nr_socket *s = nr_socket_of(endpoint);

    ret[0] = &s->connections[0]->fd;
    ret[1] = &s->connections[0]->pidfd;
    ret[2] = &s->connections[0]->ack_fd;
    ret[3] = &s->epoll_fd;
    ret[4] = &s->out_epoll_fd;
    ret[5] = &s->wake_fd;
    return 6;
}

static void nr_socket_leave(struct naru_endpoint *endpoint)
{
    struct nr_socket *s = nr_socket_of(endpoint);

    nr_unix_remove(s);
    for (unsigned i = 0; i < s->connections_count; i++)
        if (s->connections[i]->end == NR_SOCKET_OPEN)
            s->family->put_end(s, s->connections[i]);
}

static int nr_socket_unlink_tcp(const struct nr_uri *uri)
{
    return nr_fail(-EOPNOTSUPP,
                   "tcp://%s: an address is nothing that could be removed; it is free when "
                   "its listener is closed",
                   uri->rest);
}

static int nr_socket_descriptor(struct naru_endpoint *endpoint, unsigned *events)
{
    struct nr_socket *s = nr_socket_of(endpoint);
    bool sends = *events == NR_WRITABLE;

    nr_lock_scope(&s->lock);
    if (sends && nr_socket_is_stream(s) && endpoint->options.acknowledge != NARU_UNACKNOWLEDGED)
        return nr_fail(-EOPNOTSUPP,
                       "%s: a send ends with the receiver's acknowledgement, which no "
                       "descriptor can tell beforehand; open it with "
                       "NARU_UNACKNOWLEDGED for that",
                       endpoint->uri);
    if (s->is_pair || (sends && s->listen_fd < 0))
        return s->connections[0]->fd;
    int result = nr_socket_need_epoll(s);
    if (result == 0 && sends)
        result = nr_socket_need_out_epoll(s);
    if (result < 0)
        return result;
    s->is_watched = true;
    result = nr_connection_enroll_all(s);
    if (result < 0)
        return result;
    nr_socket_tell_buffered(s);
    *events = NR_READABLE;
    return sends ? s->out_epoll_fd : s->epoll_fd;
}

static int nr_socket_stat(struct naru_endpoint *endpoint, struct naru_stat *stat)
{
    struct nr_socket *s = nr_socket_of(endpoint);

    nr_lock_scope(&s->lock);
    nr_socket_service(s);
    stat->peers = 0;
    for (unsigned i = 0; i < s->connections_count; i++)
        stat->peers += (s->connections[i]->is_greeted || s->is_attached) &&
                       s->connections[i]->end == NR_SOCKET_OPEN;
    stat->known |= NARU_STAT_PEERS;
    return 0;
}

#define NR_SOCKET_SLOTS                                                                            \
    .leave = nr_socket_leave, .release = nr_socket_release, .send = nr_socket_send,                \
    .recv = nr_socket_recv, .send_many = nr_socket_send_many, .descriptor = nr_socket_descriptor,  \
    .stat = nr_socket_stat

const struct nr_transport nr_unix_transport = {
    .scheme = "unix",
    .passes_fds = true,
    .open = nr_unix_open,
    .pair = nr_unix_pair,
    .adopt = nr_socket_adopt,
    .descriptors_held = nr_socket_descriptors_held,
    .unlink = nr_unix_unlink,
    NR_SOCKET_SLOTS,
};

const struct nr_transport nr_abstract_transport = {
    .scheme = "abstract",
    .passes_fds = true,
    .open = nr_abstract_open,
    .unlink = nr_unix_unlink,
    NR_SOCKET_SLOTS,
};

const struct nr_transport nr_tcp_transport = {
    .scheme = "tcp",
    .open = nr_tcp_open,
    .unlink = nr_socket_unlink_tcp,
    NR_SOCKET_SLOTS,
};
