/* SPDX-License-Identifier: MIT */
/* cases_basic -- messages arrive as they were sent: sizes, order, parts, types, batches */
#include "cases.h"
#include <errno.h>
#include <string.h>

static const size_t nr_basic_sizes[] = {0, 1, 7, 8, 63, 64, 65, 3584, 4096, 64 << 10, 1 << 20};
enum { NR_BASIC_SIZES = sizeof nr_basic_sizes / sizeof nr_basic_sizes[0], NR_BASIC_ORDERED = 2000 };

static void nr_basic_send_number(struct nr_channel *channel, struct naru_endpoint *endpoint,
                                 int number)
{
    nr_case_send(endpoint, nr_case_size(channel, endpoint, 100), 7, (unsigned)number);
}

static void nr_basic_one(struct nr_channel *channel)
{
    struct naru_endpoint *receiver = nr_channel_open(channel, NARU_RECEIVER);
    pid_t pid = nr_channel_spawn(channel, NARU_SENDER, nr_basic_send_number, 1);
    struct naru_message message = {.data = nr_case_room, .capacity_bytes = sizeof nr_case_room};

    nr_check(nr_check_ok(naru_recv_many(receiver, &message, 1, NR_SOON)) == 1, "not one");
    nr_check(message.size_bytes == nr_case_size(channel, receiver, 100), "%zu bytes",
             message.size_bytes);
    nr_check(nr_payload_is_whole(nr_case_room, message.size_bytes, 7, 1), "damaged");
    nr_check(message.flags == 0 && message.lost == 0, "flags %u, lost %lu", message.flags,
             (unsigned long)message.lost);
    if (message.known & NARU_KNOWS_SENDER_PID)
        nr_check(message.sender_pid == pid, "from process %d, not %d", message.sender_pid,
                 (int)pid);
    nr_kit_join(pid);
}

static void nr_basic_in_one_process(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *sender = channel->end[NR_SENDER_END];
    size_t size_bytes = nr_case_size(channel, sender, 64);

    for (unsigned i = 0; i < 100; i++) {
        nr_case_send(sender, size_bytes, 1, i);
        nr_case_expect(channel->end[NR_RECEIVER_END], size_bytes, 1, i);
    }
    nr_case_expect_nothing(channel->end[NR_RECEIVER_END]);
}

/* Every size up to the largest goes through; every other is refused, and what comes behind it is well. */
static void nr_basic_send_sizes(struct nr_channel *channel, struct naru_endpoint *endpoint,
                                int number)
{
    size_t largest = nr_channel_largest(channel, endpoint);
    struct naru_stat stat = {.size_bytes = sizeof stat};

    nr_check_ok(naru_stat(endpoint, &stat));
    for (unsigned i = 0; i < NR_BASIC_SIZES; i++) {
        size_t size_bytes = nr_basic_sizes[i];
        if (size_bytes > largest)
            nr_check_fails(naru_send(endpoint, nr_case_room, size_bytes, NR_SOON), -EMSGSIZE,
                           "bytes");
        else if ((channel->row->has & NR_EIGHT) && size_bytes != 8)
            nr_check_fails(naru_send(endpoint, nr_case_room, size_bytes, NR_SOON), -EMSGSIZE,
                           "exactly 8");
        else
            nr_case_send(endpoint, size_bytes, 7, i);
        /* Only the size is looked at: nobody has so much memory. */
        nr_check_fails(naru_send(endpoint, nr_case_room, stat.message_size_max_bytes + 1, 0),
                       -EMSGSIZE, "at most");
    }
    if (!(channel->row->has & NR_EIGHT))
        nr_case_send(endpoint, largest, 7, 99);
    nr_basic_send_number(channel, endpoint, number);
}

static void nr_basic_all_sizes(struct nr_channel *channel)
{
    struct naru_endpoint *receiver = nr_channel_open(channel, NARU_RECEIVER);
    size_t largest = nr_channel_largest(channel, receiver);
    pid_t pid = nr_channel_spawn(channel, NARU_SENDER, nr_basic_send_sizes, 100);

    for (unsigned i = 0; i < NR_BASIC_SIZES; i++) {
        bool goes =
            channel->row->has & NR_EIGHT ? nr_basic_sizes[i] == 8 : nr_basic_sizes[i] <= largest;
        if (goes)
            nr_case_expect(receiver, nr_basic_sizes[i], 7, i);
    }
    if (!(channel->row->has & NR_EIGHT))
        nr_case_expect(receiver, largest, 7, 99);
    nr_case_expect(receiver, nr_case_size(channel, receiver, 100), 7, 100);
    nr_kit_join(pid);
}

static void nr_basic_send_in_order(struct nr_channel *channel, struct naru_endpoint *endpoint,
                                   int number)
{
    size_t size_bytes = nr_case_size(channel, endpoint, 48);

    for (unsigned i = 0; i < (unsigned)number; i++)
        nr_case_send(endpoint, size_bytes, 1, i);
}

