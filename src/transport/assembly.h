/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * assembly -- messages that come in fragments, put together per sender
 *
 * What       A list of the senders that are known, each with the messages of which some fragments came.
 *            The fragments of one message may arrive in any order (several threads read).
 * Memory     Private. A sender has at most NR_ASSEMBLY_PARTIALS messages in the making; the oldest is
 *            given up for one more (its sender timed out in the middle of it).
 * Death      A sender that died in the middle leaves a partial message, dropped with the sender.
 * Threads    The caller holds the endpoint's lock.
 * Trust      Sizes and offsets come from a peer and are checked.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NR_ASSEMBLY_PARTIALS = 16, NR_ASSEMBLY_SENDERS_SWEEP = 64 };

struct nr_assembly {
    struct nr_assembly_sender *senders;
    unsigned senders_count;
};
#define NR_ASSEMBLY_NULL ((struct nr_assembly){0})

struct nr_fragment {
    uint64_t sender; /* unique to an endpoint that sends */
    int32_t sender_pid;
    uint64_t message;
    size_t offset_bytes, size_bytes, total_bytes;
    size_t piece_bytes; /* of all fragments but a message's last one: the format's */
    const void *data;
};

void nr_assembly_deinit(struct nr_assembly *assembly);

/* A sender has shown itself, or said goodbye; false if it was not known. */
int nr_assembly_hello(struct nr_assembly *assembly, uint64_t sender, int32_t sender_pid);
bool nr_assembly_goodbye(struct nr_assembly *assembly, uint64_t sender);

/* Forgets all senders; returns how many had not said goodbye. */
unsigned nr_assembly_forget(struct nr_assembly *assembly);

/*
 * Adds a fragment. 1: the message is complete, *ret_data (malloc'ed, total_bytes) is the caller's.
 * 0: more is to come. -EBADMSG: it contradicts itself or what came before. -ENOMEM.
 */
int nr_assembly_add(struct nr_assembly *assembly, const struct nr_fragment *fragment,
                    void **ret_data);
