/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * kit -- checks that work in any process, processes that can't outlive the test, and messages that show
 *        whether they are whole
 *
 * What       cmocka's asserts jump out of the test, which is right in the test program's own process alone.
 *            The checks here also work in a process forked by a test: it says what is wrong and exits 1,
 *            and nr_kit_join() carries that on to the parent.
 * Bounds     nr_kit_run() gives a test a process group of its own and kills all of it at the time limit.
 *            Every child dies with its parent.
 */
#include <naru/endpoint.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* -- checks -------------------------------------------------------------------------------- */

_Noreturn void nr_kit_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* nr_check(a == b, "%d and %d", a, b): the words say what was found instead. */
#define nr_check(condition, ...)                                                                   \
    do {                                                                                           \
        if (!(condition))                                                                          \
            nr_kit_fail(__FILE__, __LINE__, "not so: " #condition ": " __VA_ARGS__);               \
    } while (0)

/* The call succeeds; its value. */
#define nr_check_ok(call) nr_kit_check_ok(__FILE__, __LINE__, #call, (call))
long nr_kit_check_ok(const char *file, int line, const char *call, long result);

/* The call gives just this, and a negative one comes with a text that has each of the words "a|b|c". */
#define nr_check_fails(call, expected, words)                                                      \
    nr_kit_check_fails(__FILE__, __LINE__, #call, (call), (expected), (words))
void nr_kit_check_fails(const char *file, int line, const char *call, long result, int expected,
                        const char *words);

/* -- time ---------------------------------------------------------------------------------- */

int64_t nr_kit_now_ns(void);
void nr_kit_sleep_ms(int milliseconds);

/* 1; more under sanitizers and valgrind. */
int nr_kit_slowness(void);
bool nr_kit_is_valgrind(void);

/* Is there pidfd_open(2)? Not in valgrind 3.19. Says SKIP otherwise. */
bool nr_kit_has_pidfds(void);

/* Long enough for whatever is bound to happen. */
#define NR_SOON (8 * NARU_SECOND * nr_kit_slowness())

/* -- processes ----------------------------------------------------------------------------- */

/* Runs body(argument) in a process of its own, at most `seconds`. 0: it went well; 77: it skipped, and has
   printed "SKIP: why"; else it has printed what was wrong. */
int nr_kit_run(void (*body)(void *argument), void *argument, int seconds);
_Noreturn void nr_kit_skip(const char *why);

/* fork(2); the child dies when the parent does. */
pid_t nr_kit_fork(void);
void nr_kit_join(pid_t pid); /* it must have exited with 0 */
void nr_kit_kill(pid_t pid); /* SIGKILL, and waits for it */
int nr_kit_fds(void);        /* open descriptors of this process */

/* Zeroed memory shared with children. */
void *nr_kit_shared(size_t size_bytes);
#define nr_kit_get(place)        __atomic_load_n((place), __ATOMIC_SEQ_CST)
#define nr_kit_set(place, value) __atomic_store_n((place), (value), __ATOMIC_SEQ_CST)
#define nr_kit_add(place, value) __atomic_add_fetch((place), (value), __ATOMIC_SEQ_CST)
void nr_kit_await(const int *place, int at_least); /* until *place >= at_least */

/* A directory /tmp/naru-XXXXXX for this run, made on first use, and its removal with all that is in it. */
const char *nr_kit_directory(void);
void nr_kit_directory_remove(void);

/* -- messages ------------------------------------------------------------------------------ */

enum { NR_PAYLOAD_ROOM_BYTES = (1 << 20) + 4096 };

/* A message that tells who sent it and the how-many-eth it is (from 8 bytes on), and whether it is whole. */
void nr_payload_fill(void *data, size_t size_bytes, unsigned sender, unsigned index);
bool nr_payload_is_whole(const void *data, size_t size_bytes, unsigned sender, unsigned index);

/* The same for a message that is to say who it is. */
struct nr_payload_stamp {
    unsigned index, sender;
};
bool nr_payload_read(const void *data, size_t size_bytes, struct nr_payload_stamp *ret);
