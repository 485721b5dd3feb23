/* SPDX-License-Identifier: MIT */
/*
 * shm_calls_serve -- a server's side of calls
 *
 * What       A request is worked on where it stands. The reply is written beside it, in place or by a copy; then its
 *            client's thread alone is woken, or, if it has given the call up, whoever waits for a call to be over.
 */
#include "transport/shm_calls.h"
#include <string.h>

/* As often calls that are over may fill a call's steps, before it asks whether its time is over, too. */
enum { NR_SHM_CALLS_DROPS = 8 };

static int nr_shm_calls_too_many(struct nr_shm *shm)
{
    return nr_fail(-ENOBUFS,
                   "%s: %u requests are held unanswered; answer some, or create the channel with "
                   "a larger held_max",
                   shm->endpoint.uri, __atomic_load_n(&shm->held, __ATOMIC_RELAXED));
}

static int nr_shm_calls_next(struct nr_shm *shm, struct nr_call_ticket *ret,
                             struct nr_deadline *deadline)
{
    struct nr_shm_pause pause = {0};

    for (unsigned drops = 0;;) {
        int result = nr_calls_take(&shm->calls, ret, nr_shm_pause_blocker(&pause, deadline));
        if (result == 0) {
            nr_shm_pause_end(shm, &pause);
            nr_shm_wake(shm, nr_shm_gate_full(shm, false)); /* its slot in the ring is free */
            return 0;
        }
        if (result == -ENOMSG) {
            nr_shm_wake(shm, nr_shm_gate_full(shm, false));
            if (++drops % NR_SHM_CALLS_DROPS)
                continue;
            if (nr_deadline_left_ns(deadline) == 0)
                return nr_deadline_is_now(deadline) ? -EAGAIN : -ETIMEDOUT;
            int interrupted = nr_endpoint_interrupted(&shm->endpoint);
            if (interrupted < 0)
                return interrupted;
            continue;
        }
        result = nr_shm_pause(shm, &shm->header->not_empty[0], &pause, result, deadline);
        if (result < 0)
            return result;
    }
}

/* The request is answered; the client, if it still waits, is woken. False: nobody waits. */
static bool nr_shm_calls_answer(struct nr_shm *shm, const struct nr_call_ticket *ticket,
                                const struct nr_reply *reply)
{
    struct nr_call_answer *answer = nr_call_answer_at(&shm->calls, ticket->index);
    uint32_t client;

    answer->size_bytes = (uint32_t)reply->size_bytes;
    answer->error = reply->error;
    answer->server_pid = shm->pid;
    if (reply->size_bytes && reply->data != answer->reply) /* memmove: it may stand there in part */
        memmove(answer->reply, reply->data, reply->size_bytes);
    if (!nr_calls_answer(&shm->calls, ticket, &client)) {
        nr_shm_wake(shm, nr_shm_gate_full(shm, false));
        return false;
    }
    nr_shm_wake(shm, nr_shm_calls_gate(shm, ticket->index));
    if (client < shm->calls.participants_count)
        nr_shm_wake(shm, &shm->gates[client]);
    return true;
}

int nr_shm_calls_take(struct naru_endpoint *endpoint, struct naru_message *ret,
                      struct nr_deadline *deadline)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_call_ticket ticket;

    nr_party_operate(&shm->party);
    if (__atomic_load_n(&shm->held, __ATOMIC_RELAXED) >= shm->endpoint.options.held_max)
        return nr_shm_calls_too_many(shm);
    int result = nr_shm_calls_next(shm, &ticket, deadline);
    if (result < 0)
        return result;
    struct nr_call_entry *entry = nr_call_at(&shm->calls, ticket.index);
    size_t size_bytes = __atomic_load_n(&entry->size_bytes, __ATOMIC_RELAXED);
    if (size_bytes > shm->calls.size_max_bytes) {
        struct nr_reply damaged = {.error = EBADMSG};
        nr_shm_calls_answer(shm, &ticket, &damaged);
        return nr_fail(-EBADMSG,
                       "%s: a request was damaged in the segment and is answered as such; some "
                       "process writes where it should not",
                       endpoint->uri);
    }
    __atomic_fetch_add(&shm->held, 1, __ATOMIC_RELAXED);
    *ret = (struct naru_message){
        .data = entry->request,
        .size_bytes = size_bytes,
        .capacity_bytes = size_bytes,
        .type = entry->type,
        .sender_pid = entry->client_pid,
        .deliveries = entry->deliveries,
        .flags = entry->deliveries > 1 ? NARU_REDELIVERED : 0,
        .known = NARU_KNOWS_TYPE | NARU_KNOWS_SENDER_PID | NARU_KNOWS_DELIVERIES,
    };
    nr_shm_calls_mark(ret->internal, &ticket);
    return 0;
}

static int nr_shm_calls_check_held(struct nr_shm *shm, const struct nr_call_ticket *ticket)
{
    if (!nr_calls_holds(&shm->calls, ticket))
        return nr_fail(-EINVAL, "%s: this request is not held by this endpoint", shm->endpoint.uri);
    return 0;
}

static int nr_shm_calls_give(struct nr_shm *shm, const struct nr_call_ticket *ticket)
{
    int result = nr_shm_calls_check_held(shm, ticket);

    if (result == 0)
        __atomic_fetch_sub(&shm->held, 1, __ATOMIC_RELAXED);
    return result;
}

int nr_shm_calls_reply_loan(struct naru_endpoint *endpoint, const struct naru_message *request,
                            void **ret_data)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_call_ticket ticket = nr_shm_calls_ticket(request->internal);
    int result = nr_shm_calls_check_held(shm, &ticket);

    if (result == 0)
        *ret_data = nr_call_answer_at(&shm->calls, ticket.index)->reply;
    return result;
}

int nr_shm_calls_reply(struct naru_endpoint *endpoint, struct naru_message *request,
                       const struct nr_reply *reply)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_call_ticket ticket = nr_shm_calls_ticket(request->internal);

    nr_party_operate(&shm->party);
    int result = nr_shm_calls_give(shm, &ticket);
    if (result < 0)
        return result;
    if (nr_shm_calls_answer(shm, &ticket, reply))
        return 0;
    return nr_fail(-EPIPE,
                   "%s: nobody waits for this reply any more: the client gave the call up, "
                   "or died",
                   endpoint->uri);
}

int nr_shm_calls_requeue(struct naru_endpoint *endpoint, struct naru_message *request)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_call_ticket ticket = nr_shm_calls_ticket(request->internal);

    nr_party_operate(&shm->party);
    int result = nr_shm_calls_give(shm, &ticket);
    if (result < 0)
        return result;
    nr_calls_return(&shm->calls, &ticket);
    nr_shm_wake(shm, &shm->header->not_empty[0]);
    nr_shm_wake(shm, nr_shm_gate_full(shm, false));
    return 0;
}
