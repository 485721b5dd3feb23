/* SPDX-License-Identifier: MIT */
/*
 * rwlock -- one that writes, or up to 63 that read
 *
 * What       A page of words that threads hold: data/rwlock.h, which says how it goes and what a death leaves.
 * Cost       A reader changes a line of its own, and looks at that of the writer: readers do not disturb each other.
 */
#include "data/rwlock.h"
#include "base/error.h"
#include "sync/holder.h"
#include "sync/object.h"
#include <assert.h>
#include <naru/sync.h>
#include <stdlib.h>

struct naru_rwlock {
    struct nr_object object;
    struct nr_os_robust_hold writer; /* of the thread that writes */
    bool is_doubtful; /* the same: one before it has died in the middle, and it has not said more */
    struct nr_holder readers;
};

static_assert(sizeof(struct naru_rwlock_state) == sizeof(struct nr_slots) &&
                  _Alignof(struct naru_rwlock_state) == _Alignof(struct nr_slots) &&
                  (int)NARU_READERS_MAX == (int)NR_SLOTS_MAX,
              "the public struct is the room for the inner one");

static const struct nr_object_kind nr_rwlock_kind = {
    .name = "rwlock",
    .suffix = ".rwlock",
    .magic = 0x4e525231, /* "NRR1" */
    .has_home = true,
    .size_bytes = sizeof(struct nr_slots),
    .alignment_bytes = _Alignof(struct nr_slots),
};

/* One call of lock, on its way. */
struct nr_rwlock_attempt {
    struct naru_rwlock *lock;
    struct nr_slots *slots;
    struct nr_os_robust_thread *me;
    struct nr_deadline deadline;
    int result; /* of the last sleep */
};

static uint32_t *nr_rwlock_head(const struct nr_rwlock_attempt *attempt)
{
    return (uint32_t *)&attempt->slots->head.word;
}

/* -- waiting ------------------------------------------------------------------------------------ */

static int nr_rwlock_busy(const struct nr_rwlock_attempt *attempt, uint32_t owner)
{
    if (owner == attempt->me->id)
        return nr_fail(-EDEADLK, "this thread has locked it already; it would wait for itself");
    if (nr_deadline_is_now(&attempt->deadline))
        return nr_fail(-EAGAIN, "thread %u has it; give a time-out to wait for it", owner);
    return nr_fail(-ETIMEDOUT, "thread %u had it until the time was over", owner);
}

/* Before a sleep: 0, or why there can't be one. */
static int nr_rwlock_may_sleep(const struct nr_rwlock_attempt *attempt, uint32_t owner)
{
    bool is_over = attempt->result == -ETIMEDOUT || nr_deadline_is_now(&attempt->deadline);

    if (is_over || owner == attempt->me->id)
        return nr_rwlock_busy(attempt, owner);
    if (attempt->result < 0)
        return nr_object_failed(&nr_rwlock_kind, "wait for", attempt->result);
    return 0;
}

/* The thread is aimed at the head. 0: look again. */
static int nr_rwlock_sleep_on_head(struct nr_rwlock_attempt *attempt, uint32_t seen)
{
    struct nr_hold *head = &attempt->slots->head;
    int result = nr_rwlock_may_sleep(attempt, nr_hold_owner(seen));

    if (result < 0 || !nr_hold_want(&head->word, &seen))
        return result;
    const struct nr_os_futex_word sleeping = {nr_rwlock_head(attempt), seen};
    attempt->result = nr_sleep(&sleeping, 1, &attempt->deadline);
    if (attempt->result == NR_SLEEP_LOOK && nr_os_process_is_missing((pid_t)nr_hold_owner(seen)))
        nr_hold_bury(&head->word, seen);
    return 0;
}

/* Of the slots that seen[] says, or of all. 0: look again. */
static int nr_rwlock_sleep_on_slots(struct nr_rwlock_attempt *attempt, const uint32_t seen[])
{
    uint32_t owner = 0;

    for (unsigned i = 0; i < NR_SLOTS_MAX; i++)
        if (seen[i] && owner != attempt->me->id)
            owner = nr_hold_owner(seen[i]);
    int result = nr_rwlock_may_sleep(attempt, owner);
    if (result == 0)
        attempt->result = nr_holder_sleep(&attempt->lock->readers, seen, &attempt->deadline);
    return result;
}

