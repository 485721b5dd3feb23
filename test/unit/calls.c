/* SPDX-License-Identifier: MIT */
/* calls -- request and reply: each state with each death, late replies, and a long random walk */
#include "data/calls.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 3, PEOPLE = 4, CLIENT = 0, OTHER_CLIENT = 1, SERVER = 2, OTHER_SERVER = 3 };

static struct nr_calls people[PEOPLE];
static void *memory;

static void begin_with(bool at_most_once, uint32_t slots_count)
{
    struct nr_calls sizes = {
        .ring = {.slots_count = slots_count, .slot_bytes = 64},
        .count = COUNT,
        .participants_count = PEOPLE,
        .size_max_bytes = 100,
        .at_most_once = at_most_once,
    };
    size_t bytes = (nr_calls_bytes(&sizes) + 63) / 64 * 64;

    free(memory);
    memory = aligned_alloc(64, bytes);
    assert_non_null(memory);
    memset(memory, 0, bytes);
    for (uint32_t i = 0; i < PEOPLE; i++) {
        people[i] = sizes;
        nr_calls_attach(&people[i], memory);
        nr_calls_join(&people[i], i);
    }
}

static void begin(bool at_most_once)
{
    begin_with(at_most_once, 8);
}

static struct nr_call_ticket ask(unsigned who, unsigned char question)
{
    struct nr_call_ticket ticket;
    uint32_t blocker;

    assert_int_equal(nr_calls_claim(&people[who], &ticket), 0);
    struct nr_call_entry *entry = nr_call_at(&people[who], ticket.index);
    entry->size_bytes = 100;
    memset(entry->request, question, 100);
    assert_int_equal(nr_calls_post(&people[who], &ticket, &blocker), 0);
    return ticket;
}

static int take(unsigned who, struct nr_call_ticket *ret)
{
    uint32_t blocker;
    int result = nr_calls_take(&people[who], ret, &blocker);

    return result == -ENOMSG ? nr_calls_take(&people[who], ret, &blocker) : result;
}

static struct nr_call_ticket take_one(unsigned who, unsigned char question, unsigned deliveries)
{
    struct nr_call_ticket ticket;

    assert_true(nr_calls_may_take(&people[who]));
    assert_int_equal(take(who, &ticket), 0);
    const struct nr_call_entry *entry = nr_call_at(&people[who], ticket.index);
    for (int i = 0; i < 100; i++)
        assert_int_equal((unsigned char)entry->request[i], question);
    assert_int_equal(entry->deliveries, deliveries);
    assert_true(nr_calls_holds(&people[who], &ticket));
    return ticket;
}

/* True if someone waited for it. */
static bool answer(unsigned who, const struct nr_call_ticket *ticket)
{
    struct nr_call_answer *reply = nr_call_answer_at(&people[who], ticket->index);
    const char *request = nr_call_at(&people[who], ticket->index)->request;
    uint32_t client = 99;

    for (int i = 0; i < 100; i++)
        reply->reply[i] = (char)~request[i];
    bool is_awaited = nr_calls_answer(&people[who], ticket, &client);
    assert_false(nr_calls_holds(&people[who], ticket));
    if (is_awaited)
        assert_in_range(client, CLIENT, OTHER_CLIENT);
    return is_awaited;
}

