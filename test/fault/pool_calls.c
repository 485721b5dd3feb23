/* SPDX-License-Identifier: MIT */
/*
 * pool_calls -- each system call by which a pool is made, or starts or replaces a worker, fails, with each of its errors
 *
 * What       The N-th call fails, for every N up to the first fork and for each error that it may give
 *            (support/faults.h): no more processes, descriptors or memory, among them. A pool that can't be made says so, and
 *            leaves nothing; one whose worker can't be replaced goes on, and has all its workers again later. In each case
 *            all tasks are answered right.
 */
#include "faults.h"
#include "kit.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <naru/pool.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORKERS = 2, TASKS = 20 };

static struct nr_fault fault;
static bool is_lazy; /* workers are started when there are tasks for them */

static int work(struct naru_pool_task *task, void *context)
{
    (void)context;
    return naru_pool_reply(task, &task->number, sizeof task->number);
}

static int make(struct naru_pool **ret)
{
    struct naru_pool_options options = {.size_bytes = sizeof options,
                                        .workers_count = is_lazy ? 1 : WORKERS,
                                        .starts_at_once = !is_lazy};

    return naru_pool_new(ret, work, NULL, &options);
}

static const char *fault_text(void)
{
    static char text[120];

    snprintf(text, sizeof text, "call %u, %s, gives %s", fault.at, fault.name ? fault.name : "none",
             fault.error ? strerrorname_np(fault.error) : "nothing");
    return text;
}

/* All of it is there, and works. */
static void check_works(struct naru_pool *pool)
{
    struct naru_pool_stat stat = {.size_bytes = sizeof stat};
    struct naru_pool_result result;

    for (int i = 0; i < TASKS; i++)
        nr_check_ok(naru_pool_submit(pool, NULL, 0, NULL, NR_SOON));
    for (int i = 0; i < TASKS; i++) {
        nr_check_ok(naru_pool_next(pool, &result, NR_SOON));
        nr_check(result.outcome == NARU_POOL_DONE && result.deaths == 0 &&
                     memcmp(result.data, &result.number, sizeof result.number) == 0,
                 "%s: outcome %d", fault_text(), result.outcome);
    }
    for (int64_t end_ns = nr_kit_now_ns() + NR_SOON;
         stat.workers_alive < (is_lazy ? 1 : WORKERS);) {
        nr_check_ok(naru_pool_step(pool));
        nr_check_ok(naru_pool_stat(pool, &stat));
        nr_check(nr_kit_now_ns() < end_ns, "%s: %u workers", fault_text(), stat.workers_alive);
    }
}

static void run_new(void)
{
    struct naru_pool *pool;

    nr_faults_begin(&fault);
    int result = make(&pool);
    nr_faults_end();
    if (result < 0) {
        nr_check(result == -fault.error || result == -ENOMEM || result == -ESRCH ||
                     result == -EBADF,
                 "%s: %s", fault_text(), strerrorname_np(-result));
        nr_check(strlen(naru_error_text()) > 12, "%s: no sentence", fault_text());
        nr_check(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "%s: a process is left",
                 fault_text());
        nr_check_ok(make(&pool));
    }
    check_works(pool);
    naru_pool_free(pool);
}

/* The first task starts the only worker, or its start is tried again; by the next call, where it could not be started. */
static void run_first(void)
{
    struct naru_pool_result result;
    struct naru_pool *pool;

    is_lazy = true;
    nr_check_ok(make(&pool));
    nr_faults_begin(&fault);
    int submitted = naru_pool_submit(pool, NULL, 0, NULL, 0);
    nr_faults_end();
    nr_check(submitted == 0, "%s: %s", fault_text(), naru_error_text());
    int fetched = naru_pool_next(pool, &result, NR_SOON);
    if (fetched < 0) {
        nr_check(fetched == -fault.error || fetched == -ENOMEM || fetched == -ESRCH ||
                     fetched == -EBADF,
                 "%s: %s", fault_text(), strerrorname_np(-fetched));
        nr_check(strstr(naru_error_text(), "no worker can be started"), "%s: %s", fault_text(),
                 naru_error_text());
        nr_check_ok(naru_pool_next(pool, &result, NR_SOON));
    }
    nr_check(result.outcome == NARU_POOL_DONE && result.deaths == 0, "%s: outcome %d", fault_text(),
             result.outcome);
    check_works(pool);
    naru_pool_free(pool);
}

