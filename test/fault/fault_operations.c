/* SPDX-License-Identifier: MIT */
/*
 * fault_operations -- what is done while a system call fails, and what must hold afterwards
 *
 * Contents   opening and closing - pairs - descriptors - waiting - waking - the table
 */
#include "fault_scene.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SHORT_NS = 3000000 };

/* -- opening and closing --------------------------------------------------------------------- */

static int create_call(void)
{
    return nr_scene_open(&nr_scene.sender, NARU_SENDER, NARU_CREATE);
}
static void create_check(int result)
{
    if (result < 0)
        nr_check(access(nr_scene.path, F_OK) < 0, "it left the name behind");
    if (result < 0)
        nr_check_ok(create_call());
    nr_check_ok(nr_scene_open(&nr_scene.receiver, NARU_RECEIVER, NARU_ATTACH));
    nr_scene_check();
    nr_scene_check_peers(nr_scene.sender, 1);
}

static void attach_prepare(void)
{
    nr_check_ok(nr_scene_open(&nr_scene.sender, NARU_SENDER, NARU_CREATE));
}
static int attach_call(void)
{
    return nr_scene_open(&nr_scene.receiver, NARU_RECEIVER, NARU_ATTACH);
}
static void attach_check(int result)
{
    nr_scene_check_peers(nr_scene.sender, result < 0 ? 0 : 1);
    if (result < 0)
        nr_check_ok(attach_call());
    nr_scene_check();
    nr_scene_check_peers(nr_scene.sender, 1);
}

/* With a message in hand, which has to come back. */
static void close_prepare(void)
{
    struct naru_message message;

    nr_scene_open_both();
    nr_check_ok(nr_scene_send("held", 0));
    nr_check_ok(naru_take(nr_scene.receiver, &message, 0));
    naru_fd(nr_scene.receiver);
}
static int close_call(void)
{
    naru_close(nr_scene.receiver);
    nr_scene.receiver = NULL;
    return 0;
}
static void close_check(int result)
{
    char text[64];

    (void)result;
    nr_scene_check_peers(nr_scene.sender, 0);
    nr_check_ok(attach_call());
    nr_check_ok(nr_scene_recv(text, 0));
    nr_check(strcmp(text, "held") == 0, "\"%s\"", text);
    nr_scene_check();
}

/* With a loan that was never sent. What was sent stays, but for a request: nobody waits for the reply any more. */
static void leave_prepare(void)
{
    struct naru_message loan;

    nr_scene_open_both();
    if (nr_scene.kind != NR_SCENE_BYTES)
        nr_check_ok(nr_scene_send("sent", 0));
    nr_check_ok(naru_loan(nr_scene.sender, 8, &loan, 0));
    naru_send_fd(nr_scene.sender);
}
static int leave_call(void)
{
    naru_close(nr_scene.sender);
    nr_scene.sender = NULL;
    memset(nr_scene.calls, 0, sizeof nr_scene.calls);
    return 0;
}
static void leave_check(int result)
{
    char text[64];

    (void)result;
    nr_scene_check_peers(nr_scene.receiver, 0);
    nr_check_ok(nr_scene_open(&nr_scene.sender, NARU_SENDER, NARU_ATTACH));
    int received = nr_scene_recv(text, 0);
    if (nr_scene.kind == NR_SCENE_BYTES || nr_scene.kind == NR_SCENE_CALLS)
        nr_check(received == -EPIPE || received == -EAGAIN, "%d: \"%s\"", received, text);
    else
        nr_check(received == 0 && strcmp(text, "sent") == 0, "%d: \"%s\"", received, text);
    nr_scene_check();
}

static int unlink_call(void)
{
    return naru_unlink(nr_scene.uri);
}
static void unlink_check(int result)
{
    nr_check((access(nr_scene.path, F_OK) == 0) == (result < 0), "%d, and the name says otherwise",
             result);
    if (result < 0)
        nr_check_ok(unlink_call());
    nr_scene_check();
}

/* -- pairs ---------------------------------------------------------------------------------- */

static int pair_call(void)
{
    struct naru_options options = nr_scene_options(0);
    struct naru_endpoint *ends[2] = {NULL, NULL};
    int result = naru_pair(ends, "shm://", &options);

    if (result >= 0) {
        nr_scene.sender = ends[0];
        nr_scene.receiver = ends[1];
    }
    return result;
}
static void pair_check(int result)
{
    if (result < 0)
        nr_check_ok(pair_call());
    nr_scene_check();
}

