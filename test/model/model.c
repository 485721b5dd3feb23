/* SPDX-License-Identifier: MIT */
/*
 * model -- runs scenarios and prints TAP
 *
 *     model PROTOCOL...      searches each scenario whole, but for the deep ones
 *     model --walk           goes through the deep ones of all protocols at random, for NARU_BUDGET_S seconds
 *                            from NARU_SEED
 *     model --list           what there is
 *
 * A failure is searched again with smaller bounds, so that the trace is short. NARU_MODEL_ONLY=NAME: one scenario.
 * NARU_MODEL_BOUNDS=2,2,1: other preemptions, stale reads, crashes. NARU_MODEL_QUICK=1 ends with the first failure,
 * without a trace (scripts/mutate).
 */
#include "engine.h"
#include "protocols.h"
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static unsigned test_number;
static bool is_quick; /* the first failure ends it, without a trace: for mutants */

/* A crash in the sources under test, or a loop that touches nothing. */
static void on_signal(int number)
{
    printf("# %s: %s\n", model_scenario ? model_scenario->name : "?",
           number == SIGALRM ? "it does nothing for a long time" : strsignal(number));
    if (!is_quick)
        model_trace_print();
    fflush(stdout);
    _exit(3);
}

/* The smallest bounds that show the failure. */
static void explain(const struct model_scenario *scenario)
{
    struct model_scenario smaller = *scenario;

    for (unsigned sum = 0; sum < 16; sum++)
        for (unsigned p = 0; p <= scenario->preemptions; p++)
            for (unsigned s = 0; s <= scenario->stale_reads; s++)
                for (unsigned c = 0; c <= scenario->crashes; c++) {
                    if (p + s + c != sum)
                        continue;
                    smaller.preemptions = p;
                    smaller.stale_reads = s;
                    smaller.crashes = c;
                    if (!model_search(&smaller).has_failed)
                        continue;
                    printf("# %s\n# with %u preemptions, %u stale reads, %u crashes:\n",
                           model_failure(), p, s, c);
                    model_trace_print();
                    return;
                }
}

/* NARU_MODEL_BOUNDS=PREEMPTIONS,STALE,CRASHES: others than the scenario's. */
static struct model_scenario bounded(const struct model_scenario *scenario)
{
    struct model_scenario result = *scenario;
    const char *bounds = getenv("NARU_MODEL_BOUNDS");

    if (bounds && sscanf(bounds, "%u,%u,%u", &result.preemptions, &result.stale_reads,
                         &result.crashes) != 3) {
        fprintf(stderr, "model: NARU_MODEL_BOUNDS takes three numbers, such as 2,2,1\n");
        exit(2);
    }
    return result;
}

static bool search(const char *protocol, const struct model_scenario *scenario)
{
    struct model_result result = model_search(scenario);
    bool is_expected = result.has_failed == (scenario->must_say != NULL) && !result.is_truncated;

    if (is_expected && scenario->must_say && !strstr(model_failure(), scenario->must_say))
        is_expected = false;
    if (result.is_truncated)
        printf("# the search had to be cut short: no room for more states\n");
    else if (!is_expected && !result.has_failed)
        printf("# nothing was found; it should have failed with \"%s\"\n", scenario->must_say);
    else if (!is_expected && is_quick)
        printf("# %s\n", model_failure());
    else if (!is_expected)
        explain(scenario);
    printf("%sok %u - %s: %s (%u processes, %u preemptions, %u stale reads, %u crashes%s): "
           "%" PRIu64 " executions, %" PRIu64 " states, %.1f s\n",
           is_expected ? "" : "not ", ++test_number, protocol, scenario->name, scenario->processes,
           scenario->preemptions, scenario->stale_reads, scenario->crashes,
           scenario->must_say ? ", wrong on purpose" : "", result.executions, result.states,
           result.seconds);
    fflush(stdout);
    return is_expected;
}

