/* SPDX-License-Identifier: MIT */
/*
 * The search: depth first. At each choice the state is looked up (visited.c); a new one is saved, and each option is
 * tried from the saved state. No choice is left out, so a search that ends has seen every execution within the
 * bounds. A walk instead chooses at random, for what is too large to be searched.
 *
 * Going round   When a state comes back that is still being searched, with the same budget, and everybody who can
 *               run has run since, they can go on like that for ever.
 */
#include "engine.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { MODEL_FRAMES_MOST = 1 << 14 };
#define MODEL_FRAMES_BYTES ((size_t)1 << 30)

struct model_frame {
    size_t snapshot;
    struct model_key key;
    struct model_budget left;
    uint8_t next, count, ran;
    struct model_option options[MODEL_OPTIONS];
};

enum model_end { MODEL_END_WHOLE, MODEL_END_KNOWN, MODEL_END_FAILED, MODEL_END_TRUNCATED };

const struct model_scenario *model_scenario;
_Alignas(64) char model_shared[MODEL_SHARED_BYTES];

static struct model_frame model_frames[MODEL_FRAMES_MOST];
static unsigned model_depth;
static char *model_frames_memory;
static size_t model_frames_used;
static uint8_t model_ran; /* since the last frame */
static char model_failure_text[512];
static jmp_buf model_failure_jump;
static bool model_has_failed;

/* A walk's source of chance; 0: a search. */
static uint64_t model_chance;

unsigned model_variant(void)
{
    return model_scenario->variant;
}

unsigned model_processes(void)
{
    return model_scenario->processes;
}

const char *model_failure(void)
{
    return model_failure_text;
}

void model_fail(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(model_failure_text, sizeof model_failure_text, format, arguments);
    va_end(arguments);
    model_has_failed = true;
    if (model_is_inside)
        model_fail_in_process();
    longjmp(model_failure_jump, 1);
}

static uint64_t model_random(void)
{
    model_chance ^= model_chance << 13;
    model_chance ^= model_chance >> 7;
    model_chance ^= model_chance << 17;
    return model_chance >> 11;
}

/* -- taking an option ------------------------------------------------------------------------- */

static void model_take(struct model_option option, unsigned index)
{
    model_world.chosen = (uint8_t)index;
    switch (option.kind) {
    case MODEL_SWITCH:
        model_world.left.preemptions--;
        model_world.current = option.which;
        break;
    case MODEL_CRASH:
        model_world.left.crashes--;
        model_kill();
        break;
    case MODEL_READ:
        model_world.left.stale_reads -= index > 0;
        break;
    case MODEL_NEXT:
        model_world.current = option.which;
        break;
    case MODEL_DEATH_WAKES:
        model_world.death_wakes = false;
        model_world.processes[option.which].status = MODEL_READY;
        model_world.processes[option.which].is_woken_by_death = true;
        break;
    case MODEL_WAKES_ONE:
        model_world.wakes_count--;
        model_world.processes[option.which].status = MODEL_READY;
        break;
    case MODEL_RECHECK:
        model_world.processes[option.which].has_news = false;
        model_world.processes[option.which].is_woken_by_death = true;
        model_world.current = option.which;
        break;
    }
}

/* Runs on until there is a choice (its number of options) or nobody can go on (0). */
static unsigned model_run(struct model_option *ret)
{
    for (;;) {
        unsigned count;
        if (model_world.current == MODEL_NOBODY) {
            count = model_options_next(ret);
        } else {
            model_ran |= (uint8_t)(1 << model_world.current);
            enum model_event event = model_resume();
            if (model_has_failed)
                return 0;
            if (event == MODEL_BLOCKED) {
                model_world.current = MODEL_NOBODY;
                continue;
            }
            count = model_world.options_count;
            memcpy(ret, model_world.options, sizeof model_world.options);
        }
        if (count != 1)
            return count;
        model_take(ret[0], 0);
    }
}

