/* SPDX-License-Identifier: MIT */
/*
 * pipe_open -- pipe://, fifo:// : opened, made in pairs, closed
 *
 * What       A pair is two pipes, one each way. pipe://N is a descriptor that was inherited. A FIFO is made by
 *            whoever comes first; a sender then waits until someone has it open to receive.
 * Death      A FIFO stays, empty, when all have closed it; naru_unlink() removes it.
 */
#include "os/process.h"
#include "os/random.h"
#include "transport/pipe.h"

enum { NR_PIPE_NAP_NS = 5000000 };

static void nr_pipe_release(struct naru_endpoint *endpoint)
{
    struct nr_pipe *pipe = nr_pipe_of(endpoint);

    nr_os_close(&pipe->in.fd);
    nr_os_close(&pipe->out.fd);
    nr_assembly_deinit(&pipe->assembly);
}

/* A full pipe is enlarged for the goodbye, so that closing does not wait for the receiver; only where the
   kernel grants no more room (pipe-user-pages-soft) it does. */
static void nr_pipe_leave(struct naru_endpoint *endpoint)
{
    struct nr_pipe *pipe = nr_pipe_of(endpoint);
    struct nr_deadline deadline = nr_deadline_in(endpoint->options.peer_timeout_ns);
    struct nr_deadline now = nr_deadline_in(0);

    if (pipe->out.fd < 0 || !(pipe->said_hello || pipe->is_pair))
        return;
    int result = nr_pipe_put_header(pipe, NR_PIPE_GOODBYE, &now);
    for (int size_bytes = nr_os_pipe_size(pipe->out.fd); result == -EAGAIN && size_bytes > 0;) {
        size_bytes = size_bytes <= INT32_MAX / 2 ? size_bytes * 2 : 0;
        if (nr_os_pipe_resize(pipe->out.fd, (unsigned)size_bytes) < 0)
            break;
        result = nr_pipe_put_header(pipe, NR_PIPE_GOODBYE, &now);
    }
    if (result == -EAGAIN)
        nr_pipe_put_header(pipe, NR_PIPE_GOODBYE, &deadline);
}

static int nr_pipe_descriptor(struct naru_endpoint *endpoint, unsigned *events)
{
    struct nr_pipe *pipe = nr_pipe_of(endpoint);

    return *events == NR_READABLE ? pipe->in.fd : pipe->out.fd;
}

static int nr_pipe_refuse(const struct nr_request *request)
{
    const struct naru_options *options = &request->options;
    static const char memory[] = "a pipe has no memory of its own; use shm:// or file://";
    const struct nr_refusal refused[] = {
        {"when_full", options->when_full == NARU_FAIL ? 0 : options->when_full & ~NARU_BLOCK,
         "a pipe can only wait or fail when it is full; use shm://"},
        {"delivery", options->delivery == NARU_AT_LEAST_ONCE, memory},
        {"durability", options->durability, memory},
        {"payload_bytes", options->payload_bytes, memory},
        {"held_max", options->held_max, memory},
        {"participants_max", options->participants_max, "a pipe does not count who has it open"},
        {"acknowledge", options->acknowledge, "only tcp:// acknowledges"},
        {"type", (uint64_t)options->type, "only sysv:// selects by type"},
        {"signal_number", (uint64_t)options->signal_number, "only signal:// has one"},
        {"peer_uid_any", options->peer_uid_any, "only unix:// checks the peer's user"},
    };

    return nr_request_refuse_each(request, refused, nr_count_of(refused));
}

static int nr_pipe_new(struct nr_pipe **ret, const struct nr_transport *transport,
                       const struct nr_request *request)
{
    struct naru_endpoint *endpoint;
    int result = nr_pipe_refuse(request);

    if (result == 0)
        result = nr_endpoint_new(&endpoint, sizeof(struct nr_pipe), transport, request);
    if (result < 0)
        return result;
    struct nr_pipe *pipe = nr_pipe_of(endpoint);
    pipe->in = pipe->out = NR_OS_PIPE_END_NULL;
    pipe->pid = nr_os_pid();
    pipe->sender = nr_os_random();
    if (!endpoint->options.message_size_max_bytes)
        endpoint->options.message_size_max_bytes = NR_MESSAGE_LIMIT_BYTES;
    *ret = pipe;
    return 0;
}

static void nr_pipe_free(struct nr_pipe *pipe)
{
    if (!pipe)
        return;
    nr_pipe_release(&pipe->endpoint);
    nr_endpoint_free(&pipe->endpoint);
}

/* Makes room for capacity_messages packets, as far as the kernel allows. */
static int nr_pipe_size(struct nr_pipe *pipe, int fd)
{
    size_t wanted = pipe->endpoint.options.capacity_messages;
    int result =
        nr_os_pipe_resize(fd, wanted > INT32_MAX / PIPE_BUF
                                  ? INT32_MAX
                                  : (unsigned)(wanted ? wanted * PIPE_BUF : NR_PIPE_SIZE_BYTES));

    if (result < 0 && wanted)
        return nr_fail(result,
                       "%s: no room for %zu messages of up to %d bytes: %s; the limits are "
                       "/proc/sys/fs/pipe-max-size and pipe-user-pages-soft",
                       pipe->endpoint.uri, wanted, PIPE_BUF, nr_error_name(result));
    result = nr_os_pipe_size(fd);
    if (result > 0)
        pipe->endpoint.options.capacity_messages = (size_t)result / PIPE_BUF;
    return 0;
}

