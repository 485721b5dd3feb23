/* SPDX-License-Identifier: MIT */
/*
 * pool_crew -- workers: buried, timed, ended
 *
 * Death      A worker's pidfd says that it is dead; naru_child_wait() says how. Its desk goes with it: the next one gets
 *            a new desk, so that nothing a dead or wild worker has written meets its successor.
 * Guilt      A death counts for the task that had been begun and not answered, and for no other. When it was we who
 *            killed the worker, it counts for the task that we killed it for, if that is the one. A spoilt desk may be
 *            the deed of any task there: they are done again, each alone, and then it shows which one it was.
 */
#include "os/futex.h"
#include "os/io.h"
#include "os/memory.h"
#include "os/signal_table.h"
#include "process/pool.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NR_POOL_UNBEGUN_NS = 100000000, /* a worker that is stopped keeps a task no longer than that */
    NR_POOL_NUDGE_NS = 100000000,   /* time for a worker to look at its desk */
    NR_POOL_FAILURES_MOST =
        5, /* in a row, before the caller is told; and as many as there are workers */
};

bool nr_pool_crew_is_in_task(const struct nr_pool_worker *worker)
{
    return worker->memory && worker->given.count &&
           (worker->is_damaged || nr_desk_begun(&worker->desk) != worker->answered);
}

/* -- ending ----------------------------------------------------------------------------------- */

void nr_pool_crew_kill(struct nr_pool_worker *worker, enum naru_pool_outcome verdict)
{
    worker->verdict = verdict;
    worker->verdict_number = worker->given.first ? worker->given.first->number : 0;
    naru_child_signal(worker->child, NR_OS_SIGKILL);
}

/* What it has written makes no sense: it is not listened to any more. */
void nr_pool_crew_condemn(struct nr_pool_worker *worker)
{
    worker->is_damaged = true;
    naru_child_signal(worker->child, NR_OS_SIGKILL);
}

void nr_pool_crew_give_back(struct naru_pool *pool, struct nr_pool_worker *worker,
                            struct nr_pool_task *task)
{
    nr_pool_queue_remove(&worker->given, task);
    pool->given_count--;
    nr_pool_queue_put_before(&pool->waiting, pool->waiting.first, task);
}

void nr_pool_crew_take_back(struct naru_pool *pool, struct nr_pool_worker *worker)
{
    if (worker->is_closed || worker->is_damaged)
        return;
    uint32_t kept = nr_desk_close(&worker->desk) - worker->answered;
    while (worker->given.count > kept)
        nr_pool_crew_give_back(pool, worker, worker->given.last);
    worker->feeding = NULL;
    worker->is_closed = worker->owes_resume = true;
}

static const char *nr_pool_crew_seconds(char text[32], int64_t time_ns)
{
    snprintf(text, 32, "%.3g s", (double)time_ns / 1e9);
    return text;
}

/* What the kernel can't know of. */
static void nr_pool_crew_explain(const struct nr_pool_worker *worker, struct naru_death *death,
                                 const struct nr_pool_task *task)
{
    char limit[32];

    if (worker->is_damaged)
        snprintf(death->text, sizeof death->text,
                 "worker %d wrote garbage on its channel, and was killed for it", (int)worker->pid);
    else if (worker->verdict == NARU_POOL_TIMED_OUT && task)
        snprintf(death->text, sizeof death->text,
                 "worker %d was killed: the time limit of its task, %s, was over", (int)worker->pid,
                 nr_pool_crew_seconds(limit, task->time_limit_ns));
    else if (worker->verdict == NARU_POOL_CANCELLED)
        snprintf(death->text, sizeof death->text, "worker %d was killed: its task was cancelled",
                 (int)worker->pid);
}

/* A worker has died in this task. */
static void nr_pool_crew_blame(struct naru_pool *pool, struct nr_pool_worker *worker,
                               struct nr_pool_task *task, const struct naru_death *death)
{
    bool was_meant = worker->verdict && worker->verdict_number == task->number;

