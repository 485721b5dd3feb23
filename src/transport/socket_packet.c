/* SPDX-License-Identifier: MIT */
/*
 * socket_packet -- messages over SOCK_SEQPACKET: unix://, abstract:// and the pair
 *
 * Contents   sending - receiving
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

enum {
    NR_PACKET_PARTS = 16,
    NR_PACKET_BYTES = 65536, /* payload of the largest packet */
    /* Up to here a copy in user space costs less than the kernel's handling of a message header. */
    NR_PACKET_COPY_BYTES = 4096,
};

struct nr_packet_header {
    uint16_t magic;
    uint8_t kind, zero;
    uint32_t total_bytes, offset_bytes, zero2;
    uint64_t sequence;
    int64_t type;
};

/* -- sending ------------------------------------------------------------------------------- */

static int nr_packet_put_control(struct nr_socket_connection *c, enum nr_socket_kind kind,
                                 void *data, size_t size_bytes)
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
        struct nr_packet_header
            header; /* messages may stand before the farewell: leave them to recv */
        struct iovec part = {&header, sizeof header};
        struct msghdr packet = {.msg_iov = &part, .msg_iovlen = 1};
        if (nr_os_recvmsg_try(c->fd, &packet, MSG_PEEK) > 0)
            return nr_fail(
                header.kind == NR_SOCKET_END ? -EPIPE : -EOWNERDEAD,
                "%s: the other side receives no more; what it sent before can be received",
                s->endpoint.uri);
    }
    if (c->end == NR_SOCKET_OPEN)
        c->end = NR_SOCKET_DIED;
    return nr_connection_verdict(s, c->end, c->pid, &c->hello);
}

/* One attempt at one packet; `bytes` instead of a message header where it is contiguous. */
struct nr_packet_call {
    const struct msghdr *message;
    const void *bytes;
    size_t bytes_size;
};

static long nr_packet_try(struct nr_socket *s, const struct nr_socket_connection *c,
                          const struct nr_packet_call *call, bool directly)
{
    const long with_header[6] = {c->fd, (long)call->message, MSG_NOSIGNAL};
    const long with_bytes[6] = {c->fd, (long)call->bytes, (long)call->bytes_size, MSG_NOSIGNAL};

    if (directly)
        return call->bytes ? nr_endpoint_call(&s->endpoint, SYS_sendto, with_bytes)
                           : nr_endpoint_call(&s->endpoint, SYS_sendmsg, with_header);
    return call->bytes ? nr_os_send_try(c->fd, call->bytes, call->bytes_size)
                       : nr_os_sendmsg_try(c->fd, call->message);
}

/* One packet, whole, or nothing. */
static int nr_packet_put(struct nr_socket *s, struct nr_socket_connection *c,
                         const struct nr_packet_call *call, struct nr_deadline *deadline,
                         bool may_wait)
{
    struct naru_endpoint *endpoint = &s->endpoint;
    bool directly = may_wait && nr_deadline_is_never(deadline) && nr_os_guard_works();

    for (;;) {
        long size = nr_packet_try(s, c, call, directly);
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
                                const struct nr_out *out, struct nr_deadline *deadline,
                                bool may_wait)
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
    struct nr_packet_call call = {.message = &packet};
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
        result = nr_packet_put(s, c, &call, deadline, may_wait || offset > 0);
        packet.msg_control = NULL;
        packet.msg_controllen = 0;
        offset += parts[1].iov_len;
    } while (result == 0 && offset < out->size_bytes);
    if (result < 0 &&
        offset > c->packet_max_bytes) /* lets the receiver free what it has; only a help */
        nr_packet_put_control(c, NR_SOCKET_CANCEL, NULL, 0);
    nr_connection_give_turn(s, c);
    free(room);
    return result;
}

nr_flat static int nr_packet_send(struct nr_socket *s, struct nr_socket_connection *c,
                                  const struct nr_out *out, struct nr_deadline *deadline,
                                  bool may_wait)
{
    struct {
        struct nr_packet_header header;
        char payload[NR_PACKET_COPY_BYTES];
    } whole;
    struct nr_packet_header *header = &whole.header;
    struct iovec parts[1 + NR_PACKET_PARTS];
    struct msghdr packet = {.msg_iov = parts, .msg_iovlen = 1 + (size_t)out->parts_count};
    struct nr_packet_call call = {.message = &packet};

    if (out->size_bytes > c->packet_max_bytes || out->parts_count > NR_PACKET_PARTS ||
        out->fds_count)
        return nr_packet_send_large(s, c, out, deadline, may_wait);
    *header = (struct nr_packet_header){
        .magic = NR_SOCKET_FRAME_MAGIC,
        .kind = NR_SOCKET_MESSAGE,
        .total_bytes = (uint32_t)out->size_bytes,
        .sequence = nr_count_next(&c->sent) + 1,
        .type = out->type,
    };
    if (out->size_bytes <= sizeof whole.payload) {
        nr_out_copy(out, 0, whole.payload, out->size_bytes);
        call.bytes = &whole;
        call.bytes_size = sizeof *header + out->size_bytes;
        return nr_packet_put(s, c, &call, deadline, may_wait);
    }
    parts[0] = (struct iovec){header, sizeof *header};
    for (int i = 0; i < out->parts_count; i++)
        parts[1 + i] = out->parts[i];
    return nr_packet_put(s, c, &call, deadline, may_wait);
}

