/* SPDX-License-Identifier: MIT */
/*
 * permits -- what is given is taken, once, and nobody sleeps beside a permit
 *
 * Givers write a plain word each before they give; takers that have taken all permits read them. Who dies as a giver
 * has given or not: the word says which.
 */
#include "data/permits.h"
#include "model.h"
#include <string.h>

enum { GUARD = 1, FULL = 2 };

static struct {
    _Atomic uint32_t word;
    uint32_t data[MODEL_PROCESSES];
} *const shared = (void *)model_shared;

static struct {
    unsigned given[MODEL_PROCESSES], taken[MODEL_PROCESSES];
} state;

static void init(void)
{
    model_name(&shared->word, 4, "word");
    model_name(shared->data, sizeof shared->data, "data");
    atomic_store_explicit(&shared->word,
                          model_variant() == GUARD  ? 1
                          : model_variant() == FULL ? NR_PERMITS_MAX - 1
                                                    : 0,
                          memory_order_relaxed);
}

/* As naru_semaphore_post(). */
static bool give(void)
{
    enum nr_permits_given given = nr_permits_give(&shared->word);

    if (given == NR_PERMITS_CALL)
        model_add_and_wake((uint32_t *)&shared->word);
    return given != NR_PERMITS_FULL;
}

/* As nr_semaphore_sleep(). */
static void take(void)
{
    const uint32_t *place = (const uint32_t *)&shared->word;
    const uint32_t value = NR_PERMITS_SLEEPERS;
    uint32_t seen;

    while (!nr_permits_take(&shared->word, &seen))
        if (nr_permits_want(&shared->word, seen))
            model_sleep_on(&place, &value, 1, true);
}

static void post(unsigned me)
{
    shared->data[me] = me + 1;
    model_assert(give());
    state.given[me] = 1;
}

static void wait_for_one(unsigned me)
{
    take();
    state.taken[me] = 1;
}

/* Of three that post one may die: then what it has written is not asked for. */
static void wait_for_two(unsigned me)
{
    take();
    take();
    state.taken[me] = 2;
    if (model_processes() == 3)
        model_assert(shared->data[0] == 1 && shared->data[1] == 2);
}

/* Around plain words, as a mutex; nobody dies, for its permit would be gone. */
static void guarded(unsigned me)
{
    take();
    shared->data[0]++;
    model_assert(shared->data[1] + 1 == shared->data[0]);
    shared->data[1] = shared->data[0];
    model_assert(give());
    state.given[me] = 1;
}

/* One place is left. */
static void post_to_a_full_one(unsigned me)
{
    state.given[me] = give();
}

static void check(void)
{
    uint32_t count = nr_permits_count(atomic_load_explicit(&shared->word, memory_order_relaxed));
    unsigned given = 0, taken = 0, unsure = 0;

    for (unsigned i = 0; i < model_processes(); i++) {
        given += state.given[i];
        taken += state.taken[i];
        unsure += model_has_died(i);
    }
    model_assert(given <= count + taken + unsure && count + taken <= given + unsure);
}

static void check_guarded(void)
{
    model_assert(shared->data[0] == model_processes() && shared->data[1] == shared->data[0]);
    model_assert(atomic_load_explicit(&shared->word, memory_order_relaxed) == 1);
}

static void check_full(void)
{
    model_assert(state.given[0] + state.given[1] + state.given[2] == 1);
    model_assert(atomic_load_explicit(&shared->word, memory_order_relaxed) == NR_PERMITS_MAX);
}

#define SCENARIO(title, ...)                                                                       \
    {                                                                                              \
        .name = title, .init = init, .state = &state, .state_bytes = sizeof state,                 \
        .shared_bytes = sizeof *shared, __VA_ARGS__                                                \
    }
#define BOUNDS .processes = 3, .preemptions = 3, .stale_reads = 3

static const struct model_scenario scenarios[] = {
    SCENARIO("two post, one waits twice", BOUNDS, .check = check,
             .run = {post, post, wait_for_two}),
    SCENARIO("two post, one of two that wait dies", .check = check, .processes = 4,
             .preemptions = 2, .stale_reads = 1, .crashes = 1, .may_crash = 4,
             .run = {post, post, wait_for_one, wait_for_one}, .symmetric = 3),
    SCENARIO("three post, one dies, two wait", .check = check, .processes = 4, .preemptions = 2,
             .stale_reads = 1, .crashes = 1, .may_crash = 1,
             .run = {post, post, post, wait_for_two}),
    SCENARIO("three take turns", BOUNDS, .check = check_guarded, .run = {guarded, guarded, guarded},
             .symmetric = 7, .variant = GUARD),
    SCENARIO("three post where one can", BOUNDS, .check = check_full,
             .run = {post_to_a_full_one, post_to_a_full_one, post_to_a_full_one}, .symmetric = 7,
             .variant = FULL),
};

const struct model_protocol model_permits = {
    .name = "permits",
    .scenarios = scenarios,
    .scenarios_count = sizeof scenarios / sizeof *scenarios,
};