static void expect_answer(unsigned who, const struct nr_call_ticket *ticket, unsigned char question)
{
    const struct nr_call_answer *reply = nr_call_answer_at(&people[who], ticket->index);

    assert_true(nr_calls_may_end(&people[who]));
    assert_int_equal(nr_calls_look(&people[who], ticket, true), 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal((unsigned char)reply->reply[i], (unsigned char)~question);
    nr_calls_finish(&people[who], ticket);
    assert_false(nr_calls_may_end(&people[who]));
}

static void die(unsigned who)
{
    nr_calls_repair(&people[OTHER_CLIENT == who ? CLIENT : OTHER_CLIENT], who);
}

/* Nothing is in anyone's hand: all calls are free, and go around. */
static void expect_all_free(void)
{
    struct nr_call_ticket tickets[COUNT + 1], ticket;

    assert_int_equal(nr_calls_queued(&people[OTHER_CLIENT]), 0);
    assert_int_equal(take(OTHER_SERVER, &ticket), -EAGAIN);
    for (unsigned i = 0; i < COUNT; i++)
        tickets[i] = ask(OTHER_CLIENT, (unsigned char)(200 + i));
    assert_int_equal(nr_calls_claim(&people[OTHER_CLIENT], &tickets[COUNT]), -EAGAIN);
    for (unsigned i = 0; i < COUNT; i++) {
        ticket = take_one(OTHER_SERVER, (unsigned char)(200 + i), 1);
        assert_true(answer(OTHER_SERVER, &ticket));
    }
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(nr_calls_look(&people[OTHER_CLIENT], &tickets[i], false), 0);
        nr_calls_finish(&people[OTHER_CLIENT], &tickets[i]);
    }
}

/* -- who does what ------------------------------------------------------------------------------ */

static void test_round_trips(void **state)
{
    (void)state;
    begin(false);
    assert_false(nr_calls_may_take(&people[SERVER]) && nr_calls_queued(&people[SERVER]));
    for (unsigned i = 0; i < 50; i++) {
        struct nr_call_ticket first = ask(CLIENT, 1), second = ask(OTHER_CLIENT, 2);
        assert_int_equal(nr_calls_queued(&people[SERVER]), 2);
        struct nr_call_ticket a = take_one(SERVER, 1, 1), b = take_one(OTHER_SERVER, 2, 1);
        assert_int_equal(nr_calls_look(&people[CLIENT], &first, true), -EAGAIN);
        assert_true(answer(OTHER_SERVER, &b)); /* in another order */
        assert_true(answer(SERVER, &a));
        expect_answer(CLIENT, &first, 1);
        expect_answer(OTHER_CLIENT, &second, 2);
    }
    expect_all_free();
}

static void test_given_back(void **state)
{
    (void)state;
    begin(true); /* a request that is given back goes to another server under either contract */
    struct nr_call_ticket call = ask(CLIENT, 7);
    struct nr_call_ticket taken = take_one(SERVER, 7, 1);
    nr_calls_return(&people[SERVER], &taken);
    assert_false(nr_calls_holds(&people[SERVER], &taken));
    taken = take_one(OTHER_SERVER, 7, 2);
    assert_true(answer(OTHER_SERVER, &taken));
    expect_answer(CLIENT, &call, 7);
    expect_all_free();
}

static void test_given_up(void **state)
{
    struct nr_call_ticket call, taken, next;

    (void)state;
    begin(false);
    call = ask(CLIENT, 1); /* while it waits */
    assert_true(nr_calls_withdraw(&people[CLIENT], &call));
    assert_false(nr_calls_withdraw(&people[CLIENT], &call));
    assert_int_equal(nr_calls_look(&people[CLIENT], &call, true), -EINVAL);
    assert_int_equal(take(SERVER, &taken), -EAGAIN);

    call = ask(CLIENT, 2); /* in a server's hand */
    taken = take_one(SERVER, 2, 1);
    assert_true(nr_calls_withdraw(&people[CLIENT], &call));
    next = ask(CLIENT, 3);
    assert_true(nr_calls_holds(&people[SERVER], &taken));
    assert_false(answer(SERVER, &taken)); /* late: and not the answer of the next call */
    assert_int_equal(nr_calls_look(&people[CLIENT], &next, true), -EAGAIN);
    taken = take_one(SERVER, 3, 1);
    assert_true(answer(SERVER, &taken));
    assert_false(nr_calls_withdraw(&people[CLIENT], &next)); /* there is an outcome */
    expect_answer(CLIENT, &next, 3);

    call = ask(CLIENT, 4); /* given up, and then back */
    taken = take_one(SERVER, 4, 1);
    assert_true(nr_calls_withdraw(&people[CLIENT], &call));
    nr_calls_return(&people[SERVER], &taken);
    expect_all_free();
}

