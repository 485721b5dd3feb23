/* SPDX-License-Identifier: MIT */
/*
 * signal_receive -- waits for signals, and receives them beside descriptors
 *
 * What       A receiver's signalfd is only polled. What is pending is taken by sigtimedwait(2) without waiting, as in
 *            signal://: while a thread sleeps in that, /proc shows the signals as not blocked, and who looks whether
 *            they would kill (signal://) has to look twice.
 * Ownership  A receiver belongs to the process that opened it: a signalfd tells of the signals of whoever polls it.
 */
#include "process/signal.h"
#include "os/interrupt.h"
#include "os/io.h"
#include "os/process.h"
#include "os/signal.h"
#include "os/signal_action.h"
#include "os/signal_status.h"
#include <stdlib.h>

struct naru_signal_receiver {
    uint64_t owner, set;
    int fd;
    struct nr_interrupt interrupt;
};

static int nr_signal_receive_check(uint64_t *set)
{
    int result = nr_signal_check_set(set, "received");

    if (result == 0 && *set == 0)
        return nr_fail(-EINVAL, "the set of signals is empty, so none could come; give "
                                "NARU_SIGNAL_BIT(SIGTERM) or the like");
    return result;
}

static int nr_signal_receive_none(int error)
{
    return nr_fail(error, error == -EAGAIN
                              ? "none of the signals is pending; give a time-out to wait for one"
                              : "none of the signals came in time");
}

int naru_signal_wait(uint64_t set, struct naru_signal *ret, int64_t timeout_ns)
{
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);
    struct naru_signal_row row;

    int result = nr_signal_receive_check(&set);
    if (result < 0)
        return result;
    uint64_t unblocked = set & ~nr_os_signal_blocked();
    if (unblocked) {
        nr_os_signal_row(__builtin_ctzll(unblocked) + 1, &row);
        return nr_fail(-EPERM,
                       "this thread does not block %s, which would act on the process instead of "
                       "being received; call naru_signal_block() first",
                       row.name);
    }
    result = nr_os_signal_wait(set, ret, &deadline);
    if (result == -EAGAIN || result == -ETIMEDOUT)
        return nr_signal_receive_none(result);
    return result < 0 ? nr_fail(result, "can't wait for signals: %s", nr_error_name(result))
                      : result;
}

/* -- receivers ----------------------------------------------------------------------------- */

static int nr_signal_receive_check_threads(uint64_t set)
{
    pid_t thread = 0;
    int result = nr_os_signal_unblocked_thread(set, &thread);

    if (result < 0)
        return nr_fail(result, "the threads' masks can't be read from /proc: %s; mount /proc",
                       nr_error_name(result));
    if (result > 0)
        return nr_fail(-EPERM,
                       "thread %d of this process does not block all of the set, so that the "
                       "signals would go there; call naru_signal_block() before the first thread "
                       "starts, all threads inherit that",
                       (int)thread);
    return 0;
}

int naru_signal_receiver_open(struct naru_signal_receiver **ret, uint64_t set)
{
    if (!ret)
        return nr_fail(-EINVAL, "naru_signal_receiver_open() needs a place for the receiver");
    int result = nr_signal_receive_check(&set);
    if (result == 0)
        result = nr_signal_receive_check_threads(set);
    if (result < 0)
        return result;
    struct naru_signal_receiver *receiver = malloc(sizeof *receiver);
    uint64_t owner = nr_os_process_token_new();
    if (!receiver || !owner) {
        free(receiver);
        return nr_fail(-ENOMEM, "no memory for a receiver of signals");
    }
    *receiver = (struct naru_signal_receiver){
        .owner = owner, .set = set, .fd = nr_os_signal_fd(set), .interrupt = NR_INTERRUPT_NULL};
    if (receiver->fd < 0) {
        result = nr_fail(receiver->fd,
                         "no descriptor for signals: %s; close some, or raise "
                         "`ulimit -n`",
                         nr_error_name(receiver->fd));
        naru_signal_receiver_close(receiver);
        return result;
    }
    *ret = receiver;
    return 0;
}

void naru_signal_receiver_close(struct naru_signal_receiver *receiver)
{
    if (!receiver)
        return;
    nr_interrupt_deinit(&receiver->interrupt);
    nr_os_close(&receiver->fd);
    free(receiver);
}

static int nr_signal_receive_enter(const struct naru_signal_receiver *receiver)
{
    if (!receiver)
        return nr_fail(-EINVAL, "the receiver is NULL; did naru_signal_receiver_open() fail?");
    if (!nr_os_process_is(receiver->owner))
        return nr_fail(-ECHILD, "this receiver belongs to the process that opened it, which forked "
                                "this one; open another one here");
    return 0;
}

static int nr_signal_receive_interrupted(struct naru_signal_receiver *receiver)
{
    if (!nr_interrupt_consume(&receiver->interrupt))
        return 0;
    return nr_fail(-EINTR, "the wait for signals was ended by naru_signal_interrupt()");
}

/* 0: look again. */
static int nr_signal_receive_sleep(struct naru_signal_receiver *receiver,
                                   struct nr_deadline *deadline)
{
    if (nr_deadline_is_now(deadline))
        return nr_signal_receive_none(-EAGAIN);
    int interrupt_fd = nr_interrupt_fd(&receiver->interrupt);
    if (interrupt_fd < 0)
        return nr_fail(interrupt_fd, "no descriptor to wait with: %s; raise `ulimit -n`",
                       nr_error_name(interrupt_fd));
    int interrupted = nr_signal_receive_interrupted(receiver);
    if (interrupted < 0)
        return interrupted;
    struct pollfd fds[] = {
        {.fd = receiver->fd, .events = NR_READABLE},
        {.fd = interrupt_fd, .events = NR_READABLE},
    };
    int ready = nr_os_poll(fds, 2, deadline);
    if (ready == 0)
        return nr_signal_receive_none(-ETIMEDOUT);
    if (ready < 0 && ready != -EINTR)
        return nr_fail(ready, "can't wait for signals: %s", nr_error_name(ready));
    return ready > 0 && fds[0].revents ? 0 : nr_signal_receive_interrupted(receiver);
}

int naru_signal_recv(struct naru_signal_receiver *receiver, struct naru_signal *ret,
                     int64_t timeout_ns)
{
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);
    struct nr_deadline now = nr_deadline_in(0);

    int result = nr_signal_receive_enter(receiver);
    while (result == 0) {
        result = nr_os_signal_wait(receiver->set, ret, &now);
        if (result == -EAGAIN)
            result = nr_signal_receive_sleep(receiver, &deadline);
        else if (result < 0)
            result = nr_fail(result, "can't receive signals: %s", nr_error_name(result));
    }
    return result;
}

int naru_signal_fd(struct naru_signal_receiver *receiver)
{
    int result = nr_signal_receive_enter(receiver);

    return result < 0 ? result : receiver->fd;
}

int naru_signal_interrupt(struct naru_signal_receiver *receiver)
{
    if (!receiver || !nr_os_process_is(receiver->owner))
        return receiver ? -ECHILD : -EINVAL; /* no text: this may be a handler */
    nr_interrupt_raise(&receiver->interrupt);
    return 0;
}
