/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * bench_special -- what is no stream of messages: opening, idling, and the death of a peer
 *
 * What       Of shm://, many to many. Names are scratch.h's; children die with this process.
 * Returns    0, or -1 with the reason.
 */
#include "duel.h"

struct nr_bench_quantiles {
    double p50_ns, p99_ns;
};

/* A segment of 64 slots for messages of 64 bytes: to make it, and to attach to it. */
int nr_bench_special_open(struct nr_bench_quantiles *ret_create,
                          struct nr_bench_quantiles *ret_attach, char reason[BENCH_ERROR_BYTES]);

/* A receiver sleeps; another that holds a message is killed: from SIGKILL until the first one has the message. */
int nr_bench_special_kill(struct nr_bench_quantiles *ret, char reason[BENCH_ERROR_BYTES]);

/* Context switches of a receiver that sleeps for so long, with another one attached. */
int nr_bench_special_idle(double *ret_switches, int64_t duration_ns,
                          char reason[BENCH_ERROR_BYTES]);
