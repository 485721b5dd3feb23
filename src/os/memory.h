/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * memory -- files that are mapped and shared
 *
 * What       A file is made whole before it has a name: unnamed (O_TMPFILE), reserved, filled by the
 *            caller, then linked. So nobody ever opens a half-made one, and a process that dies while
 *            making one leaves nothing.
 * Returns    0 or -errno. A full file system is -ENOSPC here, never SIGBUS later.
 */
#include <stdbool.h>
#include <stddef.h>

enum { NR_OS_PATH_BYTES = 1280 };

/* An unnamed file in the directory of `path`, to be published under that path. */
int nr_os_memory_file_new(const char *path, unsigned mode);
/* The file that has that path already, to read and write; never waits, whatever stands there. */
int nr_os_memory_file_open(const char *path);
int nr_os_memory_publish(int fd, const char *path); /* -EEXIST: someone was faster */

/* An anonymous file; after nr_os_memory_seal() its size is fixed for everybody. */
int nr_os_memory_anonymous(const char *name);
int nr_os_memory_seal(int fd);

/* Gives the file its size, with all its space. -EFBIG beyond RLIMIT_FSIZE, without the signal. */
int nr_os_memory_reserve(int fd, size_t size_bytes);

int nr_os_memory_map(int fd, size_t size_bytes, bool is_writable, void **ret);
int nr_os_memory_map_anonymous(size_t size_bytes, void **ret); /* shared with forked children */
int nr_os_memory_map_promised(size_t size_bytes,
                              void **ret); /* the same, its pages as they are needed */
int nr_os_memory_peek(int fd, void *data,
                      size_t size_bytes);                 /* the first bytes; -EBADMSG: shorter */
void nr_os_memory_hide(void *memory, size_t size_bytes);  /* forked children do not have it */
void nr_os_memory_show(void *memory, size_t size_bytes);  /* ... they do again */
void nr_os_memory_unmap(void *memory, size_t size_bytes); /* NULL is allowed */

/*
 * The path of a user's object: "/..." as it is; a plain name in the user's own directory
 * /dev/shm/naru-UID, which is made (0700) if `create`, and must be the user's. `suffix` is appended
 * to plain names: "" for channels, ".semaphore", ".segment".
 */
int nr_os_memory_path(char path[NR_OS_PATH_BYTES], const char *name, const char *suffix,
                      bool create);
