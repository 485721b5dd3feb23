/* SPDX-License-Identifier: MIT */
/*
 * ours -- the contestants that go through the library, as a user would write them
 *
 * Techniques that cross one way get two channels, "a" to the server and "b" to the client. Every call waits
 * for ever.
 */
#include "duel.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void naru_send_one(struct bench_link *link, const void *data)
{
    if (naru_send(link->out, data, link->size_bytes, NARU_FOREVER) < 0)
        bench_die_naru(link, "naru_send");
}

static void naru_recv_one(struct bench_link *link, void *room)
{
    size_t size_bytes;

    if (naru_recv(link->in, room, BENCH_ROOM_BYTES, &size_bytes, NARU_FOREVER) < 0)
        bench_die_naru(link, "naru_recv");
    if (size_bytes != link->size_bytes) {
        errno = EBADMSG;
        bench_die(link, "a message of another size came");
    }
}

static void naru_leave_one(struct bench_link *link)
{
    naru_close(link->in);
    if (link->out != link->in)
        naru_close(link->out);
}

#define NARU_CONTESTANT(title, ...)                                                                \
    {                                                                                              \
        .name = title, .send = naru_send_one, .recv = naru_recv_one, .leave = naru_leave_one,      \
        __VA_ARGS__                                                                                \
    }

static void naru_open_one(struct bench_link *link, struct naru_endpoint **ret, const char *uri,
                          enum naru_role role, const struct naru_options *options)
{
    if (naru_open(ret, uri, role, options) < 0)
        bench_die_naru(link, uri);
}

/* -- two channels by name ------------------------------------------------------------------ */

static void naru_uri(const struct bench_link *link, const char *format, int way, char *ret)
{
    char name[BENCH_NAME_BYTES / 2];

    snprintf(name, sizeof name, "naru-bench-%d-%u-%c", (int)link->shared->pid[BENCH_SERVER],
             link->serial, way ? 'b' : 'a');
    if (strstr(format, "%s/%s"))
        snprintf(ret, BENCH_NAME_BYTES, format, link->directory, name);
    else
        snprintf(ret, BENCH_NAME_BYTES, format, name);
}

/* The receivers first: a FIFO's sender waits for them. */
static void naru_join_two(struct bench_link *link, const char *format,
                          const struct naru_options *options)
{
    char uri[BENCH_NAME_BYTES];

    naru_uri(link, format, link->side == BENCH_CLIENT, uri);
    naru_open_one(link, &link->in, uri, NARU_RECEIVER, options);
    naru_uri(link, format, link->side == BENCH_SERVER, uri);
    naru_open_one(link, &link->out, uri, NARU_SENDER, options);
}

static void naru_remove_two(struct bench_link *link, const char *format)
{
    char uri[BENCH_NAME_BYTES];

    for (int way = 0; way < 2; way++) {
        naru_uri(link, format, way, uri);
        naru_unlink(uri);
    }
}

#define NARU_TWO(name, title, format, ...)                                                         \
    static void name##_join(struct bench_link *link)                                               \
    {                                                                                              \
        struct naru_options options = {.size_bytes = sizeof options, __VA_ARGS__};                 \
        naru_join_two(link, format, &options);                                                     \
    }                                                                                              \
    static void name##_remove(struct bench_link *link)                                             \
    {                                                                                              \
        naru_remove_two(link, format);                                                             \
    }                                                                                              \
    const struct bench_contestant name =                                                           \
        NARU_CONTESTANT(title, .join = name##_join, .remove = name##_remove)

NARU_TWO(bench_naru_fifo, "fifo:///path", "fifo://%s/%s", );
NARU_TWO(bench_naru_mq, "mq://name", "mq://%s", );
NARU_TWO(bench_naru_sysv, "sysv:///path", "sysv://%s/%s", );
NARU_TWO(bench_naru_shm, "shm://name", "shm://%s", );
NARU_TWO(bench_naru_shm_one_to_one, "shm://name, one to one", "shm://%s", .one_to_one = 1);
NARU_TWO(bench_naru_file, "file:///path", "file://%s/%s", );

/* -- one connection, both ways --------------------------------------------------------------- */

/* The server listens, the client attaches to it. */
static void naru_join_connection(struct bench_link *link, const char *uri,
                                 enum naru_acknowledge acknowledge)
{
    struct naru_options options = {
        .size_bytes = sizeof options,
        .create = link->side == BENCH_SERVER ? NARU_CREATE : NARU_ATTACH,
        .acknowledge = acknowledge,
    };

    naru_open_one(link, &link->in, uri, NARU_BOTH, &options);
    link->out = link->in;
}

static void naru_unix_join(struct bench_link *link)
{
    char uri[BENCH_NAME_BYTES];

    naru_uri(link, "unix://%s/%s", 0, uri);
    naru_join_connection(link, uri, 0);
}

static void naru_abstract_join(struct bench_link *link)
{
    char uri[BENCH_NAME_BYTES];

    naru_uri(link, "abstract://%s", 0, uri);
    naru_join_connection(link, uri, 0);
}

/* A port that is free now. */
static void naru_tcp_prepare(struct bench_link *link)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        bench_die(link, "no port");
    link->port = ntohs(address.sin_port);
    close(fd);
}

