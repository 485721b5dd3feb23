/* SPDX-License-Identifier: MIT */
#include "os/mapping.h"
#include "base/cleanup.h"
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* "from-to permissions offset device inode path": true if that is such a line. */
static bool nr_os_mapping_line(const char *line, uintptr_t *ret_from, uintptr_t *ret_to,
                               struct nr_mapping *ret)
{
    char device[16];
    unsigned long from, to, inode;

    if (sscanf(line, "%lx-%lx %*s %*s %15s %lu", &from, &to, device, &inode) != 4)
        return false;
    *ret_from = from;
    *ret_to = to;
    snprintf(ret->file, sizeof ret->file, "%s %lu", device, inode);
    return true;
}

static void nr_os_mapping_close(FILE **file)
{
    if (*file)
        fclose(*file);
}

/* Looks for an address, or for a file. 1, 0, -errno. */
static int nr_os_mapping_find(const char *path, const void *address, struct nr_mapping *wanted)
{
    __attribute__((cleanup(nr_os_mapping_close))) FILE *file = fopen(path, "re");
    nr_cleanup_free char *line = NULL;
    size_t room = 0;
    struct nr_mapping found;
    uintptr_t from, to;

    if (!file)
        return -errno;
    while (getline(&line, &room, file) > 0) {
        if (!nr_os_mapping_line(line, &from, &to, &found))
            return -EPROTO;
        if (address ? (uintptr_t)address >= from && (uintptr_t)address < to
                    : strcmp(found.file, wanted->file) == 0) {
            *wanted = found;
            return 1;
        }
    }
    return ferror(file) ? -EIO : 0;
}

int nr_os_mapping_of(struct nr_mapping *ret, const void *address)
{
    int result = nr_os_mapping_find("/proc/self/maps", address, ret);

    if (result != 1)
        ret->file[0] = '\0';
    return result == 1 ? 0 : -ENOENT;
}

int nr_os_mapping_is_in(const struct nr_mapping *mapping, pid_t pid)
{
    struct nr_mapping wanted = *mapping;
    char path[32];

    if (!wanted.file[0])
        return -ENOENT;
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    return nr_os_mapping_find(path, NULL, &wanted);
}
