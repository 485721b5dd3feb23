/* SPDX-License-Identifier: MIT */
#include "pool_scene.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

struct nr_pool_scene_seen *nr_pool_scene_seen;

/* The mapping of this worker's desk. */
static char *find_desk(size_t *ret_bytes)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    unsigned long begin = 0, end = 0, seen_begin = (unsigned long)nr_pool_scene_seen;
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
        nr_kit_add(&nr_pool_scene_seen->refused, naru_pool_reply(task, "x", 1) == -ECHILD);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
}

int nr_pool_scene_work(struct naru_pool_task *task, void *context)
{
    struct order order;

    (void)context;
    nr_kit_add(&nr_pool_scene_seen->begun, 1);
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

int nr_pool_scene_hook_init(uint32_t worker, void *context)
{
    (void)worker;
    (void)context;
    nr_kit_add(&nr_pool_scene_seen->inits, 1);
    int place = nr_kit_add(&nr_pool_scene_seen->pids_count, 1) - 1;
    if (place < 64)
        nr_kit_set(&nr_pool_scene_seen->pids[place], (int)getpid());
    return 0;
}

void nr_pool_scene_hook_exit(uint32_t worker, void *context)
{
    (void)worker;
    (void)context;
    nr_kit_add(&nr_pool_scene_seen->exits, 1);
}

struct naru_pool *nr_pool_scene_make(const struct naru_pool_options *with)
{
    struct naru_pool_options options = {.size_bytes = sizeof options};
    struct naru_pool *pool;

    if (with)
        options = *with;
    options.size_bytes = sizeof options;
    if (!options.workers_count)
        options.workers_count = 2;
    nr_check_ok(naru_pool_new(&pool, nr_pool_scene_work, NULL, &options));
    return pool;
}

uint64_t nr_pool_scene_submit(struct naru_pool *pool, enum mischief mischief, int value)
{
    struct order order = {mischief, value};
    uint64_t number;

    nr_check_ok(naru_pool_submit(pool, &order, sizeof order, &number, NR_SOON));
    return number;
}

void nr_pool_scene_expect_twice(const struct naru_pool_result *result, int value)
{
    int twice = 0;

    nr_check(result->outcome == NARU_POOL_DONE && result->code == 7,
             "task %d: outcome %d, code %d: %s", value, result->outcome, result->code,
             result->death ? result->death->text : "");
    nr_check(result->size_bytes == sizeof twice, "%zu bytes", result->size_bytes);
    memcpy(&twice, result->data, sizeof twice);
    nr_check(twice == 2 * value, "%d is twice %d", twice, value);
}

struct naru_pool_result nr_pool_scene_next(struct naru_pool *pool)
{
    struct naru_pool_result result;

    nr_check_ok(naru_pool_next(pool, &result, NR_SOON));
    return result;
}

void nr_pool_scene_one_bad(const struct naru_pool_options *with, struct order bad,
                           struct naru_pool_result *ret, char text[192])
{
    int fds = nr_kit_fds();
    struct naru_pool *pool = nr_pool_scene_make(with);
    uint64_t number = 0;

    for (int i = 0; i < 40; i++) {
        if (i == 10)
            number = nr_pool_scene_submit(pool, bad.mischief, bad.value);
        nr_pool_scene_submit(pool, TWICE, i);
    }
    for (int i = 0; i < 41; i++) {
        struct naru_pool_result result = nr_pool_scene_next(pool);
        if (result.number == number) {
            static char data[64]; /* the pool is gone when it is looked at */
            nr_check(result.size_bytes <= sizeof data, "%zu bytes", result.size_bytes);
            if (result.size_bytes)
                memcpy(data, result.data, result.size_bytes);
            *ret = result;
            ret->data = data;
            snprintf(text, 192, "%s", result.death ? result.death->text : "");
        } else {
            nr_pool_scene_expect_twice(&result, (int)result.number - (result.number > number));
        }
    }
    struct naru_pool_result none;
    nr_check_fails(naru_pool_next(pool, &none, 0), -ENODATA, "answered");
    naru_pool_free(pool);
    nr_check(nr_kit_fds() == fds, "%d descriptors, not %d", nr_kit_fds(), fds);
    nr_check(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "a process is left");
}

void nr_pool_scene_run(void **state)
{
    static const int seconds = 40;

    if (!nr_kit_has_pidfds())
        skip();
    nr_pool_scene_seen = nr_kit_shared(sizeof *nr_pool_scene_seen);
    int result = nr_kit_run(*(void (**)(void *)) * state, NULL, seconds * nr_kit_slowness());
    if (result == 77)
        skip();
    assert_int_equal(result, 0);
}
