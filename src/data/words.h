/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * words -- payload that may be overwritten while it is read
 *
 * What       Copies in and out of shared memory by relaxed atomic words, so that a reader that is overtaken
 *            gets nonsense and not undefined behaviour. It finds out by looking again at a word that says whose
 *            the payload is: [W1] the writer changes that word, then nr_words_fence_write(), then the payload;
 *            [W2] the reader reads the payload, then nr_words_fence_read(), then that word. A reader that has seen
 *            a byte of the new payload then sees the changed word.
 * Memory     8-byte aligned, and room for whole words.
 */
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline void nr_words_store(_Atomic uint64_t *to, const void *from, size_t size_bytes)
{
    const char *source = from;
    uint64_t word;

    for (; size_bytes >= sizeof word; size_bytes -= sizeof word, source += sizeof word) {
        memcpy(&word, source, sizeof word);
        atomic_store_explicit(to++, word, memory_order_relaxed);
    }
    if (!size_bytes)
        return;
    word = 0;
    memcpy(&word, source, size_bytes);
    atomic_store_explicit(to, word, memory_order_relaxed);
}

static inline void nr_words_load(void *to, const _Atomic uint64_t *from, size_t size_bytes)
{
    char *target = to;
    uint64_t word;

    for (; size_bytes >= sizeof word; size_bytes -= sizeof word, target += sizeof word) {
        word = atomic_load_explicit(from++, memory_order_relaxed);
        memcpy(target, &word, sizeof word);
    }
    if (!size_bytes)
        return;
    word = atomic_load_explicit(from, memory_order_relaxed);
    memcpy(target, &word, size_bytes);
}

static inline void nr_words_fence_write(void)
{
    atomic_thread_fence(memory_order_release); /* [W1] */
}

static inline void nr_words_fence_read(void)
{
    atomic_thread_fence(memory_order_acquire); /* [W2] */
}
