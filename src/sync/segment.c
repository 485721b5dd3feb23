/* SPDX-License-Identifier: MIT */
/*
 * segment -- plain shared memory: a file, a System V segment, or anonymous
 *
 * Memory     A file has its space before it has its name. A System V segment exists, all zeros, from
 *            shmget(2) on; it is accounted for then, and lives in memory that /dev/shm does not limit.
 * Death      A creator that dies before the end of a file's creation leaves nothing; of a System V
 *            segment's, the segment, whole.
 * Races      Of several creators one wins; the others attach to what it made.
 */
#include "base/error.h"
#include "base/uri.h"
#include "os/queue.h"
#include "os/segment.h"
#include "sync/named.h"
#include <inttypes.h>
#include <naru/shm.h>
#include <stdlib.h>
#include <string.h>

enum { NR_SEGMENT_LETTER = 'n' }; /* of ftok(3), for sysv:///path; as in transport/sysv.c */

enum nr_segment_kind {
    NR_SEGMENT_FILE,
    NR_SEGMENT_ANONYMOUS,
    NR_SEGMENT_SYSV,
};

struct naru_shm {
    enum nr_segment_kind kind;
    struct nr_named_memory mapping;
};

static int nr_segment_too_large(const char *text, size_t wanted_bytes, size_t there_bytes)
{
    return nr_fail(-EINVAL,
                   "%s has %zu bytes and %zu are asked for; ask for at most that, or remove it and "
                   "create it anew",
                   text, there_bytes, wanted_bytes);
}

/* What was there before must have the size that is asked for. */
static int nr_segment_check_size(const struct nr_named_memory *mapping, const char *text,
                                 size_t wanted_bytes)
{
    if (mapping->size_bytes == 0)
        return nr_fail(-EINVAL,
                       "%s is empty: it has 0 bytes and %zu are asked for; whoever made it has not "
                       "given it a size yet, so try again, or remove it",
                       text, wanted_bytes);
    if (wanted_bytes > mapping->size_bytes)
        return nr_segment_too_large(text, wanted_bytes, mapping->size_bytes);
    return 0;
}

/* -- files ------------------------------------------------------------------------------------ */

static int nr_segment_open_file(struct nr_named_memory *ret, struct nr_named *named,
                                const struct nr_uri *uri)
{
    size_t wanted_bytes = named->size_bytes;
    struct nr_named_memory mapping;

    int result = nr_named_path(named, uri->rest, ".segment");
    if (result == 0)
        result = nr_named_open(&mapping, named);
    if (result < 0)
        return result;
    result = nr_segment_check_size(&mapping, named->text, wanted_bytes);
    if (result < 0) {
        nr_named_deinit(&mapping);
        return result;
    }
    *ret = mapping;
    return 0;
}

static int nr_segment_open_anonymous(struct nr_named_memory *ret, const struct nr_named *named)
{
    struct nr_named_memory mapping = {.size_bytes = named->size_bytes, .created = true};

    if (named->create == NARU_ATTACH)
        return nr_fail(-ENOENT,
                       "shm:// without a name can only be created; it is inherited by fork");
    if (!named->size_bytes)
        return nr_fail(-EINVAL, "shm:// without a name needs a size to be created");
    int result = nr_os_memory_map_anonymous(mapping.size_bytes, &mapping.memory);
    if (result < 0)
        return nr_fail(result, "no memory for a segment of %zu bytes: %s; ask for less",
                       mapping.size_bytes, nr_error_name(result));
    *ret = mapping;
    return 0;
}

/* -- System V --------------------------------------------------------------------------------- */

static int nr_segment_key(int32_t *ret, const struct nr_uri *uri, const char *text)
{
    int64_t number;

    if (nr_uri_is_path(uri)) {
        int result = nr_os_ftok(uri->rest, NR_SEGMENT_LETTER, ret);
        return result < 0 ? nr_fail(result,
                                    "%s: no key can be made of that path: %s; ftok(3) needs a file "
                                    "that exists",
                                    text, nr_error_name(result))
                          : 0;
    }
    int result = nr_uri_number(uri->rest, INT32_MIN, UINT32_MAX, &number);
    if (result < 0 || number == 0)
        return nr_fail(-EINVAL,
                       "%s: the key of a System V segment is a number other than 0, such as "
                       "sysv://1234 or sysv://0x4d2, or the path of a file, sysv:///path",
                       text);
    *ret = (int32_t)(uint32_t)number;
    return 0;
}

