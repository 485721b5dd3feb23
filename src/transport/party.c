/* SPDX-License-Identifier: MIT */
#include "transport/party.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "os/io.h"
#include "os/process.h"
#include <limits.h>
#include <stdlib.h>

enum { NR_PARTY_WATCHES = 64 }; /* pidfds that one endpoint keeps */

/* A pidfd for the process that an entry's state names; word is that state. */
struct nr_party_watch {
    uint64_t word;
    int pidfd;
};

static uint64_t nr_party_word(const struct nr_party *party, unsigned index)
{
    return atomic_load_explicit(&party->table.entries[index].state,
                                memory_order_acquire); /* [A1] */
}

static bool nr_party_may_be_dead(uint64_t word)
{
    unsigned state = nr_participant_state(word);

    return state == NR_PARTICIPANT_JOINING || state == NR_PARTICIPANT_ALIVE;
}

/* -- who is dead ---------------------------------------------------------------------------- */

uint64_t nr_party_other(const struct nr_party *party, unsigned index)
{
    uint64_t word = nr_party_word(party, index);

    return index != party->me && nr_party_may_be_dead(word) &&
                   nr_participant_pid(word) != nr_participant_pid(party->my_word)
               ? word
               : 0;
}

/* This process wrote it, as the program that it is now: no need to ask. As another one: that is no more. */
static bool nr_party_is_ours(const struct nr_party *party, unsigned index, uint64_t word,
                             bool *ret_is_dead)
{
    const struct nr_participant *entry = &party->table.entries[index];
    uint64_t image = atomic_load_explicit(&entry->image, memory_order_relaxed);

    if (nr_participant_pid(word) != nr_os_pid())
        return false;
    /* Joining under our pid is either another thread or the dead owner of a pid that is ours now. The pidfd of
       the latter is ours as well, so that it is known by nothing until it has joined. */
    *ret_is_dead =
        nr_participant_state(word) == NR_PARTICIPANT_ALIVE && image != nr_os_process_image();
    return true;
}

int nr_party_pidfd(const struct nr_party *party, unsigned index, uint64_t word)
{
    const struct nr_participant *entry = &party->table.entries[index];
    pid_t pid = nr_participant_pid(word);
    nr_cleanup_close int pidfd = nr_os_pidfd_open(pid);

    if (pidfd < 0)
        return nr_steal_fd(&pidfd);
    /* A JOINING entry's identity is not known yet. */
    uint64_t identity = nr_participant_state(word) == NR_PARTICIPANT_ALIVE
                            ? atomic_load_explicit(&entry->identity, memory_order_relaxed)
                            : 0;
    if (nr_os_pidfd_is_other(pidfd, pid, identity) || nr_os_pidfd_is_dead(pidfd))
        return -ESRCH;
    return nr_steal_fd(&pidfd);
}

void nr_party_died(struct nr_party *party, unsigned index, uint64_t word)
{
    nr_participants_mark_dead(&party->table, index, word);
    __atomic_fetch_add(party->changes, 1, __ATOMIC_SEQ_CST);
}

/* True: the kernel says that the process which wrote `word` into the entry is no more. */
static bool nr_party_ask(struct nr_party *party, unsigned index, uint64_t word)
{
    struct nr_party_watch *watch = &party->watches[index];
    bool is_dead;

    if (nr_party_is_ours(party, index, word, &is_dead))
        return is_dead;
    nr_lock_scope(&party->lock);
    if (watch->pidfd >= 0 && watch->word == word)
        return nr_os_pidfd_is_dead(watch->pidfd);
    nr_os_close(&watch->pidfd);
    int pidfd = nr_party_pidfd(party, index, word);
    if (pidfd == -ESRCH)
        return true;
    if (pidfd < 0) /* refused, or no descriptor left: identities are those of pidfds */
        return nr_os_process_is_gone(nr_participant_pid(word), 0);
    if (nr_participant_state(word) == NR_PARTICIPANT_ALIVE && index < NR_PARTY_WATCHES) {
        watch->pidfd = pidfd;
        watch->word = word;
    } else {
        nr_os_close(&pidfd);
    }
    return false;
}

