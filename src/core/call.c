/* SPDX-License-Identifier: MIT */
/*
 * call -- request and reply
 *
 * What       Checks, the transport's part, counters. A call in two steps is marked in call->internal, so that one
 *            that is over, or of another endpoint, is refused.
 */
#include "core/core.h"

/* call->internal[0]; [1]: of which endpoint */
enum {
    NR_CALL_BEGUN = 0x43414c4c,
    NR_CALL_READ, /* its reply is read in place */
};

static bool nr_call_is_begun(const struct naru_call *call)
{
    return call->internal[0] == NR_CALL_BEGUN || call->internal[0] == NR_CALL_READ;
}

static int nr_call_enter(const struct naru_endpoint *endpoint, const struct naru_call *call)
{
    int result = nr_core_enter(endpoint, NARU_SENDER);

    if (result < 0)
        return result;
    if (!endpoint->transport->call_begin)
        return nr_fail(-EOPNOTSUPP,
                       "%s carries no calls; open it with options.pattern = NARU_CALL, where "
                       "`naru transports` says that it can",
                       endpoint->uri);
    if (!call || call->size_bytes < sizeof *call)
        return nr_fail(-EINVAL, "set call.size_bytes to sizeof(struct naru_call)");
    return 0;
}

/* -- begin ---------------------------------------------------------------------------------- */

static int nr_call_check_request(const struct naru_endpoint *endpoint, const struct naru_call *call)
{
    size_t most_bytes = endpoint->options.message_size_max_bytes;

    if (call->loan)
        return nr_message_check_loan(endpoint, call->loan);
    if (!call->request && call->request_size_bytes)
        return nr_fail(-EINVAL, "request is NULL, and its size %zu", call->request_size_bytes);
    if (call->request_size_bytes > most_bytes)
        return nr_fail(-EMSGSIZE,
                       "%s: the request has %zu bytes, and the channel carries at most %zu; split "
                       "it, or create the channel with a larger message_size_max_bytes",
                       endpoint->uri, call->request_size_bytes, most_bytes);
    return 0;
}

static int nr_call_begin(struct naru_endpoint *endpoint, struct naru_call *call,
                         struct nr_deadline *deadline)
{
    bool fail_when_full = endpoint->options.when_full == NARU_FAIL;
    struct nr_deadline now = nr_deadline_in(0);

    if (nr_call_is_begun(call))
        return nr_fail(-EINVAL, "this call was begun already, and is not over; end or cancel it, "
                                "or use another struct");
    call->reply_size_bytes = 0;
    call->server_pid = call->error = 0;
    call->flags = call->deliveries = 0;
    int result = nr_call_check_request(endpoint, call);
    if (result < 0)
        return result;
    size_t size_bytes = call->loan ? call->loan->size_bytes : call->request_size_bytes;
    result = endpoint->transport->call_begin(endpoint, call, fail_when_full ? &now : deadline);
    nr_core_arm_send(endpoint, result, size_bytes);
    if (result == -EAGAIN && fail_when_full)
        return nr_fail(-ENOBUFS,
                       "%s has as many calls as it holds, and its contract is to fail then",
                       endpoint->uri);
    if (result < 0)
        return result;
    if (call->loan) {
        nr_count_subtract(&endpoint->counts->loans, 1);
        nr_message_forget(call->loan);
    }
    call->internal[0] = NR_CALL_BEGUN;
    call->internal[1] = (uint64_t)(uintptr_t)endpoint;
    nr_count_add(&endpoint->counts->sent_messages, 1);
    nr_count_add(&endpoint->counts->sent_bytes, size_bytes);
    return 0;
}

int naru_call_begin(struct naru_endpoint *endpoint, struct naru_call *call, int64_t timeout_ns)
{
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);
    int result = nr_call_enter(endpoint, call);

    return result < 0 ? result : nr_core_leave(endpoint, nr_call_begin(endpoint, call, &deadline));
}

/* -- end -------------------------------------------------------------------------------------- */

static int nr_call_check(const struct naru_endpoint *endpoint, const struct naru_call *call)
{
    if (nr_call_is_begun(call) && call->internal[1] == (uint64_t)(uintptr_t)endpoint)
        return 0;
    return nr_fail(-EINVAL, "this is no call that was begun on %s, or it is over already",
                   endpoint->uri);
}

/* Results after which the call goes on. */
static bool nr_call_is_open(int result)
{
    return result == -EAGAIN || result == -ETIMEDOUT || result == -EINTR || result == -EMSGSIZE;
}

static int nr_call_end(struct naru_endpoint *endpoint, struct naru_call *call,
                       struct nr_deadline *deadline)
{
    if (call->internal[0] == NR_CALL_READ)
        return nr_fail(-EINVAL, "the reply of this call stands at call->reply already; give it "
                                "back with naru_call_cancel()");
    if (!call->in_place && !call->reply && call->reply_capacity_bytes)
        return nr_fail(-EINVAL, "reply is NULL, and its room %zu bytes",
                       call->reply_capacity_bytes);
    int result = endpoint->transport->call_end(endpoint, call, deadline);
    bool has_reply = result == 0 || result == -EREMOTEIO;
    if (has_reply && call->in_place)
        call->internal[0] = NR_CALL_READ;
    else if (!nr_call_is_open(result))
        call->internal[0] = 0;
    if (has_reply) {
        nr_count_add(&endpoint->counts->received_messages, 1);
        nr_count_add(&endpoint->counts->received_bytes, call->reply_size_bytes);
    }
    nr_core_arm(endpoint, result);
    return result;
}

