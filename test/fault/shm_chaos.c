/* SPDX-License-Identifier: MIT */
/*
 * shm_chaos -- senders and receivers are killed, stopped and replaced at random under load; every message is accounted
 *
 * Contents   messages - senders - receivers - what must hold - pairs
 * What       Each sender writes down what it is about to send and what was committed, in memory that survives it; each
 *            receiver what came. Sizes go from none to the largest, by copy and by loan; messages are taken, held,
 *            acknowledged and given back.
 * Holds      At least once: what was committed came; what came twice was flagged. At most once: nothing came twice, and
 *            no more is missing than was in dead hands. Nobody waits longer than a bound while nobody is stopped. At
 *            the end there is as much room, and there are as many places, as in a new channel, and nothing else is left.
 * Bounds     NARU_BUDGET_S seconds in all, without it 6 s; NARU_SEED for what is done to whom.
 */
#include "chaos.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    SENDERS = 3,
    RECEIVERS = 2,
    MESSAGES = 1 << 20, /* a sender's most */
    LARGEST = 1500,
    HELD = 2,
    BUDGET_S = 6,
};

static const struct contract {
    const char *name;
    int senders, receivers;
    struct naru_options options;
} contracts[] = {
    {"many to many, at least once", SENDERS, RECEIVERS, {.delivery = NARU_AT_LEAST_ONCE}},
    {"many to many, at most once", SENDERS, RECEIVERS, {.delivery = NARU_AT_MOST_ONCE}},
    {"one to one, at least once", 1, 1, {.delivery = NARU_AT_LEAST_ONCE, .one_to_one = 1}},
    {"one to one, at most once", 1, 1, {.delivery = NARU_AT_MOST_ONCE, .one_to_one = 1}},
};
enum { CONTRACTS = sizeof contracts / sizeof contracts[0] };

/* Survives all of them. */
static struct ledger {
    uint32_t next[SENDERS]; /* the number that the sender takes next */
    unsigned char committed[SENDERS][MESSAGES];
    unsigned char plain[SENDERS][MESSAGES], flagged[SENDERS][MESSAGES]; /* came so often */
    unsigned long sent, received, told_lost;
    int torn;
} * ledger;

static const struct contract *contract;
static char uri[64];
static uint64_t seed;
static int me;

static struct naru_endpoint *open_as(enum naru_role role)
{
    struct naru_options options = contract->options;
    struct naru_endpoint *endpoint = NULL;

    options.size_bytes = sizeof options;
    options.message_size_max_bytes = LARGEST;
    options.capacity_messages = 16;
    options.participants_max = 12;
    options.payload_bytes = options.one_to_one ? 0 : 12 * 1536;
    nr_check_ok(naru_open(&endpoint, uri, role, &options));
    return endpoint;
}

/* -- messages -------------------------------------------------------------------------------- */

/* Mostly small; now and then nothing, or the largest. */
static size_t size_of(unsigned sender, uint32_t number)
{
    uint64_t state = (uint64_t)sender << 32 | number, by = nr_chaos_any(&state);

    switch (by & 7) {
    case 0:
        return 0;
    case 1:
        return LARGEST;
    case 2:
    case 3:
        return (by >> 8) % LARGEST;
    default:
        return (by >> 8) % 64;
    }
}

/* type says who sent it and which one it is, also where there is no content. */
static int64_t type_of(unsigned sender, uint32_t number)
{
    return (int64_t)((uint64_t)(sender + 1) << 32 | number);
}

static void account(const struct naru_message *message)
{
    uint64_t sender = ((uint64_t)message->type >> 32) - 1;
    uint32_t number = (uint32_t)message->type;

    if (sender >= SENDERS || number >= MESSAGES ||
        message->size_bytes != size_of((unsigned)sender, number) ||
        !nr_payload_is_whole(message->data, message->size_bytes, (unsigned)sender, number)) {
        nr_kit_add(&ledger->torn, 1);
        return;
    }
    unsigned char *count = message->flags & NARU_REDELIVERED ? &ledger->flagged[sender][number]
                                                             : &ledger->plain[sender][number];
    nr_kit_add(count, 1);
    nr_kit_add(&ledger->received, 1);
    nr_chaos_progress();
    nr_kit_add(&ledger->told_lost, message->lost);
}

