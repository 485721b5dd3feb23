/* SPDX-License-Identifier: MIT */
/* cases_wait -- time-outs, a full channel, interrupts, signals at bad moments, descriptors */
#include "cases.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { NR_WAIT_MS = 40, NR_WAIT_STORM = 600 };

/* -- time-outs ----------------------------------------------------------------------------- */

static void nr_wait_check_time(int64_t begin_ns, int milliseconds)
{
    int64_t took_ns = nr_kit_now_ns() - begin_ns;

    nr_check(took_ns >= milliseconds * NARU_MILLISECOND, "over after %.3f ms of %d",
             (double)took_ns / 1e6, milliseconds);
    nr_check(took_ns < (milliseconds + 2000) * NARU_MILLISECOND * nr_kit_slowness(),
             "over after %.3f ms only", (double)took_ns / 1e6);
}

static void nr_wait_expect_time_out(struct naru_endpoint *receiver)
{
    int64_t begin = nr_kit_now_ns();

    nr_check_fails(
        naru_recv(receiver, nr_case_room, sizeof nr_case_room, NULL, NR_WAIT_MS * NARU_MILLISECOND),
        -ETIMEDOUT, "time-out");
    nr_wait_check_time(begin, NR_WAIT_MS);
}

static void nr_wait_nothing_there(struct nr_channel *channel)
{
    struct naru_message message = {0};

    nr_channel_open_both(channel);
    struct naru_endpoint *receiver = channel->end[NR_RECEIVER_END];
    for (int i = 0; i < 2; i++) {
        nr_case_expect_nothing(receiver);
        nr_wait_expect_time_out(receiver);
        nr_check_fails(naru_take(receiver, &message, 0), -EAGAIN, "time-out");
        nr_check_fails(naru_take(receiver, &message, 5 * NARU_MILLISECOND), -ETIMEDOUT, "time-out");
        message.data = nr_case_room;
        message.capacity_bytes = sizeof nr_case_room;
        nr_check_fails(naru_recv_many(receiver, &message, 1, 0), -EAGAIN, "time-out");
        nr_check_fails(naru_recv_many(receiver, &message, 1, 1), -ETIMEDOUT, "time-out");
    }
}

/* What a send that timed out had of its message is not seen; all others are, in order. */
static void nr_wait_full_of(struct nr_channel *channel, size_t size_bytes)
{
    struct naru_endpoint *sender = channel->end[NR_SENDER_END];
    struct naru_endpoint *receiver = channel->end[NR_RECEIVER_END];
    unsigned sent = nr_case_fill(sender, size_bytes);

    nr_payload_fill(nr_case_room, size_bytes, 1, 77777);
    int64_t begin = nr_kit_now_ns();
    nr_check_fails(naru_send(sender, nr_case_room, size_bytes, NR_WAIT_MS * NARU_MILLISECOND),
                   -ETIMEDOUT, "time-out");
    nr_wait_check_time(begin, NR_WAIT_MS);
    for (unsigned i = 0; i < sent; i++)
        nr_case_expect(receiver, size_bytes, 1, i);
    nr_case_expect_nothing(receiver);
    for (unsigned i = 0; i < 3; i++) {
        nr_case_send(sender, size_bytes < 8000 ? size_bytes : 8000, 2, i);
        nr_case_expect(receiver, size_bytes < 8000 ? size_bytes : 8000, 2, i);
    }
    nr_case_expect_nothing(receiver);
}

static void nr_wait_full(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    size_t small = nr_case_size(channel, channel->end[NR_SENDER_END], 1000);
    size_t large = nr_case_size(channel, channel->end[NR_SENDER_END], 1 << 20);

    for (int i = 0; i < 2; i++) {
        nr_wait_full_of(channel, small);
        nr_wait_full_of(channel, large);
    }
}

/* A receiver that makes room now and then, and a sender with no patience: it tries again until it goes. */
static void nr_wait_send_impatiently(struct nr_channel *channel, struct naru_endpoint *endpoint,
                                     int number)
{
    static const size_t sizes[] = {300, 5000, 70000};

    for (unsigned i = 0; i < (unsigned)number; i++) {
        size_t size_bytes = nr_case_size(channel, endpoint, sizes[i % 3]);
        nr_payload_fill(nr_case_room, size_bytes, 1, i);
        int result = -EAGAIN;
        while (result == -ETIMEDOUT || result == -EAGAIN)
            result =
                naru_send(endpoint, nr_case_room, size_bytes, i % 2 ? 2 * NARU_MILLISECOND : 0);
        nr_check_ok(result);
    }
}

