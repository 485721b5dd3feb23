/* SPDX-License-Identifier: MIT */
/*
 * bare -- the contestants that use the kernel's primitive as a textbook has it
 *
 * Blocking calls, one for each message and side, no header, no copy besides the kernel's. Streams of bytes
 * (pipe, TCP) carry messages of one known size, so reading that many bytes is a message.
 */
#include "bare.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* -- pipe, fifo -------------------------------------------------------------------------------- */

static void bare_write(struct bench_link *link, const void *data)
{
    if (write(link->out_fd, data, link->size_bytes) != (ssize_t)link->size_bytes)
        bench_die(link, "write");
}

static void bare_read(struct bench_link *link, void *room)
{
    for (size_t had = 0; had < link->size_bytes;) {
        ssize_t size = read(link->in_fd, (char *)room + had, link->size_bytes - had);
        if (size <= 0)
            bench_die(link, "read");
        had += (size_t)size;
    }
}

static void bare_pipe_prepare(struct bench_link *link)
{
    if (pipe(link->fds) < 0 || pipe(link->fds + 2) < 0)
        bench_die(link, "pipe");
}

static void bare_packet_pipe_prepare(struct bench_link *link)
{
    enum { SIZE_BYTES = 256 * 1024 }; /* as the library's */

    if (pipe2(link->fds, O_DIRECT) < 0 || pipe2(link->fds + 2, O_DIRECT) < 0 ||
        fcntl(link->fds[1], F_SETPIPE_SZ, SIZE_BYTES) < 0 ||
        fcntl(link->fds[3], F_SETPIPE_SZ, SIZE_BYTES) < 0)
        bench_die(link, "pipe2");
}

static void bare_pipe_join(struct bench_link *link)
{
    bool serves = link->side == BENCH_SERVER;

    link->in_fd = link->fds[serves ? 0 : 2];
    link->out_fd = link->fds[serves ? 3 : 1];
    close(link->fds[serves ? 1 : 3]);
    close(link->fds[serves ? 2 : 0]);
}

char bench_bare_directory[32];

static void bare_path(const struct bench_link *link, int way, char *ret)
{
    snprintf(ret, BENCH_NAME_BYTES, "%s/bare-%d-%d", bench_bare_directory,
             (int)link->shared->pid[BENCH_SERVER], way);
}

static void bare_unlink_two(struct bench_link *link)
{
    char path[BENCH_NAME_BYTES];

    for (int way = 0; way < 2; way++) {
        bare_path(link, way, path);
        unlink(path);
    }
}

static void bare_fifo_prepare(struct bench_link *link)
{
    char path[BENCH_NAME_BYTES];

    for (int way = 0; way < 2; way++) {
        bare_path(link, way, path);
        if (mkfifo(path, 0600) < 0)
            bench_die(link, "mkfifo");
    }
}

/* Both in the same order, as each open waits for the other side's. */
static void bare_fifo_join(struct bench_link *link)
{
    bool serves = link->side == BENCH_SERVER;
    char path[BENCH_NAME_BYTES];

    for (int way = 0; way < 2; way++) {
        bare_path(link, way, path);
        bool reads = serves == (way == 0);
        int fd = open(path, reads ? O_RDONLY : O_WRONLY);
        if (fd < 0)
            bench_die(link, "open");
        *(reads ? &link->in_fd : &link->out_fd) = fd;
    }
}

const struct bench_contestant bench_bare_pipe = {
    .name = "pipe",
    .prepare = bare_pipe_prepare,
    .join = bare_pipe_join,
    .send = bare_write,
    .recv = bare_read,
};
const struct bench_contestant bench_bare_packet_pipe = {
    .name = "pipe, O_DIRECT",
    .prepare = bare_packet_pipe_prepare,
    .join = bare_pipe_join,
    .send = bare_write,
    .recv = bare_read,
};
const struct bench_contestant bench_bare_fifo = {
    .name = "FIFO",
    .prepare = bare_fifo_prepare,
    .join = bare_fifo_join,
    .send = bare_write,
    .recv = bare_read,
    .remove = bare_unlink_two,
};

