/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * chaos -- workers that are killed, stopped and replaced at random, and something that must go on all the while
 *
 * What       Each worker is a process that works until it is killed; its replacement takes its number. What they have
 *            done stands in memory that survives them. While nobody is stopped, nothing may stand still for long.
 * Bounds     NARU_BUDGET_S seconds in all (nr_chaos_share_ns()); NARU_SEED for what is done to whom.
 */
#include "kit.h"
#include <stdint.h>
#include <sys/types.h>

enum { NR_CHAOS_WORKERS_MOST = 8, NR_CHAOS_STALL_MOST_S = 4 };

struct nr_chaos {
    int workers;              /* at most NR_CHAOS_WORKERS_MOST */
    void (*live)(int worker); /* in the worker; does not return */

    /* set by nr_chaos_run(): */
    unsigned long kills, kills_inside, stops; /* inside: a call of the library */
    unsigned long kills_of[NR_CHAOS_WORKERS_MOST];
    int64_t longest_stall_ns;
};

/* Before the first fork. */
void nr_chaos_init(void);

/* Starts the workers, disturbs them for so long, and kills them all, the last one first. */
void nr_chaos_run(struct nr_chaos *chaos, uint64_t seed, int64_t duration_ns);

/* Enough happened to mean something. */
void nr_chaos_check(const struct nr_chaos *chaos);

/* In a worker, or a process that watches them: something went on. */
void nr_chaos_progress(void);

/* In a worker: the value of a call of the library, in which a kill counts. */
#define nr_chaos_inside(call) (nr_chaos_enter(), nr_chaos_come_out(call))
void nr_chaos_enter(void);
int nr_chaos_come_out(int result);

/* NARU_SEED, or the time. */
uint64_t nr_chaos_seed(void);
uint64_t nr_chaos_any(uint64_t *state);

/* The budget, or `default_s`, for one of so many. */
int64_t nr_chaos_share_ns(int default_s, int shares);
