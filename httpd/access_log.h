/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * access_log -- a line of JSON for each request
 *
 * What       {"time":"2026-11-24T09:00:00.123Z","address":"127.0.0.1","method":"GET","target":"/","status":200,
 *            "bytes":1024,"whole":true,"duration_us":213,"worker":0,"pid":4711}. Whatever a client sends, a line is one line.
 * Writers    Several processes append to one file, whole lines by one write(2), so none is torn. Lines are gathered
 *            until nr_access_log_flush(), which a worker calls before it waits.
 * Death      A worker that is killed takes the lines along that it has gathered since its last wait.
 * Faults     A line that can't be written (the disk is full) is dropped and counted; the answer goes out.
 */
#include "http.h"

struct nr_access_log {
    int fd; /* -1: none */
    int worker;
    size_t gathered_bytes;
    uint64_t dropped;
};
#define NR_ACCESS_LOG_NULL                                                                         \
    {                                                                                              \
        .fd = -1                                                                                   \
    }

/* "-" is standard output. -errno */
int nr_access_log_open(struct nr_access_log *log, const char *path);
void nr_access_log_close(struct nr_access_log *log);
void nr_access_log_flush(struct nr_access_log *log);
void nr_access_log_write(struct nr_access_log *log, const struct nr_http_outcome *outcome);
