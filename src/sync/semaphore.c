/* SPDX-License-Identifier: MIT */
/*
 * semaphore -- a count that processes share, and the functions of all kinds of semaphores
 *
 * Event      Kept in one word: data/permits.h, and what a death leaves.
 * Owned      semaphore_owned.c.
 * Foreign    semaphore_sysv.c, semaphore_posix.c.
 */
#include "base/error.h"
#include "data/permits.h"
#include "os/clock.h"
#include "os/futex.h"
#include "os/word_watch.h"
#include "sync/semaphore.h"
#include <assert.h>
#include <naru/sync.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static_assert(sizeof(struct naru_semaphore_state) == 8 &&
                  offsetof(struct naru_semaphore_state, magic) == 4,
              "the layout is shared between processes");
static_assert(sizeof(_Atomic uint32_t) == sizeof(uint32_t), "an atomic word is just the word");

static _Atomic uint32_t *nr_semaphore_atomic(uint32_t *word)
{
    return (_Atomic uint32_t *)word;
}

/* Of an event semaphore: for naru_semaphore_fd(). */
static struct nr_word_watch *nr_semaphore_watch(struct naru_semaphore *semaphore)
{
    return (struct nr_word_watch *)(void *)semaphore->more;
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

/* -- post and wait -------------------------------------------------------------------------- */

int naru_semaphore_post(struct naru_semaphore *semaphore)
{
    int result = 0;

    if (!semaphore)
        return nr_object_refuse(&nr_semaphore_kind);
    if (semaphore->other)
        return semaphore->other->post(semaphore);
    struct naru_semaphore_state *state = semaphore->object.state;
    enum nr_permits_given given = nr_permits_give(nr_semaphore_atomic(&state->word));
    if (given == NR_PERMITS_FULL)
        return nr_fail(-EOVERFLOW,
                       "the semaphore stands at its largest count, %u; more is posted than taken",
                       NR_PERMITS_MAX);
    if (given == NR_PERMITS_CALL)
        result = nr_os_futex_add_and_wake(&state->word);
    return result < 0 ? nr_object_failed(&nr_semaphore_kind, "wake who waits for", result) : 0;
}

int nr_semaphore_not_posted(int64_t timeout_ns)
{
    if (timeout_ns == 0)
        return nr_fail(-EAGAIN, "the semaphore is at 0; give a time-out to wait for a post");
    return nr_fail(-ETIMEDOUT, "nobody posted the semaphore in time; is the process that should "
                               "still there?");
}

/* The count was 0. */
static void nr_semaphore_arm(struct naru_semaphore *semaphore)
{
    struct naru_semaphore_state *state = semaphore->object.state;
    uint32_t seen = atomic_load_explicit(nr_semaphore_atomic(&state->word), memory_order_relaxed);

    if (nr_permits_count(seen) == 0)
        nr_permits_want(nr_semaphore_atomic(&state->word), seen);
    nr_word_watch_arm(nr_semaphore_watch(semaphore));
}

static int nr_semaphore_sleep(struct naru_semaphore_state *state, int64_t timeout_ns)
{
    _Atomic uint32_t *word = nr_semaphore_atomic(&state->word);
    const struct nr_os_futex_word sleeping = {&state->word, NR_PERMITS_SLEEPERS};
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);
    uint32_t seen = 0;

    for (int result = 0; result != -ETIMEDOUT;) {
        if (nr_permits_take(word, &seen))
            return 0;
        if (!nr_permits_want(word, seen))
            continue;
        result = nr_os_futex_wait(&sleeping, 1, &deadline);
        if (result < 0 && result != -EINTR && result != -ETIMEDOUT)
            return nr_object_failed(&nr_semaphore_kind, "wait for", result);
    }
    if (nr_permits_take(word, &seen)) /* it came as the time was over */
        return 0;
    return -ETIMEDOUT;
}

/* Apart, so that a wait that finds a permit saves no register. */
static __attribute__((noinline)) int nr_semaphore_wait_long(struct naru_semaphore *semaphore,
                                                            int64_t timeout_ns)
{
    int result =
        timeout_ns == 0 ? -EAGAIN : nr_semaphore_sleep(semaphore->object.state, timeout_ns);

    if (result != -EAGAIN && result != -ETIMEDOUT)
        return result;
    if (nr_word_watch_is_on(nr_semaphore_watch(semaphore)))
        nr_semaphore_arm(semaphore);
    return nr_semaphore_not_posted(timeout_ns);
}

int naru_semaphore_wait(struct naru_semaphore *semaphore, int64_t timeout_ns)
{
    uint32_t seen;

    if (!semaphore)
        return nr_object_refuse(&nr_semaphore_kind);
    if (semaphore->other)
        return semaphore->other->wait(semaphore, timeout_ns);
    struct naru_semaphore_state *state = semaphore->object.state;
    if (nr_permits_take(nr_semaphore_atomic(&state->word), &seen))
        return 0;
    return nr_semaphore_wait_long(semaphore, timeout_ns);
}

