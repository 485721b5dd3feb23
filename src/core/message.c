/* SPDX-License-Identifier: MIT */
/*
 * message -- loans and takes, and the endpoint's figures
 *
 * What       A transport with a memory of its own lends in place. For the others this file lends from the
 *            heap, with the same rules, and sends or receives when the loan or take says so.
 * Ownership  message->internal says what a message is: a loan or a take, of this endpoint; so that one
 *            that was given back already, or belongs elsewhere, is refused.
 */
#include "core/core.h"
#include "transport/table.h"
#include <stdlib.h>
#include <string.h>

enum { NR_MESSAGE_ROOM_BYTES = 64 * 1024 }; /* what naru_take() offers before it knows the size */

/* internal[0]: what it is; [1]: of which endpoint; [2]: a loan's time-out, a take's room */
int nr_message_check(const struct naru_endpoint *endpoint, const struct naru_message *message,
                     uint64_t kind)
{
    if (message && message->internal[0] == kind &&
        message->internal[1] == (uint64_t)(uintptr_t)endpoint)
        return 0;
    return nr_fail(-EINVAL, "this is no message %s from %s, or it was given back already",
                   kind == NR_MESSAGE_LOANED ? "loaned" : "taken", endpoint->uri);
}

/* A loan, as it is about to be sent. */
int nr_message_check_loan(const struct naru_endpoint *endpoint, const struct naru_message *message)
{
    int result = nr_message_check(endpoint, message, NR_MESSAGE_LOANED);

    if (result == 0 && message->size_bytes > message->capacity_bytes)
        return nr_fail(-EINVAL, "the loan was of %zu bytes, and the message is to have %zu",
                       message->capacity_bytes, message->size_bytes);
    return result;
}

static void nr_message_mark(struct naru_endpoint *endpoint, struct naru_message *message,
                            uint64_t kind)
{
    message->internal[0] = kind;
    message->internal[1] = (uint64_t)(uintptr_t)endpoint;
}

void nr_message_forget(struct naru_message *message)
{
    message->internal[0] = 0;
    message->data = NULL;
}

/* Memory that goes into the user's hand is noted, so that naru_close() can free what is still there. */
static int nr_message_lend(struct naru_endpoint *endpoint, void *memory)
{
    nr_lock_scope(&endpoint->lock);
    if (endpoint->lent_count == endpoint->lent_room) {
        unsigned room = endpoint->lent_room ? endpoint->lent_room * 2 : 8;
        void **lent = realloc(endpoint->lent, room * sizeof *lent);
        if (!lent)
            return nr_fail(-ENOMEM, "no memory to remember a message in hand");
        endpoint->lent = lent;
        endpoint->lent_room = room;
    }
    endpoint->lent[endpoint->lent_count++] = memory;
    return 0;
}

/* It came back: the caller's now. */
static void *nr_message_return(struct naru_endpoint *endpoint, void *memory)
{
    nr_lock_scope(&endpoint->lock);
    for (unsigned i = endpoint->lent_count; i-- > 0;) {
        if (endpoint->lent[i] != memory)
            continue;
        endpoint->lent[i] = endpoint->lent[--endpoint->lent_count];
        break;
    }
    return memory;
}

int naru_loan(struct naru_endpoint *endpoint, size_t size_bytes, struct naru_message *ret_message,
              int64_t timeout_ns)
{
    struct naru_message message = {.size_bytes = size_bytes, .capacity_bytes = size_bytes};
    int result = nr_core_enter(endpoint, NARU_SENDER);

    if (result < 0)
        return result;
    if (!ret_message)
        return nr_fail(-EINVAL, "naru_loan() needs a place for the message");
    if (size_bytes > endpoint->options.message_size_max_bytes)
        return nr_fail(-EMSGSIZE, "%s: a loan of %zu bytes, and the channel carries at most %zu",
                       endpoint->uri, size_bytes, endpoint->options.message_size_max_bytes);
    if (endpoint->transport->loan) {
        struct nr_deadline deadline = nr_deadline_in(timeout_ns);
        result = endpoint->transport->loan(endpoint, size_bytes, &message, &deadline);
        nr_core_arm_send(endpoint, result, size_bytes);
        if (result < 0)
            return nr_core_failed(endpoint, result);
    } else {
        message.data = malloc(size_bytes ? size_bytes : 1);
        if (!message.data)
            return nr_fail(-ENOMEM, "no memory for a loan of %zu bytes", size_bytes);
        result = nr_message_lend(endpoint, message.data);
        if (result < 0) {
            free(message.data);
            return result;
        }
        message.internal[2] = (uint64_t)timeout_ns;
    }
    nr_message_mark(endpoint, &message, NR_MESSAGE_LOANED);
    nr_count_add(&endpoint->counts->loans, 1);
    *ret_message = message;
    return 0;
}

