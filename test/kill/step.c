/* SPDX-License-Identifier: MIT */
/*
 * Contents   without calls - the trap - choosing what is done - points
 *
 * The handler may run while a breakpoint stands in any function of the library or of libc. So it calls none while
 * it is to die: its system calls are made in place. (A film sets no breakpoint: there it may.)
 */
#include "step.h"
#include "kit.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum nr_step_mode { NR_STEP_OFF, NR_STEP_RECORD, NR_STEP_DIE, NR_STEP_COUNT, NR_STEP_FILM };

static struct {
    enum nr_step_mode mode;
    bool is_on;
    long pid;
    struct nr_step_path *path;
    struct nr_step_film *film;
    struct nr_step_death *death;
    unsigned char *breakpoint; /* in this process's own copy of the code */
    unsigned char its_byte;
    bool is_planted;
    uint32_t left; /* passes of the breakpoint, or instructions, until death */
} nr_step;

#if defined(__x86_64__)

enum { NR_STEP_INT3 = 0xcc, NR_STEP_TRAP_FLAG = 0x100 };

/* No loop becomes a call of memset(3) or memcpy(3). */
#ifdef __clang__
#define NR_STEP_PLAIN __attribute__((no_sanitize("address", "undefined"), no_builtin))
#else
#define NR_STEP_PLAIN                                                                              \
    __attribute__((no_sanitize("address", "undefined"),                                            \
                   optimize("no-tree-loop-distribute-patterns")))
#endif

/* -- without calls ---------------------------------------------------------------------------- */

NR_STEP_PLAIN static inline long nr_step_call(long number, long a, long b, long c)
{
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
    return result;
}

NR_STEP_PLAIN void nr_step_kill(void)
{
    long pid = nr_step.pid ? nr_step.pid : nr_step_call(SYS_getpid, 0, 0, 0);

    for (;;)
        nr_step_call(SYS_kill, pid, SIGKILL, 0);
}

NR_STEP_PLAIN static void nr_step_die_here(void)
{
    struct timespec now;

    nr_step_call(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&now, 0);
    nr_step.death->at_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    nr_step.death->is_reached = 1;
    if (!nr_step.death->stops)
        nr_step_kill();
    nr_step_call(SYS_kill, nr_step.pid, SIGSTOP, 0);
    nr_step.mode = NR_STEP_OFF;
}

/* -- the trap --------------------------------------------------------------------------------- */

NR_STEP_PLAIN static void nr_step_plant(bool is_planted)
{
    *(volatile unsigned char *)nr_step.breakpoint = is_planted ? NR_STEP_INT3 : nr_step.its_byte;
    nr_step.is_planted = is_planted;
}

/* The process stands before the breakpoint's instruction, and then is to be stepped over it. */
NR_STEP_PLAIN static void nr_step_pass(void)
{
    if (nr_step.left-- == 0)
        nr_step_die_here();
    nr_step_plant(false);
}

static void nr_step_look(struct nr_step_film *film, bool always)
{
    unsigned char *last = film->frames + (size_t)film->frames_count * film->size_bytes;

    if (!always && memcmp(last - film->size_bytes, film->memory, film->size_bytes) == 0)
        return;
    if (film->frames_count == film->frames_most) {
        film->has_overflown = 1;
        return;
    }
    memcpy(last, film->memory, film->size_bytes);
    film->point[film->frames_count++] = nr_step.left;
}

/* A system call takes the instruction behind it into its step: here it is one by itself again. */
NR_STEP_PLAIN static void nr_step_note(struct nr_step_path *path, uintptr_t at)
{
    const unsigned char *last = (const unsigned char *)path->at[path->count - 1]; // NOLINT
    uintptr_t behind = (uintptr_t)last + 2;

    if (path->count + 2 > NR_STEP_PATH_MOST)
        return;
    if (last[0] == 0x0f && last[1] == 0x05 && at != behind)
        path->at[path->count++] = behind;
    path->at[path->count++] = at;
}

/* Before the first instruction. True: single steps from here on. */
NR_STEP_PLAIN static bool nr_step_first(uintptr_t at)
{
    nr_step.is_on = true;
    switch (nr_step.mode) {
    case NR_STEP_RECORD:
        nr_step.path->at[nr_step.path->count++] = at;
        return true;
    case NR_STEP_COUNT:
        if (nr_step.left-- == 0)
            nr_step_die_here();
        return true;
    case NR_STEP_FILM:
        nr_step.left = 0;
        nr_step_look(nr_step.film, true);
        return true;
    case NR_STEP_DIE:
        if (at == (uintptr_t)nr_step.breakpoint) {
            nr_step_pass();
            return true;
        }
        nr_step_plant(true);
        return false;
    case NR_STEP_OFF:
        break;
    }
    return false;
}

/* After a single step. True: another one. */
NR_STEP_PLAIN static bool nr_step_next(uintptr_t at)
{
    switch (nr_step.mode) {
    case NR_STEP_RECORD:
        nr_step_note(nr_step.path, at);
        return true;
    case NR_STEP_COUNT:
        if (nr_step.left-- == 0)
            nr_step_die_here();
        return true;
    case NR_STEP_FILM:
        nr_step.left++;
        nr_step.film->instructions++;
        nr_step_look(nr_step.film, false);
        return true;
    case NR_STEP_DIE:
        if (at == (uintptr_t)nr_step.breakpoint) { /* the next turn of a string instruction */
            nr_step_pass();
            return true;
        }
        nr_step_plant(true);
        return false;
    case NR_STEP_OFF:
        break;
    }
    return false;
}

