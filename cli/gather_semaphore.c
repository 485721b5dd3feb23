/* SPDX-License-Identifier: MIT */
/*
 * gather_semaphore -- a plain shared variable that a semaphore alone keeps in order
 *
 * What       The running total is an ordinary 128-bit variable in an anonymous shared segment. A worker
 *            reads it, adds, and writes it back, holding the semaphore `guard`, which starts at 1.
 *            When it is through it raises `done`; the parent lowers that once for each worker and then
 *            reads the total.
 * Without    `without_semaphore` leaves `guard` out and adds every term by itself. Two workers then
 *            read the same total and one addition is lost: that is what the semaphore is for.
 * Death      A worker killed while it holds `guard` stops the others; the parent sees its death and
 *            kills them. The segment and what stands in it go with the last process.
 */
#include "gather.h"
#include <errno.h>
#include <naru/shm.h>
#include <naru/sync.h>

#include <stdlib.h>

struct nr_gather_total {
    struct naru_semaphore_state guard;
    struct naru_semaphore_state done;
    /* Plain, on purpose. `volatile` only makes each access happen: it orders nothing. */
    volatile uint64_t low;
    volatile uint64_t high;
};

struct nr_gather_segment {
    struct naru_shm *segment;
    struct nr_gather_total *total;
    struct naru_semaphore *guard, *done;
};

/* So often, at most, a worker takes the semaphore: its share is added in as many pieces. */
enum { NR_GATHER_PIECES_MAX = 1024 };
/* The death of a worker is looked for this often; its success is told by the semaphore at once. */
#define NR_GATHER_LOOK_UP_NS (50 * NARU_MILLISECOND)

static int nr_gather_semaphore_open(struct nr_gather *gather)
{
    struct nr_gather_segment *state = calloc(1, sizeof *state);
    int result;

    gather->state = state;
    if (!state)
        return nr_gather_fail(gather, "there is no memory for the segment");
    if ((result = naru_shm_open(&state->segment, "shm://", sizeof *state->total, NULL)) < 0)
        return nr_gather_fail_naru(gather, "make a shared segment", result);
    state->total = naru_shm_data(state->segment);
    if ((result = naru_semaphore_init(&state->total->guard, 1)) < 0 ||
        (result = naru_semaphore_init(&state->total->done, 0)) < 0 ||
        (result = naru_semaphore_attach(&state->guard, &state->total->guard)) < 0 ||
        (result = naru_semaphore_attach(&state->done, &state->total->done)) < 0)
        return nr_gather_fail_naru(gather, "make a semaphore", result);
    return 0;
}

static void nr_gather_semaphore_add(struct nr_gather_total *total, __int128 piece)
{
    unsigned __int128 sum = (unsigned __int128)total->high << 64 | total->low;

    sum += (unsigned __int128)piece;
    total->low = (uint64_t)sum;
    total->high = (uint64_t)(sum >> 64);
}

static int nr_gather_semaphore_work(struct nr_gather *gather, unsigned index)
{
    struct nr_gather_segment *state = gather->state;
    struct nr_range share = nr_gather_share(gather, index);
    bool is_guarded = !gather->request->without_semaphore;
    __int128 step = is_guarded ? nr_share_terms(share) / NR_GATHER_PIECES_MAX + 1 : 1;

    for (__int128 at = share.from; at <= share.to; at += step) {
        __int128 last = at + step - 1;
        __int128 piece = nr_share_add((struct nr_range){
            .from = at,
            .to = last < share.to ? last : share.to,
        });

        if (is_guarded && naru_semaphore_wait(state->guard, NARU_FOREVER) < 0)
            return nr_gather_complain(index, "lower the semaphore");
        nr_gather_semaphore_add(state->total, piece);
        if (is_guarded && naru_semaphore_post(state->guard) < 0)
            return nr_gather_complain(index, "raise the semaphore");
    }
    return naru_semaphore_post(state->done) < 0 ? nr_gather_complain(index, "tell that it is done")
                                                : 0;
}

static int nr_gather_semaphore_collect(struct nr_gather *gather)
{
    struct nr_gather_segment *state = gather->state;

    while (gather->missing_count) {
        if (nr_gather_check(gather) < 0)
            return -1;
        bool all_ended = gather->crew.alive_count == 0;
        int result = naru_semaphore_wait(state->done, all_ended ? 0 : NR_GATHER_LOOK_UP_NS);
        if (result == 0)
            gather->missing_count--;
        else if (result == -EAGAIN)
            return nr_gather_fail(gather, "all workers have ended, and %u were not through",
                                  gather->missing_count);
        else if (result != -ETIMEDOUT && result != -EINTR)
            return nr_gather_fail_naru(gather, "wait for the workers", result);
    }
    gather->sum = (__int128)((unsigned __int128)state->total->high << 64 | state->total->low);
    return 0;
}

static void nr_gather_semaphore_close(struct nr_gather *gather)
{
    struct nr_gather_segment *state = gather->state;

    if (!state)
        return;
    naru_semaphore_close(state->guard);
    naru_semaphore_close(state->done);
    naru_shm_close(state->segment);
    free(state);
    gather->state = NULL;
}

const struct nr_gather_way nr_gather_semaphore = {
    .name = "semaphore",
    .open = nr_gather_semaphore_open,
    .work = nr_gather_semaphore_work,
    .collect = nr_gather_semaphore_collect,
    .close = nr_gather_semaphore_close,
};
