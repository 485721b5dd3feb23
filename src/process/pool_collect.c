/* SPDX-License-Identifier: MIT */
/*
 * pool_collect -- results come back; the owner's sleep
 *
 * Sleep      In one epoll set: the bell, which a worker rings when the owner has said that it sleeps (data/gate.h); each
 *            worker's pidfd, so that one killed before it could ring wakes the owner all the same; and the timer, for
 *            callers that have an epoll loop of their own.
 */
#include "os/io.h"
#include "os/timer.h"
#include "process/pool.h"

enum { NR_POOL_EVENTS = 64, NR_POOL_READ_MOST = 4096 };
#define NR_POOL_BELL  UINT64_MAX
#define NR_POOL_TIMER (UINT64_MAX - 1)

/* -- results ---------------------------------------------------------------------------------- */

static void nr_pool_collect_done(struct naru_pool *pool, struct nr_pool_worker *worker,
                                 const struct nr_desk_message *message)
{
    struct nr_pool_task *task = worker->given.first;

    nr_pool_queue_remove(&worker->given, task);
    pool->given_count--;
    worker->answered++;
    worker->answers++;
    worker->failures = 0;
    pool->failed_starts = 0;
    nr_pool_task_add_result(task, message->data, message->size_bytes);
    task->code = nr_desk_result_code(message->header);
    if (task->lacks_memory) {
        nr_pool_task_forget_result(task);
        task->code = -ENOMEM;
    }
    nr_pool_task_finish(pool, task, task->code < 0 ? NARU_POOL_FAILED : NARU_POOL_DONE);
}

/* 1: a task was answered; 0; -EBADMSG: that makes no sense. */
static int nr_pool_collect_message(struct naru_pool *pool, struct nr_pool_worker *worker,
                                   const struct nr_desk_message *message)
{
    enum nr_desk_kind kind = nr_desk_kind(message->header);
    struct nr_pool_task *task = worker->given.first;

    switch (kind) {
    case NR_DESK_PART:
    case NR_DESK_DONE:
        if (!task || task == worker->feeding || worker->state != NARU_WORKER_IDLE ||
            !nr_desk_result_is_of(message->header, task->number))
            return -EBADMSG;
        if (kind == NR_DESK_PART)
            nr_pool_task_add_result(task, message->data, message->size_bytes);
        else
            nr_pool_collect_done(pool, worker, message);
        return kind == NR_DESK_DONE;
    case NR_DESK_READY:
        if (worker->state != NARU_WORKER_STARTING)
            return -EBADMSG;
        worker->state = NARU_WORKER_IDLE;
        worker->failures = 0;
        pool->failed_starts = 0;
        return 0;
    case NR_DESK_RESUMED:
        if (!worker->is_closed || worker->owes_resume)
            return -EBADMSG;
        worker->is_closed = false;
        return 0;
    case NR_DESK_RETIRING:
        if (worker->state != NARU_WORKER_IDLE)
            return -EBADMSG;
        nr_pool_crew_take_back(pool, worker);
        worker->state = NARU_WORKER_ENDING;
        return 0;
    default:
        return -EBADMSG;
    }
}

/* What `answers` tasks have taken is what one takes, unless the worker had to wait for the processor. */
static void nr_pool_collect_estimate(struct naru_pool *pool, struct nr_pool_worker *worker,
                                     unsigned answers)
{
    int64_t now_ns = nr_os_now_ns(), each_ns = (now_ns - worker->since_ns) / answers;

    if (each_ns < 1)
        each_ns = 1;
    if (pool->task_ns == 0)
        pool->task_ns = each_ns;
    else if (each_ns > pool->task_ns)
        pool->task_ns += (each_ns - pool->task_ns) / 2;
    else
        pool->task_ns -= (pool->task_ns - each_ns) / 4;
    worker->since_ns = now_ns;
}

void nr_pool_collect_worker(struct naru_pool *pool, struct nr_pool_worker *worker)
{
    struct nr_desk_message message;
    unsigned answers = 0;
    bool frees = false;
    int result = -EAGAIN;

    if (!worker->memory || worker->is_damaged)
        return;
    for (unsigned n = 0; n < NR_POOL_READ_MOST; n++) {
        result = nr_desk_get(&worker->desk, &message);
        if (result < 0)
            break;
        result = nr_pool_collect_message(pool, worker, &message);
        if (result < 0)
            break;
        answers += (unsigned)result;
        frees |= nr_desk_done(&worker->desk, &message);
    }
    if (result == -EBADMSG)
        nr_pool_crew_condemn(worker);
    if (frees)
        nr_pool_deal_wake(worker, NR_DESK_HAS_ROOM);
    if (answers)
        nr_pool_collect_estimate(pool, worker, answers);
}

void nr_pool_collect_step(struct naru_pool *pool)
{
    int64_t now_ns = nr_os_now_ns();

    for (uint32_t i = 0; i < pool->workers_count; i++)
        nr_pool_collect_worker(pool, &pool->workers[i]);
    if (now_ns - pool->ticked_ns >= NR_POOL_TICK_NS) {
        pool->ticked_ns = now_ns;
        nr_pool_crew_tick(pool, now_ns);
    }
    nr_pool_deal(pool);
}

