/* SPDX-License-Identifier: MIT */
/* cases_call -- request and reply: each request answered once, sizes, errors, what comes too late, who leaves */
#include "cases.h"
#include <errno.h>
#include <naru/call.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

enum {
    NR_CALL_CLIENTS = 3,
    NR_CALL_SERVERS = 2,
    NR_CALL_EACH = 150,
    NR_CALL_THREADS = 4,
    NR_CALL_ERROR = 42,
};

static unsigned char nr_call_reply_room[NR_PAYLOAD_ROOM_BYTES];

/* -- a server that answers with the same question from a sender of one more -------------------------- */

static void nr_call_take(struct naru_endpoint *server, struct naru_message *ret)
{
    nr_check_ok(naru_take(server, ret, NR_SOON));
    nr_check(ret->known & NARU_KNOWS_SENDER_PID && ret->sender_pid > 0, "who asks is not told");
}

static void nr_call_answer(struct naru_endpoint *server, struct naru_message *request,
                           unsigned sender, unsigned index, size_t size_bytes)
{
    nr_payload_fill(nr_case_room, size_bytes, sender, index);
    nr_check_ok(naru_reply(server, request, nr_case_room, size_bytes));
    nr_check(!request->data, "the request is still there");
}

/* Answers until there is nothing for a while and it is told to stop. */
static void nr_call_serve(struct nr_channel *channel, struct naru_endpoint *server, int number)
{
    struct nr_channel_shared *shared = channel->shared;

    (void)number;
    for (;;) {
        struct naru_message request;
        struct nr_payload_stamp stamp;
        bool is_last = nr_kit_get(&shared->stop);
        int result = naru_take(server, &request, 20 * NARU_MILLISECOND);
        if (result == -ETIMEDOUT && is_last)
            return;
        if (result == -ETIMEDOUT)
            continue;
        nr_check_ok(result);
        nr_check(nr_payload_read(request.data, request.size_bytes, &stamp), "not whole");
        nr_check(!(request.flags & NARU_REDELIVERED) && request.deliveries == 1, "twice");
        if (stamp.index % 10 == 9)
            nr_check_ok(naru_reply_error(server, &request, NR_CALL_ERROR, "nine", 4));
        else
            nr_call_answer(server, &request, stamp.sender + 1, stamp.index, request.size_bytes);
        nr_kit_add(&shared->done, 1);
    }
}

static void nr_call_ask(struct naru_endpoint *client, unsigned char *room, size_t size_bytes,
                        unsigned sender, unsigned index)
{
    struct naru_call call = {
        .size_bytes = sizeof call,
        .request = room,
        .request_size_bytes = size_bytes,
        .type = (int64_t)index,
        .reply = room,
        .reply_capacity_bytes = size_bytes + 64,
    };

    nr_payload_fill(room, size_bytes, sender, index);
    int result = naru_call(client, &call, NR_SOON);
    nr_check(call.server_pid > 0 && call.flags == 0 && call.deliveries == 1, "who answered?");
    if (index % 10 == 9) {
        nr_check_fails(result, -EREMOTEIO, "answered with error 42");
        nr_check(call.error == NR_CALL_ERROR && call.reply_size_bytes == 4 &&
                     memcmp(room, "nine", 4) == 0,
                 "error %d with %zu bytes", call.error, call.reply_size_bytes);
        return;
    }
    nr_check_ok(result);
    nr_check(call.reply_size_bytes == size_bytes && call.error == 0, "%zu bytes came, not %zu",
             call.reply_size_bytes, size_bytes);
    nr_check(nr_payload_is_whole(room, size_bytes, sender + 1, index),
             "this is not the reply to request %u of %u", index, sender);
}

static size_t nr_call_size(struct nr_channel *channel, struct naru_endpoint *endpoint,
                           unsigned index)
{
    static const size_t sizes[] = {8, 30, 64, 200, 5000, 70000};

    return nr_case_size(channel, endpoint, sizes[index % 6]);
}