    nr_pool_task_forget_result(task);
    if (worker->verdict && !was_meant) /* it has answered the one, and begun the next */
        return;
    task->deaths++;
    if (!task->death)
        task->death = malloc(sizeof *task->death);
    if (task->death)
        *task->death = *death;
    if (!was_meant && task->deaths < pool->options.deaths_max) {
        pool->stat.retries++;
        return;
    }
    nr_pool_queue_remove(&worker->given, task);
    pool->given_count--;
    nr_pool_task_finish(pool, task, was_meant ? worker->verdict : NARU_POOL_SET_ASIDE);
}

static void nr_pool_crew_suspect(struct nr_pool_worker *worker)
{
    for (struct nr_pool_task *task = worker->given.first; task; task = task->next) {
        task->is_suspect = true;
        nr_pool_task_forget_result(task);
    }
}

void nr_pool_crew_bury(struct naru_pool *pool, struct nr_pool_worker *worker)
{
    struct naru_death death = {.size_bytes = sizeof death};

    if (!worker->child || naru_child_wait(worker->child, &death, 0) < 0)
        return;
    nr_pool_collect_worker(pool, worker);
    bool was_in_task = nr_pool_crew_is_in_task(worker);
    bool was_to_end = worker->state == NARU_WORKER_ENDING && death.cause == NARU_EXITED;
    bool was_idle =
        worker->state == NARU_WORKER_STARTING || (worker->answered == 0 && !was_in_task);
    nr_pool_crew_explain(worker, &death, worker->given.first);
    if (worker->is_damaged && worker->given.count > 1)
        nr_pool_crew_suspect(worker);
    else if (was_in_task)
        nr_pool_crew_blame(pool, worker, worker->given.first, &death);
    nr_pool_start_unseat(pool, worker);
    if (was_to_end) {
        pool->stat.recycled++;
    } else {
        pool->stat.deaths++;
        worker->deaths++;
    }
    if (was_idle && !was_to_end) {
        pool->setback = -EOWNERDEAD;
        snprintf(pool->setback_text, sizeof pool->setback_text, "%s", death.text);
        nr_pool_start_put_off(pool, worker);
    } else if (pool->starts_at_once) {
        nr_pool_start_seat(pool, worker);
        nr_pool_start_launch(pool);
    }
}

/* -- a desk that is spoilt --------------------------------------------------------------------- */

/* It has something to begin or to acknowledge, and does not. */
static bool nr_pool_crew_is_idle_in_vain(const struct nr_pool_worker *worker)
{
    bool has_something = worker->is_closed ? !worker->owes_resume : worker->given.count > 0;

    return has_something && worker->state == NARU_WORKER_IDLE && !worker->is_damaged &&
           !nr_pool_crew_is_in_task(worker);
}

/*
 * A worker whose task has overwritten the desk may sleep for ever beside what was put there. So it is woken, whatever
 * the gate says; if it has then gone to sleep again without beginning anything, it can't see it. One that is
 * stopped, or gets no processor, is not asleep.
 */
static void nr_pool_crew_nudge(struct nr_pool_worker *worker, int64_t now_ns)
{
    nr_pool_deal_go_on(worker); /* it may sleep only because nobody fed it */
    if (!nr_pool_crew_is_idle_in_vain(worker)) {
        worker->nudge_ns = 0;
        return;
    }
    if (worker->nudge_ns && now_ns - worker->nudge_ns < NR_POOL_NUDGE_NS)
        return;
    if (worker->nudge_ns && nr_os_process_is_asleep(worker->pid))
        nr_pool_crew_condemn(worker);
    nr_os_futex_wake(nr_desk_gate_address(&worker->desk, NR_DESK_HAS_TASK), 1);
    nr_os_futex_wake(nr_desk_gate_address(&worker->desk, NR_DESK_HAS_ROOM), 1);
    worker->nudge_ns = now_ns;
}

