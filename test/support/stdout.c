/* SPDX-License-Identifier: MIT */
/*
 * stdout -- results leave a test program line by line
 *
 * A test program forks. With the full buffering that standard output has on a pipe, a child that
 * calls exit() would print its parent's results a second time, and a program killed at its timeout
 * would print none.
 */
#include <stdio.h>

__attribute__((constructor)) static void nr_stdout_buffer_lines(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
}
