/* SPDX-License-Identifier: MIT */
/*
 * semaphore -- a count in one word that processes share
 *
 * Word       bit 31: someone may sleep; bits 0..30: the count, of which values up to 2^30 - 1 are used.
 * wait       count > 0: CAS to count - 1, without the flag. Else CAS the flag on and sleep on exactly
 *            {flag, 0}.
 * post       Not {flag, 0}: CAS to count + 1, no system call. {flag, 0}: one system call adds 1 and wakes
 *            all who sleep.
 * Invariant  Who sleeps, and was not woken, sleeps on {flag, 0}: that is the only value anyone goes to
 *            sleep on, and the only way out of it is the call that adds and wakes under the lock that
 *            sleepers enqueue under. So a positive count has no sleeper, and whoever finds one may clear
 *            the flag; a woken waiter that comes too late sets it again.
 * Death      Of a poster: before its CAS or its system call nothing happened, after it all did. Of a
 *            waiter: before its CAS it took nothing; a flag it leaves behind costs the next post one
 *            system call. All sleepers are woken, so one that dies as it wakes had nobody's wake-up.
 * Overflow   A post that saw {flag, 0} adds without a look at the count; bit 30 has room for as many of
 *            them as there can be threads.
 * Ordering   [R1] the CAS or the kernel's atomic add that raises the count -> [A1] the CAS that lowers
 *            it: what a poster wrote before is visible to who took its permit. Without it the semaphore
 *            would not guard a plain variable: test/fault/semaphore.c, guards_a_plain_counter.
 */
#include "base/error.h"
#include "os/clock.h"
#include "os/futex.h"
#include "sync/object.h"
#include <assert.h>
#include <naru/sync.h>
#include <stdatomic.h>
#include <stdlib.h>

#define NR_SEMAPHORE_SLEEPERS  UINT32_C(0x80000000)
#define NR_SEMAPHORE_COUNT_MAX UINT32_C(0x3fffffff)

struct naru_semaphore {
    struct naru_semaphore_state *state;
    struct nr_object object;
};

static_assert(sizeof(struct naru_semaphore_state) == 8 &&
                  offsetof(struct naru_semaphore_state, magic) == 4,
              "the layout is shared between processes");
static_assert(sizeof(_Atomic uint32_t) == sizeof(uint32_t), "an atomic word is just the word");

static _Atomic uint32_t *nr_semaphore_atomic(uint32_t *word)
{
    return (_Atomic uint32_t *)word;
}

static uint32_t nr_semaphore_count(uint32_t word)
{
    return word & ~NR_SEMAPHORE_SLEEPERS;
}

static int nr_semaphore_refuse(void)
{
    return nr_fail(-EINVAL, "the semaphore is NULL; did naru_semaphore_open() fail?");
}

/* -- post and wait -------------------------------------------------------------------------- */

int naru_semaphore_post(struct naru_semaphore *semaphore)
{
    if (!semaphore)
        return nr_semaphore_refuse();
    _Atomic uint32_t *word = nr_semaphore_atomic(&semaphore->state->word);
    uint32_t seen = atomic_load_explicit(word, memory_order_relaxed);
    while (seen != NR_SEMAPHORE_SLEEPERS) {
        if (nr_semaphore_count(seen) >= NR_SEMAPHORE_COUNT_MAX)
            return nr_fail(
                -EOVERFLOW,
                "the semaphore stands at its largest count, %u; more is posted than taken",
                NR_SEMAPHORE_COUNT_MAX);
        if (atomic_compare_exchange_weak_explicit(word, &seen, nr_semaphore_count(seen) + 1,
                                                  memory_order_release /* [R1] -> [A1] */,
                                                  memory_order_relaxed))
            return 0;
    }
    atomic_thread_fence(memory_order_release); /* [R1] -> [A1], with the add in the kernel */
    int result = nr_os_futex_add_and_wake(&semaphore->state->word);
    return result < 0 ? nr_fail(result, "can't wake who waits for the semaphore: %s",
                                nr_error_name(result))
                      : 0;
}

/* True if it took one. Otherwise *seen is the word, whose count was 0. */
static bool nr_semaphore_take(_Atomic uint32_t *word, uint32_t *seen)
{
    *seen = atomic_load_explicit(word, memory_order_relaxed);
    while (nr_semaphore_count(*seen) > 0)
        if (atomic_compare_exchange_weak_explicit(word, seen, nr_semaphore_count(*seen) - 1,
                                                  memory_order_acquire /* [A1] <- [R1] */,
                                                  memory_order_relaxed))
            return true;
    return false;
}

