/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * duel_work -- what the processes of a run do: join, wait for each other, carry messages, leave
 *
 * The caller's side is duel.c. Nothing here returns on failure: bench_die() ends the process, and with it the run.
 */
#include "duel.h"

unsigned bench_duel_workers(const struct bench_task *task); /* processes that carry messages */
unsigned bench_duel_total(const struct bench_task *task);   /* and those that are attached only */

/* The life of the server, which forks the others; `above` is the caller. */
void bench_duel_serve(struct bench_link *link, pid_t above);

/* The same of the one process of BENCH_ALONE. */
void bench_duel_serve_alone(struct bench_link *link, pid_t above);

void bench_nap(int64_t duration_ns);
