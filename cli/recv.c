/* SPDX-License-Identifier: MIT */
/*
 * recv -- prints what comes
 *
 * What       A message is taken, printed, written through to standard output, and only then
 *            acknowledged: what could not be written goes back to the channel where it has a memory.
 * Ends       Some techniques tell that the senders have ended (fifo, unix, tcp ...). The others don't:
 *            there, after the first message, a second of silence is the end.
 */
#include "arguments.h"
#include "command.h"
#include "json.h"
#include "output.h"
#include "recv.h"
#include "stop.h"
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NR_RECV_END_TRIES = 3 };

#define NR_RECV_QUIET_NS   NARU_SECOND
#define NR_RECV_LOOK_UP_NS NARU_SECOND

static const char nr_recv_help[] =
    "Usage: naru recv URI [OPTION]...\n"
    "\n"
    "Prints the messages that come, a line each. Ends when the senders have ended; where the technique\n"
    "can't tell that (mq, sysv, shm, file, signal), when nothing came for a second after a message.\n"
    "signal://self prints whole numbers; the address for senders is told on standard error.\n"
    "\n"
    "Options:\n"
    "  --follow         go on for ever, from sender to sender, until SIGINT or SIGTERM (exit code 0)\n"
    "  --count N        end after N messages, from however many senders\n"
    "  --timeout S      end with exit code 124 when nothing came for S seconds, or \"forever\"\n"
    "                   (default 10; with --follow forever)\n"
    "  --raw            the bytes as they are, nothing between messages\n"
    "  --null           a zero byte after each message, instead of a line's end\n"
    "  --hex            a line of hexadecimal digits a message\n"
    "  --json           an object a line: data (or data_base64, if it isn't UTF-8), size, type,\n"
    "                   sequence, sender_pid, sender_uid, deliveries, lost, redelivered; null: unknown\n"
    "  --type N         sysv://: only messages of this type (negative: of types up to -N)\n"
    "\n" NR_ARGUMENTS_CHANNEL_HELP "\n"
    "Examples:\n"
    "  naru recv mq://jobs --follow\n"
    "  naru recv unix:///tmp/files --null | xargs -0 ls -l\n"
    "  naru recv sysv://1234 --type 7 --count 1 --json\n"
    "\n"
    "A message is acknowledged once it is written. Exit codes: 0 done, 1 failed, or a sender died,\n"
    "2 wrong usage, 124 nothing came in time.\n";

static const struct option nr_recv_options[] = {
    NR_RECV_COMMON_LONG,
    {"type", required_argument, NULL, NR_RECV_TYPE},
    NR_ARGUMENTS_CHANNEL_LONG,
    {0},
};

struct nr_recv {
    const struct nr_recv_form *form;
    const char *uri;
    const char *value; /* to be set instead; NULL */
    int format;        /* NR_RECV_RAW, _HEX, _JSON, _NULL, or 0: lines */
    bool follows;
    bool is_signal;
    bool output_may_go; /* it is a pipe or a socket, whose reader may end before us */
    bool tells_end;     /* the technique tells when the senders have ended */
    __int128 count;     /* -1: no limit */
    int64_t timeout_ns;
    struct naru_options options;
    struct naru_endpoint *endpoint;
    unsigned long long received_count;
};

static int nr_recv_parse_from(struct naru_options *options, const char *text)
{
    __int128 count = 0;

    if (strcmp(text, "now") == 0)
        options->start = NARU_FROM_NOW;
    else if (strcmp(text, "oldest") == 0)
        options->start = NARU_FROM_OLDEST;
    else if (strncmp(text, "last:", 5) == 0)
        options->start = NARU_FROM_LAST;
    else
        return nr_output_complain_usage("--from: \"%s\" is not now, oldest, or last:N", text);
    if (options->start != NARU_FROM_LAST)
        return 0;
    int code = nr_arguments_integer(&count, "--from last:", text + 5, 1, UINT32_MAX);
    options->start_messages = (uint32_t)count;
    return code;
}

