/* SPDX-License-Identifier: MIT */
/* topic -- shm:// to every subscriber: contracts, late joiners, losses that are told, and processes that die or stop */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include "kit.h"
#include "place.h"
#include <errno.h>
#include <naru/endpoint.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/ptrace.h>

static char uri[144];

static int test_setup(void **state)
{
    (void)state;
    alarm(50);
    place_make();
    snprintf(uri, sizeof uri, "shm://%s/topic", place_directory);
    return 0;
}

static int test_teardown(void **state)
{
    (void)state;
    place_remove();
    return 0;
}

static struct naru_options tiny(enum naru_when_full when_full)
{
    return (struct naru_options){
        .size_bytes = sizeof(struct naru_options),
        .pattern = NARU_TOPIC,
        .when_full = when_full,
        .message_size_max_bytes = 2000,
        .capacity_messages = 4,
    };
}

static struct naru_endpoint *topic_open(enum naru_role role, const struct naru_options *options)
{
    struct naru_endpoint *endpoint = NULL;

    if (naru_open(&endpoint, uri, role, options) < 0)
        fail_msg("%s", naru_error_text());
    return endpoint;
}

static struct naru_endpoint *topic_subscribe(struct naru_options options, enum naru_start start,
                                             uint32_t count)
{
    options.start = start;
    options.start_messages = count;
    return topic_open(NARU_RECEIVER, &options);
}

/* Small ones stand in a slot, those of odd numbers in a chunk. */
static size_t number_size(int number)
{
    return number % 2 ? 1500 : sizeof number;
}

static int send_number(struct naru_endpoint *endpoint, int number, int64_t timeout_ns)
{
    int words[500];

    for (int i = 0; i < 500; i++)
        words[i] = number;
    return naru_send(endpoint, words, number_size(number), timeout_ns);
}

/* The number that came, whole; or what the call said. *ret_lost: what was told as lost; NULL: the short way may be taken. */
static int recv_number(struct naru_endpoint *endpoint, int64_t timeout_ns, uint64_t *ret_lost)
{
    int words[500];
    struct naru_message message = {.data = words, .capacity_bytes = sizeof words};
    int result = ret_lost ? naru_recv_many(endpoint, &message, 1, timeout_ns)
                          : naru_recv(endpoint, words, sizeof words, &message.size_bytes, timeout_ns);

    if (result < 0)
        return result;
    if (ret_lost)
        *ret_lost = message.lost;
    if (message.size_bytes != number_size(words[0]))
        return -EILSEQ;
    for (size_t i = 0; i < message.size_bytes / sizeof words[0]; i++)
        if (words[i] != words[0])
            return -EILSEQ;
    return words[0];
}

static void expect_numbers(struct naru_endpoint *endpoint, int from, int to)
{
    for (int i = from; i <= to; i++)
        assert_int_equal(recv_number(endpoint, 0, NULL), i);
    assert_int_equal(recv_number(endpoint, 0, NULL), -EAGAIN);
}

/* -- contracts ---------------------------------------------------------------------------------- */

static void test_lossless(void **state)
{
    struct naru_options options = tiny(NARU_BLOCK);
    struct naru_endpoint *subscribers[3], *publisher = topic_open(NARU_SENDER, &options);
    char pid[16];

    (void)state;
    snprintf(pid, sizeof pid, "process %d", (int)getpid());
    for (int i = 0; i < 3; i++)
        subscribers[i] = topic_subscribe(options, NARU_FROM_NOW, 0);
    for (int round = 0; round < 20; round++) {
        int first = round * 4;
        for (int i = 0; i < 4; i++)
            assert_int_equal(send_number(publisher, first + i, 0), 0);
        assert_int_equal(send_number(publisher, -1, 0), -EAGAIN);
        expect_numbers(subscribers[0], first, first + 3);
        expect_numbers(subscribers[1], first, first + 3);
        assert_int_equal(send_number(publisher, -1, 1000),
                         -ETIMEDOUT); /* the third is in the way */
        assert_text_has("time-out");
        assert_text_has(pid);
        expect_numbers(subscribers[2], first, first + 3);
    }
    naru_close(subscribers[0]);
    for (int i = 0; i < 4; i++)
        assert_int_equal(send_number(publisher, i, 0), 0);
    assert_int_equal(send_number(publisher, -1, 0), -EAGAIN);
    naru_close(subscribers[1]); /* nobody waits for who has left */
    naru_close(subscribers[2]);
    for (int i = 0; i < 100; i++)
        assert_int_equal(send_number(publisher, i, 0), 0);
    naru_close(publisher);
}

