/* SPDX-License-Identifier: MIT */
#include "bench_measure.h"
#include "output.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

const char *const nr_bench_latency_names[NR_BENCH_LATENCIES] = {
    [NR_BENCH_MIN] = "min", [NR_BENCH_P50] = "p50",    [NR_BENCH_P90] = "p90",
    [NR_BENCH_P99] = "p99", [NR_BENCH_P999] = "p99.9", [NR_BENCH_MAX] = "max",
};
static const double nr_bench_ranks[NR_BENCH_LATENCIES] = {0, 0.5, 0.9, 0.99, 0.999, 1};

/* A journal grows: of large messages fewer. */
#define NR_BENCH_JOURNAL_BYTES 4096.0
enum { NR_BENCH_PATH_BYTES = 4096 + 64 };

const char *nr_bench_peers_directory;

/* -- the library ------------------------------------------------------------------------------------ */

static void nr_bench_measure_note(const struct bench_result *result, const struct bench_task *task,
                                  struct nr_bench_outcome *ret)
{
    const struct bench_histogram *rounds = &result->round_trips;
    double ways = task->is_round_trip ? 1 : 2;

    if (task->measure == BENCH_LATENCY) {
        for (int i = 0; i < NR_BENCH_LATENCIES; i++)
            ret->latency_ns[i] = bench_histogram_rank(rounds, nr_bench_ranks[i]) / ways;
        ret->latency_ns[NR_BENCH_MIN] = (double)rounds->min / ways;
        ret->latency_ns[NR_BENCH_MAX] = (double)rounds->max / ways;
    }
    if (task->measure == BENCH_ALONE)
        ret->alone_ns = result->window_ns / result->messages;
    if (task->measure != BENCH_RATE)
        return;
    ret->rate_per_s = result->messages * 1e9 / result->window_ns;
    ret->cpu_ns = result->messages > 0 ? result->cpu_ns / result->messages : 0;
    ret->switches = result->messages > 0 ? result->switches / result->messages : 0;
}

static int nr_bench_measure_ours(struct bench_ours *ours, const struct bench_task *task,
                                 struct nr_bench_outcome *ret, char reason[BENCH_ERROR_BYTES])
{
    static struct bench_result result;
    struct bench_task own = *task;
    const char *obstacle = bench_ours_obstacle(ours, task);

    if (obstacle) {
        snprintf(reason, BENCH_ERROR_BYTES, "%s", obstacle);
        return NR_BENCH_CANNOT;
    }
    if (strcmp(ours->scheme, "file") == 0 && (double)own.size_bytes > NR_BENCH_JOURNAL_BYTES)
        own.duration_ns =
            (int64_t)((double)own.duration_ns * NR_BENCH_JOURNAL_BYTES / (double)own.size_bytes);
    int code = bench_ours_init(ours, &own);
    if (code < 0)
        snprintf(reason, BENCH_ERROR_BYTES, "no name for a channel: %s", strerror(-code));
    else
        code = bench_duel_run(&ours->contestant, &own, &result, reason);
    bench_ours_deinit(ours);
    if (code < 0)
        return -1;
    nr_bench_measure_note(&result, &own, ret);
    return 0;
}

/* -- peers: the driver prints "name value" lines ------------------------------------------------------- */

static void nr_bench_peer_become(char *path, const char *variant, const struct bench_task *task,
                                 int out_fd)
{
    char values[12][32];
    const long long numbers[12] = {
        task->measure,
        task->wait,
        (long long)task->size_bytes,
        task->senders,
        task->receivers,
        task->batch,
        task->loan,
        (long long)task->capacity,
        task->cpu[0],
        task->cpu[1],
        task->duration_ns,
        task->participants,
    };
    char *arguments[16] = {path, (char *)(uintptr_t)variant};

    for (int i = 0; i < 12; i++) {
        snprintf(values[i], sizeof values[i], "%lld", numbers[i]);
        arguments[2 + i] = values[i];
    }
    dup2(out_fd, STDOUT_FILENO);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    execv(path, arguments);
    fprintf(stderr, "naru bench: %s: %s\n", path, strerror(errno));
    _exit(127);
}

