/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * world -- a channel of shm:// in a known state, a process that is to die in an operation on it, and what must
 *          hold afterwards
 *
 * What       Three tables span the worlds: kinds of channel (kinds.c), states it may be in, and operations
 *            (operations.c). To add a pattern: its kind with its functions, its operations, a line for each.
 * Course     begin()   the cast opens the channel and brings it into the state; the ledger says what is in it
 *            fork      the victim: enter(), the operation's prepare(), and its run(), in which it dies
 *            settle()  the survivors go on, and check: each message committed arrives, whole, once unless it is
 *                      flagged, or is counted as lost where the contract says so; what was not committed is
 *                      whole or absent; and then all slots, chunks, seats and entries can be used again
 *            end()     and nothing is left behind
 * Memory     The ledger is shared with the victim; everything else is each process's own.
 */
#include "kit.h"
#include "step.h"
#include <naru/call.h>

enum nr_kill_state {
    NR_KILL_EMPTY,
    NR_KILL_ONE,
    NR_KILL_HALF,
    NR_KILL_FULL,
    NR_KILL_HELD,    /* survivors hold messages */
    NR_KILL_LOANS,   /* survivors have loans out */
    NR_KILL_ORPHANS, /* some were given back */
    NR_KILL_WRAPPED, /* many laps later */
    NR_KILL_UNSWEPT, /* one died before, with a message in its hand, and nobody has noticed */
    NR_KILL_STATES,
};
#define NR_KILL_ALL ((1u << NR_KILL_STATES) - 1)

enum {
    NR_KILL_MESSAGES_MOST = 32,
    NR_KILL_BATCH = 3,
    NR_KILL_ROOM_BYTES = 512,
    NR_KILL_ERROR = 42
};

/* Who made a message. */
enum nr_kill_maker { NR_KILL_CAST = 1, NR_KILL_VICTIM, NR_KILL_AFTER };

/* Where a message of the cast is when the victim begins. */
enum nr_kill_place {
    NR_KILL_QUEUED = 1,
    NR_KILL_RETURNED, /* given back before anyone saw it */
    NR_KILL_REQUEUED, /* given back by someone who had it: comes flagged */
    NR_KILL_WITH_OTHERS,
    NR_KILL_IN_DEAD_HAND,
    NR_KILL_IN_VICTIMS_HAND,
};

struct nr_kill_ledger {
    unsigned made; /* by the cast */
    unsigned char place[NR_KILL_MESSAGES_MOST];
    unsigned others_entries; /* what those hold who live on, but are not the ones who settle */
    unsigned others_chunks;
    unsigned dead; /* the victim, and others */

    /* The victim's: */
    unsigned is_done;                             /* the operation has returned ... */
    int result;                                   /* ... this, */
    unsigned got[NR_KILL_BATCH], got_count;       /* and these messages */
    char room[NR_KILL_BATCH][NR_KILL_ROOM_BYTES]; /* where it sends from, and receives to */
    struct nr_step_death death;

    /* A repairer's, if there is one: */
    int repairer_is_ready, may_repair;
    struct nr_step_death repairers_death;
};

struct nr_kill_world;
struct nr_kill_operation;

struct nr_kill_kind {
    const char *name;
    struct naru_options options;
    size_t sizes[2]; /* of messages, in turn */
    unsigned states;
    bool is_named;    /* naru_open() finds it */
    bool cast_leaves; /* in a film: survivors need its place, or its cursor would hold them up */

    void (*begin)(struct nr_kill_world *world);
    void (*forked)(struct nr_kill_world *world, pid_t victim); /* in the parent; may be NULL */
    struct naru_endpoint *(*enter)(struct nr_kill_world *world, enum naru_role role);
    void (*settle)(struct nr_kill_world *world);
    void (*end)(struct nr_kill_world *world);
};
extern const struct nr_kill_kind nr_kill_kinds[];
extern const unsigned nr_kill_kinds_count;

/* The victim's side of an operation. */
struct nr_kill_victim {
    struct nr_kill_world *world;
    struct naru_endpoint *endpoint;
    struct naru_message messages[NR_KILL_BATCH];
    char (*room)[NR_KILL_ROOM_BYTES]; /* the ledger's */
    struct naru_endpoint *server;     /* a client's own, with its request in hand */
    struct naru_call call;
};

/* What an operation may do to the messages of the channel. */
enum nr_kill_effect {
    NR_KILL_NOTHING,
    NR_KILL_SENDS,    /* up to `count` messages of the victim come in */
    NR_KILL_RECEIVES, /* up to `count` of the cast's go */
    NR_KILL_TAKES,    /* one is in the victim's hand, afterwards */
    NR_KILL_ACKS,     /* the one in its hand goes */
    NR_KILL_GIVES_BACK,
    NR_KILL_ANSWERS, /* the request in its hand */
    NR_KILL_ASKS, /* its own call, of which a survivor may see something until it is known to be dead */
};

