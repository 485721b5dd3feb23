/* SPDX-License-Identifier: MIT */
/*
 * answer -- runs a command for each request: the request on its standard input, its standard output the reply
 *
 * Jobs       Each is a process with an endpoint of its own, so that one which dies gives its request to another.
 * Copies     None of ours: the command reads the request from where it stands in the channel, and its output is read to
 *            where the reply will stand.
 * Ends       SIGINT and SIGTERM end it: a request whose command was running goes to another server.
 */
#include "arguments.h"
#include "command.h"
#include "crew.h"
#include "output.h"
#include "stop.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <naru/call.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NR_ANSWER_JOBS = 1, NR_ANSWER_COUNT, NR_ANSWER_AT_MOST_ONCE, NR_ANSWER_JOBS_MOST = 64 };

static const char nr_answer_help[] =
    "Usage: naru answer URI [OPTION]... -- COMMAND [ARGUMENT]...\n"
    "\n"
    "Answers the requests of `naru call`, and of naru_call(3): for each it runs COMMAND, with the\n"
    "request on its standard input. What the command prints is the reply. If it ends with another exit\n"
    "code than 0, the reply is an error with that code (128 + N if signal N killed it) and with what it\n"
    "has printed.\n"
    "\n"
    "Options:\n"
    "  --jobs N             N requests at once, 1 to 64 (default 1)\n"
    "  --count N            end after N requests (each job, that is)\n"
    "  --at-most-once       whoever creates the channel declares: when a server dies with a request in\n"
    "                       hand, the client gets an error; otherwise another server gets the request\n"
    "\n" NR_ARGUMENTS_CHANNEL_HELP "\n"
    "Examples:\n"
    "  naru answer shm://upper -- tr a-z A-Z\n"
    "  naru answer shm://sums --jobs 4 -- bc -l\n"
    "\n"
    "It goes on until SIGINT or SIGTERM (exit code 0). Exit codes: 0 done, 1 failed, 2 wrong usage.\n";

static const struct option nr_answer_options[] = {
    {"jobs", required_argument, NULL, NR_ANSWER_JOBS},
    {"count", required_argument, NULL, NR_ANSWER_COUNT},
    {"at-most-once", no_argument, NULL, NR_ANSWER_AT_MOST_ONCE},
    NR_ARGUMENTS_CHANNEL_LONG,
    {0},
};

struct nr_answer {
    const char *uri;
    char **command;
    unsigned jobs;
    __int128 count; /* -1: no limit */
    struct naru_options options;
    struct naru_endpoint *endpoint;
    char *reply;                    /* in the channel */
    size_t reply_bytes, room_bytes; /* how much there is; the largest that the channel carries */
};

static int nr_answer_parse(struct nr_answer *answer, int argc, char **argv)
{
    __int128 jobs = 1;
    int code = 0;
    int option;

    while (!code && (option = getopt_long(argc, argv, "", nr_answer_options, NULL)) != -1) {
        if (option == NR_ANSWER_JOBS)
            code = nr_arguments_integer(&jobs, "--jobs", optarg, 1, NR_ANSWER_JOBS_MOST);
        else if (option == NR_ANSWER_COUNT)
            code = nr_arguments_integer(&answer->count, "--count", optarg, 1, INT64_MAX);
        else if (option == NR_ANSWER_AT_MOST_ONCE)
            answer->options.delivery = NARU_AT_MOST_ONCE;
        else if ((code = nr_arguments_channel(&answer->options, option, optarg)) < 0)
            code = nr_output_hint_usage();
    }
    if (code)
        return code;
    if (optind == argc)
        return nr_output_complain_usage("a URI is missing, such as shm://upper");
    if (argc - optind < 2)
        return nr_output_complain_usage("a command is missing, as in: naru answer %s -- tr a-z A-Z",
                                        argv[optind]);
    answer->uri = argv[optind];
    answer->command = argv + optind + 1;
    answer->jobs = (unsigned)jobs;
    return 0;
}

/* ---- the command ---- */

