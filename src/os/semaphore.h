/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * semaphore -- the kernel's System V semaphores (sysvipc(7)) and the C library's POSIX ones (sem_overview(7))
 *
 * Returns    0 or what is asked for, or -errno. EINTR is retried.
 * Death      System V: the kernel does an operation whole or not at all, and with `undoes` takes back what a process
 *            has done when it ends. POSIX: see nr_os_posix_semaphore_wait().
 */
#include "os/clock.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* System V: a member of a set. */
enum { NR_OS_SEMAPHORE_VALUE_MAX = 32767 }; /* SEMVMX */

struct nr_os_semaphore {
    int id;
    unsigned short member;
    bool undoes; /* SEM_UNDO */
};

struct nr_os_semaphore_limits {
    int64_t members_of_a_set, members, sets; /* /proc/sys/kernel/sem; -1: unknown */
};

/* The set's id. -EINVAL: it has fewer members; -EACCES. 0 members: whoever may use it. */
int nr_os_semaphore_find(int32_t key, unsigned members);
int nr_os_semaphore_new(int32_t key, unsigned members, unsigned mode); /* -EEXIST; all are 0 */
int nr_os_semaphore_remove(int id);

/* Adds `change`, and for one below 0 waits until there is so much: -EAGAIN when the time is over. -EIDRM, -EINVAL: the set
   was removed, while the caller waited or before; -ERANGE. */
int nr_os_semaphore_change(const struct nr_os_semaphore *semaphore, short change,
                           struct nr_deadline *deadline);
int nr_os_semaphore_value(const struct nr_os_semaphore *semaphore);
struct nr_os_semaphore_limits nr_os_semaphore_limits(void);

/* POSIX: "/name". It is a file, NR_OS_POSIX_SEMAPHORE_PREFIX and the name without its slash. */
#define NR_OS_POSIX_SEMAPHORE_PREFIX "/dev/shm/sem."
extern const size_t nr_os_posix_semaphore_bytes; /* of that file */
extern const uint32_t nr_os_posix_semaphore_max;

int nr_os_posix_semaphore_open(void **ret, const char *name);
/* Must be new (-EEXIST). The mode is exact: the umask does not count. */
int nr_os_posix_semaphore_new(void **ret, const char *name, unsigned mode, uint32_t initial);
void nr_os_posix_semaphore_close(void *semaphore);
int nr_os_posix_semaphore_unlink(const char *name);
int nr_os_posix_semaphore_post(void *semaphore); /* -EOVERFLOW */
int nr_os_posix_semaphore_try(void *semaphore);  /* -EAGAIN */
int nr_os_posix_semaphore_value(void *semaphore);

/* -ETIMEDOUT. A sleep ends after a second, to look: a process that is killed within sem_post(3) may have raised the count
   and woken nobody. */
int nr_os_posix_semaphore_wait(void *semaphore, struct nr_deadline *deadline);
