/* SPDX-License-Identifier: MIT */
#pragma once
/* shm_calls -- what the two files of calls share */
#include "transport/shm.h"

/* call->internal[2], message->internal[2]: the call's index; [3]: its number */
static inline struct nr_call_ticket nr_shm_calls_ticket(const uint64_t internal[4])
{
    return (struct nr_call_ticket){.index = (uint32_t)internal[2], .number = internal[3]};
}

static inline void nr_shm_calls_mark(uint64_t internal[4], const struct nr_call_ticket *ticket)
{
    internal[2] = ticket->index;
    internal[3] = ticket->number;
}

/* The gates: first one for each participant, whose descriptor tells of its replies; then one for each call, at which the
   thread sleeps that waits for it. */
static inline struct nr_gate *nr_shm_calls_gate(const struct nr_shm *shm, uint32_t index)
{
    return &shm->gates[shm->calls.participants_count + index];
}

int nr_shm_calls_take(struct naru_endpoint *endpoint, struct naru_message *ret,
                      struct nr_deadline *deadline);
int nr_shm_calls_reply_loan(struct naru_endpoint *endpoint, const struct naru_message *request,
                            void **ret_data);
int nr_shm_calls_reply(struct naru_endpoint *endpoint, struct naru_message *request,
                       const struct nr_reply *reply);
int nr_shm_calls_requeue(struct naru_endpoint *endpoint, struct naru_message *request);
