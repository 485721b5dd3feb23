/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * line_batch -- several messages into a line ring, or out of it, at the cost of their lines
 *
 * What       Small messages without a type are added to a line until it is full, and then its stamp is stored, once. Up to 7
 *            of one size, of 25 to 64 bytes, make a run: they stand in as many lines as each has units, without a gap, and
 *            the first line's stamp tells of all. The receiver looks at a stamp once for all that it tells of, and moves
 *            head once for all that it took. What is not for this way (empty, larger, typed, apart, flagged) stops the batch,
 *            and goes through line_ring.h.
 * Use        begin, any number of messages, end. Nothing else is done with the ring in between. Inlined, so that what
 *            a batch knows of its line stays in registers.
 * Ordering   [R1], [A1], [R2] of line_ring.c: a stamp is stored after all that it tells of, head after all that was read.
 * Death      A sender: what a stamp told of is committed, the rest has never been there. A receiver: all that it took since
 *            begin comes again, unflagged, as nobody has had it from the call that took it.
 * Trust      As line_ring.h: a stamp is fetched once, and what it says is checked.
 */
#include "data/line.h"

/* -- small ones: sending ---------------------------------------------------------------------- */

struct nr_line_writing {
    struct nr_line *line; /* the open one; NULL: none */
    uint64_t stamp;       /* of what stands in it */
    unsigned index, units;
    unsigned left; /* units that may still be used; fewer where empty messages have taken codes */
};

static inline struct nr_line_writing nr_line_write_begin(const struct nr_line_ring *ring)
{
    if (!ring->open_stamp)
        return (struct nr_line_writing){0};
    unsigned most = ring->index > ring->units ? ring->index : ring->units;
    return (struct nr_line_writing){
        .line = nr_line_at(ring, ring->line - 1),
        .stamp = ring->open_stamp,
        .index = ring->index,
        .units = ring->units,
        .left = NR_LINE_SMALL_MOST - most,
    };
}

/* Publishes what was written; to be followed by begin. */
static inline void nr_line_write_end(struct nr_line_ring *ring,
                                     const struct nr_line_writing *writing)
{
    if (writing->stamp == ring->open_stamp)
        return;
    atomic_store_explicit(&writing->line->stamp, writing->stamp, memory_order_release); /* [R1] */
    ring->open_stamp = writing->stamp;
    ring->index = writing->index;
    ring->units = writing->units;
}

/* Begins the next line. False: full, as far as is known. */
static inline bool nr_line_write_on(struct nr_line_ring *ring, struct nr_line_writing *writing)
{
    if (nr_line_need(ring, 1) < 0)
        return false;
    if (writing->stamp != ring->open_stamp)
        atomic_store_explicit(&writing->line->stamp, writing->stamp,
                              memory_order_release); /* [R1] */
    ring->open_stamp = 0;
    *writing = (struct nr_line_writing){
        .line = nr_line_at(ring, ring->line),
        .stamp = nr_line_stamp(ring, ring->line, NR_LINE_SMALL),
        .left = NR_LINE_SMALL_MOST,
    };
    ring->line++;
    return true;
}

/* False: nothing was done; end, then nr_line_put() or reserve and publish, then begin. */
static inline bool nr_line_write(struct nr_line_ring *ring, struct nr_line_writing *writing,
                                 const void *data, size_t size_bytes)
{
    unsigned units = nr_line_units((uint32_t)size_bytes);

    if (size_bytes == 0 || nr_line_stands_alone(size_bytes))
        return false;
    if (units > writing->left && !nr_line_write_on(ring, writing))
        return false;
    nr_line_move(writing->line->room + 8 * writing->units, data, size_bytes);
    writing->stamp |= (size_bytes + 1)
                      << (NR_LINE_SIZE_SHIFT + NR_LINE_CODE_BITS * writing->index++);
    writing->units += units;
    writing->left -= units;
    return true;
}

/* -- small ones: receiving -------------------------------------------------------------------- */

struct nr_line_reading {
    uint64_t line;
    uint64_t codes; /* of the messages in it that were seen and not read; 0: look again */
    const char *room;
    unsigned index, units;
};

static inline struct nr_line_reading nr_line_read_begin(const struct nr_line_ring *ring)
{
    return (struct nr_line_reading){.line = ring->line, .index = ring->index, .units = ring->units};
}

/* Looks for more; no codes: there is none, or one that is not for this way. */
static inline void nr_line_read_on(const struct nr_line_ring *ring, struct nr_line_reading *reading)
{
    uint64_t stamp, line = reading->line;
    unsigned index = reading->index;

    if (nr_line_find(ring, &line, &index, &stamp) != NR_LINE_SMALL ||
        nr_line_position(line, index) < ring->redelivered_until)
        return;
    if (line != reading->line)
        reading->units = 0;
    reading->line = line;
    reading->index = index;
    reading->room = nr_line_at(ring, line)->room;
    reading->codes =
        (stamp >> NR_LINE_SIZE_SHIFT & NR_LINE_CODES_MASK) >> NR_LINE_CODE_BITS * index;
}

/* The size of the next message, which was copied; negative: none was; end, and go through line_ring.h. No message is as
   large as no code would have it. */
