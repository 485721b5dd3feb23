/* SPDX-License-Identifier: MIT */
/*
 * shm_slots -- shm:// from many to many
 *
 * What       A payload that fits a slot is copied into it; a larger one, and each loan, stands in a chunk.
 *            Receiving copies from the slot, or from the chunk after the slot was freed; taking always ends
 *            in a chunk, so that what is held never occupies the ring.
 * Death      See data/slot_ring.h. Between publishing and waking: the death word.
 */
#include "transport/shm.h"
#include "base/relax.h"
#include <string.h>

/* message->internal[2] of a loan or a take: its chunk; [3]: a loan's time-out */

enum {
    NR_SHM_SLOTS_CHUNKS = 64, /* defaults */
    NR_SHM_SLOTS_CHUNKS_BYTES = 4 * 1024 * 1024,
    NR_SHM_SLOTS_FOR_HOLDS =
        1, /* one that a receiver can always come to, since whoever has it acknowledges it */
};

static bool nr_shm_slots_may_recv(struct nr_shm *shm)
{
    return nr_slot_may_take(&shm->slots);
}

/* -- sending ------------------------------------------------------------------------------- */

/* The ring is full, and its contract is to make room: the oldest message is lost. */
static int nr_shm_slots_overwrite(struct nr_shm *shm)
{
    struct nr_slot_taken taken;
    uint32_t blocker;
    int result = nr_slot_take(&shm->slots, &taken, &blocker);

    /* Counted before it is gone: who dies in between leaves one too many, not one too few. */
    if (result == 0 || result == -EBADMSG)
        nr_slot_lose(&shm->slots, 1);
    if (result == 0)
        nr_slot_ack(&shm->slots, &taken);
    return result;
}

/* Full: 0 try again, 1 the message is dropped, or what the send returns. */
static int nr_shm_slots_full(struct nr_shm *shm, struct nr_shm_pause *pause, int result,
                             struct nr_deadline *deadline)
{
    uint32_t when_full = shm->endpoint.options.when_full;

    if (result == -EAGAIN && when_full == NARU_DROP_NEWEST) {
        nr_slot_lose(&shm->slots, 1);
        return 1;
    }
    /* As often as a full ring can need it. After that others are faster, or what the memory says is not so. */
    if (result == -EAGAIN && when_full == NARU_OVERWRITE_OLDEST &&
        pause->overwritten++ <= shm->slots.slots_count && nr_shm_slots_overwrite(shm) == 0)
        return 0;
    return nr_shm_pause(shm, nr_shm_gate_full(shm, true), pause, result, deadline);
}

static bool nr_shm_slots_may_send(struct nr_shm *shm)
{
    return nr_slot_may_claim(&shm->slots) &&
           (shm->lacks_bytes <= nr_slot_inline_bytes(&shm->slots) ||
            nr_chunk_may_loan(&shm->slots));
}

static int nr_shm_slots_claim(struct nr_shm *shm, struct nr_slot_claim *ret,
                              struct nr_deadline *deadline)
{
    struct nr_shm_pause pause = {0};

    for (;;) {
        int result = nr_slot_claim(&shm->slots, ret, &pause.blocker);
        if (result == 0) {
            nr_shm_pause_end(shm, &pause);
            return 0;
        }
        result = nr_shm_slots_full(shm, &pause, result, deadline);
        if (result != 0)
            return result;
    }
}

static int nr_shm_slots_chunk(struct nr_shm *shm, uint32_t *ret, struct nr_deadline *deadline)
{
    struct nr_shm_pause pause = {0};

    for (;;) {
        *ret = nr_chunk_loan(&shm->slots);
        if (*ret != NR_SLOT_NO_CHUNK) {
            nr_shm_pause_end(shm, &pause);
            return 0;
        }
        int result = nr_shm_slots_full(shm, &pause, -EAGAIN, deadline);
        if (result != 0)
            return result;
    }
}

static void nr_shm_slots_describe_chunk(struct nr_shm *shm, uint32_t index, size_t size_bytes,
                                        int64_t type)
{
    struct nr_chunk *chunk = nr_chunk_at(&shm->slots, index);

    chunk->size_bytes = (uint32_t)size_bytes;
    chunk->sender_pid = shm->pid;
    chunk->type = type;
    chunk->deliveries = 0;
}

