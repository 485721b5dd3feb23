/* SPDX-License-Identifier: MIT */
#include "data/byte_ring.h"
#include <assert.h>
#include <errno.h>
#include <string.h>

enum {
    NR_BYTE_DATA = 0x44,
    NR_BYTE_PAD = 0x50,
    NR_BYTE_SEAT_TRIES = 16, /* each failure is a claim or a clear by another: these are few */
};

struct nr_byte_header {
    uint32_t size_bytes;
    uint32_t kind;
    int64_t type;
};
static_assert(sizeof(struct nr_byte_header) == NR_BYTE_RECORD_BYTES,
              "as the head of the file says");

static uint64_t nr_byte_record_bytes(uint64_t size_bytes)
{
    return NR_BYTE_RECORD_BYTES + ((size_bytes + 7) & ~(uint64_t)7);
}

uint64_t nr_byte_ring_capacity(uint64_t message_bytes, uint64_t records)
{
    uint64_t record = nr_byte_record_bytes(message_bytes);
    uint64_t bytes = record * (records < 2 ? 2 : records);

    return (bytes + 63) & ~(uint64_t)63;
}

size_t nr_byte_ring_bytes(uint64_t capacity_bytes)
{
    return sizeof(struct nr_byte_ring_shared) + capacity_bytes;
}

void nr_byte_ring_attach(struct nr_byte_ring *ring, void *memory)
{
    ring->shared = memory;
    ring->data = (char *)memory + sizeof(struct nr_byte_ring_shared);
}

int nr_byte_ring_sit(struct nr_byte_ring *ring, bool as_sender)
{
    uint64_t tail = atomic_load_explicit(&ring->shared->tail, memory_order_acquire);
    uint64_t head = atomic_load_explicit(&ring->shared->head, memory_order_acquire);

    if (head > tail || tail - head > ring->capacity_bytes || (head | tail) & 7)
        return -EBADMSG;
    ring->position = as_sender ? tail : head;
    ring->other = as_sender ? head : tail;
    ring->reserved_bytes = 0;
    if (as_sender)
        return 0;
    uint64_t taking = atomic_load_explicit(&ring->shared->taking, memory_order_relaxed);
    if (taking > tail || taking & 7)
        return -EBADMSG;
    ring->redelivered_until = ring->at_most_once ? 0 : taking;
    if (ring->at_most_once && taking > head) { /* it was in a dead hand */
        ring->position = taking;
        atomic_store_explicit(&ring->shared->head, taking, memory_order_release);
        return 1;
    }
    return 0;
}

static struct nr_byte_header *nr_byte_at(const struct nr_byte_ring *ring, uint64_t position)
{
    return (struct nr_byte_header *)(void *)(ring->data + position % ring->capacity_bytes);
}

/* A record never wraps: if it does not fit before the end, a PAD record takes the rest. */
int nr_byte_reserve(struct nr_byte_ring *ring, uint32_t size_bytes, char **ret_payload)
{
    uint64_t record = nr_byte_record_bytes(size_bytes);
    uint64_t to_end = ring->capacity_bytes - ring->position % ring->capacity_bytes;
    uint64_t pad = record > to_end ? to_end : 0;
    uint64_t until = ring->position + pad + record;

    if (until - ring->other > ring->capacity_bytes) {
        uint64_t head = atomic_load_explicit(&ring->shared->head, memory_order_acquire); /* [A2] */
        if (head > ring->position || head < ring->other)
            return -EBADMSG;
        ring->other = head;
        if (until - head > ring->capacity_bytes)
            return -EAGAIN;
    }
    if (pad >= NR_BYTE_RECORD_BYTES)
        *nr_byte_at(ring, ring->position) = (struct nr_byte_header){
            .size_bytes = (uint32_t)(pad - NR_BYTE_RECORD_BYTES), .kind = NR_BYTE_PAD};
    ring->pad_bytes = pad;
    ring->reserved_bytes = size_bytes;
    *ret_payload = (char *)(nr_byte_at(ring, ring->position + pad) + 1);
    return 0;
}

bool nr_byte_may_reserve(const struct nr_byte_ring *ring, uint32_t size_bytes)
{
    uint64_t record = nr_byte_record_bytes(size_bytes);
    uint64_t to_end = ring->capacity_bytes - ring->position % ring->capacity_bytes;
    uint64_t until = ring->position + (record > to_end ? to_end : 0) + record;

    return until - atomic_load_explicit(&ring->shared->head, memory_order_acquire) <=
           ring->capacity_bytes;
}

