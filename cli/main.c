/* SPDX-License-Identifier: MIT */
/* Placeholder until the command lands. */
#include <naru/base.h>
#include <stdio.h>

int main(void)
{
    return printf("naru %s\n", naru_version()) < 0;
}
