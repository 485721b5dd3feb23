/* SPDX-License-Identifier: MIT */
/* pool_chaos_all -- chaos in pools, for as long as the budget allows */
#include "../fault/pool_chaos.c"
