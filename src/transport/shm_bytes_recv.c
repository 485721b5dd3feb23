/* SPDX-License-Identifier: MIT */
/*
 * shm_bytes_recv -- the receiver's side from one to one, and of a pair
 *
 * What       A message is copied out of its lines, or handed out where it stands apart. When nothing is left, the end of the
 *            other side is told: once for each sender that has left or died; of a pair, for good.
 */
#include "base/relax.h"
#include "base/cleanup.h"
#include "data/line_batch.h"
#include "data/line_short.h"
#include "transport/shm_bytes.h"
#include <stddef.h>
#include <string.h>

bool nr_shm_bytes_may_recv(struct nr_shm *shm)
{
    if (nr_line_may_peek(&shm->in))
        return true;
    if (nr_shm_is_pair(shm))
        return __atomic_load_n(&shm->header->closed[!shm->end], __ATOMIC_ACQUIRE);
    return nr_seat_gone(&shm->in.shared->sender) != __atomic_load_n(&shm->told, __ATOMIC_RELAXED);
}

/* The ring is empty: is there an end to tell? With `tell` it counts as told. */
static int nr_shm_bytes_ended(struct nr_shm *shm, const struct nr_shm_pause *pause, bool tell)
{
    if (nr_shm_is_pair(shm))
        return nr_shm_bytes_peer(shm, pause);
    uint64_t word = nr_seat_gone(&shm->in.shared->sender), told = shm->told;
    if (word == told)
        return 0;
    if (tell)
        __atomic_store_n(&shm->told, word, __ATOMIC_RELAXED); /* the watcher looks at it */
    return nr_seat_deaths(word) != nr_seat_deaths(told) ? nr_shm_bytes_died(shm)
                                                        : nr_shm_bytes_closed(shm);
}

/* Nothing is there: 0 try again, or what the call returns. */
static int nr_shm_bytes_empty(struct nr_shm *shm, struct nr_shm_pause *pause, int result,
                              struct nr_deadline *deadline)
{
    if (result == -EBADMSG)
        return nr_shm_damaged(shm);
    int ended = nr_shm_bytes_ended(shm, pause, pause->has_ended);
    if (ended < 0 && pause->has_ended)
        return ended;
    pause->has_ended = ended < 0;
    if (pause->has_ended) /* what it sent before it ended may have come since we looked */
        return 0;
    return nr_shm_pause(shm, nr_shm_gate_empty(shm, true), pause, result, deadline);
}

static int nr_shm_bytes_begin_receive(struct nr_shm *shm)
{
    nr_shm_bytes_operate(shm);
    return __builtin_expect(shm->is_holding, 0)
               ? nr_fail(-EBUSY,
                         "%s: one message at a time on a one-to-one channel; acknowledge it",
                         shm->endpoint.uri)
               : 0;
}

/* The next message, if there is one. */
static int nr_shm_bytes_peek(struct nr_shm *shm, struct nr_line_record *ret)
{
    int result = nr_line_peek(&shm->in, ret);

    return result == 0 && ret->size_bytes > shm->endpoint.options.message_size_max_bytes ? -EBADMSG
                                                                                         : result;
}

static void nr_shm_bytes_describe(struct nr_shm *shm, const struct nr_line_record *record,
                                  struct naru_message *message)
{
    message->size_bytes = record->size_bytes;
    message->type = record->type;
    message->flags = record->is_redelivered ? NARU_REDELIVERED : 0;
    message->deliveries =
        record->is_redelivered ? 2 : 1; /* or more: the ring does not count them */
    message->known = NARU_KNOWS_TYPE | (record->is_redelivered ? 0 : NARU_KNOWS_DELIVERIES);
    nr_line_taking(&shm->in, record);
}

static void nr_shm_bytes_done(struct nr_shm *shm, const struct nr_line_record *record)
{
    if (nr_line_release(&shm->in, record))
        nr_shm_wake(shm, nr_shm_gate_full(shm, false));
}

/* As nr_line_get(). */
static inline int nr_shm_bytes_get_short(struct nr_shm *shm, struct naru_message *message,
                                         bool *ret_frees)
{
    size_t most_bytes = shm->endpoint.options.message_size_max_bytes;
    int size_bytes = nr_line_get(
        &shm->in, message->data,
        message->capacity_bytes < most_bytes ? message->capacity_bytes : most_bytes, ret_frees);

    if (size_bytes < 0)
        return size_bytes;
    message->size_bytes = (size_t)size_bytes;
    message->deliveries = 1;
    message->known = NARU_KNOWS_TYPE | NARU_KNOWS_DELIVERIES;
    return 0;
}

