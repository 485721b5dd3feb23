/* SPDX-License-Identifier: MIT */
/*
 * sync_fd -- naru_semaphore_fd() and naru_event_fd(): readable when there is something, and silent otherwise
 *
 * What       Each case runs with the ring that the kernel has, and once more where io_uring is refused, so that a thread
 *            stands in for it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include "kit.h"
#include "os/uring.h"
#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <naru/sync.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

enum { POSTS = 20000, TURNS = 3000, SOON_MS = 3000, SILENT_MS = 30, IDLE_MS = 400, THREADS = 12 };

static struct test_shared {
    struct naru_semaphore_state state;
    struct naru_event_state events[2];
} * shared;

static struct naru_semaphore *semaphore;
static struct naru_event *events[2];
static bool is_refused;
static int turn; /* whose this process is */

static int has_ring(void)
{
    struct nr_uring ring;

    if (is_refused || nr_os_uring_init(&ring, true) < 0)
        return 0;
    nr_os_uring_deinit(&ring);
    return 1;
}

static int is_readable(int fd, int timeout_ms)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};

    return poll(&one, 1, timeout_ms);
}

/* Sleeps on it. The time may pass while this machine does something else; then it is lost what is there and not told. */
static void sleep_on(int fd, int (*is_there)(void))
{
    while (is_readable(fd, SOON_MS) != 1)
        child_check(!is_there() || is_readable(fd, SOON_MS) == 1);
}

static int has_permit(void)
{
    return naru_semaphore_value(semaphore) > 0;
}
static int has_turn(void)
{
    return naru_event_is_set(events[turn]);
}

static bool is_thread_sanitized(void)
{
    return getenv("NARU_SANITIZED") && strcmp(getenv("NARU_SANITIZED"), "thread") == 0;
}

/* The thread sanitizer has one of its own, sooner or later. */
static bool has_threads(int wanted)
{
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");

    while (tasks && readdir(tasks))
        count++;
    if (tasks)
        closedir(tasks);
    return count - 2 == wanted || is_thread_sanitized();
}

static void prepare(void)
{
    shared = nr_kit_shared(sizeof *shared);
    child_check(naru_semaphore_init(&shared->state, 0) == 0);
    child_check(naru_semaphore_attach(&semaphore, &shared->state) == 0);
    for (int i = 0; i < 2; i++) {
        child_check(naru_event_init(&shared->events[i]) == 0);
        child_check(naru_event_attach(&events[i], &shared->events[i]) == 0);
    }
}

/* -- the cases: each in a process of its own ------------------------------------------------ */

static void tells_of_posts(void)
{
    int fd = naru_semaphore_fd(semaphore);

    child_check(fd >= 0 && naru_semaphore_fd(semaphore) == fd);
    child_check(naru_semaphore_wait(semaphore, 0) == -EAGAIN);
    child_check(is_readable(fd, SILENT_MS) == 0);
    for (int round = 0; round < 3; round++) {
        child_check(naru_semaphore_post(semaphore) == 0);
        child_check(is_readable(fd, SOON_MS) == 1);
        child_check(naru_semaphore_post(semaphore) == 0);
        child_check(naru_semaphore_wait(semaphore, 0) == 0);
        child_check(is_readable(fd, 0) == 1); /* one is left */
        child_check(naru_semaphore_wait(semaphore, NARU_SECOND) == 0);
        child_check(naru_semaphore_wait(semaphore, round % 2 ? 0 : NARU_MILLISECOND) ==
                    (round % 2 ? -EAGAIN : -ETIMEDOUT));
        child_check(is_readable(fd, SILENT_MS) == 0);
    }
}

static void tells_of_an_event(void)
{
    int fd = naru_event_fd(events[0]);

    child_check(fd >= 0 && naru_event_fd(events[0]) == fd);
    for (int round = 0; round < 3; round++) {
        child_check(naru_event_wait(events[0], 0) == -EAGAIN);
        child_check(is_readable(fd, SILENT_MS) == 0);
        child_check(naru_event_set(events[0]) == 0);
        child_check(is_readable(fd, SOON_MS) == 1);
        child_check(naru_event_wait(events[0], 0) == 0);
        child_check(is_readable(fd, 0) == 1);
        child_check(naru_event_reset(events[0]) == 0);
    }
}

static void child_posts(void *every)
{
    for (int i = 0; i < POSTS; i++) {
        child_check(naru_semaphore_post(semaphore) == 0);
        if (i % (int)(intptr_t)every == 0)
            usleep(1);
    }
}

