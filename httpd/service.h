/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * service -- what a worker does with a request: its answer, its score, its line in the log
 *
 * What       /naru/status, /naru/status.json, /naru/stop, /sum; everything else is a file (site.h).
 * Fork       Made in the master, without descriptors of its own; nr_service_take() makes it a worker's.
 */
#include "access_log.h"
#include "http.h"
#include "scoreboard.h"
#include "site.h"

enum nr_service_status {
    NR_SERVICE_STATUS_LOCAL = 0,
    NR_SERVICE_STATUS_ALL,
    NR_SERVICE_STATUS_NONE
};

struct nr_service {
    const char *mode;   /* "prefork", "fork" */
    const char *listen; /* "127.0.0.1:8080" */
    const char *token;  /* who knows it may stop a worker */
    enum nr_service_status status;
    struct nr_site site;
    struct nr_access_log log;
    struct nr_scoreboard board;
    struct nr_score score; /* this worker's */
    unsigned answering;    /* requests that were begun and are not ended */
    struct nr_http *http;  /* whose connections are counted */
};

/* In a new worker: takes over the place `index` of the scoreboard. -errno */
int nr_service_take(struct nr_service *service, int index);

/* Fills what concerns the service; the caller sets the rest. */
void nr_service_options(struct nr_service *service, struct nr_http_options *options);

/* Writes the worker's state; a busy one tells its own. */
void nr_service_state(struct nr_service *service, enum nr_score_state state);

/* What a worker sends to the master: stop the process `pid` at the place `worker`. */
struct nr_service_order {
    int32_t worker, pid;
};
