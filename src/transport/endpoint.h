/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * endpoint -- what a transport is: the contract that one file per technique fulfils
 *
 * What       A transport is a `struct nr_transport` of functions. Its endpoint begins with a
 *            `struct naru_endpoint` (made by nr_endpoint_new) and adds its own fields behind it.
 * Core does  ownership after fork, interrupts' life, roles, sizes against message_size_max, messages
 *            that were put back or did not fit, loans and takes for transports without a memory of
 *            their own, counters, readiness of all this in one descriptor.
 * A transport does  the rest: it may be called by several threads at once (except close), keeps to the
 *            deadline, and returns what its slot says.
 * Layers     A transport calls base, data and os, never core.
 */
#include "base/error.h"
#include "base/uri.h"
#include "base/cleanup.h"
#include "os/clock.h"
#include "os/guard.h"
#include "os/interrupt.h"
#include "os/io.h"
#include "os/lock.h"
#include <naru/call.h>
#include <naru/transport.h>
#include <stdbool.h>
#include <string.h>

enum { NR_MESSAGE_LIMIT_BYTES = 1 << 30 }; /* 1 GiB: the largest message of any stream */
enum { NR_ENDPOINT_FDS_MAX = 8 };          /* of one end of a pair */

/* What an open asks for; `options` is complete: every field has its value or is 0 for "default". */
struct nr_request {
    struct nr_uri uri;
    const char *text; /* the URI as it was given, for error texts */
    enum naru_role role;
    struct naru_options options;
    bool wants_pattern; /* it was given, and is not just the default */
};

/* A message on its way out. parts_count >= 1; the sum of the parts is size_bytes. Without a hole, so that the compiler
   clears no field in two pieces: a load over two stores waits for both, and for all before them, to reach the cache. */
struct nr_out {
    const struct iovec *parts;
    long parts_count;
    size_t size_bytes;
    int64_t type; /* 0: not set */
    const int *fds;
    size_t fds_count;
};

/*
 * A message on its way in. The transport writes it to message->data (capacity_bytes of room) and fills
 * in the fields it knows. If it does not fit and can't stay where it is, the transport hands over a
 * malloc'ed copy of the whole in `spill`, sets message->size_bytes, and returns -EMSGSIZE: core keeps it.
 */
struct nr_in {
    struct naru_message *message;
    void *spill;
    int *fds; /* room for fds_capacity descriptors; fds_count of them arrived */
    size_t fds_capacity, fds_count;
};

/* What a server answers. */
struct nr_reply {
    const void *data;
    size_t size_bytes;
    int32_t error; /* 0: none */
};

typedef int nr_send_way(struct naru_endpoint *endpoint, const void *data, size_t size_bytes,
                        int64_t timeout_ns);

struct nr_transport {
    const char *scheme;
    bool passes_fds; /* naru_send_fds() */

    /* Opens; *ret from nr_endpoint_new(). Sets options to what holds now: sizes, contract. */
    int (*open)(struct naru_endpoint **ret, const struct nr_request *request);

    /* Both ends of an anonymous channel, or NULL: -EOPNOTSUPP. */
    int (*pair)(struct naru_endpoint *ret[2], const struct nr_request *request);

    /* Pair only: `endpoint` was inherited by fork and belongs to this process from now on. May be NULL. */
    int (*adopt)(struct naru_endpoint *endpoint);

    /* Pair only: where the descriptors stand that an adopted end works with, so that a child that closes all others
       keeps them (or gives them other numbers); returns how many. NULL: none. */
    unsigned (*descriptors_held)(struct naru_endpoint *endpoint, int *ret[NR_ENDPOINT_FDS_MAX]);

    /* Tells the other side that this one ends. Only in the owning process, before release. May be NULL. */
    void (*leave)(struct naru_endpoint *endpoint);

    /* Gives back this process's descriptors and memory (not the endpoint itself), without a word to the
       other side. In any process that has a copy; may run twice. */
    void (*release)(struct naru_endpoint *endpoint);

    int (*unlink)(const struct nr_uri *uri);

    /* 0: committed. Waits up to the deadline. `out` fits message_size_max. */
    int (*send)(struct naru_endpoint *endpoint, const struct nr_out *out,
                struct nr_deadline *deadline);

    /* 0: one message in *in. Waits up to the deadline. */
    int (*recv)(struct naru_endpoint *endpoint, struct nr_in *in, struct nr_deadline *deadline);

    /* The short way of a plain message, which core goes first, where it fits and data is not NULL: what can be done with
       few instructions while nothing is unusual. NULL: there is none. Send: ends with nr_endpoint_sent(), or, if nothing was
       done, with otherwise() of the same arguments, so that nothing has to be kept over a call: what is saved is a store,
       and waits in line behind those to the channel. Receive: the size; -EAGAIN: nothing was done, call recv(); or what the
       call returns. It may look again for a little while, unless timeout_ns is 0, but never sleeps. */
    int (*send_short)(struct naru_endpoint *endpoint, const void *data, size_t size_bytes,
                      int64_t timeout_ns, nr_send_way *otherwise);
    int (*recv_short)(struct naru_endpoint *endpoint, void *data, size_t capacity_bytes,
                      int64_t timeout_ns);

