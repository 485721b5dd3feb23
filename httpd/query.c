/* SPDX-License-Identifier: MIT */
#include "query.h"
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Where the value of `name` begins, and its length. */
static const char *nr_query_find(const char *query, const char *name, size_t *ret_bytes)
{
    size_t length = strlen(name);

    for (const char *at = query; *at; at += strcspn(at, "&"), at += *at == '&')
        if (strncmp(at, name, length) == 0 && at[length] == '=') {
            *ret_bytes = strcspn(at + length + 1, "&");
            return at + length + 1;
        }
    return NULL;
}

bool nr_query_text(const char *query, const char *name, char *value, size_t size_bytes)
{
    size_t value_bytes;
    const char *found = nr_query_find(query, name, &value_bytes);

    if (!found || value_bytes >= size_bytes)
        return false;
    memcpy(value, found, value_bytes);
    value[value_bytes] = '\0';
    return true;
}

bool nr_query_integer(const char *query, const char *name, int64_t lowest, int64_t highest,
                      int64_t *value)
{
    size_t value_bytes;
    const char *found = nr_query_find(query, name, &value_bytes);
    char *end;

    if (!found)
        return true;
    if (!value_bytes || (!isdigit((unsigned char)*found) && *found != '-'))
        return false;
    errno = 0;
    long long number = strtoll(found, &end, 10);
    if (errno || end != found + value_bytes || number < lowest || number > highest)
        return false;
    *value = number;
    return true;
}
