/* SPDX-License-Identifier: MIT */
/* signals -- naru signals: the table of signals, and what the kernel keeps of them for a process */
#include "arguments.h"
#include "command.h"
#include "json.h"
#include "output.h"
#include <errno.h>
#include <getopt.h>
#include <naru/signal.h>
#include <stdlib.h>
#include <string.h>

static const char nr_signals_help[] =
    "Usage: naru signals [PID...] [--json]\n"
    "\n"
    "Without PID: all signals, with their numbers, what each does to a process that neither handles nor ignores\n"
    "it, and what it is for.\n"
    "\n"
    "With PID: what the kernel keeps of signals for that process: pending (for the process, and for each\n"
    "thread), blocked, ignored and caught. Blocked is told for the first thread; other threads are shown if they\n"
    "block others, or have a signal pending of their own.\n"
    "\n"
    "Options:\n"
    "  --json   an array with an object for each signal; for each PID an object a line, with all threads\n"
    "  --help   this text\n"
    "\n"
    "Examples:\n"
    "  naru signals\n"
    "  naru signals $$\n"
    "  naru signals --json 4711 | jq '.threads[] | select(.blocked | index(\"SIGTERM\"))'\n"
    "\n"
    "Exit codes: 0 shown, 1 failed (no such process, /proc hides it), 2 wrong usage.\n";

enum {
    NR_SIGNALS_LAST = 64,
    NR_SIGNALS_WIDTH = 100,
    NR_SIGNALS_TEXT_BYTES = 2048, /* the names of all */
};

/* -- the table ----------------------------------------------------------------------------- */

static const char *nr_signals_action(enum naru_signal_action action)
{
    static const char *const names[] = {
        [NARU_SIGNAL_ENDS] = "ends",           [NARU_SIGNAL_DUMPS] = "ends, core",
        [NARU_SIGNAL_PASSES] = "nothing",      [NARU_SIGNAL_STOPS] = "stops",
        [NARU_SIGNAL_CONTINUES] = "continues",
    };

    return names[action];
}

static void nr_signals_print_rows(const struct naru_signal_row *first,
                                  const struct naru_signal_row *last)
{
    char numbers[32], names[64];

    snprintf(numbers, sizeof numbers, "%d", (int)first->number);
    snprintf(names, sizeof names, "%s", first->name);
    if (last->number != first->number) {
        snprintf(numbers, sizeof numbers, "%d-%d", (int)first->number, (int)last->number);
        snprintf(names, sizeof names, "%s..%s", first->name, last->name);
    }
    printf("%6s  %-21s  %-10s  %s%s%s%s\n", numbers, names, nr_signals_action(first->action),
           first->meaning, last->alias ? " (also " : "", last->alias ? last->alias : "",
           last->alias ? ")" : "");
}

/* Those that differ by their numbers alone share a line. */
static void nr_signals_print_table(void)
{
    struct naru_signal_row first, last, next;
    bool bold = nr_output_has_colour(stdout);

    printf("%s%6s  %-21s  %-10s  %s%s\n", bold ? "\033[1m" : "", "NUMBER", "NAME", "DEFAULT",
           "MEANING", bold ? "\033[0m" : "");
    for (int number = 1; number <= NR_SIGNALS_LAST; number = last.number + 1) {
        if (naru_signal_describe(number, &first) < 0) {
            last.number = number;
            continue;
        }
        last = first;
        while (first.is_real_time && naru_signal_describe(last.number + 1, &next) == 0 &&
               strcmp(next.meaning, first.meaning) == 0)
            last = next;
        nr_signals_print_rows(&first, &last);
    }
}

static void nr_signals_print_table_json(void)
{
    struct nr_json json = {.file = stdout};
    struct naru_signal_row row;

    nr_json_begin(&json, NULL, '[');
    for (int number = 1; number <= NR_SIGNALS_LAST; number++) {
        if (naru_signal_describe(number, &row) < 0)
            continue;
        nr_json_begin(&json, NULL, '{');
        nr_json_integer(&json, "number", row.number);
        nr_json_text(&json, "name", row.name);
        if (row.alias)
            nr_json_text(&json, "alias", row.alias);
        else
            nr_json_null(&json, "alias");
        nr_json_text(&json, "action", nr_signals_action(row.action));
        nr_json_text(&json, "meaning", row.meaning);
        nr_json_bool(&json, "is_fixed", row.is_fixed);
        nr_json_bool(&json, "is_real_time", row.is_real_time);
        nr_json_bool(&json, "is_libcs", row.is_libcs);
        nr_json_end(&json, '}');
    }
    nr_json_end(&json, ']');
    putchar('\n');
}

/* -- sets ---------------------------------------------------------------------------------- */

/* All that a program may decide about. */
static uint64_t nr_signals_all(void)
{
    struct naru_signal_row row;
    uint64_t all = 0;

    for (int number = 1; number <= NR_SIGNALS_LAST; number++)
        if (naru_signal_describe(number, &row) == 0 && !row.is_fixed && !row.is_libcs)
            all |= NARU_SIGNAL_BIT(number);
    return all;
}

