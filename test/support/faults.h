/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * faults -- the N-th system call of a piece of code fails
 *
 * What       Between nr_faults_begin() and nr_faults_end() each system call of the calling thread, wherever in the
 *            program or in libc its instruction stands, is counted, and the N-th one returns an error instead of being
 *            made (close is made, and returns the error: so it is on Linux). By Syscall User Dispatch: the kernel sends
 *            SIGSYS, whose handler makes the call or does not. Linux 5.11, x86-64.
 * Limits     A call that makes a thread is made as it stands, and what follows it is not counted.
 */
#include <stdbool.h>

/* False, and why in *ret_why: it can't be done here. */
bool nr_faults_are_possible(const char **ret_why);

enum { NR_FAULTS_TRACE = 256 };

struct nr_fault_call {
    long number, operation; /* its second argument */
};

struct nr_fault {
    unsigned at; /* which call fails, from 1; 0: none */
    int error;
    unsigned calls;   /* result: how many there were */
    bool is_made;     /* result: the fault was: that call was reached, and gives this error */
    const char *name; /* result: the call's */
    struct nr_fault_call trace[NR_FAULTS_TRACE]; /* result */
};

void nr_faults_begin(struct nr_fault *fault);
void nr_faults_end(void);

/* The errors that are tried, in order; 0 ends them. */
extern const int nr_faults_errors[];

/* Can this call give this error? */
bool nr_faults_gives(struct nr_fault_call call, int error, const char **ret_name);
