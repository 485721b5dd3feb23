/* SPDX-License-Identifier: MIT */
/*
 * spawn -- children that misbehave, parents that die, and a system that has no more of something
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "os/sanitizer.h"
#include "faults.h"
#include "kit.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <naru/process.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPTIONS(...)                                                                               \
    (&(struct naru_spawn_options){.size_bytes = sizeof(struct naru_spawn_options), __VA_ARGS__})

static int *shared; /* zeroed before each test */

static int sleeps(void *unused)
{
    while (!unused)
        pause();
    return 0;
}

static int succeeds(void *unused)
{
    return unused != NULL;
}

static struct naru_death wait_for(struct naru_child *child)
{
    struct naru_death death = {.size_bytes = sizeof death};

    nr_check_ok(naru_child_wait(child, &death, NR_SOON));
    naru_child_close(child);
    return death;
}

static void check_works(void)
{
    struct naru_child *child;

    nr_check_ok(naru_spawn(&child, succeeds, NULL, NULL));
    struct naru_death death = wait_for(child);
    nr_check(death.cause == NARU_EXITED && death.exit_status == 0, "%s", death.text);
}

/* Runs `body` in a process of its own, at most 30 s. */
static void in_process(void (*body)(void *))
{
    memset(shared, 0, 4096);
    int code = nr_kit_run(body, NULL, 30);
    if (code == 77)
        skip();
    assert_int_equal(code, 0);
}

static bool is_alive(pid_t pid)
{
    char path[32], text[256] = "";

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return false;
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    const char *state = size > 0 ? strrchr(text, ')') : NULL;
    return state && state[2] != 'Z' && state[2] != 'X';
}

static void await_death(pid_t pid)
{
    int64_t end = nr_kit_now_ns() + NR_SOON;

    while (is_alive(pid)) {
        nr_check(nr_kit_now_ns() < end, "process %d lives on", (int)pid);
        nr_kit_sleep_ms(1);
    }
}

/* -- the parent dies ------------------------------------------------------------------------------- */

enum { PIDS = 16 };

static int tells_pid(void *context)
{
    nr_kit_set(&shared[(intptr_t)context], (int)getpid());
    return sleeps(NULL);
}

static const char *const sleeping_program[] = {"sleep", "1000", NULL};

static void *spawn_two(void *index)
{
    struct naru_child *child;
    intptr_t at = (intptr_t)index;

    nr_check_ok(naru_spawn(&child, tells_pid, (void *)at, NULL));
    nr_check_ok(naru_spawn_program(&child, sleeping_program, NULL));
    nr_kit_set(&shared[at + 1], naru_child_pid(child));
    nr_kit_await(&shared[at], 1);
    return NULL;
}

/* Threads spawn and end; the first one spawns, and ends by pthread_exit(). The process goes on. */
static void *goes_on(void *unused)
{
    (void)unused;
    nr_kit_await(&shared[PIDS], 1); /* the first thread is about to end */
    for (int i = 0; i < 20; i++) {
        nr_kit_sleep_ms(10);
        for (int j = 0; j < 6; j++)
            nr_check(is_alive(shared[j]), "child %d of a thread that ended is dead", j);
    }
    check_works(); /* and one can spawn still */
    nr_kit_set(&shared[PIDS + 1], 1);
    for (;;)
        pause();
}

static void parent_of_threads(void)
{
    pthread_t thread;

    for (intptr_t i = 0; i < 4; i += 2) {
        nr_check(pthread_create(&thread, NULL, spawn_two, (void *)i) == 0, "pthread_create");
        pthread_join(thread, NULL);
    }
    spawn_two((void *)4);
    nr_check(pthread_create(&thread, NULL, goes_on, NULL) == 0, "pthread_create");
    nr_kit_set(&shared[PIDS], 1);
    pthread_exit(NULL);
}

static void threads_end_and_the_process_is_killed(void *unused)
{
    (void)unused;
    pid_t pid = nr_kit_fork();
    if (pid == 0)
        parent_of_threads();
    nr_kit_await(&shared[PIDS + 1], 1);
    nr_kit_kill(pid);
    for (int i = 0; i < 6; i++)
        await_death(shared[i]);
}

static void children_die_with_the_process_and_not_with_a_thread(void **state)
{
    (void)state;
    in_process(threads_end_and_the_process_is_killed);
}

