/* SPDX-License-Identifier: MIT */
/* supervisor -- each state, each event, and the one descriptor */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "kit.h"
#include <errno.h>
#include <fcntl.h>
#include <naru/supervisor.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Starts again at once, or as it says. */
#define SERVICE(...) PAUSING(.backoff_ns = 1, __VA_ARGS__)
#define PAUSING(...)                                                                               \
    (&(struct naru_service){.size_bytes = sizeof(struct naru_service), __VA_ARGS__})
#define READY                                                                                      \
    (&(struct naru_spawn_options){.size_bytes = sizeof(struct naru_spawn_options),                 \
                                  .readiness = NARU_READY_BY_LINE})

static int *shared; /* zeroed before each test */
static struct naru_supervisor *supervisor;
static struct naru_service_event event;
static struct naru_service_stat stat_of;
static int fds_before;

static int set_up(void **state)
{
    static const int zeros[16];

    (void)state;
    if (!shared)
        shared = nr_kit_shared(4096);
    memcpy(shared, zeros, sizeof zeros);
    fds_before = nr_kit_fds();
    return naru_supervisor_open(&supervisor);
}

static int tear_down(void **state)
{
    (void)state;
    naru_supervisor_close(supervisor);
    assert_int_equal(nr_kit_fds(), fds_before);
    assert_true(waitpid(-1, NULL, __WALL | WNOHANG) < 0 && errno == ECHILD);
    return 0;
}

/* The next event is this one, and leads to that state. */
static struct naru_service_event *expect(int service, enum naru_happening happening,
                                         enum naru_service_state state)
{
    event.size_bytes = sizeof event;
    nr_check_ok(naru_supervisor_step(supervisor, &event, NR_SOON));
    nr_check(event.service == service && event.happening == happening && event.state == state,
             "service %d, happening %d, state %d: %s", event.service, (int)event.happening,
             (int)event.state, event.death.text);
    return &event;
}

static void expect_nothing(void)
{
    event.size_bytes = sizeof event;
    nr_check_fails(naru_supervisor_step(supervisor, &event, 0), -EAGAIN, "nothing");
}

static const struct naru_service_stat *look(int service)
{
    stat_of = (struct naru_service_stat){.size_bytes = sizeof stat_of};
    nr_check_ok(naru_supervisor_stat(supervisor, service, &stat_of));
    return &stat_of;
}

static int sleeps(void *unused)
{
    while (!unused)
        pause();
    return 0;
}

static int returns(void *context)
{
    return *(int *)context;
}

static int is_deaf(void *unused)
{
    signal(SIGTERM, SIG_IGN);
    naru_ready();
    return sleeps(unused);
}

static int is_ready(void *unused)
{
    naru_ready();
    return sleeps(unused);
}

/* -- restarts ------------------------------------------------------------------------------------------ */

static void restarts_as_it_is_told(void **state)
{
    int good = 0, bad = 3;

    (void)state;
    assert_int_equal(
        nr_check_ok(naru_supervisor_add(
            supervisor, SERVICE(.function = returns, .context = &bad, .deaths_max = 3))),
        0);
    for (int i = 1; i < 3; i++) {
        expect(0, NARU_SERVICE_DIED, NARU_SERVICE_WAITING);
        assert_int_equal(event.death.exit_status, 3);
        assert_int_equal(look(0)->deaths_in_row, i);
        expect(0, NARU_SERVICE_STARTED, NARU_SERVICE_UP);
    }
    expect(0, NARU_SERVICE_DIED, NARU_SERVICE_FAILED);
    nr_check(look(0)->starts == 3 && stat_of.failed == 3 && stat_of.pid == 0, "%d %d",
             (int)stat_of.starts, (int)stat_of.failed);
    expect_nothing();

    nr_check_ok(naru_supervisor_add(supervisor, SERVICE(.function = returns, .context = &good,
                                                        .restart = NARU_RESTART_ON_FAILURE)));
    expect(1, NARU_SERVICE_DIED, NARU_SERVICE_DOWN);
    nr_check(look(1)->ended == 1 && stat_of.failed == 0, "%d", (int)stat_of.ended);
    nr_check_ok(naru_supervisor_add(supervisor, SERVICE(.function = returns, .context = &bad,
                                                        .restart = NARU_RESTART_ON_FAILURE)));
    expect(2, NARU_SERVICE_DIED, NARU_SERVICE_WAITING);
    nr_check_ok(naru_supervisor_stop(supervisor, 2));
    assert_int_equal(look(2)->state, NARU_SERVICE_DOWN);
    nr_check_ok(naru_supervisor_add(
        supervisor, SERVICE(.function = returns, .context = &bad, .restart = NARU_RESTART_NEVER)));
    expect(3, NARU_SERVICE_DIED, NARU_SERVICE_FAILED);
    nr_check_ok(naru_supervisor_add(
        supervisor, SERVICE(.function = returns, .context = &good, .restart = NARU_RESTART_NEVER)));
    expect(4, NARU_SERVICE_DIED, NARU_SERVICE_DOWN);
    nr_check_ok(naru_supervisor_add(
        supervisor, SERVICE(.function = returns, .context = &good, .deaths_max = 2)));
    expect(5, NARU_SERVICE_DIED, NARU_SERVICE_WAITING); /* always */
    expect(5, NARU_SERVICE_STARTED, NARU_SERVICE_UP);
    expect(5, NARU_SERVICE_DIED, NARU_SERVICE_FAILED);
    expect_nothing();
}

