/* SPDX-License-Identifier: MIT */
/*
 * signal -- signal://PID carries 64-bit values in real-time signals, as sigqueue(3) does
 *
 * What       A message is exactly 8 bytes, the signal's sival. The receiver opens signal://self (or its own
 *            pid), senders open signal://PID. Signals of that number without a value (kill(2), timers) are
 *            no messages: the receiver takes them and goes on.
 * Receiver   Opens only if all threads of the process block the signal, and reads it from a signalfd. Not
 *            by sigtimedwait(2): while a thread sleeps in that, /proc shows the signal as not blocked.
 * Sender     Holds a pidfd, so that a later process with the same number gets nothing. (Where a sandbox refuses
 *            pidfds: pid and start time, compared before each send.) A real-time signal
 *            that is neither blocked nor caught kills: so what the target does with it is read from /proc
 *            when the endpoint opens, and again before a send if the last look is older than 10 ms, or than
 *            a hundred times what that look cost (about 15 us, ten sends). Its death is noticed likewise, and
 *            at once when it has been waited for. A target that changes its mind within those 10 ms is
 *            killed: the kernel knows no conditional signal.
 * Full       RLIMIT_SIGPENDING counts all pending signals of the target's user. Nothing tells when one was
 *            taken, so a sender looks again after 50 us, 100 us, ... 10 ms.
 * Trust      Sender's pid and uid are what the sender says; the kernel only checks that it may signal.
 * Death      Values are pending in the target and go with it. A sender that dies takes none back.
 */
#include "os/process.h"
#include "os/signal.h"
#include "os/signal_status.h"
#include "os/signal_table.h"
#include "transport/kernel_queue.h"
#include "base/cleanup.h"
#include <string.h>

enum {
    NR_SIGNAL_LOOK_AGAIN_NS = 10 * NARU_MILLISECOND,
    NR_SIGNAL_LOOK_SHARE = 100,
    NR_SIGNAL_NAP_NS = 50000,
    NR_SIGNAL_VALUE_BYTES = sizeof(uint64_t),
};

struct nr_signal {
    struct naru_endpoint endpoint;
    int number;
    int fd;                            /* receiver: signalfd; -1 */
    struct nr_os_signal_target target; /* sender's */
    struct nr_os_signal_value self;
    int64_t look_again_at_ns;
};

static struct nr_signal *nr_signal_of(struct naru_endpoint *endpoint)
{
    return nr_container_of(endpoint, struct nr_signal, endpoint);
}

/* -- the sender's look at its target ------------------------------------------------------- */

static int nr_signal_fail_care(const struct nr_signal *signal, int error, int care, pid_t thread)
{
    const char *uri = signal->endpoint.uri;

    if (care == NR_SIGNAL_IGNORED)
        return nr_fail(error,
                       "%s: process %d ignores signal %d, so that it would be lost; there, open "
                       "signal://self to receive, with the signal blocked",
                       uri, (int)signal->target.pid, signal->number);
    return nr_fail(
        error,
        "%s: thread %d of process %d neither blocks nor catches signal %d, which would kill it; "
        "there, block it with pthread_sigmask() before the first thread starts, then open "
        "signal://self",
        uri, (int)thread, (int)signal->target.pid, signal->number);
}

static int nr_signal_fail_dead(const struct nr_signal *signal)
{
    return nr_fail(-EOWNERDEAD, "%s: process %d has died", signal->endpoint.uri,
                   (int)signal->target.pid);
}

/* > 0: enum nr_os_signal_care. What /proc says of a pid holds for our target if that lives afterwards. */
static int nr_signal_look(struct nr_signal *signal, pid_t *ret_thread)
{
    int64_t begin_ns = nr_os_now_ns();
    int care = nr_os_signal_care(signal->target.pid, signal->number, ret_thread);

    if (nr_os_signal_target_is_dead(&signal->target))
        return nr_signal_fail_dead(signal);
    if (care < 0)
        return nr_fail(
            care,
            "%s: what process %d does with signal %d can't be read from /proc: %s; mount "
            "/proc, without hidepid",
            signal->endpoint.uri, (int)signal->target.pid, signal->number, nr_error_name(care));
    int64_t end_ns = nr_os_now_ns(), pause_ns = (end_ns - begin_ns) * NR_SIGNAL_LOOK_SHARE;
    if (pause_ns < NR_SIGNAL_LOOK_AGAIN_NS)
        pause_ns = NR_SIGNAL_LOOK_AGAIN_NS;
    __atomic_store_n(&signal->look_again_at_ns, end_ns + pause_ns, __ATOMIC_RELAXED);
    return care;
}

static int nr_signal_look_again(struct nr_signal *signal)
{
    pid_t thread = 0;

    int care = nr_signal_look(signal, &thread);
    if (care < 0)
        return care;
    if (care == NR_SIGNAL_BLOCKED || care == NR_SIGNAL_CAUGHT)
        return 0;
    __atomic_store_n(&signal->look_again_at_ns, 0, __ATOMIC_RELAXED);
    return nr_signal_fail_care(signal, -EPIPE, care, thread);
}

