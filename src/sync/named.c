/* SPDX-License-Identifier: MIT */
#include "sync/named.h"
#include "base/error.h"
#include "base/uri.h"
#include "os/io.h"
#include <string.h>

int nr_named_options(struct nr_named *named, const struct naru_options *options)
{
    const size_t first_bytes = offsetof(struct naru_options, message_size_max_bytes);
    struct naru_options given = {0};
    const struct naru_options none = {0};

    named->create = NARU_CREATE_OR_ATTACH;
    named->mode = 0600;
    if (!options)
        return 0;
    if (options->size_bytes < first_bytes)
        return nr_fail(-EINVAL, "options.size_bytes is %zu; set it to sizeof(struct naru_options)",
                       options->size_bytes);
    const unsigned char *bytes = (const unsigned char *)options;
    for (size_t i = sizeof given; i < options->size_bytes; i++)
        if (bytes[i])
            return nr_fail(-EINVAL,
                           "the options hold a field that naru %s does not know; use the "
                           "library they were written for",
                           naru_version());
    memcpy(&given, options,
           options->size_bytes < sizeof given ? options->size_bytes : sizeof given);
    if ((unsigned)given.create > NARU_CREATE)
        return nr_fail(-EINVAL, "the option create is %d; give one of enum naru_create",
                       (int)given.create);
    if (given.file_mode > 0777)
        return nr_fail(-EINVAL, "the option file_mode is 0%o; it may be 0 to 0777",
                       given.file_mode);
    named->create = given.create;
    if (given.file_mode)
        named->mode = given.file_mode;
    given.size_bytes = 0;
    given.create = NARU_CREATE_OR_ATTACH;
    given.file_mode = 0;
    if (memcmp(&given, &none, sizeof given) != 0)
        return nr_fail(-EOPNOTSUPP,
                       "a %s has only the options create and file_mode; leave the others 0",
                       named->kind);
    return 0;
}

int nr_named_path(struct nr_named *named, const char *name, const char *suffix)
{
    struct nr_uri uri = {0};
    size_t length = strlen(name);

    if (length >= sizeof uri.rest)
        return nr_fail(-EINVAL, "the name of a %s has %zu characters; at most %d are allowed",
                       named->kind, length, NR_URI_NAME_MAX);
    memcpy(uri.rest, name, length);
    int result = nr_uri_is_path(&uri) ? nr_uri_check_path(&uri) : nr_uri_check_name(&uri);
    if (result < 0)
        return nr_fail(-EINVAL,
                       "\"%.80s\" names no %s: give 1 to %d letters, digits, '_', '-' and '.' (not "
                       "first), or the absolute path of a file",
                       named->text, named->kind, NR_URI_NAME_MAX);
    result = nr_os_memory_path(named->path, name, suffix, named->create != NARU_ATTACH);
    return result == -ENAMETOOLONG
               ? nr_fail(-EINVAL, "the path of the %s %.80s... is too long; shorten it",
                         named->kind, named->text)
               : result;
}

/* -- what went wrong, and what to do -------------------------------------------------------- */

static int nr_named_failed_attach(const struct nr_named *named, int error)
{
    switch (error) {
    case -ENOENT:
        return nr_fail(error,
                       "there is no %s %s; start the program that creates it, or leave "
                       "options.create to make it here",
                       named->kind, named->text);
    case -EACCES:
    case -EPERM:
        return nr_fail(-EACCES,
                       "no permission to read and write the %s %s: its owner sets file_mode when "
                       "creating it, or uses chmod on %s",
                       named->kind, named->text, named->path);
    case -EISDIR:
    case -ENXIO: /* a socket, or a device without a driver */
        return nr_fail(-EBADMSG, "%s is there but is no %s; choose another name", named->path,
                       named->kind);
    default:
        return nr_fail(error, "can't open the %s %s: %s", named->kind, named->text,
                       nr_error_name(error));
    }
}

