/* SPDX-License-Identifier: MIT */
/*
 * shm_topic -- shm:// to every subscriber
 *
 * What       Two kinds of segment over one structure (data/topic.h); receiving is in shm_topic_recv.c. Lossless: publishers wait for the slowest
 *            subscriber, fail, or drop the new message, which all subscribers are told; messages are taken in
 *            place, several ahead. Overwriting: publishers wait for nobody, a message is copied out and then
 *            looked at again; a subscriber that is overtaken is told how many it lost.
 * Death      A dead subscriber's cursor goes, and so the publishers wait no longer; what it had in hand has no
 *            heir. A dead publisher's slot is skipped; one who only reads skips it for itself.
 */
#include "base/cleanup.h"
#include "data/words.h"
#include "transport/shm_topic.h"

/* message->internal[2] of a loan: its chunk; [3]: its time-out */

enum {
    NR_SHM_TOPIC_MESSAGES = 256, /* defaults */
    NR_SHM_TOPIC_MESSAGES_LEAST = 16,
    NR_SHM_TOPIC_CHUNKS_BYTES = 4 * 1024 * 1024,
    NR_SHM_TOPIC_SPARE = 8, /* chunks for loans, and for who is about to publish */
};

static bool nr_shm_topic_overwrites(const struct nr_shm *shm)
{
    return shm->kind->is_overwriting;
}

static bool nr_shm_topic_may_recv(struct nr_shm *shm)
{
    nr_lock_scope(&shm->endpoint.lock);
    return nr_topic_may_read(&shm->topic, &shm->reader);
}

static bool nr_shm_topic_may_send(struct nr_shm *shm)
{
    return nr_topic_may_claim(&shm->topic, shm->lacks_bytes > nr_topic_inline_bytes(&shm->topic));
}

/* -- publishing ---------------------------------------------------------------------------- */

static uint64_t nr_shm_topic_backlog(struct nr_shm *shm, uint32_t *ret_index)
{
    uint64_t slowest = nr_topic_slowest(&shm->topic, ret_index);
    uint64_t tail = nr_topic_tail(&shm->topic);

    return slowest < tail ? tail - slowest : 0;
}

static int nr_shm_topic_late(struct nr_shm *shm)
{
    uint32_t slowest;
    uint64_t backlog = nr_shm_topic_backlog(shm, &slowest);

    if (slowest == NR_TOPIC_NOBODY)
        return -ETIMEDOUT;
    return nr_fail(
        -ETIMEDOUT,
        "%s: the time-out is over: process %d has not received the last %llu messages, and "
        "this topic waits for each of its subscribers; continue that one (kill -CONT), or "
        "end it",
        shm->endpoint.uri, nr_party_pid(&shm->party, slowest), (unsigned long long)backlog);
}

/* Full: 0 try again, 1 the message is dropped, or what the send returns. */
static int nr_shm_topic_full(struct nr_shm *shm, struct nr_shm_pause *pause, int result,
                             struct nr_deadline *deadline)
{
    bool drops = shm->endpoint.options.when_full == NARU_DROP_NEWEST;

    if (result == -EBADMSG)
        return nr_shm_damaged(shm);
    if (result == -EAGAIN && (drops || nr_deadline_is_now(deadline)) &&
        pause->blocker != NR_TOPIC_NOBODY && nr_party_is_dead(&shm->party, pause->blocker) &&
        nr_party_sweep(&shm->party, false))
        return 0; /* nobody would wake us for that: we do not sleep */
    if (result == -EAGAIN && drops) {
        nr_topic_drop(&shm->topic);
        return 1;
    }
    /* Who is in the middle of a slot opens only the subscribers' gate when it is done. */
    struct nr_gate *gate =
        result == -EBUSY ? nr_shm_gate_empty(shm, true) : nr_shm_gate_full(shm, true);
    result = nr_shm_pause(shm, gate, pause, result, deadline);
    return result == -ETIMEDOUT ? nr_shm_topic_late(shm) : result;
}

static int nr_shm_topic_claim(struct nr_shm *shm, struct nr_topic_claim *ret,
                              struct nr_deadline *deadline)
{
    struct nr_shm_pause pause = {0};

    for (;;) {
        int result = nr_topic_claim(&shm->topic, ret, &pause.blocker);
        if (result == 0) {
            nr_shm_pause_end(shm, &pause);
            return 0;
        }
        result = nr_shm_topic_full(shm, &pause, result, deadline);
        if (result != 0)
            return result;
    }
}