/* -- opening ------------------------------------------------------------------------------- */

static int nr_signal_open_receiver(struct nr_signal *signal)
{
    const char *uri = signal->endpoint.uri;
    pid_t thread = 0;

    if (signal->target.pid != nr_os_pid())
        return nr_fail(
            -EINVAL, "%s: a process receives only its own signals; open signal://self there", uri);
    int result = nr_os_signal_unblocked_thread(NARU_SIGNAL_BIT(signal->number), &thread);
    if (result < 0)
        return nr_fail(result, "%s: the threads' masks can't be read from /proc: %s; mount /proc",
                       uri, nr_error_name(result));
    if (result > 0)
        return nr_fail(
            -EPERM,
            "%s: thread %d of this process does not block signal %d, which would kill it; block "
            "it with pthread_sigmask() before the first thread starts, all threads inherit that",
            uri, (int)thread, signal->number);
    signal->fd = nr_os_signal_fd(NARU_SIGNAL_BIT(signal->number));
    if (signal->fd < 0)
        return nr_fail(signal->fd, "%s: no descriptor: %s; close some, or raise `ulimit -n`", uri,
                       nr_error_name(signal->fd));
    return 0;
}

/* Gives the target the time it is allowed to get ready. */
static int nr_signal_await_target(struct nr_signal *signal)
{
    struct nr_deadline deadline = nr_deadline_in(signal->endpoint.options.peer_timeout_ns);
    int64_t nap_ns = NR_SIGNAL_NAP_NS;
    pid_t thread = 0;

    for (;;) {
        int care = nr_signal_look(signal, &thread);
        if (care < 0)
            return care;
        if (care == NR_SIGNAL_BLOCKED || care == NR_SIGNAL_CAUGHT)
            return 0;
        int result = nr_kernel_queue_nap(&signal->endpoint, &nap_ns, &deadline);
        if (result == -ETIMEDOUT)
            return nr_signal_fail_care(signal, result, care, thread);
        if (result < 0)
            return result;
    }
}

static int nr_signal_open_sender(struct nr_signal *signal)
{
    const char *uri = signal->endpoint.uri;

    int result = nr_os_signal_target_init(&signal->target, signal->target.pid);
    if (result == -ESRCH)
        return nr_fail(result, "%s: process %d has ended", uri, (int)signal->target.pid);
    if (result == -EPERM)
        return nr_fail(result,
                       "%s: process %d belongs to another user, whom uid %u may not signal; run "
                       "both as one user",
                       uri, (int)signal->target.pid, (unsigned)nr_os_uid());
    return result < 0 ? nr_fail(result, "%s: process %d: %s", uri, (int)signal->target.pid,
                                nr_error_name(result))
                      : nr_signal_await_target(signal);
}

static int nr_signal_parse(const struct nr_request *request, pid_t *ret_target, int *ret_number)
{
    int64_t pid = nr_os_pid(), number = request->options.signal_number;
    int first = nr_os_signal_first(), last = nr_os_signal_last();

    if (strcmp(request->uri.rest, "self") != 0) {
        int result = nr_uri_number(request->uri.rest, 1, INT32_MAX, &pid);
        if (result < 0)
            return nr_fail(result,
                           "%s: the form is signal://PID to send, and signal://self to receive",
                           request->text);
    }
    if (number == 0)
        number = first + 1;
    if (number < first || number > last)
        return nr_fail(
            -EINVAL,
            "%s: signal %d carries no value that would queue; real-time signals do: %d to %d",
            request->text, (int)number, first, last);
    *ret_target = (pid_t)pid;
    *ret_number = (int)number;
    return 0;
}

static void nr_signal_release(struct naru_endpoint *endpoint)
{
    nr_os_close(&nr_signal_of(endpoint)->fd);
    nr_os_signal_target_deinit(&nr_signal_of(endpoint)->target);
}

static int nr_signal_open(struct naru_endpoint **ret, const struct nr_request *request)
{
    struct naru_endpoint *endpoint = NULL;
    pid_t target = 0;
    int number = 0;

    int result = nr_kernel_queue_refuse(request, NR_HONOURS_SIGNAL_NUMBER);
    if (result == 0)
        result = nr_request_refuse(request, "capacity_messages", request->options.capacity_messages,
                                   "what may be pending is up to RLIMIT_SIGPENDING; leave it 0");
    if (result == 0)
        result = nr_request_settle(request, "message_size_max_bytes",
                                   request->options.message_size_max_bytes, NR_SIGNAL_VALUE_BYTES);
    if (result == 0)
        result = nr_signal_parse(request, &target, &number);
    if (result == 0)
        result =
            nr_endpoint_new(&endpoint, sizeof(struct nr_signal), &nr_signal_transport, request);
    if (result < 0)
        return result;
    struct nr_signal *signal = nr_signal_of(endpoint);
    signal->number = number;
    signal->fd = -1;
    signal->target = NR_OS_SIGNAL_TARGET_NULL;
    signal->target.pid = target;
    signal->self.sender_pid = nr_os_pid();
    signal->self.sender_uid = nr_os_uid();
    endpoint->options.signal_number = number;
    endpoint->options.message_size_max_bytes = NR_SIGNAL_VALUE_BYTES;
    nr_kernel_queue_settle(&endpoint->options);
    result = request->role == NARU_RECEIVER ? nr_signal_open_receiver(signal)
                                            : nr_signal_open_sender(signal);
    if (result < 0) {
        nr_signal_release(endpoint);
        nr_endpoint_free(endpoint);
        return result;
    }
    *ret = endpoint;
    return 0;
}