static int only_spawns(void *context)
{
    struct naru_child *child;

    for (intptr_t i = 0; i < 2; i++)
        spawn_two((void *)(2 * i));
    nr_check_ok(naru_spawn(&child, tells_pid, (void *)4, OPTIONS(.survives_parent = 1)));
    nr_kit_await(&shared[4], 1);
    return context != NULL;
}

/* A child's children die with it, whether it is killed or ends. */
static void grandchildren(void *unused)
{
    struct naru_child *child;

    (void)unused;
    nr_check_ok(naru_spawn(&child, only_spawns, NULL, NULL));
    wait_for(child);
    for (int i = 0; i < 4; i++)
        await_death(shared[i]);
    nr_check(is_alive(shared[4]), "a child that survives its parent did not");
    kill(shared[4], SIGKILL);
}

static void grandchildren_die_with_their_parent(void **state)
{
    (void)state;
    in_process(grandchildren);
}

/* A parent that is killed while it spawns, at any moment, leaves nobody behind. */
static int counts_itself(void *unused)
{
    int index = nr_kit_add(&shared[0], 1);

    (void)unused;
    if (index < 900)
        nr_kit_set(&shared[index], (int)getpid());
    return sleeps(NULL);
}

static int spawns_on(void *unused)
{
    struct naru_child *child;

    for (;;) {
        nr_check_ok(naru_spawn(&child, counts_itself, NULL, NULL));
        nr_check_ok(naru_spawn_program(&child, sleeping_program, NULL));
        int index = nr_kit_add(&shared[0], 1);
        if (index < 900)
            nr_kit_set(&shared[index], naru_child_pid(child));
    }
    return unused != NULL;
}

/* In a new child, before the library's first instruction there: it goes on when its parent is dead. */
static pid_t doomed;

static void await_parent_death(void)
{
    if (!doomed)
        return;
    nr_kit_set(&shared[0], (int)getpid());
    while (getppid() == doomed)
        ;
}

static void killed_behind_the_fork(void *unused)
{
    (void)unused;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t pid = nr_kit_fork();
    if (pid == 0) {
        struct naru_child *child;
        doomed = getpid();
        pthread_atfork(NULL, NULL, await_parent_death);
        naru_spawn(&child, sleeps, NULL, NULL);
        _exit(1);
    }
    nr_kit_await(&shared[0], 1);
    nr_kit_kill(pid);
    int status = 0; /* it comes to us, and goes by itself */
    int64_t end = nr_kit_now_ns() + NR_SOON;
    while (waitpid(shared[0], &status, WNOHANG) == 0)
        nr_check(nr_kit_now_ns() < end, "process %d goes on without its parent", shared[0]);
}

static void a_parent_that_dies_behind_the_fork_leaves_nobody(void **state)
{
    (void)state;
    in_process(killed_behind_the_fork);
}

static void killed_while_spawning(void *unused)
{
    unsigned seed = 7;

    (void)unused;
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* orphans come to us */
    for (int round = 0; round < 20; round++) {
        struct naru_child *child;
        nr_kit_set(&shared[0], 0);
        nr_check_ok(naru_spawn(&child, spawns_on, NULL, NULL));
        struct timespec nap = {.tv_nsec = (long)(rand_r(&seed) % 8000) * 1000};
        nanosleep(&nap, NULL);
        naru_child_signal(child, SIGKILL);
        wait_for(child);
        int64_t end = nr_kit_now_ns() + NR_SOON;
        while (waitpid(-1, NULL, WNOHANG) >= 0) /* until there are none, dead or alive */
            nr_check(nr_kit_now_ns() < end, "somebody was left behind in round %d", round);
    }
}

static void a_parent_killed_while_it_spawns_leaves_nobody(void **state)
{
    (void)state;
    in_process(killed_while_spawning);
}

/* -- zygotes ------------------------------------------------------------------------------------------- */

static int tells_the_first_pid(void *unused)
{
    nr_kit_set(&shared[0], (int)getpid());
    nr_kit_set(&shared[1], (int)getppid());
    return sleeps(unused);
}

