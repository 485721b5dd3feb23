/* SPDX-License-Identifier: MIT */
/* semaphore -- what naru/sync.h promises to one process and its children: results, names, errors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include "place.h"
#include <errno.h>
#include <linux/seccomp.h>
#include <naru/shm.h>
#include <naru/sync.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>

enum { COUNT_MAX = 1073741823 };

static char test_name[64];

static int test_setup(void **state)
{
    static int count;

    (void)state;
    alarm(50);
    snprintf(test_name, sizeof test_name, "test-%d-%d", (int)getpid(), count++);
    place_make();
    return 0;
}

static int test_teardown(void **state)
{
    (void)state;
    naru_semaphore_unlink(test_name);
    place_remove();
    return 0;
}

static struct naru_semaphore *test_open(const char *name, uint32_t initial, enum naru_create create)
{
    struct naru_options options = {.size_bytes = sizeof options, .create = create};
    struct naru_semaphore *semaphore = NULL;

    if (naru_semaphore_open(&semaphore, name, initial, &options) < 0)
        fail_msg("%s", naru_error_text());
    return semaphore;
}

/* The open fails so, with these words, and leaves the handle alone. */
static void test_refused(const char *name, const struct naru_options *options, int error,
                         const char *words)
{
    struct naru_semaphore *untouched = (struct naru_semaphore *)&test_name, *handle = untouched;

    assert_int_equal(naru_semaphore_open(&handle, name, 1, options), error);
    assert_ptr_equal(handle, untouched);
    assert_text_has(words);
}

static void counts_up_and_down(void **state)
{
    struct naru_semaphore_state place;
    struct naru_semaphore *semaphore;

    (void)state;
    assert_int_equal(naru_semaphore_init(&place, 2), 0);
    assert_int_equal(naru_semaphore_attach(&semaphore, &place), 0);
    assert_int_equal(naru_semaphore_value(semaphore), 2);
    assert_int_equal(naru_semaphore_wait(semaphore, 0), 0);
    assert_int_equal(naru_semaphore_wait(semaphore, NARU_FOREVER), 0);
    assert_int_equal(naru_semaphore_value(semaphore), 0);
    assert_int_equal(naru_semaphore_wait(semaphore, 0), -EAGAIN);
    assert_text_has("time-out");
    assert_int_equal(naru_semaphore_post(semaphore), 0);
    assert_int_equal(naru_semaphore_value(semaphore), 1);
    assert_int_equal(naru_semaphore_wait(semaphore, NARU_SECOND), 0);
    naru_semaphore_close(semaphore);
    naru_semaphore_close(NULL);
}

static void child_posts_to_handle_of_parent(void *semaphore)
{
    child_check(naru_semaphore_post(semaphore) == 0);
    child_check(naru_semaphore_wait(semaphore, 0) == 0);
    child_check(naru_semaphore_post(semaphore) == 0);
    naru_semaphore_close(semaphore);
}

static void handle_works_after_fork(void **state)
{
    (void)state;
    struct naru_semaphore *semaphore = test_open(test_name, 0, NARU_CREATE);
    assert_int_equal(child_run(child_posts_to_handle_of_parent, semaphore), 0);
    assert_int_equal(naru_semaphore_wait(semaphore, 0), 0);
    naru_semaphore_close(semaphore);
}

static void child_posts_by_name(void *name)
{
    struct naru_semaphore *semaphore;

    child_check(naru_semaphore_open(&semaphore, name, 77, NULL) == 0); /* 77 counts no more */
    sleep_ms(30);
    child_check(naru_semaphore_post(semaphore) == 0);
    naru_semaphore_close(semaphore);
}

static void is_found_by_name_and_by_path(void **state)
{
    (void)state;
    const char *names[] = {test_name, place_path("gate")};
    for (int i = 0; i < 2; i++) {
        struct naru_semaphore *semaphore = test_open(names[i], 0, NARU_CREATE_OR_ATTACH);
        pid_t pid = child_start(child_posts_by_name, (void *)names[i]);
        assert_int_equal(naru_semaphore_wait(semaphore, 10 * NARU_SECOND), 0);
        assert_int_equal(child_end(pid), 0);
        assert_int_equal(naru_semaphore_value(semaphore), 0);
        naru_semaphore_close(semaphore);
    }
}

static void time_outs_end_a_wait(void **state)
{
    (void)state;
    struct naru_semaphore *semaphore = test_open(test_name, 0, NARU_CREATE);
    int64_t before = clock_ms();
    assert_int_equal(naru_semaphore_wait(semaphore, 60 * NARU_MILLISECOND), -ETIMEDOUT);
    assert_in_range(clock_ms() - before, 59, 5000);
    assert_text_has("in time");
    naru_semaphore_close(semaphore);
}