static int nr_recv_parse_option(struct nr_recv *recv, int option)
{
    __int128 type;
    int code;

    switch (option) {
    case NR_RECV_COUNT:
        return nr_arguments_integer(&recv->count, "--count", optarg, 0, INT64_MAX);
    case NR_RECV_FOLLOW:
        recv->follows = true;
        return 0;
    case NR_RECV_TIMEOUT:
        return nr_arguments_seconds(&recv->timeout_ns, "--timeout", optarg);
    case NR_RECV_RAW:
    case NR_RECV_HEX:
    case NR_RECV_JSON:
    case NR_RECV_NULL:
        if (recv->format && recv->format != option)
            return nr_output_complain_usage("--raw, --null, --hex and --json exclude each other");
        recv->format = option;
        return 0;
    case NR_RECV_FROM:
        return nr_recv_parse_from(&recv->options, optarg);
    case NR_RECV_TYPE:
        code = nr_arguments_integer(&type, "--type", optarg, INT64_MIN, INT64_MAX);
        recv->options.type = code ? 0 : (int64_t)type;
        return code;
    default:
        code = nr_arguments_channel(&recv->options, option, optarg);
        return code < 0 ? nr_output_hint_usage() : code;
    }
}

static bool nr_recv_has_scheme(const char *uri, const char *scheme)
{
    size_t length = strlen(scheme);

    return strncmp(uri, scheme, length) == 0 && uri[length] == ':';
}

static int nr_recv_parse(struct nr_recv *recv, int argc, char **argv)
{
    static const char *const endless[] = {"mq", "sysv", "shm", "file", "signal"};
    const int64_t unset = INT64_MIN;
    struct stat status;
    int code = 0;
    int option;

    recv->timeout_ns = unset;
    while (!code && (option = getopt_long(argc, argv, "", recv->form->options, NULL)) != -1)
        code = nr_recv_parse_option(recv, option);
    if (code)
        return code;
    if (optind == argc)
        return nr_output_complain_usage("a URI is missing, such as mq://jobs");
    int most = recv->form->set ? 2 : 1;
    if (argc - optind > most)
        return nr_output_complain_usage("\"%s\" is one argument too many", argv[optind + most]);
    recv->uri = argv[optind];
    recv->value = argv[optind + 1];
    if (recv->form->takes_one && !recv->follows && recv->count < 0)
        recv->count = 1;
    recv->is_signal = nr_recv_has_scheme(recv->uri, "signal");
    recv->output_may_go = fstat(STDOUT_FILENO, &status) == 0 &&
                          (S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode));
    recv->tells_end = true;
    for (size_t i = 0; i < sizeof endless / sizeof endless[0]; i++)
        if (nr_recv_has_scheme(recv->uri, endless[i]))
            recv->tells_end = false;
    if (recv->timeout_ns == unset)
        recv->timeout_ns = recv->follows ? NARU_FOREVER : 10 * NARU_SECOND;
    recv->options.peer_timeout_ns = recv->timeout_ns ? recv->timeout_ns : 1;
    return 0;
}

/* ---- printing ---- */

static void nr_recv_print_json(const struct naru_message *message)
{
    struct nr_json json = {.file = stdout};
    const struct {
        const char *key;
        uint32_t bit;
        __int128 value;
    } fields[] = {
        {"type", NARU_KNOWS_TYPE, message->type},
        {"sequence", NARU_KNOWS_SEQUENCE, message->sequence},
        {"sender_pid", NARU_KNOWS_SENDER_PID, message->sender_pid},
        {"sender_uid", NARU_KNOWS_SENDER_UID, message->sender_uid},
        {"deliveries", NARU_KNOWS_DELIVERIES, message->deliveries},
        {"lost", NARU_KNOWS_LOST, message->lost},
    };

    nr_json_begin(&json, NULL, '{');
    if (nr_json_is_utf8(message->data, message->size_bytes))
        nr_json_bytes(&json, "data", message->data, message->size_bytes);
    else
        nr_json_base64(&json, "data_base64", message->data, message->size_bytes);
    nr_json_integer(&json, "size", message->size_bytes);
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (message->known & fields[i].bit)
            nr_json_integer(&json, fields[i].key, fields[i].value);
        else
            nr_json_null(&json, fields[i].key);
    }
    nr_json_bool(&json, "redelivered", message->flags & NARU_REDELIVERED);
    nr_json_end(&json, '}');
    putchar('\n');
}

