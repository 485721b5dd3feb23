/* SPDX-License-Identifier: MIT */
/*
 * syscall_faults -- each system call of each operation on shm:// fails, with each error that it may give
 *
 * What       For every operation of fault_operations.c: the N-th system call fails, for every N and each error
 *            (support/faults.h has which call gives which). Then the operation either reports an error, with a
 *            sentence, and has left nothing behind (descriptor, mapping, name, place in the channel, memory), and
 *            succeeds when it is tried again; or it succeeds and really works: a message crosses.
 * Twice      Each once in a process that does it for the first time, and once in one that has done it before.
 */
#include "fault_scene.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CASE_SECONDS = 60 };

/* -- one run --------------------------------------------------------------------------------- */

static const struct nr_fault_operation *operation;
static struct nr_fault fault;
static struct tally {
    unsigned calls, runs, failed, worked;
    struct nr_fault_call trace[NR_FAULTS_TRACE];
} * tally;

static unsigned mappings(void)
{
    char line[512];
    unsigned count = 0;
    FILE *maps = fopen("/proc/self/maps", "re");

    nr_check(maps, "no /proc");
    while (fgets(line, sizeof line, maps))
        count += strstr(line, nr_scene.path) || strstr(line, "naru-pair");
    fclose(maps);
    return count;
}

static const char *fault_text(void)
{
    static char text[160];

    snprintf(text, sizeof text, "%s (kind %d): call %u, %s, gives %s", operation->name,
             (int)nr_scene.kind, fault.at, fault.name ? fault.name : "none",
             strerrorname_np(fault.error));
    return text;
}

/* The error is the one of the call that failed, or one that stands for it. */
static void judge(int result)
{
    static const struct {
        const char *call;
        int error, result;
    } stand_ins[] = {
        /* malloc's: there is no memory, whatever the kernel says about it */
        {"mmap", EAGAIN, -ENOMEM},     {"mmap", EACCES, -ENOMEM},    {"mmap", EPERM, -ENOMEM},
        {"mprotect", EACCES, -ENOMEM}, {"madvise", EAGAIN, -ENOMEM}, {"madvise", EINVAL, -ENOMEM},
    };

    nr_check(strlen(naru_error_text()) >= 12, "%s: no sentence, but \"%s\"", fault_text(),
             naru_error_text());
    if (result == -fault.error)
        return;
    for (size_t i = 0; i < sizeof stand_ins / sizeof stand_ins[0]; i++)
        if (fault.name && strcmp(stand_ins[i].call, fault.name) == 0 &&
            stand_ins[i].error == fault.error && stand_ins[i].result == result)
            return;
    nr_check(0, "%s: the result is %s: %s", fault_text(), strerrorname_np(-result),
             naru_error_text());
}

static void run_cycle(unsigned at, int error)
{
    fault = (struct nr_fault){.at = at, .error = error};
    if (operation->prepare)
        operation->prepare();
    int fds = nr_kit_fds();
    unsigned maps = mappings();
    nr_faults_begin(&fault);
    int result = operation->call();
    nr_faults_end();
    if (result < 0) {
        judge(result);
        nr_check(operation->keeps_descriptors || nr_kit_fds() <= fds, "%s: descriptors leaked",
                 fault_text());
        nr_check(mappings() <= maps, "%s: a mapping leaked", fault_text());
    }
    operation->check(result);
    nr_scene_stop_helper();
    nr_scene_close();
    memset(nr_scene.calls, 0, sizeof nr_scene.calls);
    tally->runs += at > 0;
    tally->failed += at > 0 && result < 0;
    tally->worked += at > 0 && result >= 0;
}

struct run {
    unsigned at;
    int error;
    bool is_first; /* of its kind in this process */
};

static void run_in_child(void *argument)
{
    const struct run *run = argument;
    int fds = nr_kit_fds();
    unsigned maps = mappings();

    /* With the fault as well: the way around it may need memory that libc keeps, such as a thread's. */
    if (!run->is_first) {
        run_cycle(0, 0);
        run_cycle(run->at, run->error);
    }
    size_t heap = mallinfo2().uordblks;
    run_cycle(run->at, run->error);
    if (run->at == 0) {
        tally->calls = fault.calls;
        memcpy(tally->trace, fault.trace, sizeof tally->trace);
    }
    nr_check(nr_kit_fds() == fds, "%s: %d descriptors leaked", fault_text(), nr_kit_fds() - fds);
    nr_check(fault.name && strcmp(fault.name, "munmap") == 0 ? true : mappings() == maps,
             "%s: %d mappings leaked", fault_text(), (int)(mappings() - maps));
    nr_check(run->is_first || mallinfo2().uordblks <= heap, "%s: %zu bytes leaked", fault_text(),
             mallinfo2().uordblks - heap);
    nr_check(access(nr_scene.path, F_OK) < 0, "%s: a name is left", fault_text());
    _exit(0);
}