/* -- senders --------------------------------------------------------------------------------- */

static int send_by_loan(struct naru_endpoint *endpoint, uint32_t number, size_t size_bytes)
{
    struct naru_message loan;
    int result = nr_chaos_inside(naru_loan(endpoint, LARGEST, &loan, NARU_FOREVER));

    if (result < 0)
        return result;
    nr_payload_fill(loan.data, size_bytes, (unsigned)me, number);
    if (number % 7 == 0) { /* on second thoughts */
        nr_chaos_inside(naru_cancel(endpoint, &loan));
        return -ECANCELED;
    }
    loan.size_bytes = size_bytes;
    loan.type = type_of((unsigned)me, number);
    return nr_chaos_inside(naru_commit(endpoint, &loan));
}

static void run_sender(void)
{
    struct naru_endpoint *endpoint = open_as(NARU_SENDER);
    static char data[LARGEST];

    for (;;) {
        uint32_t number = nr_kit_add(&ledger->next[me], 1) - 1;
        if (number >= MESSAGES)
            pause();
        size_t size_bytes = size_of((unsigned)me, number);
        int result = -ECANCELED;
        if (number % 3 == 0)
            result = send_by_loan(endpoint, number, size_bytes);
        if (result == -ECANCELED) {
            struct naru_message message = {.type = type_of((unsigned)me, number)};
            struct iovec part = {data, size_bytes};
            nr_payload_fill(data, size_bytes, (unsigned)me, number);
            result = nr_chaos_inside(naru_sendv(endpoint, &part, 1, &message, NARU_FOREVER));
        }
        nr_check(result == 0 || result == -EBUSY, "send: %s", naru_error_text());
        if (result < 0)
            continue;
        nr_kit_set(&ledger->committed[me][number], 1);
        nr_kit_add(&ledger->sent, 1);
        nr_chaos_progress();
    }
}

/* -- receivers ------------------------------------------------------------------------------- */

static bool is_no_message(int result)
{
    nr_check(result >= 0 || result == -EOWNERDEAD || result == -EPIPE || result == -EBUSY ||
                 result == -EAGAIN || result == -ENOBUFS,
             "%s", naru_error_text());
    return result < 0;
}

/* What it acknowledges by returning may be lost with us: for at most once only. */
static void recv_one(struct naru_endpoint *endpoint)
{
    static char data[LARGEST];
    struct naru_message message = {.data = data, .capacity_bytes = sizeof data};

    if (!is_no_message(nr_chaos_inside(naru_recv_many(endpoint, &message, 1, NARU_FOREVER))))
        account(&message);
}

static void run_receiver(void)
{
    struct naru_endpoint *endpoint = open_as(NARU_RECEIVER);
    bool is_at_most_once = contract->options.delivery == NARU_AT_MOST_ONCE;
    uint64_t random = seed + (uint64_t)getpid();

    for (;;) {
        struct naru_message held[HELD];
        uint64_t by = nr_chaos_any(&random);
        size_t wanted = by & 1 || contract->options.one_to_one ? 1 : HELD, count = 0;
        if (is_at_most_once && by & 2) {
            recv_one(endpoint);
            continue;
        }
        while (count < wanted && !is_no_message(nr_chaos_inside(
                                     naru_take(endpoint, &held[count], count ? 0 : NARU_FOREVER))))
            count++;
        for (size_t i = 0; i < count; i++) {
            if (!is_at_most_once && by % 32 == 4 + i) {
                nr_check_ok(nr_chaos_inside(naru_requeue(endpoint, &held[i])));
                continue;
            }
            account(&held[i]);
            nr_check_ok(nr_chaos_inside(naru_ack(endpoint, &held[i])));
        }
    }
}

static void live(int worker)
{
    me = worker;
    if (worker < contract->senders)
        run_sender();
    else
        run_receiver();
}

/* -- what must hold -------------------------------------------------------------------------- */

