/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * beside -- one operation of Naru's beside the bare one: medians of runs that take turns, so that both meet the same machine
 *
 * Use        beside_begin(): memory that both processes of a pair will share; those are measured whose name begins with
 *            the program's argument. beside_end().
 * Switches   How often a processor was given up, by this process and its children, an operation.
 */
#include <naru/shm.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BESIDE_REPEATS = 9 };

struct beside_run {
    double ns, switches; /* of one operation */
};

static const char *beside_only = "";

static struct naru_shm *beside_segment;

static inline _Noreturn void beside_give_up(void)
{
    fprintf(stderr, "%s\n", naru_error_text());
    exit(1);
}

static inline void *beside_begin(int argc, char **argv, size_t shared_bytes)
{
    beside_only = argc > 1 ? argv[1] : "";
    if (naru_shm_open(&beside_segment, "shm://", shared_bytes, NULL) < 0)
        beside_give_up();
    return naru_shm_data(beside_segment);
}

static inline void beside_end(void)
{
    naru_shm_close(beside_segment);
}

static inline long beside_switches(void)
{
    struct rusage self, children;

    getrusage(RUSAGE_SELF, &self);
    getrusage(RUSAGE_CHILDREN, &children);
    return self.ru_nvcsw + children.ru_nvcsw;
}

static inline double beside_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static inline struct beside_run beside_measure(void (*body)(void), int operations)
{
    long switches = beside_switches();
    double begin = beside_now_ns();

    body();
    double end = beside_now_ns();
    return (struct beside_run){(end - begin) / operations,
                               (double)(beside_switches() - switches) / operations};
}

static inline int beside_by_time(const void *a, const void *b)
{
    double left = ((const struct beside_run *)a)->ns, right = ((const struct beside_run *)b)->ns;

    return (left > right) - (left < right);
}

static inline void beside_compare(const char *what, int operations, void (*bare)(void),
                                  void (*naru)(void))
{
    struct beside_run runs[2][BESIDE_REPEATS];

    if (strncmp(what, beside_only, strlen(beside_only)) != 0)
        return;
    for (int i = 0; i < BESIDE_REPEATS; i++) {
        runs[0][i] = beside_measure(bare, operations);
        runs[1][i] = beside_measure(naru, operations);
    }
    for (int i = 0; i < 2; i++)
        qsort(runs[i], BESIDE_REPEATS, sizeof runs[i][0], beside_by_time);
    const struct beside_run *of_bare = &runs[0][BESIDE_REPEATS / 2];
    const struct beside_run *of_naru = &runs[1][BESIDE_REPEATS / 2];
    printf("%-28s %9.1f ns bare %9.1f ns naru  %.2f x", what, of_bare->ns, of_naru->ns,
           of_naru->ns / of_bare->ns);
    if (of_bare->switches >= 0.01)
        printf("   switches %.2f and %.2f", of_bare->switches, of_naru->switches);
    printf("\n");
}

/* The processor of a process of a pair: its own, or one for both. */
static bool beside_share;

static inline void beside_place(int me)
{
    static cpu_set_t allowed;
    static bool is_known;
    cpu_set_t one;
    int at = -1;

    if (!is_known)
        sched_getaffinity(0, sizeof allowed, &allowed);
    is_known = true;
    for (int left = beside_share || CPU_COUNT(&allowed) < 2 ? 0 : me; left >= 0; left--)
        do
            at++;
        while (!CPU_ISSET(at, &allowed));
    CPU_ZERO(&one);
    CPU_SET(at, &one);
    sched_setaffinity(0, sizeof one, &one);
}

/* Both processes of a forked pair run body(me), 0 and 1. */
static inline void beside_both(void (*body)(int me))
{
    pid_t pid = fork();
    int me = pid == 0;

    beside_place(me);
    body(me);
    if (me)
        _exit(0);
    waitpid(pid, NULL, 0);
}
