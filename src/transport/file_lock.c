/* SPDX-License-Identifier: MIT */
/*
 * file_lock -- one writer at a time, among processes any of which may die
 *
 * What       control.lock is 0, or [waiters:1 | index + 1 : 31] of the endpoint that writes; threads of
 *            one endpoint exclude each other by the same word. A futex, as in U. Drepper, "Futexes Are
 *            Tricky", mutex 2, with the owner in it.
 * Death      The word names its owner, so whoever wants it asks the kernel whether that one is dead, and then
 *            has the party repair it: the lock goes by CAS from the dead to the repairer, who completes
 *            what the dead has begun (journal.h, RECOVERY), and gives it back. Killed in there, the
 *            repairer is the dead owner of the lock itself.
 * Waiting    In slices: a waiter that comes when the owner is already dying, but not yet dead, is woken by
 *            nobody. A slice's end makes it ask; only the kernel's answer counts.
 * Ordering   [R2] nr_file_lock_give() releases, [A2] each CAS acquires: without it the next writer could take
 *            an old point for the end. From a dead owner the kernel's exit orders it.
 */
#include "transport/file.h"
#include "base/relax.h"

#define NR_FILE_LOCK_WAITERS 0x80000000u

enum {
    NR_FILE_LOCK_SPINS = 200,
    NR_FILE_LOCK_SLICE_NS = 1000000,
    NR_FILE_LOCK_SLICE_MAX_NS = 64000000,
};

static uint32_t nr_file_lock_owner(uint32_t word)
{
    return (word & ~NR_FILE_LOCK_WAITERS) - 1; /* not for 0 */
}

static bool nr_file_lock_try(struct nr_file *file, uint32_t flags)
{
    uint32_t free_word = 0;

    return __atomic_compare_exchange_n(&file->journal.control->lock, &free_word,
                                       (file->party.me + 1) | flags, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED); /* [A2] */
}

static bool nr_file_lock_spin(struct nr_file *file)
{
    for (int i = 0; i < NR_FILE_LOCK_SPINS; i++) {
        if (__atomic_load_n(&file->journal.control->lock, __ATOMIC_RELAXED) == 0 &&
            nr_file_lock_try(file, 0))
            return true;
        nr_relax();
    }
    return false;
}

bool nr_file_lock_check(struct nr_file *file)
{
    uint32_t word = __atomic_load_n(&file->journal.control->lock, __ATOMIC_ACQUIRE);

    if (word == 0 || !nr_party_is_dead(&file->party, nr_file_lock_owner(word)))
        return false;
    nr_party_sweep(&file->party, false);
    return true;
}

static int nr_file_lock_timed_out(struct nr_file *file, uint32_t word, int result)
{
    return nr_fail(result,
                   "%s: process %d is writing to it, and has not finished in time; give a longer "
                   "time-out, or see whether it is stopped",
                   file->endpoint.uri, nr_party_pid(&file->party, nr_file_lock_owner(word)));
}

/* Sleeps until the lock, which was `word`, may be free: at most a slice. */
static int nr_file_lock_sleep(struct nr_file *file, uint32_t word, int64_t slice_ns,
                              struct nr_deadline *deadline)
{
    struct nr_journal_control *control = file->journal.control;
    const struct nr_os_futex_word words[] = {
        {&control->lock, word},
        {&control->death_word, 0},
        {(const uint32_t *)&file->endpoint.interrupt.raised, 0},
    };
    int64_t left_ns = nr_deadline_left_ns(deadline);

    if (left_ns == 0)
        return nr_file_lock_timed_out(file, word, -ETIMEDOUT);
    int interrupted = nr_endpoint_interrupted(&file->endpoint);
    if (interrupted < 0)
        return interrupted;
    struct nr_deadline slice = nr_deadline_in(left_ns < slice_ns ? left_ns : slice_ns);
    nr_os_futex_wait(words, 3, &slice);
    return 0;
}

static int nr_file_lock_await(struct nr_file *file, struct nr_deadline *deadline)
{
    uint32_t *lock = &file->journal.control->lock;
    int64_t slice_ns = NR_FILE_LOCK_SLICE_NS;

    if (nr_file_lock_spin(file))
        return 0;
    for (;;) {
        uint32_t word = __atomic_load_n(lock, __ATOMIC_RELAXED);
        if (word == 0) {
            if (nr_file_lock_try(file, NR_FILE_LOCK_WAITERS)) /* there may be others that wait */
                return 0;
            continue;
        }
        if (nr_file_lock_check(file))
            continue;
        if (nr_deadline_is_now(deadline))
            return nr_file_lock_timed_out(file, word, -EAGAIN);
        if (!(word & NR_FILE_LOCK_WAITERS) &&
            !__atomic_compare_exchange_n(lock, &word, word | NR_FILE_LOCK_WAITERS, false,
                                         __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            continue;
        int result = nr_file_lock_sleep(file, word | NR_FILE_LOCK_WAITERS, slice_ns, deadline);
        if (result < 0)
            return result;
        if (slice_ns < NR_FILE_LOCK_SLICE_MAX_NS)
            slice_ns *= 2;
    }
}

int nr_file_lock_take(struct nr_file *file, struct nr_deadline *deadline)
{
    struct nr_journal_control *control = file->journal.control;

    if (!nr_file_lock_try(file, 0)) {
        int result = nr_file_lock_await(file, deadline);
        if (result < 0)
            return result;
    }
    if (__builtin_expect(__atomic_load_n(&control->is_dirty, __ATOMIC_RELAXED) != 0, 0)) {
        int result = nr_journal_recover(&file->journal, false);
        if (result < 0) {
            nr_file_lock_give(file);
            return result;
        }
        __atomic_store_n(&control->is_dirty, 0, __ATOMIC_RELAXED);
    }
    return 0;
}

void nr_file_lock_give(struct nr_file *file)
{
    uint32_t *lock = &file->journal.control->lock;
    uint32_t word = __atomic_exchange_n(lock, 0, __ATOMIC_SEQ_CST); /* [R2] */

    if (word & NR_FILE_LOCK_WAITERS)
        nr_os_futex_wake(lock, 1);
}

void nr_file_lock_repair(struct nr_file *file, unsigned dead)
{
    struct nr_journal_control *control = file->journal.control;
    uint32_t word = __atomic_load_n(&control->lock, __ATOMIC_ACQUIRE);

    while (word != 0 && nr_file_lock_owner(word) == dead) {
        uint32_t mine = (file->party.me + 1) | NR_FILE_LOCK_WAITERS;
        if (!__atomic_compare_exchange_n(&control->lock, &word, mine, false, __ATOMIC_ACQUIRE,
                                         __ATOMIC_ACQUIRE))
            continue; /* a waiter has set its flag, or another one was faster */
        __atomic_store_n(&control->is_dirty, 1, __ATOMIC_RELAXED);
        if (nr_journal_recover(&file->journal, false) == 0) /* else the next writer tells why */
            __atomic_store_n(&control->is_dirty, 0, __ATOMIC_RELAXED);
        nr_file_lock_give(file);
        return;
    }
}
