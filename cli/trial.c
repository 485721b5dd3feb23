/* SPDX-License-Identifier: MIT */
#include "trial.h"
#include "crew.h"
#include "gather.h"
#include "link.h"
#include "output.h"
#include "stop.h"
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    NR_TRIAL_ROUNDS_WARM = 100,
    NR_TRIAL_ROUNDS_MAX = 2000,
    NR_TRIAL_STREAM_MAX = 200000,
    NR_TRIAL_LOOK_EVERY = 64, /* messages between two looks at the clock */
    NR_TRIAL_SECONDS_MAX = 15,
    NR_TRIAL_TEXT_BYTES = NR_LINK_MESSAGE_BYTES,
};
#define NR_TRIAL_LATENCY_NS (NARU_SECOND / 4) /* for each placement */
#define NR_TRIAL_STREAM_NS  (3 * NARU_SECOND / 10)

/* The first 8 bytes of a message are its number; this bit marks the last one, whose number is the count. */
#define NR_TRIAL_LAST ((uint64_t)1 << 63)

struct nr_trial_state {
    struct nr_trial *trial;
    struct nr_link link;
    struct nr_crew crew;
    char *child_reason; /* in shared memory, for diagnosis only */
};

static int nr_trial_fail(struct nr_trial_state *state, const char *format, ...)
{
    char *reason = state->link.is_child ? state->child_reason : state->trial->reason;
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(reason, NR_TRIAL_REASON_BYTES, format, arguments);
    va_end(arguments);
    return -1;
}

static int nr_trial_fail_naru(struct nr_trial_state *state, const char *what, int error)
{
    const char *text = naru_error_text();

    return nr_trial_fail(state, "%s: %s", what, text[0] ? text : strerror(-error));
}

/* The parent's look up from its work. */
static int nr_trial_check(struct nr_trial_state *state)
{
    char cause[200];

    if (state->link.is_child)
        return 0;
    if (nr_stop_signal())
        return nr_trial_fail(state, "interrupted by SIG%s", sigabbrev_np(nr_stop_signal()));
    if (nr_stop_take_alarm())
        return nr_trial_fail(state, "not through after %d s", NR_TRIAL_SECONDS_MAX);
    if (nr_stop_take_child())
        nr_crew_reap(&state->crew);
    if (state->child_reason[0])
        return nr_trial_fail(state, "in the child: %s", state->child_reason);
    if (state->crew.casualty >= 0)
        return nr_trial_fail(state, "%s", nr_crew_casualty(&state->crew, cause, sizeof cause));
    return 0;
}

static bool nr_trial_is_look_up(int result)
{
    return result == -EINTR || result == -ETIMEDOUT;
}

static int nr_trial_send(struct nr_trial_state *state, const void *data)
{
    int result;

    while ((result = nr_link_send(&state->link, data)) < 0) {
        if (nr_trial_check(state) < 0)
            return -1;
        if (!nr_trial_is_look_up(result))
            return nr_trial_fail_naru(state, "sending", result);
    }
    return 0;
}

static int nr_trial_recv(struct nr_trial_state *state, void *data)
{
    size_t size_bytes = 0;
    int result;

    while ((result = nr_link_recv(&state->link, data, &size_bytes)) < 0) {
        /* The end of a child that failed is told by the child itself, a moment later. */
        if (result == -EPIPE || result == -EOWNERDEAD)
            nr_crew_reap(&state->crew);
        if (nr_trial_check(state) < 0)
            return -1;
        if (!nr_trial_is_look_up(result))
            return nr_trial_fail_naru(state, "receiving", result);
    }
    if (size_bytes != state->link.message_bytes)
        return nr_trial_fail(state, "a message of %zu bytes came as one of %zu",
                             state->link.message_bytes, size_bytes);
    return 0;
}

/* ---- numbered messages ---- */

