/* SPDX-License-Identifier: MIT */
/*
 * file -- file:// : opening, closing, repair
 *
 * Opening    Under a lock on the file's first byte (open-file-description lock, held only meanwhile). Whoever is
 *            attached holds a shared lock on the second byte. If nobody does, the volatile part of the
 *            control page is void: it is made anew and the journal is recovered. Such a lock may seem to be
 *            held by a process that is dead (its forked child has the description), never the other way
 *            round; then it goes as with any other participant's death.
 * Death      Killed while opening: the kernel drops the lock, and the next one does it all again. An
 *            attached process's death is repaired by nr_file_repair(), called by the party.
 * Lives      The file stays when all have closed it; naru_unlink() removes it.
 */
#include "transport/file.h"
#include "base/cleanup.h"
#include "os/file.h"
#include "os/process.h"
#include <stdlib.h>
#include <string.h>

enum {
    NR_FILE_GATE_BYTE = 0,     /* exclusive: someone opens */
    NR_FILE_ATTACHED_BYTE = 1, /* shared: someone has it open */
    NR_FILE_PARTICIPANTS = 64,
    NR_FILE_TRIES_MAX = 16, /* it is made by one and unlinked by another, all the time */
    NR_FILE_GATE_SLICE_NS = 1000000,
};

static const struct nr_transport nr_file_at_least_once;

/* -- options -------------------------------------------------------------------------------- */

static int nr_file_refuse(const struct nr_request *request)
{
    const struct naru_options *options = &request->options;
    const struct nr_refusal refused[] = {
        {"when_full", options->when_full > NARU_BLOCK && options->when_full != NARU_FAIL,
         "a journal is never full before the disk is; use shm://"},
        {"capacity_messages", options->capacity_messages,
         "a journal holds as many messages as the disk has room for; use shm://"},
        {"payload_bytes", options->payload_bytes, "a journal takes room as it grows"},
        {"held_max", options->held_max, "a journal's receiver may hold any number; use shm://"},
        {"one_to_one", options->one_to_one, "a journal has any number of senders; use shm://"},
        {"acknowledge", options->acknowledge, "only tcp:// acknowledges"},
        {"type", (uint64_t)options->type, "only sysv:// selects by type"},
        {"signal_number", (uint64_t)options->signal_number, "only signal:// has one"},
        {"peer_uid_any", options->peer_uid_any, "only unix:// checks the peer's user"},
    };

    return nr_request_refuse_each(request, refused, nr_count_of(refused));
}

static struct naru_options nr_file_defaults(const struct naru_options *given)
{
    struct naru_options options = *given;

    options.when_full = options.when_full ? options.when_full : NARU_BLOCK;
    options.delivery = options.delivery ? options.delivery : NARU_AT_MOST_ONCE;
    options.durability = options.durability ? options.durability : NARU_DURABLE_NONE;
    if (!options.message_size_max_bytes)
        options.message_size_max_bytes = NR_MESSAGE_LIMIT_BYTES;
    if (!options.participants_max)
        options.participants_max = NR_FILE_PARTICIPANTS;
    return options;
}

/* What the file says holds; what the caller set must be the same. */
static int nr_file_settle(struct nr_file *file, const struct nr_request *request)
{
    const struct nr_journal_header *header = &file->journal.header;
    struct naru_options *options = &file->endpoint.options;
    const struct naru_options *wanted = &request->options;
    const struct {
        const char *name;
        uint64_t wanted, holds;
    } settled[] = {
        {"pattern", wanted->pattern, header->pattern},
        {"when_full", wanted->when_full, header->when_full},
        {"delivery", wanted->delivery, header->delivery},
        {"durability", wanted->durability, header->durability},
        {"message_size_max_bytes", wanted->message_size_max_bytes, header->message_size_max_bytes},
        {"participants_max", wanted->participants_max, header->participants_max},
    };

    for (size_t i = 0; i < nr_count_of(settled); i++) {
        int result =
            nr_request_settle(request, settled[i].name, settled[i].wanted, settled[i].holds);
        if (result < 0)
            return result;
    }
    options->pattern = (enum naru_pattern)header->pattern;
    options->when_full = (enum naru_when_full)header->when_full;
    options->delivery = (enum naru_delivery)header->delivery;
    options->durability = (enum naru_durability)header->durability;
    options->message_size_max_bytes = header->message_size_max_bytes;
    options->participants_max = header->participants_max;
    return 0;
}

/* -- repair, close -------------------------------------------------------------------------- */

