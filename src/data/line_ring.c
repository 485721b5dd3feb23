/* SPDX-License-Identifier: MIT */
/*
 * Contents   sending - receiving - the short way; sizes and taking one's place are in line_ring_sit.c
 *
 * [R1] The stamp is stored last, with release: a receiver that loads it with acquire [A1] sees the payload, and the
 *      INSIDE stamp of a second line. Without it, it could read what the lap before has left there.
 * [R2] head is stored with release when the payload was read: a sender that sees it [A2] may write there. Without
 *      it a late read could see the next lap's message.
 * A line is valid for its lap only, and in each lap each line gets a stamp of that lap or INSIDE: so 16 bits of
 * lap are enough, as one would be.
 */
#include "base/cleanup.h"
#include "data/line.h"
#include <errno.h>
#include <string.h>

/* -- sending ---------------------------------------------------------------------------------- */

enum {
    NR_LINE_NEAR_BYTES = 2 * 1024,
    NR_LINE_NEAR_MOST_BYTES = 4 * 1024, /* of a message that comes back there */
};

/* The receiver has passed the lines up to head_line: what they told of in the ring of bytes is free. */
static int nr_line_free_bytes(struct nr_line_ring *ring, uint64_t head_line)
{
    struct nr_line_apart apart;
    uint64_t line = ring->head_line;

    if (head_line >= ring->apart_line) {
        ring->bytes_head = ring->bytes_tail;
        return 0;
    }
    while (line < head_line) {
        if (nr_line_step(ring, &line, &apart) <= 0)
            return -EBADMSG;
        if (apart.position != UINT64_MAX)
            ring->bytes_head = nr_line_round(apart.position + apart.size_bytes);
    }
    return line == head_line && ring->bytes_tail - ring->bytes_head <= ring->bytes_count ? 0
                                                                                         : -EBADMSG;
}

/* Looks where the receiver is: more may be free than was known. */
static int nr_line_look(struct nr_line_ring *ring)
{
    uint64_t head_line = atomic_load_explicit(&ring->shared->head, memory_order_acquire) >>
                         NR_LINE_INDEX_BITS; /* [A2] */

    if (head_line > ring->line || head_line < ring->head_line)
        return -EBADMSG;
    int result = nr_line_free_bytes(ring, head_line);
    if (result == 0)
        ring->head_line = head_line;
    return result;
}

int nr_line_need(struct nr_line_ring *ring, unsigned lines)
{
    if (ring->line + lines - ring->head_line <= ring->lines_count)
        return 0;
    int result = nr_line_look(ring);
    if (result < 0)
        return result;
    return ring->line + lines - ring->head_line <= ring->lines_count ? 0 : -EAGAIN;
}

static bool nr_line_fits_open(const struct nr_line_ring *ring, uint32_t size_bytes, int64_t type)
{
    return ring->open_stamp && type == 0 && ring->index < NR_LINE_SMALL_MOST &&
           ring->units + nr_line_units(size_bytes) <= NR_LINE_SMALL_MOST;
}

int nr_line_reserve(struct nr_line_ring *ring, uint32_t size_bytes, int64_t type,
                    struct nr_line_room *ret)
{
    uint32_t bytes = size_bytes + (type ? NR_LINE_TYPE_BYTES : 0);

    if (nr_line_fits_open(ring, size_bytes, type)) {
        *ret = (struct nr_line_room){
            .first = nr_line_at(ring, ring->line - 1)->room + 8 * ring->units,
            .first_bytes = size_bytes,
        };
        return 0;
    }
    if (bytes > NR_LINE_INLINE_BYTES) {
        ret->second = NULL;
        ret->first_bytes = size_bytes;
        return nr_line_reserve_apart(ring, size_bytes, &ret->first);
    }
    int result = nr_line_need(ring, bytes > NR_LINE_ROOM_BYTES ? 2 : 1);
    if (result < 0)
        return result;
    ret->first = nr_line_at(ring, ring->line)->room;
    ret->first_bytes = size_bytes;
    ret->second = NULL;
    if (type) {
        memcpy(ret->first, &type, sizeof type);
        ret->first += NR_LINE_TYPE_BYTES;
    }
    if (bytes > NR_LINE_ROOM_BYTES) {
        ret->first_bytes = NR_LINE_ROOM_BYTES - (type ? NR_LINE_TYPE_BYTES : 0);
        ret->second = nr_line_at(ring, ring->line + 1)->room;
    }
    return 0;
}

