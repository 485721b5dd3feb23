/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * visit -- the web server, from its start to its end, as a client sees it
 *
 * What       Starts `naru httpd` on a free port with two workers, asks it for a file and for its status, kills a
 *            worker with SIGKILL, asks on until another one has taken its place and the status tells the cause, and has it
 *            drained by SIGTERM.
 */
#include <stdint.h>

struct nr_visit {
    char address[64];  /* "127.0.0.1:40123" */
    int64_t start_ns;  /* until the first answer */
    int64_t repair_ns; /* from the kill to the status that tells of it, with all workers there */
    int64_t drain_ns;
    int requests; /* that were answered, each checked */
    char cause[96];
    char reason[400]; /* empty: all is well */
};

/* 0, or -1 with a reason. Leaves nothing behind. */
int nr_visit_run(struct nr_visit *visit);
