/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * cleanup -- memory that frees itself when its name goes out of scope
 *
 * nr_cleanup_free char *text = strdup(x);
 */
#include <stdlib.h>

static inline void nr_cleanup_free_pointer(void *pointer)
{
    free(*(void **)pointer);
}

#define nr_cleanup_free __attribute__((cleanup(nr_cleanup_free_pointer)))

/* All that this function calls becomes part of it, where it can be seen: for the way of a message, where a
   return behind a system call is dear (os/guard.h). Not with sanitizers, whose stacks are to be read. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define nr_flat
#else
#define nr_flat __attribute__((flatten))
#endif

/* Not part of its callers, which are short without it. */
#define nr_apart __attribute__((noinline))

#define nr_count_of(array) (sizeof(array) / sizeof((array)[0]))
#define nr_container_of(pointer, type, member)                                                     \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))
