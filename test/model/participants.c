/* SPDX-License-Identifier: MIT */
/*
 * participants -- an index gets a new owner only when nobody can still act on what its last one left
 *
 * Each joins, takes the one thing there is (a word that names its owner by the index, as slots do), and leaves, twice, so
 * that indexes are used again. Whoever finds the dead has the thing repaired, as transport/party.c does. A repairer
 * that was paused and goes on too late takes the thing from the index's next owner: `is_mine` finds that.
 */
#include "data/participants.h"
#include "model.h"
#include <string.h>

enum { ENTRIES = 3, IDENTITY = 100 };

static struct {
    struct nr_participant entries[ENTRIES];
    _Alignas(64) _Atomic uint64_t thing; /* 1 + the index of its owner */
    uint64_t inside;                     /* written by the owner of the thing */
} *const shared = (void *)model_shared;

static struct {
    struct nr_participants table;
    unsigned indexes[MODEL_PROCESSES];
} state;

static void name_all(void)
{
    for (unsigned i = 0; i < ENTRIES; i++) {
        struct nr_participant *entry = &shared->entries[i];
        model_name(entry, sizeof *entry, "entry[%u]", i);
        model_name(&entry->state, 8, "entry[%u].state", i);
        model_name(&entry->hazard, 4, "entry[%u].hazard", i);
        model_name(&entry->identity, 8, "entry[%u].identity", i);
    }
    model_name(&shared->thing, 8, "thing");
    model_name(&shared->inside, 8, "inside");
    state.table = (struct nr_participants){.entries = shared->entries, .count = ENTRIES};
}

/* Pids are 1 + the process's number here, so that nobody has the pid 0. */
static bool join(unsigned me)
{
    uint64_t word;
    int index = nr_participants_claim(&state.table, (int32_t)me + 1, &word);

    model_note("claims index", (uint64_t)(int64_t)index);
    if (index < 0)
        return false;
    model_assert(
        nr_participants_joined(&state.table, (unsigned)index, &word, IDENTITY + me, me + 1));
    state.indexes[me] = (unsigned)index;
    return true;
}

static void repair_thing(unsigned dead)
{
    uint64_t owner = atomic_load_explicit(&shared->thing, memory_order_acquire);

    if (owner == dead + 1)
        atomic_compare_exchange_strong_explicit(&shared->thing, &owner, 0, memory_order_acq_rel,
                                                memory_order_acquire);
}

/* As nr_party_is_dead(): the entry's process is no more, or is another one. What was read may be of the entry's next
   owner; then the state is not `word` any more. [A1] */
static bool mark_dead(unsigned index, uint64_t word)
{
    uint64_t identity =
        atomic_load_explicit(&shared->entries[index].identity, memory_order_relaxed);
    unsigned process = (unsigned)nr_participant_pid(word) - 1;
    bool is_other =
        nr_participant_state(word) == NR_PARTICIPANT_ALIVE && identity != IDENTITY + process;

    if (!is_other && !model_is_dead(process))
        return false;
    bool is_marked = nr_participants_mark_dead(&state.table, index, word);
    model_assert(!is_marked || model_has_died(process));
    return is_marked;
}

/* As nr_party_sweep(). */
static bool sweep(unsigned me)
{
    unsigned mine = state.indexes[me];
    bool has_done = false;

    for (unsigned i = 0; i < ENTRIES; i++) {
        uint64_t word =
            atomic_load_explicit(&shared->entries[i].state, memory_order_acquire); /* [A1] */
        unsigned is = nr_participant_state(word);
        if (is == NR_PARTICIPANT_FREE || i == mine)
            continue;
        if ((is == NR_PARTICIPANT_JOINING || is == NR_PARTICIPANT_ALIVE) && mark_dead(i, word))
            is = NR_PARTICIPANT_DEAD;
        if (is == NR_PARTICIPANT_RETIRING)
            nr_participants_try_free(&state.table, i);
        if (is != NR_PARTICIPANT_DEAD || !nr_participants_repair_begin(&state.table, mine, i))
            continue;
        repair_thing(i);
        nr_participants_repair_end(&state.table, mine, i);
        has_done = true;
    }
    return has_done;
}