/* The number stands at both ends of the message, so that a torn one is seen. */
static int nr_trial_send_number(struct nr_trial_state *state, uint64_t number)
{
    uint8_t message[NR_LINK_MESSAGE_BYTES] = {0};

    memcpy(message, &number, sizeof number);
    memcpy(message + state->link.message_bytes - sizeof number, &number, sizeof number);
    return nr_trial_send(state, message);
}

static int nr_trial_recv_number(struct nr_trial_state *state, uint64_t *ret)
{
    uint8_t message[NR_LINK_MESSAGE_BYTES];
    uint64_t first, last;

    if (nr_trial_recv(state, message) < 0)
        return -1;
    memcpy(&first, message, sizeof first);
    memcpy(&last, message + state->link.message_bytes - sizeof last, sizeof last);
    if (first != last)
        return nr_trial_fail(state, "a message came torn");
    *ret = first;
    return 0;
}

/* ---- greeting ---- */

/* A text goes as 64 bytes, in as many messages as that takes. */
static int nr_trial_send_text(struct nr_trial_state *state, const char text[NR_TRIAL_TEXT_BYTES])
{
    for (size_t at = 0; at < NR_TRIAL_TEXT_BYTES; at += state->link.message_bytes)
        if (nr_trial_send(state, text + at) < 0)
            return -1;
    return 0;
}

static int nr_trial_expect_text(struct nr_trial_state *state, const char text[NR_TRIAL_TEXT_BYTES])
{
    char came[NR_TRIAL_TEXT_BYTES];

    for (size_t at = 0; at < NR_TRIAL_TEXT_BYTES; at += state->link.message_bytes)
        if (nr_trial_recv(state, came + at) < 0)
            return -1;
    if (memcmp(came, text, sizeof came) != 0)
        return nr_trial_fail(state, "the greeting came as \"%.63s\"", came);
    return 0;
}

static void nr_trial_write_greetings(const struct nr_trial_state *state, pid_t child_pid,
                                     char question[NR_TRIAL_TEXT_BYTES],
                                     char answer[NR_TRIAL_TEXT_BYTES])
{
    memset(question, 0, NR_TRIAL_TEXT_BYTES);
    memset(answer, 0, NR_TRIAL_TEXT_BYTES);
    snprintf(question, NR_TRIAL_TEXT_BYTES, "Good morning, child %d!", (int)child_pid);
    snprintf(answer, NR_TRIAL_TEXT_BYTES, "Good morning, parent %d!", (int)state->link.parent_pid);
}

static int nr_trial_greet(struct nr_trial_state *state, pid_t child_pid)
{
    char question[NR_TRIAL_TEXT_BYTES], answer[NR_TRIAL_TEXT_BYTES];

    nr_trial_write_greetings(state, child_pid, question, answer);
    if (nr_trial_send_text(state, question) < 0 || nr_trial_expect_text(state, answer) < 0)
        return -1;
    state->trial->greeting = true;
    /* Both sides are there: the names have done their duty. */
    nr_link_unlink(&state->link);
    return 0;
}

/* ---- the child: answers the greeting, sends numbers back until the last, then streams ---- */

static int nr_trial_child_stream(struct nr_trial_state *state)
{
    int64_t end_ns = nr_output_now_ns() + NR_TRIAL_STREAM_NS;
    uint64_t count = 0;

    do {
        for (int i = 0; i < NR_TRIAL_LOOK_EVERY; i++)
            if (nr_trial_send_number(state, count++) < 0)
                return -1;
    } while (count < NR_TRIAL_STREAM_MAX && nr_output_now_ns() < end_ns);
    return nr_trial_send_number(state, count | NR_TRIAL_LAST);
}

