/* SPDX-License-Identifier: MIT */
#include "duel.h"
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BENCH_WARM_ROUND_TRIPS = 200, BENCH_WARM_MESSAGES = 200, BENCH_ALARM_S = 120 };

static double bench_clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static double bench_now_ns(void)
{
    return bench_clock_ns(CLOCK_MONOTONIC);
}

void bench_die(struct bench_link *link, const char *what)
{
    int error = errno;

    if (!link->shared->error[0])
        snprintf(link->shared->error, BENCH_ERROR_BYTES, "%s: %s", what, strerror(error));
    _exit(1);
}

void bench_die_naru(struct bench_link *link, const char *what)
{
    if (!link->shared->error[0])
        snprintf(link->shared->error, BENCH_ERROR_BYTES, "%s: %s", what, naru_error_text());
    _exit(1);
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

static void bench_duel_pin(struct bench_link *link, int cpu)
{
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(0, sizeof one, &one) < 0)
        bench_die(link, "sched_setaffinity");
}

static void bench_duel_serve(const struct bench_contestant *c, struct bench_link *link,
                             const struct bench_effort *effort)
{
    unsigned char room[BENCH_ROOM_BYTES];

    for (size_t i = 0; i < BENCH_WARM_ROUND_TRIPS + effort->round_trips; i++) {
        c->recv(link, room);
        c->send(link, room);
    }
    for (size_t i = 0; i < BENCH_WARM_MESSAGES; i++)
        c->recv(link, room);
    c->send(link, room);
    double cpu_ns = bench_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (size_t i = 0; i < effort->messages; i++)
        c->recv(link, room);
    link->shared->cpu_ns[BENCH_SERVER] = bench_clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns;
    c->send(link, room);
}

static void bench_duel_measure_latency(const struct bench_contestant *c, struct bench_link *link,
                                       size_t round_trips)
{
    unsigned char room[BENCH_ROOM_BYTES];
    double *half_ns = malloc(round_trips * sizeof *half_ns);

    if (!half_ns)
        bench_die(link, "malloc");
    memset(half_ns, 1, round_trips * sizeof *half_ns); /* its pages are there before it counts */
    memset(room, 'x', sizeof room);
    for (size_t i = 0; i < BENCH_WARM_ROUND_TRIPS; i++) {
        c->send(link, room);
        c->recv(link, room);
    }
    double before_ns = bench_now_ns();
    for (size_t i = 0; i < round_trips; i++) {
        c->send(link, room);
        c->recv(link, room);
        double after_ns = bench_now_ns();
        half_ns[i] = (after_ns - before_ns) / 2;
        before_ns = after_ns;
    }
    link->shared->latency_p50_ns = bench_rank(half_ns, round_trips, 0.50);
    link->shared->latency_p99_ns = bench_rank(half_ns, round_trips, 0.99);
    free(half_ns);
}

static void bench_duel_stream(const struct bench_contestant *c, struct bench_link *link,
                              size_t messages)
{
    unsigned char room[BENCH_ROOM_BYTES];

    memset(room, 'x', sizeof room);
    for (size_t i = 0; i < messages; i++)
        c->send(link, room);
    c->recv(link, room);
}

static void bench_duel_client(const struct bench_contestant *c, struct bench_link *link,
                              const struct bench_effort *effort)
{
    link->side = BENCH_CLIENT;
    link->shared->pid[BENCH_CLIENT] = getpid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(BENCH_ALARM_S);
    c->join(link);
    bench_duel_pin(link, effort->cpu[BENCH_CLIENT]);
    bench_duel_measure_latency(c, link, effort->round_trips);
    bench_duel_stream(c, link, BENCH_WARM_MESSAGES);
    double begin_ns = bench_now_ns(), cpu_ns = bench_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    bench_duel_stream(c, link, effort->messages);
    link->shared->stream_ns = bench_now_ns() - begin_ns;
    link->shared->cpu_ns[BENCH_CLIENT] = bench_clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns;
    if (c->leave)
        c->leave(link);
}

static int bench_duel_server(const struct bench_contestant *c, struct bench_link *link,
                             const struct bench_effort *effort)
{
    int status = 0;

    link->side = BENCH_SERVER;
    link->shared->pid[BENCH_SERVER] = getpid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(BENCH_ALARM_S);
    bench_duel_pin(link, effort->cpu[BENCH_SERVER]);
    if (c->prepare)
        c->prepare(link);
    pid_t client = fork();
    if (client < 0)
        bench_die(link, "fork");
    if (client == 0) {
        bench_duel_client(c, link, effort);
        _exit(0);
    }
    link->shared->pid[BENCH_CLIENT] = client;
    c->join(link);
    bench_duel_serve(c, link, effort);
    if (c->leave)
        c->leave(link);
    waitpid(client, &status, 0);
    if (c->remove)
        c->remove(link);
    return status;
}

int bench_duel_run(const struct bench_contestant *contestant, struct bench_link *link,
                   const struct bench_effort *effort, struct bench_result *ret)
{
    int status = 0;

    memset(link->shared, 0, sizeof *link->shared);
    fflush(NULL);
    pid_t server = fork();
    if (server == 0)
        _exit(bench_duel_server(contestant, link, effort) != 0);
    if (server < 0 || waitpid(server, &status, 0) < 0 || status != 0) {
        if (!link->shared->error[0])
            snprintf(link->shared->error, BENCH_ERROR_BYTES, "%s: a process ended with status 0x%x",
                     contestant->name, (unsigned)status);
        return -1;
    }
    *ret = (struct bench_result){
        .latency_p50_ns = link->shared->latency_p50_ns,
        .latency_p99_ns = link->shared->latency_p99_ns,
        .message_ns = link->shared->stream_ns / (double)effort->messages,
        .cpu_ns = (link->shared->cpu_ns[0] + link->shared->cpu_ns[1]) / (double)effort->messages,
    };
    return 0;
}
