/* SPDX-License-Identifier: MIT */
/*
 * transfer -- send and receive
 *
 * What       Checks, the transport's send or recv, counters. A message that came but did not fit is kept
 *            in the endpoint, and is what the next receive gives.
 */
#include "core/core.h"
#include <stdlib.h>
#include <string.h>

enum { NR_TRANSFER_FDS_MAX = 64, NR_TRANSFER_PARTS_MAX = 1024 };

static int nr_transfer_too_large(const struct naru_endpoint *endpoint, size_t size_bytes)
{
    return nr_fail(
        -EMSGSIZE,
        "%s: the message has %zu bytes, and the channel carries at most %zu; split it, or "
        "create the channel with a larger message_size_max_bytes",
        endpoint->uri, size_bytes, endpoint->options.message_size_max_bytes);
}

static int nr_transfer_send(struct naru_endpoint *endpoint, const struct nr_out *out,
                            int64_t timeout_ns)
{
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);
    bool fail_when_full = endpoint->options.when_full == NARU_FAIL;

    if (out->size_bytes > endpoint->options.message_size_max_bytes)
        return nr_transfer_too_large(endpoint, out->size_bytes);
    if (fail_when_full)
        deadline.timeout_ns = 0;
    int result = endpoint->transport->send(endpoint, out, &deadline);
    if (result < 0) {
        nr_core_arm_send(endpoint, result, out->size_bytes);
        return result == -EAGAIN && fail_when_full
                   ? nr_fail(-ENOBUFS, "%s is full, and its contract is to fail then",
                             endpoint->uri)
                   : result;
    }
    return nr_endpoint_sent(endpoint, out->size_bytes);
}

static nr_flat nr_apart int nr_transfer_send_data(struct naru_endpoint *endpoint, const void *data,
                                                  size_t size_bytes, int64_t timeout_ns)
{
    struct iovec part = {.iov_base = (void *)data, .iov_len = size_bytes};
    struct nr_out out = {.parts = &part, .parts_count = 1, .size_bytes = size_bytes};

    int result = nr_core_enter(endpoint, NARU_SENDER);
    if (result < 0)
        return result;
    if (!data && size_bytes)
        return nr_fail(-EINVAL, "data is NULL, and the size %zu", size_bytes);
    return nr_core_leave(endpoint, nr_transfer_send(endpoint, &out, timeout_ns));
}

int naru_send(struct naru_endpoint *endpoint, const void *data, size_t size_bytes,
              int64_t timeout_ns)
{
    if (nr_core_may(endpoint, NARU_SENDER) && endpoint->transport->send_short && data &&
        size_bytes <= endpoint->options.message_size_max_bytes)
        return endpoint->transport->send_short(endpoint, data, size_bytes, timeout_ns,
                                               nr_transfer_send_data);
    return nr_transfer_send_data(endpoint, data, size_bytes, timeout_ns);
}

int naru_sendv(struct naru_endpoint *endpoint, const struct iovec *parts, int parts_count,
               const struct naru_message *attributes, int64_t timeout_ns)
{
    struct iovec empty = {0};
    struct nr_out out = {
        .parts = parts_count ? parts : &empty,
        .parts_count = parts_count ? parts_count : 1,
        .type = attributes ? attributes->type : 0,
    };

    int result = nr_core_enter(endpoint, NARU_SENDER);
    if (result < 0)
        return result;
    if (parts_count < 0 || parts_count > NR_TRANSFER_PARTS_MAX || (parts_count && !parts))
        return nr_fail(-EINVAL, "a message has 0 to %d parts, not %d", NR_TRANSFER_PARTS_MAX,
                       parts_count);
    for (int i = 0; i < parts_count; i++)
        if (__builtin_add_overflow(out.size_bytes, parts[i].iov_len, &out.size_bytes))
            return nr_transfer_too_large(endpoint, SIZE_MAX);
    return nr_core_leave(endpoint, nr_transfer_send(endpoint, &out, timeout_ns));
}

int naru_send_many(struct naru_endpoint *endpoint, const struct naru_message *messages,
                   size_t count, int64_t timeout_ns)
{
    int result = nr_core_enter(endpoint, NARU_SENDER);

    if (result < 0)
        return result;
    if (!messages || !count || count > INT32_MAX)
        return nr_fail(-EINVAL, "naru_send_many() takes 1 to %d messages, not %zu", INT32_MAX,
                       count);
    size_t sent = 0;
    for (; sent < count && messages[sent].size_bytes <= endpoint->options.message_size_max_bytes;)
        sent++;
    if (sent == 0)
        return nr_transfer_too_large(endpoint, messages[0].size_bytes);
    if (endpoint->transport->send_many) {
        struct nr_deadline deadline = nr_deadline_in(timeout_ns);
        result = endpoint->transport->send_many(endpoint, messages, sent, &deadline);
        nr_core_arm_send(endpoint, result, messages->size_bytes);
        uint64_t bytes = 0;
        for (int i = 0; i < result; i++)
            bytes += messages[i].size_bytes;
        if (result > 0) {
            nr_count_add(&endpoint->counts->sent_messages, (uint64_t)result);
            nr_count_add(&endpoint->counts->sent_bytes, bytes);
        }
        return nr_core_leave(endpoint, result);
    }
    size_t fitting = sent;
    for (sent = 0; sent < fitting; sent++) {
        struct iovec part = {messages[sent].data, messages[sent].size_bytes};
        struct nr_out out = {.parts = &part,
                             .parts_count = 1,
                             .size_bytes = part.iov_len,
                             .type = messages[sent].type};
        result = nr_transfer_send(endpoint, &out, sent ? 0 : timeout_ns);
        if (result < 0)
            break;
    }
    return sent ? (int)sent : nr_core_leave(endpoint, result);
}

