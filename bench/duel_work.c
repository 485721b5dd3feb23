/* SPDX-License-Identifier: MIT */
#include "duel_work.h"
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BENCH_ALARM_S = 30, BENCH_WARM_LEAST = 20, BENCH_WARM_PART = 4 /* of the duration */ };
#define BENCH_NAP_NS                                                                               \
    ((int64_t)200000) /* between two looks at the others, before and after the run */

void bench_die_text(struct bench_link *link, const char *what, const char *text)
{
    pid_t server = link->shared->pid[BENCH_SERVER];

    if (!link->shared->error[0])
        snprintf(link->shared->error, BENCH_ERROR_BYTES, "%s: %s", what, text);
    /* The others may wait for this one. With the server, the process above them all, they end. */
    if (server && server != getpid())
        kill(server, SIGKILL);
    _exit(1);
}

void bench_die(struct bench_link *link, const char *what)
{
    bench_die_text(link, what, strerror(errno));
}

unsigned bench_duel_workers(const struct bench_task *task)
{
    return task->measure == BENCH_RATE      ? task->senders + task->receivers
           : task->measure == BENCH_LATENCY ? 2
                                            : 1;
}

static unsigned bench_duel_idle(const struct bench_task *task)
{
    unsigned workers = bench_duel_workers(task);

    return task->measure != BENCH_ALONE && task->participants > workers
               ? task->participants - workers
               : 0;
}

unsigned bench_duel_total(const struct bench_task *task)
{
    return bench_duel_workers(task) + bench_duel_idle(task);
}

static struct bench_worker *bench_duel_worker(struct bench_link *link)
{
    unsigned receivers = link->one_way ? link->task->receivers : 1;

    return &link->shared
                ->workers[link->side == BENCH_SERVER ? link->index : receivers + link->index];
}

/* Two processes have a core each; more share both. */
static void bench_duel_pin(struct bench_link *link)
{
    const struct bench_task *task = link->task;
    cpu_set_t set;

    CPU_ZERO(&set);
    if (link->side == BENCH_CLIENT || bench_duel_workers(task) > 2)
        CPU_SET(task->cpu[0], &set);
    if (link->side == BENCH_SERVER || bench_duel_workers(task) > 2)
        CPU_SET(task->cpu[1], &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0)
        bench_die(link, "sched_setaffinity");
}

/* Once all have come so far. */
static void bench_duel_meet(uint32_t *count, uint32_t all)
{
    __atomic_add_fetch(count, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(count, __ATOMIC_ACQUIRE) < all)
        bench_nap(BENCH_NAP_NS);
}

/* In the middle of a page: rep movsb is many times slower on some processors if the destination stands a little
   behind the source within their pages (glibc bug 30994), and what is shared begins at a page as a rule. */
enum { BENCH_ROOM_OFFSET = 2048 };

static unsigned char *bench_duel_room(struct bench_link *link)
{
    size_t bytes = link->size_bytes > BENCH_ROOM_BYTES ? link->size_bytes : BENCH_ROOM_BYTES;
    void *pages = NULL;

    link->room_bytes = bytes;
    if (posix_memalign(&pages, 4096, (bytes + BENCH_ROOM_OFFSET + 4095) / 4096 * 4096) != 0)
        bench_die_text(link, "memory", "there is none");
    unsigned char *room = (unsigned char *)pages + BENCH_ROOM_OFFSET;
    memset(room, BENCH_MARK, bytes); /* its pages are there before it counts */
    return room;
}

static void bench_duel_room_free(unsigned char *room)
{
    free(room - BENCH_ROOM_OFFSET);
}

static bool bench_duel_is_end(const unsigned char *room)
{
    return *(const volatile unsigned char *)room == BENCH_MARK_END;
}

/* What it takes to read the clock, which is in each round trip once; and the clock's steps, if it goes in such:
   readings that follow each other differ by a few of them. */
