/* SPDX-License-Identifier: MIT */
/*
 * pipe -- pipe://, fifo:// : messages over a pipe in packet mode
 *
 * What       Each packet, at most PIPE_BUF bytes and so atomic, is a header and a fragment. A message of
 *            one fragment goes from the sender's memory to the receiver's in one writev and one readv. A
 *            larger one is put together by the receiver (assembly.h).
 * Format     nr_pipe_header below, then the fragment. Valid: magic and kind known, offset + fragment <=
 *            total <= the largest message.
 * Ends       A sender says HELLO and GOODBYE. A FIFO has ended when it has no writer left: with all
 *            goodbyes said -EPIPE, else -EOWNERDEAD; then it is opened again for the next senders. A pair
 *            has ended with its one GOODBYE, or when the peer's pidfd says that it died.
 * Death      A sender killed between two fragments leaves a partial message, dropped with its sender.
 *            Killed before, nothing; after, the whole. A packet is never torn: pipe_write() fills one
 *            page for it before anyone can read it.
 * Threads    A message of one fragment takes no lock. Those of several are sent one after the other.
 */
#include "base/cleanup.h"
#include "os/pipe.h"
#include "os/process.h"
#include "os/random.h"
#include "transport/assembly.h"
#include "transport/endpoint.h"
#include <stdlib.h>
#include <string.h>

enum {
    NR_PIPE_DATA = 0x4e505030, /* "NPP0": the last byte is the format's version and the kind */
    NR_PIPE_HELLO = 0x4e505031,
    NR_PIPE_GOODBYE = 0x4e505032,
    NR_PIPE_SIZE_BYTES = 256 * 1024, /* 64 packets */
};

struct nr_pipe_header {
    uint32_t kind;
    int32_t pid;
    uint64_t sender;  /* random, one for each sending endpoint */
    uint64_t message; /* counts this sender's messages */
    uint32_t offset_bytes;
    uint32_t total_bytes;
    int64_t type;
};

enum { NR_PIPE_FRAGMENT_BYTES = PIPE_BUF - sizeof(struct nr_pipe_header) };

struct nr_pipe {
    struct naru_endpoint endpoint;
    struct nr_os_pipe_end in, out;
    bool is_pair, is_named;
    bool had_writer;   /* someone has had the FIFO open to write since we opened it */
    bool said_hello;
    bool peer_ended;   /* pair: GOODBYE came */
    pid_t pid; /* mine */
    uint64_t sender;
    uint64_t messages; /* sent */
    struct nr_assembly assembly;
};

static struct nr_pipe *nr_pipe_of(struct naru_endpoint *endpoint)
{
    return nr_container_of(endpoint, struct nr_pipe, endpoint);
}

/* -- sending ------------------------------------------------------------------------------- */

static int nr_pipe_gone(struct nr_pipe *pipe)
{
    struct naru_endpoint *endpoint = &pipe->endpoint;

    if (nr_endpoint_peer_is_dead(endpoint))
        return nr_fail(-EOWNERDEAD, "%s: process %d, which was to receive, has died", endpoint->uri,
                       (int)endpoint->peer_pid);
    return nr_fail(-EPIPE, "%s: nobody has it open to receive any more", endpoint->uri);
}

/* One packet, whole. */
static int nr_pipe_put(struct nr_pipe *pipe, const struct iovec *parts, int count,
                       struct nr_deadline *deadline)
{
    struct naru_endpoint *endpoint = &pipe->endpoint;

    for (;;) {
        long arguments[6], number, written;
        if (nr_endpoint_blocks_directly(endpoint, deadline) &&
            nr_os_pipe_write_call(&pipe->out, parts, count, &number, arguments)) {
            written = nr_endpoint_call(endpoint, number, arguments);
            if (written == -EOPNOTSUPP) /* this kernel has no RWF_NOSIGNAL: finds out, and remembers */
                written = nr_os_pipe_write_now(&pipe->out, parts, count);
        } else {
            written = nr_os_pipe_write_now(&pipe->out, parts, count);
        }
        if (written >= 0)
            return 0;
        int result = (int)written;
        if (written == -EPIPE)
            return nr_pipe_gone(pipe);
        if (written == -EAGAIN)
            result = nr_endpoint_wait(endpoint, pipe->out.fd, NR_WRITABLE, deadline);
        else if (written == -EINTR)
            result = nr_endpoint_interrupted(endpoint);
        else
            return nr_fail(result, "writing to %s: %s", endpoint->uri, nr_error_name(result));
        if (result < 0)
            return result;
    }
}