static int nr_trial_child(void *context, unsigned index)
{
    struct nr_trial_state *state = context;
    char question[NR_TRIAL_TEXT_BYTES], answer[NR_TRIAL_TEXT_BYTES];
    uint64_t number = 0;

    (void)index;
    state->link.is_child = true;
    int result = nr_link_join_child(&state->link);
    if (result < 0) {
        nr_trial_fail_naru(state, "opening", result);
        return 1;
    }
    nr_trial_write_greetings(state, getpid(), question, answer);
    if (nr_trial_expect_text(state, question) < 0 || nr_trial_send_text(state, answer) < 0)
        return 1;
    while (!(number & NR_TRIAL_LAST))
        if (nr_trial_recv_number(state, &number) < 0 || nr_trial_send_number(state, number) < 0)
            return 1;
    if (nr_trial_child_stream(state) < 0)
        return 1;
    /* Stay until the parent has all: what is in a FIFO or a socket must not be cut off by an end. */
    return nr_trial_recv_number(state, &number) < 0 ? 1 : 0;
}

/* ---- the parent's measures ---- */

static int nr_trial_compare(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a;
    int64_t right = *(const int64_t *)b;

    return (left > right) - (left < right);
}

static int nr_trial_round(struct nr_trial_state *state, uint64_t number)
{
    uint64_t came = 0;

    if (nr_trial_send_number(state, number) < 0 || nr_trial_recv_number(state, &came) < 0)
        return -1;
    if (came != number)
        return nr_trial_fail(state, "message %llu came back as %llu", (unsigned long long)number,
                             (unsigned long long)came);
    return 0;
}

/* Rounds with both processes where they are now; *number goes on. */
static int nr_trial_measure_rounds(struct nr_trial_state *state, uint64_t *number,
                                   int64_t *ret_p50_ns, int64_t *ret_p99_ns)
{
    static int64_t samples[NR_TRIAL_ROUNDS_MAX];
    int64_t end_ns = nr_output_now_ns() + NR_TRIAL_LATENCY_NS;
    int64_t before_ns = 0;
    size_t count = 0;

    for (int i = 0; i < NR_TRIAL_ROUNDS_WARM && before_ns < end_ns; i++) {
        if (nr_trial_round(state, (*number)++) < 0)
            return -1;
        before_ns = nr_output_now_ns();
    }
    do {
        before_ns = nr_output_now_ns();
        if (nr_trial_round(state, (*number)++) < 0)
            return -1;
        samples[count++] = (nr_output_now_ns() - before_ns) / 2;
    } while (count < NR_TRIAL_ROUNDS_MAX && before_ns < end_ns);
    qsort(samples, count, sizeof samples[0], nr_trial_compare);
    *ret_p50_ns = samples[count / 2];
    *ret_p99_ns = samples[count * 99 / 100];
    return 0;
}

/* Where the two run decides more than the technique: to wake a process on a sleeping core takes ten
   times as long as on one's own. So both placements are tried, and the better one counts. */
static int nr_trial_measure_latency(struct nr_trial_state *state)
{
    struct nr_trial *trial = state->trial;
    pid_t child_pid = state->crew.members[0].pid;
    cpu_set_t all, one[2];
    uint64_t number = 0;
    int cpus_count = 0;
    int result = 0;

    sched_getaffinity(0, sizeof all, &all);
    for (int cpu = 0; cpu < CPU_SETSIZE && cpus_count < 2; cpu++) {
        if (!CPU_ISSET(cpu, &all))
            continue;
        CPU_ZERO(&one[cpus_count]);
        CPU_SET(cpu, &one[cpus_count++]);
    }
    for (int i = 0; i < cpus_count && result == 0; i++) {
        int64_t p50_ns = 0;
        int64_t p99_ns = 0;

        sched_setaffinity(0, sizeof all, &one[0]);
        sched_setaffinity(child_pid, sizeof all, &one[i]);
        result = nr_trial_measure_rounds(state, &number, &p50_ns, &p99_ns);
        if (i == 0 || p50_ns < trial->latency_p50_ns) {
            trial->latency_p50_ns = p50_ns;
            trial->latency_p99_ns = p99_ns;
        }
    }
    sched_setaffinity(0, sizeof all, &all);
    sched_setaffinity(child_pid, sizeof all, &all);
    return result < 0 ? -1 : nr_trial_round(state, number | NR_TRIAL_LAST);
}

