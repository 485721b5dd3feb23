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
    NR_SHM_CHUNKS = 64,
    NR_SHM_CHUNKS_BYTES = 4 * 1024 * 1024,
    NR_SHM_RING_BYTES = 256 * 1024,
    NR_SHM_SLOTS_MOST = 1 << 20,     /* limits */
    NR_SHM_PARTICIPANTS_MOST = 4096, /* an owner has 12 bits in a word */
};
#define NR_SHM_TOTAL_MOST ((uint64_t)1 << 40)

static uint64_t nr_shm_layout_round(uint64_t bytes, uint64_t to)
{
    return (bytes + to - 1) / to * to;
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

struct nr_slot_ring nr_shm_layout_slots(const struct nr_shm_header *header)
{
    return (struct nr_slot_ring){
        .slots_count = header->slots_count,
        .slot_bytes = header->slot_bytes,
        .chunks_count = header->chunks_count,
        .chunk_bytes = header->chunk_bytes,
        .at_most_once = header->delivery == NARU_AT_MOST_ONCE,
    };
}

static uint64_t nr_shm_layout_total(const struct nr_shm_header *header)
{
    struct nr_slot_ring sizes = nr_shm_layout_slots(header);
    uint64_t rings = header->kind == NR_SHM_SLOTS   ? nr_slot_ring_bytes(&sizes)
                     : header->kind == NR_SHM_BYTES ? nr_byte_ring_bytes(header->ring_bytes)
                                                    : 2 * nr_byte_ring_bytes(header->ring_bytes);

    return nr_shm_layout_round(nr_shm_layout_ring(header) + rings, 4096);
}

static uint32_t nr_shm_layout_power_of_two(uint64_t at_least)
{
    uint32_t power = 1;

    while (power < at_least)
        power *= 2;
    return power;
}

static void nr_shm_layout_plan_slots(struct nr_shm_header *header,
                                     const struct naru_options *options)
{
    uint64_t most = header->message_size_max_bytes;
    uint64_t chunk = nr_shm_layout_round(most ? most : 1, 64);
    uint64_t chunks = NR_SHM_CHUNKS_BYTES / chunk;

    header->slots_count = nr_shm_layout_power_of_two(header->capacity_messages);
    header->slot_bytes = most <= 64 - NR_SLOT_HEADER_BYTES ? 64 : 128;
    header->chunk_bytes = chunk;
    if (options->payload_bytes)
        chunks = options->payload_bytes / chunk;
    else if (chunks > NR_SHM_CHUNKS)
        chunks = NR_SHM_CHUNKS;
    header->chunks_count = (uint32_t)(chunks < 2 ? 2 : chunks);
    header->held_max = options->held_max ? options->held_max : header->chunks_count;
}

static void nr_shm_layout_plan_bytes(struct nr_shm_header *header,
                                     const struct naru_options *options)
{
    uint64_t most = header->message_size_max_bytes;
    uint64_t least = nr_byte_ring_capacity(most, 2);
    uint64_t wanted = options->payload_bytes ? nr_shm_layout_round(options->payload_bytes, 64)
                      : options->capacity_messages
                          ? nr_byte_ring_capacity(most, options->capacity_messages)
                          : NR_SHM_RING_BYTES;

    header->ring_bytes = wanted < least ? least : wanted;
    header->held_max = 1;
}

int nr_shm_layout_plan(struct nr_shm_header *header, const struct nr_request *request,
                       uint32_t kind)
{
    const struct naru_options *options = &request->options;

    if (options->capacity_messages > NR_SHM_SLOTS_MOST)
        return nr_fail(-EINVAL, "%s: capacity_messages is %zu; the most is %d", request->text,
                       options->capacity_messages, NR_SHM_SLOTS_MOST);
    if (kind != NR_SHM_SLOTS &&
        (options->when_full == NARU_DROP_NEWEST || options->when_full == NARU_OVERWRITE_OLDEST))
        return nr_fail(-EOPNOTSUPP,
                       "%s: when_full: a one-to-one channel blocks or fails; leave "
                       "one_to_one to drop or overwrite",
                       request->text);
    *header = (struct nr_shm_header){
        .magic = NR_SHM_MAGIC,
        .layout = NR_SHM_LAYOUT,
        .kind = kind,
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
    if (kind == NR_SHM_PAIR)
        header->participants_max = 0;
    if (kind == NR_SHM_SLOTS)
        nr_shm_layout_plan_slots(header, options);
    else
        nr_shm_layout_plan_bytes(header, options);
    header->total_bytes = nr_shm_layout_total(header);
    if (header->total_bytes > NR_SHM_TOTAL_MOST)
        return nr_fail(-EINVAL, "%s: the options ask for a segment of %llu bytes", request->text,
                       (unsigned long long)header->total_bytes);
    return 0;
}

/* -- what an attacher finds ------------------------------------------------------------------ */

static bool nr_shm_layout_header_is_sane(const struct nr_shm_header *header)
{
    bool is_slots = header->kind == NR_SHM_SLOTS;

    if (header->kind < NR_SHM_SLOTS || header->kind > NR_SHM_PAIR ||
        header->participants_max > NR_SHM_PARTICIPANTS_MOST ||
        header->message_size_max_bytes > NR_MESSAGE_LIMIT_BYTES ||
        header->total_bytes > NR_SHM_TOTAL_MOST || header->when_full < NARU_BLOCK ||
        header->when_full > NARU_FAIL || header->delivery < NARU_AT_LEAST_ONCE ||
        header->delivery > NARU_AT_MOST_ONCE)
        return false;
    if (is_slots && (header->slots_count == 0 || header->slots_count > NR_SHM_SLOTS_MOST ||
                     (header->slots_count & (header->slots_count - 1)) || header->slot_bytes < 64 ||
                     header->slot_bytes > 4096 || header->slot_bytes % 64 ||
                     header->chunk_bytes % 64 || header->chunk_bytes > NR_SHM_TOTAL_MOST ||
                     header->chunks_count < 2 || header->chunks_count > NR_SHM_SLOTS_MOST ||
                     header->chunk_bytes < header->message_size_max_bytes))
        return false;
    if (!is_slots &&
        (header->ring_bytes % 64 || header->ring_bytes > NR_SHM_TOTAL_MOST ||
         header->ring_bytes < nr_byte_ring_capacity(header->message_size_max_bytes, 2)))
        return false;
    return nr_shm_layout_total(header) == header->total_bytes;
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
    bool is_one_to_one = header->kind != NR_SHM_SLOTS;
    const struct {
        const char *name;
        uint64_t wanted, holds;
    } fields[] = {
        {"one_to_one", options->one_to_one, is_one_to_one},
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
