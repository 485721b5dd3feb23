/* SPDX-License-Identifier: MIT */
/* segment -- what naru/shm.h promises: bytes shared by name, by key and by fork, and its errors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include "place.h"
#include <errno.h>
#include <naru/shm.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>

static char test_shm[64], test_sysv[64];
static key_t test_key;

static int test_setup(void **state)
{
    static int count;

    (void)state;
    alarm(50);
    snprintf(test_shm, sizeof test_shm, "shm://test-%d-%d", (int)getpid(), count++);
    test_key = 0x6e000000 + getpid();
    snprintf(test_sysv, sizeof test_sysv, "sysv://0x%x", (unsigned)test_key);
    place_make();
    return 0;
}

static int test_teardown(void **state)
{
    (void)state;
    naru_shm_unlink(test_shm);
    naru_shm_unlink(test_sysv);
    place_remove();
    return 0;
}

static struct naru_shm *test_open(const char *uri, size_t size_bytes, enum naru_create create)
{
    struct naru_options options = {.size_bytes = sizeof options, .create = create};
    struct naru_shm *segment = NULL;

    if (naru_shm_open(&segment, uri, size_bytes, &options) < 0)
        fail_msg("%s", naru_error_text());
    return segment;
}

/* The open fails so, with these words, and leaves the handle alone. */
static void test_refused(const char *uri, size_t size_bytes, enum naru_create create, int error,
                         const char *words)
{
    struct naru_options options = {.size_bytes = sizeof options, .create = create};
    struct naru_shm *untouched = (struct naru_shm *)&test_key, *handle = untouched;

    assert_int_equal(naru_shm_open(&handle, uri, size_bytes, &options), error);
    assert_ptr_equal(handle, untouched);
    assert_text_has(words);
}

static void child_writes(void *uri)
{
    struct naru_shm *segment;

    child_check(naru_shm_open(&segment, uri, 0, NULL) == 0);
    child_check(naru_shm_created(segment) == 0);
    child_check(naru_shm_size(segment) == 1000);
    char *text = naru_shm_data(segment);
    child_check(strcmp(text, "parent") == 0);
    strcpy(text + 500, "child");
    naru_shm_close(segment);
}

static void test_life(const char *uri)
{
    static struct naru_shm *segment; /* static: a child that leaves still knows of it */

    segment = test_open(uri, 1000, NARU_CREATE);
    char *text = naru_shm_data(segment);

    assert_int_equal(naru_shm_created(segment), 1);
    assert_int_equal(naru_shm_size(segment), 1000);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(text[i], 0);
    strcpy(text, "parent");
    assert_int_equal(child_run(child_writes, (void *)uri), 0);
    assert_string_equal(text + 500, "child");

    struct naru_shm *smaller = test_open(uri, 10, NARU_ATTACH); /* all of it, all the same */
    assert_int_equal(naru_shm_size(smaller), 1000);
    naru_shm_close(smaller);
    test_refused(uri, 1001, NARU_ATTACH, -EINVAL, "1000");
    test_refused(uri, 1001, NARU_CREATE_OR_ATTACH, -EINVAL, "1001");
    test_refused(uri, 1000, NARU_CREATE, -EEXIST, "exists");
    assert_int_equal(naru_shm_unlink(uri), 0);
    assert_int_equal(naru_shm_unlink(uri), -ENOENT);
    assert_string_equal(text + 500, "child"); /* open ones go on */
    test_refused(uri, 1000, NARU_ATTACH, -ENOENT, "there is no");
    test_refused(uri, 0, NARU_CREATE_OR_ATTACH, -ENOENT, "there is no");
    test_refused(uri, 0, NARU_CREATE, -EINVAL, "size");

    struct naru_shm *again = test_open(uri, 2000, NARU_CREATE_OR_ATTACH);
    assert_int_equal(naru_shm_created(again), 1);
    assert_int_equal(((char *)naru_shm_data(again))[0], 0);
    naru_shm_close(again);
    naru_shm_close(segment);
    assert_int_equal(naru_shm_unlink(uri), 0);
}

static void lives_by_name(void **state)
{
    (void)state;
    test_life(test_shm);
}

static void lives_by_path(void **state)
{
    char uri[160];

    (void)state;
    snprintf(uri, sizeof uri, "shm://%s", place_path("segment"));
    test_life(uri);
}

static void lives_by_key(void **state)
{
    (void)state;
    test_life(test_sysv);
}

