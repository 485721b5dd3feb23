/* SPDX-License-Identifier: MIT */
/*
 * participants -- an index gets a new owner only when nobody can still act on what its last one left
 *
 * Each joins, takes the one thing there is (a word that names its owner by the index, as slots do), and leaves, twice, so
 * that indexes are used again. Whoever finds the dead has the thing repaired, as transport/party.c does. A repairer
 * that was paused and goes on too late takes the thing from the index's next owner: `is_mine` finds that. What an owner
 * leaves in plain data under its index, repairers read, and the next owner writes: a race if they are not in order.
 */
#include "data/participants.h"
#include "model.h"
#include <string.h>

enum {
    ENTRIES = 3,
    IDENTITY = 100,
    GONE = 3, /* who has died before the others begin */
    /* variants */
    ONE_SURVIVOR = 1,
    UNMARKED = 2, /* GONE has two of the entries, and nobody has marked it dead */
};

static struct {
    struct nr_participant entries[ENTRIES];
    _Alignas(64) _Atomic uint64_t thing; /* 1 + the index of its owner */
    uint64_t inside;                     /* written by the owner of the thing */
    uint64_t left[ENTRIES];              /* written by the owner of the index */
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
    model_name(&shared->left, sizeof shared->left, "left");
    state.table = (struct nr_participants){.entries = shared->entries, .count = ENTRIES};
}

static bool is_dead(unsigned process)
{
    return process == GONE || model_is_dead(process);
}

static void repair_thing(unsigned dead)
{
    uint64_t owner = atomic_load_explicit(&shared->thing, memory_order_acquire);

    if (owner == dead + 1)
        atomic_compare_exchange_strong_explicit(&shared->thing, &owner, 0, memory_order_acq_rel,
                                                memory_order_acquire);
    model_note("reads what was left", shared->left[dead]);
}

/* As nr_party_claim(). Pids are 1 + the process's number here, so that nobody has the pid 0. */
static int claim(unsigned me, uint64_t *ret_word)
{
    struct nr_participants *table = &state.table;
    int32_t pid = (int32_t)me + 1;
    int index = nr_participants_claim(table, pid, ret_word);

    for (unsigned i = 0; index < 0 && i < ENTRIES; i++)
        nr_participants_try_free(table, i);
    if (index < 0)
        index = nr_participants_claim(table, pid, ret_word);
    for (unsigned i = 0; index < 0 && i < ENTRIES; i++) {
        uint64_t word = atomic_load_explicit(&shared->entries[i].state, memory_order_acquire);
        unsigned is = nr_participant_state(word);
        if ((is != NR_PARTICIPANT_JOINING && is != NR_PARTICIPANT_ALIVE) ||
            !is_dead((unsigned)nr_participant_pid(word) - 1) ||
            !nr_participants_adopt(table, i, word, pid, ret_word))
            continue;
        repair_thing(i);
        return (int)i;
    }
    return index;
}

