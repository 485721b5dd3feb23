/* SPDX-License-Identifier: MIT */
/*
 * shm -- shm:// : channels in shared memory
 *
 * Contents   kinds and views - opening - leaving - readiness, figures
 * What       Segments: how they are made, attached and left. Sending and receiving are in shm_slots.c (many to
 *            many) and shm_bytes.c (one to one, pairs); see shm.h.
 * Memory     A segment is made whole and with all its space before it has a name: no one sees a half-made one, and
 *            a full /dev/shm is -ENOSPC here, not SIGBUS later. A named file can't be sealed: one that another
 *            program truncates while it is mapped is outside the promise. A pair's is a sealed memfd.
 * Death      A process that dies while making one leaves nothing. One that dies attached is noticed and
 *            repaired by the others, or by the next to attach.
 * Trust      At attach the header is copied, the copy is checked (shm_layout.c), and it alone is used from then on.
 */
#include "transport/shm.h"
#include "base/cleanup.h"
#include "data/words.h"
#include "os/memory.h"
#include "os/process.h"
#include <string.h>

/* -- kinds and views ------------------------------------------------------------------------- */

static const struct nr_shm_kind *const nr_shm_kinds[] = {
    &nr_shm_slots_kind, &nr_shm_bytes_kind, &nr_shm_pair_kind,
    &nr_shm_cell_kind,  &nr_shm_topic_kind, &nr_shm_topic_overwriting_kind,
    &nr_shm_calls_kind,
};

const struct nr_shm_kind *nr_shm_kind_find(uint32_t number)
{
    for (size_t i = 0; i < nr_count_of(nr_shm_kinds); i++)
        if (nr_shm_kinds[i]->number == number)
            return nr_shm_kinds[i];
    return NULL;
}

const struct nr_shm_kind *nr_shm_kind_wanted(const struct naru_options *options)
{
    bool overwrites = options->pattern == NARU_TOPIC && options->when_full == NARU_OVERWRITE_OLDEST;

    for (size_t i = 0; i < nr_count_of(nr_shm_kinds); i++)
        if (nr_shm_kinds[i]->pattern == options->pattern &&
            nr_shm_kinds[i]->is_one_to_one == !!options->one_to_one &&
            nr_shm_kinds[i]->is_overwriting == overwrites)
            return nr_shm_kinds[i];
    return NULL;
}

static void nr_shm_repair(void *context, unsigned dead)
{
    struct nr_shm *shm = context;

    shm->kind->repair(shm, dead);
    nr_shm_wake_all(shm);
}

/* The private views of a mapped segment. `plan` is a copy of its header that was checked: the header itself may
   have been written over since. */
static void nr_shm_view(struct nr_shm *shm, const struct nr_shm_header *plan)
{
    struct nr_shm_header *header = shm->header;
    struct naru_options *options = &shm->endpoint.options;

    shm->kind = nr_shm_kind_find(plan->kind);
    shm->endpoint.transport = &shm->kind->transport;
    shm->party.table.entries = (void *)((char *)header + nr_shm_layout_participants());
    shm->party.table.count = plan->participants_max;
    shm->party.death_word = &header->death_word;
    shm->party.changes = &header->changes;
    shm->party.repair = nr_shm_repair;
    shm->party.context = shm;
    options->pattern = shm->kind->pattern;
    options->when_full = plan->when_full;
    options->delivery = plan->delivery;
    options->message_size_max_bytes = plan->message_size_max_bytes;
    options->capacity_messages = plan->capacity_messages;
    options->participants_max = plan->participants_max;
    options->held_max = plan->held_max;
    options->one_to_one = shm->kind->is_one_to_one;
    shm->kind->view(shm, plan, (char *)header + nr_shm_layout_ring(plan));
}

/* From now on the endpoint counts where others can see it. */
static void nr_shm_count_in(struct nr_shm *shm)
{
    struct nr_participant *entry = &shm->party.table.entries[shm->party.me];

    _Static_assert(offsetof(struct nr_counts, loans) ==
                       offsetof(struct nr_participant_tally, loans),
                   "the tally begins with what every endpoint counts");
    shm->endpoint.counts = (struct nr_counts *)(void *)&entry->tally;
    shm->tally = &entry->tally;
}

