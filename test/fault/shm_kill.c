/* SPDX-License-Identifier: MIT */
/*
 * shm_kill -- a process is single-stepped through an operation on shm:// and killed, with a real SIGKILL, after
 *             every k-th instruction; the others must go on, and every committed message must arrive
 *
 * 120 points of each operation, spread over all of it; in the deep suite as many as fit in NARU_BUDGET_S seconds,
 * beginning at one that NARU_SEED chooses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include <errno.h>
#include <naru/endpoint.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>

enum { PRELOADED = 2, SMALL_BYTES = 24, LARGE_BYTES = 300, STEPS_MOST = 200000 };

/* What a message holds: who made it, which one, and bytes that depend on both. */
struct letter {
    uint32_t maker, number;
    unsigned char bytes[LARGE_BYTES];
};

static struct victim_report {
    int is_done;    /* the operation has returned ... */
    int result;     /* ... this */
    uint32_t taken; /* the number of the message it was handed, + 1 */
} * report;

static char uri[80];

static struct naru_options small_options(int one_to_one)
{
    return (struct naru_options){
        .size_bytes = sizeof(struct naru_options),
        .message_size_max_bytes = 512,
        .capacity_messages = 4,
        .payload_bytes = 8 * 512,
        .participants_max = one_to_one ? 4 : 6,
        .one_to_one = (uint32_t)one_to_one,
        .held_max = one_to_one ? 0 : 4,
    };
}

static size_t letter_write(struct letter *letter, uint32_t maker, uint32_t number,
                           size_t size_bytes)
{
    letter->maker = maker;
    letter->number = number;
    for (size_t i = 8; i < size_bytes; i++)
        ((unsigned char *)letter)[i] = (unsigned char)(maker * 31 + number * 7 + i);
    return size_bytes;
}

static void letter_check(const struct letter *letter, size_t size_bytes)
{
    assert_true(size_bytes == SMALL_BYTES || size_bytes == LARGE_BYTES);
    for (size_t i = 8; i < size_bytes; i++)
        if (((const unsigned char *)letter)[i] !=
            (unsigned char)(letter->maker * 31 + letter->number * 7 + i))
            fail_msg("message %u of %u is torn at %zu", letter->number, letter->maker, i);
}

static struct naru_endpoint *open_as(enum naru_role role, int one_to_one)
{
    struct naru_options options = small_options(one_to_one);
    struct naru_endpoint *endpoint = NULL;

    if (one_to_one)
        options.payload_bytes = 0;
    if (naru_open(&endpoint, uri, role, &options) < 0)
        fail_msg("%s", naru_error_text());
    return endpoint;
}

static void send_letter(struct naru_endpoint *endpoint, uint32_t maker, uint32_t number,
                        size_t bytes)
{
    struct letter letter;

    letter_write(&letter, maker, number, bytes);
    if (naru_send(endpoint, &letter, bytes, NARU_SECOND) < 0)
        fail_msg("%s", naru_error_text());
}

/* -- the operations a victim dies in ------------------------------------------------------------ */

enum { MAKER_PARENT = 1, MAKER_VICTIM = 2 };

static size_t victim_bytes;
static long done_from; /* the first point at which the victim had acknowledged its message */

static int victim_send(struct naru_endpoint *endpoint)
{
    struct letter letter;
    size_t size = letter_write(&letter, MAKER_VICTIM, 0, victim_bytes);

    return naru_send(endpoint, &letter, size, 0);
}

static int victim_loan(struct naru_endpoint *endpoint)
{
    struct naru_message message;
    int result = naru_loan(endpoint, victim_bytes, &message, 0);

    if (result < 0)
        return result;
    letter_write(message.data, MAKER_VICTIM, 0, victim_bytes);
    return naru_commit(endpoint, &message);
}

static int victim_recv(struct naru_endpoint *endpoint)
{
    struct letter letter;
    size_t size;
    int result = naru_recv(endpoint, &letter, sizeof letter, &size, 0);

    if (result == 0)
        report->taken = letter.number + 1;
    return result;
}

static int victim_take(struct naru_endpoint *endpoint)
{
    struct naru_message message;
    int result = naru_take(endpoint, &message, 0);

    if (result < 0)
        return result;
    uint32_t number = ((struct letter *)message.data)->number;
    result = naru_ack(endpoint, &message);
    if (result == 0)
        report->taken = number + 1;
    return result;
}

static int victim_requeue(struct naru_endpoint *endpoint)
{
    struct naru_message message;
    int result = naru_take(endpoint, &message, 0);

    return result < 0 ? result : naru_requeue(endpoint, &message);
}

