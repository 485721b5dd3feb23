/* SPDX-License-Identifier: MIT */
#include "film.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The repairer waits for a number: 1 + that of the image to repair. */
enum { NR_KILL_CAST_READY, NR_KILL_REPAIRER_READY, NR_KILL_ORDER, NR_KILL_DONE, NR_KILL_SIGNS };

static struct nr_step_film *nr_kill_film_new(void)
{
    struct nr_step_film *film = nr_kit_shared(sizeof *film);

    film->frames_most = NR_KILL_FRAMES_MOST;
    film->frames = nr_kit_shared((size_t)NR_KILL_FRAMES_MOST * NR_KILL_IMAGE_MOST_BYTES);
    film->point = nr_kit_shared(NR_KILL_FRAMES_MOST * sizeof *film->point);
    return film;
}

static void nr_kill_film_free(struct nr_step_film *film)
{
    munmap(film->frames, (size_t)NR_KILL_FRAMES_MOST * NR_KILL_IMAGE_MOST_BYTES);
    munmap(film->point, NR_KILL_FRAMES_MOST * sizeof *film->point);
    munmap(film, sizeof *film);
}

void nr_kill_cinema_init(struct nr_kill_cinema *cinema, uint64_t seed, const char *name)
{
    *cinema = (struct nr_kill_cinema){.points = 0};
    nr_kill_run_init(&cinema->run, seed, name);
    cinema->victims = nr_kill_film_new();
    cinema->repairers = nr_kill_film_new();
    cinema->stage = nr_kit_shared(NR_KILL_SIGNS * sizeof *cinema->stage);
}

void nr_kill_cinema_deinit(struct nr_kill_cinema *cinema)
{
    nr_kill_run_deinit(&cinema->run);
    nr_kill_film_free(cinema->victims);
    nr_kill_film_free(cinema->repairers);
    munmap(cinema->stage, NR_KILL_SIGNS * sizeof *cinema->stage);
}

bool nr_kill_is_filmed(const struct nr_kill_kind *kind, enum nr_kill_state state,
                       const struct nr_kill_operation *operation)
{
    /* A cast that leaves can't keep what it has; and who subscribes anew would get what was given back. */
    bool keeps = state == NR_KILL_HELD || state == NR_KILL_LOANS || state == NR_KILL_ORPHANS ||
                 state == NR_KILL_WRAPPED;

    return nr_kill_is_world(kind, state, operation) && kind->is_named && !operation->makes &&
           !operation->removes && !operation->waits && !(keeps && kind->cast_leaves);
}

/* The one who brings the channel into its state, and keeps what it has until it is killed. */
static pid_t nr_kill_cast_start(struct nr_kill_cinema *cinema, struct nr_kill_world *world)
{
    pid_t pid = nr_kit_fork();

    if (pid == 0) {
        world->kind->begin(world);
        if (world->kind->cast_leaves) {
            naru_close(world->sender);
            naru_close(world->receiver);
        } else {
            world->ledger->others_entries = 2;
            world->ledger->others_chunks = world->held_count + world->loans_count;
        }
        nr_kit_set(&cinema->stage[NR_KILL_CAST_READY], 1);
        for (;;)
            pause();
    }
    nr_kit_await(&cinema->stage[NR_KILL_CAST_READY], 1);
    return pid;
}

