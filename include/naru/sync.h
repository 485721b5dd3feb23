/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * sync -- mutex, rwlock, condition, barrier, event and semaphore, that processes share by name or place in memory that they share
 *
 * Death      A process may be killed at any instruction of any function here. Nobody waits for ever because of it: each
 *            object says below what its death means for the others.
 * Results    0 and NARU_OWNER_DIED: it happened. Negative: it did not.
 * Names      "name" is the caller's own among this user's objects, "/path" a file.
 * Placed     A state that the caller places in shared memory is prepared once, by init, before it is shared; then
 *            each process attaches to it. Nothing is allocated in the shared memory.
 * Threads    All functions but close are thread-safe. A handle may be used after fork.
 * Signals    A signal makes no call fail. No function here is for signal handlers.
 */
#include <naru/endpoint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Returned in place of 0 by who locks: it is locked, and a holder before has died with it. */
enum { NARU_OWNER_DIED = 1 };

/*
 * mutex -- one thread at a time, of all processes that share it
 *
 * Ownership  The thread that locked it, until it unlocks it through the same handle. fork(2) gives a child nothing.
 * Death      When the holder ends (by a kill, an exit of its process or its thread, exec) the kernel takes the
 *            mutex from it, and the next one gets it, with NARU_OWNER_DIED: what it guards may be half
 *            changed. So does each after that, until one has put it right and said naru_mutex_consistent().
 *            A waiter that dies leaves nothing behind.
 * Trust      A process that writes the state at random can break the mutual exclusion, not the memory of others. It can keep
 *            the kernel from taking other mutexes from a thread that dies with this one; those who wait for
 *            them find out within a second or so, unless the thread's id is in use again.
 * Needs      glibc on a 64-bit system (its robust list), and no more than 2,000 held by one thread.
 */
struct naru_mutex;

/* Memory of an unnamed mutex. */
struct naru_mutex_state {
    uint64_t words[8];
} __attribute__((aligned(64)));

/* Opens or creates (options->create, file_mode; NULL allowed) the mutex `name`. Errors: as naru_semaphore_open(); -EXDEV
   it was made in another PID namespace, or before the machine was started. */
NARU_API int naru_mutex_open(struct naru_mutex **ret, const char *name,
                             const struct naru_options *options);

NARU_API int naru_mutex_init(struct naru_mutex_state *state);
NARU_API int naru_mutex_attach(struct naru_mutex **ret, struct naru_mutex_state *state);

/* Locks it: 0, or NARU_OWNER_DIED (see above). -EAGAIN (time-out 0), -ETIMEDOUT: the text names the thread that holds
   it; -EDEADLK: that is the caller; -EOPNOTSUPP: see Needs. */
NARU_API int naru_mutex_lock(struct naru_mutex *mutex, int64_t timeout_ns);

/* Unlocks it. -EPERM: the calling thread has not locked it through this handle. */
NARU_API int naru_mutex_unlock(struct naru_mutex *mutex);

/* By who holds it: what it guards is in order again. -EPERM. */
NARU_API int naru_mutex_consistent(struct naru_mutex *mutex);

/* The id of the thread that holds it, at some moment during the call; 0: nobody. */
NARU_API int naru_mutex_owner(struct naru_mutex *mutex);

/* Of a mutex that the calling thread holds: as if it had died. */
NARU_API void naru_mutex_close(struct naru_mutex *mutex);

/* Removes the name; open handles go on. -EBADMSG, and nothing removed, when it is no mutex. */
NARU_API int naru_mutex_unlink(const char *name);

/*
 * rwlock -- one thread that writes, or up to NARU_READERS_MAX that read; more wait
 *
 * Order      A writer that waits for readers keeps new ones out. So who reads must not read once more before it has unlocked.
 * Ownership  As of a mutex: the thread that locked it unlocks it, through the same handle.
 * Death      A reader that ends (as for a mutex) counts as gone. When a writer does, in the middle of writing, those
 *            who lock it after it get NARU_OWNER_DIED, readers too, until one that writes has said
 *            naru_rwlock_consistent(). A waiter that dies leaves nothing behind.
 *            What is said of a mutex under Trust and Needs holds here.
 */
