/* SPDX-License-Identifier: MIT */
/*
 * semaphore -- processes that count through it, and are killed while they do
 *
 * What       Conservation: what was posted is what was taken and what the count says. A process that is
 *            killed may have done the operation it was in, or not: `started` and `done` bound it.
 * Steps      A process is single-stepped through an operation and killed after k instructions, for every
 *            k until it gets through; the others must then find a whole semaphore.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include <errno.h>
#include <naru/sync.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>

enum { SLOTS = 8, SLEEPING = (int)0x80000000 };

struct test_slot {
    long started, done; /* operations */
    long killed;        /* operations that a kill left open */
    long odd;           /* results that must not be */
    char line[32];      /* a cache line each */
};

static struct test_shared {
    struct naru_semaphore_state state[2];
    int stop;
    long counter; /* plain, guarded */
    struct test_slot slots[SLOTS];
} * shared;

static struct naru_semaphore *semaphores[2];

#define load(place)         __atomic_load_n(&(place), __ATOMIC_SEQ_CST)
#define store(place, value) __atomic_store_n(&(place), (value), __ATOMIC_SEQ_CST)

static void test_reset(uint32_t initial)
{
    memset(shared, 0, sizeof *shared);
    for (int i = 0; i < 2; i++)
        assert_int_equal(naru_semaphore_init(&shared->state[i], initial), 0);
}

static int test_group_setup(void **state)
{
    (void)state;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return -1;
    test_reset(0);
    for (int i = 0; i < 2; i++)
        if (naru_semaphore_attach(&semaphores[i], &shared->state[i]) < 0)
            return -1;
    return 0;
}

static int test_setup(void **state)
{
    (void)state;
    alarm(55);
    return 0;
}

static int test_group_teardown(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++)
        naru_semaphore_close(semaphores[i]);
    return munmap(shared, sizeof *shared);
}

/* -- counting ------------------------------------------------------------------------------- */

enum { ROUNDS = 20000 };

static void child_guards(void *unused)
{
    (void)unused;
    for (int i = 0; i < ROUNDS; i++) {
        child_check(naru_semaphore_wait(semaphores[0], NARU_FOREVER) == 0);
        long seen = *(volatile long *)&shared->counter;
        if (i % 1000 == 0)
            sched_yield(); /* in the hand of one: the others meet a closed gate */
        *(volatile long *)&shared->counter = seen + 1;
        child_check(naru_semaphore_post(semaphores[0]) == 0);
    }
}

static void guards_a_plain_counter(void **state)
{
    pid_t pids[4];

    (void)state;
    test_reset(1);
    for (int i = 0; i < 4; i++)
        pids[i] = child_start(child_guards, NULL);
    for (int i = 0; i < 4; i++)
        assert_int_equal(child_end(pids[i]), 0);
    assert_int_equal(shared->counter, 4 * ROUNDS);
    assert_int_equal(naru_semaphore_value(semaphores[0]), 1);
}

static void child_posts_many(void *unused)
{
    (void)unused;
    for (int i = 0; i < ROUNDS; i++)
        child_check(naru_semaphore_post(semaphores[0]) == 0);
}

static void child_takes_many(void *unused)
{
    (void)unused;
    for (int i = 0; i < ROUNDS; i++)
        child_check(naru_semaphore_wait(semaphores[0], NARU_FOREVER) == 0);
}

static void what_is_posted_is_taken(void **state)
{
    pid_t pids[8];

    (void)state;
    test_reset(0);
    for (int i = 0; i < 8; i++)
        pids[i] = child_start(i % 2 ? child_posts_many : child_takes_many, NULL);
    for (int i = 0; i < 8; i++)
        assert_int_equal(child_end(pids[i]), 0);
    assert_int_equal(naru_semaphore_value(semaphores[0]), 0);
}

/* Strictly in turn: one lost wake-up and both sleep for ever. */
static void child_answers(void *unused)
{
    (void)unused;
    for (int i = 0; i < ROUNDS; i++) {
        child_check(naru_semaphore_wait(semaphores[0], NARU_FOREVER) == 0);
        child_check(naru_semaphore_post(semaphores[1]) == 0);
    }
}