void nr_byte_publish(struct nr_byte_ring *ring, uint32_t size_bytes, int64_t type)
{
    uint64_t position = ring->position + ring->pad_bytes;

    *nr_byte_at(ring, position) =
        (struct nr_byte_header){.size_bytes = size_bytes, .kind = NR_BYTE_DATA, .type = type};
    ring->position = position + nr_byte_record_bytes(size_bytes);
    ring->reserved_bytes = 0;
    atomic_store_explicit(&ring->shared->tail, ring->position, memory_order_release); /* [R1] */
}

bool nr_byte_may_peek(const struct nr_byte_ring *ring)
{
    return atomic_load_explicit(&ring->shared->tail, memory_order_acquire) !=
           atomic_load_explicit(&ring->shared->head, memory_order_relaxed);
}

int nr_byte_peek(struct nr_byte_ring *ring, struct nr_byte_record *ret)
{
    for (;;) {
        if (ring->position == ring->other) {
            uint64_t tail =
                atomic_load_explicit(&ring->shared->tail, memory_order_acquire); /* [A1] */
            if (tail < ring->position || tail - ring->position > ring->capacity_bytes || tail & 7)
                return -EBADMSG;
            ring->other = tail;
            if (tail == ring->position)
                return -EAGAIN;
        }
        uint64_t there = ring->other - ring->position;
        uint64_t to_end = ring->capacity_bytes - ring->position % ring->capacity_bytes;
        if (to_end < NR_BYTE_RECORD_BYTES) { /* too short even for a PAD record */
            if (there < to_end)
                return -EBADMSG;
            ring->position += to_end;
            continue;
        }
        struct nr_byte_header header = *nr_byte_at(ring, ring->position);
        __asm__ volatile("" : "+m"(header)); /* fetched once: what is checked is what is used */
        uint64_t record = nr_byte_record_bytes(header.size_bytes);
        if (record > there || record > to_end)
            return -EBADMSG;
        if (header.kind == NR_BYTE_PAD) {
            ring->position += record;
            continue;
        }
        if (header.kind != NR_BYTE_DATA)
            return -EBADMSG;
        *ret = (struct nr_byte_record){
            .payload = (char *)(nr_byte_at(ring, ring->position) + 1),
            .size_bytes = header.size_bytes,
            .type = header.type,
            .is_redelivered = ring->position < ring->redelivered_until,
        };
        return 0;
    }
}

void nr_byte_taking(struct nr_byte_ring *ring, const struct nr_byte_record *record)
{
    atomic_store_explicit(&ring->shared->taking,
                          ring->position + nr_byte_record_bytes(record->size_bytes),
                          memory_order_relaxed);
}

void nr_byte_release(struct nr_byte_ring *ring, uint32_t size_bytes)
{
    ring->position += nr_byte_record_bytes(size_bytes);
    atomic_store_explicit(&ring->shared->head, ring->position, memory_order_release); /* [R2] */
}

int nr_byte_seat_claim(_Atomic uint64_t *seat, uint32_t index)
{
    uint64_t word = atomic_load_explicit(seat, memory_order_relaxed);

    for (int tries = 0; tries < NR_BYTE_SEAT_TRIES && !(word & 0xffff); tries++)
        if (atomic_compare_exchange_strong_explicit(seat, &word, word | (index + 1),
                                                    memory_order_acq_rel, memory_order_relaxed))
            return 0;
    return -(int)(word & 0xffff ? word & 0xffff : 0xffff);
}

bool nr_byte_seat_clear(_Atomic uint64_t *seat, uint32_t index, bool died)
{
    uint64_t word = atomic_load_explicit(seat, memory_order_relaxed), next;

    for (int tries = 0; tries < NR_BYTE_SEAT_TRIES && (word & 0xffff) == index + 1; tries++) {
        uint32_t deaths = (nr_byte_seat_deaths(word) + died) & 0xffffff;
        uint32_t ends = (nr_byte_seat_ends(word) + !died) & 0xffffff;
        next = ((uint64_t)deaths << 40) | ((uint64_t)ends << 16);
        if (atomic_compare_exchange_strong_explicit(seat, &word, next, memory_order_acq_rel,
                                                    memory_order_relaxed))
            return true;
    }
    return false;
}
