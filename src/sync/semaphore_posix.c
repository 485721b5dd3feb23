/* SPDX-License-Identifier: MIT */
/*
 * semaphore_posix -- a POSIX semaphore, for programs that share it: posix://name is "/name" of sem_open(3)
 *
 * What       The C library's own functions on the C library's own file.
 * Death      What a dead process took stays taken. One killed within sem_post(3) may have raised the count and woken
 *            nobody; who waits here looks every second.
 * Trust      Another user of the file can cut it off under us: SIGBUS, as in every program that uses it. One
 *            that is cut off, or of another size, is refused when it is opened.
 */
#include "base/error.h"
#include "base/uri.h"
#include "os/io.h"
#include "os/semaphore.h"
#include "sync/semaphore.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NR_SEMAPHORE_POSIX_NAME_BYTES = NR_URI_NAME_MAX + 2 };

struct nr_semaphore_posix {
    void *semaphore;
};

struct nr_semaphore_posix_name {
    const char *text;
    char name[NR_SEMAPHORE_POSIX_NAME_BYTES]; /* "/name" */
    char path[NR_SEMAPHORE_POSIX_NAME_BYTES + sizeof NR_OS_POSIX_SEMAPHORE_PREFIX];
};

static void *nr_semaphore_posix_of(const struct naru_semaphore *semaphore)
{
    return ((const struct nr_semaphore_posix *)(const void *)semaphore->more)->semaphore;
}

/* -- post and wait -------------------------------------------------------------------------- */

static int nr_semaphore_posix_post(struct naru_semaphore *semaphore)
{
    int result = nr_os_posix_semaphore_post(nr_semaphore_posix_of(semaphore));

    return result < 0 ? nr_fail(result,
                                "the POSIX semaphore can't be posted: %s; more is posted "
                                "than taken",
                                nr_error_name(result))
                      : 0;
}

static int nr_semaphore_posix_wait(struct naru_semaphore *semaphore, int64_t timeout_ns)
{
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);
    int result = nr_os_posix_semaphore_try(nr_semaphore_posix_of(semaphore));

    if (result == -EAGAIN && timeout_ns != 0)
        result = nr_os_posix_semaphore_wait(nr_semaphore_posix_of(semaphore), &deadline);
    if (result == -EAGAIN || result == -ETIMEDOUT)
        return nr_semaphore_not_posted(timeout_ns);
    return result < 0 ? nr_fail(result,
                                "can't wait for the POSIX semaphore: %s; was its file "
                                "written to?",
                                nr_error_name(result))
                      : 0;
}

static int nr_semaphore_posix_value(struct naru_semaphore *semaphore)
{
    return nr_os_posix_semaphore_value(nr_semaphore_posix_of(semaphore));
}

static void nr_semaphore_posix_close(struct naru_semaphore *semaphore)
{
    nr_os_posix_semaphore_close(nr_semaphore_posix_of(semaphore));
}

static const struct nr_semaphore_other nr_semaphore_posix_other = {
    .post = nr_semaphore_posix_post,
    .wait = nr_semaphore_posix_wait,
    .value = nr_semaphore_posix_value,
    .close = nr_semaphore_posix_close,
};

/* -- open ------------------------------------------------------------------------------------ */

static int nr_semaphore_posix_parse(struct nr_semaphore_posix_name *ret, const char *text)
{
    struct nr_uri uri;

    int result = nr_uri_parse(&uri, text);
    if (result == 0)
        result = nr_uri_check_name(&uri);
    if (result < 0)
        return result;
    ret->text = text;
    snprintf(ret->name, sizeof ret->name, "/%.*s", NR_URI_NAME_MAX, uri.rest);
    snprintf(ret->path, sizeof ret->path, NR_OS_POSIX_SEMAPHORE_PREFIX "%s", ret->name + 1);
    return 0;
}