static int nr_rwlock_begin_attempt(struct nr_rwlock_attempt *ret, struct naru_rwlock *lock,
                                   int64_t timeout_ns)
{
    if (!lock)
        return nr_object_refuse(&nr_rwlock_kind);
    struct nr_os_robust_thread *me = nr_os_robust_me();
    if (!me) {
        int result = nr_os_robust_prepare();
        if (result < 0)
            return nr_object_no_list(&nr_rwlock_kind, result);
        me = nr_os_robust_me();
    }
    *ret = (struct nr_rwlock_attempt){
        .lock = lock,
        .slots = lock->object.state,
        .me = me,
        .deadline = nr_deadline_in(timeout_ns),
    };
    return 0;
}

/* -- read ------------------------------------------------------------------------------------ */

/* 0: nobody writes. The thread is aimed at the head from its sleep until all others are awake. */
static int nr_rwlock_await_writer(struct nr_rwlock_attempt *attempt)
{
    int result = 0;
    uint32_t head;

    if (!nr_rwlock_look(attempt->slots, &head) &&
        nr_holder_mine(&attempt->lock->readers, attempt->me) >= 0)
        return nr_rwlock_busy(attempt, attempt->me->id); /* it reads, and a writer waits for that */
    if (nr_hold_owner(head) == 0 && !nr_rwlock_must_wake(head))
        return 0;
    void *before = nr_os_robust_aim(attempt->me, (void *)&attempt->slots->head);
    while (result == 0 && !nr_rwlock_look(attempt->slots, &head))
        result = nr_rwlock_sleep_on_head(attempt, head);
    if (result == 0 && nr_rwlock_must_wake(head))
        nr_os_futex_clear_and_wake(nr_rwlock_head(attempt), NR_HOLD_WAITERS);
    nr_os_robust_settle(attempt->me, before);
    return result;
}

static int nr_rwlock_read_slowly(struct naru_rwlock *lock, int64_t timeout_ns)
{
    struct nr_rwlock_attempt attempt;
    uint32_t seen[NR_SLOTS_MAX];

    int result = nr_rwlock_begin_attempt(&attempt, lock, timeout_ns);
    while (result == 0) {
        result = nr_rwlock_await_writer(&attempt);
        if (result < 0)
            break;
        int at = nr_holder_try(&lock->readers, attempt.me);
        if (at < 0 && nr_slots_want(attempt.slots, NR_SLOTS_MAX, seen))
            result = nr_rwlock_sleep_on_slots(&attempt, seen);
        if (at < 0)
            continue;
        if (nr_rwlock_is_open(attempt.slots))
            return nr_rwlock_is_stained(attempt.slots) ? NARU_OWNER_DIED : 0;
        nr_holder_give(&lock->readers, attempt.me, at);
    }
    return result;
}

int naru_rwlock_read(struct naru_rwlock *lock, int64_t timeout_ns)
{
    struct nr_os_robust_thread *me = nr_os_robust_me();
    uint32_t head;

    if (__builtin_expect(!lock || !me, 0))
        return nr_rwlock_read_slowly(lock, timeout_ns);
    struct nr_slots *slots = lock->object.state;
    if (__builtin_expect(!nr_rwlock_look(slots, &head) || nr_rwlock_must_wake(head), 0))
        return nr_rwlock_read_slowly(lock, timeout_ns);
    int at = nr_holder_try(&lock->readers, me);
    if (__builtin_expect(at >= 0 && nr_rwlock_is_open(slots), 1))
        return nr_rwlock_is_stained(slots) ? NARU_OWNER_DIED : 0;
    if (at >= 0)
        nr_holder_give(&lock->readers, me, at);
    return nr_rwlock_read_slowly(lock, timeout_ns);
}

/* -- write ----------------------------------------------------------------------------------- */

static int nr_rwlock_take_head(struct nr_rwlock_attempt *attempt)
{
    struct nr_hold *head = &attempt->slots->head;
    void *before = nr_os_robust_aim(attempt->me, (void *)head);
    uint32_t seen;
    int result = 0;

    while (result == 0 && !nr_hold_take(&head->word, attempt->me->id, &seen))
        result = nr_rwlock_sleep_on_head(attempt, seen);
    if (result == 0)
        nr_os_robust_add(attempt->me, &attempt->lock->writer, (void *)head);
    nr_os_robust_settle(attempt->me, before);
    return result;
}

static int nr_rwlock_leave_head(struct naru_rwlock *lock, struct nr_os_robust_thread *me)
{
    struct nr_hold *head = lock->object.state;
    void *before = nr_os_robust_aim(me, (void *)head);
    int result = 0;

    nr_os_robust_remove(&lock->writer);
    if (!nr_hold_leave(&head->word, false))
        result = nr_os_futex_store_and_wake((uint32_t *)&head->word, nr_hold_left(false));
    nr_os_robust_settle(me, before);
    return result < 0 ? nr_object_failed(&nr_rwlock_kind, "unlock", result) : 0;
}

