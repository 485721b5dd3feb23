/* SPDX-License-Identifier: MIT */
#include "os/signal.h"
#include "os/process.h"
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static_assert(sizeof(union sigval) == sizeof(uint64_t), "a signal's value holds 64 bits");

enum { NR_SIGNAL_STATUS_BYTES = 4096, NR_SIGNAL_SET_BYTES = 8 };

static_assert(NR_OS_SIGKILL == SIGKILL && NR_OS_SIGTERM == SIGTERM, "as everywhere");

int nr_os_signal_continue(void)
{
    return SIGCONT;
}

const char *nr_os_signal_name(int signal_number)
{
    static _Thread_local char name[24];
    const char *short_name = sigabbrev_np(signal_number);

    if (short_name)
        snprintf(name, sizeof name, "SIG%s", short_name);
    else if (signal_number >= SIGRTMIN && signal_number <= SIGRTMAX)
        snprintf(name, sizeof name, "SIGRTMIN+%d", signal_number - SIGRTMIN);
    else
        snprintf(name, sizeof name, "signal %d", signal_number);
    return name;
}

void nr_os_signal_block_all(void)
{
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
}

int nr_os_signal_first(void)
{
    return SIGRTMIN;
}

int nr_os_signal_last(void)
{
    return SIGRTMAX;
}

int nr_os_signal_fd(int signal_number)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, signal_number);
    int fd = signalfd(-1, &set, SFD_CLOEXEC); /* blocking, for the guarded read */
    return fd < 0 ? -errno : fd;
}

void nr_os_signal_decode(const struct signalfd_siginfo *from, struct nr_os_signal_value *ret)
{
    *ret = (struct nr_os_signal_value){
        .value = from->ssi_ptr,
        .sender_pid = (int32_t)from->ssi_pid,
        .sender_uid = from->ssi_uid,
        .is_message = from->ssi_code == SI_QUEUE,
    };
}

int nr_os_signal_take(int signal_number, struct nr_os_signal_value *ret)
{
    static const struct timespec now = {0};
    siginfo_t information;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, signal_number);
    while (syscall(SYS_rt_sigtimedwait, &set, &information, &now, NR_SIGNAL_SET_BYTES) < 0)
        if (errno != EINTR)
            return -errno;
    *ret = (struct nr_os_signal_value){
        .value = (uint64_t)(uintptr_t)information.si_value.sival_ptr,
        .sender_pid = information.si_pid,
        .sender_uid = information.si_uid,
        .is_message = information.si_code == SI_QUEUE,
    };
    return 0;
}

static siginfo_t nr_os_signal_information(int signal_number, const struct nr_os_signal_value *value)
{
    siginfo_t information;

    memset(&information, 0, sizeof information);
    information.si_signo = signal_number;
    information.si_code = SI_QUEUE;
    information.si_pid = value->sender_pid;
    information.si_uid = value->sender_uid;
    information.si_value.sival_ptr = (void *)(uintptr_t)value->value;
    return information;
}

int nr_os_signal_send(int pidfd, int signal_number, const struct nr_os_signal_value *value)
{
    siginfo_t information = nr_os_signal_information(signal_number, value);

    return syscall(SYS_pidfd_send_signal, pidfd, signal_number, &information, 0) < 0 ? -errno : 0;
}

int nr_os_signal_may_send(int pidfd)
{
    if (syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == 0)
        return 0;
    int result = -errno;
    if (result != -EPERM)
        return result;
    /* The target does not let us, or the sandbox does not: everyone may signal himself. */
    int self = nr_os_pidfd_open(getpid());
    bool is_refused = self >= 0 && syscall(SYS_pidfd_send_signal, self, 0, NULL, 0) < 0;
    if (self >= 0)
        close(self);
    return is_refused ? -ENOSYS : result;
}

int nr_os_signal_send_by_pid(pid_t pid, uint64_t start_time, int signal_number,
                             const struct nr_os_signal_value *value)
{
    siginfo_t information = nr_os_signal_information(signal_number, value);

    if (nr_os_process_is_gone(pid, start_time))
        return -ESRCH;
    return syscall(SYS_rt_sigqueueinfo, pid, signal_number, &information) < 0 ? -errno : 0;
}

int nr_os_signal_may_send_by_pid(pid_t pid)
{
    return kill(pid, 0) < 0 ? -errno : 0;
}

/* Reads a file of /proc as text; its length, or -errno. */
static ssize_t nr_os_signal_read(const char *path, char *text, size_t size_bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    ssize_t size = read(fd, text, size_bytes - 1);
    int error = -errno;
    close(fd);
    if (size < 0)
        return error;
    text[size] = '\0';
    return size;
}

