/* SPDX-License-Identifier: MIT */
/*
 * socket -- unix://, abstract://, tcp:// : choose a connection, send or receive on it, wait
 *
 * What       Whoever opens first listens, whatever its role, and the others attach to it. A sender that
 *            listens deals its messages to the connected receivers in turn; a receiver that listens takes
 *            from all senders in turn. A listener that is both answers the one it received from last.
 * Waiting    An endpoint with one connection sleeps in recvmsg or sendmsg itself: one system call a message.
 *            A listener has to notice newcomers too, so that sleep is short (NR_SOCKET_PATIENCE_NS); when
 *            nothing came, the wait goes on in poll over everything, which costs nothing while idle. So a
 *            newcomer waits at most that long, and while messages stream it is seen every 64 of them.
 * Ends       Attached: when the listener is gone, all calls say so for good. Listening: receiving tells once
 *            when all that were there have left (-EPIPE, or -EOWNERDEAD if one of them died), then waits
 *            for the next; sending tells once of a receiver that died.
 * Death      Nothing but the sockets' files is left behind (socket_unix.c). The kernel frees the rest.
 */
#include "transport/socket.h"
#include "os/guard.h"

/* -- receiving ------------------------------------------------------------------------------------ */

static int nr_socket_take(struct nr_socket *s, struct nr_socket_connection *c, struct nr_in *in)
{
    int result = -EAGAIN;

    if (c->end == NR_SOCKET_OPEN || s->family->has_message(c))
        result = s->family->take(s, c, in, false);
    if (result != -EAGAIN)
        return result;
    c->may_read = false;
    if (c->process_died && c->end == NR_SOCKET_OPEN)
        c->end = NR_SOCKET_DIED;
    if (c->end != NR_SOCKET_OPEN)
        nr_connection_retire(s, c);
    return -EAGAIN;
}

/* What is to be told when there is no message. Locked. */
static int nr_socket_told(struct nr_socket *s)
{
    enum nr_socket_end left = s->left;

    if (s->listen_fd < 0)
        return left == NR_SOCKET_OPEN
                   ? -EAGAIN
                   : nr_connection_verdict(s, left, s->left_pid, &s->connections[0]->hello);
    unsigned greeted = 0;
    for (unsigned i = 0; i < s->connections_count; i++)
        greeted += s->connections[i]->is_greeted;
    if (greeted)
        return -EAGAIN;
    if (left != NR_SOCKET_OPEN) {
        s->left = NR_SOCKET_OPEN;
        return nr_connection_verdict(s, left, s->left_pid, NULL);
    }
    if (s->says_no_descriptors) {
        s->says_no_descriptors = false;
        return nr_fail(-EMFILE,
                       "%s: a peer waits that can't be accepted: no descriptors are left; raise "
                       "`ulimit -n`, or close some",
                       s->endpoint.uri);
    }
    return -EAGAIN;
}

/* From one connection after the other. Locked. */
static int nr_socket_recv_round(struct nr_socket *s, struct nr_in *in)
{
    unsigned tried = 0;

    while (tried < s->connections_count) {
        if (s->next_in >= s->connections_count)
            s->next_in = 0;
        struct nr_socket_connection *c = s->connections[s->next_in];
        unsigned count = s->connections_count;
        int result = -EAGAIN;
        if (s->listen_fd < 0 || c->may_read || c->end != NR_SOCKET_OPEN ||
            s->family->has_message(c))
            result = nr_socket_take(s, c, in);
        if (result != -EMSGSIZE && s->connections_count == count)
            s->next_in++;
        if (result != -EAGAIN) {
            s->latest = c;
            s->latest_left = false;
            return result;
        }
        if (s->connections_count == count)
            tried++;
    }
    return -EAGAIN;
}

static int nr_socket_recv_try(struct nr_socket *s, struct nr_in *in)
{
    nr_lock_scope(&s->lock);
    bool serviced = false;

    if (s->listen_fd >= 0 && (serviced = s->until_service == 0))
        nr_socket_service(s);
    else if (s->until_service)
        s->until_service--;
    int result = nr_socket_recv_round(s, in);
    if (result == -EAGAIN && s->listen_fd >= 0 && !serviced) {
        nr_socket_service(s);
        result = nr_socket_recv_round(s, in);
    }
    nr_socket_tell_buffered(s);
    return result == -EAGAIN ? nr_socket_told(s) : result;
}

