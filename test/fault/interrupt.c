/* SPDX-License-Identifier: MIT */
/* interrupt -- naru_interrupt() from a handler ends the wait it came before, in, or just at the end of */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <naru/endpoint.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { TEST_WAITS = 20000, TEST_PATIENCE_S = 40 };

static struct naru_endpoint *test_ends[2];

static void test_interrupt(int number)
{
    (void)number;
    naru_interrupt(test_ends[0]);
}

static int test_setup(void **state)
{
    alarm(TEST_PATIENCE_S); /* a missed interrupt is a wait for ever */
    if (naru_pair(test_ends, *state, NULL) < 0)
        fail_msg("%s", naru_error_text());
    return 0;
}

static int test_teardown(void **state)
{
    (void)state;
    alarm(0);
    naru_close(test_ends[0]);
    naru_close(test_ends[1]);
    return 0;
}

/* A timer fires up to 6 us after it was set: on the way into the system call, in it, or before. With
   SA_RESTART the kernel would go back into the call by itself. */
static void test_interrupt_waits(void)
{
    struct sigaction action = {.sa_handler = test_interrupt, .sa_flags = SA_RESTART};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    unsigned seed = 1;
    timer_t timer;
    char byte;

    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    assert_int_equal(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    for (int i = 0; i < TEST_WAITS; i++) {
        struct itimerspec soon = {.it_value = {.tv_nsec = 1 + rand_r(&seed) % 6000}};
        assert_int_equal(timer_settime(timer, 0, &soon, NULL), 0);
        assert_int_equal(naru_recv(test_ends[0], &byte, 1, NULL, NARU_FOREVER), -EINTR);
    }
    timer_delete(timer);
    signal(SIGUSR1, SIG_DFL);
}

/* One thread: the wait is in the system call itself (os/guard.h); of shm:// in its ring. */
static void test_no_interrupt_is_missed(void **state)
{
    (void)state;
    test_interrupt_waits();
}

static void *test_sleep(void *nothing)
{
    pause();
    return nothing;
}

/* Two threads: the wait is in ppoll, with the interrupt's descriptor. */
static void test_no_interrupt_is_missed_with_threads(void **state)
{
    sigset_t only;
    pthread_t thread;

    (void)state;
    sigemptyset(&only);
    sigaddset(&only, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &only, NULL); /* the other thread inherits it: the signal is ours */
    assert_int_equal(pthread_create(&thread, NULL, test_sleep, NULL), 0);
    pthread_sigmask(SIG_UNBLOCK, &only, NULL);
    test_interrupt_waits();
    pthread_cancel(thread);
    pthread_join(thread, NULL);
}

#define test_case(function, scheme)                                                                \
    {                                                                                              \
        .name = #function " " scheme, .test_func = function, .setup_func = test_setup,             \
        .teardown_func = test_teardown, .initial_state = (void *)(uintptr_t)scheme                 \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_case(test_no_interrupt_is_missed, "pipe://"),
        test_case(test_no_interrupt_is_missed_with_threads, "pipe://"),
        test_case(test_no_interrupt_is_missed, "shm://"),
        test_case(test_no_interrupt_is_missed_with_threads, "shm://"),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
