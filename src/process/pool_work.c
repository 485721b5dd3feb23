/* SPDX-License-Identifier: MIT */
/*
 * pool_work -- the worker's side: takes tasks from its desk, and puts results there
 *
 * Death      At any instruction: the owner finds whole messages on the desk, and the turn. A worker whose owner dies
 *            is killed by the kernel (naru_spawn()).
 * Fork       A process that the task's function has forked has no desk (MADV_DONTFORK), is told so by
 *            naru_pool_reply(), and ends if it returns from the function.
 * Result     Every result is on the desk before the next task is begun, so that a death loses none.
 */
#include "os/futex.h"
#include "os/io.h"
#include "os/memory.h"
#include "os/signal.h"
#include "os/spawn.h"
#include "process/pool.h"
#include <stdlib.h>
#include <string.h>

/* One in a worker's process. */
static struct nr_pool_station {
    uint64_t owner; /* token */
    struct nr_pool_brief brief;
    struct nr_desk desk;
    struct naru_pool_task task;
    bool is_working;
    char *parts; /* what has come of the next task */
    size_t parts_bytes, parts_room_bytes;
    bool lacks_memory; /* for that */
    uint64_t done;
    int64_t checked_ns; /* its memory */
    size_t reply_bytes;
    char reply[NR_DESK_PART_BYTES];
} * nr_pool_here;

/* -- waiting and waking ----------------------------------------------------------------------- */

static void nr_pool_work_sleep(struct nr_pool_station *here, enum nr_desk_gate gate, uint32_t word)
{
    const struct nr_os_futex_word sleep = {nr_desk_gate_address(&here->desk, gate), word};
    struct nr_deadline never = nr_deadline_in(NARU_FOREVER);

    nr_os_futex_wait(&sleep, 1, &never);
}

static void nr_pool_work_tell(struct nr_pool_station *here, enum nr_desk_gate gate)
{
    /* Without a bell (the task has closed it) the owner is told by our death. */
    if (nr_desk_must_wake(&here->desk, gate) && nr_os_eventfd_try(here->brief.bell_fd) < 0)
        nr_os_exit(1);
}

static void nr_pool_work_put(struct nr_pool_station *here, uint64_t header, const void *data,
                             size_t size_bytes)
{
    while (nr_desk_put(&here->desk, header, data, size_bytes) < 0) {
        uint32_t word = nr_desk_prepare(&here->desk, NR_DESK_HAS_ROOM);
        if (nr_desk_put(&here->desk, header, data, size_bytes) == 0)
            break;
        nr_pool_work_sleep(here, NR_DESK_HAS_ROOM, word);
    }
    nr_pool_work_tell(here, NR_DESK_HAS_RESULT);
}

static void nr_pool_work_get(struct nr_pool_station *here, struct nr_desk_message *ret)
{
    int result;

    while ((result = nr_desk_get(&here->desk, ret)) == -EAGAIN) {
        nr_os_stdio_flush(); /* so that it may be ended where it rests */
        nr_desk_rest(&here->desk);
        uint32_t word = nr_desk_prepare(&here->desk, NR_DESK_HAS_TASK);
        if (!nr_desk_may_get(&here->desk))
            nr_pool_work_sleep(here, NR_DESK_HAS_TASK, word);
    }
    if (result < 0) /* a task has spoilt it; a new worker gets a new desk */
        nr_os_exit(1);
}

/* -- replying --------------------------------------------------------------------------------- */

static uint64_t nr_pool_work_header(const struct nr_pool_station *here, enum nr_desk_kind kind,
                                    int32_t code)
{
    return nr_desk_result_header(kind, here->task.number, code);
}

int naru_pool_reply(struct naru_pool_task *task, const void *data, size_t size_bytes)
{
    struct nr_pool_station *here = nr_pool_here;
    const char *from = data;

    nr_error_clear();
    if (!here || task != &here->task || !here->is_working || (size_bytes && !data))
        return nr_fail(-EINVAL, "naru_pool_reply() takes the task that the pool's function was "
                                "called with, until it returns, and data");
    if (!nr_os_process_is(here->owner))
        return nr_fail(-ECHILD, "this process was forked by the worker; let the worker reply");
    while (size_bytes) {
        size_t room_bytes = sizeof here->reply - here->reply_bytes;
        size_t some_bytes = size_bytes < room_bytes ? size_bytes : room_bytes;
        /* Some is kept back, for the message that ends the result. */
        if (some_bytes < size_bytes && here->reply_bytes == 0) {
            nr_pool_work_put(here, nr_pool_work_header(here, NR_DESK_PART, 0), from, some_bytes);
        } else {
            memcpy(here->reply + here->reply_bytes, from, some_bytes);
            here->reply_bytes += some_bytes;
        }
        from += some_bytes;
        size_bytes -= some_bytes;
        if (size_bytes && here->reply_bytes == sizeof here->reply) {
            nr_pool_work_put(here, nr_pool_work_header(here, NR_DESK_PART, 0), here->reply,
                             here->reply_bytes);
            here->reply_bytes = 0;
        }
    }
    return 0;
}

/* -- tasks ------------------------------------------------------------------------------------ */