static void nr_call_client(struct nr_channel *channel, struct naru_endpoint *client, int number)
{
    nr_kit_await(&channel->shared->senders_ready, NR_CALL_CLIENTS); /* all at once */
    for (unsigned i = 0; i < NR_CALL_EACH; i++)
        nr_call_ask(client, nr_call_reply_room, nr_call_size(channel, client, i),
                    (unsigned)number * 16, i);
}

static void nr_call_many(struct nr_channel *channel)
{
    pid_t servers[NR_CALL_SERVERS], clients[NR_CALL_CLIENTS];

    for (int i = 0; i < NR_CALL_SERVERS; i++)
        servers[i] = nr_channel_spawn(channel, NARU_RECEIVER, nr_call_serve, i);
    for (int i = 0; i < NR_CALL_CLIENTS; i++)
        clients[i] = nr_channel_spawn(channel, NARU_SENDER, nr_call_client, i);
    for (int i = 0; i < NR_CALL_CLIENTS; i++)
        nr_kit_join(clients[i]);
    nr_kit_set(&channel->shared->stop, 1);
    for (int i = 0; i < NR_CALL_SERVERS; i++)
        nr_kit_join(servers[i]);
    nr_check(nr_kit_get(&channel->shared->done) == NR_CALL_CLIENTS * NR_CALL_EACH,
             "%d requests were answered", nr_kit_get(&channel->shared->done));
}

/* -- several threads ------------------------------------------------------------------------------- */

static struct nr_channel *nr_call_channel;

static void *nr_call_thread(void *argument)
{
    struct naru_endpoint *client = nr_call_channel->end[NR_SENDER_END];
    unsigned sender = 16 * (unsigned)(uintptr_t)argument;
    unsigned char *room = malloc(6000);

    for (unsigned i = 0; i < NR_CALL_EACH; i++) {
        size_t size_bytes = nr_call_size(nr_call_channel, client, i);
        nr_call_ask(client, room, size_bytes < 5000 ? size_bytes : 5000, sender, i);
    }
    free(room);
    return NULL;
}

/* Of one client, at once: each gets its own reply. */
static void nr_call_threads(struct nr_channel *channel)
{
    pthread_t threads[NR_CALL_THREADS];
    pid_t server = nr_channel_spawn(channel, NARU_RECEIVER, nr_call_serve, 0);

    nr_channel_open(channel, NARU_SENDER);
    nr_call_channel = channel;
    for (uintptr_t i = 0; i < NR_CALL_THREADS; i++)
        nr_check(pthread_create(&threads[i], NULL, nr_call_thread, (void *)i) == 0, "no thread");
    for (int i = 0; i < NR_CALL_THREADS; i++)
        pthread_join(threads[i], NULL);
    nr_kit_set(&channel->shared->stop, 1);
    nr_kit_join(server);
}

/* -- one process, both ends ----------------------------------------------------------------------- */

static struct naru_call nr_call_begin(struct naru_endpoint *client, const char *question,
                                      void *reply, size_t capacity_bytes)
{
    struct naru_call call = {
        .size_bytes = sizeof call,
        .request = question,
        .request_size_bytes = strlen(question),
        .type = 7,
        .reply = reply,
        .reply_capacity_bytes = capacity_bytes,
    };

    nr_check_ok(naru_call_begin(client, &call, NR_SOON));
    return call;
}

static void nr_call_expect(struct naru_endpoint *client, struct naru_call *call, const char *answer)
{
    nr_check_ok(naru_call_end(client, call, NR_SOON));
    nr_check(call->reply_size_bytes == strlen(answer) &&
                 memcmp(call->reply, answer, strlen(answer)) == 0,
             "the reply is \"%.*s\", not \"%s\"", (int)call->reply_size_bytes, (char *)call->reply,
             answer);
}

static void nr_call_expect_request(const struct naru_message *request, const char *question)
{
    nr_check(request->size_bytes == strlen(question) &&
                 memcmp(request->data, question, strlen(question)) == 0 && request->type == 7,
             "the request is \"%.*s\", not \"%s\"", (int)request->size_bytes, (char *)request->data,
             question);
}

static void nr_call_reply_with(struct naru_endpoint *server, struct naru_message *request,
                               const char *answer)
{
    nr_check_ok(naru_reply(server, request, answer, strlen(answer)));
}