/* -- queues -------------------------------------------------------------------------------------- */

/* Without a name from the start: both processes inherit them. Sizes are the kernel's default, as in the
   library. */
static void bare_mq_prepare(struct bench_link *link)
{
    struct mq_attr attributes = {.mq_maxmsg = 10, .mq_msgsize = BENCH_ROOM_BYTES};
    char name[BENCH_NAME_BYTES];

    for (int way = 0; way < 2; way++) {
        snprintf(name, sizeof name, "/naru-bench-bare-%d-%d", (int)getpid(), way);
        link->queue_fd[way] = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
        if (link->queue_fd[way] < 0)
            bench_die(link, "mq_open");
        mq_unlink(name);
    }
}

static void bare_nothing(struct bench_link *link)
{
    (void)link;
}

static void bare_mq_send(struct bench_link *link, const void *data)
{
    if (mq_send(link->queue_fd[link->side == BENCH_SERVER], data, link->size_bytes, 0) < 0)
        bench_die(link, "mq_send");
}

static void bare_mq_recv(struct bench_link *link, void *room)
{
    if (mq_receive(link->queue_fd[link->side == BENCH_CLIENT], room, BENCH_ROOM_BYTES, NULL) < 0)
        bench_die(link, "mq_receive");
}

static void bare_sysv_prepare(struct bench_link *link)
{
    for (int way = 0; way < 2; way++) {
        link->queue_id[way] = msgget(IPC_PRIVATE, 0600);
        if (link->queue_id[way] < 0)
            bench_die(link, "msgget");
    }
}

/* The type is the message's first word, so that nothing is copied. */
static void bare_sysv_send(struct bench_link *link, const void *data)
{
    if (msgsnd(link->queue_id[link->side == BENCH_SERVER], data, link->size_bytes, 0) < 0)
        bench_die(link, "msgsnd");
}

static void bare_sysv_recv(struct bench_link *link, void *room)
{
    if (msgrcv(link->queue_id[link->side == BENCH_CLIENT], room, BENCH_ROOM_BYTES - sizeof(long), 0,
               0) < 0)
        bench_die(link, "msgrcv");
}

static void bare_sysv_remove(struct bench_link *link)
{
    for (int way = 0; way < 2; way++)
        msgctl(link->queue_id[way], IPC_RMID, NULL);
}

const struct bench_contestant bench_bare_mq = {
    .name = "mq_send, mq_receive",
    .prepare = bare_mq_prepare,
    .join = bare_nothing,
    .send = bare_mq_send,
    .recv = bare_mq_recv,
};
const struct bench_contestant bench_bare_sysv = {
    .name = "msgsnd, msgrcv",
    .prepare = bare_sysv_prepare,
    .join = bare_nothing,
    .send = bare_sysv_send,
    .recv = bare_sysv_recv,
    .remove = bare_sysv_remove,
};

/* -- signals: main has blocked them ---------------------------------------------------------------- */

static void bare_signal_send(struct bench_link *link, const void *data)
{
    union sigval value;

    memcpy(&value, data, sizeof value);
    while (sigqueue(link->shared->pid[!link->side], SIGRTMIN + 1, value) < 0) {
        if (errno != EAGAIN)
            bench_die(link, "sigqueue");
        nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
    }
}

static void bare_signal_recv(struct bench_link *link, void *room)
{
    siginfo_t information;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 1);
    if (sigwaitinfo(&set, &information) < 0)
        bench_die(link, "sigwaitinfo");
    memcpy(room, &information.si_value, sizeof information.si_value);
}

const struct bench_contestant bench_bare_signal = {
    .name = "sigqueue, sigwaitinfo",
    .join = bare_nothing,
    .send = bare_signal_send,
    .recv = bare_signal_recv,
};

/* -- sockets --------------------------------------------------------------------------------------- */

static void bare_socket_send(struct bench_link *link, const void *data)
{
    if (send(link->out_fd, data, link->size_bytes, MSG_NOSIGNAL) != (ssize_t)link->size_bytes)
        bench_die(link, "send");
}

