/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * guard -- a system call that starts only if a flag is not raised
 *
 * What       A thread that blocks in read(2) itself, rather than in poll(2) first, saves a system call
 *            a message. But a signal handler that raises a flag between the check and the call would
 *            come too late, and one installed with SA_RESTART would never be seen. Here the check and
 *            the system call instruction are one restartable sequence (rseq(2)): a signal anywhere
 *            before the call has begun, or while the kernel is about to restart it, goes back to the
 *            check.
 * When       Only in a process with one thread: then nobody but a signal handler of that thread can
 *            raise the flag. With more threads, or without rseq, nr_os_guard_works() is false and the
 *            caller polls the interrupt's descriptor as well.
 * Source     P. Turner, M. Desnoyers, "Restartable sequences"; here its abort serves as the test
 *            that a cancellation point does by comparing addresses in musl.
 */
#include <stdbool.h>

bool nr_os_guard_works(void);

/* The result of the raw system call (-errno on failure), or -EINTR if *raised is not 0. */
long nr_os_guarded_call(const int *raised, long number, const long arguments[6]);
