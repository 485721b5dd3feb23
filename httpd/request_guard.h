/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * request_guard -- what a request must not hold, whatever the HTTP library lets pass
 *
 * What       A request that two programs may understand in two ways is refused: a proxy before us might see
 *            two requests where we see one (request smuggling, RFC 9112, 11.2). So no body is taken at all, there is
 *            exactly one Host, and no control character stands anywhere.
 * Use        nr_request_guard_field() for each header field in its order, then nr_request_guard_verdict().
 * Memory     Borrows; keeps nothing but the struct.
 */
#include <stdbool.h>
#include <stddef.h>

struct nr_request_guard {
    int status; /* 0: nothing wrong so far */
    const char *reason;
    int hosts_count;
};

void nr_request_guard_field(struct nr_request_guard *guard, const char *name, size_t name_bytes,
                            const char *value, size_t value_bytes);

/* The status to refuse it with, and the sentence for it in guard->reason; 0: let it pass. */
int nr_request_guard_verdict(struct nr_request_guard *guard, const char *method,
                             const char *target);

/*
 * The path of a target, decoded, into `path` of strlen(target) + 1 bytes; its query. False: it is not a path
 * that we take: no '/', a broken %XX, a control character, also a coded one.
 */
bool nr_request_guard_path(const char *target, char *path, const char **ret_query);
