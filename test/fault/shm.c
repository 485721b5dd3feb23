/* SPDX-License-Identifier: MIT */
/* shm -- shm:// : contracts, ends, and no room; damaged segments: hostile_*.c; kills: shm_chaos.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include "place.h"
#include <errno.h>
#include <fcntl.h>
#include <naru/endpoint.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/mman.h>

static char uri[144], path[128];

static int test_setup(void **state)
{
    (void)state;
    alarm(50);
    place_make();
    snprintf(path, sizeof path, "%s/channel", place_directory);
    snprintf(uri, sizeof uri, "shm://%s", path);
    return 0;
}

static int test_teardown(void **state)
{
    (void)state;
    place_remove();
    return 0;
}

static struct naru_options tiny(void)
{
    return (struct naru_options){
        .size_bytes = sizeof(struct naru_options),
        .message_size_max_bytes = 200,
        .capacity_messages = 4,
        .payload_bytes = 8 * 256,
    };
}

static struct naru_endpoint *open_with(enum naru_role role, const struct naru_options *options)
{
    struct naru_endpoint *endpoint = NULL;

    if (naru_open(&endpoint, uri, role, options) < 0)
        fail_msg("%s", naru_error_text());
    return endpoint;
}

static void send_number(struct naru_endpoint *endpoint, int number)
{
    if (naru_send(endpoint, &number, sizeof number, 0) < 0)
        fail_msg("%s", naru_error_text());
}

static int recv_number(struct naru_endpoint *endpoint)
{
    int number = -1;

    return naru_recv(endpoint, &number, sizeof number, NULL, 0) < 0 ? -1 : number;
}

static int open_result(const struct naru_options *options)
{
    struct naru_endpoint *endpoint = NULL;
    int result = naru_open(&endpoint, uri, NARU_RECEIVER, options);

    naru_close(endpoint);
    return result;
}

/* -- contracts ---------------------------------------------------------------------------------- */

static void test_fail_when_full(void **state)
{
    struct naru_options options = tiny();

    (void)state;
    options.when_full = NARU_FAIL;
    struct naru_endpoint *both = open_with(NARU_BOTH, &options);
    for (int i = 0; i < 4; i++)
        send_number(both, i);
    assert_int_equal(naru_send(both, "x", 1, NARU_FOREVER), -ENOBUFS);
    assert_text_has("full");
    assert_int_equal(recv_number(both), 0);
    send_number(both, 4);
    naru_close(both);
}

static void test_drop_newest_is_told(void **state)
{
    struct naru_options options = tiny();
    int number;
    struct naru_message message = {.data = &number, .capacity_bytes = sizeof number};

    (void)state;
    options.when_full = NARU_DROP_NEWEST;
    struct naru_endpoint *both = open_with(NARU_BOTH, &options);
    for (int i = 0; i < 7; i++)
        send_number(both, i);
    assert_int_equal(naru_recv_many(both, &message, 1, 0), 1);
    assert_int_equal(number, 0);
    assert_true(message.known & NARU_KNOWS_LOST);
    assert_int_equal(message.lost, 3);
    assert_int_equal(naru_recv_many(both, &message, 1, 0), 1);
    assert_int_equal(message.lost, 0); /* told once */
    assert_int_equal(recv_number(both), 2);
    assert_int_equal(recv_number(both), 3);
    assert_int_equal(recv_number(both), -1);
    naru_close(both);
}

static void test_overwrite_oldest_is_told(void **state)
{
    struct naru_options options = tiny();
    int number;
    struct naru_message message = {.data = &number, .capacity_bytes = sizeof number};

    (void)state;
    options.when_full = NARU_OVERWRITE_OLDEST;
    struct naru_endpoint *both = open_with(NARU_BOTH, &options);
    for (int i = 0; i < 7; i++)
        send_number(both, i);
    assert_int_equal(naru_recv_many(both, &message, 1, 0), 1);
    assert_int_equal(number, 3);
    assert_int_equal(message.lost, 3);
    naru_close(both);
}

/* A child takes the message and dies with it in its hand. */
static void take_and_die(void *context)
{
    struct naru_options *options = context;
    struct naru_endpoint *receiver = NULL;
    struct naru_message message;

    child_check(naru_open(&receiver, uri, NARU_RECEIVER, options) == 0);
    child_check(naru_take(receiver, &message, NARU_SECOND) == 0);
    raise(SIGKILL);
}

