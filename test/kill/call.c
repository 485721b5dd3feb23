/* SPDX-License-Identifier: MIT */
/*
 * call -- worlds that are channels of calls
 *
 * Each request of the cast comes to one server: to a survivor, flagged if another one had it; or the victim has
 * answered it; or, at most once, its client is told that the server died. What a dead client asked goes with it, once
 * its death is noticed. Then all calls of the table can be used again. In a film the cast's client lives on, but does
 * not settle: so its calls stay taken, and only what comes to the survivors is judged.
 *
 * Contents   asking and answering - the cast - survivors serve - judging - settling
 */
#include "call.h"
#include "queue.h"
#include <errno.h>
#include <string.h>
#include <sys/wait.h>

enum { NR_KILL_CALLS = 4, NR_KILL_CALL_LAPS = 13 };

/* The cast's calls, in the process that began them; worlds come one after the other. */
static struct nr_kill_asked {
    struct naru_call call;
    char room[NR_KILL_ROOM_BYTES];
} nr_kill_asked[NR_KILL_CALLS];

/* -- asking and answering ---------------------------------------------------------------------- */

int nr_kill_ask(struct nr_kill_world *world, struct naru_endpoint *client, enum nr_kill_maker maker,
                unsigned index, struct naru_call *ret, char room[NR_KILL_ROOM_BYTES])
{
    char question[NR_KILL_ROOM_BYTES];

    *ret = (struct naru_call){
        .size_bytes = sizeof *ret,
        .request = question,
        .request_size_bytes = nr_kill_size(world, index),
        .reply = room,
        .reply_capacity_bytes = NR_KILL_ROOM_BYTES,
    };
    nr_payload_fill(question, ret->request_size_bytes, maker, index);
    return naru_call_begin(client, ret, 0);
}

int nr_kill_answer(struct nr_kill_world *world, struct naru_endpoint *server,
                   struct naru_message *request, enum nr_kill_maker maker)
{
    char reply[NR_KILL_ROOM_BYTES];
    struct nr_payload_stamp stamp;
    size_t size_bytes = request->size_bytes;

    nr_kill_check(world, nr_payload_read(request->data, size_bytes, &stamp),
                  "a request of %zu bytes is torn", size_bytes);
    nr_payload_fill(reply, size_bytes, maker, stamp.index);
    return naru_reply(server, request, reply, size_bytes);
}

/* The reply to call `index` is whole, and from `maker`. */
static bool nr_kill_is_reply(const struct nr_kill_world *world, const struct naru_call *call,
                             const char *room, enum nr_kill_maker maker, unsigned index)
{
    return call->reply_size_bytes == nr_kill_size(world, index) &&
           nr_payload_is_whole(room, call->reply_size_bytes, maker, index);
}

/* -- the cast ---------------------------------------------------------------------------------- */

static unsigned nr_kill_calls_wanted(const struct nr_kill_world *world)
{
    switch (world->state) {
    case NR_KILL_EMPTY:
        return 0;
    case NR_KILL_ONE:
        return 1;
    case NR_KILL_FULL:
        return NR_KILL_CALLS;
    case NR_KILL_HELD:
    case NR_KILL_ORPHANS:
    case NR_KILL_UNSWEPT:
        return 3;
    default:
        return 2;
    }
}

/* Asked, answered and told, again and again. */
static void nr_kill_calls_around(struct nr_kill_world *world, unsigned laps)
{
    struct nr_kill_asked *asked = &nr_kill_asked[0];
    struct naru_message request;

    for (unsigned i = 0; i < laps; i++) {
        nr_kill_ok(world,
                   nr_kill_ask(world, world->sender, NR_KILL_AFTER, i, &asked->call, asked->room));
        nr_kill_ok(world, naru_take(world->receiver, &request, 0));
        nr_kill_ok(world, nr_kill_answer(world, world->receiver, &request, NR_KILL_AFTER));
        nr_kill_ok(world, naru_call_end(world->sender, &asked->call, 0));
    }
}

