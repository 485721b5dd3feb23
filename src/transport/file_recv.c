/* SPDX-License-Identifier: MIT */
/*
 * file_recv -- records become messages, each to exactly one receiver
 *
 * At most once   Any number of receivers share the cursor. Each reads and checks the record at the cursor, and
 *            then moves the cursor over it by CAS: whoever succeeds has the message. A receiver killed after
 *            that takes it along; killed before, it leaves it.
 * At least once  One receiver at a time. The cursor moves when a record is acknowledged and all before it are;
 *            what is acknowledged out of turn waits in `held`. A receiver's death leaves the cursor where it
 *            is, and handed_end tells the next one which records were in a hand.
 * deliveries exact for the oldest record that was not acknowledged; for those behind it, at most too high.
 */
#include "transport/file.h"
#include <stdlib.h>
#include <string.h>

static void nr_file_recv_describe(const struct nr_journal_record *record, uint32_t deliveries,
                                  struct naru_message *message)
{
    message->size_bytes = record->size_bytes;
    message->sequence = record->sequence;
    message->type = record->type;
    message->sender_pid = (int32_t)record->pid;
    message->sender_uid = record->uid;
    message->deliveries = deliveries;
    message->flags = deliveries > 1 ? NARU_REDELIVERED : 0;
    message->known = NARU_KNOWS_SEQUENCE | NARU_KNOWS_TYPE | NARU_KNOWS_SENDER_PID |
                     NARU_KNOWS_SENDER_UID | NARU_KNOWS_DELIVERIES;
}

/* The cursor is as durable as the messages are. */
static int nr_file_recv_moved(struct nr_file *file)
{
    if (file->journal.header.durability == NARU_DURABLE_EVERY_COMMIT)
        return nr_journal_sync(&file->journal);
    nr_file_sync_in_time(file, false);
    return 0;
}

/* -- at most once --------------------------------------------------------------------------- */

