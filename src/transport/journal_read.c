/* SPDX-License-Identifier: MIT */
/* journal_read -- records out of the file, checked before anybody sees them */
#include "data/crc32c.h"
#include "os/file.h"
#include "transport/journal.h"
#include <stdlib.h>
#include <string.h>

int nr_journal_reader_init(struct nr_journal_reader *reader)
{
    *reader = (struct nr_journal_reader){.buffer = malloc(NR_JOURNAL_BUFFER_BYTES)};
    return reader->buffer ? 0 : nr_fail(-ENOMEM, "no memory to read a journal with");
}

void nr_journal_reader_deinit(struct nr_journal_reader *reader)
{
    free(reader->buffer);
    *reader = (struct nr_journal_reader){0};
}

static int nr_journal_damaged(const struct nr_journal *journal, uint64_t offset, const char *what)
{
    return nr_fail(-EBADMSG,
                   "the journal %s is damaged: the record at %llu %s; restore it from a copy",
                   journal->path, (unsigned long long)offset, what);
}

static int nr_journal_cut_short(const struct nr_journal *journal, uint64_t offset)
{
    return nr_fail(
        -EBADMSG,
        "the journal %s has been truncated: it ends within the record at %llu, which was "
        "committed; restore it from a copy",
        journal->path, (unsigned long long)offset);
}

/* At least `size_bytes` at `offset`, or as many as there are below `end`; how many. */
static long nr_journal_fetch(const struct nr_journal *journal, struct nr_journal_reader *reader,
                             uint64_t offset, size_t size_bytes, uint64_t end)
{
    if (offset >= reader->from && offset + size_bytes <= reader->end)
        return (long)(reader->end - offset);
    uint64_t ahead = end > offset ? end - offset : 0;
    if (ahead > NR_JOURNAL_BUFFER_BYTES)
        ahead = NR_JOURNAL_BUFFER_BYTES;
    long size = nr_os_file_read(journal->fd, reader->buffer, (size_t)ahead, offset);
    reader->from = offset;
    reader->end = offset + (size > 0 ? (uint64_t)size : 0);
    return size < 0 ? nr_fail((int)size, "reading the journal %s at %llu: %s", journal->path,
                              (unsigned long long)offset, nr_error_name((int)size))
                    : size;
}

/* V2 and V3. NULL, or what is wrong with it. */
static const char *nr_journal_judge(const struct nr_journal *journal,
                                    const struct nr_journal_record *record)
{
    const size_t covered = offsetof(struct nr_journal_record, previous);

    if (record->magic != NR_JOURNAL_MAGIC)
        return "has no record's magic number";
    if (record->flags || record->size_bytes > journal->header.message_size_max_bytes)
        return "has impossible fields";
    if (record->crc !=
        nr_crc32c(journal->header.salt, (const char *)record + covered, sizeof *record - covered))
        return "has a header that does not match its checksum";
    return NULL;
}

int nr_journal_peek(const struct nr_journal *journal, struct nr_journal_reader *reader,
                    uint64_t offset, uint64_t end, struct nr_journal_record *ret)
{
    struct nr_journal_record record;

    if (offset < journal->header.records_offset || offset % NR_JOURNAL_ALIGN_BYTES ||
        end < offset || end - offset < sizeof record)
        return nr_journal_damaged(journal, offset, "does not begin where one can");
    long size = nr_journal_fetch(journal, reader, offset, sizeof record, end);
    if (size < (long)sizeof record)
        return size < 0 ? (int)size : nr_journal_cut_short(journal, offset);
    memcpy(&record, reader->buffer + (offset - reader->from), sizeof record);
    const char *fault = nr_journal_judge(journal, &record);
    if (!fault && nr_journal_length(record.size_bytes) > end - offset)
        fault = "reaches beyond the tail";
    if (fault)
        return nr_journal_damaged(journal, offset, fault);
    *ret = record;
    return 0;
}

/* V7 */
static bool nr_journal_is_zero(const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (bytes[i])
            return false;
    return true;
}

/* A payload that is larger than the buffer: straight to where it is wanted. */
static int nr_journal_payload_large(const struct nr_journal *journal, uint64_t offset,
                                    const struct nr_journal_record *record, void *data)
{
    char padding[NR_JOURNAL_ALIGN_BYTES] = {0};
    size_t padding_bytes =
        nr_journal_length(record->size_bytes) - sizeof *record - record->size_bytes;

    long size = nr_os_file_read(journal->fd, data, record->size_bytes, offset + sizeof *record);
    long rest = size < 0 ? size
                         : nr_os_file_read(journal->fd, padding, padding_bytes,
                                           offset + sizeof *record + record->size_bytes);
    if (rest < 0)
        return nr_fail((int)rest, "reading the journal %s at %llu: %s", journal->path,
                       (unsigned long long)offset, nr_error_name((int)rest));
    if (size < (long)record->size_bytes || rest < (long)padding_bytes)
        return nr_journal_cut_short(journal, offset);
    if (record->payload_crc != nr_crc32c(journal->header.salt, data, record->size_bytes) ||
        !nr_journal_is_zero(padding, padding_bytes))
        return nr_journal_damaged(journal, offset,
                                  "has a payload that does not match its checksum");
    return 0;
}

