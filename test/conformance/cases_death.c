/* SPDX-License-Identifier: MIT */
/* cases_death -- who closes, dies or forks in the middle; and starting again after it */
#include "cases.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NR_DEATH_ROUNDS = 20, NR_DEATH_STEADY = 5 };

/* -- a sender is killed -------------------------------------------------------------------- */

/* Sends large messages until it is killed, and counts those that were committed. */
static void nr_death_send_large(struct nr_channel *channel, struct naru_endpoint *endpoint,
                                int number)
{
    static const size_t sizes[] = {20000, 4000, 300000};

    for (unsigned i = 0;; i++) {
        nr_case_send(endpoint, nr_case_size(channel, endpoint, sizes[i % 3]), (unsigned)number, i);
        nr_kit_add(&channel->shared->count[0], 1);
    }
}

/* Sends some messages of mixed sizes in each round, and outlives them all. */
static void nr_death_send_steadily(struct nr_channel *channel, struct naru_endpoint *endpoint,
                                   int number)
{
    static const size_t sizes[] = {9000, 100, 3000};
    unsigned index = 0;

    for (int round = 1; round <= number; round++) {
        nr_kit_await(&channel->shared->go, round);
        for (int i = 0; i < NR_DEATH_STEADY; i++, index++)
            nr_case_send(endpoint, nr_case_size(channel, endpoint, sizes[index % 3]), 0, index);
    }
    nr_kit_await(&channel->shared->stop, 1);
}

struct nr_death_round {
    unsigned victim, from_victim, from_steady;
};

/* One message: whole, and the next of its sender. False: nothing there, or the sender ended or died. */
static bool nr_death_receive(struct naru_endpoint *receiver, struct nr_death_round *round,
                             int64_t timeout_ns)
{
    struct nr_payload_stamp stamp;
    size_t size_bytes;
    int result = naru_recv(receiver, nr_case_room, sizeof nr_case_room, &size_bytes, timeout_ns);

    if (result == -EOWNERDEAD || result == -EPIPE || result == -ETIMEDOUT)
        return false;
    nr_check_ok(result);
    nr_check(nr_payload_read(nr_case_room, size_bytes, &stamp), "%zu bytes that are not whole",
             size_bytes);
    nr_check(stamp.sender == 0 || stamp.sender == round->victim,
             "number %u of sender %u, who is dead and of whom all seemed to have come", stamp.index,
             stamp.sender);
    unsigned *next = stamp.sender ? &round->from_victim : &round->from_steady;
    nr_check(stamp.index == *next, "number %u of sender %u, and %u was next", stamp.index,
             stamp.sender, *next);
    (*next)++;
    return true;
}

static void nr_death_round(struct nr_channel *channel, struct naru_endpoint *receiver,
                           unsigned steady_until, struct nr_death_round *round)
{
    struct nr_channel_shared *shared = channel->shared;
    int64_t end = nr_kit_now_ns() + NR_SOON;

    round->from_victim = 0;
    nr_kit_set(&shared->count[0], 0);
    pid_t pid = nr_channel_spawn(channel, NARU_SENDER, nr_death_send_large, (int)round->victim);
    nr_kit_add(&shared->go, 1);
    unsigned enough = (unsigned)rand() % 6;
    while (round->from_victim < enough)
        nr_check(nr_death_receive(receiver, round, NR_SOON), "it ended at message %u",
                 round->from_victim);
    usleep((unsigned)rand() % 500);
    nr_kit_kill(pid);
    for (int silent = 0; silent < 2 || round->from_steady < steady_until;) {
        nr_check(nr_kit_now_ns() < end, "the others' messages do not come: %u of %u",
                 round->from_steady, steady_until);
        silent += !nr_death_receive(receiver, round, 10 * NARU_MILLISECOND);
    }
    unsigned committed = (unsigned)nr_kit_get(&shared->count[0]);
    /* One may have been committed without having been counted. */
    nr_check(round->from_victim >= committed && round->from_victim <= committed + 1,
             "%u committed and %u came", committed, round->from_victim);
}

