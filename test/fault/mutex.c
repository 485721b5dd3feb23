/* SPDX-License-Identifier: MIT */
/*
 * mutex -- holders and waiters that die, stop, fork, become another program or end their thread; kills at random
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include "kit.h"
#include <errno.h>
#include <naru/shm.h>
#include <naru/sync.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { WORKERS = 6, MUTEXES = 40, LONG_MS = 30000 };

static struct test_shared {
    struct naru_mutex_state state[MUTEXES];
    int is_ready, stop;
    long before, after; /* plain; equal when nobody is inside */
    long sections, doubts, odd;
} * shared;

static struct naru_mutex *mutexes[MUTEXES], *mutex;
static char program[256];

static int test_setup(void **state)
{
    (void)state;
    alarm(55);
    memset(shared, 0, sizeof *shared);
    for (int i = 0; i < MUTEXES; i++)
        assert_int_equal(naru_mutex_init(&shared->state[i]), 0);
    return 0;
}

static int group_setup(void **state)
{
    shared = nr_kit_shared(sizeof *shared);
    test_setup(state);
    for (int i = 0; i < MUTEXES; i++)
        if (naru_mutex_attach(&mutexes[i], &shared->state[i]) < 0)
            return -1;
    mutex = mutexes[0];
    return readlink("/proc/self/exe", program, sizeof program - 1) > 0 ? 0 : -1;
}

static int group_teardown(void **state)
{
    (void)state;
    for (int i = 0; i < MUTEXES; i++)
        naru_mutex_close(mutexes[i]);
    return munmap(shared, sizeof *shared);
}

/* It is told once, or until all is well; afterwards the mutex is as new. */
static void test_takes_over(struct naru_mutex *it)
{
    assert_int_equal(naru_mutex_lock(it, LONG_MS * NARU_MILLISECOND), NARU_OWNER_DIED);
    assert_int_equal(naru_mutex_unlock(it), 0);
    assert_int_equal(naru_mutex_lock(it, 0), NARU_OWNER_DIED);
    assert_int_equal(naru_mutex_consistent(it), 0);
    assert_int_equal(naru_mutex_unlock(it), 0);
    assert_int_equal(naru_mutex_lock(it, 0), 0);
    assert_int_equal(naru_mutex_unlock(it), 0);
    assert_int_equal(naru_mutex_owner(it), 0);
}

static pid_t test_start(void (*run)(void *), void *argument)
{
    nr_kit_set(&shared->is_ready, 0);
    pid_t pid = child_start(run, argument);
    nr_kit_await(&shared->is_ready, 1);
    return pid;
}

static void child_holds(void *it)
{
    child_check(naru_mutex_lock(it, NARU_FOREVER) >= 0);
    nr_kit_set(&shared->is_ready, 1);
    pause();
}

static void child_waits(void *it)
{
    nr_kit_set(&shared->is_ready, 1);
    child_check(naru_mutex_lock(it, LONG_MS * NARU_MILLISECOND) >= 0);
    child_check(naru_mutex_unlock(it) == 0);
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

static void who_comes_after_a_dead_holder_is_told(void **state)
{
    (void)state;
    pid_t pid = test_start(child_holds, mutex);
    assert_int_equal(naru_mutex_lock(mutex, 0), -EAGAIN);
    nr_kit_kill(pid);
    test_takes_over(mutex);
}

static void who_waits_for_a_dying_holder_is_woken(void **state)
{
    pid_t waiters[3];

    (void)state;
    pid_t pid = test_start(child_holds, mutex);
    for (int i = 0; i < 3; i++) {
        waiters[i] = test_start(child_waits, mutex);
        test_await_state(waiters[i], 'S');
    }
    nr_kit_kill(pid);
    for (int i = 0; i < 3; i++)
        assert_int_equal(child_end(waiters[i]), 0);
    test_takes_over(mutex);
}

static void a_waiter_that_dies_leaves_nothing(void **state)
{
    (void)state;
    assert_int_equal(naru_mutex_lock(mutex, 0), 0);
    pid_t dies = test_start(child_waits, mutex), lives = test_start(child_waits, mutex);
    test_await_state(dies, 'S');
    test_await_state(lives, 'S');
    nr_kit_kill(dies);
    assert_int_equal(naru_mutex_unlock(mutex), 0);
    assert_int_equal(child_end(lives), 0);
    assert_int_equal(naru_mutex_lock(mutex, 0), 0);
    assert_int_equal(naru_mutex_unlock(mutex), 0);
    assert_int_equal(shared->state[0].words[0] & UINT32_MAX, 0);
}

/* Of a holder: the others wait. Of a waiter: the others go on. */
static void one_that_is_stopped_is_waited_for(void **state)
{
    (void)state;
    pid_t holder = test_start(child_holds, mutex), waiter = test_start(child_waits, mutex);
    test_await_state(waiter, 'S');
    assert_int_equal(kill(holder, SIGSTOP), 0);
    assert_int_equal(kill(waiter, SIGSTOP), 0);
    test_await_state(waiter, 'T');
    assert_int_equal(naru_mutex_lock(mutex, 50 * NARU_MILLISECOND), -ETIMEDOUT);
    nr_kit_kill(holder);
    test_takes_over(mutex);
    assert_int_equal(kill(waiter, SIGCONT), 0);
    assert_int_equal(child_end(waiter), 0);
}

static void *thread_ends_with_it(void *it)
{
    return (void *)(intptr_t)naru_mutex_lock(it, 0);
}

static void a_thread_that_ends_counts_as_dead(void **state)
{
    pthread_t thread;

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&thread, NULL, thread_ends_with_it, mutexes[i]), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        test_takes_over(mutexes[i]);
    }
}

