/* SPDX-License-Identifier: MIT */
/* signal_action -- handle, ignore, default, block, unblock: what signals do to this process */
#include "process/signal.h"
#include "os/signal_action.h"

int naru_signal_handle(uint64_t set, void (*handler)(const struct naru_signal *signal))
{
    if (!handler)
        return nr_fail(-EINVAL, "naru_signal_handle() needs a handler; naru_signal_default() and "
                                "naru_signal_ignore() are the other choices");
    int result = nr_signal_check_set(&set, "handled");
    if (result == 0)
        nr_os_signal_handle(set, handler);
    return result;
}

int naru_signal_ignore(uint64_t set)
{
    int result = nr_signal_check_set(&set, "ignored");

    if (result == 0)
        nr_os_signal_ignore(set);
    return result;
}

int naru_signal_default(uint64_t set)
{
    int result = nr_signal_check_set(&set, "changed");

    if (result == 0)
        nr_os_signal_default(set);
    return result;
}

int naru_signal_block(uint64_t set, uint64_t *ret_changed)
{
    int result = nr_signal_check_set(&set, "blocked");

    if (result < 0)
        return result;
    uint64_t before = nr_os_signal_block(set);
    if (ret_changed)
        *ret_changed = set & ~before;
    return 0;
}

int naru_signal_unblock(uint64_t set)
{
    int result = nr_signal_check_set(&set, "unblocked");

    if (result == 0)
        nr_os_signal_unblock(set);
    return result;
}
