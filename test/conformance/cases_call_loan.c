/* SPDX-License-Identifier: MIT */
/* cases_call_loan -- calls in place: a request that is loaned, a reply written and read where it stands; and who leaves */
#include "cases.h"
#include <errno.h>
#include <naru/call.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* -- the usual way --------------------------------------------------------------------------------- */

/* For whatever a request or a reply is. */
static bool nr_loan_is_aligned(const void *data)
{
    return data && (uintptr_t)data % _Alignof(max_align_t) == 0;
}

static struct naru_message nr_loan_get(struct naru_endpoint *client, size_t size_bytes,
                                       unsigned index)
{
    struct naru_message loan;

    nr_check_ok(naru_loan(client, size_bytes, &loan, NR_SOON));
    nr_check(loan.size_bytes == size_bytes && loan.capacity_bytes >= size_bytes &&
                 nr_loan_is_aligned(loan.data),
             "a loan of %zu bytes at %p", loan.size_bytes, loan.data);
    nr_payload_fill(loan.data, size_bytes, 1, index);
    return loan;
}

/* On its way, with a reply that is to stay in place. */
static struct naru_call nr_loan_begin(struct naru_endpoint *client, struct naru_message *loan)
{
    struct naru_call call = {.size_bytes = sizeof call, .loan = loan, .type = 7, .in_place = 1};

    nr_check_ok(naru_call_begin(client, &call, NR_SOON));
    nr_check(!loan->data, "the loan is still there");
    return call;
}

static void nr_loan_take(struct naru_endpoint *server, struct naru_message *ret, size_t size_bytes,
                         unsigned index)
{
    nr_check_ok(naru_take(server, ret, NR_SOON));
    nr_check(ret->size_bytes == size_bytes && nr_payload_is_whole(ret->data, size_bytes, 1, index),
             "not the request");
}

/* The room for a reply is of no use for anything else: the request stays whole beside it. */
static void *nr_loan_write(struct naru_endpoint *server, struct naru_message *request,
                           size_t size_bytes, unsigned index)
{
    struct nr_payload_stamp stamp;
    void *room = NULL;

    nr_check_ok(naru_reply_loan(server, request, size_bytes, &room));
    nr_check(nr_loan_is_aligned(room), "a reply at %p", room);
    nr_payload_fill(room, size_bytes, 2, index);
    nr_check(!request->size_bytes || nr_payload_read(request->data, request->size_bytes, &stamp),
             "the reply was written over the request");
    return room;
}

static void nr_loan_answer(struct naru_endpoint *server, struct naru_message *request,
                           size_t size_bytes, unsigned index)
{
    void *room = nr_loan_write(server, request, size_bytes, index);

    nr_check_ok(naru_reply(server, request, room, size_bytes));
}

static void nr_loan_read(struct naru_endpoint *client, struct naru_call *call, size_t size_bytes,
                         unsigned index)
{
    nr_check_ok(naru_call_end(client, call, NR_SOON));
    nr_check(call->reply && call->reply_size_bytes == size_bytes &&
                 nr_payload_is_whole(call->reply, size_bytes, 2, index),
             "not the reply");
}

/* Both sides see the same memory. */
static void nr_loan_check_same(unsigned char *one, const unsigned char *other, size_t size_bytes)
{
    if (!size_bytes)
        return;
    unsigned char last = one[size_bytes - 1];
    one[size_bytes - 1] = (unsigned char)~last;
    nr_check(other[size_bytes - 1] == (unsigned char)~last, "it was copied");
    one[size_bytes - 1] = last;
}

static void nr_loan_sizes(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *client = channel->end[NR_SENDER_END], *server = channel->end[0];
    size_t largest = nr_channel_largest(channel, client);
    const size_t sizes[] = {0, 8, 31, 33, 64, 100, 4096, largest - 1, largest};
    struct naru_stat before = {.size_bytes = sizeof before}, after = before;

    nr_check_ok(naru_stat(client, &before));
    for (unsigned i = 0; i < 9; i++) {
        size_t asked = sizes[i], answered = sizes[(i * 5 + 3) % 9];
        struct naru_message loan = nr_loan_get(client, asked, i), request;
        unsigned char *place = loan.data;
        struct naru_call call = nr_loan_begin(client, &loan);
        nr_loan_take(server, &request, asked, i);
        nr_check(request.type == 7, "of type %lld", (long long)request.type);
        nr_loan_check_same(place, request.data, asked);
        void *room = nr_loan_write(server, &request, answered, i);
        nr_check_ok(naru_reply(server, &request, room, answered));
        nr_loan_read(client, &call, answered, i);
        nr_loan_check_same(call.reply, room, answered);
        nr_check(call.server_pid > 0 && call.deliveries == 1, "by whom?");
        nr_check_ok(naru_call_cancel(client, &call));
        nr_check(!call.reply, "the reply is still there");
    }
    nr_check_ok(naru_stat(client, &after));
    nr_check(after.sent_messages == before.sent_messages + 9 &&
                 after.received_messages == before.received_messages + 9,
             "%llu sent, %llu received", (unsigned long long)after.sent_messages,
             (unsigned long long)after.received_messages);
}

