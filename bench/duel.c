/* SPDX-License-Identifier: MIT */
#include "duel_work.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BENCH_WARM_PART = 4 /* of the duration */ };
#define BENCH_WINDOW_MAX_NS ((int64_t)5000000000)
#define BENCH_NAP_NS        ((int64_t)200000) /* between two looks at the others, before the run */

bool (*bench_duel_is_stopped)(void);

static int64_t bench_clock_ns(clockid_t clock)
{
    struct timespec now;

    if (clock_gettime(clock, &now) < 0)
        return 0;
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t bench_now_ns(void)
{
    return bench_clock_ns(CLOCK_MONOTONIC);
}

/* Ends early by a signal: who naps looks again. */
void bench_nap(int64_t duration_ns)
{
    struct timespec duration = {duration_ns / 1000000000, duration_ns % 1000000000};

    nanosleep(&duration, NULL);
}

static int bench_compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

double bench_rank(double *values, size_t count, double rank)
{
    qsort(values, count, sizeof values[0], bench_compare);
    return values[(size_t)(rank * (double)(count - 1) + 0.5)];
}

/* -- the caller ----------------------------------------------------------------------------------------- */

struct bench_look {
    int64_t at_ns;
    double messages, cpu_ns, switches;
};

double bench_duel_switches(pid_t pid)
{
    char path[64], line[128];
    double all = 0, count;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "voluntary_ctxt_switches: %lf", &count) == 1 ||
            sscanf(line, "nonvoluntary_ctxt_switches: %lf", &count) == 1)
            all += count;
    if (file)
        fclose(file);
    return all;
}

static struct bench_look bench_duel_look(const struct bench_link *link)
{
    const struct bench_task *task = link->task;
    struct bench_look look = {.at_ns = bench_now_ns()};
    unsigned receivers = task->receivers;

    /* What may be replaced is counted where it is sent. */
    for (unsigned i = task->only_newest ? receivers : 0;
         i < (task->only_newest ? receivers + task->senders : receivers); i++)
        look.messages +=
            (double)__atomic_load_n(&link->shared->workers[i].messages, __ATOMIC_RELAXED);
    if (task->each_to_all && !task->only_newest)
        look.messages /= receivers;
    for (unsigned i = 0; i < receivers + task->senders; i++) {
        pid_t pid = link->shared->workers[i].pid;
        clockid_t clock;
        if (clock_getcpuclockid(pid, &clock) == 0)
            look.cpu_ns += (double)bench_clock_ns(clock);
        look.switches += bench_duel_switches(pid);
    }
    return look;
}

/* Reaps the server if it has ended, or (flags 0) waits for that. */
static bool bench_duel_has_ended(pid_t server, int *ret_status, int flags)
{
    pid_t pid = waitpid(server, ret_status, flags);

    return pid == server || (pid < 0 && errno != EINTR);
}

static bool bench_duel_must_stop(void)
{
    return bench_duel_is_stopped && bench_duel_is_stopped();
}

/* Naps until `until_ns`. False: the server has ended, or the user wants no more. */
static bool bench_duel_wait_until(pid_t server, int *ret_status, int64_t until_ns)
{
    for (;;) {
        int64_t left_ns = until_ns - bench_now_ns();
        if (left_ns <= 0)
            return true;
        if (bench_duel_must_stop())
            return false;
        bench_nap(left_ns);
        if (bench_now_ns() < until_ns && bench_duel_has_ended(server, ret_status, WNOHANG))
            return false;
    }
}

static bool bench_duel_wait_for_all(const struct bench_link *link, pid_t server, bool *ret_ended,
                                    int *ret_status)
{
    while (__atomic_load_n(&link->shared->ready_count, __ATOMIC_ACQUIRE) <
           bench_duel_total(link->task)) {
        *ret_ended = bench_duel_has_ended(server, ret_status, WNOHANG);
        if (*ret_ended || bench_duel_must_stop())
            return false;
        bench_nap(BENCH_NAP_NS);
    }
    if (link->contestant->opened)
        link->contestant->opened(link);
    return true;
}

static bool bench_duel_watch_rate(const struct bench_link *link, pid_t server, int *ret_status,
                                  struct bench_result *ret)
{
    int64_t duration_ns = link->task->duration_ns;

