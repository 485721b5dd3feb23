/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * bench_row -- a row of `naru bench`: latency, rate, and the probe around them
 *
 * What       Probe, latency, probe, rate, probe. Where two virtual cores sit decides more than the software, and the host
 *            moves them about: a row whose probe has moved by more than a sixth in between is measured again, up to
 *            twice, and if it never settled the one that moved least stands, and is marked.
 */
#include "bench_measure.h"

enum nr_bench_mode {
    NR_BENCH_MODE_SPIN,
    NR_BENCH_MODE_BLOCK,
    NR_BENCH_MODE_EPOLL,
    NR_BENCH_MODE_ALONE
};

extern const char *const nr_bench_mode_names[4];

struct nr_bench_row {
    struct nr_bench_contender contender;
    enum nr_bench_mode mode;
    struct bench_task task; /* its measure is set in turn */
    struct nr_bench_outcome outcome;
    double probe_ns;     /* 0: there is none */
    double probe_spread; /* largest by smallest, minus 1 */
    unsigned repeats;
    bool is_unsettled;
    char reason[BENCH_ERROR_BYTES]; /* "" if it was measured */
};

/* As nr_bench_measure(). */
int nr_bench_row_measure(struct nr_bench_row *row);

/* The median latency by the probe's; 0: there is none. */
double nr_bench_row_ratio(const struct nr_bench_row *row);
