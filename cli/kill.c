/* SPDX-License-Identifier: MIT */
/* kill -- naru kill: a signal to one process, with a value if there is one */
#include "arguments.h"
#include "command.h"
#include "output.h"
#include <naru/signal.h>
#include <string.h>

static const char nr_kill_help[] =
    "Usage: naru kill PID SIGNAL [VALUE]\n"
    "\n"
    "Sends a signal to a process; with VALUE as sigqueue(3) does, with that whole number of 64 bits. SIGNAL is\n"
    "a name with or without SIG, in capitals or not, a number, RTMIN+N or RTMAX-N. 0 sends nothing, and\n"
    "tells by the exit code whether it could. `naru signals` lists all signals.\n"
    "\n"
    "A real-time signal queues, and each one arrives with its value. Of any other signal only the first arrives\n"
    "while it is pending. What the process does with it is not asked: `naru signals PID` shows that.\n"
    "\n"
    "Options:\n"
    "  --help   this text\n"
    "\n"
    "Examples:\n"
    "  naru kill 4711 TERM\n"
    "  naru kill 4711 RTMIN+3 -5\n"
    "  naru kill 4711 0 && echo it lives\n"
    "\n"
    "Exit codes: 0 sent, 1 failed (no such process, no permission, too many pending), 2 wrong usage.\n";

struct nr_kill {
    int64_t pid;
    int number;
    const char *value_text; /* NULL: none */
    uint64_t value;
};

static int nr_kill_parse(struct nr_kill *kill, int argc, char **argv)
{
    __int128 pid = 0, value = 0;
    int first = argc > 1 && strcmp(argv[1], "--") == 0 ? 2 : 1;

    if (argc - first > 0 && argv[first][0] == '-')
        return nr_output_complain_usage(
            "\"%s\" stands where the process should; the form is naru kill PID SIGNAL",
            argv[first]);
    if (argc - first < 2)
        return nr_output_complain_usage("%s is missing",
                                        argc == first ? "the pid of a process" : "the signal");
    if (argc - first > 3)
        return nr_output_complain_usage("\"%s\" is one argument too many", argv[first + 3]);
    int code = nr_arguments_integer(&pid, "PID", argv[first], 1, INT32_MAX);
    if (code)
        return code;
    kill->pid = (int64_t)pid;
    kill->number = naru_signal_number(argv[first + 1]);
    if (kill->number < 0)
        return nr_output_complain_usage("%s", naru_error_text());
    kill->value_text = argc - first == 3 ? argv[first + 2] : NULL;
    if (kill->value_text)
        code = nr_arguments_integer(&value, "VALUE", kill->value_text, INT64_MIN, UINT64_MAX);
    kill->value = (uint64_t)value;
    return code;
}

static int nr_kill_run(int argc, char **argv)
{
    struct naru_signal_target *target = NULL;
    struct nr_kill kill = {0};

    int code = nr_kill_parse(&kill, argc, argv);
    if (code)
        return code;
    int result = naru_signal_target_open(&target, kill.pid);
    if (result == 0)
        result = kill.value_text ? naru_signal_send_value(target, kill.number, kill.value)
                                 : naru_signal_send(target, kill.number);
    if (result < 0)
        nr_output_complain("%s", naru_error_text());
    naru_signal_target_close(target);
    return result < 0 ? NR_EXIT_FAILURE : NR_EXIT_OK;
}

const struct nr_command nr_kill_command = {
    .name = "kill",
    .summary = "send a signal to a process, with a value",
    .help = nr_kill_help,
    .run = nr_kill_run,
};
