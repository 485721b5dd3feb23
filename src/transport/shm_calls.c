/* SPDX-License-Identifier: MIT */
/*
 * shm_calls -- shm:// with request and reply: the kind, and the client's side
 *
 * What       A client writes its request into a call of the table, posts it, and waits at the call's gate; a server
 *            works on the request where it stands, writes the reply beside it, and wakes that thread alone. A loan is
 *            a call that was claimed and is not posted yet; the room for its reply is there as well.
 * Gates      not_empty: servers wait for requests. not_full: clients wait for a call to be over, or for room in the
 *            ring. Each call's: the thread that waits for its reply; a gate knows that someone sleeps, not who, so
 *            a client's threads have no gate in common. Each client's: its descriptor.
 * Death      See data/calls.h. Between answering and waking: the death word; who is woken, whichever thread of whichever
 *            client, repairs, and wakes all whose calls are not over.
 */
#include "transport/shm_calls.h"
#include <string.h>

enum {
    NR_SHM_CALLS_ROOM_BYTES = 4 * 1024 * 1024, /* how many calls by default: what fits in this, */
    NR_SHM_CALLS_FEWEST = 16,                  /* but not fewer, */
    NR_SHM_CALLS_DEFAULT = 256,                /* and not more */
    NR_SHM_CALLS_LOOKS = 64,                   /* between thorough ones */
};

static bool nr_shm_calls_may_recv(struct nr_shm *shm)
{
    return shm->endpoint.role == NARU_SENDER ? nr_calls_may_end(&shm->calls)
                                             : nr_calls_may_take(&shm->calls);
}

static bool nr_shm_calls_may_send(struct nr_shm *shm)
{
    return nr_calls_may_claim(&shm->calls);
}

/* -- clients --------------------------------------------------------------------------------- */

static int nr_shm_calls_claim(struct nr_shm *shm, struct nr_call_ticket *ret,
                              struct nr_deadline *deadline)
{
    struct nr_shm_pause pause = {0};

    for (;;) {
        int result = nr_calls_claim(&shm->calls, ret);
        if (result == 0) {
            nr_shm_pause_end(shm, &pause);
            return 0;
        }
        result = nr_shm_pause(shm, nr_shm_gate_full(shm, true), &pause, result, deadline);
        if (result < 0)
            return result;
    }
}

static int nr_shm_calls_post(struct nr_shm *shm, const struct nr_call_ticket *ticket,
                             struct nr_deadline *deadline)
{
    struct nr_shm_pause pause = {0};

    for (;;) {
        int result = nr_calls_post(&shm->calls, ticket, &pause.blocker);
        if (result == 0) {
            nr_shm_pause_end(shm, &pause);
            return 0;
        }
        result = nr_shm_pause(shm, nr_shm_gate_full(shm, true), &pause, result, deadline);
        if (result < 0)
            return result;
    }
}

static void nr_shm_calls_finish(struct nr_shm *shm, const struct nr_call_ticket *ticket)
{
    nr_calls_finish(&shm->calls, ticket);
    nr_shm_wake(shm, nr_shm_gate_full(shm, false));
}

/* A request of that size stands in the call, or will be copied there. */
static void nr_shm_calls_describe(struct nr_shm *shm, const struct nr_call_ticket *ticket,
                                  const struct naru_call *call, size_t size_bytes)
{
    struct nr_call_entry *entry = nr_call_at(&shm->calls, ticket->index);

    entry->size_bytes = (uint32_t)size_bytes;
    entry->type = call->type;
    entry->client_pid = shm->pid;
}

static int nr_shm_calls_begin_loaned(struct nr_shm *shm, const struct naru_call *call,
                                     struct nr_call_ticket *ret, struct nr_deadline *deadline)
{
    *ret = nr_shm_calls_ticket(call->loan->internal);
    nr_shm_calls_describe(shm, ret, call, call->loan->size_bytes);
    return nr_shm_calls_post(shm, ret, deadline);
}

static int nr_shm_calls_begin_copied(struct nr_shm *shm, const struct naru_call *call,
                                     struct nr_call_ticket *ret, struct nr_deadline *deadline)
{
    int result = nr_shm_calls_claim(shm, ret, deadline);