/* Who has to be woken when somebody dies: each client whose call is not over. */
static void test_open_until_finished(void **state)
{
    uint32_t client;

    (void)state;
    begin(false);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_false(nr_calls_is_open(&people[SERVER], i, &client));
    ask(CLIENT, 1);
    struct nr_call_ticket call = ask(OTHER_CLIENT, 2);
    take_one(SERVER, 1, 1);
    struct nr_call_ticket taken = take_one(SERVER, 2, 1);
    assert_true(nr_calls_is_open(&people[SERVER], call.index, &client));
    assert_int_equal(client, OTHER_CLIENT);
    assert_true(answer(SERVER, &taken));
    assert_true(nr_calls_is_open(&people[SERVER], call.index, &client));
    assert_int_equal(client, OTHER_CLIENT);
    expect_answer(OTHER_CLIENT, &call, 2);
    assert_false(nr_calls_is_open(&people[SERVER], call.index, &client));
    nr_call_at(&people[CLIENT], call.index)->client = UINT32_MAX;
    nr_calls_is_open(&people[SERVER], call.index, &client);
    assert_int_equal(client, 4095);
    die(CLIENT);
    die(SERVER);
    expect_all_free();
}

/* Calls that are over leave their numbers in the ring, until it is full: there is room as soon as a server comes. */
static void test_ring_full_of_the_past(void **state)
{
    struct nr_call_ticket call, taken;
    uint32_t blocker = 0;

    (void)state;
    begin(false);
    for (unsigned i = 0; i < 8; i++) {
        call = ask(CLIENT, 1);
        assert_true(nr_calls_withdraw(&people[CLIENT], &call));
    }
    assert_int_equal(nr_calls_claim(&people[CLIENT], &call), 0);
    nr_call_at(&people[CLIENT], call.index)->size_bytes = 100;
    memset(nr_call_at(&people[CLIENT], call.index)->request, 9, 100);
    assert_int_equal(nr_calls_post(&people[CLIENT], &call, &blocker), -EAGAIN);
    assert_int_equal(nr_calls_take(&people[SERVER], &taken, &blocker), -ENOMSG);
    assert_int_equal(nr_calls_take(&people[SERVER], &taken, &blocker), -EAGAIN);
    assert_int_equal(nr_calls_post(&people[CLIENT], &call, &blocker), 0);
    taken = take_one(SERVER, 9, 1);
    assert_true(answer(SERVER, &taken));
    expect_answer(CLIENT, &call, 9);
    expect_all_free();
}

static void write_into_slots(size_t offset_bytes, uint32_t value)
{
    for (unsigned i = 0; i < 8; i++)
        memcpy(people[SERVER].ring.slots + i * 64 + offset_bytes, &value, sizeof value);
}

/* What somebody has written into is dropped, and whole again when it is used next. */
static void test_damaged(void **state)
{
    const size_t offsets[] = {offsetof(struct nr_slot, size_bytes),
                              NR_SLOT_HEADER_BYTES + 8 /* the index of the call */};
    struct nr_call_ticket call, taken = {.index = COUNT, .number = 1};

    (void)state;
    begin(false);
    assert_false(nr_calls_holds(&people[SERVER], &taken)); /* no such call */
    for (unsigned i = 0; i < 16; i++) {
        call = ask(CLIENT, 1);
        write_into_slots(offsets[i % 2], i % 2 ? COUNT : UINT32_MAX);
        assert_int_equal(take(SERVER, &taken), -EAGAIN);
        assert_true(nr_calls_withdraw(&people[CLIENT], &call));
        expect_all_free();
    }
}

/* -- deaths ------------------------------------------------------------------------------------- */