static volatile sig_atomic_t signals;

static void count_signal(int number)
{
    (void)number;
    signals++;
}

static void signals_do_not_end_a_wait(void **state)
{
    struct sigaction count = {.sa_handler = count_signal}, before; /* without SA_RESTART */
    const struct itimerval often = {{0, 3000}, {0, 3000}}, never = {0};

    (void)state;
    struct naru_semaphore *semaphore = test_open(test_name, 0, NARU_CREATE);
    sigaction(SIGALRM, &count, &before);
    alarm(0);
    setitimer(ITIMER_REAL, &often, NULL);
    assert_int_equal(naru_semaphore_wait(semaphore, 60 * NARU_MILLISECOND), -ETIMEDOUT);
    pid_t pid = child_start(child_posts_by_name, test_name);
    assert_int_equal(naru_semaphore_wait(semaphore, NARU_FOREVER), 0);
    setitimer(ITIMER_REAL, &never, NULL);
    signal(SIGALRM, SIG_IGN); /* throws away one that valgrind has not delivered yet */
    sigaction(SIGALRM, &before, NULL);
    assert_int_equal(child_end(pid), 0);
    assert_true(signals > 10);
    naru_semaphore_close(semaphore);
}

static void overflow_is_refused(void **state)
{
    struct naru_semaphore_state place;
    struct naru_semaphore *semaphore;

    (void)state;
    assert_int_equal(naru_semaphore_init(&place, COUNT_MAX), 0);
    assert_int_equal(naru_semaphore_attach(&semaphore, &place), 0);
    assert_int_equal(naru_semaphore_post(semaphore), -EOVERFLOW);
    assert_text_has("1073741823");
    place.word |= 0x80000000u; /* someone has slept */
    assert_int_equal(naru_semaphore_post(semaphore), -EOVERFLOW);
    assert_int_equal(naru_semaphore_value(semaphore), COUNT_MAX);
    assert_int_equal(naru_semaphore_wait(semaphore, 0), 0);
    assert_int_equal(naru_semaphore_post(semaphore), 0);
    assert_int_equal(naru_semaphore_value(semaphore), COUNT_MAX);
    naru_semaphore_close(semaphore);
}

