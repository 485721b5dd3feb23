/* SPDX-License-Identifier: MIT */
/*
 * shm_cell -- shm:// with the newest value only
 *
 * What       One writer at a time, which has the seat from open to close; any number of readers, which copy, and
 *            wait for a version that is newer than the one they returned last. A loan is the buffer itself.
 * Threads    Those of one writing endpoint take turns by its lock. Readers need none: of two that copied the
 *            same version one is first to note it, and the other looks again.
 * Death      See data/cell.h. The next writer finds the seat of a dead one, has it repaired, and takes it.
 */
#include "base/cleanup.h"
#include "transport/shm.h"

enum { NR_SHM_CELL_BUFFERS = 4, NR_SHM_CELL_BUFFERS_MOST = 1024 };

static uint64_t nr_shm_cell_seen(const struct nr_shm *shm)
{
    return __atomic_load_n(&shm->seen, __ATOMIC_RELAXED);
}

static bool nr_shm_cell_may_recv(struct nr_shm *shm)
{
    return nr_cell_latest(&shm->cell) > nr_shm_cell_seen(shm);
}

/* It never waits, or is told that it has a loan out. */
static bool nr_shm_cell_may_send(struct nr_shm *shm)
{
    (void)shm;
    return true;
}

/* -- writing ------------------------------------------------------------------------------- */

static int nr_shm_cell_is_loaned(const struct nr_shm *shm)
{
    return nr_fail(-EBUSY, "%s: one loan at a time on a cell; commit or cancel it",
                   shm->endpoint.uri);
}

static void nr_shm_cell_publish(struct nr_shm *shm, struct nr_cell_buffer *buffer,
                                size_t size_bytes, int64_t type)
{
    const struct nr_cell_value value = {
        .size_bytes = size_bytes,
        .type = type,
        .sender_pid = shm->pid,
    };

    nr_cell_publish(&shm->cell, buffer, &value);
}

static int nr_shm_cell_send(struct naru_endpoint *endpoint, const struct nr_out *out,
                            struct nr_deadline *deadline)
{
    struct nr_shm *shm = nr_shm_of(endpoint);

    (void)deadline; /* it never waits */
    nr_party_operate(&shm->party);
    {
        nr_lock_scope(&endpoint->lock);
        if (shm->is_loaning)
            return nr_shm_cell_is_loaned(shm);
        struct nr_cell_buffer *buffer = nr_cell_begin(&shm->cell);
        nr_shm_store(out, buffer->payload);
        nr_shm_cell_publish(shm, buffer, out->size_bytes, out->type);
    }
    nr_shm_wake(shm, nr_shm_gate_empty(shm, false));
    return 0;
}

static int nr_shm_cell_loan(struct naru_endpoint *endpoint, size_t size_bytes,
                            struct naru_message *ret, struct nr_deadline *deadline)
{
    struct nr_shm *shm = nr_shm_of(endpoint);

    (void)deadline;
    nr_party_operate(&shm->party);
    nr_lock_scope(&endpoint->lock);
    if (shm->is_loaning)
        return nr_shm_cell_is_loaned(shm);
    shm->is_loaning = true;
    *ret = (struct naru_message){
        .data = (void *)nr_cell_begin(&shm->cell)->payload,
        .size_bytes = size_bytes,
        .capacity_bytes = size_bytes,
    };
    return 0;
}

static int nr_shm_cell_commit(struct naru_endpoint *endpoint, struct naru_message *message)
{
    struct nr_shm *shm = nr_shm_of(endpoint);

    nr_party_operate(&shm->party);
    {
        nr_lock_scope(&endpoint->lock);
        struct nr_cell_buffer *buffer = nr_cell_begin(&shm->cell); /* the one that was loaned */
        nr_shm_cell_publish(shm, buffer, message->size_bytes, message->type);
        shm->is_loaning = false;
    }
    nr_shm_wake(shm, nr_shm_gate_empty(shm, false));
    return 0;
}

static int nr_shm_cell_cancel(struct naru_endpoint *endpoint, struct naru_message *message)
{
    struct nr_shm *shm = nr_shm_of(endpoint);

    (void)message;
    nr_lock_scope(&endpoint->lock);
    shm->is_loaning = false;
    return 0;
}

/* -- reading ------------------------------------------------------------------------------- */

/* Notes that a version is returned; false: another thread has returned it, or a newer one, meanwhile. */
static bool nr_shm_cell_note(struct nr_shm *shm, uint64_t seen, uint64_t version)
{
    return __atomic_compare_exchange_n(&shm->seen, &seen, version, false, __ATOMIC_RELAXED,
                                       __ATOMIC_RELAXED);
}

