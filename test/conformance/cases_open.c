/* SPDX-License-Identifier: MIT */
/* cases_open -- opening, names, permissions, refusals, exhausted descriptors, figures */
#include "cases.h"
#include <errno.h>
#include <fcntl.h>
#include <naru/transport.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* -- roles --------------------------------------------------------------------------------- */

static void nr_open_wrong_role(struct nr_channel *channel)
{
    struct naru_message message = {.data = nr_case_room, .size_bytes = 8, .capacity_bytes = 8};
    struct iovec part = {nr_case_room, 8};
    size_t fds_count = 1;
    int fd = 0;

    nr_channel_open_both(channel);
    struct naru_endpoint *receiver = channel->end[NR_RECEIVER_END];
    struct naru_endpoint *sender = channel->end[NR_SENDER_END];
    nr_check_fails(naru_send(receiver, nr_case_room, 8, 0), -EBADF, "opened as receiver|sender");
    nr_check_fails(naru_sendv(receiver, &part, 1, NULL, 0), -EBADF, "opened as receiver");
    nr_check_fails(naru_send_many(receiver, &message, 1, 0), -EBADF, "opened as receiver");
    nr_check_fails(naru_send_fds(receiver, "x", 1, &fd, 1, 0), -EBADF, "opened as receiver");
    nr_check_fails(naru_send_fd(receiver), -EBADF, "opened as receiver");
    nr_check_fails(naru_loan(receiver, 8, &message, 0), -EBADF, "opened as receiver");
    nr_check_fails(naru_commit(receiver, &message), -EBADF, "opened as receiver");
    nr_check_fails(naru_cancel(receiver, &message), -EBADF, "opened as receiver");
    nr_check_fails(naru_recv(sender, nr_case_room, 8, NULL, 0), -EBADF,
                   "opened as sender|receiver");
    nr_check_fails(naru_recv_many(sender, &message, 1, 0), -EBADF, "opened as sender");
    nr_check_fails(naru_recv_fds(sender, nr_case_room, 8, NULL, &fd, &fds_count, 0), -EBADF,
                   "opened as sender");
    nr_check_fails(naru_fd(sender), -EBADF, "opened as sender");
    nr_check_fails(naru_take(sender, &message, 0), -EBADF, "opened as sender");
    nr_check_fails(naru_ack(sender, &message), -EBADF, "opened as sender");
    nr_check_fails(naru_requeue(sender, &message), -EBADF, "opened as sender");
}

static void nr_open_not_both(struct nr_channel *channel)
{
    struct naru_endpoint *endpoint = NULL;

    nr_check_fails(naru_open(&endpoint, channel->uri, NARU_BOTH, &channel->options),
                   channel->row->has & NR_ONE_TO_ONE ? -EINVAL : -EOPNOTSUPP, "receive");
    nr_check_fails(naru_open(&endpoint, channel->uri, (enum naru_role)7, &channel->options),
                   -EINVAL, "role");
    nr_check_fails(naru_open(&endpoint, channel->uri, (enum naru_role)0, &channel->options),
                   -EINVAL, "role");
    nr_check(!endpoint, "it gave an endpoint");
}

/* What one sends that has both roles comes to itself or to others, but comes. */
static void nr_open_both(struct nr_channel *channel)
{
    struct naru_endpoint *ends[2] = {NULL, NULL};

    nr_check_ok(naru_open(&ends[0], channel->uri, NARU_BOTH, &channel->options));
    nr_check_ok(naru_open(&ends[1], channel->uri, NARU_BOTH, &channel->options));
    struct naru_stat stat = {.size_bytes = sizeof stat};
    nr_check_ok(naru_stat(ends[0], &stat));
    nr_check(stat.role == NARU_BOTH, "role %d", (int)stat.role);
    size_t size_bytes = nr_case_size(channel, ends[0], 700);
    nr_case_send(ends[0], size_bytes, 1, 1);
    nr_case_expect(ends[1], size_bytes, 1, 1);
    nr_case_expect_nothing(ends[1]);
    naru_close(ends[0]);
    naru_close(ends[1]);
}

