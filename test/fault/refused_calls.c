/* SPDX-License-Identifier: MIT */
/*
 * refused_calls -- where a sandbox, valgrind or an older kernel refuses newer system calls, everything goes on
 *
 * What       A seccomp filter answers ENOSYS, or EPERM, to the calls that Naru has a substitute for; then each
 *            technique must carry messages between two processes, notice a death and wake whoever waits.
 * Bounds     Each case runs in a process group of its own, which is killed at its limit: that is "it hung".
 */
#include "kit.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <naru/sync.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROUNDS = 3, KILLS = 40, CASE_SECONDS = 12 };

/* A death, or what the dead has left, must be noticed within this. */
#define NOTICED (2 * NARU_SECOND * nr_kit_slowness())

struct refusal {
    int error;
    bool also_io; /* preadv2, pwritev2, inotify as well */
};

static struct refusal now; /* what the running case is about; inherited by its processes */

/* -- the filter ---------------------------------------------------------------------------- */

static void refuse(const struct refusal *refusal)
{
    static const int calls[] = {
        SYS_pidfd_open,     SYS_pidfd_send_signal, 449 /* futex_waitv */,
        SYS_io_uring_setup, SYS_io_uring_enter,    SYS_io_uring_register,
        SYS_preadv2,        SYS_pwritev2,          SYS_inotify_init1,
    };
    enum { CALLS = sizeof calls / sizeof calls[0], IO_CALLS = 3 };
    unsigned count = refusal->also_io ? CALLS : CALLS - IO_CALLS;
    struct sock_filter code[1 + 2 * CALLS + 1] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    };
    unsigned short length = 1;

    for (unsigned i = 0; i < count; i++) {
        code[length++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i], 0, 1);
        code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
                                                      SECCOMP_RET_ERRNO | (unsigned)refusal->error);
    }
    code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = length, .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        nr_kit_skip("no seccomp filter can be installed here");
    for (unsigned i = 0; i < count; i++)
        nr_check(syscall(calls[i], -1, 0, 0, 0, 0, 0) < 0 &&
                     (errno == refusal->error || nr_kit_is_valgrind()),
                 "call %d is not refused: %s", calls[i], strerror(errno));
}

/* -- pairs --------------------------------------------------------------------------------- */

/* The child answers, and then is killed or closes. */
static void answer(struct naru_endpoint *ends[2])
{
    char text[64];
    size_t size_bytes;

    nr_check_ok(naru_pair_assign(ends[1], getpid()));
    nr_check_ok(naru_recv(ends[1], text, sizeof text, &size_bytes, NARU_FOREVER));
    nr_check_ok(naru_send(ends[1], text, size_bytes, NARU_FOREVER));
    nr_check_ok(naru_recv(ends[1], text, sizeof text, &size_bytes, NARU_FOREVER));
    if (strncmp(text, "die", size_bytes) == 0)
        kill(getpid(), SIGKILL);
    naru_close(ends[1]);
    naru_close(ends[0]);
}

static void greet(const char *uri, const char *last_words, int expected)
{
    struct naru_endpoint *ends[2];
    char text[64] = "";
    size_t size_bytes;

    nr_check_ok(naru_pair(ends, uri, NULL));
    pid_t child = nr_kit_fork();
    if (child == 0) {
        answer(ends);
        _exit(0);
    }
    nr_check_ok(naru_pair_assign(ends[1], child));
    naru_close(ends[1]);
    nr_check_ok(naru_send(ends[0], "hello", 5, NARU_FOREVER));
    nr_check_ok(naru_recv(ends[0], text, sizeof text, &size_bytes, NARU_FOREVER));
    nr_check(size_bytes == 5 && memcmp(text, "hello", 5) == 0, "came: %s", text);
    nr_check_ok(naru_fd(ends[0]));
    nr_check_fails(naru_recv(ends[0], text, sizeof text, &size_bytes, 0), -EAGAIN, "");
    nr_check_ok(naru_send(ends[0], last_words, strlen(last_words), NARU_FOREVER));
    int64_t begin_ns = nr_kit_now_ns();
    nr_check_fails(naru_recv(ends[0], text, sizeof text, &size_bytes, NARU_FOREVER), expected, "");
    nr_check(nr_kit_now_ns() - begin_ns < NOTICED, "noticed after %d ms",
             (int)((nr_kit_now_ns() - begin_ns) / 1000000));
    if (expected == -EOWNERDEAD)
        nr_kit_kill(child);
    else
        nr_kit_join(child);
    naru_close(ends[0]);
}