static void zygote_is_killed(void *unused)
{
    struct naru_zygote *zygote;
    struct naru_child *child, *none;
    struct rlimit limit, few;

    (void)unused;
    int fds = nr_kit_fds();
    nr_check_ok(naru_zygote_open(&zygote));
    nr_check_ok(naru_spawn(&child, tells_the_first_pid, NULL, OPTIONS(.zygote = zygote)));
    nr_kit_await(&shared[1], 1);
    kill(shared[1], SIGINT); /* a terminal's signals are not for it */
    kill(shared[1], SIGTERM);
    check_works();
    nr_check_ok(naru_child_signal(child, 0));

    /* It has as many descriptors as we had: too many for it are an error. */
    nr_check(prlimit(shared[1], RLIMIT_NOFILE, NULL, &limit) == 0, "prlimit");
    few = (struct rlimit){5, limit.rlim_max};
    nr_check(prlimit(shared[1], RLIMIT_NOFILE, &few, NULL) == 0, "prlimit");
    struct naru_spawn_fd three[] = {{0, 10}, {0, 11}, {0, 12}};
    nr_check_fails(
        naru_spawn(&none, succeeds, NULL, OPTIONS(.zygote = zygote, .fds = three, .fds_count = 3)),
        -EMFILE, "descriptors");
    nr_check(prlimit(shared[1], RLIMIT_NOFILE, &limit, NULL) == 0, "prlimit");
    nr_check_ok(naru_spawn(&none, succeeds, NULL, OPTIONS(.zygote = zygote)));
    wait_for(none);

    kill(shared[1], SIGKILL);
    struct naru_death death = wait_for(child);
    nr_check(death.signal_number == SIGKILL || death.cause == NARU_DEATH_UNKNOWN, "%s", death.text);
    nr_check_fails(naru_spawn(&child, succeeds, NULL, OPTIONS(.zygote = zygote)), -EOWNERDEAD,
                   "zygote is dead|SIGKILL|open another");
    naru_zygote_close(zygote);
    nr_check(nr_kit_fds() == fds, "%d descriptors, and there were %d", nr_kit_fds(), fds);
}

static void a_zygote_may_be_killed(void **state)
{
    (void)state;
    in_process(zygote_is_killed);
}

static void maker_is_killed(void *unused)
{
    (void)unused;
    pid_t pid = nr_kit_fork();
    if (pid == 0) {
        struct naru_zygote *zygote;
        struct naru_child *child;
        nr_check_ok(naru_zygote_open(&zygote));
        nr_check_ok(naru_spawn(&child, tells_the_first_pid, NULL, OPTIONS(.zygote = zygote)));
        sleeps(NULL);
    }
    nr_kit_await(&shared[1], 1);
    nr_kit_kill(pid);
    await_death(shared[0]);
    await_death(shared[1]);
}

static void a_zygote_dies_with_its_maker(void **state)
{
    (void)state;
    in_process(maker_is_killed);
}

/* -- SIGCHLD is the program's -------------------------------------------------------------------------- */

static volatile sig_atomic_t handled;

static void on_child(int number)
{
    int error = errno;

    (void)number;
    handled = handled + 1;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    errno = error;
}

static int exits_with_9(void *unused)
{
    return unused ? 0 : 9;
}

/* Linux 6.15: a pidfd tells of a death that somebody else has waited for. */
static bool kernel_tells_later(void)
{
    struct utsname system;
    int major = 0, minor = 0;

    return uname(&system) == 0 && sscanf(system.release, "%d.%d", &major, &minor) == 2 &&
           (major > 6 || (major == 6 && minor >= 15));
}

static void check_nine(struct naru_child *child, bool may_be_unknown)
{
    struct naru_death death = wait_for(child);

    if (may_be_unknown && !kernel_tells_later() && death.cause == NARU_DEATH_UNKNOWN) {
        nr_check(strstr(death.text, "another wait"), "%s", death.text);
        printf("# this kernel does not tell: %s\n", death.text);
        return;
    }
    nr_check(death.cause == NARU_EXITED && death.exit_status == 9, "%s", death.text);
}

static void with_a_program_that_waits(void *unused)
{
    const char *const nine[] = {"sh", "-c", "exit 9", NULL};
    struct naru_child *child;

    (void)unused;
    for (int way = 0; way < 4; way++) {
        if (way == 0)
            signal(SIGCHLD, SIG_IGN);
        if (way == 1)
            signal(SIGCHLD, on_child);
        for (int i = 0; i < 20; i++) {
            if (i % 2)
                nr_check_ok(naru_spawn(&child, exits_with_9, NULL, NULL));
            else
                nr_check_ok(naru_spawn_program(&child, nine, NULL));
            if (way == 2)
                nr_check(waitpid(-1, NULL, 0) == naru_child_pid(child), "another child");
            check_nine(child, way < 3);
            nr_check_fails(
                naru_spawn_program(&child, (const char *const[]){"/no/such", NULL}, NULL), -ENOENT,
                "/no/such");
        }
        if (way == 1)
            nr_check(handled > 0, "the handler saw nothing");
        signal(SIGCHLD, SIG_DFL);
    }
    /* A child of the program's own is not ours to take. */
    pid_t own = fork();
    if (own == 0)
        _exit(4);
    nr_check_ok(naru_spawn(&child, exits_with_9, NULL, NULL));
    check_nine(child, false);
    int status = 0;
    nr_check(waitpid(own, &status, 0) == own && WEXITSTATUS(status) == 4, "%d", status);
}

