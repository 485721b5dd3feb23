/* SPDX-License-Identifier: MIT */
/*
 * call_kill -- a client or a server of calls is killed, with a real SIGKILL, after any instruction of what it does
 *
 * The others go on: each request of a living client ends with its own reply, from the victim or another server, or,
 * at most once, with the declared error; nothing of a dead client is left; all calls of the table can be used
 * again. And a client that sleeps is woken, wherever between answering and waking the server died.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include "kit.h"
#include "step.h"
#include <errno.h>
#include <naru/call.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { CALLS = 4, ROOM_BYTES = 100, ERROR_CODE = 5, POINTS = 40, POINTS_SANITIZED = 6, SMALL = 2 };

static struct stage {
    struct nr_step_path path;
    struct nr_step_death death;
    int is_ready, may_begin, is_done, result;
    int sleeps_soon, went_on, sleeper_result;
} * stage;

struct victim {
    struct naru_endpoint *endpoint;
    struct naru_message request;
    struct naru_call call;
    char room[ROOM_BYTES];
};

enum meanwhile { NOTHING, TAKEN, ANSWERED }; /* what becomes of a client's call before it dies */

struct act {
    const char *name;
    enum naru_role role;
    void (*prepare)(struct victim *victim);
    int (*run)(struct victim *victim);
    enum meanwhile meanwhile;
};

static char uri[80];
static const struct act *act;
static bool at_most_once;
static struct naru_endpoint *client, *server;
static long point;

#define check(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            nr_kit_fail(__FILE__, __LINE__, "%s, %s, at %ld: not so: " #condition ": %s",          \
                        at_most_once ? "at most once" : "at least once", act->name, point,         \
                        naru_error_text());                                                        \
    } while (0)

static struct naru_endpoint *open_as(enum naru_role role)
{
    struct naru_options options = {
        .size_bytes = sizeof options,
        .pattern = NARU_CALL,
        .delivery = at_most_once ? NARU_AT_MOST_ONCE : NARU_AT_LEAST_ONCE,
        .message_size_max_bytes = ROOM_BYTES,
        .capacity_messages = CALLS,
        .participants_max = 6,
    };
    struct naru_endpoint *endpoint = NULL;

    nr_check_ok(naru_open(&endpoint, uri, role, &options));
    return endpoint;
}

static struct naru_call begin_call(struct naru_endpoint *endpoint, unsigned index, char *room,
                                   size_t room_bytes)
{
    static char question[ROOM_BYTES];
    struct naru_call call = {
        .size_bytes = sizeof call,
        .request = question,
        .request_size_bytes = sizeof question,
        .reply = room,
        .reply_capacity_bytes = room_bytes,
    };

    nr_payload_fill(question, sizeof question, 1, index);
    nr_check_ok(naru_call_begin(endpoint, &call, 0));
    return call;
}

/* Answers from sender 2. */
static int answer(struct naru_endpoint *endpoint, struct naru_message *request)
{
    struct nr_payload_stamp stamp;
    char room[ROOM_BYTES];

    check(nr_payload_read(request->data, request->size_bytes, &stamp) && stamp.sender == 1);
    nr_payload_fill(room, sizeof room, 2, stamp.index);
    return naru_reply(endpoint, request, room, sizeof room);
}

/* -- what the victim does ----------------------------------------------------------------------- */

static void with_request(struct victim *victim)
{
    nr_check_ok(naru_take(victim->endpoint, &victim->request, NR_SOON));
}
static void with_call(struct victim *victim)
{
    victim->call = begin_call(victim->endpoint, 9, victim->room, sizeof victim->room);
}
static void with_small_room(struct victim *victim)
{
    victim->call = begin_call(victim->endpoint, 9, victim->room, SMALL);
}