int naru_semaphore_fd(struct naru_semaphore *semaphore)
{
    if (!semaphore)
        return nr_object_refuse(&nr_semaphore_kind);
    if (semaphore->other)
        return nr_fail(-EOPNOTSUPP,
                       "only an event semaphore of Naru's has a descriptor; wait with a time-out, "
                       "or in a thread");
    int fd = nr_word_watch_fd(nr_semaphore_watch(semaphore));
    return fd < 0 ? nr_object_no_descriptor(&nr_semaphore_kind, fd) : fd;
}

int naru_semaphore_value(struct naru_semaphore *semaphore)
{
    if (!semaphore)
        return nr_object_refuse(&nr_semaphore_kind);
    if (semaphore->other)
        return semaphore->other->value(semaphore);
    struct naru_semaphore_state *state = semaphore->object.state;
    return (int)nr_permits_count(
        atomic_load_explicit(nr_semaphore_atomic(&state->word), memory_order_relaxed));
}

/* -- open and close ------------------------------------------------------------------------- */

static int nr_semaphore_check_initial(uint32_t initial)
{
    if (initial <= NR_PERMITS_MAX)
        return 0;
    return nr_fail(-EINVAL, "a semaphore can't begin at %u; give 0 to %u", initial, NR_PERMITS_MAX);
}

int nr_semaphore_new(struct naru_semaphore **ret, struct nr_object *object,
                     const struct nr_semaphore_other *other, size_t more_bytes)
{
    struct naru_semaphore *semaphore = calloc(1, sizeof *semaphore + more_bytes);

    if (!semaphore) {
        nr_object_close(object);
        return nr_fail(-ENOMEM, "no memory for the handle of a semaphore");
    }
    semaphore->object = *object;
    semaphore->other = other;
    *ret = semaphore;
    return 0;
}

static const struct nr_semaphore_foreign {
    const char *scheme;
    int (*open)(struct naru_semaphore **ret, const char *text, uint32_t initial,
                const struct naru_options *options);
    int (*unlink)(const char *text);
} nr_semaphore_foreign[] = {
    {"sysv://", nr_semaphore_sysv_open, nr_semaphore_sysv_unlink},
    {"posix://", nr_semaphore_posix_open, nr_semaphore_posix_unlink},
};

/* NULL: the name is no URI of these. */
static const struct nr_semaphore_foreign *nr_semaphore_find_foreign(const char *name)
{
    for (size_t i = 0; i < sizeof nr_semaphore_foreign / sizeof nr_semaphore_foreign[0]; i++)
        if (strncmp(name, nr_semaphore_foreign[i].scheme, strlen(nr_semaphore_foreign[i].scheme)) ==
            0)
            return &nr_semaphore_foreign[i];
    return NULL;
}

static int nr_semaphore_new_event(struct naru_semaphore **ret, struct nr_object *object)
{
    int result = nr_semaphore_new(ret, object, NULL, sizeof(struct nr_word_watch));

    if (result == 0)
        nr_word_watch_init(nr_semaphore_watch(*ret),
                           &((struct naru_semaphore_state *)object->state)->word,
                           NR_PERMITS_SLEEPERS);
    return result;
}

int naru_semaphore_open(struct naru_semaphore **ret, const char *name, uint32_t initial,
                        const struct naru_options *options)
{
    struct nr_object object;

    if (!ret || !name)
        return nr_fail(-EINVAL, "naru_semaphore_open() needs a place for the handle, and a name");
    const struct nr_semaphore_foreign *foreign = nr_semaphore_find_foreign(name);
    if (foreign)
        return foreign->open(ret, name, initial, options);
    int result = nr_semaphore_check_initial(initial);
    if (result == 0)
        result = nr_object_open(&object, &nr_semaphore_kind, name, &initial, options);
    return result < 0 ? result : nr_semaphore_new_event(ret, &object);
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
    return result < 0 ? result : nr_semaphore_new_event(ret, &object);
}

void naru_semaphore_close(struct naru_semaphore *semaphore)
{
    if (!semaphore)
        return;
    if (!semaphore->other)
        nr_word_watch_deinit(nr_semaphore_watch(semaphore));
    else if (semaphore->other->close)
        semaphore->other->close(semaphore);
    nr_object_close(&semaphore->object);
    free(semaphore);
}

int naru_semaphore_unlink(const char *name)
{
    const struct nr_semaphore_foreign *foreign = name ? nr_semaphore_find_foreign(name) : NULL;

    if (foreign)
        return foreign->unlink(name);
    int result = nr_object_unlink(&nr_semaphore_kind, name);
    return result == -EBADMSG ? nr_object_unlink(&nr_semaphore_owned_kind, name) : result;
}
