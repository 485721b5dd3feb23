/* SPDX-License-Identifier: MIT */
#include "ours.h"
#include <errno.h>
#include <fcntl.h>
#include <naru/call.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static const struct bench_ours *bench_ours_of(const struct bench_link *link)
{
    return (const struct bench_ours *)link->contestant;
}

static _Noreturn void bench_ours_die(struct bench_link *link, const char *what)
{
    bench_die_text(link, what, naru_error_text());
}

/* shm:// spins by itself, in a call that waits. */
static int64_t bench_ours_timeout(const struct bench_link *link)
{
    bool spins_itself = strcmp(bench_ours_of(link)->scheme, "shm") == 0;

    return link->task->wait == BENCH_SPIN && !spins_itself ? 0 : NARU_FOREVER;
}

/* -- a message ------------------------------------------------------------------------------------- */

static void bench_ours_send(struct bench_link *link, const void *data)
{
    int result;

    while ((result = naru_send(link->out, data, link->size_bytes, link->send_timeout_ns)) ==
           -EAGAIN)
        ;
    if (result < 0)
        bench_ours_die(link, "naru_send");
}

static void bench_ours_check(struct bench_link *link, int result, size_t size_bytes)
{
    if (result < 0)
        bench_ours_die(link, "receiving");
    if (size_bytes != link->size_bytes)
        bench_die_text(link, "receiving", "a message of another size came");
}

static inline void bench_ours_recv_from(struct bench_link *link, struct naru_endpoint *in,
                                        void *room)
{
    size_t size_bytes = link->size_bytes;
    int result;

    while ((result = naru_recv(in, room, link->room_bytes, &size_bytes, link->timeout_ns)) ==
           -EAGAIN)
        ;
    if (result < 0 || size_bytes != link->size_bytes)
        bench_ours_check(link, result, size_bytes);
}

static void bench_ours_recv(struct bench_link *link, void *room)
{
    bench_ours_recv_from(link, link->in, room);
}

BENCH_RUNS(bench_ours, bench_ours_send, bench_ours_recv)

/* To ask until there is nothing is what arms the descriptor. */
static void bench_ours_recv_epoll(struct bench_link *link, void *room)
{
    struct epoll_event event;
    size_t size_bytes = 0;
    int result;

    while ((result = naru_recv(link->in, room, link->room_bytes, &size_bytes, 0)) == -EAGAIN ||
           result == -EBUSY)
        if (epoll_wait(link->epoll_fd, &event, 1, -1) < 0 && errno != EINTR)
            bench_die(link, "epoll_wait");
    bench_ours_check(link, result, size_bytes);
}

/* All subscribers of a latency are in the server: it answers when each has the message. */
static void bench_ours_recv_all(struct bench_link *link, void *room)
{
    bench_ours_recv_from(link, link->in, room);
    for (unsigned i = 1; link->more_in && i < link->task->receivers; i++)
        bench_ours_recv_from(link, link->more_in[i - 1], room);
}

/* -- in place: the payload stays as it is, but for the mark ------------------------------------------- */

static void bench_ours_send_loan(struct bench_link *link, const void *data)
{
    struct naru_message message;
    int result;

    while ((result = naru_loan(link->out, link->size_bytes, &message, link->send_timeout_ns)) ==
           -EAGAIN)
        ;
    if (result < 0)
        bench_ours_die(link, "naru_loan");
    *(unsigned char *)message.data = *(const unsigned char *)data;
    while ((result = naru_commit(link->out, &message)) == -EAGAIN)
        ;
    if (result < 0)
        bench_ours_die(link, "naru_commit");
}

static void bench_ours_recv_loan(struct bench_link *link, void *room)
{
    struct naru_message message;
    int result;

    while ((result = naru_take(link->in, &message, link->timeout_ns)) == -EAGAIN)
        ;
    bench_ours_check(link, result, message.size_bytes);
    *(unsigned char *)room = *(const unsigned char *)message.data;
    if (naru_ack(link->in, &message) < 0)
        bench_ours_die(link, "naru_ack");
}

BENCH_RUNS(bench_ours_loan, bench_ours_send_loan, bench_ours_recv_loan)

/* -- in batches --------------------------------------------------------------------------------------- */

