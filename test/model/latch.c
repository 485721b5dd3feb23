/* SPDX-License-Identifier: MIT */
/*
 * latch -- who waits goes on once it is up, sees what was written before, and nobody sleeps beside one that is up
 */
#include "data/latch.h"
#include "model.h"
#include <string.h>

enum { FIRST = 1, LOWERED = 2 };

static struct {
    _Atomic uint32_t word;
    uint32_t data[MODEL_PROCESSES];
} *const shared = (void *)model_shared;

static struct {
    bool is_through[MODEL_PROCESSES], is_raised[MODEL_PROCESSES];
} state;

static void init(void)
{
    model_name(&shared->word, 4, "word");
    model_name(shared->data, sizeof shared->data, "data");
}

/* As naru_event_set(). */
static void raise_it(unsigned me)
{
    shared->data[me] = me + 1;
    if (!nr_latch_raise(&shared->word))
        model_store_and_wake((uint32_t *)&shared->word, NR_LATCH_UP);
    state.is_raised[me] = true;
}

/* As nr_event_sleep(). */
static void await(void)
{
    const uint32_t *place = (const uint32_t *)&shared->word;
    const uint32_t value = NR_LATCH_SLEEPERS;

    while (!nr_latch_is_up(&shared->word))
        if (nr_latch_want(&shared->word))
            model_sleep_on(&place, &value, 1, true);
}

static void wait_for_it(unsigned me)
{
    await();
    state.is_through[me] = true;
    if (model_variant() == FIRST)
        model_assert(shared->data[0] == 1);
}

/* Raised by 0, lowered by 1 who has seen it, raised once more by it with something of its own. */
static void lower_and_raise(unsigned me)
{
    await();
    nr_latch_lower(&shared->word);
    model_assert(shared->data[0] == 1);
    raise_it(me);
    state.is_through[me] = true;
}

static void lower(unsigned me)
{
    await();
    nr_latch_lower(&shared->word);
    nr_latch_lower(&shared->word);
    state.is_through[me] = true;
}

static void check(void)
{
    bool is_up = atomic_load_explicit(&shared->word, memory_order_relaxed) == NR_LATCH_UP;

    for (unsigned i = 0; i < model_processes(); i++)
        model_assert(!state.is_raised[i] || is_up == (model_variant() != LOWERED));
}

#define SCENARIO(title, ...)                                                                       \
    {                                                                                              \
        .name = title, .init = init, .check = check, .state = &state, .state_bytes = sizeof state, \
        .shared_bytes = sizeof *shared, __VA_ARGS__                                                \
    }
#define BOUNDS .processes = 3, .preemptions = 3, .stale_reads = 3

static const struct model_scenario scenarios[] = {
    SCENARIO("one raises, two wait", BOUNDS, .variant = FIRST,
             .run = {raise_it, wait_for_it, wait_for_it}, .symmetric = 6),
    SCENARIO("one raises, two wait, one of them dies", BOUNDS, .variant = FIRST, .crashes = 1,
             .may_crash = 2, .run = {raise_it, wait_for_it, wait_for_it}),
    SCENARIO("two raise, one of them dies, one waits", BOUNDS, .crashes = 1, .may_crash = 1,
             .run = {raise_it, raise_it, wait_for_it}),
    SCENARIO("raised and lowered", .processes = 2, .preemptions = 3, .stale_reads = 3,
             .variant = LOWERED, .run = {raise_it, lower}),
    SCENARIO("raised, lowered and raised", BOUNDS, .variant = FIRST,
             .run = {raise_it, lower_and_raise, wait_for_it}),
};

const struct model_protocol model_latch = {
    .name = "latch",
    .scenarios = scenarios,
    .scenarios_count = sizeof scenarios / sizeof *scenarios,
};
