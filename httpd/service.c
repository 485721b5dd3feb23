/* SPDX-License-Identifier: MIT */
#include "service.h"
#include "query.h"
#include "status.h"
#include "sum.h"
#include <stdio.h>
#include <string.h>

int nr_service_take(struct nr_service *service, int index)
{
    service->log.worker = index;
    return nr_scoreboard_take(&service->board, index, &service->score);
}

void nr_service_state(struct nr_service *service, enum nr_score_state state)
{
    service->score.state = state;
    service->score.connections = service->http ? nr_http_connections(service->http) : 0;
    nr_scoreboard_write(&service->board, &service->score);
}

/* -- /naru/ -------------------------------------------------------------------------------- */

static bool nr_service_is_local(const char *address)
{
    return strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0 ||
           strncmp(address, "::ffff:127.", 11) == 0;
}

static bool nr_service_shows_status(const struct nr_service *service, const char *address)
{
    return service->status == NR_SERVICE_STATUS_ALL ||
           (service->status == NR_SERVICE_STATUS_LOCAL && nr_service_is_local(address));
}

/* The time does not tell how many characters are right. */
static bool nr_service_is_token(const struct nr_service *service, const char *text)
{
    size_t length = strlen(service->token);
    unsigned char differs = strlen(text) != length;

    for (size_t i = 0; i < length && !differs; i++)
        differs |= (unsigned char)(service->token[i] ^ text[i]);
    return !differs;
}

static int nr_service_order(const struct nr_service *service, const struct nr_service_order *order)
{
    static const struct naru_options attach = {.size_bytes = sizeof attach, .create = NARU_ATTACH};
    struct naru_endpoint *control;
    char uri[NR_SCORE_NAME_BYTES + 16];

    snprintf(uri, sizeof uri, "mq://%scontrol", service->board.name);
    int result = naru_open(&control, uri, NARU_SENDER, &attach);
    if (result < 0)
        return result;
    result = naru_send(control, order, sizeof *order, NARU_SECOND);
    naru_close(control);
    return result;
}

static void nr_service_stop(struct nr_service *service, const struct nr_http_request *request,
                            struct nr_http_answer *answer)
{
    char token[128];
    int64_t worker = -1;

    if (!nr_query_text(request->query, "token", token, sizeof token) ||
        !nr_service_is_token(service, token)) {
        nr_http_say(answer, 403, "the token is wrong; the server told it when it started");
        return;
    }
    if (!nr_query_integer(request->query, "worker", 0, service->board.workers - 1, &worker) ||
        worker < 0 || nr_scoreboard_read(&service->board) < 0) {
        nr_http_say(answer, 404, "there is no such worker; say worker=N, as in the status");
        return;
    }
    const struct nr_score *score = &service->board.scores[worker];
    if (score->state == NR_SCORE_NEVER || score->state == NR_SCORE_ENDED) {
        nr_http_say(answer, 409, "that worker is not running");
        return;
    }
    struct nr_service_order order = {.worker = (int32_t)worker, .pid = score->pid};
    if (nr_service_order(service, &order) < 0)
        nr_http_say(answer, 503, naru_error_text());
    else
        nr_http_say(answer, 202, "it is being stopped");
}

static void nr_service_answer_own(struct nr_service *service, const struct nr_http_request *request,
                                  struct nr_http_answer *answer)
{
    const char *what = request->path + strlen("/naru/");

    if (!nr_service_shows_status(service, request->address))
        nr_http_say(answer, 403, "the status is not for this address; see --status");
    else if (strcmp(what, "status") == 0)
        nr_status_page(answer);
    else if (strcmp(what, "status.json") == 0)
        nr_status_json(&service->board, service->mode, service->listen, answer);
    else if (strcmp(what, "stop") == 0)
        nr_service_stop(service, request, answer);
    else
        nr_http_say(answer, 404, "there are /naru/status, /naru/status.json and /naru/stop");
    nr_http_field(answer, "Cache-Control", "no-store");
}

/* -- each request -------------------------------------------------------------------------- */

static void nr_service_begun(void *context, const struct nr_http_request *request)
{
    struct nr_service *service = context;
    struct nr_score *score = &service->score;

    score->begun_ns = nr_score_now_ns();
    snprintf(score->line, sizeof score->line, "%s %.80s from %s", request->is_head ? "HEAD" : "GET",
             request->target, request->address);
    if (service->answering++ == 0 && score->state == NR_SCORE_IDLE)
        score->state = NR_SCORE_BUSY;
    nr_service_state(service, score->state);
}

static void nr_service_answer(void *context, const struct nr_http_request *request,
                              struct nr_http_answer *answer)
{
    struct nr_service *service = context;

    if (strncmp(request->path, "/naru/", 6) == 0)
        nr_service_answer_own(service, request, answer);
    else if (strcmp(request->path, "/sum") == 0)
        nr_sum_answer(request, answer);
    else
        nr_site_answer(&service->site, request, answer);
}

static void nr_service_ended(void *context, const struct nr_http_outcome *outcome)
{
    struct nr_service *service = context;
    struct nr_score *score = &service->score;

    score->requests++;
    score->bytes += outcome->body_bytes;
    score->failures += !outcome->is_whole || outcome->status >= 500;
    score->latency[nr_score_bucket(outcome->duration_ns)]++;
    service->answering -= outcome->was_begun;
    if (service->answering == 0 && score->state == NR_SCORE_BUSY)
        score->state = NR_SCORE_IDLE;
    nr_service_state(service, score->state);
    nr_access_log_write(&service->log, outcome);
}

void nr_service_options(struct nr_service *service, struct nr_http_options *options)
{
    options->context = service;
    options->begun = nr_service_begun;
    options->answer = nr_service_answer;
    options->ended = nr_service_ended;
}