static void nr_pool_work_add_part(struct nr_pool_station *here,
                                  const struct nr_desk_message *message)
{
    size_t needed_bytes = here->parts_bytes + message->size_bytes;

    if (here->lacks_memory)
        return;
    if (needed_bytes > here->parts_room_bytes) {
        size_t room_bytes = needed_bytes * 2;
        char *room = realloc(here->parts, room_bytes);
        if (!room) {
            here->lacks_memory = true;
            return;
        }
        here->parts = room;
        here->parts_room_bytes = room_bytes;
    }
    memcpy(here->parts + here->parts_bytes, message->data, message->size_bytes);
    here->parts_bytes = needed_bytes;
}

static void nr_pool_work_forget_parts(struct nr_pool_station *here)
{
    if (here->parts_room_bytes > 64 * NR_DESK_PART_BYTES) { /* one that large may be rare */
        free(here->parts);
        here->parts = NULL;
        here->parts_room_bytes = 0;
    }
    here->parts_bytes = 0;
    here->lacks_memory = false;
}

static bool nr_pool_work_is_worn(struct nr_pool_station *here)
{
    const struct nr_pool_brief *brief = &here->brief;

    if (brief->recycle_tasks && here->done >= brief->recycle_tasks)
        return true;
    if (!brief->recycle_rss_bytes)
        return false;
    int64_t now_ns = nr_os_coarse_ns();
    if (now_ns == here->checked_ns) /* some milliseconds at least between two looks */
        return false;
    here->checked_ns = now_ns;
    return nr_os_resident_bytes() > brief->recycle_rss_bytes;
}

static void nr_pool_work_do(struct nr_pool_station *here, const struct nr_desk_message *message,
                            bool is_whole)
{
    here->task = (struct naru_pool_task){
        .data = is_whole ? message->data : here->parts,
        .size_bytes = is_whole ? message->size_bytes : here->parts_bytes,
        .number = nr_desk_task_number(message->header),
        .attempt = nr_desk_task_attempt(message->header),
        .worker = here->brief.worker,
    };
    here->reply_bytes = 0;
    here->is_working = true;
    int code = here->lacks_memory ? -ENOMEM : here->brief.work(&here->task, here->brief.context);
    if (!nr_os_process_is(here->owner))
        nr_os_exit(0);
    here->is_working = false;
    nr_pool_work_put(here, nr_pool_work_header(here, NR_DESK_DONE, code), here->reply,
                     here->reply_bytes);
    here->done++;
}

/* A message was taken: 1 a task was done, 0 go on, -1 quit. */
static int nr_pool_work_step(struct nr_pool_station *here, struct nr_desk_message *message)
{
    enum nr_desk_kind kind = nr_desk_kind(message->header);
    bool is_whole = !message->stands_apart && !here->parts_bytes && !here->lacks_memory;

    if (kind == NR_DESK_PART || (kind == NR_DESK_TASK && !is_whole))
        nr_pool_work_add_part(here, message);
    if (nr_desk_done(&here->desk, message))
        nr_pool_work_tell(here, NR_DESK_TAKES_TASK);
    switch (kind) {
    case NR_DESK_PART:
        return 0;
    case NR_DESK_TASK: {
        bool begins = nr_desk_begin(&here->desk);
        if (begins && nr_desk_task_is_timed(message->header))
            nr_desk_stamp(&here->desk, nr_os_now_ns());
        if (begins)
            nr_pool_work_do(here, message, is_whole);
        nr_pool_work_forget_parts(here);
        return begins;
    }
    case NR_DESK_RESUME:
        nr_pool_work_forget_parts(here);
        nr_desk_reopen(&here->desk);
        nr_pool_work_put(here, nr_desk_result_header(NR_DESK_RESUMED, 0, 0), NULL, 0);
        return 0;
    case NR_DESK_QUIT:
        return -1;
    default:
        nr_os_exit(1);
    }
}

/* -- the worker ------------------------------------------------------------------------------- */

static bool nr_pool_work_arrive(struct nr_pool_station *here, const struct nr_pool_brief *brief)
{
    void *memory = brief->memory;
    int fd = brief->memory_fd;

    if (fd >= 0) {
        int result = nr_os_memory_map(fd, nr_desk_bytes(), true, &memory);
        nr_os_close(&fd);
        if (result < 0)
            return false;
    }
    nr_os_memory_hide(memory, nr_desk_bytes());
    here->owner = nr_os_process_token_new();
    here->brief = *brief;
    here->is_working = here->lacks_memory = false;
    here->parts = NULL;
    here->parts_bytes = here->parts_room_bytes = 0;
    here->done = 0;
    here->checked_ns = 0;
    nr_desk_attach(&here->desk, memory, NR_DESK_WORKER);
    return here->owner;
}

/* The station stands on the stack, which a new process has pages of, and is not cleared where it need not be. */
int nr_pool_work_run(void *argument)
{
    struct nr_pool_station station, *here = nr_pool_here = &station;
    struct nr_desk_message message;
    int done = 0;

    if (!nr_pool_work_arrive(here, argument))
        return 1;
    const struct nr_pool_brief *brief = &here->brief;
    if (brief->init) {
        if (brief->init(brief->worker, brief->context) < 0)
            return 1;
        nr_pool_work_put(here, nr_desk_result_header(NR_DESK_READY, 0, 0), NULL, 0);
    }
    while (done >= 0 && !(done > 0 && nr_pool_work_is_worn(here))) {
        nr_pool_work_get(here, &message);
        done = nr_pool_work_step(here, &message);
    }
    if (done > 0)
        nr_pool_work_put(here, nr_desk_result_header(NR_DESK_RETIRING, 0, 0), NULL, 0);
    if (brief->exit)
        brief->exit(brief->worker, brief->context);
    return 0;
}
