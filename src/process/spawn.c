/* SPDX-License-Identifier: MIT */
/*
 * spawn -- a function in a forked child, or a program
 *
 * Ordering   Of a function: the child prepares itself and reports; the parent, who has its pidfd by then, gives it its
 *            ends of pairs and says "go"; only then does the function begin. So a failure is the caller's to see
 *            and costs no end of a pair, and a death is seen from the first instruction on. If nothing that is to be prepared
 *            can fail, the parent does not wait for the report: waking two processes takes as long as the fork.
 *            Of a program: the parent's thread stands still until the exec has succeeded or failed.
 * Death      Of the parent, at any time: the child's death signal, or before that is set a look at who its parent is.
 *            Of the child before it goes: the parent sees its pidfd.
 * Threads    os/keeper.h says which thread forks.
 */
#include "os/link.h"
#include "process/process.h"
#include <stdio.h>

/* -- the plan ------------------------------------------------------------------------------------- */

static int nr_spawn_plan_memory(struct nr_spawn *spawn)
{
    const struct naru_spawn_options *options = &spawn->options;
    struct nr_os_spawn_plan *plan = &spawn->plan;
    size_t moves = options->fds_count + 1, held = options->ends_count * NR_ENDPOINT_FDS_MAX + 2;

    plan->moves = calloc(moves, sizeof *plan->moves);
    plan->held = calloc(held, sizeof *plan->held);
    plan->kept = calloc(moves + held + 3, sizeof *plan->kept);
    spawn->limits = calloc(options->limits_count + 1, sizeof *spawn->limits);
    plan->limits = spawn->limits;
    if (options->cpus_count)
        plan->cpus = nr_os_spawn_cpus(options->cpus, options->cpus_count, &plan->cpus_bytes);
    if (!plan->moves || !plan->held || !plan->kept || !plan->limits ||
        (options->cpus_count && !plan->cpus))
        return nr_fail(-ENOMEM, "no memory to spawn a child");
    return 0;
}

int nr_spawn_plan(struct nr_spawn *spawn)
{
    const struct naru_spawn_options *options = &spawn->options;
    struct nr_os_spawn_plan *plan = &spawn->plan;
    int result = nr_spawn_plan_memory(spawn);

    if (result < 0)
        return result;
    plan->parent = nr_os_pid();
    plan->death_signal = options->death_signal;
    plan->own_group = options->own_group;
    plan->keep_signals = options->keep_signals;
    plan->keep_fds = options->keep_fds;
    plan->nice = options->nice;
    plan->directory = options->directory;
    nr_os_spawn_mask(plan);
    for (size_t i = 0; i < options->fds_count; i++)
        plan->moves[plan->moves_count++] =
            (struct nr_os_spawn_move){options->fds[i].fd, options->fds[i].target};
    for (size_t i = 0; i < options->limits_count; i++)
        spawn->limits[plan->limits_count++] = (struct nr_os_spawn_limit){
            options->limits[i].resource, options->limits[i].soft, options->limits[i].hard};
    return 0;
}

void nr_spawn_end(struct nr_spawn *spawn)
{
    for (int i = 0; i < 2; i++) {
        nr_os_close(&spawn->link[i]);
        nr_os_close(&spawn->ready_fd[i]);
    }
    free(spawn->plan.moves);
    free(spawn->plan.held);
    free(spawn->plan.kept);
    free(spawn->limits);
    free(spawn->plan.cpus);
    free(spawn->environment);
}

static int nr_spawn_open_ready(struct nr_spawn *spawn)
{
    char address[NR_LINK_ADDRESS_BYTES];

    if (spawn->options.readiness != NARU_READY_BY_NOTIFY)
        return nr_os_link_new(spawn->ready_fd);
    int fd = nr_os_link_notified_new(address);
    if (fd < 0)
        return fd;
    spawn->child->is_notified = true;
    spawn->ready_fd[0] = fd;
    snprintf(spawn->ready_variable, sizeof spawn->ready_variable, "NOTIFY_SOCKET=%s", address);
    return 0;
}