/* The oldest kept message into *in; -EAGAIN if there is none, -EMSGSIZE if it does not fit. */
static int nr_transfer_recv_kept(struct naru_endpoint *endpoint, struct nr_in *in)
{
    struct naru_message *message = in->message;
    size_t needed_bytes = 0;
    struct nr_kept *kept = nr_kept_pop(endpoint, message->capacity_bytes, &needed_bytes);

    if (!kept) {
        message->size_bytes = needed_bytes;
        return needed_bytes ? -EMSGSIZE : -EAGAIN;
    }
    void *data = message->data;
    size_t capacity_bytes = message->capacity_bytes;
    if (kept->message.size_bytes)
        memcpy(data, kept->message.data, kept->message.size_bytes);
    free(kept->message.data);
    *message = kept->message;
    message->data = data;
    message->capacity_bytes = capacity_bytes;
    free(kept);
    return 0;
}

static int nr_transfer_recv(struct naru_endpoint *endpoint, struct nr_in *in,
                            struct nr_deadline *deadline)
{
    struct naru_message *message = in->message;
    int result = -EAGAIN;

    if (__atomic_load_n(&endpoint->kept_count, __ATOMIC_ACQUIRE))
        result = nr_transfer_recv_kept(endpoint, in);
    if (result == -EAGAIN)
        result = endpoint->transport->recv(endpoint, in, deadline);
    if (result >= 0) {
        nr_count_add(&endpoint->counts->received_messages, 1);
        nr_count_add(&endpoint->counts->received_bytes, message->size_bytes);
        if (message->lost)
            nr_count_add(&endpoint->lost_messages, message->lost);
        return 0;
    }
    if (result == -EMSGSIZE) {
        if (in->spill) {
            struct naru_message kept = *message;
            kept.data = in->spill;
            int kept_result = nr_kept_push(endpoint, &kept, false);
            if (kept_result < 0) {
                free(in->spill);
                return kept_result;
            }
        }
        return nr_fail(
            -EMSGSIZE,
            "%s: the next message has %zu bytes, and there is room for %zu; it is kept for "
            "a call with more room",
            endpoint->uri, message->size_bytes, message->capacity_bytes);
    }
    nr_core_arm(endpoint, result);
    return result;
}

/* An empty message, cleared in two steps: as a whole it would be a string instruction, which takes longer to
   begin than these take in all. */
static inline void nr_transfer_clear(struct naru_message *message)
{
    enum { HALF_BYTES = sizeof *message / 2 };

    memset(message, 0, HALF_BYTES);
    memset((char *)message + HALF_BYTES, 0, sizeof *message - HALF_BYTES);
}

static nr_flat nr_apart int nr_transfer_recv_data(struct naru_endpoint *endpoint, void *data,
                                                  size_t capacity_bytes, size_t *ret_size_bytes,
                                                  int64_t timeout_ns)
{
    struct naru_message message;
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);
    struct nr_in in = {.message = &message};

    nr_transfer_clear(&message);
    message.data = data;
    message.capacity_bytes = capacity_bytes;
    int result = nr_core_enter(endpoint, NARU_RECEIVER);
    if (result < 0)
        return result;
    if (!data && capacity_bytes)
        return nr_fail(-EINVAL, "data is NULL, and the room %zu bytes", capacity_bytes);
    result = nr_transfer_recv(endpoint, &in, &deadline);
    if ((result == 0 || result == -EMSGSIZE) && ret_size_bytes)
        *ret_size_bytes = message.size_bytes;
    return nr_core_leave(endpoint, result);
}

