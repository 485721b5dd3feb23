/* SPDX-License-Identifier: MIT */
/*
 * slot_ring -- every committed message arrives, once unless flagged or counted as lost, in each sender's order, and nothing
 *              leaks, whoever dies where
 *
 * Senders and receivers do what transport/shm_slots.c does. Two slots and two messages a sender, so that slots are
 * used again.
 */
#include "data/slot_ring.h"
#include "model.h"
#include <errno.h>
#include <string.h>

enum {
    SLOTS = 2,
    CHUNKS = 2,
    MESSAGES = 2,
    SENDERS = 2,
    OBSERVER = MODEL_PROCESSES, /* who looks afterwards */
    /* variants */
    IN_CHUNKS = 1,
    AT_MOST_ONCE = 2,
    HOLDING = 4,
    ONE_SENDER = 8,
    OVERWRITING = 16,
    MIXED = 64,  /* every second message in a chunk */
    UNEVEN = 32, /* the second sender sends one message: a third of the states of two each */
};

static struct nr_slot_ring_shared *const shared = (void *)model_shared;

static struct {
    struct nr_slot_ring rings[OBSERVER + 1];
    struct message {
        uint8_t is_committed, is_acked, is_overwritten, deliveries, unflagged, position;
    } messages[SENDERS][MESSAGES];
    uint8_t next[OBSERVER + 1][SENDERS]; /* to be seen by each receiver: the order */
    uint8_t returned, given_back, claims_begun;
} state;

static unsigned senders_count(void)
{
    return model_variant() & ONE_SENDER ? 1 : 2;
}

static void init(void)
{
    for (unsigned i = 0; i <= OBSERVER; i++) {
        state.rings[i] = (struct nr_slot_ring){
            .slots_count = SLOTS,
            .slot_bytes = 64,
            .chunks_count = model_variant() & (IN_CHUNKS | MIXED | HOLDING) ? CHUNKS : 0,
            .chunk_bytes = 64,
            .me = i,
            .at_most_once = model_variant() & AT_MOST_ONCE,
        };
        nr_slot_ring_attach(&state.rings[i], model_shared);
    }
    const struct nr_slot_ring *ring = &state.rings[0];
    model_name(&shared->tail, 8, "tail");
    model_name(&shared->head, 8, "head");
    model_name(&shared->epoch, 8, "epoch");
    model_name(&shared->lost, 8, "lost");
    for (unsigned i = 0; i < SLOTS; i++) {
        model_name(&ring->claims[i], 8, "claim[%u]", i);
        struct nr_slot *slot = (void *)(ring->slots + i * ring->slot_bytes);
        model_name(slot, ring->slot_bytes, "slot[%u]", i);
        model_name(&slot->word, 8, "slot[%u].word", i);
        model_name(&slot->chunk, 4, "slot[%u].chunk", i);
        model_name(slot->payload, 8, "slot[%u].payload", i);
    }
    for (unsigned i = 0; i < ring->chunks_count; i++) {
        struct nr_chunk *chunk = nr_chunk_at(ring, i);
        model_name(chunk, sizeof *chunk, "chunk[%u]", i);
        model_name(&chunk->word, 8, "chunk[%u].word", i);
        model_name(&chunk->origin, 8, "chunk[%u].origin", i);
        model_name(chunk->payload, 8, "chunk[%u].payload", i);
    }
}

static void repair(unsigned me, unsigned dead)
{
    nr_slot_repair(&state.rings[me], dead);
}

/* False: there is nobody left to wait for. */
static bool wait_or_repair(unsigned me)
{
    bool is_alone = true;

    for (unsigned i = senders_count(); i < model_processes(); i++)
        is_alone = is_alone && model_is_over(i);
    if (model_repair_dead(me, repair))
        return true;
    if (!is_alone)
        model_pause();
    return !is_alone;
}

/* -- sending ---------------------------------------------------------------------------------- */

/* As nr_shm_slots_overwrite(). */
static bool overwrite(unsigned me)
{
    struct nr_slot_taken taken;
    uint32_t blocker;
    uint64_t value;

    if (nr_slot_take(&state.rings[me], &taken, &blocker) < 0)
        return false;
    memcpy(&value, taken.payload, sizeof value);
    nr_slot_lose(&state.rings[me], 1);
    nr_slot_ack(&state.rings[me], &taken);
    model_note("overwrote", value);
    state.messages[(value >> 8) - 1][value & 0xff].is_overwritten = true;
    return true;
}

