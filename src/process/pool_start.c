/* SPDX-License-Identifier: MIT */
/*
 * pool_start -- workers are started: a desk, the tasks that stand there already, and then a process
 *
 * When       An init hook, or the option starts_at_once: all of them, always. Else one is started when there is a task
 *            that no other is free for. It finds that task on its desk, and need not be woken for it.
 * Desk       Each worker's is a mapping of its own, which only the fork of that worker hands down. Its memory is promised by
 *            the kernel when it is made, and pages that no task needs never come to be. A zygote's child, which does
 *            not inherit it, gets a descriptor of it. The next worker gets a new desk: so nothing that a dead or wild one
 *            has written meets its successor.
 * Fork       Those that are to be started are forked one right behind the other (spawn_group.c).
 * Restart    At once, as long as workers get as far as a task; else later and later, up to a second.
 */
#include "os/io.h"
#include "os/memory.h"
#include "process/pool.h"
#include "process/process.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NR_POOL_RESTART_FIRST_NS = 10000000, /* doubled with each failure */
    NR_POOL_RESTART_SHIFT_MOST = 7,
};

/* -- desks ------------------------------------------------------------------------------------ */

void nr_pool_start_clear_desk(struct nr_pool_worker *worker)
{
    nr_os_memory_unmap(worker->memory, nr_desk_bytes());
    worker->memory = NULL;
    nr_os_close(&worker->memory_fd);
}

static int nr_pool_start_desk_with_fd(struct nr_pool_worker *worker)
{
    int fd = nr_os_memory_anonymous("naru-pool");

    if (fd < 0)
        return fd;
    int result = nr_os_memory_reserve(fd, nr_desk_bytes());
    if (result == 0)
        result = nr_os_memory_seal(fd);
    if (result == 0)
        result = nr_os_memory_map(fd, nr_desk_bytes(), true, &worker->memory);
    if (result < 0)
        nr_os_close(&fd);
    worker->memory_fd = fd;
    return result;
}

static int nr_pool_start_desk(const struct naru_pool *pool, struct nr_pool_worker *worker)
{
    int result;

    worker->memory_fd = -1;
    if (pool->spawn.zygote)
        result = nr_pool_start_desk_with_fd(worker);
    else
        result = nr_os_memory_map_promised(nr_desk_bytes(), &worker->memory);
    if (result < 0)
        return nr_fail(result, "can't make a desk for a worker: %s", nr_error_name(result));
    nr_os_memory_hide(worker->memory, nr_desk_bytes());
    nr_desk_attach(&worker->desk, worker->memory, NR_DESK_OWNER);
    return 0;
}

/* -- seats ------------------------------------------------------------------------------------ */

void nr_pool_start_put_off(struct naru_pool *pool, struct nr_pool_worker *worker)
{
    unsigned shift = worker->failures++;

    pool->failed_starts++;
    if (shift > NR_POOL_RESTART_SHIFT_MOST)
        shift = NR_POOL_RESTART_SHIFT_MOST;
    worker->start_ns = nr_os_now_ns() + ((int64_t)NR_POOL_RESTART_FIRST_NS << shift);
}

/* With the text that is set. */
static void nr_pool_start_failed(struct naru_pool *pool, struct nr_pool_worker *worker, int result)
{
    pool->setback = result;
    snprintf(pool->setback_text, sizeof pool->setback_text, "%s", naru_error_text());
    nr_pool_start_unseat(pool, worker);
    nr_pool_start_put_off(pool, worker);
}

bool nr_pool_start_may(const struct naru_pool *pool, const struct nr_pool_worker *worker)
{
    return worker->state == NARU_WORKER_GONE && !pool->starts_at_once && !worker->start_ns;
}

void nr_pool_start_seat(struct naru_pool *pool, struct nr_pool_worker *worker)
{
    worker->answered = 0;
    worker->is_closed = worker->owes_resume = worker->is_damaged = false;
    worker->nudge_ns = 0;
    worker->verdict = 0;
    int result = nr_pool_start_desk(pool, worker);
    if (result < 0)
        nr_pool_start_failed(pool, worker, result);
    else
        worker->state = pool->options.init ? NARU_WORKER_STARTING : NARU_WORKER_IDLE;
}

void nr_pool_start_unseat(struct naru_pool *pool, struct nr_pool_worker *worker)
{
    while (worker->given.last)
        nr_pool_crew_give_back(pool, worker, worker->given.last);
    worker->feeding = NULL;
    worker->is_closed = worker->owes_resume = worker->must_wake = false;
    nr_pool_start_clear_desk(worker);
    naru_child_close(worker->child);
    worker->child = NULL;
    worker->pid = 0;
    worker->state = NARU_WORKER_GONE;
    worker->start_ns = 0;
}

/* -- processes -------------------------------------------------------------------------------- */

static struct nr_pool_brief nr_pool_start_brief(const struct naru_pool *pool,
                                                const struct nr_pool_worker *worker)
{
    return (struct nr_pool_brief){
        .work = pool->work,
        .context = pool->context,
        .init = pool->options.init,
        .exit = pool->options.exit,
        .worker = (uint32_t)(worker - pool->workers),
        .recycle_tasks = pool->options.recycle_tasks,
        .recycle_rss_bytes = pool->options.recycle_rss_bytes,
        .memory = worker->memory,
        .memory_fd = worker->memory_fd,
        .bell_fd = pool->bell_fd,
    };
}