static int nr_shm_bytes_get_long(struct nr_shm *shm, struct naru_message *message)
{
    struct nr_line_record record;
    int result = nr_shm_bytes_peek(shm, &record);

    if (result < 0)
        return result;
    if (record.size_bytes > message->capacity_bytes) {
        message->size_bytes = record.size_bytes;
        return -EMSGSIZE;
    }
    if (record.size_bytes)
        nr_line_copy(&record, message->data);
    nr_shm_bytes_describe(shm, &record, message);
    nr_shm_bytes_done(shm, &record);
    return 0;
}

/* A receive that waits: who spins takes a short message as soon as it sees it. */
struct nr_shm_bytes_wait {
    struct nr_shm_pause pause; /* first, so that this is found from it */
    struct naru_message *message;
    bool is_done, frees;
};

static bool nr_shm_bytes_look(struct nr_shm *shm, struct nr_shm_pause *pause)
{
    struct nr_shm_bytes_wait *wait = (struct nr_shm_bytes_wait *)pause;

    int result = nr_shm_bytes_get_short(shm, wait->message, &wait->frees);

    wait->is_done = result == 0;
    return result != -EAGAIN;
}

static bool nr_shm_bytes_look_to_take(struct nr_shm *shm, struct nr_shm_pause *pause)
{
    (void)pause;
    return nr_shm_bytes_may_recv(shm);
}

int nr_shm_bytes_recv(struct naru_endpoint *endpoint, struct nr_in *in,
                      struct nr_deadline *deadline)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_shm_bytes_wait wait = {.pause.look = nr_shm_bytes_look, .message = in->message};
    int result = nr_shm_bytes_begin_receive(shm);

    while (result == 0 && !wait.is_done) {
        bool is_there = nr_shm_bytes_look(shm, &wait.pause);
        if (wait.is_done)
            break;
        result = is_there ? nr_shm_bytes_get_long(shm, in->message) : -EAGAIN;
        if (result == 0 || result == -EMSGSIZE)
            break;
        result = nr_shm_bytes_empty(shm, &wait.pause, result, deadline);
    }
    if (result == 0)
        nr_shm_pause_end(shm, &wait.pause);
    if (wait.frees)
        nr_shm_wake(shm, nr_shm_gate_full(shm, false));
    return result;
}

/* One that nr_line_get() leaves to others. */
static int nr_shm_bytes_get_apart(struct nr_shm *shm, void *data, size_t capacity_bytes,
                                  bool *ret_frees)
{
    struct nr_line_record record;

    if (nr_line_peek(&shm->in, &record) < 0 || record.size_bytes > capacity_bytes)
        return -EMSGSIZE;
    nr_line_taking(&shm->in, &record);
    if (record.size_bytes)
        nr_line_copy(&record, data);
    *ret_frees = nr_line_release(&shm->in, &record);
    return (int)record.size_bytes;
}

/* What was not seen yet. */
static nr_apart int nr_shm_bytes_recv_next(struct nr_shm *shm, void *data, size_t capacity_bytes,
                                           int64_t timeout_ns)
{
    bool frees = false;
    int result = nr_line_get_next(&shm->in, data, capacity_bytes, &frees);

    if (result == -EAGAIN)
        for (int spins = nr_shm_short_spins(shm, timeout_ns); spins && result == -EAGAIN; spins--) {
            nr_relax();
            result = nr_line_get_next(&shm->in, data, capacity_bytes, &frees);
        }
    if (result == -EMSGSIZE)
        result = nr_shm_bytes_get_apart(shm, data, capacity_bytes, &frees);
    if (frees)
        nr_shm_wake(shm, nr_shm_gate_full(shm, false));
    return result < 0 ? -EAGAIN : result;
}

int nr_shm_bytes_recv_short(struct naru_endpoint *endpoint, void *data, size_t capacity_bytes,
                            int64_t timeout_ns)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    size_t most_bytes = shm->endpoint.options.message_size_max_bytes;

    if (!nr_os_futex_rearm(&shm->header->death_word) || shm->is_holding)
        return -EAGAIN;
    if (capacity_bytes > most_bytes)
        capacity_bytes = most_bytes;
    int size_bytes = nr_line_get_seen(&shm->in, data, capacity_bytes);
    return size_bytes >= 0 ? size_bytes
                           : nr_shm_bytes_recv_next(shm, data, capacity_bytes, timeout_ns);
}

