/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * shm -- the inside of shm:// : what its files share
 *
 * shm.c        segments: made, attached, left; what each kind has in common
 * shm_layout.c where things stand in a segment, and whether a header is to be believed
 * shm_wait.c   how one waits on a segment, and is woken
 * shm_sleep.c  how one sleeps in it, and notices deaths
 * shm_ready.c  how one polls it: naru_fd(), naru_send_fd()
 * shm_slots.c  many to many: slots and chunks (data/slot_ring.h)
 * shm_bytes.c  one to one, and pairs: lines (data/line_ring.h); shm_bytes_recv.c
 * shm_cell.c   the newest value (data/cell.h)
 * shm_topic.c  to every subscriber (data/topic.h); shm_topic_recv.c
 * shm_reader.c who can only read: opening, and waiting without a word to anybody
 * shm_calls.c  request and reply (data/calls.h); shm_calls_serve.c
 *
 * Segment      header | participants | slot ring    (many to many)
 *              header | participants | line ring    (one to one)
 *              header | participants | a gate for each participant, a gate for each call | calls
 *              header | line ring, line ring        (pair: end i sends on ring i)
 */
#include "data/cell.h"
#include "data/calls.h"
#include "data/gate.h"
#include "data/line_ring.h"
#include "data/slot_ring.h"
#include "data/topic.h"
#include "transport/endpoint.h"
#include "transport/party.h"
#include "transport/vigil.h"
#include "os/watcher.h"

enum {
    NR_SHM_LAYOUT = 7,
    NR_SHM_SLOTS = 1, /* the kinds' numbers in the header */
    NR_SHM_BYTES = 2,
    NR_SHM_PAIR = 3,
    NR_SHM_CELL = 4,
    NR_SHM_TOPIC = 5,
    NR_SHM_CALLS = 6,
    NR_SHM_TOPIC_OVERWRITING = 7,
    NR_SHM_SLOTS_MOST = 1 << 20, /* limits, of slots and of chunks */
    NR_SHM_SPIN_FIRST = 1000,    /* looks, before it is known whether they pay */
    NR_SHM_SPIN_WINS = 100, /* in a row, before a gate is made hot: to cool it costs microseconds */
    NR_SHM_SPIN_SHORT = 1000, /* looks on the short way */
};
#define NR_SHM_MAGIC      0x6d68732d7572616eull /* "naru-shm" */
#define NR_SHM_TOTAL_MOST ((uint64_t)1 << 40)

/* Written once, before the segment has a name; afterwards only gates and `closed` change. */
struct nr_shm_header {
    uint64_t magic;
    uint32_t layout, kind;
    uint64_t total_bytes;
    uint64_t namespace_inode; /* of the creator's PID namespace */
    uint32_t when_full, delivery;
    uint32_t participants_max, held_max;
    uint32_t slots_count, slot_bytes;
    uint32_t chunks_count, lines_count;
    uint64_t chunk_bytes;
    uint64_t ring_bytes;
    uint64_t message_size_max_bytes;
    uint64_t capacity_messages;
    uint32_t closed[2];                       /* pair: that end has said goodbye */
    _Alignas(64) uint32_t death_word;         /* always 0; see os/futex.h */
    uint32_t changes;                         /* of the participants; see party.h */
    struct nr_gate not_empty[2], not_full[2]; /* by direction; [0] where there is only one */
};

struct nr_shm_kind;

/* Of one endpoint: who sleeps, and whether some death has to be looked into. */
struct nr_shm_sleepers {
    struct nr_lock lock;
    struct nr_vigil *vigils; /* one for each thread that sleeps here; the lock is for the list */
    bool no_vigils;
    unsigned sleeps;           /* without a vigil */
    int64_t examine_at_ns;     /* when to look for who has left by exec; 0: no reason to */
    int64_t examine_after_ns;  /* how long after the next omen */
    struct nr_mapping mapping; /* of the segment; empty: not needed yet */
};

/* A descriptor that tells when a gate opens. */
struct nr_shm_ready {
    struct nr_shm *shm;
    struct nr_lock lock;
    struct nr_vigil *vigil; /* of the thread that armed it last */
    unsigned hand_overs;    /* from thread to thread */
    bool no_vigil;          /* the watcher does it */
    bool is_armed;          /* with that word */
    uint32_t word;
    bool has_watcher; /* its eventfd is the descriptor, also while its thread has not begun */
    struct nr_watcher watcher;
    uint32_t watcher_stops; /* a word that ends the watcher's sleep */
};

