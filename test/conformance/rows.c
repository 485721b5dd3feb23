/* SPDX-License-Identifier: MIT */
#include "rows.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* -- names --------------------------------------------------------------------------------- */

static unsigned nr_rows_serial;

static void nr_rows_name_pair(struct nr_channel *channel)
{
    snprintf(channel->uri, sizeof channel->uri, "%s://", channel->row->scheme);
}

static void nr_rows_name_path(struct nr_channel *channel)
{
    snprintf(channel->uri, sizeof channel->uri, "%s://%s/%s-%d-%u", channel->row->scheme,
             nr_kit_directory(), channel->row->scheme, (int)getpid(), ++nr_rows_serial);
}

static void nr_rows_name_plain(struct nr_channel *channel)
{
    snprintf(channel->uri, sizeof channel->uri, "%s://naru-test-%d-%u", channel->row->scheme,
             (int)getpid(), ++nr_rows_serial);
}

static void nr_rows_name_key(struct nr_channel *channel)
{
    snprintf(channel->uri, sizeof channel->uri, "%s://0x%x", channel->row->scheme,
             0x10000000u + ((unsigned)getpid() << 6) % 0x60000000u + ++nr_rows_serial % 64);
}

/* A port that was free a moment ago, and that the kernel does not give to others meanwhile: those are
   below the range it picks from. */
