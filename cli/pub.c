/* SPDX-License-Identifier: MIT */
/* pub -- publishes to a topic; the work is in send.c */
#include "arguments.h"
#include "command.h"
#include "send.h"

static const char nr_pub_help[] =
    "Usage: naru pub URI [MESSAGE] [OPTION]...\n"
    "\n"
    "Publishes MESSAGE to a topic, or, without one, standard input: a message a line. Every subscriber\n"
    "gets each message. What is published while nobody subscribes is kept, as far as it fits.\n"
    "\n"
    "Options:\n"
    "  --when-full WHAT     the topic, when its slowest subscriber has not received what is kept:\n"
    "                       block (wait; the default), fail, drop-newest, overwrite-oldest\n"
    "  --read-only          the topic is made for subscribers that may only read (overwrite-oldest)\n"
    "  --type N             the message's type\n"
    "  --wait S             wait at most S seconds for room; 0 tries once (default 10)\n"
    "  --null               messages in standard input end with a zero byte, not with a line's end\n"
    "  --whole              standard input is one message\n"
    "\n" NR_ARGUMENTS_CHANNEL_HELP "\n"
    "Examples:\n"
    "  naru pub shm://prices \"KRW 1385.2\"\n"
    "  seq 1000 | naru pub shm://numbers --when-full overwrite-oldest\n"
    "\n"
    "Exit codes: 0 all published, 1 failed, 2 wrong usage, 124 a subscriber did not make room.\n";

static const struct option nr_pub_options[] = {
    NR_SEND_LONG,
    NR_ARGUMENTS_TOPIC_LONG,
    NR_ARGUMENTS_CHANNEL_LONG,
    {0},
};

static int nr_pub_run(int argc, char **argv)
{
    return nr_send_main(argc, argv, nr_pub_options, NARU_TOPIC);
}

const struct nr_command nr_pub_command = {
    .name = "pub",
    .summary = "publish to a topic, of which every subscriber gets each message",
    .help = nr_pub_help,
    .run = nr_pub_run,
};