static bool claim(unsigned me, struct nr_slot_claim *ret)
{
    uint32_t blocker;

    state.claims_begun++;
    for (;;) {
        int result = nr_slot_claim(&state.rings[me], ret, &blocker);
        if (result == 0)
            break;
        model_assert(state.claims_begun > SLOTS); /* as long as each may have one there is room */
        if (result == -EAGAIN && (model_variant() & OVERWRITING) && overwrite(me))
            continue;
        if (!wait_or_repair(me))
            return false;
    }
    model_note("claimed position", ret->position);
    return true;
}

static bool send_inline(unsigned me, uint64_t value)
{
    struct nr_slot_claim mine;

    if (!claim(me, &mine))
        return false;
    mine.slot->size_bytes = sizeof value;
    mine.slot->sender_pid = (int32_t)me;
    mine.slot->type = (int64_t)value;
    memcpy(mine.slot->payload, &value, sizeof value);
    state.messages[me][value & 0xff].position = (uint8_t)mine.position;
    nr_slot_publish(&state.rings[me], &mine, NR_SLOT_NO_CHUNK);
    return true;
}

static bool send_chunk(unsigned me, uint64_t value)
{
    struct nr_slot_claim mine;
    uint32_t index;

    while ((index = nr_chunk_loan(&state.rings[me])) == NR_SLOT_NO_CHUNK)
        if (!wait_or_repair(me))
            return false;
    struct nr_chunk *chunk = nr_chunk_at(&state.rings[me], index);
    memcpy(chunk->payload, &value, sizeof value);
    chunk->size_bytes = sizeof value;
    chunk->sender_pid = (int32_t)me;
    chunk->type = (int64_t)value;
    chunk->deliveries = 0;
    if (!claim(me, &mine)) {
        nr_chunk_free(&state.rings[me], index);
        return false;
    }
    state.messages[me][value & 0xff].position = (uint8_t)mine.position;
    nr_slot_publish(&state.rings[me], &mine, index);
    return true;
}

static void send_all(unsigned me)
{
    for (unsigned i = 0; i < (model_variant() & UNEVEN && me ? 1 : MESSAGES); i++) {
        uint64_t value = 0x100 * (me + 1) + i;
        bool is_in_chunk = model_variant() & (i % 2 ? IN_CHUNKS : IN_CHUNKS | MIXED);
        bool is_sent = is_in_chunk ? send_chunk(me, value) : send_inline(me, value);
        if (!is_sent)
            return;
        state.messages[me][i].is_committed = true;
        model_note("committed", value);
    }
}

/* -- receiving -------------------------------------------------------------------------------- */

static bool somebody_died(unsigned first)
{
    for (unsigned i = first; i < MODEL_PROCESSES; i++)
        if (model_has_died(i))
            return true;
    return false;
}

/* What one of several receivers gave back, or was about to receive when it died, comes later; and so does what a
   sender was about to overwrite. */
static bool is_in_order(void)
{
    if (model_variant() & OVERWRITING)
        return !somebody_died(0);
    return model_processes() - senders_count() == 1 ||
           (!state.given_back && !somebody_died(senders_count()));
}

static struct message *delivered(unsigned me, const struct nr_slot_taken *taken, uint64_t value)
{
    unsigned sender = (unsigned)(value >> 8) - 1, number = value & 0xff;

    model_note(taken->is_redelivered ? "got again" : "got", value);
    model_assert(sender < SENDERS && number < MESSAGES);
    model_assert(taken->size_bytes == sizeof value && taken->type == (int64_t)value &&
                 taken->sender_pid == (int32_t)sender);
    struct message *message = &state.messages[sender][number];
    model_assert(!message->is_acked && !message->is_overwritten);
    model_assert(taken->position == message->position);
    message->deliveries++;
    if (taken->is_redelivered) {
        model_assert(somebody_died(0) || state.returned);
        return message;
    }
    model_assert(message->unflagged == 0);
    message->unflagged++;
    model_assert(number >= state.next[me][sender] || !is_in_order());
    state.next[me][sender] = (uint8_t)(number + 1);
    return message;
}

