/* SPDX-License-Identifier: MIT */
/*
 * pool -- made, looked at, cancelled, freed
 *
 * Ownership  A pool carries the token of the process that made it. A forked child's copy is refused.
 */
#include "process/pool.h"
#include "process/process.h"
#include "os/io.h"
#include <stdlib.h>
#include <string.h>

enum {
    NR_POOL_DEATHS_MAX = 3, /* defaults */
    NR_POOL_TASKS_MAX = 65536,
    NR_POOL_RESULTS_MAX = 65536,
    NR_POOL_ATTEMPTS_MOST = 2000, /* a task's header counts them */
};
#define NR_POOL_GRACE_NS (2 * NARU_SECOND)

int nr_pool_enter(const struct naru_pool *pool)
{
    nr_error_clear();
    if (!pool)
        return nr_fail(-EINVAL, "the pool is NULL; did naru_pool_new() fail?");
    if (!nr_os_process_is(pool->owner))
        return nr_fail(-ECHILD, "this pool belongs to the process that made it, not to a child "
                                "that was forked there; make one here");
    return 0;
}

int nr_pool_leave(int result)
{
    if (result >= 0)
        return result;
    const char *text = result == -EAGAIN ? "it can't be done without waiting; give a time-out, "
                                           "or wait for naru_pool_fd()"
                       : result == -ETIMEDOUT ? "the time-out is over; the workers go on"
                       : result == -EINTR     ? "the wait was ended by naru_pool_interrupt()"
                                              : nr_error_name(result);
    nr_error_default(result, NR_ORIGIN, text);
    if (result == -EMFILE || result == -ENFILE)
        nr_error_add("; close some descriptors, or raise `ulimit -n`", "ulimit");
    return result;
}

/* -- new -------------------------------------------------------------------------------------- */

static int nr_pool_check_spawn(const struct naru_spawn_options *spawn)
{
    if (spawn->size_bytes != sizeof *spawn)
        return nr_fail(-EINVAL, "options.spawn->size_bytes is not set; write "
                                "= {.size_bytes = sizeof(struct naru_spawn_options)}");
    if (spawn->ends_count || spawn->readiness || spawn->survives_parent)
        return nr_fail(-EINVAL, "options.spawn: a pool's workers take no ends, tell of their "
                                "readiness to the pool, and do not survive it");
    struct naru_spawn_options unused; /* now, and not when the first worker is started */
    return nr_spawn_options_complete(&unused, spawn);
}

static int nr_pool_check(const struct naru_pool_options *options)
{
    if (options->size_bytes != sizeof *options)
        return nr_fail(-EINVAL, "options.size_bytes is not set; write "
                                "= {.size_bytes = sizeof(struct naru_pool_options)}");
    if (options->workers_count > NR_POOL_WORKERS_MOST)
        return nr_fail(-EINVAL, "options.workers_count is %u; give 1 to %d", options->workers_count,
                       NR_POOL_WORKERS_MOST);
    if (options->deaths_max > NR_POOL_ATTEMPTS_MOST)
        return nr_fail(-EINVAL, "options.deaths_max is %u; give 1 to %d", options->deaths_max,
                       NR_POOL_ATTEMPTS_MOST);
    if (options->order != NARU_AS_THEY_COME && options->order != NARU_IN_ORDER)
        return nr_fail(-EINVAL, "options.order is %d; give NARU_AS_THEY_COME or NARU_IN_ORDER",
                       (int)options->order);
    if (options->time_limit_ns < NARU_FOREVER || options->grace_ns < NARU_FOREVER)
        return nr_fail(-EINVAL, "options.time_limit_ns and grace_ns can't be negative");
    return options->spawn ? nr_pool_check_spawn(options->spawn) : 0;
}

static void nr_pool_complete(struct naru_pool *pool, const struct naru_pool_options *given)
{
    struct naru_pool_options *options = &pool->options;

    *options = (struct naru_pool_options){.size_bytes = sizeof *options};
    if (given)
        *options = *given;
    pool->workers_count = options->workers_count ? options->workers_count : nr_os_cpus();
    if (!options->deaths_max)
        options->deaths_max = NR_POOL_DEATHS_MAX;
    if (!options->tasks_max)
        options->tasks_max = NR_POOL_TASKS_MAX;
    if (!options->results_max)
        options->results_max = NR_POOL_RESULTS_MAX;
    if (!options->grace_ns)
        options->grace_ns = NR_POOL_GRACE_NS;
    pool->spawn = (struct naru_spawn_options){.size_bytes = sizeof pool->spawn};
    if (options->spawn)
        pool->spawn = *options->spawn;
    pool->starts_at_once = options->starts_at_once || options->init;
}

