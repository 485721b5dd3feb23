/* SPDX-License-Identifier: MIT */
#include "os/watcher.h"
#include "os/io.h"
#include "os/process.h"
#include <errno.h>

enum { NR_WATCHER_WAKE_AGAIN_MS = 10 };

void nr_watcher_init(struct nr_watcher *watcher, const struct nr_watcher_work *work, void *context)
{
    *watcher = (struct nr_watcher){
        .work = work,
        .context = context,
        .control = NR_LOCK_INIT,
        .lock = NR_LOCK_INIT,
        .changed = NR_CONDITION_INIT,
        .fd = -1,
    };
}

/* The lock is held. */
static void nr_watcher_disarm(struct nr_watcher *watcher)
{
    __atomic_store_n(&watcher->is_armed, 0, __ATOMIC_RELEASE);
    nr_os_eventfd_set(watcher->fd);
    nr_condition_wake(&watcher->changed);
}

static void *nr_watcher_run(void *context)
{
    struct nr_watcher *watcher = context;

    nr_os_thread_cancellable(false);
    nr_lock_take(&watcher->lock);
    for (;;) {
        while (!watcher->is_armed && !watcher->quits)
            nr_condition_wait(&watcher->changed, &watcher->lock);
        if (watcher->quits)
            break;
        nr_lock_give(&watcher->lock);
        watcher->work->wait(watcher->context);
        nr_lock_take(&watcher->lock);
        if (watcher->is_armed)
            nr_watcher_disarm(watcher);
    }
    nr_lock_give(&watcher->lock);
    return NULL;
}

int nr_watcher_fd(struct nr_watcher *watcher)
{
    nr_lock_scope(&watcher->lock);
    if (watcher->fd < 0) {
        int fd = nr_os_eventfd();
        if (fd < 0)
            return fd;
        watcher->fd = fd;
    }
    return watcher->fd;
}

int nr_watcher_arm(struct nr_watcher *watcher)
{
    int fd = nr_watcher_fd(watcher);

    if (fd < 0)
        return fd;
    nr_lock_scope(&watcher->control);
    if (nr_watcher_is_armed(watcher))
        return 0;
    if (!watcher->thread.is_running) {
        watcher->owner = nr_os_process_token_new();
        int result = nr_os_thread_start(&watcher->thread, "naru-watcher", nr_watcher_run, watcher);
        if (result < 0) {
            nr_os_eventfd_set(fd);
            return result;
        }
    }
    nr_lock_take(&watcher->lock);
    nr_os_eventfd_clear(fd);
    __atomic_store_n(&watcher->is_armed, 1, __ATOMIC_RELEASE);
    nr_condition_wake(&watcher->changed);
    nr_lock_give(&watcher->lock);
    return 0;
}

void nr_watcher_calm(struct nr_watcher *watcher)
{
    nr_lock_scope(&watcher->lock);
    if (watcher->is_armed)
        nr_os_eventfd_clear(watcher->fd);
}

void nr_watcher_fire(struct nr_watcher *watcher)
{
    int fd = nr_watcher_fd(watcher);

    if (fd >= 0)
        nr_os_eventfd_set(fd);
}

static void nr_watcher_stop_by_wake(struct nr_watcher *watcher)
{
    nr_lock_scope(&watcher->lock);
    while (watcher->is_armed) {
        watcher->work->wake(watcher->context);
        nr_condition_wait_ms(&watcher->changed, &watcher->lock, NR_WATCHER_WAKE_AGAIN_MS);
    }
}

/* Ends the thread, wherever it is: parked it sees `quits`, in wait() it is cancelled. */
static void nr_watcher_end(struct nr_watcher *watcher)
{
    nr_lock_take(&watcher->lock);
    watcher->quits = true;
    nr_condition_wake(&watcher->changed);
    nr_lock_give(&watcher->lock);
    if (!watcher->work->wake)
        nr_os_thread_cancel(&watcher->thread);
    nr_os_thread_join(&watcher->thread);
    watcher->quits = false;
    if (watcher->is_armed)
        nr_watcher_disarm(watcher);
}

void nr_watcher_stop(struct nr_watcher *watcher)
{
    nr_lock_scope(&watcher->control);
    if (!nr_watcher_is_armed(watcher))
        return;
    if (watcher->work->wake)
        nr_watcher_stop_by_wake(watcher);
    else
        nr_watcher_end(watcher);
}

void nr_watcher_deinit(struct nr_watcher *watcher)
{
    if (!watcher->work)
        return;
    if (watcher->thread.is_running && nr_os_process_is(watcher->owner)) {
        nr_watcher_stop(watcher);
        nr_watcher_end(watcher);
    }
    watcher->thread.is_running = false;
    nr_os_close(&watcher->fd);
}
