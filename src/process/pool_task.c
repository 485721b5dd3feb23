/* SPDX-License-Identifier: MIT */
/*
 * pool_task -- tasks: their memory, the queues they stand in, the order of results
 *
 * Memory     A task that is done with goes to `free`, where the next one comes from; only large payloads are allocated.
 */
#include "process/pool.h"
#include <stdlib.h>
#include <string.h>

enum { NR_POOL_TASK_CHUNK = 64 * 1024, NR_POOL_TASK_SPARE = 4096 };

/* -- queues ----------------------------------------------------------------------------------- */

void nr_pool_queue_put_before(struct nr_pool_queue *queue, struct nr_pool_task *place,
                              struct nr_pool_task *task)
{
    task->next = place;
    task->previous = place ? place->previous : queue->last;
    *(task->previous ? &task->previous->next : &queue->first) = task;
    *(place ? &place->previous : &queue->last) = task;
    queue->count++;
}

void nr_pool_queue_append(struct nr_pool_queue *queue, struct nr_pool_task *task)
{
    nr_pool_queue_put_before(queue, NULL, task);
}

void nr_pool_queue_remove(struct nr_pool_queue *queue, struct nr_pool_task *task)
{
    *(task->previous ? &task->previous->next : &queue->first) = task->next;
    *(task->next ? &task->next->previous : &queue->last) = task->previous;
    queue->count--;
}

/* -- memory ----------------------------------------------------------------------------------- */

struct nr_pool_task *nr_pool_task_new(struct naru_pool *pool, const struct naru_pool_input *input,
                                      bool borrow)
{
    struct nr_pool_task *task = pool->free.first;

    if (task)
        nr_pool_queue_remove(&pool->free, task);
    else if (!(task = calloc(1, sizeof *task)))
        return NULL;
    task->size_bytes = input->size_bytes;
    task->data = input->data;
    if (!borrow && input->size_bytes) {
        char *room = task->small;
        if (input->size_bytes > sizeof task->small)
            room = task->own = malloc(input->size_bytes);
        if (!room) {
            nr_pool_queue_append(&pool->free, task);
            return NULL;
        }
        memcpy(room, input->data, input->size_bytes);
        task->data = room;
    }
    task->tag = input->tag;
    task->time_limit_ns = input->time_limit_ns          ? input->time_limit_ns
                          : pool->options.time_limit_ns ? pool->options.time_limit_ns
                                                        : NARU_FOREVER;
    task->number = pool->next_number++;
    return task;
}

void nr_pool_task_forget_result(struct nr_pool_task *task)
{
    if (task->result != task->small_result)
        free(task->result);
    task->result = NULL;
    task->result_bytes = task->result_room_bytes = 0;
    task->lacks_memory = false;
}

static void nr_pool_task_clear(struct nr_pool_task *task)
{
    nr_pool_task_forget_result(task);
    free(task->own);
    free(task->death);
    task->own = NULL;
    task->death = NULL;
    task->outcome = 0;
    task->code = 0;
    task->deaths = 0;
    task->is_suspect = false;
    task->worker_pid = 0;
}

void nr_pool_task_free(struct naru_pool *pool, struct nr_pool_task *task)
{
    nr_pool_task_clear(task);
    if (pool->free.count < NR_POOL_TASK_SPARE)
        nr_pool_queue_append(&pool->free, task);
    else
        free(task);
}

static void nr_pool_queue_end(struct nr_pool_queue *queue)
{
    for (struct nr_pool_task *task; (task = queue->first);) {
        nr_pool_queue_remove(queue, task);
        nr_pool_task_clear(task);
        free(task);
    }
}

void nr_pool_task_end(struct naru_pool *pool)
{
    for (uint32_t i = 0; i < pool->workers_count; i++)
        nr_pool_queue_end(&pool->workers[i].given);
    nr_pool_queue_end(&pool->waiting);
    nr_pool_queue_end(&pool->finished);
    nr_pool_queue_end(&pool->lent);
    nr_pool_queue_end(&pool->free);
}

/* -- results ---------------------------------------------------------------------------------- */

void nr_pool_task_add_result(struct nr_pool_task *task, const void *data, size_t size_bytes)
{
    size_t needed_bytes = task->result_bytes + size_bytes;

    if (task->lacks_memory || size_bytes == 0)
        return;
    if (!task->result && needed_bytes <= sizeof task->small_result) {
        task->result = task->small_result;
        task->result_room_bytes = sizeof task->small_result;
    }
    if (needed_bytes > task->result_room_bytes) {
        bool is_small = task->result == task->small_result;
        size_t room_bytes = needed_bytes > NR_POOL_TASK_CHUNK ? needed_bytes * 2 : needed_bytes;
        char *room = realloc(is_small ? NULL : task->result, room_bytes);
        if (!room) {
            nr_pool_task_forget_result(task);
            task->lacks_memory = true;
            return;
        }
        if (is_small)
            memcpy(room, task->small_result, task->result_bytes);
        task->result = room;
        task->result_room_bytes = room_bytes;
    }
    memcpy(task->result + task->result_bytes, data, size_bytes);
    task->result_bytes = needed_bytes;
}

static void nr_pool_task_count(struct naru_pool *pool, enum naru_pool_outcome outcome)
{
    uint64_t *const counters[] = {
        [NARU_POOL_DONE] = &pool->stat.done,
        [NARU_POOL_FAILED] = &pool->stat.failed,
        [NARU_POOL_SET_ASIDE] = &pool->stat.set_aside,
        [NARU_POOL_TIMED_OUT] = &pool->stat.timed_out,
        [NARU_POOL_CANCELLED] = &pool->stat.cancelled,
    };

    ++*counters[outcome];
}

void nr_pool_task_finish(struct naru_pool *pool, struct nr_pool_task *task,
                         enum naru_pool_outcome outcome)
{
    struct nr_pool_task *place = NULL;

    if (outcome != NARU_POOL_DONE && outcome != NARU_POOL_FAILED)
        nr_pool_task_forget_result(task);
    task->outcome = outcome;
    nr_pool_task_count(pool, outcome);
    /* They come nearly in order: look for the place from the end. */
    if (pool->options.order == NARU_IN_ORDER)
        for (struct nr_pool_task *last = pool->finished.last; last && last->number > task->number;
             last = last->previous)
            place = last;
    nr_pool_queue_put_before(&pool->finished, place, task);
}

bool nr_pool_task_is_ready(const struct naru_pool *pool)
{
    const struct nr_pool_task *first = pool->finished.first;

    return first && (pool->options.order != NARU_IN_ORDER || first->number == pool->next_result);
}

bool nr_pool_task_may_go(const struct naru_pool *pool, const struct nr_pool_task *task)
{
    if (pool->options.order == NARU_IN_ORDER)
        return task->number - pool->next_result < pool->options.results_max;
    return pool->finished.count < pool->options.results_max;
}