/* -EBUSY names who is there; when that one has gone, or died, the place is free. */
static void nr_open_second_receiver(struct nr_channel *channel)
{
    struct naru_endpoint *second = NULL;
    char pid[16];

    snprintf(pid, sizeof pid, "%d", (int)getpid());
    nr_channel_open(channel, NARU_RECEIVER);
    nr_check_fails(nr_channel_try(channel, NARU_RECEIVER, NULL, &second), -EBUSY, pid);
    nr_channel_close_end(channel, NR_RECEIVER_END);
    nr_check_ok(nr_channel_try(channel, NARU_RECEIVER, NULL, &second));
    naru_close(second);
}

static bool nr_open_can_pair(const struct nr_row *of)
{
    const struct naru_transport_row *row;

    for (size_t i = 0; (row = naru_transport_row(i)); i++)
        if (strcmp(row->scheme, of->scheme) == 0 && row->pattern == nr_row_pattern(of) &&
            row->can_pair)
            return true;
    return false;
}

static void nr_open_pair(struct nr_channel *channel)
{
    struct naru_endpoint *ends[2] = {NULL, NULL};
    char bare[32];

    snprintf(bare, sizeof bare, "%s://", channel->row->scheme);
    nr_check_fails(naru_pair_assign(NULL, 1), -EINVAL, "naru_pair");
    if (nr_open_can_pair(channel->row)) {
        nr_check_fails(naru_pair(ends, channel->row->has & NR_NAMED ? channel->uri : "pipe://x",
                                 &channel->options),
                       -EINVAL, "no name");
        return;
    }
    nr_check_fails(naru_pair(ends, bare, &channel->options), -EOPNOTSUPP, "by name");
    nr_check(!ends[0] && !ends[1], "it gave an endpoint");
    struct naru_endpoint *receiver = nr_channel_open(channel, NARU_RECEIVER);
    nr_check_fails(naru_pair_assign(receiver, getpid()), -EINVAL, "naru_pair");
}

/* Both ways through a pair, and from a grandchild's point of view nothing. */
static void nr_open_pair_both_ways(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint **end = channel->end;

    for (unsigned i = 0; i < 20; i++) {
        nr_case_send(end[i % 2], nr_case_size(channel, end[0], i * 400), 1, i);
        nr_case_expect(end[!(i % 2)], nr_case_size(channel, end[0], i * 400), 1, i);
    }
    nr_check_fails(naru_pair_assign(end[0], 0), -EINVAL, "pid");
    nr_check_ok(naru_pair_assign(end[0], getpid())); /* it is ours: nothing to do */
    nr_case_send(end[0], 8, 1, 1);
    nr_case_expect(end[1], 8, 1, 1);
}

/* -- names --------------------------------------------------------------------------------- */

static struct naru_options nr_open_options(const struct nr_channel *channel,
                                           enum naru_create create)
{
    struct naru_options options = channel->options;

    options.create = create;
    options.peer_timeout_ns = 50 * NARU_MILLISECOND;
    return options;
}

static void nr_open_create(struct nr_channel *channel)
{
    struct naru_options attach = nr_open_options(channel, NARU_ATTACH);
    struct naru_options create = nr_open_options(channel, NARU_CREATE);
    struct naru_endpoint *endpoint = NULL, *second = NULL;

    nr_check_fails(nr_channel_try(channel, NARU_RECEIVER, &attach, &endpoint), -ENOENT, "");
    nr_check_fails(nr_channel_try(channel, NARU_SENDER, &attach, &endpoint), -ENOENT, "");
    nr_check(!endpoint, "it gave an endpoint");
    nr_check_ok(nr_channel_try(channel, NARU_RECEIVER, &create, &endpoint));
    nr_check_fails(nr_channel_try(channel, NARU_RECEIVER, &create, &second), -EEXIST, "attach");
    nr_check_fails(nr_channel_try(channel, NARU_SENDER, &create, &second), -EEXIST, "attach");
    nr_check_ok(nr_channel_try(channel, NARU_SENDER, &attach, &second));
    size_t size_bytes = nr_case_size(channel, endpoint, 600);
    nr_case_send(second, size_bytes, 1, 1);
    nr_case_expect(endpoint, size_bytes, 1, 1);
    naru_close(second);
    naru_close(endpoint);
}

