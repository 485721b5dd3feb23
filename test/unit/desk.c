/* SPDX-License-Identifier: MIT */
/* desk -- messages of all sizes both ways, the turn, garbage */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "data/desk.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void *memory;
static struct nr_desk owner, worker;

static int test_setup(void **state)
{
    (void)state;
    memory = aligned_alloc(4096, (nr_desk_bytes() + 4095) / 4096 * 4096);
    memset(memory, 0, nr_desk_bytes());
    nr_desk_attach(&owner, memory, NR_DESK_OWNER);
    nr_desk_attach(&worker, memory, NR_DESK_WORKER);
    return 0;
}

static int test_teardown(void **state)
{
    (void)state;
    free(memory);
    return 0;
}

static void test_size(void **state)
{
    (void)state;
    assert_true(nr_desk_bytes() <= 32 * 1024);
}

static void cross(struct nr_desk *from, struct nr_desk *to, uint64_t number, size_t size_bytes)
{
    static char data[NR_DESK_PART_BYTES];
    struct nr_desk_message message;
    uint64_t header = nr_desk_task_header(NR_DESK_TASK, number, 3, true);

    memset(data, (int)number, size_bytes);
    assert_int_equal(nr_desk_put(from, header, data, size_bytes), 0);
    assert_true(nr_desk_may_get(to));
    assert_int_equal(nr_desk_get(to, &message), 0);
    assert_int_equal(nr_desk_kind(message.header), NR_DESK_TASK);
    assert_int_equal(nr_desk_task_number(message.header), number);
    assert_int_equal(nr_desk_task_attempt(message.header), 3);
    assert_true(nr_desk_task_is_timed(message.header));
    assert_int_equal(message.size_bytes, size_bytes);
    assert_memory_equal(message.data, data, size_bytes);
    assert_true(message.stands_apart || ((uintptr_t)message.data & 15) == 0);
    nr_desk_done(to, &message);
    assert_int_equal(nr_desk_get(to, &message), -EAGAIN);
}

static void test_sizes_both_ways(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < 3; round++)
        for (size_t size_bytes = 0; size_bytes <= NR_DESK_PART_BYTES;
             size_bytes += size_bytes < 300 ? 1 : 97) {
            cross(&owner, &worker, round * 10000 + size_bytes, size_bytes);
            cross(&worker, &owner, round * 10000 + size_bytes, size_bytes);
        }
}

static void test_full(void **state)
{
    struct nr_desk_message message;
    unsigned count = 0;

    (void)state;
    while (nr_desk_put(&owner, nr_desk_task_header(NR_DESK_TASK, count, 1, false), NULL, 0) == 0)
        count++;
    assert_true(count >= 256);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(nr_desk_get(&worker, &message), 0);
        assert_int_equal(nr_desk_task_number(message.header), i);
        nr_desk_done(&worker, &message);
    }
    assert_int_equal(nr_desk_put(&owner, 2, NULL, 0), 0);
}

static void test_result_header(void **state)
{
    uint64_t header = nr_desk_result_header(NR_DESK_DONE, 0x123456789aull, -7);

    (void)state;
    assert_int_equal(nr_desk_kind(header), NR_DESK_DONE);
    assert_int_equal(nr_desk_result_code(header), -7);
    assert_true(nr_desk_result_is_of(header, 0x123456789aull));
    assert_false(nr_desk_result_is_of(header, 0x123456789bull));
}

static void test_turn(void **state)
{
    (void)state;
    assert_true(nr_desk_begin(&worker));
    assert_true(nr_desk_begin(&worker));
    assert_int_equal(nr_desk_begun(&owner), 2);
    assert_true(nr_desk_turn_is_sane(&owner, 1, 1, false));
    assert_false(nr_desk_turn_is_sane(&owner, 1, 0, false)); /* more begun than there are */
    assert_false(nr_desk_turn_is_sane(&owner, 3, 4, false)); /* fewer than were answered */
    assert_int_equal(nr_desk_close(&owner), 2);
    assert_false(nr_desk_begin(&worker));
    assert_int_equal(nr_desk_begun(&owner), 2);
    assert_false(nr_desk_turn_is_sane(&owner, 2, 0, false));
    assert_true(nr_desk_turn_is_sane(&owner, 2, 0, true));
    nr_desk_reopen(&worker);
    assert_true(nr_desk_begin(&worker));
    assert_int_equal(nr_desk_begun(&owner), 3);
    assert_int_equal(nr_desk_begun_ns(&owner), 0);
    nr_desk_stamp(&worker, 17);
    assert_int_equal(nr_desk_begun_ns(&owner), 17);
    owner.shared->turn = UINT32_MAX; /* and on from the start */
    assert_true(nr_desk_turn_is_sane(&owner, UINT32_MAX, 0, false));
    assert_true(nr_desk_begin(&worker));
    assert_int_equal(nr_desk_begun(&owner), 0);
    assert_true(nr_desk_turn_is_sane(&owner, UINT32_MAX, 1, false));
    owner.shared->turn = (uint64_t)1 << 32;
    assert_false(nr_desk_turn_is_sane(&owner, 0, 4, true));
}

