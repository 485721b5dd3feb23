/* SPDX-License-Identifier: MIT */
/* hostile_reads_all -- adversarial reads of shm://, for as long as the budget allows */
#include "../fault/hostile_reads.c"
