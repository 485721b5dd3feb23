/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * ours -- contestants that go through the library, as a user would write them
 *
 * What       A technique crosses one way, so a latency takes two channels, "there" to the server and "back" to the
 *            client; or one connection; or a pair. The names are this run's own, and are removed as soon as all
 *            have opened them.
 * Waiting    Every call waits for ever: that is how the library is meant to be used. To spin is shm://'s own
 *            affair, it does so in the call; elsewhere BENCH_SPIN tries with a time-out of 0, over and over.
 */
#include "duel.h"
#include "scratch.h"
#include <naru/endpoint.h>

/* How the processes come by their ends. */
enum bench_form {
    BENCH_NAMED = 1,  /* channels by name */
    BENCH_CONNECTION, /* one side listens, the other attaches */
    BENCH_PAIR,       /* naru_pair() */
    BENCH_INHERITED,  /* pipe://N */
    BENCH_SIGNAL,     /* to each other's process */
};

struct bench_ours {
    struct bench_contestant contestant; /* first: link->contestant is this */
    const char *scheme;
    enum naru_pattern pattern;
    enum bench_form form;
    enum naru_acknowledge acknowledge;
    bool one_to_one;
    struct nr_scratch scratch;
    char uris[2][NR_SCRATCH_URI_BYTES]; /* [0] there, [1] back */
};

/* The form in which a scheme is used if nothing else is said. */
enum bench_form bench_ours_form(const char *scheme);

/* Why these processes can't share such a channel, or NULL: they can. Static text. */
const char *bench_ours_obstacle(const struct bench_ours *ours, const struct bench_task *task);

/* What the pattern does to a task: each_to_all, only_newest, is_round_trip. */
void bench_ours_shape(const struct bench_ours *ours, struct bench_task *task);

/* Set scheme, pattern, form, one_to_one and acknowledge before; the rest is filled in for one run of the task.
   0, or -errno: no name could be made. */
int bench_ours_init(struct bench_ours *ours, const struct bench_task *task);

/* Removes what is left of the names. May run twice. */
void bench_ours_deinit(struct bench_ours *ours);