static int64_t bench_duel_read_clock(struct bench_link *link, uint64_t *ret_step_ns)
{
    enum { READINGS = 20000, MOST_NS = 1000 };
    struct bench_histogram *costs = &link->shared->round_trips;
    uint64_t sum_ns = 0, count = 0, last_ns = 0;

    memset(costs, 0, sizeof *costs);
    *ret_step_ns = 0;
    for (int i = 0; i < READINGS; i++) {
        int64_t before_ns = bench_now_ns();
        uint64_t took_ns = (uint64_t)(bench_now_ns() - before_ns);
        if (took_ns >= MOST_NS) /* something came in between */
            continue;
        bench_histogram_record(costs, took_ns);
        sum_ns += took_ns;
        count++;
    }
    for (unsigned i = 0; i < 2 * BENCH_HISTOGRAM_PARTS && count; i++) {
        if (costs->counters[i] < READINGS / 100)
            continue;
        if (last_ns && i > last_ns + 2 && !*ret_step_ns)
            *ret_step_ns = i - last_ns;
        if (!last_ns || i > last_ns + 2)
            last_ns = i;
    }
    memset(costs, 0, sizeof *costs);
    return count ? (int64_t)(sum_ns / count) : 0;
}

static void bench_duel_round(struct bench_link *link, unsigned char *room, int64_t cost_ns,
                             int64_t *ret_now_ns)
{
    int64_t before_ns = bench_now_ns();

    link->contestant->send(link, room);
    link->contestant->recv(link, room);
    *ret_now_ns = bench_now_ns();
    int64_t took_ns = *ret_now_ns - before_ns - cost_ns;
    bench_histogram_record(&link->shared->round_trips, took_ns > 0 ? (uint64_t)took_ns : 0);
}

static void bench_duel_ask(struct bench_link *link, unsigned char *room)
{
    uint64_t step_ns;
    int64_t cost_ns = bench_duel_read_clock(link, &step_ns);
    int64_t now_ns = bench_now_ns();
    int64_t end_ns = now_ns + link->task->duration_ns / BENCH_WARM_PART;

    for (int i = 0; i < BENCH_WARM_LEAST || now_ns < end_ns; i++)
        bench_duel_round(link, room, cost_ns, &now_ns);
    memset(&link->shared->round_trips, 0, sizeof link->shared->round_trips);
    link->shared->round_trips.step = step_ns;
    end_ns = now_ns + link->task->duration_ns;
    while (now_ns < end_ns)
        bench_duel_round(link, room, cost_ns, &now_ns);
    room[0] = BENCH_MARK_END;
    link->contestant->send(link, room);
    link->contestant->recv(link, room);
}

static void bench_duel_answer(struct bench_link *link, unsigned char *room)
{
    do {
        link->contestant->recv(link, room);
        link->contestant->send(link, room);
    } while (!bench_duel_is_end(room));
}

static void bench_duel_send_run(struct bench_link *link, const void *data, unsigned count)
{
    if (link->contestant->send_run) {
        link->contestant->send_run(link, data, count);
        return;
    }
    for (unsigned i = 0; i < count; i++)
        link->contestant->send(link, data);
}

static unsigned bench_duel_recv_run(struct bench_link *link, unsigned char *room, unsigned count)
{
    if (link->contestant->recv_run)
        return link->contestant->recv_run(link, room, count);
    for (unsigned i = 0; i < count; i++) {
        link->contestant->recv(link, room);
        if (bench_duel_is_end(room)) {
            link->ends++;
            return i;
        }
    }
    return count;
}

static unsigned bench_duel_run_length(const struct bench_task *task)
{
    return task->batch > BENCH_RUN ? task->batch : BENCH_RUN;
}

/* A receiver that gets all that is sent gets an end of each sender: on several connections one sender's messages
   may overtake another's. Else the last to send is told to send one for each receiver. */
static bool bench_duel_each_ends(const struct bench_task *task)
{
    return (task->receivers == 1 || task->each_to_all) && !task->only_newest;
}

static void bench_duel_send(struct bench_link *link, unsigned char *room)
{
    const struct bench_task *task = link->task;
    uint64_t *messages = &bench_duel_worker(link)->messages;
    unsigned run = bench_duel_run_length(task);
    uint64_t count = 0;

    while (!__atomic_load_n(&link->shared->stop, __ATOMIC_RELAXED)) {
        bench_duel_send_run(link, room, run);
        count += run;
        __atomic_store_n(messages, count, __ATOMIC_RELAXED);
    }
    bench_duel_meet(&link->shared->senders_done, task->senders);
    unsigned ends = bench_duel_each_ends(task) ? 1
                    : link->index > 0          ? 0
                    : task->each_to_all        ? 1
                                               : task->receivers;
    room[0] = BENCH_MARK_END;
    for (unsigned i = 0; i < ends; i++)
        link->contestant->send(link, room);
}

