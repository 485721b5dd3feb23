/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * line -- what a line of a line ring says: its stamp, where the next message stands, and what stands apart
 *
 * For line_ring.c, line_ring_sit.c, line_short.h and line_batch.h. What it all means, and what holds: line_ring.h.
 */
#include "data/line_ring.h"
#include <assert.h>
#include <errno.h>
#include <string.h>

enum { NR_LINE_NONE, NR_LINE_INSIDE, NR_LINE_SMALL, NR_LINE_ONE, NR_LINE_APART, NR_LINE_RUN };
enum {
    NR_LINE_LAP_SHIFT = 4,
    NR_LINE_LAP_MASK = 0xffff,
    NR_LINE_SIZE_SHIFT =
        20, /* ONE, RUN: 8 bits of size, then is_typed, or the number of messages */
    NR_LINE_SIZE_MASK = 0xff,
    NR_LINE_TYPED_SHIFT = 28,
    NR_LINE_COUNT_SHIFT = 28,
    NR_LINE_COUNT_MASK = 7,
    NR_LINE_RUN_BYTES = 64, /* most of a message: it stands in two lines at most */
    NR_LINE_CODE_BITS = 6,  /* SMALL */
    NR_LINE_CODE_MASK = 63,
    NR_LINE_SMALL_MOST = 7, /* messages, also of a run; and 8-byte units of a line */
    NR_LINE_INDEX_BITS = 3,
};
#define NR_LINE_CODES_MASK (((uint64_t)1 << NR_LINE_CODE_BITS * NR_LINE_SMALL_MOST) - 1)

struct nr_line {
    _Atomic uint64_t stamp;
    char room[NR_LINE_ROOM_BYTES];
};
static_assert(sizeof(struct nr_line) == NR_LINE_BYTES, "a cache line");

static inline struct nr_line *nr_line_at(const struct nr_line_ring *ring, uint64_t line)
{
    return (struct nr_line *)(void *)(ring->lines +
                                      (line & (ring->lines_count - 1)) * NR_LINE_BYTES);
}

/* What a valid stamp of that line begins with, with a kind. */
static inline uint64_t nr_line_stamp(const struct nr_line_ring *ring, uint64_t line, unsigned kind)
{
    return ((line >> ring->lap_shift & NR_LINE_LAP_MASK) << NR_LINE_LAP_SHIFT) | kind;
}

/* The kind of a stamp if it is valid for that line; else NONE. Zeroed memory has the lap of the first round. */
static inline unsigned nr_line_kind(const struct nr_line_ring *ring, uint64_t line, uint64_t stamp)
{
    unsigned kind = stamp & 15;

    if (kind < NR_LINE_SMALL || kind > NR_LINE_RUN ||
        (stamp >> NR_LINE_LAP_SHIFT & NR_LINE_LAP_MASK) !=
            (line >> ring->lap_shift & NR_LINE_LAP_MASK))
        return NR_LINE_NONE;
    return kind;
}

static inline unsigned nr_line_code(uint64_t stamp, unsigned index)
{
    return index >= NR_LINE_SMALL_MOST
               ? 0
               : stamp >> (NR_LINE_SIZE_SHIFT + NR_LINE_CODE_BITS * index) & NR_LINE_CODE_MASK;
}

static inline unsigned nr_line_units(uint32_t size_bytes)
{
    return (size_bytes + 7) / 8;
}

static inline uint64_t nr_line_position(uint64_t line, unsigned index)
{
    return line << NR_LINE_INDEX_BITS | index;
}

static inline unsigned nr_line_run_size(uint64_t stamp)
{
    return stamp >> NR_LINE_SIZE_SHIFT & NR_LINE_SIZE_MASK;
}

static inline unsigned nr_line_run_count(uint64_t stamp)
{
    return stamp >> NR_LINE_COUNT_SHIFT & NR_LINE_COUNT_MASK;
}

/* Lines that so many units take. */
static inline unsigned nr_line_run_lines(unsigned units)
{
    return (units + NR_LINE_SMALL_MOST - 1) / NR_LINE_SMALL_MOST;
}

/* The position behind a message of a run. */
static inline uint64_t nr_line_run_next(uint64_t line, unsigned index, uint64_t stamp)
{
    unsigned count = nr_line_run_count(stamp);

    return index + 1 < count
               ? nr_line_position(line, index + 1)
               : nr_line_position(
                     line + nr_line_run_lines(count * nr_line_units(nr_line_run_size(stamp))), 0);
}

/* Is there such a message in that run at all? */
static inline bool nr_line_run_has(uint64_t stamp, unsigned index)
{
    unsigned size_bytes = nr_line_run_size(stamp);

    return index < nr_line_run_count(stamp) && size_bytes > 0 && size_bytes <= NR_LINE_RUN_BYTES;
}

/* One like it would not fit beside it: the receiver then needs not look at this line again for more. */
static inline bool nr_line_stands_alone(size_t size_bytes)
{
    return size_bytes > 8 * (NR_LINE_SMALL_MOST / 2);
}

/*
 * The stamp of the line with the next message: *line, *index are moved on to it if need be, and *units told to start
 * anew. NONE if there is none. A line that had something and has no more is done with as soon as the next one is
 * valid: its stamp is then looked at once more, since the sender may have added to it before it went on. The next line's
 * stamp has ordered that.
 */
