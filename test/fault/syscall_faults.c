/* SPDX-License-Identifier: MIT */
/*
 * syscall_faults -- each system call of each operation on shm:// fails, with each error that it may give
 *
 * Contents   what the operations share - the operations - one run
 * What       For every operation of the table below: the N-th system call fails, for every N and each error
 *            (support/faults.h has which call gives which). Then the operation either reports an error, with a
 *            sentence, and has left nothing behind (descriptor, mapping, name, place in the channel, memory), and
 *            succeeds when it is tried again; or it succeeds and really works: a message crosses.
 * Twice      Each once in a process that does it for the first time, and once in one that has done it before.
 */
#include "faults.h"
#include "kit.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SHORT_NS = 3000000, CASE_SECONDS = 40 };
enum kind { SLOTS = 1, BYTES = 2, PAIR = 4, TOPIC = 8, CELL = 16 };

static struct scene {
    enum kind kind;
    char path[80], uri[88];
    struct naru_endpoint *sender, *receiver; /* of a pair: its two ends */
    pid_t helper;
    int *helped; /* how far the helper is */
    struct nr_fault fault;
} scene;

/* -- what the operations share --------------------------------------------------------------- */

static struct naru_options options_for(enum naru_create create)
{
    return (struct naru_options){
        .size_bytes = sizeof(struct naru_options),
        .create = create,
        .pattern = scene.kind == TOPIC  ? NARU_TOPIC
                   : scene.kind == CELL ? NARU_CELL
                                        : NARU_QUEUE,
        .message_size_max_bytes = 64,
        .capacity_messages = scene.kind == CELL ? 0 : 2,
        .payload_bytes = scene.kind == SLOTS ? 4 * 64 : 0,
        .participants_max = scene.kind == PAIR ? 0 : 4,
        .one_to_one = scene.kind == BYTES,
    };
}

static int open_end(struct naru_endpoint **ret, enum naru_role role, enum naru_create create)
{
    struct naru_options options = options_for(create);

    return naru_open(ret, scene.uri, role, &options);
}

static void open_both(void)
{
    nr_check_ok(open_end(&scene.sender, NARU_SENDER, NARU_CREATE_OR_ATTACH));
    nr_check_ok(open_end(&scene.receiver, NARU_RECEIVER, NARU_CREATE_OR_ATTACH));
}

static void close_both(void)
{
    naru_close(scene.sender);
    naru_close(scene.receiver);
    scene.sender = scene.receiver = NULL;
    unlink(scene.path);
}

/* A message goes through. */
static void check_works(void)
{
    char text[64];
    size_t size_bytes = 0;

    while (naru_recv(scene.receiver, text, sizeof text, NULL, 0) == 0)
        ;
    nr_check_ok(naru_send(scene.sender, "through", 7, NARU_SECOND));
    nr_check_ok(naru_recv(scene.receiver, text, sizeof text, &size_bytes, NARU_SECOND));
    nr_check(size_bytes == 7 && memcmp(text, "through", 7) == 0, "%zu bytes", size_bytes);
}

static void check_peers(struct naru_endpoint *endpoint, unsigned expected)
{
    struct naru_stat stat = {.size_bytes = sizeof stat};

    nr_check_ok(naru_stat(endpoint, &stat));
    nr_check(stat.peers == expected, "%u peers, not %u", stat.peers, expected);
}

static void stop_helper(void)
{
    if (scene.helper > 0)
        nr_kit_kill(scene.helper);
    scene.helper = 0;
}

/* -- the operations -------------------------------------------------------------------------- */

static int create_call(void)
{
    return open_end(&scene.sender, NARU_SENDER, NARU_CREATE);
}
static void create_check(int result)
{
    if (result < 0)
        nr_check(access(scene.path, F_OK) < 0, "it left the name behind");
    if (result < 0)
        nr_check_ok(create_call());
    nr_check_ok(open_end(&scene.receiver, NARU_RECEIVER, NARU_ATTACH));
    check_works();
    check_peers(scene.sender, 1);
}

static void attach_prepare(void)
{
    nr_check_ok(open_end(&scene.sender, NARU_SENDER, NARU_CREATE));
}
static int attach_call(void)
{
    return open_end(&scene.receiver, NARU_RECEIVER, NARU_ATTACH);
}
static void attach_check(int result)
{
    check_peers(scene.sender, result < 0 ? 0 : 1);
    if (result < 0)
        nr_check_ok(attach_call());
    check_works();
    check_peers(scene.sender, 1);
}