static void the_program_may_wait_and_ignore_sigchld(void **state)
{
    (void)state;
    in_process(with_a_program_that_waits);
}

/* A child that nobody has to wait for could be gone, and its number another one's, before its parent looks: so it does not
   begin before that. */
static void is_slow_behind_the_fork(void)
{
    nr_kit_sleep_ms(20);
}

static void slow_parent(void *unused)
{
    struct naru_child *child;

    (void)unused;
    pthread_atfork(NULL, is_slow_behind_the_fork, NULL);
    signal(SIGCHLD, SIG_IGN);
    nr_check_ok(naru_spawn(&child, exits_with_9, NULL, NULL));
    check_nine(child, true);
    signal(SIGCHLD, SIG_DFL);
}

static void a_child_waits_until_its_parent_knows_it(void **state)
{
    (void)state;
    in_process(slow_parent);
}

/* -- children that misbehave ------------------------------------------------------------------------- */

static int loops(void *unused)
{
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    nr_kit_set(&shared[0], 1);
    while (!unused)
        ;
    return 0;
}

static int fills_memory(void *unused)
{
    (void)unused;
    for (;;) {
        char *memory = malloc(1 << 20);
        if (!memory)
            abort();
        memset(memory, 1, 1 << 20);
    }
}

static int forks_and_leaves(void *unused)
{
    pid_t pid = fork();

    if (pid == 0) {
        nr_kit_set(&shared[1], (int)getpid());
        return sleeps(unused);
    }
    nr_kit_await(&shared[1], 1);
    return 0;
}

static int overflows_its_stack(void *unused)
{
    volatile char room[4096];

    room[0] = 1;
    if ((intptr_t)unused < 0)
        return 0;
    return overflows_its_stack((void *)(intptr_t)((intptr_t)unused + room[0])) + room[0];
}

static void children_that_misbehave(void *unused)
{
    struct naru_spawn_limit limits[] = {
        {.resource = RLIMIT_AS, .soft = 256 << 20, .hard = 256 << 20}, {.resource = RLIMIT_CORE}};
    struct naru_child *child;

    (void)unused;
    nr_check_ok(naru_spawn(&child, loops, NULL, NULL));
    nr_kit_await(&shared[0], 1);
    nr_check_ok(naru_child_signal(child, SIGTERM)); /* is blocked */
    nr_check_fails(naru_child_wait(child, NULL, NARU_MILLISECOND), -ETIMEDOUT, "lives");
    nr_check_ok(naru_child_signal(child, SIGKILL));
    struct naru_death death = wait_for(child);
    nr_check(death.cause == NARU_KILLED && death.signal_number == SIGKILL, "%s", death.text);

    if (!getenv("NARU_SANITIZED")) { /* which reserves more address space than that */
        nr_check_ok(
            naru_spawn(&child, fills_memory, NULL, OPTIONS(.limits = limits, .limits_count = 2)));
        death = wait_for(child);
        nr_check(death.cause == NARU_KILLED && death.signal_number == SIGABRT, "%s", death.text);
        nr_check_ok(naru_spawn(&child, overflows_its_stack, NULL,
                               OPTIONS(.limits = limits, .limits_count = 2)));
        death = wait_for(child);
        nr_check(death.cause == NARU_KILLED && death.signal_number == SIGSEGV, "%s", death.text);
    }

    nr_check_ok(naru_spawn(&child, forks_and_leaves, NULL, OPTIONS(.own_group = 1)));
    death = wait_for(child);
    nr_check(death.cause == NARU_EXITED, "%s", death.text);
    await_death(shared[1]); /* what it left behind went with its group */
    check_works();
}

static void children_may_misbehave(void **state)
{
    (void)state;
    in_process(children_that_misbehave);
}

/* -- what is wrong at the start ----------------------------------------------------------------------- */

