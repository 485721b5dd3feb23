/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * process -- who I am, who they are, and whether they still live
 *
 * Death      Only the kernel says it: a pidfd is readable when its process is dead. A pid alone is not
 *            an identity (it is reused); a pid with the inode of its pidfd is, on kernels that have
 *            pidfs (6.9). Before that, the pid with the start time of /proc/PID/stat stands in.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

pid_t nr_os_pid(void);
uid_t nr_os_uid(void);
unsigned nr_os_cpus(void); /* that are online; at least 1 */

int nr_os_cpu(unsigned index);       /* of those that this process may use, in turn; -1: unknown */
uint64_t nr_os_resident_bytes(void); /* the calling process's memory; 0: unknown */

/*
 * A number that is this process's own among its ancestors and children: it differs in a forked child
 * from what it was in the parent. Costs one load. Source: MADV_WIPEONFORK, madvise(2).
 */
extern uint64_t *nr_os_process_page;
uint64_t nr_os_process_token_new(void); /* makes it on first use in a process; 0 if no memory */
static inline bool nr_os_process_is(uint64_t token)
{
    const uint64_t *page = __atomic_load_n(&nr_os_process_page, __ATOMIC_ACQUIRE);

    return token && page && __atomic_load_n(page, __ATOMIC_RELAXED) == token;
}

/* A random number that tells this program from the one that the process was before an exec, and will be after the
   next. A forked child has its parent's. */
uint64_t nr_os_process_image(void);

/* True for what an older kernel, valgrind or a sandbox (seccomp) says to a call that it does not know. */
static inline bool nr_os_is_refused(int error)
{
    return error == -ENOSYS || error == -EPERM;
}

/* A pidfd, close-on-exec; -ESRCH when there is no such process (any more), -EMFILE, ... -ENOSYS: there are
   none here, now and later; the functions below stand in. */
int nr_os_pidfd_open(pid_t pid);

/* True when the process of that pidfd is dead (a zombie is dead). */
bool nr_os_pidfd_is_dead(int pidfd);

/* True when it is on its way out: the kernel closes its descriptors a little before its pidfd tells. */
bool nr_os_process_is_exiting(pid_t pid);

/* The threads of the calling process; 0 when unknown. */
unsigned nr_os_process_threads(void);

/* True when it waits for something that is not the disk, and no debugger. */
bool nr_os_process_is_asleep(pid_t pid);

/* True when a signal (SIGSTOP, ...) or a debugger has stopped it. */
bool nr_os_process_is_stopped(pid_t pid);

/* What tells this process from a later one with the same pid; 0 when unknown. is_other: it is known, and is not
   `identity`. A call that fails for a moment makes nobody another one. */
uint64_t nr_os_pidfd_identity(int pidfd, pid_t pid);
bool nr_os_pidfd_is_other(int pidfd, pid_t pid, uint64_t identity);

/* Without a pidfd: the kernel knows no such pid, or it is a zombie, or another process has it by now (start_time
   0: that is not looked at). False when in doubt. A few system calls. */
bool nr_os_process_is_missing(pid_t pid); /* the first of these only */
bool nr_os_process_is_gone(pid_t pid, uint64_t start_time);
uint64_t nr_os_process_start_time(pid_t pid); /* in ticks since boot; 0 when unknown */

/* The inode of the calling process's PID namespace; 0 when /proc is not there. */
uint64_t nr_os_pid_namespace(void);

/* Names that namespace and this boot of the machine: a process id written down under one means nothing under
   another. 0 when unknown. */
uint64_t nr_os_pid_home(void);
