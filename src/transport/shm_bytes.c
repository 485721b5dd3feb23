/* SPDX-License-Identifier: MIT */
/*
 * shm_bytes -- shm:// from one to one, and the ends of a pair: the kinds, and the sender's side
 *
 * What       Messages are copied into lines and out of them; large ones, and loans, stand apart, in place. One
 *            loan and one taken message at a time.
 * Ends       Named: the sender's seat counts how often a sender left or died; the receiver tells each once, when
 *            the ring is empty, and then waits for the next. Pair: `closed`, or the peer's pidfd, for good.
 * Death      See data/line_ring.h.
 */
#include "base/cleanup.h"
#include "data/line_batch.h"
#include "data/line_short.h"
#include "transport/shm_bytes.h"
#include <string.h>

enum {
    NR_SHM_BYTES_ASK_EVERY =
        64, /* looks in vain, without waiting, between two questions to the kernel */
    NR_SHM_BYTES_RING_BYTES = 4 * 1024 * 1024, /* defaults; these at most, as messages are large */
    NR_SHM_BYTES_PAIR_BYTES = 256 * 1024,      /* of each direction: there may be many pairs */
    NR_SHM_BYTES_MESSAGES = 255,               /* 512 lines, which stay in the first cache */
};

static bool nr_shm_bytes_may_send(struct nr_shm *shm)
{
    uint32_t lacks_bytes = (uint32_t)shm->lacks_bytes;
    struct nr_line_room room;

    if (nr_shm_is_pair(shm) && __atomic_load_n(&shm->header->closed[!shm->end], __ATOMIC_ACQUIRE))
        return true; /* to be told that it has ended */
    if (shm->is_loaning)
        return true; /* to be told so */
    return (shm->lacks_apart ? nr_line_reserve_apart(&shm->out, lacks_bytes, &room.first)
                             : nr_line_reserve(&shm->out, lacks_bytes, 0, &room)) != -EAGAIN;
}

/* -- ends ---------------------------------------------------------------------------------- */

int nr_shm_bytes_died(struct nr_shm *shm)
{
    return nr_fail(-EOWNERDEAD, "%s: the process on the other side has died", shm->endpoint.uri);
}

int nr_shm_bytes_closed(struct nr_shm *shm)
{
    return nr_fail(-EPIPE, "%s: the other side has closed its end", shm->endpoint.uri);
}

int nr_shm_bytes_peer(struct nr_shm *shm, const struct nr_shm_pause *pause)
{
    if (!nr_shm_is_pair(shm))
        return 0;
    if (__atomic_load_n(&shm->header->closed[!shm->end], __ATOMIC_ACQUIRE))
        return nr_shm_bytes_closed(shm);
    bool ask = pause->is_prepared || ++shm->looks % NR_SHM_BYTES_ASK_EVERY == 0;
    bool is_gone =
        nr_flag_get(&shm->peer_is_gone) || (ask && nr_shm_peer_is_gone(shm, pause->is_prepared));
    return is_gone ? nr_shm_bytes_died(shm) : 0;
}

/* -- sending ------------------------------------------------------------------------------- */

/* May one send at all? */
static int nr_shm_bytes_begin(struct nr_shm *shm)
{
    nr_shm_bytes_operate(shm);
    if (__builtin_expect(shm->is_loaning, 0))
        return nr_fail(-EBUSY,
                       "%s: one loan at a time on a one-to-one channel; commit or cancel it",
                       shm->endpoint.uri);
    if (nr_shm_is_pair(shm) && __atomic_load_n(&shm->header->closed[!shm->end], __ATOMIC_RELAXED))
        return nr_shm_bytes_closed(shm);
    return 0;
}

/* There is no room: 0 try again, or what the call returns. */
static int nr_shm_bytes_full(struct nr_shm *shm, struct nr_shm_pause *pause, int result,
                             struct nr_deadline *deadline)
{
    if (result == -EBADMSG)
        return nr_shm_damaged(shm);
    int gone = nr_shm_bytes_peer(shm, pause);
    return gone < 0 ? gone
                    : nr_shm_pause(shm, nr_shm_gate_full(shm, true), pause, result, deadline);
}