static enum model_end model_finish(void)
{
    if (model_has_failed)
        return MODEL_END_FAILED;
    for (unsigned i = 0; i < model_scenario->processes; i++)
        if (model_world.processes[i].status < MODEL_FINISHED) {
            snprintf(model_failure_text, sizeof model_failure_text,
                     "process %u waits for ever%s: nobody is left to do anything", i,
                     model_world.processes[i].status == MODEL_ASLEEP ? ", asleep" : "");
            model_has_failed = true;
            return MODEL_END_FAILED;
        }
    if (model_scenario->check && !setjmp(model_failure_jump))
        model_scenario->check();
    return model_has_failed ? MODEL_END_FAILED : MODEL_END_WHOLE;
}

/* -- depth first ------------------------------------------------------------------------------ */

static bool model_goes_round(struct model_key key)
{
    uint8_t ran = model_ran;

    for (unsigned i = model_depth; i-- > 0;) {
        const struct model_frame *frame = &model_frames[i];
        if (frame->key.first == key.first && frame->key.second == key.second) {
            if (memcmp(&frame->left, &model_world.left, sizeof frame->left) != 0)
                return false;
            for (unsigned p = 0; p < model_scenario->processes; p++)
                if (model_is_enabled(p) && !(ran >> p & 1))
                    return false;
            return true;
        }
        ran |= frame->ran;
    }
    return false;
}

/* 1: new; 0: known; -1: no room. */
static int model_look_up(struct model_key *ret)
{
    struct model_budget none_stale = model_world.left;
    int result;
    struct model_key bytes = model_key_of_bytes(), none = {0, 0};

    none_stale.stale_reads = 0;
    *ret = model_key_of_state(bytes, model_world.left.stale_reads > 0);
    model_visited_prefetch(*ret);
    if (model_world.left.stale_reads) {
        none = model_key_of_state(bytes, false);
        model_visited_prefetch(none);
    }
    result = model_visited_add(*ret, model_world.left);
    if (result == 0 && model_world.left.stale_reads && model_visited_add(none, none_stale) < 0)
        result = -1;
    return result < 0 ? -1 : !result;
}

/* Goes down from the present state until the execution ends. */
static enum model_end model_descend(void)
{
    struct model_option options[MODEL_OPTIONS];

    for (;;) {
        unsigned count = model_run(options);
        if (count == 0)
            return model_finish();
        struct model_key key;
        int is_new = model_look_up(&key);
        if (is_new == 0 && model_goes_round(key)) {
            snprintf(model_failure_text, sizeof model_failure_text,
                     "they go round for ever: a state comes back, and nobody else can run");
            model_has_failed = true;
            return MODEL_END_FAILED;
        }
        if (is_new == 0)
            return MODEL_END_KNOWN;
        if (is_new < 0 || model_depth == MODEL_FRAMES_MOST ||
            model_frames_used + model_snapshot_bytes() > MODEL_FRAMES_BYTES)
            return MODEL_END_TRUNCATED;
        struct model_frame *frame = &model_frames[model_depth++];
        *frame = (struct model_frame){.snapshot = model_frames_used,
                                      .key = key,
                                      .left = model_world.left,
                                      .next = 1,
                                      .count = (uint8_t)count,
                                      .ran = model_ran};
        memcpy(frame->options, options, sizeof options);
        model_frames_used += model_snapshot_save(model_frames_memory + model_frames_used);
        model_ran = 0;
        model_take(options[0], 0);
    }
}

/* Goes back to the last choice with an option that was not tried, and takes it. False: there is none. */
static bool model_ascend(void)
{
    while (model_depth && model_frames[model_depth - 1].next == model_frames[model_depth - 1].count)
        model_frames_used = model_frames[--model_depth].snapshot;
    if (!model_depth)
        return false;
    struct model_frame *frame = &model_frames[model_depth - 1];
    model_snapshot_restore(model_frames_memory + frame->snapshot);
    model_ran = 0;
    unsigned option = frame->next++;
    model_take(frame->options[option], option);
    return true;
}

