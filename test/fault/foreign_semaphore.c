/* SPDX-License-Identifier: MIT */
/* foreign_semaphore -- System V and POSIX semaphores, shared with programs that know nothing of Naru */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include "place.h"
#include <errno.h>
#include <naru/sync.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/time.h>

enum { NOBODY_MS = 150, SOON_MS = 2000, CROWD = 8 };

static char sysv_uri[64], posix_uri[96], posix_name[64];
static key_t sysv_key;

static int test_setup(void **state)
{
    static int count;

    (void)state;
    alarm(50);
    sysv_key = (key_t)(0x4e000000 | (getpid() & 0xffff) << 8 | (++count & 0xff));
    snprintf(sysv_uri, sizeof sysv_uri, "sysv://0x%x", (unsigned)sysv_key);
    snprintf(posix_name, sizeof posix_name, "/naru-test-%d-%d", (int)getpid(), count);
    snprintf(posix_uri, sizeof posix_uri, "posix:/%s", posix_name);
    place_make();
    return 0;
}

static int test_teardown(void **state)
{
    (void)state;
    naru_semaphore_unlink(sysv_uri);
    sem_unlink(posix_name);
    place_remove();
    return 0;
}

static struct naru_semaphore *test_open(const char *uri, uint32_t initial, enum naru_create create)
{
    struct naru_options options = {.size_bytes = sizeof options, .create = create};
    static struct naru_semaphore *opened[8]; /* so that a child that just ends has not lost them */
    static unsigned next;
    struct naru_semaphore **ret = &opened[next++ % 8];

    if (naru_semaphore_open(ret, uri, initial, &options) < 0)
        fail_msg("%s: %s", uri, naru_error_text());
    return *ret;
}

static void test_refused(const char *uri, uint32_t initial, enum naru_create create, int error,
                         const char *words)
{
    struct naru_options options = {.size_bytes = sizeof options, .create = create};
    struct naru_semaphore *untouched = (struct naru_semaphore *)&test_open, *handle = untouched;
    int result = naru_semaphore_open(&handle, uri, initial, &options);

    if (result != error)
        fail_msg("%s: %d rather than %d: %s", uri, result, error, naru_error_text());
    assert_ptr_equal(handle, untouched);
    assert_text_has(words);
}

static int plain_sysv(int id, int member, int change, int flags)
{
    struct sembuf operation = {(unsigned short)member, (short)change, (short)flags};

    return semop(id, &operation, 1);
}

/* -- what both are ---------------------------------------------------------------------------- */

static void counts(const char *uri)
{
    struct naru_semaphore *semaphore = test_open(uri, 2, NARU_CREATE);

    assert_int_equal(naru_semaphore_value(semaphore), 2);
    assert_int_equal(naru_semaphore_wait(semaphore, 0), 0);
    assert_int_equal(naru_semaphore_wait(semaphore, NARU_FOREVER), 0);
    assert_int_equal(naru_semaphore_value(semaphore), 0);
    assert_int_equal(naru_semaphore_wait(semaphore, 0), -EAGAIN);
    assert_text_has("time-out");
    int64_t begin = clock_ms();
    assert_int_equal(naru_semaphore_wait(semaphore, NOBODY_MS * NARU_MILLISECOND), -ETIMEDOUT);
    assert_text_has("nobody posted");
    assert_in_range(clock_ms() - begin, NOBODY_MS, SOON_MS);
    assert_int_equal(naru_semaphore_post(semaphore), 0);
    assert_int_equal(naru_semaphore_wait(semaphore, NARU_SECOND), 0);
    naru_semaphore_close(semaphore);
    semaphore = test_open(uri, 9, NARU_CREATE_OR_ATTACH); /* 9 counts no more */
    assert_int_equal(naru_semaphore_value(semaphore), 0);
    naru_semaphore_close(semaphore);
    test_refused(uri, 1, NARU_CREATE, -EEXIST, "exists");
    assert_int_equal(naru_semaphore_unlink(uri), 0);
    assert_int_equal(naru_semaphore_unlink(uri), -ENOENT);
    test_refused(uri, 1, NARU_ATTACH, -ENOENT, "start the program");
}

static void both_count(void **state)
{
    (void)state;
    counts(sysv_uri);
    counts(posix_uri);
}

static void ignore(int signal)
{
    (void)signal;
}

static void child_posts_late(void *semaphore)
{
    sleep_ms(NOBODY_MS);
    child_check(naru_semaphore_post(semaphore) == 0);
}

