/* SPDX-License-Identifier: MIT */
/*
 * zygote -- a small process that forks for its maker
 *
 * What       A child of the maker's, in a loop: it takes a request from a packet socket, forks or waits, and answers.
 *            A request to fork is all of a birth's plan in one packet, with the descriptors; from the fork on the child
 *            and its maker go the same way as without a zygote (spawn.c).
 * Ownership  The children are the zygote's, whose one thread forks them: so they die with it, and it dies with its maker. The
 *            zygote waits for a child when its maker asks, so that until then the child's pid is its own.
 * Signals    It blocks all: a terminal's are for its maker and the children.
 * Trust      Both sides are one program. What comes is checked all the same, since it costs nothing.
 */
#include "os/link.h"
#include "os/signal_action.h"
#include "os/socket.h"
#include "process/process.h"
#include <assert.h>

enum {
    NR_ZYGOTE_FD = 3,
    NR_ZYGOTE_BLOB_BYTES = 192 * 1024,
    NR_ZYGOTE_FDS_OWN = 2, /* of each birth: its link, its readiness */
};

struct naru_zygote {
    uint64_t owner;
    int references;
    struct nr_lock lock; /* one request at a time */
    int fd;
    struct naru_child *process;
};

enum nr_zygote_order { NR_ZYGOTE_FORK = 1, NR_ZYGOTE_WAIT };

struct nr_zygote_request {
    enum nr_zygote_order order;
    /* NR_ZYGOTE_WAIT */
    pid_t pid;
    bool leave;
    /* NR_ZYGOTE_FORK; the lists stand behind it in this order */
    int (*function)(void *context);
    bool is_sure, has_ready, own_group, has_directory;
    int death_signal, nice;
    sigset_t mask;
    _Alignas(16) size_t limits_bytes; /* so that what stands behind is aligned for anything */
    size_t cpus_bytes, targets_bytes, directory_bytes, context_bytes;
};
static_assert(sizeof(struct nr_zygote_request) % 16 == 0, "see above");

struct nr_zygote_answer {
    int result; /* the pid, or 0; -errno */
    struct nr_os_end end;
};

/* -- the zygote -------------------------------------------------------------------------------------- */

/* The next list of the blob. */
static void *nr_zygote_part(char **at, size_t *left_bytes, size_t size_bytes)
{
    size_t room_bytes = (size_bytes + 15) & ~(size_t)15;
    void *part = *at;

    if (room_bytes > *left_bytes)
        return NULL;
    *at += room_bytes;
    *left_bytes -= room_bytes;
    return part;
}

/* Puts a birth together again. -EPROTO: the request is not what it should be. */
static int nr_zygote_unpack(struct nr_spawn *spawn, const struct nr_zygote_request *request,
                            char *blob, size_t blob_bytes, const int *fds, unsigned fds_count)
{
    struct nr_os_spawn_plan *plan = &spawn->plan;
    size_t count = request->targets_bytes / sizeof(int);

    plan->limits = nr_zygote_part(&blob, &blob_bytes, request->limits_bytes);
    void *cpus = nr_zygote_part(&blob, &blob_bytes, request->cpus_bytes);
    const int *targets = nr_zygote_part(&blob, &blob_bytes, request->targets_bytes);
    char *directory = nr_zygote_part(&blob, &blob_bytes, request->directory_bytes);
    spawn->context = nr_zygote_part(&blob, &blob_bytes, request->context_bytes);
    if (!spawn->context || !directory || !targets || !cpus || !plan->limits ||
        fds_count != count + 1 + request->has_ready)
        return -EPROTO;
    plan->moves = calloc(count + 1, sizeof *plan->moves);
    plan->held = calloc(NR_ZYGOTE_FDS_OWN, sizeof *plan->held);
    plan->kept = calloc(count + NR_ZYGOTE_FDS_OWN + 3, sizeof *plan->kept);
    if (!plan->moves || !plan->held || !plan->kept)
        return -ENOMEM;
    spawn->is_sure = request->is_sure;
    spawn->function = request->function;
    spawn->context = request->context_bytes ? spawn->context : NULL;
    spawn->link[1] = fds[count];
    spawn->ready_fd[1] = request->has_ready ? fds[count + 1] : -1;
    plan->limits_count = (unsigned)(request->limits_bytes / sizeof *plan->limits);
    plan->cpus = request->cpus_bytes ? cpus : NULL;
    plan->cpus_bytes = request->cpus_bytes;
    plan->directory = request->has_directory ? directory : NULL;
    plan->parent = nr_os_pid();
    plan->death_signal = request->death_signal;
    plan->own_group = request->own_group;
    plan->nice = request->nice;
    plan->mask = request->mask;
    for (size_t i = 0; i < count; i++) {
        if (request->is_sure && (uint64_t)targets[i] + fds_count >= nr_os_fd_limit())
            return -EMFILE; /* the limit is the zygote's, which somebody has changed */
        plan->moves[plan->moves_count++] = (struct nr_os_spawn_move){fds[i], targets[i]};
    }
    return 0;
}

