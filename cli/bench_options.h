/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * bench_options -- what `naru bench` was asked for
 */
#include "bench_row.h"

enum { NR_BENCH_LIST_MAX = 16, NR_BENCH_SIZE_MAX = 64 * 1024 * 1024, NR_BENCH_BATCH_MAX = 1024 };

struct nr_bench_options {
    const char *transports[NR_BENCH_LIST_MAX]; /* none: all */
    unsigned transports_count;
    enum naru_pattern patterns[NR_BENCH_LIST_MAX]; /* none: all */
    unsigned patterns_count;
    size_t sizes[NR_BENCH_LIST_MAX];
    unsigned sizes_count; /* at least one, after parsing; likewise modes_count */
    enum nr_bench_mode modes[NR_BENCH_LIST_MAX];
    unsigned modes_count;
    unsigned senders, receivers, participants, batch;
    size_t capacity;
    int cpu[2];         /* -1: as the mode wants */
    int allowed_cpu[2]; /* the first two that this process may use; the second: -1, there is none */
    int64_t duration_ns; /* 0: the default */
    bool loan, one_to_one, pair, json, compare, figures;
};

extern const char nr_bench_help[];

/* 0, or NR_EXIT_USAGE with a complaint. */
int nr_bench_options_parse(struct nr_bench_options *options, int argc, char **argv);

/* The part of a task that the options decide. */
struct bench_task nr_bench_options_task(const struct nr_bench_options *options,
                                        enum nr_bench_mode mode, size_t size_bytes);
