/* SPDX-License-Identifier: MIT */
/* spawn -- what a child gets, how it ends, and how that is told */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "kit.h"
#include <errno.h>
#include <fcntl.h>
#include <naru/process.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPTIONS(...)                                                                               \
    (&(struct naru_spawn_options){.size_bytes = sizeof(struct naru_spawn_options), __VA_ARGS__})

static struct naru_death death;

/* Spawns, waits, and leaves the cause in `death`. */
static struct naru_death *spawn_and_wait(int (*function)(void *), void *context,
                                         const struct naru_spawn_options *options)
{
    struct naru_child *child;

    death = (struct naru_death){.size_bytes = sizeof death};
    nr_check_ok(naru_spawn(&child, function, context, options));
    nr_check_ok(naru_child_wait(child, &death, NR_SOON));
    naru_child_close(child);
    return &death;
}

static struct naru_death *run_and_wait(const char *const *argv,
                                       const struct naru_spawn_options *options)
{
    struct naru_child *child;

    death = (struct naru_death){.size_bytes = sizeof death};
    nr_check_ok(naru_spawn_program(&child, argv, options));
    nr_check_ok(naru_child_wait(child, &death, NR_SOON));
    naru_child_close(child);
    return &death;
}

#define check_exit(call, status)                                                                   \
    do {                                                                                           \
        struct naru_death *end_ = (call);                                                          \
        nr_check(end_->cause == NARU_EXITED && end_->exit_status == (status), "%s", end_->text);   \
    } while (0)

/* -- how it ends ----------------------------------------------------------------------------------- */

static int returns(void *context)
{
    return *(int *)context;
}

static int kills_itself(void *context)
{
    signal(*(int *)context, SIG_DFL);
    raise(*(int *)context);
    return 0;
}

static int calls_exit(void *unused)
{
    (void)unused;
    exit(3);
}

static void tells_how_it_ended(void **state)
{
    (void)state;
    for (int status = 0; status < 256; status += 51)
        check_exit(spawn_and_wait(returns, &status, NULL), status);
    nr_check(strstr(death.text, "exit status 255"), "%s", death.text);
    nr_check(death.user_ns >= 0 && death.system_ns >= 0 && death.resident_max_bytes > 0,
             "%lld %lld", (long long)death.user_ns, (long long)death.resident_max_bytes);
    check_exit(spawn_and_wait(calls_exit, NULL, NULL), 3);
    static const int signals[] = {SIGSEGV, SIGKILL, SIGTERM, SIGABRT};
    for (size_t i = 0; i < 4; i++) {
        int number = signals[i];
        struct naru_spawn_limit no_core = {.resource = RLIMIT_CORE};
        spawn_and_wait(kills_itself, &number, OPTIONS(.limits = &no_core, .limits_count = 1));
        nr_check(death.cause == NARU_KILLED && death.signal_number == number &&
                     death.exit_status == -1,
                 "%s", death.text);
        nr_check(strstr(death.text, sigabbrev_np(number)), "%s", death.text);
    }
}

static int sleeps(void *unused)
{
    while (!unused)
        pause();
    return 0;
}

static void waits_and_signals(void **state)
{
    struct naru_death end = {.size_bytes = sizeof end}, again = {.size_bytes = sizeof again};
    struct naru_child *child;

    (void)state;
    nr_check_ok(naru_spawn(&child, sleeps, NULL, NULL));
    struct pollfd readable = {.fd = (int)nr_check_ok(naru_child_fd(child)), .events = POLLIN};
    assert_int_equal(poll(&readable, 1, 0), 0);
    nr_check_fails(naru_child_wait(child, &end, 0), -EAGAIN, "lives");
    nr_check_fails(naru_child_wait(child, NULL, NARU_MILLISECOND), -ETIMEDOUT, "lives");
    nr_check_ok(naru_child_signal(child, 0));
    nr_check_ok(naru_child_signal(child, SIGTERM));
    assert_int_equal(poll(&readable, 1, 10000), 1);
    nr_check_fails(naru_child_signal(child, SIGTERM), -ESRCH, "dead");
    nr_check_ok(naru_child_wait(child, &end, 0));
    assert_int_equal(end.signal_number, SIGTERM);
    assert_int_equal(end.was_asked, 1);
    assert_int_equal(end.pid, naru_child_pid(child));
    nr_check_ok(naru_child_wait(child, &again, NARU_FOREVER));
    assert_memory_equal(&end, &again, sizeof end);
    nr_check_fails(naru_child_signal(child, SIGTERM), -ESRCH, "dead");
    naru_child_close(child);
}

