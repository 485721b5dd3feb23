/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * lock -- mutual exclusion and counting between the threads of one process (never shared memory)
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/single_threaded.h>

struct nr_lock {
    pthread_mutex_t mutex;
};
#define NR_LOCK_INIT                                                                               \
    {                                                                                              \
        .mutex = PTHREAD_MUTEX_INITIALIZER                                                         \
    }

static inline void nr_lock_take(struct nr_lock *lock)
{
    pthread_mutex_lock(&lock->mutex);
}
static inline void nr_lock_give(struct nr_lock *lock)
{
    pthread_mutex_unlock(&lock->mutex);
}

/* Unlocks when its name goes out of scope: nr_lock_scope(&x->lock); */
static inline void nr_lock_give_pointer(struct nr_lock **lock)
{
    nr_lock_give(*lock);
}
#define nr_lock_scope(lock)                                                                        \
    __attribute__((cleanup(nr_lock_give_pointer))) struct nr_lock *nr_lock_scope_held = (lock);    \
    nr_lock_take(nr_lock_scope_held)

/* Counters of one process: exact with threads, and a plain addition without. */
static inline void nr_count_add(uint64_t *counter, uint64_t amount)
{
    if (__libc_single_threaded)
        *counter += amount;
    else
        __atomic_fetch_add(counter, amount, __ATOMIC_RELAXED);
}
static inline void nr_count_subtract(uint64_t *counter, uint64_t amount)
{
    nr_count_add(counter, -amount);
}
/* The value before; each caller gets another one. */
static inline uint64_t nr_count_next(uint64_t *counter)
{
    return __libc_single_threaded ? (*counter)++ : __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}
static inline uint64_t nr_count_get(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* A flag that several threads look at, and that orders nothing. */
static inline bool nr_flag_get(const bool *flag)
{
    return __atomic_load_n(flag, __ATOMIC_RELAXED);
}
static inline void nr_flag_set(bool *flag, bool value)
{
    if (nr_flag_get(flag) != value)
        __atomic_store_n(flag, value, __ATOMIC_RELAXED);
}
