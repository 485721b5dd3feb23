/* SPDX-License-Identifier: MIT */
/*
 * tour -- every technique, live and checked, in one table
 *
 * What       trial.h does the work; here is what it looks like. Rows appear as they are done; on a
 *            terminal a line below them tells what is going on.
 */
#include "command.h"
#include "json.h"
#include "ordeal.h"
#include "output.h"
#include "stop.h"
#include "trial.h"
#include "visit.h"
#include <getopt.h>
#include <string.h>

static const char nr_tour_help[] =
    "Usage: naru tour [--json]\n"
    "\n"
    "Shows the seven techniques at work: file, pipe, message queue, shared memory, signal, semaphore,\n"
    "socket; some in several forms. In each of them\n"
    "  - a parent greets its child and gets an answer (the text is checked on both sides),\n"
    "  - ten processes sum 1..10000, the parts coming back through it, as `naru sum` does,\n"
    "  - messages of 64 bytes (signal: 8) go round between two processes that wait blocking: latency\n"
    "    is half a round trip, its median and what 99 of 100 keep below; it is measured with both on\n"
    "    one core and on two, and the better counts,\n"
    "  - messages stream one way: the rate at which they arrive. Order and count are checked.\n"
    "Then a pool of four workers does tasks while its workers are killed at random, again and again:\n"
    "each task has to be answered once, and right; one that always kills is set aside with the cause.\n"
    "Last, the web server: started, asked for a file and its status, a worker killed, drained.\n"
    "It takes about ten seconds and leaves nothing behind.\n"
    "\n"
    "Options:\n"
    "  --json    an array of {\"technique\":\"shared memory\",\"uri\":\"shm://...\",\"greeting\":true,\n"
    "            \"sum\":\"50005000\",\"sum_ns\":...,\"latency_p50_ns\":...,\"latency_p99_ns\":...,\n"
    "            \"rate_per_s\":...}; a row that failed has \"error\" as well;\n"
    "            the last two: {\"technique\":\"pool\",\"workers\":4,\"tasks\":...,\"deaths\":...,\n"
    "            \"retries\":...,\"set_aside\":1,\"cause\":\"...\",\"duration_ns\":...},\n"
    "            {\"technique\":\"web server\",\"requests\":...,\"start_ns\":...,\"repair_ns\":...,\n"
    "            \"drain_ns\":...,\"cause\":\"...\"}\n"
    "\n"
    "Examples:\n"
    "  naru tour\n"
    "  naru tour --json | python3 -m json.tool\n"
    "\n"
    "Exit codes: 0 all is well, 1 a check failed (its row says which), 2 wrong usage.\n";

static const struct option nr_tour_options[] = {
    {"json", no_argument, NULL, 'j'},
    {0},
};

/* clang-format off */
static const struct nr_tour_stop {
    const char *technique, *scheme;
} nr_tour_stops[] = {
    {"file", "file"},
    {"pipe", "pipe"},
    {"pipe", "fifo"},
    {"message queue", "mq"},
    {"message queue", "sysv"},
    {"shared memory", "shm"},
    {"signal", "signal"},
    {"semaphore", "semaphore"},
    {"socket", "unix"},
    {"socket", "abstract"},
    {"socket", "tcp"},
};
/* clang-format on */
enum { NR_TOUR_STOPS_COUNT = sizeof nr_tour_stops / sizeof nr_tour_stops[0] };

static struct nr_trial nr_tour_trials[NR_TOUR_STOPS_COUNT];
static struct nr_ordeal nr_tour_ordeal;
static struct nr_visit nr_tour_visit;

/* ---- the line that tells what is going on ---- */

static void nr_tour_progress(const struct nr_trial *trial, const char *step)
{
    if (nr_output_is_lively(stderr))
        fprintf(stderr, "\r\033[K%d of %d: %s, %s", (int)(trial - nr_tour_trials) + 1,
                NR_TOUR_STOPS_COUNT, trial->scheme, step);
}