static void bench_duel_receive(struct bench_link *link, unsigned char *room)
{
    uint64_t *messages = &bench_duel_worker(link)->messages;
    unsigned run = bench_duel_run_length(link->task);
    unsigned ends = bench_duel_each_ends(link->task) ? link->task->senders : 1;
    uint64_t count = 0;

    while (link->ends < ends) {
        count += bench_duel_recv_run(link, room, run);
        __atomic_store_n(messages, count, __ATOMIC_RELAXED);
    }
}

/* Whoever is attached only: until the server closes the pipe. */
static void bench_duel_idle_on(struct bench_link *link)
{
    char byte;

    close(link->idle_fd[1]);
    while (read(link->idle_fd[0], &byte, 1) < 0 && errno == EINTR)
        ;
}

static void bench_duel_work(struct bench_link *link)
{
    unsigned char *room = bench_duel_room(link);

    if (link->task->measure == BENCH_LATENCY && link->side == BENCH_CLIENT)
        bench_duel_ask(link, room);
    else if (link->task->measure == BENCH_LATENCY)
        bench_duel_answer(link, room);
    else if (link->side == BENCH_CLIENT)
        bench_duel_send(link, room);
    else
        bench_duel_receive(link, room);
    bench_duel_room_free(room);
}

/* One thread: a message in, the same message out. */
static void bench_duel_work_alone(struct bench_link *receiver, struct bench_link *sender)
{
    unsigned char *room = bench_duel_room(receiver), *data = bench_duel_room(sender);
    unsigned batch = receiver->task->batch;
    int64_t end_ns = bench_now_ns() + receiver->task->duration_ns / BENCH_WARM_PART;
    int64_t begin_ns = 0, now_ns;
    uint64_t count = 0;

    for (;;) {
        for (unsigned i = 0; i < bench_duel_run_length(receiver->task); i += batch) {
            bench_duel_send_run(sender, data, batch);
            for (unsigned had = 0; had < batch;)
                had += bench_duel_recv_run(receiver, room, batch - had);
        }
        count += bench_duel_run_length(receiver->task);
        if ((now_ns = bench_now_ns()) < end_ns)
            continue;
        if (begin_ns)
            break;
        begin_ns = now_ns;
        end_ns = now_ns + receiver->task->duration_ns;
        count = 0;
    }
    receiver->shared->alone_ns = now_ns - begin_ns;
    receiver->shared->workers[0].messages = count;
    bench_duel_room_free(room);
    bench_duel_room_free(data);
}

/* -- the processes ------------------------------------------------------------------------------------ */

static void bench_duel_begin(pid_t above)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != above)
        _exit(1);
    alarm(BENCH_ALARM_S);
}

static void bench_duel_leave(struct bench_link *link)
{
    if (link->contestant->leave)
        link->contestant->leave(link);
}

static void bench_duel_child(struct bench_link *link, bool is_idle, pid_t above)
{
    bench_duel_begin(above);
    if (is_idle) {
        link->contestant->join(link);
        bench_duel_meet(&link->shared->ready_count, 0);
        bench_duel_idle_on(link);
    } else {
        bench_duel_worker(link)->pid = getpid();
        if (link->index == 0)
            link->shared->pid[link->side] = getpid();
        link->contestant->join(link);
        bench_duel_pin(link);
        bench_duel_meet(&link->shared->ready_count, bench_duel_total(link->task));
        bench_duel_work(link);
        /* Nobody leaves while others are still at it: an end is news on some channels. */
        bench_duel_meet(&link->shared->done_count, bench_duel_workers(link->task));
    }
    bench_duel_leave(link);
    exit(0);
}

static pid_t bench_duel_fork(struct bench_link *link, enum bench_side side, unsigned index,
                             bool is_idle)
{
    pid_t above = getpid();
    pid_t pid = fork();

    if (pid < 0)
        bench_die(link, "fork");
    if (pid == 0) {
        link->side = side;
        link->index = index;
        bench_duel_child(link, is_idle, above);
    }
    return pid;
}

