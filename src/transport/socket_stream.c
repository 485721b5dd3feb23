/* SPDX-License-Identifier: MIT */
/*
 * socket_stream -- messages over a byte stream, and their acknowledgement: tcp://
 *
 * Contents   what must go out before anything else - what comes in - sending
 * Format     Frames: nr_stream_header (16 bytes), 8 bytes of type if it says TYPED, `length` bytes of
 *            payload. Host byte order. Valid: magic and kind known; HELLO comes first and once; MESSAGE has
 *            at most message_size_max bytes; all others but HELLO have none.
 * Committed  With acknowledgement: sender MESSAGE(n), receiver ACKNOWLEDGE(n) when a receiving call has it in
 *            hand, sender GO(n), and then it is delivered. The message is committed when the sender has the
 *            acknowledgement: not before, so a sender that gives up by then says CANCEL(n) and nothing was
 *            delivered; nor can it be undone later. Acknowledged and then lost is only what a receiver
 *            that dies or closes had in hand.
 *            Without: a message is committed when the kernel has its last byte. One with a deadline (or so
 *            large that it will hardly go out at once) is followed by GO in the same call; if the deadline
 *            passes in its middle, the rest and a CANCEL are kept and go out before anything else. That holds in
 *            the middle of the GO as well, from which a CANCEL differs in its last byte only: what counts as sent
 *            must not wait here for the sender's next call. So a
 *            negative result always means that it is not delivered, and the stream is never torn. Only a
 *            small message without a deadline, interrupted in its middle, is kept and counts as sent.
 * Death      Of a sender, in the middle of a frame: the partial frame is dropped with the connection.
 * Memory     What has come stands in one buffer per connection: [start, scanned) whole frames, [scanned, end)
 *            a partial one. Marks (granted, cancelled) are made in the buffered headers. It grows as bytes
 *            come, to at most one largest message and a little.
 * Threads    The sending side belongs to one thread from MESSAGE to GO (turn). While a frame is going out in
 *            pieces (is_writing), frames of other threads queue up in `rest`.
 */
#include "transport/socket.h"
#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum {
    NR_STREAM_BUFFER_BYTES = 64 * 1024,
    NR_STREAM_KEEP_BYTES = 256 * 1024, /* a larger buffer is given back when it is empty */
    NR_STREAM_SMALL_BYTES = 16 * 1024, /* without deadline and acknowledgement: sent without a GO */
    NR_STREAM_COPY_BYTES = 4096, /* up to here a copy costs less than a message header's handling */
    NR_STREAM_PARTS = 16,
    NR_STREAM_TYPE_BYTES = 8,
    NR_STREAM_FAREWELL_NS = 1000000000,
};

enum {
    NR_STREAM_WANTS_ACK = 1 << 0,
    NR_STREAM_NEEDS_GO = 1 << 1,
    NR_STREAM_TYPED = 1 << 2,
    NR_STREAM_FROM_PEER = NR_STREAM_WANTS_ACK | NR_STREAM_NEEDS_GO | NR_STREAM_TYPED,
    /* the receiver's own marks */
    NR_STREAM_ACKED = 1 << 4,
    NR_STREAM_GRANTED = 1 << 5,
    NR_STREAM_CANCELLED = 1 << 6,
};

struct nr_stream_header {
    uint64_t sequence;
    uint32_t length_bytes;
    uint16_t magic;
    uint8_t flags, kind;
};
static_assert(sizeof(struct nr_stream_header) == 16 &&
                  offsetof(struct nr_stream_header, kind) == 15,
              "the frame's header is part of the protocol; a GO becomes a CANCEL by its last byte");

static size_t nr_stream_frame_bytes(const struct nr_stream_header *header)
{
    return sizeof *header + (header->flags & NR_STREAM_TYPED ? NR_STREAM_TYPE_BYTES : 0) +
           header->length_bytes;
}

static struct nr_stream_header nr_stream_header_at(const struct nr_socket_connection *c, size_t at)
{
    struct nr_stream_header header;

    memcpy(&header, c->in + at, sizeof header);
    return header;
}

