/* SPDX-License-Identifier: MIT */
/*
 * pipe -- pipe://, fifo:// : messages over a pipe in packet mode
 *
 * What       Each packet, at most PIPE_BUF bytes and so atomic, is a header and a fragment. A message of
 *            one fragment goes in one pwritev2 and comes in one read. A larger one is put together by the
 *            receiver (assembly.h).
 * Format     nr_pipe_header (pipe.h), then the fragment. Valid: magic and kind known, offset + fragment <=
 *            total <= the largest message.
 * Ends       A sender says HELLO and GOODBYE. A FIFO has ended when it has no writer left: with all
 *            goodbyes said -EPIPE, else -EOWNERDEAD; then it is opened again for the next senders. A pair
 *            has ended with its one GOODBYE, or when the peer's pidfd says that it died.
 * Death      A sender killed between two fragments leaves a partial message, dropped with its sender.
 *            Killed before, nothing; after, the whole. A packet is never torn: pipe_write() fills one
 *            page for it before anyone can read it.
 * Threads    A message of one fragment takes no lock. Those of several are sent one after the other.
 */
#include "transport/pipe.h"
#include "os/process.h"
#include <stdlib.h>
#include <string.h>

/* A whole packet. To read one plainly and copy at most a page costs less than the kernel's work on an iovec
   that would put it where it belongs; in writing, that is so for small ones (bench/RESULTS.md). */
struct nr_pipe_packet {
    struct nr_pipe_header header;
    char fragment[NR_PIPE_FRAGMENT_BYTES];
};
enum { NR_PIPE_COPY_BYTES = 1024 };

/* -- sending ------------------------------------------------------------------------------- */

