/* SPDX-License-Identifier: MIT */
/*
 * slot_ring_steps -- what each step of a slot ring does by itself: positions, hints, room, damage, chunks; and what
 *                    repairers and others make of what one has left that died before they began
 *
 * One process under several names first: the numbers and the branches, which the long scenarios of slot_ring.c hardly
 * see. Then two or three at once, in searches of less than a second.
 */
#include "data/slot_ring.h"
#include "model.h"
#include <errno.h>
#include <string.h>

enum {
    DEAD = 3, /* who has died before the others begin */
    VALUE = 0x55,
    /* variants */
    AT_MOST_ONCE = 1,
    IN_HAND = 2,    /* it had taken a message from a slot */
    HELD = 4,       /* it had one in a chunk */
    HELD_TWICE = 8, /* it had one in a chunk, but had not freed the slot */
    LOANED = 16,    /* it had a chunk that an older message had stood in */
    SKIPPED = 32,   /* it had claimed a slot, which is given up by now */
    SMALL = IN_HAND | HELD | HELD_TWICE | LOANED | SKIPPED,
};

static struct nr_slot_ring_shared *const shared = (void *)model_shared;

static struct {
    struct nr_slot_ring rings[MODEL_PROCESSES];
    uint8_t left, got, got_again;
} state;

static void init(void)
{
    for (unsigned i = 0; i < MODEL_PROCESSES; i++) {
        state.rings[i] = (struct nr_slot_ring){
            .slots_count = model_variant() & SMALL ? 2 : 4,
            .slot_bytes = model_variant() & SMALL ? 64 : 128,
            .chunks_count = model_variant() & SMALL ? 2 : 3,
            .chunks_for_holds = model_variant() & SMALL ? 0 : 1,
            .chunk_bytes = 64,
            .me = i,
            .at_most_once = model_variant() & AT_MOST_ONCE,
        };
        nr_slot_ring_attach(&state.rings[i], model_shared);
    }
    const struct nr_slot_ring *ring = &state.rings[0];
    model_assert(nr_slot_ring_bytes(ring) ==
                 sizeof *shared + ring->slots_count * ring->slot_bytes +
                     ring->chunks_count * (NR_CHUNK_HEADER_BYTES + ring->chunk_bytes));
    model_name(shared, sizeof *shared, "head of the ring");
    model_name(ring->slots, ring->slots_count * ring->slot_bytes, "slots");
    for (unsigned i = 0; i < ring->chunks_count; i++)
        model_name(nr_chunk_at(ring, i), sizeof(struct nr_chunk) + 64, "chunk[%u]", i);
}

/* -- one process, under several names ---------------------------------------------------------- */

static struct nr_slot_claim claim(unsigned me, uint64_t position)
{
    struct nr_slot_claim mine;
    uint32_t blocker;

    model_assert(nr_slot_may_claim(&state.rings[me]));
    model_assert(nr_slot_claim(&state.rings[me], &mine, &blocker) == 0);
    model_assert(mine.position == position);
    return mine;
}

static void send(unsigned me, uint64_t position, uint32_t size_bytes)
{
    struct nr_slot_claim mine = claim(me, position);

    mine.slot->size_bytes = size_bytes;
    mine.slot->sender_pid = (int32_t)me + 1;
    mine.slot->type = (int64_t)position;
    mine.slot->payload[0] = (char)position;
    nr_slot_publish(&state.rings[me], &mine, NR_SLOT_NO_CHUNK);
}

static void fill_chunk(unsigned me, uint32_t index, uint32_t size_bytes)
{
    struct nr_chunk *chunk = nr_chunk_at(&state.rings[me], index);

    chunk->size_bytes = size_bytes;
    chunk->sender_pid = (int32_t)me + 1;
    chunk->type = VALUE;
    chunk->deliveries = 0;
    chunk->payload[0] = VALUE;
}

