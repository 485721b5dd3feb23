/* SPDX-License-Identifier: MIT */
/*
 * Contents   sizes - chunks - sending - receiving; the repair is in slot_ring_repair.c
 */
#include "data/slot_ring.h"
#include "base/cleanup.h"
#include "data/slot_ring_words.h"
#include <assert.h>
#include <errno.h>
#include <string.h>

static_assert(sizeof(struct nr_slot) == NR_SLOT_HEADER_BYTES, "payload begins there");
static_assert(sizeof(struct nr_chunk) == NR_CHUNK_HEADER_BYTES, "payload begins there");

/* -- sizes ------------------------------------------------------------------------------------ */

static size_t nr_chunk_stride(const struct nr_slot_ring *ring)
{
    return NR_CHUNK_HEADER_BYTES + ring->chunk_bytes;
}

struct nr_chunk *nr_chunk_at(const struct nr_slot_ring *ring, uint32_t index)
{
    return (struct nr_chunk *)(void *)(ring->chunks + index * nr_chunk_stride(ring));
}

static size_t nr_slot_claims_bytes(const struct nr_slot_ring *sizes)
{
    return (sizes->slots_count * sizeof(uint64_t) + 63) & ~(size_t)63;
}

size_t nr_slot_ring_bytes(const struct nr_slot_ring *sizes)
{
    return sizeof(struct nr_slot_ring_shared) + nr_slot_claims_bytes(sizes) +
           (size_t)sizes->slots_count * sizes->slot_bytes +
           sizes->chunks_count * nr_chunk_stride(sizes);
}

void nr_slot_ring_attach(struct nr_slot_ring *ring, void *memory)
{
    ring->shared = memory;
    ring->claims = (_Atomic uint64_t *)(void *)(ring->shared + 1);
    ring->slots = (char *)ring->claims + nr_slot_claims_bytes(ring);
    ring->lap_shift = (unsigned)__builtin_ctz(ring->slots_count);
    ring->chunks = ring->slots + (size_t)ring->slots_count * ring->slot_bytes;
}

/* A walk from slot to slot ends after this many steps, whatever a peer has written: others would have had to
   go around the ring several times meanwhile. The caller then looks again from the hint. */
uint32_t nr_slot_steps(const struct nr_slot_ring *ring)
{
    return 8 * ring->slots_count + 64;
}

/* A hint moves forward by a plain store: one that was overtaken only costs the next one a walk. */
static void nr_slot_hint(_Atomic uint64_t *hint, uint64_t position)
{
    if (atomic_load_explicit(hint, memory_order_relaxed) < position)
        atomic_store_explicit(hint, position, memory_order_relaxed);
}

/* -- chunks ----------------------------------------------------------------------------------- */

/* One of the first `count`. */
static uint32_t nr_chunk_claim(struct nr_slot_ring *ring, uint32_t count)
{
    uint32_t hint = atomic_load_explicit(&ring->chunk_hint, memory_order_relaxed);

    for (uint32_t i = 0; i < count; i++) {
        uint32_t index = (hint + i) % count;
        struct nr_chunk *chunk = nr_chunk_at(ring, index);
        uint64_t word = atomic_load_explicit(&chunk->word, memory_order_relaxed);
        if (nr_word_state(word) != NR_CHUNK_FREE)
            continue;
        if (!nr_word_change(&chunk->word, &word, nr_chunk_word(NR_CHUNK_LOANED, ring->me)))
            continue;
        atomic_store_explicit(&ring->chunk_hint, (index + 1) % count, memory_order_relaxed);
        return index;
    }
    return NR_SLOT_NO_CHUNK;
}

uint32_t nr_chunk_loan(struct nr_slot_ring *ring)
{
    return nr_chunk_claim(ring, ring->chunks_count - ring->chunks_for_holds);
}

/* Plain stores by the owner: nobody but a repairer of a dead owner takes a chunk away. */
static void nr_chunk_set(struct nr_slot_ring *ring, uint32_t index, unsigned state, uint32_t owner)
{
    atomic_store_explicit(&nr_chunk_at(ring, index)->word, nr_chunk_word(state, owner),
                          memory_order_release);
}

void nr_chunk_free(struct nr_slot_ring *ring, uint32_t index)
{
    nr_chunk_set(ring, index, NR_CHUNK_FREE, 0);
}