static void answer_on_pair(void)
{
    char text[64];
    size_t size_bytes;

    nr_check_ok(naru_pair_assign(nr_scene.receiver, getpid()));
    nr_check_ok(naru_recv(nr_scene.receiver, text, sizeof text, &size_bytes, NARU_FOREVER));
    nr_check_ok(naru_send(nr_scene.receiver, text, size_bytes, NARU_FOREVER));
    pause();
}
static void assign_prepare(void)
{
    nr_check_ok(pair_call());
    if ((nr_scene.helper = nr_kit_fork()) == 0)
        answer_on_pair();
}
static int assign_call(void)
{
    return naru_pair_assign(nr_scene.receiver, nr_scene.helper);
}
static void assign_check(int result)
{
    char text[64];

    if (result < 0)
        nr_check_ok(assign_call());
    nr_check_ok(naru_send(nr_scene.sender, "there", 5, NARU_SECOND));
    nr_check_ok(naru_recv(nr_scene.sender, text, sizeof text, NULL, NARU_SECOND));
    nr_check_fails(naru_recv(nr_scene.sender, text, sizeof text, NULL, 0), -EAGAIN, "");
    nr_scene_stop_helper(); /* its death is noticed */
    nr_check_fails(naru_recv(nr_scene.sender, text, sizeof text, NULL, NARU_SECOND), -EOWNERDEAD,
                   "");
}

static void adopt_prepare(void)
{
    nr_check_ok(pair_call());
    pid_t child = nr_kit_fork();
    if (child >
        0) { /* this process stays behind as the other side; the child goes on with the test */
        int status = -1;
        nr_check_ok(naru_pair_assign(nr_scene.receiver, child));
        char text[64];
        while (naru_recv(nr_scene.sender, text, sizeof text, NULL, NARU_FOREVER) == 0)
            nr_check_ok(naru_send(nr_scene.sender, text, 5, NARU_FOREVER));
        waitpid(child, &status, 0);
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
    }
}
static int adopt_call(void)
{
    return naru_pair_assign(nr_scene.receiver, getpid());
}
static void adopt_check(int result)
{
    char text[64];

    if (result < 0)
        nr_check_ok(adopt_call());
    nr_check_ok(naru_send(nr_scene.receiver, "there", 5, NARU_SECOND));
    nr_check_ok(naru_recv(nr_scene.receiver, text, sizeof text, NULL, NARU_SECOND));
}

/* -- descriptors ---------------------------------------------------------------------------- */

/* The descriptor, and its arming by a call that finds nothing. */
static int fd_call(void)
{
    char text[64];
    int fd = naru_fd(nr_scene.receiver);

    if (fd < 0)
        return fd;
    int result = nr_scene_recv(text, 0);
    return result == -EAGAIN ? 0 : result;
}
static void fd_check(int result)
{
    char text[64];

    if (result < 0)
        nr_check_ok(fd_call());
    struct pollfd one = {.fd = naru_fd(nr_scene.receiver), .events = POLLIN};
    nr_check_ok(one.fd);
    nr_check_ok(nr_scene_send("seen", 0));
    nr_check(poll(&one, 1, 2000) == 1, "the descriptor is silent");
    nr_check_ok(nr_scene_recv(text, NARU_SECOND));
    nr_scene_check();
}

/* The same for sending, while it is full. */
static int send_fd_call(void)
{
    int fd = naru_send_fd(nr_scene.sender);

    if (fd < 0)
        return fd;
    int result = nr_scene_send("more", 0);
    return result == -EAGAIN || result == -ETIMEDOUT ? 0 : result;
}
static void send_fd_check(int result)
{
    char text[64];

    if (result < 0)
        nr_check_ok(send_fd_call());
    struct pollfd one = {.fd = naru_send_fd(nr_scene.sender), .events = POLLIN | POLLOUT};
    nr_check_ok(one.fd);
    nr_check_ok(nr_scene_recv(text, NARU_SECOND));
    if (nr_scene.kind == NR_SCENE_CALLS)
        nr_check_ok(naru_call_end(nr_scene.sender, &nr_scene.calls[0], NARU_SECOND));
    nr_check(poll(&one, 1, 2000) == 1, "the descriptor is silent");
    nr_scene_check();
}

