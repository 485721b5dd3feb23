/* SPDX-License-Identifier: MIT */
/*
 * Processes are coroutines on their own stacks. One runs until it reaches a choice, waits, ends or is killed; then
 * the search (search.c) goes on. An operation that leaves no choice is done at once.
 *
 * Killed     only before an operation that changes memory: a death before a load has the same effects as one
 *            before the change that follows, except that the survivors learn less. So they learn what the dead one
 *            knew at its last change.
 */
#include "engine.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct model_world model_world;
bool model_is_inside;

static uint32_t model_holds[MODEL_HOLDS];
static unsigned model_holds_count;

static char *model_stacks;
static char *model_search_sp;
static enum model_event model_last_event;

/* Saves what a call preserves, and goes on where `to` was saved. */
void model_switch(char **from, char *to);
__asm__(".text\n"
        ".type model_switch, @function\n"
        "model_switch:\n"
        "    push %rbp\n    push %rbx\n    push %r12\n    push %r13\n    push %r14\n    push %r15\n"
        "    mov %rsp, (%rdi)\n"
        "    mov %rsi, %rsp\n"
        "    pop %r15\n    pop %r14\n    pop %r13\n    pop %r12\n    pop %rbx\n    pop %rbp\n"
        "    ret\n"
        ".size model_switch, . - model_switch\n");

const char *model_stack_base(unsigned process)
{
    return model_stacks + (process + 1) * MODEL_STACK_BYTES;
}

static void model_leave(enum model_event event)
{
    model_last_event = event;
    model_switch(&model_me()->sp, model_search_sp);
}

void model_fail_in_process(void)
{
    model_leave(MODEL_BLOCKED);
    abort(); /* it is never resumed */
}

