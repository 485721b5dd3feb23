/* SPDX-License-Identifier: MIT */
/*
 * calls -- clients and servers killed and stopped at random under load; and who is stopped holds up nobody else
 *
 * Each call of a living client ends with its own reply or the declared error. At most once, no request comes to a server
 * twice; at least once, what comes twice is flagged. In the end nobody is attached, and all calls are free. And of the threads
 * that sleep in calls of one client, a reply wakes its own alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "chaos.h"
#include "child.h"
#include <errno.h>
#include <naru/call.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum {
    SERVERS = 3,
    CLIENTS = 3,
    CALLS = 16,
    LIVES_MOST = 4096,
    EACH_MOST = 4096, /* calls of one life that are accounted for */
    SIZE_MOST = 3000,
    BUDGET_S = 5,
};

struct request {
    uint32_t life, number; /* which client's, and its how many-eth */
    uint32_t padding_bytes;
};

static struct ledger {
    int lives, stop;
    long answered, failed, given_up, redelivered;
    unsigned char unflagged[LIVES_MOST][EACH_MOST]; /* how often it came as if for the first time */
    unsigned char came[LIVES_MOST][EACH_MOST];
} * ledger;

static char uri[80];
static bool at_most_once;

static struct naru_endpoint *open_as(enum naru_role role)
{
    struct naru_options options = {
        .size_bytes = sizeof options,
        .pattern = NARU_CALL,
        .delivery = at_most_once ? NARU_AT_MOST_ONCE : NARU_AT_LEAST_ONCE,
        .message_size_max_bytes = SIZE_MOST,
        .capacity_messages = CALLS,
        .participants_max = 32,
    };
    struct naru_endpoint *endpoint = NULL;

    nr_check_ok(naru_open(&endpoint, uri, role, &options));
    return endpoint;
}

/* -- the people --------------------------------------------------------------------------------- */

static void serve_one(struct naru_endpoint *endpoint, struct naru_message *message, unsigned turn)
{
    struct request request;
    char copy[SIZE_MOST];

    nr_check(message->size_bytes >= sizeof request, "%zu bytes", message->size_bytes);
    memcpy(&request, message->data, sizeof request);
    nr_check(request.life < LIVES_MOST && request.number < EACH_MOST &&
                 message->size_bytes == sizeof request + request.padding_bytes,
             "damaged");
    nr_kit_add(&ledger->came[request.life][request.number], 1);
    if (message->flags & NARU_REDELIVERED)
        nr_kit_add(&ledger->redelivered, 1);
    else
        nr_check(nr_kit_add(&ledger->unflagged[request.life][request.number], 1) == 1,
                 "it came twice, unflagged");
    if (turn % 16 == 15 && !at_most_once) {
        nr_check_ok(nr_chaos_inside(naru_requeue(endpoint, message)));
        return;
    }
    void *reply = copy;
    if (turn % 2)
        nr_check_ok(
            nr_chaos_inside(naru_reply_loan(endpoint, message, message->size_bytes, &reply)));
    memcpy(reply, message->data, message->size_bytes);
    int result = nr_chaos_inside(naru_reply(endpoint, message, reply, message->size_bytes));
    nr_check(result == 0 || result == -EPIPE, "%s", naru_error_text());
    nr_chaos_progress();
}

static void server(void)
{
    struct naru_endpoint *endpoint = open_as(NARU_RECEIVER);

    for (unsigned turn = (unsigned)getpid();; turn++) {
        struct naru_message message;
        int result = nr_chaos_inside(naru_take(endpoint, &message, NARU_FOREVER));
        if (result == 0)
            serve_one(endpoint, &message, turn);
        else
            nr_check(result == -EBUSY, "%s", naru_error_text());
    }
}

/* 0; -EBUSY: not sent. */
static int ask(struct naru_endpoint *endpoint, struct naru_call *call, int64_t timeout_ns)
{
    struct naru_message loan;

    if (!call->in_place)
        return nr_chaos_inside(naru_call(endpoint, call, timeout_ns));
    int result = nr_chaos_inside(naru_loan(endpoint, SIZE_MOST, &loan, NR_SOON));
    if (result < 0)
        return result;
    memcpy(loan.data, call->request, call->request_size_bytes);
    loan.size_bytes = call->request_size_bytes;
    call->loan = &loan;
    result = nr_chaos_inside(naru_call(endpoint, call, timeout_ns));
    if (loan.data)
        nr_check_ok(nr_chaos_inside(naru_cancel(endpoint, &loan)));
    return result;
}

