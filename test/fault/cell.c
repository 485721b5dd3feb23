/* SPDX-License-Identifier: MIT */
/* cell -- shm:// with the newest value: versions, writers that die, readers that can only read */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include "place.h"
#include <errno.h>
#include <naru/endpoint.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/mman.h>

static char uri[144];

static int test_setup(void **state)
{
    (void)state;
    alarm(50);
    place_make();
    snprintf(uri, sizeof uri, "shm://%s/cell", place_directory);
    return 0;
}

static int test_teardown(void **state)
{
    (void)state;
    place_remove();
    return 0;
}

enum { WORDS = 300 };

/* All words of a value are equal, so that a mixed one shows. */
struct value {
    uint32_t words[WORDS];
};

static const struct naru_options cell_options = {
    .size_bytes = sizeof cell_options,
    .pattern = NARU_CELL,
    .message_size_max_bytes = sizeof(struct value),
};

static struct naru_endpoint *cell_open(enum naru_role role)
{
    struct naru_endpoint *endpoint = NULL;

    if (naru_open(&endpoint, uri, role, &cell_options) < 0)
        fail_msg("%s", naru_error_text());
    return endpoint;
}

static void value_fill(struct value *value, uint32_t number)
{
    for (int i = 0; i < WORDS; i++)
        value->words[i] = number;
}

static bool value_is_whole(const struct value *value)
{
    for (int i = 1; i < WORDS; i++)
        if (value->words[i] != value->words[0])
            return false;
    return true;
}

static int cell_set(struct naru_endpoint *writer, uint32_t number)
{
    struct value value;

    value_fill(&value, number);
    return naru_send(writer, &value, sizeof value, 0);
}

/* The number of the value that is there, which is whole; or what the call said. */
static int64_t cell_get(struct naru_endpoint *reader, int64_t timeout_ns)
{
    struct value value;
    size_t size_bytes = 0;
    int result = naru_recv(reader, &value, sizeof value, &size_bytes, timeout_ns);

    if (result < 0)
        return result;
    if (size_bytes != sizeof value || !value_is_whole(&value))
        return -EILSEQ;
    return value.words[0];
}

static void test_newest_value(void **state)
{
    struct value value;
    struct naru_message message = {.data = &value, .capacity_bytes = sizeof value};

    (void)state;
    struct naru_endpoint *reader = cell_open(NARU_RECEIVER), *writer = cell_open(NARU_SENDER);
    assert_int_equal(cell_get(reader, 0), -EAGAIN);
    assert_text_has("newer");
    for (uint32_t i = 1; i <= 9; i++)
        assert_int_equal(cell_set(writer, i), 0);
    assert_int_equal(naru_recv_many(reader, &message, 1, 0), 1);
    assert_int_equal(value.words[0], 9);
    assert_int_equal(message.sequence, 9);
    assert_int_equal(message.lost, 0); /* what was replaced is no loss */
    assert_int_equal(message.sender_pid, getpid());
    assert_int_equal(cell_get(reader, 0), -EAGAIN);
    assert_int_equal(cell_get(reader, NARU_MILLISECOND), -ETIMEDOUT);
    struct naru_endpoint *later = cell_open(NARU_RECEIVER); /* it stays, for whoever comes */
    assert_int_equal(cell_get(later, 0), 9);
    naru_close(writer);
    assert_int_equal(cell_get(later, 0), -EAGAIN);
    assert_int_equal(cell_set(writer = cell_open(NARU_SENDER), 10), 0);
    assert_int_equal(cell_get(reader, 0), 10);
    assert_int_equal(cell_get(later, 0), 10);
    naru_close(later);
    naru_close(reader);
    naru_close(writer);
}

static void test_loan_and_take(void **state)
{
    struct naru_message loan, second, taken;

    (void)state;
    struct naru_endpoint *both = cell_open(NARU_BOTH), *reader = cell_open(NARU_RECEIVER);
    assert_int_equal(cell_set(both, 1), 0);
    assert_int_equal(naru_loan(both, sizeof(struct value), &loan, 0), 0);
    memset(loan.data, 0xff, sizeof(struct value));
    assert_int_equal(naru_loan(both, 8, &second, 0), -EBUSY);
    assert_int_equal(cell_set(both, 2), -EBUSY);
    assert_text_has("loan");
    assert_int_equal(cell_get(reader, 0), 1); /* what is being written is not seen */
    assert_int_equal(naru_cancel(both, &loan), 0);
    assert_int_equal(cell_get(reader, 0), -EAGAIN);
    assert_int_equal(naru_loan(both, sizeof(struct value), &loan, 0), 0);
    value_fill(loan.data, 3);
    assert_int_equal(naru_commit(both, &loan), 0);
    assert_int_equal(naru_take(reader, &taken, 0), 0);
    for (uint32_t i = 4; i < 20; i++) /* what is taken is the taker's */
        assert_int_equal(cell_set(both, i), 0);
    assert_true(value_is_whole(taken.data));
    assert_int_equal(((struct value *)taken.data)->words[0], 3);
    assert_int_equal(naru_ack(reader, &taken), 0);
    assert_int_equal(cell_get(reader, 0), 19);
    assert_int_equal(cell_get(both, 0), 19);
    naru_close(reader);
    naru_close(both);
}

