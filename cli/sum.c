/* SPDX-License-Identifier: MIT */
#include "arguments.h"
#include "command.h"
#include "gather.h"
#include "json.h"
#include "output.h"
#include "stop.h"
#include <getopt.h>
#include <string.h>

enum { NR_SUM_UNSAFE = 1 };

static const char nr_sum_help[] =
    "Usage: naru sum [--from A] [--to B] [--workers P] [--via TECHNIQUE] [--json]\n"
    "\n"
    "Adds the whole numbers A..B with P processes. Each adds its share term by term; the parts\n"
    "come back through the technique, and through nothing else.\n"
    "\n"
    "Options:\n"
    "  --from A        first number (default 1)\n"
    "  --to B          last number (default 10000)\n"
    "  --workers P     processes, 1 to 256 (default 10)\n"
    "  --via TECHNIQUE file pipe fifo mq sysv shm signal semaphore unix abstract\n"
    "                  tcp (default pipe); pool: a pool of P workers, which goes on when\n"
    "                  one dies\n"
    "  --json          {\"sum\":\"50005000\",\"from\":1,\"to\":10000,\"workers\":10,\"via\":\"pipe\",\n"
    "                  \"spawn_ns\":...,\"total_ns\":...}; the sum is text, as it may have 128 bits\n"
    "  --unsafe-without-semaphore\n"
    "                  with --via semaphore, to show what it is for: the processes add to their shared\n"
    "                  variable without it, and the sum comes out wrong (a few million terms do)\n"
    "\n"
    "A and B may be anything from -2^63 to 2^64-1, with at most 2^40 terms from A to B; a core adds\n"
    "about 2^31 terms a second. spawn_ns is the time until all processes were started, total_ns until\n"
    "the sum was known and they had ended. A process that dies makes the command fail and tell how.\n"
    "\n"
    "Examples:\n"
    "  naru sum\n"
    "  naru sum --from -1000000 --to 3000000 --workers 4 --via shm\n"
    "  naru sum --to 4294967296 --via mq --json\n"
    "\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage.\n";

static const struct option nr_sum_options[] = {
    {"from", required_argument, NULL, 'f'},
    {"to", required_argument, NULL, 't'},
    {"workers", required_argument, NULL, 'w'},
    {"via", required_argument, NULL, 'v'},
    {"json", no_argument, NULL, 'j'},
    {"unsafe-without-semaphore", no_argument, NULL, NR_SUM_UNSAFE},
    {0},
};

#define NR_SUM_LOWEST    (-((__int128)1 << 63))
#define NR_SUM_HIGHEST   (((__int128)1 << 64) - 1)
#define NR_SUM_TERMS_MAX ((__int128)1 << 40)

static int nr_sum_check_technique(const char *name)
{
    if (strcmp(name, "pool") == 0)
        return 0;
    for (unsigned i = 0; nr_gather_technique(i); i++)
        if (strcmp(nr_gather_technique(i), name) == 0)
            return 0;
    return nr_output_complain_usage(
        "--via: \"%s\" is none of file, pipe, fifo, mq, sysv, shm, signal, "
        "semaphore, unix, abstract, tcp, pool",
        name);
}

static int nr_sum_parse(struct nr_gather_request *request, bool *json, int argc, char **argv)
{
    __int128 workers = 10;
    int code = 0;
    int option;

    while (!code && (option = getopt_long(argc, argv, "", nr_sum_options, NULL)) != -1) {
        if (option == 'f')
            code = nr_arguments_integer(&request->range.from, "--from", optarg, NR_SUM_LOWEST,
                                        NR_SUM_HIGHEST);
        else if (option == 't')
            code = nr_arguments_integer(&request->range.to, "--to", optarg, NR_SUM_LOWEST,
                                        NR_SUM_HIGHEST);
        else if (option == 'w')
            code = nr_arguments_integer(&workers, "--workers", optarg, 1, NR_GATHER_WORKERS_MAX);
        else if (option == 'v')
            code = nr_sum_check_technique(request->technique = optarg);
        else if (option == 'j')
            *json = true;
        else if (option == NR_SUM_UNSAFE)
            request->without_semaphore = true;
        else
            code = nr_output_hint_usage();
    }
    if (code)
        return code;
    request->workers_count = (unsigned)workers;
    if (optind < argc)
        return nr_output_complain_usage("\"%s\" is one argument too many", argv[optind]);
    if (request->range.from > request->range.to)
        return nr_output_complain_usage("--from is larger than --to");
    if (nr_share_terms(request->range) > NR_SUM_TERMS_MAX)
        return nr_output_complain_usage("from A to B there are more than 2^40 terms");
    if (request->without_semaphore && strcmp(request->technique, "semaphore") != 0)
        return nr_output_complain_usage(
            "--unsafe-without-semaphore goes with --via semaphore only");
    return 0;
}

static void nr_sum_print_json(const struct nr_gather_request *request,
                              const struct nr_gather_result *result)
{
    struct nr_json json = {.file = stdout};
    char number[NR_OUTPUT_NUMBER_BYTES];

    nr_json_begin(&json, NULL, '{');
    nr_json_text(&json, "sum", nr_output_integer(number, result->sum));
    nr_json_integer(&json, "from", request->range.from);
    nr_json_integer(&json, "to", request->range.to);
    nr_json_integer(&json, "workers", request->workers_count);
    nr_json_text(&json, "via", request->technique);
    nr_json_integer(&json, "spawn_ns", result->spawn_ns);
    nr_json_integer(&json, "total_ns", result->total_ns);
    nr_json_end(&json, '}');
    putchar('\n');
}

static void nr_sum_print(const struct nr_gather_request *request,
                         const struct nr_gather_result *result)
{
    char from[NR_OUTPUT_NUMBER_BYTES], to[NR_OUTPUT_NUMBER_BYTES], sum[NR_OUTPUT_NUMBER_BYTES];
    char spawn[NR_OUTPUT_NUMBER_BYTES], total[NR_OUTPUT_NUMBER_BYTES];

    printf("sum of %s..%s over %u worker%s via %s: %s\n",
           nr_output_integer(from, request->range.from), nr_output_integer(to, request->range.to),
           request->workers_count, request->workers_count == 1 ? "" : "s", request->technique,
           nr_output_integer(sum, result->sum));
    printf("started in %s, done after %s\n", nr_output_duration(spawn, result->spawn_ns),
           nr_output_duration(total, result->total_ns));
}

static int nr_sum_run(int argc, char **argv)
{
    struct nr_gather_request request = {
        .range = {.from = 1, .to = 10000},
        .technique = "pipe",
    };
    struct nr_gather_result result;
    char reason[NR_GATHER_REASON_BYTES];
    bool json = false;

    int code = nr_sum_parse(&request, &json, argc, argv);
    if (code)
        return code;
    nr_stop_init();
    bool by_pool = strcmp(request.technique, "pool") == 0;
    if ((by_pool ? nr_gather_by_pool : nr_gather_run)(&result, &request, reason) < 0) {
        nr_output_complain("%s", reason);
        nr_stop_die();
        return NR_EXIT_FAILURE;
    }
    if (request.without_semaphore)
        nr_output_complain("added without the semaphore: do not trust this sum");
    if (json)
        nr_sum_print_json(&request, &result);
    else
        nr_sum_print(&request, &result);
    return NR_EXIT_OK;
}

const struct nr_command nr_sum_command = {
    .name = "sum",
    .summary = "add numbers with many processes, the parts coming back through a technique",
    .help = nr_sum_help,
    .run = nr_sum_run,
};
