/* SPDX-License-Identifier: MIT */
/*
 * shm_limits -- shm:// where something runs out, or is not allowed
 *
 * What       A full /dev/shm is an error when a channel is made and never SIGBUS later, at each size around the
 *            border; without descriptors and without address space what is open goes on, also when somebody dies,
 *            and what can't be opened says why; another user gets what the file's mode allows; many endpoints at
 *            once.
 */
#include "kit.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include "child.h"
#include "place.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>

enum { CASE_SECONDS = 15, MANY = 200 };

static char path[64], uri[72];

static struct naru_options small_options(void)
{
    return (struct naru_options){
        .size_bytes = sizeof(struct naru_options),
        .message_size_max_bytes = 200,
        .capacity_messages = 4,
        .payload_bytes = 4 * 256,
        .participants_max = 6,
    };
}

static struct naru_endpoint *open_as(enum naru_role role)
{
    struct naru_options options = small_options();
    struct naru_endpoint *endpoint = NULL;

    nr_check_ok(naru_open(&endpoint, uri, role, &options));
    return endpoint;
}

static void cross(struct naru_endpoint *sender, struct naru_endpoint *receiver)
{
    char text[200] = "";
    size_t size_bytes = 0;

    nr_check_ok(naru_send(sender, text, sizeof text, NARU_SECOND));
    nr_check_ok(naru_recv(receiver, text, sizeof text, &size_bytes, NARU_SECOND));
    nr_check(size_bytes == sizeof text, "%zu bytes", size_bytes);
}

/* -- no space -------------------------------------------------------------------------------- */

/* Writes to all of it. */
static void fill_and_empty(const char *name, const struct naru_options *options)
{
    struct naru_endpoint *sender, *receiver;
    static char data[4096];
    int sent = 0;

    nr_check_ok(naru_open(&sender, name, NARU_SENDER, options));
    nr_check_ok(naru_open(&receiver, name, NARU_RECEIVER, options));
    for (int round = 0; round < 3; round++) {
        while (naru_send(sender, data, options->message_size_max_bytes, 0) == 0)
            sent++;
        while (naru_recv(receiver, data, sizeof data, NULL, 0) == 0)
            sent--;
    }
    nr_check(sent == 0, "%d messages too many", sent);
    naru_close(sender);
    naru_close(receiver);
    nr_check_ok(naru_unlink(name));
}

static void run_full_shm(void *argument)
{
    unsigned refused = 0, made = 0;

    (void)argument;
    place_small_shm("4k");
    for (int size_kib = 8; size_kib <= 96; size_kib += 4) {
        char limit[32];
        struct naru_endpoint *endpoint = NULL;
        struct naru_options options = {.size_bytes = sizeof options,
                                       .message_size_max_bytes = 2000,
                                       .capacity_messages = 16,
                                       .payload_bytes = 16 * 2048};
        snprintf(limit, sizeof limit, "size=%dk,mode=1777", size_kib);
        nr_check(mount("none", "/dev/shm", "tmpfs", MS_REMOUNT, limit) == 0, "%s", strerror(errno));
        int result = naru_open(&endpoint, "shm://limits", NARU_SENDER, &options);
        naru_close(endpoint);
        if (result < 0) {
            nr_check(result == -ENOSPC && strstr(naru_error_text(), "/dev/shm larger"), "%s",
                     naru_error_text());
            nr_check(naru_unlink("shm://limits") == -ENOENT, "the name is there");
            refused++;
        } else {
            fill_and_empty("shm://limits", &options);
            made++;
        }
    }
    nr_check(refused > 3 && made > 3, "refused %u, made %u", refused, made);
}

/* -- no descriptors -------------------------------------------------------------------------- */

enum { DESCRIPTORS = 128 };
static int stopgaps[DESCRIPTORS];
static int stopgaps_count;