static void close_ends_it(void **state)
{
    struct naru_child *child;

    (void)state;
    nr_check_ok(naru_spawn(&child, sleeps, NULL, NULL));
    pid_t pid = naru_child_pid(child);
    int fds = nr_kit_fds();
    naru_child_close(child);
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(nr_kit_fds(), fds - 1);
    naru_child_close(NULL);
}

/* -- descriptors ------------------------------------------------------------------------------------ */

/* Exactly these are open: 0; or the number of one that is too many or too few. */
static int has_only_these(void *context)
{
    const int *numbers = context;
    int count = 0;

    while (numbers[count] >= 0)
        count++;
    for (int fd = 0; fd < 1000; fd++) {
        bool is_wanted = false;
        for (int i = 0; i < count; i++)
            is_wanted = is_wanted || numbers[i] == fd;
        if ((fcntl(fd, F_GETFD) >= 0) != is_wanted)
            return fd ? fd : 255;
    }
    return 0;
}

static void descriptors_are_closed(void **state)
{
    int only[] = {0, 1, 2, -1}, moved[] = {0, 1, 2, 5, 6, 7, -1};
    int pipe_fds[2], more[2];

    (void)state;
    assert_int_equal(pipe(pipe_fds), 0); /* not even close-on-exec */
    assert_int_equal(pipe2(more, O_CLOEXEC), 0);
    assert_int_equal(dup2(pipe_fds[0], 500), 500);
    check_exit(spawn_and_wait(has_only_these, only, NULL), 0);
    struct naru_spawn_fd fds[] = {{pipe_fds[0], 5}, {more[1], 6}, {more[1], 7}};
    check_exit(spawn_and_wait(has_only_these, moved, OPTIONS(.fds = fds, .fds_count = 3)), 0);
    spawn_and_wait(has_only_these, moved,
                   OPTIONS(.fds = fds, .fds_count = 3, .readiness = NARU_READY_BY_LINE));
    nr_check(death.exit_status > 2, "%s, where it has one more", death.text);
    int all[64], count = 0;
    for (int fd = 0; fd < 1000 && count < 63; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            all[count++] = fd;
    all[count] = -1;
    check_exit(spawn_and_wait(has_only_these, all, OPTIONS(.keep_fds = 1)), 0);
    close(500);
    for (int i = 0; i < 2; i++) {
        close(pipe_fds[i]);
        close(more[i]);
    }
}

/* Descriptors 10.. that read as "0", "1" ... */
static int read_digits(void *context)
{
    const char *digits = context;

    for (int i = 0; digits[i]; i++) {
        char digit = 0;
        if (pread(10 + i, &digit, 1, 0) != 1 || digit != digits[i])
            return i + 1;
    }
    return 0;
}

static void descriptors_change_places(void **state)
{
    char digits[] = "0123";
    struct naru_spawn_fd fds[4];

    (void)state;
    for (int i = 0; i < 4; i++) {
        int fd = (int)syscall(SYS_memfd_create, "digit", 0);
        assert_int_equal(write(fd, &digits[i], 1), 1);
        assert_int_equal(dup2(fd, 10 + i), 10 + i);
        close(fd);
    }
    for (int shift = 0; shift < 4; shift++) { /* a ring: each target is another one's source */
        char wanted[5] = "";
        for (int i = 0; i < 4; i++) {
            fds[i] = (struct naru_spawn_fd){10 + (i + shift) % 4, 10 + i};
            wanted[i] = digits[(i + shift) % 4];
        }
        check_exit(spawn_and_wait(read_digits, wanted, OPTIONS(.fds = fds, .fds_count = 4)), 0);
    }
    for (int i = 0; i < 4; i++)
        close(10 + i);
}

/* -- pair ends -------------------------------------------------------------------------------------- */

static const char *const pair_schemes[] = {"pipe://", "unix://", "mq://", "shm://"};

static struct naru_endpoint *ends[4][2];

static int echoes(void *context)
{
    struct naru_endpoint *end = ends[*(int *)context][1];
    char data[64];
    size_t size_bytes;

    while (naru_recv(end, data, sizeof data, &size_bytes, NARU_FOREVER) == 0)
        if (naru_send(end, data, size_bytes, NARU_FOREVER) < 0)
            return 2;
    naru_close(end);
    return 7;
}

static void hands_down_ends_of_pairs(void **state)
{
    char data[64];

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct naru_child *child;
        nr_check_ok(naru_pair(ends[i], pair_schemes[i], NULL));
        nr_check_ok(naru_spawn(&child, echoes, &i, OPTIONS(.ends = &ends[i][1], .ends_count = 1)));
        for (int j = 0; j < 3; j++) {
            nr_check_ok(naru_send(ends[i][0], "hello", 6, NR_SOON));
            nr_check_ok(naru_recv(ends[i][0], data, sizeof data, NULL, NR_SOON));
            assert_string_equal(data, "hello");
        }
        naru_close(ends[i][0]);
        naru_close(ends[i][1]);
        struct naru_death end = {.size_bytes = sizeof end};
        nr_check_ok(naru_child_wait(child, &end, NR_SOON));
        nr_check(end.exit_status == 7, "%s: %s", pair_schemes[i], end.text);
        naru_child_close(child);
    }
}