static void no_wake_up_is_lost_in_turns(void **state)
{
    (void)state;
    test_reset(0);
    pid_t pid = child_start(child_answers, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        assert_int_equal(naru_semaphore_post(semaphores[0]), 0);
        assert_int_equal(naru_semaphore_wait(semaphores[1], 10 * NARU_SECOND), 0);
    }
    assert_int_equal(child_end(pid), 0);
}

/* -- kills at random ---------------------------------------------------------------------------- */

static void child_works(void *argument)
{
    struct test_slot *slot = argument;
    bool posts = (slot - shared->slots) % 2;

    while (!load(shared->stop)) {
        store(slot->started, slot->started + 1);
        int result = posts ? naru_semaphore_post(semaphores[0])
                           : naru_semaphore_wait(semaphores[0], NARU_FOREVER);
        if (result < 0)
            slot->odd++;
        store(slot->done, slot->done + 1);
        if (posts && load(slot->done) % 16 == 0)
            sched_yield(); /* so that waiters find it at 0 */
    }
}

static void test_kill(pid_t pid, struct test_slot *slot)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    slot->killed += slot->started - slot->done;
    slot->started = slot->done;
}

static void kills_at_random_keep_the_count(void **state)
{
    long posted = 0, taken = 0, posts_open = 0, takes_open = 0;
    unsigned seed = (unsigned)getpid();
    pid_t pids[SLOTS];

    (void)state;
    test_reset(0);
    for (int i = 0; i < SLOTS; i++)
        pids[i] = child_start(child_works, &shared->slots[i]);
    int kills = 0;
    for (int64_t end = clock_ms() + 1500; clock_ms() < end; kills++) {
        int i = rand_r(&seed) % SLOTS;
        usleep(rand_r(&seed) % 1500);
        test_kill(pids[i], &shared->slots[i]);
        pids[i] = child_start(child_works, &shared->slots[i]);
    }
    store(shared->stop, 1);
    for (int i = 1; i < SLOTS; i += 2)
        assert_int_equal(child_end(pids[i]), 0);
    for (int i = 0; i < SLOTS; i += 2) { /* they leave with the next one they get */
        while (waitpid(pids[i], NULL, WNOHANG) == 0) {
            if (naru_semaphore_value(semaphores[0]) == 0) {
                assert_int_equal(naru_semaphore_post(semaphores[0]), 0);
                posted++;
            }
            sleep_ms(1);
        }
    }
    for (int i = 0; i < SLOTS; i++) {
        struct test_slot *slot = &shared->slots[i];
        assert_int_equal(slot->odd, 0);
        *(i % 2 ? &posted : &taken) += slot->done;
        *(i % 2 ? &posts_open : &takes_open) += slot->killed;
    }
    long value = naru_semaphore_value(semaphores[0]);
    printf("%d kills, seed %d; posted %ld..%ld, taken %ld..%ld, count %ld\n", kills, (int)getpid(),
           posted, posted + posts_open, taken, taken + takes_open, value);
    assert_true(kills > 20 && posted > 1000 && taken > 1000);
    assert_true(posted - taken - takes_open <= value && value <= posted + posts_open - taken);
    while (value-- > 0)
        assert_int_equal(naru_semaphore_wait(semaphores[0], 0), 0);
    assert_int_equal(naru_semaphore_wait(semaphores[0], 0), -EAGAIN);
}

/* -- kills after every instruction ------------------------------------------------------------- */

static void test_skip_unless_stepping_works(void)
{
    if (!getenv("NARU_SANITIZED") && !getenv("NARU_TEST_WRAPPER"))
        return;
    printf(
        "SKIP: under sanitizers and valgrind a process can't be single-stepped in bounded time\n");
    skip();
}

static char test_state_of(pid_t pid)
{
    char path[40], text[256] = "";

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return '?';
    size_t size = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[size] = '\0';
    const char *end = strrchr(text, ')');
    return end ? end[2] : '?';
}