/* What a worker may write that is no message: nothing of it comes through, and a message after it does not either. */
static void test_no_messages(void **state)
{
    static const struct {
        uint32_t size_bytes;
        int64_t type;
        int expected;
    } cases[] = {
        {0, 0, -EBADMSG},
        {7, 0, -EBADMSG},
        {8, 0, 0}, /* shorter than a header */
        {7, 5, -EBADMSG},
        {8, 5, 0},
        {48, 5, 0},
        {56, 5, -EBADMSG}, /* in two parts */
        {113, 0, 0},
        {NR_DESK_PART_BYTES + NR_DESK_HEADER_BYTES, 0, 0},
        {NR_DESK_PART_BYTES + NR_DESK_HEADER_BYTES + 1, 0, -EBADMSG},
    };
    struct nr_desk_message message;
    struct nr_line_room room;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        test_teardown(state);
        test_setup(state);
        assert_int_equal(nr_line_reserve(&worker.out, cases[i].size_bytes, cases[i].type, &room),
                         0);
        memset(room.first, 0, room.first_bytes);
        nr_line_publish(&worker.out, cases[i].size_bytes, cases[i].type);
        assert_int_equal(nr_desk_get(&owner, &message), cases[i].expected);
        if (cases[i].expected == 0)
            assert_int_equal(message.size_bytes, cases[i].size_bytes - NR_DESK_HEADER_BYTES);
    }
    /* A line that tells of something that can't be there, behind a sound one. */
    test_teardown(state);
    test_setup(state);
    char data[300] = {0};
    for (int i = 0; i < 2; i++)
        assert_int_equal(nr_desk_put(&worker, 0, data, sizeof data), 0);
    assert_int_equal(nr_desk_get(&owner, &message), 0);
    nr_desk_done(&owner, &message);
    memset(owner.in.lines + NR_LINE_BYTES + 8, 0xff, 24);
    assert_int_equal(nr_desk_get(&owner, &message), -EBADMSG);
}

/* True is said when a line is the sender's again, and not before: then somebody is woken. */
static void test_done(void **state)
{
    struct nr_desk_message message;
    char data[300] = {0};

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(nr_desk_put(&owner, i, data, i == 3 ? sizeof data : 8), 0);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(nr_desk_get(&worker, &message), 0);
        assert_int_equal(message.header, i);
        assert_int_equal(message.stands_apart, i == 3);
        assert_int_equal(nr_desk_done(&worker, &message), i >= 2);
    }
    assert_int_equal(nr_desk_put(&owner, 4, data, 40), 0);
    assert_int_equal(nr_desk_get(&worker, &message), 0);
    assert_true(nr_desk_done(&worker, &message));
}

/* Whatever stands on a desk, its owner gets a message of a size that can be, nothing, or -EBADMSG. */
static void test_garbage(void **state)
{
    struct nr_desk_message message;
    unsigned random = 1;

    (void)state;
    for (int round = 0; round < 300; round++) {
        for (size_t i = 0; i < nr_desk_bytes(); i++) {
            random = random * 1664525 + 1013904223;
            ((unsigned char *)memory)[i] = (unsigned char)(random >> 24);
        }
        nr_desk_attach(&owner, memory, NR_DESK_OWNER);
        for (int i = 0; i < 100; i++) {
            int result = nr_desk_get(&owner, &message);
            assert_true(result == 0 || result == -EAGAIN || result == -EBADMSG);
            if (result < 0)
                break;
            assert_true(message.size_bytes <= NR_DESK_PART_BYTES);
            volatile char sum = 0;
            for (uint32_t j = 0; j < message.size_bytes; j++)
                sum = (char)(sum + message.data[j]);
            nr_desk_done(&owner, &message);
        }
        int put = nr_desk_put(&owner, 1, "x", 1);
        assert_true(put == 0 || put == -EAGAIN || put == -EBADMSG);
    }
}

static void test_rest(void **state)
{
    (void)state;
    assert_false(nr_desk_is_at_rest(&owner)); /* new memory: it has not come yet */
    nr_desk_rest(&worker);
    assert_true(nr_desk_is_at_rest(&owner));
    assert_true(nr_desk_begin(&worker));
    assert_false(nr_desk_is_at_rest(&owner));
    nr_desk_rest(&worker);
    assert_true(nr_desk_is_at_rest(&owner));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_size, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_sizes_both_ways, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_full, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_result_header, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_turn, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_no_messages, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_done, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_garbage, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_rest, test_setup, test_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
