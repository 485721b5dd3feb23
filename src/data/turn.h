/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * turn -- a word that changes when who sleeps on it is to look again
 *
 * Word       [turns:31 | 1: someone may sleep]
 * prepare    Sets the flag; sleep while the word is what it returned.
 * wake       With the flag: one system call adds 1, which takes the flag down and counts a turn, and wakes all who sleep: the
 *            caller's (nr_os_futex_add_and_wake()). Without: nothing, for nobody sleeps.
 * Invariant  Who sleeps, and was not woken, sleeps on the word as it is: an odd one, which only that call changes.
 *            Two that call at once may leave the flag up: that costs one system call.
 * Ordering   None of its own. That the flag is seen follows from the mutex: prepare comes before it is let go, and who wakes has held it since.
 * Death      Of who wakes: before the call nothing has happened, after it all are awake. Of a sleeper: a flag.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { NR_TURN_SLEEPERS = 1 };

static inline uint32_t nr_turn_prepare(_Atomic uint32_t *word)
{
    return atomic_fetch_or_explicit(word, NR_TURN_SLEEPERS, memory_order_relaxed) |
           NR_TURN_SLEEPERS;
}

/* True: call what adds 1 and wakes all. */
static inline bool nr_turn_must_wake(const _Atomic uint32_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed) & NR_TURN_SLEEPERS;
}
