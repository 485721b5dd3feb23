/* SPDX-License-Identifier: MIT */
/*
 * party -- shm:// : who is dead, who has left and who only looks like it, and that waiting for them takes nothing
 *
 * What       A holder takes a message and then dies, stops, ends a thread, becomes another program. Whoever is gone
 *            must have given it back at once, whoever is not must keep it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include "kit.h"
#include "os/uring.h"
#include "place.h"
#include <dirent.h>
#include <errno.h>
#include <linux/sched.h>
#include <naru/endpoint.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/syscall.h>

enum { IDLE_MS = 3000, PROMPT_MS = 100, STAYS_MS = 200, MANY = 300 };

static char uri[144];
static const char *program;
static struct shared {
    int ready, go;
    int64_t at_ns[8];
} * shared;

static int test_setup(void **state)
{
    (void)state;
    alarm(50);
    place_make();
    snprintf(uri, sizeof uri, "shm://%s/channel", place_directory);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    return 0;
}

static int test_teardown(void **state)
{
    (void)state;
    munmap(shared, sizeof *shared);
    place_remove();
    return 0;
}

static struct naru_options test_options(uint32_t participants_max)
{
    return (struct naru_options){
        .size_bytes = sizeof(struct naru_options),
        .message_size_max_bytes = 64,
        .capacity_messages = 16,
        .participants_max = participants_max,
    };
}

static struct naru_endpoint *test_open(enum naru_role role, const struct naru_options *options)
{
    struct naru_endpoint *endpoint = NULL;

    if (naru_open(&endpoint, uri, role, options) < 0)
        fail_msg("%s", naru_error_text());
    return endpoint;
}

static bool test_has_vigils(void)
{
    struct nr_uring ring;
    bool has = nr_os_uring_init(&ring, true) == 0;

    nr_os_uring_deinit(&ring);
    return has;
}

/* The message that the holder has: comes back flagged, within that time, or not at all. */
static void test_expect_back(struct naru_endpoint *receiver)
{
    char data[8];
    struct naru_message message = {.data = data, .capacity_bytes = sizeof data};
    int64_t begin = clock_ms();

    if (naru_recv_many(receiver, &message, 1, 10 * NARU_SECOND) != 1)
        fail_msg("it did not come back: %s", naru_error_text());
    assert_true(message.flags & NARU_REDELIVERED);
    assert_in_range(clock_ms() - begin, 0, 1500 * nr_kit_slowness());
}

static void test_expect_kept(struct naru_endpoint *receiver)
{
    char data[8];

    assert_int_equal(naru_recv(receiver, data, sizeof data, NULL, STAYS_MS * NARU_MILLISECOND),
                     -ETIMEDOUT);
}

/* -- holders ------------------------------------------------------------------------------------ */

static struct naru_endpoint *hold(struct naru_message *ret)
{
    struct naru_endpoint *endpoint = NULL;

    child_check(naru_open(&endpoint, uri, NARU_RECEIVER, NULL) == 0);
    child_check(naru_take(endpoint, ret, 5 * NARU_SECOND) == 0);
    return endpoint;
}

static void hold_and_wait(void *context)
{
    struct naru_message message;

    (void)context;
    hold(&message);
    nr_kit_add(&shared->ready, 1);
    pause();
}

/* Its child has copies of all that it has, and lives on. */
static void hold_and_fork(void *context)
{
    struct naru_message message;
    (void)context;
    hold(&message);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(20);
        pause();
        _exit(0);
    }
    shared->go = pid;
    nr_kit_add(&shared->ready, 1);
    pause();
}

static void *use_and_end(void *context)
{
    naru_recv(context, &(char[8]){0}, 8, NULL, 0);
    syscall(SYS_gettid);
    return NULL;
}