/* By copy, and each third in place, whose reply stays in hand meanwhile; each eighth is given up soon. */
static void call_one(struct naru_endpoint *endpoint, uint32_t life, uint32_t number)
{
    static struct naru_call in_hand;
    char room[SIZE_MOST], reply[SIZE_MOST];
    struct request request = {life, number, number * 97 % (SIZE_MOST - sizeof request)};
    struct naru_call call = {
        .size_bytes = sizeof call,
        .request = room,
        .request_size_bytes = sizeof request + request.padding_bytes,
        .reply = reply,
        .reply_capacity_bytes = sizeof reply,
        .in_place = number % 3 == 0,
    };
    bool is_impatient = number % 8 == 7;

    memset(room, (int)number, sizeof room);
    memcpy(room, &request, sizeof request);
    int result = ask(endpoint, &call, is_impatient ? NARU_MILLISECOND / 5 : NR_SOON);
    if (result == 0) {
        nr_check(call.reply_size_bytes == call.request_size_bytes &&
                     memcmp(room, call.reply, call.reply_size_bytes) == 0,
                 "another's reply");
        if (call.in_place) {
            if (in_hand.reply)
                nr_check_ok(nr_chaos_inside(naru_call_cancel(endpoint, &in_hand)));
            in_hand = call;
        }
        nr_kit_add(&ledger->answered, 1);
        nr_chaos_progress();
    } else if (result == -EOWNERDEAD) {
        nr_check(at_most_once, "%s", naru_error_text());
        nr_kit_add(&ledger->failed, 1);
    } else {
        nr_check((result == -ETIMEDOUT && is_impatient) || result == -EBUSY, "%d: %s", result,
                 naru_error_text());
        nr_kit_add(&ledger->given_up, 1);
    }
}

static void client(void)
{
    struct naru_endpoint *endpoint = open_as(NARU_SENDER);
    uint32_t life = (uint32_t)nr_kit_add(&ledger->lives, 1) - 1;

    nr_check(life < LIVES_MOST, "too many lives");
    for (uint32_t number = 0; number < EACH_MOST; number++)
        call_one(endpoint, life, number);
    pause();
}

static void live(int worker)
{
    if (worker < SERVERS)
        server();
    else
        client();
}

/* -- chaos -------------------------------------------------------------------------------------- */

static void expect_all_free(void)
{
    struct naru_endpoint *endpoint = open_as(NARU_BOTH);
    struct naru_stat stat = {.size_bytes = sizeof stat};
    struct naru_call calls[CALLS + 1];
    struct naru_message message;
    char room[8];

    nr_check_ok(naru_stat(endpoint, &stat));
    assert_int_equal(stat.peers, 0);
    assert_int_equal(stat.queued_messages, 0);
    assert_int_equal(naru_take(endpoint, &message, 0), -EAGAIN);
    for (int i = 0; i <= CALLS; i++) {
        calls[i] = (struct naru_call){.size_bytes = sizeof calls[i],
                                      .request = "x",
                                      .request_size_bytes = 1,
                                      .reply = room,
                                      .reply_capacity_bytes = sizeof room};
        assert_int_equal(naru_call_begin(endpoint, &calls[i], 0), i < CALLS ? 0 : -EAGAIN);
    }
    for (int i = 0; i < CALLS; i++) {
        assert_int_equal(naru_take(endpoint, &message, 0), 0);
        assert_int_equal(naru_reply(endpoint, &message, "y", 1), 0);
        assert_int_equal(naru_call_end(endpoint, &calls[i], 0), 0);
    }
    naru_close(endpoint);
    assert_int_equal(naru_unlink(uri), 0);
}

