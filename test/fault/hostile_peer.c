/* SPDX-License-Identifier: MIT */
/*
 * hostile_peer -- a process writes at random over the whole segment while others work on it
 *
 * What       Header, participants, slots, chunks, rings: nothing is spared. Two processes make random operations
 *            (support/hostile.h) with and without waiting; they must not crash, nor stay in a call much longer
 *            than its time-out, and get only documented results. Sanitizers may look on: unlike hostile_reads this
 *            runs the ordinary library.
 * Bounds     NARU_BUDGET_S seconds for all channels together, without it 4 s. What is written where depends on
 *            NARU_SEED; what it meets does not.
 */
#include "hostile.h"
#include "kit.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS = 2, BUDGET_S = 4, STUCK_S = 3, LIFE_MS = 40 };

static struct shared {
    int stops;
    unsigned long scribbles;
    struct {
        int calls, good; /* made, and of these succeeded */
        char operation[16];
    } workers[WORKERS];
} * shared;

static const struct nr_hostile_channel *channel;
static char uri[80];
static uint64_t seed;
static unsigned me; /* a worker's number */

static unsigned long from_environment(const char *name, unsigned long otherwise)
{
    const char *text = getenv(name);

    return text ? strtoul(text, NULL, 10) : otherwise;
}

/* -- who writes ------------------------------------------------------------------------------ */

struct target {
    unsigned char *memory;
    size_t size_bytes;
};

static struct target map_named(void)
{
    struct target target = {0};
    struct stat status;
    int fd = open(uri + strlen("shm://"), O_RDWR | O_CLOEXEC);

    if (fd < 0)
        return target;
    if (fstat(fd, &status) == 0 && status.st_size > 0) {
        target.size_bytes = (size_t)status.st_size;
        target.memory = mmap(NULL, target.size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        nr_check(target.memory != MAP_FAILED, "mmap: %s", strerror(errno));
    }
    close(fd);
    return target;
}

/* A pair's segment has no name: it is where this process inherited it. */
static struct target find_pair(void)
{
    struct target target = {0};
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "re");

    nr_check(maps, "no /proc");
    while (fgets(line, sizeof line, maps)) {
        unsigned long begin, end;
        if (strstr(line, "naru-pair") && sscanf(line, "%lx-%lx", &begin, &end) == 2)
            target = (struct target){(unsigned char *)begin, end - begin};
    }
    fclose(maps);
    nr_check(target.memory, "the pair's segment is not mapped");
    return target;
}

/* Words that mean something somewhere, and words that mean nothing. */
static uint64_t any_word(uint64_t *random)
{
    static const uint64_t edges[] = {0,          1,          2,          3,         64,   200,
                                     0x1000,     0x2001,     4095,       4096,      8191, 0xffff,
                                     0x7fffffff, 0xffffffff, 1ull << 63, UINT64_MAX};
    uint64_t by = nr_hostile_random(random);

    return by & 1 ? edges[by >> 8 & 15] : by & 2 ? by >> 32 : by & 4 ? by % 4096 : by;
}

static void scribble(const struct target *target, uint64_t *random)
{
    size_t words = target->size_bytes / 8;
    volatile uint64_t *memory = (uint64_t *)(void *)target->memory;
    uint64_t by = nr_hostile_random(random);
    /* Half of them where the words of control are: in front. */
    size_t at = (by & 1 ? by >> 8 : (by >> 8) % 200) % words;
    size_t count = by & 0x3e ? 1 : (by >> 40) % 64;

    for (size_t i = at; i < words && i < at + count; i++) {
        if (by & 0x40) /* something that was there, at the wrong place */
            memory[i] = memory[(by >> 20) % words];
        else if (by & 0x80)
            ((volatile unsigned char *)&memory[i])[by >> 60 & 7] = (unsigned char)(by >> 50);
        else
            memory[i] = any_word(random);
    }
    shared->scribbles++;
}

static void run_scribbler(uint64_t random)
{
    struct target pair = {0};

    if (channel->is_pair)
        pair = find_pair();
    while (!nr_kit_get(&shared->stops)) {
        struct target target = channel->is_pair ? pair : map_named();
        /* From a storm to a drop now and then. */
        long pause_ns = (long)(1 << nr_hostile_random(&random) % 18);
        int64_t end = nr_kit_now_ns() + 4 * NARU_MILLISECOND;
        while (target.memory && nr_kit_now_ns() < end) {
            scribble(&target, &random);
            if (pause_ns > 64)
                nanosleep(&(struct timespec){.tv_nsec = pause_ns}, NULL);
        }
        if (target.memory && !channel->is_pair)
            munmap(target.memory, target.size_bytes);
    }
    _exit(0);
}

/* -- who works ------------------------------------------------------------------------------- */

static void call_begins(const char *operation)
{
    strcpy(shared->workers[me].operation, operation);
}

static void call_ends(const char *operation)
{
    (void)operation;
    nr_kit_add(&shared->workers[me].calls, 1);
}

