/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * keeper -- the thread that children are forked by, so that they die with the process and not with a thread
 *
 * What       The kernel sends a child its death signal (PR_SET_PDEATHSIG) when the thread that forked it ends. Two
 *            threads do not end before the process: the first one, which forks for itself, and the keeper,
 *            which forks for all others and is started when one of them asks.
 * First one  It may end by pthread_exit(3) while others go on. Then it is held in a destructor of thread-specific
 *            data until no child is left that it would take along, or no other thread.
 * Fork       In a forked child there is no keeper, and its first thread is whoever forked.
 */
#include <stdbool.h>

/* Runs work(argument) on a thread that lasts as long as the process. -EAGAIN: the system has no more threads. */
int nr_os_keeper_run(void (*work)(void *argument), void *argument);

/* A child that dies with the thread that forked it, if that is the first one, which calls. Zeroed: in no list. */
struct nr_os_charge {
    struct nr_os_charge *next, **place;
    int pidfd;
};
void nr_os_keeper_add(struct nr_os_charge *charge, int pidfd);
void nr_os_keeper_remove(struct nr_os_charge *charge); /* may run twice */
