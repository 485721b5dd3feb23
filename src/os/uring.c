/* SPDX-License-Identifier: MIT */
/*
 * Ordering: the queues are shared with the kernel.
 *
 * [R1] sent: requests -> tail, store-release; the kernel loads it with acquire.
 * [A1] done: the kernel stores it with release; load-acquire, then the completions. Without it we could
 *      read one that is not written yet.
 * [R2] seen: completions read -> head, store-release; the kernel may overwrite them.
 */
#include "os/uring.h"
#include "os/guard.h"
#include "os/lock.h"
#include "os/process.h"
#include "os/sanitizer.h"
#include "os/thread.h"
#include <errno.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    NR_OS_URING_REQUESTS = 32,
    /* Newer than the headers of Debian 12: */
    NR_OS_URING_FUTEX_WAIT = 51,             /* IORING_OP_FUTEX_WAIT, 6.7 */
    NR_OS_URING_SETUP_NO_ARRAY = 1 << 16,    /* IORING_SETUP_NO_SQARRAY, 6.6 */
    NR_OS_URING_FEATURE_NO_IOWAIT = 1 << 17, /* IORING_FEAT_NO_IOWAIT, 6.15 */
    NR_OS_URING_ENTER_NO_IOWAIT = 1 << 7,    /* IORING_ENTER_NO_IOWAIT, 6.15 */
    NR_OS_URING_FUTEX_32 = 2,                /* FUTEX2_SIZE_U32 */
};

/* A filter can't be taken off again. The thread sanitizer does not see signals that come in here. */
static bool nr_os_uring_is_refused = NR_OS_HAS_TSAN;

void nr_os_uring_deinit(struct nr_uring *ring)
{
    if (ring->memory)
        munmap(ring->memory, ring->memory_bytes);
    if (ring->requests)
        munmap(ring->requests, ring->requests_bytes);
    if (ring->fd >= 0)
        close(ring->fd);
    *ring = NR_URING_NULL;
}

bool nr_os_uring_is_mine(const struct nr_uring *ring)
{
    return ring->fd >= 0 && ring->thread == nr_os_thread_token();
}

static int nr_os_uring_map(struct nr_uring *ring, const struct io_uring_params *parameters)
{
    const struct io_cqring_offsets *done = &parameters->cq_off;
    const int protection = PROT_READ | PROT_WRITE;

    ring->memory_bytes = done->cqes + parameters->cq_entries * sizeof(struct io_uring_cqe);
    ring->requests_bytes = parameters->sq_entries * sizeof(struct io_uring_sqe);
    void *memory =
        mmap(NULL, ring->memory_bytes, protection, MAP_SHARED, ring->fd, IORING_OFF_SQ_RING);
    if (memory == MAP_FAILED)
        return -errno;
    ring->memory = memory;
    void *requests =
        mmap(NULL, ring->requests_bytes, protection, MAP_SHARED, ring->fd, IORING_OFF_SQES);
    if (requests == MAP_FAILED)
        return -errno;
    ring->requests = requests;
    char *base = memory;
    ring->taken = (uint32_t *)(void *)(base + parameters->sq_off.head);
    ring->sent = (uint32_t *)(void *)(base + parameters->sq_off.tail);
    ring->sent_flags = (uint32_t *)(void *)(base + parameters->sq_off.flags);
    ring->seen = (uint32_t *)(void *)(base + done->head);
    ring->done = (uint32_t *)(void *)(base + done->tail);
    ring->completions = base + done->cqes;
    ring->requests_count = parameters->sq_entries;
    ring->completions_mask = parameters->cq_entries - 1;
    return 0;
}

