/* SPDX-License-Identifier: MIT */
/*
 * run -- naru run: keeps a command running
 *
 * What       A supervisor with one service, in a loop of poll(2) over its descriptor and a signalfd.
 * Signals    SIGTERM and SIGINT stop the command and end this; SIGHUP goes on to the command.
 * Death      The command dies with this process, however that ends.
 */
#include "arguments.h"
#include "command.h"
#include "json.h"
#include "output.h"
#include <errno.h>
#include <getopt.h>
#include <naru/supervisor.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const char nr_run_help[] =
    "Usage: naru run [OPTION]... -- COMMAND [ARGUMENT]...\n"
    "\n"
    "Runs a command, and starts it again when it dies, after a pause that grows with each death in a row.\n"
    "SIGTERM and SIGINT stop it: it gets SIGTERM, and SIGKILL when the grace is over. SIGHUP goes on to\n"
    "it. It dies with naru run, however that ends. Tells on standard error what happens.\n"
    "\n"
    "Options:\n"
    "  --restart WHEN    always, failure (unless it ends with exit status 0; the default), never\n"
    "  --deaths N        give up after N deaths in a row (default: never)\n"
    "  --pause S         seconds before the first restart; doubles with each death in a row (0.1)\n"
    "  --pause-max S     and is never longer (10)\n"
    "  --steady S        seconds after which earlier deaths are forgotten (10)\n"
    "  --grace S         seconds from SIGTERM to SIGKILL, or forever (10)\n"
    "  --ready S         it says that it is ready by a newline to the descriptor NARU_READY_FD, within S\n"
    "                    seconds, or it is killed; that is passed on to whoever asks naru run for it\n"
    "  --notify S        the same, but by READY=1 to the socket NOTIFY_SOCKET, as sd_notify(3) does\n"
    "  --json            tell each event as a JSON object a line, on standard error\n"
    "  --help            this text\n"
    "\n"
    "Examples:\n"
    "  naru run -- ./server 8080\n"
    "  naru run --restart always --deaths 5 -- sh -c 'sleep 1; exit 3'\n"
    "  naru run --ready 5 -- sh -c 'prepare; echo >&$NARU_READY_FD; exec serve'\n"
    "\n"
    "Exit codes: 0 it ended with exit status 0 or was stopped, 1 it failed and is not started again, or\n"
    "could not be started, 2 wrong usage.\n";

enum {
    NR_RUN_RESTART = 1,
    NR_RUN_DEATHS,
    NR_RUN_PAUSE,
    NR_RUN_PAUSE_MAX,
    NR_RUN_STEADY,
    NR_RUN_GRACE,
    NR_RUN_READY,
    NR_RUN_NOTIFY,
    NR_RUN_JSON,
};

static const struct option nr_run_options[] = {
    {"restart", required_argument, NULL, NR_RUN_RESTART},
    {"deaths", required_argument, NULL, NR_RUN_DEATHS},
    {"pause", required_argument, NULL, NR_RUN_PAUSE},
    {"pause-max", required_argument, NULL, NR_RUN_PAUSE_MAX},
    {"steady", required_argument, NULL, NR_RUN_STEADY},
    {"grace", required_argument, NULL, NR_RUN_GRACE},
    {"ready", required_argument, NULL, NR_RUN_READY},
    {"notify", required_argument, NULL, NR_RUN_NOTIFY},
    {"json", no_argument, NULL, NR_RUN_JSON},
    {0},
};

struct nr_run {
    struct naru_service service;
    struct naru_spawn_options options;
    bool is_json, has_told;
    struct naru_supervisor *supervisor;
    int signal_fd;
};

/* -- options ------------------------------------------------------------------------------------------ */

static int nr_run_restart(enum naru_restart *ret, const char *text)
{
    static const char *const names[] = {"always", "failure", "never"};

    for (int i = 0; i < 3; i++)
        if (strcmp(text, names[i]) == 0) {
            *ret = (enum naru_restart)(NARU_RESTART_ALWAYS + i);
            return 0;
        }
    return nr_output_complain_usage("--restart is \"%s\"; give always, failure or never", text);
}

