/* SPDX-License-Identifier: MIT */
#include "os/interrupt.h"
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

void nr_interrupt_deinit(struct nr_interrupt *interrupt)
{
    if (interrupt->fd >= 0)
        close(interrupt->fd);
    *interrupt = NR_INTERRUPT_NULL;
}

/* The flag is set before the descriptor is looked at, and nr_interrupt_fd() publishes the descriptor
   before its caller looks at the flag: one of the two sees the other. */
void nr_interrupt_raise(struct nr_interrupt *interrupt)
{
    int saved_errno = errno;

    __atomic_store_n(&interrupt->raised, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &interrupt->raised, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    int fd = __atomic_load_n(&interrupt->fd, __ATOMIC_SEQ_CST);
    if (fd >= 0) {
        uint64_t one = 1;
        while (write(fd, &one, sizeof one) < 0 && errno == EINTR)
            ;
    }
    errno = saved_errno;
}

bool nr_interrupt_consume(struct nr_interrupt *interrupt)
{
    if (!__atomic_load_n(&interrupt->raised, __ATOMIC_SEQ_CST))
        return false;
    int fd = __atomic_load_n(&interrupt->fd, __ATOMIC_SEQ_CST);
    if (fd >= 0) {
        uint64_t count;
        while (read(fd, &count, sizeof count) < 0 && errno == EINTR)
            ;
    }
    return __atomic_exchange_n(&interrupt->raised, 0, __ATOMIC_SEQ_CST) != 0;
}

int nr_interrupt_fd(struct nr_interrupt *interrupt)
{
    int fd = __atomic_load_n(&interrupt->fd, __ATOMIC_SEQ_CST);

    if (fd >= 0)
        return fd;
    int made = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (made < 0)
        return -errno;
    if (__atomic_compare_exchange_n(&interrupt->fd, &fd, made, false, __ATOMIC_SEQ_CST,
                                    __ATOMIC_SEQ_CST))
        return made;
    close(made);
    return fd;
}