static void nr_wait_slow_receiver(struct nr_channel *channel)
{
    static const size_t sizes[] = {300, 5000, 70000};
    struct naru_endpoint *receiver = nr_channel_open(channel, NARU_RECEIVER);
    pid_t pid = nr_channel_spawn(channel, NARU_SENDER, nr_wait_send_impatiently, 100);

    for (unsigned i = 0; i < 100; i++) {
        if (i % 5 == 0)
            nr_kit_sleep_ms(5);
        nr_case_expect(receiver, nr_case_size(channel, receiver, sizes[i % 3]), 1, i);
    }
    nr_kit_join(pid);
}

/* -- naru_interrupt() ---------------------------------------------------------------------- */

static struct naru_endpoint *nr_wait_target;

static void nr_wait_on_signal(int number)
{
    (void)number;
    naru_interrupt(nr_wait_target);
}

static void nr_wait_handle(int number, void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};

    sigaction(number, &action, NULL);
}

/* A process that sends us SIGUSR1 once, a little later. */
static pid_t nr_wait_signal_later(void)
{
    pid_t self = getpid(), pid = nr_kit_fork();

    if (pid == 0) {
        nr_kit_sleep_ms(NR_WAIT_MS);
        kill(self, SIGUSR1);
        _exit(0);
    }
    return pid;
}

static void nr_wait_interrupt_recv(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *receiver = channel->end[NR_RECEIVER_END];
    struct naru_message message = {0};

    nr_wait_target = receiver;
    nr_wait_handle(SIGUSR1, nr_wait_on_signal, SA_RESTART);
    for (int i = 0; i < 3; i++) {
        pid_t pid = nr_wait_signal_later();
        if (i < 2)
            nr_check_fails(naru_recv(receiver, nr_case_room, sizeof nr_case_room, NULL,
                                     i ? NR_SOON : NARU_FOREVER),
                           -EINTR, "naru_interrupt");
        else
            nr_check_fails(naru_take(receiver, &message, NARU_FOREVER), -EINTR, "naru_interrupt");
        nr_wait_expect_time_out(receiver); /* one interrupt ends one wait */
        nr_kit_join(pid);
    }
    nr_check_ok(naru_interrupt(receiver)); /* nobody waits: it is for the next one */
    nr_case_expect_nothing(receiver);      /* which this is not */
    nr_check_fails(naru_recv(receiver, nr_case_room, sizeof nr_case_room, NULL, NARU_FOREVER),
                   -EINTR, "naru_interrupt");
    nr_wait_expect_time_out(receiver);
    size_t size_bytes = nr_case_size(channel, receiver, 500);
    nr_case_send(channel->end[NR_SENDER_END], size_bytes, 1, 1);
    nr_case_expect(receiver, size_bytes, 1, 1);
    nr_check(naru_interrupt(NULL) == -EINVAL, "NULL can be interrupted");
}

static void nr_wait_interrupt_send(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *sender = channel->end[NR_SENDER_END];
    size_t size_bytes = nr_case_size(channel, sender, 1000);
    unsigned sent = nr_case_fill(sender, size_bytes);

    nr_wait_target = sender;
    nr_wait_handle(SIGUSR1, nr_wait_on_signal, SA_RESTART);
    pid_t pid = nr_wait_signal_later();
    nr_check_fails(naru_send(sender, nr_case_room, size_bytes, NARU_FOREVER), -EINTR,
                   "naru_interrupt");
    nr_check_fails(naru_send(sender, nr_case_room, size_bytes, 10 * NARU_MILLISECOND), -ETIMEDOUT,
                   "time-out");
    nr_kit_join(pid);
    for (unsigned i = 0; i < sent; i++)
        nr_case_expect(channel->end[NR_RECEIVER_END], size_bytes, 1, i);
    nr_case_expect_nothing(channel->end[NR_RECEIVER_END]);
}

static void *nr_wait_interrupt_later(void *argument)
{
    nr_kit_sleep_ms(NR_WAIT_MS);
    nr_check(naru_interrupt(argument) == 0, "it can't be interrupted");
    return NULL;
}

