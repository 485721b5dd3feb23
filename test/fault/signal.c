/* SPDX-License-Identifier: MIT */
/* signal -- signal://: values against the bare calls, and never a signal that kills */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include "interrupting.h"
#include "kit.h"
#include <errno.h>
#include <naru/endpoint.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static int test_number;
static sigset_t test_set;

static int test_setup(void **state)
{
    (void)state;
    alarm(50);
    test_number = SIGRTMIN + 1;
    sigemptyset(&test_set);
    sigaddset(&test_set, test_number);
    return pthread_sigmask(SIG_BLOCK, &test_set, NULL);
}

static struct naru_endpoint *test_sender(pid_t pid)
{
    struct naru_endpoint *endpoint = NULL;
    char uri[40];

    snprintf(uri, sizeof uri, "signal://%d", (int)pid);
    if (naru_open(&endpoint, uri, NARU_SENDER, NULL) < 0)
        fail_msg("%s", naru_error_text());
    return endpoint;
}

static struct naru_endpoint *test_receiver(void)
{
    struct naru_endpoint *endpoint = NULL;

    if (naru_open(&endpoint, "signal://self", NARU_RECEIVER, NULL) < 0)
        fail_msg("%s", naru_error_text());
    return endpoint;
}

static int test_try_sender(pid_t pid)
{
    struct naru_options options = {.size_bytes = sizeof options,
                                   .peer_timeout_ns = 30 * NARU_MILLISECOND};
    struct naru_endpoint *endpoint;
    char uri[40];

    snprintf(uri, sizeof uri, "signal://%d", (int)pid);
    int result = naru_open(&endpoint, uri, NARU_SENDER, &options);
    if (result == 0)
        naru_close(endpoint);
    return result;
}

static void test_interop(void **state)
{
    struct naru_endpoint *receiver = test_receiver(), *sender = test_sender(getpid());
    uint64_t value;
    struct naru_message message = {.data = &value, .capacity_bytes = sizeof value};
    siginfo_t information;
    size_t size;

    (void)state;
    for (uint64_t i = 0; i < 3; i++)
        assert_int_equal(
            sigqueue(getpid(), test_number,
                     (union sigval){.sival_ptr = (void *)(uintptr_t)(0xfedcba9876543210 + i)}),
            0);
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(naru_recv_many(receiver, &message, 1, i == 1 ? NARU_FOREVER : 0), 1);
        assert_int_equal(message.size_bytes, 8);
        assert_int_equal(value, 0xfedcba9876543210 + i);
        assert_int_equal(message.sender_pid, getpid());
        assert_int_equal(message.sender_uid, getuid());
        assert_true(message.known & NARU_KNOWS_SENDER_PID);
    }
    value = 0x8000000000000001;
    assert_int_equal(naru_send(sender, &value, sizeof value, NARU_FOREVER), 0);
    assert_int_equal(sigwaitinfo(&test_set, &information), test_number);
    assert_int_equal((uintptr_t)information.si_value.sival_ptr, value);
    assert_int_equal(information.si_code, SI_QUEUE);
    assert_int_equal(information.si_pid, getpid());

    assert_int_equal(kill(getpid(), test_number), 0); /* has no value, so it is no message */
    assert_int_equal(naru_recv(receiver, &value, sizeof value, NULL, 0), -EAGAIN);
    assert_int_equal(kill(getpid(), test_number), 0);
    value = 5;
    assert_int_equal(naru_send(sender, &value, sizeof value, 0), 0);
    value = 0;
    assert_int_equal(naru_recv(receiver, &value, sizeof value, NULL, NARU_FOREVER), 0);
    assert_int_equal(value, 5);

    assert_int_equal(naru_send(sender, &value, 7, 0), -EMSGSIZE);
    assert_text_has("exactly 8");
    assert_int_equal(naru_send(sender, NULL, 0, 0), -EMSGSIZE);
    assert_int_equal(naru_send(sender, &information, 9, 0), -EMSGSIZE);
    assert_int_equal(naru_send(sender, &value, sizeof value, 0), 0);
    assert_int_equal(naru_recv(receiver, &value, 4, &size, 0), -EMSGSIZE);
    assert_int_equal(size, 8);
    assert_int_equal(naru_recv(receiver, &value, sizeof value, &size, 0), 0);
    assert_int_equal(naru_unlink("signal://self"), -EOPNOTSUPP);
    naru_close(receiver);
    naru_close(sender);
}

