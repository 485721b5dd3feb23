/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * base -- what every public header shares: export mark, time-outs, error text, version
 *
 * Results    A function that can fail returns an int. >= 0: it happened. < 0: it did not, and the
 *            value is a negated errno (-EAGAIN, -ETIMEDOUT, ...). `if (naru_send(...) < 0)` is
 *            always right. Out-parameters are untouched on failure unless a declaration says so.
 * Text       After a failure naru_error_text() tells the cause and the cure in one sentence.
 * EINTR      A signal never makes a call fail. -EINTR is returned only after naru_interrupt().
 * Signals    The library installs no signal handler and changes neither SIGPIPE nor SIGCHLD, unless it is asked
 *            to by a call of naru/signal.h.
 */
#include <stddef.h>
#include <stdint.h>

#define NARU_VERSION_MAJOR 0
#define NARU_VERSION_MINOR 1
#define NARU_VERSION_PATCH 0

#define NARU_API __attribute__((visibility("default")))

/* Time-outs are nanoseconds against the monotonic clock. 0 tries once and never sleeps. */
#define NARU_FOREVER     ((int64_t)-1)
#define NARU_SECOND      ((int64_t)1000000000)
#define NARU_MILLISECOND ((int64_t)1000000)

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The sentence that explains the calling thread's latest failure: the cause, and what to do.
 * Never NULL; "" before the first failure. Valid until this thread's next call into the library.
 * Thread-safe; not async-signal-safe.
 */
NARU_API const char *naru_error_text(void);

/* Where in the library that failure arose, as "file.c:line"; for bug reports. Same life time. */
NARU_API const char *naru_error_origin(void);

/* The version of the library at run time, as "0.1.0". Any thread, any time. */
NARU_API const char *naru_version(void);

#ifdef __cplusplus
}
#endif
