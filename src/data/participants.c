/* SPDX-License-Identifier: MIT */
/*
 * Ordering: each edge with its two ends
 *
 * [R1] joined: identity, role -> state ALIVE     [A1] whoever reads ALIVE then reads them. Without it a
 *      living process could be compared with the identity of the entry's last owner, and be called dead.
 * [S1] repair_begin: store hazard, then load state. [S2] try_free: CAS RETIRING, then load each entry's state
 *      and hazard. These and the claim are seq_cst: one of the two sees the other. Without it both pass, the index gets a new owner, and
 *      the repairer clears away the traces of a living process.
 */
#include "data/participants.h"
#include <string.h>

/* A free entry's word changes by a claim alone, and then it is not free: more tries than a few are needed only
   where someone writes at random. */
enum { NR_PARTICIPANT_TRIES = 16 };

#define NR_WORD_STATE(word, state) (((word) & ~((uint64_t)0xff << 32)) | ((uint64_t)(state) << 32))

static uint64_t nr_participants_next(uint64_t word, int32_t pid)
{
    uint64_t generation = (word >> 40) + 1;

    return (generation << 40) | ((uint64_t)NR_PARTICIPANT_JOINING << 32) | (uint32_t)pid;
}

int nr_participants_claim(struct nr_participants *table, int32_t pid, uint64_t *ret_word)
{
    for (unsigned i = 0; i < table->count; i++) {
        struct nr_participant *entry = &table->entries[i];
        /* Relaxed, also where the claim fails: it is the claim that acquires what the last owner's end has
           released. */
        uint64_t word = atomic_load_explicit(&entry->state, memory_order_relaxed);
        for (int tries = 0;
             nr_participant_state(word) == NR_PARTICIPANT_FREE && tries < NR_PARTICIPANT_TRIES;
             tries++) {
            uint64_t claimed = nr_participants_next(word, pid);
            if (atomic_compare_exchange_strong_explicit(
                    &entry->state, &word, claimed, memory_order_seq_cst, memory_order_relaxed)) {
                *ret_word = claimed;
                return (int)i;
            }
        }
    }
    return -1;
}

bool nr_participants_joined(struct nr_participants *table, unsigned index, uint64_t *word,
                            uint64_t identity, uint32_t role)
{
    struct nr_participant *entry = &table->entries[index];
    uint64_t alive = NR_WORD_STATE(*word, NR_PARTICIPANT_ALIVE);

    atomic_store_explicit(&entry->identity, identity, memory_order_relaxed);
    atomic_store_explicit(&entry->role, role, memory_order_relaxed);
    atomic_store_explicit(&entry->hazard, 0, memory_order_relaxed);
    memset(&entry->tally, 0, sizeof entry->tally);
    if (!atomic_compare_exchange_strong_explicit(&entry->state, word, alive, memory_order_release,
                                                 memory_order_relaxed)) /* [R1] */
        return false;
    *word = alive;
    return true;
}

bool nr_participants_adopt(struct nr_participants *table, unsigned index, uint64_t word,
                           int32_t pid, uint64_t *ret_word)
{
    unsigned state = nr_participant_state(word);

    if (state != NR_PARTICIPANT_JOINING && state != NR_PARTICIPANT_ALIVE)
        return false;
    *ret_word = nr_participants_next(word, pid);
    /* Relaxed: the caller has read `word` with acquire, and has nothing to tell yet. Not part of [S1], [S2]: the
       scan counts the entry's hazard before and after. */
    return atomic_compare_exchange_strong_explicit(&table->entries[index].state, &word, *ret_word,
                                                   memory_order_relaxed, memory_order_relaxed);
}

bool nr_participants_mark_dead(struct nr_participants *table, unsigned index, uint64_t word)
{
    uint64_t dead = NR_WORD_STATE(word, NR_PARTICIPANT_DEAD);

    /* Release: the caller has read `word` with acquire. Not part of [S1], [S2]: who still reads the state
       before has nothing to repair yet. */
    return atomic_compare_exchange_strong_explicit(&table->entries[index].state, &word, dead,
                                                   memory_order_release, memory_order_relaxed);
}

bool nr_participants_repair_begin(struct nr_participants *table, unsigned me, unsigned index)
{
    atomic_store_explicit(&table->entries[me].hazard, index + 1, memory_order_seq_cst); /* [S1] */
    uint64_t word = atomic_load_explicit(&table->entries[index].state, memory_order_seq_cst);
    if (nr_participant_state(word) == NR_PARTICIPANT_DEAD)
        return true;
    atomic_store_explicit(&table->entries[me].hazard, 0, memory_order_release);
    return false;
}

void nr_participants_repair_end(struct nr_participants *table, unsigned me, unsigned index)
{
    struct nr_participant *entry = &table->entries[index];
    /* Relaxed: it was DEAD in repair_begin(), and the exchange says whether it still is. */
    uint64_t word = atomic_load_explicit(&entry->state, memory_order_relaxed);

    if (nr_participant_state(word) == NR_PARTICIPANT_DEAD)
        atomic_compare_exchange_strong_explicit(&entry->state, &word,
                                                NR_WORD_STATE(word, NR_PARTICIPANT_RETIRING),
                                                memory_order_seq_cst, memory_order_relaxed);
    atomic_store_explicit(&table->entries[me].hazard, 0, memory_order_release);
    nr_participants_try_free(table, index);
}

void nr_participants_leave(struct nr_participants *table, unsigned index)
{
    struct nr_participant *entry = &table->entries[index];
    uint64_t word = atomic_load_explicit(&entry->state, memory_order_relaxed);

    atomic_compare_exchange_strong_explicit(&entry->state, &word,
                                            NR_WORD_STATE(word, NR_PARTICIPANT_RETIRING),
                                            memory_order_seq_cst, memory_order_relaxed);
    nr_participants_try_free(table, index);
}

/* Only who lives can still act on a hazard: those of the dead and of freed entries are void. The entry's
   own fields are not touched here, since another may free it first and a new owner have it by now. */
static bool nr_participants_is_named(const struct nr_participants *table, unsigned index)
{
    for (unsigned i = 0; i < table->count; i++) { /* [S2] */
        struct nr_participant *entry = &table->entries[i];
        unsigned state =
            nr_participant_state(atomic_load_explicit(&entry->state, memory_order_seq_cst));
        if ((state == NR_PARTICIPANT_JOINING || state == NR_PARTICIPANT_ALIVE) &&
            atomic_load_explicit(&entry->hazard, memory_order_seq_cst) == index + 1)
            return true;
    }
    return false;
}

void nr_participants_try_free(struct nr_participants *table, unsigned index)
{
    struct nr_participant *entry = &table->entries[index];
    /* Acquire: the scan stands behind the exchange to RETIRING, whoever made it. [S2] */
    uint64_t word = atomic_load_explicit(&entry->state, memory_order_acquire);

    if (nr_participant_state(word) == NR_PARTICIPANT_RETIRING &&
        !nr_participants_is_named(table, index))
        atomic_compare_exchange_strong_explicit(&entry->state, &word,
                                                NR_WORD_STATE(word, NR_PARTICIPANT_FREE),
                                                memory_order_release, memory_order_relaxed);
}
