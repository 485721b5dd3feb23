/* SPDX-License-Identifier: MIT */
/*
 * shm_chaos_topic -- publishers and subscribers of topics, writers and readers of cells, killed, stopped and replaced
 *
 * Contents   messages - publishers - subscribers - topics - cells - the tests
 * What       As shm_chaos. Besides those that are killed, a topic has a witness, who subscribes first and stays.
 * Holds      Lossless: the witness gets all that was committed, once, and in each publisher's order; who subscribes later
 *            gets an unbroken piece. Overwriting: what is missing is told, all of it and no more. A cell: nobody reads
 *            what is older than what was written before, nor the same twice. All of it whole; and at the end there is as
 *            much room, and there are as many places, as in a new channel.
 */
#include "chaos.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    SENDERS = 3,
    RECEIVERS = 2,
    MESSAGES = 1 << 22, /* a sender's most; of a topic */
    LARGEST = 1500,
    BUDGET_S = 4,
    BRIEFLY_NS = 20000000,
};

static const struct contract {
    const char *name;
    struct naru_options options;
} contracts[] = {
    {"topic, lossless", {.pattern = NARU_TOPIC}},
    {"topic, overwriting", {.pattern = NARU_TOPIC, .when_full = NARU_OVERWRITE_OLDEST}},
    {"cell", {.pattern = NARU_CELL}},
};
enum { CONTRACTS = sizeof contracts / sizeof contracts[0] };

/* Survives all of them. */
static struct ledger {
    uint32_t
        next[SENDERS]; /* the number that the sender takes next; a cell: [0], for all of them */
    unsigned char committed[SENDERS][MESSAGES];
    uint32_t newest; /* of the cell: 1 + the last that is known to be written */
    int is_there, stop;
    unsigned long sent, received;
    unsigned long seen, lost, skipped; /* by the witness */
} * ledger;

static const struct contract *contract;
static char uri[64];
static uint64_t seed;
static int me;

static bool is_cell(void)
{
    return contract->options.pattern == NARU_CELL;
}
static bool overwrites(void)
{
    return contract->options.when_full == NARU_OVERWRITE_OLDEST;
}

static int try_open(struct naru_endpoint **ret, enum naru_role role)
{
    struct naru_options options = contract->options;

    options.size_bytes = sizeof options;
    options.message_size_max_bytes = LARGEST;
    options.participants_max = 12;
    if (!is_cell()) {
        options.capacity_messages = 16;
        options.payload_bytes = 12 * 1536;
    }
    return naru_open(ret, uri, role, &options);
}

static struct naru_endpoint *open_as(enum naru_role role)
{
    struct naru_endpoint *endpoint = NULL;

    nr_check_ok(try_open(&endpoint, role));
    return endpoint;
}

/* -- messages -------------------------------------------------------------------------------- */

static size_t size_of(unsigned sender, uint32_t number)
{
    uint64_t state = (uint64_t)sender << 32 | number, by = nr_chaos_any(&state);

    return by % 8 == 0 ? LARGEST : by % 8 == 1 ? 0 : (by >> 8) % (by % 8 < 4 ? LARGEST : 64);
}

/* type says who sent it and which one it is, also where there is no content. */
static int64_t type_of(unsigned sender, uint32_t number)
{
    return (int64_t)((uint64_t)(sender + 1) << 32 | number);
}

static void read_message(const struct naru_message *message, unsigned *ret_sender,
                         uint32_t *ret_number)
{
    uint64_t sender = ((uint64_t)message->type >> 32) - 1;

    *ret_number = (uint32_t)message->type;
    *ret_sender = (unsigned)sender;
    nr_check(sender < SENDERS && *ret_number < ledger->next[sender] &&
                 message->size_bytes == size_of(*ret_sender, *ret_number) &&
                 nr_payload_is_whole(message->data, message->size_bytes, *ret_sender, *ret_number),
             "a message of %zu bytes is torn", message->size_bytes);
}

/* -- publishers ------------------------------------------------------------------------------ */

static int send_by_loan(struct naru_endpoint *endpoint, unsigned sender, uint32_t number)
{
    size_t size_bytes = size_of(sender, number);
    struct naru_message loan;
    int result = nr_chaos_inside(naru_loan(endpoint, LARGEST, &loan, NARU_FOREVER));

    if (result < 0)
        return result;
    nr_payload_fill(loan.data, size_bytes, sender, number);
    loan.size_bytes = size_bytes;
    loan.type = type_of(sender, number);
    return nr_chaos_inside(naru_commit(endpoint, &loan));
}

static int send_by_copy(struct naru_endpoint *endpoint, unsigned sender, uint32_t number)
{
    static char data[LARGEST];
    struct naru_message message = {.type = type_of(sender, number)};
    struct iovec part = {data, size_of(sender, number)};

    nr_payload_fill(data, part.iov_len, sender, number);
    return nr_chaos_inside(naru_sendv(endpoint, &part, 1, &message, NARU_FOREVER));
}

