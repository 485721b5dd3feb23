/* SPDX-License-Identifier: MIT */
/*
 * The states that were searched, each with the budgets that were left there. One that was searched with more left of
 * everything need not be searched again: 32 bits, one for each possible rest, say which were. An entry is small, and is
 * looked up some time after it was asked for, since nearly each look-up misses every cache.
 */
#include "engine.h"
#include <stdlib.h>
#include <sys/mman.h>

enum { MODEL_VISITED_FIRST = 1 << 14, MODEL_VISITED_MOST = 1 << 26 };

struct model_visited {
    uint64_t first;
    uint32_t second; /* of the key's half */
    uint32_t rests;  /* 0: free */
};

static struct model_visited *model_table;
static uint64_t model_table_size, model_table_used;
static struct model_budget model_bounds;
static uint32_t model_covering[32]; /* for each rest: those that are as large in everything */

static unsigned model_rest(struct model_budget left)
{
    return (left.preemptions * (model_bounds.stale_reads + 1u) + left.stale_reads) *
               (model_bounds.crashes + 1u) +
           left.crashes;
}

/* Zero, and in large pages where there are any. */
static struct model_visited *model_map(uint64_t size)
{
    void *table = mmap(NULL, size * sizeof(struct model_visited), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (table == MAP_FAILED)
        return NULL;
    madvise(table, size * sizeof(struct model_visited), MADV_HUGEPAGE);
    return table;
}

void model_visited_free(void)
{
    if (model_table)
        munmap(model_table, model_table_size * sizeof *model_table);
    model_table = NULL;
}

void model_visited_init(struct model_budget bounds)
{
    model_visited_free();
    model_bounds = bounds;
    if ((bounds.preemptions + 1u) * (bounds.stale_reads + 1u) * (bounds.crashes + 1u) > 32)
        abort();
    for (uint8_t p = 0; p <= bounds.preemptions; p++)
        for (uint8_t s = 0; s <= bounds.stale_reads; s++)
            for (uint8_t c = 0; c <= bounds.crashes; c++) {
                uint32_t covering = 0;
                for (uint8_t pp = p; pp <= bounds.preemptions; pp++)
                    for (uint8_t ss = s; ss <= bounds.stale_reads; ss++)
                        for (uint8_t cc = c; cc <= bounds.crashes; cc++)
                            covering |= (uint32_t)1
                                        << model_rest((struct model_budget){pp, ss, cc, 0});
                model_covering[model_rest((struct model_budget){p, s, c, 0})] = covering;
            }
    model_table_size = MODEL_VISITED_FIRST;
    model_table_used = 0;
    model_table = model_map(model_table_size);
    if (!model_table)
        abort();
}

uint64_t model_visited_count(void)
{
    return model_table_used;
}

static struct model_visited *model_find(uint64_t first, uint32_t second)
{
    uint64_t at = first & (model_table_size - 1);

    while (model_table[at].rests &&
           (model_table[at].first != first || model_table[at].second != second))
        at = (at + 1) & (model_table_size - 1);
    return &model_table[at];
}

void model_visited_prefetch(struct model_key key)
{
    __builtin_prefetch(&model_table[key.first & (model_table_size - 1)], 1);
}

static bool model_grow(void)
{
    struct model_visited *old = model_table, *table;
    uint64_t old_size = model_table_size;

    if (old_size == MODEL_VISITED_MOST)
        return false;
    table = model_map(old_size * 2);
    if (!table)
        return false;
    model_table = table;
    model_table_size = old_size * 2;
    for (uint64_t i = 0; i < old_size; i++)
        if (old[i].rests)
            *model_find(old[i].first, old[i].second) = old[i];
    munmap(old, old_size * sizeof *old);
    return true;
}

int model_visited_add(struct model_key key, struct model_budget left)
{
    unsigned rest = model_rest(left);

    if (model_table_used > model_table_size / 10 * 7 && !model_grow())
        return -1;
    struct model_visited *entry = model_find(key.first, (uint32_t)key.second);
    if (entry->rests & model_covering[rest])
        return 1;
    model_table_used += entry->rests == 0;
    entry->first = key.first;
    entry->second = (uint32_t)key.second;
    entry->rests |= (uint32_t)1 << rest;
    return 0;
}
