/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * bench_compare -- the library beside others, and the table of goals
 */
#include "bench_options.h"

/* Sets nr_bench_peers_directory if the user didn't. */
void nr_bench_find_peers(void);

/* `naru bench --compare` and `naru bench --figures`; return the exit code. */
int nr_bench_compare(const struct nr_bench_options *options);
int nr_bench_figures(const struct nr_bench_options *options);