static void *nr_wait_in_thread(void *argument)
{
    nr_check_fails(naru_recv(argument, nr_case_room, sizeof nr_case_room, NULL, NARU_FOREVER),
                   -EINTR, "naru_interrupt");
    return NULL;
}

static void nr_wait_interrupt_thread(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *receiver = channel->end[NR_RECEIVER_END];
    pthread_t thread;

    nr_check(pthread_create(&thread, NULL, nr_wait_interrupt_later, receiver) == 0, "no thread");
    nr_check_fails(naru_recv(receiver, nr_case_room, sizeof nr_case_room, NULL, NARU_FOREVER),
                   -EINTR, "naru_interrupt");
    pthread_join(thread, NULL);
    nr_check(pthread_create(&thread, NULL, nr_wait_in_thread, receiver) == 0, "no thread");
    nr_wait_interrupt_later(receiver);
    pthread_join(thread, NULL);
    nr_wait_expect_time_out(receiver);
}

/* -- signals at every moment --------------------------------------------------------------- */

static void nr_wait_ignore(int number)
{
    (void)number;
}

/* One signal with SA_RESTART and one without, each every 200 us. */
static void nr_wait_storm_begin(timer_t timers[2])
{
    static const int signals[2] = {SIGUSR1, SIGUSR2};
    long period_ns = 200000L * nr_kit_slowness();

    for (int i = 0; i < 2; i++) {
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = signals[i]};
        struct itimerspec every = {{0, period_ns}, {0, 1 + i * period_ns / 2}};
        nr_wait_handle(signals[i], nr_wait_ignore, i ? SA_RESTART : 0);
        nr_check(timer_create(CLOCK_MONOTONIC, &event, &timers[i]) == 0, "no timer");
        timer_settime(timers[i], 0, &every, NULL);
    }
}

static size_t nr_wait_storm_size(struct nr_channel *channel, struct naru_endpoint *endpoint,
                                 unsigned index)
{
    static const size_t sizes[] = {8, 64, 3000, 10000, 0};

    return nr_case_size(channel, endpoint, sizes[index % 5]);
}

static void nr_wait_storm_send(struct nr_channel *channel, struct naru_endpoint *endpoint,
                               int number)
{
    timer_t timers[2];

    nr_wait_storm_begin(timers);
    for (unsigned i = 0; i < (unsigned)number; i++) {
        size_t size_bytes = nr_wait_storm_size(channel, endpoint, i);
        nr_payload_fill(nr_case_room, size_bytes, 1, i);
        nr_check_ok(naru_send(endpoint, nr_case_room, size_bytes, i % 3 ? NARU_FOREVER : NR_SOON));
        if (i % 50 == 0)
            nr_kit_sleep_ms(2);
    }
    for (int i = 0; i < 2; i++)
        timer_delete(timers[i]);
}

static void nr_wait_storm(struct nr_channel *channel)
{
    struct naru_endpoint *receiver = nr_channel_open(channel, NARU_RECEIVER);
    pid_t pid = nr_channel_spawn(channel, NARU_SENDER, nr_wait_storm_send, NR_WAIT_STORM);
    timer_t timers[2];

    nr_wait_storm_begin(timers);
    for (unsigned i = 0; i < NR_WAIT_STORM; i++) {
        size_t got_bytes, size_bytes = nr_wait_storm_size(channel, receiver, i);
        nr_check_ok(naru_recv(receiver, nr_case_room, sizeof nr_case_room, &got_bytes,
                              i % 3 ? NARU_FOREVER : NR_SOON));
        nr_check(got_bytes == size_bytes && nr_payload_is_whole(nr_case_room, size_bytes, 1, i),
                 "message %u has %zu bytes, not %zu, or is damaged", i, got_bytes, size_bytes);
    }
    nr_kit_join(pid);
    for (int i = 0; i < 2; i++)
        timer_delete(timers[i]);
}

/* A wait that begins anew at each signal would never end. */
static void nr_wait_storm_time_out(struct nr_channel *channel)
{
    timer_t timers[2];

    nr_channel_open_both(channel);
    nr_wait_storm_begin(timers);
    nr_wait_expect_time_out(channel->end[NR_RECEIVER_END]);
    nr_wait_expect_time_out(channel->end[NR_RECEIVER_END]);
    for (int i = 0; i < 2; i++)
        timer_delete(timers[i]);
}