int naru_recv(struct naru_endpoint *endpoint, void *data, size_t capacity_bytes,
              size_t *ret_size_bytes, int64_t timeout_ns)
{
    if (!nr_core_may(endpoint, NARU_RECEIVER) || !endpoint->transport->recv_short || !data ||
        __atomic_load_n(&endpoint->kept_count, __ATOMIC_ACQUIRE))
        return nr_transfer_recv_data(endpoint, data, capacity_bytes, ret_size_bytes, timeout_ns);
    nr_error_clear();
    int result = endpoint->transport->recv_short(endpoint, data, capacity_bytes, timeout_ns);
    if (result >= 0) {
        nr_count_add(&endpoint->counts->received_messages, 1);
        nr_count_add(&endpoint->counts->received_bytes, (uint64_t)result);
        if (ret_size_bytes)
            *ret_size_bytes = (size_t)result;
        return 0;
    }
    if (result != -EAGAIN)
        return nr_core_leave(endpoint, result);
    return nr_transfer_recv_data(endpoint, data, capacity_bytes, ret_size_bytes, timeout_ns);
}

/* What is there already and needs no waiting, as far as the transport has a short way for that. */
static size_t nr_transfer_recv_more(struct naru_endpoint *endpoint, struct naru_message *messages,
                                    size_t count)
{
    if (!endpoint->transport->recv_more || __atomic_load_n(&endpoint->kept_count, __ATOMIC_ACQUIRE))
        return 0;
    size_t received = endpoint->transport->recv_more(endpoint, messages, count);
    uint64_t bytes = 0;

    for (size_t i = 0; i < received; i++)
        bytes += messages[i].size_bytes;
    nr_count_add(&endpoint->counts->received_messages, received);
    nr_count_add(&endpoint->counts->received_bytes, bytes);
    return received;
}

int naru_recv_many(struct naru_endpoint *endpoint, struct naru_message *messages, size_t count,
                   int64_t timeout_ns)
{
    int result = nr_core_enter(endpoint, NARU_RECEIVER);
    size_t received;

    if (result < 0)
        return result;
    if (!messages || !count || count > INT32_MAX)
        return nr_fail(-EINVAL, "naru_recv_many() takes room for 1 to %d messages, not %zu",
                       INT32_MAX, count);
    for (received = nr_transfer_recv_more(endpoint, messages, count); received < count;) {
        struct naru_message *message = &messages[received];
        struct nr_deadline deadline = nr_deadline_in(received ? 0 : timeout_ns);
        struct nr_in in = {.message = message};
        void *data = message->data;
        size_t capacity_bytes = message->capacity_bytes;

        nr_transfer_clear(message);
        message->data = data;
        message->capacity_bytes = capacity_bytes;
        result = nr_transfer_recv(endpoint, &in, &deadline);
        if (result < 0)
            break;
        received++;
        received += nr_transfer_recv_more(endpoint, message + 1, count - received);
    }
    return received ? (int)received : nr_core_leave(endpoint, result);
}

int naru_send_fds(struct naru_endpoint *endpoint, const void *data, size_t size_bytes,
                  const int *fds, size_t fds_count, int64_t timeout_ns)
{
    struct iovec part = {.iov_base = (void *)data, .iov_len = size_bytes};
    struct nr_out out = {.parts = &part,
                         .parts_count = 1,
                         .size_bytes = size_bytes,
                         .fds = fds,
                         .fds_count = fds_count};

    int result = nr_core_enter(endpoint, NARU_SENDER);
    if (result < 0)
        return result;
    if (!endpoint->transport->passes_fds)
        return nr_fail(-EOPNOTSUPP, "%s passes no descriptors; only unix:// and abstract:// do",
                       endpoint->uri);
    if ((!data && size_bytes) || !fds || fds_count < 1 || fds_count > NR_TRANSFER_FDS_MAX)
        return nr_fail(-EINVAL, "naru_send_fds() takes data and 1 to %d descriptors, not %zu",
                       NR_TRANSFER_FDS_MAX, fds_count);
    return nr_core_leave(endpoint, nr_transfer_send(endpoint, &out, timeout_ns));
}

int naru_recv_fds(struct naru_endpoint *endpoint, void *data, size_t capacity_bytes,
                  size_t *ret_size_bytes, int *fds, size_t *fds_count, int64_t timeout_ns)
{
    struct naru_message message = {.data = data, .capacity_bytes = capacity_bytes};
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);
    struct nr_in in = {.message = &message, .fds = fds};

    int result = nr_core_enter(endpoint, NARU_RECEIVER);
    if (result < 0)
        return result;
    if (!endpoint->transport->passes_fds)
        return nr_fail(-EOPNOTSUPP, "%s passes no descriptors; only unix:// and abstract:// do",
                       endpoint->uri);
    if (!fds || !fds_count || (!data && capacity_bytes))
        return nr_fail(-EINVAL, "naru_recv_fds() needs room for data and descriptors");
    in.fds_capacity = *fds_count;
    result = nr_transfer_recv(endpoint, &in, &deadline);
    if ((result == 0 || result == -EMSGSIZE) && ret_size_bytes)
        *ret_size_bytes = message.size_bytes;
    if (result < 0)
        return nr_core_leave(endpoint, result);
    *fds_count = in.fds_count;
    return message.flags & NARU_TRUNCATED ? 1 : 0;
}