static int nr_segment_failed_sysv(const struct nr_named *named, int error)
{
    struct nr_os_segment_limits limits = nr_os_segment_limits();

    switch (error) {
    case -ENOENT:
        return nr_fail(error,
                       "there is no System V segment %s; start the program that creates it, "
                       "or give a size to make it here",
                       named->text);
    case -EACCES:
    case -EPERM:
        return nr_fail(-EACCES,
                       "no permission to read and write the segment %s: its owner sets file_mode "
                       "when creating it; `ipcs -m` shows whose it is",
                       named->text);
    case -EINVAL:
        return nr_fail(error,
                       "a segment of %zu bytes is larger than this system allows (%" PRIu64
                       "); ask for less, or raise it by sysctl kernel.shmmax",
                       named->size_bytes, limits.largest_bytes);
    case -ENOSPC:
        return nr_fail(error,
                       "no room for one more segment, of %zu bytes: there may be %" PRIu64
                       " of them and %" PRIu64
                       " pages in all; remove some (ipcs -m, ipcrm), or raise "
                       "sysctl kernel.shmmni, kernel.shmall",
                       named->size_bytes, limits.segments, limits.total_pages);
    case -ENOMEM:
        return nr_fail(error, "no memory for a segment of %zu bytes; ask for less",
                       named->size_bytes);
    default:
        return nr_fail(error, "the segment %s: %s", named->text, nr_error_name(error));
    }
}

/* -ENOENT, also when it is removed while we look, is returned bare. */
static int nr_segment_attach_sysv(struct nr_named_memory *ret, const struct nr_named *named,
                                  int32_t key)
{
    struct nr_named_memory mapping = {0};
    int id = nr_os_segment_find(key);

    int result = id < 0 ? id : nr_os_segment_size(id, &mapping.size_bytes);
    if (result == 0 && named->size_bytes > mapping.size_bytes)
        return nr_segment_too_large(named->text, named->size_bytes, mapping.size_bytes);
    if (result == 0)
        result = nr_os_segment_map(id, &mapping.memory);
    if (result == -EIDRM || (result == -EINVAL && id >= 0))
        result = -ENOENT;
    if (result == 0)
        *ret = mapping;
    return result == 0 || result == -ENOENT ? result : nr_segment_failed_sysv(named, result);
}

/* -EEXIST, also when it was removed before we could map it, is returned bare. */
static int nr_segment_create_sysv(struct nr_named_memory *ret, const struct nr_named *named,
                                  int32_t key)
{
    struct nr_named_memory mapping = {.size_bytes = named->size_bytes, .created = true};
    int id = nr_os_segment_new(key, named->size_bytes, named->mode);

    if (id < 0)
        return id == -EEXIST ? id : nr_segment_failed_sysv(named, id);
    int result = nr_os_segment_map(id, &mapping.memory);
    if (result == -EIDRM || result == -EINVAL)
        return -EEXIST;
    if (result < 0) {
        nr_os_segment_remove(id);
        return nr_segment_failed_sysv(named, result);
    }
    *ret = mapping;
    return 0;
}

static int nr_segment_open_sysv(struct nr_named_memory *ret, const struct nr_named *named,
                                const struct nr_uri *uri)
{
    bool may_attach = named->create != NARU_CREATE;
    bool may_create = named->create != NARU_ATTACH && named->size_bytes > 0;
    int32_t key;

    int result = nr_segment_key(&key, uri, named->text);
    if (result < 0)
        return result;
    for (;;) { /* as nr_named_open() */
        result = may_attach ? nr_segment_attach_sysv(ret, named, key) : -ENOENT;
        if (result != -ENOENT)
            return result;
        if (!may_create)
            return nr_segment_failed_sysv(named, result);
        result = nr_segment_create_sysv(ret, named, key);
        if (result != -EEXIST)
            return result;
        if (!may_attach)
            return nr_fail(result, "the segment %s exists; attach to it, or remove it first",
                           named->text);
    }
}

/* -- the public functions ----------------------------------------------------------------------- */