/* -- descriptors --------------------------------------------------------------------------- */

static bool nr_wait_is_ready(int fd, int64_t timeout_ns)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};

    return poll(&one, 1, (int)(timeout_ns / NARU_MILLISECOND)) == 1;
}

/* After -EAGAIN it is silent; it may have been readable for nothing a few times. */
static void nr_wait_expect_silent(struct naru_endpoint *receiver, int fd)
{
    for (int tries = 0; tries < 5; tries++) {
        nr_case_expect_nothing(receiver);
        if (!nr_wait_is_ready(fd, 20 * NARU_MILLISECOND))
            return;
    }
    nr_check(false, "it has nothing and goes on being readable");
}

/* Sends a message each time that *go goes up. */
static void nr_wait_send_on_go(struct nr_channel *channel, struct naru_endpoint *endpoint,
                               int number)
{
    for (int i = 1; i <= number; i++) {
        nr_kit_await(&channel->shared->go, i);
        nr_case_send(endpoint, nr_case_size(channel, endpoint, 5000), 1, (unsigned)i);
    }
    nr_kit_await(&channel->shared->stop, 1);
}

static void nr_wait_expect_ready(int fd)
{
    nr_check(nr_wait_is_ready(fd, NR_SOON), "a message was sent and the descriptor is silent");
    nr_check(nr_wait_is_ready(fd, 0) && nr_wait_is_ready(fd, 0), "it does not stay readable");
}

static void nr_wait_fd_kept(struct naru_endpoint *receiver, int fd, unsigned index,
                            bool is_one_in_hand)
{
    struct naru_message message;
    size_t size_bytes;
    unsigned char little[8];

    nr_check_fails(naru_recv(receiver, little, 4, &size_bytes, NR_SOON), -EMSGSIZE, "kept|room");
    nr_wait_expect_ready(fd);
    nr_check_ok(naru_take(receiver, &message, NR_SOON));
    if (!is_one_in_hand)
        nr_wait_expect_silent(receiver, fd);
    nr_check_ok(naru_requeue(receiver, &message));
    nr_wait_expect_ready(fd);
    nr_case_expect(receiver, size_bytes, 1, index);
}

static void nr_wait_fd(struct nr_channel *channel)
{
    struct naru_endpoint *receiver = nr_channel_open(channel, NARU_RECEIVER);
    pid_t pid = nr_channel_spawn(channel, NARU_SENDER, nr_wait_send_on_go, 25);
    int *go = &channel->shared->go;

    nr_kit_await(&channel->shared->senders_ready, 1);
    int fd = (int)nr_check_ok(naru_fd(receiver));
    size_t size_bytes = nr_case_size(channel, receiver, 5000);
    nr_wait_expect_silent(receiver, fd);
    for (int i = 1; i <= 20; i++) {
        nr_kit_add(go, 1);
        nr_wait_expect_ready(fd);
        nr_case_expect(receiver, size_bytes, 1, (unsigned)i);
        if (i % 2) /* or on to the next one without the -EAGAIN that arms it */
            nr_wait_expect_silent(receiver, fd);
        nr_check(naru_fd(receiver) == fd, "another number");
    }
    nr_wait_expect_silent(receiver, fd);
    nr_kit_add(go, 3);
    for (unsigned i = 21; i <= 23; i++) {
        nr_wait_expect_ready(fd);
        nr_case_expect(receiver, size_bytes, 1, i);
    }
    nr_wait_expect_silent(receiver, fd);
    nr_kit_add(go, 1);
    nr_wait_fd_kept(receiver, fd, 24, channel->row->has & NR_ONE_IN_HAND);
    nr_wait_expect_silent(receiver, fd);
    nr_kit_add(go, 1);
    nr_wait_expect_ready(fd);
    nr_case_expect(receiver, size_bytes, 1, 25);
    nr_kit_set(&channel->shared->stop, 1);
    nr_kit_join(pid);
    nr_channel_let_go(channel);
    if (channel->row->has & NR_ENDS) {
        nr_check(nr_wait_is_ready(fd, NR_SOON), "the end is not told");
        nr_case_expect_end(channel, receiver);
    }
}

