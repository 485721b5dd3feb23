/* SPDX-License-Identifier: MIT */
#include "os/thread.h"
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    NR_THREAD_STACK_BYTES = 256 * 1024, /* address space; a page or two is touched */
    NR_THREAD_CANCEL_SIGNAL = 32,       /* glibc's SIGCANCEL, which no header names */
};

int nr_os_thread_start(struct nr_thread *thread, const char *name, void *(*run)(void *),
                       void *context)
{
    pthread_attr_t attributes;
    sigset_t all, before;

    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, NR_THREAD_STACK_BYTES);
    /* The new thread inherits the mask, so there is no moment in which it could take a signal. */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread->handle, &attributes, run, context);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (error)
        return -error;
    thread->is_running = true;
    pthread_setname_np(thread->handle, name);
    return 0;
}

uint64_t nr_os_thread_token(void)
{
    static uint64_t latest;
    static _Thread_local uint64_t token;

    if (!token)
        token = __atomic_add_fetch(&latest, 1, __ATOMIC_RELAXED);
    return token;
}

void nr_os_thread_join(struct nr_thread *thread)
{
    if (thread->is_running)
        pthread_join(thread->handle, NULL);
    thread->is_running = false;
}

void nr_os_thread_cancel_signal(bool passes)
{
    static const uint64_t set = UINT64_C(1) << (NR_THREAD_CANCEL_SIGNAL - 1);

    syscall(SYS_rt_sigprocmask, passes ? SIG_UNBLOCK : SIG_BLOCK, &set, NULL, sizeof set);
}

void nr_os_thread_cancel(struct nr_thread *thread)
{
    if (thread->is_running)
        pthread_cancel(thread->handle);
}

void nr_condition_wait(struct nr_condition *condition, struct nr_lock *lock)
{
    pthread_cond_wait(&condition->condition, &lock->mutex);
}

void nr_condition_wait_ms(struct nr_condition *condition, struct nr_lock *lock, int milliseconds)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += milliseconds * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_clockwait(&condition->condition, &lock->mutex, CLOCK_MONOTONIC, &until);
}

void nr_condition_wake(struct nr_condition *condition)
{
    pthread_cond_broadcast(&condition->condition);
}