/* -- sending ---------------------------------------------------------------------------------- */

/* This slot was claimed so many times, so all before it were: go on behind it. */
static uint64_t nr_slot_behind(const struct nr_slot_ring *ring, uint64_t position, uint64_t laps)
{
    return (laps - 1) * ring->slots_count + (position & (ring->slots_count - 1)) + 1;
}

/* From *position on to the first that is not claimed. 0: its slot is free, and *ret_claimed what its claim is to be
   changed from. Otherwise as nr_slot_claim() returns. */
static int nr_slot_seek(const struct nr_slot_ring *ring, uint64_t *position, uint64_t *ret_claimed,
                        uint32_t *left, uint32_t *ret_blocker)
{
    for (; *left; --*left) {
        uint64_t lap = *position >> ring->lap_shift;
        uint64_t claimed =
            atomic_load_explicit(nr_slot_claim_at(ring, *position), memory_order_relaxed);

        if (nr_word_lap(claimed) > lap) {
            *position = nr_slot_behind(ring, *position, nr_word_lap(claimed));
            continue;
        }
        uint64_t word = atomic_load_explicit(&nr_slot_at(ring, *position)->word,
                                             memory_order_acquire); /* [A2] */
        if (word == nr_word(lap, NR_FREE, 0)) {
            *ret_claimed = claimed;
            return 0;
        }
        if (nr_word_lap(word) < lap) { /* the message of the last lap is still there */
            bool is_in_the_middle = nr_word_state(word) == NR_FREE;
            if (!is_in_the_middle && nr_word_state(word) != NR_READING)
                return -EAGAIN;
            *ret_blocker = nr_word_owner(is_in_the_middle ? claimed : word);
            return -EBUSY;
        } /* else it was claimed between the two looks */
    }
    return -EAGAIN;
}

int nr_slot_claim(struct nr_slot_ring *ring, struct nr_slot_claim *ret, uint32_t *ret_blocker)
{
    uint64_t position = atomic_load_explicit(&ring->shared->tail, memory_order_relaxed), claimed;

    for (uint32_t left = nr_slot_steps(ring); left; left--) {
        int result = nr_slot_seek(ring, &position, &claimed, &left, ret_blocker);
        uint64_t mine = nr_word((position >> ring->lap_shift) + 1, 0, ring->me);

        if (result < 0)
            return result;
        /* Relaxed: nobody but a repairer, which knows all that the dead one did, acts on it alone. */
        if (atomic_compare_exchange_strong_explicit(nr_slot_claim_at(ring, position), &claimed,
                                                    mine, memory_order_relaxed,
                                                    memory_order_relaxed)) {
            nr_slot_hint(&ring->shared->tail, position + 1);
            *ret = (struct nr_slot_claim){.slot = nr_slot_at(ring, position), .position = position};
            return 0;
        }
    }
    return -EAGAIN;
}

void nr_slot_publish(struct nr_slot_ring *ring, struct nr_slot_claim *claim, uint32_t chunk)
{
    struct nr_slot *slot = claim->slot;

    slot->deliveries = 0;
    if (chunk != NR_SLOT_NO_CHUNK)
        atomic_store_explicit(&nr_chunk_at(ring, chunk)->origin, claim->position + 1,
                              memory_order_relaxed);
    atomic_store_explicit(&slot->chunk, chunk + 1, memory_order_relaxed);
    /* A plain store: only a dead owner's slot is ever taken away. [R1]: without release a receiver could
       read the payload of the last lap. */
    atomic_store_explicit(&slot->word, nr_word(claim->position >> ring->lap_shift, NR_READY, 0),
                          memory_order_release);
}

/* -- receiving -------------------------------------------------------------------------------- */

static void nr_slot_set_free(struct nr_slot_ring *ring, struct nr_slot *slot, uint64_t position)
{
    atomic_store_explicit(&slot->word, nr_word((position >> ring->lap_shift) + 1, NR_FREE, 0),
                          memory_order_release); /* [R2]: our reads of the payload are done */
}