static void test_opening(void **state)
{
    struct naru_options options = {.size_bytes = sizeof options, .signal_number = SIGUSR1};
    struct naru_endpoint *endpoint;
    char uri[40];

    (void)state;
    assert_int_equal(naru_open(&endpoint, "signal://self", NARU_RECEIVER, &options), -EINVAL);
    assert_text_has("real-time");
    snprintf(uri, sizeof uri, "signal://%d", (int)getppid());
    assert_int_equal(naru_open(&endpoint, uri, NARU_RECEIVER, NULL), -EINVAL);
    assert_int_equal(naru_open(&endpoint, "signal://me", NARU_SENDER, NULL), -EINVAL);
    assert_int_equal(naru_open(&endpoint, "signal://self", NARU_BOTH, NULL), -EOPNOTSUPP);
    options.signal_number = SIGRTMIN + 2; /* not blocked here */
    assert_int_equal(naru_open(&endpoint, "signal://self", NARU_RECEIVER, &options), -EPERM);
    assert_text_has("pthread_sigmask");
    options = (struct naru_options){.size_bytes = sizeof options, .message_size_max_bytes = 16};
    assert_int_equal(naru_open(&endpoint, "signal://self", NARU_RECEIVER, &options), -EINVAL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    waitpid(pid, NULL, 0);
    assert_int_equal(test_try_sender(pid), -ESRCH);
}

/* One thread that does not block the signal is enough to be refused. */

static pthread_barrier_t test_barrier;

static void *test_unblocked_thread(void *context)
{
    (void)context;
    pthread_sigmask(SIG_UNBLOCK, &test_set, NULL);
    pthread_barrier_wait(&test_barrier);
    pthread_barrier_wait(&test_barrier);
    return NULL;
}

static void test_skip_in_valgrind(void)
{
    if (nr_kit_is_valgrind()) {
        print_message("SKIP: what /proc tells of a process in valgrind is valgrind's own\n");
        skip();
    }
}

static void test_one_thread_unblocked(void **state)
{
    struct naru_endpoint *endpoint;
    pthread_t thread;

    (void)state;
    test_skip_in_valgrind();
    pthread_barrier_init(&test_barrier, NULL, 2);
    pthread_create(&thread, NULL, test_unblocked_thread, NULL);
    pthread_barrier_wait(&test_barrier);
    assert_int_equal(naru_open(&endpoint, "signal://self", NARU_RECEIVER, NULL), -EPERM);
    assert_int_equal(test_try_sender(getpid()), -ETIMEDOUT);
    assert_text_has("would kill it");
    pthread_barrier_wait(&test_barrier);
    pthread_join(thread, NULL);
    pthread_barrier_destroy(&test_barrier);
    naru_close(test_receiver());
}

/* Targets of each kind; they are told to end by SIGKILL, or by the signal itself if we were wrong. */

enum test_care { TEST_DEADLY, TEST_IGNORES, TEST_CATCHES, TEST_BLOCKS, TEST_AWAITS, TEST_CHANGES };

static void test_handler(int signal_number)
{
    (void)signal_number;
}

static void test_target_child(void *context)
{
    enum test_care care = *(enum test_care *)context;
    siginfo_t information;

    if (care == TEST_IGNORES)
        signal(test_number, SIG_IGN);
    if (care == TEST_CATCHES)
        signal(test_number, test_handler);
    if (care <= TEST_CATCHES)
        pthread_sigmask(SIG_UNBLOCK, &test_set, NULL);
    while (care == TEST_AWAITS)
        sigwaitinfo(&test_set, &information);
    if (care == TEST_CHANGES) {
        sleep_ms(100);
        while (sigtimedwait(&test_set, NULL, &(struct timespec){0}) > 0)
            ;
        pthread_sigmask(SIG_UNBLOCK, &test_set, NULL);
    }
    for (;;)
        pause();
}

static void test_refuses_to_kill(void **state)
{
    static const int expected[] = {-ETIMEDOUT, -ETIMEDOUT, 0, 0, 0};
    uint64_t value = 1;

    (void)state;
    test_skip_in_valgrind();
    for (enum test_care care = TEST_DEADLY; care <= TEST_AWAITS; care++) {
        pid_t pid = child_start(test_target_child, &care);
        sleep_ms(30);
        int result = test_try_sender(pid);
        if (result != expected[care])
            fail_msg("care %d: %d, %s", (int)care, result, naru_error_text());
        if (result == 0) {
            struct naru_endpoint *sender = test_sender(pid);
            for (int i = 0; i < 2000; i++)
                assert_int_equal(naru_send(sender, &value, sizeof value, NARU_FOREVER), 0);
            naru_close(sender);
        }
        kill(pid, SIGKILL);
        assert_int_equal(WTERMSIG(child_end(pid)), SIGKILL);
    }

    /* One that changes its mind after the open */
    enum test_care care = TEST_CHANGES;
    pid_t pid = child_start(test_target_child, &care);
    struct naru_endpoint *sender = test_sender(pid);
    assert_int_equal(naru_send(sender, &value, sizeof value, 0), 0);
    sleep_ms(200);
    assert_int_equal(naru_send(sender, &value, sizeof value, 0), -EPIPE);
    assert_text_has("would kill it");
    kill(pid, SIGKILL);
    assert_int_equal(WTERMSIG(child_end(pid)), SIGKILL);
    naru_close(sender);
}

static void test_dead_target(void **state)
{
    enum test_care care = TEST_BLOCKS;
    pid_t pid = child_start(test_target_child, &care);
    struct naru_endpoint *sender = test_sender(pid);
    uint64_t value = 1;

    (void)state;
    assert_int_equal(naru_send(sender, &value, sizeof value, 0), 0);
    kill(pid, SIGKILL);
    siginfo_t ended; /* a zombie is dead as well */
    assert_int_equal(waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOWAIT), 0);
    sleep_ms(30); /* the sender looks every 10 ms */
    assert_int_equal(naru_send(sender, &value, sizeof value, 0), -EOWNERDEAD);
    child_end(pid);
    assert_int_equal(naru_send(sender, &value, sizeof value, NARU_FOREVER), -EOWNERDEAD);
    naru_close(sender);
}