/* Several at once, whose descriptors are in the way of the targets. */
static int echoes_all(void *context)
{
    struct naru_spawn_fd *targets = context;
    char data[8];

    for (int i = 0; i < 4; i++) {
        if (naru_recv(ends[i][1], data, sizeof data, NULL, NARU_FOREVER) < 0 ||
            naru_send(ends[i][1], data, 1, NARU_FOREVER) < 0)
            return 1;
        if (fcntl(targets[i].target, F_GETFD) < 0)
            return 2;
    }
    return 0;
}

static void ends_make_room(void **state)
{
    struct naru_spawn_fd fds[48];
    struct naru_endpoint *theirs[4];
    struct naru_child *child;
    char data[8];

    (void)state;
    for (int i = 0; i < 4; i++) {
        nr_check_ok(naru_pair(ends[i], pair_schemes[i], NULL));
        theirs[i] = ends[i][1];
    }
    for (int i = 0; i < 48; i++)
        fds[i] = (struct naru_spawn_fd){0, i + 3};
    nr_check_ok(naru_spawn(&child, echoes_all, fds,
                           OPTIONS(.ends = theirs, .ends_count = 4, .fds = fds, .fds_count = 48)));
    for (int i = 0; i < 4; i++) {
        nr_check_ok(naru_send(ends[i][0], "x", 1, NR_SOON));
        nr_check_ok(naru_recv(ends[i][0], data, sizeof data, NULL, NR_SOON));
    }
    struct naru_death end = {.size_bytes = sizeof end};
    nr_check_ok(naru_child_wait(child, &end, NR_SOON));
    nr_check(end.exit_status == 0, "%s", end.text);
    naru_child_close(child);
    for (int i = 0; i < 4; i++) {
        naru_close(ends[i][0]);
        naru_close(ends[i][1]);
    }
}

/* Dead before its first call, and of a technique that has no end-of-file. */
static int dies_at_once(void *unused)
{
    (void)unused;
    return 0;
}

static void a_death_before_the_first_call_is_seen(void **state)
{
    char data[8];

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct naru_child *child;
        nr_check_ok(naru_pair(ends[i], pair_schemes[i], NULL));
        nr_check_ok(
            naru_spawn(&child, dies_at_once, NULL, OPTIONS(.ends = &ends[i][1], .ends_count = 1)));
        nr_check_fails(naru_recv(ends[i][0], data, sizeof data, NULL, NR_SOON), -EOWNERDEAD,
                       "died");
        naru_child_close(child);
        naru_close(ends[i][0]);
        naru_close(ends[i][1]);
    }
}

/* -- signals ---------------------------------------------------------------------------------------- */

static void on_signal(int number)
{
    (void)number;
}

