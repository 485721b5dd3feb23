/* SPDX-License-Identifier: MIT */
#pragma once
/* relax -- one turn of a spinning loop: tells the processor so, and lets its other thread go on */

static inline void nr_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}
