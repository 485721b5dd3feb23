/* SPDX-License-Identifier: MIT */
#pragma once
/* mq -- the insides of mq://, shared by mq.c (queues, messages) and mq_pair.c (making pairs) */
#include "base/cleanup.h"
#include "os/queue.h"
#include "transport/kernel_queue.h"

enum {
    NR_MQ_NAME_BYTES = NR_URI_NAME_MAX + 2,
    NR_MQ_MESSAGES_DEFAULT = 10,
    NR_MQ_BYTES_DEFAULT = 8192
};

/* In memory that the two sides share; each flag is written by its side alone. */
struct nr_mq_page {
    uint32_t ended[2];
};

/* What both ends of a pair in one process refer to. */
struct nr_mq_link {
    int references;
    struct nr_mq_page *page;
};

struct nr_mq {
    struct naru_endpoint endpoint;
    int receive_fd, send_fd; /* -1: not in this role; by name and with both roles the same number */
    size_t message_bytes;    /* what the kernel wants as room for any message */
    char name[NR_MQ_NAME_BYTES];

    /* A pair's only: */
    struct nr_mq_link *link;
    int side;
    int ended_fd[2]; /* eventfd: side 0, 1 has ended */
    int wait_fd[2];  /* epoll: a message or the other's end; room or the other's end */
};

static inline struct nr_mq *nr_mq_of(struct naru_endpoint *endpoint)
{
    return (struct nr_mq *)endpoint;
}

/* The sizes to create a queue with: what the options say, else what the kernel allows by default. */
struct nr_os_mq_sizes nr_mq_sizes_wanted(const struct naru_options *options);

/* The sentence for an mq_open(2) that failed. */
int nr_mq_fail_open(const char *text, int error, const struct nr_os_mq_sizes *sizes);

int nr_mq_new(struct nr_mq **ret, const struct nr_request *request);

/* Takes what the queue really has into the endpoint's options, and checks them against the request. */
int nr_mq_settle(const struct nr_request *request, int fd, struct nr_mq *mq);

void nr_mq_release(struct naru_endpoint *endpoint);

unsigned nr_mq_descriptors_held(struct naru_endpoint *endpoint, int *ret[NR_ENDPOINT_FDS_MAX]);
int nr_mq_pair(struct naru_endpoint *ret[2], const struct nr_request *request);
