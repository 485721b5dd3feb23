/* SPDX-License-Identifier: MIT */
#include "sync_kill.h"
#include "kit.h"
#include <errno.h>
#include <unistd.h>
#include <string.h>

static struct sync_objects *shared;
static struct naru_mutex *mutex;
static struct naru_condition *condition;
static struct naru_event *event;
static struct naru_rwlock *rwlock;
static struct naru_barrier *barrier;
static struct naru_semaphore *owned, *posted;

void sync_init(struct sync_objects *objects)
{
    memset(objects, 0, sizeof *objects);
    nr_check_ok(naru_mutex_init(&objects->mutex));
    nr_check_ok(naru_rwlock_init(&objects->rwlock));
    nr_check_ok(naru_barrier_init(&objects->barrier, 3));
    nr_check_ok(naru_condition_init(&objects->condition));
    nr_check_ok(naru_event_init(&objects->latch));
    nr_check_ok(naru_semaphore_init(&objects->event, 0));
    nr_check_ok(naru_semaphore_init_owned(&objects->owned, 2));
}

void sync_attach(struct sync_objects *objects)
{
    shared = objects;
    nr_check_ok(naru_mutex_attach(&mutex, &objects->mutex));
    nr_check_ok(naru_rwlock_attach(&rwlock, &objects->rwlock));
    nr_check_ok(naru_barrier_attach(&barrier, &objects->barrier));
    nr_check_ok(naru_condition_attach(&condition, &objects->condition));
    nr_check_ok(naru_event_attach(&event, &objects->latch));
    nr_check_ok(naru_semaphore_attach(&posted, &objects->event));
    nr_check_ok(naru_semaphore_attach_owned(&owned, &objects->owned));
}