/* The user's spawn options, with what workers need besides; `fds` is theirs. NULL: no memory. */
static struct naru_spawn_fd *nr_pool_start_options(const struct naru_pool *pool,
                                                   struct naru_spawn_options *ret)
{
    *ret = pool->spawn;
    struct naru_spawn_fd *fds = calloc(ret->fds_count + 2, sizeof *fds);
    if (!fds)
        return NULL;
    if (ret->fds_count)
        memcpy(fds, ret->fds, ret->fds_count * sizeof *fds);
    fds[ret->fds_count++] = (struct naru_spawn_fd){pool->bell_fd, pool->bell_fd};
    ret->fds = fds;
    return fds;
}

/* It has a process, and is watched. */
static void nr_pool_start_began(struct naru_pool *pool, struct nr_pool_worker *worker)
{
    uint32_t index = (uint32_t)(worker - pool->workers);
    int result =
        nr_os_epoll_add_tagged(pool->epoll_fd, naru_child_fd(worker->child), NR_READABLE, index);

    if (result < 0) {
        nr_fail(result, "can't watch a worker: %s", nr_error_name(result));
        nr_pool_start_failed(pool, worker, result);
        return;
    }
    pool->has_started = true;
    worker->pid = naru_child_pid(worker->child);
    worker->since_ns = nr_os_now_ns();
    for (struct nr_pool_task *task = worker->given.first; task; task = task->next)
        task->worker_pid = worker->pid;
}

/* By naru_spawn(), which waits until what may fail in the child has not failed. */
static void nr_pool_start_one(struct naru_pool *pool, struct nr_pool_worker *worker)
{
    struct nr_pool_brief brief = nr_pool_start_brief(pool, worker);
    struct naru_spawn_options spawn;
    nr_cleanup_free struct naru_spawn_fd *fds = nr_pool_start_options(pool, &spawn);
    uint32_t cpu;
    int result = -ENOMEM;

    if (spawn.zygote && fds) { /* which has not got our memory */
        fds[spawn.fds_count++] = (struct naru_spawn_fd){brief.memory_fd, brief.memory_fd};
        spawn.context_size_bytes = sizeof brief;
    }
    int chosen = pool->options.pin ? nr_os_cpu(brief.worker) : -1;
    if (chosen >= 0) {
        cpu = (uint32_t)chosen;
        spawn.cpus = &cpu;
        spawn.cpus_count = 1;
    }
    nr_os_memory_show(worker->memory, nr_desk_bytes());
    if (fds)
        result = naru_spawn(&worker->child, nr_pool_work_run, &brief, &spawn);
    else
        nr_fail(result, "no memory to start a worker");
    nr_os_memory_hide(worker->memory, nr_desk_bytes());
    nr_os_close(&worker->memory_fd);
    if (result < 0)
        nr_pool_start_failed(pool, worker, result);
    else
        nr_pool_start_began(pool, worker);
}

static bool nr_pool_start_is_due(const struct nr_pool_worker *worker)
{
    return worker->memory && !worker->child;
}

static void nr_pool_start_group(struct naru_pool *pool)
{
    static const size_t most = NR_SPAWN_GROUP_MOST;
    struct nr_spawn_birth births[NR_SPAWN_GROUP_MOST];
    struct nr_pool_brief briefs[NR_SPAWN_GROUP_MOST];
    struct nr_pool_worker *workers[NR_SPAWN_GROUP_MOST];
    struct naru_spawn_options spawn;
    size_t count = 0;

    nr_cleanup_free struct naru_spawn_fd *fds = nr_pool_start_options(pool, &spawn);
    for (uint32_t i = 0; i < pool->workers_count && count < most; i++) {
        struct nr_pool_worker *worker = &pool->workers[i];
        if (!nr_pool_start_is_due(worker))
            continue;
        workers[count] = worker;
        briefs[count] = nr_pool_start_brief(pool, worker);
        births[count] = (struct nr_spawn_birth){.context = &briefs[count],
                                                .memory = worker->memory,
                                                .memory_bytes = nr_desk_bytes(),
                                                .gate = nr_desk_door(&worker->desk)};
        count++;
    }
    int result = fds ? nr_spawn_group(births, count, nr_pool_work_run, &spawn)
                     : nr_fail(-ENOMEM, "no memory to start workers");
    for (size_t i = 0; i < count; i++) {
        workers[i]->child = births[i].child;
        if (births[i].child)
            nr_pool_start_began(pool, workers[i]);
        else
            nr_pool_start_failed(pool, workers[i], result);
    }
}

void nr_pool_start_launch(struct naru_pool *pool)
{
    bool as_group = !pool->options.pin && nr_spawn_group_may(&pool->spawn);

    for (uint32_t i = 0; i < pool->workers_count; i++) {
        struct nr_pool_worker *worker = &pool->workers[i];
        if (!nr_pool_start_is_due(worker))
            continue;
        if (as_group)
            nr_pool_start_group(pool);
        else
            nr_pool_start_one(pool, worker);
    }
}
