/* SPDX-License-Identifier: MIT */
#pragma once
/* send -- what `naru send` and `naru pub` share: all but the pattern, and the options of that */
#include <getopt.h>
#include <naru/endpoint.h>

enum { NR_SEND_TYPE = 1, NR_SEND_WAIT, NR_SEND_NULL, NR_SEND_WHOLE };

/* clang-format off */
#define NR_SEND_LONG                                                                               \
    {"type", required_argument, NULL, NR_SEND_TYPE},                                               \
        {"wait", required_argument, NULL, NR_SEND_WAIT},                                           \
        {"null", no_argument, NULL, NR_SEND_NULL},                                                 \
        {"whole", no_argument, NULL, NR_SEND_WHOLE}
/* clang-format on */

/* Sends the message of the arguments, or standard input. `pattern` 0: whatever the channel has. The exit code. */
int nr_send_main(int argc, char **argv, const struct option *options, enum naru_pattern pattern);