static void test_refusals(void **state)
{
    struct naru_options options = cell_options;
    struct naru_endpoint *endpoint = NULL, *pair[2];

    (void)state;
    options.when_full = NARU_FAIL;
    assert_int_equal(naru_open(&endpoint, uri, NARU_SENDER, &options), -EOPNOTSUPP);
    assert_text_has("when_full");
    options = cell_options;
    options.capacity_messages = 2;
    assert_int_equal(naru_open(&endpoint, uri, NARU_SENDER, &options), -EINVAL);
    assert_text_has("capacity_messages");
    options = cell_options;
    options.one_to_one = 1;
    assert_int_equal(naru_open(&endpoint, uri, NARU_SENDER, &options), -EOPNOTSUPP);
    options = cell_options;
    options.start = NARU_FROM_OLDEST;
    assert_int_equal(naru_open(&endpoint, uri, NARU_RECEIVER, &options), -EOPNOTSUPP);
    assert_text_has("start");
    assert_int_equal(naru_pair(pair, "shm://", &cell_options), -EOPNOTSUPP);
    naru_unlink(uri);
    endpoint = cell_open(NARU_SENDER);
    struct naru_endpoint *second = NULL;
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    assert_int_equal(naru_open(&second, uri, NARU_SENDER, &cell_options), -EBUSY);
    assert_text_has(pid);
    assert_int_equal(naru_open(&second, uri, NARU_BOTH, &cell_options), -EBUSY);
    naru_close(endpoint);
    naru_close(cell_open(NARU_BOTH)); /* its place is free */
}

/* -- deaths ------------------------------------------------------------------------------------- */

static void write_for_ever(void *context)
{
    struct naru_endpoint *writer = NULL;
    struct naru_message loan;

    (void)context;
    child_check(naru_open(&writer, uri, NARU_SENDER, &cell_options) == 0);
    for (uint32_t i = 1;; i++) {
        if (i % 2) {
            child_check(cell_set(writer, i) == 0);
            continue;
        }
        child_check(naru_loan(writer, sizeof(struct value), &loan, 0) == 0);
        value_fill(loan.data, i);
        child_check(naru_commit(writer, &loan) == 0);
    }
}

/* A writer is killed anywhere; readers never see a mixed value, and the next writer takes over. */
static void test_writers_are_killed(void **state)
{
    uint64_t version = 0;

    (void)state;
    struct naru_endpoint *reader = cell_open(NARU_RECEIVER);
    for (int round = 0; round < 60; round++) {
        struct value value;
        struct naru_message message = {.data = &value, .capacity_bytes = sizeof value};
        pid_t pid = child_start(write_for_ever, NULL);
        for (int i = 0; i < 20; i++) {
            assert_int_equal(naru_recv_many(reader, &message, 1, 5 * NARU_SECOND), 1);
            assert_true(value_is_whole(&value));
            assert_true(message.sequence > version);
            version = message.sequence;
        }
        usleep((useconds_t)(round * 37 % 500));
        kill(pid, SIGKILL);
        assert_true(WIFSIGNALED(child_end(pid)));
        struct naru_endpoint *later = cell_open(NARU_RECEIVER); /* the last whole value */
        assert_true(cell_get(later, 0) > 0);
        naru_close(later);
    }
    naru_close(reader);
    struct naru_endpoint *writer = cell_open(NARU_SENDER);
    assert_int_equal(cell_set(writer, 4711), 0);
    reader = cell_open(NARU_RECEIVER);
    assert_int_equal(cell_get(reader, 0), 4711);
    naru_close(reader);
    naru_close(writer);
}

/* -- who can only read -------------------------------------------------------------------------- */

static void read_as_another_user(void *context)
{
    struct naru_options options = cell_options;
    struct naru_endpoint *reader = NULL;
    int *go = context;

    place_become_another_user();
    child_check(naru_open(&reader, uri, NARU_RECEIVER, &options) == -EACCES || geteuid() == 0);
    options.read_only = 1;
    child_check(naru_open(&reader, uri, NARU_RECEIVER, &options) == 0);
    child_check(cell_get(reader, 0) == 1);
    struct pollfd ready = {.fd = naru_fd(reader), .events = POLLIN};
    child_check(cell_get(reader, 0) == -EAGAIN);
    __atomic_store_n(&go[0], 1, __ATOMIC_SEQ_CST);
    child_check(cell_get(reader, 10 * NARU_SECOND) == 2); /* asleep: nobody can see that */
    child_check(cell_get(reader, 0) == -EAGAIN);
    __atomic_store_n(&go[0], 2, __ATOMIC_SEQ_CST);
    child_check(poll(&ready, 1, 10000) == 1);
    child_check(cell_get(reader, 0) == 3);
    __atomic_store_n(&go[1], (int)clock_ms(), __ATOMIC_SEQ_CST);
    naru_close(reader);
}