static int nr_pipe_put_header(struct nr_pipe *pipe, uint32_t kind, struct nr_deadline *deadline)
{
    struct nr_pipe_header header = {.kind = kind, .pid = pipe->pid, .sender = pipe->sender};
    struct iovec part = {&header, sizeof header};

    return nr_pipe_put(pipe, &part, 1, deadline);
}

/* As soon as it is open, so that a death before the first message is noticed. When the pipe is full, before
   that message. */
static void nr_pipe_hello(struct nr_pipe *pipe)
{
    struct nr_deadline now = nr_deadline_in(0);

    pipe->said_hello = nr_pipe_put_header(pipe, NR_PIPE_HELLO, &now) == 0;
}

static int nr_pipe_send_fragments(struct nr_pipe *pipe, struct nr_pipe_header *header,
                                  const struct nr_out *out, struct nr_deadline *deadline)
{
    char fragment[NR_PIPE_FRAGMENT_BYTES];
    struct iovec parts[2] = {{header, sizeof *header}, {fragment, 0}};

    nr_lock_scope(&pipe->endpoint.lock);
    for (size_t offset = 0; offset < out->size_bytes; offset += parts[1].iov_len) {
        size_t left = out->size_bytes - offset;
        parts[1].iov_len = left < sizeof fragment ? left : sizeof fragment;
        header->offset_bytes = (uint32_t)offset;
        if (out->parts_count == 1)
            parts[1].iov_base = (char *)out->parts[0].iov_base + offset;
        else
            nr_out_copy(out, offset, fragment, parts[1].iov_len);
        int result = nr_pipe_put(pipe, parts, 2, deadline);
        if (result < 0)
            return result; /* the receiver gives up what it got of it */
    }
    return 0;
}

static int nr_pipe_send(struct naru_endpoint *endpoint, const struct nr_out *out,
                        struct nr_deadline *deadline)
{
    struct nr_pipe *pipe = nr_pipe_of(endpoint);
    struct nr_pipe_header header = {
        .kind = NR_PIPE_DATA,
        .pid = pipe->pid,
        .sender = pipe->sender,
        .message = nr_count_next(&pipe->messages),
        .total_bytes = (uint32_t)out->size_bytes,
        .type = out->type,
    };
    char gathered[NR_PIPE_FRAGMENT_BYTES];
    struct iovec parts[2] = {{&header, sizeof header}, out->parts[0]};

    if (!pipe->said_hello) {
        int result = nr_pipe_put_header(pipe, NR_PIPE_HELLO, deadline);
        if (result < 0)
            return result;
        pipe->said_hello = true;
    }
    if (out->size_bytes > NR_PIPE_FRAGMENT_BYTES)
        return nr_pipe_send_fragments(pipe, &header, out, deadline);
    if (out->parts_count > 1) {
        nr_out_copy(out, 0, gathered, out->size_bytes);
        parts[1] = (struct iovec){gathered, out->size_bytes};
    }
    return nr_pipe_put(pipe, parts, 2, deadline);
}

/* -- receiving ----------------------------------------------------------------------------- */

/* A packet as it was read: the header, then up to capacity bytes in the caller's room, the rest here. */
struct nr_pipe_packet {
    struct nr_pipe_header header;
    char rest[NR_PIPE_FRAGMENT_BYTES];
};

/* The FIFO has no writer left. Open it anew, so that it waits for the next one instead of polling
   as hung up for ever; under the same number, which is in the caller's epoll. */
static void nr_pipe_reopen(struct nr_pipe *pipe)
{
    struct naru_endpoint *endpoint = &pipe->endpoint;
    int fd = nr_os_reopen(pipe->in.fd, O_RDONLY | O_NONBLOCK);

    if (fd < 0) /* no /proc, or no descriptor: it goes on as hung up, and says so at each call */
        return;
    bool is_in_epoll = endpoint->ready_fd[0] >= 0;
    if (is_in_epoll)
        nr_os_epoll_remove(endpoint->ready_fd[0], pipe->in.fd);
    nr_os_replace(fd, pipe->in.fd);
    pipe->in.lacks_nowait = pipe->in.is_nonblocking = true;
    if (is_in_epoll)
        nr_os_epoll_add(endpoint->ready_fd[0], pipe->in.fd, NR_READABLE);
    pipe->had_writer = false;
}

