/* SPDX-License-Identifier: MIT */
/* uring -- futex words and descriptors in one ring: told once, at once, to whoever sleeps or polls */
#include "os/guard.h"
#include "os/uring.h"
#include "kit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "child.h"
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static struct nr_uring ring;
static uint32_t word;
static bool is_missing;

static int nr_uring_test_setup(void **state)
{
    (void)state;
    alarm(20);
    word = 0;
    int result = nr_os_uring_init(&ring, true);
    is_missing = result == -ENOSYS;
    return is_missing ? 0 : result;
}

/* A setup can't skip. */
static void nr_uring_test_begin(void **state)
{
    (void)state;
    if (is_missing) {
        print_message("SKIP: no io_uring with futexes here (Linux 6.7)\n");
        skip();
    }
}

static int nr_uring_test_teardown(void **state)
{
    (void)state;
    nr_os_uring_deinit(&ring);
    nr_os_uring_deinit(&ring);
    return 0;
}

static void nr_uring_expect(uint64_t data, int result)
{
    uint64_t got_data = 0;
    int got_result = 0;

    assert_true(nr_os_uring_next(&ring, &got_data, &got_result));
    assert_int_equal(got_data, data);
    assert_int_equal(got_result, result);
}

static void nr_uring_expect_none(void)
{
    uint64_t data;
    int result;

    assert_false(nr_os_uring_next(&ring, &data, &result));
}

static void *nr_uring_change(void *context)
{
    sleep_ms(30);
    __atomic_store_n((uint32_t *)context, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, context, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    return NULL;
}

static void nr_uring_test_sleep(void **state)
{
    struct nr_deadline never = nr_deadline_in(-1), soon = nr_deadline_in(20000000);
    uint32_t other = 0;
    pthread_t thread;

    nr_uring_test_begin(state);
    assert_int_equal(nr_os_uring_futex(&ring, &other, 0, 1), 0);
    nr_os_uring_enter(&ring, &soon);
    assert_int_equal(nr_deadline_left_ns(&soon), 0);
    nr_uring_expect_none();
    assert_int_equal(nr_os_uring_enter(&ring, &soon), -ETIMEDOUT);
    assert_int_equal(nr_os_uring_futex(&ring, &word, 0, 2), 0);
    assert_int_equal(pthread_create(&thread, NULL, nr_uring_change, &word), 0);
    assert_int_equal(nr_os_uring_enter(&ring, &never), 0);
    nr_uring_expect(2, 0);
    nr_uring_expect_none(); /* the other one is still waited for */
    assert_int_equal(nr_os_uring_futex(&ring, &word, 0, 3), 0);
    assert_int_equal(nr_os_uring_enter(&ring, &never), 0); /* it has another value */
    nr_uring_expect(3, -EAGAIN);
    pthread_join(thread, NULL);
    assert_int_equal(nr_os_uring_cancel(&ring, 1), 0);
    assert_int_equal(nr_os_uring_enter(&ring, &never), 0);
    nr_uring_expect(1, -ECANCELED);
}

/* The process' death comes through its pidfd, whose number is closed by then. */
static void nr_uring_sleep_60ms(void *context)
{
    (void)context;
    sleep_ms(60);
}

static void nr_uring_test_death(void **state)
{
    struct nr_deadline never = nr_deadline_in(-1);
    pid_t pid = child_start(nr_uring_sleep_60ms, NULL);
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

    nr_uring_test_begin(state);
    assert_true(pidfd >= 0);
    assert_int_equal(nr_os_uring_poll(&ring, pidfd, POLLIN, 7), 0);
    assert_int_equal(nr_os_uring_enter(&ring, NULL), 0);
    close(pidfd);
    assert_false(nr_os_uring_has_news(&ring));
    assert_int_equal(nr_os_uring_enter(&ring, &never), 0);
    nr_uring_expect(7, POLLIN);
    child_end(pid);
}

static void nr_uring_on_alarm(int number)
{
    (void)number;
}

/* Also a handler with SA_RESTART ends the sleep. */
static void nr_uring_test_signal(void **state)
{
    struct nr_deadline never = nr_deadline_in(-1);
    struct sigaction action = {.sa_handler = nr_uring_on_alarm, .sa_flags = SA_RESTART}, before;

    nr_uring_test_begin(state);
    sigaction(SIGALRM, &action, &before);
    ualarm(30000, 0);
    assert_int_equal(nr_os_uring_enter(&ring, &never), -EINTR);
    sigaction(SIGALRM, &before, NULL);
}

/* The eventfd tells poll(), which is not disturbed otherwise; the completion waits until it is collected. */
static void nr_uring_test_eventfd(void **state)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    struct pollfd one = {.fd = fd, .events = POLLIN};
    pthread_t thread;
    uint64_t count;

    nr_uring_test_begin(state);
    assert_int_equal(nr_os_uring_signal(&ring, fd), 0);
    assert_int_equal(nr_os_uring_futex(&ring, &word, 0, 1), 0);
    assert_int_equal(nr_os_uring_enter(&ring, NULL), 0);
    assert_int_equal(poll(&one, 1, 10), 0);
    assert_int_equal(pthread_create(&thread, NULL, nr_uring_change, &word), 0);
    assert_int_equal(poll(&one, 1, 5000), 1);
    assert_true(nr_os_uring_has_news(&ring));
    assert_int_equal(nr_os_uring_enter(&ring, NULL), 0);
    nr_uring_expect(1, 0);
    assert_false(nr_os_uring_has_news(&ring));
    assert_int_equal(read(fd, &count, sizeof count), sizeof count);
    assert_int_equal(poll(&one, 1, 10), 0);
    pthread_join(thread, NULL);
    close(fd);
}

