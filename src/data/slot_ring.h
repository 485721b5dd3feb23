/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * slot_ring -- a queue from many senders to many receivers that survives the death of any of them
 *
 * What       A ring of slots. A slot's word names its state and, while someone reads it, that owner; a claim word apart
 *            from it names who writes, or wrote it last: so whoever is left can finish or undo what a dead owner had
 *            begun. Small payloads stand in the slot; larger ones in chunks, which are filled before the slot is
 *            claimed, and which a receiver takes over before the slot is freed. So a slot is never held across user
 *            code.
 * Apart      The claim is a compare-and-swap on a line that receivers do not look at while they wait: on the slot's own line
 *            it takes twice as long, since they fetch that back between the claim and the stores behind it.
 * Memory     Shared; offsets and indexes only. No system calls. The handle is private, with private copies of
 *            all bounds.
 * Claim      (lap, anyone) -claim, of a slot that is FREE(lap)-> (lap + 1, me), for good
 * Slot       FREE(lap) -claim, publish-> READY(lap) -take-> READING(lap, me) -> FREE(lap + 1)
 *            repair: FREE(lap) that was claimed by the dead -> SKIP -> FREE(lap + 1); READING(dead) -> ORPHAN
 *            -take-> READING(lap, me)
 * Chunk      FREE -> LOANED(me) [in a READY slot, or not yet] -take-> HELD(me) -ack-> FREE
 *            repair: LOANED(dead) in no slot -> FREE; HELD(dead) -> ORPHAN -take-> HELD(me)
 * Writers    Each state names who may change it next: the owner, or for READY, ORPHAN and SKIP whoever wins the
 *            CAS; FREE: who has claimed it, by winning that CAS. head and tail are hints that may lag but never lead.
 * Order      Messages are taken in the order in which their slots were claimed.
 * Ordering   [R1] publish -> [A1] take: the payload. [R2] slot freed -> [A2] claim: the last reader is done.
 *            [R3] epoch after a repair -> [A3] the scan for orphans. Proofs at the places.
 * Death      At most once, a chunk in a dead hand is counted as lost instead of made an orphan. A slot that
 *            was being read was not handed out yet, so it is an orphan under either contract.
 * Trust      Sizes and indexes from shared memory are checked before use.
 * Returns    0 done; -EAGAIN full or empty; -EBUSY a slot is owned by someone who is in the middle of it;
 *            -EBADMSG the memory is damaged (that message is dropped).
 * Source     RELIABILITY 3; the lap in the state word is D. Vyukov's bounded queue's sequence number.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    NR_SLOT_HEADER_BYTES = 32,
    NR_CHUNK_HEADER_BYTES = 64,
    NR_SLOT_NO_CHUNK = 0xffffffffu,
};

struct nr_slot {
    _Atomic uint64_t word;  /* [lap:48 | state:4 | owner:12] */
    _Atomic uint32_t chunk; /* 1 + index of the chunk; 0: the payload follows */
    uint32_t size_bytes;
    int32_t sender_pid;
    uint32_t deliveries;
    int64_t type;
    char payload[];
};

struct nr_chunk {
    _Alignas(64) _Atomic uint64_t word; /* [0:48 | state:4 | owner:12] */
    _Atomic uint64_t origin;            /* 1 + position of the slot that carries or carried it */
    uint32_t size_bytes;
    int32_t sender_pid;
    uint32_t deliveries;
    uint32_t reserved;
    int64_t type;
    char reserved2[24];
    char payload[];
};

/* The shared head of the ring, behind which the claims, the slots and then the chunks stand. */
struct nr_slot_ring_shared {
    _Alignas(64) _Atomic uint64_t tail;  /* hint: where the next claim may succeed */
    _Alignas(64) _Atomic uint64_t head;  /* hint: where the next take may succeed */
    _Alignas(64) _Atomic uint64_t epoch; /* counts repairs and requeues: look for orphans */
    _Atomic uint64_t lost;               /* messages lost and not yet told to a receiver */
};

struct nr_slot_ring {
    struct nr_slot_ring_shared *shared;
    _Atomic uint64_t
        *claims; /* [laps that were claimed:48 | 0:4 | who did it last:12], a word for each slot */
    char *slots;
    char *chunks;
    uint32_t slots_count; /* a power of two, ... */
    unsigned lap_shift;   /* ... of which this is the logarithm */
    uint32_t slot_bytes;  /* a multiple of 64 */
    uint32_t chunks_count;
    uint32_t
        chunks_for_holds; /* of these: not loaned to senders, so that what stands in a slot can be taken though
                                  they have filled all others behind it */
    size_t chunk_bytes; /* payload */
    uint32_t me;
    bool at_most_once;
    _Atomic uint64_t seen_epoch; /* up to this one there are no orphans that I could take */
    _Atomic uint32_t chunk_hint;
};

