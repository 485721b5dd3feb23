/* SPDX-License-Identifier: MIT */
/* cases_many -- many senders, many receivers, many threads: whole, in order per sender, each once */
#include "cases.h"
#include <errno.h>
#include <pthread.h>
#include <string.h>

enum { NR_MANY_SENDERS_COUNT = 4, NR_MANY_MESSAGES = 300, NR_MANY_THREADS = 3, NR_MANY_EACH = 150 };

static size_t nr_many_size(struct nr_channel *channel, struct naru_endpoint *endpoint,
                           unsigned index)
{
    static const size_t sizes[] = {8, 100, 3000, 5000, 20000, 64};

    return nr_case_size(channel, endpoint, sizes[index % 6]);
}

static void nr_many_send(struct nr_channel *channel, struct naru_endpoint *endpoint, int number)
{
    nr_kit_await(&channel->shared->senders_ready, NR_MANY_SENDERS_COUNT); /* all at once */
    for (unsigned i = 0; i < NR_MANY_MESSAGES; i++)
        nr_case_send(endpoint, nr_many_size(channel, endpoint, i), (unsigned)number, i);
}

static void nr_many_senders(struct nr_channel *channel)
{
    struct naru_endpoint *receiver = nr_channel_open(channel, NARU_RECEIVER);
    unsigned next[NR_MANY_SENDERS_COUNT] = {0};
    pid_t pids[NR_MANY_SENDERS_COUNT];

    for (int i = 0; i < NR_MANY_SENDERS_COUNT; i++)
        pids[i] = nr_channel_spawn(channel, NARU_SENDER, nr_many_send, i);
    for (int n = 0; n < NR_MANY_SENDERS_COUNT * NR_MANY_MESSAGES; n++) {
        struct nr_payload_stamp stamp;
        size_t size_bytes;
        nr_check_ok(naru_recv(receiver, nr_case_room, sizeof nr_case_room, &size_bytes, NR_SOON));
        nr_check(nr_payload_read(nr_case_room, size_bytes, &stamp), "%zu bytes that are not whole",
                 size_bytes);
        nr_check(stamp.sender < NR_MANY_SENDERS_COUNT, "sender %u", stamp.sender);
        nr_check(stamp.index == next[stamp.sender], "message %u of sender %u came, and %u was next",
                 stamp.index, stamp.sender, next[stamp.sender]);
        nr_check(size_bytes == nr_many_size(channel, receiver, stamp.index), "%zu bytes",
                 size_bytes);
        next[stamp.sender]++;
    }
    for (int i = 0; i < NR_MANY_SENDERS_COUNT; i++)
        nr_kit_join(pids[i]);
}

/* -- many receivers ------------------------------------------------------------------------ */

/* Notes each message that comes, until told to stop and nothing is left. */
static void nr_many_receive(struct nr_channel *channel, struct naru_endpoint *endpoint, int number)
{
    struct nr_channel_shared *shared = channel->shared;
    struct nr_payload_stamp stamp;
    size_t size_bytes;

    for (;;) {
        bool is_last = nr_kit_get(&shared->stop);
        int result = naru_recv(endpoint, nr_case_room, sizeof nr_case_room, &size_bytes,
                               20 * NARU_MILLISECOND);
        if (result == -ETIMEDOUT || result == -EPIPE) {
            if (is_last)
                return;
            continue;
        }
        nr_check_ok(result);
        nr_check(nr_payload_read(nr_case_room, size_bytes, &stamp), "not whole");
        nr_check(nr_kit_add(&shared->seen[stamp.index], 1) == 1, "message %u came twice",
                 stamp.index);
        nr_kit_add(&shared->count[number], 1);
        nr_kit_add(&shared->done, 1);
    }
}

static void nr_many_receivers_from(struct nr_channel *channel, struct naru_endpoint *sender,
                                   const pid_t pids[3], size_t wanted_bytes)
{
    struct nr_channel_shared *shared = channel->shared;
    size_t size_bytes = nr_case_size(channel, sender, wanted_bytes);
    int before = nr_kit_get(&shared->done);

    for (unsigned i = 0; i < 600; i++)
        nr_case_send(sender, size_bytes, 1, i);
    nr_kit_await(&shared->done, before + 600);
    nr_kit_set(&shared->stop, 1);
    for (int i = 0; i < 3; i++)
        nr_kit_join(pids[i]);
    nr_check(nr_kit_get(&shared->done) == 600, "%d came", shared->done);
}

static void nr_many_receivers(struct nr_channel *channel)
{
    bool is_small = channel->row->has & NR_SEVERAL_FRAGMENTS;
    pid_t pids[3];

    for (int i = 0; i < 3; i++)
        pids[i] = nr_channel_spawn(channel, NARU_RECEIVER, nr_many_receive, i);
    nr_kit_await(&channel->shared->receivers_ready, 3);
    struct naru_endpoint *sender = nr_channel_open(channel, NARU_SENDER);
    nr_many_receivers_from(channel, sender, pids, is_small ? 3000 : 6000);
}