/* One who waits, asleep when this returns; it leaves with what it gets. */
static pid_t test_sleeper(void)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(naru_semaphore_wait(semaphores[0], 30 * NARU_SECOND) == 0 ? 0 : 1);
    while (load(shared->state[0].word) != (uint32_t)SLEEPING || test_state_of(pid) != 'S')
        sched_yield();
    return pid;
}

static pid_t test_stepped(int (*operation)(void))
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        if (operation() < 0)
            shared->slots[0].odd++;
        store(shared->slots[0].done, 1);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSTOPPED(status));
    return pid;
}

/* Waits for a step to end. False: the process sleeps in the system call that it stepped into. */
static bool test_stepped_on(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, WNOHANG) == 0)
        if (test_state_of(pid) == 'S')
            return false;
    assert_true(WIFSTOPPED(status));
    return true;
}

/* One instruction. False as above. */
static bool test_step(pid_t pid)
{
    assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
    return test_stepped_on(pid);
}

/* True when the sleeper left with one. False when it sleeps and the count is 0, as it should. */
static bool test_sleeper_left(pid_t sleeper)
{
    for (int64_t end = clock_ms() + 5000; clock_ms() < end; usleep(100)) {
        int status, left = waitpid(sleeper, &status, WNOHANG);
        if (left == sleeper) {
            assert_int_equal(status, 0);
            return true;
        }
        if (naru_semaphore_value(semaphores[0]) == 0 && test_state_of(sleeper) == 'S')
            return false;
    }
    fail_msg("the count is %d, and a process sleeps on it", naru_semaphore_value(semaphores[0]));
    return false;
}

/* Whatever the dead one did, the rest goes on: a post frees the sleeper, if it is still there. */
static void test_survive(pid_t sleeper, bool has_left, int expected_count)
{
    if (!has_left) {
        assert_int_equal(naru_semaphore_post(semaphores[0]), 0);
        int status = -1;
        assert_int_equal(waitpid(sleeper, &status, 0), sleeper);
        assert_int_equal(status, 0);
    }
    assert_int_equal(naru_semaphore_value(semaphores[0]), expected_count);
    assert_int_equal(naru_semaphore_post(semaphores[0]), 0);
    assert_int_equal(naru_semaphore_wait(semaphores[0], 0), 0);
}

static int operation_post(void)
{
    return naru_semaphore_post(semaphores[0]);
}

static int operation_wait(void)
{
    return naru_semaphore_wait(semaphores[0], 30 * NARU_SECOND);
}

/* The parent has called everything once, so that no child is stepped through the dynamic linker. */
static void test_warm_up(void)
{
    test_reset(0);
    shared->state[0].word = (uint32_t)SLEEPING;
    assert_int_equal(naru_semaphore_post(semaphores[0]), 0);
    assert_int_equal(naru_semaphore_wait(semaphores[0], 0), 0);
    assert_int_equal(naru_semaphore_wait(semaphores[0], NARU_MILLISECOND), -ETIMEDOUT);
    raise(SIGCONT);
}

static void poster_killed_anywhere_leaves_no_one_asleep(void **state)
{
    int before = 0, after = 0;

    (void)state;
    test_skip_unless_stepping_works();
    test_warm_up();
    for (int k = 0;; k++) {
        test_reset(0);
        pid_t sleeper = test_sleeper();
        pid_t poster = test_stepped(operation_post);
        for (int i = 0; i < k && !load(shared->slots[0].done); i++)
            assert_true(test_step(poster));
        bool got_through = load(shared->slots[0].done);
        kill(poster, SIGKILL);
        assert_int_equal(waitpid(poster, NULL, 0), poster);
        bool has_left = test_sleeper_left(sleeper);
        test_survive(sleeper, has_left, 0);
        assert_int_equal(shared->slots[0].odd, 0);
        has_left ? after++ : before++;
        if (got_through) {
            assert_true(has_left);
            break;
        }
    }
    printf("killed at %d instructions: %d before it was posted, %d after\n", before + after, before,
           after);
    assert_true(before > 10 && after > 1);
}