/* Nothing blocked, ignored or caught, but what libc keeps. */
static int has_default_signals(void *unused)
{
    sigset_t mask;

    (void)unused;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    for (int number = 1; number <= SIGRTMAX; number++) {
        struct sigaction action;
        if (sigaction(number, NULL, &action) < 0) /* libc's own */
            continue;
        if (action.sa_handler != SIG_DFL || sigismember(&mask, number))
            return number;
    }
    return 0;
}

static void signals_are_reset(void **state)
{
    sigset_t set, before;

    (void)state;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, &before);
    signal(SIGUSR2, on_signal);
    signal(SIGRTMIN + 3, on_signal);
    signal(SIGHUP, SIG_IGN);
    check_exit(spawn_and_wait(has_default_signals, NULL, NULL), 0);
    check_exit(spawn_and_wait(has_default_signals, NULL, OPTIONS(.keep_signals = 1)), SIGHUP);
    const char *const shows[] = {"grep", "-E", "^Sig(Blk|Ign):.*[1-9a-f]", "/proc/self/status",
                                 NULL}; /* what it finds goes to the log */
    check_exit(run_and_wait(shows, NULL), 1);
    check_exit(run_and_wait(shows, OPTIONS(.keep_signals = 1)), 0);
    signal(SIGUSR2, SIG_DFL);
    signal(SIGRTMIN + 3, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    sigprocmask(SIG_SETMASK, &before, NULL);
}

/* -- options ---------------------------------------------------------------------------------------- */

static int looks_about(void *unused)
{
    struct rlimit limit;
    cpu_set_t cpus;
    char directory[64];

    (void)unused;
    if (!getcwd(directory, sizeof directory) || strcmp(directory, "/usr") != 0)
        return 1;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur != 33 || limit.rlim_max != 77)
        return 2;
    if (sched_getaffinity(0, sizeof cpus, &cpus) < 0 || CPU_COUNT(&cpus) != 1)
        return 3;
    if (getpriority(PRIO_PROCESS, 0) < 3)
        return 4;
    return getpgrp() == getpid() ? 0 : 5;
}

static void options_hold(void **state)
{
    struct naru_spawn_limit limits[] = {{.resource = RLIMIT_NOFILE, .soft = 33, .hard = 77},
                                        {.resource = RLIMIT_CORE}};
    uint32_t cpu = (uint32_t)sched_getcpu();
    const char *const environment[] = {"PATH=/bin:/usr/bin", "COLOUR=blue", NULL};
    const char *const shell[] = {
        "sh", "-c", "test $(pwd) = /usr -a $(ulimit -n) = 33 -a \"$COLOUR\" = blue -a -z \"$HOME\"",
        NULL};

    (void)state;
    check_exit(spawn_and_wait(looks_about, NULL,
                              OPTIONS(.directory = "/usr", .limits = limits, .limits_count = 2,
                                      .cpus = &cpu, .cpus_count = 1, .nice = 3, .own_group = 1)),
               0);
    check_exit(run_and_wait(shell, OPTIONS(.directory = "/usr", .limits = limits, .limits_count = 2,
                                           .environment = environment)),
               0);
}

/* -- readiness -------------------------------------------------------------------------------------- */

static int is_ready_when_told(void *context)
{
    nr_kit_await(context, 1);
    if (naru_ready() != 1 || naru_ready() != 0)
        return 1;
    nr_kit_await(context, 2);
    return 0;
}

static int is_never_ready(void *unused)
{
    (void)unused;
    return 0;
}

static int is_not_asked(void *unused)
{
    (void)unused;
    return naru_ready();
}

