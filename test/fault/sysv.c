/* SPDX-License-Identifier: MIT */
/* sysv -- sysv://: against the bare kernel calls, watched without a loss, removed under a waiter */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include "interrupting.h"
#include <errno.h>
#include <fcntl.h>
#include <naru/endpoint.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/stat.h>

static key_t test_key;
static char test_uri[80];

struct test_packet {
    long type;
    char text[8192];
};

static int test_setup(void **state)
{
    static int count;

    (void)state;
    alarm(50);
    test_key = (key_t)(0x4e000000u + (unsigned)getpid() * 64 + (unsigned)count++);
    snprintf(test_uri, sizeof test_uri, "sysv://0x%x", (unsigned)test_key);
    return 0;
}

static int test_teardown(void **state)
{
    int id = msgget(test_key, 0);

    (void)state;
    if (id >= 0)
        msgctl(id, IPC_RMID, NULL);
    return 0;
}

static struct naru_endpoint *test_open(enum naru_role role, int64_t type)
{
    struct naru_options options = {.size_bytes = sizeof options, .type = type};
    struct naru_endpoint *endpoint = NULL;

    if (naru_open(&endpoint, test_uri, role, &options) < 0)
        fail_msg("%s", naru_error_text());
    return endpoint;
}

static void test_put(int id, long type, const char *text)
{
    struct test_packet packet = {.type = type};

    memcpy(packet.text, text, strlen(text));
    assert_int_equal(msgsnd(id, &packet, strlen(text), IPC_NOWAIT), 0);
}

static void test_expect(struct naru_endpoint *receiver, int64_t timeout_ns, const char *text,
                        long type)
{
    char data[64];
    struct naru_message message = {.data = data, .capacity_bytes = sizeof data};

    int result = naru_recv_many(receiver, &message, 1, timeout_ns);
    if (result != 1)
        fail_msg("%d: %s", result, naru_error_text());
    assert_int_equal(message.size_bytes, strlen(text));
    assert_memory_equal(data, text, message.size_bytes);
    assert_int_equal(message.type, type);
    assert_true(message.known & NARU_KNOWS_TYPE);
}

static void test_interop(void **state)
{
    int id = msgget(test_key, IPC_CREAT | IPC_EXCL | 0600);
    struct naru_endpoint *all = test_open(NARU_BOTH, 0);
    struct naru_endpoint *fives = test_open(NARU_RECEIVER, 5);
    struct naru_endpoint *lowest = test_open(NARU_RECEIVER, -3);
    struct test_packet packet;

    (void)state;
    test_put(id, 7, "a");
    test_put(id, 3, "b");
    test_put(id, 5, "");
    test_put(id, 2, "c");
    test_put(id, 5, "d");
    struct naru_stat stat = {.size_bytes = sizeof stat};
    assert_int_equal(naru_stat(all, &stat), 0);
    assert_int_equal(stat.queued_messages, 5);
    assert_int_equal(stat.queued_bytes, 4);
    test_expect(lowest, 0, "c", 2);
    test_expect(lowest, 0, "b", 3);
    test_expect(fives, 0, "", 5);
    test_expect(all, 0, "a", 7);
    test_expect(fives, NARU_FOREVER, "d", 5);
    assert_int_equal(naru_recv(all, NULL, 0, NULL, 0), -EAGAIN);

    struct naru_message attributes = {.type = 0x7fffffff};
    struct iovec parts[2] = {{(char[]){"ab"}, 2}, {(char[]){"cd"}, 2}};
    assert_int_equal(naru_send(all, "plain", 5, 0), 0);
    assert_int_equal(naru_sendv(all, parts, 2, &attributes, NARU_FOREVER), 0);
    assert_int_equal(naru_send(all, NULL, 0, 0), 0);
    assert_int_equal(msgrcv(id, &packet, 100, 0, IPC_NOWAIT), 5);
    assert_int_equal(packet.type, 1);
    assert_int_equal(msgrcv(id, &packet, 100, 0, IPC_NOWAIT), 4);
    assert_int_equal(packet.type, 0x7fffffff);
    assert_memory_equal(packet.text, "abcd", 4);
    assert_int_equal(msgrcv(id, &packet, 100, 0, IPC_NOWAIT), 0);
    attributes.type = -1;
    assert_int_equal(naru_sendv(all, parts, 2, &attributes, 0), -EINVAL);
    naru_close(all);
    naru_close(fives);
    naru_close(lowest);
}