static void child_becomes_another_program(void *it)
{
    child_check(naru_mutex_lock(it, NARU_FOREVER) == 0);
    nr_kit_set(&shared->is_ready, 1);
    execl(program, program, "--pause", NULL);
    child_check(false);
}

static void exec_counts_as_death(void **state)
{
    (void)state;
    pid_t pid = test_start(child_becomes_another_program, mutex);
    test_takes_over(mutex); /* and the process lives */
    assert_int_equal(kill(pid, 0), 0);
    nr_kit_kill(pid);
}

static void child_forks(void *it)
{
    child_check(naru_mutex_lock(it, NARU_FOREVER) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        child_check(naru_mutex_unlock(it) == -EPERM);
        child_check(naru_mutex_lock(it, 0) == -EAGAIN);
        child_check(naru_mutex_lock(mutexes[1], 0) ==
                    0); /* a list of its own, left with this one in it */
        _exit(0);
    }
    int status = -1;
    child_check(waitpid(pid, &status, 0) == pid && status == 0);
    child_check(naru_mutex_lock(mutexes[1], 0) == NARU_OWNER_DIED);
    child_check(naru_mutex_consistent(mutexes[1]) == 0 && naru_mutex_unlock(mutexes[1]) == 0);
    child_check(naru_mutex_unlock(it) == 0);
}

static void a_forked_child_holds_nothing(void **state)
{
    (void)state;
    assert_int_equal(child_run(child_forks, mutex), 0);
    assert_int_equal(naru_mutex_lock(mutex, 0), 0);
    assert_int_equal(naru_mutex_unlock(mutex), 0);
}

static void child_closes(void *unused)
{
    struct naru_mutex *own;

    (void)unused;
    child_check(naru_mutex_attach(&own, &shared->state[0]) == 0);
    child_check(naru_mutex_lock(own, NARU_FOREVER) == 0);
    naru_mutex_close(own);
    child_check(naru_mutex_lock(mutex, 0) == NARU_OWNER_DIED);
    child_check(naru_mutex_unlock(mutex) == 0);
}

static void closing_a_held_one_counts_as_death(void **state)
{
    (void)state;
    assert_int_equal(child_run(child_closes, NULL), 0);
    test_takes_over(mutex);
}

/* Many at once, with robust mutexes of the C library among them, let go in part; then it dies. */
static void child_holds_many(void *unused)
{
    static pthread_mutex_t bare[MUTEXES / 4];
    pthread_mutexattr_t robust;

    (void)unused;
    pthread_mutexattr_init(&robust);
    pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST);
    for (int i = 0; i < MUTEXES; i++) {
        child_check(naru_mutex_lock(mutexes[i], 0) == 0);
        if (i % 4 == 0) {
            pthread_mutex_init(&bare[i / 4], &robust);
            child_check(pthread_mutex_lock(&bare[i / 4]) == 0);
        }
    }
    for (int i = 0; i < MUTEXES; i += 3)
        child_check(naru_mutex_unlock(mutexes[i * 7 % MUTEXES]) == 0);
    for (int i = 0; i < MUTEXES / 4; i += 2)
        child_check(pthread_mutex_unlock(&bare[i]) == 0);
    nr_kit_set(&shared->is_ready, 1);
    pause();
}

