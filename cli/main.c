/* SPDX-License-Identifier: MIT */
/*
 * main -- the command `naru`: finds the subcommand and sees that its output has arrived
 *
 * What       Parse, one call, exit code. The subcommands stand in a file each.
 * Signals    SIGPIPE is ignored: a reader that went away is a write error, told at the end.
 */
#include "command.h"
#include "output.h"
#include <fcntl.h>
#include <locale.h>
#include <naru/base.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct nr_command *const nr_main_commands[] = {
    &nr_tour_command,  &nr_sum_command,    &nr_map_command,        &nr_send_command,
    &nr_recv_command,  &nr_pub_command,    &nr_sub_command,        &nr_cell_command,
    &nr_call_command,  &nr_answer_command, &nr_stat_command,       &nr_signals_command,
    &nr_kill_command,  &nr_run_command,    &nr_transports_command, &nr_unlink_command,
    &nr_bench_command, &nr_httpd_command,
};
enum { NR_MAIN_COMMANDS_COUNT = sizeof nr_main_commands / sizeof nr_main_commands[0] };

static const struct nr_command *nr_main_find(const char *name)
{
    for (int i = 0; i < NR_MAIN_COMMANDS_COUNT; i++)
        if (strcmp(nr_main_commands[i]->name, name) == 0)
            return nr_main_commands[i];
    return NULL;
}

static void nr_main_print_help(FILE *out)
{
    fprintf(
        out,
        "Naru carries messages between the processes of one machine: over a file, pipe, message\n"
        "queue, shared memory, signal, semaphore or socket, all by one URI.\n"
        "\n"
        "Usage: naru COMMAND [OPTION]...\n"
        "       naru COMMAND --help\n"
        "\n"
        "Commands:\n");
    for (int i = 0; i < NR_MAIN_COMMANDS_COUNT; i++)
        fprintf(out, "  %-12s %s\n", nr_main_commands[i]->name, nr_main_commands[i]->summary);
    fprintf(
        out,
        "\n"
        "Options:\n"
        "  --help       this text, or after a command: how to use it\n"
        "  --version    the version of naru\n"
        "\n"
        "Two shells can talk:\n"
        "  naru recv mq://jobs --follow      in one\n"
        "  seq 1000 | naru send mq://jobs    in the other\n"
        "\n"
        "Data goes to standard output, all else to standard error. Every command that prints data\n"
        "has --json. Exit codes: 0 done, 1 failed, 2 wrong usage, 124 the time was over.\n");
}

/* A file that is opened next must not become standard output because that was closed. What is opened
   here can't be used in the closed one's direction, so a write to a closed output is still an error. */
static void nr_main_hold_standard_files(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)!open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

static int nr_main_run(const struct nr_command *command, int argc, char **argv)
{
    static char name[64];

    snprintf(name, sizeof name, "naru %s", command->name);
    nr_output_set_name(name);
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(command->help, stdout);
            return NR_EXIT_OK;
        }
    }
    argv[0] = name;
    return command->run(argc, argv);
}

static int nr_main_dispatch(int argc, char **argv)
{
    const char *first = argc > 1 ? argv[1] : NULL;

    if (!first) {
        nr_main_print_help(stderr);
        return NR_EXIT_USAGE;
    }
    if (strcmp(first, "--version") == 0 || strcmp(first, "-V") == 0) {
        printf("naru %s\n", naru_version());
        return NR_EXIT_OK;
    }
    bool wants_help = strcmp(first, "help") == 0;
    if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0 || (wants_help && argc == 2)) {
        nr_main_print_help(stdout);
        return NR_EXIT_OK;
    }
    const struct nr_command *command = nr_main_find(wants_help ? argv[2] : first);
    if (!command) {
        nr_output_complain("there is no command \"%s\"", wants_help ? argv[2] : first);
        fprintf(stderr, "`naru --help` lists the commands.\n");
        return NR_EXIT_USAGE;
    }
    if (wants_help) {
        fputs(command->help, stdout);
        return NR_EXIT_OK;
    }
    return nr_main_run(command, argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    nr_main_hold_standard_files();
    setlocale(LC_CTYPE, "");
    signal(SIGPIPE, SIG_IGN);
    return nr_output_finish(nr_main_dispatch(argc, argv));
}
