/* SPDX-License-Identifier: MIT */
/* line_batch -- several at once: mixed with single ones, across laps, full, damaged, and when a side begins anew */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "data/line_batch.h"
#include "data/line_short.h"
#include <stdlib.h>

enum { MOST_BYTES = 112, LINES = 32, SENT = 1 << 12 };

static struct nr_line_ring sender, receiver;
static void *memory;
static uint32_t sizes[SENT];
static unsigned tail, head; /* messages sent, received */

static void begin(void)
{
    uint64_t memory_bytes = nr_line_ring_memory(LINES, 128);

    memory = aligned_alloc(64, memory_bytes);
    memset(memory, 0, memory_bytes);
    sender = (struct nr_line_ring){.lines_count = LINES, .bytes_count = 128};
    receiver = sender;
    nr_line_ring_attach(&sender, memory);
    nr_line_ring_attach(&receiver, memory);
    assert_int_equal(nr_line_ring_sit(&sender, true), 0);
    assert_int_equal(nr_line_ring_sit(&receiver, false), 0);
    tail = head = 0;
}

static void fill(char *data, uint32_t size_bytes, unsigned number)
{
    for (uint32_t i = 0; i < size_bytes; i++)
        data[i] = (char)(number * 31 + i * 7 + size_bytes);
}

static void sent(uint32_t size_bytes)
{
    sizes[tail++ % SENT] = size_bytes;
}

/* How many of them went. */
static unsigned write_small(unsigned count, uint32_t size_bytes)
{
    struct nr_line_writing writing = nr_line_write_begin(&sender);
    char data[MOST_BYTES];
    unsigned i;

    for (i = 0; i < count; i++) {
        fill(data, size_bytes, tail);
        if (!nr_line_write(&sender, &writing, data, size_bytes))
            break;
        sent(size_bytes);
    }
    nr_line_write_end(&sender, &writing);
    return i;
}

static unsigned write_run(unsigned count, uint32_t size_bytes)
{
    struct nr_line_run run;
    char data[MOST_BYTES];

    if (!nr_line_is_for_run(size_bytes) || !nr_line_run_begin(&sender, &run, size_bytes))
        return 0;
    run.count = count;
    for (unsigned i = 0; i < count; i++) {
        unsigned index = size_bytes % 2 ? i : count - 1 - i; /* in whatever order */
        fill(data, size_bytes, tail + index);
        nr_line_run_write(&sender, &run, index, data);
    }
    for (unsigned i = 0; i < count; i++)
        sent(size_bytes);
    nr_line_run_publish(&sender, &run);
    return count;
}

static bool write_one(uint32_t size_bytes)
{
    char data[MOST_BYTES];

    fill(data, size_bytes, tail);
    if (nr_line_need(&sender, 2) < 0 || !nr_line_put(&sender, data, size_bytes))
        return false;
    sent(size_bytes);
    return true;
}

static void is_next(const char *data, int size_bytes)
{
    char expected[MOST_BYTES];

    assert_true(head < tail);
    assert_int_equal(size_bytes, sizes[head % SENT]);
    fill(expected, sizes[head % SENT], head);
    assert_memory_equal(data, expected, sizes[head % SENT]);
    head++;
}

static uint64_t head_line(void)
{
    return receiver.shared->head >> NR_LINE_INDEX_BITS;
}

static unsigned read_small(unsigned most, size_t capacity_bytes)
{
    struct nr_line_reading reading = nr_line_read_begin(&receiver);
    uint64_t before = head_line();
    char data[MOST_BYTES];
    unsigned i;

    for (i = 0; i < most; i++) {
        int size_bytes = nr_line_read(&receiver, &reading, data, capacity_bytes);
        if (size_bytes < 0)
            break;
        is_next(data, size_bytes);
    }
    bool frees = nr_line_read_end(&receiver, &reading);
    assert_int_equal(frees, head_line() != before);
    return i;
}

static unsigned read_run(unsigned most)
{
    struct nr_line_run run;
    uint64_t before = head_line();
    char data[MOST_BYTES];
    unsigned i;

    if (!nr_line_run_find(&receiver, &run))
        return 0;
    for (i = 0; i < most && run.index < run.count; i++) {
        nr_line_run_read(&receiver, &run, data);
        is_next(data, (int)run.size_bytes);
    }
    bool frees = nr_line_run_end(&receiver, &run);
    assert_int_equal(frees, head_line() != before);
    return i;
}

