/* SPDX-License-Identifier: MIT */
/*
 * socket_packet -- messages over SOCK_SEQPACKET: unix://, abstract:// and the pair
 *
 * Format     A packet is nr_packet_header and up to packet_max_bytes of payload. A message that fits is one
 *            packet, from the sender's memory to the receiver's in one sendmsg and one recvmsg. A larger
 *            one is several in a row, offsets rising from 0, which one thread at a time sends (turn);
 *            whole messages of other threads may stand between them. Valid: magic and kind known,
 *            offset = what came so far, offset + payload <= total <= message_size_max.
 * Death      A sender killed between two packets leaves a partial message: dropped with its connection. One
 *            that gave up (deadline) says CANCEL, or simply begins the next message at offset 0.
 * Trust      The memory for a message grows as its packets come, never by what `total` claims.
 */
#include "transport/socket.h"
#include <stdlib.h>
#include <string.h>

enum { NR_PACKET_PARTS = 16 };

struct nr_packet_header {
    uint16_t magic;
    uint8_t kind, zero;
    uint32_t total_bytes, offset_bytes, zero2;
    uint64_t sequence;
    int64_t type;
};

/* -- sending ------------------------------------------------------------------------------- */

static int nr_packet_put_control(struct nr_socket_connection *c, enum nr_socket_kind kind, void *data,
                                 size_t size_bytes)
{
    struct nr_packet_header header = {
        .magic = NR_SOCKET_FRAME_MAGIC,
        .kind = (uint8_t)kind,
        .total_bytes = (uint32_t)size_bytes,
    };
    struct iovec parts[2] = {{&header, sizeof header}, {data, size_bytes}};
    struct msghdr packet = {.msg_iov = parts, .msg_iovlen = size_bytes ? 2 : 1};
    long size = nr_os_sendmsg_try(c->fd, &packet);

    return size < 0 ? (int)size : 0;
}

static int nr_packet_put_hello(struct nr_socket *s, struct nr_socket_connection *c, uint8_t refusal)
{
    struct nr_socket_hello hello;

    nr_connection_fill_hello(s, refusal, &hello);
    return nr_packet_put_control(c, NR_SOCKET_HELLO, &hello, sizeof hello);
}

/* A full socket has no room for the farewell, and a receiver would then call us dead. The room was left
   as the kernel gave it, so it can be doubled now. */
static void nr_packet_put_end(struct nr_socket *s, struct nr_socket_connection *c)
{
    (void)s;
    if (nr_packet_put_control(c, NR_SOCKET_END, NULL, 0) != -EAGAIN)
        return;
    int room = nr_os_socket_send_room(c->fd);
    if (room > 0)
        nr_os_socket_option(c->fd, SOL_SOCKET, SO_SNDBUF, room + 65536);
    nr_packet_put_control(c, NR_SOCKET_END, NULL, 0);
}

/* The peer does not take any more: read what it said last, to tell an end from a death. */
static int nr_packet_broken(struct nr_socket *s, struct nr_socket_connection *c)
{
    nr_lock_scope(&s->lock);
    for (int i = 0; i < 64 && c->end == NR_SOCKET_OPEN && s->endpoint.role == NARU_SENDER; i++)
        nr_packet_family.progress(s, c);
    if (c->end == NR_SOCKET_OPEN && s->endpoint.role != NARU_SENDER) {
        struct nr_packet_header header; /* messages may stand before the farewell: leave them to recv */
        struct iovec part = {&header, sizeof header};
        struct msghdr packet = {.msg_iov = &part, .msg_iovlen = 1};
        if (nr_os_recvmsg_try(c->fd, &packet, MSG_PEEK) > 0)
            return nr_fail(header.kind == NR_SOCKET_END ? -EPIPE : -EOWNERDEAD,
                           "%s: the other side receives no more; what it sent before can be received",
                           s->endpoint.uri);
    }
    if (c->end == NR_SOCKET_OPEN)
        c->end = NR_SOCKET_DIED;
    return nr_connection_verdict(s, c->end, c->pid, &c->hello);
}

