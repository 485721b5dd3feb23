/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * endpoint -- open a channel by its URI, and move messages across it
 *
 * What       A channel is a named place that messages cross; an endpoint is one process's open side
 *            of it. The technique is chosen by the URI alone:
 *              shm://name  shm:///path  file:///path  pipe://  fifo:///path  mq://name
 *              sysv://key-or-path  unix:///path  abstract://name  tcp://host:port  signal://pid
 * Messages   arrive whole or not at all, whatever the technique. naru(7) tells for each what holds
 *            when a sender or a receiver is killed; naru_transport_row() tells it to a program.
 * Blocking   Every call that may wait takes a time-out in nanoseconds: 0 tries once (-EAGAIN),
 *            NARU_FOREVER waits, anything else ends in -ETIMEDOUT. Elapsed time never decides that
 *            a peer is dead: the kernel does.
 * Threads    Any thread may send or receive on an endpoint at any time, unless it was opened with
 *            `one_to_one`. naru_close() excludes all other calls.
 * Fork       An endpoint belongs to the process that opened it. In a forked child every call returns
 *            -ECHILD, and naru_close() only gives the memory and descriptors back. naru_pair() ends
 *            are handed to a child with naru_pair_assign().
 * Signals    No function here is async-signal-safe, except naru_interrupt().
 */
#include <naru/message.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

struct naru_endpoint;

enum naru_role {
    NARU_SENDER = 1,
    NARU_RECEIVER = 2,
    NARU_BOTH = 3,     /* the ends of a pair; and by name where the table says so */
    NARU_OBSERVER = 4, /* named shm://: only looks, by naru_stat() and naru_stat_participant() */
};

enum naru_pattern {
    NARU_QUEUE = 1, /* each message to exactly one receiver */
    NARU_TOPIC,     /* each message to every subscriber */
    NARU_CALL,      /* request and reply */
    NARU_CELL,      /* only the newest value */
};

/* How naru_open() treats a channel that does or does not exist. */
enum naru_create {
    NARU_CREATE_OR_ATTACH = 0, /* the default */
    NARU_ATTACH,               /* it must exist: else -ENOENT */
    NARU_CREATE,               /* it must not exist: else -EEXIST */
};

/* Contract, part one: what naru_send() does when the channel is full. */
enum naru_when_full {
    NARU_BLOCK = 1, /* wait for room, up to the time-out (default) */
    NARU_DROP_NEWEST,
    NARU_OVERWRITE_OLDEST,
    NARU_FAIL, /* -ENOBUFS at once */
};

/* Contract, part two: what happens to a message in the hand of a receiver that dies. */
enum naru_delivery {
    NARU_AT_LEAST_ONCE = 1, /* it goes to another receiver, flagged NARU_REDELIVERED */
    NARU_AT_MOST_ONCE,      /* it counts as lost; nothing arrives twice */
};

/* How long a committed message lasts, for file:// */
enum naru_durability {
    NARU_DURABLE_NONE = 1,     /* survives any process, not a power cut (default) */
    NARU_DURABLE_PERIODIC,     /* synced to the device once a second while messages come */
    NARU_DURABLE_EVERY_COMMIT, /* naru_send() returns when the device has it */
};

/* Topic: where a receiver that comes late begins. */
enum naru_start {
    NARU_FROM_NOW = 1, /* with what is sent from now on (default) */
    NARU_FROM_OLDEST,  /* with the oldest that is still kept */
    NARU_FROM_LAST,    /* with the last `start_messages` that are still kept */
};

/* tcp:// only: when is a message committed? */
enum naru_acknowledge {
    NARU_ACKNOWLEDGED = 1,   /* when the receiving endpoint has confirmed it (default) */
    NARU_UNACKNOWLEDGED = 2, /* when the kernel has taken it: faster, and lost if the peer dies */
};

/*
 * Options. Zero is the default everywhere, so start with
 *     struct naru_options options = {.size_bytes = sizeof options};
 * The process that creates a channel fixes its pattern, contract and sizes. For one that attaches,
 * each field it sets must match what the channel says, else the open fails (-EINVAL) and the text
 * names both values. A field that the technique cannot honour is refused (-EOPNOTSUPP), not ignored.
 */
