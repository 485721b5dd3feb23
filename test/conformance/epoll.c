/* SPDX-License-Identifier: MIT */
/*
 * epoll -- ten endpoints of ten techniques in one epoll loop, with senders that are killed at random
 *
 * What       Each sender's life counts, in shared memory, the messages that were committed. What came of a life
 *            must be its first messages, whole and in order: all that it counted, and at most the one more
 *            that it was killed in. Once the descriptors are silent nothing may be left to receive.
 */
#include "cases.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { NR_EPOLL_CHANNELS = 10, NR_EPOLL_LIVES = 40, NR_EPOLL_RUN_MS = 3000 };

static const char *const nr_epoll_rows[NR_EPOLL_CHANNELS] = {
    "pipe inherited", "fifo", "mq", "sysv", "unix", "abstract", "tcp", "signal", "file", "shm",
};

struct nr_epoll_line {
    struct nr_channel channel;
    struct naru_endpoint *receiver;
    int fd;
    unsigned life;
    pid_t sender;
    unsigned received[NR_EPOLL_LIVES], deaths;
    unsigned *committed; /* shared, one for each life */
};

static struct nr_epoll_line nr_epoll_lines[NR_EPOLL_CHANNELS];
static int nr_epoll_fd;

static const struct nr_row *nr_epoll_row(const char *name)
{
    for (size_t i = 0; i < nr_rows_count; i++)
        if (strcmp(nr_rows[i].name, name) == 0)
            return &nr_rows[i];
    nr_check(false, "there is no row %s", name);
    return NULL;
}

static void nr_epoll_send_until_killed(struct nr_epoll_line *line)
{
    static const size_t sizes[] = {8, 700, 3000, 64, 9000};

    for (int i = 0; i < NR_EPOLL_CHANNELS; i++) { /* inherited: would keep the others' ends open */
        nr_channel_close_end(&nr_epoll_lines[i].channel, NR_RECEIVER_END);
        if (&nr_epoll_lines[i] != line)
            nr_channel_let_go(&nr_epoll_lines[i].channel);
    }
    close(nr_epoll_fd);
    struct naru_endpoint *sender = nr_channel_open(&line->channel, NARU_SENDER);
    for (unsigned i = 0;; i++) {
        nr_case_send(sender, nr_case_size(&line->channel, sender, sizes[i % 5]), line->life, i);
        nr_kit_add(&line->committed[line->life], 1);
        if (i % 4 == 3)
            usleep(2000);
    }
}

static void nr_epoll_begin_life(struct nr_epoll_line *line)
{
    line->sender = nr_kit_fork();
    if (line->sender == 0)
        nr_epoll_send_until_killed(line);
}

static void nr_epoll_open(void)
{
    nr_epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < NR_EPOLL_CHANNELS;
         i++) { /* before the first thread: signals are blocked here */
        struct nr_epoll_line *line = &nr_epoll_lines[i];
        nr_channel_init(&line->channel, nr_epoll_row(nr_epoll_rows[i]));
        line->committed = nr_kit_shared(NR_EPOLL_LIVES * sizeof *line->committed);
    }
    for (int i = 0; i < NR_EPOLL_CHANNELS; i++) {
        struct nr_epoll_line *line = &nr_epoll_lines[i];
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
        line->receiver = nr_channel_open(&line->channel, NARU_RECEIVER);
        line->fd = (int)nr_check_ok(naru_fd(line->receiver));
        nr_check(epoll_ctl(nr_epoll_fd, EPOLL_CTL_ADD, line->fd, &event) == 0, "epoll_ctl: %s",
                 strerror(errno));
    }
}

static void nr_epoll_close(void)
{
    for (int i = 0; i < NR_EPOLL_CHANNELS; i++)
        nr_channel_deinit(&nr_epoll_lines[i].channel);
    close(nr_epoll_fd);
}

/* One receive without waiting; false when there is nothing. */
static bool nr_epoll_receive(struct nr_epoll_line *line)
{
    const char *name = line->channel.row->name;
    struct nr_payload_stamp stamp;
    size_t size_bytes;
    int result = naru_recv(line->receiver, nr_case_room, sizeof nr_case_room, &size_bytes, 0);

    if (result == -EAGAIN)
        return false;
    if (result == -EBUSY &&
        strcmp(name, "shm") == 0) { /* a sender lost the processor, or is being killed, in */
        nr_check_fails(result, -EBUSY,
                       "in the middle"); /* its few instructions; the descriptor stays readable */
        return false;
    }
    if (result == -EOWNERDEAD || result == -EPIPE) {
        line->deaths++;
        return true;
    }
    nr_check_ok(result);
    nr_check(nr_payload_read(nr_case_room, size_bytes, &stamp), "%s: %zu bytes that are not whole",
             name, size_bytes);
    nr_check(stamp.sender <= line->life, "%s: from life %u, and it is now %u", name, stamp.sender,
             line->life);
    nr_check(stamp.index == line->received[stamp.sender],
             "%s: number %u of life %u, and %u was next", name, stamp.index, stamp.sender,
             line->received[stamp.sender]);
    line->received[stamp.sender]++;
    return true;
}

