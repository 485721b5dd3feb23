/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * call -- ask, and be answered: the pattern NARU_CALL
 *
 * What       A client (NARU_SENDER) sends a request and gets the reply to it; a server (NARU_RECEIVER) takes
 *            requests with naru_take() and answers each with naru_reply() or naru_reply_error(). Any number of
 *            clients and servers; NARU_BOTH is both. A request goes to one server, the oldest first. Open with
 *            options.pattern = NARU_CALL; naru(7) tells which techniques carry it.
 * Room       Each call has its own room in the channel, for the largest request and the largest reply:
 *            options.capacity_messages says how many calls there may be at once. No call waits for the memory of another.
 * In place   Without a copy: a request by naru_loan() and call.loan, a reply by naru_reply_loan(); a server reads the
 *            request where it stands, and so does a client the reply with call.in_place. Each of these is a
 *            call among those that there may be at once.
 * Death      A server that dies (or closes) with requests in hand: under at-least-once they go to another server,
 *            flagged NARU_REDELIVERED, and wait if there is none; under at-most-once each client gets -EOWNERDEAD.
 *            A client that dies takes its requests, loans and replies with it.
 * Late       A call that was given up is over: a reply to it goes nowhere (-EPIPE for the server), and never to
 *            another call.
 * Threads    Any thread may call, begin, end, take and reply at any time; each call gets its own reply.
 * Fork, signals  As in endpoint.h.
 */
#include <naru/endpoint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A call. Start with struct naru_call call = {.size_bytes = sizeof call}; */
struct naru_call {
    size_t size_bytes; /* sizeof(struct naru_call) */

    /* set by the caller */
    const void *request;
    size_t request_size_bytes;
    int64_t type; /* the user's own tag; the server sees it as message.type */
    void *reply;  /* room for the reply; NULL if none is expected to have a content */
    size_t reply_capacity_bytes; /* how much */

    /* set when a reply has come */
    size_t reply_size_bytes; /* its size; also with -EMSGSIZE */
    int32_t server_pid;      /* who answered */
    int32_t error;           /* with -EREMOTEIO: the code that the server gave; else 0 */
    uint32_t flags;          /* NARU_REDELIVERED: another server had the request in hand before */
    uint32_t deliveries;     /* how many servers had it, 1 as a rule */

    uint64_t internal[4]; /* the library's own; leave alone */

    /* set by the caller, for what is to be in place; else zero */
    struct naru_message *loan; /* the request, from naru_loan(); instead of `request` and its size */
    uint32_t in_place;         /* 1: `reply` becomes where the reply stands; see naru_call_end() */
    uint32_t reserved0;
    uint64_t reserved[2]; /* zero */
};

/*
 * Sends call->request and waits for the reply, which it copies to call->reply. 0: the server has replied. The
 * request is copied at once, so its memory may be used again. A request in place (call->loan, of loan->size_bytes) is not
 * copied, and the loan is used up when the request is on its way: loan->data is NULL. Before, on error, it stays.
 * Errors: -EREMOTEIO the server answered with an error: call->error is its code, and the reply its text;
 * -EMSGSIZE the request is larger than the channel carries (reply_size_bytes is 0 then), or the reply
 * is larger than the room: call->reply_size_bytes tells the room it needs, and it is kept: fetch it with
 * naru_call_end(), or give it up with naru_call_cancel(). -ETIMEDOUT nobody has answered in time, or
 * there are as many calls as the channel holds; -EINTR; -EOWNERDEAD at-most-once: the server died with
 * the request in hand; whether it has acted on it is not known. After these the call is over; a server may
 * still be working on the request. With a time-out of 0: -EAGAIN, and nothing is sent. Others as naru_send().
 */
NARU_API int naru_call(struct naru_endpoint *endpoint, struct naru_call *call, int64_t timeout_ns);

/*
 * The same in two steps, for several calls at once. naru_call_begin() sends the request; it waits only for
 * room. naru_call_end() waits for the reply: on -EAGAIN (time-out 0), -ETIMEDOUT, -EINTR and -EMSGSIZE the call
 * goes on, and can be ended later; after every other result it is over. naru_call_cancel() gives it up. The
 * struct may be moved meanwhile, but not used twice. naru_fd() of a client (NARU_SENDER) is readable while
 * one of its calls has been answered.
 * With call->in_place, after 0 and -EREMOTEIO the reply is the caller's to read at call->reply, and the call is over
 * with naru_call_cancel(), by which it gives it back.
 */
NARU_API int naru_call_begin(struct naru_endpoint *endpoint, struct naru_call *call,
                             int64_t timeout_ns);
NARU_API int naru_call_end(struct naru_endpoint *endpoint, struct naru_call *call,
                           int64_t timeout_ns);
NARU_API int naru_call_cancel(struct naru_endpoint *endpoint, struct naru_call *call);

/*
 * Answers a request that naru_take() gave; then `request` is used up. Does not block. 0: the client has
 * the reply. -EPIPE: nobody waits for it any more; the request is done with all the same. -EMSGSIZE: larger
 * than the channel carries; the request stays in hand. naru_requeue() gives a request to another server.
 * A request can't be acknowledged without an answer: naru_ack() and naru_recv() are refused here.
 */
NARU_API int naru_reply(struct naru_endpoint *endpoint, struct naru_message *request,
                        const void *data, size_t size_bytes);

/*
 * Room for the reply to a request in hand, of up to `size_bytes`: *ret_data is where it will stand. Answer with that
 * address as `data`, and nothing is copied. The room goes with the request, to whoever has it next; what was
 * written is lost if it is given back. Does not block. -EMSGSIZE: larger than the channel carries.
 */
NARU_API int naru_reply_loan(struct naru_endpoint *endpoint, const struct naru_message *request,
                             size_t size_bytes, void **ret_data);

/* Answers with an error: `code` (not 0), and a text or other data, which may be empty. */
NARU_API int naru_reply_error(struct naru_endpoint *endpoint, struct naru_message *request,
                              int32_t code, const void *data, size_t size_bytes);

#ifdef __cplusplus
}
#endif
