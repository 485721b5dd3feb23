/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * calls -- requests of many clients, answered by many servers, any of which may die
 *
 * What       A table of calls, each with room for its request and its reply, and a ring (data/slot_ring.h) that
 *            carries the numbers of those that wait for a server, in order. One word of a call says all about it:
 *            the call's number, what state it is in, and who has to act next.
 * Memory     Shared; offsets and indexes only. No system calls. The handle is private, with copies of the bounds.
 * States     of call n, by client c, in the hand of server s:
 *              IDLE -claim-> PREPARING(c) -post-> WAITING(c) -take-> TAKEN(s) -answer-> ANSWERED(c) -finish-> IDLE
 *              ANSWERED(c) -keep-> READING(c) -finish-> IDLE      the client reads the reply where it stands
 *              TAKEN(s) -return-> ORPHAN(c) -take-> TAKEN(s)      given back: flagged as redelivered
 *              WAITING, ORPHAN -withdraw-> IDLE                   the client gives up, or has died
 *              TAKEN(s) -withdraw-> ABANDONED(s) -answer, return-> IDLE
 *              repair of c: as if it withdrew; PREPARING, ANSWERED, READING, FAILED -> IDLE
 *              repair of s: TAKEN(s) -> ORPHAN(c), or at most once FAILED(c); ABANDONED(s) -> IDLE
 *            The number goes up with each claim and is never reset, so that whoever comes late (an item in the ring, a
 *            reply, a repairer) finds another number and does nothing.
 * Writers    The word: whoever has to act next, or a CAS from exactly what was seen. Request, client: the client
 *            while PREPARING. deliveries, reply: the server while TAKEN. done: who answered; a hint.
 * Ring       May hold numbers of calls that are over; who takes one drops it.
 * Done       The client does not look at the word while it spins, but at `done`, in the line of the reply: so the word's
 *            line stays with the server from taking to answering. done is written behind the word: if it is n,
 *            call n is answered. If it is not, the word knows.
 * Ordering   [R1] post -> [A1] take: the request. [R2] answer -> [A2] look: the reply. [R3] finish -> [A3] claim: the
 *            last readers of both are done. [R4] epoch -> [A4] the scan for orphans.
 * Death      A kill at any point leaves a word that names who died, or nobody who has to act.
 * Trust      Sizes and indexes from shared memory are checked before use.
 * Returns    0 done; -EAGAIN nothing there, or no room; -EBUSY someone is in the middle of the ring's next slot.
 */
#include "data/slot_ring.h"

/* The request's room follows in the same line; the reply's part begins on a line of its own. */
struct nr_call_entry {
    _Alignas(64) _Atomic uint64_t word; /* [number:48 | state:4 | owner:12] */
    _Atomic uint32_t client;            /* its index, while the word names the server */
    uint32_t size_bytes;
    int64_t type;
    int32_t client_pid;
    uint32_t deliveries;
    char request[];
};

struct nr_call_answer {
    _Alignas(
        64) _Atomic uint64_t done; /* the number of the latest call that was answered; a hint */
    uint32_t size_bytes;
    int32_t error; /* 0: none */
    int32_t server_pid;
    uint32_t deliveries;
    uint64_t reserved; /* so that a reply in place is aligned for whatever it is */
    char reply[];
};

enum { NR_CALL_REQUEST_OFFSET = 32, NR_CALL_REPLY_OFFSET = 32 };

struct nr_calls {
    struct nr_slot_ring ring; /* its slots_count is set by the caller; slot_bytes 64, no chunks */
    char *entries;
    uint32_t count;
    uint32_t participants_count; /* indexes of clients are below */
    size_t size_max_bytes;       /* of a request, of a reply */
    uint32_t me;
    bool at_most_once;
    _Atomic uint64_t seen_epoch;
    _Atomic uint32_t hint; /* where a claim begins to look */
};

/* One entry of these sizes, and all with the ring. */
size_t nr_calls_entry_bytes(size_t size_max_bytes);
size_t nr_calls_bytes(const struct nr_calls *sizes);

/* The handle's sizes are set, the rest is zero; points it at `memory` (64-byte aligned). Zeroed memory: no calls. */
void nr_calls_attach(struct nr_calls *calls, void *memory);

/* From here on the handle acts as participant `me`. */
void nr_calls_join(struct nr_calls *calls, uint32_t me);

struct nr_call_entry *nr_call_at(const struct nr_calls *calls, uint32_t index);
struct nr_call_answer *nr_call_answer_at(const struct nr_calls *calls, uint32_t index);

/* -- clients -- */

struct nr_call_ticket {
    uint32_t index;
    uint64_t number;
};

/* A call becomes mine, PREPARING. -EAGAIN: there are as many as the table holds. */
int nr_calls_claim(struct nr_calls *calls, struct nr_call_ticket *ret);

/* False only if a claim that begins now would find no call, or the ring has no room for it. */
bool nr_calls_may_claim(const struct nr_calls *calls);

/* The request, size_bytes, type and client_pid are written: it goes to the servers. -EAGAIN, -EBUSY (with
   *ret_blocker): the ring is full; it stays PREPARING. */
int nr_calls_post(struct nr_calls *calls, const struct nr_call_ticket *ticket,
                  uint32_t *ret_blocker);

/* 0: the reply is there. -EAGAIN: not yet. -EOWNERDEAD: failed. -EINVAL: the ticket is none of mine. Only with
   `is_thorough` is a negative one sure; without, it is what can be seen while spinning. */
int nr_calls_look(struct nr_calls *calls, const struct nr_call_ticket *ticket, bool is_thorough);

/* Answered: the reply stays, and is not told of any more. */
void nr_calls_keep(struct nr_calls *calls, const struct nr_call_ticket *ticket);

/* Answered, read, failed, or not posted: done with it. */
void nr_calls_finish(struct nr_calls *calls, const struct nr_call_ticket *ticket);

/* Gives it up. False: it has an outcome already (or is none of mine): look. */
bool nr_calls_withdraw(struct nr_calls *calls, const struct nr_call_ticket *ticket);

/* Is any call of mine answered, or failed, and not kept? */
bool nr_calls_may_end(const struct nr_calls *calls);

/* -- servers -- */

/* The oldest request becomes mine. -ENOMSG: there is none, but the ring has room again, where calls stood that
   are over. */
int nr_calls_take(struct nr_calls *calls, struct nr_call_ticket *ret, uint32_t *ret_blocker);

/* False only if a take that begins now would find nothing. */
bool nr_calls_may_take(const struct nr_calls *calls);

/* Is this request in my hand? */
bool nr_calls_holds(const struct nr_calls *calls, const struct nr_call_ticket *ticket);

/* The reply, size_bytes, error and server_pid are written: it goes to the client, whose index is stored, to
   be woken. False: nobody waits for it any more; it is done with. */
bool nr_calls_answer(struct nr_calls *calls, const struct nr_call_ticket *ticket,
                     uint32_t *ret_client);

/* Gives it to another server. */
void nr_calls_return(struct nr_calls *calls, const struct nr_call_ticket *ticket);

/* -- repair -- */

/* Clears the traces of `dead`, which certainly acts no more (or is the caller, leaving). Idempotent; any
   number at once; safe to kill. The caller then wakes all. */
void nr_calls_repair(struct nr_calls *calls, uint32_t dead);

/* False: nobody waits for this call. Otherwise `client` may, unless it is preparing it. */
bool nr_calls_is_open(const struct nr_calls *calls, uint32_t index, uint32_t *ret_client);

/* About how many requests wait for a server. */
uint64_t nr_calls_queued(const struct nr_calls *calls);
