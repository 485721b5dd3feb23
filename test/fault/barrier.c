/* SPDX-License-Identifier: MIT */
/*
 * barrier -- what it promises and refuses; parties that die, stop, fork, become another program or end their thread
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include "kit.h"
#include "place.h"
#include <errno.h>
#include <naru/sync.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

enum { PARTIES = 4, MEETINGS = 500, LONG_MS = 30000 };

static struct test_shared {
    struct naru_barrier_state state;
    int is_ready;
    long arrived[PARTIES];
    long firsts;
} * shared;

static struct naru_barrier *barrier;
static char program[256];

static int test_setup(void **state)
{
    (void)state;
    alarm(55);
    memset(shared, 0, sizeof *shared);
    assert_int_equal(naru_barrier_init(&shared->state, PARTIES), 0);
    return 0;
}

static int group_setup(void **state)
{
    shared = nr_kit_shared(sizeof *shared);
    test_setup(state);
    place_make();
    if (naru_barrier_attach(&barrier, &shared->state) < 0)
        return -1;
    return readlink("/proc/self/exe", program, sizeof program - 1) > 0 ? 0 : -1;
}

static int group_teardown(void **state)
{
    (void)state;
    place_remove();
    naru_barrier_close(barrier);
    naru_barrier_close(NULL);
    return munmap(shared, sizeof *shared);
}

/* How many have joined. */
static void test_await_parties(int wanted)
{
    for (int found = 0; found < wanted; sched_yield()) {
        found = 0;
        for (int i = 0; i < PARTIES; i++)
            found += (__atomic_load_n(&shared->state.words[8 * (i + 1)], __ATOMIC_RELAXED) &
                      0x3fffffff) != 0;
    }
}

static void child_meets(void *number)
{
    long me = (long)(intptr_t)number;

    for (long i = 1; i <= MEETINGS; i++) {
        shared->arrived[me] = i;
        int result = naru_barrier_wait(barrier, LONG_MS * NARU_MILLISECOND);
        child_check(result >= 0);
        if (result == 1)
            nr_kit_add(&shared->firsts, 1);
        for (int other = 0; other < PARTIES; other++)
            child_check(shared->arrived[other] == i);
        child_check(naru_barrier_wait(barrier, NARU_FOREVER) >= 0);
    }
    child_check(naru_barrier_leave(barrier) == 0);
}

static void nobody_passes_before_all_are_there(void **state)
{
    pid_t pids[PARTIES];

    (void)state;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < PARTIES; i++)
            pids[i] = child_start(child_meets, (void *)(intptr_t)i);
        for (int i = 0; i < PARTIES; i++)
            assert_int_equal(child_end(pids[i]), 0);
    }
    assert_int_equal(shared->firsts, 2 * MEETINGS);
}

static void child_waits_once(void *expected)
{
    int result = naru_barrier_wait(barrier, LONG_MS * NARU_MILLISECOND);

    child_check(expected ? result == (int)(intptr_t)expected : result >= 0);
}

static pid_t test_waiter(int expected)
{
    return child_start(child_waits_once, (void *)(intptr_t)expected);
}

static void it_breaks_when_one_that_waits_dies(void **state)
{
    pid_t pids[PARTIES - 1];

    (void)state;
    for (int i = 0; i < PARTIES - 1; i++)
        pids[i] = test_waiter(i == 0 ? 0 : -EOWNERDEAD);
    test_await_parties(PARTIES - 1);
    sleep_ms(20);
    nr_kit_kill(pids[0]);
    for (int i = 1; i < PARTIES - 1; i++)
        assert_int_equal(child_end(pids[i]), 0);
    assert_int_equal(naru_barrier_wait(barrier, 0), -EOWNERDEAD);
    assert_text_has("naru_barrier_reset()");
    assert_int_equal(naru_barrier_reset(barrier), 0);
    assert_int_equal(naru_barrier_wait(barrier, 0), -EAGAIN); /* as new */
    for (int i = 0; i < PARTIES - 1; i++)
        pids[i] = child_start(child_waits_once, NULL);
    while (naru_barrier_wait(barrier, 10 * NARU_MILLISECOND) == -ETIMEDOUT)
        ;
    for (int i = 0; i < PARTIES - 1; i++)
        nr_kit_kill(pids[i]);
}

static void child_joins_and_goes_elsewhere(void *unused)
{
    (void)unused;
    while (naru_barrier_wait(barrier, NARU_SECOND) == -ETIMEDOUT)
        ;
    nr_kit_set(&shared->is_ready, 1);
    pause(); /* it has passed, and does not come to the next one */
}

