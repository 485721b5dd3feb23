/* SPDX-License-Identifier: MIT */
#pragma once
/* place -- a directory of one's own, another user, a small /dev/shm; include behind child.h */
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>

enum { PLACE_SKIPPED = 77 };

static char place_directory[] = "/tmp/naru-XXXXXX";

static inline void place_make(void)
{
    strcpy(place_directory + sizeof place_directory - 7, "XXXXXX");
    assert_non_null(mkdtemp(place_directory));
    assert_int_equal(chmod(place_directory, 0755), 0); /* another user is to come in */
}

static inline void place_remove(void)
{
    char command[64];

    snprintf(command, sizeof command, "rm -rf '%s'", place_directory);
    assert_int_equal(system(command), 0);
}

/* In static memory, four of them: the path of `name` in the directory. */
static inline const char *place_path(const char *name)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof paths[0], "%s/%s", place_directory, name);
    return path;
}

static inline void place_write(const char *path, const void *data, size_t size_bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size_bytes), (ssize_t)size_bytes);
    close(fd);
}

/* In a child: becomes a user that owns nothing here. For root only; others chmod what they made to 0. */
static inline void place_become_another_user(void)
{
    if (geteuid() == 0)
        child_check(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
}

static inline int place_write_word(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    ssize_t written = fd < 0 ? -1 : write(fd, text, strlen(text));

    if (fd >= 0)
        close(fd);
    return written < 0 ? -1 : 0;
}

/* In a child: namespaces of its own in which it is root, or exit with PLACE_SKIPPED. */
static inline void place_unshare(int namespaces)
{
    char map[40];
    unsigned uid = geteuid(), gid = getegid();

    if (unshare(namespaces) == 0)
        return;
    if (unshare(namespaces | CLONE_NEWUSER) < 0)
        _exit(PLACE_SKIPPED);
    snprintf(map, sizeof map, "0 %u 1", uid);
    if (place_write_word("/proc/self/setgroups", "deny") < 0 ||
        place_write_word("/proc/self/uid_map", map) < 0)
        _exit(PLACE_SKIPPED);
    snprintf(map, sizeof map, "0 %u 1", gid);
    if (place_write_word("/proc/self/gid_map", map) < 0)
        _exit(PLACE_SKIPPED);
}

/* In a child: a /dev/shm of `size` ("64k") that only it sees, or exit with PLACE_SKIPPED. */
static inline void place_small_shm(const char *size)
{
    char options[32];

    place_unshare(CLONE_NEWNS);
    snprintf(options, sizeof options, "size=%s,mode=1777", size);
    if (mount("none", "/", "none", MS_REC | MS_PRIVATE, "") < 0 ||
        mount("none", "/dev/shm", "tmpfs", 0, options) < 0)
        _exit(PLACE_SKIPPED);
}

/* What child_end() said, for a child that may have skipped. */
#define place_assert_status(status, why)                                                           \
    do {                                                                                           \
        int place_status = (status);                                                               \
        if (WIFEXITED(place_status) && WEXITSTATUS(place_status) == PLACE_SKIPPED) {               \
            printf("SKIP: %s\n", (why));                                                           \
            skip();                                                                                \
        }                                                                                          \
        assert_int_equal(place_status, 0);                                                         \
    } while (0)