static void nr_slot_take_chunk(struct nr_slot_ring *ring, struct nr_slot_taken *ret, uint32_t index)
{
    const struct nr_chunk *chunk = nr_chunk_at(ring, index);

    *ret = (struct nr_slot_taken){
        .chunk = index,
        .payload = chunk->payload,
        .position = atomic_load_explicit(&chunk->origin, memory_order_relaxed) - 1,
        .size_bytes = chunk->size_bytes,
        .deliveries = chunk->deliveries + 1,
        .sender_pid = chunk->sender_pid,
        .type = chunk->type,
        .is_redelivered = chunk->deliveries > 0,
    };
    nr_chunk_at(ring, index)->deliveries = ret->deliveries;
}

/* The slot is READING(me). What it carries becomes *ret; a chunk becomes HELD(me) before its slot is freed,
   so that at each moment one of the two names the owner. */
static int nr_slot_open(struct nr_slot_ring *ring, struct nr_slot *slot, uint64_t position,
                        struct nr_slot_taken *ret)
{
    uint32_t chunk_index = atomic_load_explicit(&slot->chunk, memory_order_relaxed) - 1;
    uint32_t size_bytes = slot->size_bytes;

    if (chunk_index == NR_SLOT_NO_CHUNK) {
        slot->deliveries++;
        if (size_bytes > nr_slot_inline_bytes(ring)) {
            nr_slot_set_free(ring, slot, position);
            return -EBADMSG;
        }
        *ret = (struct nr_slot_taken){
            .slot = slot,
            .chunk = NR_SLOT_NO_CHUNK,
            .payload = slot->payload,
            .position = position,
            .size_bytes = size_bytes,
            .deliveries = slot->deliveries,
            .sender_pid = slot->sender_pid,
            .type = slot->type,
            .is_redelivered = slot->deliveries > 1,
        };
        return 0;
    }
    bool is_held = false;
    if (chunk_index < ring->chunks_count) {
        struct nr_chunk *chunk = nr_chunk_at(ring, chunk_index);
        uint64_t word = atomic_load_explicit(&chunk->word, memory_order_relaxed);
        is_held = nr_word_state(word) == NR_CHUNK_LOANED &&
                  nr_word_change(&chunk->word, &word, nr_chunk_word(NR_CHUNK_HELD, ring->me));
    }
    nr_slot_set_free(ring, slot, position);
    if (!is_held)
        return -EBADMSG;
    nr_slot_take_chunk(ring, ret, chunk_index);
    if (ret->size_bytes > ring->chunk_bytes) {
        nr_chunk_free(ring, chunk_index);
        return -EBADMSG;
    }
    return 0;
}

/* Someone was repaired, or gave a message back: look through everything once. Chunks first: who wants to hold what
   stands in a slot needs one, and an orphan may have the last. */
static int nr_slot_take_orphan(struct nr_slot_ring *ring, struct nr_slot_taken *ret, uint64_t epoch)
{
    for (uint32_t i = 0; i < ring->chunks_count; i++) {
        struct nr_chunk *chunk = nr_chunk_at(ring, i);
        uint64_t word = atomic_load_explicit(&chunk->word, memory_order_relaxed);
        if (nr_word_state(word) != NR_CHUNK_ORPHAN ||
            !nr_word_change(&chunk->word, &word, nr_chunk_word(NR_CHUNK_HELD, ring->me)))
            continue;
        nr_slot_take_chunk(ring, ret, i);
        if (ret->size_bytes <= ring->chunk_bytes)
            return 0;
        nr_chunk_free(ring, i);
        return -EBADMSG;
    }
    for (uint32_t i = 0; i < ring->slots_count; i++) {
        struct nr_slot *slot = nr_slot_at(ring, i);
        uint64_t word = atomic_load_explicit(&slot->word, memory_order_relaxed);
        uint64_t lap = nr_word_lap(word);
        if (nr_word_state(word) == NR_ORPHAN &&
            nr_word_change(&slot->word, &word, nr_word(lap, NR_READING, ring->me)))
            return nr_slot_open(ring, slot, lap * ring->slots_count + i, ret);
    }
    atomic_store_explicit(&ring->seen_epoch, epoch, memory_order_relaxed);
    return -EAGAIN;
}

/* What stands at *position: an NR_* state that a receiver can act on, or NR_FREE: nothing to take. Walks over
   what others have in hand, as long as *left lasts. */