/* A span of time, for which 0 would be the default: then the shortest there is. */
static int nr_run_span(int64_t *ret, const char *option, bool may_be_forever)
{
    int64_t span_ns;
    int code = nr_arguments_seconds(&span_ns, option, optarg);

    if (code)
        return code;
    if (span_ns < 0 && !may_be_forever)
        return nr_output_complain_usage("%s can't be forever", option);
    *ret = span_ns == 0 ? 1 : span_ns;
    return 0;
}

static int nr_run_option(struct nr_run *run, int option)
{
    struct naru_service *service = &run->service;
    __int128 number;
    int code;

    switch (option) {
    case NR_RUN_RESTART:
        return nr_run_restart(&service->restart, optarg);
    case NR_RUN_DEATHS:
        code = nr_arguments_integer(&number, "--deaths", optarg, 1, UINT32_MAX);
        service->deaths_max = code ? 0 : (uint32_t)number;
        return code;
    case NR_RUN_PAUSE:
        return nr_run_span(&service->backoff_ns, "--pause", false);
    case NR_RUN_PAUSE_MAX:
        return nr_run_span(&service->backoff_max_ns, "--pause-max", false);
    case NR_RUN_STEADY:
        return nr_run_span(&service->steady_ns, "--steady", false);
    case NR_RUN_GRACE:
        return nr_run_span(&service->grace_ns, "--grace", true);
    case NR_RUN_READY:
    case NR_RUN_NOTIFY:
        run->options.readiness = option == NR_RUN_READY ? NARU_READY_BY_LINE : NARU_READY_BY_NOTIFY;
        code = nr_run_span(&service->ready_timeout_ns,
                           option == NR_RUN_READY ? "--ready" : "--notify", true);
        if (service->ready_timeout_ns < 0) /* for ever */
            service->ready_timeout_ns = 0;
        return code;
    case NR_RUN_JSON:
        run->is_json = true;
        return 0;
    default:
        return nr_output_hint_usage();
    }
}

/* -- what is told --------------------------------------------------------------------------------------- */

static const char *nr_run_happening(enum naru_happening happening)
{
    static const char *const names[] = {"?", "started", "not started", "ready", "died"};

    return happening <= NARU_SERVICE_DIED ? names[happening] : names[0];
}

static const char *nr_run_cause(enum naru_death_cause cause)
{
    static const char *const names[] = {"none", "exited", "killed", "out of memory", "unknown"};

    return cause <= NARU_DEATH_UNKNOWN ? names[cause] : names[0];
}

static void nr_run_tell_json(const struct naru_service_event *event,
                             const struct naru_service_stat *stat)
{
    struct nr_json json = {.file = stderr};

    nr_json_begin(&json, NULL, '{');
    nr_json_text(&json, "event", nr_run_happening(event->happening));
    nr_json_integer(&json, "pid", event->pid);
    if (event->happening == NARU_SERVICE_DIED) {
        nr_json_text(&json, "cause", nr_run_cause(event->death.cause));
        nr_json_integer(&json, "exit_status", event->death.exit_status);
        nr_json_integer(&json, "signal", event->death.signal_number);
        nr_json_integer(&json, "user_ns", event->death.user_ns);
        nr_json_integer(&json, "system_ns", event->death.system_ns);
    }
    if (event->death.text[0])
        nr_json_text(&json, "text", event->death.text);
    nr_json_bool(&json, "will_start", event->state == NARU_SERVICE_WAITING);
    nr_json_integer(&json, "starts", stat->starts);
    nr_json_integer(&json, "deaths_in_row", stat->deaths_in_row);
    nr_json_end(&json, '}');
    fputc('\n', stderr);
}

static void nr_run_tell(const struct nr_run *run, const struct naru_service_event *event)
{
    struct naru_service_stat stat = {.size_bytes = sizeof stat};
    char pause[NR_OUTPUT_NUMBER_BYTES];

    naru_supervisor_stat(run->supervisor, event->service, &stat);
    if (run->is_json) {
        nr_run_tell_json(event, &stat);
        return;
    }
    if (event->happening != NARU_SERVICE_DIED && event->happening != NARU_SERVICE_NOT_STARTED)
        return;
    if (event->state == NARU_SERVICE_WAITING)
        nr_output_complain("%s; it is started again in %s", event->death.text,
                           nr_output_duration(pause, stat.next_start_ns));
    else if (event->state == NARU_SERVICE_FAILED)
        nr_output_complain("%s; it is not started again", event->death.text);
}

