/* SPDX-License-Identifier: MIT */
/* pool_workers -- workers are started, die, are replaced, end */
#include "pool_scene.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* -- workers that die --------------------------------------------------------------------------- */

static int worker_pid(struct naru_pool *pool, uint32_t index, enum naru_pool_worker_state state)
{
    struct naru_pool_worker worker = {.size_bytes = sizeof worker};

    nr_check_ok(naru_pool_worker(pool, index, &worker));
    return worker.state == state ? worker.pid : 0;
}

/* Idle ones die, and nobody's task counts it. */
static void run_idle_workers_die(void *argument)
{
    struct naru_pool_stat stat = {.size_bytes = sizeof stat};
    struct naru_pool *pool = nr_pool_scene_make(NULL);

    (void)argument;
    for (int round = 0; round < 20; round++) {
        nr_pool_scene_submit(pool, TWICE, round);
        struct naru_pool_result result = nr_pool_scene_next(pool);
        nr_pool_scene_expect_twice(&result, round);
        nr_check(result.deaths == 0, "%u deaths", result.deaths);
        int pid = worker_pid(pool, (uint32_t)round % 2, NARU_WORKER_IDLE);
        if (pid)
            kill(pid, SIGKILL);
    }
    nr_check_ok(naru_pool_stat(pool, &stat));
    nr_check(stat.done == 20 && stat.deaths > 0 && stat.retries == 0,
             "%d done, %d deaths, %d retries", (int)stat.done, (int)stat.deaths, (int)stat.retries);
    naru_pool_free(pool);
}

/* Nobody is started before there is a task, and then one for each; or all are at once. */
static void run_starts_when_needed(void *argument)
{
    struct naru_pool_options options = {.workers_count = 10};
    struct naru_pool_stat stat = {.size_bytes = sizeof stat};
    struct naru_pool_input inputs[9];
    int pids[10], fds = nr_kit_fds();
    struct order orders[9];
    struct naru_pool *pool = nr_pool_scene_make(&options);

    (void)argument;
    nr_check_ok(naru_pool_stat(pool, &stat));
    nr_check(stat.workers_alive == 0, "%u workers without a task", stat.workers_alive);
    nr_pool_scene_submit(pool, TWICE, 0);
    nr_check_ok(naru_pool_stat(pool, &stat));
    nr_check(stat.workers_alive == 1, "%u workers for a task", stat.workers_alive);
    for (int i = 0; i < 9; i++) {
        orders[i] = (struct order){TWICE, i + 1};
        inputs[i] = (struct naru_pool_input){.data = &orders[i], .size_bytes = sizeof orders[i]};
    }
    nr_check(naru_pool_submit_many(pool, inputs, 9, NULL, NR_SOON) == 9, "not all at once");
    for (int i = 0; i < 10; i++) {
        struct naru_pool_result result = nr_pool_scene_next(pool);
        nr_pool_scene_expect_twice(&result, (int)result.number);
        pids[i] = result.worker_pid;
        for (int j = 0; j < i; j++)
            nr_check(pids[i] != pids[j], "process %d does two of ten tasks", pids[i]);
    }
    nr_check_ok(naru_pool_stat(pool, &stat));
    nr_check(stat.workers_alive == 10, "%u workers for ten tasks", stat.workers_alive);
    naru_pool_free(pool);
    options.starts_at_once = 1;
    pool = nr_pool_scene_make(&options);
    nr_check_ok(naru_pool_stat(pool, &stat));
    nr_check(stat.workers_alive == 10, "%u workers at once", stat.workers_alive);
    naru_pool_free(pool);
    nr_check(nr_kit_fds() == fds, "%d descriptors, not %d", nr_kit_fds(), fds);
    nr_check(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "a process is left");
}

static int print(struct naru_pool_task *task, void *context)
{
    (void)context;
    printf("<%d>", (int)task->number);
    return 0;
}

