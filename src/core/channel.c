/* SPDX-License-Identifier: MIT */
/*
 * channel -- open, pair, hand over, close, unlink
 *
 * Ownership  An endpoint carries the token of the process that opened it. A forked child's copy has a
 *            token that is not the child's, so it is refused, until naru_pair_assign() adopts it.
 * Death      naru_pair_assign() is what makes death visible: from then on each side watches the other's
 *            pidfd. End-of-file proves nothing, since any forked process may hold a copy of the end.
 */
#include "core/core.h"
#include "transport/table.h"
#include <assert.h>
#include <stdlib.h>

int nr_core_refuse(const struct naru_endpoint *endpoint, unsigned role)
{
    if (!endpoint)
        return nr_fail(-EINVAL, "the endpoint is NULL; did naru_open() fail?");
    if (!nr_os_process_is(endpoint->owner))
        return nr_fail(-ECHILD,
                       "this copy of %s belongs to another process; in a forked child open the "
                       "channel again, or call naru_pair_assign() for the end of a pair",
                       endpoint->uri);
    if (endpoint->role == NARU_OBSERVER)
        return nr_fail(-EBADF, "%s was opened as observer, which only looks", endpoint->uri);
    return nr_fail(-EBADF, "%s was opened as %s; open it as %s for this", endpoint->uri,
                   endpoint->role == NARU_SENDER ? "sender" : "receiver",
                   role == NARU_SENDER ? "sender" : "receiver");
}

int nr_core_failed(const struct naru_endpoint *endpoint, int error)
{
    const char *text;

    switch (error) {
    case -EAGAIN:
        text =
            "it can't be done without waiting; give a time-out other than 0, or wait for naru_fd()";
        break;
    case -ETIMEDOUT:
        text = "the time-out is over; the other side has not done its part yet";
        break;
    case -EPIPE:
        text = "the other side has ended; open the channel again when it is back";
        break;
    case -EOWNERDEAD:
        text = "the process on the other side has died";
        break;
    case -EINTR:
        text = "the wait was ended by naru_interrupt()";
        break;
    default:
        text = nr_error_name(error);
    }
    (void)endpoint;
    nr_error_default(error, NR_ORIGIN, text);
    if (error == -EMFILE || error == -ENFILE) /* whoever ran out, the cure is the same */
        nr_error_add("; close some descriptors, or raise `ulimit -n`", "ulimit");
    return error;
}

static int nr_channel_request(struct nr_request *ret, const char *uri, enum naru_role role,
                              const struct naru_options *options,
                              const struct nr_transport **ret_transport)
{
    struct nr_request request = {.text = uri, .role = role};

    int result = nr_uri_parse(&request.uri, uri);
    if (result < 0)
        return result;
    const struct nr_transport *transport = nr_table_transport(request.uri.scheme);
    if (!transport)
        return nr_fail(-EPROTONOSUPPORT,
                       "there is no technique %s://; `naru transports` lists those there are",
                       request.uri.scheme);
    result = nr_options_complete(&request.options, options);
    if (result < 0)
        return result;
    if ((request.options.start || request.options.read_only) &&
        strcmp(request.uri.scheme, "shm") != 0)
        return nr_fail(-EOPNOTSUPP, "%s: the option %s can't be kept: only shm:// has it", uri,
                       request.options.start ? "start" : "read_only");
    request.wants_pattern = options && options->pattern;
    enum naru_pattern pattern = request.options.pattern;
    const struct naru_transport_row *row = nr_table_row(request.uri.scheme, pattern);
    if (!row || !row->supported)
        return nr_fail(-EOPNOTSUPP, "%s:// carries no %s: %s", request.uri.scheme,
                       nr_table_pattern_name(pattern), row ? row->note : "unknown pattern");
    *ret = request;
    *ret_transport = transport;
    return 0;
}

