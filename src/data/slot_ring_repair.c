/* SPDX-License-Identifier: MIT */
/*
 * slot_ring_repair -- clears away what one has left that acts no more
 *
 * What the dead one wrote is seen, and what it had seen: the kernel's word that it is dead stands behind all of it,
 * and who heard of it has released the entry's state DEAD. So the loads are relaxed but where others' slots are
 * looked at.
 */
#include "data/slot_ring_words.h"

/* The slot that this chunk comes from, or goes to: slot and chunk find each other without a search, so that all
   passes together take as many steps as there are slots and chunks, whatever stands in them. NULL: none. */
static struct nr_slot *nr_chunk_slot(const struct nr_slot_ring *ring, uint32_t index,
                                     uint64_t *ret_lap)
{
    uint64_t origin = atomic_load_explicit(&nr_chunk_at(ring, index)->origin, memory_order_relaxed);

    *ret_lap = (origin - 1) >> ring->lap_shift;
    return origin ? nr_slot_at(ring, origin - 1) : NULL;
}

/* The message has been taken over into this chunk, and the dead one was still reading its slot: that is done with. So it
   is who holds the chunk, and does until the last pass. */
static void nr_slot_repair_moved(struct nr_slot_ring *ring, uint32_t index, uint32_t dead)
{
    uint64_t held = atomic_load_explicit(&nr_chunk_at(ring, index)->word, memory_order_relaxed);
    uint64_t lap;
    struct nr_slot *slot = nr_chunk_slot(ring, index, &lap);
    uint64_t word = nr_word(lap, NR_READING, dead);

    if (slot && nr_word_state(held) == NR_CHUNK_HELD)
        nr_word_change(&slot->word, &word, nr_word(lap + 1, NR_FREE, 0));
}

static void nr_slot_repair_slot(struct nr_slot_ring *ring, uint32_t index, uint32_t dead)
{
    struct nr_slot *slot = nr_slot_at(ring, index);
    uint64_t claimed = atomic_load_explicit(nr_slot_claim_at(ring, index), memory_order_relaxed);
    uint64_t word = atomic_load_explicit(&slot->word, memory_order_relaxed);
    uint64_t lap = nr_word_lap(word);

    /* A slot is FREE until it is published, and then never again in that lap: who comes late changes nothing. */
    if (nr_word_owner(claimed) == dead && word == nr_word(nr_word_lap(claimed) - 1, NR_FREE, 0))
        nr_word_change(&slot->word, &word, nr_word(lap, NR_SKIP, 0));
    else if (nr_word_owner(word) == dead && nr_word_state(word) == NR_READING)
        nr_word_change(&slot->word, &word, nr_word(lap, NR_ORPHAN, 0));
}

/* True if a slot that someone may still take carries this chunk. */
static bool nr_slot_carries(const struct nr_slot_ring *ring, uint32_t index)
{
    uint64_t lap;
    const struct nr_slot *slot = nr_chunk_slot(ring, index, &lap);

    if (!slot)
        return false;
    unsigned state = nr_word_state(atomic_load_explicit(&slot->word, memory_order_acquire));
    return (state == NR_READY || state == NR_READING || state == NR_ORPHAN) &&
           atomic_load_explicit(&slot->chunk, memory_order_relaxed) == index + 1;
}

static void nr_slot_repair_chunk(struct nr_slot_ring *ring, uint32_t index, uint32_t dead)
{
    struct nr_chunk *chunk = nr_chunk_at(ring, index);
    uint64_t word = atomic_load_explicit(&chunk->word, memory_order_relaxed);

    if (nr_word_owner(word) != dead)
        return;
    if (nr_word_state(word) == NR_CHUNK_LOANED && !nr_slot_carries(ring, index))
        nr_word_change(&chunk->word, &word, nr_chunk_word(NR_CHUNK_FREE, 0));
    else if (nr_word_state(word) == NR_CHUNK_HELD && !ring->at_most_once)
        nr_word_change(&chunk->word, &word, nr_chunk_word(NR_CHUNK_ORPHAN, 0));
    else if (nr_word_state(word) == NR_CHUNK_HELD &&
             nr_word_change(&chunk->word, &word, nr_chunk_word(NR_CHUNK_HELD, ring->me))) {
        /* One repairer has it now, and counts it. Should it die before it is free, the next one counts it
           again: a loss may be told twice, but never not at all. */
        nr_slot_lose(ring, 1);
        nr_chunk_free(ring, index);
    }
}

/* The slots whose messages were taken over, all other slots, and then the chunks, which are judged by the slots that
   carry them. The epoch last: a receiver that sees it finds every orphan. [R3] */
void nr_slot_repair(struct nr_slot_ring *ring, uint32_t dead)
{
    for (uint32_t i = 0; i < ring->chunks_count; i++)
        nr_slot_repair_moved(ring, i, dead);
    for (uint32_t i = 0; i < ring->slots_count; i++)
        nr_slot_repair_slot(ring, i, dead);
    for (uint32_t i = 0; i < ring->chunks_count; i++)
        nr_slot_repair_chunk(ring, i, dead);
    atomic_fetch_add_explicit(&ring->shared->epoch, 1, memory_order_release);
}