static void nr_stream_mark(struct nr_socket_connection *c, size_t at, uint8_t flags)
{
    c->in[at + offsetof(struct nr_stream_header, flags)] = flags;
}

static void nr_stream_over(struct nr_socket *s, struct nr_socket_connection *c,
                           enum nr_socket_end end)
{
    if (c->end != NR_SOCKET_OPEN)
        return;
    c->end = end == NR_SOCKET_DAMAGED && !c->is_greeted ? NR_SOCKET_ALIEN : end;
    if (c->end > NR_SOCKET_DIED)
        nr_connection_verdict(s, c->end, c->pid, &c->hello);
}

/* -- what must go out before anything else ------------------------------------------------------- */

static bool nr_stream_has_rest(const struct nr_socket_connection *c)
{
    return c->rest_sent < c->rest_bytes;
}

/* 0: all is out. -EAGAIN: the kernel is full. Errors show up when reading. Locked. */
static int nr_stream_flush(struct nr_socket_connection *c)
{
    while (nr_stream_has_rest(c) && !c->is_writing) {
        struct iovec part = {c->rest + c->rest_sent, c->rest_bytes - c->rest_sent};
        struct msghdr bytes = {.msg_iov = &part, .msg_iovlen = 1};
        long size = nr_os_sendmsg_try(c->fd, &bytes);
        if (size == -EAGAIN)
            return -EAGAIN;
        if (size < 0)
            break;
        c->rest_sent += (size_t)size;
    }
    if (c->is_writing)
        return nr_stream_has_rest(c) ? -EAGAIN : 0;
    free(c->rest);
    c->rest = NULL;
    c->rest_bytes = c->rest_sent = 0;
    return 0;
}

/* Puts bytes behind the rest, or, with at_front, before it. Locked. */
static int nr_stream_keep(struct nr_socket_connection *c, const void *data, size_t size_bytes)
{
    size_t old_bytes = c->rest_bytes - c->rest_sent;
    uint8_t *made = malloc(old_bytes + size_bytes);

    if (!made)
        return -ENOMEM;
    if (old_bytes)
        memcpy(made, c->rest + c->rest_sent, old_bytes);
    memcpy(made + old_bytes, data, size_bytes);
    free(c->rest);
    c->rest = made;
    c->rest_bytes = old_bytes + size_bytes;
    c->rest_sent = 0;
    return 0;
}

/* A control frame, now or as soon as it can be. Locked. */
static void nr_stream_put_control(struct nr_socket *s, struct nr_socket_connection *c,
                                  enum nr_socket_kind kind, uint64_t sequence, const void *data,
                                  size_t size_bytes)
{
    uint8_t bytes[sizeof(struct nr_stream_header) + sizeof(struct nr_socket_hello)];
    struct nr_stream_header header = {
        .length_bytes = (uint32_t)size_bytes,
        .kind = (uint8_t)kind,
        .magic = NR_SOCKET_FRAME_MAGIC,
        .sequence = sequence,
    };
    size_t sent = 0, total = sizeof header + size_bytes;

    memcpy(bytes, &header, sizeof header);
    if (size_bytes)
        memcpy(bytes + sizeof header, data, size_bytes);
    if (!c->is_writing && nr_stream_flush(c) == 0) {
        struct iovec part = {bytes, total};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        long size = nr_os_sendmsg_try(c->fd, &message);
        if (size < 0 && size != -EAGAIN)
            return; /* broken: reading will tell how */
        sent = size > 0 ? (size_t)size : 0;
    }
    if (sent < total && nr_stream_keep(c, bytes + sent, total - sent) < 0) {
        nr_os_socket_shutdown(c->fd); /* no memory: better no connection than a wrong one */
        nr_stream_over(s, c, NR_SOCKET_DIED);
    }
}

static int nr_stream_put_hello(struct nr_socket *s, struct nr_socket_connection *c, uint8_t refusal)
{
    struct nr_socket_hello hello;

    nr_connection_fill_hello(s, refusal, &hello);
    nr_stream_put_control(s, c, NR_SOCKET_HELLO, 0, &hello, sizeof hello);
    return 0;
}