/* Begun one after the other, answered and ended in other orders. */
static void nr_call_several(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *client = channel->end[NR_SENDER_END], *server = channel->end[0];
    char room[3][8];
    struct naru_message first, second, third;

    struct naru_call one = nr_call_begin(client, "one", room[0], 8);
    struct naru_call two = nr_call_begin(client, "two", room[1], 8);
    struct naru_call three = nr_call_begin(client, "three", room[2], 8);
    nr_check_fails(naru_call_begin(client, &two, 0), -EINVAL, "begun already");
    nr_check_fails(naru_call_end(client, &one, 0), -EAGAIN, "time-out");
    nr_check_fails(naru_call_end(client, &two, 10 * NARU_MILLISECOND), -ETIMEDOUT, "time-out");
    nr_call_take(server, &first);
    nr_call_take(server, &second);
    nr_call_take(server, &third);
    nr_call_expect_request(&first, "one");
    nr_call_expect_request(&third, "three");
    nr_call_reply_with(server, &third, "3");
    nr_call_reply_with(server, &first, "1");
    nr_call_expect(client, &one, "1");
    nr_check_fails(naru_call_end(client, &two, 0), -EAGAIN, "time-out");
    nr_call_reply_with(server, &second, "2");
    nr_call_expect(client, &three, "3");
    nr_call_expect(client, &two, "2");
    nr_check_fails(naru_call_end(client, &two, 0), -EINVAL, "over already");
    nr_check_fails(naru_call_cancel(client, &one), -EINVAL, "over already");
}

/* 0 bytes to the largest, both ways; larger is refused, and the request stays in hand. */
static void nr_call_sizes(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *client = channel->end[NR_SENDER_END], *server = channel->end[0];
    size_t largest = nr_channel_largest(channel, client);
    const size_t sizes[] = {0, 1, 31, 32, 33, 40, 41, 64, 100, 4096, largest - 1, largest};
    struct naru_message request;
    struct naru_call call;

    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t asked = sizes[i], answered = sizes[(i * 5 + 3) % 12];
        call = (struct naru_call){.size_bytes = sizeof call,
                                  .request = nr_case_room,
                                  .request_size_bytes = asked,
                                  .reply = nr_call_reply_room,
                                  .reply_capacity_bytes = answered};
        nr_payload_fill(nr_case_room, asked, 1, i);
        nr_check_ok(naru_call_begin(client, &call, NR_SOON));
        nr_call_take(server, &request);
        nr_check(request.size_bytes == asked && nr_payload_is_whole(request.data, asked, 1, i),
                 "%zu bytes", asked);
        nr_call_answer(server, &request, 2, i, answered);
        nr_check_ok(naru_call_end(client, &call, NR_SOON));
        nr_check(call.reply_size_bytes == answered &&
                     nr_payload_is_whole(nr_call_reply_room, answered, 2, i),
                 "%zu bytes", answered);
    }
    call.request_size_bytes = largest + 1;
    nr_check_fails(naru_call(client, &call, NR_SOON), -EMSGSIZE, "at most");
    nr_check(call.reply_size_bytes == 0, "%zu", call.reply_size_bytes);
    call = nr_call_begin(client, "?", nr_call_reply_room, 8);
    nr_call_take(server, &request);
    nr_check_fails(naru_reply(server, &request, nr_case_room, largest + 1), -EMSGSIZE, "at most");
    nr_call_reply_with(server, &request, "!");
    nr_call_expect(client, &call, "!");
}

/* It tells the room it needs, and is kept until there is room, or it is given up. */
static void nr_call_too_large(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *client = channel->end[NR_SENDER_END], *server = channel->end[0];
    char room[8];
    struct naru_message request;

    for (int i = 0; i < 2; i++) {
        struct naru_call call = nr_call_begin(client, "long?", room, 8);
        nr_call_take(server, &request);
        nr_call_answer(server, &request, 3, 4, 5000);
        for (int again = 0; again < 2; again++) {
            nr_check_fails(naru_call_end(client, &call, NR_SOON), -EMSGSIZE, "room for 8|is kept");
            nr_check(call.reply_size_bytes == 5000, "%zu bytes", call.reply_size_bytes);
        }
        call.reply = nr_call_reply_room;
        call.reply_capacity_bytes = 5000;
        if (i == 0) {
            nr_check_ok(naru_call_end(client, &call, 0));
            nr_check(nr_payload_is_whole(nr_call_reply_room, 5000, 3, 4), "not the reply");
        } else {
            nr_check_ok(naru_call_cancel(client, &call));
        }
        nr_check_fails(naru_call_end(client, &call, 0), -EINVAL, "over already");
    }
}