struct nr_shm {
    struct naru_endpoint endpoint;
    struct nr_shm_header *header;
    size_t size_bytes;
    const struct nr_shm_kind *kind;
    bool is_read_only; /* the mapping: no entry in the party, no word to anybody */
    int end;           /* pair: 0 or 1 */
    struct nr_party party;
    struct nr_slot_ring slots;
    struct nr_topic topic;
    struct nr_topic_reader reader; /* topic: under the endpoint's lock */
    struct nr_cell cell;
    uint64_t seen; /* cell: the version that was returned last */
    struct nr_calls calls;
    struct nr_gate *gates;       /* calls: shm_calls.h says of what */
    struct nr_line_ring out, in; /* pair: both; one to one: the one of the role */
    bool is_holding;             /* one to one: a record was taken and not acknowledged */
    bool is_loaning;
    struct nr_line_record held_record;
    _Alignas(16) char held_copy[NR_LINE_INLINE_BYTES];
    uint32_t held;       /* many to many, topic: messages in hand */
    uint64_t told;       /* one to one: nr_seat_gone() as the receiver was told of it */
    bool has_barrier;    /* registered for it (os/barrier.h), so hot gates may be trusted */
    bool lacks_barrier;  /* refused */
    unsigned spin_wins;  /* in a row */
    unsigned idle_wakes; /* at a gate that is not hot: in a row, nobody slept there */
    int spin_limit;      /* how long it pays to look again before sleeping */
    unsigned spin_rests;
    unsigned looks;       /* pair: in vain */
    bool peer_is_gone;    /* pair: it died, or became another program */
    bool peer_is_watched; /* pair: the next sleep tells of its death */
    struct nr_shm_sleepers sleepers;
    int32_t pid;
    struct nr_participant_tally *tally; /* my entry's; NULL: a pair, or read-only */
    struct nr_shm_ready ready[2];       /* naru_fd(), naru_send_fd() */
    bool lacks_apart;                   /* one to one: it was a loan */
    size_t lacks_bytes;                 /* the message or loan that there was no room for last */
};

static inline struct nr_shm *nr_shm_of(struct naru_endpoint *endpoint)
{
    return (struct nr_shm *)(void *)endpoint; /* its first member */
}

/* -- shm_layout.c -- */

/* Offsets in the segment: of the participants, and of what the kind has behind them. */
uint64_t nr_shm_layout_participants(void);
uint64_t nr_shm_layout_ring(const struct nr_shm_header *header);

uint64_t nr_shm_layout_round(uint64_t bytes, uint64_t to);
uint32_t nr_shm_layout_power_of_two(uint64_t at_least);

/* What the creator's options ask for, with the defaults. */
int nr_shm_layout_plan(struct nr_shm_header *header, const struct nr_request *request,
                       const struct nr_shm_kind *kind);

/* Is it a channel, undamaged, of this layout, of this PID namespace? `path` is for the text. */
int nr_shm_layout_check(const struct nr_shm_header *header, uint64_t file_bytes, const char *path);

/* Is it what an attacher's options ask for? */
int nr_shm_layout_agree(const struct nr_shm_header *header, const struct nr_request *request);

/* -- shm_wait.c -- */

/* One wait: zeroed at its start, then passed to each nr_shm_pause(). */
struct nr_shm_pause {
    /* While spinning: is it worth a try (or was it done at once)? NULL: each time. */
    bool (*look)(struct nr_shm *shm, struct nr_shm_pause *pause);
    struct nr_gate *gate; /* of the last nr_shm_pause() */
    int spins, busy_looks;
    bool has_ended; /* one to one: the other side has, and it was looked again for what it left */
    bool is_prepared, is_unsure; /* unsure: a waker may have overlooked us */
    uint32_t word;
    bool has_passed_on;     /* shm_reader.c */
    int64_t recheck_ns;     /* the next one; 0: the first */
    struct nr_deadline ask; /* when to ask for deaths; not set: not begun */
    uint32_t blocker;       /* set by the caller on -EBUSY */
    uint32_t overwritten;   /* messages, to make room */
};

/* Something changed that others may wait for at the gate. One load while they spin. */
void nr_shm_wake_cold(struct nr_shm *shm, struct nr_gate *gate);
static inline void nr_shm_wake(struct nr_shm *shm, struct nr_gate *gate)
{
    if (__builtin_expect(!nr_flag_get(&shm->has_barrier) || !nr_gate_is_hot(gate), 0))
        nr_shm_wake_cold(shm, gate);
}

/* After a repair, whatever the gate says: of one gate, and of those in the header. */
void nr_shm_wake_sleepers(struct nr_gate *gate);
void nr_shm_wake_all(struct nr_shm *shm);