    if (!bench_duel_wait_until(server, ret_status, bench_now_ns() + duration_ns / BENCH_WARM_PART))
        return false;
    struct bench_look first = bench_duel_look(link), last;
    int64_t until_ns = first.at_ns;
    do { /* on a busy machine nothing may have come */
        until_ns += duration_ns;
        if (!bench_duel_wait_until(server, ret_status, until_ns))
            return false;
        last = bench_duel_look(link);
    } while (last.messages <= first.messages && last.at_ns - first.at_ns < BENCH_WINDOW_MAX_NS);
    __atomic_store_n(&link->shared->stop, 1, __ATOMIC_RELEASE);
    ret->messages = last.messages - first.messages;
    ret->window_ns = (double)(last.at_ns - first.at_ns);
    ret->cpu_ns = last.cpu_ns - first.cpu_ns;
    ret->switches = last.switches - first.switches;
    return true;
}

static int bench_duel_watch(struct bench_link *link, pid_t server, struct bench_result *ret)
{
    bool ended = false;
    int status = 0;

    if (bench_duel_wait_for_all(link, server, &ended, &status) &&
        (link->task->measure != BENCH_RATE || bench_duel_watch_rate(link, server, &status, ret)))
        while (!ended && !bench_duel_must_stop())
            ended = bench_duel_has_ended(server, &status, 0);
    if (!ended && !bench_duel_has_ended(server, &status, WNOHANG)) {
        kill(server, SIGKILL);
        while (!bench_duel_has_ended(server, &status, 0))
            ;
    }
    if (bench_duel_must_stop())
        snprintf(link->shared->error, BENCH_ERROR_BYTES, "interrupted");
    else if (status != 0 && !link->shared->error[0])
        snprintf(link->shared->error, BENCH_ERROR_BYTES, "%s: a process ended with status 0x%x%s",
                 link->contestant->name, (unsigned)status,
                 WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? ": it hung" : "");
    ret->round_trips = link->shared->round_trips;
    if (link->task->measure == BENCH_ALONE) {
        ret->messages = (double)link->shared->workers[0].messages;
        ret->window_ns = (double)link->shared->alone_ns;
    }
    return link->shared->error[0] ? -1 : 0;
}

/* The server begins with default signals: the caller's handlers are not its own. */
static pid_t bench_duel_start(struct bench_link *link)
{
    static const int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGCHLD, SIGALRM};
    pid_t above = getpid();
    sigset_t all, before;

    fflush(NULL);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t server = fork();
    if (server == 0) {
        for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++)
            signal(caught[i], SIG_DFL);
        sigprocmask(SIG_SETMASK, &before, NULL);
        if (link->task->measure == BENCH_ALONE)
            bench_duel_serve_alone(link, above);
        else
            bench_duel_serve(link, above);
        exit(0); /* not _exit(): a peer's library may have to tidy up */
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return server;
}

static void *bench_duel_map(size_t bytes)
{
    void *map =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    return map == MAP_FAILED ? NULL : map;
}

int bench_duel_run(const struct bench_contestant *contestant, const struct bench_task *task,
                   struct bench_result *ret, char error[BENCH_ERROR_BYTES])
{
    size_t area_bytes = contestant->area_bytes ? contestant->area_bytes(task) : 1;
    struct bench_link link = {
        .contestant = contestant,
        .task = task,
        .shared = bench_duel_map(sizeof *link.shared),
        .area = bench_duel_map(area_bytes),
        .size_bytes = task->size_bytes,
        .one_way = task->measure != BENCH_LATENCY,
        .in_fd = -1,
        .out_fd = -1,
        .epoll_fd = -1,
        .listen_fd = -1,
    };
    int result = -1;

    *ret = (struct bench_result){0};
    pid_t server = link.shared && link.area ? bench_duel_start(&link) : -1;
    if (server < 0) {
        snprintf(error, BENCH_ERROR_BYTES, "a run can't start: %s", strerror(errno));
    } else {
        result = bench_duel_watch(&link, server, ret);
        memcpy(error, link.shared->error, BENCH_ERROR_BYTES);
    }
    if (link.shared)
        munmap(link.shared, sizeof *link.shared);
    if (link.area)
        munmap(link.area, area_bytes);
    return result;
}