/* Appends the names, each behind a blank; three or more real-time signals in a row as a range. */
static size_t nr_signals_append(char *text, size_t length, uint64_t set)
{
    struct naru_signal_row row, last;

    for (int number = 1; number <= NR_SIGNALS_LAST; number++) {
        if (!(set & NARU_SIGNAL_BIT(number)) || naru_signal_describe(number, &row) < 0)
            continue;
        last = row;
        while (row.is_real_time && last.number < NR_SIGNALS_LAST &&
               set & NARU_SIGNAL_BIT(last.number + 1))
            naru_signal_describe(last.number + 1, &last);
        if (last.number >= number + 2) {
            length += (size_t)sprintf(text + length, " %s..%s", row.name, last.name);
            number = last.number;
        } else {
            length += (size_t)sprintf(text + length, " %s", row.name);
        }
    }
    return length;
}

/* "SIGINT SIGTERM", "all but SIGINT", "all", "none". */
static const char *nr_signals_text(char text[NR_SIGNALS_TEXT_BYTES], uint64_t set)
{
    uint64_t all = nr_signals_all(), rest = all & ~set;
    size_t length = 0;

    if (set == 0)
        return "none";
    if (__builtin_popcountll(rest) >= __builtin_popcountll(set)) {
        nr_signals_append(text, 0, set);
        return text + 1;
    }
    length = (size_t)sprintf(text, rest ? "all but" : "all");
    length = nr_signals_append(text, length, rest);
    if (set & ~all) {
        length += (size_t)sprintf(text + length, ", and");
        nr_signals_append(text, length, set & ~all);
    }
    return text;
}

static void nr_signals_print_set(const char *label, uint64_t set)
{
    enum { NR_SIGNALS_LABEL = 20 };
    char text[NR_SIGNALS_TEXT_BYTES];
    const char *rest = nr_signals_text(text, set);

    do {
        size_t fit = nr_output_fit(rest, NR_SIGNALS_WIDTH - NR_SIGNALS_LABEL);
        printf("%-*s%.*s\n", NR_SIGNALS_LABEL, label, (int)fit, rest);
        label = "";
        rest += fit;
        rest += strspn(rest, " ");
    } while (*rest);
}

static void nr_signals_print_set_json(struct nr_json *json, const char *key, uint64_t set)
{
    struct naru_signal_row row;

    nr_json_begin(json, key, '[');
    for (int number = 1; number <= NR_SIGNALS_LAST; number++)
        if (set & NARU_SIGNAL_BIT(number) && naru_signal_describe(number, &row) == 0)
            nr_json_text(json, NULL, row.name);
    nr_json_end(json, ']');
}

/* -- a process ----------------------------------------------------------------------------- */

static const char *nr_signals_run_state(char letter)
{
    switch (letter) {
    case 'R':
        return "runs";
    case 'S':
    case 'D':
    case 'I':
        return "sleeps";
    case 'T':
        return "is stopped";
    case 't':
        return "is stopped by a debugger";
    case 'Z':
        return "is dead, and not waited for";
    default:
        return "is dead";
    }
}

/* Fit for a terminal: a name may hold any bytes. */
static const char *nr_signals_clean(char text[64], const char *name)
{
    size_t length = strnlen(name, 63);
    bool is_text = nr_json_is_utf8(name, length);

    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)name[i];
        text[i] = byte < ' ' || byte == 0x7f || (byte >= 0x80 && !is_text) ? '?' : name[i];
    }
    text[length] = '\0';
    return text;
}

static void nr_signals_print_name_json(struct nr_json *json, const char *name)
{
    if (nr_json_is_utf8(name, strlen(name)))
        nr_json_text(json, "name", name);
    else
        nr_json_base64(json, "name_base64", name, strlen(name));
}

/* Those next to each other that are alike share a paragraph. How many these are. */
static size_t nr_signals_alike(const struct naru_signal_thread *threads, size_t count)
{
    size_t alike = 1;

    while (alike < count && threads[alike].blocked == threads->blocked &&
           threads[alike].is_awaiting == threads->is_awaiting && !threads[alike].pending &&
           !threads->pending)
        alike++;
    return alike;
}

static void nr_signals_print_threads(const struct naru_signal_thread *threads, size_t count)
{
    char name[64], others[32] = "";

    if (count > 1)
        snprintf(others, sizeof others, ", and %zu more", count - 1);
    printf("\nthread %lld %s %s%s%s\n", (long long)threads->thread_id,
           nr_signals_clean(name, threads->name), nr_signals_run_state(threads->run_state), others,
           threads->is_awaiting ? ", and waits for signals, which so do not count as blocked" : "");
    if (threads->pending)
        nr_signals_print_set("  pending for it", threads->pending);
    nr_signals_print_set("  blocked", threads->blocked);
}

