/* SPDX-License-Identifier: MIT */
/*
 * shm_ready -- naru_fd() and naru_send_fd() of a segment
 *
 * What       The descriptor is an eventfd of this process. While it is armed a vigil (vigil.h) makes it readable when the
 *            gate opens, someone dies, or it is time to look. It stays so until the next call that finds nothing arms
 *            it anew.
 * Receiving  Armed after a receive that found nothing: prepare the gate, arm, and look (kind->may_recv).
 * Sending    The same with kind->may_send, which knows what the last send lacked. It is asked by the sending thread
 *            alone: the watcher waits until the gate opens.
 * Threads    A vigil belongs to a thread. When another one arms, it makes its own, some times; then, and where there
 *            are no vigils, a watcher (watcher.h) does the waiting.
 * Death      The vigil sees each death; so does the watcher, later perhaps: see shm_sleep.c.
 */
#include "os/barrier.h"
#include "transport/shm.h"
#include <limits.h>

enum { NR_SHM_READY_HAND_OVERS = 8 };

static bool nr_shm_ready_sends(const struct nr_shm_ready *ready)
{
    return ready == &ready->shm->ready[1];
}

static struct nr_gate *nr_shm_ready_gate(const struct nr_shm_ready *ready)
{
    return nr_shm_ready_sends(ready) ? nr_shm_gate_full(ready->shm, true)
                                     : nr_shm_gate_empty(ready->shm, true);
}

static uint32_t nr_shm_ready_word(const struct nr_shm_ready *ready)
{
    return nr_gate_look(nr_shm_ready_gate(ready));
}

/* -- the watcher ------------------------------------------------------------------------------ */

/* Asked by the watcher's thread, while another one may say who the peer is: naru_pair_assign(). */
static bool nr_shm_ready_peer_is_gone(struct nr_shm *shm)
{
    nr_lock_scope(&shm->endpoint.lock);
    return nr_shm_peer_is_gone(shm, false);
}

static bool nr_shm_ready_watch_is_over(struct nr_shm_ready *ready)
{
    struct nr_shm *shm = ready->shm;

    if (__atomic_load_n(&ready->watcher_stops, __ATOMIC_ACQUIRE) ||
        (nr_shm_is_pair(shm) && nr_shm_ready_peer_is_gone(shm)))
        return true;
    return nr_shm_ready_sends(ready)
               ? nr_shm_ready_word(ready) != __atomic_load_n(&ready->word, __ATOMIC_RELAXED)
               : shm->kind->may_recv(shm);
}

static int nr_shm_ready_watch_wait(void *context)
{
    struct nr_shm_ready *ready = context;
    struct nr_gate *gate = nr_shm_ready_gate(ready);
    struct nr_shm_pause pause = {0};
    struct nr_deadline never = nr_deadline_in(NARU_FOREVER);

    if (ready->shm->is_read_only)
        return nr_shm_reader_watch(ready->shm, &ready->watcher_stops);
    for (;;) {
        bool is_sure;
        pause.word = nr_gate_prepare(gate, nr_os_barrier, &is_sure);
        pause.is_unsure = !is_sure;
        if (nr_shm_ready_watch_is_over(ready))
            return 0;
        nr_shm_sleep_on_words(ready->shm, gate, &ready->watcher_stops, &pause, &never);
    }
}

static void nr_shm_ready_watch_wake(void *context)
{
    struct nr_shm_ready *ready = context;

    __atomic_store_n(&ready->watcher_stops, 1, __ATOMIC_RELEASE);
    nr_os_futex_wake(&ready->watcher_stops, INT_MAX);
}

static const struct nr_watcher_work nr_shm_ready_watch = {.wait = nr_shm_ready_watch_wait,
                                                          .wake = nr_shm_ready_watch_wake};

static void nr_shm_ready_by_watcher(struct nr_shm_ready *ready)
{
    if (nr_watcher_is_armed(&ready->watcher))
        nr_watcher_calm(&ready->watcher);
    else
        __atomic_store_n(&ready->watcher_stops, 0, __ATOMIC_RELEASE);
    nr_watcher_arm(&ready->watcher);
}

/* -- the vigil -------------------------------------------------------------------------------- */

static void nr_shm_ready_fire(struct nr_shm_ready *ready)
{
    nr_watcher_fire(&ready->watcher);
    ready->is_armed = false;
}

/* A vigil of this thread, or NULL: the watcher has to do it, from now on. */
static struct nr_vigil *nr_shm_ready_vigil(struct nr_shm_ready *ready)
{
    int result = 0;