static void test_full_child(void *context)
{
    struct rlimit limit = {.rlim_cur = 50, .rlim_max = 50};
    uid_t own_user =
        61000 + (uid_t)getpid() % 4000; /* the limit counts all of a user's processes */

    if (getuid() == 0)
        child_check(setuid(own_user) == 0 && prctl(PR_SET_DUMPABLE, 1) == 0);
    struct naru_endpoint *sender = test_sender(getpid()), *receiver = test_receiver();
    uint64_t value, next = 0;
    int sent = 0, result;

    (void)context;
    child_check(setrlimit(RLIMIT_SIGPENDING, &limit) == 0);
    for (value = 0; (result = naru_send(sender, &value, sizeof value, 0)) == 0; value++)
        sent++;
    child_check(result == -EAGAIN && sent <= 50);
    child_check(strstr(naru_error_text(), "RLIMIT_SIGPENDING") && strstr(naru_error_text(), "50"));
    int64_t begin = clock_ms();
    child_check(naru_send(sender, &value, sizeof value, 50 * NARU_MILLISECOND) == -ETIMEDOUT);
    child_check(clock_ms() - begin >= 49);
    child_check(strstr(naru_error_text(), "ulimit -i"));
    for (; sent; sent--) {
        child_check(naru_recv(receiver, &value, sizeof value, NULL, 0) == 0);
        child_check(value == next++);
    }
    naru_close(sender);
    naru_close(receiver);
}

static void test_full(void **state)
{
    (void)state;
    assert_int_equal(child_run(test_full_child, NULL), 0);
}

static void test_permission_child(void *context)
{
    child_check(setgid(65534) == 0 && setuid(65534) == 0);
    child_check(test_try_sender(*(pid_t *)context) == -EPERM);
    child_check(strstr(naru_error_text(), "another user"));
}

static void test_permission(void **state)
{
    pid_t pid = getpid();

    (void)state;
    if (getuid() != 0) {
        print_message("SKIP: needs root to become another user\n");
        skip();
    }
    assert_int_equal(child_run(test_permission_child, &pid), 0);
}