/* One packet, whole, or nothing. */
static int nr_packet_put(struct nr_socket *s, struct nr_socket_connection *c,
                         const struct msghdr *packet, struct nr_deadline *deadline, bool may_wait)
{
    struct naru_endpoint *endpoint = &s->endpoint;

    for (;;) {
        bool directly = may_wait && nr_deadline_is_never(deadline) && nr_os_guard_works();
        const long arguments[6] = {c->fd, (long)packet, MSG_NOSIGNAL};
        long size = directly ? nr_endpoint_call(endpoint, SYS_sendmsg, arguments)
                             : nr_os_sendmsg_try(c->fd, packet);
        int result = (int)size;
        if (size >= 0)
            return 0;
        if (size == -EINTR)
            result = nr_endpoint_interrupted(endpoint);
        else if (size == -EPIPE || size == -ECONNRESET || size == -ENOTCONN)
            return nr_packet_broken(s, c);
        else if (size != -EAGAIN)
            return nr_fail(result, "sending on %s: %s", endpoint->uri, nr_error_name(result));
        else if (!may_wait)
            return -EAGAIN;
        else
            result = nr_connection_wait(s, c, NR_WRITABLE, -1, deadline);
        if (result == -EOWNERDEAD)
            return nr_packet_broken(s, c);
        if (result < 0)
            return result;
    }
}

static int nr_packet_send_large(struct nr_socket *s, struct nr_socket_connection *c,
                                const struct nr_out *out, struct nr_deadline *deadline, bool may_wait)
{
    char control[NR_OS_FDS_ROOM_BYTES] __attribute__((aligned(sizeof(long))));
    struct nr_packet_header header = {
        .magic = NR_SOCKET_FRAME_MAGIC,
        .kind = NR_SOCKET_MESSAGE,
        .total_bytes = (uint32_t)out->size_bytes,
        .type = out->type,
    };
    size_t room_bytes = out->parts_count == 1 ? 0 : c->packet_max_bytes;
    void *room = room_bytes ? malloc(room_bytes) : NULL;
    struct iovec parts[2] = {{&header, sizeof header}, {room, 0}};
    struct msghdr packet = {.msg_iov = parts, .msg_iovlen = 2};
    size_t offset = 0;

    if (room_bytes && !room)
        return nr_fail(-ENOMEM, "no memory to gather a message of %zu bytes", out->size_bytes);
    int result = nr_connection_take_turn(s, c, deadline, may_wait);
    if (result < 0) {
        free(room);
        return result;
    }
    header.sequence = nr_count_next(&c->sent) + 1;
    if (out->fds_count)
        nr_os_fds_attach(&packet, control, out->fds, out->fds_count);
    do {
        size_t left = out->size_bytes - offset;
        parts[1].iov_len = left < c->packet_max_bytes ? left : c->packet_max_bytes;
        if (room)
            nr_out_copy(out, offset, room, parts[1].iov_len);
        else
            parts[1].iov_base = (char *)out->parts[0].iov_base + offset;
        header.offset_bytes = (uint32_t)offset;
        result = nr_packet_put(s, c, &packet, deadline, may_wait || offset > 0);
        packet.msg_control = NULL;
        packet.msg_controllen = 0;
        offset += parts[1].iov_len;
    } while (result == 0 && offset < out->size_bytes);
    if (result < 0 && offset > c->packet_max_bytes) /* lets the receiver free what it has; only a help */
        nr_packet_put_control(c, NR_SOCKET_CANCEL, NULL, 0);
    nr_connection_give_turn(s, c);
    free(room);
    return result;
}

static int nr_packet_send(struct nr_socket *s, struct nr_socket_connection *c, const struct nr_out *out,
                          struct nr_deadline *deadline, bool may_wait)
{
    struct nr_packet_header header = {
        .magic = NR_SOCKET_FRAME_MAGIC,
        .kind = NR_SOCKET_MESSAGE,
        .total_bytes = (uint32_t)out->size_bytes,
        .type = out->type,
    };
    struct iovec parts[1 + NR_PACKET_PARTS];
    struct msghdr packet = {.msg_iov = parts, .msg_iovlen = 1 + (size_t)out->parts_count};

    if (out->size_bytes > c->packet_max_bytes || out->parts_count > NR_PACKET_PARTS || out->fds_count)
        return nr_packet_send_large(s, c, out, deadline, may_wait);
    header.sequence = nr_count_next(&c->sent) + 1;
    parts[0] = (struct iovec){&header, sizeof header};
    for (int i = 0; i < out->parts_count; i++)
        parts[1 + i] = out->parts[i];
    return nr_packet_put(s, c, &packet, deadline, may_wait);
}

