/* SPDX-License-Identifier: MIT */
/*
 * bench_figures -- `naru bench --figures`: what shm:// is to reach, and whether it does
 *
 * Contents   the entries that are measured - the goals - the special ones - telling
 * What       All entries take turns for a number of rounds, each beside its probe. A goal is one number made of
 *            their medians, and a bound. What can't be measured (a peer that isn't built, a pattern that isn't there)
 *            is told so.
 */
#include "bench_compare.h"
#include "bench_print.h"
#include "bench_rounds.h"
#include "bench_special.h"
#include "command.h"
#include "output.h"
#include "stop.h"
#include <naru/transport.h>
#include <stdio.h>
#include <string.h>

enum { NR_BENCH_FIGURES_ROUNDS = 7, NR_BENCH_FIGURES_MIB = 1024 * 1024 };
#define NR_BENCH_FIGURES_DURATION_NS (NARU_SECOND / 10)
#define NR_BENCH_FIGURES_IDLE_NS     (10 * NARU_SECOND)

/* -- the entries that are measured ------------------------------------------------------------------------- */

enum nr_bench_figure_entry {
    NR_ONE_8,
    NR_ONE_48,
    NR_ONE_64,
    NR_ONE_1K,
    NR_ONE_64K,
    NR_ONE_8_BATCH,
    NR_ONE_64_BATCH,
    NR_MANY_64,
    NR_MANY_64_TWO,
    NR_LOAN_64,
    NR_LOAN_1M,
    NR_BLOCK_ONE,
    NR_BLOCK_MANY,
    NR_BLOCK_16,
    NR_BLOCK_256,
    NR_EPOLL_ONE,
    NR_EPOLL_MANY,
    NR_CALL,
    NR_TOPIC_1,
    NR_TOPIC_8,
    NR_ALONE,
    NR_CK_SPSC_8,
    NR_CK_SPSC_64,
    NR_CK_MPMC_64,
    NR_CK_MPMC_64_TWO,
    NR_BOOST_64_TWO,
    NR_FIGURE_ENTRIES,
};

#define NR_SHM(kind) .contender.ours = {.scheme = "shm", .pattern = kind, .form = BENCH_NAMED}
#define NR_ONE                                                                                     \
    .contender.ours = {                                                                            \
        .scheme = "shm", .pattern = NARU_QUEUE, .form = BENCH_NAMED, .one_to_one = true}

