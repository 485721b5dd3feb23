/* SPDX-License-Identifier: MIT */
#pragma once
/* shm_bytes -- what the two files of one to one, and of pairs, share */
#include "transport/shm.h"

/* At the start of each operation: from here on this thread's death wakes a sleeper. */
static inline void nr_shm_bytes_operate(struct nr_shm *shm)
{
    nr_os_futex_arm(&shm->header->death_word);
}

/* The other side has died, or has closed: the error, with its text. */
int nr_shm_bytes_died(struct nr_shm *shm);
int nr_shm_bytes_closed(struct nr_shm *shm);

/* Asks for a pair's other side, each time before sleeping and now and then otherwise. */
int nr_shm_bytes_peer(struct nr_shm *shm, const struct nr_shm_pause *pause);

/* -- shm_bytes_recv.c -- */

bool nr_shm_bytes_may_recv(struct nr_shm *shm);
int nr_shm_bytes_recv(struct naru_endpoint *endpoint, struct nr_in *in,
                      struct nr_deadline *deadline);
int nr_shm_bytes_recv_short(struct naru_endpoint *endpoint, void *data, size_t capacity_bytes,
                            int64_t timeout_ns);
size_t nr_shm_bytes_recv_more(struct naru_endpoint *endpoint, struct naru_message *messages,
                              size_t count);
int nr_shm_bytes_take(struct naru_endpoint *endpoint, struct naru_message *ret,
                      struct nr_deadline *deadline);
int nr_shm_bytes_ack(struct naru_endpoint *endpoint, struct naru_message *message);
int nr_shm_bytes_requeue(struct naru_endpoint *endpoint, struct naru_message *message);
