/* SPDX-License-Identifier: MIT */
/*
 * rwlock -- what it promises and refuses; readers and writers that die, stop, fork, become another program or end their thread
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

enum { WORKERS = 6, LONG_MS = 30000 };

static struct test_shared {
    struct naru_rwlock_state state;
    int is_ready, stop;
    long before, after; /* plain; equal when nobody writes */
    long odd, writes, reads, doubts;
} * shared;

static struct naru_rwlock *lock;
static char program[256];

static int test_setup(void **state)
{
    (void)state;
    alarm(55);
    memset(shared, 0, sizeof *shared);
    assert_int_equal(naru_rwlock_init(&shared->state), 0);
    return 0;
}

static int group_setup(void **state)
{
    shared = nr_kit_shared(sizeof *shared);
    test_setup(state);
    place_make();
    if (naru_rwlock_attach(&lock, &shared->state) < 0)
        return -1;
    return readlink("/proc/self/exe", program, sizeof program - 1) > 0 ? 0 : -1;
}

static int group_teardown(void **state)
{
    (void)state;
    place_remove();
    naru_rwlock_close(lock);
    naru_rwlock_close(NULL);
    return munmap(shared, sizeof *shared);
}

static pid_t test_start(void (*run)(void *))
{
    nr_kit_set(&shared->is_ready, 0);
    pid_t pid = child_start(run, NULL);
    nr_kit_await(&shared->is_ready, 1);
    return pid;
}

static void test_is_free(void)
{
    assert_int_equal(naru_rwlock_write(lock, 0), 0);
    assert_int_equal(naru_rwlock_unlock(lock), 0);
    assert_int_equal(naru_rwlock_read(lock, 0), 0);
    assert_int_equal(naru_rwlock_unlock(lock), 0);
}

/* A writer has died: all are told until one that writes says that all is well. */
static void test_takes_over(void)
{
    assert_int_equal(naru_rwlock_read(lock, LONG_MS * NARU_MILLISECOND), NARU_OWNER_DIED);
    assert_int_equal(naru_rwlock_consistent(lock), -EPERM);
    assert_int_equal(naru_rwlock_unlock(lock), 0);
    assert_int_equal(naru_rwlock_write(lock, LONG_MS * NARU_MILLISECOND), NARU_OWNER_DIED);
    assert_int_equal(naru_rwlock_unlock(lock), 0);
    assert_int_equal(naru_rwlock_write(lock, 0), NARU_OWNER_DIED);
    assert_int_equal(naru_rwlock_consistent(lock), 0);
    assert_int_equal(naru_rwlock_unlock(lock), 0);
    test_is_free();
}

static void child_reads(void *unused)
{
    (void)unused;
    child_check(naru_rwlock_read(lock, NARU_FOREVER) == 0);
    nr_kit_set(&shared->is_ready, 1);
    pause();
}

static void child_writes(void *unused)
{
    (void)unused;
    child_check(naru_rwlock_write(lock, NARU_FOREVER) == 0);
    nr_kit_set(&shared->is_ready, 1);
    pause();
}

static void child_waits_to_write(void *unused)
{
    (void)unused;
    nr_kit_set(&shared->is_ready, 1);
    child_check(naru_rwlock_write(lock, LONG_MS * NARU_MILLISECOND) >= 0);
    child_check(naru_rwlock_unlock(lock) == 0);
}

static void child_waits_to_read(void *unused)
{
    (void)unused;
    nr_kit_set(&shared->is_ready, 1);
    child_check(naru_rwlock_read(lock, LONG_MS * NARU_MILLISECOND) >= 0);
    child_check(naru_rwlock_unlock(lock) == 0);
}

static void readers_share_and_a_writer_is_alone(void **state)
{
    (void)state;
    test_is_free();
    pid_t reader = test_start(child_reads);
    assert_int_equal(naru_rwlock_read(lock, 0), 0);
    assert_int_equal(naru_rwlock_write(lock, 0), -EDEADLK);
    assert_int_equal(naru_rwlock_unlock(lock), 0);
    assert_int_equal(naru_rwlock_write(lock, 0), -EAGAIN);
    int64_t before = clock_ms();
    assert_int_equal(naru_rwlock_write(lock, 1100 * NARU_MILLISECOND), -ETIMEDOUT);
    assert_true(clock_ms() - before >= 1099);
    assert_int_equal(naru_rwlock_read(lock, 0), 0); /* the writer that gave up keeps nobody out */
    assert_int_equal(naru_rwlock_unlock(lock), 0);
    nr_kit_kill(reader);
    test_is_free();
    pid_t writer = test_start(child_writes);
    assert_int_equal(naru_rwlock_read(lock, 0), -EAGAIN);
    assert_int_equal(naru_rwlock_read(lock, 1100 * NARU_MILLISECOND), -ETIMEDOUT);
    assert_int_equal(naru_rwlock_write(lock, 20 * NARU_MILLISECOND), -ETIMEDOUT);
    nr_kit_kill(writer);
    test_takes_over();
}