static void use_thing(unsigned me)
{
    uint64_t mine = state.indexes[me] + 1, owner = 0;

    while (!atomic_compare_exchange_strong_explicit(&shared->thing, &owner, mine,
                                                    memory_order_acq_rel, memory_order_acquire)) {
        if (!sweep(me))
            model_pause();
        owner = 0;
    }
    shared->inside = mine;
    bool is_mine = atomic_load_explicit(&shared->thing, memory_order_relaxed) == mine;
    model_assert(is_mine);
    model_assert(shared->inside == mine);
    atomic_store_explicit(&shared->thing, 0, memory_order_release);
}

static void join_use_leave(unsigned me, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        while (!join(me))
            model_pause();
        sweep(me);
        use_thing(me);
        nr_participants_leave(&state.table, state.indexes[me]);
    }
}

static void come_once(unsigned me)
{
    join_use_leave(me, 1);
}
static void come_twice(unsigned me)
{
    join_use_leave(me, 2);
}

/* Sweeps twice. */
static void watch_briefly(unsigned me)
{
    sweep(me);
    sweep(me);
    nr_participants_leave(&state.table, state.indexes[me]);
}

static void init(void)
{
    name_all();
    model_assert(join(2));
}

/* Sweeps, leaves, and comes again, perhaps under the index that it has freed. */
static void sweep_and_come(unsigned me)
{
    sweep(me);
    nr_participants_leave(&state.table, state.indexes[me]);
    come_once(me);
}

/* Index 0 was left behind by one that died with the thing in its hand; 1 and 2 have joined, or 1 only. */
static void init_with_dead(void)
{
    uint64_t word;

    name_all();
    model_assert(join(3));
    atomic_store(&shared->thing, state.indexes[3] + 1);
    word = atomic_load(&shared->entries[0].state);
    model_assert(nr_participants_mark_dead(&state.table, 0, word));
    for (unsigned i = 1; i < (model_variant() ? 2 : 3); i++)
        model_assert(join(i));
}

/* Another one comes: it can clear everything away. */
static void check(void)
{
    for (unsigned round = 0; round < 2; round++)
        for (unsigned i = 0; i < ENTRIES; i++) {
            uint64_t word = atomic_load(&shared->entries[i].state);
            unsigned is = nr_participant_state(word);
            if ((is == NR_PARTICIPANT_JOINING || is == NR_PARTICIPANT_ALIVE) &&
                model_is_dead((unsigned)nr_participant_pid(word) - 1))
                model_assert(nr_participants_mark_dead(&state.table, i, word));
            if (nr_participant_state(atomic_load(&shared->entries[i].state)) ==
                NR_PARTICIPANT_DEAD) {
                repair_thing(i);
                unsigned me = (i + 1) % ENTRIES;
                model_assert(nr_participants_repair_begin(&state.table, me, i));
                nr_participants_repair_end(&state.table, me, i);
            }
            nr_participants_try_free(&state.table, i);
        }
    for (unsigned i = 0; i < ENTRIES; i++) {
        model_assert(nr_participant_state(atomic_load(&shared->entries[i].state)) ==
                     NR_PARTICIPANT_FREE);
        model_assert(join(0));
    }
    model_assert(!join(0));
    model_assert(atomic_load(&shared->thing) == 0);
}

#define SCENARIO(title, ...)                                                                       \
    {                                                                                              \
        .name = title, .check = check, .state = &state, .state_bytes = sizeof state,               \
        .shared_bytes = sizeof *shared, .preemptions = 2, .stale_reads = 2, .crashes = 1,          \
        __VA_ARGS__                                                                                \
    }

static const struct model_scenario scenarios[] = {
    SCENARIO("one comes once, one twice, one sweeps", .init = init, .processes = 3,
             .run = {come_once, come_twice, watch_briefly}, .may_crash = 3),
    SCENARIO("two repairers of one dead, one newcomer", .init = init_with_dead, .processes = 3,
             .run = {come_once, watch_briefly, watch_briefly}, .symmetric = 6, .may_crash = 7),
    SCENARIO("one of two repairers of one dead comes again", .init = init_with_dead, .variant = 1,
             .processes = 2, .run = {come_once, sweep_and_come}, .may_crash = 3),
};

const struct model_protocol model_participants = {
    .name = "participants",
    .scenarios = scenarios,
    .scenarios_count = sizeof scenarios / sizeof *scenarios,
};
