/* SPDX-License-Identifier: MIT */
/* file -- file://: what is no journal, what is refused, a full disk, the contract, the descriptor */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include "place.h"
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <naru/endpoint.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static char test_uri[160], test_file[128];

static int test_setup(void **state)
{
    (void)state;
    alarm(50);
    place_make();
    snprintf(test_file, sizeof test_file, "%s/journal", place_directory);
    snprintf(test_uri, sizeof test_uri, "file://%s", test_file);
    return 0;
}

static int test_teardown(void **state)
{
    (void)state;
    place_remove();
    return 0;
}

static struct naru_endpoint *test_open_with(enum naru_role role, const struct naru_options *options)
{
    struct naru_endpoint *endpoint = NULL;

    int result = naru_open(&endpoint, test_uri, role, options);
    if (result < 0)
        fail_msg("%d: %s", result, naru_error_text());
    return endpoint;
}

static struct naru_endpoint *test_open(enum naru_role role)
{
    return test_open_with(role, NULL);
}

static void test_expect(struct naru_endpoint *receiver, const char *text, int64_t timeout_ns)
{
    char data[64];
    size_t size;

    int result = naru_recv(receiver, data, sizeof data, &size, timeout_ns);
    if (result < 0)
        fail_msg("%d: %s", result, naru_error_text());
    assert_int_equal(size, strlen(text));
    assert_memory_equal(data, text, size);
}

/* -- opening -------------------------------------------------------------------------------- */

static void test_not_a_journal(void **state)
{
    static const unsigned char page[20000] = {'N', 'a', 'r', 'u', 'J', 'r', 'n', 'l', 9};
    struct naru_endpoint *endpoint = NULL;
    struct stat status;

    (void)state;
    for (size_t size = 0; size < 12000; size += 400) {
        place_write(test_file, "some text that is dear to its owner", size < 36 ? size : 36);
        assert_int_equal(naru_open(&endpoint, test_uri, NARU_BOTH, NULL), -EBADMSG);
        assert_text_has("no journal");
        assert_int_equal(naru_unlink(test_uri), -EBADMSG);
        assert_int_equal(stat(test_file, &status), 0);
    }
    place_write(test_file, page, sizeof page);
    assert_int_equal(naru_open(&endpoint, test_uri, NARU_BOTH, NULL), -EPROTO);
    assert_text_has("layout 9");
    assert_int_equal(unlink(test_file), 0);
    assert_int_equal(mkdir(test_file, 0700), 0);
    assert_int_equal(naru_open(&endpoint, test_uri, NARU_BOTH, NULL), -EBADMSG);
    assert_int_equal(naru_unlink(test_uri), -EBADMSG);
    assert_int_equal(rmdir(test_file), 0);
    assert_int_equal(mkfifo(test_file, 0600), 0);
    assert_int_equal(naru_open(&endpoint, test_uri, NARU_BOTH, NULL), -EBADMSG);
    assert_int_equal(naru_unlink(test_uri), -EBADMSG);
    assert_int_equal(naru_open(&endpoint, "file://relative", NARU_BOTH, NULL), -EINVAL);
    assert_int_equal(naru_open(&endpoint, "file:///tmp/", NARU_BOTH, NULL), -EINVAL);
    assert_int_equal(naru_open(&endpoint, "file:///tmp/no/such/place", NARU_BOTH, NULL), -ENOENT);
    assert_null(endpoint);
}

