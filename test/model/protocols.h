/* SPDX-License-Identifier: MIT */
#pragma once
/* The protocols that are checked: one in each file of this directory that ends in its name. */
#include "model.h"

extern const struct model_protocol model_calls, model_calls_contracts, model_calls_late;
extern const struct model_protocol model_barrier_protocol;
extern const struct model_protocol model_gate;
extern const struct model_protocol model_hold_protocol;
extern const struct model_protocol model_line_batch, model_line_ring;
extern const struct model_protocol model_litmus;
extern const struct model_protocol model_participants;
extern const struct model_protocol model_latch;
extern const struct model_protocol model_permits;
extern const struct model_protocol model_rwlock;
extern const struct model_protocol model_seat;
extern const struct model_protocol model_slots;
extern const struct model_protocol model_slot_ring, model_slot_ring_chunks, model_slot_ring_holds,
    model_slot_ring_left, model_slot_ring_steps;
extern const struct model_protocol model_turn;
extern const struct model_protocol model_cell;
extern const struct model_protocol model_desk;
extern const struct model_protocol model_topic, model_topic_chunks, model_topic_late,
    model_topic_overwriting;

static const struct model_protocol *const model_protocols[] = {
    &model_line_batch,
    &model_line_ring,
    &model_litmus,
    &model_barrier_protocol,
    &model_gate,
    &model_hold_protocol,
    &model_latch,
    &model_participants,
    &model_permits,
    &model_rwlock,
    &model_seat,
    &model_slots,
    &model_slot_ring,
    &model_slot_ring_chunks,
    &model_slot_ring_holds,
    &model_slot_ring_left,
    &model_slot_ring_steps,
    &model_turn,
    &model_calls,
    &model_calls_contracts,
    &model_calls_late,
    &model_cell,
    &model_desk,
    &model_topic,
    &model_topic_chunks,
    &model_topic_late,
    &model_topic_overwriting,
};
