/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * fault_scene -- a channel of each kind, with both its ends, for the operations whose system calls fail
 *
 * fault_scene.c       the channel, and whether it works
 * fault_operations.c  the operations
 * syscall_faults.c    the runs
 */
#include "faults.h"
#include "kit.h"
#include <naru/call.h>

enum { NR_SCENE_CAPACITY = 2 };
enum nr_scene_kind {
    NR_SCENE_SLOTS = 1,
    NR_SCENE_BYTES = 2,
    NR_SCENE_PAIR = 4,
    NR_SCENE_TOPIC = 8,
    NR_SCENE_CELL = 16,
    NR_SCENE_CALLS = 32,
    NR_SCENE_NAMED = 59,
    NR_SCENE_ALL = 63,
};

extern struct nr_scene {
    enum nr_scene_kind kind;
    char path[80], uri[88];
    struct naru_endpoint *sender, *receiver; /* of a pair: its two ends */
    pid_t helper;
    int *helped; /* how far the helper is */
    struct naru_call calls[NR_SCENE_CAPACITY];
} nr_scene;

struct naru_options nr_scene_options(enum naru_create create);
int nr_scene_open(struct naru_endpoint **ret, enum naru_role role, enum naru_create create);
void nr_scene_open_both(void);
void nr_scene_close(void);

/* A message; or a call, which is on its way then. */
int nr_scene_send(const char *text, int64_t timeout_ns);

/* A message; or a request, which is answered. */
int nr_scene_recv(char text[64], int64_t timeout_ns);

/* A message goes through; or as many calls as there may be. */
void nr_scene_check(void);

void nr_scene_check_peers(struct naru_endpoint *endpoint, unsigned expected);
void nr_scene_stop_helper(void);

struct nr_fault_operation {
    const char *name;
    unsigned kinds;
    void (*prepare)(void); /* may be NULL */
    int (*call)(void);
    void (*check)(int result);
    bool keeps_descriptors; /* also when it fails: they are the endpoint's */
};
extern const struct nr_fault_operation nr_fault_operations[];
extern const unsigned nr_fault_operations_count;