static void test_create(void **state)
{
    struct naru_options options = {.size_bytes = sizeof options, .create = NARU_ATTACH};
    struct naru_endpoint *endpoint = NULL;
    struct stat status;

    (void)state;
    assert_int_equal(naru_open(&endpoint, test_uri, NARU_SENDER, &options), -ENOENT);
    assert_int_equal(naru_unlink(test_uri), -ENOENT);
    options.create = NARU_CREATE;
    options.file_mode = 0640;
    endpoint = test_open_with(NARU_SENDER, &options);
    assert_int_equal(stat(test_file, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0640);
    struct naru_endpoint *other = NULL;
    assert_int_equal(naru_open(&other, test_uri, NARU_SENDER, &options), -EEXIST);
    assert_int_equal(naru_unlink(test_uri), 0);
    assert_int_equal(stat(test_file, &status), -1);
    assert_int_equal(naru_send(endpoint, "x", 1, 0), 0); /* goes on until it is closed */
    naru_close(endpoint);
}

static void test_options(void **state)
{
    struct naru_options made = {.size_bytes = sizeof made,
                                .message_size_max_bytes = 100,
                                .delivery = NARU_AT_LEAST_ONCE,
                                .participants_max = 2};
    struct naru_endpoint *other = NULL, *third = NULL;

    (void)state;
    struct naru_endpoint *endpoint = test_open_with(NARU_SENDER, &made);
    const struct naru_options bad[] = {
        {.message_size_max_bytes = 101},
        {.delivery = NARU_AT_MOST_ONCE},
        {.durability = NARU_DURABLE_EVERY_COMMIT},
        {.when_full = NARU_FAIL},
        {.participants_max = 3},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct naru_options options = bad[i];
        options.size_bytes = sizeof options;
        assert_int_equal(naru_open(&other, test_uri, NARU_SENDER, &options), -EINVAL);
        assert_text_has("the options ask for");
    }
    const struct naru_options refused[] = {
        {.when_full = NARU_DROP_NEWEST},
        {.when_full = NARU_OVERWRITE_OLDEST},
        {.capacity_messages = 5},
        {.payload_bytes = 5},
        {.held_max = 5},
        {.one_to_one = 1},
        {.type = 3},
        {.signal_number = 40},
        {.peer_uid_any = 1},
        {.acknowledge = NARU_ACKNOWLEDGED},
        {.pattern = NARU_TOPIC},
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct naru_options options = refused[i];
        options.size_bytes = sizeof options;
        assert_int_equal(naru_open(&other, test_uri, NARU_SENDER, &options), -EOPNOTSUPP);
    }
    char data[101] = {0};
    assert_int_equal(naru_send(endpoint, data, 101, 0), -EMSGSIZE);
    assert_int_equal(naru_send(endpoint, data, 100, 0), 0);
    other = test_open_with(NARU_RECEIVER, &made);
    assert_int_equal(naru_open(&third, test_uri, NARU_SENDER, NULL), -EBUSY);
    assert_text_has("participants_max");
    struct naru_stat stat = {.size_bytes = sizeof stat};
    assert_int_equal(naru_stat(other, &stat), 0);
    assert_int_equal(stat.message_size_max_bytes, 100);
    assert_int_equal(stat.delivery, NARU_AT_LEAST_ONCE);
    assert_int_equal(stat.queued_messages, 1);
    assert_int_equal(stat.peers, 1);
    naru_close(endpoint);
    naru_close(other);
}

static void test_another_user(void *context)
{
    struct naru_endpoint *endpoint = NULL;

    (void)context;
    place_become_another_user();
    child_check(naru_open(&endpoint, test_uri, NARU_RECEIVER, NULL) == -EACCES);
    child_check(strstr(naru_error_text(), "must be allowed to write"));
}

static void test_permissions(void **state)
{
    (void)state;
    naru_close(test_open(NARU_SENDER));
    if (geteuid() != 0)
        assert_int_equal(chmod(test_file, 0), 0);
    assert_int_equal(child_run(test_another_user, NULL), 0);
}

/* -- no room -------------------------------------------------------------------------------- */

static void test_in_small_place(void *context)
{
    static char data[40000];
    struct naru_endpoint *both = NULL, *other = NULL;
    char text[16];
    size_t size;
    int sent = 0, result;

    (void)context;
    place_unshare(CLONE_NEWNS);
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", place_directory, "tmpfs", 0, "size=128k,mode=1777") < 0)
        _exit(PLACE_SKIPPED);
    child_check(naru_open(&both, test_uri, NARU_BOTH, NULL) == 0);
    for (;;) {
        data[0] = (char)sent;
        result = naru_send(both, data, sizeof data, 0);
        if (result < 0)
            break;
        sent++;
    }
    child_check(sent == 2 && result == -ENOSPC);
    child_check(strstr(naru_error_text(), "nothing of the message was kept"));
    struct stat status;
    uint64_t tail;
    int fd = open(test_file, O_RDONLY);
    child_check(pread(fd, &tail, sizeof tail, 4096) == sizeof tail && fstat(fd, &status) == 0);
    child_check((off_t)(tail & ~(uint64_t)7) == status.st_size); /* what was begun is cut off */
    close(fd);
    child_check(naru_send(both, "small", 5, 0) == 0);
    for (int i = 0; i < sent; i++) {
        child_check(naru_recv(both, data, sizeof data, &size, 0) == 0);
        child_check(size == sizeof data && data[0] == (char)i);
    }
    child_check(naru_recv(both, text, sizeof text, &size, 0) == 0 && size == 5);
    child_check(memcmp(text, "small", 5) == 0);
    child_check(naru_recv(both, text, sizeof text, &size, 0) == -EAGAIN);
    char path[160];
    snprintf(path, sizeof path, "file://%s/other", place_directory);
    struct naru_options options = {.size_bytes = sizeof options, .participants_max = 4096};
    child_check(naru_open(&other, path, NARU_BOTH, &options) == -ENOSPC);
    child_check(access(path + 7, F_OK) < 0);
    naru_close(both);
    child_check(mount("none", place_directory, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0);
    child_check(naru_open(&both, test_uri, NARU_BOTH, NULL) == -EROFS);
    child_check(naru_open(&both, path, NARU_BOTH, NULL) == -EROFS);
}

static void test_full_disk(void **state)
{
    (void)state;
    place_assert_status(child_run(test_in_small_place, NULL),
                        "no mount namespace of its own for a small file system");
}

static void test_with_limit(void *context)
{
    struct rlimit limit = {24096, 24096};
    struct naru_endpoint *both = NULL;
    static char data[5000];
    int sent = 0, result;

    (void)context;
    child_check(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    child_check(naru_open(&both, test_uri, NARU_BOTH, NULL) == 0);
    while ((result = naru_send(both, data, sizeof data, 0)) == 0)
        sent++;
    child_check(sent == 1 && result == -EFBIG);
    child_check(strstr(naru_error_text(), "RLIMIT_FSIZE"));
    child_check(naru_recv(both, data, sizeof data, NULL, 0) == 0);
    child_check(naru_recv(both, data, sizeof data, NULL, 0) == -EAGAIN);
    naru_close(both);
}

static void test_size_limit(void **state)
{
    (void)state;
    assert_int_equal(child_run(test_with_limit, NULL), 0);
}

/* From now on fdatasync() fails in this process. */
static void test_break_sync(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fdatasync, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EIO),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        _exit(PLACE_SKIPPED);
}

static void test_broken_disk(void *context)
{
    struct naru_endpoint *sender = NULL;

    (void)context;
    child_check(naru_open(&sender, test_uri, NARU_SENDER, NULL) == 0);
    child_check(naru_send(sender, "good", 4, 0) == 0);
    test_break_sync();
    child_check(naru_send(sender, "lost", 4, 0) == -EIO);
    child_check(strstr(naru_error_text(), "read-only"));
    child_check(naru_send(sender, "lost", 4, 0) == -EIO);
    naru_close(sender);
}

static void test_every_commit(void **state)
{
    struct naru_options options = {.size_bytes = sizeof options,
                                   .durability = NARU_DURABLE_EVERY_COMMIT};

    (void)state;
    struct naru_endpoint *receiver = test_open_with(NARU_RECEIVER, &options);
    place_assert_status(child_run(test_broken_disk, NULL), "no seccomp filter to fail a sync with");
    test_expect(receiver, "good", 0);
    assert_int_equal(naru_recv(receiver, NULL, 0, NULL, 0), -EAGAIN);
    struct naru_endpoint *sender = test_open(NARU_SENDER);
    assert_int_equal(naru_send(sender, "again", 5, 0), 0);
    test_expect(receiver, "again", 0);
    naru_close(sender);
    naru_close(receiver);
}

static void test_broken_disk_in_time(void *context)
{
    struct naru_endpoint *both = NULL;

    (void)context;
    test_break_sync();
    child_check(naru_open(&both, test_uri, NARU_BOTH, NULL) == 0);
    child_check(naru_send(both, "kept", 4, 0) ==
                0); /* committed; that it was not synced comes next */
    child_check(naru_send(both, "lost", 4, 0) == -EIO);
    naru_close(both);
}

static void test_periodic(void **state)
{
    struct naru_options options = {.size_bytes = sizeof options,
                                   .durability = NARU_DURABLE_PERIODIC};

    (void)state;
    naru_close(test_open_with(NARU_SENDER, &options));
    place_assert_status(child_run(test_broken_disk_in_time, NULL),
                        "no seccomp filter to fail a sync with");
    struct naru_endpoint *receiver = test_open(NARU_RECEIVER);
    test_expect(receiver, "kept", 0);
    assert_int_equal(naru_recv(receiver, NULL, 0, NULL, 0), -EAGAIN);
    naru_close(receiver);
}

static void test_open_in_namespace(void *context)
{
    int *expected = context;

    place_unshare(CLONE_NEWPID);
    pid_t pid = fork();
    child_check(pid >= 0);
    if (pid == 0) {
        struct naru_endpoint *endpoint = NULL;
        child_check(naru_open(&endpoint, test_uri, NARU_SENDER, NULL) == *expected);
        naru_close(endpoint);
        _exit(0);
    }
    int status;
    child_check(waitpid(pid, &status, 0) == pid && status == 0);
}

/* Who can't see the others alive is refused, as long as there are others. */
static void test_namespaces(void **state)
{
    static const char why[] = "no PID namespace of its own";
    int expected = -EXDEV;

    (void)state;
    struct naru_endpoint *endpoint = test_open(NARU_RECEIVER);
    place_assert_status(child_run(test_open_in_namespace, &expected), why);
    naru_close(endpoint);
    expected = 0;
    place_assert_status(child_run(test_open_in_namespace, &expected), why);
    naru_close(test_open(NARU_RECEIVER));
}

static void test_truncated_while_open(void **state)
{
    char data[3000];

    (void)state;
    struct naru_endpoint *both = test_open(NARU_BOTH);
    for (int i = 0; i < 3; i++)
        assert_int_equal(naru_send(both, data, memset(data, i, sizeof data) ? sizeof data : 0, 0),
                         0);
    struct stat status;
    assert_int_equal(stat(test_file, &status), 0);
    assert_int_equal(truncate(test_file, status.st_size - 100), 0);
    /* What is still there comes, as does what was read ahead; then the damage is told, again and again. */
    int result, count = 0;
    while ((result = naru_recv(both, data, sizeof data, NULL, 0)) == 0)
        assert_int_equal(data[17], count++);
    assert_int_equal(count, 2);
    assert_int_equal(result, -EBADMSG);
    assert_text_has("truncated");
    assert_int_equal(naru_recv(both, data, sizeof data, NULL, NARU_FOREVER), -EBADMSG);
    naru_close(both);
}

/* -- messages ------------------------------------------------------------------------------- */

static void test_persistence(void **state)
{
    struct iovec parts[100];
    char data[300], abc[] = "abc";

    (void)state;
    struct naru_endpoint *sender = test_open(NARU_SENDER);
    assert_int_equal(naru_send(sender, "one", 3, 0), 0);
    assert_int_equal(naru_send(sender, NULL, 0, 0), 0);
    for (int i = 0; i < 100; i++)
        parts[i] = (struct iovec){abc, 3};
    struct naru_message attributes = {.type = -77};
    assert_int_equal(naru_sendv(sender, parts, 100, &attributes, 0), 0);
    naru_close(sender);
    struct naru_endpoint *receiver = test_open(NARU_RECEIVER);
    test_expect(receiver, "one", 0);
    naru_close(receiver);
    receiver = test_open(NARU_RECEIVER);
    test_expect(receiver, "", 0);
    struct naru_message message = {.data = data, .capacity_bytes = 299};
    assert_int_equal(naru_recv_many(receiver, &message, 1, 0), -EMSGSIZE);
    assert_int_equal(message.size_bytes, 300);
    naru_close(receiver);
    receiver = test_open(NARU_RECEIVER); /* it stayed in the journal, not in the endpoint */
    message.capacity_bytes = 300;
    assert_int_equal(naru_recv_many(receiver, &message, 1, 0), 1);
    for (int i = 0; i < 300; i++)
        assert_int_equal(data[i], abc[i % 3]);
    assert_int_equal(message.type, -77);
    assert_int_equal(message.sequence, 3);
    assert_int_equal(message.sender_pid, getpid());
    assert_int_equal(message.sender_uid, geteuid());
    assert_int_equal(message.deliveries, 1);
    assert_int_equal(message.flags, 0);
    naru_close(receiver);
}

static void test_large(void **state)
{
    const size_t sizes[] = {65479, 65480, 65481, 65536, 1 << 20, (17 << 20) + 3};
    unsigned char *data = malloc(20 << 20);
    size_t size;

    (void)state;
    assert_non_null(data);
    struct naru_endpoint *both = test_open(NARU_BOTH);
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t j = 0; j < sizes[i]; j += 97)
            data[j] = (unsigned char)(i + j / 97);
        assert_int_equal(naru_send(both, data, sizes[i], 0), 0);
    }
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_int_equal(naru_recv(both, data, 20 << 20, &size, 0), 0);
        assert_int_equal(size, sizes[i]);
        for (size_t j = 0; j < sizes[i]; j += 97)
            if (data[j] != (unsigned char)(i + j / 97))
                fail_msg("message %u differs at %zu", i, j);
    }
    naru_close(both);
    free(data);
}