static void nr_recv_print(const struct nr_recv *recv, const struct naru_message *received)
{
    struct naru_message message = *received;
    char number[NR_OUTPUT_NUMBER_BYTES];
    const unsigned char *bytes = message.data;
    int64_t value;

    /* A signal's value is a number, and is shown as one wherever text is shown. */
    if (recv->is_signal && message.size_bytes == sizeof value && recv->format != NR_RECV_RAW &&
        recv->format != NR_RECV_HEX) {
        memcpy(&value, message.data, sizeof value);
        message.data = (void *)nr_output_integer(number, value);
        message.size_bytes = strlen(number);
    }
    if (recv->format == NR_RECV_JSON) {
        nr_recv_print_json(&message);
        return;
    }
    if (recv->format == NR_RECV_HEX) {
        for (size_t i = 0; i < message.size_bytes; i++)
            printf("%02x", bytes[i]);
    } else if (message.size_bytes) {
        fwrite(message.data, 1, message.size_bytes, stdout);
    }
    if (recv->format == NR_RECV_NULL)
        putchar('\0');
    else if (recv->format != NR_RECV_RAW)
        putchar('\n');
}

/* ---- receiving ---- */

/* Prints one message; 0, or the exit code. */
static int nr_recv_accept(struct nr_recv *recv, struct naru_message *message)
{
    errno = 0;
    nr_recv_print(recv, message);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        nr_output_complain("cannot write to standard output: %s", strerror(errno));
        naru_requeue(recv->endpoint, message);
        /* nr_output_finish() need not say it again. */
        clearerr(stdout);
        return NR_EXIT_FAILURE;
    }
    recv->received_count++;
    if (message->lost && recv->form->tells_losses)
        nr_output_complain("%llu messages before this one were lost",
                           (unsigned long long)message->lost);
    if (naru_ack(recv->endpoint, message) < 0) {
        nr_output_complain("%s", naru_error_text());
        return NR_EXIT_FAILURE;
    }
    return 0;
}

static int64_t nr_recv_patience_ns(const struct nr_recv *recv)
{
    bool may_be_over =
        !recv->follows && recv->count < 0 && !recv->tells_end && recv->received_count;

    if (may_be_over && (recv->timeout_ns == NARU_FOREVER || recv->timeout_ns > NR_RECV_QUIET_NS))
        return NR_RECV_QUIET_NS;
    return recv->timeout_ns;
}

/* Nothing came, or what came is an end. -1: go on. Otherwise the exit code. */
static int nr_recv_judge(const struct nr_recv *recv, int error)
{
    /* What stands behind an inherited pipe is over when it has ended; a name may see others. */
    bool goes_on = (recv->follows || recv->count >= 0) && !nr_recv_has_scheme(recv->uri, "pipe");

    switch (error) {
    case -EINTR:
        return -1; /* the loop looks at the signal */
    case -ECANCELED:
        nr_output_complain("cannot write to standard output: its reader has gone");
        return NR_EXIT_FAILURE;
    case -EPIPE:
        if (goes_on)
            return -1;
        if (recv->count <= 0)
            return NR_EXIT_OK;
        nr_output_complain("%s; %llu messages came", naru_error_text(), recv->received_count);
        return NR_EXIT_FAILURE;
    case -EOWNERDEAD:
        nr_output_complain("%s", naru_error_text());
        return goes_on ? -1 : NR_EXIT_FAILURE;
    case -ETIMEDOUT:
    case -EAGAIN:
        if (!goes_on && !recv->tells_end && recv->received_count)
            return NR_EXIT_OK;
        nr_output_complain("%s: nothing came in time, after %llu messages", recv->uri,
                           recv->received_count);
        return NR_EXIT_TIMEOUT;
    default:
        nr_output_complain("%s", naru_error_text());
        return NR_EXIT_FAILURE;
    }
}

/* Whoever reads our output through a pipe has gone away: there is nobody to receive for. */
static bool nr_recv_output_is_gone(void)
{
    struct pollfd output = {.fd = STDOUT_FILENO};

    return poll(&output, 1, 0) > 0 && (output.revents & POLLERR);
}