int naru_rwlock_write(struct naru_rwlock *lock, int64_t timeout_ns)
{
    struct nr_rwlock_attempt attempt;
    uint32_t seen[NR_SLOTS_MAX];

    int result = nr_rwlock_begin_attempt(&attempt, lock, timeout_ns);
    if (result == 0)
        result = nr_rwlock_take_head(&attempt);
    if (result < 0)
        return result;
    while (result == 0 && nr_rwlock_readers(attempt.slots, NR_SLOTS_MAX, seen))
        result = nr_rwlock_sleep_on_slots(&attempt, seen);
    if (result < 0) {
        nr_rwlock_leave_head(lock, attempt.me);
        return result;
    }
    lock->is_doubtful = nr_rwlock_begin(attempt.slots);
    return lock->is_doubtful ? NARU_OWNER_DIED : 0;
}

/* -- unlock ---------------------------------------------------------------------------------- */

static bool nr_rwlock_writes(const struct naru_rwlock *lock, const struct nr_os_robust_thread *me)
{
    const struct nr_hold *head = lock->object.state;

    return lock->writer.entry &&
           nr_hold_owner(atomic_load_explicit(&head->word, memory_order_relaxed)) == me->id;
}

int naru_rwlock_unlock(struct naru_rwlock *lock)
{
    struct nr_os_robust_thread *me = nr_os_robust_me();

    if (!lock)
        return nr_object_refuse(&nr_rwlock_kind);
    if (me && nr_rwlock_writes(lock, me)) {
        if (!lock->is_doubtful)
            nr_rwlock_clean(lock->object.state);
        return nr_rwlock_leave_head(lock, me);
    }
    int at = me ? nr_holder_mine(&lock->readers, me) : -1;
    if (at < 0)
        return nr_fail(-EPERM, "this thread has not locked it through this handle; lock it first");
    int result = nr_holder_give(&lock->readers, me, at);
    return result < 0 ? nr_object_failed(&nr_rwlock_kind, "unlock", result) : 0;
}

int naru_rwlock_consistent(struct naru_rwlock *lock)
{
    struct nr_os_robust_thread *me = nr_os_robust_me();

    if (!lock)
        return nr_object_refuse(&nr_rwlock_kind);
    if (!me || !nr_rwlock_writes(lock, me))
        return nr_fail(-EPERM,
                       "this thread has not locked it for writing; only a writer can say so");
    lock->is_doubtful = false;
    return 0;
}

/* -- open and close ------------------------------------------------------------------------- */

static int nr_rwlock_new(struct naru_rwlock **ret, struct nr_object *object)
{
    struct naru_rwlock *lock = calloc(1, sizeof *lock);

    if (!lock) {
        nr_object_close(object);
        return nr_fail(-ENOMEM, "no memory for the handle of a rwlock");
    }
    lock->object = *object;
    lock->readers.slots = object->state;
    lock->readers.count = NR_SLOTS_MAX;
    *ret = lock;
    return 0;
}

int naru_rwlock_open(struct naru_rwlock **ret, const char *name, const struct naru_options *options)
{
    struct nr_object object;

    if (!ret || !name)
        return nr_fail(-EINVAL, "naru_rwlock_open() needs a place for the handle, and a name");
    int result = nr_object_open(&object, &nr_rwlock_kind, name, NULL, options);
    return result < 0 ? result : nr_rwlock_new(ret, &object);
}

int naru_rwlock_init(struct naru_rwlock_state *state)
{
    return nr_object_init(state, &nr_rwlock_kind, NULL);
}

int naru_rwlock_attach(struct naru_rwlock **ret, struct naru_rwlock_state *state)
{
    struct nr_object object;

    if (!ret)
        return nr_fail(-EINVAL, "naru_rwlock_attach() needs a place for the handle");
    int result = nr_object_attach(&object, &nr_rwlock_kind, state);
    return result < 0 ? result : nr_rwlock_new(ret, &object);
}

/* A writer leaves the stain: what it has written may be half done. */
void naru_rwlock_close(struct naru_rwlock *lock)
{
    struct nr_os_robust_thread *me = nr_os_robust_me();

    if (!lock)
        return;
    if (me && nr_rwlock_writes(lock, me))
        nr_rwlock_leave_head(lock, me);
    for (int at; me && (at = nr_holder_mine(&lock->readers, me)) >= 0;)
        nr_holder_give(&lock->readers, me, at);
    nr_object_close(&lock->object);
    free(lock);
}

int naru_rwlock_unlink(const char *name)
{
    return nr_object_unlink(&nr_rwlock_kind, name);
}
