/* SPDX-License-Identifier: MIT */
/*
 * slot_ring_steps -- what each step of a slot ring does by itself: positions, hints, room, damage, chunks
 *
 * One process under several names: the numbers and the branches, which the long scenarios of slot_ring.c hardly see.
 */
#include "slot_ring_steps.h"
#include <errno.h>

static struct nr_slot_ring_shared *const shared = (void *)model_shared;

struct steps steps;

void steps_attach(const struct nr_slot_ring *sizes)
{
    for (unsigned i = 0; i < MODEL_PROCESSES; i++) {
        steps.rings[i] = *sizes;
        steps.rings[i].me = i;
        nr_slot_ring_attach(&steps.rings[i], model_shared);
    }
    const struct nr_slot_ring *ring = &steps.rings[0];
    model_assert(nr_slot_ring_bytes(ring) ==
                 sizeof *shared + 64 + ring->slots_count * ring->slot_bytes +
                     ring->chunks_count * (NR_CHUNK_HEADER_BYTES + ring->chunk_bytes));
    model_name(shared, sizeof *shared, "head of the ring");
    model_name(ring->claims, ring->slots_count * sizeof *ring->claims, "claims");
    model_name(ring->slots, ring->slots_count * ring->slot_bytes, "slots");
    for (unsigned i = 0; i < ring->chunks_count; i++)
        model_name(nr_chunk_at(ring, i), sizeof(struct nr_chunk) + 64, "chunk[%u]", i);
}

/* -- steps ------------------------------------------------------------------------------------ */

struct nr_slot_claim steps_claim(unsigned me, uint64_t position)
{
    struct nr_slot_claim mine;
    uint32_t blocker;

    model_assert(nr_slot_may_claim(&steps.rings[me]));
    model_assert(nr_slot_claim(&steps.rings[me], &mine, &blocker) == 0);
    model_assert(mine.position == position);
    return mine;
}

void steps_send(unsigned me, uint64_t position, uint32_t size_bytes)
{
    struct nr_slot_claim mine = steps_claim(me, position);

    mine.slot->size_bytes = size_bytes;
    mine.slot->sender_pid = (int32_t)me + 1;
    mine.slot->type = (int64_t)position;
    mine.slot->payload[0] = (char)position;
    nr_slot_publish(&steps.rings[me], &mine, NR_SLOT_NO_CHUNK);
}

void steps_fill_chunk(unsigned me, uint32_t index, uint32_t size_bytes)
{
    struct nr_chunk *chunk = nr_chunk_at(&steps.rings[me], index);

    chunk->size_bytes = size_bytes;
    chunk->sender_pid = (int32_t)me + 1;
    chunk->type = STEPS_VALUE;
    chunk->deliveries = 0;
    chunk->payload[0] = STEPS_VALUE;
}

uint32_t steps_send_chunk(unsigned me, uint64_t position, uint32_t size_bytes)
{
    uint32_t index = nr_chunk_loan(&steps.rings[me]);

    model_assert(index < steps.rings[me].chunks_count);
    steps_fill_chunk(me, index, size_bytes);
    struct nr_slot_claim mine = steps_claim(me, position);
    nr_slot_publish(&steps.rings[me], &mine, index);
    return index;
}

struct nr_slot_taken steps_take(unsigned me, uint64_t position)
{
    struct nr_slot_taken taken;
    uint32_t blocker;

    model_assert(nr_slot_may_take(&steps.rings[me]));
    model_assert(nr_slot_take(&steps.rings[me], &taken, &blocker) == 0);
    model_assert(taken.position == position);
    return taken;
}

/* -- one process, under several names --------------------------------------------------------- */

static void init(void)
{
    steps_attach(&(const struct nr_slot_ring){.slots_count = 4,
                                              .slot_bytes = 128,
                                              .chunks_count = 3,
                                              .chunks_for_holds = 1,
                                              .chunk_bytes = 64});
}

static void take_nothing(unsigned me, int result)
{
    struct nr_slot_taken taken;
    uint32_t blocker;

    model_assert(nr_slot_take(&steps.rings[me], &taken, &blocker) == result);
}

