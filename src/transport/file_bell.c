/* SPDX-License-Identifier: MIT */
/*
 * file_bell -- receivers sleep until there is a record, and writers pay only when someone sleeps
 *
 * What       control.doorbell is odd while someone sleeps on it. Who has published adds 1 and wakes all, in
 *            one system call: then it is even, and another number than the sleepers went to bed with. For
 *            those who wait with a descriptor (control.watchers) it writes a few bytes to the file,
 *            which inotify tells of.
 * Ordering   A writer stores the tail, gives the lock (an exchange, seq_cst), and then looks at the bell; a
 *            receiver makes the bell odd (seq_cst) and then looks at the tail. One sees the other. [B1][B2]
 * Death      A writer killed after it published and before it rang: the death word was pending in it, so the
 *            kernel wakes one sleeper, and that one rings for all the others: also when the dead is not yet
 *            known to be dead. While some writer has the lock, a receiver sleeps in slices, since a death
 *            that came before its sleep wakes nobody. Nobody writes: it sleeps for ever, at no cost.
 */
#include "os/file.h"
#include "transport/file.h"
#include <limits.h>

enum { NR_FILE_BELL_SLICE_NS = 10000000, NR_FILE_BELL_SLICE_MAX_NS = 160000000 };

static void nr_file_bell_touch(struct nr_file *file)
{
    uint64_t nothing = 0;
    struct iovec part = {&nothing, sizeof nothing};

    nr_os_file_write(file->journal.fd, &part, 1,
                     NR_JOURNAL_PAGE_BYTES + offsetof(struct nr_journal_control, touched));
}

void nr_file_bell_ring(struct nr_file *file)
{
    struct nr_journal_control *control = file->journal.control;

    if (__atomic_load_n(&control->doorbell, __ATOMIC_SEQ_CST) & 1) /* [B1] */
        nr_os_futex_add_and_wake(&control->doorbell);
    if (__atomic_load_n(&control->watchers, __ATOMIC_SEQ_CST) &&
        __atomic_exchange_n(&control->watchers, 0, __ATOMIC_SEQ_CST))
        nr_file_bell_touch(file);
}

void nr_file_bell_ring_all(struct nr_file *file)
{
    struct nr_journal_control *control = file->journal.control;

    nr_os_futex_add_and_wake(&control->doorbell);
    nr_os_futex_wake(&control->lock, INT_MAX);
    if (__atomic_exchange_n(&control->watchers, 0, __ATOMIC_SEQ_CST))
        nr_file_bell_touch(file);
}

/* Makes the bell odd; what it is then. */
static uint32_t nr_file_bell_lie_down(struct nr_journal_control *control)
{
    uint32_t bell = __atomic_load_n(&control->doorbell, __ATOMIC_SEQ_CST);

    while (!(bell & 1) && !__atomic_compare_exchange_n(&control->doorbell, &bell, bell + 1, false,
                                                       __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
    return bell | 1;
}

static int nr_file_bell_sleep(struct nr_file *file, uint32_t bell, int64_t slice_ns,
                              struct nr_deadline *deadline)
{
    struct nr_journal_control *control = file->journal.control;
    const struct nr_os_futex_word words[] = {
        {&control->doorbell, bell},
        {&control->death_word, 0},
        {(const uint32_t *)&file->endpoint.interrupt.raised, 0},
    };
    struct nr_deadline slice = nr_deadline_in(slice_ns);
    bool is_slice = __atomic_load_n(&control->lock, __ATOMIC_RELAXED) != 0 &&
                    nr_deadline_left_ns(deadline) > slice_ns;

    int result = nr_os_futex_wait(words, 3, is_slice ? &slice : deadline);
    if (result == -EINTR || result == -EAGAIN || (result == -ETIMEDOUT && is_slice))
        return 0;
    if (result < 0)
        return result == -ETIMEDOUT ? result
                                    : nr_fail(result, "waiting on %s: %s", file->endpoint.uri,
                                              nr_error_name(result));
    if (__atomic_load_n(&control->doorbell, __ATOMIC_ACQUIRE) == bell &&
        !nr_interrupt_is_raised(&file->endpoint.interrupt)) {
        nr_party_sweep(&file->party, true); /* someone has died */
        nr_file_bell_ring_all(file);
    }
    return 0;
}

int nr_file_bell_wait(struct nr_file *file, struct nr_deadline *deadline)
{
    int64_t slice_ns = NR_FILE_BELL_SLICE_NS;

    if (nr_deadline_is_now(deadline))
        return nr_file_lock_check(file) && nr_file_is_readable(file) ? 0 : -EAGAIN;
    for (;;) {
        uint32_t bell = nr_file_bell_lie_down(file->journal.control);
        nr_party_sweep(&file->party, false);
        nr_file_lock_check(file);
        if (nr_file_is_readable(file)) /* [B2] */
            return 0;
        int interrupted = nr_endpoint_interrupted(&file->endpoint);
        if (interrupted < 0)
            return interrupted;
        int result = nr_file_bell_sleep(file, bell, slice_ns, deadline);
        if (result < 0)
            return result;
        if (slice_ns < NR_FILE_BELL_SLICE_MAX_NS)
            slice_ns *= 2;
    }
}
