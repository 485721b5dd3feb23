/* SPDX-License-Identifier: MIT */
/*
 * shm_kill_wake -- a process is killed between what it does for a sleeper of shm:// and waking it; the sleeper
 *                  gets what is its due all the same, without anyone else's doing
 *
 * The other side really sleeps, in the kernel. Then the victim is killed at a point of its operation, and nobody
 * touches the channel for a while. If the sleeper has not gone on, it is ended, and another tries in its place:
 * when that one could go on, the sleeper was forgotten. The point at which the operation takes effect is searched
 * for; all behind it are visited, and some before it. How long it took is printed; it decides nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include "kit.h"
#include "step.h"
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

/* LINE_BYTES: one to one, each has a line of its own, which becomes free with it. */
enum {
    SMALL_BYTES = 24,
    LINE_BYTES = 48,
    LARGE_BYTES = 300,
    PATIENCE_MS = 60,
    CHANCES = 4,
    SLEEPS = 8,
    TIMES_MOST = 4096
};

struct act {
    const char *name;
    enum naru_role role; /* the victim's; the sleeper has the other one */
    uint32_t is_one_to_one;
    size_t size_bytes;
    void (*prepare)(struct naru_endpoint *endpoint, struct naru_message *message);
    void (*run)(struct naru_endpoint *endpoint, struct naru_message *message);
};

enum outcome { WENT_ON, NOTHING_TO_DO, FORGOTTEN };

static struct stage {
    struct nr_step_path path;
    struct nr_step_death death;
    int victim_is_ready, may_begin, sleeps_soon;
    int64_t went_on_ns;
} * stage;

static char uri[80];
static const struct act *act;
static bool
    has_slept; /* the sleeper has done so before: then it does it in another way, and for long */
static int64_t times_ns[TIMES_MOST];
static unsigned times_count;

/* -- what the victim does ----------------------------------------------------------------------- */

static void with_data(struct naru_endpoint *endpoint, struct naru_message *message)
{
    static char data[LARGE_BYTES];

    (void)endpoint;
    *message = (struct naru_message){.data = data, .size_bytes = act->size_bytes};
}

static void with_loan(struct naru_endpoint *endpoint, struct naru_message *message)
{
    nr_check_ok(naru_loan(endpoint, act->size_bytes, message, 0));
}

static void with_message(struct naru_endpoint *endpoint, struct naru_message *message)
{
    nr_check_ok(naru_take(endpoint, message, NR_SOON));
}

static void run_send(struct naru_endpoint *endpoint, struct naru_message *message)
{
    naru_send(endpoint, message->data, message->size_bytes, 0);
}
static void run_commit(struct naru_endpoint *endpoint, struct naru_message *message)
{
    naru_commit(endpoint, message);
}
static void run_recv(struct naru_endpoint *endpoint, struct naru_message *message)
{
    naru_recv(endpoint, message->data, LARGE_BYTES, NULL, 0);
}
static void run_ack(struct naru_endpoint *endpoint, struct naru_message *message)
{
    naru_ack(endpoint, message);
}
static void run_requeue(struct naru_endpoint *endpoint, struct naru_message *message)
{
    naru_requeue(endpoint, message);
}
static void run_close(struct naru_endpoint *endpoint, struct naru_message *message)
{
    (void)message;
    naru_close(endpoint);
}

static const struct act acts[] = {
    {"send", NARU_SENDER, 0, SMALL_BYTES, with_data, run_send},
    {"send, in a chunk", NARU_SENDER, 0, LARGE_BYTES, with_data, run_send},
    {"commit", NARU_SENDER, 0, LARGE_BYTES, with_loan, run_commit},
    {"recv", NARU_RECEIVER, 0, SMALL_BYTES, with_data, run_recv},
    {"recv, of a chunk", NARU_RECEIVER, 0, LARGE_BYTES, with_data, run_recv},
    {"one-to-one send", NARU_SENDER, 1, LARGE_BYTES, with_data, run_send},
    {"one-to-one commit", NARU_SENDER, 1, SMALL_BYTES, with_loan, run_commit},
    {"one-to-one recv", NARU_RECEIVER, 1, LARGE_BYTES, with_data, run_recv},
    {"one-to-one ack", NARU_RECEIVER, 1, LINE_BYTES, with_message, run_ack},
};

/* Receivers on both sides: what is in the victim's hand is the sleeper's due, wherever it dies. */
static const struct act hand_acts[] = {
    {"requeue", NARU_RECEIVER, 0, LARGE_BYTES, with_message, run_requeue},
    {"close", NARU_RECEIVER, 0, SMALL_BYTES, with_message, run_close},
};

/* -- one life ----------------------------------------------------------------------------------- */