/* What nobody has received yet. */
static void drain(void)
{
    struct naru_endpoint *endpoint = open_as(NARU_RECEIVER);
    struct naru_stat stat = {.size_bytes = sizeof stat};

    for (;;) {
        struct naru_message message;
        nr_check_ok(naru_stat(endpoint, &stat)); /* it looks for the dead */
        int result = naru_take(endpoint, &message, 0);
        if (result == -EAGAIN)
            break;
        if (is_no_message(result))
            continue;
        account(&message);
        nr_check_ok(naru_ack(endpoint, &message));
    }
    nr_check(stat.peers == 0, "%u places are still taken", stat.peers);
    naru_close(endpoint);
}

static void check_messages(const struct nr_chaos *chaos)
{
    unsigned long receiver_kills = 0;
    bool is_at_most_once = contract->options.delivery == NARU_AT_MOST_ONCE;
    unsigned long missing = 0, unheard = 0, flagged = 0;

    for (int i = contract->senders; i < chaos->workers; i++)
        receiver_kills += chaos->kills_of[i];
    nr_check(ledger->torn == 0, "%d messages are torn", ledger->torn);
    for (unsigned sender = 0; sender < SENDERS; sender++)
        for (uint32_t i = 0; i < ledger->next[sender] && i < MESSAGES; i++) {
            unsigned plain = ledger->plain[sender][i], again = ledger->flagged[sender][i];
            flagged += again;
            unheard += plain + again == 0;
            missing += plain + again == 0 && ledger->committed[sender][i];
            nr_check(plain <= 1, "message %u of %u came %u times without a flag", i, sender, plain);
            nr_check(!is_at_most_once || plain + again <= 1, "message %u of %u came twice", i,
                     sender);
            nr_check(is_at_most_once || plain + again || !ledger->committed[sender][i],
                     "message %u of %u was committed, and is lost", i, sender);
        }
    printf(
        "# %s: %lu kills, %lu inside a call, %lu stops; %lu messages committed, %lu flagged, %lu "
        "missing, %lu told; longest stall %.1f ms\n",
        contract->name, chaos->kills, chaos->kills_inside, chaos->stops, ledger->sent, flagged,
        missing, ledger->told_lost, (double)chaos->longest_stall_ns / 1e6);
    nr_check(missing <= receiver_kills * (HELD + 1), "%lu are missing, after %lu kills", missing,
             receiver_kills);
    nr_check(ledger->told_lost <= unheard, "%lu were told lost, of %lu", ledger->told_lost,
             unheard);
}

/* How many of the largest fit, and how many endpoints. */
static void measure_room(unsigned *ret_messages, unsigned *ret_places)
{
    struct naru_endpoint *endpoints[16] = {NULL};
    static char data[LARGEST];

    endpoints[0] = open_as(NARU_SENDER);
    for (*ret_messages = 0; naru_send(endpoints[0], data, sizeof data, 0) == 0;)
        ++*ret_messages;
    for (*ret_places = 1; *ret_places < 16; ++*ret_places) {
        enum naru_role role = contract->options.one_to_one ? NARU_RECEIVER : NARU_SENDER;
        if (naru_open(&endpoints[*ret_places], uri, role, NULL) < 0)
            break;
    }
    for (unsigned i = 0; i < *ret_places; i++)
        naru_close(endpoints[i]);
}

static void check_room(void)
{
    unsigned messages, places, new_messages, new_places;

    measure_room(&messages, &places);
    nr_check_ok(naru_unlink(uri));
    measure_room(&new_messages, &new_places);
    nr_check_ok(naru_unlink(uri));
    nr_check(messages + contract->options.one_to_one >= new_messages,
             "there is room for %u of the largest messages, not for %u", messages, new_messages);
    nr_check(places == new_places, "%u places, not %u", places, new_places);
}

static void run_contract(void *argument)
{
    struct nr_chaos chaos = {.live = live};

    contract = argument;
    chaos.workers = contract->senders + contract->receivers;
    snprintf(uri, sizeof uri, "shm://naru-chaos-%d", (int)getppid());
    ledger = nr_kit_shared(sizeof *ledger);
    int fds = nr_kit_fds();
    nr_chaos_init();
    nr_chaos_run(&chaos, seed, nr_chaos_share_ns(BUDGET_S, CONTRACTS + 1));
    drain();
    check_messages(&chaos);
    check_room();
    nr_check(nr_kit_fds() == fds, "%d descriptors, not %d", nr_kit_fds(), fds);
    nr_check(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD, "a process is left");
    nr_chaos_check(&chaos);
}

