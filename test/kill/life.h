/* SPDX-License-Identifier: MIT */
#pragma once
/* life -- worlds with a real death: the victim is killed at a point of its operation, and the others settle */
#include "world.h"

struct nr_kill_run {
    char uri[80];
    struct nr_kill_ledger *ledger;
    struct nr_step_path *path;
    uint64_t random;
    unsigned variant;     /* of the states of the next worlds */
    unsigned long kills;  /* inside of an operation */
    unsigned long missed; /* the victim went another way, and died after its operation */
    unsigned long pairs;  /* a victim, and then its repairer in the middle of the repair */
    unsigned long worlds;
};

/* `name` is the channel's, in /dev/shm. */
void nr_kill_run_init(struct nr_kill_run *run, uint64_t seed, const char *name);
void nr_kill_run_deinit(struct nr_kill_run *run);

/* One life: begin, a victim at that point, settle, end. */
void nr_kill_life(struct nr_kill_run *run, struct nr_kill_world *world, long point);

/* One world: first a victim goes all the way; then others are killed, at `count` of its points (all of them, if
   that is more), each once. Returns how many points there are. */
unsigned nr_kill_world_run(struct nr_kill_run *run, const struct nr_kill_kind *kind,
                           enum nr_kill_state state, const struct nr_kill_operation *operation,
                           unsigned count);

/* The same with two deaths: after the victim's another process repairs, and is killed in it, after some number of
   instructions. Not one to one, where the survivors have all the places. Returns 0 if that is what this is. */
unsigned nr_kill_world_run_pairs(struct nr_kill_run *run, const struct nr_kill_kind *kind,
                                 enum nr_kill_state state,
                                 const struct nr_kill_operation *operation, unsigned count);

/* A world before its victim; and the victim, which never returns. */
void nr_kill_world_init(struct nr_kill_world *world, struct nr_kill_run *run,
                        const struct nr_kill_kind *kind, enum nr_kill_state state,
                        const struct nr_kill_operation *operation);
enum { NR_KILL_RECORD = -1, NR_KILL_FILM = -2 };
_Noreturn void nr_kill_victim_run(struct nr_kill_world *world, const struct nr_kill_run *run,
                                  long point, struct nr_step_film *film);
