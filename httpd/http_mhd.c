/* SPDX-License-Identifier: MIT */
/*
 * http_mhd -- http.h by libmicrohttpd, in its form for an external loop
 *
 * Contents   requests - answers - connections - the server
 * Known      of Debian's 0.9.75, each measured or seen: it uses sendfile only where SIGPIPE is left to us; it
 *            lets smuggled requests pass, and bare CR, and cuts a header's value at a NUL. So the guard
 *            (request_guard.h) looks at each request first, and nr_http_is_whole() at the bytes that are not
 *            shown. After a refusal the connection is closed: what follows in it is nobody's request. What can't be
 *            seen: NUL and a bare LF, or a colon and a bare LF, instead of CR LF: it overwrites all with the same two NULs; and
 *            lines that begin with a NUL before a request, which count as empty ones. Its own answer to a Content-Length that is no number
 *            has its head twice; the connection ends with it.
 * Limits     A connection that is one too many is let in, told 503 and closed; beyond that excess the library
 *            refuses. An idle one, or one that sends its request too slowly, is shut down after idle_s: its
 *            time starts when it came or its last answer ended, so that a byte now and then buys nothing. One whose
 *            client has ended its side is shut at the next look, a second later: 0.9.75, which gets each event
 *            once, misses an end that comes together with a request.
 */
#include "http.h"
#include "request_guard.h"
#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    NR_HTTP_TARGET_BYTES = 8192, /* longer ones are refused */
    NR_HTTP_CONNECTION_BYTES = 16 * 1024, /* a request with its headers; cleared after each one */
    NR_HTTP_EXCESS = 64,                  /* connections beyond the limit that are told so */
    NR_HTTP_DRAIN_IDLE_NS = 1000000000,
    NR_HTTP_LOOK_NS = 1000000000,
};

struct nr_http_connection {
    struct nr_http *http;
    struct nr_http_connection *next, *previous;
    int fd;
    bool is_busy; /* its request is being answered */
    bool is_excess;
    bool is_shut;
    int64_t since_ns; /* when it came, or its last answer ended */
    unsigned char ip[16];
    char address[INET6_ADDRSTRLEN];
};

/* One request. */
struct nr_http_call {
    struct nr_http_connection *connection;
    struct MHD_Connection *handle;
    const char *target_at; /* where it stands in the library's buffer: only to compare */
    int64_t begin_ns;
    uint64_t body_bytes;
    int status;
    bool is_guarded, is_begun;
    char method[16];
    char *path; /* room for the decoded one, behind the target: not on the stack, where it costs a child two pages */
    char target[];
};

struct nr_http {
    struct MHD_Daemon *daemon;
    struct nr_http_options options;
    struct nr_http_connection *connections; /* newest first */
    unsigned connections_count;
    int64_t sweep_ns; /* no connection is idle for too long before */
    bool drains;
    bool shows_buffer; /* this version's strings stand where the request was received */
};

static int64_t nr_http_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* -- requests ------------------------------------------------------------------------------ */

const char *nr_http_header(const struct nr_http_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->handle, MHD_HEADER_KIND, name);
}

/* The library's first word of a request: its target, as it was sent. What is returned is the request's context. */
static void *nr_http_receive(void *context, const char *target, struct MHD_Connection *handle)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(handle, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    size_t length = strlen(target);
    struct nr_http_call *call = malloc(sizeof *call + 2 * (length + 1));

    (void)context;
    if (!call)
        return NULL;
    *call = (struct nr_http_call){
        .connection = info ? info->socket_context : NULL,
        .handle = handle,
        .target_at = target,
        .begin_ns = nr_http_now_ns(),
        .path = call->target + length + 1,
    };
    memcpy(call->target, target, length + 1);
    return call;
}

struct nr_http_look {
    struct nr_request_guard guard;
    const char *expected; /* where the next header's name must stand */
    bool is_contiguous;
};

static enum MHD_Result nr_http_look_at(void *context, enum MHD_ValueKind kind, const char *name,
                                       size_t name_bytes, const char *value, size_t value_bytes)
{
    struct nr_http_look *look = context;

    (void)kind;
    nr_request_guard_field(&look->guard, name, name_bytes, value ? value : "", value_bytes);
    if (!value || name != look->expected || value < name + name_bytes + 1)
        look->is_contiguous = false;
    else
        look->expected = value + value_bytes + 2; /* CR LF, both overwritten */
    return MHD_YES;
}

