/* SPDX-License-Identifier: MIT */
/*
 * gather_pool -- the sum by a pool: a worker that dies gives its share to another one, and the sum is told all the same
 */
#include "gather.h"
#include "output.h"
#include "stop.h"
#include <errno.h>
#include <naru/pool.h>
#include <stdio.h>
#include <string.h>

struct nr_gather_part {
    uint64_t high, low;
};

static int nr_gather_pool_work(struct naru_pool_task *task, void *context)
{
    const struct nr_gather_request *request = context;
    unsigned index;

    memcpy(&index, task->data, sizeof index);
    __int128 total = nr_share_add(nr_share_of(request->range, request->workers_count, index));
    const struct nr_gather_part part = {.high = (uint64_t)((unsigned __int128)total >> 64),
                                        .low = (uint64_t)total};
    return naru_pool_reply(task, &part, sizeof part);
}

static int nr_gather_pool_fail(char reason[NR_GATHER_REASON_BYTES], const char *what)
{
    snprintf(reason, NR_GATHER_REASON_BYTES, "cannot %s: %s", what, naru_error_text());
    return -1;
}

static int nr_gather_pool_add(struct nr_gather_result *sum, const struct naru_pool_result *result,
                              char reason[NR_GATHER_REASON_BYTES])
{
    struct nr_gather_part part;

    if (result->outcome != NARU_POOL_DONE || result->size_bytes != sizeof part) {
        snprintf(reason, NR_GATHER_REASON_BYTES, "share %u has no sum: %s",
                 (unsigned)result->number + 1, result->death ? result->death->text : "it failed");
        return -1;
    }
    memcpy(&part, result->data, sizeof part);
    sum->sum += (__int128)((unsigned __int128)part.high << 64 | part.low);
    return 0;
}

static int nr_gather_pool_collect(struct naru_pool *pool, struct nr_gather_result *sum,
                                  unsigned count, char reason[NR_GATHER_REASON_BYTES])
{
    struct naru_pool_result result;

    for (unsigned i = 0; i < count; i++)
        if (naru_pool_submit(pool, &i, sizeof i, NULL, NARU_FOREVER) < 0)
            return nr_gather_pool_fail(reason, "submit a share");
    for (unsigned answered = 0; answered < count;) {
        if (nr_stop_signal()) {
            snprintf(reason, NR_GATHER_REASON_BYTES, "interrupted by SIG%s",
                     sigabbrev_np(nr_stop_signal()));
            return -1;
        }
        int code = naru_pool_next(pool, &result, NARU_FOREVER);
        if (code == -EINTR)
            continue;
        if (code < 0)
            return nr_gather_pool_fail(reason, "get the parts");
        if (nr_gather_pool_add(sum, &result, reason) < 0)
            return -1;
        answered++;
    }
    return 0;
}

int nr_gather_by_pool(struct nr_gather_result *ret, const struct nr_gather_request *request,
                      char reason[NR_GATHER_REASON_BYTES])
{
    struct naru_pool_options options = {.size_bytes = sizeof options,
                                        .workers_count = request->workers_count,
                                        .starts_at_once = 1}; /* their start is told apart */
    struct nr_gather_request copy = *request;
    struct nr_gather_result result = {0};
    struct naru_pool *pool;
    int64_t start_ns = nr_output_now_ns();

    if (naru_pool_new(&pool, nr_gather_pool_work, &copy, &options) < 0)
        return nr_gather_pool_fail(reason, "start the workers");
    result.spawn_ns = nr_output_now_ns() - start_ns;
    nr_stop_watch_pool(pool);
    int code = nr_gather_pool_collect(pool, &result, request->workers_count, reason);
    nr_stop_watch_pool(NULL);
    naru_pool_free(pool);
    result.total_ns = nr_output_now_ns() - start_ns;
    if (code == 0)
        *ret = result;
    return code;
}
