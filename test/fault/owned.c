/* SPDX-License-Identifier: MIT */
/*
 * owned -- owned semaphores: what they refuse, and permits that return from processes that die, stop, fork, become another
 *          program or end their thread
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
#include <sys/mman.h>

enum { PERMITS = 3, WORKERS = 7, LONG_MS = 30000 };

static struct test_shared {
    struct naru_owned_state state;
    int is_ready, stop, inside, most;
    long rounds;
} * shared;

static struct naru_semaphore *semaphore;
static char program[256];

static int test_setup(void **state)
{
    (void)state;
    alarm(55);
    memset(shared, 0, sizeof *shared);
    assert_int_equal(naru_semaphore_init_owned(&shared->state, PERMITS), 0);
    return 0;
}

static int group_setup(void **state)
{
    shared = nr_kit_shared(sizeof *shared);
    test_setup(state);
    if (naru_semaphore_attach_owned(&semaphore, &shared->state) < 0)
        return -1;
    place_make();
    return readlink("/proc/self/exe", program, sizeof program - 1) > 0 ? 0 : -1;
}

static int group_teardown(void **state)
{
    (void)state;
    place_remove();
    naru_semaphore_close(semaphore);
    return munmap(shared, sizeof *shared);
}

static pid_t test_start(void (*run)(void *), int permits)
{
    nr_kit_set(&shared->is_ready, 0);
    pid_t pid = child_start(run, (void *)(intptr_t)permits);
    nr_kit_await(&shared->is_ready, 1);
    return pid;
}

static void test_all_are_free(void)
{
    assert_int_equal(naru_semaphore_value(semaphore), PERMITS);
    for (int i = 0; i < PERMITS; i++)
        assert_int_equal(naru_semaphore_wait(semaphore, 0), 0);
    assert_int_equal(naru_semaphore_wait(semaphore, 0), -EAGAIN);
    for (int i = 0; i < PERMITS; i++)
        assert_int_equal(naru_semaphore_post(semaphore), 0);
    assert_int_equal(naru_semaphore_value(semaphore), PERMITS);
}

static void child_takes(void *permits)
{
    for (intptr_t i = 0; i < (intptr_t)permits; i++)
        child_check(naru_semaphore_wait(semaphore, NARU_FOREVER) == 0);
    nr_kit_set(&shared->is_ready, 1);
    pause();
}

static void child_waits(void *unused)
{
    (void)unused;
    nr_kit_set(&shared->is_ready, 1);
    child_check(naru_semaphore_wait(semaphore, LONG_MS * NARU_MILLISECOND) == 0);
    child_check(naru_semaphore_post(semaphore) == 0);
}

static void *thread_posts(void *unused)
{
    (void)unused;
    return (void *)(intptr_t)naru_semaphore_post(semaphore);
}

static int test_in_thread(void *(*run)(void *))
{
    pthread_t thread;
    void *result;

    assert_int_equal(pthread_create(&thread, NULL, run, NULL), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    return (int)(intptr_t)result;
}

static void counts_and_belongs_to_who_took(void **state)
{
    struct naru_semaphore *other;

    (void)state;
    test_all_are_free();
    assert_int_equal(naru_semaphore_post(semaphore), -EPERM);
    assert_text_has("holds no permit");
    assert_int_equal(naru_semaphore_wait(semaphore, NARU_SECOND), 0);
    assert_int_equal(test_in_thread(thread_posts), -EPERM);
    assert_int_equal(naru_semaphore_attach_owned(&other, &shared->state), 0);
    assert_int_equal(naru_semaphore_post(other), -EPERM);
    assert_int_equal(naru_semaphore_wait(other, 0), 0);
    assert_int_equal(naru_semaphore_value(semaphore), PERMITS - 2);
    naru_semaphore_close(other); /* gives back what it has taken */
    assert_int_equal(naru_semaphore_value(semaphore), PERMITS - 1);
    assert_int_equal(naru_semaphore_post(semaphore), 0);
    test_all_are_free();
}

static void time_outs_end_a_wait(void **state)
{
    (void)state;
    pid_t pid = test_start(child_takes, PERMITS);
    int64_t before = clock_ms();
    assert_int_equal(naru_semaphore_wait(semaphore, 1100 * NARU_MILLISECOND), -ETIMEDOUT);
    assert_true(clock_ms() - before >= 1099);
    assert_text_has("until the time was over");
    nr_kit_kill(pid);
    test_all_are_free();
}

static void permits_return_from_the_dead(void **state)
{
    pid_t waiters[3];

    (void)state;
    pid_t one = test_start(child_takes, 1), two = test_start(child_takes, 2);
    assert_int_equal(naru_semaphore_value(semaphore), 0);
    nr_kit_kill(two);
    assert_int_equal(naru_semaphore_value(semaphore), 2);
    two = test_start(child_takes, 2);
    for (int i = 0; i < 3; i++)
        waiters[i] = test_start(child_waits, 0);
    sleep_ms(20);
    nr_kit_kill(waiters[0]); /* leaves nothing behind */
    nr_kit_kill(one);
    for (int i = 1; i < 3; i++)
        assert_int_equal(child_end(waiters[i]), 0);
    nr_kit_kill(two);
    test_all_are_free();
}