    /* Several at once, each as above; NULL: core loops. Return the number, or an error if none. */
    int (*send_many)(struct naru_endpoint *endpoint, const struct naru_message *messages,
                     size_t count, struct nr_deadline *deadline);

    /* What is there now and takes no more than a copy, all fields filled in; 0 if the next one is for recv(), which may also
       find none. NULL: core calls recv(). */
    size_t (*recv_more)(struct naru_endpoint *endpoint, struct naru_message *messages,
                        size_t count);

    /* In place; all NULL where the transport has no memory of its own: core lends from the heap. */
    int (*loan)(struct naru_endpoint *endpoint, size_t size_bytes, struct naru_message *ret,
                struct nr_deadline *deadline);
    int (*commit)(struct naru_endpoint *endpoint, struct naru_message *message);
    int (*cancel)(struct naru_endpoint *endpoint, struct naru_message *message);
    int (*take)(struct naru_endpoint *endpoint, struct naru_message *ret,
                struct nr_deadline *deadline);
    int (*ack)(struct naru_endpoint *endpoint, struct naru_message *message);
    int (*requeue)(struct naru_endpoint *endpoint, struct naru_message *message);

    /* NARU_CALL; NULL elsewhere. Requests come by take, and go by requeue or reply, not by ack, which is NULL; nor does
       a loan go by commit, but by begin: as call->loan, and it stays if that fails.
       begin marks `call` in internal[2] and [3]. end: the reply is copied to the caller's room and the call
       over, or -EMSGSIZE and it stays; with call->in_place it stays as well, and call->reply is where. cancel: 0 it
       is given up, 1 (unless drop_outcome) it has an outcome, which end tells. reply_loan: where the reply is to stand;
       reply copies what does not stand there. reply: 0, or -EPIPE: nobody waits; the request is done with either way. */
    int (*call_begin)(struct naru_endpoint *endpoint, struct naru_call *call,
                      struct nr_deadline *deadline);
    int (*call_end)(struct naru_endpoint *endpoint, struct naru_call *call,
                    struct nr_deadline *deadline);
    int (*call_cancel)(struct naru_endpoint *endpoint, struct naru_call *call, bool drop_outcome);
    int (*reply_loan)(struct naru_endpoint *endpoint, const struct naru_message *request,
                      void **ret_data);
    int (*reply)(struct naru_endpoint *endpoint, struct naru_message *request,
                 const struct nr_reply *reply);

    /* The descriptors are eventfds that tell of a pair's death as well, and are handed out as they are, which saves
       the epoll around them. Core sets them, too: when it keeps a message, or a pair's peer becomes known. */
    bool descriptors_are_whole;

    /* A descriptor that polls `events` (NR_READABLE: a receive may succeed; NR_WRITABLE: a send may).
       Stays the endpoint's. *events is what to poll it for. -EOPNOTSUPP if there is none. */
    int (*descriptor)(struct naru_endpoint *endpoint, unsigned *events);

    /* naru_fd() is in use and a receive has just found nothing (events: NR_READABLE), or naru_send_fd() and a
       send found no room for `size_bytes` (NR_WRITABLE): make sure that the descriptor tells when that changes. NULL where the
       descriptors are the kernel's own. */
    void (*arm)(struct naru_endpoint *endpoint, unsigned events, size_t size_bytes);

    /* Adds queued_messages and the like to what core has filled in. May be NULL. */
    int (*stat)(struct naru_endpoint *endpoint, struct naru_stat *stat);

    /* The index-th participant, without the size. -ENOENT: no more. NULL: they are not known. */
    int (*stat_participant)(struct naru_endpoint *endpoint, size_t index,
                            struct naru_participant *participant);
};

extern const struct nr_transport nr_pipe_transport, nr_fifo_transport, nr_mq_transport,
    nr_sysv_transport, nr_signal_transport, nr_unix_transport, nr_abstract_transport,
    nr_tcp_transport, nr_shm_transport, nr_file_transport;

/* A message that waits in this endpoint: put back, or larger than the room that was offered. */
struct nr_kept {
    struct nr_kept *next;
    struct naru_message message; /* data is malloc'ed */
};

/* What has crossed an endpoint, and what is in its user's hands. */
struct nr_counts {
    uint64_t sent_messages, sent_bytes, received_messages, received_bytes;
    uint64_t held, loans;
};

struct naru_endpoint {
    const struct nr_transport *transport;
    uint64_t owner; /* token of the process it belongs to; 0: none here */
    enum naru_role role;
    struct naru_options options; /* as they hold for the channel */
    struct nr_interrupt interrupt;
    struct nr_counts *counts; /* own_counts, or where others can see them */
    struct nr_counts own_counts;
    uint64_t lost_messages;