static void bench_ours_batch_send_run(struct bench_link *link, const void *data, unsigned count)
{
    unsigned batch = link->task->batch;

    /* Once: what a sender has to say of its messages stays the same. */
    for (unsigned i = 0; link->messages->data != data && i < batch; i++)
        link->messages[batch - 1 - i] =
            (struct naru_message){.data = (void *)(uintptr_t)data, .size_bytes = link->size_bytes};
    for (unsigned sent = 0; sent < count;) {
        unsigned wanted = count - sent < batch ? count - sent : batch;
        int result = naru_send_many(link->out, link->messages, wanted, link->send_timeout_ns);
        if (result < 0 && result != -EAGAIN)
            bench_ours_die(link, "naru_send_many");
        sent += result > 0 ? (unsigned)result : 0;
    }
}

static unsigned bench_ours_batch_recv_run(struct bench_link *link, void *room, unsigned count)
{
    unsigned batch = count < link->task->batch ? count : link->task->batch;
    int result;

    (void)room;
    for (unsigned i = 0; i < batch; i++) {
        link->messages[i].data = (char *)link->own + i * link->size_bytes;
        link->messages[i].capacity_bytes = link->size_bytes;
    }
    while ((result = naru_recv_many(link->in, link->messages, batch, link->timeout_ns)) == -EAGAIN)
        ;
    bench_ours_check(link, result, link->size_bytes);
    unsigned ends = 0;
    for (int i = 0; i < result; i++) {
        bench_ours_check(link, 0, link->messages[i].size_bytes);
        ends += *(const unsigned char *)link->messages[i].data == BENCH_MARK_END;
    }
    link->ends += ends;
    return (unsigned)result - ends;
}

/* -- calls: the reply is as long as the request -------------------------------------------------------- */

static void bench_ours_send_call(struct bench_link *link, const void *data)
{
    struct naru_call call = {
        .size_bytes = sizeof call,
        .request = data,
        .request_size_bytes = link->size_bytes,
        .reply = (void *)(uintptr_t)data,
        .reply_capacity_bytes = link->size_bytes,
    };

    if (naru_call(link->out, &call, link->timeout_ns) < 0)
        bench_ours_die(link, "naru_call");
    if (call.reply_size_bytes != link->size_bytes)
        bench_die_text(link, "naru_call", "a reply of another size came");
}

/* In place: of request and reply only the marks are written and read. */
static void bench_ours_send_call_loan(struct bench_link *link, const void *data)
{
    struct naru_message request;
    struct naru_call call = {.size_bytes = sizeof call, .loan = &request, .in_place = 1};

    if (naru_loan(link->out, link->size_bytes, &request, link->send_timeout_ns) < 0)
        bench_ours_die(link, "naru_loan");
    *(unsigned char *)request.data = *(const unsigned char *)data;
    if (naru_call(link->out, &call, link->timeout_ns) < 0)
        bench_ours_die(link, "naru_call");
    if (call.reply_size_bytes != link->size_bytes ||
        *(const unsigned char *)call.reply != *(const unsigned char *)data)
        bench_die_text(link, "naru_call", "another reply came");
    if (naru_call_cancel(link->out, &call) < 0)
        bench_ours_die(link, "naru_call_cancel");
}

static void bench_ours_take_request(struct bench_link *link, void *room)
{
    int result = naru_take(link->in, link->messages, link->timeout_ns);

    bench_ours_check(link, result, link->messages->size_bytes);
    memcpy(room, link->messages->data, link->task->loan ? 1 : link->size_bytes);
}

static void bench_ours_reply(struct bench_link *link, const void *data)
{
    void *place = NULL;

    if (link->task->loan) {
        if (naru_reply_loan(link->in, link->messages, link->size_bytes, &place) < 0)
            bench_ours_die(link, "naru_reply_loan");
        *(unsigned char *)place = *(const unsigned char *)data;
    }
    if (naru_reply(link->in, link->messages, place ? place : data, link->size_bytes) < 0)
        bench_ours_die(link, "naru_reply");
}

/* Of a latency: the client has the reply with the request, the server replies when it is told to. */
static void bench_ours_send_latency_call(struct bench_link *link, const void *data)
{
    if (link->side == BENCH_SERVER)
        bench_ours_reply(link, data);
    else if (link->task->loan)
        bench_ours_send_call_loan(link, data);
    else
        bench_ours_send_call(link, data);
}

static void bench_ours_recv_latency_call(struct bench_link *link, void *room)
{
    if (link->side == BENCH_SERVER)
        bench_ours_take_request(link, room);
}

static void bench_ours_recv_call(struct bench_link *link, void *room)
{
    bench_ours_take_request(link, room);
    bench_ours_reply(link, room);
}