static int nr_spawn_begin(struct nr_spawn *spawn, const struct naru_spawn_options *given)
{
    int result = nr_spawn_options_complete(&spawn->options, given);

    if (result == 0)
        result = nr_child_new(&spawn->child, &spawn->options);
    if (result == 0)
        result = nr_spawn_plan(spawn);
    if (result == 0 && spawn->options.readiness) {
        result = nr_spawn_open_ready(spawn);
        if (result < 0)
            nr_fail(result,
                    "no descriptors for the readiness of a child: %s; close some, or raise "
                    "`ulimit -n`",
                    nr_error_name(result));
    }
    return result;
}

/* -- failures --------------------------------------------------------------------------------------- */

int nr_spawn_failed(const struct nr_spawn *spawn, int error)
{
    const char *name = nr_error_name(error);

    if (error == 0)
        return 0;
    if (error == -EAGAIN)
        return nr_fail(error,
                       "no more processes: %s; end some, or raise `ulimit -u` or the "
                       "cgroup's pids.max",
                       name);
    if (error == -ENOMEM)
        return nr_fail(error,
                       "no memory for another process; a program or a zygote needs less than "
                       "a fork of this process");
    if (error == -ENOSYS)
        return nr_fail(error,
                       "there is no pidfd_open(2) here: it takes Linux 5.4, and a sandbox or "
                       "valgrind may refuse it");
    if (error == -EMFILE || error == -ENFILE)
        return nr_fail(error, "no descriptors for a child: %s; close some, or raise `ulimit -n`",
                       name);
    return nr_fail(error, "can't spawn %s: %s", spawn->argv ? spawn->argv[0] : "a child", name);
}

/* What the child said when it could not go on. */
static int nr_spawn_refused(const struct nr_spawn *spawn)
{
    const struct nr_os_spawn_fault *fault = &spawn->fault;
    const char *name = nr_error_name(fault->error);

    switch (fault->step) {
    case NR_SPAWN_PARENT:
        return nr_fail(fault->error, "the child can't get signal %d at its parent's death: %s",
                       spawn->options.death_signal, name);
    case NR_SPAWN_GROUP:
        return nr_fail(fault->error, "the child can't lead a process group: %s", name);
    case NR_SPAWN_FDS:
        return nr_fail(fault->error, "the child can't have the descriptor %d: %s", fault->which,
                       name);
    case NR_SPAWN_LIMITS:
        return nr_fail(fault->error,
                       "the child can't have the limit of resource %d (setrlimit): %s",
                       fault->which, name);
    case NR_SPAWN_NICE:
        return nr_fail(fault->error, "the child can't be %d nicer: %s", fault->which, name);
    case NR_SPAWN_CPUS:
        return nr_fail(fault->error,
                       "the child can't run on these processors: %s; does one of them "
                       "exist and is allowed?",
                       name);
    case NR_SPAWN_DIRECTORY:
        return nr_fail(fault->error, "the child can't go to the directory %s: %s",
                       spawn->options.directory, name);
    case NR_SPAWN_ENDS:
        return nr_fail(fault->error, "the child can't take over ends[%d]: %s", fault->which, name);
    case NR_SPAWN_EXEC:
        return nr_fail(fault->error, "can't run %s: %s%s", spawn->argv[0], name,
                       fault->error == -ENOENT ? "; is it there, and its interpreter, and is its "
                                                 "directory in PATH?"
                                               : "");
    }
    return nr_spawn_failed(spawn, fault->error);
}

/* -- a function ---------------------------------------------------------------------------------------- */

static struct nr_os_spawn_fault nr_spawn_take_ends(struct nr_spawn *spawn)
{
    struct nr_os_spawn_plan *plan = &spawn->plan;

