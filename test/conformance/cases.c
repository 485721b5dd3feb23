/* SPDX-License-Identifier: MIT */
#include "cases.h"
#include <errno.h>
#include <naru/call.h>
#include <string.h>

unsigned char nr_case_room[NR_PAYLOAD_ROOM_BYTES];

size_t nr_case_size(struct nr_channel *channel, struct naru_endpoint *endpoint, size_t wanted)
{
    size_t largest = nr_channel_largest(channel, endpoint);

    if (channel->row->has & NR_EIGHT)
        return 8;
    return wanted < largest ? wanted : largest;
}

enum naru_pattern nr_case_pattern;

void nr_case_send(struct naru_endpoint *endpoint, size_t size_bytes, unsigned sender,
                  unsigned index)
{
    nr_payload_fill(nr_case_room, size_bytes, sender, index);
    if (nr_case_pattern == NARU_CALL) { /* a call whose end nobody waits for */
        struct naru_call call = {
            .size_bytes = sizeof call, .request = nr_case_room, .request_size_bytes = size_bytes};
        nr_check_ok(naru_call_begin(endpoint, &call, NR_SOON));
        return;
    }
    nr_check_ok(naru_send(endpoint, nr_case_room, size_bytes, NR_SOON));
}

void nr_case_expect(struct naru_endpoint *endpoint, size_t size_bytes, unsigned sender,
                    unsigned index)
{
    size_t got_bytes = 12345;

    if (nr_case_pattern == NARU_CALL) {
        struct naru_message request;
        nr_check_ok(naru_take(endpoint, &request, NR_SOON));
        got_bytes = request.size_bytes;
        memcpy(nr_case_room, request.data, got_bytes);
        nr_check_ok(naru_reply(endpoint, &request, NULL, 0));
    } else {
        nr_check_ok(naru_recv(endpoint, nr_case_room, sizeof nr_case_room, &got_bytes, NR_SOON));
    }
    nr_check(got_bytes == size_bytes, "%zu bytes came, not %zu", got_bytes, size_bytes);
    struct nr_payload_stamp stamp = {0};
    if (size_bytes >= 8)
        nr_payload_read(nr_case_room, size_bytes, &stamp);
    nr_check(nr_payload_is_whole(nr_case_room, size_bytes, sender, index),
             "the message of %zu bytes is not number %u of sender %u; it claims to be %u of %u",
             size_bytes, index, sender, stamp.index, stamp.sender);
}

unsigned nr_case_fill(struct naru_endpoint *endpoint, size_t size_bytes)
{
    int64_t end = nr_kit_now_ns() + NR_SOON;
    struct naru_stat stat = {.size_bytes = sizeof stat};

    /* The kernel moves what TCP holds from one end's buffers to the other's, with pauses of 40 ms. */
    nr_check_ok(naru_stat(endpoint, &stat));
    unsigned tries = strcmp(stat.scheme, "tcp") == 0 ? 30 : 1;
    for (unsigned sent = 0, refused = 0;;) {
        nr_payload_fill(nr_case_room, size_bytes, 1, sent);
        int result = naru_send(endpoint, nr_case_room, size_bytes, 0);
        nr_check(nr_kit_now_ns() < end, "it is not full after %u messages", sent);
        if (result == 0) {
            sent++;
            refused = 0;
            continue;
        }
        nr_check_fails(result, -EAGAIN, "time-out");
        if (++refused == tries)
            return sent;
        nr_kit_sleep_ms(3);
    }
}

void nr_case_expect_nothing(struct naru_endpoint *endpoint)
{
    nr_check_fails(naru_recv(endpoint, nr_case_room, sizeof nr_case_room, NULL, 0), -EAGAIN,
                   "time-out");
}

void nr_case_expect_end(struct nr_channel *channel, struct naru_endpoint *endpoint)
{
    bool ends = channel->row->has & NR_ENDS;

    nr_check_fails(naru_recv(endpoint, nr_case_room, sizeof nr_case_room, NULL,
                             ends ? NR_SOON : 50 * NARU_MILLISECOND),
                   ends ? -EPIPE : -ETIMEDOUT, "");
}
