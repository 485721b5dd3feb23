/* SPDX-License-Identifier: MIT */
#pragma once
/* queue -- worlds that are queues with a name: many to many, and one to one */
#include "world.h"

void nr_kill_queue_begin(struct nr_kill_world *world);
struct naru_endpoint *nr_kill_queue_enter(struct nr_kill_world *world, enum naru_role role);
void nr_kill_queue_settle(struct nr_kill_world *world);
void nr_kill_queue_end(struct nr_kill_world *world);

/* How many more can attach. */
unsigned nr_kill_queue_entries(struct nr_kill_world *world);

/* A process joins in `role`, takes or loans what it can, and dies; nobody has noticed. */
void nr_kill_queue_one_dies(struct nr_kill_world *world, enum naru_role role);
