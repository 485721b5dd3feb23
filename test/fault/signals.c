/* SPDX-License-Identifier: MIT */
/*
 * signals -- naru/signal.h with others: receivers and threads, targets that die or whose pid another one gets, full
 *            queues, no permission, refused system calls, and what /proc tells of all this
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include "kit.h"
#include <errno.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <naru/signal.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define TEST_BIT(number) NARU_SIGNAL_BIT(number)

enum { TEST_CANNOT = 77 };

static struct naru_signal_target *test_target(pid_t pid)
{
    struct naru_signal_target *target = NULL;

    if (naru_signal_target_open(&target, pid) < 0)
        fprintf(stderr, "# %s\n", naru_error_text());
    child_check(target);
    return target;
}

static void test_eventually(bool (*holds)(void *context), void *context)
{
    while (!holds(context)) /* bounded by the alarm of child_start() */
        sleep_ms(1);
}

static void test_skip_in_valgrind(void)
{
    if (nr_kit_is_valgrind()) {
        print_message("SKIP: what /proc tells of a process in valgrind is valgrind's own\n");
        skip();
    }
}

static void test_skip_under_tsan(void)
{
    const char *sanitizer = getenv("NARU_SANITIZED");

    if (sanitizer && strstr(sanitizer, "thread")) {
        print_message("SKIP: the thread sanitizer has a thread of its own\n");
        skip();
    }
}

static void test_run(void (*run)(void *context), const char *why_not)
{
    int status = child_run(run, NULL);

    if (status == TEST_CANNOT << 8) {
        print_message("SKIP: %s\n", why_not);
        skip();
    }
    assert_int_equal(status, 0);
}

/* -- receivers ------------------------------------------------------------------------------ */

static struct naru_signal_receiver *test_receiver;

static void test_on_alarm(const struct naru_signal *signal)
{
    (void)signal;
    naru_signal_interrupt(test_receiver);
}

static void *test_interrupt_later(void *context)
{
    (void)context;
    sleep_ms(30);
    naru_signal_interrupt(test_receiver);
    return NULL;
}

static void *test_receive_forever(void *context)
{
    *(int *)context = naru_signal_recv(test_receiver, NULL, NARU_FOREVER);
    return NULL;
}