static void test_interrupt_child(void *context)
{
    struct naru_endpoint *receiver = test_receiver();
    struct sigaction action = {.sa_handler = test_on_alarm, .sa_flags = SA_RESTART};
    pthread_t thread;
    uint64_t value;

    (void)context;
    test_interrupted = receiver;
    sigaction(SIGALRM, &action, NULL);
    ualarm(50000, 0);
    child_check(naru_recv(receiver, &value, sizeof value, NULL, NARU_FOREVER) == -EINTR);
    ualarm(50000, 0);
    child_check(naru_recv(receiver, &value, sizeof value, NULL, 10 * NARU_SECOND) == -EINTR);
    pthread_create(&thread, NULL, test_interrupt_later, receiver);
    child_check(naru_recv(receiver, &value, sizeof value, NULL, NARU_FOREVER) == -EINTR);
    pthread_join(thread, NULL);
    int64_t begin = clock_ms();
    child_check(naru_recv(receiver, &value, sizeof value, NULL, 50 * NARU_MILLISECOND) ==
                -ETIMEDOUT);
    child_check(clock_ms() - begin >= 49);
    naru_close(receiver);
}

static void test_interrupt(void **state)
{
    (void)state;
    assert_int_equal(child_run(test_interrupt_child, NULL), 0);
}

static void test_descriptor(void **state)
{
    struct naru_endpoint *receiver = test_receiver(), *sender = test_sender(getpid());
    struct pollfd fd = {.fd = naru_fd(receiver), .events = POLLIN};
    uint64_t value = 9;

    (void)state;
    assert_int_equal(poll(&fd, 1, 0), 0);
    assert_int_equal(naru_send(sender, &value, sizeof value, 0), 0);
    assert_int_equal(poll(&fd, 1, 0), 1);
    assert_int_equal(naru_recv(receiver, &value, sizeof value, NULL, 0), 0);
    assert_int_equal(poll(&fd, 1, 0), 0);
    assert_int_equal(naru_send_fd(sender), -EOPNOTSUPP);
    naru_close(receiver);
    naru_close(sender);
}

/* Load: the sender's number in the top byte, the count below */

enum { TEST_LOAD_EACH = 5000 };

struct test_load {
    pid_t parent;
    uint64_t sender;
    struct naru_endpoint *receiver; /* the parent's */
};

static void test_load_child(void *context)
{
    const struct test_load *load = context;
    struct naru_endpoint *sender = test_sender(load->parent);

    naru_close(load->receiver);
    for (uint64_t count = 0; count < TEST_LOAD_EACH || load->sender == 2; count++) {
        uint64_t value = load->sender << 56 | count;
        child_check(naru_send(sender, &value, sizeof value, NARU_FOREVER) == 0);
    }
    naru_close(sender);
}

static void test_load_and_kill(void **state)
{
    struct naru_endpoint *receiver = test_receiver();
    uint64_t next[3] = {0}, value;
    pid_t pids[3];

    (void)state;
    for (uint64_t i = 0; i < 3; i++)
        pids[i] = child_start(test_load_child, &(struct test_load){getpid(), i, receiver});
    while (next[0] + next[1] < 2 * TEST_LOAD_EACH) {
        assert_int_equal(naru_recv(receiver, &value, sizeof value, NULL,
                                   next[0] % 2 ? 5 * NARU_SECOND : NARU_FOREVER),
                         0);
        assert_in_range(value >> 56, 0, 2);
        assert_int_equal(value & 0xffffffffffffff, next[value >> 56]++);
        if (next[2] == 1000)
            kill(pids[2], SIGKILL);
    }
    kill(pids[2], SIGKILL);
    assert_int_equal(child_end(pids[0]), 0);
    assert_int_equal(child_end(pids[1]), 0);
    assert_int_equal(WTERMSIG(child_end(pids[2])), SIGKILL);
    while (naru_recv(receiver, &value, sizeof value, NULL, 0) == 0)
        assert_int_equal(value & 0xffffffffffffff, next[2]++);
    naru_close(receiver);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_interop, test_setup),
        cmocka_unit_test_setup(test_opening, test_setup),
        cmocka_unit_test_setup(test_interrupt, test_setup),
        cmocka_unit_test_setup(test_one_thread_unblocked, test_setup),
        cmocka_unit_test_setup(test_refuses_to_kill, test_setup),
        cmocka_unit_test_setup(test_dead_target, test_setup),
        cmocka_unit_test_setup(test_full, test_setup),
        cmocka_unit_test_setup(test_permission, test_setup),
        cmocka_unit_test_setup(test_descriptor, test_setup),
        cmocka_unit_test_setup(test_load_and_kill, test_setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
