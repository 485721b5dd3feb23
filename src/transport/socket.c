/* SPDX-License-Identifier: MIT */
/*
 * socket -- unix://, abstract://, tcp:// : open, choose a connection, wait
 *
 * What       Whoever opens first listens, whatever its role, and the others attach to it. A sender that
 *            listens deals its messages to the connected receivers in turn; a receiver that listens takes
 *            from all senders in turn. A listener that is both answers the one it received from last.
 * Waiting    An endpoint with one connection sleeps in recvmsg or sendmsg itself: one system call a message.
 *            A listener has to notice newcomers too, so that sleep is short (NR_SOCKET_PATIENCE_NS); when
 *            nothing came, the wait goes on in poll over everything, which costs nothing while idle. So a
 *            newcomer waits at most that long, and while messages stream it is seen every 16 of them.
 * Opening    Attaching sends a hello and goes on; the listener's own hello is awaited for 200 ms at most
 *            (it may be busy: its kernel has accepted us already), else checked at the first call.
 * Ends       Attached: when the listener is gone, all calls say so for good. Listening: receiving tells once
 *            when all that were there have left (-EPIPE, or -EOWNERDEAD if one of them died), then waits
 *            for the next; sending tells once of a receiver that died.
 * Death      Nothing but the sockets' files is left behind (socket_unix.c). The kernel frees the rest.
 */
#include "transport/socket.h"
#include "base/cleanup.h"
#include "os/process.h"
#include <stdlib.h>
#include <string.h>

enum { NR_SOCKET_ACCEPT_PAUSE_NS = 100 * 1000 * 1000, NR_SOCKET_EVENTS = 64 };

static bool nr_socket_is_stream(const struct nr_socket *s)
{
    return s->family == &nr_stream_family;
}

/* -- the listeners of this process ------------------------------------------------------------ */

/* A thread that opens both sides one after the other would wait for the hello of a listener that only
   it can serve. So an open serves this process's own listeners while it waits. */
static struct nr_lock nr_socket_listeners_lock = NR_LOCK_INIT;
static struct nr_socket *nr_socket_listeners;
static bool nr_socket_listeners_know_fork;

static void nr_socket_listeners_in_child(void)
{
    nr_socket_listeners_lock = (struct nr_lock)NR_LOCK_INIT;
    nr_socket_listeners = NULL;
}

static void nr_socket_listeners_add(struct nr_socket *s)
{
    nr_lock_scope(&nr_socket_listeners_lock);
    if (!nr_socket_listeners_know_fork)
        nr_socket_listeners_know_fork = nr_os_at_fork(nr_socket_listeners_in_child) == 0;
    s->next_listener = nr_socket_listeners;
    nr_socket_listeners = s;
}

static void nr_socket_listeners_remove(struct nr_socket *s)
{
    nr_lock_scope(&nr_socket_listeners_lock);
    struct nr_socket **place = &nr_socket_listeners;

    while (*place && *place != s)
        place = &(*place)->next_listener;
    if (*place)
        *place = s->next_listener;
}

static void nr_socket_listeners_serve(void)
{
    nr_lock_scope(&nr_socket_listeners_lock);
    for (struct nr_socket *s = nr_socket_listeners; s; s = s->next_listener) {
        nr_lock_take(&s->lock);
        nr_socket_service(s);
        nr_lock_give(&s->lock);
    }
}

/* -- looking around ------------------------------------------------------------------------------ */

static void nr_socket_pause_accept(struct nr_socket *s, int error)
{
    nr_os_epoll_remove(s->epoll_fd, s->listen_fd); /* it would poll as readable all the time */
    s->is_accept_paused = s->says_no_descriptors = true;
    s->paused_ns = nr_os_now_coarse_ns();
    nr_fail(error, "%s: a peer can't be accepted: %s; raise `ulimit -n`, or close descriptors",
            s->endpoint.uri, nr_error_name(error));
}

static void nr_socket_resume_accept(struct nr_socket *s)
{
    if (s->is_accept_paused && nr_os_epoll_watch(s->epoll_fd, s->listen_fd, NR_READABLE, s) == 0)
        s->is_accept_paused = false;
}

/* Room for one more silent connection: the oldest goes. */
static void nr_socket_limit_ungreeted(struct nr_socket *s)
{
    struct nr_socket_connection *oldest = NULL;
    unsigned count = 0;

    for (unsigned i = 0; i < s->connections_count; i++)
        if (!s->connections[i]->is_greeted && ++count == 1)
            oldest = s->connections[i];
    if (count >= NR_SOCKET_UNGREETED_MAX) {
        oldest->end = NR_SOCKET_ALIEN;
        nr_connection_retire(s, oldest);
    }
}

