/* SPDX-License-Identifier: MIT */
/*
 * gate -- nobody sleeps on what was published, also when the waker is killed between publishing and waking
 *
 * Wakers count up a word each; sleepers look at all of them. A waker's death is told by the death word to one
 * sleeper, which then repairs and wakes all (transport/shm_wait.c): here it writes down that the waker is gone. Hot: a waiter
 * that has spun, or a waker, makes the gate hot, and later it sleeps all the same; refused: the barrier for that can't be
 * had. Apart: as with calls (transport/shm_calls.c), each sleeper waits for its own message at its own gate. Both: each message
 * opens a call's gate and its client's. Whoever is woken by a death opens all.
 */
#include "data/gate.h"
#include "model.h"
#include <string.h>

enum {
    MESSAGES = 2,
    GATES = 2,
    HOT = 1,
    REFUSED = 2,
    ALWAYS = 4,
    WAKERS_HEAT = 8,
    APART = 16,
    BOTH = 32,
};

static struct {
    struct nr_gate gates[GATES]; /* all sleep at the first, unless they say so */
    struct {
        _Alignas(64) atomic_uint sent;
        atomic_uint is_gone;
        uint32_t data[MESSAGES];
    } wakers[2];
} *const shared = (void *)model_shared;

static char state; /* there is none */

static void init(void)
{
    for (unsigned i = 0; i < 2; i++) {
        model_name(&shared->gates[i].word, 4, "gate[%u].word", i);
        model_name(&shared->gates[i].state, 4, "gate[%u].state", i);
        model_name(&shared->wakers[i].sent, 4, "sent[%u]", i);
        model_name(&shared->wakers[i].is_gone, 4, "is_gone[%u]", i);
        model_name(shared->wakers[i].data, sizeof shared->wakers[i].data, "data[%u]", i);
    }
    shared->gates[0].always = (model_variant() & ALWAYS) != 0;
}

/* As nr_shm_wake(). */
static void open_gate(struct nr_gate *gate)
{
    if ((model_variant() & HOT) && nr_gate_is_hot(gate))
        return;
    if (nr_gate_must_wake(gate))
        model_wake(nr_gate_address(gate));
}

/* As nr_shm_calls_answer(). */
static void open_gates(unsigned message)
{
    open_gate(&shared->gates[model_variant() & APART ? message : 0]);
    if (model_variant() & BOTH)
        open_gate(&shared->gates[1]);
}

static void wake(unsigned me)
{
    for (unsigned i = 0; i < MESSAGES; i++) {
        shared->wakers[me].data[i] = 7 + i;
        atomic_store_explicit(&shared->wakers[me].sent, i + 1, memory_order_release);
        open_gates(i);
        if (model_variant() & WAKERS_HEAT)
            nr_gate_heat(&shared->gates[0]);
    }
}

static void notice_death(unsigned waker)
{
    if (!model_is_dead(waker) || shared->wakers[waker].is_gone)
        return;
    atomic_store_explicit(&shared->wakers[waker].is_gone, 1, memory_order_relaxed);
    for (unsigned i = 0; i < (model_variant() & (APART | BOTH) ? GATES : 1); i++) {
        nr_gate_open(&shared->gates[i]);
        model_wake(nr_gate_address(&shared->gates[i]));
    }
}

static bool refuse_barrier(void)
{
    return false;
}

/* True: there is something new. *ret_is_all: and nothing else will come, or is waited for. */
static bool look(unsigned wakers, unsigned messages, unsigned seen[], bool *ret_is_all)
{
    bool is_new = false;

    *ret_is_all = true;
    for (unsigned i = 0; i < wakers; i++) {
        bool is_gone = atomic_load_explicit(&shared->wakers[i].is_gone, memory_order_relaxed);
        unsigned sent = atomic_load_explicit(&shared->wakers[i].sent, memory_order_acquire);
        for (; seen[i] < sent; seen[i]++, is_new = true)
            model_assert(shared->wakers[i].data[seen[i]] == 7 + seen[i]);
        *ret_is_all = *ret_is_all && (seen[i] >= messages || is_gone);
    }
    return is_new;
}

static void heat(struct nr_gate *gate)
{
    if ((model_variant() & HOT) && !(model_variant() & WAKERS_HEAT))
        nr_gate_heat(gate);
}

