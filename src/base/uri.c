/* SPDX-License-Identifier: MIT */
#include "base/uri.h"
#include "base/error.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

int nr_uri_parse(struct nr_uri *ret, const char *text)
{
    const char *colon = text ? strstr(text, "://") : NULL;
    struct nr_uri uri = {0};

    if (!colon || colon == text)
        return nr_fail(-EINVAL,
                       "\"%.100s\" is no URI; the form is scheme://name, such as mq://jobs",
                       text ? text : "(null)");
    size_t scheme_bytes = (size_t)(colon - text);
    size_t rest_bytes = strlen(colon + 3);
    if (scheme_bytes >= sizeof uri.scheme)
        return nr_fail(-EPROTONOSUPPORT,
                       "the scheme of \"%.100s\" is unknown; `naru transports` lists them", text);
    if (rest_bytes >= sizeof uri.rest)
        return nr_fail(-EINVAL, "the URI is %zu bytes long; at most %d may follow the scheme",
                       rest_bytes, NR_URI_REST_BYTES - 1);
    memcpy(uri.scheme, text, scheme_bytes);
    memcpy(uri.rest, colon + 3, rest_bytes);
    *ret = uri;
    return 0;
}

bool nr_uri_is_path(const struct nr_uri *uri)
{
    return uri->rest[0] == '/';
}

int nr_uri_check_name(const struct nr_uri *uri)
{
    size_t length = strlen(uri->rest);

    if (length < 1 || length > NR_URI_NAME_MAX)
        return nr_fail(-EINVAL, "%s://%.80s: a name has 1 to %d characters", uri->scheme, uri->rest,
                       NR_URI_NAME_MAX);
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)uri->rest[i];
        if (!isalnum(c) && c != '_' && c != '-' && (c != '.' || i == 0))
            return nr_fail(-EINVAL,
                           "%s://%.80s: a name is made of letters, digits, '_', '-' and '.', and "
                           "does not begin with '.'",
                           uri->scheme, uri->rest);
    }
    return 0;
}

int nr_uri_check_path(const struct nr_uri *uri)
{
    size_t length = strlen(uri->rest);

    if (length < 2 || uri->rest[0] != '/' || uri->rest[length - 1] == '/')
        return nr_fail(-EINVAL,
                       "%s://%.80s: an absolute path to a file must follow, such as %s:///tmp/jobs",
                       uri->scheme, uri->rest, uri->scheme);
    return 0;
}

int nr_uri_number(const char *text, int64_t lowest, int64_t highest, int64_t *ret)
{
    char *end = NULL;
    bool hexadecimal = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');

    errno = 0;
    long long value = strtoll(text, &end, hexadecimal ? 16 : 10);
    bool begins_well = isdigit((unsigned char)text[0]) || (text[0] == '-' && lowest < 0);
    if (!begins_well || *end || errno || value < lowest || value > highest)
        return nr_fail(-EINVAL, "\"%.80s\" is not a whole number from %lld to %lld", text,
                       (long long)lowest, (long long)highest);
    *ret = value;
    return 0;
}
