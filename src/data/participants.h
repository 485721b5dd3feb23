/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * participants -- who is attached to a segment, and whose traces are being cleared away
 *
 * What       A table of entries. An endpoint claims one; its index is its name in every other structure of
 *            the segment. When the kernel has said that its process is dead (the caller's affair), any
 *            survivor marks the entry DEAD, repairs what it left, retires and frees it.
 * Memory     Shared. No system calls.
 * States     FREE -claim-> JOINING -> ALIVE -leave-> RETIRING -> FREE
 *                            |           '-dead-> DEAD -repaired-> RETIRING -> FREE
 *                            '---------dead------'
 *            When none is FREE, that of a dead process may be adopted: it is JOINING again in a new generation,
 *            and the new owner repairs it before it becomes ALIVE.
 * Hazard     A repairer names the index it works on in its own entry, and looks again whether it is still
 *            DEAD; one that frees first makes it RETIRING, and frees only when no entry names it. So an
 *            index never gets a new owner while a paused repairer may still act on the old one's behalf.
 *            (M. Michael, "Hazard Pointers", 2004: retire, then scan.)
 * Writers    state: by CAS, as above. identity, image, role: the claimer, before ALIVE. hazard and the
 *            tally: their owner.
 * Death      At any point the table holds an entry that a survivor can take one step further.
 * Trust      Indexes and states are range-checked; the number of entries is the caller's own copy.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum nr_participant_state {
    NR_PARTICIPANT_FREE,
    NR_PARTICIPANT_JOINING,
    NR_PARTICIPANT_ALIVE,
    NR_PARTICIPANT_DEAD,
    NR_PARTICIPANT_RETIRING,
};

struct nr_participant {
    _Alignas(
        64) _Atomic uint64_t state; /* [generation:24 | enum nr_participant_state:8 | pid:32] */
    _Atomic uint64_t identity;      /* tells the process from a later one of that pid; 0: unknown */
    _Atomic uint64_t image;         /* tells the program from a later one that it became by exec */
    _Atomic uint32_t hazard;        /* 1 + the index that this one is repairing; 0: none */
    _Atomic uint32_t role;          /* enum naru_role */
    uint64_t reserved[4];
    /* For others to look at; a line of its own, so that counting disturbs nobody. Relaxed. */
    _Alignas(64) struct nr_participant_tally {
        uint64_t sent_messages, sent_bytes, received_messages, received_bytes;
        uint64_t held, loans; /* messages it has in hand: taken, and to be sent */
        uint64_t blocked_ns;  /* in sleeps that are over */
        uint64_t
            asleep; /* since when, monotonic ns; lowest bit: for a message, not for room; 0: awake */
    } tally;
};
_Static_assert(sizeof(struct nr_participant) == 128, "two cache lines");

static inline unsigned nr_participant_state(uint64_t word)
{
    return (unsigned)(word >> 32) & 0xff;
}
static inline int32_t nr_participant_pid(uint64_t word)
{
    return (int32_t)(uint32_t)word;
}

/* A private view: where the table is, and how many entries it has. */
struct nr_participants {
    struct nr_participant *entries;
    unsigned count;
};

/* Claims a free entry as JOINING, in a new generation. Its index, or -1: all are taken. The caller sets
   image, and then calls nr_participants_joined(). *ret_word is what the entry's state now is. */
int nr_participants_claim(struct nr_participants *table, int32_t pid, uint64_t *ret_word);
bool nr_participants_joined(struct nr_participants *table, unsigned index, uint64_t *word,
                            uint64_t identity, uint32_t role);

/*
 * The same for an entry that in exactly that word is ALIVE or JOINING, and whose process is dead: the caller
 * owns it, and must clear the traces of its last owner before nr_participants_joined(). False: it is no longer
 * what it was. No repairer can be at work on it: those look for DEAD, which it has not been.
 */
bool nr_participants_adopt(struct nr_participants *table, unsigned index, uint64_t word,
                           int32_t pid, uint64_t *ret_word);

/* ALIVE or JOINING in exactly that word -> DEAD. False: it is no longer what it was. */
bool nr_participants_mark_dead(struct nr_participants *table, unsigned index, uint64_t word);

/*
 * Begins a repair of `index` by participant `me`: names it, and looks again. True: the caller may now
 * clear the traces of `index`, and then must call nr_participants_repair_end().
 */
bool nr_participants_repair_begin(struct nr_participants *table, unsigned me, unsigned index);
void nr_participants_repair_end(struct nr_participants *table, unsigned me, unsigned index);

/* An orderly end: the caller has left no traces. */
void nr_participants_leave(struct nr_participants *table, unsigned index);

/* RETIRING -> FREE if nobody names it. Anyone, any time; does nothing else. */
void nr_participants_try_free(struct nr_participants *table, unsigned index);
