/* SPDX-License-Identifier: MIT */
/*
 * main -- naru-httpd, which `naru httpd` runs: reads the options, opens what needs privilege, drops it, and serves
 *
 * Contents   options - starting - what both modes share - main
 */
#include "arguments.h"
#include "command.h"
#include "httpd.h"
#include "httpd_help.h"
#include "json.h"
#include "output.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <naru/process.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

/* -- options ------------------------------------------------------------------------------- */

enum {
    NR_HTTPD_ROOT = 256,
    NR_HTTPD_LISTEN,
    NR_HTTPD_MODE,
    NR_HTTPD_WORKERS,
    NR_HTTPD_CONNECTIONS,
    NR_HTTPD_ADDRESS,
    NR_HTTPD_IDLE,
    NR_HTTPD_GRACE,
    NR_HTTPD_LOG,
    NR_HTTPD_STATUS,
    NR_HTTPD_TOKEN,
    NR_HTTPD_USER,
    NR_HTTPD_JSON,
    NR_HTTPD_HELP,
};

static const struct option nr_httpd_long[] = {
    {"root", required_argument, NULL, NR_HTTPD_ROOT},
    {"listen", required_argument, NULL, NR_HTTPD_LISTEN},
    {"mode", required_argument, NULL, NR_HTTPD_MODE},
    {"workers", required_argument, NULL, NR_HTTPD_WORKERS},
    {"connections", required_argument, NULL, NR_HTTPD_CONNECTIONS},
    {"connections-per-address", required_argument, NULL, NR_HTTPD_ADDRESS},
    {"idle", required_argument, NULL, NR_HTTPD_IDLE},
    {"grace", required_argument, NULL, NR_HTTPD_GRACE},
    {"access-log", required_argument, NULL, NR_HTTPD_LOG},
    {"status", required_argument, NULL, NR_HTTPD_STATUS},
    {"token", required_argument, NULL, NR_HTTPD_TOKEN},
    {"user", required_argument, NULL, NR_HTTPD_USER},
    {"json", no_argument, NULL, NR_HTTPD_JSON},
    {"help", no_argument, NULL, NR_HTTPD_HELP},
    {0},
};

static int nr_httpd_number(int *ret, const char *option, int lowest, int highest)
{
    __int128 value;

    int result = nr_arguments_integer(&value, option, optarg, lowest, highest);
    if (result == 0)
        *ret = (int)value;
    return result;
}

/* One of `words`, which end with NULL. */
static int nr_httpd_word(int *ret, const char *option, const char *const *words)
{
    char list[64] = "";

    for (int i = 0; words[i]; i++) {
        if (strcmp(optarg, words[i]) == 0) {
            *ret = i;
            return 0;
        }
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", words[i]);
    }
    return nr_output_complain_usage("%s: \"%s\" is none of %s", option, optarg, list);
}