static int nr_file_recv_shared(struct nr_file *file, struct naru_message *message)
{
    struct nr_journal *journal = &file->journal;
    struct nr_journal_record record;
    uint64_t offset;

    nr_lock_scope(&file->read_lock);
    for (;;) {
        uint64_t word = __atomic_load_n(&journal->control->cursor, __ATOMIC_ACQUIRE);
        uint64_t tail = nr_journal_tail(journal);
        int result = nr_journal_cursor_offset(journal, word, tail, &offset);
        if (result < 0)
            return result;
        if (offset == tail)
            return -EAGAIN;
        result = nr_journal_peek(journal, &file->reader, offset, tail, &record);
        if (result < 0)
            return result;
        if (record.size_bytes > message->capacity_bytes) {
            if (__atomic_load_n(&journal->control->cursor, __ATOMIC_ACQUIRE) != word)
                continue;
            message->size_bytes = record.size_bytes; /* it stays where it is */
            return -EMSGSIZE;
        }
        result = nr_journal_payload(journal, &file->reader, offset, &record, message->data);
        if (result < 0)
            return result;
        uint64_t after = nr_journal_cursor_word(offset + nr_journal_length(record.size_bytes));
        if (__atomic_compare_exchange_n(&journal->control->cursor, &word, after, false,
                                        __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            break;
    }
    nr_file_recv_describe(&record, 1, message);
    return nr_file_recv_moved(file);
}

/* -- at least once -------------------------------------------------------------------------- */

int nr_file_recv_begin(struct nr_file *file)
{
    struct nr_journal_control *control = file->journal.control;
    uint32_t holder = 0;

    while (!__atomic_compare_exchange_n(&control->receiver, &holder, file->party.me + 1, false,
                                        __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        if (!nr_party_is_dead(&file->party, holder - 1))
            return nr_fail(
                -EBUSY,
                "%s is received at least once, so by one receiver at a time, and that is "
                "process %d; close it there, or create the journal with at-most-once",
                file->endpoint.uri, nr_party_pid(&file->party, holder - 1));
        nr_party_sweep(&file->party, false);
        holder = 0;
    }
    uint64_t tail = nr_journal_tail(&file->journal);
    int result = nr_journal_cursor_offset(&file->journal, control->cursor, tail, &file->next);
    if (result < 0)
        return result;
    file->has_turn = true;
    if (control->handed_end <= file->next || control->handed_end > tail) {
        control->handed_end = 0;
        control->handed_times = 1;
        return 0;
    }
    file->redelivered_end = control->handed_end;
    file->redelivered_times = control->handed_times;
    control->handed_times++;
    return 0;
}

void nr_file_recv_end(struct nr_file *file)
{
    uint32_t mine = file->party.me + 1;

    if (file->has_turn)
        __atomic_compare_exchange_n(&file->journal.control->receiver, &mine, 0, false,
                                    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    file->has_turn = false;
}

/* The record that comes next: one that was put back, at its place in `held`, or a new one (NULL). */
static struct nr_file_held *nr_file_recv_put_back(struct nr_file *file)
{
    for (size_t i = 0; i < file->held_count; i++)
        if (file->held[i].state == NR_FILE_PUT_BACK)
            return &file->held[i];
    return NULL;
}

static int nr_file_recv_peek(struct nr_file *file, const struct nr_file_held *held,
                             struct nr_journal_record *ret_record, struct nr_file_held *ret)
{
    uint64_t tail = nr_journal_tail(&file->journal);
    struct nr_file_held next = {.offset = file->next, .deliveries = 1};

    if (held)
        next = *held;
    else if (next.offset == tail)
        return -EAGAIN;
    int result = nr_journal_peek(&file->journal, &file->reader, next.offset, tail, ret_record);
    if (result < 0)
        return result;
    next.end = next.offset + nr_journal_length(ret_record->size_bytes);
    if (!held && next.offset < file->redelivered_end)
        next.deliveries = file->redelivered_times + 1;
    *ret = next;
    return 0;
}

/* Room for one more, at the end: new ones come in order of their offsets. */
static int nr_file_recv_reserve(struct nr_file *file)
{
    if (file->held_count < file->held_capacity)
        return 0;
    size_t capacity = file->held_capacity ? 2 * file->held_capacity : 16;
    struct nr_file_held *held = realloc(file->held, capacity * sizeof *held);
    if (!held)
        return nr_fail(-ENOMEM, "no memory to hold another message");
    file->held = held;
    file->held_capacity = capacity;
    return 0;
}

/* The cursor goes over all that is acknowledged without a gap. */
static int nr_file_recv_advance(struct nr_file *file)
{
    struct nr_journal_control *control = file->journal.control;
    size_t done = 0;

    while (done < file->held_count && file->held[done].state == NR_FILE_ACKNOWLEDGED)
        done++;
    if (done == 0)
        return 0;
    uint64_t offset = file->held[done - 1].end;
    file->held_count -= done;
    memmove(file->held, file->held + done, file->held_count * sizeof *file->held);
    if (offset >= file->redelivered_end && control->handed_times != 1)
        control->handed_times = 1;
    __atomic_store_n(&control->cursor, nr_journal_cursor_word(offset), __ATOMIC_RELEASE);
    return nr_file_recv_moved(file);
}

static int nr_file_recv_alone(struct nr_file *file, struct naru_message *message)
{
    struct nr_journal_record record;
    struct nr_file_held next;

    nr_lock_scope(&file->read_lock);
    struct nr_file_held *held = nr_file_recv_put_back(file);
    int result = nr_file_recv_peek(file, held, &record, &next);
    if (result < 0)
        return result;
    if (record.size_bytes > message->capacity_bytes) {
        message->size_bytes = record.size_bytes;
        return -EMSGSIZE;
    }
    result = nr_journal_payload(&file->journal, &file->reader, next.offset, &record, message->data);
    if (result == 0 && !held)
        result = nr_file_recv_reserve(file);
    if (result < 0)
        return result;
    next.state = NR_FILE_ACKNOWLEDGED;
    if (held) {
        *held = next;
    } else {
        file->held[file->held_count++] = next;
        file->next = next.end;
    }
    nr_file_recv_describe(&record, next.deliveries, message);
    return nr_file_recv_advance(file);
}

static int nr_file_take_now(struct nr_file *file, struct naru_message *message)
{
    struct nr_journal_control *control = file->journal.control;
    struct nr_journal_record record;
    struct nr_file_held next;

    nr_lock_scope(&file->read_lock);
    struct nr_file_held *held = nr_file_recv_put_back(file);
    int result = nr_file_recv_peek(file, held, &record, &next);
    if (result == 0 && !held)
        result = nr_file_recv_reserve(file);
    if (result < 0)
        return result;
    next.data = malloc(record.size_bytes ? record.size_bytes : 1);
    if (!next.data)
        return nr_fail(-ENOMEM, "no memory for a message of %u bytes", record.size_bytes);
    result = nr_journal_payload(&file->journal, &file->reader, next.offset, &record, next.data);
    if (result < 0) {
        free(next.data);
        return result;
    }
    next.state = NR_FILE_IN_HAND;
    if (held) {
        *held = next;
    } else {
        file->held[file->held_count++] = next;
        file->next = next.end;
    }
    if (next.end > control->handed_end) /* before the caller has it */
        __atomic_store_n(&control->handed_end, next.end, __ATOMIC_RELEASE);
    nr_file_recv_describe(&record, next.deliveries, message);
    message->data = next.data;
    message->capacity_bytes = record.size_bytes;
    message->internal[2] = next.offset;
    return 0;
}

/* Gives a message in the user's hand another state. */
static struct nr_file_held *nr_file_recv_find(struct nr_file *file,
                                              const struct naru_message *message)
{
    for (size_t i = 0; i < file->held_count; i++)
        if (file->held[i].offset == message->internal[2] && file->held[i].state == NR_FILE_IN_HAND)
            return &file->held[i];
    nr_fail(-EINVAL, "%s: this message was given back already", file->endpoint.uri);
    return NULL;
}

int nr_file_ack(struct naru_endpoint *endpoint, struct naru_message *message)
{
    struct nr_file *file = nr_file_of(endpoint);

    nr_lock_scope(&file->read_lock);
    struct nr_file_held *held = nr_file_recv_find(file, message);
    if (!held)
        return -EINVAL;
    free(held->data);
    held->data = NULL;
    held->state = NR_FILE_ACKNOWLEDGED;
    return nr_file_recv_advance(file);
}

static int nr_file_put_back(struct nr_file *file, const struct naru_message *message)
{
    nr_lock_scope(&file->read_lock);
    struct nr_file_held *held = nr_file_recv_find(file, message);
    if (!held)
        return -EINVAL;
    free(held->data);
    held->data = NULL;
    held->deliveries++;
    held->state = NR_FILE_PUT_BACK;
    return 0;
}

int nr_file_requeue(struct naru_endpoint *endpoint, struct naru_message *message)
{
    struct nr_file *file = nr_file_of(endpoint);

    int result = nr_file_put_back(file, message);
    if (result < 0)
        return result;
    nr_file_ready_set(file); /* other threads of this process */
    nr_file_bell_ring(file);
    return 0;
}

/* -- both ----------------------------------------------------------------------------------- */

/* Damage counts as readable: the receive tells of it. */
bool nr_file_is_readable(struct nr_file *file)
{
    uint64_t cursor = __atomic_load_n(&file->journal.control->cursor, __ATOMIC_SEQ_CST);
    uint64_t tail = __atomic_load_n(&file->journal.control->tail, __ATOMIC_SEQ_CST) & ~(uint64_t)7;

    if (!file->is_at_least_once)
        return cursor != nr_journal_cursor_word(tail);
    nr_lock_scope(&file->read_lock);
    return file->next != tail || nr_file_recv_put_back(file);
}

static int nr_file_recv_now(struct nr_file *file, struct naru_message *message)
{
    return file->is_at_least_once ? nr_file_recv_alone(file, message)
                                  : nr_file_recv_shared(file, message);
}

int nr_file_recv(struct naru_endpoint *endpoint, struct nr_in *in, struct nr_deadline *deadline)
{
    struct nr_file *file = nr_file_of(endpoint);

    nr_party_operate(&file->party);
    for (;;) {
        int result = nr_file_recv_now(file, in->message);
        if (result != -EAGAIN)
            return result;
        result = nr_file_bell_wait(file, deadline);
        if (result < 0)
            return result;
    }
}

int nr_file_take(struct naru_endpoint *endpoint, struct naru_message *ret,
                 struct nr_deadline *deadline)
{
    struct nr_file *file = nr_file_of(endpoint);

    nr_party_operate(&file->party);
    for (;;) {
        int result = nr_file_take_now(file, ret);
        if (result != -EAGAIN)
            return result;
        result = nr_file_bell_wait(file, deadline);
        if (result < 0)
            return result;
    }
}
