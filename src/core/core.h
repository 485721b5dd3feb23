/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * core -- what the public functions share
 *
 * What       Each public function enters through nr_core_enter(), calls the transport, and leaves
 *            through nr_core_leave(), so that ownership, roles and error texts are treated in one place.
 */
#include "os/process.h"
#include "transport/endpoint.h"

int nr_core_refuse(const struct naru_endpoint *endpoint, unsigned role);

/* May this process use the endpoint in that role (0: in any)? */
static inline bool nr_core_may(const struct naru_endpoint *endpoint, unsigned role)
{
    return __builtin_expect(
        endpoint && nr_os_process_is(endpoint->owner) && (endpoint->role & role) == role, 1);
}

/* 0 if so. Forgets the last error text. */
static inline int nr_core_enter(const struct naru_endpoint *endpoint, unsigned role)
{
    nr_error_clear();
    return nr_core_may(endpoint, role) ? 0 : nr_core_refuse(endpoint, role);
}

int nr_core_failed(const struct naru_endpoint *endpoint, int error);

/* Sees to it that a negative result has a sentence. */
static inline int nr_core_leave(const struct naru_endpoint *endpoint, int result)
{
    return __builtin_expect(result < 0, 0) ? nr_core_failed(endpoint, result) : result;
}

/* Where the descriptors stand that an end of a pair in this process works with. */
unsigned nr_channel_descriptors(struct naru_endpoint *end, int *ret[NR_ENDPOINT_FDS_MAX]);

/* Kept messages (ready.c): first in, first out; `at_front` for one that was put back. */
int nr_kept_push(struct naru_endpoint *endpoint, const struct naru_message *message, bool at_front);
struct nr_kept *nr_kept_pop(struct naru_endpoint *endpoint, size_t capacity_bytes,
                            size_t *ret_needed_bytes);

/* A receive has found nothing (or someone in the middle of what comes next): the descriptor that was handed out
   must tell when that changes. */
static inline void nr_core_arm(struct naru_endpoint *endpoint, int result)
{
    bool found_nothing = result == -EAGAIN || result == -ETIMEDOUT || result == -EBUSY;

    if (found_nothing && endpoint->ready_fd[0] >= 0 && endpoint->transport->arm)
        endpoint->transport->arm(endpoint, NR_READABLE, 0);
    /* What another thread has put back meanwhile: arming may have cleared the descriptor after that. */
    if (found_nothing && endpoint->ready_fd[0] >= 0 && endpoint->transport->descriptors_are_whole &&
        __atomic_load_n(&endpoint->kept_count, __ATOMIC_ACQUIRE))
        nr_os_eventfd_set(endpoint->ready_fd[0]);
}

/* A send, a loan or a commit has found no room: likewise. */
static inline void nr_core_arm_send(struct naru_endpoint *endpoint, int result, size_t size_bytes)
{
    bool found_none =
        result == -EAGAIN || result == -ETIMEDOUT || result == -EBUSY || result == -ENOBUFS;

    if (found_none && endpoint->ready_fd[1] >= 0 && endpoint->transport->arm)
        endpoint->transport->arm(endpoint, NR_WRITABLE, size_bytes);
}

/* messages in hand (message.c) */
enum { NR_MESSAGE_LOANED = 0x4c4f414e, NR_MESSAGE_TAKEN = 0x54414b4e };
int nr_message_check(const struct naru_endpoint *endpoint, const struct naru_message *message,
                     uint64_t kind);
int nr_message_check_loan(const struct naru_endpoint *endpoint, const struct naru_message *message);
void nr_message_forget(struct naru_message *message);

/* A pair's peer has become known: its death makes the descriptors readable. */
int nr_ready_watch_peer(struct naru_endpoint *endpoint);

/* Makes complete options out of what the user gave; -EINVAL with the field's name. */
int nr_options_complete(struct naru_options *ret, const struct naru_options *given);
