/* SPDX-License-Identifier: MIT */
/*
 * socket_connection -- one connection's life: made, greeted, waited for, buried
 *
 * Ownership  The endpoint's list owns its connections. One that has ended is taken off the list at once,
 *            and freed when the last thread that pins it lets go.
 * Death      A connection's process is known by the pidfd that the kernel gives for the socket's peer:
 *            a forked child that inherited the descriptor does not keep it alive for us.
 */
#include "base/cleanup.h"
#include "os/process.h"
#include "transport/socket.h"
#include <stdlib.h>
#include <string.h>

static const char nr_connection_magic[8] = "naru-io";

int nr_connection_new(struct nr_socket *s, int fd, struct nr_socket_connection **ret)
{
    struct nr_socket_connection *c = calloc(1, sizeof *c);

    if (!c) {
        nr_os_close(&fd);
        return nr_fail(-ENOMEM, "no memory for a connection of %s", s->endpoint.uri);
    }
    c->fd = fd;
    c->pidfd = c->turn_fd = c->ack_fd = -1;
    if (s->family == &nr_packet_family) {
        int room = nr_os_socket_send_room(fd);
        c->packet_max_bytes = room > 4 * 65536 || room <= 0 ? 65536 : (size_t)room / 4;
        c->knows_uid = nr_os_socket_peer(fd, &c->pid, &c->uid) == 0;
        c->knows_pid = c->knows_uid && c->pid > 0;
        if (!s->is_pair)
            c->pidfd = nr_os_socket_peer_pidfd(fd, c->pid);
    } else {
        nr_os_socket_no_delay(fd);
        nr_os_socket_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    }
    nr_os_socket_patience(fd, NR_SOCKET_PATIENCE_NS);
    *ret = c;
    return 0;
}

void nr_connection_free(struct nr_socket_connection *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->partial_fds_count; i++)
        nr_os_close(&c->partial_fds[i]);
    nr_os_close(&c->fd);
    nr_os_close(&c->pidfd);
    nr_os_close(&c->turn_fd);
    nr_os_close(&c->ack_fd);
    free(c->partial);
    free(c->in);
    free(c->rest);
    free(c);
}

void nr_connection_pin(struct nr_socket_connection *c)
{
    c->pins++;
}

void nr_connection_unpin(struct nr_socket *s, struct nr_socket_connection *c)
{
    nr_lock_scope(&s->lock);
    if (--c->pins == 0 && c->is_gone)
        nr_connection_free(c);
}

static void *nr_connection_tag_death(struct nr_socket_connection *c)
{
    return (void *)((uintptr_t)c | 1);
}

static int nr_connection_enroll(struct nr_socket *s, struct nr_socket_connection *c)
{
    int result = nr_os_epoll_watch(s->epoll_fd, c->fd, NR_READABLE, c);

    if (result == 0 && c->pidfd >= 0)
        result = nr_os_epoll_watch(s->epoll_fd, c->pidfd, NR_READABLE, nr_connection_tag_death(c));
    if (result < 0) {
        nr_os_epoll_remove(s->epoll_fd, c->fd);
        return nr_fail(result, "%s: can't watch one more connection: %s", s->endpoint.uri,
                       nr_error_name(result));
    }
    c->is_enrolled = true;
    return 0;
}

int nr_connection_enroll_all(struct nr_socket *s)
{
    int result = 0;

    for (unsigned i = 0; i < s->connections_count && result == 0 && s->epoll_fd >= 0; i++)
        if (!s->connections[i]->is_enrolled)
            result = nr_connection_enroll(s, s->connections[i]);
    return result;
}