static bool join(unsigned me)
{
    uint64_t word;
    int index = claim(me, &word);

    model_note("claims index", (uint64_t)(int64_t)index);
    if (index < 0)
        return false;
    model_assert(
        nr_participants_joined(&state.table, (unsigned)index, &word, IDENTITY + me, me + 1));
    shared->left[index] = me + 1;
    state.indexes[me] = (unsigned)index;
    return true;
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

    if (!is_other && !is_dead(process))
        return false;
    bool is_marked = nr_participants_mark_dead(&state.table, index, word);
    model_assert(!is_marked || process == GONE || model_has_died(process));
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

/* Stays until the first process is over: an index that it has repaired is free all the same. */
static void watch_long(unsigned me)
{
    for (;;) {
        bool is_last = model_is_over(0);
        if (!sweep(me) && is_last)
            break;
        if (!is_last)
            model_pause();
    }
    nr_participants_leave(&state.table, state.indexes[me]);
}

/* Index 0 was left behind by one that died with the thing in its hand; 1 and 2 have joined, or 1 only. */
static void init_with_dead(void)
{
    uint64_t word;

    name_all();
    model_assert(join(GONE));
    atomic_store(&shared->thing, state.indexes[GONE] + 1);
    if (model_variant() & UNMARKED) {
        model_assert(join(1) && join(GONE));
        return;
    }
    word = atomic_load(&shared->entries[0].state);
    model_assert(nr_participants_mark_dead(&state.table, 0, word));
    for (unsigned i = 1; i < (model_variant() & ONE_SURVIVOR ? 2 : 3); i++)
        model_assert(join(i));
}

static unsigned state_of(unsigned index)
{
    return nr_participant_state(atomic_load(&shared->entries[index].state));
}

/* Another one comes: it can clear everything away. Then all places are used, and nobody's hazard is in the way of who
   leaves. */
static void check(void)
{
    uint64_t word;

    for (unsigned i = 0; i < ENTRIES; i++) {
        word = atomic_load(&shared->entries[i].state);
        unsigned is = nr_participant_state(word);
        if ((is == NR_PARTICIPANT_JOINING || is == NR_PARTICIPANT_ALIVE) &&
            is_dead((unsigned)nr_participant_pid(word) - 1))
            model_assert(nr_participants_mark_dead(&state.table, i, word));
    }
    for (unsigned i = 0; i < ENTRIES; i++) {
        unsigned me = (i + 1) % ENTRIES;
        if (state_of(i) == NR_PARTICIPANT_DEAD) {
            repair_thing(i);
            model_assert(nr_participants_repair_begin(&state.table, me, i));
            nr_participants_repair_end(&state.table, me, i);
        } else {
            nr_participants_try_free(&state.table, i);
        }
        model_assert(state_of(i) == NR_PARTICIPANT_FREE);
    }
    for (unsigned i = 0; i < ENTRIES; i++)
        model_assert(join(0));
    model_assert(nr_participants_claim(&state.table, 1, &word) < 0);
    for (unsigned i = 0; i < ENTRIES; i++) {
        nr_participants_leave(&state.table, i);
        model_assert(state_of(i) == NR_PARTICIPANT_FREE);
    }
    model_assert(atomic_load(&shared->thing) == 0);
}

/* -- one process: what each step says and leaves ----------------------------------------------- */

static void init_alone(void)
{
    name_all();
}

static unsigned generation_of(uint64_t word)
{
    return (unsigned)(word >> 40);
}

static void come_alone(unsigned me)
{
    struct nr_participants *table = &state.table;
    uint64_t word, again, other;

    (void)me;
    model_assert(nr_participants_claim(table, 7, &word) == 0);
    model_assert(word == atomic_load(&shared->entries[0].state) && generation_of(word) == 1);
    model_assert(nr_participant_state(word) == NR_PARTICIPANT_JOINING);
    model_assert(nr_participant_pid(word) == 7);
    shared->entries[0].tally.sent_messages = 5;
    atomic_store(&shared->entries[0].hazard, 2);
    again = word;
    model_assert(nr_participants_joined(table, 0, &word, IDENTITY, 3));
    model_assert(word == atomic_load(&shared->entries[0].state));
    model_assert(nr_participant_state(word) == NR_PARTICIPANT_ALIVE);
    model_assert(atomic_load(&shared->entries[0].identity) == IDENTITY);
    model_assert(atomic_load(&shared->entries[0].role) == 3);
    model_assert(atomic_load(&shared->entries[0].hazard) == 0);
    model_assert(shared->entries[0].tally.sent_messages == 0);
    /* Whoever comes with an older word changes nothing. */
    model_assert(!nr_participants_joined(table, 0, &again, IDENTITY, 3));
    model_assert(again == word);
    again = word ^ 1;
    model_assert(!nr_participants_mark_dead(table, 0, again));
    model_assert(!nr_participants_adopt(table, 0, again, 8, &other));
    /* Adopted alive, and then while it joins. */
    for (unsigned i = 2; i < 4; i++) {
        model_assert(nr_participants_adopt(table, 0, word, 8, &word));
        model_assert(word == atomic_load(&shared->entries[0].state) && generation_of(word) == i);
        model_assert(nr_participant_state(word) == NR_PARTICIPANT_JOINING);
        model_assert(nr_participant_pid(word) == 8);
    }
    model_assert(nr_participants_claim(table, 9, &again) == 1);
    model_assert(nr_participants_joined(table, 1, &again, IDENTITY, 1));
    model_assert(nr_participants_claim(table, 9, &again) == 2);
    model_assert(nr_participants_joined(table, 2, &again, IDENTITY, 1));
    model_assert(nr_participants_claim(table, 9, &again) == -1);
    /* Nobody repairs the living, or adopts the dead. */
    model_assert(!nr_participants_repair_begin(table, 1, 0));
    model_assert(atomic_load(&shared->entries[1].hazard) == 0);
    nr_participants_repair_end(table, 1, 0);
    model_assert(atomic_load(&shared->entries[0].state) == word);
    model_assert(nr_participants_mark_dead(table, 0, word));
    model_assert(state_of(0) == NR_PARTICIPANT_DEAD);
    word = atomic_load(&shared->entries[0].state);
    model_assert(!nr_participants_adopt(table, 0, word, 8, &other));
    /* Two repair it; it is free when both are done. */
    for (unsigned i = 1; i < 3; i++) {
        model_assert(nr_participants_repair_begin(table, i, 0));
        model_assert(atomic_load(&shared->entries[i].hazard) == 1);
    }
    nr_participants_repair_end(table, 2, 0);
    model_assert(state_of(0) == NR_PARTICIPANT_RETIRING);
    model_assert(atomic_load(&shared->entries[2].hazard) == 0);
    /* What stands behind the last entry is none, even if it looks like one that names the first. */
    struct nr_participant *behind = &shared->entries[ENTRIES];
    model_assert((void *)&behind->state == &shared->thing);
    atomic_store(&shared->thing, (uint64_t)NR_PARTICIPANT_ALIVE << 32);
    atomic_store(&behind->hazard, 1);
    nr_participants_repair_end(table, 1, 0);
    atomic_store(&shared->thing, 0);
    model_assert(state_of(0) == NR_PARTICIPANT_FREE);
    model_assert(atomic_load(&shared->entries[1].hazard) == 0);
    /* Who is too late finds the entry in use again, and leaves it alone. */
    model_assert(nr_participants_claim(table, 9, &word) == 0 && generation_of(word) == 4);
    nr_participants_repair_end(table, 1, 0);
    nr_participants_try_free(table, 0);
    model_assert(atomic_load(&shared->entries[0].state) == word);
    model_assert(nr_participants_joined(table, 0, &word, IDENTITY, 1));
    for (unsigned i = 0; i < ENTRIES; i++)
        nr_participants_leave(table, i);
}

#define SCENARIO(title, at_most_preempted, ...)                                                    \
    {                                                                                              \
        .name = title, .check = check, .state = &state, .state_bytes = sizeof state,               \
        .shared_bytes = sizeof *shared, .preemptions = at_most_preempted, .stale_reads = 2,        \
        .crashes = 1, __VA_ARGS__                                                                  \
    }

static const struct model_scenario scenarios[] = {
    SCENARIO("one alone", 2, .init = init_alone, .processes = 1, .run = {come_alone}),
    SCENARIO("one comes once, one twice, one sweeps", 2, .init = init, .processes = 3,
             .run = {come_once, come_twice, watch_briefly}, .may_crash = 3),
    SCENARIO("two repairers of one dead, one newcomer", 2, .init = init_with_dead, .processes = 3,
             .run = {come_once, watch_briefly, watch_briefly}, .symmetric = 6, .may_crash = 7),
    SCENARIO("one of two repairers of one dead comes again", 2, .init = init_with_dead,
             .variant = ONE_SURVIVOR, .processes = 2, .run = {come_once, sweep_and_come},
             .may_crash = 3),
    SCENARIO("one comes where another sweeps, and the dead have all other places", 2,
             .init = init_with_dead, .variant = UNMARKED, .processes = 2,
             .run = {come_once, watch_long}, .may_crash = 3),
    SCENARIO("two come where the dead have all places but one", 1, .init = init_with_dead,
             .variant = UNMARKED, .processes = 3, .run = {come_once, watch_briefly, come_once},
             .may_crash = 7),
};

const struct model_protocol model_participants = {
    .name = "participants",
    .scenarios = scenarios,
    .scenarios_count = sizeof scenarios / sizeof *scenarios,
};
