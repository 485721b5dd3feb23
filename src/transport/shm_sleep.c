/* SPDX-License-Identifier: MIT */
/*
 * shm_sleep -- to sleep on a segment, and to notice who dies meanwhile
 *
 * Contents   looking for deaths - vigils - sleeping
 * What       The first few sleeps of an endpoint are on words alone (futex_waitv: the gate's, the death word, the
 *            interrupt). Who sleeps more than that, or for long, does it in a vigil (vigil.h), which sees each death
 *            exactly and needs no time-out: an idle endpoint takes nothing. The vigil is kept.
 * Death      On words: the death word wakes one sleeper, a little before the pidfd tells, so the woken one looks
 *            again after 50 us, 100 us, ... A thread has one pending word, so the death of one that used two
 *            channels may wake nobody on the first: every sleep on words ends after 5 ms (doubling to 1 s where there
 *            are no vigils) to look. That may wake, and never decides: only a pidfd does.
 * Exec       The death word alone, and no death behind it within a while: a thread has ended, or a process has become
 *            another program. Then those who do not map the segment any more are repaired. If that finds nobody, the
 *            next omen waits longer before it is looked into (2 ms, doubling to 1 s): a program that ends threads
 *            all the time costs the others little.
 */
#include "os/barrier.h"
#include "os/guard.h"
#include "os/process.h"
#include "transport/shm.h"
#include <stdlib.h>

enum {
    NR_SHM_SLEEPS_ON_WORDS = 4, /* before a vigil is worth its making */
    NR_SHM_VIGILS_IDLE = 4,     /* of other threads, before the oldest is ended */
};
#define NR_SHM_RECHECK_FIRST_NS  ((int64_t)5000000)
#define NR_SHM_RECHECK_DEATH_NS  ((int64_t)50000)
#define NR_SHM_RECHECK_UNSURE_NS ((int64_t)1000000) /* someone may not have seen that we sleep */
#define NR_SHM_RECHECK_MOST_NS   ((int64_t)1000000000)
#define NR_SHM_RECHECK_PAIR_NS   ((int64_t)100000000) /* a pair's pidfd is cheap to ask */
#define NR_SHM_EXAMINE_FIRST_NS  ((int64_t)2000000)
#define NR_SHM_EXAMINE_MOST_NS   ((int64_t)1000000000)

/* -- looking for deaths ---------------------------------------------------------------------- */

/* Asks the kernel for everyone. True: something was repaired, try again. */
static bool nr_shm_look(struct nr_shm *shm)
{
    if (nr_shm_is_pair(shm))
        return false; /* its caller asks the peer's pidfd */
    return nr_party_sweep(&shm->party, true) > 0;
}

static const struct nr_mapping *nr_shm_mapping(struct nr_shm *shm)
{
    struct nr_shm_sleepers *sleepers = &shm->sleepers;

    nr_lock_scope(&sleepers->lock);
    if (!sleepers->mapping.file[0])
        nr_os_mapping_of(&sleepers->mapping, shm->header);
    return &sleepers->mapping;
}

bool nr_shm_is_gone(struct nr_shm *shm, uint32_t index)
{
    return nr_party_is_dead(&shm->party, index) ||
           nr_party_has_left(&shm->party, index, nr_shm_mapping(shm));
}

bool nr_shm_unblock(struct nr_shm *shm, uint32_t blocker)
{
    return nr_shm_is_gone(shm, blocker) && nr_party_sweep(&shm->party, true) > 0;
}

bool nr_shm_peer_is_gone(struct nr_shm *shm, bool is_about_to_sleep)
{
    if (!nr_flag_get(&shm->peer_is_gone) &&
        !(is_about_to_sleep && nr_flag_get(&shm->peer_is_watched)) &&
        nr_endpoint_peer_is_dead(&shm->endpoint))
        nr_flag_set(&shm->peer_is_gone, true);
    return nr_flag_get(&shm->peer_is_gone);
}

static void nr_shm_omen(struct nr_shm *shm)
{
    int64_t after = __atomic_load_n(&shm->sleepers.examine_after_ns, __ATOMIC_RELAXED);

    if (!after)
        after = NR_SHM_EXAMINE_FIRST_NS;
    __atomic_store_n(&shm->sleepers.examine_at_ns, nr_os_now_ns() + after, __ATOMIC_RELAXED);
}