static struct naru_endpoint *open_as(enum naru_role role)
{
    struct naru_options options = {
        .size_bytes = sizeof options,
        .message_size_max_bytes = LARGE_BYTES,
        .capacity_messages = 4,
        .payload_bytes = act->is_one_to_one ? 0 : 8 * 320,
        .participants_max = 6,
        .one_to_one = act->is_one_to_one,
    };
    struct naru_endpoint *endpoint = NULL;

    nr_check_ok(naru_open(&endpoint, uri, role, &options));
    return endpoint;
}

static _Noreturn void victim(long point)
{
    struct naru_endpoint *endpoint = open_as(act->role);
    struct naru_message message;

    if (act->prepare != with_message)
        act->prepare(endpoint, &message);
    nr_kit_set(&stage->victim_is_ready, 1);
    if (act->prepare == with_message) /* there is one once the sleeper has sent it */
        act->prepare(endpoint, &message);
    nr_kit_await(&stage->may_begin, 1);
    if (point < 0)
        nr_step_record(&stage->path);
    else
        nr_step_die(&stage->path, (uint32_t)point, &stage->death);
    nr_step_begin();
    act->run(endpoint, &message);
    nr_step_end();
    nr_step_kill();
}

static _Noreturn void sleeper(bool sends)
{
    struct naru_endpoint *endpoint = open_as(sends ? NARU_SENDER : NARU_RECEIVER);
    char room[LARGE_BYTES] = {0};
    struct timespec now;

    while (sends && naru_send(endpoint, room, act->size_bytes, 0) == 0)
        ;
    if (act->prepare == with_message && sends) /* the victim takes one; fill that place, too */
        do
            nr_kit_sleep_ms(1);
        while (naru_send(endpoint, room, act->size_bytes, 0) == 0);
    int result = -ETIMEDOUT;
    for (int i = 0; has_slept && i < SLEEPS && result == -ETIMEDOUT; i++)
        result = sends ? naru_send(endpoint, room, act->size_bytes, NARU_MILLISECOND)
                       : naru_recv(endpoint, room, sizeof room, NULL, NARU_MILLISECOND);
    nr_check(result == -ETIMEDOUT, "%d: %s", result, naru_error_text());
    nr_kit_set(&stage->sleeps_soon, 1);
    do /* one to one, it is told first that the sender has died */
        result = sends ? naru_send(endpoint, room, act->size_bytes, 60 * NARU_SECOND)
                       : naru_recv(endpoint, room, sizeof room, NULL, 60 * NARU_SECOND);
    while (result == -EOWNERDEAD || result == -EPIPE);
    nr_check_ok(result);
    clock_gettime(CLOCK_MONOTONIC, &now);
    stage->went_on_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    nr_step_kill(); /* no goodbye to a channel that the test looks at */
}

static char state_of(pid_t pid)
{
    char path[32], text[512] = "";

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    nr_check(file && fgets(text, sizeof text, file), "%s", path);
    fclose(file);
    return strrchr(text, ')')[2];
}

/* It says that it is about to; then it spins for a while, and then it sleeps. */
static void await_sleep(pid_t pid)
{
    int64_t end_ns = nr_kit_now_ns() + NR_SOON;

    nr_kit_await(&stage->sleeps_soon, 1);
    while (state_of(pid) != 'S') {
        nr_check(nr_kit_now_ns() < end_ns, "it does not fall asleep");
        sched_yield();
    }
}

static bool ends_within(pid_t pid, int milliseconds)
{
    int64_t end_ns = nr_kit_now_ns() + (int64_t)milliseconds * 1000000;
    siginfo_t info = {0};

    for (;;) {
        waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | WNOHANG);
        if (info.si_pid == pid || nr_kit_now_ns() > end_ns)
            return info.si_pid == pid;
        struct timespec pause = {.tv_nsec = 200000};
        nanosleep(&pause, NULL);
    }
}

/* In the sleeper's place: is there something to do? */
static enum outcome look(bool sends)
{
    struct naru_endpoint *endpoint = open_as(sends ? NARU_SENDER : NARU_RECEIVER);
    char room[LARGE_BYTES] = {0};
    int result = sends ? naru_send(endpoint, room, act->size_bytes, 0) : -EPIPE;

    for (int ends = 0; !sends && ends < 4 && (result == -EPIPE || result == -EOWNERDEAD); ends++)
        result = naru_recv(endpoint, room, sizeof room, NULL, 0);
    nr_check(result == 0 || result == -EAGAIN, "%d: %s", result, naru_error_text());
    naru_close(endpoint);
    return result == 0 ? FORGOTTEN : NOTHING_TO_DO;
}

