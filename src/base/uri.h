/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * uri -- scheme://rest, taken apart and checked
 *
 * Returns    0, or -EINVAL with a text that shows the right form.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NR_URI_SCHEME_BYTES = 16, NR_URI_REST_BYTES = 1024, NR_URI_NAME_MAX = 200 };

struct nr_uri {
    char scheme[NR_URI_SCHEME_BYTES];
    char rest[NR_URI_REST_BYTES]; /* what follows "://" ; a path begins with '/' */
};

int nr_uri_parse(struct nr_uri *ret, const char *text);
bool nr_uri_is_path(const struct nr_uri *uri);

/* A plain name: 1 to NR_URI_NAME_MAX of letters, digits, '.', '_', '-', not beginning with '.'. */
int nr_uri_check_name(const struct nr_uri *uri);

/* An absolute path that does not end in '/'. */
int nr_uri_check_path(const struct nr_uri *uri);

/* A whole number, decimal or 0x hexadecimal, lowest..highest. */
int nr_uri_number(const char *text, int64_t lowest, int64_t highest, int64_t *ret);
