/* SPDX-License-Identifier: MIT */
#pragma once
/* table -- which scheme is carried by which transport, and what each can do */
#include "transport/endpoint.h"

/* The transport of a scheme, or NULL. */
const struct nr_transport *nr_table_transport(const char *scheme);

/* The row of a scheme and pattern, or NULL. */
const struct naru_transport_row *nr_table_row(const char *scheme, enum naru_pattern pattern);

/* "queue", "topic", ... */
const char *nr_table_pattern_name(enum naru_pattern pattern);