/* The requests of a thread end with it, and its ring is nobody else's. */
static void *nr_uring_make_and_end(void *context)
{
    nr_os_uring_deinit(&ring);
    assert_int_equal(nr_os_uring_init(&ring, true), 0);
    assert_true(nr_os_uring_is_mine(&ring));
    assert_int_equal(nr_os_uring_signal(&ring, *(int *)context), 0);
    assert_int_equal(nr_os_uring_futex(&ring, &word, 0, 1), 0);
    assert_int_equal(nr_os_uring_enter(&ring, NULL), 0);
    return NULL;
}

static void nr_uring_test_thread_ends(void **state)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    struct pollfd one = {.fd = fd, .events = POLLIN};
    pthread_t thread;

    nr_uring_test_begin(state);
    assert_int_equal(pthread_create(&thread, NULL, nr_uring_make_and_end, &fd), 0);
    pthread_join(thread, NULL);
    assert_false(nr_os_uring_is_mine(&ring));
    assert_int_equal(poll(&one, 1, 5000), 1);
    assert_true(nr_os_uring_enter(&ring, NULL) < 0);
    close(fd);
}

/* More than fit the queues, in both directions. */
static void nr_uring_test_many(void **state)
{
    enum { MANY = 1000 };
    static bool seen[MANY];
    struct nr_deadline never = nr_deadline_in(-1);
    pthread_t thread;
    uint64_t data;
    int count = 0, result;

    nr_uring_test_begin(state);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(nr_os_uring_futex(&ring, &word, 0, (uint64_t)i), 0);
    assert_int_equal(pthread_create(&thread, NULL, nr_uring_change, &word), 0);
    while (count < MANY) {
        int entered = nr_os_uring_enter(&ring, &never);
        assert_true(entered == 0 || entered == -EINTR);
        for (; nr_os_uring_next(&ring, &data, &result); count++) {
            assert_true(data < MANY && !seen[data] && result == 0);
            seen[data] = true;
        }
    }
    pthread_join(thread, NULL);
}

/* -- sleeping elsewhere ---------------------------------------------------------------------- */

static int raised;

static void nr_uring_raise(int number)
{
    (void)number;
    raised = 1;
}