static void nr_tour_clear_progress(void)
{
    if (nr_output_is_lively(stderr))
        fputs("\r\033[K", stderr);
}

/* ---- the table ---- */

enum nr_tour_style { NR_TOUR_PLAIN, NR_TOUR_BOLD, NR_TOUR_DIM, NR_TOUR_GOOD, NR_TOUR_BAD };

static void nr_tour_style(enum nr_tour_style style)
{
    static const char *const codes[] = {"0", "1", "2", "32", "1;31"};

    if (nr_output_has_colour(stdout))
        printf("\033[%sm", codes[style]);
}

struct nr_tour_column {
    const char *above, *title;
    size_t width;
    bool right;
};

/* clang-format off */
static const struct nr_tour_column nr_tour_columns[] = {
    {"",         "TECHNIQUE", 15, false},
    {"",         "VIA",       11, false},
    {"",         "GREETING",  10, false},
    {"TEN ADD",  "1..10000",   9, false},
    {"",         "TIME",       8, true},
    {"LATENCY",  "MEDIAN",    10, true},
    {"ONE WAY",  "99 %",       9, true},
    {"MESSAGES", "RATE",      11, true},
};
/* clang-format on */
enum { NR_TOUR_COLUMNS_COUNT = sizeof nr_tour_columns / sizeof nr_tour_columns[0] };

static void nr_tour_print_cell(int index, const char *text)
{
    nr_output_pad(stdout, text, nr_tour_columns[index].width, nr_tour_columns[index].right);
}

static void nr_tour_print_header(void)
{
    nr_tour_style(NR_TOUR_BOLD);
    for (int i = 0; i < NR_TOUR_COLUMNS_COUNT; i++)
        nr_tour_print_cell(i, nr_tour_columns[i].above);
    putchar('\n');
    for (int i = 0; i < NR_TOUR_COLUMNS_COUNT; i++)
        nr_tour_print_cell(i, nr_tour_columns[i].title);
    nr_tour_style(NR_TOUR_PLAIN);
    putchar('\n');
    fflush(stdout);
}

static void nr_tour_print_row(const struct nr_trial *trial, bool is_first_of_technique)
{
    char text[NR_OUTPUT_NUMBER_BYTES];

    nr_tour_print_cell(0, is_first_of_technique ? trial->technique : "");
    nr_tour_print_cell(1, trial->scheme);
    if (trial->reason[0]) {
        nr_tour_style(NR_TOUR_BAD);
        printf("FAILED");
        nr_tour_style(NR_TOUR_PLAIN);
        putchar('\n');
        nr_output_paragraph(stdout, trial->reason, 4, 96);
        fflush(stdout);
        return;
    }
    nr_tour_style(NR_TOUR_GOOD);
    nr_tour_print_cell(2, "answered");
    nr_tour_style(NR_TOUR_PLAIN);
    nr_tour_print_cell(3, trial->sum);
    nr_tour_print_cell(4, nr_output_duration(text, trial->sum_ns));
    nr_tour_print_cell(5, nr_output_duration(text, trial->latency_p50_ns));
    nr_tour_print_cell(6, nr_output_duration(text, trial->latency_p99_ns));
    nr_tour_print_cell(7, nr_output_rate(text, trial->rate_per_s));
    putchar('\n');
    fflush(stdout);
}

