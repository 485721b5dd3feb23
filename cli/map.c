/* SPDX-License-Identifier: MIT */
/*
 * map -- a command for each item that comes in, several at once
 *
 * Contents   help and options - items - results - the loop
 * What       A pool of workers (naru/pool.h), each of which runs one command at a time (map_work.h). One ppoll waits for
 *            items, results and signals at once, so none of them waits for another.
 */
#include "arguments.h"
#include "command.h"
#include "json.h"
#include "map_work.h"
#include "output.h"
#include "stop.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* -- help and options -------------------------------------------------------------------------- */

static const char nr_map_help[] =
    "Usage: naru map [OPTION]... -- COMMAND [WORD]...\n"
    "\n"
    "Runs COMMAND for each line of standard input, several at once. {} in its words stands for the\n"
    "line; without any {} the line becomes the last word. No shell is in between. What the commands\n"
    "print comes out in the order of the lines, never mixed.\n"
    "\n"
    "A command that a signal kills is run again, and what it had printed is dropped; after three\n"
    "such deaths its line is set aside, and told with the cause.\n"
    "\n"
    "Options:\n"
    "  -j, --jobs N          commands at once, 1 to 1024 (default: one for each processor)\n"
    "  -0, --null            items end with a zero byte instead of a newline\n"
    "  --unordered           print what a command has printed as soon as it ends\n"
    "  --time-limit SECONDS  kill a command that takes longer; its line is not tried again\n"
    "  --deaths N            set a line aside after N deaths (default 3)\n"
    "  --json                a line of JSON for each item: {\"item\":\"x\",\"outcome\":\"done\",\"exit\":0,\n"
    "                        \"deaths\":0,\"output\":\"...\"}; outcome is done, failed, set aside,\n"
    "                        timed out; \"cause\" tells of the last death or of what went wrong;\n"
    "                        output that is not UTF-8 is \"output_base64\", an item \"item_base64\"\n"
    "\n"
    "Commands have an empty standard input, and the standard error of naru map. Progress is shown on\n"
    "a terminal, on standard error. If naru map is killed, its commands are.\n"
    "\n"
    "Examples:\n"
    "  ls *.wav | naru map -j 4 -- flac {}\n"
    "  find . -name '*.c' -print0 | naru map -0 --json -- wc -l\n"
    "  seq 100 | naru map --time-limit 5 -- sh -c 'expensive \"$1\" | tail -n 1' sh {}\n"
    "\n"
    "Exit codes: 0 every command ended with 0, 1 one did not, 2 wrong usage.\n";

enum { NR_MAP_UNORDERED = 1, NR_MAP_TIME_LIMIT, NR_MAP_DEATHS, NR_MAP_JSON };

static const struct option nr_map_options[] = {
    {"jobs", required_argument, NULL, 'j'},
    {"null", no_argument, NULL, '0'},
    {"unordered", no_argument, NULL, NR_MAP_UNORDERED},
    {"time-limit", required_argument, NULL, NR_MAP_TIME_LIMIT},
    {"deaths", required_argument, NULL, NR_MAP_DEATHS},
    {"json", no_argument, NULL, NR_MAP_JSON},
    {0},
};

enum {
    NR_MAP_READ_BYTES = 65536,
    NR_MAP_AHEAD = 64, /* items for each worker that wait in the pool */
    NR_MAP_RESULTS = 1000,
    NR_MAP_PROGRESS_NS = 100000000,
};

struct nr_map {
    struct naru_pool_options options;
    struct nr_map_work work;
    struct naru_pool *pool;
    bool wants_json;
    char delimiter;

    char *input; /* what was read of items that were not submitted */
    size_t input_bytes, input_room_bytes;
    bool has_ended; /* the input */
    bool is_full;   /* the pool */

    bool shows_progress;
    int64_t shown_ns;
    bool has_failed; /* one of the commands */
    bool is_broken;  /* we */
};

static int nr_map_parse_limit(struct nr_map *map, const char *text)
{
    int code = nr_arguments_seconds(&map->options.time_limit_ns, "--time-limit", text);

    return !code && map->options.time_limit_ns == 0
               ? nr_output_complain_usage("--time-limit: 0 seconds are not enough for anything")
               : code;
}

