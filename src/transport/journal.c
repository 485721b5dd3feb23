/* SPDX-License-Identifier: MIT */
/* journal -- made whole, and opened: the header and the control page */
#include "transport/journal.h"
#include "data/crc32c.h"
#include "data/participants.h"
#include "os/file.h"
#include "os/memory.h"
#include "os/process.h"
#include "os/random.h"
#include <string.h>

static const char nr_journal_magic[8] = "NaruJrnl";

static uint64_t nr_journal_records_offset(uint32_t participants_max)
{
    uint64_t table_bytes = (uint64_t)participants_max * sizeof(struct nr_participant);

    return NR_JOURNAL_PARTICIPANTS_OFFSET + (table_bytes + NR_JOURNAL_PAGE_BYTES - 1) /
                                                NR_JOURNAL_PAGE_BYTES * NR_JOURNAL_PAGE_BYTES;
}

static uint32_t nr_journal_header_crc(const void *page)
{
    static const uint32_t zero;
    const char *bytes = page;
    size_t at = offsetof(struct nr_journal_header, crc);
    uint32_t crc = nr_crc32c(0, bytes, at);

    crc = nr_crc32c(crc, &zero, sizeof zero);
    return nr_crc32c(crc, bytes + at + sizeof zero, NR_JOURNAL_PAGE_BYTES - at - sizeof zero);
}

/* -- made whole ----------------------------------------------------------------------------- */

static void nr_journal_fill(struct nr_journal_header *header, struct nr_journal_control *control,
                            const struct naru_options *options)
{
    *header = (struct nr_journal_header){
        .layout = NR_JOURNAL_LAYOUT,
        .records_offset = nr_journal_records_offset(options->participants_max),
        .message_size_max_bytes = options->message_size_max_bytes,
        .participants_max = options->participants_max,
        .pattern = options->pattern,
        .when_full = options->when_full,
        .delivery = options->delivery,
        .durability = options->durability,
        .salt = (uint32_t)nr_os_random(),
        .creator_pid = (uint32_t)nr_os_pid(),
        .creator_uid = nr_os_uid(),
        .created_ns = nr_os_file_time_ns(),
    };
    memcpy(header->magic, nr_journal_magic, sizeof header->magic);
    header->crc = nr_journal_header_crc(header);
    control->tail = header->records_offset;
    control->points[0] = (struct nr_journal_point){
        .offset = header->records_offset, .last = header->records_offset, .crc = header->salt};
    control->cursor = nr_journal_cursor_word(header->records_offset);
    control->handed_times = 1;
}

int nr_journal_create(const char *path, const struct naru_options *options)
{
    union {
        char bytes[2][NR_JOURNAL_PAGE_BYTES];
        struct nr_journal_header header;
    } pages = {0};
    struct nr_journal_control control = {0};

    nr_cleanup_close int fd = nr_os_memory_file_new(path, options->file_mode);
    if (fd < 0)
        return nr_fail(
            fd,
            "can't make the journal %s: %s; its directory must be there, be writable, and "
            "on a file system that has unnamed files (O_TMPFILE)",
            path, nr_error_name(fd));
    nr_journal_fill(&pages.header, &control, options);
    memcpy(pages.bytes[1], &control, sizeof control);
    struct iovec part = {pages.bytes, sizeof pages.bytes};
    int result = pages.header.records_offset > nr_os_file_size_limit() ? -EFBIG : 0;
    if (result == 0)
        result = nr_os_memory_reserve(fd, pages.header.records_offset);
    if (result == 0) {
        long written = nr_os_file_write(fd, &part, 1, 0);
        result = written < 0 ? (int)written : written < (long)sizeof pages.bytes ? -ENOSPC : 0;
    }
    if (result == 0 && options->durability != NARU_DURABLE_NONE)
        result = nr_os_file_sync(fd);
    if (result == 0) {
        result = nr_os_memory_publish(fd, path);
        if (result == -EEXIST)
            return result;
    }
    if (result == 0 && options->durability != NARU_DURABLE_NONE)
        result = nr_os_file_sync_name(path);
    return result < 0
               ? nr_fail(result,
                         "can't make the journal %s, whose first %llu bytes are reserved: %s; "
                         "make room, or choose another path",
                         path, (unsigned long long)pages.header.records_offset,
                         nr_error_name(result))
               : 0;
}

/* -- opened --------------------------------------------------------------------------------- */

static int nr_journal_check_header(const void *page, const char *path, uint64_t size_bytes)
{
    const struct nr_journal_header *header = page;

    if (memcmp(header->magic, nr_journal_magic, sizeof header->magic) != 0)
        return nr_fail(-EBADMSG, "%s is no journal; choose another path", path);
    if (header->layout != NR_JOURNAL_LAYOUT)
        return nr_fail(
            -EPROTO,
            "the journal %s has layout %u, and naru %s knows layout %d; read it with the "
            "version that wrote it",
            path, header->layout, naru_version(), NR_JOURNAL_LAYOUT);
    if (header->crc != nr_journal_header_crc(page) || header->participants_max < 1 ||
        header->participants_max > 4096 ||
        header->records_offset != nr_journal_records_offset(header->participants_max) ||
        header->message_size_max_bytes > NR_MESSAGE_LIMIT_BYTES)
        return nr_fail(-EBADMSG, "the header of the journal %s is damaged; restore it from a copy",
                       path);
    if (size_bytes < header->records_offset)
        return nr_fail(-EBADMSG,
                       "the journal %s has been truncated to %llu bytes, within its first pages; "
                       "restore it from a copy",
                       path, (unsigned long long)size_bytes);
    return 0;
}

