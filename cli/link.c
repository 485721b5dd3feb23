/* SPDX-License-Identifier: MIT */
#include "link.h"
#include "stop.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct nr_link_way {
    int (*open)(struct nr_link *link);
    int (*join)(struct nr_link *link, pid_t other_pid);
    int (*send)(struct nr_link *link, const void *data);
    int (*recv)(struct nr_link *link, void *data, size_t *ret_size_bytes);
};

/* ---- two named channels ---- */

#define NR_LINK_PEER_TIMEOUT_NS (5 * NARU_SECOND)

static int nr_link_open_end(struct nr_link *link, struct naru_endpoint **ret, int direction,
                            enum naru_role role)
{
    struct naru_options options = {
        .size_bytes = sizeof options,
        .peer_timeout_ns = NR_LINK_PEER_TIMEOUT_NS,
    };

    if (strcmp(link->scheme, "mq") == 0 || strcmp(link->scheme, "shm") == 0)
        options.message_size_max_bytes = NR_LINK_MESSAGE_BYTES;
    return naru_open(ret, link->names[direction], role, &options);
}

static int nr_link_open_named(struct nr_link *link)
{
    static const char *const purposes[2] = {"there", "back"};

    for (int i = 0; i < 2; i++) {
        int result = nr_scratch_name(&link->scratch, link->scheme, purposes[i], link->names[i]);
        if (result < 0)
            return result;
    }
    memcpy(link->uri, link->names[0], sizeof link->uri);
    return nr_link_open_end(link, &link->in, 1, NARU_RECEIVER);
}

/* Each opens its receiving side first: a FIFO's sender waits for that. */
static int nr_link_join_named(struct nr_link *link, pid_t other_pid)
{
    (void)other_pid;
    if (!link->is_child)
        return nr_link_open_end(link, &link->out, 0, NARU_SENDER);
    naru_close(link->in);
    link->in = NULL;
    int result = nr_link_open_end(link, &link->in, 0, NARU_RECEIVER);
    return result < 0 ? result : nr_link_open_end(link, &link->out, 1, NARU_SENDER);
}

static int nr_link_send_channel(struct nr_link *link, const void *data)
{
    return naru_send(link->out, data, link->message_bytes, NARU_FOREVER);
}

static int nr_link_recv_channel(struct nr_link *link, void *data, size_t *ret_size_bytes)
{
    return naru_recv(link->in, data, link->message_bytes, ret_size_bytes, NARU_FOREVER);
}

static const struct nr_link_way nr_link_named = {
    .open = nr_link_open_named,
    .join = nr_link_join_named,
    .send = nr_link_send_channel,
    .recv = nr_link_recv_channel,
};

/* ---- a pair ---- */

static int nr_link_open_pair(struct nr_link *link)
{
    snprintf(link->uri, sizeof link->uri, "%s://", link->scheme);
    return naru_pair(link->pair, link->uri, NULL);
}

static int nr_link_join_pair(struct nr_link *link, pid_t other_pid)
{
    pid_t child_pid = link->is_child ? getpid() : other_pid;

    link->in = link->out = link->pair[link->is_child];
    return naru_pair_assign(link->pair[1], child_pid);
}

static const struct nr_link_way nr_link_pair = {
    .open = nr_link_open_pair,
    .join = nr_link_join_pair,
    .send = nr_link_send_channel,
    .recv = nr_link_recv_channel,
};

/* ---- signals ---- */

static int nr_link_receive_signals(struct nr_link *link)
{
    struct naru_options options = {.size_bytes = sizeof options, .signal_number = SIGRTMIN + 1};

    return naru_open(&link->in, "signal://self", NARU_RECEIVER, &options);
}

static int nr_link_open_signal(struct nr_link *link)
{
    sigset_t only;

    /* Blocked before the fork, it is blocked in the child from its first instruction. */
    sigemptyset(&only);
    sigaddset(&only, SIGRTMIN + 1);
    sigprocmask(SIG_BLOCK, &only, NULL);
    snprintf(link->uri, sizeof link->uri, "signal://%d", (int)link->parent_pid);
    link->message_bytes = sizeof(uint64_t);
    return nr_link_receive_signals(link);
}

static int nr_link_join_signal(struct nr_link *link, pid_t other_pid)
{
    struct naru_options options = {.size_bytes = sizeof options, .signal_number = SIGRTMIN + 1};
    char uri[32];

    if (link->is_child) {
        naru_close(link->in);
        link->in = NULL;
        int result = nr_link_receive_signals(link);
        if (result < 0)
            return result;
    }
    snprintf(uri, sizeof uri, "signal://%d", (int)other_pid);
    return naru_open(&link->out, uri, NARU_SENDER, &options);
}

