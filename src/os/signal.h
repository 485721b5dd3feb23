/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * signal -- takes signals that are pending here, and sends them, with a value
 *
 * Returns    0 or the call's result, or -errno. The read that may block is not wrapped: callers make it
 *            through the guard with the number below, and give its buffer to nr_os_signal_decode().
 */
#include "os/clock.h"
#include <naru/signal.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/types.h>

enum { NR_SYS_READ = SYS_read };

struct nr_os_signal_value {
    uint64_t value;
    int32_t sender_pid; /* as the sender says; the kernel does not check it */
    uint32_t sender_uid;
    bool is_message; /* came with a value (SI_QUEUE); kill(2) and timers send none */
};

sigset_t nr_os_signal_set(uint64_t set);

/* A descriptor that reads those signals as struct signalfd_siginfo; the caller keeps them blocked. */
int nr_os_signal_fd(uint64_t set);
void nr_os_signal_decode(const struct signalfd_siginfo *from, struct nr_os_signal_value *ret);

/* Takes a pending signal; -EAGAIN if there is none. Never sleeps. */
int nr_os_signal_take(int signal_number, struct nr_os_signal_value *ret);

/* The number of a signal of that set, which it takes, or -EAGAIN, -ETIMEDOUT. */
int nr_os_signal_wait(uint64_t set, struct naru_signal *ret, struct nr_deadline *deadline);
void nr_os_signal_describe(const siginfo_t *from, struct naru_signal *ret);

/* Who a signal goes to: never a later process with the same pid. Where pidfds are refused, a process that started at
   another time is not it, as far as one look before each call can tell. */
struct nr_os_signal_target {
    int fd; /* pidfd, or -1: by pid */
    pid_t pid;
    uint64_t start_time; /* by pid */
};
#define NR_OS_SIGNAL_TARGET_NULL ((struct nr_os_signal_target){.fd = -1})

/* 0; -ESRCH there is none; -EPERM it is a target, but the caller may not signal it; other codes. */
int nr_os_signal_target_init(struct nr_os_signal_target *target, pid_t pid);
void nr_os_signal_target_deinit(struct nr_os_signal_target *target);
bool nr_os_signal_target_is_dead(const struct nr_os_signal_target *target);

/* Without a value (NULL) as kill(2), else as sigqueue(3). -EAGAIN: the target has RLIMIT_SIGPENDING of them pending.
   -ESRCH: it is dead and gone (for a zombie it is 0). */
int nr_os_signal_send(const struct nr_os_signal_target *target, int signal_number,
                      const struct nr_os_signal_value *value);

uint64_t nr_os_signal_limit(pid_t pid); /* RLIMIT_SIGPENDING of a process; UINT64_MAX unknown */

/* A clock that costs a load or two, and moves every few milliseconds. */
int64_t nr_os_coarse_ns(void);
