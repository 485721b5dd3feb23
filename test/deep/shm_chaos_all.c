/* SPDX-License-Identifier: MIT */
/* shm_chaos_all -- chaos on shm://, for as long as the budget allows */
#include "../fault/shm_chaos.c"