static void nr_pool_crew_check(struct nr_pool_worker *worker)
{
    if (!worker->is_damaged && worker->state != NARU_WORKER_ENDING &&
        !nr_desk_turn_is_sane(&worker->desk, worker->answered, worker->given.count,
                              worker->is_closed))
        nr_pool_crew_condemn(worker);
}

/* -- time ------------------------------------------------------------------------------------- */

/* When its first task is over its time; INT64_MAX: it has no limit. Not begun yet: as if it were just now. */
static int64_t nr_pool_crew_limit_ns(const struct nr_pool_worker *worker, int64_t now_ns)
{
    const struct nr_pool_task *task = worker->given.first;

    if (!task || task->time_limit_ns < 0 || worker->verdict || worker->is_damaged)
        return INT64_MAX;
    int64_t begun_ns = now_ns;
    if (nr_pool_crew_is_in_task(worker)) {
        begun_ns = nr_desk_begun_ns(&worker->desk);
        if (begun_ns < worker->since_ns || begun_ns > now_ns)
            begun_ns = worker->since_ns;
    }
    return INT64_MAX - begun_ns > task->time_limit_ns ? begun_ns + task->time_limit_ns : INT64_MAX;
}

/* When tasks have waited too long behind its first one; INT64_MAX: there are none, or nobody else could do them. */
static int64_t nr_pool_crew_stall_ns(const struct nr_pool_worker *worker, bool anyone_idle)
{
    if (!worker->given.count || !anyone_idle || worker->is_closed || worker->verdict ||
        worker->is_damaged)
        return INT64_MAX;
    if (worker->given.count > 1)
        return worker->since_ns + NR_POOL_WINDOW_NS;
    return nr_pool_crew_is_in_task(worker) ? INT64_MAX : worker->since_ns + NR_POOL_UNBEGUN_NS;
}

static bool nr_pool_crew_anyone_idle(const struct naru_pool *pool)
{
    for (uint32_t i = 0; i < pool->workers_count; i++) {
        const struct nr_pool_worker *worker = &pool->workers[i];
        if (nr_pool_start_may(pool, worker) ||
            (worker->state == NARU_WORKER_IDLE && worker->given.count == 0 && !worker->is_closed))
            return true;
    }
    return false;
}

/* When it is to be started; INT64_MAX: not before there is a task for it. */
static int64_t nr_pool_crew_start_ns(const struct naru_pool *pool,
                                     const struct nr_pool_worker *worker)
{
    const struct nr_pool_task *task = pool->waiting.first;
    bool is_awaited = worker->start_ns && task && nr_pool_task_may_go(pool, task);

    return pool->starts_at_once || is_awaited ? worker->start_ns : INT64_MAX;
}

int64_t nr_pool_crew_due_ns(const struct naru_pool *pool)
{
    bool anyone_idle = nr_pool_crew_anyone_idle(pool);
    int64_t due_ns = INT64_MAX, now_ns = nr_os_now_ns();

    for (uint32_t i = 0; i < pool->workers_count; i++) {
        const struct nr_pool_worker *worker = &pool->workers[i];
        int64_t each_ns = worker->state == NARU_WORKER_GONE ? nr_pool_crew_start_ns(pool, worker)
                                                            : nr_pool_crew_limit_ns(worker, now_ns);
        int64_t stall_ns = nr_pool_crew_stall_ns(worker, anyone_idle);
        if (each_ns > stall_ns)
            each_ns = stall_ns;
        if (nr_pool_crew_is_idle_in_vain(worker) && each_ns > now_ns + NR_POOL_NUDGE_NS)
            each_ns = now_ns + NR_POOL_NUDGE_NS;
        if (each_ns < due_ns)
            due_ns = each_ns;
    }
    return due_ns;
}