int nr_os_uring_init(struct nr_uring *ring, bool is_quiet)
{
    struct io_uring_params parameters = {
        .flags = IORING_SETUP_SINGLE_ISSUER | NR_OS_URING_SETUP_NO_ARRAY |
                 (is_quiet ? IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG
                           : IORING_SETUP_COOP_TASKRUN),
    };
    const unsigned needed = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG;

    *ring = NR_URING_NULL;
    if (nr_flag_get(&nr_os_uring_is_refused))
        return -ENOSYS;
    ring->fd = (int)syscall(SYS_io_uring_setup, NR_OS_URING_REQUESTS, &parameters);
    int result = ring->fd < 0 ? -errno : 0;
    if (result == 0)
        result =
            (parameters.features & needed) != needed ? -ENOSYS : nr_os_uring_map(ring, &parameters);
    if (parameters.features & NR_OS_URING_FEATURE_NO_IOWAIT)
        ring->wait_flags = NR_OS_URING_ENTER_NO_IOWAIT;
    ring->thread = nr_os_thread_token();
    if (result == 0) { /* does it know futexes? */
        const uint32_t word = 1;
        uint64_t data;
        int outcome = -EINVAL;
        result = nr_os_uring_futex(ring, &word, 0, 0);
        if (result == 0)
            result = nr_os_uring_enter(ring, NULL);
        if (result == 0 && (!nr_os_uring_next(ring, &data, &outcome) || outcome != -EAGAIN))
            result = -ENOSYS;
    }
    if (result == 0)
        return 0;
    nr_os_uring_deinit(ring);
    if (!nr_os_is_refused(result) && result != -EINVAL)
        return result;
    nr_flag_set(&nr_os_uring_is_refused, true);
    return -ENOSYS;
}

int nr_os_uring_signal(struct nr_uring *ring, int eventfd)
{
    long result = syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_EVENTFD, &eventfd, 1);

    return result < 0 ? -errno : 0;
}

/* How many requests the kernel has not taken yet: those that are queued, and what it left when it was short of
   memory. */
static uint32_t nr_os_uring_waiting(const struct nr_uring *ring)
{
    return __atomic_load_n(ring->sent, __ATOMIC_RELAXED) + ring->queued -
           __atomic_load_n(ring->taken, __ATOMIC_ACQUIRE);
}

/* The next free request, cleared; the caller fills it in before anything else is called. */
static struct io_uring_sqe *nr_os_uring_request(struct nr_uring *ring, int *ret_result)
{
    *ret_result = 0;
    if (nr_os_uring_waiting(ring) == ring->requests_count)
        *ret_result = nr_os_uring_enter(ring, NULL);
    if (*ret_result == 0 && nr_os_uring_waiting(ring) == ring->requests_count)
        *ret_result = -EAGAIN;
    if (*ret_result < 0)
        return NULL;
    uint32_t tail = __atomic_load_n(ring->sent, __ATOMIC_RELAXED);
    struct io_uring_sqe *requests = ring->requests;
    struct io_uring_sqe *request = &requests[(tail + ring->queued++) % ring->requests_count];
    memset(request, 0, sizeof *request);
    return request;
}

int nr_os_uring_futex(struct nr_uring *ring, const uint32_t *word, uint32_t value, uint64_t data)
{
    int result;
    struct io_uring_sqe *request = nr_os_uring_request(ring, &result);

    if (!request)
        return result;
    request->opcode = NR_OS_URING_FUTEX_WAIT;
    request->fd = NR_OS_URING_FUTEX_32;
    request->addr = (uint64_t)(uintptr_t)word;
    request->addr2 = value;
    request->addr3 = FUTEX_BITSET_MATCH_ANY;
    request->user_data = data;
    return 0;
}

int nr_os_uring_poll(struct nr_uring *ring, int fd, unsigned events, uint64_t data)
{
    int result;
    struct io_uring_sqe *request = nr_os_uring_request(ring, &result);

    if (!request)
        return result;
    request->opcode = IORING_OP_POLL_ADD;
    request->fd = fd;
    request->poll32_events = events;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    request->poll32_events = events << 16 | events >> 16;
#endif
    request->user_data = data;
    return 0;
}

_Static_assert(sizeof(struct __kernel_timespec) == sizeof(int64_t[2]),
               "the kernel reads the timer");