int nr_journal_attach(struct nr_journal *journal, int fd, const char *path)
{
    _Alignas(8) char page[NR_JOURNAL_PAGE_BYTES] = {0};
    struct stat status;

    *journal = (struct nr_journal){.fd = fd, .path = path};
    int result = nr_os_fstat(fd, &status);
    if (result == 0 && !S_ISREG(status.st_mode))
        return nr_fail(-EBADMSG, "%s is no regular file, so no journal; choose another path", path);
    long size = result < 0 ? result : nr_os_file_read(fd, page, sizeof page, 0);
    if (size < 0)
        return nr_fail((int)size, "reading %s: %s", path, nr_error_name((int)size));
    result = nr_journal_check_header(page, path, (uint64_t)status.st_size);
    if (result < 0)
        return result;
    memcpy(&journal->header, page, sizeof journal->header);
    result = nr_os_memory_map(fd, journal->header.records_offset, true, &journal->memory);
    if (result < 0)
        return nr_fail(result, "can't map the first pages of %s: %s", path, nr_error_name(result));
    journal->control = (void *)((char *)journal->memory + NR_JOURNAL_PAGE_BYTES);
    journal->size_limit = nr_os_file_size_limit();
    return 0;
}

void nr_journal_detach(struct nr_journal *journal)
{
    nr_os_memory_unmap(journal->memory, journal->header.records_offset);
    journal->memory = NULL;
    journal->control = NULL;
    nr_os_close(&journal->fd);
}

uint64_t nr_journal_cursor_word(uint64_t offset)
{
    return offset | (uint64_t)(nr_crc32c(0, &offset, sizeof offset) & 0xffff) << 48;
}

int nr_journal_cursor_offset(const struct nr_journal *journal, uint64_t word, uint64_t tail,
                             uint64_t *ret)
{
    uint64_t offset = word & (((uint64_t)1 << 48) - 1);

    if (nr_journal_cursor_word(offset) != word || offset < journal->header.records_offset ||
        offset > tail || offset % NR_JOURNAL_ALIGN_BYTES)
        return nr_fail(-EBADMSG,
                       "the cursor of the journal %s is damaged (%#llx, with the tail at %llu); "
                       "restore it from a copy",
                       journal->path, (unsigned long long)word, (unsigned long long)tail);
    *ret = offset;
    return 0;
}

/* The last record must be what the tail says it is. */
static int nr_journal_check_last(const struct nr_journal *journal)
{
    struct nr_journal_record record;
    struct nr_journal_reader reader;
    struct nr_journal_point point;

    int result = nr_journal_point(journal, &point);
    if (result < 0 || point.sequence == 0)
        return result;
    result = nr_journal_reader_init(&reader);
    if (result < 0)
        return result;
    result = nr_journal_peek(journal, &reader, point.last, point.offset, &record);
    nr_journal_reader_deinit(&reader);
    if (result == 0 && (record.sequence != point.sequence || record.crc != point.crc ||
                        point.last + nr_journal_length(record.size_bytes) != point.offset))
        result = nr_fail(-EBADMSG,
                         "the journal %s is damaged: its last record at %llu is not the one that "
                         "its tail names; restore it from a copy",
                         journal->path, (unsigned long long)point.last);
    return result;
}

/* After a reboot the control page may be older, or newer, than the records. */
static int nr_journal_fit_cursor(struct nr_journal *journal, bool is_rebooted)
{
    struct nr_journal_control *control = journal->control;
    uint64_t offset, tail = nr_journal_tail(journal);
    uint64_t beyond = is_rebooted ? UINT64_MAX : tail;

    int result = nr_journal_cursor_offset(journal, control->cursor, beyond, &offset);
    if (result == 0 && offset > tail)
        control->cursor = nr_journal_cursor_word(tail);
    return result;
}

int nr_journal_begin(struct nr_journal *journal)
{
    struct nr_journal_control *control = journal->control;
    uint64_t boot[2];

    int result = nr_os_file_boot(boot);
    if (result < 0)
        return nr_fail(result, "can't tell one boot from another: %s; mount /proc",
                       nr_error_name(result));
    bool is_rebooted = (control->boot[0] || control->boot[1]) &&
                       (control->boot[0] != boot[0] || control->boot[1] != boot[1]);
    memset((char *)journal->memory + NR_JOURNAL_PARTICIPANTS_OFFSET, 0,
           journal->header.records_offset - NR_JOURNAL_PARTICIPANTS_OFFSET);
    control->lock = control->is_dirty = control->doorbell = control->watchers = 0;
    control->death_word = control->receiver = 0;
    control->synced_ns = 0;
    result = nr_journal_recover(journal, is_rebooted);
    if (result == 0)
        result = nr_journal_check_last(journal);
    if (result == 0)
        result = nr_journal_fit_cursor(journal, is_rebooted);
    if (result < 0)
        return result;
    control->pid_namespace = nr_os_pid_namespace();
    control->boot[0] = boot[0];
    control->boot[1] = boot[1];
    return 0;
}

int nr_journal_join(const struct nr_journal *journal)
{
    if (journal->control->pid_namespace != nr_os_pid_namespace())
        return nr_fail(-EXDEV,
                       "the journal %s is open in another PID namespace, where this process can't "
                       "tell who is alive; close it there, or open it there",
                       journal->path);
    return nr_journal_check_last(journal);
}
