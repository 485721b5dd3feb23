/* SPDX-License-Identifier: MIT */
/*
 * semaphore_owned -- permits that belong to the thread that took them, and return when it dies
 *
 * What       Each permit is a word that a thread holds (data/slots.h), and that the kernel takes from it when it
 *            ends (os/robust.h).
 * Ownership  A thread may hold several permits. What is private of a held one stands in the handle, at the same index, and
 *            is the holder's.
 * Death      Of a holder at any instruction: its permits are free, and one who waits is woken. Of a waiter: nothing is left.
 */
#include "base/error.h"
#include "data/slots.h"
#include "os/robust.h"
#include "sync/semaphore.h"
#include "sync/sleep.h"
#include <assert.h>

struct nr_owned {
    unsigned count; /* a copy: the shared one may change at a hostile process' will */
    struct nr_os_robust_hold mine[NR_SLOTS_MAX];
};

static_assert(sizeof(struct naru_owned_state) == sizeof(struct nr_slots) &&
                  _Alignof(struct naru_owned_state) == _Alignof(struct nr_slots) &&
                  (int)NARU_PERMITS_MAX == (int)NR_SLOTS_MAX,
              "the public struct is the room for the inner one");

static void nr_owned_write(void *state, const void *permits)
{
    struct nr_slots *slots = state;

    slots->head.more[0] = *(const uint32_t *)permits;
}

const struct nr_object_kind nr_semaphore_owned_kind = {
    .name = "semaphore",
    .suffix = ".semaphore",
    .magic = 0x4e524f31, /* "NRO1" */
    .has_home = true,
    .size_bytes = sizeof(struct nr_slots),
    .alignment_bytes = _Alignof(struct nr_slots),
    .write = nr_owned_write,
};

static struct nr_owned *nr_owned_of(struct naru_semaphore *semaphore)
{
    return (struct nr_owned *)(void *)semaphore->more;
}
static struct nr_slots *nr_owned_slots(const struct naru_semaphore *semaphore)
{
    return semaphore->object.state;
}

/* -- take ------------------------------------------------------------------------------------ */

static bool nr_owned_try(struct naru_semaphore *semaphore, struct nr_os_robust_thread *me)
{
    struct nr_owned *owned = nr_owned_of(semaphore);
    struct nr_slots *slots = nr_owned_slots(semaphore);
    unsigned start = nr_slots_start(me->id, owned->count);
    uint32_t seen;
    int at;

    while ((at = nr_slots_find(slots, owned->count, start)) >= 0) {
        struct nr_hold *slot = &slots->slots[at];
        void *before = nr_os_robust_aim(me, (void *)slot);
        bool is_mine = nr_hold_take(&slot->word, me->id, &seen);
        if (is_mine)
            nr_os_robust_add(me, &owned->mine[at], (void *)slot);
        nr_os_robust_settle(me, before);
        if (is_mine)
            return true;
    }
    return false;
}

/* The holders that are gone, though the kernel has not said so. */
static void nr_owned_look(struct nr_slots *slots, unsigned count, const uint32_t seen[])
{
    for (unsigned i = 0; i < count; i++)
        if (nr_os_process_is_missing((pid_t)nr_hold_owner(seen[i])))
            nr_hold_bury(&slots->slots[i].word, seen[i]);
}

static int nr_owned_sleep(struct naru_semaphore *semaphore, struct nr_os_robust_thread *me,
                          int64_t timeout_ns)
{
    struct nr_owned *owned = nr_owned_of(semaphore);
    struct nr_slots *slots = nr_owned_slots(semaphore);
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);
    struct nr_os_futex_word words[NR_SLOTS_MAX];
    uint32_t seen[NR_SLOTS_MAX];

    for (int result = 0; !nr_owned_try(semaphore, me);) {
        if (result == -ETIMEDOUT)
            return nr_fail(
                result,
                "all %u permits were held until the time was over, one of them by thread %u",
                owned->count, nr_hold_owner(seen[0]));
        if (!nr_slots_want(slots, owned->count, seen))
            continue;
        for (unsigned i = 0; i < owned->count; i++)
            words[i] = (struct nr_os_futex_word){(const uint32_t *)&slots->slots[i].word, seen[i]};
        result = nr_sleep(words, owned->count, &deadline);
        if (result < 0 && result != -ETIMEDOUT)
            return nr_object_failed(&nr_semaphore_owned_kind, "wait for", result);
        if (result == NR_SLEEP_LOOK)
            nr_owned_look(slots, owned->count, seen);
    }
    return 0;
}

static int nr_owned_wait(struct naru_semaphore *semaphore, int64_t timeout_ns)
{
    struct nr_os_robust_thread *me = nr_os_robust_me();

    if (!me) {
        int result = nr_os_robust_prepare();
        if (result < 0)
            return nr_object_no_list(&nr_semaphore_owned_kind, result);
        me = nr_os_robust_me();
    }
    if (nr_owned_try(semaphore, me))
        return 0;
    if (timeout_ns == 0)
        return nr_fail(-EAGAIN, "all %u permits are held; give a time-out to wait for one",
                       nr_owned_of(semaphore)->count);
    return nr_owned_sleep(semaphore, me, timeout_ns);
}

