/* SPDX-License-Identifier: MIT */
/*
 * mutex -- one at a time, also when that one dies
 *
 * What       A word that a thread holds (data/hold.h), which the kernel takes from it when it ends (os/robust.h).
 * Ownership  The thread that locked it. What is private of a held mutex stands in the handle, and is the
 *            holder's.
 * Death      At any instruction: before the compare-and-swap that takes the word nothing was done; from there to the one
 *            that lets go the thread is aimed at the word, or has it in its list, and the kernel marks it. The next one gets
 *            NARU_OWNER_DIED, and so does each after it, until one has said naru_mutex_consistent().
 *            A holder that closes its handle lets go as if it had died: whatever it guards is half done.
 * Cost       Uncontended: a compare-and-swap to lock and one to unlock, no system call.
 */
#include "sync/mutex.h"
#include "base/error.h"
#include "base/relax.h"
#include "sync/sleep.h"
#include <assert.h>
#include <stdlib.h>

enum {
    NR_MUTEX_SPINS = 60
}; /* about the time of a short section; a sleep costs fifty times that */

static_assert(sizeof(struct naru_mutex_state) == sizeof(struct nr_hold) &&
                  _Alignof(struct naru_mutex_state) == _Alignof(struct nr_hold),
              "the public struct is the room for the inner one");
static_assert(offsetof(struct nr_hold, entry) + sizeof(void *) == NR_OS_ROBUST_DISTANCE,
              "an entry of the robust list stands around the word");

const struct nr_object_kind nr_mutex_kind = {
    .name = "mutex",
    .suffix = ".mutex",
    .magic = 0x4e524d31, /* "NRM1" */
    .has_home = true,
    .size_bytes = sizeof(struct nr_hold),
    .alignment_bytes = _Alignof(struct nr_hold),
};

static inline struct nr_hold *nr_mutex_hold(const struct naru_mutex *mutex)
{
    return mutex->object.state;
}
static inline struct nr_os_robust_entry *nr_mutex_entry(const struct naru_mutex *mutex)
{
    return mutex->object.state;
}

/* -- lock ----------------------------------------------------------------------------------- */

static int nr_mutex_busy(int error, uint32_t owner)
{
    if (error == -EAGAIN)
        return nr_fail(error, "thread %u holds the mutex; give a time-out to wait for it", owner);
    if (error == -EDEADLK)
        return nr_fail(error, "this thread holds the mutex already; it would wait for itself");
    return nr_fail(error, "thread %u held the mutex until the time was over", owner);
}

/* Holds for as long as a short section: true if the word looks free. */
static bool nr_mutex_spin(const struct naru_mutex *mutex, uint32_t seen)
{
    const struct nr_hold *hold = nr_mutex_hold(mutex);

    for (int i = 0; i < mutex->spins && !(seen & NR_HOLD_WAITERS); i++) {
        nr_relax();
        seen = atomic_load_explicit(&hold->word, memory_order_relaxed);
        if (nr_hold_owner(seen) == 0)
            return true;
    }
    return false;
}

static int nr_mutex_wait(struct naru_mutex *mutex, uint32_t me, uint32_t *seen, int64_t timeout_ns)
{
    struct nr_hold *hold = nr_mutex_hold(mutex);
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);
    struct nr_os_futex_word sleeping = {.word = (const uint32_t *)&hold->word};
    int result = 0;

    if (nr_hold_owner(*seen) == me)
        return nr_mutex_busy(-EDEADLK, me);
    if (timeout_ns == 0)
        return nr_mutex_busy(-EAGAIN, nr_hold_owner(*seen));
    while (!nr_mutex_spin(mutex, *seen) || !nr_hold_take(&hold->word, me, seen)) {
        if (result == -ETIMEDOUT)
            return nr_mutex_busy(result, nr_hold_owner(*seen));
        if (nr_hold_want(&hold->word, seen)) {
            sleeping.value = *seen;
            result = nr_sleep(&sleeping, 1, &deadline);
            if (result < 0 && result != -ETIMEDOUT)
                return nr_object_failed(&nr_mutex_kind, "wait for", result);
            if (result == NR_SLEEP_LOOK && nr_os_process_is_missing((pid_t)nr_hold_owner(*seen)))
                nr_hold_bury(&hold->word, *seen);
        }
        if (nr_hold_take(&hold->word, me, seen))
            break;
    }
    return 0;
}

int naru_mutex_lock(struct naru_mutex *mutex, int64_t timeout_ns)
{
    struct nr_os_robust_thread *me = nr_os_robust_me();
    uint32_t seen;
    int result = 0;

    if (__builtin_expect(!mutex, 0))
        return nr_object_refuse(&nr_mutex_kind);
    if (__builtin_expect(!me, 0)) {
        result = nr_os_robust_prepare();
        if (result < 0)
            return nr_object_no_list(&nr_mutex_kind, result);
        me = nr_os_robust_me();
    }
    void *before = nr_os_robust_aim(me, nr_mutex_entry(mutex));
    if (__builtin_expect(!nr_hold_take(&nr_mutex_hold(mutex)->word, me->id, &seen), 0))
        result = nr_mutex_wait(mutex, me->id, &seen, timeout_ns);
    if (__builtin_expect(result == 0, 1))
        nr_os_robust_add(me, &mutex->mine, nr_mutex_entry(mutex));
    nr_os_robust_settle(me, before);
    return result < 0 ? result : (seen & NR_HOLD_DIED) != 0 ? NARU_OWNER_DIED : 0;
}

