/* SPDX-License-Identifier: MIT */
/*
 * mutex -- what naru_mutex, naru_rwlock, naru_condition and naru_barrier cost beside what the C library has, shared between
 *          processes
 *
 * The mutex of the C library is robust; its rwlock, condition and barrier know nothing of death. One process: a lock and an
 * unlock that nobody contends. Two processes, each on a processor of its own: a short section that both want, at once.
 */
#include "beside.h"
#include <naru/sync.h>
#include <pthread.h>

enum { PAIRS = 2000000, SECTIONS = 200000, TURNS = 20000, MEETINGS = 20000 };

static struct bench_shared {
    struct naru_mutex_state state;
    struct naru_rwlock_state rwlock_state;
    struct naru_condition_state condition_state;
    struct naru_barrier_state barrier_state;
    _Alignas(64) pthread_mutex_t bare;
    _Alignas(64) pthread_rwlock_t bare_rwlock;
    _Alignas(64) pthread_cond_t bare_condition;
    _Alignas(64) pthread_barrier_t bare_barrier;
    _Alignas(64) int turn;
    _Alignas(64) volatile long counter;
} * shared;

static struct naru_mutex *ours;
static struct naru_rwlock *our_rwlock;
static struct naru_condition *our_condition;
static struct naru_barrier *our_barrier;

static void bare_pairs(void)
{
    for (int i = 0; i < PAIRS; i++) {
        pthread_mutex_lock(&shared->bare);
        pthread_mutex_unlock(&shared->bare);
    }
}

static void naru_pairs(void)
{
    for (int i = 0; i < PAIRS; i++) {
        naru_mutex_lock(ours, NARU_FOREVER);
        naru_mutex_unlock(ours);
    }
}

static void bare_reads(void)
{
    for (int i = 0; i < PAIRS; i++) {
        pthread_rwlock_rdlock(&shared->bare_rwlock);
        pthread_rwlock_unlock(&shared->bare_rwlock);
    }
}

static void naru_reads(void)
{
    for (int i = 0; i < PAIRS; i++) {
        naru_rwlock_read(our_rwlock, NARU_FOREVER);
        naru_rwlock_unlock(our_rwlock);
    }
}

/* Two processes read at once, each on a processor of its own. */
static void bare_reads_of(int me)
{
    (void)me;
    bare_reads();
}
static void naru_reads_of(int me)
{
    (void)me;
    naru_reads();
}
static void bare_both(void)
{
    beside_both(bare_reads_of);
}
static void naru_both(void)
{
    beside_both(naru_reads_of);
}

/* Half a round trip: each waits for its turn by the condition. */
static void bare_turns(int me)
{
    for (int i = 0; i < TURNS; i++) {
        pthread_mutex_lock(&shared->bare);
        while (shared->turn != me)
            pthread_cond_wait(&shared->bare_condition, &shared->bare);
        shared->turn = !me;
        pthread_mutex_unlock(&shared->bare);
        pthread_cond_signal(&shared->bare_condition);
    }
}

static void naru_turns(int me)
{
    for (int i = 0; i < TURNS; i++) {
        naru_mutex_lock(ours, NARU_FOREVER);
        while (shared->turn != me)
            naru_condition_wait(our_condition, ours, NARU_FOREVER);
        shared->turn = !me;
        naru_mutex_unlock(ours);
        naru_condition_wake(our_condition);
    }
}

static void bare_in_turns(void)
{
    shared->turn = 0;
    beside_both(bare_turns);
}
static void naru_in_turns(void)
{
    shared->turn = 0;
    beside_both(naru_turns);
}

static void bare_sections(int me)
{
    (void)me;
    for (int i = 0; i < SECTIONS; i++) {
        pthread_mutex_lock(&shared->bare);
        shared->counter = shared->counter + 1;
        pthread_mutex_unlock(&shared->bare);
    }
}