/* Only read, write and exit are allowed: any other system call kills. */
static void child_without_system_calls(void *semaphore)
{
    child_check(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
    bool went_well = naru_semaphore_post(semaphore) == 0 && naru_semaphore_value(semaphore) == 2 &&
                     naru_semaphore_wait(semaphore, 0) == 0 &&
                     naru_semaphore_wait(semaphore, NARU_FOREVER) == 0 &&
                     naru_semaphore_wait(semaphore, 0) == -EAGAIN;
    syscall(SYS_exit, went_well ? 0 : 1);
}

static void uncontended_makes_no_system_call(void **state)
{
    (void)state;
    if (getenv("NARU_SANITIZED") || getenv("NARU_TEST_WRAPPER")) {
        printf("SKIP: the sanitizer makes system calls of its own\n");
        skip();
    }
    struct naru_semaphore *semaphore = test_open(test_name, 1, NARU_CREATE);
    assert_int_equal(child_run(child_without_system_calls, semaphore), 0);
    naru_semaphore_close(semaphore);
}

static void create_and_attach_are_told_apart(void **state)
{
    struct naru_options attach = {.size_bytes = sizeof attach, .create = NARU_ATTACH};
    struct naru_options create = {.size_bytes = sizeof create, .create = NARU_CREATE};

    (void)state;
    test_refused(test_name, &attach, -ENOENT, "there is no semaphore");
    struct naru_semaphore *semaphore = test_open(test_name, 3, NARU_CREATE);
    test_refused(test_name, &create, -EEXIST, "exists");
    struct naru_semaphore *same = test_open(test_name, 9, NARU_ATTACH);
    assert_int_equal(naru_semaphore_value(same), 3);
    naru_semaphore_close(same);
    naru_semaphore_close(semaphore);
    test_refused(place_path("nowhere/gate"), &create, -ENOENT, "directory");
}

static void bad_arguments_are_refused(void **state)
{
    struct naru_options options = {.size_bytes = 3};
    struct naru_semaphore_state place[2] = {0};
    struct naru_semaphore *semaphore = NULL;
    const char *names[] = {"", "a b", ".hidden", "a/b", "/", "/tmp/", "x://y"};
    char long_name[300];

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        test_refused(names[i], NULL, -EINVAL, "names no semaphore");
    memset(long_name, 'x', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    test_refused(long_name, NULL, -EINVAL, "1 to 200");
    test_refused(test_name, &options, -EINVAL, "sizeof(struct naru_options)");
    options = (struct naru_options){.size_bytes = sizeof options, .create = 9};
    test_refused(test_name, &options, -EINVAL, "create");
    options = (struct naru_options){.size_bytes = sizeof options, .file_mode = 07777};
    test_refused(test_name, &options, -EINVAL, "file_mode");
    options = (struct naru_options){.size_bytes = sizeof options, .capacity_messages = 4};
    test_refused(test_name, &options, -EOPNOTSUPP, "only the options create and file_mode");
    assert_int_equal(naru_semaphore_open(&semaphore, test_name, COUNT_MAX + 1u, NULL), -EINVAL);
    assert_text_has("1073741823");
    assert_int_equal(naru_semaphore_open(NULL, test_name, 1, NULL), -EINVAL);
    assert_int_equal(naru_semaphore_open(&semaphore, NULL, 1, NULL), -EINVAL);
    assert_int_equal(naru_semaphore_init(NULL, 1), -EINVAL);
    assert_int_equal(naru_semaphore_init((void *)((char *)place + 1), 1), -EINVAL);
    assert_text_has("aligned");
    assert_int_equal(naru_semaphore_init(place, COUNT_MAX + 1u), -EINVAL);
    assert_int_equal(naru_semaphore_attach(NULL, place), -EINVAL);
    assert_int_equal(naru_semaphore_attach(&semaphore, NULL), -EINVAL);
    assert_int_equal(naru_semaphore_attach(&semaphore, place), -EBADMSG);
    assert_text_has("no semaphore");
    assert_int_equal(naru_semaphore_post(NULL), -EINVAL);
    assert_int_equal(naru_semaphore_wait(NULL, 0), -EINVAL);
    assert_int_equal(naru_semaphore_value(NULL), -EINVAL);
    assert_int_equal(naru_semaphore_unlink(NULL), -EINVAL);
    assert_int_equal(naru_semaphore_unlink("a b"), -EINVAL);
    assert_null(semaphore);
}

static void what_is_no_semaphore_is_refused_and_stays(void **state)
{
    struct naru_semaphore_state newer = {.word = 1, .magic = 0x4e525339};
    const char *path = place_path("thing");

    (void)state;
    place_write(path, "not a semaphore at all", 22);
    test_refused(path, NULL, -EBADMSG, "no semaphore");
    assert_int_equal(naru_semaphore_unlink(path), -EBADMSG);
    place_write(path, "8 bytes.", 8);
    test_refused(path, NULL, -EBADMSG, "no semaphore");
    assert_int_equal(naru_semaphore_unlink(path), -EBADMSG);
    place_write(path, "", 0);
    test_refused(path, NULL, -EBADMSG, "no semaphore");
    assert_int_equal(naru_semaphore_unlink(path), -EBADMSG);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    test_refused(path, NULL, -EBADMSG, "no semaphore");
    assert_int_equal(naru_semaphore_unlink(path), -EBADMSG);
    test_refused(place_directory, NULL, -EBADMSG, "no semaphore");
    assert_int_equal(naru_semaphore_unlink(place_directory), -EBADMSG);
    assert_int_equal(unlink(path), 0);
    place_write(path, &newer, sizeof newer);
    test_refused(path, NULL, -EPROTO, "layout '9'");
    struct naru_semaphore *semaphore;
    assert_int_equal(naru_semaphore_attach(&semaphore, &newer), -EPROTO);
    assert_int_equal(naru_semaphore_unlink(path), 0); /* but a semaphore it is */
    assert_int_equal(naru_semaphore_unlink(path), -ENOENT);
    assert_text_has("there is no semaphore");
}

static void unlink_leaves_open_handles_alone(void **state)
{
    (void)state;
    struct naru_semaphore *old = test_open(test_name, 1, NARU_CREATE);
    assert_int_equal(naru_semaphore_unlink(test_name), 0);
    assert_int_equal(naru_semaphore_unlink(test_name), -ENOENT);
    struct naru_semaphore *new = test_open(test_name, 5, NARU_CREATE);
    assert_int_equal(naru_semaphore_post(old), 0);
    assert_int_equal(naru_semaphore_value(old), 2);
    assert_int_equal(naru_semaphore_value(new), 5);
    naru_semaphore_close(old);
    naru_semaphore_close(new);
}

static void child_is_denied(void *path)
{
    struct naru_semaphore *semaphore;

    place_become_another_user();
    child_check(naru_semaphore_open(&semaphore, path, 1, NULL) == -EACCES);
    child_check(strstr(naru_error_text(), "no permission to read and write"));
    if (geteuid() != 65534)
        return;
    child_check(naru_semaphore_unlink(path) == -EACCES);
    child_check(naru_semaphore_open(&semaphore, place_path("new"), 1, NULL) == -EACCES);
    child_check(strstr(naru_error_text(), "a path of your own"));
}

static void permissions_hold(void **state)
{
    struct naru_options options = {.size_bytes = sizeof options, .file_mode = 0640};
    const char *path = place_path("gate");
    struct naru_semaphore *semaphore;
    struct stat status;

    (void)state;
    mode_t mask = umask(077);
    assert_int_equal(naru_semaphore_open(&semaphore, path, 1, &options), 0);
    umask(mask);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode, S_IFREG | 0640);
    naru_semaphore_close(semaphore);
    if (geteuid() != 0)
        assert_int_equal(chmod(path, 0), 0);
    assert_int_equal(child_run(child_is_denied, (void *)path), 0);
}

static void child_without_descriptors(void *name)
{
    struct rlimit none = {3, 3};
    struct naru_semaphore *semaphore;

    for (int fd = 3; fd < 64; fd++)
        close(fd);
    child_check(setrlimit(RLIMIT_NOFILE, &none) == 0);
    child_check(naru_semaphore_open(&semaphore, name, 1, NULL) == -EMFILE);
    child_check(strlen(naru_error_text()) > 10);
}

static void exhausted_descriptors_are_an_error(void **state)
{
    (void)state;
    if (getenv("NARU_TEST_WRAPPER")) {
        printf("SKIP: valgrind keeps descriptors of its own\n");
        skip();
    }
    assert_int_equal(child_run(child_without_descriptors, test_name), 0);
}

static void child_in_full_shm(void *name)
{
    static char zeros[60 * 1024];
    struct naru_semaphore *semaphore;

    place_small_shm("64k");
    child_check(naru_semaphore_open(&semaphore, name, 4, NULL) == 0);
    naru_semaphore_close(semaphore);
    child_check(naru_semaphore_unlink(name) == 0);
    int fd = open("/dev/shm/fill", O_WRONLY | O_CREAT, 0600);
    while (write(fd, zeros, sizeof zeros) > 0)
        ;
    child_check(naru_semaphore_open(&semaphore, name, 4, NULL) == -ENOSPC);
    child_check(strstr(naru_error_text(), "remount,size="));
    child_check(naru_semaphore_unlink(name) == -ENOENT); /* nothing half-made has that name */
}

static void full_shm_is_an_error(void **state)
{
    (void)state;
    place_assert_status(child_run(child_in_full_shm, test_name),
                        "no mount namespace allowed here, so no small /dev/shm");
}

static void child_creates_and_posts(void *name)
{
    struct naru_semaphore *semaphore;

    child_check(naru_semaphore_open(&semaphore, name, 100, NULL) == 0);
    child_check(naru_semaphore_post(semaphore) == 0);
}

static void of_many_creators_one_wins(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        pid_t pids[6];
        for (int i = 0; i < 6; i++)
            pids[i] = child_start(child_creates_and_posts, test_name);
        for (int i = 0; i < 6; i++)
            assert_int_equal(child_end(pids[i]), 0);
        struct naru_semaphore *semaphore = test_open(test_name, 0, NARU_ATTACH);
        assert_int_equal(naru_semaphore_value(semaphore), 106);
        naru_semaphore_close(semaphore);
        assert_int_equal(naru_semaphore_unlink(test_name), 0);
    }
}

