/* SPDX-License-Identifier: MIT */
/*
 * gather_signal -- parts as signals with a value
 *
 * What       A part has 128 bits and a signal carries 64: each worker sends three, each with 48 bits of
 *            the part, the worker's index and which third it is. Thirds may come in any order.
 * Signals    The parent blocks the signal before it forks, so that none can kill it or a worker. What
 *            is still pending at the end is thrown away before anything unblocks it.
 */
#include "gather.h"
#include "stop.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { NR_THIRDS = 3, NR_THIRD_BITS = 48 };
#define NR_THIRD_MASK (((uint64_t)1 << NR_THIRD_BITS) - 1)

struct nr_gather_signals {
    struct naru_endpoint *receiver;
    char uri[32];
    uint8_t thirds[NR_GATHER_WORKERS_MAX]; /* bit n: third n is there */
    unsigned __int128 parts[NR_GATHER_WORKERS_MAX];
};

static int nr_gather_signals_open(struct nr_gather *gather)
{
    struct naru_options options = {.size_bytes = sizeof options, .signal_number = SIGRTMIN + 1};
    struct nr_gather_signals *signals = calloc(1, sizeof *signals);
    sigset_t only;

    gather->state = signals;
    if (!signals)
        return nr_gather_fail(gather, "there is no memory for the parts");
    snprintf(signals->uri, sizeof signals->uri, "signal://%d", (int)getpid());
    sigemptyset(&only);
    sigaddset(&only, SIGRTMIN + 1);
    sigprocmask(SIG_BLOCK, &only, NULL);
    int result = naru_open(&signals->receiver, "signal://self", NARU_RECEIVER, &options);
    return result < 0 ? nr_gather_fail_naru(gather, "receive signals", result) : 0;
}

/* The kernel queues a limited number of signals for a user: while there is no room, wait and try again. */
static int nr_gather_signals_send(struct naru_endpoint *endpoint, uint64_t value)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    int result;

    while ((result = naru_send(endpoint, &value, sizeof value, NARU_FOREVER)) == -EAGAIN)
        nanosleep(&pause, NULL);
    return result;
}

static int nr_gather_signals_work(struct nr_gather *gather, unsigned index)
{
    struct naru_options options = {.size_bytes = sizeof options, .signal_number = SIGRTMIN + 1};
    struct nr_gather_signals *signals = gather->state;
    struct naru_endpoint *endpoint;

    naru_close(signals->receiver);
    if (naru_open(&endpoint, signals->uri, NARU_SENDER, &options) < 0)
        return nr_gather_complain(index, "reach its parent by signal");
    unsigned __int128 total = (unsigned __int128)nr_share_add(nr_gather_share(gather, index));
    for (unsigned third = 0; third < NR_THIRDS; third++) {
        uint64_t value = (uint64_t)index << 56 | (uint64_t)third << NR_THIRD_BITS |
                         ((uint64_t)(total >> (third * NR_THIRD_BITS)) & NR_THIRD_MASK);

        if (nr_gather_signals_send(endpoint, value) < 0)
            return nr_gather_complain(index, "send its part");
    }
    naru_close(endpoint);
    return 0;
}

static int nr_gather_signals_accept(struct nr_gather *gather, uint64_t value)
{
    struct nr_gather_signals *signals = gather->state;
    unsigned index = (unsigned)(value >> 56);
    unsigned third = (unsigned)(value >> NR_THIRD_BITS) & 0xFF;

    if (index >= gather->request->workers_count || third >= NR_THIRDS ||
        (signals->thirds[index] & 1u << third))
        return nr_gather_fail(gather, "a signal came that no worker has sent");
    signals->thirds[index] |= (uint8_t)(1u << third);
    signals->parts[index] |= (unsigned __int128)(value & NR_THIRD_MASK) << (third * NR_THIRD_BITS);
    if (signals->thirds[index] != (1u << NR_THIRDS) - 1)
        return 0;
    return nr_gather_add(gather, index, (__int128)signals->parts[index]);
}

static int nr_gather_signals_collect(struct nr_gather *gather)
{
    struct nr_gather_signals *signals = gather->state;

    nr_stop_watch(signals->receiver);
    while (gather->missing_count) {
        uint64_t value;

        if (nr_gather_check(gather) < 0)
            return -1;
        /* A signal is pending the moment it was sent: when all have ended there is nothing to wait for. */
        bool all_ended = gather->crew.alive_count == 0;
        int result =
            naru_recv(signals->receiver, &value, sizeof value, NULL, all_ended ? 0 : NARU_FOREVER);
        if (result == -EINTR)
            continue;
        if (result == -EAGAIN && all_ended)
            return nr_gather_fail(gather, "all workers have ended, and %u parts never came",
                                  gather->missing_count);
        if (result < 0)
            return nr_gather_fail_naru(gather, "receive the parts", result);
        if (nr_gather_signals_accept(gather, value) < 0)
            return -1;
    }
    return 0;
}

static void nr_gather_signals_close(struct nr_gather *gather)
{
    struct nr_gather_signals *signals = gather->state;

    if (!signals)
        return;
    naru_close(signals->receiver);
    /* Ignoring it discards what is pending. It stays blocked. */
    signal(SIGRTMIN + 1, SIG_IGN);
    signal(SIGRTMIN + 1, SIG_DFL);
    free(signals);
    gather->state = NULL;
}

const struct nr_gather_way nr_gather_signal = {
    .name = "signal",
    .scheme = "signal",
    .open = nr_gather_signals_open,
    .work = nr_gather_signals_work,
    .collect = nr_gather_signals_collect,
    .close = nr_gather_signals_close,
};
