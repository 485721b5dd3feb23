/* SPDX-License-Identifier: MIT */
#include "bench_row.h"

enum { NR_BENCH_ROW_REPEATS_MAX = 2, NR_BENCH_ROW_PROBES = 3 };
#define NR_BENCH_ROW_SPREAD 0.17

const char *const nr_bench_mode_names[4] = {
    [NR_BENCH_MODE_SPIN] = "spin",
    [NR_BENCH_MODE_BLOCK] = "block",
    [NR_BENCH_MODE_EPOLL] = "epoll",
    [NR_BENCH_MODE_ALONE] = "alone",
};

static int nr_bench_row_probe(struct nr_bench_row *row, double *ret_ns)
{
    if (row->mode == NR_BENCH_MODE_ALONE)
        return 0;
    return nr_bench_measure_probe(&row->task, ret_ns, row->reason);
}

static int nr_bench_row_part(struct nr_bench_row *row, enum bench_measure measure)
{
    row->task.measure = measure;
    return nr_bench_measure(&row->contender, &row->task, &row->outcome, row->reason);
}

static int nr_bench_row_try(struct nr_bench_row *row)
{
    bool alone = row->mode == NR_BENCH_MODE_ALONE;
    double probes[NR_BENCH_ROW_PROBES] = {0};
    int code = nr_bench_row_probe(row, &probes[0]);

    if (code == 0)
        code = nr_bench_row_part(row, alone ? BENCH_ALONE : BENCH_LATENCY);
    if (code == 0)
        code = nr_bench_row_probe(row, &probes[1]);
    if (code == 0 && !alone)
        code = nr_bench_row_part(row, BENCH_RATE);
    if (code == 0)
        code = nr_bench_row_probe(row, &probes[2]);
    if (code != 0 || alone)
        return code;
    row->probe_ns = bench_rank(probes, NR_BENCH_ROW_PROBES, 0.5); /* and sorts them */
    row->probe_spread = probes[NR_BENCH_ROW_PROBES - 1] / probes[0] - 1;
    return 0;
}

int nr_bench_row_measure(struct nr_bench_row *row)
{
    struct nr_bench_row best = *row;
    unsigned repeats = 0;

    row->task.wait = row->mode == NR_BENCH_MODE_SPIN    ? BENCH_SPIN
                     : row->mode == NR_BENCH_MODE_EPOLL ? BENCH_EPOLL
                                                        : BENCH_BLOCK;
    bench_ours_shape(&row->contender.ours, &row->task);
    for (;; repeats++) {
        row->reason[0] = '\0';
        int code = nr_bench_row_try(row);
        if (code != 0)
            return code;
        if (repeats == 0 || row->probe_spread < best.probe_spread)
            best = *row;
        if (best.probe_spread <= NR_BENCH_ROW_SPREAD || repeats == NR_BENCH_ROW_REPEATS_MAX)
            break;
    }
    *row = best;
    row->repeats = repeats;
    row->is_unsettled = row->probe_spread > NR_BENCH_ROW_SPREAD;
    return 0;
}

double nr_bench_row_ratio(const struct nr_bench_row *row)
{
    return row->probe_ns > 0 ? row->outcome.latency_ns[NR_BENCH_P50] / row->probe_ns : 0;
}
