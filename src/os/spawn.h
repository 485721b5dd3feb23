/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * spawn -- the birth of a child process: fork and exec, and what it does to itself first
 *
 * Fork       Between its birth and the caller's code a child makes system calls only, and none that allocates: other
 *            threads of the parent may have held any lock.
 * Memory     A plan is the parent's. A program's child shares the parent's memory until the exec (as with vfork(2)), and
 *            writes only to its own stack and to the plan's scratch.
 * Signals    All are blocked around the birth, so that no handler of the parent's ever runs in the child.
 */
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What a child was doing when it failed. */
enum nr_os_spawn_step {
    NR_SPAWN_PARENT = 1, /* the parent is dead already */
    NR_SPAWN_GROUP,
    NR_SPAWN_FDS,
    NR_SPAWN_LIMITS,
    NR_SPAWN_NICE,
    NR_SPAWN_CPUS,
    NR_SPAWN_DIRECTORY,
    NR_SPAWN_ENDS, /* of pairs */
    NR_SPAWN_EXEC,
};

struct nr_os_spawn_fault {
    int error; /* -errno; 0: none */
    enum nr_os_spawn_step step;
    int which; /* the descriptor or resource */
};

struct nr_os_spawn_move {
    int from, to;
};

struct nr_os_spawn_limit {
    int resource;
    uint64_t soft, hard;
};

struct nr_os_spawn_plan {
    pid_t parent;
    int death_signal; /* 0: none */
    bool own_group, keep_signals, keep_fds;
    struct nr_os_spawn_move *moves; /* is scratch */
    unsigned moves_count;
    int **held; /* the library's own descriptors: they stay, whatever their numbers will be */
    unsigned held_count;
    int *kept; /* scratch: room for 3 + moves_count + held_count */
    const struct nr_os_spawn_limit *limits;
    unsigned limits_count;
    cpu_set_t *cpus; /* NULL: as they are */
    size_t cpus_bytes;
    int nice;
    const char *directory;
    sigset_t mask;   /* for the function or program */
    bool has_looked; /* `strays`: the signals whose disposition is not the default one */
    uint64_t strays;
};

/* Signals, group, descriptors, limits, ... of the calling child, all but the mask. */
struct nr_os_spawn_fault nr_os_spawn_prepare(const struct nr_os_spawn_plan *plan);
void nr_os_spawn_unblock(const struct nr_os_spawn_plan *plan);

/* So that not each of many children has to. */
void nr_os_spawn_look_at_signals(struct nr_os_spawn_plan *plan);

/* The mask of the calling thread, or an empty one. */
void nr_os_spawn_mask(struct nr_os_spawn_plan *plan);

/* fork(2): the pid in the parent, and begin(context) in the child, all signals blocked; -errno. */
int nr_os_spawn_fork(void (*begin)(void *context), void *context);

/* A child that becomes a program. The pid, *ret_pidfd and fault->error 0; or -errno, no child, and what it failed at. */
int nr_os_spawn_exec(const struct nr_os_spawn_plan *plan, const char *const *argv,
                     const char *const *environment, int *ret_pidfd,
                     struct nr_os_spawn_fault *ret_fault);

/* A bit for each of `count` processors; NULL: no memory. */
cpu_set_t *nr_os_spawn_cpus(const uint32_t *cpus, size_t count, size_t *ret_bytes);

/* What stdio has buffered: forgotten (in a forked child, whose parent will write it), or written. */
void nr_os_stdio_drop(void);
void nr_os_stdio_flush(void);

const char *const *nr_os_environment(void);
_Noreturn void nr_os_exit(int status);