/* With a message in hand, which has to come back. */
static void close_prepare(void)
{
    struct naru_message message;

    open_both();
    nr_check_ok(naru_send(scene.sender, "held", 4, 0));
    nr_check_ok(naru_take(scene.receiver, &message, 0));
    naru_fd(scene.receiver);
}
static int close_call(void)
{
    naru_close(scene.receiver);
    scene.receiver = NULL;
    return 0;
}
static void close_check(int result)
{
    char text[64];

    (void)result;
    check_peers(scene.sender, 0);
    nr_check_ok(attach_call());
    nr_check_ok(naru_recv(scene.receiver, text, sizeof text, NULL, 0));
    check_works();
}

static int unlink_call(void)
{
    return naru_unlink(scene.uri);
}
static void unlink_check(int result)
{
    nr_check((access(scene.path, F_OK) == 0) == (result < 0), "%d, and the name says otherwise",
             result);
    if (result < 0)
        nr_check_ok(unlink_call());
    check_works();
}

static int pair_call(void)
{
    struct naru_options options = options_for(0);
    struct naru_endpoint *ends[2] = {NULL, NULL};
    int result = naru_pair(ends, "shm://", &options);

    if (result >= 0) {
        scene.sender = ends[0];
        scene.receiver = ends[1];
    }
    return result;
}
static void pair_check(int result)
{
    if (result < 0)
        nr_check_ok(pair_call());
    check_works();
}

static void answer_on_pair(void)
{
    char text[64];
    size_t size_bytes;

    nr_check_ok(naru_pair_assign(scene.receiver, getpid()));
    nr_check_ok(naru_recv(scene.receiver, text, sizeof text, &size_bytes, NARU_FOREVER));
    nr_check_ok(naru_send(scene.receiver, text, size_bytes, NARU_FOREVER));
    pause();
}
static void assign_prepare(void)
{
    nr_check_ok(pair_call());
    if ((scene.helper = nr_kit_fork()) == 0)
        answer_on_pair();
}
static int assign_call(void)
{
    return naru_pair_assign(scene.receiver, scene.helper);
}
static void assign_check(int result)
{
    char text[64];

    if (result < 0)
        nr_check_ok(assign_call());
    nr_check_ok(naru_send(scene.sender, "there", 5, NARU_SECOND));
    nr_check_ok(naru_recv(scene.sender, text, sizeof text, NULL, NARU_SECOND));
    nr_check_fails(naru_recv(scene.sender, text, sizeof text, NULL, 0), -EAGAIN, "");
    stop_helper(); /* its death is noticed */
    nr_check_fails(naru_recv(scene.sender, text, sizeof text, NULL, NARU_SECOND), -EOWNERDEAD, "");
}

static void adopt_prepare(void)
{
    nr_check_ok(pair_call());
    pid_t child = nr_kit_fork();
    if (child >
        0) { /* this process stays behind as the other side; the child goes on with the test */
        int status = -1;
        nr_check_ok(naru_pair_assign(scene.receiver, child));
        char text[64];
        while (naru_recv(scene.sender, text, sizeof text, NULL, NARU_FOREVER) == 0)
            nr_check_ok(naru_send(scene.sender, text, 5, NARU_FOREVER));
        waitpid(child, &status, 0);
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
    }
}
static int adopt_call(void)
{
    return naru_pair_assign(scene.receiver, getpid());
}
static void adopt_check(int result)
{
    char text[64];

    if (result < 0)
        nr_check_ok(adopt_call());
    nr_check_ok(naru_send(scene.receiver, "there", 5, NARU_SECOND));
    nr_check_ok(naru_recv(scene.receiver, text, sizeof text, NULL, NARU_SECOND));
}

/* The descriptor, and its arming by a call that finds nothing. */
static int fd_call(void)
{
    char text[64];
    int fd = naru_fd(scene.receiver);

    if (fd < 0)
        return fd;
    int result = naru_recv(scene.receiver, text, sizeof text, NULL, 0);
    return result == -EAGAIN ? 0 : result;
}
static void fd_check(int result)
{
    char text[64];

    if (result < 0)
        nr_check_ok(fd_call());
    struct pollfd one = {.fd = naru_fd(scene.receiver), .events = POLLIN};
    nr_check_ok(one.fd);
    nr_check_ok(naru_send(scene.sender, "seen", 4, 0));
    nr_check(poll(&one, 1, 2000) == 1, "the descriptor is silent");
    nr_check_ok(naru_recv(scene.receiver, text, sizeof text, NULL, NARU_SECOND));
    check_works();
}