static void nr_socket_accept_one(struct nr_socket *s, int fd)
{
    struct nr_socket_connection *c;

    if (nr_connection_new(s, fd, &c) < 0)
        return;
    if (c->knows_uid && !s->endpoint.options.peer_uid_any && c->uid != nr_os_uid() && c->uid != 0) {
        s->family->put_hello(s, c, EACCES);
        nr_fail(-EACCES, "%s: user %u was refused; options.peer_uid_any = 1 accepts every user",
                s->endpoint.uri, (unsigned)c->uid);
        nr_connection_free(c);
        return;
    }
    nr_socket_limit_ungreeted(s);
    s->family->put_hello(s, c, 0); /* it may have gone already, and left messages */
    if (nr_connection_join(s, c) < 0) {
        nr_connection_free(c);
        return;
    }
    c->may_read = true;
}

static void nr_socket_accept(struct nr_socket *s)
{
    for (int i = 0; i < NR_SOCKET_EVENTS; i++) {
        int fd = nr_os_socket_accept(s->listen_fd);
        if (fd == -EMFILE || fd == -ENFILE || fd == -ENOBUFS || fd == -ENOMEM)
            nr_socket_pause_accept(s, fd);
        if (fd < 0)
            return;
        nr_socket_accept_one(s, fd);
    }
}

/* Hello, end, acknowledgements; messages are left to recv. */
static void nr_socket_progress(struct nr_socket *s, struct nr_socket_connection *c)
{
    s->family->progress(s, c);
    if (s->endpoint.role == NARU_SENDER) {
        c->may_read = false;
        if (c->process_died && c->end == NR_SOCKET_OPEN)
            c->end = NR_SOCKET_DIED;
    }
    if (c->end != NR_SOCKET_OPEN && !s->family->has_message(c))
        nr_connection_retire(s, c);
}

void nr_socket_service(struct nr_socket *s)
{
    void *ready[NR_SOCKET_EVENTS];

    s->until_service = NR_SOCKET_SERVICE_EVERY;
    s->serviced_ns = nr_os_now_coarse_ns();
    if (s->listen_fd < 0) {
        if (s->connections_count && s->connections[0]->end == NR_SOCKET_OPEN)
            nr_socket_progress(s, s->connections[0]);
        return;
    }
    if (s->is_accept_paused && s->serviced_ns - s->paused_ns > NR_SOCKET_ACCEPT_PAUSE_NS)
        nr_socket_resume_accept(s);
    int count = nr_os_epoll_take(s->epoll_fd, ready, NR_SOCKET_EVENTS);
    bool accepts = false;
    for (int i = 0; i < count; i++) {
        uintptr_t tagged = (uintptr_t)ready[i];
        struct nr_socket_connection *c = (void *)(tagged & ~(uintptr_t)1);
        if (ready[i] == s)
            accepts = true;
        else if (ready[i] != &s->wake_fd) {
            c->may_read = true;
            c->process_died |= tagged & 1;
        }
    }
    if (accepts)
        nr_socket_accept(s);
    for (unsigned i = s->connections_count; i-- > 0;) { /* backwards: one may be taken off */
        struct nr_socket_connection *c = s->connections[i];
        if (c->may_read && (!c->is_greeted || s->endpoint.role == NARU_SENDER))
            nr_socket_progress(s, c);
    }
}

static void nr_socket_service_sometimes(struct nr_socket *s)
{
    if (s->until_service == 0 || nr_os_now_coarse_ns() - s->serviced_ns > NR_SOCKET_SERVICE_NS)
        nr_socket_service(s);
    else
        s->until_service--;
}

/* -- descriptors to wait for --------------------------------------------------------------------- */

static int nr_socket_need_wake(struct nr_socket *s)
{
    if (s->wake_fd >= 0)
        return 0;
    int fd = nr_os_eventfd();
    if (fd >= 0 && s->epoll_fd >= 0)
        nr_os_epoll_watch(s->epoll_fd, fd, NR_READABLE, &s->wake_fd);
    s->wake_fd = fd;
    return fd < 0 ? fd : 0;
}

void nr_socket_tell_buffered(struct nr_socket *s)
{
    bool has = false;

    if (!nr_socket_is_stream(s) || (!s->is_watched && __libc_single_threaded))
        return;
    for (unsigned i = 0; i < s->connections_count && !has; i++)
        has = s->family->has_message(s->connections[i]);
    if (has == s->is_awake || nr_socket_need_wake(s) < 0)
        return;
    if (has)
        nr_os_eventfd_set(s->wake_fd);
    else
        nr_os_eventfd_clear(s->wake_fd);
    s->is_awake = has;
}

