/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * pool -- the inside of naru_pool: what its files share
 *
 * pool.c         made, looked at, cancelled, freed
 * pool_task.c    tasks: their memory, the queues they stand in, the order of results
 * pool_start.c   workers: started
 * pool_crew.c    workers: buried, timed, ended
 * pool_deal.c    tasks go to the workers
 * pool_collect.c results come back; the owner's sleep
 * pool_flow.c    submit and next
 * pool_map.c     map and reduce
 * pool_work.c    the worker's side
 *
 * Life of a task   waiting -> given to a worker -> finished -> handed out. It stands in exactly one queue, and only
 *                  nr_pool_task_finish() takes it to `finished`: so it is answered once.
 * Death of a worker   Its desk is read to the end; then what is still in its queue goes back to the front of those
 *                  that wait. The first of them was begun if the desk's turn says so, and then this death is counted for it.
 * Trust            A worker's desk is all that it can damage (data/desk.h); what makes no sense there ends the worker.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "data/desk.h"
#include "os/clock.h"
#include "os/process.h"
#include <naru/pool.h>

enum {
    NR_POOL_SMALL_BYTES = 48, /* payloads that stand in the task itself */
    NR_POOL_WORKERS_MOST = 1024,
    NR_POOL_WINDOW_MOST = 256, /* tasks at one worker */
    NR_POOL_WINDOW_NS =
        1000000, /* as many as take so long; what waits longer behind one is taken away */
    NR_POOL_GRAIN_NS = 20000, /* work that is worth waking a worker for */
    NR_POOL_LAZY = 32,        /* short tasks that are submitted before they are dealt out */
    NR_POOL_TICK_NS = 1000000,
};

struct nr_pool_task {
    struct nr_pool_task *next, *previous;
    uint64_t number, tag;
    int64_t time_limit_ns; /* < 0: none */
    const char *data;
    size_t size_bytes;
    char *own; /* memory of `data`, if it is that large */
    char *result;
    size_t result_bytes, result_room_bytes;
    struct naru_death *death;
    enum naru_pool_outcome outcome;
    int32_t code;
    uint32_t deaths;
    int32_t worker_pid;
    bool lacks_memory; /* the result was larger than there is */
    bool is_suspect;   /* it, or another one there, has spoilt a desk: next time it is alone */
    _Alignas(16) char small[NR_POOL_SMALL_BYTES];
    _Alignas(16) char small_result[NR_POOL_SMALL_BYTES];
};

struct nr_pool_queue {
    struct nr_pool_task *first, *last;
    size_t count;
};

struct nr_pool_worker {
    enum naru_pool_worker_state state; /* BUSY is IDLE here: see `given` */
    struct nr_desk desk;
    void *memory;  /* of the desk; NULL: none */
    int memory_fd; /* to be handed down by a zygote; -1 */
    struct naru_child *child;
    int32_t pid;
    struct nr_pool_queue given;   /* the oldest first, as the worker does them */
    uint32_t answered;            /* by this process; the turn says how many were begun */
    struct nr_pool_task *feeding; /* the last of `given`, which is not all at the desk yet */
    size_t fed_bytes;
    int64_t since_ns;  /* the first of `given` can't have been begun before, as far as we know */
    int64_t start_ns;  /* GONE: when to try again */
    unsigned failures; /* starts in a row that led to nothing */
    bool is_closed;    /* until RESUMED comes */
    bool owes_resume;  /* there was no room for RESUME yet */
    bool must_wake;    /* something was put on its desk */
    bool is_damaged;   /* it wrote garbage: the desk is not read any more */
    int64_t
        nudge_ns; /* when it was woken once more, since it does not begin what it was given; 0: not */
    enum naru_pool_outcome verdict; /* we have killed it; what that means for task number: */
    uint64_t verdict_number;
    uint64_t answers, deaths;
};

struct naru_pool {
    uint64_t owner; /* token */
    naru_pool_work *work;
    void *context;
    struct naru_pool_options options;
    struct naru_spawn_options spawn;
    struct nr_pool_worker *workers;
    uint32_t workers_count;
    bool starts_at_once; /* workers, whether there are tasks or not */

    struct nr_pool_queue waiting, finished, free;
    struct nr_pool_queue lent; /* handed out by the latest naru_pool_next() */
    size_t given_count;
    uint64_t next_number;
    uint64_t next_result; /* NARU_IN_ORDER: the number that is handed out next */
    struct naru_pool_stat stat;

    int64_t task_ns;   /* a moving estimate of what one takes; 0: unknown */
    int64_t ticked_ns; /* when deadlines were looked at */
    int64_t dealt_ns;  /* when tasks were given out last */
    unsigned hand_outs;

    int epoll_fd, bell_fd, timer_fd;
    int64_t timer_ns; /* what the timer is set to */
    bool is_interrupted;
    bool is_belled;         /* the bell is rung by ourselves, for a loop outside */
    bool has_started;       /* some worker, once */
    unsigned failed_starts; /* in a row, of all workers */
    int setback;            /* why the latest start failed */
    char setback_text[256];
};

/* Enters a public function: 0 or -ECHILD. */
int nr_pool_enter(const struct naru_pool *pool);
int nr_pool_leave(int result); /* a result with a sentence, if none was set */
void nr_pool_drop_all(
    struct naru_pool *pool); /* cancels all tasks, and waits until no worker is at one */

/* -- pool_task.c -- */

