/* SPDX-License-Identifier: MIT */
/*
 * slot_ring_left -- what repairers and others make of what one has left that died before they began
 *
 * Two at once, in searches of less than a second.
 */
#include "slot_ring_steps.h"

enum {
    AT_MOST_ONCE = 1,
    IN_HAND = 2,        /* it had taken a message from a slot */
    HELD = 4,           /* it had one in a chunk */
    HELD_TWICE = 8,     /* it had one in a chunk, but had not freed the slot */
    LOANED = 16,        /* it had a chunk that an older message had stood in */
    SKIPPED = 32,       /* it had claimed a slot, which is given up by now */
    IN_OTHER_HAND = 64, /* nothing; one that lives has a message in hand */
};

static struct nr_slot_ring_shared *const shared = (void *)model_shared;

static unsigned leave_messages(void)
{
    struct nr_slot_ring *dead = &steps.rings[STEPS_DEAD];
    unsigned count = 0;

    if (model_variant() & (HELD | HELD_TWICE)) {
        steps_send(0, count, 8);
        struct nr_slot_taken taken = steps_take(STEPS_DEAD, count++);
        struct nr_slot *slot = taken.slot;
        uint64_t word = atomic_load(&slot->word);
        model_assert(nr_slot_hold(dead, &taken) == 0);
        if (model_variant() & HELD_TWICE)
            atomic_store(&slot->word, word);
    }
    if (model_variant() & IN_HAND) {
        steps_send(0, count, 8);
        steps_take(STEPS_DEAD, count++);
    }
    return count;
}

/* Each slot has carried chunk 0, and now the dead one has it. */
static void leave_loan(void)
{
    for (unsigned i = 0; i < 2; i++) {
        atomic_store(&steps.rings[1].chunk_hint, 0);
        model_assert(steps_send_chunk(1, i, 8) == 0);
        struct nr_slot_taken taken = steps_take(1, i);
        nr_slot_ack(&steps.rings[1], &taken);
    }
    model_assert(nr_chunk_loan(&steps.rings[STEPS_DEAD]) == 0);
}

/* Something was given back, so that others look through everything; and 0 has a message in hand. */
static void leave_in_hand(void)
{
    steps_send(1, 0, 8);
    steps.in_hand = steps_take(0, 0);
    steps.left = 1;
    atomic_fetch_add(&shared->epoch, 1);
}

static void init(void)
{
    steps_attach(&(const struct nr_slot_ring){.slots_count = 2,
                                              .slot_bytes = 64,
                                              .chunks_count = 2,
                                              .chunk_bytes = 64,
                                              .at_most_once = model_variant() & AT_MOST_ONCE});
    steps.left = (uint8_t)leave_messages();
    if (model_variant() & IN_OTHER_HAND)
        leave_in_hand();
    if (model_variant() & LOANED)
        leave_loan();
    if (model_variant() & SKIPPED) {
        steps_claim(STEPS_DEAD, 0);
        nr_slot_repair(&steps.rings[STEPS_DEAD], STEPS_DEAD);
    }
}

static void send_in_chunk(unsigned me)
{
    uint32_t index = nr_chunk_loan(&steps.rings[me]), blocker;
    struct nr_slot_claim mine;

    if (index == NR_SLOT_NO_CHUNK)
        return;
    steps_fill_chunk(me, index, 8);
    model_assert(nr_slot_claim(&steps.rings[me], &mine, &blocker) == 0);
    nr_slot_publish(&steps.rings[me], &mine, index);
}

static bool receive(unsigned me)
{
    struct nr_slot_taken taken;
    uint32_t blocker;

    if (nr_slot_take(&steps.rings[me], &taken, &blocker) < 0)
        return false;
    model_note("got, times", taken.deliveries);
    model_assert(taken.type == STEPS_VALUE || taken.position == (uint64_t)taken.type);
    nr_slot_ack(&steps.rings[me], &taken);
    steps.got++;
    steps.got_again += taken.is_redelivered;
    return true;
}

