/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * step -- a piece of a process is followed instruction by instruction, or its process killed at a chosen one
 *
 * What       Between nr_step_begin() and nr_step_end() one of these is done, as it was chosen before:
 *              record  the address of each instruction is noted: the path
 *              die     the process is killed, with SIGKILL, when it stands before the instruction path->at[point].
 *                      It goes there at full speed, by a breakpoint, in a process forked from the one that
 *                      forked the recorded one: so addresses are the same, and the way usually is, too
 *              count   the process is stepped, and killed after so many instructions
 *              film    after each instruction the memory is looked at, and kept if it has changed
 * How        The trap flag of the processor, and int3; the handler of SIGTRAP is in the process itself, which
 *            is why a kill costs a fork and little more. A system call is one step; so is each turn of a
 *            repeated string instruction.
 * Where      x86-64. Elsewhere, and where the kernel or a tool does not let us, nr_step_refusal() says why.
 * Memory     Path and film are the caller's, in memory that is shared with the forked process.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NR_STEP_PATH_MOST = 1 << 18 };

struct nr_step_path {
    uint32_t count; /* the last one stands behind the last instruction */
    uint32_t is_over;
    uintptr_t at[NR_STEP_PATH_MOST];
};

struct nr_step_film {
    const unsigned char *memory; /* what is looked at */
    size_t size_bytes;
    unsigned char *frames; /* frames_most images of it, one after the other */
    uint32_t *point;       /* of each: after how many instructions it first looked like this */
    uint32_t frames_most, frames_count;
    uint64_t instructions; /* of all calls that were filmed */
    uint32_t has_overflown;
};

/* Shared. */
struct nr_step_death {
    int32_t stops; /* set before: SIGSTOP instead, from which it can be continued */
    /* Written when the process is about to kill itself. */
    uint32_t is_reached; /* it stood at the point that was asked for */
    int64_t at_ns;       /* CLOCK_MONOTONIC */
};

/* NULL, or why there is no stepping here. */
const char *nr_step_refusal(void);

/* This process will be stepped: from now on the library makes no guarded calls (os/guard.h), which a trap after each
   instruction would abort again and again. Before its first wait, if it waits before it is stepped. */
void nr_step_expect(void);

void nr_step_record(struct nr_step_path *path);
void nr_step_die(const struct nr_step_path *path, uint32_t point, struct nr_step_death *death);
void nr_step_count(uint32_t instructions, struct nr_step_death *death);
void nr_step_film(struct nr_step_film *film);

void nr_step_begin(void);
void nr_step_end(void);

/* SIGKILL to this process, in the fewest instructions. */
_Noreturn void nr_step_kill(void);

/*
 * The points of a path worth dying at: all of them, but of an instruction that is passed again and again only the
 * first few and the last two times. Returns how many, in ret[]; the caller frees it.
 */
uint32_t nr_step_points(const struct nr_step_path *path, uint32_t **ret);
