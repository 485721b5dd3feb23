/* SPDX-License-Identifier: MIT */
/* options -- what the user gave, made complete; limits tried at both sides (bad ones: fault/inputs.c) */
#include "core/core.h"
#include "kit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

static void nr_options_test_defaults(void **state)
{
    struct naru_options options;

    (void)state;
    assert_int_equal(nr_options_complete(&options, NULL), 0);
    assert_int_equal(options.size_bytes, sizeof options);
    assert_int_equal(options.pattern, NARU_QUEUE);
    assert_int_equal(options.file_mode, 0600);
    assert_int_equal(options.peer_timeout_ns, 10 * NARU_SECOND);
    assert_int_equal(options.create, NARU_CREATE_OR_ATTACH);
    assert_int_equal(options.when_full, 0); /* left to the technique */
    assert_int_equal(options.message_size_max_bytes, 0);
}

static void nr_options_test_kept(void **state)
{
    struct naru_options options, given = {
                                     .size_bytes = sizeof given,
                                     .create = NARU_CREATE,
                                     .pattern = NARU_CELL,
                                     .when_full = NARU_FAIL,
                                     .delivery = NARU_AT_MOST_ONCE,
                                     .durability = NARU_DURABLE_EVERY_COMMIT,
                                     .acknowledge = NARU_UNACKNOWLEDGED,
                                     .message_size_max_bytes = NR_MESSAGE_LIMIT_BYTES,
                                     .capacity_messages = 5,
                                     .payload_bytes = 6,
                                     .participants_max = 4096,
                                     .held_max = 7,
                                     .file_mode = 0777,
                                     .one_to_one = 1,
                                     .peer_timeout_ns = NARU_FOREVER,
                                     .type = -3,
                                     .signal_number = 40,
                                     .peer_uid_any = 1,
                                     .start = NARU_FROM_LAST,
                                     .start_messages = 3,
                                     .read_only = 1,
                                 };

    (void)state;
    assert_int_equal(nr_options_complete(&options, &given), 0);
    assert_memory_equal(&options, &given, sizeof options);
}

/* One more than the largest of each, and a value below the smallest. */
static void nr_options_test_limits(void **state)
{
    (void)state;
#define NR_OPTIONS_BAD(field, value)                                                               \
    do {                                                                                           \
        struct naru_options options = {.size_bytes = 1},                                           \
                            given = {.size_bytes = sizeof given, .field = (value)};                \
        nr_check_fails(nr_options_complete(&options, &given), -EINVAL, #field);                    \
        assert_int_equal(options.size_bytes, 1); /* untouched */                                   \
    } while (0)
    NR_OPTIONS_BAD(create, (enum naru_create)(NARU_CREATE + 1));
    NR_OPTIONS_BAD(create, (enum naru_create) - 1);
    NR_OPTIONS_BAD(pattern, (enum naru_pattern)(NARU_CELL + 1));
    NR_OPTIONS_BAD(when_full, (enum naru_when_full)(NARU_FAIL + 1));
    NR_OPTIONS_BAD(delivery, (enum naru_delivery)(NARU_AT_MOST_ONCE + 1));
    NR_OPTIONS_BAD(durability, (enum naru_durability)(NARU_DURABLE_EVERY_COMMIT + 1));
    NR_OPTIONS_BAD(acknowledge, (enum naru_acknowledge)(NARU_UNACKNOWLEDGED + 1));
    NR_OPTIONS_BAD(participants_max, 4097);
    NR_OPTIONS_BAD(file_mode, 01000);
    NR_OPTIONS_BAD(one_to_one, 2);
    NR_OPTIONS_BAD(peer_uid_any, UINT32_MAX);
    NR_OPTIONS_BAD(start, NARU_FROM_LAST + 1);
    NR_OPTIONS_BAD(start, NARU_FROM_LAST); /* without a number */
    NR_OPTIONS_BAD(start_messages, 1);     /* without that start */
    NR_OPTIONS_BAD(read_only, 2);
    NR_OPTIONS_BAD(message_size_max_bytes, (size_t)NR_MESSAGE_LIMIT_BYTES + 1);
#undef NR_OPTIONS_BAD
}

static void nr_options_test_settle(void **state)
{
    struct nr_request request = {.text = "mq://jobs"};

    (void)state;
    assert_int_equal(nr_request_settle(&request, "capacity_messages", 0, 10), 0);
    assert_int_equal(nr_request_settle(&request, "capacity_messages", 10, 10), 0);
    nr_check_fails(nr_request_settle(&request, "capacity_messages", 11, 10), -EINVAL,
                   "mq://jobs|capacity_messages|10|11");
    assert_int_equal(nr_request_refuse(&request, "durability", 0, "why"), 0);
    nr_check_fails(nr_request_refuse(&request, "durability", 1, "use file://"), -EOPNOTSUPP,
                   "mq://jobs|durability|use file://");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nr_options_test_defaults),
        cmocka_unit_test(nr_options_test_kept),
        cmocka_unit_test(nr_options_test_limits),
        cmocka_unit_test(nr_options_test_settle),
    };

    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