static void nr_basic_order(struct nr_channel *channel)
{
    struct naru_endpoint *receiver = nr_channel_open(channel, NARU_RECEIVER);
    size_t size_bytes = nr_case_size(channel, receiver, 48);
    pid_t pid = nr_channel_spawn(channel, NARU_SENDER, nr_basic_send_in_order, NR_BASIC_ORDERED);

    for (unsigned i = 0; i < NR_BASIC_ORDERED; i++)
        nr_case_expect(receiver, size_bytes, 1, i);
    nr_kit_join(pid);
}

/* The same bytes in 0 to 20 parts, some of them empty. */
static void nr_basic_send_parts(struct nr_channel *channel, struct naru_endpoint *endpoint,
                                int number)
{
    static const int counts[] = {1, 3, 20};
    static const size_t sizes[] = {8, 100, 5000, 100000};
    struct iovec parts[20];
    unsigned index = (unsigned)number;

    for (int s = 0; s < 4; s++) {
        size_t size_bytes = nr_case_size(channel, endpoint, sizes[s]);
        for (int c = 0; c < 3; c++) {
            size_t offset = 0;
            nr_payload_fill(nr_case_room, size_bytes, 2, index++);
            for (int i = 0; i < counts[c]; i++) {
                size_t end = i == counts[c] - 1 ? size_bytes : size_bytes * (size_t)(i + 1) / 20;
                parts[i] = (struct iovec){.iov_base = nr_case_room + offset,
                                          .iov_len = i % 4 == 3 && i < 19 ? 0 : end - offset};
                offset += parts[i].iov_len;
            }
            nr_check_ok(naru_sendv(endpoint, parts, counts[c], NULL, NR_SOON));
        }
    }
    if (!(channel->row->has & NR_EIGHT))
        nr_check_ok(naru_sendv(endpoint, NULL, 0, NULL, NR_SOON));
    nr_check_fails(naru_sendv(endpoint, NULL, 2, NULL, NR_SOON), -EINVAL, "parts");
    nr_check_fails(naru_sendv(endpoint, parts, -1, NULL, NR_SOON), -EINVAL, "parts");
    parts[0].iov_len = parts[1].iov_len = SIZE_MAX / 2 + 1;
    nr_check_fails(naru_sendv(endpoint, parts, 2, NULL, NR_SOON), -EMSGSIZE, "bytes");
}

static void nr_basic_vectors(struct nr_channel *channel)
{
    static const size_t sizes[] = {8, 100, 5000, 100000};
    struct naru_endpoint *receiver = nr_channel_open(channel, NARU_RECEIVER);
    pid_t pid = nr_channel_spawn(channel, NARU_SENDER, nr_basic_send_parts, 0);

    for (unsigned i = 0; i < 12; i++)
        nr_case_expect(receiver, nr_case_size(channel, receiver, sizes[i / 3]), 2, i);
    if (!(channel->row->has & NR_EIGHT))
        nr_case_expect(receiver, 0, 0, 0);
    nr_kit_join(pid);
}

static void nr_basic_types(struct nr_channel *channel)
{
    struct naru_message message = {.data = nr_case_room, .capacity_bytes = sizeof nr_case_room};

    nr_channel_open_both(channel);
    for (int64_t type = 1; type < 10; type += 4) {
        struct naru_message attributes = {.type = type};
        struct iovec part = {.iov_base = nr_case_room, .iov_len = 16};
        nr_check_ok(naru_sendv(channel->end[NR_SENDER_END], &part, 1, &attributes, NR_SOON));
        nr_check_ok(naru_recv_many(channel->end[NR_RECEIVER_END], &message, 1, NR_SOON));
        nr_check(message.known & NARU_KNOWS_TYPE, "the type is not known");
        nr_check(message.type == type, "type %ld", (long)message.type);
    }
}

static void nr_basic_batch_expect(struct naru_endpoint *receiver, unsigned count)
{
    unsigned char data[8][64];
    struct naru_message messages[8];

    for (unsigned got = 0; got < count;) {
        for (int i = 0; i < 8; i++)
            messages[i] = (struct naru_message){.data = data[i], .capacity_bytes = 64};
        long now = nr_check_ok(naru_recv_many(receiver, messages, 8, NR_SOON));
        nr_check(now >= 1 && got + (unsigned)now <= count, "%ld at once", now);
        for (int i = 0; i < now; i++, got++)
            nr_check(messages[i].size_bytes == 8 && nr_payload_is_whole(data[i], 8, 1, got),
                     "message %u", got);
    }
}