/* In one step, of what became shorter; and each part by itself. */
static void nr_loan_mixed(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *client = channel->end[NR_SENDER_END], *server = channel->end[0];
    struct naru_message loan = nr_loan_get(client, 5000, 1), request;
    char room[200];

    nr_payload_fill(loan.data, 50, 1, 1);
    loan.size_bytes = loan.capacity_bytes + 1;
    struct naru_call call = {.size_bytes = sizeof call, .loan = &loan};
    nr_check_fails(naru_call(client, &call, NR_SOON), -EINVAL, "bytes");
    loan.size_bytes = 50;
    nr_check_fails(naru_call(client, &call, 0), -EAGAIN, "naru_call_begin");
    nr_check(loan.data, "it was not sent, and the loan is gone");
    nr_check_fails(naru_call(client, &call, 20 * NARU_MILLISECOND), -ETIMEDOUT, "time-out");
    nr_check(!loan.data, "it was sent, and the loan is still there");
    nr_check_fails(naru_take(server, &request, 0), -EAGAIN, "time-out");

    /* request in place, reply copied by both */
    loan = nr_loan_get(client, 100, 2);
    call = (struct naru_call){.size_bytes = sizeof call,
                              .loan = &loan,
                              .reply = room,
                              .reply_capacity_bytes = sizeof room};
    nr_check_ok(naru_call_begin(client, &call, NR_SOON));
    nr_loan_take(server, &request, 100, 2);
    nr_payload_fill(nr_case_room, 200, 2, 2);
    nr_check_ok(naru_reply(server, &request, nr_case_room, 200));
    nr_loan_read(client, &call, 200, 2);
    nr_check(call.reply == room, "not in its room");
    nr_check_fails(naru_call_cancel(client, &call), -EINVAL, "over already");

    /* request copied, reply in place at the client; the server had a part of it in place */
    nr_payload_fill(nr_case_room, 30, 1, 3);
    call = (struct naru_call){.size_bytes = sizeof call,
                              .request = nr_case_room,
                              .request_size_bytes = 30,
                              .in_place = 1};
    nr_check_ok(naru_call_begin(client, &call, NR_SOON));
    nr_loan_take(server, &request, 30, 3);
    char *part = nr_loan_write(server, &request, 400, 3);
    memmove(part + 7, part, 300);
    nr_payload_fill(part + 7, 300, 2, 3);
    nr_check_ok(naru_reply(server, &request, part + 7, 300));
    nr_loan_read(client, &call, 300, 3);
    nr_check_ok(naru_call_cancel(client, &call));
}

/* An error's text may be read in place, too; and then the call is over only when that is given back. */
static void nr_loan_errors(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *client = channel->end[NR_SENDER_END], *server = channel->end[0];
    struct naru_message loan = nr_loan_get(client, 10, 1), request;
    void *room;

    struct naru_call call = nr_loan_begin(client, &loan);
    nr_loan_take(server, &request, 10, 1);
    nr_check_ok(naru_reply_loan(server, &request, 5, &room));
    memcpy(room, "nine", 5);
    nr_check_ok(naru_reply_error(server, &request, 9, room, 5));
    nr_check_fails(naru_call_end(client, &call, NR_SOON), -EREMOTEIO, "error 9");
    nr_check(call.error == 9 && strcmp(call.reply, "nine") == 0, "error %d", call.error);
    nr_check_fails(naru_call_end(client, &call, NR_SOON), -EINVAL, "naru_call_cancel");
    nr_check_fails(naru_call(client, &call, NR_SOON), -EINVAL, "begun already");
    nr_check(call.error == 9 && call.reply, "a refused call changed it");
    nr_check_ok(naru_call_cancel(client, &call));
    nr_check_fails(naru_call_cancel(client, &call), -EINVAL, "over already");
}