static void hold_and_end_threads(void *context)
{
    struct naru_message message;
    struct naru_endpoint *endpoint = hold(&message);
    pthread_t thread;

    (void)context;
    nr_kit_add(&shared->ready, 1);
    for (int i = 0; i < 20; i++) {
        child_check(pthread_create(&thread, NULL, use_and_end, endpoint) == 0);
        pthread_join(thread, NULL);
        sleep_ms(10);
    }
    nr_kit_await(&shared->go, 1);
    child_check(naru_ack(endpoint, &message) == 0);
    naru_close(endpoint);
}

static void hold_and_exec(void *context)
{
    struct naru_message message;

    hold(&message);
    nr_kit_add(&shared->ready, 1);
    sleep_ms(50);
    execl(context ? program : "/bin/sleep", "sleep", context ? uri : "20", NULL);
    _exit(99);
}

/* What the test program does that hold_and_exec() has become: it attaches to what it was attached to before. */
static int attach_again(const char *name)
{
    struct naru_endpoint *endpoint = NULL;
    char data[8];
    struct naru_message message = {.data = data, .capacity_bytes = sizeof data};
    struct naru_options options = test_options(2);

    if (naru_open(&endpoint, name, NARU_RECEIVER, &options) < 0) {
        fprintf(stderr, "# %s\n", naru_error_text());
        return 1;
    }
    if (naru_recv_many(endpoint, &message, 1, 5 * NARU_SECOND) != 1)
        return 2;
    naru_close(endpoint);
    return message.flags & NARU_REDELIVERED ? 0 : 3;
}

/* Sends one message, and starts who is to hold it. */
static pid_t test_hold(struct naru_endpoint *both, void (*run)(void *), void *context)
{
    char data[8];

    assert_int_equal(naru_send(both, "held", 4, 0), 0);
    pid_t pid = child_start(run, context);
    nr_kit_await(&shared->ready, 1);
    for (int i = 0; i < 6; i++) /* by now it is worth a vigil */
        naru_recv(both, data, sizeof data, NULL, NARU_MILLISECOND);
    return pid;
}

/* -- who is gone, and who is not ------------------------------------------------------------------ */

static void test_forked_child_is_not_its_parent(void **state)
{
    struct naru_endpoint *both = test_open(NARU_BOTH, NULL);
    pid_t pid = test_hold(both, hold_and_fork, NULL);

    (void)state;
    test_expect_kept(both);
    kill(pid, SIGKILL);
    test_expect_back(both);
    child_end(pid);
    assert_true(shared->go > 0 && kill(shared->go, SIGKILL) == 0); /* it was there all the time */
    naru_close(both);
}

static void test_thread_ends(void **state)
{
    struct naru_endpoint *both = test_open(NARU_BOTH, NULL);
    pid_t pid = test_hold(both, hold_and_end_threads, NULL);

    (void)state;
    test_expect_kept(both);
    test_expect_kept(both);
    nr_kit_set(&shared->go, 1);
    assert_int_equal(child_end(pid), 0);
    test_expect_kept(both);
    naru_close(both);
}

static void test_stopped_is_alive(void **state)
{
    struct naru_endpoint *both = test_open(NARU_BOTH, NULL);
    pid_t pid = test_hold(both, hold_and_wait, NULL);

    (void)state;
    kill(pid, SIGSTOP);
    test_expect_kept(both);
    kill(pid, SIGCONT);
    test_expect_kept(both);
    kill(pid, SIGKILL);
    test_expect_back(both);
    child_end(pid);
    naru_close(both);
}

static void test_exec_is_leaving(void **state)
{
    const char *sanitizers = getenv("NARU_SANITIZED");

    if (sanitizers && strstr(sanitizers, "thread")) {
        print_message("SKIP: with the thread sanitizer the death word wakes nobody\n");
        skip();
    }
    struct naru_endpoint *both = test_open(NARU_BOTH, NULL);
    pid_t pid = test_hold(both, hold_and_exec, NULL);

    (void)state;
    test_expect_back(both);
    assert_int_equal(kill(pid, 0), 0); /* it lives */
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
    kill(pid, SIGKILL);
    child_end(pid);
    naru_close(both);
}

