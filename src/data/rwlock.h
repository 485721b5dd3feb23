/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * rwlock -- one that writes, or several that read
 *
 * What       Over a page of words that threads hold (data/slots.h): the head is the writer's, each slot a reader's.
 * read       Nobody holds the head: take a slot, and look at the head again [S1]. Somebody does: give the slot back, and sleep on the
 *            head.
 * write      Take the head, then look at all slots [S2], and sleep on those that have an owner until none has.
 * Order      A writer that has the head keeps new readers out. Readers have no order among each other.
 * Stain      1 while a writer writes; it takes it away before it lets go. So who finds it without a writer knows that
 *            one died in the middle. It stays until one that writes says that all is well.
 * Death      The kernel takes head or slot from the dead, and wakes one who sleeps on it. A reader that finds the head without an owner and
 *            with WAITERS wakes all the others: it does not take the head, so nobody would do it when letting go. Until then it
 *            is aimed at the head, so that another one is woken if it dies.
 * Ordering   [S1] take a slot, fence, look at the head. [S2] take the head, fence, look at the slots. One of the two sees
 *            the other. Without it both go on.
 *            [R1] leave, of head or slot -> [A1] the look that finds no owner.
 */
#include "data/slots.h"

static inline _Atomic uint32_t *nr_rwlock_stain(struct nr_slots *lock)
{
    return (_Atomic uint32_t *)&lock->head.more[1];
}

/* By a reader before it takes a slot. True: nobody writes. *ret_seen: the head. */
static inline bool nr_rwlock_look(struct nr_slots *lock, uint32_t *ret_seen)
{
    *ret_seen = atomic_load_explicit(&lock->head.word, memory_order_relaxed);
    return nr_hold_owner(*ret_seen) == 0;
}

/* By a reader with a slot. True: nobody writes, and it is in. */
static inline bool nr_rwlock_is_open(struct nr_slots *lock)
{
    atomic_thread_fence(memory_order_seq_cst); /* [S1] */
    /* [A1] <- [R1] */
    return nr_hold_owner(atomic_load_explicit(&lock->head.word, memory_order_acquire)) == 0;
}

/* True: call what takes WAITERS away and wakes all who sleep on the head (nr_os_futex_clear_and_wake()). */
static inline bool nr_rwlock_must_wake(uint32_t head)
{
    return head == (head | NR_HOLD_WAITERS) && nr_hold_owner(head) == 0;
}

/* By who holds the head: how many slots have an owner. Those have been told: sleep while each is ret_seen[i]; of the others it is
   0. */
static inline unsigned nr_rwlock_readers(struct nr_slots *lock, unsigned count, uint32_t ret_seen[])
{
    unsigned readers = 0;

    atomic_thread_fence(memory_order_seq_cst); /* [S2] */
    for (unsigned i = 0; i < count; i++) {
        _Atomic uint32_t *word = &lock->slots[i].word;
        ret_seen[i] = atomic_load_explicit(word, memory_order_acquire); /* [A1] <- [R1] */
        while (nr_hold_owner(ret_seen[i]) && !nr_hold_want(word, &ret_seen[i]))
            ret_seen[i] = atomic_load_explicit(word, memory_order_acquire); /* [A1] */
        if (nr_hold_owner(ret_seen[i]) == 0)
            ret_seen[i] = 0;
        readers += ret_seen[i] != 0;
    }
    return readers;
}

/* By who writes, before and after. True: one before has died in the middle. */
static inline bool nr_rwlock_begin(struct nr_slots *lock)
{
    bool is_stained = atomic_load_explicit(nr_rwlock_stain(lock), memory_order_relaxed) != 0;

    atomic_store_explicit(nr_rwlock_stain(lock), 1, memory_order_relaxed);
    return is_stained;
}
static inline void nr_rwlock_clean(struct nr_slots *lock)
{
    atomic_store_explicit(nr_rwlock_stain(lock), 0, memory_order_relaxed);
}

/* By a reader that is in. */
static inline bool nr_rwlock_is_stained(struct nr_slots *lock)
{
    return atomic_load_explicit(nr_rwlock_stain(lock), memory_order_relaxed) != 0;
}
