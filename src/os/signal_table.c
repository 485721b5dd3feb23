/* SPDX-License-Identifier: MIT */
#include "os/signal_table.h"
#include "base/cleanup.h"
#include <assert.h>
#include <signal.h>
#include <stdio.h>

static_assert(_NSIG - 1 == NR_SIGNAL_LAST, "a set of signals has 64 bits");
static_assert(NR_OS_SIGKILL == SIGKILL && NR_OS_SIGTERM == SIGTERM, "as everywhere");

#define NR_SIGNAL(signal, does, ...)                                                               \
    [signal] = {.name = #signal, .number = (signal), .action = NARU_SIGNAL_##does, __VA_ARGS__}

/* Source: signal(7) */
static const struct naru_signal_row nr_os_signal_rows[] = {
    NR_SIGNAL(SIGHUP, ENDS, .meaning = "the terminal is gone; to servers: read your settings anew"),
    NR_SIGNAL(SIGINT, ENDS, .meaning = "interrupt from the keyboard, Ctrl-C"),
    NR_SIGNAL(SIGQUIT, DUMPS, .meaning = "quit from the keyboard, Ctrl-\\"),
    NR_SIGNAL(SIGILL, DUMPS, .meaning = "the processor does not know the instruction"),
    NR_SIGNAL(SIGTRAP, DUMPS, .meaning = "a breakpoint, or a step of a debugger"),
    NR_SIGNAL(SIGABRT, DUMPS, .alias = "SIGIOT", .meaning = "the program gave up, by abort(3)"),
    NR_SIGNAL(SIGBUS, DUMPS,
              .meaning = "memory that is not there: behind a file's end, misaligned"),
    NR_SIGNAL(SIGFPE, DUMPS, .meaning = "arithmetic without a result, such as a division by zero"),
    NR_SIGNAL(SIGKILL, ENDS, .is_fixed = 1, .meaning = "kill; nobody can refuse"),
    NR_SIGNAL(SIGUSR1, ENDS, .meaning = "the program's own, 1"),
    NR_SIGNAL(SIGSEGV, DUMPS, .meaning = "memory that the program may not touch"),
    NR_SIGNAL(SIGUSR2, ENDS, .meaning = "the program's own, 2"),
    NR_SIGNAL(SIGPIPE, ENDS, .meaning = "a write that nobody will read"),
    NR_SIGNAL(SIGALRM, ENDS, .meaning = "the timer of alarm(2) or setitimer(2) is over"),
    NR_SIGNAL(SIGTERM, ENDS, .meaning = "please end"),
#ifdef SIGSTKFLT
    NR_SIGNAL(SIGSTKFLT, ENDS, .meaning = "a coprocessor's stack fault; Linux sends none"),
#endif
    NR_SIGNAL(SIGCHLD, PASSES, .alias = "SIGCLD", .meaning = "a child ended, stopped or continued"),
    NR_SIGNAL(SIGCONT, CONTINUES, .meaning = "go on, if stopped"),
    NR_SIGNAL(SIGSTOP, STOPS, .is_fixed = 1, .meaning = "stop; nobody can refuse"),
    NR_SIGNAL(SIGTSTP, STOPS, .meaning = "stop from the keyboard, Ctrl-Z"),
    NR_SIGNAL(SIGTTIN, STOPS, .meaning = "a background process read from the terminal"),
    NR_SIGNAL(SIGTTOU, STOPS, .meaning = "a background process wrote to the terminal"),
    NR_SIGNAL(SIGURG, PASSES, .meaning = "urgent data came to a socket"),
    NR_SIGNAL(SIGXCPU, DUMPS, .meaning = "processor time is used up, RLIMIT_CPU"),
    NR_SIGNAL(SIGXFSZ, DUMPS, .meaning = "a file grew too large, RLIMIT_FSIZE"),
    NR_SIGNAL(SIGVTALRM, ENDS, .meaning = "a timer of the process's own time is over"),
    NR_SIGNAL(SIGPROF, ENDS, .meaning = "a timer of the process's and the kernel's time is over"),
    NR_SIGNAL(SIGWINCH, PASSES, .meaning = "the terminal's window has another size"),
    NR_SIGNAL(SIGIO, ENDS, .alias = "SIGPOLL", .meaning = "a descriptor is ready, O_ASYNC"),
    NR_SIGNAL(SIGPWR, ENDS, .meaning = "the power fails"),
    NR_SIGNAL(SIGSYS, DUMPS, .meaning = "a system call that is not allowed (seccomp) or wrong"),
};

/* Relative to SIGRTMIN, and by number for those that libc keeps below it. */
static const char *const nr_os_signal_queued[] = {
    "SIGRTMIN",    "SIGRTMIN+1",  "SIGRTMIN+2",  "SIGRTMIN+3",  "SIGRTMIN+4",  "SIGRTMIN+5",
    "SIGRTMIN+6",  "SIGRTMIN+7",  "SIGRTMIN+8",  "SIGRTMIN+9",  "SIGRTMIN+10", "SIGRTMIN+11",
    "SIGRTMIN+12", "SIGRTMIN+13", "SIGRTMIN+14", "SIGRTMIN+15", "SIGRTMIN+16", "SIGRTMIN+17",
    "SIGRTMIN+18", "SIGRTMIN+19", "SIGRTMIN+20", "SIGRTMIN+21", "SIGRTMIN+22", "SIGRTMIN+23",
    "SIGRTMIN+24", "SIGRTMIN+25", "SIGRTMIN+26", "SIGRTMIN+27", "SIGRTMIN+28", "SIGRTMIN+29",
    "SIGRTMIN+30", "SIGRTMIN+31", "SIGRTMIN+32",
};
enum { NR_SIGNAL_QUEUED_FIRST = 32 };
static const char *const nr_os_signal_kept[] = {"SIG32", "SIG33", "SIG34", "SIG35"};

int nr_os_signal_continue(void)
{
    return SIGCONT;
}

int nr_os_signal_first(void)
{
    return SIGRTMIN;
}

int nr_os_signal_last(void)
{
    return SIGRTMAX;
}

static bool nr_os_signal_kept_row(int number, struct naru_signal_row *ret)
{
    size_t index = (size_t)(number - NR_SIGNAL_QUEUED_FIRST);

    if (index >= nr_count_of(nr_os_signal_kept))
        return false;
    *ret = (struct naru_signal_row){
        .name = nr_os_signal_kept[index],
        .number = number,
        .action = NARU_SIGNAL_ENDS,
        .is_real_time = 1,
        .is_libcs = 1,
        .meaning = "libc's own, for its threads",
    };
    return true;
}

bool nr_os_signal_row(int number, struct naru_signal_row *ret)
{
    if (number < 1 || number > NR_SIGNAL_LAST)
        return false;
    if (number < NR_SIGNAL_QUEUED_FIRST) {
        if ((size_t)number >= nr_count_of(nr_os_signal_rows) || !nr_os_signal_rows[number].name)
            return false;
        *ret = nr_os_signal_rows[number];
        return true;
    }
    if (number < SIGRTMIN || number > SIGRTMAX)
        return nr_os_signal_kept_row(number, ret);
    *ret = (struct naru_signal_row){
        .name = nr_os_signal_queued[number - SIGRTMIN],
        .alias = number == SIGRTMAX ? "SIGRTMAX" : NULL,
        .number = number,
        .action = NARU_SIGNAL_ENDS,
        .is_real_time = 1,
        .meaning = "the program's own; queues, with a value",
    };
    return true;
}

const char *nr_os_signal_name(int number)
{
    static _Thread_local char unknown[24];
    struct naru_signal_row row;

    if (nr_os_signal_row(number, &row))
        return row.name;
    snprintf(unknown, sizeof unknown, "signal %d", number);
    return unknown;
}

uint64_t nr_os_signal_all(void)
{
    uint64_t all = UINT64_MAX;

    all &= ~(NARU_SIGNAL_BIT(SIGKILL) | NARU_SIGNAL_BIT(SIGSTOP));
    for (int number = NR_SIGNAL_QUEUED_FIRST; number < SIGRTMIN; number++)
        all &= ~NARU_SIGNAL_BIT(number);
    return all;
}