static void in_a_dead_hand(enum naru_delivery delivery, uint32_t one_to_one)
{
    struct naru_options options = tiny();
    int number;
    struct naru_message message = {.data = &number, .capacity_bytes = sizeof number};

    options.delivery = delivery;
    options.one_to_one = one_to_one;
    struct naru_endpoint *sender = open_with(NARU_SENDER, &options);
    send_number(sender, 7);
    send_number(sender, 8);
    assert_true(WIFSIGNALED(child_run(take_and_die, &options)));
    struct naru_endpoint *receiver = open_with(NARU_RECEIVER, &options);
    assert_int_equal(naru_recv_many(receiver, &message, 1, NARU_SECOND), 1);
    if (delivery == NARU_AT_LEAST_ONCE) {
        assert_int_equal(number, 7);
        assert_true(message.flags & NARU_REDELIVERED);
        assert_int_equal(message.deliveries, 2);
        assert_int_equal(recv_number(receiver), 8);
    } else {
        struct naru_stat stat = {.size_bytes = sizeof stat};
        assert_int_equal(number, 8);
        assert_false(message.flags & NARU_REDELIVERED);
        assert_int_equal(naru_stat(receiver, &stat), 0);
        assert_int_equal(stat.lost_messages, 1);
    }
    assert_int_equal(recv_number(receiver), -1);
    naru_close(receiver);
    naru_close(sender);
}

static void test_dead_hand_at_least_once(void **state)
{
    (void)state;
    in_a_dead_hand(NARU_AT_LEAST_ONCE, 0);
}
static void test_dead_hand_at_most_once(void **state)
{
    (void)state;
    in_a_dead_hand(NARU_AT_MOST_ONCE, 0);
}
static void test_dead_hand_one_to_one(void **state)
{
    (void)state;
    in_a_dead_hand(NARU_AT_LEAST_ONCE, 1);
}
static void test_dead_hand_one_to_one_at_most_once(void **state)
{
    (void)state;
    in_a_dead_hand(NARU_AT_MOST_ONCE, 1);
}

static void test_too_many_held(void **state)
{
    struct naru_options options = tiny();
    struct naru_message messages[3];

    (void)state;
    options.held_max = 2;
    struct naru_endpoint *both = open_with(NARU_BOTH, &options);
    for (int i = 0; i < 3; i++)
        send_number(both, i);
    assert_int_equal(naru_take(both, &messages[0], 0), 0);
    assert_int_equal(naru_take(both, &messages[1], 0), 0);
    assert_int_equal(naru_take(both, &messages[2], 0), -ENOBUFS);
    assert_text_has("held_max");
    assert_int_equal(naru_ack(both, &messages[0]), 0);
    assert_int_equal(naru_take(both, &messages[2], 0), 0);
    assert_int_equal(*(int *)messages[2].data, 2);
    naru_close(both); /* gives back the two that are held */
    both = open_with(NARU_BOTH, &options);
    struct naru_stat stat = {.size_bytes = sizeof stat};
    assert_int_equal(naru_stat(both, &stat), 0);
    assert_int_equal(stat.queued_messages, 2);
    naru_close(both);
}

/* Senders have filled all the room for large messages behind a small one; still that can be taken. */
static void test_take_before_many_large(void **state)
{
    struct naru_options options = tiny();
    struct naru_message message;
    static char large[200];

    (void)state;
    options.capacity_messages = 32;
    struct naru_endpoint *both = open_with(NARU_BOTH, &options);
    send_number(both, 1);
    int sent = 0;
    while (naru_send(both, large, sizeof large, 0) == 0)
        sent++;
    assert_int_equal(sent, 8); /* payload_bytes is all for them */
    for (int i = 0; i <= sent; i++) {
        assert_int_equal(naru_take(both, &message, 0), 0);
        assert_int_equal(naru_ack(both, &message), 0);
    }
    naru_close(both);
}