static void test_take_and_die(void *context)
{
    struct naru_endpoint *receiver = NULL;
    struct naru_message message[3];

    (void)context;
    child_check(naru_open(&receiver, test_uri, NARU_RECEIVER, NULL) == 0);
    for (int i = 0; i < 3; i++)
        child_check(naru_take(receiver, &message[i], 0) == 0);
    child_check(naru_ack(receiver, &message[1]) == 0);
    child_check(naru_ack(receiver, &message[0]) == 0);
    raise(SIGKILL);
}

static void test_at_least_once(void **state)
{
    struct naru_options options = {.size_bytes = sizeof options, .delivery = NARU_AT_LEAST_ONCE};
    struct naru_endpoint *second = NULL;
    struct naru_message message, other;

    (void)state;
    struct naru_endpoint *sender = test_open_with(NARU_SENDER, &options);
    for (int i = 0; i < 6; i++)
        assert_int_equal(naru_send(sender, (char[]){(char)('a' + i)}, 1, 0), 0);
    for (int i = 0; i < 2; i++) /* the second takes over from the first: c was in two dead hands */
        assert_true(WIFSIGNALED(child_run(test_take_and_die, NULL)) || i);
    struct naru_endpoint *receiver = test_open(NARU_RECEIVER);
    assert_int_equal(naru_open(&second, test_uri, NARU_RECEIVER, NULL), -EBUSY);
    char pid[16];
    snprintf(pid, sizeof pid, "process %d", (int)getpid());
    assert_text_has(pid);
    /* first: took a b c, acknowledged a b. second: took c d e, acknowledged c d */
    assert_int_equal(naru_take(receiver, &message, 0), 0);
    assert_memory_equal(message.data, "e", 1);
    assert_int_equal(message.flags, NARU_REDELIVERED);
    assert_true(message.deliveries >= 2);
    assert_int_equal(naru_requeue(receiver, &message), 0);
    assert_int_equal(naru_take(receiver, &message, 0), 0);
    assert_memory_equal(message.data, "e", 1);
    assert_true(message.deliveries >= 3);
    assert_int_equal(naru_take(receiver, &other, 0), 0);
    assert_memory_equal(other.data, "f", 1);
    assert_int_equal(other.deliveries, 1);
    assert_int_equal(other.flags, 0);
    assert_int_equal(naru_ack(receiver, &other), 0);
    assert_int_equal(naru_ack(receiver, &other), -EINVAL);
    naru_close(receiver); /* e goes back; f was done, but behind it */
    receiver = test_open(NARU_RECEIVER);
    test_expect(receiver, "e", 0);
    test_expect(receiver, "f", 0);
    assert_int_equal(naru_recv(receiver, NULL, 0, NULL, 0), -EAGAIN);
    naru_close(receiver);
    naru_close(sender);
}

