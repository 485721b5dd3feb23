/* SPDX-License-Identifier: MIT */
/*
 * pool_chaos -- a pool under load, whose workers are killed at random: every task is answered exactly once
 *
 * What       Each worker is killed by a timer at a random moment, wherever it is: starting, in a task, replying, asleep,
 *            ending. Tasks and results of random sizes; some tasks take long, some always kill. The owner submits,
 *            fetches, cancels at random, by one call or the other.
 * Holds      Each task is answered once: done with the right result; or set aside after deaths_max deaths, with a cause;
 *            or cancelled, if it was. It was begun at least once if done, and not more often than workers died. At the
 *            end no descriptor and no process is left.
 * Bounds     NARU_BUDGET_S seconds in all, without it 4 s; NARU_SEED for what happens.
 */
#include "kit.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <naru/pool.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TASKS = 1 << 20, LARGEST = 40000, BUDGET_S = 4, ROUND_MS = 500 };

enum fate { UNKNOWN, PENDING, ANSWERED };

/* Survives the workers. */
static struct ledger {
    unsigned char begun[TASKS]; /* how often */
    int life_most_us;           /* of a worker; 0: none is killed */
} * ledger;

static unsigned char fates[TASKS], cancelled[TASKS], poisonous[TASKS];
static uint64_t seed;
static unsigned cancels; /* in this pool */

static struct tally {
    unsigned long tasks, deaths, set_aside, cancelled, retried, recycled;
} tally;

static uint64_t next_random(uint64_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random;
}

/* -- the workers ------------------------------------------------------------------------------- */

struct order {
    uint64_t number;
    uint32_t reply_bytes, sleep_us;
    int is_poisonous;
};

static int arm(uint32_t worker, void *context)
{
    struct itimerval life = {{0, 0}, {0, 0}};
    uint64_t random = seed ^ (uint64_t)getpid() << 20 ^ (uint64_t)nr_kit_now_ns();

    (void)worker;
    (void)context;
    next_random(&random);
    if (ledger->life_most_us) {
        life.it_value.tv_usec = 1 + (long)(next_random(&random) % (unsigned)ledger->life_most_us);
        setitimer(ITIMER_REAL, &life, NULL);
    }
    return 0;
}

static int work(struct naru_pool_task *task, void *context)
{
    static char reply[LARGEST];
    struct order order;

    (void)context;
    memcpy(&order, task->data, sizeof order);
    if (order.number != task->number)
        _exit(98);
    if (task->size_bytes > sizeof order &&
        !nr_payload_is_whole((const char *)task->data + sizeof order,
                             task->size_bytes - sizeof order, 1, (unsigned)order.number))
        _exit(97);
    if (ledger->begun[order.number] < 255)
        nr_kit_add(&ledger->begun[order.number], 1);
    if (order.is_poisonous)
        raise(SIGKILL);
    if (order.sleep_us)
        usleep(order.sleep_us);
    nr_payload_fill(reply, order.reply_bytes, 2, (unsigned)order.number);
    naru_pool_reply(task, reply, order.reply_bytes / 2);
    naru_pool_reply(task, reply + order.reply_bytes / 2, order.reply_bytes - order.reply_bytes / 2);
    return (int)(order.number % 1000);
}

/* -- the owner --------------------------------------------------------------------------------- */

static uint32_t random_size(uint64_t *random)
{
    uint64_t kind = next_random(random) % 16;

    return 8 + (uint32_t)(next_random(random) % (kind == 0 ? LARGEST - 8 : kind < 4 ? 4000 : 100));
}

static void submit_some(struct naru_pool *pool, uint64_t *random, uint64_t *next)
{
    static char data[sizeof(struct order) + LARGEST];

    for (uint64_t count = next_random(random) % 200; count > 0 && *next < TASKS; count--) {
        struct order order = {
            .number = *next,
            .reply_bytes = random_size(random),
            .sleep_us = next_random(random) % 50 ? 0 : (uint32_t)(next_random(random) % 3000),
            .is_poisonous = next_random(random) % 2000 == 0,
        };
        size_t size_bytes = sizeof order;
        uint64_t number;
        memcpy(data, &order, sizeof order);
        if (next_random(random) % 4 == 0) {
            uint32_t more = random_size(random);
            nr_payload_fill(data + sizeof order, more, 1, (unsigned)*next);
            size_bytes += more;
        }
        int result = naru_pool_submit(pool, data, size_bytes, &number, 0);
        if (result == -EAGAIN || result == -ENOBUFS)
            return;
        nr_check(result == 0, "%d: %s", result, naru_error_text());
        nr_check(number == *next, "the number is %llu", (unsigned long long)number);
        fates[number] = PENDING;
        poisonous[number] = order.is_poisonous;
        ++*next;
    }
}