/* The beginning: memory zero, then init. False: init failed. */
static bool model_begin(const struct model_scenario *scenario)
{
    model_scenario = scenario;
    model_has_failed = false;
    model_depth = 0;
    model_frames_used = 0;
    model_ran = 0;
    model_names_forget();
    model_memory_init();
    memset(model_shared, 0, sizeof model_shared);
    memset(scenario->state, 0, scenario->state_bytes);
    model_processes_init();
    model_world.left =
        (struct model_budget){(uint8_t)scenario->preemptions, (uint8_t)scenario->stale_reads,
                              (uint8_t)scenario->crashes, 0};
    if (setjmp(model_failure_jump))
        return false;
    scenario->init();
    return true;
}

static double model_now(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static struct model_result model_search_once(const struct model_scenario *scenario)
{
    struct model_result result = {0};
    double begin = model_now(CLOCK_PROCESS_CPUTIME_ID);
    bool had_fences = model_has_fences;

    if (!model_frames_memory)
        model_frames_memory = mmap(NULL, MODEL_FRAMES_BYTES, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (model_frames_memory == MAP_FAILED)
        abort();
    model_chance = 0;
    bool is_going = model_begin(scenario);
    model_visited_init(model_world.left);
    result.has_failed = !is_going;
    while (is_going) {
        enum model_end end = model_descend();
        result.executions++;
        result.has_failed = end == MODEL_END_FAILED;
        result.is_truncated = end == MODEL_END_TRUNCATED;
        is_going = !result.has_failed && !result.is_truncated && had_fences == model_has_fences &&
                   model_ascend();
    }
    result.states = model_visited_count();
    result.seconds = model_now(CLOCK_PROCESS_CPUTIME_ID) - begin;
    model_visited_free();
    return result;
}

struct model_result model_search(const struct model_scenario *scenario)
{
    struct model_result result;
    bool had_fences;

    model_has_fences = false;
    do { /* once more with all of the state, if a fence was met on the way */
        had_fences = model_has_fences;
        result = model_search_once(scenario);
    } while (had_fences != model_has_fences && !result.has_failed);
    return result;
}

/* -- at random -------------------------------------------------------------------------------- */

/* Mostly goes on; spends its budget somewhere on the way. */
static unsigned model_draw(const struct model_option *options, unsigned count)
{
    if (options[0].kind == MODEL_NEXT || options[0].kind == MODEL_RECHECK ||
        options[0].kind == MODEL_DEATH_WAKES || options[0].kind == MODEL_WAKES_ONE)
        return (unsigned)(model_random() % count);
    if (model_random() % 12)
        return 0;
    return (unsigned)(model_random() % count);
}

struct model_result model_walk(const struct model_scenario *scenario, uint64_t seed, double seconds)
{
    struct model_result result = {0};
    double begin = model_now(CLOCK_MONOTONIC);
    size_t most = 0;
    char *start = NULL;

    model_chance = seed * 0x9e3779b97f4a7c15ull + 1;
    if (!model_begin(scenario)) {
        result.has_failed = true;
        return result;
    }
    most = model_snapshot_bytes();
    start = malloc(most);
    if (!start)
        abort();
    model_snapshot_save(start);
    do {
        struct model_option options[MODEL_OPTIONS];
        unsigned count;
        model_snapshot_restore(start);
        while ((count = model_run(options)) != 0) {
            unsigned choice = model_draw(options, count);
            model_take(options[choice], choice);
        }
        result.executions++;
        result.has_failed = model_finish() == MODEL_END_FAILED;
    } while (!result.has_failed &&
             (result.executions % 64 || model_now(CLOCK_MONOTONIC) - begin < seconds));
    result.seconds = model_now(CLOCK_MONOTONIC) - begin;
    free(start);
    return result;
}
