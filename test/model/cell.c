/* SPDX-License-Identifier: MIT */
/*
 * cell -- a reader never sees a mixed value or an older one than before; the last whole value stays, whoever dies; and
 *         the next writer goes on
 *
 * More values than buffers, so that buffers are used again while they are read.
 */
#include "data/seat.h"
#include "data/cell.h"
#include "data/words.h"
#include "model.h"
#include <errno.h>
#include <string.h>

enum {
    BUFFERS = 3,
    WORDS = 2,
    OBSERVER = MODEL_PROCESSES,
    /* variants */
    TAKEOVER = 1, /* the second writes as well */
    GO_ROUND =
        2, /* the first a value for each buffer, and the second one more: the first that it writes stands where
                     an old value may still be read */
};

static struct nr_cell_shared *const shared = (void *)model_shared;

static struct {
    struct nr_cell cells[MODEL_PROCESSES + 1];
    uint8_t published, begun;
    uint8_t seen[MODEL_PROCESSES + 1];
} state;

static void init(void)
{
    for (unsigned i = 0; i <= OBSERVER; i++) {
        state.cells[i] =
            (struct nr_cell){.buffers_count = BUFFERS, .value_bytes = WORDS * sizeof(uint64_t)};
        nr_cell_attach(&state.cells[i], model_shared);
    }
    model_name(&shared->latest, 8, "latest");
    model_name(&shared->writer, 8, "seat");
    for (unsigned i = 0; i < BUFFERS; i++) {
        struct nr_cell_buffer *buffer = (void *)(state.cells[0].buffers + i * 64);
        model_name(buffer, 64, "buffer[%u]", i);
        model_name(&buffer->version, 8, "buffer[%u].version", i);
        model_name(buffer->payload, 16, "buffer[%u].payload", i);
    }
}

static void repair(unsigned me, unsigned dead)
{
    (void)me;
    nr_seat_clear(&shared->writer, dead, true);
}

static unsigned values(unsigned me)
{
    if (model_variant() & GO_ROUND)
        return me == 0 ? BUFFERS : 1;
    return model_variant() & TAKEOVER ? 2 : BUFFERS + 1;
}

static void sit(unsigned me)
{
    for (;;) {
        bool is_alone = model_is_over(!me);
        if (nr_seat_claim(&shared->writer, me) == 0)
            return;
        if (model_repair_dead(me, repair))
            continue;
        if (is_alone)
            model_fail("nobody is there, and the seat is taken");
        model_pause();
    }
}

static void write_all(unsigned me)
{
    struct nr_cell *cell = &state.cells[me];

    sit(me);
    for (unsigned i = 0; i < values(me); i++) {
        uint64_t version = nr_cell_latest(cell) + 1, words[WORDS] = {version, version};
        struct nr_cell_value value = {
            .size_bytes = sizeof words, .type = (int64_t)version, .sender_pid = (int32_t)me + 1};
        state.begun = (uint8_t)version;
        struct nr_cell_buffer *buffer = nr_cell_begin(cell);
        nr_words_store(buffer->payload, words, sizeof words);
        nr_cell_publish(cell, buffer, &value);
        state.published = (uint8_t)version;
        model_note("published", version);
    }
    nr_seat_clear(&shared->writer, me, false);
}

static int read_one(unsigned me)
{
    uint64_t words[WORDS];
    struct nr_cell_value value;
    int result = nr_cell_read(&state.cells[me], state.seen[me], words, sizeof words, &value);

    if (result < 0) {
        model_assert(result == -EAGAIN);
        return result;
    }
    model_note("read", value.version);
    model_assert(value.version > state.seen[me] && value.version <= state.begun);
    model_assert(value.size_bytes == sizeof words && value.type == (int64_t)value.version);
    model_assert(value.sender_pid == 1 || (model_variant() & TAKEOVER && value.sender_pid == 2));
    for (unsigned i = 0; i < WORDS; i++)
        model_assert(words[i] == value.version);
    state.seen[me] = (uint8_t)value.version;
    return 0;
}

static void read_all(unsigned me)
{
    for (;;) {
        bool is_last = model_is_over(0) && (!(model_variant() & TAKEOVER) || model_is_over(1));
        uint8_t published = state.published;
        if (read_one(me) == 0)
            continue;
        if (is_last) {
            model_assert(state.seen[me] >= published);
            return;
        }
        model_pause();
    }
}

static void check(void)
{
    model_repair_dead(OBSERVER, repair);
    if (state.published)
        model_assert(read_one(OBSERVER) == 0);
    while (read_one(OBSERVER) == 0)
        ;
    model_assert(state.seen[OBSERVER] >= state.published);
    model_assert(state.seen[OBSERVER] <= state.begun);
    model_assert(nr_seat_claim(&shared->writer, OBSERVER) == 0);
}

#define SCENARIO(title, ...)                                                                       \
    {                                                                                              \
        .name = title, .processes = 3, .init = init, .check = check, .state = &state,              \
        .state_bytes = sizeof state, .shared_bytes = sizeof *shared + BUFFERS * 64,                \
        .preemptions = 2, .stale_reads = 2, .crashes = 1, __VA_ARGS__                              \
    }

static const struct model_scenario scenarios[] = {
    SCENARIO("one writer, two readers", .run = {write_all, read_all, read_all}, .symmetric = 6,
             .may_crash = 1),
    SCENARIO("two writers, one reader", .run = {write_all, write_all, read_all}, .symmetric = 3,
             .may_crash = 3, .variant = TAKEOVER),
    SCENARIO("two writers, the second goes round, one reader",
             .run = {write_all, write_all, read_all}, .may_crash = 3,
             .variant = TAKEOVER | GO_ROUND),
};

const struct model_protocol model_cell = {.name = "cell",
                                          .scenarios = scenarios,
                                          .scenarios_count = sizeof scenarios / sizeof *scenarios};
