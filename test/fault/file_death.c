/* SPDX-License-Identifier: MIT */
/*
 * file_death -- file://: writers killed at random and after every few instructions, many writers and receivers
 *
 * A victim is stepped by ptrace through one send, and killed after k instructions, for k over the whole send.
 * Meanwhile a receiver sleeps. If the record was committed it must come, without anybody's help; the next
 * writer must go on; nothing may come twice or torn.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include "place.h"
#include <dirent.h>
#include <errno.h>
#include <naru/endpoint.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>

enum {
    TEST_ROUNDS = 50,
    TEST_WRITERS = 4,
    TEST_RECEIVERS = 4,
    TEST_MESSAGES = 400,
    TEST_POINTS = 120,          /* where a victim is killed in one send ... */
    TEST_POINTS_SANITIZED = 8, /* ... which has many more instructions then */
    TEST_STRIDE = 7,
    TEST_SIZE_MAX = 20000,
    TEST_MARKER = 999, /* the next writer's number */
    TEST_VICTIM =
        1000, /* the first victim's number; they send little, so that a send is few instructions */
};

struct test_message {
    uint32_t writer, number;
    unsigned char rest[TEST_SIZE_MAX];
};

struct test_shared {
    uint32_t acknowledged[2]; /* by the writers of a round: sends that returned 0 */
    uint32_t received;        /* by the receiver that sleeps */
    uint32_t latest_writer;   /* of what it received last */
    uint32_t seen[TEST_WRITERS][TEST_MESSAGES];
};

static char test_uri[160];
static struct test_shared *test_shared;