/* By the long way, as a single receive does it. */
static unsigned read_one(void)
{
    struct nr_line_record record;
    char data[MOST_BYTES];

    if (nr_line_peek(&receiver, &record) < 0)
        return 0;
    nr_line_copy(&record, data);
    is_next(data, (int)record.size_bytes);
    nr_line_release(&receiver, &record);
    return 1;
}

static unsigned read_any(void)
{
    unsigned most = 1 + (unsigned)rand() % 9, got;

    switch (rand() % 3) {
    case 0:
        got = read_small(most, MOST_BYTES);
        break;
    case 1:
        got = read_run(most);
        break;
    default:
        return read_one();
    }
    return got ? got : read_one();
}

static void write_any(void)
{
    switch (rand() % 3) {
    case 0:
        write_small(1 + (unsigned)rand() % 20, 1 + (uint32_t)rand() % 24);
        break;
    case 1:
        write_run(1 + (unsigned)rand() % 7, 25 + (uint32_t)rand() % 40);
        break;
    default:
        write_one(1 + (uint32_t)rand() % MOST_BYTES);
    }
}

static void in_order_in_any_way(void **state)
{
    unsigned longest = 0;

    (void)state;
    srand(11);
    begin();
    for (int step = 0; step < 200000; step++) {
        if (rand() % 2)
            write_any();
        else if (!read_any())
            assert_int_equal(head, tail);
        longest = tail - head > longest ? tail - head : longest;
        assert_int_equal(nr_line_may_peek(&receiver), head != tail);
        if (rand() % 64 == 0)
            assert_int_equal(rand() % 2 ? nr_line_ring_sit(&sender, true)
                                        : nr_line_ring_sit(&receiver, false),
                             0);
    }
    while (read_any())
        ;
    assert_int_equal(head, tail);
    assert_true(longest > 100);
    free(memory);
}

static unsigned lines_used(void)
{
    return (unsigned)sender.line;
}

/* Each fills its lines to the end. */
static void as_dense_as_promised(void **state)
{
    (void)state;
    begin();
    assert_int_equal(write_small(21, 8), 21);
    assert_int_equal(lines_used(), 3);
    assert_int_equal(write_small(6, 16), 6);
    assert_int_equal(lines_used(), 5);
    assert_int_equal(write_run(7, 64), 7);
    assert_int_equal(lines_used(), 13);
    assert_int_equal(write_run(7, 25), 7);
    assert_int_equal(lines_used(), 17);
    assert_int_equal(write_run(2, 64), 2);
    assert_int_equal(lines_used(), 20);
    while (read_small(100, MOST_BYTES) + read_run(100))
        ;
    assert_int_equal(head, tail);
    free(memory);
}

/* As many lines as there are, and not one more. */
static void full(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        begin();
        assert_int_equal(write_small(1000, 8), 7 * LINES);
        assert_int_equal(write_run(2, 64), 0);
        assert_int_equal(read_small(7 * (8 + round) - 7, MOST_BYTES), 7 * (8 + round) - 7);
        assert_int_equal(write_run(7, 64), round ? 7 : 0); /* eight lines */
        while (read_small(100, MOST_BYTES) + read_run(100))
            ;
        assert_int_equal(head, tail);
        free(memory);
    }
}

/* What is too large for its room stays, in each form. */
static void too_large(void **state)
{
    (void)state;
    begin();
    write_small(3, 8);
    assert_int_equal(read_small(1, 8), 1);
    assert_int_equal(read_small(1, 7), 0);
    assert_int_equal(read_small(5, 8), 2);
    assert_int_equal(write_small(1, 0) + write_small(1, 25), 0);
    assert_false(nr_line_is_for_run(24) || nr_line_is_for_run(65));
    assert_true(nr_line_is_for_run(25) && nr_line_is_for_run(64));
    free(memory);
}