/* Request line and headers follow each other without a gap, up to the end: nothing was cut out or glued on. */
static bool nr_http_is_whole(const struct nr_http_call *call, const struct nr_http_look *look,
                             const char *method, const char *version)
{
    size_t sent_bytes =
        MHD_get_connection_info(call->handle, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE)->header_size;

    if (!call->connection->http->shows_buffer)
        return true;
    return look->is_contiguous && call->target_at == method + strlen(method) + 1 &&
           version == call->target_at + strlen(call->target) + 1 &&
           look->expected + 2 == method + sent_bytes;
}

/* The status to refuse it with, or 0. */
static int nr_http_guard(const struct nr_http_call *call, const char *method, const char *version,
                         const char **ret_reason)
{
    struct nr_http_look look = {.expected = version + strlen(version) + 2, .is_contiguous = true};

    MHD_get_connection_values_n(call->handle, MHD_HEADER_KIND, nr_http_look_at, &look);
    int status = nr_request_guard_verdict(&look.guard, method, call->target);
    *ret_reason = look.guard.reason;
    if ((status == 0 || status == 405) && !nr_http_is_whole(call, &look, method, version)) {
        *ret_reason = "there are bytes in it that belong to no header";
        return 400;
    }
    if (status == 0 && call->connection->is_excess) {
        *ret_reason = "too many connections at the moment";
        return 503;
    }
    return status;
}

/* -- answers ------------------------------------------------------------------------------- */

void nr_http_field(struct nr_http_answer *answer, const char *name, const char *format, ...)
{
    va_list arguments;

    if (answer->fields_count == NR_HTTP_FIELDS_MAX)
        return;
    struct nr_http_field *field = &answer->fields[answer->fields_count++];
    field->name = name;
    va_start(arguments, format);
    vsnprintf(field->value, sizeof field->value, format, arguments);
    va_end(arguments);
}

void nr_http_say(struct nr_http_answer *answer, int status, const char *text)
{
    char *body;

    answer->status = status;
    int length =
        asprintf(&body, "%d %s: %s\n", status, MHD_get_reason_phrase_for((unsigned)status), text);
    if (length < 0)
        return;
    answer->body = NR_HTTP_ALLOCATED;
    answer->data = body;
    answer->size_bytes = (uint64_t)length;
    nr_http_field(answer, "Content-Type", "text/plain; charset=utf-8");
    nr_http_field(answer, "X-Content-Type-Options", "nosniff");
}

static struct MHD_Response *nr_http_response(const struct nr_http_answer *answer)
{
    switch (answer->body) {
    case NR_HTTP_NONE:
        break;
    case NR_HTTP_CONSTANT:
        return MHD_create_response_from_buffer((size_t)answer->size_bytes, answer->data,
                                               MHD_RESPMEM_PERSISTENT);
    case NR_HTTP_ALLOCATED:
        return MHD_create_response_from_buffer((size_t)answer->size_bytes, answer->data,
                                               MHD_RESPMEM_MUST_FREE);
    case NR_HTTP_FILE:
        return MHD_create_response_from_fd_at_offset64(answer->size_bytes, answer->fd,
                                                       answer->offset);
    }
    return MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
}

static enum MHD_Result nr_http_give(struct nr_http_call *call, const struct nr_http_answer *answer)
{
    struct MHD_Response *response = nr_http_response(answer);

    if (!response) {
        if (answer->body == NR_HTTP_FILE)
            close(answer->fd);
        if (answer->body == NR_HTTP_ALLOCATED)
            free(answer->data);
        return MHD_NO;
    }
    for (int i = 0; i < answer->fields_count; i++)
        MHD_add_response_header(response, answer->fields[i].name, answer->fields[i].value);
    if (answer->closes || call->connection->http->drains)
        MHD_add_response_header(response, "Connection", "close");
    call->status = answer->status;
    call->body_bytes = answer->size_bytes;
    enum MHD_Result result = MHD_queue_response(call->handle, (unsigned)answer->status, response);
    MHD_destroy_response(response);
    return result;
}

static void nr_http_ask(struct nr_http_call *call, bool is_head, struct nr_http_answer *answer)
{
    struct nr_http *http = call->connection->http;
    struct nr_http_request request = {
        .target = call->target,
        .path = call->path,
        .address = call->connection->address,
        .is_head = is_head,
        .handle = call->handle,
    };

    if (strlen(call->target) >= NR_HTTP_TARGET_BYTES) {
        nr_http_say(answer, 414, "the target is longer than 8191 bytes");
        answer->closes = true; /* nobody has looked whether it is one */
    } else if (!nr_request_guard_path(call->target, call->path, &request.query)) {
        nr_http_say(answer, 400, "the target is no path");
        answer->closes = true;
    } else {
        call->is_begun = true;
        http->options.begun(http->options.context, &request);
        http->options.answer(http->options.context, &request, answer);
    }
}