    for (size_t i = 0; i < spawn->options.ends_count; i++) {
        struct naru_endpoint *end = spawn->options.ends[i];
        int result = naru_pair_assign(end, nr_os_pid());
        if (result < 0)
            return (struct nr_os_spawn_fault){result, NR_SPAWN_ENDS, (int)i};
        plan->held_count += nr_channel_descriptors(end, &plan->held[plan->held_count]);
    }
    return (struct nr_os_spawn_fault){0};
}

/* The child has prepared itself, or failed to. */
static bool nr_spawn_may_go(const struct nr_spawn *spawn, const struct nr_os_spawn_fault *fault)
{
    char go;

    if (spawn->is_sure)
        return !fault->error && nr_os_gate_wait(spawn->link[1]) == 0;
    return nr_os_link_put(spawn->link[1], fault, sizeof *fault) == 0 && !fault->error &&
           nr_os_link_get(spawn->link[1], &go, 1) == 0;
}

void nr_spawn_perform(struct nr_spawn *spawn)
{
    nr_os_stdio_drop();
    nr_os_spawn_unblock(&spawn->plan);
    int status = spawn->function(spawn->context);
    nr_os_stdio_flush();
    nr_os_exit(status);
}

/* The child, from its first moment: on the stack of the thread that forked, with all signals blocked. */
void nr_spawn_child(void *argument)
{
    struct nr_spawn *spawn = argument;
    struct nr_os_spawn_plan *plan = &spawn->plan;

    nr_os_close(&spawn->link[0]);
    nr_os_close(&spawn->ready_fd[0]);
    plan->held[plan->held_count++] = &spawn->link[1];
    plan->held[plan->held_count++] = nr_ready_to_parent(spawn->ready_fd[1]);
    struct nr_os_spawn_fault fault = nr_spawn_take_ends(spawn);
    if (!fault.error)
        fault = nr_os_spawn_prepare(plan);
    if (!nr_spawn_may_go(spawn, &fault)) {
        if (fault.step == NR_SPAWN_PARENT) /* as by the signal that it was too late to ask for */
            nr_os_pid_signal(nr_os_pid(), NR_OS_SIGKILL);
        nr_os_exit(NR_SPAWN_EXIT_STATUS);
    }
    nr_os_close(&spawn->link[1]);
    nr_spawn_perform(spawn);
}

static void nr_spawn_fork(void *argument)
{
    struct nr_spawn *spawn = argument;

    spawn->result = nr_os_spawn_fork(nr_spawn_child, spawn);
}

/* 0: the child is prepared; else it said what is wrong, or died. */
static int nr_spawn_await_report(struct nr_spawn *spawn)
{
    struct naru_child *child = spawn->child;
    struct pollfd fds[2] = {{.fd = spawn->link[0], .events = POLLIN},
                            {.fd = child->pidfd, .events = POLLIN}};
    struct nr_deadline never = nr_deadline_in(NARU_FOREVER);
    int result;

    do
        result = nr_os_poll(fds, 2, &never);
    while (result == -EINTR);
    if (result > 0)
        result = nr_os_link_has(spawn->link[0]) > 0
                     ? nr_os_link_get(spawn->link[0], &spawn->fault, sizeof spawn->fault)
                     : -ESRCH;
    return result == 0 && spawn->fault.error ? nr_spawn_refused(spawn) : result;
}

static int nr_spawn_let_go(struct nr_spawn *spawn)
{
    struct naru_child *child = spawn->child;
    int result = spawn->is_sure ? 0 : nr_spawn_await_report(spawn);

    if (spawn->fault.error)
        return result;
    for (size_t i = 0; i < spawn->options.ends_count && result == 0; i++)
        result = naru_pair_assign(spawn->options.ends[i], child->pid);
    if (result == 0)
        result = spawn->is_sure ? nr_os_gate_open(spawn->link[0])
                                : nr_os_link_put(spawn->link[0], "", 1);
    if (result == -ESRCH || result == -EPIPE)
        return nr_fail(-ESRCH, "process %d was killed before it began", (int)child->pid);
    return result < 0 ? nr_spawn_failed(spawn, result) : 0;
}

