/* SPDX-License-Identifier: MIT */
#include "arguments.h"
#include "command.h"
#include "input.h"
#include "output.h"
#include "send.h"
#include "stop.h"
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

static const char nr_send_help[] =
    "Usage: naru send URI [MESSAGE] [OPTION]...\n"
    "\n"
    "Sends MESSAGE, or, without one, standard input: a message a line, without the line's end. To\n"
    "signal://PID it sends whole numbers of 64 bits, written in decimal.\n"
    "\n"
    "Options:\n"
    "  --type N             the message's type: System V type (1 or more), POSIX priority\n"
    "  --wait S             wait at most S seconds for the other side: to come, where the technique\n"
    "                       needs one (fifo, unix, tcp ...), and to make room in a full channel.\n"
    "                       0 tries once; \"forever\" waits (default 10)\n"
    "  --null               messages in standard input end with a zero byte, not with a line's end\n"
    "  --whole              standard input is one message\n"
    "\n" NR_ARGUMENTS_CHANNEL_HELP "\n"
    "Examples:\n"
    "  naru send mq://jobs \"build 17\"\n"
    "  seq 1000 | naru send mq://jobs\n"
    "  find . -print0 | naru send --null unix:///tmp/files\n"
    "  naru send signal://4711 -- -5          \"--\" before what begins with a minus\n"
    "\n"
    "Exit codes: 0 all sent, 1 failed, 2 wrong usage, 124 nobody came, or nobody made room.\n";

static const struct option nr_send_options[] = {
    NR_SEND_LONG,
    NR_ARGUMENTS_CHANNEL_LONG,
    {0},
};

struct nr_send {
    const char *uri;
    const char *message; /* NULL: standard input */
    int delimiter;       /* EOF: none, the input is one message */
    int64_t type;
    int64_t wait_ns;
    bool takes_numbers; /* signal:// */
    struct naru_options options;
    struct naru_endpoint *endpoint;
    unsigned long long sent_count;
};

static int nr_send_parse(struct nr_send *send, int argc, char **argv, const struct option *options)
{
    __int128 type = 0;
    int code = 0;
    int option;

    while (!code && (option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == NR_SEND_TYPE)
            code = nr_arguments_integer(&type, "--type", optarg, INT64_MIN, INT64_MAX);
        else if (option == NR_SEND_WAIT)
            code = nr_arguments_seconds(&send->wait_ns, "--wait", optarg);
        else if (option == NR_SEND_NULL)
            send->delimiter = '\0';
        else if (option == NR_SEND_WHOLE)
            send->delimiter = EOF;
        else if ((code = nr_arguments_channel(&send->options, option, optarg)) < 0)
            code = nr_output_hint_usage();
    }
    if (code)
        return code;
    if (optind == argc)
        return nr_output_complain_usage("a URI is missing, such as mq://jobs");
    if (argc - optind > 2)
        return nr_output_complain_usage(
            "\"%s\" is one argument too many; put quotes around a message "
            "with blanks",
            argv[optind + 2]);
    send->uri = argv[optind];
    send->message = argv[optind + 1];
    send->type = (int64_t)type;
    send->takes_numbers = strncmp(send->uri, "signal:", 7) == 0;
    /* An open has no "try once": the shortest wait comes next to it. 0 would mean the default. */
    send->options.peer_timeout_ns = send->wait_ns ? send->wait_ns : 1;
    return 0;
}

/* The library has told the reason. */
static int nr_send_failed(const struct nr_send *send, int error)
{
    if (error == -EINTR)
        return NR_EXIT_FAILURE;
    bool is_late = error == -ETIMEDOUT || error == -EAGAIN;
    bool names_who = error == -ETIMEDOUT && send->options.pattern == NARU_TOPIC;
    if (is_late && send->endpoint && !names_who)
        nr_output_complain(
            "%s: nobody made room in time; --wait waits longer; %llu messages were sent", send->uri,
            send->sent_count);
    else if (send->sent_count)
        nr_output_complain("%s; %llu messages were sent", naru_error_text(), send->sent_count);
    else
        nr_output_complain("%s", naru_error_text());
    return is_late ? NR_EXIT_TIMEOUT : NR_EXIT_FAILURE;
}