static uint32_t send_chunk(unsigned me, uint64_t position, uint32_t size_bytes)
{
    uint32_t index = nr_chunk_loan(&state.rings[me]);

    model_assert(index < state.rings[me].chunks_count);
    fill_chunk(me, index, size_bytes);
    struct nr_slot_claim mine = claim(me, position);
    nr_slot_publish(&state.rings[me], &mine, index);
    return index;
}

static struct nr_slot_taken take(unsigned me, uint64_t position)
{
    struct nr_slot_taken taken;
    uint32_t blocker;

    model_assert(nr_slot_may_take(&state.rings[me]));
    model_assert(nr_slot_take(&state.rings[me], &taken, &blocker) == 0);
    model_assert(taken.position == position);
    return taken;
}

static void take_nothing(unsigned me, int result)
{
    struct nr_slot_taken taken;
    uint32_t blocker;

    model_assert(nr_slot_take(&state.rings[me], &taken, &blocker) == result);
}

static void claim_nothing(unsigned me)
{
    struct nr_slot_claim mine;
    uint32_t blocker;

    model_assert(!nr_slot_may_claim(&state.rings[me]));
    model_assert(nr_slot_claim(&state.rings[me], &mine, &blocker) == -EAGAIN);
}

/* As if everybody who moved a hint had been overtaken. */
static void forget_hints(void)
{
    atomic_store(&shared->tail, 0);
    atomic_store(&shared->head, 0);
}

static void take_and_ack(unsigned me, uint64_t position)
{
    struct nr_slot_taken taken = take(me, position);

    model_assert(taken.slot && taken.chunk == NR_SLOT_NO_CHUNK);
    model_assert(taken.payload[0] == (char)position && taken.type == (int64_t)position);
    model_assert(taken.sender_pid == 1 && taken.deliveries == 1 && !taken.is_redelivered);
    nr_slot_ack(&state.rings[me], &taken);
}

static void go_around(unsigned me)
{
    enum { LAPS = 3 };
    uint64_t sent = 0, taken = 0;

    (void)me;
    model_assert(!nr_slot_may_take(&state.rings[1]));
    for (unsigned waiting = 0; waiting <= 4; waiting++)
        for (unsigned i = 0; i < LAPS * 4; i++) {
            while (sent - taken < waiting) {
                send(0, sent++, 8);
                model_assert(waiting > 1 || atomic_load(&shared->tail) == sent);
                forget_hints();
            }
            if (waiting == 4) {
                claim_nothing(0);
                forget_hints();
            }
            model_assert(nr_slot_queued(&state.rings[2]) == waiting);
            if (waiting)
                take_and_ack(1, taken++);
            forget_hints();
            if (taken == sent) {
                take_nothing(1, -EAGAIN);
                model_assert(!nr_slot_may_take(&state.rings[1]));
            }
        }
    /* And with the hints, which then stand where the next one is. */
    while (taken < sent)
        take_and_ack(1, taken++);
    model_assert(atomic_load(&shared->head) == taken);
    send(0, sent++, 8);
    model_assert(atomic_load(&shared->tail) == sent);
}

