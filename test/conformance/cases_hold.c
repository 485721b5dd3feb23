/* SPDX-License-Identifier: MIT */
/* cases_hold -- messages in place: loan, commit, cancel; take, ack, requeue; and their misuse */
#include "cases.h"
#include <errno.h>
#include <string.h>

static void nr_hold_loans(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *sender = channel->end[NR_SENDER_END];
    struct naru_endpoint *receiver = channel->end[NR_RECEIVER_END];
    static const size_t sizes[] = {8, 1000, 60000};

    for (unsigned i = 0; i < 3; i++) {
        struct naru_message loan = {0}, other = {0};
        size_t size_bytes = nr_case_size(channel, sender, sizes[i]);
        nr_check_ok(naru_loan(sender, size_bytes, &loan, NR_SOON));
        nr_check(loan.data && loan.size_bytes == size_bytes && loan.capacity_bytes >= size_bytes,
                 "a loan of %zu bytes at %p", loan.size_bytes, loan.data);
        nr_payload_fill(loan.data, size_bytes, 1, i);
        if (channel->row->has & NR_ONE_IN_HAND) {
            nr_check_fails(naru_loan(sender, size_bytes, &other, NR_SOON), -EBUSY,
                           "one loan|cancel");
            nr_check_fails(naru_send(sender, "other", 5, NR_SOON), -EBUSY, "one loan|cancel");
        } else {
            nr_check_ok(naru_loan(sender, size_bytes, &other, NR_SOON));
            memset(other.data, 0xee, size_bytes);
            nr_check_ok(naru_cancel(sender, &other));
        }
        nr_case_expect_nothing(receiver);
        nr_check_ok(naru_commit(sender, &loan));
        nr_case_expect(receiver, size_bytes, 1, i);
    }
    nr_case_expect_nothing(receiver);
}

static void nr_hold_shorter(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *sender = channel->end[NR_SENDER_END];
    struct naru_message loan;

    nr_check_ok(naru_loan(sender, 5000, &loan, NR_SOON));
    size_t capacity_bytes = loan.capacity_bytes;
    nr_payload_fill(loan.data, 50, 1, 9);
    loan.size_bytes = capacity_bytes + 1;
    nr_check_fails(naru_commit(sender, &loan), -EINVAL, "bytes");
    loan.size_bytes = 50;
    nr_check_ok(naru_commit(sender, &loan));
    nr_case_expect(channel->end[NR_RECEIVER_END], 50, 1, 9);
    nr_check_ok(naru_loan(sender, 100, &loan, NR_SOON));
    loan.size_bytes = 0;
    nr_check_ok(naru_commit(sender, &loan));
    nr_case_expect(channel->end[NR_RECEIVER_END], 0, 0, 0);
}

static void nr_hold_misuse_loan(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *sender = channel->end[NR_SENDER_END];
    struct naru_stat stat = {.size_bytes = sizeof stat};
    struct naru_message loan,
        foreign = {.data = nr_case_room, .size_bytes = 8, .capacity_bytes = 8};

    nr_check_ok(naru_stat(sender, &stat));
    nr_check_fails(naru_loan(sender, stat.message_size_max_bytes + 1, &loan, NR_SOON), -EMSGSIZE,
                   "at most");
    nr_check_fails(naru_loan(sender, 8, NULL, NR_SOON), -EINVAL, "place");
    nr_check_fails(naru_commit(sender, &foreign), -EINVAL, "loaned");
    nr_check_fails(naru_cancel(sender, &foreign), -EINVAL, "loaned");
    nr_check_fails(naru_commit(sender, NULL), -EINVAL, "loaned");
    nr_check_ok(naru_loan(sender, 8, &loan, NR_SOON));
    struct naru_message twin = loan;
    nr_payload_fill(loan.data, 8, 1, 1);
    nr_check_ok(naru_commit(sender, &loan));
    nr_check_fails(naru_commit(sender, &loan), -EINVAL, "already");
    nr_check_fails(naru_cancel(sender, &loan), -EINVAL, "already");
    (void)twin; /* a copy of the struct is the same loan: nobody can tell, so it isn't tried */
    nr_case_expect(channel->end[NR_RECEIVER_END], 8, 1, 1);
    nr_check_ok(naru_loan(sender, 8, &loan, NR_SOON));
    nr_check_ok(naru_cancel(sender, &loan));
    nr_check_fails(naru_cancel(sender, &loan), -EINVAL, "already");
    nr_case_expect_nothing(channel->end[NR_RECEIVER_END]);
}