/* sem_open(3) maps whatever file is there, and the first look at one that is too short is a SIGBUS. */
static int nr_semaphore_posix_check(const struct nr_semaphore_posix_name *name)
{
    struct stat status;
    int result = nr_os_stat(name->path, &status);

    if (result < 0 ||
        (S_ISREG(status.st_mode) && (size_t)status.st_size == nr_os_posix_semaphore_bytes))
        return result;
    return nr_fail(-EBADMSG,
                   "%s has %lld bytes and is no semaphore of this C library, which has %zu; was it "
                   "made by a program of another word size? Remove it, or choose another name",
                   name->path, (long long)status.st_size, nr_os_posix_semaphore_bytes);
}

static int nr_semaphore_posix_failed(const struct nr_semaphore_posix_name *name, int error)
{
    switch (error) {
    case -EBADMSG:
        return error;
    case -ENOENT:
        return nr_fail(error,
                       "there is no POSIX semaphore %s; start the program that creates it, or see "
                       "/dev/shm/sem.*",
                       name->text);
    case -EEXIST:
        return nr_fail(error, "the semaphore %s exists; attach to it, or remove it first",
                       name->text);
    case -EACCES:
    case -EPERM:
        return nr_fail(-EACCES,
                       "no permission to read and write the semaphore %s: its owner sets file_mode "
                       "when creating it, or uses chmod on %s",
                       name->text, name->path);
    case -ENOSPC:
        return nr_fail(error,
                       "no room for the semaphore %s: remove something from /dev/shm, or enlarge "
                       "it, such as by mount -o remount,size=1G /dev/shm",
                       name->text);
    case -EMFILE:
    case -ENFILE:
        return nr_fail(error,
                       "no descriptor left to open the semaphore %s; close some, or raise "
                       "`ulimit -n`",
                       name->text);
    default:
        return nr_fail(error, "the semaphore %s: %s", name->text, nr_error_name(error));
    }
}

static int nr_semaphore_posix_find(void **ret, const struct nr_semaphore_posix_name *name,
                                   const struct nr_named *named, uint32_t initial)
{
    for (;;) { /* as nr_named_open() */
        int result = named->create == NARU_CREATE ? -ENOENT : nr_semaphore_posix_check(name);
        if (result == 0)
            result = nr_os_posix_semaphore_open(ret, name->name);
        if (result != -ENOENT || named->create == NARU_ATTACH)
            return result;
        result = nr_os_posix_semaphore_new(ret, name->name, named->mode, initial);
        if (result != -EEXIST || named->create == NARU_CREATE)
            return result;
    }
}

int nr_semaphore_posix_open(struct naru_semaphore **ret, const char *text, uint32_t initial,
                            const struct naru_options *options)
{
    struct nr_named named = {.kind = "semaphore", .text = text};
    struct nr_semaphore_posix_name name;
    struct nr_semaphore_posix posix;
    struct nr_object none = {0};

    int result = nr_semaphore_posix_parse(&name, text);
    if (result == 0)
        result = nr_named_options(&named, options);
    if (result == 0 && initial > nr_os_posix_semaphore_max)
        result = nr_fail(-EINVAL, "a POSIX semaphore can't begin at %u; give 0 to %u", initial,
                         nr_os_posix_semaphore_max);
    if (result < 0)
        return result;
    result = nr_semaphore_posix_find(&posix.semaphore, &name, &named, initial);
    if (result < 0)
        return nr_semaphore_posix_failed(&name, result);
    result = nr_semaphore_new(ret, &none, &nr_semaphore_posix_other, sizeof posix);
    if (result < 0)
        nr_os_posix_semaphore_close(posix.semaphore);
    else
        memcpy((*ret)->more, &posix, sizeof posix);
    return result;
}

int nr_semaphore_posix_unlink(const char *text)
{
    struct nr_semaphore_posix_name name;

    int result = nr_semaphore_posix_parse(&name, text);
    if (result < 0)
        return result;
    result = nr_semaphore_posix_check(&name);
    if (result == 0)
        result = nr_os_posix_semaphore_unlink(name.name);
    return result < 0 ? nr_semaphore_posix_failed(&name, result) : 0;
}