static const struct nr_link_way nr_link_signal = {
    .open = nr_link_open_signal,
    .join = nr_link_join_signal,
    .send = nr_link_send_channel,
    .recv = nr_link_recv_channel,
};

/* ---- semaphores over plain shared memory ---- */

/* A semaphore's wait is not ended by a signal: look up so often. */
#define NR_LINK_LOOK_UP_NS (100 * NARU_MILLISECOND)

static int nr_link_open_semaphore(struct nr_link *link)
{
    snprintf(link->uri, sizeof link->uri, "shm://");
    int result = naru_shm_open(&link->segment, link->uri, 2 * sizeof(struct nr_link_lane), NULL);
    if (result < 0)
        return result;
    for (int i = 0; i < 2 && result >= 0; i++) {
        struct nr_link_lane_end *end = &link->lanes[i];

        end->lane = (struct nr_link_lane *)naru_shm_data(link->segment) + i;
        if ((result = naru_semaphore_init(&end->lane->full, 0)) >= 0 &&
            (result = naru_semaphore_init(&end->lane->empty, NR_LINK_SLOTS)) >= 0 &&
            (result = naru_semaphore_attach(&end->full, &end->lane->full)) >= 0)
            result = naru_semaphore_attach(&end->empty, &end->lane->empty);
    }
    return result;
}

/* The mapping and the handles are inherited. */
static int nr_link_join_semaphore(struct nr_link *link, pid_t other_pid)
{
    (void)link;
    (void)other_pid;
    return 0;
}

static int nr_link_send_semaphore(struct nr_link *link, const void *data)
{
    struct nr_link_lane_end *end = &link->lanes[link->is_child];
    int result = naru_semaphore_wait(end->empty, NR_LINK_LOOK_UP_NS);

    if (result < 0)
        return result;
    memcpy(end->lane->slots[end->next++ % NR_LINK_SLOTS], data, link->message_bytes);
    return naru_semaphore_post(end->full);
}

static int nr_link_recv_semaphore(struct nr_link *link, void *data, size_t *ret_size_bytes)
{
    struct nr_link_lane_end *end = &link->lanes[!link->is_child];
    int result = naru_semaphore_wait(end->full, NR_LINK_LOOK_UP_NS);

    if (result < 0)
        return result;
    memcpy(data, end->lane->slots[end->next++ % NR_LINK_SLOTS], link->message_bytes);
    *ret_size_bytes = link->message_bytes;
    return naru_semaphore_post(end->empty);
}

static const struct nr_link_way nr_link_semaphore = {
    .open = nr_link_open_semaphore,
    .join = nr_link_join_semaphore,
    .send = nr_link_send_semaphore,
    .recv = nr_link_recv_semaphore,
};

/* ---- the link ---- */

int nr_link_open(struct nr_link *link, const char *scheme)
{
    *link = (struct nr_link){
        .scheme = scheme,
        .message_bytes = NR_LINK_MESSAGE_BYTES,
        .parent_pid = getpid(),
        .way = &nr_link_named,
    };
    nr_scratch_init(&link->scratch);
    if (strcmp(scheme, "pipe") == 0)
        link->way = &nr_link_pair;
    else if (strcmp(scheme, "signal") == 0)
        link->way = &nr_link_signal;
    else if (strcmp(scheme, "semaphore") == 0)
        link->way = &nr_link_semaphore;
    return link->way->open(link);
}

int nr_link_join_child(struct nr_link *link)
{
    link->is_child = true;
    return link->way->join(link, link->parent_pid);
}

int nr_link_join_parent(struct nr_link *link, pid_t child_pid)
{
    int result = link->way->join(link, child_pid);

    if (result >= 0)
        nr_stop_watch(link->in);
    return result;
}

int nr_link_send(struct nr_link *link, const void *data)
{
    return link->way->send(link, data);
}

int nr_link_recv(struct nr_link *link, void *data, size_t *ret_size_bytes)
{
    return link->way->recv(link, data, ret_size_bytes);
}

void nr_link_unlink(struct nr_link *link)
{
    nr_scratch_unlink(&link->scratch);
}

void nr_link_close(struct nr_link *link)
{
    nr_stop_watch(NULL);
    if (link->pair[0]) {
        naru_close(link->pair[0]);
        naru_close(link->pair[1]);
    } else {
        naru_close(link->in);
        naru_close(link->out);
    }
    link->in = link->out = link->pair[0] = link->pair[1] = NULL;
    for (int i = 0; i < 2 && link->segment; i++) {
        naru_semaphore_close(link->lanes[i].full);
        naru_semaphore_close(link->lanes[i].empty);
    }
    if (link->segment)
        naru_shm_close(link->segment);
    link->segment = NULL;
    nr_scratch_deinit(&link->scratch);
}