static void test_receiver_child(void *context)
{
    const uint64_t set = TEST_BIT(SIGUSR1) | TEST_BIT(SIGRTMIN + 5);
    struct naru_signal_target *self = test_target(getpid());
    struct naru_signal signal;
    int results[2];
    pthread_t threads[2];

    (void)context;
    child_check(naru_signal_receiver_open(&test_receiver, set) == -EPERM);
    child_check(strstr(naru_error_text(), "does not block"));
    child_check(naru_signal_receiver_open(&test_receiver, 0) == -EINVAL);
    child_check(naru_signal_receiver_open(&test_receiver, TEST_BIT(SIGSTOP)) == -EINVAL);
    child_check(naru_signal_receiver_open(NULL, set) == -EINVAL);
    child_check(naru_signal_block(set, NULL) == 0);
    child_check(naru_signal_receiver_open(&test_receiver, set) == 0);
    child_check(naru_signal_interrupt(test_receiver) ==
                0); /* before there is a descriptor for it */
    child_check(naru_signal_recv(test_receiver, &signal, 10 * NARU_SECOND) == -EINTR);

    struct pollfd fd = {.fd = naru_signal_fd(test_receiver), .events = POLLIN};
    child_check(fd.fd >= 0 && poll(&fd, 1, 0) == 0);
    child_check(naru_signal_recv(test_receiver, &signal, 0) == -EAGAIN);
    int64_t begin = clock_ms();
    child_check(naru_signal_recv(test_receiver, &signal, 30 * NARU_MILLISECOND) == -ETIMEDOUT);
    child_check(clock_ms() - begin >= 29);
    for (uint64_t value = 0; value < 3; value++)
        child_check(naru_signal_send_value(self, SIGRTMIN + 5, value) == 0);
    child_check(naru_signal_send(self, SIGUSR1) == 0);
    child_check(poll(&fd, 1, -1) == 1);
    child_check(naru_signal_recv(test_receiver, &signal, 0) == SIGUSR1);
    for (uint64_t value = 0; value < 3; value++) {
        child_check(poll(&fd, 1, -1) == 1);
        child_check(naru_signal_recv(test_receiver, &signal, NARU_FOREVER) == SIGRTMIN + 5);
        child_check(signal.value == value && signal.code == SI_QUEUE);
    }
    child_check(poll(&fd, 1, 0) == 0);

    /* Interrupts: from a handler, beforehand, from another thread */
    child_check(naru_signal_handle(TEST_BIT(SIGALRM), test_on_alarm) == 0);
    ualarm(30000, 0);
    child_check(naru_signal_recv(test_receiver, &signal, NARU_FOREVER) == -EINTR);
    child_check(strstr(naru_error_text(), "naru_signal_interrupt"));
    child_check(naru_signal_interrupt(test_receiver) == 0);
    child_check(naru_signal_recv(test_receiver, &signal, 10 * NARU_SECOND) == -EINTR);
    child_check(naru_signal_recv(test_receiver, &signal, 10 * NARU_MILLISECOND) == -ETIMEDOUT);
    pthread_create(&threads[0], NULL, test_interrupt_later, NULL);
    child_check(naru_signal_recv(test_receiver, &signal, NARU_FOREVER) == -EINTR);
    pthread_join(threads[0], NULL);

    /* Two threads wait, two signals come: each gets one */
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, test_receive_forever, &results[i]);
    for (uint64_t value = 0; value < 2; value++)
        child_check(naru_signal_send_value(self, SIGRTMIN + 5, value) == 0);
    for (int i = 0; i < 2; i++)
        child_check(pthread_join(threads[i], NULL) == 0 && results[i] == SIGRTMIN + 5);

    pid_t pid = fork();
    if (pid == 0) {
        child_check(naru_signal_recv(test_receiver, &signal, 0) == -ECHILD);
        child_check(naru_signal_fd(test_receiver) == -ECHILD);
        child_check(naru_signal_interrupt(test_receiver) == -ECHILD);
        naru_signal_receiver_close(test_receiver);
        naru_signal_target_close(self);
        child_check(naru_signal_receiver_open(&test_receiver, set) == 0);
        child_check(naru_signal_recv(test_receiver, &signal, 10 * NARU_SECOND) == SIGUSR1);
        child_check(signal.sender_pid == getppid());
        naru_signal_receiver_close(test_receiver);
        _exit(0);
    }
    struct naru_signal_target *child = test_target(pid);
    child_check(naru_signal_send(child, SIGUSR1) == 0);
    child_check(child_end(pid) == 0);
    child_check(naru_signal_recv(test_receiver, &signal, 0) == -EAGAIN);
    naru_signal_receiver_close(test_receiver);
    naru_signal_receiver_close(NULL);
    child_check(naru_signal_recv(NULL, &signal, 0) == -EINVAL);
    naru_signal_target_close(child);
    naru_signal_target_close(self);
}

static void test_receivers(void **state)
{
    (void)state;
    test_run(test_receiver_child, "");
}

/* -- many threads, looked at ---------------------------------------------------------------- */

static struct {
    pthread_barrier_t barrier;
    uint64_t waits_for;
    pid_t ids[4];
} test_threads;

static void *test_thread(void *context)
{
    int index = *(int *)context;
    char name[16];

    snprintf(name, sizeof name, "thread %d", index);
    pthread_setname_np(pthread_self(), name);
    test_threads.ids[index] = gettid();
    naru_signal_block(TEST_BIT(SIGRTMIN + index), NULL);
    if (index == 1)
        pthread_kill(pthread_self(), SIGRTMIN + 1);
    pthread_barrier_wait(&test_threads.barrier);
    if (index == 3)
        naru_signal_wait(TEST_BIT(SIGRTMIN + 3), NULL, NARU_FOREVER);
    for (;;)
        pause();
    return NULL;
}

static void test_ignore(const struct naru_signal *signal)
{
    (void)signal;
}