static void all_that_a_thread_held_are_handed_on(void **state)
{
    int free_ones = 0;

    (void)state;
    pid_t pid = test_start(child_holds_many, NULL);
    for (int i = 0; i < MUTEXES; i++)
        free_ones += naru_mutex_owner(mutexes[i]) == 0;
    assert_int_equal(free_ones, (MUTEXES + 2) / 3);
    nr_kit_kill(pid);
    for (int i = 0; i < MUTEXES; i++) {
        int result = naru_mutex_lock(mutexes[i], 0);
        assert_in_range(result, 0, NARU_OWNER_DIED);
        free_ones -= result == 0;
        assert_int_equal(naru_mutex_unlock(mutexes[i]), 0);
    }
    assert_int_equal(free_ones, 0);
}

/* A hostile process has written into the list: the kernel stops there. Those who wait find the id gone. */
static void child_breaks_its_list(void *unused)
{
    (void)unused;
    child_check(naru_mutex_lock(mutexes[0], 0) == 0);
    child_check(naru_mutex_lock(mutexes[1], 0) == 0); /* in front of that one */
    shared->state[1].words[4] = 8;                    /* no address */
    nr_kit_set(&shared->is_ready, 1);
    pause();
}

static void a_broken_list_is_found_out(void **state)
{
    (void)state;
    pid_t pid = test_start(child_breaks_its_list, NULL);
    nr_kit_kill(pid);
    assert_int_equal(naru_mutex_owner(mutexes[1]), 0);
    assert_int_equal(naru_mutex_owner(mutexes[0]), pid); /* nobody has told us */
    test_takes_over(mutexes[0]);
}

/* -- kills at random ---------------------------------------------------------------------------- */

static void child_works(void *unused)
{
    (void)unused;
    while (!nr_kit_get(&shared->stop)) {
        int result = naru_mutex_lock(mutex, NARU_FOREVER);
        child_check(result >= 0);
        if (result == 0 && shared->before != shared->after)
            shared->odd++;
        shared->doubts += result == NARU_OWNER_DIED;
        shared->before++;
        if (shared->before % 64 == 0)
            sched_yield();
        shared->after = shared->before;
        shared->sections++;
        if (result == NARU_OWNER_DIED)
            child_check(naru_mutex_consistent(mutex) == 0);
        child_check(naru_mutex_unlock(mutex) == 0);
    }
}

static void kills_at_random_leave_it_whole(void **state)
{
    unsigned seed = (unsigned)getpid();
    pid_t pids[WORKERS];
    int kills = 0;

    (void)state;
    for (int i = 0; i < WORKERS; i++)
        pids[i] = child_start(child_works, NULL);
    for (int64_t end = clock_ms() + 1500; clock_ms() < end || kills < 25; kills++) {
        int i = rand_r(&seed) % WORKERS;
        usleep((useconds_t)rand_r(&seed) % 1500);
        nr_kit_kill(pids[i]);
        pids[i] = child_start(child_works, NULL);
    }
    nr_kit_set(&shared->stop, 1);
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(child_end(pids[i]), 0);
    print_message("# %d kills, seed %u: %ld sections, %ld after a death\n", kills,
                  (unsigned)getpid(), shared->sections, shared->doubts);
    assert_int_equal(shared->odd, 0);
    assert_int_equal(shared->before, shared->after);
    assert_true(kills > 20 && shared->sections > 1000 && shared->doubts > 0);
    assert_int_equal(naru_mutex_lock(mutex, 0), 0);
    assert_int_equal(naru_mutex_unlock(mutex), 0);
}

#define test(function) cmocka_unit_test_setup(function, test_setup)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        test(who_comes_after_a_dead_holder_is_told), test(who_waits_for_a_dying_holder_is_woken),
        test(a_waiter_that_dies_leaves_nothing),     test(one_that_is_stopped_is_waited_for),
        test(a_thread_that_ends_counts_as_dead),     test(exec_counts_as_death),
        test(a_forked_child_holds_nothing),          test(closing_a_held_one_counts_as_death),
        test(all_that_a_thread_held_are_handed_on),  test(a_broken_list_is_found_out),
        test(kills_at_random_leave_it_whole),
    };

    if (argc > 1 && strcmp(argv[1], "--pause") == 0)
        return alarm(30), pause();
    return cmocka_run_group_tests_name("mutex", tests, group_setup, group_teardown);
}