static void test_attach_must_match(void **state)
{
    struct naru_options options = tiny(), other = {.size_bytes = sizeof other};

    (void)state;
    struct naru_endpoint *first = open_with(NARU_SENDER, &options);
    assert_int_equal(open_result(&other), 0);
    other.message_size_max_bytes = 300;
    assert_int_equal(open_result(&other), -EINVAL);
    assert_text_has("300");
    assert_text_has("200");
    other = (struct naru_options){.size_bytes = sizeof other, .when_full = NARU_FAIL};
    assert_int_equal(open_result(&other), -EINVAL);
    assert_text_has("when_full");
    other = (struct naru_options){.size_bytes = sizeof other, .one_to_one = 1};
    assert_int_equal(open_result(&other), -EINVAL);
    assert_text_has("one_to_one");
    naru_close(first);
}

/* -- ends --------------------------------------------------------------------------------------- */

static void send_one_and_die(void *context)
{
    struct naru_endpoint *sender = NULL;

    child_check(naru_open(&sender, uri, NARU_SENDER, context) == 0);
    child_check(naru_send(sender, "last", 4, 0) == 0);
    raise(SIGKILL);
}

static void send_one_and_close(void *context)
{
    struct naru_endpoint *sender = NULL;

    child_check(naru_open(&sender, uri, NARU_SENDER, context) == 0);
    child_check(naru_send(sender, "last", 4, 0) == 0);
    naru_close(sender);
}

static void test_one_to_one_tells_ends(void **state)
{
    struct naru_options options = tiny();
    char data[8];

    (void)state;
    options.one_to_one = 1;
    struct naru_endpoint *receiver = open_with(NARU_RECEIVER, &options);
    child_run(send_one_and_die, &options);
    assert_int_equal(naru_recv(receiver, data, 8, NULL, 2 * NARU_SECOND), 0);
    assert_int_equal(naru_recv(receiver, data, 8, NULL, 2 * NARU_SECOND), -EOWNERDEAD);
    assert_int_equal(naru_recv(receiver, data, 8, NULL, 0), -EAGAIN);
    assert_int_equal(child_run(send_one_and_close, &options), 0);
    assert_int_equal(naru_recv(receiver, data, 8, NULL, 2 * NARU_SECOND), 0);
    assert_int_equal(naru_recv(receiver, data, 8, NULL, 2 * NARU_SECOND), -EPIPE);
    naru_close(receiver);
}

static void test_one_to_one_is_enforced(void **state)
{
    struct naru_options options = tiny();
    char words[32];

    (void)state;
    options.one_to_one = 1;
    struct naru_endpoint *receiver = open_with(NARU_RECEIVER, &options);
    assert_int_equal(open_result(&options), -EBUSY);
    snprintf(words, sizeof words, "process %d", (int)getpid());
    assert_text_has(words);
    naru_close(receiver);
    assert_int_equal(open_result(&options), 0);
}

static void sleep_for_ever(void *context)
{
    (void)context;
    pause();
}

/* The child never makes a call, and another child holds copies of all descriptors and mappings. */
static void test_pair_notices_death_before_first_call(void **state)
{
    struct naru_endpoint *ends[2];
    char data[8];

    (void)state;
    assert_int_equal(naru_pair(ends, "shm://", NULL), 0);
    pid_t bystander = child_start(sleep_for_ever, NULL);
    pid_t child = child_start(sleep_for_ever, NULL);
    assert_int_equal(naru_pair_assign(ends[1], child), 0);
    assert_int_equal(naru_recv(ends[0], data, 8, NULL, 50 * NARU_MILLISECOND), -ETIMEDOUT);
    kill(child, SIGKILL);
    assert_int_equal(naru_recv(ends[0], data, 8, NULL, 5 * NARU_SECOND), -EOWNERDEAD);
    child_end(child);
    kill(bystander, SIGKILL);
    child_end(bystander);
    naru_close(ends[0]);
    naru_close(ends[1]);
}

/* -- segments that can't be ---------------------------------------------------------------------- */

static void test_other_namespace(void **state)
{
    (void)state;
    naru_close(open_with(NARU_SENDER, NULL));
    pid_t pid = fork();
    if (pid == 0) {
        if (unshare(CLONE_NEWPID) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) < 0)
            _exit(PLACE_SKIPPED);
        pid_t inner = fork();
        if (inner == 0) { /* its /proc/self/ns/pid is the new namespace's */
            struct naru_endpoint *endpoint = NULL;
            int result = naru_open(&endpoint, uri, NARU_RECEIVER, NULL);
            _exit(result == -EXDEV && strstr(naru_error_text(), "namespace") ? 0 : 1);
        }
        int status = -1;
        _exit(inner > 0 && waitpid(inner, &status, 0) == inner && status == 0 ? 0 : 1);
    }
    int status = child_end(pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == PLACE_SKIPPED) {
        print_message("SKIP: no right to make a PID namespace\n");
        skip();
    }
    assert_int_equal(status, 0);
}

