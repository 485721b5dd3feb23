/* SPDX-License-Identifier: MIT */
/*
 * pool_deal -- tasks go to the workers
 *
 * Window     A worker has as many tasks at its desk as it does in a millisecond, by a moving estimate: a long
 *            task has nothing waiting behind it, and short ones come without a pause. An estimate may be
 *            wrong: what waits behind a task for longer than that is taken away again (pool_crew.c).
 * Grain      To wake a worker costs some microseconds here and more there, so nobody is woken for less work than that.
 * Blocking   Never: what has no room at a desk is fed to it bit by bit, as room comes.
 */
#include "os/futex.h"
#include "process/pool.h"

static uint64_t nr_pool_deal_per(const struct naru_pool *pool, uint64_t span_ns)
{
    uint64_t tasks = pool->task_ns > 0 ? span_ns / (uint64_t)pool->task_ns : 1;

    return tasks < 1 ? 1 : tasks > NR_POOL_WINDOW_MOST ? NR_POOL_WINDOW_MOST : tasks;
}

static bool nr_pool_deal_takes(const struct nr_pool_worker *worker, uint64_t window)
{
    return worker->state == NARU_WORKER_IDLE && !worker->feeding && !worker->is_closed &&
           !worker->verdict && !worker->is_damaged && worker->given.count < window &&
           !(worker->given.last && worker->given.last->is_suspect);
}

/* As much of the task as there is room for. */
static void nr_pool_deal_feed(struct nr_pool_worker *worker)
{
    const struct nr_pool_task *task = worker->feeding;
    uint32_t attempt = task->deaths + 1;

    while (worker->feeding) {
        size_t left_bytes = task->size_bytes - worker->fed_bytes;
        bool is_last = left_bytes <= NR_DESK_PART_BYTES;
        size_t part_bytes = is_last ? left_bytes : NR_DESK_PART_BYTES;
        uint64_t header = nr_desk_task_header(is_last ? NR_DESK_TASK : NR_DESK_PART, task->number,
                                              attempt, task->time_limit_ns >= 0);
        const char *part = part_bytes ? task->data + worker->fed_bytes : NULL;
        int result = nr_desk_put(&worker->desk, header, part, part_bytes);
        if (result == -EBADMSG)
            nr_pool_crew_condemn(worker);
        if (result < 0)
            return;
        worker->must_wake = true;
        worker->nudge_ns = 0; /* it can't have slept in vain before */
        worker->fed_bytes += part_bytes;
        if (is_last)
            worker->feeding = NULL;
    }
}

static void nr_pool_deal_give(struct naru_pool *pool, struct nr_pool_worker *worker,
                              struct nr_pool_task *task)
{
    nr_pool_queue_remove(&pool->waiting, task);
    nr_pool_queue_append(&worker->given, task);
    pool->given_count++;
    task->worker_pid = worker->pid;
    worker->feeding = task;
    worker->fed_bytes = 0;
    nr_pool_deal_feed(worker);
}

void nr_pool_deal_go_on(struct nr_pool_worker *worker)
{
    if (worker->state != NARU_WORKER_IDLE || worker->is_damaged)
        return;
    if (worker->owes_resume &&
        nr_desk_put(&worker->desk, nr_desk_task_header(NR_DESK_RESUME, worker->answered, 0, false),
                    NULL, 0) == 0) {
        worker->owes_resume = false;
        worker->must_wake = true;
    }
    if (worker->feeding)
        nr_pool_deal_feed(worker);
}

void nr_pool_deal_wake(struct nr_pool_worker *worker, enum nr_desk_gate gate)
{
    if (nr_desk_must_wake(&worker->desk, gate))
        nr_os_futex_wake(nr_desk_gate_address(&worker->desk, gate), 1);
}

struct nr_pool_deal {
    uint64_t window, share; /* of tasks for each worker: at most at its desk, and now */
    int64_t now_ns;         /* 0: not looked at yet */
};

static bool nr_pool_deal_has_task(const struct naru_pool *pool)
{
    return pool->waiting.first && nr_pool_task_may_go(pool, pool->waiting.first);
}

static void nr_pool_deal_serve(struct naru_pool *pool, struct nr_pool_worker *worker,
                               struct nr_pool_deal *deal)
{
    for (uint64_t n = 0;
         n < deal->share && nr_pool_deal_takes(worker, deal->window) && nr_pool_deal_has_task(pool);
         n++) {
        struct nr_pool_task *task = pool->waiting.first;
        if (task->is_suspect && worker->given.count)
            return;
        if (!deal->now_ns)
            deal->now_ns = pool->dealt_ns = nr_os_now_ns();
        if (worker->given.count == 0)
            worker->since_ns = deal->now_ns;
        nr_pool_deal_give(pool, worker, task);
    }
}

/* Their tasks are there when they look for the first time: they need not be woken for them. */
static void nr_pool_deal_start(struct naru_pool *pool, struct nr_pool_deal *deal)
{
    bool has_any = false;

    for (uint32_t i = 0; i < pool->workers_count && nr_pool_deal_has_task(pool); i++) {
        struct nr_pool_worker *worker = &pool->workers[i];
        if (!nr_pool_start_may(pool, worker))
            continue;
        nr_pool_start_seat(pool, worker);
        nr_pool_deal_serve(pool, worker, deal);
        worker->must_wake = false;
        has_any = true;
    }
    if (has_any)
        nr_pool_start_launch(pool);
}

void nr_pool_deal(struct naru_pool *pool)
{
    struct nr_pool_deal deal = {.window = nr_pool_deal_per(pool, NR_POOL_WINDOW_NS)};
    uint64_t grain = nr_pool_deal_per(pool, NR_POOL_GRAIN_NS), takers = 0;

    for (uint32_t i = 0; i < pool->workers_count; i++) {
        nr_pool_deal_go_on(&pool->workers[i]);
        takers += nr_pool_deal_takes(&pool->workers[i], deal.window) ||
                  nr_pool_start_may(pool, &pool->workers[i]);
    }
    deal.share = takers ? (pool->waiting.count + takers - 1) / takers : 0;
    if (deal.share < grain)
        deal.share = grain;
    for (uint32_t i = 0; i < pool->workers_count; i++) {
        struct nr_pool_worker *worker = &pool->workers[i];
        nr_pool_deal_serve(pool, worker, &deal);
        if (worker->must_wake)
            nr_pool_deal_wake(worker, NR_DESK_HAS_TASK);
        worker->must_wake = false;
    }
    nr_pool_deal_start(pool, &deal);
}