static void test_server_dies(void **state)
{
    struct nr_call_ticket call, taken;

    (void)state;
    begin(false);
    call = ask(CLIENT, 1);
    take_one(SERVER, 1, 1);
    die(SERVER);
    die(SERVER); /* once more changes nothing */
    assert_int_equal(nr_calls_look(&people[CLIENT], &call, true), -EAGAIN);
    assert_int_equal(nr_calls_queued(&people[CLIENT]), 1);
    taken = take_one(OTHER_SERVER, 1, 2);
    die(SERVER); /* a late repairer as well */
    assert_true(answer(OTHER_SERVER, &taken));
    die(OTHER_SERVER); /* after its answer */
    expect_answer(CLIENT, &call, 1);
    expect_all_free();

    begin(true);
    call = ask(CLIENT, 2);
    take_one(SERVER, 2, 1);
    die(SERVER);
    assert_true(nr_calls_may_end(&people[CLIENT]));
    assert_int_equal(nr_calls_look(&people[CLIENT], &call, true), -EOWNERDEAD);
    assert_false(nr_calls_withdraw(&people[CLIENT], &call));
    assert_int_equal(take(OTHER_SERVER, &taken), -EAGAIN);
    nr_calls_finish(&people[CLIENT], &call);
    expect_all_free();
}

static void test_server_dies_with_a_call_given_up(void **state)
{
    (void)state;
    begin(false);
    struct nr_call_ticket call = ask(CLIENT, 1);
    take_one(SERVER, 1, 1);
    assert_true(nr_calls_withdraw(&people[CLIENT], &call));
    die(SERVER);
    expect_all_free();
}

static void test_client_dies(void **state)
{
    struct nr_call_ticket taken, claimed;

    (void)state;
    for (int at_most_once = 0; at_most_once < 2; at_most_once++) {
        begin(at_most_once);
        assert_int_equal(nr_calls_claim(&people[CLIENT], &claimed), 0); /* before it has asked */
        die(CLIENT);
        expect_all_free();
        ask(CLIENT, 1); /* while it waits */
        die(CLIENT);
        expect_all_free();
        ask(CLIENT, 2); /* in a server's hand */
        taken = take_one(SERVER, 2, 1);
        die(CLIENT);
        assert_true(nr_calls_holds(&people[SERVER], &taken));
        assert_false(answer(SERVER, &taken));
        expect_all_free();
        ask(CLIENT, 3); /* with a reply that it has not fetched */
        taken = take_one(SERVER, 3, 1);
        assert_true(answer(SERVER, &taken));
        die(CLIENT);
        expect_all_free();
        ask(CLIENT, 4); /* both */
        take_one(SERVER, 4, 1);
        die(SERVER);
        die(CLIENT);
        expect_all_free();
        ask(CLIENT, 5); /* in the other order */
        take_one(SERVER, 5, 1);
        die(CLIENT);
        die(SERVER);
        expect_all_free();
        ask(CLIENT, 6); /* with its own request in its own hand */
        take_one(CLIENT, 6, 1);
        die(CLIENT);
        expect_all_free();
    }
}

/* As many requests of the past as one may leave that died when it had taken them: each costs a look through all slots, and
   what one call does is bounded all the same. */
static void test_slots_full_of_the_past_of_one_who_died(void **state)
{
    enum { SLOTS = 16, STEPS = 8 * SLOTS + 64, TAKEN_ONCE = STEPS / (SLOTS + 1) + 1 };
    struct nr_call_ticket ticket;
    uint32_t blocker;

    (void)state;
    begin_with(false, SLOTS);
    for (int i = 0; i < SLOTS; i++) {
        struct nr_slot_claim claim;
        assert_int_equal(nr_slot_claim(&people[CLIENT].ring, &claim, &blocker), 0);
        claim.slot->size_bytes = 16;
        memset(claim.slot->payload, 0xff, 16);
        nr_slot_publish(&people[CLIENT].ring, &claim, NR_SLOT_NO_CHUNK);
    }
    for (int i = 0; i < SLOTS; i++) {
        struct nr_slot_taken taken;
        assert_int_equal(nr_slot_take(&people[SERVER].ring, &taken, &blocker), 0);
    }
    die(SERVER);
    assert_int_equal(nr_calls_take(&people[OTHER_SERVER], &ticket, &blocker), -ENOMSG);
    assert_int_equal(nr_slot_queued(&people[CLIENT].ring), SLOTS - TAKEN_ONCE);
    assert_int_equal(nr_calls_take(&people[OTHER_SERVER], &ticket, &blocker), -ENOMSG);
    assert_int_equal(nr_calls_take(&people[OTHER_SERVER], &ticket, &blocker), -EAGAIN);
    ask(CLIENT, 5);
    ticket = take_one(OTHER_SERVER, 5, 1);
    assert_true(answer(OTHER_SERVER, &ticket));
}

