/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * desk -- what a pool's owner and one of its workers share: tasks come in, results go out
 *
 * What       Two rings of lines, one each way, a gate for each thing that one of the two may wait for, and one word
 *            by which they agree on which tasks the worker has begun.
 * Messages   8 bytes of header and a payload. What is larger than NR_DESK_PART_BYTES comes in several: PARTs, then
 *            the message that they belong to. Both know the order in which tasks were given, so a result needs no
 *            name; it has the end of its task's number all the same, so that garbage is told from it.
 * Turn       [closed:1 | 0:31 | begun:32]. The worker adds one before it begins a task, unless the owner has closed the desk;
 *            closing tells the owner how many were begun. So each task at the desk is either begun, or taken away
 *            from it, never both. The owner then sends RESUME; the worker throws away the tasks before that and opens
 *            the desk again. It is also from this word that the owner knows whether a worker died in a task.
 * Writers    begun, is-open, begun_ns, rests: the worker. closed, door: the owner. Rings: see line_ring.h.
 * Ordering   The rings order payloads. The turn is a word of its own: its order of changes is all that counts.
 *            [D1] gate prepared -> [D2] look again; [D3] put -> [D4] must wake: see gate.h.
 * Death      A worker killed anywhere leaves whole messages only, and a turn that says what it was at.
 * Trust      The owner checks each message, and takes the turn for a number of tasks only as far as it has given
 *            so many. A worker that writes garbage hurts its own desk alone.
 * Memory     Shared by the two. No system calls. New memory is zero.
 */
#include "data/gate.h"
#include "data/line_ring.h"

enum {
    NR_DESK_LINES = 64,
    NR_DESK_RING_BYTES = 11840, /* so that a desk has 32 KiB: to make it costs time for each page */
    NR_DESK_HEADER_BYTES = 8,
    NR_DESK_PART_BYTES = 2944 - NR_DESK_HEADER_BYTES, /* of payload, in one message; four fit */
};

enum nr_desk_kind {
    NR_DESK_PART = 1, /* of what comes next */
    NR_DESK_TASK,     /* to the worker */
    NR_DESK_RESUME,
    NR_DESK_QUIT,
    NR_DESK_READY, /* to the owner */
    NR_DESK_DONE,
    NR_DESK_RESUMED,
    NR_DESK_RETIRING,
};

enum nr_desk_side { NR_DESK_OWNER, NR_DESK_WORKER };

/* What one may wait for; the first two are the worker's. */
enum nr_desk_gate { NR_DESK_HAS_TASK, NR_DESK_HAS_ROOM, NR_DESK_HAS_RESULT, NR_DESK_TAKES_TASK };

struct nr_desk_shared {
    _Alignas(64) _Atomic uint64_t turn;
    _Atomic int64_t begun_ns; /* when the latest task was begun, if it has a limit */
    uint32_t door; /* opened by the owner, once the worker may begin (nr_spawn_group()) */
    _Atomic uint32_t
        rests; /* one more than were begun when the worker had nothing left to do; 0: never */
    struct nr_gate gates[4];
};

struct nr_desk {
    struct nr_desk_shared *shared;
    struct nr_line_ring out, in;
};

struct nr_desk_message {
    uint64_t header;
    const char *data; /* the payload, 16-byte aligned unless it stands apart */
    uint32_t size_bytes;
    bool stands_apart;
    struct nr_line_record record;
    _Alignas(16) char align[8];
    char room[NR_LINE_INLINE_BYTES];
};