static void run_pairs(void)
{
    static const char *const uris[] = {"pipe://", "unix://", "mq://", "shm://"};

    for (size_t i = 0; i < sizeof uris / sizeof uris[0]; i++) {
        greet(uris[i], "bye", -EPIPE);
        greet(uris[i], "die", -EOWNERDEAD);
    }
}

/* A pid that nobody has is still refused. */
static void run_nobody(void)
{
    struct naru_endpoint *ends[2];
    pid_t child = nr_kit_fork();

    if (child == 0)
        _exit(0);
    nr_kit_join(child);
    nr_check_ok(naru_pair(ends, "pipe://", NULL));
    nr_check_fails(naru_pair_assign(ends[1], child), -ESRCH, "can't watch");
    naru_close(ends[0]);
    naru_close(ends[1]);
}

/* -- named channels ------------------------------------------------------------------------ */

static const char *name_of(const char *scheme)
{
    static char uri[128];

    if (strcmp(scheme, "fifo") == 0 || strcmp(scheme, "file") == 0 || strcmp(scheme, "unix") == 0)
        snprintf(uri, sizeof uri, "%s://%s/%s-%d", scheme, nr_kit_directory(), scheme,
                 (int)getpid());
    else if (strcmp(scheme, "sysv") == 0)
        snprintf(uri, sizeof uri, "sysv://%d", 0x6e300000 + getpid());
    else if (strcmp(scheme, "tcp") == 0)
        snprintf(uri, sizeof uri, "tcp://127.0.0.1:%d", 20000 + getpid() % 12000);
    else
        snprintf(uri, sizeof uri, "%s://naru-refused-%d", scheme, (int)getpid());
    return uri;
}

/* Sends each message when it is asked for, the last one with a kill behind it. */
static void send_when_asked(const char *uri, const int *asked)
{
    struct naru_endpoint *sender;

    nr_check_ok(naru_open(&sender, uri, NARU_SENDER, NULL));
    for (int i = 1; i <= ROUNDS; i++) {
        nr_kit_await(asked, i);
        nr_kit_sleep_ms(20); /* so that the other one sleeps */
        nr_check_ok(naru_send(sender, &i, sizeof i, NARU_FOREVER));
    }
    kill(getpid(), SIGKILL);
}

/* Waits by descriptor, as a level-triggered loop does; false where there is none, for a good reason. */
static bool await_readable(struct naru_endpoint *receiver, int *value, size_t *size_bytes)
{
    int fd = naru_fd(receiver);

    if (fd == -EOPNOTSUPP && now.also_io) {
        nr_check(strstr(naru_error_text(), "inotify is refused"), "%s", naru_error_text());
        return false;
    }
    nr_check_ok(fd);
    for (;;) {
        int result = naru_recv(receiver, value, sizeof *value, size_bytes, 0);
        if (result == 0)
            return true;
        nr_check_fails(result, -EAGAIN, "");
        struct pollfd one = {.fd = fd, .events = POLLIN};
        nr_check(poll(&one, 1, (int)(NR_SOON / 1000000)) == 1, "the descriptor is silent");
    }
}

static void cross(const char *scheme)
{
    const char *uri = name_of(scheme);
    int *asked = nr_kit_shared(sizeof *asked), value = 0;
    struct naru_endpoint *receiver;
    size_t size_bytes;

    nr_check_ok(naru_open(&receiver, uri, NARU_RECEIVER, NULL));
    pid_t child = nr_kit_fork();
    if (child == 0) {
        send_when_asked(uri, asked);
        _exit(1);
    }
    for (int i = 1; i <= ROUNDS; i++) {
        nr_kit_add(asked, 1);
        if (i != 2 || !await_readable(receiver, &value, &size_bytes))
            nr_check_ok(naru_recv(receiver, &value, sizeof value, &size_bytes, NARU_FOREVER));
        nr_check(size_bytes == sizeof value && value == i, "%s: %d came, not %d", uri, value, i);
    }
    nr_kit_kill(child);
    naru_close(receiver);
    if (strcmp(scheme, "tcp") != 0 && strcmp(scheme, "abstract") != 0)
        naru_unlink(uri);
}