/* Who creates listens, and deals to those who come, in turn. */
static void nr_many_dealt(struct nr_channel *channel)
{
    struct naru_endpoint *sender = nr_channel_open(channel, NARU_SENDER);
    pid_t pids[3];

    for (int i = 0; i < 3; i++)
        pids[i] = nr_channel_spawn(channel, NARU_RECEIVER, nr_many_receive, i);
    nr_kit_await(&channel->shared->receivers_ready, 3);
    nr_many_receivers_from(channel, sender, pids, 6000);
    for (int i = 0; i < 3; i++)
        nr_check(nr_kit_get(&channel->shared->count[i]) > 0, "receiver %d got none", i);
}

/* -- threads ------------------------------------------------------------------------------- */

struct nr_many_thread {
    struct nr_channel *channel;
    struct naru_endpoint *endpoint;
    unsigned number;
};

static void *nr_many_thread_send(void *argument)
{
    const struct nr_many_thread *thread = argument;
    unsigned char room[20000];

    for (unsigned i = 0; i < NR_MANY_EACH; i++) {
        size_t size_bytes = nr_many_size(thread->channel, thread->endpoint, i);
        nr_payload_fill(room, size_bytes, thread->number, i);
        nr_check_ok(naru_send(thread->endpoint, room, size_bytes, NR_SOON));
    }
    return NULL;
}

static void *nr_many_thread_receive(void *argument)
{
    const struct nr_many_thread *thread = argument;
    struct nr_channel_shared *shared = thread->channel->shared;
    unsigned char room[20000];
    int64_t end = nr_kit_now_ns() + NR_SOON;

    while (nr_kit_get(&shared->done) < NR_MANY_THREADS * NR_MANY_EACH) {
        struct nr_payload_stamp stamp;
        size_t size_bytes;
        int result =
            naru_recv(thread->endpoint, room, sizeof room, &size_bytes, 20 * NARU_MILLISECOND);
        nr_check(nr_kit_now_ns() < end, "%d came only", nr_kit_get(&shared->done));
        if (result == -ETIMEDOUT || result == -EPIPE)
            continue;
        nr_check_ok(result);
        nr_check(nr_payload_read(room, size_bytes, &stamp), "%zu bytes that are not whole",
                 size_bytes);
        nr_check(stamp.sender < NR_MANY_THREADS && stamp.index < NR_MANY_EACH, "who is that?");
        nr_check(nr_kit_add(&shared->seen[stamp.sender * NR_MANY_EACH + stamp.index], 1) == 1,
                 "message %u of thread %u came twice", stamp.index, stamp.sender);
        nr_kit_add(&shared->done, 1);
    }
    return NULL;
}

static void nr_many_run_threads(struct nr_channel *channel, struct naru_endpoint *endpoint,
                                void *(*body)(void *))
{
    struct nr_many_thread threads[NR_MANY_THREADS];
    pthread_t ids[NR_MANY_THREADS];

    for (unsigned i = 0; i < NR_MANY_THREADS; i++) {
        threads[i] = (struct nr_many_thread){channel, endpoint, i};
        nr_check(pthread_create(&ids[i], NULL, body, &threads[i]) == 0, "no thread");
    }
    for (int i = 0; i < NR_MANY_THREADS; i++)
        pthread_join(ids[i], NULL);
}

static void nr_many_send_threads(struct nr_channel *channel, struct naru_endpoint *endpoint,
                                 int number)
{
    struct naru_stat stat = {.size_bytes = sizeof stat};

    (void)number;
    nr_many_run_threads(channel, endpoint, nr_many_thread_send);
    nr_check_ok(naru_stat(endpoint, &stat));
    nr_check(stat.sent_messages == NR_MANY_THREADS * NR_MANY_EACH, "%lu sent",
             (unsigned long)stat.sent_messages);
    nr_kit_await(&channel->shared->stop, 1);
}

static void nr_many_threads(struct nr_channel *channel)
{
    struct naru_endpoint *receiver = nr_channel_open(channel, NARU_RECEIVER);
    struct naru_stat stat = {.size_bytes = sizeof stat};
    pid_t pid = nr_channel_spawn(channel, NARU_SENDER, nr_many_send_threads, 0);

    nr_many_run_threads(channel, receiver, nr_many_thread_receive);
    nr_check_ok(naru_stat(receiver, &stat));
    nr_check(stat.received_messages == NR_MANY_THREADS * NR_MANY_EACH, "%lu received",
             (unsigned long)stat.received_messages);
    nr_kit_set(&channel->shared->stop, 1);
    nr_kit_join(pid);
}

const struct nr_case nr_many_cases[] = {
    {.name = "4 senders with 300 messages each",
     .body = nr_many_senders,
     .needs = NR_MANY_SENDERS,
     .seconds = 20},
    {.name = "3 receivers", .body = nr_many_receivers, .needs = NR_MANY_RECEIVERS, .seconds = 20},
    {.name = "3 receivers are dealt to",
     .body = nr_many_dealt,
     .needs = NR_CREATES_FIRST,
     .seconds = 20},
    {.name = "several threads on one endpoint",
     .body = nr_many_threads,
     .lacks = NR_ONE_TO_ONE,
     .seconds = 20},
    {0},
};