/* A handler without SA_RESTART every 5 ms, which ends each of the kernel's waits. */
static void no_signal_makes_a_wait_fail(void **state)
{
    const char *uris[] = {sysv_uri, posix_uri};
    struct sigaction action = {.sa_handler = ignore}, before;
    struct itimerval often = {{0, 5000}, {0, 5000}}, never = {0};

    (void)state;
    assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
    for (int i = 0; i < 2; i++) {
        struct naru_semaphore *semaphore = test_open(uris[i], 0, NARU_CREATE);
        pid_t pid = child_start(child_posts_late, semaphore);
        setitimer(ITIMER_REAL, &often, NULL);
        int64_t begin = clock_ms();
        int forever = naru_semaphore_wait(semaphore, NARU_FOREVER);
        int64_t middle = clock_ms();
        int limited = naru_semaphore_wait(semaphore, NOBODY_MS * NARU_MILLISECOND);
        int64_t end = clock_ms();
        setitimer(ITIMER_REAL, &never, NULL);
        assert_int_equal(forever, 0);
        assert_in_range(middle - begin, NOBODY_MS / 2, SOON_MS);
        assert_int_equal(limited, -ETIMEDOUT);
        assert_in_range(end - middle, NOBODY_MS, SOON_MS);
        assert_int_equal(child_end(pid), 0);
        naru_semaphore_close(semaphore);
    }
    sigaction(SIGALRM, &before, NULL);
    alarm(50);
}

static void child_of_a_crowd(void *uri)
{
    struct naru_semaphore *semaphore;

    child_check(naru_semaphore_open(&semaphore, uri, CROWD, NULL) == 0);
    child_check(naru_semaphore_wait(semaphore, 20 * NARU_SECOND) == 0);
    naru_semaphore_close(semaphore);
}

/* Who comes while another one makes it waits until it has its count, and it has it once. */
static void crowd_makes_one(void **state)
{
    char *uris[] = {sysv_uri, posix_uri};
    pid_t pids[CROWD];

    (void)state;
    for (int round = 0; round < 20; round++) {
        char *uri = uris[round % 2];
        for (int i = 0; i < CROWD; i++)
            pids[i] = child_start(child_of_a_crowd, uri);
        for (int i = 0; i < CROWD; i++)
            assert_int_equal(child_end(pids[i]), 0);
        struct naru_semaphore *semaphore = test_open(uri, 0, NARU_ATTACH);
        assert_int_equal(naru_semaphore_value(semaphore), 0);
        naru_semaphore_close(semaphore);
        assert_int_equal(naru_semaphore_unlink(uri), 0);
    }
}

static void child_of_a_fork(void *semaphore)
{
    child_check(naru_semaphore_wait(semaphore, 10 * NARU_SECOND) == 0);
    child_check(naru_semaphore_post(semaphore) == 0);
    naru_semaphore_close(semaphore);
}

static void handles_work_after_fork(void **state)
{
    const char *uris[] = {sysv_uri, posix_uri};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct naru_semaphore *semaphore = test_open(uris[i], 1, NARU_CREATE);
        assert_int_equal(child_run(child_of_a_fork, semaphore), 0);
        assert_int_equal(naru_semaphore_wait(semaphore, 0), 0);
        naru_semaphore_close(semaphore);
    }
}

static void child_of_another_user(void *uri)
{
    struct naru_semaphore *semaphore;

    place_become_another_user();
    child_check(naru_semaphore_open(&semaphore, uri, 0, NULL) == -EACCES);
    child_check(strstr(naru_error_text(), "file_mode"));
}

static void child_that_is_let_in(void *uri)
{
    struct naru_semaphore *semaphore;

    place_become_another_user();
    child_check(naru_semaphore_open(&semaphore, uri, 0, NULL) == 0);
    child_check(naru_semaphore_wait(semaphore, 0) == 0);
    child_check(naru_semaphore_unlink(uri) < 0);
}