static void *nr_kill_map(struct nr_kill_world *world, size_t *ret_bytes)
{
    int fd = open(world->uri + strlen("shm://"), O_RDWR | O_CLOEXEC);
    struct stat status;

    nr_kill_check(world, fd >= 0 && fstat(fd, &status) == 0, "no segment");
    *ret_bytes = (size_t)status.st_size;
    nr_kill_check(world, *ret_bytes <= NR_KILL_IMAGE_MOST_BYTES, "%zu bytes", *ret_bytes);
    void *memory = mmap(NULL, *ret_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    nr_kill_check(world, memory != MAP_FAILED, "mmap");
    close(fd);
    return memory;
}

static void nr_kill_film_begin(struct nr_step_film *film, const void *memory, size_t size_bytes)
{
    film->memory = memory;
    film->size_bytes = size_bytes;
    film->frames_count = 0;
    film->instructions = 0;
    film->has_overflown = 0;
}

static const void *nr_kill_frame(const struct nr_step_film *film, uint32_t number)
{
    return film->frames + (size_t)number * film->size_bytes;
}

/* Survivors, attaching anew, on an image. */
static void nr_kill_settle_on(struct nr_kill_world *world, void *memory,
                              const struct nr_step_film *film, uint32_t number)
{
    memcpy(memory, nr_kill_frame(film, number), film->size_bytes);
    world->point = film->point[number];
    world->kind->settle(world);
    naru_close(world->sender);
    naru_close(world->receiver);
    world->sender = world->receiver = NULL;
}

/* -- the repairer ------------------------------------------------------------------------------ */

/* It repairs on each image that it is told, and is filmed. */
static _Noreturn void nr_kill_repairer(struct nr_kill_cinema *cinema, struct nr_kill_world *world)
{
    bool sends = world->kind->options.one_to_one && world->operation->role == NARU_RECEIVER;
    struct naru_endpoint *endpoint = nr_kill_open(world, sends ? NARU_SENDER : NARU_RECEIVER);
    struct naru_stat stat = {.size_bytes = sizeof stat};

    nr_kit_set(&cinema->stage[NR_KILL_REPAIRER_READY], 1);
    for (int order = 1;; order++) {
        while (nr_kit_get(&cinema->stage[NR_KILL_ORDER]) < order)
            usleep(50);
        nr_step_film(cinema->repairers);
        nr_step_begin();
        int result = naru_stat(endpoint, &stat);
        nr_step_end();
        nr_kill_ok(world, result);
        nr_kit_set(&cinema->stage[NR_KILL_DONE], order);
    }
}

/* Repairs on some of the victim's images; then, the repairer being dead, survivors settle on all it has made. */
static void nr_kill_film_repairs(struct nr_kill_cinema *cinema, struct nr_kill_world *world,
                                 void *memory, pid_t repairer, unsigned repairs)
{
    struct nr_step_film *victims = cinema->victims, *film = cinema->repairers;
    uint32_t ends[64], is_done[64], count = 0;

    nr_kill_film_begin(film, memory, victims->size_bytes);
    for (; count < repairs && count < 64 && film->frames_count < film->frames_most / 2; count++) {
        uint32_t number = nr_kill_random(&cinema->run.random, victims->frames_count);
        memcpy(memory, nr_kill_frame(victims, number), victims->size_bytes);
        nr_kit_set(&cinema->stage[NR_KILL_ORDER], (int)count + 1);
        nr_kit_await(&cinema->stage[NR_KILL_DONE], (int)count + 1);
        ends[count] = film->frames_count;
        is_done[count] = number + 1 == victims->frames_count;
    }
    nr_kill_check(world, !film->has_overflown, "too many images");
    nr_kit_kill(repairer);
    world->ledger->dead++;
    for (uint32_t i = 0, number = 0; i < count; i++)
        for (world->ledger->is_done = is_done[i]; number < ends[i]; number++)
            nr_kill_settle_on(world, memory, film, number);
    cinema->pairs += film->instructions;
    cinema->pair_images += film->frames_count;
}

/* -- a world ----------------------------------------------------------------------------------- */

void nr_kill_world_film(struct nr_kill_cinema *cinema, const struct nr_kill_kind *kind,
                        enum nr_kill_state state, const struct nr_kill_operation *operation,
                        unsigned repairs)
{
    struct nr_kill_run *run = &cinema->run;
    struct nr_kill_world world;
    size_t size_bytes;
    int status;

    memset(cinema->stage, 0, NR_KILL_SIGNS * sizeof *cinema->stage);
    run->variant = nr_kill_random(&run->random, 1u << 16);
    nr_kill_world_init(&world, run, kind, state, operation);
    world.is_film = true;
    pid_t cast = nr_kill_cast_start(cinema, &world), repairer = 0;
    void *memory = nr_kill_map(&world, &size_bytes);
    if (repairs) {
        repairer = nr_kit_fork();
        if (repairer == 0)
            nr_kill_repairer(cinema, &world);
        nr_kit_await(&cinema->stage[NR_KILL_REPAIRER_READY], 1);
    }
    nr_kill_film_begin(cinema->victims, memory, size_bytes);
    pid_t victim = nr_kit_fork();
    if (victim == 0)
        nr_kill_victim_run(&world, run, NR_KILL_FILM, cinema->victims);
    nr_kill_check(&world,
                  waitpid(victim, &status, 0) == victim && WIFSIGNALED(status) &&
                      WTERMSIG(status) == SIGKILL,
                  "the victim ended with status 0x%x", (unsigned)status);
    nr_kill_check(&world, run->ledger->is_done && !cinema->victims->has_overflown, "%u images",
                  cinema->victims->frames_count);
    if (repairs) {
        nr_kill_film_repairs(cinema, &world, memory, repairer, repairs);
    } else {
        for (uint32_t i = 0; i < cinema->victims->frames_count; i++) {
            run->ledger->is_done = i + 1 == cinema->victims->frames_count;
            nr_kill_settle_on(&world, memory, cinema->victims, i);
        }
        cinema->points += cinema->victims->instructions;
        cinema->images += cinema->victims->frames_count;
    }
    run->worlds++;
    munmap(memory, size_bytes);
    nr_kit_kill(cast);
    nr_kill_check(&world, naru_unlink(world.uri) == 0, "%s", naru_error_text());
}