static void nr_open_unlink(struct nr_channel *channel)
{
    struct naru_options attach = nr_open_options(channel, NARU_ATTACH);
    struct naru_endpoint *endpoint = NULL;

    nr_check_fails(naru_unlink(channel->uri), -ENOENT, "");
    nr_channel_open_both(channel);
    size_t size_bytes = nr_case_size(channel, channel->end[0], 600);
    nr_case_send(channel->end[NR_SENDER_END], size_bytes, 1, 0);
    nr_check_ok(naru_unlink(channel->uri));
    nr_check_fails(nr_channel_try(channel, NARU_RECEIVER, &attach, &endpoint), -ENOENT, "");
    nr_check_fails(naru_unlink(channel->uri), -ENOENT, "");
    if (channel->row->has & NR_GONE_WITH_NAME) /* the kernel's rule: the text must say it */
    {
        nr_check_fails(naru_recv(channel->end[NR_RECEIVER_END], nr_case_room, 64, NULL, 0), -EPIPE,
                       "removed");
        return;
    }
    nr_case_expect(channel->end[NR_RECEIVER_END], size_bytes, 1, 0);
    nr_case_send(channel->end[NR_SENDER_END], size_bytes, 1, 1);
    nr_case_expect(channel->end[NR_RECEIVER_END], size_bytes, 1, 1);
}

static void nr_open_no_unlink(struct nr_channel *channel)
{
    nr_check_fails(naru_unlink(channel->uri), -EOPNOTSUPP, "no name");
}

/* A file that is no channel: not opened, not removed, not changed. */
static void nr_open_foreign(struct nr_channel *channel)
{
    struct naru_endpoint *endpoint = NULL;
    const char *path = strstr(channel->uri, "://") + 3;
    static const char text[] = "Dear diary, this is no channel, and shall stay as it is.\n";
    char copy[sizeof text] = "";

    int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    nr_check(fd >= 0 && write(fd, text, sizeof text) == sizeof text, "can't write %s", path);
    for (int role = NARU_SENDER; role <= NARU_RECEIVER; role++) {
        struct naru_options options = nr_open_options(channel, NARU_CREATE_OR_ATTACH);
        nr_check_fails(nr_channel_try(channel, (enum naru_role)role, &options, &endpoint), -EBADMSG,
                       path);
    }
    nr_check_fails(naru_unlink(channel->uri), -EBADMSG, path);
    nr_check(pread(fd, copy, sizeof copy, 0) == sizeof copy && strcmp(copy, text) == 0 &&
                 access(path, F_OK) == 0,
             "the file was changed");
    close(fd);
    unlink(path);
}

static void nr_open_forbidden(struct nr_channel *channel)
{
    if (geteuid() != 0)
        nr_kit_skip("only root can become another user to try permissions");
    struct naru_endpoint *receiver = nr_channel_open(channel, NARU_RECEIVER);
    pid_t pid = nr_kit_fork();
    if (pid == 0) {
        struct naru_options options = nr_open_options(channel, NARU_ATTACH);
        struct naru_endpoint *endpoint = NULL;
        nr_channel_close(channel);
        nr_check(setgid(65534) == 0 && setuid(65534) == 0, "%s", strerror(errno));
        nr_check_fails(nr_channel_try(channel, NARU_SENDER, &options, &endpoint), -EACCES,
                       "file_mode");
        nr_check_fails(nr_channel_try(channel, NARU_RECEIVER, &options, &endpoint), -EACCES,
                       "file_mode");
        _exit(0);
    }
    nr_kit_join(pid);
    nr_case_send(nr_channel_open(channel, NARU_SENDER), 8, 1, 1);
    nr_case_expect(receiver, 8, 1, 1);
}