static void publish(void)
{
    struct naru_endpoint *endpoint;
    unsigned sender = is_cell() ? 0 : (unsigned)me;
    int result;

    while ((result = nr_chaos_inside(try_open(&endpoint, NARU_SENDER))) == -EBUSY && is_cell())
        nr_kit_sleep_ms(1); /* another one writes, and lives */
    nr_check_ok(result);
    for (;;) {
        uint32_t number = nr_kit_add(&ledger->next[sender], 1) - 1;
        if (!is_cell() && number >= MESSAGES)
            pause();
        result = number % 3 ? send_by_copy(endpoint, sender, number)
                            : send_by_loan(endpoint, sender, number);
        nr_check(result == 0 || result == -EBUSY, "send: %s", naru_error_text());
        if (result < 0)
            continue;
        if (is_cell())
            nr_kit_set(&ledger->newest, number + 1);
        else
            nr_kit_set(&ledger->committed[sender][number], 1);
        nr_kit_add(&ledger->sent, 1);
        nr_chaos_progress();
        if (overwrites() &&
            number % 8 == 0) /* nobody holds it up, and its numbers would be used up */
            nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
    }
}

/* -- subscribers ----------------------------------------------------------------------------- */

/* What one subscriber has seen so far. */
struct sight {
    uint32_t after[SENDERS]; /* 1 + the last of each; 0: none */
    uint64_t sequence;
    bool has_any;
    unsigned long seen, lost, skipped;
};

static void see_topic(struct sight *sight, const struct naru_message *message)
{
    unsigned sender;
    uint32_t number;

    read_message(message, &sender, &number);
    uint32_t after = sight->after[sender];
    nr_check(number >= after, "%u of %u came behind %u", number, sender, after - 1);
    for (uint32_t i = after; after && i < number && !overwrites(); i++)
        nr_check(!nr_kit_get(&ledger->committed[sender][i]), "%u of %u is missing", i, sender);
    nr_check(overwrites() || message->lost == 0, "%lu are lost", (unsigned long)message->lost);
    if (sight->has_any) {
        uint64_t gap = message->sequence - sight->sequence - 1;
        nr_check(message->sequence > sight->sequence && message->lost <= gap,
                 "%lu are lost between %lu and %lu", (unsigned long)message->lost,
                 (unsigned long)sight->sequence, (unsigned long)message->sequence);
        sight->skipped += gap - message->lost; /* of those who died in the middle of it */
    }
    sight->after[sender] = number + 1;
    sight->sequence = message->sequence;
    sight->has_any = true;
    sight->seen++;
    sight->lost += message->lost;
}

/* `newest`: as it was before the call. */
static void see_cell(struct sight *sight, const struct naru_message *message, uint32_t newest)
{
    unsigned sender;
    uint32_t number;

    read_message(message, &sender, &number);
    nr_check(number + 1 >= newest, "value %u, and %u was there before", number, newest - 1);
    nr_check(number >= sight->after[0], "value %u, behind %u", number, sight->after[0] - 1);
    sight->after[0] = number + 1;
    sight->seen++;
}

/* False: nothing came in time. */
static bool see_one(struct naru_endpoint *endpoint, struct sight *sight, int64_t timeout_ns)
{
    static char data[LARGEST];
    struct naru_message message = {.data = data, .capacity_bytes = sizeof data};
    bool takes = sight->seen % 3 == 0;
    uint32_t newest = nr_kit_get(&ledger->newest);
    int result = takes ? nr_chaos_inside(naru_take(endpoint, &message, timeout_ns))
                       : nr_chaos_inside(naru_recv_many(endpoint, &message, 1, timeout_ns));

    nr_check(result >= 0 || result == -EBUSY || result == -EAGAIN || result == -ETIMEDOUT,
             "receive: %s", naru_error_text());
    if (result < 0)
        return result == -EBUSY;
    if (is_cell())
        see_cell(sight, &message, newest);
    else
        see_topic(sight, &message);
    if (takes)
        nr_check_ok(nr_chaos_inside(naru_ack(endpoint, &message)));
    nr_kit_add(&ledger->received, 1);
    nr_chaos_progress();
    return true;
}

static void subscribe(void)
{
    struct naru_endpoint *endpoint = open_as(NARU_RECEIVER);
    struct sight sight = {0};

    for (;;)
        see_one(endpoint, &sight, NARU_FOREVER);
}

static void live(int worker)
{
    me = worker;
    if (worker < SENDERS)
        publish();
    else
        subscribe();
}

/* -- topics ---------------------------------------------------------------------------------- */

/* Goes on until nothing can come any more. */
static void witness(void)
{
    struct naru_endpoint *endpoint = open_as(NARU_RECEIVER);
    struct naru_stat stat = {.size_bytes = sizeof stat};
    struct sight sight = {0};
    bool is_last;

    nr_kit_set(&ledger->is_there, 1);
    do {
        is_last = nr_kit_get(&ledger->stop);
        if (is_last)
            nr_check_ok(naru_stat(endpoint, &stat)); /* it looks for the dead */
    } while (see_one(endpoint, &sight, BRIEFLY_NS) || !is_last);
    ledger->seen = sight.seen;
    ledger->lost = sight.lost;
    ledger->skipped = sight.skipped;
    naru_close(endpoint);
    exit(0);
}

