/* SPDX-License-Identifier: MIT */
#include "os/queue.h"
#include "os/sanitizer.h"
#include "os/thread.h"
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int64_t nr_os_proc_number(const char *path)
{
    char text[32];
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return -1;
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    if (size <= 0)
        return -1;
    text[size] = '\0';
    return strtoll(text, NULL, 10);
}

static int nr_os_mq_flags(bool reads, bool writes)
{
    return (reads && writes ? O_RDWR : reads ? O_RDONLY : O_WRONLY) | O_CLOEXEC;
}

int nr_os_mq_open(const char *name, bool reads, bool writes)
{
    int fd = mq_open(name, nr_os_mq_flags(reads, writes));

    return fd < 0 ? -errno : fd;
}

int nr_os_mq_create(const char *name, bool reads, bool writes, unsigned mode,
                    const struct nr_os_mq_sizes *sizes)
{
    struct mq_attr attributes = {
        .mq_maxmsg = (long)sizes->capacity_messages,
        .mq_msgsize = (long)sizes->message_bytes,
    };
    struct stat status;
    int fd = mq_open(name, nr_os_mq_flags(reads, writes) | O_CREAT | O_EXCL, mode, &attributes);

    if (fd < 0)
        return -errno;
    if (fstat(fd, &status) == 0 && (status.st_mode & 0777) != mode && fchmod(fd, mode) < 0) {
        int error = -errno;
        close(fd);
        mq_unlink(name);
        return error;
    }
    return fd;
}

int nr_os_mq_unlink(const char *name)
{
    return mq_unlink(name) < 0 ? -errno : 0;
}

int nr_os_mq_sizes(int fd, struct nr_os_mq_sizes *ret)
{
    struct mq_attr attributes;

    if (mq_getattr(fd, &attributes) < 0)
        return -errno;
    *ret = (struct nr_os_mq_sizes){
        .capacity_messages = (size_t)attributes.mq_maxmsg,
        .message_bytes = (size_t)attributes.mq_msgsize,
        .queued_messages = (size_t)attributes.mq_curmsgs,
    };
    return 0;
}

static const struct timespec nr_os_mq_over = {0}; /* 1970: a wait until then is over at once */

int nr_os_mq_try_send(int fd, const void *data, size_t size_bytes, unsigned priority)
{
    for (;;) {
        if (syscall(SYS_mq_timedsend, fd, data, size_bytes, priority, &nr_os_mq_over) == 0)
            return 0;
        if (errno != EINTR)
            return errno == ETIMEDOUT ? -EAGAIN : -errno;
    }
}

ssize_t nr_os_mq_try_receive(int fd, void *data, size_t capacity_bytes, unsigned *ret_priority)
{
    for (;;) {
        ssize_t size =
            syscall(SYS_mq_timedreceive, fd, data, capacity_bytes, ret_priority, &nr_os_mq_over);
        if (size >= 0)
            return size;
        if (errno != EINTR)
            return errno == ETIMEDOUT ? -EAGAIN : -errno;
    }
}

uint64_t nr_os_mq_limit_bytes(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_MSGQUEUE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
        return UINT64_MAX;
    return limit.rlim_cur;
}

int nr_os_key_file_new(const char *path, unsigned mode, const char *mark)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);

    if (fd < 0)
        return -errno;
    size_t size = strlen(mark);
    int error = write(fd, mark, size) == (ssize_t)size ? 0 : errno ? -errno : -ENOSPC;
    if (error == 0 && fchmod(fd, mode) < 0)
        error = -errno;
    close(fd);
    if (error)
        unlink(path);
    return error;
}

int nr_os_key_file_remove(const char *path, const char *mark)
{
    enum { NR_KEY_FILE_BYTES = 128 };
    char text[NR_KEY_FILE_BYTES];
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    ssize_t size = read(fd, text, sizeof text);
    close(fd);
    if (size != (ssize_t)strlen(mark) || memcmp(text, mark, (size_t)size) != 0)
        return -EBADMSG;
    return unlink(path) < 0 ? -errno : 0;
}

int nr_os_ftok(const char *path, int letter, int32_t *ret_key)
{
    key_t key = ftok(path, letter);

    if (key == -1)
        return -errno;
    *ret_key = key;
    return 0;
}

int nr_os_msg_open(int32_t key, bool reads, bool writes)
{
    int id = msgget(key, (reads ? 0400 : 0) | (writes ? 0200 : 0));

    return id < 0 ? -errno : id;
}

int nr_os_msg_create(int32_t key, unsigned mode)
{
    int id = msgget(key, (int)mode | IPC_CREAT | IPC_EXCL);

    return id < 0 ? -errno : id;
}

int nr_os_msg_remove(int id)
{
    return msgctl(id, IPC_RMID, NULL) < 0 ? -errno : 0;
}

/* MSG_STAT_ANY asks no permission, but goes by the table's index: the id without its generation. */
static int nr_os_msg_stat_any(int id, struct msqid_ds *ret)
{
    enum { NR_MSG_INDEX_MASK = 0x7fff };

    if (msgctl(id & NR_MSG_INDEX_MASK, MSG_STAT_ANY, ret) != id)
        return -EACCES;
    return 0;
}

int nr_os_msg_stat(int id, struct nr_os_msg_stat *ret)
{
    struct msqid_ds status;

    if (msgctl(id, IPC_STAT, &status) < 0) {
        int error = -errno;
        if (error != -EACCES || nr_os_msg_stat_any(id, &status) < 0)
            return error;
    }
    *ret = (struct nr_os_msg_stat){
        .queued_messages = status.msg_qnum,
        .queued_bytes = status.__msg_cbytes,
        .capacity_bytes = status.msg_qbytes,
    };
    return 0;
}

int nr_os_msg_try_send(int id, const struct nr_os_packet *packet, size_t payload_bytes)
{
    int result;

    do
        result = (int)syscall(SYS_msgsnd, id, packet, payload_bytes, IPC_NOWAIT);
    while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : 0;
}

ssize_t nr_os_msg_try_receive(int id, struct nr_os_packet *packet, size_t payload_bytes, long type)
{
    ssize_t size;

    do
        size = syscall(SYS_msgrcv, id, packet, payload_bytes, type, IPC_NOWAIT);
    while (size < 0 && errno == EINTR);
    return size < 0 ? -errno : size;
}

#if NR_OS_HAS_TSAN

/* The sanitizer's own code around pthread_setcancelstate() must not be cancelled at any instruction. */
int nr_os_msg_peek(int id, long type, long *taken_type)
{
    static const struct timespec millisecond = {.tv_nsec = 1000000};

    while (syscall(SYS_msgrcv, id, taken_type, 0, type, IPC_NOWAIT) < 0) {
        if (errno != ENOMSG && errno != EINTR)
            return errno == E2BIG ? 0 : -errno;
        nanosleep(&millisecond, NULL);
        nr_os_thread_cancellable(true);
        pthread_testcancel();
        nr_os_thread_cancellable(false);
    }
    return 0;
}

#else

int nr_os_msg_peek(int id, long type, long *taken_type)
{
    long result;

    nr_os_thread_cancellable(true);
    do
        result = syscall(SYS_msgrcv, id, taken_type, 0, type, 0);
    while (result < 0 && errno == EINTR);
    int error = errno;
    nr_os_thread_cancellable(false);
    return result < 0 && error != E2BIG ? -error : 0;
}

#endif
