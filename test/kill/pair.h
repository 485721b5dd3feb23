/* SPDX-License-Identifier: MIT */
#pragma once
/* pair -- worlds that are pairs: the victim has one end, the survivor the other */
#include "world.h"

void nr_kill_pair_begin(struct nr_kill_world *world);
void nr_kill_pair_forked(struct nr_kill_world *world, pid_t victim);
struct naru_endpoint *nr_kill_pair_enter(struct nr_kill_world *world, enum naru_role role);
void nr_kill_pair_settle(struct nr_kill_world *world);
void nr_kill_pair_end(struct nr_kill_world *world);