/* -- receiving ----------------------------------------------------------------------------- */

static void nr_packet_drop_partial(struct nr_socket_connection *c)
{
    for (size_t i = 0; i < c->partial_fds_count; i++)
        nr_os_close(&c->partial_fds[i]);
    free(c->partial);
    c->partial = NULL;
    c->partial_bytes = c->partial_capacity_bytes = c->partial_total_bytes = c->partial_fds_count =
        0;
    c->partial_cut = false;
}

/* Nothing more comes from here. */
static int nr_packet_over(struct nr_socket *s, struct nr_socket_connection *c,
                          enum nr_socket_end end)
{
    nr_packet_drop_partial(c);
    if (c->end == NR_SOCKET_OPEN) {
        c->end = end == NR_SOCKET_DAMAGED && !c->is_greeted ? NR_SOCKET_ALIEN : end;
        if (c->end > NR_SOCKET_DIED)
            nr_connection_verdict(s, c->end, c->pid, &c->hello);
    }
    return -EAGAIN;
}

static int nr_packet_no_memory(struct nr_socket *s, struct nr_socket_connection *c,
                               size_t size_bytes)
{
    nr_packet_over(s, c, NR_SOCKET_DIED);
    return nr_fail(-ENOMEM, "%s: no memory for a message of %zu bytes from process %d",
                   s->endpoint.uri, size_bytes, (int)c->pid);
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
        size_t count =
            c->partial_fds_count < in->fds_capacity ? c->partial_fds_count : in->fds_capacity;
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

static long nr_packet_get(struct nr_socket *s, struct nr_socket_connection *c,
                          struct msghdr *packet, bool directly)
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

/* What a read has brought. */
struct nr_packet {
    struct nr_packet_header header;
    struct iovec pieces[2]; /* the payload */
    size_t payload_bytes;
    bool is_cut;
    int fds[NR_OS_FDS_MAX];
    size_t fds_count;
    bool fds_cut;
};

/* Large packets go straight to the user's room, what does not fit there behind it. */
static long nr_packet_read_scattered(struct nr_socket *s, struct nr_socket_connection *c,
                                     struct nr_in *in, bool directly, struct nr_packet *packet)
{
    char control[NR_OS_FDS_ROOM_BYTES] __attribute__((aligned(sizeof(long))));
    size_t capacity = in->message->capacity_bytes;
    size_t room = capacity < NR_PACKET_BYTES ? capacity : NR_PACKET_BYTES;
    struct iovec parts[3] = {
        {&packet->header, sizeof packet->header},
        {in->message->data, room},
        {s->overflow, NR_PACKET_BYTES},
    };
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 3};

    if (in->fds) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
    }
    long size = nr_packet_get(s, c, &message, directly);
    if (size <= 0)
        return size;
    if (in->fds)
        packet->fds_cut =
            nr_os_fds_detach(&message, packet->fds, NR_OS_FDS_MAX, &packet->fds_count);
    size_t came = size < (long)sizeof packet->header ? 0 : (size_t)size - sizeof packet->header;
    packet->payload_bytes = came;
    packet->pieces[0] = (struct iovec){in->message->data, came < room ? came : room};
    packet->pieces[1] = (struct iovec){s->overflow, came - packet->pieces[0].iov_len};
    packet->is_cut = message.msg_flags & MSG_TRUNC;
    return size;
}

/* Small ones through our own memory: a plain receive is the cheaper call. */
static long nr_packet_read(struct nr_socket *s, struct nr_socket_connection *c, struct nr_in *in,
                           bool directly, struct nr_packet *packet)
{
    const size_t room = sizeof packet->header + NR_PACKET_BYTES + 1;
    const long arguments[6] = {c->fd, (long)s->overflow, (long)room};
    long size;

    packet->fds_count = 0;
    packet->fds_cut = false;
    if (in->fds || c->packet_latest_bytes > NR_PACKET_COPY_BYTES)
        return nr_packet_read_scattered(s, c, in, directly, packet);
    do
        size = directly ? nr_endpoint_call(&s->endpoint, SYS_recvfrom, arguments)
                        : nr_os_recv_try(c->fd, s->overflow, room);
    while (size == -ECONNRESET);
    if (size < (long)sizeof packet->header)
        return size;
    memcpy(&packet->header, s->overflow, sizeof packet->header);
    packet->payload_bytes = (size_t)size - sizeof packet->header;
    packet->pieces[0] = (struct iovec){s->overflow + sizeof packet->header, packet->payload_bytes};
    packet->pieces[1] = (struct iovec){s->overflow, 0};
    packet->is_cut = size == (long)room;
    return size;
}

