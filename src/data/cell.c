/* SPDX-License-Identifier: MIT */
#include "data/cell.h"
#include "data/words.h"
#include <assert.h>
#include <errno.h>
#include <stdbool.h>

/* A reader is overtaken only if two more values were written during its copy. */
enum { NR_CELL_TRIES = 1000 };

static_assert(sizeof(struct nr_cell_buffer) == 32,
              "a small value stands in the line of its version");

static size_t nr_cell_stride(const struct nr_cell *cell)
{
    return (sizeof(struct nr_cell_buffer) + cell->value_bytes + 63) & ~(size_t)63;
}

size_t nr_cell_bytes(const struct nr_cell *sizes)
{
    return sizeof(struct nr_cell_shared) + sizes->buffers_count * nr_cell_stride(sizes);
}

void nr_cell_attach(struct nr_cell *cell, void *memory)
{
    cell->shared = memory;
    cell->buffers = (char *)memory + sizeof(struct nr_cell_shared);
}

static struct nr_cell_buffer *nr_cell_at(const struct nr_cell *cell, uint64_t version)
{
    return (struct nr_cell_buffer *)(void *)(cell->buffers +
                                             version % cell->buffers_count * nr_cell_stride(cell));
}

/* -- writing ---------------------------------------------------------------------------------- */

struct nr_cell_buffer *nr_cell_begin(struct nr_cell *cell)
{
    uint64_t latest = atomic_load_explicit(&cell->shared->latest, memory_order_relaxed);
    struct nr_cell_buffer *buffer = nr_cell_at(cell, latest + 1);

    /* Who still reads the value that was here `count` versions ago must see that it goes. [R2]: and also that
       `latest` has gone on, or it would take the cell for damaged. */
    atomic_store_explicit(&buffer->version, 0, memory_order_release);
    nr_words_fence_write(); /* [W1] */
    return buffer;
}

void nr_cell_publish(struct nr_cell *cell, struct nr_cell_buffer *buffer,
                     const struct nr_cell_value *value)
{
    uint64_t version = atomic_load_explicit(&cell->shared->latest, memory_order_relaxed) + 1;

    atomic_store_explicit(&buffer->size_bytes, (uint32_t)value->size_bytes, memory_order_relaxed);
    atomic_store_explicit(&buffer->sender_pid, value->sender_pid, memory_order_relaxed);
    atomic_store_explicit(&buffer->type, value->type, memory_order_relaxed);
    atomic_store_explicit(&buffer->version, version, memory_order_relaxed);
    /* [R1]: without release a reader of the new version could find the old payload. */
    atomic_store_explicit(&cell->shared->latest, version, memory_order_release);
}

/* -- reading ---------------------------------------------------------------------------------- */

/* One try. False: it was overtaken on the way, and *result says nothing. */
static bool nr_cell_try(const struct nr_cell *cell, uint64_t version, void *data,
                        size_t capacity_bytes, struct nr_cell_value *ret, int *result)
{
    const struct nr_cell_buffer *buffer = nr_cell_at(cell, version);
    size_t size_bytes = atomic_load_explicit(&buffer->size_bytes, memory_order_relaxed);
    struct nr_cell_value value = {
        .version = version,
        .size_bytes = size_bytes,
        .type = atomic_load_explicit(&buffer->type, memory_order_relaxed),
        .sender_pid = atomic_load_explicit(&buffer->sender_pid, memory_order_relaxed),
    };

    *result = size_bytes > cell->value_bytes ? -EBADMSG
              : size_bytes > capacity_bytes  ? -EMSGSIZE
                                             : 0;
    if (*result == 0)
        nr_words_load(data, buffer->payload, size_bytes);
    nr_words_fence_read(); /* [W2] */
    *ret = value;
    return atomic_load_explicit(&buffer->version, memory_order_acquire) == version; /* [A2] */
}

int nr_cell_read(const struct nr_cell *cell, uint64_t seen, void *data, size_t capacity_bytes,
                 struct nr_cell_value *ret)
{
    uint64_t before = 0;

    for (int i = 0; i < NR_CELL_TRIES; i++) {
        uint64_t version = nr_cell_latest(cell); /* [A1] */
        int result;
        if (version <= seen)
            return -EAGAIN;
        if (version == before) /* a buffer loses its version only after `latest` has gone on */
            return -EBADMSG;
        if (nr_cell_try(cell, version, data, capacity_bytes, ret, &result))
            return result;
        before = version;
    }
    return -EAGAIN;
}