static void test_kept_on_emsgsize(void **state)
{
    struct naru_endpoint *both = test_open(NARU_BOTH, 0);
    struct naru_endpoint *receiver = test_open(NARU_RECEIVER, 0);
    char data[64];
    size_t size;

    (void)state;
    assert_int_equal(naru_send(both, "0123456789", 10, 0), 0);
    assert_int_equal(naru_send(both, "b", 1, 0), 0);
    assert_int_equal(naru_recv(both, data, 4, &size, 0), -EMSGSIZE);
    assert_int_equal(size, 10);
    test_expect(both, 0, "0123456789", 1);
    test_expect(both, 0, "b", 1);
    assert_int_equal(naru_send(both, "0123456789", 10, 0), 0);
    assert_int_equal(naru_recv(receiver, data, 4, &size, 0), -EMSGSIZE);
    naru_close(receiver); /* may receive only, and puts back all the same, with this right alone */
    test_expect(both, 0, "0123456789", 1);
    naru_close(both);
}

static void test_opening(void **state)
{
    struct naru_options options = {.size_bytes = sizeof options, .create = NARU_ATTACH};
    struct naru_endpoint *endpoint = NULL, *other;
    struct msqid_ds status;
    char path[64], uri[80];

    (void)state;
    assert_int_equal(naru_open(&endpoint, test_uri, NARU_SENDER, &options), -ENOENT);
    options.create = NARU_CREATE;
    options.file_mode = 0622;
    assert_int_equal(naru_open(&endpoint, test_uri, NARU_BOTH, &options), 0);
    assert_int_equal(msgctl(msgget(test_key, 0), IPC_STAT, &status), 0);
    assert_int_equal(status.msg_perm.mode & 0777, 0622);
    assert_int_equal(naru_open(&other, test_uri, NARU_BOTH, &options), -EEXIST);
    static char large[100000];
    assert_int_equal(naru_send(endpoint, large, sizeof large, 0), -EMSGSIZE);
    assert_text_has("8192");
    options = (struct naru_options){.size_bytes = sizeof options, .message_size_max_bytes = 100000};
    assert_int_equal(naru_open(&other, test_uri, NARU_BOTH, &options), -EINVAL);
    assert_text_has("msgmax");
    options = (struct naru_options){.size_bytes = sizeof options, .capacity_messages = 4};
    assert_int_equal(naru_open(&other, test_uri, NARU_BOTH, &options), -EOPNOTSUPP);
    naru_close(endpoint);
    assert_int_equal(naru_unlink(test_uri), 0);
    assert_int_equal(naru_unlink(test_uri), -ENOENT);
    assert_int_equal(naru_open(&other, "sysv://0", NARU_BOTH, NULL), -EINVAL);
    assert_int_equal(naru_open(&other, "sysv://12x", NARU_BOTH, NULL), -EINVAL);

    snprintf(path, sizeof path, "/tmp/naru-test-sysv-%d", (int)getpid());
    snprintf(uri, sizeof uri, "sysv://%s", path);
    options = (struct naru_options){.size_bytes = sizeof options, .create = NARU_ATTACH};
    assert_int_equal(naru_open(&endpoint, uri, NARU_BOTH, &options), -ENOENT);
    assert_text_has(path);
    assert_int_equal(naru_open(&endpoint, uri, NARU_BOTH, NULL), 0);
    assert_true(msgget(ftok(path, 'n'), 0) >= 0);
    naru_close(endpoint);
    assert_int_equal(naru_unlink(uri), 0);
    assert_int_equal(access(path, F_OK), -1); /* it was ours */
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(naru_open(&endpoint, uri, NARU_BOTH, NULL), 0);
    naru_close(endpoint);
    assert_int_equal(naru_unlink(uri), 0);
    assert_int_equal(unlink(path), 0); /* it was not */
}

