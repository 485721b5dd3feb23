/* SPDX-License-Identifier: MIT */
/*
 * semaphore -- what naru_semaphore costs beside sem_t(3) of the C library
 *
 * One process: a post and a wait that nobody contends. Two processes: a round trip over two semaphores,
 * each asleep when the other posts; on one processor, as in the other benchmarks.
 */
#include <naru/shm.h>
#include <naru/sync.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { REPEATS = 9, PAIRS = 2000000, ROUND_TRIPS = 20000 };

static struct bench_shared {
    struct naru_semaphore_state state[2];
    sem_t bare[2];
    struct naru_owned_state owned;
} * shared;

static struct naru_semaphore *ours[2], *owned;

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
        sem_post(&shared->bare[0]);
        sem_wait(&shared->bare[0]);
    }
    return (now_ns() - begin) / PAIRS;
}

static double naru_pairs(void)
{
    double begin = now_ns();

    for (int i = 0; i < PAIRS; i++) {
        naru_semaphore_post(ours[0]);
        naru_semaphore_wait(ours[0], NARU_FOREVER);
    }
    return (now_ns() - begin) / PAIRS;
}

static double owned_pairs(void)
{
    double begin = now_ns();

    for (int i = 0; i < PAIRS; i++) {
        naru_semaphore_wait(owned, NARU_FOREVER);
        naru_semaphore_post(owned);
    }
    return (now_ns() - begin) / PAIRS;
}

static double bare_round_trips(void)
{
    pid_t pid = fork();

    for (int i = 0; pid == 0 && i < ROUND_TRIPS; i++) {
        sem_wait(&shared->bare[0]);
        sem_post(&shared->bare[1]);
    }
    if (pid == 0)
        _exit(0);
    double begin = now_ns();
    for (int i = 0; i < ROUND_TRIPS; i++) {
        sem_post(&shared->bare[0]);
        sem_wait(&shared->bare[1]);
    }
    double end = now_ns();
    waitpid(pid, NULL, 0);
    return (end - begin) / ROUND_TRIPS;
}

static double naru_round_trips(void)
{
    pid_t pid = fork();

    for (int i = 0; pid == 0 && i < ROUND_TRIPS; i++) {
        naru_semaphore_wait(ours[0], NARU_FOREVER);
        naru_semaphore_post(ours[1]);
    }
    if (pid == 0)
        _exit(0);
    double begin = now_ns();
    for (int i = 0; i < ROUND_TRIPS; i++) {
        naru_semaphore_post(ours[0]);
        naru_semaphore_wait(ours[1], NARU_FOREVER);
    }
    double end = now_ns();
    waitpid(pid, NULL, 0);
    return (end - begin) / ROUND_TRIPS;
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
    cpu_set_t one;

    if (naru_shm_open(&segment, "shm://", sizeof *shared, NULL) < 0) {
        fprintf(stderr, "%s\n", naru_error_text());
        return 1;
    }
    shared = naru_shm_data(segment);
    for (int i = 0; i < 2; i++) {
        sem_init(&shared->bare[i], 1, 0);
        if (naru_semaphore_init(&shared->state[i], 0) < 0 ||
            naru_semaphore_attach(&ours[i], &shared->state[i]) < 0) {
            fprintf(stderr, "%s\n", naru_error_text());
            return 1;
        }
    }
    if (naru_semaphore_init_owned(&shared->owned, 4) < 0 ||
        naru_semaphore_attach_owned(&owned, &shared->owned) < 0) {
        fprintf(stderr, "%s\n", naru_error_text());
        return 1;
    }
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
    compare("semaphore: post and wait", bare_pairs, naru_pairs);
    compare("semaphore: owned, wait, post", bare_pairs, owned_pairs);
    compare("semaphore: round trip", bare_round_trips, naru_round_trips);
    for (int i = 0; i < 2; i++)
        naru_semaphore_close(ours[i]);
    naru_semaphore_close(owned);
    naru_shm_close(segment);
    return 0;
}
