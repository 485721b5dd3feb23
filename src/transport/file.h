/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * file -- file:// : a journal as a queue
 *
 * Walk       A message goes naru_send -> file_send.c -> journal_write.c, and journal_read.c ->
 *            file_recv.c -> naru_recv. file_lock.c keeps writers apart, file_bell.c lets receivers sleep,
 *            file_ready.c gives the descriptor, file.c opens and repairs.
 */
#include "transport/journal.h"
#include "transport/party.h"

/* At least once: a record that is in a hand, or was acknowledged before an older one. */
struct nr_file_held {
    uint64_t offset, end;
    void *data; /* malloc'ed while it is in the user's hand */
    uint32_t deliveries;
    enum { NR_FILE_IN_HAND, NR_FILE_PUT_BACK, NR_FILE_ACKNOWLEDGED } state;
};

struct nr_file {
    struct naru_endpoint endpoint;
    struct nr_journal journal;
    struct nr_party party;
    char *path;
    uint32_t pid, uid;

    struct nr_lock read_lock; /* of the reader and all that follows */
    struct nr_journal_reader reader;
    bool is_at_least_once, has_turn; /* has_turn: this is the one receiver */
    uint64_t next;                   /* at least once: what comes after all that was taken */
    uint64_t redelivered_end;        /* what was in a hand before this receiver came ... */
    uint32_t redelivered_times;      /* ... and how often */
    struct nr_file_held *held;       /* by offset */
    size_t held_count, held_capacity;

    struct nr_lock ready_lock;
    int watch_fd, event_fd, epoll_fd, owner_fd, writable_fd; /* -1: not made yet */
};

static inline struct nr_file *nr_file_of(struct naru_endpoint *endpoint)
{
    return (struct nr_file *)endpoint; /* its first member */
}

/* -- the writers' lock: file_lock.c ---------------------------------------------------------- */
int nr_file_lock_take(struct nr_file *file, struct nr_deadline *deadline);
void nr_file_lock_give(struct nr_file *file);
/* In a repair: takes the lock over if `dead` has it, and recovers. */
void nr_file_lock_repair(struct nr_file *file, unsigned dead);
/* If a dead writer has the lock: has it repaired; true when that was so. */
bool nr_file_lock_check(struct nr_file *file);

/* -- the receivers' sleep: file_bell.c ------------------------------------------------------- */
void nr_file_bell_ring(struct nr_file *file);
void nr_file_bell_ring_all(struct nr_file *file);
/* Until something may be received; as nr_endpoint_wait(). */
int nr_file_bell_wait(struct nr_file *file, struct nr_deadline *deadline);

/* -- file_send.c, file_recv.c ---------------------------------------------------------------- */
int nr_file_send(struct naru_endpoint *endpoint, const struct nr_out *out,
                 struct nr_deadline *deadline);
void nr_file_sync_in_time(struct nr_file *file, bool is_last);

int nr_file_recv(struct naru_endpoint *endpoint, struct nr_in *in, struct nr_deadline *deadline);
bool nr_file_is_readable(struct nr_file *file);
int nr_file_recv_begin(struct nr_file *file); /* becomes the one receiver; -EBUSY */
void nr_file_recv_end(struct nr_file *file);
int nr_file_take(struct naru_endpoint *endpoint, struct naru_message *ret,
                 struct nr_deadline *deadline);
int nr_file_ack(struct naru_endpoint *endpoint, struct naru_message *message);
int nr_file_requeue(struct naru_endpoint *endpoint, struct naru_message *message);

/* -- the descriptor: file_ready.c ------------------------------------------------------------ */
int nr_file_ready_descriptor(struct naru_endpoint *endpoint, unsigned *events);
void nr_file_ready_arm(struct naru_endpoint *endpoint, unsigned events, size_t size_bytes);
void nr_file_ready_set(
    struct nr_file *file); /* something may be received that inotify does not tell */
void nr_file_ready_deinit(struct nr_file *file);