static void nr_tour_print_verdict(int done_count, int failed_count, int64_t duration_ns)
{
    const struct nr_trial *quickest = NULL, *fullest = NULL;
    char latency[NR_OUTPUT_NUMBER_BYTES], rate[NR_OUTPUT_NUMBER_BYTES];
    char duration[NR_OUTPUT_NUMBER_BYTES];

    putchar('\n');
    if (failed_count) {
        nr_tour_style(NR_TOUR_BAD);
        printf("%d of %d failed:", failed_count, done_count);
        nr_tour_style(NR_TOUR_PLAIN);
        for (int i = 0; i < done_count; i++)
            if (nr_tour_trials[i].reason[0])
                printf(" %s", nr_tour_trials[i].scheme);
        printf(".\n");
        return;
    }
    for (int i = 0; i < done_count; i++) {
        const struct nr_trial *trial = &nr_tour_trials[i];

        if (!quickest || trial->latency_p50_ns < quickest->latency_p50_ns)
            quickest = trial;
        if (!fullest || trial->rate_per_s > fullest->rate_per_s)
            fullest = trial;
    }
    nr_tour_style(NR_TOUR_GOOD);
    printf("All seven techniques work here:");
    nr_tour_style(NR_TOUR_PLAIN);
    printf(" each greeting answered, each sum right, each message in order and\n"
           "none lost, in %s; the quickest is %s (%s), the one that carries most is %s (%s).\n",
           nr_output_duration(duration, duration_ns), quickest->scheme,
           nr_output_duration(latency, quickest->latency_p50_ns), fullest->scheme,
           nr_output_rate(rate, fullest->rate_per_s));
}

/* "The pool survives:" or, with a reason, "The pool failed:", and what there is to say. */
static void nr_tour_print_more(const char *title, const char *reason, const char *text)
{
    putchar('\n');
    nr_tour_style(reason[0] ? NR_TOUR_BAD : NR_TOUR_GOOD);
    printf("%s %s:\n", title, reason[0] ? "failed" : "survives");
    nr_tour_style(NR_TOUR_PLAIN);
    nr_output_paragraph(stdout, reason[0] ? reason : text, 2, 96);
}

static void nr_tour_print_ordeal(void)
{
    const struct nr_ordeal *ordeal = &nr_tour_ordeal;
    char duration[NR_OUTPUT_NUMBER_BYTES], text[800];

    snprintf(text, sizeof text,
             "its %d workers died %llu times in %s, and each of %llu tasks was answered once, and "
             "right; the one that always kills was set aside: %s.",
             NR_ORDEAL_WORKERS, (unsigned long long)ordeal->deaths,
             nr_output_duration(duration, ordeal->duration_ns), (unsigned long long)ordeal->tasks,
             ordeal->cause);
    nr_tour_print_more("The pool", ordeal->reason, text);
}

static void nr_tour_print_visit(void)
{
    const struct nr_visit *visit = &nr_tour_visit;
    char start[NR_OUTPUT_NUMBER_BYTES], repair[NR_OUTPUT_NUMBER_BYTES],
        drain[NR_OUTPUT_NUMBER_BYTES], text[2000];

    snprintf(
        text, sizeof text,
        "%s answered %s after its start, and %d requests in all; a worker of it was killed (%s) "
        "and replaced within %s; told to end, it did so in %s.",
        visit->address, nr_output_duration(start, visit->start_ns), visit->requests, visit->cause,
        nr_output_duration(repair, visit->repair_ns), nr_output_duration(drain, visit->drain_ns));
    nr_tour_print_more("The web server", visit->reason, text);
}

/* ---- JSON ---- */