/* Of the tasks only what differs from one sender, one receiver, a message at a time, spinning. */
static const struct nr_bench_entry nr_bench_figure_entries[NR_FIGURE_ENTRIES] = {
    [NR_ONE_8] = {NR_ONE, .task = {.size_bytes = 8}, .latency = true, .rate = true},
    [NR_ONE_48] = {NR_ONE, .task = {.size_bytes = 48}, .latency = true},
    [NR_ONE_64] = {NR_ONE, .task = {.size_bytes = 64}, .latency = true, .rate = true},
    [NR_ONE_1K] = {NR_ONE, .task = {.size_bytes = 1024}, .latency = true},
    [NR_ONE_64K] = {NR_ONE, .task = {.size_bytes = 65536}, .latency = true},
    [NR_ONE_8_BATCH] = {NR_ONE, .task = {.size_bytes = 8, .batch = 32}, .rate = true},
    [NR_ONE_64_BATCH] = {NR_ONE, .task = {.size_bytes = 64, .batch = 32}, .rate = true},
    [NR_MANY_64] = {NR_SHM(NARU_QUEUE), .task = {.size_bytes = 64}, .latency = true, .rate = true},
    [NR_MANY_64_TWO] = {NR_SHM(NARU_QUEUE), .task = {.size_bytes = 64, .senders = 2}, .rate = true},
    [NR_LOAN_64] = {NR_SHM(NARU_QUEUE), .task = {.size_bytes = 64, .loan = true}, .latency = true},
    [NR_LOAN_1M] = {NR_SHM(NARU_QUEUE), .task = {.size_bytes = NR_BENCH_FIGURES_MIB, .loan = true},
                    .latency = true},
    [NR_BLOCK_ONE] = {NR_ONE, .task = {.size_bytes = 64, .wait = BENCH_BLOCK}, .latency = true},
    [NR_BLOCK_MANY] = {NR_SHM(NARU_QUEUE), .task = {.size_bytes = 64, .wait = BENCH_BLOCK},
                       .latency = true},
    [NR_BLOCK_16] = {NR_SHM(NARU_QUEUE),
                     .task = {.size_bytes = 64, .wait = BENCH_BLOCK, .participants = 16},
                     .latency = true},
    [NR_BLOCK_256] = {NR_SHM(NARU_QUEUE),
                      .task = {.size_bytes = 64, .wait = BENCH_BLOCK, .participants = 256},
                      .latency = true},
    [NR_EPOLL_ONE] = {NR_ONE, .task = {.size_bytes = 64, .wait = BENCH_EPOLL}, .latency = true},
    [NR_EPOLL_MANY] = {NR_SHM(NARU_QUEUE), .task = {.size_bytes = 64, .wait = BENCH_EPOLL},
                       .latency = true},
    [NR_CALL] = {NR_SHM(NARU_CALL), .task = {.size_bytes = 64}, .latency = true},
    [NR_TOPIC_1] = {NR_SHM(NARU_TOPIC), .task = {.size_bytes = 64}, .latency = true},
    [NR_TOPIC_8] = {NR_SHM(NARU_TOPIC), .task = {.size_bytes = 64, .receivers = 8},
                    .latency = true},
    [NR_ALONE] = {NR_SHM(NARU_QUEUE), .task = {.size_bytes = 64, .wait = BENCH_BLOCK},
                  .alone = true},
    [NR_CK_SPSC_8] = {{.peer = "ck", .variant = "spsc-8"}, .task = {.size_bytes = 8}, .rate = true},
    [NR_CK_SPSC_64] = {{.peer = "ck", .variant = "spsc-64"},
                       .task = {.size_bytes = 64},
                       .latency = true,
                       .rate = true},
    [NR_CK_MPMC_64] = {{.peer = "ck", .variant = "mpmc-64"},
                       .task = {.size_bytes = 64},
                       .latency = true,
                       .rate = true},
    [NR_CK_MPMC_64_TWO] = {{.peer = "ck", .variant = "mpmc-64"},
                           .task = {.size_bytes = 64, .senders = 2},
                           .rate = true},
    [NR_BOOST_64_TWO] = {{.peer = "boost", .variant = ""},
                         .task = {.size_bytes = 64, .senders = 2},
                         .rate = true},
};

static bool nr_bench_figure_is_supported(const struct nr_bench_contender *contender)
{
    const struct naru_transport_row *row;

    for (size_t i = 0; !contender->peer && (row = naru_transport_row(i)); i++)
        if (row->pattern == contender->ours.pattern &&
            strcmp(row->scheme, contender->ours.scheme) == 0)
            return row->supported;
    return true;
}

static void nr_bench_figure_prepare(struct nr_bench_entry *entry,
                                    const struct nr_bench_options *options)
{
    bool spins = entry->task.wait == BENCH_SPIN;
    const int *allowed = options->cpu[0] >= 0 ? options->cpu : options->allowed_cpu;

    if (entry->task.senders == 0)
        entry->task.senders = 1;
    if (entry->task.receivers == 0)
        entry->task.receivers = 1;
    if (entry->task.batch == 0)
        entry->task.batch = 1;
    entry->task.cpu[0] = allowed[0];
    entry->task.cpu[1] = spins ? allowed[1] : allowed[0];
    entry->task.duration_ns =
        options->duration_ns ? options->duration_ns : NR_BENCH_FIGURES_DURATION_NS;
    if (!nr_bench_figure_is_supported(&entry->contender)) {
        entry->code = NR_BENCH_CANNOT;
        snprintf(entry->reason, sizeof entry->reason, "not in this version");
    }
}

