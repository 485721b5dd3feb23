/* SPDX-License-Identifier: MIT */
/*
 * calls -- each call of a living client ends with its own reply, or the declared error; what a dead client asked for
 *          goes with it; and nothing leaks, whoever dies where
 *
 * Clients and servers do what transport/shm_calls.c does. There is one call in the table, and each scenario has two, so
 * that it is used again, and what comes late meets its successor.
 */
#include "data/calls.h"
#include "model.h"
#include <errno.h>
#include <limits.h>
#include <string.h>

enum {
    CALLS = 2,   /* of each client */
    ENTRIES = 1, /* also for two clients: one waits for the other's call to be over */
    SLOTS = 2,
    VALUE_BYTES = 8,
    OBSERVER = MODEL_PROCESSES, /* who looks afterwards */
    MASK = 0x5500,              /* the reply is the request with these bits changed */
    /* variants */
    AT_MOST_ONCE = 1,
    GIVES_UP = 2, /* the client's first call */
    RETURNS = 4,  /* the first server's first request */
    TWO_CLIENTS = 8,
    SPINS = 16, /* the client looks at `done` first, as it does while it spins */
    ONE_SERVER = 32,
    ONCE = 64,      /* a client calls once */
    IN_PLACE = 128, /* it reads the reply where it stands, without being told of it meanwhile */
};

static struct nr_slot_ring_shared *const shared = (void *)model_shared;

static struct {
    struct nr_calls calls[MODEL_PROCESSES + 1];
    struct ask {
        uint8_t begun, answered, failed, given_up, deliveries, unflagged;
    } asks[2][CALLS];
    uint8_t returned;
} state;

static unsigned clients(void)
{
    return model_variant() & TWO_CLIENTS ? 2 : 1;
}

static unsigned processes(void)
{
    return model_variant() & ONE_SERVER ? 2 : 3;
}

static void init(void)
{
    for (unsigned i = 0; i <= OBSERVER; i++) {
        state.calls[i] = (struct nr_calls){
            .ring = {.slots_count = SLOTS, .slot_bytes = 64},
            .count = ENTRIES,
            .participants_count = OBSERVER + 1,
            .size_max_bytes = VALUE_BYTES,
            .at_most_once = model_variant() & AT_MOST_ONCE,
        };
        nr_calls_attach(&state.calls[i], model_shared);
        nr_calls_join(&state.calls[i], i);
        /* There were no orphans before: without this look the search is half as long. */
        atomic_init(&state.calls[i].ring.seen_epoch, 0);
    }
    const struct nr_calls *calls = &state.calls[0];
    model_name(&shared->tail, 8, "tail");
    model_name(&shared->head, 8, "head");
    model_name(&shared->epoch, 8, "epoch");
    for (unsigned i = 0; i < SLOTS; i++) {
        struct nr_slot *slot = (void *)(calls->ring.slots + i * 64);
        model_name(slot, 64, "slot[%u]", i);
        model_name(&slot->word, 8, "slot[%u].word", i);
        model_name(slot->payload, 12, "slot[%u].item", i);
    }
    for (unsigned i = 0; i < calls->count; i++) {
        struct nr_call_entry *entry = nr_call_at(calls, i);
        struct nr_call_answer *answer = nr_call_answer_at(calls, i);
        model_name(entry, sizeof *entry, "call[%u]", i);
        model_name(&entry->word, 8, "call[%u].word", i);
        model_name(&entry->client, 4, "call[%u].client", i);
        model_name(entry->request, VALUE_BYTES, "call[%u].request", i);
        model_name(answer, sizeof *answer, "answer[%u]", i);
        model_name(&answer->done, 8, "answer[%u].done", i);
        model_name(answer->reply, VALUE_BYTES, "answer[%u].reply", i);
    }
}

static void repair(unsigned me, unsigned dead)
{
    nr_calls_repair(&state.calls[me], dead);
}

static bool all_over(unsigned first, unsigned end)
{
    for (unsigned i = first; i < end; i++)
        if (!model_is_over(i))
            return false;
    return true;
}

static bool any_died(unsigned first, unsigned end)
{
    for (unsigned i = first; i < end; i++)
        if (model_has_died(i))
            return true;
    return false;
}

/* -- clients ---------------------------------------------------------------------------------- */