/* Writes and publishes, and leaves the waking to the caller. */
static int nr_shm_bytes_put(struct nr_shm *shm, const struct nr_out *out,
                            struct nr_deadline *deadline)
{
    uint32_t size_bytes = (uint32_t)out->size_bytes;
    struct nr_shm_pause pause = {0};
    struct nr_line_room room;

    for (int result; (result = nr_line_reserve(&shm->out, size_bytes, out->type, &room)) < 0;) {
        shm->lacks_apart = false;
        result = nr_shm_bytes_full(shm, &pause, result, deadline);
        if (result < 0)
            return result;
    }
    nr_shm_pause_end(shm, &pause);
    nr_out_copy(out, 0, room.first, room.first_bytes);
    if (room.second)
        nr_out_copy(out, room.first_bytes, room.second, size_bytes - room.first_bytes);
    nr_line_publish(&shm->out, size_bytes, out->type);
    return 0;
}

static inline bool nr_shm_bytes_put_short(struct nr_shm *shm, const struct nr_out *out)
{
    return out->parts_count == 1 && out->type == 0 &&
           nr_line_put(&shm->out, out->parts->iov_base, out->size_bytes);
}

static int nr_shm_bytes_send(struct naru_endpoint *endpoint, const struct nr_out *out,
                             struct nr_deadline *deadline)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    int result = nr_shm_bytes_begin(shm);

    if (result == 0 && !nr_shm_bytes_put_short(shm, out))
        result = nr_shm_bytes_put(shm, out, deadline);
    if (result == 0)
        nr_shm_wake(shm, nr_shm_gate_empty(shm, false));
    return result;
}

/* Of a message that stands apart. */
static nr_apart int nr_shm_bytes_send_apart(struct naru_endpoint *endpoint, const void *data,
                                            size_t size_bytes, int64_t timeout_ns,
                                            nr_send_way *otherwise)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    char *room;

    if (size_bytes <= NR_LINE_INLINE_BYTES ||
        nr_line_reserve_apart(&shm->out, (uint32_t)size_bytes, &room) < 0)
        return otherwise(endpoint, data, size_bytes, timeout_ns);
    memcpy(room, data, size_bytes);
    nr_line_publish_apart(&shm->out, (uint32_t)size_bytes, 0);
    nr_shm_wake(shm, nr_shm_gate_empty(shm, false));
    return nr_endpoint_sent(endpoint, size_bytes);
}

static inline int nr_shm_bytes_sent(struct nr_shm *shm, size_t size_bytes)
{
    int result = nr_endpoint_sent(&shm->endpoint, size_bytes);

    nr_shm_wake(shm, nr_shm_gate_empty(shm, false));
    return result;
}

/* Of one that begins a line. */
static nr_apart nr_flat int nr_shm_bytes_send_next(struct naru_endpoint *endpoint, const void *data,
                                                   size_t size_bytes, int64_t timeout_ns,
                                                   nr_send_way *otherwise)
{
    struct nr_shm *shm = nr_shm_of(endpoint);

    return nr_line_put_next(&shm->out, data, size_bytes)
               ? nr_shm_bytes_sent(shm, size_bytes)
               : nr_shm_bytes_send_apart(endpoint, data, size_bytes, timeout_ns, otherwise);
}

static nr_flat int nr_shm_bytes_send_short(struct naru_endpoint *endpoint, const void *data,
                                           size_t size_bytes, int64_t timeout_ns,
                                           nr_send_way *otherwise)
{
    struct nr_shm *shm = nr_shm_of(endpoint);

    if (!nr_os_futex_rearm(&shm->header->death_word) || shm->is_loaning ||
        __atomic_load_n(&shm->header->closed[!shm->end], __ATOMIC_RELAXED)) /* a pair's */
        return otherwise(endpoint, data, size_bytes, timeout_ns);
    return nr_line_add(&shm->out, data, size_bytes)
               ? nr_shm_bytes_sent(shm, size_bytes)
               : nr_shm_bytes_send_next(endpoint, data, size_bytes, timeout_ns, otherwise);
}