static void test_fail_when_full(void **state)
{
    struct naru_options options = tiny(NARU_FAIL);
    struct naru_endpoint *both = topic_open(NARU_BOTH, &options);

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(send_number(both, i, NARU_FOREVER), 0);
    assert_int_equal(send_number(both, 4, NARU_FOREVER), -ENOBUFS);
    assert_text_has("full");
    expect_numbers(both, 0, 3);
    naru_close(both);
}

static void test_drop_newest_is_told(void **state)
{
    struct naru_options options = tiny(NARU_DROP_NEWEST);
    struct naru_endpoint *publisher = topic_open(NARU_SENDER, &options), *subscribers[2], *quick;
    struct naru_stat stat = {.size_bytes = sizeof stat};
    uint64_t lost = 0;

    (void)state;
    for (int i = 0; i < 2; i++)
        subscribers[i] = topic_subscribe(options, NARU_FROM_NOW, 0);
    quick = topic_subscribe(options, NARU_FROM_NOW, 0);
    for (int i = 0; i < 7; i++)
        assert_int_equal(send_number(publisher, i, NARU_FOREVER), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(recv_number(quick, 0, NULL), i);
        assert_int_equal(naru_stat(quick, &stat), 0);
        assert_int_equal(stat.lost_messages, 3);
    }
    for (int i = 0; i < 2; i++) { /* each is told once */
        assert_int_equal(recv_number(subscribers[i], 0, &lost), 0);
        assert_int_equal(lost, 3);
        assert_int_equal(recv_number(subscribers[i], 0, &lost), 1);
        assert_int_equal(lost, 0);
        expect_numbers(subscribers[i], 2, 3);
    }
    struct naru_endpoint *late = topic_subscribe(options, NARU_FROM_OLDEST, 0);
    assert_int_equal(recv_number(late, 0, &lost), 0);
    assert_int_equal(lost, 0); /* that was before its time */
    naru_close(late);
    naru_close(quick);
    naru_close(subscribers[0]);
    naru_close(subscribers[1]);
    naru_close(publisher);
}

static void test_overwrite_oldest_is_told(void **state)
{
    struct naru_options options = tiny(NARU_OVERWRITE_OLDEST);
    struct naru_endpoint *publisher = topic_open(NARU_SENDER, &options);
    struct naru_endpoint *slow = topic_subscribe(options, NARU_FROM_NOW, 0);
    struct naru_endpoint *fast = topic_subscribe(options, NARU_FROM_NOW, 0);
    struct naru_stat stat = {.size_bytes = sizeof stat};
    uint64_t lost = 0;

    (void)state;
    for (int i = 0; i < 7; i++) {
        assert_int_equal(send_number(publisher, i, 0), 0);
        assert_int_equal(recv_number(fast, 0, &lost), i);
        assert_int_equal(lost, 0);
    }
    assert_int_equal(naru_stat(slow, &stat), 0);
    assert_int_equal(stat.queued_messages, 4);
    assert_int_equal(recv_number(slow, 0, &lost), 3);
    assert_int_equal(lost, 3);
    for (int i = 7; i < 1000; i++)
        assert_int_equal(send_number(publisher, i, 0), 0);
    assert_int_equal(recv_number(slow, 0, &lost), 996);
    assert_int_equal(lost, 996 - 4);
    expect_numbers(slow, 997, 999);
    assert_int_equal(naru_stat(slow, &stat), 0);
    assert_int_equal(stat.lost_messages, 3 + 996 - 4);
    naru_close(slow);
    naru_close(fast);
    naru_close(publisher);
}

