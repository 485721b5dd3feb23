/* SPDX-License-Identifier: MIT */
/*
 * gather_channel -- parts as messages: file, pipe, fifo, mq, sysv, shm, unix, tcp
 *
 * What       A named channel has one receiver, the parent, opened before the forks. Each worker opens
 *            it, says that it is there, adds, and sends its part. A pipe has no name: a pair for each
 *            worker, made just before its fork.
 * Death      When all workers are there the name has done its duty and is removed, so that whatever
 *            happens while they add, nothing is left behind.
 */
#include "gather.h"
#include "output.h"
#include "stop.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum nr_part_kind { NR_PART_READY = 1, NR_PART_TOTAL = 2 };

struct nr_part {
    uint32_t kind;
    uint32_t worker;
    uint64_t low;
    int64_t high;
};

struct nr_gather_channel {
    char uri[NR_SCRATCH_URI_BYTES];
    unsigned ready_count;
    struct naru_endpoint *receiver; /* of the named channel */
    /* Or: [0] the parent's end, [1] the worker's. */
    struct naru_endpoint *pairs[NR_GATHER_WORKERS_MAX][2];
};

enum { NR_GATHER_PORT_TRIES = 20 };
/* A worker that has ended has sent: what it sent can only be under way. */
#define NR_GATHER_LAST_WAIT_NS (5 * NARU_SECOND)

static int nr_gather_channel_init(struct nr_gather *gather)
{
    gather->state = calloc(1, sizeof(struct nr_gather_channel));
    return gather->state ? 0 : nr_gather_fail(gather, "there is no memory for the channel");
}

static struct naru_options nr_gather_channel_options(const struct nr_gather *gather,
                                                     enum naru_create create)
{
    const char *scheme = gather->way->scheme;
    struct naru_options options = {.size_bytes = sizeof options, .create = create};

    if (create == NARU_ATTACH)
        return options;
    if (strcmp(scheme, "mq") == 0 || strcmp(scheme, "shm") == 0)
        options.message_size_max_bytes = sizeof(struct nr_part);
    if (strcmp(scheme, "shm") == 0 || strcmp(scheme, "file") == 0)
        options.participants_max = gather->request->workers_count + 2;
    return options;
}

static int nr_gather_channel_open(struct nr_gather *gather)
{
    if (nr_gather_channel_init(gather) < 0)
        return -1;
    struct nr_gather_channel *channel = gather->state;
    struct naru_options options = nr_gather_channel_options(gather, NARU_CREATE);
    int result = 0;

    /* Again when another program was quicker to take the port, or has that key. */
    for (int try = 0; try < NR_GATHER_PORT_TRIES; try++) {
        result = nr_scratch_name(&gather->scratch, gather->way->scheme, "parts", channel->uri);
        if (result < 0)
            return nr_gather_fail(gather, "cannot make a name for the channel: %s",
                                  strerror(-result));
        result = naru_open(&channel->receiver, channel->uri, NARU_RECEIVER, &options);
        if (result != -EADDRINUSE && result != -EEXIST)
            break;
        nr_scratch_forget(&gather->scratch);
    }
    return result < 0 ? nr_gather_fail_naru(gather, "open the channel", result) : 0;
}

/* Two pipes a worker and what watches it: 256 workers need more than the usual 1,024 descriptors. */
static int nr_gather_pipe_open(struct nr_gather *gather)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    return nr_gather_channel_init(gather);
}

static int nr_gather_pipe_before_fork(struct nr_gather *gather, unsigned index)
{
    struct nr_gather_channel *channel = gather->state;
    int result = naru_pair(channel->pairs[index], "pipe://", NULL);

    return result < 0 ? nr_gather_fail_naru(gather, "make a pipe", result) : 0;
}

static int nr_gather_pipe_after_fork(struct nr_gather *gather, unsigned index, pid_t pid)
{
    struct nr_gather_channel *channel = gather->state;
    int result = naru_pair_assign(channel->pairs[index][1], pid);

    /* A worker that is already gone is found by its exit code. */
    return result < 0 && result != -ESRCH ? nr_gather_fail_naru(gather, "hand over a pipe", result)
                                          : 0;
}

static int nr_gather_channel_send(struct naru_endpoint *endpoint, unsigned index,
                                  enum nr_part_kind kind, __int128 total)
{
    struct nr_part part = {
        .kind = kind,
        .worker = index,
        .low = (uint64_t)total,
        .high = (int64_t)(total >> 64),
    };

    return naru_send(endpoint, &part, sizeof part, NARU_FOREVER);
}

static int nr_gather_channel_work(struct nr_gather *gather, unsigned index)
{
    struct nr_gather_channel *channel = gather->state;
    struct naru_options options = nr_gather_channel_options(gather, NARU_ATTACH);
    struct naru_endpoint *endpoint;

    naru_close(channel->receiver);
    if (naru_open(&endpoint, channel->uri, NARU_SENDER, &options) < 0)
        return nr_gather_complain(index, "open the channel");
    if (nr_gather_channel_send(endpoint, index, NR_PART_READY, 0) < 0)
        return nr_gather_complain(index, "say that it is there");
    __int128 total = nr_share_add(nr_gather_share(gather, index));
    if (nr_gather_channel_send(endpoint, index, NR_PART_TOTAL, total) < 0)
        return nr_gather_complain(index, "send its part");
    naru_close(endpoint);
    return 0;
}

