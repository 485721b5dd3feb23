/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * topic -- each message to every subscriber, from any number of publishers
 *
 * What       One ring of slots. Lossless: each subscriber has a cursor, and no slot is used again before all have
 *            passed it. Overwriting: nobody is waited for; a subscriber that was overtaken sees it, and counts
 *            what it has lost. Small payloads stand in the slot, larger ones in chunks, which are filled before
 *            the slot is claimed: so a slot is never held across user code or a long copy.
 * Apart      Who writes a slot, or wrote it last, is named by a claim word that stands apart from it, as in slot_ring.h: so
 *            the line that subscribers look at while they wait changes only when there is something for them.
 * Memory     Shared; indexes only, no system calls. Zeroed memory is an empty topic. The handles are private.
 * Claim      [1 + position:48 | 0:4 | owner:12]. (p - slots_count, anyone), of a slot that is READY or SKIP for that
 *            -claim-> (p, me), for good.
 * Slot       [1 + position:48 | state:4 | 0:12]. Position p stands in slot p % slots_count, of which there is one
 *            more than the capacity. READY or SKIP of the last lap -claim, publish-> READY(p).
 *            repair: claimed for p by the dead, and not published -> SKIP(p).
 * Chunk      FREE -> LOANED(me) -> KEPT(p), by the slot of p -> FREE, by who claims that slot next.
 *            repair: LOANED(dead) -> FREE; what such a slot keeps, of its last lap or this one -> FREE.
 * Writers    A claim: whoever wins it. A slot: who has claimed it, or its repairer. A cursor: its subscriber, and its
 *            repairer. tail is a hint that may lag but never leads; horizon leads, and only goes up.
 * Order      Positions are claimed one after the other, and received in that order by everybody.
 * Ordering   [R1] publish -> [A1] peek: the payload. [R2] cursor -> [A2] claim: the subscriber's reads are done.
 *            [J1] join: cursor, then joins, then a look at the tail. [J2] claim: a look at the claim before, then
 *            at joins. [W1] claim, [W2] is_intact: overwriting (data/words.h). Proofs in topic.c.
 * Late       Whatever is younger than tail - capacity is whole for one that joins, also while others publish.
 * Death      A publisher killed anywhere leaves its message whole, or SKIP. A subscriber's cursor goes with it.
 * Trust      Sizes and indexes from shared memory are checked before use; walks are bounded.
 * Returns    0; -EAGAIN full or empty; -EBUSY someone is in the middle; -ENOMSG nothing here, go on with the
 *            next; -EOVERFLOW overtaken; -EBADMSG damaged.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    NR_TOPIC_HEADER_BYTES = 32,
    NR_TOPIC_NOBODY = 0xffff,
    NR_TOPIC_NO_CHUNK = 0xffffffffu,
    NR_TOPIC_HELD_MOST = 64, /* messages in hand and not acknowledged */
};

struct nr_topic_slot {
    _Atomic uint64_t word;
    _Atomic uint32_t size_bytes;
    _Atomic uint32_t chunk; /* 1 + index; 0: the payload follows */
    _Atomic int32_t sender_pid;
    uint32_t reserved;
    _Atomic int64_t type;
    _Atomic uint64_t payload[];
};

struct nr_topic_cursor {
    _Alignas(64) _Atomic uint64_t position; /* 1 + what it has not passed; 0: no subscriber */
};

/* Behind it stand the cursors, the slots, the chunks' words, and the chunks. */
struct nr_topic_shared {
    _Alignas(64) _Atomic uint64_t tail;
    _Alignas(64) _Atomic uint64_t joins;   /* counts subscribers that came */
    _Atomic uint64_t horizon;              /* overwriting: no position from here on was claimed */
    _Atomic uint32_t cursors_end;          /* none behind it was ever used */
    _Alignas(64) _Atomic uint64_t dropped; /* messages that were not sent, by contract */
};

struct nr_topic {
    struct nr_topic_shared *shared;
    struct nr_topic_cursor *cursors;
    _Atomic uint64_t
        *claims; /* [1 + position:48 | 0:4 | who claimed it:12], a word for each slot */
    char *slots;
    _Atomic uint64_t *chunk_words;
    char *chunks;
    uint32_t slots_count; /* capacity + 1 */
    uint32_t slot_bytes;
    uint32_t chunks_count;
    uint32_t cursors_count; /* 0: overwriting */
    size_t chunk_bytes;
    uint64_t reciprocal; /* of slots_count */
    uint32_t me;
    _Atomic uint32_t chunk_hint;
    /* Up to where the subscribers let one publish, as it was when `joins` was checked_joins. */
    _Atomic uint64_t limit, checked_joins;
    atomic_flag is_measuring;
};

size_t nr_topic_bytes(const struct nr_topic *sizes);
void nr_topic_attach(struct nr_topic *topic, void *memory);

