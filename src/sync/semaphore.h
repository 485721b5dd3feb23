/* SPDX-License-Identifier: MIT */
#pragma once
/* semaphore -- the handle, and what a kind other than the event semaphore brings */
#include "sync/object.h"
#include <naru/sync.h>

/* Each gets a handle that is not NULL; -errno comes with a text. */
struct nr_semaphore_other {
    int (*post)(struct naru_semaphore *semaphore);
    int (*wait)(struct naru_semaphore *semaphore, int64_t timeout_ns);
    int (*value)(struct naru_semaphore *semaphore);
    void (*close)(struct naru_semaphore *semaphore); /* before the object is closed; or NULL */
};

struct naru_semaphore {
    struct nr_object object;
    const struct nr_semaphore_other *other; /* NULL: an event semaphore */
    _Alignas(16) char more[];               /* of that kind */
};

extern const struct nr_object_kind nr_semaphore_owned_kind;

/* Those of other programs, by URI. */
int nr_semaphore_sysv_open(struct naru_semaphore **ret, const char *text, uint32_t initial,
                           const struct naru_options *options);
int nr_semaphore_sysv_unlink(const char *text);
int nr_semaphore_posix_open(struct naru_semaphore **ret, const char *text, uint32_t initial,
                            const struct naru_options *options);
int nr_semaphore_posix_unlink(const char *text);

/* -EAGAIN if the time-out was 0, otherwise -ETIMEDOUT. */
int nr_semaphore_not_posted(int64_t timeout_ns);

/* Closes the object when there is no memory. */
int nr_semaphore_new(struct naru_semaphore **ret, struct nr_object *object,
                     const struct nr_semaphore_other *other, size_t more_bytes);