static int nr_shm_cell_recv(struct naru_endpoint *endpoint, struct nr_in *in,
                            struct nr_deadline *deadline)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct naru_message *message = in->message;
    struct nr_shm_pause pause = {0};
    struct nr_cell_value value;

    if (!shm->is_read_only)
        nr_party_operate(&shm->party);
    for (;;) {
        uint64_t seen = nr_shm_cell_seen(shm);
        int result = nr_cell_read(&shm->cell, seen, message->data, message->capacity_bytes, &value);
        if (result == 0 && !nr_shm_cell_note(shm, seen, value.version))
            continue;
        if (result == 0)
            break;
        if (result == -EMSGSIZE)
            message->size_bytes = value.size_bytes;
        if (result == -EBADMSG)
            return nr_shm_damaged(shm);
        result = nr_shm_pause(shm, nr_shm_gate_empty(shm, true), &pause, result, deadline);
        if (result == -EAGAIN)
            return nr_error_default(-EAGAIN, NR_ORIGIN,
                                    "there is nothing newer than what was read last; give a "
                                    "time-out other than 0 to wait for it");
        if (result < 0)
            return result;
    }
    nr_shm_pause_end(shm, &pause);
    message->size_bytes = value.size_bytes;
    message->sequence = value.version;
    message->type = value.type;
    message->sender_pid = value.sender_pid;
    message->known = NARU_KNOWS_SEQUENCE | NARU_KNOWS_TYPE | NARU_KNOWS_SENDER_PID;
    return 0;
}

/* -- the kind -------------------------------------------------------------------------------- */

static int nr_shm_cell_plan(struct nr_shm_header *header, const struct nr_request *request)
{
    const struct naru_options *options = &request->options;
    const struct nr_refusal refused[] = {
        {"when_full", options->when_full,
         "a cell is never full: the newest value replaces the last"},
        {"delivery", options->delivery, "a cell keeps the newest value, whoever has read it"},
        {"payload_bytes", options->payload_bytes,
         "a cell has room for a few of its largest values"},
        {"held_max", options->held_max, "what is taken from a cell is a copy"},
    };
    int result = nr_request_refuse_each(request, refused, nr_count_of(refused));

    if (result < 0)
        return result;
    if (!options->capacity_messages)
        header->capacity_messages = NR_SHM_CELL_BUFFERS;
    if (header->capacity_messages < NR_CELL_BUFFERS_LEAST ||
        header->capacity_messages > NR_SHM_CELL_BUFFERS_MOST)
        return nr_fail(-EINVAL, "%s: capacity_messages is %zu; a cell has %d to %d buffers",
                       request->text, options->capacity_messages, NR_CELL_BUFFERS_LEAST,
                       NR_SHM_CELL_BUFFERS_MOST);
    header->slots_count = (uint32_t)header->capacity_messages;
    return 0;
}

static bool nr_shm_cell_is_sane(const struct nr_shm_header *header)
{
    return header->slots_count >= NR_CELL_BUFFERS_LEAST &&
           header->slots_count <= NR_SHM_CELL_BUFFERS_MOST;
}

static struct nr_cell nr_shm_cell_sizes(const struct nr_shm_header *header)
{
    return (struct nr_cell){
        .buffers_count = header->slots_count,
        .value_bytes = header->message_size_max_bytes,
    };
}

static uint64_t nr_shm_cell_bytes(const struct nr_shm_header *header)
{
    struct nr_cell sizes = nr_shm_cell_sizes(header);

    return nr_cell_bytes(&sizes);
}

static void nr_shm_cell_view(struct nr_shm *shm, const struct nr_shm_header *plan, void *memory)
{
    shm->cell = nr_shm_cell_sizes(plan);
    nr_cell_attach(&shm->cell, memory);
}

/* A writer takes the seat, or hears who has it. */
static int nr_shm_cell_join(struct nr_shm *shm)
{
    if (!(shm->endpoint.role & NARU_SENDER))
        return 0;
    return nr_shm_sit(shm, &shm->cell.shared->writer, "is a cell, which has one writer at a time",
                      "writer");
}

static void nr_shm_cell_repair(struct nr_shm *shm, unsigned dead)
{
    nr_seat_clear(&shm->cell.shared->writer, dead, true);
}

static void nr_shm_cell_leave(struct nr_shm *shm)
{
    nr_seat_clear(&shm->cell.shared->writer, shm->party.me, false);
}

static void nr_shm_cell_stat(struct nr_shm *shm, struct naru_stat *stat)
{
    stat->queued_messages = nr_shm_cell_may_recv(shm);
    stat->known |= NARU_STAT_QUEUED;
}

const struct nr_shm_kind nr_shm_cell_kind = {
    .number = NR_SHM_CELL,
    .pattern = NARU_CELL,
    .can_be_read_only = true,
    .roles = 1 << NARU_SENDER | 1 << NARU_RECEIVER | 1 << NARU_BOTH,
    .transport =
        {
            NR_SHM_COMMON,
            .send = nr_shm_cell_send,
            .recv = nr_shm_cell_recv,
            .loan = nr_shm_cell_loan,
            .commit = nr_shm_cell_commit,
            .cancel = nr_shm_cell_cancel,
        },
    .plan = nr_shm_cell_plan,
    .is_sane = nr_shm_cell_is_sane,
    .bytes = nr_shm_cell_bytes,
    .view = nr_shm_cell_view,
    .join = nr_shm_cell_join,
    .leave = nr_shm_cell_leave,
    .repair = nr_shm_cell_repair,
    .may_recv = nr_shm_cell_may_recv,
    .may_send = nr_shm_cell_may_send,
    .stat = nr_shm_cell_stat,
};
