/* SPDX-License-Identifier: MIT */
/*
 * cases_prompt -- whoever waits is woken at once, not by a look-around that comes now and then
 *
 * What       The wait is some 170 ms old when what it waits for happens. A transport that looks again after 5, 10,
 *            20, 40, 80, 160 ms would then notice some 145 ms late, each time. One prompt try of several is enough, so that
 *            a busy machine does no harm.
 */
#include "cases.h"
#include <errno.h>
#include <poll.h>

enum { NR_PROMPT_IDLE_MS = 170, NR_PROMPT_LATE_MS = 60, NR_PROMPT_TRIES = 10 };

static bool nr_prompt_is_prompt(int64_t late_ns)
{
    return late_ns < NR_PROMPT_LATE_MS * NARU_MILLISECOND * nr_kit_slowness();
}

static void nr_prompt_check(int64_t best_ns)
{
    nr_check(nr_prompt_is_prompt(best_ns), "it was noticed %.1f ms late", (double)best_ns / 1e6);
}

/* The other side waits for its next turn, and there is none. */
static void nr_prompt_end(struct nr_channel *channel, pid_t pid)
{
    nr_kit_set(&channel->shared->stop, 1);
    nr_kit_add(&channel->shared->go, 1);
    nr_kit_join(pid);
}

/* Sends the time of sending, each time after a while; a message for a waiting receive, and one for poll. */
static void nr_prompt_send(struct nr_channel *channel, struct naru_endpoint *endpoint, int number)
{
    for (int i = 1; i <= number; i++) {
        nr_kit_await(&channel->shared->go, i);
        if (nr_kit_get(&channel->shared->stop))
            return;
        nr_kit_sleep_ms(NR_PROMPT_IDLE_MS);
        int64_t now = nr_kit_now_ns();
        nr_check_ok(naru_send(endpoint, &now, sizeof now, NR_SOON));
    }
}

static int64_t nr_prompt_receive(struct nr_channel *channel, struct naru_endpoint *receiver, int fd)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};
    int64_t sent_ns;

    nr_kit_add(&channel->shared->go, 1);
    if (fd >= 0)
        while (naru_recv(receiver, &sent_ns, sizeof sent_ns, NULL, 0) == -EAGAIN)
            nr_check(poll(&one, 1, 5000) == 1, "the descriptor is silent");
    else
        nr_check_ok(naru_recv(receiver, &sent_ns, sizeof sent_ns, NULL, NARU_FOREVER));
    return nr_kit_now_ns() - sent_ns;
}

static void nr_prompt_receiver(struct nr_channel *channel)
{
    struct naru_endpoint *receiver = nr_channel_open(channel, NARU_RECEIVER);
    pid_t pid = nr_channel_spawn(channel, NARU_SENDER, nr_prompt_send, 2 * NR_PROMPT_TRIES);

    nr_kit_await(&channel->shared->senders_ready, 1);
    for (int with_fd = 0; with_fd < 2; with_fd++) {
        int fd = with_fd ? (int)nr_check_ok(naru_fd(receiver)) : -1;
        int64_t best_ns = INT64_MAX;
        for (int i = 0; i < NR_PROMPT_TRIES && !nr_prompt_is_prompt(best_ns); i++) {
            int64_t late_ns = nr_prompt_receive(channel, receiver, fd);
            best_ns = late_ns < best_ns ? late_ns : best_ns;
        }
        nr_prompt_check(best_ns);
    }
    nr_prompt_end(channel, pid);
}

/* Takes everything, each time after a while, and notes when it began to. */
static void nr_prompt_make_room(struct nr_channel *channel, struct naru_endpoint *endpoint,
                                int number)
{
    int64_t *made_room_ns = (int64_t *)channel->shared->sum;

    for (int i = 1; i <= number; i++) {
        nr_kit_await(&channel->shared->go, i);
        if (nr_kit_get(&channel->shared->stop))
            return;
        nr_kit_sleep_ms(NR_PROMPT_IDLE_MS);
        nr_kit_set(made_room_ns, nr_kit_now_ns());
        while (naru_recv(endpoint, nr_case_room, sizeof nr_case_room, NULL,
                         20 * NARU_MILLISECOND) == 0)
            ;
        nr_kit_set(&channel->shared->done, i);
    }
}

static void nr_prompt_sender(struct nr_channel *channel)
{
    pid_t pid = nr_channel_spawn(channel, NARU_RECEIVER, nr_prompt_make_room, NR_PROMPT_TRIES);
    const int64_t *made_room_ns = (const int64_t *)channel->shared->sum;
    int64_t best_ns = INT64_MAX;

    nr_kit_await(&channel->shared->receivers_ready, 1);
    struct naru_endpoint *sender = nr_channel_open(channel, NARU_SENDER);
    nr_channel_let_go(channel);
    size_t size_bytes = nr_case_size(channel, sender, 4000);
    for (int i = 1; i <= NR_PROMPT_TRIES && !nr_prompt_is_prompt(best_ns); i++) {
        nr_case_fill(sender, size_bytes);
        nr_kit_add(&channel->shared->go, 1);
        nr_check_ok(naru_send(sender, nr_case_room, size_bytes, NARU_FOREVER));
        int64_t late_ns = nr_kit_now_ns() - nr_kit_get(made_room_ns);
        best_ns = late_ns < best_ns ? late_ns : best_ns;
        nr_kit_await(&channel->shared->done, i);
    }
    nr_prompt_check(best_ns);
    nr_prompt_end(channel, pid);
}

const struct nr_case nr_prompt_cases[] = {
    {.name = "a receiver that waits is woken at once",
     .body = nr_prompt_receiver,
     .also = NR_NEWEST | NR_OVERWRITES},
    {.name = "a sender that waits is woken at once",
     .body = nr_prompt_sender,
     .needs = NR_BUFFERS | NR_FILLS},
    {0},
};