/* What tasks have printed is written, although their workers are ended where they sleep. */
static void run_prints(void *argument)
{
    struct naru_pool_options options = {.size_bytes = sizeof options, .workers_count = 2};
    char name[] = "/tmp/naru-pool-prints-XXXXXX", text[512] = "", word[16];
    int file = mkstemp(name), terminal = dup(STDOUT_FILENO);

    (void)argument;
    unlink(name);
    fflush(stdout);
    for (int round = 0; round < 20; round++) {
        struct naru_pool *pool;
        struct naru_pool_result result;
        nr_check(ftruncate(file, 0) == 0 && lseek(file, 0, SEEK_SET) == 0, "no file");
        dup2(file, STDOUT_FILENO);
        nr_check_ok(naru_pool_new(&pool, print, NULL, &options));
        for (int i = 0; i < 20; i++)
            nr_check_ok(naru_pool_submit(pool, NULL, 0, NULL, NR_SOON));
        for (int i = 0; i < 20; i++)
            nr_check_ok(naru_pool_next(pool, &result, NR_SOON));
        if (round % 2)
            nr_kit_sleep_ms(5); /* they rest */
        naru_pool_free(pool);
        dup2(terminal, STDOUT_FILENO);
        memset(text, 0, sizeof text);
        nr_check(pread(file, text, sizeof text - 1, 0) > 0, "nothing was written");
        for (int i = 0; i < 20; i++) {
            snprintf(word, sizeof word, "<%d>", i);
            nr_check(strstr(text, word), "task %d's words are lost in round %d: %s", i, round,
                     text);
        }
    }
    close(file);
    close(terminal);
}

/* One is killed in a task with others behind it: only that one counts it. */
static void run_busy_worker_dies(void *argument)
{
    struct naru_pool_options options = {.workers_count = 1};
    struct naru_pool *pool = nr_pool_scene_make(&options);

    (void)argument;
    for (int i = 0; i < 300; i++)
        nr_pool_scene_submit(pool, TWICE, i);
    for (int i = 0; i < 300; i++)
        nr_pool_scene_next(pool);
    for (int i = 0; i < 10; i++)
        nr_pool_scene_submit(pool, i == 0 ? SLEEP : TWICE, 300);
    nr_check_ok(naru_pool_step(pool));
    nr_kit_await(&nr_pool_scene_seen->begun, 301);
    int pid = worker_pid(pool, 0, NARU_WORKER_BUSY);
    nr_check(pid > 0, "nobody is busy");
    kill(pid, SIGKILL);
    for (int i = 0; i < 10; i++) {
        struct naru_pool_result result = nr_pool_scene_next(pool);
        nr_pool_scene_expect_twice(&result, 300);
        nr_check(result.deaths == (result.number == 300), "task %d: %u deaths", (int)result.number,
                 result.deaths);
    }
    naru_pool_free(pool);
}

static int signals_after_begun; /* tasks; 0: at once */

/* In place of libc's; takes six arguments, however many there are. */
__attribute__((no_sanitize_address)) long syscall(long number, ...)
{
    static long (*real)(long, ...);
    long arguments[6];
    va_list list;

    va_start(list, number);
    for (int i = 0; i < 6; i++)
        arguments[i] = va_arg(list, long);
    va_end(list);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "syscall");
    if (number == SYS_pidfd_send_signal && signals_after_begun)
        nr_kit_await(&nr_pool_scene_seen->begun, signals_after_begun);
    return real(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
                arguments[5]);
}

/* One is killed since its task's time is over, but has answered by then, and begun the next: which does not count it. */
static void run_late_kill(void *argument)
{
    const int late_ms = 100 * nr_kit_slowness();
    struct naru_pool_options options = {.workers_count = 1, .deaths_max = 1};
    struct naru_pool *pool = nr_pool_scene_make(&options);
    struct naru_pool_stat stat = {.size_bytes = sizeof stat};
    struct order orders[2] = {{SLEEP, 2 * late_ms}, {SLEEP, 3 * late_ms}};
    struct naru_pool_input inputs[2] = {
        {.data = &orders[0], .size_bytes = sizeof *orders, .time_limit_ns = late_ms * 1000000LL},
        {.data = &orders[1], .size_bytes = sizeof *orders, .time_limit_ns = NARU_FOREVER},
    };

    (void)argument;
    for (int i = 0; i < 300; i++) /* it may have several at once */
        nr_pool_scene_submit(pool, TWICE, i);
    for (int i = 0; i < 300; i++)
        nr_pool_scene_next(pool);
    signals_after_begun = 302;
    nr_check(naru_pool_submit_many(pool, inputs, 2, NULL, NR_SOON) == 2, "not both at once");
    for (int i = 0; i < 2; i++) {
        struct naru_pool_result result = nr_pool_scene_next(pool);
        nr_pool_scene_expect_twice(&result, orders[i].value);
        nr_check(result.deaths == 0, "task %d: %u deaths", i, result.deaths);
    }
    signals_after_begun = 0;
    nr_check_ok(naru_pool_stat(pool, &stat));
    nr_check(stat.deaths == 1, "%d deaths", (int)stat.deaths);
    naru_pool_free(pool);
}