static void nr_line_store(struct nr_line_ring *ring, uint64_t line, uint64_t stamp)
{
    atomic_store_explicit(&nr_line_at(ring, line)->stamp, stamp, memory_order_release); /* [R1] */
}

void nr_line_publish(struct nr_line_ring *ring, uint32_t size_bytes, int64_t type)
{
    uint32_t bytes = size_bytes + (type ? NR_LINE_TYPE_BYTES : 0);

    if (nr_line_fits_open(ring, size_bytes, type)) {
        ring->open_stamp |= (uint64_t)(size_bytes + 1)
                            << (NR_LINE_SIZE_SHIFT + NR_LINE_CODE_BITS * ring->index);
        ring->index++;
        ring->units += nr_line_units(size_bytes);
        nr_line_store(ring, ring->line - 1, ring->open_stamp);
    } else if (bytes > NR_LINE_INLINE_BYTES) {
        nr_line_publish_apart(ring, size_bytes, type);
    } else if (type || nr_line_stands_alone(size_bytes)) {
        uint64_t stamp = nr_line_stamp(ring, ring->line, NR_LINE_ONE) |
                         (uint64_t)size_bytes << NR_LINE_SIZE_SHIFT |
                         (uint64_t)(type != 0) << NR_LINE_TYPED_SHIFT;
        if (bytes > NR_LINE_ROOM_BYTES)
            atomic_store_explicit(&nr_line_at(ring, ring->line + 1)->stamp, NR_LINE_INSIDE,
                                  memory_order_relaxed);
        nr_line_store(ring, ring->line, stamp);
        ring->line += bytes > NR_LINE_ROOM_BYTES ? 2 : 1;
        ring->open_stamp = 0;
    } else {
        ring->open_stamp = nr_line_stamp(ring, ring->line, NR_LINE_SMALL) |
                           (uint64_t)(size_bytes + 1) << NR_LINE_SIZE_SHIFT;
        ring->index = 1;
        ring->units = nr_line_units(size_bytes);
        nr_line_store(ring, ring->line, ring->open_stamp);
        ring->line++;
    }
}

/* At the end of the ring of bytes; and now and then, when all was received, since messages of a few lines are faster in
   memory that both processors have near, and what is skipped leaves room for it. Large ones are faster where the
   receiver has nothing yet. */
static bool nr_line_must_skip(struct nr_line_ring *ring, uint64_t at, uint32_t size_bytes)
{
    if (at + size_bytes > ring->bytes_count)
        return true;
    return size_bytes <= NR_LINE_NEAR_MOST_BYTES && size_bytes <= at && at >= NR_LINE_NEAR_BYTES &&
           at / NR_LINE_NEAR_BYTES != (at + size_bytes) / NR_LINE_NEAR_BYTES &&
           nr_line_look(ring) == 0 && ring->bytes_head == ring->bytes_tail;
}

int nr_line_reserve_apart(struct nr_line_ring *ring, uint32_t size_bytes, char **ret)
{
    int result = nr_line_need(ring, 1);

    if (result < 0)
        return result;
    uint64_t at = ring->bytes_at;
    uint64_t skip = nr_line_must_skip(ring, at, size_bytes) ? ring->bytes_count - at : 0;
    uint64_t until = ring->bytes_tail + skip + size_bytes;
    if (until - ring->bytes_head > ring->bytes_count) {
        result = nr_line_look(ring);
        if (result < 0)
            return result;
        if (until - ring->bytes_head > ring->bytes_count)
            return -EAGAIN;
    }
    ring->apart_at = ring->bytes_tail + skip;
    ring->apart_offset = skip ? 0 : at;
    *ret = ring->bytes + ring->apart_offset;
    return 0;
}

