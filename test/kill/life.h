/* SPDX-License-Identifier: MIT */
#pragma once
/* life -- worlds with a real death: the victim is killed at a point of its operation, and the others settle */
#include "world.h"

struct nr_kill_run {
    char uri[80];
    struct nr_kill_ledger *ledger;
    struct nr_step_path *path;
    uint64_t random;
    unsigned long kills;  /* inside of an operation */
    unsigned long missed; /* the victim went another way, and died after its operation */
    unsigned long worlds;
};

void nr_kill_run_init(struct nr_kill_run *run, uint64_t seed);
void nr_kill_run_deinit(struct nr_kill_run *run);

/* One life: begin, a victim at that point, settle, end. */
void nr_kill_life(struct nr_kill_run *run, struct nr_kill_world *world, long point);

/* One world: first a victim goes all the way; then others are killed, at `count` of its points (all of them, if
   that is more), each once. Returns how many points there are. */
unsigned nr_kill_world_run(struct nr_kill_run *run, const struct nr_kill_kind *kind,
                           enum nr_kill_state state, const struct nr_kill_operation *operation,
                           unsigned count);

/* A world before its victim; and the victim, which never returns. */
void nr_kill_world_init(struct nr_kill_world *world, struct nr_kill_run *run,
                        const struct nr_kill_kind *kind, enum nr_kill_state state,
                        const struct nr_kill_operation *operation);
enum { NR_KILL_RECORD = -1, NR_KILL_FILM = -2 };
_Noreturn void nr_kill_victim_run(struct nr_kill_world *world, const struct nr_kill_run *run,
                                  long point, struct nr_step_film *film);