/* Those that the batch can't take go one by one in between. */
static int nr_shm_bytes_send_one_of(struct nr_shm *shm, const struct naru_message *message,
                                    struct nr_deadline *deadline)
{
    struct iovec part = {message->data, message->size_bytes};
    struct nr_out out = {
        .parts = &part, .parts_count = 1, .size_bytes = part.iov_len, .type = message->type};

    return nr_shm_bytes_put_short(shm, &out) ? 0 : nr_shm_bytes_put(shm, &out, deadline);
}

/* As many of one size as make a run; 0: one by one. */
static size_t nr_shm_bytes_send_run(struct nr_shm *shm, const struct naru_message *messages,
                                    size_t count)
{
    size_t size_bytes = messages->size_bytes;
    struct nr_line_run run;

    if (count < 2 || !nr_line_is_for_run(size_bytes) ||
        !nr_line_run_begin(&shm->out, &run, size_bytes))
        return 0;
    while (run.count < count && run.count < NR_LINE_SMALL_MOST &&
           messages[run.count].size_bytes == size_bytes && messages[run.count].type == 0)
        run.count++;
    if (run.count < 2)
        return 0;
    for (unsigned i = run.count; i-- > 0;)
        nr_line_run_write(&shm->out, &run, i, messages[i].data);
    nr_line_run_publish(&shm->out, &run);
    return run.count;
}

static int nr_shm_bytes_send_many(struct naru_endpoint *endpoint,
                                  const struct naru_message *messages, size_t count,
                                  struct nr_deadline *deadline)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_deadline at_once = nr_deadline_in(0);
    int result = nr_shm_bytes_begin(shm);
    size_t sent = 0;

    while (result == 0 && sent < count) {
        struct nr_line_writing writing = nr_line_write_begin(&shm->out);
        while (sent < count && messages[sent].type == 0 &&
               nr_line_write(&shm->out, &writing, messages[sent].data, messages[sent].size_bytes))
            sent++;
        nr_line_write_end(&shm->out, &writing);
        if (sent == count)
            break;
        size_t run_count = nr_shm_bytes_send_run(shm, &messages[sent], count - sent);
        sent += run_count;
        if (run_count)
            continue;
        result = nr_shm_bytes_send_one_of(shm, &messages[sent], sent ? &at_once : deadline);
        sent += result == 0;
    }
    if (sent == 0)
        return result;
    nr_shm_wake(shm, nr_shm_gate_empty(shm, false));
    return (int)sent;
}

static int nr_shm_bytes_loan(struct naru_endpoint *endpoint, size_t size_bytes,
                             struct naru_message *ret, struct nr_deadline *deadline)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_shm_pause pause = {0};
    int result = nr_shm_bytes_begin(shm);
    char *payload;

    if (result < 0)
        return result;
    while ((result = nr_line_reserve_apart(&shm->out, (uint32_t)size_bytes, &payload)) < 0) {
        shm->lacks_apart = true;
        result = nr_shm_bytes_full(shm, &pause, result, deadline);
        if (result < 0)
            return result;
    }
    nr_shm_pause_end(shm, &pause);
    shm->is_loaning = true;
    *ret = (struct naru_message){
        .data = payload,
        .size_bytes = size_bytes,
        .capacity_bytes = size_bytes,
    };
    return 0;
}

static int nr_shm_bytes_commit(struct naru_endpoint *endpoint, struct naru_message *message)
{
    struct nr_shm *shm = nr_shm_of(endpoint);

    nr_line_publish_apart(&shm->out, (uint32_t)message->size_bytes, message->type);
    shm->is_loaning = false;
    nr_shm_wake(shm, nr_shm_gate_empty(shm, false));
    return 0;
}