static void nothing_is_left(void *unused)
{
    struct naru_endpoint *ends[2];
    struct naru_child *child = NULL;
    const char *const missing[] = {"naru-no-such-program", NULL}, *const directory[] = {"/etc",
                                                                                        NULL};
    const char *const file[] = {"/etc/passwd", NULL}, *const good[] = {"true", NULL};
    struct naru_spawn_limit bad_limit = {.resource = 1000};
    struct naru_spawn_fd closed = {999, 3}, twice[] = {{0, 5}, {1, 5}};
    uint32_t no_cpu = 8000;

    (void)unused;
    check_works();
    int fds = nr_kit_fds();
    nr_check_fails(naru_spawn_program(&child, missing, NULL), -ENOENT, "naru-no-such-program|PATH");
    nr_check_fails(naru_spawn_program(&child, directory, NULL), -EACCES, "/etc");
    nr_check_fails(naru_spawn_program(&child, file, NULL), -EACCES, "/etc/passwd");
    nr_check_fails(naru_spawn_program(&child, good, OPTIONS(.directory = "/no/such")), -ENOENT,
                   "directory|/no/such");
    nr_check_fails(naru_spawn(&child, succeeds, NULL, OPTIONS(.directory = "/no/such")), -ENOENT,
                   "directory|/no/such");
    nr_check_fails(
        naru_spawn(&child, succeeds, NULL, OPTIONS(.limits = &bad_limit, .limits_count = 1)),
        -EINVAL, "limit|1000");
    nr_check_fails(naru_spawn(&child, succeeds, NULL, OPTIONS(.cpus = &no_cpu, .cpus_count = 1)),
                   -EINVAL, "processors");
    nr_check_fails(naru_spawn(&child, succeeds, NULL, OPTIONS(.fds = &closed, .fds_count = 1)),
                   -EBADF, "999");
    nr_check_fails(naru_spawn(&child, succeeds, NULL, OPTIONS(.fds = twice, .fds_count = 2)),
                   -EINVAL, "both");
    nr_check_fails(naru_spawn(&child, succeeds, NULL, OPTIONS(.nice = 1000)), -EINVAL, "nice");
    nr_check_fails(naru_spawn(&child, NULL, NULL, NULL), -EINVAL, "function");
    nr_check_fails(naru_spawn_program(&child, NULL, NULL), -EINVAL, "name");
    nr_check_fails(naru_spawn(&child, succeeds, NULL, &(struct naru_spawn_options){.nice = 1}),
                   -EINVAL, "size_bytes");
    nr_check_fails(naru_child_wait(NULL, NULL, 0), -EINVAL, "NULL");

    /* A pair's end that could not be handed over is still ours. */
    nr_check_ok(naru_pair(ends, "pipe://", NULL));
    nr_check_fails(naru_spawn(&child, succeeds, NULL,
                              OPTIONS(.directory = "/no/such", .ends = &ends[1], .ends_count = 1)),
                   -ENOENT, "directory");
    nr_check_ok(naru_send(ends[1], "a", 1, 0));
    nr_check_fails(naru_spawn_program(&child, good, OPTIONS(.ends = &ends[1], .ends_count = 1)),
                   -EOPNOTSUPP, "program");
    nr_check_fails(naru_spawn(&child, succeeds, NULL, OPTIONS(.ends = ends, .ends_count = 2)),
                   -EINVAL, "same pair");
    nr_check_ok(naru_spawn(&child, succeeds, NULL, OPTIONS(.ends = &ends[1], .ends_count = 1)));
    wait_for(child);
    nr_check_fails(naru_spawn(&child, succeeds, NULL, OPTIONS(.ends = &ends[1], .ends_count = 1)),
                   -ECHILD, "another process");
    naru_close(ends[0]);
    naru_close(ends[1]);
    nr_check(nr_kit_fds() == fds, "%d descriptors, and there were %d", nr_kit_fds(), fds);
    nr_check(waitpid(-1, NULL, __WALL | WNOHANG) == -1 && errno == ECHILD, "a child was left");
}

static void what_fails_leaves_nothing(void **state)
{
    (void)state;
    in_process(nothing_is_left);
}