static void run_replace(void)
{
    struct naru_pool_worker worker = {.size_bytes = sizeof worker};
    struct naru_pool_result result;
    struct naru_pool *pool;

    nr_check_ok(make(&pool));
    struct pollfd fd = {.fd = (int)nr_check_ok(naru_pool_fd(pool)), .events = POLLIN};
    check_works(pool);
    while (naru_pool_next(pool, &result, 0) == -EAGAIN)
        ;
    for (uint32_t i = 0; worker.answers == 0; i++) /* one that hasn't is put off */
        nr_check_ok(naru_pool_worker(pool, i, &worker));
    kill(worker.pid, SIGKILL);
    nr_check(waitid(P_PID, (id_t)worker.pid, &(siginfo_t){0}, WEXITED | WNOWAIT | __WALL) == 0 &&
                 poll(&fd, 1, 1000) == 1,
             "nobody tells of its death");
    nr_faults_begin(&fault);
    naru_pool_step(pool);
    nr_faults_end();
    check_works(pool);
    naru_pool_free(pool);
}

struct run {
    void (*body)(void);
    unsigned at;
    int error;
};

static struct nr_fault *first_trace; /* shared */

static void one_run(const struct run *run)
{
    pid_t pid = nr_kit_fork();
    int status = -1;

    if (pid == 0) {
        alarm(20);
        fault = (struct nr_fault){0};
        run->body(); /* what the library keeps is there */
        int fds = nr_kit_fds();
        fault = (struct nr_fault){.at = run->at, .error = run->error};
        run->body();
        if (run->at == 0)
            *first_trace = fault;
        nr_check(nr_kit_fds() == fds, "%s: %d descriptors leaked", fault_text(),
                 nr_kit_fds() - fds);
        _exit(0);
    }
    while (waitpid(pid, &status, 0) < 0)
        ;
    nr_check(status == 0, "call %u gives %s: %s %d", run->at,
             run->error ? strerrorname_np(run->error) : "nothing",
             WIFSIGNALED(status) ? "signal" : "exit code",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

static void all_runs(void *argument)
{
    struct run run = {.body = *(void (**)(void))argument};
    unsigned runs = 0;
    const char *name;

    first_trace = nr_kit_shared(sizeof *first_trace);
    one_run(&run);
    struct nr_fault trace = *first_trace;
    nr_check(trace.calls > 20 && trace.calls <= NR_FAULTS_TRACE, "%u system calls", trace.calls);
    for (run.at = 1; run.at <= trace.calls; run.at++)
        for (const int *error = nr_faults_errors; *error; error++)
            if (nr_faults_gives(trace.trace[run.at - 1], *error, &name)) {
                run.error = *error;
                one_run(&run);
                runs++;
            }
    printf("# %u system calls, %u runs\n", trace.calls, runs);
}

static void test_calls(void **state)
{
    const char *why;

    if (!nr_faults_are_possible(&why)) {
        print_message("SKIP: %s\n", why);
        skip();
    }
    assert_int_equal(nr_kit_run(all_runs, *state, 50 * nr_kit_slowness()), 0);
}

int main(void)
{
    static void (*bodies[])(void) = {run_new, run_first, run_replace};
    const struct CMUnitTest tests[] = {
        {"a pool is made", test_calls, NULL, NULL, &bodies[0]},
        {"a worker is started for its task", test_calls, NULL, NULL, &bodies[1]},
        {"a worker is replaced", test_calls, NULL, NULL, &bodies[2]},
    };

    return cmocka_run_group_tests_name("pool_calls", tests, NULL, NULL);
}
