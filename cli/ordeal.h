/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * ordeal -- a pool whose workers are killed all the time, and what becomes of its tasks
 *
 * What       Each worker is killed by a timer after some random milliseconds, wherever it is then. One task always kills
 *            its worker. Each of the others has to be answered once, with the right sum.
 */
#include <stdint.h>

enum { NR_ORDEAL_REASON_BYTES = 400 };

struct nr_ordeal {
    uint64_t tasks, deaths, retries, set_aside;
    int64_t duration_ns;
    char cause[192];                     /* of the task that was set aside */
    char reason[NR_ORDEAL_REASON_BYTES]; /* "" if all was well */
};

enum { NR_ORDEAL_WORKERS = 4 };

/* Takes about a second. 0, or -1 with the reason. */
int nr_ordeal_run(struct nr_ordeal *ordeal);
