/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * duel -- one run of one contestant: two processes, a latency and a rate
 *
 * What       A contestant carries messages between two processes, the server and the client: over a kernel
 *            primitive as a textbook has it (bare.c), or through the library (ours.c). Both run in the very
 *            same loops (duel.c), so what differs is what is compared.
 * Processes  A run forks the server, which prepares and forks the client. They are pinned, and killed by an
 *            alarm if they hang. Nothing outlives a run.
 * Latency    The client sends, the server answers: half of each round trip, its median and its 99th in 100.
 * Rate       The client sends a number of messages, the server answers the last one. On one core one of the two
 *            always runs, so that their processor time is what the stream takes on a machine without others.
 */
#include <mqueue.h>
#include <naru/endpoint.h>
#include <stdbool.h>
#include <sys/types.h>

enum {
    BENCH_ROOM_BYTES =
        8192, /* what a receiver offers; POSIX queues insist on their largest message */
    BENCH_NAME_BYTES = 96,
    BENCH_ERROR_BYTES = 256,
    BENCH_SIGNAL_BYTES = 8,
    BENCH_RING_SLOTS = 64,
};

enum bench_side { BENCH_SERVER, BENCH_CLIENT };

/* A ring in shared memory for the bare contestants of shm and file; one way. */
struct bench_ring {
    _Alignas(64) uint32_t head; /* messages put in; a futex */
    _Alignas(64) uint32_t tail; /* messages taken out; a futex */
    _Alignas(64) uint32_t head_sleepers;
    uint32_t tail_sleepers;
    _Alignas(64) unsigned char slots[BENCH_RING_SLOTS][BENCH_ROOM_BYTES / 2];
};

/* What both processes of a run see; made before the fork. */
struct bench_shared {
    double latency_p50_ns, latency_p99_ns, stream_ns; /* stream_ns: of all messages */
    double cpu_ns[2];                                 /* of each side, while it streamed */
    char error[BENCH_ERROR_BYTES];
    pid_t pid[2];
    struct bench_ring ring[2];
};

/* One process's hold on the channel under test. */
struct bench_link {
    enum bench_side side;
    size_t size_bytes;
    const char *directory; /* for files, removed by main */
    unsigned serial;       /* one per run, for names */
    struct bench_shared *shared;

    int fds
        [4]; /* made before the fork; pipes: [0] and [1] to the server, [2] and [3] to the client */
    int in_fd, out_fd;
    int listen_fd, port;
    int queue_id[2];
    mqd_t queue_fd[2];
    off_t in_offset, out_offset;
    struct naru_endpoint *pair[2];
    struct naru_endpoint *in, *out; /* may be one and the same */
};

struct bench_contestant {
    const char *name;
    void (*prepare)(struct bench_link *link); /* before the fork; may be NULL */
    void (*join)(struct bench_link *link);    /* in each process */
    void (*send)(struct bench_link *link, const void *data);
    void (*recv)(struct bench_link *link, void *room); /* BENCH_ROOM_BYTES */
    void (*leave)(struct bench_link *link);            /* in each process; may be NULL */
    void (*remove)(struct bench_link *link); /* names, after the client has left; may be NULL */
};

struct bench_effort {
    size_t round_trips, messages; /* measured */
    int cpu[2];                   /* where server and client are pinned */
};

struct bench_result {
    double latency_p50_ns, latency_p99_ns;
    double message_ns; /* of the stream: the time a message takes ... */
    double cpu_ns;     /* ... and what it takes of both processes' processor time */
};

/* 0, or -1 with shared->error set. */
int bench_duel_run(const struct bench_contestant *contestant, struct bench_link *link,
                   const struct bench_effort *effort, struct bench_result *ret);

/* Ends this process of a run, and tells why. */
_Noreturn void bench_die(struct bench_link *link, const char *what);      /* errno */
_Noreturn void bench_die_naru(struct bench_link *link, const char *what); /* naru_error_text() */

/* The k-th of n, in place. */
double bench_rank(double *values, size_t count, double rank);

extern const struct bench_contestant bench_bare_pipe, bench_bare_packet_pipe, bench_bare_fifo,
    bench_bare_mq, bench_bare_sysv, bench_bare_signal, bench_bare_seqpacket, bench_bare_unix_stream,
    bench_bare_tcp, bench_bare_futex, bench_bare_cache_line, bench_bare_file;

extern const struct bench_contestant bench_naru_pipe_fd, bench_naru_pipe_pair, bench_naru_fifo,
    bench_naru_mq, bench_naru_mq_pair, bench_naru_sysv, bench_naru_signal, bench_naru_unix,
    bench_naru_unix_pair, bench_naru_abstract, bench_naru_tcp, bench_naru_tcp_acknowledged,
    bench_naru_shm, bench_naru_shm_one_to_one, bench_naru_shm_pair, bench_naru_file;
