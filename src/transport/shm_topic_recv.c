/* SPDX-License-Identifier: MIT */
/*
 * shm_topic_recv -- a subscriber's side of a topic
 *
 * What       Lossless: in place; several may be taken ahead, and acknowledged in any order. Overwriting: copied, and
 *            believed if the slot was not claimed again meanwhile.
 * Threads    Those of one endpoint take turns by its lock, which is not held while one waits.
 */
#include "base/relax.h"
#include "data/words.h"
#include "transport/shm_topic.h"

/* message->internal[2] of a take: its position */

enum { NR_SHM_TOPIC_CATCH_UPS = 64 };

/* -- receiving, lossless ------------------------------------------------------------------- */

/* Messages lost since this was told last. */
static uint64_t nr_shm_topic_lost(struct nr_shm *shm)
{
    struct nr_topic_reader *reader = &shm->reader;
    uint64_t dropped = nr_topic_dropped(&shm->topic);
    uint64_t lost = reader->lost + dropped - reader->dropped;

    reader->dropped = dropped;
    reader->lost = 0;
    return lost;
}

static void nr_shm_topic_describe(struct nr_shm *shm, const struct nr_topic_message *from,
                                  struct naru_message *message)
{
    message->size_bytes = from->label.size_bytes;
    message->sequence = from->position;
    message->type = from->label.type;
    message->sender_pid = from->label.sender_pid;
    message->deliveries = from->deliveries ? from->deliveries : 1;
    message->flags = from->deliveries > 1 ? NARU_REDELIVERED : 0;
    message->known = NARU_KNOWS_SEQUENCE | NARU_KNOWS_TYPE | NARU_KNOWS_SENDER_PID |
                     NARU_KNOWS_DELIVERIES | NARU_KNOWS_LOST;
    message->lost = nr_shm_topic_lost(shm);
}

static void nr_shm_topic_pass(struct nr_shm *shm, const struct nr_topic_message *message)
{
    nr_topic_take(&shm->reader, message);
    nr_topic_done(&shm->topic, &shm->reader, message->position);
}

static int nr_shm_topic_too_many(struct nr_shm *shm)
{
    return nr_fail(
        -ENOBUFS,
        "%s: %d messages from the oldest that is held on are in hand; acknowledge that one",
        shm->endpoint.uri, NR_TOPIC_HELD_MOST);
}

/* Longer than any that can be sent here. */
static bool nr_shm_topic_is_damaged(const struct nr_shm *shm,
                                    const struct nr_topic_message *message)
{
    return message->label.size_bytes > shm->endpoint.options.message_size_max_bytes;
}

/* What a look at the next message said, under the lock. 0, or what to give to nr_shm_topic_wait(). */
static int nr_shm_topic_next(struct nr_shm *shm, struct nr_topic_message *ret,
                             uint32_t *ret_blocker)
{
    for (uint32_t left = shm->topic.slots_count + 1; left; left--) {
        int result = nr_topic_next(&shm->topic, &shm->reader, ret, ret_blocker);
        if (result == 0 && nr_shm_topic_is_damaged(shm, ret))
            result = -EBADMSG;
        if (result == -ENOMSG || result == -EBADMSG)
            nr_shm_topic_pass(shm, ret);
        if (result != -ENOMSG)
            return result;
    }
    return -EAGAIN;
}

/* 0: look again; or what the call returns. */
static int nr_shm_topic_wait(struct nr_shm *shm, struct nr_shm_pause *pause, int result,
                             struct nr_deadline *deadline)
{
    if (result == -EBADMSG || result == -EOVERFLOW)
        return nr_shm_damaged(shm);
    if (result == -ENOBUFS)
        return nr_shm_topic_too_many(shm);
    return nr_shm_pause(shm, nr_shm_gate_empty(shm, true), pause, result, deadline);
}

/* Under the lock: to `message`, and done with it. */
static int nr_shm_topic_copy(struct nr_shm *shm, struct naru_message *message,
                             uint32_t *ret_blocker)
{
    struct nr_topic_message next;
    int result = nr_shm_topic_next(shm, &next, ret_blocker);

    if (result < 0)
        return result;
    if (next.label.size_bytes > message->capacity_bytes) {
        message->size_bytes = next.label.size_bytes;
        return -EMSGSIZE;
    }
    if (next.label.size_bytes)
        memcpy(message->data, (const void *)next.payload, next.label.size_bytes);
    nr_shm_topic_describe(shm, &next, message);
    nr_shm_topic_pass(shm, &next);
    return 0;
}

