/* SPDX-License-Identifier: MIT */
/*
 * hostile_files -- what stands at the path of a channel is not the channel that one expects
 *
 * What       Files that are no channel, or none any more: each word of the header is set to extreme values, and
 *            words anywhere behind it; files that are cut off or too long; links, directories, devices, other
 *            objects of Naru's. Opening fails with a sentence, or what was opened works within its bounds
 *            (support/hostile.h). The file itself is not changed by a refusal.
 */
#include "hostile.h"
#include "kit.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <naru/shm.h>
#include <naru/sync.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    HEADER_BYTES = 256,
    FILE_MOST = 1 << 20,
    STEPS = 6,
    RANDOM_FILES = 700,
    CASE_SECONDS = 20,
    KINDS_MOST = 32
};

static char path[64], uri[72];
static unsigned char good[FILE_MOST], bad[FILE_MOST];
static size_t size_bytes;

static void write_file(const void *data, size_t bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    nr_check(fd >= 0 && write(fd, data, bytes) == (ssize_t)bytes, "%s: %s", path, strerror(errno));
    close(fd);
}

static int try_open(enum naru_create create)
{
    struct naru_options options = {.size_bytes = sizeof options, .create = create};
    struct naru_endpoint *endpoint = NULL;
    int result = naru_open(&endpoint, uri, NARU_SENDER, &options);

    naru_close(endpoint);
    return result;
}

/* The bytes of a channel that was used, and left. */
static void make_good(const struct nr_hostile_channel *channel)
{
    struct nr_hostile hostile = {.channel = channel, .uri = uri, .random = 3};

    unlink(path);
    nr_hostile_open(&hostile);
    for (int i = 0; i < 30; i++)
        nr_hostile_step(&hostile);
    nr_hostile_close(&hostile);
    int fd = open(path, O_RDONLY);
    ssize_t size = fd < 0 ? -1 : read(fd, good, sizeof good);
    nr_check(size > 2 * HEADER_BYTES && size < FILE_MOST, "%zd bytes", size);
    close(fd);
    size_bytes = (size_t)size;
}

/* Opens what `bad` holds, and works on it. True if it could be opened. */
static bool work_on_bad(const struct nr_hostile_channel *channel, uint64_t *random)
{
    struct nr_hostile hostile = {.channel = channel, .uri = uri, .random = *random};
    hostile.takes_what_is_there = nr_hostile_random(&hostile.random) % 4 != 0;
    static unsigned char *room;

    write_file(bad, size_bytes);
    hostile.room = room;
    nr_hostile_open(&hostile);
    bool could = hostile.ends[0] && hostile.ends[1];
    for (int i = 0; i < STEPS && could; i++)
        nr_hostile_step(&hostile);
    nr_hostile_close(&hostile);
    room = hostile.room;
    *random = hostile.random;
    return could;
}

/* -- words ----------------------------------------------------------------------------------- */

static uint64_t extreme(unsigned which, uint64_t word)
{
    static const uint64_t edges[] = {0,
                                     1,
                                     2,
                                     3,
                                     4,
                                     7,
                                     8,
                                     63,
                                     64,
                                     65,
                                     127,
                                     200,
                                     255,
                                     256,
                                     4095,
                                     4096,
                                     4097,
                                     65535,
                                     65536,
                                     1u << 20,
                                     1048577,
                                     0x7fffffff,
                                     0x80000000,
                                     0xffffffc0,
                                     0xffffffff,
                                     1ull << 32,
                                     1ull << 40,
                                     1ull << 62,
                                     1ull << 63,
                                     UINT64_MAX,
                                     UINT64_MAX - 63};
    enum { EDGES = sizeof edges / sizeof edges[0] };

    if (which < EDGES)
        return edges[which];
    switch (which - EDGES) {
    case 0:
        return word + 1;
    case 1:
        return word - 1;
    case 2:
        return word * 2;
    case 3:
        return word / 2;
    case 4:
        return word + 64;
    default:
        return word - 64;
    }
}
enum { EXTREMES = 37 };

static void set_word(size_t at, unsigned bytes, unsigned which)
{
    uint64_t word = 0;

    memcpy(&word, bad + at, bytes);
    word = extreme(which, word);
    memcpy(bad + at, &word, bytes);
}