static void account(const struct naru_pool_result *result, const struct naru_pool_options *options)
{
    uint64_t number = result->number;
    int code = (int)(number % 1000);

    nr_check(number < TASKS && fates[number] == PENDING, "task %llu is answered again",
             (unsigned long long)number);
    fates[number] = ANSWERED;
    tally.tasks++;
    tally.retried += result->deaths > 0 && result->outcome == NARU_POOL_DONE;
    nr_check((result->deaths > 0) == (result->death != NULL), "%u deaths, and no cause",
             result->deaths);
    nr_check(!result->death || result->death->text[0], "a death without a sentence");
    switch (result->outcome) {
    case NARU_POOL_DONE:
        nr_check(result->code == code && !poisonous[number], "code %d", result->code);
        nr_check(result->size_bytes >= 8 &&
                     nr_payload_is_whole(result->data, result->size_bytes, 2, (unsigned)number),
                 "the result of task %llu is torn", (unsigned long long)number);
        /* One may die before it says so; and a worker that is killed for another task, which it has just answered,
           takes this one along without a count. */
        nr_check(ledger->begun[number] >= 1 &&
                     ledger->begun[number] <= result->deaths + 1 + cancels,
                 "begun %u times, %u deaths", ledger->begun[number], result->deaths);
        break;
    case NARU_POOL_SET_ASIDE:
        tally.set_aside++;
        nr_check(result->deaths == options->deaths_max, "set aside after %u deaths, begun %u times",
                 result->deaths, ledger->begun[number]);
        nr_check(result->death->cause == NARU_KILLED && (result->death->signal_number == SIGALRM ||
                                                         result->death->signal_number == SIGKILL),
                 "set aside: %s", result->death->text);
        break;
    case NARU_POOL_CANCELLED:
        tally.cancelled++;
        nr_check(cancelled[number], "task %llu was not cancelled", (unsigned long long)number);
        break;
    default:
        nr_check(0, "outcome %d", result->outcome);
    }
}

static void fetch_some(struct naru_pool *pool, const struct naru_pool_options *options,
                       uint64_t *random, uint64_t *expected)
{
    static struct naru_pool_result results[64];
    int64_t timeout_ns = next_random(random) % 4 ? 0 : 2000000;
    size_t count = 1 + next_random(random) % 64;

    for (int rounds = 0; rounds < 4; rounds++) {
        int got = naru_pool_next_many(pool, results, count, timeout_ns);
        if (got == -EAGAIN || got == -ETIMEDOUT || got == -ENODATA || got == -EOWNERDEAD)
            return;
        nr_check(got > 0, "%d: %s", got, naru_error_text());
        for (int i = 0; i < got; i++) {
            nr_check(options->order != NARU_IN_ORDER || results[i].number == *expected,
                     "out of order");
            ++*expected;
            account(&results[i], options);
        }
    }
}

static void cancel_some(struct naru_pool *pool, uint64_t *random, uint64_t next)
{
    if (next == 0 || next_random(random) % 20)
        return;
    uint64_t number = next - 1 - next_random(random) % (next < 300 ? next : 300);
    cancelled[number] |= naru_pool_cancel(pool, number) == 0;
    cancels++;
}

/* All that is left is answered, whatever goes on dying. */
static void drain(struct naru_pool *pool, const struct naru_pool_options *options,
                  uint64_t *expected)
{
    struct naru_pool_result result;
    int got;

    ledger->life_most_us = 0;
    while ((got = naru_pool_next(pool, &result, 20 * NR_SOON)) != -ENODATA) {
        if (got == -EOWNERDEAD) /* the old ones may still die for a while */
            continue;
        nr_check(got == 0, "%d: %s", got, naru_error_text());
        nr_check(options->order != NARU_IN_ORDER || result.number == *expected, "out of order");
        ++*expected;
        account(&result, options);
    }
}