static void readiness_is_told(void **state)
{
    int *stage = nr_kit_shared(sizeof *stage);
    struct naru_child *child;
    const struct naru_spawn_options *options = OPTIONS(.readiness = NARU_READY_BY_LINE);

    (void)state;
    nr_check_ok(naru_spawn(&child, is_ready_when_told, stage, options));
    struct pollfd readable = {.fd = (int)nr_check_ok(naru_child_ready_fd(child)), .events = POLLIN};
    nr_check_fails(naru_child_await_ready(child, 0), -EAGAIN, "not said");
    nr_check_fails(naru_child_await_ready(child, NARU_MILLISECOND), -ETIMEDOUT, "not said");
    assert_int_equal(poll(&readable, 1, 0), 0);
    nr_kit_set(stage, 1);
    nr_check_ok(naru_child_await_ready(child, NR_SOON));
    nr_check_ok(naru_child_await_ready(child, 0));
    assert_int_equal(poll(&readable, 1, 0), 1);
    nr_kit_set(stage, 2);
    struct naru_death end = {.size_bytes = sizeof end};
    nr_check_ok(naru_child_wait(child, &end, NR_SOON));
    nr_check(end.exit_status == 0, "%s", end.text);
    naru_child_close(child);

    nr_check_ok(naru_spawn(&child, is_never_ready, NULL, options));
    nr_check_fails(naru_child_await_ready(child, NR_SOON), -EOWNERDEAD, "before it was ready");
    naru_child_close(child);
    nr_check_ok(naru_spawn(&child, sleeps, NULL, NULL));
    nr_check_fails(naru_child_await_ready(child, 0), -EOPNOTSUPP, "readiness");
    naru_child_close(child);
    setenv("NARU_READY_FD", "1", 1);
    check_exit(spawn_and_wait(is_not_asked, NULL, NULL), 0);
    unsetenv("NARU_READY_FD");
}

static void a_program_tells_readiness(void **state)
{
    struct naru_child *child;
    const char *const says[] = {"sh", "-c", "echo >&$NARU_READY_FD; exec sleep 100", NULL};
    const char *const closes[] = {"bash", "-c", "eval \"exec $NARU_READY_FD>&-\"; exec sleep 100",
                                  NULL};
    struct naru_spawn_fd fds[] = {{1, 3}, {1, 4}};
    const struct naru_spawn_options *options =
        OPTIONS(.fds = fds, .fds_count = 2, .readiness = NARU_READY_BY_LINE);

    (void)state;
    nr_check_ok(naru_spawn_program(&child, says, options));
    nr_check_ok(naru_child_await_ready(child, NR_SOON));
    naru_child_close(child);
    nr_check_ok(naru_spawn_program(&child, closes, options));
    nr_check_fails(naru_child_await_ready(child, NR_SOON), -EPIPE, "without saying");
    naru_child_close(child);
}

/* This program, as one that knows sd_notify(3). */
static int notify(void)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const char *address = getenv("NOTIFY_SOCKET");
    static const char other[] = "STATUS=READY=1 is to come\nXREADY=1\nREADY=10";
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

    if (!address || address[0] != '@' || getenv("NARU_READY_FD"))
        return 1;
    memcpy(to.sun_path + 1, address + 1, strlen(address) - 1);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(address));
    if (sendto(fd, other, sizeof other - 1, 0, (struct sockaddr *)&to, size) < 0)
        return 2;
    if (strcmp(getenv("NOTIFY_HOW"), "never") == 0)
        return 0;
    usleep(50000);
    if (strcmp(getenv("NOTIFY_HOW"), "library") == 0) {
        if (naru_ready() != 1)
            return 3;
    } else if (sendto(fd, "A=1\nREADY=1\nB=2", 15, 0, (struct sockaddr *)&to, size) < 0)
        return 4;
    bool is_crowd = strcmp(getenv("NOTIFY_HOW"), "crowd") == 0, is_child = false;
    for (int i = 0; is_crowd && !is_child && i < 4; i++)
        is_child = fork() == 0;
    for (int i = 0; i < 1000; i++) /* nobody reads it, and nobody waits for that */
        sendto(fd, "STATUS=fine", 11, MSG_NOSIGNAL, (struct sockaddr *)&to, size);
    while (!is_child && wait(NULL) > 0)
        ;
    return 7;
}

