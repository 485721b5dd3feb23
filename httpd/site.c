/* SPDX-License-Identifier: MIT */
/*
 * site -- see site.h
 *
 * Contents   opening beneath the root - dates and tags - ranges - the answer
 */
#include "site.h"
#include "media.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    NR_SITE_READ_BYTES = 32 * 1024, /* up to here a read and one send beat sendfile(2) */
    NR_SITE_TAG_BYTES = 64,
    NR_SITE_DATE_BYTES = 32,
};

#define NR_SITE_INDEX "index.html"

struct nr_site_file {
    int fd;
    struct stat stat;
    const char *path; /* the request's, for the media type */
    char tag[NR_SITE_TAG_BYTES];
};

/* -- opening beneath the root -------------------------------------------------------------- */

int nr_site_open(struct nr_site *site, const char *root)
{
    site->root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return site->root_fd < 0 ? -errno : 0;
}

void nr_site_close(struct nr_site *site)
{
    if (site->root_fd >= 0)
        close(site->root_fd);
    site->root_fd = -1;
}

/* A ".." that stays inside is harmless, but nobody who means well sends one. */
static bool nr_site_climbs(const char *path)
{
    for (const char *at = path; (at = strstr(at, "/..")); at += 3)
        if (at[3] == '/' || at[3] == '\0')
            return true;
    return false;
}

static int nr_site_open_beneath(const struct nr_site *site, int directory, const char *path)
{
    struct open_how how = {
        .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, /* a FIFO must not hold us up */
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    long fd;

    /* EAGAIN: something was renamed meanwhile, and the kernel is not sure. */
    do
        fd = syscall(SYS_openat2, directory >= 0 ? directory : site->root_fd, path, &how,
                     sizeof how);
    while (fd < 0 && (errno == EINTR || errno == EAGAIN));
    return fd < 0 ? -errno : (int)fd;
}

/* The file that a path names: 0, or the status that says why not. 301: it is a directory, and lacks its '/'. */
static int nr_site_find(const struct nr_site *site, const char *path, struct nr_site_file *file)
{
    size_t length = strlen(path);

    if (length >= PATH_MAX)
        return 414;
    if (nr_site_climbs(path))
        return 400;
    const char *relative = path + strspn(path, "/");
    int fd = nr_site_open_beneath(site, -1, *relative ? relative : ".");
    bool is_known = fd >= 0 && fstat(fd, &file->stat) == 0;
    if (is_known && S_ISDIR(file->stat.st_mode)) {
        if (path[length - 1] != '/') {
            close(fd);
            return 301;
        }
        /* Beneath the directory, which is more than beneath the root. */
        int index = nr_site_open_beneath(site, fd, NR_SITE_INDEX);
        close(fd);
        fd = index;
        is_known = fd >= 0 && fstat(fd, &file->stat) == 0;
        file->path = NR_SITE_INDEX;
    }
    if (fd < 0)
        switch (-fd) {
        case EACCES:
        case EPERM:
        case EXDEV: /* it leads out of the root */
        case ELOOP:
            return 403;
        case EMFILE:
        case ENFILE:
        case ENOMEM:
            return 503;
        case EIO:
            return 500;
        default:
            return 404;
        }
    if (is_known && S_ISREG(file->stat.st_mode)) {
        file->fd = fd;
        return 0;
    }
    close(fd);
    return 403;
}

/* -- dates and tags ------------------------------------------------------------------------ */

static void nr_site_date(char text[NR_SITE_DATE_BYTES], time_t when)
{
    struct tm parts;

    gmtime_r(&when, &parts);
    strftime(text, NR_SITE_DATE_BYTES, "%a, %d %b %Y %H:%M:%S GMT", &parts);
}

/* False: it is no date of HTTP's. The two obsolete forms are understood as well (RFC 9110, 5.6.7). */
static bool nr_site_parse_date(const char *text, time_t *ret)
{
    static const char *const forms[] = {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT",
                                        "%a %b %d %H:%M:%S %Y"};

    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        struct tm parts = {0};
        const char *end = strptime(text, forms[i], &parts);
        if (end && *end == '\0') {
            *ret = timegm(&parts);
            return true;
        }
    }
    return false;
}

