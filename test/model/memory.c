/* SPDX-License-Identifier: MIT */
/*
 * The memory model: C11 with the release sequences of C++20, without load buffering (see model.h).
 *
 * A load reads the newest store, or, for a stale read each, an older one that it need not know to be overwritten.
 * A read-modify-write reads the newest; a compare-and-swap may fail by an older value, a weak one for nothing.
 * seq_cst operations also know what all seq_cst stores and fences before them knew.
 * Plain accesses must happen before one another (data races), by clocks for each four bytes; an atomic location
 * that is read plainly must be known to have no newer store.
 */
#include "engine.h"
#include <string.h>

struct model_location model_locations[MODEL_LOCATIONS];
struct model_cell model_cells[MODEL_CELLS];
unsigned model_locations_count, model_cells_count;
bool model_has_fences;

/* By offset / 4 in the shared memory: 1 + the index; given once for the whole search. */
static uint16_t model_location_at[MODEL_SHARED_BYTES / 4];
static uint8_t model_location_size[MODEL_LOCATIONS];
static uint16_t model_cell_at[MODEL_SHARED_BYTES / 4];

void model_memory_init(void)
{
    memset(model_location_at, 0, sizeof model_location_at);
    memset(model_cell_at, 0, sizeof model_cell_at);
    memset(model_locations, 0, sizeof model_locations);
    memset(model_cells, 0, sizeof model_cells);
    model_locations_count = model_cells_count = 0;
}

static bool model_acquires(int order)
{
    return order == __ATOMIC_ACQUIRE || order == __ATOMIC_CONSUME || order == __ATOMIC_ACQ_REL ||
           order == __ATOMIC_SEQ_CST;
}

