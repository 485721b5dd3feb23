/* SPDX-License-Identifier: MIT */
/*
 * sysv -- System V message queues: sysv://1234, sysv://0x4d2, sysv:///path (by ftok(path, 'n'))
 *
 * Contents   opening - sending - receiving - the rest
 * What       The payload is raw and the type the kernel's, so that any other program's queue will do. A
 *            message sent without a type has type 1. options.type is msgrcv(2)'s msgtyp: 0 takes all in
 *            order, n only type n, -n the lowest type up to n.
 * Ownership  A queue stays until naru_unlink() or a reboot. A path that does not exist is made: a file with
 *            one line that marks it as Naru's, and which naru_unlink() removes with the queue.
 * Waiting    For ever: in msgrcv(2), msgsnd(2) themselves. With a deadline, in a process with threads, or
 *            through naru_fd(): a watcher (watcher.h) whose thread peeks with a msgrcv of size 0, which
 *            fails with E2BIG and leaves the message there. One *without payload* it can't leave: it has
 *            then taken it, and the next receive here gives it, in its place. To keep that order nobody
 *            receives while the watcher peeks: it is stopped first. A sender has no such way to
 *            wait for room, and looks again after 50 us, 100 us, ... 10 ms.
 * Ending     There is no end of stream; a queue that is removed is -EPIPE for all who have it open.
 * Death      A message is in the queue whole or not at all. One that a process had received is gone with
 *            it, as is one without payload that its watcher has just taken; naru_close() puts back both.
 * Sizes      msgmax and the queue's msg_qbytes are read when it is opened; the smaller one is the largest
 *            message: a larger one would be refused by the kernel, or wait for ever.
 */
#include "base/cleanup.h"
#include "os/process.h"
#include "os/queue.h"
#include "transport/kernel_queue.h"
#include "os/watcher.h"
#include <stdalign.h>
#include <stdlib.h>

#define NR_SYSV_MSGMAX "/proc/sys/kernel/msgmax"

/* What stands in a file that was made for the sake of its key. */
static const char nr_sysv_mark[] = "naru: this file gives a System V message queue its key\n";

enum { NR_SYSV_LETTER = 'n', NR_SYSV_MSGMAX_DEFAULT = 8192, NR_SYSV_NAP_NS = 50000 };

struct nr_sysv {
    struct naru_endpoint endpoint;
    int32_t key;
    int id;
    struct nr_watcher watcher;
    struct nr_lock peek_lock;
    long peeked_type; /* > 0: of a message without payload that the watcher took; see Waiting */
};

static struct nr_sysv *nr_sysv_of(struct naru_endpoint *endpoint)
{
    return nr_container_of(endpoint, struct nr_sysv, endpoint);
}

/* -- opening ------------------------------------------------------------------------------- */

/* The key that a URI names. `make` > 0: the file's mode, should it have to be made. */
static int nr_sysv_key(const struct nr_uri *uri, unsigned make, int32_t *ret_key)
{
    int64_t number;

    if (!nr_uri_is_path(uri)) {
        int result = nr_uri_number(uri->rest, INT32_MIN, UINT32_MAX, &number);
        if (result < 0)
            return result;
        *ret_key = (int32_t)(uint32_t)number;
        return number ? 0
                      : nr_fail(-EINVAL,
                                "the key 0 is IPC_PRIVATE, which nobody else could open; give "
                                "any other number");
    }
    int result = nr_uri_check_path(uri);
    if (result < 0)
        return result;
    result = nr_os_ftok(uri->rest, NR_SYSV_LETTER, ret_key);
    if (result == -ENOENT && make) {
        result = nr_os_key_file_new(uri->rest, make, nr_sysv_mark);
        if (result == 0 || result == -EEXIST)
            result = nr_os_ftok(uri->rest, NR_SYSV_LETTER, ret_key);
    }
    if (result == -ENOENT)
        return nr_fail(result,
                       "there is no file %s to take the queue's key from; create it, or its "
                       "directory",
                       uri->rest);
    return result < 0 ? nr_fail(result, "%s gives no key: %s", uri->rest, nr_error_name(result))
                      : 0;
}

