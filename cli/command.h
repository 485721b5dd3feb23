/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * command -- what a subcommand is; main.c holds the table of them
 *
 * To add one: write cli/NAME.c with a `const struct nr_command nr_NAME_command`, declare it here, and
 * add it to the table in main.c and to meson.build.
 */

/* The exit codes of every subcommand. A failure has told its reason on standard error. */
enum nr_exit {
    NR_EXIT_OK = 0,
    NR_EXIT_FAILURE = 1,
    NR_EXIT_USAGE = 2,
    NR_EXIT_TIMEOUT = 124,
};

struct nr_command {
    const char *name;
    const char *summary; /* for `naru --help`, without a full stop */
    const char *help;    /* all of `naru NAME --help` */
    /* argv[0] is "naru NAME", so that getopt_long() names the command in its messages. */
    int (*run)(int argc, char **argv);
};

extern const struct nr_command nr_map_command, nr_tour_command, nr_sum_command, nr_bench_command,
    nr_send_command, nr_recv_command, nr_pub_command, nr_sub_command, nr_cell_command,
    nr_call_command, nr_answer_command, nr_stat_command, nr_signals_command, nr_kill_command,
    nr_transports_command, nr_unlink_command, nr_httpd_command, nr_run_command;
