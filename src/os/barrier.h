/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * barrier -- a memory barrier on the processors of others: one side pays for both
 *
 * What       After nr_os_barrier() every store that a registered process had made before it, in program order, is
 *            seen, and all that such a process loads behind it sees what the caller had stored before.
 * Cost       Microseconds, and an interrupt on each processor that runs a registered process. Registering costs
 *            a fraction of one, but milliseconds when it is a process's first time and that has threads.
 * Source     membarrier(2), MEMBARRIER_CMD_GLOBAL_EXPEDITED, Linux 4.16.
 */
#include <stdbool.h>

/* The calling process, for its life; false: refused here (valgrind, a sandbox). Any number of times. */
bool nr_os_barrier_register(void);

/* False: refused here, nothing has happened. Async-signal-safe. */
bool nr_os_barrier(void);