/* How often a receiver on the short way may look again before it waits: 0 unless spinning serves it well lately. */
static inline int nr_shm_short_spins(const struct nr_shm *shm, int64_t timeout_ns)
{
    return timeout_ns != 0 &&
                   __atomic_load_n(&shm->spin_wins, __ATOMIC_RELAXED) > NR_SHM_SPIN_WINS &&
                   !nr_interrupt_is_raised(&shm->endpoint.interrupt)
               ? NR_SHM_SPIN_SHORT
               : 0;
}

/*
 * Something could not be done: `result` is -EAGAIN, or -EBUSY with pause->blocker. 0: try again. Otherwise
 * what the call returns: -EAGAIN, -ETIMEDOUT, -EBUSY (the text names who is in the way), -EINTR.
 */
int nr_shm_pause(struct nr_shm *shm, struct nr_gate *gate, struct nr_shm_pause *pause, int result,
                 struct nr_deadline *deadline);

/* Where a take is to say who is in the way: nowhere as long as one looks again anyway, since to find it out disturbs senders
   (data/slot_ring.h); only in the look before one sleeps, or returns. */
static inline uint32_t *nr_shm_pause_blocker(struct nr_shm_pause *pause,
                                             const struct nr_deadline *deadline)
{
    return pause->is_prepared || nr_deadline_is_now(deadline) ? &pause->blocker : NULL;
}

/* It could be done after all: if spinning did it, spinning pays. */
void nr_shm_pause_end(struct nr_shm *shm, const struct nr_shm_pause *pause);

/* -- shm_sleep.c -- */

/* Sleeps until the gate opens, someone dies, the endpoint is interrupted (-EINTR), or the time is over
   (-ETIMEDOUT). 0: look again; maybe for nothing. What the dead left is repaired. */
int nr_shm_sleep(struct nr_shm *shm, const struct nr_gate *gate, struct nr_shm_pause *pause,
                 struct nr_deadline *deadline);

/* Participant `index` is dead, or has become another program; it is marked DEAD. Asks the kernel. */
bool nr_shm_is_gone(struct nr_shm *shm, uint32_t index);

/* Participant `blocker` is in the way: true if it is dead, or has left, and all it left is repaired. */
bool nr_shm_unblock(struct nr_shm *shm, uint32_t blocker);

/* Is the other process of a pair dead? Asks the kernel, unless the caller is about to sleep and that would tell. */
bool nr_shm_peer_is_gone(struct nr_shm *shm, bool is_about_to_sleep);

/* The private part: at release, in any process. */
void nr_shm_sleepers_end(struct nr_shm *shm);

struct nr_vigil *nr_shm_vigil_new(struct nr_shm *shm, const uint32_t *stop_word, int *ret_result);
void nr_shm_vigil_end(struct nr_vigil *vigil);

/* What a vigil has told, and what follows: repair, or a look for who has left. Returns after how long to look
   again, 0: no need. */
int64_t nr_shm_heed(struct nr_shm *shm, int news);

/* Sleeps on words, as long as there is no reason to look again. */
void nr_shm_sleep_on_words(struct nr_shm *shm, const struct nr_gate *gate,
                           const uint32_t *stop_word, struct nr_shm_pause *pause,
                           struct nr_deadline *deadline);

/* -- shm_ready.c -- */

void nr_shm_ready_init(struct nr_shm *shm);
void nr_shm_ready_stop(struct nr_shm *shm);
void nr_shm_ready_end(struct nr_shm *shm); /* in any process; may run twice */

/* -- shm_reader.c -- */

/* Are the options start and read_only right for this kind? And for this channel as well? */
int nr_shm_reader_check_kind(const struct nr_shm *shm, const struct nr_shm_kind *kind);
int nr_shm_reader_check(const struct nr_shm *shm);

/* nr_shm_pause() and the watcher's wait for a mapping that is read-only. */
int nr_shm_reader_pause(struct nr_shm *shm, struct nr_gate *gate, struct nr_shm_pause *pause,
                        int result, struct nr_deadline *deadline);
int nr_shm_reader_watch(struct nr_shm *shm, const uint32_t *stop_word);

/* -- the kinds ----------------------------------------------------------------------------- */

/*
 * A kind of segment: its place in the header, and what the endpoints on it do. One file each; shm.c does what
 * they have in common and fills in the rest of `transport` (NR_SHM_COMMON).
 */
