/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * crew -- forked workers: started, watched, and told apart by how they ended
 *
 * Death      A worker gets SIGKILL when its parent is gone. One that was killed, or that returned
 *            anything but 0, is a casualty: nr_crew_casualty() describes the first.
 * Signals    Uses the SIGCHLD that stop.h handles; a worker starts with default dispositions.
 */
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct nr_crew_member {
    pid_t pid;
    int status; /* as waitpid() gave it, once it has ended */
    bool ended;
};

struct nr_crew {
    struct nr_crew_member *members;
    unsigned members_count; /* room */
    unsigned started_count;
    unsigned alive_count;
    int casualty; /* index of the first casualty, or -1 */
};

/* -ENOMEM. */
int nr_crew_init(struct nr_crew *crew, unsigned members_count);

/* Kills who is alive, reaps all, frees. May run twice. */
void nr_crew_deinit(struct nr_crew *crew);

/* Forks the next member: it runs work(context, index) and exits with what that returns.
   Returns its pid, or -errno of fork(). */
pid_t nr_crew_start(struct nr_crew *crew, int (*work)(void *context, unsigned index),
                    void *context);

/* Reaps who has ended, without waiting. */
void nr_crew_reap(struct nr_crew *crew);

/* SIGKILL to all that are alive, and waits for their end. Does not change who the casualty is. */
void nr_crew_kill(struct nr_crew *crew);

/* "worker 3 (process 4711) was killed by SIGSEGV (Segmentation fault)". Returns `text`. */
const char *nr_crew_casualty(const struct nr_crew *crew, char *text, size_t text_bytes);
