/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * gate -- who changes something pays for waking only if someone sleeps
 *
 * What       A sleeper: word = nr_gate_prepare(); look once more; sleep while the word is `word`. A waker:
 *            change; if (nr_gate_must_wake()) wake all who sleep on the word.
 * Ordering   [S1] prepare: store sleeping, fence, look. [S2] must_wake: change, fence, load sleeping. One of the
 *            two sees the other. Without the fences both miss, and the sleeper sleeps on a waiting message.
 * Death      A waker killed between its change and the wake: the death word of the segment wakes a sleeper
 *            (transport/party.h). A sleeper that dies leaves `sleeping` set: one wake-up for nothing.
 * Memory     Shared, one cache line. The wake is for all: one that was woken and then is stopped or killed
 *            keeps nobody else asleep.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct nr_gate {
    _Alignas(64) _Atomic uint32_t word;
    _Atomic uint32_t sleeping;
};

static inline uint32_t nr_gate_prepare(struct nr_gate *gate)
{
    uint32_t word = atomic_load_explicit(&gate->word, memory_order_acquire);

    atomic_store_explicit(&gate->sleeping, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); /* [S1] */
    return word;
}

static inline bool nr_gate_must_wake(struct nr_gate *gate)
{
    atomic_thread_fence(memory_order_seq_cst); /* [S2] */
    if (__builtin_expect(!atomic_load_explicit(&gate->sleeping, memory_order_relaxed), 1))
        return false;
    atomic_store_explicit(&gate->sleeping, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&gate->word, 1, memory_order_release);
    return true;
}

/* The address that the kernel sleeps on. */
static inline const uint32_t *nr_gate_address(const struct nr_gate *gate)
{
    return (const uint32_t *)(const void *)&gate->word;
}