static void test_late_joiners(void **state)
{
    (void)state;
    for (int overwrites = 0; overwrites < 2; overwrites++) {
        struct naru_options options = tiny(overwrites ? NARU_OVERWRITE_OLDEST : NARU_BLOCK);
        struct naru_endpoint *publisher = topic_open(NARU_SENDER, &options);
        for (int sent = 0; sent < 30; sent++) {
            int kept = sent < 4 ? sent : 4;
            struct naru_endpoint *oldest = topic_subscribe(options, NARU_FROM_OLDEST, 0);
            expect_numbers(oldest, sent - kept, sent - 1);
            naru_close(oldest);
            for (int wanted = 1; wanted < 6; wanted++) {
                struct naru_endpoint *last =
                    topic_subscribe(options, NARU_FROM_LAST, (uint32_t)wanted);
                expect_numbers(last, sent - (wanted < kept ? wanted : kept), sent - 1);
                naru_close(last);
            }
            struct naru_endpoint *now = topic_subscribe(options, 0, 0);
            assert_int_equal(recv_number(now, 0, NULL), -EAGAIN);
            assert_int_equal(send_number(publisher, sent, 0), 0);
            assert_int_equal(recv_number(now, 0, NULL), sent);
            naru_close(now);
        }
        naru_close(publisher);
        assert_int_equal(naru_unlink(uri), 0);
    }
}

