/* SPDX-License-Identifier: MIT */
#include "data/desk.h"
#include "data/line_short.h"
#include <assert.h>
#include <errno.h>
#include <string.h>

static const uint64_t nr_desk_closed = (uint64_t)1 << 63;

static_assert(NR_DESK_PART_BYTES + NR_DESK_HEADER_BYTES <= NR_DESK_RING_BYTES / 4, "four fit");
static_assert(sizeof(struct nr_desk_shared) % NR_LINE_BYTES == 0, "lines begin behind it");
static_assert(offsetof(struct nr_desk_message, room) % 16 == 8, "the payload is aligned");

uint64_t nr_desk_bytes_of(uint32_t lines_count, uint32_t bytes_count)
{
    return sizeof(struct nr_desk_shared) + 2 * nr_line_ring_memory(lines_count, bytes_count);
}

void nr_desk_attach_of(struct nr_desk *desk, void *memory, enum nr_desk_side side,
                       uint32_t lines_count, uint32_t bytes_count)
{
    char *tasks = (char *)memory + sizeof(struct nr_desk_shared);
    char *results = tasks + nr_line_ring_memory(lines_count, bytes_count);
    const struct nr_line_ring ring = {.lines_count = lines_count, .bytes_count = bytes_count};

    /* Nobody has sat here before: both rings are at their start, as a handle of zeros is. */
    *desk = (struct nr_desk){.shared = memory, .out = ring, .in = ring};
    nr_line_ring_attach(&desk->out, side == NR_DESK_OWNER ? tasks : results);
    nr_line_ring_attach(&desk->in, side == NR_DESK_OWNER ? results : tasks);
}

int nr_desk_put(struct nr_desk *desk, uint64_t header, const void *data, size_t size_bytes)
{
    uint32_t whole_bytes = (uint32_t)(NR_DESK_HEADER_BYTES + size_bytes);
    struct nr_line_room room;
    char small[NR_LINE_INLINE_BYTES];

    if (whole_bytes > sizeof small) {
        int result = nr_line_reserve(&desk->out, whole_bytes, 0, &room);
        if (result < 0)
            return result;
        memcpy(room.first, &header, sizeof header);
        memcpy(room.first + sizeof header, data, size_bytes);
        nr_line_publish(&desk->out, whole_bytes, 0);
        return 0;
    }
    memcpy(small, &header, sizeof header);
    if (size_bytes)
        memcpy(small + sizeof header, data, size_bytes);
    if (nr_line_put(&desk->out, small, whole_bytes))
        return 0;
    int result = nr_line_reserve(&desk->out, whole_bytes, 0, &room);
    if (result < 0)
        return result;
    memcpy(room.first, small, room.first_bytes);
    if (room.second)
        memcpy(room.second, small + room.first_bytes, whole_bytes - room.first_bytes);
    nr_line_publish(&desk->out, whole_bytes, 0);
    return 0;
}

int nr_desk_get(struct nr_desk *desk, struct nr_desk_message *ret)
{
    bool frees = false;
    int size_bytes = nr_line_get(&desk->in, ret->room, sizeof ret->room, &frees);

    ret->stands_apart = size_bytes == -EMSGSIZE;
    if (size_bytes >= NR_DESK_HEADER_BYTES) {
        memcpy(&ret->header, ret->room, sizeof ret->header);
        ret->data = ret->room + NR_DESK_HEADER_BYTES;
        ret->size_bytes = (uint32_t)size_bytes - NR_DESK_HEADER_BYTES;
        ret->record.is_last = frees; /* what nr_desk_done() is to say */
        return 0;
    }
    if (size_bytes != -EMSGSIZE)
        return size_bytes < 0 ? size_bytes : -EBADMSG;
    int result = nr_line_peek(&desk->in, &ret->record);
    if (result < 0)
        return result;
    if (ret->record.second || ret->record.size_bytes < NR_DESK_HEADER_BYTES ||
        ret->record.size_bytes > NR_DESK_HEADER_BYTES + NR_DESK_PART_BYTES)
        return -EBADMSG;
    memcpy(&ret->header, ret->record.first, sizeof ret->header);
    ret->data = ret->record.first + NR_DESK_HEADER_BYTES;
    ret->size_bytes = ret->record.size_bytes - NR_DESK_HEADER_BYTES;
    return 0;
}

bool nr_desk_done(struct nr_desk *desk, struct nr_desk_message *message)
{
    return message->stands_apart ? nr_line_release(&desk->in, &message->record)
                                 : message->record.is_last;
}

/* -- gates ------------------------------------------------------------------------------------ */

/* No gate here is ever hot. */
static bool nr_desk_barrier(void)
{
    return true;
}

uint32_t nr_desk_prepare(struct nr_desk *desk, enum nr_desk_gate gate)
{
    bool is_sure;

    return nr_gate_prepare(&desk->shared->gates[gate], nr_desk_barrier, &is_sure);
}

bool nr_desk_must_wake(struct nr_desk *desk, enum nr_desk_gate gate)
{
    return nr_gate_must_wake(&desk->shared->gates[gate]);
}

const uint32_t *nr_desk_gate_address(const struct nr_desk *desk, enum nr_desk_gate gate)
{
    return nr_gate_address(&desk->shared->gates[gate]);
}

/* -- the turn --------------------------------------------------------------------------------- */

bool nr_desk_begin(struct nr_desk *desk)
{
    uint64_t turn = atomic_load_explicit(&desk->shared->turn, memory_order_relaxed);

    do {
        if (turn & nr_desk_closed)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&desk->shared->turn, &turn,
                                                    (uint32_t)(turn + 1), memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

void nr_desk_reopen(struct nr_desk *desk)
{
    atomic_fetch_and_explicit(&desk->shared->turn, ~nr_desk_closed, memory_order_relaxed);
}

void nr_desk_stamp(struct nr_desk *desk, int64_t now_ns)
{
    atomic_store_explicit(&desk->shared->begun_ns, now_ns, memory_order_relaxed);
}

void nr_desk_rest(struct nr_desk *desk)
{
    atomic_store_explicit(&desk->shared->rests, nr_desk_begun(desk) + 1, memory_order_relaxed);
}

bool nr_desk_is_at_rest(const struct nr_desk *desk)
{
    return atomic_load_explicit(&desk->shared->rests, memory_order_relaxed) ==
           nr_desk_begun(desk) + 1;
}

uint32_t nr_desk_begun(const struct nr_desk *desk)
{
    return (uint32_t)atomic_load_explicit(&desk->shared->turn, memory_order_relaxed);
}

bool nr_desk_turn_is_sane(const struct nr_desk *desk, uint32_t answered, size_t given,
                          bool may_be_closed)
{
    uint64_t turn = atomic_load_explicit(&desk->shared->turn, memory_order_relaxed);

    if (may_be_closed)
        turn &= ~nr_desk_closed;
    return turn <= UINT32_MAX && (uint32_t)turn - answered <= given;
}

int64_t nr_desk_begun_ns(const struct nr_desk *desk)
{
    return atomic_load_explicit(&desk->shared->begun_ns, memory_order_relaxed);
}

uint32_t nr_desk_close(struct nr_desk *desk)
{
    return (uint32_t)atomic_fetch_or_explicit(&desk->shared->turn, nr_desk_closed,
                                              memory_order_relaxed);
}