/* A loan that is still out when its endpoint closes is not sent, and not leaked. */
static void nr_hold_loan_and_close(struct nr_channel *channel)
{
    struct naru_message loan;

    nr_channel_open_both(channel);
    nr_check_ok(naru_loan(channel->end[NR_SENDER_END], 8, &loan, NR_SOON));
    nr_check_ok(naru_cancel(channel->end[NR_SENDER_END], &loan));
    nr_check_ok(naru_loan(channel->end[NR_SENDER_END], 8, &loan, NR_SOON));
    nr_channel_close_end(channel, NR_SENDER_END);
    nr_case_expect_end(channel, channel->end[NR_RECEIVER_END]);
}

/* A commit that finds no room leaves the loan, to be tried again. A loan may have its room already. */
static void nr_hold_commit_when_full(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *sender = channel->end[NR_SENDER_END];
    struct naru_endpoint *receiver = channel->end[NR_RECEIVER_END];
    size_t size_bytes = nr_case_size(channel, sender, 1000);
    struct naru_message loan;

    nr_check_ok(naru_loan(sender, size_bytes, &loan, 10 * NARU_MILLISECOND));
    nr_payload_fill(loan.data, size_bytes, 2, 5);
    unsigned sent = nr_case_fill(sender, size_bytes);
    int result = naru_commit(sender, &loan);
    if (result < 0)
        nr_check_fails(result, -ETIMEDOUT, "time-out");
    for (unsigned i = 0; i < sent; i++)
        nr_case_expect(receiver, size_bytes, 1, i);
    if (result < 0)
        nr_check_ok(naru_commit(sender, &loan));
    nr_case_expect(receiver, size_bytes, 2, 5);
    nr_case_expect_nothing(receiver);
}

static void nr_hold_takes(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *sender = channel->end[NR_SENDER_END];
    struct naru_endpoint *receiver = channel->end[NR_RECEIVER_END];
    static const size_t sizes[] = {8, 3000, 200000};
    struct naru_message held[3], second;

    for (unsigned i = 0; i < 3; i++) {
        size_t size_bytes = nr_case_size(channel, sender, sizes[i]);
        nr_case_send(sender, size_bytes, 1, i);
        nr_check_ok(naru_take(receiver, &held[i], NR_SOON));
        nr_check(held[i].size_bytes == size_bytes && !(held[i].flags & NARU_REDELIVERED),
                 "%zu bytes, flags %u", held[i].size_bytes, held[i].flags);
        if (!(channel->row->has & NR_ONE_IN_HAND))
            continue;
        nr_check_fails(naru_take(receiver, &second, 0), -EBUSY, "one message|acknowledge");
        nr_check_fails(naru_recv(receiver, nr_case_room, 8, NULL, 0), -EBUSY,
                       "one message|acknowledge");
        nr_check(nr_payload_is_whole(held[i].data, size_bytes, 1, i), "message %u", i);
        nr_check_ok(naru_ack(receiver, &held[i]));
    }
    if (channel->row->has & NR_ONE_IN_HAND)
        return;
    for (unsigned i = 3; i-- > 0;) { /* held side by side, given back in any order */
        nr_check(nr_payload_is_whole(held[i].data, held[i].size_bytes, 1, i), "message %u", i);
        nr_check_ok(naru_ack(receiver, &held[i]));
    }
    nr_case_expect_nothing(receiver);
}

static void nr_hold_requeues(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *receiver = channel->end[NR_RECEIVER_END];
    size_t size_bytes = nr_case_size(channel, receiver, 2000);
    struct naru_message message;

    nr_case_send(channel->end[NR_SENDER_END], size_bytes, 1, 0);
    for (unsigned again = 0; again < 3; again++) {
        nr_check_ok(naru_take(receiver, &message, NR_SOON));
        nr_check(!!(message.flags & NARU_REDELIVERED) == (again > 0), "flags %u at time %u",
                 message.flags, again);
        if (message.known & NARU_KNOWS_DELIVERIES)
            nr_check(message.deliveries == again + 1, "delivery %u at time %u", message.deliveries,
                     again);
        nr_check(message.size_bytes == size_bytes &&
                     nr_payload_is_whole(message.data, size_bytes, 1, 0),
                 "damaged at time %u", again);
        nr_check_ok(naru_requeue(receiver, &message));
    }
    nr_case_expect(receiver, size_bytes, 1, 0);
    nr_case_expect_nothing(receiver);
}

