/* SPDX-License-Identifier: MIT */
/*
 * journal_write -- append and recover, by whoever holds the writers' lock
 *
 * Death      Killed before the pwritev: nothing. During it: a torn tail, or a whole record, which the next
 *            owner of the lock cuts off, or commits. After nr_journal_publish(): committed.
 * Ordering   [R1] nr_journal_publish(): the record (pwritev) and the point before the tail; [A1] is
 *            nr_journal_tail(). Without it a receiver that sees the new tail could read an old point.
 */
#include "data/crc32c.h"
#include "os/file.h"
#include "transport/journal.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void nr_journal_publish(struct nr_journal *journal, const struct nr_journal_point *point)
{
    struct nr_journal_control *control = journal->control;
    uint64_t which = ~__atomic_load_n(&control->tail, __ATOMIC_RELAXED) & 1;
    struct nr_journal_point *place = &control->points[which];

    /* Atomics, since nr_journal_point() may read it meanwhile, and looks again afterwards. */
    __atomic_store_n(&place->offset, point->offset, __ATOMIC_RELAXED);
    __atomic_store_n(&place->sequence, point->sequence, __ATOMIC_RELAXED);
    __atomic_store_n(&place->last, point->last, __ATOMIC_RELAXED);
    __atomic_store_n(&place->crc, point->crc, __ATOMIC_RELAXED);
    __atomic_store_n(&control->tail, point->offset | which, __ATOMIC_RELEASE); /* [R1] */
}

int nr_journal_point(const struct nr_journal *journal, struct nr_journal_point *ret)
{
    const struct nr_journal_control *control = journal->control;
    struct nr_journal_point point;
    uint64_t tail, again = __atomic_load_n(&control->tail, __ATOMIC_ACQUIRE);

    do { /* again only when another record was committed meanwhile */
        tail = again;
        const struct nr_journal_point *place = &control->points[tail & 1];
        point.offset = __atomic_load_n(&place->offset, __ATOMIC_ACQUIRE);
        point.sequence = __atomic_load_n(&place->sequence, __ATOMIC_ACQUIRE);
        point.last = __atomic_load_n(&place->last, __ATOMIC_ACQUIRE);
        point.crc = __atomic_load_n(&place->crc, __ATOMIC_ACQUIRE);
        again = __atomic_load_n(&control->tail, __ATOMIC_ACQUIRE);
    } while (again != tail);
    if (point.offset != (tail & ~(uint64_t)1) || point.offset % NR_JOURNAL_ALIGN_BYTES ||
        point.offset < journal->header.records_offset ||
        (point.sequence == 0) != (point.offset == journal->header.records_offset))
        return nr_fail(-EBADMSG,
                       "the control page of the journal %s is damaged; restore it from a copy",
                       journal->path);
    point.reserved = 0;
    *ret = point;
    return 0;
}

uint32_t nr_journal_payload_crc(const struct nr_journal *journal, const struct nr_out *out)
{
    uint32_t crc = journal->header.salt;

    for (int i = 0; i < out->parts_count; i++)
        if (out->parts[i].iov_len)
            crc = nr_crc32c(crc, out->parts[i].iov_base, out->parts[i].iov_len);
    return crc;
}

int nr_journal_sync(struct nr_journal *journal)
{
    int result =
        __atomic_load_n(&journal->failed, __ATOMIC_RELAXED) ? -EIO : nr_os_file_sync(journal->fd);

    if (result == 0)
        return 0;
    __atomic_store_n(&journal->failed, 1, __ATOMIC_RELAXED);
    return nr_fail(-EIO,
                   "the device did not take what was written to the journal %s; since then it is "
                   "read-only here. Check the disk, then open the journal again",
                   journal->path);
}

/* -- append --------------------------------------------------------------------------------- */

/* Takes back what the failed append has left after the tail. */
static void nr_journal_retract(struct nr_journal *journal, uint64_t offset)
{
    if (nr_os_file_truncate(journal->fd, offset) < 0)
        __atomic_store_n(&journal->control->is_dirty, 1, __ATOMIC_RELAXED);
}