static int nr_pool_open(struct naru_pool *pool)
{
    pool->owner = nr_os_process_token_new();
    pool->workers = calloc(pool->workers_count, sizeof *pool->workers);
    if (!pool->owner || !pool->workers)
        return nr_fail(-ENOMEM, "no memory for a pool");
    pool->epoll_fd = nr_os_epoll_new();
    pool->bell_fd = nr_os_eventfd();
    int result = pool->epoll_fd < 0  ? pool->epoll_fd
                 : pool->bell_fd < 0 ? pool->bell_fd
                                     : nr_pool_collect_watch_bell(pool);
    if (result < 0)
        return nr_fail(result, "can't make the descriptors of a pool: %s", nr_error_name(result));
    for (uint32_t i = 0; i < pool->workers_count; i++) {
        pool->workers[i].state = NARU_WORKER_GONE;
        pool->workers[i].memory_fd = -1;
    }
    for (uint32_t i = 0; i < pool->workers_count && pool->starts_at_once; i++)
        nr_pool_start_seat(pool, &pool->workers[i]);
    nr_pool_start_launch(pool);
    return pool->starts_at_once && !pool->has_started
               ? nr_fail(pool->setback, "%s", pool->setback_text)
               : 0;
}

int naru_pool_new(struct naru_pool **ret, naru_pool_work *work, void *context,
                  const struct naru_pool_options *options)
{
    nr_error_clear();
    if (!ret || !work)
        return nr_fail(-EINVAL, "naru_pool_new() needs a place for the pool, and a function");
    int result = options ? nr_pool_check(options) : 0;
    if (result < 0)
        return result;
    struct naru_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return nr_fail(-ENOMEM, "no memory for a pool");
    pool->work = work;
    pool->context = context;
    pool->epoll_fd = pool->bell_fd = pool->timer_fd = -1;
    nr_pool_complete(pool, options);
    result = nr_pool_open(pool);
    if (result < 0) {
        naru_pool_free(pool);
        return nr_pool_leave(result);
    }
    *ret = pool;
    return 0;
}

void naru_pool_free(struct naru_pool *pool)
{
    if (!pool)
        return;
    if (pool->workers && nr_os_process_is(pool->owner))
        nr_pool_crew_end(pool);
    else if (pool->workers)
        nr_pool_crew_abandon(pool);
    if (pool->workers)
        nr_pool_task_end(pool);
    nr_os_close(&pool->timer_fd);
    nr_os_close(&pool->bell_fd);
    nr_os_close(&pool->epoll_fd);
    free(pool->workers);
    free(pool);
}

/* -- cancel ----------------------------------------------------------------------------------- */

static struct nr_pool_task *nr_pool_find(const struct nr_pool_queue *queue, uint64_t number)
{
    struct nr_pool_task *task = queue->first;

    while (task && task->number != number)
        task = task->next;
    return task;
}

static void nr_pool_cancel_waiting(struct naru_pool *pool, struct nr_pool_task *task)
{
    nr_pool_queue_remove(&pool->waiting, task);
    nr_pool_task_finish(pool, task, NARU_POOL_CANCELLED);
}

/* What was begun is ended with its worker; it counts as answered when that is dead. */
static void nr_pool_cancel_begun(struct nr_pool_worker *worker)
{
    if (!worker->verdict && nr_pool_crew_is_in_task(worker))
        nr_pool_crew_kill(worker, NARU_POOL_CANCELLED);
}

static void nr_pool_cancel_all(struct naru_pool *pool)
{
    for (uint32_t i = 0; i < pool->workers_count; i++) {
        struct nr_pool_worker *worker = &pool->workers[i];
        nr_pool_collect_worker(pool, worker);
        if (!worker->given.count)
            continue;
        nr_pool_crew_take_back(pool, worker);
        nr_pool_cancel_begun(worker);
    }
    while (pool->waiting.first)
        nr_pool_cancel_waiting(pool, pool->waiting.first);
}

