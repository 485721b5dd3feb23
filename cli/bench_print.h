/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * bench_print -- the rows of `naru bench` for people and for programs
 */
#include "bench_row.h"
#include "json.h"

void nr_bench_print_header(void);
void nr_bench_print_row(const struct nr_bench_row *row);
void nr_bench_print_json(struct nr_json *json, const struct nr_bench_row *row);

/* On a terminal: what is being measured; NULL clears the line. */
void nr_bench_print_progress(const struct nr_bench_row *row);

/* "64 B", "4 KiB". Returns `text`. */
enum { NR_BENCH_SIZE_BYTES = 32 };
const char *nr_bench_print_size(char text[NR_BENCH_SIZE_BYTES], size_t size_bytes);