static int nr_journal_no_room(struct nr_journal *journal, uint64_t offset, uint64_t length,
                              int error)
{
    if (error == -ENOSPC || error == -EDQUOT)
        return nr_fail(
            error,
            "no room for %llu bytes more in the journal %s: %s; nothing of the message was "
            "kept. Free space there, or start a new journal",
            (unsigned long long)length, journal->path, nr_error_name(error));
    if (error == -EFBIG)
        return nr_fail(
            -EFBIG,
            "the journal %s has %llu bytes, and %llu more exceed what a file may have "
            "(RLIMIT_FSIZE: %llu, or the file system's own limit); raise `ulimit -f`, or start "
            "a new journal",
            journal->path, (unsigned long long)offset, (unsigned long long)length,
            (unsigned long long)journal->size_limit);
    return nr_fail(error, "writing to the journal %s: %s", journal->path, nr_error_name(error));
}

/* All parts at `offset`: one pwritev, but for the rest of one that the file system has cut short. */
static int nr_journal_write(const struct nr_journal *journal, struct iovec *parts, int count,
                            uint64_t offset)
{
    while (count) {
        long size = nr_os_file_write(journal->fd, parts, count, offset);
        if (size <= 0)
            return size < 0 ? (int)size : -ENOSPC;
        offset += (uint64_t)size;
        for (; count && (size_t)size >= parts->iov_len; parts++, count--)
            size -= (long)parts->iov_len;
        if (count) {
            parts->iov_base = (char *)parts->iov_base + size;
            parts->iov_len -= (size_t)size;
        }
    }
    return 0;
}

/* In one piece: pwrite(2) spares the kernel the reading and copying of an iovec. */
static int nr_journal_write_small(const struct nr_journal *journal, const struct nr_out *out,
                                  const struct nr_journal_record *record, uint64_t offset)
{
    char bytes[NR_JOURNAL_SMALL_BYTES];
    struct iovec whole = {bytes, nr_journal_length(out->size_bytes)};

    memset(bytes + whole.iov_len - NR_JOURNAL_ALIGN_BYTES, 0, NR_JOURNAL_ALIGN_BYTES);
    memcpy(bytes, record, sizeof *record);
    nr_out_copy(out, 0, bytes + sizeof *record, out->size_bytes);
    return nr_journal_write(journal, &whole, 1, offset);
}

static int nr_journal_write_record(const struct nr_journal *journal, const struct nr_out *out,
                                   struct nr_journal_record *record, uint64_t offset)
{
    static const char padding[NR_JOURNAL_ALIGN_BYTES];
    struct iovec parts[NR_JOURNAL_PARTS_MAX + 2] = {{record, sizeof *record}};
    size_t padding_bytes = nr_journal_length(out->size_bytes) - sizeof *record - out->size_bytes;
    char *joined = NULL;
    int count = 1;

    if (nr_journal_length(out->size_bytes) <= NR_JOURNAL_SMALL_BYTES)
        return nr_journal_write_small(journal, out, record, offset);
    if (out->parts_count > NR_JOURNAL_PARTS_MAX) {
        joined = malloc(out->size_bytes);
        if (!joined)
            return -ENOMEM;
        nr_out_copy(out, 0, joined, out->size_bytes);
        parts[count++] = (struct iovec){joined, out->size_bytes};
    } else {
        for (int i = 0; i < out->parts_count; i++)
            if (out->parts[i].iov_len)
                parts[count++] = out->parts[i];
    }
    if (padding_bytes)
        parts[count++] = (struct iovec){(char *)padding, padding_bytes};
    int result = nr_journal_write(journal, parts, count, offset);
    free(joined);
    return result;
}

int nr_journal_append(struct nr_journal *journal, const struct nr_out *out,
                      struct nr_journal_record *record)
{
    const size_t covered = offsetof(struct nr_journal_record, previous);
    struct nr_journal_point point;