static void file_mode_decides_who_comes_in(void **state)
{
    struct naru_options open_to_all = {.size_bytes = sizeof open_to_all, .file_mode = 0666};
    char *uris[] = {sysv_uri, posix_uri};
    struct naru_semaphore *semaphore;

    (void)state;
    if (geteuid() != 0) {
        printf("SKIP: only root can become another user\n");
        skip();
    }
    for (int i = 0; i < 2; i++) {
        naru_semaphore_close(test_open(uris[i], 1, NARU_CREATE));
        assert_int_equal(child_run(child_of_another_user, uris[i]), 0);
        assert_int_equal(naru_semaphore_unlink(uris[i]), 0);
        mode_t before = umask(0077);
        int result = naru_semaphore_open(&semaphore, uris[i], 1, &open_to_all);
        umask(before);
        assert_int_equal(result, 0);
        assert_int_equal(child_run(child_that_is_let_in, uris[i]), 0);
        naru_semaphore_close(semaphore);
    }
}

static void refuses_what_is_no_name(void **state)
{
    static const struct {
        const char *uri, *words;
        int error;
    } wrong[] = {
        {"sysv://", "key", -EINVAL},
        {"sysv://0", "other than 0", -EINVAL},
        {"sysv://12x", "key", -EINVAL},
        {"sysv://4294967296", "key", -EINVAL},
        {"sysv://12?member=65535", "whole number", -EINVAL},
        {"sysv://12?member=-1", "whole number", -EINVAL},
        {"sysv://12?member=", "whole number", -EINVAL},
        {"sysv://12?project=0", "whole number", -EINVAL},
        {"sysv://12?project=256", "whole number", -EINVAL},
        {"sysv://12?undone", "unknown", -EINVAL},
        {"sysv://12?undo&ids", "unknown", -EINVAL},
        {"sysv:///there/is/no/such/file", "needs a file", -ENOENT},
        {"sysv://-1?id", "key", -EINVAL},
        {"sysv:///tmp?id", "key", -EINVAL},
        {"sysv://2147483647?id", "no set", -ENOENT},
        {"posix://", "1 to", -EINVAL},
        {"posix:///slash", "letters", -EINVAL},
        {"posix://a/b", "letters", -EINVAL},
        {"posix://.hidden", "begin", -EINVAL},
        {"posix://../../etc/passwd", "begin", -EINVAL},
        {"mq://jobs", "names no semaphore", -EINVAL},
    };
    struct naru_options with_lines = {.size_bytes = sizeof with_lines, .capacity_messages = 4};
    struct naru_semaphore *semaphore;

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        test_refused(wrong[i].uri, 1, NARU_CREATE_OR_ATTACH, wrong[i].error, wrong[i].words);
    test_refused(sysv_uri, 32768, NARU_CREATE, -EINVAL, "32767");
    test_refused(posix_uri, 0x80000000u, NARU_CREATE, -EINVAL, "2147483647");
    assert_int_equal(naru_semaphore_open(&semaphore, sysv_uri, 1, &with_lines), -EOPNOTSUPP);
    assert_int_equal(naru_semaphore_open(&semaphore, posix_uri, 1, &with_lines), -EOPNOTSUPP);
    assert_int_equal(naru_semaphore_unlink("sysv://7?no"), -EINVAL);
    assert_int_equal(naru_semaphore_unlink("posix://a/b"), -EINVAL);
    test_refused(sysv_uri, 1, NARU_ATTACH, -ENOENT, "ipcs");
}

static void counts_have_an_end(void **state)
{
    struct naru_semaphore *semaphore = test_open(sysv_uri, 32767, NARU_CREATE);

    (void)state;
    assert_int_equal(naru_semaphore_post(semaphore), -EOVERFLOW);
    assert_text_has("32767");
    assert_int_equal(naru_semaphore_value(semaphore), 32767);
    naru_semaphore_close(semaphore);
    semaphore = test_open(posix_uri, 2147483647, NARU_CREATE);
    assert_int_equal(naru_semaphore_post(semaphore), -EOVERFLOW);
    assert_text_has("more is posted");
    assert_int_equal(naru_semaphore_value(semaphore), 2147483647);
    naru_semaphore_close(semaphore);
}

/* -- System V ------------------------------------------------------------------------------- */

static void child_takes_plainly(void *unused)
{
    (void)unused;
    int id = semget(sysv_key, 3, 0600);
    child_check(id >= 0);
    child_check(semctl(id, 2, GETVAL) == 1 && semctl(id, 0, GETVAL) == 0);
    child_check(plain_sysv(id, 2, -1, 0) == 0);
}

static void child_posts_plainly(void *unused)
{
    (void)unused;
    sleep_ms(30);
    child_check(plain_sysv(semget(sysv_key, 3, 0600), 2, 2, 0) == 0);
}

