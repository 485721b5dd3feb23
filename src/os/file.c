/* SPDX-License-Identifier: MIT */
#include "os/file.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

long nr_os_file_read(int fd, void *data, size_t size_bytes, uint64_t offset)
{
    size_t done = 0;

    while (done < size_bytes) {
        ssize_t size = pread(fd, (char *)data + done, size_bytes - done, (off_t)(offset + done));
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            return -errno;
        if (size == 0)
            break;
        done += (size_t)size;
    }
    return (long)done;
}

long nr_os_file_write(int fd, const struct iovec *parts, int count, uint64_t offset)
{
    ssize_t size;

    do
        size = count == 1 ? pwrite(fd, parts->iov_base, parts->iov_len, (off_t)offset)
                          : pwritev(fd, parts, count, (off_t)offset);
    while (size < 0 && errno == EINTR);
    return size < 0 ? -errno : size;
}

int nr_os_file_sync(int fd)
{
    int result;

    do
        result = fdatasync(fd);
    while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : 0;
}

int nr_os_file_sync_name(const char *path)
{
    char directory[4096];
    const char *slash = strrchr(path, '/');

    if (!slash || (size_t)(slash - path) >= sizeof directory)
        return -ENAMETOOLONG;
    size_t length = slash == path ? 1 : (size_t)(slash - path);
    memcpy(directory, path, length);
    directory[length] = '\0';
    int fd = nr_os_open(directory, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return fd;
    int result = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return result;
}

int nr_os_file_truncate(int fd, uint64_t size_bytes)
{
    int result;

    do
        result = ftruncate(fd, (off_t)size_bytes);
    while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : 0;
}

uint64_t nr_os_file_size_limit(void)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX
                                                                                  : limit.rlim_cur;
}

int nr_os_file_watch(int fd)
{
    char path[32];
    int watch_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

    if (watch_fd < 0)
        return -errno;
    snprintf(path, sizeof path, "/proc/self/fd/%d",
             fd); /* the file itself, whatever its name is now */
    if (inotify_add_watch(watch_fd, path, IN_MODIFY) < 0) {
        int error = errno;
        close(watch_fd);
        return -error;
    }
    return watch_fd;
}

int nr_os_file_lock(int fd, uint64_t byte, enum nr_os_file_lock lock)
{
    static const short types[] = {
        [NR_OS_FILE_UNLOCKED] = F_UNLCK,
        [NR_OS_FILE_SHARED] = F_RDLCK,
        [NR_OS_FILE_EXCLUSIVE] = F_WRLCK,
    };
    struct flock range = {
        .l_type = types[lock], .l_whence = SEEK_SET, .l_start = (off_t)byte, .l_len = 1};
    int result;

    do
        result = fcntl(fd, F_OFD_SETLK, &range);
    while (result < 0 && errno == EINTR);
    if (result < 0 && errno == EACCES)
        return -EAGAIN;
    return result < 0 ? -errno : 0;
}

int64_t nr_os_file_time_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int nr_os_file_boot(uint64_t ret[2])
{
    char text[64], digits[33];
    size_t count = 0;
    int fd = nr_os_open("/proc/sys/kernel/random/boot_id", O_RDONLY, 0);

    if (fd < 0)
        return fd;
    ssize_t size = read(fd, text, sizeof text);
    close(fd);
    for (ssize_t i = 0; i < size && count < 32; i++)
        if (text[i] != '-')
            digits[count++] = text[i];
    if (count < 32)
        return -EIO;
    digits[32] = '\0';
    ret[1] = strtoull(digits + 16, NULL, 16);
    digits[16] = '\0';
    ret[0] = strtoull(digits, NULL, 16);
    return 0;
}