    int result = nr_journal_point(journal, &point);
    if (result < 0)
        return result;
    uint64_t offset = point.offset, length = nr_journal_length(out->size_bytes);
    if (offset + length > journal->size_limit) /* the write itself would raise SIGXFSZ */
        return nr_journal_no_room(journal, offset, length, -EFBIG);
    record->magic = NR_JOURNAL_MAGIC;
    record->flags = 0;
    record->previous = point.crc;
    record->sequence = point.sequence + 1;
    record->time_ns = nr_os_file_time_ns();
    record->crc =
        nr_crc32c(journal->header.salt, (const char *)record + covered, sizeof *record - covered);
    result = nr_journal_write_record(journal, out, record, offset);
    if (result < 0) {
        nr_journal_retract(journal, offset);
        return nr_journal_no_room(journal, offset, length, result);
    }
    if (journal->header.durability == NARU_DURABLE_EVERY_COMMIT) {
        result = nr_journal_sync(journal);
        if (result < 0) {
            nr_journal_retract(journal, offset);
            return result;
        }
    }
    point = (struct nr_journal_point){.offset = offset + length,
                                      .sequence = record->sequence,
                                      .last = offset,
                                      .crc = record->crc};
    nr_journal_publish(journal, &point);
    return 0;
}

/* -- recover -------------------------------------------------------------------------------- */

/* C2 and C3: what stands after the last valid record. */
static int nr_journal_cut_tail(struct nr_journal *journal, struct nr_journal_reader *reader,
                               const struct nr_journal_point *point, uint64_t size_bytes,
                               bool is_rebooted)
{
    uint64_t beyond;

    int result =
        nr_journal_search(journal, reader, point->offset, size_bytes, point->sequence + 1, &beyond);
    if (result == 0)
        return nr_fail(
            -EBADMSG,
            "the journal %s is damaged at %llu, and a valid record stands beyond, at %llu; "
            "nothing was changed. Restore it from a copy",
            journal->path, (unsigned long long)point->offset, (unsigned long long)beyond);
    if (result != -ENODATA)
        return result;
    result = nr_os_file_truncate(journal->fd, point->offset);
    if (result == 0 && (is_rebooted || journal->header.durability != NARU_DURABLE_NONE))
        return nr_journal_sync(journal);
    return result < 0 ? nr_fail(result, "can't cut off the torn tail of the journal %s: %s",
                                journal->path, nr_error_name(result))
                      : 0;
}

static int nr_journal_recover_with(struct nr_journal *journal, struct nr_journal_reader *reader,
                                   bool is_rebooted)
{
    struct nr_journal_point point = {.offset = journal->header.records_offset,
                                     .last = journal->header.records_offset,
                                     .crc = journal->header.salt};
    struct stat status;

    int result = nr_os_fstat(journal->fd, &status);
    if (result < 0)
        return nr_fail(result, "can't see the size of the journal %s: %s", journal->path,
                       nr_error_name(result));
    uint64_t size_bytes = (uint64_t)status.st_size;
    if (!is_rebooted)
        result = nr_journal_point(journal, &point);
    if (result < 0)
        return result;
    if (size_bytes < point.offset) /* C4 */
        return nr_fail(-EBADMSG,
                       "the journal %s has been truncated: it has %llu bytes, and records were "
                       "committed up to %llu; restore it from a copy",
                       journal->path, (unsigned long long)size_bytes,
                       (unsigned long long)point.offset);
    uint64_t before = point.offset;
    do /* C1 */
        result = nr_journal_verify(journal, reader, &point, size_bytes);
    while (result == 0);
    if (result != -ENODATA)
        return result;
    if (size_bytes > point.offset)
        result = nr_journal_cut_tail(journal, reader, &point, size_bytes, is_rebooted);
    else
        result = 0;
    if (result == 0 && point.offset > before &&
        journal->header.durability == NARU_DURABLE_EVERY_COMMIT)
        result = nr_journal_sync(journal);
    if (result == 0 && (is_rebooted || point.offset > before))
        nr_journal_publish(journal, &point);
    return result;
}

int nr_journal_recover(struct nr_journal *journal, bool is_rebooted)
{
    struct nr_journal_reader reader;

    int result = nr_journal_reader_init(&reader);
    if (result == 0)
        result = nr_journal_recover_with(journal, &reader, is_rebooted);
    nr_journal_reader_deinit(&reader);
    return result;
}
