/* SPDX-License-Identifier: MIT */
/*
 * transports -- what each transport costs beside a bare loop on the kernel's primitive
 *
 * What       For each row and size: rounds of bare, naru, bare, naru, ... (duel.h), both processes on one
 *            core, all calls blocking. Shown are the medians of the rounds, and as ratio the median of the
 *            rounds' own ratios, naru's time over bare's: what disturbs the machine for a while meets both.
 * Noise      --statistic quartile takes the lower quartile of the rounds of each side instead, and the ratio
 *            of these: for a machine that others use meanwhile.
 */
#include "bare.h"
#include "ours.h"
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BENCH_ROUNDS_MAX = 201, BENCH_FIGURES = 4 };

/* clang-format off */
static const struct bench_row {
    const char *name;
    struct bench_ours naru;
    const struct bench_contestant *bare;
    double goal; /* 0: none, for information */
    bool wants_two_cores;
} bench_rows[] = {
    {"pipe://N", {.scheme = "pipe", .form = BENCH_INHERITED}, &bench_bare_pipe, 1.15},
    {"pipe://N", {.scheme = "pipe", .form = BENCH_INHERITED}, &bench_bare_packet_pipe},
    {"pipe:// pair", {.scheme = "pipe", .form = BENCH_PAIR}, &bench_bare_pipe},
    {"fifo:///path", {.scheme = "fifo", .form = BENCH_NAMED}, &bench_bare_fifo, 1.15},
    {"mq://name", {.scheme = "mq", .form = BENCH_NAMED}, &bench_bare_mq, 1.10},
    {"mq:// pair", {.scheme = "mq", .form = BENCH_PAIR}, &bench_bare_mq},
    {"sysv://key", {.scheme = "sysv", .form = BENCH_NAMED}, &bench_bare_sysv, 1.10},
    {"signal://pid", {.scheme = "signal", .form = BENCH_SIGNAL}, &bench_bare_signal, 1.10},
    {"unix:///path", {.scheme = "unix", .form = BENCH_CONNECTION}, &bench_bare_seqpacket, 1.10},
    {"unix:///path", {.scheme = "unix", .form = BENCH_CONNECTION}, &bench_bare_unix_stream},
    {"unix:// pair", {.scheme = "unix", .form = BENCH_PAIR}, &bench_bare_seqpacket},
    {"abstract://name", {.scheme = "abstract", .form = BENCH_CONNECTION}, &bench_bare_seqpacket, 1.10},
    {"tcp://, unacknowledged", {.scheme = "tcp", .form = BENCH_CONNECTION, .acknowledge = NARU_UNACKNOWLEDGED},
     &bench_bare_tcp, 1.15},
    {"tcp://, acknowledged", {.scheme = "tcp", .form = BENCH_CONNECTION}, &bench_bare_tcp},
    {"shm://name", {.scheme = "shm", .form = BENCH_NAMED}, &bench_bare_futex},
    {"shm://name, one to one", {.scheme = "shm", .form = BENCH_NAMED, .one_to_one = true}, &bench_bare_futex},
    {"shm:// pair", {.scheme = "shm", .form = BENCH_PAIR}, &bench_bare_futex},
    {"shm://name", {.scheme = "shm", .form = BENCH_NAMED}, &bench_bare_cache_line, .wants_two_cores = true},
    {"shm://name, one to one", {.scheme = "shm", .form = BENCH_NAMED, .one_to_one = true}, &bench_bare_cache_line,
     .wants_two_cores = true},
    {"file:///path", {.scheme = "file", .form = BENCH_NAMED}, &bench_bare_file},
};
/* clang-format on */
enum { BENCH_ROWS_COUNT = sizeof bench_rows / sizeof bench_rows[0] };

struct bench_settings {
    const char *transport; /* NULL: all */
    size_t sizes[2];
    size_t sizes_count;
    int rounds;
    double seconds;
    int cpu[2]; /* the second: -1, same as the first */
    bool json, by_quartile;
    double rank;
    char error[BENCH_ERROR_BYTES];
};

/* The figures of a row, by index: all of them times, so that less is better. A goal for the rate is judged by
   BENCH_CPU, which is the same on a quiet machine. */
