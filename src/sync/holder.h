/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * holder -- a process' side of slots that its threads hold (data/slots.h): permits, readers
 *
 * Ownership  mine[i] is the thread's that holds slot i through this handle.
 */
#include "data/slots.h"
#include "os/robust.h"
#include "sync/sleep.h"

struct nr_holder {
    struct nr_slots *slots;
    unsigned count; /* a copy: the shared one may change at a hostile process' will */
    struct nr_os_robust_hold mine[NR_SLOTS_MAX];
};

/* Takes the slot, if it is free still. */
static inline bool nr_holder_take(struct nr_holder *holder, struct nr_os_robust_thread *me,
                                  unsigned at)
{
    struct nr_hold *slot = &holder->slots->slots[at];
    void *before = nr_os_robust_aim(me, (void *)slot);
    uint32_t seen;
    bool is_mine = nr_hold_take(&slot->word, me->id, &seen);

    if (is_mine)
        nr_os_robust_add(me, &holder->mine[at], (void *)slot);
    nr_os_robust_settle(me, before);
    return is_mine;
}

static inline bool nr_holder_has(const struct nr_holder *holder,
                                 const struct nr_os_robust_thread *me, unsigned at)
{
    uint32_t seen = atomic_load_explicit(&holder->slots->slots[at].word, memory_order_relaxed);

    return nr_hold_owner(seen) == me->id && holder->mine[at].entry;
}

/* Takes a slot that is free: its index, or -1. The first look is inlined: it is most often enough. */
int nr_holder_try_others(struct nr_holder *holder, struct nr_os_robust_thread *me);
static inline int nr_holder_try(struct nr_holder *holder, struct nr_os_robust_thread *me)
{
    unsigned at = nr_slots_start(me->id, holder->count);
    uint32_t seen = atomic_load_explicit(&holder->slots->slots[at].word, memory_order_relaxed);

    if (__builtin_expect(nr_hold_owner(seen) == 0 && nr_holder_take(holder, me, at), 1))
        return (int)at;
    return nr_holder_try_others(holder, me);
}

/* A slot that the thread holds through this handle, or -1. */
int nr_holder_mine_others(const struct nr_holder *holder, const struct nr_os_robust_thread *me);
static inline int nr_holder_mine(const struct nr_holder *holder,
                                 const struct nr_os_robust_thread *me)
{
    unsigned at = nr_slots_start(me->id, holder->count);

    return __builtin_expect(nr_holder_has(holder, me, at), 1) ? (int)at
                                                              : nr_holder_mine_others(holder, me);
}

/* Gives it back; -errno of the call that wakes. */
static inline int nr_holder_give(struct nr_holder *holder, struct nr_os_robust_thread *me, int at)
{
    struct nr_hold *slot = &holder->slots->slots[at];
    void *before = nr_os_robust_aim(me, (void *)slot);
    int result = 0;

    nr_os_robust_remove(&holder->mine[at]);
    if (__builtin_expect(!nr_hold_leave(&slot->word, false), 0))
        result = nr_os_futex_store_and_wake((uint32_t *)&slot->word, nr_hold_left(false));
    nr_os_robust_settle(me, before);
    return result < 0 ? result : 0;
}

/* Sleeps while each slot i is seen[i], but for those where that is 0; as nr_sleep(). After a look around slots of threads
   that are gone have no owner any more. */
int nr_holder_sleep(struct nr_holder *holder, const uint32_t seen[], struct nr_deadline *deadline);
