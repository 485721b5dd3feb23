/* SPDX-License-Identifier: MIT */
#include "os/spawn.h"
#include "os/death.h"
#include "os/sanitizer.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000
#endif

enum { NR_SPAWN_STACK_BYTES = 64 * 1024 };

/* -- what a child does to itself ---------------------------------------------------------------
 *
 * Each page that a new child runs or writes to for the first time is a fault, and faults are half of what its birth costs. So it
 * makes its calls by syscall(2), whose page it has, where it may.
 */

static struct nr_os_spawn_fault nr_os_spawn_failed(enum nr_os_spawn_step step, int which)
{
    return (struct nr_os_spawn_fault){.error = -errno, .step = step, .which = which};
}
#define NR_SPAWN_WELL ((struct nr_os_spawn_fault){0})

static uint64_t nr_os_spawn_signal_bit(int number)
{
    return (uint64_t)1 << (number - 1);
}

/* Default dispositions, but for the handlers of the signals that libc keeps for itself. Not by sigaction(3), which knows
   nothing of those, and of which a sanitizer keeps a record: a program's child would change it for the parent. */
static void nr_os_spawn_reset_signals(const struct nr_os_spawn_plan *plan)
{
    static const uint64_t by_default[8]; /* a struct kernel_sigaction of zeros */

    if (plan->has_looked && !plan->strays)
        return;
    const int first_real_time = SIGRTMIN, kernel_first_real_time = 32;

    for (int number = 1; number < NSIG; number++) {
        uint64_t present[8] = {(uintptr_t)SIG_IGN};
        if (plan->has_looked && !(plan->strays & nr_os_spawn_signal_bit(number)))
            continue;
        if (number >= kernel_first_real_time && number < first_real_time)
            syscall(SYS_rt_sigaction, number, NULL, present, sizeof present[0]);
        if (present[0] == (uintptr_t)SIG_IGN)
            syscall(SYS_rt_sigaction, number, by_default, NULL, sizeof by_default[0]);
    }
}

void nr_os_spawn_look_at_signals(struct nr_os_spawn_plan *plan)
{
    plan->strays = UINT64_MAX;
    for (int number = 1; number < NSIG; number++) {
        uint64_t present[8] = {0};
        if (syscall(SYS_rt_sigaction, number, NULL, present, sizeof present[0]) == 0 && !present[0])
            plan->strays &= ~nr_os_spawn_signal_bit(number);
    }
    plan->has_looked = true;
}

static bool nr_os_spawn_is_target(const struct nr_os_spawn_plan *plan, int fd, unsigned except)
{
    for (unsigned i = 0; i < plan->moves_count; i++)
        if (i != except && plan->moves[i].to == fd)
            return true;
    return false;
}

/* Out of the way of the targets, which are below `floor`. */
static int nr_os_spawn_set_aside(int *fd, int floor)
{
    int aside = fcntl(*fd, F_DUPFD_CLOEXEC, floor);

    if (aside < 0)
        return -1;
    *fd = aside; /* the old number becomes a target, or is closed with the rest */
    return 0;
}

static struct nr_os_spawn_fault nr_os_spawn_move_fds(const struct nr_os_spawn_plan *plan)
{
    int floor = 3;

    for (unsigned i = 0; i < plan->moves_count; i++)
        if (plan->moves[i].to >= floor)
            floor = plan->moves[i].to + 1;
    for (unsigned i = 0; i < plan->held_count; i++)
        if (nr_os_spawn_is_target(plan, *plan->held[i], UINT_MAX) &&
            nr_os_spawn_set_aside(plan->held[i], floor) < 0)
            return nr_os_spawn_failed(NR_SPAWN_FDS, *plan->held[i]);
    for (unsigned i = 0; i < plan->moves_count; i++)
        if (nr_os_spawn_is_target(plan, plan->moves[i].from, i) &&
            nr_os_spawn_set_aside(&plan->moves[i].from, floor) < 0)
            return nr_os_spawn_failed(NR_SPAWN_FDS, plan->moves[i].from);
    for (unsigned i = 0; i < plan->moves_count; i++) {
        int from = plan->moves[i].from, to = plan->moves[i].to;
        long result = from == to ? syscall(SYS_fcntl, from, F_SETFD, 0) : dup2(from, to);
        if (result < 0)
            return nr_os_spawn_failed(NR_SPAWN_FDS, to);
    }
    return NR_SPAWN_WELL;
}

