/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * cell -- the newest value of one thing, for any number of readers
 *
 * What       One writer at a time replaces a value; readers copy the newest whole one. Version n stands in
 *            buffer n % count, of which there are at least three: so the newest value and the one before stay
 *            whole while the next is written, and neither side waits for the other.
 * Memory     Shared; offsets only, no system calls. Zeroed memory is a cell without a value. Readers write nothing.
 * Writers    latest, buffers: whoever has the seat. The seat (data/seat.h): by CAS, and the repairer.
 * Ordering   [R1] latest -> [A1]: the version and its payload. [W1], [W2] (data/words.h): a reader that was
 *            overtaken sees that the buffer's version has changed. [R2] -> [A2]: and then a newer `latest`.
 * Death      A writer killed anywhere leaves the last whole value: what it had begun is in a buffer that `latest`
 *            does not name, and is overwritten by the next writer. Nothing has to be repaired but the seat.
 * Trust      Sizes are checked before use; work per call is bounded.
 * Returns    0; -EAGAIN nothing newer; -EMSGSIZE no room for it; -EBADMSG the memory is damaged.
 */
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct nr_cell_buffer {
    _Atomic uint64_t version; /* 0: being written */
    _Atomic uint32_t size_bytes;
    _Atomic int32_t sender_pid;
    _Atomic int64_t type;
    uint64_t reserved;
    _Atomic uint64_t payload[];
};

struct nr_cell_shared {
    _Alignas(64) _Atomic uint64_t latest; /* version; 0: none yet */
    _Alignas(64) _Atomic uint64_t writer; /* the seat */
};

struct nr_cell {
    struct nr_cell_shared *shared;
    char *buffers;
    uint32_t buffers_count; /* at least NR_CELL_BUFFERS_LEAST */
    size_t value_bytes;     /* the largest value */
};

struct nr_cell_value {
    uint64_t version;
    size_t size_bytes;
    int64_t type;
    int32_t sender_pid;
};

enum { NR_CELL_BUFFERS_LEAST = 3 };

/* The handle's sizes are set. */
size_t nr_cell_bytes(const struct nr_cell *sizes);
void nr_cell_attach(struct nr_cell *cell, void *memory);

/* -- who has the seat -- */

/* The buffer of the next version, to be written (nr_words_store(), or in place) and then published. */
struct nr_cell_buffer *nr_cell_begin(struct nr_cell *cell);
void nr_cell_publish(struct nr_cell *cell, struct nr_cell_buffer *buffer,
                     const struct nr_cell_value *value);

/* -- anyone -- */

static inline uint64_t nr_cell_latest(const struct nr_cell *cell)
{
    return atomic_load_explicit(&cell->shared->latest, memory_order_acquire); /* [A1] */
}

/* Copies the newest value, if its version is above `seen`. -EMSGSIZE: ret->size_bytes is what it needs. */
int nr_cell_read(const struct nr_cell *cell, uint64_t seen, void *data, size_t capacity_bytes,
                 struct nr_cell_value *ret);