static enum outcome live(long point, bool sleeper_sends)
{
    memset((char *)stage + offsetof(struct stage, death), 0,
           sizeof *stage - offsetof(struct stage, death));
    pid_t victim_pid = nr_kit_fork();
    if (victim_pid == 0)
        victim(point);
    nr_kit_await(&stage->victim_is_ready, 1);
    if (!sleeper_sends && act->prepare == with_message) { /* something for the victim's hand */
        struct naru_endpoint *sender = open_as(NARU_SENDER);
        char room[LARGE_BYTES] = {0};
        nr_check_ok(naru_send(sender, room, act->size_bytes, 0));
        naru_close(sender);
        while (state_of(victim_pid) != 'S') /* in nr_kit_await() */
            sched_yield();
    }
    pid_t sleeper_pid = nr_kit_fork();
    if (sleeper_pid == 0)
        sleeper(sleeper_sends);
    await_sleep(sleeper_pid);
    nr_kit_set(&stage->may_begin, 1);
    int status;
    assert_int_equal(waitpid(victim_pid, &status, 0), victim_pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    enum outcome outcome = WENT_ON;
    if (ends_within(sleeper_pid, PATIENCE_MS * nr_kit_slowness())) {
        if (stage->death.is_reached && times_count < TIMES_MOST)
            times_ns[times_count++] = stage->went_on_ns - stage->death.at_ns;
        nr_check(stage->went_on_ns, "the sleeper failed");
    }
    bool is_asleep = !stage->went_on_ns;
    nr_kit_kill(sleeper_pid);
    if (is_asleep)
        outcome = look(sleeper_sends);
    assert_int_equal(naru_unlink(uri), 0);
    return outcome;
}

/* One that got no processor for so long is given another chance: a lost wake-up is lost each time. */
static bool goes_on_after(long point, bool sleeper_sends)
{
    enum outcome outcome = FORGOTTEN;

    for (int chances = 0; outcome == FORGOTTEN && chances < CHANCES; chances++)
        outcome = live(point, sleeper_sends);
    if (outcome == FORGOTTEN)
        fail_msg("%s, killed after %ld instructions: the other side sleeps on", act->name, point);
    return outcome == WENT_ON;
}

static int by_time(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static void visit(bool sleeper_sends)
{
    unsigned most = getenv("NARU_SANITIZED") ? 6 : 60, visited = 0;

    times_count = 0;
    assert_int_equal(live(-1, sleeper_sends), WENT_ON);
    assert_true(stage->path.is_over);
    long count = stage->path.count, before = -1, after = count - 1;
    while (after - before > 1) {
        long middle = before + (after - before) / 2;
        if (goes_on_after(middle, sleeper_sends))
            after = middle;
        else
            before = middle;
    }
    long stride = (count - after) / most + 1;
    for (long point = after; point < count; point += stride, visited++)
        if (!goes_on_after(point, sleeper_sends))
            fail_msg("%s took effect after %ld instructions, and not after %ld", act->name, after,
                     point);
    qsort(times_ns, times_count, sizeof times_ns[0], by_time);
    assert_true(times_count > 0);
    print_message("# %s%s: takes effect after %ld of %ld instructions; %u points behind it; asleep "
                  "for %.0f us (p50), %.0f us (p99) after the death\n",
                  act->name, has_slept ? ", a long sleep" : "", after, count, visited,
                  (double)times_ns[times_count / 2] / 1000,
                  (double)times_ns[times_count * 99 / 100] / 1000);
}

static void visit_all(bool for_long)
{
    if (nr_step_refusal()) {
        print_message("SKIP: %s\n", nr_step_refusal());
        skip();
    }
    has_slept = for_long;
    for (size_t i = 0; i < sizeof acts / sizeof acts[0]; i++) {
        act = &acts[i];
        visit(act->role == NARU_RECEIVER);
    }
    for (size_t i = 0; i < sizeof hand_acts / sizeof hand_acts[0]; i++) {
        act = &hand_acts[i];
        visit(false);
    }
}

static void test_killed_before_waking(void **state)
{
    (void)state;
    visit_all(false);
}

static void test_killed_before_waking_one_that_sleeps_for_long(void **state)
{
    (void)state;
    visit_all(true);
}

static int group_setup(void **state)
{
    (void)state;
    snprintf(uri, sizeof uri, "shm:///dev/shm/naru-test-wake-%d", (int)getpid());
    stage = nr_kit_shared(sizeof *stage);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    naru_unlink(uri); /* there when a check has failed */
    munmap(stage, sizeof *stage);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_before_waking),
        cmocka_unit_test(test_killed_before_waking_one_that_sleeps_for_long),
    };

    alarm(170);
    return cmocka_run_group_tests_name("shm_kill_wake", tests, group_setup, group_teardown);
}