void nr_pool_queue_append(struct nr_pool_queue *queue, struct nr_pool_task *task);
void nr_pool_queue_put_before(struct nr_pool_queue *queue, struct nr_pool_task *place,
                              struct nr_pool_task *task); /* NULL: as the last */
void nr_pool_queue_remove(struct nr_pool_queue *queue, struct nr_pool_task *task);

/* `borrow`: the data stay where they are. NULL: no memory. */
struct nr_pool_task *nr_pool_task_new(struct naru_pool *pool, const struct naru_pool_input *input,
                                      bool borrow);
void nr_pool_task_free(struct naru_pool *pool, struct nr_pool_task *task);
void nr_pool_task_end(struct naru_pool *pool); /* all of them, and their memory */

/* It is in no queue. */
void nr_pool_task_finish(struct naru_pool *pool, struct nr_pool_task *task,
                         enum naru_pool_outcome outcome);
void nr_pool_task_add_result(struct nr_pool_task *task, const void *data, size_t size_bytes);
void nr_pool_task_forget_result(struct nr_pool_task *task);

/* A result can be handed out now. */
bool nr_pool_task_is_ready(const struct naru_pool *pool);
/* May this one be given out, or are there too many results already? */
bool nr_pool_task_may_go(const struct naru_pool *pool, const struct nr_pool_task *task);

/* -- pool_start.c -- */

/* Has it been left to the next task to start it, and is it not put off? */
bool nr_pool_start_may(const struct naru_pool *pool, const struct nr_pool_worker *worker);
/* A desk, to which tasks may be dealt; it has no process before nr_pool_start_launch(), which starts all that are
   seated. What fails is put off, and pool->setback tells why. */
void nr_pool_start_seat(struct naru_pool *pool, struct nr_pool_worker *worker);
void nr_pool_start_launch(struct naru_pool *pool);
void nr_pool_start_put_off(struct naru_pool *pool, struct nr_pool_worker *worker);
/* Its tasks go back, its child is closed, its desk goes: it is GONE. */
void nr_pool_start_unseat(struct naru_pool *pool, struct nr_pool_worker *worker);
void nr_pool_start_clear_desk(struct nr_pool_worker *worker);

/* -- pool_crew.c -- */

void nr_pool_crew_bury(struct naru_pool *pool, struct nr_pool_worker *worker);
void nr_pool_crew_kill(struct nr_pool_worker *worker, enum naru_pool_outcome verdict);
void nr_pool_crew_condemn(struct nr_pool_worker *worker);
/* Takes back what it has not begun. */
void nr_pool_crew_take_back(struct naru_pool *pool, struct nr_pool_worker *worker);
void nr_pool_crew_give_back(struct naru_pool *pool, struct nr_pool_worker *worker,
                            struct nr_pool_task *task); /* to the front of those that wait */
bool nr_pool_crew_is_in_task(const struct nr_pool_worker *worker);

/* Time limits, starts that were put off, tasks behind a long one. And when that is due next; INT64_MAX: never. */
void nr_pool_crew_tick(struct naru_pool *pool, int64_t now_ns);
int64_t nr_pool_crew_due_ns(const struct naru_pool *pool);
/* < 0: there is nobody to do the tasks; sets the text. The next call begins to count again. */
int nr_pool_crew_setback(struct naru_pool *pool);
void nr_pool_crew_end(struct naru_pool *pool);
void nr_pool_crew_abandon(struct naru_pool *pool); /* in a forked child */

/* -- pool_deal.c -- */

void nr_pool_deal(struct naru_pool *pool);
void nr_pool_deal_go_on(struct nr_pool_worker *worker); /* with what its desk had no room for */
void nr_pool_deal_wake(struct nr_pool_worker *worker, enum nr_desk_gate gate);

/* -- pool_collect.c -- */

void nr_pool_collect_worker(struct naru_pool *pool, struct nr_pool_worker *worker);
void nr_pool_collect_step(struct naru_pool *pool);

/* Sleeps until something may have changed. 0: look again. -EAGAIN, -ETIMEDOUT, -EINTR. */
int nr_pool_collect_sleep(struct naru_pool *pool, struct nr_deadline *deadline);
/* Something was changed by a call that does not look after the workers: a loop outside must. */
void nr_pool_collect_call_back(struct naru_pool *pool);
int nr_pool_collect_watch_bell(struct naru_pool *pool);
int nr_pool_collect_fd(struct naru_pool *pool);

/* -- pool_flow.c -- */

int nr_pool_flow_submit(struct naru_pool *pool, const struct naru_pool_input *input, bool borrow);
void nr_pool_flow_describe(const struct nr_pool_task *task, struct naru_pool_result *ret);
void nr_pool_flow_return(struct naru_pool *pool); /* what was lent is not valid any more */
/* The next finished task, in no queue; waits. */
int nr_pool_flow_take(struct naru_pool *pool, struct nr_pool_task **ret,
                      struct nr_deadline *deadline);

/* -- pool_work.c -- */

/* What a worker is told. */
struct nr_pool_brief {
    naru_pool_work *work;
    void *context;
    int (*init)(uint32_t worker, void *context);
    void (*exit)(uint32_t worker, void *context);
    uint32_t worker, recycle_tasks;
    uint64_t recycle_rss_bytes;
    void *memory;               /* the desk, unless there is a descriptor of it */
    int32_t memory_fd, bell_fd; /* -1 */
};

int nr_pool_work_run(void *brief);
