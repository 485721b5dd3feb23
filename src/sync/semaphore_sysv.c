/* SPDX-License-Identifier: MIT */
/*
 * semaphore_sysv -- a System V semaphore, for programs that share it: sysv://1234, sysv:///path, sysv://5?id
 *
 * What       A member of a set. Each operation is one system call, which the kernel does whole or not at all.
 * Ownership  A set stays until it is removed or the machine is started anew.
 * Races      The members of a new set are 0; who made it raises its own by the initial value, and does not store it: so what
 *            another process did in between counts. That also sets sem_otime, for which other programs wait.
 * Death      With undo, what a process took is given back when it ends, and what it posted is taken. Who dies between making
 *            a set and raising it leaves it at 0.
 */
#include "base/error.h"
#include "base/uri.h"
#include "os/process.h"
#include "os/queue.h"
#include "os/semaphore.h"
#include "sync/semaphore.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NR_SEMAPHORE_SYSV_LETTER = 'n', /* of ftok(3), as in transport/sysv.c */
    NR_SEMAPHORE_SYSV_MEMBERS_MAX = 65535,
    NR_SEMAPHORE_SYSV_TEXT_BYTES = 80,
};

struct nr_semaphore_sysv {
    struct nr_os_semaphore semaphore;
    char text[NR_SEMAPHORE_SYSV_TEXT_BYTES]; /* the URI, cut off */
};

struct nr_semaphore_sysv_name {
    const char *text;
    bool is_id, undoes;
    int32_t number; /* the key or the id */
    unsigned short member;
};

static const struct nr_semaphore_sysv *nr_semaphore_sysv_of(const struct naru_semaphore *semaphore)
{
    return (const struct nr_semaphore_sysv *)(const void *)semaphore->more;
}

/* -- post and wait -------------------------------------------------------------------------- */

static int nr_semaphore_sysv_failed(const struct nr_semaphore_sysv *sysv, int error)
{
    switch (error) {
    case -EIDRM:
    case -EINVAL:
        return nr_fail(-EIDRM, "somebody has removed the semaphore %s; close it, and open it anew",
                       sysv->text);
    case -EACCES:
        return nr_fail(error,
                       "the semaphore %s belongs to another user, and its mode does not let this "
                       "one (uid %u) in; its creator decides with file_mode",
                       sysv->text, (unsigned)nr_os_uid());
    case -ERANGE:
        return nr_fail(-EOVERFLOW,
                       "the semaphore %s%s stands at its largest count, %d; more is posted than "
                       "taken",
                       sysv->text, sysv->semaphore.undoes ? ", or what is to be undone of it," : "",
                       NR_OS_SEMAPHORE_VALUE_MAX);
    case -ENOSPC:
    case -ENOMEM:
        return nr_fail(error, "the kernel has no room to note what is to be undone of %s",
                       sysv->text);
    default:
        return nr_fail(error, "the semaphore %s: %s", sysv->text, nr_error_name(error));
    }
}

static int nr_semaphore_sysv_post(struct naru_semaphore *semaphore)
{
    const struct nr_semaphore_sysv *sysv = nr_semaphore_sysv_of(semaphore);
    struct nr_deadline now = nr_deadline_in(0);
    int result = nr_os_semaphore_change(&sysv->semaphore, 1, &now);

    return result < 0 ? nr_semaphore_sysv_failed(sysv, result) : 0;
}

static int nr_semaphore_sysv_wait(struct naru_semaphore *semaphore, int64_t timeout_ns)
{
    const struct nr_semaphore_sysv *sysv = nr_semaphore_sysv_of(semaphore);
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);
    int result = nr_os_semaphore_change(&sysv->semaphore, -1, &deadline);

    if (result == -EAGAIN)
        return nr_semaphore_not_posted(timeout_ns);
    return result < 0 ? nr_semaphore_sysv_failed(sysv, result) : 0;
}

static int nr_semaphore_sysv_value(struct naru_semaphore *semaphore)
{
    const struct nr_semaphore_sysv *sysv = nr_semaphore_sysv_of(semaphore);
    int value = nr_os_semaphore_value(&sysv->semaphore);

    return value < 0 ? nr_semaphore_sysv_failed(sysv, value) : value;
}

static const struct nr_semaphore_other nr_semaphore_sysv_other = {
    .post = nr_semaphore_sysv_post,
    .wait = nr_semaphore_sysv_wait,
    .value = nr_semaphore_sysv_value,
};

/* -- names ---------------------------------------------------------------------------------- */