/* What is ready, once around. It is level-triggered: what is not received now is told again. */
static int nr_epoll_turn(int timeout_ms)
{
    struct epoll_event events[4];
    int ready = epoll_wait(nr_epoll_fd, events, 4, timeout_ms);

    nr_check(ready >= 0 || errno == EINTR, "epoll_wait: %s", strerror(errno));
    for (int i = 0; i < ready; i++) {
        struct nr_epoll_line *line = &nr_epoll_lines[events[i].data.u32];
        bool is_greedy = rand() % 4;
        while (nr_epoll_receive(line) && is_greedy)
            ;
    }
    return ready;
}

static void nr_epoll_drain(void)
{
    int64_t end = nr_kit_now_ns() + NR_SOON;

    for (int silent = 0; silent < 3;) {
        silent = nr_epoll_turn(30) > 0 ? 0 : silent + 1;
        nr_check(nr_kit_now_ns() < end, "they go on being readable");
    }
    for (int i = 0; i < NR_EPOLL_CHANNELS; i++) {
        unsigned before = nr_epoll_lines[i].deaths;
        bool is_message =
            nr_epoll_receive(&nr_epoll_lines[i]) && nr_epoll_lines[i].deaths == before;
        nr_check(!is_message, "%s: a message was there, and its descriptor was silent",
                 nr_epoll_rows[i]);
        nr_check(naru_fd(nr_epoll_lines[i].receiver) == nr_epoll_lines[i].fd, "%s: another number",
                 nr_epoll_rows[i]);
    }
}

static void nr_epoll_account(bool was_killed)
{
    for (int i = 0; i < NR_EPOLL_CHANNELS; i++) {
        struct nr_epoll_line *line = &nr_epoll_lines[i];
        unsigned all = 0;
        for (unsigned life = 0; life <= line->life; life++) {
            unsigned committed = nr_kit_get(&line->committed[life]);
            nr_check(line->received[life] >= committed &&
                         line->received[life] <= committed + (was_killed ? 1 : 0),
                     "%s, life %u of %u: %u committed, and %u came", nr_epoll_rows[i], life,
                     line->life, committed, line->received[life]);
            all += committed;
        }
        nr_check(all > 0, "%s: nothing came at all", nr_epoll_rows[i]);
    }
}

static void nr_epoll_kill_body(void *argument)
{
    (void)argument;
    int before = nr_kit_fds();
    srand((unsigned)getpid());
    nr_epoll_open();
    for (int i = 0; i < NR_EPOLL_CHANNELS; i++)
        nr_epoll_begin_life(&nr_epoll_lines[i]);
    int64_t now = nr_kit_now_ns(), next_kill = now;
    for (int64_t end = now + NR_EPOLL_RUN_MS * NARU_MILLISECOND; now < end; now = nr_kit_now_ns()) {
        nr_epoll_turn(10);
        if (now < next_kill)
            continue;
        next_kill = now + (10 + rand() % 20) * NARU_MILLISECOND * nr_kit_slowness();
        struct nr_epoll_line *line = &nr_epoll_lines[rand() % NR_EPOLL_CHANNELS];
        if (line->life + 1 == NR_EPOLL_LIVES)
            continue;
        nr_kit_kill(line->sender);
        line->life++;
        nr_epoll_begin_life(line);
    }
    for (int i = 0; i < NR_EPOLL_CHANNELS; i++)
        nr_kit_kill(nr_epoll_lines[i].sender);
    nr_epoll_drain();
    nr_epoll_account(true);
    nr_epoll_close();
    nr_check(nr_kit_fds() == before, "%d descriptors were open before, and %d after", before,
             nr_kit_fds());
}

/* Nobody sends: it sleeps, and takes no processor time worth speaking of. */
static void nr_epoll_idle_body(void *argument)
{
    struct timespec begin, end;
    struct epoll_event event;

    (void)argument;
    nr_epoll_open();
    for (int i = 0; i < NR_EPOLL_CHANNELS; i++)
        nr_case_expect_nothing(nr_epoll_lines[i].receiver);
    while (epoll_wait(nr_epoll_fd, &event, 1, 20) >
           0) /* readable for nothing, a few times at most */
        nr_case_expect_nothing(nr_epoll_lines[event.data.u32].receiver);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
    nr_check(epoll_wait(nr_epoll_fd, &event, 1, 400) == 0, "%s is readable, and nobody sends",
             nr_epoll_rows[event.data.u32 % NR_EPOLL_CHANNELS]);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    double used_ms =
        (double)(end.tv_sec - begin.tv_sec) * 1e3 + (double)(end.tv_nsec - begin.tv_nsec) / 1e6;
    nr_check(used_ms < 20 * nr_kit_slowness(), "%.1f ms of processor time in 400 ms", used_ms);
    nr_epoll_close();
}

static void nr_epoll_test(void (*body)(void *argument))
{
    int result = nr_kit_run(body, NULL, 25);

    nr_rows_remove_names();
    if (result != 0)
        fail();
}

static void nr_epoll_test_killed(void **state)
{
    (void)state;
    nr_epoll_test(nr_epoll_kill_body);
}

static void nr_epoll_test_idle(void **state)
{
    (void)state;
    nr_epoll_test(nr_epoll_idle_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nr_epoll_test_killed),
        cmocka_unit_test(nr_epoll_test_idle),
    };

    nr_kit_directory();
    nr_rows_begin();
    int failed = cmocka_run_group_tests_name("epoll", tests, NULL, NULL);
    nr_kit_directory_remove();
    return failed;
}
