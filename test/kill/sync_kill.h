/* SPDX-License-Identifier: MIT */
#pragma once
/* sync_kill -- the objects, and what a victim does with them: see fault/sync_kill.c */
#include <naru/sync.h>
#include <stdbool.h>
#include <stddef.h>

enum { SYNC_SLEEPERS = 2 };

/* Shared. */
struct sync_objects {
    struct naru_mutex_state mutex;
    struct naru_semaphore_state event;
    struct naru_rwlock_state rwlock;
    struct naru_barrier_state barrier; /* of three parties */
    struct naru_condition_state condition;
    struct naru_event_state latch;
    int is_open;                   /* guarded by the mutex */
    struct naru_owned_state owned; /* of two permits */
};

struct sync_act {
    const char *name;
    void (*prepare)(
        void); /* by the victim, before; NULL: nothing, so it is the first call of its thread */
    void (*run)(void);   /* stepped */
    void (*sleep)(void); /* by each sleeper; checks what it gets */
    int sleepers;
    void (*hold)(void);   /* by a helper, before all others; NULL: there is none */
    void (*let_go)(void); /* by the helper, when the victim is dead or asleep; NULL: it dies */
    bool is_in_vain;      /* the helper does so only when the victim is dead */
    bool (*check)(void);  /* by the test, at the end: the object works */
};

extern const struct sync_act sync_acts[];
extern const size_t sync_acts_count;

void sync_init(struct sync_objects *objects); /* anew, at the same place */
void sync_attach(struct sync_objects *objects);
void sync_close(void);
