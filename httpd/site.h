/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * site -- the files beneath a directory, as answers to requests
 *
 * What       Each request opens its file anew, beneath the root and by openat2(2), so no answer is stale, and no "..", link
 *            or magic link leads out. Regular files only. A directory is its index.html.
 * Conditions ETag, If-Match, If-Unmodified-Since, If-None-Match, If-Modified-Since, Range, If-Range, as RFC 9110 has them.
 *            Who asks for several ranges at once gets the whole, as 14.2 there allows: clients that want that are rare, and many
 *            overlapping ranges are a way to make a server send much more than it has.
 * Memory     Small files are read at once; larger ones are left to sendfile(2).
 * Fork       The root's descriptor is good in the child as well.
 */
#include "http.h"

struct nr_site {
    int root_fd; /* -1: none */
};
#define NR_SITE_NULL                                                                               \
    {                                                                                              \
        .root_fd = -1                                                                              \
    }

int nr_site_open(struct nr_site *site, const char *root); /* -errno */
void nr_site_close(struct nr_site *site);

void nr_site_answer(const struct nr_site *site, const struct nr_http_request *request,
                    struct nr_http_answer *answer);
