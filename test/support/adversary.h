/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * adversary -- changes shared memory just before it is read
 *
 * What       The sources that read shared memory are compiled with -fsanitize=thread, and the functions that the
 *            compiler then calls before each access are here, instead of the sanitizer's. Before a load from a
 *            segment, and before each atomic change of one, the word may be overwritten: with what a damaged
 *            or malicious peer could have written there at this very moment.
 * Walls      A segment is mapped in the middle of address space that can't be touched, so an access outside it,
 *            however far, is SIGSEGV. (--wrap=mmap64, --wrap=munmap.)
 * Seeds      What is written depends on the seed and on the accesses so far, and on nothing else.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* From here on one load in `rarity` is tampered with; 0: none. */
void nr_adversary_begin(uint64_t seed, unsigned rarity);
void nr_adversary_end(void);

/* Loads and atomic changes in segments since the last call of this, and in all; overwritten words in all. */
unsigned long nr_adversary_loads(void);
extern unsigned long nr_adversary_loads_count, nr_adversary_changes_count;

/* More loads than this since the last nr_adversary_loads() end the process with SIGABRT: a call that does not
   come to an end. 0: no limit. */
extern unsigned long nr_adversary_loads_most;

/* Is it inside one segment? */
bool nr_adversary_is_inside(const void *data, size_t size_bytes);
