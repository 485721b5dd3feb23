/* SPDX-License-Identifier: MIT */
/*
 * slots -- no more than so many hold one, and nobody waits for a dead one or sleeps beside a free one
 *
 * Each process takes a slot as sync/semaphore_owned.c does, and gives it back. Each slot has a plain word that its holder changes.
 * With two deaths it is the look around that finds what the kernel's one wake has not told (data/slots.h).
 */
#include "data/slots.h"
#include "model.h"
#include <string.h>

/* The variant: how many slots, and whether who sleeps looks around. */
#define COUNT (model_variant() % 8)
#define LOOKS (model_variant() >= 8)

static struct nr_slots *const shared = (void *)model_shared;

static struct {
    unsigned holders[NR_SLOTS_MAX]; /* 1 + who; 0: nobody */
    bool is_over[MODEL_PROCESSES];
} state;

static void init(void)
{
    for (unsigned i = 0; i < COUNT; i++) {
        model_name(&shared->slots[i].word, 4, "slot[%u]", i);
        model_name(&shared->slots[i].reserved, 4, "plain[%u]", i);
        model_hold(&shared->slots[i].word);
    }
}

static int try(unsigned me)
{
    int at;
    uint32_t seen;

    while ((at = nr_slots_find(shared, COUNT, me % COUNT)) >= 0) {
        model_assert((unsigned)at < COUNT);
        model_aim(&shared->slots[at].word);
        if (nr_hold_take(&shared->slots[at].word, me + 1, &seen))
            return at;
        model_aim(NULL);
    }
    return -1;
}

static int take(unsigned me)
{
    const uint32_t *places[MODEL_PROCESSES];
    uint32_t seen[MODEL_PROCESSES];
    int at;

    while ((at = try(me)) < 0) {
        if (!nr_slots_want(shared, COUNT, seen))
            continue;
        for (unsigned i = 0; i < COUNT; i++)
            places[i] = (const uint32_t *)&shared->slots[i].word;
        model_sleep_on(places, seen, COUNT, !LOOKS);
    }
    return at;
}

static void work(unsigned me)
{
    int at = take(me);

    if (state.holders[at])
        model_assert(model_has_died(state.holders[at] - 1));
    state.holders[at] = me + 1;
    shared->slots[at].reserved[0]++;
    model_aim(&shared->slots[at].word);
    if (!nr_hold_leave(&shared->slots[at].word, false))
        model_store_and_wake((uint32_t *)&shared->slots[at].word, 0);
    state.holders[at] = 0;
    model_aim(NULL);
    state.is_over[me] = true;
}

static void check(void)
{
    for (unsigned i = 0; i < model_processes(); i++)
        model_assert(state.is_over[i] || model_has_died(i));
    for (unsigned i = 0; i < COUNT; i++)
        model_assert(
            !nr_hold_owner(atomic_load_explicit(&shared->slots[i].word, memory_order_relaxed)));
}

#define SCENARIO(title, ...)                                                                       \
    {                                                                                              \
        .name = title, .init = init, .check = check, .state = &state, .state_bytes = sizeof state, \
        .shared_bytes = 4 * sizeof(struct nr_hold), __VA_ARGS__                                    \
    }
#define THREE .processes = 3, .may_crash = 7, .run = {work, work, work}

static const struct model_scenario scenarios[] = {
    SCENARIO("one slot for three, one dies", THREE, .preemptions = 3, .stale_reads = 3,
             .crashes = 1, .variant = 1),
    SCENARIO("two slots for three, one dies", THREE, .preemptions = 3, .stale_reads = 3,
             .crashes = 1, .variant = 2),
    SCENARIO("two slots for three, two die", THREE, .preemptions = 2, .stale_reads = 1,
             .crashes = 2, .variant = 8 + 2),
    SCENARIO("two slots for four, three die", .is_deep = true, .processes = 4, .may_crash = 15,
             .run = {work, work, work, work}, .preemptions = 6, .stale_reads = 4, .crashes = 3,
             .variant = 8 + 2),
};

const struct model_protocol model_slots = {
    .name = "slots",
    .scenarios = scenarios,
    .scenarios_count = sizeof scenarios / sizeof *scenarios,
};
