/* SPDX-License-Identifier: MIT */
/*
 * pool -- tasks that crash, loop, fork, exit, fill memory, write garbage; workers that die; owners that die
 *
 * Contents   tools - results - functions that misbehave - workers that die - limits - the owner
 * What       One function does all the mischief: a task says which. Whatever it does, every other task is answered
 *            right, and nothing is left: no descriptor, no process.
 */
#include "kit.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <naru/pool.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* -- tools ----------------------------------------------------------------------------------- */

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
static struct seen {
    int begun, inits, exits, refused;
    int pids[64], pids_count;
} * seen;

/* The mapping of this worker's desk. */
static char *find_desk(size_t *ret_bytes)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    unsigned long begin = 0, end = 0, seen_begin = (unsigned long)seen;
    char line[512];

    while (maps && fgets(line, sizeof line, maps))
        if (strstr(line, "/dev/zero") && sscanf(line, "%lx-%lx", &begin, &end) == 2 &&
            end - begin > 16384 && (seen_begin < begin || seen_begin >= end))
            break;
        else
            begin = end = 0;
    if (maps)
        fclose(maps);
    *ret_bytes = end - begin;
    return (char *)begin;
}

static void write_garbage(int seed, size_t at_most)
{
    size_t bytes;
    char *desk = find_desk(&bytes);
    unsigned random = (unsigned)seed * 2654435761u + 1;

    if (!desk)
        _exit(99);
    for (size_t i = 0; i < bytes && i < at_most; i++) {
        random = random * 1664525 + 1013904223;
        desk[i] = (char)(random >> 24);
    }
}

static char *volatile kept; /* so that the compiler keeps what is allocated */

static void fill_memory(void)
{
    for (size_t each = 1 << 20;;) {
        char *memory = malloc(each);
        if (!memory)
            abort();
        memset(memory, 1, each);
        kept = memory;
    }
}

