/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * trial -- one transport put to the test: greeting, sum, latency, rate
 *
 * What       A parent and its forked child greet each other, then messages of 64 bytes (signal: 8) go
 *            round for the latency, and one way for the rate. All that comes is checked: text, number,
 *            order, count. Ten workers sum 1..10000 through the same technique.
 * Death      A child that dies, or a step that takes too long, fails the trial with the reason.
 */
#include "scratch.h"
#include <stdbool.h>
#include <stdint.h>

enum { NR_TRIAL_REASON_BYTES = 700 };

struct nr_trial {
    const char *technique; /* "message queue" */
    const char *scheme;    /* "mq"; "semaphore" for that */
    char uri[NR_SCRATCH_URI_BYTES];
    bool greeting;
    char sum[48];
    int64_t sum_ns;
    int64_t latency_p50_ns, latency_p99_ns; /* one way: half a round trip */
    double rate_per_s;
    char reason[NR_TRIAL_REASON_BYTES]; /* "" if all was well */
};

/* Runs it; `progress` (may be NULL) is called before each step with its name. 0, or -1 with the reason. */
int nr_trial_run(struct nr_trial *trial,
                 void (*progress)(const struct nr_trial *, const char *step));