/* Whether a list of tags names this one. A weak one counts where `weak_counts`. */
static bool nr_site_has_tag(const char *list, const char *tag, bool weak_counts)
{
    size_t length = strlen(tag);

    if (strcmp(list, "*") == 0)
        return true;
    while (*list) {
        list += strspn(list, " \t,");
        bool is_weak = strncmp(list, "W/", 2) == 0;
        const char *begin = list + (is_weak ? 2 : 0);
        if (*begin != '"')
            return false;
        const char *end = strchr(begin + 1, '"');
        if (!end)
            return false;
        end++;
        if ((!is_weak || weak_counts) && (size_t)(end - begin) == length &&
            strncmp(begin, tag, length) == 0)
            return true;
        list = end;
    }
    return false;
}

/* The client wants the answer only of the file that it knows (RFC 9110, 13.1.1 and 13.1.4). */
static bool nr_site_is_another(const struct nr_http_request *request,
                               const struct nr_site_file *file)
{
    const char *tags = nr_http_header(request, "If-Match");
    const char *since = nr_http_header(request, "If-Unmodified-Since");
    time_t when;

    if (tags)
        return !nr_site_has_tag(tags, file->tag, false);
    return since && nr_site_parse_date(since, &when) && file->stat.st_mtime > when;
}

static bool nr_site_is_unchanged(const struct nr_http_request *request,
                                 const struct nr_site_file *file)
{
    const char *tags = nr_http_header(request, "If-None-Match");
    const char *since = nr_http_header(request, "If-Modified-Since");
    time_t when;

    if (tags)
        return nr_site_has_tag(tags, file->tag, true);
    return since && nr_site_parse_date(since, &when) && file->stat.st_mtime <= when;
}

/* -- ranges -------------------------------------------------------------------------------- */

enum nr_site_range { NR_SITE_WHOLE, NR_SITE_PART, NR_SITE_OUTSIDE };

/* Digits only; what is too large for 64 bits is beyond every file. */
static const char *nr_site_number(const char *text, uint64_t *ret)
{
    uint64_t value = 0;

    if (*text < '0' || *text > '9')
        return NULL;
    for (; *text >= '0' && *text <= '9'; text++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
            value = UINT64_MAX;
    *ret = value;
    return text;
}

/* "bytes=a-b", "bytes=a-", "bytes=-n". What is not understood, or several ranges: the whole (RFC 9110, 14.2). */
static enum nr_site_range nr_site_parse_range(const char *text, uint64_t size_bytes,
                                              uint64_t *ret_first, uint64_t *ret_last)
{
    uint64_t first, last = UINT64_MAX;

    if (strncasecmp(text, "bytes=", 6) != 0)
        return NR_SITE_WHOLE;
    text += 6;
    if (*text == '-') {
        text = nr_site_number(text + 1, &last);
        if (!text || *text)
            return NR_SITE_WHOLE;
        if (last == 0 || size_bytes == 0)
            return NR_SITE_OUTSIDE;
        *ret_first = last < size_bytes ? size_bytes - last : 0;
        *ret_last = size_bytes - 1;
        return NR_SITE_PART;
    }
    text = nr_site_number(text, &first);
    if (!text || *text++ != '-')
        return NR_SITE_WHOLE;
    if (*text && !(text = nr_site_number(text, &last)))
        return NR_SITE_WHOLE;
    if (*text || last < first)
        return NR_SITE_WHOLE;
    if (first >= size_bytes)
        return NR_SITE_OUTSIDE;
    *ret_first = first;
    *ret_last = last < size_bytes ? last : size_bytes - 1;
    return NR_SITE_PART;
}

/* If-Range: the range counts only for the file that the client has the other parts of. */
static bool nr_site_range_counts(const struct nr_http_request *request,
                                 const struct nr_site_file *file)
{
    const char *condition = nr_http_header(request, "If-Range");
    time_t when;

    if (!condition)
        return true;
    if (*condition == '"' || *condition == 'W')
        return nr_site_has_tag(condition, file->tag, false);
    return nr_site_parse_date(condition, &when) && file->stat.st_mtime == when;
}

/* -- the answer ---------------------------------------------------------------------------- */

static void nr_site_refuse(const struct nr_http_request *request, struct nr_http_answer *answer,
                           int status)
{
    static const struct {
        int status;
        const char *text;
    } texts[] = {
        {400, "the path goes up"},           {403, "this may not be read"},
        {404, "there is no such file"},      {414, "the path is too long"},
        {500, "the file could not be read"}, {503, "too much is open at the moment"},
    };

    if (status == 301) {
        size_t target_bytes = strcspn(request->target, "?");
        if (target_bytes + strlen(request->query) + 3 > NR_HTTP_VALUE_BYTES) {
            nr_http_say(answer, 404, "there is no such file; there is a directory");
            return;
        }
        nr_http_say(answer, 301, "it is a directory");
        /* "//host" would lead to another server. */
        nr_http_field(answer, "Location", "%s%.*s/%s%s", request->target[1] == '/' ? "/." : "",
                      (int)target_bytes, request->target, *request->query ? "?" : "",
                      request->query);
        return;
    }
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i].status == status)
            nr_http_say(answer, status, texts[i].text);
}

