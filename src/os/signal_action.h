/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * signal_action -- handlers, ignored and blocked signals of the calling process
 *
 * What       Sets are those of naru/signal.h; the caller has checked them. libc's calls, not bare ones, so that the
 *            sanitizers see what happens.
 * Ordering   A handler's address is stored before the kernel may call nr_os_signal_on(), which loads it.
 */
#include <naru/signal.h>

void nr_os_signal_handle(uint64_t set, void (*handler)(const struct naru_signal *signal));
void nr_os_signal_ignore(uint64_t set);
void nr_os_signal_default(uint64_t set);

/* Of the calling thread. Give back what it blocked before. */
uint64_t nr_os_signal_block(uint64_t set);
uint64_t nr_os_signal_unblock(uint64_t set);
uint64_t nr_os_signal_blocked(void);