/* -- receiving ----------------------------------------------------------------------------- */

static void nr_packet_drop_partial(struct nr_socket_connection *c)
{
    for (size_t i = 0; i < c->partial_fds_count; i++)
        nr_os_close(&c->partial_fds[i]);
    free(c->partial);
    c->partial = NULL;
    c->partial_bytes = c->partial_capacity_bytes = c->partial_total_bytes = c->partial_fds_count = 0;
    c->partial_cut = false;
}

/* Nothing more comes from here. */
static int nr_packet_over(struct nr_socket *s, struct nr_socket_connection *c, enum nr_socket_end end)
{
    nr_packet_drop_partial(c);
    if (c->end == NR_SOCKET_OPEN) {
        c->end = end == NR_SOCKET_DAMAGED && !c->is_greeted ? NR_SOCKET_ALIEN : end;
        if (c->end > NR_SOCKET_DIED)
            nr_connection_verdict(s, c->end, c->pid, &c->hello);
    }
    return -EAGAIN;
}

static int nr_packet_no_memory(struct nr_socket *s, struct nr_socket_connection *c, size_t size_bytes)
{
    nr_packet_over(s, c, NR_SOCKET_DIED);
    return nr_fail(-ENOMEM, "%s: no memory for a message of %zu bytes from process %d", s->endpoint.uri,
                   size_bytes, (int)c->pid);
}

/* The payload stands in two pieces: what fitted the user's room, and the rest. */
static int nr_packet_add(struct nr_socket *s, struct nr_socket_connection *c,
                         const struct nr_packet_header *header, const struct iovec pieces[2])
{
    size_t came = pieces[0].iov_len + pieces[1].iov_len;

    if (header->offset_bytes == 0)
        nr_packet_drop_partial(c);
    if (header->offset_bytes != c->partial_bytes ||
        (header->offset_bytes && (header->total_bytes != c->partial_total_bytes ||
                                  header->sequence != c->partial_sequence)) ||
        came > header->total_bytes - header->offset_bytes || (came == 0 && header->total_bytes))
        return nr_packet_over(s, c, NR_SOCKET_DAMAGED);
    c->partial_total_bytes = header->total_bytes;
    c->partial_sequence = header->sequence;
    if (c->partial_bytes + came > c->partial_capacity_bytes || !c->partial) {
        size_t capacity = 2 * (c->partial_bytes + came);
        if (capacity > header->total_bytes)
            capacity = header->total_bytes;
        void *grown = realloc(c->partial, capacity ? capacity : 1);
        if (!grown)
            return nr_packet_no_memory(s, c, header->total_bytes);
        c->partial = grown;
        c->partial_capacity_bytes = capacity;
    }
    for (int i = 0; i < 2; i++) {
        if (pieces[i].iov_len)
            memcpy(c->partial + c->partial_bytes, pieces[i].iov_base, pieces[i].iov_len);
        c->partial_bytes += pieces[i].iov_len;
    }
    return 0;
}

/* Hands the message over that the packets have completed. */
static int nr_packet_complete(struct nr_socket_connection *c, struct nr_in *in)
{
    struct naru_message *message = in->message;
    int result = 0;

    message->size_bytes = c->partial_total_bytes;
    if (message->size_bytes > message->capacity_bytes) {
        in->spill = c->partial;
        c->partial = NULL;
        result = -EMSGSIZE;
    } else if (message->size_bytes) {
        memcpy(message->data, c->partial, message->size_bytes);
    }
    if (result == 0 && in->fds) {
        size_t count = c->partial_fds_count < in->fds_capacity ? c->partial_fds_count : in->fds_capacity;
        memcpy(in->fds, c->partial_fds, count * sizeof *in->fds);
        in->fds_count = count;
        if (c->partial_cut || count < c->partial_fds_count)
            message->flags |= NARU_TRUNCATED;
        for (size_t i = count; i < c->partial_fds_count; i++)
            nr_os_close(&c->partial_fds[i]);
        c->partial_fds_count = 0;
    }
    nr_packet_drop_partial(c);
    return result;
}

