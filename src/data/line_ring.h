/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * line_ring -- a queue from exactly one sender to exactly one receiver, at the cost of a cache line
 *
 * What       A ring of lines, each a stamp and 56 bytes of room. A message of up to 112 bytes stands in one or two
 *            lines, several small ones share one; a larger one, and each loan, stands apart, in one piece, in a
 *            ring of bytes beside them, and its line tells where. A stamp says in which lap its line was
 *            written, so it is stamp and payload at once that cross to the other processor: no index, no
 *            compare-and-swap. Publishing is one release store.
 * Memory     Shared; a line's first 8 bytes are always a stamp, never payload, so that what is left from a lap
 *            before can't be taken for a message. No system calls.
 * Stamp      [size or sizes:42 | is_typed:1 ... | lap:16 | kind:4]
 *              NONE    nothing yet (zeroed memory)
 *              INSIDE  a further line of a message or run, or what a dead sender has left of one: nothing starts here
 *              SMALL   up to 7 messages without a type, each on its own 8-byte unit; code i (6 bits) is 1 + the
 *                      size of message i, 0: not there yet. The sender adds messages while they fit.
 *              ONE     one message, of more than 24 bytes or with a type, which then stands before the payload
 *              APART   {position, size, type, offset} of a message in the ring of bytes
 *              RUN     up to 7 messages of one size, up to 64 bytes, without a type, each on its own units, which go on in the
 *                      lines behind it: a batch (line_batch.h)
 *            Valid is a stamp whose lap is that of its line's position, and whose kind is one of the last four.
 * Writers    lines, bytes: the sender. head, taking: the receiver. Seats: see seat.h. Each side
 *            keeps private copies of its own positions and trusts only these.
 * Position   [line | message in that line:3]; lines and bytes are counted on and on, never wrapped.
 *            What head has passed is free, in the ring of bytes as well: the sender finds there in its own lines
 *            how much that was. So one store frees both, and no kill can divide it.
 * Ordering   [R1] stamp -> [A1] payload. [R2] head -> [A2] the room is free again. Proofs at the places.
 * Death      A sender killed before [R1] leaves nothing, after it the whole message. The next sender walks over the
 *            valid stamps to where it may begin. A receiver killed: the next one begins at head; messages up to
 *            `taking` had been handed out: at least once they come again, flagged, at most once they are skipped.
 * Trust      Stamps, positions and sizes are fetched once and checked against private bounds.
 * Returns    0; -EAGAIN full or empty; -EBADMSG damaged.
 */
#include "data/seat.h"
#include <stddef.h>

enum {
    NR_LINE_BYTES = 64,
    NR_LINE_ROOM_BYTES = 56,
    NR_LINE_INLINE_BYTES = 2 * NR_LINE_ROOM_BYTES,
    NR_LINE_TYPE_BYTES = 8,
};

struct nr_line_ring_shared {
    _Alignas(64) _Atomic uint64_t head;
    _Atomic uint64_t taking; /* the position behind the message that was handed out last */
    _Alignas(64) _Atomic uint64_t sender, receiver; /* seats */
};

struct nr_line_ring {
    struct nr_line_ring_shared *shared;
    char *lines, *bytes;
    uint64_t lines_count; /* a power of two */
    unsigned lap_shift;   /* its logarithm */
    uint64_t bytes_count; /* a multiple of 64 */
    bool at_most_once;

    /* mine */
    uint64_t line;  /* sender: that is begun next; receiver: that is being read */
    unsigned index; /* messages in the open line that were written, or read */
    uint64_t
        open_stamp; /* sender: of the line before `line`, while that takes more; 0: none does */
    /* Of 8 bytes, that those messages take. Not beside index: the compiler would store the two one by one, and load them
       in one piece, which then waits until all stores before have reached the cache. */
    unsigned units;

    /* the sender's */
    uint64_t head_line;              /* as last seen */
    uint64_t bytes_head, bytes_tail; /* in use, of the ring of bytes */
    uint64_t bytes_at;               /* the tail's place in the ring */
    uint64_t apart_line;             /* behind the last line that tells of something there */
    uint64_t apart_at, apart_offset; /* of the reservation: its position, and that in the ring */

    /* the receiver's */
    uint64_t codes; /* of messages in the line that were seen and not read; 0: look again */
    uint64_t freed_line;
    uint64_t redelivered_until;
};

struct nr_line_record {
    const char *first, *second; /* payload, in one or two parts */
    uint32_t first_bytes, size_bytes;
    int64_t type;
    bool is_redelivered;
    bool is_last;  /* as far as its line goes, and as it was when it was looked at */
    uint64_t next; /* position behind it */
    unsigned next_units;
};

/* Room for a message: in one or two parts. */
struct nr_line_room {
    char *first, *second;
    uint32_t first_bytes;
};

/* Sizes that let `messages` (1 or more) of up to message_bytes wait, however they stand. */
void nr_line_ring_sizes(uint64_t message_bytes, uint64_t messages, uint64_t *lines,
                        uint64_t *bytes);
uint64_t nr_line_ring_memory(uint64_t lines_count, uint64_t bytes_count);

/* lines_count, bytes_count and at_most_once are set. Zeroed memory is an empty ring. */
void nr_line_ring_attach(struct nr_line_ring *ring, void *memory);

/* Takes one's place. 1: a message was lost with the receiver before; 0; -EBADMSG: the positions make no sense. */
int nr_line_ring_sit(struct nr_line_ring *ring, bool as_sender);

/* Are so many lines free? 0; -EAGAIN. */
int nr_line_need(struct nr_line_ring *ring, unsigned lines);

/*
 * Room for a message of exactly size_bytes, then published; nothing in between is seen by anyone, and a reservation
 * that is not published is forgotten with the next. `apart`: in one piece, and may be published shorter.
 */
int nr_line_reserve(struct nr_line_ring *ring, uint32_t size_bytes, int64_t type,
                    struct nr_line_room *ret);
void nr_line_publish(struct nr_line_ring *ring, uint32_t size_bytes, int64_t type);
int nr_line_reserve_apart(struct nr_line_ring *ring, uint32_t size_bytes, char **ret);
void nr_line_publish_apart(struct nr_line_ring *ring, uint32_t size_bytes, int64_t type);

/* The next message, where it stands; it stays until nr_line_release(). nr_line_taking() before it is handed out. */
int nr_line_peek(struct nr_line_ring *ring, struct nr_line_record *ret);
void nr_line_taking(struct nr_line_ring *ring, const struct nr_line_record *record);
void nr_line_copy(const struct nr_line_record *record, void *to);
/* From now on it counts as redelivered. */
void nr_line_flag(struct nr_line_ring *ring, const struct nr_line_record *record);
/* Done with it, or with all up to a place in a line of small ones. True: room became free. */
bool nr_line_pass(struct nr_line_ring *ring, uint64_t line, unsigned index, unsigned units);
bool nr_line_release(struct nr_line_ring *ring, const struct nr_line_record *record);

/* False only if a peek that begins now would find nothing. Any thread of the receiver's process. */
bool nr_line_may_peek(const struct nr_line_ring *ring);

/*
 * The short way, for a message without a type, begins in line_short.h: nr_line_put(), in one or two lines; false: nothing
 * was done; reserve and publish. nr_line_get(): the size of the message, which was copied and released, and whether that
 * freed room; -EAGAIN: there is none; -EMSGSIZE: there is one for the long way, peek and release, and nothing was done.
 * Capacities: up to INT32_MAX. This is the part of it that looks at the ring.
 */
int nr_line_get_next(struct nr_line_ring *ring, void *to, size_t capacity_bytes, bool *ret_frees);