static void nr_file_repair(void *context, unsigned dead)
{
    struct nr_file *file = context;
    uint32_t holder = dead + 1;

    nr_file_lock_repair(file, dead);
    __atomic_compare_exchange_n(&file->journal.control->receiver, &holder, 0, false,
                                __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    nr_file_bell_ring_all(file);
}

static void nr_file_leave(struct naru_endpoint *endpoint)
{
    struct nr_file *file = nr_file_of(endpoint);

    nr_file_sync_in_time(file, true);
    nr_file_recv_end(file);
    nr_party_leave(&file->party);
}

static void nr_file_release(struct naru_endpoint *endpoint)
{
    struct nr_file *file = nr_file_of(endpoint);

    for (size_t i = 0; i < file->held_count; i++)
        free(file->held[i].data);
    free(file->held);
    file->held = NULL;
    file->held_count = file->held_capacity = 0;
    nr_file_ready_deinit(file);
    nr_journal_reader_deinit(&file->reader);
    nr_party_release(&file->party);
    nr_journal_detach(&file->journal);
    free(file->path);
    file->path = NULL;
}

/* -- open ----------------------------------------------------------------------------------- */

static int nr_file_open_gate(struct nr_file *file)
{
    struct nr_deadline deadline = nr_deadline_in(file->endpoint.options.peer_timeout_ns);
    int result;

    while ((result = nr_os_file_lock(file->journal.fd, NR_FILE_GATE_BYTE, NR_OS_FILE_EXCLUSIVE)) ==
           -EAGAIN) {
        struct nr_deadline slice = nr_deadline_in(NR_FILE_GATE_SLICE_NS);
        if (nr_deadline_left_ns(&deadline) == 0)
            return nr_fail(-EBUSY,
                           "%s: another process has been opening it for %.1f s; see whether it is "
                           "stopped, or raise peer_timeout_ns",
                           file->path, (double)file->endpoint.options.peer_timeout_ns / 1e9);
        nr_os_poll(NULL, 0, &slice);
    }
    return result < 0
               ? nr_fail(result, "can't lock the journal %s: %s", file->path, nr_error_name(result))
               : 0;
}

/* With the gate: takes part. */
static int nr_file_join(struct nr_file *file, enum naru_role role)
{
    struct nr_journal *journal = &file->journal;

    int result = nr_os_file_lock(journal->fd, NR_FILE_ATTACHED_BYTE, NR_OS_FILE_EXCLUSIVE);
    if (result < 0 && result != -EAGAIN)
        return nr_fail(result, "can't lock the journal %s: %s", file->path, nr_error_name(result));
    result = result == 0 ? nr_journal_begin(journal) : nr_journal_join(journal);
    if (result < 0)
        return result;
    result = nr_os_file_lock(journal->fd, NR_FILE_ATTACHED_BYTE, NR_OS_FILE_SHARED);
    if (result < 0)
        return nr_fail(result, "can't lock the journal %s: %s", file->path, nr_error_name(result));
    file->party = (struct nr_party){
        .table = {.entries = (void *)((char *)journal->memory + NR_JOURNAL_PARTICIPANTS_OFFSET),
                  .count = journal->header.participants_max},
        .death_word = &journal->control->death_word,
        .changes = &journal->control->changes,
        .repair = nr_file_repair,
        .context = file,
    };
    result = nr_party_join(&file->party, role);
    if (result == 0 && file->is_at_least_once && (role & NARU_RECEIVER))
        result = nr_file_recv_begin(file);
    return result;
}

/* `fd` becomes the endpoint's. */
static int nr_file_attach(struct nr_file *file, int fd, const struct nr_request *request)
{
    int result = nr_journal_attach(&file->journal, fd, file->path);

    if (result == 0)
        result = nr_file_settle(file, request);
    if (result == 0)
        result = nr_journal_reader_init(&file->reader);
    if (result == 0)
        result = nr_file_open_gate(file);
    if (result < 0)
        return result;
    file->is_at_least_once = file->endpoint.options.delivery == NARU_AT_LEAST_ONCE;
    if (file->is_at_least_once)
        file->endpoint.transport = &nr_file_at_least_once;
    result = nr_file_join(file, request->role);
    nr_os_file_lock(fd, NR_FILE_GATE_BYTE, NR_OS_FILE_UNLOCKED);
    return result;
}

/* Creates or attaches, as the options say; a descriptor. */
static int nr_file_find(const struct nr_request *request)
{
    struct naru_options defaults = nr_file_defaults(&request->options);
    enum naru_create create = request->options.create;
    const char *path = request->uri.rest;
    int fd = -EEXIST;

    for (int i = 0; i < NR_FILE_TRIES_MAX; i++) {
        int result = create == NARU_ATTACH ? 0 : -ENOENT;
        if (create != NARU_CREATE || i > 0)
            result = fd = nr_os_open(path, O_RDWR | O_NONBLOCK, 0);
        if (fd >= 0)
            return fd;
        if (result != -ENOENT || create == NARU_ATTACH)
            break;
        result = nr_journal_create(path, &defaults);
        if (result == -EEXIST && create == NARU_CREATE)
            return nr_fail(-EEXIST, "%s is there already; attach to it, or remove it first", path);
        if (result < 0 && result != -EEXIST)
            return result;
    }
    return nr_fail(fd == -EISDIR ? -EBADMSG : fd, "can't open the journal %s: %s%s", path,
                   nr_error_name(fd),
                   fd == -EROFS || fd == -EACCES
                       ? "; all who use it must be allowed to write it: its maker's file_mode"
                   : fd == -ENOENT ? "; the other side, or options.create, makes it"
                                   : "");
}

static int nr_file_open(struct naru_endpoint **ret, const struct nr_request *request)
{
    struct naru_endpoint *endpoint;

    int result = nr_uri_check_path(&request->uri);
    if (result == 0)
        result = nr_file_refuse(request);
    if (result < 0)
        return result;
    int fd = nr_file_find(request);
    if (fd < 0)
        return fd;
    result = nr_endpoint_new(&endpoint, sizeof(struct nr_file), &nr_file_transport, request);
    if (result < 0) {
        nr_os_close(&fd);
        return result;
    }
    struct nr_file *file = nr_file_of(endpoint);
    file->journal.fd = fd;
    file->watch_fd = file->event_fd = file->epoll_fd = file->owner_fd = file->writable_fd = -1;
    file->read_lock = file->ready_lock = (struct nr_lock)NR_LOCK_INIT;
    file->pid = (uint32_t)nr_os_pid();
    file->uid = nr_os_uid();
    file->path = strdup(request->uri.rest);
    result = file->path ? nr_file_attach(file, fd, request)
                        : nr_fail(-ENOMEM, "no memory for an endpoint of %s", request->text);
    if (result < 0) {
        if (file->party.is_joined)
            nr_file_leave(endpoint);
        nr_file_release(endpoint);
        nr_endpoint_free(endpoint);
        return result;
    }
    *ret = endpoint;
    return 0;
}

/* -- the rest ------------------------------------------------------------------------------- */

static int nr_file_unlink(const struct nr_uri *uri)
{
    struct nr_journal_header header = {0};
    struct stat status;
    int result = nr_uri_check_path(uri);

    if (result < 0)
        return result;
    const char *path = uri->rest;
    result = nr_os_stat(path, &status);
    if (result == 0 && S_ISREG(status.st_mode)) {
        nr_cleanup_close int fd = nr_os_open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW, 0);
        result = fd < 0 ? fd : (int)nr_os_file_read(fd, &header, sizeof header, 0);
    }
    if (result >= 0 && memcmp(header.magic, "NaruJrnl", sizeof header.magic) != 0)
        return nr_fail(-EBADMSG, "%s is no journal, so it stays", path);
    if (result >= 0)
        result = nr_os_unlink(path);
    return result < 0
               ? nr_fail(result, "can't remove the journal %s: %s", path, nr_error_name(result))
               : 0;
}

