/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * object -- what all objects of synchronisation have in common: a state in shared memory, found by a name or placed
 *           there by the caller, and checked before it is used
 *
 * Memory     The state is of a fixed size, with its magic at byte 4. Where it names threads, it also has its home
 *            (os/process.h) at byte 8: from another PID namespace, and after the machine has started anew, the names mean nothing.
 * Death      A named one is complete before it has its name (os/memory.h). Of a placed one the magic is
 *            written last.
 */
#include "sync/named.h"
#include <stdatomic.h>
#include <stdint.h>

struct nr_object_kind {
    const char *name;   /* "mutex" */
    const char *suffix; /* ".mutex" */
    uint32_t magic;     /* its last byte is the version of the layout */
    bool has_home;
    size_t size_bytes, alignment_bytes;
    /* Writes what follows magic and home, into zeros. NULL: nothing. */
    void (*write)(void *state, const void *argument);
};

/* The private part, at the beginning of each handle. */
struct nr_object {
    void *state;
    struct nr_named_memory mapping; /* empty for one that the caller placed */
};

/* 0 or -errno with a text: -EINVAL, -ENOENT, ...; -EBADMSG: it is none of that kind; -EPROTO: of another layout;
   -EXDEV: of another home. */
int nr_object_open(struct nr_object *ret, const struct nr_object_kind *kind, const char *name,
                   const void *argument, const struct naru_options *options);
int nr_object_init(void *state, const struct nr_object_kind *kind, const void *argument);
int nr_object_attach(struct nr_object *ret, const struct nr_object_kind *kind, void *state);
void nr_object_close(struct nr_object *object);
int nr_object_unlink(const struct nr_object_kind *kind, const char *name);

/* -EINVAL, for a handle that is NULL. */
int nr_object_refuse(const struct nr_object_kind *kind);

/* The thread has no robust list that one could use, as nr_os_robust_prepare() says. */
int nr_object_no_list(const struct nr_object_kind *kind, int error);

/* nr_word_watch_fd() has failed. */
int nr_object_no_descriptor(const struct nr_object_kind *kind, int error);

/* A system call that does not fail has failed. */
int nr_object_failed(const struct nr_object_kind *kind, const char *what, int error);