static int nr_shm_bytes_cancel(struct naru_endpoint *endpoint, struct naru_message *message)
{
    struct nr_shm *shm = nr_shm_of(endpoint);

    (void)message;
    shm->is_loaning = false;
    return 0;
}

/* -- the kinds: one to one, and a pair -------------------------------------------------------- */

static int nr_shm_bytes_plan(struct nr_shm_header *header, const struct nr_request *request)
{
    const struct naru_options *options = &request->options;
    uint64_t most = header->message_size_max_bytes, lines, bytes, least;
    uint64_t most_bytes =
        header->kind == NR_SHM_PAIR ? NR_SHM_BYTES_PAIR_BYTES : NR_SHM_BYTES_RING_BYTES;

    if (options->when_full == NARU_DROP_NEWEST || options->when_full == NARU_OVERWRITE_OLDEST)
        return nr_fail(-EOPNOTSUPP,
                       "%s: when_full: a one-to-one channel blocks or fails; leave "
                       "one_to_one to drop or overwrite",
                       request->text);
    if (!options->capacity_messages)
        header->capacity_messages = NR_SHM_BYTES_MESSAGES;
    nr_line_ring_sizes(most, 1, &lines, &least);
    nr_line_ring_sizes(most, header->capacity_messages, &lines, &bytes);
    if (options->payload_bytes)
        bytes = nr_shm_layout_round(options->payload_bytes, NR_LINE_BYTES);
    else if (!options->capacity_messages && bytes > most_bytes)
        bytes = most_bytes;
    header->lines_count = (uint32_t)lines;
    header->ring_bytes = bytes < least ? least : bytes;
    header->held_max = 1;
    return 0;
}

static bool nr_shm_bytes_is_sane(const struct nr_shm_header *header)
{
    uint64_t lines, least;

    nr_line_ring_sizes(header->message_size_max_bytes, 1, &lines, &least);
    return header->ring_bytes % NR_LINE_BYTES == 0 && header->ring_bytes <= NR_SHM_TOTAL_MOST &&
           header->ring_bytes >= least && header->lines_count >= lines &&
           header->lines_count <= 4 * NR_SHM_SLOTS_MOST &&
           !(header->lines_count & (header->lines_count - 1));
}

static uint64_t nr_shm_bytes_bytes(const struct nr_shm_header *header)
{
    return nr_line_ring_memory(header->lines_count, header->ring_bytes);
}

static uint64_t nr_shm_bytes_pair_bytes(const struct nr_shm_header *header)
{
    return 2 * nr_shm_bytes_bytes(header);
}

static void nr_shm_bytes_view_ring(const struct nr_shm_header *plan, struct nr_line_ring *ring,
                                   void *memory)
{
    ring->lines_count = plan->lines_count;
    ring->bytes_count = plan->ring_bytes;
    ring->at_most_once = plan->delivery == NARU_AT_MOST_ONCE;
    nr_line_ring_attach(ring, memory);
}

static void nr_shm_bytes_view(struct nr_shm *shm, const struct nr_shm_header *plan, void *memory)
{
    nr_shm_bytes_view_ring(plan, &shm->out, memory);
    nr_shm_bytes_view_ring(plan, &shm->in, memory);
}

static void nr_shm_bytes_pair_view(struct nr_shm *shm, const struct nr_shm_header *plan,
                                   void *memory)
{
    char *first = memory, *second = first + nr_shm_bytes_bytes(plan);

    nr_shm_bytes_view_ring(plan, &shm->out, shm->end ? second : first);
    nr_shm_bytes_view_ring(plan, &shm->in, shm->end ? first : second);
}

