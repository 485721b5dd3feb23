/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * error -- the sentence behind a negative result
 *
 * What       nr_fail() records where a failure arose and why, and returns its code. Forward a result
 *            as it is: the innermost text knows most. Outcomes that a caller handles itself (-EAGAIN
 *            on the way to a wait) are returned bare, without a text.
 * Memory     Per thread, fixed size; never allocates.
 */
#include <errno.h>
#include <naru/base.h>
#include <stdbool.h>

int nr_error_set(int error, const char *origin, const char *format, ...)
    __attribute__((format(printf, 3, 4), cold));

/* Adds the sentence only if none was recorded since nr_error_clear(); returns `error`. */
int nr_error_default(int error, const char *origin, const char *text);

/* Apart from the text, and in static thread-local memory, because each call clears it: a single store. */
extern _Thread_local bool nr_error_is_set
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

static inline void nr_error_clear(void)
{
    if (nr_error_is_set)
        nr_error_is_set = false;
}

/* Adds `words` to the sentence, unless it has `unless` in it. */
void nr_error_add(const char *words, const char *unless);

#define NR_STRING_(x) #x
#define NR_STRING(x)  NR_STRING_(x)
#define NR_ORIGIN     __FILE_NAME__ ":" NR_STRING(__LINE__)

/* return nr_fail(-EINVAL, "%s is no port; give 1 to 65535", text); */
#define nr_fail(error, ...) nr_error_set((error), NR_ORIGIN, __VA_ARGS__)

/* "No space left on device (ENOSPC)"-like words for a code of either sign. Static memory. */
const char *nr_error_name(int error);
