/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * message -- a message with what is known about it
 *
 * naru_loan() and naru_take() hand out messages in place: `data` then points into the channel, or,
 * where the technique has no memory of its own, into the endpoint's. naru_recv_many() and
 * naru_send_many() use the caller's memory instead: `data` and `capacity_bytes` are set by the
 * caller. A message that is loaned or taken belongs to the endpoint that handed it out, and ends
 * with exactly one of naru_commit, naru_cancel, naru_ack, naru_requeue, or naru_close.
 */
#include <naru/base.h>

#ifdef __cplusplus
extern "C" {
#endif

enum naru_message_flags {
    NARU_REDELIVERED = 1 << 0, /* it was in a hand before that died or gave it back */
    NARU_TRUNCATED = 1 << 1,   /* descriptors were cut off (more were sent than there was room) */
};

/* Which fields of a received message the transport knows: bits of `known`. */
enum naru_message_field {
    NARU_KNOWS_SEQUENCE = 1 << 0,
    NARU_KNOWS_TYPE = 1 << 1,
    NARU_KNOWS_SENDER_PID = 1 << 2,
    NARU_KNOWS_SENDER_UID = 1 << 3,
    NARU_KNOWS_DELIVERIES = 1 << 4,
    NARU_KNOWS_LOST = 1 << 5,
};

struct naru_message {
    void *data;
    size_t size_bytes;     /* the message's own size */
    size_t capacity_bytes; /* room at `data` */
    uint64_t sequence;     /* counts up by one a message: per channel, or per sender */
    int64_t type;          /* System V type (>= 1), POSIX priority, or the user's own tag */
    int32_t sender_pid;
    uint32_t sender_uid;
    uint32_t flags;      /* enum naru_message_flags */
    uint32_t known;      /* enum naru_message_field */
    uint32_t deliveries; /* 1 the first time */
    uint32_t reserved0;
    uint64_t lost;        /* messages lost between the previous one and this */
    uint64_t internal[4]; /* the library's own; leave alone */
    uint64_t reserved[4]; /* zero */
};

#ifdef __cplusplus
}
#endif
