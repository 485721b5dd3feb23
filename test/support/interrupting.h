/* SPDX-License-Identifier: MIT */
#pragma once
/* interrupting -- who ends a wait: a signal handler, or another thread; include behind child.h */
#include <naru/endpoint.h>

static struct naru_endpoint *test_interrupted;

static inline void test_on_alarm(int signal_number)
{
    (void)signal_number;
    naru_interrupt(test_interrupted);
}

static inline void *test_interrupt_later(void *context)
{
    sleep_ms(50);
    naru_interrupt(context);
    return NULL;
}
