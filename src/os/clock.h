/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * clock -- monotonic time, and deadlines that cost nothing until someone has to wait
 *
 * What       A call takes a time-out; only when it must wait for the first time does the deadline read
 *            the clock. So a call that succeeds at once makes no clock call.
 */
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

int64_t nr_os_now_ns(void);

struct nr_deadline {
    int64_t timeout_ns; /* 0: try once; < 0: for ever */
    int64_t at_ns;      /* 0: the clock was not read yet */
};

static inline struct nr_deadline nr_deadline_in(int64_t timeout_ns)
{
    return (struct nr_deadline){.timeout_ns = timeout_ns};
}
static inline bool nr_deadline_is_now(const struct nr_deadline *deadline)
{
    return deadline->timeout_ns == 0;
}
static inline bool nr_deadline_is_never(const struct nr_deadline *deadline)
{
    return deadline->timeout_ns < 0;
}

/* Nanoseconds left, 0 when it is over; INT64_MAX for ever. */
int64_t nr_deadline_left_ns(struct nr_deadline *deadline);

/* The same as a relative timespec for ppoll and friends: NULL for ever, else `storage`. */
const struct timespec *nr_deadline_timespec(struct nr_deadline *deadline, struct timespec *storage);
