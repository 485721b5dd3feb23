/* SPDX-License-Identifier: MIT */
/*
 * condition -- conditions and events: what they promise and refuse, and processes that die or stop while they wait or wake
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
#include <sched.h>
#include <sys/mman.h>

enum { WAITERS = 4, ROUNDS = 3000, ROOM = 4, LONG_MS = 30000 };

static struct test_shared {
    struct naru_mutex_state mutex;
    struct naru_condition_state condition;
    struct naru_event_state event;
    int is_ready, data, is_open, stop;
    long put, got, odd; /* a store with room for ROOM, under the mutex */
} * shared;

static struct naru_mutex *mutex;
static struct naru_condition *condition;
static struct naru_event *event;

static int test_setup(void **state)
{
    (void)state;
    alarm(55);
    memset(shared, 0, sizeof *shared);
    assert_int_equal(naru_mutex_init(&shared->mutex), 0);
    assert_int_equal(naru_condition_init(&shared->condition), 0);
    assert_int_equal(naru_event_init(&shared->event), 0);
    return 0;
}

static int group_setup(void **state)
{
    shared = nr_kit_shared(sizeof *shared);
    test_setup(state);
    place_make();
    return naru_mutex_attach(&mutex, &shared->mutex) < 0 ||
                   naru_condition_attach(&condition, &shared->condition) < 0 ||
                   naru_event_attach(&event, &shared->event) < 0
               ? -1
               : 0;
}

static int group_teardown(void **state)
{
    (void)state;
    place_remove();
    naru_mutex_close(mutex);
    naru_condition_close(condition);
    naru_condition_close(NULL);
    naru_event_close(event);
    naru_event_close(NULL);
    return munmap(shared, sizeof *shared);
}

static void test_await_state(pid_t pid, char wanted)
{
    char path[40], text[256], found = 0;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    while (found != wanted) {
        FILE *file = fopen(path, "re");
        assert_non_null(file);
        assert_non_null(fgets(text, sizeof text, file));
        fclose(file);
        found = strrchr(text, ')')[2];
        sched_yield();
    }
}

/* Asleep when this returns. */
static pid_t test_start(void (*run)(void *))
{
    nr_kit_set(&shared->is_ready, 0);
    pid_t pid = child_start(run, NULL);
    nr_kit_await(&shared->is_ready, 1);
    test_await_state(pid, 'S');
    return pid;
}

/* -- condition ------------------------------------------------------------------------------- */

static void child_waits(void *unused)
{
    (void)unused;
    child_check(naru_mutex_lock(mutex, NARU_FOREVER) == 0);
    nr_kit_set(&shared->is_ready, 1);
    while (!shared->is_open)
        child_check(naru_condition_wait(condition, mutex, LONG_MS * NARU_MILLISECOND) == 0);
    child_check(naru_mutex_unlock(mutex) == 0);
}

static void test_open_the_door(void)
{
    assert_int_equal(naru_mutex_lock(mutex, NARU_FOREVER), 0);
    shared->is_open = 1;
    assert_int_equal(naru_mutex_unlock(mutex), 0);
    assert_int_equal(naru_condition_wake(condition), 0);
}

static void all_that_wait_are_woken_but_the_dead(void **state)
{
    pid_t waiters[WAITERS];

    (void)state;
    for (int i = 0; i < WAITERS; i++)
        waiters[i] = test_start(child_waits);
    assert_int_equal(naru_mutex_owner(mutex), 0);
    nr_kit_kill(waiters[0]);
    assert_int_equal(kill(waiters[1], SIGSTOP), 0);
    test_await_state(waiters[1], 'T');
    test_open_the_door();
    for (int i = 2; i < WAITERS; i++)
        assert_int_equal(child_end(waiters[i]), 0);
    assert_int_equal(naru_mutex_lock(mutex, 0), 0);
    assert_int_equal(kill(waiters[1], SIGCONT), 0);
    assert_int_equal(naru_mutex_unlock(mutex), 0);
    assert_int_equal(child_end(waiters[1]), 0);
    assert_int_equal(shared->condition.word & 1, 0); /* nobody sleeps */
}