static void nr_shm_slots_free_chunk(struct nr_shm *shm, uint32_t index)
{
    nr_chunk_free(&shm->slots, index);
    nr_shm_wake(shm, nr_shm_gate_full(shm, false));
}

static int nr_shm_slots_send_large(struct nr_shm *shm, const struct nr_out *out,
                                   struct nr_deadline *deadline)
{
    struct nr_slot_claim claim;
    uint32_t chunk;
    int result = nr_shm_slots_chunk(shm, &chunk, deadline);

    if (result != 0)
        return result < 0 ? result : 0;
    nr_out_copy(out, 0, nr_chunk_at(&shm->slots, chunk)->payload, out->size_bytes);
    nr_shm_slots_describe_chunk(shm, chunk, out->size_bytes, out->type);
    result = nr_shm_slots_claim(shm, &claim, deadline);
    if (result != 0) {
        nr_shm_slots_free_chunk(shm, chunk);
        return result < 0 ? result : 0;
    }
    nr_slot_publish(&shm->slots, &claim, chunk);
    nr_shm_wake(shm, nr_shm_gate_empty(shm, false));
    return 0;
}

static int nr_shm_slots_send(struct naru_endpoint *endpoint, const struct nr_out *out,
                             struct nr_deadline *deadline)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_slot_claim claim;

    nr_party_operate(&shm->party);
    if (out->size_bytes > nr_slot_inline_bytes(&shm->slots))
        return nr_shm_slots_send_large(shm, out, deadline);
    int result = nr_shm_slots_claim(shm, &claim, deadline);
    if (result != 0)
        return result < 0 ? result : 0;
    claim.slot->size_bytes = (uint32_t)out->size_bytes;
    claim.slot->sender_pid = shm->pid;
    claim.slot->type = out->type;
    nr_out_copy(out, 0, claim.slot->payload, out->size_bytes);
    nr_slot_publish(&shm->slots, &claim, NR_SLOT_NO_CHUNK);
    nr_shm_wake(shm, nr_shm_gate_empty(shm, false));
    return 0;
}

static int nr_shm_slots_send_short(struct naru_endpoint *endpoint, const void *data,
                                   size_t size_bytes, int64_t timeout_ns, nr_send_way *otherwise)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_slot_claim claim;
    uint32_t blocker;

    nr_party_operate(&shm->party);
    if (size_bytes > nr_slot_inline_bytes(&shm->slots) ||
        nr_slot_claim(&shm->slots, &claim, &blocker) != 0)
        return otherwise(endpoint, data, size_bytes, timeout_ns);
    claim.slot->size_bytes = (uint32_t)size_bytes;
    claim.slot->sender_pid = shm->pid;
    claim.slot->type = 0;
    memcpy(claim.slot->payload, data, size_bytes);
    nr_slot_publish(&shm->slots, &claim, NR_SLOT_NO_CHUNK);
    nr_shm_wake(shm, nr_shm_gate_empty(shm, false));
    return nr_endpoint_sent(endpoint, size_bytes);
}

static int nr_shm_slots_loan(struct naru_endpoint *endpoint, size_t size_bytes,
                             struct naru_message *ret, struct nr_deadline *deadline)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    uint32_t index;

    nr_party_operate(&shm->party);
    int result = nr_shm_slots_chunk(shm, &index, deadline);
    if (result != 0)
        return result < 0
                   ? result
                   : nr_fail(-ENOBUFS, "%s: no chunk is free for a loan; its contract is to drop",
                             shm->endpoint.uri);
    *ret = (struct naru_message){
        .data = nr_chunk_at(&shm->slots, index)->payload,
        .size_bytes = size_bytes,
        .capacity_bytes = size_bytes,
        .internal = {0, 0, index, (uint64_t)deadline->timeout_ns},
    };
    return 0;
}

static int nr_shm_slots_commit(struct naru_endpoint *endpoint, struct naru_message *message)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_deadline deadline = nr_deadline_in((int64_t)message->internal[3]);
    uint32_t chunk = (uint32_t)message->internal[2];
    struct nr_slot_claim claim;

    nr_party_operate(&shm->party);
    nr_shm_slots_describe_chunk(shm, chunk, message->size_bytes, message->type);
    int result = nr_shm_slots_claim(shm, &claim, &deadline);
    if (result < 0)
        return result;
    if (result > 0) { /* dropped, as the contract says */
        nr_shm_slots_free_chunk(shm, chunk);
        return 0;
    }
    nr_slot_publish(&shm->slots, &claim, chunk);
    nr_shm_wake(shm, nr_shm_gate_empty(shm, false));
    return 0;
}