int nr_shm_topic_recv(struct naru_endpoint *endpoint, struct nr_in *in,
                      struct nr_deadline *deadline)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_shm_pause pause = {0};

    nr_party_operate(&shm->party);
    for (;;) {
        nr_lock_take(&endpoint->lock);
        int result = nr_shm_topic_copy(shm, in->message, nr_shm_pause_blocker(&pause, deadline));
        nr_lock_give(&endpoint->lock);
        if (result == -EMSGSIZE)
            return result;
        if (result < 0)
            result = nr_shm_topic_wait(shm, &pause, result, deadline);
        else
            break;
        if (result < 0)
            return result;
    }
    nr_shm_pause_end(shm, &pause);
    nr_shm_wake(shm, nr_shm_gate_full(shm, false));
    return 0;
}

/* -- the short way ------------------------------------------------------------------------- */

typedef int nr_shm_topic_short(struct nr_shm *shm, void *data, size_t capacity_bytes,
                               struct nr_topic_message *next);

/* Under the lock: the size, or whatever says that it was not to be had, with the position in *next. */
static int nr_shm_topic_short_copy(struct nr_shm *shm, void *data, size_t capacity_bytes,
                                   struct nr_topic_message *next)
{
    int result = nr_topic_next(&shm->topic, &shm->reader, next, NULL);

    if (result < 0)
        return result;
    if (nr_shm_topic_is_damaged(shm, next) || next->label.size_bytes > capacity_bytes)
        return -EMSGSIZE;
    memcpy(data, (const void *)next->payload, next->label.size_bytes);
    nr_shm_topic_pass(shm, next);
    return (int)next->label.size_bytes;
}

static int nr_shm_topic_short_locked(struct nr_shm *shm, nr_shm_topic_short *copy, void *data,
                                     size_t capacity_bytes, struct nr_topic_message *next)
{
    nr_lock_scope(&shm->endpoint.lock);
    int result = copy(shm, data, capacity_bytes, next);
    uint64_t lost = result >= 0 ? nr_shm_topic_lost(shm) : 0;

    if (lost)
        nr_count_add(&shm->endpoint.lost_messages, lost);
    return result;
}

/* Looks again without the lock. What is unusual, if only a message that is skipped, is for the long way. */
static inline int nr_shm_topic_try_short(struct nr_shm *shm, nr_shm_topic_short *copy, void *data,
                                         size_t capacity_bytes, int64_t timeout_ns)
{
    struct nr_topic_message next;
    int result = nr_shm_topic_short_locked(shm, copy, data, capacity_bytes, &next);

    if (result == -EAGAIN) {
        int spins = nr_shm_short_spins(shm, timeout_ns);
        for (; spins && !nr_topic_is_there(&shm->topic, next.position); spins--)
            nr_relax();
        if (spins)
            result = nr_shm_topic_short_locked(shm, copy, data, capacity_bytes, &next);
    }
    return result < 0 ? -EAGAIN : result;
}

int nr_shm_topic_recv_short(struct naru_endpoint *endpoint, void *data, size_t capacity_bytes,
                            int64_t timeout_ns)
{
    struct nr_shm *shm = nr_shm_of(endpoint);

    nr_party_operate(&shm->party);
    int result =
        nr_shm_topic_try_short(shm, nr_shm_topic_short_copy, data, capacity_bytes, timeout_ns);
    if (result >= 0)
        nr_shm_wake(shm, nr_shm_gate_full(shm, false));
    return result;
}

/* -- taking ahead -------------------------------------------------------------------------- */

int nr_shm_topic_take(struct naru_endpoint *endpoint, struct naru_message *ret,
                      struct nr_deadline *deadline)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_shm_pause pause = {0};
    struct nr_topic_message next;

    nr_party_operate(&shm->party);
    for (;;) {
        nr_lock_take(&endpoint->lock);
        int result = shm->held >= endpoint->options.held_max
                         ? -ENOBUFS
                         : nr_shm_topic_next(shm, &next, nr_shm_pause_blocker(&pause, deadline));
        if (result == 0) {
            nr_topic_take(&shm->reader, &next);
            nr_shm_topic_describe(shm, &next, ret);
            shm->held++;
        }
        nr_lock_give(&endpoint->lock);
        if (result == 0)
            break;
        result = nr_shm_topic_wait(shm, &pause, result, deadline);
        if (result < 0)
            return result;
    }
    nr_shm_pause_end(shm, &pause);
    ret->data = (void *)next.payload;
    ret->capacity_bytes = ret->size_bytes;
    ret->internal[2] = next.position;
    return 0;
}

int nr_shm_topic_ack(struct naru_endpoint *endpoint, struct naru_message *message)
{
    struct nr_shm *shm = nr_shm_of(endpoint);

    {
        nr_lock_scope(&endpoint->lock);
        nr_topic_done(&shm->topic, &shm->reader, message->internal[2]);
        shm->held--;
    }
    nr_shm_wake(shm, nr_shm_gate_full(shm, false));
    return 0;
}