static unsigned nr_slot_look(const struct nr_slot_ring *ring, uint64_t *position,
                             uint64_t *ret_word, uint32_t *left)
{
    for (; *left; --*left) {
        uint64_t lap = *position >> ring->lap_shift;
        uint64_t word =
            atomic_load_explicit(&nr_slot_at(ring, *position)->word, memory_order_relaxed);
        unsigned state = nr_word_state(word);

        *ret_word = word;
        if (nr_word_lap(word) < lap) /* the last lap's message is still in someone's hand */
            return NR_FREE;
        if (nr_word_lap(word) > lap) /* taken, up to that lap: all before it were */
            *position = (nr_word_lap(word) - 1) * ring->slots_count +
                        (*position & (ring->slots_count - 1)) + 1;
        else if (state == NR_READING || state == NR_ORPHAN)
            ++*position;
        else
            return state;
    }
    return NR_FREE;
}

/* Nothing stands at `position`. Is somebody in the middle of it? */
static int nr_slot_nothing(const struct nr_slot_ring *ring, uint64_t position,
                           uint32_t *ret_blocker)
{
    if (!ret_blocker)
        return -EAGAIN;
    uint64_t claimed = atomic_load_explicit(nr_slot_claim_at(ring, position), memory_order_relaxed);
    if (nr_word_lap(claimed) <= position >> ring->lap_shift)
        return -EAGAIN;
    *ret_blocker = nr_word_owner(claimed);
    return -EBUSY;
}

/* The rest of the payload is on its way while the compare-and-swap waits for the first line. */
static void nr_slot_fetch_rest(const struct nr_slot_ring *ring, const struct nr_slot *slot)
{
    if (ring->slot_bytes > 64)
        __builtin_prefetch((const char *)slot + 64);
}

nr_flat int nr_slot_take(struct nr_slot_ring *ring, struct nr_slot_taken *ret,
                         uint32_t *ret_blocker)
{
    uint32_t steps = nr_slot_steps(ring);

    return nr_slot_take_within(ring, ret, ret_blocker, &steps);
}

int nr_slot_take_within(struct nr_slot_ring *ring, struct nr_slot_taken *ret, uint32_t *ret_blocker,
                        uint32_t *left)
{
    uint64_t epoch = atomic_load_explicit(&ring->shared->epoch, memory_order_acquire); /* [A3] */

    if (epoch != atomic_load_explicit(&ring->seen_epoch, memory_order_relaxed)) {
        uint32_t looks = ring->slots_count + ring->chunks_count;
        int result = nr_slot_take_orphan(ring, ret, epoch);
        *left -= looks < *left ? looks : *left;
        if (result != -EAGAIN)
            return result;
    }
    uint64_t position = atomic_load_explicit(&ring->shared->head, memory_order_relaxed), word;
    for (; *left; --*left) {
        unsigned state = nr_slot_look(ring, &position, &word, left);
        struct nr_slot *slot = nr_slot_at(ring, position);
        uint64_t lap = position >> ring->lap_shift;

        nr_slot_fetch_rest(ring, slot);
        if (state == NR_SKIP) {
            nr_word_change(&slot->word, &word, nr_word(lap + 1, NR_FREE, 0));
            nr_slot_hint(&ring->shared->head, position + 1);
        } else if (state != NR_READY) {
            return nr_slot_nothing(ring, position, ret_blocker);
        } else if (nr_word_change(&slot->word, &word,
                                  nr_word(lap, NR_READING, ring->me))) { /* [A1] */
            nr_slot_hint(&ring->shared->head, position + 1);
            return nr_slot_open(ring, slot, position, ret);
        }
    }
    return -EAGAIN;
}

bool nr_slot_may_claim(const struct nr_slot_ring *ring)
{
    uint64_t position = atomic_load_explicit(&ring->shared->tail, memory_order_relaxed), claimed;
    uint32_t left = nr_slot_steps(ring), blocker;

    return nr_slot_seek(ring, &position, &claimed, &left, &blocker) == 0;
}

bool nr_chunk_may_loan(const struct nr_slot_ring *ring)
{
    for (uint32_t i = 0; i < ring->chunks_count - ring->chunks_for_holds; i++)
        if (nr_word_state(atomic_load_explicit(&nr_chunk_at(ring, i)->word,
                                               memory_order_relaxed)) == NR_CHUNK_FREE)
            return true;
    return false;
}

