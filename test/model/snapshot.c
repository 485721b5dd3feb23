/* SPDX-License-Identifier: MIT */
/*
 * The whole state of an execution: saved, restored, and reduced to a key.
 *
 * Key        Two states with one key have the same future (but for a collision of 128 bits). What can't matter any more
 *            is left out: views and clocks count from what every living process knows, stores older than
 *            that are gone, and without stale reads left only the newest store of each location counts.
 * Stacks     hold return addresses and locals; what lies below the stack pointer is cleared, so that leftovers don't make
 *            equal states differ.
 */
#include "engine.h"
#include <string.h>

/* -- save and restore ------------------------------------------------------------------------- */

struct model_snapshot {
    struct model_world world;
    uint32_t locations_count, cells_count;
    uint32_t stack_bytes[MODEL_PROCESSES];
};

static size_t model_stack_used(unsigned process)
{
    const struct model_process *it = &model_world.processes[process];

    return it->is_started && it->status < MODEL_FINISHED
               ? (size_t)(model_stack_base(process) - it->sp)
               : 0;
}

size_t model_snapshot_bytes(void)
{
    return sizeof(struct model_snapshot) + sizeof model_locations + sizeof model_cells +
           MODEL_PROCESSES * MODEL_STACK_BYTES + MODEL_SHARED_BYTES + model_scenario->state_bytes;
}

static char *model_put(char *to, const void *from, size_t size)
{
    memcpy(to, from, size);
    return to + size;
}

size_t model_snapshot_save(char *place)
{
    struct model_snapshot *snapshot = (struct model_snapshot *)(void *)place;
    char *to = place + sizeof *snapshot;

    snapshot->world = model_world;
    snapshot->locations_count = model_locations_count;
    snapshot->cells_count = model_cells_count;
    to = model_put(to, model_locations, model_locations_count * sizeof *model_locations);
    to = model_put(to, model_cells, model_cells_count * sizeof *model_cells);
    to = model_put(to, model_shared, model_scenario->shared_bytes);
    to = model_put(to, model_scenario->state, model_scenario->state_bytes);
    for (unsigned i = 0; i < MODEL_PROCESSES; i++) {
        snapshot->stack_bytes[i] = (uint32_t)model_stack_used(i);
        to =
            model_put(to, model_stack_base(i) - snapshot->stack_bytes[i], snapshot->stack_bytes[i]);
    }
    return ((size_t)(to - place) + 63) & ~(size_t)63;
}

static const char *model_get(void *to, const char *from, size_t size)
{
    memcpy(to, from, size);
    return from + size;
}

void model_snapshot_restore(const char *place)
{
    const struct model_snapshot *snapshot = (const struct model_snapshot *)(const void *)place;
    const char *from = place + sizeof *snapshot;
    uint32_t locations = snapshot->locations_count, cells = snapshot->cells_count;

    model_world = snapshot->world;
    from = model_get(model_locations, from, locations * sizeof *model_locations);
    from = model_get(model_cells, from, cells * sizeof *model_cells);
    /* Touched since for the first time; their places are kept. */
    memset(model_locations + locations, 0,
           (model_locations_count - locations) * sizeof *model_locations);
    memset(model_cells + cells, 0, (model_cells_count - cells) * sizeof *model_cells);
    from = model_get(model_shared, from, model_scenario->shared_bytes);
    from = model_get(model_scenario->state, from, model_scenario->state_bytes);
    for (unsigned i = 0; i < MODEL_PROCESSES; i++) {
        uint32_t bytes = snapshot->stack_bytes[i];
        from = model_get((char *)(uintptr_t)model_stack_base(i) - bytes, from, bytes);
    }
}

/* -- the key ---------------------------------------------------------------------------------- */

/* Below what every living process knows, nothing matters. */
struct model_floor {
    uint8_t seen[MODEL_LOCATIONS];
    uint16_t clock[MODEL_PROCESSES];
};