static void nr_tour_print_json(int done_count)
{
    struct nr_json json = {.file = stdout};

    nr_json_begin(&json, NULL, '[');
    for (int i = 0; i < done_count; i++) {
        const struct nr_trial *trial = &nr_tour_trials[i];

        nr_json_begin(&json, NULL, '{');
        nr_json_text(&json, "technique", trial->technique);
        nr_json_text(&json, "uri", trial->uri);
        nr_json_bool(&json, "greeting", trial->greeting);
        nr_json_text(&json, "sum", trial->sum);
        nr_json_integer(&json, "sum_ns", trial->sum_ns);
        nr_json_integer(&json, "latency_p50_ns", trial->latency_p50_ns);
        nr_json_integer(&json, "latency_p99_ns", trial->latency_p99_ns);
        nr_json_integer(&json, "rate_per_s", (__int128)trial->rate_per_s);
        if (trial->reason[0])
            nr_json_text(&json, "error", trial->reason);
        nr_json_end(&json, '}');
    }
    nr_json_begin(&json, NULL, '{');
    nr_json_text(&json, "technique", "pool");
    nr_json_integer(&json, "workers", NR_ORDEAL_WORKERS);
    nr_json_integer(&json, "tasks", nr_tour_ordeal.tasks);
    nr_json_integer(&json, "deaths", nr_tour_ordeal.deaths);
    nr_json_integer(&json, "retries", nr_tour_ordeal.retries);
    nr_json_integer(&json, "set_aside", nr_tour_ordeal.set_aside);
    nr_json_text(&json, "cause", nr_tour_ordeal.cause);
    nr_json_integer(&json, "duration_ns", nr_tour_ordeal.duration_ns);
    if (nr_tour_ordeal.reason[0])
        nr_json_text(&json, "error", nr_tour_ordeal.reason);
    nr_json_end(&json, '}');
    nr_json_begin(&json, NULL, '{');
    nr_json_text(&json, "technique", "web server");
    nr_json_integer(&json, "requests", nr_tour_visit.requests);
    nr_json_integer(&json, "start_ns", nr_tour_visit.start_ns);
    nr_json_integer(&json, "repair_ns", nr_tour_visit.repair_ns);
    nr_json_integer(&json, "drain_ns", nr_tour_visit.drain_ns);
    nr_json_text(&json, "cause", nr_tour_visit.cause);
    if (nr_tour_visit.reason[0])
        nr_json_text(&json, "error", nr_tour_visit.reason);
    nr_json_end(&json, '}');
    nr_json_end(&json, ']');
    putchar('\n');
}

/* ---- the tour ---- */

static int nr_tour_go(bool wants_json)
{
    int64_t start_ns = nr_output_now_ns();
    int failed_count = 0, done_count = 0;
    bool all_survive = true;

    if (!wants_json)
        nr_tour_print_header();
    while (done_count < NR_TOUR_STOPS_COUNT) {
        const struct nr_tour_stop *stop = &nr_tour_stops[done_count];
        struct nr_trial *trial = &nr_tour_trials[done_count];

        trial->technique = stop->technique;
        trial->scheme = stop->scheme;
        failed_count += nr_trial_run(trial, nr_tour_progress) < 0;
        nr_tour_clear_progress();
        nr_stop_die();
        if (!wants_json)
            nr_tour_print_row(trial,
                              done_count == 0 || strcmp(stop[-1].technique, stop->technique) != 0);
        done_count++;
    }
    if (nr_output_is_lively(stderr))
        fprintf(stderr, "\r\033[Ka pool whose workers are killed");
    all_survive &= nr_ordeal_run(&nr_tour_ordeal) == 0;
    nr_tour_clear_progress();
    nr_stop_die();
    if (nr_output_is_lively(stderr))
        fprintf(stderr, "\r\033[Ka web server, one of whose workers is killed");
    all_survive &= nr_visit_run(&nr_tour_visit) == 0;
    nr_tour_clear_progress();
    nr_stop_die();
    if (wants_json) {
        nr_tour_print_json(done_count);
    } else {
        nr_tour_print_verdict(done_count, failed_count, nr_output_now_ns() - start_ns);
        nr_tour_print_ordeal();
        nr_tour_print_visit();
    }
    return failed_count || !all_survive ? NR_EXIT_FAILURE : NR_EXIT_OK;
}

static int nr_tour_run(int argc, char **argv)
{
    bool wants_json = false;
    int option;

    while ((option = getopt_long(argc, argv, "", nr_tour_options, NULL)) != -1) {
        if (option != 'j')
            return nr_output_hint_usage();
        wants_json = true;
    }
    if (optind < argc)
        return nr_output_complain_usage("\"%s\" is one argument too many", argv[optind]);
    nr_stop_init();
    return nr_tour_go(wants_json);
}

const struct nr_command nr_tour_command = {
    .name = "tour",
    .summary = "all techniques at work, checked and measured, in one table",
    .help = nr_tour_help,
    .run = nr_tour_run,
};
