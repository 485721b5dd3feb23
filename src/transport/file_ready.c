/* SPDX-License-Identifier: MIT */
/*
 * file_ready -- a descriptor that tells of the next record: inotify, an eventfd, and one pidfd
 *
 * What       An epoll descriptor over an inotify watch of the file (each append writes to it, so the kernel
 *            tells of it whatever becomes of the writer), an eventfd that is set while something is
 *            known to be there, and the pidfd of whoever is just writing.
 * Level      inotify stays readable until it is drained; that is done only when a receive has found nothing,
 *            and then the journal is looked at once more.
 * Death      The write itself is told before the record is committed. A receiver that comes too early finds the
 *            lock taken, and so sets control.watchers, for which the writer touches the file after it
 *            has committed, and watches the writer's pidfd, in case it never gets that far. Who takes
 *            the lock later than that writes later as well, and that is told.
 * Ordering   watchers = 1, drain, lock, tail here; publish, give the lock, watchers there: all seq_cst, so one of
 *            the two sees the other.
 */
#include "os/file.h"
#include "os/process.h"
#include "transport/file.h"

static int nr_file_ready_fail(struct nr_file *file, int error)
{
    if (nr_os_is_refused(error))
        return nr_fail(-EOPNOTSUPP,
                       "no descriptor for %s: inotify is refused here (a sandbox?); receive with "
                       "a time-out instead",
                       file->endpoint.uri);
    return nr_fail(error,
                   "no descriptor for %s: %s; raise `ulimit -n`, or fs.inotify.max_user_instances "
                   "and max_user_watches",
                   file->endpoint.uri, nr_error_name(error));
}

static int nr_file_ready_make(struct nr_file *file)
{
    nr_cleanup_close int epoll_fd = nr_os_epoll_new();
    nr_cleanup_close int event_fd = nr_os_eventfd();
    nr_cleanup_close int watch_fd = nr_os_file_watch(file->journal.fd);

    int result = epoll_fd < 0 ? epoll_fd : event_fd < 0 ? event_fd : watch_fd;
    if (result >= 0)
        result = nr_os_epoll_add(epoll_fd, event_fd, NR_READABLE);
    if (result >= 0)
        result = nr_os_epoll_add(epoll_fd, watch_fd, NR_READABLE);
    if (result < 0)
        return nr_file_ready_fail(file, result);
    file->event_fd = event_fd;
    file->watch_fd = watch_fd;
    file->epoll_fd = epoll_fd;
    epoll_fd = event_fd = watch_fd = -1;
    return 0;
}

int nr_file_ready_descriptor(struct naru_endpoint *endpoint, unsigned *events)
{
    struct nr_file *file = nr_file_of(endpoint);

    nr_lock_scope(&file->ready_lock);
    if (*events ==
        NR_WRITABLE) { /* a journal takes a message at any time: an eventfd that is never full */
        if (file->writable_fd < 0)
            file->writable_fd = nr_os_eventfd();
        return file->writable_fd < 0 ? nr_file_ready_fail(file, file->writable_fd)
                                     : file->writable_fd;
    }
    int result = file->epoll_fd < 0 ? nr_file_ready_make(file) : 0;
    return result < 0 ? result : file->epoll_fd;
}

/* Watches whoever writes just now. False: it is dead already. */
static bool nr_file_ready_watch_writer(struct nr_file *file)
{
    uint32_t word = __atomic_load_n(&file->journal.control->lock, __ATOMIC_SEQ_CST) & INT32_MAX;

    if (word == 0 || word == file->party.me + 1)
        return true;
    int pid = nr_party_pid(&file->party, word - 1);
    if (nr_party_is_dead(&file->party, word - 1))
        return false;
    file->owner_fd = pid > 0 ? nr_os_pidfd_open(pid) : -1;
    return file->owner_fd >= 0 && nr_os_epoll_add(file->epoll_fd, file->owner_fd, NR_READABLE) == 0;
}

void nr_file_ready_arm(struct naru_endpoint *endpoint, unsigned events, size_t size_bytes)
{
    struct nr_file *file = nr_file_of(endpoint);

    (void)size_bytes;
    nr_lock_scope(&file->ready_lock);
    if (file->epoll_fd < 0 || events != NR_READABLE) /* there is always room */
        return;
    if (file->owner_fd >=
        0) /* closing alone would leave it there while a forked child has a copy */
        nr_os_epoll_remove(file->epoll_fd, file->owner_fd);
    nr_os_close(&file->owner_fd);
    nr_os_eventfd_clear(file->event_fd);
    __atomic_store_n(&file->journal.control->watchers, 1, __ATOMIC_SEQ_CST);
    nr_os_drain(file->watch_fd);
    bool is_watched = nr_file_ready_watch_writer(file);
    if (!is_watched || nr_file_is_readable(file))
        nr_os_eventfd_set(file->event_fd);
}

void nr_file_ready_set(struct nr_file *file)
{
    nr_lock_scope(&file->ready_lock);
    if (file->event_fd >= 0)
        nr_os_eventfd_set(file->event_fd);
}

void nr_file_ready_deinit(struct nr_file *file)
{
    nr_os_close(&file->owner_fd);
    nr_os_close(&file->watch_fd);
    nr_os_close(&file->event_fd);
    nr_os_close(&file->epoll_fd);
    nr_os_close(&file->writable_fd);
}
