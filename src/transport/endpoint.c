/* SPDX-License-Identifier: MIT */
/*
 * endpoint -- what all transports share: birth and death of an endpoint, and the one wait
 */
#include "transport/endpoint.h"
#include "os/process.h"
#include <stdlib.h>
#include <string.h>

#define NR_ENDPOINT_LOOK_NS ((int64_t)50000000) /* without pidfds: how often to ask for the peer */

int nr_endpoint_new(struct naru_endpoint **ret, size_t size_bytes,
                    const struct nr_transport *transport, const struct nr_request *request)
{
    struct naru_endpoint *endpoint = calloc(1, size_bytes);
    uint64_t owner = nr_os_process_token_new();
    char *uri = strdup(request->text);

    if (!endpoint || !owner || !uri) {
        free(endpoint);
        free(uri);
        return nr_fail(-ENOMEM, "no memory for an endpoint of %s", request->text);
    }
    endpoint->transport = transport;
    endpoint->owner = owner;
    endpoint->role = request->role;
    endpoint->options = request->options;
    endpoint->interrupt = NR_INTERRUPT_NULL;
    endpoint->counts = &endpoint->own_counts;
    endpoint->lock = (struct nr_lock)NR_LOCK_INIT;
    endpoint->ready_fd[0] = endpoint->ready_fd[1] = endpoint->kept_fd = -1;
    endpoint->peer_pidfd = -1;
    endpoint->creator_pid = nr_os_pid();
    endpoint->uri = uri;
    *ret = endpoint;
    return 0;
}

void nr_endpoint_free(struct naru_endpoint *endpoint)
{
    if (!endpoint)
        return;
    while (endpoint->kept) {
        struct nr_kept *next = endpoint->kept->next;
        free(endpoint->kept->message.data);
        free(endpoint->kept);
        endpoint->kept = next;
    }
    while (endpoint->lent_count)
        free(endpoint->lent[--endpoint->lent_count]);
    free(endpoint->lent);
    nr_interrupt_deinit(&endpoint->interrupt);
    nr_os_close(&endpoint->ready_fd[0]);
    nr_os_close(&endpoint->ready_fd[1]);
    nr_os_close(&endpoint->kept_fd);
    nr_os_close(&endpoint->peer_pidfd);
    free(endpoint->spare);
    free(endpoint->uri);
    free(endpoint);
}

int nr_endpoint_interrupted(struct naru_endpoint *endpoint)
{
    if (!nr_interrupt_consume(&endpoint->interrupt))
        return 0;
    return nr_fail(-EINTR, "the wait on %s was ended by naru_interrupt()", endpoint->uri);
}

bool nr_endpoint_peer_is_dead(const struct naru_endpoint *endpoint)
{
    if (endpoint->peer_by_pid)
        return nr_os_process_is_gone(endpoint->peer_pid, endpoint->peer_start_time);
    return endpoint->peer_pidfd >= 0 && nr_os_pidfd_is_dead(endpoint->peer_pidfd);
}

int nr_endpoint_wait(struct naru_endpoint *endpoint, int fd, unsigned events,
                     struct nr_deadline *deadline)
{
    if (nr_deadline_is_now(deadline))
        return -EAGAIN;
    int interrupt_fd = nr_interrupt_fd(&endpoint->interrupt);
    if (interrupt_fd < 0)
        return nr_fail(interrupt_fd, "no descriptor to wait with: %s; raise `ulimit -n`",
                       nr_error_name(interrupt_fd));

    int interrupted = nr_endpoint_interrupted(endpoint);
    if (interrupted < 0)
        return interrupted;
    struct pollfd fds[3] = {
        {.fd = fd, .events = (short)events},
        {.fd = interrupt_fd, .events = POLLIN},
        {.fd = endpoint->peer_pidfd, .events = POLLIN},
    };
    struct nr_deadline slice = nr_deadline_in(NR_ENDPOINT_LOOK_NS);
    bool is_slice = endpoint->peer_by_pid && nr_deadline_left_ns(deadline) > NR_ENDPOINT_LOOK_NS;
    int ready = nr_os_poll(fds, 3, is_slice ? &slice : deadline);
    if (ready == 0 && is_slice) {
        if (!nr_endpoint_peer_is_dead(endpoint))
            return 0;
        slice = nr_deadline_in(0); /* what it left may have come since */
        ready = nr_os_poll(fds, 1, &slice);
        return ready > 0 ? 0 : -EOWNERDEAD;
    }
    if (ready == -EINTR)
        return nr_endpoint_interrupted(endpoint);
    if (ready < 0)
        return nr_fail(ready, "waiting on %s: %s", endpoint->uri, nr_error_name(ready));
    if (ready == 0)
        return -ETIMEDOUT;
    if (fds[0].revents)
        return 0;
    if (fds[1].revents)
        return nr_endpoint_interrupted(endpoint);
    return -EOWNERDEAD;
}

void nr_out_copy_parts(const struct nr_out *out, size_t from, void *to, size_t size_bytes)
{
    char *target = to;

    for (int i = 0; i < out->parts_count && size_bytes; i++) {
        size_t length = out->parts[i].iov_len;
        if (from >= length) {
            from -= length;
            continue;
        }
        size_t bytes = length - from < size_bytes ? length - from : size_bytes;
        memcpy(target, (const char *)out->parts[i].iov_base + from, bytes);
        target += bytes;
        size_bytes -= bytes;
        from = 0;
    }
}

int nr_in_deliver(struct nr_in *in, const void *data, size_t size_bytes)
{
    struct naru_message *message = in->message;

    if (size_bytes > message->capacity_bytes) {
        in->spill = malloc(size_bytes);
        if (!in->spill)
            return nr_fail(-ENOMEM, "no memory to keep a message of %zu bytes", size_bytes);
        memcpy(in->spill, data, size_bytes);
        message->size_bytes = size_bytes;
        return -EMSGSIZE;
    }
    if (size_bytes)
        memcpy(message->data, data, size_bytes);
    message->size_bytes = size_bytes;
    return 0;
}

int nr_request_settle(const struct nr_request *request, const char *name, uint64_t wanted,
                      uint64_t holds)
{
    if (wanted == 0 || wanted == holds)
        return 0;
    return nr_fail(-EINVAL,
                   "%s: %s is %llu there, and the options ask for %llu; leave it 0 to accept",
                   request->text, name, (unsigned long long)holds, (unsigned long long)wanted);
}

int nr_request_refuse(const struct nr_request *request, const char *name, uint64_t wanted,
                      const char *why)
{
    if (wanted == 0)
        return 0;
    return nr_fail(-EOPNOTSUPP, "%s: the option %s can't be kept: %s", request->text, name, why);
}

int nr_request_refuse_each(const struct nr_request *request, const struct nr_refusal *refusals,
                           size_t count)
{
    int result = 0;

    for (size_t i = 0; i < count && result == 0; i++)
        result = nr_request_refuse(request, refusals[i].name, refusals[i].value, refusals[i].why);
    return result;
}
