/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * barrier -- so many parties wait for each other, unless one of them dies
 *
 * What       Each party holds a slot (data/slots.h) from its first meeting on, and says in it at which meeting it has arrived. The head is the
 *            number of the meeting. Who sees that all have arrived counts it up, and wakes all.
 * Death      The kernel takes the slot from a dead party, and wakes one who sleeps on it: all sleep on all slots. Who is woken by
 *            anything but the head wakes the others, whatever it has found: that a party is dead, or that the meeting has
 *            taken place and the one that counted it up has died before it woke anybody. If it dies itself, its own slot
 *            wakes the next one.
 * Ordering   [S1] arrive, fence, look at the others: of the last two one sees that all are there. Without it both sleep.
 *            [R1] arrive -> [A1] look; [R2] the count -> [A2] look: what each has written before is seen by all behind it.
 */
#include "data/slots.h"

enum nr_barrier_look { NR_BARRIER_WAIT, NR_BARRIER_PASSED, NR_BARRIER_LAST, NR_BARRIER_BROKEN };

static inline _Atomic uint32_t *nr_barrier_arrived(struct nr_hold *slot)
{
    return (_Atomic uint32_t *)&slot->more[0];
}

/* A free slot, but none of a dead party: -1. */
static inline int nr_barrier_find(const struct nr_slots *barrier, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uint32_t seen = atomic_load_explicit(&barrier->slots[i].word, memory_order_relaxed);
        if (nr_hold_owner(seen) == 0 && !(seen & NR_HOLD_DIED))
            return (int)i;
    }
    return -1;
}

/* By the party that holds that slot. Returns the meeting. */
static inline uint32_t nr_barrier_arrive(struct nr_slots *barrier, unsigned at)
{
    uint32_t meeting = atomic_load_explicit(&barrier->head.word, memory_order_relaxed);

    atomic_store_explicit(nr_barrier_arrived(&barrier->slots[at]), meeting + 1,
                          memory_order_release /* [R1] -> [A1] */);
    return meeting;
}

/* The meeting is broken: it has not arrived. */
static inline void nr_barrier_withdraw(struct nr_slots *barrier, unsigned at, uint32_t meeting)
{
    atomic_store_explicit(nr_barrier_arrived(&barrier->slots[at]), meeting, memory_order_relaxed);
}

/* NR_BARRIER_LAST: it has counted up; wake all who sleep on the head. */
static inline enum nr_barrier_look nr_barrier_look(struct nr_slots *barrier, unsigned count,
                                                   uint32_t meeting)
{
    bool are_all_there = true, is_one_dead = false;

    atomic_thread_fence(memory_order_seq_cst);                                      /* [S1] */
    if (atomic_load_explicit(&barrier->head.word, memory_order_acquire) != meeting) /* [A2] */
        return NR_BARRIER_PASSED;
    for (unsigned i = 0; i < count; i++) {
        struct nr_hold *slot = &barrier->slots[i];
        uint32_t seen = atomic_load_explicit(&slot->word, memory_order_relaxed);
        bool is_there = nr_hold_owner(seen) != 0;
        is_one_dead = is_one_dead || (!is_there && (seen & NR_HOLD_DIED));
        are_all_there =
            are_all_there && is_there &&
            atomic_load_explicit(nr_barrier_arrived(slot),
                                 memory_order_acquire /* [A1] <- [R1] */) == meeting + 1;
    }
    if (is_one_dead)
        return NR_BARRIER_BROKEN;
    if (!are_all_there)
        return NR_BARRIER_WAIT;
    /* What the others have written was acquired from their arrivals, also if another one counts. */
    return atomic_compare_exchange_strong_explicit(&barrier->head.word, &meeting, meeting + 1,
                                                   memory_order_release /* [R2] -> [A2] */,
                                                   memory_order_relaxed)
               ? NR_BARRIER_LAST
               : NR_BARRIER_PASSED;
}

/* True: whoever dies wakes; sleep while the head is the meeting and each slot is ret_seen[i]. False: look again. */
static inline bool nr_barrier_want(struct nr_slots *barrier, unsigned count, uint32_t ret_seen[])
{
    for (unsigned i = 0; i < count; i++) {
        _Atomic uint32_t *word = &barrier->slots[i].word;
        ret_seen[i] = atomic_load_explicit(word, memory_order_relaxed);
        if ((nr_hold_owner(ret_seen[i]) == 0 && (ret_seen[i] & NR_HOLD_DIED)) ||
            !nr_hold_want(word, &ret_seen[i]))
            return false;
    }
    return true;
}

/* The slots of the dead are free again. */
static inline void nr_barrier_forget(struct nr_slots *barrier, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        _Atomic uint32_t *word = &barrier->slots[i].word;
        uint32_t seen = atomic_load_explicit(word, memory_order_relaxed);
        while (nr_hold_owner(seen) == 0 && (seen & NR_HOLD_DIED) &&
               !atomic_compare_exchange_weak_explicit(word, &seen, seen & ~NR_HOLD_DIED,
                                                      memory_order_relaxed, memory_order_relaxed))
            ;
    }
}