static void sysv_is_shared_with_a_plain_program(void **state)
{
    struct naru_semaphore *semaphore;
    struct semid_ds status;
    char uri[96];

    (void)state;
    snprintf(uri, sizeof uri, "%s?member=2", sysv_uri);
    semaphore = test_open(uri, 1, NARU_CREATE);
    int id = semget(sysv_key, 0, 0);
    assert_int_equal(semctl(id, 0, IPC_STAT, &status), 0);
    assert_int_equal(status.sem_nsems, 3);
    assert_int_equal(status.sem_perm.mode & 0777, 0600);
    assert_true(status.sem_otime != 0); /* others know by it that the set is ready */
    assert_int_equal(child_run(child_takes_plainly, NULL), 0);
    pid_t pid = child_start(child_posts_plainly, NULL);
    for (int taken = 0; taken < 2; taken++)
        assert_int_equal(naru_semaphore_wait(semaphore, 10 * NARU_SECOND), 0);
    assert_int_equal(child_end(pid), 0);
    assert_int_equal(naru_semaphore_wait(semaphore, 0), -EAGAIN);
    naru_semaphore_close(semaphore);
    snprintf(uri, sizeof uri, "%s?member=3", sysv_uri);
    test_refused(uri, 1, NARU_CREATE_OR_ATTACH, -EINVAL, "fewer members");
}

static void sysv_is_found_by_path_and_by_id(void **state)
{
    char by_path[160], by_id[64];

    (void)state;
    place_write(place_path("key"), "", 0);
    int id = semget(ftok(place_path("key"), 'A'), 2, IPC_CREAT | IPC_EXCL | 0600);
    assert_true(id >= 0);
    snprintf(by_path, sizeof by_path, "sysv://%s?project=65&member=1", place_path("key"));
    snprintf(by_id, sizeof by_id, "sysv://%d?id&member=1", id);
    struct naru_semaphore *one = test_open(by_path, 5, NARU_CREATE_OR_ATTACH);
    struct naru_semaphore *two = test_open(by_id, 5, NARU_ATTACH);
    assert_int_equal(naru_semaphore_value(one), 0); /* 5 counts for who creates it */
    assert_int_equal(naru_semaphore_post(one), 0);
    assert_int_equal(naru_semaphore_wait(two, 0), 0);
    naru_semaphore_close(one);
    naru_semaphore_close(two);
    test_refused(by_id, 1, NARU_CREATE, -EINVAL, "by a key");
    snprintf(by_id, sizeof by_id, "sysv://%d?id&member=2", id);
    test_refused(by_id, 1, NARU_ATTACH, -ENOENT, "member 2");
    assert_int_equal(naru_semaphore_unlink(by_path), 0);
    assert_int_equal(semctl(id, 0, GETVAL), -1);

    id = semget(IPC_PRIVATE, 1, 0600);
    snprintf(by_id, sizeof by_id, "sysv://%d?id", id);
    one = test_open(by_id, 0, NARU_ATTACH);
    assert_int_equal(naru_semaphore_post(one), 0);
    assert_int_equal(semctl(id, 0, GETVAL), 1);
    naru_semaphore_close(one);
    assert_int_equal(naru_semaphore_unlink(by_id), 0);
}

static int told[2];

static void child_takes_and_stays(void *uri)
{
    struct naru_semaphore *semaphore;

    child_check(naru_semaphore_open(&semaphore, uri, 1, NULL) == 0);
    child_check(naru_semaphore_wait(semaphore, 0) == 0);
    child_check(write(told[1], "", 1) == 1);
    pause();
}

static void child_takes_and_stays_plainly(void *unused)
{
    (void)unused;
    child_check(plain_sysv(semget(sysv_key, 1, 0600), 0, -1, SEM_UNDO) == 0);
    child_check(write(told[1], "", 1) == 1);
    pause();
}

static pid_t child_holds(void (*run)(void *context), void *context)
{
    char word;

    assert_int_equal(pipe(told), 0);
    pid_t pid = child_start(run, context);
    assert_int_equal(read(told[0], &word, 1), 1);
    close(told[0]);
    close(told[1]);
    return pid;
}

static void *kill_soon(void *pid)
{
    sleep_ms(100);
    kill((pid_t)(intptr_t)pid, SIGKILL);
    return NULL;
}