static void time_outs_and_wrong_calls(void **state)
{
    struct naru_condition_state newer = {.magic = 0x4e524339};
    struct naru_condition *none = NULL;

    (void)state;
    assert_int_equal(naru_condition_wait(condition, mutex, NARU_SECOND), -EPERM);
    assert_int_equal(naru_mutex_lock(mutex, 0), 0);
    assert_int_equal(naru_condition_wait(condition, mutex, 0), -EAGAIN);
    int64_t before = clock_ms();
    assert_int_equal(naru_condition_wait(condition, mutex, 1100 * NARU_MILLISECOND), -ETIMEDOUT);
    assert_true(clock_ms() - before >= 1099);
    assert_int_equal(naru_mutex_owner(mutex), (int)getpid());
    assert_int_equal(naru_mutex_unlock(mutex), 0);
    assert_int_equal(naru_condition_wake(condition), 0);
    assert_int_equal(naru_condition_wake(NULL), -EINVAL);
    assert_int_equal(naru_condition_wait(NULL, mutex, 0), -EINVAL);
    assert_int_equal(naru_condition_wait(condition, NULL, 0), -EINVAL);
    assert_int_equal(naru_condition_open(NULL, "x", NULL), -EINVAL);
    assert_int_equal(naru_condition_open(&none, "a b", NULL), -EINVAL);
    assert_int_equal(naru_condition_attach(NULL, &newer), -EINVAL);
    assert_int_equal(naru_condition_attach(&none, &newer), -EPROTO);
    assert_int_equal(naru_condition_init(NULL), -EINVAL);
    assert_int_equal(naru_condition_unlink(NULL), -EINVAL);
    assert_null(none);
}

static void child_waits_and_is_told(void *unused)
{
    (void)unused;
    child_check(naru_mutex_lock(mutex, NARU_FOREVER) == 0);
    nr_kit_set(&shared->is_ready, 1);
    int result = 0;
    while (result == 0)
        result = naru_condition_wait(condition, mutex, LONG_MS * NARU_MILLISECOND);
    child_check(result == NARU_OWNER_DIED);
    child_check(naru_mutex_consistent(mutex) == 0 && naru_mutex_unlock(mutex) == 0);
}

static void child_dies_before_it_wakes(void *unused)
{
    (void)unused;
    child_check(naru_mutex_lock(mutex, NARU_FOREVER) == 0);
    shared->data = 1;
    kill(getpid(), SIGKILL);
}

static void who_waits_learns_that_the_holder_died(void **state)
{
    (void)state;
    pid_t waiter = test_start(child_waits_and_is_told);
    assert_true(WIFSIGNALED(child_run(child_dies_before_it_wakes, NULL)));
    assert_int_equal(child_end(waiter), 0);
    assert_int_equal(naru_mutex_lock(mutex, 0), 0);
    assert_int_equal(naru_mutex_unlock(mutex), 0);
}

/* A store with little room: who finds it full or empty waits. */
static void child_puts(void *unused)
{
    (void)unused;
    for (int i = 0; i < ROUNDS; i++) {
        child_check(naru_mutex_lock(mutex, NARU_FOREVER) == 0);
        while (shared->put - shared->got == ROOM)
            child_check(naru_condition_wait(condition, mutex, NARU_FOREVER) == 0);
        shared->put++;
        if (i % 2)
            child_check(naru_condition_wake(condition) == 0);
        child_check(naru_mutex_unlock(mutex) == 0);
        if (i % 2 == 0)
            child_check(naru_condition_wake(condition) == 0);
    }
}

static void child_gets(void *unused)
{
    (void)unused;
    for (int i = 0; i < ROUNDS; i++) {
        child_check(naru_mutex_lock(mutex, NARU_FOREVER) == 0);
        while (shared->put == shared->got)
            child_check(naru_condition_wait(condition, mutex, NARU_FOREVER) == 0);
        shared->got++;
        child_check(naru_mutex_unlock(mutex) == 0);
        child_check(naru_condition_wake(condition) == 0);
    }
}

