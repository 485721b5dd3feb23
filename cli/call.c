/* SPDX-License-Identifier: MIT */
/* call -- asks, and prints the reply */
#include "arguments.h"
#include "command.h"
#include "input.h"
#include "json.h"
#include "output.h"
#include "stop.h"
#include <errno.h>
#include <getopt.h>
#include <naru/call.h>
#include <stdlib.h>
#include <string.h>

enum { NR_CALL_TIMEOUT = 1, NR_CALL_TYPE, NR_CALL_JSON };

static const char nr_call_help[] =
    "Usage: naru call URI [REQUEST|-] [OPTION]...\n"
    "\n"
    "Sends a request, REQUEST or what comes from standard input, to one of the servers of the channel,\n"
    "and prints the reply, byte by byte. `naru answer` is such a server; others use naru_reply(3).\n"
    "\n"
    "Options:\n"
    "  --timeout S          wait at most S seconds for the reply, or \"forever\" (default 10)\n"
    "  --type N             a tag for the request, which the server sees as the message's type\n"
    "  --json               an object: reply (or reply_base64, if it isn't UTF-8), size, error (null, or\n"
    "                       the server's code), server_pid, deliveries, redelivered\n"
    "\n" NR_ARGUMENTS_CHANNEL_HELP "\n"
    "Examples:\n"
    "  naru answer shm://upper -- tr a-z A-Z &\n"
    "  naru call shm://upper \"good day\"\n"
    "  naru call shm://upper < /etc/hostname\n"
    "\n"
    "Exit codes: 0 answered, 1 failed, or the server answered with an error, 2 wrong usage, 124 nobody\n"
    "answered in time.\n";

static const struct option nr_call_options[] = {
    {"timeout", required_argument, NULL, NR_CALL_TIMEOUT},
    {"type", required_argument, NULL, NR_CALL_TYPE},
    {"json", no_argument, NULL, NR_CALL_JSON},
    NR_ARGUMENTS_CHANNEL_LONG,
    {0},
};

struct nr_call {
    const char *uri;
    const char *request; /* NULL: standard input */
    bool is_json;
    int64_t timeout_ns;
    struct naru_options options;
    struct naru_endpoint *endpoint;
    struct naru_call call;
};

static int nr_call_parse(struct nr_call *call, int argc, char **argv)
{
    __int128 type = 0;
    int code = 0;
    int option;

    while (!code && (option = getopt_long(argc, argv, "", nr_call_options, NULL)) != -1) {
        if (option == NR_CALL_TIMEOUT)
            code = nr_arguments_seconds(&call->timeout_ns, "--timeout", optarg);
        else if (option == NR_CALL_TYPE)
            code = nr_arguments_integer(&type, "--type", optarg, INT64_MIN, INT64_MAX);
        else if (option == NR_CALL_JSON)
            call->is_json = true;
        else if ((code = nr_arguments_channel(&call->options, option, optarg)) < 0)
            code = nr_output_hint_usage();
    }
    if (code)
        return code;
    if (optind == argc)
        return nr_output_complain_usage("a URI is missing, such as shm://upper");
    if (argc - optind > 2)
        return nr_output_complain_usage(
            "\"%s\" is one argument too many; put quotes around a request with blanks",
            argv[optind + 2]);
    call->uri = argv[optind];
    call->request = argv[optind + 1];
    if (call->request && strcmp(call->request, "-") == 0)
        call->request = NULL;
    call->call.type = (int64_t)type;
    return 0;
}

/* ---- printing ---- */

static void nr_call_print_json(const struct naru_call *call)
{
    struct nr_json json = {.file = stdout};

    nr_json_begin(&json, NULL, '{');
    if (nr_json_is_utf8(call->reply, call->reply_size_bytes))
        nr_json_bytes(&json, "reply", call->reply, call->reply_size_bytes);
    else
        nr_json_base64(&json, "reply_base64", call->reply, call->reply_size_bytes);
    nr_json_integer(&json, "size", call->reply_size_bytes);
    if (call->error)
        nr_json_integer(&json, "error", call->error);
    else
        nr_json_null(&json, "error");
    nr_json_integer(&json, "server_pid", call->server_pid);
    nr_json_integer(&json, "deliveries", call->deliveries);
    nr_json_bool(&json, "redelivered", call->flags & NARU_REDELIVERED);
    nr_json_end(&json, '}');
    putchar('\n');
}

/* The text of an error goes where errors go. */
static int nr_call_print(const struct nr_call *call)
{
    const struct naru_call *reply = &call->call;
    const char *text = reply->reply;
    size_t length = reply->reply_size_bytes;

    if (call->is_json)
        nr_call_print_json(reply);
    else if (!reply->error && length)
        fwrite(text, 1, length, stdout);
    if (!reply->error)
        return NR_EXIT_OK;
    while (length && text[length - 1] == '\n')
        length--;
    nr_output_complain("%s: process %d answered with error %d%s%.*s", call->uri,
                       (int)reply->server_pid, (int)reply->error, length ? ": " : "", (int)length,
                       text);
    return NR_EXIT_FAILURE;
}

/* ---- asking ---- */

/* naru_call(), with the room that the reply turns out to need. */
static int nr_call_ask(struct nr_call *call)
{
    int result;

    nr_stop_watch(call->endpoint);
    result = nr_stop_signal() ? -EINTR : naru_call(call->endpoint, &call->call, call->timeout_ns);
    nr_stop_watch(NULL);
    if (result != -EMSGSIZE || !call->call.reply_size_bytes)
        return result;
    call->call.reply_capacity_bytes = call->call.reply_size_bytes;
    call->call.reply = malloc(call->call.reply_capacity_bytes);
    if (!call->call.reply)
        call->call.reply_capacity_bytes = 0;
    return naru_call_end(call->endpoint, &call->call, 0);
}

static int nr_call_finish(const struct nr_call *call, int result)
{
    if (result == 0 || result == -EREMOTEIO)
        return nr_call_print(call);
    if (result == -EINTR)
        return NR_EXIT_FAILURE;
    if (result == -ETIMEDOUT || result == -EAGAIN) {
        nr_output_complain("%s: nobody answered in time; --timeout waits longer", call->uri);
        return NR_EXIT_TIMEOUT;
    }
    nr_output_complain("%s", naru_error_text());
    return NR_EXIT_FAILURE;
}

static int nr_call_run(int argc, char **argv)
{
    struct nr_call call = {
        .timeout_ns = 10 * NARU_SECOND,
        .options = {.size_bytes = sizeof call.options, .pattern = NARU_CALL},
        .call = {.size_bytes = sizeof call.call},
    };
    char *input = NULL;

    int code = nr_call_parse(&call, argc, argv);
    if (code)
        return code;
    call.call.request = call.request;
    if (call.request)
        call.call.request_size_bytes = strlen(call.request);
    else
        call.call.request = input = nr_input_read(stdin, &call.call.request_size_bytes);
    if (!call.call.request || (input && ferror(stdin))) {
        if (input)
            nr_output_complain("cannot read standard input");
        free(input);
        return NR_EXIT_FAILURE;
    }
    int result = naru_open(&call.endpoint, call.uri, NARU_SENDER, &call.options);
    if (result == 0) {
        nr_stop_init();
        result = nr_call_ask(&call);
    }
    code = nr_call_finish(&call, result);
    naru_close(call.endpoint);
    free(input);
    free(call.call.reply);
    nr_stop_die();
    return code;
}

const struct nr_command nr_call_command = {
    .name = "call",
    .summary = "send a request, and print the reply",
    .help = nr_call_help,
    .run = nr_call_run,
};