/* Answers through its pipe with its thread ids when all stands. */
static void test_looked_at_child(void *context)
{
    static int indexes[4] = {0, 1, 2, 3};
    pthread_t thread;
    int end = *(int *)context;

    pthread_barrier_init(&test_threads.barrier, NULL, 4);
    prctl(PR_SET_NAME, "a\nb\\c )");
    test_threads.ids[0] = gettid();
    child_check(naru_signal_block(TEST_BIT(SIGUSR2) | TEST_BIT(SIGINT), NULL) == 0);
    child_check(naru_signal_handle(TEST_BIT(SIGUSR1), test_ignore) == 0);
    child_check(naru_signal_ignore(TEST_BIT(SIGHUP)) == 0);
    child_check(kill(getpid(), SIGUSR2) == 0);
    if (getuid() == 0) { /* a line in front of what is looked for that fits no buffer */
        gid_t groups[4000];
        for (unsigned i = 0; i < 4000; i++)
            groups[i] = 1000000000 + i;
        child_check(setgroups(4000, groups) == 0);
    }
    for (int i = 1; i < 4; i++)
        child_check(pthread_create(&thread, NULL, test_thread, &indexes[i]) == 0);
    pthread_barrier_wait(&test_threads.barrier);
    child_check(write(end, test_threads.ids, sizeof test_threads.ids) ==
                (ssize_t)sizeof test_threads.ids);
    for (;;)
        pause();
}

static bool test_is_awaiting(void *context)
{
    struct naru_signal_thread threads[4];

    child_check(naru_signal_look_threads(*(pid_t *)context, threads, 4) == 4);
    return threads[3].is_awaiting;
}

static void test_looker_child(void *context)
{
    const uint64_t common = TEST_BIT(SIGUSR2) | TEST_BIT(SIGINT);
    struct naru_signal_thread threads[4], two[2];
    struct naru_signal_state state;
    int ends[2];
    pid_t ids[4];

    (void)context;
    child_check(pipe(ends) == 0);
    pid_t pid = child_start(test_looked_at_child, &ends[1]);
    child_check(read(ends[0], ids, sizeof ids) == (ssize_t)sizeof ids);
    child_check(naru_signal_look(pid, &state) == 0);
    child_check(state.pid == pid && state.threads_count == 4);
    child_check(strcmp(state.name, "a\nb\\c )") == 0);
    child_check(state.pending == TEST_BIT(SIGUSR2));
    child_check(state.ignored & TEST_BIT(SIGHUP) && !(state.ignored & TEST_BIT(SIGUSR1)));
    child_check(state.caught & TEST_BIT(SIGUSR1) && !(state.caught & TEST_BIT(SIGHUP)));
    child_check(state.queued >= 2 && state.queued <= state.queued_max);
    test_eventually(test_is_awaiting, &pid);
    child_check(naru_signal_look_threads(pid, NULL, 0) == 4);
    child_check(naru_signal_look_threads(pid, two, 2) == 4);
    child_check(naru_signal_look_threads(pid, threads, 4) == 4);
    child_check(two[1].thread_id == threads[1].thread_id);
    for (int i = 0; i < 4; i++) {
        char name[16];
        snprintf(name, sizeof name, "thread %d", i);
        child_check(threads[i].thread_id == ids[i]);
        child_check(i == 0 || strcmp(threads[i].name, name) == 0);
        child_check(threads[i].pending == (i == 1 ? TEST_BIT(SIGRTMIN + 1) : 0));
        child_check((threads[i].blocked & common) == common);
        child_check(!!(threads[i].blocked & TEST_BIT(SIGRTMIN + 2)) == (i == 2));
        child_check(threads[i].is_awaiting == (i == 3));
        child_check(!(threads[i].blocked & TEST_BIT(SIGRTMIN + 3)));
    }
    child_check(naru_signal_look(ids[2], &state) == -ESRCH); /* a thread is no process */
    child_check(naru_signal_look_threads(ids[2], threads, 4) == -ESRCH);
    child_check(naru_signal_look(0, &state) == -EINVAL);
    child_check(naru_signal_look(-pid, &state) == -EINVAL);
    child_check(naru_signal_look(pid, NULL) == -EINVAL);
    struct naru_signal_target *none = NULL;
    child_check(naru_signal_target_open(&none, ids[2]) == -ESRCH && !none);

    /* A zombie still has a place in /proc; then it has none */
    siginfo_t ended;
    struct naru_signal_target *target = test_target(pid);
    child_check(naru_signal_send(target, SIGKILL) == 0);
    child_check(waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOWAIT) == 0);
    child_check(naru_signal_look(pid, &state) == 0 && state.run_state == 'Z');
    child_check(naru_signal_send(target, SIGTERM) == -ESRCH);
    child_check(naru_signal_send(target, 0) == -ESRCH);
    child_check(WTERMSIG(child_end(pid)) == SIGKILL);
    child_check(naru_signal_look(pid, &state) == -ESRCH);
    child_check(strstr(naru_error_text(), "no process"));
    child_check(naru_signal_send(target, SIGTERM) == -ESRCH);
    child_check(strstr(naru_error_text(), "nothing was sent"));
    child_check(naru_signal_target_open(&none, pid) == -ESRCH && !none);
    naru_signal_target_close(target);
}