static int nr_shm_join(struct nr_shm *shm)
{
    if (shm->endpoint.role == NARU_OBSERVER)
        return nr_party_observe(&shm->party);
    if (!(shm->kind->roles & (1u << shm->endpoint.role)))
        return nr_fail(-EINVAL, "%s %s", shm->endpoint.uri, shm->kind->roles_text);
    int result = nr_shm_reader_check(shm);
    if (result == 0)
        result = shm->is_read_only ? nr_party_observe(&shm->party)
                                   : nr_party_join(&shm->party, shm->endpoint.role);
    if (result < 0)
        return result;
    if (!shm->is_read_only && !nr_shm_is_pair(shm))
        nr_shm_count_in(shm);
    if (!shm->is_read_only)
        nr_shm_wake_all(shm); /* so that those who sleep watch us as well */
    return shm->kind->join ? shm->kind->join(shm) : 0;
}

/* -- opening ------------------------------------------------------------------------------- */

static int nr_shm_new(struct nr_shm **ret, const struct nr_request *request)
{
    const struct naru_options *options = &request->options;
    const struct nr_refusal refused[] = {
        {"durability", options->durability,
         "shared memory does not outlive the machine; use file://"},
        {"acknowledge", options->acknowledge, "only tcp:// acknowledges"},
        {"type", (uint64_t)options->type, "only sysv:// selects by type"},
        {"signal_number", (uint64_t)options->signal_number, "only signal:// has one"},
        {"peer_uid_any", options->peer_uid_any, "the file's mode says who may attach: file_mode"},
    };
    struct naru_endpoint *endpoint;

    int result = nr_request_refuse_each(request, refused, nr_count_of(refused));
    if (result == 0)
        result = nr_endpoint_new(&endpoint, sizeof(struct nr_shm), &nr_shm_transport, request);
    if (result < 0)
        return result;
    *ret = nr_shm_of(endpoint);
    (*ret)->pid = nr_os_pid();
    (*ret)->is_read_only = request->role == NARU_OBSERVER ||
                           (request->options.read_only && request->role == NARU_RECEIVER);
    (*ret)->sleepers.lock = (struct nr_lock)NR_LOCK_INIT;
    nr_shm_ready_init(*ret);
    (*ret)->spin_limit = nr_os_cpus() > 1 ? NR_SHM_SPIN_FIRST : -1;
    return 0;
}

void nr_shm_release(struct naru_endpoint *endpoint)
{
    struct nr_shm *shm = nr_shm_of(endpoint);

    nr_shm_ready_end(shm);
    nr_shm_sleepers_end(shm);
    nr_party_release(&shm->party);
    if (shm->header) /* so that the kernel never looks at a word that is not there any more */
        nr_os_futex_disarm(&shm->header->death_word);
    shm->endpoint.counts = &shm->endpoint.own_counts;
    shm->tally = NULL;
    nr_os_memory_unmap(shm->header, shm->size_bytes);
    shm->header = NULL;
}

static int nr_shm_open_failed(struct nr_shm *shm, int result)
{
    if (shm->party.is_joined) {
        nr_party_leave(&shm->party);
        nr_shm_wake_all(shm);
    }
    nr_shm_release(&shm->endpoint);
    nr_endpoint_free(&shm->endpoint);
    return result;
}

/* -ENOENT without a text: there is none. */
static int nr_shm_attach(struct nr_shm *shm, const struct nr_request *request, const char *path,
                         struct nr_shm_header *ret_plan)
{
    struct stat status;
    void *memory;
    int access = shm->is_read_only ? O_RDONLY : O_RDWR;
    nr_cleanup_close int fd = nr_os_open(path, access | O_NOFOLLOW | O_NONBLOCK, 0);

