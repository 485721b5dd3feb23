/* SPDX-License-Identifier: MIT */
/*
 * child -- a child's handle: wait, signal, readiness, the end
 *
 * Threads    Whoever finds the child dead first judges it, under the lock; the others copy what was found.
 * Death      Of the parent: the kernel kills the children. Of a child: its pidfd tells.
 */
#include "os/link.h"
#include "process/process.h"

int nr_child_new(struct naru_child **ret, const struct naru_spawn_options *options)
{
    struct naru_child *child = calloc(1, sizeof *child);
    uint64_t owner = nr_os_process_token_new();
    size_t bytes = options->channels_count * sizeof(struct naru_endpoint *);

    if (child && bytes)
        child->channels = malloc(bytes);
    if (!child || !owner || (bytes && !child->channels)) {
        free(child);
        return nr_fail(-ENOMEM, "no memory for the handle of a child");
    }
    if (bytes)
        memcpy(child->channels, options->channels, bytes);
    child->channels_count = options->channels_count;
    child->owner = owner;
    child->pidfd = child->ready_fd = -1;
    child->survives_parent = options->survives_parent;
    child->own_group = options->own_group;
    child->lock = (struct nr_lock)NR_LOCK_INIT;
    *ret = child;
    return 0;
}

void nr_child_free(struct naru_child *child)
{
    nr_os_keeper_remove(&child->charge);
    nr_os_close(&child->pidfd);
    nr_os_close(&child->ready_fd);
    nr_zygote_let_go(child->zygote);
    free(child->channels);
    free(child);
}

static int nr_child_enter(const struct naru_child *child)
{
    nr_error_clear();
    if (!child)
        return nr_fail(-EINVAL, "the child is NULL; did naru_spawn() fail?");
    if (!nr_os_process_is(child->owner))
        return nr_fail(-ECHILD,
                       "process %d is not a child of this process but of the one that forked it",
                       (int)child->pid);
    return 0;
}

/* One descriptor or the other becomes readable: 0; -EAGAIN, -ETIMEDOUT. */
static int nr_child_poll(int fd, int other_fd, struct nr_deadline *deadline)
{
    struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}, {.fd = other_fd, .events = POLLIN}};
    int ready;

    do
        ready = nr_os_poll(fds, 2, deadline);
    while (ready == -EINTR);
    if (ready < 0)
        return nr_fail(ready, "can't wait for a child: %s", nr_error_name(ready));
    return ready > 0 ? 0 : nr_deadline_is_now(deadline) ? -EAGAIN : -ETIMEDOUT;
}

/* -- death ---------------------------------------------------------------------------------------- */

static int nr_child_copy(const struct naru_child *child, struct naru_death *ret)
{
    size_t size_bytes = ret->size_bytes;

    memcpy((char *)ret + sizeof size_bytes, (const char *)&child->death + sizeof size_bytes,
           size_bytes - sizeof size_bytes);
    return 0;
}

int naru_child_wait(struct naru_child *child, struct naru_death *ret, int64_t timeout_ns)
{
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);
    int result = nr_child_enter(child);

    if (result < 0)
        return result;
    if (ret && (ret->size_bytes < sizeof(size_t) || ret->size_bytes > sizeof *ret))
        return nr_fail(-EINVAL, "death.size_bytes is %zu; set it to sizeof(struct naru_death)",
                       ret->size_bytes);
    if (nr_deadline_is_never(&deadline) && !child->zygote)
        nr_os_end_await(
            child->pidfd); /* a call less than poll(2), behind which one has to wait, too */
    else
        result = nr_child_poll(child->pidfd, -1, &deadline);
    if (result == -EAGAIN || result == -ETIMEDOUT)
        return nr_fail(result, "process %d lives", (int)child->pid);
    if (result < 0)
        return result;
    nr_lock_scope(&child->lock);
    result = child->is_over ? 0 : nr_death_judge(child);
    return result < 0 || !ret ? result : nr_child_copy(child, ret);
}

