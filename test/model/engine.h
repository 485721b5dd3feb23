/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * engine -- what the parts of the checker share
 *
 * search.c    which choice is made next: depth first over snapshots, or at random
 * process.c   processes as coroutines: scheduling, death, sleep
 * memory.c    the C11 memory model: what each load may see, and data races
 * snapshot.c  the whole state: saved, restored, reduced to a hash
 * visited.c   the states that were searched already
 * tsan.c      the interface that -fsanitize=thread calls
 * report.c    names, the trace of an execution
 *
 * Views      What a process knows: for each atomic location the oldest store that it may still read, for each process the
 *            clock up to which its plain accesses happened before. A store carries a view; who acquires it joins it.
 *            After J. Kang et al., "A Promising Semantics", 2017, without promises; clocks as in FastTrack, 2009.
 */
#include "model.h"

enum {
    MODEL_LOCATIONS = 32,
    MODEL_HISTORY = 3, /* the newest store and the older ones that a load may see */
    MODEL_CELLS = 512, /* of four bytes, that were accessed plainly */
    MODEL_STACK_BYTES = 1 << 16,
    MODEL_OPTIONS = 8,
    MODEL_NOBODY = 255,
    MODEL_SLEEPS = 4, /* words that one sleeps on */
    MODEL_HOLDS = 8,
    MODEL_NOWHERE = UINT32_MAX,
};

struct model_view {
    uint8_t seen[MODEL_LOCATIONS];
    uint16_t clock[MODEL_PROCESSES];
};

struct model_store {
    uint64_t value;
    struct model_view view;
};

struct model_location {
    uint32_t count; /* stores so far, with the first value; 0: not touched yet */
    uint32_t reserved;
    struct model_store stores[MODEL_HISTORY]; /* store i is at i % MODEL_HISTORY */
};

struct model_cell {
    uint16_t write_clock;
    uint16_t writer;
    uint16_t read_clock[MODEL_PROCESSES];
};

/* A hash. */
struct model_key {
    uint64_t first, second;
};

enum model_status { MODEL_READY, MODEL_PAUSED, MODEL_ASLEEP, MODEL_FINISHED, MODEL_DEAD };

struct model_process {
    struct model_view now, acquired, released; /* acquired, released: for fences */
    struct model_view stored;                  /* `now` at its last store */
    struct model_key stack_key;
    char *sp;
    uint32_t sleeps_on[MODEL_SLEEPS]; /* offsets, or MODEL_NOWHERE */
    uint32_t aimed_at;                /* the same */
    uint8_t has_stack_key;            /* it is that of the stack as it is now */
    uint8_t status, is_started;
    uint8_t is_changed; /* by others, since it last began to wait */
    uint8_t is_stale;   /* it has read an older value since then */
    uint8_t has_news;   /* somebody died, and it has not looked since */
    uint8_t is_woken_by_death;
    uint8_t on_death_word;
    uint8_t is_patient; /* asleep, it does not look for deaths by itself */
    uint8_t is_writing; /* its last access was a plain write */
};

struct model_budget {
    uint8_t preemptions, stale_reads, crashes, reserved;
};

enum model_kind {
    MODEL_GO,
    MODEL_SWITCH,
    MODEL_CRASH,
    MODEL_READ,
    MODEL_NEXT,
    MODEL_RECHECK,
    MODEL_DEATH_WAKES,
    MODEL_WAKES_ONE
};

struct model_option {
    uint8_t kind, which;
};

/* The part of the state that is no memory of the protocol's. */
struct model_world {
    struct model_process processes[MODEL_PROCESSES];
    struct model_view fenced;                   /* by all seq_cst fences and stores */
    struct model_view repairs[MODEL_PROCESSES]; /* what who repaired that one knew */
    struct model_budget left;
    uint8_t current; /* MODEL_NOBODY: somebody is to be chosen */
    uint8_t repaired;
    uint8_t death_wakes; /* the death word has yet to wake one */
    uint8_t options_count;
    uint8_t chosen;
    struct model_option options[MODEL_OPTIONS];
    uint32_t wakes_count; /* words that the kernel has yet to wake one on */
    uint32_t wakes_on[MODEL_HOLDS];
    uint32_t steps, log_count;
};