/* The pause is never shorter than it is said to be; how much longer the machine decides. */
static void pauses_grow(void **state)
{
    static const int64_t pauses_ns[] = {4000000, 8000000, 10000000, 10000000};
    int bad = 1;

    (void)state;
    nr_check_ok(naru_supervisor_add(supervisor, PAUSING(.function = returns, .context = &bad,
                                                        .backoff_ns = 4 * NARU_MILLISECOND,
                                                        .backoff_max_ns = 10 * NARU_MILLISECOND)));
    for (int i = 0; i < 4; i++) {
        int64_t before_ns = nr_kit_now_ns();
        expect(0, NARU_SERVICE_DIED, NARU_SERVICE_WAITING);
        int64_t left_ns = look(0)->next_start_ns;
        nr_check(left_ns <= pauses_ns[i], "death %d: %lld ns to go", i, (long long)left_ns);
        expect(0, NARU_SERVICE_STARTED, NARU_SERVICE_UP);
        int64_t pause_ns = nr_kit_now_ns() - before_ns;
        nr_check(pause_ns >= pauses_ns[i], "death %d: %lld ns", i, (long long)pause_ns);
    }
}

static void being_steady_is_rewarded(void **state)
{
    (void)state;
    nr_check_ok(naru_supervisor_add(supervisor,
                                    SERVICE(.function = sleeps, .steady_ns = 1, .deaths_max = 2)));
    for (int i = 0; i < 5; i++) {
        nr_check_ok(naru_supervisor_signal(supervisor, 0, SIGKILL));
        expect(0, NARU_SERVICE_DIED, NARU_SERVICE_WAITING);
        assert_int_equal(look(0)->deaths_in_row, 1);
        expect(0, NARU_SERVICE_STARTED, NARU_SERVICE_UP);
    }
    nr_check(look(0)->killed == 5 && stat_of.death.signal_number == SIGKILL, "%d",
             (int)stat_of.killed);
}

/* -- stopping ------------------------------------------------------------------------------------------- */

static void exits_with_5(int number)
{
    _exit(number ? 5 : 0);
}

static int ends_well(void *unused)
{
    signal(SIGTERM, exits_with_5);
    naru_ready();
    return sleeps(unused);
}