/* A time-out is what the call should end with, and not before its time. */
static int timed(int64_t begin_ns, int result)
{
    nr_check(result != -ETIMEDOUT || nr_kit_now_ns() - begin_ns >= SHORT_NS, "it ended too early");
    return result == -ETIMEDOUT ? 0 : result;
}

static void full_prepare(void)
{
    if (scene.kind == PAIR)
        nr_check_ok(pair_call());
    else
        open_both();
    while (naru_send(scene.sender, "fill", 4, 0) == 0)
        ;
}
static int full_call(void)
{
    int64_t begin_ns = nr_kit_now_ns();

    return timed(begin_ns, naru_send(scene.sender, "more", 4, SHORT_NS));
}
static void waited_check(int result)
{
    (void)result;
    check_works();
}

static void empty_prepare(void)
{
    if (scene.kind == PAIR)
        nr_check_ok(pair_call());
    else
        open_both();
}
static int empty_call(void)
{
    char text[64];
    int64_t begin_ns = nr_kit_now_ns();

    return timed(begin_ns, naru_recv(scene.receiver, text, sizeof text, NULL, SHORT_NS));
}

/* Someone sends in a moment, and meanwhile one waits for ever. */
static void send_soon(void)
{
    nr_kit_await(scene.helped, 1);
    nr_kit_sleep_ms(2);
    nr_check_ok(naru_open(&scene.sender, scene.uri, NARU_SENDER, NULL));
    nr_check_ok(naru_send(scene.sender, "soon", 4, NARU_SECOND));
    pause();
}
static void soon_prepare(void)
{
    struct naru_options options = options_for(NARU_CREATE);

    scene.helped = nr_kit_shared(sizeof *scene.helped);
    nr_check_ok(naru_open(&scene.receiver, scene.uri, NARU_RECEIVER, &options));
    if ((scene.helper = nr_kit_fork()) == 0)
        send_soon();
    nr_kit_add(scene.helped, 1);
}
static int soon_call(void)
{
    char text[64];

    return naru_recv(scene.receiver, text, sizeof text, NULL, NARU_FOREVER);
}
static void soon_check(int result)
{
    if (result < 0)
        nr_check_ok(soon_call());
    stop_helper();
    if (scene.kind == BYTES)
        naru_recv(scene.receiver, (char[64]){0}, 64, NULL, 0); /* the helper's death */
    nr_check_ok(open_end(&scene.sender, NARU_SENDER, NARU_ATTACH));
    check_works();
}

/* Someone sleeps, and is woken by a send. */
static void sleep_for_message(void)
{
    char text[64];

    naru_close(scene.sender);
    scene.sender = NULL;
    nr_check_ok(naru_open(&scene.receiver, scene.uri, NARU_RECEIVER, NULL));
    nr_kit_add(scene.helped, 1);
    nr_check_ok(naru_recv(scene.receiver, text, sizeof text, NULL, NARU_FOREVER));
    nr_kit_add(scene.helped, 1);
    pause();
}
static void wake_prepare(void)
{
    scene.helped = nr_kit_shared(sizeof *scene.helped);
    nr_check_ok(open_end(&scene.sender, NARU_SENDER, NARU_CREATE));
    if ((scene.helper = nr_kit_fork()) == 0)
        sleep_for_message();
    nr_kit_await(scene.helped, 1);
    nr_kit_sleep_ms(2);
}
static int wake_call(void)
{
    return naru_send(scene.sender, "wake", 4, 0);
}
static void wake_check(int result)
{
    if (result < 0)
        nr_check_ok(wake_call());
    nr_kit_await(scene.helped, 2);
    stop_helper();
    nr_check_ok(attach_call());
    check_works();
}

static const struct operation {
    const char *name;
    unsigned kinds;
    void (*prepare)(void);
    int (*call)(void);
    void (*check)(int result);
} operations[] = {
    {"create", SLOTS | BYTES | TOPIC | CELL, NULL, create_call, create_check},
    {"attach", SLOTS | BYTES | TOPIC | CELL, attach_prepare, attach_call, attach_check},
    {"close", SLOTS | BYTES, close_prepare, close_call, close_check},
    {"unlink", SLOTS, open_both, unlink_call, unlink_check},
    {"pair", PAIR, NULL, pair_call, pair_check},
    {"pair_assign to a child", PAIR, assign_prepare, assign_call, assign_check},
    {"pair_assign in the child", PAIR, adopt_prepare, adopt_call, adopt_check},
    {"descriptor", SLOTS | BYTES | PAIR | TOPIC | CELL, empty_prepare, fd_call, fd_check},
    {"wait while full", SLOTS | BYTES | PAIR, full_prepare, full_call, waited_check},
    {"wait while empty", SLOTS | BYTES | PAIR | TOPIC | CELL, empty_prepare, empty_call,
     waited_check},
    {"wait for a message", SLOTS | BYTES, soon_prepare, soon_call, soon_check},
    {"wake", SLOTS | BYTES, wake_prepare, wake_call, wake_check},
};
enum { OPERATIONS = sizeof operations / sizeof operations[0] };