NR_STEP_PLAIN static void nr_step_trapped(int number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    uintptr_t at = (uintptr_t)registers[REG_RIP];
    bool goes_on;

    (void)number;
    if (info->si_code == TRAP_TRACE) {
        goes_on = nr_step_next(at);
    } else if (!nr_step.is_on) {
        goes_on = nr_step_first(at);
    } else if (nr_step.is_planted && at - 1 == (uintptr_t)nr_step.breakpoint) {
        registers[REG_RIP]--;
        nr_step_pass();
        goes_on = true;
    } else { /* nr_step_end() */
        nr_step.is_on = false;
        goes_on = false;
    }
    if (goes_on)
        registers[REG_EFL] |= NR_STEP_TRAP_FLAG;
    else
        registers[REG_EFL] &= ~(greg_t)NR_STEP_TRAP_FLAG;
}

__attribute__((noinline)) void nr_step_begin(void)
{
    __asm__ volatile("int3" ::: "memory");
}

__attribute__((noinline)) void nr_step_end(void)
{
    __asm__ volatile("int3" ::: "memory");
    if (nr_step.path)
        nr_step.path->is_over = 1;
    if (nr_step.is_planted)
        nr_step_plant(false);
}

#else /* another processor: nr_step_refusal() says so, and nobody gets here */

void nr_step_kill(void)
{
    for (;;)
        kill(getpid(), SIGKILL);
}
void nr_step_begin(void)
{
}
void nr_step_end(void)
{
}
static void nr_step_trapped(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info, (void)context;
}

#endif

/* -- choosing what is done --------------------------------------------------------------------- */

const char *nr_step_refusal(void)
{
    const char *sanitizers = getenv("NARU_SANITIZED");

#if !defined(__x86_64__)
    return "single steps are written for x86-64";
#endif
    if (nr_kit_is_valgrind())
        return "valgrind runs another code than the one that would be stepped";
    /* Its instrumentation makes tens of thousands of instructions of each operation, it puts handlers off, and
       it looks for races of threads, of which a process that is single-stepped has none. */
    if (sanitizers && strstr(sanitizers, "thread"))
        return "under the thread sanitizer stepping takes too long";
    return NULL;
}

void nr_step_expect(void)
{
    __libc_single_threaded = 0; /* guards are for one thread */
}

static void nr_step_choose(enum nr_step_mode mode)
{
    struct sigaction action = {.sa_sigaction = nr_step_trapped, .sa_flags = SA_SIGINFO};

    nr_step_expect();
    nr_step.mode = mode;
    nr_step.pid = getpid();
    nr_step.path = NULL;
    nr_check(sigaction(SIGTRAP, &action, NULL) == 0, "sigaction");
}

void nr_step_record(struct nr_step_path *path)
{
    nr_step_choose(NR_STEP_RECORD);
    path->count = path->is_over = 0;
    nr_step.path = path;
}

void nr_step_count(uint32_t instructions, struct nr_step_death *death)
{
    nr_step_choose(NR_STEP_COUNT);
    nr_step.left = instructions;
    nr_step.death = death;
}

void nr_step_film(struct nr_step_film *film)
{
    nr_step_choose(NR_STEP_FILM);
    nr_step.film = film;
}

void nr_step_die(const struct nr_step_path *path, uint32_t point, struct nr_step_death *death)
{
    uintptr_t at = path->at[point], page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    void *page = (void *)(at & ~(page_bytes - 1)); // NOLINT: code has addresses

    nr_step_count(point, death);
    if (mprotect(page, page_bytes, PROT_READ | PROT_WRITE | PROT_EXEC) < 0)
        return; /* the code can't be changed here: by single steps, then */
    nr_step.mode = NR_STEP_DIE;
    nr_step.breakpoint = (unsigned char *)at; // NOLINT
    nr_step.its_byte = *nr_step.breakpoint;
    nr_step.left = 0;
    for (uint32_t i = 0; i < point; i++)
        nr_step.left += path->at[i] == at;
}

/* -- points ------------------------------------------------------------------------------------ */

enum { NR_STEP_FIRST_PASSES = 4, NR_STEP_LAST_PASSES = 2 };

static const struct nr_step_path *nr_step_sorted_path;

static int nr_step_by_address(const void *a, const void *b)
{
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    uintptr_t x = nr_step_sorted_path->at[i], y = nr_step_sorted_path->at[j];

    return x != y ? (x > y) - (x < y) : (i > j) - (i < j);
}

static int nr_step_by_number(const void *a, const void *b)
{
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;

    return (i > j) - (i < j);
}

uint32_t nr_step_points(const struct nr_step_path *path, uint32_t **ret)
{
    uint32_t *points = calloc(path->count, sizeof *points), kept = 0;

    nr_check(points, "no memory");
    for (uint32_t i = 0; i < path->count; i++)
        points[i] = i;
    nr_step_sorted_path = path;
    qsort(points, path->count, sizeof *points, nr_step_by_address);
    for (uint32_t i = 0, end; i < path->count; i = end) {
        uintptr_t at = path->at[points[i]];
        for (end = i; end < path->count && path->at[points[end]] == at;)
            end++;
        for (uint32_t k = i; k < end; k++)
            if (k - i < NR_STEP_FIRST_PASSES || end - k <= NR_STEP_LAST_PASSES)
                points[kept++] = points[k];
    }
    qsort(points, kept, sizeof *points, nr_step_by_number);
    *ret = points;
    return kept;
}