static void stops_kindly_and_then_not(void **state)
{
    (void)state;
    nr_check_ok(naru_supervisor_add(supervisor, SERVICE(.function = is_ready, .options = READY)));
    expect(0, NARU_SERVICE_IS_READY, NARU_SERVICE_UP);
    nr_check_ok(naru_supervisor_stop(supervisor, 0));
    assert_int_equal(look(0)->state, NARU_SERVICE_STOPPING);
    nr_check_fails(naru_supervisor_remove(supervisor, 0), -EBUSY, "runs");
    expect(0, NARU_SERVICE_DIED, NARU_SERVICE_DOWN);
    assert_int_equal(event.death.signal_number, SIGTERM);
    assert_int_equal(event.death.was_asked, 1);
    nr_check_fails(naru_supervisor_signal(supervisor, 0, SIGTERM), -ESRCH, "does not run");

    nr_check_ok(naru_supervisor_add(supervisor, SERVICE(.function = is_deaf, .options = READY,
                                                        .grace_ns = 5 * NARU_MILLISECOND)));
    expect(1, NARU_SERVICE_IS_READY, NARU_SERVICE_UP);
    nr_check_ok(naru_supervisor_stop(supervisor, 1));
    expect(1, NARU_SERVICE_DIED, NARU_SERVICE_DOWN);
    assert_int_equal(event.death.signal_number, SIGKILL);

    /* One that is stopped takes its signal, too. */
    nr_check_ok(naru_supervisor_remove(supervisor, 0));
    assert_int_equal(
        naru_supervisor_add(supervisor, SERVICE(.function = ends_well, .options = READY)), 0);
    expect(0, NARU_SERVICE_IS_READY, NARU_SERVICE_UP);
    nr_check_ok(naru_supervisor_signal(supervisor, 0, SIGSTOP));
    nr_check_ok(naru_supervisor_stop(supervisor, 0));
    expect(0, NARU_SERVICE_DIED, NARU_SERVICE_DOWN);
    assert_int_equal(event.death.exit_status, 5);
    nr_check_ok(naru_supervisor_remove(supervisor, 0));
    nr_check_fails(naru_supervisor_stop(supervisor, 0), -ENOENT, "no service 0");
    assert_int_equal(
        naru_supervisor_add(supervisor, SERVICE(.function = sleeps, .stop_signal = SIGUSR1)), 0);
    nr_check_ok(naru_supervisor_stop(supervisor, 0));
    expect(0, NARU_SERVICE_DIED, NARU_SERVICE_DOWN);
    assert_int_equal(event.death.signal_number, SIGUSR1);
}

static void starts_again_what_is_stopping(void **state)
{
    (void)state;
    nr_check_ok(naru_supervisor_add(supervisor, PAUSING(.function = is_ready, .options = READY,
                                                        .backoff_ns = 1000 * NARU_SECOND,
                                                        .backoff_max_ns = 1000 * NARU_SECOND)));
    for (int i = 0; i < 3; i++) { /* however long its pause would be */
        expect(0, NARU_SERVICE_IS_READY, NARU_SERVICE_UP);
        nr_check_ok(naru_supervisor_restart(supervisor, 0));
        expect(0, NARU_SERVICE_DIED, NARU_SERVICE_WAITING);
        expect(0, NARU_SERVICE_STARTED, NARU_SERVICE_STARTING);
    }
    nr_check_ok(naru_supervisor_restart(supervisor, 0));
    nr_check_ok(naru_supervisor_stop(supervisor, 0)); /* the last word counts */
    expect(0, NARU_SERVICE_DIED, NARU_SERVICE_DOWN);
    nr_check_ok(naru_supervisor_start(supervisor, 0));
    nr_check_ok(naru_supervisor_start(supervisor, 0)); /* runs already */
    expect(0, NARU_SERVICE_IS_READY, NARU_SERVICE_UP);
    nr_check_ok(naru_supervisor_signal(supervisor, 0, SIGKILL));
    expect(0, NARU_SERVICE_DIED, NARU_SERVICE_WAITING);
    nr_check_ok(naru_supervisor_start(supervisor, 0)); /* without the pause */
    expect(0, NARU_SERVICE_IS_READY, NARU_SERVICE_UP);
}

static void stops_all(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++)
        nr_check_ok(naru_supervisor_add(supervisor, SERVICE(.function = sleeps)));
    nr_check_ok(naru_supervisor_stop_all(supervisor, NR_SOON));
    for (int i = 0; i < 8; i++)
        nr_check(look(i)->state == NARU_SERVICE_DOWN && stat_of.killed == 1, "service %d", i);
    assert_int_equal(naru_supervisor_count(supervisor), 8);
    nr_check_ok(naru_supervisor_stop_all(supervisor, 0));
    nr_check_ok(naru_supervisor_add(supervisor, SERVICE(.function = is_deaf, .options = READY)));
    expect(8, NARU_SERVICE_IS_READY, NARU_SERVICE_UP);
    nr_check_fails(naru_supervisor_stop_all(supervisor, NARU_MILLISECOND), -ETIMEDOUT, "not all");
    /* close, in tear_down(), kills it */
}

/* -- readiness -------------------------------------------------------------------------------------------- */

static void too_late_is_a_failure(void **state)
{
    (void)state;
    nr_check_ok(naru_supervisor_add(supervisor,
                                    SERVICE(.function = sleeps, .options = READY, .deaths_max = 2,
                                            .ready_timeout_ns = NARU_MILLISECOND)));
    assert_int_equal(look(0)->state, NARU_SERVICE_STARTING);
    expect(0, NARU_SERVICE_DIED, NARU_SERVICE_WAITING);
    assert_int_equal(event.death.signal_number, SIGKILL);
    expect(0, NARU_SERVICE_STARTED, NARU_SERVICE_STARTING);
    expect(0, NARU_SERVICE_DIED, NARU_SERVICE_FAILED);
}

