/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * segment -- System V shared memory
 *
 * What       A segment is found by its key and known by its id. It lasts until it is removed, even when
 *            no process has it mapped.
 * Returns    0 or an id, or -errno.
 */
#include <stddef.h>
#include <stdint.h>

struct nr_os_segment_limits {
    uint64_t largest_bytes; /* /proc/sys/kernel/shmmax; 0: unknown */
    uint64_t total_pages;   /* shmall */
    uint64_t segments;      /* shmmni */
};

int nr_os_segment_find(int32_t key);
int nr_os_segment_new(int32_t key, size_t size_bytes, unsigned mode); /* -EEXIST: it is there */
int nr_os_segment_size(int id, size_t *ret_size_bytes);
int nr_os_segment_map(int id, void **ret);
void nr_os_segment_unmap(void *memory); /* NULL is allowed */

/* Takes the name away; the memory goes with the last process that has it mapped. */
int nr_os_segment_remove(int id);

struct nr_os_segment_limits nr_os_segment_limits(void);