/* The omen was a death. */
static void nr_shm_omen_over(struct nr_shm *shm)
{
    __atomic_store_n(&shm->sleepers.examine_at_ns, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&shm->sleepers.examine_after_ns, 0, __ATOMIC_RELAXED);
}

/* Is it time to look who has left? True: someone had. */
static bool nr_shm_examine(struct nr_shm *shm)
{
    struct nr_shm_sleepers *sleepers = &shm->sleepers;
    int64_t at_ns = __atomic_load_n(&sleepers->examine_at_ns, __ATOMIC_RELAXED);

    if (!at_ns || nr_os_now_ns() < at_ns)
        return false;
    const struct nr_mapping *mapping = nr_shm_mapping(shm);
    bool found;
    if (nr_shm_is_pair(shm)) {
        found = shm->endpoint.peer_pid && nr_os_mapping_is_in(mapping, shm->endpoint.peer_pid) == 0;
        if (found)
            nr_flag_set(&shm->peer_is_gone, true);
    } else {
        found = nr_party_examine(&shm->party, mapping) > 0;
    }
    int64_t after = __atomic_load_n(&sleepers->examine_after_ns, __ATOMIC_RELAXED) * 2;
    after = after > NR_SHM_EXAMINE_MOST_NS ? NR_SHM_EXAMINE_MOST_NS : after;
    nr_shm_omen_over(shm);
    if (!found)
        __atomic_store_n(&sleepers->examine_after_ns, after ? after : 2 * NR_SHM_EXAMINE_FIRST_NS,
                         __ATOMIC_RELAXED);
    return found;
}

int64_t nr_shm_heed(struct nr_shm *shm, int news)
{
    if (news > 0 && news & NR_VIGIL_OMEN)
        nr_shm_omen(shm);
    if (news > 0 && news & NR_VIGIL_DEAD) {
        nr_shm_omen_over(shm);
        if (nr_shm_is_pair(shm))
            nr_flag_set(&shm->peer_is_gone, true);
        else
            nr_party_sweep(&shm->party, false);
    }
    nr_shm_examine(shm);
    int64_t at_ns = __atomic_load_n(&shm->sleepers.examine_at_ns, __ATOMIC_RELAXED);
    int64_t after_ns = at_ns ? at_ns - nr_os_now_ns() : 0;
    return at_ns && after_ns < 1 ? 1 : after_ns;
}

/* The earlier of two deadlines. */
static struct nr_deadline *nr_shm_earlier(struct nr_deadline *one, struct nr_deadline *other)
{
    if (nr_deadline_is_never(one) || nr_deadline_is_never(other))
        return nr_deadline_is_never(one) ? other : one;
    return nr_deadline_left_ns(one) <= nr_deadline_left_ns(other) ? one : other;
}

/* -- vigils ---------------------------------------------------------------------------------- */

void nr_shm_vigil_end(struct nr_vigil *vigil)
{
    nr_vigil_deinit(vigil);
    free(vigil);
}

void nr_shm_sleepers_end(struct nr_shm *shm)
{
    struct nr_shm_sleepers *sleepers = &shm->sleepers;

    while (sleepers->vigils) {
        struct nr_vigil *next = sleepers->vigils->next;
        nr_shm_vigil_end(sleepers->vigils);
        sleepers->vigils = next;
    }
    *sleepers = (struct nr_shm_sleepers){.lock = NR_LOCK_INIT};
    shm->peer_is_watched = false;
}

/* Ends the vigils of threads that have not slept here for long, or are no more, and those of the time when the process
   had one thread. The lock is held. */
static void nr_shm_vigils_trim(struct nr_shm_sleepers *sleepers)
{
    unsigned idle = 0;

    for (struct nr_vigil **place = &sleepers->vigils; *place;) {
        struct nr_vigil *vigil = *place;
        bool is_over = vigil->is_guarded && !nr_os_guard_works();
        if (vigil->is_used || (!is_over && ++idle < NR_SHM_VIGILS_IDLE)) {
            place = &vigil->next;
            continue;
        }
        *place = vigil->next;
        nr_shm_vigil_end(vigil);
    }
}