static void test_looks(void **state)
{
    (void)state;
    test_skip_in_valgrind();
    test_skip_under_tsan();
    test_run(test_looker_child, "");
}

/* -- a later process with the same number ---------------------------------------------------- */

static void test_sleeper(void *context)
{
    (void)context;
    for (;;)
        pause();
}

static pid_t test_fork_as(pid_t wanted)
{
    FILE *last = fopen("/proc/sys/kernel/ns_last_pid", "w");

    if (!last || fprintf(last, "%d", (int)wanted - 1) < 0 || fclose(last) != 0)
        _exit(TEST_CANNOT);
    return child_start(test_sleeper, NULL);
}

static void test_refuse_pidfds(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_open, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_send_signal, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        _exit(TEST_CANNOT);
}

static void test_reuse(bool without_pidfds)
{
    pid_t pid = fork(); /* the first process of the new namespace */

    child_check(pid >= 0);
    if (pid > 0)
        _exit(WEXITSTATUS(child_end(pid)));
    if (mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("proc", "/proc", "proc", 0, NULL) < 0)
        _exit(TEST_CANNOT);
    if (without_pidfds) {
        struct naru_signal_target *none = NULL;
        pthread_t thread;
        int index = 2;
        test_refuse_pidfds();
        pthread_barrier_init(&test_threads.barrier, NULL, 2);
        child_check(pthread_create(&thread, NULL, test_thread, &index) == 0);
        pthread_barrier_wait(&test_threads.barrier);
        child_check(naru_signal_target_open(&none, test_threads.ids[2]) == -ESRCH && !none);
    }
    pid_t first = test_fork_as(300);
    child_check(first == 300);
    struct naru_signal_target *target = test_target(first);
    child_check(naru_signal_send(target, 0) == 0);
    child_check(kill(first, SIGKILL) == 0 && WTERMSIG(child_end(first)) == SIGKILL);
    sleep_ms(30); /* start times are told in steps of 10 ms */
    child_check(test_fork_as(300) == 300);
    child_check(kill(300, 0) == 0);
    child_check(naru_signal_send(target, SIGKILL) == -ESRCH);
    child_check(naru_signal_send_value(target, SIGRTMIN + 1, 1) == -ESRCH);
    sleep_ms(20);
    child_check(waitpid(300, NULL, WNOHANG) == 0); /* it lives */
    naru_signal_target_close(target);
    target = test_target(300);
    child_check(naru_signal_send(target, SIGTERM) == 0);
    child_check(WTERMSIG(child_end(300)) == SIGTERM);
    naru_signal_target_close(target);
}

static void test_reuse_child(void *context)
{
    if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0)
        _exit(TEST_CANNOT);
    test_reuse(false);
    (void)context;
}

static void test_reuse_refused_child(void *context)
{
    if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0)
        _exit(TEST_CANNOT);
    test_reuse(true);
    (void)context;
}

static void test_reused_pid(void **state)
{
    (void)state;
    test_run(test_reuse_child, "needs a PID namespace, and to say what the next pid is");
}

static void test_reused_pid_without_pidfds(void **state)
{
    (void)state;
    test_run(test_reuse_refused_child, "needs a PID namespace, and to say what the next pid is");
}

/* -- full, and not allowed ------------------------------------------------------------------- */