static void nr_pool_crew_relieve(struct naru_pool *pool, struct nr_pool_worker *worker,
                                 int64_t now_ns)
{
    if (pool->task_ns < now_ns - worker->since_ns)
        pool->task_ns = now_ns - worker->since_ns;
    nr_pool_crew_take_back(pool, worker);
}

void nr_pool_crew_tick(struct naru_pool *pool, int64_t now_ns)
{
    bool anyone_idle = nr_pool_crew_anyone_idle(pool);

    for (uint32_t i = 0; i < pool->workers_count; i++) {
        struct nr_pool_worker *worker = &pool->workers[i];
        if (worker->state == NARU_WORKER_GONE) {
            bool is_due = worker->start_ns <= now_ns;
            if (is_due && pool->starts_at_once)
                nr_pool_start_seat(pool, worker);
            else if (is_due)
                worker->start_ns = 0;
            continue;
        }
        nr_pool_crew_check(worker);
        nr_pool_crew_nudge(worker, now_ns);
        if (nr_pool_crew_limit_ns(worker, now_ns) <= now_ns)
            nr_pool_crew_kill(worker, NARU_POOL_TIMED_OUT);
        else if (nr_pool_crew_stall_ns(worker, anyone_idle) <= now_ns)
            nr_pool_crew_relieve(pool, worker, now_ns);
    }
    nr_pool_start_launch(pool);
}

int nr_pool_crew_setback(struct naru_pool *pool)
{
    bool is_first = !pool->has_started && pool->failed_starts;

    if (!is_first && pool->failed_starts < NR_POOL_FAILURES_MOST + pool->workers_count)
        return 0;
    for (uint32_t i = 0; i < pool->workers_count; i++)
        if (pool->workers[i].state == NARU_WORKER_IDLE && pool->workers[i].answers)
            return 0;
    pool->failed_starts = 0;
    if (pool->setback == -EOWNERDEAD)
        return nr_fail(-EOWNERDEAD, "no worker gets as far as a task; the latest: %s",
                       pool->setback_text);
    return nr_fail(pool->setback, "no worker can be started: %s", pool->setback_text);
}

/* -- the end ---------------------------------------------------------------------------------- */

/* One that rests, and has no exit hook to run, has nothing left to do: a signal ends it in one step, where it would have
   to wake up first to be told. */
static void nr_pool_crew_dismiss(const struct naru_pool *pool, struct nr_pool_worker *worker)
{
    bool is_free = !worker->given.count && !worker->is_damaged && !worker->is_closed;

    if (!worker->child)
        return;
    if (is_free && !pool->options.exit && nr_desk_is_at_rest(&worker->desk))
        is_free = false;
    if (!is_free || nr_desk_put(&worker->desk, NR_DESK_QUIT, NULL, 0) < 0)
        naru_child_signal(worker->child, NR_OS_SIGKILL);
    else
        nr_pool_deal_wake(worker, NR_DESK_HAS_TASK);
}

void nr_pool_crew_end(struct naru_pool *pool)
{
    struct nr_deadline grace = nr_deadline_in(pool->options.grace_ns);

    for (uint32_t i = 0; i < pool->workers_count; i++)
        nr_pool_crew_dismiss(pool, &pool->workers[i]);
    for (uint32_t i = 0; i < pool->workers_count; i++) {
        struct nr_pool_worker *worker = &pool->workers[i];
        if (!worker->child)
            continue;
        naru_child_wait(worker->child, NULL, nr_deadline_left_ns(&grace));
        naru_child_close(worker->child); /* kills it if it lives */
        worker->child = NULL;
        nr_pool_start_clear_desk(worker);
    }
}

void nr_pool_crew_abandon(struct naru_pool *pool)
{
    for (uint32_t i = 0; i < pool->workers_count; i++) {
        naru_child_close(pool->workers[i].child);
        pool->workers[i].child = NULL;
        pool->workers[i].memory = NULL; /* a child has no desks */
    }
}
