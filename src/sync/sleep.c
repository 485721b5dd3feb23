/* SPDX-License-Identifier: MIT */
#include "sync/sleep.h"
#include <errno.h>

#define NR_SLEEP_LOOK_NS INT64_C(1000000000)

int nr_sleep(const struct nr_os_futex_word *words, unsigned count, struct nr_deadline *deadline)
{
    struct nr_deadline look = nr_deadline_in(NR_SLEEP_LOOK_NS);
    bool is_last = nr_deadline_left_ns(deadline) <= NR_SLEEP_LOOK_NS;
    int result = nr_os_futex_wait(words, count, is_last ? deadline : &look);

    if (result == -EINTR || result == -EAGAIN)
        return 0;
    return result == -ETIMEDOUT && !is_last ? NR_SLEEP_LOOK : result;
}