static void test_full_child(void *context)
{
    struct rlimit limit = {.rlim_cur = 20, .rlim_max = 20};
    const uint64_t set = TEST_BIT(SIGRTMIN + 1) | TEST_BIT(SIGUSR1);
    struct naru_signal signal;
    uint64_t value = 0;

    (void)context;
    if (getuid() == 0) /* the limit counts all of a user's processes */
        child_check(setuid(61000 + (uid_t)getpid() % 4000) == 0 && prctl(PR_SET_DUMPABLE, 1) == 0);
    struct naru_signal_target *self = test_target(getpid());
    child_check(setrlimit(RLIMIT_SIGPENDING, &limit) == 0);
    child_check(naru_signal_block(set, NULL) == 0);
    while (naru_signal_send_value(self, SIGRTMIN + 1, value) == 0)
        value++;
    child_check(value <= 20 && naru_signal_send_value(self, SIGRTMIN + 1, 99) == -EAGAIN);
    child_check(strstr(naru_error_text(), "RLIMIT_SIGPENDING"));
    child_check(strstr(naru_error_text(), "(20)"));
    child_check(naru_signal_send(self, SIGUSR1) == 0);
    child_check(naru_signal_wait(set, &signal, 0) == SIGUSR1);
    child_check(signal.known == NARU_SIGNAL_KNOWS_SENDER && signal.sender_pid == getpid());
    child_check(naru_signal_send_value(self, SIGUSR1, 7) == 0); /* comes, without its value */
    child_check(naru_signal_wait(set, &signal, 0) == SIGUSR1 && signal.known == 0);
    for (uint64_t i = 0; i < value; i++)
        child_check(naru_signal_wait(set, &signal, 0) == SIGRTMIN + 1 && signal.value == i);
    child_check(naru_signal_wait(set, &signal, 0) == -EAGAIN);
    child_check(naru_signal_send_value(self, SIGRTMIN + 1, 5) == 0);
    child_check(naru_signal_wait(set, &signal, 0) > 0 && signal.value == 5);
    naru_signal_target_close(self);
}

static void test_full(void **state)
{
    (void)state;
    test_run(test_full_child, "");
}

static void test_permission_child(void *context)
{
    struct naru_signal_state state;
    pid_t pid = getppid();

    (void)context;
    if (getuid() != 0)
        _exit(TEST_CANNOT);
    child_check(setgid(65534) == 0 && setuid(65534) == 0);
    struct naru_signal_target *target = test_target(pid);
    child_check(naru_signal_send(target, SIGTERM) == -EPERM);
    child_check(strstr(naru_error_text(), "belongs to another user"));
    child_check(naru_signal_send_value(target, SIGRTMIN + 1, 1) == -EPERM);
    child_check(naru_signal_send(target, 0) == -EPERM);
    child_check(naru_signal_send(target, 65) == -EINVAL);
    child_check(naru_signal_send(target, -1) == -EINVAL);
    child_check(naru_signal_send(NULL, SIGTERM) == -EINVAL);
    child_check(naru_signal_look(pid, &state) == 0 && state.pid == pid); /* looking is allowed */
    naru_signal_target_close(target);
    naru_signal_target_close(NULL);
    child_check(naru_signal_target_open(NULL, pid) == -EINVAL);
    child_check(naru_signal_target_open(&target, 0) == -EINVAL);
    child_check(naru_signal_target_open(&target, -pid) == -EINVAL);
    child_check(strstr(naru_error_text(), "groups"));
}

static void test_permission(void **state)
{
    (void)state;
    test_run(test_permission_child, "needs root to become another user");
}

/* Descriptors run out: told, and nothing leaks. */
static void test_descriptors_child(void *context)
{
    struct rlimit limit = {.rlim_cur = 3, .rlim_max = 3};
    struct naru_signal_receiver *receiver = NULL;
    struct naru_signal_target *target = NULL;

    (void)context;
    child_check(naru_signal_block(TEST_BIT(SIGUSR1), NULL) == 0);
    for (int fd = 3; fd < 64; fd++)
        close(fd);
    child_check(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    child_check(naru_signal_target_open(&target, getpid()) == -EMFILE && !target);
    child_check(strstr(naru_error_text(), "ulimit -n"));
    child_check(naru_signal_receiver_open(&receiver, TEST_BIT(SIGUSR1)) == -EMFILE && !receiver);
}

static void test_descriptors(void **state)
{
    (void)state;
    test_skip_in_valgrind(); /* it refuses pidfds, so that a target needs no descriptor */
    test_run(test_descriptors_child, "");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_receivers),   cmocka_unit_test(test_looks),
        cmocka_unit_test(test_reused_pid),  cmocka_unit_test(test_reused_pid_without_pidfds),
        cmocka_unit_test(test_full),        cmocka_unit_test(test_permission),
        cmocka_unit_test(test_descriptors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
