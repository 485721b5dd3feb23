/* SPDX-License-Identifier: MIT */
/*
 * probe -- the least that it takes to hand a payload from one process to another: what the others are held against
 *
 * What       A lane each way: a word that tells that a payload is there, and the payload behind it, in the same cache
 *            line as far as it fits. The sender copies the payload in, the receiver copies it out. There is nothing
 *            else: no ring, no lengths, no death. The receiver spins on the word; or sleeps on it in futex(2),
 *            woken each time; or in epoll_wait(2) on an eventfd.
 */
#include "duel.h"
#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

struct bench_lane {
    _Alignas(64) uint64_t word; /* the payload's number; the sender's */
};

/* In the word's line, or from the next one on. */
static void *bench_lane_payload(struct bench_lane *lane, size_t size_bytes)
{
    return (char *)lane + (size_bytes <= 64 - sizeof lane->word ? sizeof lane->word : 64);
}

static size_t bench_lane_bytes(size_t size_bytes)
{
    return (64 + size_bytes + 4095) / 4096 * 4096;
}

static size_t bench_probe_area_bytes(const struct bench_task *task)
{
    return 2 * bench_lane_bytes(task->size_bytes);
}

static struct bench_lane *bench_probe_lane(struct bench_link *link, bool out)
{
    bool to_client = (link->side == BENCH_SERVER) == out;

    return (void *)((char *)link->area + (to_client ? bench_lane_bytes(link->size_bytes) : 0));
}

static void bench_probe_join(struct bench_link *link)
{
    link->in_offset = link->out_offset = 0; /* the numbers of the last payloads */
}

static uint64_t bench_probe_put(struct bench_link *link, struct bench_lane *lane, const void *data)
{
    memcpy(bench_lane_payload(lane, link->size_bytes), data, link->size_bytes);
    __atomic_store_n(&lane->word, (uint64_t)++link->out_offset, __ATOMIC_RELEASE); /* [R] */
    return (uint64_t)link->out_offset;
}

static bool bench_probe_is_there(struct bench_link *link, struct bench_lane *lane)
{
    return __atomic_load_n(&lane->word, __ATOMIC_ACQUIRE) ==
           (uint64_t)link->in_offset + 1; /* [A] */
}

static void bench_probe_get(struct bench_link *link, struct bench_lane *lane, void *room)
{
    link->in_offset++;
    memcpy(room, bench_lane_payload(lane, link->size_bytes), link->size_bytes);
}

static void bench_line_send(struct bench_link *link, const void *data)
{
    bench_probe_put(link, bench_probe_lane(link, true), data);
}

static void bench_line_recv(struct bench_link *link, void *room)
{
    struct bench_lane *lane = bench_probe_lane(link, false);

    while (!bench_probe_is_there(link, lane))
        bench_relax();
    bench_probe_get(link, lane, room);
}

/* The futex is the word's lower half. */
static uint32_t *bench_futex_word(struct bench_lane *lane)
{
    return (uint32_t *)&lane->word + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__);
}

static void bench_futex_send(struct bench_link *link, const void *data)
{
    struct bench_lane *lane = bench_probe_lane(link, true);

    bench_probe_put(link, lane, data);
    syscall(SYS_futex, bench_futex_word(lane), FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void bench_futex_recv(struct bench_link *link, void *room)
{
    struct bench_lane *lane = bench_probe_lane(link, false);

    while (!bench_probe_is_there(link, lane))
        syscall(SYS_futex, bench_futex_word(lane), FUTEX_WAIT, (uint32_t)link->in_offset, NULL,
                NULL, 0);
    bench_probe_get(link, lane, room);
}

static void bench_eventfd_prepare(struct bench_link *link)
{
    for (int i = 0; i < 2; i++)
        if ((link->fds[i] = eventfd(0, EFD_NONBLOCK)) < 0)
            bench_die(link, "eventfd");
}

static void bench_eventfd_join(struct bench_link *link)
{
    struct epoll_event event = {.events = EPOLLIN};

    bench_probe_join(link);
    link->in_fd = link->fds[link->side == BENCH_CLIENT];
    link->out_fd = link->fds[link->side == BENCH_SERVER];
    link->epoll_fd = epoll_create1(0);
    if (link->epoll_fd < 0 || epoll_ctl(link->epoll_fd, EPOLL_CTL_ADD, link->in_fd, &event) < 0)
        bench_die(link, "epoll_create1");
}

static void bench_eventfd_send(struct bench_link *link, const void *data)
{
    uint64_t one = 1;

    bench_probe_put(link, bench_probe_lane(link, true), data);
    if (write(link->out_fd, &one, sizeof one) != sizeof one)
        bench_die(link, "write");
}

static void bench_eventfd_recv(struct bench_link *link, void *room)
{
    struct epoll_event event;
    uint64_t count;

    while (epoll_wait(link->epoll_fd, &event, 1, -1) < 0)
        if (errno != EINTR)
            bench_die(link, "epoll_wait");
    if (read(link->in_fd, &count, sizeof count) != sizeof count)
        bench_die(link, "read");
    struct bench_lane *lane = bench_probe_lane(link, false);
    if (!bench_probe_is_there(link, lane))
        bench_die_text(link, "eventfd", "it was readable without a payload");
    bench_probe_get(link, lane, room);
}

const struct bench_contestant bench_probe_line = {
    .name = "cache line",
    .area_bytes = bench_probe_area_bytes,
    .join = bench_probe_join,
    .send = bench_line_send,
    .recv = bench_line_recv,
};
const struct bench_contestant bench_probe_futex = {
    .name = "futex",
    .area_bytes = bench_probe_area_bytes,
    .join = bench_probe_join,
    .send = bench_futex_send,
    .recv = bench_futex_recv,
};
const struct bench_contestant bench_probe_eventfd = {
    .name = "eventfd, epoll",
    .area_bytes = bench_probe_area_bytes,
    .prepare = bench_eventfd_prepare,
    .join = bench_eventfd_join,
    .send = bench_eventfd_send,
    .recv = bench_eventfd_recv,
};