    if (result < 0)
        return result;
    nr_shm_calls_describe(shm, ret, call, call->request_size_bytes);
    if (call->request_size_bytes)
        memcpy(nr_call_at(&shm->calls, ret->index)->request, call->request,
               call->request_size_bytes);
    result = nr_shm_calls_post(shm, ret, deadline);
    if (result < 0)
        nr_shm_calls_finish(shm, ret);
    return result;
}

static int nr_shm_calls_begin(struct naru_endpoint *endpoint, struct naru_call *call,
                              struct nr_deadline *deadline)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_call_ticket ticket;

    nr_party_operate(&shm->party);
    int result = call->loan ? nr_shm_calls_begin_loaned(shm, call, &ticket, deadline)
                            : nr_shm_calls_begin_copied(shm, call, &ticket, deadline);
    if (result < 0)
        return result;
    nr_shm_calls_mark(call->internal, &ticket);
    nr_shm_wake(shm, &shm->header->not_empty[0]);
    return 0;
}

static int nr_shm_calls_loan(struct naru_endpoint *endpoint, size_t size_bytes,
                             struct naru_message *ret, struct nr_deadline *deadline)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    bool fails_when_full = endpoint->options.when_full == NARU_FAIL;
    struct nr_deadline now = nr_deadline_in(0);
    struct nr_call_ticket ticket;

    nr_party_operate(&shm->party);
    int result = nr_shm_calls_claim(shm, &ticket, fails_when_full ? &now : deadline);
    if (result == -EAGAIN && fails_when_full)
        return nr_fail(-ENOBUFS, "%s: no call is free for a loan; its contract is to fail then",
                       endpoint->uri);
    if (result < 0)
        return result;
    *ret = (struct naru_message){
        .data = nr_call_at(&shm->calls, ticket.index)->request,
        .size_bytes = size_bytes,
        .capacity_bytes = size_bytes,
    };
    nr_shm_calls_mark(ret->internal, &ticket);
    return 0;
}

static int nr_shm_calls_cancel_loan(struct naru_endpoint *endpoint, struct naru_message *message)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_call_ticket ticket = nr_shm_calls_ticket(message->internal);

    nr_shm_calls_finish(shm, &ticket);
    return 0;
}

/* Until there is an outcome: 0, or -EOWNERDEAD, or what ended the wait. */
static int nr_shm_calls_await(struct nr_shm *shm, const struct nr_call_ticket *ticket,
                              struct nr_deadline *deadline)
{
    struct nr_gate *gate = nr_shm_calls_gate(shm, ticket->index);
    struct nr_shm_pause pause = {0};
    bool is_once = nr_deadline_is_now(deadline);

    for (unsigned looks = 1;; looks++) {
        bool is_thorough = is_once || pause.is_prepared || looks % NR_SHM_CALLS_LOOKS == 0;
        int result = nr_calls_look(&shm->calls, ticket, is_thorough);
        if (result != -EAGAIN) {
            nr_shm_pause_end(shm, &pause);
            return result;
        }
        result = nr_shm_pause(shm, gate, &pause, result, deadline);
        if (result < 0)
            return result;
    }
}

static int nr_shm_calls_deliver(struct nr_shm *shm, const struct nr_call_ticket *ticket,
                                struct naru_call *call)
{
    struct nr_call_answer *answer = nr_call_answer_at(&shm->calls, ticket->index);
    size_t size_bytes = __atomic_load_n(&answer->size_bytes, __ATOMIC_RELAXED);

    if (size_bytes > shm->calls.size_max_bytes) {
        nr_shm_calls_finish(shm, ticket);
        return nr_fail(-EBADMSG,
                       "%s: a reply was damaged in the segment and is dropped; some process "
                       "writes where it should not",
                       shm->endpoint.uri);
    }
    call->reply_size_bytes = size_bytes;
    call->server_pid = answer->server_pid;
    call->error = answer->error;
    call->deliveries = answer->deliveries;
    call->flags = call->deliveries > 1 ? NARU_REDELIVERED : 0;
    if (!call->in_place && size_bytes > call->reply_capacity_bytes)
        return nr_fail(-EMSGSIZE,
                       "%s: the reply has %zu bytes, and there is room for %zu; it is kept for "
                       "naru_call_end() with more room",
                       shm->endpoint.uri, size_bytes, call->reply_capacity_bytes);
    if (call->in_place) {
        call->reply = answer->reply;
        nr_calls_keep(&shm->calls, ticket);
    } else {
        if (size_bytes)
            memcpy(call->reply, answer->reply, size_bytes);
        nr_shm_calls_finish(shm, ticket);
    }
    if (call->error == 0)
        return 0;
    return nr_fail(-EREMOTEIO, "%s: process %d answered with error %d", shm->endpoint.uri,
                   call->server_pid, call->error);
}

