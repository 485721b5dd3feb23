/* SPDX-License-Identifier: MIT */
#include "status.h"
#include "json.h"
#include "status_page.h"
#include <errno.h>
#include <naru/base.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static const char *nr_status_state(const struct nr_score *score)
{
    static const char *const names[] = {
        [NR_SCORE_NEVER] = "never", [NR_SCORE_STARTING] = "starting", [NR_SCORE_IDLE] = "idle",
        [NR_SCORE_BUSY] = "busy",   [NR_SCORE_DRAINING] = "draining", [NR_SCORE_ENDED] = "ended",
    };

    /* What a killed one wrote last stands until another one takes its place. */
    if (score->pid > 0 && kill(score->pid, 0) < 0 && errno == ESRCH)
        return "dead";
    return score->state < sizeof names / sizeof names[0] ? names[score->state] : "unknown";
}

/* The upper end of the bucket in which the share `parts` of 1,000 ends. */
static int64_t nr_status_quantile(const uint64_t *latency, int parts)
{
    uint64_t all = 0, below = 0;

    for (int i = 0; i < NR_SCORE_BUCKETS; i++)
        all += latency[i];
    for (int i = 0; i < NR_SCORE_BUCKETS && all; i++) {
        below += latency[i];
        if (below * 1000 >= all * (uint64_t)parts)
            return nr_score_bucket_us(i);
    }
    return 0;
}

static void nr_status_latency(struct nr_json *json, const uint64_t *latency)
{
    nr_json_begin(json, "latency_us", '{');
    nr_json_integer(json, "p50", nr_status_quantile(latency, 500));
    nr_json_integer(json, "p90", nr_status_quantile(latency, 900));
    nr_json_integer(json, "p99", nr_status_quantile(latency, 990));
    nr_json_integer(json, "max", nr_status_quantile(latency, 1000));
    nr_json_end(json, '}');
    /* Up to how many microseconds, and how many took as long: the difference of two is that of the time between. */
    nr_json_begin(json, "latency_counts", '[');
    for (int i = 0; i < NR_SCORE_BUCKETS; i++) {
        if (!latency[i])
            continue;
        nr_json_begin(json, NULL, '[');
        nr_json_integer(json, NULL, nr_score_bucket_us(i));
        nr_json_integer(json, NULL, (int64_t)latency[i]);
        nr_json_end(json, ']');
    }
    nr_json_end(json, ']');
}

static void nr_status_worker(struct nr_json *json, int index, const struct nr_score *score,
                             int64_t now_ns)
{
    nr_json_begin(json, NULL, '{');
    nr_json_integer(json, "worker", index);
    nr_json_integer(json, "pid", score->pid);
    nr_json_text(json, "state", nr_status_state(score));
    nr_json_text(json, "request", score->line);
    nr_json_integer(json, "request_ms",
                    score->state == NR_SCORE_BUSY ? (now_ns - score->begun_ns) / 1000000 : 0);
    nr_json_integer(json, "requests", (int64_t)score->requests);
    nr_json_integer(json, "failures", (int64_t)score->failures);
    nr_json_integer(json, "bytes", (int64_t)score->bytes);
    nr_json_integer(json, "connections", score->connections);
    nr_json_integer(json, "processes", score->processes);
    nr_json_number(json, "running_s", (double)(now_ns - score->since_ns) / 1e9);
    nr_json_end(json, '}');
}

static void nr_status_deaths(struct nr_json *json, const struct nr_score_master *master,
                             int64_t now_ns)
{
    uint32_t count = master->deaths_count;

    nr_json_begin(json, "deaths", '[');
    for (uint32_t i = 0; i < count && i < NR_SCORE_DEATHS; i++) {
        const struct nr_score_death *death = &master->deaths[(count - 1 - i) % NR_SCORE_DEATHS];
        nr_json_begin(json, NULL, '{');
        nr_json_integer(json, "worker", death->worker);
        nr_json_integer(json, "pid", death->pid);
        nr_json_number(json, "ago_s", (double)(now_ns - death->when_ns) / 1e9);
        nr_json_text(json, "cause", death->cause);
        nr_json_end(json, '}');
    }
    nr_json_end(json, ']');
}

static void nr_status_write(struct nr_json *json, const struct nr_scoreboard *board,
                            const char *mode, const char *listen)
{
    const struct nr_score_master *master = &board->master;
    struct nr_score all = {0};
    int64_t now_ns = nr_score_now_ns();

    for (int i = 0; i < board->workers; i++) {
        const struct nr_score *score = &board->scores[i];
        all.requests += score->requests;
        all.failures += score->failures;
        all.bytes += score->bytes;
        all.connections += score->connections;
        for (int k = 0; k < NR_SCORE_BUCKETS; k++)
            all.latency[k] += score->latency[k];
    }
    nr_json_begin(json, NULL, '{');
    nr_json_text(json, "version", naru_version());
    nr_json_text(json, "mode", mode);
    nr_json_text(json, "listen", listen);
    nr_json_integer(json, "master_pid", master->pid);
    nr_json_number(json, "running_s", (double)(now_ns - master->since_ns) / 1e9);
    nr_json_integer(json, "requests", (int64_t)all.requests);
    nr_json_integer(json, "failures", (int64_t)all.failures);
    nr_json_integer(json, "bytes", (int64_t)all.bytes);
    nr_json_integer(json, "connections", all.connections);
    nr_json_integer(json, "restarts", (int64_t)master->restarts);
    nr_json_integer(json, "reloads", master->reloads);
    nr_json_integer(json, "deaths_count", master->deaths_count);
    nr_status_latency(json, all.latency);
    nr_status_deaths(json, master, now_ns);
    nr_json_begin(json, "workers", '[');
    for (int i = 0; i < board->workers; i++)
        if (board->scores[i].state != NR_SCORE_NEVER && board->scores[i].state != NR_SCORE_ENDED)
            nr_status_worker(json, i, &board->scores[i], now_ns);
    nr_json_end(json, ']');
    nr_json_end(json, '}');
    fputc('\n', json->file);
}

void nr_status_json(struct nr_scoreboard *board, const char *mode, const char *listen,
                    struct nr_http_answer *answer)
{
    char *text = NULL;
    size_t size_bytes = 0;

    if (nr_scoreboard_read(board) < 0) {
        nr_http_say(answer, 503, naru_error_text());
        return;
    }
    struct nr_json json = {.file = open_memstream(&text, &size_bytes)};
    if (!json.file) {
        nr_http_say(answer, 503, "no memory");
        return;
    }
    nr_status_write(&json, board, mode, listen);
    fclose(json.file);
    answer->status = 200;
    answer->body = NR_HTTP_ALLOCATED;
    answer->data = text;
    answer->size_bytes = size_bytes;
    nr_http_field(answer, "Content-Type", "application/json");
}

void nr_status_page(struct nr_http_answer *answer)
{
    answer->status = 200;
    answer->body = NR_HTTP_CONSTANT;
    answer->data = (void *)nr_status_page_html;
    answer->size_bytes = nr_status_page_html_bytes;
    nr_http_field(answer, "Content-Type", "text/html; charset=utf-8");
    nr_http_field(answer, "X-Content-Type-Options", "nosniff");
    nr_http_field(answer, "Content-Security-Policy",
                  "default-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
                  "frame-ancestors 'none'");
}
