/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * latch -- a word that is up or down, and on which others sleep until it is up
 *
 * Word       0: down; 1: down, and someone may sleep; 2: up.
 * raise      Of 1: one system call stores 2 and wakes all who sleep: the caller's (nr_os_futex_store_and_wake()). Else CAS
 *            to 2, also of 2, so that what was written before is seen by who finds it up from now on.
 * lower      CAS from 2 to 0; orders nothing.
 * want       Of 0: CAS to 1; sleep while it is 1.
 * Invariant  Who sleeps, and was not woken, sleeps on 1, and only that call changes it.
 * Death      No step can be divided. A sleeper that dies leaves a 1, which costs one system call.
 * Ordering   [R1] raise, or the call in its place -> [A1] is_up.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { NR_LATCH_DOWN, NR_LATCH_SLEEPERS, NR_LATCH_UP };

static inline bool nr_latch_is_up(const _Atomic uint32_t *word)
{
    return atomic_load_explicit(word, memory_order_acquire) == NR_LATCH_UP; /* [A1] <- [R1] */
}

/* True: done. False: call what stores NR_LATCH_UP and wakes all. */
static inline bool nr_latch_raise(_Atomic uint32_t *word)
{
    uint32_t seen = atomic_load_explicit(word, memory_order_relaxed);

    while (seen != NR_LATCH_SLEEPERS)
        if (atomic_compare_exchange_weak_explicit(word, &seen, NR_LATCH_UP,
                                                  memory_order_release, /* [R1] -> [A1] */
                                                  memory_order_relaxed))
            return true;
    atomic_thread_fence(memory_order_release); /* [R1] -> [A1], with the store in the kernel */
    return false;
}

static inline void nr_latch_lower(_Atomic uint32_t *word)
{
    uint32_t seen = NR_LATCH_UP;

    atomic_compare_exchange_strong_explicit(word, &seen, NR_LATCH_DOWN, memory_order_relaxed,
                                            memory_order_relaxed);
}

/* True: sleep while it is NR_LATCH_SLEEPERS. False: it is up, or was a moment ago. */
static inline bool nr_latch_want(_Atomic uint32_t *word)
{
    uint32_t seen = NR_LATCH_DOWN;

    return atomic_compare_exchange_strong_explicit(word, &seen, NR_LATCH_SLEEPERS,
                                                   memory_order_relaxed, memory_order_relaxed) ||
           seen == NR_LATCH_SLEEPERS;
}