/* Takes the place of the role, or names who has it. */
static int nr_shm_bytes_join(struct nr_shm *shm)
{
    bool sends = shm->endpoint.role == NARU_SENDER;
    struct nr_line_ring *ring = sends ? &shm->out : &shm->in;
    int result = nr_shm_sit(shm, sends ? &ring->shared->sender : &ring->shared->receiver,
                            "is one-to-one", sends ? "sender" : "receiver");

    if (result < 0)
        return result;
    shm->told = nr_seat_gone(&shm->in.shared->sender);
    result = nr_line_ring_sit(ring, sends);
    if (result < 0)
        return nr_fail(-EBADMSG,
                       "%s is damaged (its positions make no sense); remove it with "
                       "`naru unlink`",
                       shm->endpoint.uri);
    shm->endpoint.lost_messages += (uint64_t)result;
    return 0;
}

static int nr_shm_bytes_pair_join(struct nr_shm *shm)
{
    nr_line_ring_sit(&shm->out, true);
    nr_line_ring_sit(&shm->in, false);
    return 0;
}

static void nr_shm_bytes_clear(struct nr_shm *shm, unsigned index, bool died)
{
    nr_seat_clear(&shm->in.shared->receiver, index, died);
    nr_seat_clear(&shm->in.shared->sender, index, died);
}

static void nr_shm_bytes_repair(struct nr_shm *shm, unsigned dead)
{
    nr_shm_bytes_clear(shm, dead, true);
}

static void nr_shm_bytes_leave(struct nr_shm *shm)
{
    nr_shm_bytes_clear(shm, shm->party.me, false);
}

static void nr_shm_bytes_pair_leave(struct nr_shm *shm)
{
    __atomic_store_n(&shm->header->closed[shm->end], 1, __ATOMIC_RELEASE);
}

#define NR_SHM_BYTES_TRANSPORT                                                                     \
    {                                                                                              \
        NR_SHM_COMMON, .send = nr_shm_bytes_send, .send_many = nr_shm_bytes_send_many,             \
                       .send_short = nr_shm_bytes_send_short,                                      \
                       .recv_short = nr_shm_bytes_recv_short, .recv = nr_shm_bytes_recv,           \
                       .recv_more = nr_shm_bytes_recv_more, .loan = nr_shm_bytes_loan,             \
                       .commit = nr_shm_bytes_commit, .cancel = nr_shm_bytes_cancel,               \
                       .take = nr_shm_bytes_take, .ack = nr_shm_bytes_ack,                         \
                       .requeue = nr_shm_bytes_requeue,                                            \
    }

const struct nr_shm_kind nr_shm_bytes_kind = {
    .number = NR_SHM_BYTES,
    .pattern = NARU_QUEUE,
    .is_one_to_one = true,
    .roles = 1 << NARU_SENDER | 1 << NARU_RECEIVER,
    .roles_text = "is one-to-one: open it as sender or as receiver",
    .transport = NR_SHM_BYTES_TRANSPORT,
    .plan = nr_shm_bytes_plan,
    .is_sane = nr_shm_bytes_is_sane,
    .bytes = nr_shm_bytes_bytes,
    .view = nr_shm_bytes_view,
    .join = nr_shm_bytes_join,
    .leave = nr_shm_bytes_leave,
    .repair = nr_shm_bytes_repair,
    .may_recv = nr_shm_bytes_may_recv,
    .may_send = nr_shm_bytes_may_send,
};

const struct nr_shm_kind nr_shm_pair_kind = {
    .number = NR_SHM_PAIR,
    .pattern = NARU_QUEUE,
    .is_one_to_one = true,
    .no_participants = true,
    .transport = NR_SHM_BYTES_TRANSPORT,
    .plan = nr_shm_bytes_plan,
    .is_sane = nr_shm_bytes_is_sane,
    .bytes = nr_shm_bytes_pair_bytes,
    .view = nr_shm_bytes_pair_view,
    .join = nr_shm_bytes_pair_join,
    .leave = nr_shm_bytes_pair_leave,
    .may_recv = nr_shm_bytes_may_recv,
    .may_send = nr_shm_bytes_may_send,
};
