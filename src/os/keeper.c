/* SPDX-License-Identifier: MIT */
#include "os/keeper.h"
#include "os/lock.h"
#include "os/process.h"
#include "os/thread.h"
#include <signal.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    NR_KEEPER_NAP_NS = 50000000,
    NR_KEEPER_STACK_MAX = 64 << 20,
    NR_KEEPER_STACK_BYTES = 8 << 20
};

static struct nr_keeper {
    struct nr_lock turn; /* of one request */
    struct nr_lock lock; /* of what follows */
    struct nr_condition wake, done;
    void (*work)(void *argument);
    void *argument;
    bool is_running;
    struct nr_lock charges_lock;
    struct nr_os_charge *charges;
} nr_keeper = {
    .turn = NR_LOCK_INIT,
    .lock = NR_LOCK_INIT,
    .wake = NR_CONDITION_INIT,
    .done = NR_CONDITION_INIT,
    .charges_lock = NR_LOCK_INIT,
};

static pthread_once_t nr_keeper_once = PTHREAD_ONCE_INIT;
static pthread_key_t nr_keeper_key;
static int nr_keeper_error;

/* The keeper of the parent, and the locks that its threads held. */
static void nr_keeper_in_child(void)
{
    nr_keeper = (struct nr_keeper){
        .turn = NR_LOCK_INIT,
        .lock = NR_LOCK_INIT,
        .wake = NR_CONDITION_INIT,
        .done = NR_CONDITION_INIT,
        .charges_lock = NR_LOCK_INIT,
    };
}

/* -- the first thread ---------------------------------------------------------------------------- */

static bool nr_keeper_has_living(void)
{
    bool found = false;

    nr_lock_scope(&nr_keeper.charges_lock);
    for (struct nr_os_charge *charge = nr_keeper.charges; charge && !found; charge = charge->next)
        found = !nr_os_pidfd_is_dead(charge->pidfd);
    return found;
}

/* The first thread is about to end before its process. */
static void nr_keeper_hold(void *unused)
{
    const struct timespec nap = {.tv_nsec = NR_KEEPER_NAP_NS};

    (void)unused;
    while (nr_keeper_has_living() && nr_os_process_threads() > 1)
        nanosleep(&nap, NULL);
}

static void nr_keeper_begin(void)
{
    nr_keeper_error = pthread_key_create(&nr_keeper_key, nr_keeper_hold);
    if (!nr_keeper_error)
        nr_keeper_error = pthread_atfork(NULL, NULL, nr_keeper_in_child);
}

void nr_os_keeper_add(struct nr_os_charge *charge, int pidfd)
{
    if (gettid() != getpid()) /* the keeper's */
        return;
    nr_lock_scope(&nr_keeper.charges_lock);
    *charge = (struct nr_os_charge){nr_keeper.charges, &nr_keeper.charges, pidfd};
    if (charge->next)
        charge->next->place = &charge->next;
    nr_keeper.charges = charge;
}

void nr_os_keeper_remove(struct nr_os_charge *charge)
{
    nr_lock_scope(&nr_keeper.charges_lock);
    if (charge->place)
        *charge->place = charge->next;
    if (charge->place && charge->next)
        charge->next->place = charge->place;
    charge->place = NULL;
}

/* -- the keeper ------------------------------------------------------------------------------------ */

static void *nr_keeper_main(void *unused)
{
    nr_os_thread_cancellable(false);
    nr_lock_take(&nr_keeper.lock);
    for (;;) {
        while (!nr_keeper.work)
            nr_condition_wait(&nr_keeper.wake, &nr_keeper.lock);
        void (*work)(void *) = nr_keeper.work;
        void *argument = nr_keeper.argument;
        nr_lock_give(&nr_keeper.lock); /* in the child that work makes nobody holds it */
        work(argument);
        nr_lock_take(&nr_keeper.lock);
        nr_keeper.work = NULL;
        nr_condition_wake(&nr_keeper.done);
    }
    return unused;
}

/* The children's functions run on this stack. */
static size_t nr_keeper_stack_bytes(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_STACK, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY ||
        limit.rlim_cur < NR_KEEPER_STACK_BYTES)
        return NR_KEEPER_STACK_BYTES;
    return limit.rlim_cur > NR_KEEPER_STACK_MAX ? NR_KEEPER_STACK_MAX : (size_t)limit.rlim_cur;
}

static int nr_keeper_start(void)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    pthread_t thread;

    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, nr_keeper_stack_bytes());
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread, &attributes, nr_keeper_main, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    nr_keeper.is_running = error == 0;
    return -error;
}

static int nr_keeper_ask(void (*work)(void *argument), void *argument)
{
    nr_lock_scope(&nr_keeper.turn);
    int result = nr_keeper.is_running ? 0 : nr_keeper_start();

    if (result < 0)
        return result;
    nr_lock_take(&nr_keeper.lock);
    nr_keeper.argument = argument;
    nr_keeper.work = work;
    nr_condition_wake(&nr_keeper.wake);
    while (nr_keeper.work)
        nr_condition_wait(&nr_keeper.done, &nr_keeper.lock);
    nr_lock_give(&nr_keeper.lock);
    return 0;
}

int nr_os_keeper_run(void (*work)(void *argument), void *argument)
{
    int cancel_state;

    pthread_once(&nr_keeper_once, nr_keeper_begin);
    if (nr_keeper_error)
        return -nr_keeper_error;
    if (gettid() == getpid()) {
        int error = pthread_setspecific(nr_keeper_key, &nr_keeper);
        if (error)
            return -error;
        work(argument);
        return 0;
    }
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    int result = nr_keeper_ask(work, argument);
    pthread_setcancelstate(cancel_state, NULL);
    return result;
}