static int nr_pipe_pair(struct naru_endpoint *ret[2], const struct nr_request *request)
{
    struct nr_pipe *ends[2] = {NULL, NULL};
    int fds[2] = {-1, -1};
    int result = 0;

    for (int i = 0; i < 2 && result == 0; i++)
        result = nr_pipe_new(&ends[i], &nr_pipe_transport, request);
    for (int i = 0; i < 2 && result == 0; i++) {
        result = nr_os_pipe_new(fds);
        if (result < 0) {
            nr_fail(result, "no pipe: %s; close descriptors, or raise `ulimit -n`",
                    nr_error_name(result));
            break;
        }
        ends[i]->in.fd = fds[0];
        ends[!i]->out.fd = fds[1];
        ends[i]->is_pair = ends[i]->had_writer = ends[i]->said_hello = true;
        result = nr_pipe_size(ends[i], fds[0]);
    }
    if (result < 0) {
        nr_pipe_free(ends[0]);
        nr_pipe_free(ends[1]);
        return result;
    }
    ret[0] = &ends[0]->endpoint;
    ret[1] = &ends[1]->endpoint;
    return 0;
}

static int nr_pipe_adopt(struct naru_endpoint *endpoint)
{
    nr_pipe_of(endpoint)->pid = nr_os_pid();
    return 0;
}

static unsigned nr_pipe_descriptors_held(struct naru_endpoint *endpoint,
                                         int *ret[NR_ENDPOINT_FDS_MAX])
{
    ret[0] = &nr_pipe_of(endpoint)->in.fd;
    ret[1] = &nr_pipe_of(endpoint)->out.fd;
    return 2;
}

/* What helps when a pipe can't be opened. */
static const char *nr_pipe_cure(int error)
{
    if (error == -EACCES)
        return "; its owner can let others in with file_mode";
    return error == -EMFILE || error == -ENFILE ? "; close some, or raise `ulimit -n`" : "";
}

/* pipe://N: a descriptor that was inherited, such as a shell's pipeline gives */
static int nr_pipe_open(struct naru_endpoint **ret, const struct nr_request *request)
{
    bool sends = request->role == NARU_SENDER;
    struct stat status;
    struct nr_pipe *pipe;
    int64_t number;

    if (!request->uri.rest[0])
        return nr_fail(-EINVAL, "pipe:// has no name to open; use naru_pair(), fifo:///path, or "
                                "pipe://0 for an inherited descriptor");
    int result = nr_uri_number(request->uri.rest, 0, INT32_MAX, &number);
    if (result < 0)
        return result;
    if (nr_os_fstat((int)number, &status) < 0 || !S_ISFIFO(status.st_mode))
        return nr_fail(-EBADF,
                       "descriptor %d is no pipe; put it into a pipeline, such as "
                       "`naru send pipe://1 | naru recv pipe://0`",
                       (int)number);
    if (request->options.create == NARU_CREATE)
        return nr_fail(-EEXIST, "pipe://%d is there already; leave options.create", (int)number);
    result = nr_pipe_new(&pipe, &nr_pipe_transport, request);
    if (result < 0)
        return result;
    int fd = nr_os_reopen((int)number, sends ? O_WRONLY : O_RDONLY);
    result = fd < 0 ? nr_fail(fd, "%s: can't open it to %s: %s%s", request->text,
                              sends ? "send" : "receive", nr_error_name(fd), nr_pipe_cure(fd))
                    : 0;
    *(sends ? &pipe->out.fd : &pipe->in.fd) = fd;
    pipe->had_writer = true;
    if (result == 0)
        result = nr_pipe_size(pipe, fd);
    if (result == 0 && sends)
        result = nr_os_pipe_packets(fd);
    if (result < 0) {
        nr_pipe_free(pipe);
        return result;
    }
    if (sends)
        nr_pipe_hello(pipe);
    *ret = &pipe->endpoint;
    return 0;
}

static int nr_pipe_make_fifo(const struct nr_request *request)
{
    const char *path = request->uri.rest;
    struct stat status;
    int result = -EEXIST;

    if (request->options.create != NARU_ATTACH)
        result = nr_os_fifo_new(path, request->options.file_mode);
    if (result == 0)
        return 0;
    if (result != -EEXIST || request->options.create == NARU_CREATE)
        return nr_fail(result, "can't make the FIFO %s: %s", path,
                       result == -EEXIST   ? "it exists; attach to it, or remove it first"
                       : result == -ENOENT ? "its directory is not there; make that first"
                                           : nr_error_name(result));
    result = nr_os_stat(path, &status);
    if (result < 0)
        return nr_fail(result, "no FIFO %s: %s; the other side, or options.create, makes it", path,
                       nr_error_name(result));
    if (!S_ISFIFO(status.st_mode))
        return nr_fail(-EBADMSG, "%s is there but is no FIFO; choose another path", path);
    return 0;
}