static void nr_wait_send_fd(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *sender = channel->end[NR_SENDER_END];
    struct naru_endpoint *receiver = channel->end[NR_RECEIVER_END];
    size_t size_bytes = nr_case_size(channel, sender, 2000);

    int fd = (int)nr_check_ok(naru_send_fd(sender));
    for (int round = 0; round < 3; round++) {
        nr_check(nr_wait_is_ready(fd, NR_SOON), "there is room, and it is silent");
        unsigned sent = nr_case_fill(sender, size_bytes);
        int tries = 0;
        while (nr_wait_is_ready(fd, 20 * NARU_MILLISECOND)) {
            nr_check(++tries < 5, "it is full and says that there is room");
            sent += nr_case_fill(sender, size_bytes);
        }
        for (unsigned i = 0; i < sent; i++) {
            size_t got_bytes;
            nr_check_ok(
                naru_recv(receiver, nr_case_room, sizeof nr_case_room, &got_bytes, NR_SOON));
            nr_check(got_bytes == size_bytes, "%zu bytes", got_bytes);
        }
        nr_check(naru_send_fd(sender) == fd, "another number");
    }
}

static void nr_wait_send_fd_always(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *sender = channel->end[NR_SENDER_END];
    int fd = (int)nr_check_ok(naru_send_fd(sender));

    for (unsigned i = 0; i < 600; i++) {
        nr_check(nr_wait_is_ready(fd, 0), "there is always room, and it is silent");
        nr_case_send(sender, nr_case_size(channel, sender, 2000), 1, i);
    }
    if (!(channel->row->has & NR_NEWEST))
        return;
    struct naru_message
        loan; /* a send that is refused for another reason says nothing about room */
    nr_check_ok(naru_loan(sender, 8, &loan, 0));
    for (int i = 0; i < 3; i++) {
        nr_check_fails(naru_send(sender, "x", 1, 0), -EBUSY, "one loan");
        nr_check(nr_wait_is_ready(fd, 0), "there is always room, and it is silent");
    }
    nr_check_ok(naru_cancel(sender, &loan));
}

static void nr_wait_no_send_fd(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    nr_check_fails(naru_send_fd(channel->end[NR_SENDER_END]), -EOPNOTSUPP, "time-out");
}

const struct nr_case nr_wait_cases[] = {
    {.name = "time-outs when nothing is there",
     .body = nr_wait_nothing_there,
     .also = NR_NEWEST | NR_OVERWRITES},
    {.name = "full: nothing lost, nothing twice",
     .body = nr_wait_full,
     .needs = NR_BUFFERS | NR_FILLS,
     .seconds = 20},
    {.name = "an impatient sender and a slow receiver",
     .body = nr_wait_slow_receiver,
     .needs = NR_BUFFERS,
     .seconds = 20},
    {.name = "naru_interrupt ends a receive",
     .body = nr_wait_interrupt_recv,
     .needs = NR_BUFFERS,
     .also = NR_OVERWRITES},
    {.name = "naru_interrupt ends a send",
     .body = nr_wait_interrupt_send,
     .needs = NR_BUFFERS | NR_FILLS},
    {.name = "naru_interrupt from another thread",
     .body = nr_wait_interrupt_thread,
     .also = NR_NEWEST | NR_OVERWRITES},
    {.name = "a storm of signals", .body = nr_wait_storm, .seconds = 20},
    {.name = "a time-out in a storm of signals",
     .body = nr_wait_storm_time_out,
     .also = NR_NEWEST | NR_OVERWRITES},
    {.name = "the descriptor", .body = nr_wait_fd, .also = NR_OVERWRITES},
    {.name = "the descriptor for sending",
     .body = nr_wait_send_fd,
     .needs = NR_SEND_FD | NR_BUFFERS | NR_FILLS,
     .seconds = 20},
    {.name = "the descriptor for sending where it is never full",
     .body = nr_wait_send_fd_always,
     .needs = NR_SEND_FD,
     .lacks = NR_FILLS | NR_CALLS,
     .also = NR_NEWEST | NR_OVERWRITES},
    {.name = "no descriptor for sending",
     .body = nr_wait_no_send_fd,
     .lacks = NR_SEND_FD,
     .also = NR_NEWEST | NR_OVERWRITES},
    {0},
};