static int nr_shm_slots_cancel(struct naru_endpoint *endpoint, struct naru_message *message)
{
    struct nr_shm *shm = nr_shm_of(endpoint);

    nr_shm_slots_free_chunk(shm, (uint32_t)message->internal[2]);
    return 0;
}

/* -- receiving ----------------------------------------------------------------------------- */

static bool nr_shm_slots_look(struct nr_shm *shm, struct nr_shm_pause *pause)
{
    (void)pause;
    return nr_slot_may_take(&shm->slots);
}

static int nr_shm_slots_damaged(struct nr_shm *shm)
{
    return nr_fail(-EBADMSG,
                   "%s: a message was damaged in the segment and is dropped; some "
                   "process writes where it should not",
                   shm->endpoint.uri);
}

static int nr_shm_slots_next(struct nr_shm *shm, struct nr_slot_taken *ret,
                             struct nr_deadline *deadline)
{
    struct nr_shm_pause pause = {.look = nr_shm_slots_look};

    nr_party_operate(&shm->party);
    for (;;) {
        int result = nr_slot_take(&shm->slots, ret, nr_shm_pause_blocker(&pause, deadline));
        if (result == 0 && ret->size_bytes > shm->endpoint.options.message_size_max_bytes) {
            nr_slot_ack(&shm->slots, ret);
            result = -EBADMSG;
        }
        if (result == 0) {
            nr_shm_pause_end(shm, &pause);
            return 0;
        }
        if (result == -EBADMSG)
            return nr_shm_slots_damaged(shm);
        result = nr_shm_pause(shm, nr_shm_gate_empty(shm, true), &pause, result, deadline);
        if (result < 0)
            return result;
    }
}

static void nr_shm_slots_describe(struct nr_shm *shm, const struct nr_slot_taken *taken,
                                  struct naru_message *message)
{
    message->size_bytes = taken->size_bytes;
    message->sequence = taken->position;
    message->type = taken->type;
    message->sender_pid = taken->sender_pid;
    message->deliveries = taken->deliveries;
    message->flags = taken->is_redelivered ? NARU_REDELIVERED : 0;
    message->lost = nr_slot_lost(&shm->slots);
    message->known = NARU_KNOWS_SEQUENCE | NARU_KNOWS_TYPE | NARU_KNOWS_SENDER_PID |
                     NARU_KNOWS_DELIVERIES | NARU_KNOWS_LOST;
}

static int nr_shm_slots_recv(struct naru_endpoint *endpoint, struct nr_in *in,
                             struct nr_deadline *deadline)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct naru_message *message = in->message;
    struct nr_slot_taken taken;
    int result = nr_shm_slots_next(shm, &taken, deadline);

    if (result < 0)
        return result;
    if (taken.size_bytes >
        message->capacity_bytes) { /* it stays where it is, for whoever has room */
        message->size_bytes = taken.size_bytes;
        nr_slot_return(&shm->slots, &taken, false);
        nr_shm_wake(shm, nr_shm_gate_empty(shm, true));
        return -EMSGSIZE;
    }
    if (taken.size_bytes)
        memcpy(message->data, taken.payload, taken.size_bytes);
    nr_shm_slots_describe(shm, &taken, message);
    nr_slot_ack(&shm->slots, &taken);
    nr_shm_wake(shm, nr_shm_gate_full(shm, false));
    return 0;
}