int naru_open(struct naru_endpoint **ret, const char *uri, enum naru_role role,
              const struct naru_options *options)
{
    const struct nr_transport *transport;
    struct naru_endpoint *endpoint;
    struct nr_request request;

    nr_error_clear();
    if (!ret || !uri)
        return nr_fail(-EINVAL, "naru_open() needs a place for the endpoint, and a URI");
    int result = nr_channel_request(&request, uri, role, options, &transport);
    if (result < 0)
        return nr_core_failed(NULL, result);
    if (role == NARU_OBSERVER && !transport->stat_participant)
        return nr_fail(-EOPNOTSUPP, "%s: only named channels of shm:// can be observed", uri);
    if (role != NARU_SENDER && role != NARU_RECEIVER && role != NARU_BOTH && role != NARU_OBSERVER)
        return nr_fail(-EINVAL,
                       "%s: the role is %d; give NARU_SENDER, NARU_RECEIVER, NARU_BOTH or "
                       "NARU_OBSERVER",
                       uri, (int)role);
    if (role == NARU_BOTH &&
        !nr_table_row(request.uri.scheme, request.options.pattern)->can_be_both)
        return nr_fail(-EOPNOTSUPP,
                       "%s:// crosses one way; open one channel to send and another to receive",
                       request.uri.scheme);
    result = transport->open(&endpoint, &request);
    if (result < 0)
        return nr_core_failed(NULL, result);
    *ret = endpoint;
    return 0;
}

int naru_pair(struct naru_endpoint *ret[2], const char *uri, const struct naru_options *options)
{
    const struct nr_transport *transport;
    struct naru_endpoint *ends[2];
    struct nr_request request;

    nr_error_clear();
    if (!ret || !uri)
        return nr_fail(-EINVAL, "naru_pair() needs room for two endpoints, and a URI");
    int result = nr_channel_request(&request, uri, NARU_BOTH, options, &transport);
    if (result < 0)
        return nr_core_failed(NULL, result);
    if (!transport->pair || !nr_table_row(request.uri.scheme, request.options.pattern)->can_pair)
        return nr_fail(-EOPNOTSUPP,
                       "%s:// has no anonymous form that goes with its last user; open it by name",
                       request.uri.scheme);
    if (request.uri.rest[0])
        return nr_fail(-EINVAL, "%s: a pair has no name; give just %s://", uri, request.uri.scheme);
    result = transport->pair(ends, &request);
    if (result < 0)
        return nr_core_failed(NULL, result);
    pid_t pid = nr_os_pid();
    int self = nr_os_pidfd_open(pid);
    uint64_t identity = self >= 0         ? nr_os_pidfd_identity(self, pid)
                        : self == -ENOSYS ? nr_os_process_start_time(pid)
                                          : 0;
    for (int i = 0; i < 2; i++) {
        ends[i]->other = ends[!i];
        ends[i]->creator_identity = identity;
    }
    nr_os_close(&self);
    ret[0] = ends[0];
    ret[1] = ends[1];
    return 0;
}

/* From now on `pid` is known to hold the other end of `endpoint`. */
static int nr_channel_watch(struct naru_endpoint *endpoint, pid_t pid, uint64_t identity)
{
    int pidfd = nr_os_pidfd_open(pid);

    bool by_pid = pidfd == -ENOSYS && !nr_os_process_is_missing(pid);

    if (pidfd == -ENOSYS && !by_pid)
        pidfd = -ESRCH;
    if (pidfd >= 0 && nr_os_pidfd_is_other(pidfd, pid, identity)) {
        nr_os_close(&pidfd);
        pidfd = -ESRCH;
    }
    if (pidfd == -ESRCH && identity) { /* the creator is dead: a descriptor that always says so */
        pidfd = nr_os_eventfd();
        if (pidfd >= 0)
            nr_os_eventfd_set(pidfd);
    }
    if (pidfd < 0 && !by_pid)
        return nr_fail(pidfd, "can't watch process %d: %s", (int)pid, nr_error_name(pidfd));
    uint64_t start_time = by_pid ? nr_os_process_start_time(pid) : 0;
    nr_lock_take(&endpoint->lock); /* a watcher may be asking for the one before */
    nr_os_close(&endpoint->peer_pidfd);
    endpoint->peer_pidfd = by_pid ? -1 : pidfd;
    endpoint->peer_pid = pid;
    endpoint->peer_start_time = start_time;
    endpoint->peer_by_pid = by_pid;
    nr_lock_give(&endpoint->lock);
    return nr_ready_watch_peer(endpoint);
}

