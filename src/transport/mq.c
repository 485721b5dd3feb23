/* SPDX-License-Identifier: MIT */
/*
 * mq -- POSIX message queues: mq://name is the kernel's "/name"
 *
 * What       The payload is raw, so that any other program's queue will do. The message's type is the
 *            POSIX priority, 0 to 32767: the highest comes first, and those of equal priority in order.
 * Ownership  A named queue stays until naru_unlink() or a reboot. A pair is two queues without a name,
 *            one for each way, which go with their last descriptor.
 * Ending     A named queue has no end of stream. A pair has: naru_close() raises a flag in a page that
 *            both sides share, and an eventfd for those who sleep; the death of an assigned process is
 *            seen by its pidfd. Either is told after all messages that came before it.
 * Waiting    For ever, and with nobody to watch: in mq_timedreceive(2) itself. Otherwise try, poll, try.
 *            Never by the kernel's own time-out, which goes by a clock that is set at times.
 * Death      A message is in the queue whole or not at all. One that a process had received is gone with
 *            it; those that were kept in an endpoint go back to a named queue when it is closed. A process
 *            killed in naru_pair() between mq_open(2) and mq_unlink(2) leaves an empty queue behind.
 */
#include "transport/mq.h"
#include "os/memory.h"
#include "os/process.h"
#include <stdio.h>

#define NR_MQ_LIMITS "/proc/sys/fs/mqueue/"

/* Opening */

static size_t nr_mq_limit(const char *path, size_t otherwise)
{
    int64_t limit = nr_os_proc_number(path);

    return limit > 0 ? (size_t)limit : otherwise;
}

struct nr_os_mq_sizes nr_mq_sizes_wanted(const struct naru_options *options)
{
    size_t messages = nr_mq_limit(NR_MQ_LIMITS "msg_max", NR_MQ_MESSAGES_DEFAULT);
    size_t bytes = nr_mq_limit(NR_MQ_LIMITS "msgsize_max", NR_MQ_BYTES_DEFAULT);
    struct nr_os_mq_sizes sizes = {
        .capacity_messages = messages < NR_MQ_MESSAGES_DEFAULT ? messages : NR_MQ_MESSAGES_DEFAULT,
        .message_bytes = bytes < NR_MQ_BYTES_DEFAULT ? bytes : NR_MQ_BYTES_DEFAULT,
    };

    if (options->capacity_messages)
        sizes.capacity_messages = options->capacity_messages;
    if (options->message_size_max_bytes)
        sizes.message_bytes = options->message_size_max_bytes;
    return sizes;
}

/* EMFILE has two meanings: which one is found out by asking for another descriptor. */
static int nr_mq_fail_too_many(const char *text, const struct nr_os_mq_sizes *sizes)
{
    int probe = nr_os_eventfd();

    if (probe < 0)
        return nr_fail(probe, "%s: %s; close some descriptors, or raise `ulimit -n`", text,
                       nr_error_name(probe));
    nr_os_close(&probe);
    return nr_fail(
        -EMFILE,
        "%s: %zu messages of %zu bytes take about %zu bytes, and with what this user's queues "
        "take already it is more than RLIMIT_MSGQUEUE (%llu); unlink queues, ask for smaller "
        "ones, or raise `ulimit -q`",
        text, sizes->capacity_messages, sizes->message_bytes,
        sizes->capacity_messages * (sizes->message_bytes + NR_MQ_OVERHEAD_BYTES),
        (unsigned long long)nr_os_mq_limit_bytes());
}