/* The only connection, if it has not been put into epoll; pinned. */
static struct nr_socket_connection *nr_socket_only(struct nr_socket *s)
{
    nr_lock_scope(&s->lock);
    if (s->listen_fd < 0) {
        if (nr_socket_is_stream(s) && !__libc_single_threaded)
            nr_socket_need_wake(s);
    } else if (s->connections_count != 1 || s->connections[0]->is_enrolled) {
        return NULL;
    } else if (s->is_accept_paused) {
        nr_connection_enroll_all(s);
        return NULL;
    }
    nr_connection_pin(s->connections[0]);
    return s->connections[0];
}

static int nr_socket_await_message(struct nr_socket *s, struct nr_deadline *deadline)
{
    struct nr_socket_connection *c = nr_socket_only(s);

    if (!c)
        return nr_socket_wait_listener(s, s->epoll_fd, deadline);
    int result = nr_connection_wait(s, c, NR_READABLE, s->listen_fd >= 0 ? s->epoll_fd : s->wake_fd,
                                    deadline);
    if (result == -EOWNERDEAD)
        c->process_died = true; /* and there may be a last message */
    nr_connection_unpin(s, c);
    return result == -EOWNERDEAD ? 0 : result;
}

/* 0: received. -EAGAIN: look around. */
static int nr_socket_recv_directly(struct nr_socket *s, struct nr_in *in)
{
    struct nr_socket_connection *c = s->connections[0];

    if (s->listen_fd >= 0) {
        if (!c->is_greeted || s->until_service == 0)
            return -EAGAIN;
        s->until_service--;
    }
    if (c->end != NR_SOCKET_OPEN || c->process_died)
        return -EAGAIN;
    int result = s->family->take(s, c, in, true);
    if (result == 0) {
        s->latest = c;
        s->latest_left = false;
    }
    if (result != -EINTR)
        return result;
    result = nr_endpoint_interrupted(&s->endpoint);
    return result < 0 ? result : -EAGAIN;
}

nr_flat int nr_socket_recv(struct naru_endpoint *endpoint, struct nr_in *in,
                           struct nr_deadline *deadline)
{
    struct nr_socket *s = nr_socket_of(endpoint);
    int result = -EAGAIN;

    if (nr_deadline_is_never(deadline) && !in->fds && nr_os_guard_works() && /* one thread */
        s->connections_count == 1)
        result = nr_socket_recv_directly(s, in);
    while (result == -EAGAIN) {
        result = nr_socket_recv_try(s, in);
        if (result != -EAGAIN)
            break;
        result = nr_socket_await_message(s, deadline);
        if (result < 0)
            break;
        result = -EAGAIN;
    }
    return result;
}

/* -- sending ---------------------------------------------------------------------------------------- */

static int nr_socket_send_attached(struct nr_socket *s, const struct nr_out *out,
                                   struct nr_deadline *deadline)
{
    struct nr_socket_connection *c = s->connections[0];

    if (c->end != NR_SOCKET_OPEN || !c->is_greeted || nr_socket_is_stream(s)) {
        nr_lock_scope(&s->lock);
        if (!c->is_greeted)
            nr_socket_service(s);
        else
            nr_socket_service_sometimes(s);
        if (s->endpoint.options.message_size_max_bytes < out->size_bytes)
            return nr_fail(
                -EMSGSIZE, "%s: the message has %zu bytes, and the listener takes at most %zu",
                s->endpoint.uri, out->size_bytes, s->endpoint.options.message_size_max_bytes);
        if (c->end != NR_SOCKET_OPEN)
            return nr_connection_verdict(s, c->end, c->pid, &c->hello);
    }
    int result = s->family->send(s, c, out, deadline, true);
    if (c->end != NR_SOCKET_OPEN) {
        nr_lock_scope(&s->lock);
        nr_connection_retire(s, c);
    }
    return result;
}

/* The next in turn to be sent to. Locked. */
static struct nr_socket_connection *nr_socket_pick(struct nr_socket *s, bool *may_wait)
{
    struct nr_socket_connection *busy = NULL;

    if (s->endpoint.role == NARU_BOTH && s->latest) {
        *may_wait = true;
        return s->latest;
    }
    for (unsigned i = 0; i < s->connections_count; i++) {
        s->next_out = s->next_out + 1 < s->connections_count ? s->next_out + 1 : 0;
        struct nr_socket_connection *c = s->connections[s->next_out];
        if (!c->is_greeted || c->end != NR_SOCKET_OPEN)
            continue;
        if (!c->turn_taken)
            return c;
        busy = c;
    }
    *may_wait = busy != NULL;
    return busy;
}