/* -- the goals ---------------------------------------------------------------------------------------------- */

enum nr_bench_quantity {
    NR_BY_PROBE,  /* the ratio of the entry */
    NR_TAIL,      /* its p99 by its p50 */
    NR_TIME_BY,   /* its p50 by that of `other` */
    NR_RATE_BY,   /* its rate by that of `other` */
    NR_TIME_EACH, /* its p50 by eight times that of `other` */
    NR_TIME_ALONE,
};

/* clang-format off */
static const struct nr_bench_goal {
    const char *what;
    enum nr_bench_figure_entry entry;
    enum nr_bench_quantity quantity;
    enum nr_bench_figure_entry other;
    double goal, stretch; /* stretch 0: none. Rates are to be at least that, all else at most. */
} nr_bench_goals[] = {
    {"one-way p50, one-to-one, spin, 8 B, by probe", NR_ONE_8, NR_BY_PROBE, 0, 1.5, 1.3},
    {"same, 48 B", NR_ONE_48, NR_BY_PROBE, 0, 1.5, 1.3},
    {"same, 64 B", NR_ONE_64, NR_BY_PROBE, 0, 1.6, 1.4},
    {"same, 1 KiB", NR_ONE_1K, NR_BY_PROBE, 0, 1.4, 1.2},
    {"same, 64 KiB", NR_ONE_64K, NR_BY_PROBE, 0, 0.45, 0.35},
    {"p99 by p50, one-to-one, 8 B", NR_ONE_8, NR_TAIL, 0, 2, 1.6},
    {"p99 by p50, one-to-one, 64 B", NR_ONE_64, NR_TAIL, 0, 2, 1.6},
    {"p99 by p50, one-to-one, 1 KiB", NR_ONE_1K, NR_TAIL, 0, 2, 1.6},
    {"p99 by p50, one-to-one, 64 KiB", NR_ONE_64K, NR_TAIL, 0, 2, 1.6},
    {"p99 by p50, many-to-many, 64 B", NR_MANY_64, NR_TAIL, 0, 2, 1.6},
    {"many-to-many used one-to-one, 64 B, by probe", NR_MANY_64, NR_BY_PROBE, 0, 1.9, 1.6},
    {"same, by ck's many-to-many ring", NR_MANY_64, NR_TIME_BY, NR_CK_MPMC_64, 1, 0},
    {"rate one-to-one, 8 B, by ck SPSC of pointers", NR_ONE_8, NR_RATE_BY, NR_CK_SPSC_8, 1, 1.5},
    {"same, batches of 32", NR_ONE_8_BATCH, NR_RATE_BY, NR_CK_SPSC_8, 2, 3},
    {"rate one-to-one, 64 B, by ck SPSC of 64-byte entries", NR_ONE_64, NR_RATE_BY, NR_CK_SPSC_64, 1.3, 2},
    {"same, batches of 32", NR_ONE_64_BATCH, NR_RATE_BY, NR_CK_SPSC_64, 1.6, 2},
    {"rate many-to-many, 64 B, 1 to 1, by ck MPMC of 64-byte entries", NR_MANY_64, NR_RATE_BY, NR_CK_MPMC_64, 1, 1.5},
    {"same, 2 senders and 1 receiver on 2 cores, by ck MPMC", NR_MANY_64_TWO, NR_RATE_BY, NR_CK_MPMC_64_TWO, 1, 1.5},
    {"same, by Boost message_queue", NR_MANY_64_TWO, NR_RATE_BY, NR_BOOST_64_TWO, 1, 1.5},
    {"1 MiB loan, untouched, by the 64 B loan", NR_LOAN_1M, NR_TIME_BY, NR_LOAN_64, 1.3, 0},
    {"blocking, one core, 64 B, one-to-one, by futex ping-pong", NR_BLOCK_ONE, NR_BY_PROBE, 0, 1.15, 1.1},
    {"same, many-to-many", NR_BLOCK_MANY, NR_BY_PROBE, 0, 1.15, 1.1},
    {"same, 16 participants", NR_BLOCK_16, NR_BY_PROBE, 0, 1.3, 1.1},
    {"same, 256 participants", NR_BLOCK_256, NR_BY_PROBE, 0, 1.3, 1.1},
    {"descriptor in epoll, one core, 64 B, one-to-one, by eventfd + epoll", NR_EPOLL_ONE, NR_BY_PROBE, 0, 1.3, 0},
    {"same, many-to-many", NR_EPOLL_MANY, NR_BY_PROBE, 0, 1.3, 0},
    {"call round trip, 64 B, spin, by one way of the ring", NR_CALL, NR_TIME_BY, NR_MANY_64, 2.3, 0},
    {"topic with 1 subscriber, 64 B, by queue", NR_TOPIC_1, NR_TIME_BY, NR_MANY_64, 1.2, 0},
    {"topic with 8 subscribers, by 8 times one with 1", NR_TOPIC_8, NR_TIME_EACH, NR_TOPIC_1, 1, 0},
    {"send + recv in one thread, many-to-many, 64 B, ns", NR_ALONE, NR_TIME_ALONE, 0, 10, 7},
};
/* clang-format on */
enum { NR_BENCH_GOALS = sizeof nr_bench_goals / sizeof nr_bench_goals[0] };