static void nr_call_time_out(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *client = channel->end[NR_SENDER_END], *server = channel->end[0];
    char room[8];
    struct naru_message request;
    struct naru_call call = {.size_bytes = sizeof call, .reply = room, .reply_capacity_bytes = 8};

    nr_check_fails(naru_call(client, &call, 0), -EAGAIN, "naru_call_begin");
    nr_check_fails(naru_take(server, &request, 0), -EAGAIN, "time-out"); /* nothing was sent */
    int64_t begin = nr_kit_now_ns();
    nr_check_fails(naru_call(client, &call, 30 * NARU_MILLISECOND), -ETIMEDOUT, "time-out");
    nr_check(nr_kit_now_ns() - begin >= 30 * NARU_MILLISECOND, "too early");
    nr_check_fails(naru_take(server, &request, 0), -EAGAIN, "time-out"); /* it was withdrawn */

    /* A late reply goes nowhere, and never to the next call. */
    call = nr_call_begin(client, "first", room, 8);
    nr_call_take(server, &request);
    nr_check_ok(naru_call_cancel(client, &call));
    call = nr_call_begin(client, "second", room, 8);
    nr_check_fails(naru_reply(server, &request, "late", 4), -EPIPE, "nobody waits");
    nr_check(!request.data, "it is still there");
    nr_check_fails(naru_call_end(client, &call, 0), -EAGAIN, "time-out");
    nr_call_take(server, &request);
    nr_call_expect_request(&request, "second");
    nr_call_reply_with(server, &request, "now");
    nr_call_expect(client, &call, "now");
    struct naru_call calls[20]; /* what was given up gives its room back */
    for (int i = 0; i < 200; i++) {
        calls[i % 20] = nr_call_begin(client, "never mind", room, 8);
        nr_check_ok(naru_call_cancel(client, &calls[i % 20]));
        nr_check_fails(naru_take(server, &request, 0), -EAGAIN, "time-out");
    }
}

/* -- waiting -------------------------------------------------------------------------------------- */

static struct naru_endpoint *nr_call_target;

static void nr_call_on_alarm(int signal_number)
{
    (void)signal_number;
    naru_interrupt(nr_call_target);
}

static void nr_call_alarm_in_ms(int milliseconds)
{
    struct itimerval timer = {.it_value.tv_usec = milliseconds * 1000};

    signal(SIGALRM, nr_call_on_alarm);
    setitimer(ITIMER_REAL, &timer, NULL);
}

static void nr_call_interrupt(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *client = channel->end[NR_SENDER_END], *server = channel->end[0];
    char room[8];
    struct naru_message request;
    struct naru_call call = {.size_bytes = sizeof call, .reply = room, .reply_capacity_bytes = 8};

    nr_call_target = client;
    nr_call_alarm_in_ms(50);
    nr_check_fails(naru_call(client, &call, NARU_FOREVER), -EINTR, "naru_interrupt");
    nr_check_fails(naru_take(server, &request, 0), -EAGAIN, "time-out"); /* that call is over */
    call = nr_call_begin(client, "go on", room, 8);
    nr_call_alarm_in_ms(50);
    nr_check_fails(naru_call_end(client, &call, NARU_FOREVER), -EINTR, "naru_interrupt");
    nr_call_take(server, &request); /* and that one is not */
    nr_call_reply_with(server, &request, "yes");
    nr_call_expect(client, &call, "yes");
    nr_call_target = server;
    nr_call_alarm_in_ms(50);
    nr_check_fails(naru_take(server, &request, NARU_FOREVER), -EINTR, "naru_interrupt");
}