/* Nobody else looks, and there is one place for the two that it is. */
static void test_exec_and_back(void **state)
{
    struct naru_options options = test_options(2);
    struct naru_endpoint *both = test_open(NARU_BOTH, &options);

    (void)state;
    assert_int_equal(naru_send(both, "held", 4, 0), 0);
    assert_int_equal(child_run(hold_and_exec, &options), 0);
    naru_close(both);
}

static pid_t start_as(pid_t wanted, void (*run)(void *))
{
    struct clone_args arguments = {
        .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&wanted, .set_tid_size = 1};
    pid_t pid = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);

    if (pid == 0) {
        alarm(20);
        run(NULL);
        _exit(0);
    }
    return pid;
}

static void wait_for_ever(void *context)
{
    (void)context;
    pause();
}

/* As the first process of a PID namespace: another process gets the pid of the dead one. */
static void reuse_a_pid(void)
{
    struct naru_endpoint *both = NULL;
    struct naru_message message;

    child_check(naru_open(&both, uri, NARU_BOTH, NULL) == 0);
    child_check(naru_send(both, "held", 4, 0) == 0);
    pid_t pid = start_as(100, hold_and_wait);
    if (pid < 0)
        _exit(PLACE_SKIPPED);
    nr_kit_await(&shared->ready, 1);
    kill(pid, SIGKILL);
    child_check(waitpid(pid, NULL, 0) == 100);
    child_check(start_as(100, wait_for_ever) == 100);
    child_check(naru_take(both, &message, 5 * NARU_SECOND) == 0);
    child_check(message.flags & NARU_REDELIVERED);
    child_check(kill(100, 0) == 0);
    naru_close(both);
    _exit(0); /* the namespace goes, with all that is in it */
}

static void in_a_pid_namespace(void *context)
{
    int status = -1;

    (void)context;
    place_unshare(CLONE_NEWPID);
    pid_t first = fork();
    if (first == 0)
        reuse_a_pid();
    child_check(waitpid(first, &status, 0) == first && WIFEXITED(status));
    _exit(WEXITSTATUS(status));
}

static void test_pid_is_reused(void **state)
{
    (void)state;
    place_assert_status(child_run(in_a_pid_namespace, NULL), "no right to choose a pid");
}

/* All places are of the dead, none of whom anybody has noticed. */
static void test_everybody_crashes(void **state)
{
    struct naru_options options = test_options(2);
    struct naru_endpoint *sender = test_open(NARU_SENDER, &options);
    pid_t pids[2];

    (void)state;
    for (int i = 0; i < 2; i++)
        assert_int_equal(naru_send(sender, "held", 4, 0), 0);
    naru_close(sender);
    for (int i = 0; i < 2; i++)
        pids[i] = child_start(hold_and_wait, NULL);
    nr_kit_await(&shared->ready, 2);
    for (int i = 0; i < 2; i++)
        kill(pids[i], SIGKILL);
    for (int i = 0; i < 2; i++)
        child_end(pids[i]);
    struct naru_endpoint *both = test_open(NARU_BOTH, &options);
    for (int i = 0; i < 2; i++)
        test_expect_back(both);
    struct naru_endpoint *other = test_open(NARU_SENDER, &options);
    naru_close(other);
    naru_close(both);
}

/* -- sleepers ----------------------------------------------------------------------------------- */

static const char *line_uri(uintptr_t line)
{
    static char text[160];

    snprintf(text, sizeof text, "%s-%u", uri, (unsigned)line);
    return text;
}

/* One thread, several channels: only the last one's death word is pending in it. */
static void send_on_all_lines(void *context)
{
    struct naru_options options = test_options(2);

    (void)context;
    options.one_to_one = 1;
    for (uintptr_t i = 0; i < 4; i++) {
        struct naru_endpoint *sender = NULL;
        child_check(naru_open(&sender, line_uri(i), NARU_SENDER, &options) == 0);
        child_check(naru_send(sender, "x", 1, NARU_SECOND) == 0);
    }
    pause();
}

