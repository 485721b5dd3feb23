/* SPDX-License-Identifier: MIT */
/* options -- what the user wants of a child, checked */
#include "process/process.h"

enum {
    NR_SPAWN_OPTIONS_SIZE_FIRST =
        3 * sizeof(size_t), /* nothing smaller was ever a struct naru_spawn_options */
    NR_SPAWN_CPU_LIMIT = 8191,
    NR_SPAWN_FD_LIMIT = 1 << 20,
    NR_SPAWN_COUNT_LIMIT = 4096,
    NR_SPAWN_NICE_LIMIT = 40,
    NR_SPAWN_ZYGOTE_FDS_LIMIT = 250,
    NR_SPAWN_CONTEXT_LIMIT = 65536,
};

static int nr_spawn_options_range(const char *name, int64_t value, int64_t lowest, int64_t highest)
{
    if (value >= lowest && value <= highest)
        return 0;
    return nr_fail(-EINVAL, "the option %s is %lld; it may be %lld to %lld", name, (long long)value,
                   (long long)lowest, (long long)highest);
}

static int nr_spawn_options_list(const char *name, const void *list, size_t count)
{
    if (count && !list)
        return nr_fail(-EINVAL, "the option %s is NULL, and %s_count is %zu", name, name, count);
    return nr_spawn_options_range(name, (int64_t)count, 0, NR_SPAWN_COUNT_LIMIT);
}

static int nr_spawn_options_check_fds(const struct naru_spawn_options *options)
{
    for (size_t i = 0; i < options->fds_count; i++) {
        const struct naru_spawn_fd *one = &options->fds[i];
        int result = nr_spawn_options_range("fds[].target", one->target, 0, NR_SPAWN_FD_LIMIT);
        if (result < 0)
            return result;
        if (!nr_os_fd_is_open(one->fd))
            return nr_fail(-EBADF,
                           "the descriptor %d, which the child is to have as %d, is not open",
                           one->fd, one->target);
        for (size_t j = 0; j < i; j++)
            if (options->fds[j].target == one->target)
                return nr_fail(-EINVAL, "the descriptors %d and %d are both to be %d in the child",
                               options->fds[j].fd, one->fd, one->target);
    }
    return 0;
}

static int nr_spawn_options_check_ends(const struct naru_spawn_options *options)
{
    for (size_t i = 0; i < options->ends_count; i++) {
        struct naru_endpoint *end = options->ends[i];
        if (!end || !end->other)
            return nr_fail(-EINVAL,
                           "ends[%zu] is no end of a pair that was made by naru_pair() and "
                           "whose other end is open",
                           i);
        if (!nr_os_process_is(end->owner) || !nr_os_process_is(end->other->owner))
            return nr_fail(-ECHILD,
                           "ends[%zu] of %s, or its other end, belongs to another process "
                           "already; make a new pair for each child",
                           i, end->uri);
        for (size_t j = 0; j < i; j++)
            if (options->ends[j] == end || options->ends[j] == end->other)
                return nr_fail(-EINVAL, "ends[%zu] and ends[%zu] are of the same pair", j, i);
    }
    return 0;
}

static int nr_spawn_options_check_zygote(const struct naru_spawn_options *options)
{
    if (options->ends_count)
        return nr_fail(-EOPNOTSUPP,
                       "a zygote's child can't have ends of pairs, which its memory does not "
                       "hold; give it descriptors, or the name of a channel");
    if (options->keep_fds || options->keep_signals)
        return nr_fail(-EOPNOTSUPP, "a zygote's child has neither the caller's descriptors nor its "
                                    "signals to keep");
    int result = nr_spawn_options_range("fds_count (with a zygote)", (int64_t)options->fds_count, 0,
                                        NR_SPAWN_ZYGOTE_FDS_LIMIT);
    return result < 0
               ? result
               : nr_spawn_options_range("context_size_bytes", (int64_t)options->context_size_bytes,
                                        0, NR_SPAWN_CONTEXT_LIMIT);
}

static int nr_spawn_options_check(const struct naru_spawn_options *options)
{
    const struct {
        const char *name;
        const void *list;
        size_t count;
    } lists[] = {
        {"fds", options->fds, options->fds_count},
        {"ends", options->ends, options->ends_count},
        {"channels", options->channels, options->channels_count},
        {"limits", options->limits, options->limits_count},
        {"cpus", options->cpus, options->cpus_count},
    };
    const struct {
        const char *name;
        int64_t value, lowest, highest;
    } ranges[] = {
        {"nice", options->nice, -NR_SPAWN_NICE_LIMIT, NR_SPAWN_NICE_LIMIT},
        {"readiness", (int64_t)options->readiness, 0, NARU_READY_BY_NOTIFY},
        {"keep_fds", options->keep_fds, 0, 1},
        {"keep_signals", options->keep_signals, 0, 1},
        {"survives_parent", options->survives_parent, 0, 1},
        {"death_signal", options->death_signal, 0, nr_os_signal_last()},
        {"own_group", options->own_group, 0, 1},
    };
    int result = 0;

    for (size_t i = 0; i < nr_count_of(lists) && result == 0; i++)
        result = nr_spawn_options_list(lists[i].name, lists[i].list, lists[i].count);
    for (size_t i = 0; i < nr_count_of(ranges) && result == 0; i++)
        result = nr_spawn_options_range(ranges[i].name, ranges[i].value, ranges[i].lowest,
                                        ranges[i].highest);
    for (size_t i = 0; i < options->cpus_count && result == 0; i++)
        result = nr_spawn_options_range("cpus[]", options->cpus[i], 0, NR_SPAWN_CPU_LIMIT);
    if (result == 0 && options->survives_parent && options->death_signal)
        result = nr_fail(-EINVAL, "a child that survives its parent gets no death_signal");
    if (result == 0 && options->zygote)
        result = nr_spawn_options_check_zygote(options);
    else if (result == 0 && options->context_size_bytes)
        result = nr_fail(-EINVAL, "context_size_bytes goes with a zygote; else the child has the "
                                  "context in its memory");
    for (size_t i = 0; i < options->channels_count && result == 0; i++)
        result = nr_core_enter(options->channels[i], 0);
    if (result == 0)
        result = nr_spawn_options_check_fds(options);
    return result < 0 ? result : nr_spawn_options_check_ends(options);
}

int nr_spawn_options_complete(struct naru_spawn_options *ret,
                              const struct naru_spawn_options *given)
{
    struct naru_spawn_options options = {.size_bytes = sizeof options};

    if (given) {
        if (given->size_bytes < NR_SPAWN_OPTIONS_SIZE_FIRST)
            return nr_fail(-EINVAL,
                           "options.size_bytes is %zu; set it to sizeof(struct naru_spawn_options)",
                           given->size_bytes);
        const unsigned char *bytes = (const unsigned char *)given;
        for (size_t i = sizeof options; i < given->size_bytes; i++)
            if (bytes[i])
                return nr_fail(-EINVAL,
                               "the options hold a field that naru %s does not know; use the "
                               "library they were written for",
                               naru_version());
        memcpy(&options, given,
               given->size_bytes < sizeof options ? given->size_bytes : sizeof options);
        options.size_bytes = sizeof options;
    }
    int result = nr_spawn_options_check(&options);
    if (result < 0)
        return result;
    if (!options.death_signal && !options.survives_parent)
        options.death_signal = NR_OS_SIGKILL;
    *ret = options;
    return 0;
}