/* End of file: nobody can write any more. */
static int nr_pipe_ended(struct nr_pipe *pipe)
{
    struct naru_endpoint *endpoint = &pipe->endpoint;

    nr_lock_scope(&endpoint->lock);
    unsigned died = nr_assembly_forget(&pipe->assembly);
    if (pipe->is_pair && !pipe->peer_ended) /* a dying process closes before its pidfd tells of it */
        died = 1;
    if (pipe->is_named)
        nr_pipe_reopen(pipe);
    if (died)
        return nr_fail(-EOWNERDEAD, "%s: a process died that had it open to send", endpoint->uri);
    return nr_fail(-EPIPE, "%s: all who had it open to send have closed it", endpoint->uri);
}

/* A packet that is not simply a whole message. 1: it completed one, in *in. 0: go on reading. */
static int nr_pipe_accept(struct nr_pipe *pipe, struct nr_pipe_packet *packet, size_t size_bytes,
                          struct nr_in *in)
{
    const struct nr_pipe_header *header = &packet->header;
    struct naru_message *message = in->message;
    char fragment[NR_PIPE_FRAGMENT_BYTES];

    nr_lock_scope(&pipe->endpoint.lock);
    if (header->kind == NR_PIPE_HELLO)
        return nr_assembly_hello(&pipe->assembly, header->sender, header->pid);
    if (header->kind == NR_PIPE_GOODBYE) {
        nr_assembly_goodbye(&pipe->assembly, header->sender);
        pipe->peer_ended = pipe->is_pair;
        return 0;
    }
    size_t direct_bytes = size_bytes < message->capacity_bytes ? size_bytes : message->capacity_bytes;
    if (direct_bytes)
        memcpy(fragment, message->data, direct_bytes);
    memcpy(fragment + direct_bytes, packet->rest, size_bytes - direct_bytes);
    struct nr_fragment piece = {
        .sender = header->sender,
        .sender_pid = header->pid,
        .message = header->message,
        .offset_bytes = header->offset_bytes,
        .size_bytes = size_bytes,
        .total_bytes = header->total_bytes,
        .data = fragment,
    };
    if (size_bytes == header->total_bytes) { /* whole, but larger than the room */
        int result = nr_in_deliver(in, fragment, size_bytes);
        return result < 0 ? result : 1;
    }
    void *whole = NULL;
    int result = nr_assembly_add(&pipe->assembly, &piece, &whole);
    if (result <= 0)
        return result;
    message->size_bytes = header->total_bytes;
    if (header->total_bytes > message->capacity_bytes) {
        in->spill = whole;
        return -EMSGSIZE;
    }
    memcpy(message->data, whole, header->total_bytes);
    free(whole);
    return 1;
}

static int nr_pipe_check(struct nr_pipe *pipe, const struct nr_pipe_packet *packet, long size)
{
    struct naru_endpoint *endpoint = &pipe->endpoint;
    const struct nr_pipe_header *header = &packet->header;

    if (size < (long)sizeof *header || header->kind < NR_PIPE_DATA || header->kind > NR_PIPE_GOODBYE)
        return nr_fail(-EBADMSG,
                       "%s: %ld bytes came that are no packet of Naru's; the other side must send with "
                       "libnaru or `naru send`",
                       endpoint->uri, size);
    if (header->total_bytes > endpoint->options.message_size_max_bytes)
        return nr_fail(-EBADMSG, "%s: process %d sends a message of %u bytes, and at most %zu were "
                                 "agreed",
                       endpoint->uri, (int)header->pid, header->total_bytes,
                       endpoint->options.message_size_max_bytes);
    return 0;
}

static long nr_pipe_get(struct nr_pipe *pipe, struct nr_pipe_packet *packet,
                        const struct naru_message *message, bool may_block)
{
    struct iovec parts[3] = {
        {&packet->header, sizeof packet->header},
        {message->data, message->capacity_bytes},
        {packet->rest, sizeof packet->rest},
    };
    long arguments[6] = {0};

    if (!may_block)
        return nr_os_pipe_read_now(&pipe->in, parts, 3);
    long number = nr_os_pipe_read_call(&pipe->in, parts, 3, arguments);
    return nr_endpoint_call(&pipe->endpoint, number, arguments);
}

/* True when a FIFO's last writer has gone; a wait may also have ended for a signal, which says nothing. */
static bool nr_pipe_is_hung_up(struct nr_pipe *pipe)
{
    struct nr_deadline now = nr_deadline_in(0);
    struct pollfd one = {.fd = pipe->in.fd, .events = NR_READABLE};

    return nr_os_poll(&one, 1, &now) == 1 && (one.revents & POLLHUP);
}

