/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * bench_rounds -- several contenders in turns, round by round, so that all meet the same machine
 *
 * What       In each round each entry is measured once, its latency right behind a probe of the same payload. What
 *            stands in the entry at the end are medians over the rounds; the ratio is that of the rounds' ratios.
 */
#include "bench_measure.h"

struct nr_bench_entry {
    struct nr_bench_contender contender;
    struct bench_task task;    /* its measure is set in turn */
    bool latency, rate, alone; /* what is wanted */
    int code;                  /* 0; NR_BENCH_CANNOT; or -1 */
    struct nr_bench_outcome outcome;
    double probe_ns, ratio;
    char reason[BENCH_ERROR_BYTES];
};

enum { NR_BENCH_ROUNDS_MAX = 31, NR_BENCH_ENTRIES_MAX = 32 };

/* `progress` is called before each entry of each round. Ends early when the user wants no more. */
void nr_bench_rounds(struct nr_bench_entry *entries, unsigned count, unsigned rounds,
                     void (*progress)(const struct nr_bench_entry *));