static void a_program_notifies(void **state)
{
    const struct naru_spawn_options *options = OPTIONS(.readiness = NARU_READY_BY_NOTIFY);
    const char *const program[] = {"/proc/self/exe", "notify", NULL};
    static const char *const ways[] = {"library", "itself"};
    struct naru_death end = {.size_bytes = sizeof end};
    struct naru_child *child;

    (void)state;
    setenv("NOTIFY_SOCKET", "/somebody/elses", 1);
    for (int i = 0; i < 2; i++) {
        setenv("NOTIFY_HOW", ways[i], 1);
        nr_check_ok(naru_spawn_program(&child, program, options));
        nr_check_fails(naru_child_await_ready(child, 5 * NARU_MILLISECOND), -ETIMEDOUT, "not said");
        nr_check_ok(naru_child_await_ready(child, NR_SOON));
        nr_check_ok(naru_child_wait(child, &end, NR_SOON));
        nr_check(end.exit_status == 7, "%s: %s", ways[i], end.text);
        struct pollfd readable = {.fd = (int)nr_check_ok(naru_child_ready_fd(child)),
                                  .events = POLLIN};
        assert_int_equal(poll(&readable, 1, 0), 1);
        nr_check_ok(naru_child_await_ready(child, 0));
        naru_child_close(child);
    }
    setenv("NOTIFY_HOW", "crowd", 1);
    nr_check_ok(naru_spawn_program(&child, program, options));
    usleep(200000); /* they sleep for room now, more of them than will be read before it is ready */
    nr_check_ok(naru_child_await_ready(child, NR_SOON));
    nr_check_ok(naru_child_wait(child, &end, NR_SOON));
    nr_check(end.exit_status == 7, "%s", end.text);
    naru_child_close(child);
    setenv("NOTIFY_HOW", "never", 1);
    nr_check_ok(naru_spawn_program(&child, program, options));
    nr_check_fails(naru_child_await_ready(child, NR_SOON), -EOWNERDEAD, "before it was ready");
    naru_child_close(child);
    unsetenv("NOTIFY_SOCKET");
    nr_check_fails(naru_spawn(&child, is_never_ready, NULL, options), -EOPNOTSUPP, "programs");
}

/* -- programs --------------------------------------------------------------------------------------- */

static void programs_run(void **state)
{
    const char *const yes[] = {"true", NULL}, *const no[] = {"/bin/false", NULL};
    const char *const many[] = {"sh", "-c", "exit $#", "sh", "a", "b", "c d", NULL};

    (void)state;
    check_exit(run_and_wait(yes, NULL), 0);
    check_exit(run_and_wait(no, NULL), 1);
    check_exit(run_and_wait(many, NULL), 3);
    nr_check(death.resident_max_bytes == -1, "%lld", (long long)death.resident_max_bytes);
}

/* -- zygotes ---------------------------------------------------------------------------------------- */

static int written_later;

struct order {
    int fd;
    char text[16];
};

static int obeys(void *context)
{
    const struct order *order = context;
    char text[16] = "";

    if (written_later) /* it has the memory of then */
        return 1;
    naru_ready();
    if (pread(order->fd, text, sizeof text, 0) < 0 || strcmp(text, order->text) != 0)
        return 2;
    int only[] = {0, 1, 2, order->fd, -1};
    return has_only_these(only);
}

static int has_no_context(void *context)
{
    return context != NULL;
}

