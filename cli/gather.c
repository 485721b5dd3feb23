/* SPDX-License-Identifier: MIT */
#include "gather.h"
#include "command.h"
#include "output.h"
#include "stop.h"
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct nr_gather_way *const nr_gather_ways[] = {
    &nr_gather_file, &nr_gather_pipe,     &nr_gather_fifo,   &nr_gather_mq,
    &nr_gather_sysv, &nr_gather_shm,      &nr_gather_signal, &nr_gather_semaphore,
    &nr_gather_unix, &nr_gather_abstract, &nr_gather_tcp,
};
enum { NR_GATHER_WAYS_COUNT = sizeof nr_gather_ways / sizeof nr_gather_ways[0] };

const char *nr_gather_technique(unsigned index)
{
    return index < NR_GATHER_WAYS_COUNT ? nr_gather_ways[index]->name : NULL;
}

int nr_gather_fail(struct nr_gather *gather, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(gather->reason, NR_GATHER_REASON_BYTES, format, arguments);
    va_end(arguments);
    return -1;
}

int nr_gather_fail_naru(struct nr_gather *gather, const char *what, int error)
{
    const char *text = naru_error_text();

    return nr_gather_fail(gather, "cannot %s: %s", what, text[0] ? text : strerror(-error));
}

int nr_gather_complain(unsigned index, const char *what)
{
    nr_output_complain("worker %u cannot %s: %s", index + 1, what, naru_error_text());
    return NR_EXIT_FAILURE;
}

struct nr_range nr_gather_share(const struct nr_gather *gather, unsigned index)
{
    return nr_share_of(gather->request->range, gather->request->workers_count, index);
}

int nr_gather_check(struct nr_gather *gather)
{
    char cause[200];

    if (nr_stop_signal())
        return nr_gather_fail(gather, "interrupted by SIG%s", sigabbrev_np(nr_stop_signal()));
    if (nr_stop_take_alarm())
        return nr_gather_fail(gather, "the time was over with %u parts missing",
                              gather->missing_count);
    if (nr_stop_take_child())
        nr_crew_reap(&gather->crew);
    if (gather->crew.casualty >= 0)
        return nr_gather_fail(gather, "%s; there is no sum",
                              nr_crew_casualty(&gather->crew, cause, sizeof cause));
    return 0;
}

int nr_gather_add(struct nr_gather *gather, unsigned index, __int128 part)
{
    if (index >= gather->request->workers_count)
        return nr_gather_fail(gather, "a part came from worker %u, and there is no such",
                              index + 1);
    if (gather->has_part[index])
        return nr_gather_fail(gather, "the part of worker %u came twice", index + 1);
    gather->has_part[index] = true;
    gather->missing_count--;
    gather->sum += part;
    return 0;
}

static int nr_gather_worker(void *context, unsigned index)
{
    struct nr_gather *gather = context;

    return gather->way->work(gather, index);
}

static int nr_gather_start_workers(struct nr_gather *gather)
{
    const struct nr_gather_way *way = gather->way;

    for (unsigned i = 0; i < gather->request->workers_count; i++) {
        if (nr_gather_check(gather) < 0 || (way->before_fork && way->before_fork(gather, i) < 0))
            return -1;
        pid_t pid = nr_crew_start(&gather->crew, nr_gather_worker, gather);
        if (pid == -EAGAIN)
            return nr_gather_fail(
                gather,
                "cannot start worker %u of %u: the limit of processes is reached; "
                "raise it (ulimit -u) or ask for fewer workers",
                i + 1, gather->request->workers_count);
        if (pid < 0)
            return nr_gather_fail(gather, "cannot start worker %u of %u: %s", i + 1,
                                  gather->request->workers_count, strerror(-pid));
        if (way->after_fork && way->after_fork(gather, i, pid) < 0)
            return -1;
    }
    return 0;
}

/* All parts are there: a worker may still fail on its way out, and then something was wrong. */
static int nr_gather_wait_for_ends(struct nr_gather *gather)
{
    sigset_t all, before;
    int result;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    nr_crew_reap(&gather->crew);
    while ((result = nr_gather_check(gather)) == 0 && gather->crew.alive_count)
        sigsuspend(&before);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return result;
}

static int nr_gather_all(struct nr_gather *gather, struct nr_gather_result *result,
                         int64_t start_ns)
{
    if (gather->way->open(gather) < 0 || nr_gather_start_workers(gather) < 0)
        return -1;
    result->spawn_ns = nr_output_now_ns() - start_ns;
    if (gather->way->collect(gather) < 0 || nr_gather_wait_for_ends(gather) < 0)
        return -1;
    result->total_ns = nr_output_now_ns() - start_ns;
    result->sum = gather->sum;
    return 0;
}

int nr_gather_run(struct nr_gather_result *ret, const struct nr_gather_request *request,
                  char reason[NR_GATHER_REASON_BYTES])
{
    int64_t start_ns = nr_output_now_ns();
    struct nr_gather_result result = {0};
    struct nr_gather gather = {
        .request = request,
        .missing_count = request->workers_count,
        .reason = reason,
    };

    for (unsigned i = 0; i < NR_GATHER_WAYS_COUNT; i++)
        if (strcmp(nr_gather_ways[i]->name, request->technique) == 0)
            gather.way = nr_gather_ways[i];
    if (!gather.way)
        return nr_gather_fail(&gather, "there is no technique \"%s\"", request->technique);
    if (nr_crew_init(&gather.crew, request->workers_count) < 0)
        return nr_gather_fail(&gather, "there is no memory for %u workers", request->workers_count);
    nr_scratch_init(&gather.scratch);
    int code = nr_gather_all(&gather, &result, start_ns);
    /* The workers first: who is killed now holds nothing that the rest would wait for. */
    nr_stop_watch(NULL);
    nr_crew_deinit(&gather.crew);
    gather.way->close(&gather);
    nr_scratch_deinit(&gather.scratch);
    if (code == 0)
        *ret = result;
    return code;
}