/* Who is in the middle of something, and what others find then. */
static void be_in_the_way(unsigned me)
{
    struct nr_slot_taken first, second;
    struct nr_slot_claim mine = claim(0, 0), other;
    uint32_t blocker = DEAD;

    (void)me;
    send(2, 1, 8);
    model_assert(nr_slot_take(&state.rings[1], &first, &blocker) == -EBUSY && blocker == 0);
    model_assert(!nr_slot_may_take(&state.rings[1]));
    mine.slot->size_bytes = 8;
    nr_slot_publish(&state.rings[0], &mine, NR_SLOT_NO_CHUNK);
    first = take(1, 0);
    second = take(2, 1);
    send(0, 2, 8);
    send(0, 3, 8);
    atomic_store(&shared->head, 0);
    model_assert(nr_slot_claim(&state.rings[0], &mine, &blocker) == -EBUSY && blocker == 1);
    model_assert(!nr_slot_may_claim(&state.rings[0]));
    /* What was given back is the next one for everybody; others step over it. */
    nr_slot_return(&state.rings[1], &first, true);
    claim_nothing(0);
    model_assert(nr_slot_queued(&state.rings[0]) == 3);
    atomic_store(&state.rings[0].seen_epoch, atomic_load(&shared->epoch));
    struct nr_slot_taken third = take(0, 2);
    nr_slot_ack(&state.rings[0], &third);
    first = take(2, 0);
    model_assert(first.deliveries == 2 && first.is_redelivered);
    nr_slot_return(&state.rings[2], &first, false);
    first = take(2, 0);
    model_assert(first.deliveries == 2 && first.is_redelivered);
    nr_slot_ack(&state.rings[2], &first);
    nr_slot_return(&state.rings[2], &second, false);
    second = take(1, 1);
    model_assert(second.deliveries == 1 && !second.is_redelivered);
    nr_slot_ack(&state.rings[1], &second);
    take_and_ack(1, 3);
    /* A claim that nobody will fill. */
    mine = claim(DEAD, 4);
    other = claim(0, 5);
    other.slot->size_bytes = 8;
    nr_slot_repair(&state.rings[1], DEAD);
    take_nothing(1, -EBUSY);
    nr_slot_publish(&state.rings[0], &other, NR_SLOT_NO_CHUNK);
    second = take(1, 5);
    nr_slot_ack(&state.rings[1], &second);
    mine = claim(DEAD, 6);
    nr_slot_repair(&state.rings[1], DEAD);
    take_nothing(1, -EAGAIN);
    mine = claim(DEAD, 7);
    nr_slot_repair(&state.rings[1], DEAD);
    take_nothing(0, -EAGAIN);
    mine = claim(DEAD, 8);
    nr_slot_repair(&state.rings[1], DEAD);
    atomic_store(&state.rings[0].seen_epoch, atomic_load(&shared->epoch));
    model_assert(nr_slot_may_take(&state.rings[0]));
    take_nothing(0, -EAGAIN);
    model_assert(atomic_load(&shared->head) == 9 && !nr_slot_may_take(&state.rings[0]));
}

/* What stands in the memory is not believed: the message is dropped, and all goes on. */
static void meet_damage(unsigned me)
{
    struct nr_slot_ring *ring = &state.rings[1];
    uint32_t most = (uint32_t)nr_slot_inline_bytes(ring), index;
    struct nr_slot_taken taken;

    (void)me;
    model_assert(most == 128 - NR_SLOT_HEADER_BYTES);
    send(0, 0, most);
    send(0, 1, most + 1);
    take_and_ack(1, 0);
    take_nothing(1, -EBADMSG);
    index = send_chunk(0, 2, 64);
    taken = take(1, 2);
    model_assert(taken.chunk == index && taken.size_bytes == 64 && !taken.slot);
    model_assert(taken.payload == nr_chunk_at(ring, index)->payload && taken.type == VALUE);
    nr_slot_return(ring, &taken, true);
    taken = take(1, 2);
    nr_slot_ack(ring, &taken);
    index = send_chunk(0, 3, 65);
    take_nothing(1, -EBADMSG);
    /* Too large since it was given back. */
    index = send_chunk(0, 4, 8);
    taken = take(1, 4);
    nr_chunk_at(ring, index)->size_bytes = 65;
    nr_slot_return(ring, &taken, true);
    take_nothing(1, -EBADMSG);
    /* No such chunk, or one that nobody has loaned. */
    for (unsigned i = 0; i < 2; i++) {
        struct nr_slot_claim mine = claim(0, 5 + i);
        index = nr_chunk_loan(&state.rings[0]);
        uint64_t word = atomic_load(&nr_chunk_at(ring, index)->word);
        nr_chunk_free(&state.rings[0], index);
        nr_slot_publish(&state.rings[0], &mine, index);
        atomic_store(&mine.slot->chunk, i ? index + 1 : ring->chunks_count + 1);
        atomic_store(&nr_chunk_at(ring, ring->chunks_count)->word, word);
        take_nothing(1, -EBADMSG);
    }
    take_nothing(1, -EAGAIN);
    send(0, 7, 8);
    take_and_ack(1, 7);
    for (unsigned i = 0; i < 2; i++)
        model_assert(nr_chunk_loan(&state.rings[0]) != NR_SLOT_NO_CHUNK);
    model_assert(!nr_chunk_may_loan(&state.rings[0]));
}

