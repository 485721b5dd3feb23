/* SPDX-License-Identifier: MIT */
#include "os/death.h"
#include "os/io.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { NR_P_PIDFD = 3, NR_PIDFD_SIGNAL_GROUP = 1 << 2, NR_DEATH_TRIES = 1000 };

/* PIDFD_GET_INFO, as Linux 6.15 has it: after its headers here. */
struct nr_os_pidfd_info {
    uint64_t mask, cgroup;
    uint32_t pid, tgid, ppid, ids[8];
    int32_t exit_code;
};
enum { NR_PIDFD_INFO_EXIT = 1 << 3 };
#define NR_PIDFD_GET_INFO _IOWR(0xFF, 11, struct nr_os_pidfd_info)

static int64_t nr_os_end_ns(struct timeval time)
{
    return (int64_t)time.tv_sec * 1000000000 + (int64_t)time.tv_usec * 1000;
}

/* Somebody may be just at it. */
static void nr_os_end_look(int pidfd, struct nr_os_end *ret)
{
    const struct timespec nap = {.tv_nsec = 1000000};

    for (int i = 0; i < NR_DEATH_TRIES; i++) {
        struct nr_os_pidfd_info info = {.mask = NR_PIDFD_INFO_EXIT};
        if (ioctl(pidfd, NR_PIDFD_GET_INFO, &info) < 0)
            return;
        if (info.mask & NR_PIDFD_INFO_EXIT) {
            int status = info.exit_code;
            ret->is_known = true;
            ret->exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
            ret->signal_number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
            ret->core_dumped = WIFSIGNALED(status) && WCOREDUMP(status);
            return;
        }
        nanosleep(&nap, NULL);
    }
}

static const struct nr_os_end nr_os_end_unknown = {.exit_status = -1,
                                                   .user_ns = -1,
                                                   .system_ns = -1,
                                                   .resident_max_bytes = -1};

void nr_os_end_ask(int pidfd, struct nr_os_end *ret)
{
    *ret = nr_os_end_unknown;
    nr_os_end_look(pidfd, ret);
}

static int nr_os_end_wait(int kind, int which, bool leave, struct nr_os_end *ret)
{
    int options = WEXITED | __WALL | (leave ? WNOWAIT : 0);
    struct rusage usage = {0};
    siginfo_t info = {0};
    long result;

    *ret = nr_os_end_unknown;
    do
        result = syscall(SYS_waitid, kind, which, &info, options, &usage);
    while (result < 0 && errno == EINTR);
    if (result < 0)
        return -errno;
    ret->is_known = ret->is_ours = true;
    if (info.si_code == CLD_EXITED)
        ret->exit_status = info.si_status & 0xff;
    else
        ret->signal_number = info.si_status;
    ret->core_dumped = info.si_code == CLD_DUMPED;
    ret->user_ns = nr_os_end_ns(usage.ru_utime);
    ret->system_ns = nr_os_end_ns(usage.ru_stime);
    ret->resident_max_bytes = (int64_t)usage.ru_maxrss * 1024;
    return 0;
}

int nr_os_end_await(int pidfd)
{
    struct nr_os_end unused;

    return nr_os_end_wait(NR_P_PIDFD, pidfd, true, &unused);
}

int nr_os_end_take(int pidfd, bool leave, struct nr_os_end *ret)
{
    int result = nr_os_end_wait(NR_P_PIDFD, pidfd, leave, ret);

    if (result != -ECHILD)
        return result;
    nr_os_end_look(pidfd, ret);
    return 0;
}

int nr_os_end_take_by_pid(pid_t pid, bool leave, struct nr_os_end *ret)
{
    return nr_os_end_wait(P_PID, pid, leave, ret);
}

void nr_os_wait_for(pid_t pid)
{
    while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
        ;
}

/* -- out of memory ------------------------------------------------------------------------------ */

int64_t nr_os_oom_kills(void)
{
    char text[8192];
    int64_t count = -1;
    size_t size = 0;

    nr_cleanup_close int fd = nr_os_open("/proc/vmstat", O_RDONLY, 0);
    for (ssize_t some = 1; fd >= 0 && some > 0 && size < sizeof text - 1; size += (size_t)some) {
        some = read(fd, text + size, sizeof text - 1 - size);
        some = some < 0 ? 0 : some;
    }
    text[size] = '\0';
    const char *line = strstr(text, "\noom_kill ");
    if (line)
        count = strtoll(line + strlen("\noom_kill "), NULL, 10);
    return count;
}

int nr_os_oom_names(pid_t pid, int64_t since_ns)
{
    char record[8192], words[48];

    nr_cleanup_close int fd = nr_os_open("/dev/kmsg", O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0)
        return fd;
    snprintf(words, sizeof words, "Killed process %d ", (int)pid);
    for (;;) {
        ssize_t size =
            read(fd, record, sizeof record - 1); /* a record: level,number,time in us,-;text */
        if (size < 0 && (errno == EINTR || errno == EPIPE)) /* EPIPE: some were overwritten */
            continue;
        if (size <= 0)
            return size < 0 && errno != EAGAIN ? -errno : 0;
        record[size] = '\0';
        const char *time = strchr(record, ',');
        time = time ? strchr(time + 1, ',') : NULL;
        /* The log's clock may be a little behind. */
        if (time && strtoll(time + 1, NULL, 10) * 1000 + 1000000000 >= since_ns &&
            strstr(record, words))
            return 1;
    }
}

/* -- signals -------------------------------------------------------------------------------------- */

int nr_os_pidfd_signal(int pidfd, int signal_number)
{
    return syscall(SYS_pidfd_send_signal, pidfd, signal_number, NULL, 0) < 0 ? -errno : 0;
}

int nr_os_pid_signal(pid_t pid, int signal_number)
{
    return kill(pid, signal_number) < 0 ? -errno : 0;
}

int nr_os_pidfd_signal_group(int pidfd, pid_t leader, int signal_number)
{
    if (syscall(SYS_pidfd_send_signal, pidfd, signal_number, NULL, NR_PIDFD_SIGNAL_GROUP) == 0)
        return 0;
    if (errno != EINVAL)
        return -errno;
    return kill(-leader, signal_number) < 0 ? -errno : 0;
}