static void nr_loan_misuse(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *client = channel->end[NR_SENDER_END], *server = channel->end[0];
    size_t largest = nr_channel_largest(channel, client);
    struct naru_message loan, request, foreign = {0};
    struct naru_call call = {.size_bytes = sizeof call, .loan = &foreign};
    void *room = &foreign;

    nr_check_fails(naru_call(client, &call, NR_SOON), -EINVAL, "no message loaned");
    nr_check_fails(naru_loan(client, largest + 1, &loan, NR_SOON), -EMSGSIZE, "at most");
    nr_check_fails(naru_loan(client, 1, NULL, NR_SOON), -EINVAL, "place");
    nr_check_fails(naru_loan(server, 1, &loan, NR_SOON), -EBADF, "as sender");
    loan = nr_loan_get(client, 8, 1);
    nr_check_fails(naru_commit(client, &loan), -EOPNOTSUPP, "naru_call()");
    call = nr_loan_begin(client, &loan);
    nr_check_fails(naru_cancel(client, &loan), -EINVAL, "already");
    nr_check_fails(naru_reply_loan(server, &foreign, 1, &room), -EINVAL, "no message taken");
    nr_loan_take(server, &request, 8, 1);
    nr_check_fails(naru_reply_loan(server, &request, largest + 1, &room), -EMSGSIZE, "at most");
    nr_check_fails(naru_reply_loan(server, &request, 1, NULL), -EINVAL, "place");
    nr_check_fails(naru_reply_loan(client, &request, 1, &room), -EBADF, "as receiver");
    nr_check(room == &foreign, "an address was stored, on failure");
    nr_loan_answer(server, &request, 8, 1);
    nr_check_fails(naru_reply_loan(server, &request, 1, &room), -EINVAL, "given back already");
    nr_loan_read(client, &call, 8, 1);
    nr_check_ok(naru_call_cancel(client, &call));
}

/* -- each is one of the calls that the channel holds -------------------------------------------------- */

static void nr_loan_expect_free(struct naru_endpoint *client, unsigned count)
{
    struct naru_message loans[4], more;

    for (unsigned i = 0; i < count; i++)
        loans[i] = nr_loan_get(client, 8, i);
    nr_check_fails(naru_loan(client, 8, &more, 0), -EAGAIN, "");
    nr_check_fails(naru_loan(client, 8, &more, 10 * NARU_MILLISECOND), -ETIMEDOUT, "time-out");
    for (unsigned i = 0; i < count; i++)
        nr_check_ok(naru_cancel(client, &loans[i]));
}

static void nr_loan_full(struct nr_channel *channel)
{
    channel->options.capacity_messages = 3;
    nr_channel_open_both(channel);
    struct naru_endpoint *client = channel->end[NR_SENDER_END], *server = channel->end[0];
    struct naru_participant me = {.size_bytes = sizeof me};
    struct naru_message request;

    nr_loan_expect_free(client, 3);
    struct naru_message loan = nr_loan_get(client, 8, 1), other = nr_loan_get(client, 8, 2);
    nr_loan_expect_free(client, 1);
    struct naru_call call = nr_loan_begin(client, &loan);
    nr_loan_take(server, &request, 8, 1);
    for (size_t i = 0; me.role != NARU_SENDER; i++)
        nr_check_ok(naru_stat_participant(client, i, &me));
    nr_check(me.loans == 1, "%u loans are out", me.loans);
    for (size_t i = 0; me.role != NARU_RECEIVER; i++)
        nr_check_ok(naru_stat_participant(client, i, &me));
    nr_check(me.held_messages == 1, "%u requests are held", me.held_messages);
    nr_loan_answer(server, &request, 8, 1);
    for (size_t i = 0; i < 2; i++)
        nr_check(naru_stat_participant(client, i, &me) == 0 && me.held_messages == 0,
                 "%u requests are held", me.held_messages);
    nr_loan_read(client, &call, 8, 1);
    nr_loan_expect_free(client, 1); /* one is read, and one is written */
    nr_check_ok(naru_call_cancel(client, &call));
    nr_loan_expect_free(client, 2);
    nr_check_ok(naru_cancel(client, &other));
    nr_loan_expect_free(client, 3);
}

static void nr_loan_fail(struct nr_channel *channel)
{
    channel->options.capacity_messages = 1;
    channel->options.when_full = NARU_FAIL;
    nr_channel_open_both(channel);
    struct naru_endpoint *client = channel->end[NR_SENDER_END];
    struct naru_message more, loan = nr_loan_get(client, 8, 1);

    nr_check_fails(naru_loan(client, 8, &more, NARU_FOREVER), -ENOBUFS, "to fail");
    nr_check_ok(naru_cancel(client, &loan));
    nr_loan_get(client, 8, 2);
}

