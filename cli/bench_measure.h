/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * bench_measure -- one measurement of one contender: a way through the library, or another library's driver
 *
 * What       The library's contenders run in this program (bench/ours.h), a peer's in a program of its own (bench/peers/),
 *            both in the loops of bench/duel.h.
 * Death      A run that the user's signal ends, or whose processes die, leaves nothing; see duel.h.
 */
#include "ours.h"

enum nr_bench_latency {
    NR_BENCH_MIN,
    NR_BENCH_P50,
    NR_BENCH_P90,
    NR_BENCH_P99,
    NR_BENCH_P999,
    NR_BENCH_MAX,
    NR_BENCH_LATENCIES,
};

/* "min", "p50", ... */
extern const char *const nr_bench_latency_names[NR_BENCH_LATENCIES];

struct nr_bench_contender {
    const char *peer;    /* its driver's name; NULL: the library */
    const char *variant; /* of the peer */
    struct bench_ours ours;
};

/* What was not measured is 0. */
struct nr_bench_outcome {
    double latency_ns[NR_BENCH_LATENCIES]; /* one way; of a call: there and back */
    double rate_per_s;
    double cpu_ns, switches; /* a message, all processes together */
    double alone_ns;         /* one thread, a message in and out */
};

enum { NR_BENCH_CANNOT = 1 }; /* the contender does not do such a thing: no failure */

/* Where the drivers of the peers are. */
extern const char *nr_bench_peers_directory;

/* Runs the task, which bench_ours_shape() has seen if it is for the library, and fills in its part of *ret. 0; NR_BENCH_CANNOT with the reason; or -1 with it. */
int nr_bench_measure(struct nr_bench_contender *contender, const struct bench_task *task,
                     struct nr_bench_outcome *ret, char reason[BENCH_ERROR_BYTES]);

/* The probe that such a task is held against, and what it takes one way (of a call there and back): 0, or -1 with the reason. */
const struct bench_contestant *nr_bench_probe(const struct bench_task *task);
int nr_bench_measure_probe(const struct bench_task *task, double *ret_ns,
                           char reason[BENCH_ERROR_BYTES]);

/* "shm", "shm 1:1", "shm topic", "ck spsc". Returns `text`. */
enum { NR_BENCH_NAME_BYTES = 48 };
const char *nr_bench_name(const struct nr_bench_contender *contender,
                          char text[NR_BENCH_NAME_BYTES]);
