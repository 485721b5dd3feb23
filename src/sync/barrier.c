/* SPDX-License-Identifier: MIT */
/*
 * barrier -- so many threads wait for each other, unless one of them dies
 *
 * What       A page of words: data/barrier.h, which says how they meet and what a death leaves.
 * Ownership  A thread is a party from its first wait on, through one handle, until it leaves, closes it, or ends. What is
 *            private of a party stands in the handle at the index of its slot, and is that thread's.
 */
#include "data/barrier.h"
#include "base/error.h"
#include "os/robust.h"
#include "sync/object.h"
#include "sync/sleep.h"
#include <assert.h>
#include <naru/sync.h>
#include <stdlib.h>

struct nr_barrier_party {
    struct nr_os_robust_hold hold;
    uint32_t meeting;
    bool has_arrived; /* there, and not yet told how it ended */
};

struct naru_barrier {
    struct nr_object object;
    unsigned count; /* a copy: the shared one may change at a hostile process' will */
    struct nr_barrier_party parties[NR_SLOTS_MAX];
};

static_assert(sizeof(struct naru_barrier_state) == sizeof(struct nr_slots) &&
                  _Alignof(struct naru_barrier_state) == _Alignof(struct nr_slots) &&
                  (int)NARU_PARTIES_MAX == (int)NR_SLOTS_MAX,
              "the public struct is the room for the inner one");

static void nr_barrier_write(void *state, const void *parties)
{
    struct nr_slots *slots = state;

    slots->head.more[0] = *(const uint32_t *)parties;
}

static const struct nr_object_kind nr_barrier_kind = {
    .name = "barrier",
    .suffix = ".barrier",
    .magic = 0x4e524231, /* "NRB1" */
    .has_home = true,
    .size_bytes = sizeof(struct nr_slots),
    .alignment_bytes = _Alignof(struct nr_slots),
    .write = nr_barrier_write,
};

static struct nr_slots *nr_barrier_slots(const struct naru_barrier *barrier)
{
    return barrier->object.state;
}

/* -- parties ---------------------------------------------------------------------------------- */

static int nr_barrier_mine(const struct naru_barrier *barrier, const struct nr_os_robust_thread *me)
{
    const struct nr_slots *slots = nr_barrier_slots(barrier);

    for (unsigned i = 0; me && i < barrier->count; i++) {
        uint32_t seen = atomic_load_explicit(&slots->slots[i].word, memory_order_relaxed);
        if (nr_hold_owner(seen) == me->id && barrier->parties[i].hold.entry)
            return (int)i;
    }
    return -1;
}

/* The thread is aimed at the slot, and holds it. */
static int nr_barrier_let_go(struct nr_slots *slots, int at, bool died)
{
    _Atomic uint32_t *word = &slots->slots[at].word;

    return nr_hold_leave(word, died)
               ? 0
               : nr_os_futex_store_and_wake((uint32_t *)word, nr_hold_left(died));
}

static int nr_barrier_broken(void)
{
    return nr_fail(-EOWNERDEAD, "a party of the barrier has died, so nobody waits for it; "
                                "naru_barrier_reset() lets another one take its place");
}

static int nr_barrier_join(struct naru_barrier *barrier, struct nr_os_robust_thread *me)
{
    struct nr_slots *slots = nr_barrier_slots(barrier);
    uint32_t seen;
    int at;

    while ((at = nr_barrier_find(slots, barrier->count)) >= 0) {
        void *before = nr_os_robust_aim(me, (void *)&slots->slots[at]);
        bool is_mine = nr_hold_take(&slots->slots[at].word, me->id, &seen);
        bool is_good = is_mine && !(seen & NR_HOLD_DIED);
        if (is_good)
            nr_os_robust_add(me, &barrier->parties[at].hold, (void *)&slots->slots[at]);
        else if (is_mine) /* a party has died in it meanwhile */
            nr_barrier_let_go(slots, at, true);
        nr_os_robust_settle(me, before);
        if (is_good) {
            barrier->parties[at].has_arrived = false;
            return at;
        }
    }
    for (unsigned i = 0; i < barrier->count; i++)
        if (nr_hold_owner(atomic_load_explicit(&slots->slots[i].word, memory_order_relaxed)) == 0)
            return nr_barrier_broken();
    return nr_fail(-EBUSY, "all %u parties of the barrier are others; make it for more",
                   barrier->count);
}

