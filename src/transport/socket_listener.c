/* SPDX-License-Identifier: MIT */
/*
 * socket_listener -- who comes, who goes, and what to wait for
 *
 * What       Accepting, reading greetings and farewells, and the epoll descriptors that tell of all this.
 *            nr_socket_service() is one look around; it never sleeps.
 * Limits     Without descriptors for one more peer, accepting pauses for 100 ms at a time, so that nothing
 *            spins; the peers that are there are served. A peer that connects and says nothing costs a
 *            descriptor and never delays another; of those 128 are kept.
 */
#include "os/process.h"
#include "transport/socket.h"

enum { NR_SOCKET_ACCEPT_PAUSE_NS = 100 * 1000 * 1000, NR_SOCKET_EVENTS = 64 };

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

void nr_socket_listeners_add(struct nr_socket *s)
{
    nr_lock_scope(&nr_socket_listeners_lock);
    if (!nr_socket_listeners_know_fork)
        nr_socket_listeners_know_fork = nr_os_at_fork(nr_socket_listeners_in_child) == 0;
    s->next_listener = nr_socket_listeners;
    nr_socket_listeners = s;
}

void nr_socket_listeners_remove(struct nr_socket *s)
{
    nr_lock_scope(&nr_socket_listeners_lock);
    struct nr_socket **place = &nr_socket_listeners;

    while (*place && *place != s)
        place = &(*place)->next_listener;
    if (*place)
        *place = s->next_listener;
}

void nr_socket_listeners_serve(void)
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
        c->may_read |= !c->is_enrolled;
        if (c->may_read && (!c->is_greeted || s->endpoint.role == NARU_SENDER))
            nr_socket_progress(s, c);
    }
}

void nr_socket_service_sometimes(struct nr_socket *s)
{
    if (s->until_service == 0 || nr_os_now_coarse_ns() - s->serviced_ns > NR_SOCKET_SERVICE_NS)
        nr_socket_service(s);
    else
        s->until_service--;
}

/* -- descriptors to wait for --------------------------------------------------------------------- */

int nr_socket_need_wake(struct nr_socket *s)
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
int nr_socket_need_epoll(struct nr_socket *s)
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
    return result < 0 ? nr_socket_no_descriptor(s, result) : 0;
}

/* All that may let a listener's send go on. Locked. */
int nr_socket_need_out_epoll(struct nr_socket *s)
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
int nr_socket_wait_listener(struct nr_socket *s, int fd, struct nr_deadline *deadline)
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
