/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * bare -- the contestants that use the kernel's primitive as a textbook has it
 */
#include "duel.h"

enum { BENCH_RING_SLOTS = 64 };

extern const struct bench_contestant bench_bare_pipe, bench_bare_packet_pipe, bench_bare_fifo,
    bench_bare_mq, bench_bare_sysv, bench_bare_signal, bench_bare_seqpacket, bench_bare_unix_stream,
    bench_bare_tcp, bench_bare_futex, bench_bare_cache_line, bench_bare_file;

/* Where their files stand; made and removed by main. */
extern char bench_bare_directory[32];
