/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * gather -- the parallel sum: workers add their shares, the parts come back through one technique
 *
 * What       The process forks P workers. The bytes of a part cross only through the technique that
 *            was asked for; SIGCHLD and exit codes tell no more than that a worker has ended.
 * Death      A worker that is killed or fails ends the sum with its cause of death. No wait is for a
 *            worker that is gone, no sum is told unless each part came exactly once and each worker
 *            ended well. Workers die with their parent.
 * Ways       A technique is a `struct nr_gather_way` in a gather_*.c file; gather.c lists them.
 */
#include "crew.h"
#include "scratch.h"
#include "share.h"
#include <naru/endpoint.h>

enum { NR_GATHER_WORKERS_MAX = 256, NR_GATHER_REASON_BYTES = 600 };

struct nr_gather_request {
    struct nr_range range;
    unsigned workers_count;
    const char *technique;
    bool without_semaphore; /* technique "semaphore": leave it out, to show what it is for */
};

struct nr_gather_result {
    __int128 sum;
    int64_t spawn_ns; /* from the start until all workers were forked */
    int64_t total_ns; /* from the start until the sum was known and all workers had ended */
};

/* Names of the techniques, in the order of the manual; NULL behind the last. */
const char *nr_gather_technique(unsigned index);

/* 0, or -1 with `reason`. nr_stop_init() must have been called; if nr_stop_signal() is set
   afterwards, that was the reason. */
int nr_gather_run(struct nr_gather_result *ret, const struct nr_gather_request *request,
                  char reason[NR_GATHER_REASON_BYTES]);

/* The same by a pool (naru/pool.h), which goes on when workers die. */
int nr_gather_by_pool(struct nr_gather_result *ret, const struct nr_gather_request *request,
                      char reason[NR_GATHER_REASON_BYTES]);

/* ---- for the ways ---- */

struct nr_gather {
    const struct nr_gather_request *request;
    const struct nr_gather_way *way;
    void *state; /* the way's own */
    struct nr_crew crew;
    struct nr_scratch scratch;
    bool has_part[NR_GATHER_WORKERS_MAX];
    unsigned missing_count; /* parts that have not come */
    __int128 sum;
    char *reason;
};

struct nr_gather_way {
    const char *name;
    const char *scheme;                                           /* of the channel, or NULL */
    int (*open)(struct nr_gather *gather);                        /* parent, before all forks */
    int (*before_fork)(struct nr_gather *gather, unsigned index); /* or NULL */
    int (*after_fork)(struct nr_gather *gather, unsigned index, pid_t pid); /* or NULL */
    int (*work)(struct nr_gather *gather, unsigned index); /* child: returns its exit code */
    int (*collect)(struct nr_gather *gather);              /* parent: until missing_count is 0 */
    void (*close)(struct nr_gather *gather);               /* parent; also after a failed open */
};

extern const struct nr_gather_way nr_gather_file, nr_gather_pipe, nr_gather_fifo, nr_gather_mq,
    nr_gather_sysv, nr_gather_shm, nr_gather_signal, nr_gather_semaphore, nr_gather_unix,
    nr_gather_abstract, nr_gather_tcp;

/* Writes the reason; returns -1. */
int nr_gather_fail(struct nr_gather *gather, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* "cannot <what>: <the library's sentence>"; returns -1. */
int nr_gather_fail_naru(struct nr_gather *gather, const char *what, int error);

/* Looks up from the work: a signal to stop, a worker that died. 0, or -1 with the reason. */
int nr_gather_check(struct nr_gather *gather);

/* Takes the part of one worker into the sum. -1 if it can't be. */
int nr_gather_add(struct nr_gather *gather, unsigned index, __int128 part);

/* The share of worker `index`. */
struct nr_range nr_gather_share(const struct nr_gather *gather, unsigned index);

/* In a worker: complains with the library's sentence. Returns NR_EXIT_FAILURE. */
int nr_gather_complain(unsigned index, const char *what);