static int is_ready_and_dies(void *unused)
{
    return naru_ready() + (unused != NULL);
}

static void ready_comes_before_death(void **state)
{
    (void)state;
    nr_check_ok(
        naru_supervisor_add(supervisor, SERVICE(.function = is_ready_and_dies, .options = READY)));
    for (int i = 0; i < 10; i++) {
        nr_kit_sleep_ms(2); /* both have happened, most likely */
        expect(0, NARU_SERVICE_IS_READY, NARU_SERVICE_UP);
        expect(0, NARU_SERVICE_DIED, NARU_SERVICE_WAITING);
        expect(0, NARU_SERVICE_STARTED, NARU_SERVICE_STARTING);
    }
}

/* -- the descriptor ----------------------------------------------------------------------------------------- */

static void one_descriptor_tells_all(void **state)
{
    struct pollfd readable = {.fd = (int)nr_check_ok(naru_supervisor_fd(supervisor)),
                              .events = POLLIN};
    int bad = 1;

    (void)state;
    nr_check_ok(naru_supervisor_add(supervisor, SERVICE(.function = sleeps)));
    assert_int_equal(poll(&readable, 1, 0), 0);
    nr_check_ok(
        naru_supervisor_add(supervisor, PAUSING(.function = returns, .context = &bad,
                                                .deaths_max = 3, .backoff_ns = NARU_MILLISECOND)));
    int told = 0;
    while (told < 5) { /* death, start, death, start, death */
        nr_check(poll(&readable, 1, 8000 * nr_kit_slowness()) == 1, "silent after %d", told);
        for (;;) {
            event.size_bytes = sizeof event;
            int result = naru_supervisor_step(supervisor, &event, 0);
            if (result == -EAGAIN)
                break;
            nr_check_ok(result);
            told++;
        }
    }
    assert_int_equal(look(1)->state, NARU_SERVICE_FAILED);
    assert_int_equal(poll(&readable, 1, 0), 0);
}

/* -- starts that fail, and what prepares them -------------------------------------------------------------- */

static void a_start_may_fail(void **state)
{
    char path[64];
    const char *const argv[] = {path, NULL};

    (void)state;
    snprintf(path, sizeof path, "%s/program", nr_kit_directory());
    nr_check_fails(naru_supervisor_add(supervisor, SERVICE(.argv = argv)), -ENOENT, "program");
    nr_check_fails(naru_supervisor_add(supervisor, PAUSING(.deaths_max = 1)), -EINVAL,
                   "function or a program");
    nr_check_fails(naru_supervisor_add(supervisor, SERVICE(.argv = argv, .function = sleeps)),
                   -EINVAL, "function or a program");
    nr_check_fails(
        naru_supervisor_add(supervisor, SERVICE(.function = sleeps, .stop_signal = 1000)), -EINVAL,
        "stop_signal");
    FILE *script = fopen(path, "w");
    fprintf(script, "#!/bin/sh\nexec sleep 1000\n");
    fclose(script);
    chmod(path, 0755);
    assert_int_equal(
        nr_check_ok(naru_supervisor_add(supervisor, SERVICE(.argv = argv, .deaths_max = 4))), 0);
    unlink(path);
    nr_check_ok(naru_supervisor_signal(supervisor, 0, SIGKILL));
    expect(0, NARU_SERVICE_DIED, NARU_SERVICE_WAITING);
    expect(0, NARU_SERVICE_NOT_STARTED, NARU_SERVICE_WAITING);
    nr_check(event.error == -ENOENT && strstr(event.death.text, "program"), "%s", event.death.text);
    expect(0, NARU_SERVICE_NOT_STARTED, NARU_SERVICE_WAITING);
    expect(0, NARU_SERVICE_NOT_STARTED, NARU_SERVICE_FAILED);
    nr_check_fails(naru_supervisor_start(supervisor, 0), -ENOENT, "program");
    nr_check(look(0)->starts == 1 && stat_of.starts_failed == 3, "%d", (int)stat_of.starts_failed);
    nr_kit_directory_remove();
}

static struct naru_endpoint *ends[2];

