/* SPDX-License-Identifier: MIT */
/*
 * barrier -- nobody passes before all have arrived, all pass then, and if one dies nobody waits for it
 *
 * As sync/barrier.c. Each writes a plain word before each meeting, and reads those of all behind it.
 */
#include "data/barrier.h"
#include "model.h"
#include <string.h>

/* The variant: how many meetings, and whether parties join on the way; else they have, so that their death is noticed. */
#define MEETINGS (model_variant() % 8)
#define JOINS    (model_variant() >= 8)
#define IS_DEAD  (model_variant() >= 16) /* a party, before */

static struct nr_slots *const shared = (void *)model_shared;
#define DATA(who) shared->slots[who].reserved[0]

static struct {
    unsigned passed[MODEL_PROCESSES], last[4];
    bool is_broken[MODEL_PROCESSES];
} state;

static void init(void)
{
    model_name(&shared->head.word, 4, "meeting");
    for (unsigned i = 0; i < model_processes(); i++) {
        model_name(&shared->slots[i].word, 4, "slot[%u]", i);
        model_name(&shared->slots[i].more[0], 4, "arrived[%u]", i);
        model_name(&DATA(i), 8, "data[%u]", i);
        model_hold(&shared->slots[i].word);
        if (!JOINS)
            atomic_store_explicit(&shared->slots[i].word, i + 1, memory_order_relaxed);
        if (IS_DEAD && i == 0)
            atomic_store_explicit(&shared->slots[i].word, NR_HOLD_DIED, memory_order_relaxed);
    }
}

/* -1: a party is dead. */
static int join(unsigned me)
{
    uint32_t seen;
    int at;

    while ((at = nr_barrier_find(shared, model_processes())) >= 0) {
        model_assert((unsigned)at < model_processes());
        model_aim(&shared->slots[at].word);
        if (!nr_hold_take(&shared->slots[at].word, me + 1, &seen))
            continue;
        if (!(seen & NR_HOLD_DIED))
            return at;
        if (!nr_hold_leave(&shared->slots[at].word, true))
            model_store_and_wake((uint32_t *)&shared->slots[at].word, NR_HOLD_DIED);
    }
    return -1;
}

static bool sleep_for(uint32_t meeting)
{
    const uint32_t *places[1 + MODEL_PROCESSES] = {(const uint32_t *)&shared->head.word};
    uint32_t seen[1 + MODEL_PROCESSES] = {meeting};

    if (!nr_barrier_want(shared, model_processes(), seen + 1))
        return false;
    for (unsigned i = 0; i < model_processes(); i++)
        places[1 + i] = (const uint32_t *)&shared->slots[i].word;
    model_sleep_on(places, seen, 1 + model_processes(), true);
    return true;
}

/* By what it was woken is not known here: it wakes the others in any case, if it has slept. */
static enum nr_barrier_look meet(int at, unsigned number)
{
    uint32_t meeting = nr_barrier_arrive(shared, (unsigned)at);
    enum nr_barrier_look look;
    bool has_slept = false;

    model_assert(meeting == number);

    while ((look = nr_barrier_look(shared, model_processes(), meeting)) == NR_BARRIER_WAIT)
        has_slept = sleep_for(meeting) || has_slept;
    if (look == NR_BARRIER_BROKEN) {
        nr_barrier_withdraw(shared, (unsigned)at, meeting);
        model_assert(atomic_load_explicit(nr_barrier_arrived(&shared->slots[at]),
                                          memory_order_relaxed) == meeting);
    }
    if (look == NR_BARRIER_LAST) {
        model_assert(meeting < 4 && state.last[meeting] == 0);
        state.last[meeting] = 1;
    }
    if (has_slept || look == NR_BARRIER_LAST || look == NR_BARRIER_BROKEN)
        model_wake((const uint32_t *)&shared->head.word);
    return look;
}

static void work(unsigned me)
{
    int at = JOINS ? join(me) : (int)me;

    for (unsigned i = 1; i <= MEETINGS; i++) {
        if (at < 0) {
            state.is_broken[me] = true;
            return;
        }
        DATA(at) = i;
        enum nr_barrier_look look = meet(at, i - 1);
        if (look == NR_BARRIER_BROKEN) {
            state.is_broken[me] = true;
            return;
        }
        state.passed[me] = i;
        for (unsigned other = 0; other < model_processes() && i == MEETINGS; other++)
            model_assert(DATA(other) == i);
    }
}

static void check(void)
{
    bool has_died = IS_DEAD;

    for (unsigned i = 0; i < model_processes(); i++)
        has_died = has_died || model_has_died(i);
    for (unsigned i = 0; i < model_processes(); i++) {
        model_assert(has_died || !state.is_broken[i]);
        model_assert(model_has_died(i) || state.is_broken[i] || state.passed[i] == MEETINGS);
    }
    nr_barrier_forget(shared, model_processes());
    for (unsigned i = 0; i < model_processes(); i++)
        model_assert(
            !(atomic_load_explicit(&shared->slots[i].word, memory_order_relaxed) & NR_HOLD_DIED));
}

#define SCENARIO(title, ...)                                                                       \
    {                                                                                              \
        .name = title, .init = init, .check = check, .state = &state, .state_bytes = sizeof state, \
        .shared_bytes = 4 * sizeof(struct nr_hold), __VA_ARGS__                                    \
    }

static const struct model_scenario scenarios[] = {
    SCENARIO("two meet twice", .processes = 2, .preemptions = 3, .stale_reads = 2, .crashes = 1,
             .may_crash = 3, .run = {work, work}, .variant = 2),
    SCENARIO("three join and meet", .processes = 3, .preemptions = 2, .stale_reads = 2,
             .run = {work, work, work}, .variant = 8 + 1),
    SCENARIO("two come where one has died", .processes = 2, .preemptions = 2, .stale_reads = 2,
             .run = {work, work}, .variant = 16 + 1),
    SCENARIO("three meet, one dies", .processes = 3, .preemptions = 2, .stale_reads = 1,
             .crashes = 1, .may_crash = 7, .run = {work, work, work}, .variant = 1, .symmetric = 7),
    SCENARIO("three meet, two die", .processes = 3, .preemptions = 1, .stale_reads = 1,
             .crashes = 2, .may_crash = 7, .run = {work, work, work}, .variant = 1, .symmetric = 7),
};

const struct model_protocol model_barrier_protocol = {
    .name = "barrier",
    .scenarios = scenarios,
    .scenarios_count = sizeof scenarios / sizeof *scenarios,
};