static bool nr_call_is_readable(int fd, int64_t timeout_ns)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};

    return poll(&one, 1, (int)(timeout_ns / NARU_MILLISECOND)) == 1;
}

static void nr_call_descriptor(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *client = channel->end[NR_SENDER_END], *server = channel->end[0];
    int server_fd = (int)nr_check_ok(naru_fd(server)),
        client_fd = (int)nr_check_ok(naru_fd(client));
    char room[8];
    struct naru_message request;

    for (int i = 0; i < 20; i++) {
        nr_check_fails(naru_take(server, &request, 0), -EAGAIN, "time-out");
        struct naru_call call = nr_call_begin(client, "hello", room, 8);
        nr_check(nr_call_is_readable(server_fd, NR_SOON), "a request is there, and it is silent");
        nr_check_fails(naru_call_end(client, &call, 0), -EAGAIN, "time-out");
        nr_call_take(server, &request);
        nr_call_reply_with(server, &request, "you");
        nr_check(nr_call_is_readable(client_fd, NR_SOON), "a reply is there, and it is silent");
        nr_call_expect(client, &call, "you");
    }
    struct naru_call call = nr_call_begin(client, "?", room, 8);
    nr_check_fails(naru_call_end(client, &call, 0), -EAGAIN, "time-out");
    for (int i = 0; i < 10 && nr_call_is_readable(client_fd, 0); i++) /* a few times for nothing */
        nr_check_fails(naru_call_end(client, &call, 0), -EAGAIN, "time-out");
    nr_check(!nr_call_is_readable(client_fd, 50 * NARU_MILLISECOND), "it is always readable");
}

/* -- refusals ------------------------------------------------------------------------------------- */

static void nr_call_refused(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *client = channel->end[NR_SENDER_END], *server = channel->end[0];
    char room[8];
    struct naru_message request;
    struct naru_call call = {0};

    nr_check_fails(naru_call(client, &call, NR_SOON), -EINVAL, "size_bytes");
    nr_check_fails(naru_call(client, NULL, NR_SOON), -EINVAL, "size_bytes");
    call = (struct naru_call){.size_bytes = sizeof call, .request_size_bytes = 1};
    nr_check_fails(naru_call(client, &call, NR_SOON), -EINVAL, "request is NULL");
    nr_check_fails(naru_call(server, &call, NR_SOON), -EBADF, "as sender");
    nr_check_fails(naru_send(client, "x", 1, 0), -EOPNOTSUPP, "naru_call()");
    call = nr_call_begin(client, "x", room, 8);
    nr_check_fails(naru_recv(server, room, 8, NULL, 0), -EOPNOTSUPP, "naru_take");
    nr_call_take(server, &request);
    nr_check_fails(naru_ack(server, &request), -EOPNOTSUPP, "naru_reply()");
    nr_check_fails(naru_reply(server, &request, NULL, 1), -EINVAL, "data is NULL");
    nr_check_fails(naru_reply_error(server, &request, 0, NULL, 0), -EINVAL, "not 0");
    nr_check_fails(naru_reply(client, &request, NULL, 0), -EBADF, "as receiver");
    nr_call_reply_with(server, &request, "y");
    nr_check_fails(naru_reply(server, &request, "y", 1), -EINVAL, "given back already");
    nr_call_expect(client, &call, "y");
}

/* As many calls as the channel holds. */
static void nr_call_full(struct nr_channel *channel)
{
    struct naru_call calls[3];
    struct naru_message request;
    char room[8];

    for (int fails = 0; fails < 2; fails++) {
        struct nr_channel own;
        nr_channel_init(&own, channel->row);
        own.options.capacity_messages = 2;
        own.options.when_full = fails ? NARU_FAIL : NARU_BLOCK;
        nr_channel_open_both(&own);
        struct naru_endpoint *client = own.end[NR_SENDER_END], *server = own.end[0];
        for (int i = 0; i < 2; i++)
            calls[i] = nr_call_begin(client, "x", room, 8);
        calls[2] = (struct naru_call){.size_bytes = sizeof calls[2]};
        nr_check_fails(naru_call_begin(client, &calls[2], 0), fails ? -ENOBUFS : -EAGAIN, "");
        nr_check_fails(naru_call(client, &calls[2], 20 * NARU_MILLISECOND),
                       fails ? -ENOBUFS : -ETIMEDOUT, "");
        nr_call_take(server, &request);
        nr_call_reply_with(server, &request, "1");
        nr_call_expect(client, &calls[0], "1");
        nr_check_ok(naru_call_begin(client, &calls[2], 0));
        nr_channel_deinit(&own);
    }
}

