/* SPDX-License-Identifier: MIT */
/* shm_chaos_topic_all -- chaos on topics and cells, for as long as the budget allows */
#include "../fault/shm_chaos_topic.c"