static void nr_kill_server_dies(struct nr_kill_world *world)
{
    pid_t pid = nr_kit_fork();
    int status;

    if (pid == 0) {
        struct naru_endpoint *server = nr_kill_open(world, NARU_RECEIVER);
        struct naru_message request;
        nr_kill_ok(world, naru_take(server, &request, 0));
        nr_kill_in_hand(world, &request, NR_KILL_IN_DEAD_HAND);
        nr_step_kill();
    }
    waitpid(pid, &status, 0);
    nr_kill_check(world, WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %x", status);
    world->ledger->dead++;
}

void nr_kill_call_begin(struct nr_kill_world *world)
{
    struct nr_kill_ledger *ledger = world->ledger;

    if (world->operation->makes)
        return;
    world->receiver = nr_kill_open(world, NARU_RECEIVER);
    world->sender = nr_kill_open(world, NARU_SENDER);
    if (world->state == NR_KILL_WRAPPED)
        nr_kill_calls_around(world, NR_KILL_CALL_LAPS + world->variant % NR_KILL_CALL_LAPS);
    for (unsigned wanted = nr_kill_calls_wanted(world); ledger->made < wanted;) {
        struct nr_kill_asked *asked = &nr_kill_asked[ledger->made];
        nr_kill_ok(world, nr_kill_ask(world, world->sender, NR_KILL_CAST, ledger->made,
                                      &asked->call, asked->room));
        ledger->place[ledger->made++] = NR_KILL_QUEUED;
    }
    unsigned taken = world->state == NR_KILL_HELD || world->state == NR_KILL_ORPHANS ? 2 : 0;
    for (; world->held_count < taken; world->held_count++) {
        struct naru_message *request = &world->held[world->held_count];
        nr_kill_ok(world, naru_take(world->receiver, request, 0));
        ledger->place[nr_kill_read(world, request)] =
            world->state == NR_KILL_HELD ? NR_KILL_WITH_OTHERS : NR_KILL_REQUEUED;
    }
    while (world->state == NR_KILL_ORPHANS && world->held_count)
        nr_kill_ok(world, naru_requeue(world->receiver, &world->held[--world->held_count]));
    if (world->state == NR_KILL_UNSWEPT && world->operation->is_alone)
        nr_kill_server_dies(world);
}

struct naru_endpoint *nr_kill_call_enter(struct nr_kill_world *world, enum naru_role role)
{
    struct naru_endpoint *endpoint = nr_kill_open(world, role);

    if (world->state == NR_KILL_UNSWEPT)
        nr_kill_server_dies(world);
    return endpoint;
}

/* -- survivors serve --------------------------------------------------------------------------- */

/* Takes all there is, and answers. While the victim's death is not noticed, its request may come. */
static void nr_kill_serve(struct nr_kill_world *world, struct nr_kill_arrivals *arrivals)
{
    struct naru_message request;
    int result;

    while ((result = naru_take(world->receiver, &request, 0)) == 0) {
        unsigned before = arrivals->victims;
        nr_kill_arrive(world, arrivals, &request);
        result = nr_kill_answer(world, world->receiver, &request, NR_KILL_AFTER);
        nr_kill_check(world, result == 0 || (result == -EPIPE && arrivals->victims > before),
                      "the reply gave %d: %s", result, naru_error_text());
    }
    nr_kill_check(world, result == -EAGAIN, "%s", naru_error_text());
}

static void nr_kill_notice_call(struct nr_kill_world *world, struct nr_kill_arrivals *arrivals)
{
    struct naru_stat stat = {.size_bytes = sizeof stat};

    nr_kill_meanwhile(world, arrivals, nr_kill_serve, NARU_SENDER);
    nr_kill_ok(world, naru_stat(world->receiver, &stat)); /* now someone must */
    nr_kill_check(world, stat.peers == 1 + world->ledger->others_entries, "%u peers", stat.peers);
    nr_kill_check(world,
                  arrivals->victims <=
                      (world->operation->effect == NR_KILL_ASKS ? world->operation->count : 0),
                  "%u requests of the victim came", arrivals->victims);
    unsigned before = arrivals->victims;
    nr_kill_serve(world, arrivals);
    nr_kill_check(world, arrivals->victims == before, "a dead client's request came");
}

/* -- judging ----------------------------------------------------------------------------------- */

/* *touched counts those that the victim must have had. */
static void nr_kill_judge_request(struct nr_kill_world *world,
                                  const struct nr_kill_arrivals *arrivals, unsigned index,
                                  unsigned *touched)
{
    const struct nr_kill_ledger *ledger = world->ledger;
    bool is_most_once = world->kind->options.delivery == NARU_AT_MOST_ONCE;
    bool came = arrivals->count[index], flagged = arrivals->flagged[index];
    bool is_done = ledger->is_done;
    enum nr_kill_effect effect = world->operation->effect;

    switch ((enum nr_kill_place)ledger->place[index]) {
    case NR_KILL_QUEUED:
    case NR_KILL_RETURNED:
        *touched += !came || flagged;
        nr_kill_check(world, came || is_most_once, "request %u is lost", index);
        break;
    case NR_KILL_REQUEUED:
        *touched += !came;
        nr_kill_check(world, came ? flagged : is_most_once, "request %u %s", index,
                      came ? "came unflagged" : "is lost");
        break;
    case NR_KILL_WITH_OTHERS:
        nr_kill_check(world, !came, "request %u came, though a survivor has it", index);
        break;
    case NR_KILL_IN_DEAD_HAND:
        nr_kill_check(world, came != is_most_once && came == flagged,
                      "request %u, in a dead hand, %s", index, came ? "came" : "is lost");
        break;
    case NR_KILL_IN_VICTIMS_HAND:
        nr_kill_check(world, !came || flagged, "request %u came unflagged", index);
        nr_kill_check(world, !came || !is_most_once || effect == NR_KILL_GIVES_BACK,
                      "at most once, and the request in the victim's hand came again");
        nr_kill_check(world, came || effect == NR_KILL_ANSWERS || is_most_once,
                      "the request in the victim's hand is lost");
        nr_kill_check(world,
                      !is_done || came == (effect == NR_KILL_GIVES_BACK ||
                                           (effect == NR_KILL_NOTHING && !is_most_once)),
                      "the request that was in the victim's hand %s", came ? "came" : "is lost");
        break;
    }
}

static void nr_kill_judge_requests(struct nr_kill_world *world,
                                   const struct nr_kill_arrivals *arrivals)
{
    const struct nr_kill_ledger *ledger = world->ledger;
    bool is_most_once = world->kind->options.delivery == NARU_AT_MOST_ONCE;
    unsigned touched = 0, most = world->operation->effect == NR_KILL_TAKES ? 1 : 0;

    for (unsigned i = 0; i < ledger->made; i++)
        nr_kill_judge_request(world, arrivals, i, &touched);
    nr_kill_check(world, touched <= most, "%u requests came flagged, or are lost", touched);
    for (unsigned i = 0; ledger->is_done && i < ledger->got_count; i++)
        nr_kill_check(world,
                      arrivals->count[ledger->got[i]] == !is_most_once &&
                          arrivals->flagged[ledger->got[i]] == !is_most_once,
                      "request %u, which the victim had", ledger->got[i]);
}

/* What the cast's client is told of each call. */
static void nr_kill_judge_replies(struct nr_kill_world *world,
                                  const struct nr_kill_arrivals *arrivals)
{
    const struct nr_kill_ledger *ledger = world->ledger;
    bool is_most_once = world->kind->options.delivery == NARU_AT_MOST_ONCE;

    for (unsigned i = 0; i < ledger->made; i++) {
        struct nr_kill_asked *asked = &nr_kill_asked[i];
        int result = naru_call_end(world->sender, &asked->call, 0);
        if (arrivals->count[i] || ledger->place[i] == NR_KILL_WITH_OTHERS) {
            nr_kill_ok(world, result);
            nr_kill_check(world,
                          nr_kill_is_reply(world, &asked->call, asked->room, NR_KILL_AFTER, i),
                          "the reply to %u", i);
        } else if (result == -EOWNERDEAD) {
            nr_kill_check(world, is_most_once, "%s", naru_error_text());
        } else {
            nr_kill_check(world, world->operation->effect == NR_KILL_ANSWERS, "call %u gave %d: %s",
                          i, result, naru_error_text());
            nr_kill_check(world,
                          (result == 0 || asked->call.error == NR_KILL_ERROR) &&
                              nr_kill_is_reply(world, &asked->call, asked->room, NR_KILL_VICTIM, i),
                          "the victim's reply to %u: %s", i, naru_error_text());
            world->progress++;
        }
    }
    nr_kill_check(world,
                  !ledger->is_done || world->operation->effect != NR_KILL_ANSWERS ||
                      world->progress == 1,
                  "the victim had answered");
}

/* -- settling ---------------------------------------------------------------------------------- */

/* As many calls as the table holds, but for those of who lives on without settling. */
static void nr_kill_calls_are_free(struct nr_kill_world *world)
{
    struct nr_kill_asked asked[NR_KILL_CALLS + 1];
    unsigned begun = 0, free_calls = NR_KILL_CALLS - (world->is_film ? world->ledger->made : 0);
    struct nr_kill_arrivals arrivals = {0};
    int result;

    while ((result = nr_kill_ask(world, world->sender, NR_KILL_AFTER, begun, &asked[begun].call,
                                 asked[begun].room)) == 0)
        nr_kill_check(world, ++begun <= NR_KILL_CALLS, "it does not end");
    nr_kill_check(world, result == -EAGAIN && begun == free_calls, "%u calls are free, of %u: %s",
                  begun, free_calls, naru_error_text());
    nr_kill_serve(world, &arrivals);
    nr_kill_check(world, arrivals.after == begun, "%u of %u requests came", arrivals.after, begun);
    for (unsigned i = 0; i < begun; i++) {
        nr_kill_ok(world, naru_call_end(world->sender, &asked[i].call, 0));
        nr_kill_check(world,
                      nr_kill_is_reply(world, &asked[i].call, asked[i].room, NR_KILL_AFTER, i),
                      "the reply to %u", i);
    }
}

void nr_kill_call_settle(struct nr_kill_world *world)
{
    struct nr_kill_arrivals arrivals = {0};
    unsigned entries = (unsigned)world->kind->options.participants_max - 2;

    nr_kill_open_ends(world);
    nr_kill_notice_call(world, &arrivals);
    world->progress = 0;
    nr_kill_judge_requests(world, &arrivals);
    while (world->held_count)
        nr_kill_ok(world, nr_kill_answer(world, world->receiver, &world->held[--world->held_count],
                                         NR_KILL_AFTER));
    if (!world->is_film)
        nr_kill_judge_replies(world, &arrivals);
    nr_kill_calls_are_free(world);
    if (world->operation->removes || nr_kill_random(&world->random, 4))
        return;
    unsigned now = nr_kill_queue_entries(world);
    nr_kill_check(world, now + world->ledger->others_entries == entries, "%u can attach", now);
}