static int victim_close(struct naru_endpoint *endpoint)
{
    struct naru_message message;

    naru_take(endpoint, &message, 0); /* with a message in hand, which must come back */
    naru_close(endpoint);
    return 0;
}

struct operation {
    const char *name;
    int (*run)(struct naru_endpoint *endpoint);
    enum naru_role role;
    size_t bytes;
    int one_to_one;
};

static const struct operation operations[] = {
    {"send small", victim_send, NARU_SENDER, SMALL_BYTES, 0},
    {"send large", victim_send, NARU_SENDER, LARGE_BYTES, 0},
    {"loan, commit", victim_loan, NARU_SENDER, LARGE_BYTES, 0},
    {"recv small", victim_recv, NARU_RECEIVER, SMALL_BYTES, 0},
    {"recv large", victim_recv, NARU_RECEIVER, LARGE_BYTES, 0},
    {"take small, ack", victim_take, NARU_RECEIVER, SMALL_BYTES, 0},
    {"take large, ack", victim_take, NARU_RECEIVER, LARGE_BYTES, 0},
    {"take, requeue", victim_requeue, NARU_RECEIVER, LARGE_BYTES, 0},
    {"take, close", victim_close, NARU_RECEIVER, SMALL_BYTES, 0},
    {"one-to-one send", victim_send, NARU_SENDER, LARGE_BYTES, 1},
    {"one-to-one recv", victim_recv, NARU_RECEIVER, LARGE_BYTES, 1},
    {"one-to-one take, ack", victim_take, NARU_RECEIVER, SMALL_BYTES, 1},
};

/* -- stepping ----------------------------------------------------------------------------------- */

/* A victim that has opened the channel and stands before its operation. */
static pid_t victim_start(const struct operation *operation)
{
    memset(report, 0, sizeof *report);
    victim_bytes = operation->bytes;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0) {
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSTOPPED(status));
        return pid;
    }
    struct naru_endpoint *endpoint = NULL;
    struct naru_options options = small_options(operation->one_to_one);
    if (operation->one_to_one)
        options.payload_bytes = 0;
    child_check(naru_open(&endpoint, uri, operation->role, &options) == 0);
    child_check(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
    raise(SIGSTOP);
    report->result = operation->run(endpoint);
    report->is_done = 1;
    raise(SIGSTOP);
    _exit(0);
}

/* Steps until the operation has returned or `most` instructions are done; how many were. */
static long victim_step(pid_t pid, long most)
{
    for (long steps = 0; steps < most; steps++) {
        int status;
        if (report->is_done)
            return steps;
        assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSTOPPED(status));
    }
    return most;
}

