/* SPDX-License-Identifier: MIT */
#include "os/memory.h"
#include "base/error.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

int nr_os_memory_file_new(const char *path, unsigned mode)
{
    char directory[NR_OS_PATH_BYTES];
    const char *slash = strrchr(path, '/');

    if (!slash || (size_t)(slash - path) >= sizeof directory)
        return -ENAMETOOLONG;
    size_t length = slash == path ? 1 : (size_t)(slash - path);
    memcpy(directory, path, length);
    directory[length] = '\0';
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, mode);
    if (fd < 0)
        return -errno;
    if (fchmod(fd, mode) < 0) { /* the mode that was asked for, whatever the umask */
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

int nr_os_memory_file_open(const char *path)
{
    int fd;

    do
        fd = open(path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

int nr_os_memory_publish(int fd, const char *path)
{
    char self[40];

    if (linkat(fd, "", AT_FDCWD, path, AT_EMPTY_PATH) == 0)
        return 0;
    if (errno != ENOENT && errno != EPERM) /* without CAP_DAC_READ_SEARCH it goes by /proc */
        return -errno;
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

int nr_os_memory_anonymous(const char *name)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

    return fd < 0 ? -errno : fd;
}

int nr_os_memory_seal(int fd)
{
    return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0 ? -errno : 0;
}

int nr_os_memory_reserve(int fd, size_t size_bytes)
{
    struct rlimit limit;
    int error;

    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && size_bytes > limit.rlim_cur)
        return -EFBIG;
    do
        error = posix_fallocate(fd, 0, (off_t)size_bytes);
    while (error == EINTR);
    return -error;
}

int nr_os_memory_map(int fd, size_t size_bytes, bool is_writable, void **ret)
{
    void *memory =
        mmap(NULL, size_bytes, is_writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);

    if (memory == MAP_FAILED)
        return -errno;
    *ret = memory;
    return 0;
}

static int nr_os_memory_map_shared(size_t size_bytes, int flags, void **ret)
{
    void *memory =
        mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | flags, -1, 0);

    if (memory == MAP_FAILED)
        return -errno;
    *ret = memory;
    return 0;
}

int nr_os_memory_map_anonymous(size_t size_bytes, void **ret)
{
    return nr_os_memory_map_shared(size_bytes, MAP_POPULATE, ret);
}

int nr_os_memory_map_promised(size_t size_bytes, void **ret)
{
    return nr_os_memory_map_shared(size_bytes, 0, ret);
}

int nr_os_memory_peek(int fd, void *data, size_t size_bytes)
{
    ssize_t size;

    do
        size = pread(fd, data, size_bytes, 0);
    while (size < 0 && errno == EINTR);
    if (size < 0)
        return -errno;
    return (size_t)size == size_bytes ? 0 : -EBADMSG;
}

void nr_os_memory_hide(void *memory, size_t size_bytes)
{
    madvise(memory, size_bytes, MADV_DONTFORK);
}

void nr_os_memory_show(void *memory, size_t size_bytes)
{
    madvise(memory, size_bytes, MADV_DOFORK);
}

void nr_os_memory_unmap(void *memory, size_t size_bytes)
{
    if (memory)
        munmap(memory, size_bytes);
}

int nr_os_memory_path(char path[NR_OS_PATH_BYTES], const char *name, const char *suffix,
                      bool create)
{
    struct stat status;
    int length;

    if (name[0] == '/') {
        length = snprintf(path, NR_OS_PATH_BYTES, "%s", name);
        return length >= NR_OS_PATH_BYTES ? -ENAMETOOLONG : 0;
    }
    length = snprintf(path, NR_OS_PATH_BYTES, "/dev/shm/naru-%u", (unsigned)geteuid());
    if (create && mkdir(path, 0700) < 0 && errno != EEXIST)
        return nr_fail(-errno, "can't make the directory %s: %s; mount a tmpfs on /dev/shm", path,
                       nr_error_name(errno));
    if (lstat(path, &status) == 0 &&
        (!S_ISDIR(status.st_mode) || status.st_uid != geteuid() || (status.st_mode & 022)))
        return nr_fail(-EACCES,
                       "%s is not a directory that only this user can write; remove it, or use "
                       "a path of your own: shm:///path",
                       path);
    length += snprintf(path + length, NR_OS_PATH_BYTES - (size_t)length, "/%s%s", name, suffix);
    return length >= NR_OS_PATH_BYTES ? -ENAMETOOLONG : 0;
}