/* Works on one segment for a while, then on a new one: in a ruined one little can still go wrong. */
static void run_life(struct nr_hostile *hostile, uint64_t *random)
{
    static const int64_t timeouts[] = {0, 0, 50000, NARU_MILLISECOND};
    int64_t end = nr_kit_now_ns() + LIFE_MS * NARU_MILLISECOND;
    pid_t scribbler = -1;

    nr_hostile_open(hostile);
    if (channel->is_pair) { /* inherits the mapping */
        nr_check(hostile->ends[0], "%s", naru_error_text());
        scribbler = nr_kit_fork();
        if (scribbler == 0)
            run_scribbler(nr_hostile_random(random));
    }
    while (nr_kit_now_ns() < end && !nr_kit_get(&shared->stops)) {
        hostile->timeout_ns = timeouts[nr_hostile_random(random) % 4];
        nr_hostile_step(hostile);
    }
    if (scribbler > 0)
        nr_kit_kill(scribbler);
    nr_hostile_close(hostile);
    if (!channel->is_pair)
        unlink(uri + strlen("shm://"));
}

static void run_worker(unsigned number)
{
    uint64_t random = seed * 77 + number;
    struct nr_hostile hostile = {
        .channel = channel,
        .uri = uri,
        .random = random,
        .uses_descriptors = true,
        .begins = call_begins,
        .ends_call = call_ends,
    };

    me = number;
    while (!nr_kit_get(&shared->stops))
        run_life(&hostile, &random);
    nr_kit_set(&shared->workers[me].good, (int)hostile.good);
    munmap(hostile.room, 2 * NR_HOSTILE_ROOM_BYTES);
    exit(0); /* the sanitizers want to look for leaks */
}

/* -- the test -------------------------------------------------------------------------------- */

/* Fails when a worker has ended, or has made no call for too long: in time that this process has seen go by, so that one in
   which the machine stood still counts for nobody. */
static void watch(pid_t pids[WORKERS], int64_t end_ns)
{
    enum { ROUND_MS = 5 };
    const int rounds_most = STUCK_S * 1000 / ROUND_MS * nr_kit_slowness();
    int calls[WORKERS] = {0}, rounds[WORKERS] = {0};

    while (nr_kit_now_ns() < end_ns) {
        nr_kit_sleep_ms(ROUND_MS);
        for (int i = 0; i < WORKERS; i++) {
            int status = 0, now = nr_kit_get(&shared->workers[i].calls);
            nr_check(waitpid(pids[i], &status, WNOHANG) == 0, "%s: a worker ended in %s: %s %d",
                     channel->name, shared->workers[i].operation,
                     WIFSIGNALED(status) ? "signal" : "exit code",
                     WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            rounds[i] = now == calls[i] ? rounds[i] + 1 : 0;
            calls[i] = now;
            nr_check(rounds[i] < rounds_most, "%s: a worker stays in %s", channel->name,
                     shared->workers[i].operation);
        }
    }
}

static void run_channel(void *argument)
{
    double share_s =
        (double)from_environment("NARU_BUDGET_S", BUDGET_S) / nr_hostile_channels_count;
    pid_t pids[WORKERS], scribbler = -1;

    channel = argument;
    shared = nr_kit_shared(sizeof *shared);
    snprintf(uri, sizeof uri, "shm:///dev/shm/naru-hostile-%d", (int)getppid());
    for (unsigned i = 0; i < WORKERS; i++)
        if ((pids[i] = nr_kit_fork()) == 0)
            run_worker(i);
    if (!channel->is_pair && (scribbler = nr_kit_fork()) == 0)
        run_scribbler(seed);
    watch(pids, nr_kit_now_ns() + (int64_t)(share_s * NARU_SECOND));
    nr_kit_set(&shared->stops, 1);
    for (int i = 0; i < WORKERS; i++)
        nr_kit_join(pids[i]);
    if (scribbler > 0)
        nr_kit_join(scribbler);
    int calls = shared->workers[0].calls + shared->workers[1].calls;
    int good = shared->workers[0].good + shared->workers[1].good;
    printf("# %s: %lu scribbles, %d calls (%d succeeded)\n", channel->name, shared->scribbles,
           calls, good);
    nr_check(shared->scribbles > 50 && calls > 200 && good > 20, "%s: too little happened",
             channel->name);
}

static void test_hostile_peer(void **state)
{
    unsigned long budget_s = from_environment("NARU_BUDGET_S", BUDGET_S);
    const char *sanitizers = getenv("NARU_SANITIZED");

    if (sanitizers && strstr(sanitizers, "thread")) {
        print_message(
            "SKIP: the scribbler is a race, and each sleep in slices takes its whole time\n");
        skip();
    }
    int result = nr_kit_run(run_channel, *state, (int)budget_s + 4 * STUCK_S);
    char path[80];

    snprintf(path, sizeof path, "/dev/shm/naru-hostile-%d", (int)getpid());
    unlink(path);
    if (result != 0)
        fail_msg("NARU_SEED=%lu", (unsigned long)seed);
}

int main(void)
{
    struct CMUnitTest tests[32];

    seed = from_environment("NARU_SEED", 1);
    for (unsigned i = 0; i < nr_hostile_channels_count; i++)
        tests[i] = (struct CMUnitTest){
            .name = nr_hostile_channels[i].name,
            .test_func = test_hostile_peer,
            .initial_state = (void *)(uintptr_t)&nr_hostile_channels[i],
        };
    return _cmocka_run_group_tests("hostile_peer", tests, nr_hostile_channels_count, NULL, NULL);
}
