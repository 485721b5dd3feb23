/* SPDX-License-Identifier: MIT */
/*
 * The states that were searched, each with the budgets that were left there. One that was searched with more left of
 * everything need not be searched again: 64 bits, one for each possible rest, say which were.
 */
#include "engine.h"
#include <stdlib.h>
#include <string.h>

enum { MODEL_VISITED_FIRST = 1 << 14, MODEL_VISITED_MOST = 1 << 26 };

struct model_visited {
    struct model_key key;
    uint64_t rests; /* 0: free */
};

static struct model_visited *model_table;
static uint64_t model_table_size, model_table_used;
static struct model_budget model_bounds;
static uint64_t model_covering[64]; /* for each rest: those that are as large in everything */

static unsigned model_rest(struct model_budget left)
{
    return (left.preemptions * (model_bounds.stale_reads + 1u) + left.stale_reads) *
               (model_bounds.crashes + 1u) +
           left.crashes;
}

void model_visited_free(void)
{
    free(model_table);
    model_table = NULL;
}

void model_visited_init(struct model_budget bounds)
{
    model_visited_free();
    model_bounds = bounds;
    if ((bounds.preemptions + 1u) * (bounds.stale_reads + 1u) * (bounds.crashes + 1u) > 64)
        abort();
    for (uint8_t p = 0; p <= bounds.preemptions; p++)
        for (uint8_t s = 0; s <= bounds.stale_reads; s++)
            for (uint8_t c = 0; c <= bounds.crashes; c++) {
                uint64_t covering = 0;
                for (uint8_t pp = p; pp <= bounds.preemptions; pp++)
                    for (uint8_t ss = s; ss <= bounds.stale_reads; ss++)
                        for (uint8_t cc = c; cc <= bounds.crashes; cc++)
                            covering |= (uint64_t)1
                                        << model_rest((struct model_budget){pp, ss, cc, 0});
                model_covering[model_rest((struct model_budget){p, s, c, 0})] = covering;
            }
    model_table_size = MODEL_VISITED_FIRST;
    model_table_used = 0;
    model_table = calloc(model_table_size, sizeof *model_table);
    if (!model_table)
        abort();
}

uint64_t model_visited_count(void)
{
    return model_table_used;
}

static struct model_visited *model_find(struct model_key key)
{
    uint64_t at = key.first & (model_table_size - 1);

    while (model_table[at].rests &&
           (model_table[at].key.first != key.first || model_table[at].key.second != key.second))
        at = (at + 1) & (model_table_size - 1);
    return &model_table[at];
}

static bool model_grow(void)
{
    struct model_visited *old = model_table, *table;
    uint64_t old_size = model_table_size;

    if (old_size == MODEL_VISITED_MOST)
        return false;
    table = calloc(old_size * 2, sizeof *table);
    if (!table)
        return false;
    model_table = table;
    model_table_size = old_size * 2;
    for (uint64_t i = 0; i < old_size; i++)
        if (old[i].rests)
            *model_find(old[i].key) = old[i];
    free(old);
    return true;
}

int model_visited_add(struct model_key key, struct model_budget left)
{
    unsigned rest = model_rest(left);

    if (model_table_used > model_table_size / 10 * 7 && !model_grow())
        return -1;
    struct model_visited *entry = model_find(key);
    if (entry->rests & model_covering[rest])
        return 1;
    model_table_used += entry->rests == 0;
    entry->key = key;
    entry->rests |= (uint64_t)1 << rest;
    return 0;
}