static void loan_and_hold(unsigned me)
{
    struct nr_slot_ring *ring = &state.rings[1];
    struct nr_slot_taken taken, held;
    uint32_t index;

    (void)me;
    /* Senders get two of the three, and not at once what was just free. */
    model_assert(nr_chunk_may_loan(&state.rings[0]));
    for (unsigned i = 0; i < 4; i++) {
        model_assert(nr_chunk_loan(&state.rings[0]) == i % 2);
        nr_chunk_free(&state.rings[0], i % 2);
    }
    model_assert(nr_chunk_loan(&state.rings[0]) == 0);
    model_assert(nr_chunk_may_loan(&state.rings[0]));
    model_assert(nr_chunk_loan(&state.rings[0]) == 1);
    model_assert(!nr_chunk_may_loan(&state.rings[0]));
    model_assert(nr_chunk_loan(&state.rings[0]) == NR_SLOT_NO_CHUNK);
    /* The third is for what stands in a slot. */
    send(0, 0, 8);
    send(0, 1, 8);
    taken = take(1, 0);
    model_assert(nr_slot_hold(ring, &taken) == 0);
    model_assert(!taken.slot && taken.chunk == 2 && taken.size_bytes == 8);
    model_assert(taken.payload == nr_chunk_at(ring, 2)->payload && taken.payload[0] == 0);
    held = taken;
    model_assert(nr_slot_hold(ring, &held) == 0 && held.chunk == 2);
    held = take(1, 1);
    model_assert(nr_slot_hold(ring, &held) == -ENOBUFS && held.slot);
    nr_slot_return(ring, &held, false);
    /* By its index alone: mine, held, and there at all. */
    model_assert(nr_slot_held(ring, 2, &held) && held.chunk == 2 && held.deliveries == 1);
    model_assert(!held.slot);
    model_assert(!nr_slot_held(&state.rings[2], 2, &held));
    model_assert(!nr_slot_held(&state.rings[0], 0, &held));
    /* What stands behind the last chunk is none, whatever it looks like. */
    atomic_store(&nr_chunk_at(ring, 3)->word, atomic_load(&nr_chunk_at(ring, 2)->word));
    model_assert(!nr_slot_held(ring, 3, &held));
    /* What was held comes first, with what is known of it. */
    nr_slot_return(ring, &taken, true);
    model_assert(!nr_slot_held(ring, 2, &held));
    model_assert(nr_slot_queued(ring) == 2);
    taken = take(2, 0);
    model_assert(taken.chunk == 2 && taken.is_redelivered && taken.deliveries == 2);
    model_assert(taken.sender_pid == 1 && taken.type == 0 && taken.size_bytes == 8);
    nr_slot_return(&state.rings[2], &taken, false);
    taken = take(2, 0);
    model_assert(taken.is_redelivered && taken.deliveries == 2);
    nr_slot_ack(&state.rings[2], &taken);
    held = take(2, 1);
    model_assert(nr_slot_hold(&state.rings[2], &held) == 0 && held.chunk == 2);
    nr_slot_ack(&state.rings[2], &held);
    /* A message in a chunk, taken as it is. */
    nr_chunk_free(&state.rings[0], 1);
    index = send_chunk(0, 2, 8);
    taken = take(1, 2);
    model_assert(index == 1 && nr_slot_hold(ring, &taken) == 0 && taken.chunk == 1);
    model_assert(taken.deliveries == 1 && nr_chunk_at(ring, 1)->deliveries == 1);
    nr_slot_ack(ring, &taken);
    nr_chunk_free(&state.rings[0], 0);
    model_assert(nr_slot_lost(ring) == 0);
    nr_slot_lose(ring, 3);
    model_assert(nr_slot_lost(&state.rings[0]) == 3 && nr_slot_lost(ring) == 0);
}

