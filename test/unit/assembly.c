/* SPDX-License-Identifier: MIT */
/* assembly -- messages that come in fragments: in any order, of many senders, of some that died, of liars */
#include "base/error.h"
#include "kit.h"
#include "transport/assembly.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NR_PIECE_BYTES = 100 };
static const char nr_assembly_zeros[300];

/* Piece `number` of a message of `total_bytes`, which is made as kit.h does. */
static int nr_assembly_piece(struct nr_assembly *assembly, unsigned sender, unsigned message,
                             size_t total_bytes, size_t number, void **ret)
{
    unsigned char whole[4096];
    size_t offset = number * NR_PIECE_BYTES;

    nr_payload_fill(whole, total_bytes, sender, message);
    struct nr_fragment fragment = {
        .sender = sender,
        .sender_pid = getpid(),
        .message = message,
        .offset_bytes = offset,
        .size_bytes = total_bytes - offset < NR_PIECE_BYTES ? total_bytes - offset : NR_PIECE_BYTES,
        .total_bytes = total_bytes,
        .piece_bytes = NR_PIECE_BYTES,
        .data = whole + offset,
    };
    return nr_assembly_add(assembly, &fragment, ret);
}

static void nr_assembly_expect(void *data, size_t size_bytes, unsigned sender, unsigned message)
{
    assert_non_null(data);
    assert_true(nr_payload_is_whole(data, size_bytes, sender, message));
    free(data);
}

static void nr_assembly_test_any_order(void **state)
{
    static const size_t orders[][4] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {2, 0, 3, 1}};
    struct nr_assembly assembly = NR_ASSEMBLY_NULL;

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        void *data = NULL;
        for (int piece = 0; piece < 3; piece++) {
            assert_int_equal(nr_assembly_piece(&assembly, 5, i, 350, orders[i][piece], &data), 0);
            assert_null(data);
        }
        assert_int_equal(nr_assembly_piece(&assembly, 5, i, 350, orders[i][3], &data), 1);
        nr_assembly_expect(data, 350, 5, i);
    }
    assert_int_equal(assembly.senders_count, 1);
    nr_assembly_deinit(&assembly);
    nr_assembly_deinit(&assembly); /* may run twice */
    assert_int_equal(assembly.senders_count, 0);
}

static void nr_assembly_test_many_senders(void **state)
{
    struct nr_assembly assembly = NR_ASSEMBLY_NULL;
    void *data = NULL;

    (void)state;
    for (size_t piece = 0; piece < 2; piece++)
        for (unsigned sender = 1; sender <= 200; sender++) /* past where the dead are swept out */
            assert_int_equal(nr_assembly_piece(&assembly, sender, 9, 300, piece, &data), 0);
    assert_int_equal(assembly.senders_count, 200);
    for (unsigned sender = 200; sender >= 1; sender--) {
        assert_int_equal(nr_assembly_piece(&assembly, sender, 9, 300, 2, &data), 1);
        nr_assembly_expect(data, 300, sender, 9);
    }
    assert_int_equal(nr_assembly_forget(&assembly), 200);
    nr_assembly_deinit(&assembly);
}

static void nr_assembly_test_goodbye(void **state)
{
    struct nr_assembly assembly = NR_ASSEMBLY_NULL;
    void *data = NULL;

    (void)state;
    assert_false(nr_assembly_goodbye(&assembly, 1));
    assert_int_equal(nr_assembly_hello(&assembly, 1, getpid()), 0);
    assert_int_equal(nr_assembly_hello(&assembly, 1, getpid()), 0); /* known already */
    assert_int_equal(nr_assembly_hello(&assembly, 2, getpid()), 0);
    assert_int_equal(nr_assembly_piece(&assembly, 1, 0, 300, 0, &data), 0);
    assert_true(nr_assembly_goodbye(&assembly, 1));
    assert_false(nr_assembly_goodbye(&assembly, 1));
    assert_int_equal(nr_assembly_forget(&assembly), 1); /* sender 2 did not say goodbye */
    assert_int_equal(nr_assembly_forget(&assembly), 0);
}

/* Those whose process is gone are dropped, once there are many; the living stay. */
static void nr_assembly_test_sweep(void **state)
{
    struct nr_assembly assembly = NR_ASSEMBLY_NULL;
    pid_t gone = nr_kit_fork();

    (void)state;
    if (gone == 0)
        _exit(0);
    nr_kit_join(gone);
    for (unsigned i = 0; i < NR_ASSEMBLY_SENDERS_SWEEP; i++)
        assert_int_equal(nr_assembly_hello(&assembly, i + 1, i % 2 ? gone : getpid()), 0);
    assert_int_equal(nr_assembly_hello(&assembly, 1000, getpid()), 0);
    assert_int_equal(assembly.senders_count, NR_ASSEMBLY_SENDERS_SWEEP / 2 + 1);
    nr_assembly_deinit(&assembly);
}

