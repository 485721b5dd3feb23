/* SPDX-License-Identifier: MIT */
/* interrupt -- the flag and its descriptor: raised before, between and after, one raise ends one wait */
#include "os/interrupt.h"
#include "kit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

static bool nr_interrupt_polls(int fd)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};

    return poll(&one, 1, 0) == 1;
}

static void nr_interrupt_test_flag(void **state)
{
    struct nr_interrupt interrupt = NR_INTERRUPT_NULL;

    (void)state;
    assert_false(nr_interrupt_consume(&interrupt));
    nr_interrupt_raise(&interrupt);
    nr_interrupt_raise(&interrupt); /* twice is once */
    assert_true(nr_interrupt_is_raised(&interrupt));
    assert_true(nr_interrupt_consume(&interrupt));
    assert_false(nr_interrupt_consume(&interrupt));
    assert_int_equal(interrupt.fd, -1); /* nobody has waited: no descriptor was made */
    nr_interrupt_deinit(&interrupt);
}

static void nr_interrupt_test_descriptor(void **state)
{
    struct nr_interrupt interrupt = NR_INTERRUPT_NULL;

    (void)state;
    int fd = nr_interrupt_fd(&interrupt);
    assert_true(fd >= 0);
    assert_int_equal(nr_interrupt_fd(&interrupt), fd);
    assert_false(nr_interrupt_polls(fd));
    errno = 77;
    nr_interrupt_raise(&interrupt);
    assert_int_equal(errno, 77); /* a handler's errno is its own */
    assert_true(nr_interrupt_polls(fd));
    assert_true(nr_interrupt_consume(&interrupt));
    assert_false(nr_interrupt_polls(fd));
    for (int i = 0; i < 100000; i++) /* never blocks, however often nobody waits */
        nr_interrupt_raise(&interrupt);
    assert_true(nr_interrupt_consume(&interrupt));
    assert_false(nr_interrupt_polls(fd));
    int fds = nr_kit_fds();
    nr_interrupt_deinit(&interrupt);
    nr_interrupt_deinit(&interrupt);
    assert_int_equal(nr_kit_fds(), fds - 1);
}

/* Raised between the making of the descriptor and the look at the flag, one of the two tells. */
static void *nr_interrupt_raise_often(void *argument)
{
    for (int i = 0; i < 2000; i++)
        nr_interrupt_raise(argument);
    return NULL;
}

static void nr_interrupt_test_race(void **state)
{
    (void)state;
    for (int round = 0; round < 50; round++) {
        struct nr_interrupt interrupt = NR_INTERRUPT_NULL;
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, nr_interrupt_raise_often, &interrupt), 0);
        int fd = nr_interrupt_fd(&interrupt);
        for (int i = 0; i < 100; i++)
            nr_interrupt_consume(&interrupt);
        pthread_join(thread, NULL);
        nr_interrupt_raise(&interrupt);
        assert_true(nr_interrupt_polls(fd)); /* who sleeps in poll now is woken */
        assert_true(nr_interrupt_consume(&interrupt));
        nr_interrupt_deinit(&interrupt);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nr_interrupt_test_flag),
        cmocka_unit_test(nr_interrupt_test_descriptor),
        cmocka_unit_test(nr_interrupt_test_race),
    };

    alarm(40);
    return cmocka_run_group_tests_name("interrupt", tests, NULL, NULL);
}