static void sleep_on_a_line(void *context)
{
    struct naru_options options = test_options(2);
    struct naru_endpoint *receiver = NULL;
    uintptr_t line = (uintptr_t)context;
    char data[8];

    options.one_to_one = 1;
    child_check(naru_open(&receiver, line_uri(line), NARU_RECEIVER, &options) == 0);
    nr_kit_add(&shared->ready, 1);
    child_check(naru_recv(receiver, data, sizeof data, NULL, 5 * NARU_SECOND) == 0);
    nr_kit_add(&shared->ready, 1);
    child_check(naru_recv(receiver, data, sizeof data, NULL, 20 * NARU_SECOND) == -EOWNERDEAD);
    shared->at_ns[line] = nr_kit_now_ns();
}

static void test_death_on_many_channels(void **state)
{
    pid_t pids[4];

    (void)state;
    for (uintptr_t i = 0; i < 4; i++)
        pids[i] = child_start(sleep_on_a_line, (void *)i);
    nr_kit_await(&shared->ready, 4);
    pid_t victim = child_start(send_on_all_lines, NULL);
    nr_kit_await(&shared->ready, 8);
    sleep_ms(400);
    int64_t killed_ns = nr_kit_now_ns();
    kill(victim, SIGKILL);
    child_end(victim);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(child_end(pids[i]), 0);
        int64_t late_ms = (shared->at_ns[i] - killed_ns) / 1000000;
        if (test_has_vigils() && late_ms > PROMPT_MS * nr_kit_slowness())
            fail_msg("channel %d noticed it %lld ms late", i, (long long)late_ms);
    }
}

static long context_switches(pid_t pid)
{
    char path[64], line[128];
    long sum = 0, count;
    struct dirent *entry;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *directory = opendir(path);
    assert_non_null(directory);
    while ((entry = readdir(directory))) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%.20s/status", (int)pid, entry->d_name);
        FILE *file = fopen(path, "re");
        assert_non_null(file);
        while (fgets(line, sizeof line, file))
            if (sscanf(line, "voluntary_ctxt_switches: %ld", &count) == 1 ||
                sscanf(line, "nonvoluntary_ctxt_switches: %ld", &count) == 1)
                sum += count;
        fclose(file);
    }
    closedir(directory);
    return sum;
}

static void receive_for_ever(void *context)
{
    struct naru_endpoint *receiver = NULL;
    char data[8];

    child_check(naru_open(&receiver, uri, NARU_RECEIVER, context) == 0);
    naru_recv(receiver, data, sizeof data, NULL, NARU_FOREVER);
}

static void poll_for_ever(void *context)
{
    struct naru_endpoint *receiver = NULL;
    char data[8];

    child_check(naru_open(&receiver, uri, NARU_RECEIVER, context) == 0);
    struct pollfd one = {.fd = naru_fd(receiver), .events = POLLIN};
    child_check(one.fd >= 0);
    do
        naru_recv(receiver, data, sizeof data, NULL, 0);
    while (poll(&one, 1, -1) == 1);
}

static void test_idle(void (*run)(void *), uint32_t one_to_one)
{
    struct naru_options options = test_options(8);

    if (!test_has_vigils()) {
        print_message("SKIP: no io_uring with futexes here (Linux 6.7)\n");
        skip();
    }
    options.one_to_one = one_to_one;
    struct naru_endpoint *sender = test_open(NARU_SENDER, &options);
    pid_t pid = child_start(run, &options);
    sleep_ms(500);
    long before = context_switches(pid);
    sleep_ms(IDLE_MS);
    assert_int_equal(context_switches(pid) - before, 0);
    kill(pid, SIGKILL);
    child_end(pid);
    naru_close(sender);
}