static void nr_call_send_descriptor(struct nr_channel *channel)
{
    struct naru_call calls[3];
    struct naru_message request;
    char room[8];

    channel->options.capacity_messages = 2;
    nr_channel_open_both(channel);
    struct naru_endpoint *client = channel->end[NR_SENDER_END], *server = channel->end[0];
    int fd = (int)nr_check_ok(naru_send_fd(client));
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 2; i++) {
            nr_check(nr_call_is_readable(fd, NR_SOON), "there is room, and it is silent");
            calls[i] = nr_call_begin(client, "x", room, 8);
        }
        calls[2] = (struct naru_call){.size_bytes = sizeof calls[2]};
        int tries = 0;
        do {
            nr_check(tries++ < 5, "it is full and says that there is room");
            nr_check_fails(naru_call_begin(client, &calls[2], 0), -EAGAIN, "");
        } while (nr_call_is_readable(fd, 20 * NARU_MILLISECOND));
        for (int i = 0; i < 2; i++) {
            nr_call_take(server, &request);
            nr_call_reply_with(server, &request, "y");
            nr_call_expect(client, &calls[i], "y");
        }
    }
}

static void nr_call_behind_the_past(struct nr_channel *channel, struct naru_endpoint *client,
                                    int number)
{
    char room[8];

    for (int i = 0; i < number; i++) {
        struct naru_call call = nr_call_begin(client, "never", room, 8);
        nr_check_ok(naru_call_cancel(client, &call));
    }
    struct naru_call call = {.size_bytes = sizeof call};
    for (int i = 0; i < 40; i++) /* who has slept often looks around no more */
        nr_check_fails(naru_call_begin(client, &call, NARU_MILLISECOND), -ETIMEDOUT, "");
    nr_kit_set(&channel->shared->done, 1);
    nr_check_ok(
        naru_call_begin(client, &call, 60 * NARU_SECOND)); /* longer than the server waits */
    nr_check_ok(naru_call_end(client, &call, NR_SOON));
}

/* What was given up is still in the way of new requests: the server that drops it makes room. */
static void nr_call_full_of_the_past(struct nr_channel *channel)
{
    struct naru_message request;

    channel->options.capacity_messages = 2;
    pid_t client = nr_channel_spawn(channel, NARU_SENDER, nr_call_behind_the_past, 4);
    struct naru_endpoint *server = nr_channel_open(channel, NARU_RECEIVER);
    nr_kit_await(&channel->shared->done, 1);
    nr_kit_sleep_ms(50); /* it sleeps */
    nr_call_take(server, &request);
    nr_check_ok(naru_reply(server, &request, NULL, 0));
    nr_kit_join(client);
}

/* -- who leaves ------------------------------------------------------------------------------------ */

static void nr_call_give_back(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *client = channel->end[NR_SENDER_END], *server = channel->end[0];
    struct naru_message request;
    char room[8];

    struct naru_call call = nr_call_begin(client, "again", room, 8);
    nr_call_take(server, &request);
    nr_check_ok(naru_requeue(server, &request));
    nr_call_take(server, &request);
    nr_call_expect_request(&request, "again");
    nr_check(request.flags & NARU_REDELIVERED && request.deliveries == 2, "%u deliveries",
             request.deliveries);
    nr_call_reply_with(server, &request, "ok");
    nr_call_expect(client, &call, "ok");
    nr_check(call.flags == NARU_REDELIVERED && call.deliveries == 2, "%u deliveries",
             call.deliveries);
}