struct naru_rwlock;

enum { NARU_READERS_MAX = 63 };

struct naru_rwlock_state {
    uint64_t words[512];
} __attribute__((aligned(64)));

/* As those of a mutex. */
NARU_API int naru_rwlock_open(struct naru_rwlock **ret, const char *name,
                              const struct naru_options *options);
NARU_API int naru_rwlock_init(struct naru_rwlock_state *state);
NARU_API int naru_rwlock_attach(struct naru_rwlock **ret, struct naru_rwlock_state *state);

/* Lock it, for reading or for writing: 0 or NARU_OWNER_DIED. -EAGAIN (time-out 0), -ETIMEDOUT: the text names a thread that has it;
   -EDEADLK: the caller has; -EOPNOTSUPP: as a mutex. */
NARU_API int naru_rwlock_read(struct naru_rwlock *lock, int64_t timeout_ns);
NARU_API int naru_rwlock_write(struct naru_rwlock *lock, int64_t timeout_ns);

/* -EPERM: the calling thread has not locked it through this handle. */
NARU_API int naru_rwlock_unlock(struct naru_rwlock *lock);

/* By who writes: what it guards is in order again. -EPERM. */
NARU_API int naru_rwlock_consistent(struct naru_rwlock *lock);

/* Of one that the calling thread has locked: as if it had died. */
NARU_API void naru_rwlock_close(struct naru_rwlock *lock);
NARU_API int naru_rwlock_unlink(const char *name);

/*
 * condition -- lets go of a mutex and sleeps until another thread has changed what the mutex guards
 *
 * Use        Lock; while (what is waited for is not there) wait; unlock. A wait may return for nothing. Who changes
 *            something does so with the mutex locked, and then wakes, before or after it has unlocked.
 * Wake       All that wait: one that was woken alone might be dying, and nobody would go on.
 * Death      A waiter that dies leaves nothing behind. Who is killed while it wakes has woken nobody or all. When a
 *            thread dies that holds the mutex, those who wait get it after a second or so, with NARU_OWNER_DIED; of
 *            one that dies without the mutex a condition knows nothing: give a time-out.
 */
struct naru_condition;

struct naru_condition_state {
    uint32_t word;
    uint32_t magic;
};

/* As those of a mutex. */
NARU_API int naru_condition_open(struct naru_condition **ret, const char *name,
                                 const struct naru_options *options);
NARU_API int naru_condition_init(struct naru_condition_state *state);
NARU_API int naru_condition_attach(struct naru_condition **ret, struct naru_condition_state *state);

/* Unlocks the mutex, which the calling thread has locked, sleeps until it is woken, and locks it again, whatever it returns: 0
   or NARU_OWNER_DIED, as naru_mutex_lock(); -ETIMEDOUT. -EPERM, -EAGAIN (time-out 0): it has not slept. */
NARU_API int naru_condition_wait(struct naru_condition *condition, struct naru_mutex *mutex,
                                 int64_t timeout_ns);
NARU_API int naru_condition_wake(struct naru_condition *condition);

NARU_API void naru_condition_close(struct naru_condition *condition);
NARU_API int naru_condition_unlink(const char *name);

/*
 * barrier -- so many threads wait until all of them have arrived, again and again
 *
 * Party      A thread becomes one by its first wait, and is one, through that handle, until it leaves or closes it. There are
 *            as many as the barrier was made for, 1 to NARU_PARTIES_MAX; all wait until the last one has joined.
 * Death      When a party ends (as for a mutex), wherever it is, or closes the handle after it has arrived, the barrier breaks: the
 *            others get -EOWNERDEAD, now and later, until naru_barrier_reset() makes room for another party. A thread
 *            that has not yet joined is not known. What is said of a mutex under Trust and Needs holds here.
 */
struct naru_barrier;