    if (fd == -ENOENT)
        return -ENOENT;
    if (fd == -EISDIR)
        return nr_fail(-EBADMSG, "%s is a directory and no channel; choose another name", path);
    if (fd < 0)
        return nr_fail(fd, "can't open the channel %s: %s%s", path, nr_error_name(fd),
                       fd != -EACCES       ? ""
                       : shm->is_read_only ? "; its creator's file_mode decides who may"
                                           : "; its creator's file_mode decides who may; who may "
                                             "only read can open a cell or an overwriting topic "
                                             "with read_only");
    int result = nr_os_fstat(fd, &status);
    if (result < 0)
        return nr_fail(result, "can't look at %s: %s", path, nr_error_name(result));
    if (!S_ISREG(status.st_mode) || (uint64_t)status.st_size < sizeof(struct nr_shm_header))
        return nr_fail(-EBADMSG, "%s is no channel of Naru's; choose another name, or remove it",
                       path);
    result = nr_os_memory_map(fd, (size_t)status.st_size, !shm->is_read_only, &memory);
    if (result < 0)
        return nr_fail(result, "can't map %s: %s", path, nr_error_name(result));
    shm->header = memory;
    shm->size_bytes = (size_t)status.st_size;
    memcpy(ret_plan, shm->header, sizeof *ret_plan);
    result = nr_shm_layout_check(ret_plan, (uint64_t)status.st_size, path);
    if (result == 0 && nr_shm_kind_find(ret_plan->kind)->no_participants)
        result = nr_fail(-EBADMSG, "%s is no named channel", path);
    return result < 0 ? result : nr_shm_layout_agree(ret_plan, request);
}

static int nr_shm_no_space(int result, const char *path, uint64_t bytes)
{
    return nr_fail(
        result,
        "can't make %s with %llu bytes: %s; make /dev/shm larger (mount -o "
        "remount,size=...), or ask for less with message_size_max_bytes, capacity_messages, "
        "payload_bytes",
        path, (unsigned long long)bytes, nr_error_name(result));
}

/* Fills a file with the plan and maps it. */
static int nr_shm_fill(struct nr_shm *shm, int fd, const struct nr_shm_header *plan,
                       const char *name)
{
    void *memory;
    int result = nr_os_memory_reserve(fd, plan->total_bytes);

    if (result == 0)
        result = nr_os_memory_map(fd, plan->total_bytes, true, &memory);
    if (result < 0)
        return nr_shm_no_space(result, name, plan->total_bytes);
    /* New pages are zero, which is an empty ring and a table without entries. */
    memcpy(memory, plan, sizeof *plan);
    shm->header = memory;
    shm->size_bytes = plan->total_bytes;
    return 0;
}

/* -EEXIST without a text: someone was faster. */
static int nr_shm_create(struct nr_shm *shm, const struct nr_request *request, const char *path,
                         struct nr_shm_header *ret_plan)
{
    const struct nr_shm_kind *kind = nr_shm_kind_wanted(&request->options);

    if (!kind)
        return nr_fail(-EOPNOTSUPP, "%s: one_to_one: only a queue is from one to one",
                       request->text);
    int result = nr_shm_reader_check_kind(shm, kind);
    if (result == 0)
        result = nr_shm_layout_plan(ret_plan, request, kind);
    if (result < 0)
        return result;
    nr_cleanup_close int fd = nr_os_memory_file_new(path, request->options.file_mode);
    if (fd < 0)
        return nr_fail(
            fd, "can't make a file in the directory of %s: %s; it must be there, and be writable",
            path, nr_error_name(fd));
    result = nr_shm_fill(shm, fd, ret_plan, path);
    if (result == 0)
        result = nr_os_memory_publish(fd, path);
    if (result == 0 || result == -EEXIST || result == -ENOSPC)
        return result;
    return nr_fail(result, "can't make the channel %s: %s", path, nr_error_name(result));
}

static int nr_shm_attach_or_create(struct nr_shm *shm, const struct nr_request *request,
                                   const char *path, struct nr_shm_header *ret_plan)
{
    enum naru_create create = request->options.create;

    if (shm->is_read_only && create == NARU_CREATE)
        return nr_fail(-EINVAL, "%s: read_only: who only reads can't create the channel",
                       request->text);
    if (shm->is_read_only)
        create = NARU_ATTACH;
    for (int tries = 0; tries < 100; tries++) {
        int result = create == NARU_CREATE ? -ENOENT : nr_shm_attach(shm, request, path, ret_plan);
        if (result == -ENOENT && create == NARU_ATTACH)
            return nr_fail(-ENOENT,
                           "there is no channel %s; start the side that creates it first, or "
                           "leave options.create",
                           path);
        if (result != -ENOENT)
            return result;
        result = nr_shm_create(shm, request, path, ret_plan);
        if (result == -EEXIST && create == NARU_CREATE)
            return nr_fail(-EEXIST, "there is a channel %s already; attach to it, or remove it",
                           path);
        if (result != -EEXIST)
            return result;
        nr_os_memory_unmap(shm->header, shm->size_bytes);
        shm->header = NULL;
    }
    return nr_fail(-EBUSY, "%s appears and disappears all the time; try again", path);
}