static void test_times(void **state)
{
    struct naru_endpoint *both = test_open(NARU_BOTH, 0);
    char data[4096] = {0};

    (void)state;
    for (int i = 0; i < 3; i++) {
        int64_t begin = clock_ms();
        assert_int_equal(naru_recv(both, NULL, 0, NULL, 30 * NARU_MILLISECOND), -ETIMEDOUT);
        assert_in_range(clock_ms() - begin, 29, 1000);
    }
    while (naru_send(both, data, sizeof data, 0) == 0)
        ;
    assert_int_equal(naru_send(both, data, sizeof data, 0), -EAGAIN);
    int64_t begin = clock_ms();
    assert_int_equal(naru_send(both, data, sizeof data, 50 * NARU_MILLISECOND), -ETIMEDOUT);
    assert_in_range(clock_ms() - begin, 49, 1000);
    naru_close(both);
}

/* The watcher: whatever is sent while it peeks comes out, in order, once. */

static void test_send_child(void *context)
{
    int id = msgget(test_key, 0);
    const char *const *texts = context;

    sleep_ms(30);
    for (long i = 0; texts[i]; i++) {
        struct test_packet packet = {.type = i + 1};
        memcpy(packet.text, texts[i], strlen(texts[i]));
        child_check(msgsnd(id, &packet, strlen(texts[i]), 0) == 0);
    }
}

static void test_watched(void **state)
{
    static const char *const texts[] = {"", "x", "", "", "yy", "", NULL};

    (void)state;
    for (int way = 0; way < 3; way++) {
        struct naru_endpoint *receiver = test_open(NARU_RECEIVER, 0);
        struct pollfd fd = {.fd = way ? naru_fd(receiver) : -1, .events = POLLIN};
        assert_int_equal(naru_recv(receiver, NULL, 0, NULL, 0), -EAGAIN);
        if (way)
            assert_int_equal(poll(&fd, 1, 10), 0);
        pid_t pid = child_start(test_send_child, (void *)texts);
        for (int i = 0; texts[i];) {
            if (way == 1)
                assert_int_equal(poll(&fd, 1, 5000), 1);
            char data[8];
            struct naru_message message = {.data = data, .capacity_bytes = sizeof data};
            /* 0: sleep in the call; 1: as the descriptor says; 2: a busy look while it is armed */
            int result = naru_recv_many(receiver, &message, 1, way ? 0 : 5 * NARU_SECOND);
            if (result == -EAGAIN && way)
                continue;
            assert_int_equal(result, 1);
            assert_int_equal(message.type, i + 1);
            assert_int_equal(message.size_bytes, strlen(texts[i]));
            i++;
        }
        assert_int_equal(naru_recv(receiver, NULL, 0, NULL, 0), -EAGAIN);
        assert_int_equal(child_end(pid), 0);
        naru_close(receiver);
    }
}

/* What the watcher took, and nobody received, is back in the queue after the close. */
static void test_watched_and_closed(void **state)
{
    struct naru_endpoint *receiver = test_open(NARU_RECEIVER, 0);
    int id = msgget(test_key, 0);
    struct test_packet packet;

    (void)state;
    struct pollfd fd = {.fd = naru_fd(receiver), .events = POLLIN};
    test_put(id, 9, "");
    assert_int_equal(poll(&fd, 1, 5000), 1);
    naru_close(receiver);
    assert_int_equal(msgrcv(id, &packet, 10, 0, IPC_NOWAIT), 0);
    assert_int_equal(packet.type, 9);

    /* Closing at any moment loses nothing either. */
    for (int i = 0; i < 300; i++) {
        receiver = test_open(NARU_RECEIVER, 0);
        assert_true(naru_fd(receiver) >= 0);
        for (volatile int j = 0; j < i * 100; j++)
            ;
        test_put(id, i + 1, "");
        naru_close(receiver);
        assert_int_equal(msgrcv(id, &packet, 10, 0, IPC_NOWAIT), 0);
        assert_int_equal(packet.type, i + 1);
    }
}

static void test_fork_child(void *context)
{
    naru_close(context); /* has no thread here */
}

static void test_watched_and_forked(void **state)
{
    struct naru_endpoint *receiver = test_open(NARU_RECEIVER, 0);

    (void)state;
    struct pollfd fd = {.fd = naru_fd(receiver), .events = POLLIN};
    assert_int_equal(poll(&fd, 1, 10), 0);
    assert_int_equal(child_run(test_fork_child, receiver), 0);
    test_put(msgget(test_key, 0), 1, "still");
    assert_int_equal(poll(&fd, 1, 5000), 1);
    test_expect(receiver, 0, "still", 1);
    naru_close(receiver);
}