bool nr_party_is_dead(struct nr_party *party, unsigned index)
{
    if (index >= party->table.count || index == party->me)
        return false;
    uint64_t word = nr_party_word(party, index);
    if (nr_participant_state(word) == NR_PARTICIPANT_DEAD)
        return true;
    if (!nr_party_may_be_dead(word) || !nr_party_ask(party, index, word))
        return false;
    nr_party_died(party, index, word);
    return nr_participant_state(nr_party_word(party, index)) == NR_PARTICIPANT_DEAD;
}

bool nr_party_is_gone(struct nr_party *party, unsigned index)
{
    if (index >= party->table.count)
        return false;
    uint64_t word = nr_party_word(party, index);
    return nr_participant_state(word) == NR_PARTICIPANT_DEAD ||
           (nr_party_may_be_dead(word) && nr_party_ask(party, index, word));
}

/* -- joining and leaving --------------------------------------------------------------------- */

/* Finds an entry: a free one; or, when the living and the dead have them all, that of one who is dead: whose
   traces are cleared away by its new owner. */
static int nr_party_claim(struct nr_party *party, uint64_t *ret_word)
{
    struct nr_participants *table = &party->table;
    pid_t pid = nr_os_pid();
    int index = nr_participants_claim(table, pid, ret_word);

    for (unsigned i = 0; index < 0 && i < table->count; i++)
        nr_participants_try_free(table, i);
    if (index < 0)
        index = nr_participants_claim(table, pid, ret_word);
    for (unsigned i = 0; index < 0 && i < table->count; i++) {
        uint64_t word = nr_party_word(party, i);
        if (!nr_party_may_be_dead(word) || !nr_party_ask(party, i, word) ||
            !nr_participants_adopt(table, i, word, pid, ret_word))
            continue;
        party->me = i;
        party->repair(party->context, i);
        return (int)i;
    }
    return index;
}

static int nr_party_init(struct nr_party *party)
{
    party->lock = (struct nr_lock)NR_LOCK_INIT;
    party->watches = calloc(party->table.count, sizeof *party->watches);
    if (!party->watches)
        return nr_fail(-ENOMEM, "no memory to watch %u participants", party->table.count);
    for (unsigned i = 0; i < party->table.count; i++)
        party->watches[i].pidfd = -1;
    return 0;
}

int nr_party_observe(struct nr_party *party)
{
    party->me = UINT_MAX;
    return nr_party_init(party);
}

int nr_party_join(struct nr_party *party, enum naru_role role)
{
    uint64_t word;
    pid_t pid = nr_os_pid();
    int pidfd = nr_os_pidfd_open(pid);
    uint64_t identity = pidfd < 0 ? 0 : nr_os_pidfd_identity(pidfd, pid);

    nr_os_close(&pidfd);
    int result = nr_party_init(party);
    if (result < 0)
        return result;
    int index = nr_party_claim(party, &word);
    if (index < 0)
        return nr_fail(
            -EBUSY,
            "all %u places for participants are taken; close some, or create the channel "
            "with a larger participants_max",
            party->table.count);
    atomic_store_explicit(&party->table.entries[index].image, nr_os_process_image(),
                          memory_order_relaxed);
    if (!nr_participants_joined(&party->table, (unsigned)index, &word, identity, role))
        return nr_fail(-EBADMSG, "the table of participants is damaged; remove the channel");
    party->me = (unsigned)index;
    party->my_word = word;
    party->is_joined = true;
    nr_party_operate(party);
    /* So that those who sleep watch us as well; the caller wakes them. */
    __atomic_fetch_add(party->changes, 1, __ATOMIC_SEQ_CST);
    /* Whoever died while nobody was attached: only now, since a repairer must have an entry. */
    nr_party_sweep(party, true);
    return 0;
}

void nr_party_leave(struct nr_party *party)
{
    if (!party->is_joined)
        return;
    nr_participants_leave(&party->table, party->me);
    nr_os_futex_disarm(party->death_word);
    party->is_joined = false;
}

void nr_party_release(struct nr_party *party)
{
    if (party->watches)
        for (unsigned i = 0; i < party->table.count; i++)
            nr_os_close(&party->watches[i].pidfd);
    free(party->watches);
    party->watches = NULL;
    party->is_joined = false;
}