/* Gives `size_bytes` of the file from `first`; the file is closed, now or by the answer. */
static int nr_site_give(struct nr_site_file *file, uint64_t first, uint64_t size_bytes,
                        struct nr_http_answer *answer)
{
    answer->size_bytes = size_bytes;
    if (size_bytes > NR_SITE_READ_BYTES) {
        answer->body = NR_HTTP_FILE;
        answer->fd = file->fd;
        answer->offset = first;
        return 0;
    }
    void *data = malloc(size_bytes + 1);
    ssize_t got = data ? pread(file->fd, data, size_bytes, (off_t)first) : -1;
    close(file->fd);
    if (got != (ssize_t)size_bytes) { /* it was cut at this moment, or the disk has gone */
        free(data);
        return 500;
    }
    answer->body = NR_HTTP_ALLOCATED;
    answer->data = data;
    return 0;
}

static void nr_site_describe(const struct nr_site_file *file, struct nr_http_answer *answer)
{
    char date[NR_SITE_DATE_BYTES];

    nr_site_date(date, file->stat.st_mtime);
    nr_http_field(answer, "ETag", "%s", file->tag);
    nr_http_field(answer, "Last-Modified", "%s", date);
    nr_http_field(answer, "Accept-Ranges", "bytes");
}

void nr_site_answer(const struct nr_site *site, const struct nr_http_request *request,
                    struct nr_http_answer *answer)
{
    struct nr_site_file file = {.fd = -1, .path = request->path};
    uint64_t first = 0, last = 0;

    int status = nr_site_find(site, request->path, &file);
    if (status) {
        nr_site_refuse(request, answer, status);
        return;
    }
    uint64_t size_bytes = (uint64_t)file.stat.st_size;
    snprintf(file.tag, sizeof file.tag, "\"%jx-%jx-%jx.%lx\"", (uintmax_t)file.stat.st_ino,
             (uintmax_t)size_bytes, (uintmax_t)file.stat.st_mtim.tv_sec,
             (unsigned long)file.stat.st_mtim.tv_nsec);
    if (nr_site_is_another(request, &file)) {
        close(file.fd);
        nr_http_say(answer, 412, "the file is not the one that the condition names");
        return;
    }
    if (nr_site_is_unchanged(request, &file)) {
        close(file.fd);
        answer->status = 304;
        nr_site_describe(&file, answer);
        return;
    }
    const char *text = nr_http_header(request, "Range");
    enum nr_site_range range = NR_SITE_WHOLE;
    if (text && nr_site_range_counts(request, &file))
        range = nr_site_parse_range(text, size_bytes, &first, &last);
    if (range == NR_SITE_OUTSIDE) {
        close(file.fd);
        nr_http_say(answer, 416, "the file has no such bytes");
        nr_http_field(answer, "Content-Range", "bytes */%" PRIu64, size_bytes);
        return;
    }
    bool is_part = range == NR_SITE_PART;
    status = nr_site_give(&file, first, is_part ? last - first + 1 : size_bytes, answer);
    if (status) {
        nr_site_refuse(request, answer, status);
        return;
    }
    answer->status = is_part ? 206 : 200;
    nr_http_field(answer, "Content-Type", "%s", nr_media_type(file.path));
    nr_http_field(answer, "X-Content-Type-Options", "nosniff");
    nr_site_describe(&file, answer);
    if (is_part)
        nr_http_field(answer, "Content-Range", "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, first,
                      last, size_bytes);
}