static void nr_hold_misuse_take(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *receiver = channel->end[NR_RECEIVER_END];
    struct naru_message message, foreign = {.data = nr_case_room, .size_bytes = 8};

    nr_check_fails(naru_take(receiver, NULL, 0), -EINVAL, "place");
    nr_check_fails(naru_ack(receiver, &foreign), -EINVAL, "taken");
    nr_check_fails(naru_requeue(receiver, &foreign), -EINVAL, "taken");
    nr_check_fails(naru_ack(receiver, NULL), -EINVAL, "taken");
    nr_case_send(channel->end[NR_SENDER_END], 8, 1, 0);
    nr_case_send(channel->end[NR_SENDER_END], 8, 1, 1);
    nr_check_ok(naru_take(receiver, &message, NR_SOON));
    if (channel->row->has & NR_PAIR) /* the other end is another endpoint */
        nr_check_fails(naru_ack(channel->end[NR_SENDER_END], &message), -EINVAL, "taken");
    nr_check_ok(naru_ack(receiver, &message));
    nr_check_fails(naru_ack(receiver, &message), -EINVAL, "already");
    nr_check_fails(naru_requeue(receiver, &message), -EINVAL, "already");
    nr_case_expect(receiver, 8, 1, 1);
    nr_case_expect_nothing(receiver);
}

/* -- across processes, where the technique has a memory ------------------------------------- */

static void nr_hold_take_and_die(struct nr_channel *channel, struct naru_endpoint *endpoint,
                                 int number)
{
    struct naru_message message;

    for (int i = 0; i < number; i++)
        nr_check_ok(naru_take(endpoint, &message, NR_SOON));
    nr_kit_add(&channel->shared->done, 1);
    if (number > 1)
        nr_kit_await(&channel->shared->stop, 1); /* never comes: it is killed */
}

/* What a receiver held when it closed, or was killed, comes to another, flagged; nothing is lost. */
static void nr_hold_gives_back(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *receiver = channel->end[NR_RECEIVER_END];
    struct naru_message message;
    bool seen[4] = {false};

    for (unsigned i = 0; i < 4; i++)
        nr_case_send(channel->end[NR_SENDER_END], 100, 1, i);
    nr_kit_join(nr_channel_spawn(channel, NARU_RECEIVER, nr_hold_take_and_die, 1));
    pid_t pid = nr_channel_spawn(channel, NARU_RECEIVER, nr_hold_take_and_die, 2);
    nr_kit_await(&channel->shared->done, 2);
    nr_kit_kill(pid);
    unsigned flagged = 0;
    for (int i = 0; i < 4; i++) {
        struct nr_payload_stamp stamp;
        nr_check_ok(naru_take(receiver, &message, NR_SOON));
        nr_check(nr_payload_read(message.data, message.size_bytes, &stamp) && stamp.index < 4 &&
                     !seen[stamp.index],
                 "message %d is damaged or came twice", i);
        seen[stamp.index] = true;
        flagged += !!(message.flags & NARU_REDELIVERED);
        nr_check_ok(naru_ack(receiver, &message));
    }
    nr_check(flagged >= 2, "only %u were flagged as delivered before", flagged);
    nr_case_expect_nothing(receiver);
}

const struct nr_case nr_hold_cases[] = {
    {.name = "loan, commit, cancel",
     .body = nr_hold_loans,
     .needs = NR_BUFFERS,
     .also = NR_OVERWRITES},
    {.name = "a loan that became shorter",
     .body = nr_hold_shorter,
     .needs = NR_BUFFERS,
     .lacks = NR_EIGHT,
     .also = NR_OVERWRITES},
    {.name = "misuse of a loan",
     .body = nr_hold_misuse_loan,
     .needs = NR_BUFFERS,
     .also = NR_OVERWRITES},
    {.name = "a loan when its endpoint closes",
     .body = nr_hold_loan_and_close,
     .needs = NR_BUFFERS,
     .also = NR_OVERWRITES},
    {.name = "a commit that finds no room",
     .body = nr_hold_commit_when_full,
     .needs = NR_BUFFERS | NR_FILLS,
     .lacks = NR_ONE_IN_HAND},
    {.name = "take and ack", .body = nr_hold_takes, .needs = NR_BUFFERS, .also = NR_OVERWRITES},
    {.name = "take and requeue",
     .body = nr_hold_requeues,
     .needs = NR_BUFFERS,
     .also = NR_OVERWRITES},
    {.name = "misuse of a take",
     .body = nr_hold_misuse_take,
     .needs = NR_BUFFERS,
     .also = NR_OVERWRITES},
    {.name = "what a receiver held comes again",
     .body = nr_hold_gives_back,
     .needs = NR_GIVES_BACK},
    {0},
};