extern struct model_world model_world;
extern struct model_location model_locations[MODEL_LOCATIONS];
extern struct model_cell model_cells[MODEL_CELLS];
extern unsigned model_locations_count, model_cells_count;
extern const struct model_scenario *model_scenario;
extern bool model_is_inside;  /* a process runs, not init or check */
extern bool model_has_fences; /* some process has executed one: views for fences count */

static inline struct model_process *model_me(void)
{
    return &model_world.processes[model_world.current];
}
static inline bool model_is_shared(const volatile void *place)
{
    return (uintptr_t)place - (uintptr_t)model_shared < MODEL_SHARED_BYTES;
}

/* -- process.c -- */

enum model_event { MODEL_CHOICE, MODEL_BLOCKED };

void model_processes_init(void);
enum model_event model_resume(void); /* model_world.current runs on */
bool model_is_enabled(unsigned process);
void model_changed(void); /* by the current one: others may go on */
void model_kill(void);    /* the current one */

/* Who can be chosen when nobody runs; 0: nobody can go on. */
unsigned model_options_next(struct model_option *ret);

/* Before an operation others can see: may be preempted, and if it changes memory killed. */
void model_point(bool is_change);
/* Before a plain write, or the end: may be killed. Of writes in a row only before the first. */
void model_point_write(bool is_first);
/* One of count values; 0 is the newest. */
unsigned model_choose_read(unsigned count);
const char *model_stack_base(unsigned process);

/* -- memory.c -- */

void model_memory_init(void);
uint64_t model_load(const volatile void *place, unsigned size, int order);
void model_store(volatile void *place, unsigned size, uint64_t value, int order);
bool model_compare_exchange(volatile void *place, unsigned size, uint64_t *expected, uint64_t value,
                            int order, int failure_order, bool is_weak);
uint64_t model_exchange(volatile void *place, unsigned size, uint64_t operand, int order,
                        uint64_t (*change)(uint64_t old, uint64_t operand));
void model_fence(int order);
void model_plain(const volatile void *place, size_t size, bool is_write);
void model_join(struct model_view *view, const struct model_view *other);
uint64_t model_newest(const volatile void *place, unsigned size);
/* By the kernel, in the current process's name. */
void model_store_by_kernel(volatile void *place, uint32_t value, int order);

/* -- snapshot.c -- */

size_t model_snapshot_bytes(void); /* at most */
size_t model_snapshot_save(char *place);
void model_snapshot_restore(const char *place);
/* The state without what is left of the budget; `sees_old`: loads may still see older values. */
struct model_key model_key_of_bytes(void);
struct model_key model_key_of_state(struct model_key bytes, bool sees_old);

/* -- visited.c -- */

void model_visited_init(struct model_budget bounds);
void model_visited_free(void);
/* 1: was searched already with at least that budget. 0: is new, and is noted. -1: no room. */
int model_visited_add(struct model_key key, struct model_budget left);
void model_visited_prefetch(struct model_key key);
uint64_t model_visited_count(void);

/* -- search.c -- */

struct model_result {
    bool has_failed;
    bool is_truncated;
    uint64_t executions, states;
    double seconds;
};
struct model_result model_search(const struct model_scenario *scenario);
struct model_result model_walk(const struct model_scenario *scenario, uint64_t seed,
                               double seconds);
const char *model_failure(void);
void model_fail_in_process(void); /* leaves the process for ever */

/* -- report.c -- */

enum model_log_kind {
    MODEL_LOG_LOAD,
    MODEL_LOG_STORE,
    MODEL_LOG_CAS,
    MODEL_LOG_CAS_FAILED,
    MODEL_LOG_RMW,
    MODEL_LOG_FENCE,
    MODEL_LOG_BARRIER,
    MODEL_LOG_SLEEP,
    MODEL_LOG_WAKE,
    MODEL_LOG_KILLED,
    MODEL_LOG_FINISHED,
    MODEL_LOG_PAUSE,
    MODEL_LOG_NOTE,
    MODEL_LOG_READ,
    MODEL_LOG_WRITE,
};
void model_log(enum model_log_kind kind, const volatile void *place, int order, uint64_t value,
               uint64_t other, const char *text);
void model_names_forget(void);
void model_name_of(const volatile void *place, char *ret, size_t size);
void model_trace_print(void);