int nr_mq_fail_open(const char *text, int error, const struct nr_os_mq_sizes *sizes)
{
    switch (error) {
    case -ENOENT:
        return nr_fail(error,
                       "%s: there is no such queue; create it, or see /dev/mqueue for those there "
                       "are",
                       text);
    case -EEXIST:
        return nr_fail(
            error, "%s: the queue exists already; attach to it, or naru_unlink() it first", text);
    case -EACCES:
        return nr_fail(error,
                       "%s: the queue belongs to another user, and its mode does not let this one "
                       "(uid %u) in; its creator decides with file_mode",
                       text, (unsigned)nr_os_uid());
    case -EMFILE:
        return nr_mq_fail_too_many(text, sizes);
    case -EINVAL:
        return nr_fail(
            error,
            "%s: %zu messages of %zu bytes are more than the kernel allows: msg_max is %zu and "
            "msgsize_max %zu; ask for less, or raise them in " NR_MQ_LIMITS,
            text, sizes->capacity_messages, sizes->message_bytes,
            nr_mq_limit(NR_MQ_LIMITS "msg_max", 0), nr_mq_limit(NR_MQ_LIMITS "msgsize_max", 0));
    case -ENOSPC:
        return nr_fail(
            error,
            "%s: there are queues_max (%zu) queues already; unlink some, or raise " NR_MQ_LIMITS
            "queues_max",
            text, nr_mq_limit(NR_MQ_LIMITS "queues_max", 0));
    case -ENOSYS:
        return nr_fail(-EOPNOTSUPP,
                       "%s: this kernel is built without POSIX queues; use sysv:// or "
                       "shm://",
                       text);
    default:
        return nr_fail(error, "%s: %s", text, nr_error_name(error));
    }
}

/* The name may come and go while we look: go round until one answer holds. */
static int nr_mq_open_fd(const struct nr_request *request, const char *name,
                         const struct nr_os_mq_sizes *sizes)
{
    bool reads = request->role & NARU_RECEIVER, writes = request->role & NARU_SENDER;
    const struct naru_options *options = &request->options;

    for (;;) {
        int fd = -ENOENT;
        if (options->create != NARU_CREATE)
            fd = nr_os_mq_open(name, reads, writes);
        if (fd != -ENOENT || options->create == NARU_ATTACH)
            return fd;
        fd = nr_os_mq_create(name, reads, writes, options->file_mode, sizes);
        if (fd != -EEXIST || options->create == NARU_CREATE)
            return fd;
    }
}

/* Takes what the queue really has into the options. */
int nr_mq_settle(const struct nr_request *request, int fd, struct nr_mq *mq)
{
    const struct naru_options *wanted = &request->options;
    struct naru_options *holds = &mq->endpoint.options;
    struct nr_os_mq_sizes sizes;

    int result = nr_os_mq_sizes(fd, &sizes);
    if (result < 0)
        return nr_fail(result, "%s: its sizes can't be read: %s", request->text,
                       nr_error_name(result));
    result = nr_request_settle(request, "capacity_messages", wanted->capacity_messages,
                               sizes.capacity_messages);
    if (result == 0)
        result = nr_request_settle(request, "message_size_max_bytes",
                                   wanted->message_size_max_bytes, sizes.message_bytes);
    if (result < 0)
        return result;
    mq->message_bytes = sizes.message_bytes;
    holds->capacity_messages = sizes.capacity_messages;
    holds->message_size_max_bytes = sizes.message_bytes;
    nr_kernel_queue_settle(holds);
    return 0;
}

int nr_mq_new(struct nr_mq **ret, const struct nr_request *request)
{
    struct naru_endpoint *endpoint;

    int result = nr_endpoint_new(&endpoint, sizeof(struct nr_mq), &nr_mq_transport, request);
    if (result < 0)
        return result;
    struct nr_mq *mq = nr_mq_of(endpoint);
    mq->receive_fd = mq->send_fd = -1;
    mq->ended_fd[0] = mq->ended_fd[1] = mq->wait_fd[0] = mq->wait_fd[1] = -1;
    *ret = mq;
    return 0;
}