bool nr_slot_may_take(const struct nr_slot_ring *ring)
{
    uint64_t position = atomic_load_explicit(&ring->shared->head, memory_order_relaxed), word;

    if (atomic_load_explicit(&ring->shared->epoch, memory_order_relaxed) !=
        atomic_load_explicit(&ring->seen_epoch, memory_order_relaxed))
        return true;
    uint32_t left = nr_slot_steps(ring);
    unsigned state = nr_slot_look(ring, &position, &word, &left);
    return state == NR_READY || state == NR_SKIP;
}

void nr_slot_ack(struct nr_slot_ring *ring, struct nr_slot_taken *taken)
{
    if (taken->slot)
        nr_slot_set_free(ring, taken->slot, taken->position);
    else
        nr_chunk_free(ring, taken->chunk);
}

/* The chunk is HELD, with the slot's position as its origin, before the slot is freed: a repairer that
   finds both takes the slot for done. */
int nr_slot_hold(struct nr_slot_ring *ring, struct nr_slot_taken *taken)
{
    if (!taken->slot)
        return 0;
    uint32_t index = nr_chunk_claim(ring, ring->chunks_count);
    if (index == NR_SLOT_NO_CHUNK)
        return -ENOBUFS;
    struct nr_chunk *chunk = nr_chunk_at(ring, index);
    atomic_store_explicit(&chunk->origin, taken->position + 1, memory_order_relaxed);
    chunk->size_bytes = taken->size_bytes;
    chunk->sender_pid = taken->sender_pid;
    chunk->deliveries = taken->deliveries;
    chunk->type = taken->type;
    memcpy(chunk->payload, taken->payload, taken->size_bytes);
    nr_chunk_set(ring, index, NR_CHUNK_HELD, ring->me);
    nr_slot_set_free(ring, taken->slot, taken->position);
    taken->slot = NULL;
    taken->chunk = index;
    taken->payload = chunk->payload;
    return 0;
}

void nr_slot_return(struct nr_slot_ring *ring, struct nr_slot_taken *taken, bool was_delivered)
{
    if (taken->slot) {
        taken->slot->deliveries = taken->deliveries - !was_delivered;
        atomic_store_explicit(&taken->slot->word,
                              nr_word(taken->position >> ring->lap_shift, NR_ORPHAN, 0),
                              memory_order_release);
    } else {
        nr_chunk_at(ring, taken->chunk)->deliveries = taken->deliveries - !was_delivered;
        nr_chunk_set(ring, taken->chunk, NR_CHUNK_ORPHAN, 0);
    }
    atomic_fetch_add_explicit(&ring->shared->epoch, 1, memory_order_release); /* [R3] */
}

bool nr_slot_held(const struct nr_slot_ring *ring, uint32_t index, struct nr_slot_taken *ret)
{
    if (index >= ring->chunks_count)
        return false;
    const struct nr_chunk *chunk = nr_chunk_at(ring, index);
    uint64_t word = atomic_load_explicit(&chunk->word, memory_order_relaxed);
    if (nr_word_state(word) != NR_CHUNK_HELD || nr_word_owner(word) != ring->me)
        return false;
    *ret = (struct nr_slot_taken){.chunk = index, .deliveries = chunk->deliveries};
    return true;
}

uint64_t nr_slot_lost(struct nr_slot_ring *ring)
{
    if (atomic_load_explicit(&ring->shared->lost, memory_order_relaxed) == 0)
        return 0;
    return atomic_exchange_explicit(&ring->shared->lost, 0, memory_order_relaxed);
}

void nr_slot_lose(struct nr_slot_ring *ring, uint64_t count)
{
    atomic_fetch_add_explicit(&ring->shared->lost, count, memory_order_relaxed);
}

uint64_t nr_slot_queued(const struct nr_slot_ring *ring)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < ring->slots_count; i++) {
        unsigned state =
            nr_word_state(atomic_load_explicit(&nr_slot_at(ring, i)->word, memory_order_relaxed));
        count += state == NR_READY || state == NR_ORPHAN;
    }
    for (uint32_t i = 0; i < ring->chunks_count; i++)
        count += nr_word_state(atomic_load_explicit(&nr_chunk_at(ring, i)->word,
                                                    memory_order_relaxed)) == NR_CHUNK_ORPHAN;
    return count;
}