static void run_named(void)
{
    static const char *const schemes[] = {"shm",  "file", "fifo",     "mq",
                                          "sysv", "unix", "abstract", "tcp"};

    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
        cross(schemes[i]);
    nr_kit_directory_remove();
}

/* A FIFO's sender waits for its receiver. */
static void run_fifo_waits(void)
{
    struct naru_endpoint *receiver;
    const char *uri = name_of("fifo");
    int value = 0;
    size_t size_bytes;
    pid_t child = nr_kit_fork();

    if (child == 0) {
        struct naru_endpoint *sender;
        nr_check_ok(naru_open(&sender, uri, NARU_SENDER, NULL));
        nr_check_ok(naru_send(sender, &(int){7}, sizeof(int), NARU_FOREVER));
        naru_close(sender);
        _exit(0);
    }
    nr_kit_sleep_ms(50);
    nr_check_ok(naru_open(&receiver, uri, NARU_RECEIVER, NULL));
    nr_check_ok(naru_recv(receiver, &value, sizeof value, &size_bytes, NARU_FOREVER));
    nr_check(value == 7, "%d", value);
    nr_kit_join(child);
    naru_close(receiver);
    nr_kit_directory_remove();
}

/* Senders that are killed anywhere. What they have sent comes, in order, and the next one gets through. */
static void kill_senders(const char *scheme)
{
    const char *uri = name_of(scheme);
    struct naru_endpoint *receiver;
    struct naru_stat stat = {.size_bytes = sizeof stat};
    int value[2], last, marker[2] = {-1, 0};
    size_t size_bytes;

    nr_check_ok(naru_open(&receiver, uri, NARU_BOTH, NULL));
    for (int i = 0; i < KILLS; i++) {
        pid_t child = nr_kit_fork();
        if (child == 0) {
            struct naru_endpoint *sender;
            nr_check_ok(naru_open(&sender, uri, NARU_SENDER, NULL));
            for (int j = 1;; j++)
                nr_check_ok(naru_send(sender, (int[2]){i, j}, sizeof value, NARU_FOREVER));
        }
        for (last = 0; last < 50 + i; last++) {
            nr_check_ok(naru_recv(receiver, value, sizeof value, &size_bytes, NARU_FOREVER));
            nr_check(value[0] == i && value[1] == last + 1, "%d of %d, not %d of %d", value[1],
                     value[0], last + 1, i);
        }
        nr_kit_kill(child);
        int64_t begin_ns = nr_kit_now_ns();
        for (; naru_recv(receiver, value, sizeof value, &size_bytes, 0) == 0; last++)
            nr_check(value[0] == i && value[1] == last + 1, "%d of %d, not %d of %d", value[1],
                     value[0], last + 1, i);
        marker[1] = i;
        nr_check_ok(naru_send(receiver, marker, sizeof marker, NOTICED));
        do
            nr_check_ok(naru_recv(receiver, value, sizeof value, &size_bytes, NOTICED));
        while (value[0] != -1);
        nr_check(nr_kit_now_ns() - begin_ns < NOTICED, "%s: after %d ms", uri,
                 (int)((nr_kit_now_ns() - begin_ns) / 1000000));
    }
    nr_check_ok(naru_stat(receiver, &stat));
    nr_check(!(stat.known & NARU_STAT_PEERS) || stat.peers == 0, "%s: %u dead ones count as peers",
             uri, (unsigned)stat.peers);
    naru_close(receiver);
    naru_unlink(uri);
}

static void run_killed_senders(void)
{
    kill_senders("shm");
    kill_senders("file");
    nr_kit_directory_remove();
}

/* -- the rest ------------------------------------------------------------------------------ */

static void *interrupt_soon(void *endpoint)
{
    nr_kit_sleep_ms(100);
    naru_interrupt(endpoint);
    return NULL;
}

static void run_interrupt(void)
{
    static const char *const schemes[] = {"shm", "file", "mq"};

    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        struct naru_endpoint *receiver;
        const char *uri = name_of(schemes[i]);
        pthread_t thread;
        char byte;
        size_t size_bytes;
        nr_check_ok(naru_open(&receiver, uri, NARU_RECEIVER, NULL));
        int64_t begin_ns = nr_kit_now_ns();
        nr_check_fails(naru_recv(receiver, &byte, 1, &size_bytes, 60 * NARU_MILLISECOND),
                       -ETIMEDOUT, "");
        nr_check(nr_kit_now_ns() - begin_ns >= 60 * NARU_MILLISECOND, "%s: too early", uri);
        pthread_create(&thread, NULL, interrupt_soon, receiver);
        nr_check_fails(naru_recv(receiver, &byte, 1, &size_bytes, NARU_FOREVER), -EINTR, "");
        pthread_join(thread, NULL);
        naru_close(receiver);
        naru_unlink(uri);
    }
    nr_kit_directory_remove();
}