/* -- a long walk -------------------------------------------------------------------------------- */

struct walk {
    bool is_open[PEOPLE], has_taken[PEOPLE];
    struct nr_call_ticket call[PEOPLE], taken[PEOPLE];
    unsigned char question[PEOPLE];
    unsigned answers, failures;
};

static void walk_as_client(struct walk *walk, unsigned who, unsigned choice)
{
    if (!walk->is_open[who]) {
        struct nr_call_ticket call;
        uint32_t blocker;
        if (nr_calls_claim(&people[who], &call) < 0)
            return;
        struct nr_call_entry *entry = nr_call_at(&people[who], call.index);
        entry->size_bytes = 100;
        memset(entry->request, ++walk->question[who] * 2 + (int)who, 100);
        if (nr_calls_post(&people[who], &call, &blocker) < 0) {
            nr_calls_finish(&people[who], &call);
            return;
        }
        walk->call[who] = call;
        walk->is_open[who] = true;
        return;
    }
    if (choice % 8 == 0 && nr_calls_withdraw(&people[who], &walk->call[who])) {
        walk->is_open[who] = false;
        return;
    }
    int result = nr_calls_look(&people[who], &walk->call[who], choice % 2);
    if (result == -EAGAIN)
        return;
    walk->is_open[who] = false;
    if (result == -EOWNERDEAD) {
        assert_true(people[who].at_most_once);
        nr_calls_finish(&people[who], &walk->call[who]);
        walk->failures++;
        return;
    }
    assert_int_equal(result, 0);
    expect_answer(who, &walk->call[who], (unsigned char)(walk->question[who] * 2 + (int)who));
    walk->answers++;
}

static void walk_as_server(struct walk *walk, unsigned who, unsigned choice)
{
    if (!walk->has_taken[who]) {
        walk->has_taken[who] = take(who, &walk->taken[who]) == 0;
        return;
    }
    walk->has_taken[who] = false;
    if (choice % 8 == 0)
        nr_calls_return(&people[who], &walk->taken[who]);
    else
        answer(who, &walk->taken[who]);
}

static void test_long_walk(void **state)
{
    (void)state;
    for (int at_most_once = 0; at_most_once < 2; at_most_once++) {
        struct walk walk = {0};
        uint64_t random = 88172645463325252ull;
        begin(at_most_once);
        for (int step = 0; step < 200000; step++) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            unsigned who = random % PEOPLE, choice = (unsigned)(random >> 20);
            if (choice % 32 == 1) {
                nr_calls_repair(&people[(who + 1) % PEOPLE], who);
                walk.is_open[who] = walk.has_taken[who] = false;
            } else if (who <= OTHER_CLIENT) {
                walk_as_client(&walk, who, choice / 32);
            } else {
                walk_as_server(&walk, who, choice / 32);
            }
        }
        assert_true(walk.answers > 1000);
        assert_true(!!walk.failures == at_most_once);
        for (unsigned who = 0; who < PEOPLE; who++)
            die(who);
        expect_all_free();
    }
}

static int group_teardown(void **state)
{
    (void)state;
    free(memory);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_given_back),
        cmocka_unit_test(test_given_up),
        cmocka_unit_test(test_open_until_finished),
        cmocka_unit_test(test_ring_full_of_the_past),
        cmocka_unit_test(test_server_dies),
        cmocka_unit_test(test_server_dies_with_a_call_given_up),
        cmocka_unit_test(test_client_dies),
        cmocka_unit_test(test_slots_full_of_the_past_of_one_who_died),
        cmocka_unit_test(test_long_walk),
        cmocka_unit_test(test_damaged),
    };

    return cmocka_run_group_tests_name("calls", tests, NULL, group_teardown);
}
