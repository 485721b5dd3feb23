/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * futex -- sleep until a word in shared memory changes, and wake who sleeps
 *
 * What       Words are 32 bits, shared between processes. Each wait may return for nothing.
 * Death      While a word is `pending` (nr_os_futex_pending) in a thread, the kernel wakes one who
 *            sleeps on it when that thread dies; the word itself stays 0. One such word serves any number
 *            of processes. Source: handle_futex_death() in the kernel, "pending_op && !pi && !uval".
 * Returns    0 woken, or it had changed; -EINTR, -ETIMEDOUT.
 */
#include "os/clock.h"
#include <stdint.h>

enum { NR_OS_FUTEX_WORDS_MAX = 128 };

struct nr_os_futex_word {
    const uint32_t *word;
    uint32_t value;
};

/* Sleeps while every word has its value: 1..128 words, one call (futex_waitv, Linux 5.16). */
int nr_os_futex_wait(const struct nr_os_futex_word *words, unsigned count,
                     struct nr_deadline *deadline);

/* Wakes up to `count` sleepers; returns how many. */
int nr_os_futex_wake(const uint32_t *word, unsigned count);

/* Adds 1 to the word and wakes all who sleep on it, in one step that a kill can't divide. */
int nr_os_futex_add_and_wake(uint32_t *word);

/*
 * Makes `word` the calling thread's pending word until nr_os_futex_pending_end(), which takes what begin
 * returned. Nests. Returns NULL where there is no robust list. A handful of instructions, no system call.
 */
void *nr_os_futex_pending(const uint32_t *word);
void nr_os_futex_pending_end(void *before);