void nr_line_publish_apart(struct nr_line_ring *ring, uint32_t size_bytes, int64_t type)
{
    const struct nr_line_apart apart = {.position = ring->apart_at,
                                        .size_bytes = size_bytes,
                                        .type = type,
                                        .offset = ring->apart_offset};

    memcpy(nr_line_at(ring, ring->line)->room, &apart, sizeof apart);
    nr_line_store(ring, ring->line, nr_line_stamp(ring, ring->line, NR_LINE_APART));
    ring->bytes_tail = nr_line_round(apart.position + size_bytes);
    ring->bytes_at = nr_line_round(apart.offset + size_bytes);
    if (ring->bytes_at == ring->bytes_count)
        ring->bytes_at = 0;
    ring->apart_line = ++ring->line;
    ring->open_stamp = 0;
}

/* -- receiving -------------------------------------------------------------------------------- */

bool nr_line_may_peek(const struct nr_line_ring *ring)
{
    uint64_t head = atomic_load_explicit(&ring->shared->head, memory_order_relaxed), stamp;
    uint64_t line = head >> NR_LINE_INDEX_BITS;
    unsigned index = head & NR_LINE_SMALL_MOST;

    return nr_line_find(ring, &line, &index, &stamp) != NR_LINE_NONE;
}

static bool nr_line_peek_small(const struct nr_line_ring *ring, uint64_t stamp,
                               struct nr_line_record *ret)
{
    uint32_t size_bytes = nr_line_code(stamp, ring->index) - 1;
    unsigned units = ring->units + nr_line_units(size_bytes);

    if (units > NR_LINE_SMALL_MOST)
        return false;
    *ret = (struct nr_line_record){
        .first = nr_line_at(ring, ring->line)->room + 8 * ring->units,
        .first_bytes = size_bytes,
        .size_bytes = size_bytes,
        .next = nr_line_position(ring->line, ring->index + 1),
        .next_units = units,
        .is_last = !nr_line_code(stamp, ring->index + 1),
    };
    return true;
}

static bool nr_line_peek_one(const struct nr_line_ring *ring, uint64_t stamp,
                             struct nr_line_record *ret)
{
    uint32_t size_bytes = stamp >> NR_LINE_SIZE_SHIFT & NR_LINE_SIZE_MASK;
    uint32_t type_bytes = stamp >> NR_LINE_TYPED_SHIFT & 1 ? NR_LINE_TYPE_BYTES : 0;
    uint32_t room_bytes = NR_LINE_ROOM_BYTES - type_bytes;
    const char *room = nr_line_at(ring, ring->line)->room;

    if (size_bytes + type_bytes > NR_LINE_INLINE_BYTES)
        return false;
    *ret = (struct nr_line_record){
        .first = room + type_bytes,
        .first_bytes = size_bytes < room_bytes ? size_bytes : room_bytes,
        .second = size_bytes > room_bytes ? nr_line_at(ring, ring->line + 1)->room : NULL,
        .size_bytes = size_bytes,
        .next = nr_line_position(ring->line + nr_line_one_lines(stamp), 0),
    };
    if (type_bytes)
        memcpy(&ret->type, room, sizeof ret->type);
    return true;
}

static bool nr_line_peek_run(const struct nr_line_ring *ring, uint64_t stamp,
                             struct nr_line_record *ret)
{
    uint32_t size_bytes = nr_line_run_size(stamp);
    unsigned unit = ring->index * nr_line_units(size_bytes);
    uint64_t line = ring->line + unit / NR_LINE_SMALL_MOST;
    uint32_t room_bytes = 8 * (NR_LINE_SMALL_MOST - unit % NR_LINE_SMALL_MOST);

    if (!nr_line_run_has(stamp, ring->index))
        return false;
    *ret = (struct nr_line_record){
        .first = nr_line_at(ring, line)->room + NR_LINE_ROOM_BYTES - room_bytes,
        .first_bytes = size_bytes < room_bytes ? size_bytes : room_bytes,
        .second = size_bytes > room_bytes ? nr_line_at(ring, line + 1)->room : NULL,
        .size_bytes = size_bytes,
        .next = nr_line_run_next(ring->line, ring->index, stamp),
    };
    return true;
}