static void fork_one(struct naru_pool_task *task, bool replies)
{
    pid_t pid = fork();

    if (pid == 0) {
        if (!replies)
            return;
        nr_kit_add(&seen->refused, naru_pool_reply(task, "x", 1) == -ECHILD);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
}

static int work(struct naru_pool_task *task, void *context)
{
    struct order order;

    (void)context;
    nr_kit_add(&seen->begun, 1);
    if (task->size_bytes != sizeof order)
        return -1;
    memcpy(&order, task->data, sizeof order);
    switch (order.mischief) {
    case TWICE:
        break;
    case FAIL:
        naru_pool_reply(task, "why", 3);
        return -3;
    case CRASH:
        raise(SIGSEGV);
        break;
    case CRASH_TWICE:
        if (task->attempt <= 2)
            raise(SIGBUS);
        break;
    case LOOP:
        for (;;)
            ;
    case EXIT:
        exit(3);
    case FORK_AND_RETURN:
    case FORK_AND_REPLY:
        fork_one(task, order.mischief == FORK_AND_REPLY);
        break;
    case FILL_MEMORY:
        fill_memory();
        break;
    case GARBAGE:
        write_garbage(order.value, SIZE_MAX);
        break;
    case GARBAGE_AT_HEAD:
        write_garbage(order.value, 512);
        break;
    case CLOSE_ALL:
        for (int fd = 3; fd < 256; fd++)
            close(fd);
        break;
    case GROW: { /* and keeps it */
        size_t bytes = 32 << 20;
        char *memory = malloc(bytes);
        if (memory)
            memset(memory, 1, bytes);
        kept = memory;
        break;
    }
    case SLEEP:
        usleep((useconds_t)order.value * 1000);
        break;
    }
    int twice = 2 * order.value;
    naru_pool_reply(task, &twice, sizeof twice);
    return 7;
}

static int hook_init(uint32_t worker, void *context)
{
    (void)worker;
    (void)context;
    nr_kit_add(&seen->inits, 1);
    int place = nr_kit_add(&seen->pids_count, 1) - 1;
    if (place < 64)
        nr_kit_set(&seen->pids[place], (int)getpid());
    return 0;
}

static void hook_exit(uint32_t worker, void *context)
{
    (void)worker;
    (void)context;
    nr_kit_add(&seen->exits, 1);
}

static struct naru_pool *make(const struct naru_pool_options *with)
{
    struct naru_pool_options options = {.size_bytes = sizeof options};
    struct naru_pool *pool;

    if (with)
        options = *with;
    options.size_bytes = sizeof options;
    if (!options.workers_count)
        options.workers_count = 2;
    nr_check_ok(naru_pool_new(&pool, work, NULL, &options));
    return pool;
}

static uint64_t submit(struct naru_pool *pool, enum mischief mischief, int value)
{
    struct order order = {mischief, value};
    uint64_t number;

    nr_check_ok(naru_pool_submit(pool, &order, sizeof order, &number, NR_SOON));
    return number;
}

static void expect_twice(const struct naru_pool_result *result, int value)
{
    int twice = 0;

    nr_check(result->outcome == NARU_POOL_DONE && result->code == 7,
             "task %d: outcome %d, code %d: %s", value, result->outcome, result->code,
             result->death ? result->death->text : "");
    nr_check(result->size_bytes == sizeof twice, "%zu bytes", result->size_bytes);
    memcpy(&twice, result->data, sizeof twice);
    nr_check(twice == 2 * value, "%d is twice %d", twice, value);
}

static struct naru_pool_result next(struct naru_pool *pool)
{
    struct naru_pool_result result;

    nr_check_ok(naru_pool_next(pool, &result, NR_SOON));
    return result;
}

/* One bad task among good ones: the good ones are done, and the bad one's result is in *ret, its text in `text`. */
static void one_bad(const struct naru_pool_options *with, struct order bad,
                    struct naru_pool_result *ret, char text[192])
{
    int fds = nr_kit_fds();
    struct naru_pool *pool = make(with);
    uint64_t number = 0;

    for (int i = 0; i < 40; i++) {
        if (i == 10)
            number = submit(pool, bad.mischief, bad.value);
        submit(pool, TWICE, i);
    }
    for (int i = 0; i < 41; i++) {
        struct naru_pool_result result = next(pool);
        if (result.number == number) {
            static char data[64]; /* the pool is gone when it is looked at */
            nr_check(result.size_bytes <= sizeof data, "%zu bytes", result.size_bytes);
            if (result.size_bytes)
                memcpy(data, result.data, result.size_bytes);
            *ret = result;
            ret->data = data;
            snprintf(text, 192, "%s", result.death ? result.death->text : "");
        } else {
            expect_twice(&result, (int)result.number - (result.number > number));
        }
    }
    struct naru_pool_result none;
    nr_check_fails(naru_pool_next(pool, &none, 0), -ENODATA, "answered");
    naru_pool_free(pool);
    nr_check(nr_kit_fds() == fds, "%d descriptors, not %d", nr_kit_fds(), fds);
    nr_check(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "a process is left");
}

/* -- results ----------------------------------------------------------------------------------- */

static int echo(struct naru_pool_task *task, void *context)
{
    const char *data = task->data;
    size_t cut = task->size_bytes / 3;

    (void)context;
    nr_check(((uintptr_t)data & 15) == 0, "%p is not aligned", task->data);
    naru_pool_reply(task, data, cut);
    naru_pool_reply(task, data + cut, task->size_bytes - cut);
    return (int)task->size_bytes;
}

static void check_sizes(enum naru_pool_order order)
{
    static const size_t sizes[] = {0,    1,    8,    40,   47,    48,    49,     104,    105,
                                   1000, 2900, 2937, 3000, 11904, 12000, 100000, 3000001};
    enum { SIZES = sizeof sizes / sizeof sizes[0], ROUNDS = 5 };
    struct naru_pool_options options = {
        .size_bytes = sizeof options, .workers_count = 3, .order = order};
    static char data[4000000];
    struct naru_pool *pool;

    nr_check_ok(naru_pool_new(&pool, echo, NULL, &options));
    for (unsigned i = 0; i < SIZES * ROUNDS; i++) {
        size_t size_bytes = sizes[i % SIZES];
        if (size_bytes >= 8)
            nr_payload_fill(data, size_bytes, 1, i);
        nr_check_ok(naru_pool_submit(pool, data, size_bytes, NULL, NR_SOON));
    }
    for (unsigned i = 0; i < SIZES * ROUNDS; i++) {
        struct naru_pool_result result = next(pool);
        size_t size_bytes = sizes[result.number % SIZES];
        nr_check(order != NARU_IN_ORDER || result.number == i, "%u came as %u",
                 (unsigned)result.number, i);
        nr_check(result.outcome == NARU_POOL_DONE && result.size_bytes == size_bytes &&
                     result.code == (int)size_bytes,
                 "%zu of %zu bytes, outcome %d", result.size_bytes, size_bytes, result.outcome);
        nr_check(((uintptr_t)result.data & 15) == 0, "%p is not aligned", result.data);
        nr_check(size_bytes < 8 ||
                     nr_payload_is_whole(result.data, size_bytes, 1, (unsigned)result.number),
                 "%zu bytes are torn", size_bytes);
    }
    naru_pool_free(pool);
}

static void run_sizes(void *argument)
{
    (void)argument;
    check_sizes(NARU_AS_THEY_COME);
    check_sizes(NARU_IN_ORDER);
}

static int add(struct naru_pool_task *task, void *context)
{
    int64_t range[2], sum = 0;

    (void)context;
    memcpy(range, task->data, sizeof range);
    for (int64_t i = range[0]; i <= range[1]; i++)
        sum += i;
    if (range[0] == 501 && task->attempt == 1)
        raise(SIGKILL);
    naru_pool_reply(task, &sum, sizeof sum);
    return 0;
}

static int fold(void *accumulator, const struct naru_pool_result *result)
{
    int64_t part;

    memcpy(&part, result->data, sizeof part);
    *(int64_t *)accumulator += part;
    return result->number == 7 && *(int64_t *)accumulator < 0 ? -ERANGE : 0;
}

static void run_map(void *argument)
{
    struct naru_pool_options options = {.size_bytes = sizeof options, .workers_count = 4};
    int64_t ranges[10][2], parts[10], sum = 0;
    struct naru_pool_array items = {ranges, sizeof ranges[0], 10}, results = {parts, 8, 10};
    struct naru_pool *pool;

    (void)argument;
    for (int i = 0; i < 10; i++) {
        ranges[i][0] = 100 * i + 1;
        ranges[i][1] = 100 * i + 100;
    }
    nr_check_ok(naru_pool_new(&pool, add, NULL, &options));
    nr_check(nr_check_ok(naru_pool_map(pool, &items, &results, NR_SOON)) == 0, "%s",
             naru_error_text());
    for (int i = 0; i < 10; i++)
        sum += parts[i];
    nr_check(sum == 500500, "the sum is %lld", (long long)sum);
    sum = 0;
    nr_check_ok(naru_pool_reduce(pool, &items, fold, &sum, NR_SOON));
    nr_check(sum == 500500, "the sum is %lld", (long long)sum);
    sum = -1000000000;
    nr_check(naru_pool_reduce(pool, &items, fold, &sum, NR_SOON) == -ERANGE, "it went on");
    results.item_bytes = 4;
    nr_check(naru_pool_map(pool, &items, &results, NR_SOON) == 10, "results of another size");
    naru_pool_free(pool);
}

/* -- functions that misbehave ------------------------------------------------------------------ */

static void run_fails(void *argument)
{
    struct naru_pool_result result;
    char text[192];

    (void)argument;
    one_bad(NULL, (struct order){.mischief = FAIL}, &result, text);
    nr_check(result.outcome == NARU_POOL_FAILED && result.code == -3 && result.size_bytes == 3,
             "outcome %d, code %d", result.outcome, result.code);
}

static void expect_set_aside(struct order bad, const struct naru_pool_options *with,
                             const char *words)
{
    struct naru_pool_result result;
    char text[192];

    one_bad(with, bad, &result, text);
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
    one_bad(NULL, (struct order){CRASH_TWICE, 5}, &result, text);
    expect_twice(&result, 5);
    nr_check(result.deaths == 2 && strstr(text, "SIGBUS"), "%u deaths: %s", result.deaths, text);
}

static void run_loops(void *argument)
{
    struct naru_pool_options options = {.time_limit_ns =
                                            200 * NARU_MILLISECOND * nr_kit_slowness()};
    struct naru_pool_result result;
    char text[192];

    (void)argument;
    one_bad(&options, (struct order){.mischief = LOOP}, &result, text);
    nr_check(result.outcome == NARU_POOL_TIMED_OUT && strstr(text, "time limit"), "outcome %d: %s",
             result.outcome, text);
}

static void run_forks(void *argument)
{
    struct naru_pool_result result;
    char text[192];

    (void)argument;
    one_bad(NULL, (struct order){FORK_AND_RETURN, 3}, &result, text);
    expect_twice(&result, 3);
    one_bad(NULL, (struct order){FORK_AND_REPLY, 4}, &result, text);
    expect_twice(&result, 4);
    nr_check(nr_kit_get(&seen->refused) == 1, "a forked process may reply");
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
        one_bad(&options, (struct order){seed % 2 ? GARBAGE : GARBAGE_AT_HEAD, seed}, &result,
                text);
        nr_check(result.outcome >= NARU_POOL_DONE && result.outcome <= NARU_POOL_TIMED_OUT,
                 "outcome %d", result.outcome);
    }
}