/* In place, several ahead, acknowledged in any order; room is made when the oldest is. */
static void test_takes(void **state)
{
    struct naru_options options = tiny(NARU_BLOCK);
    struct naru_endpoint *publisher = topic_open(NARU_SENDER, &options);
    struct naru_endpoint *subscriber = topic_subscribe(options, NARU_FROM_NOW, 0);
    struct naru_message held[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(send_number(publisher, i, 0), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(naru_take(subscriber, &held[i], 0), 0);
        assert_int_equal(*(int *)held[i].data, i);
    }
    assert_int_equal(naru_ack(subscriber, &held[1]), 0);
    assert_int_equal(send_number(publisher, 4, 0), -EAGAIN);
    assert_int_equal(naru_requeue(subscriber, &held[0]), 0);
    assert_int_equal(send_number(publisher, 4, 0), -EAGAIN);
    assert_int_equal(naru_take(subscriber, &held[0], 0), 0); /* that one again */
    assert_int_equal(*(int *)held[0].data, 0);
    assert_true(held[0].flags & NARU_REDELIVERED);
    assert_int_equal(held[0].deliveries, 2);
    assert_int_equal(naru_ack(subscriber, &held[0]), 0);
    for (int i = 4; i < 6; i++)
        assert_int_equal(send_number(publisher, i, 0), 0);
    assert_int_equal(send_number(publisher, 6, 0), -EAGAIN);
    assert_int_equal(*(int *)held[2].data, 2);
    assert_int_equal(recv_number(subscriber, 0, NULL), 3);
    assert_int_equal(send_number(publisher, 6, 0), -EAGAIN);
    assert_int_equal(naru_ack(subscriber, &held[2]), 0);
    for (int i = 6; i < 8; i++)
        assert_int_equal(send_number(publisher, i, 0), 0);
    expect_numbers(subscriber, 4, 7);
    naru_close(subscriber);
    naru_close(publisher);
}

static void test_loans(void **state)
{
    struct naru_options options = tiny(NARU_BLOCK);
    struct naru_endpoint *both = topic_open(NARU_BOTH, &options);
    struct naru_message loans[16], more;
    int count = 0;

    (void)state;
    while (count < 16 && naru_loan(both, 1500, &loans[count], 0) == 0)
        count++;
    assert_in_range(count, 8, 15);
    assert_int_equal(naru_loan(both, 1500, &more, 0), -EAGAIN);
    assert_int_equal(naru_cancel(both, &loans[--count]), 0);
    for (int i = 0; i < 3; i++) {
        for (int w = 0; w < 1500 / 4; w++)
            ((int *)loans[i].data)[w] = 2 * i + 1;
        assert_int_equal(naru_commit(both, &loans[i]), 0);
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(recv_number(both, 0, NULL), 2 * i + 1);
    naru_close(both); /* the rest goes back */
    both = topic_open(NARU_BOTH, &options);
    for (int again = 0; again < count - 2; again++) /* all but the three that are kept */
        assert_int_equal(naru_loan(both, 1500, &loans[again], 0), 0);
    naru_close(both);
}

static void test_refusals(void **state)
{
    struct naru_options options = tiny(NARU_BLOCK);
    struct naru_endpoint *endpoint = NULL, *pair[2];

    (void)state;
    assert_int_equal(naru_pair(pair, "shm://", &options), -EOPNOTSUPP);
    options.held_max = 65;
    assert_int_equal(naru_open(&endpoint, uri, NARU_SENDER, &options), -EINVAL);
    assert_text_has("held_max");
    options = tiny(NARU_BLOCK);
    options.read_only = 1;
    assert_int_equal(naru_open(&endpoint, uri, NARU_SENDER, &options), -EOPNOTSUPP);
    assert_text_has("read_only");
    options.read_only = 0;
    naru_close(topic_open(NARU_SENDER, &options));
    options.when_full = NARU_OVERWRITE_OLDEST;
    assert_int_equal(naru_open(&endpoint, uri, NARU_RECEIVER, &options), -EINVAL);
    assert_text_has("when_full");
    options.when_full = 0;
    options.pattern = NARU_QUEUE;
    assert_int_equal(naru_open(&endpoint, uri, NARU_RECEIVER, &options), -EINVAL);
    assert_text_has("pattern");
}

/* -- deaths ------------------------------------------------------------------------------------- */

struct publishing {
    const struct naru_options *options;
    int publisher;
    unsigned *committed; /* shared */
};

struct stamp {
    int publisher;
    unsigned number;
    char rest[1400];
};

static void publish_for_ever(void *context)
{
    struct publishing *publishing = context;
    struct naru_endpoint *publisher = NULL;
    struct naru_message loan;
    struct stamp stamp = {.publisher = publishing->publisher};

    child_check(naru_open(&publisher, uri, NARU_SENDER, publishing->options) == 0);
    for (unsigned i = 0;; i++) {
        size_t size_bytes = i % 2 ? sizeof stamp : 8;
        stamp.number = i;
        memset(stamp.rest, (char)i, sizeof stamp.rest);
        if (i % 3) {
            child_check(naru_send(publisher, &stamp, size_bytes, NARU_FOREVER) == 0);
        } else {
            child_check(naru_loan(publisher, size_bytes, &loan, NARU_FOREVER) == 0);
            memcpy(loan.data, &stamp, size_bytes);
            child_check(naru_commit(publisher, &loan) == 0);
        }
        __atomic_store_n(publishing->committed, i + 1, __ATOMIC_SEQ_CST);
    }
}

static bool stamp_is_whole(const struct stamp *stamp, size_t size_bytes)
{
    if (size_bytes != (stamp->number % 2 ? sizeof *stamp : 8))
        return false;
    for (size_t i = 8; i < size_bytes; i++)
        if (((const char *)stamp)[i] != (char)stamp->number)
            return false;
    return true;
}

enum { VICTIMS = 40, SUBSCRIBERS = 2 };

/* Receives until `until` messages of the publisher have come, or nothing comes any more. */
static void follow(struct naru_endpoint *subscriber, int publisher, unsigned *next, unsigned until,
                   int64_t timeout_ns)
{
    struct stamp stamp;
    size_t size_bytes = 0;

    while (*next < until) {
        int result = naru_recv(subscriber, &stamp, sizeof stamp, &size_bytes, timeout_ns);
        if (result == -ETIMEDOUT)
            return;
        assert_int_equal(result, 0);
        assert_true(stamp_is_whole(&stamp, size_bytes));
        assert_int_equal(stamp.publisher, publisher);
        assert_int_equal(stamp.number, *next);
        (*next)++;
    }
}

/* Publishers are killed anywhere; everything that was committed comes to everybody, in order, and nothing else but
   perhaps the one more that was being committed. */
static void test_publishers_are_killed(void **state)
{
    struct naru_options options = tiny(NARU_BLOCK);
    unsigned *committed =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct naru_endpoint *subscribers[SUBSCRIBERS];

    (void)state;
    for (int i = 0; i < SUBSCRIBERS; i++)
        subscribers[i] = topic_subscribe(options, NARU_FROM_NOW, 0);
    for (int victim = 0; victim < VICTIMS; victim++) {
        struct publishing publishing = {&options, victim, committed};
        unsigned next[SUBSCRIBERS] = {0};
        *committed = 0;
        pid_t pid = child_start(publish_for_ever, &publishing);
        for (unsigned some = 2; some <= 20; some += 2)
            for (int i = 0; i < SUBSCRIBERS; i++)
                follow(subscribers[i], victim, &next[i], some, 5 * NARU_SECOND);
        usleep((useconds_t)(victim * 37 % 300));
        kill(pid, SIGKILL);
        assert_true(WIFSIGNALED(child_end(pid)));
        for (int i = 0; i < SUBSCRIBERS; i++) {
            follow(subscribers[i], victim, &next[i], UINT32_MAX, 20 * NARU_MILLISECOND);
            assert_in_range(next[i], *committed, *committed + 1);
            assert_int_equal(next[i], next[0]);
        }
    }
    for (int i = 0; i < SUBSCRIBERS; i++)
        naru_close(subscribers[i]);
    munmap(committed, 4096);
}

static void subscribe_and_hang(void *context)
{
    struct naru_options *options = context;
    struct naru_endpoint *subscriber = NULL;
    struct naru_message message;

    child_check(naru_open(&subscriber, uri, NARU_RECEIVER, options) == 0);
    child_check(naru_take(subscriber, &message, 5 * NARU_SECOND) == 0);
    child_check(*(int *)message.data == 0);
    raise(SIGSTOP);
    for (;;)
        pause();
}

/* A lossless topic waits for a subscriber that is stopped, says so, and goes on at once when that is killed. */
static void a_subscriber_dies(enum naru_when_full when_full)
{
    struct naru_options options = tiny(when_full);
    struct naru_endpoint *publisher = topic_open(NARU_SENDER, &options);
    int status, sent = 0;
    char words[32];

    pid_t pid = child_start(subscribe_and_hang, &options);
    while (waitpid(pid, &status, WUNTRACED | WNOHANG) == 0) /* the first that it sees is a 0 */
        if (send_number(publisher, 0, 0) == 0)
            sleep_ms(1);
    assert_true(WIFSTOPPED(status));
    while (when_full == NARU_BLOCK && send_number(publisher, 0, 0) == 0)
        assert_true(++sent < 100);
    snprintf(words, sizeof words, "process %d", (int)pid);
    if (when_full == NARU_BLOCK) {
        assert_int_equal(send_number(publisher, 1, 20 * NARU_MILLISECOND), -ETIMEDOUT);
        assert_text_has(words);
    }
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(send_number(publisher, 2, 0), 0); /* also without waiting */
    struct naru_endpoint *late = topic_subscribe(options, NARU_FROM_LAST, 1);
    assert_int_equal(recv_number(late, 0, NULL), 2);
    naru_close(late);
    naru_close(publisher);
}

static void test_a_stopped_subscriber_dies(void **state)
{
    (void)state;
    a_subscriber_dies(NARU_BLOCK);
}
static void test_a_stopped_subscriber_dies_dropping(void **state)
{
    (void)state;
    a_subscriber_dies(NARU_DROP_NEWEST);
}

static void publish_into_full(void *context)
{
    int64_t *woken_ms = context;
    struct naru_options options = tiny(NARU_BLOCK);
    struct naru_endpoint *publisher = NULL;

    child_check(naru_open(&publisher, uri, NARU_SENDER, &options) == 0);
    while (send_number(publisher, 0, 0) == 0)
        ;
    child_check(send_number(publisher, 1, NARU_FOREVER) == 0);
    __atomic_store_n(woken_ms, clock_ms(), __ATOMIC_SEQ_CST);
}

/* The same while a publisher sleeps, for ever if need be. */
static void test_a_subscriber_dies_while_a_publisher_sleeps(void **state)
{
    struct naru_options options = tiny(NARU_BLOCK);
    int64_t *woken_ms = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    static struct naru_endpoint *first; /* not lost in the child */
    int status;

    (void)state;
    first = topic_open(NARU_SENDER, &options);
    pid_t subscriber = child_start(subscribe_and_hang, &options);
    while (waitpid(subscriber, &status, WUNTRACED | WNOHANG) == 0)
        if (send_number(first, 0, 0) == 0)
            sleep_ms(1);
    pid_t publisher = child_start(publish_into_full, woken_ms);
    sleep_ms(200);
    assert_int_equal(*woken_ms, 0);
    int64_t killed_ms = clock_ms();
    kill(subscriber, SIGKILL);
    assert_int_equal(waitpid(subscriber, &status, 0), subscriber);
    assert_int_equal(child_end(publisher), 0);
    assert_true(*woken_ms - killed_ms < 500);
    naru_close(first);
    munmap(woken_ms, 4096);
}

/* Everybody is killed at once, again and again: the name serves on, and what is kept is whole. */
static void everybody_crashes(enum naru_when_full when_full)
{
    struct naru_options options = tiny(when_full);
    unsigned *committed =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    for (int round = 0; round < 15; round++) {
        struct publishing publishing[2] = {{&options, 1, &committed[1]},
                                           {&options, 2, &committed[2]}};
        struct stamp stamp;
        size_t size_bytes;
        committed[1] = committed[2] = 0;
        pid_t pids[2] = {child_start(publish_for_ever, &publishing[0]),
                         child_start(publish_for_ever, &publishing[1])};
        for (int i = 1; i <= 2; i++)
            while (__atomic_load_n(&committed[i], __ATOMIC_SEQ_CST) < 10)
                usleep(100);
        for (int i = 0; i < 2; i++)
            kill(pids[i], SIGKILL);
        for (int i = 0; i < 2; i++)
            assert_true(WIFSIGNALED(child_end(pids[i])));
        struct naru_endpoint *late = topic_subscribe(options, NARU_FROM_OLDEST, 0);
        int count = 0, result;
        while ((result = naru_recv(late, &stamp, sizeof stamp, &size_bytes, 0)) == 0) {
            assert_true(stamp_is_whole(&stamp, size_bytes));
            count++;
        }
        assert_int_equal(result, -EAGAIN);
        assert_in_range(count, 2, 4); /* two may have died in the middle of theirs */
        naru_close(late);
    }
    munmap(committed, 4096);
}

static void test_everybody_crashes(void **state)
{
    (void)state;
    everybody_crashes(NARU_BLOCK);
}
static void test_everybody_crashes_overwriting(void **state)
{
    (void)state;
    everybody_crashes(NARU_OVERWRITE_OLDEST);
}

/* -- overwriting -------------------------------------------------------------------------------- */

/* A subscriber that can't keep up: whatever comes is whole and in order, and received + lost is what was sent. */
static void test_overwriting_while_reading(void **state)
{
    struct naru_options options = tiny(NARU_OVERWRITE_OLDEST);
    unsigned *committed =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct publishing publishing = {&options, 1, committed};
    struct stamp stamp;
    struct naru_message message = {.data = &stamp, .capacity_bytes = sizeof stamp};
    uint64_t received = 0, lost = 0;

    (void)state;
    struct naru_endpoint *subscriber = topic_subscribe(options, NARU_FROM_NOW, 0);
    pid_t pid = child_start(publish_for_ever, &publishing);
    int64_t end_ms = clock_ms() + 700;
    while (clock_ms() < end_ms) {
        assert_int_equal(naru_recv_many(subscriber, &message, 1, 5 * NARU_SECOND), 1);
        lost += message.lost;
        assert_true(stamp_is_whole(&stamp, message.size_bytes));
        assert_int_equal(stamp.number, received + lost);
        received++;
    }
    kill(pid, SIGKILL);
    assert_true(WIFSIGNALED(child_end(pid)));
    while (naru_recv_many(subscriber, &message, 1, 20 * NARU_MILLISECOND) == 1) {
        lost += message.lost;
        received++;
    }
    assert_in_range(received + lost, *committed, *committed + 1);
    assert_true(lost > 0 && received > 10);
    naru_close(subscriber);
    munmap(committed, 4096);
}

/* Stops before and behind each naru_recv(). */
static void receive_in_steps(void *context)
{
    struct naru_endpoint *subscriber = topic_subscribe(*(struct naru_options *)context, 0, 0);

    child_check(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
    for (;;) {
        raise(SIGUSR1);
        child_check(recv_number(subscriber, 0, NULL) >= 0);
        raise(SIGUSR2);
        while (recv_number(subscriber, 0, NULL) >= 0)
            ;
    }
}

static bool goes_on_until(pid_t pid, int signal_number)
{
    int status = 0;

    return ptrace(PTRACE_CONT, pid, NULL, NULL) == 0 && waitpid(pid, &status, 0) == pid &&
           WIFSTOPPED(status) && WSTOPSIG(status) == signal_number;
}

/* True: not at the end of the call yet. */
static bool goes_steps(pid_t pid, int count)
{
    int status = 0;

    while (count--) {
        assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSTOPPED(status));
        if (WSTOPSIG(status) == SIGUSR2)
            return false;
    }
    return true;
}

/* A subscriber stands in its call, further on each time, when all that is there is overwritten: it gets a whole message. */
static void test_overwriting_in_a_call(void **state)
{
    struct naru_options options = tiny(NARU_OVERWRITE_OLDEST);
    const int stride = 101, number = 1;
    int status = 0, steps = 0;

    (void)state;
    if (nr_kit_slowness() > 1) {
        print_message("SKIP: valgrind can't be traced, and a sanitizer has too many instructions\n");
        skip();
    }
    struct naru_endpoint *publisher = topic_open(NARU_SENDER, &options);
    pid_t pid = child_start(receive_in_steps, &options);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    for (bool is_inside = true; is_inside; steps += stride) {
        assert_true(WIFSTOPPED(status));
        assert_int_equal(send_number(publisher, number, 0), 0);
        is_inside = goes_steps(pid, steps);
        for (int i = 1; is_inside && i <= 6; i++)
            assert_int_equal(send_number(publisher, number + 2 * i, 0), 0);
        assert_true(!is_inside || goes_on_until(pid, SIGUSR2));
        assert_true(goes_on_until(pid, SIGUSR1));
    }
    assert_in_range(steps, 200, 1000000);
    kill(pid, SIGKILL);
    child_end(pid);
    naru_close(publisher);
}

static void read_as_another_user(void *context)
{
    struct naru_options options = tiny(NARU_OVERWRITE_OLDEST);
    struct naru_endpoint *subscriber = NULL;
    int *step = context;

    place_become_another_user();
    options.read_only = 1;
    options.start = NARU_FROM_OLDEST;
    child_check(naru_open(&subscriber, uri, NARU_RECEIVER, &options) == 0);
    child_check(recv_number(subscriber, 0, NULL) == 0);
    child_check(recv_number(subscriber, 0, NULL) == 1);
    struct pollfd ready = {.fd = naru_fd(subscriber), .events = POLLIN};
    __atomic_store_n(step, 1, __ATOMIC_SEQ_CST);
    child_check(recv_number(subscriber, 10 * NARU_SECOND, NULL) == 2);
    child_check(recv_number(subscriber, 0, NULL) == -EAGAIN);
    __atomic_store_n(step, 2, __ATOMIC_SEQ_CST);
    child_check(poll(&ready, 1, 10000) == 1);
    child_check(recv_number(subscriber, 0, NULL) == 3);
    naru_close(subscriber);
}

static void test_read_only(void **state)
{
    struct naru_options options = tiny(NARU_OVERWRITE_OLDEST);
    int *step = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    static struct naru_endpoint *publisher; /* not lost in the child */

    (void)state;
    options.file_mode = 0644;
    publisher = topic_open(NARU_SENDER, &options);
    assert_int_equal(send_number(publisher, 0, 0), 0);
    assert_int_equal(send_number(publisher, 1, 0), 0);
    pid_t pid = child_start(read_as_another_user, step);
    for (int i = 1; i <= 2; i++) {
        while (__atomic_load_n(step, __ATOMIC_SEQ_CST) < i)
            sleep_ms(1);
        sleep_ms(100); /* it sleeps */
        assert_int_equal(send_number(publisher, i + 1, 0), 0);
    }
    assert_int_equal(child_end(pid), 0);
    naru_close(publisher);
    munmap(step, 4096);
}

/* Publishers are killed, and nobody is there who could repair: the reader goes past what they left. */
static void test_read_only_and_dead_publishers(void **state)
{
    struct naru_options options = tiny(NARU_OVERWRITE_OLDEST);
    unsigned *committed =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct naru_endpoint *reader = NULL;

    (void)state;
    options.read_only = 1;
    naru_close(topic_open(NARU_SENDER, &options));
    assert_int_equal(naru_open(&reader, uri, NARU_RECEIVER, &options), 0);
    for (int victim = 0; victim < VICTIMS; victim++) {
        struct publishing publishing = {&options, victim, committed};
        struct stamp stamp;
        struct naru_message message = {.data = &stamp, .capacity_bytes = sizeof stamp};
        uint64_t received = 0, lost = 0;
        *committed = 0;
        pid_t pid = child_start(publish_for_ever, &publishing);
        while (__atomic_load_n(committed, __ATOMIC_SEQ_CST) < 10)
            usleep(50);
        usleep((useconds_t)(victim * 37 % 300));
        kill(pid, SIGKILL);
        assert_true(WIFSIGNALED(child_end(pid)));
        while (naru_recv_many(reader, &message, 1, 5 * NARU_MILLISECOND) == 1) {
            assert_true(stamp_is_whole(&stamp, message.size_bytes));
            lost += message.lost;
            received++;
        }
        /* What was skipped at the end of the life before counts as lost if it was overtaken. */
        assert_in_range(received + lost, *committed, *committed + 2);
    }
    naru_close(reader);
    munmap(committed, 4096);
}

#define test_case(name) cmocka_unit_test_setup_teardown(name, test_setup, test_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_case(test_lossless),
        test_case(test_fail_when_full),
        test_case(test_drop_newest_is_told),
        test_case(test_overwrite_oldest_is_told),
        test_case(test_late_joiners),
        test_case(test_takes),
        test_case(test_loans),
        test_case(test_refusals),
        test_case(test_publishers_are_killed),
        test_case(test_a_stopped_subscriber_dies),
        test_case(test_a_stopped_subscriber_dies_dropping),
        test_case(test_a_subscriber_dies_while_a_publisher_sleeps),
        test_case(test_everybody_crashes),
        test_case(test_everybody_crashes_overwriting),
        test_case(test_overwriting_while_reading),
        test_case(test_overwriting_in_a_call),
        test_case(test_read_only),
        test_case(test_read_only_and_dead_publishers),
    };

    return cmocka_run_group_tests_name("topic", tests, NULL, NULL);
}
