/* SPDX-License-Identifier: MIT */
/*
 * rwlock -- a writer is alone, readers see whole values or are told, and nobody waits for the dead
 *
 * As sync/rwlock.c: writers change two plain words that readers find equal, unless one has died in between.
 * With two deaths, and where a reader and a writer sleep on one slot, it is the look around that finds what the kernel's one wake has
 * not told (data/slots.h).
 */
#include "data/rwlock.h"
#include "model.h"
#include <string.h>

/* The variant: how many slots, and whether who sleeps looks around. */
#define COUNT (model_variant() % 8)
#define LOOKS (model_variant() >= 8)

static struct nr_slots *const shared = (void *)model_shared;
#define BEFORE shared->head.reserved[0]
#define AFTER  shared->head.reserved[1]

static struct {
    bool is_over[MODEL_PROCESSES];
    bool is_writing[MODEL_PROCESSES], is_reading[MODEL_PROCESSES];
} state;

static void init(void)
{
    model_name(&shared->head.word, 4, "head");
    model_name(&shared->head.more[1], 4, "stain");
    model_name(&BEFORE, 8, "before");
    model_name(&AFTER, 8, "after");
    model_hold(&shared->head.word);
    for (unsigned i = 0; i < COUNT; i++) {
        model_name(&shared->slots[i].word, 4, "slot[%u]", i);
        model_hold(&shared->slots[i].word);
    }
}

static void leave(struct nr_hold *hold)
{
    model_aim(&hold->word);
    if (!nr_hold_leave(&hold->word, false))
        model_store_and_wake((uint32_t *)&hold->word, 0);
    model_aim(NULL);
}

static void sleep_on_head(uint32_t seen)
{
    const uint32_t *place = (const uint32_t *)&shared->head.word;

    model_aim(place);
    if (nr_hold_want(&shared->head.word, &seen))
        model_sleep_on(&place, &seen, 1, !LOOKS);
}

static void sleep_on_slots(const uint32_t seen[])
{
    const uint32_t *places[MODEL_PROCESSES];
    uint32_t values[MODEL_PROCESSES];
    unsigned count = 0;

    for (unsigned i = 0; i < COUNT; i++)
        if (seen[i]) {
            places[count] = (const uint32_t *)&shared->slots[i].word;
            values[count++] = seen[i];
        }
    model_sleep_on(places, values, count, !LOOKS);
}

static void await_writer(void)
{
    uint32_t head;

    while (!nr_rwlock_look(shared, &head))
        sleep_on_head(head);
    if (nr_rwlock_must_wake(head))
        model_clear_and_wake((uint32_t *)&shared->head.word, NR_HOLD_WAITERS);
}

static int take_slot(unsigned me)
{
    uint32_t seen[MODEL_PROCESSES];

    for (;;) {
        int at = nr_slots_find(shared, COUNT, me % COUNT);
        if (at < 0) {
            if (nr_slots_want(shared, COUNT, seen))
                sleep_on_slots(seen);
            continue;
        }
        model_aim(&shared->slots[at].word);
        if (nr_hold_take(&shared->slots[at].word, me + 1, seen))
            return at;
        model_aim(NULL);
    }
}

static bool has_writer(void)
{
    for (unsigned i = 0; i < model_processes(); i++)
        if (state.is_writing[i] && !model_has_died(i))
            return true;
    return false;
}

/* One that died in the middle; the next writer puts it right. */
static bool has_dead_writer(bool is_put_right)
{
    for (unsigned i = 0; i < model_processes(); i++)
        if (state.is_writing[i] && model_has_died(i)) {
            state.is_writing[i] = !is_put_right;
            return true;
        }
    return false;
}

static void read_once(unsigned me)
{
    int at;

    for (;;) {
        await_writer();
        at = take_slot(me);
        if (nr_rwlock_is_open(shared))
            break;
        leave(&shared->slots[at]);
    }
    state.is_reading[me] = true;
    model_assert(!has_writer());
    model_assert(nr_rwlock_is_stained(shared) == has_dead_writer(false));
    model_assert(BEFORE == AFTER || nr_rwlock_is_stained(shared));
    model_assert(!has_writer());
    state.is_reading[me] = false;
    leave(&shared->slots[at]);
    state.is_over[me] = true;
}

static void write_once(unsigned me)
{
    uint32_t seen[MODEL_PROCESSES];

    model_aim(&shared->head.word);
    while (!nr_hold_take(&shared->head.word, me + 1, seen))
        sleep_on_head(seen[0]);
    model_aim(NULL);
    seen[COUNT] = 7; /* no slot */
    while (nr_rwlock_readers(shared, COUNT, seen))
        sleep_on_slots(seen);
    model_assert(seen[COUNT] == 7);
    for (unsigned i = 0; i < model_processes(); i++)
        model_assert(i == me || model_has_died(i) ||
                     (!state.is_reading[i] && !state.is_writing[i]));
    model_assert(nr_rwlock_begin(shared) == has_dead_writer(true));
    state.is_writing[me] = true;
    BEFORE++;
    AFTER = BEFORE;
    nr_rwlock_clean(shared);
    state.is_writing[me] = false;
    leave(&shared->head);
    state.is_over[me] = true;
}

static void check(void)
{
    model_assert(!nr_hold_owner(atomic_load_explicit(&shared->head.word, memory_order_relaxed)));
    for (unsigned i = 0; i < COUNT; i++)
        model_assert(
            !nr_hold_owner(atomic_load_explicit(&shared->slots[i].word, memory_order_relaxed)));
    model_assert(BEFORE == AFTER || nr_rwlock_is_stained(shared));
    for (unsigned i = 0; i < model_processes(); i++)
        model_assert(state.is_over[i] || model_has_died(i));
}

#define SCENARIO(title, ...)                                                                       \
    {                                                                                              \
        .name = title, .init = init, .check = check, .state = &state, .state_bytes = sizeof state, \
        .shared_bytes = 4 * sizeof(struct nr_hold), __VA_ARGS__                                    \
    }
#define BOUNDS .processes = 3, .preemptions = 2, .stale_reads = 2, .may_crash = 7

static const struct model_scenario scenarios[] = {
    SCENARIO("two write, one reads", BOUNDS, .crashes = 1, .variant = 2,
             .run = {write_once, write_once, read_once}),
    SCENARIO("one writes, two read", BOUNDS, .crashes = 1, .variant = 2,
             .run = {write_once, read_once, read_once}),
    SCENARIO("one writes, two read, one slot", BOUNDS, .crashes = 1, .variant = 8 + 1,
             .run = {write_once, read_once, read_once}),
    SCENARIO("one writes, two read, two die", .processes = 3, .preemptions = 2, .stale_reads = 1,
             .may_crash = 7, .crashes = 2, .variant = 8 + 2,
             .run = {write_once, read_once, read_once}),
    SCENARIO("two write, two read, three die", .is_deep = true, .processes = 4, .preemptions = 6,
             .stale_reads = 4, .may_crash = 15, .crashes = 3, .variant = 8 + 2,
             .run = {write_once, read_once, write_once, read_once}),
};

const struct model_protocol model_rwlock = {
    .name = "rwlock",
    .scenarios = scenarios,
    .scenarios_count = sizeof scenarios / sizeof *scenarios,
};
