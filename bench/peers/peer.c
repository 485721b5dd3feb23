/* SPDX-License-Identifier: MIT */
#include "peer.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PEER_NUMBERS = 12 };

static volatile sig_atomic_t peer_stopped;

static void peer_stop(int number)
{
    peer_stopped = number;
}

static bool peer_is_stopped(void)
{
    return peer_stopped;
}

const char *bench_peer_name(const struct bench_link *link, const char *prefix,
                            char text[BENCH_NAME_BYTES])
{
    snprintf(text, BENCH_NAME_BYTES, "%snaru-peer-%d", prefix,
             (int)link->shared->pid[BENCH_SERVER]);
    return text;
}

static int peer_refuse(const char *why)
{
    puts(why);
    return 3;
}

static struct bench_task peer_task(char **numbers)
{
    long long n[PEER_NUMBERS];

    for (int i = 0; i < PEER_NUMBERS; i++)
        n[i] = atoll(numbers[i]);
    return (struct bench_task){
        .measure = (enum bench_measure)n[0],
        .wait = (enum bench_wait)n[1],
        .size_bytes = (size_t)n[2],
        .senders = (unsigned)n[3],
        .receivers = (unsigned)n[4],
        .batch = (unsigned)n[5],
        .loan = n[6],
        .capacity = (size_t)n[7],
        .cpu = {(int)n[8], (int)n[9]},
        .duration_ns = n[10],
        .participants = (unsigned)n[11],
    };
}

static void peer_print(const struct bench_task *task, const struct bench_result *result)
{
    const struct bench_histogram *rounds = &result->round_trips;

    if (task->measure == BENCH_LATENCY) {
        printf("min %.3f\np50 %.3f\np90 %.3f\np99 %.3f\np99.9 %.3f\nmax %.3f\n",
               (double)rounds->min / 2, bench_histogram_rank(rounds, 0.5) / 2,
               bench_histogram_rank(rounds, 0.9) / 2, bench_histogram_rank(rounds, 0.99) / 2,
               bench_histogram_rank(rounds, 0.999) / 2, (double)rounds->max / 2);
        return;
    }
    double messages = result->messages > 0 ? result->messages : 1;
    printf("rate %.3f\ncpu %.3f\nswitches %.6f\n", result->messages * 1e9 / result->window_ns,
           result->cpu_ns / messages, result->switches / messages);
}

int main(int argc, char **argv)
{
    static struct bench_result result;
    static char error[BENCH_ERROR_BYTES];
    const struct sigaction action = {.sa_handler = peer_stop};
    const struct bench_peer *peer = bench_peers;

    if (argc != 2 + PEER_NUMBERS) {
        fprintf(stderr, "this is for `naru bench --compare`\n");
        return 2;
    }
    while (peer->variant && strcmp(peer->variant, argv[1]) != 0)
        peer++;
    if (!peer->variant)
        return peer_refuse("there is no such variant");
    struct bench_task task = peer_task(argv + 2);
    if (task.batch > 1 || task.loan || task.participants || task.measure == BENCH_ALONE)
        return peer_refuse("not measured");
    const char *obstacle = peer->obstacle ? peer->obstacle(&task) : NULL;
    if (obstacle)
        return peer_refuse(obstacle);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    bench_duel_is_stopped = peer_is_stopped;
    if (bench_duel_run(peer->contestant, &task, &result, error) < 0) {
        puts(error);
        return 1;
    }
    peer_print(&task, &result);
    return 0;
}
