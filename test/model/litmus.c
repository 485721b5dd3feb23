/* SPDX-License-Identifier: MIT */
/*
 * litmus -- does the checker itself know C11? Each pattern must be found where the standard allows it, and must not
 *           where it does not. What `must_say` names is the outcome that has to be reachable.
 */
#include "model.h"
#include <stdatomic.h>
#include <string.h>

static struct {
    _Alignas(64) atomic_uint x;
    _Alignas(64) atomic_uint y;
    _Alignas(64) atomic_uint z;
    _Alignas(64) uint32_t data;
} *const shared = (void *)model_shared;

static struct {
    unsigned results[8];
} state;

static void init(void)
{
    model_name(&shared->x, sizeof shared->x, "x");
    model_name(&shared->y, sizeof shared->y, "y");
    model_name(&shared->z, sizeof shared->z, "z");
    model_name(&shared->data, sizeof shared->data, "data");
    memset(state.results, 0xff, sizeof state.results);
}

#define LOAD(place, order) atomic_load_explicit(&shared->place, memory_order_##order)
#define STORE(place, value, order)                                                                 \
    atomic_store_explicit(&shared->place, value, memory_order_##order)
#define FENCE(order) atomic_thread_fence(memory_order_##order)

/* -- message passing -- */

static void mp_write_relaxed(unsigned me)
{
    (void)me;
    shared->data = 7;
    STORE(x, 1, relaxed);
}
static void mp_write(unsigned me)
{
    (void)me;
    shared->data = 7;
    STORE(x, 1, release);
}
static void mp_write_fence(unsigned me)
{
    (void)me;
    shared->data = 7;
    FENCE(release);
    STORE(x, 1, relaxed);
}
static void mp_read(unsigned me)
{
    (void)me;
    if (LOAD(x, acquire))
        model_assert(shared->data == 7);
}
static void mp_read_relaxed(unsigned me)
{
    (void)me;
    if (LOAD(x, relaxed))
        model_assert(shared->data == 7);
}
static void mp_read_fence(unsigned me)
{
    (void)me;
    if (LOAD(x, relaxed)) {
        FENCE(acquire);
        model_assert(shared->data == 7);
    }
}
/* A relaxed read-modify-write carries on the release sequence; a relaxed store of another does not. */
static void mp_carry(unsigned me)
{
    (void)me;
    atomic_fetch_add_explicit(&shared->x, 1, memory_order_relaxed);
}
static void mp_break(unsigned me)
{
    (void)me;
    if (LOAD(x, relaxed) == 1)
        STORE(x, 2, relaxed);
}
static void mp_read_second(unsigned me)
{
    (void)me;
    if (LOAD(x, acquire) == 2)
        model_assert(shared->data == 7);
}
/* Passed on by a third: happens-before is transitive. */
static void mp_forward(unsigned me)
{
    (void)me;
    if (LOAD(x, acquire))
        STORE(y, 1, release);
}
static void mp_read_forwarded(unsigned me)
{
    (void)me;
    if (LOAD(y, acquire))
        model_assert(shared->data == 7);
}

/* -- store buffering -- */

#define SB(name, first, second, store_order, load_order, between)                                  \
    static void name(unsigned me)                                                                  \
    {                                                                                              \
        STORE(first, 1, store_order);                                                              \
        between;                                                                                   \
        state.results[me] = LOAD(second, load_order);                                              \
    }
SB(sb_x, x, y, release, acquire, )
SB(sb_y, y, x, release, acquire, )
SB(sb_x_seq_cst, x, y, seq_cst, seq_cst, )
SB(sb_y_seq_cst, y, x, seq_cst, seq_cst, )
SB(sb_x_fence, x, y, relaxed, relaxed, FENCE(seq_cst))
SB(sb_y_fence, y, x, relaxed, relaxed, FENCE(seq_cst))
SB(sb_y_weak_fence, y, x, relaxed, relaxed, FENCE(acq_rel))

static void sb_check(void)
{
    model_assert(state.results[0] || state.results[1]);
}

/* -- load buffering: not allowed to be found, since neither compilers nor we invent it -- */

static void lb_x(unsigned me)
{
    state.results[me] = LOAD(x, relaxed);
    STORE(y, 1, relaxed);
}
static void lb_y(unsigned me)
{
    state.results[me] = LOAD(y, relaxed);
    STORE(x, 1, relaxed);
}
static void lb_check(void)
{
    model_assert(!state.results[0] || !state.results[1]);
}

/* -- two writers, two readers that disagree on the order -- */

static void iriw_x(unsigned me)
{
    (void)me;
    STORE(x, 1, release);
}
static void iriw_y(unsigned me)
{
    (void)me;
    STORE(y, 1, release);
}
static void iriw_x_seq_cst(unsigned me)
{
    (void)me;
    STORE(x, 1, seq_cst);
}
static void iriw_y_seq_cst(unsigned me)
{
    (void)me;
    STORE(y, 1, seq_cst);
}
static void iriw_read_xy(unsigned me)
{
    (void)me;
    state.results[0] = LOAD(x, acquire);
    state.results[1] = LOAD(y, acquire);
}
static void iriw_read_yx(unsigned me)
{
    (void)me;
    state.results[2] = LOAD(y, acquire);
    state.results[3] = LOAD(x, acquire);
}
static void iriw_read_xy_seq_cst(unsigned me)
{
    (void)me;
    state.results[0] = LOAD(x, seq_cst);
    state.results[1] = LOAD(y, seq_cst);
}
static void iriw_read_yx_seq_cst(unsigned me)
{
    (void)me;
    state.results[2] = LOAD(y, seq_cst);
    state.results[3] = LOAD(x, seq_cst);
}
static void iriw_check(void)
{
    const unsigned *r = state.results;
    model_assert(!(r[0] == 1 && r[1] == 0 && r[2] == 1 && r[3] == 0));
}

/* -- one location: nobody reads backwards -- */

static void coherence_write(unsigned me)
{
    (void)me;
    STORE(x, 1, relaxed);
    STORE(x, 2, relaxed);
}
static void coherence_read(unsigned me)
{
    (void)me;
    unsigned first = LOAD(x, relaxed), second = LOAD(x, relaxed);
    model_assert(second >= first);
}
/* A load may still see an old value after it was told, in another location, of a new one: relaxed. */
static void old_read(unsigned me)
{
    (void)me;
    if (LOAD(y, relaxed))
        model_assert(LOAD(x, relaxed) == 1);
}
static void old_write(unsigned me)
{
    (void)me;
    STORE(x, 1, relaxed);
    STORE(y, 1, relaxed);
}

/* -- counting -- */

static void count(unsigned me)
{
    (void)me;
    atomic_fetch_add_explicit(&shared->x, 1, memory_order_relaxed);
}
static void count_badly(unsigned me)
{
    (void)me;
    STORE(x, LOAD(x, relaxed) + 1, relaxed);
}
static void count_by_exchange(unsigned me)
{
    unsigned old = LOAD(x, relaxed);
    (void)me;
    while (!atomic_compare_exchange_weak_explicit(&shared->x, &old, old + 1, memory_order_relaxed,
                                                  memory_order_relaxed))
        ;
}
static void count_check(void)
{
    model_assert(shared->x == 3);
}

/* -- the sleeping flag, with and without fences -- */

static void flag_sleep(unsigned me, bool is_fenced)
{
    (void)me;
    for (;;) {
        uint32_t word = LOAD(z, acquire);
        STORE(y, 1, relaxed);
        if (is_fenced)
            FENCE(seq_cst);
        if (LOAD(x, acquire))
            return;
        model_sleep((const uint32_t *)&shared->z, word, true);
    }
}
static void flag_wake(unsigned me, bool is_fenced)
{
    (void)me;
    STORE(x, 1, release);
    if (is_fenced)
        FENCE(seq_cst);
    if (!LOAD(y, relaxed))
        return;
    STORE(y, 0, relaxed);
    atomic_fetch_add_explicit(&shared->z, 1, memory_order_release);
    model_wake((const uint32_t *)&shared->z);
}
static void flag_sleep_bare(unsigned me)
{
    flag_sleep(me, false);
}
static void flag_sleep_fenced(unsigned me)
{
    flag_sleep(me, true);
}
static void flag_wake_bare(unsigned me)
{
    flag_wake(me, false);
}
static void flag_wake_fenced(unsigned me)
{
    flag_wake(me, true);
}

/* -- death, waiting, going round -- */

static void die_holding(unsigned me)
{
    (void)me;
    STORE(x, 1, release);
    STORE(x, 0, release);
}
static void wait_for_release(unsigned me)
{
    (void)me;
    while (LOAD(x, acquire))
        model_pause();
}
static void wait_or_notice(unsigned me)
{
    (void)me;
    while (LOAD(x, acquire) && !model_is_dead(0))
        model_pause();
}
static void die_writing(unsigned me)
{
    (void)me;
    shared->data = 7;
    STORE(x, 1, relaxed);
}
static void read_of_dead(unsigned me)
{
    (void)me;
    if (model_is_dead(0))
        model_assert(shared->data == 0 || shared->data == 7);
}
static void go_round(unsigned me)
{
    for (;;) {
        while (LOAD(x, relaxed) != me)
            model_pause();
        STORE(x, !me, relaxed);
    }
}
static void spin(unsigned me)
{
    (void)me;
    while (!LOAD(x, relaxed))
        ;
}
static void nothing(unsigned me)
{
    (void)me;
}

#define SCENARIO(title, count, ...)                                                                \
    {                                                                                              \
        .name = title, .processes = count, .init = init, .state = &state,                          \
        .state_bytes = sizeof state, .shared_bytes = sizeof *shared, .preemptions = 3,             \
        .stale_reads = 3, __VA_ARGS__                                                              \
    }
#define RACE "data race"

static const struct model_scenario scenarios[] = {
    SCENARIO("message passing, relaxed store", 2, .run = {mp_write_relaxed, mp_read},
             .must_say = RACE),
    SCENARIO("message passing, relaxed load", 2, .run = {mp_write, mp_read_relaxed},
             .must_say = RACE),
    SCENARIO("message passing, release and acquire", 2, .run = {mp_write, mp_read}),
    SCENARIO("message passing, fences", 2, .run = {mp_write_fence, mp_read_fence}),
    SCENARIO("message passing, release fence only", 2, .run = {mp_write_fence, mp_read_relaxed},
             .must_say = RACE),
    SCENARIO("message passing, acquire fence only", 2, .run = {mp_write_relaxed, mp_read_fence},
             .must_say = RACE),
    SCENARIO("message passing, through a third", 3,
             .run = {mp_write, mp_forward, mp_read_forwarded}),
    SCENARIO("release sequence, read-modify-write", 3, .run = {mp_write, mp_carry, mp_read_second}),
    SCENARIO("release sequence, broken by a store", 3, .run = {mp_write, mp_break, mp_read_second},
             .must_say = RACE),
    SCENARIO("store buffering, release and acquire", 2, .run = {sb_x, sb_y}, .check = sb_check,
             .must_say = "state.results"),
    SCENARIO("store buffering, seq_cst", 2, .run = {sb_x_seq_cst, sb_y_seq_cst}, .check = sb_check),
    SCENARIO("store buffering, one side seq_cst", 2, .run = {sb_x_seq_cst, sb_y}, .check = sb_check,
             .must_say = "state.results"),
    SCENARIO("store buffering, seq_cst fences", 2, .run = {sb_x_fence, sb_y_fence},
             .check = sb_check),
    SCENARIO("store buffering, one fence too weak", 2, .run = {sb_x_fence, sb_y_weak_fence},
             .check = sb_check, .must_say = "state.results"),
    SCENARIO("store buffering, a fence and seq_cst accesses", 2, .run = {sb_x_fence, sb_y_seq_cst},
             .check = sb_check),
    SCENARIO("load buffering", 2, .run = {lb_x, lb_y}, .check = lb_check),
    SCENARIO("independent reads, release and acquire", 4,
             .run = {iriw_x, iriw_y, iriw_read_xy, iriw_read_yx}, .check = iriw_check,
             .must_say = "r[0]"),
    SCENARIO("independent reads, seq_cst", 4,
             .run = {iriw_x_seq_cst, iriw_y_seq_cst, iriw_read_xy_seq_cst, iriw_read_yx_seq_cst},
             .check = iriw_check),
    SCENARIO("coherence", 3, .run = {coherence_write, coherence_read, coherence_read},
             .symmetric = 6),
    SCENARIO("relaxed stores seen in another order", 2, .run = {old_write, old_read},
             .must_say = "LOAD(x"),
    SCENARIO("counting", 3, .run = {count, count, count}, .symmetric = 7, .check = count_check),
    SCENARIO("counting by load and store", 3, .run = {count_badly, count_badly, count_badly},
             .symmetric = 7, .check = count_check, .must_say = "shared->x == 3"),
    SCENARIO("counting by compare-and-swap", 3,
             .run = {count_by_exchange, count_by_exchange, count_by_exchange}, .symmetric = 7,
             .check = count_check),
    SCENARIO("sleeping flag without fences", 2, .run = {flag_sleep_bare, flag_wake_bare},
             .must_say = "asleep"),
    SCENARIO("sleeping flag, the sleeper's fence only", 2,
             .run = {flag_sleep_fenced, flag_wake_bare}, .must_say = "asleep"),
    SCENARIO("sleeping flag, the waker's fence only", 2, .run = {flag_sleep_bare, flag_wake_fenced},
             .must_say = "asleep"),
    SCENARIO("sleeping flag with fences", 2, .run = {flag_sleep_fenced, flag_wake_fenced}),
    SCENARIO("a lock whose owner dies", 2, .run = {die_holding, wait_for_release}, .crashes = 1,
             .may_crash = 1, .must_say = "waits for ever"),
    SCENARIO("a lock whose owner's death is noticed", 2, .run = {die_holding, wait_or_notice},
             .crashes = 1, .may_crash = 1),
    SCENARIO("what a dead one wrote is ordered", 2, .run = {die_writing, read_of_dead},
             .crashes = 1, .may_crash = 1),
    SCENARIO("a killed waker", 2, .run = {flag_wake_fenced, flag_sleep_fenced}, .crashes = 1,
             .may_crash = 1, .must_say = "asleep"),
    SCENARIO("going round for ever", 2, .run = {go_round, go_round}, .must_say = "for ever"),
    SCENARIO("spinning for ever", 2, .run = {nothing, spin}, .must_say = "for ever"),
};

const struct model_protocol model_litmus = {
    .name = "litmus",
    .scenarios = scenarios,
    .scenarios_count = sizeof scenarios / sizeof *scenarios,
};
