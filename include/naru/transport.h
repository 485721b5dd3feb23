/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * transport -- what each technique can do, as data
 *
 * One row for each scheme and pattern. It is what naru_open() decides by and what
 * `naru transports` prints, so the two cannot differ.
 */
#include <naru/endpoint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct naru_transport_row {
    const char *scheme;    /* "pipe" */
    const char *technique; /* "pipe", "message queue", "shared memory", ... */
    enum naru_pattern pattern;
    int supported;         /* 0: naru_open() refuses with -EOPNOTSUPP and the text `note` */
    int can_pair;          /* naru_pair() makes it */
    int can_be_both;       /* NARU_BOTH by name */
    const char *example;   /* "pipe://" */
    const char *receivers; /* who gets a message */
    const char *sender_killed;
    const char *receiver_killed;
    const char *descriptor; /* how naru_fd() comes about */
    const char *largest;    /* largest message */
    const char *note;       /* why not, or what else to know; may be "" */
};

/* Row `index` of the table, or NULL behind the last one. Static memory; any thread. */
NARU_API const struct naru_transport_row *naru_transport_row(size_t index);

#ifdef __cplusplus
}
#endif