static void run_closes_descriptors(void *argument)
{
    struct naru_pool_result result;
    char text[192];

    (void)argument;
    one_bad(NULL, (struct order){CLOSE_ALL, 6}, &result, text);
    nr_check(result.outcome == NARU_POOL_DONE || result.outcome == NARU_POOL_SET_ASIDE,
             "outcome %d: %s", result.outcome, text);
}

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
    struct naru_pool *pool = make(NULL);

    (void)argument;
    for (int round = 0; round < 20; round++) {
        submit(pool, TWICE, round);
        struct naru_pool_result result = next(pool);
        expect_twice(&result, round);
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
    struct naru_pool *pool = make(&options);

    (void)argument;
    nr_check_ok(naru_pool_stat(pool, &stat));
    nr_check(stat.workers_alive == 0, "%u workers without a task", stat.workers_alive);
    submit(pool, TWICE, 0);
    nr_check_ok(naru_pool_stat(pool, &stat));
    nr_check(stat.workers_alive == 1, "%u workers for a task", stat.workers_alive);
    for (int i = 0; i < 9; i++) {
        orders[i] = (struct order){TWICE, i + 1};
        inputs[i] = (struct naru_pool_input){.data = &orders[i], .size_bytes = sizeof orders[i]};
    }
    nr_check(naru_pool_submit_many(pool, inputs, 9, NULL, NR_SOON) == 9, "not all at once");
    for (int i = 0; i < 10; i++) {
        struct naru_pool_result result = next(pool);
        expect_twice(&result, (int)result.number);
        pids[i] = result.worker_pid;
        for (int j = 0; j < i; j++)
            nr_check(pids[i] != pids[j], "process %d does two of ten tasks", pids[i]);
    }
    nr_check_ok(naru_pool_stat(pool, &stat));
    nr_check(stat.workers_alive == 10, "%u workers for ten tasks", stat.workers_alive);
    naru_pool_free(pool);
    options.starts_at_once = 1;
    pool = make(&options);
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
    struct naru_pool *pool = make(&options);

    (void)argument;
    for (int i = 0; i < 300; i++)
        submit(pool, TWICE, i);
    for (int i = 0; i < 300; i++)
        next(pool);
    for (int i = 0; i < 10; i++)
        submit(pool, i == 0 ? SLEEP : TWICE, 300);
    nr_check_ok(naru_pool_step(pool));
    nr_kit_await(&seen->begun, 301);
    int pid = worker_pid(pool, 0, NARU_WORKER_BUSY);
    nr_check(pid > 0, "nobody is busy");
    kill(pid, SIGKILL);
    for (int i = 0; i < 10; i++) {
        struct naru_pool_result result = next(pool);
        expect_twice(&result, 300);
        nr_check(result.deaths == (result.number == 300), "task %d: %u deaths", (int)result.number,
                 result.deaths);
    }
    naru_pool_free(pool);
}