static int nr_mq_open(struct naru_endpoint **ret, const struct nr_request *request)
{
    struct nr_os_mq_sizes sizes = nr_mq_sizes_wanted(&request->options);
    struct nr_mq *mq = NULL;

    int result = nr_uri_check_name(&request->uri);
    if (result == 0)
        result = nr_kernel_queue_refuse(request, 0);
    if (result == 0)
        result = nr_mq_new(&mq, request);
    if (result < 0)
        return result;
    snprintf(mq->name, sizeof mq->name, "/%.*s", NR_URI_NAME_MAX, request->uri.rest);
    int fd = nr_mq_open_fd(request, mq->name, &sizes);
    result = fd < 0 ? nr_mq_fail_open(request->text, fd, &sizes) : nr_mq_settle(request, fd, mq);
    if (result < 0) {
        nr_os_close(&fd);
        nr_endpoint_free(&mq->endpoint);
        return result;
    }
    mq->receive_fd = request->role & NARU_RECEIVER ? fd : -1;
    mq->send_fd = request->role & NARU_SENDER ? fd : -1;
    *ret = &mq->endpoint;
    return 0;
}

void nr_mq_release(struct naru_endpoint *endpoint)
{
    struct nr_mq *mq = nr_mq_of(endpoint);

    if (mq->send_fd == mq->receive_fd)
        mq->send_fd = -1;
    nr_os_close(&mq->receive_fd);
    nr_os_close(&mq->send_fd);
    for (int i = 0; i < 2; i++) {
        nr_os_close(&mq->ended_fd[i]);
        nr_os_close(&mq->wait_fd[i]);
    }
    if (mq->link && __atomic_sub_fetch(&mq->link->references, 1, __ATOMIC_ACQ_REL) == 0) {
        nr_os_memory_unmap(mq->link->page, sizeof *mq->link->page);
        free(mq->link);
    }
    mq->link = NULL;
}

static int nr_mq_unlink(const struct nr_uri *uri)
{
    char name[NR_MQ_NAME_BYTES];

    int result = nr_uri_check_name(uri);
    if (result < 0)
        return result;
    snprintf(name, sizeof name, "/%.*s", NR_URI_NAME_MAX, uri->rest);
    result = nr_os_mq_unlink(name);
    if (result == -ENOENT)
        return nr_fail(result, "there is no queue mq:/%s to remove", name);
    if (result == -EACCES || result == -EPERM)
        return nr_fail(-EACCES, "mq:/%s belongs to another user, who alone (or root) may remove it",
                       name);
    return result < 0 ? nr_fail(result, "mq:/%s: %s", name, nr_error_name(result)) : 0;
}

/*
 * -EPIPE or -EOWNERDEAD when the other side of a pair is gone. The flag is read after the queue was found
 * empty or full, and it was raised after the last message: who sees it and looks once more misses none.
 */
static int nr_mq_gone(const struct nr_mq *mq)
{
    if (!mq->link)
        return 0;
    if (__atomic_load_n(&mq->link->page->ended[!mq->side], __ATOMIC_ACQUIRE))
        return nr_fail(-EPIPE, "the other end of the pair was closed");
    if (nr_endpoint_peer_is_dead(&mq->endpoint))
        return nr_fail(-EOWNERDEAD, "process %d, which held the other end of the pair, has died",
                       (int)mq->endpoint.peer_pid);
    return 0;
}

/* Puts a kept message back; the queue may have been unlinked, or another made in its place. */
static int nr_mq_put(struct naru_endpoint *endpoint, const struct naru_message *message)
{
    struct nr_mq *mq = nr_mq_of(endpoint);

    if (mq->send_fd < 0) {
        int fd = nr_os_mq_open(mq->name, false, true);
        if (fd < 0)
            return fd;
        if (!nr_os_same_file(fd, mq->receive_fd)) {
            nr_os_close(&fd);
            return -ENOENT;
        }
        mq->send_fd = fd;
    }
    return nr_os_mq_try_send(mq->send_fd, message->data, message->size_bytes,
                             (unsigned)message->type);
}

