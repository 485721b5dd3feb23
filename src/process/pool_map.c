/* SPDX-License-Identifier: MIT */
/*
 * pool_map -- map and reduce: an array of items goes in, and its results come out
 *
 * Memory     The items stay where they are until they are answered: nothing is copied on the way to a desk.
 */
#include "process/pool.h"
#include <string.h>

struct nr_pool_map {
    struct naru_pool *pool;
    const struct naru_pool_array *items;
    size_t submitted, answered;
    uint64_t first; /* the number of the first item's task */
};

static int nr_pool_map_begin(struct nr_pool_map *map, struct naru_pool *pool,
                             const struct naru_pool_array *items)
{
    int result = nr_pool_enter(pool);

    if (result < 0)
        return result;
    if (!items || (items->count && items->item_bytes && !items->data))
        return nr_fail(-EINVAL, "there is no array of items");
    nr_pool_flow_return(pool);
    if (pool->waiting.count || pool->given_count || pool->finished.count)
        return nr_fail(-EBUSY, "the pool has other tasks: fetch their results first, until "
                               "naru_pool_next() says -ENODATA");
    *map = (struct nr_pool_map){.pool = pool, .items = items, .first = pool->next_number};
    return 0;
}

/* As many as may be on their way at once. */
static int nr_pool_map_submit(struct nr_pool_map *map)
{
    struct naru_pool *pool = map->pool;
    size_t before = map->submitted;

    while (map->submitted < map->items->count &&
           pool->waiting.count + pool->given_count < pool->options.tasks_max) {
        const struct naru_pool_input input = {
            .data = map->items->item_bytes
                        ? (char *)map->items->data + map->submitted * map->items->item_bytes
                        : NULL,
            .size_bytes = map->items->item_bytes,
        };
        int result = nr_pool_flow_submit(pool, &input, true);
        if (result < 0)
            return result;
        map->submitted++;
    }
    if (map->submitted != before)
        nr_pool_deal(pool);
    return 0;
}

/* Ends the round early: `result`. The items are the caller's again. */
static int nr_pool_map_give_up(struct nr_pool_map *map, int result)
{
    struct naru_pool *pool = map->pool;
    struct nr_pool_task *task;

    nr_pool_drop_all(pool);
    while ((task = pool->finished.first)) {
        nr_pool_queue_remove(&pool->finished, task);
        nr_pool_task_free(pool, task);
    }
    pool->next_result = pool->next_number;
    return result;
}

/* Tasks for all items; `each` is called for every result. */
static int nr_pool_map_run(struct nr_pool_map *map,
                           int (*each)(void *context, const struct naru_pool_result *result),
                           void *context, int64_t timeout_ns)
{
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);

    while (map->answered < map->items->count) {
        struct naru_pool_result described;
        struct nr_pool_task *task;
        int result = nr_pool_map_submit(map);
        if (result == 0)
            result = nr_pool_flow_take(map->pool, &task, &deadline);
        if (result < 0)
            return nr_pool_map_give_up(map, nr_pool_leave(result));
        nr_pool_flow_describe(task, &described);
        described.number -= map->first;
        result = each(context, &described);
        nr_pool_task_free(map->pool, task);
        map->answered++;
        if (result < 0)
            return nr_pool_map_give_up(map, result);
    }
    return 0;
}

/* -- map -------------------------------------------------------------------------------------- */

struct nr_pool_map_place {
    const struct naru_pool_array *results;
    size_t missing_count;
};

static const char *nr_pool_map_why(const struct naru_pool_result *result)
{
    if (result->death)
        return result->death->text;
    return result->outcome == NARU_POOL_DONE ? "its result has another size" : "it failed";
}

static int nr_pool_map_put(void *context, const struct naru_pool_result *result)
{
    struct nr_pool_map_place *place = context;
    size_t item_bytes = place->results->item_bytes;
    char *to = (char *)place->results->data + result->number * item_bytes;

    if (result->outcome == NARU_POOL_DONE && result->size_bytes == item_bytes) {
        if (item_bytes)
            memcpy(to, result->data, item_bytes);
        return 0;
    }
    if (item_bytes)
        memset(to, 0, item_bytes);
    if (place->missing_count++ == 0)
        nr_fail(-EREMOTEIO, "item %llu has no result: %s (code %d)",
                (unsigned long long)result->number, nr_pool_map_why(result), result->code);
    return 0;
}

int naru_pool_map(struct naru_pool *pool, const struct naru_pool_array *items,
                  const struct naru_pool_array *results, int64_t timeout_ns)
{
    struct nr_pool_map_place place = {.results = results};
    struct nr_pool_map map;

    int result = nr_pool_map_begin(&map, pool, items);
    if (result < 0)
        return result;
    if (!results || results->count < items->count || (results->item_bytes && !results->data))
        return nr_fail(-EINVAL, "there is no room for as many results as there are items");
    result = nr_pool_map_run(&map, nr_pool_map_put, &place, timeout_ns);
    return result < 0 ? result : (int)place.missing_count;
}

/* -- reduce ----------------------------------------------------------------------------------- */

int naru_pool_reduce(struct naru_pool *pool, const struct naru_pool_array *items,
                     naru_pool_fold *fold, void *accumulator, int64_t timeout_ns)
{
    struct nr_pool_map map;

    int result = nr_pool_map_begin(&map, pool, items);
    if (result < 0)
        return result;
    if (!fold)
        return nr_fail(-EINVAL, "naru_pool_reduce() needs a function that folds results");
    return nr_pool_map_run(&map, fold, accumulator, timeout_ns);
}
