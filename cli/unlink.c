/* SPDX-License-Identifier: MIT */
#include "command.h"
#include "output.h"
#include <getopt.h>
#include <naru/endpoint.h>

static const char nr_unlink_help[] =
    "Usage: naru unlink URI...\n"
    "\n"
    "Removes what the names stand for: a FIFO, queue, segment, journal or socket file, with all that is\n"
    "in it. Processes that have it open go on until they close it.\n"
    "\n"
    "Examples:\n"
    "  naru unlink mq://jobs\n"
    "  naru unlink sysv://1234 fifo:///tmp/pipe\n"
    "\n"
    "Exit codes: 0 removed, 1 failed (nothing there, no permission, not a channel), 2 wrong usage.\n";

static const struct option nr_unlink_options[] = {{0}};

static int nr_unlink_run(int argc, char **argv)
{
    int code = NR_EXIT_OK;

    if (getopt_long(argc, argv, "", nr_unlink_options, NULL) != -1)
        return nr_output_hint_usage();
    if (optind == argc)
        return nr_output_complain_usage("a URI is missing, such as mq://jobs");
    for (int i = optind; i < argc; i++) {
        if (naru_unlink(argv[i]) < 0) {
            nr_output_complain("%s", naru_error_text());
            code = NR_EXIT_FAILURE;
        }
    }
    return code;
}

const struct nr_command nr_unlink_command = {
    .name = "unlink",
    .summary = "remove a channel's name and what it holds",
    .help = nr_unlink_help,
    .run = nr_unlink_run,
};