/* The header: [kind:4 | is_timed:1 | attempt:11 | number:48], of a result [kind:4 | number:28 | code:32]. */
static inline uint64_t nr_desk_task_header(enum nr_desk_kind kind, uint64_t number,
                                           uint32_t attempt, bool is_timed)
{
    return (uint64_t)kind | (uint64_t)is_timed << 4 | (uint64_t)(attempt & 0x7ff) << 5 |
           number << 16;
}
static inline uint64_t nr_desk_result_header(enum nr_desk_kind kind, uint64_t number, int32_t code)
{
    return (uint64_t)kind | (number & 0xfffffff) << 4 | (uint64_t)(uint32_t)code << 32;
}
static inline enum nr_desk_kind nr_desk_kind(uint64_t header)
{
    return header & 15;
}
static inline bool nr_desk_task_is_timed(uint64_t header)
{
    return header >> 4 & 1;
}
static inline uint32_t nr_desk_task_attempt(uint64_t header)
{
    return header >> 5 & 0x7ff;
}
static inline uint64_t nr_desk_task_number(uint64_t header)
{
    return header >> 16;
}
static inline bool nr_desk_result_is_of(uint64_t header, uint64_t number)
{
    return (header >> 4 & 0xfffffff) == (number & 0xfffffff);
}
static inline int32_t nr_desk_result_code(uint64_t header)
{
    return (int32_t)(uint32_t)(header >> 32);
}

/* With rings of any size, as line_ring.h takes them; and of the size that a pool's desk has. */
uint64_t nr_desk_bytes_of(uint32_t lines_count, uint32_t bytes_count);
void nr_desk_attach_of(struct nr_desk *desk, void *memory, enum nr_desk_side side,
                       uint32_t lines_count, uint32_t bytes_count);
static inline uint64_t nr_desk_bytes(void)
{
    return nr_desk_bytes_of(NR_DESK_LINES, NR_DESK_RING_BYTES);
}
static inline void nr_desk_attach(struct nr_desk *desk, void *memory, enum nr_desk_side side)
{
    nr_desk_attach_of(desk, memory, side, NR_DESK_LINES, NR_DESK_RING_BYTES);
}

/* 0, or -EAGAIN: no room. At most NR_DESK_PART_BYTES. Wakes nobody. */
int nr_desk_put(struct nr_desk *desk, uint64_t header, const void *data, size_t size_bytes);

/* 0; -EAGAIN: nothing there; -EBADMSG. Then nr_desk_done(): true: room became free. */
int nr_desk_get(struct nr_desk *desk, struct nr_desk_message *ret);
bool nr_desk_done(struct nr_desk *desk, struct nr_desk_message *message);

static inline bool nr_desk_may_get(const struct nr_desk *desk)
{
    return nr_line_may_peek(&desk->in);
}

/* [D1] Before the last look and the sleep. [D4] True: wake who waits there. */
uint32_t nr_desk_prepare(struct nr_desk *desk, enum nr_desk_gate gate);
bool nr_desk_must_wake(struct nr_desk *desk, enum nr_desk_gate gate);
const uint32_t *nr_desk_gate_address(const struct nr_desk *desk, enum nr_desk_gate gate);

/* The worker: may it begin the next task? Then it has. nr_desk_reopen() at RESUME. */
bool nr_desk_begin(struct nr_desk *desk);
void nr_desk_reopen(struct nr_desk *desk);
void nr_desk_stamp(struct nr_desk *desk, int64_t now_ns);
/* The worker has done all that it has begun, and what comes behind a task as well. */
void nr_desk_rest(struct nr_desk *desk);

/* The owner: how many were begun; the same, and no more will be. */
uint32_t nr_desk_begun(const struct nr_desk *desk);
/* Can the turn be that, with `answered` tasks answered and `given` on the desk? */
bool nr_desk_turn_is_sane(const struct nr_desk *desk, uint32_t answered, size_t given,
                          bool may_be_closed);
static inline uint32_t *nr_desk_door(const struct nr_desk *desk)
{
    return &desk->shared->door;
}
int64_t nr_desk_begun_ns(const struct nr_desk *desk);
bool nr_desk_is_at_rest(const struct nr_desk *desk); /* since the latest task that was begun */
uint32_t nr_desk_close(struct nr_desk *desk);