static int nr_named_failed_create(const struct nr_named *named, int error)
{
    switch (error) {
    case -ENOSPC:
    case -EDQUOT:
        return nr_fail(
            -ENOSPC,
            "no room for the %zu bytes of the %s %s: remove something there (see df), or "
            "enlarge it, such as by mount -o remount,size=1G /dev/shm",
            named->size_bytes, named->kind, named->path);
    case -EFBIG:
        return nr_fail(-EINVAL,
                       "the file system allows no %s of %zu bytes at %s; ask for less, or raise "
                       "`ulimit -f`",
                       named->kind, named->size_bytes, named->path);
    case -ENOENT:
        return nr_fail(error, "the directory of %s is not there; make it first", named->path);
    case -EACCES:
    case -EPERM:
    case -EROFS:
        return nr_fail(-EACCES, "no permission to make the %s %s: %s; choose a path of your own",
                       named->kind, named->path, nr_error_name(error));
    case -EOPNOTSUPP:
        return nr_fail(error,
                       "the file system of %s can't make a file before it has a name (O_TMPFILE); "
                       "choose one on tmpfs, ext4, xfs or btrfs",
                       named->path);
    case -EMFILE:
    case -ENFILE:
        return nr_fail(error,
                       "no descriptor left to make the %s %s; close some, or raise `ulimit -n`",
                       named->kind, named->text);
    default:
        return nr_fail(error, "can't make the %s %s: %s", named->kind, named->path,
                       nr_error_name(error));
    }
}

/* -- open ------------------------------------------------------------------------------------- */

/* -ENOENT is returned bare: the caller may go on to create it. */
static int nr_named_attach(struct nr_named_memory *ret, const struct nr_named *named)
{
    struct nr_named_memory memory = {0};
    struct stat status;
    nr_cleanup_close int fd = nr_os_memory_file_open(named->path);

    if (fd == -ENOENT)
        return fd;
    int result = fd < 0 ? fd : nr_os_fstat(fd, &status);
    if (result < 0)
        return nr_named_failed_attach(named, result);
    if (!S_ISREG(status.st_mode))
        return nr_named_failed_attach(named, -EISDIR);
    memory.size_bytes = (size_t)status.st_size;
    if (memory.size_bytes)
        result = nr_os_memory_map(fd, memory.size_bytes, true, &memory.memory);
    if (result < 0)
        return nr_fail(result, "can't map the %zu bytes of the %s %s: %s", memory.size_bytes,
                       named->kind, named->text, nr_error_name(result));
    *ret = memory;
    return 0;
}

/* -EEXIST is returned bare: the caller may go on to attach. */
static int nr_named_create(struct nr_named_memory *ret, const struct nr_named *named)
{
    struct nr_named_memory memory = {.size_bytes = named->size_bytes, .created = true};
    nr_cleanup_close int fd = nr_os_memory_file_new(named->path, named->mode);

    int result = fd < 0 ? fd : nr_os_memory_reserve(fd, named->size_bytes);
    if (result == 0)
        result = nr_os_memory_map(fd, named->size_bytes, true, &memory.memory);
    if (result < 0)
        return nr_named_failed_create(named, result);
    if (named->init)
        named->init(memory.memory, named->argument);
    result = nr_os_memory_publish(fd, named->path);
    if (result < 0) {
        nr_named_deinit(&memory);
        return result == -EEXIST ? result : nr_named_failed_create(named, result);
    }
    *ret = memory;
    return 0;
}

int nr_named_open(struct nr_named_memory *ret, const struct nr_named *named)
{
    bool may_attach = named->create != NARU_CREATE;
    bool may_create = named->create != NARU_ATTACH && named->size_bytes > 0;

    /* Each round that finds the name gone and then taken, another process has made and removed one. */
    for (;;) {
        int result = may_attach ? nr_named_attach(ret, named) : -ENOENT;
        if (result != -ENOENT)
            return result;
        if (!may_create)
            return nr_named_failed_attach(named, result);
        result = nr_named_create(ret, named);
        if (result != -EEXIST)
            return result;
        if (!may_attach)
            return nr_fail(result, "the %s %s exists; attach to it, or remove it first",
                           named->kind, named->text);
    }
}

void nr_named_deinit(struct nr_named_memory *memory)
{
    nr_os_memory_unmap(memory->memory, memory->size_bytes);
    *memory = (struct nr_named_memory){0};
}

int nr_named_unlink(const struct nr_named *named)
{
    struct stat status;
    int result = nr_os_stat(named->path, &status);

    if (result == 0 && !S_ISREG(status.st_mode))
        return nr_fail(-EBADMSG, "%s is no %s, so it stays", named->path, named->kind);
    if (result == 0)
        result = nr_os_unlink(named->path);
    if (result == -ENOENT)
        return nr_fail(result, "there is no %s %s to remove", named->kind, named->text);
    if (result == -EPERM || result == -EACCES)
        return nr_fail(-EACCES, "no permission to remove the %s %s; only its owner may",
                       named->kind, named->path);
    return result < 0 ? nr_fail(result, "can't remove the %s %s: %s", named->kind, named->path,
                                nr_error_name(result))
                      : 0;
}
