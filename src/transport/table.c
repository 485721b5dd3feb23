/* SPDX-License-Identifier: MIT */
/*
 * table -- the one place that says what each technique does; naru_open() and `naru transports` read it
 *
 * To add a row: a scheme's rows stand together, in the order of enum naru_pattern. The conformance
 * suite lists the rows it expects and fails on one more or one less.
 */
#include "transport/table.h"
#include "base/cleanup.h"
#include <string.h>

#define NR_ONE_READER                                                                              \
    "what one process reads is gone for the others; use shm:// or file:// when they come with it"
#define NR_NO_REPLY_PATH "there is no way back to who asked; open a second channel for the replies"
#define NR_KEEPS_ALL     "it keeps every message in order, not the newest; use shm:// with a cell"
#define NR_NOT_YET       "not in this version"

/* clang-format off */
static const struct naru_transport_row nr_table_rows[] = {
    {.scheme = "shm", .technique = "shared memory", .pattern = NARU_QUEUE,
     .supported = 1, .can_pair = 1, .can_be_both = 1, .example = "shm://name",
     .receivers = "many; or one_to_one", .sender_killed = "nothing committed is lost",
     .receiver_killed = "as the contract says", .descriptor = "eventfd; a ring or a thread watches the segment",
     .largest = "as the creator declares", .note = ""},
    {.scheme = "shm", .technique = "shared memory", .pattern = NARU_TOPIC,
     .supported = 1, .can_be_both = 1, .example = "shm://name",
     .receivers = "every subscriber", .sender_killed = "nothing committed is lost",
     .receiver_killed = "nobody waits for it", .descriptor = "eventfd; a ring or a thread watches the segment",
     .largest = "as the creator declares", .note = "lossless, or overwriting the oldest"},
    {.scheme = "shm", .technique = "shared memory", .pattern = NARU_CALL,
     .supported = 1, .can_be_both = 1, .example = "shm://name",
     .receivers = "many servers; each request to one",
     .sender_killed = "its requests and replies are dropped",
     .receiver_killed = "as the contract says: another server, or an error",
     .descriptor = "eventfd; a ring or a thread watches the segment", .largest = "as the creator declares",
     .note = "request and reply; senders are clients, receivers servers"},
    {.scheme = "shm", .technique = "shared memory", .pattern = NARU_CELL,
     .supported = 1, .can_be_both = 1, .example = "shm://name",
     .receivers = "many, each the newest value", .sender_killed = "the last whole value stays",
     .receiver_killed = "nothing is lost", .descriptor = "eventfd; a ring or a thread watches the segment",
     .largest = "as the creator declares", .note = "one writer at a time"},

    {.scheme = "file", .technique = "file", .pattern = NARU_QUEUE,
     .supported = 1, .can_be_both = 1, .example = "file:///path",
     .receivers = "many at most once (default); one at least once",
     .sender_killed = "nothing committed is lost",
     .receiver_killed = "as the contract says; messages stay when all have gone",
     .descriptor = "inotify on the journal", .largest = "1 GiB",
     .note = "a journal, made by whoever opens first; it grows until it is unlinked"},
    {.scheme = "file", .technique = "file", .pattern = NARU_TOPIC, .note = NR_NOT_YET},
    {.scheme = "file", .technique = "file", .pattern = NARU_CALL, .note = NR_NO_REPLY_PATH},
    {.scheme = "file", .technique = "file", .pattern = NARU_CELL, .note = NR_NOT_YET},

    {.scheme = "pipe", .technique = "pipe", .pattern = NARU_QUEUE,
     .supported = 1, .can_pair = 1, .example = "pipe://",
     .receivers = "one; many for messages of one fragment",
     .sender_killed = "its fragments are dropped, the stream goes on",
     .receiver_killed = "in hand: lost", .descriptor = "native", .largest = "1 GiB, in fragments",
     .note = "anonymous: naru_pair(), or pipe://N for an inherited descriptor"},
    {.scheme = "pipe", .technique = "pipe", .pattern = NARU_TOPIC, .note = NR_ONE_READER},
    {.scheme = "pipe", .technique = "pipe", .pattern = NARU_CALL, .note = NR_NOT_YET},
    {.scheme = "pipe", .technique = "pipe", .pattern = NARU_CELL, .note = NR_KEEPS_ALL},

    {.scheme = "fifo", .technique = "pipe", .pattern = NARU_QUEUE,
     .supported = 1, .example = "fifo:///path",
     .receivers = "one; many for messages of one fragment",
     .sender_killed = "its fragments are dropped, the stream goes on",
     .receiver_killed = "in hand: lost; the contents vanish with the last close",
     .descriptor = "native", .largest = "1 GiB, in fragments",
     .note = "a sender waits for a receiver to open"},
    {.scheme = "fifo", .technique = "pipe", .pattern = NARU_TOPIC, .note = NR_ONE_READER},
    {.scheme = "fifo", .technique = "pipe", .pattern = NARU_CALL, .note = NR_NO_REPLY_PATH},
    {.scheme = "fifo", .technique = "pipe", .pattern = NARU_CELL, .note = NR_KEEPS_ALL},

    {.scheme = "mq", .technique = "message queue", .pattern = NARU_QUEUE,
     .supported = 1, .can_pair = 1, .can_be_both = 1, .example = "mq://name",
     .receivers = "many", .sender_killed = "a message is whole or absent",
     .receiver_killed = "in hand: lost", .descriptor = "native",
     .largest = "the queue's, read from the kernel", .note = "priorities: message type"},
    {.scheme = "mq", .technique = "message queue", .pattern = NARU_TOPIC, .note = NR_ONE_READER},
    {.scheme = "mq", .technique = "message queue", .pattern = NARU_CALL, .note = NR_NOT_YET},
    {.scheme = "mq", .technique = "message queue", .pattern = NARU_CELL, .note = NR_KEEPS_ALL},

    {.scheme = "sysv", .technique = "message queue", .pattern = NARU_QUEUE,
     .supported = 1, .can_be_both = 1, .example = "sysv://1234",
     .receivers = "many", .sender_killed = "a message is whole or absent",
     .receiver_killed = "in hand: lost", .descriptor = "a thread that peeks without consuming",
     .largest = "the kernel's msgmax", .note = "types: message type"},
    {.scheme = "sysv", .technique = "message queue", .pattern = NARU_TOPIC, .note = NR_ONE_READER},
    {.scheme = "sysv", .technique = "message queue", .pattern = NARU_CALL, .note = NR_NOT_YET},
    {.scheme = "sysv", .technique = "message queue", .pattern = NARU_CELL, .note = NR_KEEPS_ALL},

    {.scheme = "unix", .technique = "socket", .pattern = NARU_QUEUE,
     .supported = 1, .can_pair = 1, .can_be_both = 1, .example = "unix:///path",
     .receivers = "the creator listens and deals round-robin", .sender_killed = "sent is sent",
     .receiver_killed = "buffered: lost, and the sender is told",
     .descriptor = "epoll over the connections", .largest = "1 GiB",
     .note = "passes descriptors and credentials"},
    {.scheme = "unix", .technique = "socket", .pattern = NARU_TOPIC, .note = NR_NOT_YET},
    {.scheme = "unix", .technique = "socket", .pattern = NARU_CALL, .note = NR_NOT_YET},
    {.scheme = "unix", .technique = "socket", .pattern = NARU_CELL, .note = NR_KEEPS_ALL},

    {.scheme = "abstract", .technique = "socket", .pattern = NARU_QUEUE,
     .supported = 1, .can_be_both = 1, .example = "abstract://name",
     .receivers = "the creator listens and deals round-robin", .sender_killed = "sent is sent",
     .receiver_killed = "buffered: lost, and the sender is told",
     .descriptor = "epoll over the connections", .largest = "1 GiB",
     .note = "passes descriptors and credentials; no file"},
    {.scheme = "abstract", .technique = "socket", .pattern = NARU_TOPIC, .note = NR_NOT_YET},
    {.scheme = "abstract", .technique = "socket", .pattern = NARU_CALL, .note = NR_NOT_YET},
    {.scheme = "abstract", .technique = "socket", .pattern = NARU_CELL, .note = NR_KEEPS_ALL},

    {.scheme = "tcp", .technique = "socket", .pattern = NARU_QUEUE,
     .supported = 1, .can_be_both = 1, .example = "tcp://127.0.0.1:7000",
     .receivers = "the creator listens and deals round-robin",
     .sender_killed = "acknowledged is delivered",
     .receiver_killed = "unacknowledged: the sender is told",
     .descriptor = "epoll over the connections", .largest = "1 GiB",
     .note = "committed = acknowledged by the receiving endpoint"},
    {.scheme = "tcp", .technique = "socket", .pattern = NARU_TOPIC, .note = NR_NOT_YET},
    {.scheme = "tcp", .technique = "socket", .pattern = NARU_CALL, .note = NR_NOT_YET},
    {.scheme = "tcp", .technique = "socket", .pattern = NARU_CELL, .note = NR_KEEPS_ALL},

    {.scheme = "signal", .technique = "signal", .pattern = NARU_QUEUE,
     .supported = 1, .example = "signal://pid",
     .receivers = "one: the process", .sender_killed = "stays pending", .receiver_killed = "lost",
     .descriptor = "signalfd", .largest = "8 bytes: a 64-bit value",
     .note = "the receiver opens signal://self"},
    {.scheme = "signal", .technique = "signal", .pattern = NARU_TOPIC, .note = "a signal has one target process; use shm://"},
    {.scheme = "signal", .technique = "signal", .pattern = NARU_CALL, .note = NR_NO_REPLY_PATH},
    {.scheme = "signal", .technique = "signal", .pattern = NARU_CELL, .note = NR_KEEPS_ALL},
};
/* clang-format on */