/* False: there is nobody left to wait for. */
static bool wait_for_servers(unsigned me)
{
    bool is_alone = all_over(clients(), processes());

    if (model_repair_dead(me, repair))
        return true;
    if (!is_alone)
        model_pause();
    return !is_alone;
}

static bool ask(unsigned me, uint64_t value, struct nr_call_ticket *ret)
{
    struct nr_calls *calls = &state.calls[me];
    uint32_t blocker;

    while (nr_calls_claim(calls, ret) < 0)
        if (!wait_for_servers(me))
            return false;
    struct nr_call_entry *entry = nr_call_at(calls, ret->index);
    entry->size_bytes = sizeof value;
    memcpy(entry->request, &value, sizeof value);
    while (nr_calls_post(calls, ret, &blocker) < 0) {
        if (wait_for_servers(me))
            continue;
        nr_calls_finish(calls, ret);
        return false;
    }
    model_note("asked", value);
    return true;
}

/* The outcome of nr_calls_look(), or -ETIMEDOUT: given up. */
static int await(unsigned me, const struct nr_call_ticket *ticket, bool gives_up)
{
    struct nr_calls *calls = &state.calls[me];

    for (;;) {
        if ((model_variant() & SPINS) && nr_calls_look(calls, ticket, false) == 0)
            return 0;
        int result = nr_calls_look(calls, ticket, true);
        if (result != -EAGAIN)
            return result;
        if ((gives_up || !wait_for_servers(me)) && nr_calls_withdraw(calls, ticket))
            return -ETIMEDOUT;
    }
}

static void call_all(unsigned me)
{
    struct nr_calls *calls = &state.calls[me];

    for (unsigned i = 0; i < (model_variant() & ONCE ? 1 : CALLS); i++) {
        uint64_t value = 0x100000 * (me + 1) + i + 1, reply;
        struct ask *mine = &state.asks[me][i];
        struct nr_call_ticket ticket;
        mine->begun = true;
        if (!ask(me, value, &ticket)) {
            mine->given_up = true;
            return;
        }
        int result = await(me, &ticket, (model_variant() & GIVES_UP) && i == 0);
        if (result == -ETIMEDOUT) {
            mine->given_up = true;
            continue;
        }
        model_assert(result == 0 || result == -EOWNERDEAD);
        mine->failed = result < 0;
        if (result == 0) {
            const struct nr_call_answer *answer = nr_call_answer_at(calls, ticket.index);
            if (model_variant() & IN_PLACE) {
                nr_calls_keep(calls, &ticket);
                model_assert(!nr_calls_may_end(calls));
                model_assert(nr_calls_look(calls, &ticket, true) == 0);
                model_assert(!nr_calls_withdraw(calls, &ticket));
            }
            memcpy(&reply, answer->reply, sizeof reply);
            model_note("was answered", reply);
            model_assert(answer->size_bytes == sizeof reply && reply == (value ^ MASK));
            model_assert(answer->deliveries == mine->deliveries);
        }
        nr_calls_finish(calls, &ticket);
        mine->answered = result == 0;
    }
}

/* -- servers ---------------------------------------------------------------------------------- */

static struct ask *taken(const struct nr_calls *calls, const struct nr_call_ticket *ticket,
                         uint64_t *ret_value)
{
    const struct nr_call_entry *entry = nr_call_at(calls, ticket->index);

    memcpy(ret_value, entry->request, sizeof *ret_value);
    model_note(entry->deliveries > 1 ? "got again" : "got", *ret_value);
    unsigned client = (unsigned)(*ret_value / 0x100000) - 1, number = *ret_value % 0x100000 - 1;
    model_assert(client < clients() && number < CALLS && entry->size_bytes == sizeof *ret_value);
    struct ask *asked = &state.asks[client][number];
    model_assert(asked->begun && !asked->answered && !asked->failed);
    asked->deliveries = (uint8_t)entry->deliveries;
    if (entry->deliveries > 1)
        model_assert(any_died(clients(), processes()) || state.returned);
    else
        model_assert(asked->unflagged++ == 0);
    return asked;
}