/* -- options ------------------------------------------------------------------------------- */

/* Whoever attaches and asks for another size than there is gets both numbers told. */
static void nr_open_other_size(struct nr_channel *channel)
{
    struct naru_endpoint *endpoint = NULL;

    channel->options.message_size_max_bytes = 1536;
    struct naru_endpoint *receiver = nr_channel_open(channel, NARU_RECEIVER);
    struct naru_stat stat = {.size_bytes = sizeof stat};
    nr_check_ok(naru_stat(receiver, &stat));
    nr_check(stat.message_size_max_bytes == 1536, "%zu bytes", stat.message_size_max_bytes);
    struct naru_options options = nr_open_options(channel, NARU_CREATE_OR_ATTACH);
    options.message_size_max_bytes = 2560;
    nr_check_fails(nr_channel_try(channel, NARU_SENDER, &options, &endpoint), -EINVAL, "1536|2560");
    options.message_size_max_bytes = 0; /* whatever it is */
    nr_check_ok(nr_channel_try(channel, NARU_SENDER, &options, &endpoint));
    nr_check_fails(naru_send(endpoint, nr_case_room, 1537, NR_SOON), -EMSGSIZE, "1537|1536");
    nr_case_send(endpoint, 1536, 1, 1);
    nr_case_expect(receiver, 1536, 1, 1);
    naru_close(endpoint);
}

/* One option each; `words` must be in the refusal. */
static const struct {
    const char *words;
    struct naru_options options;
} nr_open_asked[] = {
    {"when_full", {.when_full = NARU_DROP_NEWEST}},
    {"when_full", {.when_full = NARU_OVERWRITE_OLDEST}},
    {"when_full", {.when_full = NARU_FAIL}},
    {"when_full", {.when_full = NARU_BLOCK}},
    {"delivery", {.delivery = NARU_AT_LEAST_ONCE}},
    {"delivery", {.delivery = NARU_AT_MOST_ONCE}},
    {"durability", {.durability = NARU_DURABLE_NONE}},
    {"durability", {.durability = NARU_DURABLE_PERIODIC}},
    {"durability", {.durability = NARU_DURABLE_EVERY_COMMIT}},
    {"acknowledge", {.acknowledge = NARU_ACKNOWLEDGED}},
    {"acknowledge", {.acknowledge = NARU_UNACKNOWLEDGED}},
    {"message_size_max_bytes", {.message_size_max_bytes = 8}},
    {"capacity_messages", {.capacity_messages = 4}},
    {"payload_bytes", {.payload_bytes = 1 << 20}},
    {"participants_max", {.participants_max = 8}},
    {"held_max", {.held_max = 4}},
    {"one_to_one", {.one_to_one = 1}},
    {"type", {.type = 3}},
    {"signal_number", {.signal_number = 40}},
    {"peer_uid_any", {.peer_uid_any = 1}},
    {"start", {.start = NARU_FROM_OLDEST}},
};

