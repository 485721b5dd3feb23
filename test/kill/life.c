/* SPDX-License-Identifier: MIT */
#include "life.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

void nr_kill_run_init(struct nr_kill_run *run, uint64_t seed, const char *name)
{
    *run = (struct nr_kill_run){.random = seed * 2654435761u + 1};
    snprintf(run->uri, sizeof run->uri, "shm:///dev/shm/%s", name);
    run->ledger = nr_kit_shared(sizeof *run->ledger);
    run->path = nr_kit_shared(sizeof *run->path);
}

void nr_kill_run_deinit(struct nr_kill_run *run)
{
    naru_unlink(run->uri); /* there when a check has failed */
    munmap(run->ledger, sizeof *run->ledger);
    munmap(run->path, sizeof *run->path);
}

void nr_kill_world_init(struct nr_kill_world *world, struct nr_kill_run *run,
                        const struct nr_kill_kind *kind, enum nr_kill_state state,
                        const struct nr_kill_operation *operation)
{
    memset(run->ledger, 0, sizeof *run->ledger);
    run->ledger->dead = 1;
    *world = (struct nr_kill_world){
        .kind = kind,
        .state = state,
        .operation = operation,
        .uri = run->uri,
        .ledger = run->ledger,
    };
    nr_kill_random(&run->random, 1);
    world->random = run->random;
    world->variant = run->variant;
}

static void nr_kill_victim_got(struct nr_kill_victim *victim, int result)
{
    struct nr_kill_world *world = victim->world;
    struct nr_kill_ledger *ledger = world->ledger;
    enum nr_kill_effect effect = world->operation->effect;

    if (result < 0 || !nr_kill_is_dealt(world) ||
        (effect != NR_KILL_RECEIVES && effect != NR_KILL_TAKES))
        return;
    unsigned count = world->operation->count == 1 ? 1 : (unsigned)result;
    for (unsigned i = 0; i < count; i++)
        ledger->got[ledger->got_count++] = nr_kill_read(world, &victim->messages[i]);
}

void nr_kill_victim_run(struct nr_kill_world *world, const struct nr_kill_run *run, long point,
                        struct nr_step_film *film)
{
    const struct nr_kill_operation *operation = world->operation;
    struct nr_kill_victim victim = {.world = world, .room = world->ledger->room};

    nr_step_expect();
    if (!operation->is_alone)
        victim.endpoint = world->kind->enter(world, operation->role);
    if (operation->prepare)
        operation->prepare(&victim);
    if (point == NR_KILL_RECORD)
        nr_step_record(run->path);
    else if (point == NR_KILL_FILM)
        nr_step_film(film);
    else
        nr_step_die(run->path, (uint32_t)point, &world->ledger->death);
    nr_step_begin();
    int result = operation->run(&victim);
    nr_step_end();
    nr_kill_victim_got(&victim, result);
    world->ledger->result = result;
    world->ledger->is_done = 1;
    nr_step_kill();
}

static void nr_kill_await_death(struct nr_kill_world *world, pid_t pid)
{
    int status;

    nr_kill_check(world, waitpid(pid, &status, 0) == pid, "no process %d", (int)pid);
    nr_kill_check(world, WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
                  "process %d ended with status 0x%x", (int)pid, (unsigned)status);
}

static _Noreturn void nr_kill_repairer_run(struct nr_kill_world *world, uint32_t instructions)
{
    struct nr_kill_ledger *ledger = world->ledger;
    struct naru_endpoint *endpoint = nr_kill_open(world, NARU_RECEIVER);
    struct naru_stat stat = {.size_bytes = sizeof stat};

    nr_kit_set(&ledger->repairer_is_ready, 1);
    nr_kit_await(&ledger->may_repair, 1);
    nr_step_count(instructions, &ledger->repairers_death);
    nr_step_begin();
    naru_stat(endpoint, &stat);
    nr_step_end();
    nr_step_kill();
}

