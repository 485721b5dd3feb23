/* SPDX-License-Identifier: MIT */
#include "hostile.h"
#include "kit.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Small: a walk through all of it, and around its end, is short. */
#define SMALL                                                                                      \
    .message_size_max_bytes = 200, .capacity_messages = 4, .payload_bytes = 6 * 256,               \
    .participants_max = 4
#define CELL .message_size_max_bytes = 200, .participants_max = 4, .pattern = NARU_CELL
#define CALL                                                                                       \
    .message_size_max_bytes = 200, .capacity_messages = 4, .participants_max = 4,                  \
    .pattern = NARU_CALL

const struct nr_hostile_channel nr_hostile_channels[] = {
    {.name = "many to many", .options = {SMALL}},
    {.name = "many to many, at most once", .options = {SMALL, .delivery = NARU_AT_MOST_ONCE}},
    {.name = "many to many, overwriting", .options = {SMALL, .when_full = NARU_OVERWRITE_OLDEST}},
    {.name = "many to many, dropping", .options = {SMALL, .when_full = NARU_DROP_NEWEST}},
    {.name = "one to one", .options = {SMALL, .one_to_one = 1}},
    {.name = "one to one, at most once",
     .options = {SMALL, .one_to_one = 1, .delivery = NARU_AT_MOST_ONCE}},
    {.name = "pair", .options = {.message_size_max_bytes = 200}, .is_pair = true},
    {.name = "topic", .options = {SMALL, .pattern = NARU_TOPIC}},
    {.name = "topic, overwriting",
     .options = {SMALL, .pattern = NARU_TOPIC, .when_full = NARU_OVERWRITE_OLDEST},
     .copies = true},
    {.name = "topic, overwriting, read-only",
     .options = {SMALL, .pattern = NARU_TOPIC, .when_full = NARU_OVERWRITE_OLDEST},
     .reads_only = true,
     .copies = true},
    {.name = "cell", .options = {CELL}, .copies = true},
    {.name = "cell, read-only", .options = {CELL}, .reads_only = true, .copies = true},
    {.name = "call", .options = {CALL}},
    {.name = "call, at most once", .options = {CALL, .delivery = NARU_AT_MOST_ONCE}},
};
const unsigned nr_hostile_channels_count =
    sizeof nr_hostile_channels / sizeof nr_hostile_channels[0];

uint64_t nr_hostile_random(uint64_t *state)
{
    uint64_t word = *state += 0x9e3779b97f4a7c15u;

    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9u;
    word = (word ^ (word >> 27)) * 0x94d049bb133111ebu;
    return word ^ (word >> 31);
}

static size_t below(struct nr_hostile *hostile, size_t count)
{
    return (size_t)(nr_hostile_random(&hostile->random) % count);
}

static size_t random_size(struct nr_hostile *hostile)
{
    return below(hostile, hostile->size_max_bytes + 1);
}