static void nr_zygote_do_fork(const struct nr_zygote_request *request, char *blob,
                              size_t blob_bytes, int *fds, unsigned fds_count)
{
    struct nr_spawn spawn = {.link = {-1, -1}, .ready_fd = {-1, -1}};
    struct nr_zygote_answer answer = {0};
    int pidfd = -1;

    answer.result = nr_zygote_unpack(&spawn, request, blob, blob_bytes, fds, fds_count);
    if (answer.result == 0)
        answer.result = nr_os_spawn_fork(nr_spawn_child, &spawn);
    if (answer.result > 0)
        pidfd = nr_os_pidfd_open(answer.result);
    if (pidfd < 0 && answer.result > 0) { /* it ends when its link is closed */
        pid_t pid = answer.result;
        answer.result = pidfd;
        for (unsigned i = 0; i < fds_count; i++)
            nr_os_close(&fds[i]);
        nr_os_pid_signal(pid, NR_OS_SIGKILL);
        nr_os_wait_for(pid);
    }
    struct iovec part = {&answer, sizeof answer};
    nr_os_link_put_packet(NR_ZYGOTE_FD, &part, 1, &pidfd, pidfd >= 0);
    nr_os_close(&pidfd);
    free(spawn.plan.moves);
    free(spawn.plan.held);
    free(spawn.plan.kept);
}

static void nr_zygote_do_wait(const struct nr_zygote_request *request)
{
    struct nr_zygote_answer answer = {0};
    struct iovec part = {&answer, sizeof answer};

    answer.result = nr_os_end_take_by_pid(request->pid, request->leave, &answer.end);
    nr_os_link_put_packet(NR_ZYGOTE_FD, &part, 1, NULL, 0);
}

static void nr_zygote_refuse(int error)
{
    struct nr_zygote_answer answer = {.result = error};
    struct iovec part = {&answer, sizeof answer};

    nr_os_link_put_packet(NR_ZYGOTE_FD, &part, 1, NULL, 0);
}

static void nr_zygote_obey(char *packet, size_t size_bytes, int *fds, unsigned fds_count)
{
    const struct nr_zygote_request *request = (void *)packet;

    if (request->order == NR_ZYGOTE_FORK)
        nr_zygote_do_fork(request, packet + sizeof *request, size_bytes - sizeof *request, fds,
                          fds_count);
    else
        nr_zygote_do_wait(request);
}

static int nr_zygote_run(void *unused)
{
    static int fds[NR_LINK_FDS_MAX];
    size_t capacity_bytes = sizeof(struct nr_zygote_request) + NR_ZYGOTE_BLOB_BYTES;
    char *packet = malloc(capacity_bytes);

    (void)unused;
    if (!packet)
        return 1;
    nr_os_signal_block(NARU_SIGNAL_ALL);
    for (;;) {
        unsigned fds_count = NR_LINK_FDS_MAX;
        int size = nr_os_link_get_packet(NR_ZYGOTE_FD, packet, capacity_bytes, fds, &fds_count);
        if (size == -EMSGSIZE) /* its descriptors did not all fit */
            nr_zygote_refuse(-EMFILE);
        else if (size < (int)sizeof(struct nr_zygote_request)) /* closed */
            return 0;
        else
            nr_zygote_obey(packet, (size_t)size, fds, fds_count);
        for (unsigned i = 0; i < fds_count; i++)
            nr_os_close(&fds[i]);
    }
}
/* -- its maker ------------------------------------------------------------------------------------------ */

int naru_zygote_open(struct naru_zygote **ret)
{
    int ends[2] = {-1, -1};

    nr_error_clear();
    if (!ret)
        return nr_fail(-EINVAL, "naru_zygote_open() needs a place for the zygote");
    struct naru_zygote *zygote = calloc(1, sizeof *zygote);
    if (!zygote)
        return nr_fail(-ENOMEM, "no memory for the handle of a zygote");
    int result = nr_os_socket_pair(ends);
    if (result < 0) {
        free(zygote);
        return nr_fail(result, "no descriptors for a zygote: %s; close some, or raise `ulimit -n`",
                       nr_error_name(result));
    }
    struct naru_spawn_fd fd = {ends[1], NR_ZYGOTE_FD};
    struct naru_spawn_options options = {.size_bytes = sizeof options, .fds = &fd, .fds_count = 1};
    zygote->references = 1;
    zygote->lock = (struct nr_lock)NR_LOCK_INIT;
    zygote->owner = nr_os_process_token_new();
    zygote->fd = nr_steal_fd(&ends[0]);
    result = naru_spawn(&zygote->process, nr_zygote_run, NULL, &options);
    nr_os_close(&ends[1]);
    if (result < 0) {
        nr_zygote_let_go(zygote);
        return result;
    }
    *ret = zygote;
    return 0;
}

struct naru_zygote *nr_zygote_hold(struct naru_zygote *zygote)
{
    __atomic_add_fetch(&zygote->references, 1, __ATOMIC_RELAXED);
    return zygote;
}

