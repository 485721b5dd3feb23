/* SPDX-License-Identifier: MIT */
#include "bench_compare.h"
#include "bench_print.h"
#include "bench_rounds.h"
#include "command.h"
#include "output.h"
#include "stop.h"
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NR_BENCH_COMPARE_ROUNDS = 3 };
#define NR_BENCH_COMPARE_DURATION_NS (NARU_SECOND * 8 / 100)

/* clang-format off */
static const struct nr_bench_contender nr_bench_contenders[] = {
    {.ours = {.scheme = "shm", .pattern = NARU_QUEUE, .form = BENCH_NAMED, .one_to_one = true}},
    {.ours = {.scheme = "shm", .pattern = NARU_QUEUE, .form = BENCH_NAMED}},
    {.peer = "ck", .variant = "spsc-8"},
    {.peer = "ck", .variant = "mpmc-8"},
    {.peer = "ck", .variant = "spsc-64"},
    {.peer = "ck", .variant = "mpmc-64"},
    {.peer = "boost", .variant = ""},
    {.peer = "iceoryx", .variant = ""},
    {.peer = "qb", .variant = ""},
    {.peer = "zmq", .variant = ""},
    {.peer = "nng", .variant = ""},
};
/* clang-format on */
enum { NR_BENCH_CONTENDERS = sizeof nr_bench_contenders / sizeof nr_bench_contenders[0] };

struct nr_bench_comparison {
    const struct nr_bench_options *options;
    struct nr_json json;
    unsigned measured_count, failed_count, peers_count;
};

/* In the build tree they are beside this program's directory. */
void nr_bench_find_peers(void)
{
    static char directory[PATH_MAX + 32];
    char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);

    if (nr_bench_peers_directory || length < 0)
        return;
    path[length] = '\0';
    snprintf(directory, sizeof directory, "%s/../bench/peers", dirname(path));
    nr_bench_peers_directory = directory;
}

static void nr_bench_compare_progress(const struct nr_bench_entry *entry)
{
    struct nr_bench_row row = {
        .contender = entry->contender,
        .task = entry->task,
        .mode = entry->task.wait == BENCH_SPIN ? NR_BENCH_MODE_SPIN : NR_BENCH_MODE_BLOCK,
    };

    nr_bench_print_progress(&row);
}

/* -- telling --------------------------------------------------------------------------------------------- */

static const char nr_bench_compare_heading[] =
    "Latency: one way, half a round trip. By probe: p50 by that of a bare hand-over of the payload between\n"
    "the same cores, of each round. By naru: time by naru's, so more is slower, of p50 and of a message of\n"
    "the rate. Medians of rounds in which all took turns.\n";

static void nr_bench_compare_cells(const char *const cells[], int count)
{
    static const size_t widths[] = {14, 5, 7, 4, 8, 8, 8, 8, 8, 9, 8};

    for (int i = 0; i < count; i++) {
        fputs(i ? " " : "", stdout);
        nr_output_pad(stdout, cells[i], widths[i], i > 0);
    }
    putchar('\n');
}

static void nr_bench_compare_header(void)
{
    static const char *const titles[] = {"",      "mode",     "size",    "s>r",  "p50",    "p99",
                                         "probe", "by probe", "by naru", "rate", "by naru"};

    printf("%s\n", nr_bench_compare_heading);
    nr_bench_compare_cells(titles, 11);
}

static void nr_bench_compare_times(char text[NR_OUTPUT_NUMBER_BYTES], double value)
{
    if (value > 0)
        snprintf(text, NR_OUTPUT_NUMBER_BYTES, "%.*f x", value < 99.5 ? 2 : 0, value);
    else
        snprintf(text, NR_OUTPUT_NUMBER_BYTES, "-");
}

static void nr_bench_compare_duration(char text[NR_OUTPUT_NUMBER_BYTES], double duration_ns)
{
    if (duration_ns > 0)
        nr_output_duration(text, (int64_t)(duration_ns + 0.5));
    else
        snprintf(text, NR_OUTPUT_NUMBER_BYTES, "-");
}

static double nr_bench_compare_by(double value, double reference)
{
    return reference > 0 ? value / reference : 0;
}

