/* SPDX-License-Identifier: MIT */
#pragma once
/* call -- worlds that are channels of calls: the cast's client has asked, and some servers have the requests */
#include "world.h"

void nr_kill_call_begin(struct nr_kill_world *world);
struct naru_endpoint *nr_kill_call_enter(struct nr_kill_world *world, enum naru_role role);
void nr_kill_call_settle(struct nr_kill_world *world);

/* Asks question `index` of `maker`, for a reply into `room`; what naru_call_begin() returns. */
int nr_kill_ask(struct nr_kill_world *world, struct naru_endpoint *client, enum nr_kill_maker maker,
                unsigned index, struct naru_call *ret, char room[NR_KILL_ROOM_BYTES]);

/* Answers with a payload of `maker`, of the size and with the index of the request. */
int nr_kill_answer(struct nr_kill_world *world, struct naru_endpoint *server,
                   struct naru_message *request, enum nr_kill_maker maker);