static int nr_shm_topic_chunk(struct nr_shm *shm, uint32_t *ret, struct nr_deadline *deadline)
{
    struct nr_shm_pause pause = {.blocker = NR_TOPIC_NOBODY};

    for (;;) {
        *ret = nr_topic_loan(&shm->topic);
        if (*ret != NR_TOPIC_NO_CHUNK) {
            nr_shm_pause_end(shm, &pause);
            return 0;
        }
        int result = nr_shm_topic_full(shm, &pause, -EAGAIN, deadline);
        if (result != 0)
            return result;
    }
}

static void nr_shm_topic_publish(struct nr_shm *shm, const struct nr_topic_claim *claim,
                                 uint32_t chunk, size_t size_bytes, int64_t type)
{
    const struct nr_topic_label label = {
        .size_bytes = (uint32_t)size_bytes,
        .sender_pid = shm->pid,
        .type = type,
    };

    bool is_chunk_free = nr_topic_publish(&shm->topic, claim, chunk, &label);
    nr_shm_wake(shm, nr_shm_gate_empty(shm, false));
    if (is_chunk_free) /* and somebody may wait for one */
        nr_shm_wake(shm, nr_shm_gate_full(shm, false));
}

static void nr_shm_topic_unloan(struct nr_shm *shm, uint32_t chunk)
{
    nr_topic_unloan(&shm->topic, chunk);
    nr_shm_wake(shm, nr_shm_gate_full(shm, false));
}

static int nr_shm_topic_send_large(struct nr_shm *shm, const struct nr_out *out,
                                   struct nr_deadline *deadline)
{
    struct nr_topic_claim claim;
    uint32_t chunk;
    int result = nr_shm_topic_chunk(shm, &chunk, deadline);

    if (result != 0)
        return result < 0 ? result : 0;
    if (nr_shm_topic_overwrites(shm))
        nr_shm_store(out, nr_topic_chunk(&shm->topic, chunk));
    else
        nr_out_copy(out, 0, (void *)nr_topic_chunk(&shm->topic, chunk), out->size_bytes);
    result = nr_shm_topic_claim(shm, &claim, deadline);
    if (result == 0)
        nr_shm_topic_publish(shm, &claim, chunk, out->size_bytes, out->type);
    else
        nr_shm_topic_unloan(shm, chunk);
    return result < 0 ? result : 0;
}

static int nr_shm_topic_send(struct naru_endpoint *endpoint, const struct nr_out *out,
                             struct nr_deadline *deadline)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_topic_claim claim;

    nr_party_operate(&shm->party);
    if (out->size_bytes > nr_topic_inline_bytes(&shm->topic))
        return nr_shm_topic_send_large(shm, out, deadline);
    int result = nr_shm_topic_claim(shm, &claim, deadline);
    if (result != 0)
        return result < 0 ? result : 0;
    nr_shm_store(out, claim.slot->payload);
    nr_shm_topic_publish(shm, &claim, NR_TOPIC_NO_CHUNK, out->size_bytes, out->type);
    return 0;
}

static int nr_shm_topic_send_short(struct naru_endpoint *endpoint, const void *data,
                                   size_t size_bytes, int64_t timeout_ns, nr_send_way *otherwise)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_topic_claim claim;
    uint32_t blocker;

    nr_party_operate(&shm->party);
    if (size_bytes > nr_topic_inline_bytes(&shm->topic) ||
        nr_topic_claim(&shm->topic, &claim, &blocker) != 0)
        return otherwise(endpoint, data, size_bytes, timeout_ns);
    nr_words_store(claim.slot->payload, data, size_bytes);
    nr_shm_topic_publish(shm, &claim, NR_TOPIC_NO_CHUNK, size_bytes, 0);
    return nr_endpoint_sent(endpoint, size_bytes);
}

static int nr_shm_topic_loan(struct naru_endpoint *endpoint, size_t size_bytes,
                             struct naru_message *ret, struct nr_deadline *deadline)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    uint32_t chunk;

    nr_party_operate(&shm->party);
    int result = nr_shm_topic_chunk(shm, &chunk, deadline);
    if (result != 0)
        return result < 0
                   ? result
                   : nr_fail(-ENOBUFS, "%s: no chunk is free for a loan; its contract is to drop",
                             shm->endpoint.uri);
    *ret = (struct naru_message){
        .data = (void *)nr_topic_chunk(&shm->topic, chunk),
        .size_bytes = size_bytes,
        .capacity_bytes = size_bytes,
        .internal = {0, 0, chunk, (uint64_t)deadline->timeout_ns},
    };
    return 0;
}