static int run_take(struct victim *victim)
{
    return naru_take(victim->endpoint, &victim->request, 0);
}
static int run_reply(struct victim *victim)
{
    return answer(victim->endpoint, &victim->request);
}
static int run_reply_error(struct victim *victim)
{
    return naru_reply_error(victim->endpoint, &victim->request, ERROR_CODE, "no", 2);
}
static int run_requeue(struct victim *victim)
{
    return naru_requeue(victim->endpoint, &victim->request);
}
static int run_close(struct victim *victim)
{
    naru_close(victim->endpoint);
    return 0;
}
static int run_begin(struct victim *victim)
{
    with_call(victim);
    return 0;
}
static int run_end(struct victim *victim)
{
    return naru_call_end(victim->endpoint, &victim->call, 0);
}
static int run_cancel(struct victim *victim)
{
    return naru_call_cancel(victim->endpoint, &victim->call);
}
static int run_call(struct victim *victim)
{
    struct naru_call call = {.size_bytes = sizeof call};

    return naru_call(victim->endpoint, &call, 2 * NARU_MILLISECOND);
}

static const struct act server_acts[] = {
    {"take", NARU_RECEIVER, NULL, run_take, NOTHING},
    {"reply", NARU_RECEIVER, with_request, run_reply, NOTHING},
    {"reply_error", NARU_RECEIVER, with_request, run_reply_error, NOTHING},
    {"requeue", NARU_RECEIVER, with_request, run_requeue, NOTHING},
    {"close with a request in hand", NARU_RECEIVER, with_request, run_close, NOTHING},
};
static const struct act client_acts[] = {
    {"begin", NARU_SENDER, NULL, run_begin, NOTHING},
    {"end", NARU_SENDER, with_call, run_end, ANSWERED},
    {"end without room", NARU_SENDER, with_small_room, run_end, ANSWERED},
    {"end before the reply", NARU_SENDER, with_call, run_end, TAKEN},
    {"cancel what waits", NARU_SENDER, with_call, run_cancel, NOTHING},
    {"cancel what is taken", NARU_SENDER, with_call, run_cancel, TAKEN},
    {"cancel what is answered", NARU_SENDER, with_call, run_cancel, ANSWERED},
    {"close while it waits", NARU_SENDER, with_call, run_close, NOTHING},
    {"close while it is taken", NARU_SENDER, with_call, run_close, TAKEN},
    {"close while it is answered", NARU_SENDER, with_call, run_close, ANSWERED},
    {"call until a time-out", NARU_SENDER, NULL, run_call, NOTHING},
};

enum { RECORD = -1 };

static _Noreturn void victim_run(void)
{
    struct victim victim = {.endpoint = open_as(act->role)};

    if (act->prepare)
        act->prepare(&victim);
    nr_kit_set(&stage->is_ready, 1);
    nr_kit_await(&stage->may_begin, 1);
    if (point == RECORD)
        nr_step_record(&stage->path);
    else
        nr_step_die(&stage->path, (uint32_t)point, &stage->death);
    nr_step_begin();
    stage->result = act->run(&victim);
    nr_step_end();
    stage->is_done = 1;
    nr_step_kill();
}

static pid_t victim_start(void)
{
    memset((char *)stage + offsetof(struct stage, death), 0,
           sizeof *stage - offsetof(struct stage, death));
    pid_t pid = nr_kit_fork();
    if (pid == 0)
        victim_run();
    nr_kit_await(&stage->is_ready, 1);
    return pid;
}

