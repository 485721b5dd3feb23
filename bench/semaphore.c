/* SPDX-License-Identifier: MIT */
/*
 * semaphore -- what naru_semaphore costs beside sem_t(3) of the C library, and naru_event beside a bare futex(2)
 *
 * One process: a post and a wait that nobody contends. Two processes: a round trip over two of them, each asleep when the
 * other posts or sets; on one processor, as in the other benchmarks.
 */
#include "beside.h"
#include <limits.h>
#include <linux/futex.h>
#include <naru/sync.h>
#include <semaphore.h>
#include <stdint.h>
#include <sys/syscall.h>

enum { PAIRS = 2000000, ROUND_TRIPS = 20000 };

static struct bench_shared {
    struct naru_semaphore_state state[2];
    sem_t bare[2];
    struct naru_event_state event_state[2];
    uint32_t bare_event[2]; /* 1: set */
    struct naru_owned_state owned;
} * shared;

static struct naru_semaphore *ours[2], *owned;
static struct naru_event *events[2];

static void bare_pairs(void)
{
    for (int i = 0; i < PAIRS; i++) {
        sem_post(&shared->bare[0]);
        sem_wait(&shared->bare[0]);
    }
}

static void naru_pairs(void)
{
    for (int i = 0; i < PAIRS; i++) {
        naru_semaphore_post(ours[0]);
        naru_semaphore_wait(ours[0], NARU_FOREVER);
    }
}

static void owned_pairs(void)
{
    for (int i = 0; i < PAIRS; i++) {
        naru_semaphore_wait(owned, NARU_FOREVER);
        naru_semaphore_post(owned);
    }
}

static void bare_trips(int me)
{
    for (int i = 0; i < ROUND_TRIPS; i++) {
        if (!me)
            sem_post(&shared->bare[0]);
        sem_wait(&shared->bare[!me]);
        if (me)
            sem_post(&shared->bare[1]);
    }
}

static void naru_trips(int me)
{
    for (int i = 0; i < ROUND_TRIPS; i++) {
        if (!me)
            naru_semaphore_post(ours[0]);
        naru_semaphore_wait(ours[!me], NARU_FOREVER);
        if (me)
            naru_semaphore_post(ours[1]);
    }
}

static void bare_round_trips(void)
{
    beside_both(bare_trips);
}
static void naru_round_trips(void)
{
    beside_both(naru_trips);
}

static void bare_set(uint32_t *word)
{
    __atomic_store_n(word, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void bare_await(uint32_t *word)
{
    while (!__atomic_load_n(word, __ATOMIC_ACQUIRE))
        syscall(SYS_futex, word, FUTEX_WAIT, 0, NULL, NULL, 0);
    __atomic_store_n(word, 0, __ATOMIC_RELAXED);
}

static void bare_events(int me)
{
    for (int i = 0; i < ROUND_TRIPS; i++) {
        if (!me)
            bare_set(&shared->bare_event[0]);
        bare_await(&shared->bare_event[!me]);
        if (me)
            bare_set(&shared->bare_event[1]);
    }
}

static void naru_events(int me)
{
    for (int i = 0; i < ROUND_TRIPS; i++) {
        if (!me)
            naru_event_set(events[0]);
        naru_event_wait(events[!me], NARU_FOREVER);
        naru_event_reset(events[!me]);
        if (me)
            naru_event_set(events[1]);
    }
}

static void bare_event_trips(void)
{
    beside_both(bare_events);
}
static void naru_event_trips(void)
{
    beside_both(naru_events);
}

static int init_ours(void)
{
    for (int i = 0; i < 2; i++)
        if (naru_semaphore_init(&shared->state[i], 0) < 0 ||
            naru_semaphore_attach(&ours[i], &shared->state[i]) < 0 ||
            naru_event_init(&shared->event_state[i]) < 0 ||
            naru_event_attach(&events[i], &shared->event_state[i]) < 0)
            return -1;
    return naru_semaphore_init_owned(&shared->owned, 4) < 0 ||
                   naru_semaphore_attach_owned(&owned, &shared->owned) < 0
               ? -1
               : 0;
}

int main(int argc, char **argv)
{
    shared = beside_begin(argc, argv, sizeof *shared);
    for (int i = 0; i < 2; i++)
        sem_init(&shared->bare[i], 1, 0);
    if (init_ours() < 0)
        beside_give_up();
    beside_share = true;
    beside_compare("semaphore: post and wait", PAIRS, bare_pairs, naru_pairs);
    beside_compare("semaphore: owned, wait, post", PAIRS, bare_pairs, owned_pairs);
    beside_compare("semaphore: round trip", ROUND_TRIPS, bare_round_trips, naru_round_trips);
    beside_compare("event: round trip", ROUND_TRIPS, bare_event_trips, naru_event_trips);
    for (int i = 0; i < 2; i++) {
        naru_semaphore_close(ours[i]);
        naru_event_close(events[i]);
    }
    naru_semaphore_close(owned);
    beside_end();
    return 0;
}