/* Whoever sleeps beside a count that is not 0 sleeps until the time is over. */
static void loses_nothing(void)
{
    struct epoll_event event = {.events = EPOLLIN};
    int fd = naru_semaphore_fd(semaphore), epoll = epoll_create1(0), sleeps = 0;
    pid_t pids[2];

    child_check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
    for (int i = 0; i < 2; i++)
        pids[i] = child_start(child_posts, (void *)(intptr_t)(i ? 3 : 100));
    for (int taken = 0; taken < 2 * POSTS;) {
        if (naru_semaphore_wait(semaphore, 0) == 0) {
            taken++;
            continue;
        }
        sleeps++;
        if (epoll_wait(epoll, &event, 1, SOON_MS) != 1)
            sleep_on(fd, has_permit);
    }
    for (int i = 0; i < 2; i++)
        child_check(child_end(pids[i]) == 0);
    child_check(sleeps > 100);
    child_check(naru_semaphore_wait(semaphore, 0) == -EAGAIN);
    child_check(is_readable(fd, SILENT_MS) == 0);
    close(epoll);
}

static void take_turns(int me)
{
    int fd = naru_event_fd(events[me]);

    turn = me;
    for (int i = 0; i < TURNS; i++) {
        while (naru_event_wait(events[me], 0) < 0)
            sleep_on(fd, has_turn);
        child_check(naru_event_reset(events[me]) == 0);
        child_check(naru_event_set(events[!me]) == 0);
    }
}

static void child_takes_turns(void *unused)
{
    (void)unused;
    take_turns(1);
}

static void wakes_in_turn(void)
{
    pid_t pid = child_start(child_takes_turns, NULL);

    child_check(naru_event_set(events[0]) == 0);
    take_turns(0);
    child_check(child_end(pid) == 0);
}

static void rests_while_nothing_happens(void)
{
    int fd = naru_semaphore_fd(semaphore);
    struct rusage before, after;

    child_check(naru_semaphore_wait(semaphore, 0) == -EAGAIN);
    child_check(is_readable(fd, SILENT_MS) == 0);
    bool is_alone = has_threads(1);
    getrusage(RUSAGE_SELF, &before);
    child_check(is_readable(fd, IDLE_MS) == 0);
    getrusage(RUSAGE_SELF, &after);
    /* The poll of this thread, and when the machine is kept from running us. */
    child_check(after.ru_nvcsw - before.ru_nvcsw <= 3 || getenv("NARU_SANITIZED"));
    child_check(is_alone || !has_ring());
}

/* Neither the parent's descriptor nor what it waits for is touched by what the child does. */
static void child_of_fork(void *fd_of_parent)
{
    int inherited = *(int *)fd_of_parent, fds = nr_kit_fds();

    child_check(naru_semaphore_wait(semaphore, 0) == 0);
    child_check(naru_semaphore_wait(semaphore, 0) == -EAGAIN);
    child_check(is_readable(inherited, 0) == 1);
    int fd = naru_semaphore_fd(semaphore);
    child_check(fd >= 0);
    child_check(naru_semaphore_wait(semaphore, 0) == -EAGAIN);
    child_check(is_readable(fd, SILENT_MS) == 0);
    child_check(naru_semaphore_post(semaphore) == 0);
    child_check(is_readable(fd, SOON_MS) == 1);
    naru_semaphore_close(semaphore);
    child_check(nr_kit_fds() < fds); /* nor has it anything of the parent's left */
}

static void forked_child_has_its_own(void)
{
    int fd = naru_semaphore_fd(semaphore);

    if (is_thread_sanitized())
        nr_kit_skip("the thread sanitizer does not follow a fork among threads");
    child_check(naru_semaphore_wait(semaphore, 0) == -EAGAIN);
    child_check(naru_semaphore_post(semaphore) == 0);
    child_check(is_readable(fd, SOON_MS) == 1);
    child_check(child_run(child_of_fork, &fd) == 0);
    child_check(is_readable(fd, SOON_MS) == 1);
    child_check(naru_semaphore_wait(semaphore, 0) == 0);
    child_check(naru_semaphore_wait(semaphore, 0) == -EAGAIN);
    child_check(is_readable(fd, SILENT_MS) == 0);
    child_check(naru_semaphore_post(semaphore) == 0);
    child_check(is_readable(fd, SOON_MS) == 1);
}

static void *arm_and_end(void *unused)
{
    child_check(naru_semaphore_wait(semaphore, 0) == -EAGAIN);
    return unused;
}