struct nr_kill_operation {
    const char *name;
    enum nr_kill_effect effect;
    unsigned count;
    enum naru_role role;
    unsigned states;
    const char *kinds; /* the names of those it is for, as "a|b"; NULL: all that carry messages */
    bool is_for_calls; /* and for those with calls, too */
    bool is_alone;     /* prepare() opens nothing: the operation does, or needs no endpoint */
    bool makes;        /* there is no channel yet */
    bool removes;      /* its name goes */
    bool waits;        /* and takes its time */

    void (*prepare)(struct nr_kill_victim *victim); /* may be NULL */
    int (*run)(struct nr_kill_victim *victim);
};
extern const struct nr_kill_operation nr_kill_operations[];
extern const unsigned nr_kill_operations_count;

struct nr_kill_world {
    const struct nr_kill_kind *kind;
    const struct nr_kill_operation *operation;
    enum nr_kill_state state;
    const char *uri;
    struct nr_kill_ledger *ledger;
    uint64_t random;   /* nr_kill_random() */
    unsigned variant;  /* of the state, where it has some: the same for all victims of a path */
    long point;        /* for what is printed */
    unsigned progress; /* how much of the operation was done: messages that came, or went */

    bool is_film; /* survivors attach only when all is over (film.h) */

    struct naru_endpoint *sender, *receiver; /* the survivors'; a pair: [0] is theirs */
    struct naru_endpoint *ends[2];
    struct naru_message held[2], loans[2];
    unsigned held_count, loans_count;
};

const char *nr_kill_state_name(enum nr_kill_state state);

/* Does the operation make sense there? */
bool nr_kill_is_world(const struct nr_kill_kind *kind, enum nr_kill_state state,
                      const struct nr_kill_operation *operation);

/* A number below `below`. */
uint32_t nr_kill_random(uint64_t *random, uint32_t below);

/* A check of the world: what is printed says where in it one is. */
#define nr_kill_check(world, condition, ...)                                                       \
    do {                                                                                           \
        if (!(condition))                                                                          \
            nr_kill_fail((world), __FILE__, __LINE__, "not so: " #condition ": " __VA_ARGS__);     \
    } while (0)
_Noreturn void nr_kill_fail(const struct nr_kill_world *world, const char *file, int line,
                            const char *format, ...) __attribute__((format(printf, 4, 5)));
/* The call succeeds; its value. */
#define nr_kill_ok(world, call) nr_kill_check_ok((world), __FILE__, __LINE__, #call, (call))
int nr_kill_check_ok(const struct nr_kill_world *world, const char *file, int line,
                     const char *call, int result);

/* -- for kinds and operations ------------------------------------------------------------------ */

size_t nr_kill_size(const struct nr_kill_world *world, unsigned index);
struct naru_endpoint *nr_kill_open(struct nr_kill_world *world, enum naru_role role);

/* Each gets its own copy: what a victim receives is nobody's loss. */
static inline bool nr_kill_is_topic(const struct nr_kill_world *world)
{
    return world->kind->options.pattern == NARU_TOPIC;
}

/* Each goes to one receiver. */
static inline bool nr_kill_is_dealt(const struct nr_kill_world *world)
{
    return world->kind->options.pattern == 0 || world->kind->options.pattern == NARU_CALL;
}

/* The message is in a hand that will be dead. */
void nr_kill_in_hand(struct nr_kill_world *world, const struct naru_message *message,
                     enum nr_kill_place place);

/* Sends message `index` of `maker`; what naru_send() returns. */
int nr_kill_send(struct nr_kill_world *world, struct naru_endpoint *endpoint,
                 enum nr_kill_maker maker, unsigned index);

/* The number of a message that must be whole, and the cast's. */
unsigned nr_kill_read(struct nr_kill_world *world, const struct naru_message *message);

/* What came in, as the survivors see it. */
struct nr_kill_arrivals {
    unsigned char count[NR_KILL_MESSAGES_MOST], flagged[NR_KILL_MESSAGES_MOST];
    unsigned victims, after;
    unsigned disorder; /* came behind one that was sent later */
};
void nr_kill_arrive(struct nr_kill_world *world, struct nr_kill_arrivals *arrivals,
                    const struct naru_message *message);

/* The survivors' ends, as far as they are not open. */
void nr_kill_open_ends(struct nr_kill_world *world);

/* What may happen before a survivor looks for the dead, at random: they go on for a while, someone attaches in
   `newcomer` (0: nobody) and goes again, or one of them asks who is there. */
typedef void nr_kill_going_on(struct nr_kill_world *world, struct nr_kill_arrivals *arrivals);
void nr_kill_meanwhile(struct nr_kill_world *world, struct nr_kill_arrivals *arrivals,
                       nr_kill_going_on *go_on, unsigned newcomer);

/* Judges them, but for what is lost; returns how many of the cast's messages are missing that should be
   counted as lost, at the least, and in *ret_most how many may be. */
unsigned nr_kill_judge(struct nr_kill_world *world, const struct nr_kill_arrivals *arrivals,
                       unsigned *ret_most);