static int serve_one(unsigned me, bool returns)
{
    struct nr_calls *calls = &state.calls[me];
    struct nr_call_ticket ticket;
    uint32_t blocker, client;
    uint64_t value;
    int result = nr_calls_take(calls, &ticket, &blocker);

    if (result < 0) {
        model_assert(result == -EAGAIN || result == -EBUSY || result == -ENOMSG);
        return result;
    }
    struct ask *asked = taken(calls, &ticket, &value);
    model_assert(nr_calls_holds(calls, &ticket));
    if (returns) {
        state.returned = true;
        nr_calls_return(calls, &ticket);
        return 0;
    }
    struct nr_call_answer *answer = nr_call_answer_at(calls, ticket.index);
    value ^= MASK;
    answer->size_bytes = sizeof value;
    memcpy(answer->reply, &value, sizeof value);
    bool is_too_late = asked->given_up;
    if (!nr_calls_answer(calls, &ticket, &client))
        model_assert(asked->given_up || any_died(0, clients()) || (model_variant() & GIVES_UP));
    else
        model_assert(client < clients() && !is_too_late);
    return 0;
}

/* `most` requests, or until the clients are over. The first `returns` are given back. */
static void serve_some(unsigned me, unsigned most, unsigned returns)
{
    while (most) {
        bool is_last = all_over(0, clients());
        if (serve_one(me, returns > 0) == 0) {
            returns -= returns > 0;
            most--;
            continue;
        }
        if (model_repair_dead(me, repair))
            continue;
        if (is_last)
            return;
        model_pause();
    }
}

static void serve(unsigned me)
{
    serve_some(me, UINT_MAX, 0);
}
/* The other one serves the rest. */
static void serve_once(unsigned me)
{
    serve_some(me, 1, 0);
}
static void serve_and_return(unsigned me)
{
    serve_some(me, UINT_MAX, 1);
}
/* Then takes nothing any more: only the epoch tells the other one. Twice, so that what looks the same may be newer. */
static void return_twice(unsigned me)
{
    serve_some(me, 2, 2);
}

/* Looks after the dead, and does nothing else: it may come late with a repair that others have long done. */
static void watch(unsigned me)
{
    for (;;) {
        bool is_last = all_over(0, clients());
        if (model_repair_dead(me, repair))
            continue;
        if (is_last)
            return;
        model_pause();
    }
}

/* Serves the other client, then itself. */
static void serve_then_call(unsigned me)
{
    struct nr_calls *calls = &state.calls[me];
    uint64_t value = 0x100000 * (me + 1) + 1;
    struct nr_call_ticket ticket;

    while (!model_is_over(1)) {
        if (serve_one(me, false) == 0 || model_repair_dead(me, repair))
            continue;
        model_pause();
    }
    state.asks[me][0].begun = true;
    model_assert(ask(me, value, &ticket));
    while (nr_calls_look(calls, &ticket, true) == -EAGAIN)
        if (serve_one(me, false) < 0 && !model_repair_dead(me, repair))
            model_pause();
    model_assert(nr_calls_look(calls, &ticket, false) == 0);
    nr_calls_finish(calls, &ticket);
    state.asks[me][0].answered = true;
}

/* -- afterwards ------------------------------------------------------------------------------- */

static void check_free_and_whole(void)
{
    struct nr_calls *calls = &state.calls[OBSERVER];
    struct nr_call_ticket tickets[ENTRIES], one;
    uint32_t blocker, client;

    model_assert(nr_calls_queued(calls) == 0 && !nr_calls_may_end(calls));
    int result = nr_calls_take(calls, &one, &blocker); /* those of the past are dropped */
    model_assert(result == -ENOMSG || result == -EAGAIN);
    model_assert(nr_calls_take(calls, &one, &blocker) == -EAGAIN);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < calls->count; i++) {
            model_assert(nr_calls_may_claim(calls) && nr_calls_claim(calls, &tickets[i]) == 0);
            model_assert(nr_calls_post(calls, &tickets[i], &blocker) == 0);
        }
        model_assert(!nr_calls_may_claim(calls) && nr_calls_claim(calls, &one) == -EAGAIN);
        model_assert(nr_calls_queued(calls) == calls->count);
        for (unsigned i = 0; i < calls->count; i++) {
            model_assert(nr_calls_may_take(calls) && nr_calls_take(calls, &one, &blocker) == 0);
            model_assert(one.index == tickets[i].index && one.number == tickets[i].number);
            model_assert(!nr_calls_may_end(calls));
            model_assert(nr_calls_answer(calls, &one, &client) && client == OBSERVER);
            model_assert(nr_calls_may_end(calls) && !nr_calls_may_end(&state.calls[0]));
            model_assert(nr_calls_look(calls, &one, false) == 0);
            struct nr_call_ticket before = {.index = one.index, .number = one.number - 1};
            model_assert(nr_calls_look(calls, &before, true) == -EINVAL);
            nr_calls_finish(calls, &one);
        }
        model_assert(!nr_calls_may_take(calls));
        model_assert(nr_calls_take(calls, &one, &blocker) == -EAGAIN);
    }
}