/* Can nothing fail in the child? Moving descriptors can't if there is room above the targets. Taking over an end opens
   a pidfd, for which the descriptor has room that the child has just closed: once. */
bool nr_spawn_is_sure(const struct naru_spawn_options *options)
{
    uint64_t room = nr_os_fd_limit();
    size_t needed = options->fds_count + options->ends_count * NR_ENDPOINT_FDS_MAX + 2;

    for (size_t i = 0; i < options->fds_count; i++)
        if ((uint64_t)options->fds[i].target + needed >= room)
            return false;
    return !options->directory && !options->limits_count && !options->nice &&
           !options->cpus_count && options->ends_count <= 1;
}

static int nr_spawn_by_zygote(struct nr_spawn *spawn)
{
    int result = nr_zygote_fork(spawn);

    if (result < 0)
        return result == -EOWNERDEAD ? result : nr_spawn_failed(spawn, result);
    spawn->child->pid = result;
    if (!spawn->is_sure)
        nr_os_close(&spawn->link[1]);
    return nr_spawn_let_go(spawn);
}

static int nr_spawn_function(struct nr_spawn *spawn)
{
    spawn->is_sure = nr_spawn_is_sure(&spawn->options);
    int result = spawn->is_sure ? nr_os_gate_new(spawn->link) : nr_os_link_new(spawn->link);

    if (result == 0 && spawn->options.zygote)
        return nr_spawn_by_zygote(spawn);
    if (result == 0)
        result = nr_os_keeper_run(nr_spawn_fork, spawn);
    if (result == 0)
        result = spawn->result;
    if (result < 0)
        return nr_spawn_failed(spawn, result);
    spawn->child->pid = spawn->result;
    if (!spawn->is_sure)
        nr_os_close(&spawn->link[1]);
    result = nr_os_pidfd_open(spawn->child->pid);
    if (result < 0) { /* it ends by itself, when its link is closed */
        nr_os_close(&spawn->link[0]);
        nr_os_wait_for(spawn->child->pid);
        return nr_spawn_failed(spawn, result);
    }
    spawn->child->pidfd = result;
    return nr_spawn_let_go(spawn);
}

/* -- a program --------------------------------------------------------------------------------------- */

static bool nr_spawn_is_told_by(const char *variable)
{
    return strncmp(variable, "NARU_READY_FD=", 14) == 0 ||
           strncmp(variable, "NOTIFY_SOCKET=", 14) == 0;
}

/* Inherited, without what would make the child tell our own parent that it is ready. */
static int nr_spawn_environment(struct nr_spawn *spawn)
{
    const char *const *from =
        spawn->options.environment ? spawn->options.environment : nr_os_environment();
    size_t count = 0, kept = 0;

    while (from && from[count])
        count++;
    spawn->environment = calloc(count + 2, sizeof *spawn->environment);
    if (!spawn->environment)
        return nr_fail(-ENOMEM, "no memory for the environment of a child");
    for (size_t i = 0; i < count; i++)
        if (spawn->options.environment || !nr_spawn_is_told_by(from[i]))
            spawn->environment[kept++] = from[i];
    if (spawn->options.readiness)
        spawn->environment[kept] = spawn->ready_variable;
    return 0;
}

/* The child's side of the readiness gets the lowest number that is no target. */
static void nr_spawn_name_ready(struct nr_spawn *spawn)
{
    struct nr_os_spawn_plan *plan = &spawn->plan;
    int number = 3;

    for (unsigned i = 0; i < plan->moves_count; i++)
        if (plan->moves[i].to == number) {
            number++;
            i = UINT32_MAX; /* from the start */
        }
    plan->moves[plan->moves_count++] = (struct nr_os_spawn_move){spawn->ready_fd[1], number};
    snprintf(spawn->ready_variable, sizeof spawn->ready_variable, "NARU_READY_FD=%d", number);
}

