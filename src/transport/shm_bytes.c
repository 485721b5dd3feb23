/* SPDX-License-Identifier: MIT */
/*
 * shm_bytes -- shm:// from one to one, and the ends of a pair
 *
 * What       Records are written and read in place. One loan and one taken message at a time.
 * Ends       Named: the sender's seat counts how often a sender left or died; the receiver tells each once, when
 *            the ring is empty, and then waits for the next. Pair: `closed`, or the peer's pidfd, for good.
 * Death      See data/byte_ring.h.
 */
#include "transport/shm.h"
#include <string.h>

enum {
    NR_SHM_ASK_EVERY = 64
}; /* empty looks without waiting between two questions to the kernel */

bool nr_shm_bytes_may_recv(struct nr_shm *shm)
{
    if (nr_byte_may_peek(&shm->in))
        return true;
    if (shm->kind == NR_SHM_PAIR)
        return __atomic_load_n(&shm->header->closed[!shm->end], __ATOMIC_ACQUIRE);
    return nr_byte_seat_word(&shm->in) != __atomic_load_n(&shm->told, __ATOMIC_RELAXED);
}

/* -- ends ---------------------------------------------------------------------------------- */

static int nr_shm_bytes_died(struct nr_shm *shm)
{
    return nr_fail(-EOWNERDEAD, "%s: the process on the other side has died", shm->endpoint.uri);
}

static int nr_shm_bytes_closed(struct nr_shm *shm)
{
    return nr_fail(-EPIPE, "%s: the other side has closed its end", shm->endpoint.uri);
}

/* Asks for a pair's other side, each time before sleeping and now and then otherwise. */
static int nr_shm_bytes_peer(struct nr_shm *shm, const struct nr_shm_pause *pause)
{
    if (shm->kind != NR_SHM_PAIR)
        return 0;
    if (__atomic_load_n(&shm->header->closed[!shm->end], __ATOMIC_ACQUIRE))
        return nr_shm_bytes_closed(shm);
    bool ask = pause->is_prepared || ++shm->looks % NR_SHM_ASK_EVERY == 0;
    return ask && nr_endpoint_peer_is_dead(&shm->endpoint) ? nr_shm_bytes_died(shm) : 0;
}

/* The ring is empty: is there an end to tell? With `tell` it counts as told. */
static int nr_shm_bytes_ended(struct nr_shm *shm, const struct nr_shm_pause *pause, bool tell)
{
    if (shm->kind == NR_SHM_PAIR)
        return nr_shm_bytes_peer(shm, pause);
    uint64_t word = nr_byte_seat_word(&shm->in), told = shm->told;
    if (word == told)
        return 0;
    if (tell)
        __atomic_store_n(&shm->told, word, __ATOMIC_RELAXED); /* the watcher looks at it */
    return nr_byte_seat_deaths(word) != nr_byte_seat_deaths(told) ? nr_shm_bytes_died(shm)
                                                                  : nr_shm_bytes_closed(shm);
}

/* -- sending ------------------------------------------------------------------------------- */

static int nr_shm_bytes_reserve(struct nr_shm *shm, size_t size_bytes, char **ret,
                                struct nr_deadline *deadline)
{
    struct nr_shm_pause pause = {0};

    if (shm->kind == NR_SHM_PAIR)
        nr_os_futex_arm(&shm->header->death_word);
    else
        nr_party_operate(&shm->party);
    if (shm->is_loaning)
        return nr_fail(-EBUSY,
                       "%s: one loan at a time on a one-to-one channel; commit or cancel it",
                       shm->endpoint.uri);
    if (shm->kind == NR_SHM_PAIR &&
        __atomic_load_n(&shm->header->closed[!shm->end], __ATOMIC_RELAXED))
        return nr_shm_bytes_closed(shm);
    for (;;) {
        int result = nr_byte_reserve(&shm->out, (uint32_t)size_bytes, ret);
        if (result == 0) {
            nr_shm_pause_end(shm, &pause);
            return 0;
        }
        if (result == -EBADMSG)
            return nr_fail(-EBADMSG,
                           "%s: the segment is damaged; remove the channel and make it anew",
                           shm->endpoint.uri);
        int gone = nr_shm_bytes_peer(shm, &pause);
        if (gone < 0)
            return gone;
        result = nr_shm_pause(shm, nr_shm_gate_full(shm, true), &pause, result, deadline);
        if (result < 0)
            return result;
    }
}

int nr_shm_bytes_send(struct nr_shm *shm, const struct nr_out *out, struct nr_deadline *deadline)
{
    char *payload;
    int result = nr_shm_bytes_reserve(shm, out->size_bytes, &payload, deadline);

    if (result < 0)
        return result;
    nr_out_copy(out, 0, payload, out->size_bytes);
    nr_byte_publish(&shm->out, (uint32_t)out->size_bytes, out->type);
    nr_shm_wake(nr_shm_gate_empty(shm, false));
    return 0;
}

