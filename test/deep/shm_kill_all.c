/* SPDX-License-Identifier: MIT */
/*
 * shm_kill_all -- the kill points of shm://, as many as the budget allows, on all processors
 *
 *   kills      real ones, with SIGKILL, and pairs of them: the victim, and then whoever repairs what it left
 *   snapshots  on all images that a victim goes through, and on those of its repairer
 *
 * Worlds come in an order that NARU_SEED gives. It takes SHARES times NARU_BUDGET_S (scripts/test-deep knows). A run that
 * gets less far than a slow machine would, fails: two workers must come to 100,000 kills and a million
 * snapshots in their part of ten minutes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "film.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS_MOST = 8, BUDGET_S = 20, SHARES = 4 };
/* Of each worker, each second of its time. */
enum { KILLS_LEAST = 226, POINTS_LEAST = 1000, PAIRS_LEAST = 1000, SNAPSHOTS_LEAST = 11300 };
/* Of the time: kills need most of it. */
static const double kills_share = 5.0 / 6, snapshots_share = 1.0 / 6;

static struct count {
    uint64_t kills, pair_kills, missed, worlds, points, images, pairs, pair_images;
} * counts;
static unsigned workers_count;
static char names[WORKERS_MOST][40];
static uint64_t seed;
static double budget_s;

static void skip_where_there_are_no_steps(void)
{
    const char *why = nr_step_refusal();

    if (why) {
        print_message("SKIP: %s\n", why);
        skip();
    }
}

struct work {
    void (*world)(struct nr_kill_cinema *cinema, const struct nr_kill_kind *kind,
                  enum nr_kill_state state, const struct nr_kill_operation *operation);
    unsigned worker;
    int64_t until_ns;
};

/* Worlds by lot, until the time is over. */
static void work_on(void *argument)
{
    const struct work *work = argument;
    struct count *count = &counts[work->worker];
    struct nr_kill_cinema cinema;

    nr_kill_cinema_init(&cinema, seed * WORKERS_MOST + work->worker, names[work->worker]);
    while (nr_kit_now_ns() < work->until_ns) {
        uint64_t *random = &cinema.run.random;
        const struct nr_kill_kind *kind =
            &nr_kill_kinds[nr_kill_random(random, nr_kill_kinds_count)];
        const struct nr_kill_operation *operation =
            &nr_kill_operations[nr_kill_random(random, nr_kill_operations_count)];
        enum nr_kill_state state = nr_kill_random(random, NR_KILL_STATES);
        if (nr_kill_is_world(kind, state, operation))
            work->world(&cinema, kind, state, operation);
    }
    *count = (struct count){
        .kills = cinema.run.kills,
        .pair_kills = cinema.run.pairs,
        .missed = cinema.run.missed,
        .worlds = cinema.run.worlds,
        .points = cinema.points,
        .images = cinema.images,
        .pairs = cinema.pairs,
        .pair_images = cinema.pair_images,
    };
    nr_kill_cinema_deinit(&cinema);
}

/* All workers at once, for their share of the budget; the sum of what they did. */
static struct count
work_together(double share, void (*world)(struct nr_kill_cinema *, const struct nr_kill_kind *,
                                          enum nr_kill_state, const struct nr_kill_operation *))
{
    struct count sum = {0};
    pid_t pids[WORKERS_MOST];

    for (unsigned i = 0; i < workers_count; i++) {
        pids[i] = nr_kit_fork();
        if (pids[i] == 0) {
            struct work work = {
                .world = world,
                .worker = i,
                .until_ns = nr_kit_now_ns() + (int64_t)(budget_s * share * NARU_SECOND),
            };
            work_on(&work);
            exit(0);
        }
    }
    for (unsigned i = 0; i < workers_count; i++)
        nr_kit_join(pids[i]);
    for (unsigned i = 0; i < workers_count; i++) {
        const struct count *one = &counts[i];
        sum.kills += one->kills;
        sum.pair_kills += one->pair_kills;
        sum.missed += one->missed;
        sum.worlds += one->worlds;
        sum.points += one->points;
        sum.images += one->images;
        sum.pairs += one->pairs;
        sum.pair_images += one->pair_images;
    }
    return sum;
}