/*
 * The library calls twice: with the headers, and when the request is over. An answer at the first call ends the
 * connection behind it, which is right for a refusal and only for that.
 */
static enum MHD_Result nr_http_handle(void *context, struct MHD_Connection *handle, const char *url,
                                      const char *method, const char *version, const char *upload,
                                      size_t *upload_bytes, void **request_context)
{
    struct nr_http_call *call = *request_context;
    struct nr_http_answer answer = {.fd = -1};
    const char *reason = NULL;

    (void)context, (void)handle, (void)url, (void)upload;
    if (!call || !call->connection || call->status || *upload_bytes)
        return MHD_NO;
    if (call->is_guarded) {
        nr_http_ask(call, method[0] == 'H', &answer);
        return nr_http_give(call, &answer);
    }
    call->is_guarded = true;
    call->connection->is_busy = true;
    snprintf(call->method, sizeof call->method, "%s", method);
    int status = nr_http_guard(call, method, version, &reason);
    if (status == 0)
        return MHD_YES;
    nr_http_say(&answer, status, reason);
    if (status == 405)
        nr_http_field(&answer, "Allow", "GET, HEAD");
    if (status == 503)
        nr_http_field(&answer, "Retry-After", "1");
    answer.closes = true;
    return nr_http_give(call, &answer);
}

static void nr_http_complete(void *context, struct MHD_Connection *handle, void **request_context,
                             enum MHD_RequestTerminationCode code)
{
    struct nr_http_call *call = *request_context;
    struct nr_http *http = context;

    (void)handle;
    if (!call)
        return;
    *request_context = NULL;
    int64_t now_ns = nr_http_now_ns();
    bool is_whole = code == MHD_REQUEST_TERMINATED_COMPLETED_OK;
    struct nr_http_outcome outcome = {
        .method = call->method,
        .target = call->target,
        .address = call->connection->address,
        .status = call->status,
        .body_bytes = is_whole && call->method[0] != 'H' ? call->body_bytes : 0,
        .duration_ns = now_ns - call->begin_ns,
        .is_whole = is_whole,
        .was_begun = call->is_begun,
    };
    if (call->status)
        http->options.ended(http->options.context, &outcome);
    call->connection->is_busy = false;
    call->connection->since_ns = now_ns;
    free(call);
}

/* -- connections --------------------------------------------------------------------------- */

static void nr_http_name(struct nr_http_connection *connection, const struct sockaddr *address)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    if (address && address->sa_family == AF_INET) {
        memcpy(&v4, address, sizeof v4);
        memcpy(connection->ip, &v4.sin_addr, sizeof v4.sin_addr);
        inet_ntop(AF_INET, &v4.sin_addr, connection->address, sizeof connection->address);
    } else if (address && address->sa_family == AF_INET6) {
        memcpy(&v6, address, sizeof v6);
        memcpy(connection->ip, &v6.sin6_addr, sizeof v6.sin6_addr);
        inet_ntop(AF_INET6, &v6.sin6_addr, connection->address, sizeof connection->address);
    }
}

static bool nr_http_is_excess(const struct nr_http *http, const struct nr_http_connection *newest)
{
    unsigned same = 0;

    if (http->connections_count > http->options.connections_max)
        return true;
    for (const struct nr_http_connection *c = http->connections; c; c = c->next)
        same += memcmp(c->ip, newest->ip, sizeof c->ip) == 0;
    return same > http->options.connections_address_max;
}