struct nr_answer_run {
    pid_t pid;
    int in, out; /* our ends: its standard input, -1 when all is written; its standard output */
    const char *request;
    size_t left_bytes;
    bool is_too_large;
};

static _Noreturn void nr_answer_exec(char **command, const int in[2], const int out[2])
{
    nr_stop_forget();
    signal(SIGPIPE, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (dup2(in[0], STDIN_FILENO) < 0 || dup2(out[1], STDOUT_FILENO) < 0)
        _exit(126);
    execvp(command[0], command);
    nr_output_complain("cannot run %s: %s", command[0], strerror(errno));
    _exit(127);
}

static int nr_answer_start(struct nr_answer_run *run, char **command)
{
    int in[2], out[2];

    if (pipe2(in, O_CLOEXEC) < 0)
        return -errno;
    if (pipe2(out, O_CLOEXEC) < 0) {
        close(in[0]);
        close(in[1]);
        return -errno;
    }
    run->pid = fork();
    int error = errno;
    if (run->pid == 0)
        nr_answer_exec(command, in, out);
    close(in[0]);
    close(out[1]);
    run->in = in[1];
    run->out = out[0];
    fcntl(run->in, F_SETFL, O_NONBLOCK);
    return run->pid < 0 ? -error : 0;
}

static void nr_answer_write(struct nr_answer_run *run)
{
    ssize_t written = run->left_bytes ? write(run->in, run->request, run->left_bytes) : 0;

    if (written > 0) {
        run->request += written;
        run->left_bytes -= (size_t)written;
    }
    /* All of it is there, or the command does not want it. */
    if (run->left_bytes == 0 || (written < 0 && errno != EAGAIN && errno != EINTR)) {
        close(run->in);
        run->in = -1;
    }
}

/* False when the command has closed its output. */
static bool nr_answer_read(struct nr_answer *answer, struct nr_answer_run *run)
{
    char rest[4096];
    size_t room_bytes = answer->room_bytes - answer->reply_bytes;
    ssize_t got = read(run->out, room_bytes ? answer->reply + answer->reply_bytes : rest,
                       room_bytes ? room_bytes : sizeof rest);

    if (got > 0 && room_bytes)
        answer->reply_bytes += (size_t)got;
    else if (got > 0)
        run->is_too_large = true;
    return got > 0 || (got < 0 && errno == EINTR);
}

/* The command's exit code, or -EINTR: we are to end. */
static int nr_answer_talk(struct nr_answer *answer, struct nr_answer_run *run)
{
    int status = 0;
    bool goes_on = true;

    while (goes_on && !nr_stop_signal()) {
        struct pollfd fds[2] = {{.fd = run->out, .events = POLLIN},
                                {.fd = run->in, .events = POLLOUT}};
        if (poll(fds, 2, 1000) <= 0)
            continue;
        if (fds[1].revents)
            nr_answer_write(run);
        if (fds[0].revents)
            goes_on = nr_answer_read(answer, run);
    }
    if (run->in >= 0)
        close(run->in);
    close(run->out);
    if (goes_on)
        kill(run->pid, SIGTERM);
    while (waitpid(run->pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (goes_on)
        return -EINTR;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* ---- requests ---- */

/* 0: answered, one way or another. Otherwise the exit code. */
static int nr_answer_one(struct nr_answer *answer, struct naru_message *request)
{
    static const char too_large[] = "the reply is larger than the channel carries";
    struct nr_answer_run run = {.request = request->data, .left_bytes = request->size_bytes};
    void *place = NULL;

    answer->reply_bytes = 0;
    int result = naru_reply_loan(answer->endpoint, request, answer->room_bytes, &place);
    answer->reply = place;
    if (result < 0) {
        nr_output_complain("%s", naru_error_text());
        return NR_EXIT_FAILURE;
    }
    result = nr_answer_start(&run, answer->command);
    if (result < 0) {
        nr_output_complain("cannot start %s: %s", answer->command[0], strerror(-result));
        naru_requeue(answer->endpoint, request);
        return NR_EXIT_FAILURE;
    }
    int code = nr_answer_talk(answer, &run);
    if (code == -EINTR)
        result = naru_requeue(answer->endpoint, request);
    else if (run.is_too_large)
        result =
            naru_reply_error(answer->endpoint, request, EMSGSIZE, too_large, sizeof too_large - 1);
    else if (code != 0)
        result =
            naru_reply_error(answer->endpoint, request, code, answer->reply, answer->reply_bytes);
    else
        result = naru_reply(answer->endpoint, request, answer->reply, answer->reply_bytes);
    if (result < 0 && result != -EPIPE) { /* nobody waits any more: no fault of ours */
        nr_output_complain("%s", naru_error_text());
        return NR_EXIT_FAILURE;
    }
    return 0;
}

static int nr_answer_loop(struct nr_answer *answer)
{
    int code = 0;

    while (!code && answer->count != 0 && !nr_stop_signal()) {
        struct naru_message request;
        nr_stop_watch(answer->endpoint);
        int result =
            nr_stop_signal() ? -EINTR : naru_take(answer->endpoint, &request, NARU_FOREVER);
        nr_stop_watch(NULL);
        if (result == -EINTR)
            continue;
        if (result < 0) {
            nr_output_complain("%s", naru_error_text());
            return NR_EXIT_FAILURE;
        }
        code = nr_answer_one(answer, &request);
        if (answer->count > 0)
            answer->count--;
    }
    return code;
}

/* One job, in a process of its own or in this one. */
static int nr_answer_job(void *context, unsigned index)
{
    struct nr_answer *answer = context;
    struct naru_stat stat = {.size_bytes = sizeof stat};

    (void)index;
    nr_stop_init();
    int result = naru_open(&answer->endpoint, answer->uri, NARU_RECEIVER, &answer->options);
    if (result == 0)
        result = naru_stat(answer->endpoint, &stat);
    if (result < 0) {
        nr_output_complain("%s", naru_error_text());
        naru_close(answer->endpoint);
        return NR_EXIT_FAILURE;
    }
    answer->room_bytes = stat.message_size_max_bytes;
    int code = nr_answer_loop(answer);
    naru_close(answer->endpoint);
    return code;
}

/* ---- jobs ---- */

static int nr_answer_crew(struct nr_answer *answer)
{
    struct nr_crew crew;
    bool was_told = false;
    char text[160];

    if (nr_crew_init(&crew, answer->jobs) < 0) {
        nr_output_complain("there is no memory for %u jobs", answer->jobs);
        return NR_EXIT_FAILURE;
    }
    nr_stop_init();
    for (unsigned i = 0; i < answer->jobs && !nr_stop_signal(); i++) {
        int pid = nr_crew_start(&crew, nr_answer_job, answer);
        if (pid < 0)
            nr_output_complain("cannot start job %u: %s", i + 1, strerror(-pid));
        answer->options.create = answer->options.create == NARU_CREATE ? 0 : answer->options.create;
    }
    while (crew.alive_count) {
        if (nr_stop_signal() && !was_told)
            for (unsigned i = 0; i < crew.started_count; i++)
                if (!crew.members[i].ended)
                    kill(crew.members[i].pid, SIGTERM);
        was_told = nr_stop_signal();
        poll(NULL, 0, 100);
        nr_crew_reap(&crew);
    }
    int code = crew.casualty < 0 && crew.started_count ? NR_EXIT_OK : NR_EXIT_FAILURE;
    if (crew.casualty >= 0)
        nr_output_complain("%s", nr_crew_casualty(&crew, text, sizeof text));
    nr_crew_deinit(&crew);
    return code;
}

static int nr_answer_run(int argc, char **argv)
{
    struct nr_answer answer = {
        .count = -1,
        .options = {.size_bytes = sizeof answer.options, .pattern = NARU_CALL},
    };

    int code = nr_answer_parse(&answer, argc, argv);
    if (code)
        return code;
    return answer.jobs == 1 ? nr_answer_job(&answer, 0) : nr_answer_crew(&answer);
}

const struct nr_command nr_answer_command = {
    .name = "answer",
    .summary = "answer requests by running a command for each",
    .help = nr_answer_help,
    .run = nr_answer_run,
};
