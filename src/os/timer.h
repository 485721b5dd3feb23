/* SPDX-License-Identifier: MIT */
#pragma once
/* timer -- a descriptor that is readable from a moment of the monotonic clock on; non-blocking, close-on-exec */
#include <stdint.h>

int nr_os_timer_new(void);
int nr_os_timer_set(int fd, int64_t at_ns); /* 0: never */