/* Short tasks have filled a desk when a long one comes: those behind it go to the other worker. */
static void run_long_task_holds_nobody_up(void *argument)
{
    struct naru_pool *pool = nr_pool_scene_make(NULL);

    (void)argument;
    for (int i = 0; i < 2000; i++)
        nr_pool_scene_submit(pool, TWICE, i);
    for (int i = 0; i < 2000; i++)
        nr_pool_scene_next(pool);
    uint64_t longest = nr_pool_scene_submit(pool, SLEEP, 1000);
    for (int i = 0; i < 100; i++)
        nr_pool_scene_submit(pool, TWICE, i);
    for (int i = 0; i < 100; i++)
        nr_check(nr_pool_scene_next(pool).number != longest, "the long one came as number %d", i);
    nr_check(nr_pool_scene_next(pool).number == longest, "another one");
    naru_pool_free(pool);
}

/* The same with nobody there yet who could do the others. */
static void run_long_task_starts_another(void *argument)
{
    struct naru_pool_options options = {.workers_count = 2};
    struct naru_pool_stat stat = {.size_bytes = sizeof stat};
    struct naru_pool *pool = nr_pool_scene_make(&options);

    (void)argument;
    for (int i = 0; i < 300; i++) { /* one by one: the first worker is always free again */
        nr_pool_scene_submit(pool, TWICE, i);
        nr_pool_scene_next(pool);
    }
    nr_check_ok(naru_pool_stat(pool, &stat));
    nr_check(stat.workers_alive == 1, "%u workers for one task at a time", stat.workers_alive);
    uint64_t longest = nr_pool_scene_submit(pool, SLEEP, 1000);
    for (int i = 0; i < 10; i++)
        nr_pool_scene_submit(pool, TWICE, i);
    for (int i = 0; i < 10; i++)
        nr_check(nr_pool_scene_next(pool).number != longest, "the long one came as number %d", i);
    nr_check(nr_pool_scene_next(pool).number == longest, "another one");
    naru_pool_free(pool);
}

static void run_recycling(void *argument)
{
    struct naru_pool_options options = {.workers_count = 1,
                                        .recycle_tasks = 7,
                                        .init = nr_pool_scene_hook_init,
                                        .exit = nr_pool_scene_hook_exit};
    struct naru_pool_stat stat = {.size_bytes = sizeof stat};
    struct naru_pool *pool = nr_pool_scene_make(&options);

    (void)argument;
    for (int i = 0; i < 70; i++)
        nr_pool_scene_submit(pool, TWICE, i);
    for (int i = 0; i < 70; i++)
        nr_pool_scene_next(pool);
    nr_check_ok(naru_pool_stat(pool, &stat));
    nr_check(stat.recycled >= 9 && stat.deaths == 0, "%d recycled, %d deaths", (int)stat.recycled,
             (int)stat.deaths);
    naru_pool_free(pool);
    nr_check(nr_pool_scene_seen->inits >= 10 &&
                 nr_pool_scene_seen->exits == nr_pool_scene_seen->inits,
             "%d begun, %d ended", nr_pool_scene_seen->inits, nr_pool_scene_seen->exits);

    options = (struct naru_pool_options){.workers_count = 1, .recycle_rss_bytes = 64 << 20};
    pool = nr_pool_scene_make(&options);
    for (int i = 0; i < 12; i++) {
        nr_pool_scene_submit(pool, GROW, i);
        nr_pool_scene_next(pool);
        nr_kit_sleep_ms(10); /* it looks at its memory every few milliseconds */
        nr_pool_scene_submit(pool, TWICE, i);
        nr_pool_scene_next(pool);
    }
    nr_check_ok(naru_pool_stat(pool, &stat));
    nr_check(stat.recycled >= 2 && stat.deaths == 0, "%d recycled, %d deaths", (int)stat.recycled,
             (int)stat.deaths);
    naru_pool_free(pool);
}

static int init_badly(uint32_t worker, void *context)
{
    (void)worker;
    (void)context;
    return -1;
}

static void run_init_fails(void *argument)
{
    struct naru_pool_options options = {.init = init_badly};
    struct naru_pool *pool = nr_pool_scene_make(&options);
    struct naru_pool_result result;

    (void)argument;
    nr_pool_scene_submit(pool, TWICE, 1);
    nr_check_fails(naru_pool_next(pool, &result, NR_SOON), -EOWNERDEAD, "no worker|exit status 1");
    nr_check_fails(naru_pool_next(pool, &result, NR_SOON), -EOWNERDEAD, "no worker|exit status 1");
    naru_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(idle_workers_die),
        TEST(starts_when_needed),
        TEST(prints),
        TEST(busy_worker_dies),
        TEST(late_kill),
        TEST(long_task_holds_nobody_up),
        TEST(long_task_starts_another),
        TEST(recycling),
        TEST(init_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
