/* SPDX-License-Identifier: MIT */
/* watcher -- a thread in a system call is stopped at any moment, also when the call ends by itself */
#include "os/watcher.h"
#include "os/queue.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NR_WATCHER_TEST_ROUNDS = 300, NR_WATCHER_TEST_CANCEL = 32 /* glibc's SIGCANCEL */ };

static struct {
    int queue;
    long peeked_type;
    sem_t rounds; /* the sender sends once a round, some way into it */
    bool quits;
} watched;

static int nr_watcher_test_wait(void *context)
{
    (void)context;
    return nr_os_msg_peek(watched.queue, 0, &watched.peeked_type);
}

/* pthread_cancel() found the thread cancellable, and its signal comes when it is so no more. */
static int nr_watcher_test_cancel_late(void *context)
{
    (void)context;
    nr_os_thread_cancellable(true);
    nr_os_thread_cancellable(false);
    return (int)syscall(SYS_tgkill, getpid(), gettid(), NR_WATCHER_TEST_CANCEL);
}

static const struct nr_watcher_work nr_watcher_test_late_work = {
    .wait = nr_watcher_test_cancel_late};
static const struct nr_watcher_work nr_watcher_test_work = {.wait = nr_watcher_test_wait};

static void nr_watcher_test_linger(unsigned turns)
{
    for (volatile unsigned i = 0; i < turns; i++)
        ;
}

static void *nr_watcher_test_send(void *argument)
{
    static const struct {
        long type;
    } empty = {1};

    (void)argument;
    for (unsigned round = 1;; round++) {
        sem_wait(&watched.rounds);
        if (__atomic_load_n(&watched.quits, __ATOMIC_RELAXED))
            break;
        nr_watcher_test_linger(round * 7919 % 30000);
        assert_int_equal(msgsnd(watched.queue, &empty, 0, 0), 0);
    }
    return NULL;
}

/*
 * Each message is taken once: by the watcher, which says so, or by who stopped it. The thread must not end
 * where it holds a lock, nor lose what it took: either would hang this.
 */
static void nr_watcher_test_stop(void **state)
{
    struct nr_watcher watcher;
    pthread_t sender;

    (void)state;
    alarm(60);
    watched.queue = msgget(IPC_PRIVATE, 0600);
    assert_true(watched.queue >= 0);
    sem_init(&watched.rounds, 0, 0);
    nr_watcher_init(&watcher, &nr_watcher_test_work, NULL);
    assert_int_equal(pthread_create(&sender, NULL, nr_watcher_test_send, NULL), 0);
    for (unsigned i = 1; i <= NR_WATCHER_TEST_ROUNDS; i++) {
        struct pollfd fd = {.fd = nr_watcher_fd(&watcher), .events = POLLIN};
        struct {
            long type;
        } packet;
        watched.peeked_type = 0;
        assert_int_equal(nr_watcher_arm(&watcher), 0);
        sem_post(&watched.rounds);
        nr_watcher_test_linger(i * 104729 % 30000);
        if (i % 4 == 0)
            assert_int_equal(poll(&fd, 1, 10000), 1);
        nr_watcher_stop(&watcher);
        assert_int_equal(poll(&fd, 1, 10000), 1); /* not armed any more comes just before it fires */
        if (watched.peeked_type == 0)
            assert_int_equal(msgrcv(watched.queue, &packet, 0, 0, 0), 0);
        else
            assert_int_equal(watched.peeked_type, 1);
    }
    __atomic_store_n(&watched.quits, true, __ATOMIC_RELAXED);
    sem_post(&watched.rounds);
    pthread_join(sender, NULL);
    nr_watcher_deinit(&watcher);
    assert_int_equal(msgctl(watched.queue, IPC_RMID, NULL), 0);
}

static void nr_watcher_test_late(void **state)
{
    struct nr_watcher watcher;

    (void)state;
    alarm(20);
    nr_watcher_init(&watcher, &nr_watcher_test_late_work, NULL);
    struct pollfd fd = {.fd = nr_watcher_fd(&watcher), .events = POLLIN};
    assert_int_equal(nr_watcher_arm(&watcher), 0);
    assert_int_equal(poll(&fd, 1, 10000), 1); /* it went on, took its lock and told */
    assert_false(nr_watcher_is_armed(&watcher));
    nr_watcher_deinit(&watcher);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nr_watcher_test_stop),
        cmocka_unit_test(nr_watcher_test_late),
    };

    return cmocka_run_group_tests_name("watcher", tests, NULL, NULL);
}