int naru_call_end(struct naru_endpoint *endpoint, struct naru_call *call, int64_t timeout_ns)
{
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);
    int result = nr_call_enter(endpoint, call);

    if (result == 0)
        result = nr_call_check(endpoint, call);
    return result < 0 ? result : nr_core_leave(endpoint, nr_call_end(endpoint, call, &deadline));
}

int naru_call_cancel(struct naru_endpoint *endpoint, struct naru_call *call)
{
    int result = nr_call_enter(endpoint, call);

    if (result == 0)
        result = nr_call_check(endpoint, call);
    if (result < 0)
        return result;
    result = endpoint->transport->call_cancel(endpoint, call, true);
    if (call->internal[0] == NR_CALL_READ)
        call->reply = NULL;
    call->internal[0] = 0;
    return nr_core_leave(endpoint, result);
}

int naru_call(struct naru_endpoint *endpoint, struct naru_call *call, int64_t timeout_ns)
{
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);
    int result = nr_call_enter(endpoint, call);

    if (result < 0)
        return result;
    if (timeout_ns == 0)
        return nr_fail(-EAGAIN, "a call takes time; give a time-out, or begin it with "
                                "naru_call_begin() and end it later");
    result = nr_call_begin(endpoint, call, &deadline);
    if (result < 0)
        return nr_core_failed(endpoint, result);
    result = nr_call_end(endpoint, call, &deadline);
    if (nr_call_is_open(result) && result != -EMSGSIZE) {
        if (endpoint->transport->call_cancel(endpoint, call, false) > 0) { /* just in time */
            struct nr_deadline now = nr_deadline_in(0);
            nr_error_clear();
            return nr_core_leave(endpoint, nr_call_end(endpoint, call, &now));
        }
        call->internal[0] = 0;
    }
    return nr_core_leave(endpoint, result);
}

/* -- the server's side ------------------------------------------------------------------------ */

static int nr_call_check_reply(const struct naru_endpoint *endpoint,
                               const struct naru_message *request, size_t size_bytes)
{
    int result = nr_core_enter(endpoint, NARU_RECEIVER);

    if (result < 0)
        return result;
    if (!endpoint->transport->reply)
        return nr_fail(-EOPNOTSUPP, "%s carries no calls; what it carries has no reply",
                       endpoint->uri);
    result = nr_message_check(endpoint, request, NR_MESSAGE_TAKEN);
    if (result < 0)
        return result;
    if (size_bytes > endpoint->options.message_size_max_bytes)
        return nr_fail(-EMSGSIZE,
                       "%s: the reply has %zu bytes, and the channel carries at most %zu; split "
                       "it, or create the channel with a larger message_size_max_bytes",
                       endpoint->uri, size_bytes, endpoint->options.message_size_max_bytes);
    return 0;
}

int naru_reply_loan(struct naru_endpoint *endpoint, const struct naru_message *request,
                    size_t size_bytes, void **ret_data)
{
    int result = nr_call_check_reply(endpoint, request, size_bytes);

    if (result < 0)
        return result;
    if (!ret_data)
        return nr_fail(-EINVAL, "naru_reply_loan() needs a place for the address");
    return nr_core_leave(endpoint, endpoint->transport->reply_loan(endpoint, request, ret_data));
}

static int nr_call_reply(struct naru_endpoint *endpoint, struct naru_message *request,
                         const struct nr_reply *reply)
{
    int result = nr_call_check_reply(endpoint, request, reply->size_bytes);

    if (result < 0)
        return result;
    if (!reply->data && reply->size_bytes)
        return nr_fail(-EINVAL, "data is NULL, and the size %zu", reply->size_bytes);
    result = endpoint->transport->reply(endpoint, request, reply);
    if (result == 0) {
        nr_count_add(&endpoint->counts->sent_messages, 1);
        nr_count_add(&endpoint->counts->sent_bytes, reply->size_bytes);
    }
    nr_count_subtract(&endpoint->counts->held, 1);
    nr_message_forget(request);
    return nr_core_leave(endpoint, result);
}

int naru_reply(struct naru_endpoint *endpoint, struct naru_message *request, const void *data,
               size_t size_bytes)
{
    struct nr_reply reply = {.data = data, .size_bytes = size_bytes};

    return nr_call_reply(endpoint, request, &reply);
}

int naru_reply_error(struct naru_endpoint *endpoint, struct naru_message *request, int32_t code,
                     const void *data, size_t size_bytes)
{
    struct nr_reply reply = {.data = data, .size_bytes = size_bytes, .error = code};

    if (code == 0)
        return nr_fail(-EINVAL, "the code of an error is not 0; without one, naru_reply()");
    return nr_call_reply(endpoint, request, &reply);
}
