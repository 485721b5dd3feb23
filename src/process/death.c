/* SPDX-License-Identifier: MIT */
/*
 * death -- how a child died, as data and as a sentence
 *
 * Memory     Whether a SIGKILL was for lack of memory: os/death.h. The count is compared with what it was at the latest
 *            look: before a birth when that is a second old, and after each SIGKILL.
 * Order      If its channels are to be asked or its group to be ended, it is only looked at first, and taken then: until it is,
 *            its pid is no other's.
 */
#include "process/process.h"
#include <stdio.h>

enum { NR_DEATH_LOOK_NS = 1000000000 };

static struct {
    struct nr_lock lock;
    int64_t kills, looked_ns;
} nr_death_memory = {.lock = NR_LOCK_INIT};

void nr_death_expect(void)
{
    int64_t now_ns = nr_os_now_ns();

    nr_lock_scope(&nr_death_memory.lock);
    if (nr_death_memory.looked_ns && now_ns - nr_death_memory.looked_ns < NR_DEATH_LOOK_NS)
        return;
    nr_death_memory.kills = nr_os_oom_kills();
    nr_death_memory.looked_ns = now_ns;
}

static bool nr_death_is_for_memory(const struct naru_child *child)
{
    int64_t kills = nr_os_oom_kills();

    nr_lock_scope(&nr_death_memory.lock);
    bool has_risen = kills > nr_death_memory.kills;
    if (!has_risen)
        return false;
    int named = nr_os_oom_names(child->pid, child->born_ns);
    if (named != 0) /* one of those kills is accounted for; there may be others */
        nr_death_memory.kills++;
    return named != 0;
}

static void nr_death_ask_channels(struct naru_child *child)
{
    struct naru_death *death = &child->death;

    for (size_t i = 0; i < child->channels_count; i++) {
        struct naru_participant one = {.size_bytes = sizeof one};
        for (size_t j = 0; naru_stat_participant(child->channels[i], j, &one) == 0; j++) {
            if (one.pid != child->pid)
                continue;
            death->held_messages += one.held_messages;
            death->loans += one.loans;
        }
    }
}

static void nr_death_describe(struct naru_death *death)
{
    size_t room = sizeof death->text;
    const char *name = nr_os_signal_name(death->signal_number);
    int length = 0, pid = death->pid;

    switch (death->cause) {
    case NARU_EXITED:
        length = snprintf(death->text, room, "process %d ended with exit status %d", pid,
                          death->exit_status);
        break;
    case NARU_KILLED:
        length = snprintf(death->text, room, "process %d was killed by %s%s", pid, name,
                          death->core_dumped ? " and dumped core" : "");
        break;
    case NARU_OUT_OF_MEMORY:
        length = snprintf(death->text, room,
                          "process %d was killed by the kernel for lack of memory (%s)", pid, name);
        break;
    case NARU_DEATH_UNKNOWN:
        length =
            snprintf(death->text, room,
                     "process %d is dead, and its cause of death was taken by another wait", pid);
        break;
    }
    if (death->held_messages || death->loans)
        snprintf(death->text + length, room - (size_t)length,
                 "; it held %llu messages and %llu loans", (unsigned long long)death->held_messages,
                 (unsigned long long)death->loans);
}

int nr_death_take(struct naru_child *child, bool leave, struct nr_os_end *ret)
{
    return child->zygote ? nr_zygote_end_take(child->zygote, child, leave, ret)
                         : nr_os_end_take(child->pidfd, leave, ret);
}

int nr_death_judge(struct naru_child *child)
{
    struct nr_os_end end;

    bool must_look = child->channels_count || child->own_group;

    int result = nr_death_take(child, must_look, &end);
    if (result < 0)
        return nr_fail(result, "can't wait for process %d: %s", (int)child->pid,
                       nr_error_name(result));
    child->death = (struct naru_death){
        .pid = child->pid,
        .exit_status = end.exit_status,
        .signal_number = end.signal_number,
        .core_dumped = end.core_dumped,
        .was_asked = child->was_asked,
        .user_ns = end.user_ns,
        .system_ns = end.system_ns,
        .resident_max_bytes = child->is_program ? -1 : end.resident_max_bytes,
        .cause = !end.is_known       ? NARU_DEATH_UNKNOWN
                 : end.signal_number ? NARU_KILLED
                                     : NARU_EXITED,
    };
    if (end.signal_number == NR_OS_SIGKILL && !child->was_killed && nr_death_is_for_memory(child))
        child->death.cause = NARU_OUT_OF_MEMORY;
    nr_death_ask_channels(child);
    nr_death_describe(&child->death);
    if (child->own_group && end.is_ours)
        nr_os_pidfd_signal_group(child->pidfd, child->pid, NR_OS_SIGKILL);
    if (must_look)
        nr_death_take(child, false, &end);
    nr_os_keeper_remove(&child->charge);
    child->is_over = true;
    return 0;
}