static void test_priority(pid_t pid, int policy)
{
    const struct sched_param none = {0};

    assert_int_equal(sched_setscheduler(pid, policy, &none), 0);
}

/* Steps the victim k instructions on; when it sleeps, a post wakes it. Returns how many posts: 0 or 1. */
static int test_step_through_sleep(pid_t victim, int k)
{
    int posts = 0;

    for (int i = 0; i < k && !load(shared->slots[0].done); i++) {
        if (test_step(victim))
            continue;
        if (posts) /* the other one got it first, against the odds; the victim sleeps again */
            return posts;
        assert_int_equal(naru_semaphore_post(semaphores[0]), 0);
        posts++;
        while (!test_stepped_on(victim))
            ;
    }
    return posts;
}

/* The victim waits, is woken by a post, and is killed on its way to what it was woken for. Another one
   sleeps beside it, is woken as well, and kept from running meanwhile: one CPU, which is never idle. */
static void waiter_killed_anywhere_hurts_nobody(void **state)
{
    int taken = 0, left = 0, unposted = 0;
    bool got_through = false;
    cpu_set_t all, one;

    (void)state;
    test_skip_unless_stepping_works();
    test_warm_up();
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    for (int k = 0; !got_through && k < 1000; k++) {
        test_reset(0);
        pid_t sleeper = test_sleeper();
        test_priority(sleeper, SCHED_IDLE);
        pid_t victim = test_stepped(operation_wait);
        int posts = test_step_through_sleep(victim, k);
        got_through = load(shared->slots[0].done);
        kill(victim, SIGKILL);
        assert_int_equal(waitpid(victim, NULL, 0), victim);
        test_priority(sleeper, SCHED_OTHER);
        bool has_left = test_sleeper_left(sleeper);
        !posts ? unposted++ : has_left ? left++ : taken++;
        test_survive(sleeper, has_left, 0);
        assert_int_equal(shared->slots[0].odd, 0);
    }
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
    printf("killed at %d instructions: %d before the post, %d took it, %d left it to the other\n",
           unposted + taken + left, unposted, taken, left);
    assert_true(unposted > 10 &&
                left > 10); /* who is first when both wake is up to the scheduler */
}

/* Nobody else there: the count is 1 or 0 whenever it dies. */
static void taker_killed_anywhere_takes_one_or_none(void **state)
{
    int taken = 0, left = 0;

    (void)state;
    test_skip_unless_stepping_works();
    test_warm_up();
    for (bool got_through = false; !got_through;) {
        test_reset(1);
        pid_t victim = test_stepped(operation_wait);
        for (int i = 0; i < taken + left && !load(shared->slots[0].done); i++)
            assert_true(test_step(victim));
        got_through = load(shared->slots[0].done);
        kill(victim, SIGKILL);
        assert_int_equal(waitpid(victim, NULL, 0), victim);
        int value = naru_semaphore_value(semaphores[0]);
        assert_in_range(value, 0, 1);
        value ? left++ : taken++;
        assert_int_equal(naru_semaphore_post(semaphores[0]), 0);
        assert_int_equal(naru_semaphore_wait(semaphores[0], 0), 0);
        assert_int_equal(naru_semaphore_wait(semaphores[0], 0), value ? 0 : -EAGAIN);
    }
    printf("killed at %d instructions: %d before it took one, %d after\n", left + taken, left,
           taken);
    assert_true(left > 3 && taken > 1);
}

#define test(function) cmocka_unit_test_setup(function, test_setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(guards_a_plain_counter),
        test(what_is_posted_is_taken),
        test(no_wake_up_is_lost_in_turns),
        test(kills_at_random_keep_the_count),
        test(poster_killed_anywhere_leaves_no_one_asleep),
        test(waiter_killed_anywhere_hurts_nobody),
        test(taker_killed_anywhere_takes_one_or_none),
    };

    return cmocka_run_group_tests(tests, test_group_setup, test_group_teardown);
}
