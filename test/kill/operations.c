/* SPDX-License-Identifier: MIT */
/* operations -- the public calls that a victim dies in */
#include "call.h"
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define NR_KILL_STATE(name) (1u << NR_KILL_##name)
/* UNSWEPT is for who looks for the dead; for the others it would be as HALF. */
#define NR_KILL_USUAL       (NR_KILL_ALL & ~NR_KILL_STATE(UNSWEPT))
/* There is something to take. */
#define NR_KILL_FILLED      (NR_KILL_USUAL & ~NR_KILL_STATE(EMPTY))
/* There is room for one more. */
#define NR_KILL_WITH_ROOM   (NR_KILL_USUAL & ~NR_KILL_STATE(FULL))

/* Longer than it takes to step as far as the sleep. */
#define NR_KILL_WAIT_NS (30 * NARU_MILLISECOND)

/* -- preparations ----------------------------------------------------------------------------- */

static void nr_kill_with_messages(struct nr_kill_victim *victim)
{
    for (unsigned i = 0; i < NR_KILL_BATCH; i++) {
        size_t size_bytes = nr_kill_size(victim->world, i);
        nr_payload_fill(victim->room[i], size_bytes, NR_KILL_VICTIM, i);
        victim->messages[i] =
            (struct naru_message){.data = victim->room[i], .size_bytes = size_bytes};
    }
}

static void nr_kill_with_room(struct nr_kill_victim *victim)
{
    for (unsigned i = 0; i < NR_KILL_BATCH; i++)
        victim->messages[i] =
            (struct naru_message){.data = victim->room[i], .capacity_bytes = NR_KILL_ROOM_BYTES};
}

static void nr_kill_with_loan(struct nr_kill_victim *victim)
{
    size_t size_bytes = nr_kill_size(victim->world, 0);

    nr_kill_ok(victim->world, naru_loan(victim->endpoint, size_bytes, &victim->messages[0], 0));
    nr_payload_fill(victim->messages[0].data, size_bytes, NR_KILL_VICTIM, 0);
}

static void nr_kill_with_hand(struct nr_kill_victim *victim)
{
    struct nr_kill_world *world = victim->world;

    nr_kill_ok(world, naru_take(victim->endpoint, &victim->messages[0], 0));
    nr_kill_in_hand(world, &victim->messages[0], NR_KILL_IN_VICTIMS_HAND);
}

/* Whoever waits spins at first. After it was in vain a few times, it sleeps at once. */
static void nr_kill_with_patience(struct nr_kill_victim *victim)
{
    bool sends = victim->world->operation->role == NARU_SENDER;

    for (int i = 0; i < 12; i++) {
        int result = sends ? naru_send(victim->endpoint, victim->room[0], NR_KILL_ROOM_BYTES, 1000)
                           : naru_recv(victim->endpoint, victim->room[0], 1, NULL, 1000);
        nr_kill_check(victim->world, result == -ETIMEDOUT, "%s", naru_error_text());
    }
    if (sends)
        nr_kill_with_messages(victim);
    else
        nr_kill_with_room(victim);
}

/* Its own call: waits, ... */
static void nr_kill_with_call(struct nr_kill_victim *victim)
{
    nr_kill_ok(victim->world, nr_kill_ask(victim->world, victim->endpoint, NR_KILL_VICTIM, 0,
                                          &victim->call, victim->room[0]));
}

/* ... or is in the hand of a server that will die with it, ... */
static void nr_kill_with_call_taken(struct nr_kill_victim *victim)
{
    nr_kill_with_call(victim);
    victim->server = nr_kill_open(victim->world, NARU_RECEIVER);
    nr_kill_ok(victim->world, naru_take(victim->server, &victim->messages[0], 0));
}

/* ... or is answered. */
static void nr_kill_with_call_answered(struct nr_kill_victim *victim)
{
    nr_kill_with_call_taken(victim);
    nr_kill_ok(victim->world,
               nr_kill_answer(victim->world, victim->server, &victim->messages[0], NR_KILL_VICTIM));
    naru_close(victim->server);
}

/* And the reply is in its hand. */
static void nr_kill_with_call_read(struct nr_kill_victim *victim)
{
    nr_kill_with_call_answered(victim);
    victim->call.in_place = 1;
    nr_kill_ok(victim->world, naru_call_end(victim->endpoint, &victim->call, 0));
}

/* -- operations ------------------------------------------------------------------------------- */

static int nr_kill_run_send(struct nr_kill_victim *victim)
{
    return naru_send(victim->endpoint, victim->room[0], victim->messages[0].size_bytes, 0);
}
static int nr_kill_run_send_waiting(struct nr_kill_victim *victim)
{
    return naru_send(victim->endpoint, victim->room[0], victim->messages[0].size_bytes,
                     NR_KILL_WAIT_NS);
}
static int nr_kill_run_send_many(struct nr_kill_victim *victim)
{
    return naru_send_many(victim->endpoint, victim->messages, NR_KILL_BATCH, 0);
}
static int nr_kill_run_recv(struct nr_kill_victim *victim)
{
    return naru_recv(victim->endpoint, victim->room[0], NR_KILL_ROOM_BYTES,
                     &victim->messages[0].size_bytes, 0);
}
static int nr_kill_run_recv_waiting(struct nr_kill_victim *victim)
{
    return naru_recv(victim->endpoint, victim->room[0], NR_KILL_ROOM_BYTES,
                     &victim->messages[0].size_bytes, NR_KILL_WAIT_NS);
}
static int nr_kill_run_recv_many(struct nr_kill_victim *victim)
{
    return naru_recv_many(victim->endpoint, victim->messages, NR_KILL_BATCH, 0);
}
static int nr_kill_run_loan(struct nr_kill_victim *victim)
{
    return naru_loan(victim->endpoint, nr_kill_size(victim->world, 0), &victim->messages[0], 0);
}
static int nr_kill_run_commit(struct nr_kill_victim *victim)
{
    return naru_commit(victim->endpoint, &victim->messages[0]);
}
static int nr_kill_run_cancel(struct nr_kill_victim *victim)
{
    return naru_cancel(victim->endpoint, &victim->messages[0]);
}
static int nr_kill_run_take(struct nr_kill_victim *victim)
{
    return naru_take(victim->endpoint, &victim->messages[0], 0);
}
static int nr_kill_run_ack(struct nr_kill_victim *victim)
{
    return naru_ack(victim->endpoint, &victim->messages[0]);
}
static int nr_kill_run_requeue(struct nr_kill_victim *victim)
{
    return naru_requeue(victim->endpoint, &victim->messages[0]);
}
static int nr_kill_run_close(struct nr_kill_victim *victim)
{
    naru_close(victim->endpoint);
    return 0;
}
static int nr_kill_run_open(struct nr_kill_victim *victim)
{
    struct nr_kill_world *world = victim->world;

    return naru_open(&victim->endpoint, world->uri, world->operation->role, &world->kind->options);
}
static int nr_kill_run_pair(struct nr_kill_victim *victim)
{
    return naru_pair(victim->world->ends, "shm://", &victim->world->kind->options);
}
static int nr_kill_run_assign(struct nr_kill_victim *victim)
{
    return naru_pair_assign(victim->world->ends[1], getpid());
}
static int nr_kill_run_unlink(struct nr_kill_victim *victim)
{
    return naru_unlink(victim->world->uri);
}
static int nr_kill_run_stat(struct nr_kill_victim *victim)
{
    struct naru_stat stat = {.size_bytes = sizeof stat};

    return naru_stat(victim->endpoint, &stat);
}

static int nr_kill_run_begin(struct nr_kill_victim *victim)
{
    return nr_kill_ask(victim->world, victim->endpoint, NR_KILL_VICTIM, 0, &victim->call,
                       victim->room[0]);
}
static int nr_kill_run_begin_in_place(struct nr_kill_victim *victim)
{
    struct naru_message *loan = &victim->messages[0];
    int result = nr_kill_run_loan(victim);

    if (result < 0)
        return result;
    nr_payload_fill(loan->data, loan->size_bytes, NR_KILL_VICTIM, 0);
    victim->call = (struct naru_call){.size_bytes = sizeof victim->call, .loan = loan};
    return naru_call_begin(victim->endpoint, &victim->call, 0);
}
static int nr_kill_run_end(struct nr_kill_victim *victim)
{
    return naru_call_end(victim->endpoint, &victim->call, 0);
}
static int nr_kill_run_end_in_place(struct nr_kill_victim *victim)
{
    victim->call.in_place = 1;
    return naru_call_end(victim->endpoint, &victim->call, 0);
}
static int nr_kill_run_cancel_call(struct nr_kill_victim *victim)
{
    return naru_call_cancel(victim->endpoint, &victim->call);
}
static int nr_kill_run_reply(struct nr_kill_victim *victim)
{
    return nr_kill_answer(victim->world, victim->endpoint, &victim->messages[0], NR_KILL_VICTIM);
}
static int nr_kill_run_reply_error(struct nr_kill_victim *victim)
{
    struct naru_message *request = &victim->messages[0];
    size_t size_bytes = request->size_bytes;
    unsigned index = nr_kill_read(victim->world, request);

    nr_payload_fill(victim->room[0], size_bytes, NR_KILL_VICTIM, index);
    return naru_reply_error(victim->endpoint, request, NR_KILL_ERROR, victim->room[0], size_bytes);
}
static int nr_kill_run_reply_in_place(struct nr_kill_victim *victim)
{
    struct naru_message *request = &victim->messages[0];
    size_t size_bytes = request->size_bytes;
    unsigned index = nr_kill_read(victim->world, request);
    void *reply;
    int result = naru_reply_loan(victim->endpoint, request, size_bytes, &reply);

    if (result < 0)
        return result;
    nr_payload_fill(reply, size_bytes, NR_KILL_VICTIM, index);
    return naru_reply(victim->endpoint, request, reply, size_bytes);
}

#define NR_KILL_CALLING "calls|calls, at most once"
#define NR_KILL_MANY                                                                               \
    "inline|chunks|at most once|overwriting|topic|topic, overwriting|cell|" NR_KILL_CALLING

/* What a client does about its own call. */
#define NR_KILL_CALL(NAME, STATES, PREPARE, RUN)                                                   \
    {                                                                                              \
        .name = NAME, .effect = NR_KILL_ASKS, .count = 1, .role = NARU_SENDER, .states = STATES,   \
        .kinds = NR_KILL_CALLING, .prepare = PREPARE, .run = RUN                                   \
    }
#define NR_KILL_REPLY(NAME, RUN)                                                                   \
    {                                                                                              \
        .name = NAME, .effect = NR_KILL_ANSWERS, .count = 1, .role = NARU_RECEIVER,                \
        .states = NR_KILL_FILLED, .kinds = NR_KILL_CALLING, .prepare = nr_kill_with_hand,          \
        .run = RUN                                                                                 \
    }

const struct nr_kill_operation nr_kill_operations[] = {
    {.name = "send",
     .effect = NR_KILL_SENDS,
     .count = 1,
     .role = NARU_SENDER,
     .states = NR_KILL_USUAL,
     .prepare = nr_kill_with_messages,
     .run = nr_kill_run_send},
    {.name = "send, waiting",
     .effect = NR_KILL_SENDS,
     .count = 1,
     .role = NARU_SENDER,
     .states = NR_KILL_STATE(FULL),
     .kinds = "inline|chunks|at most once|one to one|pair",
     .prepare = nr_kill_with_patience,
     .waits = true,
     .run = nr_kill_run_send_waiting},
    {.name = "send_many",
     .effect = NR_KILL_SENDS,
     .count = NR_KILL_BATCH,
     .role = NARU_SENDER,
     .states = NR_KILL_USUAL,
     .prepare = nr_kill_with_messages,
     .run = nr_kill_run_send_many},
    {.name = "recv",
     .effect = NR_KILL_RECEIVES,
     .count = 1,
     .role = NARU_RECEIVER,
     .states = NR_KILL_USUAL,
     .prepare = nr_kill_with_room,
     .run = nr_kill_run_recv},
    {.name = "recv, waiting",
     .effect = NR_KILL_RECEIVES,
     .count = 1,
     .role = NARU_RECEIVER,
     .states = NR_KILL_STATE(EMPTY),
     .prepare = nr_kill_with_patience,
     .waits = true,
     .run = nr_kill_run_recv_waiting},
    {.name = "recv_many",
     .effect = NR_KILL_RECEIVES,
     .count = NR_KILL_BATCH,
     .role = NARU_RECEIVER,
     .states = NR_KILL_USUAL,
     .prepare = nr_kill_with_room,
     .run = nr_kill_run_recv_many},
    {.name = "loan",
     .role = NARU_SENDER,
     .states = NR_KILL_USUAL,
     .is_for_calls = true,
     .run = nr_kill_run_loan},
    {.name = "commit",
     .effect = NR_KILL_SENDS,
     .count = 1,
     .role = NARU_SENDER,
     .states = NR_KILL_WITH_ROOM,
     .prepare = nr_kill_with_loan,
     .run = nr_kill_run_commit},
    {.name = "cancel",
     .role = NARU_SENDER,
     .states = NR_KILL_WITH_ROOM,
     .prepare = nr_kill_with_loan,
     .is_for_calls = true,
     .run = nr_kill_run_cancel},
    {.name = "take",
     .effect = NR_KILL_TAKES,
     .count = 1,
     .role = NARU_RECEIVER,
     .states = NR_KILL_USUAL,
     .is_for_calls = true,
     .run = nr_kill_run_take},
    {.name = "ack",
     .effect = NR_KILL_ACKS,
     .role = NARU_RECEIVER,
     .states = NR_KILL_FILLED,
     .prepare = nr_kill_with_hand,
     .run = nr_kill_run_ack},
    {.name = "requeue",
     .effect = NR_KILL_GIVES_BACK,
     .role = NARU_RECEIVER,
     .states = NR_KILL_FILLED,
     .prepare = nr_kill_with_hand,
     .is_for_calls = true,
     .run = nr_kill_run_requeue},
    {.name = "attach, sender",
     .role = NARU_SENDER,
     .states = NR_KILL_ALL,
     .is_alone = true,
     .is_for_calls = true,
     .run = nr_kill_run_open},
    {.name = "attach, receiver",
     .role = NARU_RECEIVER,
     .states = NR_KILL_ALL,
     .is_alone = true,
     .is_for_calls = true,
     .run = nr_kill_run_open},
    {.name = "create",
     .role = NARU_SENDER,
     .states = NR_KILL_STATE(EMPTY),
     .is_alone = true,
     .makes = true,
     .is_for_calls = true,
     .run = nr_kill_run_open},
    {.name = "close, with a loan",
     .role = NARU_SENDER,
     .states = NR_KILL_WITH_ROOM,
     .prepare = nr_kill_with_loan,
     .is_for_calls = true,
     .run = nr_kill_run_close},
    {.name = "close, with a message",
     .role = NARU_RECEIVER,
     .states = NR_KILL_FILLED,
     .prepare = nr_kill_with_hand,
     .is_for_calls = true,
     .run = nr_kill_run_close},
    {.name = "unlink",
     .role = NARU_BOTH,
     .states = NR_KILL_STATE(HALF),
     .is_alone = true,
     .removes = true,
     .is_for_calls = true,
     .run = nr_kill_run_unlink},
    {.name = "stat",
     .role = NARU_RECEIVER,
     .states = NR_KILL_ALL,
     .kinds = NR_KILL_MANY,
     .run = nr_kill_run_stat},
    {.name = "stat, one to one",
     .role = NARU_RECEIVER,
     .states = NR_KILL_USUAL,
     .kinds = "one to one|one to one, small|one to one, at most once",
     .run = nr_kill_run_stat},
    {.name = "pair",
     .role = NARU_SENDER,
     .states = NR_KILL_STATE(EMPTY),
     .kinds = "pair",
     .is_alone = true,
     .makes = true,
     .run = nr_kill_run_pair},
    {.name = "assign",
     .role = NARU_SENDER,
     .states = NR_KILL_USUAL,
     .kinds = "pair",
     .is_alone = true,
     .run = nr_kill_run_assign},
    NR_KILL_CALL("call begin", NR_KILL_USUAL, NULL, nr_kill_run_begin),
    NR_KILL_CALL("loan and call begin", NR_KILL_USUAL, NULL, nr_kill_run_begin_in_place),
    NR_KILL_CALL("call end, too early", NR_KILL_WITH_ROOM, nr_kill_with_call, nr_kill_run_end),
    NR_KILL_CALL("call end, answered", NR_KILL_STATE(EMPTY), nr_kill_with_call_answered,
                 nr_kill_run_end),
    NR_KILL_CALL("call end, in place", NR_KILL_STATE(EMPTY), nr_kill_with_call_answered,
                 nr_kill_run_end_in_place),
    NR_KILL_CALL("call cancel", NR_KILL_WITH_ROOM, nr_kill_with_call, nr_kill_run_cancel_call),
    NR_KILL_CALL("call cancel, taken", NR_KILL_STATE(EMPTY), nr_kill_with_call_taken,
                 nr_kill_run_cancel_call),
    NR_KILL_CALL("call cancel, answered", NR_KILL_STATE(EMPTY), nr_kill_with_call_answered,
                 nr_kill_run_cancel_call),
    NR_KILL_CALL("call cancel, read in place", NR_KILL_STATE(EMPTY), nr_kill_with_call_read,
                 nr_kill_run_cancel_call),
    NR_KILL_CALL("close, with a call", NR_KILL_WITH_ROOM, nr_kill_with_call, nr_kill_run_close),
    NR_KILL_CALL("close, with a call taken", NR_KILL_STATE(EMPTY), nr_kill_with_call_taken,
                 nr_kill_run_close),
    NR_KILL_CALL("close, with a call answered", NR_KILL_STATE(EMPTY), nr_kill_with_call_answered,
                 nr_kill_run_close),
    NR_KILL_CALL("close, with a reply in hand", NR_KILL_STATE(EMPTY), nr_kill_with_call_read,
                 nr_kill_run_close),
    NR_KILL_REPLY("reply", nr_kill_run_reply),
    NR_KILL_REPLY("reply with an error", nr_kill_run_reply_error),
    NR_KILL_REPLY("loan and reply", nr_kill_run_reply_in_place),
};
const unsigned nr_kill_operations_count = sizeof nr_kill_operations / sizeof nr_kill_operations[0];
