/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * death -- how a child has ended
 *
 * What       By its pidfd only, so that no other child is ever taken. If somebody else has waited for it, or nobody
 *            has to (SIGCHLD is ignored), the kernel still tells by the pidfd from Linux 6.15 on.
 * Memory     Out of: the kernel tells the parent of a SIGKILL and not of its reason. Evidence is that the machine's count
 *            of such kills (oom_kill in /proc/vmstat) has risen; and where the kernel's log can be read (/dev/kmsg), that it
 *            names the process.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct nr_os_end {
    bool is_known;
    bool is_ours;      /* nobody else has waited for it */
    int exit_status;   /* -1: it did not exit */
    int signal_number; /* 0: none */
    bool core_dumped;
    int64_t user_ns, system_ns, resident_max_bytes; /* -1: unknown */
};

/* Of a child that is dead: looks, and takes it unless `leave`. 0, or -errno; *ret says whether it could be known. */
int nr_os_end_take(int pidfd, bool leave, struct nr_os_end *ret);

/* Waits until it is dead, without taking it; -ECHILD: there is nothing to wait for, now or any more. */
int nr_os_end_await(int pidfd);

/* The same by its pid, for one that only the caller waits for. -ECHILD: it is no child. */
int nr_os_end_take_by_pid(pid_t pid, bool leave, struct nr_os_end *ret);

/* Only what a pidfd tells of one that another process has waited for. */
void nr_os_end_ask(int pidfd, struct nr_os_end *ret);

/* Waits for a child by its pid: for one that nobody else can know yet. */
void nr_os_wait_for(pid_t pid);

/* The machine's count of kills for lack of memory; -1: it is not told here. */
int64_t nr_os_oom_kills(void);
/* Does the kernel's log name `pid` as killed for that, since `since_ns` of the monotonic clock? 1, 0; -errno: it can't
   be read. */
int nr_os_oom_names(pid_t pid, int64_t since_ns);

/* A signal by pidfd, or to the group that its process leads or led. -ESRCH: it is dead; there is none in it. Before Linux
   6.9 the group is told by number, which is certain only as long as nobody has waited for the leader. */
int nr_os_pidfd_signal(int pidfd, int signal_number);
int nr_os_pid_signal(pid_t pid, int signal_number); /* of one's own child */
int nr_os_pidfd_signal_group(int pidfd, pid_t leader, int signal_number);
