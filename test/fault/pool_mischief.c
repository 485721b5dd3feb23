/* SPDX-License-Identifier: MIT */
/*
 * pool_mischief -- tasks that crash, loop, fork, exit, fill memory, write garbage
 *
 * What       Whatever a task does, every other task is answered right, and nothing is left: no descriptor, no process.
 */
#include "pool_scene.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>
#include <sys/resource.h>

/* -- functions that misbehave ------------------------------------------------------------------ */

static void run_fails(void *argument)
{
    struct naru_pool_result result;
    char text[192];

    (void)argument;
    nr_pool_scene_one_bad(NULL, (struct order){.mischief = FAIL}, &result, text);
    nr_check(result.outcome == NARU_POOL_FAILED && result.code == -3 && result.size_bytes == 3,
             "outcome %d, code %d", result.outcome, result.code);
}

static void expect_set_aside(struct order bad, const struct naru_pool_options *with,
                             const char *words)
{
    struct naru_pool_result result;
    char text[192];

    nr_pool_scene_one_bad(with, bad, &result, text);
    nr_check(result.outcome == NARU_POOL_SET_ASIDE && result.deaths == 3,
             "outcome %d, %u deaths: %s", result.outcome, result.deaths, text);
    nr_check(strstr(text, words), "\"%s\" has no \"%s\"", text, words);
}

static void run_crashes(void *argument)
{
    struct naru_pool_result result;
    char text[192];

    (void)argument;
    expect_set_aside((struct order){.mischief = CRASH}, NULL, "SIGSEGV");
    expect_set_aside((struct order){.mischief = EXIT}, NULL, "exit status 3");
    nr_pool_scene_one_bad(NULL, (struct order){CRASH_TWICE, 5}, &result, text);
    nr_pool_scene_expect_twice(&result, 5);
    nr_check(result.deaths == 2 && strstr(text, "SIGBUS"), "%u deaths: %s", result.deaths, text);
}

static void run_loops(void *argument)
{
    struct naru_pool_options options = {.time_limit_ns =
                                            200 * NARU_MILLISECOND * nr_kit_slowness()};
    struct naru_pool_result result;
    char text[192];

    (void)argument;
    nr_pool_scene_one_bad(&options, (struct order){.mischief = LOOP}, &result, text);
    nr_check(result.outcome == NARU_POOL_TIMED_OUT && strstr(text, "time limit"), "outcome %d: %s",
             result.outcome, text);
}

static void run_forks(void *argument)
{
    struct naru_pool_result result;
    char text[192];

    (void)argument;
    nr_pool_scene_one_bad(NULL, (struct order){FORK_AND_RETURN, 3}, &result, text);
    nr_pool_scene_expect_twice(&result, 3);
    nr_pool_scene_one_bad(NULL, (struct order){FORK_AND_REPLY, 4}, &result, text);
    nr_pool_scene_expect_twice(&result, 4);
    nr_check(nr_kit_get(&nr_pool_scene_seen->refused) == 1, "a forked process may reply");
}

static void run_fills_memory(void *argument)
{
    struct naru_spawn_limit limit = {.resource = RLIMIT_AS, .soft = 512 << 20, .hard = 512 << 20};
    struct naru_spawn_options spawn = {
        .size_bytes = sizeof spawn, .limits = &limit, .limits_count = 1};
    struct naru_pool_options options = {.spawn = &spawn};

    (void)argument;
    if (nr_kit_slowness() > 1)
        nr_kit_skip("sanitizers and valgrind need more address space than a limit leaves them");
    expect_set_aside((struct order){.mischief = FILL_MEMORY}, &options, "SIGABRT");
}

/* Whatever is written, the others' tasks are answered, and so is this one. */
static void run_garbage(void *argument)
{
    struct naru_pool_options options = {.time_limit_ns = NARU_SECOND * nr_kit_slowness()};
    struct naru_pool_result result;
    char text[192];

    (void)argument;
    for (int seed = 1; seed <= 12; seed++) {
        nr_pool_scene_one_bad(&options, (struct order){seed % 2 ? GARBAGE : GARBAGE_AT_HEAD, seed},
                              &result, text);
        nr_check(result.outcome >= NARU_POOL_DONE && result.outcome <= NARU_POOL_TIMED_OUT,
                 "outcome %d", result.outcome);
    }
}

static void run_closes_descriptors(void *argument)
{
    struct naru_pool_result result;
    char text[192];

    (void)argument;
    nr_pool_scene_one_bad(NULL, (struct order){CLOSE_ALL, 6}, &result, text);
    nr_check(result.outcome == NARU_POOL_DONE || result.outcome == NARU_POOL_SET_ASIDE,
             "outcome %d: %s", result.outcome, text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(fails),
        TEST(crashes),
        TEST(loops),
        TEST(forks),
        TEST(fills_memory),
        TEST(garbage),
        TEST(closes_descriptors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
