/* SPDX-License-Identifier: MIT */
/* stat -- naru stat: what is in a channel of shm://, who is attached to it, and who holds what */
#include "command.h"
#include "json.h"
#include "output.h"
#include <errno.h>
#include <getopt.h>
#include <naru/endpoint.h>
#include <string.h>

static const char nr_stat_help[] =
    "Usage: naru stat [--json] URI...\n"
    "\n"
    "Shows what is in a named channel of shm://, and for each process that has it open: its role, what it is\n"
    "doing, how much it has sent and received, how long it has slept in calls, and what it holds. Looks\n"
    "without taking part: the channel's processes do not notice.\n"
    "\n"
    "Options:\n"
    "  --json   one JSON object a line for each URI\n"
    "  --help   this text\n"
    "\n"
    "Examples:\n"
    "  naru stat shm://jobs\n"
    "  naru stat --json shm://jobs | jq '.participants[] | select(.state == \"stopped\")'\n"
    "\n"
    "Exit codes: 0 shown, 1 failed (no such channel, no permission), 2 wrong usage.\n";

enum { NR_STAT_ROWS = 4096 };

static const char *nr_stat_role(enum naru_role role)
{
    return role == NARU_SENDER ? "sender" : role == NARU_RECEIVER ? "receiver" : "both";
}

static const char *nr_stat_pattern(enum naru_pattern pattern)
{
    static const char *const names[] = {"?", "queue", "topic", "call", "cell"};

    return pattern <= NARU_CELL ? names[pattern] : names[0];
}

static const char *nr_stat_state(enum naru_participant_state state)
{
    static const char *const names[] = {"?",       "active", "waits for message", "waits for room",
                                        "stopped", "dead"};

    return state <= NARU_DEAD ? names[state] : names[0];
}

/* Calls `show` for each participant. 0, or the error. */
static int nr_stat_each(struct naru_endpoint *observer,
                        void (*show)(void *context, const struct naru_participant *participant),
                        void *context)
{
    for (size_t i = 0; i < NR_STAT_ROWS; i++) {
        struct naru_participant participant = {.size_bytes = sizeof participant};
        int result = naru_stat_participant(observer, i, &participant);
        if (result < 0)
            return result == -ENOENT ? 0 : result;
        show(context, &participant);
    }
    return 0;
}

static void nr_stat_show_json(void *context, const struct naru_participant *participant)
{
    struct nr_json *json = context;

    nr_json_begin(json, NULL, '{');
    nr_json_integer(json, "pid", participant->pid);
    nr_json_text(json, "role", nr_stat_role(participant->role));
    nr_json_text(json, "state", nr_stat_state(participant->state));
    nr_json_integer(json, "sent_messages", participant->sent_messages);
    nr_json_integer(json, "sent_bytes", participant->sent_bytes);
    nr_json_integer(json, "received_messages", participant->received_messages);
    nr_json_integer(json, "received_bytes", participant->received_bytes);
    nr_json_integer(json, "blocked_ns", participant->blocked_ns);
    nr_json_integer(json, "held_messages", participant->held_messages);
    nr_json_integer(json, "loans", participant->loans);
    nr_json_end(json, '}');
}

static int nr_stat_json(struct naru_endpoint *observer, const char *uri,
                        const struct naru_stat *stat)
{
    struct nr_json json = {.file = stdout};

    nr_json_begin(&json, NULL, '{');
    nr_json_text(&json, "uri", uri);
    nr_json_text(&json, "pattern", nr_stat_pattern(stat->pattern));
    nr_json_integer(&json, "message_size_max_bytes", stat->message_size_max_bytes);
    nr_json_integer(&json, "capacity_messages", stat->capacity_messages);
    if (stat->known & NARU_STAT_QUEUED)
        nr_json_integer(&json, "queued_messages", stat->queued_messages);
    else
        nr_json_null(&json, "queued_messages");
    nr_json_begin(&json, "participants", '[');
    int result = nr_stat_each(observer, nr_stat_show_json, &json);
    nr_json_end(&json, ']');
    nr_json_end(&json, '}');
    fputc('\n', stdout);
    return result;
}

static void nr_stat_show_line(void *context, const struct naru_participant *participant)
{
    char blocked[NR_OUTPUT_NUMBER_BYTES];

    (void)context;
    printf("%9d  %-8s  %-17s %12llu %12llu  ", (int)participant->pid,
           nr_stat_role(participant->role), nr_stat_state(participant->state),
           (unsigned long long)participant->sent_messages,
           (unsigned long long)participant->received_messages);
    nr_output_pad(stdout, nr_output_duration(blocked, (int64_t)participant->blocked_ns), 9, true);
    printf(" %6u %6u\n", (unsigned)participant->held_messages, (unsigned)participant->loans);
}

static int nr_stat_table(struct naru_endpoint *observer, const char *uri,
                         const struct naru_stat *stat)
{
    printf("%s: %s, messages of up to %zu bytes", uri, nr_stat_pattern(stat->pattern),
           stat->message_size_max_bytes);
    if (stat->known & NARU_STAT_QUEUED)
        printf(", %llu waiting", (unsigned long long)stat->queued_messages);
    printf("\n%9s  %-8s  %-17s %12s %12s  %9s %6s %6s\n", "PID", "ROLE", "STATE", "SENT",
           "RECEIVED", "BLOCKED", "HOLDS", "LOANS");
    return nr_stat_each(observer, nr_stat_show_line, NULL);
}

static int nr_stat_one(const char *uri, bool as_json)
{
    struct naru_options options = {.size_bytes = sizeof options, .create = NARU_ATTACH};
    struct naru_stat stat = {.size_bytes = sizeof stat};
    struct naru_endpoint *observer = NULL;
    int result = naru_open(&observer, uri, NARU_OBSERVER, &options);

    if (result == 0)
        result = naru_stat(observer, &stat);
    if (result == 0)
        result = as_json ? nr_stat_json(observer, uri, &stat) : nr_stat_table(observer, uri, &stat);
    if (result < 0)
        nr_output_complain("%s", naru_error_text());
    naru_close(observer);
    return result < 0 ? NR_EXIT_FAILURE : NR_EXIT_OK;
}

static int nr_stat_run(int argc, char **argv)
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
        return nr_output_complain_usage("a URI is missing, such as shm://jobs");
    for (int i = optind; i < argc; i++)
        if (nr_stat_one(argv[i], as_json) != NR_EXIT_OK)
            code = NR_EXIT_FAILURE;
    return code;
}

const struct nr_command nr_stat_command = {
    .name = "stat",
    .summary = "show who is attached to a channel, and who holds what",
    .help = nr_stat_help,
    .run = nr_stat_run,
};
