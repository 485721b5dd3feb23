/* SPDX-License-Identifier: MIT */
/* kinds -- the channels that a victim dies on */
#include "call.h"
#include "cell.h"
#include "pair.h"
#include "queue.h"

enum {
    NR_KILL_TINY_BYTES = 8,
    NR_KILL_SMALL_BYTES = 24,
    NR_KILL_RUN_BYTES = 40,
    NR_KILL_TWO_LINES_BYTES = 80,
    NR_KILL_LARGE_BYTES = 300
};

#define NR_KILL_QUEUE                                                                              \
    .is_named = true, .begin = nr_kill_queue_begin, .enter = nr_kill_queue_enter,                  \
    .settle = nr_kill_queue_settle, .end = nr_kill_queue_end

/* Four slots, six chunks. */
#define NR_KILL_MANY_OPTIONS                                                                       \
    .size_bytes = sizeof(struct naru_options), .message_size_max_bytes = NR_KILL_ROOM_BYTES,       \
    .capacity_messages = 4, .payload_bytes = 6 * NR_KILL_ROOM_BYTES, .participants_max = 8,        \
    .held_max = 4
#define NR_KILL_ONE_OPTIONS                                                                        \
    .size_bytes = sizeof(struct naru_options), .message_size_max_bytes = NR_KILL_ROOM_BYTES,       \
    .capacity_messages = 4, .participants_max = 8, .one_to_one = 1
/* Who subscribes later gets what is kept. */
#define NR_KILL_TOPIC_OPTIONS                                                                      \
    .size_bytes = sizeof(struct naru_options), .pattern = NARU_TOPIC, .start = NARU_FROM_OLDEST,   \
    .message_size_max_bytes = NR_KILL_ROOM_BYTES, .capacity_messages = 4,                          \
    .payload_bytes = 10 * NR_KILL_ROOM_BYTES, .participants_max = 8
#define NR_KILL_CALL                                                                               \
    .states = NR_KILL_ALL & ~(1u << NR_KILL_LOANS), .is_named = true, .begin = nr_kill_call_begin, \
    .enter = nr_kill_call_enter, .settle = nr_kill_call_settle, .end = nr_kill_queue_end
#define NR_KILL_CALL_OPTIONS                                                                       \
    .size_bytes = sizeof(struct naru_options), .pattern = NARU_CALL,                               \
    .message_size_max_bytes = NR_KILL_ROOM_BYTES, .capacity_messages = 4, .participants_max = 8
#define NR_KILL_ONE_STATES (NR_KILL_ALL & ~(1u << NR_KILL_ORPHANS))

