/* SPDX-License-Identifier: MIT */
#pragma once
/* cell -- worlds that are cells: there is a reader, and where the victim writes, no other writer */
#include "world.h"

void nr_kill_cell_begin(struct nr_kill_world *world);
void nr_kill_cell_settle(struct nr_kill_world *world);