static int nr_barrier_part(struct naru_barrier *barrier, struct nr_os_robust_thread *me, int at)
{
    struct nr_slots *slots = nr_barrier_slots(barrier);
    struct nr_barrier_party *party = &barrier->parties[at];
    void *before = nr_os_robust_aim(me, (void *)&slots->slots[at]);

    nr_os_robust_remove(&party->hold);
    int result = nr_barrier_let_go(slots, at, party->has_arrived);
    nr_os_robust_settle(me, before);
    return result < 0 ? nr_object_failed(&nr_barrier_kind, "leave", result) : 0;
}

/* -- meeting ---------------------------------------------------------------------------------- */

/* As nr_sleep(): 1 if it was the head. Looks for the dead now and then. */
static int nr_barrier_sleep(struct naru_barrier *barrier, uint32_t meeting,
                            struct nr_deadline *deadline)
{
    struct nr_slots *slots = nr_barrier_slots(barrier);
    struct nr_os_futex_word words[1 + NR_SLOTS_MAX];
    uint32_t seen[NR_SLOTS_MAX];

    if (!nr_barrier_want(slots, barrier->count, seen))
        return 0;
    words[0] = (struct nr_os_futex_word){(const uint32_t *)&slots->head.word, meeting};
    for (unsigned i = 0; i < barrier->count; i++)
        words[1 + i] = (struct nr_os_futex_word){(const uint32_t *)&slots->slots[i].word, seen[i]};
    int result = nr_sleep(words, 1 + barrier->count, deadline);
    for (unsigned i = 0; i < barrier->count && result == NR_SLEEP_LOOK; i++)
        if (nr_hold_owner(seen[i]) && nr_os_process_is_missing((pid_t)nr_hold_owner(seen[i])))
            nr_hold_bury(&slots->slots[i].word, seen[i]);
    return result;
}

/* Out of the meeting, one way or the other. Who was woken by the head alone need not pass it on. */
static int nr_barrier_end(struct naru_barrier *barrier, int at, enum nr_barrier_look look,
                          int slept)
{
    struct nr_slots *slots = nr_barrier_slots(barrier);
    struct nr_barrier_party *party = &barrier->parties[at];

    party->has_arrived = false;
    if (look == NR_BARRIER_BROKEN)
        nr_barrier_withdraw(slots, (unsigned)at, party->meeting);
    if (look != NR_BARRIER_PASSED || slept > 1)
        nr_os_futex_wake((const uint32_t *)&slots->head.word, INT_MAX);
    if (look == NR_BARRIER_BROKEN)
        return nr_barrier_broken();
    return look == NR_BARRIER_LAST;
}

static int nr_barrier_meet(struct naru_barrier *barrier, int at, int64_t timeout_ns)
{
    struct nr_slots *slots = nr_barrier_slots(barrier);
    struct nr_barrier_party *party = &barrier->parties[at];
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);
    enum nr_barrier_look look;
    int slept = 0;

    if (!party->has_arrived)
        party->meeting = nr_barrier_arrive(slots, (unsigned)at);
    party->has_arrived = true;
    while ((look = nr_barrier_look(slots, barrier->count, party->meeting)) == NR_BARRIER_WAIT) {
        if (timeout_ns == 0)
            return nr_fail(-EAGAIN, "not all %u parties have arrived; this one has: wait again",
                           barrier->count);
        if (slept == -ETIMEDOUT)
            return nr_fail(slept, "not all %u parties arrived in time; this one has: wait again",
                           barrier->count);
        if (slept < 0)
            return nr_object_failed(&nr_barrier_kind, "wait at", slept);
        slept = nr_barrier_sleep(barrier, party->meeting, &deadline);
    }
    return nr_barrier_end(barrier, at, look, slept);
}

