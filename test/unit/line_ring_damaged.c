/* SPDX-License-Identifier: MIT */
/* line_ring_damaged -- whatever a peer has written there, it is said so, and nothing outside is touched */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "data/line_short.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LINES = 16, BYTES = 1920 };
enum { SMALL = 2, ONE, APART, RUN }; /* kinds of stamps */

static struct nr_line_ring sender, receiver;
static struct nr_line_ring_shared *shared;

static void begin(bool at_most_once)
{
    uint64_t memory_bytes = nr_line_ring_memory(LINES, BYTES);

    free(shared);
    shared = aligned_alloc(64, memory_bytes);
    assert_non_null(shared);
    memset(shared, 0, memory_bytes);
    sender = (struct nr_line_ring){
        .lines_count = LINES, .bytes_count = BYTES, .at_most_once = at_most_once};
    nr_line_ring_attach(&sender, shared);
    receiver = sender;
    assert_int_equal(nr_line_ring_sit(&sender, true), 0);
    assert_int_equal(nr_line_ring_sit(&receiver, false), 0);
}

static int teardown(void **state)
{
    (void)state;
    free(shared);
    shared = NULL;
    return 0;
}

static int put(uint32_t size_bytes)
{
    static const char zero[LINES * 64];
    struct nr_line_room room;
    int result = nr_line_reserve(&sender, size_bytes, 0, &room);

    if (result < 0)
        return result;
    memcpy(room.first, zero, room.first_bytes);
    nr_line_publish(&sender, size_bytes, 0);
    return 0;
}

static void put_and_get(uint32_t size_bytes)
{
    struct nr_line_record record;

    assert_int_equal(put(size_bytes), 0);
    assert_int_equal(nr_line_peek(&receiver, &record), 0);
    nr_line_release(&receiver, &record);
}

/* In the first lap. */
static void set_stamp(unsigned line, unsigned kind, uint64_t rest)
{
    *(uint64_t *)(void *)(sender.lines + 64 * (size_t)line) = kind | rest << 20;
}

static void set_apart(unsigned line, uint64_t position, uint64_t size_bytes)
{
    uint64_t *descriptor = (uint64_t *)(void *)(sender.lines + 64 * (size_t)line + 8);

    set_stamp(line, APART, 0);
    descriptor[0] = position;
    descriptor[1] = size_bytes;
    descriptor[3] = position % BYTES;
}

/* -- for who sits down -------------------------------------------------------------------------- */

static void test_next_sender(void **state)
{
    static const struct {
        uint64_t position, size_bytes;
        int expected;
    } second[] = {
        {BYTES, 64, 0},           {BYTES + 64, 64, -EBADMSG}, /* all of the bytes; more */
        {BYTES - 64, 64, 0},      {BYTES - 64, 65, -EBADMSG}, /* up to their end; over it */
        {BYTES, BYTES, -EBADMSG}, {BYTES, BYTES + 1, -EBADMSG},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof second / sizeof second[0]; i++) {
        begin(false);
        set_apart(0, 64, 64);
        set_apart(1, second[i].position, second[i].size_bytes);
        assert_int_equal(nr_line_ring_sit(&sender, true), second[i].expected);
    }
    for (unsigned last_bytes = 56; last_bytes < 58; last_bytes++) { /* all lines; more */
        begin(false);
        for (unsigned i = 0; i < LINES; i++)
            set_stamp(i, ONE, i == LINES - 1 ? last_bytes : 56);
        assert_int_equal(nr_line_ring_sit(&sender, true), last_bytes == 56 ? 0 : -EBADMSG);
    }
}

static void test_next_receiver(void **state)
{
    static const struct {
        unsigned kind;
        uint64_t rest, head, taking;
        bool at_most_once;
        int expected;
    } cases[] = {
        {SMALL, 9 | 9 << 6, 2, 2, false, 0},          /* two of 8 bytes, read */
        {SMALL, 9, 2, 2, false, -EBADMSG},            /* there is one */
        {ONE, 9, 2, 2, false, -EBADMSG},              /* several, of which there is one */
        {ONE, 9, 1, 1, false, -EBADMSG},              /* likewise */
        {RUN, 30 | 3 << 8, 2, 2, false, 0},           /* two of three */
        {RUN, 30 | 2 << 8, 2, 2, false, -EBADMSG},    /* there are two */
        {SMALL, 25 | 33 << 6, 2, 2, false, 0},        /* a full line */
        {SMALL, 33 | 33 << 6, 2, 2, false, -EBADMSG}, /* more */
        {SMALL, 9, 1, 9 << 3, false, 0},              /* behind the eight lines of a run */
        {SMALL, 9, 1, 10 << 3, false, -EBADMSG},      /* there is none so long */
        {SMALL, 9, 1, 0, true, 0},                    /* nothing was in hand */
        {SMALL, 9, 1, 1, true, 0},
        {SMALL, 9 | 9 << 6, 1, 2, true, 1},
        {SMALL, 9, 1, 2, true, -EBADMSG}, /* what is not there can't be skipped */
    };

    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        begin(cases[i].at_most_once);
        set_stamp(0, cases[i].kind, cases[i].rest);
        shared->head = cases[i].head;
        shared->taking = cases[i].taking;
        assert_int_equal(nr_line_ring_sit(&receiver, false), cases[i].expected);
    }
}

/* -- while one sends ---------------------------------------------------------------------------- */

