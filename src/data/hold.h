/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * hold -- a word that at most one thread holds, and that the kernel takes from it when it ends
 *
 * Word       [WAITERS:1 | DIED:1 | owner:30], as the kernel's robust list has it: owner is the id of the thread that
 *            holds it, 0: nobody. DIED: one that held it has died, and nobody has said since that all is well.
 * take       No owner: CAS the own id in; the flags stay.
 * want       Before sleeping: CAS WAITERS on, and sleep on exactly the word that has it.
 * leave      No WAITERS: CAS the id out. Else one system call stores the word without id and WAITERS, and wakes all
 *            who sleep: the caller's (nr_os_futex_store_and_wake()).
 * Invariant  Who sleeps, and was not woken, sleeps on a word with an owner and WAITERS, and it is still there or the
 *            flag still is: WAITERS goes away only in the call that wakes all. So a word without WAITERS has no
 *            sleeper. Nobody is woken alone by us: one that is woken and then is killed or stopped would keep the
 *            others asleep beside a free word.
 * Death      Of the owner: the kernel stores DIED, keeps WAITERS, and wakes one; if that one dies before it has taken the word,
 *            the kernel wakes another, for the word is what each is aimed at (os/robust.h). Who takes it keeps WAITERS for the others.
 *            Of a waiter: a flag that it leaves behind costs one system call.
 * Ordering   [R1] leave, the call in its place, and the kernel's DIED -> [A1] take: what the holder before has
 *            written is seen. Without it a mutex would not guard a plain variable: test/model/hold.c.
 * Trust      Loops end when somebody else has taken the word, or after a change by another; the number of turns
 *            is bounded by what others do, and each is one instruction of theirs.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define NR_HOLD_WAITERS UINT32_C(0x80000000)
#define NR_HOLD_DIED    UINT32_C(0x40000000)
#define NR_HOLD_OWNER   UINT32_C(0x3fffffff)

/* Shared, a cache line. */
struct nr_hold {
    _Alignas(64) _Atomic uint32_t word;
    uint32_t magic; /* of what it is a part of, if it is the first one */
    uint64_t home;
    uint32_t more[2];
    void *entry[2]; /* the owner's: its robust list */
    uint64_t reserved[3];
};
_Static_assert(sizeof(struct nr_hold) == 64, "a cache line");

static inline uint32_t nr_hold_owner(uint32_t seen)
{
    return seen & NR_HOLD_OWNER;
}

/* True: the caller holds it now, and *ret_seen is what it was before. False: somebody else does: *ret_seen. */
static inline bool nr_hold_take(_Atomic uint32_t *word, uint32_t me, uint32_t *ret_seen)
{
    uint32_t seen = 0;

    do {
        if (atomic_compare_exchange_strong_explicit(word, &seen, (seen & ~NR_HOLD_OWNER) | me,
                                                    memory_order_acquire /* [A1] <- [R1] */,
                                                    memory_order_relaxed)) {
            *ret_seen = seen;
            return true;
        }
    } while (nr_hold_owner(seen) == 0);
    *ret_seen = seen;
    return false;
}

/* Of a word that has an owner, as seen. True: sleep while it is *seen. False: it has changed; look again. */
static inline bool nr_hold_want(_Atomic uint32_t *word, uint32_t *seen)
{
    uint32_t wanted = *seen | NR_HOLD_WAITERS;

    if (!(*seen & NR_HOLD_WAITERS) &&
        !atomic_compare_exchange_strong_explicit(word, seen, wanted, memory_order_relaxed,
                                                 memory_order_relaxed))
        return false;
    *seen = wanted;
    return true;
}

/* By the owner. `died`: whether DIED is there now, and whether it is to be. True: done. False: call what stores
   nr_hold_left() and wakes all. */
static inline uint32_t nr_hold_left(bool died)
{
    return died ? NR_HOLD_DIED : 0;
}
static inline bool nr_hold_leave(_Atomic uint32_t *word, bool died)
{
    uint32_t seen = atomic_load_explicit(word, memory_order_relaxed);

    if (!(seen & NR_HOLD_WAITERS) &&
        atomic_compare_exchange_strong_explicit(word, &seen, nr_hold_left(died),
                                                memory_order_release /* [R1] -> [A1] */,
                                                memory_order_relaxed))
        return true;
    atomic_thread_fence(memory_order_release); /* [R1] -> [A1], with the store in the kernel */
    return false;
}

/* In place of the kernel: the thread that `seen` names is no more, and nobody has marked it. */
static inline bool nr_hold_bury(_Atomic uint32_t *word, uint32_t seen)
{
    /* Release: the caller knows by the kernel that it is dead, so what it has written is there; and so it is for
       who takes the word now. */
    return atomic_compare_exchange_strong_explicit(word, &seen,
                                                   (seen & NR_HOLD_WAITERS) | NR_HOLD_DIED,
                                                   memory_order_release, memory_order_relaxed);
}