static void test_idle_receiver(void **state)
{
    (void)state;
    test_idle(receive_for_ever, 0);
}
static void test_idle_receiver_one_to_one(void **state)
{
    (void)state;
    test_idle(receive_for_ever, 1);
}
static void test_idle_descriptor(void **state)
{
    (void)state;
    test_idle(poll_for_ever, 0);
}

static void receive_one(void *context)
{
    struct naru_options options = test_options(MANY + 20);
    struct naru_endpoint *receiver = NULL;
    char data[8];

    (void)context;
    child_check(naru_open(&receiver, uri, NARU_RECEIVER, &options) == 0);
    nr_kit_add(&shared->ready, 1);
    child_check(naru_recv(receiver, data, sizeof data, NULL, 25 * NARU_SECOND) == 0);
    naru_close(receiver);
}

static void test_many_participants(void **state)
{
    struct naru_options options = test_options(MANY + 20);
    struct naru_endpoint *sender = test_open(NARU_SENDER, &options);
    struct naru_stat stat = {.size_bytes = sizeof stat};
    int many = getenv("NARU_SANITIZED") ? 80 : MANY;
    pid_t pids[MANY];

    (void)state;
    for (int i = 0; i < many; i++)
        pids[i] = child_start(receive_one, NULL);
    nr_kit_await(&shared->ready, many);
    for (int i = 0; i < 3; i++) {
        kill(pids[i], SIGKILL);
        child_end(pids[i]);
    }
    assert_int_equal(naru_stat(sender, &stat), 0);
    assert_int_equal(stat.peers, many - 3);
    for (int i = 3; i < many; i++)
        if (naru_send(sender, "x", 1, 10 * NARU_SECOND) < 0)
            fail_msg("%s", naru_error_text());
    for (int i = 3; i < many; i++)
        assert_int_equal(child_end(pids[i]), 0);
    assert_int_equal(naru_stat(sender, &stat), 0);
    assert_int_equal(stat.peers, 0);
    naru_close(sender);
}

/* -- what it tells of itself --------------------------------------------------------------------- */

static void hold_send_and_sleep(void *context)
{
    struct naru_endpoint *both = NULL;
    struct naru_message taken, loan;
    char data[8];

    (void)context;
    child_check(naru_open(&both, uri, NARU_BOTH, NULL) == 0);
    child_check(naru_take(both, &taken, NARU_SECOND) == 0);
    child_check(naru_loan(both, 40, &loan, 0) == 0);
    child_check(naru_send(both, "12345", 5, 0) == 0);
    child_check(naru_recv(both, data, sizeof data, NULL, 0) == 0);
    nr_kit_add(&shared->ready, 1);
    child_check(naru_recv(both, data, sizeof data, NULL, 10 * NARU_SECOND) == 0);
    child_check(naru_ack(both, &taken) == 0);
    child_check(naru_cancel(both, &loan) == 0);
    nr_kit_add(&shared->ready, 1);
    pause();
}

static struct naru_participant test_participant(struct naru_endpoint *endpoint, pid_t pid)
{
    struct naru_participant participant = {.size_bytes = sizeof participant};

    for (size_t i = 0; naru_stat_participant(endpoint, i, &participant) == 0; i++)
        if (participant.pid == pid)
            return participant;
    fail_msg("process %d is not there", (int)pid);
    return participant;
}