static void claim_nothing(unsigned me)
{
    struct nr_slot_claim mine;
    uint32_t blocker;

    model_assert(!nr_slot_may_claim(&steps.rings[me]));
    model_assert(nr_slot_claim(&steps.rings[me], &mine, &blocker) == -EAGAIN);
}

/* As if everybody who moved a hint had been overtaken. */
static void forget_hints(void)
{
    atomic_store(&shared->tail, 0);
    atomic_store(&shared->head, 0);
}

static void take_and_ack(unsigned me, uint64_t position)
{
    struct nr_slot_taken taken = steps_take(me, position);

    model_assert(taken.slot && taken.chunk == NR_SLOT_NO_CHUNK);
    model_assert(taken.payload[0] == (char)position && taken.type == (int64_t)position);
    model_assert(taken.sender_pid == 1 && taken.deliveries == 1 && !taken.is_redelivered);
    nr_slot_ack(&steps.rings[me], &taken);
}

static void go_around(unsigned me)
{
    enum { LAPS = 3 };
    uint64_t sent = 0, taken = 0;

    (void)me;
    model_assert(!nr_slot_may_take(&steps.rings[1]));
    for (unsigned waiting = 0; waiting <= 4; waiting++)
        for (unsigned i = 0; i < LAPS * 4; i++) {
            while (sent - taken < waiting) {
                steps_send(0, sent++, 8);
                model_assert(waiting > 1 || atomic_load(&shared->tail) == sent);
                forget_hints();
            }
            if (waiting == 4) {
                claim_nothing(0);
                forget_hints();
            }
            model_assert(nr_slot_queued(&steps.rings[2]) == waiting);
            if (waiting)
                take_and_ack(1, taken++);
            forget_hints();
            if (taken == sent) {
                take_nothing(1, -EAGAIN);
                model_assert(!nr_slot_may_take(&steps.rings[1]));
            }
        }
    /* And with the hints, which then stand where the next one is. */
    while (taken < sent)
        take_and_ack(1, taken++);
    model_assert(atomic_load(&shared->head) == taken);
    steps_send(0, sent++, 8);
    model_assert(atomic_load(&shared->tail) == sent);
}