/* A call is free, and the way to the servers is full of what was given up: the loan stays, to be tried again. */
static void nr_loan_no_room(struct nr_channel *channel)
{
    channel->options.capacity_messages = 2;
    nr_channel_open_both(channel);
    struct naru_endpoint *client = channel->end[NR_SENDER_END], *server = channel->end[0];
    struct naru_call call = {.size_bytes = sizeof call};
    struct naru_message request;
    int tries = 0;

    while (naru_call_begin(client, &call, 0) == 0) {
        nr_check(tries++ < 64, "it is never full");
        nr_check_ok(naru_call_cancel(client, &call));
    }
    struct naru_message loan = nr_loan_get(client, 8, 1);
    call.loan = &loan;
    nr_check_fails(naru_call_begin(client, &call, 0), -EAGAIN, "");
    nr_check_fails(naru_call(client, &call, 10 * NARU_MILLISECOND), -ETIMEDOUT, "");
    nr_check(loan.data && nr_payload_is_whole(loan.data, 8, 1, 1), "the loan is gone");
    nr_loan_expect_free(client, 1);
    nr_check_fails(naru_take(server, &request, 0), -EAGAIN, ""); /* drops the past */
    call = nr_loan_begin(client, &loan);
    nr_loan_take(server, &request, 8, 1);
    nr_loan_answer(server, &request, 8, 1);
    nr_loan_read(client, &call, 8, 1);
}

/* -- who leaves --------------------------------------------------------------------------------------- */

static bool nr_loan_is_readable(int fd)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};

    return poll(&one, 1, 20) == 1;
}

/* A reply that is being read is not told of again. */
static void nr_loan_descriptor(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *client = channel->end[NR_SENDER_END], *server = channel->end[0];
    int fd = (int)nr_check_ok(naru_fd(client));
    struct naru_message one = nr_loan_get(client, 8, 1), two = nr_loan_get(client, 8, 2), request;
    struct naru_call first = nr_loan_begin(client, &one), second = nr_loan_begin(client, &two);

    nr_loan_take(server, &request, 8, 1);
    nr_loan_answer(server, &request, 8, 1);
    nr_loan_read(client, &first, 8, 1);
    int tries = 0;
    do {
        nr_check(tries++ < 5, "it is always readable");
        nr_check_fails(naru_call_end(client, &second, 0), -EAGAIN, "time-out");
    } while (nr_loan_is_readable(fd));
    nr_loan_take(server, &request, 8, 2);
    nr_loan_answer(server, &request, 8, 2);
    nr_check(nr_loan_is_readable(fd), "a reply is there, and it is silent");
    nr_check(nr_payload_is_whole(first.reply, 8, 2, 1), "the reply in hand changed");
    nr_check_ok(naru_call_cancel(client, &first));
    nr_loan_read(client, &second, 8, 2);
}

/* Calls in every state that is in place: 0 a loan, 1 taken, with room for the reply, 2 read. */
static void nr_loan_everything(struct naru_endpoint *client, struct naru_endpoint *server,
                               struct naru_message *ret_request)
{
    struct naru_message loans[3];
    struct naru_call calls[3];

    for (unsigned i = 0; i < 3; i++)
        loans[i] = nr_loan_get(client, 8, i);
    calls[2] = nr_loan_begin(client, &loans[2]);
    nr_loan_take(server, ret_request, 8, 2);
    nr_loan_answer(server, ret_request, 8, 2);
    nr_loan_read(client, &calls[2], 8, 2);
    calls[1] = nr_loan_begin(client, &loans[1]);
    nr_loan_take(server, ret_request, 8, 1);
    nr_loan_write(server, ret_request, 8, 1);
}

static void nr_loan_client(struct nr_channel *channel, struct naru_endpoint *client, int number)
{
    struct naru_endpoint *server = NULL;
    struct naru_message request;

    nr_check_ok(nr_channel_try(channel, NARU_RECEIVER, NULL, &server));
    nr_loan_everything(client, server, &request);
    if (number == 0) { /* goes, but for what it holds */
        naru_close(server);
        return;
    }
    nr_kit_set(&channel->shared->done, 1);
    nr_kit_sleep_ms(60000);
}

