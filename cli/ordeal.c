/* SPDX-License-Identifier: MIT */
#include "ordeal.h"
#include "output.h"
#include "stop.h"
#include <errno.h>
#include <naru/pool.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

enum {
    NR_ORDEAL_LIFE_US = 15000,   /* of a worker, at most */
    NR_ORDEAL_TASKS_MOST = 2000, /* at once */
    NR_ORDEAL_DEATHS_MAX = 20,   /* only what kills always gets so far */
    NR_ORDEAL_POISON = 100,      /* the number of that task */
};
#define NR_ORDEAL_NS (NARU_SECOND / 2)

/* -- a worker ---------------------------------------------------------------------------------- */

static int nr_ordeal_doom(uint32_t worker, void *context)
{
    uint64_t random = (uint64_t)nr_output_now_ns() * 0x9e3779b97f4a7c15u ^ (uint64_t)getpid();
    struct itimerval life = {.it_value.tv_usec = 500 + (long)((random >> 20) % NR_ORDEAL_LIFE_US)};

    (void)worker;
    (void)context;
    return setitimer(ITIMER_REAL, &life, NULL);
}

static uint64_t nr_ordeal_answer(uint64_t number)
{
    uint64_t sum = 0;

    for (uint64_t i = 1; i <= 100 + number % 1000; i++)
        sum = sum * 31 + (number ^ i);
    return sum;
}

static int nr_ordeal_work(struct naru_pool_task *task, void *context)
{
    uint64_t answer = nr_ordeal_answer(task->number);

    (void)context;
    if (task->number == NR_ORDEAL_POISON)
        raise(SIGKILL);
    return naru_pool_reply(task, &answer, sizeof answer);
}

/* -- the owner --------------------------------------------------------------------------------- */

struct nr_ordeal_ledger {
    struct nr_ordeal *ordeal;
    struct naru_pool *pool;
    uint64_t submitted, answered;
    unsigned char *is_answered; /* by number */
    uint64_t room;
};

static int nr_ordeal_fail(struct nr_ordeal *ordeal, const char *what)
{
    snprintf(ordeal->reason, sizeof ordeal->reason, "%s", what);
    return -1;
}

static int nr_ordeal_submit(struct nr_ordeal_ledger *ledger)
{
    while (ledger->submitted - ledger->answered < NR_ORDEAL_TASKS_MOST) {
        if (ledger->submitted == ledger->room) {
            uint64_t room = 2 * ledger->room + 65536;
            unsigned char *more = realloc(ledger->is_answered, room);
            if (!more)
                return nr_ordeal_fail(ledger->ordeal, "no memory");
            memset(more + ledger->room, 0, room - ledger->room);
            ledger->is_answered = more;
            ledger->room = room;
        }
        int code = naru_pool_submit(ledger->pool, NULL, 0, NULL, 0);
        if (code == -EAGAIN)
            return 0;
        if (code < 0)
            return nr_ordeal_fail(ledger->ordeal, naru_error_text());
        ledger->submitted++;
    }
    return 0;
}

static int nr_ordeal_judge(struct nr_ordeal_ledger *ledger, const struct naru_pool_result *result)
{
    uint64_t answer = nr_ordeal_answer(result->number);
    bool is_poison = result->number == NR_ORDEAL_POISON;

    if (result->number >= ledger->submitted || ledger->is_answered[result->number])
        return nr_ordeal_fail(ledger->ordeal, "a task was answered twice");
    ledger->is_answered[result->number] = 1;
    ledger->answered++;
    if (is_poison && result->outcome == NARU_POOL_SET_ASIDE && result->death) {
        snprintf(ledger->ordeal->cause, sizeof ledger->ordeal->cause, "%s", result->death->text);
        return 0;
    }
    if (is_poison || result->outcome != NARU_POOL_DONE || result->size_bytes != sizeof answer ||
        memcmp(result->data, &answer, sizeof answer) != 0)
        return nr_ordeal_fail(ledger->ordeal, "a task has a wrong answer, or none");
    return 0;
}

static int nr_ordeal_go(struct nr_ordeal_ledger *ledger)
{
    int64_t end_ns = nr_output_now_ns() + NR_ORDEAL_NS;
    struct naru_pool_result result;

    for (;;) {
        bool goes_on = nr_output_now_ns() < end_ns;
        if (nr_stop_signal())
            return nr_ordeal_fail(ledger->ordeal, "interrupted");
        if (goes_on && nr_ordeal_submit(ledger) < 0)
            return -1;
        int code = naru_pool_next(ledger->pool, &result, 10 * NARU_SECOND);
        if (code == -ENODATA && !goes_on)
            return 0;
        if (code == -EINTR || code == -ENODATA || code == -EOWNERDEAD)
            continue;
        if (code < 0)
            return nr_ordeal_fail(ledger->ordeal, naru_error_text());
        if (nr_ordeal_judge(ledger, &result) < 0)
            return -1;
    }
}

int nr_ordeal_run(struct nr_ordeal *ordeal)
{
    const struct naru_pool_options options = {.size_bytes = sizeof options,
                                              .workers_count = NR_ORDEAL_WORKERS,
                                              .deaths_max = NR_ORDEAL_DEATHS_MAX,
                                              .init = nr_ordeal_doom};
    struct naru_pool_stat stat = {.size_bytes = sizeof stat};
    struct nr_ordeal_ledger ledger = {.ordeal = ordeal};
    int64_t start_ns = nr_output_now_ns();

    *ordeal = (struct nr_ordeal){0};
    if (naru_pool_new(&ledger.pool, nr_ordeal_work, NULL, &options) < 0)
        return nr_ordeal_fail(ordeal, naru_error_text());
    nr_stop_watch_pool(ledger.pool);
    int code = nr_ordeal_go(&ledger);
    nr_stop_watch_pool(NULL);
    if (code == 0 && naru_pool_stat(ledger.pool, &stat) == 0) {
        ordeal->tasks = stat.submitted;
        ordeal->deaths = stat.deaths;
        ordeal->retries = stat.retries;
        ordeal->set_aside = stat.set_aside;
    }
    naru_pool_free(ledger.pool);
    free(ledger.is_answered);
    ordeal->duration_ns = nr_output_now_ns() - start_ns;
    if (code == 0 && (ordeal->deaths == 0 || ordeal->set_aside != 1))
        return nr_ordeal_fail(ordeal, "too little happened");
    return code;
}
