/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * pipe -- the inside of pipe:// and fifo:// : what its files share
 *
 * pipe.c       sending and receiving
 * pipe_open.c  opening, pairs, closing; the tables of functions
 */
#include "base/cleanup.h"
#include "os/pipe.h"
#include "transport/assembly.h"
#include "transport/endpoint.h"

enum {
    NR_PIPE_DATA = 0x4e505030, /* "NPP0": the last byte is the format's version and the kind */
    NR_PIPE_HELLO = 0x4e505031,
    NR_PIPE_GOODBYE = 0x4e505032,
    NR_PIPE_SIZE_BYTES = 256 * 1024, /* 64 packets */
};

struct nr_pipe_header {
    uint32_t kind;
    int32_t pid;
    uint64_t sender;  /* random, one for each sending endpoint */
    uint64_t message; /* counts this sender's messages */
    uint32_t offset_bytes;
    uint32_t total_bytes;
    int64_t type;
};

enum { NR_PIPE_FRAGMENT_BYTES = PIPE_BUF - sizeof(struct nr_pipe_header) };

struct nr_pipe {
    struct naru_endpoint endpoint;
    struct nr_os_pipe_end in, out;
    bool is_pair, is_named;
    bool had_writer; /* someone has had the FIFO open to write since we opened it */
    bool said_hello;
    bool peer_ended; /* pair: GOODBYE came */
    pid_t pid;       /* mine */
    uint64_t sender;
    uint64_t messages; /* sent */
    struct nr_assembly assembly;
};

static inline struct nr_pipe *nr_pipe_of(struct naru_endpoint *endpoint)
{
    return nr_container_of(endpoint, struct nr_pipe, endpoint);
}

/* A header by itself, whole: NR_PIPE_HELLO or NR_PIPE_GOODBYE. */
int nr_pipe_put_header(struct nr_pipe *pipe, uint32_t kind, struct nr_deadline *deadline);

/* As soon as it is open, so that a death before the first message is noticed. When the pipe is full, before
   that message. */
void nr_pipe_hello(struct nr_pipe *pipe);

int nr_pipe_send(struct naru_endpoint *endpoint, const struct nr_out *out,
                 struct nr_deadline *deadline);
int nr_pipe_recv(struct naru_endpoint *endpoint, struct nr_in *in, struct nr_deadline *deadline);
