/* SPDX-License-Identifier: MIT */
#include "transport/party.h"
#include "base/error.h"
#include "os/io.h"
#include "os/process.h"
#include <limits.h>
#include <stdlib.h>

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
    int index = nr_participants_claim(&party->table, pid, &word);
    if (index < 0)
        return nr_fail(
            -EBUSY,
            "all %u places for participants are taken; close some, or create the channel "
            "with a larger participants_max",
            party->table.count);
    if (!nr_participants_joined(&party->table, (unsigned)index, &word, identity, role))
        return nr_fail(-EBADMSG, "the table of participants is damaged; remove the channel");
    party->me = (unsigned)index;
    party->my_word = word;
    party->is_joined = true;
    nr_party_operate(party);
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

/* True: the kernel says that the process which wrote `word` into the entry is no more. */
static bool nr_party_ask(struct nr_party *party, unsigned index, uint64_t word)
{
    struct nr_party_watch *watch = &party->watches[index];
    pid_t pid = nr_participant_pid(word);

    nr_lock_scope(&party->lock);
    if (watch->pidfd >= 0 && watch->word == word)
        return nr_os_pidfd_is_dead(watch->pidfd);
    nr_os_close(&watch->pidfd);
    int pidfd = nr_os_pidfd_open(pid);
    if (pidfd == -ENOSYS)
        return nr_os_process_is_gone(pid, 0); /* identities are those of pidfds: not comparable */
    if (pidfd < 0)
        return pidfd == -ESRCH;
    uint64_t identity =
        atomic_load_explicit(&party->table.entries[index].identity, memory_order_relaxed);
    bool is_joined = nr_participant_state(word) == NR_PARTICIPANT_ALIVE;
    bool is_other = is_joined && identity && nr_os_pidfd_identity(pidfd, pid) != identity;
    if (is_other || nr_os_pidfd_is_dead(pidfd)) {
        nr_os_close(&pidfd);
        return true;
    }
    if (is_joined) { /* a JOINING entry's identity is not known yet: look anew next time */
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
    nr_participants_mark_dead(&party->table, index, word);
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

unsigned nr_party_sweep(struct nr_party *party, bool ask_kernel)
{
    unsigned repaired = 0;

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
    return repaired;
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
