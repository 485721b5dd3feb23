/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * pool -- worker processes that are given tasks, whatever happens to the workers
 *
 * What       The owner submits tasks, that is bytes; a function in one of the pool's workers does each of them; its
 *            results, bytes again and a number, come back, as they come or in order. Sizes are not limited.
 * Promise    Each task is answered exactly once: by its result, or by the reason why there is none. It is given to
 *            the function again only when the worker that had begun it has died.
 * Death      A worker that dies (crash, exit(), kill -9, out of memory) is replaced. The task that it was doing goes to
 *            another one; after options.deaths_max deaths it is set aside, with the cause of the last. Results
 *            that it had given stay; tasks that it had not begun go to others and count no death.
 * Owner      The process that made the pool. When it dies, its workers die.
 * Workers    are forked by naru_spawn(), at any time: they have the owner's memory as it is then, and nothing of it but
 *            that; see process.h for descriptors and signals. A worker does one task at a time.
 * Blocking   Calls with a time-out may wait; while they do, they look after the workers. Nothing happens to a pool
 *            between calls: no thread and no signal works in the owner.
 * Threads    One thread at a time. naru_pool_interrupt() may be called by any.
 * Fork       In a forked child every call returns -ECHILD, and naru_pool_free() only gives memory and descriptors back.
 * Signals    No function here is async-signal-safe, except naru_pool_interrupt().
 */
#include <naru/process.h>