static int nr_semaphore_sleep(struct naru_semaphore *semaphore, int64_t timeout_ns)
{
    _Atomic uint32_t *word = nr_semaphore_atomic(&semaphore->state->word);
    const struct nr_os_futex_word sleeping = {&semaphore->state->word, NR_SEMAPHORE_SLEEPERS};
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);
    uint32_t seen = 0;

    for (int result = 0; result != -ETIMEDOUT;) {
        if (nr_semaphore_take(word, &seen))
            return 0;
        if (seen == 0 &&
            !atomic_compare_exchange_strong_explicit(word, &seen, NR_SEMAPHORE_SLEEPERS,
                                                     memory_order_relaxed, memory_order_relaxed))
            continue;
        result = nr_os_futex_wait(&sleeping, 1, &deadline);
        if (result < 0 && result != -EINTR && result != -ETIMEDOUT)
            return nr_fail(result, "can't wait for the semaphore: %s", nr_error_name(result));
    }
    if (nr_semaphore_take(word, &seen)) /* it came as the time was over */
        return 0;
    return nr_fail(-ETIMEDOUT, "nobody posted the semaphore in time; is the process that should "
                               "still there?");
}

int naru_semaphore_wait(struct naru_semaphore *semaphore, int64_t timeout_ns)
{
    uint32_t seen;

    if (!semaphore)
        return nr_semaphore_refuse();
    if (nr_semaphore_take(nr_semaphore_atomic(&semaphore->state->word), &seen))
        return 0;
    if (timeout_ns == 0)
        return nr_fail(-EAGAIN, "the semaphore is at 0; give a time-out to wait for a post");
    return nr_semaphore_sleep(semaphore, timeout_ns);
}

int naru_semaphore_value(struct naru_semaphore *semaphore)
{
    if (!semaphore)
        return nr_semaphore_refuse();
    _Atomic uint32_t *word = nr_semaphore_atomic(&semaphore->state->word);
    return (int)nr_semaphore_count(atomic_load_explicit(word, memory_order_relaxed));
}

/* -- open and close ------------------------------------------------------------------------- */

static int nr_semaphore_check_initial(uint32_t initial)
{
    if (initial <= NR_SEMAPHORE_COUNT_MAX)
        return 0;
    return nr_fail(-EINVAL, "a semaphore can't begin at %u; give 0 to %u", initial,
                   NR_SEMAPHORE_COUNT_MAX);
}

static void nr_semaphore_write(void *memory, const void *initial)
{
    struct naru_semaphore_state *state = memory;

    atomic_store_explicit(nr_semaphore_atomic(&state->word), *(const uint32_t *)initial,
                          memory_order_relaxed);
}

static const struct nr_object_kind nr_semaphore_kind = {
    .name = "semaphore",
    .suffix = ".semaphore",
    .magic = 0x4e525331, /* "NRS1" */
    .size_bytes = sizeof(struct naru_semaphore_state),
    .alignment_bytes = _Alignof(struct naru_semaphore_state),
    .write = nr_semaphore_write,
};

static int nr_semaphore_new(struct naru_semaphore **ret, struct nr_object *object)
{
    struct naru_semaphore *semaphore = malloc(sizeof *semaphore);

    if (!semaphore) {
        nr_object_close(object);
        return nr_fail(-ENOMEM, "no memory for the handle of a semaphore");
    }
    *semaphore = (struct naru_semaphore){.state = object->state, .object = *object};
    *ret = semaphore;
    return 0;
}

int naru_semaphore_open(struct naru_semaphore **ret, const char *name, uint32_t initial,
                        const struct naru_options *options)
{
    struct nr_object object;

    if (!ret || !name)
        return nr_fail(-EINVAL, "naru_semaphore_open() needs a place for the handle, and a name");
    int result = nr_semaphore_check_initial(initial);
    if (result == 0)
        result = nr_object_open(&object, &nr_semaphore_kind, name, &initial, options);
    return result < 0 ? result : nr_semaphore_new(ret, &object);
}

int naru_semaphore_init(struct naru_semaphore_state *state, uint32_t initial)
{
    int result = nr_semaphore_check_initial(initial);

    return result < 0 ? result : nr_object_init(state, &nr_semaphore_kind, &initial);
}

int naru_semaphore_attach(struct naru_semaphore **ret, struct naru_semaphore_state *state)
{
    struct nr_object object;

    if (!ret)
        return nr_fail(-EINVAL, "naru_semaphore_attach() needs a place for the handle");
    int result = nr_object_attach(&object, &nr_semaphore_kind, state);
    return result < 0 ? result : nr_semaphore_new(ret, &object);
}

void naru_semaphore_close(struct naru_semaphore *semaphore)
{
    if (!semaphore)
        return;
    nr_object_close(&semaphore->object);
    free(semaphore);
}

int naru_semaphore_unlink(const char *name)
{
    return nr_object_unlink(&nr_semaphore_kind, name);
}