/* What is still to go out gets a moment; then what came unread is read away, because the kernel answers
   a close with unread input by a reset, which would destroy what is under way to the peer. */
static void nr_stream_put_end(struct nr_socket *s, struct nr_socket_connection *c)
{
    struct nr_deadline deadline = nr_deadline_in(NR_STREAM_FAREWELL_NS);
    char unread[4096];

    c->is_writing = false;
    nr_stream_put_control(s, c, NR_SOCKET_END, 0, NULL, 0);
    while (nr_stream_flush(c) == -EAGAIN) {
        struct pollfd fds = {.fd = c->fd, .events = NR_WRITABLE};
        if (nr_os_poll(&fds, 1, &deadline) == 0)
            break;
    }
    for (int i = 0; i < 1024 && nr_os_recv_try(c->fd, unread, sizeof unread) > 0; i++)
        ;
}

/* -- what comes in ---------------------------------------------------------------------------------- */

/* A verdict on messages that are buffered: GO up to `sequence`, or CANCEL of just that one. */
static void nr_stream_judge(struct nr_socket_connection *c, const struct nr_stream_header *verdict)
{
    for (size_t at = c->in_start; at < c->in_scanned;) {
        struct nr_stream_header header = nr_stream_header_at(c, at);
        if (header.kind == NR_SOCKET_MESSAGE && header.sequence == verdict->sequence)
            nr_stream_mark(c, at,
                           header.flags | (verdict->kind == NR_SOCKET_GO ? NR_STREAM_GRANTED
                                                                         : NR_STREAM_CANCELLED));
        at += nr_stream_frame_bytes(&header);
    }
}

static bool nr_stream_is_valid(const struct nr_socket *s, const struct nr_socket_connection *c,
                               const struct nr_stream_header *header)
{
    if (header->magic != NR_SOCKET_FRAME_MAGIC)
        return false;
    if (!c->is_greeted)
        return header->kind == NR_SOCKET_HELLO && header->flags == 0 &&
               header->length_bytes == sizeof(struct nr_socket_hello);
    if (header->kind == NR_SOCKET_MESSAGE)
        return header->length_bytes <= s->endpoint.options.message_size_max_bytes &&
               s->endpoint.role != NARU_SENDER;
    return header->kind >= NR_SOCKET_END && header->kind <= NR_SOCKET_CANCEL &&
           header->flags == 0 && header->length_bytes == 0;
}

static void nr_stream_control(struct nr_socket *s, struct nr_socket_connection *c,
                              const struct nr_stream_header *header, size_t at)
{
    struct nr_socket_hello hello;

    switch (header->kind) {
    case NR_SOCKET_HELLO:
        memcpy(&hello, c->in + at + sizeof *header, sizeof hello);
        nr_connection_greet(s, c, &hello);
        break;
    case NR_SOCKET_END:
        nr_stream_over(s, c, NR_SOCKET_ENDED);
        break;
    case NR_SOCKET_ACKNOWLEDGE:
        c->acknowledged = header->sequence;
        if (c->ack_fd >= 0)
            nr_os_eventfd_set(c->ack_fd);
        break;
    default:
        nr_stream_judge(c, header);
    }
}

/* Acts on the frames that have become whole. */
static void nr_stream_scan(struct nr_socket *s, struct nr_socket_connection *c)
{
    while (c->end == NR_SOCKET_OPEN &&
           c->in_end - c->in_scanned >= sizeof(struct nr_stream_header)) {
        struct nr_stream_header header = nr_stream_header_at(c, c->in_scanned);
        if (!nr_stream_is_valid(s, c, &header)) {
            nr_stream_over(s, c, NR_SOCKET_DAMAGED);
            return;
        }
        if (nr_stream_frame_bytes(&header) > c->in_end - c->in_scanned)
            return;
        if (header.kind == NR_SOCKET_MESSAGE)
            nr_stream_mark(c, c->in_scanned, header.flags & NR_STREAM_FROM_PEER);
        else
            nr_stream_control(s, c, &header, c->in_scanned);
        c->in_scanned += nr_stream_frame_bytes(&header);
    }
}

