/* SPDX-License-Identifier: MIT */
#pragma once
/* shm_topic -- what the two files of topics share */
#include "transport/shm.h"

/* Lossless. */
int nr_shm_topic_recv(struct naru_endpoint *endpoint, struct nr_in *in,
                      struct nr_deadline *deadline);
int nr_shm_topic_recv_short(struct naru_endpoint *endpoint, void *data, size_t capacity_bytes,
                            int64_t timeout_ns);
int nr_shm_topic_take(struct naru_endpoint *endpoint, struct naru_message *ret,
                      struct nr_deadline *deadline);
int nr_shm_topic_ack(struct naru_endpoint *endpoint, struct naru_message *message);
int nr_shm_topic_requeue(struct naru_endpoint *endpoint, struct naru_message *message);

/* Overwriting. */
int nr_shm_topic_recv_newer(struct naru_endpoint *endpoint, struct nr_in *in,
                            struct nr_deadline *deadline);
int nr_shm_topic_recv_newer_short(struct naru_endpoint *endpoint, void *data, size_t capacity_bytes,
                                  int64_t timeout_ns);