static void nr_os_spawn_close_range(int first, int last)
{
    static const int unlimited = 1 << 16;

    if (first > last || syscall(SYS_close_range, first, last, 0) == 0)
        return;
    struct rlimit limit; /* before Linux 5.9, or refused */
    int end = getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < (rlim_t)unlimited
                  ? (int)limit.rlim_cur
                  : unlimited;
    for (int fd = first; fd <= last && fd < end; fd++)
        close(fd);
}

static void nr_os_spawn_close_others(const struct nr_os_spawn_plan *plan)
{
    int *kept = plan->kept;
    unsigned count = 0;

    for (int fd = 0; fd < 3; fd++)
        kept[count++] = fd;
    for (unsigned i = 0; i < plan->moves_count; i++)
        kept[count++] = plan->moves[i].to;
    for (unsigned i = 0; i < plan->held_count; i++)
        if (*plan->held[i] >= 0)
            kept[count++] = *plan->held[i];
    for (unsigned i = 1; i < count; i++) /* few, and qsort(3) may allocate */
        for (unsigned j = i; j > 0 && kept[j] < kept[j - 1]; j--) {
            int swap = kept[j];
            kept[j] = kept[j - 1];
            kept[j - 1] = swap;
        }
    for (unsigned i = 0; i + 1 < count; i++)
        nr_os_spawn_close_range(kept[i] + 1, kept[i + 1] - 1);
    nr_os_spawn_close_range(kept[count - 1] + 1, INT_MAX);
}

static struct nr_os_spawn_fault nr_os_spawn_limit(const struct nr_os_spawn_plan *plan)
{
    for (unsigned i = 0; i < plan->limits_count; i++) {
        const struct nr_os_spawn_limit *limit = &plan->limits[i];
        struct rlimit64 both = {.rlim_cur = limit->soft, .rlim_max = limit->hard};
        if (syscall(SYS_prlimit64, 0, limit->resource, &both, NULL) < 0)
            return nr_os_spawn_failed(NR_SPAWN_LIMITS, limit->resource);
    }
    return NR_SPAWN_WELL;
}

struct nr_os_spawn_fault nr_os_spawn_prepare(const struct nr_os_spawn_plan *plan)
{
    struct nr_os_spawn_fault fault;

    /* If the parent died before this line, no signal will come any more; then it has another one by now. */
    if (plan->death_signal && prctl(PR_SET_PDEATHSIG, plan->death_signal) < 0)
        return nr_os_spawn_failed(NR_SPAWN_PARENT, plan->death_signal);
    if (plan->death_signal && getppid() != plan->parent) {
        errno = ESRCH;
        return nr_os_spawn_failed(NR_SPAWN_PARENT, 0);
    }
    if (plan->own_group && setpgid(0, 0) < 0)
        return nr_os_spawn_failed(NR_SPAWN_GROUP, 0);
    if (!plan->keep_signals)
        nr_os_spawn_reset_signals(plan);
    fault = nr_os_spawn_move_fds(plan);
    if (fault.error)
        return fault;
    if (!plan->keep_fds)
        nr_os_spawn_close_others(plan);
    fault = nr_os_spawn_limit(plan);
    if (fault.error)
        return fault;
    if (plan->nice)
        errno = 0;
    if (plan->nice && nice(plan->nice) == -1 && errno)
        return nr_os_spawn_failed(NR_SPAWN_NICE, plan->nice);
    if (plan->cpus && sched_setaffinity(0, plan->cpus_bytes, plan->cpus) < 0)
        return nr_os_spawn_failed(NR_SPAWN_CPUS, 0);
    if (plan->directory && chdir(plan->directory) < 0)
        return nr_os_spawn_failed(NR_SPAWN_DIRECTORY, 0);
    return NR_SPAWN_WELL;
}

void nr_os_spawn_unblock(const struct nr_os_spawn_plan *plan)
{
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &plan->mask, NULL, NSIG / 8);
}

void nr_os_spawn_mask(struct nr_os_spawn_plan *plan)
{
    sigemptyset(&plan->mask);
    if (plan->keep_signals)
        pthread_sigmask(SIG_SETMASK, NULL, &plan->mask);
}