/* One of "member=2", "project=65", "undo", "id". */
static int nr_semaphore_sysv_word(struct nr_semaphore_sysv_name *name, const char *word,
                                  int *letter)
{
    static const char member[] = "member=", project[] = "project=";
    int64_t number = 0;
    int result = 0;

    if (strcmp(word, "undo") == 0) {
        name->undoes = true;
    } else if (strcmp(word, "id") == 0) {
        name->is_id = true;
    } else if (strncmp(word, member, sizeof member - 1) == 0) {
        result =
            nr_uri_number(word + sizeof member - 1, 0, NR_SEMAPHORE_SYSV_MEMBERS_MAX - 1, &number);
        name->member = (unsigned short)number;
    } else if (strncmp(word, project, sizeof project - 1) == 0) {
        result = nr_uri_number(word + sizeof project - 1, 1, 255, &number);
        *letter = (int)number;
    } else {
        result = nr_fail(-EINVAL,
                         "%s: \"%.40s\" is unknown; behind the '?' may stand member=N, project=N, "
                         "undo and id, with '&' between them",
                         name->text, word);
    }
    return result;
}

static int nr_semaphore_sysv_number(struct nr_semaphore_sysv_name *name, const struct nr_uri *uri,
                                    int letter)
{
    int64_t number;

    if (nr_uri_is_path(uri) && !name->is_id) {
        int result = nr_os_ftok(uri->rest, letter, &name->number);
        return result < 0
                   ? nr_fail(result,
                             "%s: no key can be made of the path %.200s: %s; ftok(3) needs a "
                             "file that exists",
                             name->text, uri->rest, nr_error_name(result))
                   : 0;
    }
    int result = nr_uri_number(uri->rest, name->is_id ? 0 : INT32_MIN,
                               name->is_id ? INT32_MAX : UINT32_MAX, &number);
    if (result < 0 || (number == 0 && !name->is_id))
        return nr_fail(-EINVAL,
                       "%s: the key of a System V semaphore is a number other than 0, as in "
                       "sysv://1234 or sysv://0x4d2, or the path of a file, as in sysv:///path; a "
                       "set's id has ?id behind it",
                       name->text);
    name->number = (int32_t)(uint32_t)number;
    return 0;
}

static int nr_semaphore_sysv_parse(struct nr_semaphore_sysv_name *ret, const char *text)
{
    struct nr_semaphore_sysv_name name = {.text = text};
    int letter = NR_SEMAPHORE_SYSV_LETTER;
    struct nr_uri uri;
    char *rest = NULL;

    int result = nr_uri_parse(&uri, text);
    if (result < 0)
        return result;
    char *words = strchr(uri.rest, '?');
    if (words)
        *words++ = '\0';
    for (char *word = words ? strtok_r(words, "&", &rest) : NULL; word && result == 0;
         word = strtok_r(NULL, "&", &rest))
        result = nr_semaphore_sysv_word(&name, word, &letter);
    if (result == 0)
        result = nr_semaphore_sysv_number(&name, &uri, letter);
    if (result == 0)
        *ret = name;
    return result;
}

/* -- open ------------------------------------------------------------------------------------ */

static int nr_semaphore_sysv_no_room(const struct nr_semaphore_sysv_name *name, int error)
{
    struct nr_os_semaphore_limits limits = nr_os_semaphore_limits();

    return nr_fail(error,
                   "%s: no room for one more set, of %u members: there may be %lld sets with %lld "
                   "members in all; remove some (ipcs -s, ipcrm), or raise sysctl kernel.sem",
                   name->text, name->member + 1u, (long long)limits.sets,
                   (long long)limits.members);
}

static int nr_semaphore_sysv_failed_open(const struct nr_semaphore_sysv_name *name, int error)
{
    switch (error) {
    case -ENOENT:
        return nr_fail(error,
                       "there is no System V semaphore %s; start the program that creates it, or "
                       "see `ipcs -s`",
                       name->text);
    case -EEXIST:
        return nr_fail(error, "the semaphore %s exists; attach to it, or remove it first",
                       name->text);
    case -EACCES:
    case -EPERM:
        return nr_fail(-EACCES,
                       "no permission for the semaphore %s: its owner sets file_mode when creating "
                       "it; `ipcs -s` shows whose it is",
                       name->text);
    case -EINVAL:
    case -EFBIG:
        return nr_fail(-EINVAL,
                       "%s: there is a set of fewer members, or none may have %u; give a smaller "
                       "member (`ipcs -s` shows their numbers)",
                       name->text, name->member + 1u);
    case -ENOSPC:
        return nr_semaphore_sysv_no_room(name, error);
    case -ENOSYS:
        return nr_fail(-EOPNOTSUPP, "%s: this kernel is built without System V semaphores",
                       name->text);
    default:
        return nr_fail(error, "%s: %s", name->text, nr_error_name(error));
    }
}