/* There is no other receiver for this one's messages: it comes again, to this endpoint. */
int nr_shm_topic_requeue(struct naru_endpoint *endpoint, struct naru_message *message)
{
    struct nr_shm *shm = nr_shm_of(endpoint);

    {
        nr_lock_scope(&endpoint->lock);
        nr_topic_give_back(&shm->reader, message->internal[2]);
        shm->held--;
    }
    nr_shm_wake(shm, nr_shm_gate_empty(shm, true)); /* another thread of this endpoint */
    return 0;
}

/* -- receiving, overwriting ---------------------------------------------------------------- */

/* A slot whose owner is dead, and that nobody has repaired: one who can only read goes past it. */
static bool nr_shm_topic_skip(struct nr_shm *shm, uint32_t blocker)
{
    struct nr_topic_message again;
    uint32_t still;

    if (!shm->is_read_only || !nr_party_is_gone(&shm->party, blocker))
        return false;
    if (nr_topic_peek(&shm->topic, shm->reader.next, &again, &still) == -EBUSY && still == blocker)
        shm->reader.next++;
    return true;
}

/* One try to copy the next message. -EOVERFLOW: it was overtaken. */
static int nr_shm_topic_try(struct nr_shm *shm, struct naru_message *message, uint32_t *ret_blocker)
{
    struct nr_topic_message next;
    int result = nr_topic_peek(&shm->topic, shm->reader.next, &next, ret_blocker);

    if (result != 0 && result != -EBADMSG)
        return result;
    if (result == 0 && nr_shm_topic_is_damaged(shm, &next))
        result = -EBADMSG;
    if (result == 0 && next.label.size_bytes > message->capacity_bytes)
        result = -EMSGSIZE;
    if (result == 0)
        nr_words_load(message->data, next.payload, next.label.size_bytes);
    if (!nr_topic_is_intact(&shm->topic, &next))
        return -EOVERFLOW;
    if (result == -EMSGSIZE)
        message->size_bytes = next.label.size_bytes;
    if (result == 0)
        nr_shm_topic_describe(shm, &next, message);
    if (result == -EBADMSG)
        shm->reader.lost++;
    if (result != -EMSGSIZE)
        shm->reader.next++;
    return result;
}

static int nr_shm_topic_copy_newer(struct nr_shm *shm, struct naru_message *message,
                                   uint32_t *ret_blocker)
{
    uint32_t left = shm->topic.slots_count + NR_SHM_TOPIC_CATCH_UPS;

    for (unsigned overtaken = 0; left; left--) {
        int result = nr_shm_topic_try(shm, message, ret_blocker);
        if (result == -EOVERFLOW)
            nr_topic_catch_up(&shm->topic, &shm->reader, overtaken++);
        else if (result == -ENOMSG)
            shm->reader.next++;
        else if (result != -EBUSY || !nr_shm_topic_skip(shm, *ret_blocker))
            return result;
    }
    return -EAGAIN;
}

int nr_shm_topic_recv_newer(struct naru_endpoint *endpoint, struct nr_in *in,
                            struct nr_deadline *deadline)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_shm_pause pause = {0};

    if (!shm->is_read_only)
        nr_party_operate(&shm->party);
    for (;;) {
        nr_lock_take(&endpoint->lock);
        int result =
            nr_shm_topic_copy_newer(shm, in->message, nr_shm_pause_blocker(&pause, deadline));
        nr_lock_give(&endpoint->lock);
        if (result == 0) {
            nr_shm_pause_end(shm, &pause);
            return 0;
        }
        result = nr_shm_topic_wait(shm, &pause, result, deadline);
        if (result < 0)
            return result;
    }
}

/* Under the lock. */
static int nr_shm_topic_short_newer(struct nr_shm *shm, void *data, size_t capacity_bytes,
                                    struct nr_topic_message *next)
{
    uint64_t position = shm->reader.next;
    int result = nr_topic_peek(&shm->topic, position, next, NULL);

    next->position = position;
    if (result < 0)
        return result;
    if (nr_shm_topic_is_damaged(shm, next) || next->label.size_bytes > capacity_bytes)
        return -EMSGSIZE;
    nr_words_load(data, next->payload, next->label.size_bytes);
    if (!nr_topic_is_intact(&shm->topic, next))
        return -EOVERFLOW;
    shm->reader.next++;
    return (int)next->label.size_bytes;
}

int nr_shm_topic_recv_newer_short(struct naru_endpoint *endpoint, void *data, size_t capacity_bytes,
                                  int64_t timeout_ns)
{
    struct nr_shm *shm = nr_shm_of(endpoint);

    if (!shm->is_read_only)
        nr_party_operate(&shm->party);
    return nr_shm_topic_try_short(shm, nr_shm_topic_short_newer, data, capacity_bytes, timeout_ns);
}
