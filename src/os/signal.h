/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * signal -- real-time signals that carry a value, and what a process does with a signal
 *
 * Returns    0 or the call's result, or -errno. The read that may block is not wrapped: callers make it
 *            through the guard with the number below, and give its buffer to nr_os_signal_decode().
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/types.h>

enum { NR_SYS_READ = SYS_read };

#define NR_OS_SIGKILL 9
#define NR_OS_SIGTERM 15
int nr_os_signal_continue(void);                  /* SIGCONT, whose number depends on the machine */
const char *nr_os_signal_name(int signal_number); /* "SIGTERM"; a thread's own memory */
void nr_os_signal_block_all(void); /* in the calling thread */
int nr_os_signal_first(void); /* SIGRTMIN, SIGRTMAX: what libc leaves to programs */
int nr_os_signal_last(void);

struct nr_os_signal_value {
    uint64_t value;
    int32_t sender_pid; /* as the sender says; the kernel does not check it */
    uint32_t sender_uid;
    bool is_message; /* came with a value (SI_QUEUE); kill(2) and timers send none */
};

/* A descriptor that reads that signal as struct signalfd_siginfo; the caller keeps it blocked. */
int nr_os_signal_fd(int signal_number);
void nr_os_signal_decode(const struct signalfd_siginfo *from, struct nr_os_signal_value *ret);

/* Takes a pending signal; -EAGAIN if there is none. Never sleeps. */
int nr_os_signal_take(int signal_number, struct nr_os_signal_value *ret);

/* -EAGAIN: the target has RLIMIT_SIGPENDING of them pending. -ESRCH: it is dead and gone. */
int nr_os_signal_send(int pidfd, int signal_number, const struct nr_os_signal_value *value);
int nr_os_signal_may_send(
    int pidfd); /* -EPERM, -ESRCH; -ENOSYS: pidfd_send_signal(2) is refused here */

/* The same by pid, where pidfds are refused; a process that started at another time is -ESRCH, as far as one look
   before the call can tell. */
int nr_os_signal_send_by_pid(pid_t pid, uint64_t start_time, int signal_number,
                             const struct nr_os_signal_value *value);
int nr_os_signal_may_send_by_pid(pid_t pid);

/* What every thread of a process does with a signal. */
enum nr_os_signal_care {
    NR_SIGNAL_CAUGHT = 1, /* a handler */
    NR_SIGNAL_BLOCKED,    /* in all threads, or they are just waiting for it */
    NR_SIGNAL_IGNORED,    /* lost */
    NR_SIGNAL_DEADLY,     /* neither: the process would be killed */
};
/*
 * The care of process `pid`, or -errno (-ESRCH no such process, or /proc hides it; -ENOENT no /proc).
 * *ret_thread is the thread that does not block it, where that matters. Opens a few files of /proc.
 */
int nr_os_signal_care(pid_t pid, int signal_number, pid_t *ret_thread);
/* In the calling process: 0: all threads block it; 1: *ret_thread does not; -errno. */
int nr_os_signal_unblocked_thread(int signal_number, pid_t *ret_thread);

uint64_t nr_os_signal_limit(pid_t pid); /* RLIMIT_SIGPENDING of a process; UINT64_MAX unknown */

/* A clock that costs a load or two, and moves every few milliseconds. */
int64_t nr_os_coarse_ns(void);