static inline unsigned nr_line_find(const struct nr_line_ring *ring, uint64_t *line,
                                    unsigned *index, uint64_t *ret_stamp)
{
    uint64_t stamp =
        atomic_load_explicit(&nr_line_at(ring, *line)->stamp, memory_order_acquire); /* [A1] */
    unsigned kind = nr_line_kind(ring, *line, stamp);

    if (kind == NR_LINE_SMALL && !nr_line_code(stamp, *index)) {
        uint64_t next = atomic_load_explicit(&nr_line_at(ring, *line + 1)->stamp,
                                             memory_order_acquire); /* [A1] */
        unsigned next_kind = nr_line_kind(ring, *line + 1, next);
        if (next_kind == NR_LINE_NONE)
            return NR_LINE_NONE;
        stamp = atomic_load_explicit(&nr_line_at(ring, *line)->stamp, memory_order_relaxed);
        if (!nr_line_code(stamp, *index)) {
            ++*line;
            *index = 0;
            stamp = next;
            kind = next_kind;
        }
    }
    *ret_stamp = stamp;
    return kind;
}

/* -- what stands apart, and the way over what was sent ---------------------------------------- */

struct nr_line_apart { /* in the room of an APART line */
    uint64_t position;
    uint64_t size_bytes;
    int64_t type;
    uint64_t offset; /* position in the ring, so that the receiver need not divide */
};

/* Lines of a ONE message; its type counts. */
static inline unsigned nr_line_one_lines(uint64_t stamp)
{
    unsigned bytes = (stamp >> NR_LINE_SIZE_SHIFT & NR_LINE_SIZE_MASK) +
                     (stamp >> NR_LINE_TYPED_SHIFT & 1 ? NR_LINE_TYPE_BYTES : 0);
    return bytes > NR_LINE_ROOM_BYTES ? 2 : 1;
}

static inline uint64_t nr_line_round(uint64_t bytes)
{
    return (bytes + NR_LINE_BYTES - 1) / NR_LINE_BYTES * NR_LINE_BYTES;
}

/* What an APART line says, checked: one piece of the ring of bytes. */
static inline bool nr_line_apart_get(const struct nr_line_ring *ring, uint64_t line,
                                     struct nr_line_apart *ret)
{
    memcpy(ret, nr_line_at(ring, line)->room, sizeof *ret);
    __asm__ volatile("" : "+m"(*ret)); /* fetched once: what is checked is what is used */
    return ret->size_bytes <= ring->bytes_count &&
           ret->offset <= ring->bytes_count - ret->size_bytes;
}

/* Steps over what a sender has published at *line. 1; 0: nothing there; -EBADMSG. *apart is filled in if it is
   an APART line, and else has the position UINT64_MAX. */
static inline int nr_line_step(const struct nr_line_ring *ring, uint64_t *line,
                               struct nr_line_apart *apart)
{
    uint64_t stamp = atomic_load_explicit(&nr_line_at(ring, *line)->stamp, memory_order_relaxed);
    unsigned kind = nr_line_kind(ring, *line, stamp);

    apart->position = UINT64_MAX;
    if (kind == NR_LINE_NONE)
        return 0;
    if (kind == NR_LINE_APART && !nr_line_apart_get(ring, *line, apart))
        return -EBADMSG;
    if (kind == NR_LINE_RUN) {
        if (!nr_line_run_has(stamp, 0))
            return -EBADMSG;
        *line = nr_line_run_next(*line, NR_LINE_SMALL_MOST, stamp) >> NR_LINE_INDEX_BITS;
        return 1;
    }
    *line += kind == NR_LINE_ONE ? nr_line_one_lines(stamp) : 1;
    return 1;
}

/* -- copies ----------------------------------------------------------------------------------- */

/* At most 64 bytes, without a call: from both ends, which overlap. */
static inline void nr_line_move(void *to, const void *from, size_t size_bytes)
{
    char *last = (char *)to + size_bytes;
    const char *from_last = (const char *)from + size_bytes;
    char a[16], b[16], c[16], d[16]; /* not one of 64, which the compiler would keep in memory */

    if (size_bytes >= 32) {
        memcpy(a, from, 16);
        memcpy(b, (const char *)from + 16, 16);
        memcpy(c, from_last - 32, 16);
        memcpy(d, from_last - 16, 16);
        memcpy(to, a, 16);
        memcpy((char *)to + 16, b, 16);
        memcpy(last - 32, c, 16);
        memcpy(last - 16, d, 16);
    } else if (size_bytes >= 16) {
        memcpy(a, from, 16);
        memcpy(b, from_last - 16, 16);
        memcpy(to, a, 16);
        memcpy(last - 16, b, 16);
    } else if (size_bytes > 8) {
        memcpy(a, from, 8);
        memcpy(b, from_last - 8, 8);
        memcpy(to, a, 8);
        memcpy(last - 8, b, 8);
    } else if (size_bytes == 8) {
        memcpy(to, from, 8);
    } else if (size_bytes >= 4) {
        memcpy(a, from, 4);
        memcpy(b, from_last - 4, 4);
        memcpy(to, a, 4);
        memcpy(last - 4, b, 4);
    } else if (size_bytes) { /* else there may be no memory at all */
        memcpy(a, from, 1);
        memcpy(b, (const char *)from + size_bytes / 2, 1);
        memcpy(c, from_last - 1, 1);
        memcpy(to, a, 1);
        memcpy((char *)to + size_bytes / 2, b, 1);
        memcpy(last - 1, c, 1);
    }
}