/* More threads than there may be rings, each of which ends when it has armed. */
static void threads_may_come_and_go(void)
{
    int fd = naru_semaphore_fd(semaphore);
    pthread_t thread;

    for (int i = 0; i < THREADS; i++) {
        child_check(pthread_create(&thread, NULL, arm_and_end, NULL) == 0);
        child_check(pthread_join(thread, NULL) == 0);
        if (i % 2)
            sleep_ms(5);
        child_check(naru_semaphore_post(semaphore) == 0);
        child_check(is_readable(fd, SOON_MS) == 1);
        child_check(naru_semaphore_wait(semaphore, 0) == 0);
    }
    child_check(naru_semaphore_wait(semaphore, 0) == -EAGAIN);
    child_check(is_readable(fd, SILENT_MS) == 0);
    child_check(has_threads(2)); /* there have been rings enough */
}

static void *take_all(void *taken)
{
    int fd = naru_semaphore_fd(semaphore);

    while (__atomic_load_n((int *)taken, __ATOMIC_RELAXED) < POSTS) {
        if (naru_semaphore_wait(semaphore, 0) == 0) {
            if (__atomic_add_fetch((int *)taken, 1, __ATOMIC_RELAXED) == POSTS)
                naru_semaphore_post(semaphore); /* the others are to see the end */
            continue;
        }
        sleep_on(fd, has_permit);
    }
    naru_semaphore_post(semaphore);
    return NULL;
}

static void threads_share_a_descriptor(void)
{
    pthread_t threads[3];
    int taken = 0;

    pid_t pid = child_start(child_posts, (void *)(intptr_t)2);
    for (int i = 0; i < 3; i++)
        child_check(pthread_create(&threads[i], NULL, take_all, &taken) == 0);
    for (int i = 0; i < 3; i++)
        child_check(pthread_join(threads[i], NULL) == 0);
    child_check(child_end(pid) == 0);
}

static void has_no_descriptor_left(void)
{
    struct rlimit limit = {0}, before;

    getrlimit(RLIMIT_NOFILE, &before);
    limit.rlim_max = before.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    child_check(naru_event_fd(events[0]) == -EMFILE);
    child_check(strstr(naru_error_text(), "ulimit"));
    child_check(naru_event_wait(events[0], 0) == -EAGAIN);
    setrlimit(RLIMIT_NOFILE, &before);
    int fd = naru_event_fd(events[0]);
    child_check(fd >= 0);
    setrlimit(RLIMIT_NOFILE, &limit); /* no ring: the thread */
    child_check(naru_event_wait(events[0], 0) == -EAGAIN);
    setrlimit(RLIMIT_NOFILE, &before);
    child_check(is_readable(fd, SILENT_MS) == 0);
    child_check(naru_event_set(events[0]) == 0);
    child_check(is_readable(fd, SOON_MS) == 1);
}

static void others_have_none(void)
{
    struct naru_owned_state *state = nr_kit_shared(sizeof *state);
    struct naru_semaphore *owned;

    child_check(naru_semaphore_init_owned(state, 1) == 0);
    child_check(naru_semaphore_attach_owned(&owned, state) == 0);
    child_check(naru_semaphore_fd(owned) == -EOPNOTSUPP);
    child_check(strstr(naru_error_text(), "event semaphore"));
    naru_semaphore_close(owned);
    child_check(naru_semaphore_fd(NULL) == -EINVAL);
    child_check(naru_event_fd(NULL) == -EINVAL);
}

/* -- with the ring, and without --------------------------------------------------------------- */

static void refuse_rings(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        nr_kit_skip("no seccomp filter can be installed here");
    is_refused = true;
}

static void run_with_ring(void *body)
{
    int fds = nr_kit_fds();

    prepare();
    ((void (*)(void))body)();
    naru_semaphore_close(semaphore);
    for (int i = 0; i < 2; i++)
        naru_event_close(events[i]);
    child_check(has_threads(1));
    child_check(nr_kit_fds() == fds);
}

static void run_without_ring(void *body)
{
    refuse_rings();
    run_with_ring(body);
}

static void run_both(void **state)
{
    static void (*const ways[])(void *body) = {run_with_ring, run_without_ring};

    for (int i = 0; i < 2; i++) {
        int status = nr_kit_run(ways[i], *state, 40);
        if (status == 77)
            skip();
        assert_int_equal(status, 0);
    }
}

#define both_ways(body)                                                                            \
    {                                                                                              \
        .name = #body, .test_func = run_both, .initial_state = (void *)(body)                      \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        both_ways(tells_of_posts),
        both_ways(tells_of_an_event),
        both_ways(loses_nothing),
        both_ways(wakes_in_turn),
        both_ways(rests_while_nothing_happens),
        both_ways(forked_child_has_its_own),
        both_ways(threads_may_come_and_go),
        both_ways(threads_share_a_descriptor),
        both_ways(has_no_descriptor_left),
        both_ways(others_have_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