static int nr_packet_control(struct nr_socket *s, struct nr_socket_connection *c,
                             const struct nr_packet_header *header, const struct iovec pieces[2])
{
    struct nr_socket_hello hello = {0};
    size_t came = pieces[0].iov_len + pieces[1].iov_len;

    if (header->kind == NR_SOCKET_HELLO && !c->is_greeted && came == sizeof hello) {
        if (pieces[0].iov_len)
            memcpy(&hello, pieces[0].iov_base, pieces[0].iov_len);
        memcpy((char *)&hello + pieces[0].iov_len, pieces[1].iov_base, pieces[1].iov_len);
        nr_connection_greet(s, c, &hello);
        return 0;
    }
    if (header->kind == NR_SOCKET_END && c->is_greeted)
        return nr_packet_over(s, c, NR_SOCKET_ENDED);
    if (header->kind == NR_SOCKET_CANCEL && c->is_greeted) {
        nr_packet_drop_partial(c);
        return 0;
    }
    return nr_packet_over(s, c, NR_SOCKET_DAMAGED);
}

static long nr_packet_get(struct nr_socket *s, struct nr_socket_connection *c, struct msghdr *packet,
                          bool directly)
{
    long size;

    do {
        const long arguments[6] = {c->fd, (long)packet, MSG_CMSG_CLOEXEC};
        size = directly ? nr_endpoint_call(&s->endpoint, SYS_recvmsg, arguments)
                        : nr_os_recvmsg_try(c->fd, packet, MSG_CMSG_CLOEXEC);
        /* Unread data of ours died with the peer; what it sent before is still to be read. */
    } while (size == -ECONNRESET);
    return size;
}

static void nr_packet_describe(struct nr_socket *s, const struct nr_socket_connection *c,
                               const struct nr_packet_header *header, struct naru_message *message)
{
    message->sequence = header->sequence;
    message->type = header->type;
    message->sender_uid = c->uid;
    message->sender_pid = c->pid;
    message->known = NARU_KNOWS_SEQUENCE | NARU_KNOWS_TYPE | NARU_KNOWS_SENDER_PID |
                     NARU_KNOWS_SENDER_UID;
    if (s->is_pair && s->endpoint.peer_pid)
        message->sender_pid = s->endpoint.peer_pid;
}

/* With descriptors asked for, a message that does not fit stays where it is: they can't be kept. */
static int nr_packet_look_ahead(struct nr_socket_connection *c, struct naru_message *message)
{
    struct nr_packet_header header;
    struct iovec part = {&header, sizeof header};
    struct msghdr packet = {.msg_iov = &part, .msg_iovlen = 1};

    if (c->partial && c->partial_bytes == c->partial_total_bytes) {
        if (c->partial_total_bytes <= message->capacity_bytes)
            return 0;
        message->size_bytes = c->partial_total_bytes;
        return -EMSGSIZE;
    }
    long size = nr_os_recvmsg_try(c->fd, &packet, MSG_PEEK);
    if (size < (long)sizeof header || header.kind != NR_SOCKET_MESSAGE || header.offset_bytes ||
        header.total_bytes <= message->capacity_bytes)
        return 0;
    message->size_bytes = header.total_bytes;
    return -EMSGSIZE;
}

static bool nr_packet_is_whole(const struct nr_socket_connection *c)
{
    return c->partial && c->partial_bytes == c->partial_total_bytes;
}