struct nr_bench_figure {
    const char *what;
    double value, goal, stretch;
    bool at_least;
    const char *unit; /* "" of a ratio */
    char detail[160];
    const char *reason; /* why there is no value, or NULL */
};

static double nr_bench_figure_value(const struct nr_bench_goal *goal,
                                    const struct nr_bench_entry *entry,
                                    const struct nr_bench_entry *other)
{
    const double *latency_ns = entry->outcome.latency_ns;
    double other_ns = other->outcome.latency_ns[NR_BENCH_P50];

    switch (goal->quantity) {
    case NR_BY_PROBE:
        return entry->ratio;
    case NR_TAIL:
        return latency_ns[NR_BENCH_P99] / latency_ns[NR_BENCH_P50];
    case NR_TIME_BY:
        return latency_ns[NR_BENCH_P50] / other_ns;
    case NR_TIME_EACH:
        return latency_ns[NR_BENCH_P50] / (8 * other_ns);
    case NR_RATE_BY:
        return entry->outcome.rate_per_s / other->outcome.rate_per_s;
    default:
        return entry->outcome.alone_ns;
    }
}

/* "152 ns; probe 62 ns", "24.1 M/s; 45.0 M/s" */
static void nr_bench_figure_detail(struct nr_bench_figure *figure, const struct nr_bench_goal *goal,
                                   const struct nr_bench_entry *entry,
                                   const struct nr_bench_entry *other)
{
    const double *latency_ns = entry->outcome.latency_ns;
    bool is_rate = goal->quantity == NR_RATE_BY;
    char own[NR_OUTPUT_NUMBER_BYTES], beside[NR_OUTPUT_NUMBER_BYTES];

    if (goal->quantity == NR_TIME_ALONE)
        return;
    double beside_ns = goal->quantity == NR_BY_PROBE ? entry->probe_ns
                       : goal->quantity == NR_TAIL   ? latency_ns[NR_BENCH_P99]
                                                     : other->outcome.latency_ns[NR_BENCH_P50];
    if (is_rate) {
        nr_output_rate(own, entry->outcome.rate_per_s);
        nr_output_rate(beside, other->outcome.rate_per_s);
    } else {
        nr_output_duration(own, (int64_t)(latency_ns[NR_BENCH_P50] + 0.5));
        nr_output_duration(beside, (int64_t)(beside_ns + 0.5));
    }
    snprintf(figure->detail, sizeof figure->detail, "%s; %s%s", own,
             goal->quantity == NR_BY_PROBE ? "probe "
             : goal->quantity == NR_TAIL   ? "p99 "
                                           : "",
             beside);
}