static void no_descriptors(void *unused)
{
    struct rlimit limit, few;
    struct naru_child *child;
    const char *const good[] = {"true", NULL};

    (void)unused;
    getrlimit(RLIMIT_NOFILE, &limit);
    check_works();
    int next = dup(0);
    close(next);
    for (int more = 0; more < 6; more++) {
        few = (struct rlimit){(rlim_t)(next + more), limit.rlim_max};
        setrlimit(RLIMIT_NOFILE, &few);
        int function = naru_spawn(&child, succeeds, NULL, OPTIONS(.readiness = NARU_READY_BY_LINE));
        if (function == 0)
            naru_child_close(child);
        else
            nr_check_fails(function, -EMFILE, "descriptors|ulimit -n");
        int program = naru_spawn_program(&child, good, OPTIONS(.readiness = NARU_READY_BY_LINE));
        if (program == 0)
            naru_child_close(child);
        else
            nr_check_fails(program, -EMFILE, "descriptor");
        nr_check(more > 0 || (function < 0 && program < 0), "%d %d", function, program);
        nr_check(more < 5 || (function == 0 && program == 0), "%d %d: %s", function, program,
                 naru_error_text());
    }
    setrlimit(RLIMIT_NOFILE, &limit);
    check_works();
    nr_check(dup(0) == next, "a descriptor was left open");
}

static void without_descriptors_it_fails(void **state)
{
    (void)state;
    in_process(no_descriptors);
}

static void no_processes(void *unused)
{
    struct rlimit one = {1, 1};
    const char *const good[] = {"true", NULL};
    struct naru_child *child;

    (void)unused;
    if (getuid() == 0 && (setgroups(0, NULL) < 0 || setgid(64123) < 0 || setuid(64123) < 0))
        nr_kit_skip("can't become another user");
    setrlimit(RLIMIT_NPROC, &one);
    int result = naru_spawn(&child, succeeds, NULL, NULL);
    if (result == 0)
        nr_kit_skip("the limit of processes does not hold here");
    nr_check_fails(result, -EAGAIN, "processes|ulimit -u");
    nr_check_fails(naru_spawn_program(&child, good, NULL), -EAGAIN, "processes|ulimit -u");
    _exit(0); /* the leak sanitizer would need one */
}

static void without_processes_it_fails(void **state)
{
    (void)state;
    in_process(no_processes);
}

/* Each system call up to the fork fails, with each error that it may give: then the spawn does, with a sentence, or it
   works; and nothing is left. */
static int spawn_one_way(int way, struct naru_child **ret)
{
    static const char *const good[] = {"true", NULL};
    struct naru_spawn_limit no_core = {.resource = RLIMIT_CORE};
    const struct naru_spawn_options *full =
        OPTIONS(.readiness = NARU_READY_BY_LINE, .limits = &no_core, .limits_count = 1,
                .directory = "/");

    if (way < 2)
        return naru_spawn(ret, succeeds, NULL, way ? full : NULL);
    return naru_spawn_program(ret, good, way == 3 ? full : NULL);
}

static void calls_fail(void *unused)
{
    int failures = 0, fork_failures = 0;

    (void)unused;
    check_works();
    int fds = nr_kit_fds();
    for (int way = 0; way < 4; way++)
        for (const int *error = nr_faults_errors; *error; error++)
            for (unsigned at = 1;; at++) {
                struct nr_fault fault = {.at = at, .error = *error};
                struct naru_child *child = NULL;
                nr_faults_begin(&fault);
                int result = spawn_one_way(way, &child);
                nr_faults_end();
                if (result == 0) {
                    struct naru_death death = wait_for(child);
                    nr_check(death.cause == NARU_EXITED && death.exit_status == 0, "%s",
                             death.text);
                } else {
                    nr_check_fails(result, result, " ");
                    nr_check(result != -EINTR, "EINTR of %s", fault.name);
                    failures++;
                    fork_failures += strcmp(fault.name, "clone") == 0;
                }
                nr_check(nr_kit_fds() == fds, "%s: %d descriptors, and there were %d", fault.name,
                         nr_kit_fds(), fds);
                nr_check(waitpid(-1, NULL, __WALL | WNOHANG) == -1, "%s: a child is left",
                         fault.name);
                if (at > fault.calls)
                    break;
            }
    nr_check(failures > 8 && fork_failures == 8, "%d, %d at the fork", failures, fork_failures);
}

static void each_call_may_fail(void **state)
{
    const char *why;

    (void)state;
    if (!nr_faults_are_possible(&why)) {
        printf("SKIP: %s\n", why);
        skip();
    }
    in_process(calls_fail);
}

/* -- threads ------------------------------------------------------------------------------------------ */

