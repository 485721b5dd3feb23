/* SPDX-License-Identifier: MIT */
/* sub -- subscribes to a topic; the work is in recv.c */
#include "arguments.h"
#include "command.h"
#include "recv.h"

static const char nr_sub_help[] =
    "Usage: naru sub URI [OPTION]...\n"
    "\n"
    "Subscribes to a topic, and prints its messages, a line each. Ends when nothing came for a second\n"
    "after a message. What was lost is told on standard error.\n"
    "\n"
    "Options:\n"
    "  --from WHERE     begin with what is published from \"now\" on (the default), with the \"oldest\"\n"
    "                   that is kept, or with \"last:N\", the last N of those\n"
    "  --read-only      map the topic read-only, and leave no trace: for one that overwrites, and whose\n"
    "                   creator has provided for it (--read-only, or a --mode such as 644)\n"
    "  --follow         go on for ever, until SIGINT or SIGTERM (exit code 0)\n"
    "  --count N        end after N messages\n"
    "  --timeout S      end with exit code 124 when nothing came for S seconds, or \"forever\"\n"
    "                   (default 10; with --follow forever)\n"
    "  --raw            the bytes as they are, nothing between messages\n"
    "  --null           a zero byte after each message, instead of a line's end\n"
    "  --hex            a line of hexadecimal digits a message\n"
    "  --json           an object a line, as `naru recv` prints it\n"
    "  --when-full WHAT block, fail, drop-newest or overwrite-oldest: if this creates the topic\n"
    "\n" NR_ARGUMENTS_CHANNEL_HELP "\n"
    "Examples:\n"
    "  naru sub shm://prices --follow\n"
    "  naru sub shm://prices --from last:1 --count 1 --json\n"
    "\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 124 nothing came in time.\n";

static const struct option nr_sub_options[] = {
    NR_RECV_COMMON_LONG,
    {"from", required_argument, NULL, NR_RECV_FROM},
    NR_ARGUMENTS_TOPIC_LONG,
    NR_ARGUMENTS_CHANNEL_LONG,
    {0},
};

static int nr_sub_run(int argc, char **argv)
{
    static const struct nr_recv_form form = {
        .options = nr_sub_options,
        .pattern = NARU_TOPIC,
        .tells_losses = true,
    };

    return nr_recv_main(argc, argv, &form);
}

const struct nr_command nr_sub_command = {
    .name = "sub",
    .summary = "subscribe to a topic, and print its messages",
    .help = nr_sub_help,
    .run = nr_sub_run,
};