int nr_connection_join(struct nr_socket *s, struct nr_socket_connection *c)
{
    if (s->connections_count == s->connections_capacity) {
        unsigned capacity = s->connections_capacity ? 2 * s->connections_capacity : 4;
        void *grown = realloc(s->connections, capacity * sizeof *s->connections);
        if (!grown)
            return nr_fail(-ENOMEM, "no memory for one more connection of %s", s->endpoint.uri);
        s->connections = grown;
        s->connections_capacity = capacity;
    }
    s->connections[s->connections_count++] = c;
    if (s->connections_count < 2 && !s->is_watched)
        return 0;
    int result = nr_connection_enroll_all(s);
    if (result < 0)
        s->connections_count--;
    return result;
}

/* A forked child may have copies of the descriptors, so closing alone would not take them out of epoll.
   An attached endpoint's descriptor stays: hung up, it polls as readable, as naru_fd() must for an end. */
void nr_connection_retire(struct nr_socket *s, struct nr_socket_connection *c)
{
    if ((c->is_greeted || s->listen_fd < 0) && c->end > s->left) {
        s->left = c->end;
        s->left_pid = c->pid;
    }
    if (c->end != NR_SOCKET_ENDED)
        nr_os_socket_shutdown(c->fd);
    if (s->listen_fd < 0)
        return;
    for (unsigned i = 0; i < s->connections_count; i++)
        if (s->connections[i] == c) {
            s->connections_count--;
            memmove(&s->connections[i], &s->connections[i + 1],
                    (s->connections_count - i) * sizeof *s->connections);
            break;
        }
    if (c->is_enrolled) {
        nr_os_epoll_remove(s->epoll_fd, c->fd);
        if (c->pidfd >= 0)
            nr_os_epoll_remove(s->epoll_fd, c->pidfd);
    }
    if (s->out_epoll_fd >= 0)
        nr_os_epoll_remove(s->out_epoll_fd, c->fd);
    if (s->latest == c) {
        s->latest = NULL;
        s->latest_left = true;
    }
    c->is_gone = true;
    if (c->pins == 0)
        nr_connection_free(c);
}

void nr_connection_fill_hello(const struct nr_socket *s, uint8_t refusal,
                              struct nr_socket_hello *ret)
{
    *ret = (struct nr_socket_hello){
        .version = NR_SOCKET_VERSION,
        .role = (uint8_t)s->endpoint.role,
        .pattern = (uint8_t)s->endpoint.options.pattern,
        .acknowledge = (uint8_t)s->endpoint.options.acknowledge,
        .refusal = refusal,
        .message_size_max_bytes = s->endpoint.options.message_size_max_bytes,
        .pid = (uint32_t)nr_os_pid(),
    };
    memcpy(ret->magic, nr_connection_magic, sizeof ret->magic);
}

static enum nr_socket_end nr_connection_judge(const struct nr_socket *s,
                                              const struct nr_socket_hello *hello)
{
    const struct naru_options *asked = &s->asked;
    unsigned mine = s->endpoint.role, theirs = hello->role;

    if (memcmp(hello->magic, nr_connection_magic, sizeof hello->magic) != 0)
        return NR_SOCKET_ALIEN;
    if (hello->version != NR_SOCKET_VERSION)
        return NR_SOCKET_OLD;
    if (hello->refusal)
        return NR_SOCKET_REFUSED;
    if (theirs < NARU_SENDER || theirs > NARU_BOTH ||
        (mine == NARU_BOTH) != (theirs == NARU_BOTH) || (mine != NARU_BOTH && mine == theirs))
        return NR_SOCKET_ROLE;
    if (hello->pattern != s->endpoint.options.pattern)
        return NR_SOCKET_PATTERN;
    if (!s->is_attached)
        return NR_SOCKET_OPEN;
    if (asked->message_size_max_bytes &&
        asked->message_size_max_bytes != hello->message_size_max_bytes)
        return NR_SOCKET_SIZE;
    if (asked->acknowledge && asked->acknowledge != hello->acknowledge)
        return NR_SOCKET_MODE;
    return NR_SOCKET_OPEN;
}

