/* SPDX-License-Identifier: MIT */
/* cases_cell -- the newest value: versions, many readers, writers that come after each other */
#include "cases.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { NR_CELL_VALUES = 500, NR_CELL_READERS = 3, NR_CELL_WRITERS = 10 };

static void nr_cell_newest(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *sender = channel->end[NR_SENDER_END];
    struct naru_endpoint *receiver = channel->end[NR_RECEIVER_END], *later = NULL;
    size_t largest = nr_channel_largest(channel, sender);
    struct naru_message message = {.data = nr_case_room, .capacity_bytes = sizeof nr_case_room};

    for (unsigned i = 0; i < 20; i++)
        nr_case_send(sender, i * 100, 1, i);
    nr_case_expect(receiver, 1900, 1, 19);
    nr_case_expect_nothing(receiver);
    nr_case_send(sender, largest, 1, 20);
    nr_check_fails(naru_recv(receiver, NULL, 0, NULL, 0), -EMSGSIZE, "room");
    nr_check_ok(naru_recv_many(receiver, &message, 1, 0));
    nr_check(message.sequence == 21 && message.lost == 0, "version %lu, lost %lu",
             (unsigned long)message.sequence, (unsigned long)message.lost);
    nr_check(nr_payload_is_whole(nr_case_room, largest, 1, 20), "damaged");
    nr_check_ok(nr_channel_try(channel, NARU_RECEIVER, NULL, &later));
    nr_case_expect(later, largest, 1, 20); /* it was there before that one came */
    nr_case_expect_nothing(later);
    naru_close(later);
}

static void nr_cell_write(struct nr_channel *channel, struct naru_endpoint *endpoint, int number)
{
    size_t size_bytes = nr_case_size(channel, endpoint, 3000);

    nr_kit_await(&channel->shared->receivers_ready, NR_CELL_READERS);
    for (unsigned i = 0; i < NR_CELL_VALUES; i++)
        nr_case_send(endpoint, size_bytes, (unsigned)number, i);
}

/* Versions only go up, each is whole, and the last one comes to everybody. */
static void nr_cell_read(struct nr_channel *channel, struct naru_endpoint *endpoint, int number)
{
    size_t size_bytes = nr_case_size(channel, endpoint, 3000);
    struct naru_message message = {.data = nr_case_room, .capacity_bytes = sizeof nr_case_room};
    struct nr_payload_stamp stamp = {0};
    uint64_t version = 0;

    (void)number;
    while (stamp.index < NR_CELL_VALUES - 1) {
        nr_check_ok(naru_recv_many(endpoint, &message, 1, NR_SOON));
        nr_check(message.size_bytes == size_bytes &&
                     nr_payload_read(nr_case_room, size_bytes, &stamp),
                 "version %lu is damaged", (unsigned long)message.sequence);
        nr_check(message.sequence > version && message.sequence == stamp.index + 1,
                 "version %lu after %lu has number %u", (unsigned long)message.sequence,
                 (unsigned long)version, stamp.index);
        version = message.sequence;
    }
}

static void nr_cell_readers(struct nr_channel *channel)
{
    pid_t pids[NR_CELL_READERS];

    for (int i = 0; i < NR_CELL_READERS; i++)
        pids[i] = nr_channel_spawn(channel, NARU_RECEIVER, nr_cell_read, i);
    nr_kit_await(&channel->shared->receivers_ready, 1);
    pid_t writer = nr_channel_spawn(channel, NARU_SENDER, nr_cell_write, 1);
    for (int i = 0; i < NR_CELL_READERS; i++)
        nr_kit_join(pids[i]);
    nr_kit_join(writer);
}

static void nr_cell_write_for_ever(struct nr_channel *channel, struct naru_endpoint *endpoint,
                                   int number)
{
    for (unsigned i = 0;; i++) {
        nr_case_send(endpoint, nr_case_size(channel, endpoint, 9000), (unsigned)number, i);
        nr_kit_set(&channel->shared->done, number);
    }
}

/* One writer at a time; when it is killed its last whole value stays, and the next one goes on. */
static void nr_cell_takeover(struct nr_channel *channel)
{
    struct naru_message message = {.data = nr_case_room, .capacity_bytes = sizeof nr_case_room};
    struct naru_endpoint *second = NULL;
    uint64_t version = 0;
    char pid_text[16];

    for (int i = 1; i <= NR_CELL_WRITERS; i++) {
        pid_t pid = nr_channel_spawn(channel, NARU_SENDER, nr_cell_write_for_ever, i);
        nr_kit_await(&channel->shared->done, i);
        snprintf(pid_text, sizeof pid_text, "%d", (int)pid);
        nr_check_fails(nr_channel_try(channel, NARU_SENDER, NULL, &second), -EBUSY, pid_text);
        nr_kit_kill(pid);
        struct naru_endpoint *receiver = nr_channel_open(channel, NARU_RECEIVER);
        struct nr_payload_stamp stamp = {0};
        nr_check_ok(naru_recv_many(receiver, &message, 1, 0));
        nr_check(nr_payload_read(nr_case_room, message.size_bytes, &stamp) &&
                     stamp.sender == (unsigned)i && message.sequence > version,
                 "version %lu of writer %u", (unsigned long)message.sequence, stamp.sender);
        version = message.sequence;
        nr_channel_close_end(channel, NR_RECEIVER_END);
    }
    nr_channel_open_both(channel);
    nr_case_send(channel->end[NR_SENDER_END], 8, 99, 1);
    nr_case_expect(channel->end[NR_RECEIVER_END], 8, 99, 1);
}

const struct nr_case nr_cell_cases[] = {
    {.name = "the newest value", .body = nr_cell_newest, .needs = NR_NEWEST},
    {.name = "3 readers of 500 values", .body = nr_cell_readers, .needs = NR_NEWEST, .seconds = 20},
    {.name = "writers one after the other, each killed",
     .body = nr_cell_takeover,
     .needs = NR_NEWEST,
     .seconds = 20},
    {0},
};
