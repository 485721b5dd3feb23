/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * pool_scene -- a pool whose tasks do mischief: what the tests of pools share
 *
 * pool_scene.c      the function that does all the mischief, as a task says; and how tasks go in and results come out
 * pool.c            results, limits, the owner
 * pool_mischief.c   functions that misbehave
 * pool_workers.c    workers that are started, die, and are replaced
 */
#include "kit.h"
#include <naru/pool.h>

enum mischief {
    TWICE, /* none: replies with twice the value, and returns 7 */
    FAIL,
    CRASH,
    CRASH_TWICE, /* in the first two attempts */
    LOOP,
    EXIT,
    FORK_AND_RETURN,
    FORK_AND_REPLY,
    FILL_MEMORY,
    GARBAGE,
    GARBAGE_AT_HEAD,
    CLOSE_ALL,
    GROW,
    SLEEP,
};

struct order {
    enum mischief mischief;
    int value;
};

/* Seen by all processes. */
extern struct nr_pool_scene_seen {
    int begun, inits, exits, refused;
    int pids[64], pids_count;
} * nr_pool_scene_seen;

naru_pool_work nr_pool_scene_work;
int nr_pool_scene_hook_init(uint32_t worker, void *context);
void nr_pool_scene_hook_exit(uint32_t worker, void *context);

struct naru_pool *nr_pool_scene_make(const struct naru_pool_options *with);
uint64_t nr_pool_scene_submit(struct naru_pool *pool, enum mischief mischief, int value);
struct naru_pool_result nr_pool_scene_next(struct naru_pool *pool);
void nr_pool_scene_expect_twice(const struct naru_pool_result *result, int value);

/* One bad task among good ones: the good ones are done, and the bad one's result is in *ret, its text in `text`. */
void nr_pool_scene_one_bad(const struct naru_pool_options *with, struct order bad,
                           struct naru_pool_result *ret, char text[192]);

/* A test of cmocka's: *state is the address of what runs in the kit. */
void nr_pool_scene_run(void **state);

#define TEST(name)                                                                                 \
    {                                                                                              \
#name, nr_pool_scene_run, NULL, NULL, &(void (*)(void *))                                  \
        {                                                                                          \
            run_##name                                                                             \
        }                                                                                          \
    }