static void nr_spawn_exec(void *argument)
{
    struct nr_spawn *spawn = argument;

    spawn->result = nr_os_spawn_exec(&spawn->plan, spawn->argv, spawn->environment,
                                     &spawn->child->pidfd, &spawn->fault);
}

static int nr_spawn_program(struct nr_spawn *spawn)
{
    if (spawn->options.zygote)
        return nr_fail(-EOPNOTSUPP, "a zygote forks for functions; a program does not need one");
    if (spawn->options.ends_count)
        return nr_fail(-EOPNOTSUPP, "the end of a pair can't be handed to a program; give it a "
                                    "descriptor, or the name of a channel");
    if (spawn->options.readiness == NARU_READY_BY_LINE)
        nr_spawn_name_ready(spawn);
    int result = nr_spawn_environment(spawn);
    if (result < 0)
        return result;
    spawn->child->is_program = true;
    result = nr_os_keeper_run(nr_spawn_exec, spawn);
    if (result == 0)
        result = spawn->result;
    if (result < 0)
        return spawn->fault.error ? nr_spawn_refused(spawn) : nr_spawn_failed(spawn, result);
    spawn->child->pid = spawn->result;
    return 0;
}

/* -- both --------------------------------------------------------------------------------------------- */

static int nr_spawn_run(struct naru_child **ret, struct nr_spawn *spawn,
                        const struct naru_spawn_options *options)
{
    int result = nr_spawn_begin(spawn, options);

    if (result == 0) {
        nr_death_expect();
        spawn->child->born_ns = nr_os_now_ns();
        result = spawn->argv ? nr_spawn_program(spawn) : nr_spawn_function(spawn);
    }
    struct naru_child *child = spawn->child;
    if (result == 0) {
        child->ready_fd = nr_steal_fd(&spawn->ready_fd[0]);
        if (spawn->options.death_signal && !child->zygote)
            nr_os_keeper_add(&child->charge, child->pidfd);
        *ret = child;
    } else if (child && child->pidfd >= 0) {
        nr_os_pidfd_signal(child->pidfd, NR_OS_SIGKILL);
        nr_death_take(child, false, &(struct nr_os_end){0});
    }
    if (result < 0 && child)
        nr_child_free(child);
    nr_spawn_end(spawn);
    return result;
}

int naru_spawn(struct naru_child **ret, int (*function)(void *context), void *context,
               const struct naru_spawn_options *options)
{
    struct nr_spawn spawn = {
        .function = function, .context = context, .link = {-1, -1}, .ready_fd = {-1, -1}};

    nr_error_clear();
    if (!ret || !function)
        return nr_fail(-EINVAL, "naru_spawn() needs a place for the child, and a function");
    if (options && options->size_bytes >= sizeof *options && options->environment)
        return nr_fail(-EOPNOTSUPP,
                       "the option environment is for programs; a function may call setenv(3)");
    if (options && options->size_bytes >= sizeof *options &&
        options->readiness == NARU_READY_BY_NOTIFY)
        return nr_fail(-EOPNOTSUPP, "readiness by NOTIFY_SOCKET is for programs; a function calls "
                                    "naru_ready(), with NARU_READY_BY_LINE");
    return nr_spawn_run(ret, &spawn, options);
}

int naru_spawn_program(struct naru_child **ret, const char *const *argv,
                       const struct naru_spawn_options *options)
{
    struct nr_spawn spawn = {.argv = argv, .link = {-1, -1}, .ready_fd = {-1, -1}};

    nr_error_clear();
    if (!ret || !argv || !argv[0])
        return nr_fail(-EINVAL,
                       "naru_spawn_program() needs a place for the child, and the program's name");
    return nr_spawn_run(ret, &spawn, options);
}