static void nr_death_sender_killed(struct nr_channel *channel)
{
    struct nr_death_round round = {0};

    srand((unsigned)getpid());
    struct naru_endpoint *receiver = nr_channel_open(channel, NARU_RECEIVER);
    pid_t steady = nr_channel_spawn(channel, NARU_SENDER, nr_death_send_steadily, NR_DEATH_ROUNDS);
    nr_kit_await(&channel->shared->senders_ready, 1);
    for (unsigned i = 1; i <= NR_DEATH_ROUNDS; i++) {
        round.victim = i;
        nr_death_round(channel, receiver, i * NR_DEATH_STEADY, &round);
    }
    nr_kit_set(&channel->shared->stop, 1);
    nr_kit_join(steady);
}

/* The same where a channel has one sender: each round has its own. */
static void nr_death_only_sender_killed(struct nr_channel *channel)
{
    struct nr_death_round round = {.victim = 1};

    srand((unsigned)getpid());
    for (int i = 0; i < NR_DEATH_ROUNDS; i++) {
        struct nr_channel own;
        nr_channel_init(&own, channel->row);
        struct naru_endpoint *receiver = nr_channel_open(&own, NARU_RECEIVER);
        nr_death_round(&own, receiver, 0, &round);
        nr_channel_deinit(&own);
    }
}

/* -- a receiver is killed ------------------------------------------------------------------ */

static void nr_death_receive_some(struct nr_channel *channel, struct naru_endpoint *endpoint,
                                  int number)
{
    for (int i = 0; i < number; i++)
        nr_check_ok(naru_recv(endpoint, nr_case_room, sizeof nr_case_room, NULL, NR_SOON));
    nr_kit_add(&channel->shared->done, 1);
    nr_kit_await(&channel->shared->stop, 1);
}

static void nr_death_check_told(struct nr_channel *channel, int result)
{
    if (channel->row->has & NR_PAIR)
        nr_check_fails(result, -EOWNERDEAD, "died");
    else if (result != -EPIPE)
        nr_check_fails(result, -EOWNERDEAD, "died");
}

/* Sends until told, or until it is full: no call may take longer than its time-out. */
static void nr_death_send_into_the_void(struct nr_channel *channel, struct naru_endpoint *sender)
{
    size_t size_bytes = nr_case_size(channel, sender, 5000);

    for (int i = 0; i < 3000; i++) {
        int64_t begin = nr_kit_now_ns();
        int result = naru_send(sender, nr_case_room, size_bytes, 30 * NARU_MILLISECOND);
        nr_check(nr_kit_now_ns() - begin < 2 * NARU_SECOND * nr_kit_slowness(), "it hung");
        if (result == 0)
            continue;
        if (!(channel->row->has & NR_TELLS_SENDER)) {
            nr_check_fails(result, -ETIMEDOUT, "time-out");
            return;
        }
        nr_death_check_told(channel, result);
        nr_death_check_told(channel, naru_send(sender, nr_case_room, size_bytes, NARU_MILLISECOND));
        return;
    }
    nr_check(!(channel->row->has & (NR_TELLS_SENDER | NR_FILLS)) || (channel->row->has & NR_EVERY),
             "it was never told");
}

static void nr_death_receiver_killed(struct nr_channel *channel)
{
    pid_t pid = nr_channel_spawn(channel, NARU_RECEIVER, nr_death_receive_some, 5);

    nr_kit_await(&channel->shared->receivers_ready, 1);
    struct naru_endpoint *sender = nr_channel_open(channel, NARU_SENDER);
    nr_channel_let_go(channel);
    size_t size_bytes = nr_case_size(channel, sender, 5000);
    for (unsigned i = 0; i < 5; i++)
        nr_case_send(sender, size_bytes, 1, i);
    nr_kit_await(&channel->shared->done, 1);
    nr_kit_kill(pid);
    nr_death_send_into_the_void(channel, sender);
}

