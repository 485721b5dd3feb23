/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * file -- reading, writing, syncing, watching and locking a regular file
 *
 * Returns    As io.h: the call's result, or -errno; EINTR is retried.
 * Locks      Open-file-description locks: between descriptions, also within a process. A forked child
 *            shares its parent's, so "locked" may outlive the locker; "free" is always true.
 */
#include "os/io.h"
#include <stdbool.h>
#include <stdint.h>

/* Bytes read; fewer than asked only at the end of the file. */
long nr_os_file_read(int fd, void *data, size_t size_bytes, uint64_t offset);

/* One pwritev, or pwrite: the bytes written, maybe fewer. */
long nr_os_file_write(int fd, const struct iovec *parts, int count, uint64_t offset);

int nr_os_file_sync(int fd);                /* fdatasync: the data, and the size if that changed */
int nr_os_file_sync_name(const char *path); /* the directory in which `path` stands */
int nr_os_file_truncate(int fd, uint64_t size_bytes);

/* What RLIMIT_FSIZE allows; a write from there on would raise SIGXFSZ. UINT64_MAX: no limit. */
uint64_t nr_os_file_size_limit(void);

/* An inotify descriptor, non-blocking, that tells of writes to the file behind `fd`. */
int nr_os_file_watch(int fd);

enum nr_os_file_lock { NR_OS_FILE_UNLOCKED, NR_OS_FILE_SHARED, NR_OS_FILE_EXCLUSIVE };

/* Tries to change the lock of one byte: -EAGAIN if another description is in the way. */
int nr_os_file_lock(int fd, uint64_t byte, enum nr_os_file_lock lock);

/* The time of day in nanoseconds, as exact as a timer tick: cheap. */
int64_t nr_os_file_time_ns(void);

/* What is the same as long as this kernel runs. */
int nr_os_file_boot(uint64_t ret[2]);