    struct nr_lock lock; /* of everything below, and free for the transport's slow paths */
    struct nr_kept *kept;
    int kept_count; /* also read without the lock */
    void *spare;    /* one receive buffer for naru_take, of spare_bytes */
    size_t spare_bytes;
    void **lent; /* memory of loans and takes that core lent and that is still out */
    unsigned lent_count, lent_room;
    int ready_fd[2]; /* naru_fd, naru_send_fd: epoll; -1 until asked for */
    int kept_fd;     /* eventfd in ready_fd[0]: something is kept */

    struct naru_endpoint *other; /* the other end of a pair, or NULL */
    pid_t creator_pid;           /* who made it ... */
    uint64_t creator_identity;   /* ... and, for a pair, what tells it from a later process */
    pid_t peer_pid;              /* pair, assigned: who holds the other end */
    int peer_pidfd;              /* -1: not watched, or ... */
    bool peer_by_pid; /* ... pidfds are refused here, and someone has to look again and again */
    uint64_t peer_start_time; /* then */
    char *uri;
};

/* It has gone out: the result of the call. */
static inline int nr_endpoint_sent(struct naru_endpoint *endpoint, size_t size_bytes)
{
    nr_error_clear();
    nr_count_add(&endpoint->counts->sent_messages, 1);
    nr_count_add(&endpoint->counts->sent_bytes, size_bytes);
    return 0;
}

/* A zeroed object of `size_bytes` whose first member is the endpoint, and which belongs to this
   process; -ENOMEM. Free with nr_endpoint_free(), which does not call release(). */
int nr_endpoint_new(struct naru_endpoint **ret, size_t size_bytes,
                    const struct nr_transport *transport, const struct nr_request *request);
void nr_endpoint_free(struct naru_endpoint *endpoint);

/* True when the caller may block in the system call itself: no deadline, nobody to watch, and an
   interrupt can't be missed (os/guard.h). */
static inline bool nr_endpoint_blocks_directly(const struct naru_endpoint *endpoint,
                                               const struct nr_deadline *deadline)
{
    return nr_deadline_is_never(deadline) && endpoint->peer_pidfd < 0 && !endpoint->peer_by_pid &&
           nr_os_guard_works();
}

/* That system call; -EINTR means: look at nr_endpoint_interrupted() and go round again. */
static inline long nr_endpoint_call(struct naru_endpoint *endpoint, long number,
                                    const long arguments[6])
{
    return nr_os_guarded_call(&endpoint->interrupt.raised, number, arguments);
}

/*
 * Sleeps until `fd` (-1: none) polls `events`, the deadline is over (-EAGAIN if it was 0, -ETIMEDOUT),
 * an interrupt comes (-EINTR, consumed), or the watched peer is dead and `fd` has nothing (-EOWNERDEAD).
 * 0: try again; maybe for nothing.
 */
int nr_endpoint_wait(struct naru_endpoint *endpoint, int fd, unsigned events,
                     struct nr_deadline *deadline);

/* -EINTR, with its text, if an interrupt is pending; it is consumed. 0 otherwise. */
int nr_endpoint_interrupted(struct naru_endpoint *endpoint);

/* True when a pair's other process is known to be dead. One poll(2) if it is watched (a few calls by pid). */
bool nr_endpoint_peer_is_dead(const struct naru_endpoint *endpoint);

/* Copies `size_bytes` at offset `from` of the scattered message to `to`. */
void nr_out_copy_parts(const struct nr_out *out, size_t from, void *to, size_t size_bytes);
static inline void nr_out_copy(const struct nr_out *out, size_t from, void *to, size_t size_bytes)
{
    if (out->parts_count > 1)
        nr_out_copy_parts(out, from, to, size_bytes);
    else if (size_bytes)
        memcpy(to, (const char *)out->parts->iov_base + from, size_bytes);
}

/*
 * Delivers a message that stands at `data`: copies it when it fits, spills it (-EMSGSIZE) when not.
 */
int nr_in_deliver(struct nr_in *in, const void *data, size_t size_bytes);

/*
 * For opens: options that a transport fixes. Checks what the caller set against what holds, names both
 * values in the text (-EINVAL), and stores what holds. nr_request_refuse() is for fields that it
 * can't honour at all (-EOPNOTSUPP).
 */
int nr_request_settle(const struct nr_request *request, const char *name, uint64_t wanted,
                      uint64_t holds);
int nr_request_refuse(const struct nr_request *request, const char *name, uint64_t wanted,
                      const char *why);

/* The same for a list of them: the first whose value is not 0. */
struct nr_refusal {
    const char *name;
    uint64_t value;
    const char *why;
};
int nr_request_refuse_each(const struct nr_request *request, const struct nr_refusal *refusals,
                           size_t count);
