/* SPDX-License-Identifier: MIT */
/*
 * zmq -- ZeroMQ over ipc://: PAIR for the latency, PUSH and PULL for the rate
 *
 * Always in calls that wait: who asked over and over would keep its I/O threads from their work.
 */
#include "peer.h"
#include <errno.h>
#include <zmq.h>

/* This process's. */
static void *zmq_context, *zmq_peer_socket;

static void zmq_peer_join(struct bench_link *link)
{
    char address[BENCH_NAME_BYTES];
    bool serves = link->side == BENCH_SERVER;
    int type = !link->one_way ? ZMQ_PAIR : serves ? ZMQ_PULL : ZMQ_PUSH;

    zmq_context = zmq_ctx_new();
    zmq_peer_socket = zmq_context ? zmq_socket(zmq_context, type) : NULL;
    bench_peer_name(link, "ipc://@", address);
    if (!zmq_peer_socket ||
        (serves ? zmq_bind(zmq_peer_socket, address) : zmq_connect(zmq_peer_socket, address)) < 0)
        bench_die_text(link, address, zmq_strerror(errno));
}

static void zmq_peer_send(struct bench_link *link, const void *data)
{
    while (zmq_send(zmq_peer_socket, data, link->size_bytes, 0) < 0)
        if (errno != EINTR)
            bench_die_text(link, "zmq_send", zmq_strerror(errno));
}

static void zmq_peer_recv(struct bench_link *link, void *room)
{
    int size;

    while ((size = zmq_recv(zmq_peer_socket, room, link->room_bytes, 0)) < 0)
        if (errno != EINTR)
            bench_die_text(link, "zmq_recv", zmq_strerror(errno));
    if ((size_t)size != link->size_bytes)
        bench_die_text(link, "zmq_recv", "another size");
}

BENCH_RUNS(zmq_peer, zmq_peer_send, zmq_peer_recv)

static void zmq_peer_leave(struct bench_link *link)
{
    (void)link;
    zmq_close(zmq_peer_socket);
    zmq_ctx_term(zmq_context);
}

static const char *zmq_peer_obstacle(const struct bench_task *task)
{
    if (task->wait == BENCH_EPOLL)
        return "its descriptor is edge-triggered";
    return task->receivers > 1 ? "one side binds" : NULL;
}

static const struct bench_contestant zmq_peer = {
    .name = "ZeroMQ",
    .join = zmq_peer_join,
    .send = zmq_peer_send,
    .recv = zmq_peer_recv,
    .send_run = zmq_peer_send_run,
    .recv_run = zmq_peer_recv_run,
    .leave = zmq_peer_leave,
};

const struct bench_peer bench_peers[] = {{"", &zmq_peer, zmq_peer_obstacle}, {0}};
