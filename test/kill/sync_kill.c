/* SPDX-License-Identifier: MIT */
#include "sync_kill.h"
#include "kit.h"
#include <errno.h>
#include <string.h>

static struct naru_mutex *mutex;

void sync_init(struct sync_objects *objects)
{
    memset(objects, 0, sizeof *objects);
    nr_check_ok(naru_mutex_init(&objects->mutex));
}

void sync_attach(struct sync_objects *objects)
{
    nr_check_ok(naru_mutex_attach(&mutex, &objects->mutex));
}

void sync_close(void)
{
    naru_mutex_close(mutex);
}

/* -- mutex ---------------------------------------------------------------------------------- */

static void mutex_lock(void)
{
    nr_check_ok(naru_mutex_lock(mutex, NARU_FOREVER));
}
static void mutex_unlock(void)
{
    nr_check_ok(naru_mutex_unlock(mutex));
}
static void mutex_lock_and_unlock(void)
{
    mutex_lock();
    mutex_unlock();
}
static void mutex_consistent(void)
{
    nr_check_ok(naru_mutex_consistent(mutex));
}
static void mutex_close(void)
{
    naru_mutex_close(mutex);
}
static void mutex_try_in_vain(void)
{
    nr_check_fails(naru_mutex_lock(mutex, NARU_MILLISECOND), -ETIMEDOUT, "until the time was over");
}

/* Free, in doubt or not; and then as new. */
static bool mutex_works(void)
{
    int result = naru_mutex_lock(mutex, 0);

    if (result == NARU_OWNER_DIED)
        nr_check_ok(naru_mutex_consistent(mutex));
    return result >= 0 && naru_mutex_unlock(mutex) == 0 && naru_mutex_lock(mutex, 0) == 0 &&
           naru_mutex_unlock(mutex) == 0 && naru_mutex_owner(mutex) == 0;
}

#define MUTEX .check = mutex_works
#define SLEEP .sleep = mutex_lock_and_unlock, .sleepers = 2

const struct sync_act sync_acts[] = {
    {"the first lock of a mutex", MUTEX, .run = mutex_lock},
    {"lock", MUTEX, .prepare = mutex_lock_and_unlock, .run = mutex_lock},
    {"unlock", MUTEX, .prepare = mutex_lock, .run = mutex_unlock},
    {"unlock, others sleep", MUTEX, .prepare = mutex_lock, .run = mutex_unlock, SLEEP},
    {"consistent, others sleep", MUTEX, .prepare = mutex_lock, .run = mutex_consistent, SLEEP},
    {"close, others sleep", MUTEX, .prepare = mutex_lock, .run = mutex_close, SLEEP},
    {"lock, asleep among others", MUTEX, .run = mutex_lock, SLEEP, .hold = mutex_lock,
     .let_go = mutex_unlock},
    {"lock, asleep among others until the holder dies", MUTEX, .run = mutex_lock, SLEEP,
     .hold = mutex_lock},
    {"lock, until the time is over", MUTEX, .run = mutex_try_in_vain, SLEEP, .hold = mutex_lock,
     .let_go = mutex_unlock, .is_in_vain = true},
};
const size_t sync_acts_count = sizeof sync_acts / sizeof sync_acts[0];