int nr_journal_payload(const struct nr_journal *journal, struct nr_journal_reader *reader,
                       uint64_t offset, const struct nr_journal_record *record, void *data)
{
    uint64_t length = nr_journal_length(record->size_bytes);

    if (length > NR_JOURNAL_BUFFER_BYTES)
        return nr_journal_payload_large(journal, offset, record, data);
    uint64_t tail = nr_journal_tail(journal);
    long size = nr_journal_fetch(journal, reader, offset, (size_t)length,
                                 tail > offset + length ? tail : offset + length);
    if (size < (long)length)
        return size < 0 ? (int)size : nr_journal_cut_short(journal, offset);
    const char *payload = reader->buffer + (offset - reader->from) + sizeof *record;
    if (record->payload_crc != nr_crc32c(journal->header.salt, payload, record->size_bytes) ||
        !nr_journal_is_zero(payload + record->size_bytes,
                            (size_t)length - sizeof *record - record->size_bytes))
        return nr_journal_damaged(journal, offset,
                                  "has a payload that does not match its checksum");
    if (record->size_bytes)
        memcpy(data, payload, record->size_bytes);
    return 0;
}

/* V6 and V7 piece by piece, for any size. */
static int nr_journal_verify_payload(const struct nr_journal *journal,
                                     struct nr_journal_reader *reader, uint64_t offset,
                                     const struct nr_journal_record *record, uint64_t end)
{
    uint64_t at = offset + sizeof *record, left = record->size_bytes;
    uint64_t padding = nr_journal_length(left) - sizeof *record - left;
    uint32_t crc = journal->header.salt;

    while (left + padding) {
        long size = nr_journal_fetch(journal, reader, at, 1, end);
        if (size <= 0)
            return size < 0 ? (int)size : -ENODATA;
        const char *bytes = reader->buffer + (at - reader->from);
        uint64_t count = (uint64_t)size < left ? (uint64_t)size : left;
        if (left == 0) {
            count = (uint64_t)size < padding ? (uint64_t)size : padding;
            if (!nr_journal_is_zero(bytes, count))
                return -ENODATA;
            padding -= count;
        } else {
            crc = nr_crc32c(crc, bytes, count);
            left -= count;
        }
        at += count;
    }
    return crc == record->payload_crc ? 0 : -ENODATA;
}

int nr_journal_verify(const struct nr_journal *journal, struct nr_journal_reader *reader,
                      struct nr_journal_point *point, uint64_t end)
{
    struct nr_journal_record record;
    uint64_t offset = point->offset;

    if (end < offset || end - offset < sizeof record)
        return -ENODATA;
    long size = nr_journal_fetch(journal, reader, offset, sizeof record, end);
    if (size < (long)sizeof record)
        return size < 0 ? (int)size : -ENODATA;
    memcpy(&record, reader->buffer + (offset - reader->from), sizeof record);
    if (nr_journal_judge(journal, &record) || record.previous != point->crc ||
        record.sequence != point->sequence + 1 ||
        nr_journal_length(record.size_bytes) > end - offset)
        return -ENODATA;
    int result = nr_journal_verify_payload(journal, reader, offset, &record, end);
    if (result == 0)
        *point = (struct nr_journal_point){
            .offset = offset + nr_journal_length(record.size_bytes),
            .sequence = record.sequence,
            .last = offset,
            .crc = record.crc,
        };
    return result;
}

int nr_journal_search(const struct nr_journal *journal, struct nr_journal_reader *reader,
                      uint64_t offset, uint64_t end, uint64_t sequence, uint64_t *ret)
{
    struct nr_journal_record record;

    for (; end - offset >= sizeof record; offset += NR_JOURNAL_ALIGN_BYTES) {
        long size = nr_journal_fetch(journal, reader, offset, sizeof record, end);
        if (size < (long)sizeof record)
            return size < 0 ? (int)size : -ENODATA;
        memcpy(&record, reader->buffer + (offset - reader->from), sizeof record);
        if (record.magic == NR_JOURNAL_MAGIC && !nr_journal_judge(journal, &record) &&
            record.sequence > sequence) {
            *ret = offset;
            return 0;
        }
    }
    return -ENODATA;
}