static bool walk(const char *protocol, const struct model_scenario *scenario, uint64_t seed,
                 double seconds)
{
    struct model_result result = model_walk(scenario, seed, seconds);

    if (result.has_failed) {
        printf("# %s\n", model_failure());
        model_trace_print();
    }
    printf("%sok %u - %s: %s (%u processes, %u preemptions, %u stale reads, %u crashes): %" PRIu64
           " executions at random, %.1f s\n",
           result.has_failed ? "not " : "", ++test_number, protocol, scenario->name,
           scenario->processes, scenario->preemptions, scenario->stale_reads, scenario->crashes,
           result.executions, result.seconds);
    fflush(stdout);
    return !result.has_failed;
}

enum { PROTOCOLS_COUNT = sizeof model_protocols / sizeof *model_protocols };

static unsigned count(const struct model_protocol *protocol, bool is_deep)
{
    const char *only = getenv("NARU_MODEL_ONLY");
    unsigned found = 0;

    for (unsigned i = 0; i < protocol->scenarios_count; i++)
        found += protocol->scenarios[i].is_deep == is_deep &&
                 (!only || !strcmp(only, protocol->scenarios[i].name));
    return found;
}

/* False: one has failed. */
static bool run(const struct model_protocol *protocol, bool is_deep, uint64_t seed, double seconds)
{
    const char *only = getenv("NARU_MODEL_ONLY");
    bool is_good = true;

    for (unsigned i = 0; i < protocol->scenarios_count && (is_good || !is_quick); i++) {
        struct model_scenario scenario = bounded(&protocol->scenarios[i]);
        if (scenario.is_deep != is_deep || (only && strcmp(only, scenario.name)))
            continue;
        is_good &= is_deep ? walk(protocol->name, &scenario, seed, seconds)
                           : search(protocol->name, &scenario);
    }
    return is_good;
}

static const struct model_protocol *find(const char *name)
{
    for (size_t i = 0; i < PROTOCOLS_COUNT; i++)
        if (!strcmp(model_protocols[i]->name, name))
            return model_protocols[i];
    fprintf(stderr, "model: there is no protocol %s; see model --list\n", name);
    exit(2);
}

static int list(void)
{
    for (size_t i = 0; i < PROTOCOLS_COUNT; i++)
        for (unsigned j = 0; j < model_protocols[i]->scenarios_count; j++)
            printf("%s: %s%s\n", model_protocols[i]->name, model_protocols[i]->scenarios[j].name,
                   model_protocols[i]->scenarios[j].is_deep ? " (deep)" : "");
    return 0;
}

static int walk_all(void)
{
    const char *budget = getenv("NARU_BUDGET_S"), *seed_text = getenv("NARU_SEED");
    uint64_t seed = seed_text ? strtoull(seed_text, NULL, 0) : (uint64_t)getpid();
    unsigned planned = 0;
    bool is_good = true;

    for (size_t i = 0; i < PROTOCOLS_COUNT; i++)
        planned += count(model_protocols[i], true);
    printf("1..%u\n# NARU_SEED=%" PRIu64 "\n", planned, seed);
    double seconds = (budget ? atof(budget) : 10) / (planned ? planned : 1);
    for (size_t i = 0; i < PROTOCOLS_COUNT; i++)
        is_good &= run(model_protocols[i], true, seed, seconds);
    return is_good ? 0 : 1;
}

int main(int argc, char **argv)
{
    static const int signals[] = {SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGALRM};
    unsigned planned = 0;
    bool is_good = true;

    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        signal(signals[i], on_signal);
    is_quick = getenv("NARU_MODEL_QUICK") != NULL;
    if (argc == 2 && !strcmp(argv[1], "--list"))
        return list();
    if (argc == 2 && !strcmp(argv[1], "--walk"))
        return walk_all();
    for (int i = 1; i < argc; i++)
        planned += count(find(argv[i]), false);
    printf("1..%u\n", planned);
    for (int i = 1; i < argc && (is_good || !is_quick); i++)
        is_good &= run(find(argv[i]), false, 0, 0);
    return is_good ? 0 : 1;
}