static int nr_socket_no_descriptor(const struct nr_socket *s, int error)
{
    return nr_fail(error, "%s: no descriptor to wait with: %s; raise `ulimit -n`", s->endpoint.uri,
                   nr_error_name(error));
}

/* All that may let a receive go on. Locked. */
static int nr_socket_need_epoll(struct nr_socket *s)
{
    if (s->epoll_fd >= 0)
        return 0;
    int fd = nr_os_epoll_new();
    if (fd < 0)
        return nr_socket_no_descriptor(s, fd);
    s->epoll_fd = fd;
    int result = s->listen_fd >= 0 ? nr_os_epoll_watch(fd, s->listen_fd, NR_READABLE, s) : 0;
    if (result == 0 && s->wake_fd >= 0)
        result = nr_os_epoll_watch(fd, s->wake_fd, NR_READABLE, &s->wake_fd);
    for (unsigned i = 0; i < s->connections_count && result == 0; i++) {
        struct nr_socket_connection *c = s->connections[i];
        result = nr_os_epoll_watch(fd, c->fd, NR_READABLE, c);
        if (result == 0 && c->pidfd >= 0)
            result = nr_os_epoll_watch(fd, c->pidfd, NR_READABLE, c);
    }
    return result < 0 ? nr_socket_no_descriptor(s, result) : 0;
}

/* All that may let a listener's send go on. Locked. */
static int nr_socket_need_out_epoll(struct nr_socket *s)
{
    if (s->out_epoll_fd >= 0)
        return 0;
    int fd = nr_os_epoll_new();
    if (fd < 0)
        return nr_socket_no_descriptor(s, fd);
    s->out_epoll_fd = fd;
    int result = nr_os_epoll_watch(fd, s->endpoint.role == NARU_SENDER ? s->epoll_fd : s->listen_fd,
                                   NR_READABLE, s);
    for (unsigned i = 0; i < s->connections_count && result == 0; i++)
        if (s->connections[i]->is_greeted)
            result = nr_os_epoll_watch(fd, s->connections[i]->fd, NR_WRITABLE, s->connections[i]);
    return result < 0 ? nr_socket_no_descriptor(s, result) : 0;
}

