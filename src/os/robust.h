/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * robust -- words in shared memory that the kernel gives back when the thread that holds them ends
 *
 * What       The robust list of a thread (get_robust_list(2)): when the thread ends, by any death or by exec, the kernel
 *            goes through it, and each word in it that holds the thread's id becomes OWNER_DIED, with WAITERS
 *            kept; one who sleeps on such a word is woken. The list is the C library's. Ours are in it between two
 *            entries of our own, so that its mutexes and our words keep out of each other's way.
 * How        An entry is at a fixed distance from its word, so it stands in shared memory:
 *              nr_os_robust_aim()      from here on the word counts as held if it holds the id
 *              ... a compare-and-swap puts the id into the word ...
 *              nr_os_robust_add()      into the list
 *              nr_os_robust_settle()   ends the aim
 *            and to let go: aim, remove, take the id out, settle.
 * Memory     nr_os_robust_hold is private: of the thread that holds the word.
 * Trust      What stands in shared memory is written and never read here: neighbours are found through the private
 *            part. Only the kernel follows the entries. A hostile process can break the chain; then other words that
 *            the same thread holds stay held when it dies, until someone finds its id gone (sync/sleep.h).
 * Signals    Not for signal handlers.
 * Fork       The child's list is empty, and its id another one.
 */
#include "os/process.h"
#include <stddef.h>
#include <stdint.h>

enum { NR_OS_ROBUST_DISTANCE = 32 }; /* from the word to what the list links: glibc, 64 bits */

struct nr_os_robust_entry {
    uint32_t word;
    uint32_t others[5]; /* no affair of the list's */
    void *before;       /* written by glibc, for a neighbour of ours that is its own */
    void *next;         /* what the list links */
};
_Static_assert(offsetof(struct nr_os_robust_entry, next) == NR_OS_ROBUST_DISTANCE, "as glibc does");

struct nr_os_robust_hold {
    struct nr_os_robust_entry *entry; /* NULL: not in a list */
    struct nr_os_robust_hold *before, *after;
};

struct nr_os_robust_thread {
    uint64_t token; /* of the process that the rest belongs to */
    uint32_t id;    /* gettid() */
    void **pending;
    struct nr_os_robust_hold first, last;
    struct nr_os_robust_entry first_entry, last_entry;
};
extern _Thread_local struct nr_os_robust_thread nr_os_robust_thread
    __attribute__((tls_model("initial-exec")));

/* 0; -EOPNOTSUPP: the C library keeps no list, or one of another form; -ENOMEM. */
int nr_os_robust_prepare(void);

/* The calling thread; NULL: call nr_os_robust_prepare(), which makes it or says why not. */
static inline struct nr_os_robust_thread *nr_os_robust_me(void)
{
    struct nr_os_robust_thread *me = &nr_os_robust_thread;

    return __builtin_expect(nr_os_process_is(me->token), 1) ? me : NULL;
}

/* Each store is there before the next: the kernel looks when the thread is between any two instructions. */
static inline void nr_os_robust_point(void **place, void *value)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(place, value, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* Returns what was aimed at before (a death word of os/futex.h), for settle. */
static inline void *nr_os_robust_aim(struct nr_os_robust_thread *me,
                                     struct nr_os_robust_entry *entry)
{
    void *before = __atomic_load_n(me->pending, __ATOMIC_RELAXED);

    nr_os_robust_point(me->pending, &entry->next);
    return before;
}
static inline void nr_os_robust_settle(struct nr_os_robust_thread *me, void *before)
{
    nr_os_robust_point(me->pending, before);
}

static inline void nr_os_robust_add(struct nr_os_robust_thread *me, struct nr_os_robust_hold *hold,
                                    struct nr_os_robust_entry *entry)
{
    hold->entry = entry;
    hold->before = &me->first;
    hold->after = me->first.after;
    nr_os_robust_point(&entry->next, &hold->after->entry->next);
    nr_os_robust_point(&me->first_entry.next, &entry->next);
    hold->after->before = hold;
    me->first.after = hold;
}

static inline void nr_os_robust_remove(struct nr_os_robust_hold *hold)
{
    nr_os_robust_point(&hold->before->entry->next, &hold->after->entry->next);
    hold->before->after = hold->after;
    hold->after->before = hold->before;
    hold->entry = NULL;
}