/* -- one run --------------------------------------------------------------------------------- */

static const struct operation *operation;
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
        count += strstr(line, scene.path) || strstr(line, "naru-pair");
    fclose(maps);
    return count;
}

static const char *fault_text(void)
{
    static char text[160];

    snprintf(text, sizeof text, "%s (kind %d): call %u, %s, gives %s", operation->name,
             (int)scene.kind, scene.fault.at, scene.fault.name ? scene.fault.name : "none",
             strerrorname_np(scene.fault.error));
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
    if (result == -scene.fault.error)
        return;
    for (size_t i = 0; i < sizeof stand_ins / sizeof stand_ins[0]; i++)
        if (scene.fault.name && strcmp(stand_ins[i].call, scene.fault.name) == 0 &&
            stand_ins[i].error == scene.fault.error && stand_ins[i].result == result)
            return;
    nr_check(0, "%s: the result is %s: %s", fault_text(), strerrorname_np(-result),
             naru_error_text());
}

static void run_cycle(unsigned at, int error)
{
    scene.fault = (struct nr_fault){.at = at, .error = error};
    if (operation->prepare)
        operation->prepare();
    int fds = nr_kit_fds();
    unsigned maps = mappings();
    nr_faults_begin(&scene.fault);
    int result = operation->call();
    nr_faults_end();
    if (result < 0) {
        judge(result);
        nr_check(operation->call == fd_call || nr_kit_fds() <= fds, "%s: descriptors leaked",
                 fault_text());
        nr_check(mappings() <= maps, "%s: a mapping leaked", fault_text());
    }
    operation->check(result);
    stop_helper();
    close_both();
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
        tally->calls = scene.fault.calls;
        memcpy(tally->trace, scene.fault.trace, sizeof tally->trace);
    }
    nr_check(nr_kit_fds() == fds, "%s: %d descriptors leaked", fault_text(), nr_kit_fds() - fds);
    nr_check(scene.fault.name && strcmp(scene.fault.name, "munmap") == 0 ? true
                                                                         : mappings() == maps,
             "%s: %d mappings leaked", fault_text(), (int)(mappings() - maps));
    nr_check(run->is_first || mallinfo2().uordblks <= heap, "%s: %zu bytes leaked", fault_text(),
             mallinfo2().uordblks - heap);
    nr_check(access(scene.path, F_OK) < 0, "%s: a name is left", fault_text());
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
    unlink(scene.path);
    nr_check(status == 0, "%s (kind %d): call %u gives %s, in a %s run: %s %d", operation->name,
             (int)scene.kind, at, error ? strerrorname_np(error) : "nothing",
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
    for (unsigned kind = SLOTS; kind <= CELL; kind *= 2) {
        if (!(operation->kinds & kind))
            continue;
        scene.kind = kind;
        snprintf(scene.path, sizeof scene.path, "/dev/shm/naru-faults-%d", (int)getppid());
        snprintf(scene.uri, sizeof scene.uri, "shm://%s", scene.path);
        all_runs(true);
        unsigned calls = tally->calls;
        if (kind <= PAIR) /* the others differ in nothing that a second time could show */
            all_runs(false);
        printf("# %s, %s: %u system calls the first time, %u the second; %u runs\n",
               operation->name,
               kind == SLOTS   ? "many to many"
               : kind == BYTES ? "one to one"
               : kind == PAIR  ? "pair"
               : kind == TOPIC ? "topic"
                               : "cell",
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
    struct CMUnitTest tests[OPERATIONS];

    without_thread_cache();

    for (unsigned i = 0; i < OPERATIONS; i++)
        tests[i] = (struct CMUnitTest){
            .name = operations[i].name,
            .test_func = test_faults,
            .initial_state = (void *)(uintptr_t)&operations[i],
        };
    return _cmocka_run_group_tests("syscall_faults", tests, OPERATIONS, NULL, NULL);
}