static void live(uint64_t *random)
{
    struct naru_pool_options options = {
        .size_bytes = sizeof options,
        .workers_count = 1 + (uint32_t)(next_random(random) % 4),
        .order = next_random(random) % 2 ? NARU_IN_ORDER : NARU_AS_THEY_COME,
        .deaths_max = 2 + (uint32_t)(next_random(random) % 4),
        .tasks_max = next_random(random) % 2 ? 0 : 100,
        .results_max = next_random(random) % 2 ? 0 : 150,
        .recycle_tasks = next_random(random) % 2 ? 0 : 50,
        .init = arm,
    };
    struct naru_pool_stat stat = {.size_bytes = sizeof stat};
    bool cancels_some =
        next_random(random) % 2; /* then less can be said of how often a task is begun */
    uint64_t next = 0, expected = 0;
    struct naru_pool *pool;

    memset(ledger, 0, sizeof *ledger);
    memset(fates, UNKNOWN, sizeof fates);
    memset(cancelled, 0, sizeof cancelled);
    cancels = 0;
    ledger->life_most_us = 1000 + (int)(next_random(random) % 40000);
    nr_check_ok(naru_pool_new(&pool, work, NULL, &options));
    for (int64_t end_ns = nr_kit_now_ns() + ROUND_MS * NARU_MILLISECOND;
         nr_kit_now_ns() < end_ns;) {
        submit_some(pool, random, &next);
        fetch_some(pool, &options, random, &expected);
        if (cancels_some)
            cancel_some(pool, random, next);
    }
    drain(pool, &options, &expected);
    for (uint64_t i = 0; i < next; i++)
        nr_check(fates[i] == ANSWERED, "task %llu was never answered", (unsigned long long)i);
    nr_check_ok(naru_pool_stat(pool, &stat));
    nr_check(stat.submitted == next &&
                 stat.done + stat.failed + stat.set_aside + stat.timed_out + stat.cancelled == next,
             "%llu submitted", (unsigned long long)stat.submitted);
    nr_check(stat.waiting == 0 && stat.running == 0 && stat.unfetched == 0,
             "something is left in the pool");
    tally.deaths += stat.deaths;
    tally.recycled += stat.recycled;
    naru_pool_free(pool);
}

static int64_t budget_ns(void)
{
    const char *budget = getenv("NARU_BUDGET_S");

    return (budget ? atoll(budget) : BUDGET_S) * NARU_SECOND;
}

static void run_chaos(void *argument)
{
    uint64_t random = seed * 2654435761u + 88172645463325252ull;

    (void)argument;
    ledger = nr_kit_shared(sizeof *ledger);
    live(&random); /* what the library keeps for itself is there now */
    int fds = nr_kit_fds();
    for (int64_t end_ns = nr_kit_now_ns() + budget_ns(); nr_kit_now_ns() < end_ns;)
        live(&random);
    printf(
        "# pool: %lu tasks, %lu deaths, %lu recycled; %lu tried again and done, %lu set aside, %lu cancelled\n",
        tally.tasks, tally.deaths, tally.recycled, tally.retried, tally.set_aside, tally.cancelled);
    nr_check(nr_kit_fds() == fds, "%d descriptors, not %d", nr_kit_fds(), fds);
    nr_check(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "a process is left");
    nr_check(tally.deaths > 10 && tally.tasks > 100, "too little happened");
}

static void test_chaos(void **state)
{
    (void)state;
    if (!nr_kit_has_pidfds())
        skip();
    if (nr_kit_run(run_chaos, NULL, (int)(budget_ns() / NARU_SECOND) + 60 * nr_kit_slowness()) != 0)
        fail_msg("NARU_SEED=%llu", (unsigned long long)seed);
}

int main(void)
{
    const char *seed_text = getenv("NARU_SEED");
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_chaos)};

    seed = seed_text ? strtoull(seed_text, NULL, 10) : (uint64_t)time(NULL);
    return cmocka_run_group_tests_name("pool_chaos", tests, NULL, NULL);
}
