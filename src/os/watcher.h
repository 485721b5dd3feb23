/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * watcher -- a descriptor for a technique that has none: a thread that waits in its stead
 *
 * What       A thread sleeps in work->wait() and then makes an eventfd readable: it "fires", once, until it
 *            is armed again. The thread starts at the first nr_watcher_arm(); who never needs a descriptor
 *            never has a thread.
 *
 *              idle --arm--> armed --wait() returns, or stop--> idle, descriptor readable
 *
 * wait()     Runs in the thread, with all signals blocked, holding no lock. Blocks until something *may*
 *            have come; its result does not matter: to return for nothing is allowed, to sleep through
 *            something is not. What came before wait() began must end it as well. It must not call
 *            nr_watcher_*, nor take a lock under which its user calls nr_watcher_*.
 * Stopping   One of two ways, and either must be bounded:
 *              wake != NULL   makes a wait() that is running return. It is called again every 10 ms until
 *                             wait() has returned, so one that comes too early is not fatal.
 *              wake == NULL   wait() is cancelled: it sleeps between nr_os_thread_cancellable(true) and
 *                             (false), in one system call whose outcome can be told from memory afterwards
 *                             (as nr_os_msg_peek() does). The thread ends, and a new one starts at the
 *                             next arm.
 * Memory     What wait() wrote is visible to whoever sees the watcher not armed any more.
 * Threads    Any thread may call any function at any time, except init and deinit. Several waiters may
 *            poll the descriptor; after a stop by one of them all find it readable, look, and arm again.
 * Signals    The thread takes none.
 * Fork       In a forked child there is no thread. nr_watcher_deinit() only closes the descriptor there, and
 *            the other functions must not be called.
 * Death      Everything here goes with the process.
 */
#include "os/lock.h"
#include "os/thread.h"
#include <stdbool.h>
#include <stdint.h>

struct nr_watcher_work {
    int (*wait)(void *context);
    void (*wake)(void *context); /* or NULL: see Stopping */
};

struct nr_watcher {
    const struct nr_watcher_work *work;
    void *context;
    uint64_t owner;         /* token of the process that has the thread */
    struct nr_lock control; /* one arm or stop at a time; held while the thread is joined */
    struct nr_lock lock;    /* of what follows; never held while waiting for the thread's end */
    struct nr_condition changed;
    struct nr_thread thread;
    int is_armed; /* also read without the lock */
    bool quits;
    int fd; /* eventfd; -1 before its first use */
};

void nr_watcher_init(struct nr_watcher *watcher, const struct nr_watcher_work *work, void *context);
void nr_watcher_deinit(struct nr_watcher *watcher); /* stops, joins, closes; may run twice */

/* The eventfd, made on demand; the same for the watcher's life. -errno */
int nr_watcher_fd(struct nr_watcher *watcher);

/*
 * Clears the descriptor and lets the thread wait; nothing if it is armed already. Call it only when the
 * last look found nothing; what came since then fires at once. On failure (-EAGAIN no more threads,
 * -EMFILE) the descriptor is left readable, if there is one, so that nobody sleeps in vain.
 */
int nr_watcher_arm(struct nr_watcher *watcher);

/* Core may have set the descriptor of an armed one: it is silent again, until the watcher finds something. */
void nr_watcher_calm(struct nr_watcher *watcher);

/* Makes the descriptor readable without the thread. */
void nr_watcher_fire(struct nr_watcher *watcher);

/* Afterwards wait() does not run, and won't before the next arm. If it did, this fires. */
void nr_watcher_stop(struct nr_watcher *watcher);

/* True while wait() runs or is about to. One load. */
static inline bool nr_watcher_is_armed(const struct nr_watcher *watcher)
{
    return __atomic_load_n(&watcher->is_armed, __ATOMIC_ACQUIRE) != 0;
}
