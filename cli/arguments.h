/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * arguments -- reads the values of options; what is wrong is told with what would be right
 *
 * Returns    0, or NR_EXIT_USAGE with a complaint. *ret is untouched then.
 */
#include <naru/endpoint.h>

/* Decimal or 0x hexadecimal. */
int nr_arguments_integer(__int128 *ret, const char *option, const char *text, __int128 lowest,
                         __int128 highest);

/* A number of bytes, with k, M or G (1,024 each). */
int nr_arguments_size(size_t *ret, const char *option, const char *text);

/* Seconds with a fraction, or "forever", as nanoseconds. */
int nr_arguments_seconds(int64_t *ret, const char *option, const char *text);

/*
 * The options that describe a channel, the same for `send`, `recv` and their like. Put NR_ARGUMENTS_CHANNEL_LONG
 * into the list for getopt_long(), NR_ARGUMENTS_CHANNEL_HELP into the help, and give what it finds
 * to nr_arguments_channel().
 */
enum {
    NR_ARGUMENTS_CREATE = 1000,
    NR_ARGUMENTS_ATTACH,
    NR_ARGUMENTS_MESSAGE_SIZE,
    NR_ARGUMENTS_CAPACITY,
    NR_ARGUMENTS_PAYLOAD,
    NR_ARGUMENTS_MODE,
    NR_ARGUMENTS_ONE_TO_ONE,
    NR_ARGUMENTS_SIGNAL,
    NR_ARGUMENTS_WHEN_FULL,
    NR_ARGUMENTS_READ_ONLY,
};

/* clang-format off */
#define NR_ARGUMENTS_CHANNEL_LONG                                                                  \
    {"create", no_argument, NULL, NR_ARGUMENTS_CREATE},                                            \
        {"attach", no_argument, NULL, NR_ARGUMENTS_ATTACH},                                        \
        {"message-size", required_argument, NULL, NR_ARGUMENTS_MESSAGE_SIZE},                      \
        {"capacity", required_argument, NULL, NR_ARGUMENTS_CAPACITY},                              \
        {"payload", required_argument, NULL, NR_ARGUMENTS_PAYLOAD},                                \
        {"mode", required_argument, NULL, NR_ARGUMENTS_MODE},                                      \
        {"one-to-one", no_argument, NULL, NR_ARGUMENTS_ONE_TO_ONE},                                \
        {"signal", required_argument, NULL, NR_ARGUMENTS_SIGNAL}
/* clang-format on */

/* For topics and cells besides. */
/* clang-format off */
#define NR_ARGUMENTS_READ_ONLY_LONG {"read-only", no_argument, NULL, NR_ARGUMENTS_READ_ONLY}
#define NR_ARGUMENTS_TOPIC_LONG                                                                    \
    {"when-full", required_argument, NULL, NR_ARGUMENTS_WHEN_FULL}, NR_ARGUMENTS_READ_ONLY_LONG
/* clang-format on */

#define NR_ARGUMENTS_CHANNEL_HELP                                                                  \
    "The channel (whoever creates it decides; what the other side sets must agree):\n"             \
    "  --create             create it; fail if it exists\n"                                        \
    "  --attach             use the one that exists; fail if there is none\n"                      \
    "                       (default: either)\n"                                                   \
    "  --message-size SIZE  largest message, in bytes or with k, M, G\n"                           \
    "  --capacity N         messages that fit in\n"                                                \
    "  --payload SIZE       shm://: room for large messages in all\n"                              \
    "  --mode OCTAL         permission bits of what is created (default 600)\n"                    \
    "  --one-to-one         exactly one sender and one receiver\n"                                 \
    "  --signal N           signal://: the signal's number or name (default RTMIN+1)\n"

/* -1: not one of these options. */
int nr_arguments_channel(struct naru_options *options, int option, const char *text);