static int test_setup(void **state)
{
    (void)state;
    alarm(100);
    place_make();
    snprintf(test_uri, sizeof test_uri, "file://%s/journal", place_directory);
    test_shared =
        mmap(NULL, sizeof *test_shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(test_shared != MAP_FAILED);
    return 0;
}

static int test_teardown(void **state)
{
    (void)state;
    munmap(test_shared, sizeof *test_shared);
    place_remove();
    return 0;
}

static struct naru_endpoint *test_open(enum naru_role role)
{
    struct naru_endpoint *endpoint = NULL;

    if (naru_open(&endpoint, test_uri, role, NULL) < 0)
        fail_msg("%s", naru_error_text());
    return endpoint;
}

static uint32_t test_get(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static void test_add(uint32_t *word)
{
    __atomic_fetch_add(word, 1, __ATOMIC_SEQ_CST);
}

/* A size and contents that the numbers determine. */
static size_t test_fill(struct test_message *message, uint32_t writer, uint32_t number)
{
    size_t rest = writer == TEST_MARKER ? 0
                  : writer >= TEST_VICTIM
                      ? writer % 13
                      : (size_t)(writer * 7919u + number * 104729u) % TEST_SIZE_MAX;

    message->writer = writer;
    message->number = number;
    for (size_t i = 0; i < rest; i++)
        message->rest[i] = (unsigned char)(writer + number + i);
    return offsetof(struct test_message, rest) + rest;
}

static bool test_is_whole(const struct test_message *message, size_t size)
{
    static __thread struct test_message expected;

    return size == test_fill(&expected, message->writer, message->number) &&
           memcmp(&expected, message, size) == 0;
}

/* -- killed at random ----------------------------------------------------------------------- */

static void test_write_on(void *context)
{
    static struct test_message message;
    struct naru_endpoint *sender = NULL;
    unsigned writer = *(unsigned *)context;

    child_check(naru_open(&sender, test_uri, NARU_SENDER, NULL) == 0);
    for (uint32_t number = 0;; number++) {
        size_t size = test_fill(&message, writer, number);
        child_check(naru_send(sender, &message, size, 10 * NARU_SECOND) == 0);
        test_add(&test_shared->acknowledged[writer & 1]);
    }
}

static void test_killed_at_random(void **state)
{
    static struct test_message message;
    unsigned kills = 0;
    size_t size;

    (void)state;
    struct naru_endpoint *receiver = test_open(NARU_RECEIVER);
    for (unsigned round = 0; round < TEST_ROUNDS; round++) {
        uint32_t next[2] = {0, 0};
        pid_t pids[2];
        test_shared->acknowledged[0] = test_shared->acknowledged[1] = 0;
        for (unsigned i = 0; i < 2; i++) {
            unsigned writer = round * 2 + i;
            pids[i] = child_start(test_write_on, &writer);
        }
        int64_t until = clock_ms() + 2 + round % 17;
        for (;;) {
            int result = naru_recv(receiver, &message, sizeof message, &size, NARU_MILLISECOND);
            if (result == 0) {
                assert_true(test_is_whole(&message, size));
                assert_int_equal(message.writer / 2, round);
                assert_int_equal(message.number, next[message.writer & 1]++);
            } else {
                assert_true(result == -ETIMEDOUT);
            }
            if (pids[0] && clock_ms() >= until) {
                for (unsigned i = 0; i < 2; i++) {
                    kill(pids[i], SIGKILL);
                    assert_true(WIFSIGNALED(child_end(pids[i])));
                    kills++;
                }
                pids[0] = 0;
            } else if (!pids[0] && result < 0) {
                break;
            }
        }
        for (unsigned i = 0; i < 2; i++)
            assert_in_range(next[i] - test_get(&test_shared->acknowledged[i]), 0, 1);
    }
    assert_int_equal(kills, 2 * TEST_ROUNDS);
    naru_close(receiver);
}

/* -- killed after every few instructions ----------------------------------------------------- */

enum test_way { TEST_BLOCKING, TEST_POLLING };

static void test_note(const struct test_message *message, size_t size)
{
    if (size == 0)
        return; /* from who tried whether it is in the way */
    child_check(test_is_whole(message, size));
    test_add(&test_shared->received);
    __atomic_store_n(&test_shared->latest_writer, message->writer, __ATOMIC_SEQ_CST);
}

static void test_sleep_and_receive(void *context)
{
    static struct test_message message;
    enum test_way way = *(enum test_way *)context;
    struct naru_endpoint *receiver = NULL;
    size_t size;

    alarm(90);
    child_check(naru_open(&receiver, test_uri, NARU_RECEIVER, NULL) == 0);
    struct pollfd ready = {.fd = way == TEST_POLLING ? naru_fd(receiver) : -1, .events = POLLIN};
    test_add(&test_shared->received); /* it is there */
    for (;;) {
        int result = naru_recv(receiver, &message, sizeof message, &size,
                               way == TEST_POLLING ? 0 : NARU_FOREVER);
        if (result == 0)
            test_note(&message, size);
        else if (result == -EAGAIN)
            child_check(poll(&ready, 1, -1) == 1);
        else
            child_check(false);
    }
}

/* Until the process sleeps. */
static void test_await_sleep(pid_t pid)
{
    char path[64], text[256];

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    for (int i = 0; i < 2000; i++) {
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        assert_non_null(fgets(text, sizeof text, file));
        fclose(file);
        const char *after = strrchr(text, ')');
        if (after && after[2] == 'S')
            return;
        sleep_ms(1);
    }
    fail_msg("process %d does not come to rest", (int)pid);
}

static void test_await_received(uint32_t count)
{
    for (int i = 0; i < 2000 && test_get(&test_shared->received) < count; i++)
        sleep_ms(1);
    assert_int_equal(test_get(&test_shared->received), count);
}

/* The victim: stops, sends, and stops again. */
static void test_victim(void *context)
{
    static struct test_message message;
    struct naru_endpoint *sender = NULL;
    size_t size = test_fill(&message, *(unsigned *)context, 1);

    child_check(naru_open(&sender, test_uri, NARU_SENDER, NULL) == 0);
    child_check(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
    raise(SIGSTOP);
    child_check(naru_send(sender, &message, size, 10 * NARU_SECOND) == 0);
    raise(SIGSTOP);
}

static void test_victim_that_opens(void *context)
{
    struct naru_endpoint *receiver = NULL;

    (void)context;
    child_check(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
    raise(SIGSTOP);
    child_check(naru_open(&receiver, test_uri, NARU_RECEIVER, NULL) == 0);
    raise(SIGSTOP);
}

static pid_t test_victim_start_as(void (*run)(void *), unsigned writer)
{
    int status;
    pid_t pid = child_start(run, &writer);

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    return pid;
}

static pid_t test_victim_start(unsigned writer)
{
    return test_victim_start_as(test_victim, writer);
}

/* Steps until `steps` are made or the victim is done and stops again; how many were made. */
static long test_victim_step_by(enum __ptrace_request unit, pid_t pid, long steps)
{
    int status;

    for (long made = 0; made < steps; made++) {
        assert_int_equal(ptrace(unit, pid, NULL, NULL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSTOPPED(status));
        if (WSTOPSIG(status) == SIGSTOP)
            return made;
        assert_int_equal(WSTOPSIG(status), SIGTRAP);
    }
    return steps;
}

static long test_victim_step(pid_t pid, long instructions)
{
    return test_victim_step_by(PTRACE_SINGLESTEP, pid, instructions);
}

static void test_victim_kill(pid_t pid)
{
    int status;

    kill(pid, SIGKILL);
    do
        assert_int_equal(waitpid(pid, &status, 0), pid);
    while (WIFSTOPPED(status));
    assert_true(WIFSIGNALED(status));
}

/* Nothing stands after the tail, which the control page begins with. */
static void test_ends_at_tail(void)
{
    struct stat status;
    uint64_t tail;

    int fd = open(test_uri + strlen("file://"), O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &tail, sizeof tail, 4096), sizeof tail);
    assert_int_equal(fstat(fd, &status), 0);
    close(fd);
    assert_int_equal(tail & ~(uint64_t)7, status.st_size);
}

/* All that is committed comes without anyone's help; then the next writer's message. Whether the victim's came. */
static bool test_goes_on(struct naru_endpoint *sender, uint32_t *received, unsigned victim)
{
    static struct test_message message;
    struct naru_stat stat = {.size_bytes = sizeof stat};
    bool came;

    for (int i = 0; i < 2000; i++) {
        assert_int_equal(naru_stat(sender, &stat), 0);
        if (stat.queued_messages == 0)
            break;
        sleep_ms(1);
    }
    assert_int_equal(stat.queued_messages, 0);
    size_t size = test_fill(&message, TEST_MARKER, victim);
    if (naru_send(sender, &message, size, 5 * NARU_SECOND) < 0)
        fail_msg("after victim %u: %s", victim, naru_error_text());
    for (int i = 0; i < 2000 && test_get(&test_shared->latest_writer) != TEST_MARKER; i++)
        sleep_ms(1);
    assert_int_equal(test_get(&test_shared->latest_writer), TEST_MARKER);
    test_ends_at_tail();
    came = test_get(&test_shared->received) == *received + 2;
    *received += 1 + came;
    assert_int_equal(test_get(&test_shared->received), *received);
    __atomic_store_n(&test_shared->latest_writer, 0, __ATOMIC_SEQ_CST);
    return came;
}

/* The same when two victims may have left up to two records. */
static void test_goes_on_from(struct naru_endpoint *sender, uint32_t *received, uint32_t before,
                              unsigned victim)
{
    static struct test_message message;
    size_t size = test_fill(&message, TEST_MARKER, victim);

    if (naru_send(sender, &message, size, 5 * NARU_SECOND) < 0)
        fail_msg("after victim %u: %s", victim, naru_error_text());
    for (int i = 0; i < 2000 && test_get(&test_shared->latest_writer) != TEST_MARKER; i++)
        sleep_ms(1);
    assert_int_equal(test_get(&test_shared->latest_writer), TEST_MARKER);
    test_ends_at_tail();
    *received = test_get(&test_shared->received);
    assert_in_range(*received - before, 1, 3);
    __atomic_store_n(&test_shared->latest_writer, 0, __ATOMIC_SEQ_CST);
}

/* Between one kill and the next. */
static long test_stride(long total)
{
    long points = getenv("NARU_SANITIZED") ? TEST_POINTS_SANITIZED : TEST_POINTS;

    return total / points > TEST_STRIDE ? total / points : TEST_STRIDE;
}

static void test_each_instruction(enum test_way way)
{
    uint32_t received = 1;
    unsigned victims = TEST_VICTIM, came = 0, busy = 0;

    struct naru_endpoint *sender = test_open(NARU_SENDER);
    pid_t receiver = child_start(test_sleep_and_receive, &way);
    test_await_received(received);
    pid_t pid = test_victim_start(victims++);
    long total = test_victim_step(pid, 1000000);
    test_victim_kill(pid);
    assert_true(test_goes_on(sender, &received, victims));
    long stride = test_stride(total);
    for (long steps = 0; steps <= total; steps += stride) {
        unsigned victim = victims++;
        test_await_sleep(receiver);
        pid = test_victim_start(victim);
        test_await_sleep(receiver);
        test_victim_step(pid, steps);
        if (victim % 4 == 0) { /* while it stands there, others wait in vain, or not at all */
            int result = naru_send(sender, NULL, 0, 0);
            assert_true(result == 0 || result == -EAGAIN);
            if (result == -EAGAIN) {
                char text[32];
                snprintf(text, sizeof text, "process %d ", (int)pid);
                assert_text_has(text);
                assert_int_equal(naru_send(sender, NULL, 0, 20 * NARU_MILLISECOND), -ETIMEDOUT);
                assert_text_has(text);
            }
            busy += result < 0;
        }
        test_victim_kill(pid);
        came += test_goes_on(sender, &received, victim);
    }
    printf("# %ld instructions, killed after every %ld of them, %u of %u came, %u in the way\n",
           total, stride, came, victims - TEST_VICTIM - 1, busy);
    assert_true(busy > 0 || getenv("NARU_SANITIZED"));
    assert_true(came > 0 && came < victims - TEST_VICTIM - 1);
    kill(receiver, SIGKILL);
    child_end(receiver);
    naru_close(sender);
}

/* The writer that is killed is just repairing what one killed before it has left: with the lock, and with a
   record that is whole, torn or absent. */
static void test_repairer_killed(void **state)
{
    enum test_way way = TEST_BLOCKING;
    uint32_t received = 1;
    unsigned victims = TEST_VICTIM, pairs = 0;

    (void)state;
    struct naru_endpoint *sender = test_open(NARU_SENDER);
    pid_t receiver = child_start(test_sleep_and_receive, &way);
    test_await_received(received);
    pid_t pid = test_victim_start(victims++);
    long total = test_victim_step(pid, 1000000);
    test_victim_kill(pid);
    test_goes_on(sender, &received, victims);
    kill(receiver, SIGSTOP); /* it would repair, too */
    for (long steps = total / 2; steps < total; steps += (test_stride(total) + 1) / 2) {
        pid_t second = test_victim_start(victims++);
        pid = test_victim_start(victims++);
        test_victim_step(pid, steps);
        bool has_lock = naru_send(sender, NULL, 0, 0) == -EAGAIN;
        test_victim_kill(pid);
        if (has_lock) {
            test_victim_step(second, 40 + pairs++ * 137 % 3000);
        }
        test_victim_kill(second);
        uint32_t before = test_get(&test_shared->received);
        kill(receiver, SIGCONT);
        if (naru_send(sender, NULL, 0, 5 * NARU_SECOND) < 0)
            fail_msg("steps %ld: %s", steps, naru_error_text());
        test_goes_on_from(sender, &received, before, victims);
        kill(receiver, SIGSTOP);
    }
    printf("# %u pairs of a writer killed with the lock and a killed repairer\n", pairs);
    assert_true(pairs > 2);
    kill(receiver, SIGKILL);
    child_end(receiver);
    naru_close(sender);
}

static void test_each_instruction_blocking(void **state)
{
    (void)state;
    test_each_instruction(TEST_BLOCKING);
}

static void test_each_instruction_polling(void **state)
{
    (void)state;
    test_each_instruction(TEST_POLLING);
}

/* -- killed while it opens ------------------------------------------------------------------- */

static unsigned test_count_files(void)
{
    unsigned count = 0;
    DIR *directory = opendir(place_directory);

    assert_non_null(directory);
    for (struct dirent *entry; (entry = readdir(directory));)
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

/* Opens it once more and uses it, whatever the victim has left. */
static void test_opens(bool has_message)
{
    struct naru_endpoint *both = test_open(NARU_BOTH);
    char data[8];

    if (!has_message)
        assert_int_equal(naru_send(both, "x", 1, 0), 0);
    assert_int_equal(naru_recv(both, data, sizeof data, NULL, 0), 0);
    assert_int_equal(naru_recv(both, data, sizeof data, NULL, 0), -EAGAIN);
    naru_close(both);
}

/* Before and after each system call of an open that creates, or attaches to a journal with a message: nothing
   is left half done. */
static void test_killed_opening(void **state)
{
    unsigned made = 0, points = 0;

    (void)state;
    if (getenv("NARU_SANITIZED")) {
        print_message("SKIP: the sanitizer's own system calls outnumber the journal's\n");
        skip();
    }
    for (int is_there = 0; is_there < 2; is_there++) {
        bool is_done = false;
        for (long stops = 0; !is_done; stops++, points++) {
            if (is_there) {
                struct naru_endpoint *sender = test_open(NARU_SENDER);
                assert_int_equal(naru_send(sender, "x", 1, 0), 0);
                naru_close(sender);
            }
            pid_t pid = test_victim_start_as(test_victim_that_opens, 0);
            is_done = test_victim_step_by(PTRACE_SYSCALL, pid, stops) < stops;
            test_victim_kill(pid);
            assert_in_range(test_count_files(), is_there, 1);
            made += test_count_files();
            test_opens(is_there);
            assert_int_equal(naru_unlink(test_uri), 0);
        }
    }
    printf("# killed at %u system calls, %u journals were there\n", points, made);
    assert_true(made > 0 && made < points && points > 40);
}

/* -- the receiver is killed ------------------------------------------------------------------- */

/* Takes and acknowledges until it is killed, or has the last one. */
static void test_take_on(void *context)
{
    struct naru_endpoint *receiver = NULL;
    struct naru_message taken;
    uint32_t number = 0;
    int result;

    (void)context;
    do /* the one before it is dead: that takes a moment to be true */
        result = naru_open(&receiver, test_uri, NARU_RECEIVER, NULL);
    while (result == -EBUSY);
    child_check(result == 0);
    while (number != TEST_MESSAGES - 1) {
        child_check(naru_take(receiver, &taken, NARU_FOREVER) == 0);
        memcpy(&number, taken.data, sizeof number);
        child_check(number < TEST_MESSAGES && taken.sequence == number + 1);
        uint32_t before = __atomic_fetch_add(&test_shared->seen[0][number], 1, __ATOMIC_SEQ_CST);
        if (before) /* a repeat says so */
            child_check((taken.flags & NARU_REDELIVERED) && taken.deliveries > before);
        sched_yield();
        child_check(naru_ack(receiver, &taken) == 0);
    }
    naru_close(receiver);
}

static void test_receivers_killed(void **state)
{
    struct naru_options options = {.size_bytes = sizeof options, .delivery = NARU_AT_LEAST_ONCE};
    struct naru_endpoint *sender = NULL;
    unsigned kills = 0, repeats = 0;
    uint32_t sent = 0;
    int status;

    (void)state;
    assert_int_equal(naru_open(&sender, test_uri, NARU_SENDER, &options), 0);
    do {
        pid_t pid = child_start(test_take_on, NULL);
        uint32_t until = sent + 10 < TEST_MESSAGES ? sent + 10 : TEST_MESSAGES;
        for (; sent < until; sent++)
            assert_int_equal(naru_send(sender, &sent, sizeof sent, 0), 0);
        for (int i = 0; i < 2000 && test_get(&test_shared->seen[0][sent - 7]) == 0; i++)
            sched_yield();
        if (sent < TEST_MESSAGES)
            kill(pid, SIGKILL);
        status = child_end(pid);
        kills += WIFSIGNALED(status);
        assert_true(WIFSIGNALED(status) || status == 0);
    } while (status != 0);
    for (unsigned i = 0; i < TEST_MESSAGES; i++) {
        assert_true(test_shared->seen[0][i] >= 1);
        repeats += test_shared->seen[0][i] - 1;
    }
    printf("# %u receivers killed, %u messages came again\n", kills, repeats);
    assert_int_equal(kills, TEST_MESSAGES / 10 - 1);
    naru_close(sender);
}

/* -- many to many --------------------------------------------------------------------------- */

static void test_write_all(void *context)
{
    static struct test_message message;
    struct naru_endpoint *sender = NULL;

    child_check(naru_open(&sender, test_uri, NARU_SENDER, NULL) == 0);
    for (uint32_t number = 0; number < TEST_MESSAGES; number++) {
        size_t size = test_fill(&message, *(unsigned *)context, number);
        child_check(naru_send(sender, &message, size, NARU_FOREVER) == 0);
    }
    naru_close(sender);
}

static void test_read_all(void *context)
{
    static struct test_message message;
    struct naru_endpoint *receiver = NULL;
    int64_t last[TEST_WRITERS] = {-1, -1, -1, -1};
    size_t size;

    (void)context;
    child_check(naru_open(&receiver, test_uri, NARU_RECEIVER, NULL) == 0);
    for (;;) {
        child_check(naru_recv(receiver, &message, sizeof message, &size, NARU_FOREVER) == 0);
        if (size == 0)
            break;
        child_check(test_is_whole(&message, size) && message.writer < TEST_WRITERS);
        child_check((int64_t)message.number > last[message.writer]); /* in each writer's order */
        last[message.writer] = message.number;
        test_add(&test_shared->seen[message.writer][message.number]);
    }
    naru_close(receiver);
}

static void test_many_to_many(void **state)
{
    pid_t writers[TEST_WRITERS], receivers[TEST_RECEIVERS];

    (void)state;
    struct naru_endpoint *sender = test_open(NARU_SENDER);
    for (unsigned i = 0; i < TEST_RECEIVERS; i++)
        receivers[i] = child_start(test_read_all, NULL);
    for (unsigned i = 0; i < TEST_WRITERS; i++)
        writers[i] = child_start(test_write_all, &i);
    for (unsigned i = 0; i < TEST_WRITERS; i++)
        assert_int_equal(child_end(writers[i]), 0);
    for (unsigned i = 0; i < TEST_RECEIVERS; i++)
        assert_int_equal(naru_send(sender, NULL, 0, NARU_FOREVER), 0);
    for (unsigned i = 0; i < TEST_RECEIVERS; i++)
        assert_int_equal(child_end(receivers[i]), 0);
    for (unsigned i = 0; i < TEST_WRITERS; i++)
        for (unsigned j = 0; j < TEST_MESSAGES; j++)
            assert_int_equal(test_shared->seen[i][j], 1);
    naru_close(sender);
}

static struct naru_endpoint *test_both;

static void *test_thread(void *context)
{
    struct test_message *message = malloc(sizeof *message);
    size_t size;

    assert_non_null(message);
    for (uint32_t number = 0; number < TEST_MESSAGES / 4; number++) {
        size = test_fill(message, *(unsigned *)context, number);
        if (naru_send(test_both, message, size, NARU_FOREVER) < 0 ||
            naru_recv(test_both, message, sizeof *message, &size, NARU_FOREVER) < 0 ||
            !test_is_whole(message, size))
            abort();
        test_add(&test_shared->seen[message->writer][message->number]);
    }
    free(message);
    return NULL;
}

static void test_threads(void **state)
{
    unsigned numbers[TEST_WRITERS];
    pthread_t threads[TEST_WRITERS];

    (void)state;
    test_both = test_open(NARU_BOTH);
    for (unsigned i = 0; i < TEST_WRITERS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, test_thread, &numbers[i]), 0);
    }
    for (unsigned i = 0; i < TEST_WRITERS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < TEST_WRITERS; i++)
        for (unsigned j = 0; j < TEST_MESSAGES / 4; j++)
            assert_int_equal(test_shared->seen[i][j], 1);
    naru_close(test_both);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, test_setup, test_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_killed_at_random),
        TEST(test_each_instruction_blocking),
        TEST(test_each_instruction_polling),
        TEST(test_repairer_killed),
        TEST(test_killed_opening),
        TEST(test_receivers_killed),
        TEST(test_many_to_many),
        TEST(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
