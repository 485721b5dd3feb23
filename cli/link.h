/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * link -- a two-way connection between a parent and its child over any technique
 *
 * What       Two one-way channels; a pair where the technique has one without a name; signals to each
 *            other's process; or, for "semaphore", slots in shared memory that semaphores hand over.
 * Order      nr_link_open() in the parent, fork, then nr_link_join_child() there and
 *            nr_link_join_parent() here. nr_link_unlink() once both have.
 * Blocking   Sends and receives wait for ever. In the parent they are ended by the signals of stop.h:
 *            -EINTR (or -ETIMEDOUT, which semaphores return now and then) means: look up and go on.
 */
#include "scratch.h"
#include <naru/endpoint.h>
#include <naru/shm.h>
#include <naru/sync.h>
#include <stdbool.h>

enum { NR_LINK_MESSAGE_BYTES = 64, NR_LINK_SLOTS = 16 };

/* One direction of "semaphore": the classic bounded buffer. The slots are plain memory. */
struct nr_link_lane {
    struct naru_semaphore_state full, empty;
    uint8_t slots[NR_LINK_SLOTS][NR_LINK_MESSAGE_BYTES];
};

struct nr_link_lane_end {
    struct nr_link_lane *lane;
    struct naru_semaphore *full, *empty;
    unsigned next;
};

struct nr_link {
    const struct nr_link_way *way;
    const char *scheme;
    char uri[NR_SCRATCH_URI_BYTES]; /* to be shown */
    size_t message_bytes;           /* NR_LINK_MESSAGE_BYTES, or 8 for signal */
    struct nr_scratch scratch;
    pid_t parent_pid;
    char names[2][NR_SCRATCH_URI_BYTES]; /* [0] parent to child, [1] child to parent */
    struct naru_endpoint *in, *out;      /* this process's */
    struct naru_endpoint *pair[2];       /* [0] the parent's, [1] the child's */
    struct naru_shm *segment;
    struct nr_link_lane_end lanes[2]; /* [0] parent to child */
    bool is_child;
};

/* `scheme` is one of a URI, or "semaphore". All return 0 or -errno; the text is naru_error_text(). */
int nr_link_open(struct nr_link *link, const char *scheme);
int nr_link_join_child(struct nr_link *link);
int nr_link_join_parent(struct nr_link *link, pid_t child_pid);

/* A message of link->message_bytes; room for as much. */
int nr_link_send(struct nr_link *link, const void *data);
int nr_link_recv(struct nr_link *link, void *data, size_t *ret_size_bytes);

void nr_link_unlink(struct nr_link *link);

/* In the parent; may run twice. */
void nr_link_close(struct nr_link *link);