#ifdef __cplusplus
extern "C" {
#endif

struct naru_pool;

/* -- in the worker ---------------------------------------------------------------------------- */

struct naru_pool_task {
    const void
        *data; /* as submitted, aligned for any type; the worker's own until the function returns */
    size_t size_bytes;
    uint64_t number;  /* as naru_pool_submit() gave it */
    uint32_t attempt; /* 1; more: so many workers less one have died with it */
    uint32_t worker;  /* the index of this worker, from 0 */
    uint64_t internal[4];
};

/*
 * Does one task. What it has given to naru_pool_reply() is the result. It returns the result's code: >= 0 the
 * task counts as done, < 0 as failed.
 */
typedef int naru_pool_work(struct naru_pool_task *task, void *context);

/*
 * Adds to the task's result; may be called several times. Waits while the owner has no room for it.
 * Errors: -ECHILD a process that the function has forked; -EINVAL not a task in work.
 */
NARU_API int naru_pool_reply(struct naru_pool_task *task, const void *data, size_t size_bytes);

/* -- the pool --------------------------------------------------------------------------------- */

enum naru_pool_order {
    NARU_AS_THEY_COME = 0, /* results are handed out as they come (default) */
    NARU_IN_ORDER = 1,     /* in the order in which the tasks were submitted */
};

/*
 * Options. Zero is the default everywhere, so start with
 *     struct naru_pool_options options = {.size_bytes = sizeof options};
 */
struct naru_pool_options {
    size_t size_bytes;      /* sizeof(struct naru_pool_options) */
    uint32_t workers_count; /* 1..1024; default: one for each processor */
    enum naru_pool_order order;
    uint32_t deaths_max; /* workers that may die with a task before it is set aside; default 3 */
    uint32_t tasks_max;  /* submitted and not answered: more must wait; default 65,536 */
    uint32_t
        results_max; /* answered and not fetched: more tasks are not given out; default 65,536 */
    uint32_t recycle_tasks; /* a worker is replaced after so many tasks; default: never */
    size_t
        recycle_rss_bytes; /* and when its memory is larger than this after a task; default: never */
    int64_t
        time_limit_ns; /* for a task: then its worker is killed, the task not tried again; default: none */
    int64_t grace_ns; /* naru_pool_free(): how long workers may take to end; default 2 s */
    uint32_t pin;     /* 1: each worker keeps to one processor, in turn */
    uint32_t
        starts_at_once; /* 1: naru_pool_new() starts all workers; default: if there is an init hook */
    int (*init)(uint32_t worker, void *context); /* in a new worker; < 0: it can't work, and ends */
    void (*exit)(uint32_t worker,
                 void *context); /* in a worker that ends because it is to: not at a death */
    const struct naru_spawn_options
        *spawn; /* limits, nice, directory, ...: not ends, readiness, survives_parent */
    uint64_t reserved[8];
};

/*
 * Makes a pool. A worker is started when there is a task that no other one is free for; with an init hook, or
 * starts_at_once, all are started now, and always. `context` is handed to the functions in the workers. *options are
 * copied, what they point to is not, and has to last as long as the pool. Errors: -EINVAL an option; those of
 * naru_spawn(), when all were to be started and not one could be: then nothing is left behind.
 */
NARU_API int naru_pool_new(struct naru_pool **ret, naru_pool_work *work, void *context,
                           const struct naru_pool_options *options);

/*
 * Ends the pool. Idle workers run their exit hook and end, or are killed if there is none, when what they have printed
 * is written; those in a task, or that take longer than grace_ns, are killed. Tasks that are not answered are
 * dropped: to wait for them, call naru_pool_next() until -ENODATA. All workers are gone when it returns. NULL is
 * allowed.
 */
NARU_API void naru_pool_free(struct naru_pool *pool);

/*
 * Submits a task, whose bytes are copied. Short tasks that come one behind the other are given to workers some at a time,
 * the rest in the next call of naru_pool_step() or naru_pool_next(). Waits while there are options.tasks_max, up to the time-out. *ret_number (NULL
 * allowed) is its number: they count up from 0. Errors: -EAGAIN, -ETIMEDOUT no room; -ENOBUFS options.results_max
 * results wait: fetch them first; -ENOMEM; -EINTR after naru_pool_interrupt(); -EOWNERDEAD, and those of naru_spawn():
 * there is no worker, see naru_pool_next().
 */
NARU_API int naru_pool_submit(struct naru_pool *pool, const void *data, size_t size_bytes,
                              uint64_t *ret_number, int64_t timeout_ns);

/* A task with what else may be said about it. */
struct naru_pool_input {
    const void *data;
    size_t size_bytes;
    uint64_t tag;          /* the user's own: comes back with the result */
    int64_t time_limit_ns; /* 0: the pool's; NARU_FOREVER: none */
    uint64_t reserved[2];
};

/* Submits up to `count` tasks; waits only for the first. Returns how many, at least 1; *ret_first is the number of the
   first. */
NARU_API int naru_pool_submit_many(struct naru_pool *pool, const struct naru_pool_input *inputs,
                                   size_t count, uint64_t *ret_first, int64_t timeout_ns);

enum naru_pool_outcome {
    NARU_POOL_DONE = 1, /* the function returned code >= 0 */
    NARU_POOL_FAILED,   /* code < 0 */
    NARU_POOL_SET_ASIDE, /* options.deaths_max workers have died with it: the cause of the last is in *death */
    NARU_POOL_TIMED_OUT, /* its time limit was over, and its worker was killed */
    NARU_POOL_CANCELLED, /* by naru_pool_cancel() */
};

struct naru_pool_result {
    uint64_t number, tag;
    enum naru_pool_outcome outcome;
    int32_t code;     /* what the function returned */
    const void *data; /* what it replied, aligned for any type; NULL if nothing */
    size_t size_bytes;
    uint32_t deaths;                /* workers that have died with this task */
    int32_t worker_pid;             /* of the worker that had it last; 0: none had */
    const struct naru_death *death; /* the last of these deaths; NULL: none */
    uint64_t reserved[4];
};

/*
 * The next result. What it points to is valid until the next call of naru_pool_next(), naru_pool_next_many(),
 * naru_pool_map(), naru_pool_reduce() or naru_pool_free(). Errors: -EAGAIN, -ETIMEDOUT none yet; -ENODATA there is no
 * task left to wait for; -EINTR; -EOWNERDEAD the workers die one after the other without getting as far as a task, or
 * what naru_spawn() said when none can be started: the text tells why; tasks stay, and the next call tries again.
 */
NARU_API int naru_pool_next(struct naru_pool *pool, struct naru_pool_result *ret,
                            int64_t timeout_ns);

/* Up to `count` results that are there; waits only for the first. Returns how many, at least 1. */
NARU_API int naru_pool_next_many(struct naru_pool *pool, struct naru_pool_result *results,
                                 size_t count, int64_t timeout_ns);

/* Items of one size, one behind the other. */
struct naru_pool_array {
    void *data;
    size_t item_bytes, count;
};

/*
 * Each item becomes a task, and its result, of just results->item_bytes, stands at the same place in `results`. Returns
 * how many items have none (not done, or the result has another size: zeroed), 0 if all is well; the text tells of the
 * first. Errors: -EBUSY there are tasks that were submitted otherwise; as naru_pool_next(): the rest was cancelled then.
 */
NARU_API int naru_pool_map(struct naru_pool *pool, const struct naru_pool_array *items,
                           const struct naru_pool_array *results, int64_t timeout_ns);

/* Takes a result into the accumulator, in the owner. < 0: stop. */
typedef int naru_pool_fold(void *accumulator, const struct naru_pool_result *result);

/*
 * Each item becomes a task; each result, of whatever outcome, is folded, in the pool's order; its number is
 * the item's index. 0, or the negative value that `fold` returned (the rest was cancelled), or an error as above.
 */
NARU_API int naru_pool_reduce(struct naru_pool *pool, const struct naru_pool_array *items,
                              naru_pool_fold *fold, void *accumulator, int64_t timeout_ns);

/*
 * Cancels a task: it is answered with NARU_POOL_CANCELLED; if a worker is at it, that worker is killed and replaced.
 * NARU_POOL_ALL: all tasks. Errors: -ENOENT it is answered already, or there is none of that number.
 */
#define NARU_POOL_ALL UINT64_MAX
NARU_API int naru_pool_cancel(struct naru_pool *pool, uint64_t number);

/*
 * A descriptor for the caller's own epoll loop, readable when there is something to do: then call naru_pool_step(), or
 * naru_pool_next() with a time-out of 0, until -EAGAIN. May be readable for nothing. Belongs to the pool.
 * naru_pool_step() looks after the workers without waiting; it returns 1 if a result can be fetched, else 0.
 */
NARU_API int naru_pool_fd(struct naru_pool *pool);
NARU_API int naru_pool_step(struct naru_pool *pool);

/* Ends the wait that the pool's thread is in, or its next one, with -EINTR. Async-signal-safe, any thread. */
NARU_API int naru_pool_interrupt(struct naru_pool *pool);

struct naru_pool_stat {
    size_t size_bytes; /* sizeof(struct naru_pool_stat), set by the caller */
    uint64_t submitted;
    uint64_t done, failed, set_aside, timed_out, cancelled; /* answered, by outcome */
    uint64_t waiting;                                       /* not begun */
    uint64_t running;                                       /* begun */
    uint64_t unfetched;                                     /* answered, and not handed out yet */
    uint64_t deaths, recycled,
        retries; /* workers that died, that were replaced as the options say; tasks given again */
    uint32_t workers_count, workers_alive;
    uint64_t reserved[8];
};

/* Fills *stat. Never blocks. */
NARU_API int naru_pool_stat(struct naru_pool *pool, struct naru_pool_stat *stat);

enum naru_pool_worker_state {
    NARU_WORKER_GONE = 1, /* not started yet, being replaced, or waiting until it can be */
    NARU_WORKER_STARTING, /* in its init hook */
    NARU_WORKER_IDLE,
    NARU_WORKER_BUSY,
    NARU_WORKER_ENDING,
};

struct naru_pool_worker {
    size_t size_bytes; /* sizeof(struct naru_pool_worker), set by the caller */
    enum naru_pool_worker_state state;
    int32_t pid;      /* 0: gone */
    uint64_t number;  /* busy: the task */
    uint64_t answers; /* of all the processes that have been this worker */
    uint64_t deaths;
    uint64_t reserved[4];
};

/* Fills *worker with the state of the index-th worker; -ENOENT beyond the last. Never blocks. */
NARU_API int naru_pool_worker(struct naru_pool *pool, uint32_t index,
                              struct naru_pool_worker *worker);

#ifdef __cplusplus
}
#endif
