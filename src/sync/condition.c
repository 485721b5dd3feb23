/* SPDX-License-Identifier: MIT */
/*
 * condition -- lets go of a mutex and sleeps until another thread has changed what the mutex guards
 *
 * What       One word: data/turn.h. Waking wakes all: one that is woken alone might be dying.
 * Death      Of a waiter: nothing is left. Of one that wakes: at any instruction either nobody is woken, or all are. Of
 *            one that holds the mutex: those who sleep here look for that after a second, so that they do not
 *            wait for one who can't wake them any more.
 */
#include "base/error.h"
#include "data/turn.h"
#include "sync/mutex.h"
#include "sync/sleep.h"
#include <stdlib.h>

struct naru_condition {
    struct nr_object object;
};

static const struct nr_object_kind nr_condition_kind = {
    .name = "condition",
    .suffix = ".condition",
    .magic = 0x4e524331, /* "NRC1" */
    .size_bytes = sizeof(struct naru_condition_state),
    .alignment_bytes = _Alignof(struct naru_condition_state),
};

static _Atomic uint32_t *nr_condition_word(const struct naru_condition *condition)
{
    return (_Atomic uint32_t *)&((struct naru_condition_state *)condition->object.state)->word;
}

/* Until the word changes, the time is over, or the mutex' holder has died. */
static int nr_condition_sleep(const _Atomic uint32_t *word, uint32_t value,
                              const struct naru_mutex *mutex, int64_t timeout_ns)
{
    const struct nr_os_futex_word sleeping = {(const uint32_t *)word, value};
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);
    int result = 0;

    while (atomic_load_explicit(word, memory_order_relaxed) == value && result >= 0) {
        if (result == NR_SLEEP_LOOK && nr_mutex_has_died(mutex))
            return 0;
        result = nr_sleep(&sleeping, 1, &deadline);
    }
    return result < 0 && atomic_load_explicit(word, memory_order_relaxed) == value ? result : 0;
}

int naru_condition_wait(struct naru_condition *condition, struct naru_mutex *mutex,
                        int64_t timeout_ns)
{
    if (!condition || !mutex)
        return nr_object_refuse(condition ? &nr_mutex_kind : &nr_condition_kind);
    if (!nr_mutex_is_mine(mutex))
        return nr_fail(-EPERM, "this thread does not hold the mutex; lock it, look, and then wait");
    if (timeout_ns == 0)
        return nr_fail(-EAGAIN, "nobody could wake this thread in no time; give a time-out");
    uint32_t value = nr_turn_prepare(nr_condition_word(condition));
    int result = naru_mutex_unlock(mutex);
    if (result < 0)
        return result;
    int slept = nr_condition_sleep(nr_condition_word(condition), value, mutex, timeout_ns);
    result = naru_mutex_lock(mutex, NARU_FOREVER);
    if (result != 0 || slept == 0) /* that a holder has died comes before that the time is over */
        return result;
    if (slept == -ETIMEDOUT)
        return nr_fail(slept,
                       "nobody woke those who wait in time; is the process that should still "
                       "there?");
    return nr_object_failed(&nr_condition_kind, "wait for", slept);
}

int naru_condition_wake(struct naru_condition *condition)
{
    int result = 0;

    if (!condition)
        return nr_object_refuse(&nr_condition_kind);
    if (nr_turn_must_wake(nr_condition_word(condition)))
        result = nr_os_futex_add_and_wake((uint32_t *)nr_condition_word(condition));
    return result < 0 ? nr_object_failed(&nr_condition_kind, "wake who waits for", result) : 0;
}

/* -- open and close ------------------------------------------------------------------------- */

static int nr_condition_new(struct naru_condition **ret, struct nr_object *object)
{
    struct naru_condition *condition = malloc(sizeof *condition);

    if (!condition) {
        nr_object_close(object);
        return nr_fail(-ENOMEM, "no memory for the handle of a condition");
    }
    condition->object = *object;
    *ret = condition;
    return 0;
}

int naru_condition_open(struct naru_condition **ret, const char *name,
                        const struct naru_options *options)
{
    struct nr_object object;

    if (!ret || !name)
        return nr_fail(-EINVAL, "naru_condition_open() needs a place for the handle, and a name");
    int result = nr_object_open(&object, &nr_condition_kind, name, NULL, options);
    return result < 0 ? result : nr_condition_new(ret, &object);
}

int naru_condition_init(struct naru_condition_state *state)
{
    return nr_object_init(state, &nr_condition_kind, NULL);
}

int naru_condition_attach(struct naru_condition **ret, struct naru_condition_state *state)
{
    struct nr_object object;

    if (!ret)
        return nr_fail(-EINVAL, "naru_condition_attach() needs a place for the handle");
    int result = nr_object_attach(&object, &nr_condition_kind, state);
    return result < 0 ? result : nr_condition_new(ret, &object);
}

void naru_condition_close(struct naru_condition *condition)
{
    if (!condition)
        return;
    nr_object_close(&condition->object);
    free(condition);
}

int naru_condition_unlink(const char *name)
{
    return nr_object_unlink(&nr_condition_kind, name);
}