/* Memory of just this size, at whose end a page begins that can't be touched. */
static void *room_of(struct nr_hostile *hostile, size_t size_bytes)
{
    if (!hostile->room) {
        char *pages = mmap(NULL, 2 * NR_HOSTILE_ROOM_BYTES, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        nr_check(pages != MAP_FAILED, "mmap: %s", strerror(errno));
        mprotect(pages + NR_HOSTILE_ROOM_BYTES, NR_HOSTILE_ROOM_BYTES, PROT_NONE);
        hostile->room = (unsigned char *)pages;
    }
    return hostile->room + NR_HOSTILE_ROOM_BYTES - size_bytes;
}

/* -- judging a result ------------------------------------------------------------------------ */

static const int sending[] = {-EAGAIN,     -ETIMEDOUT, -ENOBUFS, -EPIPE,
                              -EOWNERDEAD, -EBUSY,     -EBADMSG, 0};
static const int receiving[] = {-EMSGSIZE,   -EAGAIN, -ETIMEDOUT, -ENOBUFS, -EPIPE,
                                -EOWNERDEAD, -EBUSY,  -EBADMSG,   0};
static const int ending[] = {-EINVAL, -EOPNOTSUPP, 0};
static const int answered[] = {-EREMOTEIO,  -EMSGSIZE, -EAGAIN,  -ETIMEDOUT, -EPIPE,
                               -EOWNERDEAD, -EBUSY,    -EBADMSG, -EINVAL,    0};
static const int replying[] = {-EPIPE, -EINVAL, -EBADMSG, 0};
static const int opening[] = {-EBADMSG, -EBUSY, -EPROTO, -EINVAL, -EXDEV, -ENOENT, -EOPNOTSUPP, 0};
static const int never[] = {0};

static int judge(struct nr_hostile *hostile, const char *operation, int result, const int *allowed)
{
    if (hostile->ends_call)
        hostile->ends_call(operation);
    hostile->steps++;
    hostile->good += result >= 0;
    if (result >= 0)
        return result;
    if (result == -EOPNOTSUPP && hostile->takes_what_is_there)
        return result; /* it is another kind of channel now */
    while (*allowed && *allowed != result)
        allowed++;
    nr_check(*allowed, "%s: %s gave %d (%s), which is not documented: %s", hostile->channel->name,
             operation, result, strerrorname_np(-result), naru_error_text());
    nr_check(strlen(naru_error_text()) >= 12, "%s: %s gave %s without a sentence",
             hostile->channel->name, operation, strerrorname_np(-result));
    return result;
}

#define JUDGE(operation, call, allowed)                                                            \
    (hostile->begins ? hostile->begins(operation) : (void)0,                                       \
     judge(hostile, (operation), (call), (allowed)))

static void check_size(struct nr_hostile *hostile, size_t size_bytes, size_t most)
{
    nr_check(size_bytes <= most, "%s: a message of %zu bytes, of at most %zu",
             hostile->channel->name, size_bytes, most);
}

/* One to one, a short message may be handed out as a copy. */
static void check_place(struct nr_hostile *hostile, const struct naru_message *message)
{
    enum { COPY_MOST_BYTES = 112 };
    bool is_copy = message->size_bytes <= COPY_MOST_BYTES;

    nr_check(hostile->channel->copies || !hostile->is_inside || is_copy ||
                 hostile->is_inside(message->data, message->capacity_bytes),
             "%s: %zu bytes at %p are not in the segment", hostile->channel->name,
             message->capacity_bytes, message->data);
}

/* -- the operations -------------------------------------------------------------------------- */

static void step_send(struct nr_hostile *hostile)
{
    size_t size_bytes = random_size(hostile);

    JUDGE(
        "send",
        naru_send(hostile->ends[0], room_of(hostile, size_bytes), size_bytes, hostile->timeout_ns),
        sending);
}

static void step_send_many(struct nr_hostile *hostile)
{
    struct naru_message messages[3] = {0};

    for (int i = 0; i < 3; i++) {
        messages[i].size_bytes = random_size(hostile);
        messages[i].data = room_of(hostile, messages[i].size_bytes);
    }
    int count = JUDGE("send_many",
                      naru_send_many(hostile->ends[0], messages, 3, hostile->timeout_ns), sending);
    nr_check(count <= 3, "%d of 3 were sent", count);
}

static void step_loan(struct nr_hostile *hostile)
{
    struct naru_message *loan = &hostile->loan;

    if (!loan->data) {
        if (JUDGE("loan",
                  naru_loan(hostile->ends[0], random_size(hostile), loan, hostile->timeout_ns),
                  sending) < 0)
            loan->data = NULL;
        else
            check_place(hostile, loan);
        return;
    }
    memset(loan->data, 0x5a, loan->size_bytes);
    if (below(hostile, 4) == 0)
        JUDGE("cancel", naru_cancel(hostile->ends[0], loan), never);
    else if (JUDGE("commit", naru_commit(hostile->ends[0], loan), sending) < 0)
        return;
    loan->data = NULL;
}

static void step_recv(struct nr_hostile *hostile)
{
    size_t room = random_size(hostile), size_bytes = 0;
    int result = JUDGE(
        "recv",
        naru_recv(hostile->ends[1], room_of(hostile, room), room, &size_bytes, hostile->timeout_ns),
        receiving);

    if (result == 0)
        check_size(hostile, size_bytes, room);
    if (result == -EMSGSIZE)
        check_size(hostile, size_bytes, hostile->size_max_bytes);
}

static void step_recv_many(struct nr_hostile *hostile)
{
    struct naru_message messages[3] = {0};

    for (int i = 0; i < 3; i++) {
        messages[i].capacity_bytes = random_size(hostile);
        messages[i].data = room_of(hostile, messages[i].capacity_bytes);
    }
    int count = JUDGE(
        "recv_many", naru_recv_many(hostile->ends[1], messages, 3, hostile->timeout_ns), receiving);
    nr_check(count <= 3, "%d of 3 came", count);
    for (int i = 0; i < count; i++)
        check_size(hostile, messages[i].size_bytes, messages[i].capacity_bytes);
}

/* By copy or by a loan, which may be given back instead. */
static void begin_call(struct nr_hostile *hostile, struct naru_call *call)
{
    struct naru_message *loan = &hostile->loan;

    *call = (struct naru_call){.in_place = (uint32_t)below(hostile, 2)};
    if (below(hostile, 2) && !loan->data) {
        step_loan(hostile);
        return;
    }
    call->request_size_bytes = random_size(hostile);
    call->request = room_of(hostile, call->request_size_bytes);
    if (loan->data && below(hostile, 4) == 0) {
        JUDGE("cancel", naru_cancel(hostile->ends[0], loan), never);
        loan->data = NULL;
        return;
    }
    call->loan = loan->data ? loan : NULL;
    call->size_bytes = sizeof *call;
    if (JUDGE("call_begin", naru_call_begin(hostile->ends[0], call, hostile->timeout_ns), sending) <
        0)
        call->size_bytes = 0;
}

/* The reply is in hand: it stands inside, all of it, and is given back. */
static void end_in_place(struct nr_hostile *hostile, struct naru_call *call)
{
    check_size(hostile, call->reply_size_bytes, hostile->size_max_bytes);
    nr_check(!hostile->is_inside || hostile->is_inside(call->reply, call->reply_size_bytes),
             "%s: a reply of %zu bytes at %p is not in the segment", hostile->channel->name,
             call->reply_size_bytes, call->reply);
    memset(call->reply, 0x5a, call->reply_size_bytes);
    JUDGE("call_cancel", naru_call_cancel(hostile->ends[0], call), ending);
    call->size_bytes = 0;
}

/* Only of calls: begins one, or looks for its reply, or gives it up. */
static void step_call(struct nr_hostile *hostile)
{
    struct naru_call *call = &hostile->calls[below(hostile, NR_HOSTILE_CALLS)];
    struct naru_endpoint *client = hostile->ends[0];

    if (call->size_bytes && below(hostile, 5) == 0) {
        JUDGE("call_cancel", naru_call_cancel(client, call), ending);
        call->size_bytes = 0;
    } else if (call->size_bytes) {
        call->reply_capacity_bytes = random_size(hostile);
        call->reply = room_of(hostile, call->reply_capacity_bytes);
        int result = JUDGE("call_end", naru_call_end(client, call, hostile->timeout_ns), answered);
        if (call->in_place && (result == 0 || result == -EREMOTEIO))
            end_in_place(hostile, call);
        else if (result == 0)
            check_size(hostile, call->reply_size_bytes, call->reply_capacity_bytes);
        if (result == -EMSGSIZE)
            check_size(hostile, call->reply_size_bytes, hostile->size_max_bytes);
        if (result != -EAGAIN && result != -ETIMEDOUT && result != -EMSGSIZE)
            call->size_bytes = 0;
    } else {
        begin_call(hostile, call);
    }
}

static void step_reply(struct nr_hostile *hostile, struct naru_message *request)
{
    size_t size_bytes = random_size(hostile);
    void *data = room_of(hostile, size_bytes);

    if (below(hostile, 2) &&
        JUDGE("reply_loan", naru_reply_loan(hostile->ends[1], request, size_bytes, &data),
              replying) == 0) {
        nr_check(!hostile->is_inside || hostile->is_inside(data, size_bytes),
                 "%s: %zu bytes at %p are not in the segment", hostile->channel->name, size_bytes,
                 data);
        memset(data, 0x5a, size_bytes);
    }
    if (below(hostile, 4))
        JUDGE("reply", naru_reply(hostile->ends[1], request, data, size_bytes), replying);
    else
        JUDGE("reply_error", naru_reply_error(hostile->ends[1], request, 7, data, size_bytes),
              replying);
}

/* Takes one, or ends one of those that are held. */
static void step_take(struct nr_hostile *hostile)
{
    struct naru_message *held = &hostile->held[below(hostile, NR_HOSTILE_HELD)];

    if (held->data) {
        if (below(hostile, 3) == 0)
            JUDGE("requeue", naru_requeue(hostile->ends[1], held), ending);
        else if (hostile->channel->options.pattern == NARU_CALL)
            step_reply(hostile, held);
        else
            JUDGE("ack", naru_ack(hostile->ends[1], held), ending);
        held->data = NULL;
        return;
    }
    if (JUDGE("take", naru_take(hostile->ends[1], held, hostile->timeout_ns), receiving) < 0) {
        held->data = NULL;
        return;
    }
    check_size(hostile, held->size_bytes, hostile->size_max_bytes);
    check_place(hostile, held);
}

static void step_stat(struct nr_hostile *hostile)
{
    struct naru_stat stat = {.size_bytes = sizeof stat};

    JUDGE("stat", naru_stat(hostile->ends[below(hostile, 2)], &stat), never);
}

static void step_descriptor(struct nr_hostile *hostile)
{
    struct pollfd one = {.events = POLLIN};

    if (!hostile->uses_descriptors)
        return;
    one.fd = JUDGE("fd", naru_fd(hostile->ends[1]), never);
    nr_check(poll(&one, 1, 0) >= 0 && !(one.revents & POLLNVAL), "%s: no descriptor",
             hostile->channel->name);
}

static void step_reopen(struct nr_hostile *hostile)
{
    nr_hostile_close(hostile);
    nr_hostile_open(hostile);
}

enum { NO_CALL = 1 << NARU_QUEUE | 1 << NARU_TOPIC | 1 << NARU_CELL };

static const struct {
    void (*run)(struct nr_hostile *hostile);
    int end; /* which one it needs; 2: both, 3: none */
    unsigned weight;
    unsigned patterns; /* bits; 0: any */
} steps[] = {
    {step_send, 0, 8, NO_CALL},
    {step_send_many, 0, 3, NO_CALL},
    {step_loan, 0, 6, NO_CALL},
    {step_recv, 1, 6, NO_CALL},
    {step_recv_many, 1, 3, NO_CALL},
    {step_call, 0, 9, 1 << NARU_CALL},
    {step_take, 1, 9, 0},
    {step_stat, 2, 1, 0},
    {step_descriptor, 1, 1, 0},
    {step_reopen, 3, 1, 0},
};

static unsigned weight(const struct nr_hostile *hostile, size_t step)
{
    enum naru_pattern pattern = hostile->channel->options.pattern;
    unsigned bit = 1u << (pattern ? pattern : NARU_QUEUE);

    return steps[step].patterns && !(steps[step].patterns & bit) ? 0 : steps[step].weight;
}

void nr_hostile_step(struct nr_hostile *hostile)
{
    size_t total = 0, i;

    for (i = 0; i < sizeof steps / sizeof steps[0]; i++)
        total += weight(hostile, i);
    size_t choice = below(hostile, total);
    for (i = 0; choice >= weight(hostile, i); i++)
        choice -= weight(hostile, i);
    bool has_sender = hostile->ends[0], has_receiver = hostile->ends[1];
    bool can[] = {has_sender, has_receiver, has_sender && has_receiver, true};
    if (can[steps[i].end])
        steps[i].run(hostile);
    else
        step_reopen(hostile);
}

/* -- opening --------------------------------------------------------------------------------- */

void nr_hostile_open(struct nr_hostile *hostile)
{
    struct naru_options options = hostile->channel->options;

    if (hostile->takes_what_is_there)
        options = (struct naru_options){.create = NARU_ATTACH};
    options.size_bytes = sizeof options;
    hostile->size_max_bytes = hostile->channel->options.message_size_max_bytes;
    if (hostile->channel->is_pair) {
        if (JUDGE("pair", naru_pair(hostile->ends, "shm://", &options), opening) < 0)
            hostile->ends[0] = hostile->ends[1] = NULL;
        return;
    }
    for (int i = 0; i < 2; i++) {
        options.read_only = hostile->channel->reads_only;
        if (JUDGE("open",
                  naru_open(&hostile->ends[i], hostile->uri, i ? NARU_RECEIVER : NARU_SENDER,
                            &options),
                  opening) < 0)
            hostile->ends[i] = NULL;
    }
    struct naru_stat stat = {.size_bytes = sizeof stat};
    if (hostile->takes_what_is_there && hostile->ends[0] && naru_stat(hostile->ends[0], &stat) == 0)
        hostile->size_max_bytes = stat.message_size_max_bytes < NR_HOSTILE_ROOM_BYTES
                                      ? stat.message_size_max_bytes
                                      : NR_HOSTILE_ROOM_BYTES;
}

void nr_hostile_close(struct nr_hostile *hostile)
{
    for (int i = 0; i < 2; i++) {
        if (hostile->begins)
            hostile->begins("close");
        naru_close(hostile->ends[i]);
        judge(hostile, "close", 0, never);
        hostile->ends[i] = NULL;
    }
    hostile->loan.data = NULL;
    for (int i = 0; i < NR_HOSTILE_HELD; i++)
        hostile->held[i].data = NULL;
    for (int i = 0; i < NR_HOSTILE_CALLS; i++)
        hostile->calls[i].size_bytes = 0;
}
