/* SPDX-License-Identifier: MIT */
#include "access_log.h"
#include "json.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    NR_ACCESS_LOG_LINE_BYTES = 64 * 1024, /* a target of 8 KiB, each byte as \u00XX */
    NR_ACCESS_LOG_BYTES = 2 * NR_ACCESS_LOG_LINE_BYTES,
};

static char nr_access_log_lines[NR_ACCESS_LOG_BYTES]; /* gathered */

int nr_access_log_open(struct nr_access_log *log, const char *path)
{
    log->fd = strcmp(path, "-") == 0
                  ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)
                  : open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
    return log->fd < 0 ? -errno : 0;
}

void nr_access_log_close(struct nr_access_log *log)
{
    if (log->fd >= 0)
        close(log->fd);
    log->fd = -1;
}

void nr_access_log_flush(struct nr_access_log *log)
{
    if (log->gathered_bytes &&
        write(log->fd, nr_access_log_lines, log->gathered_bytes) != (ssize_t)log->gathered_bytes)
        log->dropped++;
    log->gathered_bytes = 0;
}

/* JSON is UTF-8, and what was refused may be anything. */
static void nr_access_log_text(struct nr_json *json, const char *key, const char *text)
{
    size_t length = strlen(text);

    nr_json_text(json, key, nr_json_is_utf8(text, length) ? text : "(not UTF-8)");
}

void nr_access_log_write(struct nr_access_log *log, const struct nr_http_outcome *outcome)
{
    char date[32], when[48];
    struct timespec now;
    struct tm parts;

    if (log->fd < 0)
        return;
    if (log->gathered_bytes > NR_ACCESS_LOG_BYTES - NR_ACCESS_LOG_LINE_BYTES)
        nr_access_log_flush(log);
    FILE *file = fmemopen(nr_access_log_lines + log->gathered_bytes, NR_ACCESS_LOG_LINE_BYTES, "w");
    if (!file) {
        log->dropped++;
        return;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(when, sizeof when, "%s.%03dZ", date, (int)(now.tv_nsec / 1000000));
    struct nr_json json = {.file = file};
    nr_json_begin(&json, NULL, '{');
    nr_json_text(&json, "time", when);
    nr_json_text(&json, "address", outcome->address);
    nr_access_log_text(&json, "method", outcome->method);
    nr_access_log_text(&json, "target", outcome->target);
    nr_json_integer(&json, "status", outcome->status);
    nr_json_integer(&json, "bytes", (int64_t)outcome->body_bytes);
    nr_json_bool(&json, "whole", outcome->is_whole);
    nr_json_integer(&json, "duration_us", outcome->duration_ns / 1000);
    nr_json_integer(&json, "worker", log->worker);
    nr_json_integer(&json, "pid", getpid());
    nr_json_end(&json, '}');
    fputc('\n', file);
    long length = ftell(file);
    fclose(file);
    if (length > 0)
        log->gathered_bytes += (size_t)length;
    else
        log->dropped++;
}