/* The set's id. -EEXIST is returned bare. */
static int nr_semaphore_sysv_create(const struct nr_semaphore_sysv_name *name, unsigned mode,
                                    uint32_t initial)
{
    struct nr_os_semaphore made = {.member = name->member};
    struct nr_deadline now = nr_deadline_in(0);

    made.id = nr_os_semaphore_new(name->number, name->member + 1u, mode);
    if (made.id < 0)
        return made.id == -EEXIST ? made.id : nr_semaphore_sysv_failed_open(name, made.id);
    /* Also for 0: it is then a wait for 0, which is there, or was until somebody posted. */
    int result = nr_os_semaphore_change(&made, (short)initial, &now);
    return result < 0 && initial > 0 ? nr_semaphore_sysv_failed_open(name, result) : made.id;
}

/* The set's id. As nr_named_open(). */
static int nr_semaphore_sysv_find(const struct nr_semaphore_sysv_name *name,
                                  const struct nr_named *named, uint32_t initial)
{
    for (;;) {
        int id = named->create == NARU_CREATE
                     ? -ENOENT
                     : nr_os_semaphore_find(name->number, name->member + 1u);
        if (id >= 0)
            return id;
        if (id != -ENOENT || named->create == NARU_ATTACH)
            return nr_semaphore_sysv_failed_open(name, id);
        id = nr_semaphore_sysv_create(name, named->mode, initial);
        if (id != -EEXIST)
            return id;
        if (named->create == NARU_CREATE)
            return nr_semaphore_sysv_failed_open(name, id);
    }
}

/* An id is only attached to: that it is one, and that it has the member, its value tells. */
static int nr_semaphore_sysv_find_id(const struct nr_semaphore_sysv_name *name,
                                     const struct nr_named *named)
{
    const struct nr_os_semaphore there = {.id = name->number, .member = name->member};

    if (named->create == NARU_CREATE)
        return nr_fail(-EINVAL, "%s: the kernel gives ids; create it by a key", name->text);
    int value = nr_os_semaphore_value(&there);
    if (value == -EINVAL || value == -EIDRM)
        return nr_fail(-ENOENT,
                       "there is no set of semaphores %s with a member %u; `ipcs -s` shows their "
                       "ids",
                       name->text, name->member);
    return value < 0 ? nr_semaphore_sysv_failed_open(name, value) : name->number;
}

int nr_semaphore_sysv_open(struct naru_semaphore **ret, const char *text, uint32_t initial,
                           const struct naru_options *options)
{
    struct nr_named named = {.kind = "semaphore", .text = text};
    struct nr_semaphore_sysv_name name;
    struct nr_object none = {0};
    struct naru_semaphore *semaphore;

    int result = nr_semaphore_sysv_parse(&name, text);
    if (result == 0)
        result = nr_named_options(&named, options);
    if (result == 0 && initial > NR_OS_SEMAPHORE_VALUE_MAX)
        result = nr_fail(-EINVAL, "a System V semaphore can't begin at %u; give 0 to %d", initial,
                         NR_OS_SEMAPHORE_VALUE_MAX);
    if (result < 0)
        return result;
    int id = name.is_id ? nr_semaphore_sysv_find_id(&name, &named)
                        : nr_semaphore_sysv_find(&name, &named, initial);
    if (id < 0)
        return id;
    result = nr_semaphore_new(&semaphore, &none, &nr_semaphore_sysv_other,
                              sizeof(struct nr_semaphore_sysv));
    if (result < 0)
        return result;
    struct nr_semaphore_sysv *sysv = (struct nr_semaphore_sysv *)(void *)semaphore->more;
    sysv->semaphore = (struct nr_os_semaphore){id, name.member, name.undoes};
    snprintf(sysv->text, sizeof sysv->text, "%s", text);
    *ret = semaphore;
    return 0;
}

int nr_semaphore_sysv_unlink(const char *text)
{
    struct nr_semaphore_sysv_name name;

    int result = nr_semaphore_sysv_parse(&name, text);
    if (result < 0)
        return result;
    int id = name.is_id ? name.number : nr_os_semaphore_find(name.number, 0);
    result = id < 0 ? id : nr_os_semaphore_remove(id);
    if (result == -EIDRM || result == -EINVAL)
        result = -ENOENT;
    return result < 0 ? nr_semaphore_sysv_failed_open(&name, result) : 0;
}
