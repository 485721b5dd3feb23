/* SPDX-License-Identifier: MIT */
/*
 * sync_kill -- a process is killed at every instruction of every operation on an object of synchronisation; those who
 *              are left go on
 *
 * A life     The objects are made anew. The victim prepares, then goes through the operation up to the chosen instruction and
 *            is killed there. Sleepers wait, in the kernel, for what the victim has, before it begins. If the operation
 *            is one that sleeps, the helper gives the victim what it waits for as soon as it does. Every sleeper must then
 *            go on; and the test itself can use the object.
 * Time       decides nothing but when to give up on a sleeper.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "kit.h"
#include "step.h"
#include "sync_kill.h"
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct stage {
    struct nr_step_path path;
    struct nr_step_death death;
    int victim_is_ready, may_begin, has_begun, is_over, sleepers_ready, may_end;
    struct sync_objects objects;
} * stage;

static const struct sync_act *act;

static _Noreturn void victim(long point)
{
    if (act->prepare)
        act->prepare();
    if (point < 0)
        nr_step_record(&stage->path);
    else
        nr_step_die(&stage->path, (uint32_t)point, &stage->death);
    nr_kit_set(&stage->victim_is_ready, 1);
    nr_kit_await(&stage->may_begin, 1);
    nr_kit_set(&stage->has_begun, 1);
    nr_step_begin();
    act->run();
    nr_step_end();
    nr_kit_set(&stage->is_over, 1);
    nr_step_kill();
}

static char state_of(pid_t pid)
{
    char path[40], text[512] = "";

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return '?';
    bool is_read = fgets(text, sizeof text, file) != NULL;
    fclose(file);
    return is_read ? strrchr(text, ')')[2] : '?';
}

static pid_t start_sleeper(int number)
{
    pid_t pid = nr_kit_fork();

    if (pid == 0) {
        nr_kit_add(&stage->sleepers_ready, 1);
        act->sleep();
        _exit(0);
    }
    nr_kit_await(&stage->sleepers_ready, number + 1);
    while (state_of(pid) != 'S')
        sched_yield();
    return pid;
}

/* One that holds what the victim and the sleepers wait for, and lets go, or dies with it. */
static pid_t start_helper(void)
{
    static int is_ready;
    int *ready = nr_kit_shared(sizeof is_ready);
    pid_t pid = nr_kit_fork();

    if (pid == 0) {
        act->hold();
        nr_kit_set(ready, 1);
        nr_kit_await(&stage->may_end, 1);
        if (act->let_go)
            act->let_go();
        nr_step_kill();
    }
    nr_kit_await(ready, 1);
    munmap(ready, sizeof is_ready);
    return pid;
}

/* The victim is dead, or asleep in its operation. */
static void await_victim(pid_t pid)
{
    siginfo_t info = {0};

    do {
        if (!act->is_in_vain && nr_kit_get(&stage->has_begun) && state_of(pid) == 'S')
            return;
        sched_yield();
        waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | WNOHANG);
    } while (info.si_pid != pid);
}

static void await_end(pid_t pid, const char *who, long point)
{
    int64_t end_ns = nr_kit_now_ns() + NR_SOON;
    int status = 0;

    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (nr_kit_now_ns() > end_ns) {
            kill(pid, SIGKILL);
            waitpid(pid, NULL, 0);
            fail_msg("%s, killed after %ld instructions: %s does not go on", act->name, point, who);
        }
        struct timespec pause = {.tv_nsec = 20000};
        nanosleep(&pause, NULL);
    }
    if (status)
        fail_msg("%s, killed after %ld instructions: %s failed", act->name, point, who);
}

static void live(long point)
{
    pid_t sleepers[SYNC_SLEEPERS], helper = 0;

    memset((char *)stage + offsetof(struct stage, death), 0,
           sizeof *stage - offsetof(struct stage, death));
    sync_init(&stage->objects);
    if (act->hold)
        helper = start_helper();
    pid_t pid = nr_kit_fork();
    if (pid == 0)
        victim(point);
    nr_kit_await(&stage->victim_is_ready, 1);
    for (int i = 0; i < act->sleepers; i++)
        sleepers[i] = start_sleeper(i);
    nr_kit_set(&stage->may_begin, 1);
    if (helper) {
        await_victim(pid);
        nr_kit_set(&stage->may_end, 1);
        assert_int_equal(waitpid(helper, NULL, 0), helper);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    for (int i = 0; i < act->sleepers; i++)
        await_end(sleepers[i], "a sleeper", point);
    if (!act->check())
        fail_msg("%s, killed after %ld instructions: %s", act->name, point, naru_error_text());
}

static void visit(void)
{
    uint32_t *points, count, most = getenv("NARU_SANITIZED") ? 15 : act->hold ? 150 : 1000;

    live(-1);
    assert_true(stage->path.is_over);
    count = nr_step_points(&stage->path, &points);
    uint32_t stride = count / most + 1, visited = 0;
    for (uint32_t i = (uint32_t)getpid() % stride; i < count; i += stride, visited++)
        live(points[i]);
    free(points);
    print_message("# %s: %u instructions, killed at %u\n", act->name, stage->path.count, visited);
    assert_true(visited > 5);
}

static void survivors_go_on(void **state)
{
    (void)state;
    if (nr_step_refusal()) {
        print_message("SKIP: %s\n", nr_step_refusal());
        skip();
    }
    for (size_t i = 0; i < sync_acts_count; i++) {
        act = &sync_acts[i];
        visit();
    }
}

static int group_setup(void **state)
{
    (void)state;
    stage = nr_kit_shared(sizeof *stage);
    sync_init(&stage->objects);
    sync_attach(&stage->objects);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    sync_close();
    return munmap(stage, sizeof *stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(survivors_go_on)};

    alarm(170);
    return cmocka_run_group_tests_name("sync_kill", tests, group_setup, group_teardown);
}
