/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * signal -- what the public functions about signals share
 *
 * Layer      Signals act on processes and threads and need no channel: so they stand here, beside spawn, over the
 *            kernel calls of os alone. signal://, which carries messages, is a transport.
 */
#include "base/error.h"
#include "os/signal_table.h"

/* Takes out of *set what NARU_SIGNAL_ALL has too much; -EINVAL if there is one in it that can't be `what`, such as
   "blocked". */
int nr_signal_check_set(uint64_t *set, const char *what);
