/* SPDX-License-Identifier: MIT */
/*
 * Contents   words - sizes - clients - servers - repair
 */
#include "data/calls.h"
#include <assert.h>
#include <errno.h>

static_assert(offsetof(struct nr_call_entry, request) == NR_CALL_REQUEST_OFFSET, "sizes");
static_assert(offsetof(struct nr_call_answer, reply) == NR_CALL_REPLY_OFFSET, "sizes");

/* -- words ------------------------------------------------------------------------------------ */

enum nr_call_state {
    NR_CALL_IDLE,
    NR_CALL_PREPARING,
    NR_CALL_WAITING,
    NR_CALL_TAKEN,
    NR_CALL_ABANDONED,
    NR_CALL_ANSWERED,
    NR_CALL_ORPHAN,
    NR_CALL_FAILED,
    NR_CALL_READING,
};

/* What stands in a slot of the ring. */
struct nr_call_item {
    uint64_t number;
    uint32_t index;
};

/* A word changes a few times in a call's life: more tries are needed only where someone writes at random. */
enum { NR_CALL_TRIES = 16 };

static uint64_t nr_call_word(uint64_t number, enum nr_call_state state, uint32_t owner)
{
    return (number << 16) | ((uint64_t)state << 12) | owner;
}
static uint64_t nr_call_number(uint64_t word)
{
    return word >> 16;
}
static enum nr_call_state nr_call_state(uint64_t word)
{
    return (enum nr_call_state)((word >> 12) & 15);
}
static uint32_t nr_call_owner(uint64_t word)
{
    return (uint32_t)word & 4095;
}

static uint64_t nr_call_read(const struct nr_call_entry *entry)
{
    return atomic_load_explicit(&entry->word, memory_order_acquire);
}

static uint32_t nr_call_client(const struct nr_call_entry *entry)
{
    return atomic_load_explicit(&entry->client, memory_order_relaxed) & 4095;
}

