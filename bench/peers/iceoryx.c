/* SPDX-License-Identifier: MIT */
/*
 * iceoryx -- Eclipse iceoryx by its C binding; its daemon iox-roudi has to run
 *
 * The payload is copied into a loaned chunk and out of the taken one, as in the other rows. A sender waits for a slow
 * receiver. To spin is to take over and over, to block is to wait in a wait set.
 */
#include "peer.h"
#include <iceoryx_binding_c/log.h>
#include <iceoryx_binding_c/publisher.h>
#include <iceoryx_binding_c/runtime.h>
#include <iceoryx_binding_c/subscriber.h>
#include <iceoryx_binding_c/types.h>
#include <iceoryx_binding_c/wait_set.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    ICEORYX_CAPACITY = 256,
    ICEORYX_CAPACITY_LARGE =
        64, /* the daemon has 200 chunks of 128 KiB, unless it is told otherwise */
    ICEORYX_LARGE = 16384,
    ICEORYX_CONNECT_TRIES = 5000,
};

/* This process's. */
static iox_pub_storage_t iceoryx_pub_storage;
static iox_sub_storage_t iceoryx_sub_storage;
static iox_ws_storage_t iceoryx_ws_storage;
static iox_pub_t iceoryx_pub;
static iox_sub_t iceoryx_sub;
static iox_ws_t iceoryx_ws;

static void iceoryx_publish_on(const char *instance, const char *way)
{
    iox_pub_options_t options;

    iox_pub_options_init(&options);
    options.subscriberTooSlowPolicy = ConsumerTooSlowPolicy_WAIT_FOR_CONSUMER;
    iceoryx_pub = iox_pub_init(&iceoryx_pub_storage, "naru-peer", instance, way, &options);
}

static void iceoryx_subscribe_to(struct bench_link *link, const char *instance, const char *way)
{
    iox_sub_options_t options;

    iox_sub_options_init(&options);
    options.queueCapacity =
        link->size_bytes > ICEORYX_LARGE ? ICEORYX_CAPACITY_LARGE : ICEORYX_CAPACITY;
    options.queueFullPolicy = QueueFullPolicy_BLOCK_PRODUCER;
    iceoryx_sub = iox_sub_init(&iceoryx_sub_storage, "naru-peer", instance, way, &options);
    if (link->task->wait == BENCH_SPIN)
        return;
    iceoryx_ws = iox_ws_init(&iceoryx_ws_storage);
    iox_ws_attach_subscriber_state(iceoryx_ws, iceoryx_sub, SubscriberState_HAS_DATA, 0, NULL);
}

/* What is published before the other side has subscribed is lost. */
static void iceoryx_connect(struct bench_link *link)
{
    for (int tries = 0; tries < ICEORYX_CONNECT_TRIES; tries++) {
        if ((!iceoryx_pub || iox_pub_has_subscribers(iceoryx_pub)) &&
            (!iceoryx_sub ||
             iox_sub_get_subscription_state(iceoryx_sub) == SubscribeState_SUBSCRIBED))
            return;
        usleep(1000);
    }
    bench_die_text(link, "iceoryx", "the two sides do not find each other");
}

static void iceoryx_join(struct bench_link *link)
{
    char instance[BENCH_NAME_BYTES], name[BENCH_NAME_BYTES];
    bool serves = link->side == BENCH_SERVER;

    bench_peer_name(link, "", instance);
    snprintf(name, sizeof name, "naru-peer-process-%d", (int)getpid());
    iox_set_loglevel(Iceoryx_LogLevel_Off);
    iox_runtime_init(name);
    if (serves || !link->one_way)
        iceoryx_subscribe_to(link, instance, serves ? "there" : "back");
    if (!serves || !link->one_way)
        iceoryx_publish_on(instance, serves ? "back" : "there");
    iceoryx_connect(link);
}

static void iceoryx_send(struct bench_link *link, const void *data)
{
    void *chunk;

    while (iox_pub_loan_chunk(iceoryx_pub, &chunk, (uint32_t)link->size_bytes) !=
           AllocationResult_SUCCESS)
        bench_relax();
    memcpy(chunk, data, link->size_bytes);
    iox_pub_publish_chunk(iceoryx_pub, chunk);
}

static void iceoryx_recv(struct bench_link *link, void *room)
{
    iox_notification_info_t information;
    uint64_t missed;
    const void *chunk;

    while (iox_sub_take_chunk(iceoryx_sub, &chunk) != ChunkReceiveResult_SUCCESS)
        if (iceoryx_ws)
            iox_ws_wait(iceoryx_ws, &information, 1, &missed);
        else
            bench_relax();
    memcpy(room, chunk, link->size_bytes);
    iox_sub_release_chunk(iceoryx_sub, chunk);
}

BENCH_RUNS(iceoryx, iceoryx_send, iceoryx_recv)

static void iceoryx_leave(struct bench_link *link)
{
    (void)link;
    if (iceoryx_ws) {
        iox_ws_detach_subscriber_state(iceoryx_ws, iceoryx_sub, SubscriberState_HAS_DATA);
        iox_ws_deinit(iceoryx_ws);
    }
    if (iceoryx_sub)
        iox_sub_deinit(iceoryx_sub);
    if (iceoryx_pub)
        iox_pub_deinit(iceoryx_pub);
    iox_runtime_shutdown();
}

static const char *iceoryx_obstacle(const struct bench_task *task)
{
    if (access("/dev/shm/iceoryx_mgmt", F_OK) < 0)
        return "its daemon iox-roudi does not run";
    if (task->wait == BENCH_EPOLL)
        return "it has no descriptor";
    return task->senders > 1 || task->receivers > 1 ? "not measured" : NULL;
}

static const struct bench_contestant iceoryx = {
    .name = "iceoryx",
    .join = iceoryx_join,
    .send = iceoryx_send,
    .recv = iceoryx_recv,
    .send_run = iceoryx_send_run,
    .recv_run = iceoryx_recv_run,
    .leave = iceoryx_leave,
};

const struct bench_peer bench_peers[] = {{"", &iceoryx, iceoryx_obstacle}, {0}};
