/* SPDX-License-Identifier: MIT */
#include "os/signal_action.h"
#include "os/signal.h"
#include "os/signal_table.h"
#include <errno.h>
#include <signal.h>

static void (*nr_os_signal_handlers[NR_SIGNAL_LAST + 1])(const struct naru_signal *signal);

sigset_t nr_os_signal_set(uint64_t set)
{
    sigset_t result;

    sigemptyset(&result);
    for (int number = 1; number <= NR_SIGNAL_LAST; number++)
        if (set & NARU_SIGNAL_BIT(number))
            sigaddset(&result, number);
    return result;
}

static uint64_t nr_os_signal_set_bits(const sigset_t *set)
{
    uint64_t result = 0;

    for (int number = 1; number <= NR_SIGNAL_LAST; number++)
        if (sigismember(set, number) == 1)
            result |= NARU_SIGNAL_BIT(number);
    return result;
}

/* -- actions ------------------------------------------------------------------------------- */

static void nr_os_signal_on(int number, siginfo_t *information, void *context)
{
    int saved_errno = errno;
    struct naru_signal signal;

    (void)context;
    void (*handler)(const struct naru_signal *) =
        __atomic_load_n(&nr_os_signal_handlers[number], __ATOMIC_ACQUIRE);
    if (handler) { /* another thread may have taken it away just now */
        nr_os_signal_describe(information, &signal);
        handler(&signal);
    }
    errno = saved_errno;
}

static void nr_os_signal_act(uint64_t set, const struct sigaction *action)
{
    for (int number = 1; number <= NR_SIGNAL_LAST; number++)
        if (set & NARU_SIGNAL_BIT(number))
            sigaction(number, action, NULL); /* can't fail for what the caller has checked */
}

void nr_os_signal_handle(uint64_t set, void (*handler)(const struct naru_signal *signal))
{
    struct sigaction action = {
        .sa_sigaction = nr_os_signal_on,
        .sa_mask = nr_os_signal_set(set),
        .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK,
    };

    for (int number = 1; number <= NR_SIGNAL_LAST; number++)
        if (set & NARU_SIGNAL_BIT(number))
            __atomic_store_n(&nr_os_signal_handlers[number], handler, __ATOMIC_RELEASE);
    nr_os_signal_act(set, &action);
}

void nr_os_signal_ignore(uint64_t set)
{
    struct sigaction action = {.sa_handler = SIG_IGN};

    nr_os_signal_act(set, &action);
}

void nr_os_signal_default(uint64_t set)
{
    struct sigaction action = {.sa_handler = SIG_DFL};

    nr_os_signal_act(set, &action);
}

/* -- blocking ------------------------------------------------------------------------------ */

static uint64_t nr_os_signal_mask(int how, uint64_t set)
{
    sigset_t change = nr_os_signal_set(set), before;

    pthread_sigmask(how, &change, &before);
    return nr_os_signal_set_bits(&before);
}

uint64_t nr_os_signal_block(uint64_t set)
{
    return nr_os_signal_mask(SIG_BLOCK, set);
}

uint64_t nr_os_signal_unblock(uint64_t set)
{
    return nr_os_signal_mask(SIG_UNBLOCK, set);
}

uint64_t nr_os_signal_blocked(void)
{
    return nr_os_signal_mask(SIG_BLOCK, 0);
}