struct nr_vigil *nr_shm_vigil_new(struct nr_shm *shm, const uint32_t *stop_word, int *ret_result)
{
    struct nr_vigil *vigil = malloc(sizeof *vigil);
    struct nr_party *party = nr_shm_is_pair(shm) ? NULL : &shm->party;

    *ret_result =
        vigil ? nr_vigil_init(vigil, party, &shm->header->death_word, stop_word) : -ENOMEM;
    if (*ret_result == 0)
        return vigil;
    free(vigil);
    return NULL;
}

/* This thread's vigil; NULL: sleep on words. */
static struct nr_vigil *nr_shm_vigil_take(struct nr_shm *shm)
{
    struct nr_shm_sleepers *sleepers = &shm->sleepers;
    struct nr_vigil **place;
    int result;

    nr_lock_scope(&sleepers->lock);
    if (sleepers->no_vigils ||
        __atomic_fetch_add(&sleepers->sleeps, 1, __ATOMIC_RELAXED) < NR_SHM_SLEEPS_ON_WORDS)
        return NULL;
    for (place = &sleepers->vigils; *place; place = &(*place)->next)
        if (!(*place)->is_used && nr_vigil_is_mine(*place))
            break;
    struct nr_vigil *vigil = *place;
    if (vigil) {
        *place = vigil->next;
    } else {
        nr_shm_vigils_trim(sleepers);
        vigil = nr_shm_vigil_new(shm, (const uint32_t *)&shm->endpoint.interrupt.raised, &result);
        if (!vigil) {
            sleepers->no_vigils = result == -ENOSYS;
            __atomic_store_n(&sleepers->sleeps, 0,
                             __ATOMIC_RELAXED); /* no descriptor or no memory: later perhaps */
            return NULL;
        }
    }
    vigil->next = sleepers->vigils; /* to the front */
    sleepers->vigils = vigil;
    vigil->is_used = true;
    return vigil;
}

static void nr_shm_vigil_give(struct nr_shm *shm, struct nr_vigil *vigil, bool is_broken)
{
    struct nr_shm_sleepers *sleepers = &shm->sleepers;

    nr_lock_scope(&sleepers->lock);
    vigil->is_used = false;
    if (!is_broken)
        return;
    for (struct nr_vigil **place = &sleepers->vigils; *place; place = &(*place)->next)
        if (*place == vigil) {
            *place = vigil->next;
            break;
        }
    nr_shm_vigil_end(vigil);
    __atomic_store_n(&sleepers->sleeps, 0, __ATOMIC_RELAXED);
}

/* -- sleeping -------------------------------------------------------------------------------- */

static int64_t nr_shm_recheck(const struct nr_shm *shm, struct nr_shm_pause *pause)
{
    int64_t most = nr_shm_is_pair(shm) ? NR_SHM_RECHECK_PAIR_NS : NR_SHM_RECHECK_MOST_NS;
    int64_t now = pause->recheck_ns ? pause->recheck_ns : NR_SHM_RECHECK_FIRST_NS;

    pause->recheck_ns = now * 2 < most ? now * 2 : most;
    return now;
}

/* A rest lasts until it is time to look for deaths, also when it is slept in slices (os/futex.h). */
static void nr_shm_rest(struct nr_shm *shm, struct nr_shm_pause *pause)
{
    if (pause->is_unsure)
        pause->ask = nr_deadline_in(NR_SHM_RECHECK_UNSURE_NS);
    else if (nr_deadline_is_now(&pause->ask))
        pause->ask = nr_deadline_in(nr_shm_recheck(shm, pause));
}

/* Sleeps on the gate, the death word, and the word that calls it off. */
void nr_shm_sleep_on_words(struct nr_shm *shm, const struct nr_gate *gate,
                           const uint32_t *stop_word, struct nr_shm_pause *pause,
                           struct nr_deadline *deadline)
{
    struct nr_os_futex_word words[3] = {
        {nr_gate_address(gate), pause->word},
        {&shm->header->death_word, 0},
        {stop_word, 0},
    };

