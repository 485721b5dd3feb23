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
    NR_SHM_BYTES_ASK_EVERY =
        64, /* looks in vain, without waiting, between two questions to the kernel */
    NR_SHM_BYTES_RING_BYTES = 256 * 1024, /* default */
};

static bool nr_shm_bytes_may_recv(struct nr_shm *shm)
{
    if (nr_byte_may_peek(&shm->in))
        return true;
    if (nr_shm_is_pair(shm))
        return __atomic_load_n(&shm->header->closed[!shm->end], __ATOMIC_ACQUIRE);
    return nr_byte_seat_word(&shm->in) != __atomic_load_n(&shm->told, __ATOMIC_RELAXED);
}

static bool nr_shm_bytes_may_send(struct nr_shm *shm)
{
    if (nr_shm_is_pair(shm) && __atomic_load_n(&shm->header->closed[!shm->end], __ATOMIC_ACQUIRE))
        return true; /* to be told that it has ended */
    return nr_byte_may_reserve(&shm->out, (uint32_t)shm->lacks_bytes);
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
    if (!nr_shm_is_pair(shm))
        return 0;
    if (__atomic_load_n(&shm->header->closed[!shm->end], __ATOMIC_ACQUIRE))
        return nr_shm_bytes_closed(shm);
    bool ask = pause->is_prepared || ++shm->looks % NR_SHM_BYTES_ASK_EVERY == 0;
    bool is_gone =
        nr_flag_get(&shm->peer_is_gone) || (ask && nr_shm_peer_is_gone(shm, pause->is_prepared));
    return is_gone ? nr_shm_bytes_died(shm) : 0;
}

/* The ring is empty: is there an end to tell? With `tell` it counts as told. */
static int nr_shm_bytes_ended(struct nr_shm *shm, const struct nr_shm_pause *pause, bool tell)
{
    if (nr_shm_is_pair(shm))
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

    if (nr_shm_is_pair(shm))
        nr_os_futex_arm(&shm->header->death_word);
    else
        nr_party_operate(&shm->party);
    if (shm->is_loaning)
        return nr_fail(-EBUSY,
                       "%s: one loan at a time on a one-to-one channel; commit or cancel it",
                       shm->endpoint.uri);
    if (nr_shm_is_pair(shm) && __atomic_load_n(&shm->header->closed[!shm->end], __ATOMIC_RELAXED))
        return nr_shm_bytes_closed(shm);
    for (;;) {
        int result = nr_byte_reserve(&shm->out, (uint32_t)size_bytes, ret);
        if (result == 0) {
            nr_shm_pause_end(shm, &pause);
            return 0;
        }
        if (result == -EBADMSG)
            return nr_shm_damaged(shm);
        int gone = nr_shm_bytes_peer(shm, &pause);
        if (gone < 0)
            return gone;
        result = nr_shm_pause(shm, nr_shm_gate_full(shm, true), &pause, result, deadline);
        if (result < 0)
            return result;
    }
}

static int nr_shm_bytes_send(struct naru_endpoint *endpoint, const struct nr_out *out,
                             struct nr_deadline *deadline)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    char *payload;
    int result = nr_shm_bytes_reserve(shm, out->size_bytes, &payload, deadline);

    if (result < 0)
        return result;
    nr_out_copy(out, 0, payload, out->size_bytes);
    nr_byte_publish(&shm->out, (uint32_t)out->size_bytes, out->type);
    nr_shm_wake(shm, nr_shm_gate_empty(shm, false));
    return 0;
}

static int nr_shm_bytes_loan(struct naru_endpoint *endpoint, size_t size_bytes,
                             struct naru_message *ret, struct nr_deadline *deadline)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
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

static int nr_shm_bytes_commit(struct naru_endpoint *endpoint, struct naru_message *message)
{
    struct nr_shm *shm = nr_shm_of(endpoint);

    nr_byte_publish(&shm->out, (uint32_t)message->size_bytes, message->type);
    shm->is_loaning = false;
    nr_shm_wake(shm, nr_shm_gate_empty(shm, false));
    return 0;
}

