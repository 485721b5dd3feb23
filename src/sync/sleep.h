/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * sleep -- sleep on words of an object of synchronisation, and now and then look around
 *
 * What       The kernel wakes who sleeps on the word of one that dies (os/robust.h). It does not where a hostile process
 *            has broken the dead one's list, or where the dead one had unmapped the memory; and of several that sleep it
 *            wakes one, which may be stopped just then. So each sleep ends after a second, to look: that
 *            decides nothing by itself, and costs an idle process one wake-up a second.
 */
#include "os/futex.h"
#include <limits.h>

enum { NR_SLEEP_LOOK = INT_MAX };

/* 1 + the index of the word that was woken; 0: one has changed, or for nothing; NR_SLEEP_LOOK: see above;
   -ETIMEDOUT: the deadline, which is not 0, is over; another error of the kernel's. */
int nr_sleep(const struct nr_os_futex_word *words, unsigned count, struct nr_deadline *deadline);