static void no_wake_up_is_lost(void **state)
{
    pid_t pids[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        pids[i] = child_start(i % 2 ? child_puts : child_gets, NULL);
    for (int i = 0; i < 4; i++)
        assert_int_equal(child_end(pids[i]), 0);
    assert_int_equal(shared->put, 2 * ROUNDS);
    assert_int_equal(shared->got, 2 * ROUNDS);
}

/* -- event ------------------------------------------------------------------------------------ */

static void child_waits_for_event(void *unused)
{
    (void)unused;
    nr_kit_set(&shared->is_ready, 1);
    child_check(naru_event_wait(event, LONG_MS * NARU_MILLISECOND) == 0);
    child_check(shared->data == 7);
}

static void child_sets(void *unused)
{
    (void)unused;
    shared->data = 7;
    child_check(naru_event_set(event) == 0);
    child_check(naru_event_set(event) == 0);
}

static void an_event_lets_all_through_until_it_is_reset(void **state)
{
    pid_t waiters[WAITERS];

    (void)state;
    assert_int_equal(naru_event_is_set(event), 0);
    assert_int_equal(naru_event_wait(event, 0), -EAGAIN);
    assert_int_equal(naru_event_wait(event, 20 * NARU_MILLISECOND), -ETIMEDOUT);
    for (int i = 0; i < WAITERS; i++)
        waiters[i] = test_start(child_waits_for_event);
    nr_kit_kill(waiters[0]);
    assert_int_equal(kill(waiters[1], SIGSTOP), 0);
    test_await_state(waiters[1], 'T');
    assert_int_equal(child_run(child_sets, NULL), 0);
    for (int i = 2; i < WAITERS; i++)
        assert_int_equal(child_end(waiters[i]), 0);
    assert_int_equal(kill(waiters[1], SIGCONT), 0);
    assert_int_equal(child_end(waiters[1]), 0);
    assert_int_equal(naru_event_wait(event, 0), 0);
    assert_int_equal(naru_event_is_set(event), 1);
    assert_int_equal(naru_event_reset(event), 0);
    assert_int_equal(naru_event_reset(event), 0);
    assert_int_equal(naru_event_wait(event, 0), -EAGAIN);
}

static void an_event_refuses_what_is_wrong(void **state)
{
    struct naru_event_state newer = {.magic = 0x4e524539};
    struct naru_event *none = NULL;

    (void)state;
    assert_int_equal(naru_event_set(NULL), -EINVAL);
    assert_int_equal(naru_event_reset(NULL), -EINVAL);
    assert_int_equal(naru_event_wait(NULL, 0), -EINVAL);
    assert_int_equal(naru_event_is_set(NULL), -EINVAL);
    assert_int_equal(naru_event_open(NULL, "x", NULL), -EINVAL);
    assert_int_equal(naru_event_open(&none, "a b", NULL), -EINVAL);
    assert_int_equal(naru_event_attach(NULL, &newer), -EINVAL);
    assert_int_equal(naru_event_attach(&none, &newer), -EPROTO);
    assert_int_equal(naru_event_init(NULL), -EINVAL);
    assert_int_equal(naru_event_unlink(NULL), -EINVAL);
    assert_null(none);
}

static void both_are_found_by_name(void **state)
{
    const char *where = place_path("door");
    struct naru_condition *first, *second;
    struct naru_event *one, *other;

    (void)state;
    assert_int_equal(naru_condition_open(&first, where, NULL), 0);
    assert_int_equal(naru_condition_open(&second, where, NULL), 0);
    assert_int_equal(naru_event_open(&one, where, NULL), -EBADMSG);
    naru_condition_close(second);
    naru_condition_close(first);
    assert_int_equal(naru_event_unlink(where), -EBADMSG);
    assert_int_equal(naru_condition_unlink(where), 0);
    assert_int_equal(naru_event_open(&one, where, NULL), 0);
    assert_int_equal(naru_event_open(&other, where, NULL), 0);
    assert_int_equal(naru_event_set(one), 0);
    assert_int_equal(naru_event_wait(other, 0), 0);
    naru_event_close(one);
    naru_event_close(other);
    assert_int_equal(naru_event_unlink(where), 0);
}

#define test(function) cmocka_unit_test_setup(function, test_setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(all_that_wait_are_woken_but_the_dead),
        test(time_outs_and_wrong_calls),
        test(who_waits_learns_that_the_holder_died),
        test(no_wake_up_is_lost),
        test(an_event_lets_all_through_until_it_is_reset),
        test(an_event_refuses_what_is_wrong),
        test(both_are_found_by_name),
    };

    return cmocka_run_group_tests_name("condition", tests, group_setup, group_teardown);
}