/* Nothing to read: wait. A FIFO that no one has opened yet reads as ended, but polls as it should. */
static int nr_pipe_await(struct nr_pipe *pipe, long size, struct nr_deadline *deadline)
{
    struct naru_endpoint *endpoint = &pipe->endpoint;

    if (size == -EINTR)
        return nr_endpoint_interrupted(endpoint);
    if (size == 0 && pipe->had_writer)
        return nr_pipe_ended(pipe);
    if (size != 0 && size != -EAGAIN)
        return nr_fail((int)size, "reading from %s: %s", endpoint->uri, nr_error_name((int)size));
    if (pipe->peer_ended)
        return nr_fail(-EPIPE, "%s: the other side has closed its end", endpoint->uri);
    int result = nr_endpoint_wait(endpoint, pipe->in.fd, NR_READABLE, deadline);
    if (result == 0 && size == 0)
        pipe->had_writer = nr_pipe_is_hung_up(pipe);
    return result;
}

static int nr_pipe_recv(struct naru_endpoint *endpoint, struct nr_in *in,
                        struct nr_deadline *deadline)
{
    struct nr_pipe *pipe = nr_pipe_of(endpoint);
    struct naru_message *message = in->message;
    struct nr_pipe_packet packet;

    for (;;) {
        bool may_block = pipe->had_writer && !pipe->peer_ended &&
                         nr_endpoint_blocks_directly(endpoint, deadline);
        long size = nr_pipe_get(pipe, &packet, message, may_block);
        if (size <= 0) {
            int result = nr_pipe_await(pipe, size, deadline);
            if (result < 0)
                return result;
            continue;
        }
        pipe->had_writer = true;
        int result = nr_pipe_check(pipe, &packet, size);
        if (result < 0)
            return result;
        size_t size_bytes = (size_t)size - sizeof packet.header;
        message->sequence = packet.header.message;
        message->type = packet.header.type;
        message->sender_pid = packet.header.pid;
        message->known = NARU_KNOWS_SEQUENCE | NARU_KNOWS_TYPE | NARU_KNOWS_SENDER_PID;
        if (packet.header.kind == NR_PIPE_DATA && size_bytes == packet.header.total_bytes &&
            size_bytes <= message->capacity_bytes) {
            message->size_bytes = size_bytes;
            return 0;
        }
        result = nr_pipe_accept(pipe, &packet, size_bytes, in);
        if (result != 0)
            return result < 0 ? result : 0;
    }
}

/* -- opening and closing ------------------------------------------------------------------- */

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
    const struct {
        const char *name;
        uint64_t value;
        const char *why;
    } refused[] = {
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

    for (size_t i = 0; i < nr_count_of(refused); i++) {
        int result = nr_request_refuse(request, refused[i].name, refused[i].value, refused[i].why);
        if (result < 0)
            return result;
    }
    return 0;
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
    int result = nr_os_pipe_resize(
        fd, wanted > INT32_MAX / PIPE_BUF ? INT32_MAX
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
        return nr_fail(-EBADF, "descriptor %d is no pipe; put it into a pipeline, such as "
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
                       result == -EEXIST ? "it exists; attach to it, or remove it first"
                                         : nr_error_name(result));
    result = nr_os_stat(path, &status);
    if (result < 0)
        return nr_fail(result, "no FIFO %s: %s; the other side, or options.create, makes it", path,
                       nr_error_name(result));
    if (!S_ISFIFO(status.st_mode))
        return nr_fail(-EBADMSG, "%s is there but is no FIFO; choose another path", path);
    return 0;
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
            if (watch_fd < 0)
                return watch_fd;
            continue; /* someone may have come before the watch was there */
        }
        int result = nr_endpoint_wait(&pipe->endpoint, watch_fd, NR_READABLE, &deadline);
        if (result == -ETIMEDOUT || result == -EAGAIN)
            return nr_fail(-ETIMEDOUT,
                           "nobody opened %s to receive within %.1f s; start the receiver, or raise "
                           "peer_timeout_ns",
                           path, (double)pipe->endpoint.options.peer_timeout_ns / 1e9);
        if (result < 0)
            return result;
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
                   : nr_fail(fd, "can't open the FIFO %s to %s: %s%s", path, sends ? "send" : "receive",
                             nr_error_name(fd), nr_pipe_cure(fd));
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
    return result < 0 ? nr_fail(result, "can't remove the FIFO %s: %s", uri->rest,
                                nr_error_name(result))
                      : 0;
}

const struct nr_transport nr_pipe_transport = {
    .scheme = "pipe",
    .open = nr_pipe_open,
    .pair = nr_pipe_pair,
    .adopt = nr_pipe_adopt,
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