static void lives_by_path_of_a_key(void **state)
{
    char uri[160];

    (void)state;
    place_write(place_path("key"), "", 0);
    snprintf(uri, sizeof uri, "sysv://%s", place_path("key"));
    test_life(uri);
    snprintf(uri, sizeof uri, "sysv://%s", place_path("nothing"));
    test_refused(uri, 100, NARU_CREATE_OR_ATTACH, -ENOENT, "ftok");
    assert_int_equal(naru_shm_unlink(uri), -ENOENT);
}

static void child_adds(void *number)
{
    *(int *)number += 1;
}

static void is_inherited_by_fork(void **state)
{
    const char *uris[] = {"shm://", test_shm, test_sysv};

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct naru_shm *segment = test_open(uris[i], sizeof(int), NARU_CREATE_OR_ATTACH);
        int *number = naru_shm_data(segment);
        assert_int_equal(naru_shm_created(segment), 1);
        assert_int_equal(*number, 0);
        *number = 41;
        assert_int_equal(child_run(child_adds, number), 0);
        assert_int_equal(*number, 42);
        naru_shm_close(segment);
    }
    test_refused("shm://", 100, NARU_ATTACH, -ENOENT, "inherited");
    test_refused("shm://", 0, NARU_CREATE_OR_ATTACH, -EINVAL, "size");
    if (!getenv("NARU_TEST_WRAPPER")) /* valgrind itself says EINVAL */
        test_refused("shm://", (size_t)1 << 46, NARU_CREATE, -ENOMEM, "ask for less");
    assert_int_equal(naru_shm_unlink("shm://"), -EINVAL);
}

static void is_shared_with_programs_that_know_no_naru(void **state)
{
    char name[64], uri[96];

    (void)state;
    snprintf(name, sizeof name, "/naru-test-%d", (int)getpid());
    snprintf(uri, sizeof uri, "shm:///dev/shm%s", name);
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    test_refused(uri, 0, NARU_ATTACH, -EINVAL, "empty"); /* their half-made one */
    assert_int_equal(ftruncate(fd, 300), 0);
    struct naru_shm *segment = test_open(uri, 300, NARU_CREATE_OR_ATTACH);
    assert_int_equal(naru_shm_created(segment), 0);
    assert_int_equal(naru_shm_size(segment), 300);
    strcpy(naru_shm_data(segment), "Naru's");
    char *theirs = mmap(NULL, 300, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_string_equal(theirs, "Naru's");
    munmap(theirs, 300);
    close(fd);
    naru_shm_close(segment);
    assert_int_equal(naru_shm_unlink(uri), 0);

    int id = shmget(test_key, 300, IPC_CREAT | IPC_EXCL | 0600);
    theirs = shmat(id, NULL, 0);
    strcpy(theirs, "theirs");
    segment = test_open(test_sysv, 0, NARU_ATTACH);
    assert_int_equal(naru_shm_size(segment), 300);
    assert_string_equal(naru_shm_data(segment), "theirs");
    struct shmid_ds status;
    shmctl(id, IPC_STAT, &status);
    assert_int_equal(status.shm_nattch, 2);
    naru_shm_close(segment);
    shmctl(id, IPC_STAT, &status);
    assert_int_equal(status.shm_nattch, 1);
    assert_int_equal(naru_shm_unlink(test_sysv), 0);
    shmdt(theirs);
    assert_int_equal(shmctl(id, IPC_STAT, &status), -1);
}

static void bad_arguments_are_refused(void **state)
{
    const struct {
        const char *uri;
        int error;
        const char *words;
    } cases[] = {
        {"", -EINVAL, "no URI"},
        {"segment", -EINVAL, "no URI"},
        {"mq://x", -EPROTONOSUPPORT, "shm://name"},
        {"shm://a b", -EINVAL, "names no segment"},
        {"shm:///tmp/", -EINVAL, "names no segment"},
        {"sysv://", -EINVAL, "number other than 0"},
        {"sysv://0", -EINVAL, "number other than 0"},
        {"sysv://x", -EINVAL, "number other than 0"},
        {"sysv://99999999999", -EINVAL, "number other than 0"},
        {"shm:///nowhere/at/all", -ENOENT, "directory"},
    };
    struct naru_options options = {.size_bytes = sizeof options, .message_size_max_bytes = 5};
    struct naru_shm *segment = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        test_refused(cases[i].uri, 100, NARU_CREATE_OR_ATTACH, cases[i].error, cases[i].words);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0] - 1; i++)
        assert_int_equal(naru_shm_unlink(cases[i].uri), cases[i].error);
    test_refused(test_shm, SIZE_MAX, NARU_CREATE, -EINVAL, "ask for less");
    assert_int_equal(naru_shm_open(&segment, test_shm, 100, &options), -EOPNOTSUPP);
    assert_text_has("create and file_mode");
    options = (struct naru_options){.size_bytes = 1};
    assert_int_equal(naru_shm_open(&segment, test_shm, 100, &options), -EINVAL);
    assert_int_equal(naru_shm_open(NULL, test_shm, 100, NULL), -EINVAL);
    assert_int_equal(naru_shm_open(&segment, NULL, 100, NULL), -EINVAL);
    assert_int_equal(naru_shm_unlink(NULL), -EINVAL);
    assert_null(naru_shm_data(NULL));
    assert_int_equal(naru_shm_size(NULL), 0);
    assert_int_equal(naru_shm_created(NULL), 0);
    naru_shm_close(NULL);
}