static int nr_sysv_fail_open(const char *text, int error, int32_t key)
{
    switch (error) {
    case -ENOENT:
        return nr_fail(error,
                       "%s: there is no queue with the key 0x%x; create it, or see `ipcs -q`", text,
                       (unsigned)key);
    case -EEXIST:
        return nr_fail(error,
                       "%s: a queue with the key 0x%x exists already; attach to it, or "
                       "naru_unlink() it first",
                       text, (unsigned)key);
    case -EACCES:
        return nr_fail(error,
                       "%s: the queue belongs to another user, and its mode does not let this one "
                       "(uid %u) in; its creator decides with file_mode",
                       text, (unsigned)nr_os_uid());
    case -ENOSPC:
        return nr_fail(error,
                       "%s: there are msgmni (%lld) queues already; remove some with `ipcrm`, or "
                       "raise /proc/sys/kernel/msgmni",
                       text, (long long)nr_os_proc_number("/proc/sys/kernel/msgmni"));
    case -ENOSYS:
        return nr_fail(-EOPNOTSUPP,
                       "%s: this kernel is built without System V queues; use mq:// or "
                       "shm://",
                       text);
    default:
        return nr_fail(error, "%s: %s", text, nr_error_name(error));
    }
}

/* The queue may come and go while we look: go round until one answer holds. */
static int nr_sysv_open_id(const struct nr_request *request, int32_t key)
{
    bool reads = request->role & NARU_RECEIVER, writes = request->role & NARU_SENDER;
    const struct naru_options *options = &request->options;

    for (;;) {
        int id = -ENOENT;
        if (options->create != NARU_CREATE)
            id = nr_os_msg_open(key, reads, writes);
        if (id != -ENOENT || options->create == NARU_ATTACH)
            return id;
        id = nr_os_msg_create(key, options->file_mode);
        if (id != -EEXIST || options->create == NARU_CREATE)
            return id;
    }
}

/* The largest message that can pass. A sender who may not read the queue's figures goes by msgmax. */
static int nr_sysv_settle(const struct nr_request *request, struct nr_sysv *sysv)
{
    int64_t msgmax = nr_os_proc_number(NR_SYSV_MSGMAX);
    uint64_t most = msgmax > 0 ? (uint64_t)msgmax : NR_SYSV_MSGMAX_DEFAULT;
    size_t wanted = request->options.message_size_max_bytes;
    struct nr_os_msg_stat stat;

    if (nr_os_msg_stat(sysv->id, &stat) == 0 && stat.capacity_bytes < most)
        most = stat.capacity_bytes;
    if (wanted > most)
        return nr_fail(-EINVAL,
                       "%s: messages of %zu bytes are asked for, and the largest here is %llu: the "
                       "smaller one of " NR_SYSV_MSGMAX
                       " (%lld) and the queue's msg_qbytes; split them, "
                       "or raise both",
                       request->text, wanted, (unsigned long long)most, (long long)msgmax);
    sysv->endpoint.options.message_size_max_bytes = wanted ? wanted : most;
    nr_kernel_queue_settle(&sysv->endpoint.options);
    return 0;
}

static int nr_sysv_refuse(const struct nr_request *request)
{
    int result = nr_kernel_queue_refuse(request, NR_HONOURS_TYPE);

    if (result == 0)
        result =
            nr_request_refuse(request, "capacity_messages", request->options.capacity_messages,
                              "the kernel counts bytes (msg_qbytes, see `ipcs -l`); leave it 0, or "
                              "use mq://");
    return result;
}

static int nr_sysv_watch(void *context)
{
    struct nr_sysv *sysv = context;

    return nr_os_msg_peek(sysv->id, sysv->endpoint.options.type, &sysv->peeked_type);
}

static const struct nr_watcher_work nr_sysv_watcher_work = {.wait = nr_sysv_watch};

static int nr_sysv_open(struct naru_endpoint **ret, const struct nr_request *request)
{
    bool may_make = request->options.create != NARU_ATTACH;
    struct naru_endpoint *endpoint = NULL;
    int32_t key = 0;

    int result = nr_sysv_refuse(request);
    if (result == 0)
        result = nr_sysv_key(&request->uri, may_make ? request->options.file_mode : 0, &key);
    if (result == 0)
        result = nr_endpoint_new(&endpoint, sizeof(struct nr_sysv), &nr_sysv_transport, request);
    if (result < 0)
        return result;
    struct nr_sysv *sysv = nr_sysv_of(endpoint);
    sysv->key = key;
    sysv->peek_lock = (struct nr_lock)NR_LOCK_INIT;
    nr_watcher_init(&sysv->watcher, &nr_sysv_watcher_work, sysv);
    sysv->id = nr_sysv_open_id(request, key);
    result = sysv->id < 0 ? nr_sysv_fail_open(request->text, sysv->id, key)
                          : nr_sysv_settle(request, sysv);
    if (result < 0) {
        nr_endpoint_free(endpoint);
        return result;
    }
    *ret = endpoint;
    return 0;
}

