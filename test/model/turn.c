/* SPDX-License-Identifier: MIT */
/*
 * turn -- under a mutex (data/hold.h), who waits for a change is woken when it comes
 *
 * Who changes something does so under the mutex and wakes, as naru_condition_wake(), inside or outside.
 */
#include "data/hold.h"
#include "data/turn.h"
#include "model.h"
#include <string.h>

static struct {
    struct nr_hold hold;
    _Atomic uint32_t word;
    uint32_t changes;
} *const shared = (void *)model_shared;

static struct {
    unsigned through;
} state;

static void init(void)
{
    model_name(&shared->hold.word, 4, "mutex");
    model_name(&shared->word, 4, "turn");
    model_name(&shared->changes, 4, "changes");
    model_hold(&shared->hold.word);
}

static void lock(unsigned me)
{
    const uint32_t *place = (const uint32_t *)&shared->hold.word;
    uint32_t seen;

    model_aim(&shared->hold.word);
    while (!nr_hold_take(&shared->hold.word, me + 1, &seen))
        if (nr_hold_want(&shared->hold.word, &seen))
            model_sleep_on(&place, &seen, 1, true);
}

static void unlock(void)
{
    if (!nr_hold_leave(&shared->hold.word, false))
        model_store_and_wake((uint32_t *)&shared->hold.word, 0);
    model_aim(NULL);
}

static void wake(void)
{
    if (nr_turn_must_wake(&shared->word))
        model_add_and_wake((uint32_t *)&shared->word);
}

static void change_then_wake(unsigned me)
{
    lock(me);
    shared->changes++;
    unlock();
    wake();
}

static void change_and_wake(unsigned me)
{
    lock(me);
    shared->changes++;
    wake();
    unlock();
}

/* As naru_condition_wait(), until there are as many changes as the variant says. */
static void wait_for_changes(unsigned me)
{
    const uint32_t *place = (const uint32_t *)&shared->word;

    lock(me);
    while (shared->changes < model_variant()) {
        uint32_t value = nr_turn_prepare(&shared->word);
        unlock();
        model_sleep_on(&place, &value, 1, true);
        lock(me);
    }
    unlock();
    state.through++;
}

/* That all came to their end the checker sees: nobody sleeps for ever. */
static void check(void)
{
    model_assert(state.through > 0);
    model_assert(nr_hold_owner(atomic_load_explicit(&shared->hold.word, memory_order_relaxed)) ==
                 0);
}

#define SCENARIO(title, ...)                                                                       \
    {                                                                                              \
        .name = title, .init = init, .check = check, .state = &state, .state_bytes = sizeof state, \
        .shared_bytes = sizeof *shared, __VA_ARGS__                                                \
    }
#define BOUNDS .processes = 3, .preemptions = 3, .stale_reads = 2

static const struct model_scenario scenarios[] = {
    SCENARIO("one changes, two wait", BOUNDS, .variant = 1, .symmetric = 6,
             .run = {change_then_wake, wait_for_changes, wait_for_changes}),
    SCENARIO("one changes, two wait, one of them dies", BOUNDS, .variant = 1, .crashes = 1,
             .may_crash = 2, .run = {change_and_wake, wait_for_changes, wait_for_changes}),
    SCENARIO("two change, one waits", BOUNDS, .variant = 2,
             .run = {change_then_wake, change_and_wake, wait_for_changes}),
    SCENARIO("two change outside, one waits", BOUNDS, .variant = 2, .symmetric = 3,
             .run = {change_then_wake, change_then_wake, wait_for_changes}),
};

const struct model_protocol model_turn = {
    .name = "turn",
    .scenarios = scenarios,
    .scenarios_count = sizeof scenarios / sizeof *scenarios,
};
