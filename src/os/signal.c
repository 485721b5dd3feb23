/* SPDX-License-Identifier: MIT */
#include "os/signal.h"
#include "os/io.h"
#include "os/process.h"
#include "os/signal_status.h"
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static_assert(sizeof(union sigval) == sizeof(uint64_t), "a signal's value holds 64 bits");

int nr_os_signal_fd(uint64_t set)
{
    sigset_t signals = nr_os_signal_set(set);
    int fd = signalfd(-1, &signals, SFD_CLOEXEC); /* blocking, for the guarded read */

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

/* One signal, or -EAGAIN: none in that time (NULL: for ever), -EINTR. The kernel's own sets are 64 bits, too. */
static int nr_os_signal_dequeue(uint64_t set, siginfo_t *ret, const struct timespec *time)
{
    long number = syscall(SYS_rt_sigtimedwait, &set, ret, time, sizeof set);

    return number < 0 ? -errno : (int)number;
}

int nr_os_signal_take(int signal_number, struct nr_os_signal_value *ret)
{
    static const struct timespec now = {0};
    siginfo_t information;
    int result;

    do
        result = nr_os_signal_dequeue(NARU_SIGNAL_BIT(signal_number), &information, &now);
    while (result == -EINTR);
    if (result < 0)
        return result;
    *ret = (struct nr_os_signal_value){
        .value = (uint64_t)(uintptr_t)information.si_value.sival_ptr,
        .sender_pid = information.si_pid,
        .sender_uid = information.si_uid,
        .is_message = information.si_code == SI_QUEUE,
    };
    return 0;
}

static uint32_t nr_os_signal_known(const siginfo_t *from)
{
    bool is_childs = from->si_signo == SIGCHLD && from->si_code > 0 && from->si_code != SI_KERNEL;
    bool is_fault = from->si_signo == SIGSEGV || from->si_signo == SIGBUS ||
                    from->si_signo == SIGILL || from->si_signo == SIGFPE ||
                    from->si_signo == SIGTRAP;

    if (is_childs)
        return NARU_SIGNAL_KNOWS_SENDER | NARU_SIGNAL_KNOWS_STATUS;
    if (is_fault && from->si_code > 0 && from->si_code != SI_KERNEL)
        return NARU_SIGNAL_KNOWS_ADDRESS;
    switch (from->si_code) {
    case SI_USER: /* pid 0: the kernel had no room to remember who, or it is in another PID namespace */
    case SI_TKILL:
        return from->si_pid ? NARU_SIGNAL_KNOWS_SENDER : 0;
    case SI_QUEUE:
    case SI_MESGQ:
        return NARU_SIGNAL_KNOWS_VALUE | (from->si_pid ? NARU_SIGNAL_KNOWS_SENDER : 0);
    case SI_TIMER:
        return NARU_SIGNAL_KNOWS_VALUE;
    default:
        return 0;
    }
}

void nr_os_signal_describe(const siginfo_t *from, struct naru_signal *ret)
{
    uint32_t known = nr_os_signal_known(from);

    *ret = (struct naru_signal){.number = from->si_signo, .code = from->si_code, .known = known};
    if (known & NARU_SIGNAL_KNOWS_SENDER) {
        ret->sender_pid = from->si_pid;
        ret->sender_uid = from->si_uid;
    }
    if (known & NARU_SIGNAL_KNOWS_VALUE)
        ret->value = (uint64_t)(uintptr_t)from->si_value.sival_ptr;
    if (known & NARU_SIGNAL_KNOWS_STATUS)
        ret->status = from->si_status;
    if (known & NARU_SIGNAL_KNOWS_ADDRESS)
        ret->address = (uint64_t)(uintptr_t)from->si_addr;
}

int nr_os_signal_wait(uint64_t set, struct naru_signal *ret, struct nr_deadline *deadline)
{
    struct timespec storage;
    siginfo_t information;
    int result;

    do
        result = nr_os_signal_dequeue(set, &information, nr_deadline_timespec(deadline, &storage));
    while (result == -EINTR);
    if (result == -EAGAIN)
        return nr_deadline_is_now(deadline) ? -EAGAIN : -ETIMEDOUT;
    if (result > 0 && ret)
        nr_os_signal_describe(&information, ret);
    return result;
}

/* -- sending ------------------------------------------------------------------------------- */

static int nr_os_signal_may_send(int pidfd)
{
    if (syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == 0)
        return 0;
    int result = -errno;
    if (result != -EPERM)
        return result;
    /* The target does not let us, or the sandbox does not: everyone may signal himself. */
    int self = nr_os_pidfd_open(getpid());
    bool is_refused = self >= 0 && syscall(SYS_pidfd_send_signal, self, 0, NULL, 0) < 0;
    nr_os_close(&self);
    return is_refused ? -ENOSYS : result;
}

int nr_os_signal_target_init(struct nr_os_signal_target *target, pid_t pid)
{
    int fd = nr_os_pidfd_open(pid);
    int result = fd < 0 ? fd : nr_os_signal_may_send(fd);
    struct naru_signal_state state;

    *target = (struct nr_os_signal_target){.fd = fd < 0 ? -1 : fd, .pid = pid};
    if (result != -ENOSYS)
        return result;
    nr_os_close(&target->fd);
    target->start_time = nr_os_process_start_time(pid);
    if (nr_os_signal_status(pid, &state) ==
        -ESRCH) /* or a thread, for which kill(2) takes its process */
        return -ESRCH;
    return kill(pid, 0) < 0 ? -errno : 0;
}

void nr_os_signal_target_deinit(struct nr_os_signal_target *target)
{
    nr_os_close(&target->fd);
}

bool nr_os_signal_target_is_dead(const struct nr_os_signal_target *target)
{
    return target->fd >= 0 ? nr_os_pidfd_is_dead(target->fd)
                           : nr_os_process_is_gone(target->pid, target->start_time);
}

static int nr_os_signal_send_by_pid(const struct nr_os_signal_target *target, int signal_number,
                                    siginfo_t *information)
{
    if (nr_os_process_is_gone(target->pid, target->start_time))
        return -ESRCH;
    long result = information
                      ? syscall(SYS_rt_sigqueueinfo, target->pid, signal_number, information)
                      : kill(target->pid, signal_number);
    return result < 0 ? -errno : 0;
}

int nr_os_signal_send(const struct nr_os_signal_target *target, int signal_number,
                      const struct nr_os_signal_value *value)
{
    siginfo_t information, *with = NULL;

    if (value) {
        memset(&information, 0, sizeof information);
        information.si_signo = signal_number;
        information.si_code = SI_QUEUE;
        information.si_pid = value->sender_pid;
        information.si_uid = value->sender_uid;
        information.si_value.sival_ptr = (void *)(uintptr_t)value->value;
        with = &information;
    }
    if (target->fd < 0)
        return nr_os_signal_send_by_pid(target, signal_number, with);
    return syscall(SYS_pidfd_send_signal, target->fd, signal_number, with, 0) < 0 ? -errno : 0;
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
