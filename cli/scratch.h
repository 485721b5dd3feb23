/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * scratch -- names of channels that this run alone uses, and their removal
 *
 * What       Path names stand in a directory of mode 0700 under $TMPDIR or /tmp, made when the first
 *            is asked for; other names and keys carry the process's number and random digits.
 * Death      nr_scratch_unlink() as soon as all sides have opened; after that even SIGKILL leaves
 *            nothing. nr_scratch_deinit() on every other way out. A System V queue is nothing but its
 *            key, and can't go early: a process of its own waits for our death and then removes it.
 */
#include <stddef.h>
#include <sys/types.h>

enum { NR_SCRATCH_URI_BYTES = 256, NR_SCRATCH_NAMES_MAX = 4 };

struct nr_scratch {
    char tag[32];        /* "naru-4711-0123abcd" */
    char directory[128]; /* "" until needed */
    char uris[NR_SCRATCH_NAMES_MAX][NR_SCRATCH_URI_BYTES];
    unsigned uris_count;
    pid_t janitor_pid; /* 0: none was needed */
};

void nr_scratch_init(struct nr_scratch *scratch);

/* Composes a URI of `scheme` that nobody else uses and remembers it. `purpose` tells names of one
   scheme apart. 0, or -errno: no directory could be made, no port is free. */
int nr_scratch_name(struct nr_scratch *scratch, const char *scheme, const char *purpose,
                    char ret_uri[NR_SCRATCH_URI_BYTES]);

/* Takes the last name back: what stands there is another program's. */
void nr_scratch_forget(struct nr_scratch *scratch);

/* Removes the names, and the directory, of objects that live on without one. What isn't there is no
   matter. May run twice. */
void nr_scratch_unlink(struct nr_scratch *scratch);

/* Removes all. May run twice. */
void nr_scratch_deinit(struct nr_scratch *scratch);
