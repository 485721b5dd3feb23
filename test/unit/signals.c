/* SPDX-License-Identifier: MIT */
/* signals -- naru/signal.h in one process: blocked, pending, handled, ignored, awaited, received; each test in a child */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include "kit.h"
#include <errno.h>
#include <naru/signal.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/time.h>

#define TEST_BIT(number) NARU_SIGNAL_BIT(number)

enum { TEST_HANDLED = 64 };

static struct {
    struct naru_signal signals[TEST_HANDLED];
    uint64_t blocked; /* while the last handler ran */
    int count;
} test_handled;

static void test_handler(const struct naru_signal *signal)
{
    sigset_t now;

    test_handled.signals[test_handled.count++ % TEST_HANDLED] = *signal;
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    test_handled.blocked = 0;
    for (int number = 1; number <= SIGRTMAX; number++)
        test_handled.blocked |= sigismember(&now, number) == 1 ? TEST_BIT(number) : 0;
    errno = ENOTTY; /* whoever was interrupted must not see it */
}

static struct naru_signal_target *test_self(void)
{
    struct naru_signal_target *target = NULL;

    child_check(naru_signal_target_open(&target, getpid()) == 0);
    return target;
}

static uint64_t test_pending(void)
{
    struct naru_signal_thread thread;
    struct naru_signal_state state;

    child_check(naru_signal_look(getpid(), &state) == 0);
    child_check(naru_signal_look_threads(getpid(), &thread, 1) == (int)state.threads_count);
    return state.pending | thread.pending;
}

/* -- blocked, pending, unblocked ------------------------------------------------------------ */

static void test_unblock_child(void *context)
{
    const uint64_t set =
        TEST_BIT(SIGUSR1) | TEST_BIT(SIGUSR2) | TEST_BIT(SIGRTMIN + 1) | TEST_BIT(SIGRTMIN + 2);
    struct naru_signal_target *self = test_self();
    uint64_t outer, inner;

    (void)context;
    child_check(naru_signal_handle(set, test_handler) == 0);
    child_check(naru_signal_block(TEST_BIT(SIGUSR1), &outer) == 0 && outer == TEST_BIT(SIGUSR1));
    child_check(naru_signal_block(set, &inner) == 0 && inner == (set & ~outer));
    child_check(naru_signal_unblock(inner) == 0 && naru_signal_block(set, NULL) == 0);

    /* sent in the wrong order: the real-time ones queue, the others do not */
    for (uint64_t value = 10; value < 13; value++)
        child_check(naru_signal_send_value(self, SIGRTMIN + 2, value) == 0);
    child_check(naru_signal_send_value(self, SIGUSR2, 7) == 0);
    child_check(naru_signal_send_value(self, SIGUSR2, 8) == 0);
    child_check(naru_signal_send_value(self, SIGRTMIN + 1, UINT64_MAX) == 0);
    child_check(naru_signal_send(self, SIGUSR1) == 0);
    child_check(test_handled.count == 0 && test_pending() == set);

    errno = 0;
    child_check(naru_signal_unblock(set) == 0);
    child_check(errno == 0);
    static const struct {
        int number, distance; /* from SIGRTMIN, if number is 0 */
        uint64_t value;
    } expected[] = {{SIGUSR1, 0, 0}, {SIGUSR2, 0, 7}, {0, 1, UINT64_MAX},
                    {0, 2, 10},      {0, 2, 11},      {0, 2, 12}};
    child_check(test_handled.count == 6 && test_pending() == 0);
    for (int i = 0; i < 6; i++) {
        const struct naru_signal *signal = &test_handled.signals[i];
        child_check(signal->number ==
                    (expected[i].number ? expected[i].number : SIGRTMIN + expected[i].distance));
        child_check(signal->value == expected[i].value);
        child_check(signal->known ==
                    (NARU_SIGNAL_KNOWS_SENDER | (i ? NARU_SIGNAL_KNOWS_VALUE : 0u)));
        child_check(signal->sender_pid == getpid() && signal->sender_uid == getuid());
        child_check(signal->code == (i ? SI_QUEUE : SI_USER));
    }
    child_check((test_handled.blocked & set) == set);
    naru_signal_target_close(self);
}

