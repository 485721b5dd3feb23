/* SPDX-License-Identifier: MIT */
#pragma once
/* recv -- what `naru recv`, `naru sub` and `naru cell` share: to print what comes */
#include <getopt.h>
#include <naru/endpoint.h>
#include <stdbool.h>

enum {
    NR_RECV_COUNT = 1,
    NR_RECV_FOLLOW,
    NR_RECV_TIMEOUT,
    NR_RECV_RAW,
    NR_RECV_HEX,
    NR_RECV_JSON,
    NR_RECV_NULL,
    NR_RECV_TYPE,
    NR_RECV_FROM,
};

/* clang-format off */
#define NR_RECV_COMMON_LONG                                                                        \
    {"count", required_argument, NULL, NR_RECV_COUNT},                                             \
        {"follow", no_argument, NULL, NR_RECV_FOLLOW},                                             \
        {"timeout", required_argument, NULL, NR_RECV_TIMEOUT},                                     \
        {"raw", no_argument, NULL, NR_RECV_RAW},                                                   \
        {"hex", no_argument, NULL, NR_RECV_HEX},                                                   \
        {"json", no_argument, NULL, NR_RECV_JSON},                                                 \
        {"null", no_argument, NULL, NR_RECV_NULL}
/* clang-format on */

struct nr_recv_form {
    const struct option *options; /* for getopt_long() */
    enum naru_pattern pattern;    /* 0: whatever the channel has */
    bool takes_one;               /* unless it follows, or is told how many */
    bool tells_losses;            /* on standard error */
    /* What to do with a second argument, or NULL: there is none. The exit code. */
    int (*set)(const char *uri, const char *value, const struct naru_options *options);
};

int nr_recv_main(int argc, char **argv, const struct nr_recv_form *form);
