/* SPDX-License-Identifier: MIT */
/*
 * ready -- a child says that it is ready
 *
 * What       To the descriptor that naru_spawn() gave it; or, in a program, the one that NARU_READY_FD names, or the
 *            socket that NOTIFY_SOCKET names. Each is told once.
 */
#include "os/link.h"
#include "process/process.h"
#include <stdlib.h>

enum { NR_READY_ENVIRONMENT = -2, NR_READY_NOBODY = -1 };

static int nr_ready_fd_to_tell = NR_READY_ENVIRONMENT;

int *nr_ready_to_parent(int fd)
{
    nr_ready_fd_to_tell = fd;
    return &nr_ready_fd_to_tell;
}

static int nr_ready_notify(const char *address)
{
    int result = nr_os_link_notify(address, "READY=1");

    if (result < 0)
        return nr_fail(result, "NOTIFY_SOCKET is \"%s\", and can't be told: %s", address,
                       nr_error_name(result));
    return 1;
}

/* What whoever started this program wants to be told by; the descriptor, or what is to be returned in *ret. */
static int nr_ready_from_environment(int *ret)
{
    const char *number = getenv("NARU_READY_FD"), *address = getenv("NOTIFY_SOCKET");
    char *end = NULL;

    *ret = 0;
    if (!number) {
        if (address)
            *ret = nr_ready_notify(address);
        return NR_READY_NOBODY;
    }
    long fd = strtol(number, &end, 10);
    if (!*number || *end || fd < 0 || fd > INT32_MAX || !nr_os_fd_is_open((int)fd)) {
        *ret = nr_fail(-EBADF, "NARU_READY_FD is \"%s\", which is no open descriptor", number);
        return NR_READY_NOBODY;
    }
    return (int)fd;
}

int naru_ready(void)
{
    int result = 0;

    nr_error_clear();
    int fd = __atomic_exchange_n(&nr_ready_fd_to_tell, NR_READY_NOBODY, __ATOMIC_RELAXED);
    if (fd == NR_READY_ENVIRONMENT)
        fd = nr_ready_from_environment(&result);
    if (fd < 0)
        return result;
    result = nr_os_link_put_any(fd, "\n", 1);
    nr_os_close(&fd);
    if (result == -EPIPE) /* whoever asked has gone, or does not care any more */
        return 0;
    return result < 0
               ? nr_fail(result, "can't say that this process is ready: %s", nr_error_name(result))
               : 1;
}