/* One attempt of a listener: to the next receivers in turn, until one takes it. */
static int nr_socket_deal(struct nr_socket *s, const struct nr_out *out,
                          struct nr_deadline *deadline, bool *ret_has_receivers)
{
    nr_lock_take(&s->lock);
    nr_socket_service_sometimes(s);
    unsigned tries = s->connections_count;
    int result = -EAGAIN;
    if (s->endpoint.role == NARU_BOTH && s->latest_left)
        result = nr_fail(-EPIPE,
                         "%s: the one whose message was received last has left; receive the "
                         "next before answering",
                         s->endpoint.uri);
    else if (s->left > NR_SOCKET_ENDED)
        result = nr_connection_verdict(s, s->left, s->left_pid, NULL);
    if (s->endpoint.role == NARU_SENDER || result < 0)
        s->left = result == -EAGAIN && s->endpoint.role != NARU_SENDER ? s->left : NR_SOCKET_OPEN;
    *ret_has_receivers = false;
    for (unsigned i = 0; i < tries && result == -EAGAIN; i++) {
        bool may_wait = s->endpoint.role == NARU_BOTH;
        struct nr_socket_connection *c = nr_socket_pick(s, &may_wait);
        if (!c)
            break;
        *ret_has_receivers = true;
        nr_connection_pin(c);
        nr_lock_give(&s->lock);
        result = s->family->send(s, c, out, deadline, may_wait);
        nr_lock_take(&s->lock);
        if (--c->pins == 0 && c->is_gone) {
            nr_connection_free(c);
        } else if (c->end != NR_SOCKET_OPEN && !c->is_gone && !s->family->has_message(c)) {
            bool ended = c->end == NR_SOCKET_ENDED && s->endpoint.role == NARU_SENDER;
            nr_connection_retire(s, c);
            s->left = NR_SOCKET_OPEN; /* told by this very result, or of no interest */
            if (ended && result == -EPIPE)
                result = -EAGAIN; /* this one has left in peace: the next */
        }
    }
    nr_lock_give(&s->lock);
    return result;
}

static int nr_socket_await_room(struct nr_socket *s, bool has_receivers,
                                struct nr_deadline *deadline)
{
    int fd = s->epoll_fd, result; /* a newcomer */

    if (nr_deadline_is_now(deadline))
        return -EAGAIN;
    struct nr_socket_connection *c = nr_socket_only(s);
    if (c) {
        result = nr_connection_wait(s, c, has_receivers ? NR_WRITABLE : NR_READABLE, fd, deadline);
        if (result == -EOWNERDEAD) {
            c->process_died = true;
            result = 0;
        }
        nr_connection_unpin(s, c);
    } else {
        nr_lock_take(&s->lock);
        result = has_receivers ? nr_socket_need_out_epoll(s) : 0;
        fd = has_receivers ? s->out_epoll_fd : s->epoll_fd;
        nr_lock_give(&s->lock);
        if (result == 0)
            result = nr_socket_wait_listener(s, fd, deadline);
    }
    nr_lock_scope(&s->lock);
    s->until_service = 0;
    return result;
}

nr_flat int nr_socket_send(struct naru_endpoint *endpoint, const struct nr_out *out,
                           struct nr_deadline *deadline)
{
    struct nr_socket *s = nr_socket_of(endpoint);
    bool has_receivers;
    int result;

    if (s->listen_fd < 0)
        return nr_socket_send_attached(s, out, deadline);
    while ((result = nr_socket_deal(s, out, deadline, &has_receivers)) == -EAGAIN) {
        result = nr_socket_await_room(s, has_receivers, deadline);
        if (result < 0)
            break;
    }
    return result;
}

/* Acknowledgements have to be waited for, so here the deadline holds for all of them. */
int nr_socket_send_many(struct naru_endpoint *endpoint, const struct naru_message *messages,
                        size_t count, struct nr_deadline *deadline)
{
    struct nr_socket *s = nr_socket_of(endpoint);
    struct nr_deadline none = nr_deadline_in(0);
    size_t sent = 0;
    int result = 0;

    for (; sent < count; sent++) {
        struct iovec part = {messages[sent].data, messages[sent].size_bytes};
        struct nr_out out = {
            .parts = &part,
            .parts_count = 1,
            .size_bytes = part.iov_len,
            .type = messages[sent].type,
        };
        bool waits = sent == 0 || (nr_socket_is_stream(s) &&
                                   endpoint->options.acknowledge != NARU_UNACKNOWLEDGED);
        result = nr_socket_send(endpoint, &out, waits ? deadline : &none);
        if (result < 0)
            break;
    }
    return sent ? (int)sent : result;
}
