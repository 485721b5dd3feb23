/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * peer -- the driver of another library: a program of its own, with the measuring loops of bench/duel.h
 *
 * What       `naru-peer-NAME VARIANT NUMBER...` runs one task (peer.c has the order of the numbers, `naru bench` calls
 *            it) and prints "name value" lines; or why not: exit code 3 if the library does not do such a
 *            thing, 1 if the run failed.
 * To add one write bench/peers/NAME.c with the list bench_peers, and a line in meson.build.
 */
#include "duel.h"

#ifdef __cplusplus
extern "C" {
#endif

struct bench_peer {
    const char *variant; /* "" if there is one only; NULL ends the list */
    const struct bench_contestant *contestant;
    const char *(*obstacle)(const struct bench_task *task); /* why not, or NULL; may be NULL */
};

extern const struct bench_peer bench_peers[];

/* A name for objects of this run alone. */
const char *bench_peer_name(const struct bench_link *link, const char *prefix,
                            char text[BENCH_NAME_BYTES]);

#ifdef __cplusplus
}
#endif
