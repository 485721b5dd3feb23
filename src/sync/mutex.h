/* SPDX-License-Identifier: MIT */
#pragma once
/* mutex -- the handle, and what a condition needs to know of it */
#include "data/hold.h"
#include "os/robust.h"
#include "sync/object.h"
#include <naru/sync.h>

struct naru_mutex {
    struct nr_object object;
    struct nr_os_robust_hold mine; /* of the thread that holds it */
    int spins;
};

extern const struct nr_object_kind nr_mutex_kind;

/* The calling thread holds it, through this handle. */
bool nr_mutex_is_mine(const struct naru_mutex *mutex);

/* Nobody holds it, and the last one that did has died. */
bool nr_mutex_has_died(const struct naru_mutex *mutex);