static void a_waiting_writer_keeps_new_readers_out(void **state)
{
    (void)state;
    assert_int_equal(naru_rwlock_read(lock, 0), 0);
    pid_t writer = test_start(child_waits_to_write);
    while ((shared->state.words[0] & 0x3fffffff) == 0)
        sched_yield();
    assert_int_equal(naru_rwlock_read(lock, NARU_FOREVER), -EDEADLK);
    pid_t reader = test_start(child_waits_to_read);
    sleep_ms(20);
    assert_int_equal(waitpid(reader, NULL, WNOHANG), 0);
    assert_int_equal(naru_rwlock_unlock(lock), 0);
    assert_int_equal(child_end(writer), 0);
    assert_int_equal(child_end(reader), 0);
    test_is_free();
}

static void the_dead_keep_nobody_out(void **state)
{
    pid_t waiters[4];

    (void)state;
    pid_t reader = test_start(child_reads); /* a reader */
    for (int i = 0; i < 4; i++)
        waiters[i] = test_start(i < 2 ? child_waits_to_write : child_waits_to_read);
    sleep_ms(20);
    nr_kit_kill(waiters[0]); /* a writer that waits, perhaps the one that holds others up */
    nr_kit_kill(reader);
    for (int i = 1; i < 4; i++)
        assert_int_equal(child_end(waiters[i]), 0);
    test_is_free();
    pid_t writer = test_start(child_writes);
    for (int i = 0; i < 4; i++)
        waiters[i] = test_start(i < 1 ? child_waits_to_write : child_waits_to_read);
    sleep_ms(20);
    nr_kit_kill(writer);
    for (int i = 0; i < 4; i++)
        assert_int_equal(child_end(waiters[i]), 0);
    test_takes_over();
}

static void who_is_stopped_is_waited_for(void **state)
{
    (void)state;
    pid_t reader = test_start(child_reads);
    assert_int_equal(kill(reader, SIGSTOP), 0);
    assert_int_equal(naru_rwlock_read(lock, 0), 0);
    assert_int_equal(naru_rwlock_unlock(lock), 0);
    assert_int_equal(naru_rwlock_write(lock, 30 * NARU_MILLISECOND), -ETIMEDOUT);
    nr_kit_kill(reader);
    test_is_free();
}

static void *thread_locks(void *writes)
{
    int result = writes ? naru_rwlock_write(lock, 0) : naru_rwlock_read(lock, 0);

    return (void *)(intptr_t)result;
}

static void *thread_unlocks(void *unused)
{
    (void)unused;
    return (void *)(intptr_t)naru_rwlock_unlock(lock);
}

