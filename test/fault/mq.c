/* SPDX-License-Identifier: MIT */
/* mq -- mq://: against the bare kernel calls, at its limits, and when processes die */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include "interrupting.h"
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <naru/endpoint.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

static char test_name[64], test_uri[80];

static int test_setup(void **state)
{
    static int count;

    (void)state;
    alarm(50);
    snprintf(test_name, sizeof test_name, "/naru-test-%d-%d", (int)getpid(), count++);
    snprintf(test_uri, sizeof test_uri, "mq:/%s", test_name);
    return 0;
}

static int test_teardown(void **state)
{
    (void)state;
    mq_unlink(test_name);
    return 0;
}

static struct naru_endpoint *test_open(enum naru_role role)
{
    struct naru_endpoint *endpoint = NULL;

    if (naru_open(&endpoint, test_uri, role, NULL) < 0)
        fail_msg("%s", naru_error_text());
    return endpoint;
}

static void test_interop_from_kernel(void **state)
{
    struct mq_attr attributes = {.mq_maxmsg = 5, .mq_msgsize = 100};
    char data[100];
    struct naru_message message = {.data = data, .capacity_bytes = sizeof data};

    (void)state;
    mqd_t queue = mq_open(test_name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
    assert_true(queue >= 0);
    struct naru_endpoint *receiver = test_open(NARU_RECEIVER);
    assert_int_equal(mq_send(queue, "low", 3, 1), 0);
    assert_int_equal(mq_send(queue, "first", 5, 9), 0);
    assert_int_equal(mq_send(queue, "second", 6, 9), 0);
    assert_int_equal(mq_send(queue, "", 0, 0), 0);
    struct naru_stat stat = {.size_bytes = sizeof stat};
    assert_int_equal(naru_stat(receiver, &stat), 0);
    assert_int_equal(stat.queued_messages, 4);
    assert_int_equal(stat.capacity_messages, 5);
    assert_int_equal(stat.message_size_max_bytes, 100);

    static const char *const expected[] = {"first", "second", "low", ""};
    static const int priorities[] = {9, 9, 1, 0};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(naru_recv_many(receiver, &message, 1, 0), 1);
        assert_int_equal(message.size_bytes, strlen(expected[i]));
        assert_memory_equal(data, expected[i], message.size_bytes);
        assert_int_equal(message.type, priorities[i]);
        assert_true(message.known & NARU_KNOWS_TYPE);
        message = (struct naru_message){.data = data, .capacity_bytes = sizeof data};
    }
    assert_int_equal(naru_recv(receiver, data, sizeof data, NULL, 0), -EAGAIN);
    naru_close(receiver);
    mq_close(queue);
}

static void test_interop_to_kernel(void **state)
{
    struct naru_endpoint *sender = test_open(NARU_SENDER);
    struct iovec parts[3] = {{(char[]){"ab"}, 2}, {NULL, 0}, {(char[]){"cde"}, 3}};
    struct naru_message attributes = {.type = 32767};
    char data[8192];
    unsigned priority;

    (void)state;
    mqd_t queue = mq_open(test_name, O_RDONLY | O_NONBLOCK);
    assert_true(queue >= 0);
    assert_int_equal(naru_send(sender, "plain", 5, 0), 0);
    assert_int_equal(naru_sendv(sender, parts, 3, &attributes, 0), 0);
    assert_int_equal(naru_send(sender, NULL, 0, 0), 0);
    assert_int_equal(mq_receive(queue, data, sizeof data, &priority), 5);
    assert_int_equal(priority, 32767);
    assert_memory_equal(data, "abcde", 5);
    assert_int_equal(mq_receive(queue, data, sizeof data, &priority), 5);
    assert_int_equal(priority, 0);
    assert_int_equal(mq_receive(queue, data, sizeof data, &priority), 0);
    attributes.type = 32768;
    assert_int_equal(naru_sendv(sender, parts, 3, &attributes, 0), -EINVAL);
    assert_text_has("32767");
    mq_close(queue);
    naru_close(sender);
}

