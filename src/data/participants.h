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
 * Hazard     A repairer names the index it works on in its own entry, and looks again whether it is still
 *            DEAD; one that frees first makes it RETIRING, and frees only when no entry names it. So an
 *            index never gets a new owner while a paused repairer may still act on the old one's behalf.
 *            (M. Michael, "Hazard Pointers", 2004: retire, then scan.)
 * Writers    state: by CAS, as above. identity, role: the claimer, before ALIVE. hazard and the
 *            counters: their owner.
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
    _Atomic uint32_t hazard;        /* 1 + the index that this one is repairing; 0: none */
    _Atomic uint32_t role;          /* enum naru_role */
    _Atomic uint32_t held;          /* messages it has in hand */
    uint32_t reserved;
    _Atomic uint64_t messages, bytes; /* sent and received */
    uint64_t reserved2[2];
};
_Static_assert(sizeof(struct nr_participant) == 64, "one cache line");

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
   identity and role, and then nr_participants_joined(). *ret_word is what the entry's state now is. */
int nr_participants_claim(struct nr_participants *table, int32_t pid, uint64_t *ret_word);
bool nr_participants_joined(struct nr_participants *table, unsigned index, uint64_t *word,
                            uint64_t identity, uint32_t role);

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