static struct nr_bench_figure nr_bench_figure_of(const struct nr_bench_goal *goal,
                                                 const struct nr_bench_entry *entries)
{
    const struct nr_bench_entry *entry = &entries[goal->entry], *other = &entries[goal->other];
    bool needs_other = goal->quantity == NR_TIME_BY || goal->quantity == NR_RATE_BY ||
                       goal->quantity == NR_TIME_EACH;
    struct nr_bench_figure figure = {
        .what = goal->what,
        .goal = goal->goal,
        .stretch = goal->stretch,
        .at_least = goal->quantity == NR_RATE_BY,
        .unit = goal->quantity == NR_TIME_ALONE ? "ns" : "",
        .reason = entry->code                  ? entry->reason
                  : needs_other && other->code ? other->reason
                                               : NULL,
    };

    if (!figure.reason) {
        figure.value = nr_bench_figure_value(goal, entry, other);
        nr_bench_figure_detail(&figure, goal, entry, other);
    }
    return figure;
}

/* -- telling ------------------------------------------------------------------------------------------------- */

struct nr_bench_telling {
    struct nr_json json;
    bool wants_json;
    unsigned met_count, missed_count, absent_count;
};

static bool nr_bench_figure_meets(const struct nr_bench_figure *figure, double bound)
{
    return figure->at_least ? figure->value >= bound : figure->value <= bound;
}

static const char *nr_bench_figure_verdict(const struct nr_bench_figure *figure)
{
    if (figure->reason)
        return figure->reason;
    if (figure->stretch != 0 && nr_bench_figure_meets(figure, figure->stretch))
        return "met, stretch too";
    return nr_bench_figure_meets(figure, figure->goal) ? "met" : "missed";
}

static void nr_bench_figure_tell(struct nr_bench_telling *telling,
                                 const struct nr_bench_figure *figure)
{
    char value[48] = "", stretch[32] = "";
    const char *sign = figure->at_least ? ">= " : "<= ";

    telling->absent_count += figure->reason != NULL;
    if (!figure->reason) {
        bool met = nr_bench_figure_meets(figure, figure->goal);
        telling->met_count += met;
        telling->missed_count += !met;
    }
    if (telling->wants_json) {
        struct nr_json *json = &telling->json;
        nr_json_begin(json, NULL, '{');
        nr_json_text(json, "what", figure->what);
        if (!figure->reason)
            nr_json_number(json, "value", figure->value);
        nr_json_text(json, "unit", figure->unit);
        nr_json_number(json, "goal", figure->goal);
        if (figure->stretch != 0)
            nr_json_number(json, "stretch", figure->stretch);
        nr_json_bool(json, "at_least", figure->at_least);
        nr_json_text(json, "detail", figure->detail);
        nr_json_text(json, "verdict", nr_bench_figure_verdict(figure));
        nr_json_end(json, '}');
        return;
    }
    const char *gap = figure->unit[0] ? " " : "";
    if (!figure->reason)
        snprintf(value, sizeof value, "%.2f%s%s", figure->value, gap, figure->unit);
    if (figure->stretch != 0)
        snprintf(stretch, sizeof stretch, "%s%g%s%s", sign, figure->stretch, gap, figure->unit);
    printf("| %s | %s | %s | %s%g%s%s | %s | %s |\n", figure->what, value, figure->detail, sign,
           figure->goal, gap, figure->unit, stretch, nr_bench_figure_verdict(figure));
    fflush(stdout);
}

/* -- the special ones ----------------------------------------------------------------------------------------- */

