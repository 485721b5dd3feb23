/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * sync -- a semaphore that processes share by name
 *
 * What       An event semaphore: a count that anyone may raise and that a waiter lowers by one.
 * Death      A process killed at any instruction of post or wait leaves the count as it was or as it
 *            was to become, and whoever sleeps on a positive count is woken.
 * Threads    All functions but close are thread-safe. A handle may be used after fork.
 * Source     after the futex semaphore of U. Drepper, "Futexes Are Tricky"; the post that changes the
 *            count and wakes in one system call (FUTEX_WAKE_OP) is what makes it safe to kill.
 */
#include <naru/endpoint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct naru_semaphore;

/* Memory of an unnamed semaphore, to be placed in memory that processes share. */
struct naru_semaphore_state {
    uint32_t word;
    uint32_t magic;
};

/*
 * Opens or creates (options->create, file_mode) the semaphore `name`: "name" is the caller's own
 * among this user's objects, "/path" a file. `initial` (0..1,073,741,823) counts only for who
 * creates it. options may be NULL. Errors: -EINVAL; -ENOENT; -EEXIST; -EACCES; -ENOSPC;
 * -EBADMSG the file is no semaphore; -EPROTO one of another layout version; -EOPNOTSUPP an option
 * other than these two.
 */
NARU_API int naru_semaphore_open(struct naru_semaphore **ret, const char *name, uint32_t initial,
                                 const struct naru_options *options);

/* Makes `state` a semaphore (once, before it is shared), and gives a handle on one. No allocation
   in the shared memory; the handle is freed by naru_semaphore_close(). Errors: -EINVAL; attach:
   -EBADMSG the memory holds no semaphore, -EPROTO one of another layout version. */
NARU_API int naru_semaphore_init(struct naru_semaphore_state *state, uint32_t initial);
NARU_API int naru_semaphore_attach(struct naru_semaphore **ret, struct naru_semaphore_state *state);

/* Raises the count by one and wakes whoever waits. Never blocks. -EOVERFLOW at the largest count. */
NARU_API int naru_semaphore_post(struct naru_semaphore *semaphore);

/* Lowers the count by one, waiting while it is zero: -EAGAIN (time-out 0), -ETIMEDOUT. */
NARU_API int naru_semaphore_wait(struct naru_semaphore *semaphore, int64_t timeout_ns);

/* The count at some moment during the call. */
NARU_API int naru_semaphore_value(struct naru_semaphore *semaphore);

NARU_API void naru_semaphore_close(struct naru_semaphore *semaphore);

/* Removes the name; open handles go on. -EBADMSG, and nothing removed, when it is no semaphore. */
NARU_API int naru_semaphore_unlink(const char *name);

#ifdef __cplusplus
}
#endif
