/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * slots -- several words of which each is held by at most one thread: permits, readers
 *
 * What       Who takes one goes round the words until it finds one without an owner (data/hold.h). If all have one, it makes
 *            each owner know and sleeps on all of them, so that it is woken by whoever lets go first, or dies.
 * Death      Of an owner: the kernel marks its word, which has no owner then, and wakes one who sleeps on it. If that one dies
 *            before it has taken it, the next look around finds it (sync/sleep.h): a thread can be aimed
 *            at one word only. Nothing has to be repaired.
 * Memory     Shared, a page: a line of its own for each word, so that owners do not disturb each other.
 */
#include "data/hold.h"

enum { NR_SLOTS_MAX = 63 };

struct nr_slots {
    struct nr_hold head; /* magic and home; more[0]: how many slots there are, written once */
    struct nr_hold slots[NR_SLOTS_MAX];
};
_Static_assert(sizeof(struct nr_slots) == 4096, "a page");

/* Where a thread begins to look: each at another one, and always there. */
static inline unsigned nr_slots_start(uint32_t thread, unsigned count)
{
    return (unsigned)((uint64_t)(thread * UINT32_C(0x9e3779b9)) * count >> 32);
}

/* One that looks free, searched from `start`: -1: none. */
static inline int nr_slots_find(const struct nr_slots *slots, unsigned count, unsigned start)
{
    for (unsigned i = 0, at = start; i < count; i++, at = at + 1 == count ? 0 : at + 1) {
        uint32_t seen = atomic_load_explicit(&slots->slots[at].word, memory_order_relaxed);
        if (nr_hold_owner(seen) == 0)
            return (int)at;
    }
    return -1;
}

/* True: all have owners, who will wake; sleep while each is ret_seen[i]. False: look again. */
static inline bool nr_slots_want(struct nr_slots *slots, unsigned count, uint32_t ret_seen[])
{
    for (unsigned i = 0; i < count; i++) {
        ret_seen[i] = atomic_load_explicit(&slots->slots[i].word, memory_order_relaxed);
        if (nr_hold_owner(ret_seen[i]) == 0 || !nr_hold_want(&slots->slots[i].word, &ret_seen[i]))
            return false;
    }
    return true;
}
