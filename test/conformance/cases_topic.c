/* SPDX-License-Identifier: MIT */
/* cases_topic -- each message to every subscriber: order, late joiners, losses that are counted */
#include "cases.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { NR_TOPIC_SUBSCRIBERS = 3, NR_TOPIC_PUBLISHERS = 2, NR_TOPIC_MESSAGES = 400 };

static void nr_topic_publish(struct nr_channel *channel, struct naru_endpoint *endpoint, int number)
{
    static const size_t sizes[] = {16, 3000, 90, 20000};

    nr_kit_await(&channel->shared->receivers_ready, NR_TOPIC_SUBSCRIBERS);
    for (unsigned i = 0; i < NR_TOPIC_MESSAGES; i++)
        nr_case_send(endpoint, nr_case_size(channel, endpoint, sizes[i % 4]), (unsigned)number, i);
    nr_kit_add(&channel->shared->done, 1);
}

/* Of each publisher the messages come in order. All of them; or as many as are told to be lost are missing. */
static void nr_topic_subscribe(struct nr_channel *channel, struct naru_endpoint *endpoint,
                               int number)
{
    struct naru_message message = {.data = nr_case_room, .capacity_bytes = sizeof nr_case_room};
    unsigned next[NR_TOPIC_PUBLISHERS] = {0};
    uint64_t received = 0, lost = 0, all = NR_TOPIC_PUBLISHERS * NR_TOPIC_MESSAGES;

    while (received + lost < all) {
        struct nr_payload_stamp stamp;
        nr_check_ok(naru_recv_many(endpoint, &message, 1, NR_SOON));
        nr_check(nr_payload_read(nr_case_room, message.size_bytes, &stamp) &&
                     stamp.sender < NR_TOPIC_PUBLISHERS,
                 "a message of %zu bytes is damaged", message.size_bytes);
        nr_check(stamp.index >= next[stamp.sender], "number %u of publisher %u, after number %u",
                 stamp.index, stamp.sender, next[stamp.sender] - 1);
        nr_check(stamp.index == next[stamp.sender] || (channel->row->has & NR_OVERWRITES),
                 "number %u of publisher %u, and %u is missing", stamp.index, stamp.sender,
                 next[stamp.sender]);
        nr_check(message.known & NARU_KNOWS_LOST, "it does not know what is lost");
        next[stamp.sender] = stamp.index + 1;
        lost += message.lost;
        received++;
        if (number == 0 && received % 16 == 0) /* one is slow */
            nr_kit_sleep_ms(1);
    }
    nr_check(received + lost == all, "%lu received and %lu lost", (unsigned long)received,
             (unsigned long)lost);
    nr_case_expect_nothing(endpoint);
}

static void nr_topic_everybody(struct nr_channel *channel)
{
    pid_t subscribers[NR_TOPIC_SUBSCRIBERS], publishers[NR_TOPIC_PUBLISHERS];

    for (int i = 0; i < NR_TOPIC_SUBSCRIBERS; i++)
        subscribers[i] = nr_channel_spawn(channel, NARU_RECEIVER, nr_topic_subscribe, i);
    for (int i = 0; i < NR_TOPIC_PUBLISHERS; i++)
        publishers[i] = nr_channel_spawn(channel, NARU_SENDER, nr_topic_publish, i);
    for (int i = 0; i < NR_TOPIC_SUBSCRIBERS; i++)
        nr_kit_join(subscribers[i]);
    for (int i = 0; i < NR_TOPIC_PUBLISHERS; i++)
        nr_kit_join(publishers[i]);
}

static struct naru_endpoint *nr_topic_join(struct nr_channel *channel, enum naru_start start,
                                           uint32_t count)
{
    struct naru_options options = channel->options;
    struct naru_endpoint *endpoint = NULL;

    options.start = start;
    options.start_messages = count;
    nr_check_ok(nr_channel_try(channel, NARU_RECEIVER, &options, &endpoint));
    return endpoint;
}

static void nr_topic_late(struct nr_channel *channel)
{
    struct naru_endpoint *sender = nr_channel_open(channel, NARU_SENDER);
    size_t size_bytes = nr_case_size(channel, sender, 700);

    for (unsigned i = 0; i < 9; i++)
        nr_case_send(sender, size_bytes, 1, i);
    struct naru_endpoint *oldest = nr_topic_join(channel, NARU_FROM_OLDEST, 0);
    struct naru_endpoint *last = nr_topic_join(channel, NARU_FROM_LAST, 4);
    struct naru_endpoint *now = nr_topic_join(channel, 0, 0);
    nr_case_send(sender, size_bytes, 1, 9);
    for (unsigned i = 0; i < 10; i++)
        nr_case_expect(oldest, size_bytes, 1, i);
    for (unsigned i = 5; i < 10; i++)
        nr_case_expect(last, size_bytes, 1, i);
    nr_case_expect(now, size_bytes, 1, 9);
    nr_case_expect_nothing(oldest);
    nr_case_expect_nothing(last);
    nr_case_expect_nothing(now);
    naru_close(oldest);
    naru_close(last);
    naru_close(now);
}

/* A subscriber that sleeps in a call, one that waits for its descriptor: one message wakes both. */
static void nr_topic_wait(struct nr_channel *channel, struct naru_endpoint *endpoint, int number)
{
    (void)number;
    nr_case_expect(endpoint, nr_case_size(channel, endpoint, 100), 1, 0);
}

static void nr_topic_wakes_all(struct nr_channel *channel)
{
    pid_t pids[4];

    for (int i = 0; i < 4; i++)
        pids[i] = nr_channel_spawn(channel, NARU_RECEIVER, nr_topic_wait, i);
    nr_kit_await(&channel->shared->receivers_ready, 4);
    struct naru_endpoint *sender = nr_channel_open(channel, NARU_SENDER);
    nr_kit_sleep_ms(100);
    int64_t begin = nr_kit_now_ns();
    nr_case_send(sender, nr_case_size(channel, sender, 100), 1, 0);
    for (int i = 0; i < 4; i++)
        nr_kit_join(pids[i]);
    int64_t took = nr_kit_now_ns() - begin;
    nr_check(took < NARU_SECOND * nr_kit_slowness(), "the last one was woken after %.1f ms",
             (double)took / 1e6);
}

const struct nr_case nr_topic_cases[] = {
    {.name = "2 publishers and 3 subscribers",
     .body = nr_topic_everybody,
     .needs = NR_EVERY,
     .also = NR_OVERWRITES,
     .seconds = 20},
    {.name = "late joiners", .body = nr_topic_late, .needs = NR_EVERY, .also = NR_OVERWRITES},
    {.name = "one message wakes all",
     .body = nr_topic_wakes_all,
     .needs = NR_EVERY,
     .also = NR_OVERWRITES},
    {0},
};
