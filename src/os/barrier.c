/* SPDX-License-Identifier: MIT */
#include "os/barrier.h"
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool nr_os_barrier_call(int command)
{
    return syscall(SYS_membarrier, command, 0, 0) == 0;
}

bool nr_os_barrier_register(void)
{
    return nr_os_barrier_call(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED);
}

bool nr_os_barrier(void)
{
    return nr_os_barrier_call(MEMBARRIER_CMD_GLOBAL_EXPEDITED);
}
