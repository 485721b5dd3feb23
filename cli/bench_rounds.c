/* SPDX-License-Identifier: MIT */
#include "bench_rounds.h"
#include <string.h>

/* A round's figures, as numbers in a row. */
struct nr_bench_round {
    double probe_ns, ratio;
    struct nr_bench_outcome outcome;
};
enum { NR_BENCH_ROUND_NUMBERS = sizeof(struct nr_bench_round) / sizeof(double) };
_Static_assert(sizeof(struct nr_bench_round) == NR_BENCH_ROUND_NUMBERS * sizeof(double),
               "there is nothing but doubles in it");

static int nr_bench_round_part(struct nr_bench_entry *entry, enum bench_measure measure,
                               struct nr_bench_round *ret)
{
    entry->task.measure = measure;
    return nr_bench_measure(&entry->contender, &entry->task, &ret->outcome, entry->reason);
}

static int nr_bench_round(struct nr_bench_entry *entry, struct nr_bench_round *ret)
{
    int code = 0;

    if (entry->latency) {
        code = nr_bench_measure_probe(&entry->task, &ret->probe_ns, entry->reason);
        if (code == 0)
            code = nr_bench_round_part(entry, BENCH_LATENCY, ret);
        if (code == 0)
            ret->ratio = ret->outcome.latency_ns[NR_BENCH_P50] / ret->probe_ns;
    }
    if (code == 0 && entry->rate)
        code = nr_bench_round_part(entry, BENCH_RATE, ret);
    if (code == 0 && entry->alone)
        code = nr_bench_round_part(entry, BENCH_ALONE, ret);
    return code;
}

static void nr_bench_round_median(struct nr_bench_entry *entry, const struct nr_bench_round *rounds,
                                  unsigned count)
{
    struct nr_bench_round median;
    double values[NR_BENCH_ROUNDS_MAX];

    for (size_t i = 0; i < NR_BENCH_ROUND_NUMBERS; i++) {
        for (unsigned r = 0; r < count; r++)
            memcpy(&values[r], (const char *)&rounds[r] + i * sizeof(double), sizeof(double));
        values[0] = bench_rank(values, count, 0.5);
        memcpy((char *)&median + i * sizeof(double), &values[0], sizeof(double));
    }
    entry->outcome = median.outcome;
    entry->probe_ns = median.probe_ns;
    entry->ratio = median.ratio;
}

void nr_bench_rounds(struct nr_bench_entry *entries, unsigned count, unsigned rounds,
                     void (*progress)(const struct nr_bench_entry *))
{
    static struct nr_bench_round measured[NR_BENCH_ENTRIES_MAX][NR_BENCH_ROUNDS_MAX];

    memset(measured, 0, sizeof measured);
    for (unsigned i = 0; i < count; i++)
        if (!entries[i].contender.peer)
            bench_ours_shape(&entries[i].contender.ours, &entries[i].task);
    for (unsigned r = 0; r < rounds; r++) {
        for (unsigned i = 0; i < count; i++) {
            if (entries[i].code != 0)
                continue;
            if (bench_duel_is_stopped && bench_duel_is_stopped())
                return;
            progress(&entries[i]);
            entries[i].code = nr_bench_round(&entries[i], &measured[i][r]);
        }
    }
    for (unsigned i = 0; i < count; i++)
        if (entries[i].code == 0)
            nr_bench_round_median(&entries[i], measured[i], rounds);
}
