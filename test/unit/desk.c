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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_size, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_sizes_both_ways, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_full, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_result_header, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_turn, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_garbage, test_setup, test_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