int naru_child_fd(struct naru_child *child)
{
    int result = nr_child_enter(child);

    return result < 0 ? result : child->pidfd;
}

int naru_child_pid(struct naru_child *child)
{
    int result = nr_child_enter(child);

    return result < 0 ? result : child->pid;
}

int naru_child_signal(struct naru_child *child, int signal_number)
{
    int result = nr_child_enter(child);

    if (result < 0)
        return result;
    nr_lock_scope(&child->lock);
    if (child->is_over || nr_os_pidfd_is_dead(child->pidfd)) /* a zombie takes signals, too */
        result = -ESRCH;
    else if (child->own_group && signal_number)
        result = nr_os_pidfd_signal_group(child->pidfd, child->pid, signal_number);
    else
        result = nr_os_pidfd_signal(child->pidfd, signal_number);
    if (result == -ESRCH)
        return nr_fail(-ESRCH, "process %d is dead; naru_child_wait() tells how", (int)child->pid);
    if (result < 0)
        return nr_fail(result, "can't send %s to process %d: %s", nr_os_signal_name(signal_number),
                       (int)child->pid, nr_error_name(result));
    child->was_asked = child->was_asked || signal_number;
    child->was_killed = child->was_killed || signal_number == NR_OS_SIGKILL;
    return 0;
}

/* -- readiness -------------------------------------------------------------------------------------- */

int naru_child_ready_fd(struct naru_child *child)
{
    int result = nr_child_enter(child);

    if (result < 0)
        return result;
    if (child->ready_fd < 0)
        return nr_fail(-EOPNOTSUPP, "process %d was spawned without the option readiness",
                       (int)child->pid);
    return child->ready_fd;
}

/* What says so is left there, or the descriptor settled, so that it stays readable. */
static bool nr_child_is_ready(struct naru_child *child)
{
    if (!child->is_notified)
        return nr_os_link_has(child->ready_fd) > 0;
    nr_lock_scope(&child->lock);
    if (!child->is_ready && nr_os_link_notified_told(child->ready_fd) > 0) {
        child->is_ready = true;
        nr_os_link_notified_settle(child->ready_fd);
    }
    return child->is_ready;
}

int naru_child_await_ready(struct naru_child *child, int64_t timeout_ns)
{
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);
    int result = naru_child_ready_fd(child);

    if (result < 0)
        return result;
    do {
        result = nr_child_poll(child->ready_fd, child->pidfd, &deadline);
        if (result == -EAGAIN || result == -ETIMEDOUT)
            return nr_fail(result, "process %d has not said yet that it is ready", (int)child->pid);
        if (result < 0)
            return result;
        if (nr_child_is_ready(child))
            return 0;
    } while (child->is_notified && !nr_os_pidfd_is_dead(child->pidfd)); /* of something else */
    if (nr_os_process_is_exiting(
            child->pid)) /* its descriptors are closed a little before it is dead */
        nr_child_poll(child->pidfd, -1, &deadline);
    if (!nr_os_pidfd_is_dead(child->pidfd))
        return nr_fail(-EPIPE,
                       "process %d has closed its descriptor without saying that it is ready",
                       (int)child->pid);
    return nr_fail(-EOWNERDEAD, "process %d died before it was ready; naru_child_wait() tells how",
                   (int)child->pid);
}

/* -- the end ------------------------------------------------------------------------------------------ */

void naru_child_close(struct naru_child *child)
{
    if (!child)
        return;
    bool is_mine = nr_os_process_is(child->owner) && child->pidfd >= 0;
    if (is_mine && !child->is_over &&
        !(child->survives_parent && !nr_os_pidfd_is_dead(child->pidfd))) {
        naru_child_signal(child, NR_OS_SIGKILL);
        naru_child_wait(child, NULL, NARU_FOREVER);
    }
    nr_child_free(child);
}