/* Short tasks have filled a desk when a long one comes: those behind it go to the other worker. */
static void run_long_task_holds_nobody_up(void *argument)
{
    struct naru_pool *pool = make(NULL);

    (void)argument;
    for (int i = 0; i < 2000; i++)
        submit(pool, TWICE, i);
    for (int i = 0; i < 2000; i++)
        next(pool);
    uint64_t longest = submit(pool, SLEEP, 1000);
    for (int i = 0; i < 100; i++)
        submit(pool, TWICE, i);
    for (int i = 0; i < 100; i++)
        nr_check(next(pool).number != longest, "the long one came as number %d", i);
    nr_check(next(pool).number == longest, "another one");
    naru_pool_free(pool);
}

/* The same with nobody there yet who could do the others. */
static void run_long_task_starts_another(void *argument)
{
    struct naru_pool_options options = {.workers_count = 2};
    struct naru_pool_stat stat = {.size_bytes = sizeof stat};
    struct naru_pool *pool = make(&options);

    (void)argument;
    for (int i = 0; i < 300; i++) { /* one by one: the first worker is always free again */
        submit(pool, TWICE, i);
        next(pool);
    }
    nr_check_ok(naru_pool_stat(pool, &stat));
    nr_check(stat.workers_alive == 1, "%u workers for one task at a time", stat.workers_alive);
    uint64_t longest = submit(pool, SLEEP, 1000);
    for (int i = 0; i < 10; i++)
        submit(pool, TWICE, i);
    for (int i = 0; i < 10; i++)
        nr_check(next(pool).number != longest, "the long one came as number %d", i);
    nr_check(next(pool).number == longest, "another one");
    naru_pool_free(pool);
}