enum { NARU_PARTIES_MAX = 63 };

struct naru_barrier_state {
    uint64_t words[512];
} __attribute__((aligned(64)));

/* As those of a mutex. `parties` counts only for who creates it. */
NARU_API int naru_barrier_open(struct naru_barrier **ret, const char *name, uint32_t parties,
                               const struct naru_options *options);
NARU_API int naru_barrier_init(struct naru_barrier_state *state, uint32_t parties);
NARU_API int naru_barrier_attach(struct naru_barrier **ret, struct naru_barrier_state *state);

/* Waits until all have arrived: 1 for one of them, 0 for the others. -EOWNERDEAD: one has died. -EAGAIN (time-out 0), -ETIMEDOUT:
   not all are there; this one has arrived all the same, and waits on by another call. -EBUSY: all parties are others. */
NARU_API int naru_barrier_wait(struct naru_barrier *barrier, int64_t timeout_ns);

/* The calling thread is a party no more, and another one can take its place. Not between -EAGAIN or -ETIMEDOUT and the
   end of that meeting: that breaks it. -EPERM: it is no party. */
NARU_API int naru_barrier_leave(struct naru_barrier *barrier);

/* Forgets the parties that have died. */
NARU_API int naru_barrier_reset(struct naru_barrier *barrier);

/* The calling thread leaves. */
NARU_API void naru_barrier_close(struct naru_barrier *barrier);
NARU_API int naru_barrier_unlink(const char *name);

/*
 * event -- something that has happened or has not; who waits for it goes on when it has
 *
 * Set        It stays so, and lets everyone through, until it is reset. One that is reset right away may be missed by those
 *            who sleep and have not looked yet. What was written before it was set is seen by who finds it so.
 * Death      At any instruction: it is set or not, and nobody sleeps beside one that is set. Nobody owns it.
 */
struct naru_event;

struct naru_event_state {
    uint32_t word;
    uint32_t magic;
};

/* As those of a mutex. A new one is not set. */
NARU_API int naru_event_open(struct naru_event **ret, const char *name,
                             const struct naru_options *options);
NARU_API int naru_event_init(struct naru_event_state *state);
NARU_API int naru_event_attach(struct naru_event **ret, struct naru_event_state *state);

NARU_API int naru_event_set(struct naru_event *event);
NARU_API int naru_event_reset(struct naru_event *event);

/* 1 or 0, at some moment during the call. */
NARU_API int naru_event_is_set(struct naru_event *event);

/* -EAGAIN (time-out 0), -ETIMEDOUT. */
NARU_API int naru_event_wait(struct naru_event *event, int64_t timeout_ns);

/* A descriptor for the caller's epoll loop, readable while the event may be set; it may be so for nothing. Each naru_event_wait() of
   this handle that returns -EAGAIN or -ETIMEDOUT arms it: so try, and only then sleep on it. It is the handle's, which closes it;
   not to be read. A forked child has none until it calls this, and gets another one. -EMFILE, -ENOMEM. */
NARU_API int naru_event_fd(struct naru_event *event);

NARU_API void naru_event_close(struct naru_event *event);
NARU_API int naru_event_unlink(const char *name);

/*
 * semaphore -- a count that a waiter lowers by one: of events that anyone may post, or of permits that belong to who
 *              took them
 *
 * Event      naru_semaphore_open(), _init(), _attach(). Anyone may raise the count. A process killed at any instruction of
 *            post or wait leaves the count as it was or as it was to become, and whoever sleeps on a positive
 *            count is woken. A count that a dead process had lowered stays lowered.
 * Owned      naru_semaphore_open_owned(), _init_owned(), _attach_owned(). A permit belongs to the thread that took it by
 *            waiting; that thread alone gives it back by posting, through the same handle; and when it ends (as for a
 *            mutex) the permit is free again. What is said of a mutex under Trust and Needs holds here.
 * Foreign    naru_semaphore_open() of a URI, for programs that share it and know nothing of Naru:
 *              sysv://1234, sysv:///path   a System V semaphore, by its key or by ftok(path, 'n'). Behind it may stand
 *                                          ?member=N&project=N&undo&id: which one of the set (0), another id for
 *                                          ftok(), SEM_UNDO, and that the number is the set's id
 *              posix://name                that of sem_open("/name")
 *            With undo a process' waits and posts are undone when it ends, by whatever death. Without, and in POSIX
 *            semaphores, what a dead process had taken stays taken.
 * Source     after the futex semaphore of U. Drepper, "Futexes Are Tricky"; the post that changes the
 *            count and wakes in one system call (FUTEX_WAKE_OP) is what makes it safe to kill.
 */