/* -- waiting -------------------------------------------------------------------------------- */

static unsigned long test_switches(pid_t pid)
{
    char path[64], line[128];
    unsigned long count = 0;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *status = fopen(path, "r");
    assert_non_null(status);
    while (fgets(line, sizeof line, status))
        if (sscanf(line, "voluntary_ctxt_switches: %lu", &count) == 1)
            break;
    fclose(status);
    return count;
}

static void test_sleeper(void *context)
{
    struct naru_endpoint *receiver = NULL;
    char data[8];

    (void)context;
    child_check(naru_open(&receiver, test_uri, NARU_RECEIVER, NULL) == 0);
    child_check(naru_recv(receiver, data, sizeof data, NULL, 20 * NARU_SECOND) == 0);
    naru_close(receiver);
}

static void test_idle(void **state)
{
    (void)state;
    const char *sanitizers = getenv("NARU_SANITIZED");
    if (sanitizers && strstr(sanitizers, "thread")) {
        print_message("SKIP: with the thread sanitizer sleeps are taken in slices\n");
        skip();
    }
    struct naru_endpoint *sender = test_open(NARU_SENDER);
    pid_t pid = child_start(test_sleeper, NULL);
    sleep_ms(200);
    unsigned long before = test_switches(pid);
    assert_true(before > 0);
    sleep_ms(1000);
    assert_int_equal(test_switches(pid), before);
    assert_int_equal(naru_send(sender, "x", 1, 0), 0);
    assert_int_equal(child_end(pid), 0);
    naru_close(sender);
}

