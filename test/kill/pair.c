/* SPDX-License-Identifier: MIT */
/*
 * pair -- worlds that are pairs
 *
 * Where the victim sends, the cast's messages were sent on its end, before it was handed over, and must come with
 * what it sends itself. Where it receives, they go with it. The survivor is told that it died, or has closed its end.
 */
#include "pair.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { NR_KILL_OURS, NR_KILL_ITS, NR_KILL_LAPS = 13 };

static bool nr_kill_it_sends(const struct nr_kill_world *world)
{
    return world->operation->role == NARU_SENDER;
}

static void nr_kill_pair_fill(struct nr_kill_world *world)
{
    static const unsigned char wanted[NR_KILL_STATES] = {
        [NR_KILL_ONE] = 1,  [NR_KILL_HALF] = 2,  [NR_KILL_FULL] = NR_KILL_MESSAGES_MOST,
        [NR_KILL_HELD] = 2, [NR_KILL_LOANS] = 2, [NR_KILL_WRAPPED] = 2,
    };
    struct nr_kill_ledger *ledger = world->ledger;
    struct naru_endpoint *from = world->ends[nr_kill_it_sends(world) ? NR_KILL_ITS : NR_KILL_OURS];
    struct naru_endpoint *to = world->ends[nr_kill_it_sends(world) ? NR_KILL_OURS : NR_KILL_ITS];
    char room[NR_KILL_ROOM_BYTES];

    for (unsigned i = 0;
         world->state == NR_KILL_WRAPPED && i < NR_KILL_LAPS + world->variant % NR_KILL_LAPS; i++) {
        nr_kill_ok(world, nr_kill_send(world, from, NR_KILL_AFTER, i));
        nr_kill_ok(world, naru_recv(to, room, sizeof room, NULL, 0));
    }
    while (ledger->made < wanted[world->state]) {
        int result = nr_kill_send(world, from, NR_KILL_CAST, ledger->made);
        if (result == -EAGAIN)
            break;
        nr_kill_ok(world, result);
        ledger->place[ledger->made++] =
            nr_kill_it_sends(world) ? NR_KILL_QUEUED : NR_KILL_WITH_OTHERS;
    }
}

void nr_kill_pair_begin(struct nr_kill_world *world)
{
    if (world->operation->makes)
        return;
    nr_kill_ok(world, naru_pair(world->ends, "shm://", &world->kind->options));
    nr_kill_pair_fill(world);
    if (world->state == NR_KILL_HELD && nr_kill_it_sends(world)) {
        nr_kill_ok(world,
                   naru_take(world->ends[NR_KILL_OURS], &world->held[world->held_count++], 0));
        world->ledger->place[nr_kill_read(world, &world->held[0])] = NR_KILL_WITH_OTHERS;
    }
    if (world->state == NR_KILL_LOANS)
        nr_kill_ok(world, naru_loan(world->ends[NR_KILL_OURS], NR_KILL_ROOM_BYTES,
                                    &world->loans[world->loans_count++], 0));
}

void nr_kill_pair_forked(struct nr_kill_world *world, pid_t victim)
{
    if (!world->operation->makes)
        nr_kill_ok(world, naru_pair_assign(world->ends[NR_KILL_ITS], victim));
}

struct naru_endpoint *nr_kill_pair_enter(struct nr_kill_world *world, enum naru_role role)
{
    (void)role;
    nr_kill_ok(world, naru_pair_assign(world->ends[NR_KILL_ITS], getpid()));
    return world->ends[NR_KILL_ITS];
}

static bool nr_kill_is_end(int result)
{
    return result == -EOWNERDEAD || result == -EPIPE;
}

/* All there is to receive, up to the word that the other side is gone; it stays so. */
static void nr_kill_pair_drain(struct nr_kill_world *world, struct nr_kill_arrivals *arrivals)
{
    char room[NR_KILL_ROOM_BYTES];
    int ends = 0;

    for (unsigned i = 0; ends < 2; i++) {
        struct naru_message message = {.data = room, .capacity_bytes = sizeof room};
        int result = naru_recv_many(world->ends[NR_KILL_OURS], &message, 1, NR_SOON);
        nr_kill_check(world, result == 1 ? ends == 0 : nr_kill_is_end(result), "%d: %s", result,
                      naru_error_text());
        nr_kill_check(world, i < 2 * NR_KILL_MESSAGES_MOST, "it doesn't end");
        if (result == 1)
            nr_kill_arrive(world, arrivals, &message);
        else
            ends++;
    }
}

void nr_kill_pair_settle(struct nr_kill_world *world)
{
    struct nr_kill_arrivals arrivals = {0};
    unsigned most;

    if (world->operation->makes)
        return;
    if (world->held_count)
        nr_kill_ok(world, naru_ack(world->ends[NR_KILL_OURS], &world->held[--world->held_count]));
    if (world->loans_count)
        nr_kill_ok(world,
                   naru_cancel(world->ends[NR_KILL_OURS], &world->loans[--world->loans_count]));
    nr_kill_pair_drain(world, &arrivals);
    if (nr_kill_it_sends(world))
        nr_kill_judge(world, &arrivals, &most);
    else /* what was on its way to the victim has gone with it */
        for (unsigned i = 0; i < world->ledger->made; i++)
            nr_kill_check(world, !arrivals.count[i], "message %u came back", i);
    int result = 0;
    for (unsigned i = 0; i < 2 * NR_KILL_MESSAGES_MOST && result == 0; i++) {
        char room[NR_KILL_ROOM_BYTES] = {0};
        result = naru_send(world->ends[NR_KILL_OURS], room, sizeof room, NR_SOON);
    }
    nr_kill_check(world, nr_kill_is_end(result), "%d: %s", result, naru_error_text());
}

void nr_kill_pair_end(struct nr_kill_world *world)
{
    for (int i = 0; i < 2; i++)
        naru_close(world->ends[i]);
    world->ends[0] = world->ends[1] = NULL;
}
