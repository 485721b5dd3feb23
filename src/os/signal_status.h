/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * signal_status -- what the kernel keeps of signals for a process and its threads, as /proc tells
 *
 * Returns    -ESRCH: there is no such process, or it has just ended; -EACCES: /proc hides it; -ENOENT: there is no
 *            /proc.
 */
#include <naru/signal.h>
#include <sys/types.h>

/* What every thread of a process does with a signal. */
enum nr_os_signal_care {
    NR_SIGNAL_CAUGHT = 1, /* a handler */
    NR_SIGNAL_BLOCKED,    /* in all threads, or they are just waiting for it */
    NR_SIGNAL_IGNORED,    /* lost */
    NR_SIGNAL_DEADLY,     /* neither: the process would be killed */
};
/*
 * The care of process `pid`. *ret_thread is the thread that does not block it, where that matters. Opens a few
 * files of /proc.
 */
int nr_os_signal_care(pid_t pid, int signal_number, pid_t *ret_thread);
/* In the calling process: 0: all threads block all of `set`; 1: *ret_thread does not; -errno. */
int nr_os_signal_unblocked_thread(uint64_t set, pid_t *ret_thread);

int nr_os_signal_status(pid_t pid, struct naru_signal_state *ret);
/* Returns their number. */
int nr_os_signal_status_threads(pid_t pid, struct naru_signal_thread *threads, size_t capacity);
