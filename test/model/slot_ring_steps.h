/* SPDX-License-Identifier: MIT */
#pragma once
/* slot_ring_steps -- what slot_ring_steps.c and slot_ring_left.c share: one ring under several names, and single steps */
#include "data/slot_ring.h"
#include "model.h"

enum {
    STEPS_DEAD = 3, /* the name of one that has died before the others begin */
    STEPS_VALUE = 0x55,
    STEPS_SHARED_BYTES =
        sizeof(struct nr_slot_ring_shared) + 64 + 4 * 128 + 4 * (64 + NR_CHUNK_HEADER_BYTES),
};

extern struct steps {
    struct nr_slot_ring rings[MODEL_PROCESSES];
    struct nr_slot_taken in_hand;
    uint8_t left, got, got_again;
} steps;

/* Rings of these sizes, all over the same memory. */
void steps_attach(const struct nr_slot_ring *sizes);

/* Each says where it has to be. A message's type is its position, or STEPS_VALUE in a chunk. */
struct nr_slot_claim steps_claim(unsigned me, uint64_t position);
void steps_send(unsigned me, uint64_t position, uint32_t size_bytes);
void steps_fill_chunk(unsigned me, uint32_t index, uint32_t size_bytes);
uint32_t steps_send_chunk(unsigned me, uint64_t position, uint32_t size_bytes);
struct nr_slot_taken steps_take(unsigned me, uint64_t position);
