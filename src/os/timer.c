/* SPDX-License-Identifier: MIT */
#include "os/timer.h"
#include <errno.h>
#include <sys/timerfd.h>

enum { NR_TIMER_SECOND_NS = 1000000000 };

int nr_os_timer_new(void)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

    return fd < 0 ? -errno : fd;
}

int nr_os_timer_set(int fd, int64_t at_ns)
{
    struct itimerspec when = {
        .it_value = {.tv_sec = at_ns / NR_TIMER_SECOND_NS, .tv_nsec = at_ns % NR_TIMER_SECOND_NS}};

    return timerfd_settime(fd, TFD_TIMER_ABSTIME, &when, NULL) < 0 ? -errno : 0;
}