static int nr_segment_parse(struct nr_uri *ret, enum nr_segment_kind *ret_kind, const char *text)
{
    int result = nr_uri_parse(ret, text);

    if (result < 0)
        return result;
    if (strcmp(ret->scheme, "sysv") == 0)
        *ret_kind = NR_SEGMENT_SYSV;
    else if (strcmp(ret->scheme, "shm") == 0)
        *ret_kind = ret->rest[0] ? NR_SEGMENT_FILE : NR_SEGMENT_ANONYMOUS;
    else
        return nr_fail(-EPROTONOSUPPORT,
                       "%s://: a segment is shm://name, shm:///path, sysv://key or shm://",
                       ret->scheme);
    return 0;
}

int naru_shm_open(struct naru_shm **ret, const char *uri, size_t size_bytes,
                  const struct naru_options *options)
{
    struct nr_named named = {.kind = "segment", .text = uri, .size_bytes = size_bytes};
    struct nr_uri parsed;
    enum nr_segment_kind kind;

    if (!ret || !uri)
        return nr_fail(-EINVAL, "naru_shm_open() needs a place for the segment, and a URI");
    int result = nr_segment_parse(&parsed, &kind, uri);
    if (result == 0)
        result = nr_named_options(&named, options);
    if (result < 0)
        return result;
    if (size_bytes > PTRDIFF_MAX)
        return nr_fail(-EINVAL, "%s: no segment can have %zu bytes; ask for less", uri, size_bytes);
    if (size_bytes == 0 && named.create == NARU_CREATE)
        return nr_fail(-EINVAL, "%s: a size is needed to create a segment", uri);
    struct naru_shm *segment = calloc(1, sizeof *segment);
    if (!segment)
        return nr_fail(-ENOMEM, "no memory for the handle of a segment");
    segment->kind = kind;
    if (kind == NR_SEGMENT_SYSV)
        result = nr_segment_open_sysv(&segment->mapping, &named, &parsed);
    else if (kind == NR_SEGMENT_FILE)
        result = nr_segment_open_file(&segment->mapping, &named, &parsed);
    else
        result = nr_segment_open_anonymous(&segment->mapping, &named);
    if (result < 0) {
        free(segment);
        return result;
    }
    *ret = segment;
    return 0;
}

void *naru_shm_data(const struct naru_shm *segment)
{
    return segment ? segment->mapping.memory : NULL;
}

size_t naru_shm_size(const struct naru_shm *segment)
{
    return segment ? segment->mapping.size_bytes : 0;
}

int naru_shm_created(const struct naru_shm *segment)
{
    return segment && segment->mapping.created;
}

void naru_shm_close(struct naru_shm *segment)
{
    if (!segment)
        return;
    if (segment->kind == NR_SEGMENT_SYSV)
        nr_os_segment_unmap(segment->mapping.memory);
    else
        nr_named_deinit(&segment->mapping);
    free(segment);
}

static int nr_segment_unlink_sysv(const struct nr_uri *uri, const char *text)
{
    const struct nr_named named = {.kind = "segment", .text = text};
    int32_t key;

    int result = nr_segment_key(&key, uri, text);
    if (result < 0)
        return result;
    int id = nr_os_segment_find(key);
    result = id < 0 ? id : nr_os_segment_remove(id);
    if (result == -EIDRM || result == -EINVAL)
        result = -ENOENT;
    if (result == -EPERM)
        return nr_fail(-EACCES, "no permission to remove the segment %s; only its owner may", text);
    return result < 0 ? nr_segment_failed_sysv(&named, result) : 0;
}

int naru_shm_unlink(const char *uri)
{
    struct nr_named named = {.kind = "segment", .text = uri, .create = NARU_ATTACH};
    struct nr_uri parsed;
    enum nr_segment_kind kind;

    if (!uri)
        return nr_fail(-EINVAL, "naru_shm_unlink() needs a URI");
    int result = nr_segment_parse(&parsed, &kind, uri);
    if (result < 0)
        return result;
    if (kind == NR_SEGMENT_SYSV)
        return nr_segment_unlink_sysv(&parsed, uri);
    if (kind == NR_SEGMENT_ANONYMOUS)
        return nr_fail(-EINVAL,
                       "shm:// without a name has nothing to remove; it goes with its last "
                       "process");
    result = nr_named_path(&named, parsed.rest, ".segment");
    return result < 0 ? result : nr_named_unlink(&named);
}