static void what_is_no_file_is_refused_and_stays(void **state)
{
    char uri[160];

    (void)state;
    snprintf(uri, sizeof uri, "shm://%s", place_directory);
    test_refused(uri, 100, NARU_CREATE_OR_ATTACH, -EBADMSG, "no segment");
    assert_int_equal(naru_shm_unlink(uri), -EBADMSG);
    const char *path = place_path("fifo");
    assert_int_equal(mkfifo(path, 0600), 0);
    snprintf(uri, sizeof uri, "shm://%s", path);
    test_refused(uri, 100, NARU_CREATE_OR_ATTACH, -EBADMSG, "no segment");
    assert_int_equal(naru_shm_unlink(uri), -EBADMSG);
    assert_int_equal(access(path, F_OK), 0);
}

static void child_is_denied(void *uri)
{
    struct naru_shm *segment;

    place_become_another_user();
    child_check(naru_shm_open(&segment, uri, 100, NULL) == -EACCES);
    child_check(strstr(naru_error_text(), "no permission to read and write"));
    if (geteuid() == 65534)
        child_check(naru_shm_unlink(uri) == -EACCES);
}

static void permissions_hold(void **state)
{
    struct naru_options options = {.size_bytes = sizeof options, .file_mode = 0640};
    const char *path = place_path("segment");
    struct naru_shm *segment;
    struct shmid_ds sysv;
    struct stat status;
    char uri[160];

    (void)state;
    snprintf(uri, sizeof uri, "shm://%s", path);
    mode_t mask = umask(077);
    assert_int_equal(naru_shm_open(&segment, uri, 100, &options), 0);
    naru_shm_close(segment);
    assert_int_equal(naru_shm_open(&segment, test_sysv, 100, &options), 0);
    naru_shm_close(segment);
    umask(mask);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode, S_IFREG | 0640);
    int id = shmget(test_key, 0, 0);
    assert_int_equal(shmctl(id, IPC_STAT, &sysv), 0);
    assert_int_equal(sysv.shm_perm.mode & 0777, 0640);
    if (geteuid() != 0) {
        sysv.shm_perm.mode = 0;
        assert_int_equal(shmctl(id, IPC_SET, &sysv), 0);
        assert_int_equal(chmod(path, 0), 0);
    }
    assert_int_equal(child_run(child_is_denied, uri), 0);
    assert_int_equal(child_run(child_is_denied, test_sysv), 0);
}

static void child_under_limits(void *uri)
{
    struct rlimit none = {3, 3}, small = {1000, 1000};
    struct naru_shm *segment;

    child_check(setrlimit(RLIMIT_FSIZE, &small) ==
                0); /* the kernel's own answer would be SIGXFSZ */
    child_check(naru_shm_open(&segment, uri, 2000, NULL) == -EINVAL);
    child_check(strstr(naru_error_text(), "ulimit -f"));
    for (int fd = 3; fd < 64; fd++)
        close(fd);
    child_check(setrlimit(RLIMIT_NOFILE, &none) == 0);
    child_check(naru_shm_open(&segment, uri, 100, NULL) == -EMFILE);
}

static void limits_of_the_process_are_errors(void **state)
{
    (void)state;
    if (getenv("NARU_TEST_WRAPPER")) {
        printf("SKIP: valgrind keeps descriptors of its own\n");
        skip();
    }
    assert_int_equal(child_run(child_under_limits, test_shm), 0);
}