static int nr_map_parse(struct nr_map *map, int argc, char **argv)
{
    __int128 jobs = 0, deaths = 0;
    int code = 0, option;

    while (!code && (option = getopt_long(argc, argv, "+j:0", nr_map_options, NULL)) != -1) {
        if (option == 'j')
            code = nr_arguments_integer(&jobs, "--jobs", optarg, 1, 1024);
        else if (option == '0')
            map->delimiter = '\0';
        else if (option == NR_MAP_UNORDERED)
            map->options.order = NARU_AS_THEY_COME;
        else if (option == NR_MAP_TIME_LIMIT)
            code = nr_map_parse_limit(map, optarg);
        else if (option == NR_MAP_DEATHS)
            code = nr_arguments_integer(&deaths, "--deaths", optarg, 1, 1000);
        else if (option == NR_MAP_JSON)
            map->wants_json = true;
        else
            code = nr_output_hint_usage();
    }
    if (code)
        return code;
    if (optind == argc)
        return nr_output_complain_usage("the command is missing; put it behind --");
    map->options.workers_count = jobs ? (uint32_t)jobs : (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    map->options.deaths_max = (uint32_t)deaths;
    map->work.words = argv + optind;
    map->work.words_count = argc - optind;
    for (int i = 0; i < map->work.words_count; i++)
        map->work.has_place |= strstr(map->work.words[i], "{}") != NULL;
    return 0;
}

/* -- progress ---------------------------------------------------------------------------------- */

static void nr_map_clear_progress(struct nr_map *map)
{
    if (map->shows_progress && map->shown_ns)
        fputs("\r\033[K", stderr);
    map->shown_ns = 0;
}

static void nr_map_show_progress(struct nr_map *map)
{
    struct naru_pool_stat stat = {.size_bytes = sizeof stat};
    int64_t now_ns = nr_output_now_ns();

    if (!map->shows_progress || now_ns - map->shown_ns < NR_MAP_PROGRESS_NS ||
        naru_pool_stat(map->pool, &stat) < 0)
        return;
    map->shown_ns = now_ns;
    uint64_t bad = stat.failed + stat.set_aside + stat.timed_out;
    fprintf(stderr, "\r\033[K%llu done, %llu failed, %llu running, %llu waiting%s",
            (unsigned long long)stat.done, (unsigned long long)bad,
            (unsigned long long)stat.running, (unsigned long long)stat.waiting,
            map->has_ended ? "" : " or more");
    if (stat.deaths)
        fprintf(stderr, ", %llu deaths", (unsigned long long)stat.deaths);
    fflush(stderr);
}

/* -- items ------------------------------------------------------------------------------------- */

static void nr_map_break(struct nr_map *map)
{
    nr_map_clear_progress(map);
    nr_output_complain("%s", naru_error_text());
    map->is_broken = true;
}

/* The item goes to the pool, and a copy with its result. False: there is no room now. */
static bool nr_map_submit(struct nr_map *map, const char *item, size_t size_bytes)
{
    char *copy = strndup(item, size_bytes);
    struct naru_pool_input input = {.data = item, .size_bytes = size_bytes, .tag = (uintptr_t)copy};
    uint64_t number;

    int result = copy ? naru_pool_submit_many(map->pool, &input, 1, &number, 0) : -ENOMEM;
    if (result > 0)
        return true;
    free(copy);
    map->is_full = result == -EAGAIN || result == -ENOBUFS;
    if (!map->is_full)
        nr_map_break(map);
    return false;
}

static void nr_map_submit_read(struct nr_map *map)
{
    char *from = map->input, *end = map->input + map->input_bytes;

    map->is_full = false;
    while (!map->is_full && !map->is_broken && from < end) {
        char *delimiter = memchr(from, map->delimiter, (size_t)(end - from));
        if (!delimiter && !map->has_ended)
            break;
        size_t size_bytes = (size_t)((delimiter ? delimiter : end) - from);
        if (map->delimiter && memchr(from, '\0', size_bytes)) {
            nr_output_complain("a line has a zero byte in it; with --null items end with one");
            map->is_broken = true;
        } else if (nr_map_submit(map, from, size_bytes)) {
            from += size_bytes + (delimiter != NULL);
        }
    }
    map->input_bytes = (size_t)(end - from);
    if (map->input_bytes) /* without any there may be no memory either */
        memmove(map->input, from, map->input_bytes);
}

static void nr_map_read(struct nr_map *map)
{
    if (map->input_room_bytes - map->input_bytes < NR_MAP_READ_BYTES) {
        size_t room_bytes = 2 * map->input_room_bytes + 2 * NR_MAP_READ_BYTES;
        char *room = realloc(map->input, room_bytes);
        if (!room) {
            nr_output_complain("no memory for an item of %zu bytes", map->input_bytes);
            map->is_broken = true;
            return;
        }
        map->input = room;
        map->input_room_bytes = room_bytes;
    }
    ssize_t size = read(STDIN_FILENO, map->input + map->input_bytes, NR_MAP_READ_BYTES);
    if (size < 0 && errno != EINTR && errno != EAGAIN) {
        nr_output_complain("can't read standard input: %s", strerror(errno));
        map->is_broken = true;
    }
    map->has_ended = size == 0;
    map->input_bytes += size > 0 ? (size_t)size : 0;
}

/* -- results ----------------------------------------------------------------------------------- */

/* The command's exit status; -1: it had none. */
static int nr_map_status(const struct naru_pool_result *result)
{
    if (result->outcome == NARU_POOL_DONE)
        return 0;
    return result->outcome == NARU_POOL_FAILED && result->code < NR_MAP_EXITED
               ? NR_MAP_EXITED - result->code
               : -1;
}

static const char *nr_map_outcome(const struct naru_pool_result *result)
{
    return result->outcome == NARU_POOL_DONE        ? "done"
           : result->outcome == NARU_POOL_SET_ASIDE ? "set aside"
           : result->outcome == NARU_POOL_TIMED_OUT ? "timed out"
           : result->outcome == NARU_POOL_CANCELLED ? "cancelled"
                                                    : "failed";
}

/* Why it is not done, or how the last of its processes died; "" if all went well. */
static const char *nr_map_cause(const struct naru_pool_result *result, char text[256])
{
    int number = result->death ? result->death->signal_number : 0;

    text[0] = '\0';
    if (result->code == NR_MAP_NOT_STARTED)
        snprintf(text, 256, "%.*s", (int)(result->size_bytes < 255 ? result->size_bytes : 255),
                 result->data ? (const char *)result->data : "");
    else if (result->outcome == NARU_POOL_TIMED_OUT)
        snprintf(text, 256, "killed, since it took longer than --time-limit");
    else if (result->death && result->death->cause == NARU_KILLED)
        snprintf(text, 256, "killed by SIG%s (%s)",
                 sigabbrev_np(number) ? sigabbrev_np(number) : "?", strsignal(number));
    else if (result->death)
        snprintf(text, 256, "%s", result->death->text);
    else if (nr_map_status(result) > 0)
        snprintf(text, 256, "exit status %d", nr_map_status(result));
    else if (result->code < 0)
        snprintf(text, 256, "its worker failed: %s", strerror(-result->code));
    return text;
}

static void nr_map_print_bytes(struct nr_json *json, const char *key, const char *key_base64,
                               const void *data, size_t size_bytes)
{
    if (nr_json_is_utf8(data, size_bytes))
        nr_json_bytes(json, key, data, size_bytes);
    else
        nr_json_base64(json, key_base64, data, size_bytes);
}

static void nr_map_print_json(const struct naru_pool_result *result, const char *item)
{
    struct nr_json json = {.file = stdout};
    int status = nr_map_status(result);
    char cause[256];

    nr_json_begin(&json, NULL, '{');
    nr_map_print_bytes(&json, "item", "item_base64", item, strlen(item));
    nr_json_text(&json, "outcome", nr_map_outcome(result));
    if (status >= 0)
        nr_json_integer(&json, "exit", status);
    nr_json_integer(&json, "deaths", result->deaths);
    if (nr_map_cause(result, cause)[0])
        nr_json_text(&json, "cause", cause);
    if (status >= 0)
        nr_map_print_bytes(&json, "output", "output_base64", result->data ? result->data : "",
                           result->size_bytes);
    nr_json_end(&json, '}');
    putchar('\n');
}

static void nr_map_print(struct nr_map *map, const struct naru_pool_result *result)
{
    char *item = (char *)(uintptr_t)result->tag, cause[256];
    bool is_well = result->outcome == NARU_POOL_DONE;

    nr_map_clear_progress(map);
    map->has_failed |= !is_well;
    if (map->wants_json)
        nr_map_print_json(result, item);
    else if (result->data && nr_map_status(result) >= 0)
        fwrite(result->data, 1, result->size_bytes, stdout);
    if (!is_well && !map->wants_json) {
        fflush(stdout);
        nr_output_complain("%s: %s%s", item, nr_map_cause(result, cause),
                           result->outcome == NARU_POOL_SET_ASIDE ? "; set aside" : "");
    }
    free(item);
}

/* -- the loop ---------------------------------------------------------------------------------- */

/* 0: there may be more; -ENODATA: all is answered. */
static int nr_map_fetch(struct nr_map *map)
{
    struct naru_pool_result result;
    int code;

    while ((code = naru_pool_next(map->pool, &result, 0)) == 0)
        nr_map_print(map, &result);
    fflush(stdout);
    if (ferror(stdout))
        map->is_broken = true; /* told at the end */
    if (code == -ENODATA || code == -EAGAIN)
        return code == -ENODATA ? code : 0;
    nr_map_break(map);
    return 0;
}

/* Until there is an item, a result or a signal, which can come only here. */
static void nr_map_wait(struct nr_map *map, int pool_fd, const sigset_t *outside)
{
    bool reads = !map->has_ended && !map->is_full;
    struct pollfd fds[2] = {{.fd = pool_fd, .events = POLLIN},
                            {.fd = reads ? STDIN_FILENO : -1, .events = POLLIN}};
    const struct timespec soon = {.tv_nsec = NR_MAP_PROGRESS_NS};

    if (ppoll(fds, 2, map->shows_progress ? &soon : NULL, outside) > 0 && fds[1].revents)
        nr_map_read(map);
}

static void nr_map_loop(struct nr_map *map)
{
    int pool_fd = naru_pool_fd(map->pool), left = 0;
    sigset_t inside, outside;

    if (pool_fd < 0)
        nr_map_break(map);
    sigfillset(&inside);
    sigprocmask(SIG_SETMASK, &inside, &outside);
    while (!map->is_broken && !nr_stop_signal() &&
           !(map->has_ended && map->input_bytes == 0 && left == -ENODATA)) {
        nr_map_submit_read(map);
        left = nr_map_fetch(map);
        bool is_done = map->has_ended && map->input_bytes == 0 && left == -ENODATA;
        if (map->is_broken || is_done || (map->is_full && left == -ENODATA))
            continue;
        nr_map_show_progress(map);
        nr_map_wait(map, pool_fd, &outside);
    }
    sigprocmask(SIG_SETMASK, &outside, NULL);
    nr_map_clear_progress(map);
}

/* What was not answered is not wanted any more. */
static void nr_map_drop(struct nr_map *map)
{
    struct naru_pool_result result;

    naru_pool_cancel(map->pool, NARU_POOL_ALL);
    while (naru_pool_next(map->pool, &result, NARU_FOREVER) == 0)
        free((char *)(uintptr_t)result.tag);
}

static int nr_map_run(int argc, char **argv)
{
    struct nr_map map = {
        .options = {.size_bytes = sizeof map.options,
                    .order = NARU_IN_ORDER,
                    .results_max = NR_MAP_RESULTS,
                    .init = nr_map_work_init},
        .delimiter = '\n',
    };
    int code = nr_map_parse(&map, argc, argv);

    if (code)
        return code;
    nr_stop_init();
    map.options.tasks_max = map.options.workers_count * NR_MAP_AHEAD;
    map.shows_progress = nr_output_is_lively(stderr);
    if (naru_pool_new(&map.pool, nr_map_work, &map.work, &map.options) < 0) {
        nr_output_complain("%s", naru_error_text());
        return NR_EXIT_FAILURE;
    }
    nr_map_loop(&map);
    if (map.is_broken)
        nr_map_drop(&map);
    naru_pool_free(map.pool);
    free(map.input);
    nr_stop_die();
    return map.is_broken || map.has_failed ? NR_EXIT_FAILURE : NR_EXIT_OK;
}

const struct nr_command nr_map_command = {
    .name = "map",
    .summary = "run a command for each line, several at once, and again if it is killed",
    .help = nr_map_help,
    .run = nr_map_run,
};
