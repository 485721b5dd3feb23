/* SPDX-License-Identifier: MIT */
/* options -- what the user gave, checked, with the defaults that hold for every technique */
#include "core/core.h"
#include <string.h>

enum {
    NR_OPTIONS_PARTICIPANTS_LIMIT = 4096,
    NR_OPTIONS_SIZE_FIRST = 8 + 7 * 4, /* nothing smaller was ever a struct naru_options */
};

static int nr_options_range(const char *name, int64_t value, int64_t lowest, int64_t highest)
{
    if (value >= lowest && value <= highest)
        return 0;
    return nr_fail(-EINVAL, "the option %s is %lld; it may be %lld to %lld (0: the default)", name,
                   (long long)value, (long long)lowest, (long long)highest);
}

int nr_options_complete(struct naru_options *ret, const struct naru_options *given)
{
    struct naru_options options = {.size_bytes = sizeof options};

    if (given) {
        if (given->size_bytes < NR_OPTIONS_SIZE_FIRST)
            return nr_fail(-EINVAL,
                           "options.size_bytes is %zu; set it to sizeof(struct naru_options)",
                           given->size_bytes);
        const unsigned char *bytes = (const unsigned char *)given;
        for (size_t i = sizeof options; i < given->size_bytes; i++)
            if (bytes[i])
                return nr_fail(-EINVAL,
                               "the options hold a field that naru %s does not know; use "
                               "the library they were written for",
                               naru_version());
        memcpy(&options, given,
               given->size_bytes < sizeof options ? given->size_bytes : sizeof options);
        options.size_bytes = sizeof options;
    }
    const struct {
        const char *name;
        int64_t value, highest;
    } ranges[] = {
        {"create", (int64_t)options.create, NARU_CREATE},
        {"pattern", (int64_t)options.pattern, NARU_CELL},
        {"when_full", (int64_t)options.when_full, NARU_FAIL},
        {"delivery", (int64_t)options.delivery, NARU_AT_MOST_ONCE},
        {"durability", (int64_t)options.durability, NARU_DURABLE_EVERY_COMMIT},
        {"acknowledge", (int64_t)options.acknowledge, NARU_UNACKNOWLEDGED},
        {"participants_max", options.participants_max, NR_OPTIONS_PARTICIPANTS_LIMIT},
        {"file_mode", options.file_mode, 0777},
        {"one_to_one", options.one_to_one, 1},
        {"peer_uid_any", options.peer_uid_any, 1},
        {"start", (int64_t)options.start, NARU_FROM_LAST},
        {"read_only", options.read_only, 1},
        {"peer_timeout_ns (-1: for ever)",
         options.peer_timeout_ns < 0 ? 0 : options.peer_timeout_ns, INT64_MAX},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        int result = nr_options_range(ranges[i].name, ranges[i].value, 0, ranges[i].highest);
        if (result < 0)
            return result;
    }
    if (options.message_size_max_bytes > NR_MESSAGE_LIMIT_BYTES)
        return nr_fail(-EINVAL, "message_size_max_bytes is %zu; the most is %d (1 GiB)",
                       options.message_size_max_bytes, NR_MESSAGE_LIMIT_BYTES);
    if (!options.start_messages != (options.start != NARU_FROM_LAST))
        return nr_fail(-EINVAL,
                       "start_messages is %u; it goes with start = NARU_FROM_LAST, and is "
                       "1 or more then",
                       options.start_messages);
    if (!options.pattern)
        options.pattern = NARU_QUEUE;
    if (!options.file_mode)
        options.file_mode = 0600;
    if (!options.peer_timeout_ns)
        options.peer_timeout_ns = 10 * NARU_SECOND;
    *ret = options;
    return 0;
}
