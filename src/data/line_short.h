/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * line_short -- the short way through a line ring, for a message without a type: inlined, with few stores
 *
 * What       Put: in the open line, in one that it begins, or in two. Get: of what a look at a line has told of, the rest is
 *            handed out without another look.
 * Stores     A sender's stores become visible in their order, each behind those to lines that the other processor has to give
 *            up first: so each store on this way, to the stack as well, costs time between two processes.
 * Ordering, Death, Trust  As line_ring.h.
 */
#include "data/line.h"

/* Adds a message to the open line. False: nothing was done. */
static inline bool nr_line_add(struct nr_line_ring *ring, const void *data, size_t size_bytes)
{
    unsigned units = ring->units + nr_line_units((uint32_t)size_bytes);

    if (!ring->open_stamp || size_bytes - 1 >= NR_LINE_ROOM_BYTES || units > NR_LINE_SMALL_MOST ||
        ring->index >= NR_LINE_SMALL_MOST)
        return false;
    struct nr_line *line = nr_line_at(ring, ring->line - 1);
    uint64_t stamp = ring->open_stamp |
                     (size_bytes + 1) << (NR_LINE_SIZE_SHIFT + NR_LINE_CODE_BITS * ring->index);
    nr_line_move(line->room + 8 * ring->units, data, size_bytes);
    ring->index++;
    ring->units = units;
    ring->open_stamp = stamp;
    atomic_store_explicit(&line->stamp, stamp, memory_order_release); /* [R1] */
    return true;
}

/* In a line of its own, with room for more, or in two. */
static inline bool nr_line_put_next(struct nr_line_ring *ring, const void *data, size_t size_bytes)
{
    uint64_t number = ring->line;
    struct nr_line *line = nr_line_at(ring, number);

    if (size_bytes > NR_LINE_INLINE_BYTES || size_bytes == 0 ||
        number + 2 - ring->head_line > ring->lines_count)
        return false;
    if (!nr_line_stands_alone(size_bytes)) {
        uint64_t stamp = nr_line_stamp(ring, number, NR_LINE_SMALL) | (uint64_t)(size_bytes + 1)
                                                                          << NR_LINE_SIZE_SHIFT;
        nr_line_move(line->room, data, size_bytes);
        ring->open_stamp = stamp;
        ring->index = 1;
        ring->units = nr_line_units((uint32_t)size_bytes);
        ring->line = number + 1;
        atomic_store_explicit(&line->stamp, stamp, memory_order_release); /* [R1] */
        return true;
    }
    if (size_bytes <= NR_LINE_ROOM_BYTES) {
        nr_line_move(line->room, data, size_bytes);
        ring->line = number + 1;
    } else {
        struct nr_line *second = nr_line_at(ring, number + 1);
        nr_line_move(second->room, (const char *)data + NR_LINE_ROOM_BYTES,
                     size_bytes - NR_LINE_ROOM_BYTES);
        atomic_store_explicit(&second->stamp, NR_LINE_INSIDE, memory_order_relaxed);
        nr_line_move(line->room, data, NR_LINE_ROOM_BYTES);
        ring->line = number + 2;
    }
    if (ring->open_stamp)
        ring->open_stamp = 0;
    atomic_store_explicit(&line->stamp,
                          nr_line_stamp(ring, number, NR_LINE_ONE) | (uint64_t)size_bytes
                                                                         << NR_LINE_SIZE_SHIFT,
                          memory_order_release); /* [R1] */
    return true;
}

static inline bool nr_line_put(struct nr_line_ring *ring, const void *data, size_t size_bytes)
{
    return nr_line_add(ring, data, size_bytes) || nr_line_put_next(ring, data, size_bytes);
}

/* One that was seen when an earlier one was taken, and is not the last of these. Its line stays as it is. */
static inline int nr_line_get_seen(struct nr_line_ring *ring, void *to, size_t capacity_bytes)
{
    uint64_t codes = ring->codes, rest = codes >> NR_LINE_CODE_BITS;
    size_t size_bytes = (codes & NR_LINE_CODE_MASK) - 1;
    unsigned units = ring->units + nr_line_units((uint32_t)size_bytes);

    if (!rest || size_bytes > capacity_bytes || units > NR_LINE_SMALL_MOST)
        return -EAGAIN;
    nr_line_move(to, nr_line_at(ring, ring->line)->room + 8 * ring->units, size_bytes);
    ring->codes = rest;
    ring->units = units;
    atomic_store_explicit(&ring->shared->head, nr_line_position(ring->line, ++ring->index),
                          memory_order_release); /* [R2] */
    return (int)size_bytes;
}

static inline int nr_line_get(struct nr_line_ring *ring, void *to, size_t capacity_bytes,
                              bool *ret_frees)
{
    int size_bytes = nr_line_get_seen(ring, to, capacity_bytes);

    *ret_frees = false;
    return size_bytes >= 0 ? size_bytes : nr_line_get_next(ring, to, capacity_bytes, ret_frees);
}