static void run_signal(void)
{
    int *ready = nr_kit_shared(sizeof *ready);
    struct naru_endpoint *sender, *receiver;
    uint64_t value;
    size_t size_bytes;
    char uri[40];
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    pid_t child = nr_kit_fork();
    if (child == 0) {
        nr_check_ok(naru_open(&receiver, "signal://self", NARU_RECEIVER, NULL));
        nr_kit_set(ready, 1);
        for (uint64_t i = 1; i <= ROUNDS; i++) {
            nr_check_ok(naru_recv(receiver, &value, sizeof value, &size_bytes, NARU_FOREVER));
            nr_check(value == i, "%d", (int)value);
        }
        nr_kit_set(ready, 2);
        pause();
    }
    snprintf(uri, sizeof uri, "signal://%d", (int)child);
    nr_kit_await(ready, 1);
    nr_check_ok(naru_open(&sender, uri, NARU_SENDER, NULL));
    for (uint64_t i = 1; i <= ROUNDS; i++)
        nr_check_ok(naru_send(sender, &i, sizeof i, NARU_FOREVER));
    nr_kit_await(ready, 2);
    kill(child, SIGKILL);
    waitid(P_PID, (id_t)child, &(siginfo_t){0}, WEXITED | WNOWAIT); /* a zombie is dead */
    nr_check_fails(naru_send(sender, &value, sizeof value, NARU_FOREVER), -EOWNERDEAD, "has died");
    nr_kit_kill(child);
    nr_check_fails(naru_send(sender, &value, sizeof value, NARU_FOREVER), -EOWNERDEAD, "has died");
    naru_close(sender);
    nr_check_fails(naru_open(&sender, uri, NARU_SENDER, NULL), -ESRCH, "");
    if (geteuid() == 0) { /* no right to is told apart from no such call */
        nr_check(setresuid(65534, 65534, 65534) == 0, "setresuid");
        nr_check_fails(naru_open(&sender, "signal://1", NARU_SENDER, NULL), -EPERM, "another user");
    }
}

static void run_semaphore(void)
{
    struct naru_semaphore *semaphore;
    char name[64];

    snprintf(name, sizeof name, "naru-refused-%d", (int)getpid());
    nr_check_ok(naru_semaphore_open(&semaphore, name, 0, NULL));
    pid_t child = nr_kit_fork();
    if (child == 0) {
        nr_kit_sleep_ms(50);
        nr_check_ok(naru_semaphore_post(semaphore));
        _exit(0);
    }
    nr_check_ok(naru_semaphore_wait(semaphore, NARU_FOREVER));
    nr_kit_join(child);
    naru_semaphore_close(semaphore);
    nr_check_ok(naru_semaphore_unlink(name));
}

/* -- the cases, each with every refusal ------------------------------------------------------ */

static void run_refused(void *argument)
{
    void (*run)(void) = *(void (**)(void))argument;

    refuse(&now);
    run();
}

static void all_refusals(void (*run)(void))
{
    static const struct refusal refusals[] = {
        {ENOSYS, false}, {EPERM, false}, {ENOSYS, true}, {EPERM, true}};

    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        now = refusals[i];
        int result = nr_kit_run(run_refused, &run, CASE_SECONDS);
        if (result == 77)
            skip();
        if (result != 0)
            fail_msg("with %s%s", strerrorname_np(now.error), now.also_io ? ", also for I/O" : "");
    }
}

#define CASE(name)                                                                                 \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        all_refusals(run_##name);                                                                  \
    }
CASE(pairs)
CASE(nobody)
CASE(named)
CASE(fifo_waits)
CASE(killed_senders)
CASE(interrupt)
CASE(signal)
CASE(semaphore)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs),          cmocka_unit_test(test_nobody),
        cmocka_unit_test(test_named),          cmocka_unit_test(test_fifo_waits),
        cmocka_unit_test(test_killed_senders), cmocka_unit_test(test_interrupt),
        cmocka_unit_test(test_signal),         cmocka_unit_test(test_semaphore),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