static int nr_gather_pipe_work(struct nr_gather *gather, unsigned index)
{
    struct nr_gather_channel *channel = gather->state;
    struct naru_endpoint *endpoint = channel->pairs[index][1];

    if (naru_pair_assign(endpoint, getpid()) < 0)
        return nr_gather_complain(index, "take over its pipe");
    for (unsigned i = 0; i <= index; i++) {
        naru_close(channel->pairs[i][0]);
        if (i < index)
            naru_close(channel->pairs[i][1]);
    }
    __int128 total = nr_share_add(nr_gather_share(gather, index));
    if (nr_gather_channel_send(endpoint, index, NR_PART_TOTAL, total) < 0)
        return nr_gather_complain(index, "send its part");
    naru_close(endpoint);
    return 0;
}

static int nr_gather_channel_accept(struct nr_gather *gather, const struct naru_message *message)
{
    struct nr_gather_channel *channel = gather->state;
    const struct nr_part *part = message->data;
    bool is_ours = message->size_bytes == sizeof *part &&
                   part->worker < gather->request->workers_count &&
                   (part->kind == NR_PART_READY || part->kind == NR_PART_TOTAL);

    if (is_ours && (message->known & NARU_KNOWS_SENDER_PID) && message->sender_pid)
        is_ours = message->sender_pid == gather->crew.members[part->worker].pid;
    if (!is_ours)
        return nr_gather_fail(gather, "a message came that no worker has sent");
    if (part->kind == NR_PART_READY) {
        if (++channel->ready_count == gather->request->workers_count)
            nr_scratch_unlink(&gather->scratch);
        return 0;
    }
    return nr_gather_add(gather, part->worker,
                         (__int128)((unsigned __int128)part->high << 64 | part->low));
}

/* The endpoint to wait at: the only one, or that of the first worker whose part is missing. */
static struct naru_endpoint *nr_gather_channel_next(struct nr_gather *gather)
{
    struct nr_gather_channel *channel = gather->state;
    unsigned first = 0;

    if (channel->receiver)
        return channel->receiver;
    while (gather->has_part[first])
        first++;
    return channel->pairs[first][0];
}

/* What is left of the last wait; NARU_FOREVER while a worker may still send. */
static int64_t nr_gather_channel_patience_ns(const struct nr_gather *gather, int64_t *end_ns)
{
    if (gather->crew.alive_count)
        return NARU_FOREVER;
    int64_t now_ns = nr_output_now_ns();
    if (!*end_ns)
        *end_ns = now_ns + NR_GATHER_LAST_WAIT_NS;
    return *end_ns > now_ns ? *end_ns - now_ns : 0;
}

static int nr_gather_channel_collect(struct nr_gather *gather)
{
    int64_t end_ns = 0;

    while (gather->missing_count) {
        struct nr_part part;
        struct naru_message message = {.data = &part, .capacity_bytes = sizeof part};
        struct naru_endpoint *endpoint = nr_gather_channel_next(gather);

        nr_stop_watch(endpoint);
        if (nr_gather_check(gather) < 0)
            return -1;
        int64_t patience_ns = nr_gather_channel_patience_ns(gather, &end_ns);
        int result = naru_recv_many(endpoint, &message, 1, patience_ns);
        if (result > 0 && nr_gather_channel_accept(gather, &message) < 0)
            return -1;
        if (result > 0 || result == -EINTR)
            continue;
        /* The end of one sender, seen by its channel: the others go on, or are yet to be met. */
        nr_crew_reap(&gather->crew);
        if (patience_ns != 0 && (result == -EPIPE || result == -EOWNERDEAD))
            continue;
        if (nr_gather_check(gather) < 0)
            return -1;
        if (patience_ns != NARU_FOREVER)
            return nr_gather_fail(gather, "all workers have ended, and %u parts never came: %s",
                                  gather->missing_count, naru_error_text());
        return nr_gather_fail_naru(gather, "receive the parts", result);
    }
    return 0;
}

static void nr_gather_channel_close(struct nr_gather *gather)
{
    struct nr_gather_channel *channel = gather->state;

    if (!channel)
        return;
    naru_close(channel->receiver);
    for (unsigned i = 0; i < NR_GATHER_WORKERS_MAX; i++) {
        naru_close(channel->pairs[i][0]);
        naru_close(channel->pairs[i][1]);
    }
    free(channel);
    gather->state = NULL;
}

#define NR_GATHER_NAMED(scheme_)                                                                   \
    const struct nr_gather_way nr_gather_##scheme_ = {                                             \
        .name = #scheme_,                                                                          \
        .scheme = #scheme_,                                                                        \
        .open = nr_gather_channel_open,                                                            \
        .work = nr_gather_channel_work,                                                            \
        .collect = nr_gather_channel_collect,                                                      \
        .close = nr_gather_channel_close,                                                          \
    }

NR_GATHER_NAMED(file);
NR_GATHER_NAMED(fifo);
NR_GATHER_NAMED(mq);
NR_GATHER_NAMED(sysv);
NR_GATHER_NAMED(shm);
NR_GATHER_NAMED(unix);
NR_GATHER_NAMED(abstract);
NR_GATHER_NAMED(tcp);

const struct nr_gather_way nr_gather_pipe = {
    .name = "pipe",
    .open = nr_gather_pipe_open,
    .before_fork = nr_gather_pipe_before_fork,
    .after_fork = nr_gather_pipe_after_fork,
    .work = nr_gather_pipe_work,
    .collect = nr_gather_channel_collect,
    .close = nr_gather_channel_close,
};