/* -- opening ------------------------------------------------------------------------------------------- */

static void bench_ours_open(struct bench_link *link, struct naru_endpoint **ret, const char *uri,
                            enum naru_role role, enum naru_create create)
{
    const struct bench_ours *ours = bench_ours_of(link);
    const struct bench_task *task = link->task;
    bool is_shm = strcmp(ours->scheme, "shm") == 0;
    struct naru_options options = {
        .size_bytes = sizeof options,
        .create = create,
        .pattern = ours->pattern,
        .acknowledge = ours->acknowledge,
        .one_to_one = ours->one_to_one,
        .capacity_messages = task->capacity,
    };

    if (is_shm || strcmp(ours->scheme, "mq") == 0)
        options.message_size_max_bytes = link->size_bytes;
    /* A participant is an endpoint; besides, there is the next to come. */
    if (is_shm && task->participants + task->senders + task->receivers > 60)
        options.participants_max = task->participants + task->senders + task->receivers + 8;
    if (naru_open(ret, uri, role, &options) < 0)
        bench_ours_die(link, "naru_open");
}

/* What every process has beside its ends. */
static void bench_ours_equip(struct bench_link *link)
{
    unsigned batch = link->task->batch;
    struct epoll_event event = {.events = EPOLLIN};

    link->timeout_ns = link->send_timeout_ns = bench_ours_timeout(link);
    if (strcmp(bench_ours_of(link)->scheme, "tcp") == 0)
        link->send_timeout_ns = NARU_FOREVER; /* an acknowledgement takes its time */
    link->messages = calloc(batch, sizeof *link->messages);
    link->own = calloc(batch, link->size_bytes);
    if (!link->messages || !link->own)
        bench_die(link, "memory");
    if (link->task->wait != BENCH_EPOLL || !link->in)
        return;
    int fd = naru_fd(link->in);
    link->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (fd < 0)
        bench_ours_die(link, "naru_fd");
    if (link->epoll_fd < 0 || epoll_ctl(link->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        bench_die(link, "epoll_create1");
}

/* The receivers first: a FIFO's sender waits for them. */
static void bench_ours_join_named(struct bench_link *link)
{
    const struct bench_ours *ours = bench_ours_of(link);
    bool serves = link->side == BENCH_SERVER;
    unsigned all = link->task->each_to_all && !link->one_way && serves ? link->task->receivers : 1;

    if (serves || !link->one_way)
        bench_ours_open(link, &link->in, ours->uris[!serves], NARU_RECEIVER, 0);
    link->more_in = all > 1 ? calloc(all, sizeof(struct naru_endpoint *)) : NULL;
    for (unsigned i = 1; link->more_in && i < all; i++)
        bench_ours_open(link, &link->more_in[i - 1], ours->uris[0], NARU_RECEIVER, 0);
    if (!serves || !link->one_way)
        bench_ours_open(link, &link->out, ours->uris[serves], NARU_SENDER, 0);
    bench_ours_equip(link);
}

/* One channel carries both ways. */
static void bench_ours_join_call(struct bench_link *link)
{
    bool serves = link->side == BENCH_SERVER;

    bench_ours_open(link, serves ? &link->in : &link->out, bench_ours_of(link)->uris[0],
                    serves ? NARU_RECEIVER : NARU_SENDER, 0);
    bench_ours_equip(link);
}

/* The side with one process listens. */
static void bench_ours_join_connection(struct bench_link *link)
{
    bool serves = link->side == BENCH_SERVER;
    bool listens = serves == (!link->one_way || link->task->receivers == 1);
    enum naru_role role = !link->one_way ? NARU_BOTH : serves ? NARU_RECEIVER : NARU_SENDER;
    struct naru_endpoint *endpoint;

    bench_ours_open(link, &endpoint, bench_ours_of(link)->uris[0], role,
                    listens ? NARU_CREATE : NARU_ATTACH);
    if (role & NARU_RECEIVER)
        link->in = endpoint;
    if (role & NARU_SENDER)
        link->out = endpoint;
    bench_ours_equip(link);
}

static void bench_ours_prepare_pair(struct bench_link *link)
{
    const struct bench_ours *ours = bench_ours_of(link);
    struct naru_options options = {.size_bytes = sizeof options,
                                   .capacity_messages = link->task->capacity};
    char uri[32];

    snprintf(uri, sizeof uri, "%s://", ours->scheme);
    if (strcmp(ours->scheme, "shm") == 0 || strcmp(ours->scheme, "mq") == 0)
        options.message_size_max_bytes = link->size_bytes;
    if (naru_pair(link->pair, uri, &options) < 0)
        bench_ours_die(link, "naru_pair");
}

/* From the assignment on, each side watches the other's pidfd. */
static void bench_ours_join_pair(struct bench_link *link)
{
    int mine = link->side == BENCH_CLIENT;

    link->in = link->out = link->pair[mine];
    if (link->task->measure != BENCH_ALONE) {
        if (naru_pair_assign(link->pair[1], link->shared->pid[BENCH_CLIENT]) < 0)
            bench_ours_die(link, "naru_pair_assign");
        naru_close(link->pair[!mine]);
    }
    bench_ours_equip(link);
}

static void bench_ours_prepare_inherited(struct bench_link *link)
{
    if (pipe2(link->fds, O_CLOEXEC) < 0 || pipe2(link->fds + 2, O_CLOEXEC) < 0)
        bench_die(link, "pipe2");
}

static void bench_ours_join_inherited(struct bench_link *link)
{
    bool serves = link->side == BENCH_SERVER;
    char uri[32];

    if (serves || !link->one_way) {
        snprintf(uri, sizeof uri, "pipe://%d", link->fds[serves ? 0 : 2]);
        bench_ours_open(link, &link->in, uri, NARU_RECEIVER, 0);
    }
    if (!serves || !link->one_way) {
        snprintf(uri, sizeof uri, "pipe://%d", link->fds[serves ? 3 : 1]);
        bench_ours_open(link, &link->out, uri, NARU_SENDER, 0);
    }
    bench_ours_equip(link);
}

/* Inherited by all: a real-time signal that is not blocked would kill. */
static void bench_ours_prepare_signal(struct bench_link *link)
{
    sigset_t set;

    (void)link;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 1);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

static void bench_ours_join_signal(struct bench_link *link)
{
    bool serves = link->side == BENCH_SERVER;
    char uri[32];

    if (serves || !link->one_way)
        bench_ours_open(link, &link->in, "signal://self", NARU_RECEIVER, 0);
    if (!serves || !link->one_way) {
        snprintf(uri, sizeof uri, "signal://%d", (int)link->shared->pid[!link->side]);
        bench_ours_open(link, &link->out, uri, NARU_SENDER, 0);
    }
    bench_ours_equip(link);
}

static void bench_ours_leave(struct bench_link *link)
{
    naru_close(link->in);
    for (unsigned i = 1; link->more_in && i < link->task->receivers; i++)
        naru_close(link->more_in[i - 1]);
    if (link->out != link->in)
        naru_close(link->out);
    free(link->more_in);
    free(link->messages);
    free(link->own);
}

/* -- the contestant --------------------------------------------------------------------------------------- */

static void bench_ours_opened(const struct bench_link *link)
{
    struct bench_ours *ours = (struct bench_ours *)(uintptr_t)bench_ours_of(link);

    nr_scratch_unlink(&ours->scratch);
}

enum bench_form bench_ours_form(const char *scheme)
{
    static const struct {
        const char *scheme;
        enum bench_form form;
    } forms[] = {
        {"pipe", BENCH_PAIR},           {"signal", BENCH_SIGNAL},  {"unix", BENCH_CONNECTION},
        {"abstract", BENCH_CONNECTION}, {"tcp", BENCH_CONNECTION},
    };

    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
        if (strcmp(forms[i].scheme, scheme) == 0)
            return forms[i].form;
    return BENCH_NAMED;
}

const char *bench_ours_obstacle(const struct bench_ours *ours, const struct bench_task *task)
{
    bool is_two = task->senders == 1 && task->receivers == 1;
    bool is_shm = strcmp(ours->scheme, "shm") == 0;

    if (ours->form == BENCH_PAIR && !is_two)
        return "a pair has two ends";
    if (ours->one_to_one && !is_two)
        return "one-to-one means one sender and one receiver";
    if ((ours->form == BENCH_PAIR || ours->one_to_one || !is_shm) && task->participants > 2)
        return "only a segment from many to many has participants";
    if (ours->form == BENCH_SIGNAL && task->receivers > 1)
        return "a signal goes to one process";
    if (ours->form == BENCH_SIGNAL && task->size_bytes != BENCH_SIGNAL_BYTES)
        return "a signal carries 8 bytes";
    if (ours->form == BENCH_CONNECTION && task->senders > 1 && task->receivers > 1)
        return "one side listens, so one side is one process";
    if (task->batch > 1 && task->receivers > 1)
        return "batches are measured with one receiver";
    if (ours->pattern == NARU_CELL && task->senders > 1)
        return "a cell has one writer";
    if (ours->pattern != NARU_QUEUE && task->batch > 1)
        return "batches are measured of queues";
    if (ours->pattern != NARU_QUEUE && ours->pattern != NARU_CALL && task->loan)
        return "loans are measured of queues and calls";
    if (ours->pattern == NARU_CALL && (task->wait == BENCH_EPOLL || task->measure == BENCH_ALONE))
        return "a call is measured in calls that wait, between processes";
    return NULL;
}

/* The drivers of the patterns. */
static const struct bench_ours_pattern {
    bool each_to_all, only_newest, is_round_trip;
} bench_ours_patterns[] = {
    [NARU_QUEUE] = {0},
    [NARU_TOPIC] = {.each_to_all = true},
    [NARU_CALL] = {.is_round_trip = true},
    [NARU_CELL] = {.each_to_all = true, .only_newest = true},
};

void bench_ours_shape(const struct bench_ours *ours, struct bench_task *task)
{
    const struct bench_ours_pattern *pattern = &bench_ours_patterns[ours->pattern];

    task->each_to_all = pattern->each_to_all;
    task->only_newest = pattern->only_newest;
    task->is_round_trip = pattern->is_round_trip;
}

static void bench_ours_set_transfer(struct bench_contestant *contestant,
                                    const struct bench_task *task)
{
    contestant->send = bench_ours_send;
    contestant->recv = bench_ours_recv;
    contestant->send_run = bench_ours_send_run;
    contestant->recv_run = bench_ours_recv_run;
    if (task->is_round_trip) {
        bool latency = task->measure == BENCH_LATENCY;
        contestant->join = bench_ours_join_call;
        contestant->send = latency      ? bench_ours_send_latency_call
                           : task->loan ? bench_ours_send_call_loan
                                        : bench_ours_send_call;
        contestant->recv = latency ? bench_ours_recv_latency_call : bench_ours_recv_call;
        contestant->send_run = NULL;
        contestant->recv_run = NULL;
    } else if (task->loan) {
        contestant->send = bench_ours_send_loan;
        contestant->recv = bench_ours_recv_loan;
        contestant->send_run = bench_ours_loan_send_run;
        contestant->recv_run = bench_ours_loan_recv_run;
    } else if (task->wait == BENCH_EPOLL) {
        contestant->recv = bench_ours_recv_epoll;
        contestant->recv_run = NULL;
    } else if (task->each_to_all && task->measure == BENCH_LATENCY) {
        contestant->recv = bench_ours_recv_all;
    }
    if (task->batch > 1 && task->measure != BENCH_LATENCY) {
        contestant->send_run = bench_ours_batch_send_run;
        contestant->recv_run = bench_ours_batch_recv_run;
    }
}

int bench_ours_init(struct bench_ours *ours, const struct bench_task *task)
{
    static const struct bench_contestant forms[] = {
        [BENCH_NAMED] = {.join = bench_ours_join_named},
        [BENCH_CONNECTION] = {.join = bench_ours_join_connection},
        [BENCH_PAIR] = {.prepare = bench_ours_prepare_pair, .join = bench_ours_join_pair},
        [BENCH_INHERITED] = {.prepare = bench_ours_prepare_inherited,
                             .join = bench_ours_join_inherited},
        [BENCH_SIGNAL] = {.prepare = bench_ours_prepare_signal, .join = bench_ours_join_signal},
    };
    int names_count = ours->form == BENCH_NAMED ? 2 : ours->form == BENCH_CONNECTION;
    int result = 0;

    ours->contestant = forms[ours->form];
    ours->contestant.name = ours->scheme;
    ours->contestant.leave = bench_ours_leave;
    ours->contestant.opened = bench_ours_opened;
    bench_ours_set_transfer(&ours->contestant, task);
    nr_scratch_init(&ours->scratch);
    for (int way = 0; result == 0 && way < names_count; way++)
        result =
            nr_scratch_name(&ours->scratch, ours->scheme, way ? "back" : "there", ours->uris[way]);
    return result;
}

void bench_ours_deinit(struct bench_ours *ours)
{
    nr_scratch_deinit(&ours->scratch);
}