static const struct nr_transport *const nr_table_transports[] = {
    &nr_shm_transport, &nr_file_transport,   &nr_pipe_transport, &nr_fifo_transport,
    &nr_mq_transport,  &nr_sysv_transport,   &nr_unix_transport, &nr_abstract_transport,
    &nr_tcp_transport, &nr_signal_transport,
};

const struct nr_transport *nr_table_transport(const char *scheme)
{
    for (size_t i = 0; i < nr_count_of(nr_table_transports); i++)
        if (strcmp(nr_table_transports[i]->scheme, scheme) == 0)
            return nr_table_transports[i];
    return NULL;
}

const struct naru_transport_row *nr_table_row(const char *scheme, enum naru_pattern pattern)
{
    for (size_t i = 0; i < nr_count_of(nr_table_rows); i++)
        if (nr_table_rows[i].pattern == pattern && strcmp(nr_table_rows[i].scheme, scheme) == 0)
            return &nr_table_rows[i];
    return NULL;
}

const struct naru_transport_row *naru_transport_row(size_t index)
{
    return index < nr_count_of(nr_table_rows) ? &nr_table_rows[index] : NULL;
}

const char *nr_table_pattern_name(enum naru_pattern pattern)
{
    static const char *const names[] = {
        [NARU_QUEUE] = "queue",
        [NARU_TOPIC] = "topic",
        [NARU_CALL] = "call",
        [NARU_CELL] = "cell",
    };

    return pattern >= NARU_QUEUE && pattern <= NARU_CELL ? names[pattern] : "unknown";
}