/* While accepting pauses for want of descriptors, nothing would wake us when there are some again. */
static int nr_socket_wait_listener(struct nr_socket *s, int fd, struct nr_deadline *deadline)
{
    struct nr_deadline shorter = nr_deadline_in(NR_SOCKET_ACCEPT_PAUSE_NS);

    if (!s->is_accept_paused || nr_deadline_is_now(deadline))
        return nr_endpoint_wait(&s->endpoint, fd, NR_READABLE, deadline);
    int64_t left_ns = nr_deadline_left_ns(deadline);
    if (left_ns < shorter.timeout_ns)
        return nr_endpoint_wait(&s->endpoint, fd, NR_READABLE, deadline);
    int result = nr_endpoint_wait(&s->endpoint, fd, NR_READABLE, &shorter);
    nr_lock_scope(&s->lock);
    nr_socket_resume_accept(s);
    return result == -ETIMEDOUT ? 0 : result;
}

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
        return left == NR_SOCKET_OPEN ? -EAGAIN
                                      : nr_connection_verdict(s, left, s->left_pid,
                                                              &s->connections[0]->hello);
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
        return nr_fail(-EMFILE, "%s: a peer waits that can't be accepted: no descriptors are left; raise "
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

static int nr_socket_await_message(struct nr_socket *s, struct nr_deadline *deadline)
{
    if (s->listen_fd >= 0)
        return nr_socket_wait_listener(s, s->epoll_fd, deadline);
    if (nr_socket_is_stream(s) && !__libc_single_threaded) {
        nr_lock_scope(&s->lock);
        nr_socket_need_wake(s);
    }
    struct nr_socket_connection *c = s->connections[0];
    int result = nr_connection_wait(s, c, NR_READABLE, s->wake_fd, deadline);
    if (result != -EOWNERDEAD)
        return result;
    c->process_died = true; /* and there may be a last message */
    return 0;
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

static int nr_socket_recv(struct naru_endpoint *endpoint, struct nr_in *in,
                          struct nr_deadline *deadline)
{
    struct nr_socket *s = nr_socket_of(endpoint);
    int result = -EAGAIN;

    if (s->connections_count == 1 && nr_deadline_is_never(deadline) && !in->fds &&
        nr_os_guard_works())
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
            return nr_fail(-EMSGSIZE, "%s: the message has %zu bytes, and the listener takes at most %zu",
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
static int nr_socket_deal(struct nr_socket *s, const struct nr_out *out, struct nr_deadline *deadline,
                          bool *ret_has_receivers)
{
    nr_lock_take(&s->lock);
    nr_socket_service_sometimes(s);
    unsigned tries = s->connections_count;
    int result = -EAGAIN;
    if (s->endpoint.role == NARU_BOTH && s->latest_left)
        result = nr_fail(-EPIPE, "%s: the one whose message was received last has left; receive the "
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

static int nr_socket_await_room(struct nr_socket *s, bool has_receivers, struct nr_deadline *deadline)
{
    int fd = s->epoll_fd; /* a newcomer */

    if (nr_deadline_is_now(deadline))
        return -EAGAIN;
    if (has_receivers) {
        nr_lock_scope(&s->lock);
        int result = nr_socket_need_out_epoll(s);
        if (result < 0)
            return result;
        fd = s->out_epoll_fd;
    }
    int result = nr_socket_wait_listener(s, fd, deadline);
    nr_lock_scope(&s->lock);
    s->until_service = 0;
    return result;
}

static int nr_socket_send(struct naru_endpoint *endpoint, const struct nr_out *out,
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
static int nr_socket_send_many(struct naru_endpoint *endpoint, const struct naru_message *messages,
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

/* -- opening ------------------------------------------------------------------------------------------ */

static int nr_socket_refuse(const struct nr_request *request, bool is_stream)
{
    const struct naru_options *options = &request->options;
    static const char memory[] = "a socket has no memory of its own; use shm:// or file://";
    bool acknowledges = is_stream && options->acknowledge != NARU_UNACKNOWLEDGED;
    const struct {
        const char *name;
        uint64_t value;
        const char *why;
    } refused[] = {
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

    for (size_t i = 0; i < nr_count_of(refused); i++) {
        int result = nr_request_refuse(request, refused[i].name, refused[i].value, refused[i].why);
        if (result < 0)
            return result;
    }
    return 0;
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
    if (s->family->put_hello(s, c, 0) < 0)
        c->end = NR_SOCKET_DIED;
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
    int result = nr_socket_is_stream(s) ? nr_tcp_listen(s, request)
                                        : nr_unix_listen(s, request, deadline);

    if (result == -EADDRINUSE && request->options.create == NARU_CREATE)
        return nr_fail(-EEXIST, "%s: someone listens there already; attach to it, or choose another "
                                "address",
                       request->text);
    if (result == 0)
        result = nr_socket_need_epoll(s);
    if (result == 0)
        nr_socket_listeners_add(s);
    return result;
}

/* Sleeps until another attempt makes sense. */
static int nr_socket_await_listener(const struct nr_request *request, int *watch_fd, int64_t *pause_ns,
                                    int latest, struct nr_deadline *deadline)
{
    if (nr_deadline_left_ns(deadline) == 0)
        return latest == -EAGAIN || latest == -EADDRINUSE
                   ? nr_fail(-ETIMEDOUT, "%s: its listener accepts nobody; is it stopped?", request->text)
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
                result = nr_fail(-ECONNREFUSED, "%s: the listener left while we attached", request->text);
        }
        if (create != NARU_ATTACH && (result == -ENOENT || result == -ECONNREFUSED)) {
            int listens = nr_socket_listen(s, request, &deadline);
            if (listens != -EADDRNOTAVAIL || create == NARU_CREATE)
                result = listens; /* else: another machine's address, so wait for its listener */
        }
        if (result != -ENOENT && result != -ECONNREFUSED && result != -EAGAIN && result != -EADDRINUSE)
            return result;
        result = nr_socket_await_listener(request, &watch_fd, &pause_ns, result, &deadline);
        if (result < 0)
            return result;
    }
}

static int nr_socket_open(struct naru_endpoint **ret, const struct nr_request *request,
                          const struct nr_transport *transport, const struct nr_socket_family *family)
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
        return result;
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
    return nr_fail(-EOPNOTSUPP, "tcp://%s: an address is nothing that could be removed; it is free when "
                                "its listener is closed",
                   uri->rest);
}

static int nr_socket_descriptor(struct naru_endpoint *endpoint, unsigned *events)
{
    struct nr_socket *s = nr_socket_of(endpoint);
    bool sends = *events == NR_WRITABLE;

    nr_lock_scope(&s->lock);
    if (sends && nr_socket_is_stream(s) && endpoint->options.acknowledge != NARU_UNACKNOWLEDGED)
        return nr_fail(-EOPNOTSUPP, "%s: a send ends with the receiver's acknowledgement, which no "
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
    .recv = nr_socket_recv, .send_many = nr_socket_send_many,                                      \
    .descriptor = nr_socket_descriptor, .stat = nr_socket_stat

const struct nr_transport nr_unix_transport = {
    .scheme = "unix",
    .passes_fds = true,
    .open = nr_unix_open,
    .pair = nr_unix_pair,
    .adopt = nr_socket_adopt,
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
