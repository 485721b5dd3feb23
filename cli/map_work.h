/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * map_work -- what a worker of `naru map` does: runs the command for an item, and replies with what that prints
 *
 * Death      A command that a signal has killed takes its worker along, by the same signal: so the pool forgets what it
 *            had printed, gives the item to another worker, and sets it aside when that happens again and again. A
 *            worker that is killed takes its command along.
 */
#include <naru/pool.h>
#include <stdbool.h>

/* What nr_map_work() returns besides 0; all of it counts as failed. */
enum {
    NR_MAP_NOT_STARTED = -1000, /* the reply says why */
    NR_MAP_EXITED = -2000,      /* minus the exit status, which is not 0 */
};

struct nr_map_work {
    char *const *words; /* of the command; "{}" in them stands for the item. Ends with NULL */
    int words_count;
    bool has_place; /* there is a {}; else the item is the last word */
    int null_fd;    /* the worker's: standard input of commands */
};

int nr_map_work_init(uint32_t worker, void *context);
int nr_map_work(struct naru_pool_task *task, void *context);
