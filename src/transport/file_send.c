/* SPDX-License-Identifier: MIT */
/* file_send -- a message becomes a record: one checksum, one pwritev, a few atomics */
#include "os/file.h"
#include "transport/file.h"

enum { NR_FILE_SYNC_PERIOD_NS = 1000000000 };

void nr_file_sync_in_time(struct nr_file *file, bool is_last)
{
    uint64_t *synced_ns = &file->journal.control->synced_ns;

    if (file->journal.header.durability != NARU_DURABLE_PERIODIC ||
        __atomic_load_n(&file->journal.failed, __ATOMIC_RELAXED))
        return;
    uint64_t now_ns = (uint64_t)nr_os_now_ns();
    uint64_t before_ns = __atomic_load_n(synced_ns, __ATOMIC_RELAXED);
    if (!is_last && now_ns - before_ns < NR_FILE_SYNC_PERIOD_NS)
        return;
    /* One of several that see that it is time does it. A failure is what the next send reports. */
    if (__atomic_compare_exchange_n(synced_ns, &before_ns, now_ns, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED))
        nr_journal_sync(&file->journal);
}

int nr_file_send(struct naru_endpoint *endpoint, const struct nr_out *out,
                 struct nr_deadline *deadline)
{
    struct nr_file *file = nr_file_of(endpoint);
    struct nr_journal_record record = {
        .size_bytes = (uint32_t)out->size_bytes,
        .type = out->type,
        .pid = file->pid,
        .uid = file->uid,
    };

    if (__atomic_load_n(&file->journal.failed, __ATOMIC_RELAXED))
        return nr_journal_sync(&file->journal); /* says why not */
    record.payload_crc = nr_journal_payload_crc(&file->journal, out);
    nr_party_operate(&file->party);
    int result = nr_file_lock_take(file, deadline);
    if (result < 0)
        return result;
    result = nr_journal_append(&file->journal, out, &record);
    nr_file_lock_give(file);
    if (result < 0)
        return result;
    nr_file_bell_ring(file);
    nr_file_sync_in_time(file, false);
    return 0;
}