static volatile int test_signals;

static void test_count_signal(int signal_number)
{
    (void)signal_number;
    test_signals++;
}

/* A signal for the process goes to the program's thread, never to the watcher. */
static void test_watcher_takes_no_signal(void **state)
{
    struct naru_endpoint *receiver = test_open(NARU_RECEIVER, 0);
    struct sigaction action = {.sa_handler = test_count_signal}, before;
    sigset_t set, old;

    (void)state;
    sigaction(SIGUSR1, &action, &before);
    assert_true(naru_fd(receiver) >= 0);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, &old);
    kill(getpid(), SIGUSR1);
    sleep_ms(20);
    assert_int_equal(test_signals, 0);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    assert_int_equal(test_signals, 1);
    sigaction(SIGUSR1, &before, NULL);
    naru_close(receiver);
}

/* Removed under a waiter, in each way of waiting */

static void *test_remove_later(void *context)
{
    sleep_ms(50);
    if (context)
        assert_int_equal(msgctl(*(int *)context, IPC_RMID, NULL), 0);
    return NULL;
}

static void test_remove_child(void *context)
{
    sleep_ms(50);
    child_check(msgctl(*(int *)context, IPC_RMID, NULL) == 0);
}

static void test_removed(void **state)
{
    static const int64_t timeouts_ns[] = {NARU_FOREVER, 10 * NARU_SECOND};
    char data[4096] = {0};

    (void)state;
    for (int i = 0; i < 8; i++) {
        struct naru_endpoint *both = test_open(NARU_BOTH, 0);
        int id = msgget(test_key, 0);
        pthread_t thread;
        pid_t pid = 0;

        while (i & 2 && naru_send(both, data, sizeof data, 0) == 0)
            ;
        if (i & 4)
            pthread_create(&thread, NULL, test_remove_later, &id);
        else
            pid = child_start(test_remove_child, &id);
        assert_int_equal(i & 2 ? naru_send(both, data, sizeof data, timeouts_ns[i & 1])
                               : naru_recv(both, data, sizeof data, NULL, timeouts_ns[i & 1]),
                         -EPIPE);
        assert_text_has("removed");
        assert_int_equal(naru_recv(both, data, sizeof data, NULL, 0), -EPIPE);
        if (pid)
            assert_int_equal(child_end(pid), 0);
        else
            pthread_join(thread, NULL);
        naru_close(both);
    }
}

static void test_interrupt_child(void *context)
{
    struct naru_endpoint *both = test_open(NARU_BOTH, 0);
    struct sigaction action = {.sa_handler = test_on_alarm, .sa_flags = SA_RESTART};
    char data[4096] = {0};
    pthread_t thread;

    (void)context;
    test_interrupted = both;
    sigaction(SIGALRM, &action, NULL);
    /* First with one thread, which blocks in the call itself, then with the watcher's */
    for (int i = 0; i < 3; i++) {
        int64_t timeout_ns = i == 1 ? 20 * NARU_SECOND : NARU_FOREVER;
        ualarm(50000, 0);
        child_check(naru_recv(both, data, sizeof data, NULL, timeout_ns) == -EINTR);
        while (naru_send(both, data, sizeof data, 0) == 0)
            ;
        ualarm(50000, 0);
        child_check(naru_send(both, data, sizeof data, timeout_ns) == -EINTR);
        while (naru_recv(both, data, sizeof data, NULL, 0) == 0)
            ;
    }
    pthread_create(&thread, NULL, test_interrupt_later, both);
    child_check(naru_recv(both, data, sizeof data, NULL, NARU_FOREVER) == -EINTR);
    pthread_join(thread, NULL);
    naru_close(both);
}

static void test_interrupt(void **state)
{
    (void)state;
    assert_int_equal(child_run(test_interrupt_child, NULL), 0);
}

static void test_permission_child(void *context)
{
    struct naru_endpoint *endpoint;

    child_check(setgid(65534) == 0 && setuid(65534) == 0);
    child_check(naru_open(&endpoint, test_uri, NARU_RECEIVER, NULL) == -EACCES);
    child_check(strstr(naru_error_text(), "65534") && strstr(naru_error_text(), "file_mode"));
    child_check(naru_unlink(test_uri) == -EACCES);
    if (!context)
        return;
    struct naru_stat stat = {.size_bytes = sizeof stat};
    child_check(naru_open(&endpoint, test_uri, NARU_SENDER, NULL) == 0);
    child_check(naru_send(endpoint, "hello", 5, NARU_FOREVER) == 0);
    child_check(naru_stat(endpoint, &stat) == 0);
    naru_close(endpoint);
}

