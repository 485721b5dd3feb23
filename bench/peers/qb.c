/* SPDX-License-Identifier: MIT */
/*
 * qb -- libqb's IPC over its shared-memory rings: the client requests, the server's loop hands over and responds
 *
 * The library wants an event loop of its user: this one is a poll(2) over the few descriptors there are.
 */
#include "peer.h"
#include <errno.h>
#include <poll.h>
#include <qb/qbipcc.h>
#include <qb/qbipcs.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { QB_PEER_FDS = 16, QB_PEER_QUEUE = 256, QB_PEER_TRIES = 5000 };

struct qb_peer_watch {
    qb_ipcs_dispatch_fn_t dispatch;
    void *data;
};

/* This process's. */
static struct pollfd qb_peer_fds[QB_PEER_FDS];
static struct qb_peer_watch qb_peer_watches[QB_PEER_FDS];
static nfds_t qb_peer_fds_count;
static qb_ipcs_service_t *qb_peer_service;
static qb_ipcs_connection_t *qb_peer_connection; /* the first client's: it is answered */
static qb_ipcc_connection_t *qb_peer_client;
static unsigned char *qb_peer_queue; /* received and not yet handed over */
static unsigned qb_peer_head, qb_peer_tail;
static size_t qb_peer_size_bytes;
static unsigned char *qb_peer_message;

/* -- the loop --------------------------------------------------------------------------------------- */

static int32_t qb_peer_add(enum qb_loop_priority priority, int32_t fd, int32_t events, void *data,
                           qb_ipcs_dispatch_fn_t dispatch)
{
    (void)priority;
    if (qb_peer_fds_count == QB_PEER_FDS)
        return -ENOSPC;
    qb_peer_fds[qb_peer_fds_count] = (struct pollfd){.fd = fd, .events = (short)events};
    qb_peer_watches[qb_peer_fds_count++] = (struct qb_peer_watch){dispatch, data};
    return 0;
}

static int32_t qb_peer_delete(int32_t fd)
{
    for (nfds_t i = 0; i < qb_peer_fds_count; i++) {
        if (qb_peer_fds[i].fd != fd)
            continue;
        qb_peer_fds[i] = qb_peer_fds[--qb_peer_fds_count];
        qb_peer_watches[i] = qb_peer_watches[qb_peer_fds_count];
        return 0;
    }
    return -ENOENT;
}

static int32_t qb_peer_modify(enum qb_loop_priority priority, int32_t fd, int32_t events,
                              void *data, qb_ipcs_dispatch_fn_t dispatch)
{
    qb_peer_delete(fd);
    return qb_peer_add(priority, fd, events, data, dispatch);
}

static int32_t qb_peer_job(enum qb_loop_priority priority, void *data,
                           qb_loop_job_dispatch_fn dispatch)
{
    (void)priority;
    dispatch(data);
    return 0;
}

static void qb_peer_turn(int timeout_ms)
{
    if (poll(qb_peer_fds, qb_peer_fds_count, timeout_ms) <= 0)
        return;
    for (nfds_t i = qb_peer_fds_count; i > 0; i--) {
        struct pollfd ready = qb_peer_fds[i - 1];
        struct qb_peer_watch watch = qb_peer_watches[i - 1];
        if (ready.revents && watch.dispatch(ready.fd, ready.revents, watch.data) < 0)
            qb_peer_delete(ready.fd);
    }
}

/* -- the server ------------------------------------------------------------------------------------- */

static int32_t qb_peer_accept(qb_ipcs_connection_t *connection, uid_t uid, gid_t gid)
{
    (void)connection;
    (void)uid;
    (void)gid;
    return 0;
}

static void qb_peer_created(qb_ipcs_connection_t *connection)
{
    if (!qb_peer_connection)
        qb_peer_connection = connection;
}

static int32_t qb_peer_process(qb_ipcs_connection_t *connection, void *data, size_t size_bytes)
{
    (void)connection;
    (void)size_bytes;
    memcpy(qb_peer_queue + (qb_peer_head++ % QB_PEER_QUEUE) * qb_peer_size_bytes,
           (char *)data + sizeof(struct qb_ipc_request_header), qb_peer_size_bytes);
    return 0;
}

static int32_t qb_peer_closed(qb_ipcs_connection_t *connection)
{
    (void)connection;
    return 0;
}

static void qb_peer_destroyed(qb_ipcs_connection_t *connection)
{
    (void)connection;
}