/* What a batch fills in of each: all but data and room. */
static inline void nr_shm_bytes_received(struct naru_message *message, size_t size_bytes)
{
    enum { REST = offsetof(struct naru_message, sequence), HALF_BYTES = 48 };
    char *rest = (char *)message + REST;

    message->size_bytes = size_bytes;
    memset(rest, 0, HALF_BYTES); /* in steps, since string instructions take long to begin */
    memset(rest + HALF_BYTES, 0, sizeof *message - REST - HALF_BYTES);
    message->known = NARU_KNOWS_TYPE | NARU_KNOWS_DELIVERIES;
    message->deliveries = 1;
}

/* Small ones. */
static size_t nr_shm_bytes_read(struct nr_shm *shm, struct naru_message *messages, size_t count,
                                bool *ret_frees)
{
    size_t most_bytes = shm->endpoint.options.message_size_max_bytes, received = 0;
    struct nr_line_reading reading = nr_line_read_begin(&shm->in);

    for (; received < count; received++) {
        struct naru_message *message = &messages[received];
        size_t capacity_bytes = message->capacity_bytes;
        int size_bytes = nr_line_read(&shm->in, &reading, message->data,
                                      capacity_bytes < most_bytes ? capacity_bytes : most_bytes);
        if (size_bytes < 0)
            break;
        nr_shm_bytes_received(message, (size_t)size_bytes);
    }
    *ret_frees |= nr_line_read_end(&shm->in, &reading);
    return received;
}

/* Those of one run. */
static size_t nr_shm_bytes_read_run(struct nr_shm *shm, struct naru_message *messages, size_t count,
                                    bool *ret_frees)
{
    struct nr_line_run run;
    size_t received = 0;

    if (!nr_line_run_find(&shm->in, &run) ||
        run.size_bytes > shm->endpoint.options.message_size_max_bytes)
        return 0;
    for (; received < count && run.index < run.count &&
           messages[received].capacity_bytes >= run.size_bytes;
         received++) {
        nr_line_run_read(&shm->in, &run, messages[received].data);
        nr_shm_bytes_received(&messages[received], run.size_bytes);
    }
    if (received)
        *ret_frees |= nr_line_run_end(&shm->in, &run);
    return received;
}

static size_t nr_shm_bytes_read_one(struct nr_shm *shm, struct naru_message *message,
                                    bool *ret_frees)
{
    bool frees = false;

    if (nr_shm_bytes_get_short(shm, message, &frees) < 0)
        return 0;
    nr_shm_bytes_received(message, message->size_bytes);
    *ret_frees |= frees;
    return 1;
}

size_t nr_shm_bytes_recv_more(struct naru_endpoint *endpoint, struct naru_message *messages,
                              size_t count)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    size_t received = 0, before;
    bool frees = false;

    nr_shm_bytes_operate(shm);
    if (shm->is_holding)
        return 0;
    do {
        before = received;
        received += nr_shm_bytes_read(shm, &messages[received], count - received, &frees);
        if (received < count)
            received += nr_shm_bytes_read_run(shm, &messages[received], count - received, &frees);
        if (received < count && received == before)
            received += nr_shm_bytes_read_one(shm, &messages[received], &frees);
    } while (received > before && received < count);
    if (frees)
        nr_shm_wake(shm, nr_shm_gate_full(shm, false));
    return received;
}

/* In place where it stands in one piece; else, of two lines, a copy. */
int nr_shm_bytes_take(struct naru_endpoint *endpoint, struct naru_message *ret,
                      struct nr_deadline *deadline)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_shm_pause pause = {.look = nr_shm_bytes_look_to_take};
    struct nr_line_record *record = &shm->held_record;
    int result = nr_shm_bytes_begin_receive(shm);

    if (result < 0)
        return result;
    while ((result = nr_shm_bytes_peek(shm, record)) < 0) {
        result = nr_shm_bytes_empty(shm, &pause, result, deadline);
        if (result < 0)
            return result;
    }
    nr_shm_pause_end(shm, &pause);
    nr_shm_bytes_describe(shm, record, ret);
    ret->data = (void *)record->first;
    if (record->second) {
        nr_line_copy(record, shm->held_copy);
        ret->data = shm->held_copy;
    }
    ret->capacity_bytes = record->size_bytes;
    shm->is_holding = true;
    return 0;
}

int nr_shm_bytes_ack(struct naru_endpoint *endpoint, struct naru_message *message)
{
    struct nr_shm *shm = nr_shm_of(endpoint);

    (void)message;
    shm->is_holding = false;
    nr_shm_bytes_done(shm, &shm->held_record);
    return 0;
}

/* It is still the next one; from now on it is flagged. */
int nr_shm_bytes_requeue(struct naru_endpoint *endpoint, struct naru_message *message)
{
    struct nr_shm *shm = nr_shm_of(endpoint);

    (void)message;
    shm->is_holding = false;
    nr_line_flag(&shm->in, &shm->held_record);
    return 0;
}