static bool nr_line_peek_apart(const struct nr_line_ring *ring, struct nr_line_record *ret)
{
    struct nr_line_apart apart;

    if (!nr_line_apart_get(ring, ring->line, &apart))
        return false;
    *ret = (struct nr_line_record){
        .first = ring->bytes + apart.offset,
        .first_bytes = (uint32_t)apart.size_bytes,
        .size_bytes = (uint32_t)apart.size_bytes,
        .type = apart.type,
        .next = nr_line_position(ring->line + 1, 0),
    };
    return true;
}

int nr_line_peek(struct nr_line_ring *ring, struct nr_line_record *ret)
{
    uint64_t stamp, line = ring->line;
    unsigned kind = nr_line_find(ring, &ring->line, &ring->index, &stamp);
    bool is_sane;

    if (kind == NR_LINE_NONE)
        return -EAGAIN;
    if (ring->line != line)
        ring->units = 0;
    if (kind == NR_LINE_SMALL)
        is_sane = nr_line_code(stamp, ring->index) && nr_line_peek_small(ring, stamp, ret);
    else if (kind == NR_LINE_RUN)
        is_sane = nr_line_peek_run(ring, stamp, ret);
    else
        is_sane = ring->index == 0 && (kind == NR_LINE_ONE ? nr_line_peek_one(ring, stamp, ret)
                                                           : nr_line_peek_apart(ring, ret));
    if (!is_sane)
        return -EBADMSG;
    ret->is_redelivered = nr_line_position(ring->line, ring->index) < ring->redelivered_until;
    return 0;
}

void nr_line_copy(const struct nr_line_record *record, void *to)
{
    memcpy(to, record->first, record->first_bytes);
    if (record->second)
        memcpy((char *)to + record->first_bytes, record->second,
               record->size_bytes - record->first_bytes);
}

void nr_line_taking(struct nr_line_ring *ring, const struct nr_line_record *record)
{
    atomic_store_explicit(&ring->shared->taking, record->next, memory_order_relaxed);
}

void nr_line_flag(struct nr_line_ring *ring, const struct nr_line_record *record)
{
    if (ring->redelivered_until < record->next)
        ring->redelivered_until = record->next;
    ring->codes = 0;
}

/* If the sender has gone on to the next line, the one that is done with is free now, not a message later. */
bool nr_line_pass(struct nr_line_ring *ring, uint64_t line, unsigned index, unsigned units)
{
    uint64_t stamp;

    nr_line_find(ring, &line, &index, &stamp);
    ring->units = index ? units : 0;
    ring->codes = 0;
    bool frees = line != ring->freed_line;
    ring->line = ring->freed_line = line;
    ring->index = index;
    atomic_store_explicit(&ring->shared->head, nr_line_position(line, index),
                          memory_order_release); /* [R2] */
    return frees;
}

bool nr_line_release(struct nr_line_ring *ring, const struct nr_line_record *record)
{
    uint64_t line = record->next >> NR_LINE_INDEX_BITS;
    unsigned index = record->next & NR_LINE_SMALL_MOST;
    bool frees = line != ring->freed_line;

    if (record->is_last)
        return nr_line_pass(ring, line, index, record->next_units);
    ring->line = ring->freed_line = line;
    ring->index = index;
    ring->units = record->next_units;
    ring->codes = 0;
    atomic_store_explicit(&ring->shared->head, record->next, memory_order_release); /* [R2] */
    return frees;
}

/* -- the short way -------------------------------------------------------------------------- */

/* In one piece, without a type. Apart, so that the shortest way saves no registers. */
static nr_apart int nr_line_get_apart(struct nr_line_ring *ring, void *to, size_t capacity_bytes,
                                      bool *ret_frees)
{
    struct nr_line_apart apart;

    if (ring->index || !nr_line_apart_get(ring, ring->line, &apart) || apart.type ||
        apart.size_bytes > capacity_bytes)
        return -EMSGSIZE;
    if (apart.size_bytes)
        memcpy(to, ring->bytes + apart.offset, apart.size_bytes);
    ring->freed_line = ++ring->line;
    *ret_frees = true;
    atomic_store_explicit(&ring->shared->head, nr_line_position(ring->line, 0),
                          memory_order_release); /* [R2] */
    return (int)apart.size_bytes;
}