/* The holder is killed while this process waits: whether the waiter got it. */
static int wait_while_holder_is_killed(struct naru_semaphore *semaphore, pid_t pid, int ms)
{
    pthread_t killer;

    assert_int_equal(naru_semaphore_wait(semaphore, 0), -EAGAIN);
    assert_int_equal(pthread_create(&killer, NULL, kill_soon, (void *)(intptr_t)pid), 0);
    int result = naru_semaphore_wait(semaphore, ms * NARU_MILLISECOND);
    pthread_join(killer, NULL);
    assert_int_equal(child_end(pid), SIGKILL);
    return result;
}

static void undo_gives_back_what_a_dead_process_took(void **state)
{
    char uri[96];

    (void)state;
    snprintf(uri, sizeof uri, "%s?undo", sysv_uri);
    struct naru_semaphore *semaphore = test_open(uri, 1, NARU_CREATE);
    pid_t pid = child_holds(child_takes_and_stays, uri);
    assert_int_equal(wait_while_holder_is_killed(semaphore, pid, 10000), 0);
    assert_int_equal(naru_semaphore_post(semaphore), 0);

    pid = child_holds(child_takes_and_stays_plainly, NULL);
    assert_int_equal(wait_while_holder_is_killed(semaphore, pid, 10000), 0);
    assert_int_equal(naru_semaphore_post(semaphore), 0);
    assert_int_equal(naru_semaphore_value(semaphore), 1);
    naru_semaphore_close(semaphore);
}

static void without_undo_it_stays_taken(void **state)
{
    char *uris[] = {sysv_uri, posix_uri};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct naru_semaphore *semaphore = test_open(uris[i], 1, NARU_CREATE);
        pid_t pid = child_holds(child_takes_and_stays, uris[i]);
        assert_int_equal(wait_while_holder_is_killed(semaphore, pid, 400), -ETIMEDOUT);
        assert_int_equal(naru_semaphore_value(semaphore), 0);
        naru_semaphore_close(semaphore);
    }
}

static void child_removes_late(void *uri)
{
    sleep_ms(100);
    child_check(naru_semaphore_unlink(uri) == 0);
}

static void removed_set_is_told(void **state)
{
    (void)state;
    struct naru_semaphore *semaphore = test_open(sysv_uri, 0, NARU_CREATE);
    pid_t pid = child_start(child_removes_late, sysv_uri);
    assert_int_equal(naru_semaphore_wait(semaphore, 10 * NARU_SECOND), -EIDRM);
    assert_text_has("removed");
    assert_int_equal(child_end(pid), 0);
    assert_int_equal(naru_semaphore_wait(semaphore, NARU_FOREVER), -EIDRM);
    assert_int_equal(naru_semaphore_post(semaphore), -EIDRM);
    assert_int_equal(naru_semaphore_value(semaphore), -EIDRM);
    naru_semaphore_close(semaphore);
}

static void child_has_room_for_one_set(void *unused)
{
    struct naru_semaphore *semaphore;

    (void)unused;
    place_unshare(CLONE_NEWIPC);
    if (place_write_word("/proc/sys/kernel/sem", "10 10 10 1") < 0)
        _exit(PLACE_SKIPPED);
    child_check(naru_semaphore_open(&semaphore, "sysv://1", 1, NULL) == 0);
    child_check(naru_semaphore_open(&semaphore, "sysv://2", 1, NULL) == -ENOSPC);
    child_check(strstr(naru_error_text(), "ipcrm") && strstr(naru_error_text(), "1 sets"));
    child_check(naru_semaphore_unlink("sysv://1") == 0);
    child_check(naru_semaphore_open(&semaphore, "sysv://2?member=10", 1, NULL) == -EINVAL);
}

static void full_table_is_told(void **state)
{
    (void)state;
    place_assert_status(child_run(child_has_room_for_one_set, NULL),
                        "no IPC namespace of one's own here");
}

/* -- POSIX ---------------------------------------------------------------------------------- */

static void child_takes_one_posts_two(void *uri)
{
    sem_t *semaphore = sem_open(posix_name, 0);
    struct naru_semaphore *same;

    child_check(semaphore != SEM_FAILED);
    child_check(sem_wait(semaphore) == 0);
    child_check(naru_semaphore_open(&same, uri, 0, NULL) == 0); /* by both in one process */
    child_check(naru_semaphore_value(same) == 0);
    child_check(write(told[1], "", 1) == 1);
    naru_semaphore_close(same);
    sleep_ms(30);
    child_check(sem_post(semaphore) == 0 && sem_post(semaphore) == 0);
}

