/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * byte_ring -- a queue from exactly one sender to exactly one receiver
 *
 * What       Records of any size up to half the ring, packed one after the other, never wrapped in the middle;
 *            written and read in place. No compare-and-swap: publishing is one release store.
 * Memory     Shared; positions count bytes and never wrap around. No system calls.
 * Record     {u32 size, u32 kind, i64 type} then the payload, padded to 8. A PAD record fills the end.
 * Writers    tail: the sender. head, taking: the receiver. sender, receiver (seats): who sits down, by CAS, and
 *            the repairer. Each side keeps a private copy of its own position and trusts only that.
 * Ordering   [R1] tail -> [A1] the record. [R2] head -> [A2] the space is free again.
 * Death      A sender killed before [R1] leaves nothing, after it the whole record. A receiver killed: the next
 *            one begins at head; records up to `taking` had been handed out: at least once they come again, flagged,
 *            at most once they are skipped.
 * Trust      head, tail, sizes and kinds are checked against the private bounds.
 * Returns    0; -EAGAIN full or empty; -EBADMSG damaged.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NR_BYTE_RECORD_BYTES = 16 };

struct nr_byte_ring_shared {
    _Alignas(64) _Atomic uint64_t tail;
    _Alignas(64) _Atomic uint64_t head;
    _Atomic uint64_t taking; /* the end of the record that was handed out last */
    _Alignas(64) _Atomic uint64_t sender, receiver; /* seats: [deaths:24 | ends:24 | holder:16] */
};

struct nr_byte_ring {
    struct nr_byte_ring_shared *shared;
    char *data;
    uint64_t capacity_bytes; /* a multiple of 64 */
    bool at_most_once;
    uint64_t position; /* mine: tail of the sender, head of the receiver */
    uint64_t other;    /* the other side's, as last seen */
    uint64_t redelivered_until;
    uint32_t reserved_bytes; /* sender: of the reservation; 0: none */
    uint64_t pad_bytes;      /* sender: of the PAD record before it */
};

struct nr_byte_record {
    char *payload;
    uint32_t size_bytes;
    int64_t type;
    bool is_redelivered;
};

/* What a ring needs that carries records of up to message_bytes, at least `records` of them. */
uint64_t nr_byte_ring_capacity(uint64_t message_bytes, uint64_t records);
size_t nr_byte_ring_bytes(uint64_t capacity_bytes);

/* capacity_bytes and at_most_once are set. Zeroed memory is an empty ring. */
void nr_byte_ring_attach(struct nr_byte_ring *ring, void *memory);

/* Takes one's place: reads the positions. 1: a message was lost with the receiver before; 0; -EBADMSG: the
   positions make no sense. */
int nr_byte_ring_sit(struct nr_byte_ring *ring, bool as_sender);

int nr_byte_reserve(struct nr_byte_ring *ring, uint32_t size_bytes, char **ret_payload);
/* True if that would succeed now. By the sender. */
bool nr_byte_may_reserve(const struct nr_byte_ring *ring, uint32_t size_bytes);

void nr_byte_publish(struct nr_byte_ring *ring, uint32_t size_bytes, int64_t type);

/* The next record, in place; it stays until nr_byte_release(). nr_byte_taking() before it is handed out. */
int nr_byte_peek(struct nr_byte_ring *ring, struct nr_byte_record *ret);
void nr_byte_taking(struct nr_byte_ring *ring, const struct nr_byte_record *record);
void nr_byte_release(struct nr_byte_ring *ring, uint32_t size_bytes);

/* True if a peek that begins now may find something. Any thread. */
bool nr_byte_may_peek(const struct nr_byte_ring *ring);

/*
 * Seats: who is the one sender, the one receiver. holder is 1 + the participant's index, 0: free; ends and
 * deaths count how those before left. Claim: 0, or -(1 + the index that sits there). Clear: true if it was
 * `index`'s, and is counted, in the same step.
 */
int nr_byte_seat_claim(_Atomic uint64_t *seat, uint32_t index);
bool nr_byte_seat_clear(_Atomic uint64_t *seat, uint32_t index, bool died);

/* The sender's seat without its holder: changes when a sender has gone. */
static inline uint64_t nr_byte_seat_word(const struct nr_byte_ring *ring)
{
    return atomic_load_explicit(&ring->shared->sender, memory_order_acquire) & ~(uint64_t)0xffff;
}
static inline uint32_t nr_byte_seat_deaths(uint64_t word)
{
    return (uint32_t)(word >> 40);
}
static inline uint32_t nr_byte_seat_ends(uint64_t word)
{
    return (uint32_t)(word >> 16) & 0xffffff;
}