/* A server that closes with a request in hand: as if it had died. */
static void nr_call_server_closes(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *client = channel->end[NR_SENDER_END];
    bool at_most_once = channel->options.delivery == NARU_AT_MOST_ONCE;
    struct naru_message request;
    char room[8];

    struct naru_call call = nr_call_begin(client, "in hand", room, 8);
    nr_call_take(channel->end[0], &request);
    nr_channel_close_end(channel, NR_RECEIVER_END);
    if (at_most_once) {
        nr_check_fails(naru_call_end(client, &call, NR_SOON), -EOWNERDEAD, "has died");
        return;
    }
    nr_check_fails(naru_call_end(client, &call, 20 * NARU_MILLISECOND), -ETIMEDOUT, "time-out");
    struct naru_endpoint *server = nr_channel_open(channel, NARU_RECEIVER);
    nr_call_take(server, &request);
    nr_check(request.flags & NARU_REDELIVERED, "not flagged");
    nr_call_reply_with(server, &request, "done");
    nr_call_expect(client, &call, "done");
}

static void nr_call_client_closes(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *client = channel->end[NR_SENDER_END], *server = channel->end[0];
    struct naru_message request, none;
    char room[8];

    nr_call_begin(client, "in hand", room, 8);
    nr_call_begin(client, "waiting", room, 8);
    nr_call_take(server, &request);
    nr_channel_close_end(channel, NR_SENDER_END);
    nr_check_fails(naru_take(server, &none, 0), -EAGAIN, "time-out"); /* nobody asks any more */
    nr_call_expect_request(&request, "in hand");                      /* still readable */
    nr_check_fails(naru_reply(server, &request, "x", 1), -EPIPE, "nobody waits");
    client = nr_channel_open(channel, NARU_SENDER);
    struct naru_call call = nr_call_begin(client, "new", room, 8);
    nr_call_take(server, &request);
    nr_call_expect_request(&request, "new");
    nr_call_reply_with(server, &request, "x");
    nr_call_expect(client, &call, "x");
}

static void nr_call_forked(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *client = channel->end[NR_SENDER_END], *server = channel->end[0];
    struct naru_message request;
    char room[8];

    struct naru_call call = nr_call_begin(client, "mine", room, 8);
    nr_call_take(server, &request);
    pid_t pid = nr_kit_fork();
    if (pid == 0) {
        struct naru_call other = {.size_bytes = sizeof other};
        nr_check_fails(naru_call(client, &other, NR_SOON), -ECHILD, "another process");
        nr_check_fails(naru_call_end(client, &call, NR_SOON), -ECHILD, "another process");
        nr_check_fails(naru_call_cancel(client, &call), -ECHILD, "another process");
        nr_check_fails(naru_reply(server, &request, "x", 1), -ECHILD, "another process");
        nr_channel_close(channel);
        exit(0);
    }
    nr_kit_join(pid);
    nr_call_reply_with(server, &request, "yours");
    nr_call_expect(client, &call, "yours");
}

/* One endpoint that asks itself. */
static void nr_call_both(struct nr_channel *channel)
{
    struct naru_endpoint *both = NULL;
    struct naru_message request;
    char room[8];

    nr_check_ok(nr_channel_try(channel, NARU_BOTH, NULL, &both));
    struct naru_call call = nr_call_begin(both, "me?", room, 8);
    nr_call_take(both, &request);
    nr_call_reply_with(both, &request, "me");
    nr_call_expect(both, &call, "me");
    nr_call_begin(both, "left over", room, 8);
    nr_call_take(both, &request);
    naru_close(both);
}

/* -- deaths ---------------------------------------------------------------------------------------- */

static void nr_call_hold(struct nr_channel *channel, struct naru_endpoint *server, int number)
{
    struct naru_message request;

    (void)number;
    nr_call_take(server, &request);
    nr_kit_set(&channel->shared->done, 1);
    nr_kit_sleep_ms(60000);
}