static void nr_bench_figure_tell_special(struct nr_bench_telling *telling, const char *what,
                                         double value, const char *unit, double goal,
                                         const char *reason)
{
    struct nr_bench_figure figure = {
        .what = what, .value = value, .unit = unit, .goal = goal, .reason = reason};

    nr_bench_figure_tell(telling, &figure);
}

static void nr_bench_figure_specials(struct nr_bench_telling *telling,
                                     const struct nr_bench_options *options)
{
    struct nr_bench_quantiles kill = {0}, create = {0}, attach = {0};
    char text[BENCH_ERROR_BYTES];
    double switches = 0;
    int64_t idle_ns = options->duration_ns ? 10 * options->duration_ns : NR_BENCH_FIGURES_IDLE_NS;

    const char *reason = nr_bench_special_kill(&kill, text) < 0 ? text : NULL;
    nr_bench_figure_tell_special(telling, "SIGKILL to repaired, sleeping peer, p50",
                                 kill.p50_ns / 1e6, "ms", 0.3, reason);
    nr_bench_figure_tell_special(telling, "same, p99", kill.p99_ns / 1e6, "ms", 2, reason);
    reason = nr_bench_special_open(&create, &attach, text) < 0 ? text : NULL;
    nr_bench_figure_tell_special(telling, "attach, p50", attach.p50_ns / 1e3, "us", 50, reason);
    nr_bench_figure_tell_special(telling, "create 64 slots of 64 B, p50", create.p50_ns / 1e3, "us",
                                 150, reason);
    reason = nr_bench_special_idle(&switches, idle_ns, text) < 0 ? text : NULL;
    nr_bench_figure_tell_special(telling, "idle endpoint, ten seconds, context switches", switches,
                                 "", 0, reason);
}

static void nr_bench_figure_progress(const struct nr_bench_entry *entry)
{
    struct nr_bench_row row = {.contender = entry->contender, .task = entry->task};

    row.mode = (enum nr_bench_mode)entry->task.wait;
    nr_bench_print_progress(&row);
}

int nr_bench_figures(const struct nr_bench_options *options)
{
    static struct nr_bench_entry entries[NR_FIGURE_ENTRIES];
    struct nr_bench_telling telling = {.json = {.file = stdout}, .wants_json = options->json};

    if (options->cpu[0] >= 0 ? options->cpu[0] == options->cpu[1] : options->allowed_cpu[1] < 0) {
        nr_output_complain("--figures needs two cores");
        return NR_EXIT_FAILURE;
    }
    nr_bench_find_peers();
    memcpy(entries, nr_bench_figure_entries, sizeof entries);
    for (int i = 0; i < NR_FIGURE_ENTRIES; i++)
        nr_bench_figure_prepare(&entries[i], options);
    nr_bench_rounds(entries, NR_FIGURE_ENTRIES, NR_BENCH_FIGURES_ROUNDS, nr_bench_figure_progress);
    nr_bench_print_progress(NULL);
    nr_stop_die();
    if (options->json)
        nr_json_begin(&telling.json, NULL, '[');
    else
        printf("| what | value | measured | goal | stretch | |\n|:--|--:|:--|--:|--:|:--|\n");
    for (int i = 0; i < NR_BENCH_GOALS; i++) {
        struct nr_bench_figure figure = nr_bench_figure_of(&nr_bench_goals[i], entries);
        nr_bench_figure_tell(&telling, &figure);
    }
    nr_bench_figure_specials(&telling, options);
    nr_stop_die();
    if (options->json) {
        nr_json_end(&telling.json, ']');
        putchar('\n');
    } else {
        printf("\n%u met, %u missed, %u not measured; medians of %d rounds\n", telling.met_count,
               telling.missed_count, telling.absent_count, NR_BENCH_FIGURES_ROUNDS);
    }
    return NR_EXIT_OK;
}
