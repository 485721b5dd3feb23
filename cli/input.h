/* SPDX-License-Identifier: MIT */
#pragma once
/* input -- all of a file at once */
#include <stddef.h>
#include <stdio.h>

/* What can be read of it until its end, with a zero byte behind; the caller frees it. NULL, with a complaint: no
   memory. ferror() says whether reading failed. */
char *nr_input_read(FILE *file, size_t *ret_size_bytes);
