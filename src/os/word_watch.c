/* SPDX-License-Identifier: MIT */
#include "os/word_watch.h"
#include "os/futex.h"
#include "os/io.h"
#include <errno.h>
#include <limits.h>

enum { NR_WORD_WATCH_HAND_OVERS = 8 };

/* -- the thread, where there is no ring ----------------------------------------------------- */

static int nr_word_watch_wait(void *context)
{
    struct nr_word_watch *watch = context;
    const struct nr_os_futex_word word = {watch->word, watch->value};
    struct nr_deadline never = nr_deadline_in(-1);
    int result = 0;

    while (__atomic_load_n(watch->word, __ATOMIC_ACQUIRE) == watch->value &&
           !__atomic_load_n(&watch->watcher_stops, __ATOMIC_ACQUIRE) &&
           (result >= 0 || result == -EINTR))
        result = nr_os_futex_wait(&word, 1, &never);
    return 0;
}

/* Whoever else sleeps on the word wakes for nothing. */
static void nr_word_watch_wake(void *context)
{
    struct nr_word_watch *watch = context;

    __atomic_store_n(&watch->watcher_stops, 1, __ATOMIC_RELEASE);
    nr_os_futex_wake(watch->word, INT_MAX);
}

static const struct nr_watcher_work nr_word_watch_work = {.wait = nr_word_watch_wait,
                                                          .wake = nr_word_watch_wake};

/* -- the ring ------------------------------------------------------------------------------- */

/* A ring of this thread. False: the watcher has to do it, from now on. */
static bool nr_word_watch_ring(struct nr_word_watch *watch)
{
    if (nr_os_uring_is_mine(&watch->ring))
        return true;
    if (watch->ring.fd >= 0)
        watch->hand_overs++;
    nr_os_uring_deinit(&watch->ring);
    watch->is_armed = false;
    if (watch->hand_overs > NR_WORD_WATCH_HAND_OVERS || nr_os_uring_init(&watch->ring, true) < 0)
        return false;
    return nr_os_uring_signal(&watch->ring, watch->watcher.fd) == 0;
}

static bool nr_word_watch_by_ring(struct nr_word_watch *watch)
{
    uint64_t data;
    int result = 0, outcome;

    if (!nr_word_watch_ring(watch) || nr_os_uring_enter(&watch->ring, NULL) < 0)
        return false;
    while (nr_os_uring_next(&watch->ring, &data, &outcome))
        watch->is_armed = false;
    nr_os_eventfd_clear(watch->watcher.fd); /* what completes from here on sets it again */
    if (!watch->is_armed)
        result = nr_os_uring_futex(&watch->ring, watch->word, watch->value, 0);
    if (!watch->is_armed && result == 0)
        result = nr_os_uring_enter(&watch->ring, NULL);
    watch->is_armed = result == 0;
    return result == 0;
}

/* A wait stands, no matter whose, and nothing has come of it: so the descriptor is silent. */
static bool nr_word_watch_stands(const struct nr_word_watch *watch)
{
    return watch->is_armed && !nr_os_uring_has_news(&watch->ring);
}

/* -- arming --------------------------------------------------------------------------------- */

static void nr_word_watch_by_watcher(struct nr_word_watch *watch)
{
    nr_os_uring_deinit(&watch->ring);
    watch->is_armed = false;
    watch->has_no_ring = true;
    nr_watcher_arm(&watch->watcher); /* if it could not it has left the descriptor readable */
}

void nr_word_watch_arm(struct nr_word_watch *watch)
{
    nr_lock_scope(&watch->lock);
    if (nr_word_watch_stands(watch))
        return;
    if (watch->has_no_ring || !nr_word_watch_by_ring(watch))
        nr_word_watch_by_watcher(watch);
}

/* -- its life ------------------------------------------------------------------------------- */

void nr_word_watch_init(struct nr_word_watch *watch, const uint32_t *word, uint32_t value)
{
    *watch = (struct nr_word_watch){
        .word = word,
        .value = value,
        .lock = NR_LOCK_INIT,
        .ring = NR_URING_NULL,
    };
    nr_watcher_init(&watch->watcher, &nr_word_watch_work, watch);
}

void nr_word_watch_deinit(struct nr_word_watch *watch)
{
    if (!watch->word)
        return;
    nr_watcher_deinit(&watch->watcher);
    nr_os_uring_deinit(&watch->ring);
    nr_word_watch_init(watch, watch->word, watch->value);
}

int nr_word_watch_fd(struct nr_word_watch *watch)
{
    uint64_t token = nr_os_process_token_new();
    uint64_t owner = __atomic_load_n(&watch->owner, __ATOMIC_RELAXED);

    if (!token)
        return -ENOMEM;
    if (owner && !nr_os_process_is(owner)) /* a thread that is not here may hold it */
        watch->lock = (struct nr_lock)NR_LOCK_INIT;
    nr_lock_scope(&watch->lock);
    if (nr_word_watch_is_on(watch))
        return watch->watcher.fd;
    nr_watcher_deinit(&watch->watcher); /* what a parent had */
    nr_os_uring_deinit(&watch->ring);
    nr_watcher_init(&watch->watcher, &nr_word_watch_work, watch);
    __atomic_store_n(&watch->owner, 0, __ATOMIC_RELAXED);
    watch->is_armed = watch->has_no_ring = false;
    watch->hand_overs = 0;
    watch->watcher_stops = 0;
    int fd = nr_watcher_fd(&watch->watcher);
    if (fd < 0)
        return fd;
    nr_os_eventfd_set(fd);
    __atomic_store_n(&watch->owner, token, __ATOMIC_RELAXED);
    return fd;
}
