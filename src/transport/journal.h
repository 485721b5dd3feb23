/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * journal -- a file of records: its format, and what makes a record valid
 *
 * THE FILE   All numbers are little-endian and naturally aligned.
 *
 *   0          header page: struct nr_journal_header, zeros up to 4096. Written once.
 *   4096       control page: struct nr_journal_control. Mapped by every process that is attached.
 *   8192       participants_max entries of data/participants.h, zeros up to the next multiple of 4096.
 *   R          the records, one after the other, without gaps; R = records_offset.
 *
 * A RECORD   struct nr_journal_record (56 bytes), the payload, zeros up to a multiple of 8. It is written
 *            by one pwrite or pwritev at the end of the file, by whoever holds the writers' lock.
 *
 * A record at offset O, which follows the record P (or is the first), is VALID when
 *   V1  O is a multiple of 8, O >= R, and the whole record lies within the file;
 *   V2  magic is NR_JOURNAL_MAGIC, flags is 0, and size_bytes is at most message_size_max_bytes;
 *   V3  crc is the CRC-32C, begun with the header's salt, of the 48 bytes that follow the field crc;
 *   V4  previous is P's crc; the salt for the first record;
 *   V5  sequence is P's plus 1; 1 for the first record;
 *   V6  payload_crc is the CRC-32C, begun with the salt, of the payload;
 *   V7  the padding is zero.
 * So a checksum covers the whole history before it, and a record of another journal is never valid.
 *
 * THE TAIL   control.tail is [offset of the end | which of the two points describes it]. A point holds
 *   what the next record needs to know. An append fills the point that is not in use, then stores the
 *   tail: one word, so that a kill leaves the old end or the new one. Every record below the tail is
 *   committed; the bytes below it never change.
 *
 * RECOVERY   By whoever takes the writers' lock from a dead owner, or opens a journal that nobody has open:
 *   C1  after the tail follow whole valid records: they become committed, whoever wrote them;
 *   C2  then bytes that are no valid record: a torn tail, which is cut off, and that is synced,
 *       before anything is appended (else a later power cut could resurrect what was declared lost);
 *   C3  but if a valid record header of a higher sequence stands among those bytes, the file is
 *       damaged: -EBADMSG with both offsets, and nothing is changed;
 *   C4  a file that ends below the tail was truncated: -EBADMSG. Not so after a reboot, since a power
 *       cut may lose what was not synced: then the tail is not believed, but found by reading
 *       all records from R on, and a cursor beyond it is set back to it.
 *
 * THE CURSOR control.cursor is [check:16 | offset:48] of the first record that was not received yet (at
 *   most once) or not acknowledged (at least once); the check is the low half of the offset's CRC-32C.
 *
 * Ownership  A struct nr_journal is one process's open side; it holds private copies of all bounds.
 * Trust      Records are read by pread into private memory and checked there; never mapped, so a file that
 *            someone truncates is an error, not SIGBUS. The control page is mapped: who truncates the
 *            file to less than its first pages while it is open is outside the promise.
 * Returns    0; -EBADMSG damaged, with the offset in the text; -EPROTO another layout version; -ENOSPC,
 *            -EFBIG, -EIO: nothing was committed.
 */
#include "base/error.h"
#include "transport/endpoint.h"

enum {
    NR_JOURNAL_LAYOUT = 2,
    NR_JOURNAL_PAGE_BYTES = 4096,
    NR_JOURNAL_PARTICIPANTS_OFFSET = 2 * NR_JOURNAL_PAGE_BYTES,
    NR_JOURNAL_ALIGN_BYTES = 8,
    NR_JOURNAL_BUFFER_BYTES = 64 * 1024,
    NR_JOURNAL_MAGIC = 0x6365524e, /* "NRec" */
    NR_JOURNAL_PARTS_MAX = 64,     /* a message in more parts is put together first */
    NR_JOURNAL_SMALL_BYTES = 1024, /* up to here a copy is cheaper than three parts */
};

struct nr_journal_header {
    char magic[8]; /* "NaruJrnl" */
    uint32_t layout;
    uint32_t crc; /* CRC-32C of the page's 4096 bytes with this field 0 */
    uint64_t records_offset;
    uint64_t message_size_max_bytes;
    uint32_t participants_max;
    uint32_t pattern, when_full, delivery, durability; /* the enums of naru/endpoint.h */
    uint32_t salt;                                     /* random */
    uint32_t creator_pid, creator_uid;
    int64_t created_ns; /* time of day */
};

struct nr_journal_record {
    uint32_t magic;
    uint32_t crc;
    uint32_t previous;
    uint32_t payload_crc;
    uint32_t size_bytes; /* of the payload */
    uint32_t flags;      /* 0 */
    uint32_t pid, uid;   /* of the sender */
    uint64_t sequence;
    int64_t type;
    int64_t time_ns; /* time of day when it was appended */
};
_Static_assert(sizeof(struct nr_journal_record) == 56, "the format");

/* The state at the end of some record. */
struct nr_journal_point {
    uint64_t offset;   /* of the end: where the next record goes */
    uint64_t sequence; /* of the last record; 0: there is none */
    uint64_t last;     /* offset of the last record */
    uint32_t crc;      /* the last record's; the salt if there is none */
    uint32_t reserved;
};