static int nr_shm_bytes_cancel(struct naru_endpoint *endpoint, struct naru_message *message)
{
    struct nr_shm *shm = nr_shm_of(endpoint);

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

    if (nr_shm_is_pair(shm))
        nr_os_futex_arm(&shm->header->death_word);
    else
        nr_party_operate(&shm->party);
    if (shm->is_holding)
        return nr_fail(-EBUSY, "%s: one message at a time on a one-to-one channel; acknowledge it",
                       shm->endpoint.uri);
    for (;;) {
        int result = nr_byte_peek(&shm->in, ret);
        if (result == 0 && ret->size_bytes > shm->endpoint.options.message_size_max_bytes)
            result = -EBADMSG;
        if (result == 0) {
            nr_shm_pause_end(shm, &pause);
            return 0;
        }
        if (result == -EBADMSG)
            return nr_shm_damaged(shm);
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
    nr_shm_wake(shm, nr_shm_gate_full(shm, false));
}

static int nr_shm_bytes_recv(struct naru_endpoint *endpoint, struct nr_in *in,
                             struct nr_deadline *deadline)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
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

static int nr_shm_bytes_take(struct naru_endpoint *endpoint, struct naru_message *ret,
                             struct nr_deadline *deadline)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
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

static int nr_shm_bytes_ack(struct naru_endpoint *endpoint, struct naru_message *message)
{
    struct nr_shm *shm = nr_shm_of(endpoint);

    shm->is_holding = false;
    nr_shm_bytes_done(shm, message->internal[2]);
    return 0;
}

/* It is still the next one; from now on it is flagged. */
static int nr_shm_bytes_requeue(struct naru_endpoint *endpoint, struct naru_message *message)
{
    struct nr_shm *shm = nr_shm_of(endpoint);

    (void)message;
    shm->is_holding = false;
    shm->in.redelivered_until = shm->in.position + 1;
    return 0;
}

/* -- the kinds: one to one, and a pair -------------------------------------------------------- */

static int nr_shm_bytes_plan(struct nr_shm_header *header, const struct nr_request *request)
{
    const struct naru_options *options = &request->options;
    uint64_t most = header->message_size_max_bytes;
    uint64_t least = nr_byte_ring_capacity(most, 2);
    uint64_t wanted = options->payload_bytes ? nr_shm_layout_round(options->payload_bytes, 64)
                      : options->capacity_messages
                          ? nr_byte_ring_capacity(most, options->capacity_messages)
                          : NR_SHM_BYTES_RING_BYTES;

    if (options->when_full == NARU_DROP_NEWEST || options->when_full == NARU_OVERWRITE_OLDEST)
        return nr_fail(-EOPNOTSUPP,
                       "%s: when_full: a one-to-one channel blocks or fails; leave "
                       "one_to_one to drop or overwrite",
                       request->text);
    header->ring_bytes = wanted < least ? least : wanted;
    header->held_max = 1;
    return 0;
}

static bool nr_shm_bytes_is_sane(const struct nr_shm_header *header)
{
    return header->ring_bytes % 64 == 0 && header->ring_bytes <= NR_SHM_TOTAL_MOST &&
           header->ring_bytes >= nr_byte_ring_capacity(header->message_size_max_bytes, 2);
}

static uint64_t nr_shm_bytes_bytes(const struct nr_shm_header *header)
{
    return nr_byte_ring_bytes(header->ring_bytes);
}

static uint64_t nr_shm_bytes_pair_bytes(const struct nr_shm_header *header)
{
    return 2 * nr_byte_ring_bytes(header->ring_bytes);
}

static void nr_shm_bytes_view_ring(const struct nr_shm_header *plan, struct nr_byte_ring *ring,
                                   void *memory)
{
    ring->capacity_bytes = plan->ring_bytes;
    ring->at_most_once = plan->delivery == NARU_AT_MOST_ONCE;
    nr_byte_ring_attach(ring, memory);
}

static void nr_shm_bytes_view(struct nr_shm *shm, const struct nr_shm_header *plan, void *memory)
{
    nr_shm_bytes_view_ring(plan, &shm->out, memory);
    nr_shm_bytes_view_ring(plan, &shm->in, memory);
}

static void nr_shm_bytes_pair_view(struct nr_shm *shm, const struct nr_shm_header *plan,
                                   void *memory)
{
    char *first = memory, *second = first + nr_byte_ring_bytes(plan->ring_bytes);

    nr_shm_bytes_view_ring(plan, &shm->out, shm->end ? second : first);
    nr_shm_bytes_view_ring(plan, &shm->in, shm->end ? first : second);
}

/* Takes the place of the role, or names who has it. */
static int nr_shm_bytes_join(struct nr_shm *shm)
{
    bool sends = shm->endpoint.role == NARU_SENDER;
    struct nr_byte_ring *ring = sends ? &shm->out : &shm->in;
    int result = nr_shm_sit(shm, sends ? &ring->shared->sender : &ring->shared->receiver,
                            "is one-to-one", sends ? "sender" : "receiver");

    if (result < 0)
        return result;
    shm->told = nr_byte_seat_word(&shm->in);
    result = nr_byte_ring_sit(ring, sends);
    if (result < 0)
        return nr_fail(-EBADMSG,
                       "%s is damaged (its positions make no sense); remove it with "
                       "`naru unlink`",
                       shm->endpoint.uri);
    shm->endpoint.lost_messages += (uint64_t)result;
    return 0;
}

static int nr_shm_bytes_pair_join(struct nr_shm *shm)
{
    nr_byte_ring_sit(&shm->out, true);
    nr_byte_ring_sit(&shm->in, false);
    return 0;
}

static void nr_shm_bytes_clear(struct nr_shm *shm, unsigned index, bool died)
{
    nr_byte_seat_clear(&shm->in.shared->receiver, index, died);
    nr_byte_seat_clear(&shm->in.shared->sender, index, died);
}

static void nr_shm_bytes_repair(struct nr_shm *shm, unsigned dead)
{
    nr_shm_bytes_clear(shm, dead, true);
}

static void nr_shm_bytes_leave(struct nr_shm *shm)
{
    nr_shm_bytes_clear(shm, shm->party.me, false);
}

static void nr_shm_bytes_pair_leave(struct nr_shm *shm)
{
    __atomic_store_n(&shm->header->closed[shm->end], 1, __ATOMIC_RELEASE);
}

#define NR_SHM_BYTES_TRANSPORT                                                                     \
    {                                                                                              \
        NR_SHM_COMMON, .send = nr_shm_bytes_send, .recv = nr_shm_bytes_recv,                       \
                       .loan = nr_shm_bytes_loan, .commit = nr_shm_bytes_commit,                   \
                       .cancel = nr_shm_bytes_cancel, .take = nr_shm_bytes_take,                   \
                       .ack = nr_shm_bytes_ack, .requeue = nr_shm_bytes_requeue,                   \
    }

const struct nr_shm_kind nr_shm_bytes_kind = {
    .number = NR_SHM_BYTES,
    .pattern = NARU_QUEUE,
    .is_one_to_one = true,
    .roles = 1 << NARU_SENDER | 1 << NARU_RECEIVER,
    .roles_text = "is one-to-one: open it as sender or as receiver",
    .transport = NR_SHM_BYTES_TRANSPORT,
    .plan = nr_shm_bytes_plan,
    .is_sane = nr_shm_bytes_is_sane,
    .bytes = nr_shm_bytes_bytes,
    .view = nr_shm_bytes_view,
    .join = nr_shm_bytes_join,
    .leave = nr_shm_bytes_leave,
    .repair = nr_shm_bytes_repair,
    .may_recv = nr_shm_bytes_may_recv,
    .may_send = nr_shm_bytes_may_send,
};

const struct nr_shm_kind nr_shm_pair_kind = {
    .number = NR_SHM_PAIR,
    .pattern = NARU_QUEUE,
    .is_one_to_one = true,
    .no_participants = true,
    .transport = NR_SHM_BYTES_TRANSPORT,
    .plan = nr_shm_bytes_plan,
    .is_sane = nr_shm_bytes_is_sane,
    .bytes = nr_shm_bytes_pair_bytes,
    .view = nr_shm_bytes_pair_view,
    .join = nr_shm_bytes_pair_join,
    .leave = nr_shm_bytes_pair_leave,
    .may_recv = nr_shm_bytes_may_recv,
    .may_send = nr_shm_bytes_may_send,
};
