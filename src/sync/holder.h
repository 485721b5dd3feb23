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

/* Takes a slot that is free: its index, or -1. */
int nr_holder_try(struct nr_holder *holder, struct nr_os_robust_thread *me);

/* A slot that the thread holds through this handle, or -1. */
int nr_holder_mine(const struct nr_holder *holder, const struct nr_os_robust_thread *me);

/* Gives it back; -errno of the call that wakes. */
int nr_holder_give(struct nr_holder *holder, struct nr_os_robust_thread *me, int at);

/* Sleeps while each slot i is seen[i], but for those where that is 0; as nr_sleep(). After a look around slots of threads
   that are gone have no owner any more. */
int nr_holder_sleep(struct nr_holder *holder, const uint32_t seen[], struct nr_deadline *deadline);
