/* SPDX-License-Identifier: MIT */
/*
 * pool -- results of pools, limits, owners that die
 *
 * Contents   results - limits - the owner
 */
#include "pool_scene.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>

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
        struct naru_pool_result result = nr_pool_scene_next(pool);
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

/* A task comes in parts, and between two of them the worker sleeps for longer than one that does nothing may. */
static void run_slow_owner(void *argument)
{
    enum { LOOKS_MOST = 50, PAUSE_US = 130000 };
    struct naru_pool_options options = {.size_bytes = sizeof options, .workers_count = 1};
    struct naru_pool_result result;
    static char data[80000];
    struct naru_pool *pool;
    int got = -EAGAIN, looks = 0;

    (void)argument;
    nr_check_ok(naru_pool_new(&pool, echo, NULL, &options));
    nr_payload_fill(data, sizeof data, 1, 0);
    nr_check_ok(naru_pool_submit(pool, data, sizeof data, NULL, NR_SOON));
    for (; looks < LOOKS_MOST && got == -EAGAIN; looks++) {
        usleep(PAUSE_US);
        got = naru_pool_next(pool, &result, 0);
    }
    nr_check_ok(got);
    nr_check(looks > 3, "the task went over at once, in %d looks", looks);
    nr_check(result.outcome == NARU_POOL_DONE &&
                 nr_payload_is_whole(result.data, sizeof data, 1, 0),
             "outcome %d: %s", result.outcome, result.death ? result.death->text : "");
    naru_pool_free(pool);
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

/* -- limits ------------------------------------------------------------------------------------- */

static void run_cancel(void *argument)
{
    struct naru_pool_options options = {.workers_count = 1};
    struct naru_pool *pool = nr_pool_scene_make(&options);
    int outcomes[6] = {0};

    (void)argument;
    uint64_t running = nr_pool_scene_submit(pool, LOOP, 0);
    uint64_t waiting = nr_pool_scene_submit(pool, TWICE, 1),
             other = nr_pool_scene_submit(pool, TWICE, 2);
    while (nr_kit_get(&nr_pool_scene_seen->begun) == 0)
        naru_pool_step(pool);
    nr_check_ok(naru_pool_cancel(pool, waiting));
    struct naru_pool_result result = nr_pool_scene_next(pool);
    nr_check(result.number == waiting && result.outcome == NARU_POOL_CANCELLED, "outcome %d",
             result.outcome);
    nr_check_ok(naru_pool_cancel(pool, running));
    result = nr_pool_scene_next(pool);
    nr_check(result.number == running && result.outcome == NARU_POOL_CANCELLED, "outcome %d",
             result.outcome);
    result = nr_pool_scene_next(pool);
    nr_check(result.number == other, "another one");
    nr_pool_scene_expect_twice(&result, 2);
    nr_check_fails(naru_pool_cancel(pool, other), -ENOENT, "answered");
    for (int i = 0; i < 20; i++)
        nr_pool_scene_submit(pool, i == 3 ? LOOP : TWICE, i);
    nr_check_ok(naru_pool_cancel(pool, NARU_POOL_ALL));
    for (int i = 0; i < 20; i++)
        outcomes[nr_pool_scene_next(pool).outcome]++;
    nr_check(outcomes[NARU_POOL_CANCELLED] >= 16 && outcomes[NARU_POOL_SET_ASIDE] == 0,
             "%d cancelled", outcomes[NARU_POOL_CANCELLED]);
    nr_pool_scene_submit(pool, TWICE, 5); /* and it goes on */
    result = nr_pool_scene_next(pool);
    nr_pool_scene_expect_twice(&result, 5);
    naru_pool_free(pool);
}

static void run_back_pressure(void *argument)
{
    struct naru_pool_options options = {.workers_count = 1, .tasks_max = 3, .results_max = 4};
    struct order order = {SLEEP, 30};
    struct naru_pool *pool = nr_pool_scene_make(&options);
    int submitted = 3, result;

    (void)argument;
    for (int i = 0; i < 3; i++)
        nr_pool_scene_submit(pool, SLEEP, 30);
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
        nr_pool_scene_next(pool);
    naru_pool_free(pool);
}

static void run_loop_of_ones_own(void *argument)
{
    struct naru_pool_options options = {.time_limit_ns =
                                            200 * NARU_MILLISECOND * nr_kit_slowness()};
    struct naru_pool *pool = nr_pool_scene_make(&options);
    struct pollfd fd = {.fd = (int)nr_check_ok(naru_pool_fd(pool)), .events = POLLIN};
    int answered = 0, submitted = 0;
    struct naru_pool_result result;

    (void)argument;
    while (answered < 1000) {
        for (int i = 0; i < 10 && submitted < 1000; i++, submitted++)
            nr_pool_scene_submit(pool,
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
    struct naru_pool *pool = interrupted = nr_pool_scene_make(NULL);
    struct naru_pool_result result;

    (void)argument;
    signal(SIGALRM, on_alarm);
    uint64_t number = nr_pool_scene_submit(pool, LOOP, 0);
    setitimer(ITIMER_REAL, &soon, NULL);
    nr_check_fails(naru_pool_next(pool, &result, NARU_FOREVER), -EINTR, "interrupt");
    nr_check_ok(naru_pool_cancel(pool, number));
    nr_pool_scene_next(pool);
    naru_pool_free(pool);
}

/* -- the owner ---------------------------------------------------------------------------------- */

static void run_owner_is_killed(void *argument)
{
    struct naru_pool_options options = {.workers_count = 4, .init = nr_pool_scene_hook_init};

    (void)argument;
    pid_t owner = nr_kit_fork();
    if (owner == 0) {
        struct naru_pool *pool = nr_pool_scene_make(&options);
        nr_pool_scene_submit(pool, LOOP, 0); /* one is busy, the others sleep */
        while (nr_kit_get(&nr_pool_scene_seen->begun) == 0)
            naru_pool_step(pool);
        nr_kit_set(&nr_pool_scene_seen->exits, 1);
        pause();
    }
    nr_kit_await(&nr_pool_scene_seen->exits, 1);
    nr_kit_await(&nr_pool_scene_seen->pids_count, 4);
    nr_kit_kill(owner);
    for (int i = 0; i < 4; i++) {
        int64_t end_ns = nr_kit_now_ns() + NR_SOON;
        char path[64], state[64] = "";
        snprintf(path, sizeof path, "/proc/%d/stat", nr_kit_get(&nr_pool_scene_seen->pids[i]));
        for (FILE *file; (file = fopen(path, "re")) && nr_kit_now_ns() < end_ns;
             nr_kit_sleep_ms(1)) {
            bool is_dead =
                fscanf(file, "%*d %*s %63s", state) == 1 && (state[0] == 'Z' || state[0] == 'X');
            fclose(file);
            if (is_dead)
                break;
        }
        nr_check(nr_kit_now_ns() < end_ns, "worker %d is left", nr_pool_scene_seen->pids[i]);
    }
}

static void run_forked_owner(void *argument)
{
    struct naru_pool *pool = nr_pool_scene_make(NULL);
    struct naru_pool_result result;

    (void)argument;
    nr_pool_scene_submit(pool, SLEEP, 50);
    pid_t child = nr_kit_fork();
    if (child == 0) {
        nr_check_fails(naru_pool_next(pool, &result, 0), -ECHILD, "child");
        nr_check_fails(naru_pool_submit(pool, "x", 1, NULL, 0), -ECHILD, "child");
        naru_pool_free(pool);
        _exit(0);
    }
    nr_kit_join(child);
    result = nr_pool_scene_next(pool);
    nr_pool_scene_expect_twice(&result, 50);
    naru_pool_free(pool);
}

/* No descriptors for a while: what is there goes on, and when there are some again all is as before. */
static void run_without_descriptors(void *argument)
{
    struct naru_pool_options options = {.workers_count = 2, .starts_at_once = 1};
    struct naru_pool_worker worker = {.size_bytes = sizeof worker};
    struct naru_pool *pool = nr_pool_scene_make(&options);
    struct rlimit limit, none = {0};
    int alive = 0;

    (void)argument;
    getrlimit(RLIMIT_NOFILE, &limit);
    nr_pool_scene_submit(pool, TWICE, 1);
    nr_pool_scene_next(pool);
    none = (struct rlimit){3, limit.rlim_max};
    setrlimit(RLIMIT_NOFILE, &none);
    struct naru_pool *other;
    nr_check_fails(naru_pool_new(&other, nr_pool_scene_work, NULL, NULL), -EMFILE,
                   "descriptors|ulimit");
    nr_check_ok(naru_pool_worker(pool, 0, &worker));
    kill(worker.pid, SIGKILL);
    for (int i = 0; i < 20; i++) {
        nr_pool_scene_submit(pool, SLEEP, 1);
        struct naru_pool_result result = nr_pool_scene_next(pool);
        nr_pool_scene_expect_twice(&result, 1);
    }
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int64_t end_ns = nr_kit_now_ns() + NR_SOON; alive < 2 && nr_kit_now_ns() < end_ns;) {
        struct naru_pool_stat stat = {.size_bytes = sizeof stat};
        nr_pool_scene_submit(pool, SLEEP, 5);
        nr_pool_scene_next(pool);
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
    nr_check_fails(naru_pool_new(&pool, nr_pool_scene_work, NULL, &options), -EINVAL, "size_bytes");
    options = (struct naru_pool_options){.size_bytes = sizeof options, .workers_count = 5000};
    nr_check_fails(naru_pool_new(&pool, nr_pool_scene_work, NULL, &options), -EINVAL,
                   "workers_count|1024");
    nr_check_fails(naru_pool_new(NULL, nr_pool_scene_work, NULL, NULL), -EINVAL, "place");
    struct naru_spawn_options spawn = {.size_bytes = sizeof spawn, .nice = 1000};
    options = (struct naru_pool_options){.size_bytes = sizeof options, .spawn = &spawn};
    nr_check_fails(naru_pool_new(&pool, nr_pool_scene_work, NULL, &options), -EINVAL, "nice");
    nr_check_fails(naru_pool_next(NULL, &result, 0), -EINVAL, "NULL");
    pool = nr_pool_scene_make(NULL);
    nr_check_fails(naru_pool_next(pool, &result, NARU_FOREVER), -ENODATA, "answered");
    nr_check_fails(naru_pool_submit(pool, NULL, 4, NULL, 0), -EINVAL, "data");
    nr_check_fails(naru_pool_reply(NULL, "", 0), -EINVAL, "naru_pool_reply");
    naru_pool_free(pool);
    naru_pool_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(sizes),
        TEST(slow_owner),
        TEST(map),
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