static void test_dispositions_child(void *context)
{
    struct naru_signal_target *self = test_self();

    (void)context;
    /* Ignoring throws away what is pending */
    child_check(naru_signal_block(TEST_BIT(SIGUSR1), NULL) == 0);
    child_check(naru_signal_send(self, SIGUSR1) == 0 && test_pending() == TEST_BIT(SIGUSR1));
    child_check(naru_signal_ignore(TEST_BIT(SIGUSR1)) == 0 && test_pending() == 0);
    child_check(naru_signal_unblock(TEST_BIT(SIGUSR1)) == 0);
    child_check(naru_signal_send(self, SIGUSR1) == 0); /* it would end us */

    child_check(naru_signal_handle(TEST_BIT(SIGUSR1), test_handler) == 0);
    child_check(naru_signal_send(self, SIGUSR1) == 0 && test_handled.count == 1);
    child_check(naru_signal_handle(0, test_handler) == 0 && naru_signal_block(0, NULL) == 0);
    child_check(raise(SIGUSR1) == 0 && test_handled.count == 2);
    child_check(test_handled.signals[1].code == SI_TKILL);

    /* What may not be, and then nothing is changed */
    uint64_t changed = 99;
    child_check(naru_signal_block(TEST_BIT(SIGINT) | TEST_BIT(SIGKILL), &changed) == -EINVAL);
    child_check(strstr(naru_error_text(), "SIGKILL") && changed == 99);
    child_check(naru_signal_block(TEST_BIT(32), NULL) == -EINVAL);
    child_check(strstr(naru_error_text(), "libc"));
    child_check(naru_signal_ignore(TEST_BIT(SIGSTOP)) == -EINVAL);
    child_check(naru_signal_default(TEST_BIT(SIGSTOP) | TEST_BIT(SIGUSR1)) == -EINVAL);
    child_check(naru_signal_handle(TEST_BIT(SIGKILL), test_handler) == -EINVAL);
    child_check(naru_signal_handle(TEST_BIT(SIGUSR1), NULL) == -EINVAL);
    child_check(raise(SIGUSR1) == 0 && test_handled.count == 3);

    /* All: whatever can be */
    sigset_t now;
    child_check(naru_signal_block(NARU_SIGNAL_ALL, &changed) == 0);
    child_check(!(changed & (TEST_BIT(SIGKILL) | TEST_BIT(SIGSTOP) | TEST_BIT(32))));
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    for (int number = 1; number <= SIGRTMAX; number++)
        child_check(sigismember(&now, number) != 1 || changed & TEST_BIT(number));
    child_check(changed & TEST_BIT(SIGRTMAX) && changed & TEST_BIT(SIGSEGV));
    child_check(naru_signal_unblock(NARU_SIGNAL_ALL) == 0);

    child_check(naru_signal_default(TEST_BIT(SIGUSR1)) == 0);
    naru_signal_target_close(self);
    kill(getpid(), SIGUSR1);
    child_check(!"the default action of SIGUSR1 ends a process");
}

/* A call that is interrupted goes on. */
static void test_restart_child(void *context)
{
    char byte = 0;
    int ends[2];

    (void)context;
    child_check(naru_signal_handle(TEST_BIT(SIGALRM), test_handler) == 0 && pipe(ends) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 20; i++) {
            kill(getppid(), SIGALRM);
            sleep_ms(5);
        }
        _exit(write(ends[1], "y", 1) != 1);
    }
    child_check(read(ends[0], &byte, 1) == 1 && byte == 'y' && test_handled.count > 0);
    child_check(child_end(pid) == 0);
}

/* -- waiting -------------------------------------------------------------------------------- */

