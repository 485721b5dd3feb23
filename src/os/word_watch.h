/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * word_watch -- a descriptor that becomes readable when a futex word, which has a certain value, is woken or changes
 *
 * What       An eventfd of this process. While it is armed a futex wait stands for it in a private io_uring (uring.h); or,
 *            where there is no such ring, a thread waits (watcher.h). It stays readable until it is armed anew.
 * Use        Who has found nothing tries to make the word `value`, which whoever changes it must wake, and arms. What comes
 *            before is seen by that, since the wait begins with a look at the word.
 * Threads    Any may call any function but init and deinit. A ring belongs to the thread that made it: a wait that stands
 *            serves all; to begin another one, another thread makes another ring, some times, and then the thread is
 *            taken.
 * Fork       A child has no descriptor until it asks for one, by one thread first; that is another one. The parent's stays
 *            as it is.
 * Death      All of it goes with the process. A thread that ends takes its ring along: the descriptor becomes readable, and
 *            who looks arms it anew.
 * Returns    A descriptor, or -errno.
 */
#include "os/process.h"
#include "os/uring.h"
#include "os/watcher.h"

struct nr_word_watch {
    const uint32_t *word;
    uint32_t value;
    uint64_t owner; /* token of the process that has the descriptor; 0: none has */
    struct nr_lock lock;
    struct nr_watcher watcher; /* has the eventfd */
    int watcher_stops;
    struct nr_uring ring;
    bool is_armed; /* a wait stands in the ring, or its completion */
    bool has_no_ring;
    unsigned hand_overs;
};

void nr_word_watch_init(struct nr_word_watch *watch, const uint32_t *word, uint32_t value);
void nr_word_watch_deinit(struct nr_word_watch *watch); /* may run twice */

/* The descriptor, made on demand, and then readable until it is armed. */
int nr_word_watch_fd(struct nr_word_watch *watch);

/* False: nobody in this process has asked for a descriptor, and there is nothing to arm. */
static inline bool nr_word_watch_is_on(const struct nr_word_watch *watch)
{
    return nr_os_process_is(__atomic_load_n(&watch->owner, __ATOMIC_RELAXED));
}

/* Of one that is on: silent until the word is woken or is not `value`. */
void nr_word_watch_arm(struct nr_word_watch *watch);
