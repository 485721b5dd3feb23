/* SPDX-License-Identifier: MIT */
/* error -- the sentence behind a negative result, one for each thread */
#include "base/error.h"
#include "kit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static void nr_error_test_set(void **state)
{
    char line[32];

    (void)state;
    assert_string_equal(naru_error_text(), ""); /* before the first failure */
    assert_int_equal(nr_fail(-EINVAL, "%s has %d", "it", 7), -EINVAL);
    snprintf(line, sizeof line, "error.c:%d", __LINE__ - 1);
    assert_string_equal(naru_error_text(), "it has 7");
    assert_string_equal(naru_error_origin(), line);
    nr_fail(-EPERM, "another");
    assert_string_equal(naru_error_text(), "another");
}

static void nr_error_test_innermost_wins(void **state)
{
    (void)state;
    nr_error_clear();
    nr_fail(-EINVAL, "inner");
    assert_int_equal(nr_error_default(-EINVAL, "x.c:1", "outer"), -EINVAL);
    assert_string_equal(naru_error_text(), "inner");
    nr_error_clear();
    assert_int_equal(nr_error_default(-EAGAIN, "x.c:1", "outer"), -EAGAIN);
    assert_string_equal(naru_error_text(), "outer");
    assert_string_equal(naru_error_origin(), "x.c:1");
}

static void nr_error_test_long(void **state)
{
    static char text[4096];

    (void)state;
    memset(text, 'x', sizeof text - 1);
    nr_fail(-EINVAL, "%s", text);
    size_t length = strlen(naru_error_text());
    assert_in_range(length, 200, 1000); /* cut, not written past its end */
    nr_error_add("; and more", "nowhere");
    assert_int_equal(strlen(naru_error_text()), length);
    nr_error_clear();
    nr_error_default(-EINVAL, "x.c:1", text);
    assert_in_range(strlen(naru_error_text()), 200, 1000);
}

static void nr_error_test_add(void **state)
{
    (void)state;
    nr_fail(-EMFILE, "too many");
    nr_error_add("; raise it", "raise");
    assert_string_equal(naru_error_text(), "too many; raise it");
    nr_error_add("; raise it", "raise");
    assert_string_equal(naru_error_text(), "too many; raise it");
}

static void *nr_error_in_thread(void *argument)
{
    *(bool *)argument = naru_error_text()[0] == '\0';
    nr_fail(-EPERM, "the thread's own");
    return NULL;
}

static void nr_error_test_threads(void **state)
{
    pthread_t thread;
    bool was_empty = false;

    (void)state;
    nr_fail(-EINVAL, "mine");
    assert_int_equal(pthread_create(&thread, NULL, nr_error_in_thread, &was_empty), 0);
    pthread_join(thread, NULL);
    assert_true(was_empty);
    assert_string_equal(naru_error_text(), "mine");
}

static void nr_error_test_names(void **state)
{
    (void)state;
    assert_string_equal(nr_error_name(-ENOSPC), "No space left on device");
    assert_string_equal(nr_error_name(ENOSPC), "No space left on device");
    assert_string_equal(nr_error_name(-99999), "unknown error");
    assert_string_equal(nr_error_name(0), "Success");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nr_error_test_set),     cmocka_unit_test(nr_error_test_innermost_wins),
        cmocka_unit_test(nr_error_test_long),    cmocka_unit_test(nr_error_test_add),
        cmocka_unit_test(nr_error_test_threads), cmocka_unit_test(nr_error_test_names),
    };

    return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