/* What is too large is for the long way, which says so: it is put back for that. */
static int nr_shm_slots_recv_short(struct naru_endpoint *endpoint, void *data,
                                   size_t capacity_bytes, int64_t timeout_ns)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_slot_taken taken;

    nr_party_operate(&shm->party);
    int result = nr_slot_take(&shm->slots, &taken, NULL);
    if (result == -EAGAIN) {
        int spins = nr_shm_short_spins(shm, timeout_ns);
        for (; spins && !nr_slot_may_take(&shm->slots); spins--)
            nr_relax();
        result = spins ? nr_slot_take(&shm->slots, &taken, NULL) : -EAGAIN;
    }
    if (result < 0)
        return result == -EBADMSG ? nr_shm_slots_damaged(shm) : -EAGAIN;
    if (taken.size_bytes > capacity_bytes ||
        taken.size_bytes > shm->endpoint.options.message_size_max_bytes) {
        nr_slot_return(&shm->slots, &taken, false);
        nr_shm_wake(shm, nr_shm_gate_empty(shm, true));
        return -EAGAIN;
    }
    memcpy(data, taken.payload, taken.size_bytes);
    uint64_t lost = nr_slot_lost(&shm->slots);
    if (lost)
        nr_count_add(&shm->endpoint.lost_messages, lost);
    nr_slot_ack(&shm->slots, &taken);
    nr_shm_wake(shm, nr_shm_gate_full(shm, false));
    return (int)taken.size_bytes;
}

static int nr_shm_slots_too_many(struct nr_shm *shm)
{
    return nr_fail(
        -ENOBUFS,
        "%s: %u messages are held unacknowledged, and there is no place for one more; "
        "acknowledge some, or create the channel with a larger held_max and payload_bytes",
        shm->endpoint.uri, __atomic_load_n(&shm->held, __ATOMIC_RELAXED));
}

static int nr_shm_slots_take(struct naru_endpoint *endpoint, struct naru_message *ret,
                             struct nr_deadline *deadline)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_slot_taken taken;

    if (__atomic_load_n(&shm->held, __ATOMIC_RELAXED) >= shm->endpoint.options.held_max)
        return nr_shm_slots_too_many(shm);
    int result = nr_shm_slots_next(shm, &taken, deadline);
    if (result < 0)
        return result;
    bool was_in_slot = taken.slot;
    if (nr_slot_hold(&shm->slots, &taken) < 0) {
        nr_slot_return(&shm->slots, &taken, false);
        nr_shm_wake(shm, nr_shm_gate_empty(shm, true));
        /* Unless a dead hand has it: then that is what comes next. */
        return nr_party_sweep(&shm->party, true) ? nr_shm_slots_take(endpoint, ret, deadline)
                                                 : nr_shm_slots_too_many(shm);
    }
    if (was_in_slot)
        nr_shm_wake(shm, nr_shm_gate_full(shm, false));
    __atomic_fetch_add(&shm->held, 1, __ATOMIC_RELAXED);
    nr_shm_slots_describe(shm, &taken, ret);
    ret->data = nr_chunk_at(&shm->slots, taken.chunk)->payload;
    ret->capacity_bytes = taken.size_bytes;
    ret->internal[2] = taken.chunk;
    return 0;
}

static int nr_shm_slots_held(struct nr_shm *shm, const struct naru_message *message,
                             struct nr_slot_taken *ret)
{
    if (!nr_slot_held(&shm->slots, (uint32_t)message->internal[2], ret))
        return nr_fail(-EINVAL, "%s: this message is not held by this endpoint", shm->endpoint.uri);
    __atomic_fetch_sub(&shm->held, 1, __ATOMIC_RELAXED);
    return 0;
}

static int nr_shm_slots_ack(struct naru_endpoint *endpoint, struct naru_message *message)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_slot_taken taken;
    int result = nr_shm_slots_held(shm, message, &taken);

    if (result == 0)
        nr_shm_slots_free_chunk(shm, taken.chunk);
    return result;
}

static int nr_shm_slots_requeue(struct naru_endpoint *endpoint, struct naru_message *message)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_slot_taken taken;
    int result = nr_shm_slots_held(shm, message, &taken);

    if (result == 0) {
        nr_slot_return(&shm->slots, &taken, true);
        nr_shm_wake(shm, nr_shm_gate_empty(shm, true));
    }
    return result;
}

/* -- the kind -------------------------------------------------------------------------------- */

