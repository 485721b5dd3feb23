/* SPDX-License-Identifier: MIT */
/* mutex -- what naru/sync.h promises of it to one process, its threads and its children: results, names, errors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include "place.h"
#include <errno.h>
#include <linux/seccomp.h>
#include <naru/shm.h>
#include <naru/sync.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static char test_name[64];

static int test_setup(void **state)
{
    static int count;

    (void)state;
    alarm(50);
    snprintf(test_name, sizeof test_name, "test-%d-%d", (int)getpid(), count++);
    place_make();
    return 0;
}

static int test_teardown(void **state)
{
    (void)state;
    naru_mutex_unlink(test_name);
    place_remove();
    return 0;
}

static struct naru_mutex *test_open(const char *name, enum naru_create create)
{
    struct naru_options options = {.size_bytes = sizeof options, .create = create};
    struct naru_mutex *mutex = NULL;

    if (naru_mutex_open(&mutex, name, &options) < 0)
        fail_msg("%s", naru_error_text());
    return mutex;
}

static void *thread_tries(void *mutex)
{
    int result = naru_mutex_lock(mutex, 0);

    if (result == 0)
        naru_mutex_unlock(mutex);
    return (void *)(intptr_t)result;
}

static int test_other_thread(void *(*run)(void *), void *argument)
{
    pthread_t thread;
    void *result;

    assert_int_equal(pthread_create(&thread, NULL, run, argument), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    return (int)(intptr_t)result;
}

static void one_thread_at_a_time(void **state)
{
    struct naru_mutex_state place;
    struct naru_mutex *mutex;

    (void)state;
    assert_int_equal(naru_mutex_init(&place), 0);
    assert_int_equal(naru_mutex_attach(&mutex, &place), 0);
    assert_int_equal(naru_mutex_owner(mutex), 0);
    assert_int_equal(naru_mutex_lock(mutex, NARU_FOREVER), 0);
    assert_int_equal(naru_mutex_owner(mutex), (int)getpid());
    assert_int_equal(test_other_thread(thread_tries, mutex), -EAGAIN);
    assert_int_equal(naru_mutex_unlock(mutex), 0);
    assert_int_equal(test_other_thread(thread_tries, mutex), 0);
    assert_int_equal(naru_mutex_owner(mutex), 0);
    naru_mutex_close(mutex);
    naru_mutex_close(NULL);
}

static void *thread_unlocks(void *mutex)
{
    return (void *)(intptr_t)naru_mutex_unlock(mutex);
}

static void child_has_nothing(void *mutex)
{
    child_check(naru_mutex_unlock(mutex) == -EPERM);
    child_check(naru_mutex_consistent(mutex) == -EPERM);
    child_check(naru_mutex_lock(mutex, 20 * NARU_MILLISECOND) == -ETIMEDOUT);
    naru_mutex_close(mutex); /* which unlocks nothing */
}

static void only_the_holder_unlocks(void **state)
{
    char words[40];

    (void)state;
    struct naru_mutex *mutex = test_open(test_name, NARU_CREATE);
    struct naru_mutex *other = test_open(test_name, NARU_ATTACH);
    assert_int_equal(naru_mutex_unlock(mutex), -EPERM);
    assert_text_has("nobody holds");
    assert_int_equal(naru_mutex_consistent(mutex), -EPERM);
    assert_int_equal(naru_mutex_lock(mutex, 0), 0);
    assert_int_equal(test_other_thread(thread_unlocks, mutex), -EPERM);
    assert_int_equal(naru_mutex_unlock(other), -EPERM);
    snprintf(words, sizeof words, "thread %d holds", (int)getpid());
    assert_text_has(words);
    naru_mutex_close(other);
    assert_int_equal(child_run(child_has_nothing, mutex), 0);
    assert_int_equal(naru_mutex_owner(mutex), (int)getpid());
    assert_int_equal(naru_mutex_unlock(mutex), 0);
    assert_int_equal(naru_mutex_unlock(mutex), -EPERM);
    naru_mutex_close(mutex);
}

static void who_holds_it_does_not_wait_for_itself(void **state)
{
    (void)state;
    struct naru_mutex *mutex = test_open(test_name, NARU_CREATE);
    struct naru_mutex *other = test_open(test_name, NARU_ATTACH);
    assert_int_equal(naru_mutex_lock(mutex, 0), 0);
    assert_int_equal(naru_mutex_lock(mutex, NARU_FOREVER), -EDEADLK);
    assert_int_equal(naru_mutex_lock(other, 0), -EDEADLK);
    assert_text_has("wait for itself");
    assert_int_equal(naru_mutex_unlock(mutex), 0);
    assert_int_equal(naru_mutex_lock(other, 0), 0);
    assert_int_equal(naru_mutex_unlock(other), 0);
    naru_mutex_close(other);
    naru_mutex_close(mutex);
}