static void check_whole(void)
{
    struct nr_slot_ring *ring = &state.rings[0];

    for (unsigned i = 0; i < ring->chunks_count; i++)
        nr_slot_repair(&state.rings[1], i); /* what a step has left */
    for (unsigned i = 0; i < ring->chunks_count - ring->chunks_for_holds; i++)
        model_assert(nr_chunk_loan(ring) != NR_SLOT_NO_CHUNK);
    model_assert(nr_chunk_loan(ring) == NR_SLOT_NO_CHUNK);
}

/* -- what one has left that is dead ------------------------------------------------------------ */

static unsigned leave_messages(void)
{
    struct nr_slot_ring *dead = &state.rings[DEAD];
    unsigned count = 0;

    if (model_variant() & (HELD | HELD_TWICE)) {
        send(0, count, 8);
        struct nr_slot_taken taken = take(DEAD, count++);
        struct nr_slot *slot = taken.slot;
        uint64_t word = atomic_load(&slot->word);
        model_assert(nr_slot_hold(dead, &taken) == 0);
        if (model_variant() & HELD_TWICE)
            atomic_store(&slot->word, word);
    }
    if (model_variant() & IN_HAND) {
        send(0, count, 8);
        take(DEAD, count++);
    }
    return count;
}

/* Each slot has carried chunk 0, and now the dead one has it. */
static void leave_loan(void)
{
    for (unsigned i = 0; i < 2; i++) {
        atomic_store(&state.rings[1].chunk_hint, 0);
        model_assert(send_chunk(1, i, 8) == 0);
        struct nr_slot_taken taken = take(1, i);
        nr_slot_ack(&state.rings[1], &taken);
    }
    model_assert(nr_chunk_loan(&state.rings[DEAD]) == 0);
}

static void init_with_dead(void)
{
    init();
    state.left = (uint8_t)leave_messages();
    if (model_variant() & LOANED)
        leave_loan();
    if (model_variant() & SKIPPED) {
        claim(DEAD, 0);
        nr_slot_repair(&state.rings[DEAD], DEAD);
    }
}

static void send_in_chunk(unsigned me)
{
    uint32_t index = nr_chunk_loan(&state.rings[me]), blocker;
    struct nr_slot_claim mine;

    if (index == NR_SLOT_NO_CHUNK)
        return;
    fill_chunk(me, index, 8);
    model_assert(nr_slot_claim(&state.rings[me], &mine, &blocker) == 0);
    nr_slot_publish(&state.rings[me], &mine, index);
}

static bool receive(unsigned me)
{
    struct nr_slot_taken taken;
    uint32_t blocker;

    if (nr_slot_take(&state.rings[me], &taken, &blocker) < 0)
        return false;
    model_note("got, times", taken.deliveries);
    nr_slot_ack(&state.rings[me], &taken);
    state.got++;
    state.got_again += taken.is_redelivered;
    return true;
}

/* A repairer that dies leaves what it had begun to others. */
static void repair_again(unsigned me, unsigned dead)
{
    nr_slot_repair(&state.rings[me], dead);
    nr_slot_repair(&state.rings[me], DEAD);
}

static void repair_and_receive(unsigned me)
{
    nr_slot_repair(&state.rings[me], DEAD);
    receive(me);
    model_repair_dead(me, repair_again);
    receive(me);
}

static void repair_only(unsigned me)
{
    nr_slot_repair(&state.rings[me], DEAD);
}

static void receive_until_over(unsigned me)
{
    for (;;) {
        bool is_last = model_is_over(0);
        if (receive(me) || model_repair_dead(me, repair_again))
            continue;
        if (is_last)
            return;
        model_pause();
    }
}