/* What was received is done with before it is said to have been: at-most-once. */
static int receive(unsigned me)
{
    struct nr_slot_ring *ring = &state.rings[me];
    struct nr_slot_taken taken;
    uint32_t blocker;
    uint64_t value;
    int result = nr_slot_take(ring, &taken, &blocker);

    if (result < 0) {
        model_assert(result == -EAGAIN || result == -EBUSY);
        return result;
    }
    if (model_variant() & HOLDING) {
        while (nr_slot_hold(ring, &taken) < 0)
            if (!model_repair_dead(me, repair))
                model_pause();
        uint32_t index = taken.chunk;
        memcpy(&value, taken.payload, sizeof value);
        struct message *message = delivered(me, &taken, value);
        model_assert(nr_slot_held(ring, index, &taken));
        nr_slot_ack(ring, &taken);
        message->is_acked = true;
        return 0;
    }
    memcpy(&value, taken.payload, sizeof value);
    nr_slot_ack(ring, &taken);
    delivered(me, &taken, value)->is_acked = true;
    return 0;
}

static bool are_senders_over(void)
{
    bool are_over = true;

    for (unsigned i = 0; i < senders_count(); i++)
        are_over = are_over && model_is_over(i);
    return are_over;
}

/* Until the senders are over and nothing is left for it. */
static void receive_all(unsigned me)
{
    for (;;) {
        bool is_last = are_senders_over();
        if (receive(me) == 0)
            continue;
        if (model_repair_dead(me, repair))
            continue;
        if (is_last)
            return;
        model_pause();
    }
}

/* False: none came. */
static bool receive_and_return_one(unsigned me)
{
    struct nr_slot_ring *ring = &state.rings[me];
    struct nr_slot_taken taken;
    uint32_t blocker;

    for (;;) {
        bool is_last = are_senders_over();
        int result = nr_slot_take(ring, &taken, &blocker);
        if (result == 0)
            break;
        if (model_repair_dead(me, repair))
            continue;
        if (is_last)
            return false;
        model_pause();
    }
    bool was_delivered = taken.slot == NULL;
    state.returned += was_delivered;
    state.given_back = true;
    nr_slot_return(ring, &taken, was_delivered);
    return true;
}

/* Gives back twice, perhaps the same one: who has seen it before finds the same word again. And goes: others have to
   find it. */
static void receive_and_return(unsigned me)
{
    if (receive_and_return_one(me))
        receive_and_return_one(me);
}

/* -- afterwards ------------------------------------------------------------------------------- */

static void check_empty_and_whole(struct nr_slot_ring *ring)
{
    struct nr_slot_claim claims[SLOTS], one;
    struct nr_slot_taken taken;
    uint32_t blocker;

    model_assert(nr_slot_queued(ring) == 0 && !nr_slot_may_take(ring));
    for (unsigned i = 0; i < ring->chunks_count; i++)
        model_assert(nr_chunk_loan(ring) != NR_SLOT_NO_CHUNK);
    model_assert(nr_chunk_loan(ring) == NR_SLOT_NO_CHUNK);
    for (unsigned i = 0; i < ring->chunks_count; i++)
        nr_chunk_free(ring, i);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < SLOTS; i++) {
            model_assert(nr_slot_claim(ring, &claims[i], &blocker) == 0);
            claims[i].slot->size_bytes = 0;
            nr_slot_publish(ring, &claims[i], NR_SLOT_NO_CHUNK);
        }
        model_assert(nr_slot_claim(ring, &one, &blocker) == -EAGAIN);
        model_assert(nr_slot_queued(ring) == SLOTS && nr_slot_may_take(ring));
        for (unsigned i = 0; i < SLOTS; i++) {
            model_assert(nr_slot_take(ring, &taken, &blocker) == 0 &&
                         taken.position == claims[i].position);
            nr_slot_ack(ring, &taken);
        }
        model_assert(nr_slot_take(ring, &taken, &blocker) == -EAGAIN);
    }
}