int naru_commit(struct naru_endpoint *endpoint, struct naru_message *message)
{
    int result = nr_core_enter(endpoint, NARU_SENDER);

    if (result == 0)
        result = nr_message_check_loan(endpoint, message);
    if (result < 0)
        return result;
    if (endpoint->transport->commit) {
        size_t size_bytes = message->size_bytes;
        result = endpoint->transport->commit(endpoint, message);
        nr_core_arm_send(endpoint, result, size_bytes);
        if (result < 0)
            return nr_core_failed(endpoint, result);
        nr_count_add(&endpoint->counts->sent_messages, 1);
        nr_count_add(&endpoint->counts->sent_bytes, size_bytes);
    } else {
        struct iovec part = {message->data, message->size_bytes};
        result = naru_sendv(endpoint, &part, 1, message, (int64_t)message->internal[2]);
        if (result < 0)
            return result;
        free(nr_message_return(endpoint, message->data));
    }
    nr_count_subtract(&endpoint->counts->loans, 1);
    nr_message_forget(message);
    return 0;
}

int naru_cancel(struct naru_endpoint *endpoint, struct naru_message *message)
{
    int result = nr_core_enter(endpoint, NARU_SENDER);

    if (result == 0)
        result = nr_message_check(endpoint, message, NR_MESSAGE_LOANED);
    if (result < 0)
        return result;
    if (endpoint->transport->cancel)
        result = endpoint->transport->cancel(endpoint, message);
    else
        free(nr_message_return(endpoint, message->data));
    nr_count_subtract(&endpoint->counts->loans, 1);
    nr_message_forget(message);
    return nr_core_leave(endpoint, result);
}

/* One buffer is left over from message to message, so that a loop of take and ack does not allocate. */
static void *nr_message_buffer_get(struct naru_endpoint *endpoint, size_t *ret_bytes)
{
    nr_lock_scope(&endpoint->lock);
    void *buffer = endpoint->spare;
    *ret_bytes = endpoint->spare_bytes;

    endpoint->spare = NULL;
    if (buffer)
        return buffer;
    size_t most_bytes = endpoint->options.message_size_max_bytes;
    *ret_bytes =
        most_bytes && most_bytes < NR_MESSAGE_ROOM_BYTES ? most_bytes : NR_MESSAGE_ROOM_BYTES;
    return malloc(*ret_bytes);
}

static void nr_message_buffer_put(struct naru_endpoint *endpoint, void *buffer, size_t bytes)
{
    if (bytes <= NR_MESSAGE_ROOM_BYTES) {
        nr_lock_scope(&endpoint->lock);
        if (!endpoint->spare) {
            endpoint->spare = buffer;
            endpoint->spare_bytes = bytes;
            return;
        }
    }
    free(buffer);
}

/* Receives into a buffer of the endpoint's. A message that is larger brings its own, or stays where it is and
   tells how much room it needs. */
static int nr_message_take_copy(struct naru_endpoint *endpoint, struct naru_message *message,
                                struct nr_deadline *deadline)
{
    struct nr_in in = {.message = message};
    struct nr_kept *kept = nr_kept_pop(endpoint, SIZE_MAX, NULL);

    if (kept) {
        *message = kept->message;
        message->capacity_bytes = message->size_bytes;
        free(kept);
        return 0;
    }
    message->data = nr_message_buffer_get(endpoint, &message->capacity_bytes);
    for (;;) {
        if (!message->data)
            return nr_fail(-ENOMEM, "no memory to receive into");
        int result = endpoint->transport->recv(endpoint, &in, deadline);
        if (result == 0)
            return 0;
        nr_message_buffer_put(endpoint, message->data, message->capacity_bytes);
        if (result != -EMSGSIZE)
            return result;
        message->capacity_bytes = message->size_bytes;
        message->data = in.spill ? in.spill : malloc(message->size_bytes);
        if (in.spill)
            return 0;
    }
}

int naru_take(struct naru_endpoint *endpoint, struct naru_message *ret_message, int64_t timeout_ns)
{
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);
    struct naru_message message = {0};
    int result = nr_core_enter(endpoint, NARU_RECEIVER);

    if (result < 0)
        return result;
    if (!ret_message)
        return nr_fail(-EINVAL, "naru_take() needs a place for the message");
    result = endpoint->transport->take ? endpoint->transport->take(endpoint, &message, &deadline)
                                       : nr_message_take_copy(endpoint, &message, &deadline);
    if (result < 0) {
        nr_core_arm(endpoint, result);
        return nr_core_failed(endpoint, result);
    }
    nr_count_add(&endpoint->counts->received_messages, 1);
    nr_count_add(&endpoint->counts->received_bytes, message.size_bytes);
    if (message.lost)
        nr_count_add(&endpoint->lost_messages, message.lost);
    if (!endpoint->transport->take) {
        message.internal[2] = message.capacity_bytes;
        result = nr_message_lend(endpoint, message.data);
        if (result < 0) { /* what came is not lost */
            nr_kept_push(endpoint, &message, true);
            return result;
        }
    }
    nr_message_mark(endpoint, &message, NR_MESSAGE_TAKEN);
    nr_count_add(&endpoint->counts->held, 1);
    *ret_message = message;
    return 0;
}

