/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * thread -- a helper thread inside the library, and a condition for it to sleep on
 *
 * Signals    The thread blocks every signal, so it takes none that belongs to the program.
 * Cancelling It can be cancelled only between nr_os_thread_cancellable(true) and (false), and there at
 *            any instruction: so nothing but one system call stands between the two.
 * Fork       The thread does not exist in a forked child. There do nothing with it.
 */
#include "os/lock.h"
#include "os/sanitizer.h"
#include <stdbool.h>

struct nr_thread {
    pthread_t handle;
    bool is_running;
};

int nr_os_thread_start(struct nr_thread *thread, const char *name, void *(*run)(void *),
                       void *context);              /* -EAGAIN: the system has no more threads */
void nr_os_thread_join(struct nr_thread *thread);   /* waits for its end */
void nr_os_thread_cancel(struct nr_thread *thread); /* see above; then join */

/* A number that no other thread of this process has or had. A forked child's thread has its parent's. */
uint64_t nr_os_thread_token(void);

/* Lets the signal through by which the C library cancels, or blocks it. */
void nr_os_thread_cancel_signal(bool passes);

/*
 * Of the calling helper thread. The first call, with false, is the first thing that it does. No function
 * that is on the stack between the two calls has a variable whose address is taken: the address sanitizer
 * would hold on to its surroundings when the thread is gone.
 *
 * pthread_cancel() looks at the state and then sends a signal, which may arrive when the thread has left the call
 * already and holds a lock. glibc's handler (2.36) ends it even so, since it looks at the type only, and
 * every libc function that waits, such as write(2), makes the type asynchronous for as long. So that signal is
 * blocked as well, which pthread_sigmask(3) does not do.
 */
__attribute__((always_inline)) static inline void nr_os_thread_cancellable(bool on)
{
    if (on)
        pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    if (!NR_OS_HAS_TSAN)
        nr_os_thread_cancel_signal(on);
    if (on)
        return;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    if (!NR_OS_HAS_TSAN)
        pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
}

struct nr_condition {
    pthread_cond_t condition;
};
#define NR_CONDITION_INIT                                                                          \
    {                                                                                              \
        .condition = PTHREAD_COND_INITIALIZER                                                      \
    }

/* The lock is held, and is so again afterwards. May return for nothing. */
void nr_condition_wait(struct nr_condition *condition, struct nr_lock *lock);
void nr_condition_wait_ms(struct nr_condition *condition, struct nr_lock *lock, int milliseconds);
void nr_condition_wake(struct nr_condition *condition);