static void nr_mq_leave(struct naru_endpoint *endpoint)
{
    struct nr_mq *mq = nr_mq_of(endpoint);

    if (!mq->link) {
        nr_kernel_queue_put_back(endpoint, nr_mq_put);
        return;
    }
    __atomic_store_n(&mq->link->page->ended[mq->side], 1, __ATOMIC_RELEASE);
    nr_os_eventfd_set(mq->ended_fd[mq->side]);
}

/* Moving messages */

static int nr_mq_wait(struct nr_mq *mq, int way, struct nr_deadline *deadline)
{
    if (mq->link)
        return nr_endpoint_wait(&mq->endpoint, mq->wait_fd[way], NR_READABLE, deadline);
    return way ? nr_endpoint_wait(&mq->endpoint, mq->send_fd, NR_WRITABLE, deadline)
               : nr_endpoint_wait(&mq->endpoint, mq->receive_fd, NR_READABLE, deadline);
}

static long nr_mq_send_call(struct nr_mq *mq, const void *data, size_t size_bytes,
                            unsigned priority, const struct nr_deadline *deadline)
{
    if (mq->link || !nr_endpoint_blocks_directly(&mq->endpoint, deadline))
        return nr_os_mq_try_send(mq->send_fd, data, size_bytes, priority);
    return nr_endpoint_call(&mq->endpoint, NR_SYS_MQ_TIMEDSEND,
                            (long[6]){mq->send_fd, (long)data, (long)size_bytes, priority, 0});
}

static int nr_mq_send_flat(struct nr_mq *mq, const void *data, size_t size_bytes, unsigned priority,
                           struct nr_deadline *deadline)
{
    for (;;) {
        int gone = nr_mq_gone(mq);
        if (gone < 0)
            return gone;
        long result = nr_mq_send_call(mq, data, size_bytes, priority, deadline);
        if (result >= 0)
            return 0;
        if (result == -EAGAIN)
            result = nr_mq_wait(mq, 1, deadline);
        else if (result == -EINTR)
            result = nr_endpoint_interrupted(&mq->endpoint);
        else
            return nr_fail((int)result, "%s: the kernel did not take the message: %s",
                           mq->endpoint.uri, nr_error_name((int)result));
        if (result < 0)
            return (int)result;
    }
}

nr_flat static int nr_mq_send(struct naru_endpoint *endpoint, const struct nr_out *out,
                              struct nr_deadline *deadline)
{
    struct nr_mq *mq = nr_mq_of(endpoint);

    if (out->type < 0 || out->type > NR_MQ_PRIORITY_MAX)
        return nr_fail(-EINVAL, "%s: the type is the priority here, and %lld is not in 0 to %d",
                       endpoint->uri, (long long)out->type, NR_MQ_PRIORITY_MAX);
    if (out->parts_count == 1)
        return nr_mq_send_flat(mq, out->parts->iov_base, out->size_bytes, (unsigned)out->type,
                               deadline);
    nr_cleanup_free char *joined = malloc(out->size_bytes + 1);
    if (!joined)
        return nr_fail(-ENOMEM, "no memory to join a message of %zu bytes", out->size_bytes);
    nr_out_copy(out, 0, joined, out->size_bytes);
    return nr_mq_send_flat(mq, joined, out->size_bytes, (unsigned)out->type, deadline);
}

static long nr_mq_recv_call(struct nr_mq *mq, void *data, unsigned *ret_priority,
                            const struct nr_deadline *deadline)
{
    if (mq->link || !nr_endpoint_blocks_directly(&mq->endpoint, deadline))
        return nr_os_mq_try_receive(mq->receive_fd, data, mq->message_bytes, ret_priority);
    return nr_endpoint_call(
        &mq->endpoint, NR_SYS_MQ_TIMEDRECEIVE,
        (long[6]){mq->receive_fd, (long)data, (long)mq->message_bytes, (long)ret_priority, 0});
}

/* One message into `data`, which has room for any; its size. */
static ssize_t nr_mq_recv_flat(struct nr_mq *mq, void *data, unsigned *ret_priority,
                               struct nr_deadline *deadline)
{
    int gone = 0;