static void nr_sysv_release(struct naru_endpoint *endpoint)
{
    nr_watcher_deinit(&nr_sysv_of(endpoint)->watcher);
}

static int nr_sysv_unlink(const struct nr_uri *uri)
{
    int32_t key;

    int result = nr_sysv_key(uri, 0, &key);
    if (result < 0)
        return result;
    int id = nr_os_msg_open(key, false, false);
    result = id < 0 ? id : nr_os_msg_remove(id);
    if (nr_uri_is_path(uri) && (result == 0 || result == -ENOENT) &&
        nr_os_key_file_remove(uri->rest, nr_sysv_mark) == 0)
        return 0;
    if (result == -ENOENT || result == -EIDRM || result == -EINVAL)
        return nr_fail(-ENOENT, "there is no queue with the key 0x%x to remove", (unsigned)key);
    if (result == -EPERM || result == -EACCES)
        return nr_fail(-EACCES,
                       "the queue 0x%x belongs to another user, who alone (or root) may remove "
                       "it",
                       (unsigned)key);
    return result < 0 ? nr_fail(result, "the queue 0x%x: %s", (unsigned)key, nr_error_name(result))
                      : 0;
}

/* -- sending ------------------------------------------------------------------------------- */

static int nr_sysv_failed(struct nr_sysv *sysv, long error)
{
    const char *uri = sysv->endpoint.uri;
    struct nr_os_msg_stat stat;

    if (error == -EINVAL && nr_os_msg_stat(sysv->id, &stat) == 0)
        return nr_fail(-EMSGSIZE,
                       "%s: the kernel takes no message of that size any more: " NR_SYSV_MSGMAX
                       " was lowered to %lld",
                       uri, (long long)nr_os_proc_number(NR_SYSV_MSGMAX));
    if (error == -EIDRM || error == -EINVAL)
        return nr_fail(-EPIPE,
                       "%s: the queue 0x%x was removed (naru_unlink, ipcrm); open it again to make "
                       "a new one",
                       uri, (unsigned)sysv->key);
    if (error == -EACCES)
        return nr_fail(-EACCES,
                       "%s: the queue's mode was changed and does not let this user in any more",
                       uri);
    return nr_fail((int)error, "%s: %s", uri, nr_error_name((int)error));
}

static int nr_sysv_send_packet(struct nr_sysv *sysv, const struct nr_os_packet *packet,
                               size_t size_bytes, struct nr_deadline *deadline)
{
    struct naru_endpoint *endpoint = &sysv->endpoint;
    int64_t nap_ns = NR_SYSV_NAP_NS;

    for (;;) {
        long result;
        if (nr_endpoint_blocks_directly(endpoint, deadline))
            result = nr_endpoint_call(endpoint, NR_SYS_MSGSND,
                                      (long[6]){sysv->id, (long)packet, (long)size_bytes, 0});
        else
            result = nr_os_msg_try_send(sysv->id, packet, size_bytes);
        if (result >= 0)
            return 0;
        if (result == -EAGAIN)
            result = nr_kernel_queue_nap(endpoint, &nap_ns, deadline);
        else if (result == -EINTR)
            result = nr_endpoint_interrupted(endpoint);
        else
            return nr_sysv_failed(sysv, result);
        if (result < 0)
            return (int)result;
    }
}

nr_flat static int nr_sysv_send(struct naru_endpoint *endpoint, const struct nr_out *out,
                                struct nr_deadline *deadline)
{
    alignas(
        struct nr_os_packet) char stack[sizeof(struct nr_os_packet) + NR_KERNEL_QUEUE_STACK_BYTES];
    bool fits = out->size_bytes <= NR_KERNEL_QUEUE_STACK_BYTES;
    nr_cleanup_free void *heap =
        fits ? NULL : malloc(sizeof(struct nr_os_packet) + out->size_bytes);
    struct nr_os_packet *packet = fits ? (void *)stack : heap;

