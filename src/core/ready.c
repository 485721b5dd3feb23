/* SPDX-License-Identifier: MIT */
/*
 * ready -- one level-triggered descriptor for all that can make a receive succeed
 *
 * What       naru_fd() is an epoll descriptor over the transport's own one, an eventfd that is set while
 *            messages are kept in the endpoint (put back, or too large for the room offered), and the
 *            pidfd of a pair's other process. An epoll descriptor polls readable while any of them does. Where the
 *            transport's own one says all this (`descriptors_are_whole`) it is that.
 * Death      Nothing of it is shared with other processes.
 */
#include "core/core.h"
#include <stdlib.h>

static int nr_ready_make(struct naru_endpoint *endpoint, int index)
{
    unsigned events = index ? NR_WRITABLE : NR_READABLE;

    if (!endpoint->transport->descriptor)
        return -EOPNOTSUPP;
    int fd = endpoint->transport->descriptor(endpoint, &events);
    if (fd < 0)
        return fd;
    if (endpoint->transport->descriptors_are_whole) {
        endpoint->ready_fd[index] = nr_os_duplicate(fd);
        return endpoint->ready_fd[index] < 0 ? endpoint->ready_fd[index] : 0;
    }
    nr_cleanup_close int epoll_fd = nr_os_epoll_new();
    if (epoll_fd < 0)
        return epoll_fd;
    int result = nr_os_epoll_add(epoll_fd, fd, events);
    if (result == 0 && index == 0) {
        if (endpoint->kept_fd < 0) /* or left by a try that failed behind it */
            endpoint->kept_fd = nr_os_eventfd();
        if (endpoint->kept_fd < 0)
            return endpoint->kept_fd;
        if (endpoint->kept_count)
            nr_os_eventfd_set(endpoint->kept_fd);
        result = nr_os_epoll_add(epoll_fd, endpoint->kept_fd, NR_READABLE);
    }
    if (result == 0 && endpoint->peer_pidfd >= 0)
        result = nr_os_epoll_add(epoll_fd, endpoint->peer_pidfd, NR_READABLE);
    if (result < 0)
        return result;
    endpoint->ready_fd[index] = epoll_fd;
    epoll_fd = -1;
    return 0;
}

static int nr_ready_find(struct naru_endpoint *endpoint, int index, bool *ret_is_new)
{
    nr_lock_scope(&endpoint->lock);
    *ret_is_new = endpoint->ready_fd[index] < 0;
    int result = *ret_is_new ? nr_ready_make(endpoint, index) : 0;
    if (result == -EOPNOTSUPP)
        return nr_error_default(result, NR_ORIGIN,
                                "this technique has no descriptor for that; use "
                                "a time-out instead");
    if (result < 0)
        return nr_fail(result, "no descriptor for %s: %s; close some, or raise `ulimit -n`",
                       endpoint->uri, nr_error_name(result));
    return endpoint->ready_fd[index];
}

static int nr_ready_fd(struct naru_endpoint *endpoint, int index)
{
    bool is_new;
    int fd = nr_ready_find(endpoint, index, &is_new);

    /* Without the lock, which the transport may take. */
    if (fd >= 0 && is_new && index == 0 && endpoint->transport->arm)
        endpoint->transport->arm(endpoint, NR_READABLE, 0);
    if (fd >= 0 && is_new && index == 0 && endpoint->transport->descriptors_are_whole &&
        __atomic_load_n(&endpoint->kept_count, __ATOMIC_ACQUIRE))
        nr_os_eventfd_set(fd);
    return fd;
}

int naru_fd(struct naru_endpoint *endpoint)
{
    bool may_be_client = endpoint && endpoint->transport->call_end;
    int result = nr_core_enter(endpoint, may_be_client ? 0 : NARU_RECEIVER);

    return result < 0 ? result : nr_core_leave(endpoint, nr_ready_fd(endpoint, 0));
}

int naru_send_fd(struct naru_endpoint *endpoint)
{
    int result = nr_core_enter(endpoint, NARU_SENDER);

    return result < 0 ? result : nr_core_leave(endpoint, nr_ready_fd(endpoint, 1));
}

int nr_ready_watch_peer(struct naru_endpoint *endpoint)
{
    for (int i = 0; i < 2; i++) {
        if (endpoint->ready_fd[i] < 0 || endpoint->peer_pidfd < 0)
            continue;
        if (endpoint->transport->descriptors_are_whole) {
            nr_os_eventfd_set(endpoint->ready_fd[i]); /* so that it is armed with the peer */
            continue;
        }
        int result = nr_os_epoll_add(endpoint->ready_fd[i], endpoint->peer_pidfd, NR_READABLE);
        if (result < 0)
            return nr_fail(result, "can't watch the other side of %s: %s", endpoint->uri,
                           nr_error_name(result));
    }
    return 0;
}

int nr_kept_push(struct naru_endpoint *endpoint, const struct naru_message *message, bool at_front)
{
    struct nr_kept *kept = malloc(sizeof *kept);

    if (!kept)
        return nr_fail(-ENOMEM, "no memory to keep a message of %zu bytes", message->size_bytes);
    kept->message = *message;
    nr_lock_scope(&endpoint->lock);
    struct nr_kept **place = &endpoint->kept;
    while (!at_front && *place)
        place = &(*place)->next;
    kept->next = *place;
    *place = kept;
    __atomic_store_n(&endpoint->kept_count, endpoint->kept_count + 1, __ATOMIC_RELEASE);
    if (endpoint->kept_fd >= 0)
        nr_os_eventfd_set(endpoint->kept_fd);
    else if (endpoint->ready_fd[0] >= 0) /* a whole one */
        nr_os_eventfd_set(endpoint->ready_fd[0]);
    return 0;
}

struct nr_kept *nr_kept_pop(struct naru_endpoint *endpoint, size_t capacity_bytes,
                            size_t *ret_needed_bytes)
{
    nr_lock_scope(&endpoint->lock);
    struct nr_kept *kept = endpoint->kept;

    if (!kept)
        return NULL;
    if (kept->message.size_bytes > capacity_bytes) {
        *ret_needed_bytes = kept->message.size_bytes;
        return NULL;
    }
    endpoint->kept = kept->next;
    __atomic_store_n(&endpoint->kept_count, endpoint->kept_count - 1, __ATOMIC_RELEASE);
    if (endpoint->kept_fd >= 0 && !endpoint->kept)
        nr_os_eventfd_clear(endpoint->kept_fd);
    return kept;
}
