/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * permits -- a count in one word: anyone may raise it, and who lowers it waits while it is 0
 *
 * Word       bit 31: someone may sleep; bits 0..30: the count, of which values up to 2^30 - 1 are used.
 * take       count > 0: CAS to count - 1, without the flag.
 * want       Of {no flag, 0}: CAS the flag on; sleep on exactly {flag, 0}.
 * give       Not {flag, 0}: CAS to count + 1, no system call. {flag, 0}: one system call adds 1 and wakes
 *            all who sleep: the caller's (nr_os_futex_add_and_wake()).
 * Invariant  Who sleeps, and was not woken, sleeps on {flag, 0}: that is the only value anyone goes to
 *            sleep on, and the only way out of it is the call that adds and wakes under the lock that
 *            sleepers enqueue under. So a positive count has no sleeper, and whoever finds one may clear
 *            the flag; a woken waiter that comes too late sets it again.
 * Death      Of a giver: before its CAS or its system call nothing happened, after it all did. Of a
 *            waiter: before its CAS it took nothing; a flag it leaves behind costs the next give one
 *            system call. All sleepers are woken, so one that dies as it wakes had nobody's wake-up.
 * Overflow   A give that saw {flag, 0} adds without a look at the count; bit 30 has room for as many of
 *            them as there can be threads.
 * Ordering   [R1] the CAS or the kernel's atomic add that raises the count -> [A1] the CAS that lowers
 *            it: what a giver wrote before is visible to who took its permit. Without it the semaphore
 *            would not guard a plain variable: test/model/permits.c.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define NR_PERMITS_SLEEPERS UINT32_C(0x80000000)
#define NR_PERMITS_MAX      UINT32_C(0x3fffffff)

enum nr_permits_given { NR_PERMITS_GIVEN, NR_PERMITS_CALL, NR_PERMITS_FULL };

static inline uint32_t nr_permits_count(uint32_t seen)
{
    return seen & ~NR_PERMITS_SLEEPERS;
}

/* True if it took one. Otherwise *seen is the word, whose count was 0. */
static inline bool nr_permits_take(_Atomic uint32_t *word, uint32_t *seen)
{
    *seen = atomic_load_explicit(word, memory_order_relaxed);
    while (nr_permits_count(*seen) > 0)
        if (atomic_compare_exchange_weak_explicit(word, seen, nr_permits_count(*seen) - 1,
                                                  memory_order_acquire /* [A1] <- [R1] */,
                                                  memory_order_relaxed))
            return true;
    return false;
}

/* Of a word whose count was 0, as seen. True: sleep while it is NR_PERMITS_SLEEPERS. False: look again. */
static inline bool nr_permits_want(_Atomic uint32_t *word, uint32_t seen)
{
    return seen == NR_PERMITS_SLEEPERS ||
           atomic_compare_exchange_strong_explicit(word, &seen, NR_PERMITS_SLEEPERS,
                                                   memory_order_relaxed, memory_order_relaxed);
}

/* NR_PERMITS_CALL: call what adds 1 and wakes all. */
static inline enum nr_permits_given nr_permits_give(_Atomic uint32_t *word)
{
    uint32_t seen = atomic_load_explicit(word, memory_order_relaxed);

    while (seen != NR_PERMITS_SLEEPERS) {
        if (nr_permits_count(seen) >= NR_PERMITS_MAX)
            return NR_PERMITS_FULL;
        if (atomic_compare_exchange_weak_explicit(word, &seen, nr_permits_count(seen) + 1,
                                                  memory_order_release /* [R1] -> [A1] */,
                                                  memory_order_relaxed))
            return NR_PERMITS_GIVEN;
    }
    atomic_thread_fence(memory_order_release); /* [R1] -> [A1], with the add in the kernel */
    return NR_PERMITS_CALL;
}