static void fill_a_small_file_system(void *context)
{
    struct naru_endpoint *endpoint = NULL;
    struct naru_options options = {.size_bytes = sizeof options, .payload_bytes = 1 << 20};

    (void)context;
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", place_directory, "tmpfs", 0, "size=128k") < 0)
        _exit(PLACE_SKIPPED);
    child_check(naru_open(&endpoint, uri, NARU_SENDER, &options) == -ENOSPC);
    child_check(strstr(naru_error_text(), "/dev/shm larger") != NULL);
    child_check(access(path, F_OK) < 0);
    options.payload_bytes = 2048;
    options.message_size_max_bytes = 64;
    child_check(naru_open(&endpoint, uri, NARU_SENDER, &options) == 0);
    naru_close(endpoint);
}

static void test_no_space(void **state)
{
    (void)state;
    int status = child_run(fill_a_small_file_system, NULL);
    if (WIFEXITED(status) && WEXITSTATUS(status) == PLACE_SKIPPED) {
        print_message("SKIP: no right to mount\n");
        skip();
    }
    assert_int_equal(status, 0);
}

static void test_participants_run_out(void **state)
{
    struct naru_options options = tiny();

    (void)state;
    options.participants_max = 2;
    struct naru_endpoint *one = open_with(NARU_SENDER, &options);
    struct naru_endpoint *two = open_with(NARU_RECEIVER, &options);
    assert_int_equal(open_result(&options), -EBUSY);
    assert_text_has("participants_max");
    naru_close(two);
    assert_int_equal(open_result(&options), 0);
    naru_close(one);
}

static void attach_and_die(void *context)
{
    struct naru_endpoint *endpoint = NULL;

    child_check(naru_open(&endpoint, uri, NARU_BOTH, context) == 0);
    raise(SIGKILL);
}

/* Places of the dead are found free by those who come later, without anyone cleaning up. */
static void test_dead_participants_make_room(void **state)
{
    struct naru_options options = tiny();

    (void)state;
    options.participants_max = 2;
    for (int i = 0; i < 10; i++)
        assert_true(WIFSIGNALED(child_run(attach_and_die, &options)));
    assert_int_equal(open_result(&options), 0);
}

/* -- waiting ------------------------------------------------------------------------------------ */

static void *interrupt_soon(void *context)
{
    sleep_ms(30);
    naru_interrupt(context);
    return NULL;
}

static void test_interrupt_ends_sleep(void **state)
{
    struct naru_endpoint *receiver = open_with(NARU_RECEIVER, NULL);
    pthread_t thread;
    char data[8];

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, interrupt_soon, receiver), 0);
    assert_int_equal(naru_recv(receiver, data, 8, NULL, NARU_FOREVER), -EINTR);
    pthread_join(thread, NULL);
    assert_int_equal(naru_recv(receiver, data, 8, NULL, 20 * NARU_MILLISECOND), -ETIMEDOUT);
    naru_close(receiver);
}

#define test_case(name) cmocka_unit_test_setup_teardown(name, test_setup, test_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_case(test_fail_when_full),
        test_case(test_drop_newest_is_told),
        test_case(test_overwrite_oldest_is_told),
        test_case(test_dead_hand_at_least_once),
        test_case(test_dead_hand_at_most_once),
        test_case(test_dead_hand_one_to_one),
        test_case(test_dead_hand_one_to_one_at_most_once),
        test_case(test_too_many_held),
        test_case(test_take_before_many_large),
        test_case(test_attach_must_match),
        test_case(test_one_to_one_tells_ends),
        test_case(test_one_to_one_is_enforced),
        test_case(test_pair_notices_death_before_first_call),
        test_case(test_other_namespace),
        test_case(test_no_space),
        test_case(test_participants_run_out),
        test_case(test_dead_participants_make_room),
        test_case(test_interrupt_ends_sleep),
    };

    return cmocka_run_group_tests_name("shm", tests, NULL, NULL);
}