static void model_mix(struct model_key *key, uint64_t first, uint64_t second)
{
    __uint128_t a = (__uint128_t)(key->first ^ first) * (second ^ 0x9e3779b97f4a7c15ull);
    __uint128_t b = (__uint128_t)(key->second ^ second ^ 0xe7037ed1a0b428dbull) *
                    (first ^ 0xa0761d6478bd642full);

    key->first = (uint64_t)a ^ (uint64_t)(a >> 64) ^ key->second;
    key->second = (uint64_t)b ^ (uint64_t)(b >> 64) ^ (key->first << 31 | key->first >> 33);
}

/* Four lanes side by side, so that a multiplication need not wait for the one before. */
static void model_mix_bytes(struct model_key *key, const void *bytes, size_t size)
{
    const char *at = bytes;
    struct model_key lanes[4] = {*key, {1, 2}, {3, 4}, {5, 6}};
    uint64_t words[8];

    for (; size >= sizeof words; size -= sizeof words, at += sizeof words) {
        memcpy(words, at, sizeof words);
        for (unsigned i = 0; i < 4; i++)
            model_mix(&lanes[i], words[2 * i], words[2 * i + 1]);
    }
    if (size) {
        memset(words, 0, sizeof words);
        memcpy(words, at, size);
        for (unsigned i = 0; i < 4; i++)
            model_mix(&lanes[i], words[2 * i], words[2 * i + 1]);
    }
    for (unsigned i = 1; i < 4; i++)
        model_mix(&lanes[0], lanes[i].first, lanes[i].second);
    *key = lanes[0];
}

static bool model_is_alive(unsigned process)
{
    return model_world.processes[process].status < MODEL_FINISHED;
}

static void model_find_floor(struct model_floor *floor, bool sees_old)
{
    memset(floor, 0xff, sizeof *floor);
    for (unsigned i = 0; i < model_scenario->processes; i++) {
        const struct model_view *now = &model_world.processes[i].now;
        if (!model_is_alive(i))
            continue;
        for (unsigned j = 0; j < MODEL_LOCATIONS; j++)
            floor->seen[j] = floor->seen[j] < now->seen[j] ? floor->seen[j] : now->seen[j];
        for (unsigned j = 0; j < MODEL_PROCESSES; j++)
            if (j != i && now->clock[j] < floor->clock[j])
                floor->clock[j] = now->clock[j];
    }
    for (unsigned i = 0; i < model_locations_count; i++) {
        unsigned count = model_locations[i].count, window = sees_old ? MODEL_HISTORY : 1;
        if (count > window && floor->seen[i] < count - window)
            floor->seen[i] = (uint8_t)(count - window);
        if (count && floor->seen[i] > count - 1)
            floor->seen[i] = (uint8_t)(count - 1);
    }
}

static void model_mix_view(struct model_key *key, const struct model_view *view,
                           const struct model_floor *floor)
{
    struct model_view above;

    for (unsigned i = 0; i < MODEL_LOCATIONS; i++)
        above.seen[i] =
            (uint8_t)((view->seen[i] > floor->seen[i] ? view->seen[i] : floor->seen[i]) -
                      floor->seen[i]);
    for (unsigned i = 0; i < MODEL_PROCESSES; i++)
        above.clock[i] =
            (uint16_t)((view->clock[i] > floor->clock[i] ? view->clock[i] : floor->clock[i]) -
                       floor->clock[i]);
    uint64_t words[sizeof above / 8];
    memcpy(words, &above, sizeof words);
    for (size_t i = 0; i + 1 < sizeof words / 8; i += 2)
        model_mix(key, words[i], words[i + 1]);
    model_mix(key, words[sizeof words / 8 - 1], 1);
}
_Static_assert(sizeof(struct model_view) % 8 == 0, "mixed in words");