static int nr_shm_calls_end(struct naru_endpoint *endpoint, struct naru_call *call,
                            struct nr_deadline *deadline)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_call_ticket ticket = nr_shm_calls_ticket(call->internal);

    nr_party_operate(&shm->party);
    int result = nr_shm_calls_await(shm, &ticket, deadline);
    if (result == 0)
        return nr_shm_calls_deliver(shm, &ticket, call);
    if (result == -EOWNERDEAD) {
        nr_shm_calls_finish(shm, &ticket);
        return nr_fail(-EOWNERDEAD,
                       "%s: the server that had taken the request has died; it may have acted on "
                       "it, and the channel's contract is to send it to no other",
                       endpoint->uri);
    }
    return result == -EINVAL
               ? nr_fail(-EBADMSG, "%s: the call is damaged in the segment", endpoint->uri)
               : result;
}

static int nr_shm_calls_cancel(struct naru_endpoint *endpoint, struct naru_call *call,
                               bool drop_outcome)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    struct nr_call_ticket ticket = nr_shm_calls_ticket(call->internal);

    nr_party_operate(&shm->party);
    if (nr_calls_withdraw(&shm->calls, &ticket)) {
        nr_shm_wake(shm, nr_shm_gate_full(shm, false));
        return 0;
    }
    if (!drop_outcome)
        return 1;
    int outcome = nr_calls_look(&shm->calls, &ticket, true);
    if (outcome == 0 || outcome == -EOWNERDEAD)
        nr_shm_calls_finish(shm, &ticket);
    return 0;
}

/* -- what a channel of calls is not for ------------------------------------------------------ */

static int nr_shm_calls_send(struct naru_endpoint *endpoint, const struct nr_out *out,
                             struct nr_deadline *deadline)
{
    (void)out, (void)deadline;
    return nr_fail(-EOPNOTSUPP, "%s carries calls; use naru_call()", endpoint->uri);
}

static int nr_shm_calls_commit(struct naru_endpoint *endpoint, struct naru_message *message)
{
    (void)message;
    return nr_fail(-EOPNOTSUPP, "%s carries calls; send the request with naru_call(), as call.loan",
                   endpoint->uri);
}

static int nr_shm_calls_recv(struct naru_endpoint *endpoint, struct nr_in *in,
                             struct nr_deadline *deadline)
{
    (void)in, (void)deadline;
    return nr_fail(-EOPNOTSUPP,
                   "%s carries calls: naru_recv() would leave the client without an answer; use "
                   "naru_take() and naru_reply()",
                   endpoint->uri);
}

/* -- the kind -------------------------------------------------------------------------------- */

static int nr_shm_calls_plan(struct nr_shm_header *header, const struct nr_request *request)
{
    const struct naru_options *options = &request->options;
    uint64_t calls = NR_SHM_CALLS_ROOM_BYTES / nr_calls_entry_bytes(header->message_size_max_bytes);
    const struct nr_refusal refused[] = {
        {"payload_bytes", options->payload_bytes,
         "each call has its own room; capacity_messages says how many there may be at once"},
        {"when_full",
         header->when_full == NARU_DROP_NEWEST || header->when_full == NARU_OVERWRITE_OLDEST,
         "a call is not dropped; leave it to block, or to fail"},
    };

    int result = nr_request_refuse_each(request, refused, nr_count_of(refused));
    if (result < 0)
        return result;
    if (calls < NR_SHM_CALLS_FEWEST)
        calls = NR_SHM_CALLS_FEWEST;
    if (calls > NR_SHM_CALLS_DEFAULT)
        calls = NR_SHM_CALLS_DEFAULT;
    if (!options->capacity_messages)
        header->capacity_messages = calls;
    header->slots_count = nr_shm_layout_power_of_two(2 * header->capacity_messages);
    header->slot_bytes = 64;
    header->held_max = options->held_max ? options->held_max : (uint32_t)header->capacity_messages;
    return 0;
}