static int nr_shm_path(char path[NR_OS_PATH_BYTES], const struct nr_uri *uri, bool create)
{
    int result = nr_uri_is_path(uri) ? nr_uri_check_path(uri) : nr_uri_check_name(uri);

    if (result < 0)
        return result;
    result = nr_os_memory_path(path, uri->rest, "", create);
    return result < 0 ? nr_error_default(result, NR_ORIGIN, "the path of the channel is too long")
                      : 0;
}

int nr_shm_open(struct naru_endpoint **ret, const struct nr_request *request)
{
    char path[NR_OS_PATH_BYTES];
    struct nr_shm_header plan;
    struct nr_shm *shm;

    if (!request->uri.rest[0])
        return nr_fail(-EINVAL, "shm:// needs a name, such as shm://jobs; without one, naru_pair() "
                                "makes both ends");
    int result = nr_shm_path(path, &request->uri, request->options.create != NARU_ATTACH);
    if (result == 0)
        result = nr_shm_new(&shm, request);
    if (result < 0)
        return result;
    result = nr_shm_attach_or_create(shm, request, path, &plan);
    if (result == 0) {
        nr_shm_view(shm, &plan);
        result = nr_shm_join(shm);
    }
    if (result < 0)
        return nr_shm_open_failed(shm, result);
    *ret = &shm->endpoint;
    return 0;
}

static int nr_shm_pair_end(struct nr_shm **ret, const struct nr_request *request, int fd,
                           const struct nr_shm_header *plan, int end)
{
    struct nr_shm *shm;
    int result = nr_shm_new(&shm, request);

    if (result < 0)
        return result;
    *ret = shm;
    shm->end = end;
    if (end == 0)
        result = nr_shm_fill(shm, fd, plan, "a pair");
    if (end == 0 && result == 0)
        result = nr_os_memory_seal(fd);
    if (end == 1) {
        void *memory;
        result = nr_os_memory_map(fd, plan->total_bytes, true, &memory);
        shm->header = result < 0 ? NULL : memory;
        shm->size_bytes = plan->total_bytes;
    }
    if (result < 0)
        return nr_error_default(result, NR_ORIGIN, "no memory for a pair");
    nr_shm_view(shm, plan);
    return shm->kind->join(shm);
}

int nr_shm_pair(struct naru_endpoint *ret[2], const struct nr_request *request)
{
    struct nr_shm *ends[2] = {NULL, NULL};
    struct nr_shm_header plan;
    int result = nr_shm_layout_plan(&plan, request, &nr_shm_pair_kind);

    if (result < 0)
        return result;
    nr_cleanup_close int fd = nr_os_memory_anonymous("naru-pair");
    if (fd < 0)
        return nr_fail(fd, "no memory for a pair: %s", nr_error_name(fd));
    for (int i = 0; i < 2 && result == 0; i++)
        result = nr_shm_pair_end(&ends[i], request, fd, &plan, i);
    if (result < 0) {
        for (int i = 0; i < 2; i++)
            if (ends[i])
                nr_shm_open_failed(ends[i], result);
        return result;
    }
    ret[0] = &ends[0]->endpoint;
    ret[1] = &ends[1]->endpoint;
    return 0;
}

int nr_shm_adopt(struct naru_endpoint *endpoint)
{
    struct nr_shm *shm = nr_shm_of(endpoint);

    nr_shm_ready_end(shm); /* the parent's; here there are no such threads */
    nr_shm_sleepers_end(shm);
    shm->pid = nr_os_pid();
    shm->has_barrier = shm->lacks_barrier = false;
    nr_os_futex_arm(&shm->header->death_word);
    return 0;
}