/* Nothing that is asked for is ignored: it is kept, and seen in the figures, or refused by its name. */
static void nr_open_option(const struct nr_row *row, size_t index)
{
    struct naru_stat stat = {.size_bytes = sizeof stat};
    struct naru_options wanted = nr_open_asked[index].options;
    struct naru_endpoint *endpoint = NULL;
    struct nr_channel channel;

    nr_channel_init(&channel, row);
    wanted.size_bytes = sizeof wanted;
    wanted.pattern = row->options.pattern;
    wanted.peer_timeout_ns = 50 * NARU_MILLISECOND;
    int result = nr_channel_try(&channel, NARU_RECEIVER, &wanted, &endpoint);
    if (result < 0) {
        nr_check(result == -EOPNOTSUPP || result == -EINVAL, "option %zu (%s) gave %d: %s", index,
                 nr_open_asked[index].words, result, naru_error_text());
        nr_check_fails(result, result, nr_open_asked[index].words);
    } else {
        nr_check_ok(naru_stat(endpoint, &stat));
        nr_check(stat.pattern == nr_row_pattern(row), "pattern %d became %d", (int)wanted.pattern,
                 (int)stat.pattern);
        nr_check(!wanted.when_full || stat.when_full == wanted.when_full, "when_full %d became %d",
                 (int)wanted.when_full, (int)stat.when_full);
        nr_check(!wanted.delivery || stat.delivery == wanted.delivery, "delivery %d became %d",
                 (int)wanted.delivery, (int)stat.delivery);
        nr_check(!wanted.message_size_max_bytes || stat.message_size_max_bytes == 8, "%zu bytes",
                 stat.message_size_max_bytes);
        naru_close(endpoint);
    }
    nr_channel_deinit(&channel);
}

static void nr_open_options_kept_or_refused(struct nr_channel *channel)
{
    for (size_t i = 0; i < sizeof nr_open_asked / sizeof nr_open_asked[0]; i++)
        nr_open_option(channel->row, i);
}

/* The contract to fail when full, where it can be had. */
static void nr_open_fail_when_full(struct nr_channel *channel)
{
    channel->options.when_full = NARU_FAIL;
    nr_channel_open_both(channel);
    struct naru_endpoint *sender = channel->end[NR_SENDER_END];
    size_t size_bytes = nr_case_size(channel, sender, 3000);
    unsigned sent = 0;
    int result;

    nr_payload_fill(nr_case_room, size_bytes, 1, 0);
    while ((result = naru_send(sender, nr_case_room, size_bytes, NARU_FOREVER)) == 0)
        nr_check(++sent < 100000, "it is never full");
    nr_check_fails(result, -ENOBUFS, "full");
    nr_check(sent > 0, "it was full from the beginning");
}

/* -- descriptors --------------------------------------------------------------------------- */

static int nr_open_lowest_free(void)
{
    int fd = dup(0);

    nr_check(fd >= 0, "no descriptor left for the test itself");
    close(fd);
    return fd;
}