/* Each word of the header, as 32 and as 64 bits, set to each extreme. */
static void run_header(void *argument)
{
    const struct nr_hostile_channel *channel = argument;
    unsigned refused = 0, opened = 0;
    uint64_t random = 1;

    make_good(channel);
    for (size_t at = 0; at < HEADER_BYTES; at += 4)
        for (unsigned which = 0; which < EXTREMES; which++)
            for (unsigned bytes = 4; bytes <= 8 - at % 8; bytes += 4) {
                memcpy(bad, good, size_bytes);
                set_word(at, bytes, which);
                if (memcmp(bad, good, size_bytes) == 0)
                    continue;
                if (work_on_bad(channel, &random))
                    opened++;
                else
                    refused++;
            }
    printf("# %s: %u headers refused, %u opened\n", channel->name, refused, opened);
    nr_check(refused > 500 && opened > 100, "too few");
}

/* Words anywhere behind the header, a few or many. */
static void run_body(void *argument)
{
    const struct nr_hostile_channel *channel = argument;
    uint64_t random = (uint64_t)atol(getenv("NARU_SEED") ? getenv("NARU_SEED") : "1");
    unsigned opened = 0;

    make_good(channel);
    for (int i = 0; i < RANDOM_FILES; i++) {
        memcpy(bad, good, size_bytes);
        unsigned words = 1 + nr_hostile_random(&random) % (i % 2 ? 4 : 100);
        for (unsigned j = 0; j < words; j++) {
            size_t at = nr_hostile_random(&random) % ((size_bytes - HEADER_BYTES) / 8);
            unsigned which = nr_hostile_random(&random) % (EXTREMES + 1);
            if (which < EXTREMES)
                set_word(HEADER_BYTES + 8 * at, 8, which);
            else
                memcpy(bad + HEADER_BYTES + 8 * at, &random, 8);
        }
        opened += work_on_bad(channel, &random);
    }
    printf("# %s: %u of %d opened\n", channel->name, opened, RANDOM_FILES);
    nr_check(opened > RANDOM_FILES / 10, "too few were opened");
}

/* -- sizes and kinds ------------------------------------------------------------------------- */

static void run_sizes(void *argument)
{
    make_good(argument);
    memset(bad, 0, sizeof bad);
    memcpy(bad, good, size_bytes);
    for (size_t cut = 0; cut < size_bytes; cut += cut < 1024 ? 61 : 509) {
        write_file(bad, cut);
        nr_check_fails(try_open(NARU_CREATE_OR_ATTACH), -EBADMSG, "");
        nr_check_fails(try_open(NARU_ATTACH), -EBADMSG, "");
    }
    static const size_t longer[] = {1, 8, 64, 4096, 65536};
    for (size_t i = 0; i < sizeof longer / sizeof longer[0]; i++) {
        write_file(bad, size_bytes + longer[i]);
        nr_check_fails(try_open(NARU_ATTACH), -EBADMSG, "does not fit|naru unlink");
    }
    write_file(good, size_bytes);
    nr_check_ok(try_open(NARU_ATTACH));
}

static void refuse_foreign(const char *what, const char *words)
{
    struct stat before, after;

    nr_check(lstat(path, &before) == 0, "%s: %s", what, strerror(errno));
    nr_check_fails(try_open(NARU_CREATE_OR_ATTACH), -EBADMSG, words);
    nr_check_fails(try_open(NARU_ATTACH), -EBADMSG, words);
    nr_check(naru_unlink(uri) < 0, "%s was removed", what);
    nr_check(lstat(path, &after) == 0 && after.st_ino == before.st_ino &&
                 after.st_size == before.st_size,
             "%s was changed", what);
    remove(path);
}

