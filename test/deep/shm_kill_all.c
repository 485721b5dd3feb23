/* SPDX-License-Identifier: MIT */
/* shm_kill_all -- the kill points of shm://, as many as the budget allows */
#include "../fault/shm_kill.c"