/* -- unlock --------------------------------------------------------------------------------- */

static int nr_mutex_not_mine(uint32_t seen)
{
    if (nr_hold_owner(seen) == 0)
        return nr_fail(-EPERM, "nobody holds the mutex; lock it first");
    return nr_fail(-EPERM,
                   "thread %u holds the mutex; who locked it unlocks it, through the same handle",
                   nr_hold_owner(seen));
}

/* The caller holds it, as seen. */
static inline int nr_mutex_leave(struct naru_mutex *mutex, struct nr_os_robust_thread *me,
                                 bool died)
{
    struct nr_hold *hold = nr_mutex_hold(mutex);
    void *before = nr_os_robust_aim(me, nr_mutex_entry(mutex));
    int result = 0;

    nr_os_robust_remove(&mutex->mine);
    if (__builtin_expect(!nr_hold_leave(&hold->word, died), 0))
        result = nr_os_futex_store_and_wake((uint32_t *)&hold->word, nr_hold_left(died));
    nr_os_robust_settle(me, before);
    return result < 0 ? nr_object_failed(&nr_mutex_kind, "unlock", result) : 0;
}

/* NULL: the calling thread does not hold it through this handle. */
static inline struct nr_os_robust_thread *nr_mutex_holder(const struct naru_mutex *mutex,
                                                          uint32_t *ret_seen)
{
    struct nr_os_robust_thread *me = nr_os_robust_me();

    *ret_seen = atomic_load_explicit(&nr_mutex_hold(mutex)->word, memory_order_relaxed);
    return me && nr_hold_owner(*ret_seen) == me->id && mutex->mine.entry ? me : NULL;
}

int naru_mutex_unlock(struct naru_mutex *mutex)
{
    uint32_t seen;

    if (__builtin_expect(!mutex, 0))
        return nr_object_refuse(&nr_mutex_kind);
    struct nr_os_robust_thread *me = nr_mutex_holder(mutex, &seen);
    if (__builtin_expect(!me, 0))
        return nr_mutex_not_mine(seen);
    return nr_mutex_leave(mutex, me, (seen & NR_HOLD_DIED) != 0);
}

int naru_mutex_consistent(struct naru_mutex *mutex)
{
    uint32_t seen;

    if (!mutex)
        return nr_object_refuse(&nr_mutex_kind);
    if (!nr_mutex_holder(mutex, &seen))
        return nr_mutex_not_mine(seen);
    atomic_fetch_and_explicit(&nr_mutex_hold(mutex)->word, ~NR_HOLD_DIED, memory_order_relaxed);
    return 0;
}

int naru_mutex_owner(struct naru_mutex *mutex)
{
    if (!mutex)
        return nr_object_refuse(&nr_mutex_kind);
    return (int)nr_hold_owner(
        atomic_load_explicit(&nr_mutex_hold(mutex)->word, memory_order_relaxed));
}

bool nr_mutex_is_mine(const struct naru_mutex *mutex)
{
    uint32_t seen;

    return nr_mutex_holder(mutex, &seen) != NULL;
}

bool nr_mutex_has_died(const struct naru_mutex *mutex)
{
    uint32_t seen = atomic_load_explicit(&nr_mutex_hold(mutex)->word, memory_order_relaxed);

    return (seen & NR_HOLD_DIED) && nr_hold_owner(seen) == 0;
}

/* -- open and close ------------------------------------------------------------------------- */

static int nr_mutex_new(struct naru_mutex **ret, struct nr_object *object)
{
    struct naru_mutex *mutex = malloc(sizeof *mutex);

    if (!mutex) {
        nr_object_close(object);
        return nr_fail(-ENOMEM, "no memory for the handle of a mutex");
    }
    *mutex = (struct naru_mutex){
        .object = *object,
        .spins = nr_os_cpus() > 1 ? NR_MUTEX_SPINS : 0,
    };
    *ret = mutex;
    return 0;
}

int naru_mutex_open(struct naru_mutex **ret, const char *name, const struct naru_options *options)
{
    struct nr_object object;

    if (!ret || !name)
        return nr_fail(-EINVAL, "naru_mutex_open() needs a place for the handle, and a name");
    int result = nr_object_open(&object, &nr_mutex_kind, name, NULL, options);
    return result < 0 ? result : nr_mutex_new(ret, &object);
}

int naru_mutex_init(struct naru_mutex_state *state)
{
    return nr_object_init(state, &nr_mutex_kind, NULL);
}

int naru_mutex_attach(struct naru_mutex **ret, struct naru_mutex_state *state)
{
    struct nr_object object;

    if (!ret)
        return nr_fail(-EINVAL, "naru_mutex_attach() needs a place for the handle");
    int result = nr_object_attach(&object, &nr_mutex_kind, state);
    return result < 0 ? result : nr_mutex_new(ret, &object);
}

void naru_mutex_close(struct naru_mutex *mutex)
{
    uint32_t seen;

    if (!mutex)
        return;
    struct nr_os_robust_thread *me = nr_mutex_holder(mutex, &seen);
    if (me)
        nr_mutex_leave(mutex, me, true);
    nr_object_close(&mutex->object);
    free(mutex);
}

int naru_mutex_unlink(const char *name)
{
    return nr_object_unlink(&nr_mutex_kind, name);
}
