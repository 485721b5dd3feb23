/* SPDX-License-Identifier: MIT */
#include "transport/kernel_queue.h"
#include "base/cleanup.h"

enum { NR_KERNEL_QUEUE_NAP_MAX_NS = 10 * NARU_MILLISECOND };

int nr_kernel_queue_refuse(const struct nr_request *request, unsigned honours)
{
    const struct naru_options *options = &request->options;
    const struct nr_refusal refused[] = {
        {"when_full",
         options->when_full == NARU_DROP_NEWEST || options->when_full == NARU_OVERWRITE_OLDEST,
         "a full queue of the kernel's makes senders wait or fail; leave it 0, or use shm://"},
        {"delivery", options->delivery == NARU_AT_LEAST_ONCE,
         "the kernel forgets a message when it hands it out; use shm:// or file://"},
        {"durability", options->durability > NARU_DURABLE_NONE,
         "the messages are kept in memory; use file://"},
        {"acknowledge", options->acknowledge != 0, "it is for tcp://; leave it 0"},
        {"payload_bytes", options->payload_bytes != 0, "it is for shm://; leave it 0"},
        {"participants_max", options->participants_max != 0,
         "the kernel does not count who opens it; leave it 0, or use shm://"},
        {"held_max", options->held_max != 0, "it is for shm://; leave it 0"},
        {"one_to_one", options->one_to_one != 0,
         "any process with the permission can open it; leave it 0, or use shm://"},
        {"peer_uid_any", options->peer_uid_any != 0,
         "it is for unix://; what is created here goes by file_mode"},
        {"type", options->type != 0 && !(honours & NR_HONOURS_TYPE),
         "only sysv:// receives by type; leave it 0"},
        {"signal_number", options->signal_number != 0 && !(honours & NR_HONOURS_SIGNAL_NUMBER),
         "it is for signal://; leave it 0"},
    };

    return nr_request_refuse_each(request, refused, nr_count_of(refused));
}

void nr_kernel_queue_settle(struct naru_options *options)
{
    options->delivery = NARU_AT_MOST_ONCE;
    if (!options->when_full)
        options->when_full = NARU_BLOCK;
}

void nr_kernel_queue_put_back(struct naru_endpoint *endpoint,
                              int (*put)(struct naru_endpoint *endpoint,
                                         const struct naru_message *message))
{
    for (const struct nr_kept *kept = endpoint->kept; kept; kept = kept->next)
        if (put(endpoint, &kept->message) < 0)
            return;
}

int nr_kernel_queue_nap(struct naru_endpoint *endpoint, int64_t *nap_ns,
                        struct nr_deadline *deadline)
{
    if (nr_deadline_is_now(deadline))
        return -EAGAIN;
    int64_t left_ns = nr_deadline_left_ns(deadline);
    if (left_ns == 0)
        return -ETIMEDOUT;
    struct nr_deadline nap = nr_deadline_in(*nap_ns < left_ns ? *nap_ns : left_ns);
    if (*nap_ns < NR_KERNEL_QUEUE_NAP_MAX_NS)
        *nap_ns *= 2;
    int result = nr_endpoint_wait(endpoint, -1, 0, &nap);
    return result == -ETIMEDOUT ? 0 : result;
}