void sync_close(void)
{
    naru_mutex_close(mutex);
    naru_rwlock_close(rwlock);
    naru_barrier_close(barrier);
    naru_condition_close(condition);
    naru_event_close(event);
    naru_semaphore_close(posted);
    naru_semaphore_close(owned);
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

/* -- semaphores ------------------------------------------------------------------------------ */

static void owned_wait(void)
{
    nr_check_ok(naru_semaphore_wait(owned, NARU_FOREVER));
}
static void owned_post(void)
{
    nr_check_ok(naru_semaphore_post(owned));
}
static void owned_wait_and_post(void)
{
    owned_wait();
    owned_post();
}
static void owned_wait_twice(void)
{
    owned_wait();
    owned_wait();
}
static void owned_post_twice(void)
{
    owned_post();
    owned_post();
}
static void owned_close(void)
{
    naru_semaphore_close(owned);
}
static bool owned_works(void)
{
    bool is_whole = naru_semaphore_value(owned) == 2;

    for (int i = 0; i < 2; i++)
        is_whole = is_whole && naru_semaphore_wait(owned, 0) == 0;
    is_whole = is_whole && naru_semaphore_wait(owned, 0) == -EAGAIN;
    for (int i = 0; i < 2; i++)
        is_whole = is_whole && naru_semaphore_post(owned) == 0;
    return is_whole;
}

static void event_wait(void)
{
    nr_check_ok(naru_semaphore_wait(posted, NARU_FOREVER));
}
static void event_post(void)
{
    nr_check_ok(naru_semaphore_post(posted));
}
static void event_post_often(void)
{
    for (int i = 0; i < 4; i++)
        event_post();
}
/* Two sleepers and a victim had one each, or the victim none. */
static bool event_works(void)
{
    int value = naru_semaphore_value(posted);

    while (value > 0 && naru_semaphore_wait(posted, 0) == 0)
        value--;
    return value == 0 && naru_semaphore_wait(posted, 0) == -EAGAIN &&
           naru_semaphore_post(posted) == 0 && naru_semaphore_wait(posted, 0) == 0;
}

/* -- condition and event --------------------------------------------------------------------- */

/* The victim may have died with the mutex. */
static void condition_lock(void)
{
    if (nr_check_ok(naru_mutex_lock(mutex, NARU_FOREVER)) == NARU_OWNER_DIED)
        nr_check_ok(naru_mutex_consistent(mutex));
}
static void condition_wait(void)
{
    condition_lock();
    while (!shared->is_open)
        if (nr_check_ok(naru_condition_wait(condition, mutex, NARU_FOREVER)) == NARU_OWNER_DIED)
            nr_check_ok(naru_mutex_consistent(mutex));
    mutex_unlock();
}
static void condition_open(void)
{
    condition_lock();
    shared->is_open = 1;
    mutex_unlock();
    nr_check_ok(naru_condition_wake(condition));
}
static void condition_wake(void)
{
    nr_check_ok(naru_condition_wake(condition));
}
static bool condition_works(void)
{
    return naru_condition_wake(condition) == 0 && naru_condition_wake(condition) == 0 &&
           naru_mutex_lock(mutex, 0) >= 0 && naru_mutex_consistent(mutex) == 0 &&
           naru_condition_wait(condition, mutex, 1000) == -ETIMEDOUT &&
           naru_mutex_unlock(mutex) == 0;
}

static void latch_set(void)
{
    nr_check_ok(naru_event_set(event));
}
static void latch_wait(void)
{
    nr_check_ok(naru_event_wait(event, NARU_FOREVER));
}
static void latch_reset(void)
{
    nr_check_ok(naru_event_reset(event));
}
static bool latch_works(void)
{
    return naru_event_set(event) == 0 && naru_event_wait(event, 0) == 0 &&
           naru_event_reset(event) == 0 && naru_event_wait(event, 0) == -EAGAIN;
}

/* -- rwlock ---------------------------------------------------------------------------------- */

static void rwlock_read(void)
{
    nr_check_ok(naru_rwlock_read(rwlock, NARU_FOREVER));
}
static void rwlock_write(void)
{
    nr_check_ok(naru_rwlock_write(rwlock, NARU_FOREVER));
}
static void rwlock_unlock(void)
{
    nr_check_ok(naru_rwlock_unlock(rwlock));
}
static void rwlock_read_and_unlock(void)
{
    rwlock_read();
    rwlock_unlock();
}
static void rwlock_write_and_unlock(void)
{
    rwlock_write();
    rwlock_unlock();
}
static void rwlock_close(void)
{
    naru_rwlock_close(rwlock);
}
/* One of the sleepers each. */
static void rwlock_read_or_write(void)
{
    if (getpid() % 2)
        rwlock_read_and_unlock();
    else
        rwlock_write_and_unlock();
}
static bool rwlock_works(void)
{
    return naru_rwlock_read(rwlock, 0) >= 0 && naru_rwlock_unlock(rwlock) == 0 &&
           naru_rwlock_write(rwlock, 0) >= 0 && naru_rwlock_consistent(rwlock) == 0 &&
           naru_rwlock_unlock(rwlock) == 0 && naru_rwlock_read(rwlock, 0) == 0 &&
           naru_rwlock_unlock(rwlock) == 0;
}

/* -- barrier ---------------------------------------------------------------------------------- */

/* The victim joins before; the others wait for it, and it is there or has died. */
static void barrier_join(void)
{
    nr_check_fails(naru_barrier_wait(barrier, 0), -EAGAIN, "this one has");
}
static void barrier_wait(void)
{
    nr_check_ok(naru_barrier_wait(barrier, NARU_FOREVER));
}
static void barrier_wait_or_break(void)
{
    int result = naru_barrier_wait(barrier, NARU_FOREVER);

    if (result != -EOWNERDEAD)
        nr_check_ok(result);
}
static void barrier_leave(void)
{
    nr_check_ok(naru_barrier_leave(barrier));
}
static bool barrier_works(void)
{
    bool is_whole = naru_barrier_reset(barrier) == 0 && naru_barrier_wait(barrier, 0) == -EAGAIN;

    return naru_barrier_leave(barrier) == 0 && is_whole && naru_barrier_reset(barrier) == 0;
}

static void nothing(void)
{
}

#define MUTEX          .check = mutex_works
#define OWNED          .check = owned_works
#define EVENT          .check = event_works
#define CONDITION      .check = condition_works, .sleep = condition_wait, .sleepers = 2
#define LATCH          .check = latch_works
#define RWLOCK         .check = rwlock_works
#define SLEEP_RWLOCK   .sleep = rwlock_read_or_write, .sleepers = 2
#define READERS_RWLOCK .sleep = rwlock_read_and_unlock, .sleepers = 2
#define BARRIER        .check = barrier_works
#define SLEEP_OWNED    .sleep = owned_wait_and_post, .sleepers = 2
#define SLEEP          .sleep = mutex_lock_and_unlock, .sleepers = 2

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
    {"wait for a permit", OWNED, .prepare = owned_wait_and_post, .run = owned_wait},
    {"post a permit", OWNED, .prepare = owned_wait, .run = owned_post},
    {"post one of two, others sleep", OWNED, .prepare = owned_wait_twice, .run = owned_post,
     SLEEP_OWNED},
    {"close with two permits, others sleep", OWNED, .prepare = owned_wait_twice, .run = owned_close,
     SLEEP_OWNED},
    {"wait for a permit, asleep among others", OWNED, .run = owned_wait, SLEEP_OWNED,
     .hold = owned_wait_twice, .let_go = owned_post_twice},
    {"wait for a permit, asleep until the holder dies", OWNED, .run = owned_wait, SLEEP_OWNED,
     .hold = owned_wait_twice},
    {"wait for an event, asleep among others", EVENT, .run = event_wait, .sleep = event_wait,
     .sleepers = 2, .hold = nothing, .let_go = event_post_often},
    {"wait on a condition, among others", CONDITION, .prepare = mutex_lock_and_unlock,
     .run = condition_wait, .hold = nothing, .let_go = condition_open},
    {"change and wake a condition, and so does another", CONDITION,
     .prepare = mutex_lock_and_unlock, .run = condition_open, .hold = nothing,
     .let_go = condition_open, .is_in_vain = true},
    {"wake a condition", CONDITION, .run = condition_wake, .hold = nothing,
     .let_go = condition_open, .is_in_vain = true},
    {"set an event, others sleep, and another sets it", LATCH, .run = latch_set,
     .sleep = latch_wait, .sleepers = 2, .hold = nothing, .let_go = latch_set, .is_in_vain = true},
    {"wait for an event, among others", LATCH, .run = latch_wait, .sleep = latch_wait,
     .sleepers = 2, .hold = nothing, .let_go = latch_set},
    {"read", RWLOCK, .prepare = rwlock_read_and_unlock, .run = rwlock_read},
    {"unlock for reading", RWLOCK, .prepare = rwlock_read, .run = rwlock_unlock},
    {"write", RWLOCK, .prepare = rwlock_write_and_unlock, .run = rwlock_write},
    {"unlock for writing, readers sleep", RWLOCK, .prepare = rwlock_write, .run = rwlock_unlock,
     READERS_RWLOCK},
    {"unlock for writing, others sleep", RWLOCK, .prepare = rwlock_write, .run = rwlock_unlock,
     SLEEP_RWLOCK},
    {"close while writing, others sleep", RWLOCK, .prepare = rwlock_write, .run = rwlock_close,
     SLEEP_RWLOCK},
    {"unlock for reading, a writer sleeps", RWLOCK, .prepare = rwlock_read, .run = rwlock_unlock,
     .sleep = rwlock_write_and_unlock, .sleepers = 2},
    {"write, asleep until a reader goes", RWLOCK, .run = rwlock_write, .hold = rwlock_read,
     .let_go = rwlock_unlock},
    {"write, asleep among others until a reader dies", RWLOCK, .run = rwlock_write,
     .sleep = rwlock_write_and_unlock, .sleepers = 2, .hold = rwlock_read},
    {"write, asleep among readers until a writer dies", RWLOCK, .run = rwlock_write, READERS_RWLOCK,
     .hold = rwlock_write},
    {"read, asleep among readers until a writer dies", RWLOCK, .run = rwlock_read, READERS_RWLOCK,
     .hold = rwlock_write},
    {"read, asleep among others until a writer goes", RWLOCK, .run = rwlock_read, SLEEP_RWLOCK,
     .hold = rwlock_write, .let_go = rwlock_unlock},
    {"wait at a barrier, joined, another sleeps, and one comes last", BARRIER,
     .prepare = barrier_join, .run = barrier_wait, .sleep = barrier_wait_or_break, .sleepers = 1,
     .hold = nothing, .let_go = barrier_wait_or_break},
    {"leave a barrier, others sleep", BARRIER, .prepare = barrier_join, .run = barrier_leave,
     .sleep = barrier_wait_or_break, .sleepers = 1},
    {"reset an event", LATCH, .prepare = latch_set, .run = latch_reset},
};
const size_t sync_acts_count = sizeof sync_acts / sizeof sync_acts[0];