struct nr_shm_kind {
    uint32_t number; /* in the header */
    enum naru_pattern pattern;
    bool is_one_to_one;
    bool is_overwriting;              /* wanted for when_full = NARU_OVERWRITE_OLDEST */
    bool can_be_read_only, has_start; /* those options */
    bool no_participants;             /* a pair: its two processes know each other */
    unsigned roles; /* a bit for each enum naru_role that may open it; the text: */
    const char *roles_text;
    struct nr_transport transport;

    /* The creator's options become sizes in the header, whose common fields are filled in. */
    int (*plan)(struct nr_shm_header *header, const struct nr_request *request);
    /* An attacher's look at those sizes: within the limits, and no overflow in bytes(). */
    bool (*is_sane)(const struct nr_shm_header *header);
    /* What it needs behind the participants. New memory is zero. */
    uint64_t (*bytes)(const struct nr_shm_header *header);

    /* Private views of the memory behind the participants, by the sizes of `plan`: not of shm->header, which
       anyone may have changed since it was checked. */
    void (*view)(struct nr_shm *shm, const struct nr_shm_header *plan, void *memory);
    int (*join)(struct nr_shm *shm); /* takes its place, as a participant; NULL: nothing to do */
    void (*leave)(struct nr_shm *shm);
    void (*repair)(struct nr_shm *shm, unsigned dead); /* see party.h; shm.c wakes all behind it */
    bool (*may_recv)(struct nr_shm *shm);
    bool (*may_send)(struct nr_shm *shm);                     /* what the last send lacked */
    void (*stat)(struct nr_shm *shm, struct naru_stat *stat); /* or NULL */
};

extern const struct nr_shm_kind nr_shm_slots_kind, nr_shm_bytes_kind, nr_shm_pair_kind,
    nr_shm_cell_kind, nr_shm_topic_kind, nr_shm_topic_overwriting_kind, nr_shm_calls_kind;

const struct nr_shm_kind *nr_shm_kind_find(uint32_t number);
const struct nr_shm_kind *nr_shm_kind_wanted(const struct naru_options *options); /* by a creator */

static inline bool nr_shm_is_pair(const struct nr_shm *shm)
{
    return shm->kind->no_participants;
}

/* The gates of an endpoint: what it waits at, and what it opens for the other side. */
static inline struct nr_gate *nr_shm_gate_empty(const struct nr_shm *shm, bool to_wait)
{
    int direction = nr_shm_is_pair(shm) ? (to_wait ? !shm->end : shm->end) : 0;

    if (to_wait && shm->gates && shm->endpoint.role == NARU_SENDER)
        return &shm->gates[shm->party.me]; /* a client waits for replies */
    return &shm->header->not_empty[direction];
}
static inline struct nr_gate *nr_shm_gate_full(const struct nr_shm *shm, bool to_wait)
{
    int direction = nr_shm_is_pair(shm) ? (to_wait ? shm->end : !shm->end) : 0;

    return &shm->header->not_full[direction];
}

/* -- shm.c: what is the same for each kind -- */

int nr_shm_open(struct naru_endpoint **ret, const struct nr_request *request);
int nr_shm_pair(struct naru_endpoint *ret[2], const struct nr_request *request);
int nr_shm_adopt(struct naru_endpoint *endpoint);
void nr_shm_leave(struct naru_endpoint *endpoint);
void nr_shm_release(struct naru_endpoint *endpoint);
int nr_shm_unlink(const struct nr_uri *uri);
int nr_shm_descriptor(struct naru_endpoint *endpoint, unsigned *events);
void nr_shm_arm(struct naru_endpoint *endpoint, unsigned events, size_t size_bytes);
int nr_shm_stat(struct naru_endpoint *endpoint, struct naru_stat *stat);
int nr_shm_stat_participant(struct naru_endpoint *endpoint, size_t index,
                            struct naru_participant *participant);

/* Takes a seat (data/seat.h), or says who has it: -EBUSY, "URI `what`, and process N is its `who`". */
int nr_shm_sit(struct nr_shm *shm, _Atomic uint64_t *seat, const char *what, const char *who);

/* A message into memory that others may be reading (data/words.h). */
void nr_shm_store(const struct nr_out *out, _Atomic uint64_t *payload);

int nr_shm_damaged(const struct nr_shm *shm); /* -EBADMSG, with its text */

#define NR_SHM_COMMON                                                                              \
    .scheme = "shm", .open = nr_shm_open, .pair = nr_shm_pair, .adopt = nr_shm_adopt,              \
    .leave = nr_shm_leave, .release = nr_shm_release, .unlink = nr_shm_unlink,                     \
    .descriptors_are_whole = true, .descriptor = nr_shm_descriptor, .arm = nr_shm_arm,             \
    .stat = nr_shm_stat, .stat_participant = nr_shm_stat_participant
