/* SPDX-License-Identifier: MIT */
/*
 * shm_kill -- a process is killed, with a real SIGKILL, after any instruction of any operation on shm://; the
 *             others go on, and what test/kill/world.h says must hold
 *
 * All kinds, states and operations there are, and at least 10,000 kills: where an operation has more points than
 * its share, NARU_SEED (otherwise the clock) chooses, and is printed. test/deep/shm_kill_all.c goes on for longer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include "life.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>

enum { KILLS = 10000, KILLS_SANITIZED = 300 };

static struct nr_kill_run run;

static void skip_where_there_are_no_steps(void)
{
    const char *why = nr_step_refusal();

    if (why) {
        print_message("SKIP: %s\n", why);
        skip();
    }
}

/* Attaching has twenty times the instructions of the others, in much the same way in each state: of these worlds
   only some are visited in a run, and more often. A waiting one takes its time. */
static unsigned share(const struct nr_kill_operation *operation, enum nr_kill_state state)
{
    enum { SHARE = 10, SHARE_LONG = 60, EVERY = 4 };

    if (operation->makes || operation->removes)
        return SHARE_LONG;
    if (operation->is_alone)
        return (state + run.worlds) % EVERY == 0 ? SHARE_LONG : 0;
    return operation->waits ? SHARE / 2 : SHARE;
}

static void test_kill_points(void **state)
{
    skip_where_there_are_no_steps();
    bool is_sanitized = getenv("NARU_SANITIZED");
    unsigned long points = 0;

    (void)state;
    for (unsigned o = 0; o < nr_kill_operations_count; o++) {
        const struct nr_kill_operation *operation = &nr_kill_operations[o];
        unsigned long before = run.kills, visited = 0;
        for (unsigned k = 0; k < nr_kill_kinds_count; k++)
            for (enum nr_kill_state s = 0; s < NR_KILL_STATES; s++) {
                if (!nr_kill_is_world(&nr_kill_kinds[k], s, operation))
                    continue;
                if (is_sanitized && nr_kill_random(&run.random, 6))
                    continue;
                unsigned count = share(operation, s);
                if (count == 0)
                    continue;
                points += nr_kill_world_run(&run, &nr_kill_kinds[k], s, operation,
                                            is_sanitized ? count / 3 : count);
                visited++;
            }
        print_message("# %s: %lu kills in %lu worlds\n", operation->name, run.kills - before,
                      visited);
    }
    print_message("# %lu kills at %lu points of %lu worlds; %lu victims took another way\n",
                  run.kills, points, run.worlds, run.missed);
    assert_true(run.missed < run.kills / 20 + 5);
    assert_true(run.kills >= (is_sanitized ? KILLS_SANITIZED : KILLS));
}

/* A sender that is stopped in the middle of its slot is named, and holds up nobody for longer than they allow. */
static void stopped_sender(struct nr_kill_world *world, pid_t victim)
{
    struct naru_endpoint *receiver = world->receiver;
    char letter[NR_KILL_ROOM_BYTES], words[32];

    snprintf(words, sizeof words, "process %d", (int)victim);
    assert_text_has(words);
    assert_int_equal(naru_recv(receiver, letter, sizeof letter, NULL, 20 * NARU_MILLISECOND),
                     -EBUSY);
    /* The descriptor rests meanwhile, and tells when the way is free. */
    struct pollfd one = {.fd = naru_fd(receiver), .events = POLLIN};
    assert_true(one.fd >= 0);
    assert_int_equal(naru_recv(receiver, letter, sizeof letter, NULL, 0), -EBUSY);
    assert_int_equal(poll(&one, 1, 100), 0);
    nr_kit_kill(victim);
    assert_int_equal(poll(&one, 1, 5000), 1);
    assert_int_equal(naru_recv(receiver, letter, sizeof letter, NULL, 0), -EAGAIN);
}

static void test_stopped_sender_is_named(void **state)
{
    skip_where_there_are_no_steps();
    struct nr_kill_world world;
    bool was_busy = false;

    (void)state;
    nr_kill_world_init(&world, &run, &nr_kill_kinds[0], NR_KILL_EMPTY, &nr_kill_operations[0]);
    nr_kill_life(&run, &world, NR_KILL_RECORD);
    for (uint32_t point = 0; point < run.path->count && !was_busy; point++) {
        int status;
        nr_kill_world_init(&world, &run, &nr_kill_kinds[0], NR_KILL_EMPTY, &nr_kill_operations[0]);
        run.ledger->death.stops = 1;
        world.kind->begin(&world);
        pid_t victim = nr_kit_fork();
        if (victim == 0)
            nr_kill_victim_run(&world, &run, point, NULL);
        assert_int_equal(waitpid(victim, &status, WUNTRACED), victim);
        assert_true(WIFSTOPPED(status));
        int64_t before = clock_ms();
        char letter[NR_KILL_ROOM_BYTES];
        int result = naru_recv(world.receiver, letter, sizeof letter, NULL, 0);
        assert_true(clock_ms() - before < 1000);
        was_busy = result == -EBUSY;
        if (was_busy)
            stopped_sender(&world, victim);
        else
            nr_kit_kill(victim);
        world.kind->end(&world);
    }
    assert_true(was_busy);
}

static int group_setup(void **state)
{
    const char *seed_text = getenv("NARU_SEED");
    char name[40];
    uint64_t seed = seed_text ? strtoull(seed_text, NULL, 10) : (uint64_t)time(NULL);

    (void)state;
    print_message("# NARU_SEED=%llu\n", (unsigned long long)seed);
    snprintf(name, sizeof name, "naru-test-kill-%d", (int)getpid());
    nr_kill_run_init(&run, seed, name);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    nr_kill_run_deinit(&run);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kill_points),
        cmocka_unit_test(test_stopped_sender_is_named),
    };

    alarm(170);
    return cmocka_run_group_tests_name("shm_kill", tests, group_setup, group_teardown);
}