static void test_participants_are_told(void **state)
{
    struct naru_endpoint *sender = test_open(NARU_SENDER, NULL);
    struct naru_endpoint *observer = test_open(NARU_OBSERVER, NULL);
    struct naru_participant one = {.size_bytes = sizeof one};

    (void)state;
    assert_int_equal(naru_send(sender, "held", 4, 0), 0);
    pid_t pid = child_start(hold_send_and_sleep, NULL);
    nr_kit_await(&shared->ready, 1);
    sleep_ms(100);
    one = test_participant(observer, pid);
    assert_int_equal(one.role, NARU_BOTH);
    assert_int_equal(one.state, NARU_WAITS_FOR_MESSAGE);
    assert_int_equal(one.held_messages, 1);
    assert_int_equal(one.loans, 1);
    assert_int_equal(one.sent_messages, 1);
    assert_int_equal(one.sent_bytes, 5);
    assert_int_equal(one.received_messages, 2);
    assert_int_equal(one.received_bytes, 9);
    assert_in_range(one.blocked_ns, 50000000, 5000000000 * nr_kit_slowness());
    assert_int_equal(test_participant(sender, getpid()).role, NARU_SENDER);
    assert_int_equal(naru_stat_participant(observer, 2, &one), -ENOENT); /* the observer is none */
    assert_int_equal(naru_send(sender, "x", 1, 0), 0);
    nr_kit_await(&shared->ready, 2);
    one = test_participant(sender, pid);
    assert_int_equal(one.state, NARU_ACTIVE);
    assert_int_equal(one.held_messages + one.loans, 0);
    kill(pid, SIGSTOP);
    while (test_participant(observer, pid).state != NARU_STOPPED)
        sleep_ms(1);
    kill(pid, SIGKILL);
    child_end(pid);
    assert_int_equal(test_participant(observer, pid).state, NARU_DEAD); /* it can't repair */
    assert_int_equal(naru_recv(observer, &one, 8, NULL, 0), -EBADF);
    assert_int_equal(naru_stat_participant(observer, 0, &(struct naru_participant){0}), -EINVAL);
    naru_close(observer);
    naru_close(sender);
}

/* -- the same descriptor, one thread after the other ---------------------------------------------- */

static void *receive_by_poll(void *context)
{
    struct naru_endpoint *receiver = context;
    struct pollfd one = {.fd = naru_fd(receiver), .events = POLLIN};
    char data[8];

    while (naru_recv(receiver, data, sizeof data, NULL, 0) == -EAGAIN)
        if (poll(&one, 1, 10000) != 1)
            return NULL;
    return receiver;
}

static void test_descriptor_goes_from_thread_to_thread(void **state)
{
    struct naru_endpoint *receiver = test_open(NARU_RECEIVER, NULL);
    struct naru_endpoint *sender = test_open(NARU_SENDER, NULL);

    (void)state;
    assert_true(naru_fd(receiver) >= 0);
    for (int i = 0; i < 25; i++) {
        pthread_t thread;
        void *result = NULL;
        assert_int_equal(pthread_create(&thread, NULL, receive_by_poll, receiver), 0);
        sleep_ms(i % 5);
        assert_int_equal(naru_send(sender, "x", 1, 0), 0);
        pthread_join(thread, &result);
        if (!result)
            fail_msg("thread %d: a message, and the descriptor was silent", i);
    }
    naru_close(sender);
    naru_close(receiver);
}

#define test_case(name) cmocka_unit_test_setup_teardown(name, test_setup, test_teardown)

int main(int count, char **words)
{
    const struct CMUnitTest tests[] = {
        test_case(test_forked_child_is_not_its_parent),
        test_case(test_thread_ends),
        test_case(test_stopped_is_alive),
        test_case(test_exec_is_leaving),
        test_case(test_exec_and_back),
        test_case(test_pid_is_reused),
        test_case(test_everybody_crashes),
        test_case(test_death_on_many_channels),
        test_case(test_idle_receiver),
        test_case(test_idle_receiver_one_to_one),
        test_case(test_idle_descriptor),
        test_case(test_many_participants),
        test_case(test_participants_are_told),
        test_case(test_descriptor_goes_from_thread_to_thread),
    };

    if (count == 2 && strncmp(words[1], "shm://", 6) == 0)
        return attach_again(words[1]);
    program = "/proc/self/exe";
    return cmocka_run_group_tests_name("party", tests, NULL, NULL);
}
