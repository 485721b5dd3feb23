/* SPDX-License-Identifier: MIT */
/*
 * nng -- nanomsg-next-generation over abstract sockets: pair for the latency, push and pull for the rate
 *
 * Always in calls that wait: who asked over and over would keep its threads from their work.
 */
#include "peer.h"
#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <unistd.h>

/* The socket's number is in link->port. */
static nng_socket nng_peer_socket(const struct bench_link *link)
{
    return (nng_socket){.id = (uint32_t)link->port};
}

static void nng_peer_check(struct bench_link *link, const char *what, int result)
{
    if (result != 0)
        bench_die_text(link, what, nng_strerror(result));
}

static void nng_peer_join(struct bench_link *link)
{
    char address[BENCH_NAME_BYTES];
    bool serves = link->side == BENCH_SERVER;
    nng_socket socket;

    nng_peer_check(link, "open",
                   !link->one_way ? nng_pair0_open(&socket)
                   : serves       ? nng_pull0_open(&socket)
                                  : nng_push0_open(&socket));
    link->port = (int)socket.id;
    bench_peer_name(link, "abstract://", address);
    if (serves)
        nng_peer_check(link, "listen", nng_listen(socket, address, NULL, 0));
    for (int tries = 0; !serves; tries++) {
        int result = nng_dial(socket, address, NULL, 0);
        if (result == 0)
            break;
        if (result != NNG_ECONNREFUSED || tries > 1000)
            nng_peer_check(link, "dial", result);
        usleep(1000);
    }
}

static void nng_peer_send(struct bench_link *link, const void *data)
{
    nng_peer_check(link, "send",
                   nng_send(nng_peer_socket(link), (void *)(uintptr_t)data, link->size_bytes, 0));
}

static void nng_peer_recv(struct bench_link *link, void *room)
{
    size_t size_bytes = link->room_bytes;

    nng_peer_check(link, "recv", nng_recv(nng_peer_socket(link), room, &size_bytes, 0));
    if (size_bytes != link->size_bytes)
        bench_die_text(link, "recv", "another size");
}

BENCH_RUNS(nng_peer, nng_peer_send, nng_peer_recv)

static void nng_peer_leave(struct bench_link *link)
{
    nng_close(nng_peer_socket(link));
}

static const char *nng_peer_obstacle(const struct bench_task *task)
{
    if (task->wait == BENCH_EPOLL)
        return "not measured";
    return task->receivers > 1 ? "one side listens" : NULL;
}

static const struct bench_contestant nng_peer = {
    .name = "nng",
    .join = nng_peer_join,
    .send = nng_peer_send,
    .recv = nng_peer_recv,
    .send_run = nng_peer_send_run,
    .recv_run = nng_peer_recv_run,
    .leave = nng_peer_leave,
};

const struct bench_peer bench_peers[] = {{"", &nng_peer, nng_peer_obstacle}, {0}};