/* Who is in the middle of something, and what others find then. */
static void be_in_the_way(unsigned me)
{
    struct nr_slot_taken first, second;
    struct nr_slot_claim mine = steps_claim(0, 0), other;
    uint32_t blocker = STEPS_DEAD;

    (void)me;
    steps_send(2, 1, 8);
    model_assert(nr_slot_take(&steps.rings[1], &first, &blocker) == -EBUSY && blocker == 0);
    model_assert(nr_slot_take(&steps.rings[1], &first, NULL) == -EAGAIN); /* it does not ask */
    model_assert(!nr_slot_may_take(&steps.rings[1]));
    mine.slot->size_bytes = 8;
    nr_slot_publish(&steps.rings[0], &mine, NR_SLOT_NO_CHUNK);
    first = steps_take(1, 0);
    second = steps_take(2, 1);
    steps_send(0, 2, 8);
    steps_send(0, 3, 8);
    atomic_store(&shared->head, 0);
    model_assert(nr_slot_claim(&steps.rings[0], &mine, &blocker) == -EBUSY && blocker == 1);
    model_assert(!nr_slot_may_claim(&steps.rings[0]));
    /* What was given back is the next one for everybody; others step over it. */
    nr_slot_return(&steps.rings[1], &first, true);
    claim_nothing(0);
    model_assert(nr_slot_queued(&steps.rings[0]) == 3);
    atomic_store(&steps.rings[0].seen_epoch, atomic_load(&shared->epoch));
    struct nr_slot_taken third = steps_take(0, 2);
    nr_slot_ack(&steps.rings[0], &third);
    first = steps_take(2, 0);
    model_assert(first.deliveries == 2 && first.is_redelivered);
    nr_slot_return(&steps.rings[2], &first, false);
    first = steps_take(2, 0);
    model_assert(first.deliveries == 2 && first.is_redelivered);
    nr_slot_ack(&steps.rings[2], &first);
    nr_slot_return(&steps.rings[2], &second, false);
    second = steps_take(1, 1);
    model_assert(second.deliveries == 1 && !second.is_redelivered);
    nr_slot_ack(&steps.rings[1], &second);
    take_and_ack(1, 3);
    /* A claim that nobody will fill. */
    mine = steps_claim(STEPS_DEAD, 4);
    other = steps_claim(0, 5);
    other.slot->size_bytes = 8;
    nr_slot_repair(&steps.rings[1], STEPS_DEAD);
    take_nothing(1, -EBUSY);
    nr_slot_publish(&steps.rings[0], &other, NR_SLOT_NO_CHUNK);
    second = steps_take(1, 5);
    nr_slot_ack(&steps.rings[1], &second);
    mine = steps_claim(STEPS_DEAD, 6);
    nr_slot_repair(&steps.rings[1], STEPS_DEAD);
    take_nothing(1, -EAGAIN);
    mine = steps_claim(STEPS_DEAD, 7);
    nr_slot_repair(&steps.rings[1], STEPS_DEAD);
    take_nothing(0, -EAGAIN);
    mine = steps_claim(STEPS_DEAD, 8);
    nr_slot_repair(&steps.rings[1], STEPS_DEAD);
    atomic_store(&steps.rings[0].seen_epoch, atomic_load(&shared->epoch));
    model_assert(nr_slot_may_take(&steps.rings[0]));
    take_nothing(0, -EAGAIN);
    model_assert(atomic_load(&shared->head) == 9 && !nr_slot_may_take(&steps.rings[0]));
    /* Claims all around: the one who is next in the way is told. */
    for (unsigned i = 0; i < 4; i++)
        steps_claim(i ? 1 : 2, 9 + i);
    model_assert(!nr_slot_may_claim(&steps.rings[0]));
    model_assert(nr_slot_claim(&steps.rings[0], &mine, &blocker) == -EBUSY && blocker == 2);
    model_assert(nr_slot_take(&steps.rings[1], &first, NULL) == -EAGAIN);
    nr_slot_repair(&steps.rings[0], 1);
    nr_slot_repair(&steps.rings[0], 2);
    take_nothing(0, -EAGAIN);
    model_assert(atomic_load(&shared->head) == 13);
}

/* What stands in the memory is not believed: the message is dropped, and all goes on. */
static void meet_damage(unsigned me)
{
    struct nr_slot_ring *ring = &steps.rings[1];
    uint32_t most = (uint32_t)nr_slot_inline_bytes(ring), index, blocker;
    struct nr_slot_taken taken;

    (void)me;
    model_assert(most == 128 - NR_SLOT_HEADER_BYTES);
    steps_send(0, 0, most);
    steps_send(0, 1, most + 1);
    take_and_ack(1, 0);
    take_nothing(1, -EBADMSG);
    index = steps_send_chunk(0, 2, 64);
    taken = steps_take(1, 2);
    model_assert(taken.chunk == index && taken.size_bytes == 64 && !taken.slot);
    model_assert(taken.payload == nr_chunk_at(ring, index)->payload && taken.type == STEPS_VALUE);
    nr_slot_return(ring, &taken, true);
    taken = steps_take(1, 2);
    nr_slot_ack(ring, &taken);
    index = steps_send_chunk(0, 3, 65);
    take_nothing(1, -EBADMSG);
    /* Too large since it was given back. */
    index = steps_send_chunk(0, 4, 8);
    taken = steps_take(1, 4);
    nr_chunk_at(ring, index)->size_bytes = 65;
    nr_slot_return(ring, &taken, true);
    take_nothing(1, -EBADMSG);
    /* No such chunk, or one that nobody has loaned. */
    for (unsigned i = 0; i < 2; i++) {
        struct nr_slot_claim mine = steps_claim(0, 5 + i);
        index = nr_chunk_loan(&steps.rings[0]);
        uint64_t word = atomic_load(&nr_chunk_at(ring, index)->word);
        nr_chunk_free(&steps.rings[0], index);
        nr_slot_publish(&steps.rings[0], &mine, index);
        atomic_store(&mine.slot->chunk, i ? index + 1 : ring->chunks_count + 1);
        atomic_store(&nr_chunk_at(ring, ring->chunks_count)->word, word);
        take_nothing(1, -EBADMSG);
    }
    take_nothing(1, -EAGAIN);
    /* Held by one that is dead, and from nowhere. */
    index = steps_send_chunk(0, 7, 8);
    steps_take(STEPS_DEAD, 7);
    atomic_store(&nr_chunk_at(ring, index)->origin, 0);
    nr_slot_repair(ring, STEPS_DEAD);
    model_assert(nr_slot_take(ring, &taken, &blocker) == 0 && taken.chunk == index);
    nr_slot_ack(ring, &taken);
    take_nothing(1, -EAGAIN);
    steps_send(0, 8, 8);
    take_and_ack(1, 8);
    for (unsigned i = 0; i < 2; i++)
        model_assert(nr_chunk_loan(&steps.rings[0]) != NR_SLOT_NO_CHUNK);
    model_assert(!nr_chunk_may_loan(&steps.rings[0]));
}

