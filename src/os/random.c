/* SPDX-License-Identifier: MIT */
#include "os/random.h"
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

uint64_t nr_os_random(void)
{
    uint64_t number = 0;
    struct timespec now;

    if (getrandom(&number, sizeof number, GRND_NONBLOCK) != sizeof number) {
        clock_gettime(CLOCK_MONOTONIC, &now); /* early boot: pid and time tell processes apart */
        number = ((uint64_t)getpid() << 40) ^ ((uint64_t)now.tv_sec << 30) ^ (uint64_t)now.tv_nsec;
    }
    return number ? number : 1;
}