static bool test_is_ready(int fd, int timeout_ms)
{
    struct pollfd poll_one = {.fd = fd, .events = POLLIN};

    return poll(&poll_one, 1, timeout_ms) == 1;
}

static void test_send_one(void *context)
{
    struct naru_endpoint *sender = NULL;

    (void)context;
    child_check(naru_open(&sender, test_uri, NARU_SENDER, NULL) == 0);
    child_check(naru_send(sender, "x", 1, 0) == 0);
    raise(SIGKILL);
}

static void test_descriptor(void **state)
{
    (void)state;
    struct naru_endpoint *receiver = test_open(NARU_RECEIVER);
    struct naru_endpoint *sender = test_open(NARU_SENDER);
    int fd = naru_fd(receiver);
    assert_true(fd >= 0);
    assert_false(test_is_ready(fd, 20));
    for (int i = 0; i < 3; i++)
        assert_int_equal(naru_send(sender, "x", 1, 0), 0);
    for (int i = 0; i < 3; i++) { /* level: as long as there is one */
        assert_true(test_is_ready(fd, 1000));
        assert_true(test_is_ready(fd, 0));
        test_expect(receiver, "x", 0);
    }
    assert_int_equal(naru_recv(receiver, NULL, 0, NULL, 0), -EAGAIN);
    assert_false(test_is_ready(fd, 50));
    for (int i = 0; i < 5; i++) {
        assert_true(WIFSIGNALED(child_run(test_send_one, NULL)));
        assert_true(test_is_ready(fd, 1000));
        test_expect(receiver, "x", 0);
        while (test_is_ready(fd, 20))
            assert_int_equal(naru_recv(receiver, NULL, 0, NULL, 0), -EAGAIN);
    }
    assert_true(naru_send_fd(sender) >= 0);
    struct pollfd writable = {.fd = naru_send_fd(sender), .events = POLLIN};
    assert_int_equal(poll(&writable, 1, 0), 1);
    naru_close(receiver);
    naru_close(sender);
    receiver = test_open(NARU_RECEIVER); /* one that is there before the descriptor is asked for */
    sender = test_open(NARU_SENDER);
    assert_int_equal(naru_send(sender, "y", 1, 0), 0);
    assert_true(test_is_ready(naru_fd(receiver), 0));
    naru_close(receiver);
    naru_close(sender);
}

