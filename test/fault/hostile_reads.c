/* SPDX-License-Identifier: MIT */
/*
 * hostile_reads -- whatever stands in the shared memory at the moment of a load, nothing crashes or hangs
 *
 * What       The sources of shm:// are compiled for support/adversary.h, which overwrites words of the segment
 *            just before they are read, with values that a peer could have written there. Random operations
 *            (support/hostile.h) go on meanwhile. Checked: no crash, and no undefined behaviour (that traps);
 *            nothing outside the segment or the caller's memory is touched (walls); each call ends after a bounded
 *            number of loads; only documented results, each with a sentence.
 *            And how much one repair, or one take of a call, may load at most, grows with the channel and no faster.
 * Seeds      NARU_SEED and the number of the episode, which is printed, give the same episode again:
 *            NARU_SEED=S NARU_EPISODE=E. NARU_BUDGET_S is the time for all channels together; without it 4 s.
 */
#include "adversary.h"
#include "data/calls.h"
#include "hostile.h"
#include "kit.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    STEPS = 40, /* an episode's */
    UNHARMED_STEPS = 4,
    BUDGET_S = 4,
    EPISODES_LEAST = 50, /* of each channel */
    CHANGES_LEAST = 1000,
    LOADS_MOST =
        1 << 21, /* a call's: a walk in each of some thousand looks while someone is in the way */
};

static struct progress {
    unsigned long episode, episodes, steps, good, loads, changes, loads_most;
    char operation[16], greedy[16];
} * progress;

static uint64_t seed;
static char uri[80];
static const struct nr_hostile_channel *channel;

static unsigned long from_environment(const char *name, unsigned long otherwise)
{
    const char *text = getenv(name);

    return text ? strtoul(text, NULL, 10) : otherwise;
}

static void call_begins(const char *operation)
{
    strcpy(progress->operation, operation);
    nr_adversary_loads();
}

static void call_ends(const char *operation)
{
    unsigned long loads = nr_adversary_loads();

    if (loads <= progress->loads_most)
        return;
    progress->loads_most = loads;
    strcpy(progress->greedy, operation);
}

/* A new channel, used a little; then the adversary comes. */
static void run_episode(unsigned long number)
{
    static const unsigned rarities[] = {1, 2, 3, 5, 9, 30, 100, 400};
    static unsigned char *room;
    uint64_t random = seed * 1000003 + number;
    struct nr_hostile hostile = {
        .channel = channel,
        .uri = uri,
        .random = nr_hostile_random(&random),
        .room = room,
        .is_inside = nr_adversary_is_inside,
        .begins = call_begins,
        .ends_call = call_ends,
    };

    progress->episode = number;
    nr_hostile_open(&hostile);
    nr_check(hostile.ends[0] && hostile.ends[1], "%s", naru_error_text());
    for (int i = 0; i < UNHARMED_STEPS; i++)
        nr_hostile_step(&hostile);
    nr_adversary_begin(nr_hostile_random(&random), rarities[nr_hostile_random(&random) % 8]);
    for (int i = 0; i < STEPS; i++)
        nr_hostile_step(&hostile);
    nr_hostile_close(&hostile);
    nr_adversary_end();
    unlink(uri + strlen("shm://"));
    room = hostile.room;
    progress->steps += hostile.steps;
    progress->good += hostile.good;
}

static void run_episodes(void)
{
    const char *only = getenv("NARU_EPISODE");
    double share_s =
        (double)from_environment("NARU_BUDGET_S", BUDGET_S) / nr_hostile_channels_count;
    int64_t end_ns = nr_kit_now_ns() + (int64_t)(share_s * NARU_SECOND);

    nr_adversary_loads_most = LOADS_MOST;
    if (only)
        run_episode(strtoul(only, NULL, 10));
    /* On a machine that is busy with other things it takes longer, and does as much. */
    int64_t last_ns = end_ns + 20 * NARU_SECOND;
    for (unsigned long i = 0; !only && nr_kit_now_ns() < last_ns; i++, progress->episodes++) {
        bool is_enough = i > EPISODES_LEAST && nr_adversary_changes_count > CHANGES_LEAST;
        if (is_enough && nr_kit_now_ns() >= end_ns)
            break;
        run_episode(i);
    }
    progress->loads = nr_adversary_loads_count;
    progress->changes = nr_adversary_changes_count;
}