static void victim_end(pid_t pid)
{
    int status;

    nr_kit_set(&stage->may_begin, 1);
    check(waitpid(pid, &status, 0) == pid);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* -- what must hold ----------------------------------------------------------------------------- */

static void look_for_the_dead(void)
{
    struct naru_stat stat = {.size_bytes = sizeof stat};

    nr_check_ok(naru_stat(server, &stat));
    check(stat.peers == 1); /* our client */
}

static void expect_all_free(void)
{
    struct naru_call calls[CALLS], other = {.size_bytes = sizeof other};
    char rooms[CALLS][ROOM_BYTES];
    struct naru_message request;

    check(naru_take(server, &request, 0) == -EAGAIN);
    for (unsigned i = 0; i < CALLS; i++)
        calls[i] = begin_call(client, 20 + i, rooms[i], ROOM_BYTES);
    check(naru_call_begin(client, &other, 0) == -EAGAIN);
    for (unsigned i = 0; i < CALLS; i++) {
        check(naru_take(server, &request, 0) == 0 && !(request.flags & NARU_REDELIVERED));
        check(answer(server, &request) == 0);
    }
    for (unsigned i = 0; i < CALLS; i++)
        check(naru_call_end(client, &calls[i], 0) == 0 &&
              nr_payload_is_whole(rooms[i], ROOM_BYTES, 2, 20 + i));
}

/* Takes all there is, and answers: which of the two requests came, and whether they were flagged. */
static void serve(bool came[2], bool flagged[2])
{
    struct naru_message request;

    while (naru_take(server, &request, 0) == 0) {
        struct nr_payload_stamp stamp;
        check(nr_payload_read(request.data, request.size_bytes, &stamp) && stamp.index < 2);
        check(!came[stamp.index]);
        came[stamp.index] = true;
        flagged[stamp.index] = request.flags & NARU_REDELIVERED;
        check(answer(server, &request) == 0);
    }
}

/* Two requests are there; the victim may have the first in hand. True if what it did counts. */
static bool server_life(void)
{
    char rooms[2][ROOM_BYTES];
    bool came[2] = {false}, flagged[2] = {false};

    struct naru_call one = begin_call(client, 0, rooms[0], ROOM_BYTES);
    struct naru_call two = begin_call(client, 1, rooms[1], ROOM_BYTES);
    pid_t pid = victim_start();
    victim_end(pid);
    look_for_the_dead();
    serve(came, flagged);
    check(came[1] && !flagged[1]);
    check(naru_call_end(client, &two, 0) == 0 && two.server_pid == getpid());
    check(nr_payload_is_whole(rooms[1], ROOM_BYTES, 2, 1));
    int result = naru_call_end(client, &one, 0);
    bool replies = act->run == run_reply || act->run == run_reply_error, counts = false;
    bool had_it = act->prepare == with_request || (stage->is_done && stage->result == 0);
    if (came[0]) {
        check(result == 0 && one.server_pid == getpid() && !one.error);
        check(nr_payload_is_whole(rooms[0], ROOM_BYTES, 2, 0));
        check(flagged[0] || !had_it);
        check(!at_most_once || !flagged[0] || act->run == run_requeue);
        counts = act->run == run_requeue || flagged[0];
    } else if (result == -EOWNERDEAD) {
        check(at_most_once);
    } else {
        check(replies && one.server_pid == pid);
        check(act->run == run_reply ? result == 0 && nr_payload_is_whole(rooms[0], ROOM_BYTES, 2, 0)
                                    : result == -EREMOTEIO && one.error == ERROR_CODE);
        counts = true;
    }
    if (stage->is_done && replies)
        check(stage->result == 0 && counts && !came[0]);
    if (stage->is_done && !at_most_once && !replies)
        check(came[0] && flagged[0]);
    return counts;
}

static bool client_life(void)
{
    struct naru_message request = {0};

    pid_t pid = victim_start();
    if (act->meanwhile != NOTHING)
        nr_check_ok(naru_take(server, &request, NR_SOON));
    if (act->meanwhile == ANSWERED)
        check(answer(server, &request) == 0);
    victim_end(pid);
    look_for_the_dead();
    if (act->meanwhile == TAKEN)
        check(answer(server, &request) == -EPIPE);
    if (stage->is_done && act->run == run_end)
        check(stage->result == (act->meanwhile == TAKEN           ? -EAGAIN
                                : act->prepare == with_small_room ? -EMSGSIZE
                                                                  : 0));
    return stage->is_done;
}

static bool live_and_die(void)
{
    client = open_as(NARU_SENDER);
    server = open_as(NARU_RECEIVER);
    bool counts = act->role == NARU_RECEIVER ? server_life() : client_life();
    expect_all_free();
    naru_close(client);
    naru_close(server);
    check(naru_unlink(uri) == 0);
    return counts;
}

static unsigned visit(const struct act *one, unsigned seed)
{
    unsigned kills = 0, most = getenv("NARU_SANITIZED") ? POINTS_SANITIZED : POINTS;
    bool counted = false;
    uint32_t *points;

    act = one;
    point = RECORD;
    live_and_die();
    check(stage->path.is_over);
    uint32_t count = nr_step_points(&stage->path, &points);
    for (uint32_t i = 0; i < count; i += count / most + 1) {
        uint32_t at = i + seed % (count / most + 1);
        if (at >= count)
            break;
        point = points[at];
        bool counts = live_and_die();
        check(counts || !counted || act->role == NARU_SENDER); /* what has an effect keeps it */
        counted = counts;
        kills += stage->death.is_reached;
    }
    free(points);
    print_message("# %s: %u points, %u kills\n", act->name, count, kills);
    return kills;
}

static void skip_where_there_are_no_steps(void)
{
    const char *why = nr_step_refusal();

    if (why) {
        print_message("SKIP: %s\n", why);
        skip();
    }
}

static unsigned seed_from_environment(void)
{
    const char *text = getenv("NARU_SEED");
    unsigned seed = text ? (unsigned)strtoul(text, NULL, 10) : (unsigned)time(NULL);

    print_message("# NARU_SEED=%u\n", seed);
    return seed;
}

static void test_kill_points(void **state)
{
    unsigned kills = 0;

    (void)state;
    skip_where_there_are_no_steps();
    unsigned seed = seed_from_environment();
    for (int i = 0; i < 2; i++) {
        at_most_once = i;
        for (size_t a = 0; a < sizeof server_acts / sizeof server_acts[0]; a++)
            kills += visit(&server_acts[a], seed);
        for (size_t a = 0; a < sizeof client_acts / sizeof client_acts[0]; a++)
            kills += visit(&client_acts[a], seed);
    }
    print_message("# %u kills\n", kills);
    assert_true(kills >= (getenv("NARU_SANITIZED") ? 80 : 800));
}

/* -- between answering and waking --------------------------------------------------------------- */

/* Who has slept a few times sleeps in another way, and for long. */
static _Noreturn void sleeper(unsigned sleeps)
{
    struct naru_endpoint *endpoint = open_as(NARU_SENDER);
    char room[ROOM_BYTES];

    struct naru_call call = begin_call(endpoint, 0, room, ROOM_BYTES);
    for (unsigned i = 0; i < sleeps; i++)
        check(naru_call_end(endpoint, &call, NARU_MILLISECOND) == -ETIMEDOUT);
    nr_kit_set(&stage->sleeps_soon, 1);
    stage->sleeper_result = naru_call_end(endpoint, &call, 60 * NARU_SECOND);
    nr_kit_set(&stage->went_on, 1);
    nr_step_kill(); /* no goodbye to a channel that the test looks at */
}

static bool is_asleep(pid_t pid)
{
    char path[32], text[512] = "";

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    check(file && fgets(text, sizeof text, file));
    fclose(file);
    return strrchr(text, ')')[2] == 'S';
}

static pid_t sleeper_start(unsigned sleeps)
{
    pid_t pid = nr_kit_fork();

    if (pid == 0)
        sleeper(sleeps);
    nr_kit_await(&stage->sleeps_soon, 1);
    return pid;
}

static void await_sleep(pid_t pid)
{
    for (int64_t end = nr_kit_now_ns() + NR_SOON; !is_asleep(pid); sched_yield())
        check(nr_kit_now_ns() < end);
}

static bool goes_on(pid_t sleeping)
{
    int64_t patience = nr_kit_now_ns() + 60 * NARU_MILLISECOND * nr_kit_slowness();

    while (!nr_kit_get(&stage->went_on) && nr_kit_now_ns() < patience)
        sleep_ms(1);
    bool went_on = nr_kit_get(&stage->went_on);
    nr_kit_kill(sleeping);
    check(naru_unlink(uri) == 0);
    return went_on;
}

/* One life: the client sleeps, the only server dies at the point, nobody else touches the channel. */
static bool wakes_up(void)
{
    memset((char *)stage + offsetof(struct stage, death), 0,
           sizeof *stage - offsetof(struct stage, death));
    pid_t sleeping = sleeper_start(0);
    pid_t pid = nr_kit_fork();
    if (pid == 0)
        victim_run();
    nr_kit_await(&stage->is_ready, 1);
    await_sleep(sleeping);
    victim_end(pid);
    return goes_on(sleeping);
}

/* At most once, the client has an outcome wherever the server dies: the reply, or the error. */
static void test_sleeping_client(void **state)
{
    static const struct act reply = {"reply to a sleeper", NARU_RECEIVER, with_request, run_reply,
                                     NOTHING};
    unsigned replies = 0, errors = 0;
    uint32_t *points;

    (void)state;
    skip_where_there_are_no_steps();
    act = &reply;
    at_most_once = true;
    point = RECORD;
    check(wakes_up() && stage->sleeper_result == 0);
    uint32_t count = nr_step_points(&stage->path, &points);
    uint32_t stride = count / (getenv("NARU_SANITIZED") ? 8 : 100) + 1;
    for (uint32_t i = 0; i < count; i += stride) {
        point = points[i];
        bool went_on = false;
        for (int chances = 0; !went_on && chances < 4; chances++)
            went_on = wakes_up(); /* one that got no processor is given another chance */
        check(went_on);
        check(stage->sleeper_result == 0 || stage->sleeper_result == -EOWNERDEAD);
        check(stage->sleeper_result == 0 || !replies);
        replies += stage->sleeper_result == 0;
        errors += stage->sleeper_result != 0;
    }
    free(points);
    print_message("# %u replies, %u errors\n", replies, errors);
    assert_true(replies > 0 && errors > 0);
}

/* Only its pidfd tells: it has used another channel since, which its thread's death would tell instead of this one. */
static _Noreturn void die_elsewhere(void)
{
    struct victim victim = {.endpoint = open_as(NARU_RECEIVER)};
    struct naru_endpoint *elsewhere[2];

    with_request(&victim);
    nr_check_ok(naru_pair(elsewhere, "shm://", NULL));
    nr_check_ok(naru_send(elsewhere[0], "x", 1, 0));
    nr_step_kill();
}

/* The client sleeps already when the server comes. */
static void test_server_that_came_later(void **state)
{
    enum { LIVES = 4, SLEEPS = 8 };
    int status;

    (void)state;
    act = &server_acts[0];
    at_most_once = true;
    for (point = 0; point < LIVES; point++) {
        memset(stage, 0, sizeof *stage);
        pid_t sleeping = sleeper_start(SLEEPS);
        await_sleep(sleeping);
        pid_t pid = nr_kit_fork();
        if (pid == 0)
            die_elsewhere();
        check(waitpid(pid, &status, 0) == pid);
        check(goes_on(sleeping) && stage->sleeper_result == -EOWNERDEAD);
    }
}

static int group_setup(void **state)
{
    (void)state;
    snprintf(uri, sizeof uri, "shm:///dev/shm/naru-test-call-kill-%d", (int)getpid());
    stage = nr_kit_shared(sizeof *stage);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    naru_unlink(uri); /* there when a check has failed */
    munmap(stage, sizeof *stage);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kill_points),
        cmocka_unit_test(test_sleeping_client),
        cmocka_unit_test(test_server_that_came_later),
    };

    alarm(170);
    return cmocka_run_group_tests_name("call_kill", tests, group_setup, group_teardown);
}