/* A sender that gave up messages half way keeps at most so many; the oldest goes, the newest is whole. */
static void nr_assembly_test_given_up(void **state)
{
    struct nr_assembly assembly = NR_ASSEMBLY_NULL;
    void *data = NULL;

    (void)state;
    for (unsigned i = 0; i < NR_ASSEMBLY_PARTIALS * 3; i++)
        assert_int_equal(nr_assembly_piece(&assembly, 1, i, 300, 0, &data), 0);
    unsigned newest = NR_ASSEMBLY_PARTIALS * 3 - 1, oldest = newest - NR_ASSEMBLY_PARTIALS + 1;
    for (unsigned i = oldest; i <= newest; i++) {
        assert_int_equal(nr_assembly_piece(&assembly, 1, i, 300, 1, &data), 0);
        assert_int_equal(nr_assembly_piece(&assembly, 1, i, 300, 2, &data), 1);
        nr_assembly_expect(data, 300, 1, i);
    }
    nr_assembly_deinit(&assembly);
}

static void nr_assembly_test_liars(void **state)
{
    static const struct nr_fragment lies[] = {
        {.offset_bytes = 0, .size_bytes = 0, .total_bytes = 10},
        {.offset_bytes = 11, .size_bytes = 1, .total_bytes = 10},
        {.offset_bytes = 10, .size_bytes = 1, .total_bytes = 10},
        {.offset_bytes = 5, .size_bytes = 6, .total_bytes = 10},
        {.offset_bytes = SIZE_MAX - 2, .size_bytes = 8, .total_bytes = 10},
        {.offset_bytes = 4, .size_bytes = SIZE_MAX - 2, .total_bytes = 10},
    };
    struct nr_assembly assembly = NR_ASSEMBLY_NULL;
    void *data = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        struct nr_fragment lie = lies[i];
        lie.data = "0123456789abcdef";
        lie.piece_bytes = NR_PIECE_BYTES;
        lie.sender = 3;
        lie.sender_pid = getpid();
        nr_check_fails(nr_assembly_add(&assembly, &lie, &data), -EBADMSG, "outside");
    }
    struct nr_fragment crooked = {.sender = 4,
                                  .total_bytes = 300,
                                  .piece_bytes = NR_PIECE_BYTES,
                                  .offset_bytes = 50,
                                  .size_bytes = 100,
                                  .data = nr_assembly_zeros};
    nr_check_fails(nr_assembly_add(&assembly, &crooked, &data), -EBADMSG, "the others have");
    crooked.offset_bytes = 0;
    crooked.size_bytes = 99;
    nr_check_fails(nr_assembly_add(&assembly, &crooked, &data), -EBADMSG, "the others have");
    crooked.size_bytes = 300;
    nr_check_fails(nr_assembly_add(&assembly, &crooked, &data), -EBADMSG, "the others have");
    assert_int_equal(nr_assembly_piece(&assembly, 4, 1, 300, 0, &data), 0);
    nr_check_fails(nr_assembly_piece(&assembly, 4, 1, 400, 1, &data), -EBADMSG, "disagree");
    assert_null(data);
    nr_assembly_deinit(&assembly);
}

/* The same fragment again is no other one: the message must not count as whole with a hole in it. */
static void nr_assembly_test_repeated(void **state)
{
    struct nr_assembly assembly = NR_ASSEMBLY_NULL;
    void *data = NULL;

    (void)state;
    for (size_t piece = 0; piece < 3; piece++) {
        assert_int_equal(nr_assembly_piece(&assembly, 1, 0, 301, piece, &data), 0);
        nr_check_fails(nr_assembly_piece(&assembly, 1, 0, 301, piece, &data), -EBADMSG, "twice");
    }
    assert_int_equal(nr_assembly_piece(&assembly, 1, 0, 301, 3, &data), 1);
    nr_assembly_expect(data, 301, 1, 0);
    nr_assembly_deinit(&assembly);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nr_assembly_test_any_order),
        cmocka_unit_test(nr_assembly_test_many_senders),
        cmocka_unit_test(nr_assembly_test_goodbye),
        cmocka_unit_test(nr_assembly_test_sweep),
        cmocka_unit_test(nr_assembly_test_given_up),
        cmocka_unit_test(nr_assembly_test_liars),
        cmocka_unit_test(nr_assembly_test_repeated),
    };

    alarm(40);
    return cmocka_run_group_tests_name("assembly", tests, NULL, NULL);
}