    if (out->type < 0)
        return nr_fail(-EINVAL,
                       "%s: the type %lld is negative; a System V type is 1 or more (0: 1)",
                       endpoint->uri, (long long)out->type);
    if (!packet)
        return nr_fail(-ENOMEM, "no memory to send a message of %zu bytes", out->size_bytes);
    packet->type = out->type ? (long)out->type : 1;
    nr_out_copy(out, 0, packet->payload, out->size_bytes);
    return nr_sysv_send_packet(nr_sysv_of(endpoint), packet, out->size_bytes, deadline);
}

/* -- receiving ----------------------------------------------------------------------------- */

static void nr_sysv_describe(struct naru_message *message, long type)
{
    message->type = type;
    message->known |= NARU_KNOWS_TYPE;
}

/* Nobody peeks any more; the type of the message that the watcher took, or 0. */
static long nr_sysv_unwatch(struct nr_sysv *sysv)
{
    nr_watcher_stop(&sysv->watcher);
    nr_lock_scope(&sysv->peek_lock);
    long type = sysv->peeked_type;
    __atomic_store_n(&sysv->peeked_type, 0, __ATOMIC_RELAXED); /* others look without the lock */
    return type;
}

static int nr_sysv_rewatch(struct nr_sysv *sysv)
{
    nr_lock_scope(&sysv->peek_lock);
    if (!nr_watcher_is_armed(&sysv->watcher) && sysv->peeked_type) {
        nr_watcher_fire(&sysv->watcher);
        return 0;
    }
    return nr_watcher_arm(&sysv->watcher);
}

static bool nr_sysv_is_watched(struct nr_sysv *sysv)
{
    return nr_watcher_is_armed(&sysv->watcher) ||
           __atomic_load_n(&sysv->peeked_type, __ATOMIC_RELAXED) != 0;
}

/* Nothing is there. 0: something may be now. */
static int nr_sysv_await(struct nr_sysv *sysv, struct nr_deadline *deadline)
{
    if (nr_deadline_is_now(deadline))
        return -EAGAIN;
    int fd = nr_watcher_fd(&sysv->watcher);
    int result = fd < 0 ? fd : nr_sysv_rewatch(sysv);
    if (result < 0)
        return nr_fail(result,
                       "%s: a wait here takes a thread and a descriptor, and there is none left: "
                       "%s; raise `ulimit -u` or `ulimit -n`",
                       sysv->endpoint.uri, nr_error_name(result));
    result = nr_endpoint_wait(&sysv->endpoint, fd, NR_READABLE, deadline);
    if (result < 0)
        nr_watcher_stop(&sysv->watcher); /* so that it takes nothing while nobody receives */
    return result;
}

/*
 * One packet of up to *size_bytes; stores its size. -E2BIG: the message is larger, and still there.
 */
static int nr_sysv_recv_packet(struct nr_sysv *sysv, struct nr_os_packet *packet,
                               size_t *size_bytes, struct nr_deadline *deadline)
{
    struct naru_endpoint *endpoint = &sysv->endpoint;
    long type = endpoint->options.type;
    int over = 0;

    for (;;) {
        long taken_type = nr_sysv_is_watched(sysv) ? nr_sysv_unwatch(sysv) : 0;
        if (taken_type) {
            packet->type = taken_type;
            *size_bytes = 0;
            return 0;
        }
        long result;
        if (nr_endpoint_blocks_directly(endpoint, deadline))
            result =
                nr_endpoint_call(endpoint, NR_SYS_MSGRCV,
                                 (long[6]){sysv->id, (long)packet, (long)*size_bytes, type, 0});
        else
            result = nr_os_msg_try_receive(sysv->id, packet, *size_bytes, type);
        if (result >= 0) {
            *size_bytes = (size_t)result;
            return 0;
        }
        if (result == -E2BIG)
            return -E2BIG;
        if (result == -ENOMSG && over)
            return over;
        if (result == -ENOMSG)
            result = nr_sysv_await(sysv, deadline);
        else if (result == -EINTR)
            result = nr_endpoint_interrupted(endpoint);
        else
            return nr_sysv_failed(sysv, result);
        if (result == -ETIMEDOUT)
            over = -ETIMEDOUT; /* one more look: the watcher may have just taken one */
        else if (result < 0)
            return (int)result;
    }
}

