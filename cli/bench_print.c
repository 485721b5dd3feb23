/* SPDX-License-Identifier: MIT */
#include "bench_print.h"
#include "output.h"
#include <string.h>

struct nr_bench_column {
    const char *title;
    size_t width;
};

/* The first stands left, the others right. */
static const struct nr_bench_column nr_bench_columns[] = {
    {"transport", 18}, {"mode", 5}, {"size", 7},     {"min", 7},   {"p50", 7},
    {"p90", 7},        {"p99", 7},  {"p99.9", 7},    {"max", 7},   {"rate", 8},
    {"bytes", 9},      {"cpu", 7},  {"switches", 8}, {"probe", 7}, {"ratio", 6},
};
enum { NR_BENCH_COLUMNS = sizeof nr_bench_columns / sizeof nr_bench_columns[0] };

const char *nr_bench_print_size(char text[NR_BENCH_SIZE_BYTES], size_t size_bytes)
{
    if (size_bytes >= 1024 * 1024 && size_bytes % (1024 * 1024) == 0)
        snprintf(text, NR_BENCH_SIZE_BYTES, "%zu MiB", size_bytes / 1024 / 1024);
    else if (size_bytes >= 1024 && size_bytes % 1024 == 0)
        snprintf(text, NR_BENCH_SIZE_BYTES, "%zu KiB", size_bytes / 1024);
    else
        snprintf(text, NR_BENCH_SIZE_BYTES, "%zu B", size_bytes);
    return text;
}

/* "shm 2>1 x32 loan": what differs from one to one, single and copied. */
static void nr_bench_print_label(char *text, size_t text_bytes, const struct nr_bench_row *row)
{
    const struct bench_task *task = &row->task;
    char name[NR_BENCH_NAME_BYTES], counts[32] = "", batch[16] = "", participants[16] = "";

    if (task->senders > 1 || task->receivers > 1)
        snprintf(counts, sizeof counts, " %u>%u", task->senders, task->receivers);
    if (task->batch > 1)
        snprintf(batch, sizeof batch, " x%u", task->batch);
    if (task->participants > 0)
        snprintf(participants, sizeof participants, " of %u", task->participants);
    snprintf(text, text_bytes, "%s%s%s%s%s", nr_bench_name(&row->contender, name), counts, batch,
             task->loan ? " loan" : "", participants);
}

static void nr_bench_print_cell(int column, const char *text)
{
    if (column > 0)
        fputs(" ", stdout);
    nr_output_pad(stdout, text, nr_bench_columns[column].width, column > 0);
}

/* Tenths of a nanosecond where they are seen. */
static const char *nr_bench_print_duration(char text[NR_OUTPUT_NUMBER_BYTES], double duration_ns)
{
    if (duration_ns <= 0)
        return "-";
    if (duration_ns < 99.95)
        snprintf(text, NR_OUTPUT_NUMBER_BYTES, "%.1f ns", duration_ns);
    else
        nr_output_duration(text, (int64_t)duration_ns);
    return text;
}

static const char *nr_bench_print_bytes(char text[NR_OUTPUT_NUMBER_BYTES], double bytes_per_s)
{
    static const char *const units[] = {"B/s", "kB/s", "MB/s", "GB/s"};
    int unit = 0;

    for (; bytes_per_s >= 999.5 && unit < 3; unit++)
        bytes_per_s /= 1000;
    snprintf(text, NR_OUTPUT_NUMBER_BYTES, "%.*f %s", bytes_per_s < 9.95 ? 1 : 0, bytes_per_s,
             units[unit]);
    return text;
}

void nr_bench_print_header(void)
{
    bool bold = nr_output_has_colour(stdout);

    printf(
        "Latency: one way, half a round trip (a call: there and back). Rate: messages, one way; cpu and\n"
        "switches: of all processes, for each message of the rate. Probe: a bare hand-over of the payload.\n"
        "Ratio: p50 by probe.\n\n%s",
        bold ? "\033[1m" : "");
    for (int i = 0; i < NR_BENCH_COLUMNS; i++)
        nr_bench_print_cell(i, nr_bench_columns[i].title);
    printf("%s\n", bold ? "\033[0m" : "");
}

static void nr_bench_print_numbers(const struct nr_bench_row *row)
{
    const struct nr_bench_outcome *outcome = &row->outcome;
    char text[NR_OUTPUT_NUMBER_BYTES];
    double ratio = nr_bench_row_ratio(row);
    double rate_per_s =
        row->mode == NR_BENCH_MODE_ALONE ? 1e9 / outcome->alone_ns : outcome->rate_per_s;
    int column = 3;

    for (int i = 0; i < NR_BENCH_LATENCIES; i++)
        nr_bench_print_cell(column++, nr_bench_print_duration(text, outcome->latency_ns[i]));
    nr_bench_print_cell(column++, nr_output_rate(text, rate_per_s));
    nr_bench_print_cell(column++,
                        nr_bench_print_bytes(text, rate_per_s * (double)row->task.size_bytes));
    nr_bench_print_cell(column++, nr_bench_print_duration(text, outcome->cpu_ns));
    snprintf(text, sizeof text, "%.3f", outcome->switches);
    nr_bench_print_cell(column++, text);
    nr_bench_print_cell(column++, nr_bench_print_duration(text, row->probe_ns));
    snprintf(text, sizeof text, ratio >= 99.5 ? "%.0f%s" : "%.2f%s", ratio,
             row->is_unsettled ? "~" : "");
    nr_bench_print_cell(column++, ratio > 0 ? text : "-");
    putchar('\n');
}