int naru_barrier_wait(struct naru_barrier *barrier, int64_t timeout_ns)
{
    if (!barrier)
        return nr_object_refuse(&nr_barrier_kind);
    struct nr_os_robust_thread *me = nr_os_robust_me();
    if (!me) {
        int result = nr_os_robust_prepare();
        if (result < 0)
            return nr_object_no_list(&nr_barrier_kind, result);
        me = nr_os_robust_me();
    }
    int at = nr_barrier_mine(barrier, me);
    if (at < 0)
        at = nr_barrier_join(barrier, me);
    return at < 0 ? at : nr_barrier_meet(barrier, at, timeout_ns);
}

int naru_barrier_leave(struct naru_barrier *barrier)
{
    struct nr_os_robust_thread *me = nr_os_robust_me();

    if (!barrier)
        return nr_object_refuse(&nr_barrier_kind);
    int at = nr_barrier_mine(barrier, me);
    if (at < 0)
        return nr_fail(-EPERM, "this thread is no party of the barrier through this handle");
    return nr_barrier_part(barrier, me, at);
}

int naru_barrier_reset(struct naru_barrier *barrier)
{
    if (!barrier)
        return nr_object_refuse(&nr_barrier_kind);
    nr_barrier_forget(nr_barrier_slots(barrier), barrier->count);
    return 0;
}

/* -- open and close ------------------------------------------------------------------------- */

static int nr_barrier_check_parties(uint32_t parties)
{
    if (parties >= 1 && parties <= NR_SLOTS_MAX)
        return 0;
    return nr_fail(-EINVAL, "a barrier can't have %u parties; give 1 to %d", parties, NR_SLOTS_MAX);
}

static int nr_barrier_new(struct naru_barrier **ret, struct nr_object *object)
{
    uint32_t count = ((struct nr_slots *)object->state)->head.more[0];
    bool is_damaged = count < 1 || count > NR_SLOTS_MAX;
    struct naru_barrier *barrier = is_damaged ? NULL : calloc(1, sizeof *barrier);

    if (!barrier) {
        nr_object_close(object);
        return is_damaged
                   ? nr_fail(-EBADMSG,
                             "the barrier says that it has %u parties: it is damaged; remove it",
                             count)
                   : nr_fail(-ENOMEM, "no memory for the handle of a barrier");
    }
    barrier->object = *object;
    barrier->count = count;
    *ret = barrier;
    return 0;
}

int naru_barrier_open(struct naru_barrier **ret, const char *name, uint32_t parties,
                      const struct naru_options *options)
{
    struct nr_object object;

    if (!ret || !name)
        return nr_fail(-EINVAL, "naru_barrier_open() needs a place for the handle, and a name");
    int result = nr_barrier_check_parties(parties);
    if (result == 0)
        result = nr_object_open(&object, &nr_barrier_kind, name, &parties, options);
    return result < 0 ? result : nr_barrier_new(ret, &object);
}

int naru_barrier_init(struct naru_barrier_state *state, uint32_t parties)
{
    int result = nr_barrier_check_parties(parties);

    return result < 0 ? result : nr_object_init(state, &nr_barrier_kind, &parties);
}

int naru_barrier_attach(struct naru_barrier **ret, struct naru_barrier_state *state)
{
    struct nr_object object;

    if (!ret)
        return nr_fail(-EINVAL, "naru_barrier_attach() needs a place for the handle");
    int result = nr_object_attach(&object, &nr_barrier_kind, state);
    return result < 0 ? result : nr_barrier_new(ret, &object);
}

void naru_barrier_close(struct naru_barrier *barrier)
{
    struct nr_os_robust_thread *me = nr_os_robust_me();

    if (!barrier)
        return;
    for (int at; (at = nr_barrier_mine(barrier, me)) >= 0;)
        nr_barrier_part(barrier, me, at);
    nr_object_close(&barrier->object);
    free(barrier);
}

int naru_barrier_unlink(const char *name)
{
    return nr_object_unlink(&nr_barrier_kind, name);
}