/* -- give back ------------------------------------------------------------------------------ */

/* A permit that the thread holds through this handle: -1: none. */
static int nr_owned_mine(struct naru_semaphore *semaphore, const struct nr_os_robust_thread *me)
{
    struct nr_owned *owned = nr_owned_of(semaphore);

    unsigned at = nr_slots_start(me->id, owned->count);

    for (unsigned i = 0; i < owned->count; i++, at = at + 1 == owned->count ? 0 : at + 1) {
        uint32_t seen =
            atomic_load_explicit(&nr_owned_slots(semaphore)->slots[at].word, memory_order_relaxed);
        if (nr_hold_owner(seen) == me->id && owned->mine[at].entry)
            return (int)at;
    }
    return -1;
}

static int nr_owned_give(struct naru_semaphore *semaphore, struct nr_os_robust_thread *me, int at)
{
    struct nr_hold *slot = &nr_owned_slots(semaphore)->slots[at];
    void *before = nr_os_robust_aim(me, (void *)slot);
    int result = 0;

    nr_os_robust_remove(&nr_owned_of(semaphore)->mine[at]);
    if (!nr_hold_leave(&slot->word, false))
        result = nr_os_futex_store_and_wake((uint32_t *)&slot->word, nr_hold_left(false));
    nr_os_robust_settle(me, before);
    return result < 0 ? nr_object_failed(&nr_semaphore_owned_kind, "wake who waits for", result)
                      : 0;
}

static int nr_owned_post(struct naru_semaphore *semaphore)
{
    struct nr_os_robust_thread *me = nr_os_robust_me();
    int at = me ? nr_owned_mine(semaphore, me) : -1;

    if (at < 0)
        return nr_fail(-EPERM, "this thread holds no permit that it took through this handle; who "
                               "took one gives it back");
    return nr_owned_give(semaphore, me, at);
}

static int nr_owned_value(struct naru_semaphore *semaphore)
{
    const struct nr_slots *slots = nr_owned_slots(semaphore);
    unsigned count = nr_owned_of(semaphore)->count;
    int value = 0;

    for (unsigned i = 0; i < count; i++)
        value +=
            nr_hold_owner(atomic_load_explicit(&slots->slots[i].word, memory_order_relaxed)) == 0;
    return value;
}

static void nr_owned_close(struct naru_semaphore *semaphore)
{
    struct nr_os_robust_thread *me = nr_os_robust_me();

    for (int at; me && (at = nr_owned_mine(semaphore, me)) >= 0;)
        nr_owned_give(semaphore, me, at);
}

/* -- open ------------------------------------------------------------------------------------ */

static const struct nr_semaphore_other nr_owned_other = {
    .post = nr_owned_post,
    .wait = nr_owned_wait,
    .value = nr_owned_value,
    .close = nr_owned_close,
};

static int nr_owned_check_permits(uint32_t permits)
{
    if (permits >= 1 && permits <= NR_SLOTS_MAX)
        return 0;
    return nr_fail(-EINVAL, "an owned semaphore can't have %u permits; give 1 to %d", permits,
                   NR_SLOTS_MAX);
}

static int nr_owned_new(struct naru_semaphore **ret, struct nr_object *object)
{
    uint32_t count = ((struct nr_slots *)object->state)->head.more[0];
    struct naru_semaphore *semaphore;

    if (count < 1 || count > NR_SLOTS_MAX) {
        nr_object_close(object);
        return nr_fail(
            -EBADMSG, "the semaphore says that it has %u permits: it is damaged; remove it", count);
    }
    int result = nr_semaphore_new(&semaphore, object, &nr_owned_other, sizeof(struct nr_owned));
    if (result < 0)
        return result;
    nr_owned_of(semaphore)->count = count;
    *ret = semaphore;
    return 0;
}

int naru_semaphore_open_owned(struct naru_semaphore **ret, const char *name, uint32_t permits,
                              const struct naru_options *options)
{
    struct nr_object object;

    if (!ret || !name)
        return nr_fail(-EINVAL,
                       "naru_semaphore_open_owned() needs a place for the handle, and a name");
    int result = nr_owned_check_permits(permits);
    if (result == 0)
        result = nr_object_open(&object, &nr_semaphore_owned_kind, name, &permits, options);
    return result < 0 ? result : nr_owned_new(ret, &object);
}

int naru_semaphore_init_owned(struct naru_owned_state *state, uint32_t permits)
{
    int result = nr_owned_check_permits(permits);

    return result < 0 ? result : nr_object_init(state, &nr_semaphore_owned_kind, &permits);
}

int naru_semaphore_attach_owned(struct naru_semaphore **ret, struct naru_owned_state *state)
{
    struct nr_object object;

    if (!ret)
        return nr_fail(-EINVAL, "naru_semaphore_attach_owned() needs a place for the handle");
    int result = nr_object_attach(&object, &nr_semaphore_owned_kind, state);
    return result < 0 ? result : nr_owned_new(ret, &object);
}