static void nr_loan_leaves(struct nr_channel *channel)
{
    channel->options.capacity_messages = 3;
    struct naru_endpoint *other = nr_channel_open(channel, NARU_SENDER);

    for (int killed = 0; killed < 2; killed++) {
        pid_t pid = nr_channel_spawn(channel, NARU_SENDER, nr_loan_client, killed);
        if (killed) {
            nr_kit_await(&channel->shared->done, 1);
            nr_kit_kill(pid);
            struct naru_stat stat = {.size_bytes = sizeof stat};
            nr_check_ok(naru_stat(other, &stat)); /* it looks for the dead */
        } else {
            nr_kit_join(pid);
        }
        nr_loan_expect_free(other, 3);
    }
}

/* What a dead server had written of its reply is nobody's: the next one writes its own. */
static void nr_loan_server(struct nr_channel *channel, struct naru_endpoint *server, int number)
{
    struct naru_message request;

    (void)number;
    nr_loan_take(server, &request, 8, 1);
    nr_loan_write(server, &request, 5000, 77);
    nr_kit_set(&channel->shared->done, 1);
    nr_kit_sleep_ms(60000);
}

static void nr_loan_server_dies(struct nr_channel *channel)
{
    pid_t pid = nr_channel_spawn(channel, NARU_RECEIVER, nr_loan_server, 0);
    struct naru_endpoint *client = nr_channel_open(channel, NARU_SENDER);
    struct naru_message loan = nr_loan_get(client, 8, 1), request;
    struct naru_call call = nr_loan_begin(client, &loan);

    nr_kit_await(&channel->shared->done, 1);
    nr_kit_kill(pid);
    if (channel->options.delivery == NARU_AT_MOST_ONCE) {
        nr_check_fails(naru_call_end(client, &call, NR_SOON), -EOWNERDEAD, "has died");
        nr_check_fails(naru_call_cancel(client, &call), -EINVAL, "over already");
        return;
    }
    struct naru_endpoint *server = nr_channel_open(channel, NARU_RECEIVER);
    nr_loan_take(server, &request, 8, 1);
    nr_check(request.flags & NARU_REDELIVERED, "not flagged");
    nr_loan_answer(server, &request, 600, 5);
    nr_loan_read(client, &call, 600, 5);
    nr_check_ok(naru_call_cancel(client, &call));
}

/* Given up while the reply is being written in place: that room is nobody else's until it is done. */
static void nr_loan_late(struct nr_channel *channel)
{
    channel->options.capacity_messages = 2;
    nr_channel_open_both(channel);
    struct naru_endpoint *client = channel->end[NR_SENDER_END], *server = channel->end[0];
    struct naru_message loan = nr_loan_get(client, 8, 1), late, request;
    struct naru_call call = nr_loan_begin(client, &loan);

    nr_loan_take(server, &late, 8, 1);
    void *room = nr_loan_write(server, &late, 8, 9);
    nr_check_ok(naru_call_cancel(client, &call));
    nr_loan_expect_free(client, 1);
    loan = nr_loan_get(client, 8, 2);
    call = nr_loan_begin(client, &loan);
    nr_loan_take(server, &request, 8, 2);
    nr_loan_answer(server, &request, 8, 2);
    nr_check_fails(naru_reply(server, &late, room, 8), -EPIPE, "nobody waits");
    nr_loan_read(client, &call, 8, 2);
    nr_check_ok(naru_call_cancel(client, &call));
    nr_loan_expect_free(client, 2);
}

#define NR_LOAN_CASE(NAME, BODY)                                                                   \
    {                                                                                              \
        .name = NAME, .body = BODY, .needs = NR_CALLS                                              \
    }
const struct nr_case nr_call_loan_cases[] = {
    NR_LOAN_CASE("calls in place", nr_loan_sizes),
    NR_LOAN_CASE("calls in place in part", nr_loan_mixed),
    NR_LOAN_CASE("errors in place", nr_loan_errors),
    NR_LOAN_CASE("misuse of calls in place", nr_loan_misuse),
    NR_LOAN_CASE("as many calls in place as it holds", nr_loan_full),
    NR_LOAN_CASE("no room for a loan of calls, and the contract to fail", nr_loan_fail),
    NR_LOAN_CASE("a loan of calls, behind what was given up", nr_loan_no_room),
    NR_LOAN_CASE("the descriptor and a reply in hand", nr_loan_descriptor),
    NR_LOAN_CASE("a client leaves, or is killed, with calls in place", nr_loan_leaves),
    NR_LOAN_CASE("the server is killed with a reply in place", nr_loan_server_dies),
    NR_LOAN_CASE("a late reply in place", nr_loan_late),
    {0},
};
