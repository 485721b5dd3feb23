/* SPDX-License-Identifier: MIT */
/*
 * event -- something that has happened, or has not: who waits for it goes on when it has
 *
 * What       One word: data/latch.h, and what a death leaves: nothing.
 */
#include "base/error.h"
#include "data/latch.h"
#include "os/futex.h"
#include "os/word_watch.h"
#include "sync/object.h"
#include <assert.h>
#include <naru/sync.h>
#include <stdlib.h>

struct naru_event {
    struct nr_object object;
    struct nr_word_watch watch; /* for naru_event_fd() */
};

static_assert(sizeof(_Atomic uint32_t) == sizeof(uint32_t), "an atomic word is just the word");

static const struct nr_object_kind nr_event_kind = {
    .name = "event",
    .suffix = ".event",
    .magic = 0x4e524531, /* "NRE1" */
    .size_bytes = sizeof(struct naru_event_state),
    .alignment_bytes = _Alignof(struct naru_event_state),
};

static _Atomic uint32_t *nr_event_word(const struct naru_event *event)
{
    return (_Atomic uint32_t *)&((struct naru_event_state *)event->object.state)->word;
}

int naru_event_set(struct naru_event *event)
{
    int result = 0;

    if (!event)
        return nr_object_refuse(&nr_event_kind);
    if (!nr_latch_raise(nr_event_word(event)))
        result = nr_os_futex_store_and_wake((uint32_t *)nr_event_word(event), NR_LATCH_UP);
    return result < 0 ? nr_object_failed(&nr_event_kind, "wake who waits for", result) : 0;
}

int naru_event_reset(struct naru_event *event)
{
    if (!event)
        return nr_object_refuse(&nr_event_kind);
    nr_latch_lower(nr_event_word(event));
    return 0;
}

int naru_event_is_set(struct naru_event *event)
{
    return event ? nr_latch_is_up(nr_event_word(event)) : nr_object_refuse(&nr_event_kind);
}

/* It was not set. */
static int nr_event_not_set(struct naru_event *event, int error)
{
    if (nr_word_watch_is_on(&event->watch)) {
        nr_latch_want(nr_event_word(event));
        nr_word_watch_arm(&event->watch);
    }
    if (error == -EAGAIN)
        return nr_fail(error, "the event is not set; give a time-out to wait for it");
    return nr_fail(error, "nobody set the event in time; is the process that should still there?");
}

static int nr_event_sleep(_Atomic uint32_t *word, int64_t timeout_ns)
{
    const struct nr_os_futex_word sleeping = {(uint32_t *)word, NR_LATCH_SLEEPERS};
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);
    int result = 0;

    while (!nr_latch_is_up(word)) {
        if (result == -ETIMEDOUT)
            return result;
        if (!nr_latch_want(word))
            continue;
        result = nr_os_futex_wait(&sleeping, 1, &deadline);
        if (result < 0 && result != -EINTR && result != -ETIMEDOUT)
            return nr_object_failed(&nr_event_kind, "wait for", result);
    }
    return 0;
}

int naru_event_wait(struct naru_event *event, int64_t timeout_ns)
{
    if (!event)
        return nr_object_refuse(&nr_event_kind);
    if (nr_latch_is_up(nr_event_word(event)))
        return 0;
    int result = timeout_ns == 0 ? -EAGAIN : nr_event_sleep(nr_event_word(event), timeout_ns);
    return result == -EAGAIN || result == -ETIMEDOUT ? nr_event_not_set(event, result) : result;
}

int naru_event_fd(struct naru_event *event)
{
    if (!event)
        return nr_object_refuse(&nr_event_kind);
    int fd = nr_word_watch_fd(&event->watch);
    return fd < 0 ? nr_object_no_descriptor(&nr_event_kind, fd) : fd;
}

/* -- open and close ------------------------------------------------------------------------- */

static int nr_event_new(struct naru_event **ret, struct nr_object *object)
{
    struct naru_event *event = malloc(sizeof *event);

    if (!event) {
        nr_object_close(object);
        return nr_fail(-ENOMEM, "no memory for the handle of an event");
    }
    event->object = *object;
    nr_word_watch_init(&event->watch, (uint32_t *)nr_event_word(event), NR_LATCH_SLEEPERS);
    *ret = event;
    return 0;
}

int naru_event_open(struct naru_event **ret, const char *name, const struct naru_options *options)
{
    struct nr_object object;

    if (!ret || !name)
        return nr_fail(-EINVAL, "naru_event_open() needs a place for the handle, and a name");
    int result = nr_object_open(&object, &nr_event_kind, name, NULL, options);
    return result < 0 ? result : nr_event_new(ret, &object);
}

int naru_event_init(struct naru_event_state *state)
{
    return nr_object_init(state, &nr_event_kind, NULL);
}

int naru_event_attach(struct naru_event **ret, struct naru_event_state *state)
{
    struct nr_object object;

    if (!ret)
        return nr_fail(-EINVAL, "naru_event_attach() needs a place for the handle");
    int result = nr_object_attach(&object, &nr_event_kind, state);
    return result < 0 ? result : nr_event_new(ret, &object);
}

void naru_event_close(struct naru_event *event)
{
    if (!event)
        return;
    nr_word_watch_deinit(&event->watch);
    nr_object_close(&event->object);
    free(event);
}

int naru_event_unlink(const char *name)
{
    return nr_object_unlink(&nr_event_kind, name);
}