static void nr_stream_move_to_front(struct nr_socket_connection *c)
{
    if (c->in_start == 0)
        return;
    memmove(c->in, c->in + c->in_start, c->in_end - c->in_start);
    c->in_scanned -= c->in_start;
    c->in_end -= c->in_start;
    c->in_start = 0;
}

/* Room for at least one more byte. */
static int nr_stream_make_room(struct nr_socket *s, struct nr_socket_connection *c)
{
    size_t limit = s->endpoint.options.message_size_max_bytes + 2 * NR_STREAM_BUFFER_BYTES;
    size_t capacity = c->in_capacity_bytes ? c->in_capacity_bytes : NR_STREAM_BUFFER_BYTES;

    if (c->in_start == c->in_end) {
        c->in_start = c->in_scanned = c->in_end = 0;
        if (c->in_capacity_bytes > NR_STREAM_KEEP_BYTES) {
            free(c->in);
            c->in = NULL;
            c->in_capacity_bytes = 0;
            capacity = NR_STREAM_BUFFER_BYTES;
        }
    }
    if (c->in && c->in_end < c->in_capacity_bytes)
        return 0;
    if (c->in_start > c->in_capacity_bytes / 2) {
        nr_stream_move_to_front(c);
        return 0;
    }
    if (c->in)
        capacity = 2 * capacity < limit ? 2 * capacity : limit;
    if (c->in && capacity <= c->in_capacity_bytes) {
        nr_stream_move_to_front(c);
        return c->in_end < c->in_capacity_bytes ? 0 : -ENOBUFS;
    }
    void *grown = realloc(c->in, capacity);
    if (!grown)
        return nr_fail(-ENOMEM, "%s: no memory for %zu bytes that come in", s->endpoint.uri,
                       capacity);
    c->in = grown;
    c->in_capacity_bytes = capacity;
    return 0;
}

/* Reads once. 0: something came, or c->end was set; -EAGAIN; -EINTR when `directly`. */
static int nr_stream_fill(struct nr_socket *s, struct nr_socket_connection *c, bool directly)
{
    int result = nr_stream_make_room(s, c);

    if (result < 0) {
        nr_stream_over(s, c, NR_SOCKET_DAMAGED);
        return 0;
    }
    size_t room = c->in_capacity_bytes - c->in_end;
    const long arguments[6] = {c->fd, (long)(c->in + c->in_end), (long)room};
    long size = directly ? nr_endpoint_call(&s->endpoint, SYS_recvfrom, arguments)
                         : nr_os_recv_try(c->fd, c->in + c->in_end, room);
    if (size == -EAGAIN || size == -EINTR)
        return (int)size;
    if (size <= 0) {
        nr_stream_over(s, c, NR_SOCKET_DIED);
        return 0;
    }
    c->in_end += (size_t)size;
    nr_stream_scan(s, c);
    return 0;
}

static bool nr_stream_is_deliverable(const struct nr_stream_header *header)
{
    return header->kind == NR_SOCKET_MESSAGE && !(header->flags & NR_STREAM_CANCELLED) &&
           (!(header->flags & NR_STREAM_NEEDS_GO) || (header->flags & NR_STREAM_GRANTED));
}

static bool nr_stream_has_message(const struct nr_socket_connection *c)
{
    for (size_t at = c->in_start; at < c->in_scanned;) {
        struct nr_stream_header header = nr_stream_header_at(c, at);
        if (nr_stream_is_deliverable(&header))
            return true;
        if (header.kind == NR_SOCKET_MESSAGE && !(header.flags & NR_STREAM_CANCELLED))
            return c->end == NR_SOCKET_OPEN && !(header.flags & NR_STREAM_ACKED);
        at += nr_stream_frame_bytes(&header);
    }
    return false;
}

static int nr_stream_deliver(struct nr_socket_connection *c, const struct nr_stream_header *header,
                             struct nr_in *in)
{
    struct naru_message *message = in->message;
    const uint8_t *data = c->in + c->in_start + sizeof *header;
    int64_t type = 0;

