/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * interrupt -- ends another thread's, or one's own, wait; async-signal-safe
 *
 * What       A flag, which is also a futex for those who sleep on words, and a descriptor for those who wait
 *            in poll. Raising ends one wait: whoever
 *            returns -EINTR for it lowers the flag.
 * Writers    Any thread or handler raises; the waiter lowers.
 */
#include <stdbool.h>

struct nr_interrupt {
    int raised;
    int fd; /* eventfd, made at the first wait; -1 before */
};
#define NR_INTERRUPT_NULL ((struct nr_interrupt){.fd = -1})

void nr_interrupt_deinit(struct nr_interrupt *interrupt);
void nr_interrupt_raise(struct nr_interrupt *interrupt);

/* True if it was raised; lowers it. */
bool nr_interrupt_consume(struct nr_interrupt *interrupt);

/* The descriptor to poll, made on demand; -errno. Check the flag after this, and before polling. */
int nr_interrupt_fd(struct nr_interrupt *interrupt);

static inline bool nr_interrupt_is_raised(const struct nr_interrupt *interrupt)
{
    return __atomic_load_n(&interrupt->raised, __ATOMIC_RELAXED) != 0;
}