/* A batch goes on where single ones have begun, and they behind it; empty ones have used up codes. */
static void beside_single_ones(void **state)
{
    struct nr_line_room room;

    (void)state;
    begin();
    write_one(8);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(nr_line_reserve(&sender, 0, 0, &room), 0);
        nr_line_publish(&sender, 0, 0);
        sent(0);
    }
    assert_int_equal(write_small(2, 8), 2); /* the line has its 7 codes now */
    assert_int_equal(lines_used(), 1);
    assert_int_equal(write_small(2, 8), 2);
    write_one(16);
    assert_int_equal(lines_used(), 2);
    assert_int_equal(read_small(100, MOST_BYTES), 10);
    free(memory);
}

/* Nothing of a batch is there before its stamp, and what a dead sender has left of one is overwritten. */
static void unfinished(void **state)
{
    struct nr_line_writing writing;
    struct nr_line_run run = {0};
    char data[64];

    (void)state;
    begin();
    for (unsigned round = 0; round < 100; round++) {
        memset(data, 0xff, sizeof data);
        writing = nr_line_write_begin(&sender);
        assert_true(nr_line_write(&sender, &writing, data, 8));
        assert_int_equal(nr_line_ring_sit(&sender, true), 0);
        assert_true(nr_line_run_begin(&sender, &run, 64));
        for (unsigned i = 0; i < 3; i++)
            nr_line_run_write(&sender, &run, i, data);
        assert_false(nr_line_may_peek(&receiver));
        assert_int_equal(nr_line_ring_sit(&sender, true), 0);
        assert_true(write_one(1 + round) && write_run(2, 30));
        assert_int_equal(read_one() + read_run(7), 3);
    }
    free(memory);
}

/* Whatever an older lap has left there: in no line behind its first one does a message begin. */
static void has_no_beginning_inside(void **state)
{
    enum { OLD = 0x12345 };

    (void)state;
    for (uint32_t size_bytes = 25; size_bytes <= 64; size_bytes++) {
        for (unsigned count = 1; count <= 7; count++) {
            begin();
            for (unsigned line = 0; line < LINES; line++)
                atomic_store(&nr_line_at(&sender, line)->stamp, OLD);
            assert_int_equal(write_run(count, size_bytes), count);
            for (unsigned line = 1; line < LINES; line++)
                assert_int_equal(atomic_load(&nr_line_at(&sender, line)->stamp),
                                 line < lines_used() ? NR_LINE_INSIDE : OLD);
            assert_int_equal(read_run(7), count);
            free(memory);
        }
    }
}

/* A receiver that begins in the middle of a run; what was in a dead hand is flagged, and not for the batch. */
static void in_the_middle(void **state)
{
    struct nr_line_record record;
    struct nr_line_run run;

    (void)state;
    begin();
    write_run(7, 64);
    assert_int_equal(read_run(3), 3);
    assert_int_equal(nr_line_peek(&receiver, &record), 0);
    nr_line_taking(&receiver, &record);
    assert_int_equal(nr_line_ring_sit(&receiver, false), 0);
    assert_false(nr_line_run_find(&receiver, &run));
    assert_int_equal(nr_line_peek(&receiver, &record), 0);
    assert_true(record.is_redelivered);
    assert_int_equal(read_one() + read_run(7), 4);

    write_small(3, 8);
    assert_int_equal(nr_line_peek(&receiver, &record), 0);
    nr_line_taking(&receiver, &record);
    assert_int_equal(nr_line_ring_sit(&receiver, false), 0);
    assert_int_equal(read_small(3, 8), 0);
    assert_int_equal(read_one() + read_small(3, 8), 3);

    write_run(7, 64); /* the last one, whose place ends eight lines on */
    assert_int_equal(read_run(6), 6);
    assert_int_equal(nr_line_peek(&receiver, &record), 0);
    nr_line_taking(&receiver, &record);
    assert_int_equal(nr_line_ring_sit(&receiver, false), 0);
    assert_int_equal(nr_line_peek(&receiver, &record), 0);
    assert_true(record.is_redelivered);
    assert_int_equal(read_one(), 1);
    assert_int_equal(head, tail);
    free(memory);
}

static void scribble(uint64_t stamp)
{
    atomic_store(&nr_line_at(&sender, 0)->stamp, nr_line_stamp(&sender, 0, 0) | stamp);
}