    if (header->flags & NR_STREAM_TYPED) {
        memcpy(&type, data, sizeof type);
        data += NR_STREAM_TYPE_BYTES;
    }
    message->type = type;
    message->sequence = header->sequence;
    message->sender_pid = c->pid;
    message->known = NARU_KNOWS_SEQUENCE | NARU_KNOWS_TYPE | NARU_KNOWS_SENDER_PID;
    int result = nr_in_deliver(in, data, header->length_bytes);
    if (result != -ENOMEM)
        c->in_start += nr_stream_frame_bytes(header);
    return result;
}

/* The first message that is buffered whole, asking for its GO if it needs one. */
static int nr_stream_take_buffered(struct nr_socket *s, struct nr_socket_connection *c,
                                   struct nr_in *in)
{
    while (c->in_start < c->in_scanned) {
        struct nr_stream_header header = nr_stream_header_at(c, c->in_start);
        if (header.kind == NR_SOCKET_MESSAGE && !(header.flags & NR_STREAM_CANCELLED)) {
            if ((header.flags & NR_STREAM_WANTS_ACK) && !(header.flags & NR_STREAM_ACKED) &&
                c->end == NR_SOCKET_OPEN) {
                nr_stream_mark(c, c->in_start, header.flags | NR_STREAM_ACKED);
                nr_stream_put_control(s, c, NR_SOCKET_ACKNOWLEDGE, header.sequence, NULL, 0);
            }
            return nr_stream_is_deliverable(&header) ? nr_stream_deliver(c, &header, in) : -EAGAIN;
        }
        c->in_start += nr_stream_frame_bytes(&header);
    }
    return -EAGAIN;
}

nr_flat static int nr_stream_take(struct nr_socket *s, struct nr_socket_connection *c,
                                  struct nr_in *in, bool directly)
{
    if (nr_stream_has_rest(c))
        nr_stream_flush(c);
    for (;;) {
        int result = nr_stream_take_buffered(s, c, in);
        if (result != -EAGAIN || c->end != NR_SOCKET_OPEN)
            return result;
        result = nr_stream_fill(s, c, directly);
        if (result < 0)
            return result;
    }
}

static void nr_stream_progress(struct nr_socket *s, struct nr_socket_connection *c)
{
    if (c->end != NR_SOCKET_OPEN)
        return;
    if (nr_stream_has_rest(c))
        nr_stream_flush(c);
    if (!c->is_greeted || s->endpoint.role == NARU_SENDER)
        nr_stream_fill(s, c, false);
}

/* -- sending --------------------------------------------------------------------------------------- */

struct nr_stream_frame {
    struct nr_stream_header header;
    int64_t type; /* right behind the header */
    struct nr_stream_header go;
    size_t head_bytes, size_bytes, tail_bytes;
    const struct nr_out *out;
};

/* The pieces of the frame from `offset` on; as many as fit. */
static size_t nr_stream_slice(struct nr_stream_frame *frame, size_t offset, struct iovec *ret,
                              size_t max)
{
    size_t count = 0;

    for (int i = -1; i <= frame->out->parts_count && count < max; i++) {
        struct iovec piece = {&frame->header, frame->head_bytes};
        if (i == frame->out->parts_count)
            piece = (struct iovec){&frame->go, frame->tail_bytes};
        else if (i >= 0)
            piece = frame->out->parts[i];
        if (offset >= piece.iov_len) {
            offset -= piece.iov_len;
            continue;
        }
        ret[count++] = (struct iovec){(char *)piece.iov_base + offset, piece.iov_len - offset};
        offset = 0;
    }
    return count;
}

/* The peer does not take any more: read what it said last. */
static int nr_stream_broken(struct nr_socket *s, struct nr_socket_connection *c)
{
    nr_lock_scope(&s->lock);
    for (int i = 0; i < 64 && c->end == NR_SOCKET_OPEN && nr_stream_fill(s, c, false) == 0; i++)
        ;
    nr_stream_over(s, c, NR_SOCKET_DIED);
    if (c->end == NR_SOCKET_DIED)
        return nr_fail(
            -EOWNERDEAD,
            "%s: process %d on the other side died, or its machine is gone; 1 message is "
            "unconfirmed and counts as not sent%s",
            s->endpoint.uri, (int)c->pid,
            s->is_attached ? "; open it again when there is a listener again" : "");
    return nr_connection_verdict(s, c->end, c->pid, &c->hello);
}

