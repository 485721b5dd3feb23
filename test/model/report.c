/* SPDX-License-Identifier: MIT */
/* report -- what the memory is called, and what happened in the execution that failed */
#include "engine.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MODEL_NAMES = 96, MODEL_LOG = 8192, MODEL_PRINTED = 400 };

static struct model_named {
    uintptr_t begin, end;
    char name[40];
} model_names[MODEL_NAMES];
static unsigned model_names_count;

static struct model_line {
    uint8_t kind, process, order, options;
    const volatile void *place;
    const char *text;
    uint64_t value, other;
} model_lines[MODEL_LOG];

void model_names_forget(void)
{
    model_names_count = 0;
}

void model_name(const volatile void *place, size_t size_bytes, const char *format, ...)
{
    va_list arguments;

    if (model_names_count == MODEL_NAMES)
        return;
    struct model_named *named = &model_names[model_names_count++];
    named->begin = (uintptr_t)place;
    named->end = named->begin + size_bytes;
    va_start(arguments, format);
    vsnprintf(named->name, sizeof named->name, format, arguments);
    va_end(arguments);
}

/* The narrowest name that covers the place. */
void model_name_of(const volatile void *place, char *ret, size_t size)
{
    const struct model_named *best = NULL;
    uintptr_t at = (uintptr_t)place;

    for (unsigned i = 0; i < model_names_count; i++) {
        const struct model_named *named = &model_names[i];
        if (at >= named->begin && at < named->end &&
            (!best || named->end - named->begin < best->end - best->begin))
            best = named;
    }
    if (!best)
        snprintf(ret, size, "shared + %zu", (size_t)(at - (uintptr_t)model_shared));
    else if (at == best->begin)
        snprintf(ret, size, "%s", best->name);
    else
        snprintf(ret, size, "%s + %zu", best->name, (size_t)(at - best->begin));
}

void model_log(enum model_log_kind kind, const volatile void *place, int order, uint64_t value,
               uint64_t other, const char *text)
{
    if (model_world.log_count >= MODEL_LOG)
        return;
    model_lines[model_world.log_count++] = (struct model_line){.kind = (uint8_t)kind,
                                                               .process = model_world.current,
                                                               .order = (uint8_t)order,
                                                               .place = place,
                                                               .text = text,
                                                               .value = value,
                                                               .other = other};
}

void model_note(const char *what, uint64_t value)
{
    if (model_is_inside)
        model_log(MODEL_LOG_NOTE, NULL, 0, value, 0, what);
}

static void model_line_print(const struct model_line *line)
{
    static const char *const orders[] = {"relaxed", "consume", "acquire",
                                         "release", "acq_rel", "seq_cst"};
    const char *order = orders[line->order % 6];
    char name[96];

    model_name_of(line->place, name, sizeof name);
    printf("#   process %u: ", line->process);
    switch ((enum model_log_kind)line->kind) {
    case MODEL_LOG_LOAD:
        printf("load %s %s: 0x%" PRIx64, order, name, line->value);
        if (line->other)
            printf("   STALE, %" PRIu64 " stores old", line->other);
        break;
    case MODEL_LOG_STORE:
        printf("store %s %s = 0x%" PRIx64, order, name, line->value);
        break;
    case MODEL_LOG_CAS:
        printf("compare-and-swap %s %s: 0x%" PRIx64 " -> 0x%" PRIx64, order, name, line->value,
               line->other);
        break;
    case MODEL_LOG_CAS_FAILED:
        printf("compare-and-swap %s %s: not 0x%" PRIx64 " but 0x%" PRIx64, order, name, line->value,
               line->other);
        break;
    case MODEL_LOG_RMW:
        printf("change %s %s: 0x%" PRIx64 " -> 0x%" PRIx64, order, name, line->value, line->other);
        break;
    case MODEL_LOG_FENCE:
        printf("fence %s", order);
        break;
    case MODEL_LOG_BARRIER:
        printf("barrier in every process");
        break;
    case MODEL_LOG_SLEEP:
        printf("sleeps on %s", name);
        break;
    case MODEL_LOG_WAKE:
        printf("wakes %s", name);
        break;
    case MODEL_LOG_KILLED:
        printf("KILLED");
        break;
    case MODEL_LOG_FINISHED:
        printf("finished");
        break;
    case MODEL_LOG_PAUSE:
        printf("waits");
        break;
    case MODEL_LOG_NOTE:
        printf("-- %s %" PRIu64, line->text, line->value);
        break;
    case MODEL_LOG_READ:
        printf("read %s, %" PRIu64 " bytes", name, line->value);
        break;
    case MODEL_LOG_WRITE:
        printf("write %s, %" PRIu64 " bytes", name, line->value);
        break;
    }
    putchar('\n');
}

void model_trace_print(void)
{
    unsigned count = model_world.log_count;
    unsigned first = count > MODEL_PRINTED ? count - MODEL_PRINTED : 0;

    if (first)
        printf("#   ... %u lines before\n", first);
    for (unsigned i = first; i < count; i++)
        model_line_print(&model_lines[i]);
    if (count == MODEL_LOG)
        printf("#   ... and more\n");
}