static int prepares_a_pair(void *context, int service, struct naru_spawn_options *options)
{
    (void)context;
    for (int i = 0; i < 2; i++) {
        naru_close(ends[i]);
        ends[i] = NULL;
    }
    if (service != 0)
        return -EPROTO;
    options->ends = &ends[1];
    options->ends_count = 1;
    return naru_pair(ends, "unix://", NULL);
}

static int says_its_pid(void *unused)
{
    pid_t pid = getpid();

    (void)unused;
    naru_send(ends[1], &pid, sizeof pid, NARU_FOREVER);
    return 1;
}

static void each_start_is_prepared(void **state)
{
    (void)state;
    const struct naru_service *service =
        SERVICE(.function = says_its_pid, .prepare = prepares_a_pair, .deaths_max = 3);
    nr_check_ok(naru_supervisor_add(supervisor, service));
    for (int i = 0; i < 3; i++) {
        pid_t pid;
        nr_check_ok(naru_recv(ends[0], &pid, sizeof pid, NULL, NR_SOON));
        expect(0, NARU_SERVICE_DIED, i < 2 ? NARU_SERVICE_WAITING : NARU_SERVICE_FAILED);
        assert_int_equal(event.pid, pid);
        if (i < 2)
            expect(0, NARU_SERVICE_STARTED, NARU_SERVICE_UP);
    }
    nr_check_fails(naru_supervisor_add(supervisor, service), -EPROTO, "prepares");
    for (int i = 0; i < 2; i++) {
        naru_close(ends[i]);
        ends[i] = NULL;
    }
}

/* -- fork --------------------------------------------------------------------------------------------------- */

static void belongs_to_its_process(void **state)
{
    (void)state;
    nr_check_ok(naru_supervisor_add(supervisor, SERVICE(.function = sleeps)));
    pid_t pid = nr_kit_fork();
    if (pid == 0) {
        event.size_bytes = sizeof event;
        nr_check_fails(naru_supervisor_step(supervisor, &event, 0), -ECHILD, "belongs");
        naru_supervisor_close(supervisor);
        exit(0);
    }
    nr_kit_join(pid);
    nr_check_ok(naru_supervisor_signal(supervisor, 0, SIGTERM));
    expect(0, NARU_SERVICE_DIED, NARU_SERVICE_WAITING); /* it is still watched */
}

/* -- many ----------------------------------------------------------------------------------------------------- */

static void many_are_killed_at_random(void **state)
{
    enum { MANY = 24, KILLS = 60 };
    unsigned seed = 5, kills = 0, deaths = 0;
    int killed[MANY] = {0}; /* the pid that was killed last */

    (void)state;
    for (int i = 0; i < MANY; i++)
        nr_check_ok(naru_supervisor_add(supervisor, SERVICE(.function = sleeps)));
    while (deaths < KILLS) {
        int victim = rand_r(&seed) % MANY;
        if (kills < KILLS && look(victim)->pid && stat_of.pid != killed[victim]) {
            killed[victim] = stat_of.pid;
            kills += kill(stat_of.pid, SIGKILL) == 0;
        }
        event.size_bytes = sizeof event;
        int result = naru_supervisor_step(supervisor, &event, kills < KILLS ? 0 : NR_SOON);
        nr_check(result == 0 || (result == -EAGAIN && kills < KILLS),
                 "%d after %d kills, %d deaths", result, (int)kills, (int)deaths);
        deaths += result == 0 && event.happening == NARU_SERVICE_DIED;
    }
    uint64_t tally = 0, starts = 0;
    for (int i = 0; i < MANY; i++) {
        tally += look(i)->killed;
        starts += stat_of.starts + (stat_of.state == NARU_SERVICE_WAITING);
    }
    nr_check(tally == KILLS && starts == MANY + KILLS, "%d told, %d starts", (int)tally,
             (int)starts);
}

static void needs_pidfds(void **state)
{
    (void)state;
    skip();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(restarts_as_it_is_told),        TEST(pauses_grow),
        TEST(being_steady_is_rewarded),      TEST(stops_kindly_and_then_not),
        TEST(starts_again_what_is_stopping), TEST(stops_all),
        TEST(too_late_is_a_failure),         TEST(ready_comes_before_death),
        TEST(one_descriptor_tells_all),      TEST(a_start_may_fail),
        TEST(each_start_is_prepared),        TEST(belongs_to_its_process),
        TEST(many_are_killed_at_random),
    };
    const struct CMUnitTest none[] = {cmocka_unit_test(needs_pidfds)};

    if (!nr_kit_has_pidfds())
        return cmocka_run_group_tests(none, NULL, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