unsigned nr_party_sweep(struct nr_party *party, bool ask_kernel)
{
    unsigned repaired = 0;
    uint32_t changes = nr_party_changes(party);

    if (!ask_kernel && changes == __atomic_load_n(&party->swept, __ATOMIC_RELAXED))
        return 0;
    for (unsigned i = 0; i < party->table.count; i++) {
        unsigned state = nr_participant_state(nr_party_word(party, i));
        if (state == NR_PARTICIPANT_FREE || i == party->me)
            continue;
        if (ask_kernel && state != NR_PARTICIPANT_DEAD && nr_party_is_dead(party, i))
            state = NR_PARTICIPANT_DEAD;
        if (state == NR_PARTICIPANT_RETIRING)
            nr_participants_try_free(&party->table, i);
        if (state != NR_PARTICIPANT_DEAD)
            continue;
        nr_lock_scope(&party->lock); /* one hazard a participant, so one repair at a time */
        if (!nr_participants_repair_begin(&party->table, party->me, i))
            continue;
        party->repair(party->context, i);
        nr_participants_repair_end(&party->table, party->me, i);
        repaired++;
    }
    __atomic_store_n(&party->swept, changes, __ATOMIC_RELAXED);
    return repaired;
}

bool nr_party_has_left(struct nr_party *party, unsigned index, const struct nr_mapping *memory)
{
    uint64_t word = index < party->table.count ? nr_party_other(party, index) : 0;

    if (!word || nr_os_mapping_is_in(memory, nr_participant_pid(word)) != 0)
        return false;
    nr_party_died(party, index, word);
    return true;
}

unsigned nr_party_examine(struct nr_party *party, const struct nr_mapping *memory)
{
    unsigned found = 0;

    for (unsigned i = 0; i < party->table.count; i++)
        found += nr_party_has_left(party, i, memory);
    return found ? nr_party_sweep(party, false) : 0;
}

unsigned nr_party_count(struct nr_party *party, unsigned role)
{
    unsigned count = 0;

    for (unsigned i = 0; i < party->table.count; i++) {
        uint64_t word = nr_party_word(party, i);
        uint32_t its = atomic_load_explicit(&party->table.entries[i].role, memory_order_relaxed);
        if (i != party->me && nr_participant_state(word) == NR_PARTICIPANT_ALIVE &&
            (!role || (its & role)))
            count++;
    }
    return count;
}

int nr_party_pid(struct nr_party *party, unsigned index)
{
    return index < party->table.count ? nr_participant_pid(nr_party_word(party, index)) : 0;
}

static enum naru_participant_state nr_party_state(struct nr_party *party, unsigned index,
                                                  uint64_t asleep)
{
    if (nr_party_is_gone(party, index))
        return NARU_DEAD;
    if (nr_os_process_is_stopped(nr_party_pid(party, index)))
        return NARU_STOPPED;
    if (!asleep)
        return NARU_ACTIVE;
    return asleep & 1 ? NARU_WAITS_FOR_MESSAGE : NARU_WAITS_FOR_ROOM;
}

static void nr_party_describe_one(struct nr_party *party, unsigned index,
                                  struct naru_participant *ret)
{
    struct nr_participant *entry = &party->table.entries[index];
    const struct nr_participant_tally *tally = &entry->tally;
    uint64_t asleep = nr_count_get(&tally->asleep), now = (uint64_t)nr_os_now_ns();

    ret->pid = nr_party_pid(party, index);
    ret->role = atomic_load_explicit(&entry->role, memory_order_relaxed);
    ret->state = nr_party_state(party, index, asleep);
    ret->held_messages = (uint32_t)nr_count_get(&tally->held);
    ret->loans = (uint32_t)nr_count_get(&tally->loans);
    ret->sent_messages = nr_count_get(&tally->sent_messages);
    ret->sent_bytes = nr_count_get(&tally->sent_bytes);
    ret->received_messages = nr_count_get(&tally->received_messages);
    ret->received_bytes = nr_count_get(&tally->received_bytes);
    ret->blocked_ns = nr_count_get(&tally->blocked_ns);
    if (asleep && asleep < now)
        ret->blocked_ns += now - asleep;
}

int nr_party_describe(struct nr_party *party, size_t nth, struct naru_participant *ret)
{
    for (unsigned i = 0; i < party->table.count; i++) {
        unsigned state = nr_participant_state(nr_party_word(party, i));
        if (state != NR_PARTICIPANT_ALIVE && state != NR_PARTICIPANT_DEAD)
            continue;
        if (nth-- == 0) {
            nr_party_describe_one(party, i, ret);
            return 0;
        }
    }
    return -ENOENT;
}