static int nr_httpd_token(struct nr_httpd_options *options)
{
    size_t length = strlen(optarg);

    if (length < 8 || length >= sizeof options->token ||
        strspn(optarg, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~") !=
            length)
        return nr_output_complain_usage("--token: 8 to 63 letters, digits, and - _ . ~");
    snprintf(options->token, sizeof options->token, "%s", optarg);
    return 0;
}

static int nr_httpd_option(struct nr_httpd_options *options, int option)
{
    static const char *const modes[] = {"prefork", "fork", NULL};
    static const char *const audiences[] = {"local", "all", "none", NULL};
    int value = 0, result;

    switch (option) {
    case NR_HTTPD_ROOT:
        options->root = optarg;
        return 0;
    case NR_HTTPD_LISTEN:
        options->listen = optarg;
        return 0;
    case NR_HTTPD_MODE:
        result = nr_httpd_word(&value, "--mode", modes);
        options->mode = (enum nr_httpd_mode)value;
        return result;
    case NR_HTTPD_WORKERS:
        return nr_httpd_number(&options->workers, "--workers", 1, NR_SCORE_WORKERS_MAX);
    case NR_HTTPD_CONNECTIONS:
        return nr_httpd_number(&options->connections, "--connections", 1, 100000);
    case NR_HTTPD_ADDRESS:
        return nr_httpd_number(&options->connections_address, "--connections-per-address", 1,
                               100000);
    case NR_HTTPD_IDLE:
        return nr_httpd_number(&options->idle_s, "--idle", 1, 3600);
    case NR_HTTPD_GRACE:
        return nr_httpd_number(&options->grace_s, "--grace", 0, 3600);
    case NR_HTTPD_LOG:
        options->access_log = optarg;
        return 0;
    case NR_HTTPD_STATUS:
        result = nr_httpd_word(&value, "--status", audiences);
        options->status = (enum nr_service_status)value;
        return result;
    case NR_HTTPD_TOKEN:
        return nr_httpd_token(options);
    case NR_HTTPD_USER:
        options->user = optarg;
        return 0;
    case NR_HTTPD_JSON:
        options->is_json = true;
        return 0;
    default:
        return nr_output_hint_usage();
    }
}

static int nr_httpd_parse(struct nr_httpd_options *options, int argc, char **argv)
{
    int option, result = 0;

    while (result == 0 && (option = getopt_long(argc, argv, "", nr_httpd_long, NULL)) >= 0)
        result = nr_httpd_option(options, option);
    if (result)
        return result;
    if (optind < argc)
        return nr_output_complain_usage("\"%s\" is too much; the directory goes with --root",
                                        argv[optind]);
    if (!options->root)
        return nr_output_complain_usage("--root is missing: the directory to serve");
    if (options->workers == 0) {
        long processors = sysconf(_SC_NPROCESSORS_ONLN);
        options->workers = options->mode == NR_HTTPD_FORK ? 64
                           : processors > 0               ? (int)processors
                                                          : 1;
        if (options->workers > NR_SCORE_WORKERS_MAX)
            options->workers = NR_SCORE_WORKERS_MAX;
    }
    if (!*options->token) {
        unsigned char random[12];
        if (getrandom(random, sizeof random, 0) != sizeof random)
            return NR_EXIT_FAILURE;
        for (size_t i = 0; i < sizeof random; i++)
            snprintf(options->token + 2 * i, 3, "%02x", random[i]);
    }
    return 0;
}

/* -- starting ------------------------------------------------------------------------------ */

/* For good: no way back is left. */
static int nr_httpd_become(const char *name)
{
    errno = 0;
    const struct passwd *user = getpwnam(name);

    if (!user) {
        nr_output_complain("--user: there is no user \"%s\"", name);
        return NR_EXIT_FAILURE;
    }
    if (getuid() == user->pw_uid && geteuid() == user->pw_uid)
        return 0;
    if (initgroups(name, user->pw_gid) < 0 || setgid(user->pw_gid) < 0 ||
        setuid(user->pw_uid) < 0 || (user->pw_uid != 0 && setuid(0) == 0)) {
        nr_output_complain("--user: becoming %s takes root: %s", name, strerror(errno));
        return NR_EXIT_FAILURE;
    }
    return 0;
}

void nr_httpd_reopen_log(struct nr_httpd *httpd)
{
    struct nr_access_log log = NR_ACCESS_LOG_NULL;

    if (!httpd->options.access_log)
        return;
    int result = nr_access_log_open(&log, httpd->options.access_log);
    if (result < 0) {
        nr_output_complain("%s: %s; the old one goes on", httpd->options.access_log,
                           strerror(-result));
        return;
    }
    nr_access_log_close(&httpd->service.log);
    httpd->service.log = log;
}

/* The master's: TERM, INT and HUP come by a descriptor from here on. -errno */
static int nr_httpd_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN); /* http_mhd.c has promised it to its library */
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

static int nr_httpd_open_control(struct nr_httpd *httpd)
{
    struct naru_options options = {
        .size_bytes = sizeof options,
        .create = NARU_CREATE,
        .message_size_max_bytes = sizeof(struct nr_service_order),
    };
    char uri[NR_SCORE_NAME_BYTES + 16];

    snprintf(uri, sizeof uri, "mq://%scontrol", httpd->service.board.name);
    naru_unlink(uri); /* an earlier master's */
    return naru_open(&httpd->control, uri, NARU_RECEIVER, &options);
}

static int nr_httpd_start(struct nr_httpd *httpd)
{
    const struct nr_httpd_options *options = &httpd->options;
    struct nr_service *service = &httpd->service;

    if (nr_listening_open(&httpd->listening, options->listen, options->backlog) < 0) {
        nr_output_complain("%s", nr_listening_error());
        return NR_EXIT_FAILURE;
    }
    snprintf(httpd->listen, sizeof httpd->listen,
             strchr(httpd->listening.host, ':') ? "[%s]:%d" : "%s:%d", httpd->listening.host,
             httpd->listening.port);
    int result = options->access_log ? nr_access_log_open(&service->log, options->access_log) : 0;
    if (result < 0) {
        nr_output_complain("%s: %s", options->access_log, strerror(-result));
        return NR_EXIT_FAILURE;
    }
    if (options->user && nr_httpd_become(options->user) != 0)
        return NR_EXIT_FAILURE;
    result = nr_site_open(&service->site, options->root);
    if (result < 0) {
        nr_output_complain("--root %s: %s", options->root, strerror(-result));
        return NR_EXIT_FAILURE;
    }
    bool is_prefork = options->mode == NR_HTTPD_PREFORK;
    if (nr_scoreboard_create(&service->board, httpd->listening.host, httpd->listening.port,
                             options->workers + is_prefork, /* one more, for a reload */
                             is_prefork ? NR_SCOREBOARD_NAMED : NR_SCOREBOARD_INHERITED) < 0 ||
        nr_httpd_open_control(httpd) < 0) {
        nr_output_complain("the scoreboard: %s", naru_error_text());
        return NR_EXIT_FAILURE;
    }
    httpd->signal_fd = nr_httpd_signals();
    return httpd->signal_fd < 0 ? NR_EXIT_FAILURE : 0;
}

