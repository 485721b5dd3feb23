/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * uring -- to wait for futex words and descriptors at once: a private io_uring
 *
 * What       Requests are queued (futex, poll), handed to the kernel by nr_os_uring_enter(), and stay there until what
 *            they wait for happens, also while nobody waits: so a wait costs one call, whatever it waits for.
 * Disturbing Otherwise (`is_quiet` false) a completion ends whatever system call the thread is in, as a signal would
 *            whose handler restarts it. So the thread may sleep in another call, and be told:
 *            nr_os_uring_sleep(). It costs a program an EINTR of epoll_wait(2) now and then.
 * Thread     A ring belongs to the thread that made it (IORING_SETUP_SINGLE_ISSUER): only that one may call here,
 *            except deinit and has_news. When it ends its requests end, with -ECANCELED. In a forked child
 *            only deinit may be called.
 * Quiet      Completions are put off until the thread enters (IORING_SETUP_DEFER_TASKRUN), so that no other
 *            system call of it is ever disturbed; the ring's own descriptor does not tell of them before that
 *            (measured), but an eventfd given to nr_os_uring_signal() becomes readable at once.
 * Returns    -errno. -ENOSYS: there is none here (before Linux 6.7, or refused), now and later.
 */
#include "os/clock.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nr_uring {
    int fd; /* -1: none */
    uint64_t thread;
    void *memory, *requests;
    size_t memory_bytes, requests_bytes;
    uint32_t *taken, *sent,
        *sent_flags;       /* the submission queue: its head, tail, and what the kernel says */
    uint32_t *seen, *done; /* the completion queue: its head and tail */
    void *completions;
    uint32_t requests_count, completions_mask;
    uint32_t queued; /* and not yet handed over */
    unsigned wait_flags;
    int64_t timer[2]; /* seconds, nanoseconds */
};
#define NR_URING_NULL ((struct nr_uring){.fd = -1})

int nr_os_uring_init(struct nr_uring *ring, bool is_quiet);
void nr_os_uring_deinit(struct nr_uring *ring); /* may run twice */
bool nr_os_uring_is_mine(const struct nr_uring *ring);

int nr_os_uring_signal(struct nr_uring *ring, int eventfd);

/* Each completes once, with `data`: the word no longer has the value, or is woken; the descriptor polls. When the
   queue is full it is handed over first. The word and the descriptor itself (not its number) must stay. */
int nr_os_uring_futex(struct nr_uring *ring, const uint32_t *word, uint32_t value, uint64_t data);
int nr_os_uring_poll(struct nr_uring *ring, int fd, unsigned events, uint64_t data);

/* Completes when that time is over, with -ETIME. One at a time. */
int nr_os_uring_timer(struct nr_uring *ring, int64_t after_ns, uint64_t data);

/* Ends the request of that data, if there is one: it completes with -ECANCELED. */
int nr_os_uring_cancel(struct nr_uring *ring, uint64_t data);

/* Hands over what is queued and collects completions; with a deadline sleeps until there is one (-ETIMEDOUT,
   -EINTR after any signal). NULL: does not sleep. */
int nr_os_uring_enter(struct nr_uring *ring, struct nr_deadline *deadline);

/* Of a ring that is not quiet, and where nr_os_guard_works(): hands over what is queued, then sleeps while `word`,
   which is not in the ring, has that value, until somebody wakes it, something completes, or *raised. Costs what a
   bare futex does. 0: look; -EINTR: look, and at the completions; -ETIMEDOUT. */
int nr_os_uring_sleep(struct nr_uring *ring, const int *raised, const uint32_t *word,
                      uint32_t value, struct nr_deadline *deadline);

/* The next completion; its result is what poll returned, 0 or -errno. False: no more for now. */
bool nr_os_uring_next(struct nr_uring *ring, uint64_t *ret_data, int *ret_result);

/* True if something has completed that was not fetched, or collected. No system call. Any thread. */
bool nr_os_uring_has_news(const struct nr_uring *ring);
