/* SPDX-License-Identifier: MIT */
/*
 * Contents   the cast - survivors receive - all of it can be used again - settling
 */
#include "queue.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NR_KILL_LAPS = 13, NR_KILL_NEWCOMERS_MOST = 8 };

static bool nr_kill_is_one_to_one(const struct nr_kill_world *world)
{
    return world->kind->options.one_to_one;
}

/* -- the cast ---------------------------------------------------------------------------------- */

/* One to one, the victim's place is left free. */
static bool nr_kill_has_role(const struct nr_kill_world *world, enum naru_role role)
{
    return !nr_kill_is_one_to_one(world) || world->operation->role != role;
}

static int nr_kill_put(struct nr_kill_world *world, struct naru_endpoint *sender)
{
    struct nr_kill_ledger *ledger = world->ledger;
    int result = nr_kill_send(world, sender, NR_KILL_CAST, ledger->made);

    nr_kill_check(world, result == 0 || result == -EAGAIN, "%s", naru_error_text());
    if (result == 0)
        ledger->place[ledger->made++] = NR_KILL_QUEUED;
    return result;
}

/* Into the hand, without a trace in the ledger. */
static unsigned nr_kill_take(struct nr_kill_world *world, struct naru_endpoint *receiver,
                             struct naru_message *message)
{
    nr_kill_ok(world, naru_take(receiver, message, 0));
    return nr_kill_read(world, message);
}

static unsigned nr_kill_wanted(const struct nr_kill_world *world)
{
    switch (world->state) {
    case NR_KILL_EMPTY:
        return 0;
    case NR_KILL_ONE:
        return 1;
    case NR_KILL_FULL:
        return world->kind->options.when_full == NARU_OVERWRITE_OLDEST ? 4 : NR_KILL_MESSAGES_MOST;
    case NR_KILL_HELD:
        return 4;
    case NR_KILL_ORPHANS:
    case NR_KILL_UNSWEPT:
        return 3;
    default:
        return 2;
    }
}

static void nr_kill_wrap(struct nr_kill_world *world, struct naru_endpoint *sender)
{
    struct naru_endpoint *receiver = world->receiver;
    char room[NR_KILL_ROOM_BYTES];

    if (!receiver)
        receiver = nr_kill_open(world, NARU_RECEIVER);
    for (unsigned i = 0; i < NR_KILL_LAPS + world->variant % NR_KILL_LAPS; i++) {
        nr_kill_ok(world, nr_kill_send(world, sender, NR_KILL_AFTER, i));
        nr_kill_ok(world, naru_recv(receiver, room, sizeof room, NULL, 0));
    }
    if (!world->receiver)
        naru_close(receiver);
}

static void nr_kill_hold(struct nr_kill_world *world, unsigned count)
{
    for (; world->held_count < count; world->held_count++) {
        struct naru_message *message = &world->held[world->held_count];
        unsigned index = nr_kill_take(world, world->receiver, message);
        world->ledger->place[index] = NR_KILL_WITH_OTHERS;
    }
}

static void nr_kill_make_orphans(struct nr_kill_world *world)
{
    struct naru_message first;
    unsigned index = nr_kill_take(world, world->receiver, &first);
    size_t size_bytes;

    nr_kill_check(world, naru_recv(world->receiver, NULL, 0, &size_bytes, 0) == -EMSGSIZE, "%s",
                  naru_error_text());
    world->ledger->place[index + 1] = NR_KILL_RETURNED;
    nr_kill_ok(world, naru_requeue(world->receiver, &first));
    world->ledger->place[index] = NR_KILL_REQUEUED;
}