static void bench_duel_reap(struct bench_link *link)
{
    int status = 0;
    pid_t pid;

    while ((pid = waitpid(-1, &status, 0)) > 0 || errno == EINTR)
        if (pid > 0 && status != 0)
            bench_die_text(link, link->contestant->name, "a process of the run failed");
}

static void bench_duel_check(struct bench_link *link)
{
    const struct bench_task *task = link->task;
    const struct bench_worker *workers = link->shared->workers;
    uint64_t received = 0, sent = 0;

    if (task->measure != BENCH_RATE || task->only_newest)
        return;
    for (unsigned i = 0; i < task->receivers; i++)
        received += workers[i].messages;
    for (unsigned i = 0; i < task->senders; i++)
        sent += workers[task->receivers + i].messages;
    if (received == sent * (task->each_to_all ? task->receivers : 1))
        return;
    char text[96];
    snprintf(text, sizeof text, "%llu messages were sent, and %llu received",
             (unsigned long long)sent, (unsigned long long)received);
    bench_die_text(link, link->contestant->name, text);
}

static struct bench_shared *bench_duel_shared; /* the server's, for its handler */

/* Who crashes can't tell, and the others would wait for it. */
static void bench_duel_child_changed(int number, siginfo_t *information, void *context)
{
    (void)number;
    (void)context;
    if (information->si_code == CLD_EXITED && information->si_status == 0)
        return;
    if (!bench_duel_shared->error[0])
        strcpy(bench_duel_shared->error, "a process of the run crashed or was killed");
    _exit(1);
}

static void bench_duel_watch_children(struct bench_link *link)
{
    struct sigaction action = {.sa_sigaction = bench_duel_child_changed,
                               .sa_flags = SA_SIGINFO | SA_RESTART};

    bench_duel_shared = link->shared;
    sigaction(SIGCHLD, &action, NULL);
}

/* The server, and the process above all others of the run. */
void bench_duel_serve(struct bench_link *link, pid_t above)
{
    const struct bench_task *task = link->task;
    unsigned clients = task->measure == BENCH_RATE ? task->senders : 1;

    bench_duel_begin(above);
    link->shared->pid[BENCH_SERVER] = link->shared->workers[0].pid = getpid();
    if (link->contestant->prepare)
        link->contestant->prepare(link);
    if (pipe(link->idle_fd) < 0)
        bench_die(link, "pipe");
    bench_duel_watch_children(link);
    for (unsigned i = 0; i < clients; i++) {
        pid_t pid = bench_duel_fork(link, BENCH_CLIENT, i, false);
        if (i == 0)
            link->shared->pid[BENCH_CLIENT] = pid;
    }
    for (unsigned i = 1; task->measure == BENCH_RATE && i < task->receivers; i++)
        bench_duel_fork(link, BENCH_SERVER, i, false);
    for (unsigned i = 0; i < bench_duel_idle(task); i++)
        bench_duel_fork(link, BENCH_CLIENT, clients + i, true);
    link->contestant->join(link);
    bench_duel_pin(link);
    bench_duel_meet(&link->shared->ready_count, bench_duel_total(task));
    bench_duel_work(link);
    bench_duel_meet(&link->shared->done_count, bench_duel_workers(task));
    close(link->idle_fd[1]);
    bench_duel_leave(link);
    bench_duel_reap(link);
    if (link->contestant->remove)
        link->contestant->remove(link);
    bench_duel_check(link);
}

void bench_duel_serve_alone(struct bench_link *link, pid_t above)
{
    struct bench_link sender = *link;

    bench_duel_begin(above);
    link->shared->pid[BENCH_SERVER] = link->shared->pid[BENCH_CLIENT] = getpid();
    if (link->contestant->prepare)
        link->contestant->prepare(link);
    bench_duel_pin(link);
    sender = *link;
    sender.side = BENCH_CLIENT;
    link->contestant->join(link);
    link->contestant->join(&sender);
    bench_duel_meet(&link->shared->ready_count, 1);
    bench_duel_work_alone(link, &sender);
    bench_duel_leave(&sender);
    bench_duel_leave(link);
    if (link->contestant->remove)
        link->contestant->remove(link);
}
