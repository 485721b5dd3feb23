/* SPDX-License-Identifier: MIT */
#include "os/futex.h"
#include "base/cleanup.h"
#include "os/lock.h"
#include "os/process.h"
#include "os/sanitizer.h"
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef FUTEX_32
#define FUTEX_32 2
#endif
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

struct nr_os_futex_waitv { /* struct futex_waitv of linux/futex.h, which Debian 12's has as well */
    uint64_t value;
    uint64_t address;
    uint32_t flags;
    uint32_t reserved;
};

enum { NR_OS_FUTEX_SLICE_NS = 5000000 };

/* The thread sanitizer puts a signal handler off to the next call that it knows, which futex_waitv is not: with
   it, as where the call is refused, we sleep in slices. */
static bool nr_os_futex_lacks_waitv = NR_OS_HAS_TSAN;

/* A short sleep on the first word alone. The others are read only: a change of theirs ends no sleep. */
static int nr_os_futex_wait_slice(const struct nr_os_futex_word *words, unsigned count,
                                  struct nr_deadline *deadline)
{
    struct nr_deadline slice = nr_deadline_in(NR_OS_FUTEX_SLICE_NS);
    bool is_slice = nr_deadline_left_ns(deadline) > NR_OS_FUTEX_SLICE_NS;

    for (unsigned i = 1; i < count; i++)
        if (__atomic_load_n(words[i].word, __ATOMIC_SEQ_CST) != words[i].value)
            return 0;
    int result = nr_os_futex_wait(words, 1, is_slice ? &slice : deadline);
    return result == -ETIMEDOUT && is_slice ? -EAGAIN : result;
}

int nr_os_futex_wait(const struct nr_os_futex_word *words, unsigned count,
                     struct nr_deadline *deadline)
{
    struct nr_os_futex_waitv waits[NR_OS_FUTEX_WORDS_MAX];
    struct timespec until, *limit = NULL;

    if (count > 1 && nr_flag_get(&nr_os_futex_lacks_waitv))
        return nr_os_futex_wait_slice(words, count, deadline);

    if (!nr_deadline_is_never(deadline)) {
        int64_t left = nr_deadline_left_ns(deadline);
        if (left == 0)
            return -ETIMEDOUT;
        int64_t at = deadline->at_ns;
        until = (struct timespec){.tv_sec = at / 1000000000, .tv_nsec = at % 1000000000};
        limit = &until;
    }
    long result;
    if (count == 1) {
        result = syscall(SYS_futex, words[0].word, FUTEX_WAIT_BITSET, words[0].value, limit, NULL,
                         FUTEX_BITSET_MATCH_ANY);
    } else {
        for (unsigned i = 0; i < count; i++)
            waits[i] = (struct nr_os_futex_waitv){
                .value = words[i].value,
                .address = (uint64_t)(uintptr_t)words[i].word,
                .flags = FUTEX_32,
            };
        result = syscall(SYS_futex_waitv, waits, count, 0, limit, CLOCK_MONOTONIC);
        if (result < 0 && nr_os_is_refused(-errno)) {
            nr_flag_set(&nr_os_futex_lacks_waitv, true);
            return nr_os_futex_wait_slice(words, count, deadline);
        }
    }
    if (result >= 0)
        return (int)result + 1;
    return errno == EAGAIN ? 0 : -errno;
}

int nr_os_futex_wake(const uint32_t *word, unsigned count)
{
    long woken = syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);

    return woken < 0 ? -errno : (int)woken;
}

static int nr_os_futex_change_and_wake(uint32_t *word, unsigned change, unsigned operand)
{
    unsigned operation = (change << 28) | ((unsigned)FUTEX_OP_CMP_EQ << 24) | (operand << 12);
    long woken = syscall(SYS_futex, word, FUTEX_WAKE_OP, INT_MAX, 0L, word, operation);

    return woken < 0 ? -errno : (int)woken;
}

int nr_os_futex_add_and_wake(uint32_t *word)
{
    return nr_os_futex_change_and_wake(word, FUTEX_OP_ADD, 1);
}

int nr_os_futex_store_and_wake(uint32_t *word, uint32_t value)
{
    if (value == 0)
        return nr_os_futex_change_and_wake(word, FUTEX_OP_SET, 0);
    return nr_os_futex_change_and_wake(word, FUTEX_OP_SET | FUTEX_OP_OPARG_SHIFT,
                                       (unsigned)__builtin_ctz(value));
}

int nr_os_futex_clear_and_wake(uint32_t *word, uint32_t bit)
{
    return nr_os_futex_change_and_wake(word, FUTEX_OP_ANDN | FUTEX_OP_OPARG_SHIFT,
                                       (unsigned)__builtin_ctz(bit));
}

/*
 * The robust list of a thread is glibc's; its offset from a list node to the futex word is fixed. `node` is
 * what we put there last: anything else that is not NULL belongs to a robust mutex being locked right now.
 */
_Thread_local struct nr_os_futex_thread nr_os_futex_thread
    __attribute__((tls_model("initial-exec")));

/* Apart, so that who switches between two words saves no registers. */
static nr_apart void nr_os_futex_ask(struct nr_os_futex_thread *thread)
{
    size_t size_bytes;

    if (syscall(SYS_get_robust_list, 0, &thread->list, &size_bytes) < 0)
        thread->list = NULL;
    thread->is_known = true;
}

static inline struct robust_list_head *nr_os_futex_head(struct nr_os_futex_thread *thread)
{
    if (__builtin_expect(!thread->is_known, 0))
        nr_os_futex_ask(thread);
    return thread->list;
}

void nr_os_futex_arm_anew(const uint32_t *word)
{
    struct nr_os_futex_thread *thread = &nr_os_futex_thread;
    struct robust_list_head *head = nr_os_futex_head(thread);

    if (!head)
        return;
    void *node = (char *)word - head->futex_offset;
    void **pending = (void **)&head->list_op_pending;
    void *now = __atomic_load_n(pending, __ATOMIC_RELAXED);
    if (now && now != node && now != thread->node)
        return;
    thread->node = node;
    thread->pending = pending;
    thread->offset = head->futex_offset;
    thread->word = word;
    __atomic_store_n(pending, node, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

void nr_os_futex_disarm(const uint32_t *word)
{
    struct robust_list_head *head = nr_os_futex_head(&nr_os_futex_thread);

    if (!head)
        return;
    void *node = (char *)word - head->futex_offset;
    if (__atomic_load_n((void **)&head->list_op_pending, __ATOMIC_RELAXED) == node)
        __atomic_store_n((void **)&head->list_op_pending, NULL, __ATOMIC_RELAXED);
}