static void child_posts(void *semaphore)
{
    child_check(naru_semaphore_post(semaphore) == 0);
}

static void stands_in_a_segment(void **state)
{
    struct naru_semaphore *semaphore;
    struct naru_shm *segment;

    (void)state;
    assert_int_equal(naru_shm_open(&segment, "shm://", sizeof(struct naru_semaphore_state), NULL),
                     0);
    assert_int_equal(naru_semaphore_init(naru_shm_data(segment), 0), 0);
    assert_int_equal(naru_semaphore_attach(&semaphore, naru_shm_data(segment)), 0);
    pid_t pid = child_start(child_posts, semaphore);
    assert_int_equal(naru_semaphore_wait(semaphore, 10 * NARU_SECOND), 0);
    assert_int_equal(child_end(pid), 0);
    naru_semaphore_close(semaphore);
    naru_shm_close(segment);
}

#define test(function) cmocka_unit_test_setup_teardown(function, test_setup, test_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(counts_up_and_down),
        test(handle_works_after_fork),
        test(is_found_by_name_and_by_path),
        test(time_outs_end_a_wait),
        test(signals_do_not_end_a_wait),
        test(overflow_is_refused),
        test(uncontended_makes_no_system_call),
        test(create_and_attach_are_told_apart),
        test(bad_arguments_are_refused),
        test(what_is_no_semaphore_is_refused_and_stays),
        test(unlink_leaves_open_handles_alone),
        test(permissions_hold),
        test(exhausted_descriptors_are_an_error),
        test(full_shm_is_an_error),
        test(of_many_creators_one_wins),
        test(stands_in_a_segment),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
