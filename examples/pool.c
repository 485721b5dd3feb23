/* SPDX-License-Identifier: MIT */
/*
 * pool: counts the primes below a number with several processes, and shows what a pool makes of a worker that dies
 *
 *     pool [BELOW]
 */
#include <naru/pool.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { SHARES = 40 };

struct share {
    long from, to;
};

/* In a worker. The result is what it replies. */
static int count_primes(struct naru_pool_task *task, void *context)
{
    const struct share *share = task->data;
    long count = 0;

    (void)context;
    if (task->number == 7 && task->attempt == 1)
        raise(SIGKILL); /* the machine is unkind; another worker gets the task */
    for (long number = share->from > 2 ? share->from : 2; number < share->to; number++) {
        long divisor = 2;
        while (divisor * divisor <= number && number % divisor)
            divisor++;
        count += divisor * divisor > number;
    }
    return naru_pool_reply(task, &count, sizeof count);
}

int main(int argc, char **argv)
{
    struct naru_pool_options options = {.size_bytes = sizeof options, .workers_count = 4};
    long below = argc > 1 ? atol(argv[1]) : 200000, total = 0, counts[SHARES];
    struct share shares[SHARES];
    struct naru_pool_stat stat = {.size_bytes = sizeof stat};
    struct naru_pool *pool;

    for (long i = 0; i < SHARES; i++)
        shares[i] = (struct share){below * i / SHARES, below * (i + 1) / SHARES};
    struct naru_pool_array items = {shares, sizeof shares[0], SHARES};
    struct naru_pool_array results = {counts, sizeof counts[0], SHARES};

    if (naru_pool_new(&pool, count_primes, NULL, &options) < 0 ||
        naru_pool_map(pool, &items, &results, NARU_FOREVER) != 0 ||
        naru_pool_stat(pool, &stat) < 0) {
        fprintf(stderr, "%s\n", naru_error_text());
        return 1;
    }
    for (int i = 0; i < SHARES; i++)
        total += counts[i];
    printf("%ld primes below %ld\n", total, below);
    printf("%d of %d tasks done, %d worker died\n", (int)stat.done, SHARES, (int)stat.deaths);
    naru_pool_free(pool);
    return 0;
}