static int test_in_thread(void *(*run)(void *), void *argument)
{
    pthread_t thread;
    void *result;

    assert_int_equal(pthread_create(&thread, NULL, run, argument), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    return (int)(intptr_t)result;
}

static void child_becomes_another_program(void *unused)
{
    (void)unused;
    child_check(naru_rwlock_write(lock, 0) == 0);
    nr_kit_set(&shared->is_ready, 1);
    execl(program, program, "--pause", NULL);
    child_check(false);
}

static void threads_that_end_and_exec_count_as_death(void **state)
{
    (void)state;
    assert_int_equal(test_in_thread(thread_locks, NULL), 0);
    test_is_free();
    assert_int_equal(test_in_thread(thread_locks, &lock), 0);
    test_takes_over();
    pid_t pid = test_start(child_becomes_another_program);
    test_takes_over();
    assert_int_equal(kill(pid, 0), 0);
    nr_kit_kill(pid);
}

static void child_has_nothing(void *unused)
{
    (void)unused;
    child_check(naru_rwlock_unlock(lock) == -EPERM);
    child_check(naru_rwlock_write(lock, 0) == -EAGAIN);
    naru_rwlock_close(lock);
}

static void it_belongs_to_who_locked_it(void **state)
{
    struct naru_rwlock *other;

    (void)state;
    assert_int_equal(naru_rwlock_unlock(lock), -EPERM);
    assert_int_equal(naru_rwlock_attach(&other, &shared->state), 0);
    for (int writes = 0; writes < 2; writes++) {
        assert_int_equal(writes ? naru_rwlock_write(lock, 0) : naru_rwlock_read(lock, 0), 0);
        assert_int_equal(naru_rwlock_unlock(other), -EPERM);
        assert_int_equal(test_in_thread(thread_unlocks, NULL), -EPERM);
        assert_int_equal(child_run(child_has_nothing, NULL), 0);
        assert_int_equal(naru_rwlock_unlock(lock), 0);
    }
    assert_int_equal(naru_rwlock_write(other, 0), 0);
    assert_int_equal(naru_rwlock_write(lock, NARU_FOREVER), -EDEADLK);
    assert_int_equal(naru_rwlock_read(lock, NARU_FOREVER), -EDEADLK);
    naru_rwlock_close(other); /* in the middle */
    test_takes_over();
}

static void is_found_by_name_and_refuses_what_is_wrong(void **state)
{
    struct naru_rwlock_state newer = {{(uint64_t)0x4e525239 << 32}};
    const char *path = place_path("book");
    struct naru_rwlock *first = NULL, *second;

    (void)state;
    assert_int_equal(naru_rwlock_read(NULL, 0), -EINVAL);
    assert_int_equal(naru_rwlock_write(NULL, 0), -EINVAL);
    assert_int_equal(naru_rwlock_unlock(NULL), -EINVAL);
    assert_int_equal(naru_rwlock_consistent(NULL), -EINVAL);
    assert_int_equal(naru_rwlock_open(NULL, path, NULL), -EINVAL);
    assert_int_equal(naru_rwlock_open(&first, "a b", NULL), -EINVAL);
    assert_int_equal(naru_rwlock_init(NULL), -EINVAL);
    assert_int_equal(naru_rwlock_attach(NULL, &newer), -EINVAL);
    assert_int_equal(naru_rwlock_attach(&first, &newer), -EPROTO);
    assert_int_equal(naru_rwlock_unlink(path), -ENOENT);
    assert_null(first);
    assert_int_equal(naru_rwlock_open(&first, path, NULL), 0);
    assert_int_equal(naru_rwlock_open(&second, path, NULL), 0);
    for (int i = 0; i < NARU_READERS_MAX; i++)
        assert_int_equal(naru_rwlock_read(i % 2 ? first : second, 0), 0);
    assert_int_equal(naru_rwlock_read(first, 0), -EDEADLK); /* all of them are its own */
    naru_rwlock_close(second);
    assert_int_equal(naru_rwlock_read(first, 0), 0);
    naru_rwlock_close(first);
    assert_int_equal(naru_rwlock_unlink(path), 0);
}

/* -- kills at random ---------------------------------------------------------------------------- */

static void child_works(void *is_writer)
{
    while (!nr_kit_get(&shared->stop)) {
        int result = is_writer ? naru_rwlock_write(lock, NARU_FOREVER)
                               : naru_rwlock_read(lock, NARU_FOREVER);
        child_check(result >= 0);
        if (result == 0 && *(volatile long *)&shared->before != *(volatile long *)&shared->after)
            shared->odd++;
        if (is_writer) {
            shared->doubts += result == NARU_OWNER_DIED;
            *(volatile long *)&shared->before = shared->writes + 1;
            if (++shared->writes % 64 == 0)
                sched_yield();
            *(volatile long *)&shared->after = shared->before;
            child_check(naru_rwlock_consistent(lock) == 0);
        } else {
            nr_kit_add(&shared->reads, 1);
        }
        child_check(naru_rwlock_unlock(lock) == 0);
    }
}

static void kills_at_random_leave_it_whole(void **state)
{
    unsigned seed = (unsigned)getpid();
    pid_t pids[WORKERS];
    int kills = 0;

    (void)state;
    for (int i = 0; i < WORKERS; i++)
        pids[i] = child_start(child_works, i < 2 ? lock : NULL);
    for (int64_t end = clock_ms() + 1500; clock_ms() < end || kills < 25; kills++) {
        int i = rand_r(&seed) % WORKERS;
        usleep((useconds_t)rand_r(&seed) % 1500);
        nr_kit_kill(pids[i]);
        pids[i] = child_start(child_works, i < 2 ? lock : NULL);
    }
    nr_kit_set(&shared->stop, 1);
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(child_end(pids[i]), 0);
    print_message("# %d kills, seed %u: %ld writes, %ld reads, %ld after a death\n", kills,
                  (unsigned)getpid(), shared->writes, shared->reads, shared->doubts);
    assert_int_equal(shared->odd, 0);
    assert_true(kills > 20 && shared->writes > 100 && shared->reads > 100);
    assert_in_range(naru_rwlock_write(lock, 0), 0, NARU_OWNER_DIED);
    assert_int_equal(naru_rwlock_consistent(lock), 0);
    assert_int_equal(naru_rwlock_unlock(lock), 0);
    test_is_free();
}

#define test(function) cmocka_unit_test_setup(function, test_setup)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        test(readers_share_and_a_writer_is_alone),
        test(a_waiting_writer_keeps_new_readers_out),
        test(the_dead_keep_nobody_out),
        test(who_is_stopped_is_waited_for),
        test(threads_that_end_and_exec_count_as_death),
        test(it_belongs_to_who_locked_it),
        test(is_found_by_name_and_refuses_what_is_wrong),
        test(kills_at_random_leave_it_whole),
    };

    if (argc > 1 && strcmp(argv[1], "--pause") == 0)
        return alarm(30), pause();
    return cmocka_run_group_tests_name("rwlock", tests, group_setup, group_teardown);
}