    for (;;) {
        long result = nr_mq_recv_call(mq, data, ret_priority, deadline);
        if (result >= 0)
            return result;
        if (result == -EAGAIN && gone)
            return gone;
        if (result == -EAGAIN) {
            gone = nr_mq_gone(mq);
            result = gone ? 0 : nr_mq_wait(mq, 0, deadline);
            if (result == -EOWNERDEAD)
                result = 0; /* nr_mq_gone() will see it as well, after one more look */
        } else if (result == -EINTR) {
            result = nr_endpoint_interrupted(&mq->endpoint);
        } else {
            return nr_fail((int)result, "%s: the kernel gave no message: %s", mq->endpoint.uri,
                           nr_error_name((int)result));
        }
        if (result < 0)
            return result;
    }
}

static void nr_mq_describe(struct naru_message *message, unsigned priority)
{
    message->type = priority;
    message->known |= NARU_KNOWS_TYPE;
}

/* Into memory of our own first, since the user's has less room than the kernel insists on. */
static int nr_mq_recv_apart(struct nr_mq *mq, struct nr_in *in, struct nr_deadline *deadline)
{
    char stack[NR_KERNEL_QUEUE_STACK_BYTES];
    nr_cleanup_free char *heap =
        mq->message_bytes > sizeof stack ? malloc(mq->message_bytes) : NULL;
    void *data = heap ? heap : stack;
    unsigned priority;

    if (!heap && mq->message_bytes > sizeof stack)
        return nr_fail(-ENOMEM, "no memory to receive a message of up to %zu bytes",
                       mq->message_bytes);
    ssize_t size = nr_mq_recv_flat(mq, data, &priority, deadline);
    if (size < 0)
        return (int)size;
    nr_mq_describe(in->message, priority);
    return nr_in_deliver(in, data, (size_t)size);
}

nr_flat static int nr_mq_recv(struct naru_endpoint *endpoint, struct nr_in *in,
                              struct nr_deadline *deadline)
{
    struct nr_mq *mq = nr_mq_of(endpoint);
    unsigned priority;

    if (in->message->capacity_bytes < mq->message_bytes)
        return nr_mq_recv_apart(mq, in, deadline);
    ssize_t size = nr_mq_recv_flat(mq, in->message->data, &priority, deadline);
    if (size < 0)
        return (int)size;
    nr_mq_describe(in->message, priority);
    in->message->size_bytes = (size_t)size;
    return 0;
}

static int nr_mq_descriptor(struct naru_endpoint *endpoint, unsigned *events)
{
    struct nr_mq *mq = nr_mq_of(endpoint);
    int way = *events == NR_WRITABLE;

    if (mq->link) {
        *events = NR_READABLE;
        return mq->wait_fd[way];
    }
    return way ? mq->send_fd : mq->receive_fd;
}

static int nr_mq_stat(struct naru_endpoint *endpoint, struct naru_stat *stat)
{
    struct nr_mq *mq = nr_mq_of(endpoint);
    struct nr_os_mq_sizes sizes;

    int result = nr_os_mq_sizes(mq->receive_fd >= 0 ? mq->receive_fd : mq->send_fd, &sizes);
    if (result < 0)
        return nr_fail(result, "%s: %s", endpoint->uri, nr_error_name(result));
    stat->queued_messages = sizes.queued_messages;
    stat->known |= NARU_STAT_QUEUED;
    return 0;
}

const struct nr_transport nr_mq_transport = {
    .scheme = "mq",
    .open = nr_mq_open,
    .pair = nr_mq_pair,
    .descriptors_held = nr_mq_descriptors_held,
    .leave = nr_mq_leave,
    .release = nr_mq_release,
    .unlink = nr_mq_unlink,
    .send = nr_mq_send,
    .recv = nr_mq_recv,
    .descriptor = nr_mq_descriptor,
    .stat = nr_mq_stat,
};