struct naru_semaphore;

/* Memory of an unnamed semaphore, to be placed in memory that processes share. */
struct naru_semaphore_state {
    uint32_t word;
    uint32_t magic;
};

/*
 * Opens or creates (options->create, file_mode) the semaphore `name`. `initial` (0..1,073,741,823) counts only for who
 * creates it. options may be NULL. Errors: -EINVAL; -ENOENT; -EEXIST; -EACCES; -ENOSPC;
 * -EBADMSG the file is no semaphore; -EPROTO one of another layout version; -EOPNOTSUPP an option
 * other than these two. Of System V, `initial` is 32,767 at most; a set is made as large as `member` needs.
 */
NARU_API int naru_semaphore_open(struct naru_semaphore **ret, const char *name, uint32_t initial,
                                 const struct naru_options *options);

/* Makes `state` a semaphore (once, before it is shared), and gives a handle on one. No allocation
   in the shared memory; the handle is freed by naru_semaphore_close(). Errors: -EINVAL; attach:
   -EBADMSG the memory holds no semaphore, -EPROTO one of another layout version. */
NARU_API int naru_semaphore_init(struct naru_semaphore_state *state, uint32_t initial);
NARU_API int naru_semaphore_attach(struct naru_semaphore **ret, struct naru_semaphore_state *state);

/* The same for owned semaphores: `permits`, 1..NARU_PERMITS_MAX, counts only for who creates it. -EXDEV: as a mutex. */
enum { NARU_PERMITS_MAX = 63 };

struct naru_owned_state {
    uint64_t words[512];
} __attribute__((aligned(64)));

NARU_API int naru_semaphore_open_owned(struct naru_semaphore **ret, const char *name,
                                       uint32_t permits, const struct naru_options *options);
NARU_API int naru_semaphore_init_owned(struct naru_owned_state *state, uint32_t permits);
NARU_API int naru_semaphore_attach_owned(struct naru_semaphore **ret,
                                         struct naru_owned_state *state);

/* Raises the count by one and wakes whoever waits. Never blocks. -EOVERFLOW at the largest count. Owned: gives back a permit
   of the calling thread; -EPERM: it has none. System V, in all three: -EIDRM somebody has removed it; -EACCES. */
NARU_API int naru_semaphore_post(struct naru_semaphore *semaphore);

/* Lowers the count by one, waiting while it is zero: -EAGAIN (time-out 0), -ETIMEDOUT. Owned: -EOPNOTSUPP, as a mutex. */
NARU_API int naru_semaphore_wait(struct naru_semaphore *semaphore, int64_t timeout_ns);

/* As naru_event_fd(): readable while the count may be above 0, armed by naru_semaphore_wait(). -EOPNOTSUPP: it is an owned or
   foreign one. */
NARU_API int naru_semaphore_fd(struct naru_semaphore *semaphore);

/* The count at some moment during the call. */
NARU_API int naru_semaphore_value(struct naru_semaphore *semaphore);

/* Owned: gives back what the calling thread holds through this handle. */
NARU_API void naru_semaphore_close(struct naru_semaphore *semaphore);

/* Removes the name; open handles go on. -EBADMSG, and nothing removed, when it is no semaphore. System V: removes the whole
   set, and all who use it or wait get -EIDRM. */
NARU_API int naru_semaphore_unlink(const char *name);

#ifdef __cplusplus
}
#endif