static int uses_much(void *unused)
{
    struct naru_endpoint *end;
    char name[64];

    snprintf(name, sizeof name, "shm://naru-spawn-%d", (int)getpid());
    for (int i = 0; i < 20; i++)
        free(malloc(100 + (size_t)i * 1000));
    printf("%s", "");
    if (naru_open(&end, name, NARU_BOTH, NULL) < 0)
        return 1;
    int result = naru_send(end, "x", 1, 0);
    naru_close(end);
    naru_unlink(name);
    struct naru_child *child; /* and spawns in its turn */
    struct naru_death death = {.size_bytes = sizeof death};
    if (result < 0 || naru_spawn(&child, succeeds, unused, NULL) < 0 ||
        naru_child_wait(child, &death, NARU_FOREVER) < 0)
        return 2;
    naru_child_close(child);
    return death.exit_status;
}

/* Takes every lock there is, all the time. */
static void *is_busy(void *unused)
{
    struct naru_endpoint *ends[2];
    char data[8];

    nr_check_ok(naru_pair(ends, "unix://", NULL));
    while (!nr_kit_get(&shared[0])) {
        free(malloc(200));
        printf("%s", "");
        nr_check_ok(naru_send(ends[0], "x", 1, NR_SOON));
        nr_check_ok(naru_recv(ends[1], data, sizeof data, NULL, NR_SOON));
    }
    naru_close(ends[0]);
    naru_close(ends[1]);
    return unused;
}

static void *spawns_many(void *unused)
{
    for (int i = 0; i < 12; i++) {
        struct naru_child *child;
        nr_check_ok(naru_spawn(&child, uses_much, NULL, NULL));
        struct naru_death death = wait_for(child);
        nr_check(death.cause == NARU_EXITED && death.exit_status == 0, "%s", death.text);
    }
    return unused;
}

static void among_threads(void *unused)
{
    pthread_t busy[2], spawning[3];

    (void)unused;
    for (int i = 0; i < 2; i++)
        nr_check(pthread_create(&busy[i], NULL, is_busy, NULL) == 0, "pthread_create");
    for (int i = 0; i < 3; i++)
        nr_check(pthread_create(&spawning[i], NULL, spawns_many, NULL) == 0, "pthread_create");
    spawns_many(NULL);
    for (int i = 0; i < 3; i++)
        pthread_join(spawning[i], NULL);
    nr_kit_set(&shared[0], 1);
    for (int i = 0; i < 2; i++)
        pthread_join(busy[i], NULL);
}

static void threads_spawn_at_once(void **state)
{
    (void)state;
    if (NR_OS_HAS_TSAN) { /* its runtime's own locks are not made for a fork among busy threads */
        print_message("SKIP: the thread sanitizer may hang in a child of one of several threads\n");
        skip();
    }
    in_process(among_threads);
}

/* A handle is its process's own. */
static void in_a_fork(void *unused)
{
    struct naru_child *child;

    (void)unused;
    nr_check_ok(naru_spawn(&child, sleeps, NULL, NULL));
    pid_t pid = nr_kit_fork();
    if (pid == 0) {
        nr_check_fails(naru_child_wait(child, NULL, 0), -ECHILD, "not a child of this process");
        nr_check_fails(naru_child_signal(child, SIGKILL), -ECHILD, "not a child of this process");
        naru_child_close(child);
        check_works();
        exit(0);
    }
    nr_kit_join(pid);
    nr_check_ok(naru_child_signal(child, 0));
    naru_child_close(child);
}

static void a_handle_belongs_to_its_process(void **state)
{
    (void)state;
    in_process(in_a_fork);
}

/* -- what it held, and memory ------------------------------------------------------------------------ */

static int takes_one(void *context)
{
    struct naru_message message;
    struct naru_endpoint *end;

    if (naru_open(&end, context, NARU_RECEIVER, NULL) < 0 ||
        naru_take(end, &message, NR_SOON) < 0 || naru_take(end, &message, NR_SOON) < 0)
        return 1;
    abort();
}

