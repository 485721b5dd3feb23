/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * duel -- one run of one contestant: processes that carry messages, a latency or a rate
 *
 * What       A contestant carries messages between processes: through the library (ours.c), over a kernel
 *            primitive as a textbook has it (bare.c), over a bare cache line, futex or eventfd (probe.c), or
 *            through another library (peers/). All run in the very same loops (duel.c), so what differs is
 *            what is compared.
 * Processes  A run forks the server (the first receiver), which prepares and forks the others. They are pinned,
 *            and killed by an alarm if they hang, and when the process above them dies. Nothing outlives a run.
 * Latency    The client sends, the server answers: round trips, each by itself, until the time is over.
 * Rate       Senders send, receivers receive. The caller looks at their counters, processor time and context
 *            switches twice, and takes the difference, so that neither start nor end is in it. Then ends are
 *            sent, and what was sent must have come.
 * Alone      One thread sends and receives in turn: the time that takes.
 */
#include "histogram.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    BENCH_ROOM_BYTES =
        8192, /* what a receiver offers at least: POSIX queues insist on their largest message */
    BENCH_NAME_BYTES = 96,
    BENCH_ERROR_BYTES = 512,
    BENCH_SIGNAL_BYTES = 8,
    BENCH_WORKERS_MAX = 64, /* senders and receivers */
    BENCH_RUN = 16,         /* messages between two looks at the clock or the end */
    /* The first byte of a message: the last one is told by it. */
    BENCH_MARK = 'x',
    BENCH_MARK_END = 'z',
};

enum bench_side { BENCH_SERVER, BENCH_CLIENT };

enum bench_measure { BENCH_LATENCY, BENCH_RATE, BENCH_ALONE };

/* How who has nothing to receive, or no room, waits. */
enum bench_wait {
    BENCH_SPIN,  /* without sleeping, each on a core of its own */
    BENCH_BLOCK, /* in a call that sleeps */
    BENCH_EPOLL, /* the receiver in epoll_wait(2), on a descriptor */
};

struct bench_task {
    enum bench_measure measure;
    enum bench_wait wait;
    size_t size_bytes;           /* at least 1 */
    unsigned senders, receivers; /* of a rate; of a latency only receivers of a topic */
    unsigned batch;              /* messages handed over at once; 1: each by itself */
    unsigned participants; /* so many are attached in all; those beyond the workers do nothing */
    size_t capacity;       /* messages that the channel holds; 0: the contestant's own idea */
    bool loan;             /* in place; of the message only the mark is written and read */
    bool each_to_all;      /* a message goes to every receiver */
    bool only_newest;      /* messages may be replaced before they are received */
    bool is_round_trip;    /* to send is to have the answer as well */
    int cpu[2];            /* of the senders and of the receivers; more than two share both */
    int64_t duration_ns;
};

/* What all processes of a run see; made before the fork. */
struct bench_worker {
    __attribute__((aligned(64))) uint64_t messages;
    pid_t pid;
};

struct bench_shared {
    char error[BENCH_ERROR_BYTES];
    pid_t pid[2]; /* of the first of each side */
    uint32_t ready_count, done_count, senders_done, stop;
    int64_t alone_ns;
    struct bench_histogram round_trips;
    struct bench_worker workers[BENCH_WORKERS_MAX]; /* receivers, then senders */
};

/* One process's hold on the channel under test. */
struct bench_link {
    const struct bench_contestant *contestant;
    const struct bench_task *task;
    struct bench_shared *shared;
    void *area; /* shared memory of contestant->area_bytes(), zero at first */
    enum bench_side side;
    unsigned index; /* among those of the same side */
    bool one_way;   /* clients send, servers receive; else both do both */
    unsigned ends;  /* so many of them were received */
    size_t size_bytes, room_bytes;
    int64_t timeout_ns, send_timeout_ns; /* of a call that waits */
    int idle_fd[2];                      /* who is only attached waits for its end */

    /* The contestants' own. */
    int fds
        [4]; /* made before the fork; pipes: [0] and [1] to the server, [2] and [3] to the client */
    int in_fd, out_fd, epoll_fd;
    int listen_fd, port;
    int queue_id[2], queue_fd[2];
    off_t in_offset, out_offset;
    struct naru_endpoint *pair[2];
    struct naru_endpoint *in, *out; /* may be one and the same */
    struct naru_endpoint **more_in; /* of a topic: further subscribers in the same process */
    struct naru_message *messages;  /* of a batch */
    void *own;
};

struct bench_contestant {
    const char *name;
    size_t (*area_bytes)(const struct bench_task *task); /* may be NULL */
    void (*prepare)(struct bench_link *link); /* in the server, before it forks; may be NULL */
    void (*join)(struct bench_link *link);    /* in each process */
    void (*send)(struct bench_link *link, const void *data);
    void (*recv)(struct bench_link *link, void *room); /* room_bytes; room[0] is the mark */
    /* Several, as fast as it goes; may be NULL. recv_run returns how many came before the end. */
    void (*send_run)(struct bench_link *link, const void *data, unsigned count);
    unsigned (*recv_run)(struct bench_link *link, void *room, unsigned count);
    void (*leave)(struct bench_link *link); /* in each process; may be NULL */
    void (*remove)(
        struct bench_link *link); /* in the server, after the others have left; may be NULL */
    void (*opened)(const struct bench_link *link); /* in the caller: all have joined; may be NULL */
};

struct bench_result {
    struct bench_histogram round_trips; /* ns; of a latency */
    double messages, window_ns;         /* of a rate: received within the window; of alone */
    double cpu_ns, switches;            /* of all workers, within the window */
};

/* 0, or -1 with the reason. */
int bench_duel_run(const struct bench_contestant *contestant, const struct bench_task *task,
                   struct bench_result *ret, char error[BENCH_ERROR_BYTES]);

/* The caller's signals: asked whenever one has interrupted a run, which then ends with -1. NULL: never. */
extern bool (*bench_duel_is_stopped)(void);

/* Ends this process of a run, and tells why. */
void bench_die(struct bench_link *link, const char *what) __attribute__((noreturn)); /* errno */
void bench_die_text(struct bench_link *link, const char *what, const char *text)
    __attribute__((noreturn));

int64_t bench_now_ns(void);

/* The context switches of a process so far: all that were voluntary, and all that were not. */
double bench_duel_switches(pid_t pid);

/* The k-th of n, in place. */
double bench_rank(double *values, size_t count, double rank);

static inline void bench_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Runs of single messages with `send` and `recv` inlined: for contestants that cost less than a call. */
#define BENCH_RUNS(prefix, send_one, recv_one)                                                     \
    static void prefix##_send_run(struct bench_link *link, const void *data, unsigned count)       \
    {                                                                                              \
        for (unsigned i = 0; i < count; i++)                                                       \
            send_one(link, data);                                                                  \
    }                                                                                              \
    static unsigned prefix##_recv_run(struct bench_link *link, void *room, unsigned count)         \
    {                                                                                              \
        for (unsigned i = 0; i < count; i++) {                                                     \
            recv_one(link, room);                                                                  \
            if (*(const volatile unsigned char *)room == BENCH_MARK_END) {                         \
                link->ends++;                                                                      \
                return i;                                                                          \
            }                                                                                      \
        }                                                                                          \
        return count;                                                                              \
    }

/* The probes: what two processes on these cores need at least to hand over a payload (probe.c). */
extern const struct bench_contestant bench_probe_line, bench_probe_futex, bench_probe_eventfd;

#ifdef __cplusplus
}
#endif
