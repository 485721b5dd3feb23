/* SPDX-License-Identifier: MIT */
/*
 * seat -- one at a time sits there and finds what the one before has left; each end is counted once, as a death or not
 *
 * A seat is taken and left as transport/shm_bytes.c and shm_cell.c do: who finds it taken waits, or has the dead cleared
 * away. Several may find the same one dead, and one that was paused may clear too late, when another sits there. What
 * its holders do is plain data: a race if the seat does not order them.
 */
#include "data/seat.h"
#include "model.h"

enum {
    GONE = 3, /* the index of who died before the others begin */
    OBSERVER = MODEL_PROCESSES,
    /* variants */
    TAKEN = 1, /* GONE sits there */
};

static struct {
    _Atomic uint64_t seat;
    uint64_t inside, sat; /* plain, the holder's */
} *const shared = (void *)model_shared;

static struct {
    uint8_t taken, ended, cleared; /* of all */
} state;

static void init(void)
{
    model_name(&shared->seat, 8, "seat");
    model_name(&shared->inside, 8, "inside");
    model_name(&shared->sat, 8, "sat");
    if (!(model_variant() & TAKEN))
        return;
    model_assert(nr_seat_claim(&shared->seat, GONE) == 0);
    shared->inside = GONE + 1;
    state.taken = 1;
}

static void clear(unsigned me, unsigned dead)
{
    (void)me;
    if (nr_seat_clear(&shared->seat, dead, true)) {
        model_note("clears the seat of", dead);
        state.cleared++;
    }
}

/* False: someone else sits there, who may be alive. */
static bool sit_once(unsigned me)
{
    uint64_t before = nr_seat_gone(&shared->seat);
    int result = nr_seat_claim(&shared->seat, me);

    if (result == 0) {
        state.taken++;
        return true;
    }
    unsigned holder = (unsigned)(-result) - 1;
    model_assert(holder <= GONE && holder != me);
    if (holder == GONE)
        clear(me, GONE);
    else if (!model_repair_dead(me, clear) && nr_seat_gone(&shared->seat) == before)
        model_pause();
    return false;
}

static void sit_and_leave(unsigned me)
{
    while (!sit_once(me))
        ;
    shared->inside = me + 1;
    shared->sat++;
    model_assert(shared->inside == me + 1);
    state.ended++; /* in the same step as the end: the seat is left, or its holder dies before it */
    model_assert(nr_seat_clear(&shared->seat, me, false));
    model_assert(!nr_seat_clear(&shared->seat, me, false));
}

static void sit_twice(unsigned me)
{
    sit_and_leave(me);
    sit_and_leave(me);
}

/* As the receiver of a one-to-one ring: once it knows that the sender has gone, it finds all that it left. */
static void watch(unsigned me)
{
    for (;;) {
        bool is_last = model_is_over(0);
        if (nr_seat_gone(&shared->seat))
            break;
        if (is_last && !model_repair_dead(me, clear))
            return;
        if (!is_last)
            model_pause();
    }
    model_assert((shared->inside == 1 && shared->sat == 1) || model_has_died(0));
}

/* Only clears, and may be late. */
static void clear_gone(unsigned me)
{
    clear(me, GONE);
    model_repair_dead(me, clear);
}

static void check(void)
{
    unsigned deaths = 0;

    for (unsigned i = 0; i < model_processes(); i++)
        deaths += model_has_died(i);
    model_repair_dead(OBSERVER, clear);
    clear(OBSERVER, GONE);
    uint64_t word = atomic_load(&shared->seat);
    model_assert(!(word & NR_SEAT_HOLDER));
    model_assert(nr_seat_gone(&shared->seat) == word);
    /* A holder that dies as it leaves has said already that it ends. */
    model_assert(nr_seat_deaths(word) + nr_seat_ends(word) >= state.taken &&
                 nr_seat_deaths(word) + nr_seat_ends(word) <= state.taken + deaths);
    model_assert(nr_seat_deaths(word) >= state.cleared &&
                 nr_seat_deaths(word) <= state.cleared + deaths);
    model_assert(nr_seat_ends(word) <= state.ended && nr_seat_ends(word) + deaths >= state.ended);
    model_assert(shared->sat + deaths >= nr_seat_ends(word));
}

/* One process: the counts, each up to its end and no further, and whoever is not the holder. */
static void count_alone(unsigned me)
{
    const uint64_t most = 0xffffff;

    (void)me;
    atomic_store(&shared->seat, most << 40 | (most - 1) << 16);
    model_assert(nr_seat_deaths(atomic_load(&shared->seat)) == most);
    model_assert(nr_seat_ends(atomic_load(&shared->seat)) == most - 1);
    model_assert(!nr_seat_clear(&shared->seat, 4, true));
    model_assert(nr_seat_claim(&shared->seat, 4) == 0);
    model_assert(nr_seat_claim(&shared->seat, 5) == -5);
    model_assert(!nr_seat_clear(&shared->seat, 5, true) && !nr_seat_clear(&shared->seat, 3, true));
    model_assert(nr_seat_gone(&shared->seat) == (most << 40 | (most - 1) << 16));
    model_assert(nr_seat_clear(&shared->seat, 4, false));
    model_assert(atomic_load(&shared->seat) == (most << 40 | most << 16));
    model_assert(nr_seat_claim(&shared->seat, 0) == 0);
    model_assert(nr_seat_clear(&shared->seat, 0, true));
    model_assert(atomic_load(&shared->seat) == most << 16);
    model_assert(nr_seat_claim(&shared->seat, 0) == 0);
    model_assert(nr_seat_clear(&shared->seat, 0, false));
    model_assert(atomic_load(&shared->seat) == 0);
}

static void check_nothing(void)
{
}

#define SCENARIO(title, ...)                                                                       \
    {                                                                                              \
        .name = title, .init = init, .state = &state, .state_bytes = sizeof state,                 \
        .shared_bytes = sizeof *shared, __VA_ARGS__                                                \
    }
#define BOUNDS                                                                                     \
    .check = check, .processes = 3, .preemptions = 2, .stale_reads = 2, .crashes = 1, .may_crash = 7

static const struct model_scenario scenarios[] = {
    SCENARIO("counted alone", .check = check_nothing, .processes = 1, .run = {count_alone}),
    SCENARIO("two sit twice, one once", BOUNDS, .run = {sit_twice, sit_twice, sit_and_leave},
             .symmetric = 3),
    SCENARIO("two sit where one has died, one clears late", BOUNDS,
             .run = {sit_and_leave, sit_and_leave, clear_gone}, .symmetric = 3, .variant = TAKEN),
    SCENARIO("one sits, two see that it goes", BOUNDS, .run = {sit_and_leave, watch, watch},
             .symmetric = 6),
};

const struct model_protocol model_seat = {
    .name = "seat",
    .scenarios = scenarios,
    .scenarios_count = sizeof scenarios / sizeof *scenarios,
};