static void check(void)
{
    model_repair_dead(OBSERVER, repair);
    for (unsigned i = 0; i < clients(); i++)
        for (unsigned j = 0; j < CALLS && !model_has_died(i); j++) {
            const struct ask *one = &state.asks[i][j];
            bool may_give_up =
                any_died(clients(), processes()) || ((model_variant() & GIVES_UP) && j == 0);
            model_assert(one->answered + one->failed + one->given_up == one->begun);
            model_assert(!one->failed ||
                         ((model_variant() & AT_MOST_ONCE) && any_died(clients(), processes())));
            model_assert(!one->given_up || may_give_up);
            model_assert(!one->answered || one->deliveries);
            if (model_variant() & AT_MOST_ONCE)
                model_assert(one->deliveries <= 1 + state.returned);
        }
    check_free_and_whole();
}

#define SCENARIO_OF(title, count, dying, ...)                                                      \
    {                                                                                              \
        .name = title, .processes = (count), .init = init, .check = check, .state = &state,        \
        .state_bytes = sizeof state,                                                               \
        .shared_bytes = sizeof *shared + 64 + SLOTS * 64 + ENTRIES * 128, .preemptions = 2,        \
        .stale_reads = 2, .crashes = 1, .may_crash = (dying), __VA_ARGS__                          \
    }

#define SCENARIO(title, count, ...) SCENARIO_OF(title, count, (1 << (count)) - 1, __VA_ARGS__)

#define ONE_TO_ONE              .run = {call_all, serve}
#define TWO_SERVERS             .run = {call_all, serve, serve}, .symmetric = 6
#define TWO_SERVERS_ONE_BRIEFLY .run = {call_all, serve, serve_once}

static const struct model_scenario scenarios[] = {
    SCENARIO("a client, two servers", 3, TWO_SERVERS_ONE_BRIEFLY),
};

static const struct model_scenario scenarios_contracts[] = {
    SCENARIO("a client, two servers, at most once", 3, TWO_SERVERS, .variant = AT_MOST_ONCE | ONCE),
    SCENARIO("a server gives back", 3, .run = {call_all, return_twice, serve},
             .variant = RETURNS | ONCE),
    SCENARIO("a server gives back, at most once", 3, .run = {call_all, serve_and_return, serve},
             .variant = RETURNS | ONCE | AT_MOST_ONCE),
    SCENARIO("two clients, a server, one call at a time", 3, .run = {call_all, call_all, serve},
             .symmetric = 3, .variant = TWO_CLIENTS | ONCE),
};

static const struct model_scenario scenarios_late[] = {
    SCENARIO("a client that spins, a server", 2, ONE_TO_ONE, .variant = ONE_SERVER | SPINS),
    SCENARIO("a client that reads in place, a server", 2, ONE_TO_ONE,
             .variant = ONE_SERVER | IN_PLACE),
    SCENARIO("a client that spins and gives up", 2, ONE_TO_ONE,
             .variant = ONE_SERVER | SPINS | GIVES_UP),
    SCENARIO("a client gives up, two servers", 3, TWO_SERVERS, .variant = GIVES_UP),
    SCENARIO_OF("a client dies, and its repairer meets the next call", 3, 1 << 1,
                .run = {serve_then_call, call_all, watch}, .variant = TWO_CLIENTS | ONCE),
};

#define PROTOCOL(title, list)                                                                      \
    {                                                                                              \
        .name = title, .scenarios = list, .scenarios_count = sizeof list / sizeof *list            \
    }
const struct model_protocol model_calls = PROTOCOL("calls", scenarios);
const struct model_protocol model_calls_contracts =
    PROTOCOL("calls_contracts", scenarios_contracts);
const struct model_protocol model_calls_late = PROTOCOL("calls_late", scenarios_late);