static void nr_open_limit(int fds)
{
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = (rlim_t)fds;
    nr_check(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit: %s", strerror(errno));
}

/* With room for 0, 1, 2, ... descriptors: it fails as it should, leaks none, and works in the end. */
static struct naru_endpoint *nr_open_with_few_fds(struct nr_channel *channel, enum naru_role role)
{
    struct naru_endpoint *endpoint = NULL;
    int lowest = nr_open_lowest_free(), before = nr_kit_fds();
    struct rlimit usual;

    getrlimit(RLIMIT_NOFILE, &usual);
    for (int more = 0; !endpoint; more++) {
        nr_check(more < 40, "it wants more than 40 descriptors");
        nr_open_limit(lowest + more);
        int result = nr_channel_try(channel, role, NULL, &endpoint);
        nr_open_limit((int)usual.rlim_cur);
        if (result < 0) {
            nr_check_fails(result, -EMFILE, "ulimit");
            nr_check(nr_kit_fds() == before, "%d descriptors were open, and are now %d", before,
                     nr_kit_fds());
        }
    }
    return endpoint;
}

static void nr_open_few_fds(struct nr_channel *channel)
{
    if (nr_kit_is_valgrind())
        nr_kit_skip("valgrind has a descriptor limit of its own");
    struct naru_endpoint *receiver = nr_open_with_few_fds(channel, NARU_RECEIVER);
    nr_kit_set(&channel->shared->receiver_pid, getpid());
    nr_kit_add(&channel->shared->receivers_ready, 1);
    struct naru_endpoint *sender = nr_open_with_few_fds(channel, NARU_SENDER);
    struct rlimit usual;
    int before = nr_kit_fds();

    if (!(channel->row->has & NR_PAIR)) {
        if (!(channel->row->has & NR_BUFFERS))
            goto over;
        size_t size_bytes = nr_case_size(channel, sender, 500);
        nr_case_send(sender, size_bytes, 1, 0); /* a peer that waits is let in */
        nr_case_expect(receiver, size_bytes, 1, 0);
        before = nr_kit_fds();
        getrlimit(RLIMIT_NOFILE, &usual);
        nr_open_limit(nr_open_lowest_free());
        nr_check_fails(naru_fd(receiver), -EMFILE, "ulimit");
        nr_case_send(sender, size_bytes, 1, 1); /* what is open goes on */
        nr_case_expect(receiver, size_bytes, 1, 1);
        nr_open_limit((int)usual.rlim_cur);
        nr_check(nr_kit_fds() <= before + 1, "%d descriptors were open, and are now %d", before,
                 nr_kit_fds());
        nr_check_ok(naru_fd(receiver));
    }
over:
    naru_close(sender);
    naru_close(receiver);
}

/* -- figures ------------------------------------------------------------------------------- */

static struct naru_stat nr_open_stat(struct naru_endpoint *endpoint)
{
    struct naru_stat stat = {.size_bytes = sizeof stat};

    nr_check_ok(naru_stat(endpoint, &stat));
    return stat;
}

static void nr_open_figures(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *sender = channel->end[NR_SENDER_END];
    struct naru_endpoint *receiver = channel->end[NR_RECEIVER_END];
    size_t size_bytes = nr_case_size(channel, sender, 700);
    struct naru_stat stat = nr_open_stat(sender);

    bool is_pair = channel->row->has & NR_PAIR;
    nr_check(strcmp(stat.scheme, channel->row->scheme) == 0, "scheme %s", stat.scheme);
    nr_check(stat.role == (is_pair ? NARU_BOTH : NARU_SENDER), "role %d", (int)stat.role);
    nr_check(stat.pattern == nr_row_pattern(channel->row) && stat.when_full >= NARU_BLOCK &&
                 stat.delivery >= NARU_AT_LEAST_ONCE,
             "pattern %d, when_full %d, delivery %d", (int)stat.pattern, (int)stat.when_full,
             (int)stat.delivery);
    nr_check(stat.sent_messages == 0 && stat.received_messages == 0, "it counts from elsewhere");
    for (unsigned i = 0; i < 3; i++)
        nr_case_send(sender, size_bytes, 1, i);
    nr_check(naru_send(sender, nr_case_room, stat.message_size_max_bytes + 1, 0) == -EMSGSIZE, "");
    stat = nr_open_stat(sender);
    nr_check(stat.sent_messages == 3 && stat.sent_bytes == 3 * size_bytes, "%lu sent, %lu bytes",
             (unsigned long)stat.sent_messages, (unsigned long)stat.sent_bytes);
    stat = nr_open_stat(receiver);
    if (stat.known & NARU_STAT_QUEUED)
        nr_check(stat.queued_messages == 3, "%lu queued", (unsigned long)stat.queued_messages);
    if (stat.known & NARU_STAT_QUEUED_BYTES)
        nr_check(stat.queued_bytes >= 3 * size_bytes, "%lu bytes",
                 (unsigned long)stat.queued_bytes);
    for (unsigned i = 0; i < 3; i++)
        nr_case_expect(receiver, size_bytes, 1, i);
    nr_case_expect_nothing(receiver);
    stat = nr_open_stat(receiver);
    nr_check(stat.received_messages == 3 && stat.received_bytes == 3 * size_bytes &&
                 !stat.lost_messages,
             "%lu received, %lu bytes", (unsigned long)stat.received_messages,
             (unsigned long)stat.received_bytes);
    if (stat.known & NARU_STAT_QUEUED)
        nr_check(stat.queued_messages == 0, "%lu queued", (unsigned long)stat.queued_messages);
    stat.size_bytes = 8;
    nr_check_fails(naru_stat(receiver, &stat), -EINVAL, "size_bytes");
    nr_check_fails(naru_stat(receiver, NULL), -EINVAL, "size_bytes");
}

/* -- who comes first ----------------------------------------------------------------------- */

static void nr_open_send_ten(struct nr_channel *channel, struct naru_endpoint *endpoint, int number)
{
    for (unsigned i = 0; i < 10; i++)
        nr_case_send(endpoint, nr_case_size(channel, endpoint, 100 * i + 8), (unsigned)number, i);
}

static void nr_open_sender_first(struct nr_channel *channel)
{
    pid_t pid = nr_channel_spawn(channel, NARU_SENDER, nr_open_send_ten, 4);

    nr_kit_sleep_ms(50);
    struct naru_endpoint *receiver = nr_channel_open(channel, NARU_RECEIVER);
    for (unsigned i = 0; i < 10; i++)
        nr_case_expect(receiver, nr_case_size(channel, receiver, 100 * i + 8), 4, i);
    nr_kit_join(pid);
}

/* Many are opened and closed, in both orders, and nothing adds up. */
static void nr_open_and_close(struct nr_channel *channel)
{
    for (int i = 0; i < 30; i++) {
        struct nr_channel own;
        nr_channel_init(&own, channel->row);
        nr_channel_open_both(&own);
        if (channel->row->has & NR_BUFFERS)
            nr_case_send(own.end[NR_SENDER_END], nr_case_size(&own, own.end[0], 100), 1, 1);
        nr_channel_close_end(&own, i % 2);
        nr_channel_deinit(&own);
    }
    naru_close(NULL);
}

/* -- descriptors in messages --------------------------------------------------------------- */

static void nr_open_fds(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    struct naru_endpoint *sender = channel->end[NR_SENDER_END];
    struct naru_endpoint *receiver = channel->end[NR_RECEIVER_END];
    int pipe_fds[2], got[4] = {-1, -1, -1, -1};
    size_t size_bytes, count = 4;
    char letter = 0;

    nr_check(pipe2(pipe_fds, O_CLOEXEC) == 0, "pipe: %s", strerror(errno));
    nr_payload_fill(nr_case_room, 5000, 1, 1);
    nr_check_ok(naru_send_fds(sender, nr_case_room, 5000, pipe_fds, 2, NR_SOON));
    nr_check(naru_recv_fds(receiver, nr_case_room, sizeof nr_case_room, &size_bytes, got, &count,
                           NR_SOON) == 0 &&
                 count == 2,
             "%zu descriptors: %s", count, naru_error_text());
    nr_check(size_bytes == 5000 && nr_payload_is_whole(nr_case_room, 5000, 1, 1), "damaged");
    nr_check(fcntl(got[0], F_GETFD) == FD_CLOEXEC && fcntl(got[1], F_GETFD) == FD_CLOEXEC,
             "not close-on-exec");
    nr_check(write(got[1], "x", 1) == 1 && read(pipe_fds[0], &letter, 1) == 1 && letter == 'x',
             "they are not the pipe's");
    close(got[0]);
    close(got[1]);
    nr_check_ok(naru_send_fds(sender, nr_case_room, 8, pipe_fds, 2, NR_SOON));
    count = 1;
    nr_check(naru_recv_fds(receiver, nr_case_room, 64, NULL, got, &count, NR_SOON) == 1 &&
                 count == 1,
             "what does not fit is not told: %zu", count);
    close(got[0]);
    int before = nr_kit_fds(); /* a receive that does not want them closes them */
    nr_check_ok(naru_send_fds(sender, nr_case_room, 8, pipe_fds, 2, NR_SOON));
    nr_check_ok(naru_recv(receiver, nr_case_room, 64, NULL, NR_SOON));
    nr_check(nr_kit_fds() == before, "%d descriptors leaked", nr_kit_fds() - before);
    nr_check_fails(naru_send_fds(sender, nr_case_room, 8, pipe_fds, 0, 0), -EINVAL, "1 to 64");
    nr_check_fails(naru_send_fds(sender, nr_case_room, 8, pipe_fds, 65, 0), -EINVAL, "1 to 64");
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void nr_open_no_fds(struct nr_channel *channel)
{
    nr_channel_open_both(channel);
    size_t count = 1;
    int fd = 0;

    nr_check_fails(naru_send_fds(channel->end[NR_SENDER_END], nr_case_room, 8, &fd, 1, 0),
                   -EOPNOTSUPP, "unix://");
    nr_check_fails(
        naru_recv_fds(channel->end[NR_RECEIVER_END], nr_case_room, 8, NULL, &fd, &count, 0),
        -EOPNOTSUPP, "unix://");
}

const struct nr_case nr_open_cases[] = {
    {.name = "the wrong role",
     .body = nr_open_wrong_role,
     .lacks = NR_PAIR,
     .also = NR_NEWEST | NR_OVERWRITES},
    {.name = "both roles are refused", .body = nr_open_not_both, .lacks = NR_PAIR | NR_BOTH},
    {.name = "both roles",
     .body = nr_open_both,
     .needs = NR_BOTH | NR_BUFFERS,
     .lacks = NR_CREATES_FIRST | NR_ONE_RECEIVER},
    {.name = "a second receiver", .body = nr_open_second_receiver, .needs = NR_ONE_RECEIVER},
    {.name = "a pair, or why not",
     .body = nr_open_pair,
     .lacks = NR_PAIR,
     .also = NR_NEWEST | NR_CALLS | NR_OVERWRITES},
    {.name = "a pair goes both ways", .body = nr_open_pair_both_ways, .needs = NR_PAIR},
    {.name = "create and attach",
     .body = nr_open_create,
     .needs = NR_OBJECT,
     .also = NR_NEWEST | NR_CALLS | NR_OVERWRITES},
    {.name = "unlink",
     .body = nr_open_unlink,
     .needs = NR_OBJECT,
     .also = NR_NEWEST | NR_CALLS | NR_OVERWRITES},
    {.name = "nothing to unlink", .body = nr_open_no_unlink, .lacks = NR_NAMED | NR_OTHERS_NAMED},
    {.name = "a foreign file",
     .body = nr_open_foreign,
     .needs = NR_PATH,
     .also = NR_NEWEST | NR_CALLS | NR_OVERWRITES},
    {.name = "no permission",
     .body = nr_open_forbidden,
     .needs = NR_FORBIDS,
     .also = NR_NEWEST | NR_CALLS | NR_OVERWRITES},
    {.name = "another size than there is",
     .body = nr_open_other_size,
     .needs = NR_SIZES,
     .also = NR_NEWEST | NR_CALLS | NR_OVERWRITES},
    {.name = "options are kept or refused",
     .body = nr_open_options_kept_or_refused,
     .also = NR_NEWEST | NR_CALLS | NR_OVERWRITES},
    {.name = "the contract to fail when full",
     .body = nr_open_fail_when_full,
     .needs = NR_BUFFERS | NR_FILLS},
    {.name = "too few descriptors",
     .body = nr_open_few_fds,
     .also = NR_NEWEST | NR_CALLS | NR_OVERWRITES},
    {.name = "figures", .body = nr_open_figures, .needs = NR_BUFFERS, .also = NR_OVERWRITES},
    {.name = "the sender comes first",
     .body = nr_open_sender_first,
     .needs = NR_SENDER_FIRST,
     .also = NR_OVERWRITES},
    {.name = "open and close",
     .body = nr_open_and_close,
     .seconds = 20,
     .also = NR_NEWEST | NR_CALLS | NR_OVERWRITES},
    {.name = "descriptors in messages", .body = nr_open_fds, .needs = NR_FDS},
    {.name = "no descriptors in messages",
     .body = nr_open_no_fds,
     .lacks = NR_FDS,
     .also = NR_NEWEST | NR_CALLS | NR_OVERWRITES},
    {0},
};
