/* SPDX-License-Identifier: MIT */
/* uri -- scheme://rest, taken apart and checked */
#include "base/error.h"
#include "base/uri.h"
#include "kit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

static void nr_uri_test_parse(void **state)
{
    struct nr_uri uri;

    (void)state;
    assert_int_equal(nr_uri_parse(&uri, "mq://jobs"), 0);
    assert_string_equal(uri.scheme, "mq");
    assert_string_equal(uri.rest, "jobs");
    assert_false(nr_uri_is_path(&uri));
    assert_int_equal(nr_uri_parse(&uri, "fifo:///tmp/a://b"), 0); /* the first one counts */
    assert_string_equal(uri.scheme, "fifo");
    assert_string_equal(uri.rest, "/tmp/a://b");
    assert_true(nr_uri_is_path(&uri));
    assert_int_equal(nr_uri_parse(&uri, "pipe://"), 0);
    assert_string_equal(uri.rest, "");
}

static void nr_uri_test_parse_fails(void **state)
{
    struct nr_uri uri = {.scheme = "before"};
    char text[NR_URI_REST_BYTES + 32] = "fifo:///";

    (void)state;
    nr_check_fails(nr_uri_parse(&uri, NULL), -EINVAL, "scheme://name");
    nr_check_fails(nr_uri_parse(&uri, ""), -EINVAL, "scheme://name");
    nr_check_fails(nr_uri_parse(&uri, "://x"), -EINVAL, "scheme://name");
    nr_check_fails(nr_uri_parse(&uri, "a:/x"), -EINVAL, "scheme://name");
    nr_check_fails(nr_uri_parse(&uri, "sixteenletterss:"), -EINVAL, "scheme://name");
    nr_check_fails(nr_uri_parse(&uri, "sixteen-letters-://x"), -EPROTONOSUPPORT, "naru transports");
    memset(text + 8, 'x', NR_URI_REST_BYTES - 1);
    nr_check_fails(nr_uri_parse(&uri, text), -EINVAL, "1024 bytes|1023");
    assert_string_equal(uri.scheme, "before");
    text[7 + NR_URI_REST_BYTES - 1] = '\0'; /* the longest there may be */
    assert_int_equal(nr_uri_parse(&uri, text), 0);
    assert_int_equal(strlen(uri.rest), NR_URI_REST_BYTES - 1);
    assert_int_equal(nr_uri_parse(&uri, "fifteen-letters://x"), 0);
}

static int nr_uri_name(const char *name)
{
    struct nr_uri uri = {.scheme = "mq"};

    strcpy(uri.rest, name);
    return nr_uri_check_name(&uri);
}

static void nr_uri_test_names(void **state)
{
    char name[NR_URI_NAME_MAX + 2] = "";

    (void)state;
    assert_int_equal(nr_uri_name("a"), 0);
    assert_int_equal(nr_uri_name("A-z_0.9"), 0);
    assert_int_equal(nr_uri_name("-"), 0);
    memset(name, 'n', NR_URI_NAME_MAX);
    assert_int_equal(nr_uri_name(name), 0);
    name[NR_URI_NAME_MAX] = 'n';
    nr_check_fails(nr_uri_name(name), -EINVAL, "1 to 200");
    nr_check_fails(nr_uri_name(""), -EINVAL, "1 to 200");
    nr_check_fails(nr_uri_name("."), -EINVAL, "begin with '.'");
    nr_check_fails(nr_uri_name(".."), -EINVAL, "begin with '.'");
    for (int c = 1; c < 256; c++) {
        char text[3] = {'a', (char)c, '\0'};
        bool allowed =
            strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", c);
        assert_int_equal(nr_uri_name(text), allowed ? 0 : -EINVAL);
    }
}

static void nr_uri_test_paths(void **state)
{
    static const struct {
        const char *path;
        int result;
    } paths[] = {
        {"/a", 0}, {"/tmp/x y", 0}, {"/", -EINVAL}, {"", -EINVAL}, {"a", -EINVAL}, {"/a/", -EINVAL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        struct nr_uri uri = {.scheme = "fifo"};
        strcpy(uri.rest, paths[i].path);
        assert_int_equal(nr_uri_check_path(&uri), paths[i].result);
    }
}

static void nr_uri_test_numbers(void **state)
{
    static const struct {
        const char *text;
        int64_t lowest, highest, value;
        int result;
    } numbers[] = {
        {"0", 0, 10, 0, 0},
        {"10", 0, 10, 10, 0},
        {"11", 0, 10, 0, -EINVAL},
        {"-1", 0, 10, 0, -EINVAL},
        {"-1", -1, 10, -1, 0},
        {"0x1F", 0, 100, 31, 0},
        {"0X1f", 0, 100, 31, 0},
        {"010", 0, 100, 10, 0}, /* decimal, not octal */
        {"", 0, 10, 0, -EINVAL},
        {"0x", 0, 10, 0, -EINVAL},
        {"1x", 0, 10, 0, -EINVAL},
        {" 1", 0, 10, 0, -EINVAL},
        {"+1", 0, 10, 0, -EINVAL},
        {"1 ", 0, 10, 0, -EINVAL},
        {"9223372036854775807", 0, INT64_MAX, INT64_MAX, 0},
        {"9223372036854775808", 0, INT64_MAX, 0, -EINVAL},
        {"0xFFFFFFFFFFFFFFFFF", 0, INT64_MAX, 0, -EINVAL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        int64_t value = 77;
        int result = nr_uri_number(numbers[i].text, numbers[i].lowest, numbers[i].highest, &value);
        if (result != numbers[i].result)
            print_message("the number is \"%s\"\n", numbers[i].text);
        assert_int_equal(result, numbers[i].result);
        assert_true(value == (result < 0 ? 77 : numbers[i].value));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nr_uri_test_parse),   cmocka_unit_test(nr_uri_test_parse_fails),
        cmocka_unit_test(nr_uri_test_names),   cmocka_unit_test(nr_uri_test_paths),
        cmocka_unit_test(nr_uri_test_numbers),
    };

    return cmocka_run_group_tests_name("uri", tests, NULL, NULL);
}