static void nr_signals_print_process(const struct naru_signal_state *state,
                                     const struct naru_signal_thread *threads, size_t count)
{
    char name[64], limit[64] = "";

    if (state->queued_max != UINT64_MAX)
        snprintf(limit, sizeof limit, " of at most %llu", (unsigned long long)state->queued_max);
    printf("%lld %s %s; threads: %u; signals pending for its user: %llu%s\n\n",
           (long long)state->pid, nr_signals_clean(name, state->name),
           nr_signals_run_state(state->run_state), state->threads_count,
           (unsigned long long)state->queued, limit);
    nr_signals_print_set("pending", state->pending);
    if (threads->pending)
        nr_signals_print_set("  for one thread", threads->pending);
    nr_signals_print_set("blocked", threads->blocked);
    nr_signals_print_set("ignored", state->ignored);
    nr_signals_print_set("caught", state->caught);
    if (threads->is_awaiting)
        printf("\nIts first thread waits for signals; those do not count as blocked meanwhile.\n");
    for (size_t i = 1, alike; i < count; i += alike) {
        alike = nr_signals_alike(&threads[i], count - i);
        if (threads[i].pending || threads[i].blocked != threads->blocked)
            nr_signals_print_threads(&threads[i], alike);
    }
}

static void nr_signals_print_process_json(const struct naru_signal_state *state,
                                          const struct naru_signal_thread *threads, size_t count)
{
    struct nr_json json = {.file = stdout};

    nr_json_begin(&json, NULL, '{');
    nr_json_integer(&json, "pid", state->pid);
    nr_signals_print_name_json(&json, state->name);
    nr_json_text(&json, "run_state", (char[2]){state->run_state});
    nr_json_integer(&json, "queued", state->queued);
    if (state->queued_max == UINT64_MAX)
        nr_json_null(&json, "queued_max");
    else
        nr_json_integer(&json, "queued_max", state->queued_max);
    nr_signals_print_set_json(&json, "pending", state->pending);
    nr_signals_print_set_json(&json, "ignored", state->ignored);
    nr_signals_print_set_json(&json, "caught", state->caught);
    nr_json_begin(&json, "threads", '[');
    for (size_t i = 0; i < count; i++) {
        nr_json_begin(&json, NULL, '{');
        nr_json_integer(&json, "thread_id", threads[i].thread_id);
        nr_signals_print_name_json(&json, threads[i].name);
        nr_json_text(&json, "run_state", (char[2]){threads[i].run_state});
        nr_json_bool(&json, "is_awaiting", threads[i].is_awaiting);
        nr_signals_print_set_json(&json, "pending", threads[i].pending);
        nr_signals_print_set_json(&json, "blocked", threads[i].blocked);
        nr_json_end(&json, '}');
    }
    nr_json_end(&json, ']');
    nr_json_end(&json, '}');
    putchar('\n');
}

/* All threads, of which there may be more with each look; free() *ret. */
static int nr_signals_threads(int64_t pid, struct naru_signal_thread **ret)
{
    struct naru_signal_thread *threads = NULL;
    size_t capacity = 0;

    for (;;) {
        int count = naru_signal_look_threads(pid, threads, capacity);
        if (count < 0)
            nr_output_complain("%s", naru_error_text());
        if (count >= 0 && (size_t)count <= capacity) {
            *ret = threads;
            return count;
        }
        free(threads);
        if (count < 0)
            return count;
        capacity = (size_t)count + (size_t)count / 4;
        threads = calloc(capacity, sizeof *threads);
        if (!threads) {
            nr_output_complain("there is no memory for %d threads", count);
            return -ENOMEM;
        }
    }
}

static int nr_signals_one(const char *text, bool as_json)
{
    struct naru_signal_thread *threads;
    struct naru_signal_state state;
    __int128 pid = 0;

    int code = nr_arguments_integer(&pid, "PID", text, 1, INT32_MAX);
    if (code)
        return code;
    if (naru_signal_look((int64_t)pid, &state) < 0) {
        nr_output_complain("%s", naru_error_text());
        return NR_EXIT_FAILURE;
    }
    int count = nr_signals_threads(state.pid, &threads);
    if (count < 0)
        return NR_EXIT_FAILURE;
    if (as_json)
        nr_signals_print_process_json(&state, threads, (size_t)count);
    else
        nr_signals_print_process(&state, threads, (size_t)count);
    free(threads);
    return NR_EXIT_OK;
}

static int nr_signals_run(int argc, char **argv)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {0}};
    int code = NR_EXIT_OK, letter;
    bool as_json = false;

    while ((letter = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (letter != 'j')
            return nr_output_hint_usage();
        as_json = true;
    }
    if (optind == argc)
        as_json ? nr_signals_print_table_json() : nr_signals_print_table();
    for (int i = optind; i < argc && code != NR_EXIT_USAGE; i++) {
        if (i > optind && !as_json)
            putchar('\n');
        int one = nr_signals_one(argv[i], as_json);
        code = one ? one : code;
    }
    return code;
}

const struct nr_command nr_signals_command = {
    .name = "signals",
    .summary = "list the signals, or show what a process blocks, ignores, catches and has pending",
    .help = nr_signals_help,
    .run = nr_signals_run,
};