/* Whoever lives has found it, or will; or it is counted. */
static void check_message(void)
{
    unsigned deaths = 0, last = DEAD;

    for (unsigned i = 0; i < model_processes(); i++) {
        deaths += model_has_died(i);
        if (!model_has_died(i))
            last = i;
    }
    model_repair_dead(last, repair_again);
    while (receive(last))
        ;
    uint64_t lost = nr_slot_lost(&state.rings[last]);
    if (model_variant() & AT_MOST_ONCE && !(model_variant() & IN_HAND)) {
        model_assert(state.got == 0 && lost >= 1 && lost <= 1 + deaths);
    } else {
        model_assert(state.got + deaths >= state.left && state.got <= state.left && lost <= deaths);
        model_assert(deaths || state.got_again == 1 || model_variant() & (IN_HAND | SKIPPED));
    }
    model_assert(nr_slot_queued(&state.rings[last]) == 0);
    for (unsigned i = 0; i < 2; i++) {
        model_assert(nr_chunk_loan(&state.rings[last]) != NR_SLOT_NO_CHUNK);
        model_assert(nr_slot_may_claim(&state.rings[last]));
        struct nr_slot_claim mine;
        uint32_t blocker;
        model_assert(nr_slot_claim(&state.rings[last], &mine, &blocker) == 0);
    }
}

static void check_loan(void)
{
    while (receive(1))
        ;
    for (unsigned i = 0; i < 2; i++)
        model_assert(nr_chunk_loan(&state.rings[1]) != NR_SLOT_NO_CHUNK);
}

#define SCENARIO(title, ...)                                                                       \
    {                                                                                              \
        .name = title, .state = &state, .state_bytes = sizeof state,                               \
        .shared_bytes = sizeof *shared + 4 * 128 + 4 * (64 + NR_CHUNK_HEADER_BYTES), __VA_ARGS__   \
    }
#define ALONE(function) .init = init, .check = check_whole, .processes = 1, .run = {function}
#define AFTER_DEATH                                                                                \
    .init = init_with_dead, .check = check_message, .preemptions = 2, .stale_reads = 2, .crashes = 1
#define TWO_REPAIRERS                                                                              \
    AFTER_DEATH, .processes = 2, .run = {repair_and_receive, repair_and_receive}, .symmetric = 3,  \
                 .may_crash = 3
#define ONE_RECEIVER                                                                               \
    AFTER_DEATH, .processes = 2, .run = {repair_only, receive_until_over}, .may_crash = 1

static const struct model_scenario scenarios[] = {
    SCENARIO("around the ring, with and without hints", ALONE(go_around)),
    SCENARIO("in each other's way", ALONE(be_in_the_way)),
    SCENARIO("damaged", ALONE(meet_damage)),
    SCENARIO("loaned and held", ALONE(loan_and_hold)),
    SCENARIO("two repairers of a message in a slot", TWO_REPAIRERS, .variant = IN_HAND),
    SCENARIO("two repairers of a message in a chunk", TWO_REPAIRERS, .variant = HELD),
    SCENARIO("two repairers of a message in a slot and one in a chunk", TWO_REPAIRERS,
             .variant = IN_HAND | HELD),
    SCENARIO("two receivers at a slot that is given up", TWO_REPAIRERS, .variant = SKIPPED),
    SCENARIO("two repairers of a message in both", TWO_REPAIRERS, .variant = HELD_TWICE),
    SCENARIO("two repairers of a message in both, at most once", TWO_REPAIRERS,
             .variant = HELD_TWICE | AT_MOST_ONCE),
    SCENARIO("a repairer and a receiver of a message in a slot", ONE_RECEIVER, .variant = IN_HAND),
    SCENARIO("a repairer and a receiver of a message in a chunk", ONE_RECEIVER, .variant = HELD),
    SCENARIO("a repairer of a loan, a sender", .init = init_with_dead, .check = check_loan,
             .processes = 2, .run = {send_in_chunk, repair_only}, .preemptions = 2,
             .stale_reads = 2, .variant = LOANED),
};

const struct model_protocol model_slot_ring_steps = {
    .name = "slot_ring_steps",
    .scenarios = scenarios,
    .scenarios_count = sizeof scenarios / sizeof *scenarios,
};