static int nr_shm_topic_commit(struct naru_endpoint *endpoint, struct naru_message *message)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_deadline deadline = nr_deadline_in((int64_t)message->internal[3]);
    uint32_t chunk = (uint32_t)message->internal[2];
    struct nr_topic_claim claim;

    nr_party_operate(&shm->party);
    int result = nr_shm_topic_claim(shm, &claim, &deadline);
    if (result == 0)
        nr_shm_topic_publish(shm, &claim, chunk, message->size_bytes, message->type);
    else if (result > 0) /* dropped, as the contract says */
        nr_shm_topic_unloan(shm, chunk);
    return result < 0 ? result : 0;
}

static int nr_shm_topic_cancel(struct naru_endpoint *endpoint, struct naru_message *message)
{
    nr_shm_topic_unloan(nr_shm_of(endpoint), (uint32_t)message->internal[2]);
    return 0;
}

/* -- the kinds ------------------------------------------------------------------------------- */

static int nr_shm_topic_plan(struct nr_shm_header *header, const struct nr_request *request)
{
    const struct naru_options *options = &request->options;
    uint64_t most = header->message_size_max_bytes;
    uint64_t chunk = nr_shm_layout_round(most ? most : 1, 64);
    uint64_t fit = NR_SHM_TOPIC_CHUNKS_BYTES / chunk;

    header->slot_bytes = most <= 64 - NR_TOPIC_HEADER_BYTES ? 64 : 128;
    header->chunk_bytes = chunk;
    if (!options->capacity_messages)
        header->capacity_messages = fit < NR_SHM_TOPIC_MESSAGES_LEAST ? NR_SHM_TOPIC_MESSAGES_LEAST
                                    : fit < NR_SHM_TOPIC_MESSAGES     ? fit
                                                                      : NR_SHM_TOPIC_MESSAGES;
    header->slots_count = (uint32_t)header->capacity_messages + 1;
    /* A chunk for each message that is kept, and some that are not published yet. */
    uint64_t chunks = options->payload_bytes / chunk,
             least = header->slots_count + NR_SHM_TOPIC_SPARE;
    header->chunks_count = (uint32_t)(chunks < least ? least : chunks);
    if (header->slots_count > NR_SHM_SLOTS_MOST || chunks > NR_SHM_SLOTS_MOST)
        return nr_fail(
            -EINVAL, "%s: capacity_messages or payload_bytes is too large: the most is %d messages",
            request->text, NR_SHM_SLOTS_MOST - NR_SHM_TOPIC_SPARE - 1);
    if (options->held_max > NR_TOPIC_HELD_MOST)
        return nr_fail(-EINVAL, "%s: held_max is %u; the most on a topic is %d", request->text,
                       options->held_max, NR_TOPIC_HELD_MOST);
    header->held_max = options->held_max ? options->held_max : NR_TOPIC_HELD_MOST;
    return 0;
}

static int nr_shm_topic_plan_overwriting(struct nr_shm_header *header,
                                         const struct nr_request *request)
{
    int result = nr_request_refuse(request, "held_max", request->options.held_max,
                                   "what is taken from a topic that overwrites is a copy");

    return result < 0 ? result : nr_shm_topic_plan(header, request);
}

static struct nr_topic nr_shm_topic_sizes(const struct nr_shm_header *header)
{
    return (struct nr_topic){
        .slots_count = header->slots_count,
        .slot_bytes = header->slot_bytes,
        .chunks_count = header->chunks_count,
        .chunk_bytes = header->chunk_bytes,
        .cursors_count = header->when_full == NARU_OVERWRITE_OLDEST ? 0 : header->participants_max,
    };
}

static uint64_t nr_shm_topic_bytes(const struct nr_shm_header *header)
{
    struct nr_topic sizes = nr_shm_topic_sizes(header);

    return nr_topic_bytes(&sizes);
}

static bool nr_shm_topic_is_sane(const struct nr_shm_header *header)
{
    bool overwrites = header->when_full == NARU_OVERWRITE_OLDEST;

    return overwrites == (header->kind == NR_SHM_TOPIC_OVERWRITING) && header->slots_count >= 2 &&
           header->slots_count <= NR_SHM_SLOTS_MOST && header->slot_bytes >= 64 &&
           header->slot_bytes <= 4096 && header->slot_bytes % 64 == 0 &&
           header->chunk_bytes % 64 == 0 && header->chunk_bytes > 0 &&
           header->chunk_bytes <= NR_SHM_TOTAL_MOST &&
           header->chunks_count >= header->slots_count &&
           header->chunks_count <= NR_SHM_SLOTS_MOST &&
           header->chunk_bytes >= header->message_size_max_bytes &&
           header->held_max <= NR_TOPIC_HELD_MOST;
}