enum bench_figure { BENCH_P50, BENCH_P99, BENCH_MESSAGE, BENCH_CPU };

struct bench_rounds {
    double values[BENCH_FIGURES][BENCH_ROUNDS_MAX];
};

struct bench_outcome {
    double bare[BENCH_FIGURES], naru[BENCH_FIGURES], ratio[BENCH_FIGURES];
};

static const char bench_help[] =
    "Usage: bench-transports [OPTION]...\n"
    "\n"
    "Measures each transport beside a bare loop on the kernel's primitive: one-way latency (half a round\n"
    "trip) and the rate of a stream, two processes that block, on one core.\n"
    "\n"
    "  --transport NAME    only this one: pipe fifo mq sysv signal unix abstract tcp shm file\n"
    "  --size BYTES        only this size, up to 4088 (default: 64 and 3584; signal: always 8)\n"
    "  --rounds N          bare and naru take turns so often; odd (default 7)\n"
    "  --seconds S         about how long one measurement takes (default 0.1)\n"
    "  --cpu N[,M]         where server and client are pinned (default: both on the present one).\n"
    "                      With two cores only shm is measured, beside a ring that spins.\n"
    "  --statistic NAME    of the rounds: median (default) or quartile, the lower one, against noise\n"
    "  --json              one object for each row\n";

/* -- measuring ------------------------------------------------------------------------------------ */

/* The latency, and then the rate. */
static int bench_run(struct bench_settings *settings, const struct bench_contestant *contestant,
                     struct bench_task task, struct bench_rounds *ret, int round)
{
    static struct bench_result result;

    task.measure = BENCH_LATENCY;
    if (bench_duel_run(contestant, &task, &result, settings->error) < 0)
        return -1;
    ret->values[BENCH_P50][round] = bench_histogram_rank(&result.round_trips, 0.50) / 2;
    ret->values[BENCH_P99][round] = bench_histogram_rank(&result.round_trips, 0.99) / 2;
    task.measure = BENCH_RATE;
    if (bench_duel_run(contestant, &task, &result, settings->error) < 0)
        return -1;
    ret->values[BENCH_MESSAGE][round] = result.window_ns / result.messages;
    ret->values[BENCH_CPU][round] = result.cpu_ns / result.messages;
    return 0;
}

static int bench_run_ours(struct bench_settings *settings, const struct bench_row *row,
                          const struct bench_task *task, struct bench_rounds *ret, int round)
{
    struct bench_ours ours = row->naru;
    int result = bench_ours_init(&ours, task);

    ours.pattern = NARU_QUEUE;
    if (result < 0)
        snprintf(settings->error, sizeof settings->error, "no name: %s", strerror(-result));
    else
        result = bench_run(settings, &ours.contestant, *task, ret, round);
    bench_ours_deinit(&ours);
    return result;
}

static void bench_judge(const struct bench_settings *settings, struct bench_rounds *bare,
                        struct bench_rounds *naru, struct bench_outcome *ret)
{
    size_t count = (size_t)settings->rounds;

    for (int figure = 0; figure < BENCH_FIGURES; figure++) {
        double ratios[BENCH_ROUNDS_MAX];
        for (size_t i = 0; i < count; i++)
            ratios[i] = naru->values[figure][i] / bare->values[figure][i];
        ret->bare[figure] = bench_rank(bare->values[figure], count, settings->rank);
        ret->naru[figure] = bench_rank(naru->values[figure], count, settings->rank);
        ret->ratio[figure] = settings->by_quartile ? ret->naru[figure] / ret->bare[figure]
                                                   : bench_rank(ratios, count, 0.5);
    }
}

static int bench_measure(struct bench_settings *settings, const struct bench_row *row,
                         size_t size_bytes, struct bench_outcome *ret)
{
    static struct bench_rounds bare, naru;
    struct bench_task task = {
        .wait = row->wants_two_cores ? BENCH_SPIN : BENCH_BLOCK,
        .size_bytes = size_bytes,
        .senders = 1,
        .receivers = 1,
        .batch = 1,
        .cpu = {settings->cpu[0], settings->cpu[1]},
        .duration_ns = (int64_t)(settings->seconds * 1e9),
    };

    for (int round = 0; round < settings->rounds; round++)
        if (bench_run(settings, row->bare, task, &bare, round) < 0 ||
            bench_run_ours(settings, row, &task, &naru, round) < 0)
            return -1;
    bench_judge(settings, &bare, &naru, ret);
    return 0;
}