/* As far as is known no line is free: so it looks at head. */
static void test_head(void **state)
{
    static const struct {
        uint64_t before, line;
        int expected;
    } cases[] = {
        {0, LINES, 0},            /* all were read */
        {0, LINES + 1, -EBADMSG}, /* more than that */
        {2, 2, -EAGAIN},          /* no more */
        {2, 1, -EBADMSG},         /* less */
    };

    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        begin(false);
        for (unsigned j = 0; j < LINES; j++)
            assert_int_equal(put(56), 0);
        assert_int_equal(put(56), -EAGAIN);
        if (cases[i].before) {
            shared->head = cases[i].before << 3;
            assert_int_equal(put(100), 0);
        }
        shared->head = cases[i].line << 3;
        assert_int_equal(put(56), cases[i].expected);
    }
}

/* As far as is known no byte is free: so it looks what the receiver has passed. */
static void test_lines_that_were_passed(void **state)
{
    (void)state;
    for (int what = 0; what < 5; what++) {
        begin(false);
        assert_int_equal(put(100), 0);
        while (put(250) == 0)
            ;
        assert_int_equal(put(100), 0);              /* there are lines */
        shared->head = what == 1 ? 1 << 3 : 3 << 3; /* 1: between two lines of a message */
        if (what == 2)
            set_stamp(2, 0, 0);
        else if (what == 3)
            set_apart(2, BYTES - 1, 2);
        else if (what == 4)
            set_apart(2, 3 * BYTES, 64);
        assert_int_equal(put(250), what ? -EBADMSG : 0);
    }
}

/* -- while one receives ------------------------------------------------------------------------- */

static const struct {
    unsigned kind;
    uint64_t rest;
    int peek, get;
} stamps[] = {
    {SMALL, 9, 0, 8},
    {SMALL, 57, 0, 56},
    {SMALL, 58, -EBADMSG, -EMSGSIZE}, /* 57 bytes */
    {SMALL, 0, -EAGAIN, -EAGAIN},
    {ONE, 112, 0, 112},
    {ONE, 113, -EBADMSG, -EMSGSIZE},
    {ONE, 104 | 1 << 8, 0, -EMSGSIZE}, /* with a type */
    {ONE, 105 | 1 << 8, -EBADMSG, -EMSGSIZE},
    {RUN, 64 | 7 << 8, 0, -EMSGSIZE}, /* for the long way, and for batches */
    {RUN, 65 | 7 << 8, -EBADMSG, -EMSGSIZE},
    {RUN, 64, -EBADMSG, -EMSGSIZE}, /* of none */
    {RUN + 1, 8, -EAGAIN, -EAGAIN},
};

static void expect(int peek, int get)
{
    struct nr_line_ring before = receiver;
    struct nr_line_record record;
    char data[120];
    bool frees;

    assert_int_equal(nr_line_peek(&receiver, &record), peek);
    assert_int_equal(nr_line_get(&before, data, sizeof data, &frees), get);
}

static void test_stamps(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof stamps / sizeof stamps[0]; i++) {
        begin(false);
        set_stamp(0, stamps[i].kind, stamps[i].rest);
        expect(stamps[i].peek, stamps[i].get);
        begin(false); /* the same behind one that was read */
        put_and_get(8);
        set_stamp(1, stamps[i].kind, stamps[i].rest);
        if (stamps[i].kind == SMALL && !stamps[i].rest) /* a line that was begun has one */
            expect(-EBADMSG, -EMSGSIZE);
        else
            expect(stamps[i].peek, stamps[i].get);
    }
}

/* A line that is being read, and all at once is of another form, or holds more than it can. */
static void test_stamp_that_changes(void **state)
{
    static const unsigned kinds[] = {ONE, APART, SMALL};

    (void)state;
    for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        begin(false);
        put_and_get(8);
        set_stamp(0, kinds[i], kinds[i] == SMALL ? 9 | 50 << 6 : 40);
        expect(-EBADMSG, -EMSGSIZE);
    }
}

/* Seven that were read, and an eighth that no stamp has room for. */
static void test_an_eighth(void **state)
{
    (void)state;
    begin(false);
    for (unsigned i = 0; i < 7; i++)
        put_and_get(8);
    *(uint64_t *)(void *)sender.lines |= (uint64_t)1 << 62;
    expect(-EAGAIN, -EAGAIN);
}

static void test_apart_out_of_bounds(void **state)
{
    static const struct {
        uint64_t position, size_bytes;
        int expected;
    } cases[] = {
        {0, 250, 0},
        {0, BYTES, 0},
        {0, BYTES + 1, -EBADMSG},
        {BYTES - 64, 64, 0},
        {BYTES - 64, 65, -EBADMSG},
        {BYTES - 8, 250, -EBADMSG},
        {64, UINT64_MAX - 63, -EBADMSG},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        begin(false);
        set_apart(0, cases[i].position, cases[i].size_bytes);
        expect(cases[i].expected, cases[i].size_bytes == 64 ? 64 : -EMSGSIZE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next_sender), cmocka_unit_test(test_next_receiver),
        cmocka_unit_test(test_head),        cmocka_unit_test(test_lines_that_were_passed),
        cmocka_unit_test(test_stamps),      cmocka_unit_test(test_stamp_that_changes),
        cmocka_unit_test(test_an_eighth),   cmocka_unit_test(test_apart_out_of_bounds),
    };

    return cmocka_run_group_tests_name("line_ring_damaged", tests, NULL, teardown);
}
