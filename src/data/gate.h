/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * gate -- who changes something pays for waking only if someone sleeps
 *
 * What       A sleeper: word = nr_gate_prepare(); look once more; sleep while the word is `word`. A waker:
 *            change; if (nr_gate_must_wake()) wake all who sleep on the word.
 * Hot        While waiters find by spinning what they wait for, or nobody waits, the gate is HOT: nobody sleeps, and a waker
 *            has only this one load to do, without a fence, which would have to wait until its store of the change
 *            has got hold of a line that the waiter is looking at. Who wants to sleep says so, which ends it, then
 *            has a barrier run on every processor (membarrier(2)), in place of the fences that were left out, and
 *            only then takes HOT away: until then each sleeper needs a barrier of its own. The heats are counted, so
 *            that nobody takes away a later one, whose wakers its barrier has not met.
 * Ordering   [S1] prepare: store SLEEPING, fence, look. [S2] must_wake: change, fence, load the state. One of the
 *            two sees the other. Without the fences both miss, and the sleeper sleeps on a waiting message.
 *            [S3] prepare, of a hot gate: the barrier. A waker that loaded HOT before it has made its change
 *            before it as well, so the look behind the barrier sees that; one that loads behind it sees SLEEPING.
 * Death      A waker killed between its change and the wake: the death word of the segment wakes a sleeper
 *            (transport/party.h), which repairs and wakes all by nr_gate_open(): the dead one may have
 *            taken SLEEPING down already. A sleeper that dies leaves it set: one wake-up for nothing.
 * Memory     Shared, one cache line. The wake is for all: one that was woken and then is stopped or killed
 *            keeps nobody else asleep.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { NR_GATE_SLEEPING = 1, NR_GATE_HOT = 2, NR_GATE_FLAGS = 3, NR_GATE_HEAT = 4 };

struct nr_gate {
    _Alignas(64) _Atomic uint32_t word;
    _Atomic uint32_t state; /* [heats:30 | HOT | SLEEPING] */
    uint32_t
        always; /* set once, by who made it: some sleepers can't write, and can't say that they sleep */
};

/* Runs a barrier on all processors; false: it can't be had, and who sleeps now must look again soon. */
typedef bool nr_gate_barrier(void);

/* [S3] Behind the barrier, nobody needs one for the heat in `before` any more. */
static inline bool nr_gate_cool(struct nr_gate *gate, uint32_t before, nr_gate_barrier *barrier)
{
    uint32_t state = atomic_load_explicit(&gate->state, memory_order_relaxed);

    if (!barrier())
        return false;
    while ((state & NR_GATE_HOT) && (state | NR_GATE_FLAGS) == (before | NR_GATE_FLAGS) &&
           !atomic_compare_exchange_weak_explicit(&gate->state, &state,
                                                  state & ~(uint32_t)NR_GATE_HOT,
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
    return true;
}

/* *ret_is_sure is false if the barrier was needed and could not be had. */
static inline uint32_t nr_gate_prepare(struct nr_gate *gate, nr_gate_barrier *barrier,
                                       bool *ret_is_sure)
{
    /* Relaxed, since the fence acquires what stood behind it: who sees a word that was opened sees the change. */
    uint32_t word = atomic_load_explicit(&gate->word, memory_order_relaxed);
    uint32_t before =
        atomic_fetch_or_explicit(&gate->state, NR_GATE_SLEEPING, memory_order_relaxed);

    atomic_thread_fence(memory_order_seq_cst); /* [S1] */
    *ret_is_sure = !(before & NR_GATE_HOT) || nr_gate_cool(gate, before, barrier);
    return word;
}

/* For a sleeper that can only read: whoever wakes does it `always`, and the gate is never hot. */
static inline uint32_t nr_gate_look(const struct nr_gate *gate)
{
    return atomic_load_explicit(&gate->word, memory_order_acquire);
}

/* By a waiter that spinning has served well for a while, or a waker that has woken nobody for long. Nothing happens
   while somebody sleeps. */
static inline void nr_gate_heat(struct nr_gate *gate)
{
    uint32_t state = atomic_load_explicit(&gate->state, memory_order_relaxed);

    if (!(state & NR_GATE_FLAGS) && !gate->always)
        atomic_compare_exchange_strong_explicit(&gate->state, &state,
                                                (state + NR_GATE_HEAT) | NR_GATE_HOT,
                                                memory_order_relaxed, memory_order_relaxed);
}

/* For wakers on whose processors the barrier runs, that is, whose process is registered for it. */
static inline bool nr_gate_is_hot(const struct nr_gate *gate)
{
    atomic_signal_fence(memory_order_seq_cst); /* the compiler keeps the change before the load */
    return (atomic_load_explicit(&gate->state, memory_order_relaxed) & NR_GATE_FLAGS) ==
           NR_GATE_HOT;
}

/* To be followed by a wake of all, whatever the state says: after a repair. Without a sleeper's barrier nothing ends a
   heat, and nobody may see HOT alone again behind that barrier: so SLEEPING stays beside it. */
static inline void nr_gate_open(struct nr_gate *gate)
{
    uint32_t state = atomic_load_explicit(&gate->state, memory_order_relaxed);

    while ((state & NR_GATE_FLAGS) == NR_GATE_SLEEPING &&
           !atomic_compare_exchange_weak_explicit(&gate->state, &state,
                                                  state & ~(uint32_t)NR_GATE_SLEEPING,
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
    atomic_fetch_add_explicit(&gate->word, 1, memory_order_release);
}

static inline bool nr_gate_must_wake(struct nr_gate *gate)
{
    atomic_thread_fence(memory_order_seq_cst); /* [S2] */
    if (!(atomic_load_explicit(&gate->state, memory_order_relaxed) & NR_GATE_SLEEPING) &&
        !gate->always)
        return false;
    nr_gate_open(gate);
    return true;
}

/* The address that the kernel sleeps on. */
static inline const uint32_t *nr_gate_address(const struct nr_gate *gate)
{
    return (const uint32_t *)(const void *)&gate->word;
}
