/* SPDX-License-Identifier: MIT */
/* signal_look -- what the kernel keeps of signals for a process */
#include "process/signal.h"
#include "os/signal_status.h"

static int nr_signal_look_check(int64_t pid, const void *ret)
{
    if (!ret)
        return nr_fail(-EINVAL, "there is no place for what is seen");
    if (pid < 1 || pid > INT32_MAX)
        return nr_fail(-EINVAL, "%lld is no process; give the pid of one", (long long)pid);
    return 0;
}

static int nr_signal_look_failed(int64_t pid, int error)
{
    switch (error) {
    case -ESRCH:
        return nr_fail(error, "there is no process %lld", (long long)pid);
    case -EACCES:
    case -EPERM:
        return nr_fail(-EACCES,
                       "/proc hides process %lld from this user; look as root, or mount "
                       "/proc without hidepid",
                       (long long)pid);
    case -ENOENT:
        return nr_fail(error,
                       "what the kernel keeps for process %lld is told in /proc, which is "
                       "not there; mount it",
                       (long long)pid);
    default:
        return nr_fail(error, "/proc/%lld: %s", (long long)pid, nr_error_name(error));
    }
}

int naru_signal_look(int64_t pid, struct naru_signal_state *ret)
{
    int result = nr_signal_look_check(pid, ret);

    if (result < 0)
        return result;
    result = nr_os_signal_status((pid_t)pid, ret);
    return result < 0 ? nr_signal_look_failed(pid, result) : 0;
}

int naru_signal_look_threads(int64_t pid, struct naru_signal_thread *threads, size_t capacity)
{
    int result = nr_signal_look_check(pid, capacity ? threads : (void *)&pid);

    if (result < 0)
        return result;
    result = nr_os_signal_status_threads((pid_t)pid, threads, capacity);
    return result < 0 ? nr_signal_look_failed(pid, result) : result;
}
