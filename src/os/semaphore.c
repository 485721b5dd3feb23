/* SPDX-License-Identifier: MIT */
#include "os/semaphore.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/stat.h>
#include <unistd.h>

#define NR_OS_SEMAPHORE_LOOK_NS INT64_C(1000000000)

enum { NR_OS_SEMAPHORE_ACCESS = 0600 }; /* to read it and to change it: semget(2) asks for these */

/* -- System V --------------------------------------------------------------------------------- */

int nr_os_semaphore_find(int32_t key, unsigned members)
{
    int id = semget(key, (int)members, members ? NR_OS_SEMAPHORE_ACCESS : 0);

    return id < 0 ? -errno : id;
}

int nr_os_semaphore_new(int32_t key, unsigned members, unsigned mode)
{
    int id = semget(key, (int)members, (int)mode | IPC_CREAT | IPC_EXCL);

    return id < 0 ? -errno : id;
}

int nr_os_semaphore_remove(int id)
{
    return semctl(id, 0, IPC_RMID) < 0 ? -errno : 0;
}

int nr_os_semaphore_change(const struct nr_os_semaphore *semaphore, short change,
                           struct nr_deadline *deadline)
{
    struct sembuf operation = {
        .sem_num = semaphore->member,
        .sem_op = change,
        .sem_flg = (short)((semaphore->undoes ? SEM_UNDO : 0) |
                           (nr_deadline_is_now(deadline) ? IPC_NOWAIT : 0)),
    };
    struct timespec left;

    while (semtimedop(semaphore->id, &operation, 1, nr_deadline_timespec(deadline, &left)) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

int nr_os_semaphore_value(const struct nr_os_semaphore *semaphore)
{
    int value = semctl(semaphore->id, semaphore->member, GETVAL);

    return value < 0 ? -errno : value;
}

struct nr_os_semaphore_limits nr_os_semaphore_limits(void)
{
    struct nr_os_semaphore_limits limits = {-1, -1, -1};
    FILE *file = fopen("/proc/sys/kernel/sem", "re");

    if (!file)
        return limits;
    if (fscanf(file, "%" SCNd64 " %" SCNd64 " %*d %" SCNd64, &limits.members_of_a_set,
               &limits.members, &limits.sets) != 3)
        limits = (struct nr_os_semaphore_limits){-1, -1, -1};
    fclose(file);
    return limits;
}

/* -- POSIX ------------------------------------------------------------------------------------ */

const size_t nr_os_posix_semaphore_bytes = sizeof(sem_t);
const uint32_t nr_os_posix_semaphore_max = SEM_VALUE_MAX;

int nr_os_posix_semaphore_open(void **ret, const char *name)
{
    sem_t *semaphore = sem_open(name, 0);

    if (semaphore == SEM_FAILED)
        return -errno;
    *ret = semaphore;
    return 0;
}

/* Of a file that this process has just made. */
static int nr_os_posix_semaphore_chmod(const char *name, unsigned mode)
{
    char path[sizeof NR_OS_POSIX_SEMAPHORE_PREFIX + NAME_MAX];
    struct stat status;

    snprintf(path, sizeof path, NR_OS_POSIX_SEMAPHORE_PREFIX "%s", name + 1);
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    int result = fd < 0 || fstat(fd, &status) < 0 ? -errno : 0;
    if (result == 0 && (status.st_mode & 0777) != mode && fchmod(fd, mode) < 0)
        result = -errno;
    if (fd >= 0)
        close(fd);
    return result == -EACCES || result == -ENOENT ? 0 : result; /* 0: the mode asked for, or gone */
}

int nr_os_posix_semaphore_new(void **ret, const char *name, unsigned mode, uint32_t initial)
{
    sem_t *semaphore = sem_open(name, O_CREAT | O_EXCL, mode, initial);

    if (semaphore == SEM_FAILED)
        return -errno;
    int result = nr_os_posix_semaphore_chmod(name, mode);
    if (result < 0) {
        sem_close(semaphore);
        sem_unlink(name);
        return result;
    }
    *ret = semaphore;
    return 0;
}

void nr_os_posix_semaphore_close(void *semaphore)
{
    if (semaphore)
        sem_close(semaphore);
}

int nr_os_posix_semaphore_unlink(const char *name)
{
    return sem_unlink(name) < 0 ? -errno : 0;
}

int nr_os_posix_semaphore_post(void *semaphore)
{
    return sem_post(semaphore) < 0 ? -errno : 0;
}

int nr_os_posix_semaphore_try(void *semaphore)
{
    while (sem_trywait(semaphore) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

int nr_os_posix_semaphore_value(void *semaphore)
{
    int value;

    return sem_getvalue(semaphore, &value) < 0 ? -errno : value;
}

int nr_os_posix_semaphore_wait(void *semaphore, struct nr_deadline *deadline)
{
    for (;;) {
        int64_t left_ns = nr_deadline_left_ns(deadline);
        bool is_last = left_ns <= NR_OS_SEMAPHORE_LOOK_NS;
        int64_t at_ns = nr_os_now_ns() + (is_last ? left_ns : NR_OS_SEMAPHORE_LOOK_NS);
        struct timespec at = {.tv_sec = at_ns / 1000000000, .tv_nsec = at_ns % 1000000000};
        if (sem_clockwait(semaphore, CLOCK_MONOTONIC, &at) == 0)
            return 0;
        if (errno != EINTR && (errno != ETIMEDOUT || is_last))
            return -errno;
    }
}