/* For a message beyond the stack's room: more and more, as the kernel does not say how much. */
static int nr_sysv_recv_large(struct nr_sysv *sysv, struct nr_in *in, struct nr_deadline *deadline)
{
    size_t room_bytes = sysv->endpoint.options.message_size_max_bytes;

    for (;; room_bytes *= 2) {
        if (room_bytes < 4 * NR_KERNEL_QUEUE_STACK_BYTES)
            room_bytes = 4 * NR_KERNEL_QUEUE_STACK_BYTES;
        nr_cleanup_free struct nr_os_packet *packet = malloc(sizeof *packet + room_bytes);
        if (!packet)
            return nr_fail(-ENOMEM, "no memory to receive a message of more than %zu bytes",
                           room_bytes / 2);
        size_t size_bytes = room_bytes;
        int result = nr_sysv_recv_packet(sysv, packet, &size_bytes, deadline);
        if (result == -E2BIG && room_bytes < NR_MESSAGE_LIMIT_BYTES)
            continue;
        if (result < 0)
            return result;
        nr_sysv_describe(in->message, packet->type);
        return nr_in_deliver(in, packet->payload, size_bytes);
    }
}

nr_flat static int nr_sysv_recv(struct naru_endpoint *endpoint, struct nr_in *in,
                                struct nr_deadline *deadline)
{
    struct nr_sysv *sysv = nr_sysv_of(endpoint);
    alignas(
        struct nr_os_packet) char stack[sizeof(struct nr_os_packet) + NR_KERNEL_QUEUE_STACK_BYTES];
    struct nr_os_packet *packet = (void *)stack;
    size_t size_bytes = NR_KERNEL_QUEUE_STACK_BYTES;

    int result = nr_sysv_recv_packet(sysv, packet, &size_bytes, deadline);
    if (result == -E2BIG)
        return nr_sysv_recv_large(sysv, in, deadline);
    if (result < 0)
        return result;
    nr_sysv_describe(in->message, packet->type);
    return nr_in_deliver(in, packet->payload, size_bytes);
}

/* -- the rest ------------------------------------------------------------------------------ */

static int nr_sysv_put(struct naru_endpoint *endpoint, const struct naru_message *message)
{
    struct iovec part = {message->data, message->size_bytes};
    struct nr_out out = {
        .parts = &part, .parts_count = 1, .size_bytes = part.iov_len, .type = message->type};
    struct nr_deadline now = nr_deadline_in(0);

    return nr_sysv_send(endpoint, &out, &now);
}

static void nr_sysv_leave(struct naru_endpoint *endpoint)
{
    struct naru_message empty = {.type = nr_sysv_unwatch(nr_sysv_of(endpoint))};

    if (empty.type)
        nr_sysv_put(endpoint, &empty);
    nr_kernel_queue_put_back(endpoint, nr_sysv_put);
}

static int nr_sysv_descriptor(struct naru_endpoint *endpoint, unsigned *events)
{
    if (*events == NR_WRITABLE)
        return nr_fail(-EOPNOTSUPP,
                       "%s: the kernel has no way to tell of room in a System V queue; send "
                       "with a time-out, or use mq://",
                       endpoint->uri);
    return nr_watcher_fd(&nr_sysv_of(endpoint)->watcher);
}

/* If there is no thread for it the descriptor stays readable: busy, but not silent. */
static void nr_sysv_arm(struct naru_endpoint *endpoint, unsigned events, size_t size_bytes)
{
    struct nr_sysv *sysv = nr_sysv_of(endpoint);

    (void)size_bytes;
    if (events == NR_READABLE && nr_sysv_rewatch(sysv) < 0)
        nr_watcher_fire(&sysv->watcher);
}

static int nr_sysv_stat(struct naru_endpoint *endpoint, struct naru_stat *stat)
{
    struct nr_os_msg_stat figures;

    int result = nr_os_msg_stat(nr_sysv_of(endpoint)->id, &figures);
    if (result == -EACCES)
        return 0; /* who may only send is not told */
    if (result < 0)
        return nr_sysv_failed(nr_sysv_of(endpoint), result);
    stat->queued_messages = figures.queued_messages;
    stat->queued_bytes = figures.queued_bytes;
    stat->known |= NARU_STAT_QUEUED | NARU_STAT_QUEUED_BYTES;
    return 0;
}

const struct nr_transport nr_sysv_transport = {
    .scheme = "sysv",
    .open = nr_sysv_open,
    .leave = nr_sysv_leave,
    .release = nr_sysv_release,
    .unlink = nr_sysv_unlink,
    .send = nr_sysv_send,
    .recv = nr_sysv_recv,
    .descriptor = nr_sysv_descriptor,
    .arm = nr_sysv_arm,
    .stat = nr_sysv_stat,
};