static void test_kept_on_emsgsize(void **state)
{
    struct naru_endpoint *both = test_open(NARU_BOTH);
    char data[8192];
    size_t size = 77;

    (void)state;
    assert_int_equal(naru_send(both, "0123456789", 10, 0), 0);
    assert_int_equal(naru_send(both, "b", 1, 0), 0);
    assert_int_equal(naru_recv(both, data, 4, &size, 0), -EMSGSIZE);
    assert_int_equal(size, 10);
    assert_int_equal(naru_recv(both, data, 10, &size, 0), 0);
    assert_memory_equal(data, "0123456789", 10);
    assert_int_equal(naru_recv(both, data, 10, &size, 0), 0);
    assert_int_equal(size, 1);

    /* What is kept when the endpoint closes goes back, also from one that may only receive. */
    struct naru_endpoint *receiver = test_open(NARU_RECEIVER);
    assert_int_equal(naru_send(both, "0123456789", 10, 0), 0);
    assert_int_equal(naru_recv(receiver, data, 4, NULL, 0), -EMSGSIZE);
    assert_int_equal(naru_recv(both, data, sizeof data, NULL, 0), -EAGAIN);
    naru_close(receiver);
    assert_int_equal(naru_recv(both, data, sizeof data, &size, 0), 0);
    assert_int_equal(size, 10);
    naru_close(both);
}

static void test_times(void **state)
{
    struct naru_endpoint *both = test_open(NARU_BOTH);
    char data[8192];

    (void)state;
    int64_t begin = clock_ms();
    assert_int_equal(naru_recv(both, data, sizeof data, NULL, 50 * NARU_MILLISECOND), -ETIMEDOUT);
    assert_true(clock_ms() - begin >= 49);
    for (int i = 0; i < 10; i++)
        assert_int_equal(naru_send(both, "x", 1, 0), 0);
    assert_int_equal(naru_send(both, "x", 1, 0), -EAGAIN);
    begin = clock_ms();
    assert_int_equal(naru_send(both, "x", 1, 50 * NARU_MILLISECOND), -ETIMEDOUT);
    assert_true(clock_ms() - begin >= 49);
    naru_close(both);

    struct naru_options options = {.size_bytes = sizeof options, .when_full = NARU_FAIL};
    assert_int_equal(naru_open(&both, test_uri, NARU_BOTH, &options), 0);
    assert_int_equal(naru_send(both, "x", 1, NARU_FOREVER), -ENOBUFS);
    naru_close(both);
}