static int nr_trial_measure_rate(struct nr_trial_state *state)
{
    uint64_t expected = 0;
    int64_t start_ns = 0;
    uint64_t number = 0;

    for (;;) {
        if (nr_trial_recv_number(state, &number) < 0)
            return -1;
        if (!start_ns)
            start_ns = nr_output_now_ns();
        if (number != expected)
            break;
        expected++;
    }
    int64_t duration_ns = nr_output_now_ns() - start_ns;
    if (number != (expected | NR_TRIAL_LAST))
        return nr_trial_fail(state, "message %llu came where %llu was due",
                             (unsigned long long)(number & ~NR_TRIAL_LAST),
                             (unsigned long long)expected);
    state->trial->rate_per_s = (double)expected * 1e9 / (double)(duration_ns ? duration_ns : 1);
    return nr_trial_send_number(state, 0);
}

/* The child ends by itself now. */
static int nr_trial_wait_for_end(struct nr_trial_state *state)
{
    sigset_t all, before;
    int result;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    nr_crew_reap(&state->crew);
    while ((result = nr_trial_check(state)) == 0 && state->crew.alive_count)
        sigsuspend(&before);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return result;
}

static int nr_trial_link(struct nr_trial_state *state,
                         void (*progress)(const struct nr_trial *, const char *step))
{
    int result = nr_link_open(&state->link, state->trial->scheme);

    memcpy(state->trial->uri, state->link.uri, sizeof state->trial->uri);
    if (result < 0)
        return nr_trial_fail_naru(state, "opening", result);
    pid_t child_pid = nr_crew_start(&state->crew, nr_trial_child, state);
    if (child_pid < 0)
        return nr_trial_fail(state, "cannot start a child: %s", strerror(-child_pid));
    result = nr_link_join_parent(&state->link, child_pid);
    if (result < 0 && nr_trial_check(state) == 0)
        nr_trial_fail_naru(state, "opening", result);
    if (result < 0 || nr_trial_greet(state, child_pid) < 0)
        return -1;
    progress(state->trial, "latency");
    if (nr_trial_measure_latency(state) < 0)
        return -1;
    progress(state->trial, "rate");
    return nr_trial_measure_rate(state) < 0 ? -1 : nr_trial_wait_for_end(state);
}

static int nr_trial_sum(struct nr_trial *trial)
{
    struct nr_gather_request request = {
        .range = {.from = 1, .to = 10000},
        .workers_count = 10,
        .technique = trial->scheme,
    };
    struct nr_gather_result result;

    if (nr_gather_run(&result, &request, trial->reason) < 0)
        return -1;
    nr_output_integer(trial->sum, result.sum);
    trial->sum_ns = result.total_ns;
    if (result.sum == 50005000)
        return 0;
    snprintf(trial->reason, sizeof trial->reason, "the sum of 1..10000 came out as %s", trial->sum);
    return -1;
}

int nr_trial_run(struct nr_trial *trial,
                 void (*progress)(const struct nr_trial *, const char *step))
{
    struct nr_trial_state state = {.trial = trial};
    int result = -1;

    state.child_reason = mmap(NULL, NR_TRIAL_REASON_BYTES, PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (state.child_reason == MAP_FAILED || nr_crew_init(&state.crew, 1) < 0) {
        snprintf(trial->reason, sizeof trial->reason, "there is no memory for a trial");
        return -1;
    }
    nr_stop_set_alarm(NR_TRIAL_SECONDS_MAX);
    progress(trial, "greeting");
    result = nr_trial_link(&state, progress);
    nr_crew_deinit(&state.crew);
    nr_link_close(&state.link);
    if (result == 0) {
        progress(trial, "sum");
        result = nr_trial_sum(trial);
    }
    nr_stop_set_alarm(0);
    munmap(state.child_reason, NR_TRIAL_REASON_BYTES);
    return result;
}
