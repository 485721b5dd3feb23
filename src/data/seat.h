/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * seat -- who is the one sender, the one receiver, the one writer
 *
 * What       A word [deaths:24 | ends:24 | holder:16]: holder is 1 + the participant's index, 0: free; the counts
 *            tell how those before left.
 * Writers    Who sits down, by CAS; the holder who leaves, or the repairer of a dead one.
 * Ordering   [R1] a seat is left -> [A1] the next one sits down: what the holder before has written is seen.
 * Death      A seat of a dead holder is cleared and counted in one step.
 * Trust      Bounded tries: each failure is a claim or a clear by another, and these are few.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { NR_SEAT_TRIES = 16, NR_SEAT_HOLDER = 0xffff };

static inline uint32_t nr_seat_deaths(uint64_t word)
{
    return (uint32_t)(word >> 40);
}
static inline uint32_t nr_seat_ends(uint64_t word)
{
    return (uint32_t)(word >> 16) & 0xffffff;
}

/* The seat without its holder: changes when one has gone. */
static inline uint64_t nr_seat_gone(const _Atomic uint64_t *seat)
{
    return atomic_load_explicit(seat, memory_order_acquire) & ~(uint64_t)NR_SEAT_HOLDER;
}

/* 0, or -(1 + the index that sits there). */
static inline int nr_seat_claim(_Atomic uint64_t *seat, uint32_t index)
{
    uint64_t word = atomic_load_explicit(seat, memory_order_relaxed);

    for (int tries = 0; tries < NR_SEAT_TRIES && !(word & NR_SEAT_HOLDER); tries++)
        if (atomic_compare_exchange_strong_explicit(seat, &word, word | (index + 1),
                                                    memory_order_acquire, /* [A1] */
                                                    memory_order_relaxed))
            return 0;
    return -(int)(word & NR_SEAT_HOLDER ? word & NR_SEAT_HOLDER : NR_SEAT_HOLDER);
}

/* True if it was `index`'s, and is counted, in the same step. */
static inline bool nr_seat_clear(_Atomic uint64_t *seat, uint32_t index, bool died)
{
    uint64_t word = atomic_load_explicit(seat, memory_order_relaxed), next;

    for (int tries = 0; tries < NR_SEAT_TRIES && (word & NR_SEAT_HOLDER) == index + 1; tries++) {
        uint32_t deaths = (nr_seat_deaths(word) + died) & 0xffffff;
        uint32_t ends = (nr_seat_ends(word) + !died) & 0xffffff;
        next = ((uint64_t)deaths << 40) | ((uint64_t)ends << 16);
        if (atomic_compare_exchange_strong_explicit(seat, &word, next,
                                                    memory_order_release, /* [R1] */
                                                    memory_order_relaxed))
            return true;
    }
    return false;
}