static void test_adversarial_reads(void **state)
{
    channel = *state;
    snprintf(uri, sizeof uri, "shm:///dev/shm/naru-hostile-%d", (int)getpid());
    progress = nr_kit_shared(sizeof *progress);
    pid_t pid = nr_kit_fork();
    if (pid == 0) {
        run_episodes();
        _exit(0);
    }
    int status = -1;
    while (waitpid(pid, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    if (status != 0)
        fail_msg("%s: %s %d in %s; again: NARU_SEED=%lu NARU_EPISODE=%lu", channel->name,
                 WIFSIGNALED(status) ? "signal" : "exit code",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), progress->operation,
                 (unsigned long)seed, progress->episode);
    print_message("# %s: %lu episodes, %lu calls (%lu succeeded), %lu loads, %lu of them tampered "
                  "with; most loads in one call: %lu (%s)\n",
                  channel->name, progress->episodes, progress->steps, progress->good,
                  progress->loads, progress->changes, progress->loads_most, progress->greedy);
    if (!getenv("NARU_EPISODE"))
        assert_true(progress->episodes > EPISODES_LEAST && progress->changes > CHANGES_LEAST);
}

/* Memory of a segment, for a structure by itself. */
static void *segment_new(size_t size_bytes)
{
    int fd = memfd_create("naru-hostile", MFD_CLOEXEC);

    assert_int_equal(ftruncate(fd, (off_t)size_bytes), 0);
    void *memory = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(memory != MAP_FAILED);
    close(fd);
    return memory;
}

/* Requests that seem to wait, of calls that are over: all slots are in one and the same of the states that there are. */
static unsigned long loads_of_take(uint32_t count, unsigned state)
{
    struct nr_calls calls = {
        .ring = {.slots_count = count, .slot_bytes = 64},
        .count = count / 2,
        .participants_count = 8,
        .size_max_bytes = 8,
    };
    struct nr_call_ticket ticket;
    size_t size_bytes = nr_calls_bytes(&calls);
    uint32_t blocker;
    void *memory = segment_new(size_bytes);

    nr_calls_attach(&calls, memory);
    nr_calls_join(&calls, 3);
    for (uint32_t i = 0; i < count; i++) {
        struct nr_slot *slot = (struct nr_slot *)(void *)(calls.ring.slots + (size_t)i * 64);
        slot->word = state << 12;
        slot->size_bytes = 16;
    }
    nr_adversary_loads();
    nr_calls_take(&calls, &ticket, &blocker);
    unsigned long loads = nr_adversary_loads();
    munmap(memory, size_bytes);
    return loads;
}

/* Chunks that seem to be the dead one's, and slots that seem to carry them: who repairs looks at each a few times. */
static unsigned long loads_of_repair(uint32_t count, uint64_t random)
{
    enum { DEAD = 7, ME = 3 };
    struct nr_slot_ring ring = {
        .slots_count = count, .slot_bytes = 64, .chunks_count = count, .chunk_bytes = 64};
    size_t size_bytes = nr_slot_ring_bytes(&ring);
    void *memory = segment_new(size_bytes);

    nr_slot_ring_attach(&ring, memory);
    ring.me = ME;
    for (uint32_t i = 0; i < count; i++) {
        struct nr_slot *slot = (struct nr_slot *)(void *)(ring.slots + (size_t)i * 64);
        struct nr_chunk *chunk = nr_chunk_at(&ring, i);
        slot->word = nr_hostile_random(&random) << 12 | DEAD;
        slot->chunk = (uint32_t)(nr_hostile_random(&random) % (2 * count));
        chunk->word = nr_hostile_random(&random) << 12 | DEAD;
        chunk->origin = nr_hostile_random(&random) % (2 * count);
    }
    nr_adversary_loads();
    nr_slot_repair(&ring, DEAD);
    unsigned long loads = nr_adversary_loads();
    munmap(memory, size_bytes);
    return loads;
}

static void test_steps_are_linear(void **state)
{
    (void)state;
    nr_adversary_loads_most = 0;
    for (uint32_t count = 64; count <= 4096; count *= 8) {
        unsigned long repair = loads_of_repair(count, seed), take = 0;
        for (unsigned i = 0; i < 16; i++) {
            unsigned long loads = loads_of_take(count, i);
            take = loads > take ? loads : take;
        }
        print_message("# %u slots and chunks: %lu loads to repair, at most %lu to take a call\n",
                      count, repair, take);
        assert_true(repair > count && repair < 16ul * count);
        assert_true(take > 0 && take < 100ul * count);
    }
}

static int test_teardown(void **state)
{
    (void)state;
    unlink(uri + strlen("shm://"));
    return 0;
}

int main(void)
{
    struct CMUnitTest tests[32] = {cmocka_unit_test(test_steps_are_linear)};

    seed = from_environment("NARU_SEED", 1);
    for (unsigned i = 0; i < nr_hostile_channels_count; i++)
        tests[i + 1] = (struct CMUnitTest){
            .name = nr_hostile_channels[i].name,
            .test_func = test_adversarial_reads,
            .teardown_func = test_teardown,
            .initial_state = (void *)(uintptr_t)&nr_hostile_channels[i],
        };
    return _cmocka_run_group_tests("hostile_reads", tests, nr_hostile_channels_count + 1, NULL,
                                   NULL);
}
