/* SPDX-License-Identifier: MIT */
#pragma once
/* query -- the values in "from=1&to=10" */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The value of `name`, as it was sent. False: there is none, or it does not fit. */
bool nr_query_text(const char *query, const char *name, char *value, size_t size_bytes);

/* A decimal number in [lowest, highest]. Without one *value stays as it is; false: it is something else. */
bool nr_query_integer(const char *query, const char *name, int64_t lowest, int64_t highest,
                      int64_t *value);