static void loan_and_hold(unsigned me)
{
    struct nr_slot_ring *ring = &steps.rings[1];
    struct nr_slot_taken taken, held;
    uint32_t index;

    (void)me;
    /* Senders get two of the three, and not at once what was just free. */
    model_assert(nr_chunk_may_loan(&steps.rings[0]));
    for (unsigned i = 0; i < 4; i++) {
        model_assert(nr_chunk_loan(&steps.rings[0]) == i % 2);
        nr_chunk_free(&steps.rings[0], i % 2);
    }
    model_assert(nr_chunk_loan(&steps.rings[0]) == 0);
    model_assert(nr_chunk_may_loan(&steps.rings[0]));
    model_assert(nr_chunk_loan(&steps.rings[0]) == 1);
    model_assert(!nr_chunk_may_loan(&steps.rings[0]));
    model_assert(nr_chunk_loan(&steps.rings[0]) == NR_SLOT_NO_CHUNK);
    /* The third is for what stands in a slot. */
    steps_send(0, 0, 8);
    steps_send(0, 1, 8);
    taken = steps_take(1, 0);
    model_assert(nr_slot_hold(ring, &taken) == 0);
    model_assert(!taken.slot && taken.chunk == 2 && taken.size_bytes == 8);
    model_assert(taken.payload == nr_chunk_at(ring, 2)->payload && taken.payload[0] == 0);
    held = taken;
    model_assert(nr_slot_hold(ring, &held) == 0 && held.chunk == 2);
    held = steps_take(1, 1);
    model_assert(nr_slot_hold(ring, &held) == -ENOBUFS && held.slot);
    nr_slot_return(ring, &held, false);
    /* By its index alone: mine, held, and there at all. */
    model_assert(nr_slot_held(ring, 2, &held) && held.chunk == 2 && held.deliveries == 1);
    model_assert(!held.slot);
    model_assert(!nr_slot_held(&steps.rings[2], 2, &held));
    model_assert(!nr_slot_held(&steps.rings[0], 0, &held));
    /* What stands behind the last chunk is none, whatever it looks like. */
    atomic_store(&nr_chunk_at(ring, 3)->word, atomic_load(&nr_chunk_at(ring, 2)->word));
    model_assert(!nr_slot_held(ring, 3, &held));
    /* What was held comes first, with what is known of it. */
    nr_slot_return(ring, &taken, true);
    model_assert(!nr_slot_held(ring, 2, &held));
    model_assert(nr_slot_queued(ring) == 2);
    taken = steps_take(2, 0);
    model_assert(taken.chunk == 2 && taken.is_redelivered && taken.deliveries == 2);
    model_assert(taken.sender_pid == 1 && taken.type == 0 && taken.size_bytes == 8);
    nr_slot_return(&steps.rings[2], &taken, false);
    taken = steps_take(2, 0);
    model_assert(taken.is_redelivered && taken.deliveries == 2);
    nr_slot_ack(&steps.rings[2], &taken);
    held = steps_take(2, 1);
    model_assert(nr_slot_hold(&steps.rings[2], &held) == 0 && held.chunk == 2);
    nr_slot_ack(&steps.rings[2], &held);
    /* A message in a chunk, taken as it is. */
    nr_chunk_free(&steps.rings[0], 1);
    index = steps_send_chunk(0, 2, 8);
    taken = steps_take(1, 2);
    model_assert(index == 1 && nr_slot_hold(ring, &taken) == 0 && taken.chunk == 1);
    model_assert(taken.deliveries == 1 && nr_chunk_at(ring, 1)->deliveries == 1);
    nr_slot_ack(ring, &taken);
    nr_chunk_free(&steps.rings[0], 0);
    model_assert(nr_slot_lost(ring) == 0);
    nr_slot_lose(ring, 3);
    model_assert(nr_slot_lost(&steps.rings[0]) == 3 && nr_slot_lost(ring) == 0);
}