static void child_holds_a_while(void *name)
{
    struct naru_mutex *mutex;

    child_check(naru_mutex_open(&mutex, name, NULL) == 0);
    child_check(naru_mutex_lock(mutex, NARU_FOREVER) == 0);
    sleep_ms(60);
    child_check(naru_mutex_unlock(mutex) == 0);
    naru_mutex_close(mutex);
}

static void is_found_by_name_and_by_path(void **state)
{
    (void)state;
    const char *names[] = {test_name, place_path("door")};
    for (int i = 0; i < 2; i++) {
        struct naru_mutex *mutex = test_open(names[i], NARU_CREATE_OR_ATTACH);
        pid_t pid = child_start(child_holds_a_while, (void *)names[i]);
        while (naru_mutex_owner(mutex) != pid)
            sleep_ms(1);
        assert_int_equal(naru_mutex_lock(mutex, 10 * NARU_SECOND), 0);
        assert_int_equal(naru_mutex_unlock(mutex), 0);
        assert_int_equal(child_end(pid), 0);
        naru_mutex_close(mutex);
    }
}

static void *thread_waits_in_vain(void *mutex)
{
    int64_t before = clock_ms();
    int result =
        naru_mutex_lock(mutex, 1200 * NARU_MILLISECOND); /* longer than until it looks around */

    return (void *)(intptr_t)(result == -ETIMEDOUT && clock_ms() - before >= 1199 &&
                              strstr(naru_error_text(), "until the time was over") != NULL);
}

static void time_outs_end_a_wait(void **state)
{
    (void)state;
    struct naru_mutex *mutex = test_open(test_name, NARU_CREATE);
    assert_int_equal(naru_mutex_lock(mutex, NARU_SECOND), 0);
    assert_int_equal(test_other_thread(thread_waits_in_vain, mutex), 1);
    assert_int_equal(naru_mutex_unlock(mutex), 0);
    assert_int_equal(naru_mutex_lock(mutex, 0), 0);
    assert_int_equal(naru_mutex_unlock(mutex), 0);
    naru_mutex_close(mutex);
}

static void several_are_held_in_any_order(void **state)
{
    struct naru_mutex_state places[8];
    struct naru_mutex *mutexes[8];

    (void)state;
    for (int i = 0; i < 8; i++) {
        assert_int_equal(naru_mutex_init(&places[i]), 0);
        assert_int_equal(naru_mutex_attach(&mutexes[i], &places[i]), 0);
    }
    for (int step = 1; step < 8; step += 2) {
        for (int i = 0; i < 8; i++)
            assert_int_equal(naru_mutex_lock(mutexes[i], 0), 0);
        for (int i = 0; i < 8; i++)
            assert_int_equal(naru_mutex_unlock(mutexes[i * step % 8]), 0);
    }
    for (int i = 0; i < 8; i++)
        naru_mutex_close(mutexes[i]);
}