void nr_bench_print_row(const struct nr_bench_row *row)
{
    char text[NR_OUTPUT_NUMBER_BYTES + NR_BENCH_NAME_BYTES];

    nr_bench_print_label(text, sizeof text, row);
    nr_bench_print_cell(0, text);
    nr_bench_print_cell(1, nr_bench_mode_names[row->mode]);
    nr_bench_print_cell(2, nr_bench_print_size(text, row->task.size_bytes));
    if (row->reason[0])
        printf("  %s\n", row->reason);
    else
        nr_bench_print_numbers(row);
    fflush(stdout);
}

void nr_bench_print_progress(const struct nr_bench_row *row)
{
    char text[NR_OUTPUT_NUMBER_BYTES + NR_BENCH_NAME_BYTES], size[NR_BENCH_SIZE_BYTES];

    if (!nr_output_is_lively(stderr))
        return;
    fputs("\r\033[K", stderr);
    if (!row)
        return;
    nr_bench_print_label(text, sizeof text, row);
    fprintf(stderr, "%s, %s, %s", text, nr_bench_mode_names[row->mode],
            nr_bench_print_size(size, row->task.size_bytes));
}

static void nr_bench_print_json_outcome(struct nr_json *json, const struct nr_bench_row *row)
{
    const struct nr_bench_outcome *outcome = &row->outcome;
    bool alone = row->mode == NR_BENCH_MODE_ALONE;

    if (alone) {
        nr_json_number(json, "alone_ns", outcome->alone_ns);
        nr_json_number(json, "rate_per_s", 1e9 / outcome->alone_ns);
        return;
    }
    if (outcome->latency_ns[NR_BENCH_P50] > 0) {
        nr_json_begin(json, "latency_ns", '{');
        for (int i = 0; i < NR_BENCH_LATENCIES; i++)
            nr_json_number(json, nr_bench_latency_names[i], outcome->latency_ns[i]);
        nr_json_end(json, '}');
    }
    nr_json_number(json, "rate_per_s", outcome->rate_per_s);
    nr_json_number(json, "bytes_per_s", outcome->rate_per_s * (double)row->task.size_bytes);
    nr_json_number(json, "cpu_ns_per_message", outcome->cpu_ns);
    nr_json_number(json, "context_switches_per_message", outcome->switches);
    nr_json_number(json, "probe_ns", row->probe_ns);
    nr_json_text(json, "probe", nr_bench_probe(&row->task)->name);
    nr_json_number(json, "ratio", nr_bench_row_ratio(row));
    nr_json_number(json, "probe_spread", row->probe_spread);
    nr_json_bool(json, "settled", !row->is_unsettled);
    nr_json_integer(json, "repeats", row->repeats);
}

void nr_bench_print_json(struct nr_json *json, const struct nr_bench_row *row)
{
    static const char *const patterns[] = {"queue", "queue", "topic", "call", "cell"};
    const struct bench_task *task = &row->task;
    const struct nr_bench_contender *contender = &row->contender;
    char text[NR_BENCH_NAME_BYTES];

    nr_json_begin(json, NULL, '{');
    nr_json_text(json, "transport",
                 contender->peer ? nr_bench_name(contender, text) : contender->ours.scheme);
    nr_json_text(json, "pattern", patterns[contender->ours.pattern]);
    nr_json_text(json, "mode", nr_bench_mode_names[row->mode]);
    nr_json_integer(json, "size_bytes", (__int128)task->size_bytes);
    nr_json_integer(json, "senders", task->senders);
    nr_json_integer(json, "receivers", task->receivers);
    nr_json_bool(json, "one_to_one", contender->ours.one_to_one);
    nr_json_bool(json, "pair", contender->ours.form == BENCH_PAIR);
    nr_json_integer(json, "batch", task->batch);
    nr_json_bool(json, "loan", task->loan);
    nr_json_integer(json, "participants", task->participants);
    nr_json_begin(json, "cpu", '[');
    nr_json_integer(json, NULL, task->cpu[0]);
    nr_json_integer(json, NULL, task->cpu[1]);
    nr_json_end(json, ']');
    if (row->reason[0])
        nr_json_text(json, "error", row->reason);
    else
        nr_bench_print_json_outcome(json, row);
    nr_json_end(json, '}');
}
