/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * named -- an object in shared memory that processes find by a name
 *
 * What       Opens or creates the file behind a name, and maps it. What semaphores, segments and later
 *            objects of synchronisation have in common.
 * Death      A file gets its name when it is complete (os/memory.h), so whoever attaches finds a whole
 *            one; a creator that dies leaves either that or nothing.
 * Races      Of several creators one wins, and the others attach to what it made.
 * Returns    0 or -errno with a text. -EBADMSG: what stands under that name is no regular file.
 */
#include "os/memory.h"
#include <naru/endpoint.h>

struct nr_named {
    const char *kind; /* "semaphore", "segment": for the error texts */
    const char *text; /* the name as it was given, for the same */
    char path[NR_OS_PATH_BYTES];
    enum naru_create create;
    unsigned mode;
    size_t size_bytes;                                /* of a new one; 0: it can only be attached */
    void (*init)(void *memory, const void *argument); /* writes a new one; NULL: zeros */
    const void *argument;
};

struct nr_named_memory {
    void *memory; /* NULL when the file is empty */
    size_t size_bytes;
    bool created;
};

/* Takes create and file_mode from `options` (NULL allowed) and refuses all others. Needs `kind`. */
int nr_named_options(struct nr_named *named, const struct naru_options *options);

/* The path behind a name, which is a path itself or made of name characters. Needs kind and text. */
int nr_named_path(struct nr_named *named, const char *name, const char *suffix);

int nr_named_open(struct nr_named_memory *ret, const struct nr_named *named);
void nr_named_deinit(struct nr_named_memory *memory);

/* Removes the file. The caller has looked at it; here only that it is a regular one. */
int nr_named_unlink(const struct nr_named *named);