/* Only read, write and exit are allowed: any other system call kills. */
static void child_without_system_calls(void *mutex)
{
    child_check(naru_mutex_lock(mutex, 0) == 0 && naru_mutex_unlock(mutex) == 0);
    child_check(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
    bool went_well = naru_mutex_lock(mutex, NARU_FOREVER) == 0 && naru_mutex_unlock(mutex) == 0 &&
                     naru_mutex_lock(mutex, 0) == 0 && naru_mutex_consistent(mutex) == 0 &&
                     naru_mutex_lock(mutex, 0) == -EDEADLK && naru_mutex_unlock(mutex) == 0;
    syscall(SYS_exit, went_well ? 0 : 1);
}

static void uncontended_makes_no_system_call(void **state)
{
    (void)state;
    if (getenv("NARU_SANITIZED") || getenv("NARU_TEST_WRAPPER")) {
        printf("SKIP: the sanitizer makes system calls of its own\n");
        skip();
    }
    struct naru_mutex *mutex = test_open(test_name, NARU_CREATE);
    assert_int_equal(child_run(child_without_system_calls, mutex), 0);
    naru_mutex_close(mutex);
}

static void bad_arguments_are_refused(void **state)
{
    struct naru_mutex_state places[2] = {0}, newer = {{(uint64_t)0x4e524d39 << 32}};
    struct naru_options options = {.size_bytes = sizeof options, .capacity_messages = 4};
    struct naru_mutex *mutex = NULL;

    (void)state;
    assert_int_equal(naru_mutex_open(&mutex, "a b", NULL), -EINVAL);
    assert_text_has("names no mutex");
    assert_int_equal(naru_mutex_open(&mutex, test_name, &options), -EOPNOTSUPP);
    assert_int_equal(naru_mutex_open(NULL, test_name, NULL), -EINVAL);
    assert_int_equal(naru_mutex_open(&mutex, NULL, NULL), -EINVAL);
    assert_int_equal(naru_mutex_init(NULL), -EINVAL);
    assert_int_equal(naru_mutex_init((void *)((char *)places + 8)), -EINVAL);
    assert_text_has("aligned to 64");
    assert_int_equal(naru_mutex_attach(NULL, places), -EINVAL);
    assert_int_equal(naru_mutex_attach(&mutex, NULL), -EINVAL);
    assert_int_equal(naru_mutex_attach(&mutex, places), -EBADMSG);
    assert_text_has("no mutex");
    assert_int_equal(naru_mutex_attach(&mutex, &newer), -EPROTO);
    assert_text_has("layout '9'");
    assert_int_equal(naru_mutex_lock(NULL, 0), -EINVAL);
    assert_int_equal(naru_mutex_unlock(NULL), -EINVAL);
    assert_int_equal(naru_mutex_consistent(NULL), -EINVAL);
    assert_int_equal(naru_mutex_owner(NULL), -EINVAL);
    assert_int_equal(naru_mutex_unlink(NULL), -EINVAL);
    assert_int_equal(naru_mutex_unlink(test_name), -ENOENT);
    assert_null(mutex);
}

static void one_of_another_kind_or_home_is_refused(void **state)
{
    struct naru_semaphore *semaphore;
    struct naru_mutex_state place;
    struct naru_mutex *mutex;
    const char *path = place_path("thing");

    (void)state;
    assert_int_equal(naru_semaphore_open(&semaphore, path, 1, NULL), 0);
    naru_semaphore_close(semaphore);
    assert_int_equal(naru_mutex_open(&mutex, path, NULL), -EBADMSG);
    assert_int_equal(naru_mutex_unlink(path), -EBADMSG);
    assert_int_equal(naru_semaphore_unlink(path), 0);
    assert_int_equal(naru_mutex_init(&place), 0);
    place.words[1] ^= 1; /* as another namespace or the next boot would have it */
    place_write(path, &place, sizeof place);
    assert_int_equal(naru_mutex_open(&mutex, path, NULL), -EXDEV);
    assert_text_has("PID namespace");
    assert_int_equal(naru_mutex_attach(&mutex, &place), -EXDEV);
    assert_int_equal(naru_mutex_unlink(path), 0);
}

/* Those of the C library in the same thread, taken before, between and after ours. */
static void robust_mutexes_of_the_c_library_stay_whole(void **state)
{
    struct naru_mutex_state places[3];
    struct naru_mutex *mutexes[3];
    pthread_mutex_t bare[3];
    pthread_mutexattr_t robust;

    (void)state;
    pthread_mutexattr_init(&robust);
    pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST);
    for (int i = 0; i < 3; i++) {
        pthread_mutex_init(&bare[i], &robust);
        assert_int_equal(naru_mutex_init(&places[i]), 0);
        assert_int_equal(naru_mutex_attach(&mutexes[i], &places[i]), 0);
    }
    for (int round = 0; round < 6; round++) {
        for (int i = 0; i < 3; i++) {
            assert_int_equal(pthread_mutex_lock(&bare[i]), 0);
            assert_int_equal(naru_mutex_lock(mutexes[i], 0), 0);
        }
        for (int i = 0; i < 3; i++) {
            assert_int_equal(pthread_mutex_unlock(&bare[(i + round) % 3]), 0);
            assert_int_equal(naru_mutex_unlock(mutexes[(2 * i + round) % 3]), 0);
        }
    }
    for (int i = 0; i < 3; i++)
        naru_mutex_close(mutexes[i]);
}

#define test(function) cmocka_unit_test_setup_teardown(function, test_setup, test_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(one_thread_at_a_time),
        test(only_the_holder_unlocks),
        test(who_holds_it_does_not_wait_for_itself),
        test(is_found_by_name_and_by_path),
        test(time_outs_end_a_wait),
        test(several_are_held_in_any_order),
        test(uncontended_makes_no_system_call),
        test(bad_arguments_are_refused),
        test(one_of_another_kind_or_home_is_refused),
        test(robust_mutexes_of_the_c_library_stay_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