static void nr_basic_batches(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *sender = channel->end[NR_SENDER_END];
    struct naru_endpoint *receiver = channel->end[NR_RECEIVER_END];
    struct naru_stat stat = {.size_bytes = sizeof stat};
    struct naru_message messages[5] = {0};
    unsigned char data[5][8];

    nr_check_ok(naru_stat(sender, &stat));
    for (unsigned i = 0; i < 5; i++) {
        nr_payload_fill(data[i], 8, 1, i);
        messages[i].data = data[i];
        messages[i].size_bytes = 8;
    }
    for (int sent = 0; sent < 5;)
        sent +=
            (int)nr_check_ok(naru_send_many(sender, messages + sent, (size_t)(5 - sent), NR_SOON));
    nr_basic_batch_expect(receiver, 5);
    messages[2].size_bytes = stat.message_size_max_bytes + 1;
    nr_check(naru_send_many(sender, messages, 5, NR_SOON) == 2, "two fit");
    nr_check_fails(naru_send_many(sender, messages + 2, 3, NR_SOON), -EMSGSIZE, "at most");
    nr_check_fails(naru_send_many(sender, messages, 0, NR_SOON), -EINVAL, "messages");
    nr_check_fails(naru_send_many(sender, NULL, 3, NR_SOON), -EINVAL, "messages");
    nr_basic_batch_expect(receiver, 2);
    nr_case_expect_nothing(receiver);
    nr_check_fails(naru_recv_many(receiver, NULL, 1, 0), -EINVAL, "messages");
}

/* A batch ends at a message that does not fit; it stays, and the order with it. */
static void nr_basic_batch_too_small(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *receiver = channel->end[NR_RECEIVER_END];
    size_t sizes[] = {8, 16, nr_case_size(channel, receiver, 5000), 24};
    unsigned char data[8][64];
    struct naru_message messages[8];
    long got = 0;

    for (unsigned i = 0; i < 4; i++)
        nr_case_send(channel->end[NR_SENDER_END], sizes[i], 1, i);
    for (int i = 0; i < 8; i++)
        messages[i] = (struct naru_message){.data = data[i], .capacity_bytes = 64};
    while (got < 2)
        got += nr_check_ok(naru_recv_many(receiver, messages + got, (size_t)(8 - got), NR_SOON));
    nr_check(got == 2, "%ld came, of which the last does not fit", got);
    nr_check_fails(naru_recv_many(receiver, messages, 8, NR_SOON), -EMSGSIZE, "bytes|kept");
    nr_check(messages[0].size_bytes == sizes[2], "it needs %zu", messages[0].size_bytes);
    nr_case_expect(receiver, sizes[2], 1, 2);
    nr_case_expect(receiver, sizes[3], 1, 3);
    nr_case_expect_nothing(receiver);
}

static void nr_basic_small_room(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *receiver = channel->end[NR_RECEIVER_END];
    size_t sizes[] = {100, nr_case_size(channel, receiver, 60000), 200};
    unsigned char little[16] = "untouched";
    size_t size_bytes = 0;

    for (unsigned i = 0; i < 3; i++)
        nr_case_send(channel->end[NR_SENDER_END], sizes[i], 1, i);
    for (unsigned i = 0; i < 3; i++) {
        for (int again = 0; again < 2; again++) {
            nr_check_fails(naru_recv(receiver, little, 10, &size_bytes, NR_SOON), -EMSGSIZE,
                           "kept|room");
            nr_check(size_bytes == sizes[i], "it needs %zu, and tells %zu", sizes[i], size_bytes);
            nr_check_fails(naru_recv(receiver, NULL, 0, &size_bytes, 0), -EMSGSIZE, "kept|room");
        }
        nr_case_expect(receiver, sizes[i], 1, i);
    }
    nr_case_expect_nothing(receiver);
    nr_check_fails(naru_recv(receiver, NULL, 10, NULL, 0), -EINVAL, "NULL");
    nr_check_fails(naru_send(channel->end[NR_SENDER_END], NULL, 10, 0), -EINVAL, "NULL");
}

const struct nr_case nr_basic_cases[] = {
    {.name = "one message", .body = nr_basic_one, .also = NR_NEWEST | NR_OVERWRITES},
    {.name = "both ends in one process",
     .body = nr_basic_in_one_process,
     .needs = NR_BUFFERS,
     .also = NR_OVERWRITES},
    {.name = "all sizes", .body = nr_basic_all_sizes, .seconds = 20},
    {.name = "order of 2000", .body = nr_basic_order, .seconds = 20},
    {.name = "messages in parts", .body = nr_basic_vectors},
    {.name = "types",
     .body = nr_basic_types,
     .needs = NR_TYPES | NR_BUFFERS,
     .also = NR_OVERWRITES},
    {.name = "batches", .body = nr_basic_batches, .needs = NR_BUFFERS, .also = NR_OVERWRITES},
    {.name = "a batch with one too large for its room",
     .body = nr_basic_batch_too_small,
     .needs = NR_BUFFERS,
     .lacks = NR_EIGHT,
     .also = NR_OVERWRITES},
    {.name = "too little room keeps the message",
     .body = nr_basic_small_room,
     .needs = NR_BUFFERS,
     .lacks = NR_EIGHT,
     .also = NR_OVERWRITES},
    {0},
};
