/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * rows -- the forms of each technique that the suite runs over, and how to make a channel of one
 *
 * What       A row is one way to have a connected sender and receiver: a scheme by name, a pair, an
 *            inherited descriptor, an option that changes how it works. It says what that way promises;
 *            a case that needs more than a row has is not run on it (and the case "refuses what it can't"
 *            sees to it that what it lacks is refused).
 * To add     one entry in nr_rows[], and in conformance.c the scheme among those expected.
 */
#include "kit.h"

enum nr_row_has {
    NR_NAMED = 1 << 0, /* naru_open() by a name that naru_unlink() removes */
    NR_PAIR = 1 << 1,  /* naru_pair() */
    NR_MANY_SENDERS = 1 << 2,
    NR_MANY_RECEIVERS = 1 << 3,
    NR_BUFFERS = 1 << 4,      /* a send succeeds without a receiver at work */
    NR_FILLS = 1 << 5,        /* it becomes full */
    NR_ENDS = 1 << 6,         /* -EPIPE when all senders have closed */
    NR_DIES = 1 << 7,         /* -EOWNERDEAD when a sender has died */
    NR_TELLS_SENDER = 1 << 8, /* a send fails when the receiver has gone for good */
    NR_LASTS = 1 << 9,        /* messages stay when nobody has it open */
    NR_SEND_FD = 1 << 10,
    NR_FDS = 1 << 11,           /* naru_send_fds() */
    NR_TYPES = 1 << 12,         /* a received message tells its type */
    NR_EIGHT = 1 << 13,         /* messages of 8 bytes and no others */
    NR_BOTH = 1 << 14,          /* NARU_BOTH by name */
    NR_PATH = 1 << 15,          /* the name is a path, and permissions are a file's */
    NR_GIVES_BACK = 1 << 16,    /* what a receiver held when it closed or died goes to another */
    NR_SENDER_FIRST = 1 << 17,  /* a sender may open before any receiver has */
    NR_OBJECT = 1 << 18,        /* attach and create tell an object that is there */
    NR_SIZES = 1 << 19,         /* the creator's message_size_max_bytes holds for the channel */
    NR_CREATES_FIRST = 1 << 20, /* who creates listens, and takes the other role's peers, many */
    NR_SEVERAL_FRAGMENTS = 1 << 21, /* many receivers only for small messages */
    NR_GONE_WITH_NAME = 1 << 23,    /* naru_unlink() ends it for those who have it open, too */
    NR_OTHERS_NAMED = 1 << 25,      /* a pair of a scheme that has names, too */
    NR_ONE_IN_HAND = 1 << 26,       /* one loan and one taken message at a time: -EBUSY */
    NR_ONE_RECEIVER = 1 << 27,      /* a second one is refused while the first is there */
    NR_FORBIDS = 1 << 24,           /* other users are kept out */
    NR_ONE_TO_ONE = 1 << 22,        /* one thread on each side */
    NR_NEWEST = 1 << 28,            /* a cell: a message replaces the one before */
    NR_CALLS = 1 << 29,             /* request and reply */
    NR_OVERWRITES = 1u << 31,       /* when full, the oldest message goes */
    NR_EVERY = 1 << 30,             /* a topic: each message to every receiver */
};

enum { NR_SENDER_END = 1, NR_RECEIVER_END = 0 };

struct nr_channel;

struct nr_row {
    const char *name, *scheme;
    unsigned has;
    size_t large_bytes; /* the largest message that the cases try, if the channel carries it */
    struct naru_options options;
    void (*name_it)(struct nr_channel *channel);
};

/* What the processes of one channel tell each other. */
struct nr_channel_shared {
    int receivers_ready, senders_ready, receiver_pid;
    int go, done, stop;
    int count[8];
    uint64_t sum[8];
    unsigned char seen[8192];
};

struct nr_channel {
    const struct nr_row *row;
    struct naru_options options;
    char uri[256], sender_uri[256]; /* the second if senders open another one, else "" */
    int pipe_fds[2];                /* an inherited pipe; -1 */
    struct naru_endpoint *end[2];   /* this process's: receiver, sender */
    struct nr_channel_shared *shared;
};

static inline enum naru_pattern nr_row_pattern(const struct nr_row *row)
{
    return row->options.pattern ? row->options.pattern : NARU_QUEUE;
}

extern const struct nr_row nr_rows[];
extern const size_t nr_rows_count;

/* The names that were made are noted in memory that outlives a killed test, and can be removed after it. */
void nr_rows_begin(void);
void nr_rows_remove_names(void);

/* A channel with a name of its own, not open yet. */
void nr_channel_init(struct nr_channel *channel, const struct nr_row *row);

/* Opens this process's end, which must succeed. A pair opens both. */
struct naru_endpoint *nr_channel_open(struct nr_channel *channel, enum naru_role role);
void nr_channel_open_both(struct nr_channel *channel);

/* Closes this process's copies of an inherited pipe: the endpoints have their own, and these would keep
   the stream open when all of those have gone. */
void nr_channel_let_go(struct nr_channel *channel);

/* naru_open() with other options and a result; `options` NULL: the channel's. */
int nr_channel_try(struct nr_channel *channel, enum naru_role role,
                   const struct naru_options *options, struct naru_endpoint **ret);

/* A process that opens an end in `role`, calls body, closes it and exits. A pair must not be open yet:
   this process keeps the other end. */
typedef void nr_channel_body(struct nr_channel *channel, struct naru_endpoint *endpoint,
                             int number);
pid_t nr_channel_spawn(struct nr_channel *channel, enum naru_role role, nr_channel_body *body,
                       int number);

/* Closes what is open here. */
void nr_channel_close(struct nr_channel *channel);
void nr_channel_close_end(struct nr_channel *channel, int end);

/* Closes, and removes the name. */
void nr_channel_deinit(struct nr_channel *channel);

/* The largest message of an open endpoint, at most the row's large_bytes. */
size_t nr_channel_largest(struct nr_channel *channel, struct naru_endpoint *endpoint);