static void nr_packet_describe(struct nr_socket *s, const struct nr_socket_connection *c,
                               const struct nr_packet_header *header, struct naru_message *message)
{
    message->sequence = header->sequence;
    message->type = header->type;
    message->sender_uid = c->uid;
    message->sender_pid = c->pid;
    message->known =
        NARU_KNOWS_SEQUENCE | NARU_KNOWS_TYPE | NARU_KNOWS_SENDER_PID | NARU_KNOWS_SENDER_UID;
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

/* The usual packet: a whole message that fits. */
static bool nr_packet_is_simple(const struct nr_socket *s, const struct nr_socket_connection *c,
                                const struct nr_in *in, const struct nr_packet *packet)
{
    const struct nr_packet_header *header = &packet->header;

    return header->magic == NR_SOCKET_FRAME_MAGIC && header->kind == NR_SOCKET_MESSAGE &&
           c->is_greeted && packet->payload_bytes == header->total_bytes &&
           header->offset_bytes == 0 && packet->payload_bytes <= in->message->capacity_bytes &&
           packet->fds_count == 0 && !packet->fds_cut &&
           packet->payload_bytes <= s->endpoint.options.message_size_max_bytes;
}

/* Any other. 0: go on reading. */
static int nr_packet_accept(struct nr_socket *s, struct nr_socket_connection *c,
                            struct nr_packet *packet, bool has_header)
{
    const struct nr_packet_header *header = &packet->header;
    int result;

    if (!has_header || header->magic != NR_SOCKET_FRAME_MAGIC || packet->is_cut ||
        header->total_bytes > s->endpoint.options.message_size_max_bytes)
        result = nr_packet_over(s, c, NR_SOCKET_DAMAGED);
    else if (header->kind != NR_SOCKET_MESSAGE)
        result = nr_packet_control(s, c, header, packet->pieces);
    else if (!c->is_greeted)
        result = nr_packet_over(s, c, NR_SOCKET_DAMAGED);
    else
        result = nr_packet_add(s, c, header, packet->pieces);
    bool keeps = result == 0 && header->kind == NR_SOCKET_MESSAGE && header->offset_bytes == 0;
    for (size_t i = 0; i < packet->fds_count; i++) {
        if (keeps)
            c->partial_fds[c->partial_fds_count++] = packet->fds[i];
        else
            nr_os_close(&packet->fds[i]);
    }
    c->partial_cut |= keeps && packet->fds_cut;
    return result;
}

nr_flat static int nr_packet_take(struct nr_socket *s, struct nr_socket_connection *c,
                                  struct nr_in *in, bool directly)
{
    struct naru_message *message = in->message;
    struct nr_packet packet;

    if (!s->overflow && !(s->overflow = malloc(sizeof packet.header + NR_PACKET_BYTES + 1)))
        return nr_fail(-ENOMEM, "no memory to receive on %s", s->endpoint.uri);
    while (c->end == NR_SOCKET_OPEN) {
        int result = in->fds ? nr_packet_look_ahead(c, message) : 0;
        if (result < 0)
            return result;
        long size = nr_packet_read(s, c, in, directly, &packet);
        if (size == -EAGAIN || size == -EINTR)
            return (int)size;
        if (size == 0 || size == -ENOTCONN || size == -EPIPE)
            return nr_packet_over(s, c, NR_SOCKET_DIED);
        if (size < 0)
            return nr_fail((int)size, "receiving on %s: %s", s->endpoint.uri,
                           nr_error_name((int)size));
        bool has_header = size >= (long)sizeof packet.header;
        c->packet_latest_bytes = (size_t)size;
        if (has_header && nr_packet_is_simple(s, c, in, &packet)) {
            nr_packet_describe(s, c, &packet.header, message);
            message->size_bytes = packet.payload_bytes;
            if (packet.payload_bytes && packet.pieces[0].iov_base != message->data)
                memcpy(message->data, packet.pieces[0].iov_base, packet.payload_bytes);
            return 0;
        }
        result = nr_packet_accept(s, c, &packet, has_header);
        if (result < 0)
            return result;
        if (nr_packet_is_whole(c)) {
            nr_packet_describe(s, c, &packet.header, message);
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