static void nr_call_server_dies(struct nr_channel *channel)
{
    bool at_most_once = channel->options.delivery == NARU_AT_MOST_ONCE;
    pid_t holder = nr_channel_spawn(channel, NARU_RECEIVER, nr_call_hold, 0);
    struct naru_endpoint *client = nr_channel_open(channel, NARU_SENDER);
    char room[8];

    struct naru_call call = nr_call_begin(client, "x", room, 8);
    nr_kit_await(&channel->shared->done, 1);
    nr_check_fails(naru_call_end(client, &call, 20 * NARU_MILLISECOND), -ETIMEDOUT, "time-out");
    nr_kit_kill(holder);
    if (at_most_once) { /* told at once, not at the end of a time-out */
        int64_t begin = nr_kit_now_ns();
        nr_check_fails(naru_call_end(client, &call, 60 * NARU_SECOND), -EOWNERDEAD, "has died");
        nr_check(nr_kit_now_ns() - begin < NR_SOON, "late");
        return;
    }
    struct naru_endpoint *server = nr_channel_open(channel, NARU_RECEIVER);
    struct naru_message request;
    nr_call_take(server, &request);
    nr_check(request.flags & NARU_REDELIVERED, "not flagged");
    nr_call_reply_with(server, &request, "done");
    nr_call_expect(client, &call, "done");
}

static void nr_call_wait(struct nr_channel *channel, struct naru_endpoint *client, int number)
{
    struct naru_call call = {.size_bytes = sizeof call};

    (void)channel, (void)number;
    naru_call(client, &call, 60 * NARU_SECOND);
}

static void nr_call_client_dies(struct nr_channel *channel)
{
    struct naru_endpoint *server = nr_channel_open(channel, NARU_RECEIVER);
    struct naru_stat stat = {.size_bytes = sizeof stat};
    struct naru_message request;

    pid_t client = nr_channel_spawn(channel, NARU_SENDER, nr_call_wait, 0);
    nr_call_take(server, &request);
    pid_t other = nr_channel_spawn(channel, NARU_SENDER, nr_call_wait, 0);
    for (int64_t end = nr_kit_now_ns() + NR_SOON; stat.queued_messages == 0;) {
        nr_check_ok(naru_stat(server, &stat));
        nr_check(nr_kit_now_ns() < end, "it does not ask");
    }
    nr_kit_kill(client);
    nr_kit_kill(other);
    nr_check_ok(naru_stat(server, &stat)); /* it looks for the dead */
    nr_check(stat.queued_messages == 0 && stat.peers == 0, "%llu requests of %u clients",
             (unsigned long long)stat.queued_messages, stat.peers);
    nr_check_fails(naru_reply(server, &request, "x", 1), -EPIPE, "nobody waits");
    nr_check_fails(naru_take(server, &request, 0), -EAGAIN, "time-out");
}

#define NR_CALL_CASE(NAME, BODY)                                                                   \
    {                                                                                              \
        .name = NAME, .body = BODY, .needs = NR_CALLS                                              \
    }
const struct nr_case nr_call_cases[] = {
    {.name = "many clients, many servers", .body = nr_call_many, .needs = NR_CALLS, .seconds = 20},
    {.name = "threads of one client", .body = nr_call_threads, .needs = NR_CALLS, .seconds = 20},
    NR_CALL_CASE("several calls at once", nr_call_several),
    NR_CALL_CASE("sizes of calls", nr_call_sizes),
    NR_CALL_CASE("a reply that does not fit", nr_call_too_large),
    NR_CALL_CASE("time-outs and late replies", nr_call_time_out),
    NR_CALL_CASE("naru_interrupt ends a call", nr_call_interrupt),
    NR_CALL_CASE("descriptors of both sides", nr_call_descriptor),
    NR_CALL_CASE("the descriptor for calling", nr_call_send_descriptor),
    NR_CALL_CASE("room behind what was given up", nr_call_full_of_the_past),
    NR_CALL_CASE("what a call is not", nr_call_refused),
    NR_CALL_CASE("as many calls as it holds", nr_call_full),
    NR_CALL_CASE("a request is given back", nr_call_give_back),
    NR_CALL_CASE("the server closes", nr_call_server_closes),
    NR_CALL_CASE("the client closes", nr_call_client_closes),
    NR_CALL_CASE("a forked child and calls", nr_call_forked),
    NR_CALL_CASE("an endpoint that asks itself", nr_call_both),
    NR_CALL_CASE("the server is killed", nr_call_server_dies),
    NR_CALL_CASE("the client is killed", nr_call_client_dies),
    {0},
};