/* -- telling ------------------------------------------------------------------------------------------ */

static const char bench_rule[] = "|:--|:--|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|:--|";

static void bench_print_header(const struct bench_settings *settings)
{
    if (settings->json)
        return;
    printf("Both processes on core %d", settings->cpu[0]);
    if (settings->cpu[1] != settings->cpu[0])
        printf(" and %d, one each", settings->cpu[1]);
    printf(
        "; %d rounds of %.2f s, %s. Latency: one way, us. Rate: thousand messages a second.\n"
        "Ratio: naru's time over bare's, of the median latency and of a message of the stream; cpu: the\n"
        "same by the processor time of both processes, which other programs do not disturb.\n\n",
        settings->rounds, settings->seconds, settings->by_quartile ? "lower quartile" : "median");
    printf(
        "| naru | bare | bytes | bare p50 | p99 | naru p50 | p99 | ratio | bare rate | naru rate | "
        "ratio | cpu | goal |\n%s\n",
        bench_rule);
}

static const char *bench_verdict(const struct bench_row *row, const struct bench_outcome *outcome,
                                 char *text, size_t size)
{
    bool latency = outcome->ratio[BENCH_P50] <= row->goal;
    bool rate = outcome->ratio[BENCH_CPU] <= row->goal;

    if (row->goal == 0)
        return "";
    snprintf(text, size, "%.2f: %s", row->goal,
             latency && rate ? "met"
             : latency       ? "rate missed"
             : rate          ? "latency missed"
                             : "missed");
    return text;
}

static void bench_print_row(const struct bench_settings *settings, const struct bench_row *row,
                            size_t size_bytes, const struct bench_outcome *o)
{
    char text[32];

    if (!settings->json) {
        printf("| %s | %s | %zu | %.2f | %.2f | %.2f | %.2f | **%.2f** | %.0f | %.0f | %.2f | "
               "**%.2f** | %s |\n",
               row->name, row->bare->name, size_bytes, o->bare[BENCH_P50] / 1e3,
               o->bare[BENCH_P99] / 1e3, o->naru[BENCH_P50] / 1e3, o->naru[BENCH_P99] / 1e3,
               o->ratio[BENCH_P50], 1e6 / o->bare[BENCH_MESSAGE], 1e6 / o->naru[BENCH_MESSAGE],
               o->ratio[BENCH_MESSAGE], o->ratio[BENCH_CPU],
               bench_verdict(row, o, text, sizeof text));
        return;
    }
    printf(
        "{\"transport\":\"%s\",\"naru\":\"%s\",\"bare\":\"%s\",\"size_bytes\":%zu,\"rounds\":%d,"
        "\"cpus\":[%d,%d],\"bare_latency_p50_ns\":%.0f,\"bare_latency_p99_ns\":%.0f,"
        "\"naru_latency_p50_ns\":%.0f,\"naru_latency_p99_ns\":%.0f,\"latency_ratio\":%.3f,"
        "\"bare_rate_per_s\":%.0f,\"naru_rate_per_s\":%.0f,\"rate_ratio\":%.3f,\"cpu_ratio\":%.3f,\"goal\":%.2f}\n",
        row->naru.scheme, row->name, row->bare->name, size_bytes, settings->rounds,
        settings->cpu[0], settings->cpu[1], o->bare[BENCH_P50], o->bare[BENCH_P99],
        o->naru[BENCH_P50], o->naru[BENCH_P99], o->ratio[BENCH_P50], 1e9 / o->bare[BENCH_MESSAGE],
        1e9 / o->naru[BENCH_MESSAGE], o->ratio[BENCH_MESSAGE], o->ratio[BENCH_CPU], row->goal);
}

