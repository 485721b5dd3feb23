/* SPDX-License-Identifier: MIT */
/*
 * hold -- one holder at a time, and nobody waits for a dead one or sleeps beside a free word
 *
 * Each process locks the word as sync/mutex.c does, changes two plain words, and lets go. A process that dies in between
 * leaves them unequal; the next holder is told so, puts it right, and says so or not. What the kernel
 * does for the dead is the checker's (model.h).
 */
#include "data/hold.h"
#include "model.h"
#include <string.h>

enum { ROUNDS = 2, SAYS_SO = 1 };

static struct {
    struct nr_hold hold;
    uint32_t before, after;
} *const shared = (void *)model_shared;

static struct {
    unsigned rounds[MODEL_PROCESSES];
    bool is_inside[MODEL_PROCESSES];
    bool is_doubtful; /* somebody died inside, and nobody said since that all is well */
} state;

static void init(void)
{
    model_name(&shared->hold.word, 4, "word");
    model_name(&shared->before, 4, "before");
    model_name(&shared->after, 4, "after");
    model_hold(&shared->hold.word);
}

/* As nr_mutex_wait(). False: it gave up. */
static bool lock(unsigned me, bool may_give_up, uint32_t *ret_seen)
{
    _Atomic uint32_t *word = &shared->hold.word;
    const uint32_t *place = (const uint32_t *)word;

    model_aim(word);
    while (!nr_hold_take(word, me + 1, ret_seen)) {
        uint32_t seen = *ret_seen;
        if (!nr_hold_want(word, &seen))
            continue;
        if (may_give_up) {
            model_aim(NULL);
            return false;
        }
        model_sleep_on(&place, &seen, 1, true);
    }
    return true;
}

static void unlock(bool died)
{
    if (!nr_hold_leave(&shared->hold.word, died))
        model_store_and_wake((uint32_t *)&shared->hold.word, nr_hold_left(died));
    model_aim(NULL);
}

static void section(unsigned me, uint32_t seen)
{
    bool died = (seen & NR_HOLD_DIED) != 0;

    state.is_inside[me] = true;
    for (unsigned i = 0; i < model_processes(); i++)
        if (i != me && state.is_inside[i]) {
            model_assert(model_has_died(i));
            state.is_doubtful = true;
            state.is_inside[i] = false;
        }
    model_assert(died == state.is_doubtful);
    model_assert(died || shared->before == shared->after);
    shared->before++;
    shared->after = shared->before;
    if (died && (model_variant() & SAYS_SO)) {
        atomic_fetch_and_explicit(&shared->hold.word, ~NR_HOLD_DIED, memory_order_relaxed);
        state.is_doubtful = died = false;
    }
    state.rounds[me]++;
    unlock(died);
    state.is_inside[me] = false;
}

static void work(unsigned me)
{
    uint32_t seen;

    for (unsigned i = 0; i < ROUNDS; i++)
        if (lock(me, false, &seen))
            section(me, seen);
}

static void work_once(unsigned me)
{
    uint32_t seen;

    if (lock(me, false, &seen))
        section(me, seen);
}

static void try_once(unsigned me)
{
    uint32_t seen;

    if (lock(me, true, &seen))
        section(me, seen);
}

/* Where the kernel does not mark the word, because a list is broken: who waits looks around, as nr_mutex_wait(). */
static void look_around(unsigned me)
{
    _Atomic uint32_t *word = &shared->hold.word;
    const uint32_t *place = (const uint32_t *)word;
    uint32_t seen;

    model_aim(word);
    while (!nr_hold_take(word, me + 1, &seen)) {
        if (model_is_dead(nr_hold_owner(seen) - 1))
            nr_hold_bury(word, seen);
        else if (nr_hold_want(word, &seen))
            model_sleep_on(&place, &seen, 1, false);
    }
    section(me, seen);
}

static void init_unmarked(void)
{
    model_name(&shared->hold.word, 4, "word");
    model_name(&shared->before, 4, "before");
    model_name(&shared->after, 4, "after");
}

static void check(void)
{
    uint32_t word = atomic_load_explicit(&shared->hold.word, memory_order_relaxed);

    model_assert(nr_hold_owner(word) == 0);
    for (unsigned i = 0; i < model_processes(); i++)
        model_assert(!state.is_inside[i] || model_has_died(i));
}

#define SCENARIO(title, ...)                                                                       \
    {                                                                                              \
        .name = title, .state = &state, .state_bytes = sizeof state,                               \
        .shared_bytes = sizeof *shared, __VA_ARGS__                                                \
    }
#define USUAL  .init = init, .check = check
#define BOUNDS .preemptions = 3, .stale_reads = 3, .crashes = 1, .may_crash = 7
#define THREE  .processes = 3, .run = {work_once, work_once, work_once}, .symmetric = 7

static const struct model_scenario scenarios[] = {
    SCENARIO("two, twice each", USUAL, .preemptions = 3, .stale_reads = 2, .may_crash = 3,
             .processes = 2, .run = {work, work}, .symmetric = 3, .crashes = 1),
    SCENARIO("three, once each", USUAL, BOUNDS, THREE),
    SCENARIO("three, once each, and all is well again", USUAL, BOUNDS, THREE, .variant = SAYS_SO),
    SCENARIO("three, once each, two die", USUAL, .preemptions = 3, .stale_reads = 1, .crashes = 2,
             .may_crash = 7, THREE),
    SCENARIO("two, and one that gives up", USUAL, BOUNDS, .processes = 3,
             .run = {work, work_once, try_once}),
    SCENARIO("three, and the kernel marks nothing", .init = init_unmarked, .processes = 3,
             .preemptions = 3, .stale_reads = 3, .crashes = 1, .may_crash = 1,
             .run = {work_once, look_around, look_around}, .symmetric = 6),
    SCENARIO("four, twice each, three die", USUAL, .is_deep = true, .processes = 4,
             .preemptions = 6, .stale_reads = 4, .crashes = 3, .may_crash = 15,
             .run = {work, work, work, work}),
};

const struct model_protocol model_hold_protocol = {
    .name = "hold",
    .scenarios = scenarios,
    .scenarios_count = sizeof scenarios / sizeof *scenarios,
};
