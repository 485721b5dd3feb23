/* SPDX-License-Identifier: MIT */
#pragma once
/* slot_ring_words -- what the words of slots and chunks say, and where the slots stand: for slot_ring.c and its repair */
#include "data/slot_ring.h"

enum { NR_FREE, NR_READY, NR_READING, NR_ORPHAN, NR_SKIP };              /* of a slot */
enum { NR_CHUNK_FREE, NR_CHUNK_LOANED, NR_CHUNK_HELD, NR_CHUNK_ORPHAN }; /* of a chunk */

static inline uint64_t nr_word(uint64_t lap, unsigned state, uint32_t owner)
{
    return (lap << 16) | ((uint64_t)state << 12) | owner;
}
/* A chunk has no laps: a word that comes again names the same owner, whom nobody follows before all that repair it are
   done (data/participants.h), or none. */
static inline uint64_t nr_chunk_word(unsigned state, uint32_t owner)
{
    return nr_word(0, state, owner);
}
static inline uint64_t nr_word_lap(uint64_t word)
{
    return word >> 16;
}
static inline unsigned nr_word_state(uint64_t word)
{
    return (unsigned)(word >> 12) & 15;
}
static inline uint32_t nr_word_owner(uint64_t word)
{
    return (uint32_t)word & 4095;
}

/* It is the change that acquires what the last owner released [A1] [A2]; the loads before it are relaxed: an
   orphan may have been taken and given back since, in the same word. */
static inline bool nr_word_change(_Atomic uint64_t *place, uint64_t *from, uint64_t to)
{
    return atomic_compare_exchange_strong_explicit(place, from, to, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

static inline struct nr_slot *nr_slot_at(const struct nr_slot_ring *ring, uint64_t position)
{
    uint64_t place = position & (ring->slots_count - 1);

    return (struct nr_slot *)(void *)(ring->slots + place * ring->slot_bytes);
}

static inline _Atomic uint64_t *nr_slot_claim_at(const struct nr_slot_ring *ring, uint64_t position)
{
    return &ring->claims[position & (ring->slots_count - 1)];
}