/* Sizes and counts that can't be: refused by both ways, and by who sits down. */
static void damaged(void **state)
{
    static const uint64_t runs[] = {
        NR_LINE_RUN | 64u << NR_LINE_SIZE_SHIFT,          /* no messages */
        NR_LINE_RUN | (uint64_t)3 << NR_LINE_COUNT_SHIFT, /* no bytes */
        NR_LINE_RUN | 65u << NR_LINE_SIZE_SHIFT | (uint64_t)3 << NR_LINE_COUNT_SHIFT, /* too many */
    };
    struct nr_line_record record;
    struct nr_line_run run;
    char data[64];

    (void)state;
    for (unsigned i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        begin();
        scribble(runs[i]);
        assert_false(nr_line_run_find(&receiver, &run));
        assert_int_equal(nr_line_peek(&receiver, &record), -EBADMSG);
        assert_int_equal(nr_line_ring_sit(&sender, true), -EBADMSG);
        free(memory);
    }
    begin();
    scribble(NR_LINE_RUN | 64u << NR_LINE_SIZE_SHIFT | (uint64_t)3 << NR_LINE_COUNT_SHIFT);
    atomic_store(&receiver.shared->head, 3); /* behind the third */
    assert_int_equal(nr_line_ring_sit(&receiver, false), -EBADMSG);
    atomic_store(&receiver.shared->head, 2);
    assert_int_equal(nr_line_ring_sit(&receiver, false), 0);
    free(memory);

    begin(); /* two of 62 bytes in one line; none, and then one */
    scribble(NR_LINE_SMALL | (uint64_t)(63 | 63 << NR_LINE_CODE_BITS) << NR_LINE_SIZE_SHIFT);
    struct nr_line_reading reading = nr_line_read_begin(&receiver);
    assert_true(nr_line_read(&receiver, &reading, data, sizeof data) < 0);
    scribble(NR_LINE_SMALL | (uint64_t)(57 | 2 << NR_LINE_CODE_BITS) << NR_LINE_SIZE_SHIFT);
    reading = nr_line_read_begin(&receiver);
    assert_int_equal(nr_line_read(&receiver, &reading, data, sizeof data), 56);
    assert_true(nr_line_read(&receiver, &reading, data, sizeof data) < 0);
    scribble(NR_LINE_SMALL | (uint64_t)(9 | 9 << 2 * NR_LINE_CODE_BITS) << NR_LINE_SIZE_SHIFT);
    reading = nr_line_read_begin(&receiver);
    assert_int_equal(nr_line_read(&receiver, &reading, data, sizeof data), 8);
    assert_true(nr_line_read(&receiver, &reading, data, sizeof data) < 0);
    scribble(NR_LINE_SMALL | ~(uint64_t)0 << (NR_LINE_SIZE_SHIFT + 42) |
             (uint64_t)(1 | 1 << 6 | 1 << 12 | 1 << 18 | 1 << 24) << NR_LINE_SIZE_SHIFT |
             (uint64_t)(1 | 1 << 6) << (NR_LINE_SIZE_SHIFT + 30));
    reading = nr_line_read_begin(&receiver);
    for (int i = 0; i < 7; i++)
        assert_int_equal(nr_line_read(&receiver, &reading, data, sizeof data), 0);
    assert_true(nr_line_read(&receiver, &reading, data, sizeof data) < 0);
    free(memory);
}

/* All of a message, and no byte behind it: not of the sender's, nor of the caller's room. */
static void copies_are_exact(void **state)
{
    (void)state;
    for (uint32_t size_bytes = 0; size_bytes <= 64; size_bytes++) {
        char from[64 + 16], to[64 + 16], expected[64 + 16];
        memset(to, 'x', sizeof to);
        memset(expected, 'x', sizeof expected);
        fill(from, sizeof from, size_bytes);
        memcpy(expected, from, size_bytes);
        nr_line_move(to, from, size_bytes);
        assert_memory_equal(to, expected, sizeof to);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_are_exact),
        cmocka_unit_test(in_order_in_any_way),
        cmocka_unit_test(as_dense_as_promised),
        cmocka_unit_test(full),
        cmocka_unit_test(too_large),
        cmocka_unit_test(beside_single_ones),
        cmocka_unit_test(unfinished),
        cmocka_unit_test(has_no_beginning_inside),
        cmocka_unit_test(in_the_middle),
        cmocka_unit_test(damaged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