static void *test_interrupter(void *endpoint)
{
    sleep_ms(100);
    naru_interrupt(endpoint);
    return NULL;
}

static void test_timeouts(void **state)
{
    pthread_t thread;

    (void)state;
    struct naru_endpoint *receiver = test_open(NARU_RECEIVER);
    int64_t before = clock_ms();
    assert_int_equal(naru_recv(receiver, NULL, 0, NULL, 100 * NARU_MILLISECOND), -ETIMEDOUT);
    assert_in_range(clock_ms() - before, 99, 1000);
    assert_int_equal(pthread_create(&thread, NULL, test_interrupter, receiver), 0);
    assert_int_equal(naru_recv(receiver, NULL, 0, NULL, NARU_FOREVER), -EINTR);
    pthread_join(thread, NULL);
    naru_close(receiver);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, test_setup, test_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_not_a_journal), TEST(test_create),
        TEST(test_options),       TEST(test_permissions),
        TEST(test_full_disk),     TEST(test_size_limit),
        TEST(test_every_commit),  TEST(test_periodic),
        TEST(test_namespaces),    TEST(test_truncated_while_open),
        TEST(test_persistence),   TEST(test_large),
        TEST(test_at_least_once), TEST(test_idle),
        TEST(test_descriptor),    TEST(test_timeouts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