static void nr_http_come(struct nr_http *http, struct MHD_Connection *handle, void **ret)
{
    struct nr_http_connection *connection = calloc(1, sizeof *connection);
    const union MHD_ConnectionInfo *address =
        MHD_get_connection_info(handle, MHD_CONNECTION_INFO_CLIENT_ADDRESS);

    *ret = connection;
    if (!connection)
        return; /* each of its requests is refused */
    connection->http = http;
    connection->fd = MHD_get_connection_info(handle, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    connection->since_ns = nr_http_now_ns();
    nr_http_name(connection, address ? address->client_addr : NULL);
    connection->next = http->connections;
    if (connection->next)
        connection->next->previous = connection;
    http->connections = connection;
    http->connections_count++;
    connection->is_excess = nr_http_is_excess(http, connection);
}

static void nr_http_go(struct nr_http *http, struct nr_http_connection *connection)
{
    if (!connection)
        return;
    if (connection->next)
        connection->next->previous = connection->previous;
    if (connection->previous)
        connection->previous->next = connection->next;
    else
        http->connections = connection->next;
    http->connections_count--;
    free(connection);
}

static void nr_http_notify(void *context, struct MHD_Connection *handle, void **socket_context,
                           enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        nr_http_come(context, handle, socket_context);
    else
        nr_http_go(context, *socket_context);
}

/* Whether the client will send nothing more. What it sent has been read by then: its last answer ended a look ago. */
static bool nr_http_is_left(const struct nr_http_connection *connection)
{
    struct pollfd fd = {.fd = connection->fd, .events = POLLRDHUP};

    return poll(&fd, 1, 0) > 0;
}

/* Shuts those that are idle for too long, and those that have been left. Milliseconds until the next look. */
static int nr_http_sweep(struct nr_http *http)
{
    int64_t idle_ns = (int64_t)http->options.idle_s * 1000000000, now_ns = nr_http_now_ns();

    if (http->drains && idle_ns > NR_HTTP_DRAIN_IDLE_NS)
        idle_ns = NR_HTTP_DRAIN_IDLE_NS;
    if (now_ns >= http->sweep_ns) {
        http->sweep_ns = now_ns + (idle_ns < NR_HTTP_LOOK_NS ? idle_ns : NR_HTTP_LOOK_NS);
        for (struct nr_http_connection *c = http->connections; c; c = c->next) {
            int64_t for_ns = now_ns - c->since_ns;
            if (c->is_busy || c->is_shut)
                continue;
            if (for_ns >= idle_ns || (for_ns >= NR_HTTP_LOOK_NS && nr_http_is_left(c))) {
                c->is_shut = true;
                shutdown(c->fd, SHUT_RDWR); /* the library sees its end and closes it */
            } else if (c->since_ns + idle_ns < http->sweep_ns) {
                http->sweep_ns = c->since_ns + idle_ns;
            }
        }
    }
    return (int)((http->sweep_ns - now_ns) / 1000000) + 1;
}

/* -- the server ---------------------------------------------------------------------------- */

int nr_http_open(struct nr_http **ret, const struct nr_http_options *options)
{
    struct nr_http *http = calloc(1, sizeof *http);
    bool listens = options->listen_fd >= 0;

    if (!http)
        return -ENOMEM;
    http->options = *options;
    http->shows_buffer = strncmp(MHD_get_version(), "0.9.7", 5) == 0;
    struct MHD_OptionItem listening[] = {
        {MHD_OPTION_LISTEN_SOCKET, options->listen_fd, NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    http->daemon = MHD_start_daemon(
        /* A child of a fork must not share an epoll set with its parent. */
        listens ? MHD_USE_EPOLL : MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, nr_http_handle, NULL,
        MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_STRICT_FOR_CLIENT, 0,
        MHD_OPTION_CONNECTION_LIMIT, options->connections_max + NR_HTTP_EXCESS,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)NR_HTTP_CONNECTION_BYTES,
        MHD_OPTION_CONNECTION_TIMEOUT, options->idle_s, MHD_OPTION_URI_LOG_CALLBACK,
        nr_http_receive, http, MHD_OPTION_NOTIFY_COMPLETED, nr_http_complete, http,
        MHD_OPTION_NOTIFY_CONNECTION, nr_http_notify, http, MHD_OPTION_ARRAY,
        listens ? listening : listening + 1, MHD_OPTION_END);
    if (!http->daemon) {
        free(http);
        return -EMFILE;
    }
    *ret = http;
    return 0;
}

void nr_http_close(struct nr_http *http)
{
    if (!http)
        return;
    MHD_stop_daemon(http->daemon);
    free(http);
}

int nr_http_add(struct nr_http *http, int fd, const struct sockaddr *address, socklen_t length)
{
    return MHD_add_connection(http->daemon, fd, address, length) == MHD_YES ? 0 : -errno;
}

void nr_http_wait(struct nr_http *http)
{
    int wait_ms = nr_http_sweep(http);

    MHD_run_wait(http->daemon, http->connections_count ? wait_ms : -1);
}

unsigned nr_http_connections(const struct nr_http *http)
{
    return http->connections_count;
}

void nr_http_drain(struct nr_http *http)
{
    if (http->drains)
        return;
    http->drains = true;
    http->sweep_ns = 0;
    MHD_quiesce_daemon(http->daemon);
}