/* naru_take(), looking up now and then, as a write that would fail may never come. -ECANCELED then. */
static int nr_recv_take(struct nr_recv *recv, struct naru_message *message)
{
    int64_t left_ns = nr_recv_patience_ns(recv);
    int result;

    for (;;) {
        bool is_long = left_ns == NARU_FOREVER || left_ns > NR_RECV_LOOK_UP_NS;
        bool is_slice = is_long && recv->output_may_go;

        result = naru_take(recv->endpoint, message, is_slice ? NR_RECV_LOOK_UP_NS : left_ns);
        if (result != -ETIMEDOUT || !is_slice)
            return result;
        if (nr_recv_output_is_gone())
            return -ECANCELED;
        if (left_ns != NARU_FOREVER)
            left_ns -= NR_RECV_LOOK_UP_NS;
    }
}

/*
 * A sender that came before us listens itself, and we attached to it (unix, tcp): once it has ended, our
 * endpoint has ended for good, and we take its place. Where we listen, the end is told once, and there may
 * be others waiting already: that endpoint must stay. 0: a message came meanwhile. On failure *ret_code is
 * the exit code.
 */
static int nr_recv_renew(struct nr_recv *recv, struct naru_message *message, int *ret_code)
{
    int result = 0;

    for (int i = 0; i < NR_RECV_END_TRIES; i++) {
        result = naru_take(recv->endpoint, message, 0);
        if (result != -EPIPE && result != -EOWNERDEAD)
            return result;
    }
    nr_stop_watch(NULL);
    naru_close(recv->endpoint);
    recv->endpoint = NULL;
    result = naru_open(&recv->endpoint, recv->uri, NARU_RECEIVER, &recv->options);
    if (result < 0) {
        nr_output_complain("%s", naru_error_text());
        *ret_code = NR_EXIT_FAILURE;
        return result;
    }
    nr_stop_watch(recv->endpoint);
    return -EAGAIN;
}

static int nr_recv_loop(struct nr_recv *recv)
{
    int code = -1;

    nr_stop_watch(recv->endpoint);
    while (code < 0 && recv->count != 0 && !nr_stop_signal()) {
        struct naru_message message = {0};
        int result = nr_recv_take(recv, &message);

        if (result < 0)
            code = nr_recv_judge(recv, result);
        if (code < 0 && (result == -EPIPE || result == -EOWNERDEAD))
            result = nr_recv_renew(recv, &message, &code);
        if (result < 0)
            continue;
        int failed = nr_recv_accept(recv, &message);
        if (failed)
            code = failed;
        if (recv->count > 0)
            recv->count--;
    }
    nr_stop_watch(NULL);
    return code < 0 ? NR_EXIT_OK : code;
}

/* signal:// is received only while it is blocked, from before the endpoint is opened. */
static void nr_recv_prepare_signal(struct nr_recv *recv)
{
    sigset_t only;

    if (!recv->options.signal_number)
        recv->options.signal_number = SIGRTMIN + 1;
    sigemptyset(&only);
    sigaddset(&only, recv->options.signal_number);
    sigprocmask(SIG_BLOCK, &only, NULL);
}

int nr_recv_main(int argc, char **argv, const struct nr_recv_form *form)
{
    struct nr_recv recv = {
        .form = form,
        .count = -1,
        .options = {.size_bytes = sizeof recv.options, .pattern = form->pattern},
    };

    int code = nr_recv_parse(&recv, argc, argv);
    if (code)
        return code;
    if (recv.value)
        return form->set(recv.uri, recv.value, &recv.options);
    if (recv.is_signal)
        nr_recv_prepare_signal(&recv);
    int result = naru_open(&recv.endpoint, recv.uri, NARU_RECEIVER, &recv.options);
    if (result < 0) {
        nr_output_complain("%s", naru_error_text());
        return result == -ETIMEDOUT ? NR_EXIT_TIMEOUT : NR_EXIT_FAILURE;
    }
    if (recv.is_signal)
        nr_output_complain("this is signal://%d", (int)getpid());
    nr_stop_init();
    code = nr_recv_loop(&recv);
    naru_close(recv.endpoint);
    /* To be told to stop is how --follow ends; for the rest it is an interruption. */
    if (!recv.follows)
        nr_stop_die();
    return code;
}

static int nr_recv_run(int argc, char **argv)
{
    static const struct nr_recv_form form = {.options = nr_recv_options};

    return nr_recv_main(argc, argv, &form);
}

const struct nr_command nr_recv_command = {
    .name = "recv",
    .summary = "print the messages that come, a line each",
    .help = nr_recv_help,
    .run = nr_recv_run,
};