static struct nr_calls nr_shm_calls_sizes(const struct nr_shm_header *header)
{
    return (struct nr_calls){
        .ring = {.slots_count = header->slots_count, .slot_bytes = header->slot_bytes},
        .count = (uint32_t)header->capacity_messages,
        .participants_count = header->participants_max,
        .size_max_bytes = header->message_size_max_bytes,
        .at_most_once = header->delivery == NARU_AT_MOST_ONCE,
    };
}

static uint64_t nr_shm_calls_bytes(const struct nr_shm_header *header)
{
    struct nr_calls sizes = nr_shm_calls_sizes(header);

    return (sizes.participants_count + sizes.count) * sizeof(struct nr_gate) +
           nr_calls_bytes(&sizes);
}

static bool nr_shm_calls_is_sane(const struct nr_shm_header *header)
{
    return header->capacity_messages > 0 && header->capacity_messages <= NR_SHM_SLOTS_MOST &&
           header->slots_count == nr_shm_layout_power_of_two(2 * header->capacity_messages) &&
           header->slot_bytes == 64 && header->participants_max > 0;
}

static void nr_shm_calls_view(struct nr_shm *shm, const struct nr_shm_header *plan, void *memory)
{
    shm->gates = memory;
    shm->calls = nr_shm_calls_sizes(plan);
    nr_calls_attach(&shm->calls, nr_shm_calls_gate(shm, shm->calls.count));
}

/* Whatever the gates say: who opened one may have died before it woke who sleeps there. */
static void nr_shm_calls_wake_all(struct nr_shm *shm)
{
    uint32_t client;

    for (uint32_t i = 0; i < shm->calls.count; i++) {
        if (!nr_calls_is_open(&shm->calls, i, &client))
            continue;
        nr_shm_wake_sleepers(nr_shm_calls_gate(shm, i));
        if (client < shm->calls.participants_count)
            nr_shm_wake_sleepers(&shm->gates[client]);
    }
}

static int nr_shm_calls_join(struct nr_shm *shm)
{
    nr_calls_join(&shm->calls, shm->party.me);
    nr_shm_calls_wake_all(shm); /* so that they watch us as well */
    return 0;
}

static void nr_shm_calls_repair(struct nr_shm *shm, unsigned dead)
{
    nr_calls_repair(&shm->calls, dead);
    nr_shm_calls_wake_all(shm);
}

/* What it still holds goes back, and what it asked for is dropped. */
static void nr_shm_calls_leave(struct nr_shm *shm)
{
    nr_shm_calls_repair(shm, shm->party.me);
}

static void nr_shm_calls_stat(struct nr_shm *shm, struct naru_stat *stat)
{
    stat->queued_messages = nr_calls_queued(&shm->calls);
    stat->known |= NARU_STAT_QUEUED;
}

const struct nr_shm_kind nr_shm_calls_kind = {
    .number = NR_SHM_CALLS,
    .pattern = NARU_CALL,
    .roles = 1 << NARU_SENDER | 1 << NARU_RECEIVER | 1 << NARU_BOTH,
    .transport =
        {
            NR_SHM_COMMON,
            .send = nr_shm_calls_send,
            .recv = nr_shm_calls_recv,
            .loan = nr_shm_calls_loan,
            .commit = nr_shm_calls_commit,
            .cancel = nr_shm_calls_cancel_loan,
            .take = nr_shm_calls_take,
            .requeue = nr_shm_calls_requeue,
            .call_begin = nr_shm_calls_begin,
            .call_end = nr_shm_calls_end,
            .call_cancel = nr_shm_calls_cancel,
            .reply_loan = nr_shm_calls_reply_loan,
            .reply = nr_shm_calls_reply,
        },
    .plan = nr_shm_calls_plan,
    .is_sane = nr_shm_calls_is_sane,
    .bytes = nr_shm_calls_bytes,
    .view = nr_shm_calls_view,
    .join = nr_shm_calls_join,
    .leave = nr_shm_calls_leave,
    .repair = nr_shm_calls_repair,
    .may_recv = nr_shm_calls_may_recv,
    .may_send = nr_shm_calls_may_send,
    .stat = nr_shm_calls_stat,
};
