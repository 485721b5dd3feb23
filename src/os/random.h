/* SPDX-License-Identifier: MIT */
#pragma once
/* random -- numbers that no other endpoint has, for names and identities; not for secrets */
#include <stdint.h>

uint64_t nr_os_random(void); /* never 0 */
