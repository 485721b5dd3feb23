/* SPDX-License-Identifier: MIT */
#pragma once
/* child -- a piece of a test in a process of its own; include behind cmocka.h */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* In the child a failed check ends the process with the line's number, 1 to 255. */
#define child_check(condition)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "# child: %s:%d: %s\n", __FILE__, __LINE__, #condition);               \
            _exit(__LINE__ % 255 + 1);                                                             \
        }                                                                                          \
    } while (0)

static inline pid_t child_start(void (*run)(void *context), void *context)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        alarm(30);
        run(context);
        _exit(0);
    }
    return pid;
}

/* What waitpid() says: 0 when all its checks held. */
static inline int child_end(pid_t pid)
{
    int status = -1;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static inline int child_run(void (*run)(void *context), void *context)
{
    return child_end(child_start(run, context));
}

static inline void sleep_ms(int milliseconds)
{
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000L};

    nanosleep(&time, NULL);
}

static inline int64_t clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

#define assert_text_has(words)                                                                     \
    do {                                                                                           \
        if (!strstr(naru_error_text(), (words)))                                                   \
            fail_msg("\"%s\" has no \"%s\"", naru_error_text(), (words));                          \
    } while (0)