struct nr_journal_control {
    /* Lasting. Written by the owner of the writers' lock. */
    _Alignas(64) uint64_t tail;
    _Alignas(64) struct nr_journal_point points[2];
    /* Lasting. cursor: by CAS, any receiver; at least once: the one receiver, like the other two. */
    _Alignas(64) uint64_t cursor;
    uint64_t handed_end;   /* at least once: the end of what was ever in a hand */
    uint32_t handed_times; /* how often */
    uint32_t reserved;
    /* Who may be attached; written when nobody else is. */
    _Alignas(64) uint64_t boot[2];
    uint64_t pid_namespace;
    /* Void as soon as nobody is attached. */
    _Alignas(64) uint32_t lock; /* the writers': see file_lock.c */
    uint32_t is_dirty;          /* bytes after the tail must be looked at before the next append */
    uint64_t synced_ns;         /* periodic: when, by the monotonic clock */
    _Alignas(64) uint32_t doorbell; /* receivers sleep on it: see file_bell.c */
    uint32_t watchers;              /* 1: someone waits with a descriptor */
    uint32_t death_word;            /* always 0 */
    uint32_t receiver;              /* at least once: index of the one receiver + 1 */
    uint32_t changes;               /* of the participants; see party.h */
    _Alignas(64) uint64_t touched;  /* written by pwrite for inotify's sake; means nothing */
};
_Static_assert(sizeof(struct nr_journal_header) <= NR_JOURNAL_PAGE_BYTES, "one page");
_Static_assert(sizeof(struct nr_journal_control) <= NR_JOURNAL_PAGE_BYTES, "one page");

struct nr_journal {
    int fd;
    const char *path;                /* for texts */
    struct nr_journal_header header; /* private, checked */
    void *memory;                    /* the first records_offset bytes of the file */
    struct nr_journal_control *control;
    uint64_t size_limit; /* RLIMIT_FSIZE when it was opened */
    int failed;          /* a failed sync: nothing is written any more */
};

/* Bytes of the file in private memory. Below the tail they never change, so they stay right. */
struct nr_journal_reader {
    char *buffer;
    uint64_t from, end;
};

/* -- making and opening: journal.c --------------------------------------------------------- */

/* The options are complete and hold. -EEXIST bare: someone was faster. */
int nr_journal_create(const char *path, const struct naru_options *options);

/* Checks the header and maps the control part; the journal owns `fd` then. Does not look at the records. */
int nr_journal_attach(struct nr_journal *journal, int fd, const char *path);
void nr_journal_detach(struct nr_journal *journal);

/* After attach, when nobody else has it open: makes the volatile part anew, and recovers. */
int nr_journal_begin(struct nr_journal *journal);

/* After attach, when others have it open. */
int nr_journal_join(const struct nr_journal *journal);

uint64_t nr_journal_cursor_word(uint64_t offset);
/* *ret = the offset in `word`; -EBADMSG unless it is one, and not above `tail`. */
int nr_journal_cursor_offset(const struct nr_journal *journal, uint64_t word, uint64_t tail,
                             uint64_t *ret);

/* -- reading: journal_read.c --------------------------------------------------------------- */

static inline uint64_t nr_journal_length(uint64_t payload_bytes)
{
    return (sizeof(struct nr_journal_record) + payload_bytes + NR_JOURNAL_ALIGN_BYTES - 1) &
           ~(uint64_t)(NR_JOURNAL_ALIGN_BYTES - 1);
}

/* The end of what is committed. [A1], partner of nr_journal_publish()'s [R1]: without it a receiver could
   see the new tail and read, through the page cache, what stood there before. */
static inline uint64_t nr_journal_tail(const struct nr_journal *journal)
{
    return __atomic_load_n(&journal->control->tail, __ATOMIC_ACQUIRE) & ~(uint64_t)7;
}

int nr_journal_reader_init(struct nr_journal_reader *reader);
void nr_journal_reader_deinit(struct nr_journal_reader *reader);

/* V1 to V3 for the record at `offset`, below `end`; its header in *ret. */
int nr_journal_peek(const struct nr_journal *journal, struct nr_journal_reader *reader,
                    uint64_t offset, uint64_t end, struct nr_journal_record *ret);

/* The payload of that record, V6 and V7. On an error `data` may hold anything. */
int nr_journal_payload(const struct nr_journal *journal, struct nr_journal_reader *reader,
                       uint64_t offset, const struct nr_journal_record *record, void *data);

/* All of V1 to V7 for the record after *point, within `end`. 0: *point stands after it; -ENODATA: it is
   not valid; or the error of the read. */
int nr_journal_verify(const struct nr_journal *journal, struct nr_journal_reader *reader,
                      struct nr_journal_point *point, uint64_t end);

/* The offset of a record header, V1 to V3, with a sequence above `sequence` in [offset, end). -ENODATA. */
int nr_journal_search(const struct nr_journal *journal, struct nr_journal_reader *reader,
                      uint64_t offset, uint64_t end, uint64_t sequence, uint64_t *ret);

/* -- writing, with the writers' lock: journal_write.c --------------------------------------- */

/* The end and what describes it, consistent, for anybody; -EBADMSG. */
int nr_journal_point(const struct nr_journal *journal, struct nr_journal_point *ret);

/* Appends. `record` holds size, payload_crc, type, pid, uid. On an error nothing is committed. */
int nr_journal_append(struct nr_journal *journal, const struct nr_out *out,
                      struct nr_journal_record *record);
uint32_t nr_journal_payload_crc(const struct nr_journal *journal, const struct nr_out *out);

/* C1 to C4. `is_rebooted`: the tail is not believed. */
int nr_journal_recover(struct nr_journal *journal, bool is_rebooted);

/* Syncs; after a failure it is never tried again: -EIO from then on. */
int nr_journal_sync(struct nr_journal *journal);