/* The caller gives up, and part of the frame is out. 0: it counts as sent; else `result`. */
static int nr_stream_abandon(struct nr_socket *s, struct nr_socket_connection *c,
                             struct nr_stream_frame *frame, size_t sent, int result)
{
    struct nr_stream_header cancel = frame->go;
    size_t frame_bytes = frame->head_bytes + frame->out->size_bytes;
    size_t left = sent < frame_bytes ? frame_bytes - sent : 0;
    bool may_cancel = frame->header.flags & NR_STREAM_NEEDS_GO;
    size_t tail_sent = left ? 0 : sent - frame_bytes; /* of the GO: all but its last byte at most */
    size_t tail_bytes = may_cancel ? sizeof cancel - tail_sent : 0;
    cancel.kind = NR_SOCKET_CANCEL;
    nr_lock_scope(&s->lock);
    size_t queued_bytes = c->rest_bytes - c->rest_sent;
    uint8_t *made = malloc(left + tail_bytes + queued_bytes);

    c->is_writing = false;
    if (!made) { /* the frame can't be finished, so the connection can't go on */
        nr_os_socket_shutdown(c->fd);
        nr_stream_over(s, c, NR_SOCKET_DIED);
        return result;
    }
    size_t head_left = sent < frame->head_bytes ? frame->head_bytes - sent : 0;
    memcpy(made, (char *)&frame->header + sent * (head_left > 0), head_left);
    if (left > head_left)
        nr_out_copy(frame->out, frame->out->size_bytes - (left - head_left), made + head_left,
                    left - head_left);
    if (tail_bytes)
        memcpy(made + left, (char *)&cancel + tail_sent, tail_bytes);
    if (queued_bytes)
        memcpy(made + left + tail_bytes, c->rest + c->rest_sent, queued_bytes);
    free(c->rest);
    c->rest = made;
    c->rest_bytes = left + tail_bytes + queued_bytes;
    c->rest_sent = 0;
    if (may_cancel)
        return result;
    if (result == -EINTR)
        nr_interrupt_raise(&s->endpoint.interrupt); /* for the next wait */
    return 0;
}

/* All of the frame from byte `sent` on, or none of it as far as the receiver can see. */
static int nr_stream_put(struct nr_socket *s, struct nr_socket_connection *c,
                         struct nr_stream_frame *frame, size_t sent, struct nr_deadline *deadline,
                         bool may_wait)
{
    struct iovec pieces[NR_STREAM_PARTS];
    bool directly = nr_deadline_is_never(deadline) && nr_os_guard_works();

    while (sent < frame->size_bytes) {
        struct msghdr bytes = {.msg_iov = pieces};
        bytes.msg_iovlen = nr_stream_slice(frame, sent, pieces, NR_STREAM_PARTS);
        const long arguments[6] = {c->fd, (long)&bytes, MSG_NOSIGNAL};
        long size = directly && (may_wait || sent)
                        ? nr_endpoint_call(&s->endpoint, SYS_sendmsg, arguments)
                        : nr_os_sendmsg_try(c->fd, &bytes);
        if (size >= 0) {
            sent += (size_t)size;
            continue;
        }
        int result = (int)size;
        if (size == -EINTR)
            result = nr_endpoint_interrupted(&s->endpoint);
        else if (size == -EAGAIN)
            result =
                may_wait || sent ? nr_connection_wait(s, c, NR_WRITABLE, -1, deadline) : -EAGAIN;
        else
            return nr_stream_broken(s, c);
        if (result < 0)
            return sent ? nr_stream_abandon(s, c, frame, sent, result) : result;
    }
    return 0;
}

