/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * stop -- SIGINT, SIGTERM, SIGHUP, SIGCHLD and SIGALRM end a wait, so that the program can look up and tidy up
 *
 * What       The handlers only set a flag and call naru_interrupt() on the endpoint that is being
 *            watched. The correct loop is:
 *                nr_stop_watch(endpoint);
 *                if (nr_stop_signal()) ...           a signal from here on ends the next wait
 *                result = naru_recv(endpoint, ...);
 *                nr_stop_watch(NULL);                before the endpoint is closed
 * Fork       A child calls nr_stop_forget() before it unblocks its signals.
 */
#include <naru/pool.h>
#include <stdbool.h>

/* Installs the handlers. SIGHUP stays ignored where it was (nohup). */
void nr_stop_init(void);

/* A child's view: default dispositions, nothing watched, no flag set. */
void nr_stop_forget(void);

/* Names the endpoint whose wait a signal ends. NULL: none. */
void nr_stop_watch(struct naru_endpoint *endpoint);

/* The same for a pool, whose owner waits. */
void nr_stop_watch_pool(struct naru_pool *pool);

/* The number of the signal that asks the program to end, or 0. */
int nr_stop_signal(void);

/* True once after a child has changed; true once after the alarm. */
bool nr_stop_take_child(void);
bool nr_stop_take_alarm(void);

/* SIGALRM after `seconds`; 0 cancels it. */
void nr_stop_set_alarm(unsigned seconds);

/* Ends the program by the signal that asked for it, as its parent expects. Returns if there is none. */
void nr_stop_die(void);