static void chaos(uint64_t seed)
{
    struct nr_chaos chaos = {.workers = SERVERS + CLIENTS, .live = live};

    memset(ledger, 0, sizeof *ledger);
    nr_chaos_init();
    nr_chaos_run(&chaos, seed, nr_chaos_share_ns(BUDGET_S, 2));
    print_message("# %lu kills, %lu inside a call, %lu stops: %ld answered, %ld failed, %ld given "
                  "up, %ld redelivered; longest stall %.1f ms\n",
                  chaos.kills, chaos.kills_inside, chaos.stops, ledger->answered, ledger->failed,
                  ledger->given_up, ledger->redelivered, (double)chaos.longest_stall_ns / 1e6);
    for (int life = 0; at_most_once && life < ledger->lives; life++)
        for (int number = 0; number < EACH_MOST; number++)
            assert_true(ledger->came[life][number] <= 1);
    expect_all_free();
    nr_chaos_check(&chaos);
}

static void test_chaos(void **state)
{
    const char *sanitizers = getenv("NARU_SANITIZED");

    if (sanitizers && strstr(sanitizers, "thread")) {
        print_message(
            "SKIP: with the thread sanitizer sleeps are taken in slices, and calls run late\n");
        skip();
    }
    uint64_t seed = nr_chaos_seed();

    (void)state;
    print_message("# NARU_SEED=%llu\n", (unsigned long long)seed);
    for (int i = 0; i < 2; i++) {
        at_most_once = i;
        chaos(seed + (unsigned)i);
    }
}

/* -- who is stopped ----------------------------------------------------------------------------- */

static void answer_slowly(void *context)
{
    struct naru_endpoint *endpoint = open_as(NARU_RECEIVER);
    struct naru_message message;

    (void)context;
    nr_check_ok(naru_take(endpoint, &message, NR_SOON));
    nr_kit_set(&ledger->lives, 1);
    nr_kit_await(&ledger->stop, 1);
    int result = naru_reply(endpoint, &message, "late", 4);
    nr_check(result == -EPIPE, "%d", result);
    naru_close(endpoint);
}

/* A server that is stopped with a request in hand holds up its client until the time-out, and nobody else. */
static void test_stopped_server(void **state)
{
    struct naru_message message;
    char room[2][8];

    (void)state;
    at_most_once = false;
    memset(ledger, 0, sizeof *ledger);
    pid_t pid = child_start(answer_slowly, NULL);
    struct naru_endpoint *both = open_as(NARU_BOTH);
    struct naru_call calls[2];
    for (int i = 0; i < 2; i++)
        calls[i] = (struct naru_call){.size_bytes = sizeof calls[i],
                                      .request = "?",
                                      .request_size_bytes = 1,
                                      .reply = room[i],
                                      .reply_capacity_bytes = sizeof room[i]};
    nr_check_ok(naru_call_begin(both, &calls[0], 0));
    nr_kit_await(&ledger->lives, 1);
    kill(pid, SIGSTOP);
    nr_check_ok(naru_call_begin(both, &calls[1], 0));
    assert_int_equal(naru_take(both, &message, 0), 0);
    assert_int_equal(naru_reply(both, &message, "now", 3), 0);
    assert_int_equal(naru_call_end(both, &calls[1], 0), 0);
    assert_int_equal(naru_call_end(both, &calls[0], 30 * NARU_MILLISECOND), -ETIMEDOUT);
    assert_int_equal(naru_take(both, &message, 0), -EAGAIN); /* alive: nothing is taken away */
    assert_int_equal(naru_call_cancel(both, &calls[0]), 0);
    nr_kit_set(&ledger->stop, 1);
    kill(pid, SIGCONT);
    assert_int_equal(child_end(pid), 0);
    naru_close(both);
    expect_all_free();
}

/* -- many threads of one client ------------------------------------------------------------------ */

static struct caller {
    pthread_t thread;
    struct naru_endpoint *client;
    int id;             /* of the thread; 0: it has not begun */
    long slept, sleeps; /* how often, before its reply and in all */
    int is_over;
} callers[CALLS];