int naru_ack(struct naru_endpoint *endpoint, struct naru_message *message)
{
    int result = nr_core_enter(endpoint, NARU_RECEIVER);

    if (result == 0)
        result = nr_message_check(endpoint, message, NR_MESSAGE_TAKEN);
    if (result < 0)
        return result;
    if (endpoint->transport->reply)
        return nr_fail(-EOPNOTSUPP,
                       "%s: somebody waits for an answer: naru_reply(), "
                       "naru_reply_error(), or naru_requeue() for another server",
                       endpoint->uri);
    if (endpoint->transport->take)
        result = endpoint->transport->ack(endpoint, message);
    else
        nr_message_buffer_put(endpoint, nr_message_return(endpoint, message->data),
                              message->internal[2]);
    nr_count_subtract(&endpoint->counts->held, 1);
    nr_message_forget(message);
    return nr_core_leave(endpoint, result);
}

int naru_requeue(struct naru_endpoint *endpoint, struct naru_message *message)
{
    int result = nr_core_enter(endpoint, NARU_RECEIVER);

    if (result == 0)
        result = nr_message_check(endpoint, message, NR_MESSAGE_TAKEN);
    if (result < 0)
        return result;
    if (endpoint->transport->take) {
        result = endpoint->transport->requeue(endpoint, message);
    } else {
        struct naru_message kept = *message;
        kept.flags |= NARU_REDELIVERED;
        kept.deliveries += kept.deliveries ? 1 : 2;
        kept.known |= NARU_KNOWS_DELIVERIES;
        kept.internal[0] = 0;
        result = nr_kept_push(endpoint, &kept, true);
        if (result == 0)
            nr_message_return(endpoint, message->data);
    }
    if (result < 0)
        return nr_core_failed(endpoint, result);
    nr_count_subtract(&endpoint->counts->held, 1);
    nr_message_forget(message);
    return 0;
}

int naru_stat(struct naru_endpoint *endpoint, struct naru_stat *stat)
{
    int result = nr_core_enter(endpoint, 0);

    if (result < 0)
        return result;
    if (!stat || stat->size_bytes < sizeof *stat)
        return nr_fail(-EINVAL, "set stat.size_bytes to sizeof(struct naru_stat)");
    struct naru_stat filled = {
        .size_bytes = sizeof filled,
        .role = endpoint->role,
        .pattern = endpoint->options.pattern,
        .when_full = endpoint->options.when_full ? endpoint->options.when_full : NARU_BLOCK,
        .delivery = endpoint->options.delivery ? endpoint->options.delivery : NARU_AT_MOST_ONCE,
        .message_size_max_bytes = endpoint->options.message_size_max_bytes,
        .capacity_messages = endpoint->options.capacity_messages,
        .sent_messages = nr_count_get(&endpoint->counts->sent_messages),
        .sent_bytes = nr_count_get(&endpoint->counts->sent_bytes),
        .received_messages = nr_count_get(&endpoint->counts->received_messages),
        .received_bytes = nr_count_get(&endpoint->counts->received_bytes),
        .lost_messages = nr_count_get(&endpoint->lost_messages),
    };
    memcpy(filled.scheme, endpoint->transport->scheme, strlen(endpoint->transport->scheme));
    if (endpoint->transport->stat)
        result = endpoint->transport->stat(endpoint, &filled);
    if (result < 0)
        return nr_core_failed(endpoint, result);
    *stat = filled;
    return 0;
}

int naru_stat_participant(struct naru_endpoint *endpoint, size_t index,
                          struct naru_participant *participant)
{
    int result = nr_core_enter(endpoint, 0);

    if (result < 0)
        return result;
    if (!participant || participant->size_bytes < sizeof *participant)
        return nr_fail(-EINVAL, "set participant.size_bytes to sizeof(struct naru_participant)");
    if (!endpoint->transport->stat_participant)
        return nr_fail(-EOPNOTSUPP, "%s: who takes part is known in named channels of shm:// alone",
                       endpoint->uri);
    struct naru_participant filled = {.size_bytes = participant->size_bytes};
    result = endpoint->transport->stat_participant(endpoint, index, &filled);
    if (result == 0)
        *participant = filled;
    return nr_core_leave(endpoint, result);
}
