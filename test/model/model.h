/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * model -- runs a protocol of src/data in every way that the C11 memory model and death allow
 *
 * What       A scenario is a few processes over one piece of shared memory. The checker runs the unmodified sources,
 *            which are compiled with -fsanitize=thread: each atomic operation, plain access and copy calls it
 *            (tsan.c). It tries every interleaving, every older value that a load may still see, and a death
 *            before each change of memory, within the scenario's bounds.
 * Fails      when a process or the check after an execution fails; on a data race; when those who are left wait
 *            for ever, or go round for ever; when the search could not be finished.
 * Memory     Everything that a process may touch is in model_shared (watched: shared by the processes), in
 *            the scenario's `state` (not watched: private handles, the test's own book-keeping) or on its stack.
 * Not found  what needs a store to be overtaken by an earlier load (load buffering), or two stores to one location to
 *            take effect against the order in which they were executed (2+2W).
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MODEL_PROCESSES = 4, MODEL_SHARED_BYTES = 4096 };

struct model_scenario {
    const char *name;
    unsigned processes;
    void (*run[MODEL_PROCESSES])(unsigned me);
    void (*init)(void);  /* memory is zero before it */
    void (*check)(void); /* after each execution, alone */
    void *state;
    size_t state_bytes, shared_bytes;
    unsigned preemptions, stale_reads, crashes;
    unsigned may_crash; /* a bit for each process */
    unsigned symmetric; /* these run the same function: they are not permuted */
    const char
        *must_say;    /* a scenario that is wrong on purpose: the failure that has to be found */
    unsigned variant; /* model_variant() */
    bool is_deep;     /* too large to be searched: only walked through at random */
};

struct model_protocol {
    const char *name;
    const struct model_scenario *scenarios;
    unsigned scenarios_count;
};

extern char model_shared[MODEL_SHARED_BYTES];

unsigned model_variant(void);
unsigned model_processes(void);

/* Nothing can be done until another process changes something. */
void model_pause(void);

/* The kernel's word: once true, all that it did is visible here. Over: dead, or its function has returned; asked
   in the same moment as the operation before. */
bool model_is_dead(unsigned process);
bool model_is_over(unsigned process);

/* The same for the test's book-keeping: nobody learns anything by it. */
bool model_has_died(unsigned process);

/* Has each dead process repaired that nobody has finished yet. True: there was one. */
bool model_repair_dead(unsigned me, void (*repair)(unsigned me, unsigned dead));

/*
 * Sleeps while *word is `value`, until model_wake(word); on the death word as well: until a process dies, whose death
 * wakes one of those who sleep so. Each sleep ends after a while to look for deaths: here only if nobody else can do
 * anything, somebody has died, and the sleeper has neither looked since nor could be woken by it. True: it was a
 * death.
 */
bool model_sleep(const uint32_t *word, uint32_t value, bool on_death_word);
void model_wake(const uint32_t *word);

/*
 * What the kernel does with a robust list (os/robust.h). model_hold() names a word, in init: when process i dies and the
 * word's lowest 30 bits are i + 1, they become 0, its bit 30 is set, bit 31 stays, and if that is set one who sleeps there is
 * woken. model_aim(): when the calling process dies and the word has no owner then, one who sleeps on it is woken; NULL: no
 * word.
 */
void model_hold(const void *word);
void model_aim(const void *word);

/* Sleeps while each word has its value, until a wake of one of them. It does not look for deaths; `is_patient` false: it
   does after a while, as above. What it returns may be for nothing. */
void model_sleep_on(const uint32_t *const words[], const uint32_t values[], unsigned count,
                    bool is_patient);

/* A system call that changes the word and wakes all who sleep on it, in one step. */
void model_store_and_wake(uint32_t *word, uint32_t value);
void model_add_and_wake(uint32_t *word);
void model_clear_and_wake(uint32_t *word, uint32_t bits);

/* membarrier(2), for which all processes are registered. */
bool model_barrier(void);

/* For the trace: where memory is called what, and what a process found. */
__attribute__((format(printf, 3, 4))) void model_name(const volatile void *place, size_t size_bytes,
                                                      const char *format, ...);
void model_note(const char *what, uint64_t value);

__attribute__((noreturn, format(printf, 1, 2))) void model_fail(const char *format, ...);
#define model_assert(condition)                                                                    \
    do {                                                                                           \
        if (!(condition))                                                                          \
            model_fail("%s:%d: %s", __FILE_NAME__, __LINE__, #condition);                          \
    } while (0)