static void nr_channel_give_away(struct naru_endpoint *end)
{
    end->transport->release(end);
    end->owner = 0;
}

/* In a forked child: `end` becomes this process's. What it shares with the parent through inherited
   descriptors of its own (interrupt, readiness) is made anew on demand. */
static int nr_channel_adopt(struct naru_endpoint *end)
{
    uint64_t owner = nr_os_process_token_new();

    if (!owner)
        return nr_fail(-ENOMEM, "no memory to take over the end of a pair");
    nr_interrupt_deinit(&end->interrupt);
    nr_os_close(&end->ready_fd[0]);
    nr_os_close(&end->ready_fd[1]);
    nr_os_close(&end->kept_fd);
    for (struct nr_kept *kept; (kept = nr_kept_pop(end, SIZE_MAX, NULL));) {
        free(kept->message.data);
        free(kept);
    }
    end->lock = (struct nr_lock)NR_LOCK_INIT;
    int result = end->transport->adopt ? end->transport->adopt(end) : 0;
    if (result < 0)
        return result;
    nr_channel_give_away(end->other);
    /* If the other end was assigned before the fork, it is still watched. */
    if (end->peer_pidfd < 0 && !end->peer_by_pid)
        result = nr_channel_watch(end, end->creator_pid, end->creator_identity);
    if (result == 0) /* else all of it can be tried again */
        end->owner = owner;
    return result;
}

unsigned nr_channel_descriptors(struct naru_endpoint *end, int *ret[NR_ENDPOINT_FDS_MAX])
{
    unsigned count =
        end->transport->descriptors_held ? end->transport->descriptors_held(end, ret) : 0;

    assert(count < NR_ENDPOINT_FDS_MAX);
    ret[count] = &end->peer_pidfd;
    return count + 1;
}

int naru_pair_assign(struct naru_endpoint *end, pid_t pid)
{
    nr_error_clear();
    if (!end || !end->other || pid <= 0)
        return nr_fail(-EINVAL, "naru_pair_assign() takes an end made by naru_pair() that is not "
                                "closed, and the pid of a process");
    struct naru_endpoint *other = end->other;
    bool is_mine = nr_os_process_is(end->owner);
    if (pid == nr_os_pid())
        return is_mine ? 0 : nr_core_leave(end, nr_channel_adopt(end));
    if (nr_os_process_is(other->owner)) {
        int result = nr_channel_watch(other, pid, 0);
        if (result < 0)
            return nr_core_failed(end, result);
    }
    if (is_mine)
        nr_channel_give_away(end);
    return 0;
}

void naru_close(struct naru_endpoint *endpoint)
{
    if (!endpoint)
        return;
    if (nr_os_process_is(endpoint->owner) && endpoint->transport->leave)
        endpoint->transport->leave(endpoint);
    endpoint->transport->release(endpoint);
    if (endpoint->other)
        endpoint->other->other = NULL;
    nr_endpoint_free(endpoint);
}

int naru_unlink(const char *uri)
{
    struct nr_uri parsed;

    nr_error_clear();
    if (!uri)
        return nr_fail(-EINVAL, "naru_unlink() needs a URI");
    int result = nr_uri_parse(&parsed, uri);
    if (result < 0)
        return result;
    const struct nr_transport *transport = nr_table_transport(parsed.scheme);
    if (!transport)
        return nr_fail(-EPROTONOSUPPORT,
                       "there is no technique %s://; `naru transports` lists those there are",
                       parsed.scheme);
    if (!transport->unlink)
        return nr_fail(-EOPNOTSUPP, "%s:// leaves no name behind that could be removed",
                       parsed.scheme);
    return nr_core_leave(NULL, transport->unlink(&parsed));
}

int naru_interrupt(struct naru_endpoint *endpoint)
{
    if (!endpoint || !nr_os_process_is(endpoint->owner))
        return -EINVAL; /* without a text: it would not be async-signal-safe */
    nr_interrupt_raise(&endpoint->interrupt);
    return 0;
}
