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
#include "sync/holder.h"
#include "sync/semaphore.h"
#include <assert.h>

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

static struct nr_holder *nr_owned_holder(struct naru_semaphore *semaphore)
{
    return (struct nr_holder *)(void *)semaphore->more;
}

static int nr_owned_sleep(struct nr_holder *holder, struct nr_os_robust_thread *me,
                          int64_t timeout_ns)
{
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);
    uint32_t seen[NR_SLOTS_MAX];

    for (int result = 0; nr_holder_try(holder, me) < 0;) {
        if (result == -ETIMEDOUT)
            return nr_fail(
                result,
                "all %u permits were held until the time was over, one of them by thread %u",
                holder->count, nr_hold_owner(seen[0]));
        if (!nr_slots_want(holder->slots, holder->count, seen))
            continue;
        result = nr_holder_sleep(holder, seen, &deadline);
        if (result < 0 && result != -ETIMEDOUT)
            return nr_object_failed(&nr_semaphore_owned_kind, "wait for", result);
    }
    return 0;
}

static __attribute__((noinline)) int nr_owned_wait_long(struct naru_semaphore *semaphore,
                                                        int64_t timeout_ns)
{
    struct nr_holder *holder = nr_owned_holder(semaphore);
    int result = nr_os_robust_prepare();

    if (result < 0)
        return nr_object_no_list(&nr_semaphore_owned_kind, result);
    if (nr_holder_try(holder, nr_os_robust_me()) >= 0)
        return 0;
    if (timeout_ns == 0)
        return nr_fail(-EAGAIN, "all %u permits are held; give a time-out to wait for one",
                       holder->count);
    return nr_owned_sleep(holder, nr_os_robust_me(), timeout_ns);
}

static int nr_owned_wait(struct naru_semaphore *semaphore, int64_t timeout_ns)
{
    struct nr_os_robust_thread *me = nr_os_robust_me();

    if (__builtin_expect(me && nr_holder_try(nr_owned_holder(semaphore), me) >= 0, 1))
        return 0;
    return nr_owned_wait_long(semaphore, timeout_ns);
}

static int nr_owned_post(struct naru_semaphore *semaphore)
{
    struct nr_holder *holder = nr_owned_holder(semaphore);
    struct nr_os_robust_thread *me = nr_os_robust_me();
    int at = me ? nr_holder_mine(holder, me) : -1;

    if (at < 0)
        return nr_fail(-EPERM, "this thread holds no permit that it took through this handle; who "
                               "took one gives it back");
    int result = nr_holder_give(holder, me, at);
    return result < 0 ? nr_object_failed(&nr_semaphore_owned_kind, "wake who waits for", result)
                      : 0;
}

static int nr_owned_value(struct naru_semaphore *semaphore)
{
    const struct nr_holder *holder = nr_owned_holder(semaphore);
    int value = 0;

    for (unsigned i = 0; i < holder->count; i++)
        value += nr_hold_owner(atomic_load_explicit(&holder->slots->slots[i].word,
                                                    memory_order_relaxed)) == 0;
    return value;
}

static void nr_owned_close(struct naru_semaphore *semaphore)
{
    struct nr_holder *holder = nr_owned_holder(semaphore);
    struct nr_os_robust_thread *me = nr_os_robust_me();

    for (int at; me && (at = nr_holder_mine(holder, me)) >= 0;)
        nr_holder_give(holder, me, at);
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
    int result = nr_semaphore_new(&semaphore, object, &nr_owned_other, sizeof(struct nr_holder));
    if (result < 0)
        return result;
    nr_owned_holder(semaphore)->slots = semaphore->object.state;
    nr_owned_holder(semaphore)->count = count;
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
