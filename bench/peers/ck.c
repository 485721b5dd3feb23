/* SPDX-License-Identifier: MIT */
/*
 * ck -- Concurrency Kit's rings in shared memory: of pointers (8 bytes), and of entries of 64 bytes
 *
 * They neither wait nor know of other processes; who finds one empty or full spins.
 */
#include "peer.h"
#include <ck_ring.h>
#include <string.h>

enum { CK_PEER_CAPACITY = 1024 };

struct ck_entry {
    unsigned char bytes[64];
};

CK_RING_PROTOTYPE(entry, ck_entry)

struct ck_way {
    __attribute__((aligned(64))) ck_ring_t ring;
    __attribute__((aligned(64))) union {
        ck_ring_buffer_t pointers[1]; /* as many as the ring holds */
        struct ck_entry entries[1];
    } buffer;
};

static unsigned ck_peer_capacity(const struct bench_task *task)
{
    unsigned capacity = 4;

    while (capacity < (task->capacity ? task->capacity : CK_PEER_CAPACITY))
        capacity *= 2;
    return capacity;
}

static size_t ck_peer_way_bytes(const struct bench_task *task)
{
    size_t one = task->size_bytes == 64 ? sizeof(struct ck_entry) : sizeof(ck_ring_buffer_t);

    return (sizeof(struct ck_way) + ck_peer_capacity(task) * one + 4095) / 4096 * 4096;
}

static size_t ck_peer_area_bytes(const struct bench_task *task)
{
    return 2 * ck_peer_way_bytes(task);
}

static struct ck_way *ck_peer_way(struct bench_link *link, int way)
{
    return (void *)((char *)link->area + (way ? ck_peer_way_bytes(link->task) : 0));
}

static void ck_peer_prepare(struct bench_link *link)
{
    for (int way = 0; way < 2; way++)
        ck_ring_init(&ck_peer_way(link, way)->ring, ck_peer_capacity(link->task));
}

/* This process's ways. */
static struct ck_way *ck_out, *ck_in;

static void ck_peer_join(struct bench_link *link)
{
    bool serves = link->side == BENCH_SERVER;

    ck_out = ck_peer_way(link, serves);
    ck_in = ck_peer_way(link, !serves);
}

#define CK_PEER(kind)                                                                              \
    static inline void ck_##kind##_send(struct bench_link *link, const void *data)                 \
    {                                                                                              \
        (void)link;                                                                                \
        void *pointer;                                                                             \
        memcpy(&pointer, data, sizeof pointer);                                                    \
        while (!ck_ring_enqueue_##kind(&ck_out->ring, ck_out->buffer.pointers, pointer))           \
            bench_relax();                                                                         \
    }                                                                                              \
    static inline void ck_##kind##_recv(struct bench_link *link, void *room)                       \
    {                                                                                              \
        (void)link;                                                                                \
        void *pointer;                                                                             \
        while (!ck_ring_dequeue_##kind(&ck_in->ring, ck_in->buffer.pointers, &pointer))            \
            bench_relax();                                                                         \
        memcpy(room, &pointer, sizeof pointer);                                                    \
    }                                                                                              \
    BENCH_RUNS(ck_##kind, ck_##kind##_send, ck_##kind##_recv)                                      \
    static inline void ck_##kind##_64_send(struct bench_link *link, const void *data)              \
    {                                                                                              \
        (void)link;                                                                                \
        struct ck_entry *entry = (struct ck_entry *)(uintptr_t)data;                               \
        while (!ck_ring_enqueue_##kind##_entry(&ck_out->ring, ck_out->buffer.entries, entry))      \
            bench_relax();                                                                         \
    }                                                                                              \
    static inline void ck_##kind##_64_recv(struct bench_link *link, void *room)                    \
    {                                                                                              \
        (void)link;                                                                                \
        while (!ck_ring_dequeue_##kind##_entry(&ck_in->ring, ck_in->buffer.entries, room))         \
            bench_relax();                                                                         \
    }                                                                                              \
    BENCH_RUNS(ck_##kind##_64, ck_##kind##_64_send, ck_##kind##_64_recv)                           \
    static const struct bench_contestant ck_##kind##_contestant = {                                \
        .name = "ck " #kind ", pointers",                                                          \
        .area_bytes = ck_peer_area_bytes,                                                          \
        .prepare = ck_peer_prepare,                                                                \
        .join = ck_peer_join,                                                                      \
        .send = ck_##kind##_send,                                                                  \
        .recv = ck_##kind##_recv,                                                                  \
        .send_run = ck_##kind##_send_run,                                                          \
        .recv_run = ck_##kind##_recv_run,                                                          \
    };                                                                                             \
    static const struct bench_contestant ck_##kind##_64_contestant = {                             \
        .name = "ck " #kind ", entries",                                                           \
        .area_bytes = ck_peer_area_bytes,                                                          \
        .prepare = ck_peer_prepare,                                                                \
        .join = ck_peer_join,                                                                      \
        .send = ck_##kind##_64_send,                                                               \
        .recv = ck_##kind##_64_recv,                                                               \
        .send_run = ck_##kind##_64_send_run,                                                       \
        .recv_run = ck_##kind##_64_recv_run,                                                       \
    }

CK_PEER(spsc);
CK_PEER(mpmc);

static const char *ck_peer_obstacle(const struct bench_task *task, size_t size_bytes, bool is_spsc)
{
    if (task->wait != BENCH_SPIN)
        return "it does not wait";
    if (task->size_bytes != size_bytes)
        return "its entries have another size";
    return is_spsc && (task->senders > 1 || task->receivers > 1) ? "one sender, one receiver"
                                                                 : NULL;
}

static const char *ck_spsc_obstacle(const struct bench_task *task)
{
    return ck_peer_obstacle(task, 8, true);
}
static const char *ck_spsc_64_obstacle(const struct bench_task *task)
{
    return ck_peer_obstacle(task, 64, true);
}
static const char *ck_mpmc_obstacle(const struct bench_task *task)
{
    return ck_peer_obstacle(task, 8, false);
}
static const char *ck_mpmc_64_obstacle(const struct bench_task *task)
{
    return ck_peer_obstacle(task, 64, false);
}

const struct bench_peer bench_peers[] = {
    {"spsc-8", &ck_spsc_contestant, ck_spsc_obstacle},
    {"spsc-64", &ck_spsc_64_contestant, ck_spsc_64_obstacle},
    {"mpmc-8", &ck_mpmc_contestant, ck_mpmc_obstacle},
    {"mpmc-64", &ck_mpmc_64_contestant, ck_mpmc_64_obstacle},
    {0},
};