static int nr_packet_take(struct nr_socket *s, struct nr_socket_connection *c, struct nr_in *in,
                          bool directly)
{
    char control[NR_OS_FDS_ROOM_BYTES] __attribute__((aligned(sizeof(long))));
    struct naru_message *message = in->message;
    size_t max_bytes = s->endpoint.options.message_size_max_bytes;

    if (!s->overflow && !(s->overflow = malloc(65536)))
        return nr_fail(-ENOMEM, "no memory to receive on %s", s->endpoint.uri);
    while (c->end == NR_SOCKET_OPEN) {
        struct nr_packet_header header;
        size_t room = message->capacity_bytes < 65536 ? message->capacity_bytes : 65536;
        struct iovec parts[3] = {{&header, sizeof header}, {message->data, room}, {s->overflow, 65536}};
        struct msghdr packet = {.msg_iov = parts, .msg_iovlen = 3};
        if (in->fds) {
            int result = nr_packet_look_ahead(c, message);
            if (result < 0)
                return result;
            packet.msg_control = control;
            packet.msg_controllen = sizeof control;
        }
        long size = nr_packet_get(s, c, &packet, directly && !in->fds);
        if (size == -EAGAIN || size == -EINTR)
            return (int)size;
        if (size == 0 || size == -ENOTCONN || size == -EPIPE)
            return nr_packet_over(s, c, NR_SOCKET_DIED);
        if (size < 0)
            return nr_fail((int)size, "receiving on %s: %s", s->endpoint.uri, nr_error_name((int)size));
        size_t came = (size_t)size - sizeof header;
        if (size >= (long)sizeof header && header.kind == NR_SOCKET_MESSAGE && c->is_greeted && !in->fds &&
            header.magic == NR_SOCKET_FRAME_MAGIC && came == header.total_bytes && came <= room &&
            came <= max_bytes) { /* the usual: it is whole, and where it has to be */
            nr_packet_describe(s, c, &header, message);
            message->size_bytes = came;
            return 0;
        }
        size_t fds_count = 0;
        int fds[NR_OS_FDS_MAX];
        bool cut = in->fds && nr_os_fds_detach(&packet, fds, NR_OS_FDS_MAX, &fds_count);
        struct iovec pieces[2] = {{message->data, came < room ? came : room}, {s->overflow, 0}};
        pieces[1].iov_len = came - pieces[0].iov_len;
        int result;
        if (size < (long)sizeof header || header.magic != NR_SOCKET_FRAME_MAGIC ||
            (packet.msg_flags & MSG_TRUNC) || header.total_bytes > max_bytes)
            result = nr_packet_over(s, c, NR_SOCKET_DAMAGED);
        else if (header.kind != NR_SOCKET_MESSAGE)
            result = nr_packet_control(s, c, &header, pieces);
        else if (!c->is_greeted)
            result = nr_packet_over(s, c, NR_SOCKET_DAMAGED);
        else
            result = nr_packet_add(s, c, &header, pieces);
        bool keeps_fds = result == 0 && header.kind == NR_SOCKET_MESSAGE && header.offset_bytes == 0;
        for (size_t i = 0; i < fds_count; i++) {
            if (keeps_fds)
                c->partial_fds[c->partial_fds_count++] = fds[i];
            else
                nr_os_close(&fds[i]);
        }
        c->partial_cut |= keeps_fds && cut;
        if (result < 0)
            return result;
        if (nr_packet_is_whole(c)) {
            nr_packet_describe(s, c, &header, message);
            return nr_packet_complete(c, in);
        }
    }
    return -EAGAIN;
}

static bool nr_packet_has_message(const struct nr_socket_connection *c)
{
    (void)c;
    return false;
}

/* One packet that must not be a message: a hello, or, for a sender, the end. */
static void nr_packet_progress(struct nr_socket *s, struct nr_socket_connection *c)
{
    struct nr_packet_header header = {0};
    struct nr_socket_hello hello;
    struct iovec parts[2] = {{&header, sizeof header}, {&hello, sizeof hello}};
    struct msghdr packet = {.msg_iov = parts, .msg_iovlen = 2};

    if (c->end != NR_SOCKET_OPEN || (c->is_greeted && s->endpoint.role != NARU_SENDER))
        return;
    long size = nr_packet_get(s, c, &packet, false);
    if (size == -EAGAIN)
        return;
    if (size <= 0) {
        nr_packet_over(s, c, NR_SOCKET_DIED);
        return;
    }
    struct iovec pieces[2] = {{&hello, 0}, {&hello, (size_t)size - sizeof header}};
    if (size < (long)sizeof header || header.magic != NR_SOCKET_FRAME_MAGIC ||
        (packet.msg_flags & MSG_TRUNC))
        nr_packet_over(s, c, NR_SOCKET_DAMAGED);
    else
        nr_packet_control(s, c, &header, pieces);
}

const struct nr_socket_family nr_packet_family = {
    .send = nr_packet_send,
    .take = nr_packet_take,
    .progress = nr_packet_progress,
    .has_message = nr_packet_has_message,
    .put_hello = nr_packet_put_hello,
    .put_end = nr_packet_put_end,
};