static void a_zygote_forks(void **state)
{
    struct naru_zygote *zygote;
    struct naru_child *child;
    struct order order = {7, "a word"};
    int number = SIGABRT, fd = (int)syscall(SYS_memfd_create, "word", 0);

    (void)state;
    assert_int_equal(write(fd, order.text, sizeof order.text), sizeof order.text);
    nr_check_ok(naru_zygote_open(&zygote));
    written_later = 1;
    struct naru_spawn_fd fds[] = {{fd, 7}};
    const struct naru_spawn_options *options =
        OPTIONS(.zygote = zygote, .fds = fds, .fds_count = 1, .readiness = NARU_READY_BY_LINE,
                .context_size_bytes = sizeof order);
    for (int i = 0; i < 3; i++) {
        nr_check_ok(naru_spawn(&child, obeys, &order, options));
        nr_check_ok(naru_child_await_ready(child, NR_SOON));
        death = (struct naru_death){.size_bytes = sizeof death};
        nr_check_ok(naru_child_wait(child, &death, NR_SOON));
        nr_check(death.cause == NARU_EXITED && death.exit_status == 0 && death.user_ns >= 0, "%s",
                 death.text);
        naru_child_close(child);
    }
    check_exit(spawn_and_wait(has_no_context, NULL, OPTIONS(.zygote = zygote)), 0);
    check_exit(spawn_and_wait(has_default_signals, NULL, OPTIONS(.zygote = zygote)), 0);
    struct naru_spawn_limit limits[] = {{.resource = RLIMIT_NOFILE, .soft = 33, .hard = 77},
                                        {.resource = RLIMIT_CORE}};
    uint32_t cpu = (uint32_t)sched_getcpu();
    check_exit(spawn_and_wait(looks_about, NULL,
                              OPTIONS(.zygote = zygote, .directory = "/usr", .limits = limits,
                                      .limits_count = 2, .cpus = &cpu, .cpus_count = 1, .nice = 3,
                                      .own_group = 1)),
               0);
    spawn_and_wait(kills_itself, &number,
                   OPTIONS(.zygote = zygote, .context_size_bytes = sizeof number,
                           .limits = &limits[1], .limits_count = 1));
    nr_check(death.cause == NARU_KILLED && death.signal_number == SIGABRT, "%s", death.text);
    nr_check_ok(naru_spawn(&child, sleeps, NULL, OPTIONS(.zygote = zygote)));
    nr_check_ok(naru_child_signal(child, SIGTERM));
    nr_check_ok(naru_child_wait(child, &death, NR_SOON));
    assert_int_equal(death.signal_number, SIGTERM);
    naru_child_close(child);
    nr_check_fails(
        naru_spawn(&child, sleeps, NULL, OPTIONS(.zygote = zygote, .directory = "/no/such")),
        -ENOENT, "directory");
    nr_check_fails(naru_spawn(&child, sleeps, NULL, OPTIONS(.zygote = zygote, .keep_fds = 1)),
                   -EOPNOTSUPP, "zygote");
    nr_check_fails(
        naru_spawn(&child, sleeps, NULL, OPTIONS(.zygote = zygote, .context_size_bytes = 70000)),
        -EINVAL, "context_size_bytes");
    nr_check_fails(
        naru_spawn_program(&child, (const char *const[]){"true", NULL}, OPTIONS(.zygote = zygote)),
        -EOPNOTSUPP, "zygote");
    nr_check_ok(naru_spawn(&child, sleeps, NULL, OPTIONS(.zygote = zygote)));
    naru_zygote_close(zygote); /* and its children go with it, whose handles stay */
    nr_check_ok(naru_child_wait(child, &death, NR_SOON));
    nr_check(death.signal_number == SIGKILL || death.cause == NARU_DEATH_UNKNOWN, "%s", death.text);
    naru_child_close(child);
    naru_zygote_close(NULL);
    close(fd);
}

/* -- stdio ------------------------------------------------------------------------------------------ */

static int prints(void *unused)
{
    (void)unused;
    printf("child\n");
    return 0;
}

static void stdio_is_not_written_twice(void **state)
{
    char text[64] = "";
    int fd = (int)syscall(SYS_memfd_create, "stdout", 0), before = dup(1);

    (void)state;
    fflush(stdout);
    dup2(fd, 1);
    printf("parent"); /* stays in the buffer */
    int status = spawn_and_wait(prints, NULL, NULL)->exit_status;
    fflush(stdout);
    dup2(before, 1);
    close(before);
    assert_int_equal(status, 0);
    assert_int_equal(pread(fd, text, sizeof text, 0), 12);
    assert_string_equal(text, "child\nparent");
    close(fd);
}

static void needs_pidfds(void **state)
{
    (void)state;
    skip();
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "notify") == 0)
        return notify();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_how_it_ended),
        cmocka_unit_test(waits_and_signals),
        cmocka_unit_test(close_ends_it),
        cmocka_unit_test(descriptors_are_closed),
        cmocka_unit_test(descriptors_change_places),
        cmocka_unit_test(hands_down_ends_of_pairs),
        cmocka_unit_test(ends_make_room),
        cmocka_unit_test(a_death_before_the_first_call_is_seen),
        cmocka_unit_test(signals_are_reset),
        cmocka_unit_test(options_hold),
        cmocka_unit_test(readiness_is_told),
        cmocka_unit_test(a_program_tells_readiness),
        cmocka_unit_test(a_program_notifies),
        cmocka_unit_test(programs_run),
        cmocka_unit_test(a_zygote_forks),
        cmocka_unit_test(stdio_is_not_written_twice),
    };
    const struct CMUnitTest none[] = {cmocka_unit_test(needs_pidfds)};

    if (!nr_kit_has_pidfds())
        return cmocka_run_group_tests(none, NULL, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