/* -- leaving ------------------------------------------------------------------------------- */

void nr_shm_leave(struct naru_endpoint *endpoint)
{
    struct nr_shm *shm = nr_shm_of(endpoint);

    nr_shm_ready_stop(shm);
    if (shm->is_read_only)
        return;
    shm->kind->leave(shm);
    nr_party_leave(&shm->party);
    nr_shm_wake_all(shm);
}

int nr_shm_unlink(const struct nr_uri *uri)
{
    char path[NR_OS_PATH_BYTES];
    uint64_t magic = 0;
    struct stat status;
    int result = nr_shm_path(path, uri, false);

    if (result < 0)
        return result;
    nr_cleanup_close int fd = nr_os_open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    result = fd < 0 ? fd : nr_os_fstat(fd, &status);
    if (result == 0 && S_ISREG(status.st_mode))
        result = nr_os_memory_peek(fd, &magic, sizeof magic);
    if (result == -EBADMSG || (result == 0 && magic != NR_SHM_MAGIC))
        return nr_fail(-EBADMSG, "%s is no channel of Naru's, so it stays", path);
    if (result == 0)
        result = nr_os_unlink(path);
    return result < 0
               ? nr_fail(result, "can't remove the channel %s: %s", path, nr_error_name(result))
               : 0;
}

/* -- for the kinds ------------------------------------------------------------------------- */

int nr_shm_sit(struct nr_shm *shm, _Atomic uint64_t *seat, const char *what, const char *who)
{
    for (int tries = 0; tries < 3; tries++) {
        int holder = nr_seat_claim(seat, shm->party.me);
        if (holder == 0)
            return 0;
        if (!nr_shm_is_gone(shm, (unsigned)-holder - 1))
            return nr_fail(-EBUSY, "%s %s, and process %d is its %s already", shm->endpoint.uri,
                           what, nr_party_pid(&shm->party, (unsigned)-holder - 1), who);
        nr_party_sweep(&shm->party, false);
    }
    return nr_fail(-EBUSY, "%s: its place is being fought for; try again", shm->endpoint.uri);
}

void nr_shm_store(const struct nr_out *out, _Atomic uint64_t *payload)
{
    enum { PIECE_BYTES = 1024 };
    uint64_t piece[PIECE_BYTES / sizeof(uint64_t)];

    if (out->parts_count == 1) {
        nr_words_store(payload, out->parts->iov_base, out->size_bytes);
        return;
    }
    for (size_t from = 0; from < out->size_bytes; from += PIECE_BYTES) {
        size_t left = out->size_bytes - from, bytes = left < PIECE_BYTES ? left : PIECE_BYTES;
        nr_out_copy(out, from, piece, bytes);
        nr_words_store(payload + from / sizeof *payload, piece, bytes);
    }
}

int nr_shm_damaged(const struct nr_shm *shm)
{
    return nr_fail(-EBADMSG, "%s: the segment is damaged; remove the channel and make it anew",
                   shm->endpoint.uri);
}

/* -- figures --------------------------------------------------------------------- */

int nr_shm_stat(struct naru_endpoint *endpoint, struct naru_stat *stat)
{
    struct nr_shm *shm = nr_shm_of(endpoint);

    if (!nr_shm_is_pair(shm)) {
        if (!shm->is_read_only)
            nr_party_sweep(&shm->party, true); /* the dead are not peers */
        stat->peers = nr_party_count(&shm->party, 0);
        stat->known |= NARU_STAT_PEERS;
    }
    if (shm->kind->stat)
        shm->kind->stat(shm, stat);
    return 0;
}

int nr_shm_stat_participant(struct naru_endpoint *endpoint, size_t index,
                            struct naru_participant *participant)
{
    struct nr_shm *shm = nr_shm_of(endpoint);
    int result = nr_shm_is_pair(shm)
                     ? nr_fail(-EOPNOTSUPP, "%s: a pair has no list of participants", endpoint->uri)
                     : nr_party_describe(&shm->party, index, participant);

    return result == -ENOENT
               ? nr_fail(result, "there are no more participants in %s", endpoint->uri)
               : result;
}

/* What there is before it is known which kind. */
const struct nr_transport nr_shm_transport = {NR_SHM_COMMON};