static int nr_pipe_gone(struct nr_pipe *pipe)
{
    struct naru_endpoint *endpoint = &pipe->endpoint;

    /* In this order: it may get from the one to the other while we look. */
    bool is_watched = endpoint->peer_pidfd >= 0 || endpoint->peer_by_pid;
    bool is_exiting = is_watched && nr_os_process_is_exiting(endpoint->peer_pid);
    if (is_exiting || nr_endpoint_peer_is_dead(endpoint))
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
            if (written < 0 &&
                nr_os_pipe_is_refused(written)) /* no RWF_NOSIGNAL here: finds out, and remembers */
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

int nr_pipe_put_header(struct nr_pipe *pipe, uint32_t kind, struct nr_deadline *deadline)
{
    struct nr_pipe_header header = {.kind = kind, .pid = pipe->pid, .sender = pipe->sender};
    struct iovec part = {&header, sizeof header};

    return nr_pipe_put(pipe, &part, 1, deadline);
}

void nr_pipe_hello(struct nr_pipe *pipe)
{
    struct nr_deadline now = nr_deadline_in(0);

    nr_flag_set(&pipe->said_hello, nr_pipe_put_header(pipe, NR_PIPE_HELLO, &now) == 0);
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

nr_flat int nr_pipe_send(struct naru_endpoint *endpoint, const struct nr_out *out,
                         struct nr_deadline *deadline)
{
    struct nr_pipe *pipe = nr_pipe_of(endpoint);
    struct nr_pipe_packet packet;
    struct iovec parts[2] = {{&packet, sizeof packet.header}, out->parts[0]};

    packet.header = (struct nr_pipe_header){
        .kind = NR_PIPE_DATA,
        .pid = pipe->pid,
        .sender = pipe->sender,
        .message = nr_count_next(&pipe->messages),
        .total_bytes = (uint32_t)out->size_bytes,
        .type = out->type,
    };
    if (!nr_flag_get(&pipe->said_hello)) {
        int result = nr_pipe_put_header(pipe, NR_PIPE_HELLO, deadline);
        if (result < 0)
            return result;
        nr_flag_set(&pipe->said_hello, true);
    }
    if (out->size_bytes > NR_PIPE_FRAGMENT_BYTES)
        return nr_pipe_send_fragments(pipe, &packet.header, out, deadline);
    if (out->parts_count == 1 && out->size_bytes > NR_PIPE_COPY_BYTES)
        return nr_pipe_put(pipe, parts, 2, deadline);
    nr_out_copy(out, 0, packet.fragment, out->size_bytes);
    parts[0].iov_len += out->size_bytes;
    return nr_pipe_put(pipe, parts, 1, deadline);
}

/* -- receiving ----------------------------------------------------------------------------- */

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
    nr_flag_set(&pipe->had_writer, false);
}

/* End of file: nobody can write any more. */
static int nr_pipe_ended(struct nr_pipe *pipe)
{
    struct naru_endpoint *endpoint = &pipe->endpoint;

    nr_lock_scope(&endpoint->lock);
    unsigned died = nr_assembly_forget(&pipe->assembly);
    if (pipe->is_pair &&
        !nr_flag_get(&pipe->peer_ended)) /* a dying process closes before its pidfd tells of it */
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

    nr_lock_scope(&pipe->endpoint.lock);
    if (header->kind == NR_PIPE_HELLO)
        return nr_assembly_hello(&pipe->assembly, header->sender, header->pid);
    if (header->kind == NR_PIPE_GOODBYE) {
        nr_assembly_goodbye(&pipe->assembly, header->sender);
        nr_flag_set(&pipe->peer_ended, pipe->is_pair);
        return 0;
    }
    struct nr_fragment piece = {
        .sender = header->sender,
        .sender_pid = header->pid,
        .message = header->message,
        .offset_bytes = header->offset_bytes,
        .size_bytes = size_bytes,
        .total_bytes = header->total_bytes,
        .piece_bytes = NR_PIPE_FRAGMENT_BYTES,
        .data = packet->fragment,
    };
    if (size_bytes == header->total_bytes) { /* whole, but larger than the room */
        int result = nr_in_deliver(in, packet->fragment, size_bytes);
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

    if (size < (long)sizeof *header || header->kind < NR_PIPE_DATA ||
        header->kind > NR_PIPE_GOODBYE)
        return nr_fail(
            -EBADMSG,
            "%s: %ld bytes came that are no packet of Naru's; the other side must send with "
            "libnaru or `naru send`",
            endpoint->uri, size);
    if (header->total_bytes > endpoint->options.message_size_max_bytes)
        return nr_fail(-EBADMSG,
                       "%s: process %d sends a message of %u bytes, and at most %zu were "
                       "agreed",
                       endpoint->uri, (int)header->pid, header->total_bytes,
                       endpoint->options.message_size_max_bytes);
    return 0;
}

static long nr_pipe_get(struct nr_pipe *pipe, struct nr_pipe_packet *packet, bool may_block)
{
    long arguments[6] = {0};

    if (!may_block)
        return nr_os_pipe_read_now(&pipe->in, packet, sizeof *packet);
    long number = nr_os_pipe_read_call(&pipe->in, packet, sizeof *packet, arguments);
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
    if (size == 0 && nr_flag_get(&pipe->had_writer))
        return nr_pipe_ended(pipe);
    if (size != 0 && size != -EAGAIN)
        return nr_fail((int)size, "reading from %s: %s", endpoint->uri, nr_error_name((int)size));
    if (nr_flag_get(&pipe->peer_ended))
        return nr_fail(-EPIPE, "%s: the other side has closed its end", endpoint->uri);
    int result = nr_endpoint_wait(endpoint, pipe->in.fd, NR_READABLE, deadline);
    if (result == 0 && size == 0)
        nr_flag_set(&pipe->had_writer, nr_pipe_is_hung_up(pipe));
    return result;
}

nr_flat int nr_pipe_recv(struct naru_endpoint *endpoint, struct nr_in *in,
                         struct nr_deadline *deadline)
{
    struct nr_pipe *pipe = nr_pipe_of(endpoint);
    struct naru_message *message = in->message;
    struct nr_pipe_packet packet;

    for (;;) {
        bool may_block = nr_flag_get(&pipe->had_writer) && !nr_flag_get(&pipe->peer_ended) &&
                         nr_endpoint_blocks_directly(endpoint, deadline);
        long size = nr_pipe_get(pipe, &packet, may_block);
        if (size <= 0) {
            int result = nr_pipe_await(pipe, size, deadline);
            if (result < 0)
                return result;
            continue;
        }
        nr_flag_set(&pipe->had_writer, true);
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
            if (size_bytes)
                memcpy(message->data, packet.fragment, size_bytes);
            message->size_bytes = size_bytes;
            return 0;
        }
        result = nr_pipe_accept(pipe, &packet, size_bytes, in);
        if (result != 0)
            return result < 0 ? result : 0;
    }
}