static void nr_uring_disturbed(void)
{
    if (!nr_os_guard_works()) {
        print_message("SKIP: no guard here (rseq, one thread)\n");
        skip();
    }
    nr_os_uring_deinit(&ring);
    assert_int_equal(nr_os_uring_init(&ring, false), 0);
    raised = 0;
}

/* A completion ends it, whatever it sleeps on; so do a wake, a changed word and the time. */
static void nr_uring_test_sleep_elsewhere(void **state)
{
    struct nr_deadline never = nr_deadline_in(-1), soon = nr_deadline_in(20000000);

    nr_uring_test_begin(state);
    nr_uring_disturbed();
    pid_t pid = child_start(nr_uring_sleep_60ms, NULL);
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    assert_int_equal(nr_os_uring_poll(&ring, pidfd, POLLIN, 7), 0);
    assert_int_equal(nr_os_uring_sleep(&ring, &raised, &word, 1, &never), 0);
    assert_int_equal(nr_os_uring_sleep(&ring, &raised, &word, 0, &soon), -ETIMEDOUT);
    close(pidfd);
    nr_uring_expect_none();
    assert_int_equal(nr_os_uring_sleep(&ring, &raised, &word, 0, &never), -EINTR);
    assert_int_equal(nr_os_uring_sleep(&ring, &raised, &word, 0, &never), -EINTR); /* until seen */
    nr_uring_expect(7, POLLIN);
    child_end(pid);
}

/* The handler may come at any moment; one that is missed sleeps for ever. */
static void nr_uring_test_sleep_raised(void **state)
{
    struct sigaction action = {.sa_handler = nr_uring_raise, .sa_flags = SA_RESTART};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct nr_deadline never = nr_deadline_in(-1);
    int rounds = 3000 / nr_kit_slowness();
    timer_t timer;

    nr_uring_test_begin(state);
    nr_uring_disturbed();
    sigaction(SIGUSR1, &action, NULL);
    assert_int_equal(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    for (int i = 0; i < rounds; i++) {
        struct itimerspec once = {.it_value.tv_nsec = 1 + i * 37 % 12000};
        raised = 0;
        timer_settime(timer, 0, &once, NULL);
        assert_int_equal(nr_os_uring_sleep(&ring, &raised, &word, 0, &never), -EINTR);
        assert_int_equal(raised, 1);
    }
    timer_delete(timer);
}

/* The same for completions: a process that ends at any moment, before the call or in it. */
static void nr_uring_nothing(void *context)
{
    (void)context;
}

static void nr_uring_test_sleep_any_moment(void **state)
{
    struct nr_deadline never = nr_deadline_in(-1);
    int rounds = 300 / nr_kit_slowness();

    nr_uring_test_begin(state);
    nr_uring_disturbed();
    for (int i = 0; i < rounds; i++) {
        pid_t pid = child_start(nr_uring_nothing, NULL);
        int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        assert_int_equal(nr_os_uring_poll(&ring, pidfd, POLLIN, 7), 0);
        assert_int_equal(nr_os_uring_enter(&ring, NULL), 0);
        close(pidfd);
        nanosleep(&(struct timespec){.tv_nsec = i * 7000 % 1500000}, NULL);
        assert_int_equal(nr_os_uring_sleep(&ring, &raised, &word, 0, &never), -EINTR);
        nr_uring_expect(7, POLLIN);
        child_end(pid);
    }
}

#define test_case(name)                                                                            \
    cmocka_unit_test_setup_teardown(name, nr_uring_test_setup, nr_uring_test_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* While the process has one thread: */
        test_case(nr_uring_test_sleep_elsewhere),
        test_case(nr_uring_test_sleep_raised),
        test_case(nr_uring_test_sleep_any_moment),
        test_case(nr_uring_test_sleep),
        test_case(nr_uring_test_death),
        test_case(nr_uring_test_signal),
        test_case(nr_uring_test_eventfd),
        test_case(nr_uring_test_thread_ends),
        test_case(nr_uring_test_many),
    };

    return cmocka_run_group_tests_name("uring", tests, NULL, NULL);
}
