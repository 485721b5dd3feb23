/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * futex -- sleep until a word in shared memory changes, and wake who sleeps
 *
 * What       Words are 32 bits, shared between processes. Each wait may return for nothing.
 * Death      While a word is pending (nr_os_futex_arm) in a thread, the kernel wakes one who
 *            sleeps on it when that thread dies; the word itself stays 0. One such word serves any number
 *            of processes. Source: handle_futex_death() in the kernel, "pending_op && !pi && !uval".
 * Returns    -EINTR, -ETIMEDOUT, or as said below.
 */
#include "os/clock.h"
#include <stdbool.h>
#include <stdint.h>

enum { NR_OS_FUTEX_WORDS_MAX = 128 };

struct nr_os_futex_word {
    const uint32_t *word;
    uint32_t value;
};

/* Sleeps while every word has its value: 1..128 words, one call (futex_waitv, Linux 5.16). Returns 1 + the
   index of the word that was woken, or 0 if one had changed already. -EAGAIN: several words, and that call is
   refused here (valgrind, a sandbox), so that only the first was waited for, and at most 5 ms: look at all that
   was to wake you, and call again. */
int nr_os_futex_wait(const struct nr_os_futex_word *words, unsigned count,
                     struct nr_deadline *deadline);

/* Wakes up to `count` sleepers; returns how many. */
int nr_os_futex_wake(const uint32_t *word, unsigned count);

/* Adds 1 to the word and wakes all who sleep on it, in one step that a kill can't divide. */
int nr_os_futex_add_and_wake(uint32_t *word);

/* The same, but the word becomes `value`: 0 or a power of two. */
int nr_os_futex_store_and_wake(uint32_t *word, uint32_t value);

/* The same, but the bit that is set in `bit` is cleared. */
int nr_os_futex_clear_and_wake(uint32_t *word, uint32_t bit);

struct robust_list_head;

/*
 * Leaves `word` pending in the calling thread, until another one is armed, the thread uses a robust mutex,
 * or nr_os_futex_disarm(word). A few instructions, no system call. If the thread is in the middle of locking
 * a robust mutex (we are in a signal handler), that one stays.
 */
struct nr_os_futex_thread { /* of the calling thread: what it armed last, and where that stands */
    const uint32_t *word;
    void *node, **pending;
    long offset;                   /* from a node to its word */
    struct robust_list_head *list; /* if is_known; NULL: there is none */
    bool is_known;
};
extern _Thread_local struct nr_os_futex_thread nr_os_futex_thread
    __attribute__((tls_model("initial-exec")));

void nr_os_futex_arm_anew(const uint32_t *word);

/* The same where it takes a few stores at most: what is pending was armed by us. False: nothing was done. */
static inline bool nr_os_futex_rearm(const uint32_t *word)
{
    struct nr_os_futex_thread *thread = &nr_os_futex_thread;

    if (__builtin_expect(
            !thread->word || __atomic_load_n(thread->pending, __ATOMIC_RELAXED) != thread->node, 0))
        return false;
    if (thread->word != word) {
        thread->node =
            (char *)word - thread->offset; /* first: a signal handler then arms nothing */
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        thread->word = word;
        __atomic_store_n(thread->pending, thread->node, __ATOMIC_RELAXED);
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
    }
    return true;
}

static inline void nr_os_futex_arm(const uint32_t *word)
{
    if (!nr_os_futex_rearm(word))
        nr_os_futex_arm_anew(word);
}

void nr_os_futex_disarm(const uint32_t *word);
