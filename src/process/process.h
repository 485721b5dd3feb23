/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * process -- what the parts of this layer share: a child's handle, its options, and the judging of its death
 */
#include "core/core.h"
#include "os/death.h"
#include "os/keeper.h"
#include "os/signal.h"
#include "os/spawn.h"
#include <naru/process.h>

struct naru_child {
    uint64_t owner; /* token of the process that spawned it */
    pid_t pid;
    int pidfd;
    int ready_fd; /* -1: without readiness */
    bool is_program, survives_parent, own_group;
    int64_t born_ns;
    struct naru_endpoint **channels;
    size_t channels_count;

    struct nr_lock lock;                 /* of what follows */
    bool is_over, was_asked, was_killed; /* by naru_child_signal() */
    struct naru_death death;
    struct nr_os_charge charge;
};

/* -- options.c: what the user wants, checked ----------------------------------------------------- */

int nr_spawn_options_complete(struct naru_spawn_options *ret,
                              const struct naru_spawn_options *given);

/* -- child.c ----------------------------------------------------------------------------------------- */

/* A handle without a process: pidfd and ready_fd are -1. -ENOMEM. */
int nr_child_new(struct naru_child **ret, const struct naru_spawn_options *options);
void nr_child_free(struct naru_child *child);

/* -- death.c ----------------------------------------------------------------------------------------- */

/* The count that later kills for lack of memory are told by; before a child is born. */
void nr_death_expect(void);

/* The child is dead: takes it, and fills child->death. Locked. */
int nr_death_judge(struct naru_child *child);

/* -- ready.c ------------------------------------------------------------------------------------------ */

/* In a forked child: where naru_ready() tells it; -1: to nobody. */
int *nr_ready_to_parent(int fd);