static void run_recycling(void *argument)
{
    struct naru_pool_options options = {
        .workers_count = 1, .recycle_tasks = 7, .init = hook_init, .exit = hook_exit};
    struct naru_pool_stat stat = {.size_bytes = sizeof stat};
    struct naru_pool *pool = make(&options);

    (void)argument;
    for (int i = 0; i < 70; i++)
        submit(pool, TWICE, i);
    for (int i = 0; i < 70; i++)
        next(pool);
    nr_check_ok(naru_pool_stat(pool, &stat));
    nr_check(stat.recycled >= 9 && stat.deaths == 0, "%d recycled, %d deaths", (int)stat.recycled,
             (int)stat.deaths);
    naru_pool_free(pool);
    nr_check(seen->inits >= 10 && seen->exits == seen->inits, "%d begun, %d ended", seen->inits,
             seen->exits);

    options = (struct naru_pool_options){.workers_count = 1, .recycle_rss_bytes = 64 << 20};
    pool = make(&options);
    for (int i = 0; i < 12; i++) {
        submit(pool, GROW, i);
        next(pool);
        nr_kit_sleep_ms(10); /* it looks at its memory every few milliseconds */
        submit(pool, TWICE, i);
        next(pool);
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
    struct naru_pool *pool = make(&options);
    struct naru_pool_result result;

    (void)argument;
    submit(pool, TWICE, 1);
    nr_check_fails(naru_pool_next(pool, &result, NR_SOON), -EOWNERDEAD, "no worker|exit status 1");
    nr_check_fails(naru_pool_next(pool, &result, NR_SOON), -EOWNERDEAD, "no worker|exit status 1");
    naru_pool_free(pool);
}

/* -- limits ------------------------------------------------------------------------------------- */

static void run_cancel(void *argument)
{
    struct naru_pool_options options = {.workers_count = 1};
    struct naru_pool *pool = make(&options);
    int outcomes[6] = {0};

    (void)argument;
    uint64_t running = submit(pool, LOOP, 0);
    uint64_t waiting = submit(pool, TWICE, 1), other = submit(pool, TWICE, 2);
    while (nr_kit_get(&seen->begun) == 0)
        naru_pool_step(pool);
    nr_check_ok(naru_pool_cancel(pool, waiting));
    struct naru_pool_result result = next(pool);
    nr_check(result.number == waiting && result.outcome == NARU_POOL_CANCELLED, "outcome %d",
             result.outcome);
    nr_check_ok(naru_pool_cancel(pool, running));
    result = next(pool);
    nr_check(result.number == running && result.outcome == NARU_POOL_CANCELLED, "outcome %d",
             result.outcome);
    result = next(pool);
    nr_check(result.number == other, "another one");
    expect_twice(&result, 2);
    nr_check_fails(naru_pool_cancel(pool, other), -ENOENT, "answered");
    for (int i = 0; i < 20; i++)
        submit(pool, i == 3 ? LOOP : TWICE, i);
    nr_check_ok(naru_pool_cancel(pool, NARU_POOL_ALL));
    for (int i = 0; i < 20; i++)
        outcomes[next(pool).outcome]++;
    nr_check(outcomes[NARU_POOL_CANCELLED] >= 16 && outcomes[NARU_POOL_SET_ASIDE] == 0,
             "%d cancelled", outcomes[NARU_POOL_CANCELLED]);
    submit(pool, TWICE, 5); /* and it goes on */
    result = next(pool);
    expect_twice(&result, 5);
    naru_pool_free(pool);
}

static void run_back_pressure(void *argument)
{
    struct naru_pool_options options = {.workers_count = 1, .tasks_max = 3, .results_max = 4};
    struct order order = {SLEEP, 30};
    struct naru_pool *pool = make(&options);
    int submitted = 3, result;

    (void)argument;
    for (int i = 0; i < 3; i++)
        submit(pool, SLEEP, 30);
    nr_check_fails(naru_pool_submit(pool, &order, sizeof order, NULL, 0), -EAGAIN, "time-out");
    nr_check_fails(naru_pool_submit(pool, &order, sizeof order, NULL, 1000), -ETIMEDOUT,
                   "time-out");
    order.value = 1;
    while ((result = naru_pool_submit(pool, &order, sizeof order, NULL, NR_SOON)) == 0)
        submitted++;
    nr_check(result == -ENOBUFS && strstr(naru_error_text(), "naru_pool_next()"), "%d: %s", result,
             naru_error_text());
    nr_check(submitted >= 5 && submitted <= 9, "%d submitted", submitted);
    while (submitted-- > 0)
        next(pool);
    naru_pool_free(pool);
}

static void run_loop_of_ones_own(void *argument)
{
    struct naru_pool_options options = {.time_limit_ns =
                                            200 * NARU_MILLISECOND * nr_kit_slowness()};
    struct naru_pool *pool = make(&options);
    struct pollfd fd = {.fd = (int)nr_check_ok(naru_pool_fd(pool)), .events = POLLIN};
    int answered = 0, submitted = 0;
    struct naru_pool_result result;

    (void)argument;
    while (answered < 1000) {
        for (int i = 0; i < 10 && submitted < 1000; i++, submitted++)
            submit(pool,
                   submitted == 500   ? LOOP
                   : submitted == 700 ? CRASH_TWICE
                                      : TWICE,
                   submitted);
        nr_check(poll(&fd, 1, 10000 * nr_kit_slowness()) == 1, "the descriptor is silent after %d",
                 answered);
        while (naru_pool_next(pool, &result, 0) == 0)
            answered++;
    }
    nr_check(submitted == 1000, "%d", submitted);
    naru_pool_free(pool);
}

static void on_alarm(int number)
{
    extern struct naru_pool *interrupted;

    (void)number;
    naru_pool_interrupt(interrupted);
}
struct naru_pool *interrupted;

static void run_interrupt(void *argument)
{
    struct itimerval soon = {.it_value.tv_usec = 20000};
    struct naru_pool *pool = interrupted = make(NULL);
    struct naru_pool_result result;

    (void)argument;
    signal(SIGALRM, on_alarm);
    uint64_t number = submit(pool, LOOP, 0);
    setitimer(ITIMER_REAL, &soon, NULL);
    nr_check_fails(naru_pool_next(pool, &result, NARU_FOREVER), -EINTR, "interrupt");
    nr_check_ok(naru_pool_cancel(pool, number));
    next(pool);
    naru_pool_free(pool);
}

/* -- the owner ---------------------------------------------------------------------------------- */

static void run_owner_is_killed(void *argument)
{
    struct naru_pool_options options = {.workers_count = 4, .init = hook_init};

    (void)argument;
    pid_t owner = nr_kit_fork();
    if (owner == 0) {
        struct naru_pool *pool = make(&options);
        submit(pool, LOOP, 0); /* one is busy, the others sleep */
        while (nr_kit_get(&seen->begun) == 0)
            naru_pool_step(pool);
        nr_kit_set(&seen->exits, 1);
        pause();
    }
    nr_kit_await(&seen->exits, 1);
    nr_kit_await(&seen->pids_count, 4);
    nr_kit_kill(owner);
    for (int i = 0; i < 4; i++) {
        int64_t end_ns = nr_kit_now_ns() + NR_SOON;
        char path[64], state[64] = "";
        snprintf(path, sizeof path, "/proc/%d/stat", nr_kit_get(&seen->pids[i]));
        for (FILE *file; (file = fopen(path, "re")) && nr_kit_now_ns() < end_ns;
             nr_kit_sleep_ms(1)) {
            bool is_dead =
                fscanf(file, "%*d %*s %63s", state) == 1 && (state[0] == 'Z' || state[0] == 'X');
            fclose(file);
            if (is_dead)
                break;
        }
        nr_check(nr_kit_now_ns() < end_ns, "worker %d is left", seen->pids[i]);
    }
}

static void run_forked_owner(void *argument)
{
    struct naru_pool *pool = make(NULL);
    struct naru_pool_result result;

    (void)argument;
    submit(pool, SLEEP, 50);
    pid_t child = nr_kit_fork();
    if (child == 0) {
        nr_check_fails(naru_pool_next(pool, &result, 0), -ECHILD, "child");
        nr_check_fails(naru_pool_submit(pool, "x", 1, NULL, 0), -ECHILD, "child");
        naru_pool_free(pool);
        _exit(0);
    }
    nr_kit_join(child);
    result = next(pool);
    expect_twice(&result, 50);
    naru_pool_free(pool);
}

/* No descriptors for a while: what is there goes on, and when there are some again all is as before. */
static void run_without_descriptors(void *argument)
{
    struct naru_pool_options options = {.workers_count = 2, .starts_at_once = 1};
    struct naru_pool_worker worker = {.size_bytes = sizeof worker};
    struct naru_pool *pool = make(&options);
    struct rlimit limit, none = {0};
    int alive = 0;

    (void)argument;
    getrlimit(RLIMIT_NOFILE, &limit);
    submit(pool, TWICE, 1);
    next(pool);
    none = (struct rlimit){3, limit.rlim_max};
    setrlimit(RLIMIT_NOFILE, &none);
    struct naru_pool *other;
    nr_check_fails(naru_pool_new(&other, work, NULL, NULL), -EMFILE, "descriptors|ulimit");
    nr_check_ok(naru_pool_worker(pool, 0, &worker));
    kill(worker.pid, SIGKILL);
    for (int i = 0; i < 20; i++) {
        submit(pool, SLEEP, 1);
        struct naru_pool_result result = next(pool);
        expect_twice(&result, 1);
    }
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int64_t end_ns = nr_kit_now_ns() + NR_SOON; alive < 2 && nr_kit_now_ns() < end_ns;) {
        struct naru_pool_stat stat = {.size_bytes = sizeof stat};
        submit(pool, SLEEP, 5);
        next(pool);
        nr_check_ok(naru_pool_stat(pool, &stat));
        alive = (int)stat.workers_alive;
    }
    nr_check(alive == 2, "%d workers", alive);
    naru_pool_free(pool);
}