static void nr_shm_topic_view(struct nr_shm *shm, const struct nr_shm_header *plan, void *memory)
{
    shm->topic = nr_shm_topic_sizes(plan);
    nr_topic_attach(&shm->topic, memory);
}

static int nr_shm_topic_join(struct nr_shm *shm)
{
    static const enum nr_topic_start starts[] = {
        [NARU_FROM_NOW] = NR_TOPIC_NOW,
        [NARU_FROM_OLDEST] = NR_TOPIC_OLDEST,
        [NARU_FROM_LAST] = NR_TOPIC_LAST,
    };
    const struct naru_options *options = &shm->endpoint.options;

    shm->topic.me = shm->party.me;
    if (!(shm->endpoint.role & NARU_RECEIVER))
        return 0;
    nr_topic_join(&shm->topic, &shm->reader, starts[options->start], options->start_messages);
    if (!nr_shm_topic_overwrites(shm)) /* a publisher may have waited for where we begin */
        nr_shm_wake(shm, nr_shm_gate_full(shm, false));
    return 0;
}

static void nr_shm_topic_repair(struct nr_shm *shm, unsigned dead)
{
    nr_topic_repair(&shm->topic, dead);
}

/* Its loans, and its cursor. */
static void nr_shm_topic_leave(struct nr_shm *shm)
{
    nr_topic_repair(&shm->topic, shm->party.me);
}

static void nr_shm_topic_stat(struct nr_shm *shm, struct naru_stat *stat)
{
    uint32_t slowest;

    stat->known |= NARU_STAT_QUEUED;
    if (!(shm->endpoint.role & NARU_RECEIVER)) {
        stat->queued_messages = nr_shm_topic_backlog(shm, &slowest);
        return;
    }
    nr_lock_scope(&shm->endpoint.lock);
    uint64_t tail = nr_topic_tail(&shm->topic), capacity = shm->topic.slots_count - 1;
    uint64_t waiting = tail - (shm->reader.next < tail ? shm->reader.next : tail);
    waiting += (uint64_t)__builtin_popcountll(shm->reader.again);
    stat->queued_messages = waiting < capacity ? waiting : capacity;
}

#define NR_SHM_TOPIC_KIND                                                                          \
    .pattern = NARU_TOPIC, .has_start = true,                                                      \
    .roles = 1 << NARU_SENDER | 1 << NARU_RECEIVER | 1 << NARU_BOTH,                               \
    .is_sane = nr_shm_topic_is_sane, .bytes = nr_shm_topic_bytes, .view = nr_shm_topic_view,       \
    .join = nr_shm_topic_join, .leave = nr_shm_topic_leave, .repair = nr_shm_topic_repair,         \
    .may_recv = nr_shm_topic_may_recv, .may_send = nr_shm_topic_may_send,                          \
    .stat = nr_shm_topic_stat

const struct nr_shm_kind nr_shm_topic_kind = {
    NR_SHM_TOPIC_KIND,
    .number = NR_SHM_TOPIC,
    .transport =
        {
            NR_SHM_COMMON,
            .send = nr_shm_topic_send,
            .send_short = nr_shm_topic_send_short,
            .recv_short = nr_shm_topic_recv_short,
            .recv = nr_shm_topic_recv,
            .loan = nr_shm_topic_loan,
            .commit = nr_shm_topic_commit,
            .cancel = nr_shm_topic_cancel,
            .take = nr_shm_topic_take,
            .ack = nr_shm_topic_ack,
            .requeue = nr_shm_topic_requeue,
        },
    .plan = nr_shm_topic_plan,
};

const struct nr_shm_kind nr_shm_topic_overwriting_kind = {
    NR_SHM_TOPIC_KIND,
    .number = NR_SHM_TOPIC_OVERWRITING,
    .is_overwriting = true,
    .can_be_read_only = true,
    .transport =
        {
            NR_SHM_COMMON,
            .send = nr_shm_topic_send,
            .send_short = nr_shm_topic_send_short,
            .recv_short = nr_shm_topic_recv_newer_short,
            .recv = nr_shm_topic_recv_newer,
            .loan = nr_shm_topic_loan,
            .commit = nr_shm_topic_commit,
            .cancel = nr_shm_topic_cancel,
        },
    .plan = nr_shm_topic_plan_overwriting,
};