static void victim_kill(pid_t pid)
{
    int status;

    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

/* -- what survivors must find ------------------------------------------------------------------- */

/* Receives all there is: each of the parent's messages once unless flagged, the victim's whole or not. */
static void survivors_check(const struct operation *operation, struct naru_endpoint *receiver,
                            uint32_t sent, long point)
{
    unsigned seen[16] = {0}, victims = 0;

    for (;;) {
        struct letter letter;
        struct naru_message message = {.data = &letter, .capacity_bytes = sizeof letter};
        struct naru_stat stat = {.size_bytes = sizeof stat};
        assert_int_equal(naru_stat(receiver, &stat), 0); /* it looks for the dead */
        int result = naru_recv_many(receiver, &message, 1, 0);
        if (result == -EOWNERDEAD || result == -EPIPE)
            continue;
        if (result == -EAGAIN)
            break;
        if (result < 0)
            fail_msg("%s at %ld: %s", operation->name, point, naru_error_text());
        letter_check(&letter, message.size_bytes);
        if (letter.maker == MAKER_VICTIM) {
            victims++;
            continue;
        }
        assert_true(letter.number < 16);
        if (seen[letter.number]++ && !(message.flags & NARU_REDELIVERED))
            fail_msg("%s at %ld: message %u twice, not flagged", operation->name, point,
                     letter.number);
    }
    assert_true(victims <= 1);
    if (operation->role == NARU_SENDER && report->is_done && report->result == 0)
        assert_int_equal(victims, 1);
    for (uint32_t i = 1; i < sent; i++)
        if (!seen[i])
            fail_msg("%s at %ld: message %u is lost", operation->name, point, i);
    if (operation->role == NARU_SENDER || operation->run == victim_requeue ||
        operation->run == victim_close)
        assert_true(seen[0]);
    /* A receiver may have been done with the first one: from one instruction on, and ever after. */
    if (report->taken == 1)
        assert_int_equal(seen[0], 0);
    if (!seen[0])
        done_from = point < done_from ? point : done_from;
    else if (point > done_from)
        fail_msg("%s at %ld: message 0 came, though it was done with at %ld", operation->name,
                 point, done_from);
}

/* One life: two messages wait, the victim dies at `point`, then a third must get through, behind them. */
static long live_and_die(const struct operation *operation, long point)
{
    bool victim_sends = operation->role == NARU_SENDER;
    struct naru_endpoint *sender = NULL, *receiver = NULL;
    uint32_t sent = 0;

    if (!operation->one_to_one || !victim_sends)
        sender = open_as(NARU_SENDER, operation->one_to_one);
    if (!operation->one_to_one || victim_sends)
        receiver = open_as(NARU_RECEIVER, operation->one_to_one);
    while (sender && sent < PRELOADED)
        send_letter(sender, MAKER_PARENT, sent++, operation->bytes);
    pid_t pid = victim_start(operation);
    long steps = victim_step(pid, point);
    victim_kill(pid);
    if (!sender)
        sender = open_as(NARU_SENDER, 1);
    if (!receiver)
        receiver = open_as(NARU_RECEIVER, 1);
    send_letter(sender, MAKER_PARENT, sent++, SMALL_BYTES);
    survivors_check(operation, receiver, sent, point);
    for (uint32_t i = 0; i < 9; i++) { /* twice around the ring: no place is lost for good */
        struct letter letter;
        send_letter(sender, MAKER_PARENT, i, LARGE_BYTES);
        int result = naru_recv(receiver, &letter, sizeof letter, NULL, NARU_SECOND);
        if (result < 0)
            fail_msg("%s at %ld, afterwards: %s", operation->name, point, naru_error_text());
        assert_int_equal(letter.number, i);
    }
    struct naru_stat stat = {.size_bytes = sizeof stat};
    assert_int_equal(naru_stat(receiver, &stat), 0);
    assert_int_equal(stat.peers, 1); /* the dead one's place is free again */
    naru_close(sender);
    naru_close(receiver);
    assert_int_equal(naru_unlink(uri), 0);
    return steps;
}

/* Its instrumentation makes tens of thousands of instructions of each operation, and it looks for races of
   threads, of which a process that is single-stepped has none. */
static void skip_under_thread_sanitizer(void)
{
    const char *sanitizers = getenv("NARU_SANITIZED");

    if (sanitizers && strstr(sanitizers, "thread")) {
        print_message("SKIP: under the thread sanitizer stepping takes too long\n");
        skip();
    }
}

enum { KILLS_A_SECOND = 40, OPERATIONS = sizeof operations / sizeof operations[0] };

static long from_environment(const char *name, long otherwise)
{
    const char *text = getenv(name);

    return text ? atol(text) : otherwise;
}

static long points_wanted(void)
{
    long budget = from_environment("NARU_BUDGET_S", 0) * KILLS_A_SECOND / OPERATIONS;

    if (getenv("NARU_SANITIZED")) /* ten times the instructions, and slower ones */
        return 12;
    return budget > 120 ? budget : 120;
}

static void test_kill_points(void **state)
{
    skip_under_thread_sanitizer();
    long kills = 0, seed = labs(from_environment("NARU_SEED", 0));

    (void)state;
    for (size_t i = 0; i < OPERATIONS; i++) {
        done_from = STEPS_MOST;
        long length = live_and_die(&operations[i], STEPS_MOST);
        done_from = STEPS_MOST;
        assert_in_range(length, 20, STEPS_MOST - 1);
        long stride = length / points_wanted() + 1;
        for (long point = (seed + (long)i) % stride; point < length; point += stride, kills++)
            live_and_die(&operations[i], point);
        print_message("# %s: %ld instructions, every %ld.\n", operations[i].name, length, stride);
    }
    print_message("# %ld kills\n", kills);
    assert_true(kills >= (getenv("NARU_SANITIZED") ? 100 : 500));
}

/* -- between publishing and waking -------------------------------------------------------------- */

enum wake_outcome { WOKEN, NOT_PUBLISHED, LEFT_ASLEEP };

/* A receiver sleeps; the sender dies at `point`; nobody else touches the channel for a while. */
static enum wake_outcome sleep_through_a_death(long point, bool *ret_is_over)
{
    static const struct operation operation = {"send", victim_send, NARU_SENDER, SMALL_BYTES, 0};
    struct naru_endpoint *both = open_as(NARU_BOTH, 0);
    pid_t sleeper = fork(), ended;

    assert_true(sleeper >= 0);
    if (sleeper == 0) {
        struct letter letter;
        struct naru_endpoint *receiver = open_as(NARU_RECEIVER, 0);
        _exit(naru_recv(receiver, &letter, sizeof letter, NULL, 20 * NARU_SECOND) == 0 ? 0 : 1);
    }
    sleep_ms(15); /* it is asleep by now: the point of the test, not a condition of its success */
    pid_t victim = victim_start(&operation);
    victim_step(victim, point);
    *ret_is_over = report->is_done;
    victim_kill(victim);
    int64_t until = clock_ms() + 100;
    int status = 0;
    do {
        sleep_ms(1);
        ended = waitpid(sleeper, &status, WNOHANG);
    } while (ended == 0 && clock_ms() < until);
    enum wake_outcome outcome = WOKEN;
    if (ended == 0) {
        struct naru_stat stat = {.size_bytes = sizeof stat};
        assert_int_equal(naru_stat(both, &stat), 0); /* this looks for the dead, and wakes */
        outcome = stat.queued_messages ? LEFT_ASLEEP : NOT_PUBLISHED;
        send_letter(both, MAKER_PARENT, 0, SMALL_BYTES);
        assert_int_equal(waitpid(sleeper, &status, 0), sleeper);
    }
    assert_int_equal(status, 0);
    naru_close(both);
    assert_int_equal(naru_unlink(uri), 0);
    return outcome;
}

/* If the message was published, the sleeper gets it without anyone else's doing. One that got no processor
   for 100 ms is given another chance: a lost wake-up is lost each time. */
static void test_wake_after_death(void **state)
{
    skip_under_thread_sanitizer();
    bool is_over = false;
    long woken = 0;

    (void)state;
    long stride = getenv("NARU_SANITIZED") ? 150 : 9;
    for (long point = 0; !is_over; point += stride) {
        enum wake_outcome outcome = LEFT_ASLEEP;
        for (int chances = 0; outcome == LEFT_ASLEEP && chances < 4; chances++)
            outcome = sleep_through_a_death(point, &is_over);
        if (outcome == LEFT_ASLEEP)
            fail_msg("killed after %ld instructions: the message waits, the receiver sleeps",
                     point);
        woken += outcome == WOKEN;
    }
    assert_true(woken > 0);
}

/* A sender that is stopped in the middle of its slot is named, and holds up nobody for longer than they allow. */
static void test_stopped_sender_is_named(void **state)
{
    skip_under_thread_sanitizer();
    static const struct operation operation = {"send", victim_send, NARU_SENDER, SMALL_BYTES, 0};
    struct naru_endpoint *receiver = open_as(NARU_RECEIVER, 0);
    pid_t victim = victim_start(&operation);
    char words[32];
    int busy = 0;

    (void)state;
    snprintf(words, sizeof words, "process %d", (int)victim);
    for (int i = 0; i < 4000 && !report->is_done && !busy; i++) {
        struct letter letter;
        victim_step(victim, 1);
        int64_t before = clock_ms();
        int result = naru_recv(receiver, &letter, sizeof letter, NULL, 0);
        assert_true(clock_ms() - before < 1000);
        if (result == 0)
            break;
        if (result == -EBUSY) {
            busy++;
            assert_text_has(words);
            assert_int_equal(
                naru_recv(receiver, &letter, sizeof letter, NULL, 20 * NARU_MILLISECOND), -EBUSY);
            /* The descriptor rests meanwhile, and tells when the way is free. */
            struct pollfd one = {.fd = naru_fd(receiver), .events = POLLIN};
            assert_true(one.fd >= 0);
            assert_int_equal(naru_recv(receiver, &letter, sizeof letter, NULL, 0), -EBUSY);
            assert_int_equal(poll(&one, 1, 100), 0);
            victim_kill(victim);
            victim = 0;
            assert_int_equal(poll(&one, 1, 5000), 1);
            assert_int_equal(naru_recv(receiver, &letter, sizeof letter, NULL, 0), -EAGAIN);
        }
    }
    assert_int_equal(busy, 1);
    if (victim)
        victim_kill(victim);
    naru_close(receiver);
    assert_int_equal(naru_unlink(uri), 0);
}

static int group_setup(void **state)
{
    (void)state;
    snprintf(uri, sizeof uri, "shm://naru-test-kill-%d", (int)getpid());
    report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return report == MAP_FAILED;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kill_points),
        cmocka_unit_test(test_wake_after_death),
        cmocka_unit_test(test_stopped_sender_is_named),
    };

    alarm(170 + (unsigned)from_environment("NARU_BUDGET_S", 0) * 2);
    return cmocka_run_group_tests_name("shm_kill", tests, group_setup, NULL);
}
