/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * vigil -- a thread's watch over a segment: a gate, the deaths of all others, and a word that calls it off
 *
 * What       One ring (os/uring.h) in which stand, once and for all: the segment's death word, the word that ends the
 *            wait, and the pidfd of every other participant, or of a pair's other process; and for each sleep the
 *            gate's word. So a sleep needs no time-out to notice a death, costs one system call, and takes
 *            nothing while it lasts.
 * Guarded    In a process with one thread, a vigil that blocks sleeps on the gate itself, which is faster, and
 *            a completion disturbs it (os/uring.h). One that is polled never disturbs.
 * Newcomers  Whoever joins counts header->changes up and wakes all, so that they watch it as well.
 * Thread     A vigil is used by the thread that made it; see os/uring.h. Anyone may end it.
 * Death      The pidfd tells when a death is one. The death word comes a little before it, or alone: then a
 *            thread ended, or a process became another program (NR_VIGIL_OMEN).
 * Blind      When a participant can't be watched (no descriptor left, pidfds refused) `is_blind` says so: its
 *            user then has to look around now and then.
 */
#include "data/gate.h"
#include "os/uring.h"
#include "transport/party.h"

enum { NR_VIGIL_GATES = 4 };

enum nr_vigil_news {
    NR_VIGIL_GATE = 1 << 0,
    NR_VIGIL_OMEN = 1 << 1, /* the death word */
    NR_VIGIL_DEAD =
        1 << 2, /* a participant, which is marked DEAD by now; or a pair's other process */
    NR_VIGIL_STOP = 1 << 3,
};

struct nr_vigil {
    struct nr_uring ring;
    struct nr_party *party;                 /* NULL: a pair's */
    const uint32_t *death_word, *stop_word; /* stop_word: NULL where there is none */
    bool
        is_guarded; /* sleeps on the gate itself, guarded by stop_word; else both stand in the ring */
    struct nr_vigil_gate {
        const uint32_t *word;
        uint32_t value, turn;
        bool is_armed;
    } gates[NR_VIGIL_GATES];
    uint32_t turn;
    bool has_death_word, has_stop_word, has_peer, has_timer; /* they stand in the ring */
    bool has_looked, is_blind;
    uint32_t changes;      /* of the table, as of the last look */
    uint64_t *watched;     /* by index: the state of the entry whose process is watched; 0: none */
    struct nr_vigil *next; /* its user's */
    bool is_used;
};

/* -ENOSYS, -EMFILE, -ENOMEM, ... With a stop word it may be guarded. */
int nr_vigil_init(struct nr_vigil *vigil, struct nr_party *party, const uint32_t *death_word,
                  const uint32_t *stop_word);

/* This thread may sleep in it. False for ever if a guarded one's process has more threads by now. */
bool nr_vigil_is_mine(const struct nr_vigil *vigil);
void nr_vigil_deinit(struct nr_vigil *vigil); /* may run twice */

/* For a vigil that is polled: it shall be looked at again after that time, if nothing comes before. */
void nr_vigil_look_after(struct nr_vigil *vigil, int64_t after_ns);

/*
 * Watches the gate (its word being `value`, from nr_gate_prepare()) and all the rest; peer_pidfd: of a pair, or
 * -1. With a deadline sleeps until there are news; without (NULL) only arms and collects them. Returns a mask of
 * enum nr_vigil_news, 0 for nothing in particular (look again), or -ETIMEDOUT, -EINTR, -errno.
 */
int nr_vigil_watch(struct nr_vigil *vigil, const struct nr_gate *gate, uint32_t value,
                   int peer_pidfd, struct nr_deadline *deadline);