static void bare_packet_recv(struct bench_link *link, void *room)
{
    if (recv(link->in_fd, room, BENCH_ROOM_BYTES, 0) != (ssize_t)link->size_bytes)
        bench_die(link, "recv");
}

static void bare_stream_recv(struct bench_link *link, void *room)
{
    if (recv(link->in_fd, room, link->size_bytes, MSG_WAITALL) != (ssize_t)link->size_bytes)
        bench_die(link, "recv");
}

static void bare_seqpacket_prepare(struct bench_link *link)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, link->fds) < 0)
        bench_die(link, "socketpair");
}

static void bare_unix_stream_prepare(struct bench_link *link)
{
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, link->fds) < 0)
        bench_die(link, "socketpair");
}

static void bare_socketpair_join(struct bench_link *link)
{
    bool serves = link->side == BENCH_SERVER;

    link->in_fd = link->out_fd = link->fds[serves];
    close(link->fds[!serves]);
}

static void bare_tcp_prepare(struct bench_link *link)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;

    link->listen_fd = socket(AF_INET, SOCK_STREAM, 0);
    if (link->listen_fd < 0 ||
        bind(link->listen_fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(link->listen_fd, 1) < 0 ||
        getsockname(link->listen_fd, (struct sockaddr *)&address, &size) < 0)
        bench_die(link, "listen");
    link->port = ntohs(address.sin_port);
}

static void bare_tcp_join(struct bench_link *link)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t)link->port)};

    if (link->side == BENCH_SERVER) {
        link->in_fd = accept(link->listen_fd, NULL, NULL);
    } else {
        link->in_fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(link->in_fd, (struct sockaddr *)&address, sizeof address) < 0)
            bench_die(link, "connect");
    }
    close(link->listen_fd);
    link->out_fd = link->in_fd;
    if (setsockopt(link->in_fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)) < 0)
        bench_die(link, "TCP_NODELAY");
}

const struct bench_contestant bench_bare_seqpacket = {
    .name = "unix seqpacket",
    .prepare = bare_seqpacket_prepare,
    .join = bare_socketpair_join,
    .send = bare_socket_send,
    .recv = bare_packet_recv,
};
const struct bench_contestant bench_bare_unix_stream = {
    .name = "unix stream",
    .prepare = bare_unix_stream_prepare,
    .join = bare_socketpair_join,
    .send = bare_socket_send,
    .recv = bare_stream_recv,
};
const struct bench_contestant bench_bare_tcp = {
    .name = "TCP, TCP_NODELAY",
    .prepare = bare_tcp_prepare,
    .join = bare_tcp_join,
    .send = bare_socket_send,
    .recv = bare_stream_recv,
};

/* -- shared memory: a ring of slots; whoever finds it empty or full sleeps, or spins ------------------ */

/* A ring in shared memory, one way. */
struct bench_ring {
    _Alignas(64) uint32_t head; /* messages put in; a futex */
    _Alignas(64) uint32_t tail; /* messages taken out; a futex */
    _Alignas(64) uint32_t head_sleepers;
    uint32_t tail_sleepers;
    _Alignas(64) unsigned char slots[BENCH_RING_SLOTS][BENCH_ROOM_BYTES / 2];
};

static size_t bare_rings_bytes(const struct bench_task *task)
{
    (void)task;
    return 2 * sizeof(struct bench_ring);
}

static struct bench_ring *bare_rings(struct bench_link *link)
{
    return link->area;
}

static void bare_futex(uint32_t *word, int operation, uint32_t value)
{
    syscall(SYS_futex, word, operation, value, NULL, NULL, 0);
}

static void bare_sleep_while(uint32_t *word, uint32_t *sleepers, uint32_t value)
{
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == value) {
        __atomic_add_fetch(sleepers, 1, __ATOMIC_SEQ_CST);
        bare_futex(word, FUTEX_WAIT, value);
        __atomic_sub_fetch(sleepers, 1, __ATOMIC_RELAXED);
    }
}

static void bare_advance(uint32_t *word, uint32_t *sleepers)
{
    __atomic_store_n(word, *word + 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(sleepers, __ATOMIC_SEQ_CST))
        bare_futex(word, FUTEX_WAKE, 1);
}

