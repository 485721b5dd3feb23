/* SPDX-License-Identifier: MIT */
#include "sum.h"
#include "json.h"
#include "query.h"
#include <errno.h>
#include <naru/pool.h>
#include <stdio.h>
#include <stdlib.h>

enum { NR_SUM_WORKERS_MAX = 16 };
static const int64_t nr_sum_most = 1000000000;

struct nr_sum_part {
    int64_t first, last;
};

/* One after the other, as the classic has it: work, not a formula. */
static int nr_sum_work(struct naru_pool_task *task, void *context)
{
    const struct nr_sum_part *part = task->data;
    int64_t sum = 0;

    (void)context;
    for (int64_t i = part->first; i <= part->last; i++) {
        sum += i;
        __asm__ volatile("" : "+r"(sum));
    }
    return naru_pool_reply(task, &sum, sizeof sum);
}

static int nr_sum_over(int64_t from, int64_t to, int workers, __int128 *ret)
{
    struct naru_pool_options options = {
        .size_bytes = sizeof options,
        .workers_count = (uint32_t)workers,
        .grace_ns = 100 * NARU_MILLISECOND,
    };
    struct nr_sum_part parts[NR_SUM_WORKERS_MAX];
    int64_t sums[NR_SUM_WORKERS_MAX];
    struct naru_pool_array items = {parts, sizeof parts[0], (size_t)workers};
    struct naru_pool_array results = {sums, sizeof sums[0], (size_t)workers};
    struct naru_pool *pool;
    int64_t count = to - from + 1;

    for (int i = 0; i < workers; i++)
        parts[i] =
            (struct nr_sum_part){from + count * i / workers, from + count * (i + 1) / workers - 1};
    int result = naru_pool_new(&pool, nr_sum_work, NULL, &options);
    if (result < 0)
        return result;
    result = naru_pool_map(pool, &items, &results, 10 * NARU_SECOND);
    naru_pool_free(pool);
    if (result)
        return result > 0 ? -EIO : result;
    *ret = 0;
    for (int i = 0; i < workers; i++)
        *ret += sums[i];
    return 0;
}

void nr_sum_answer(const struct nr_http_request *request, struct nr_http_answer *answer)
{
    int64_t from = 1, to = 10000, workers = 10;
    __int128 sum = 0;
    char *text = NULL;
    size_t size_bytes;

    if (!nr_query_integer(request->query, "from", -nr_sum_most, nr_sum_most, &from) ||
        !nr_query_integer(request->query, "to", -nr_sum_most, nr_sum_most, &to) ||
        !nr_query_integer(request->query, "workers", 1, NR_SUM_WORKERS_MAX, &workers) ||
        to < from || to - from >= nr_sum_most) {
        nr_http_say(answer, 400,
                    "/sum?from=A&to=B&workers=N: A up to B, at most 1e9 numbers between -1e9 and "
                    "1e9, and 1 to 16 workers");
        return;
    }
    int result = nr_sum_over(from, to, (int)workers, &sum);
    if (result < 0) {
        nr_http_say(answer, 503, naru_error_text());
        return;
    }
    struct nr_json json = {.file = open_memstream(&text, &size_bytes)};
    if (!json.file) {
        nr_http_say(answer, 503, "no memory");
        return;
    }
    nr_json_begin(&json, NULL, '{');
    nr_json_integer(&json, "from", from);
    nr_json_integer(&json, "to", to);
    nr_json_integer(&json, "workers", workers);
    nr_json_integer(&json, "sum", sum);
    nr_json_end(&json, '}');
    fputc('\n', json.file);
    fclose(json.file);
    answer->status = 200;
    answer->body = NR_HTTP_ALLOCATED;
    answer->data = text;
    answer->size_bytes = size_bytes;
    nr_http_field(answer, "Content-Type", "application/json");
}