/* It is killed while the sender waits for ever for room. */
static void nr_death_receiver_killed_when_full(struct nr_channel *channel)
{
    pid_t pid = nr_channel_spawn(channel, NARU_RECEIVER, nr_death_receive_some, 0);

    nr_kit_await(&channel->shared->receivers_ready, 1);
    struct naru_endpoint *sender = nr_channel_open(channel, NARU_SENDER);
    nr_channel_let_go(channel);
    size_t size_bytes = nr_case_size(channel, sender, 1000);
    nr_case_fill(sender, size_bytes);
    pid_t killer = nr_kit_fork();
    if (killer == 0) {
        nr_channel_close(channel); /* its copies must not keep anything open */
        nr_kit_sleep_ms(40);
        kill(pid, SIGKILL);
        _exit(0);
    }
    nr_death_check_told(channel, naru_send(sender, nr_case_room, size_bytes, NARU_FOREVER));
    nr_kit_join(killer);
    nr_kit_kill(pid);
}

/* -- the end, and death, told to the receiver ---------------------------------------------- */

static void nr_death_send_ten(struct nr_channel *channel, struct naru_endpoint *endpoint,
                              int number)
{
    for (unsigned i = 0; i < 10; i++)
        nr_case_send(endpoint, nr_case_size(channel, endpoint, 500 * i + 8), (unsigned)number, i);
    nr_kit_add(&channel->shared->done, 1);
}

static void nr_death_send_ten_and_hang(struct nr_channel *channel, struct naru_endpoint *endpoint,
                                       int number)
{
    if (number)
        nr_death_send_ten(channel, endpoint, number);
    nr_kit_await(&channel->shared->stop, 1);
}

static void nr_death_expect_ten(struct nr_channel *channel, struct naru_endpoint *receiver,
                                unsigned sender)
{
    for (unsigned i = 0; i < 10; i++)
        nr_case_expect(receiver, nr_case_size(channel, receiver, 500 * i + 8), sender, i);
}

/* Closed: all that was sent is received first. By name the next sender may come then. */
static void nr_death_end(struct nr_channel *channel)
{
    struct naru_endpoint *receiver = nr_channel_open(channel, NARU_RECEIVER);

    for (int round = 0; round < 3; round++) {
        pid_t pid = nr_channel_spawn(channel, NARU_SENDER, nr_death_send_ten, round);
        bool buffers = channel->row->has & NR_BUFFERS;
        nr_kit_await(buffers ? &channel->shared->done : &channel->shared->senders_ready, round + 1);
        nr_channel_let_go(channel);
        if (buffers)
            nr_kit_join(pid);
        nr_death_expect_ten(channel, receiver, (unsigned)round);
        nr_case_expect_end(channel, receiver);
        if (!buffers)
            nr_kit_join(pid);
        if (!(channel->row->has & NR_NAMED)) {
            nr_case_expect_end(channel, receiver);
            return;
        }
        nr_check_fails(
            naru_recv(receiver, nr_case_room, sizeof nr_case_room, NULL, 20 * NARU_MILLISECOND),
            -ETIMEDOUT, "time-out");
    }
}

static void nr_death_died(struct nr_channel *channel)
{
    struct naru_endpoint *receiver = nr_channel_open(channel, NARU_RECEIVER);

    for (int round = 1; round <= 2; round++) {
        pid_t pid = nr_channel_spawn(channel, NARU_SENDER, nr_death_send_ten_and_hang, round);
        nr_kit_await(channel->row->has & NR_BUFFERS ? &channel->shared->done
                                                    : &channel->shared->senders_ready,
                     round);
        nr_channel_let_go(channel);
        nr_death_expect_ten(channel, receiver, (unsigned)round);
        nr_case_expect_nothing(receiver); /* lets go of who waits for an acknowledgement */
        nr_kit_await(&channel->shared->done, round);
        nr_kit_kill(pid);
        nr_check_fails(naru_recv(receiver, nr_case_room, sizeof nr_case_room, NULL, NARU_FOREVER),
                       -EOWNERDEAD, "died");
        if (!(channel->row->has & NR_NAMED))
            return;
        nr_check_fails(
            naru_recv(receiver, nr_case_room, sizeof nr_case_room, NULL, 20 * NARU_MILLISECOND),
            -ETIMEDOUT, "time-out");
    }
}