static inline int nr_line_read(const struct nr_line_ring *ring, struct nr_line_reading *reading,
                               void *to, size_t capacity_bytes)
{
    if (!reading->codes)
        nr_line_read_on(ring, reading);
    unsigned size_bytes = (unsigned)(reading->codes & NR_LINE_CODE_MASK) - 1;
    if (size_bytes > capacity_bytes)
        return -EMSGSIZE;
    unsigned units = reading->units + nr_line_units(size_bytes);
    if (units > NR_LINE_SMALL_MOST)
        return -EMSGSIZE;
    nr_line_move(to, reading->room + 8 * reading->units, size_bytes);
    reading->codes >>= NR_LINE_CODE_BITS;
    reading->index++;
    reading->units = units;
    return (int)size_bytes;
}

/* All that was read is done with. True: room became free. */
static inline bool nr_line_read_end(struct nr_line_ring *ring,
                                    const struct nr_line_reading *reading)
{
    return (reading->line != ring->line || reading->index != ring->index) &&
           nr_line_pass(ring, reading->line, reading->index, reading->units);
}

/* -- runs ------------------------------------------------------------------------------------- */

struct nr_line_run {
    uint64_t line; /* with the stamp */
    unsigned size_bytes, index, count;
};

/* Where a message of a run stands. */
struct nr_line_run_place {
    struct nr_line *line, *second; /* NULL: in one */
    char *room;
    unsigned first_bytes;
};

static inline struct nr_line_run_place nr_line_run_at(const struct nr_line_ring *ring,
                                                      const struct nr_line_run *run, unsigned index)
{
    unsigned unit = index * nr_line_units(run->size_bytes);
    uint64_t number = run->line + unit / NR_LINE_SMALL_MOST;
    unsigned before_bytes = 8 * (unit % NR_LINE_SMALL_MOST);
    struct nr_line *line = nr_line_at(ring, number);
    bool goes_on = before_bytes + run->size_bytes > NR_LINE_ROOM_BYTES;

    return (struct nr_line_run_place){
        .line = line,
        .second = goes_on ? nr_line_at(ring, number + 1) : NULL,
        .room = (char *)line + offsetof(struct nr_line, room) + before_bytes,
        .first_bytes = goes_on ? NR_LINE_ROOM_BYTES - before_bytes : run->size_bytes,
    };
}

static inline bool nr_line_is_for_run(size_t size_bytes)
{
    return nr_line_stands_alone(size_bytes) && size_bytes <= NR_LINE_RUN_BYTES;
}

/* False: there is no room for as many as a run may have. */
static inline bool nr_line_run_begin(struct nr_line_ring *ring, struct nr_line_run *run,
                                     size_t size_bytes)
{
    *run = (struct nr_line_run){.line = ring->line, .size_bytes = (unsigned)size_bytes};
    return nr_line_need(ring, nr_line_units(run->size_bytes)) == 0;
}

/* Each of them once; best from the last to the first, since the receiver looks at the first line. */
static inline void nr_line_run_write(const struct nr_line_ring *ring, const struct nr_line_run *run,
                                     unsigned index, const void *data)
{
    struct nr_line_run_place place = nr_line_run_at(ring, run, index);

    /* Each line gets a stamp in each lap. */
    if (index && place.room == place.line->room)
        atomic_store_explicit(&place.line->stamp, NR_LINE_INSIDE, memory_order_relaxed);
    if (place.second) {
        atomic_store_explicit(&place.second->stamp, NR_LINE_INSIDE, memory_order_relaxed);
        nr_line_move(place.second->room, (const char *)data + place.first_bytes,
                     run->size_bytes - place.first_bytes);
    }
    nr_line_move(place.room, data, place.first_bytes);
}

/* With `count` messages: 1 to 7. */
static inline void nr_line_run_publish(struct nr_line_ring *ring, const struct nr_line_run *run)
{
    uint64_t stamp = nr_line_stamp(ring, run->line, NR_LINE_RUN) |
                     (uint64_t)run->size_bytes << NR_LINE_SIZE_SHIFT |
                     (uint64_t)run->count << NR_LINE_COUNT_SHIFT;

    atomic_store_explicit(&nr_line_at(ring, run->line)->stamp, stamp,
                          memory_order_release); /* [R1] */
    ring->line += nr_line_run_lines(run->count * nr_line_units(run->size_bytes));
    ring->open_stamp = 0;
}

/* False: the next message is not one of a run, or is flagged. */
static inline bool nr_line_run_find(const struct nr_line_ring *ring, struct nr_line_run *run)
{
    uint64_t stamp, line = ring->line;
    unsigned index = ring->index;

    if (nr_line_find(ring, &line, &index, &stamp) != NR_LINE_RUN ||
        nr_line_position(line, index) < ring->redelivered_until || !nr_line_run_has(stamp, index))
        return false;
    *run = (struct nr_line_run){
        .line = line,
        .size_bytes = nr_line_run_size(stamp),
        .index = index,
        .count = nr_line_run_count(stamp),
    };
    return true;
}

/* The next one, if index is not count yet. */
static inline void nr_line_run_read(const struct nr_line_ring *ring, struct nr_line_run *run,
                                    void *to)
{
    struct nr_line_run_place place = nr_line_run_at(ring, run, run->index++);

    nr_line_move(to, place.room, place.first_bytes);
    if (place.second)
        nr_line_move((char *)to + place.first_bytes, place.second->room,
                     run->size_bytes - place.first_bytes);
}

/* All that was read is done with. True: room became free. */
static inline bool nr_line_run_end(struct nr_line_ring *ring, const struct nr_line_run *run)
{
    uint64_t lines = nr_line_run_lines(run->count * nr_line_units(run->size_bytes));

    return run->index < run->count ? nr_line_pass(ring, run->line, run->index, 0)
                                   : nr_line_pass(ring, run->line + lines, 0, 0);
}