static int nr_send_bytes(struct nr_send *send, const void *data, size_t size_bytes)
{
    struct iovec part = {.iov_base = (void *)data, .iov_len = size_bytes};
    struct naru_message attributes = {.type = send->type};
    int result;

    do {
        if (nr_stop_signal())
            return nr_send_failed(send, -EINTR);
        result = naru_sendv(send->endpoint, &part, 1, &attributes, send->wait_ns);
    } while (result == -EINTR);
    if (result < 0)
        return nr_send_failed(send, result);
    send->sent_count++;
    return 0;
}

static int nr_send_number(const char *text, int64_t *ret)
{
    __int128 number = 0;
    int code = nr_arguments_integer(&number, "a message to signal://", text, INT64_MIN, INT64_MAX);

    *ret = (int64_t)number;
    return code;
}

static int nr_send_one(struct nr_send *send, const char *data, size_t size_bytes)
{
    int64_t value;

    if (!send->takes_numbers)
        return nr_send_bytes(send, data, size_bytes);
    int code = nr_send_number(data, &value);
    return code ? code : nr_send_bytes(send, &value, sizeof value);
}

static int nr_send_lines(struct nr_send *send)
{
    char *line = NULL;
    size_t room_bytes = 0;
    ssize_t size_bytes;
    int code = 0;

    while (!code && (size_bytes = getdelim(&line, &room_bytes, send->delimiter, stdin)) >= 0) {
        if (size_bytes && line[size_bytes - 1] == (char)send->delimiter)
            line[--size_bytes] = '\0';
        code = nr_send_one(send, line, (size_t)size_bytes);
    }
    free(line);
    return code;
}

static int nr_send_whole(struct nr_send *send)
{
    size_t size_bytes;
    char *text = nr_input_read(stdin, &size_bytes);

    if (!text)
        return NR_EXIT_FAILURE;
    int code = ferror(stdin) ? 0 : nr_send_one(send, text, size_bytes);
    free(text);
    return code;
}

static int nr_send_input(struct nr_send *send)
{
    int code = send->delimiter == EOF ? nr_send_whole(send) : nr_send_lines(send);

    if (!code && nr_stop_signal())
        return nr_send_failed(send, -EINTR);
    if (!code && ferror(stdin)) {
        nr_output_complain("cannot read standard input; %llu messages were sent", send->sent_count);
        return NR_EXIT_FAILURE;
    }
    return code;
}

int nr_send_main(int argc, char **argv, const struct option *options, enum naru_pattern pattern)
{
    struct nr_send send = {
        .delimiter = '\n',
        .wait_ns = 10 * NARU_SECOND,
        .options = {.size_bytes = sizeof send.options, .pattern = pattern},
    };

    int64_t value;
    int code = nr_send_parse(&send, argc, argv, options);
    if (!code && send.takes_numbers && send.message)
        code = nr_send_number(send.message, &value);
    if (code)
        return code;
    int result = naru_open(&send.endpoint, send.uri, NARU_SENDER, &send.options);
    if (result < 0)
        return nr_send_failed(&send, result);
    nr_stop_init();
    nr_stop_watch(send.endpoint);
    code = send.message ? nr_send_one(&send, send.message, strlen(send.message))
                        : nr_send_input(&send);
    nr_stop_watch(NULL);
    naru_close(send.endpoint);
    nr_stop_die();
    return code;
}

static int nr_send_run(int argc, char **argv)
{
    return nr_send_main(argc, argv, nr_send_options, 0);
}

const struct nr_command nr_send_command = {
    .name = "send",
    .summary = "send a message, or standard input line by line",
    .help = nr_send_help,
    .run = nr_send_run,
};