struct naru_options {
    size_t size_bytes; /* sizeof(struct naru_options) */
    enum naru_create create;
    enum naru_pattern pattern;       /* default NARU_QUEUE */
    enum naru_when_full when_full;   /* default NARU_BLOCK */
    enum naru_delivery delivery;     /* default: what the technique gives */
    enum naru_durability durability; /* file:// */
    enum naru_acknowledge acknowledge;
    size_t message_size_max_bytes; /* largest message; default: the technique's own */
    size_t capacity_messages;      /* messages that fit; default: the technique's own */
    size_t payload_bytes;          /* shm://: room for large payloads in all */
    uint32_t participants_max;     /* shm://, file://: processes at once, 1..4096, default 64 */
    uint32_t held_max;             /* shm://: messages a receiver may hold unacknowledged */
    uint32_t file_mode;            /* permission bits of what is created; default 0600 */
    uint32_t one_to_one;           /* 1: exactly one sender and one receiver; enforced; faster */
    int64_t peer_timeout_ns;       /* opening: how long to wait for the other side; 0: 10 s */
    int64_t type;                  /* sysv://: receive only this type (msgrcv's msgtyp) */
    int32_t signal_number;         /* signal://: default SIGRTMIN + 1 */
    uint32_t peer_uid_any;   /* unix://: 1 accepts peers of any user; default: only ours and root */
    enum naru_start start;   /* topic, receiver: where it begins */
    uint32_t start_messages; /* with NARU_FROM_LAST: how many */
    uint32_t
        read_only; /* cell, overwriting topic: 1: a receiver that maps the segment read-only, and is
                                not seen; a sender that creates it: such receivers may come */
    uint32_t reserved0;
    uint64_t reserved[6];
};

/*
 * Opens the channel `uri` names and stores the endpoint in *ret. May wait for the other side where
 * the technique needs one (fifo: a sender waits for a receiver; unix, tcp: see naru(7)), at most
 * options->peer_timeout_ns. `options` may be NULL.
 * Errors: -EINVAL the URI or an option is malformed, or contradicts the channel; -EPROTONOSUPPORT no
 * such scheme; -EOPNOTSUPP the technique cannot do that; -ENOENT, -EEXIST see enum naru_create;
 * -EACCES; -ENOSPC, -ENOMEM, -EMFILE, -ENFILE no resources; -EBADMSG it exists but is not Naru's or
 * is damaged; -EPROTO another layout version; -EXDEV made in another PID namespace; -EBUSY taken, the
 * text names by whom; -ETIMEDOUT nobody came. The text tells the cure.
 */
NARU_API int naru_open(struct naru_endpoint **ret, const char *uri, enum naru_role role,
                       const struct naru_options *options);

/*
 * Makes an anonymous channel and both its ends, before a fork. What is sent on one end is received
 * on the other, both ways. `uri` is a bare scheme: pipe:// unix:// mq:// shm://. Nothing is left
 * behind, however the processes end. Without a fork both ends work in this process. An end of a shm://
 * pair is one_to_one: one thread at a time sends on it, one receives, with one loan and one taken
 * message at a time.
 */
NARU_API int naru_pair(struct naru_endpoint *ret[2], const char *uri,
                       const struct naru_options *options);

/*
 * Says to which process `end` of a pair belongs from now on. After a bare fork the parent calls
 * naru_pair_assign(end, child_pid), which lets go of its own copy of that end and watches the child,
 * so that its death is noticed even before its first call; the child calls
 * naru_pair_assign(end, getpid()), which makes that end usable there and lets go of the other one.
 * Both then naru_close() the end that they do not use, whenever they like. Where pidfd_open(2) is refused
 * (a sandbox, valgrind) a death is noticed by end-of-file (pipe, unix) or by calls that wait, not by naru_fd().
 * Errors: -EINVAL not an end of a pair; -ESRCH no such process.
 */
NARU_API int naru_pair_assign(struct naru_endpoint *end, pid_t pid);

/*
 * Ends an endpoint: what was committed stays; messages still held go back to the channel where it
 * has a memory; peers see that this side ended (as opposed to died). NULL is allowed. Also frees an
 * endpoint in a forked child. Does not block, except in tcp:// as long as it takes to hand over.
 */
NARU_API void naru_close(struct naru_endpoint *endpoint);

/*
 * Removes what the name stands for (fifo, queue, segment, journal, socket file). Endpoints that are
 * open go on until they are closed; but a System V queue is gone at once, with its messages, and they
 * get -EPIPE. -ENOENT when there is nothing; -EBADMSG when the object at that path is not a channel of
 * that kind, so nothing was removed; -EOPNOTSUPP for pipe and signal.
 */