static void naru_tcp_join_as(struct bench_link *link, enum naru_acknowledge acknowledge)
{
    char uri[BENCH_NAME_BYTES];

    snprintf(uri, sizeof uri, "tcp://127.0.0.1:%d", link->port);
    naru_join_connection(link, uri, acknowledge);
}

static void naru_tcp_join(struct bench_link *link)
{
    naru_tcp_join_as(link, NARU_UNACKNOWLEDGED);
}

static void naru_tcp_join_acknowledged(struct bench_link *link)
{
    naru_tcp_join_as(link, NARU_ACKNOWLEDGED);
}

const struct bench_contestant bench_naru_unix =
    NARU_CONTESTANT("unix:///path", .join = naru_unix_join);
const struct bench_contestant bench_naru_abstract =
    NARU_CONTESTANT("abstract://name", .join = naru_abstract_join);
const struct bench_contestant bench_naru_tcp =
    NARU_CONTESTANT("tcp://, unacknowledged", .prepare = naru_tcp_prepare, .join = naru_tcp_join);
const struct bench_contestant bench_naru_tcp_acknowledged = NARU_CONTESTANT(
    "tcp://, acknowledged", .prepare = naru_tcp_prepare, .join = naru_tcp_join_acknowledged);

/* -- pairs ----------------------------------------------------------------------------------- */

/* From the assignment on, each side watches the other's pidfd. */
static void naru_pair_join(struct bench_link *link)
{
    pid_t client = link->shared->pid[BENCH_CLIENT];

    if (naru_pair_assign(link->pair[1], client) < 0)
        bench_die_naru(link, "naru_pair_assign");
    int mine = link->side == BENCH_CLIENT;
    naru_close(link->pair[!mine]);
    link->in = link->out = link->pair[mine];
}

#define NARU_PAIR(id, scheme)                                                                      \
    static void id##_prepare(struct bench_link *link)                                              \
    {                                                                                              \
        if (naru_pair(link->pair, scheme "://", NULL) < 0)                                         \
            bench_die_naru(link, "naru_pair");                                                     \
    }                                                                                              \
    const struct bench_contestant id =                                                             \
        NARU_CONTESTANT(scheme ":// pair", .prepare = id##_prepare, .join = naru_pair_join)

NARU_PAIR(bench_naru_pipe_pair, "pipe");
NARU_PAIR(bench_naru_mq_pair, "mq");
NARU_PAIR(bench_naru_unix_pair, "unix");
NARU_PAIR(bench_naru_shm_pair, "shm");

/* -- inherited descriptors --------------------------------------------------------------------- */

static void naru_pipe_prepare(struct bench_link *link)
{
    if (pipe2(link->fds, O_CLOEXEC) < 0 || pipe2(link->fds + 2, O_CLOEXEC) < 0)
        bench_die(link, "pipe2");
}

static void naru_pipe_join(struct bench_link *link)
{
    bool serves = link->side == BENCH_SERVER;
    char uri[BENCH_NAME_BYTES];

    snprintf(uri, sizeof uri, "pipe://%d", link->fds[serves ? 0 : 2]);
    naru_open_one(link, &link->in, uri, NARU_RECEIVER, NULL);
    snprintf(uri, sizeof uri, "pipe://%d", link->fds[serves ? 3 : 1]);
    naru_open_one(link, &link->out, uri, NARU_SENDER, NULL);
}

const struct bench_contestant bench_naru_pipe_fd =
    NARU_CONTESTANT("pipe://N", .prepare = naru_pipe_prepare, .join = naru_pipe_join);

/* -- signals ------------------------------------------------------------------------------------- */

static void naru_signal_join(struct bench_link *link)
{
    char uri[BENCH_NAME_BYTES];

    naru_open_one(link, &link->in, "signal://self", NARU_RECEIVER, NULL);
    snprintf(uri, sizeof uri, "signal://%d", (int)link->shared->pid[!link->side]);
    naru_open_one(link, &link->out, uri, NARU_SENDER, NULL);
}

const struct bench_contestant bench_naru_signal =
    NARU_CONTESTANT("signal://pid", .join = naru_signal_join);