static bool nr_os_signal_in(const char *status, const char *field, int signal_number)
{
    const char *place = strstr(status, field);

    return place && strtoull(place + strlen(field), NULL, 16) >> (signal_number - 1) & 1;
}

/*
 * While a thread sleeps in sigtimedwait(2) the kernel takes the awaited signals out of the mask that /proc
 * shows, though they can't kill it. So a thread without the signal in its mask may be waiting for it: the
 * name of what it sleeps in tells, or the number of its system call.
 */
static bool nr_os_signal_is_awaited(pid_t pid, pid_t thread)
{
    char path[64], text[256];

    snprintf(path, sizeof path, "/proc/%d/task/%d/wchan", (int)pid, (int)thread);
    if (nr_os_signal_read(path, text, sizeof text) > 0 && strstr(text, "sigtimedwait"))
        return true;
    snprintf(path, sizeof path, "/proc/%d/task/%d/syscall", (int)pid, (int)thread);
    return nr_os_signal_read(path, text, sizeof text) > 0 &&
           strtol(text, NULL, 10) == SYS_rt_sigtimedwait;
}

/* 0: the thread blocks it, or waits for it if that counts; 1: neither; -errno */
static int nr_os_signal_thread(pid_t pid, pid_t thread, int signal_number, bool waiting_counts)
{
    char path[64], status[NR_SIGNAL_STATUS_BYTES];

    snprintf(path, sizeof path, "/proc/%d/task/%d/status", (int)pid, (int)thread);
    ssize_t size = nr_os_signal_read(path, status, sizeof status);
    if (size == -ENOENT || size == -ESRCH)
        return 0; /* it has just ended */
    if (size < 0)
        return (int)size;
    if (nr_os_signal_in(status, "\nSigBlk:", signal_number) || strstr(status, "\nState:\tZ"))
        return 0;
    return !(waiting_counts && nr_os_signal_is_awaited(pid, thread));
}

/* 0: all threads block it; 1: *ret_thread does not; -errno */
static int nr_os_signal_threads(pid_t pid, int signal_number, bool waiting_counts,
                                pid_t *ret_thread)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *directory = opendir(path);
    if (!directory)
        return -errno;
    int result = 0;
    const struct dirent *entry;
    while (result == 0 && (entry = readdir(directory))) {
        pid_t thread = (pid_t)strtol(entry->d_name, NULL, 10);
        if (thread <= 0)
            continue;
        result = nr_os_signal_thread(pid, thread, signal_number, waiting_counts);
        if (result > 0)
            *ret_thread = thread;
    }
    closedir(directory);
    return result;
}

int nr_os_signal_unblocked_thread(int signal_number, pid_t *ret_thread)
{
    return nr_os_signal_threads(getpid(), signal_number, false, ret_thread);
}

static int nr_os_signal_care_now(pid_t pid, int signal_number, pid_t *ret_thread)
{
    char path[64], status[NR_SIGNAL_STATUS_BYTES];

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    ssize_t size = nr_os_signal_read(path, status, sizeof status);
    if (size < 0)
        return size == -ENOENT && access("/proc/self/status", F_OK) == 0 ? -ESRCH : (int)size;
    if (nr_os_signal_in(status, "\nSigCgt:", signal_number))
        return NR_SIGNAL_CAUGHT;
    if (strstr(status, "\nThreads:\t1\n") && nr_os_signal_in(status, "\nSigBlk:", signal_number))
        return NR_SIGNAL_BLOCKED;
    int result = nr_os_signal_threads(pid, signal_number, true, ret_thread);
    if (result < 0)
        return result == -ENOENT ? -ESRCH : result;
    if (result == 0)
        return NR_SIGNAL_BLOCKED;
    return nr_os_signal_in(status, "\nSigIgn:", signal_number) ? NR_SIGNAL_IGNORED
                                                               : NR_SIGNAL_DEADLY;
}

/* A thread that goes in and out of sigtimedwait(2) may slip between the two looks at it: look again. */
int nr_os_signal_care(pid_t pid, int signal_number, pid_t *ret_thread)
{
    enum { NR_SIGNAL_LOOKS = 4 };
    int care = NR_SIGNAL_DEADLY;

    for (int i = 0; i < NR_SIGNAL_LOOKS && care == NR_SIGNAL_DEADLY; i++)
        care = nr_os_signal_care_now(pid, signal_number, ret_thread);
    return care;
}

uint64_t nr_os_signal_limit(pid_t pid)
{
    struct rlimit limit;

    if (prlimit(pid, RLIMIT_SIGPENDING, NULL, &limit) < 0)
        return UINT64_MAX;
    return limit.rlim_cur;
}

int64_t nr_os_coarse_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