/* A repairer that gets to the end of its repair has been one all the same. */
static void nr_kill_two_lives(struct nr_kill_run *run, struct nr_kill_world *world, long point,
                              uint32_t instructions)
{
    struct nr_kill_ledger *ledger = world->ledger;

    world->point = point;
    world->kind->begin(world);
    pid_t repairer = nr_kit_fork();
    if (repairer == 0)
        nr_kill_repairer_run(world, instructions);
    nr_kit_await(&ledger->repairer_is_ready, 1);
    pid_t victim = nr_kit_fork();
    if (victim == 0)
        nr_kill_victim_run(world, run, point, NULL);
    nr_kill_await_death(world, victim);
    nr_kit_set(&ledger->may_repair, 1);
    nr_kill_await_death(world, repairer);
    ledger->dead++;
    world->kind->settle(world);
    world->kind->end(world);
}

void nr_kill_life(struct nr_kill_run *run, struct nr_kill_world *world, long point)
{
    world->point = point;
    world->kind->begin(world);
    pid_t pid = nr_kit_fork();
    if (pid == 0)
        nr_kill_victim_run(world, run, point, NULL);
    if (world->kind->forked)
        world->kind->forked(world, pid);
    nr_kill_await_death(world, pid);
    world->kind->settle(world);
    world->kind->end(world);
}

unsigned nr_kill_world_run(struct nr_kill_run *run, const struct nr_kill_kind *kind,
                           enum nr_kill_state state, const struct nr_kill_operation *operation,
                           unsigned count)
{
    struct nr_kill_world world;
    uint32_t *points;

    run->variant = nr_kill_random(&run->random, 1u << 16);
    nr_kill_world_init(&world, run, kind, state, operation);
    nr_kill_life(run, &world, NR_KILL_RECORD);
    nr_kill_check(&world, run->path->is_over && run->path->count < NR_STEP_PATH_MOST - 2,
                  "%u instructions", run->path->count);
    uint32_t points_count = nr_step_points(run->path, &points);
    /* One out of each of `count` equal shares. */
    uint32_t shares = count < points_count ? count : points_count;
    unsigned progress = 0;
    for (uint32_t i = 0; i < shares; i++) {
        uint32_t from = (uint32_t)((uint64_t)points_count * i / shares);
        uint32_t to = (uint32_t)((uint64_t)points_count * (i + 1) / shares);
        nr_kill_world_init(&world, run, kind, state, operation);
        nr_kill_life(run, &world, points[from + nr_kill_random(&run->random, to - from)]);
        if (run->ledger->death.is_reached)
            run->kills++;
        else
            run->missed++;
        /* What an operation does happens at one instruction, and stays. */
        nr_kill_check(&world, world.progress >= progress, "it had done %u, and earlier %u",
                      world.progress, progress);
        progress = world.progress;
    }
    run->worlds++;
    free(points);
    return points_count;
}

unsigned nr_kill_world_run_pairs(struct nr_kill_run *run, const struct nr_kill_kind *kind,
                                 enum nr_kill_state state,
                                 const struct nr_kill_operation *operation, unsigned count)
{
    enum { REPAIR_MOST = 1800 }; /* a little more than a repair's instructions */
    struct nr_kill_world world;
    uint32_t *points;

    if (!kind->is_named || kind->options.one_to_one || operation->makes || operation->removes)
        return 0;
    run->variant = nr_kill_random(&run->random, 1u << 16);
    nr_kill_world_init(&world, run, kind, state, operation);
    nr_kill_life(run, &world, NR_KILL_RECORD);
    uint32_t points_count = nr_step_points(run->path, &points);
    for (unsigned i = 0; i < count; i++) {
        long point = points[nr_kill_random(&run->random, points_count)];
        nr_kill_world_init(&world, run, kind, state, operation);
        nr_kill_two_lives(run, &world, point, nr_kill_random(&run->random, REPAIR_MOST));
        run->kills += run->ledger->death.is_reached;
        run->pairs += run->ledger->death.is_reached && run->ledger->repairers_death.is_reached;
    }
    run->worlds++;
    free(points);
    return points_count;
}