const struct nr_kill_kind nr_kill_kinds[] = {
    {.name = "inline",
     .options = {NR_KILL_MANY_OPTIONS},
     .sizes = {NR_KILL_SMALL_BYTES, NR_KILL_SMALL_BYTES},
     .states = NR_KILL_ALL,
     NR_KILL_QUEUE},
    {.name = "chunks",
     .options = {NR_KILL_MANY_OPTIONS},
     .sizes = {NR_KILL_LARGE_BYTES, NR_KILL_LARGE_BYTES},
     .states = NR_KILL_ALL,
     NR_KILL_QUEUE},
    {.name = "at most once",
     .options = {NR_KILL_MANY_OPTIONS, .delivery = NARU_AT_MOST_ONCE},
     .sizes = {NR_KILL_SMALL_BYTES, NR_KILL_LARGE_BYTES},
     .states = NR_KILL_ALL,
     NR_KILL_QUEUE},
    {.name = "overwriting",
     .options = {NR_KILL_MANY_OPTIONS, .when_full = NARU_OVERWRITE_OLDEST},
     .sizes = {NR_KILL_LARGE_BYTES, NR_KILL_SMALL_BYTES},
     .states = NR_KILL_ALL,
     NR_KILL_QUEUE},
    {.name = "one to one",
     .options = {NR_KILL_ONE_OPTIONS},
     .sizes = {NR_KILL_LARGE_BYTES, NR_KILL_SMALL_BYTES},
     .states = NR_KILL_ONE_STATES,
     .cast_leaves = true,
     NR_KILL_QUEUE},
    {.name = "one to one, small", /* several in a line, and one in two lines */
     .options = {NR_KILL_ONE_OPTIONS},
     .sizes = {NR_KILL_TINY_BYTES, NR_KILL_TWO_LINES_BYTES},
     .states = NR_KILL_ONE_STATES,
     .cast_leaves = true,
     NR_KILL_QUEUE},
    {.name = "one to one, batches", /* in one line */
     .options = {NR_KILL_ONE_OPTIONS},
     .sizes = {NR_KILL_TINY_BYTES, NR_KILL_TINY_BYTES},
     .states = NR_KILL_ONE_STATES,
     .cast_leaves = true,
     NR_KILL_QUEUE},
    {.name = "one to one, runs",
     .options = {NR_KILL_ONE_OPTIONS},
     .sizes = {NR_KILL_RUN_BYTES, NR_KILL_RUN_BYTES},
     .states = NR_KILL_ONE_STATES,
     .cast_leaves = true,
     NR_KILL_QUEUE},
    {.name = "one to one, at most once",
     .options = {NR_KILL_ONE_OPTIONS, .delivery = NARU_AT_MOST_ONCE},
     .sizes = {NR_KILL_SMALL_BYTES, NR_KILL_LARGE_BYTES},
     .states = NR_KILL_ONE_STATES,
     .cast_leaves = true,
     NR_KILL_QUEUE},
    {.name = "topic",
     .options = {NR_KILL_TOPIC_OPTIONS},
     .sizes = {NR_KILL_SMALL_BYTES, NR_KILL_LARGE_BYTES},
     .states = NR_KILL_ALL,
     .cast_leaves = true,
     NR_KILL_QUEUE},
    {.name = "topic, overwriting",
     .options = {NR_KILL_TOPIC_OPTIONS, .when_full = NARU_OVERWRITE_OLDEST},
     .sizes = {NR_KILL_LARGE_BYTES, NR_KILL_SMALL_BYTES},
     .states = NR_KILL_ALL & ~(1u << NR_KILL_HELD | 1u << NR_KILL_ORPHANS),
     .cast_leaves = true,
     NR_KILL_QUEUE},
    {.name = "cell",
     .options = {.size_bytes = sizeof(struct naru_options),
                 .pattern = NARU_CELL,
                 .message_size_max_bytes = NR_KILL_ROOM_BYTES,
                 .participants_max = 8},
     .sizes = {NR_KILL_LARGE_BYTES, NR_KILL_SMALL_BYTES},
     .states = 1u << NR_KILL_EMPTY | 1u << NR_KILL_ONE | 1u << NR_KILL_WRAPPED,
     .is_named = true,
     .cast_leaves = true,
     .begin = nr_kill_cell_begin,
     .enter = nr_kill_open,
     .settle = nr_kill_cell_settle,
     .end = nr_kill_queue_end},
    {.name = "calls",
     .options = {NR_KILL_CALL_OPTIONS},
     .sizes = {NR_KILL_SMALL_BYTES, NR_KILL_LARGE_BYTES},
     NR_KILL_CALL},
    {.name = "calls, at most once",
     .options = {NR_KILL_CALL_OPTIONS, .delivery = NARU_AT_MOST_ONCE},
     .sizes = {NR_KILL_LARGE_BYTES, NR_KILL_SMALL_BYTES},
     NR_KILL_CALL},
    {.name = "pair",
     .options = {.size_bytes = sizeof(struct naru_options),
                 .message_size_max_bytes = NR_KILL_ROOM_BYTES,
                 .capacity_messages = 4},
     .sizes = {NR_KILL_LARGE_BYTES, NR_KILL_SMALL_BYTES},
     .states = NR_KILL_ONE_STATES & ~(1u << NR_KILL_UNSWEPT),
     .begin = nr_kill_pair_begin,
     .forked = nr_kill_pair_forked,
     .enter = nr_kill_pair_enter,
     .settle = nr_kill_pair_settle,
     .end = nr_kill_pair_end},
};
const unsigned nr_kill_kinds_count = sizeof nr_kill_kinds / sizeof nr_kill_kinds[0];