/* A repairer that dies leaves what it had begun to others. */
static void repair_again(unsigned me, unsigned dead)
{
    nr_slot_repair(&steps.rings[me], dead);
    nr_slot_repair(&steps.rings[me], STEPS_DEAD);
}

static void repair_and_receive(unsigned me)
{
    nr_slot_repair(&steps.rings[me], STEPS_DEAD);
    receive(me);
    model_repair_dead(me, repair_again);
    receive(me);
}

static void repair_only(unsigned me)
{
    nr_slot_repair(&steps.rings[me], STEPS_DEAD);
}

static void give_back(unsigned me)
{
    nr_slot_return(&steps.rings[me], &steps.in_hand, true);
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
    unsigned deaths = 0, last = STEPS_DEAD;

    for (unsigned i = 0; i < model_processes(); i++) {
        deaths += model_has_died(i);
        if (!model_has_died(i))
            last = i;
    }
    model_repair_dead(last, repair_again);
    while (receive(last))
        ;
    uint64_t lost = nr_slot_lost(&steps.rings[last]);
    if (model_variant() & AT_MOST_ONCE && !(model_variant() & IN_HAND)) {
        model_assert(steps.got == 0 && lost >= 1 && lost <= 1 + deaths);
    } else {
        model_assert(steps.got + deaths >= steps.left && steps.got <= steps.left && lost <= deaths);
        model_assert(deaths || steps.got_again == 1 || model_variant() & (IN_HAND | SKIPPED));
    }
    model_assert(nr_slot_queued(&steps.rings[last]) == 0);
    for (unsigned i = 0; i < 2; i++) {
        model_assert(nr_chunk_loan(&steps.rings[last]) != NR_SLOT_NO_CHUNK);
        model_assert(nr_slot_may_claim(&steps.rings[last]));
        struct nr_slot_claim mine;
        uint32_t blocker;
        model_assert(nr_slot_claim(&steps.rings[last], &mine, &blocker) == 0);
    }
}

/* Nobody is told that the ring is full who comes second to a slot. */
static void check_both_sent(void)
{
    while (receive(1))
        ;
    model_assert(steps.got == 2);
}

static void check_loan(void)
{
    while (receive(1))
        ;
    for (unsigned i = 0; i < 2; i++)
        model_assert(nr_chunk_loan(&steps.rings[1]) != NR_SLOT_NO_CHUNK);
}

#define SCENARIO(title, ...)                                                                       \
    {                                                                                              \
        .name = title, .state = &steps, .state_bytes = sizeof steps,                               \
        .shared_bytes = STEPS_SHARED_BYTES, __VA_ARGS__                                            \
    }
#define AFTER_DEATH                                                                                \
    .init = init, .check = check_message, .preemptions = 2, .stale_reads = 2, .crashes = 1
#define TWO_REPAIRERS                                                                              \
    AFTER_DEATH, .processes = 2, .run = {repair_and_receive, repair_and_receive}, .symmetric = 3,  \
                 .may_crash = 3
#define ONE_RECEIVER                                                                               \
    AFTER_DEATH, .processes = 2, .run = {repair_only, receive_until_over}, .may_crash = 1

static const struct model_scenario scenarios[] = {
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
    SCENARIO("one gives back where another looks", AFTER_DEATH, .processes = 2,
             .run = {give_back, receive_until_over}, .variant = IN_OTHER_HAND),
    SCENARIO("two send where there is room for both", .init = init, .check = check_both_sent,
             .processes = 2, .run = {send_in_chunk, send_in_chunk}, .symmetric = 3,
             .preemptions = 2, .stale_reads = 2),
    SCENARIO("a repairer of a loan, a sender", .init = init, .check = check_loan, .processes = 2,
             .run = {send_in_chunk, repair_only}, .preemptions = 2, .stale_reads = 2,
             .variant = LOANED),
};

const struct model_protocol model_slot_ring_left = {
    .name = "slot_ring_left",
    .scenarios = scenarios,
    .scenarios_count = sizeof scenarios / sizeof *scenarios,
};