NARU_API int naru_unlink(const char *uri);

/*
 * Sends one message. Returns 0 when it is committed: what that means when processes die is in the
 * table of naru(7). A message of size 0 is a message (except for signal://, which sends 8 bytes).
 * Errors: -EMSGSIZE larger than the channel carries; -EAGAIN, -ETIMEDOUT no room; -EPIPE the other
 * side ended; -EOWNERDEAD it died; -EBUSY shm://: a stopped process is in the way, named in the
 * text; -EINTR after naru_interrupt(); -ECHILD a forked child's copy; -EBADF not a sender.
 */
NARU_API int naru_send(struct naru_endpoint *endpoint, const void *data, size_t size_bytes,
                       int64_t timeout_ns);

/* The same from several parts, with a type: `attributes` may be NULL; only its `type` is read. */
NARU_API int naru_sendv(struct naru_endpoint *endpoint, const struct iovec *parts, int parts_count,
                        const struct naru_message *attributes, int64_t timeout_ns);

/*
 * Sends up to `count` messages, in order, each whole (fields data, size_bytes, type). Waits only
 * for the first. Returns how many were committed, at least 1, or an error if none was.
 */
NARU_API int naru_send_many(struct naru_endpoint *endpoint, const struct naru_message *messages,
                            size_t count, int64_t timeout_ns);

/*
 * Receives one message into `data`, and acknowledges it. *ret_size_bytes is the message's size
 * (NULL allowed). Errors: -EMSGSIZE it is larger than `capacity_bytes`: *ret_size_bytes tells the
 * room it needs, and it is kept for the next call; -EAGAIN, -ETIMEDOUT nothing there; -EPIPE the
 * other side ended, and all it sent was received; -EOWNERDEAD it died; otherwise as naru_send().
 * After -EPIPE or -EOWNERDEAD the next call waits for the next sender, where another can come: not
 * on the end of a pair, nor on an endpoint that is attached to a listener of unix:// or tcp://.
 */
NARU_API int naru_recv(struct naru_endpoint *endpoint, void *data, size_t capacity_bytes,
                       size_t *ret_size_bytes, int64_t timeout_ns);

/*
 * Receives up to `count` messages into the caller's memory (fields data, capacity_bytes) with all
 * that is known about each. Waits only for the first. Returns how many came, at least 1. A message
 * that does not fit ends the batch and stays; if it is the first: -EMSGSIZE and size_bytes set.
 * Of an entry behind those that came, only data and capacity_bytes are as they were.
 */
NARU_API int naru_recv_many(struct naru_endpoint *endpoint, struct naru_message *messages,
                            size_t count, int64_t timeout_ns);

/*
 * Loan: memory for a message of up to `size_bytes`, to be written in place and then committed (as
 * sent; set message->size_bytes to less if it became shorter, and message->type) or cancelled.
 * In shm:// without a copy; elsewhere the endpoint's own memory. naru_commit() waits for room at
 * most as long as the loan was allowed to; on error the loan stays, to be tried again or cancelled.
 * A loan of calls is a request: it is sent by naru_call(), not by naru_commit() (call.h).
 */
NARU_API int naru_loan(struct naru_endpoint *endpoint, size_t size_bytes,
                       struct naru_message *ret_message, int64_t timeout_ns);
NARU_API int naru_commit(struct naru_endpoint *endpoint, struct naru_message *message);
NARU_API int naru_cancel(struct naru_endpoint *endpoint, struct naru_message *message);

/*
 * Takes the next message in place, of any size; it is held until naru_ack() (done) or naru_requeue()
 * (goes to the next receiver, flagged NARU_REDELIVERED). Under at-least-once a receiver that dies in
 * between gives it to another one, where the technique has a memory of its own (shm, file). Elsewhere a
 * requeued message is what this endpoint receives next: by the next call, since a thread that is waiting
 * in one already is not woken by it.
 */
NARU_API int naru_take(struct naru_endpoint *endpoint, struct naru_message *ret_message,
                       int64_t timeout_ns);
NARU_API int naru_ack(struct naru_endpoint *endpoint, struct naru_message *message);
NARU_API int naru_requeue(struct naru_endpoint *endpoint, struct naru_message *message);

