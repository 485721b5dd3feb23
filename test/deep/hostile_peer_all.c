/* SPDX-License-Identifier: MIT */
/* hostile_peer_all -- a scribbling peer on shm://, for as long as the budget allows */
#include "../fault/hostile_peer.c"