static void naru_sections(int me)
{
    (void)me;
    for (int i = 0; i < SECTIONS; i++) {
        naru_mutex_lock(ours, NARU_FOREVER);
        shared->counter = shared->counter + 1;
        naru_mutex_unlock(ours);
    }
}

static void bare_contended(void)
{
    shared->counter = 0;
    beside_both(bare_sections);
}
static void naru_contended(void)
{
    shared->counter = 0;
    beside_both(naru_sections);
    if (shared->counter != 2L * SECTIONS) {
        fprintf(stderr, "the counter says %ld\n", shared->counter);
        exit(1);
    }
}

static void bare_meetings(int me)
{
    (void)me;
    for (int i = 0; i < MEETINGS; i++)
        pthread_barrier_wait(&shared->bare_barrier);
}

static void naru_meetings(int me)
{
    (void)me;
    for (int i = 0; i < MEETINGS; i++)
        naru_barrier_wait(our_barrier, NARU_FOREVER);
    naru_barrier_leave(our_barrier);
}

static void bare_meet(void)
{
    beside_both(bare_meetings);
}
static void naru_meet(void)
{
    beside_both(naru_meetings);
}

static void init_bare(void)
{
    pthread_mutexattr_t robust;
    pthread_rwlockattr_t rwlock;
    pthread_condattr_t condition;
    pthread_barrierattr_t barrier;

    pthread_mutexattr_init(&robust);
    pthread_mutexattr_setpshared(&robust, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&shared->bare, &robust);
    pthread_rwlockattr_init(&rwlock);
    pthread_rwlockattr_setpshared(&rwlock, PTHREAD_PROCESS_SHARED);
    pthread_rwlock_init(&shared->bare_rwlock, &rwlock);
    pthread_condattr_init(&condition);
    pthread_condattr_setpshared(&condition, PTHREAD_PROCESS_SHARED);
    pthread_cond_init(&shared->bare_condition, &condition);
    pthread_barrierattr_init(&barrier);
    pthread_barrierattr_setpshared(&barrier, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&shared->bare_barrier, &barrier, 2);
}

static int init_ours(void)
{
    return naru_mutex_init(&shared->state) < 0 || naru_mutex_attach(&ours, &shared->state) < 0 ||
                   naru_rwlock_init(&shared->rwlock_state) < 0 ||
                   naru_rwlock_attach(&our_rwlock, &shared->rwlock_state) < 0 ||
                   naru_condition_init(&shared->condition_state) < 0 ||
                   naru_condition_attach(&our_condition, &shared->condition_state) < 0 ||
                   naru_barrier_init(&shared->barrier_state, 2) < 0 ||
                   naru_barrier_attach(&our_barrier, &shared->barrier_state) < 0
               ? -1
               : 0;
}

int main(int argc, char **argv)
{
    shared = beside_begin(argc, argv, sizeof *shared);
    init_bare();
    if (init_ours() < 0)
        beside_give_up();
    beside_compare("mutex: lock and unlock", PAIRS, bare_pairs, naru_pairs);
    beside_compare("mutex: two want it", 2 * SECTIONS, bare_contended, naru_contended);
    beside_compare("rwlock: read and unlock", PAIRS, bare_reads, naru_reads);
    beside_compare("rwlock: two read at once", PAIRS, bare_both, naru_both);
    beside_compare("condition: in turns", 2 * TURNS, bare_in_turns, naru_in_turns);
    beside_compare("barrier: two meet", MEETINGS, bare_meet, naru_meet);
    beside_share = true;
    beside_compare("condition: on one processor", 2 * TURNS, bare_in_turns, naru_in_turns);
    beside_compare("barrier: on one processor", MEETINGS, bare_meet, naru_meet);
    naru_barrier_close(our_barrier);
    naru_condition_close(our_condition);
    naru_rwlock_close(our_rwlock);
    naru_mutex_close(ours);
    beside_end();
    return 0;
}
