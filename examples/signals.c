/* SPDX-License-Identifier: MIT */
/* signals -- handled; blocked, pending and unblocked; awaited; looked at; and values, received like messages */
#include <naru/endpoint.h>
#include <naru/signal.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t handled;

static void on_signal(const struct naru_signal *signal)
{
    handled += signal->number == SIGUSR1; /* next to nothing is allowed here: count, and leave */
}

/* The child sends its parent a value, and then two as messages. */
static int child(void)
{
    struct naru_signal_target *parent = NULL;
    struct naru_endpoint *sender = NULL;
    char uri[40];

    snprintf(uri, sizeof uri, "signal://%d", (int)getppid());
    int result = naru_signal_target_open(&parent, getppid());
    if (result == 0)
        result = naru_signal_send_value(parent, SIGUSR2, 40);
    if (result == 0)
        result = naru_open(&sender, uri, NARU_SENDER, NULL);
    for (uint64_t value = 41; result == 0 && value <= 42; value++)
        result = naru_send(sender, &value, sizeof value, 5 * NARU_SECOND);
    if (result < 0)
        fprintf(stderr, "child: %s\n", naru_error_text());
    naru_close(sender);
    naru_signal_target_close(parent);
    return result < 0;
}

/* What is pending for this process: the kernel tells about any. */
static int is_pending(int number)
{
    struct naru_signal_thread thread;
    struct naru_signal_state state;

    if (naru_signal_look(getpid(), &state) < 0 ||
        naru_signal_look_threads(getpid(), &thread, 1) < 0)
        return 0;
    return ((state.pending | thread.pending) & NARU_SIGNAL_BIT(number)) != 0;
}

int main(void)
{
    /* SIGRTMIN + 1 is the one of signal://; unless it is blocked, it kills */
    const uint64_t blocked =
        NARU_SIGNAL_BIT(SIGUSR1) | NARU_SIGNAL_BIT(SIGUSR2) | NARU_SIGNAL_BIT(SIGRTMIN + 1);
    struct naru_endpoint *receiver;
    struct naru_signal came = {0};
    uint64_t values[2] = {0, 0};

    naru_signal_handle(NARU_SIGNAL_BIT(SIGUSR1), on_signal);
    raise(SIGUSR1);
    printf("raised, with a handler: it ran %d time(s)\n", (int)handled);
    naru_signal_block(blocked, NULL);
    raise(SIGUSR1);
    int while_blocked = handled;
    printf("blocked, raised again:  it ran %d time(s), the signal %s\n", while_blocked,
           is_pending(SIGUSR1) ? "is pending" : "is lost");
    naru_signal_unblock(NARU_SIGNAL_BIT(SIGUSR1));
    printf("unblocked, it arrives:  it ran %d time(s)\n", (int)handled);
    naru_signal_default(NARU_SIGNAL_BIT(SIGUSR1));

    if (naru_open(&receiver, "signal://self", NARU_RECEIVER, NULL) < 0)
        return fprintf(stderr, "%s\n", naru_error_text()), 1;
    if (fork() == 0)
        _exit(child());
    naru_signal_wait(NARU_SIGNAL_BIT(SIGUSR2), &came, 5 * NARU_SECOND);
    printf("awaited, with a value:  signal %d, %d\n", came.number, (int)came.value);
    for (int i = 0; i < 2; i++)
        naru_recv(receiver, &values[i], sizeof values[i], NULL, 5 * NARU_SECOND);
    printf("values as messages:     %d, then %d\n", (int)values[0], (int)values[1]);
    wait(NULL);
    naru_close(receiver);
    return while_blocked != 1 || handled != 2 || came.value != 40 || values[0] != 41 ||
           values[1] != 42;
}