static void qb_peer_serve(struct bench_link *link, const char *name)
{
    static struct qb_ipcs_service_handlers handlers = {
        .connection_accept = qb_peer_accept,
        .connection_created = qb_peer_created,
        .msg_process = qb_peer_process,
        .connection_closed = qb_peer_closed,
        .connection_destroyed = qb_peer_destroyed,
    };
    static struct qb_ipcs_poll_handlers loop = {
        .job_add = qb_peer_job,
        .dispatch_add = qb_peer_add,
        .dispatch_mod = qb_peer_modify,
        .dispatch_del = qb_peer_delete,
    };

    qb_peer_queue = calloc(QB_PEER_QUEUE, link->size_bytes);
    qb_peer_service = qb_ipcs_create(name, 0, QB_IPC_SHM, &handlers);
    if (!qb_peer_queue || !qb_peer_service)
        bench_die(link, "qb_ipcs_create");
    qb_ipcs_poll_handlers_set(qb_peer_service, &loop);
    int result = qb_ipcs_run(qb_peer_service);
    if (result < 0)
        bench_die_text(link, "qb_ipcs_run", strerror(-result));
    while (!qb_peer_connection)
        qb_peer_turn(-1);
}

static void qb_peer_join(struct bench_link *link)
{
    char name[BENCH_NAME_BYTES];
    size_t bytes = link->size_bytes + sizeof(struct qb_ipc_response_header);

    bench_peer_name(link, "", name);
    qb_peer_size_bytes = link->size_bytes;
    qb_peer_message = calloc(1, bytes + 64);
    if (!qb_peer_message)
        bench_die(link, "memory");
    if (link->side == BENCH_SERVER) {
        qb_peer_serve(link, name);
        return;
    }
    for (int tries = 0; !qb_peer_client; tries++) {
        qb_peer_client = qb_ipcc_connect(name, bytes + 4096);
        if (!qb_peer_client && tries == QB_PEER_TRIES)
            bench_die(link, "qb_ipcc_connect");
        if (!qb_peer_client)
            usleep(1000);
    }
}

/* -- a message ----------------------------------------------------------------------------------------- */

static void qb_peer_send(struct bench_link *link, const void *data)
{
    bool serves = link->side == BENCH_SERVER;
    size_t header =
        serves ? sizeof(struct qb_ipc_response_header) : sizeof(struct qb_ipc_request_header);
    struct qb_ipc_request_header *request = (void *)qb_peer_message;
    ssize_t result;

    /* Both headers begin with these two. */
    request->id = QB_IPC_MSG_USER_START;
    request->size = (int32_t)(header + link->size_bytes);
    memcpy(qb_peer_message + header, data, link->size_bytes);
    do
        result = serves ? qb_ipcs_response_send(qb_peer_connection, qb_peer_message,
                                                (size_t)request->size)
                        : qb_ipcc_send(qb_peer_client, qb_peer_message, (size_t)request->size);
    while (result == -EAGAIN);
    if (result < 0)
        bench_die_text(link, "send", strerror((int)-result));
}

static void qb_peer_recv_response(struct bench_link *link, void *room)
{
    size_t header = sizeof(struct qb_ipc_response_header);
    ssize_t result;

    do
        result = qb_ipcc_recv(qb_peer_client, qb_peer_message, header + link->size_bytes + 32,
                              link->task->wait == BENCH_SPIN ? 0 : -1);
    while (result == -EAGAIN || result == -ETIMEDOUT);
    if (result != (ssize_t)(header + link->size_bytes))
        bench_die_text(link, "qb_ipcc_recv", result < 0 ? strerror((int)-result) : "another size");
    memcpy(room, qb_peer_message + header, link->size_bytes);
}

static void qb_peer_recv(struct bench_link *link, void *room)
{
    if (link->side == BENCH_CLIENT) {
        qb_peer_recv_response(link, room);
        return;
    }
    while (qb_peer_head == qb_peer_tail)
        qb_peer_turn(link->task->wait == BENCH_SPIN ? 0 : -1);
    memcpy(room, qb_peer_queue + (qb_peer_tail++ % QB_PEER_QUEUE) * link->size_bytes,
           link->size_bytes);
}

BENCH_RUNS(qb_peer, qb_peer_send, qb_peer_recv)

static void qb_peer_leave(struct bench_link *link)
{
    if (link->side == BENCH_CLIENT)
        qb_ipcc_disconnect(qb_peer_client);
    else
        qb_ipcs_destroy(qb_peer_service);
}

static const char *qb_peer_obstacle(const struct bench_task *task)
{
    if (task->wait == BENCH_EPOLL)
        return "not measured";
    return task->senders > 1 || task->receivers > 1 ? "not measured" : NULL;
}

static const struct bench_contestant qb_peer = {
    .name = "libqb",
    .join = qb_peer_join,
    .send = qb_peer_send,
    .recv = qb_peer_recv,
    .send_run = qb_peer_send_run,
    .recv_run = qb_peer_recv_run,
    .leave = qb_peer_leave,
};

const struct bench_peer bench_peers[] = {{"", &qb_peer, qb_peer_obstacle}, {0}};
