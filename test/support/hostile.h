/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * hostile -- operations on a channel whose memory may hold anything
 *
 * What       A table of channels, and one of operations with the results that the manual allows them. Whoever
 *            damages the memory (test/fault/hostile_*.c) makes random steps by these tables; a step fails the test
 *            when a result is not documented or has no text, or when a size or an address is not to be believed.
 * Seeds      Everything random comes from `random`, so that one seed gives one run.
 */
#include <naru/call.h>
#include <stdbool.h>
#include <stdint.h>

struct nr_hostile_channel {
    const char *name;
    struct naru_options options; /* size_bytes is set when it is opened */
    bool is_pair;
    bool reads_only; /* its receiver maps it read-only */
    bool copies;     /* what is taken does not stand in the segment */
};
extern const struct nr_hostile_channel nr_hostile_channels[];
extern const unsigned nr_hostile_channels_count;

enum { NR_HOSTILE_HELD = 3, NR_HOSTILE_CALLS = 2, NR_HOSTILE_ROOM_BYTES = 4096 };

struct nr_hostile {
    const struct nr_hostile_channel *channel;
    const char *uri;
    uint64_t random;
    int64_t timeout_ns;            /* of each call; 0: tried once */
    bool takes_what_is_there;      /* attaches without options */
    size_t size_max_bytes;         /* the largest message */
    bool uses_descriptors;         /* naru_fd(), which may start a thread */
    struct naru_endpoint *ends[2]; /* who sends, who receives; NULL: could not be opened */
    struct naru_message loan;      /* data NULL: none */
    struct naru_message held[NR_HOSTILE_HELD];
    struct naru_call calls[NR_HOSTILE_CALLS]; /* size_bytes 0: not begun */
    unsigned char *room;       /* made on first use; behind it nothing may be written */
    unsigned long steps, good; /* good: those that succeeded */
    /* NULL, or whether a message that is handed out in place is inside a segment. */
    bool (*is_inside)(const void *data, size_t size_bytes);
    /* NULL, or called around each call of the library: what it does, and that it has returned. */
    void (*begins)(const char *operation);
    void (*ends_call)(const char *operation);
};

/* splitmix64 */
uint64_t nr_hostile_random(uint64_t *state);

/* Opens both ends, as far as that goes: an end that can't be opened stays NULL. */
void nr_hostile_open(struct nr_hostile *hostile);
void nr_hostile_close(struct nr_hostile *hostile);

/* One operation, chosen at random. */
void nr_hostile_step(struct nr_hostile *hostile);