static int nr_stream_unconfirmed(struct nr_socket *s, struct nr_socket_connection *c)
{
    if (c->end == NR_SOCKET_ENDED)
        return nr_fail(-EPIPE,
                       "%s: the other side has closed it; 1 message is unconfirmed and counts as "
                       "not sent",
                       s->endpoint.uri);
    return nr_stream_broken(s, c);
}

/* Waits until the receiver has it in hand, and lets go of it; or takes it back. */
static int nr_stream_await_ack(struct nr_socket *s, struct nr_socket_connection *c,
                               uint64_t sequence, struct nr_deadline *deadline)
{
    bool directly = nr_deadline_is_never(deadline) && nr_os_guard_works();
    int result = 0;

    for (;;) {
        nr_lock_take(&s->lock);
        bool has_it = false;
        int filled = 0;
        while (!(has_it = c->acknowledged == sequence) && c->end == NR_SOCKET_OPEN && filled == 0)
            filled = nr_stream_fill(s, c, directly && result == 0);
        if (has_it)
            nr_stream_put_control(s, c, NR_SOCKET_GO, sequence, NULL, 0);
        else if (result < 0 && c->end == NR_SOCKET_OPEN)
            nr_stream_put_control(s, c, NR_SOCKET_CANCEL, sequence, NULL, 0);
        else if (!__libc_single_threaded && c->ack_fd < 0)
            c->ack_fd = nr_os_eventfd(); /* another thread may read the acknowledgement */
        else if (c->ack_fd >= 0)
            nr_os_eventfd_clear(c->ack_fd);
        nr_socket_tell_buffered(s);
        nr_lock_give(&s->lock);
        if (has_it)
            return 0;
        if (c->end != NR_SOCKET_OPEN)
            return nr_stream_unconfirmed(s, c);
        if (result < 0)
            return result;
        result = nr_connection_wait(s, c, NR_READABLE, c->ack_fd, deadline);
    }
}

/* The rest of a raw frame of which `sent` bytes are out. */
static int nr_stream_finish_raw(struct nr_socket *s, struct nr_socket_connection *c,
                                const struct nr_out *out, struct nr_deadline *deadline, size_t sent)
{
    struct nr_stream_frame frame = {
        .header =
            {
                .length_bytes = (uint32_t)out->size_bytes,
                .kind = NR_SOCKET_MESSAGE,
                .magic = NR_SOCKET_FRAME_MAGIC,
                .sequence = c->sent,
            },
        .head_bytes = sizeof frame.header,
        .size_bytes = sizeof frame.header + out->size_bytes,
        .out = out,
    };

    return nr_stream_put(s, c, &frame, sent, deadline, true);
}

static int nr_stream_transact(struct nr_socket *s, struct nr_socket_connection *c,
                              const struct nr_out *out, struct nr_deadline *deadline, bool may_wait)
{
    bool wants_ack = s->endpoint.options.acknowledge != NARU_UNACKNOWLEDGED;
    bool needs_go =
        wants_ack || !nr_deadline_is_never(deadline) || out->size_bytes > NR_STREAM_SMALL_BYTES;
    struct nr_stream_frame frame = {
        .header =
            {
                .length_bytes = (uint32_t)out->size_bytes,
                .kind = NR_SOCKET_MESSAGE,
                .flags = (wants_ack ? NR_STREAM_WANTS_ACK : 0) |
                         (needs_go ? NR_STREAM_NEEDS_GO : 0) | (out->type ? NR_STREAM_TYPED : 0),
                .magic = NR_SOCKET_FRAME_MAGIC,
                .sequence = c->sent + 1,
            },
        .type = out->type,
        .go = {.kind = NR_SOCKET_GO, .magic = NR_SOCKET_FRAME_MAGIC, .sequence = c->sent + 1},
        .head_bytes = sizeof frame.header + (out->type ? NR_STREAM_TYPE_BYTES : 0),
        .tail_bytes = needs_go && !wants_ack ? sizeof frame.go : 0,
        .out = out,
    };
    static_assert(offsetof(struct nr_stream_frame, type) == sizeof(struct nr_stream_header),
                  "the type goes out with the header");
    int result = 0;

    frame.size_bytes = frame.head_bytes + out->size_bytes + frame.tail_bytes;
    nr_lock_take(&s->lock);
    while (result == 0 && nr_stream_flush(c) == -EAGAIN) {
        nr_lock_give(&s->lock);
        result = may_wait ? nr_connection_wait(s, c, NR_WRITABLE, -1, deadline) : -EAGAIN;
        nr_lock_take(&s->lock);
    }
    c->is_writing = result == 0;
    nr_lock_give(&s->lock);
    if (result < 0)
        return result;
    c->sent++;
    result = nr_stream_put(s, c, &frame, 0, deadline, may_wait);
    nr_lock_take(&s->lock);
    c->is_writing = false;
    if (nr_stream_has_rest(c))
        nr_stream_flush(c);
    nr_lock_give(&s->lock);
    if (result == 0 && wants_ack)
        result = nr_stream_await_ack(s, c, frame.header.sequence, deadline);
    return result;
}