static void check(void)
{
    unsigned missing = 0, overwritten = 0, deaths = 0;

    for (unsigned i = 0; i < MODEL_PROCESSES; i++)
        deaths += model_has_died(i);
    /* One that has been there, if there is one: it does not look for orphans without a reason. */
    unsigned last = OBSERVER;
    for (unsigned i = senders_count(); i < model_processes(); i++)
        if (!model_has_died(i))
            last = i;
    model_repair_dead(last, repair);
    memset(state.next[last], 0, sizeof state.next[last]);
    while (receive(last) == 0)
        ;
    uint64_t lost = nr_slot_lost(&state.rings[OBSERVER]);
    for (unsigned i = 0; i < SENDERS; i++)
        for (unsigned j = 0; j < MESSAGES; j++) {
            const struct message *message = &state.messages[i][j];
            missing += message->is_committed && !message->deliveries && !message->is_overwritten;
            overwritten += message->is_overwritten;
            if (model_variant() & AT_MOST_ONCE)
                model_assert(message->deliveries <= 1 + state.returned);
        }
    /* A loss that was counted by one that died before it happened is one too many. */
    model_assert(lost >= missing + overwritten && lost <= missing + overwritten + deaths);
    if (!(model_variant() & AT_MOST_ONCE))
        model_assert(missing == 0);
    if (!(model_variant() & (AT_MOST_ONCE | OVERWRITING)))
        model_assert(lost == 0);
    check_empty_and_whole(&state.rings[last]);
}

#define SCENARIO(title, ...)                                                                       \
    {                                                                                              \
        .name = title, .init = init, .check = check, .state = &state, .state_bytes = sizeof state, \
        .shared_bytes = sizeof *shared + 64 + SLOTS * 64 + CHUNKS * (64 + NR_CHUNK_HEADER_BYTES),  \
        __VA_ARGS__                                                                                \
    }
#define BOUNDS .processes = 3, .preemptions = 2, .stale_reads = 2, .crashes = 1, .may_crash = 7
#define ONE_TO_TWO                                                                                 \
    BOUNDS, .run = {send_all, receive_all, receive_all}, .symmetric = 6, .variant = ONE_SENDER
#define TWO_TO_ONE    BOUNDS, .run = {send_all, send_all, receive_all}, .symmetric = 3, .variant = 0
#define UNEVEN_TO_ONE BOUNDS, .run = {send_all, send_all, receive_all}, .variant = UNEVEN
#define TWO_TO_TWO                                                                                 \
    .is_deep = true, .processes = 4, .preemptions = 5, .stale_reads = 4, .crashes = 2,             \
    .may_crash = 15, .run = {send_all, send_all, receive_all, receive_all}, .variant = 0

static const struct model_scenario scenarios[] = {
    SCENARIO("two senders, one receiver", TWO_TO_ONE),
    SCENARIO("one sender, two receivers", ONE_TO_TWO),
    SCENARIO("one sender, two receivers, one gives back twice", BOUNDS,
             .run = {send_all, receive_and_return, receive_all}, .variant = ONE_SENDER | MIXED),
    SCENARIO("two senders that overwrite, one receiver", UNEVEN_TO_ONE | OVERWRITING),
    SCENARIO("two senders, two receivers", TWO_TO_TWO),
    SCENARIO("two senders that overwrite, two receivers", TWO_TO_TWO | OVERWRITING),
};

static const struct model_scenario scenarios_chunks[] = {
    SCENARIO("two senders, one receiver", UNEVEN_TO_ONE | IN_CHUNKS),
    SCENARIO("one sender, two receivers", ONE_TO_TWO | IN_CHUNKS | HOLDING),
    SCENARIO("two senders, two receivers", TWO_TO_TWO | IN_CHUNKS),
};

static const struct model_scenario scenarios_holds[] = {
    SCENARIO("one sender, two receivers", ONE_TO_TWO | HOLDING),
    SCENARIO("one sender, two receivers, at most once", ONE_TO_TWO | HOLDING | AT_MOST_ONCE),
    SCENARIO("one sender, two receivers, chunks, at most once",
             ONE_TO_TWO | HOLDING | IN_CHUNKS | AT_MOST_ONCE),
    SCENARIO("two senders, two receivers", TWO_TO_TWO | HOLDING),
    SCENARIO("two senders, two receivers, at most once", TWO_TO_TWO | HOLDING | AT_MOST_ONCE),
};

#define PROTOCOL(title, list)                                                                      \
    {                                                                                              \
        .name = title, .scenarios = list, .scenarios_count = sizeof list / sizeof *list            \
    }
const struct model_protocol model_slot_ring = PROTOCOL("slot_ring", scenarios);
const struct model_protocol model_slot_ring_chunks = PROTOCOL("slot_ring_chunks", scenarios_chunks);
const struct model_protocol model_slot_ring_holds = PROTOCOL("slot_ring_holds", scenarios_holds);