static void nr_httpd_end(struct nr_httpd *httpd)
{
    char uri[NR_SCORE_NAME_BYTES + 16];

    if (httpd->control) {
        snprintf(uri, sizeof uri, "mq://%scontrol", httpd->service.board.name);
        naru_close(httpd->control);
        naru_unlink(uri);
    }
    if (httpd->service.board.workers)
        nr_scoreboard_remove(&httpd->service.board);
    nr_site_close(&httpd->service.site);
    nr_access_log_close(&httpd->service.log);
    nr_listening_close(&httpd->listening);
}

/* -- what both modes share ----------------------------------------------------------------- */

size_t nr_httpd_handed_down(const struct nr_httpd *httpd, struct naru_spawn_fd fds[4])
{
    const int all[] = {httpd->listening.fd, httpd->service.site.root_fd, httpd->service.log.fd};
    size_t count = 0;

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i] >= 0)
            fds[count++] = (struct naru_spawn_fd){all[i], all[i]};
    return count;
}

void nr_httpd_note_death(struct nr_httpd *httpd, int worker, const char *cause, int32_t pid)
{
    struct nr_score_master *master = &httpd->service.board.master;
    struct nr_score_death *place = &master->deaths[master->deaths_count++ % NR_SCORE_DEATHS];

    *place = (struct nr_score_death){
        .when_ns = nr_score_now_ns(), .pid = pid, .worker = (uint32_t)worker};
    snprintf(place->cause, sizeof place->cause, "%s", cause);
    nr_scoreboard_write_master(&httpd->service.board);
}

/* -- main ---------------------------------------------------------------------------------- */

static void nr_httpd_tell(const struct nr_httpd *httpd)
{
    const struct nr_httpd_options *options = &httpd->options;
    struct nr_json json = {.file = stdout};

    fprintf(
        stderr,
        "naru httpd: http://%s/ serves %s, %s with %d %s; status: http://%s/naru/status, token %s\n",
        httpd->listen, options->root, httpd->service.mode, options->workers,
        options->mode == NR_HTTPD_FORK ? "processes at most" : "workers", httpd->listen,
        options->token);
    if (!options->is_json)
        return;
    nr_json_begin(&json, NULL, '{');
    nr_json_text(&json, "listen", httpd->listen);
    nr_json_text(&json, "host", httpd->listening.host);
    nr_json_integer(&json, "port", httpd->listening.port);
    nr_json_text(&json, "mode", httpd->service.mode);
    nr_json_integer(&json, "workers", options->workers);
    nr_json_integer(&json, "pid", getpid());
    nr_json_text(&json, "token", options->token);
    nr_json_end(&json, '}');
    putchar('\n');
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static struct nr_httpd httpd = {
        .options = {.listen = "127.0.0.1:8080",
                    .connections = 512,
                    .connections_address = 128,
                    .idle_s = 15,
                    .grace_s = 10,
                    .backlog = 511},
        .listening = {.fd = -1},
        .service = {.site = NR_SITE_NULL, .log = NR_ACCESS_LOG_NULL},
        .signal_fd = -1,
    };

    nr_output_set_name("naru httpd");
    tzset(); /* reads a file: once, before the forks */
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0) {
            fputs(nr_httpd_help, stdout);
            return nr_output_finish(NR_EXIT_OK);
        }
    int result = nr_httpd_parse(&httpd.options, argc, argv);
    if (result)
        return result;
    httpd.service.mode = httpd.options.mode == NR_HTTPD_FORK ? "fork" : "prefork";
    httpd.service.status = httpd.options.status;
    httpd.service.token = httpd.options.token;
    result = nr_httpd_start(&httpd);
    httpd.service.listen = httpd.listen;
    if (result == 0) {
        nr_httpd_tell(&httpd);
        result =
            httpd.options.mode == NR_HTTPD_FORK ? nr_forking_run(&httpd) : nr_prefork_run(&httpd);
    }
    nr_httpd_end(&httpd);
    return nr_output_finish(result);
}