static inline size_t nr_topic_inline_bytes(const struct nr_topic *topic)
{
    return topic->slot_bytes - NR_TOPIC_HEADER_BYTES;
}

/* -- publishing -- */

struct nr_topic_claim {
    struct nr_topic_slot *slot;
    uint64_t position;
};

/* What a message says of itself. */
struct nr_topic_label {
    uint32_t size_bytes;
    int32_t sender_pid;
    int64_t type;
};

/* -EAGAIN: full, *ret_blocker is the slowest subscriber. -EBUSY: *ret_blocker is in the middle of a slot. */
int nr_topic_claim(struct nr_topic *topic, struct nr_topic_claim *ret, uint32_t *ret_blocker);

/* False only if it is full, or `needs_chunk` and none is free. */
bool nr_topic_may_claim(struct nr_topic *topic, bool needs_chunk);

/* The payload stands in claim->slot->payload (nr_words_store()), or in `chunk`, which is LOANED(me). True: the chunk
   of the last lap is free now. */
bool nr_topic_publish(struct nr_topic *topic, const struct nr_topic_claim *claim, uint32_t chunk,
                      const struct nr_topic_label *label);

uint32_t nr_topic_loan(struct nr_topic *topic); /* or NR_TOPIC_NO_CHUNK */
void nr_topic_unloan(struct nr_topic *topic, uint32_t chunk);
_Atomic uint64_t *nr_topic_chunk(const struct nr_topic *topic, uint32_t chunk);

/* A message was not sent, since it is full. */
void nr_topic_drop(struct nr_topic *topic);
static inline uint64_t nr_topic_dropped(const struct nr_topic *topic)
{
    return atomic_load_explicit(&topic->shared->dropped, memory_order_relaxed);
}

/* -- subscribing -- */

struct nr_topic_reader {
    uint64_t next;    /* position */
    uint64_t cursor;  /* lossless: the first that is not acknowledged; as in shared memory */
    uint64_t done;    /* a bit for each from the cursor: acknowledged */
    uint64_t again;   /* likewise: given back, and to be received again */
    uint64_t dropped; /* shared->dropped as it was told */
    uint64_t lost;    /* and not told yet */
    uint8_t deliveries[NR_TOPIC_HELD_MOST]; /* by position % 64 */
};

enum nr_topic_start { NR_TOPIC_NOW, NR_TOPIC_OLDEST, NR_TOPIC_LAST };

/* Begins; lossless: by a cursor, so publishers wait for this one from now on. */
void nr_topic_join(struct nr_topic *topic, struct nr_topic_reader *ret, enum nr_topic_start start,
                   uint64_t count);
void nr_topic_leave(struct nr_topic *topic);

struct nr_topic_message {
    uint64_t position;
    const _Atomic uint64_t *payload;
    struct nr_topic_label label;
    uint32_t deliveries;
};

/* The message at `position`, in place. Overwriting: all of it is to be believed only if nr_topic_is_intact() says
   so after it was copied; that holds for -EBADMSG, too. */
int nr_topic_peek(const struct nr_topic *topic, uint64_t position, struct nr_topic_message *ret,
                  uint32_t *ret_blocker);
bool nr_topic_is_intact(const struct nr_topic *topic, const struct nr_topic_message *message);

/* Lossless: the next message for this reader, which stays in place until it is done with. -ENOBUFS: too many are
   in hand. It may be given back: then it comes again. */
int nr_topic_next(struct nr_topic *topic, struct nr_topic_reader *reader,
                  struct nr_topic_message *ret, uint32_t *ret_blocker);
void nr_topic_take(struct nr_topic_reader *reader, const struct nr_topic_message *message);
void nr_topic_done(struct nr_topic *topic, struct nr_topic_reader *reader, uint64_t position);
void nr_topic_give_back(struct nr_topic_reader *reader, uint64_t position);

/* Overwriting: it was overtaken, in this call for the how-many-eth time. Goes on with the oldest that is kept,
   or, if that does not help, with younger ones; counts what is lost. */
void nr_topic_catch_up(const struct nr_topic *topic, struct nr_topic_reader *reader,
                       unsigned times);

/* That position was claimed, and nobody is in the middle of it. */
bool nr_topic_is_there(const struct nr_topic *topic, uint64_t position);

/* False only if nothing is there to receive. */
bool nr_topic_may_read(const struct nr_topic *topic, const struct nr_topic_reader *reader);

/* -- anyone -- */

/* The first position that was not claimed. */
uint64_t nr_topic_tail(const struct nr_topic *topic);

/* Where the slowest subscriber is, and which it is; UINT64_MAX: there is none. */
uint64_t nr_topic_slowest(const struct nr_topic *topic, uint32_t *ret_index);

/* Clears the traces of `dead`. Idempotent; any number at once; safe to kill. The caller then wakes all. */
void nr_topic_repair(struct nr_topic *topic, uint32_t dead);