void nr_kill_queue_one_dies(struct nr_kill_world *world, enum naru_role role)
{
    pid_t pid = nr_kit_fork();
    int status;

    if (pid == 0) {
        struct naru_endpoint *endpoint = nr_kill_open(world, role);
        struct naru_message message;
        if (role == NARU_SENDER) {
            naru_loan(endpoint, world->kind->sizes[0], &message, 0);
        } else {
            nr_kill_ok(world, naru_take(endpoint, &message, 0));
            nr_kill_in_hand(world, &message, NR_KILL_IN_DEAD_HAND);
        }
        nr_step_kill();
    }
    waitpid(pid, &status, 0);
    nr_kill_check(world, WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %x", status);
    world->ledger->dead++;
}

void nr_kill_queue_begin(struct nr_kill_world *world)
{
    if (world->operation->makes)
        return;
    if (nr_kill_has_role(world, NARU_RECEIVER))
        world->receiver = nr_kill_open(world, NARU_RECEIVER);
    struct naru_endpoint *sender = nr_kill_open(world, NARU_SENDER);
    if (nr_kill_has_role(world, NARU_SENDER))
        world->sender = sender;
    if (world->state == NR_KILL_WRAPPED)
        nr_kill_wrap(world, sender);
    for (unsigned wanted = nr_kill_wanted(world); wanted; wanted--)
        if (nr_kill_put(world, sender) < 0)
            break;
    if (!world->sender)
        naru_close(sender);
    if (world->state == NR_KILL_HELD && world->receiver)
        nr_kill_hold(world, nr_kill_is_one_to_one(world) ? 1 : 2);
    if (world->state == NR_KILL_ORPHANS)
        nr_kill_make_orphans(world);
    while (world->state == NR_KILL_LOANS && world->sender &&
           world->loans_count < (nr_kill_is_one_to_one(world) ? 1 : 2))
        nr_kill_ok(world, naru_loan(world->sender, NR_KILL_ROOM_BYTES,
                                    &world->loans[world->loans_count++], 0));
    if (world->state == NR_KILL_UNSWEPT && world->operation->is_alone)
        nr_kill_queue_one_dies(world, world->operation->role);
}

struct naru_endpoint *nr_kill_queue_enter(struct nr_kill_world *world, enum naru_role role)
{
    struct naru_endpoint *endpoint = nr_kill_open(world, role);

    if (world->state == NR_KILL_UNSWEPT)
        nr_kill_queue_one_dies(world, NARU_RECEIVER);
    return endpoint;
}

/* -- survivors receive ------------------------------------------------------------------------- */

/* 1: a message; 0: nothing is there. */
static int nr_kill_next(struct nr_kill_world *world, struct naru_message *message, char *room)
{
    for (int ends = 0; ends < 4; ends++) {
        *message = (struct naru_message){.data = room, .capacity_bytes = NR_KILL_ROOM_BYTES};
        int result = naru_recv_many(world->receiver, message, 1, 0);
        if (result == 1)
            return 1;
        if (result == -EAGAIN)
            return 0;
        /* One to one, that the sender has gone is told once. */
        nr_kill_check(world,
                      nr_kill_is_one_to_one(world) && (result == -EPIPE || result == -EOWNERDEAD),
                      "%s: %s", strerrorname_np(-result), naru_error_text());
    }
    nr_kill_fail(world, __FILE__, __LINE__, "a sender's end is told again and again");
}

static void nr_kill_drain(struct nr_kill_world *world, struct nr_kill_arrivals *arrivals)
{
    struct naru_message message;
    char room[NR_KILL_ROOM_BYTES];

    for (unsigned i = 0; nr_kill_next(world, &message, room); i++) {
        nr_kill_check(world, i < 2 * NR_KILL_MESSAGES_MOST, "it doesn't end");
        nr_kill_arrive(world, arrivals, &message);
    }
}

/* Somebody finds out about the death; each in its own way. */
/* Also for a message behind what the dead one has left. */
static void nr_kill_send_behind(struct nr_kill_world *world, struct nr_kill_arrivals *arrivals)
{
    int result = nr_kill_send(world, world->sender, NR_KILL_AFTER, 0);

    nr_kill_check(world, result == 0 || result == -EAGAIN, "%s", naru_error_text());
    nr_kill_drain(world, arrivals);
    nr_kill_check(world, arrivals->after == (result == 0), "%u came", arrivals->after);
}

static void nr_kill_notice(struct nr_kill_world *world, struct nr_kill_arrivals *arrivals)
{
    bool overwrites = world->kind->options.when_full == NARU_OVERWRITE_OLDEST;

    if (nr_kill_random(&world->random, 8) == 0 && !overwrites)
        nr_kill_send_behind(world, arrivals);
    else
        nr_kill_meanwhile(world, arrivals, nr_kill_drain,
                          nr_kill_is_one_to_one(world) ? 0 : NARU_RECEIVER);
}

/* -- all of it can be used again --------------------------------------------------------------- */

struct nr_kill_room {
    unsigned messages, loans, entries;
};

static unsigned nr_kill_fill(struct nr_kill_world *world)
{
    const struct naru_options *options = &world->kind->options;
    unsigned most = options->when_full == NARU_OVERWRITE_OLDEST
                        ? (unsigned)options->capacity_messages
                        : NR_KILL_MESSAGES_MOST;
    unsigned sent = 0;
    struct nr_kill_arrivals arrivals = {0};

    for (int result = 0; sent < most && result == 0; sent += result == 0) {
        result = nr_kill_send(world, world->sender, NR_KILL_AFTER, sent);
        nr_kill_check(world, result == 0 || result == -EAGAIN, "%s", naru_error_text());
    }
    nr_kill_drain(world, &arrivals);
    nr_kill_check(world, arrivals.after == sent, "%u of %u messages came", arrivals.after, sent);
    return sent;
}

static unsigned nr_kill_loans(struct nr_kill_world *world)
{
    struct naru_message loans[NR_KILL_MESSAGES_MOST];
    unsigned count = 0;

    while (count < NR_KILL_MESSAGES_MOST &&
           naru_loan(world->sender, NR_KILL_ROOM_BYTES, &loans[count], 0) == 0)
        count++;
    for (unsigned i = 0; i < count; i++)
        nr_kill_ok(world, naru_cancel(world->sender, &loans[i]));
    return count;
}

unsigned nr_kill_queue_entries(struct nr_kill_world *world)
{
    struct naru_endpoint *newcomers[NR_KILL_NEWCOMERS_MOST];
    unsigned count = 0;
    int result = 0;

    while (count < NR_KILL_NEWCOMERS_MOST) {
        result = naru_open(&newcomers[count], world->uri, NARU_RECEIVER, &world->kind->options);
        if (result < 0)
            break;
        count++;
    }
    nr_kill_check(world, result == -EBUSY, "the last of %u gave %d", count, result);
    for (unsigned i = 0; i < count; i++)
        naru_close(newcomers[i]);
    return count;
}

static struct nr_kill_room nr_kill_room_now(struct nr_kill_world *world, bool with_entries)
{
    bool is_many = !nr_kill_is_one_to_one(world);

    if (nr_kill_is_topic(world)) /* each slot keeps its chunk until it is used again */
        nr_kill_fill(world);
    return (struct nr_kill_room){
        .messages = nr_kill_fill(world),
        .loans = is_many ? nr_kill_loans(world) : 0,
        .entries = is_many && with_entries ? nr_kill_queue_entries(world) : 0,
    };
}

/* What a channel of this kind has when nobody has died in it. */
static const struct nr_kill_room *nr_kill_room_new(struct nr_kill_world *world)
{
    static struct nr_kill_room rooms[16];
    struct nr_kill_room *room = &rooms[world->kind - nr_kill_kinds];
    struct nr_kill_world fresh = *world;
    char uri[96];

    if (room->messages)
        return room;
    snprintf(uri, sizeof uri, "%s-new", world->uri);
    fresh.uri = uri;
    fresh.receiver = nr_kill_open(&fresh, NARU_RECEIVER);
    fresh.sender = nr_kill_open(&fresh, NARU_SENDER);
    *room = nr_kill_room_now(&fresh, true);
    naru_close(fresh.sender);
    naru_close(fresh.receiver);
    nr_kill_ok(world, naru_unlink(uri));
    return room;
}

/* Those who live on without settling keep what they have. */
static void nr_kill_is_all_there(struct nr_kill_world *world)
{
    const struct nr_kill_room *room = nr_kill_room_new(world);
    const struct nr_kill_ledger *ledger = world->ledger;
    bool is_packed = nr_kill_is_one_to_one(world);
    bool with_entries = !world->operation->removes && nr_kill_random(&world->random, 4) == 0;
    struct nr_kill_room now = nr_kill_room_now(world, with_entries);

    /* Packed records leave more or less of a gap at the end of their ring. */
    nr_kill_check(
        world, now.messages == room->messages || (is_packed && now.messages + 1 >= room->messages),
        "%u messages fit, of %u", now.messages, room->messages);
    if (is_packed)
        return;
    nr_kill_check(world, now.loans + ledger->others_chunks == room->loans,
                  "%u loans are left, of %u", now.loans, room->loans);
    nr_kill_check(world, !with_entries || now.entries + ledger->others_entries == room->entries,
                  "%u can attach, of %u", now.entries, room->entries);
}

/* Another process attaches, and a message crosses. */
static void nr_kill_newcomer(struct nr_kill_world *world)
{
    struct nr_kill_arrivals arrivals = {0};
    pid_t pid = nr_kit_fork();

    if (pid == 0) {
        struct naru_endpoint *sender = nr_kill_open(world, NARU_SENDER);
        nr_kill_ok(world, nr_kill_send(world, sender, NR_KILL_AFTER, 0));
        naru_close(sender);
        _exit(0);
    }
    nr_kit_join(pid);
    nr_kill_drain(world, &arrivals);
    nr_kill_check(world, arrivals.after == 1, "a newcomer's message did not come");
}

/* -- settling ---------------------------------------------------------------------------------- */

static void nr_kill_let_go(struct nr_kill_world *world)
{
    while (world->held_count)
        nr_kill_ok(world, naru_ack(world->receiver, &world->held[--world->held_count]));
    while (world->loans_count)
        nr_kill_ok(world, naru_cancel(world->sender, &world->loans[--world->loans_count]));
}

void nr_kill_queue_settle(struct nr_kill_world *world)
{
    struct nr_kill_arrivals arrivals = {0};
    struct naru_stat stat = {.size_bytes = sizeof stat};
    unsigned most, least;

    nr_kill_open_ends(world);
    if (nr_kill_is_one_to_one(world)) /* one at a time: else they could not go on */
        nr_kill_let_go(world);
    nr_kill_notice(world, &arrivals);
    nr_kill_ok(world, naru_stat(world->receiver, &stat)); /* now someone must */
    nr_kill_drain(world, &arrivals);
    nr_kill_let_go(world);
    least = nr_kill_judge(world, &arrivals, &most);
    /* One to one, a loss is told to the receiver that takes the place, and this one has died. */
    if (nr_kill_is_one_to_one(world) && world->operation->is_alone)
        least = 0;
    nr_kill_is_all_there(world);
    if (!nr_kill_is_one_to_one(world) && !world->operation->removes &&
        nr_kill_random(&world->random, 16) == 0)
        nr_kill_newcomer(world);
    nr_kill_ok(world, naru_stat(world->receiver, &stat));
    nr_kill_check(world, stat.lost_messages >= least && stat.lost_messages <= most,
                  "%llu messages count as lost; %u to %u are",
                  (unsigned long long)stat.lost_messages, least, most);
    nr_kill_check(world, stat.peers == 1 + world->ledger->others_entries, "%u peers", stat.peers);
}

void nr_kill_queue_end(struct nr_kill_world *world)
{
    naru_close(world->sender);
    naru_close(world->receiver);
    world->sender = world->receiver = NULL;
    world->held_count = world->loans_count = 0;
    int result = naru_unlink(world->uri);
    nr_kill_check(world, result == 0 || (result == -ENOENT && world->operation->removes), "%s",
                  naru_error_text());
}