/* Passes it on that it is ready, once. */
static void nr_run_is_up(struct nr_run *run)
{
    if (!run->has_told && naru_ready() < 0)
        nr_output_complain("%s", naru_error_text());
    run->has_told = true;
}

/* -- the loop -------------------------------------------------------------------------------------------- */

static int nr_run_take_signal(const struct nr_run *run)
{
    struct signalfd_siginfo info;

    if (read(run->signal_fd, &info, sizeof info) != (ssize_t)sizeof info)
        return 0;
    if ((int)info.ssi_signo != SIGHUP)
        return naru_supervisor_stop(run->supervisor, 0);
    int result = naru_supervisor_signal(run->supervisor, 0, SIGHUP);
    return result == -ESRCH ? 0 : result; /* it will be started anew, which is as good */
}

/* 1: it has ended for good. */
static int nr_run_step(struct nr_run *run)
{
    struct naru_service_event event = {.size_bytes = sizeof event};
    struct naru_service_stat stat = {.size_bytes = sizeof stat};
    int result;

    while ((result = naru_supervisor_step(run->supervisor, &event, 0)) == 0) {
        nr_run_tell(run, &event);
        if (event.state == NARU_SERVICE_UP)
            nr_run_is_up(run);
    }
    if (result == -EAGAIN)
        result = naru_supervisor_stat(run->supervisor, 0, &stat);
    if (result < 0)
        return result;
    return stat.state == NARU_SERVICE_DOWN || stat.state == NARU_SERVICE_FAILED;
}

static int nr_run_loop(struct nr_run *run)
{
    struct pollfd fds[2] = {{.fd = naru_supervisor_fd(run->supervisor), .events = POLLIN},
                            {.fd = run->signal_fd, .events = POLLIN}};
    int result = 0;

    while (result == 0) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return -errno;
        if (fds[1].revents)
            result = nr_run_take_signal(run);
        if (result == 0)
            result = nr_run_step(run);
    }
    return result;
}

static int nr_run_code(struct nr_run *run, int result)
{
    struct naru_service_stat stat = {.size_bytes = sizeof stat};

    if (result < 0) {
        nr_output_complain("%s", naru_error_text());
        return NR_EXIT_FAILURE;
    }
    naru_supervisor_stat(run->supervisor, 0, &stat);
    return stat.state == NARU_SERVICE_FAILED ? NR_EXIT_FAILURE : NR_EXIT_OK;
}

static int nr_run_supervise(struct nr_run *run)
{
    sigset_t set;

    /* The command gets an empty mask all the same. */
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    run->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    int result = run->signal_fd < 0 ? -errno : naru_supervisor_open(&run->supervisor);
    if (result == 0)
        result = naru_supervisor_add(run->supervisor, &run->service);
    if (result == 0 && !run->options.readiness)
        nr_run_is_up(run);
    if (result == 0)
        result = nr_run_loop(run);
    int code = nr_run_code(run, result);
    naru_supervisor_close(run->supervisor);
    if (run->signal_fd >= 0)
        close(run->signal_fd);
    return code;
}

static int nr_run_run(int argc, char **argv)
{
    struct nr_run run = {
        .service = {.size_bytes = sizeof run.service, .restart = NARU_RESTART_ON_FAILURE},
        .options = {.size_bytes = sizeof run.options},
        .signal_fd = -1,
    };
    int option;

    while ((option = getopt_long(argc, argv, "+", nr_run_options, NULL)) != -1) {
        int code = nr_run_option(&run, option);
        if (code)
            return code;
    }
    if (optind == argc)
        return nr_output_complain_usage("a command is missing, such as -- ./server");
    union {
        char *const *given;
        const char *const *wanted;
    } command = {.given = argv + optind};
    run.service.argv = command.wanted;
    run.service.name = argv[optind];
    run.service.options = &run.options;
    return nr_run_supervise(&run);
}

const struct nr_command nr_run_command = {
    .name = "run",
    .summary = "keep a command running",
    .help = nr_run_help,
    .run = nr_run_run,
};
