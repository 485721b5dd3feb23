/* SPDX-License-Identifier: MIT */
/*
 * cell -- worlds that are cells
 *
 * The reader finds the cast's last value, or one of the victim's, whole, and never an older one at a later point of
 * the operation. A new writer takes the dead one's place at once, and all who come later see what it writes.
 */
#include "cell.h"
#include <errno.h>
#include <stdio.h>

enum { NR_KILL_VALUES = 13 };

void nr_kill_cell_begin(struct nr_kill_world *world)
{
    struct nr_kill_ledger *ledger = world->ledger;
    unsigned wanted = world->state == NR_KILL_EMPTY ? 0
                      : world->state == NR_KILL_ONE ? 1
                                                    : NR_KILL_VALUES + world->variant % 3;

    if (world->operation->makes)
        return;
    world->receiver = nr_kill_open(world, NARU_RECEIVER);
    struct naru_endpoint *writer = nr_kill_open(world, NARU_SENDER);
    while (ledger->made < wanted)
        nr_kill_ok(world, nr_kill_send(world, writer, NR_KILL_CAST, ledger->made++));
    naru_close(writer);
}

/* Who made the value that a reader finds; 0: there is none. */
static unsigned nr_kill_value(struct nr_kill_world *world, struct naru_endpoint *reader,
                              unsigned *ret_index)
{
    char room[NR_KILL_ROOM_BYTES];
    struct nr_payload_stamp stamp;
    size_t size_bytes;
    int result = naru_recv(reader, room, sizeof room, &size_bytes, 0);

    if (result == -EAGAIN)
        return 0;
    nr_kill_ok(world, result);
    nr_kill_check(world, nr_payload_read(room, size_bytes, &stamp), "a value of %zu bytes is torn",
                  size_bytes);
    *ret_index = stamp.index;
    return stamp.sender;
}

/* What must stand in the cell, after the victim. */
static void nr_kill_cell_judge(struct nr_kill_world *world)
{
    const struct nr_kill_ledger *ledger = world->ledger;
    const struct nr_kill_operation *operation = world->operation;
    unsigned most = operation->effect == NR_KILL_SENDS ? operation->count : 0, index = 0;
    unsigned maker = nr_kill_value(world, world->receiver, &index);

    if (maker == NR_KILL_VICTIM) {
        nr_kill_check(world, index < most, "the victim's value %u", index);
        world->progress = index + 1;
    } else {
        nr_kill_check(world, maker == (ledger->made ? NR_KILL_CAST : 0), "from %u", maker);
        nr_kill_check(world, !maker || index + 1 == ledger->made, "value %u, of %u", index,
                      ledger->made);
        world->progress = 0;
    }
    if (ledger->is_done && most) {
        unsigned sent = ledger->result < 0 ? 0 : most == 1 ? 1 : (unsigned)ledger->result;
        nr_kill_check(world, world->progress == sent, "the victim wrote %u values, %u is there",
                      sent, world->progress);
    }
}

void nr_kill_cell_settle(struct nr_kill_world *world)
{
    struct naru_stat stat = {.size_bytes = sizeof stat};
    unsigned index = 0;

    if (!world->receiver)
        world->receiver = nr_kill_open(world, NARU_RECEIVER);
    if (nr_kill_random(&world->random, 2)) {
        nr_kill_cell_judge(world);
        world->sender = nr_kill_open(world, NARU_SENDER);
    } else {
        world->sender = nr_kill_open(world, NARU_SENDER);
        nr_kill_cell_judge(world);
    }
    if (world->operation->removes) /* the new writer has made another one */
        return;
    for (unsigned i = 0; i < NR_KILL_VALUES; i++) {
        nr_kill_ok(world, nr_kill_send(world, world->sender, NR_KILL_AFTER, i));
        struct naru_endpoint *late = nr_kill_open(world, NARU_RECEIVER);
        nr_kill_check(world,
                      nr_kill_value(world, world->receiver, &index) == NR_KILL_AFTER && index == i,
                      "%u", index);
        nr_kill_check(world, nr_kill_value(world, late, &index) == NR_KILL_AFTER && index == i,
                      "%u", index);
        naru_close(late);
        if (nr_kill_random(&world->random, 4))
            break;
    }
    nr_kill_ok(world, naru_stat(world->receiver, &stat));
    nr_kill_check(world, stat.peers == 1, "%u peers", stat.peers);
}