    nr_flag_set(&shm->peer_is_watched, false);
    nr_shm_rest(shm, pause);
    int result = nr_os_futex_wait(words, 3, nr_shm_earlier(deadline, &pause->ask));
    if (result == -EAGAIN) /* a slice: the rest goes on */
        return;
    bool is_over = result == -ETIMEDOUT && nr_deadline_left_ns(&pause->ask) == 0;
    pause->ask = nr_deadline_in(0);
    if (result == 2) { /* somebody died, perhaps: the pidfd tells in a moment */
        pause->recheck_ns = NR_SHM_RECHECK_DEATH_NS;
        nr_shm_omen(shm);
    }
    if (is_over) /* from now on it is worth a vigil */
        __atomic_store_n(&shm->sleepers.sleeps, NR_SHM_SLEEPS_ON_WORDS, __ATOMIC_RELAXED);
    if ((result == 2 || is_over) && nr_shm_look(shm))
        nr_shm_omen_over(shm);
    nr_shm_examine(shm);
}

/* False: the vigil is of no more use. */
static bool nr_shm_sleep_in_vigil(struct nr_shm *shm, struct nr_vigil *vigil,
                                  const struct nr_gate *gate, struct nr_shm_pause *pause,
                                  struct nr_deadline *deadline)
{
    bool is_blind = vigil->is_blind || shm->endpoint.peer_by_pid || pause->is_unsure;
    int news;

    if (is_blind) {
        nr_shm_rest(shm, pause);
        deadline = nr_shm_earlier(deadline, &pause->ask);
    }
    do { /* an omen is nothing to look for yet, and whoever looks is in the way of the dying */
        struct nr_deadline examine = {
            .timeout_ns = 1,
            .at_ns = __atomic_load_n(&shm->sleepers.examine_at_ns, __ATOMIC_RELAXED)};
        struct nr_deadline *until = examine.at_ns ? nr_shm_earlier(deadline, &examine) : deadline;
        news = nr_vigil_watch(vigil, gate, pause->word, shm->endpoint.peer_pidfd, until);
        nr_shm_heed(shm, news);
    } while (news == NR_VIGIL_OMEN);
    nr_flag_set(&shm->peer_is_watched, vigil->has_peer);
    if (is_blind && nr_deadline_left_ns(&pause->ask) == 0) {
        pause->ask = nr_deadline_in(0);
        nr_shm_look(shm);
    }
    return news >= 0 || news == -ETIMEDOUT || news == -EINTR;
}

/* For others to see. When several threads sleep the last one has its way. */
static uint64_t nr_shm_fall_asleep(struct nr_shm *shm, const struct nr_gate *gate)
{
    uint64_t is_empty = gate != nr_shm_gate_full(shm, true);
    uint64_t since = ((uint64_t)nr_os_now_ns() & ~(uint64_t)1) | is_empty;

    __atomic_store_n(&shm->tally->asleep, since, __ATOMIC_RELAXED);
    return since;
}

static void nr_shm_wake_up(struct nr_shm *shm, uint64_t since)
{
    nr_count_add(&shm->tally->blocked_ns, (uint64_t)nr_os_now_ns() + 1 - since);
    __atomic_store_n(&shm->tally->asleep, 0, __ATOMIC_RELAXED);
}

int nr_shm_sleep(struct nr_shm *shm, const struct nr_gate *gate, struct nr_shm_pause *pause,
                 struct nr_deadline *deadline)
{
    if (nr_deadline_left_ns(deadline) == 0)
        return -ETIMEDOUT;
    struct nr_vigil *vigil = nr_shm_vigil_take(shm);
    uint64_t since = shm->tally ? nr_shm_fall_asleep(shm, gate) : 0;
    if (vigil)
        nr_shm_vigil_give(shm, vigil, !nr_shm_sleep_in_vigil(shm, vigil, gate, pause, deadline));
    else
        nr_shm_sleep_on_words(shm, gate, (const uint32_t *)&shm->endpoint.interrupt.raised, pause,
                              deadline);
    if (since)
        nr_shm_wake_up(shm, since);
    return nr_endpoint_interrupted(&shm->endpoint);
}