int nr_shm_bytes_loan(struct nr_shm *shm, size_t size_bytes, struct naru_message *ret,
                      struct nr_deadline *deadline)
{
    char *payload;
    int result = nr_shm_bytes_reserve(shm, size_bytes, &payload, deadline);

    if (result < 0)
        return result;
    shm->is_loaning = true;
    *ret = (struct naru_message){
        .data = payload,
        .size_bytes = size_bytes,
        .capacity_bytes = size_bytes,
    };
    return 0;
}

int nr_shm_bytes_commit(struct nr_shm *shm, struct naru_message *message)
{
    nr_byte_publish(&shm->out, (uint32_t)message->size_bytes, message->type);
    shm->is_loaning = false;
    nr_shm_wake(nr_shm_gate_empty(shm, false));
    return 0;
}

int nr_shm_bytes_cancel(struct nr_shm *shm, struct naru_message *message)
{
    (void)message;
    shm->is_loaning = false;
    return 0;
}

/* -- receiving ----------------------------------------------------------------------------- */

static int nr_shm_bytes_next(struct nr_shm *shm, struct nr_byte_record *ret,
                             struct nr_deadline *deadline)
{
    struct nr_shm_pause pause = {0};
    bool has_ended = false;

    if (shm->kind == NR_SHM_PAIR)
        nr_os_futex_arm(&shm->header->death_word);
    else
        nr_party_operate(&shm->party);
    if (shm->is_holding)
        return nr_fail(-EBUSY, "%s: one message at a time on a one-to-one channel; acknowledge it",
                       shm->endpoint.uri);
    for (;;) {
        int result = nr_byte_peek(&shm->in, ret);
        if (result == 0) {
            nr_shm_pause_end(shm, &pause);
            return 0;
        }
        if (result == -EBADMSG)
            return nr_fail(-EBADMSG,
                           "%s: the segment is damaged; remove the channel and make it anew",
                           shm->endpoint.uri);
        int ended = nr_shm_bytes_ended(shm, &pause, has_ended);
        if (ended < 0 && has_ended)
            return ended;
        has_ended = ended < 0;
        if (has_ended) /* what it sent before it ended may have come since we looked */
            continue;
        result = nr_shm_pause(shm, nr_shm_gate_empty(shm, true), &pause, result, deadline);
        if (result < 0)
            return result;
    }
}

static void nr_shm_bytes_describe(struct nr_shm *shm, const struct nr_byte_record *record,
                                  struct naru_message *message)
{
    message->size_bytes = record->size_bytes;
    message->type = record->type;
    message->flags = record->is_redelivered ? NARU_REDELIVERED : 0;
    message->deliveries =
        record->is_redelivered ? 2 : 1; /* or more: the ring does not count them */
    message->known = NARU_KNOWS_TYPE | (record->is_redelivered ? 0 : NARU_KNOWS_DELIVERIES);
    nr_byte_taking(&shm->in, record);
}

static void nr_shm_bytes_done(struct nr_shm *shm, size_t size_bytes)
{
    nr_byte_release(&shm->in, (uint32_t)size_bytes);
    nr_shm_wake(nr_shm_gate_full(shm, false));
}

int nr_shm_bytes_recv(struct nr_shm *shm, struct nr_in *in, struct nr_deadline *deadline)
{
    struct naru_message *message = in->message;
    struct nr_byte_record record;
    int result = nr_shm_bytes_next(shm, &record, deadline);

    if (result < 0)
        return result;
    if (record.size_bytes > message->capacity_bytes) {
        message->size_bytes = record.size_bytes;
        return -EMSGSIZE;
    }
    if (record.size_bytes)
        memcpy(message->data, record.payload, record.size_bytes);
    nr_shm_bytes_describe(shm, &record, message);
    nr_shm_bytes_done(shm, record.size_bytes);
    return 0;
}

int nr_shm_bytes_take(struct nr_shm *shm, struct naru_message *ret, struct nr_deadline *deadline)
{
    struct nr_byte_record record;
    int result = nr_shm_bytes_next(shm, &record, deadline);

    if (result < 0)
        return result;
    nr_shm_bytes_describe(shm, &record, ret);
    ret->data = record.payload;
    ret->capacity_bytes = record.size_bytes;
    ret->internal[2] = record.size_bytes;
    shm->is_holding = true;
    return 0;
}

int nr_shm_bytes_ack(struct nr_shm *shm, struct naru_message *message)
{
    shm->is_holding = false;
    nr_shm_bytes_done(shm, message->internal[2]);
    return 0;
}

/* It is still the next one; from now on it is flagged. */
int nr_shm_bytes_requeue(struct nr_shm *shm, struct naru_message *message)
{
    (void)message;
    shm->is_holding = false;
    shm->in.redelivered_until = shm->in.position + 1;
    return 0;
}