static void test_wait_child(void *context)
{
    const uint64_t set = TEST_BIT(SIGTERM) | TEST_BIT(SIGCHLD) | TEST_BIT(SIGRTMIN + 3);
    struct naru_signal_target *self = test_self();
    struct naru_signal signal = {.number = 77};

    (void)context;
    child_check(naru_signal_wait(set, &signal, 0) == -EPERM && signal.number == 77);
    child_check(strstr(naru_error_text(), "does not block SIG"));
    child_check(naru_signal_block(set, NULL) == 0);
    child_check(naru_signal_wait(0, &signal, 0) == -EINVAL);
    child_check(naru_signal_wait(TEST_BIT(SIGKILL), &signal, 0) == -EINVAL);
    child_check(naru_signal_wait(set, &signal, 0) == -EAGAIN);
    int64_t begin = clock_ms();
    child_check(naru_signal_wait(set, &signal, 30 * NARU_MILLISECOND) == -ETIMEDOUT);
    child_check(clock_ms() - begin >= 29 && signal.number == 77);

    child_check(naru_signal_send_value(self, SIGRTMIN + 3, 5) == 0);
    child_check(naru_signal_send_value(self, SIGRTMIN + 3, 6) == 0);
    child_check(kill(getpid(), SIGTERM) == 0);
    child_check(naru_signal_wait(set, &signal, NARU_FOREVER) == SIGTERM);
    child_check(signal.code == SI_USER && signal.known == NARU_SIGNAL_KNOWS_SENDER);
    child_check(naru_signal_wait(set, &signal, NARU_SECOND) == SIGRTMIN + 3 && signal.value == 5);
    child_check(naru_signal_wait(TEST_BIT(SIGTERM), NULL, 0) == -EAGAIN);
    child_check(naru_signal_wait(set, NULL, 0) == SIGRTMIN + 3);

    pid_t pid = fork();
    if (pid == 0) {
        naru_signal_target_close(self); /* for valgrind's leak check */
        _exit(41);
    }
    child_check(naru_signal_wait(set, &signal, NARU_FOREVER) == SIGCHLD);
    child_check(signal.code == CLD_EXITED && signal.status == 41 && signal.sender_pid == pid);
    child_check(signal.known == (NARU_SIGNAL_KNOWS_SENDER | NARU_SIGNAL_KNOWS_STATUS));
    child_check(WEXITSTATUS(child_end(pid)) == 41);

    /* What the thread has pending comes before what the process has */
    child_check(naru_signal_send_value(self, SIGRTMIN + 3, 1) == 0);
    child_check(raise(SIGRTMIN + 3) == 0);
    child_check(naru_signal_wait(set, &signal, 0) > 0 && signal.code == SI_TKILL);
    child_check(naru_signal_wait(set, &signal, 0) > 0 && signal.value == 1);

    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL,
                             .sigev_signo = SIGRTMIN + 3,
                             .sigev_value = {.sival_int = 12}};
    child_check(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    child_check(timer_settime(timer, 0, &(struct itimerspec){.it_value = {.tv_nsec = 1}}, NULL) ==
                0);
    child_check(naru_signal_wait(set, &signal, NARU_FOREVER) > 0 && signal.code == SI_TIMER);
    child_check(signal.known == NARU_SIGNAL_KNOWS_VALUE && (int)signal.value == 12);
    timer_delete(timer);

    /* Others do not end the wait, and it still ends in time */
    struct itimerval often = {{0, 3000}, {0, 3000}};
    child_check(naru_signal_handle(TEST_BIT(SIGALRM), test_handler) == 0);
    setitimer(ITIMER_REAL, &often, NULL);
    begin = clock_ms();
    child_check(naru_signal_wait(set, &signal, 50 * NARU_MILLISECOND) == -ETIMEDOUT);
    child_check(clock_ms() - begin >= 49 && test_handled.count > 0);
    naru_signal_target_close(self);
}

/* -- a fault -------------------------------------------------------------------------------- */

static char *volatile test_place = (char *)4096;
static sigjmp_buf test_away;

static void test_fault_handler(const struct naru_signal *signal)
{
    test_handled.signals[0] = *signal;
    siglongjmp(test_away, 1);
}

static void test_fault_child(void *context)
{
    (void)context;
    child_check(naru_signal_handle(TEST_BIT(SIGSEGV), test_fault_handler) == 0);
    if (sigsetjmp(test_away, 1) == 0)
        *test_place = 1;
    child_check(test_handled.signals[0].known == NARU_SIGNAL_KNOWS_ADDRESS);
    child_check(test_handled.signals[0].address == 4096);
    child_check(test_handled.signals[0].code == SEGV_MAPERR);
}

/* -- the tests ------------------------------------------------------------------------------ */

static void test_skip_under_tsan(void)
{
    const char *sanitizer = getenv("NARU_SANITIZED");

    if (sanitizer && strstr(sanitizer, "thread")) {
        print_message("SKIP: the thread sanitizer keeps signals back for a while\n");
        skip();
    }
}

#define TEST_CASE(name)                                                                            \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        test_skip_under_tsan();                                                                    \
        assert_int_equal(child_run(name##_child, NULL), 0);                                        \
    }

TEST_CASE(test_unblock)
TEST_CASE(test_restart)
TEST_CASE(test_wait)

static void test_fault(void **state)
{
    (void)state;
    if (nr_kit_is_valgrind() || getenv("NARU_SANITIZED")) {
        print_message("SKIP: a checker of memory sees the fault first\n");
        skip();
    }
    assert_int_equal(child_run(test_fault_child, NULL), 0);
}

static void test_dispositions(void **state)
{
    (void)state;
    test_skip_under_tsan();
    int status = child_run(test_dispositions_child, NULL);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGUSR1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unblock), cmocka_unit_test(test_dispositions),
        cmocka_unit_test(test_restart), cmocka_unit_test(test_wait),
        cmocka_unit_test(test_fault),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
