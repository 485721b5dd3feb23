/* SPDX-License-Identifier: MIT */
/*
 * shm_layout -- where things stand in a segment of shm://
 *
 * What       The creator's options become a header, and a header tells where the parts begin. An attacher checks
 *            each bound in it against its limits, and all together against the size of the file.
 * Trust      After these checks the bounds are copied, and the copies are used.
 */
#include "base/cleanup.h"
#include "os/process.h"
#include "transport/shm.h"

enum {
    NR_SHM_MESSAGE_BYTES = 64 * 1024, /* defaults */
    NR_SHM_MESSAGES = 256,
    NR_SHM_PARTICIPANTS = 64,
    NR_SHM_PARTICIPANTS_MOST = 4096, /* an owner has 12 bits in a word */
};

uint64_t nr_shm_layout_round(uint64_t bytes, uint64_t to)
{
    return (bytes + to - 1) / to * to;
}

uint32_t nr_shm_layout_power_of_two(uint64_t at_least)
{
    uint32_t power = 1;

    while (power < at_least)
        power *= 2;
    return power;
}

uint64_t nr_shm_layout_participants(void)
{
    return nr_shm_layout_round(sizeof(struct nr_shm_header), 64);
}

uint64_t nr_shm_layout_ring(const struct nr_shm_header *header)
{
    return nr_shm_layout_participants() +
           (uint64_t)header->participants_max * sizeof(struct nr_participant);
}

static uint64_t nr_shm_layout_total(const struct nr_shm_header *header,
                                    const struct nr_shm_kind *kind)
{
    return nr_shm_layout_round(nr_shm_layout_ring(header) + kind->bytes(header), 4096);
}

int nr_shm_layout_plan(struct nr_shm_header *header, const struct nr_request *request,
                       const struct nr_shm_kind *kind)
{
    const struct naru_options *options = &request->options;

    if (options->capacity_messages > NR_SHM_SLOTS_MOST)
        return nr_fail(-EINVAL, "%s: capacity_messages is %zu; the most is %d", request->text,
                       options->capacity_messages, NR_SHM_SLOTS_MOST);
    *header = (struct nr_shm_header){
        .magic = NR_SHM_MAGIC,
        .layout = NR_SHM_LAYOUT,
        .kind = kind->number,
        .namespace_inode = nr_os_pid_namespace(),
        .when_full = options->when_full ? options->when_full : NARU_BLOCK,
        .delivery = options->delivery ? options->delivery : NARU_AT_LEAST_ONCE,
        .participants_max =
            options->participants_max ? options->participants_max : NR_SHM_PARTICIPANTS,
        .message_size_max_bytes = options->message_size_max_bytes ? options->message_size_max_bytes
                                                                  : NR_SHM_MESSAGE_BYTES,
        .capacity_messages =
            options->capacity_messages ? options->capacity_messages : NR_SHM_MESSAGES,
    };
    for (int i = 0; i < 2; i++)
        nr_gate_heat(&header->not_full[i]); /* see nr_shm_pause_end() */
    if (kind->no_participants)
        header->participants_max = 0;
    /* Whoever may read and not write the file: that they will come is said by giving them the permission. */
    uint32_t may_read = options->file_mode & 044, may_write = options->file_mode & 022;
    header->not_empty[0].always =
        kind->can_be_read_only && (options->read_only || (may_read & ~(may_write << 1)));
    int result = kind->plan(header, request);
    if (result < 0)
        return result;
    header->total_bytes = nr_shm_layout_total(header, kind);
    if (header->total_bytes > NR_SHM_TOTAL_MOST)
        return nr_fail(-EINVAL, "%s: the options ask for a segment of %llu bytes", request->text,
                       (unsigned long long)header->total_bytes);
    return 0;
}

/* -- what an attacher finds ------------------------------------------------------------------ */

static bool nr_shm_layout_header_is_sane(const struct nr_shm_header *header)
{
    const struct nr_shm_kind *kind = nr_shm_kind_find(header->kind);

    if (!kind || header->participants_max > NR_SHM_PARTICIPANTS_MOST ||
        header->message_size_max_bytes > NR_MESSAGE_LIMIT_BYTES ||
        header->total_bytes > NR_SHM_TOTAL_MOST || header->when_full < NARU_BLOCK ||
        header->when_full > NARU_FAIL || header->delivery < NARU_AT_LEAST_ONCE ||
        header->delivery > NARU_AT_MOST_ONCE)
        return false;
    return kind->is_sane(header) && nr_shm_layout_total(header, kind) == header->total_bytes;
}

int nr_shm_layout_check(const struct nr_shm_header *header, uint64_t file_bytes, const char *path)
{
    if (file_bytes < sizeof *header || header->magic != NR_SHM_MAGIC)
        return nr_fail(-EBADMSG, "%s is no channel of Naru's; choose another name, or remove it",
                       path);
    if (header->layout != NR_SHM_LAYOUT)
        return nr_fail(
            -EPROTO,
            "%s has layout version %u, and this library (%s) knows %d; use the same library "
            "on both sides, or remove the channel",
            path, header->layout, naru_version(), NR_SHM_LAYOUT);
    if (!nr_shm_layout_header_is_sane(header) || header->total_bytes != file_bytes)
        return nr_fail(-EBADMSG,
                       "%s is damaged (its header does not fit its %llu bytes); remove it "
                       "with `naru unlink`",
                       path, (unsigned long long)file_bytes);
    uint64_t mine = nr_os_pid_namespace();
    if (mine && header->namespace_inode && mine != header->namespace_inode)
        return nr_fail(
            -EXDEV,
            "%s was made in another PID namespace, where this process could not tell who has "
            "died; share the namespace (docker run --pid=...), or use unix:// or tcp://",
            path);
    return 0;
}

int nr_shm_layout_agree(const struct nr_shm_header *header, const struct nr_request *request)
{
    const struct naru_options *options = &request->options;
    const struct nr_shm_kind *kind = nr_shm_kind_find(header->kind);
    enum naru_pattern pattern = request->wants_pattern ? options->pattern : 0;
    const struct {
        const char *name;
        uint64_t wanted, holds;
    } fields[] = {
        {"pattern", pattern, kind->pattern},
        {"one_to_one", options->one_to_one, kind->is_one_to_one},
        {"when_full", options->when_full, header->when_full},
        {"delivery", options->delivery, header->delivery},
        {"message_size_max_bytes", options->message_size_max_bytes, header->message_size_max_bytes},
        {"capacity_messages", options->capacity_messages, header->capacity_messages},
        {"participants_max", options->participants_max, header->participants_max},
        {"held_max", options->held_max, header->held_max},
    };

    for (size_t i = 0; i < nr_count_of(fields); i++) {
        int result = nr_request_settle(request, fields[i].name, fields[i].wanted, fields[i].holds);
        if (result < 0)
            return result;
    }
    return 0;
}
