/* SPDX-License-Identifier: MIT */
#include "stop.h"
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static struct naru_endpoint *volatile nr_stop_watched;
static struct naru_pool *volatile nr_stop_watched_pool;
static volatile sig_atomic_t nr_stop_ending, nr_stop_child, nr_stop_alarm;

static const int nr_stop_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGCHLD, SIGALRM};
enum { NR_STOP_SIGNALS_COUNT = sizeof nr_stop_signals / sizeof nr_stop_signals[0] };

static void nr_stop_handle(int number)
{
    struct naru_endpoint *endpoint = nr_stop_watched;
    struct naru_pool *pool = nr_stop_watched_pool;

    if (number == SIGCHLD)
        nr_stop_child = 1;
    else if (number == SIGALRM)
        nr_stop_alarm = 1;
    else if (!nr_stop_ending)
        nr_stop_ending = number;
    if (endpoint)
        naru_interrupt(endpoint);
    if (pool)
        naru_pool_interrupt(pool);
}

void nr_stop_init(void)
{
    struct sigaction action = {.sa_handler = nr_stop_handle};

    sigemptyset(&action.sa_mask);
    for (int i = 0; i < NR_STOP_SIGNALS_COUNT; i++) {
        int number = nr_stop_signals[i];
        struct sigaction before;

        /* nohup stays nohup. SIGINT is another matter: a shell's script ignores it for what it starts
           with &, and then only `kill -INT` can mean us. */
        if (number != SIGHUP || sigaction(number, NULL, &before) < 0 ||
            before.sa_handler != SIG_IGN)
            sigaction(number, &action, NULL);
    }
}

void nr_stop_forget(void)
{
    nr_stop_watched = NULL;
    nr_stop_watched_pool = NULL;
    nr_stop_ending = nr_stop_child = nr_stop_alarm = 0;
    for (int i = 0; i < NR_STOP_SIGNALS_COUNT; i++)
        signal(nr_stop_signals[i], SIG_DFL);
}

void nr_stop_watch(struct naru_endpoint *endpoint)
{
    nr_stop_watched = endpoint;
}

void nr_stop_watch_pool(struct naru_pool *pool)
{
    nr_stop_watched_pool = pool;
}

int nr_stop_signal(void)
{
    return nr_stop_ending;
}

bool nr_stop_take_child(void)
{
    bool changed = nr_stop_child;

    nr_stop_child = 0;
    return changed;
}

bool nr_stop_take_alarm(void)
{
    bool over = nr_stop_alarm;

    nr_stop_alarm = 0;
    return over;
}

void nr_stop_set_alarm(unsigned seconds)
{
    alarm(seconds);
    if (!seconds)
        nr_stop_alarm = 0;
}

void nr_stop_die(void)
{
    sigset_t only;

    if (!nr_stop_ending)
        return;
    fflush(NULL);
    signal(nr_stop_ending, SIG_DFL);
    sigemptyset(&only);
    sigaddset(&only, nr_stop_ending);
    sigprocmask(SIG_UNBLOCK, &only, NULL);
    raise(nr_stop_ending);
}