static void it_breaks_when_one_that_is_awaited_dies(void **state)
{
    struct naru_barrier *usual = barrier;

    (void)state;
    assert_int_equal(naru_barrier_init(&shared->state, 2), 0);
    assert_int_equal(naru_barrier_attach(&barrier, &shared->state), 0);
    nr_kit_set(&shared->is_ready, 0);
    pid_t pid = child_start(child_joins_and_goes_elsewhere, NULL);
    assert_in_range(naru_barrier_wait(barrier, LONG_MS * NARU_MILLISECOND), 0, 1);
    nr_kit_await(&shared->is_ready, 1);
    assert_int_equal(naru_barrier_wait(barrier, 1100 * NARU_MILLISECOND), -ETIMEDOUT);
    assert_int_equal(kill(pid, SIGSTOP), 0); /* it is waited for */
    assert_int_equal(naru_barrier_wait(barrier, 30 * NARU_MILLISECOND), -ETIMEDOUT);
    nr_kit_kill(pid);
    assert_int_equal(naru_barrier_wait(barrier, LONG_MS * NARU_MILLISECOND), -EOWNERDEAD);
    naru_barrier_close(barrier);
    barrier = usual;
}

static void *thread_joins(void *unused)
{
    (void)unused;
    return (void *)(intptr_t)naru_barrier_wait(barrier, 0);
}

static void child_becomes_another_program(void *unused)
{
    (void)unused;
    child_check(naru_barrier_wait(barrier, 0) == -EAGAIN);
    nr_kit_set(&shared->is_ready, 1);
    execl(program, program, "--pause", NULL);
    child_check(false);
}

static void threads_that_end_and_exec_count_as_death(void **state)
{
    pthread_t thread;
    void *result;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, thread_joins, NULL), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_int_equal((int)(intptr_t)result, -EAGAIN);
    assert_int_equal(naru_barrier_wait(barrier, 0), -EOWNERDEAD);
    assert_int_equal(naru_barrier_reset(barrier), 0);
    pid_t pid = child_start(child_becomes_another_program, NULL);
    nr_kit_await(&shared->is_ready, 1);
    assert_int_equal(naru_barrier_wait(barrier, LONG_MS * NARU_MILLISECOND), -EOWNERDEAD);
    assert_int_equal(kill(pid, 0), 0);
    nr_kit_kill(pid);
    assert_int_equal(naru_barrier_leave(barrier), 0);
    assert_int_equal(naru_barrier_leave(barrier), -EPERM);
}

static void child_is_no_party(void *unused)
{
    (void)unused;
    child_check(naru_barrier_leave(barrier) == -EPERM);
    naru_barrier_close(barrier);
}

static void bad_calls_are_refused(void **state)
{
    struct naru_barrier_state newer = {{(uint64_t)0x4e524239 << 32}};
    const char *path = place_path("gate");
    struct naru_barrier *one = NULL, *same;

    (void)state;
    assert_int_equal(naru_barrier_wait(NULL, 0), -EINVAL);
    assert_int_equal(naru_barrier_leave(NULL), -EINVAL);
    assert_int_equal(naru_barrier_reset(NULL), -EINVAL);
    assert_int_equal(naru_barrier_open(NULL, path, 2, NULL), -EINVAL);
    assert_int_equal(naru_barrier_open(&one, path, 0, NULL), -EINVAL);
    assert_int_equal(naru_barrier_open(&one, path, NARU_PARTIES_MAX + 1, NULL), -EINVAL);
    assert_int_equal(naru_barrier_init(NULL, 2), -EINVAL);
    assert_int_equal(naru_barrier_attach(NULL, &newer), -EINVAL);
    assert_int_equal(naru_barrier_attach(&one, &newer), -EPROTO);
    assert_null(one);
    assert_int_equal(naru_barrier_open(&one, path, 1, NULL), 0);
    assert_int_equal(naru_barrier_open(&same, path, 5, NULL), 0);
    assert_int_equal(naru_barrier_wait(one, 0), 1); /* alone */
    assert_int_equal(naru_barrier_wait(one, NARU_FOREVER), 1);
    assert_int_equal(naru_barrier_wait(same, 0), -EBUSY);
    assert_int_equal(child_run(child_is_no_party, NULL), 0);
    naru_barrier_close(one); /* leaves */
    assert_int_equal(naru_barrier_wait(same, 0), 1);
    naru_barrier_close(same);
    assert_int_equal(naru_barrier_unlink(path), 0);
    shared->state.words[2] = 64;
    assert_int_equal(naru_barrier_attach(&one, &shared->state), -EBADMSG);
}

#define test(function) cmocka_unit_test_setup(function, test_setup)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        test(nobody_passes_before_all_are_there),
        test(it_breaks_when_one_that_waits_dies),
        test(it_breaks_when_one_that_is_awaited_dies),
        test(threads_that_end_and_exec_count_as_death),
        test(bad_calls_are_refused),
    };

    if (argc > 1 && strcmp(argv[1], "--pause") == 0)
        return alarm(30), pause();
    return cmocka_run_group_tests_name("barrier", tests, group_setup, group_teardown);
}