/* -- waiting -------------------------------------------------------------------------------- */

/* A time-out is what the call should end with, and not before its time. */
static int timed(int64_t begin_ns, int result)
{
    nr_check(result != -ETIMEDOUT || nr_kit_now_ns() - begin_ns >= SHORT_NS, "it ended too early");
    return result == -ETIMEDOUT ? 0 : result;
}

static void full_prepare(void)
{
    if (nr_scene.kind == NR_SCENE_PAIR)
        nr_check_ok(pair_call());
    else
        nr_scene_open_both();
    while (nr_scene_send("fill", 0) == 0)
        ;
}
static int full_call(void)
{
    int64_t begin_ns = nr_kit_now_ns();

    return timed(begin_ns, nr_scene_send("more", SHORT_NS));
}
static void waited_check(int result)
{
    (void)result;
    nr_scene_check();
}

static void empty_prepare(void)
{
    if (nr_scene.kind == NR_SCENE_PAIR)
        nr_check_ok(pair_call());
    else
        nr_scene_open_both();
}
static int empty_call(void)
{
    char text[64];
    int64_t begin_ns = nr_kit_now_ns();

    return timed(begin_ns, nr_scene_recv(text, SHORT_NS));
}

/* A client waits for its reply. */
static void unanswered_prepare(void)
{
    nr_scene_open_both();
    nr_check_ok(nr_scene_send("answer", 0));
}
static int unanswered_call(void)
{
    int64_t begin_ns = nr_kit_now_ns();

    return timed(begin_ns, naru_call_end(nr_scene.sender, &nr_scene.calls[0], SHORT_NS));
}
static void unanswered_check(int result)
{
    char text[64];

    nr_check_ok(result); /* whatever the kernel says, the call goes on */
    nr_check_ok(nr_scene_recv(text, 0));
    nr_check_ok(naru_call_end(nr_scene.sender, &nr_scene.calls[0], 0));
    nr_scene_check();
}

/* Someone sends in a moment, and meanwhile one waits for ever. */
static void send_soon(void)
{
    nr_kit_await(nr_scene.helped, 1);
    nr_kit_sleep_ms(2);
    nr_check_ok(naru_open(&nr_scene.sender, nr_scene.uri, NARU_SENDER, NULL));
    nr_check_ok(nr_scene_send("soon", NARU_SECOND));
    pause();
}
static void soon_prepare(void)
{
    nr_scene.helped = nr_kit_shared(sizeof *nr_scene.helped);
    nr_check_ok(nr_scene_open(&nr_scene.receiver, NARU_RECEIVER, NARU_CREATE));
    if ((nr_scene.helper = nr_kit_fork()) == 0)
        send_soon();
    nr_kit_add(nr_scene.helped, 1);
}
static int soon_call(void)
{
    char text[64];

    return nr_scene_recv(text, NARU_FOREVER);
}
static void soon_check(int result)
{
    if (result < 0)
        nr_check_ok(soon_call());
    nr_scene_stop_helper();
    if (nr_scene.kind == NR_SCENE_BYTES)
        naru_recv(nr_scene.receiver, (char[64]){0}, 64, NULL, 0); /* the helper's death */
    nr_check_ok(nr_scene_open(&nr_scene.sender, NARU_SENDER, NARU_ATTACH));
    nr_scene_check();
}

/* -- waking --------------------------------------------------------------------------------- */

/* Someone sleeps, and is woken by a send. */
static void sleep_for_message(void)
{
    char text[64];

    naru_close(nr_scene.sender);
    nr_scene.sender = NULL;
    nr_check_ok(naru_open(&nr_scene.receiver, nr_scene.uri, NARU_RECEIVER, NULL));
    nr_kit_add(nr_scene.helped, 1);
    nr_check_ok(nr_scene_recv(text, NARU_FOREVER));
    nr_kit_add(nr_scene.helped, 1);
    pause();
}
static void wake_prepare(void)
{
    nr_scene.helped = nr_kit_shared(sizeof *nr_scene.helped);
    nr_check_ok(nr_scene_open(&nr_scene.sender, NARU_SENDER, NARU_CREATE));
    if ((nr_scene.helper = nr_kit_fork()) == 0)
        sleep_for_message();
    nr_kit_await(nr_scene.helped, 1);
    nr_kit_sleep_ms(2);
}
static int wake_call(void)
{
    return nr_scene_send("wake", 0);
}
static void wake_check(int result)
{
    if (result < 0)
        nr_check_ok(wake_call());
    nr_kit_await(nr_scene.helped, 2);
    nr_scene_stop_helper();
    nr_check_ok(attach_call());
    nr_scene_check();
}