static void test_read_only(void **state)
{
    struct naru_options options = cell_options;
    int *go = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct naru_endpoint *writer = NULL, *reader = NULL;

    (void)state;
    options.read_only = 1;
    assert_int_equal(naru_open(&reader, uri, NARU_RECEIVER, &options), -ENOENT);
    options.read_only = 0;
    options.file_mode = 0644;
    assert_int_equal(naru_open(&writer, uri, NARU_SENDER, &options), 0);
    assert_int_equal(cell_set(writer, 1), 0);
    pid_t pid = child_start(read_as_another_user, go);
    for (int step = 1; step <= 2; step++) {
        while (__atomic_load_n(&go[0], __ATOMIC_SEQ_CST) < step)
            sleep_ms(1);
        sleep_ms(100); /* it sleeps by now */
        assert_int_equal(cell_set(writer, (uint32_t)step + 1), 0);
    }
    int wrote_ms = (int)clock_ms();
    assert_int_equal(child_end(pid), 0);
    assert_true(go[1] - wrote_ms < 1000);
    struct naru_stat stat = {.size_bytes = sizeof stat};
    assert_int_equal(naru_stat(writer, &stat), 0);
    assert_int_equal(stat.peers, 0);
    naru_close(writer);
    munmap(go, 4096);
}

/* What is put back makes the descriptor readable, and is over once it is received. */
static void test_read_only_puts_back(void **state)
{
    struct naru_options options = cell_options;
    struct naru_endpoint *writer = NULL, *reader = NULL;
    struct naru_message message;

    (void)state;
    options.read_only = 1;
    assert_int_equal(naru_open(&writer, uri, NARU_SENDER, &options), 0);
    assert_int_equal(naru_open(&reader, uri, NARU_RECEIVER, &options), 0);
    struct pollfd ready = {.fd = naru_fd(reader), .events = POLLIN};
    assert_int_equal(cell_set(writer, 5), 0);
    assert_int_equal(naru_take(reader, &message, 0), 0);
    assert_int_equal(cell_get(reader, 0), -EAGAIN);
    assert_int_equal(poll(&ready, 1, 20), 0);
    assert_int_equal(naru_requeue(reader, &message), 0);
    assert_int_equal(poll(&ready, 1, 0), 1);
    assert_int_equal(cell_get(reader, 0), 5);
    assert_int_equal(cell_get(reader, 0), -EAGAIN);
    assert_int_equal(poll(&ready, 1, 20), 0);
    assert_int_equal(cell_set(writer, 6), 0);
    assert_int_equal(poll(&ready, 1, 5000), 1);
    assert_int_equal(cell_get(reader, 0), 6);
    naru_close(reader);
    naru_close(writer);
}

/* Nobody would wake it, so it is refused; unless the creator says that such will come. */
static void test_read_only_must_be_declared(void **state)
{
    struct naru_options options = cell_options;
    struct naru_endpoint *writer = cell_open(NARU_SENDER), *reader = NULL;

    (void)state;
    options.read_only = 1;
    assert_int_equal(naru_open(&reader, uri, NARU_RECEIVER, &options), -EOPNOTSUPP);
    assert_text_has("read_only");
    naru_close(writer);
    assert_int_equal(naru_unlink(uri), 0);
    assert_int_equal(naru_open(&writer, uri, NARU_SENDER, &options), 0);
    assert_int_equal(naru_open(&reader, uri, NARU_RECEIVER, &options), 0);
    assert_int_equal(cell_set(writer, 5), 0);
    assert_int_equal(cell_get(reader, 0), 5);
    struct naru_stat stat = {.size_bytes = sizeof stat};
    assert_int_equal(naru_stat(reader, &stat), 0);
    assert_int_equal(stat.peers, 1);
    naru_close(reader);
    naru_close(writer);
    options.pattern = NARU_QUEUE;
    assert_int_equal(naru_unlink(uri), 0);
    assert_int_equal(naru_open(&writer, uri, NARU_SENDER, &options), -EOPNOTSUPP);
    assert_text_has("read_only");
}

#define test_case(name) cmocka_unit_test_setup_teardown(name, test_setup, test_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_case(test_newest_value),
        test_case(test_loan_and_take),
        test_case(test_refusals),
        test_case(test_writers_are_killed),
        test_case(test_read_only),
        test_case(test_read_only_puts_back),
        test_case(test_read_only_must_be_declared),
    };

    return cmocka_run_group_tests_name("cell", tests, NULL, NULL);
}