static void run_kinds(void *argument)
{
    static const char zeros[8192];
    struct naru_semaphore *semaphore;
    struct naru_shm *segment;
    struct naru_endpoint *journal;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char other[80];

    (void)argument;
    unlink(path);
    write_file("", 0);
    refuse_foreign("an empty file", "no channel of Naru's");
    write_file("#!/bin/sh\n", 10);
    refuse_foreign("a script", "no channel of Naru's");
    write_file(zeros, sizeof zeros);
    refuse_foreign("zeros", "no channel of Naru's");
    nr_check(mkfifo(path, 0600) == 0, "mkfifo");
    refuse_foreign("a FIFO", "no channel of Naru's");
    nr_check(mkdir(path, 0700) == 0, "mkdir");
    refuse_foreign("a directory", "a directory");
    nr_check_ok(naru_semaphore_open(&semaphore, path, 1, NULL));
    naru_semaphore_close(semaphore);
    refuse_foreign("a semaphore", "no channel of Naru's");
    nr_check_ok(naru_shm_open(&segment, uri, 65536, NULL));
    naru_shm_close(segment);
    refuse_foreign("a plain segment", "no channel of Naru's");
    snprintf(other, sizeof other, "file://%s", path);
    nr_check_ok(naru_open(&journal, other, NARU_SENDER, NULL));
    naru_close(journal);
    refuse_foreign("a journal", "no channel of Naru's");
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    nr_check(bind(fd, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    close(fd);
    nr_check_fails(try_open(NARU_ATTACH), -ENXIO, "can't open");
    unlink(path);
    strcpy(uri, "shm:///dev/null");
    nr_check_fails(try_open(NARU_CREATE_OR_ATTACH), -EBADMSG, "no channel of Naru's");
}

/* A name is not followed to somewhere else. */
static void run_links(void *argument)
{
    char target[80];

    make_good(argument);
    snprintf(target, sizeof target, "%s-target", path);
    rename(path, target);
    nr_check(symlink(target, path) == 0, "symlink");
    nr_check_fails(try_open(NARU_CREATE_OR_ATTACH), -ELOOP, "can't open");
    nr_check(naru_unlink(uri) == -ELOOP, "unlink");
    nr_check(access(target, F_OK) == 0, "the target is gone");
    unlink(target); /* the link dangles */
    nr_check(try_open(NARU_CREATE_OR_ATTACH) < 0, "created through a link");
    nr_check(access(target, F_OK) < 0, "created at the link's target");
    unlink(path);
}

static void run_layouts(void *argument)
{
    make_good(argument);
    memcpy(bad, good, size_bytes);
    bad[8] ^= 64; /* the version, behind the magic number */
    write_file(bad, size_bytes);
    nr_check_fails(try_open(NARU_ATTACH), -EPROTO, "layout version|same library");
    bad[8] ^= 64;
    for (unsigned kind = 0; kind < 256; kind++) {
        bad[12] = (unsigned char)kind;
        write_file(bad, size_bytes);
        int result = try_open(NARU_ATTACH);
        bool may_be_one = kind && kind < KINDS_MOST && kind != good[12]; /* and of these sizes */
        nr_check(result == (kind == good[12] ? 0 : -EBADMSG) || may_be_one, "kind %u: %d", kind,
                 result);
    }
}

/* -- the tests ------------------------------------------------------------------------------- */

static void test_files(void (*run)(void *), bool is_for_each)
{
    for (unsigned i = 0; i < nr_hostile_channels_count; i++) {
        snprintf(path, sizeof path, "/dev/shm/naru-files-%d", (int)getpid());
        snprintf(uri, sizeof uri, "shm://%s", path);
        const struct nr_hostile_channel *channel = &nr_hostile_channels[i];
        if (channel->is_pair || channel->reads_only || channel->options.delivery)
            continue; /* no name; or of the same make as another one */
        int result = nr_kit_run(run, (void *)(uintptr_t)channel, CASE_SECONDS);
        unlink(path);
        if (result != 0)
            fail_msg("%s", channel->name);
        if (!is_for_each)
            break;
    }
}

#define CASE(name, is_for_each)                                                                    \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        test_files(run_##name, is_for_each);                                                       \
    }
CASE(header, true)
CASE(body, true)
CASE(sizes, true)
CASE(kinds, false)
CASE(links, false)
CASE(layouts, true)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header), cmocka_unit_test(test_body),  cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_kinds),  cmocka_unit_test(test_links), cmocka_unit_test(test_layouts),
    };

    return cmocka_run_group_tests_name("hostile_files", tests, NULL, NULL);
}
