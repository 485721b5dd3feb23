/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * signal_table -- names, default actions and meaning of all signals
 *
 * What       The numbers differ between architectures, and libc decides at run time where real-time signals begin:
 *            so the rows are made on demand, out of static texts. Async-signal-safe.
 */
#include <naru/signal.h>
#include <stdbool.h>

enum { NR_SIGNAL_LAST = 64 };

/* False: there is no such signal. */
bool nr_os_signal_row(int number, struct naru_signal_row *ret);

#define NR_OS_SIGKILL 9
#define NR_OS_SIGTERM 15
int nr_os_signal_continue(void); /* SIGCONT, whose number depends on the machine */

/* "SIGTERM"; "signal 99", in the thread's own memory, if there is none. */
const char *nr_os_signal_name(int number);

int nr_os_signal_first(void); /* SIGRTMIN, SIGRTMAX: what libc leaves to programs */
int nr_os_signal_last(void);

/* All signals, without those that nobody can decide about and those that libc keeps. */
uint64_t nr_os_signal_all(void);