/* -- pairs ----------------------------------------------------------------------------------- */

/* The child numbers what it sends, without pause; it is killed; all it committed came, in order. */
static void live_as_pair(uint64_t *random)
{
    struct naru_endpoint *ends[2];
    static char data[LARGEST];
    uint32_t *sent = ledger->next, expected = 0;
    struct naru_options options = {.size_bytes = sizeof options, .message_size_max_bytes = LARGEST};

    nr_kit_set(sent, 0);
    nr_check_ok(naru_pair(ends, "shm://", &options));
    pid_t child = nr_kit_fork();
    if (child == 0) {
        nr_check_ok(naru_pair_assign(ends[1], getpid()));
        for (uint32_t i = 0;; i++) {
            nr_payload_fill(data, size_of(0, i), 0, i);
            nr_check_ok(naru_send(ends[1], data, size_of(0, i), NARU_FOREVER));
            nr_kit_set(sent, i + 1);
        }
    }
    nr_check_ok(naru_pair_assign(ends[1], child));
    int64_t end = nr_kit_now_ns() + (int64_t)(nr_chaos_any(random) % 4000000);
    bool is_alive = true;
    for (;;) {
        size_t size_bytes = 0;
        int result = naru_recv(ends[0], data, sizeof data, &size_bytes, NARU_FOREVER);
        if (result == -EOWNERDEAD)
            break;
        nr_check_ok(result);
        nr_check(size_bytes == size_of(0, expected) &&
                     nr_payload_is_whole(data, size_bytes, 0, expected),
                 "message %u is torn, or another one", expected);
        expected++;
        if (is_alive && nr_kit_now_ns() > end) {
            kill(child, SIGKILL);
            is_alive = false;
        }
    }
    nr_kit_kill(child);
    nr_check(expected >= nr_kit_get(sent), "%u came of %u", expected, nr_kit_get(sent));
    ledger->sent += expected;
    naru_close(ends[0]);
    naru_close(ends[1]);
}

static void run_pairs(void *argument)
{
    uint64_t random = seed;

    (void)argument;
    ledger = nr_kit_shared(sizeof *ledger);
    int fds = nr_kit_fds(), kills = 0;
    for (int64_t end = nr_kit_now_ns() + nr_chaos_share_ns(BUDGET_S, CONTRACTS + 1);
         nr_kit_now_ns() < end; kills++)
        live_as_pair(&random);
    printf("# pairs: %d kills, %lu messages\n", kills, ledger->sent);
    nr_check(nr_kit_fds() == fds, "%d descriptors, not %d", nr_kit_fds(), fds);
    nr_check(kills > 10, "too little happened");
}

/* -- the tests ------------------------------------------------------------------------------- */

static void test_chaos(void **state)
{
    int seconds =
        (int)(nr_chaos_share_ns(BUDGET_S, CONTRACTS + 1) / NARU_SECOND) + 3 * NR_CHAOS_STALL_MOST_S;

    if (nr_kit_run(*state ? run_contract : run_pairs, *state, seconds) != 0) {
        snprintf(uri, sizeof uri, "shm://naru-chaos-%d", (int)getpid());
        naru_unlink(uri);
        fail_msg("NARU_SEED=%llu", (unsigned long long)seed);
    }
}

int main(void)
{
    struct CMUnitTest tests[CONTRACTS + 1];

    seed = nr_chaos_seed();
    for (int i = 0; i < CONTRACTS; i++)
        tests[i] = (struct CMUnitTest){
            .name = contracts[i].name,
            .test_func = test_chaos,
            .initial_state = (void *)(uintptr_t)&contracts[i],
        };
    tests[CONTRACTS] = (struct CMUnitTest){.name = "pairs", .test_func = test_chaos};
    return _cmocka_run_group_tests("shm_chaos", tests, CONTRACTS + 1, NULL, NULL);
}
