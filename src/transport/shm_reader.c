/* SPDX-License-Identifier: MIT */
/*
 * shm_reader -- endpoints whose mapping is read-only
 *
 * What       They leave no trace: no entry in the table of participants, no place in a ring. So they can't say
 *            that they sleep, and whoever sends wakes them by a gate that is opened `always` (data/gate.h): the
 *            creator declares it, by read_only, or by a file_mode with which others may read and not write.
 * Waiting    The kernel sleeps on a word of a read-only mapping as on any other.
 * Death      They can't repair. One that the death word wakes (which wakes a single sleeper) wakes the next one, so
 *            that it reaches a participant or, if there is none, every reader; and for a while it does not
 *            sleep on that word, lest two of them wake each other for ever.
 */
#include "transport/shm.h"

enum { NR_SHM_READER_SPINS = 200 };
#define NR_SHM_READER_APART_NS ((int64_t)2000000)

int nr_shm_reader_check_kind(const struct nr_shm *shm, const struct nr_shm_kind *kind)
{
    const struct naru_options *options = &shm->endpoint.options;

    if (options->start && !kind->has_start)
        return nr_fail(-EOPNOTSUPP, "%s: start: only on a topic can one choose where to begin",
                       shm->endpoint.uri);
    if (options->read_only && !kind->can_be_read_only)
        return nr_fail(-EOPNOTSUPP,
                       "%s: read_only: only a cell, or a topic that overwrites, can be read "
                       "without a trace",
                       shm->endpoint.uri);
    return 0;
}

int nr_shm_reader_check(const struct nr_shm *shm)
{
    int result = nr_shm_reader_check_kind(shm, shm->kind);

    if (result == 0 && shm->is_read_only && !shm->header->not_empty[0].always)
        return nr_fail(-EOPNOTSUPP,
                       "%s: read_only: its senders would not wake who can't write; create it with "
                       "read_only, or with a file_mode such as 0644",
                       shm->endpoint.uri);
    return result;
}

/* Sleeps until the gate is opened, `stop` is not 0 any more, someone has died, or time is over (-ETIMEDOUT). */
static int nr_shm_reader_sleep(struct nr_shm *shm, struct nr_shm_pause *pause,
                               const struct nr_gate *gate, const uint32_t *stop,
                               struct nr_deadline *deadline)
{
    struct nr_os_futex_word words[] = {
        {nr_gate_address(gate), pause->word},
        {stop, 0},
        {&shm->header->death_word, 0},
    };
    struct nr_deadline apart = nr_deadline_in(NR_SHM_READER_APART_NS);
    bool is_apart = pause->has_passed_on && nr_deadline_left_ns(deadline) > NR_SHM_READER_APART_NS;
    int result = nr_os_futex_wait(words, is_apart ? 2 : 3, is_apart ? &apart : deadline);

    pause->has_passed_on = false;
    if (result == 3) {
        nr_os_futex_wake(&shm->header->death_word, 1);
        pause->has_passed_on = true;
    }
    return result == -ETIMEDOUT && !is_apart ? result : 0;
}

int nr_shm_reader_pause(struct nr_shm *shm, struct nr_gate *gate, struct nr_shm_pause *pause,
                        int result, struct nr_deadline *deadline)
{
    if (nr_deadline_is_now(deadline) && (result == -EAGAIN || pause->spins >= NR_SHM_READER_SPINS))
        return result;
    int interrupted = nr_endpoint_interrupted(&shm->endpoint);
    if (interrupted < 0)
        return interrupted;
    if (pause->spins++ < NR_SHM_READER_SPINS)
        return 0;
    if (!pause->is_prepared) { /* one more look, after the word */
        pause->word = nr_gate_look(gate);
        pause->is_prepared = true;
        return 0;
    }
    pause->is_prepared = false;
    int slept = nr_shm_reader_sleep(shm, pause, gate,
                                    (const uint32_t *)&shm->endpoint.interrupt.raised, deadline);
    return slept == -ETIMEDOUT && result == -EBUSY ? result : slept;
}

int nr_shm_reader_watch(struct nr_shm *shm, const uint32_t *stop_word)
{
    struct nr_gate *gate = nr_shm_gate_empty(shm, true);
    struct nr_deadline never = nr_deadline_in(NARU_FOREVER);
    struct nr_shm_pause pause = {0};

    for (;;) {
        pause.word = nr_gate_look(gate);
        if (shm->kind->may_recv(shm) || __atomic_load_n(stop_word, __ATOMIC_ACQUIRE))
            return 0;
        nr_shm_reader_sleep(shm, &pause, gate, stop_word, &never);
        if (pause.has_passed_on) /* the caller looks whether that one was in the way */
            return 0;
    }
}
