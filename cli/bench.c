/* SPDX-License-Identifier: MIT */
/*
 * bench -- what each transport costs, beside a probe and beside other libraries
 */
#include "bench_compare.h"
#include "bench_print.h"
#include "command.h"
#include "output.h"
#include "stop.h"
#include <naru/transport.h>
#include <stdio.h>
#include <string.h>

struct nr_bench_state {
    const struct nr_bench_options *options;
    struct nr_json json;
    unsigned measured_count, failed_count;
};

static bool nr_bench_wants(const struct nr_bench_options *options,
                           const struct naru_transport_row *row)
{
    bool transport = options->transports_count == 0, pattern = options->patterns_count == 0;

    for (unsigned i = 0; i < options->transports_count; i++)
        transport |= strcmp(options->transports[i], row->scheme) == 0;
    for (unsigned i = 0; i < options->patterns_count; i++)
        pattern |= options->patterns[i] == row->pattern;
    if (options->one_to_one && (strcmp(row->scheme, "shm") != 0 || row->pattern != NARU_QUEUE))
        return false;
    if (options->pair && (!row->can_pair || row->pattern != NARU_QUEUE))
        return false;
    return transport && pattern && row->supported;
}

/* What nobody asked for by name, and can't be, is left out. */
static void nr_bench_tell(struct nr_bench_state *state, const struct nr_bench_row *row, int code)
{
    if (code == NR_BENCH_CANNOT && state->options->transports_count == 0)
        return;
    state->failed_count += code < 0;
    state->measured_count += code == 0;
    if (state->options->json)
        nr_bench_print_json(&state->json, row);
    else
        nr_bench_print_row(row);
}

/* A transport and pattern in one mode, all sizes. */
static void nr_bench_sizes(struct nr_bench_state *state, const struct naru_transport_row *transport,
                           enum nr_bench_mode mode, bool one_to_one)
{
    const struct nr_bench_options *options = state->options;
    bool is_signal = strcmp(transport->scheme, "signal") == 0;
    static struct nr_bench_row row;

    for (unsigned i = 0; i < (is_signal ? 1 : options->sizes_count) && !nr_stop_signal(); i++) {
        size_t size_bytes = is_signal ? BENCH_SIGNAL_BYTES : options->sizes[i];
        row = (struct nr_bench_row){
            .contender.ours = {.scheme = transport->scheme,
                               .pattern = transport->pattern,
                               .form =
                                   options->pair ? BENCH_PAIR : bench_ours_form(transport->scheme),
                               .one_to_one = one_to_one},
            .mode = mode,
            .task = nr_bench_options_task(options, mode, size_bytes),
        };
        nr_bench_print_progress(&row);
        int code = nr_bench_row_measure(&row);
        nr_bench_print_progress(NULL);
        if (!nr_stop_signal())
            nr_bench_tell(state, &row, code);
    }
}

static int nr_bench_all(const struct nr_bench_options *options)
{
    struct nr_bench_state state = {.options = options, .json = {.file = stdout}};
    const struct naru_transport_row *row;
    /* By default both kinds of shm:// stand there. */
    bool both = !options->one_to_one && !options->pair && options->transports_count == 0 &&
                options->senders == 1 && options->receivers == 1;

    if (options->json)
        nr_json_begin(&state.json, NULL, '[');
    else
        nr_bench_print_header();
    for (unsigned m = 0; m < options->modes_count; m++) {
        for (size_t i = 0; (row = naru_transport_row(i)); i++) {
            if (!nr_bench_wants(options, row))
                continue;
            bool is_shm_queue = strcmp(row->scheme, "shm") == 0 && row->pattern == NARU_QUEUE;
            nr_bench_sizes(&state, row, options->modes[m], options->one_to_one);
            if (both && is_shm_queue)
                nr_bench_sizes(&state, row, options->modes[m], true);
        }
    }
    nr_stop_die();
    if (options->json) {
        nr_json_end(&state.json, ']');
        putchar('\n');
    }
    if (state.measured_count == 0 && state.failed_count == 0)
        nr_output_complain("nothing of what was asked for can be measured");
    return state.failed_count || !state.measured_count ? NR_EXIT_FAILURE : NR_EXIT_OK;
}

static bool nr_bench_is_stopped(void)
{
    return nr_stop_signal() != 0;
}

static int nr_bench_run(int argc, char **argv)
{
    struct nr_bench_options options;
    int code = nr_bench_options_parse(&options, argc, argv);

    if (code)
        return code;
    nr_stop_init();
    bench_duel_is_stopped = nr_bench_is_stopped;
    if (options.compare)
        return nr_bench_compare(&options);
    if (options.figures)
        return nr_bench_figures(&options);
    return nr_bench_all(&options);
}

const struct nr_command nr_bench_command = {
    .name = "bench",
    .summary = "what each transport costs, beside a bare hand-over between the same cores",
    .help = nr_bench_help,
    .run = nr_bench_run,
};
