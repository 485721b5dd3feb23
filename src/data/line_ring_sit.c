/* SPDX-License-Identifier: MIT */
/*
 * Contents   sizes - taking one's place; messages are in line_ring.c
 *
 * What the one before has written or read in a seat is known to who sits down there (seat.h, or the kernel that tells of a
 * death): so that needs no order of its own.
 */
#include "data/line.h"
#include <errno.h>

enum { NR_LINE_TAKING_MOST = 1 + 8 }; /* lines between head and taking */

/* -- sizes ------------------------------------------------------------------------------------ */

void nr_line_ring_sizes(uint64_t message_bytes, uint64_t messages, uint64_t *lines, uint64_t *bytes)
{
    uint64_t each = message_bytes > NR_LINE_ROOM_BYTES ? 2 : 1;
    uint64_t power = 4;

    /* One more: a line stays the receiver's until the next one is there. */
    while (power < messages * each + 1)
        power *= 2;
    *lines = power;
    /* One more: messages apart are not split, so up to one is skipped at the end. */
    *bytes = nr_line_round(message_bytes ? message_bytes : 1) * (messages + 1);
}

uint64_t nr_line_ring_memory(uint64_t lines_count, uint64_t bytes_count)
{
    return sizeof(struct nr_line_ring_shared) + lines_count * NR_LINE_BYTES + bytes_count;
}

void nr_line_ring_attach(struct nr_line_ring *ring, void *memory)
{
    ring->shared = memory;
    ring->lines = (char *)memory + sizeof(struct nr_line_ring_shared);
    ring->bytes = ring->lines + ring->lines_count * NR_LINE_BYTES;
    ring->lap_shift = (unsigned)__builtin_ctzll(ring->lines_count);
}

/* -- taking one's place ----------------------------------------------------------------------- */

/* Over all that a sender before has published, to the first line that it has not. */
static int nr_line_sit_sender(struct nr_line_ring *ring)
{
    /* The newest head, by a change that changes nothing: what the sender before has known to be free it may have
       begun to overwrite. */
    ring->head_line = atomic_fetch_or_explicit(&ring->shared->head, 0, memory_order_acquire) >>
                      NR_LINE_INDEX_BITS; /* [A2] */
    ring->line = ring->head_line;
    ring->open_stamp = 0;
    ring->bytes_head = ring->bytes_tail = ring->bytes_at = ring->apart_line = 0;
    while (ring->line - ring->head_line < ring->lines_count) {
        struct nr_line_apart apart;
        int result = nr_line_step(ring, &ring->line, &apart);
        if (result <= 0)
            return result;
        if (apart.position == UINT64_MAX)
            continue;
        if (!ring->apart_line)
            ring->bytes_head = apart.position;
        ring->bytes_tail = nr_line_round(apart.position + apart.size_bytes);
        ring->bytes_at = ring->bytes_tail % ring->bytes_count;
        ring->apart_line = ring->line;
        if (ring->bytes_tail - ring->bytes_head > ring->bytes_count)
            return -EBADMSG;
    }
    return ring->line - ring->head_line == ring->lines_count ? 0 : -EBADMSG;
}

static int nr_line_sit_receiver(struct nr_line_ring *ring)
{
    uint64_t head = atomic_load_explicit(&ring->shared->head, memory_order_relaxed);
    uint64_t taking = atomic_load_explicit(&ring->shared->taking, memory_order_relaxed);
    struct nr_line_record record;

    ring->line = ring->freed_line = head >> NR_LINE_INDEX_BITS;
    ring->index = head & NR_LINE_SMALL_MOST;
    ring->units = 0;
    ring->codes = 0;
    uint64_t stamp =
        atomic_load_explicit(&nr_line_at(ring, ring->line)->stamp, memory_order_relaxed);
    unsigned kind = nr_line_kind(ring, ring->line, stamp);
    if (ring->index && kind != NR_LINE_SMALL &&
        !(kind == NR_LINE_RUN && nr_line_run_has(stamp, ring->index)))
        return -EBADMSG;
    for (unsigned i = 0; i < ring->index && kind == NR_LINE_SMALL; i++) {
        unsigned code = nr_line_code(stamp, i);
        if (code == 0)
            return -EBADMSG;
        ring->units += nr_line_units(code - 1);
    }
    if (ring->units > NR_LINE_SMALL_MOST)
        return -EBADMSG;
    /* From a line that is done with, over those of the next message, or of its run. */
    if (taking > head && (taking >> NR_LINE_INDEX_BITS) - ring->line > NR_LINE_TAKING_MOST)
        return -EBADMSG;
    ring->redelivered_until = ring->at_most_once ? 0 : taking;
    if (!ring->at_most_once || taking <= head)
        return 0;
    if (nr_line_peek(ring, &record) < 0) /* it was in a dead hand */
        return -EBADMSG;
    nr_line_release(ring, &record);
    return 1;
}

int nr_line_ring_sit(struct nr_line_ring *ring, bool as_sender)
{
    return as_sender ? nr_line_sit_sender(ring) : nr_line_sit_receiver(ring);
}