void nr_connection_greet(struct nr_socket *s, struct nr_socket_connection *c,
                         const struct nr_socket_hello *hello)
{
    struct naru_options *options = &s->endpoint.options;

    c->hello = *hello;
    c->end = nr_connection_judge(s, hello);
    if (c->end != NR_SOCKET_OPEN) {
        nr_connection_verdict(s, c->end, c->pid, hello);
        return;
    }
    c->is_greeted = true;
    if (!c->knows_pid) {
        c->pid = (pid_t)hello->pid;
        c->knows_pid = true;
    }
    if (s->out_epoll_fd >= 0) /* not before: a silent stranger is always writable */
        nr_os_epoll_watch(s->out_epoll_fd, c->fd, NR_WRITABLE, c);
    if (s->is_attached) { /* what the listener says holds */
        if (hello->message_size_max_bytes &&
            hello->message_size_max_bytes <= NR_MESSAGE_LIMIT_BYTES)
            options->message_size_max_bytes = hello->message_size_max_bytes;
        if (hello->acknowledge == NARU_ACKNOWLEDGED || hello->acknowledge == NARU_UNACKNOWLEDGED)
            options->acknowledge = hello->acknowledge;
    }
}

static const char *nr_connection_role_name(unsigned role)
{
    return role == NARU_SENDER ? "sender" : role == NARU_RECEIVER ? "receiver" : "both at once";
}

int nr_connection_verdict(const struct nr_socket *s, enum nr_socket_end end, pid_t pid,
                          const struct nr_socket_hello *hello)
{
    static const struct nr_socket_hello unknown = {0};
    const char *uri = s->endpoint.uri;

    if (!hello)
        hello = &unknown;
    switch (end) {
    case NR_SOCKET_OPEN:
        return 0;
    case NR_SOCKET_ENDED:
        return nr_fail(-EPIPE, "%s: the other side has closed it; %s", uri,
                       s->is_attached ? "open it again when there is a listener again"
                                      : "the next call waits for the next one");
    case NR_SOCKET_DIED:
        return nr_fail(-EOWNERDEAD,
                       "%s: process %d on the other side died without closing it; what it had not "
                       "received is lost%s",
                       uri, (int)pid,
                       s->is_attached ? "; open it again when there is a listener again" : "");
    case NR_SOCKET_ALIEN:
        return nr_fail(
            -EPROTO,
            "%s: what answers there does not speak Naru's protocol; choose another address, or "
            "let a Naru endpoint listen there",
            uri);
    case NR_SOCKET_DAMAGED:
        return nr_fail(-EBADMSG,
                       "%s: process %d sent what is no frame of Naru's, or more than "
                       "message_size_max_bytes = %zu; its connection was closed",
                       uri, (int)pid, s->endpoint.options.message_size_max_bytes);
    case NR_SOCKET_ROLE:
        return nr_fail(
            -EINVAL,
            "%s: the other side (process %u) is a %s, and so it can't meet a %s; open one of "
            "the two as the opposite role%s",
            uri, hello->pid, nr_connection_role_name(hello->role),
            nr_connection_role_name(s->endpoint.role),
            hello->role == NARU_SENDER
                ? ", or let the receiver listen first: then many senders may attach"
                : "");
    case NR_SOCKET_PATTERN:
        return nr_fail(-EINVAL,
                       "%s: pattern is %u there, and %u was asked for; leave it 0 to accept", uri,
                       hello->pattern, s->endpoint.options.pattern);
    case NR_SOCKET_SIZE:
        return nr_fail(
            -EINVAL,
            "%s: message_size_max_bytes is %llu there, and the options ask for %zu; leave it "
            "0 to accept",
            uri, (unsigned long long)hello->message_size_max_bytes,
            s->asked.message_size_max_bytes);
    case NR_SOCKET_MODE:
        return nr_fail(
            -EINVAL,
            "%s: acknowledge is %u there, and the options ask for %u; leave it 0 to accept", uri,
            hello->acknowledge, s->asked.acknowledge);
    case NR_SOCKET_REFUSED:
        return nr_fail(
            -EACCES,
            "%s: the listener (process %u) accepts only its own user and root, not user %u; "
            "open it with options.peer_uid_any = 1",
            uri, hello->pid, (unsigned)nr_os_uid());
    case NR_SOCKET_OLD:
        return nr_fail(-EPROTO,
                       "%s: version %u of the protocol is spoken there, and %d here; use the "
                       "same library on both sides",
                       uri, hello->version, NR_SOCKET_VERSION);
    }
    return -EPROTO;
}