/* What a ring of these sizes needs. chunk_bytes is rounded up to a multiple of 64 by the caller. */
size_t nr_slot_ring_bytes(const struct nr_slot_ring *sizes);

/* The handle's sizes are set, all else in it is zero; points it at `memory` (64-byte aligned). Zeroed memory is an empty ring: FREE in
   lap 0, hints at 0, all chunks FREE. */
void nr_slot_ring_attach(struct nr_slot_ring *ring, void *memory);

static inline size_t nr_slot_inline_bytes(const struct nr_slot_ring *ring)
{
    return ring->slot_bytes - NR_SLOT_HEADER_BYTES;
}

/* -- sending -- */

struct nr_slot_claim {
    struct nr_slot *slot;
    uint64_t position;
};

/* -EAGAIN: full. -EBUSY: full, and *ret_blocker (set only then) is in the middle of the slot that is next. */
int nr_slot_claim(struct nr_slot_ring *ring, struct nr_slot_claim *ret, uint32_t *ret_blocker);

/* The payload (inline, or in `chunk`) and slot->size_bytes, sender_pid, type are written. */
void nr_slot_publish(struct nr_slot_ring *ring, struct nr_slot_claim *claim, uint32_t chunk);

/* A free chunk becomes LOANED(me); its index, or NR_SLOT_NO_CHUNK. */
uint32_t nr_chunk_loan(struct nr_slot_ring *ring);
struct nr_chunk *nr_chunk_at(const struct nr_slot_ring *ring, uint32_t index);
void nr_chunk_free(struct nr_slot_ring *ring, uint32_t index); /* mine: LOANED or HELD */

/* -- receiving -- */

struct nr_slot_taken {
    struct nr_slot *slot; /* READING(me), payload in it; NULL: in `chunk` */
    uint32_t chunk;       /* HELD(me), or NR_SLOT_NO_CHUNK */
    const char *payload;
    uint64_t position;
    uint32_t size_bytes, deliveries;
    int32_t sender_pid;
    int64_t type;
    bool is_redelivered;
};

/* The oldest message becomes mine. -EAGAIN: empty; -EBUSY: *ret_blocker is in the middle of the next. Who
   will look again before it sleeps gives NULL for that, and gets -EAGAIN: the question disturbs the senders. */
int nr_slot_take(struct nr_slot_ring *ring, struct nr_slot_taken *ret, uint32_t *ret_blocker);

/* The same for who takes several in one call: the steps that it makes are taken off *left, which begins as
   nr_slot_steps(), and ends at 0: -EAGAIN. */
uint32_t nr_slot_steps(const struct nr_slot_ring *ring);
int nr_slot_take_within(struct nr_slot_ring *ring, struct nr_slot_taken *ret, uint32_t *ret_blocker,
                        uint32_t *left);

/* Done with it. */
void nr_slot_ack(struct nr_slot_ring *ring, struct nr_slot_taken *taken);

/* Moves a payload that stands in a slot to a chunk, so that it can be held. -ENOBUFS: none is free. */
int nr_slot_hold(struct nr_slot_ring *ring, struct nr_slot_taken *taken);

/* Goes to the next receiver: as redelivered, or as if it had not been looked at. */
void nr_slot_return(struct nr_slot_ring *ring, struct nr_slot_taken *taken, bool was_delivered);

/* True if a claim, or a loan, that begins now would find room. */
bool nr_slot_may_claim(const struct nr_slot_ring *ring);
bool nr_chunk_may_loan(const struct nr_slot_ring *ring);

/* False only if a take that begins now would find nothing. */
bool nr_slot_may_take(const struct nr_slot_ring *ring);

/* Makes a taken chunk's description from its index: for one that was held for a while. False: not mine. */
bool nr_slot_held(const struct nr_slot_ring *ring, uint32_t index, struct nr_slot_taken *ret);

/* Messages lost since the last call by anyone. */
uint64_t nr_slot_lost(struct nr_slot_ring *ring);
void nr_slot_lose(struct nr_slot_ring *ring, uint64_t count);

/* -- repair -- */

/* Clears the traces of `dead`, which certainly acts no more (or is the caller, leaving). Idempotent; any
   number at once; safe to kill. The caller then wakes all. */
void nr_slot_repair(struct nr_slot_ring *ring, uint32_t dead);

/* About how many messages wait. */
uint64_t nr_slot_queued(const struct nr_slot_ring *ring);