void model_processes_init(void)
{
    if (!model_stacks)
        model_stacks = mmap(NULL, (size_t)MODEL_PROCESSES * MODEL_STACK_BYTES,
                            PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (model_stacks == MAP_FAILED)
        abort();
    memset(model_stacks, 0, (size_t)MODEL_PROCESSES * MODEL_STACK_BYTES); /* of the last search */
    memset(&model_world, 0, sizeof model_world);
    model_holds_count = 0;
    model_world.current = MODEL_NOBODY;
    for (unsigned i = 0; i < MODEL_PROCESSES; i++) {
        model_world.processes[i].now.clock[i] = 1;
        model_world.processes[i].aimed_at = MODEL_NOWHERE;
        if (i >= model_scenario->processes)
            model_world.processes[i].status = MODEL_FINISHED;
    }
}

static void model_main(void)
{
    model_scenario->run[model_world.current](model_world.current);
    model_point_write(true);
    model_me()->status = MODEL_FINISHED;
    model_changed();
    model_log(MODEL_LOG_FINISHED, NULL, 0, 0, 0, NULL);
    model_leave(MODEL_BLOCKED);
    abort();
}

static void model_start(struct model_process *process)
{
    char **top = (char **)(void *)(uintptr_t)model_stack_base(model_world.current) - 1;

    *top = NULL; /* where a caller would be */
    *--top = (char *)(uintptr_t)model_main;
    top -= 6;
    memset(top, 0, 6 * sizeof *top);
    process->sp = (char *)top;
    process->is_started = true;
}

enum model_event model_resume(void)
{
    struct model_process *process = model_me();

    if (process->status != MODEL_READY) { /* it was woken, or what it waits for may have come */
        process->status = MODEL_READY;
        process->is_changed = process->is_stale = false;
    }
    if (!process->is_started)
        model_start(process);
    process->has_stack_key = false;
    model_is_inside = true;
    model_switch(&model_search_sp, process->sp);
    model_is_inside = false;
    /* What calls have left below is not part of the state, and must not come up in it again. */
    memset(process->sp - 1024, 0, 1024);
    return model_last_event;
}

/* Symmetric processes begin in the order of their numbers. */
static bool model_is_its_turn(unsigned process)
{
    const struct model_process *processes = model_world.processes;

    if (processes[process].is_started || !(model_scenario->symmetric >> process & 1))
        return true;
    for (unsigned i = 0; i < process; i++)
        if ((model_scenario->symmetric >> i & 1) && !processes[i].is_started)
            return false;
    return true;
}

bool model_is_enabled(unsigned process)
{
    const struct model_process *it = &model_world.processes[process];

    return (it->status == MODEL_READY && model_is_its_turn(process)) ||
           (it->status == MODEL_PAUSED && it->is_changed);
}

static bool model_is_on_death_word(const struct model_process *it)
{
    return it->status == MODEL_ASLEEP && it->on_death_word;
}

static bool model_is_asleep_on(const struct model_process *it, uint32_t offset)
{
    for (unsigned i = 0; i < MODEL_SLEEPS && it->status == MODEL_ASLEEP; i++)
        if (it->sleeps_on[i] == offset)
            return true;
    return false;
}

unsigned model_options_next(struct model_option *ret)
{
    unsigned count = 0;

    for (; model_world.wakes_count; model_world.wakes_count--) {
        uint32_t word = model_world.wakes_on[model_world.wakes_count - 1];
        for (uint8_t i = 0; i < model_scenario->processes; i++)
            if (model_is_asleep_on(&model_world.processes[i], word))
                ret[count++] = (struct model_option){MODEL_WAKES_ONE, i};
        if (count)
            return count;
    }
    if (model_world.death_wakes) {
        for (uint8_t i = 0; i < model_scenario->processes; i++)
            if (model_is_on_death_word(&model_world.processes[i]))
                ret[count++] = (struct model_option){MODEL_DEATH_WAKES, i};
        model_world.death_wakes = count > 0;
        if (count)
            return count;
    }
    for (uint8_t i = 0; i < model_scenario->processes; i++)
        if (model_is_enabled(i))
            ret[count++] = (struct model_option){MODEL_NEXT, i};
    if (count)
        return count;
    for (uint8_t i = 0; i < model_scenario->processes; i++)
        if (model_world.processes[i].status == MODEL_ASLEEP && model_world.processes[i].has_news &&
            !model_world.processes[i].is_patient)
            ret[count++] = (struct model_option){MODEL_RECHECK, i};
    return count;
}

void model_changed(void)
{
    for (unsigned i = 0; i < MODEL_PROCESSES; i++)
        if (i != model_world.current)
            model_world.processes[i].is_changed = true;
}

static void model_wake_one(uint32_t offset)
{
    model_world.wakes_on[model_world.wakes_count++] = offset;
}

/* What the kernel does for the current process, which has just died. */
static void model_give_back(void)
{
    enum { WAITERS = 31, DIED = 30 };
    uint32_t aim = model_me()->aimed_at, owner_mask = (UINT32_C(1) << DIED) - 1;

    if (aim != MODEL_NOWHERE && !(model_newest(model_shared + aim, 4) & owner_mask))
        model_wake_one(aim);
    for (unsigned i = 0; i < model_holds_count; i++) {
        char *word = model_shared + model_holds[i];
        uint32_t value = (uint32_t)model_newest(word, 4);
        if ((value & owner_mask) != model_world.current + 1u)
            continue;
        value = (value & UINT32_C(1) << WAITERS) | UINT32_C(1) << DIED;
        model_log(MODEL_LOG_STORE, word, __ATOMIC_RELEASE, value, 0, NULL);
        model_store_by_kernel(word, value, __ATOMIC_RELEASE);
        if (value >> WAITERS)
            model_wake_one(model_holds[i]);
    }
}

void model_kill(void)
{
    struct model_process *victim = model_me();

    model_log(MODEL_LOG_KILLED, NULL, 0, 0, 0, NULL);
    model_give_back();
    memcpy(victim->now.seen, victim->stored.seen, sizeof victim->now.seen);
    memset(&victim->stored, 0, sizeof victim->stored);
    victim->acquired = victim->released = victim->stored;
    victim->status = MODEL_DEAD;
    model_changed();
    for (unsigned i = 0; i < MODEL_PROCESSES; i++)
        model_world.processes[i].has_news = !model_is_on_death_word(&model_world.processes[i]);
    model_world.death_wakes = true;
    model_world.current = MODEL_NOBODY;
}

/* -- choices of a process --------------------------------------------------------------------- */

static unsigned model_choose(void)
{
    if (model_world.options_count > 1) {
        model_leave(MODEL_CHOICE);
        return model_world.chosen;
    }
    return 0;
}

static void model_offer(enum model_kind kind, unsigned which)
{
    model_world.options[model_world.options_count++] =
        (struct model_option){(uint8_t)kind, (uint8_t)which};
}

static void model_step(void)
{
    if (++model_world.steps > 3000)
        model_fail("it goes round for ever, or needs more than 3000 steps");
    model_world.options_count = 0;
    model_offer(MODEL_GO, 0);
}

static void model_offer_crash(void)
{
    if (model_world.left.crashes && (model_scenario->may_crash >> model_world.current & 1))
        model_offer(MODEL_CRASH, 0);
}

void model_point(bool is_change)
{
    if (!model_is_inside)
        return;
    model_step();
    model_me()->is_writing = false;
    if (model_world.left.preemptions)
        for (unsigned i = 0; i < model_scenario->processes; i++)
            if (i != model_world.current && model_is_enabled(i))
                model_offer(MODEL_SWITCH, i);
    if (is_change)
        model_offer_crash();
    model_choose();
}

void model_point_write(bool is_first)
{
    if (!is_first && model_me()->is_writing)
        return;
    model_step();
    model_offer_crash();
    model_choose();
    model_me()->is_writing = true;
}

unsigned model_choose_read(unsigned count)
{
    if (count <= 1 || !model_world.left.stale_reads)
        return 0;
    model_world.options_count = 0;
    for (unsigned i = 0; i < count; i++)
        model_offer(MODEL_READ, i);
    return model_choose();
}

/* -- what a process may ask for ------------------------------------------------------------- */

void model_pause(void)
{
    struct model_process *me;

    if (!model_is_inside)
        model_fail("waits in vain: nobody else is there");
    me = model_me();
    if (++model_world.steps > 3000)
        model_fail("it goes round for ever, or needs more than 3000 steps");
    if (me->is_changed || me->is_stale)
        me->is_changed = me->is_stale = false;
    else
        me->status = MODEL_PAUSED;
    model_log(MODEL_LOG_PAUSE, NULL, 0, 0, 0, NULL);
    model_leave(MODEL_BLOCKED);
}

static bool model_has_status(unsigned process, bool or_finished)
{
    const struct model_process *it = &model_world.processes[process];

    if (it->status != MODEL_DEAD && !(or_finished && it->status == MODEL_FINISHED))
        return false;
    if (model_is_inside) {
        model_join(&model_me()->now, &it->now);
        model_me()->has_news = false;
    }
    return true;
}

bool model_is_dead(unsigned process)
{
    if (model_is_inside && model_world.left.crashes)
        model_point(false); /* it may die just now */
    return model_has_status(process, false);
}

bool model_is_over(unsigned process)
{
    return model_has_status(process, true);
}

bool model_has_died(unsigned process)
{
    return model_world.processes[process].status == MODEL_DEAD;
}

bool model_repair_dead(unsigned me, void (*repair)(unsigned me, unsigned dead))
{
    bool has_repaired = false;

    if (model_is_inside)
        model_me()->has_news = false;
    for (unsigned i = 0; i < model_scenario->processes; i++) {
        if (i == me || !model_has_status(i, false))
            continue;
        if (model_world.repaired >> i & 1) {
            if (model_is_inside)
                model_join(&model_me()->now, &model_world.repairs[i]);
            continue;
        }
        repair(me, i);
        model_point(true);
        has_repaired = true;
        model_world.repaired |= (uint8_t)(1 << i);
        if (!model_is_inside)
            continue;
        model_join(&model_world.repairs[i], &model_me()->now);
        model_me()->now.clock[me]++;
        model_changed();
    }
    return has_repaired;
}

static uint32_t model_offset(const void *place)
{
    return (uint32_t)((uintptr_t)place - (uintptr_t)model_shared);
}

/* False: a word has changed already. */
static bool model_lie_down(const uint32_t *const words[], const uint32_t values[], unsigned count)
{
    struct model_process *me = model_me();

    model_point(false);
    for (unsigned i = 0; i < count; i++)
        if (model_newest(words[i], sizeof **words) != values[i])
            return false;
    for (unsigned i = 0; i < MODEL_SLEEPS; i++)
        me->sleeps_on[i] = i < count ? model_offset(words[i]) : MODEL_NOWHERE;
    me->status = MODEL_ASLEEP;
    me->is_woken_by_death = me->on_death_word = me->is_patient = false;
    for (unsigned i = 0; i < count; i++)
        model_log(MODEL_LOG_SLEEP, words[i], 0, values[i], 0, NULL);
    return true;
}

bool model_sleep(const uint32_t *word, uint32_t value, bool on_death_word)
{
    if (!model_lie_down(&word, &value, 1))
        return false;
    model_me()->on_death_word = on_death_word;
    model_leave(MODEL_BLOCKED);
    return model_me()->is_woken_by_death;
}

void model_sleep_on(const uint32_t *const words[], const uint32_t values[], unsigned count,
                    bool is_patient)
{
    if (count > MODEL_SLEEPS)
        model_fail("sleeps on more than %d words", MODEL_SLEEPS);
    if (!model_lie_down(words, values, count))
        return;
    model_me()->is_patient = is_patient;
    model_leave(MODEL_BLOCKED);
    model_me()->has_news = false;
}

static void model_wake_all(const uint32_t *word)
{
    model_log(MODEL_LOG_WAKE, word, 0, 0, 0, NULL);
    for (unsigned i = 0; i < model_scenario->processes; i++)
        if (model_is_asleep_on(&model_world.processes[i], model_offset(word)))
            model_world.processes[i].status = MODEL_READY;
}

void model_wake(const uint32_t *word)
{
    model_point(true);
    model_wake_all(word);
}

/* Ordered by what the caller has done before, and by no more. */
static void model_change_and_wake(uint32_t *word, uint32_t value)
{
    model_log(MODEL_LOG_STORE, word, __ATOMIC_RELAXED, value, 0, NULL);
    model_store_by_kernel(word, value, __ATOMIC_RELAXED);
    model_wake_all(word);
}

void model_store_and_wake(uint32_t *word, uint32_t value)
{
    model_point(true);
    model_change_and_wake(word, value);
}

void model_clear_and_wake(uint32_t *word, uint32_t bits)
{
    model_point(true);
    model_change_and_wake(word, (uint32_t)model_newest(word, sizeof *word) & ~bits);
}

void model_add_and_wake(uint32_t *word)
{
    model_point(true);
    model_change_and_wake(word, (uint32_t)model_newest(word, sizeof *word) + 1);
}

void model_hold(const void *word)
{
    if (model_holds_count == MODEL_HOLDS)
        model_fail("more than %d words that are held", MODEL_HOLDS);
    model_holds[model_holds_count++] = model_offset(word);
}

void model_aim(const void *word)
{
    model_me()->aimed_at = word ? model_offset(word) : MODEL_NOWHERE;
}
