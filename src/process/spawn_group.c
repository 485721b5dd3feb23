/* SPDX-License-Identifier: MIT */
/*
 * spawn_group -- several forked children that run one function, born one right behind the other
 *
 * What       As naru_spawn() for each, where nothing can fail in the child and nothing but memory is handed over one by one.
 * Memory     Between two forks the parent writes to its stack only, and to what it shares with the children: every other page
 *            would be copied once more by each fork.
 * Ordering   [G1] The parent knows the pidfd, then opens the gate: a word that it shares with this child. [G2] Behind it the child's
 *            function begins. Until then only the kernel's SIGKILL at the parent's death is pending for it.
 * Signals    Which are not at their default is looked at once, for all: a disposition that another thread changes
 *            meanwhile may come too late.
 */
#include "os/futex.h"
#include "os/memory.h"
#include "process/process.h"

enum nr_spawn_gate { NR_SPAWN_SHUT, NR_SPAWN_AWAITED, NR_SPAWN_OPEN, NR_SPAWN_OFF };

struct nr_spawn_group {
    struct nr_spawn spawn;
    struct nr_spawn_birth *births;
    size_t count, born;
    int result;
};

struct nr_spawn_cradle {
    struct nr_spawn_group *group;
    const struct nr_spawn_birth *birth;
};

bool nr_spawn_group_may(const struct naru_spawn_options *options)
{
    bool is_plain = !options->zygote && !options->readiness && !options->ends_count &&
                    !options->survives_parent && !options->environment;
    bool dies_at_once = !options->death_signal || options->death_signal == NR_OS_SIGKILL;

    return is_plain && dies_at_once && nr_spawn_is_sure(options);
}

/* -- the child -------------------------------------------------------------------------------------- */

static bool nr_spawn_group_pass(uint32_t *gate)
{
    const struct nr_os_futex_word sleep = {gate, NR_SPAWN_AWAITED};
    struct nr_deadline never = nr_deadline_in(NARU_FOREVER);
    uint32_t word = NR_SPAWN_SHUT;

    if (__atomic_compare_exchange_n(gate, &word, NR_SPAWN_AWAITED, false, __ATOMIC_ACQUIRE,
                                    __ATOMIC_ACQUIRE)) /* [G2] */
        word = NR_SPAWN_AWAITED;
    while (word == NR_SPAWN_AWAITED) {
        nr_os_futex_wait(&sleep, 1, &never);
        word = __atomic_load_n(gate, __ATOMIC_ACQUIRE);
    }
    return word == NR_SPAWN_OPEN;
}

static void nr_spawn_group_child(void *argument)
{
    const struct nr_spawn_cradle *cradle = argument;
    struct nr_spawn *spawn = &cradle->group->spawn;

    nr_ready_to_parent(-1);
    struct nr_os_spawn_fault fault = nr_os_spawn_prepare(&spawn->plan);
    if (fault.step == NR_SPAWN_PARENT)
        nr_os_pid_signal(nr_os_pid(), NR_OS_SIGKILL);
    if (fault.error || !nr_spawn_group_pass(cradle->birth->gate))
        nr_os_exit(NR_SPAWN_EXIT_STATUS);
    spawn->context = cradle->birth->context;
    nr_spawn_perform(spawn);
}

/* -- the parent ------------------------------------------------------------------------------------- */

static void nr_spawn_group_open(uint32_t *gate, enum nr_spawn_gate word)
{
    if (__atomic_exchange_n(gate, word, __ATOMIC_RELEASE) == NR_SPAWN_AWAITED) /* [G1] */
        nr_os_futex_wake(gate, 1);
}

/* The pid, with *ret_pidfd; or -errno and no child. */
static int nr_spawn_group_bear(struct nr_spawn_cradle *cradle, int *ret_pidfd)
{
    const struct nr_spawn_birth *birth = cradle->birth;

    nr_os_memory_show(birth->memory, birth->memory_bytes);
    int pid = nr_os_spawn_fork(nr_spawn_group_child, cradle);
    nr_os_memory_hide(birth->memory, birth->memory_bytes);
    if (pid < 0)
        return pid;
    *ret_pidfd = nr_os_pidfd_open(pid);
    nr_spawn_group_open(birth->gate, *ret_pidfd < 0 ? NR_SPAWN_OFF : NR_SPAWN_OPEN);
    if (*ret_pidfd >= 0)
        return pid;
    nr_os_wait_for(pid);
    return *ret_pidfd;
}

static void nr_spawn_group_fork(void *argument)
{
    struct {
        int pid, pidfd;
    } born[NR_SPAWN_GROUP_MOST]; /* on this stack, which is copied anyway */
    struct nr_spawn_cradle cradle = {.group = argument};
    size_t count = cradle.group->count, n = 0;
    int pid = 0;

    for (; n < count; n++) {
        cradle.birth = &cradle.group->births[n];
        pid = nr_spawn_group_bear(&cradle, &born[n].pidfd);
        if (pid < 0)
            break;
        born[n].pid = pid;
    }
    for (size_t i = 0; i < n; i++) {
        cradle.group->births[i].child->pid = born[i].pid;
        cradle.group->births[i].child->pidfd = born[i].pidfd;
    }
    cradle.group->born = n;
    cradle.group->result = n < count ? pid : 0;
}

static int nr_spawn_group_begin(struct nr_spawn_group *group)
{
    struct nr_spawn *spawn = &group->spawn;
    int result = nr_spawn_plan(spawn);

    if (result == 0 && !spawn->options.keep_signals)
        nr_os_spawn_look_at_signals(&spawn->plan);
    for (size_t i = 0; i < group->count && result == 0; i++)
        result = nr_child_new(&group->births[i].child, &spawn->options);
    return result;
}

int nr_spawn_group(struct nr_spawn_birth *births, size_t count, int (*function)(void *context),
                   const struct naru_spawn_options *options)
{
    struct nr_spawn_group group = {
        .births = births,
        .count = count,
        .spawn = {.function = function, .link = {-1, -1}, .ready_fd = {-1, -1}},
    };

    nr_error_clear();
    int result = nr_spawn_options_complete(&group.spawn.options, options);
    if (result == 0)
        result = nr_spawn_group_begin(&group);
    if (result == 0) {
        nr_death_expect();
        int64_t born_ns = nr_os_now_ns();
        for (size_t i = 0; i < count; i++)
            births[i].child->born_ns = born_ns;
        result = nr_os_keeper_run(nr_spawn_group_fork, &group);
        result = nr_spawn_failed(&group.spawn, result ? result : group.result);
    }
    for (size_t i = 0; i < count; i++) {
        struct naru_child *child = births[i].child;
        if (i < group.born)
            nr_os_keeper_add(&child->charge, child->pidfd);
        else if (child)
            nr_child_free(child);
        if (i >= group.born)
            births[i].child = NULL;
    }
    nr_spawn_end(&group.spawn);
    return result;
}