/* How many steps a call that takes several may make in all: what it looks through for orphans is counted as well. */
static void take_within(unsigned me)
{
    struct nr_slot_ring *ring = &steps.rings[1];
    struct nr_slot_taken taken;
    uint32_t blocker, left = nr_slot_steps(ring);
    const uint32_t all = left, looks = 4 + 3;

    (void)me;
    model_assert(all == 8 * 4 + 64);
    model_assert(nr_slot_take_within(ring, &taken, &blocker, &left) == -EAGAIN && left == all);
    steps_send(0, 0, 8);
    model_assert(nr_slot_take_within(ring, &taken, &blocker, &left) == 0 && left == all);
    nr_slot_return(ring, &taken, false);
    model_assert(nr_slot_take_within(ring, &taken, &blocker, &left) == 0 && left == all - looks);
    nr_slot_ack(ring, &taken);
    model_assert(nr_slot_take_within(ring, &taken, &blocker, &left) == -EAGAIN);
    model_assert(left == all - 2 * looks); /* there are no more */
    steps_send(0, 1, 8);
    left = 0;
    model_assert(nr_slot_take_within(ring, &taken, &blocker, &left) == -EAGAIN && left == 0);
    atomic_fetch_add(&shared->epoch, 1);
    left = looks - 1;
    model_assert(nr_slot_take_within(ring, &taken, &blocker, &left) == -EAGAIN && left == 0);
    left = 1;
    model_assert(nr_slot_take_within(ring, &taken, &blocker, &left) == 0 && left == 1);
    nr_slot_ack(ring, &taken);
    /* Each that is given up costs two: it is cleared, and stepped over. */
    steps_claim(STEPS_DEAD, 2);
    steps_claim(STEPS_DEAD, 3);
    nr_slot_repair(ring, STEPS_DEAD);
    atomic_store(&ring->seen_epoch, atomic_load(&shared->epoch));
    left = all;
    model_assert(nr_slot_take_within(ring, &taken, &blocker, &left) == -EAGAIN && left == all - 4);
}

static void check_whole(void)
{
    struct nr_slot_ring *ring = &steps.rings[0];

    for (unsigned i = 0; i < ring->chunks_count; i++)
        nr_slot_repair(&steps.rings[1], i); /* what a step has left */
    for (unsigned i = 0; i < ring->chunks_count - ring->chunks_for_holds; i++)
        model_assert(nr_chunk_loan(ring) != NR_SLOT_NO_CHUNK);
    model_assert(nr_chunk_loan(ring) == NR_SLOT_NO_CHUNK);
}

#define ALONE(title, function)                                                                     \
    {                                                                                              \
        .name = title, .init = init, .check = check_whole, .state = &steps,                        \
        .state_bytes = sizeof steps, .shared_bytes = STEPS_SHARED_BYTES, .processes = 1, .run = {  \
            function                                                                               \
        }                                                                                          \
    }

static const struct model_scenario scenarios[] = {
    ALONE("around the ring, with and without hints", go_around),
    ALONE("in each other's way", be_in_the_way),
    ALONE("damaged", meet_damage),
    ALONE("loaned and held", loan_and_hold),
    ALONE("several in one call", take_within),
};

const struct model_protocol model_slot_ring_steps = {
    .name = "slot_ring_steps",
    .scenarios = scenarios,
    .scenarios_count = sizeof scenarios / sizeof *scenarios,
};
