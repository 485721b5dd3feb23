/* SPDX-License-Identifier: MIT */
/* boost -- Boost.Interprocess's message_queue, many to many; to spin is to try over and over */
#include "peer.h"
#include <boost/interprocess/ipc/message_queue.hpp>

using boost::interprocess::interprocess_exception;
using boost::interprocess::message_queue;

namespace
{

enum { BOOST_PEER_CAPACITY = 1024, BOOST_PEER_MEMORY = 64 * 1024 * 1024 };

struct boost_ways {
    message_queue *in, *out;
};

/* [0] to the server, [1] to the client */
const char *boost_name(const struct bench_link *link, int way, char text[BENCH_NAME_BYTES])
{
    return bench_peer_name(link, way ? "back-" : "there-", text);
}

void boost_prepare(struct bench_link *link)
{
    char name[BENCH_NAME_BYTES];
    size_t capacity = link->task->capacity;

    if (capacity == 0)
        capacity = BOOST_PEER_CAPACITY;
    if (capacity * link->size_bytes > BOOST_PEER_MEMORY)
        capacity = BOOST_PEER_MEMORY / link->size_bytes;
    for (int way = 0; way < 2; way++)
        message_queue(boost::interprocess::create_only, boost_name(link, way, name), capacity,
                      link->size_bytes);
}

void boost_join(struct bench_link *link)
{
    char name[BENCH_NAME_BYTES];
    bool serves = link->side == BENCH_SERVER;

    link->own = new boost_ways{
        new message_queue(boost::interprocess::open_only, boost_name(link, !serves, name)),
        new message_queue(boost::interprocess::open_only, boost_name(link, serves, name))};
}

inline void boost_send(struct bench_link *link, const void *data)
{
    message_queue *out = static_cast<boost_ways *>(link->own)->out;

    if (link->task->wait != BENCH_SPIN) {
        out->send(data, link->size_bytes, 0);
        return;
    }
    while (!out->try_send(data, link->size_bytes, 0))
        bench_relax();
}

inline void boost_recv(struct bench_link *link, void *room)
{
    message_queue *in = static_cast<boost_ways *>(link->own)->in;
    message_queue::size_type size = 0;
    unsigned priority;

    if (link->task->wait != BENCH_SPIN)
        in->receive(room, link->room_bytes, size, priority);
    else
        while (!in->try_receive(room, link->room_bytes, size, priority))
            bench_relax();
    if (size != link->size_bytes)
        bench_die_text(link, "receive", "another size");
}

BENCH_RUNS(boost, boost_send, boost_recv)

void boost_leave(struct bench_link *link)
{
    boost_ways *ways = static_cast<boost_ways *>(link->own);

    delete ways->in;
    delete ways->out;
    delete ways;
}

/* Once all have it open: a queue lives on without a name. */
void boost_opened(const struct bench_link *link)
{
    char name[BENCH_NAME_BYTES];

    for (int way = 0; way < 2; way++)
        message_queue::remove(boost_name(link, way, name));
}

const char *boost_obstacle(const struct bench_task *task)
{
    return task->wait == BENCH_EPOLL ? "it has no descriptor" : nullptr;
}

const struct bench_contestant boost_contestant = {
    .name = "Boost message_queue",
    .prepare = boost_prepare,
    .join = boost_join,
    .send = boost_send,
    .recv = boost_recv,
    .send_run = boost_send_run,
    .recv_run = boost_recv_run,
    .leave = boost_leave,
    .opened = boost_opened,
};

} // namespace

const struct bench_peer bench_peers[] = {{"", &boost_contestant, boost_obstacle}, {}};