/* True if it sleeps; and how often it has done so. */
static bool caller_sleeps(const struct caller *caller, long *ret_sleeps)
{
    char path[48], line[128], letter = 0;

    snprintf(path, sizeof path, "/proc/self/task/%d/status", nr_kit_get(&caller->id));
    FILE *file = fopen(path, "re");
    nr_check(file, "%s", path);
    while (fgets(line, sizeof line, file)) {
        sscanf(line, "State: %c", &letter);
        sscanf(line, "voluntary_ctxt_switches: %ld", ret_sleeps);
    }
    fclose(file);
    return letter == 'S';
}

static void *caller_call(void *argument)
{
    struct caller *caller = argument;
    char room[8];
    struct naru_call call = {.size_bytes = sizeof call,
                             .type = caller - callers,
                             .reply = room,
                             .reply_capacity_bytes = sizeof room};
    struct rusage usage;

    nr_kit_set(&caller->id, gettid());
    nr_check_ok(naru_call(caller->client, &call, NARU_FOREVER));
    getrusage(RUSAGE_THREAD, &usage);
    caller->sleeps = usage.ru_nvcsw;
    nr_kit_set(&caller->is_over, 1);
    nr_kit_await(&ledger->stop,
                 1); /* a thread that ends wakes one to look whether it was a death */
    return NULL;
}

static void callers_fall_asleep(const struct naru_message requests[], unsigned first)
{
    for (unsigned i = first; i < CALLS; i++)
        while (!caller_sleeps(&callers[requests[i].type], &callers[requests[i].type].slept))
            sched_yield();
}

/* Its client does. */
static void expect_to_wait_for_messages(struct naru_endpoint *server)
{
    struct naru_participant one = {.size_bytes = sizeof one};
    bool is_client = false;

    for (size_t i = 0; i < 2; i++) {
        nr_check_ok(naru_stat_participant(server, i, &one));
        is_client |= one.role == NARU_SENDER && one.state == NARU_WAITS_FOR_MESSAGE;
    }
    assert_true(is_client);
}

static void test_a_reply_wakes_its_own_thread(void **state)
{
    struct naru_message requests[CALLS];
    long woken = 0;

    (void)state;
    if (nr_kit_slowness() > 1) {
        print_message("SKIP: sleeps may be taken in slices here\n");
        skip();
    }
    nr_kit_set(&ledger->stop, 0);
    struct naru_endpoint *client = open_as(NARU_SENDER), *server = open_as(NARU_RECEIVER);
    for (unsigned i = 0; i < CALLS; i++) {
        callers[i].client = client;
        assert_int_equal(pthread_create(&callers[i].thread, NULL, caller_call, &callers[i]), 0);
        nr_check_ok(naru_take(server, &requests[i], NR_SOON));
    }
    nr_kit_sleep_ms(50); /* the first sleeps end to look around */
    callers_fall_asleep(requests, 0);
    expect_to_wait_for_messages(server);
    for (unsigned i = 0; i < CALLS; i++)
        woken -= callers[i].slept;
    for (unsigned i = 0; i < CALLS; i++) {
        struct caller *caller = &callers[requests[i].type];
        nr_check_ok(naru_reply(server, &requests[i], "x", 1));
        nr_kit_await(&caller->is_over, 1);
        callers_fall_asleep(requests, i + 1);
        woken += caller->sleeps;
    }
    nr_kit_set(&ledger->stop, 1);
    for (unsigned i = 0; i < CALLS; i++)
        assert_int_equal(pthread_join(callers[i].thread, NULL), 0);
    print_message("# %ld wake-ups for nothing\n", woken);
    assert_in_range(woken, 0, CALLS); /* CALLS * (CALLS - 1) / 2 if each wakes all */
    naru_close(client);
    naru_close(server);
    expect_all_free();
}

static int group_setup(void **state)
{
    (void)state;
    snprintf(uri, sizeof uri, "shm:///dev/shm/naru-test-calls-%d", (int)getpid());
    ledger = nr_kit_shared(sizeof *ledger);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    naru_unlink(uri); /* there when a check has failed */
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chaos),
        cmocka_unit_test(test_stopped_server),
        cmocka_unit_test(test_a_reply_wakes_its_own_thread),
    };

    alarm(100);
    return cmocka_run_group_tests_name("calls", tests, group_setup, group_teardown);
}
