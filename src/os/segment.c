/* SPDX-License-Identifier: MIT */
#include "os/segment.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/ipc.h>
#include <sys/shm.h>

int nr_os_segment_find(int32_t key)
{
    int id = shmget(key, 0, 0);

    return id < 0 ? -errno : id;
}

int nr_os_segment_new(int32_t key, size_t size_bytes, unsigned mode)
{
    int id = shmget(key, size_bytes, IPC_CREAT | IPC_EXCL | (int)mode);

    return id < 0 ? -errno : id;
}

int nr_os_segment_size(int id, size_t *ret_size_bytes)
{
    struct shmid_ds status;

    if (shmctl(id, IPC_STAT, &status) < 0)
        return -errno;
    *ret_size_bytes = status.shm_segsz;
    return 0;
}

int nr_os_segment_map(int id, void **ret)
{
    void *memory = shmat(id, NULL, 0);

    if (memory == (void *)-1)
        return -errno;
    *ret = memory;
    return 0;
}

void nr_os_segment_unmap(void *memory)
{
    if (memory)
        shmdt(memory);
}

int nr_os_segment_remove(int id)
{
    return shmctl(id, IPC_RMID, NULL) < 0 ? -errno : 0;
}

static uint64_t nr_os_segment_limit(const char *path)
{
    FILE *file = fopen(path, "re");
    uint64_t value = 0;

    if (!file)
        return 0;
    if (fscanf(file, "%" SCNu64, &value) != 1)
        value = 0;
    fclose(file);
    return value;
}

struct nr_os_segment_limits nr_os_segment_limits(void)
{
    return (struct nr_os_segment_limits){
        .largest_bytes = nr_os_segment_limit("/proc/sys/kernel/shmmax"),
        .total_pages = nr_os_segment_limit("/proc/sys/kernel/shmall"),
        .segments = nr_os_segment_limit("/proc/sys/kernel/shmmni"),
    };
}