static uint32_t begun_by(unsigned sender)
{
    return ledger->next[sender] < MESSAGES ? ledger->next[sender] : MESSAGES;
}

static void check_topic(const struct nr_chaos *chaos)
{
    unsigned long committed = 0, begun = 0, kills = 0;

    for (unsigned sender = 0; sender < SENDERS; sender++) {
        kills += chaos->kills_of[sender];
        begun += begun_by(sender);
        for (uint32_t i = 0; i < begun_by(sender); i++)
            committed += ledger->committed[sender][i];
    }
    nr_check(ledger->seen + ledger->lost >= committed,
             "%lu were committed; %lu came, and %lu are told lost", committed, ledger->seen,
             ledger->lost);
    nr_check(ledger->seen + ledger->lost <= begun, "%lu came and %lu are lost, of %lu",
             ledger->seen, ledger->lost, begun);
    nr_check(ledger->skipped <= kills, "%lu are skipped, after %lu kills", ledger->skipped, kills);
}

/* How many of the largest fit before a subscriber that does not receive, and how many endpoints. */
static void measure_room(unsigned *ret_messages, unsigned *ret_places)
{
    struct naru_endpoint *endpoints[16] = {open_as(NARU_RECEIVER), open_as(NARU_SENDER)};
    static char data[LARGEST];

    *ret_messages = 0;
    while (!is_cell() && !overwrites() && naru_send(endpoints[1], data, sizeof data, 0) == 0)
        ++*ret_messages;
    for (*ret_places = 2; *ret_places < 16; ++*ret_places)
        if (try_open(&endpoints[*ret_places], NARU_RECEIVER) < 0)
            break;
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
    nr_check(messages == new_messages, "there is room for %u of the largest, not for %u", messages,
             new_messages);
    nr_check(places == new_places, "%u places, not %u", places, new_places);
}

/* -- cells ----------------------------------------------------------------------------------- */

/* The last value outlives all. */
static void check_cell(void)
{
    struct naru_endpoint *endpoint = open_as(NARU_RECEIVER);
    struct naru_stat stat = {.size_bytes = sizeof stat};
    struct sight sight = {0};

    nr_check_ok(naru_stat(endpoint, &stat)); /* it looks for the dead */
    nr_check(stat.peers == 0, "%u places are still taken", stat.peers);
    nr_check(see_one(endpoint, &sight, 0), "the value is gone");
    naru_close(endpoint);
}

/* -- the tests ------------------------------------------------------------------------------- */

static void run_contract(void *argument)
{
    struct nr_chaos chaos = {.workers = SENDERS + RECEIVERS, .live = live};
    pid_t pid = -1;

    contract = argument;
    snprintf(uri, sizeof uri, "shm://naru-chaos-topic-%d", (int)getppid());
    ledger = nr_kit_shared(sizeof *ledger);
    nr_chaos_init();
    int fds = nr_kit_fds();
    if (!is_cell() && (pid = nr_kit_fork()) == 0)
        witness();
    if (pid > 0)
        nr_kit_await(&ledger->is_there, 1);
    nr_chaos_run(&chaos, seed, nr_chaos_share_ns(BUDGET_S, CONTRACTS));
    nr_kit_set(&ledger->stop, 1);
    if (pid > 0)
        nr_kit_join(pid);
    printf("# %s: %lu kills, %lu inside a call, %lu stops; %lu sent, %lu received; the witness: "
           "%lu, lost %lu, skipped %lu; longest stall %.1f ms\n",
           contract->name, chaos.kills, chaos.kills_inside, chaos.stops, ledger->sent,
           ledger->received, ledger->seen, ledger->lost, ledger->skipped,
           (double)chaos.longest_stall_ns / 1e6);
    if (is_cell())
        check_cell();
    else
        check_topic(&chaos);
    check_room();
    nr_check(nr_kit_fds() == fds, "%d descriptors, not %d", nr_kit_fds(), fds);
    nr_check(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD, "a process is left");
    nr_chaos_check(&chaos);
}

static void test_chaos(void **state)
{
    int seconds =
        (int)(nr_chaos_share_ns(BUDGET_S, CONTRACTS) / NARU_SECOND) + 3 * NR_CHAOS_STALL_MOST_S;

    if (nr_kit_run(run_contract, *state, seconds) != 0) {
        snprintf(uri, sizeof uri, "shm://naru-chaos-topic-%d", (int)getpid());
        naru_unlink(uri);
        fail_msg("NARU_SEED=%llu", (unsigned long long)seed);
    }
}

int main(void)
{
    struct CMUnitTest tests[CONTRACTS];

    seed = nr_chaos_seed();
    for (int i = 0; i < CONTRACTS; i++)
        tests[i] = (struct CMUnitTest){
            .name = contracts[i].name,
            .test_func = test_chaos,
            .initial_state = (void *)(uintptr_t)&contracts[i],
        };
    return _cmocka_run_group_tests("shm_chaos_topic", tests, CONTRACTS, NULL, NULL);
}
