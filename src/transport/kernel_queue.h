/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * kernel_queue -- what mq://, sysv:// and signal:// share: a queue that the kernel keeps
 *
 * What       Such a queue has no place for a contract, a header or a list of participants, and it is one
 *            that other programs use as well: so the options that need these are refused.
 */
#include "transport/endpoint.h"

/* Up to this size a message passes through the stack on its way, beyond it through the heap. */
enum { NR_KERNEL_QUEUE_STACK_BYTES = 16 * 1024 };

enum nr_kernel_queue_honours { NR_HONOURS_TYPE = 1, NR_HONOURS_SIGNAL_NUMBER = 2 };

/* Refuses the options that no kernel queue can honour, and the two above unless `honours` has them. */
int nr_kernel_queue_refuse(const struct nr_request *request, unsigned honours);

/* Stores what always holds: pattern, contract. */
void nr_kernel_queue_settle(struct naru_options *options);

/*
 * For leave(): messages that are still kept in the endpoint go back into the queue, at its end, as long
 * as put() finds room for them (it must not wait). What does not go back is lost with the endpoint.
 */
void nr_kernel_queue_put_back(struct naru_endpoint *endpoint,
                              int (*put)(struct naru_endpoint *endpoint,
                                         const struct naru_message *message));

/*
 * For a full queue that nothing tells about when it has room: sleeps *nap_ns, at most to the deadline, and
 * doubles it up to 10 ms. 0: look again; -EAGAIN, -ETIMEDOUT, -EINTR as nr_endpoint_wait().
 */
int nr_kernel_queue_nap(struct naru_endpoint *endpoint, int64_t *nap_ns,
                        struct nr_deadline *deadline);