static void test_permission(void **state)
{
    (void)state;
    if (getuid() != 0) {
        print_message("SKIP: needs root to become another user\n");
        skip();
    }
    int id = msgget(test_key, IPC_CREAT | IPC_EXCL | 0600);
    struct naru_endpoint *receiver = test_open(NARU_RECEIVER, 0);
    assert_int_equal(child_run(test_permission_child, NULL), 0);
    struct msqid_ds status;
    assert_int_equal(msgctl(id, IPC_STAT, &status), 0);
    status.msg_perm.mode = 0622;
    assert_int_equal(msgctl(id, IPC_SET, &status), 0);
    assert_int_equal(child_run(test_permission_child, test_uri), 0);
    test_expect(receiver, 0, "hello", 1);
    naru_close(receiver);
}

/* Load: {sender, count, filler}, some without payload in between */

enum { TEST_LOAD_EACH = 5000 };

struct test_load {
    uint32_t sender, count;
    unsigned char filler[100];
};

static void test_load_child(void *context)
{
    struct naru_endpoint *sender = test_open(NARU_SENDER, 0);
    struct test_load load = {.sender = *(uint32_t *)context};

    for (load.count = 0; load.count < TEST_LOAD_EACH || load.sender == 2; load.count++) {
        struct naru_message attributes = {.type = 10 + load.sender};
        struct iovec part = {&load, load.count % 7 ? sizeof load : 0};
        memset(load.filler, (int)(load.count & 0xff), sizeof load.filler);
        child_check(naru_sendv(sender, &part, 1, &attributes, NARU_FOREVER) == 0);
    }
    naru_close(sender);
}

static void test_load_check(const struct naru_message *message, uint32_t next[])
{
    const struct test_load *load = message->data;
    int64_t sender = message->type - 10;

    assert_in_range(sender, 0, 2);
    uint32_t count = next[sender]++;
    if (count % 7 == 0) {
        assert_int_equal(message->size_bytes, 0);
        return;
    }
    assert_int_equal(message->size_bytes, sizeof *load);
    assert_int_equal(load->sender, sender);
    assert_int_equal(load->count, count);
    for (size_t i = 0; i < sizeof load->filler; i++)
        assert_int_equal(load->filler[i], count & 0xff);
}

static void test_load_and_kill(void **state)
{
    struct naru_endpoint *receiver = test_open(NARU_RECEIVER, 0);
    uint32_t senders[3] = {0, 1, 2}, next[3] = {0};
    struct test_load load;
    pid_t pids[3];

    (void)state;
    for (int i = 0; i < 3; i++)
        pids[i] = child_start(test_load_child, &senders[i]);
    for (int i = 0; next[0] + next[1] < 2 * TEST_LOAD_EACH; i++) {
        struct naru_message message = {.data = &load, .capacity_bytes = sizeof load};
        assert_int_equal(
            naru_recv_many(receiver, &message, 1, i % 2 ? 5 * NARU_SECOND : NARU_FOREVER), 1);
        test_load_check(&message, next);
        if (next[2] == 1000)
            kill(pids[2], SIGKILL);
    }
    kill(pids[2], SIGKILL);
    assert_int_equal(child_end(pids[0]), 0);
    assert_int_equal(child_end(pids[1]), 0);
    assert_int_equal(WTERMSIG(child_end(pids[2])), SIGKILL);
    struct naru_message message = {.data = &load, .capacity_bytes = sizeof load};
    while (naru_recv_many(receiver, &message, 1, 0) == 1) {
        test_load_check(&message, next);
        message = (struct naru_message){.data = &load, .capacity_bytes = sizeof load};
    }
    naru_close(receiver);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_interop, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_kept_on_emsgsize, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_opening, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_interrupt, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_times, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_watched, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_watched_and_closed, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_watched_and_forked, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_watcher_takes_no_signal, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_removed, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_permission, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_load_and_kill, test_setup, test_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