/* Of a line with several. */
static nr_apart int nr_line_get_small(struct nr_line_ring *ring, void *to, size_t capacity_bytes,
                                      bool *ret_frees, uint64_t stamp)
{
    uint64_t size_bytes = (uint64_t)nr_line_code(stamp, ring->index) - 1;
    unsigned units = ring->units + nr_line_units((uint32_t)size_bytes), next = ring->index + 1;

    if (size_bytes > capacity_bytes || units > NR_LINE_SMALL_MOST)
        return -EMSGSIZE;
    nr_line_move(to, nr_line_at(ring, ring->line)->room + 8 * ring->units, size_bytes);
    ring->codes = stamp >> (NR_LINE_SIZE_SHIFT + NR_LINE_CODE_BITS * next) & NR_LINE_CODES_MASK;
    if (!ring->codes) {
        if (next < NR_LINE_SMALL_MOST) {
            *ret_frees = nr_line_pass(ring, ring->line, next, units);
            return (int)size_bytes;
        }
        *ret_frees = true;
        ring->freed_line = ++ring->line;
        ring->index = ring->units = 0;
    } else {
        ring->index = next;
        ring->units = units;
        *ret_frees = ring->line != ring->freed_line;
        ring->freed_line = ring->line;
    }
    atomic_store_explicit(&ring->shared->head, nr_line_position(ring->line, ring->index),
                          memory_order_release); /* [R2] */
    return (int)size_bytes;
}

/* Of one line, or two. */
static nr_apart int nr_line_get_one(struct nr_line_ring *ring, void *to, size_t capacity_bytes,
                                    bool *ret_frees, uint64_t stamp)
{
    uint64_t size_bytes = stamp >> NR_LINE_SIZE_SHIFT;
    const char *room = nr_line_at(ring, ring->line)->room;

    if (ring->index || size_bytes > capacity_bytes || size_bytes > NR_LINE_INLINE_BYTES)
        return -EMSGSIZE; /* with a type: larger than all */
    if (size_bytes > NR_LINE_ROOM_BYTES) {
        nr_line_move(to, room, NR_LINE_ROOM_BYTES);
        room = nr_line_at(ring, ++ring->line)->room;
        nr_line_move((char *)to + NR_LINE_ROOM_BYTES, room, size_bytes - NR_LINE_ROOM_BYTES);
    } else {
        nr_line_move(to, room, size_bytes);
    }
    ring->freed_line = ++ring->line;
    *ret_frees = true;
    atomic_store_explicit(&ring->shared->head, nr_line_position(ring->line, 0),
                          memory_order_release); /* [R2] */
    return (int)size_bytes;
}

/* Without a word to `taking`: the caller has the message only when head has passed it. */
int nr_line_get_next(struct nr_line_ring *ring, void *to, size_t capacity_bytes, bool *ret_frees)
{
    uint64_t stamp, line = ring->line;
    unsigned index = ring->index;
    unsigned kind = nr_line_find(ring, &line, &index, &stamp);

    if (kind == NR_LINE_NONE)
        return -EAGAIN;
    if (ring->line != line) {
        ring->line = line;
        ring->index = ring->units = 0;
    }
    if (nr_line_position(line, index) < ring->redelivered_until)
        return -EMSGSIZE;
    if (kind == NR_LINE_SMALL)
        return nr_line_get_small(ring, to, capacity_bytes, ret_frees, stamp);
    if (kind == NR_LINE_ONE)
        return nr_line_get_one(ring, to, capacity_bytes, ret_frees, stamp);
    return kind == NR_LINE_APART ? nr_line_get_apart(ring, to, capacity_bytes, ret_frees)
                                 : -EMSGSIZE;
}