/* -- moving values ------------------------------------------------------------------------- */

static int nr_signal_fail_full(struct nr_signal *signal, int error)
{
    return nr_fail(
        error,
        "%s: the user of process %d has as many signals pending as RLIMIT_SIGPENDING allows "
        "(%llu); let it receive, give a longer time-out, or raise `ulimit -i` there",
        signal->endpoint.uri, (int)signal->target.pid,
        (unsigned long long)nr_os_signal_limit(signal->target.pid));
}

static int nr_signal_send_value(struct nr_signal *signal, const struct nr_os_signal_value *value,
                                struct nr_deadline *deadline)
{
    int64_t nap_ns = NR_SIGNAL_NAP_NS;

    for (;;) {
        int result = 0;
        if (nr_os_coarse_ns() >= __atomic_load_n(&signal->look_again_at_ns, __ATOMIC_RELAXED))
            result = nr_signal_look_again(signal);
        if (result < 0)
            return result;
        result = nr_os_signal_send(&signal->target, signal->number, value);
        if (result == 0)
            return 0;
        if (result == -ESRCH)
            return nr_signal_fail_dead(signal);
        if (result != -EAGAIN)
            return nr_fail(result, "%s: process %d: %s", signal->endpoint.uri,
                           (int)signal->target.pid, nr_error_name(result));
        result = nr_kernel_queue_nap(&signal->endpoint, &nap_ns, deadline);
        if (result == -EAGAIN || result == -ETIMEDOUT)
            return nr_signal_fail_full(signal, result);
        if (result < 0)
            return result;
    }
}

nr_flat static int nr_signal_send(struct naru_endpoint *endpoint, const struct nr_out *out,
                                  struct nr_deadline *deadline)
{
    struct nr_signal *signal = nr_signal_of(endpoint);
    struct nr_os_signal_value value = signal->self;

    if (out->size_bytes != sizeof value.value)
        return nr_fail(-EMSGSIZE,
                       "%s: the message has %zu bytes, and a signal carries exactly %zu: a "
                       "64-bit value",
                       endpoint->uri, out->size_bytes, sizeof value.value);
    if (out->type)
        return nr_fail(-EINVAL, "%s: a signal has no room for a type; leave it 0", endpoint->uri);
    nr_out_copy(out, 0, &value.value, sizeof value.value);
    return nr_signal_send_value(signal, &value, deadline);
}

/* One signal, or -EAGAIN, -EINTR. */
static int nr_signal_take(struct nr_signal *signal, struct nr_os_signal_value *ret,
                          const struct nr_deadline *deadline)
{
    struct signalfd_siginfo information;

    if (!nr_endpoint_blocks_directly(&signal->endpoint, deadline))
        return nr_os_signal_take(signal->number, ret);
    long size = nr_endpoint_call(&signal->endpoint, NR_SYS_READ,
                                 (long[6]){signal->fd, (long)&information, sizeof information});
    if (size < 0)
        return (int)size;
    nr_os_signal_decode(&information, ret);
    return 0;
}

nr_flat static int nr_signal_recv(struct naru_endpoint *endpoint, struct nr_in *in,
                                  struct nr_deadline *deadline)
{
    struct nr_signal *signal = nr_signal_of(endpoint);
    struct nr_os_signal_value value;

    for (;;) {
        int result = nr_signal_take(signal, &value, deadline);
        if (result == 0 && value.is_message)
            break;
        if (result == -EAGAIN)
            result = nr_endpoint_wait(endpoint, signal->fd, NR_READABLE, deadline);
        else if (result == -EINTR)
            result = nr_endpoint_interrupted(endpoint);
        else if (result < 0)
            return nr_fail(result, "%s: %s", endpoint->uri, nr_error_name(result));
        if (result < 0)
            return result;
    }
    in->message->sender_pid = value.sender_pid;
    in->message->sender_uid = value.sender_uid;
    in->message->known |= NARU_KNOWS_SENDER_PID | NARU_KNOWS_SENDER_UID;
    return nr_in_deliver(in, &value.value, sizeof value.value);
}

static int nr_signal_descriptor(struct naru_endpoint *endpoint, unsigned *events)
{
    if (*events == NR_WRITABLE)
        return nr_fail(-EOPNOTSUPP,
                       "%s: the kernel has no way to tell that another signal may be pending; "
                       "send with a time-out",
                       endpoint->uri);
    return nr_signal_of(endpoint)->fd;
}

const struct nr_transport nr_signal_transport = {
    .scheme = "signal",
    .open = nr_signal_open,
    .release = nr_signal_release,
    .send = nr_signal_send,
    .recv = nr_signal_recv,
    .descriptor = nr_signal_descriptor,
};
