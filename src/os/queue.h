/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * queue -- the kernel's two kinds of message queues: POSIX (mq_overview(7)) and System V (sysvipc(7))
 *
 * Returns    0 or the call's result, or -errno. The calls that may block are not wrapped: callers make
 *            them through the guard (os/guard.h) with the numbers below.
 * Waiting    "try" never sleeps: a POSIX queue is asked with a time-out that ended in 1970, so that its
 *            descriptor need not be non-blocking and the same one serves a call that waits for ever.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>

enum {
    NR_SYS_MQ_TIMEDSEND = SYS_mq_timedsend,       /* fd, data, bytes, priority, NULL */
    NR_SYS_MQ_TIMEDRECEIVE = SYS_mq_timedreceive, /* fd, data, bytes, &priority, NULL */
    NR_SYS_MSGSND = SYS_msgsnd,                   /* id, packet, payload bytes, 0 */
    NR_SYS_MSGRCV = SYS_msgrcv,                   /* id, packet, payload bytes, type, 0 */
};

/* A decimal number from a file such as /proc/sys/kernel/msgmax; -1 if it can't be read. */
int64_t nr_os_proc_number(const char *path);

/* POSIX. A name is "/name". */
enum {
    NR_MQ_PRIORITY_MAX = 32767,
    NR_MQ_OVERHEAD_BYTES = 96, /* what the kernel charges for a message's place, about */
};
struct nr_os_mq_sizes {
    size_t capacity_messages, message_bytes, queued_messages;
};
int nr_os_mq_open(const char *name, bool reads, bool writes);
/* Must be new (-EEXIST). The mode is exact: the umask does not count. */
int nr_os_mq_create(const char *name, bool reads, bool writes, unsigned mode,
                    const struct nr_os_mq_sizes *sizes);
int nr_os_mq_unlink(const char *name);
int nr_os_mq_sizes(int fd, struct nr_os_mq_sizes *ret);
int nr_os_mq_try_send(int fd, const void *data, size_t size_bytes, unsigned priority);
/* capacity_bytes is at least the queue's message_bytes, else -EMSGSIZE. */
ssize_t nr_os_mq_try_receive(int fd, void *data, size_t capacity_bytes, unsigned *ret_priority);
uint64_t nr_os_mq_limit_bytes(void); /* RLIMIT_MSGQUEUE; UINT64_MAX: none */

/* System V. A packet is what msgsnd(2) and msgrcv(2) take. */
struct nr_os_packet {
    long type;
    char payload[];
};
struct nr_os_msg_stat {
    uint64_t queued_messages, queued_bytes, capacity_bytes;
};
/* A file for ftok(3): made with `mark` as its content (-EEXIST); removed only if that is what it holds. */
int nr_os_key_file_new(const char *path, unsigned mode, const char *mark);
int nr_os_key_file_remove(const char *path, const char *mark); /* -EBADMSG: another content */
int nr_os_ftok(const char *path, int letter, int32_t *ret_key);
int nr_os_msg_open(int32_t key, bool reads, bool writes);
int nr_os_msg_create(int32_t key, unsigned mode); /* must be new (-EEXIST) */
int nr_os_msg_remove(int id);
/* Also when this user may not read the queue, where the kernel tells (Linux 4.17). */
int nr_os_msg_stat(int id, struct nr_os_msg_stat *ret);
int nr_os_msg_try_send(int id, const struct nr_os_packet *packet, size_t payload_bytes);
ssize_t nr_os_msg_try_receive(int id, struct nr_os_packet *packet, size_t payload_bytes, long type);

/*
 * Blocks until a message of that type is there, and leaves it there: 0. A message without payload can't
 * be left: it is taken, and *taken_type becomes its type (>= 1); the caller sets it to 0 before. A thread
 * may be cancelled in here, and nowhere else (os/thread.h); even then *taken_type tells.
 */
int nr_os_msg_peek(int id, long type, long *taken_type);