cpu_set_t *nr_os_spawn_cpus(const uint32_t *cpus, size_t count, size_t *ret_bytes)
{
    uint32_t highest = 0;

    for (size_t i = 0; i < count; i++)
        highest = cpus[i] > highest ? cpus[i] : highest;
    size_t bytes = CPU_ALLOC_SIZE(highest + 1);
    cpu_set_t *set = calloc(1, bytes);
    for (size_t i = 0; set && i < count; i++)
        CPU_SET_S(cpus[i], bytes, set);
    *ret_bytes = bytes;
    return set;
}

/* -- birth ------------------------------------------------------------------------------------ */

int nr_os_spawn_fork(void (*begin)(void *context), void *context)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0) {
        begin(context);
        _exit(127);
    }
    int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pid < 0 ? -error : pid;
}

/* The thread sanitizer takes a clone(2) for a fork, and marks the memory as that of a forked child: here the parent's. */
#if NR_OS_HAS_TSAN
int __clone(int (*begin)(void *), void *stack, int flags, void *argument, ...);
#define nr_os_spawn_clone __clone
#else
#define nr_os_spawn_clone clone
#endif

struct nr_os_spawn_exec {
    const struct nr_os_spawn_plan *plan;
    char *const *argv, *const *environment;
    struct nr_os_spawn_fault fault;
};

/* On a stack of its own, in the parent's memory; the parent's thread stands still meanwhile. */
static int nr_os_spawn_exec_child(void *argument)
{
    struct nr_os_spawn_exec *job = argument;

    job->fault = nr_os_spawn_prepare(job->plan);
    if (job->fault.error)
        _exit(127);
    nr_os_spawn_unblock(job->plan);
    execvpe(job->argv[0], job->argv, job->environment);
    job->fault = nr_os_spawn_failed(NR_SPAWN_EXEC, 0);
    _exit(127);
}

/* Room for a script's argv, which execvpe(3) builds on the stack, and for its paths. */
static size_t nr_os_spawn_stack_bytes(const char *const *argv)
{
    size_t count = 0;

    while (argv[count])
        count++;
    return (NR_SPAWN_STACK_BYTES + (count + 2) * sizeof(char *) + 4095) & ~(size_t)4095;
}

int nr_os_spawn_exec(const struct nr_os_spawn_plan *plan, const char *const *argv,
                     const char *const *environment, int *ret_pidfd,
                     struct nr_os_spawn_fault *ret_fault)
{
    union {
        const char *const *given;
        char *const *wanted;
    } arguments = {.given = argv}, variables = {.given = environment};
    struct nr_os_spawn_exec job = {plan, arguments.wanted, variables.wanted, NR_SPAWN_WELL};
    size_t stack_bytes = nr_os_spawn_stack_bytes(argv);
    sigset_t all, before;
    int cancel_state, pidfd = -1;

    char *stack = mmap(NULL, stack_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return -errno;
    sigfillset(&all);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    /* No exit signal: a child that fails before its exec is nobody's business. The exec sets SIGCHLD. */
    int pid = nr_os_spawn_clone(nr_os_spawn_exec_child, stack + stack_bytes,
                                CLONE_VM | CLONE_VFORK | CLONE_PIDFD, &job, &pidfd);
    int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_setcancelstate(cancel_state, NULL);
    munmap(stack, stack_bytes);
    if (pid < 0)
        return -error;
    *ret_fault = job.fault;
    if (job.fault.error) {
        nr_os_wait_for(pid);
        close(pidfd);
        return job.fault.error;
    }
    *ret_pidfd = pidfd;
    return pid;
}

/* -- what goes with it -------------------------------------------------------------------------- */

/* Each page that a child writes to, and each that it runs, is a fault: so only if there is something to do. */
void nr_os_stdio_drop(void)
{
    if (__fpending(stdout))
        __fpurge(stdout);
    if (__fpending(stderr))
        __fpurge(stderr);
}

void nr_os_stdio_flush(void)
{
    if (__fpending(stdout))
        fflush(stdout);
    if (__fpending(stderr))
        fflush(stderr);
}

const char *const *nr_os_environment(void)
{
    union {
        char **given;
        const char *const *wanted;
    } variables = {.given = environ};

    return variables.wanted;
}

void nr_os_exit(int status)
{
    _exit(status);
}