    if (ready->vigil && nr_os_uring_is_mine(&ready->vigil->ring))
        return ready->vigil;
    if (ready->vigil) {
        nr_shm_vigil_end(ready->vigil);
        ready->vigil = NULL;
        ready->hand_overs++;
    }
    ready->is_armed = false;
    if (ready->hand_overs <= NR_SHM_READY_HAND_OVERS)
        ready->vigil = nr_shm_vigil_new(ready->shm, NULL, &result);
    if (ready->vigil)
        result = nr_os_uring_signal(&ready->vigil->ring, nr_watcher_fd(&ready->watcher));
    if (ready->vigil && result == 0)
        return ready->vigil;
    if (ready->vigil)
        nr_shm_vigil_end(ready->vigil);
    ready->vigil = NULL;
    ready->no_vigil = true;
    return NULL;
}

/*
 * Arms it with the gate's word. What comes before the eventfd is cleared is seen behind that, in the news or the ring;
 * what comes later sets it again.
 */
static bool nr_shm_ready_by_vigil(struct nr_shm_ready *ready, uint32_t word)
{
    struct nr_vigil *vigil = nr_shm_ready_vigil(ready);

    if (!vigil)
        return false;
    int peer_pidfd = ready->shm->endpoint.peer_pidfd, news = 0;
    bool stands = ready->is_armed && ready->word == word && (peer_pidfd < 0 || vigil->has_peer) &&
                  !nr_os_uring_has_news(&vigil->ring);
    if (!stands)
        news = nr_vigil_watch(vigil, nr_shm_ready_gate(ready), word, peer_pidfd, NULL);
    if (news < 0 || vigil->is_blind) {
        nr_shm_vigil_end(vigil);
        ready->vigil = NULL;
        ready->no_vigil = true;
        return false;
    }
    ready->word = word;
    ready->is_armed = true;
    int64_t after_ns = stands ? 0 : nr_shm_heed(ready->shm, news);
    if (after_ns)
        nr_vigil_look_after(vigil, after_ns);
    nr_os_eventfd_clear(nr_watcher_fd(&ready->watcher)); /* core may have set it as well */
    if (news || nr_flag_get(&ready->shm->peer_is_gone) || nr_os_uring_has_news(&vigil->ring))
        nr_shm_ready_fire(ready);
    return true;
}

/* -- arming ----------------------------------------------------------------------------------- */

static void nr_shm_ready_arm(struct nr_shm_ready *ready)
{
    struct nr_shm *shm = ready->shm;
    bool is_sure;
    uint32_t word = nr_gate_prepare(nr_shm_ready_gate(ready), nr_os_barrier, &is_sure);
    bool is_sending = nr_shm_ready_sends(ready);

    if (!is_sure)
        ready->no_vigil = true;
    if (ready->no_vigil || !nr_shm_ready_by_vigil(ready, word)) {
        __atomic_store_n(&ready->word, word, __ATOMIC_RELAXED);
        nr_shm_ready_by_watcher(ready);
    }
    if (is_sending ? shm->kind->may_send(shm) : !ready->no_vigil && shm->kind->may_recv(shm))
        nr_shm_ready_fire(ready);
}

void nr_shm_arm(struct naru_endpoint *endpoint, unsigned events, size_t size_bytes)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_shm_ready *ready = &shm->ready[events == NR_WRITABLE];

    nr_lock_scope(&ready->lock);
    if (events == NR_WRITABLE)
        shm->lacks_bytes = size_bytes;
    if (shm->is_read_only)
        nr_shm_ready_by_watcher(ready);
    else
        nr_shm_ready_arm(ready);
}

/* -- its life --------------------------------------------------------------------------------- */

int nr_shm_descriptor(struct naru_endpoint *endpoint, unsigned *events)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_shm_ready *ready = &shm->ready[*events == NR_WRITABLE];

    if (!ready->has_watcher)
        nr_watcher_init(&ready->watcher, &nr_shm_ready_watch, ready);
    ready->has_watcher = true;
    int fd = nr_watcher_fd(&ready->watcher);
    if (fd >= 0 && *events == NR_WRITABLE) /* until a send finds no room */
        nr_shm_ready_fire(ready);
    *events = NR_READABLE;
    return fd;
}

void nr_shm_ready_init(struct nr_shm *shm)
{
    for (int i = 0; i < 2; i++) {
        shm->ready[i].shm = shm;
        shm->ready[i].lock = (struct nr_lock)NR_LOCK_INIT;
    }
}

void nr_shm_ready_stop(struct nr_shm *shm)
{
    for (int i = 0; i < 2; i++)
        if (shm->ready[i].has_watcher)
            nr_watcher_stop(&shm->ready[i].watcher);
}

void nr_shm_ready_end(struct nr_shm *shm)
{
    for (int i = 0; i < 2; i++) {
        struct nr_shm_ready *ready = &shm->ready[i];
        if (ready->has_watcher)
            nr_watcher_deinit(&ready->watcher);
        if (ready->vigil)
            nr_shm_vigil_end(ready->vigil);
        *ready = (struct nr_shm_ready){.shm = shm, .lock = NR_LOCK_INIT};
    }
}