int nr_os_uring_timer(struct nr_uring *ring, int64_t after_ns, uint64_t data)
{
    int result;
    struct io_uring_sqe *request = nr_os_uring_request(ring, &result);

    if (!request)
        return result;
    ring->timer[0] = after_ns / 1000000000;
    ring->timer[1] = after_ns % 1000000000;
    request->opcode = IORING_OP_TIMEOUT;
    request->addr = (uint64_t)(uintptr_t)ring->timer;
    request->len = 1;
    request->user_data = data;
    return 0;
}

int nr_os_uring_cancel(struct nr_uring *ring, uint64_t data)
{
    int result;
    struct io_uring_sqe *request = nr_os_uring_request(ring, &result);

    if (!request)
        return result;
    request->opcode = IORING_OP_ASYNC_CANCEL;
    request->flags = IOSQE_CQE_SKIP_SUCCESS;
    request->addr = data;
    request->user_data = UINT64_MAX;
    return 0;
}

int nr_os_uring_enter(struct nr_uring *ring, struct nr_deadline *deadline)
{
    struct __kernel_timespec time;
    struct io_uring_getevents_arg argument = {0};
    unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;

    if (deadline && !nr_deadline_is_never(deadline)) {
        int64_t left_ns = nr_deadline_left_ns(deadline);
        time = (struct __kernel_timespec){left_ns / 1000000000, left_ns % 1000000000};
        argument.ts = (uint64_t)(uintptr_t)&time;
    }
    if (deadline)
        flags |= ring->wait_flags;
    uint32_t tail = __atomic_load_n(ring->sent, __ATOMIC_RELAXED) + ring->queued;
    __atomic_store_n(ring->sent, tail, __ATOMIC_RELEASE); /* [R1] */
    ring->queued = 0;
    long result = syscall(SYS_io_uring_enter, ring->fd, nr_os_uring_waiting(ring), deadline ? 1 : 0,
                          flags, &argument, sizeof argument);
    if (result >= 0)
        return 0;
    return errno == ETIME ? -ETIMEDOUT : -errno;
}

int nr_os_uring_sleep(struct nr_uring *ring, const int *raised, const uint32_t *word,
                      uint32_t value, struct nr_deadline *deadline)
{
    struct timespec until, *limit = NULL;

    if (!nr_deadline_is_never(deadline)) {
        if (nr_deadline_left_ns(deadline) == 0)
            return -ETIMEDOUT;
        until = (struct timespec){.tv_sec = deadline->at_ns / 1000000000,
                                  .tv_nsec = deadline->at_ns % 1000000000};
        limit = &until;
    }
    if (nr_os_uring_waiting(ring)) {
        int result = nr_os_uring_enter(ring, NULL);
        if (result < 0)
            return result;
    }
    const long arguments[6] = {
        (long)word, FUTEX_WAIT_BITSET, (long)value, (long)limit, 0, FUTEX_BITSET_MATCH_ANY,
    };
    long result = nr_os_guarded_call_while(
        raised, ring->done, __atomic_load_n(ring->seen, __ATOMIC_RELAXED), SYS_futex, arguments);
    return result >= 0 || result == -EAGAIN ? 0 : (int)result;
}

bool nr_os_uring_next(struct nr_uring *ring, uint64_t *ret_data, int *ret_result)
{
    uint32_t seen = __atomic_load_n(ring->seen, __ATOMIC_RELAXED);
    const struct io_uring_cqe *completions = ring->completions;

    if (seen == __atomic_load_n(ring->done, __ATOMIC_ACQUIRE)) /* [A1] */
        return false;
    const struct io_uring_cqe *completion = &completions[seen & ring->completions_mask];
    *ret_data = completion->user_data;
    *ret_result = completion->res;
    __atomic_store_n(ring->seen, seen + 1, __ATOMIC_RELEASE); /* [R2] */
    return true;
}

bool nr_os_uring_has_news(const struct nr_uring *ring)
{
    const uint32_t flags = IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW;

    return (__atomic_load_n(ring->sent_flags, __ATOMIC_ACQUIRE) & flags) ||
           __atomic_load_n(ring->done, __ATOMIC_ACQUIRE) !=
               __atomic_load_n(ring->seen, __ATOMIC_RELAXED);
}
