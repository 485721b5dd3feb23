/* SPDX-License-Identifier: MIT */
/*
 * mutex -- what naru_mutex, naru_rwlock and naru_condition cost beside what the C library has, shared between processes
 *
 * The mutex of the C library is robust; its rwlock and condition know nothing of death. One process: a lock and an unlock that nobody contends. Two processes, each on a processor of its own: a short section
 * that both want, at once.
 */
#include <naru/shm.h>
#include <naru/sync.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { REPEATS = 9, PAIRS = 2000000, SECTIONS = 200000, TURNS = 20000 };

static struct bench_shared {
    struct naru_mutex_state state;
    struct naru_rwlock_state rwlock_state;
    struct naru_condition_state condition_state;
    _Alignas(64) pthread_mutex_t bare;
    _Alignas(64) pthread_rwlock_t bare_rwlock;
    _Alignas(64) pthread_cond_t bare_condition;
    _Alignas(64) int turn;
    _Alignas(64) volatile long counter;
} * shared;

static struct naru_mutex *ours;
static struct naru_rwlock *our_rwlock;
static struct naru_condition *our_condition;

static double now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static double bare_pairs(void)
{
    double begin = now_ns();

    for (int i = 0; i < PAIRS; i++) {
        pthread_mutex_lock(&shared->bare);
        pthread_mutex_unlock(&shared->bare);
    }
    return (now_ns() - begin) / PAIRS;
}

static double naru_pairs(void)
{
    double begin = now_ns();

    for (int i = 0; i < PAIRS; i++) {
        naru_mutex_lock(ours, NARU_FOREVER);
        naru_mutex_unlock(ours);
    }
    return (now_ns() - begin) / PAIRS;
}

static double bare_reads(void)
{
    double begin = now_ns();

    for (int i = 0; i < PAIRS; i++) {
        pthread_rwlock_rdlock(&shared->bare_rwlock);
        pthread_rwlock_unlock(&shared->bare_rwlock);
    }
    return (now_ns() - begin) / PAIRS;
}

static double naru_reads(void)
{
    double begin = now_ns();

    for (int i = 0; i < PAIRS; i++) {
        naru_rwlock_read(our_rwlock, NARU_FOREVER);
        naru_rwlock_unlock(our_rwlock);
    }
    return (now_ns() - begin) / PAIRS;
}

/* Two processes read at once, each on a processor of its own. */
static double both(double (*reads)(void))
{
    pid_t pid = fork();
    double ns = reads();

    if (pid == 0)
        _exit(0);
    waitpid(pid, NULL, 0);
    return ns;
}
static double bare_both(void)
{
    return both(bare_reads);
}
static double naru_both(void)
{
    return both(naru_reads);
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

static double turns(void (*take_turns)(int me))
{
    double begin = now_ns();

    shared->turn = 0;
    pid_t pid = fork();
    take_turns(pid == 0);
    if (pid == 0)
        _exit(0);
    waitpid(pid, NULL, 0);
    return (now_ns() - begin) / (2 * TURNS);
}
static double bare_in_turns(void)
{
    return turns(bare_turns);
}
static double naru_in_turns(void)
{
    return turns(naru_turns);
}

static void bare_sections(void)
{
    for (int i = 0; i < SECTIONS; i++) {
        pthread_mutex_lock(&shared->bare);
        shared->counter = shared->counter + 1;
        pthread_mutex_unlock(&shared->bare);
    }
}

static void naru_sections(void)
{
    for (int i = 0; i < SECTIONS; i++) {
        naru_mutex_lock(ours, NARU_FOREVER);
        shared->counter = shared->counter + 1;
        naru_mutex_unlock(ours);
    }
}

/* Per section of the two. */
static double contended(void (*sections)(void))
{
    double begin = now_ns();
    pid_t pid = fork();

    sections();
    if (pid == 0)
        _exit(0);
    waitpid(pid, NULL, 0);
    return (now_ns() - begin) / (2 * SECTIONS);
}

static double bare_contended(void)
{
    return contended(bare_sections);
}
static double naru_contended(void)
{
    return contended(naru_sections);
}

static int by_size(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

/* Medians of runs that take turns, so that both meet the same machine. */
static void compare(const char *what, double (*bare)(void), double (*naru)(void))
{
    double bare_ns[REPEATS], naru_ns[REPEATS];

    for (int i = 0; i < REPEATS; i++) {
        bare_ns[i] = bare();
        naru_ns[i] = naru();
    }
    qsort(bare_ns, REPEATS, sizeof bare_ns[0], by_size);
    qsort(naru_ns, REPEATS, sizeof naru_ns[0], by_size);
    printf("%-28s %9.1f ns bare %9.1f ns naru  %.2f x\n", what, bare_ns[REPEATS / 2],
           naru_ns[REPEATS / 2], naru_ns[REPEATS / 2] / bare_ns[REPEATS / 2]);
}

int main(void)
{
    struct naru_shm *segment;
    pthread_mutexattr_t robust;

    if (naru_shm_open(&segment, "shm://", sizeof *shared, NULL) < 0) {
        fprintf(stderr, "%s\n", naru_error_text());
        return 1;
    }
    shared = naru_shm_data(segment);
    pthread_mutexattr_init(&robust);
    pthread_mutexattr_setpshared(&robust, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&shared->bare, &robust);
    pthread_rwlockattr_t rwlock;
    pthread_rwlockattr_init(&rwlock);
    pthread_rwlockattr_setpshared(&rwlock, PTHREAD_PROCESS_SHARED);
    pthread_rwlock_init(&shared->bare_rwlock, &rwlock);
    pthread_condattr_t condition;
    pthread_condattr_init(&condition);
    pthread_condattr_setpshared(&condition, PTHREAD_PROCESS_SHARED);
    pthread_cond_init(&shared->bare_condition, &condition);
    if (naru_mutex_init(&shared->state) < 0 || naru_mutex_attach(&ours, &shared->state) < 0 ||
        naru_rwlock_init(&shared->rwlock_state) < 0 ||
        naru_rwlock_attach(&our_rwlock, &shared->rwlock_state) < 0 ||
        naru_condition_init(&shared->condition_state) < 0 ||
        naru_condition_attach(&our_condition, &shared->condition_state) < 0) {
        fprintf(stderr, "%s\n", naru_error_text());
        return 1;
    }
    compare("mutex: lock and unlock", bare_pairs, naru_pairs);
    compare("mutex: two want it", bare_contended, naru_contended);
    compare("rwlock: read and unlock", bare_reads, naru_reads);
    compare("rwlock: two read at once", bare_both, naru_both);
    compare("condition: in turns", bare_in_turns, naru_in_turns);
    if (shared->counter != 4L * REPEATS * SECTIONS) {
        fprintf(stderr, "the counter says %ld\n", shared->counter);
        return 1;
    }
    naru_condition_close(our_condition);
    naru_rwlock_close(our_rwlock);
    naru_mutex_close(ours);
    naru_shm_close(segment);
    return 0;
}