static void model_mix_process(struct model_key *key, unsigned index,
                              const struct model_floor *floor)
{
    const struct model_process *it = &model_world.processes[index];
    uint64_t flags = (uint64_t)it->status | (uint64_t)it->is_started << 8 |
                     (uint64_t)it->is_changed << 16 | (uint64_t)it->is_stale << 24 |
                     (uint64_t)it->has_news << 32 | (uint64_t)it->is_woken_by_death << 40 |
                     (uint64_t)it->is_writing << 48 | (uint64_t)it->on_death_word << 56;

    if (!model_is_alive(index)) {
        model_mix(key, it->status, index);
        model_mix_view(key, &it->now, floor);
        return;
    }
    /* What was acquired counts only beyond what is known. */
    struct model_view acquired = it->acquired;
    model_join(&acquired, &it->now);
    model_mix(key, flags, it->aimed_at | (uint64_t)it->is_patient << 32);
    for (unsigned i = 0; i < MODEL_SLEEPS; i += 2)
        model_mix(key, it->sleeps_on[i], it->sleeps_on[i + 1]);
    model_mix_view(key, &it->now, floor);
    if (model_has_fences) {
        model_mix_view(key, &acquired, floor);
        model_mix_view(key, &it->released, floor);
    }
    if (model_world.left.crashes && (model_scenario->may_crash >> index & 1))
        model_mix_view(key, &it->stored, floor);
    if (model_world.repaired >> index & 1)
        model_mix_view(key, &model_world.repairs[index], floor);
}

static void model_mix_locations(struct model_key *key, const struct model_floor *floor)
{
    for (unsigned i = 0; i < model_locations_count; i++) {
        const struct model_location *location = &model_locations[i];
        for (unsigned j = floor->seen[i]; location->count > 1 && j < location->count; j++) {
            const struct model_store *store = &location->stores[j % MODEL_HISTORY];
            model_mix(key, store->value, i << 8 | (j - floor->seen[i]));
            model_mix_view(key, &store->view, floor);
        }
    }
}

static uint16_t model_above(uint16_t clock, uint16_t floor)
{
    return clock > floor ? (uint16_t)(clock - floor) : 0;
}

static void model_mix_cells(struct model_key *key, const struct model_floor *floor)
{
    for (unsigned i = 0; i < model_cells_count; i++) {
        const struct model_cell *cell = &model_cells[i];
        uint64_t reads = 0;
        for (unsigned j = 0; j < MODEL_PROCESSES; j++)
            reads = reads << 16 | model_above(cell->read_clock[j], floor->clock[j]);
        uint64_t write =
            cell->write_clock ? model_above(cell->write_clock, floor->clock[cell->writer]) : 0;
        if (write)
            write |= (uint64_t)(cell->writer + 1) << 16;
        if (reads | write)
            model_mix(key, reads, write | (uint64_t)(i + 1) << 32);
    }
}

/* What both keys have in common: memory and stacks. A stack changes only while its process runs. */
struct model_key model_key_of_bytes(void)
{
    struct model_key key = {model_world.current, model_world.repaired |
                                                     (uint64_t)model_world.death_wakes << 8 |
                                                     (uint64_t)model_world.wakes_count << 16};

    for (unsigned i = 0; i < model_world.wakes_count; i++)
        model_mix(&key, model_world.wakes_on[i], i);
    model_mix_bytes(&key, model_shared, model_scenario->shared_bytes);
    model_mix_bytes(&key, model_scenario->state, model_scenario->state_bytes);
    for (unsigned i = 0; i < model_scenario->processes; i++) {
        struct model_process *it = &model_world.processes[i];
        size_t used = model_stack_used(i);
        if (used && !it->has_stack_key) {
            it->stack_key = (struct model_key){used, i};
            model_mix_bytes(&it->stack_key, model_stack_base(i) - used, used);
            it->has_stack_key = true;
        }
        if (used)
            model_mix(&key, it->stack_key.first, it->stack_key.second);
    }
    return key;
}

struct model_key model_key_of_state(struct model_key bytes, bool sees_old)
{
    struct model_floor floor;
    struct model_key key = bytes;

    model_find_floor(&floor, sees_old);
    for (unsigned i = 0; i < model_scenario->processes; i++)
        model_mix_process(&key, i, &floor);
    model_mix_view(&key, &model_world.fenced, &floor);
    model_mix_locations(&key, &floor);
    model_mix_cells(&key, &floor);
    model_mix(&key, sees_old, 0x5bd1e995);
    return key;
}