/* Someone sleeps, and is woken when there is room, by a receive. */
static void sleep_for_room(void)
{
    nr_check_ok(naru_open(&nr_scene.sender, nr_scene.uri, NARU_SENDER, NULL));
    while (nr_scene_send("fill", 0) == 0)
        ;
    nr_kit_add(nr_scene.helped, 1);
    if (nr_scene.kind == NR_SCENE_CALLS) /* which its own reply makes */
        nr_check_ok(naru_call_end(nr_scene.sender, &nr_scene.calls[0], NARU_FOREVER));
    else
        nr_check_ok(nr_scene_send("more", NARU_FOREVER));
    nr_kit_add(nr_scene.helped, 1);
    pause();
}
static void room_prepare(void)
{
    nr_scene.helped = nr_kit_shared(sizeof *nr_scene.helped);
    nr_check_ok(nr_scene_open(&nr_scene.receiver, NARU_RECEIVER, NARU_CREATE));
    if ((nr_scene.helper = nr_kit_fork()) == 0)
        sleep_for_room();
    nr_kit_await(nr_scene.helped, 1);
    nr_kit_sleep_ms(2);
}
static int room_call(void)
{
    char text[64];
    int result = nr_scene_recv(text, 0);

    while (nr_scene.kind == NR_SCENE_BYTES && result == 0) /* gives room back by the line */
        result = nr_scene_recv(text, 0);
    return nr_scene.kind == NR_SCENE_BYTES && result == -EAGAIN ? 0 : result;
}
static void room_check(int result)
{
    nr_check_ok(result); /* nobody can say no to who receives what is there */
    nr_kit_await(nr_scene.helped, 2);
    nr_scene_stop_helper();
    if (nr_scene.kind == NR_SCENE_BYTES) /* takes what is left, and the helper's death */
        while (naru_recv(nr_scene.receiver, (char[64]){0}, 64, NULL, 0) == 0)
            ;
    nr_check_ok(nr_scene_open(&nr_scene.sender, NARU_SENDER, NARU_ATTACH));
    nr_scene_check();
}

/* -- the table ------------------------------------------------------------------------------- */

const struct nr_fault_operation nr_fault_operations[] = {
    {"create", NR_SCENE_NAMED, NULL, create_call, create_check},
    {"attach", NR_SCENE_NAMED, attach_prepare, attach_call, attach_check},
    {"close", NR_SCENE_NAMED, close_prepare, close_call, close_check},
    {"close, the sender", NR_SCENE_NAMED, leave_prepare, leave_call, leave_check},
    {"unlink", NR_SCENE_NAMED, nr_scene_open_both, unlink_call, unlink_check},
    {"pair", NR_SCENE_PAIR, NULL, pair_call, pair_check},
    {"pair_assign to a child", NR_SCENE_PAIR, assign_prepare, assign_call, assign_check},
    {"pair_assign in the child", NR_SCENE_PAIR, adopt_prepare, adopt_call, adopt_check},
    {"descriptor", NR_SCENE_ALL, empty_prepare, fd_call, fd_check, true},
    {"descriptor for sending", NR_SCENE_ALL & ~NR_SCENE_CELL, full_prepare, send_fd_call,
     send_fd_check, true},
    {"wait while full", NR_SCENE_ALL & ~NR_SCENE_CELL, full_prepare, full_call, waited_check},
    {"wait while empty", NR_SCENE_ALL, empty_prepare, empty_call, waited_check},
    {"wait for a reply", NR_SCENE_CALLS, unanswered_prepare, unanswered_call, unanswered_check},
    {"wait for a message", NR_SCENE_NAMED, soon_prepare, soon_call, soon_check},
    {"wake", NR_SCENE_NAMED, wake_prepare, wake_call, wake_check},
    {"wake who waits for room", NR_SCENE_NAMED & ~NR_SCENE_CELL, room_prepare, room_call,
     room_check},
};
const unsigned nr_fault_operations_count =
    sizeof nr_fault_operations / sizeof nr_fault_operations[0];