static void test_opening(void **state)
{
    struct naru_options options = {.size_bytes = sizeof options, .create = NARU_ATTACH};
    struct naru_endpoint *endpoint = NULL, *other;
    struct stat status;

    (void)state;
    assert_int_equal(naru_open(&endpoint, test_uri, NARU_SENDER, &options), -ENOENT);
    options = (struct naru_options){.size_bytes = sizeof options,
                                    .create = NARU_CREATE,
                                    .capacity_messages = 3,
                                    .message_size_max_bytes = 64,
                                    .file_mode = 0622};
    assert_int_equal(naru_open(&endpoint, test_uri, NARU_BOTH, &options), 0);
    int fd = mq_open(test_name, O_RDONLY);
    assert_int_equal(fstat(fd, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0622); /* in spite of the umask */
    mq_close(fd);
    assert_int_equal(naru_send(endpoint, test_setup, 65, 0), -EMSGSIZE);
    assert_text_has("65");
    assert_text_has("64");
    assert_int_equal(naru_open(&other, test_uri, NARU_BOTH, &options), -EEXIST);
    options.create = NARU_ATTACH;
    options.capacity_messages = 4;
    assert_int_equal(naru_open(&other, test_uri, NARU_BOTH, &options), -EINVAL);
    assert_text_has("3");
    assert_text_has("4");
    options = (struct naru_options){.size_bytes = sizeof options, .type = 4};
    assert_int_equal(naru_open(&other, test_uri, NARU_BOTH, &options), -EOPNOTSUPP);
    options = (struct naru_options){.size_bytes = sizeof options, .delivery = NARU_AT_LEAST_ONCE};
    assert_int_equal(naru_open(&other, test_uri, NARU_BOTH, &options), -EOPNOTSUPP);
    naru_close(endpoint);
    assert_int_equal(naru_unlink(test_uri), 0);
    assert_int_equal(naru_unlink(test_uri), -ENOENT);
    assert_int_equal(naru_open(&other, "mq://a/b", NARU_BOTH, NULL), -EINVAL);
}

static void test_limits_child(void *context)
{
    struct naru_options options = {.size_bytes = sizeof options};
    struct rlimit limit = {.rlim_cur = 200000, .rlim_max = 200000};
    struct naru_endpoint *endpoint;

    (void)context;
    if (getuid() == 0)
        child_check(setgid(65534) == 0 && setuid(65534) == 0);
    options.capacity_messages = 1000000;
    child_check(naru_open(&endpoint, test_uri, NARU_BOTH, &options) == -EINVAL);
    child_check(strstr(naru_error_text(), "msg_max is"));
    options.capacity_messages = 0;
    options.message_size_max_bytes = 1 << 24;
    child_check(naru_open(&endpoint, test_uri, NARU_BOTH, &options) == -EINVAL);
    child_check(strstr(naru_error_text(), "msgsize_max"));
    options.message_size_max_bytes = 0;
    child_check(setrlimit(RLIMIT_MSGQUEUE, &limit) == 0);
    int result = 0;
    for (int i = 0; i < 4 && result == 0; i++) {
        char uri[100];
        snprintf(uri, sizeof uri, "%s-%d", test_uri, i);
        result = naru_open(&endpoint, uri, NARU_BOTH, &options);
        if (result == 0)
            naru_unlink(uri);
    }
    child_check(result == -EMFILE);
    child_check(strstr(naru_error_text(), "RLIMIT_MSGQUEUE (200000)"));
    child_check(strstr(naru_error_text(), "ulimit -q"));

    limit = (struct rlimit){.rlim_cur = 3, .rlim_max = 3};
    child_check(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    child_check(naru_open(&endpoint, test_uri, NARU_BOTH, &options) == -EMFILE);
    child_check(strstr(naru_error_text(), "ulimit -n"));
}

static void test_limits(void **state)
{
    (void)state;
    assert_int_equal(child_run(test_limits_child, NULL), 0);
}

static void test_permission_child(void *context)
{
    struct naru_endpoint *endpoint;

    (void)context;
    child_check(setgid(65534) == 0 && setuid(65534) == 0);
    child_check(naru_open(&endpoint, test_uri, NARU_SENDER, NULL) == -EACCES);
    child_check(strstr(naru_error_text(), "65534") && strstr(naru_error_text(), "file_mode"));
    child_check(naru_unlink(test_uri) == -EACCES);
}

static void test_permission(void **state)
{
    (void)state;
    if (getuid() != 0) {
        print_message("SKIP: needs root to become another user\n");
        skip();
    }
    struct naru_endpoint *endpoint = test_open(NARU_SENDER);
    assert_int_equal(child_run(test_permission_child, NULL), 0);
    naru_close(endpoint);
}

/* Interrupts */

static void test_interrupt(void **state)
{
    struct naru_endpoint *both = test_open(NARU_BOTH);
    struct sigaction action = {.sa_handler = test_on_alarm, .sa_flags = SA_RESTART}, before;
    char data[8192];
    pthread_t thread;

    (void)state;
    test_interrupted = both;
    sigaction(SIGALRM, &action, &before);
    for (int64_t timeout_ns = -1; timeout_ns <= 20 * NARU_SECOND;
         timeout_ns += 20 * NARU_SECOND + 1) {
        ualarm(50000, 0);
        assert_int_equal(naru_recv(both, data, sizeof data, NULL, timeout_ns), -EINTR);
        for (int i = 0; i < 10; i++)
            assert_int_equal(naru_send(both, "x", 1, 0), 0);
        ualarm(50000, 0);
        assert_int_equal(naru_send(both, "x", 1, timeout_ns), -EINTR);
        for (int i = 0; i < 10; i++)
            assert_int_equal(naru_recv(both, data, sizeof data, NULL, 0), 0);
    }
    sigaction(SIGALRM, &before, NULL);
    alarm(50);
    pthread_create(&thread, NULL, test_interrupt_later, both);
    assert_int_equal(naru_recv(both, data, sizeof data, NULL, NARU_FOREVER), -EINTR);
    pthread_join(thread, NULL);
    assert_int_equal(naru_interrupt(both), 0);
    assert_int_equal(naru_recv(both, data, sizeof data, NULL, 0), -EAGAIN);
    assert_int_equal(naru_recv(both, data, sizeof data, NULL, NARU_FOREVER), -EINTR);
    naru_close(both);
}

/* Load: each message is {sender, count, filler} */

enum { TEST_LOAD_EACH = 5000, TEST_LOAD_BYTES = 200 };

struct test_load {
    uint32_t sender, count;
    unsigned char filler[TEST_LOAD_BYTES];
};

static void test_load_child(void *context)
{
    struct naru_endpoint *sender;
    struct test_load load = {.sender = *(uint32_t *)context};

    child_check(naru_open(&sender, test_uri, NARU_SENDER, NULL) == 0);
    for (load.count = 0;; load.count++) {
        if (load.count == TEST_LOAD_EACH && load.sender < 2)
            break;
        memset(load.filler, (int)(load.count & 0xff), sizeof load.filler);
        child_check(naru_send(sender, &load, sizeof load, NARU_FOREVER) == 0);
    }
    naru_close(sender);
}

static void test_load_check(const struct test_load *load, size_t size, uint32_t next[])
{
    assert_int_equal(size, sizeof *load);
    assert_in_range(load->sender, 0, 2);
    assert_int_equal(load->count, next[load->sender]++);
    for (int i = 0; i < TEST_LOAD_BYTES; i++)
        assert_int_equal(load->filler[i], load->count & 0xff);
}

static void test_load_and_kill(void **state)
{
    struct naru_endpoint *receiver = test_open(NARU_RECEIVER);
    uint32_t senders[3] = {0, 1, 2}, next[3] = {0};
    char room[8192];
    struct test_load load;
    pid_t pids[3];

    (void)state;
    for (int i = 0; i < 3; i++)
        pids[i] = child_start(test_load_child, &senders[i]);
    for (int i = 0; next[0] + next[1] < 2 * TEST_LOAD_EACH; i++) {
        size_t size;
        /* both ways: straight into our room, and through the transport's */
        if (i % 2) {
            assert_int_equal(naru_recv(receiver, &load, sizeof load, &size, 5 * NARU_SECOND), 0);
        } else {
            assert_int_equal(naru_recv(receiver, room, sizeof room, &size, NARU_FOREVER), 0);
            memcpy(&load, room, sizeof load);
        }
        test_load_check(&load, size, next);
        if (next[2] == 2000)
            kill(pids[2], SIGKILL);
    }
    kill(pids[2], SIGKILL);
    assert_int_equal(child_end(pids[0]), 0);
    assert_int_equal(child_end(pids[1]), 0);
    assert_int_equal(WTERMSIG(child_end(pids[2])), SIGKILL);
    size_t size;
    while (naru_recv(receiver, &load, sizeof load, &size, 0) == 0)
        test_load_check(&load, size, next);
    naru_close(receiver);
}

static void test_descriptor(void **state)
{
    struct naru_endpoint *both = test_open(NARU_BOTH);
    char data[8192];
    struct pollfd fds[2] = {{.fd = naru_fd(both), .events = POLLIN},
                            {.fd = naru_send_fd(both), .events = POLLIN}};

    (void)state;
    assert_int_equal(poll(fds, 1, 0), 0);
    assert_int_equal(poll(fds + 1, 1, 0), 1);
    for (int i = 0; i < 10; i++)
        assert_int_equal(naru_send(both, "x", 1, 0), 0);
    assert_int_equal(poll(fds, 1, 0), 1);
    assert_int_equal(poll(fds + 1, 1, 0), 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(naru_recv(both, data, sizeof data, NULL, 0), 0);
    assert_int_equal(poll(fds, 1, 0), 0);
    naru_close(both);
}

/* Pairs */

static void test_pair_here(void **state)
{
    struct naru_endpoint *ends[2];
    char data[16];
    size_t size;

    (void)state;
    assert_int_equal(naru_pair(ends, "mq://", NULL), 0);
    assert_int_equal(naru_send(ends[0], "to 1", 4, 0), 0);
    assert_int_equal(naru_send(ends[1], "to 0!", 5, 0), 0);
    assert_int_equal(naru_recv(ends[1], data, sizeof data, &size, NARU_FOREVER), 0);
    assert_int_equal(size, 4);
    assert_int_equal(naru_recv(ends[0], data, sizeof data, &size, 0), 0);
    assert_int_equal(size, 5);
    assert_int_equal(naru_recv(ends[0], data, sizeof data, &size, 0), -EAGAIN);
    assert_int_equal(naru_send(ends[1], "last", 4, 0), 0);
    struct pollfd fd = {.fd = naru_fd(ends[0]), .events = POLLIN};
    naru_close(ends[1]);
    assert_int_equal(poll(&fd, 1, 0), 1);
    assert_int_equal(naru_send(ends[0], "x", 1, 0), -EPIPE);
    assert_int_equal(naru_recv(ends[0], data, sizeof data, &size, NARU_FOREVER), 0);
    assert_int_equal(naru_recv(ends[0], data, sizeof data, &size, NARU_FOREVER), -EPIPE);
    assert_int_equal(poll(&fd, 1, 0), 1);
    assert_int_equal(naru_recv(ends[0], data, sizeof data, &size, 0), -EPIPE);
    naru_close(ends[0]);
}

/* The child sends 7 messages, and then closes, exits, or waits to be killed. */
struct test_pair {
    struct naru_endpoint *ends[2];
    int how;
};

static void test_pair_child(void *context)
{
    struct test_pair *pair = context;
    char data[16];

    child_check(naru_pair_assign(pair->ends[1], getpid()) == 0);
    child_check(naru_recv(pair->ends[1], data, sizeof data, NULL, NARU_FOREVER) == 0);
    for (int i = 0; i < 7; i++)
        child_check(naru_send(pair->ends[1], &i, sizeof i, NARU_FOREVER) == 0);
    if (pair->how == 0)
        naru_close(pair->ends[1]);
    if (pair->how < 2)
        _exit(0);
    pause();
}

static void test_pair_process(void **state)
{
    static const int expected[] = {-EPIPE, -EOWNERDEAD, -EOWNERDEAD};

    (void)state;
    for (int how = 0; how < 3; how++) {
        struct test_pair pair = {.how = how};
        int number;

        assert_int_equal(naru_pair(pair.ends, "mq://", NULL), 0);
        pid_t pid = child_start(test_pair_child, &pair);
        assert_int_equal(naru_pair_assign(pair.ends[1], pid), 0);
        assert_int_equal(naru_send(pair.ends[0], "go", 2, NARU_FOREVER), 0);
        for (int i = 0; i < 7; i++) {
            assert_int_equal(naru_recv(pair.ends[0], &number, sizeof number, NULL, NARU_FOREVER),
                             0);
            assert_int_equal(number, i);
            if (i == 0) {
                sleep_ms(30); /* all are sent now; so the rest must be received after its death */
                if (how == 2)
                    kill(pid, SIGKILL);
                child_end(pid);
            }
        }
        assert_int_equal(naru_recv(pair.ends[0], &number, sizeof number, NULL, 0), expected[how]);
        assert_int_equal(naru_recv(pair.ends[0], &number, sizeof number, NULL, NARU_FOREVER),
                         expected[how]);
        assert_int_equal(naru_send(pair.ends[0], "x", 1, NARU_FOREVER), expected[how]);
        naru_close(pair.ends[0]);
        naru_close(pair.ends[1]);
    }
}

static void *test_close_later(void *context)
{
    sleep_ms(50);
    naru_close(context);
    return NULL;
}

static void test_pair_wakes_sleepers(void **state)
{
    struct naru_endpoint *ends[2];
    char data[16];
    pthread_t thread;

    (void)state;
    for (int sends = 0; sends < 2; sends++) {
        assert_int_equal(naru_pair(ends, "mq://", NULL), 0);
        while (sends && naru_send(ends[0], "x", 1, 0) == 0)
            ;
        pthread_create(&thread, NULL, test_close_later, ends[1]);
        assert_int_equal(sends ? naru_send(ends[0], "x", 1, NARU_FOREVER)
                               : naru_recv(ends[0], data, sizeof data, NULL, NARU_FOREVER),
                         -EPIPE);
        pthread_join(thread, NULL);
        naru_close(ends[0]);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_interop_from_kernel, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_interop_to_kernel, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_kept_on_emsgsize, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_times, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_opening, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_limits, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_permission, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_interrupt, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_load_and_kill, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_descriptor, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_pair_here, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_pair_process, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_pair_wakes_sleepers, test_setup, test_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
