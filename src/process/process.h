/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * process -- what the parts of this layer share: a child's handle, its options, and the judging of its death
 */
#include "core/core.h"
#include "os/death.h"
#include "os/keeper.h"
#include "os/signal_table.h"
#include "os/spawn.h"
#include <naru/process.h>

struct naru_child {
    uint64_t owner; /* token of the process that spawned it */
    pid_t pid;
    int pidfd;
    int ready_fd;     /* -1: without readiness */
    bool is_notified; /* by datagrams to ready_fd */
    bool is_program, survives_parent, own_group;
    struct naru_zygote *zygote; /* whose child it is; NULL: ours */
    int64_t born_ns;
    struct naru_endpoint **channels;
    size_t channels_count;

    struct nr_lock lock;                 /* of what follows */
    bool is_over, was_asked, was_killed; /* by naru_child_signal() */
    bool is_ready;                       /* is_notified: it was */
    struct naru_death death;
    struct nr_os_charge charge;
};

/* A birth. */
struct nr_spawn {
    struct naru_spawn_options options;
    int (*function)(void *context);
    void *context;
    const char *const *argv;
    struct naru_child *child;
    struct nr_os_spawn_plan plan;
    struct nr_os_spawn_limit *limits;
    const char **environment; /* a program's, if it is not just inherited */
    char ready_variable[32];
    bool is_sure;    /* nothing of the plan can fail in the child, so nobody waits for its report */
    int link[2];     /* the parent's and the child's side; if it is sure, of a gate */
    int ready_fd[2]; /* likewise; -1 */
    struct nr_os_spawn_fault fault;
    int result; /* the pid, or -errno */
};

/* -- spawn.c ----------------------------------------------------------------------------------------- */

/* The child of a birth, which is the argument, from its first moment. Does not return. */
void nr_spawn_child(void *spawn);

int nr_spawn_plan(struct nr_spawn *spawn); /* of spawn->options */
void nr_spawn_end(struct nr_spawn *spawn);
/* Nothing can fail in such a child. */
bool nr_spawn_is_sure(const struct naru_spawn_options *options);
int nr_spawn_failed(const struct nr_spawn *spawn, int error); /* `error` (0: none), with its text */
/* The child is prepared: runs the function, and ends. */
_Noreturn void nr_spawn_perform(struct nr_spawn *spawn);

enum { NR_SPAWN_EXIT_STATUS = 127 }; /* of a child that could not begin */

/* -- spawn_group.c ----------------------------------------------------------------------------------- */

enum { NR_SPAWN_GROUP_MOST = 32 };

struct nr_spawn_birth {
    void *context;
    void *memory; /* shared, hidden from forks but that of this child */
    size_t memory_bytes;
    uint32_t *gate;           /* in that memory; 0 */
    struct naru_child *child; /* what comes of it; NULL: nothing */
};

/* Can children with these options be born in a group? */
bool nr_spawn_group_may(const struct naru_spawn_options *options);
/* At most NR_SPAWN_GROUP_MOST: the first so many, or all, have a child then. 0, or why not all have one. */
int nr_spawn_group(struct nr_spawn_birth *births, size_t count, int (*function)(void *context),
                   const struct naru_spawn_options *options);

/* -- zygote.c ---------------------------------------------------------------------------------------- */

/* Lets the zygote of spawn->options fork: the pid and spawn->child->pidfd, or -errno. */
int nr_zygote_fork(struct nr_spawn *spawn);

/* As nr_os_end_take(), of a child of the zygote's. */
int nr_zygote_end_take(struct naru_zygote *zygote, const struct naru_child *child, bool leave,
                       struct nr_os_end *ret);

struct naru_zygote *nr_zygote_hold(struct naru_zygote *zygote);
void nr_zygote_let_go(struct naru_zygote *zygote); /* NULL is allowed */

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

/* As nr_os_end_take(), of a child whoever's it is. */
int nr_death_take(struct naru_child *child, bool leave, struct nr_os_end *ret);

/* The child is dead: takes it, and fills child->death. Locked. */
int nr_death_judge(struct naru_child *child);

/* -- ready.c ------------------------------------------------------------------------------------------ */

/* In a forked child: where naru_ready() tells it; -1: to nobody. */
int *nr_ready_to_parent(int fd);