static int nr_file_stat(struct naru_endpoint *endpoint, struct naru_stat *stat)
{
    struct nr_file *file = nr_file_of(endpoint);
    struct nr_journal_record record;
    struct nr_journal_point point;
    uint64_t offset;

    uint64_t cursor = __atomic_load_n(&file->journal.control->cursor, __ATOMIC_ACQUIRE);
    int result = nr_journal_point(&file->journal, &point);
    if (result == 0)
        result = nr_journal_cursor_offset(&file->journal, cursor, point.offset, &offset);
    if (result < 0)
        return result;
    if (offset < point.offset) {
        nr_lock_scope(&file->read_lock);
        result = nr_journal_peek(&file->journal, &file->reader, offset, point.offset, &record);
        if (result < 0)
            return result;
        stat->queued_messages = point.sequence - record.sequence + 1;
        stat->queued_bytes = point.offset - offset;
    }
    nr_party_sweep(&file->party, true); /* the dead are not peers */
    stat->peers = nr_party_count(&file->party, 0);
    stat->known |= NARU_STAT_QUEUED | NARU_STAT_QUEUED_BYTES | NARU_STAT_PEERS;
    return 0;
}

const struct nr_transport nr_file_transport = {
    .scheme = "file",
    .open = nr_file_open,
    .leave = nr_file_leave,
    .release = nr_file_release,
    .unlink = nr_file_unlink,
    .send = nr_file_send,
    .recv = nr_file_recv,
    .descriptor = nr_file_ready_descriptor,
    .arm = nr_file_ready_arm,
    .stat = nr_file_stat,
};

/* The same for a journal with that contract: a taken message is the journal's until it is acknowledged. */
static const struct nr_transport nr_file_at_least_once = {
    .scheme = "file",
    .open = nr_file_open,
    .leave = nr_file_leave,
    .release = nr_file_release,
    .unlink = nr_file_unlink,
    .send = nr_file_send,
    .recv = nr_file_recv,
    .take = nr_file_take,
    .ack = nr_file_ack,
    .requeue = nr_file_requeue,
    .descriptor = nr_file_ready_descriptor,
    .arm = nr_file_ready_arm,
    .stat = nr_file_stat,
};