static void kill_in_world(struct nr_kill_cinema *cinema, const struct nr_kill_kind *kind,
                          enum nr_kill_state state, const struct nr_kill_operation *operation)
{
    struct nr_kill_run *run = &cinema->run;

    if (nr_kill_random(&run->random, 4) == 0)
        nr_kill_world_run_pairs(run, kind, state, operation, 40);
    else
        nr_kill_world_run(run, kind, state, operation, operation->waits ? 20 : 200);
}

static void test_kills(void **state)
{
    skip_where_there_are_no_steps();
    struct count sum = work_together(kills_share, kill_in_world);
    double share = budget_s * kills_share * workers_count;

    (void)state;
    print_message("# %lu kills in %lu worlds; %lu of them in pairs with their repairer; %lu took "
                  "another way\n",
                  sum.kills, sum.worlds, sum.pair_kills, sum.missed);
    assert_true(sum.missed < sum.kills / 20 + 5);
    assert_true((double)sum.kills >= KILLS_LEAST * share);
    assert_true(sum.pair_kills > 0);
}

static void film_world(struct nr_kill_cinema *cinema, const struct nr_kill_kind *kind,
                       enum nr_kill_state state, const struct nr_kill_operation *operation)
{
    if (nr_kill_is_filmed(kind, state, operation))
        nr_kill_world_film(cinema, kind, state, operation,
                           nr_kill_random(&cinema->run.random, 3) == 0 ? 10 : 0);
}

static void test_snapshots(void **state)
{
    skip_where_there_are_no_steps();
    struct count sum = work_together(snapshots_share, film_world);
    double share = budget_s * snapshots_share * workers_count;

    (void)state;
    print_message("# %lu points of victims, on %lu images, and %lu points of their repairers, on "
                  "%lu images, in %lu worlds\n",
                  sum.points, sum.images, sum.pairs, sum.pair_images, sum.worlds);
    assert_true((double)sum.points >= POINTS_LEAST * share);
    assert_true((double)sum.pairs >= PAIRS_LEAST * share);
    assert_true((double)(sum.points + sum.pairs) >= SNAPSHOTS_LEAST * share);
}

static int group_setup(void **state)
{
    const char *seed_text = getenv("NARU_SEED"), *budget_text = getenv("NARU_BUDGET_S");
    long processors = sysconf(_SC_NPROCESSORS_ONLN);

    (void)state;
    seed = seed_text ? strtoull(seed_text, NULL, 10) : (uint64_t)time(NULL);
    budget_s = budget_text ? SHARES * atof(budget_text) : BUDGET_S;
    workers_count = processors < 1              ? 1
                    : processors > WORKERS_MOST ? WORKERS_MOST
                                                : (unsigned)processors;
    for (int i = 0; i < WORKERS_MOST; i++)
        snprintf(names[i], sizeof names[i], "naru-test-kill-%d-%d", (int)getpid(), i);
    counts = nr_kit_shared(WORKERS_MOST * sizeof *counts);
    print_message("# NARU_SEED=%lu, %.0f s, %u workers\n", seed, budget_s, workers_count);
    return 0;
}

/* Those of workers that have failed are still there. */
static int group_teardown(void **state)
{
    (void)state;
    for (int i = 0; i < WORKERS_MOST; i++) {
        char uri[80];
        snprintf(uri, sizeof uri, "shm:///dev/shm/%.39s", names[i]);
        naru_unlink(uri);
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kills),
        cmocka_unit_test(test_snapshots),
    };

    return cmocka_run_group_tests_name("shm_kill_all", tests, group_setup, group_teardown);
}