static void nr_bench_compare_row(const struct nr_bench_entry *entry,
                                 const struct nr_bench_entry *reference)
{
    char name[NR_BENCH_NAME_BYTES], size[NR_BENCH_SIZE_BYTES], counts[32];
    char texts[7][NR_OUTPUT_NUMBER_BYTES];
    const struct nr_bench_outcome *outcome = &entry->outcome, *ours = &reference->outcome;
    double p50_ns = outcome->latency_ns[NR_BENCH_P50];

    snprintf(counts, sizeof counts, "%u>%u", entry->task.senders, entry->task.receivers);
    nr_bench_compare_duration(texts[0], p50_ns);
    nr_bench_compare_duration(texts[1], outcome->latency_ns[NR_BENCH_P99]);
    nr_bench_compare_duration(texts[2], entry->probe_ns);
    nr_bench_compare_times(texts[3], entry->ratio);
    nr_bench_compare_times(texts[4], nr_bench_compare_by(p50_ns, ours->latency_ns[NR_BENCH_P50]));
    nr_output_rate(texts[5], outcome->rate_per_s);
    nr_bench_compare_times(texts[6], nr_bench_compare_by(ours->rate_per_s, outcome->rate_per_s));
    const char *cells[] = {nr_bench_name(&entry->contender, name),
                           entry->task.wait == BENCH_SPIN ? "spin" : "block",
                           nr_bench_print_size(size, entry->task.size_bytes),
                           counts,
                           texts[0],
                           texts[1],
                           texts[2],
                           texts[3],
                           texts[4],
                           texts[5],
                           texts[6]};
    nr_bench_compare_cells(cells, 11);
}

static void nr_bench_compare_json(struct nr_json *json, const struct nr_bench_entry *entry)
{
    struct nr_bench_row row = {
        .contender = entry->contender,
        .mode = entry->task.wait == BENCH_SPIN ? NR_BENCH_MODE_SPIN : NR_BENCH_MODE_BLOCK,
        .task = entry->task,
        .outcome = entry->outcome,
        .probe_ns = entry->probe_ns,
    };

    snprintf(row.reason, sizeof row.reason, "%s", entry->code ? entry->reason : "");
    nr_bench_print_json(json, &row);
}

static void nr_bench_compare_tell(struct nr_bench_comparison *comparison,
                                  const struct nr_bench_entry *entries, unsigned count)
{
    const struct nr_bench_entry *reference = &entries[0];

    for (unsigned i = 0; i < count; i++) {
        const struct nr_bench_entry *entry = &entries[i];
        char name[NR_BENCH_NAME_BYTES];

        if (entry->code == NR_BENCH_CANNOT)
            continue;
        comparison->failed_count += entry->code < 0;
        comparison->measured_count += entry->code == 0;
        comparison->peers_count += entry->code == 0 && entry->contender.peer;
        if (comparison->options->json)
            nr_bench_compare_json(&comparison->json, entry);
        else if (entry->code < 0)
            printf("%s: %s\n", nr_bench_name(&entry->contender, name), entry->reason);
        else
            nr_bench_compare_row(entry, reference);
    }
    if (!comparison->options->json)
        putchar('\n');
    fflush(stdout);
}

/* -- a size in a mode ------------------------------------------------------------------------------------- */

static void nr_bench_compare_case(struct nr_bench_comparison *comparison, enum nr_bench_mode mode,
                                  size_t size_bytes, unsigned senders)
{
    const struct nr_bench_options *options = comparison->options;
    static struct nr_bench_entry entries[NR_BENCH_CONTENDERS];
    unsigned count = 0;

    for (int i = 0; i < NR_BENCH_CONTENDERS; i++) {
        const struct nr_bench_contender *contender = &nr_bench_contenders[i];
        if (senders > 1 && contender->ours.one_to_one)
            continue;
        entries[count] = (struct nr_bench_entry){
            .contender = *contender,
            .task = nr_bench_options_task(options, mode, size_bytes),
            .latency = senders == 1,
            .rate = true,
        };
        entries[count].task.senders = senders;
        if (!options->duration_ns)
            entries[count].task.duration_ns = NR_BENCH_COMPARE_DURATION_NS;
        count++;
    }
    nr_bench_rounds(entries, count, NR_BENCH_COMPARE_ROUNDS, nr_bench_compare_progress);
    nr_bench_print_progress(NULL);
    if (!nr_stop_signal())
        nr_bench_compare_tell(comparison, entries, count);
}

int nr_bench_compare(const struct nr_bench_options *options)
{
    struct nr_bench_comparison comparison = {.options = options, .json = {.file = stdout}};

    nr_bench_find_peers();
    if (options->json)
        nr_json_begin(&comparison.json, NULL, '[');
    else
        nr_bench_compare_header();
    for (unsigned m = 0; m < options->modes_count; m++)
        for (unsigned s = 0; s < options->sizes_count && !nr_stop_signal(); s++)
            nr_bench_compare_case(&comparison, options->modes[m], options->sizes[s], 1);
    if (options->modes[0] == NR_BENCH_MODE_SPIN && !nr_stop_signal())
        nr_bench_compare_case(&comparison, NR_BENCH_MODE_SPIN, 64,
                              options->senders > 1 ? options->senders : 2);
    nr_stop_die();
    if (options->json) {
        nr_json_end(&comparison.json, ']');
        putchar('\n');
    }
    if (comparison.peers_count == 0)
        nr_output_complain(
            "there are no drivers of other libraries in %s; `make compare` builds them",
            nr_bench_peers_directory);
    return comparison.failed_count || !comparison.peers_count ? NR_EXIT_FAILURE : NR_EXIT_OK;
}