/* Where inotify is refused. */
static int nr_pipe_nap(struct nr_pipe *pipe, struct nr_deadline *deadline)
{
    int64_t left_ns = nr_deadline_left_ns(deadline);
    struct nr_deadline nap = nr_deadline_in(NR_PIPE_NAP_NS);

    if (left_ns <= NR_PIPE_NAP_NS)
        return nr_endpoint_wait(&pipe->endpoint, -1, 0, deadline);
    int result = nr_endpoint_wait(&pipe->endpoint, -1, 0, &nap);
    return result == -ETIMEDOUT ? 0 : result;
}

/* Opens to write as soon as someone has it open to read. */
static int nr_pipe_open_sender(struct nr_pipe *pipe, const char *path)
{
    struct nr_deadline deadline = nr_deadline_in(pipe->endpoint.options.peer_timeout_ns);
    nr_cleanup_close int watch_fd = -1;

    for (;;) {
        int fd = nr_os_open(path, O_WRONLY | O_NONBLOCK, 0);
        if (fd != -ENXIO)
            return fd;
        if (watch_fd < 0) {
            watch_fd = nr_os_open_watch(path);
            if (watch_fd < 0 && !nr_os_is_refused(watch_fd))
                return watch_fd;
            if (watch_fd >= 0)
                continue; /* someone may have come before the watch was there */
        }
        int result = watch_fd >= 0
                         ? nr_endpoint_wait(&pipe->endpoint, watch_fd, NR_READABLE, &deadline)
                         : nr_pipe_nap(pipe, &deadline);
        if (result == -ETIMEDOUT || result == -EAGAIN)
            return nr_fail(
                -ETIMEDOUT,
                "nobody opened %s to receive within %.1f s; start the receiver, or raise "
                "peer_timeout_ns",
                path, (double)pipe->endpoint.options.peer_timeout_ns / 1e9);
        if (result < 0)
            return result;
        if (watch_fd >= 0)
            nr_os_drain(watch_fd);
    }
}

static int nr_fifo_open(struct naru_endpoint **ret, const struct nr_request *request)
{
    const char *path = request->uri.rest;
    struct nr_pipe *pipe;

    int result = nr_uri_check_path(&request->uri);
    if (result == 0)
        result = nr_pipe_make_fifo(request);
    if (result == 0)
        result = nr_pipe_new(&pipe, &nr_fifo_transport, request);
    if (result < 0)
        return result;
    pipe->is_named = true;
    bool sends = request->role == NARU_SENDER;
    int fd = sends ? nr_pipe_open_sender(pipe, path) : nr_os_open(path, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0) {
        nr_pipe_free(pipe);
        return fd == -ETIMEDOUT || fd == -EINTR
                   ? fd
                   : nr_fail(fd, "can't open the FIFO %s to %s: %s%s", path,
                             sends ? "send" : "receive", nr_error_name(fd), nr_pipe_cure(fd));
    }
    *(sends ? &pipe->out.fd : &pipe->in.fd) = fd;
    result = nr_pipe_size(pipe, fd);
    if (result == 0)
        result = sends ? nr_os_pipe_packets(fd) : nr_os_nonblocking(fd, 0);
    if (result < 0) {
        nr_pipe_free(pipe);
        return result;
    }
    if (sends)
        nr_pipe_hello(pipe);
    *ret = &pipe->endpoint;
    return 0;
}

static int nr_fifo_unlink(const struct nr_uri *uri)
{
    struct stat status;
    int result = nr_uri_check_path(uri);

    if (result < 0)
        return result;
    result = nr_os_stat(uri->rest, &status);
    if (result == 0 && !S_ISFIFO(status.st_mode))
        return nr_fail(-EBADMSG, "%s is no FIFO, so it stays", uri->rest);
    if (result == 0)
        result = nr_os_unlink(uri->rest);
    return result < 0
               ? nr_fail(result, "can't remove the FIFO %s: %s", uri->rest, nr_error_name(result))
               : 0;
}

const struct nr_transport nr_pipe_transport = {
    .scheme = "pipe",
    .open = nr_pipe_open,
    .pair = nr_pipe_pair,
    .adopt = nr_pipe_adopt,
    .descriptors_held = nr_pipe_descriptors_held,
    .leave = nr_pipe_leave,
    .release = nr_pipe_release,
    .send = nr_pipe_send,
    .recv = nr_pipe_recv,
    .descriptor = nr_pipe_descriptor,
};

const struct nr_transport nr_fifo_transport = {
    .scheme = "fifo",
    .open = nr_fifo_open,
    .leave = nr_pipe_leave,
    .release = nr_pipe_release,
    .unlink = nr_fifo_unlink,
    .send = nr_pipe_send,
    .recv = nr_pipe_recv,
    .descriptor = nr_pipe_descriptor,
};