bool nr_connection_is_dead(struct nr_socket *s, struct nr_socket_connection *c)
{
    int pidfd = s->is_pair ? s->endpoint.peer_pidfd : c->pidfd;

    return pidfd >= 0 && nr_os_pidfd_is_dead(pidfd);
}

int nr_connection_wait(struct nr_socket *s, struct nr_socket_connection *c, unsigned events,
                       int fd2, struct nr_deadline *deadline)
{
    struct naru_endpoint *endpoint = &s->endpoint;

    if (nr_deadline_is_now(deadline))
        return -EAGAIN;
    int interrupt_fd = nr_interrupt_fd(&endpoint->interrupt);
    if (interrupt_fd < 0)
        return nr_fail(interrupt_fd, "no descriptor to wait with: %s; raise `ulimit -n`",
                       nr_error_name(interrupt_fd));
    int result = nr_endpoint_interrupted(endpoint);
    if (result < 0)
        return result;
    struct pollfd fds[4] = {
        {.fd = c->fd, .events = (short)events},
        {.fd = interrupt_fd, .events = NR_READABLE},
        {.fd = fd2, .events = NR_READABLE},
        {.fd = s->is_pair ? endpoint->peer_pidfd : c->pidfd, .events = NR_READABLE},
    };
    int ready = nr_os_poll(fds, nr_count_of(fds), deadline);
    if (ready == -EINTR)
        return nr_endpoint_interrupted(endpoint);
    if (ready < 0)
        return nr_fail(ready, "waiting on %s: %s", endpoint->uri, nr_error_name(ready));
    if (ready == 0)
        return -ETIMEDOUT;
    if (fds[0].revents || fds[2].revents)
        return 0;
    if (fds[1].revents)
        return nr_endpoint_interrupted(endpoint);
    return -EOWNERDEAD;
}

int nr_connection_take_turn(struct nr_socket *s, struct nr_socket_connection *c,
                            struct nr_deadline *deadline, bool may_wait)
{
    nr_lock_take(&s->lock);
    bool waits = false;
    int result = 0;
    while (c->turn_taken && !c->is_gone && result == 0) {
        if (!waits && may_wait) {
            waits = true;
            c->turn_waiters++;
        }
        if (c->turn_fd < 0)
            c->turn_fd = nr_os_eventfd();
        if (c->turn_fd < 0)
            result = nr_fail(c->turn_fd, "%s: no descriptor to wait with: %s; raise `ulimit -n`",
                             s->endpoint.uri, nr_error_name(c->turn_fd));
        else
            nr_os_eventfd_clear(c->turn_fd);
        nr_lock_give(&s->lock);
        if (result == 0)
            result = may_wait ? nr_endpoint_wait(&s->endpoint, c->turn_fd, NR_READABLE, deadline)
                              : -EAGAIN;
        nr_lock_take(&s->lock);
    }
    if (waits)
        c->turn_waiters--;
    if (result == 0)
        c->turn_taken = true;
    nr_lock_give(&s->lock);
    return result;
}

void nr_connection_give_turn(struct nr_socket *s, struct nr_socket_connection *c)
{
    nr_lock_scope(&s->lock);
    c->turn_taken = false;
    if (c->turn_waiters)
        nr_os_eventfd_set(c->turn_fd);
}