static void bench_print_failure(const struct bench_settings *settings, const struct bench_row *row)
{
    if (settings->json)
        printf("{\"transport\":\"%s\",\"naru\":\"%s\",\"error\":true}\n", row->naru.scheme,
               row->name);
    else
        printf("| %s | %s | not measured |||||||||||\n", row->name, row->bare->name);
    fprintf(stderr, "bench-transports: %s beside %s: %s\n", row->name, row->bare->name,
            settings->error);
}

/* -- the options --------------------------------------------------------------------------------------- */

static bool bench_parse_option(struct bench_settings *settings, int option)
{
    switch (option) {
    case 't':
        settings->transport = optarg;
        return true;
    case 's':
        settings->sizes[0] = strtoul(optarg, NULL, 10);
        settings->sizes_count = 1;
        return settings->sizes[0] >= 1 && settings->sizes[0] <= BENCH_ROOM_BYTES / 2 - sizeof(long);
    case 'r':
        settings->rounds = atoi(optarg);
        return settings->rounds % 2 == 1 && settings->rounds <= BENCH_ROUNDS_MAX;
    case 'd':
        settings->seconds = strtod(optarg, NULL);
        return settings->seconds > 0 && settings->seconds <= 10;
    case 'c':
        settings->cpu[1] = -1;
        return sscanf(optarg, "%d,%d", &settings->cpu[0], &settings->cpu[1]) >= 1;
    case 'q':
        settings->by_quartile = strcmp(optarg, "quartile") == 0;
        settings->rank = settings->by_quartile ? 0.25 : 0.5;
        return settings->by_quartile || strcmp(optarg, "median") == 0;
    case 'j':
        settings->json = true;
        return true;
    default:
        return false;
    }
}

static void bench_parse(struct bench_settings *settings, int argc, char **argv)
{
    static const struct option options[] = {
        {"transport", required_argument, NULL, 't'},
        {"size", required_argument, NULL, 's'},
        {"rounds", required_argument, NULL, 'r'},
        {"seconds", required_argument, NULL, 'd'},
        {"cpu", required_argument, NULL, 'c'},
        {"statistic", required_argument, NULL, 'q'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'h') {
            fputs(bench_help, stdout);
            exit(0);
        }
        if (!bench_parse_option(settings, option)) {
            fputs(bench_help, stderr);
            exit(2);
        }
    }
    if (settings->cpu[1] < 0)
        settings->cpu[1] = settings->cpu[0];
}

static int bench_measure_all(struct bench_settings *settings)
{
    bool two_cores = settings->cpu[0] != settings->cpu[1];
    int failures = 0;

    bench_print_header(settings);
    for (int i = 0; i < BENCH_ROWS_COUNT; i++) {
        const struct bench_row *row = &bench_rows[i];
        bool is_signal = strcmp(row->naru.scheme, "signal") == 0;
        if (row->wants_two_cores != two_cores ||
            (settings->transport && strcmp(settings->transport, row->naru.scheme) != 0))
            continue;
        for (size_t k = 0; k < (is_signal ? 1 : settings->sizes_count); k++) {
            size_t size_bytes = is_signal ? BENCH_SIGNAL_BYTES : settings->sizes[k];
            struct bench_outcome outcome;
            if (bench_measure(settings, row, size_bytes, &outcome) == 0) {
                bench_print_row(settings, row, size_bytes, &outcome);
            } else {
                bench_print_failure(settings, row);
                failures++;
            }
            fflush(stdout);
        }
    }
    return failures;
}

int main(int argc, char **argv)
{
    struct bench_settings settings = {
        .sizes = {64, 3584},
        .sizes_count = 2,
        .rounds = 7,
        .seconds = 0.1,
        .rank = 0.5,
        .cpu = {sched_getcpu(), -1},
    };
    sigset_t set;

    bench_parse(&settings, argc, argv);
    strcpy(bench_bare_directory, "/tmp/naru-XXXXXX");
    if (!mkdtemp(bench_bare_directory)) {
        perror("bench-transports");
        return 1;
    }
    sigemptyset(&set); /* inherited by all: a real-time signal that is not blocked would kill */
    sigaddset(&set, SIGRTMIN + 1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int failures = bench_measure_all(&settings);
    rmdir(bench_bare_directory);
    return failures ? 1 : 0;
}
