/* SPDX-License-Identifier: MIT */
/* cell -- sets or prints the newest value of a cell; the printing is in recv.c */
#include "arguments.h"
#include "command.h"
#include "output.h"
#include "recv.h"
#include <string.h>

static const char nr_cell_help[] =
    "Usage: naru cell URI [VALUE] [OPTION]...\n"
    "\n"
    "Sets a cell to VALUE; or, without one, prints the value that it has, and waits for a first one.\n"
    "A cell has one writer at a time. Its value stays when all have gone.\n"
    "\n"
    "Options, for printing:\n"
    "  --follow         go on with each newer value, until SIGINT or SIGTERM (exit code 0); values that\n"
    "                   are replaced faster than they are printed are left out\n"
    "  --count N        end after N values\n"
    "  --timeout S      end with exit code 124 when nothing new came for S seconds, or \"forever\"\n"
    "                   (default 10; with --follow forever)\n"
    "  --raw            the bytes as they are, nothing between messages\n"
    "  --null           a zero byte after each message, instead of a line's end\n"
    "  --hex            a line of hexadecimal digits a message\n"
    "  --json           an object a line, as `naru recv` prints it\n"
    "  --read-only      map the cell read-only, and leave no trace; with VALUE: create the cell for those\n"
    "\n" NR_ARGUMENTS_CHANNEL_HELP "\n"
    "Examples:\n"
    "  naru cell shm://temperature 21.5\n"
    "  naru cell shm://temperature\n"
    "  naru cell shm://temperature --follow\n"
    "\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 124 there was no value in time.\n";

static const struct option nr_cell_options[] = {
    NR_RECV_COMMON_LONG,
    NR_ARGUMENTS_READ_ONLY_LONG,
    NR_ARGUMENTS_CHANNEL_LONG,
    {0},
};

static int nr_cell_set(const char *uri, const char *value, const struct naru_options *options)
{
    struct naru_endpoint *writer = NULL;
    int result = naru_open(&writer, uri, NARU_SENDER, options);

    if (result == 0)
        result = naru_send(writer, value, strlen(value), 0);
    if (result < 0)
        nr_output_complain("%s", naru_error_text());
    naru_close(writer);
    return result < 0 ? NR_EXIT_FAILURE : NR_EXIT_OK;
}

static int nr_cell_run(int argc, char **argv)
{
    static const struct nr_recv_form form = {
        .options = nr_cell_options,
        .pattern = NARU_CELL,
        .takes_one = true,
        .set = nr_cell_set,
    };

    return nr_recv_main(argc, argv, &form);
}

const struct nr_command nr_cell_command = {
    .name = "cell",
    .summary = "set or print the newest value of something",
    .help = nr_cell_help,
    .run = nr_cell_run,
};