/*
 * unix://, abstract:// and their pairs only: sends and receives open file descriptors (1 to 64) with
 * a message. The receiver owns what it gets; they are close-on-exec. *fds_count is the room before
 * the call and the number after it; descriptors that do not fit are closed and the message is
 * flagged by returning 1 instead of 0.
 */
NARU_API int naru_send_fds(struct naru_endpoint *endpoint, const void *data, size_t size_bytes,
                           const int *fds, size_t fds_count, int64_t timeout_ns);
NARU_API int naru_recv_fds(struct naru_endpoint *endpoint, void *data, size_t capacity_bytes,
                           size_t *ret_size_bytes, int *fds, size_t *fds_count, int64_t timeout_ns);

/*
 * A descriptor for the caller's own poll, select or epoll, level-triggered: readable while something
 * may be received (naru_fd) or sent (naru_send_fd), including an end or a death to be told. It may be
 * readable for nothing, never silent: after it was readable, call with a time-out of 0 until -EAGAIN
 * (shm://: or -EBUSY), which arms it again. Belongs to the endpoint: do not read, write or close it. The same number for
 * the endpoint's life. -EOPNOTSUPP where the technique has none (naru_send_fd on sysv://, signal://).
 */
NARU_API int naru_fd(struct naru_endpoint *endpoint);
NARU_API int naru_send_fd(struct naru_endpoint *endpoint);

/*
 * Ends the wait that a thread is in on this endpoint, or, if there is none, the next one, with
 * -EINTR. One call ends one wait. Calls with a time-out of 0 are not affected.
 * Async-signal-safe, thread-safe, does not block.
 */
NARU_API int naru_interrupt(struct naru_endpoint *endpoint);

struct naru_stat {
    size_t size_bytes; /* sizeof(struct naru_stat), set by the caller */
    char scheme[16];
    enum naru_role role;
    enum naru_pattern pattern;
    enum naru_when_full when_full;
    enum naru_delivery delivery;
    size_t message_size_max_bytes;
    uint64_t capacity_messages; /* 0: not counted in messages, or unknown */
    uint64_t queued_messages;   /* waiting in the channel; only if NARU_STAT_QUEUED in `known` */
    uint64_t queued_bytes;      /* likewise NARU_STAT_QUEUED_BYTES */
    uint64_t sent_messages, sent_bytes;         /* by this endpoint */
    uint64_t received_messages, received_bytes; /* by this endpoint */
    uint64_t lost_messages;                     /* known to this endpoint */
    uint32_t peers;                             /* only if NARU_STAT_PEERS in `known` */
    uint32_t known;
    uint64_t reserved[8];
};
enum naru_stat_field {
    NARU_STAT_QUEUED = 1 << 0,
    NARU_STAT_QUEUED_BYTES = 1 << 1,
    NARU_STAT_PEERS = 1 << 2,
};

/* Fills *stat. Never blocks. */
NARU_API int naru_stat(struct naru_endpoint *endpoint, struct naru_stat *stat);

enum naru_participant_state {
    NARU_ACTIVE = 1,
    NARU_WAITS_FOR_MESSAGE, /* asleep in a call */
    NARU_WAITS_FOR_ROOM,
    NARU_STOPPED, /* by a signal such as SIGSTOP; it lives */
    NARU_DEAD,    /* what it left is not repaired yet */
};

/* One endpoint of a channel, as it counts itself in the channel. */
struct naru_participant {
    size_t size_bytes; /* sizeof(struct naru_participant), set by the caller */
    int32_t pid;
    enum naru_role role;
    enum naru_participant_state state;
    uint32_t held_messages; /* taken, and neither acknowledged nor put back */
    uint32_t loans;         /* lent to be sent, and neither committed nor cancelled */
    uint64_t sent_messages, sent_bytes;
    uint64_t received_messages, received_bytes;
    uint64_t blocked_ns; /* asleep in calls, the present one included */
    uint64_t reserved[8];
};

/*
 * Fills *participant with the index-th endpoint that is attached, from 0 on, this one included; -ENOENT
 * when there are no more. Endpoints that come and go between two calls may be missed or told twice. Only
 * named channels of shm:// know them; elsewhere -EOPNOTSUPP. Never blocks.
 */
NARU_API int naru_stat_participant(struct naru_endpoint *endpoint, size_t index,
                                   struct naru_participant *participant);

#ifdef __cplusplus
}
#endif
