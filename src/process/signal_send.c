/* SPDX-License-Identifier: MIT */
/*
 * signal_send -- signals to one process, and to no later one with its number
 *
 * Fork       A target is a pidfd, or a pid with its start time: a child may go on using it. What it tells as the
 *            sender is found out at each send.
 */
#include "process/signal.h"
#include "os/process.h"
#include "os/signal.h"
#include <stdlib.h>

struct naru_signal_target {
    struct nr_os_signal_target os;
};

static int nr_signal_send_dead(int64_t pid)
{
    return nr_fail(-ESRCH, "there is no process %lld, or it has ended; nothing was sent",
                   (long long)pid);
}

int naru_signal_target_open(struct naru_signal_target **ret, int64_t pid)
{
    if (!ret)
        return nr_fail(-EINVAL, "naru_signal_target_open() needs a place for the target");
    if (pid < 1 || pid > INT32_MAX)
        return nr_fail(-EINVAL,
                       "%lld is no process; give the pid of one, groups can't be signalled at once",
                       (long long)pid);
    struct naru_signal_target *target = malloc(sizeof *target);
    if (!target)
        return nr_fail(-ENOMEM, "no memory for the target of a signal");
    int result = nr_os_signal_target_init(&target->os, (pid_t)pid);
    if (result == 0 || result == -EPERM) { /* what may be sent depends on the signal as well */
        *ret = target;
        return 0;
    }
    naru_signal_target_close(target);
    if (result == -EMFILE || result == -ENFILE)
        return nr_fail(result,
                       "no descriptor for process %lld: %s; close some, or raise `ulimit -n`",
                       (long long)pid, nr_error_name(result));
    /* EINVAL, in newer kernels ENOENT: it is a thread, but not the first one of its process */
    if (result == -ESRCH || result == -EINVAL || result == -ENOENT)
        return nr_fail(-ESRCH, "there is no process %lld", (long long)pid);
    return nr_fail(result, "process %lld: %s", (long long)pid, nr_error_name(result));
}

void naru_signal_target_close(struct naru_signal_target *target)
{
    if (target)
        nr_os_signal_target_deinit(&target->os);
    free(target);
}

static int nr_signal_send_failed(const struct naru_signal_target *target, int number, int error)
{
    int pid = (int)target->os.pid;

    if (error == -ESRCH)
        return nr_signal_send_dead(pid);
    if (error == -EPERM)
        return nr_fail(error,
                       "uid %u may not signal process %d, which belongs to another user; send as "
                       "that user, or as root",
                       (unsigned)nr_os_uid(), pid);
    if (error == -EAGAIN)
        return nr_fail(error,
                       "the user of process %d has as many signals pending as RLIMIT_SIGPENDING "
                       "allows (%llu); let it take some and try again, or raise `ulimit -i` there",
                       pid, (unsigned long long)nr_os_signal_limit(target->os.pid));
    return nr_fail(error, "signal %d to process %d: %s", number, pid, nr_error_name(error));
}

static int nr_signal_send(struct naru_signal_target *target, int number,
                          const struct nr_os_signal_value *value)
{
    struct naru_signal_row row;

    if (!target)
        return nr_fail(-EINVAL, "the target is NULL; did naru_signal_target_open() fail?");
    if (number != 0 && !nr_os_signal_row(number, &row))
        return nr_fail(-EINVAL, "there is no signal %d; give 1 to %d", number, NR_SIGNAL_LAST);
    /* To a zombie the kernel sends with success. */
    if (nr_os_signal_target_is_dead(&target->os))
        return nr_signal_send_dead(target->os.pid);
    int result = nr_os_signal_send(&target->os, number, value);
    return result < 0 ? nr_signal_send_failed(target, number, result) : 0;
}

int naru_signal_send(struct naru_signal_target *target, int number)
{
    return nr_signal_send(target, number, NULL);
}

int naru_signal_send_value(struct naru_signal_target *target, int number, uint64_t value)
{
    struct nr_os_signal_value with = {
        .value = value,
        .sender_pid = nr_os_pid(),
        .sender_uid = nr_os_uid(),
    };

    return nr_signal_send(target, number, &with);
}