static void posix_is_shared_with_a_plain_program(void **state)
{
    (void)state;
    struct naru_semaphore *semaphore = test_open(posix_uri, 1, NARU_CREATE);
    pid_t pid = child_holds(child_takes_one_posts_two, posix_uri);
    for (int taken = 0; taken < 2; taken++)
        assert_int_equal(naru_semaphore_wait(semaphore, 10 * NARU_SECOND), 0);
    assert_int_equal(child_end(pid), 0);
    assert_int_equal(naru_semaphore_wait(semaphore, 0), -EAGAIN);
    naru_semaphore_close(semaphore);
    assert_int_equal(sem_unlink(posix_name), 0);

    sem_t *plain = sem_open(posix_name, O_CREAT | O_EXCL, 0600, 3);
    assert_true(plain != SEM_FAILED);
    semaphore = test_open(posix_uri, 1, NARU_CREATE_OR_ATTACH);
    assert_int_equal(naru_semaphore_value(semaphore), 3);
    assert_int_equal(sem_close(plain), 0);
    assert_int_equal(naru_semaphore_wait(semaphore, 0), 0);
    naru_semaphore_close(semaphore);
}

static void posix_file_of_another_size_is_refused(void **state)
{
    char path[128];

    (void)state;
    snprintf(path, sizeof path, "/dev/shm/sem.%s", posix_name + 1);
    for (size_t size = 0; size <= 64; size += 16) {
        if (size == sizeof(sem_t))
            continue;
        place_write(path, (char[64]){0}, size);
        test_refused(posix_uri, 1, NARU_CREATE_OR_ATTACH, -EBADMSG, "word size");
        assert_int_equal(naru_semaphore_unlink(posix_uri), -EBADMSG);
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    test_refused(posix_uri, 1, NARU_CREATE_OR_ATTACH, -EBADMSG, "no semaphore");
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(symlink("/dev/zero", path), 0);
    test_refused(posix_uri, 1, NARU_CREATE_OR_ATTACH, -EBADMSG, "no semaphore");
    assert_int_equal(unlink(path), 0);
}

/* What a sem_post() leaves that is killed between its two steps: the low word of a sem_t is the count. */
static void child_posts_half(void *memory)
{
    sleep_ms(100);
    __atomic_fetch_add((uint32_t *)memory, 1, __ATOMIC_SEQ_CST);
}

static void half_a_post_is_noticed(void **state)
{
    char path[128];

    (void)state;
    struct naru_semaphore *semaphore = test_open(posix_uri, 0, NARU_CREATE);
    snprintf(path, sizeof path, "/dev/shm/sem.%s", posix_name + 1);
    int fd = open(path, O_RDWR);
    void *memory = mmap(NULL, sizeof(sem_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(fd >= 0 && memory != MAP_FAILED);
    close(fd);
    pid_t pid = child_start(child_posts_half, memory);
    int64_t begin = clock_ms();
    assert_int_equal(naru_semaphore_wait(semaphore, 20 * NARU_SECOND), 0);
    assert_in_range(clock_ms() - begin, 50, 5000);
    assert_int_equal(child_end(pid), 0);
    munmap(memory, sizeof(sem_t));
    naru_semaphore_close(semaphore);
}

static void child_has_no_room(void *uri)
{
    struct naru_semaphore *semaphore;

    place_small_shm("4k");
    int fd = open("/dev/shm/full", O_WRONLY | O_CREAT, 0600);
    child_check(fd >= 0 && write(fd, (char[4096]){1}, 4096) == 4096);
    child_check(naru_semaphore_open(&semaphore, uri, 1, NULL) == -ENOSPC);
    child_check(strstr(naru_error_text(), "remount"));
}

static void full_shm_is_told(void **state)
{
    (void)state;
    place_assert_status(child_run(child_has_no_room, posix_uri), "no mount namespace here");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(both_count, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(no_signal_makes_a_wait_fail, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(crowd_makes_one, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(handles_work_after_fork, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(file_mode_decides_who_comes_in, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(refuses_what_is_no_name, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(counts_have_an_end, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(sysv_is_shared_with_a_plain_program, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(sysv_is_found_by_path_and_by_id, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(undo_gives_back_what_a_dead_process_took, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(without_undo_it_stays_taken, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(removed_set_is_told, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(full_table_is_told, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(posix_is_shared_with_a_plain_program, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(posix_file_of_another_size_is_refused, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(half_a_post_is_noticed, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(full_shm_is_told, test_setup, test_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
