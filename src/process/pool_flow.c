/* SPDX-License-Identifier: MIT */
/* pool_flow -- tasks in, results out: submit and next */
#include "process/pool.h"
#include <limits.h>

enum { NR_POOL_STEP_EVERY = 64 }; /* results handed out, before the workers are looked after */

/* -- submit ----------------------------------------------------------------------------------- */

static uint64_t nr_pool_flow_unanswered(const struct naru_pool *pool)
{
    return pool->waiting.count + pool->given_count;
}

/* Nothing is given out any more until results are fetched. */
static bool nr_pool_flow_is_choked(const struct naru_pool *pool)
{
    return !pool->given_count && pool->waiting.first &&
           !nr_pool_task_may_go(pool, pool->waiting.first);
}

static int nr_pool_flow_await_room(struct naru_pool *pool, struct nr_deadline *deadline)
{
    for (;;) {
        nr_pool_collect_step(pool);
        if (nr_pool_flow_unanswered(pool) < pool->options.tasks_max)
            return 0;
        if (nr_pool_flow_is_choked(pool))
            return nr_fail(-ENOBUFS,
                           "%zu results wait, and no more tasks are given out before some are "
                           "fetched: call naru_pool_next(), or raise results_max",
                           pool->finished.count);
        int result = nr_pool_crew_setback(pool);
        if (result == 0)
            result = nr_pool_collect_sleep(pool, deadline);
        if (result < 0)
            return result;
    }
}

/* Of short tasks that come one behind the other, some are gathered before a worker is woken for them. */
static void nr_pool_flow_submitted(struct naru_pool *pool, size_t count)
{
    bool is_short = pool->task_ns && pool->task_ns < NR_POOL_GRAIN_NS / 2;

    if (!is_short || count > 1 || nr_os_now_ns() - pool->dealt_ns > NR_POOL_GRAIN_NS)
        nr_pool_deal(pool);
    else if (pool->next_number % NR_POOL_LAZY == 0)
        nr_pool_collect_step(pool);
    nr_pool_collect_call_back(pool);
}

int nr_pool_flow_submit(struct naru_pool *pool, const struct naru_pool_input *input, bool borrow)
{
    struct nr_pool_task *task = nr_pool_task_new(pool, input, borrow);

    if (!task)
        return nr_fail(-ENOMEM, "no memory for a task of %zu bytes", input->size_bytes);
    nr_pool_queue_append(&pool->waiting, task);
    pool->stat.submitted++;
    return 0;
}

static int nr_pool_flow_check(const struct naru_pool_input *input)
{
    if (input->size_bytes && !input->data)
        return nr_fail(-EINVAL, "a task of %zu bytes has no data", input->size_bytes);
    if (input->time_limit_ns < NARU_FOREVER)
        return nr_fail(-EINVAL, "a task's time limit is %lld ns; give more than 0, or NARU_FOREVER",
                       (long long)input->time_limit_ns);
    return 0;
}

int naru_pool_submit_many(struct naru_pool *pool, const struct naru_pool_input *inputs,
                          size_t count, uint64_t *ret_first, int64_t timeout_ns)
{
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);
    size_t submitted = 0;

    int result = nr_pool_enter(pool);
    if (result < 0)
        return result;
    if (!inputs || count == 0)
        return nr_fail(-EINVAL, "naru_pool_submit_many() needs at least one task");
    if (count > INT_MAX)
        count = INT_MAX;
    uint64_t first = pool->next_number;
    if (nr_pool_flow_unanswered(pool) >= pool->options.tasks_max)
        result = nr_pool_flow_await_room(pool, &deadline);
    while (result == 0 && submitted < count &&
           nr_pool_flow_unanswered(pool) < pool->options.tasks_max) {
        result = nr_pool_flow_check(&inputs[submitted]);
        if (result == 0)
            result = nr_pool_flow_submit(pool, &inputs[submitted], false);
        submitted += result == 0;
    }
    if (submitted == 0)
        return nr_pool_leave(result);
    nr_pool_flow_submitted(pool, submitted);
    if (ret_first)
        *ret_first = first;
    return (int)submitted;
}

int naru_pool_submit(struct naru_pool *pool, const void *data, size_t size_bytes,
                     uint64_t *ret_number, int64_t timeout_ns)
{
    const struct naru_pool_input input = {.data = data, .size_bytes = size_bytes};
    int result = naru_pool_submit_many(pool, &input, 1, ret_number, timeout_ns);

    return result < 0 ? result : 0;
}

/* -- next ------------------------------------------------------------------------------------- */

void nr_pool_flow_return(struct naru_pool *pool)
{
    for (struct nr_pool_task *task; (task = pool->lent.first);) {
        nr_pool_queue_remove(&pool->lent, task);
        nr_pool_task_free(pool, task);
    }
}

void nr_pool_flow_describe(const struct nr_pool_task *task, struct naru_pool_result *ret)
{
    *ret = (struct naru_pool_result){
        .number = task->number,
        .tag = task->tag,
        .outcome = task->outcome,
        .code = task->code,
        .data = task->result,
        .size_bytes = task->result_bytes,
        .deaths = task->deaths,
        .worker_pid = task->worker_pid,
        .death = task->death,
    };
}

static struct nr_pool_task *nr_pool_flow_pop(struct naru_pool *pool)
{
    struct nr_pool_task *task = pool->finished.first;

    if (!nr_pool_task_is_ready(pool))
        return NULL;
    nr_pool_queue_remove(&pool->finished, task);
    pool->next_result = task->number + 1;
    if (++pool->hand_outs % NR_POOL_STEP_EVERY == 0)
        nr_pool_collect_step(pool);
    return task;
}

int nr_pool_flow_take(struct naru_pool *pool, struct nr_pool_task **ret,
                      struct nr_deadline *deadline)
{
    while (!(*ret = nr_pool_flow_pop(pool))) {
        nr_pool_collect_step(pool);
        if (nr_pool_task_is_ready(pool))
            continue;
        if (nr_pool_flow_unanswered(pool) == 0)
            return nr_fail(-ENODATA, "all tasks are answered, and their results were fetched");
        int result = nr_pool_crew_setback(pool);
        if (result == 0)
            result = nr_pool_collect_sleep(pool, deadline);
        if (result < 0)
            return result;
    }
    return 0;
}

int naru_pool_next_many(struct naru_pool *pool, struct naru_pool_result *results, size_t count,
                        int64_t timeout_ns)
{
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);
    struct nr_pool_task *task;
    size_t taken = 0;

    int result = nr_pool_enter(pool);
    if (result < 0)
        return result;
    if (!results || count == 0)
        return nr_fail(-EINVAL, "naru_pool_next_many() needs room for at least one result");
    if (count > INT_MAX)
        count = INT_MAX;
    nr_pool_flow_return(pool);
    result = nr_pool_flow_take(pool, &task, &deadline);
    if (result < 0)
        return nr_pool_leave(result);
    do {
        nr_pool_queue_append(&pool->lent, task);
        nr_pool_flow_describe(task, &results[taken++]);
    } while (taken < count && (task = nr_pool_flow_pop(pool)));
    return (int)taken;
}

int naru_pool_next(struct naru_pool *pool, struct naru_pool_result *ret, int64_t timeout_ns)
{
    int result = naru_pool_next_many(pool, ret, 1, timeout_ns);

    return result < 0 ? result : 0;
}