/* Takes all descriptors that are free but `spare`. */
static void spare_descriptors(int spare)
{
    struct rlimit limit = {DESCRIPTORS, DESCRIPTORS};

    nr_check(setrlimit(RLIMIT_NOFILE, &limit) == 0, "%s", strerror(errno));
    while ((stopgaps[stopgaps_count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        stopgaps_count++;
    while (spare-- > 0)
        close(stopgaps[--stopgaps_count]);
}

static void free_descriptors(void)
{
    while (stopgaps_count > 0)
        close(stopgaps[--stopgaps_count]);
}

/* Each number of descriptors that are left over: it works, or says what is missing. */
static void run_descriptors(void *argument)
{
    unsigned refused = 0, opened = 0;
    struct naru_endpoint *both = open_as(NARU_BOTH);
    int fds = nr_kit_fds();

    (void)argument;
    for (int spare = 0; spare < 8; spare++) {
        struct naru_endpoint *more = NULL, *ends[2] = {NULL, NULL};
        struct naru_options options = small_options();
        spare_descriptors(spare);
        int results[] = {naru_open(&more, uri, NARU_BOTH, &options),
                         naru_pair(ends, "shm://", NULL), 0};
        if (more)
            results[2] = naru_fd(more);
        for (int i = 0; i < 3; i++) {
            if (results[i] < 0)
                nr_check(results[i] == -EMFILE, "%d, spare %d: %s", i, spare,
                         strerrorname_np(-results[i]));
            refused += results[i] < 0;
            opened += results[i] >= 0;
        }
        if (more)
            cross(more, more);
        if (ends[0])
            cross(ends[0], ends[1]);
        naru_close(more);
        naru_close(ends[0]);
        naru_close(ends[1]);
        cross(both, both);
        free_descriptors();
        nr_check(nr_kit_fds() == fds, "%d descriptors leaked", nr_kit_fds() - fds);
    }
    nr_check(refused > 2 && opened > 5, "refused %u, opened %u", refused, opened);
    naru_close(both);
    nr_check_ok(naru_unlink(uri));
}

/* No descriptor is left to watch the one that dies with a message in its hand. */
static void run_death_without_descriptors(void *argument)
{
    int *taken = nr_kit_shared(sizeof *taken);
    char text[200];
    struct naru_endpoint *both = open_as(NARU_BOTH);
    struct naru_message message = {.data = text, .capacity_bytes = sizeof text};

    (void)argument;
    nr_check_ok(naru_send(both, "held", 4, 0));
    pid_t child = nr_kit_fork();
    if (child == 0) {
        struct naru_message held;
        nr_check_ok(naru_take(open_as(NARU_RECEIVER), &held, NARU_SECOND));
        nr_kit_set(taken, 1);
        pause();
    }
    nr_kit_await(taken, 1);
    spare_descriptors(0);
    nr_check_fails(naru_recv(both, text, sizeof text, NULL, 20 * NARU_MILLISECOND), -ETIMEDOUT, "");
    nr_kit_kill(child);
    nr_check(naru_recv_many(both, &message, 1, 5 * NARU_SECOND) == 1, "%s", naru_error_text());
    nr_check(message.flags & NARU_REDELIVERED, "it is not flagged");
    free_descriptors();
    naru_close(both);
    nr_check_ok(naru_unlink(uri));
}

/* -- no memory ------------------------------------------------------------------------------- */

static size_t address_space(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    int count = file ? fscanf(file, "%lu", &pages) : 0;
    nr_check(count == 1, "no /proc");
    fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void run_address_space(void *argument)
{
    struct naru_endpoint *both = open_as(NARU_BOTH), *large = NULL, *ends[2];
    struct naru_options options = {
        .size_bytes = sizeof options, .create = NARU_CREATE, .payload_bytes = 64 << 20};
    char other[96];

    (void)argument;
    snprintf(other, sizeof other, "%s-large", uri);
    size_t most = address_space() + (16 << 20);
    nr_check(setrlimit(RLIMIT_AS, &(struct rlimit){most, most}) == 0, "%s", strerror(errno));
    nr_check_fails(naru_open(&large, other, NARU_BOTH, &options), -ENOMEM, "can't make");
    nr_check_fails(naru_unlink(other), -ENOENT, "");
    options.create = 0;
    options.message_size_max_bytes = 32 << 20;
    options.payload_bytes = 0;
    nr_check_fails(naru_pair(ends, "shm://", &options), -ENOMEM, "");
    cross(both, both);
    nr_check_ok(naru_pair(ends, "shm://", NULL));
    naru_close(ends[0]);
    naru_close(ends[1]);
    naru_close(both);
    nr_check_ok(naru_unlink(uri));
}

/* -- another user ---------------------------------------------------------------------------- */

static void run_other_user(void *argument)
{
    struct naru_options options = small_options(), attach = {.size_bytes = sizeof attach};
    struct naru_endpoint *mine = NULL, *theirs = NULL;

    (void)argument;
    if (geteuid() != 0)
        nr_kit_skip("only root can become another user");
    nr_check_ok(naru_open(&mine, uri, NARU_BOTH, &options));
    pid_t child = nr_kit_fork();
    if (child == 0) {
        place_become_another_user();
        attach.create = NARU_ATTACH;
        nr_check_fails(naru_open(&theirs, uri, NARU_RECEIVER, &attach), -EACCES, "file_mode");
        nr_check_fails(naru_open(&theirs, uri, NARU_RECEIVER, NULL), -EACCES, "file_mode");
        nr_check(naru_unlink(uri) < 0, "another user's channel was removed");
        nr_check_fails(naru_open(&theirs, "shm:///etc/naru-limits", NARU_BOTH, NULL), -EACCES,
                       "writable");
        _exit(0);
    }
    nr_kit_join(child);
    naru_close(mine);
    nr_check_ok(naru_unlink(uri));
    options.file_mode = 0666;
    nr_check_ok(naru_open(&mine, uri, NARU_RECEIVER, &options));
    child = nr_kit_fork();
    if (child == 0) {
        place_become_another_user();
        nr_check_ok(naru_open(&theirs, uri, NARU_SENDER, NULL));
        nr_check_ok(naru_send(theirs, "hello", 5, 0));
        kill(getpid(), SIGKILL); /* its death is noticed across users, too */
    }
    char text[200];
    struct naru_stat stat = {.size_bytes = sizeof stat};
    nr_check_ok(naru_recv(mine, text, sizeof text, NULL, 5 * NARU_SECOND));
    nr_kit_kill(child);
    nr_check_ok(naru_stat(mine, &stat));
    nr_check(stat.peers == 0, "%u peers", stat.peers);
    naru_close(mine);
    nr_check_ok(naru_unlink(uri));
}

/* -- many ------------------------------------------------------------------------------------ */

static void run_many(void *argument)
{
    static struct naru_endpoint *endpoints[MANY];
    struct naru_options options = small_options();
    struct naru_endpoint *one_more = NULL;
    struct naru_stat stat = {.size_bytes = sizeof stat};
    int fds = nr_kit_fds();

    (void)argument;
    options.participants_max = MANY;
    for (int i = 0; i < MANY; i++)
        nr_check_ok(naru_open(&endpoints[i], uri, NARU_BOTH, &options));
    nr_check_fails(naru_open(&one_more, uri, NARU_BOTH, NULL), -EBUSY, "200|participants_max");
    for (int i = 0; i < MANY; i++)
        cross(endpoints[i], endpoints[(i * 7 + 1) % MANY]);
    nr_check_ok(naru_stat(endpoints[0], &stat));
    nr_check(stat.peers == MANY - 1, "%u peers", stat.peers);
    for (int i = 1; i < MANY; i++)
        naru_close(endpoints[i]);
    nr_check_ok(naru_stat(endpoints[0], &stat));
    nr_check(stat.peers == 0, "%u peers", stat.peers);
    naru_close(endpoints[0]);
    nr_check_ok(naru_unlink(uri));
    nr_check(nr_kit_fds() == fds, "%d descriptors leaked", nr_kit_fds() - fds);
}

/* -- the tests ------------------------------------------------------------------------------- */

static void test_limit(void (*run)(void *), const char *why)
{
    snprintf(path, sizeof path, "/dev/shm/naru-limits-%d", (int)getpid());
    snprintf(uri, sizeof uri, "shm://%s", path);
    int result = nr_kit_run(run, NULL, CASE_SECONDS);
    unlink(path);
    if (result == PLACE_SKIPPED) {
        printf("SKIP: %s\n", why);
        skip();
    }
    assert_int_equal(result, 0);
}

#define CASE(name, why)                                                                            \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        test_limit(run_##name, why);                                                               \
    }
CASE(full_shm, "no right to mount in a namespace of one's own")
CASE(descriptors, "")
CASE(death_without_descriptors, "")
CASE(other_user, "only root can become another user")
CASE(many, "")

/* The address sanitizer reserves terabytes. */
static void test_address_space(void **state)
{
    (void)state;
    if (getenv("NARU_SANITIZED") || nr_kit_is_valgrind()) {
        printf("SKIP: sanitizers and valgrind need address space of their own\n");
        skip();
    }
    test_limit(run_address_space, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_shm),
        cmocka_unit_test(test_descriptors),
        cmocka_unit_test(test_death_without_descriptors),
        cmocka_unit_test(test_address_space),
        cmocka_unit_test(test_other_user),
        cmocka_unit_test(test_many),
    };

    return cmocka_run_group_tests_name("shm_limits", tests, NULL, NULL);
}
