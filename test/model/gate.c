/* SPDX-License-Identifier: MIT */
/*
 * gate -- nobody sleeps on what was published, also when the waker is killed between publishing and waking
 *
 * Wakers count up a word each; sleepers look at all of them. A waker's death is told by the death word to one
 * sleeper, which then wakes all, as the repair of a segment does (transport/shm_wait.c). Hot: a waiter that has spun
 * makes the gate hot, and later sleeps all the same.
 */
#include "data/gate.h"
#include "model.h"
#include <string.h>

enum { MESSAGES = 2, HOT = 1 };

static struct {
    struct nr_gate gate;
    struct {
        _Alignas(64) atomic_uint sent;
        uint32_t data[MESSAGES];
    } wakers[2];
} *const shared = (void *)model_shared;

static struct {
    bool is_woken_all;
} state;

static void init(void)
{
    model_name(&shared->gate.word, 4, "gate.word");
    model_name(&shared->gate.state, 4, "gate.state");
    for (unsigned i = 0; i < 2; i++) {
        model_name(&shared->wakers[i].sent, 4, "sent[%u]", i);
        model_name(shared->wakers[i].data, sizeof shared->wakers[i].data, "data[%u]", i);
    }
}

/* As nr_shm_wake(). */
static void open_gate(void)
{
    if ((model_variant() & HOT) && nr_gate_is_hot(&shared->gate))
        return;
    if (nr_gate_must_wake(&shared->gate))
        model_wake(nr_gate_address(&shared->gate));
}

static void wake(unsigned me)
{
    for (unsigned i = 0; i < MESSAGES; i++) {
        shared->wakers[me].data[i] = 7 + i;
        atomic_store_explicit(&shared->wakers[me].sent, i + 1, memory_order_release);
        open_gate();
    }
}

static void repair(unsigned me, unsigned dead)
{
    (void)me;
    (void)dead;
    nr_gate_open(&shared->gate);
    model_wake(nr_gate_address(&shared->gate));
}

/* Until all that will ever be sent has been seen. `wakers`: the first ones of the processes. */
static void sleep_until_all(unsigned me, unsigned wakers)
{
    unsigned seen[2] = {0, 0};
    uint32_t word = 0;
    bool is_prepared = false, is_sure;

    if (model_variant() & HOT)
        nr_gate_heat(&shared->gate);
    for (;;) {
        bool is_all = true, is_new = false;
        if (!is_prepared)
            model_repair_dead(me, repair);
        for (unsigned i = 0; i < wakers; i++) {
            bool is_dead = model_is_dead(i);
            unsigned sent = atomic_load_explicit(&shared->wakers[i].sent, memory_order_acquire);
            for (; seen[i] < sent; seen[i]++, is_new = true)
                model_assert(shared->wakers[i].data[seen[i]] == 7 + seen[i]);
            is_all = is_all && (seen[i] == MESSAGES || is_dead);
        }
        if (is_all)
            return;
        if (is_new) {
            is_prepared = false;
            if (model_variant() & HOT)
                nr_gate_heat(&shared->gate);
        } else if (!is_prepared) {
            word = nr_gate_prepare(&shared->gate, model_barrier, &is_sure);
            model_assert(is_sure);
            is_prepared = true;
        } else {
            model_sleep(nr_gate_address(&shared->gate), word);
            is_prepared = false;
        }
    }
}

static void sleep_for_two(unsigned me)
{
    sleep_until_all(me, 2);
}
static void sleep_for_one(unsigned me)
{
    sleep_until_all(me, 1);
}

#define SCENARIO(title, ...)                                                                       \
    {                                                                                              \
        .name = title, .processes = 3, .init = init, .state = &state, .state_bytes = sizeof state, \
        .shared_bytes = sizeof *shared, .preemptions = 2, .stale_reads = 2, .crashes = 1,          \
        .may_crash = 7, __VA_ARGS__                                                                \
    }

static const struct model_scenario scenarios[] = {
    SCENARIO("two wakers, one sleeper", .run = {wake, wake, sleep_for_two}, .symmetric = 3),
    SCENARIO("one waker, two sleepers", .run = {wake, sleep_for_one, sleep_for_one},
             .symmetric = 6),
    SCENARIO("two wakers, one sleeper, hot", .run = {wake, wake, sleep_for_two}, .symmetric = 3,
             .variant = HOT),
    SCENARIO("one waker, two sleepers, hot", .run = {wake, sleep_for_one, sleep_for_one},
             .symmetric = 6, .variant = HOT),
};

const struct model_protocol model_gate = {
    .name = "gate",
    .scenarios = scenarios,
    .scenarios_count = sizeof scenarios / sizeof *scenarios,
};