/* Until so many were seen of each waker, or all that it will ever send. */
static void sleep_until(struct nr_gate *gate, unsigned wakers, unsigned messages)
{
    unsigned seen[2] = {0, 0};
    bool is_all, is_sure = true, is_death = false;

    heat(gate);
    for (;;) {
        for (unsigned i = 0; i < wakers && is_death; i++)
            notice_death(i);
        is_death = false;
        if (look(wakers, messages, seen, &is_all) && !is_all) {
            heat(gate);
            continue;
        }
        if (is_all)
            return;
        uint32_t word = nr_gate_prepare(
            gate, model_variant() & REFUSED ? refuse_barrier : model_barrier, &is_sure);
        if (look(wakers, messages, seen, &is_all) || is_all)
            continue;
        if (is_sure) {
            is_death = model_sleep(nr_gate_address(gate), word, true);
        } else {
            model_pause(); /* it looks again soon */
            is_death = true;
        }
    }
}

static void sleep_for_two(unsigned me)
{
    (void)me;
    sleep_until(&shared->gates[0], 2, MESSAGES);
}
static void sleep_for_one(unsigned me)
{
    (void)me;
    sleep_until(&shared->gates[0], 1, MESSAGES);
}
static void sleep_at_own_gate(unsigned me)
{
    sleep_until(&shared->gates[me - 1], 1, model_variant() & APART ? me : MESSAGES);
}

/* One that can't write, and so can't repair either. */
static void sleep_without_writing(unsigned me)
{
    unsigned seen[2] = {0, 0};
    bool is_all = false;

    (void)me;
    while (!is_all) {
        uint32_t word = nr_gate_look(&shared->gates[0]);
        bool is_dead = model_is_dead(0);
        if (look(1, MESSAGES, seen, &is_all) || is_all || is_dead)
            is_all = is_all || is_dead;
        else
            model_sleep(nr_gate_address(&shared->gates[0]), word, false);
    }
}

#define SCENARIO(title, ...)                                                                       \
    {                                                                                              \
        .name = title, .init = init, .state = &state, .state_bytes = sizeof state,                 \
        .shared_bytes = sizeof *shared, __VA_ARGS__                                                \
    }
#define BOUNDS      .processes = 3, .preemptions = 2, .stale_reads = 2, .crashes = 1, .may_crash = 7
#define ONE_TO_TWO  .run = {wake, sleep_for_one, sleep_for_one}, .symmetric = 6
#define ONE_TO_EACH .run = {wake, sleep_at_own_gate, sleep_at_own_gate}
#define TWO_TO_ONE  .run = {wake, wake, sleep_for_two}, .symmetric = 3

static const struct model_scenario scenarios[] = {
    SCENARIO("two wakers, one sleeper", BOUNDS, TWO_TO_ONE),
    SCENARIO("one waker, two sleepers", BOUNDS, ONE_TO_TWO),
    SCENARIO("one waker, two sleepers, one only reads", BOUNDS,
             .run = {wake, sleep_for_one, sleep_without_writing}, .variant = HOT | ALWAYS),
    SCENARIO("two wakers, one sleeper, hot", BOUNDS, TWO_TO_ONE, .variant = HOT),
    SCENARIO("one waker, two sleepers, hot", BOUNDS, ONE_TO_TWO, .variant = HOT),
    SCENARIO("one waker, two sleepers, hot, no barrier", BOUNDS, ONE_TO_TWO,
             .variant = HOT | REFUSED),
    SCENARIO("two wakers that heat, one sleeper", BOUNDS, TWO_TO_ONE, .variant = HOT | WAKERS_HEAT),
    SCENARIO("one waker that heats, two sleepers", BOUNDS, ONE_TO_TWO,
             .variant = HOT | WAKERS_HEAT),
    SCENARIO("one waker, two sleepers, a gate for each", BOUNDS, ONE_TO_EACH,
             .variant = HOT | APART),
    SCENARIO("one waker, two sleepers, a gate for each, opened together", BOUNDS, ONE_TO_EACH,
             .variant = HOT | BOTH),
    /* Why heats are counted. */
    SCENARIO("one waker, two sleepers, hot, three preemptions", .processes = 3, .preemptions = 3,
             .stale_reads = 1, ONE_TO_TWO, .variant = HOT),
    SCENARIO("two wakers, two sleepers, hot", .is_deep = true, .processes = 4, .preemptions = 6,
             .stale_reads = 4, .crashes = 2, .may_crash = 15,
             .run = {wake, wake, sleep_for_two, sleep_for_two}, .variant = HOT),
};

const struct model_protocol model_gate = {
    .name = "gate",
    .scenarios = scenarios,
    .scenarios_count = sizeof scenarios / sizeof *scenarios,
};