static void a_stopped_holder_keeps_its_own(void **state)
{
    (void)state;
    pid_t pid = test_start(child_takes, 1);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    assert_int_equal(naru_semaphore_wait(semaphore, 0), 0);
    assert_int_equal(naru_semaphore_wait(semaphore, 0), 0);
    assert_int_equal(naru_semaphore_wait(semaphore, 30 * NARU_MILLISECOND), -ETIMEDOUT);
    assert_int_equal(naru_semaphore_post(semaphore), 0);
    assert_int_equal(naru_semaphore_post(semaphore), 0);
    nr_kit_kill(pid);
    test_all_are_free();
}

static void *thread_takes(void *unused)
{
    (void)unused;
    return (void *)(intptr_t)naru_semaphore_wait(semaphore, 0);
}

static void child_becomes_another_program(void *unused)
{
    (void)unused;
    child_check(naru_semaphore_wait(semaphore, 0) == 0);
    nr_kit_set(&shared->is_ready, 1);
    execl(program, program, "--pause", NULL);
    child_check(false);
}

static void threads_that_end_and_exec_count_as_death(void **state)
{
    (void)state;
    assert_int_equal(test_in_thread(thread_takes), 0);
    test_all_are_free();
    pid_t pid = test_start(child_becomes_another_program, 0);
    for (int i = 0; i < PERMITS; i++)
        assert_int_equal(naru_semaphore_wait(semaphore, LONG_MS * NARU_MILLISECOND), 0);
    assert_int_equal(kill(pid, 0), 0);
    for (int i = 0; i < PERMITS; i++)
        assert_int_equal(naru_semaphore_post(semaphore), 0);
    nr_kit_kill(pid);
}

static void child_has_none(void *unused)
{
    (void)unused;
    child_check(naru_semaphore_post(semaphore) == -EPERM);
    child_check(naru_semaphore_wait(semaphore, 0) == 0);
    naru_semaphore_close(semaphore);
}

static void a_forked_child_holds_none(void **state)
{
    (void)state;
    assert_int_equal(naru_semaphore_wait(semaphore, 0), 0);
    assert_int_equal(child_run(child_has_none, NULL), 0);
    assert_int_equal(naru_semaphore_value(semaphore), PERMITS - 1);
    assert_int_equal(naru_semaphore_post(semaphore), 0);
    test_all_are_free();
}

static void is_found_by_name_and_refuses_what_is_wrong(void **state)
{
    struct naru_semaphore *named = NULL, *same;
    const char *path = place_path("lanes");

    (void)state;
    assert_int_equal(naru_semaphore_open_owned(&named, path, 0, NULL), -EINVAL);
    assert_int_equal(naru_semaphore_open_owned(&named, path, NARU_PERMITS_MAX + 1, NULL), -EINVAL);
    assert_text_has("1 to 63");
    assert_int_equal(naru_semaphore_open_owned(NULL, path, 1, NULL), -EINVAL);
    assert_int_equal(naru_semaphore_init_owned(&shared->state, 0), -EINVAL);
    assert_int_equal(naru_semaphore_attach_owned(NULL, &shared->state), -EINVAL);
    assert_null(named);
    assert_int_equal(naru_semaphore_open_owned(&named, path, NARU_PERMITS_MAX, NULL), 0);
    assert_int_equal(naru_semaphore_open_owned(&same, path, 1, NULL), 0); /* 1 counts no more */
    for (int i = 0; i < NARU_PERMITS_MAX; i++)
        assert_int_equal(naru_semaphore_wait(i % 2 ? named : same, 0), 0);
    assert_int_equal(naru_semaphore_wait(named, 0), -EAGAIN);
    naru_semaphore_close(same);
    assert_int_equal(naru_semaphore_value(named), NARU_PERMITS_MAX / 2 + 1);
    naru_semaphore_close(named);
    assert_int_equal(naru_semaphore_open(&named, path, 1, NULL), -EBADMSG);
    assert_int_equal(naru_semaphore_unlink(path), 0);
    assert_int_equal(naru_semaphore_unlink(path), -ENOENT);
    shared->state.words[2] = 64; /* how many there are */
    assert_int_equal(naru_semaphore_attach_owned(&same, &shared->state), -EBADMSG);
    assert_text_has("damaged");
}

/* -- kills at random ---------------------------------------------------------------------------- */

static void child_works(void *unused)
{
    (void)unused;
    while (!nr_kit_get(&shared->stop)) {
        child_check(naru_semaphore_wait(semaphore, NARU_FOREVER) == 0);
        if (nr_kit_add(&shared->rounds, 1) % 64 == 0)
            sched_yield();
        child_check(naru_semaphore_post(semaphore) == 0);
    }
}

static void kills_at_random_lose_no_permit(void **state)
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
    print_message("# %d kills, seed %u: %ld rounds\n", kills, (unsigned)getpid(), shared->rounds);
    assert_true(kills > 20 && shared->rounds > 1000);
    test_all_are_free();
}

#define test(function) cmocka_unit_test_setup(function, test_setup)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        test(counts_and_belongs_to_who_took),
        test(time_outs_end_a_wait),
        test(permits_return_from_the_dead),
        test(a_stopped_holder_keeps_its_own),
        test(threads_that_end_and_exec_count_as_death),
        test(a_forked_child_holds_none),
        test(is_found_by_name_and_refuses_what_is_wrong),
        test(kills_at_random_lose_no_permit),
    };

    if (argc > 1 && strcmp(argv[1], "--pause") == 0)
        return alarm(30), pause();
    return cmocka_run_group_tests_name("owned", tests, group_setup, group_teardown);
}
