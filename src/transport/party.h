/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * party -- one endpoint among those that share a segment: joins, notices deaths, has them repaired
 *
 * What       Brings the shared table (data/participants.h) together with the kernel, which alone knows
 *            who is dead: a pidfd that is readable, of a process whose identity is the entry's.
 * Who waits  Sleepers sleep on their own words and on the segment's death word, which is pending in
 *            every thread that has called nr_party_operate(): when one dies, at any instruction, the kernel
 *            wakes a sleeper, which calls nr_party_sweep(), which repairs and wakes the others.
 * Memory     The table and the death word are shared; the handle is private.
 * Threads    All functions may be called by several threads, except join and leave.
 * Death      A repair that was interrupted is done again from the beginning by the next sweep.
 */
#include "data/participants.h"
#include "os/futex.h"
#include "os/lock.h"
#include "os/mapping.h"
#include <naru/endpoint.h>

struct nr_party {
    struct nr_participants table;
    uint32_t *death_word;           /* always 0 */
    uint32_t *changes;              /* shared: counts who joins, and who is found dead */
    uint32_t swept;                 /* `changes` as of the last sweep */
    unsigned me;                    /* my index */
    uint64_t my_word;               /* what my entry's state is */
    struct nr_lock lock;            /* of the watches */
    struct nr_party_watch *watches; /* a pidfd for each entry, once it was needed */
    bool is_joined;

    /* Clears the traces of `dead` from the segment: idempotent, safe against others doing the same and
       against being killed at any point; then wakes all who may wait for what it had. */
    void (*repair)(void *context, unsigned dead);
    void *context;
};

/* The caller has set table, death_word, changes, repair and context, and wakes all afterwards. -EBUSY: all entries
   are taken by the living (the text names the limit); -ENOMEM. What this very process left when it was another
   program, before an exec, is repaired. */
int nr_party_join(struct nr_party *party, enum naru_role role);

/* For one that can only read the table: it has no entry, and no one knows of it. -ENOMEM. */
int nr_party_observe(struct nr_party *party);

/* The caller has cleared its own traces. */
void nr_party_leave(struct nr_party *party);

/* Forgets the private part, in any process: a forked child's copy as well. */
void nr_party_release(struct nr_party *party);

/* At the start of each operation: from here on this thread's death wakes a sleeper. A few loads. */
static inline void nr_party_operate(struct nr_party *party)
{
    nr_os_futex_arm(party->death_word);
}

/* What watches over a table needs: see vigil.h. changes; the state of another process' entry that is ALIVE or
   JOINING, otherwise 0; a pidfd of it that is the caller's (-ESRCH: dead; -ENOSYS, -EMFILE: can't be had);
   and to say that this pidfd told of its death. */
static inline uint32_t nr_party_changes(const struct nr_party *party)
{
    return __atomic_load_n(party->changes, __ATOMIC_SEQ_CST);
}
uint64_t nr_party_other(const struct nr_party *party, unsigned index);
int nr_party_pidfd(const struct nr_party *party, unsigned index, uint64_t word);
void nr_party_died(struct nr_party *party, unsigned index, uint64_t word);

/* Asks the kernel. False for an entry that is free, alive, or can't be examined. Marks it DEAD. */
bool nr_party_is_dead(struct nr_party *party, unsigned index);

/* The same, and nothing is marked: for who can only read. */
bool nr_party_is_gone(struct nr_party *party, unsigned index);

/*
 * Completes unfinished repairs, if there were changes since the last time; with `ask_kernel` also looks for new
 * deaths (a few system calls for each other participant). Call it without before each sleep, and with when
 * someone is in the way. Returns how many were repaired. A repairer that dies before it counts its changes is
 * itself a death that someone notices, and then all is looked through.
 */
unsigned nr_party_sweep(struct nr_party *party, bool ask_kernel);

/*
 * Looks for those that live and no longer map this memory: they became other programs without closing. One that can't
 * be examined counts as attached. Reads a file of /proc for each. Returns how many were found and repaired.
 */
unsigned nr_party_examine(struct nr_party *party, const struct nr_mapping *memory);
bool nr_party_has_left(struct nr_party *party, unsigned index, const struct nr_mapping *memory);

/* Participants that are attached in that role (as a bit mask; 0: any), without the caller. */
unsigned nr_party_count(struct nr_party *party, unsigned role);

/* The `nth` that is attached, the caller included. -ENOENT: there are not so many. */
int nr_party_describe(struct nr_party *party, size_t nth, struct naru_participant *ret);

/* The pid behind an index, for error texts; 0: none. */
int nr_party_pid(struct nr_party *party, unsigned index);