static int nr_shm_slots_plan(struct nr_shm_header *header, const struct nr_request *request)
{
    const struct naru_options *options = &request->options;
    uint64_t most = header->message_size_max_bytes;
    uint64_t chunk = nr_shm_layout_round(most ? most : 1, 64);
    uint64_t chunks = NR_SHM_SLOTS_CHUNKS_BYTES / chunk;

    header->slots_count = nr_shm_layout_power_of_two(header->capacity_messages);
    header->slot_bytes = most <= 64 - NR_SLOT_HEADER_BYTES ? 64 : 128;
    header->chunk_bytes = chunk;
    if (options->payload_bytes)
        chunks = options->payload_bytes / chunk;
    else if (chunks > NR_SHM_SLOTS_CHUNKS)
        chunks = NR_SHM_SLOTS_CHUNKS;
    header->chunks_count = (uint32_t)(chunks < 2 ? 2 : chunks);
    header->held_max = options->held_max ? options->held_max : header->chunks_count;
    header->chunks_count += NR_SHM_SLOTS_FOR_HOLDS;
    return 0;
}

static struct nr_slot_ring nr_shm_slots_sizes(const struct nr_shm_header *header)
{
    return (struct nr_slot_ring){
        .slots_count = header->slots_count,
        .slot_bytes = header->slot_bytes,
        .chunks_count = header->chunks_count,
        .chunks_for_holds = NR_SHM_SLOTS_FOR_HOLDS,
        .chunk_bytes = header->chunk_bytes,
        .at_most_once = header->delivery == NARU_AT_MOST_ONCE,
    };
}

static uint64_t nr_shm_slots_bytes(const struct nr_shm_header *header)
{
    struct nr_slot_ring sizes = nr_shm_slots_sizes(header);

    return nr_slot_ring_bytes(&sizes);
}

static bool nr_shm_slots_is_sane(const struct nr_shm_header *header)
{
    return header->slots_count > 0 && header->slots_count <= NR_SHM_SLOTS_MOST &&
           !(header->slots_count & (header->slots_count - 1)) && header->slot_bytes >= 64 &&
           header->slot_bytes <= 4096 && header->slot_bytes % 64 == 0 &&
           header->chunk_bytes % 64 == 0 && header->chunk_bytes <= NR_SHM_TOTAL_MOST &&
           header->chunks_count >= 2 && header->chunks_count <= NR_SHM_SLOTS_MOST &&
           header->chunk_bytes >= header->message_size_max_bytes;
}

static void nr_shm_slots_view(struct nr_shm *shm, const struct nr_shm_header *plan, void *memory)
{
    shm->slots = nr_shm_slots_sizes(plan);
    nr_slot_ring_attach(&shm->slots, memory);
}

static int nr_shm_slots_join(struct nr_shm *shm)
{
    shm->slots.me = shm->party.me;
    return 0;
}

static void nr_shm_slots_repair(struct nr_shm *shm, unsigned dead)
{
    if (shm->slots.me != shm->party.me) /* it is joining, and looks for the dead before all else */
        shm->slots.me = shm->party.me;
    nr_slot_repair(&shm->slots, dead);
}

/* What it still holds goes back. */
static void nr_shm_slots_leave(struct nr_shm *shm)
{
    nr_slot_repair(&shm->slots, shm->party.me);
}

static void nr_shm_slots_stat(struct nr_shm *shm, struct naru_stat *stat)
{
    stat->queued_messages = nr_slot_queued(&shm->slots);
    stat->known |= NARU_STAT_QUEUED;
}

const struct nr_shm_kind nr_shm_slots_kind = {
    .number = NR_SHM_SLOTS,
    .pattern = NARU_QUEUE,
    .roles = 1 << NARU_SENDER | 1 << NARU_RECEIVER | 1 << NARU_BOTH,
    .transport =
        {
            NR_SHM_COMMON,
            .send = nr_shm_slots_send,
            .send_short = nr_shm_slots_send_short,
            .recv_short = nr_shm_slots_recv_short,
            .recv = nr_shm_slots_recv,
            .loan = nr_shm_slots_loan,
            .commit = nr_shm_slots_commit,
            .cancel = nr_shm_slots_cancel,
            .take = nr_shm_slots_take,
            .ack = nr_shm_slots_ack,
            .requeue = nr_shm_slots_requeue,
        },
    .plan = nr_shm_slots_plan,
    .is_sane = nr_shm_slots_is_sane,
    .bytes = nr_shm_slots_bytes,
    .view = nr_shm_slots_view,
    .join = nr_shm_slots_join,
    .leave = nr_shm_slots_leave,
    .repair = nr_shm_slots_repair,
    .may_recv = nr_shm_slots_may_recv,
    .may_send = nr_shm_slots_may_send,
    .stat = nr_shm_slots_stat,
};
