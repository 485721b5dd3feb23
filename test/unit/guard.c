/* SPDX-License-Identifier: MIT */
/* guard -- a system call that starts only if a flag is not raised, whenever the signal comes */
#include "os/guard.h"
#include "kit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int nr_guard_raised;
static int nr_guard_pipe[2];

static void nr_guard_handler(int number)
{
    (void)number;
    __atomic_store_n(&nr_guard_raised, 1, __ATOMIC_SEQ_CST);
}

static void nr_guard_needs(void)
{
    if (nr_os_guard_works())
        return;
    printf("SKIP: there is no rseq here, so the guarded call is not used\n");
    skip();
}

static long nr_guard_read(void *data, size_t size_bytes)
{
    long arguments[6] = {nr_guard_pipe[0], (long)data, (long)size_bytes};

    return nr_os_guarded_call(&nr_guard_raised, SYS_read, arguments);
}

static void nr_guard_test_call(void **state)
{
    char room[8] = "";

    (void)state;
    nr_guard_needs();
    nr_guard_raised = 0;
    assert_int_equal(write(nr_guard_pipe[1], "abc", 3), 3);
    assert_int_equal(nr_guard_read(room, sizeof room), 3);
    assert_string_equal(room, "abc");
    long bad[6] = {-1, (long)room, 1};
    assert_int_equal(nr_os_guarded_call(&nr_guard_raised, SYS_read, bad), -EBADF);
    long none[6] = {0};
    assert_int_equal(nr_os_guarded_call(&nr_guard_raised, SYS_getpid, none), getpid());
}

/* All six arguments arrive where the kernel looks for them. */
static void nr_guard_test_six_arguments(void **state)
{
    (void)state;
    nr_guard_needs();
    nr_guard_raised = 0;
    long arguments[6] = {0, 4096, 1 /* PROT_READ */, 0x22 /* private, anonymous */, -1, 0};
    long address = nr_os_guarded_call(&nr_guard_raised, SYS_mmap, arguments);
    assert_true(address > 0);
    long unmap[6] = {address, 4096};
    assert_int_equal(nr_os_guarded_call(&nr_guard_raised, SYS_munmap, unmap), 0);
    long from_file[6] = {0, 4096, 1, 0x02, -1, 0}; /* a private mapping of descriptor -1 */
    assert_int_equal(nr_os_guarded_call(&nr_guard_raised, SYS_mmap, from_file), -EBADF);
}

static void nr_guard_test_raised_before(void **state)
{
    char room[8] = "";

    (void)state;
    nr_guard_needs();
    assert_int_equal(write(nr_guard_pipe[1], "x", 1), 1);
    nr_guard_raised = 1;
    assert_int_equal(nr_guard_read(room, sizeof room), -EINTR);
    nr_guard_raised = 0;
    assert_int_equal(nr_guard_read(room, sizeof room), 1); /* and it was not read then */
}

/* A timer fires somewhere before, at or in the call, thousands of times; with SA_RESTART the kernel would go back
   into the call by itself. A raise that is missed is a read for ever, which alarm() ends. */
static void nr_guard_test_every_moment(void **state)
{
    struct sigaction action = {.sa_handler = nr_guard_handler, .sa_flags = SA_RESTART};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    int rounds = 6000 / nr_kit_slowness();
    timer_t timer;
    char room[8];

    (void)state;
    nr_guard_needs();
    sigaction(SIGUSR1, &action, NULL);
    assert_int_equal(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    for (int i = 0; i < rounds; i++) {
        struct itimerspec once = {.it_value.tv_nsec = 1 + i * 37 % 12000};
        nr_guard_raised = 0;
        timer_settime(timer, 0, &once, NULL);
        assert_int_equal(nr_guard_read(room, sizeof room), -EINTR);
        assert_int_equal(nr_guard_raised, 1);
    }
    timer_delete(timer);
}

static void *nr_guard_in_thread(void *argument)
{
    *(bool *)argument = nr_os_guard_works();
    return NULL;
}

/* Last: a process that had a second thread may be treated as one with several ever after. */
static void nr_guard_test_threads(void **state)
{
    bool works = true;
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, nr_guard_in_thread, &works), 0);
    pthread_join(thread, NULL);
    assert_false(works);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nr_guard_test_call),
        cmocka_unit_test(nr_guard_test_six_arguments),
        cmocka_unit_test(nr_guard_test_raised_before),
        cmocka_unit_test(nr_guard_test_every_moment),
        cmocka_unit_test(nr_guard_test_threads),
    };

    alarm(40);
    if (pipe(nr_guard_pipe) < 0)
        return 1;
    return cmocka_run_group_tests_name("guard", tests, NULL, NULL);
}
