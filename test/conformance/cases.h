/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * cases -- behaviours that every row must show, as far as it promises them
 *
 * What       A case gets a channel that is not open yet, in a process of its own, and closes what it opens.
 *            It runs on the rows that have all of `needs` and none of `lacks`, and are of its pattern.
 */
#include "rows.h"

struct nr_case {
    const char *name;
    void (*body)(struct nr_channel *channel);
    unsigned needs, lacks;
    unsigned
        also; /* NR_NEWEST, NR_CALLS, NR_OVERWRITES: on these as well, which else run what needs them */
    int seconds; /* 0: 10 */
};

extern const struct nr_case nr_basic_cases[], nr_wait_cases[], nr_hold_cases[], nr_many_cases[],
    nr_death_cases[], nr_open_cases[], nr_prompt_cases[], nr_cell_cases[], nr_call_cases[],
    nr_call_loan_cases[], nr_topic_cases[];

/* Room for one message in each process. */
extern unsigned char nr_case_room[NR_PAYLOAD_ROOM_BYTES];

/* The row's, from which these functions know how a message gets to the other side: 0 is NARU_QUEUE. */
extern enum naru_pattern nr_case_pattern;

/* `wanted` bytes, or what the row can carry. */
size_t nr_case_size(struct nr_channel *channel, struct naru_endpoint *endpoint, size_t wanted);

/* Sends message `index` of `sender`; it must succeed within a long time. */
void nr_case_send(struct naru_endpoint *endpoint, size_t size_bytes, unsigned sender,
                  unsigned index);

/* Receives one, which must be that and whole. */
void nr_case_expect(struct naru_endpoint *endpoint, size_t size_bytes, unsigned sender,
                    unsigned index);

/* Sends messages of `size_bytes` until none fits (-EAGAIN); how many went. */
unsigned nr_case_fill(struct naru_endpoint *endpoint, size_t size_bytes);

/* Nothing is there, and a text says what to do. */
void nr_case_expect_nothing(struct naru_endpoint *endpoint);

/* What a receive says when all have gone: -EPIPE where the row has an end of stream, else nothing. */
void nr_case_expect_end(struct nr_channel *channel, struct naru_endpoint *endpoint);
