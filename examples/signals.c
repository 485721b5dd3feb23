/* SPDX-License-Identifier: MIT */
/* signals -- a handler; a blocked signal that waits to be unblocked; and values, received like messages */
#include <naru/endpoint.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t handled;

static void on_signal(int number)
{
    handled += number == SIGUSR1; /* next to nothing is allowed in a handler: count, and leave */
}

/* The child sends two values to its parent. */
static int child(void)
{
    struct naru_endpoint *sender;
    char uri[40];

    snprintf(uri, sizeof uri, "signal://%d", (int)getppid());
    if (naru_open(&sender, uri, NARU_SENDER, NULL) < 0)
        return fprintf(stderr, "child: %s\n", naru_error_text()), 1;
    for (uint64_t value = 41; value <= 42; value++)
        naru_send(sender, &value, sizeof value, 5 * NARU_SECOND); /* the parent sees what comes */
    naru_close(sender);
    return 0;
}

int main(void)
{
    struct naru_endpoint *receiver;
    uint64_t values[2] = {0, 0};
    sigset_t set;

    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = on_signal}, NULL);
    raise(SIGUSR1);
    printf("raised, with a handler: it ran %d time(s)\n", (int)handled);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGRTMIN + 1); /* the one of signal://; unless it is blocked, it kills */
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGUSR1);
    int while_blocked = handled;
    printf("blocked, raised again:  it ran %d time(s), the signal is pending\n", while_blocked);
    sigdelset(&set, SIGRTMIN + 1);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    printf("unblocked, it arrives:  it ran %d time(s)\n", (int)handled);
    if (naru_open(&receiver, "signal://self", NARU_RECEIVER, NULL) < 0)
        return fprintf(stderr, "%s\n", naru_error_text()), 1;
    if (fork() == 0)
        _exit(child());
    for (int i = 0; i < 2; i++)
        naru_recv(receiver, &values[i], sizeof values[i], NULL, 5 * NARU_SECOND);
    printf("values in signals:      %d, then %d\n", (int)values[0], (int)values[1]);
    wait(NULL);
    naru_close(receiver);
    return while_blocked != 1 || handled != 2 || values[0] != 41 || values[1] != 42;
}