static bool model_releases(int order)
{
    return order == __ATOMIC_RELEASE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

void model_join(struct model_view *view, const struct model_view *other)
{
    for (unsigned i = 0; i < MODEL_LOCATIONS; i++)
        view->seen[i] = view->seen[i] > other->seen[i] ? view->seen[i] : other->seen[i];
    for (unsigned i = 0; i < MODEL_PROCESSES; i++)
        view->clock[i] = view->clock[i] > other->clock[i] ? view->clock[i] : other->clock[i];
}

static uint64_t model_raw_read(const volatile void *place, unsigned size)
{
    switch (size) {
    case 1:
        return *(const volatile uint8_t *)place;
    case 2:
        return *(const volatile uint16_t *)place;
    case 4:
        return *(const volatile uint32_t *)place;
    default:
        return *(const volatile uint64_t *)place;
    }
}

static void model_raw_write(volatile void *place, unsigned size, uint64_t value)
{
    switch (size) {
    case 1:
        *(volatile uint8_t *)place = (uint8_t)value;
        break;
    case 2:
        *(volatile uint16_t *)place = (uint16_t)value;
        break;
    case 4:
        *(volatile uint32_t *)place = (uint32_t)value;
        break;
    default:
        *(volatile uint64_t *)place = value;
    }
}

static void model_check_end(const volatile void *end)
{
    if ((uintptr_t)end - (uintptr_t)model_shared > model_scenario->shared_bytes)
        model_fail("an access behind the shared memory of the scenario");
}

/* Private memory, or nobody else is there. */
static bool model_is_plain(const volatile void *place)
{
    if (!model_is_shared(place))
        return true;
    model_check_end((const volatile char *)place + 1);
    return !model_is_inside;
}

static unsigned model_location(const volatile void *place, unsigned size)
{
    size_t slot = ((uintptr_t)place - (uintptr_t)model_shared) / 4;

    if ((uintptr_t)place % size)
        model_fail("an atomic operation of %u bytes at an odd place", size);
    if (!model_location_at[slot]) {
        if (model_locations_count == MODEL_LOCATIONS)
            model_fail("more than %d atomic locations: a smaller scenario", MODEL_LOCATIONS);
        model_location_size[model_locations_count] = (uint8_t)size;
        model_location_at[slot] = (uint16_t)++model_locations_count;
        if (size == 8)
            model_location_at[slot + 1] = model_location_at[slot];
    }
    unsigned index = model_location_at[slot] - 1u;
    if (model_location_size[index] != size)
        model_fail("an atomic operation of %u bytes on a location of %u", size,
                   model_location_size[index]);
    struct model_location *location = &model_locations[index];
    if (location->count == 0) {
        memset(location, 0, sizeof *location);
        location->stores[0].value = model_raw_read(place, size);
        location->count = 1;
    }
    return index;
}

static struct model_store *model_store_of(unsigned location, unsigned index)
{
    return &model_locations[location].stores[index % MODEL_HISTORY];
}

uint64_t model_newest(const volatile void *place, unsigned size)
{
    return model_raw_read(place, size);
}

/* The oldest store of the location that may still be read. */
static unsigned model_oldest(unsigned location, int order)
{
    const struct model_process *me = model_me();
    unsigned newest = model_locations[location].count - 1;
    unsigned oldest = newest < MODEL_HISTORY - 1 ? 0 : newest - (MODEL_HISTORY - 1);

    if (me->now.seen[location] > oldest)
        oldest = me->now.seen[location];
    if (order == __ATOMIC_SEQ_CST && model_world.fenced.seen[location] > oldest)
        oldest = model_world.fenced.seen[location];
    return oldest;
}

static void model_read(unsigned location, unsigned index, int order)
{
    struct model_process *me = model_me();
    const struct model_view *view = &model_store_of(location, index)->view;

    if (me->now.seen[location] < index)
        me->now.seen[location] = (uint8_t)index;
    if (index + 1 != model_locations[location].count)
        me->is_stale = true;
    model_join(model_acquires(order) ? &me->now : &me->acquired, view);
}

uint64_t model_load(const volatile void *place, unsigned size, int order)
{
    if (model_is_plain(place))
        return model_raw_read(place, size);
    model_point(false);
    unsigned location = model_location(place, size);
    unsigned newest = model_locations[location].count - 1;
    unsigned age = model_choose_read(newest - model_oldest(location, order) + 1);
    uint64_t value = model_store_of(location, newest - age)->value;
    model_read(location, newest - age, order);
    model_log(MODEL_LOG_LOAD, place, order, value, age, NULL);
    return value;
}

/* `before`: what a read-modify-write read, whose release sequence goes on. */
static void model_append(volatile void *place, unsigned size, unsigned location, uint64_t value,
                         int order, const struct model_store *before)
{
    struct model_process *me = model_me();
    unsigned index = model_locations[location].count;
    struct model_view carried = {0};
    bool is_new = model_raw_read(place, size) != value;

    if (index == UINT8_MAX)
        model_fail("more than 254 stores to one location");
    if (before)
        carried = before->view;
    me->now.seen[location] = (uint8_t)index;
    model_join(&carried, model_releases(order) ? &me->now : &me->released);
    if (carried.seen[location] < index)
        carried.seen[location] = (uint8_t)index;
    model_locations[location].count = index + 1;
    *model_store_of(location, index) = (struct model_store){.value = value, .view = carried};
    model_raw_write(place, size, value);
    if (model_releases(order))
        me->now.clock[model_world.current]++;
    if (order == __ATOMIC_SEQ_CST && model_world.fenced.seen[location] < index)
        model_world.fenced.seen[location] = (uint8_t)index;
    me->stored = me->now;
    if (is_new)
        model_changed();
}

void model_store(volatile void *place, unsigned size, uint64_t value, int order)
{
    if (model_is_plain(place)) {
        model_raw_write(place, size, value);
        return;
    }
    model_point(true);
    model_log(MODEL_LOG_STORE, place, order, value, 0, NULL);
    model_append(place, size, model_location(place, size), value, order, NULL);
}

void model_store_by_kernel(volatile void *place, uint32_t value, int order)
{
    unsigned location = model_location(place, sizeof value);
    struct model_store before = *model_store_of(location, model_locations[location].count - 1);

    model_append(place, sizeof value, location, value, order, &before);
}

bool model_compare_exchange(volatile void *place, unsigned size, uint64_t *expected, uint64_t value,
                            int order, int failure_order, bool is_weak)
{
    uint64_t found = model_raw_read(place, size);

    if (model_is_plain(place)) {
        bool is_equal = found == *expected;
        if (is_equal)
            model_raw_write(place, size, value);
        *expected = found;
        return is_equal;
    }
    model_point(true);
    unsigned location = model_location(place, size), ages[MODEL_HISTORY + 1], count = 1;
    unsigned newest = model_locations[location].count - 1;
    unsigned oldest = model_oldest(location, failure_order);
    ages[0] = 0;
    for (unsigned i = newest; i-- > oldest;)
        if (model_store_of(location, i)->value != *expected)
            ages[count++] = newest - i;
    found = model_store_of(location, newest)->value;
    if (is_weak && found == *expected)
        ages[count++] = 0;
    unsigned choice = model_choose_read(count);
    if (choice == 0 && found == *expected) {
        struct model_store before = *model_store_of(location, newest);
        model_read(location, newest, order);
        model_log(MODEL_LOG_CAS, place, order, *expected, value, NULL);
        model_append(place, size, location, value, order, &before);
        return true;
    }
    if (choice > 0)
        model_me()->is_stale = true;
    found = model_store_of(location, newest - ages[choice])->value;
    model_read(location, newest - ages[choice], failure_order);
    model_log(MODEL_LOG_CAS_FAILED, place, failure_order, *expected, found, NULL);
    *expected = found;
    return false;
}

uint64_t model_exchange(volatile void *place, unsigned size, uint64_t operand, int order,
                        uint64_t (*change)(uint64_t old, uint64_t operand))
{
    uint64_t old = model_raw_read(place, size);

    if (model_is_plain(place)) {
        model_raw_write(place, size, change(old, operand));
        return old;
    }
    model_point(true);
    unsigned location = model_location(place, size);
    struct model_store before = *model_store_of(location, model_locations[location].count - 1);
    uint64_t value = change(before.value, operand);
    if (size < 8)
        value &= ((uint64_t)1 << size * 8) - 1;
    model_read(location, model_locations[location].count - 1, order);
    model_log(MODEL_LOG_RMW, place, order, before.value, value, NULL);
    model_append(place, size, location, value, order, &before);
    return before.value;
}

void model_fence(int order)
{
    if (!model_is_inside)
        return;
    if (order == __ATOMIC_SEQ_CST)
        model_point(false);
    struct model_process *me = model_me();
    model_has_fences = true;
    if (model_acquires(order))
        model_join(&me->now, &me->acquired);
    if (order == __ATOMIC_SEQ_CST) {
        model_join(&me->now, &model_world.fenced);
        model_world.fenced = me->now;
    }
    if (model_releases(order)) {
        me->released = me->now;
        me->now.clock[model_world.current]++;
    }
    model_log(MODEL_LOG_FENCE, NULL, order, 0, 0, NULL);
}

/* What membarrier(2) does: a fence in each process, wherever it stands, and one here before and after. */
bool model_barrier(void)
{
    struct model_view all;

    model_point(false);
    model_has_fences = true;
    all = model_world.fenced;
    for (unsigned i = 0; i < model_scenario->processes; i++)
        model_join(&all, &model_world.processes[i].now);
    model_world.fenced = all;
    for (unsigned i = 0; i < model_scenario->processes; i++) {
        struct model_process *it = &model_world.processes[i];
        if (it->status >= MODEL_FINISHED)
            continue;
        model_join(&it->now, &it->acquired);
        model_join(&it->now, &all);
        it->released = it->now;
        it->now.clock[i]++;
    }
    model_log(MODEL_LOG_BARRIER, NULL, 0, 0, 0, NULL);
    return true;
}

/* -- plain accesses --------------------------------------------------------------------------- */

static struct model_cell *model_cell(size_t slot)
{
    if (!model_cell_at[slot]) {
        if (model_cells_count == MODEL_CELLS)
            model_fail("more than %d plain words: a smaller scenario", MODEL_CELLS);
        model_cell_at[slot] = (uint16_t)++model_cells_count;
    }
    return &model_cells[model_cell_at[slot] - 1];
}

static void model_race(size_t slot, bool is_write, const char *other, unsigned process)
{
    char name[96];

    model_name_of(model_shared + slot * 4, name, sizeof name);
    model_fail("data race: process %u %s %s, which process %u %s without being ordered before it",
               (unsigned)model_world.current, is_write ? "writes" : "reads", name, process, other);
}

static void model_plain_cell(size_t slot, bool is_write)
{
    struct model_process *me = model_me();
    unsigned mine = model_world.current;
    struct model_cell *cell = model_cell(slot);

    if (cell->write_clock && cell->writer != mine &&
        me->now.clock[cell->writer] < cell->write_clock)
        model_race(slot, is_write, "writes", cell->writer);
    if (!is_write) {
        cell->read_clock[mine] = me->now.clock[mine];
        return;
    }
    for (unsigned i = 0; i < MODEL_PROCESSES; i++)
        if (i != mine && me->now.clock[i] < cell->read_clock[i])
            model_race(slot, is_write, "reads", i);
    me->stored = me->now;
    memset(cell->read_clock, 0, sizeof cell->read_clock);
    cell->write_clock = me->now.clock[mine];
    cell->writer = (uint16_t)mine;
}

static void model_plain_on_atomic(size_t slot, bool is_write)
{
    unsigned location = model_location_at[slot] - 1u;
    char name[96];

    if (model_locations[location].count == 0)
        return;
    model_name_of(model_shared + slot * 4, name, sizeof name);
    if (is_write)
        model_fail("a plain write to %s, which is atomic", name);
    if (model_me()->now.seen[location] + 1u < model_locations[location].count)
        model_fail("data race: a plain read of %s, which has a newer value", name);
}

void model_plain(const volatile void *place, size_t size, bool is_write)
{
    if (model_is_plain(place) || size == 0)
        return;
    model_check_end((const volatile char *)place + size);
    if (is_write)
        model_point_write(false);
    size_t offset = (uintptr_t)place - (uintptr_t)model_shared;
    for (size_t slot = offset / 4; slot <= (offset + size - 1) / 4; slot++) {
        if (model_location_at[slot])
            model_plain_on_atomic(slot, is_write);
        else
            model_plain_cell(slot, is_write);
    }
    model_log(is_write ? MODEL_LOG_WRITE : MODEL_LOG_READ, place, 0, size, 0, NULL);
}