/* Killed while the receiver waits for ever; without a single message. */
static void nr_death_died_silently(struct nr_channel *channel)
{
    struct naru_endpoint *receiver = nr_channel_open(channel, NARU_RECEIVER);
    int fd = (int)nr_check_ok(naru_fd(receiver));
    pid_t pid = nr_channel_spawn(channel, NARU_SENDER, nr_death_send_ten_and_hang, 0);

    nr_kit_await(&channel->shared->senders_ready, 1);
    nr_channel_let_go(channel);
    nr_case_expect_nothing(receiver);
    pid_t killer = nr_kit_fork();
    if (killer == 0) {
        nr_channel_close(channel);
        nr_kit_sleep_ms(30);
        kill(pid, SIGKILL);
        _exit(0);
    }
    nr_check_fails(naru_recv(receiver, nr_case_room, sizeof nr_case_room, NULL, NARU_FOREVER),
                   -EOWNERDEAD, "died");
    nr_check(fd == naru_fd(receiver), "another number");
    nr_kit_join(killer);
    nr_kit_kill(pid);
}

/* -- fork ---------------------------------------------------------------------------------- */

static void nr_death_use_copies(struct naru_endpoint *sender, struct naru_endpoint *receiver)
{
    struct naru_message message = {.data = nr_case_room, .capacity_bytes = 100, .size_bytes = 8};
    struct naru_stat stat = {.size_bytes = sizeof stat};
    struct iovec part = {nr_case_room, 8};
    size_t fds_count = 1;
    int fd = 0;
    const char words[] = "another process|open the channel again";

    nr_check_fails(naru_send(sender, nr_case_room, 8, 0), -ECHILD, words);
    nr_check_fails(naru_sendv(sender, &part, 1, NULL, 0), -ECHILD, words);
    nr_check_fails(naru_send_many(sender, &message, 1, 0), -ECHILD, words);
    nr_check_fails(naru_send_fds(sender, nr_case_room, 8, &fd, 1, 0), -ECHILD, words);
    nr_check_fails(naru_loan(sender, 8, &message, 0), -ECHILD, words);
    nr_check_fails(naru_commit(sender, &message), -ECHILD, words);
    nr_check_fails(naru_cancel(sender, &message), -ECHILD, words);
    nr_check_fails(naru_send_fd(sender), -ECHILD, words);
    nr_check_fails(naru_recv(receiver, nr_case_room, 8, NULL, 0), -ECHILD, words);
    nr_check_fails(naru_recv_many(receiver, &message, 1, 0), -ECHILD, words);
    nr_check_fails(naru_recv_fds(receiver, nr_case_room, 8, NULL, &fd, &fds_count, 0), -ECHILD,
                   words);
    nr_check_fails(naru_take(receiver, &message, 0), -ECHILD, words);
    nr_check_fails(naru_ack(receiver, &message), -ECHILD, words);
    nr_check_fails(naru_requeue(receiver, &message), -ECHILD, words);
    nr_check_fails(naru_fd(receiver), -ECHILD, words);
    nr_check_fails(naru_stat(receiver, &stat), -ECHILD, words);
    nr_check_fails(naru_stat(sender, &stat), -ECHILD, words);
    nr_check(naru_interrupt(receiver) < 0, "a copy can be interrupted");
}

static void nr_death_forked_copy(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *sender = channel->end[NR_SENDER_END];
    struct naru_endpoint *receiver = channel->end[NR_RECEIVER_END];
    size_t size_bytes = nr_case_size(channel, sender, 6000);

    int fd = (int)nr_check_ok(naru_fd(receiver));
    nr_case_send(sender, size_bytes, 1, 0);
    for (int round = 0; round < 2; round++) {
        pid_t pid = nr_kit_fork();
        if (pid == 0) {
            nr_death_use_copies(sender, receiver);
            if (round == 0)
                nr_channel_close(channel);
            _exit(0); /* round 1: without a close */
        }
        nr_kit_join(pid);
        nr_case_expect(receiver, size_bytes, 1, (unsigned)round);
        nr_case_expect_nothing(receiver);
        nr_case_send(sender, size_bytes, 1, (unsigned)round + 1);
        struct pollfd one = {.fd = fd, .events = POLLIN};
        nr_check(poll(&one, 1, 2000) == 1, "the descriptor is silent after a copy was closed");
    }
}