static void nr_rows_name_port(struct nr_channel *channel)
{
    for (int i = 0;; i++) {
        unsigned port = 10000 + ((unsigned)getpid() * 16 + ++nr_rows_serial) % 20000;
        struct sockaddr_in address = {
            .sin_family = AF_INET,
            .sin_port = htons((uint16_t)port),
            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        int result = bind(fd, (struct sockaddr *)&address, sizeof address);
        close(fd);
        nr_check(result == 0 || i < 100, "no free port: %s", strerror(errno));
        if (result == 0) {
            snprintf(channel->uri, sizeof channel->uri, "tcp://127.0.0.1:%u", port);
            return;
        }
    }
}

static void nr_rows_name_pipe(struct nr_channel *channel)
{
    nr_check(pipe2(channel->pipe_fds, O_CLOEXEC) == 0, "pipe: %s", strerror(errno));
    snprintf(channel->uri, sizeof channel->uri, "pipe://%d", channel->pipe_fds[0]);
    snprintf(channel->sender_uri, sizeof channel->sender_uri, "pipe://%d", channel->pipe_fds[1]);
}

/* The receiver is a process all of whose threads block the signal; the senders name it. */
static void nr_rows_name_process(struct nr_channel *channel)
{
    sigset_t blocked;

    sigemptyset(&blocked);
    sigaddset(&blocked, SIGRTMIN + 1);
    sigaddset(&blocked, 40); /* asked for in "options are kept or refused" */
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    strcpy(channel->uri, "signal://self");
}

/* -- the rows ------------------------------------------------------------------------------ */

enum {
    NR_MIB = 1 << 20,
    NR_ROWS_PIPE =
        NR_BUFFERS | NR_FILLS | NR_TELLS_SENDER | NR_SEND_FD | NR_TYPES | NR_ENDS | NR_DIES,
    NR_ROWS_FIFO = NR_MANY_SENDERS | NR_MANY_RECEIVERS | NR_SEVERAL_FRAGMENTS,
    NR_ROWS_QUEUE = NR_BUFFERS | NR_FILLS | NR_TYPES | NR_LASTS | NR_SENDER_FIRST | NR_OBJECT |
                    NR_NAMED | NR_BOTH | NR_MANY_SENDERS | NR_MANY_RECEIVERS,
    NR_ROWS_SOCKET =
        NR_BUFFERS | NR_FILLS | NR_TELLS_SENDER | NR_SEND_FD | NR_TYPES | NR_ENDS | NR_DIES,
    NR_ROWS_TOPIC = NR_EVERY | NR_BUFFERS | NR_LASTS | NR_NAMED | NR_PATH | NR_MANY_SENDERS |
                    NR_SENDER_FIRST | NR_OBJECT | NR_BOTH | NR_TYPES | NR_SIZES | NR_FORBIDS,
    NR_ROWS_LISTEN = NR_NAMED | NR_MANY_SENDERS | NR_SENDER_FIRST | NR_BOTH | NR_CREATES_FIRST,
};

/* clang-format off */
const struct nr_row nr_rows[] = {
    {.name = "pipe", .scheme = "pipe", .has = NR_ROWS_PIPE | NR_PAIR, .large_bytes = NR_MIB,
     .name_it = nr_rows_name_pair},
    {.name = "pipe inherited", .scheme = "pipe", .has = NR_ROWS_PIPE | NR_ROWS_FIFO,
     .large_bytes = NR_MIB, .name_it = nr_rows_name_pipe},
    {.name = "fifo", .scheme = "fifo",
     .has = NR_ROWS_PIPE | NR_ROWS_FIFO | NR_NAMED | NR_PATH | NR_FORBIDS | NR_SENDER_FIRST |
            NR_OBJECT,
     .large_bytes = NR_MIB, .name_it = nr_rows_name_path},
    {.name = "mq", .scheme = "mq", .has = NR_ROWS_QUEUE | NR_SEND_FD | NR_SIZES | NR_FORBIDS,
     .large_bytes = NR_MIB, .name_it = nr_rows_name_plain},
    {.name = "mq pair", .scheme = "mq",
     .has = NR_PAIR | NR_OTHERS_NAMED | NR_BUFFERS | NR_FILLS | NR_SEND_FD | NR_TYPES | NR_DIES |
            NR_ENDS | NR_TELLS_SENDER,
     .large_bytes = NR_MIB, .name_it = nr_rows_name_pair},
    {.name = "sysv", .scheme = "sysv", .has = NR_ROWS_QUEUE | NR_FORBIDS | NR_GONE_WITH_NAME, .large_bytes = NR_MIB,
     .name_it = nr_rows_name_key},
    {.name = "unix", .scheme = "unix", .has = NR_ROWS_SOCKET | NR_ROWS_LISTEN | NR_PATH | NR_FORBIDS | NR_FDS,
     .large_bytes = NR_MIB, .name_it = nr_rows_name_path},
    {.name = "unix pair", .scheme = "unix", .has = NR_ROWS_SOCKET | NR_PAIR | NR_OTHERS_NAMED | NR_FDS,
     .large_bytes = NR_MIB, .name_it = nr_rows_name_pair},
    {.name = "abstract", .scheme = "abstract", .has = NR_ROWS_SOCKET | NR_ROWS_LISTEN | NR_FDS,
     .large_bytes = NR_MIB, .name_it = nr_rows_name_plain},
    {.name = "tcp", .scheme = "tcp", .has = (NR_ROWS_SOCKET | NR_ROWS_LISTEN) & ~NR_BUFFERS,
     .large_bytes = NR_MIB, .name_it = nr_rows_name_port},
    {.name = "tcp unacknowledged", .scheme = "tcp", .has = NR_ROWS_SOCKET | NR_ROWS_LISTEN,
     .large_bytes = NR_MIB, .options = {.acknowledge = NARU_UNACKNOWLEDGED},
     .name_it = nr_rows_name_port},
    {.name = "signal", .scheme = "signal",
     .has = NR_BUFFERS | NR_MANY_SENDERS | NR_EIGHT | NR_TELLS_SENDER, .large_bytes = 8,
     .name_it = nr_rows_name_process},
    {.name = "file", .scheme = "file",
     .has = NR_BUFFERS | NR_LASTS | NR_NAMED | NR_PATH | NR_MANY_SENDERS | NR_MANY_RECEIVERS |
            NR_SENDER_FIRST | NR_OBJECT | NR_BOTH | NR_TYPES | NR_FORBIDS | NR_SEND_FD,
     .large_bytes = NR_MIB, .name_it = nr_rows_name_path},
    {.name = "file at least once", .scheme = "file",
     .has = NR_BUFFERS | NR_LASTS | NR_NAMED | NR_PATH | NR_MANY_SENDERS | NR_SENDER_FIRST |
            NR_OBJECT | NR_BOTH | NR_ONE_RECEIVER | NR_TYPES | NR_FORBIDS | NR_SEND_FD,
     .large_bytes = NR_MIB, .options = {.delivery = NARU_AT_LEAST_ONCE},
     .name_it = nr_rows_name_path},
    {.name = "shm at most once", .scheme = "shm",
     .has = NR_SEND_FD | NR_BUFFERS | NR_FILLS | NR_LASTS | NR_NAMED | NR_PATH | NR_MANY_SENDERS |
            NR_MANY_RECEIVERS | NR_SENDER_FIRST | NR_OBJECT | NR_BOTH | NR_TYPES | NR_FORBIDS,
     .large_bytes = 65536, .options = {.delivery = NARU_AT_MOST_ONCE},
     .name_it = nr_rows_name_path},
    {.name = "shm", .scheme = "shm",
     .has = NR_SEND_FD | NR_BUFFERS | NR_FILLS | NR_LASTS | NR_NAMED | NR_PATH | NR_MANY_SENDERS |
            NR_MANY_RECEIVERS | NR_SENDER_FIRST | NR_OBJECT | NR_BOTH | NR_TYPES | NR_SIZES |
            NR_GIVES_BACK | NR_FORBIDS,
     .large_bytes = NR_MIB, .options = {.message_size_max_bytes = NR_MIB},
     .name_it = nr_rows_name_path},
    {.name = "shm one to one", .scheme = "shm",
     .has = NR_SEND_FD | NR_ONE_TO_ONE | NR_ONE_RECEIVER | NR_BUFFERS | NR_FILLS | NR_LASTS | NR_NAMED | NR_SENDER_FIRST | NR_OBJECT | NR_TYPES |
            NR_SIZES | NR_ONE_IN_HAND | NR_ENDS | NR_DIES,
     .large_bytes = NR_MIB, .options = {.message_size_max_bytes = NR_MIB, .one_to_one = 1},
     .name_it = nr_rows_name_plain},
    {.name = "shm topic", .scheme = "shm",
     .has = NR_ROWS_TOPIC | NR_FILLS | NR_SEND_FD, .large_bytes = 65536,
     .options = {.pattern = NARU_TOPIC, .start = NARU_FROM_OLDEST}, .name_it = nr_rows_name_path},
    {.name = "shm topic overwriting", .scheme = "shm",
     .has = NR_ROWS_TOPIC | NR_OVERWRITES | NR_SEND_FD, .large_bytes = 65536,
     .options = {.pattern = NARU_TOPIC, .start = NARU_FROM_OLDEST,
                 .when_full = NARU_OVERWRITE_OLDEST},
     .name_it = nr_rows_name_path},
    {.name = "shm cell", .scheme = "shm",
     .has = NR_SEND_FD | NR_NEWEST | NR_NAMED | NR_PATH | NR_SENDER_FIRST | NR_OBJECT | NR_BOTH | NR_TYPES |
            NR_SIZES | NR_FORBIDS | NR_LASTS | NR_MANY_RECEIVERS,
     .large_bytes = 65536, .options = {.pattern = NARU_CELL}, .name_it = nr_rows_name_path},
    {.name = "shm pair", .scheme = "shm",
     .has = NR_SEND_FD | NR_PAIR | NR_OTHERS_NAMED | NR_ONE_TO_ONE | NR_ONE_IN_HAND | NR_BUFFERS | NR_FILLS |
            NR_TYPES | NR_ENDS | NR_DIES | NR_TELLS_SENDER,
     .large_bytes = NR_MIB, .options = {.message_size_max_bytes = NR_MIB},
     .name_it = nr_rows_name_pair},
    {.name = "shm call", .scheme = "shm",
     .has = NR_SEND_FD | NR_CALLS | NR_NAMED | NR_PATH | NR_MANY_SENDERS | NR_MANY_RECEIVERS | NR_SENDER_FIRST | NR_OBJECT |
            NR_BOTH | NR_SIZES | NR_FORBIDS,
     .large_bytes = 200000,
     .options = {.pattern = NARU_CALL, .message_size_max_bytes = 200000},
     .name_it = nr_rows_name_path},
    {.name = "shm call at most once", .scheme = "shm",
     .has = NR_SEND_FD | NR_CALLS | NR_NAMED | NR_PATH | NR_MANY_SENDERS | NR_MANY_RECEIVERS | NR_SENDER_FIRST | NR_OBJECT |
            NR_BOTH | NR_FORBIDS,
     .large_bytes = 65536, .options = {.pattern = NARU_CALL, .delivery = NARU_AT_MOST_ONCE},
     .name_it = nr_rows_name_path},
};
/* clang-format on */
const size_t nr_rows_count = sizeof nr_rows / sizeof nr_rows[0];

/* -- names that a killed test left behind ---------------------------------------------------- */

enum { NR_ROWS_NAMES = 64 };

static struct {
    int count;
    char uri[NR_ROWS_NAMES][256];
} * nr_rows_names;

void nr_rows_begin(void)
{
    nr_rows_names = nr_kit_shared(sizeof *nr_rows_names);
}

static void nr_rows_note(const struct nr_channel *channel)
{
    if (!nr_rows_names || !(channel->row->has & NR_NAMED))
        return;
    int place = nr_kit_add(&nr_rows_names->count, 1) - 1;
    nr_check(place < NR_ROWS_NAMES, "a test makes too many names");
    memcpy(nr_rows_names->uri[place], channel->uri, sizeof channel->uri);
}

void nr_rows_remove_names(void)
{
    for (int i = 0; i < nr_rows_names->count; i++)
        naru_unlink(nr_rows_names->uri[i]);
    nr_rows_names->count = 0;
}

/* -- a channel of one ---------------------------------------------------------------------- */

void nr_channel_init(struct nr_channel *channel, const struct nr_row *row)
{
    *channel = (struct nr_channel){
        .row = row,
        .options = row->options,
        .pipe_fds = {-1, -1},
        .shared = nr_kit_shared(sizeof(struct nr_channel_shared)),
    };
    channel->options.size_bytes = sizeof channel->options;
    row->name_it(channel);
    nr_rows_note(channel);
}

int nr_channel_try(struct nr_channel *channel, enum naru_role role,
                   const struct naru_options *options, struct naru_endpoint **ret)
{
    if (!options)
        options = &channel->options;
    if (channel->row->has & NR_PAIR) {
        struct naru_endpoint *ends[2];
        int result = naru_pair(ends, channel->uri, options);
        if (result < 0)
            return result;
        naru_close(ends[role != NARU_SENDER]);
        *ret = ends[role == NARU_SENDER];
        return 0;
    }
    if (role == NARU_SENDER && strcmp(channel->row->scheme, "signal") == 0) {
        nr_kit_await(&channel->shared->receivers_ready, 1);
        snprintf(channel->sender_uri, sizeof channel->sender_uri, "signal://%d",
                 nr_kit_get(&channel->shared->receiver_pid));
    }
    const char *uri =
        role == NARU_SENDER && channel->sender_uri[0] ? channel->sender_uri : channel->uri;
    return naru_open(ret, uri, role, options);
}

static void nr_channel_pair(struct nr_channel *channel)
{
    if (!channel->end[0] && !channel->end[1])
        nr_check_ok(naru_pair(channel->end, channel->uri, &channel->options));
}

struct naru_endpoint *nr_channel_open(struct nr_channel *channel, enum naru_role role)
{
    int end = role == NARU_SENDER ? NR_SENDER_END : NR_RECEIVER_END;
    struct nr_channel_shared *shared = channel->shared;

    if (channel->row->has & NR_PAIR)
        nr_channel_pair(channel);
    else if (!channel->end[end])
        nr_check_ok(nr_channel_try(channel, role, NULL, &channel->end[end]));
    if (role == NARU_SENDER) {
        nr_kit_add(&shared->senders_ready, 1);
    } else {
        nr_kit_set(&shared->receiver_pid, getpid());
        nr_kit_add(&shared->receivers_ready, 1);
    }
    return channel->end[end];
}

void nr_channel_let_go(struct nr_channel *channel)
{
    for (int i = 0; i < 2; i++) {
        if (channel->pipe_fds[i] >= 0)
            close(channel->pipe_fds[i]);
        channel->pipe_fds[i] = -1;
    }
}

void nr_channel_open_both(struct nr_channel *channel)
{
    nr_channel_open(channel, NARU_RECEIVER);
    nr_channel_open(channel, NARU_SENDER);
    nr_channel_let_go(channel);
}

pid_t nr_channel_spawn(struct nr_channel *channel, enum naru_role role, nr_channel_body *body,
                       int number)
{
    int end = role == NARU_SENDER ? NR_SENDER_END : NR_RECEIVER_END;
    bool is_pair = channel->row->has & NR_PAIR;

    if (is_pair)
        nr_channel_pair(channel);
    pid_t pid = nr_kit_fork();
    if (pid > 0) {
        if (is_pair)
            nr_check_ok(naru_pair_assign(channel->end[end], pid));
        return pid;
    }
    if (is_pair) {
        nr_check_ok(naru_pair_assign(channel->end[end], getpid()));
        nr_channel_close_end(channel, !end);
    } else {
        nr_channel_close_end(channel, NR_RECEIVER_END); /* inherited: not this process's */
        nr_channel_close_end(channel, NR_SENDER_END);
    }
    struct naru_endpoint *endpoint = nr_channel_open(channel, role);
    nr_channel_let_go(channel);
    body(channel, endpoint, number);
    nr_channel_close(channel);
    exit(0);
}

void nr_channel_close_end(struct nr_channel *channel, int end)
{
    naru_close(channel->end[end]);
    channel->end[end] = NULL;
}

void nr_channel_close(struct nr_channel *channel)
{
    nr_channel_close_end(channel, NR_SENDER_END);
    nr_channel_close_end(channel, NR_RECEIVER_END);
}

void nr_channel_deinit(struct nr_channel *channel)
{
    nr_channel_close(channel);
    nr_channel_let_go(channel);
    if (channel->row->has & NR_NAMED)
        naru_unlink(channel->uri);
}

size_t nr_channel_largest(struct nr_channel *channel, struct naru_endpoint *endpoint)
{
    struct naru_stat stat = {.size_bytes = sizeof stat};

    nr_check_ok(naru_stat(endpoint, &stat));
    nr_check(stat.message_size_max_bytes > 0, "the largest message is not told");
    return stat.message_size_max_bytes < channel->row->large_bytes ? stat.message_size_max_bytes
                                                                   : channel->row->large_bytes;
}
