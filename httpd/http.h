/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * http -- what the web server needs of an HTTP library, so that the library can be exchanged
 *
 * What       A server on a listening socket, or on connections that are given to it, that asks one function
 *            for the answer to each request. http_mhd.c does it with libmicrohttpd; no other file knows of that.
 * Requests   GET and HEAD without a body. Everything else has got its 400, 405 or 503 before the function is
 *            called (request_guard.h).
 * Loop       The caller's: nr_http_wait() again and again. A signal handler ends its wait.
 * Threads    None, and each server is used by one.
 * Fork       A server without a listening socket may be opened before a fork and used in the child.
 */
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nr_http;

/* Valid while the answering function runs. */
struct nr_http_request {
    const char *target;  /* as it was sent: "/a%20b?x=1" */
    const char *path;    /* decoded: "/a b"; begins with '/', holds no control character */
    const char *query;   /* as it was sent, without '?'; "" if there is none */
    const char *address; /* the client's, as text */
    bool is_head;
    void *handle; /* nr_http_header()'s */
};

/* NULL: it was not sent. */
const char *nr_http_header(const struct nr_http_request *request, const char *name);

enum nr_http_body {
    NR_HTTP_NONE = 0,
    NR_HTTP_CONSTANT,  /* `data` stays as it is */
    NR_HTTP_ALLOCATED, /* free(data) follows */
    NR_HTTP_FILE,      /* `size_bytes` from `offset` in `fd`, which is closed afterwards */
};

enum { NR_HTTP_FIELDS_MAX = 8, NR_HTTP_VALUE_BYTES = 128 };

/* Zeroed for the answering function, which fills it. */
struct nr_http_answer {
    int status;
    bool closes; /* the connection, afterwards */
    enum nr_http_body body;
    int fd;
    void *data;
    uint64_t offset;
    uint64_t size_bytes;
    int fields_count;
    struct nr_http_field {
        const char *name; /* a constant */
        char value[NR_HTTP_VALUE_BYTES];
    } fields[NR_HTTP_FIELDS_MAX];
};

/* One more header field. The name stays; a value that is too long is cut. */
void nr_http_field(struct nr_http_answer *answer, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* An answer of one sentence, for a person. */
void nr_http_say(struct nr_http_answer *answer, int status, const char *text);

/* What became of a request. */
struct nr_http_outcome {
    const char *method, *target, *address;
    int status;
    uint64_t body_bytes; /* 0 unless it went out whole */
    int64_t duration_ns; /* from its headers to the end of its answer */
    bool is_whole;
    bool was_begun; /* options.begun() was called for it: not if it was refused at once */
};

struct nr_http_options {
    int listen_fd;                    /* non-blocking; -1: none */
    unsigned connections_max;         /* one more is told 503 */
    unsigned connections_address_max; /* of one address; the same */
    unsigned idle_s; /* a connection that sends no whole request for so long is closed */
    void *context;
    void (*begun)(void *context, const struct nr_http_request *request);
    void (*answer)(void *context, const struct nr_http_request *request,
                   struct nr_http_answer *answer);
    void (*ended)(void *context, const struct nr_http_outcome *outcome);
};

int nr_http_open(struct nr_http **ret, const struct nr_http_options *options); /* -errno */
void nr_http_close(struct nr_http *http);

/* A connection that the caller has accepted; it is closed in any case. -errno */
int nr_http_add(struct nr_http *http, int fd, const struct sockaddr *address, socklen_t length);

/* Waits until there is something to do, or a signal has come, and does what can be done. */
void nr_http_wait(struct nr_http *http);

unsigned nr_http_connections(const struct nr_http *http);

/* Accepts no more, and closes each connection after its next answer, or when it has been idle for a second. */
void nr_http_drain(struct nr_http *http);