static void run_wrong_use(void *argument)
{
    struct naru_pool_options options = {.size_bytes = 3};
    struct naru_pool_result result;
    struct naru_pool *pool;

    (void)argument;
    nr_check_fails(naru_pool_new(&pool, work, NULL, &options), -EINVAL, "size_bytes");
    options = (struct naru_pool_options){.size_bytes = sizeof options, .workers_count = 5000};
    nr_check_fails(naru_pool_new(&pool, work, NULL, &options), -EINVAL, "workers_count|1024");
    nr_check_fails(naru_pool_new(NULL, work, NULL, NULL), -EINVAL, "place");
    nr_check_fails(naru_pool_next(NULL, &result, 0), -EINVAL, "NULL");
    pool = make(NULL);
    nr_check_fails(naru_pool_next(pool, &result, NARU_FOREVER), -ENODATA, "answered");
    nr_check_fails(naru_pool_submit(pool, NULL, 4, NULL, 0), -EINVAL, "data");
    nr_check_fails(naru_pool_reply(NULL, "", 0), -EINVAL, "naru_pool_reply");
    naru_pool_free(pool);
    naru_pool_free(NULL);
}

static void run_in_kit(void **state)
{
    static const int seconds = 40;

    seen = nr_kit_shared(sizeof *seen);
    int result = nr_kit_run(*(void (**)(void *)) * state, NULL, seconds * nr_kit_slowness());
    if (result == 77)
        skip();
    assert_int_equal(result, 0);
}

#define TEST(name)                                                                                 \
    {                                                                                              \
#name, run_in_kit, NULL, NULL, &(void (*)(void *))                                         \
        {                                                                                          \
            run_##name                                                                             \
        }                                                                                          \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(sizes),
        TEST(map),
        TEST(fails),
        TEST(crashes),
        TEST(loops),
        TEST(forks),
        TEST(fills_memory),
        TEST(garbage),
        TEST(closes_descriptors),
        TEST(starts_when_needed),
        TEST(prints),
        TEST(idle_workers_die),
        TEST(busy_worker_dies),
        TEST(long_task_holds_nobody_up),
        TEST(long_task_starts_another),
        TEST(recycling),
        TEST(init_fails),
        TEST(cancel),
        TEST(back_pressure),
        TEST(loop_of_ones_own),
        TEST(interrupt),
        TEST(owner_is_killed),
        TEST(forked_owner),
        TEST(without_descriptors),
        TEST(wrong_use),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