/* The raw frame path: a small message, nobody to take turns with, all the time there is. One call. */
static int nr_stream_send_raw(struct nr_socket *s, struct nr_socket_connection *c,
                              const struct nr_out *out, struct nr_deadline *deadline, bool may_wait)
{
    struct {
        struct nr_stream_header header;
        char payload[NR_STREAM_COPY_BYTES];
    } whole;

    whole.header = (struct nr_stream_header){
        .length_bytes = (uint32_t)out->size_bytes,
        .kind = NR_SOCKET_MESSAGE,
        .magic = NR_SOCKET_FRAME_MAGIC,
        .sequence = c->sent + 1,
    };
    nr_out_copy(out, 0, whole.payload, out->size_bytes);
    size_t bytes = sizeof whole.header + out->size_bytes;
    const long arguments[6] = {c->fd, (long)&whole, (long)bytes, MSG_NOSIGNAL};
    long size = may_wait ? nr_endpoint_call(&s->endpoint, SYS_sendto, arguments)
                         : nr_os_send_try(c->fd, &whole, bytes);
    if (size == -EINTR) {
        int result = nr_endpoint_interrupted(&s->endpoint);
        return result < 0 ? result : nr_stream_transact(s, c, out, deadline, may_wait);
    }
    if (size < 0 && size != -EAGAIN)
        return nr_stream_broken(s, c);
    size_t sent = size < 0 ? 0 : (size_t)size;
    if (sent == 0)
        return may_wait ? nr_stream_transact(s, c, out, deadline, true) : -EAGAIN;
    c->sent++;
    return sent == bytes ? 0 : nr_stream_finish_raw(s, c, out, deadline, sent);
}

nr_flat static int nr_stream_send(struct nr_socket *s, struct nr_socket_connection *c,
                                  const struct nr_out *out, struct nr_deadline *deadline,
                                  bool may_wait)
{
    int result;

    if (s->endpoint.options.acknowledge == NARU_UNACKNOWLEDGED && !out->type &&
        out->size_bytes <= NR_STREAM_COPY_BYTES && !nr_stream_has_rest(c) &&
        nr_deadline_is_never(deadline) && nr_os_guard_works())
        return nr_stream_send_raw(s, c, out, deadline, may_wait);

    if (s->endpoint.options.acknowledge != NARU_UNACKNOWLEDGED && nr_deadline_is_now(deadline))
        return nr_fail(-EAGAIN,
                       "%s: an acknowledgement takes a round trip; give a time-out, or open with "
                       "acknowledge = NARU_UNACKNOWLEDGED",
                       s->endpoint.uri);
    if (__libc_single_threaded)
        return nr_stream_transact(s, c, out, deadline, may_wait);
    result = nr_connection_take_turn(s, c, deadline, may_wait);
    if (result < 0)
        return result;
    result = nr_stream_transact(s, c, out, deadline, may_wait);
    nr_connection_give_turn(s, c);
    return result;
}

const struct nr_socket_family nr_stream_family = {
    .send = nr_stream_send,
    .take = nr_stream_take,
    .progress = nr_stream_progress,
    .has_message = nr_stream_has_message,
    .put_hello = nr_stream_put_hello,
    .put_end = nr_stream_put_end,
};