void nr_pool_drop_all(struct naru_pool *pool)
{
    nr_pool_cancel_all(pool);
    while (pool->given_count) {
        struct nr_deadline never = nr_deadline_in(NARU_FOREVER);
        nr_pool_collect_sleep(pool, &never);
        nr_pool_collect_step(pool);
        nr_pool_cancel_all(pool);
    }
}

int naru_pool_cancel(struct naru_pool *pool, uint64_t number)
{
    int result = nr_pool_enter(pool);
    bool is_begun = false;

    if (result < 0)
        return result;
    if (number == NARU_POOL_ALL) {
        nr_pool_cancel_all(pool);
        nr_pool_collect_call_back(pool);
        return 0;
    }
    for (uint32_t i = 0; i < pool->workers_count; i++) {
        struct nr_pool_worker *worker = &pool->workers[i];
        nr_pool_collect_worker(pool, worker);
        if (!nr_pool_find(&worker->given, number))
            continue;
        nr_pool_crew_take_back(pool, worker);
        is_begun = nr_pool_find(&worker->given, number) != NULL;
        if (is_begun)
            nr_pool_cancel_begun(worker);
        break;
    }
    struct nr_pool_task *task = nr_pool_find(&pool->waiting, number);
    if (task)
        nr_pool_cancel_waiting(pool, task);
    nr_pool_deal(pool);
    nr_pool_collect_call_back(pool);
    return task || is_begun ? 0
                            : nr_fail(-ENOENT, "task %llu is answered, or was never submitted",
                                      (unsigned long long)number);
}

/* -- looking ---------------------------------------------------------------------------------- */

int naru_pool_fd(struct naru_pool *pool)
{
    int result = nr_pool_enter(pool);

    return result < 0 ? result : nr_pool_leave(nr_pool_collect_fd(pool));
}

int naru_pool_step(struct naru_pool *pool)
{
    struct nr_deadline at_once = nr_deadline_in(0);
    int result = nr_pool_enter(pool);

    if (result < 0)
        return result;
    do {
        nr_pool_collect_step(pool);
        if (nr_pool_task_is_ready(pool))
            break;
    } while (nr_pool_collect_sleep(pool, &at_once) == 0);
    return nr_pool_task_is_ready(pool);
}

int naru_pool_interrupt(struct naru_pool *pool)
{
    if (!pool || !nr_os_process_is(pool->owner))
        return -EINVAL; /* without a text: it would not be async-signal-safe */
    __atomic_store_n(&pool->is_interrupted, true, __ATOMIC_RELEASE);
    nr_os_eventfd_set(pool->bell_fd);
    return 0;
}

int naru_pool_stat(struct naru_pool *pool, struct naru_pool_stat *stat)
{
    int result = nr_pool_enter(pool);

    if (result < 0)
        return result;
    if (!stat || stat->size_bytes != sizeof *stat)
        return nr_fail(-EINVAL, "stat->size_bytes is not set; write "
                                "= {.size_bytes = sizeof(struct naru_pool_stat)}");
    *stat = pool->stat;
    stat->size_bytes = sizeof *stat;
    stat->unfetched = pool->finished.count;
    stat->workers_count = pool->workers_count;
    for (uint32_t i = 0; i < pool->workers_count; i++) {
        stat->running += nr_pool_crew_is_in_task(&pool->workers[i]);
        stat->workers_alive += pool->workers[i].state != NARU_WORKER_GONE;
    }
    stat->waiting = pool->waiting.count + pool->given_count - stat->running;
    return 0;
}

int naru_pool_worker(struct naru_pool *pool, uint32_t index, struct naru_pool_worker *ret)
{
    int result = nr_pool_enter(pool);

    if (result < 0)
        return result;
    if (!ret || ret->size_bytes != sizeof *ret)
        return nr_fail(-EINVAL, "worker->size_bytes is not set; write "
                                "= {.size_bytes = sizeof(struct naru_pool_worker)}");
    if (index >= pool->workers_count)
        return nr_fail(-ENOENT, "the pool has %u workers, and no worker %u", pool->workers_count,
                       index);
    const struct nr_pool_worker *worker = &pool->workers[index];
    *ret = (struct naru_pool_worker){
        .size_bytes = sizeof *ret,
        .state = worker->state,
        .pid = worker->pid,
        .answers = worker->answers,
        .deaths = worker->deaths,
    };
    if (worker->state == NARU_WORKER_IDLE && worker->given.first) {
        ret->state = NARU_WORKER_BUSY;
        ret->number = worker->given.first->number;
    }
    return 0;
}