static void child_in_small_shm(void *uri)
{
    struct naru_shm *segment;

    place_small_shm("64k");
    child_check(naru_shm_open(&segment, uri, 128 * 1024, NULL) == -ENOSPC);
    child_check(strstr(naru_error_text(), "131072") && strstr(naru_error_text(), "remount,size="));
    child_check(naru_shm_unlink(uri) == -ENOENT);
    child_check(naru_shm_open(&segment, uri, 60 * 1024, NULL) == 0); /* nothing was left behind */
    memset(naru_shm_data(segment), 1, naru_shm_size(segment));
}

static void full_shm_is_an_error(void **state)
{
    (void)state;
    place_assert_status(child_run(child_in_small_shm, test_shm),
                        "no mount namespace allowed here, so no small /dev/shm");
}

static void child_with_few_system_v(void *uri)
{
    struct naru_shm *segment, *second;

    place_unshare(CLONE_NEWIPC);
    if (place_write_word("/proc/sys/kernel/shmmax", "8192") < 0 ||
        place_write_word("/proc/sys/kernel/shmmni", "1") < 0)
        _exit(PLACE_SKIPPED);
    child_check(naru_shm_open(&segment, uri, 8193, NULL) == -EINVAL);
    child_check(strstr(naru_error_text(), "8192") && strstr(naru_error_text(), "kernel.shmmax"));
    child_check(naru_shm_open(&segment, uri, 8192, NULL) == 0);
    child_check(naru_shm_open(&second, "sysv://77", 100, NULL) == -ENOSPC);
    child_check(strstr(naru_error_text(), "kernel.shmmni"));
}

static void limits_of_system_v_are_named(void **state)
{
    (void)state;
    place_assert_status(child_run(child_with_few_system_v, test_sysv),
                        "no IPC namespace allowed here, so no small limits");
}

static void child_creates_and_counts(void *uri)
{
    struct naru_shm *segment;

    child_check(naru_shm_open(&segment, uri, 3 * sizeof(int), NULL) == 0);
    int *counts = naru_shm_data(segment);
    __atomic_add_fetch(&counts[naru_shm_created(segment)], 1, __ATOMIC_SEQ_CST);
    naru_shm_close(segment);
}

static void of_many_creators_one_wins(void **state)
{
    const char *uris[] = {test_shm, test_sysv};

    (void)state;
    for (int round = 0; round < 30; round++) {
        const char *uri = uris[round % 2];
        pid_t pids[6];
        for (int i = 0; i < 6; i++)
            pids[i] = child_start(child_creates_and_counts, (void *)uri);
        for (int i = 0; i < 6; i++)
            assert_int_equal(child_end(pids[i]), 0);
        struct naru_shm *segment = test_open(uri, 0, NARU_ATTACH);
        const int *counts = naru_shm_data(segment);
        assert_int_equal(counts[1], 1);
        assert_int_equal(counts[0], 5);
        naru_shm_close(segment);
        assert_int_equal(naru_shm_unlink(uri), 0);
    }
}

static void child_makes_and_removes(void *uri)
{
    struct naru_shm *segment;

    for (int i = 0; i < 300; i++) {
        int result = naru_shm_open(&segment, uri, 4096, NULL);
        child_check(result == 0);
        child_check(naru_shm_size(segment) == 4096);
        *(volatile char *)naru_shm_data(segment) = 1;
        naru_shm_close(segment);
        result = naru_shm_unlink(uri);
        child_check(result == 0 || result == -ENOENT);
    }
}

static void makers_and_removers_do_not_meet_half_made_ones(void **state)
{
    const char *uris[] = {test_shm, test_sysv};

    (void)state;
    for (int i = 0; i < 2; i++) {
        pid_t pids[3];
        for (int j = 0; j < 3; j++)
            pids[j] = child_start(child_makes_and_removes, (void *)uris[i]);
        for (int j = 0; j < 3; j++)
            assert_int_equal(child_end(pids[j]), 0);
    }
}

#define test(function) cmocka_unit_test_setup_teardown(function, test_setup, test_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(lives_by_name),
        test(lives_by_path),
        test(lives_by_key),
        test(lives_by_path_of_a_key),
        test(is_inherited_by_fork),
        test(is_shared_with_programs_that_know_no_naru),
        test(bad_arguments_are_refused),
        test(what_is_no_file_is_refused_and_stays),
        test(permissions_hold),
        test(limits_of_the_process_are_errors),
        test(full_shm_is_an_error),
        test(limits_of_system_v_are_named),
        test(of_many_creators_one_wins),
        test(makers_and_removers_do_not_meet_half_made_ones),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
