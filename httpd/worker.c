/* SPDX-License-Identifier: MIT */
#include "worker.h"
#include <naru/process.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t nr_worker_ends;

/* TERM, and the alarm: it may have come just before the wait that it was to end, and then a second one ends it. */
static void nr_worker_end_soon(int signal_number)
{
    if (signal_number == SIGTERM)
        alarm(1);
    nr_worker_ends = 1;
}

static void nr_worker_hear(void)
{
    const struct sigaction action = {.sa_handler = nr_worker_end_soon};
    sigset_t others;

    signal(SIGPIPE, SIG_IGN); /* http_mhd.c has promised it to its library */
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    sigemptyset(&others); /* the master's business */
    sigaddset(&others, SIGINT);
    sigaddset(&others, SIGHUP);
    sigprocmask(SIG_BLOCK, &others, NULL);
}

static void nr_worker_serve(struct nr_service *service)
{
    bool drains = false;

    while (!drains || nr_http_connections(service->http)) {
        nr_access_log_flush(&service->log);
        nr_http_wait(service->http);
        if (service->score.connections != nr_http_connections(service->http))
            nr_service_state(service, service->score.state);
        if (!drains && nr_worker_ends) {
            drains = true;
            nr_http_drain(service->http);
            nr_service_state(service, NR_SCORE_DRAINING);
        }
    }
    nr_access_log_flush(&service->log);
}

int nr_worker_run(struct nr_httpd *httpd, int index)
{
    struct nr_service *service = &httpd->service;
    struct nr_http_options options = {
        .listen_fd = httpd->listening.fd,
        .connections_max = (unsigned)httpd->options.connections,
        .connections_address_max = (unsigned)httpd->options.connections_address,
        .idle_s = (unsigned)httpd->options.idle_s,
    };

    nr_worker_hear();
    if (nr_service_take(service, index) < 0) {
        fprintf(stderr, "naru httpd: worker %d: %s\n", index, naru_error_text());
        return 1;
    }
    nr_service_options(service, &options);
    int result = nr_http_open(&service->http, &options);
    if (result < 0) {
        fprintf(stderr, "naru httpd: worker %d: %s\n", index, strerror(-result));
        return 1;
    }
    nr_service_state(service, NR_SCORE_IDLE);
    naru_ready();
    nr_worker_serve(service);
    nr_service_state(service, NR_SCORE_ENDED);
    naru_close(service->board.writer);
    return 0;
}