static void held_messages(void *unused)
{
    char name[64];
    struct naru_endpoint *end;
    struct naru_child *child;
    struct naru_spawn_limit no_core = {.resource = RLIMIT_CORE};
    struct naru_options options = {.size_bytes = sizeof options, .delivery = NARU_AT_LEAST_ONCE};

    (void)unused;
    snprintf(name, sizeof name, "shm://naru-held-%d", (int)getpid());
    nr_check_ok(naru_open(&end, name, NARU_SENDER, &options));
    for (int i = 0; i < 3; i++)
        nr_check_ok(naru_send(end, "message", 7, 0));
    nr_check_ok(naru_spawn(
        &child, takes_one, name,
        OPTIONS(.channels = &end, .channels_count = 1, .limits = &no_core, .limits_count = 1)));
    struct naru_death death = wait_for(child);
    naru_close(end);
    naru_unlink(name);
    nr_check(death.signal_number == SIGABRT && death.held_messages == 2, "%s", death.text);
    nr_check(strstr(death.text, "2 messages"), "%s", death.text);
}

static void what_it_held_is_told(void **state)
{
    (void)state;
    in_process(held_messages);
}

/* A memory cgroup of 16 MiB, of either version. */
static bool write_file(const char *directory, const char *name, const char *text)
{
    char path[160];

    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool is_written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return is_written;
}

static int fills_its_group(void *directory)
{
    char pid[16];

    snprintf(pid, sizeof pid, "%d", (int)getpid());
    return write_file(directory, "cgroup.procs", pid) ? fills_memory(NULL) : 77;
}

static void out_of_memory(void *unused)
{
    static const char *const roots[] = {"/sys/fs/cgroup/memory", "/sys/fs/cgroup"};
    static const char *const limits[] = {"memory.limit_in_bytes", "memory.max"};
    char directory[80] = "";
    struct naru_child *child;

    (void)unused;
    for (int i = 0; i < 2 && !directory[0]; i++) {
        snprintf(directory, sizeof directory, "%s/naru-test-%d", roots[i], (int)getpid());
        bool is_made = mkdir(directory, 0755) == 0;
        if (is_made && write_file(directory, limits[i], "16777216"))
            break;
        if (is_made)
            rmdir(directory);
        directory[0] = '\0';
    }
    if (!directory[0])
        nr_kit_skip("no memory cgroup can be made here");
    nr_check_ok(naru_spawn(&child, fills_its_group, directory, NULL));
    struct naru_death death = wait_for(child);
    for (int i = 0; i < 1000 && rmdir(directory) < 0; i++)
        nr_kit_sleep_ms(2);
    if (death.exit_status == 77)
        nr_kit_skip("a process can't enter a memory cgroup here");
    nr_check(death.cause == NARU_OUT_OF_MEMORY && death.signal_number == SIGKILL, "%s", death.text);
    nr_check(strstr(death.text, "memory"), "%s", death.text);
    nr_check_ok(naru_spawn(&child, sleeps, NULL, NULL)); /* and a kill that is none is none */
    kill(naru_child_pid(child), SIGKILL);
    death = wait_for(child);
    nr_check(death.cause == NARU_KILLED && death.signal_number == SIGKILL, "%s", death.text);
}

static void lack_of_memory_is_told(void **state)
{
    (void)state;
    in_process(out_of_memory);
}

static int set_up(void **state)
{
    (void)state;
    shared = nr_kit_shared(4096);
    return 0;
}

static void needs_pidfds(void **state)
{
    (void)state;
    skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(children_die_with_the_process_and_not_with_a_thread),
        cmocka_unit_test(grandchildren_die_with_their_parent),
        cmocka_unit_test(a_parent_that_dies_behind_the_fork_leaves_nobody),
        cmocka_unit_test(a_parent_killed_while_it_spawns_leaves_nobody),
        cmocka_unit_test(a_zygote_may_be_killed),
        cmocka_unit_test(a_zygote_dies_with_its_maker),
        cmocka_unit_test(the_program_may_wait_and_ignore_sigchld),
        cmocka_unit_test(a_child_waits_until_its_parent_knows_it),
        cmocka_unit_test(children_may_misbehave),
        cmocka_unit_test(what_fails_leaves_nothing),
        cmocka_unit_test(without_descriptors_it_fails),
        cmocka_unit_test(without_processes_it_fails),
        cmocka_unit_test(each_call_may_fail),
        cmocka_unit_test(threads_spawn_at_once),
        cmocka_unit_test(a_handle_belongs_to_its_process),
        cmocka_unit_test(what_it_held_is_told),
        cmocka_unit_test(lack_of_memory_is_told),
    };
    const struct CMUnitTest none[] = {cmocka_unit_test(needs_pidfds)};

    if (!nr_kit_has_pidfds())
        return cmocka_run_group_tests(none, NULL, NULL);
    return cmocka_run_group_tests(tests, set_up, NULL);
}