/* -- sleep ------------------------------------------------------------------------------------ */

/* From now on who puts something on a desk rings. True: something is there already. */
static bool nr_pool_collect_prepare(struct naru_pool *pool)
{
    for (uint32_t i = 0; i < pool->workers_count; i++) {
        struct nr_pool_worker *worker = &pool->workers[i];
        bool is_awaited =
            worker->given.count || worker->is_closed || worker->state == NARU_WORKER_STARTING;
        if (!worker->memory || worker->is_damaged || !is_awaited)
            continue;
        nr_desk_prepare(&worker->desk, NR_DESK_HAS_RESULT);
        if (worker->feeding || worker->owes_resume) {
            nr_desk_prepare(&worker->desk, NR_DESK_TAKES_TASK);
            nr_pool_deal_go_on(worker); /* look once more */
            if (worker->must_wake)
                nr_pool_deal_wake(worker, NR_DESK_HAS_TASK);
            worker->must_wake = false;
        }
        if (nr_desk_may_get(&worker->desk))
            return true;
    }
    return false;
}

/* True: there were any. */
static bool nr_pool_collect_events(struct naru_pool *pool, struct nr_deadline *deadline)
{
    uint64_t tags[NR_POOL_EVENTS];
    int count = nr_os_epoll_wait(pool->epoll_fd, tags, NR_POOL_EVENTS, deadline);

    for (int i = 0; i < count; i++) {
        if (tags[i] == NR_POOL_BELL) {
            nr_os_eventfd_clear(pool->bell_fd);
            pool->is_belled = false;
        } else if (tags[i] == NR_POOL_TIMER) {
            nr_os_eventfd_clear(pool->timer_fd);
            pool->timer_ns = INT64_MAX; /* it is not set any more */
            pool->ticked_ns = 0;        /* and what is due is looked at */
        } else if (tags[i] < pool->workers_count)
            nr_pool_crew_bury(pool, &pool->workers[tags[i]]);
    }
    return count > 0;
}

static void nr_pool_collect_set_timer(struct naru_pool *pool)
{
    int64_t due_ns = nr_pool_crew_due_ns(pool);

    if (pool->timer_fd < 0 || due_ns == pool->timer_ns)
        return;
    pool->timer_ns = due_ns;
    nr_os_timer_set(pool->timer_fd, due_ns == INT64_MAX ? 0 : due_ns);
}

int nr_pool_collect_sleep(struct naru_pool *pool, struct nr_deadline *deadline)
{
    struct nr_deadline until = *deadline;
    int64_t due_ns, now_ns;

    if (nr_deadline_is_now(deadline)) {
        bool is_there = pool->timer_fd >= 0 && nr_pool_collect_prepare(pool);
        nr_pool_collect_set_timer(pool);
        return nr_pool_collect_events(pool, deadline) || is_there ? 0 : -EAGAIN;
    }
    if (__atomic_exchange_n(&pool->is_interrupted, false, __ATOMIC_ACQUIRE))
        return -EINTR;
    if (nr_pool_collect_prepare(pool))
        return 0;
    int64_t left_ns = nr_deadline_left_ns(deadline);
    if (left_ns == 0)
        return -ETIMEDOUT;
    due_ns = nr_pool_crew_due_ns(pool);
    now_ns = nr_os_now_ns();
    if (due_ns != INT64_MAX && due_ns - now_ns < left_ns)
        until = nr_deadline_in(due_ns > now_ns ? due_ns - now_ns : 0);
    nr_pool_collect_events(pool, &until);
    now_ns = nr_os_now_ns();
    if (now_ns >= due_ns)
        nr_pool_crew_tick(pool, now_ns);
    return 0;
}

void nr_pool_collect_call_back(struct naru_pool *pool)
{
    if (pool->timer_fd < 0 || pool->is_belled)
        return;
    pool->is_belled = true;
    nr_os_eventfd_set(pool->bell_fd);
}

int nr_pool_collect_watch_bell(struct naru_pool *pool)
{
    return nr_os_epoll_add_tagged(pool->epoll_fd, pool->bell_fd, NR_READABLE, NR_POOL_BELL);
}

int nr_pool_collect_fd(struct naru_pool *pool)
{
    if (pool->timer_fd >= 0)
        return pool->epoll_fd;
    int fd = nr_os_timer_new();
    if (fd < 0)
        return nr_fail(fd, "can't make a timer for the pool: %s", nr_error_name(fd));
    int result = nr_os_epoll_add_tagged(pool->epoll_fd, fd, NR_READABLE, NR_POOL_TIMER);
    if (result < 0) {
        nr_os_close(&fd);
        return nr_fail(result, "can't watch the pool's timer: %s", nr_error_name(result));
    }
    pool->timer_fd = fd;
    pool->timer_ns = INT64_MAX;
    nr_pool_collect_call_back(pool); /* to look at what has come */
    return pool->epoll_fd;
}