/* -- starting again ------------------------------------------------------------------------ */

static void nr_death_send_for_ever(struct nr_channel *channel, struct naru_endpoint *endpoint,
                                   int number)
{
    size_t size_bytes = nr_case_size(channel, endpoint, 9000);

    for (unsigned i = 0;; i++) {
        nr_payload_fill(nr_case_room, size_bytes, (unsigned)number, i);
        naru_send(endpoint, nr_case_room, size_bytes, NARU_FOREVER);
        nr_kit_add(&channel->shared->count[0], 1);
    }
}

static void nr_death_receive_for_ever(struct nr_channel *channel, struct naru_endpoint *endpoint,
                                      int number)
{
    (void)number;
    for (;;) {
        struct naru_message message;
        if (naru_take(endpoint, &message, NARU_FOREVER) == 0) {
            nr_kit_add(&channel->shared->done, 1);
            naru_ack(endpoint, &message);
        }
    }
}

/* All who use the channel are killed at once; the name serves again, without cleaning up by hand. */
static void nr_death_restart(struct nr_channel *channel)
{
    srand((unsigned)getpid());
    for (int round = 1; round <= 5; round++) {
        int before = nr_kit_get(&channel->shared->done);
        nr_kit_set(&channel->shared->receivers_ready, 0);
        pid_t receiver = nr_channel_spawn(channel, NARU_RECEIVER, nr_death_receive_for_ever, 0);
        nr_kit_await(&channel->shared->receivers_ready, 1);
        pid_t sender = nr_channel_spawn(channel, NARU_SENDER, nr_death_send_for_ever, round);
        nr_kit_await(&channel->shared->done, before + 1 + rand() % 20);
        kill(sender, SIGKILL);
        nr_kit_kill(receiver);
        nr_kit_kill(sender);
    }
    nr_channel_open_both(channel);
    struct naru_endpoint *end = channel->end[NR_RECEIVER_END];
    size_t size_bytes;
    int result;
    while ((result = naru_recv(end, nr_case_room, sizeof nr_case_room, &size_bytes, 0)) == 0) {
        struct nr_payload_stamp stamp; /* what lasted from before is whole */
        nr_check(nr_payload_read(nr_case_room, size_bytes, &stamp), "not whole");
    }
    nr_check_fails(result, -EAGAIN, "time-out");
    size_bytes = nr_case_size(channel, end, 9000);
    for (unsigned i = 0; i < 5; i++) {
        nr_case_send(channel->end[NR_SENDER_END], size_bytes, 9, i);
        nr_case_expect(end, size_bytes, 9, i);
    }
}

const struct nr_case nr_death_cases[] = {
    {.name = "a sender is killed, the others go on",
     .body = nr_death_sender_killed,
     .needs = NR_MANY_SENDERS | NR_BUFFERS,
     .seconds = 30},
    {.name = "the only sender is killed",
     .body = nr_death_only_sender_killed,
     .needs = NR_BUFFERS,
     .seconds = 30},
    {.name = "a receiver is killed", .body = nr_death_receiver_killed, .needs = NR_BUFFERS},
    {.name = "a receiver is killed while a sender waits",
     .body = nr_death_receiver_killed_when_full,
     .needs = NR_BUFFERS | NR_FILLS | NR_TELLS_SENDER},
    {.name = "the end is told when all was received", .body = nr_death_end, .needs = NR_ENDS},
    {.name = "death is told when all was received", .body = nr_death_died, .needs = NR_DIES},
    {.name = "death is told to who waits", .body = nr_death_died_silently, .needs = NR_DIES},
    {.name = "a forked child's copy", .body = nr_death_forked_copy, .needs = NR_BUFFERS},
    {.name = "starting again after all were killed",
     .body = nr_death_restart,
     .needs = NR_NAMED | NR_BUFFERS,
     .seconds = 20,
     .also = NR_OVERWRITES},
    {0},
};