/* False: *from is what it is instead; what stands beside it is not known by that. */
static bool nr_call_change(struct nr_call_entry *entry, uint64_t *from, uint64_t to)
{
    return atomic_compare_exchange_strong_explicit(&entry->word, from, to, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

/* -- sizes ------------------------------------------------------------------------------------ */

static size_t nr_call_lines(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static size_t nr_call_answer_offset(size_t size_max_bytes)
{
    return nr_call_lines(NR_CALL_REQUEST_OFFSET + size_max_bytes);
}

size_t nr_calls_entry_bytes(size_t size_max_bytes)
{
    return nr_call_answer_offset(size_max_bytes) +
           nr_call_lines(NR_CALL_REPLY_OFFSET + size_max_bytes);
}

size_t nr_calls_bytes(const struct nr_calls *sizes)
{
    return nr_slot_ring_bytes(&sizes->ring) +
           sizes->count * nr_calls_entry_bytes(sizes->size_max_bytes);
}

void nr_calls_attach(struct nr_calls *calls, void *memory)
{
    nr_slot_ring_attach(&calls->ring, memory);
    calls->entries = (char *)memory + nr_slot_ring_bytes(&calls->ring);
}

void nr_calls_join(struct nr_calls *calls, uint32_t me)
{
    calls->me = calls->ring.me = me;
    atomic_store_explicit(&calls->hint, me % calls->count, memory_order_relaxed);
}

struct nr_call_entry *nr_call_at(const struct nr_calls *calls, uint32_t index)
{
    return (struct nr_call_entry *)(void *)(calls->entries +
                                            index * nr_calls_entry_bytes(calls->size_max_bytes));
}

struct nr_call_answer *nr_call_answer_at(const struct nr_calls *calls, uint32_t index)
{
    return (struct nr_call_answer *)(void *)((char *)nr_call_at(calls, index) +
                                             nr_call_answer_offset(calls->size_max_bytes));
}

/* -- clients ---------------------------------------------------------------------------------- */

int nr_calls_claim(struct nr_calls *calls, struct nr_call_ticket *ret)
{
    uint32_t hint = atomic_load_explicit(&calls->hint, memory_order_relaxed);

    for (uint32_t i = 0; i < calls->count; i++) {
        uint32_t index = hint + i < calls->count ? hint + i : hint + i - calls->count;
        struct nr_call_entry *entry = nr_call_at(calls, index);
        uint64_t word = nr_call_read(entry); /* [A3] */
        uint64_t number = nr_call_number(word) + 1;
        if (nr_call_state(word) != NR_CALL_IDLE ||
            !nr_call_change(entry, &word, nr_call_word(number, NR_CALL_PREPARING, calls->me)))
            continue;
        atomic_store_explicit(&entry->client, calls->me, memory_order_relaxed);
        entry->deliveries = 0;
        *ret = (struct nr_call_ticket){.index = index, .number = number};
        return 0;
    }
    return -EAGAIN;
}

bool nr_calls_may_claim(const struct nr_calls *calls)
{
    for (uint32_t i = 0; i < calls->count; i++)
        if (nr_call_state(nr_call_read(nr_call_at(calls, i))) == NR_CALL_IDLE)
            return nr_slot_may_claim(&calls->ring);
    return false;
}

/* The slot is claimed first: what waits for room is not yet WAITING, and can still be dropped by its client. */
int nr_calls_post(struct nr_calls *calls, const struct nr_call_ticket *ticket,
                  uint32_t *ret_blocker)
{
    struct nr_slot_claim claim;
    int result = nr_slot_claim(&calls->ring, &claim, ret_blocker);

    if (result < 0)
        return result;
    struct nr_call_item *item = (struct nr_call_item *)(void *)claim.slot->payload;
    item->number = ticket->number;
    item->index = ticket->index;
    claim.slot->size_bytes = sizeof *item;
    /* Before the item: who takes an item whose call is not WAITING drops it. Nobody looks at it without the
       item, whose publication is the release. */
    atomic_store_explicit(&nr_call_at(calls, ticket->index)->word,
                          nr_call_word(ticket->number, NR_CALL_WAITING, calls->me),
                          memory_order_relaxed);
    nr_slot_publish(&calls->ring, &claim, NR_SLOT_NO_CHUNK); /* [R1] */
    return 0;
}

int nr_calls_look(struct nr_calls *calls, const struct nr_call_ticket *ticket, bool is_thorough)
{
    const struct nr_call_answer *answer = nr_call_answer_at(calls, ticket->index);

    if (atomic_load_explicit(&answer->done, memory_order_acquire) == ticket->number) /* [A2] */
        return 0;
    if (!is_thorough)
        return -EAGAIN;
    uint64_t word = nr_call_read(nr_call_at(calls, ticket->index)); /* [A2] */
    if (nr_call_number(word) != ticket->number)
        return -EINVAL;
    switch (nr_call_state(word)) {
    case NR_CALL_ANSWERED:
    case NR_CALL_READING:
        return 0;
    case NR_CALL_FAILED:
        return -EOWNERDEAD;
    case NR_CALL_WAITING:
    case NR_CALL_TAKEN:
    case NR_CALL_ORPHAN:
        return -EAGAIN;
    default:
        return -EINVAL;
    }
}

void nr_calls_keep(struct nr_calls *calls, const struct nr_call_ticket *ticket)
{
    atomic_store_explicit(&nr_call_at(calls, ticket->index)->word,
                          nr_call_word(ticket->number, NR_CALL_READING, calls->me),
                          memory_order_relaxed);
}

void nr_calls_finish(struct nr_calls *calls, const struct nr_call_ticket *ticket)
{
    /* A plain store, here and above: in these states only the client acts. */
    atomic_store_explicit(&nr_call_at(calls, ticket->index)->word,
                          nr_call_word(ticket->number, NR_CALL_IDLE, 0),
                          memory_order_release); /* [R3] */
    atomic_store_explicit(&calls->hint, ticket->index, memory_order_relaxed);
}

/* What becomes of a call whose client gives it up, or has died; the same word if it stays. */
static uint64_t nr_call_given_up(uint64_t word)
{
    enum nr_call_state state = nr_call_state(word);

    if (state == NR_CALL_WAITING || state == NR_CALL_ORPHAN)
        return nr_call_word(nr_call_number(word), NR_CALL_IDLE, 0);
    if (state == NR_CALL_TAKEN)
        return nr_call_word(nr_call_number(word), NR_CALL_ABANDONED, nr_call_owner(word));
    return word;
}

bool nr_calls_withdraw(struct nr_calls *calls, const struct nr_call_ticket *ticket)
{
    struct nr_call_entry *entry = nr_call_at(calls, ticket->index);
    uint64_t word = nr_call_read(entry);

    for (int tries = 0; tries < NR_CALL_TRIES && nr_call_number(word) == ticket->number &&
                        nr_call_given_up(word) != word;
         tries++)
        if (nr_call_change(entry, &word, nr_call_given_up(word)))
            return true;
    return false;
}

bool nr_calls_may_end(const struct nr_calls *calls)
{
    for (uint32_t i = 0; i < calls->count; i++) {
        uint64_t word = nr_call_read(nr_call_at(calls, i));
        enum nr_call_state state = nr_call_state(word);
        if ((state == NR_CALL_ANSWERED || state == NR_CALL_FAILED) &&
            nr_call_owner(word) == calls->me)
            return true;
    }
    return false;
}

/* -- servers ---------------------------------------------------------------------------------- */

/* Mine, if call `number` (0: whichever) is in that state. */
static bool nr_call_seize(struct nr_calls *calls, uint32_t index, uint64_t number,
                          struct nr_call_ticket *ret)
{
    struct nr_call_entry *entry = nr_call_at(calls, index);
    uint64_t word = nr_call_read(entry);

    for (int tries = 0; tries < NR_CALL_TRIES; tries++) {
        enum nr_call_state state = nr_call_state(word);
        if (!(state == NR_CALL_WAITING && number == nr_call_number(word)) &&
            !(state == NR_CALL_ORPHAN && (!number || number == nr_call_number(word))))
            break;
        uint64_t taken = nr_call_word(nr_call_number(word), NR_CALL_TAKEN, calls->me);
        if (!nr_call_change(entry, &word, taken)) /* [A1] */
            continue;
        entry->deliveries++;
        *ret = (struct nr_call_ticket){.index = index, .number = nr_call_number(taken)};
        return true;
    }
    return false;
}

/* Somebody was repaired, or gave a request back. */
static int nr_calls_take_orphan(struct nr_calls *calls, struct nr_call_ticket *ret, uint64_t epoch)
{
    for (uint32_t i = 0; i < calls->count; i++)
        if (nr_call_seize(calls, i, 0, ret))
            return 0;
    atomic_store_explicit(&calls->seen_epoch, epoch, memory_order_relaxed);
    return -EAGAIN;
}

static uint64_t nr_calls_epoch(const struct nr_calls *calls)
{
    return atomic_load_explicit(&calls->ring.shared->epoch, memory_order_acquire); /* [A4] */
}

int nr_calls_take(struct nr_calls *calls, struct nr_call_ticket *ret, uint32_t *ret_blocker)
{
    uint64_t epoch = nr_calls_epoch(calls);

    if (epoch != atomic_load_explicit(&calls->seen_epoch, memory_order_relaxed) &&
        nr_calls_take_orphan(calls, ret, epoch) == 0)
        return 0;
    bool has_dropped = false;
    for (uint32_t left = nr_slot_steps(&calls->ring); left; left -= left > 0) {
        struct nr_slot_taken taken;
        int result = nr_slot_take_within(&calls->ring, &taken, ret_blocker, &left);
        if (result == -EBADMSG)
            continue;
        if (result < 0)
            return has_dropped ? -ENOMSG : result;
        struct nr_call_item item = *(const struct nr_call_item *)(const void *)taken.payload;
        /* Before the slot is freed: if we die in between, the item or the call names us. */
        bool is_mine =
            item.index < calls->count && nr_call_seize(calls, item.index, item.number, ret);
        nr_slot_ack(&calls->ring, &taken);
        if (is_mine)
            return 0;
        has_dropped = true;
    }
    return has_dropped ? -ENOMSG : -EAGAIN;
}

bool nr_calls_may_take(const struct nr_calls *calls)
{
    return nr_calls_epoch(calls) !=
               atomic_load_explicit(&calls->seen_epoch, memory_order_relaxed) ||
           nr_slot_may_take(&calls->ring);
}

bool nr_calls_holds(const struct nr_calls *calls, const struct nr_call_ticket *ticket)
{
    if (ticket->index >= calls->count)
        return false;
    uint64_t word =
        atomic_load_explicit(&nr_call_at(calls, ticket->index)->word, memory_order_relaxed);
    return word == nr_call_word(ticket->number, NR_CALL_TAKEN, calls->me) ||
           word == nr_call_word(ticket->number, NR_CALL_ABANDONED, calls->me);
}

/* From TAKEN(me) to `state` of the client. False: it was abandoned, and is IDLE now. */
static bool nr_call_give(struct nr_calls *calls, const struct nr_call_ticket *ticket,
                         enum nr_call_state state, uint32_t *ret_client)
{
    struct nr_call_entry *entry = nr_call_at(calls, ticket->index);
    uint64_t word = nr_call_word(ticket->number, NR_CALL_TAKEN, calls->me);

    *ret_client = nr_call_client(entry);
    if (nr_call_change(entry, &word, nr_call_word(ticket->number, state, *ret_client)))
        return true;
    if (word == nr_call_word(ticket->number, NR_CALL_ABANDONED, calls->me))
        nr_call_change(entry, &word, nr_call_word(ticket->number, NR_CALL_IDLE, 0)); /* [R3] */
    return false;
}

bool nr_calls_answer(struct nr_calls *calls, const struct nr_call_ticket *ticket,
                     uint32_t *ret_client)
{
    struct nr_call_answer *answer = nr_call_answer_at(calls, ticket->index);

    answer->deliveries = nr_call_at(calls, ticket->index)->deliveries;
    if (!nr_call_give(calls, ticket, NR_CALL_ANSWERED, ret_client)) /* [R2] */
        return false;
    atomic_store_explicit(&answer->done, ticket->number, memory_order_release); /* [R2] */
    return true;
}

void nr_calls_return(struct nr_calls *calls, const struct nr_call_ticket *ticket)
{
    uint32_t client;

    if (nr_call_give(calls, ticket, NR_CALL_ORPHAN, &client))
        atomic_fetch_add_explicit(&calls->ring.shared->epoch, 1, memory_order_release); /* [R4] */
}

/* -- repair ----------------------------------------------------------------------------------- */

/* What becomes of this word when `dead` is; the same word if nothing. */
static uint64_t nr_call_without(const struct nr_calls *calls, const struct nr_call_entry *entry,
                                uint64_t word, uint32_t dead)
{
    uint64_t idle = nr_call_word(nr_call_number(word), NR_CALL_IDLE, 0);
    uint32_t client = nr_call_client(entry);

    switch (nr_call_state(word)) {
    case NR_CALL_TAKEN:
        if (client == dead)
            return nr_call_given_up(word);
        if (nr_call_owner(word) != dead)
            return word;
        return nr_call_word(nr_call_number(word),
                            calls->at_most_once ? NR_CALL_FAILED : NR_CALL_ORPHAN, client);
    case NR_CALL_IDLE:
        return word;
    default: /* the word names whoever has to act, and there is nothing left to do for it */
        return nr_call_owner(word) == dead ? idle : word;
    }
}

/* The calls first, the ring behind them: its repair ends with the epoch, and who sees that finds every orphan. */
void nr_calls_repair(struct nr_calls *calls, uint32_t dead)
{
    for (uint32_t i = 0; i < calls->count; i++) {
        struct nr_call_entry *entry = nr_call_at(calls, i);
        /* More than once: TAKEN by the dead of the dead goes in two steps. */
        for (int tries = 0; tries < NR_CALL_TRIES; tries++) {
            uint64_t word = nr_call_read(entry);
            uint64_t next = nr_call_without(calls, entry, word, dead);
            if (next == word)
                break;
            nr_call_change(entry, &word, next);
        }
    }
    nr_slot_repair(&calls->ring, dead);
}

bool nr_calls_is_open(const struct nr_calls *calls, uint32_t index, uint32_t *ret_client)
{
    const struct nr_call_entry *entry = nr_call_at(calls, index);

    *ret_client = nr_call_client(entry);
    return nr_call_state(nr_call_read(entry)) != NR_CALL_IDLE;
}

uint64_t nr_calls_queued(const struct nr_calls *calls)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < calls->count; i++) {
        enum nr_call_state state = nr_call_state(nr_call_read(nr_call_at(calls, i)));
        count += state == NR_CALL_WAITING || state == NR_CALL_ORPHAN;
    }
    return count;
}