static void one_run(unsigned at, int error, bool is_first)
{
    struct run run = {at, error, is_first};
    pid_t pid = nr_kit_fork();
    int status = -1;

    if (pid == 0) {
        alarm(8);
        run_in_child(&run);
    }
    while (waitpid(pid, &status, 0) < 0)
        ;
    unlink(nr_scene.path);
    nr_check(status == 0, "%s (kind %d): call %u gives %s, in a %s run: %s %d", operation->name,
             (int)nr_scene.kind, at, error ? strerrorname_np(error) : "nothing",
             is_first ? "first" : "second", WIFSIGNALED(status) ? "signal" : "exit code",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

/* Every call that was made in the trace, with every error that it can give. */
static void all_runs(bool is_first)
{
    const char *name;

    one_run(0, 0, is_first);
    unsigned calls = tally->calls;
    struct nr_fault_call trace[NR_FAULTS_TRACE];
    memcpy(trace, tally->trace, sizeof trace);
    nr_check(calls > 0 && calls <= NR_FAULTS_TRACE, "%s: %u system calls", operation->name, calls);
    for (unsigned at = 1; at <= calls; at++)
        for (const int *error = nr_faults_errors; *error; error++)
            if (nr_faults_gives(trace[at - 1], *error, &name))
                one_run(at, *error, is_first);
}

static void run_operation(void *argument)
{
    unsigned before = 0;

    operation = argument;
    tally = nr_kit_shared(sizeof *tally);
    for (unsigned kind = NR_SCENE_SLOTS; kind <= NR_SCENE_CALLS; kind *= 2) {
        if (!(operation->kinds & kind))
            continue;
        nr_scene.kind = kind;
        snprintf(nr_scene.path, sizeof nr_scene.path, "/dev/shm/naru-faults-%d", (int)getppid());
        snprintf(nr_scene.uri, sizeof nr_scene.uri, "shm://%s", nr_scene.path);
        all_runs(true);
        unsigned calls = tally->calls;
        if (kind <= NR_SCENE_PAIR) /* the others differ in nothing that a second time could show */
            all_runs(false);
        printf("# %s, %s: %u system calls the first time, %u the second; %u runs\n",
               operation->name,
               kind == NR_SCENE_SLOTS   ? "many to many"
               : kind == NR_SCENE_BYTES ? "one to one"
               : kind == NR_SCENE_PAIR  ? "pair"
               : kind == NR_SCENE_TOPIC ? "topic"
               : kind == NR_SCENE_CELL  ? "cell"
                                        : "calls",
               calls, tally->calls, tally->runs - before);
        before = tally->runs;
    }
    printf("# %s: %u runs, %u with an error, %u worked\n", operation->name, tally->runs,
           tally->failed, tally->worked);
}

static void test_faults(void **state)
{
    const char *why;

    if (!nr_faults_are_possible(&why)) {
        print_message("SKIP: %s\n", why);
        skip();
    }
    assert_int_equal(nr_kit_run(run_operation, *state, CASE_SECONDS), 0);
}

/* What was freed counts as in use while it stands in malloc's thread cache: so do without that. */
static void without_thread_cache(void)
{
    if (getenv("GLIBC_TUNABLES"))
        return;
    setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0", 1);
    execl("/proc/self/exe", "test-fault-syscall_faults", NULL);
}

int main(void)
{
    struct CMUnitTest tests[32] = {0};

    without_thread_cache();

    for (unsigned i = 0; i < nr_fault_operations_count; i++)
        tests[i] = (struct CMUnitTest){
            .name = nr_fault_operations[i].name,
            .test_func = test_faults,
            .initial_state = (void *)(uintptr_t)&nr_fault_operations[i],
        };
    return _cmocka_run_group_tests("syscall_faults", tests, nr_fault_operations_count, NULL, NULL);
}