void nr_zygote_let_go(struct naru_zygote *zygote)
{
    if (!zygote || __atomic_sub_fetch(&zygote->references, 1, __ATOMIC_ACQ_REL))
        return;
    naru_child_close(zygote->process);
    nr_os_close(&zygote->fd);
    free(zygote);
}

void naru_zygote_close(struct naru_zygote *zygote)
{
    if (!zygote)
        return;
    if (nr_os_process_is(zygote->owner))
        naru_child_signal(zygote->process, NR_OS_SIGKILL);
    nr_zygote_let_go(zygote);
}

static int nr_zygote_died(struct naru_zygote *zygote)
{
    struct naru_death death = {.size_bytes = sizeof death};

    if (naru_child_wait(zygote->process, &death, NARU_SECOND) < 0)
        return nr_fail(-EOWNERDEAD, "the zygote does not answer; open another one");
    return nr_fail(-EOWNERDEAD,
                   "the zygote is dead (%s), and its children with it; open another one",
                   death.text);
}

/* One question, one answer. */
static int nr_zygote_ask(struct naru_zygote *zygote, const struct iovec *parts, int parts_count,
                         const int *fds, unsigned fds_count, struct nr_zygote_answer *ret,
                         int *ret_pidfd)
{
    unsigned count = 1;

    nr_lock_scope(&zygote->lock);
    int result = nr_os_link_put_packet(zygote->fd, parts, parts_count, fds, fds_count);
    if (result == 0)
        result = nr_os_link_get_packet(zygote->fd, ret, sizeof *ret, ret_pidfd, &count);
    if (result == -EPIPE || result == -ECONNRESET)
        return nr_zygote_died(zygote);
    return result < 0 ? result : ret->result;
}

int nr_zygote_fork(struct nr_spawn *spawn)
{
    static const char padding[16];
    const struct naru_spawn_options *options = &spawn->options;
    const struct nr_os_spawn_plan *plan = &spawn->plan;
    struct naru_zygote *zygote = options->zygote;
    int fds[NR_LINK_FDS_MAX], targets[NR_LINK_FDS_MAX], pidfd = -1;
    unsigned fds_count = 0;
    struct nr_zygote_answer answer;

    if (!nr_os_process_is(zygote->owner))
        return nr_fail(-ECHILD, "the zygote belongs to another process; open one here");
    for (unsigned i = 0; i < plan->moves_count; i++) {
        targets[fds_count] = plan->moves[i].to;
        fds[fds_count++] = plan->moves[i].from;
    }
    struct nr_zygote_request request = {
        .order = NR_ZYGOTE_FORK,
        .function = spawn->function,
        .is_sure = spawn->is_sure,
        .has_ready = options->readiness,
        .own_group = plan->own_group,
        .has_directory = plan->directory,
        .death_signal = plan->death_signal,
        .nice = plan->nice,
        .mask = plan->mask,
        .limits_bytes = plan->limits_count * sizeof *plan->limits,
        .cpus_bytes = plan->cpus_bytes,
        .targets_bytes = fds_count * sizeof targets[0],
        .directory_bytes = plan->directory ? strlen(plan->directory) + 1 : 0,
        .context_bytes = options->context_size_bytes,
    };
    fds[fds_count++] = spawn->link[1];
    if (request.has_ready)
        fds[fds_count++] = spawn->ready_fd[1];
    union {
        const void *given;
        void *wanted;
    } lists[] = {{plan->limits}, {plan->cpus}, {targets}, {plan->directory}, {spawn->context}};
    const size_t sizes[] = {request.limits_bytes, request.cpus_bytes, request.targets_bytes,
                            request.directory_bytes, request.context_bytes};
    struct iovec parts[1 + 2 * nr_count_of(lists)] = {{&request, sizeof request}};
    union {
        const char *given;
        void *wanted;
    } pad = {padding};
    for (size_t i = 0; i < nr_count_of(lists); i++) {
        parts[1 + 2 * i] = (struct iovec){lists[i].wanted, sizes[i]};
        parts[2 + 2 * i] = (struct iovec){pad.wanted, -sizes[i] % 16};
    }
    int result =
        nr_zygote_ask(zygote, parts, (int)nr_count_of(parts), fds, fds_count, &answer, &pidfd);
    if (result < 0)
        return result;
    spawn->child->pidfd = pidfd;
    spawn->child->zygote = nr_zygote_hold(zygote);
    return result;
}

int nr_zygote_end_take(struct naru_zygote *zygote, const struct naru_child *child, bool leave,
                       struct nr_os_end *ret)
{
    struct nr_zygote_request request = {.order = NR_ZYGOTE_WAIT, .pid = child->pid, .leave = leave};
    struct iovec part = {&request, sizeof request};
    struct nr_zygote_answer answer;
    int no_pidfd;

    int result = nr_zygote_ask(zygote, &part, 1, NULL, 0, &answer, &no_pidfd);
    if (result == 0)
        *ret = answer.end;
    else /* whoever has adopted the zygote's children has waited, or will */
        nr_os_end_ask(child->pidfd, ret);
    return 0;
}
