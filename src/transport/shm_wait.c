/* SPDX-License-Identifier: MIT */
/*
 * shm_wait -- to wait on a segment: look again for a while, then sleep
 *
 * What       First spin, for as long as that has been worth it lately, and never with one processor. On a core
 *            that both share it never is, and soon is not tried any more. Then sleep (shm_sleep.c).
 */
#include "base/relax.h"
#include "os/barrier.h"
#include "os/process.h"
#include "transport/shm.h"
#include <limits.h>

enum {
    NR_SHM_SPIN_MOST = 4000,
    NR_SHM_SPIN_PROBE =
        3000, /* longer than it takes to wake the other side, which may be asleep itself */
    NR_SHM_SPIN_BUSY = 4000, /* before a call that must not sleep says that someone is in the way */
    NR_SHM_SPIN_RETURN = 64, /* looks between two of the caller's, which sees more */
    NR_SHM_WAKES_IDLE = 1000, /* in a row that woke nobody, before a gate is made hot */
    NR_SHM_SPIN_REST = 256,   /* so that looking does not show in the 99th percentile */
};

/* Several threads may come here at once, to the same result. */
static bool nr_shm_has_barrier(struct nr_shm *shm)
{
    if (!nr_flag_get(&shm->has_barrier) && !nr_flag_get(&shm->lacks_barrier))
        nr_flag_set(nr_os_barrier_register() ? &shm->has_barrier : &shm->lacks_barrier, true);
    return nr_flag_get(&shm->has_barrier);
}

void nr_shm_wake_cold(struct nr_shm *shm, struct nr_gate *gate)
{
    unsigned idle = __atomic_load_n(&shm->idle_wakes, __ATOMIC_RELAXED) + 1;

    if (nr_gate_is_hot(gate))
        nr_shm_has_barrier(shm);
    if (nr_gate_must_wake(gate)) {
        nr_os_futex_wake(nr_gate_address(gate), INT_MAX);
        idle = 0;
    } else if (idle % NR_SHM_WAKES_IDLE == 0 && nr_shm_has_barrier(shm)) {
        nr_gate_heat(gate);
    }
    __atomic_store_n(&shm->idle_wakes, idle, __ATOMIC_RELAXED);
}

void nr_shm_wake_sleepers(struct nr_gate *gate)
{
    nr_gate_open(gate);
    nr_os_futex_wake(nr_gate_address(gate), INT_MAX);
}

/* After a repair: whatever anyone waits for may have come. */
void nr_shm_wake_all(struct nr_shm *shm)
{
    for (int i = 0; i < 2; i++) {
        nr_shm_wake_sleepers(&shm->header->not_empty[i]);
        nr_shm_wake_sleepers(&shm->header->not_full[i]);
    }
}

/* Several threads may adapt the limit at once; whichever is last has its way. */
static int nr_shm_spin_get(const struct nr_shm *shm)
{
    return __atomic_load_n(&shm->spin_limit, __ATOMIC_RELAXED);
}

static void nr_shm_spin_set(struct nr_shm *shm, int limit)
{
    __atomic_store_n(&shm->spin_limit, limit, __ATOMIC_RELAXED);
}

static void nr_shm_wins_set(struct nr_shm *shm, unsigned wins)
{
    __atomic_store_n(&shm->spin_wins, wins, __ATOMIC_RELAXED);
}

static int nr_shm_spin_limit(struct nr_shm *shm)
{
    int limit = nr_shm_spin_get(shm);

    if (limit != 0)
        return limit < 0 ? 0 : limit;
    /* It did not pay; see now and then whether that has changed. */
    unsigned rests = __atomic_add_fetch(&shm->spin_rests, 1, __ATOMIC_RELAXED);
    return rests % NR_SHM_SPIN_REST ? 0 : NR_SHM_SPIN_PROBE;
}

static int nr_shm_in_the_way(struct nr_shm *shm, uint32_t blocker)
{
    return nr_fail(-EBUSY,
                   "%s: process %d is in the middle of the next message and does not go on; it is "
                   "stopped, or gets no processor: continue it (kill -CONT) or end it",
                   shm->endpoint.uri, nr_party_pid(&shm->party, blocker));
}

static int nr_shm_try_once(struct nr_shm *shm, struct nr_shm_pause *pause, int result)
{
    if (result != -EBUSY)
        return -EAGAIN;
    if (pause->busy_looks++ < NR_SHM_SPIN_BUSY) {
        nr_relax();
        return 0;
    }
    if (nr_shm_unblock(shm, pause->blocker))
        return 0;
    return nr_shm_in_the_way(shm, pause->blocker);
}

int nr_shm_pause(struct nr_shm *shm, struct nr_gate *gate, struct nr_shm_pause *pause, int result,
                 struct nr_deadline *deadline)
{
    if (result != -EAGAIN && result != -EBUSY)
        return result;
    pause->is_prepared &= pause->gate == gate;
    pause->gate = gate;
    if (shm->is_read_only)
        return nr_shm_reader_pause(shm, gate, pause, result, deadline);
    if (nr_deadline_is_now(deadline))
        return nr_shm_try_once(shm, pause, result);
    if (pause->spins == 0) {
        int interrupted = nr_endpoint_interrupted(&shm->endpoint);
        if (interrupted < 0)
            return interrupted;
        pause->spins = nr_shm_spin_limit(shm) + 1;
    }
    while (pause->spins > 1) {
        pause->spins--;
        nr_relax();
        if (!pause->look || pause->spins % NR_SHM_SPIN_RETURN == 0 || pause->look(shm, pause))
            return 0;
    }
    if (!pause->is_prepared) {
        if (!nr_shm_is_pair(shm))
            nr_party_sweep(&shm->party, false); /* finish what a dead repairer had begun */
        bool is_sure;
        pause->word = nr_gate_prepare(gate, nr_os_barrier, &is_sure);
        pause->is_unsure = !is_sure;
        pause->is_prepared = true;
        return 0;
    }
    if (nr_shm_spin_get(shm) > 0)
        nr_shm_spin_set(shm, nr_shm_spin_get(shm) / 2);
    nr_shm_wins_set(shm, 0);
    pause->is_prepared = false;
    int slept = nr_shm_sleep(shm, gate, pause, deadline);
    if (slept == -ETIMEDOUT && result == -EBUSY)
        return nr_shm_in_the_way(shm, pause->blocker);
    return slept;
}

void nr_shm_pause_end(struct nr_shm *shm, const struct nr_shm_pause *pause)
{
    int limit = nr_shm_spin_get(shm);

    if (!pause->gate || shm->is_read_only)
        return;
    /* Who waits for room does it seldom: let him pay for it, each time, and not who frees room. */
    if (pause->gate == nr_shm_gate_full(shm, true))
        nr_gate_heat(pause->gate);
    if (pause->spins <= 1 || limit < 0)
        return;
    unsigned wins = __atomic_load_n(&shm->spin_wins, __ATOMIC_RELAXED) + 1;
    nr_shm_wins_set(shm, wins);
    if (wins > NR_SHM_SPIN_WINS)
        nr_gate_heat(pause->gate);
    limit = limit < NR_SHM_SPIN_FIRST ? NR_SHM_SPIN_FIRST : limit * 2;
    nr_shm_spin_set(shm, limit < NR_SHM_SPIN_MOST ? limit : NR_SHM_SPIN_MOST);
}