static void bare_futex_send(struct bench_link *link, const void *data)
{
    struct bench_ring *ring = &bare_rings(link)[link->side == BENCH_SERVER];

    bare_sleep_while(&ring->tail, &ring->tail_sleepers, ring->head - BENCH_RING_SLOTS);
    memcpy(ring->slots[ring->head % BENCH_RING_SLOTS], data, link->size_bytes);
    bare_advance(&ring->head, &ring->head_sleepers);
}

static void bare_futex_recv(struct bench_link *link, void *room)
{
    struct bench_ring *ring = &bare_rings(link)[link->side == BENCH_CLIENT];

    bare_sleep_while(&ring->head, &ring->head_sleepers, ring->tail);
    memcpy(room, ring->slots[ring->tail % BENCH_RING_SLOTS], link->size_bytes);
    bare_advance(&ring->tail, &ring->tail_sleepers);
}

static void bare_spin_while(uint32_t *word, uint32_t value)
{
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == value)
        bench_relax();
}

static void bare_spin_send(struct bench_link *link, const void *data)
{
    struct bench_ring *ring = &bare_rings(link)[link->side == BENCH_SERVER];

    bare_spin_while(&ring->tail, ring->head - BENCH_RING_SLOTS);
    memcpy(ring->slots[ring->head % BENCH_RING_SLOTS], data, link->size_bytes);
    __atomic_store_n(&ring->head, ring->head + 1, __ATOMIC_RELEASE);
}

static void bare_spin_recv(struct bench_link *link, void *room)
{
    struct bench_ring *ring = &bare_rings(link)[link->side == BENCH_CLIENT];

    bare_spin_while(&ring->head, ring->tail);
    memcpy(room, ring->slots[ring->tail % BENCH_RING_SLOTS], link->size_bytes);
    __atomic_store_n(&ring->tail, ring->tail + 1, __ATOMIC_RELEASE);
}

const struct bench_contestant bench_bare_futex = {
    .name = "ring, futex",
    .area_bytes = bare_rings_bytes,
    .join = bare_nothing,
    .send = bare_futex_send,
    .recv = bare_futex_recv,
};
const struct bench_contestant bench_bare_cache_line = {
    .name = "ring, spinning",
    .area_bytes = bare_rings_bytes,
    .join = bare_nothing,
    .send = bare_spin_send,
    .recv = bare_spin_recv,
};

/* -- a file that grows: pwrite and pread; a futex tells how far ----------------------------------------- */

static void bare_file_prepare(struct bench_link *link)
{
    char path[BENCH_NAME_BYTES];

    for (int way = 0; way < 2; way++) {
        bare_path(link, way, path);
        link->fds[way] = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
        if (link->fds[way] < 0)
            bench_die(link, "open");
    }
}

static void bare_file_send(struct bench_link *link, const void *data)
{
    int way = link->side == BENCH_SERVER;
    struct bench_ring *ring = &bare_rings(link)[way];

    if (pwrite(link->fds[way], data, link->size_bytes, link->out_offset) !=
        (ssize_t)link->size_bytes)
        bench_die(link, "pwrite");
    link->out_offset += (off_t)link->size_bytes;
    bare_advance(&ring->head, &ring->head_sleepers);
}

static void bare_file_recv(struct bench_link *link, void *room)
{
    int way = link->side == BENCH_CLIENT;
    struct bench_ring *ring = &bare_rings(link)[way];

    bare_sleep_while(&ring->head, &ring->head_sleepers, ring->tail);
    if (pread(link->fds[way], room, link->size_bytes, link->in_offset) != (ssize_t)link->size_bytes)
        bench_die(link, "pread");
    link->in_offset += (off_t)link->size_bytes;
    ring->tail++;
}

const struct bench_contestant bench_bare_file = {
    .name = "pwrite, futex, pread",
    .area_bytes = bare_rings_bytes,
    .prepare = bare_file_prepare,
    .join = bare_nothing,
    .send = bare_file_send,
    .recv = bare_file_recv,
    .remove = bare_unlink_two,
};