static void nr_bench_peer_read(FILE *from, struct nr_bench_outcome *ret,
                               char reason[BENCH_ERROR_BYTES])
{
    char line[BENCH_ERROR_BYTES], name[32];
    double value;

    while (fgets(line, sizeof line, from)) {
        line[strcspn(line, "\n")] = '\0';
        if (sscanf(line, "%31s %lf", name, &value) != 2) {
            snprintf(reason, BENCH_ERROR_BYTES, "%s", line);
            continue;
        }
        for (int i = 0; i < NR_BENCH_LATENCIES; i++)
            if (strcmp(name, nr_bench_latency_names[i]) == 0)
                ret->latency_ns[i] = value;
        if (strcmp(name, "rate") == 0)
            ret->rate_per_s = value;
        if (strcmp(name, "cpu") == 0)
            ret->cpu_ns = value;
        if (strcmp(name, "switches") == 0)
            ret->switches = value;
    }
}

static int nr_bench_measure_peer(const struct nr_bench_contender *contender,
                                 const struct bench_task *task, struct nr_bench_outcome *ret,
                                 char reason[BENCH_ERROR_BYTES])
{
    int ends[2], status = 0;
    char path[NR_BENCH_PATH_BYTES];

    reason[0] = '\0';
    snprintf(path, sizeof path, "%s/naru-peer-%s", nr_bench_peers_directory, contender->peer);
    if (access(path, X_OK) < 0) {
        snprintf(reason, BENCH_ERROR_BYTES, "not built: see make compare");
        return NR_BENCH_CANNOT;
    }
    if (pipe2(ends, O_CLOEXEC) < 0) {
        snprintf(reason, BENCH_ERROR_BYTES, "pipe2: %s", strerror(errno));
        return -1;
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        nr_bench_peer_become(path, contender->variant, task, ends[1]);
    close(ends[1]);
    FILE *from = fdopen(ends[0], "r");
    while (from && !feof(from)) {
        clearerr(from);
        nr_bench_peer_read(from, ret, reason);
        if (ferror(from) && errno == EINTR && !(bench_duel_is_stopped && bench_duel_is_stopped()))
            continue;
        break;
    }
    if (from)
        fclose(from);
    if (bench_duel_is_stopped && bench_duel_is_stopped())
        kill(pid, SIGTERM);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (pid < 0 || (status != 0 && !reason[0]))
        snprintf(reason, BENCH_ERROR_BYTES, "the driver naru-peer-%s ended with status 0x%x",
                 contender->peer, (unsigned)status);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 3)
        return NR_BENCH_CANNOT;
    return pid < 0 || status != 0 ? -1 : 0;
}

/* -- both ------------------------------------------------------------------------------------------------ */

int nr_bench_measure(struct nr_bench_contender *contender, const struct bench_task *task,
                     struct nr_bench_outcome *ret, char reason[BENCH_ERROR_BYTES])
{
    return contender->peer ? nr_bench_measure_peer(contender, task, ret, reason)
                           : nr_bench_measure_ours(&contender->ours, task, ret, reason);
}

const struct bench_contestant *nr_bench_probe(const struct bench_task *task)
{
    return task->wait == BENCH_SPIN    ? &bench_probe_line
           : task->wait == BENCH_BLOCK ? &bench_probe_futex
                                       : &bench_probe_eventfd;
}

int nr_bench_measure_probe(const struct bench_task *task, double *ret_ns,
                           char reason[BENCH_ERROR_BYTES])
{
    static struct bench_result result;
    struct bench_task own = {
        .measure = BENCH_LATENCY,
        .wait = task->wait,
        .size_bytes = task->size_bytes,
        .senders = 1,
        .receivers = 1,
        .batch = 1,
        .cpu = {task->cpu[0], task->cpu[1]},
        .duration_ns = task->duration_ns / 8,
    };

    if (bench_duel_run(nr_bench_probe(task), &own, &result, reason) < 0)
        return -1;
    *ret_ns = bench_histogram_rank(&result.round_trips, 0.5) / (task->is_round_trip ? 1 : 2);
    return 0;
}

const char *nr_bench_name(const struct nr_bench_contender *contender,
                          char text[NR_BENCH_NAME_BYTES])
{
    static const char *const patterns[] = {
        [NARU_TOPIC] = " topic", [NARU_CALL] = " call", [NARU_CELL] = " cell"};
    const struct bench_ours *ours = &contender->ours;

    if (contender->peer)
        snprintf(text, NR_BENCH_NAME_BYTES, "%s%s%s", contender->peer,
                 contender->variant[0] ? " " : "", contender->variant);
    else
        snprintf(text, NR_BENCH_NAME_BYTES, "%s%s%s%s", ours->scheme,
                 ours->pattern > NARU_QUEUE ? patterns[ours->pattern] : "",
                 ours->one_to_one ? " 1:1" : "",
                 ours->form == BENCH_PAIR && strcmp(ours->scheme, "pipe") != 0 ? " pair" : "");
    return text;
}
