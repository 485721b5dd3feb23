/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * httpd -- the server as a whole: what it was told, what it holds, and its two ways of forking
 *
 *   master ── accepts nothing (prefork), or accepts and forks for each connection (fork)
 *     ├─ worker 0 ─ one place of the scoreboard each; answers requests (service.h)
 *     ├─ worker 1
 *     └─ …
 */
#include "listening.h"
#include "service.h"
#include <naru/process.h>

enum nr_httpd_mode { NR_HTTPD_PREFORK = 0, NR_HTTPD_FORK };

struct nr_httpd_options {
    const char *root;
    const char *listen;
    const char *access_log; /* NULL: none */
    const char *user;       /* NULL: stay who we are */
    char token[64];
    enum nr_httpd_mode mode;
    enum nr_service_status status;
    int workers;             /* prefork: workers; fork: processes at most */
    int connections;         /* prefork: of each worker */
    int connections_address; /* of one address, in each worker or, in fork mode, in all */
    int idle_s;
    int grace_s;
    int backlog;
    bool is_json;
};

struct nr_httpd {
    struct nr_httpd_options options;
    struct nr_listening listening;
    struct nr_service service;
    struct naru_endpoint *control; /* orders of workers */
    int signal_fd;                 /* TERM, INT, HUP */
    char listen[80];
};

/* Run until they are told to stop. 0, or 1 after a complaint. */
int nr_prefork_run(struct nr_httpd *httpd);
int nr_forking_run(struct nr_httpd *httpd);

/* What a worker needs of the master's descriptors, under the same numbers. Returns how many. */
size_t nr_httpd_handed_down(const struct nr_httpd *httpd, struct naru_spawn_fd fds[4]);

/* Notes the end of a worker for all to see. */
void nr_httpd_note_death(struct nr_httpd *httpd, int worker, const char *cause, int32_t pid);

/* The log is opened anew, for who has moved the file away. */
void nr_httpd_reopen_log(struct nr_httpd *httpd);
