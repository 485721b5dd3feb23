/* SPDX-License-Identifier: MIT */
#include "os/clock.h"

int64_t nr_os_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t nr_deadline_left_ns(struct nr_deadline *deadline)
{
    if (deadline->timeout_ns < 0)
        return INT64_MAX;
    if (deadline->timeout_ns == 0)
        return 0;
    int64_t now = nr_os_now_ns();
    if (deadline->at_ns == 0) {
        if (__builtin_add_overflow(now, deadline->timeout_ns, &deadline->at_ns))
            deadline->at_ns = INT64_MAX;
    }
    return deadline->at_ns > now ? deadline->at_ns - now : 0;
}

const struct timespec *nr_deadline_timespec(struct nr_deadline *deadline, struct timespec *storage)
{
    if (nr_deadline_is_never(deadline))
        return NULL;
    int64_t left = nr_deadline_left_ns(deadline);
    storage->tv_sec = left / 1000000000;
    storage->tv_nsec = left % 1000000000;
    return storage;
}
