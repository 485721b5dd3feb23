/* SPDX-License-Identifier: MIT */
/* socket -- unix:// and abstract://: files, strangers, users, descriptors, deaths */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include "place.h"
#include <dirent.h>
#include <errno.h>
#include <naru/endpoint.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

static char test_uri[160];
static const char *test_path;

static int test_setup(void **state)
{
    (void)state;
    alarm(55);
    place_make();
    test_path = place_path("s");
    snprintf(test_uri, sizeof test_uri, "unix://%s", test_path);
    return 0;
}

static int test_teardown(void **state)
{
    (void)state;
    place_remove();
    return 0;
}

static struct naru_options test_options(enum naru_create create, int64_t timeout_ns)
{
    return (struct naru_options){
        .size_bytes = sizeof(struct naru_options), .create = create, .peer_timeout_ns = timeout_ns};
}

static struct naru_endpoint *test_open(const char *uri, enum naru_role role)
{
    struct naru_endpoint *endpoint = NULL;

    if (naru_open(&endpoint, uri, role, NULL) < 0) {
        fprintf(stderr, "# %s\n", naru_error_text());
        return NULL;
    }
    return endpoint;
}

static int test_fds(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;

    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

/* A bare socket of another program; bound and listening, or connected. */
static int test_raw(const char *path, int type, int listens)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int result = listens ? bind(fd, (void *)&address, sizeof address)
                         : connect(fd, (void *)&address, sizeof address);
    if (result < 0 || (listens && listen(fd, 8) < 0)) {
        close(fd);
        return -1;
    }
    return fd;
}

static void send_one(void *uri)
{
    struct naru_endpoint *sender = test_open(uri, NARU_SENDER);

    child_check(sender);
    child_check(naru_send(sender, "hello", 5, 5 * NARU_SECOND) == 0);
    naru_close(sender);
}

static void expect_one(struct naru_endpoint *receiver)
{
    char data[8] = "";
    size_t size = 0;

    assert_int_equal(naru_recv(receiver, data, sizeof data, &size, 5 * NARU_SECOND), 0);
    assert_int_equal(size, 5);
    assert_memory_equal(data, "hello", 5);
}

/* -- names ------------------------------------------------------------------------------------- */

static void test_stale_file_is_replaced(void **state)
{
    (void)state;
    close(test_raw(test_path, SOCK_SEQPACKET, 1));
    close(test_raw(place_path(".s.naru-new"), SOCK_SEQPACKET,
                   1)); /* of a listener killed in the act */
    assert_int_equal(access(test_path, F_OK), 0);
    struct naru_endpoint *receiver = test_open(test_uri, NARU_RECEIVER);
    assert_non_null(receiver);
    assert_int_equal(child_run(send_one, test_uri), 0);
    expect_one(receiver);
    naru_close(receiver);
    assert_int_equal(access(test_path, F_OK), -1);
    assert_int_equal(access(place_path(".s.naru-new"), F_OK), -1);
}

static void test_close_leaves_a_later_listeners_file(void **state)
{
    struct naru_endpoint *second;
    (void)state;
    struct naru_endpoint *first = test_open(test_uri, NARU_RECEIVER);
    assert_int_equal(naru_unlink(test_uri), 0);
    struct naru_options options = test_options(NARU_CREATE, 0);
    assert_int_equal(naru_open(&second, test_uri, NARU_RECEIVER, &options), 0);
    naru_close(first);
    assert_int_equal(child_run(send_one, test_uri), 0);
    expect_one(second);
    naru_close(second);
}

static void test_live_listener_is_left_alone(void **state)
{
    struct naru_options options = test_options(NARU_CREATE, 0);
    const char *uris[] = {test_uri, "abstract://naru-test-live"};
    struct naru_endpoint *other;
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct naru_endpoint *receiver = test_open(uris[i], NARU_RECEIVER);
        assert_non_null(receiver);
        assert_int_equal(naru_open(&other, uris[i], NARU_RECEIVER, &options), -EEXIST);
        assert_text_has("listens there already");
        assert_int_equal(child_run(send_one, (void *)uris[i]), 0);
        expect_one(receiver);
        naru_close(receiver);
    }
}

static void test_other_files_are_left_alone(void **state)
{
    struct naru_options attach = test_options(NARU_ATTACH, 50 * NARU_MILLISECOND);
    struct naru_endpoint *endpoint;
    (void)state;
    place_write(test_path, "precious", 8);
    assert_int_equal(naru_open(&endpoint, test_uri, NARU_RECEIVER, NULL), -EBADMSG);
    assert_text_has("no socket");
    assert_int_equal(naru_open(&endpoint, test_uri, NARU_RECEIVER, &attach), -EBADMSG);
    assert_int_equal(naru_unlink(test_uri), -EBADMSG);
    assert_text_has("left alone");
    assert_int_equal(unlink(test_path), 0);
    int raw = test_raw(test_path, SOCK_STREAM, 1);
    assert_int_equal(naru_open(&endpoint, test_uri, NARU_RECEIVER, NULL), -EPROTO);
    assert_text_has("another kind");
    close(raw);
    assert_int_equal(naru_unlink(test_uri), 0);
    assert_int_equal(naru_unlink(test_uri), -ENOENT);
    assert_text_has("nothing to remove");
    assert_int_equal(naru_unlink("abstract://naru-test"), -EOPNOTSUPP);
    assert_text_has("goes with its listener");
}

static void test_nobody_there(void **state)
{
    struct naru_options attach = test_options(NARU_ATTACH, 100 * NARU_MILLISECOND);
    struct naru_endpoint *endpoint;
    char uri[200];
    (void)state;
    int64_t start = clock_ms();
    assert_int_equal(naru_open(&endpoint, test_uri, NARU_SENDER, &attach), -ENOENT);
    assert_text_has("nobody listens");
    assert_int_equal(naru_open(&endpoint, "abstract://naru-test-none", NARU_SENDER, &attach),
                     -ENOENT);
    assert_text_has("nobody listens");
    close(test_raw(test_path, SOCK_SEQPACKET, 1));
    assert_int_equal(naru_open(&endpoint, test_uri, NARU_SENDER, &attach), -ECONNREFUSED);
    assert_text_has("its listener is dead");
    assert_in_range(clock_ms() - start, 290, 2000);
    snprintf(uri, sizeof uri, "unix://%s", place_path("no/s"));
    assert_int_equal(naru_open(&endpoint, uri, NARU_SENDER, NULL), -ENOENT);
    assert_text_has("make it");
    assert_int_equal(naru_open(&endpoint, "unix://relative", NARU_SENDER, NULL), -EINVAL);
    assert_int_equal(naru_open(&endpoint, "abstract:///slash", NARU_SENDER, NULL), -EINVAL);
}

static void listen_late(void *uri)
{
    sleep_ms(150);
    struct naru_endpoint *receiver = test_open(uri, NARU_RECEIVER);
    char data[8];
    child_check(receiver);
    child_check(naru_recv(receiver, data, sizeof data, NULL, 5 * NARU_SECOND) == 0);
    naru_close(receiver);
}

static void test_attach_waits(void **state)
{
    struct naru_options attach = test_options(NARU_ATTACH, 5 * NARU_SECOND);
    const char *uris[] = {test_uri, test_uri, "abstract://naru-test-late"};
    struct naru_endpoint *sender;
    (void)state;
    for (int i = 0; i < 3; i++) {
        if (i == 1) /* behind a dead file */
            close(test_raw(test_path, SOCK_SEQPACKET, 1));
        pid_t pid = child_start(listen_late, (void *)uris[i]);
        int64_t start = clock_ms();
        assert_int_equal(naru_open(&sender, uris[i], NARU_SENDER, &attach), 0);
        assert_in_range(clock_ms() - start, 100, 600);
        assert_int_equal(naru_send(sender, "x", 1, 5 * NARU_SECOND), 0);
        assert_int_equal(child_end(pid), 0);
        naru_close(sender);
    }
}

static void test_long_path(void **state)
{
    char name[70], uri[300], path[200];
    (void)state;
    memset(name, 'd', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    snprintf(path, sizeof path, "%s/%s", place_directory, name);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(uri, sizeof uri, "unix://%s/%.40s", path, name); /* 130 bytes */
    struct naru_endpoint *receiver = test_open(uri, NARU_RECEIVER);
    assert_non_null(receiver);
    assert_int_equal(child_run(send_one, uri), 0);
    expect_one(receiver);
    naru_close(receiver);
}

struct race {
    enum naru_role role;
    int go;
};

static void race_run(void *context)
{
    struct race *race = context;
    char data[4] = "";
    char byte;

    child_check(read(race->go, &byte, 1) == 0); /* the parent closes it: both start at once */
    struct naru_endpoint *endpoint = test_open(test_uri, race->role);
    child_check(endpoint);
    int result = race->role == NARU_SENDER ? naru_send(endpoint, "one", 3, 5 * NARU_SECOND)
                                           : naru_recv(endpoint, data, 4, NULL, 5 * NARU_SECOND);
    if (result < 0)
        fprintf(stderr, "# race: role %d: %s\n", race->role, naru_error_text());
    child_check(result == 0);
    if (race->role == NARU_SENDER) /* the receiver's file must not vanish before it has us */
        naru_recv(endpoint, data, 4, NULL, 0);
    naru_close(endpoint);
}

/* Whoever wins listens, the other attaches; over a dead file, too. */
static void test_two_starters(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        int go[2];
        assert_int_equal(pipe(go), 0);
        if (i % 2)
            close(test_raw(test_path, SOCK_SEQPACKET, 1));
        pid_t pids[2];
        for (int k = 0; k < 2; k++) {
            struct race race = {k ? NARU_SENDER : NARU_RECEIVER, go[0]};
            fcntl(go[1], F_SETFD, FD_CLOEXEC);
            pids[k] = fork();
            if (pids[k] == 0) {
                alarm(20);
                close(go[1]);
                race_run(&race);
                _exit(0);
            }
        }
        close(go[0]);
        close(go[1]);
        assert_int_equal(child_end(pids[0]), 0);
        assert_int_equal(child_end(pids[1]), 0);
        unlink(test_path);
    }
}

/* Whoever has the directory's lock may put a live socket where the dead one was; the other must see it. */
static void test_no_live_socket_is_replaced(void **state)
{
    struct stat dead, now;
    (void)state;
    close(test_raw(test_path, SOCK_SEQPACKET, 1));
    assert_int_equal(stat(test_path, &dead), 0);
    int directory = open(place_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(flock(directory, LOCK_EX), 0);
    pid_t pid = child_start(send_one, test_uri);
    sleep_ms(150);
    assert_int_equal(stat(test_path, &now), 0);
    assert_int_equal(now.st_ino, dead.st_ino); /* it waits for the lock */
    assert_int_equal(unlink(test_path), 0);
    int raw = test_raw(test_path, SOCK_SEQPACKET, 1);
    assert_int_equal(stat(test_path, &dead), 0);
    assert_int_equal(flock(directory, LOCK_UN), 0);
    assert_true(accept(raw, NULL, NULL) >= 0); /* proof of life */
    int fd = accept(raw, NULL, NULL);          /* it attaches */
    assert_true(fd >= 0);
    assert_int_equal(stat(test_path, &now), 0);
    assert_int_equal(now.st_ino, dead.st_ino);
    kill(pid, SIGKILL);
    child_end(pid);
    close(fd);
    close(raw);
    close(directory);
}

/* -- who may meet whom --------------------------------------------------------------------------- */

static void test_roles_must_match(void **state)
{
    static const enum naru_role roles[] = {NARU_SENDER, NARU_RECEIVER, NARU_BOTH};
    static const char *const words[] = {"is a sender", "is a receiver", "is a both"};
    struct naru_endpoint *endpoint;
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct naru_endpoint *listener = test_open(test_uri, roles[i]);
        for (int k = 0; k < 3; k++) {
            int fits = roles[i] == NARU_BOTH ? k == 2 : k == !i;
            int result = naru_open(&endpoint, test_uri, roles[k], NULL);
            assert_int_equal(result, fits ? 0 : -EINVAL);
            if (fits)
                naru_close(endpoint);
            else
                assert_text_has(words[i]);
        }
        naru_close(listener);
    }
}

static void test_options_must_match(void **state)
{
    struct naru_options options = test_options(0, 0);
    struct naru_stat stat = {.size_bytes = sizeof stat};
    struct naru_endpoint *listener, *sender;
    char data[201] = "";
    (void)state;
    options.message_size_max_bytes = 200;
    assert_int_equal(naru_open(&listener, test_uri, NARU_RECEIVER, &options), 0);
    options.message_size_max_bytes = 300;
    assert_int_equal(naru_open(&sender, test_uri, NARU_SENDER, &options), -EINVAL);
    assert_text_has("200");
    assert_text_has("300");
    sender = test_open(test_uri, NARU_SENDER);
    assert_int_equal(naru_stat(sender, &stat), 0);
    assert_int_equal(stat.message_size_max_bytes, 200);
    assert_int_equal(stat.peers, 1);
    assert_int_equal(naru_send(sender, data, 201, 0), -EMSGSIZE);
    naru_close(sender);
    naru_close(listener);
    options = test_options(0, 0);
    options.acknowledge = NARU_ACKNOWLEDGED;
    assert_int_equal(naru_open(&sender, test_uri, NARU_SENDER, &options), -EOPNOTSUPP);
    assert_text_has("acknowledge");
    options.acknowledge = 0;
    options.one_to_one = 1;
    assert_int_equal(naru_open(&sender, test_uri, NARU_SENDER, &options), -EOPNOTSUPP);
    assert_text_has("naru_pair()");
}

static void another_user(void *context)
{
    struct naru_options options = test_options(NARU_ATTACH, NARU_SECOND);
    struct naru_endpoint *sender;
    int opens = *(int *)context;

    place_become_another_user();
    options.peer_uid_any = 1;
    int result = naru_open(&sender, test_uri, NARU_SENDER, &options);
    if (!opens) {
        child_check(result == -EACCES);
        child_check(strstr(naru_error_text(), "peer_uid_any"));
        return;
    }
    child_check(result == 0);
    child_check(naru_send(sender, "hello", 5, NARU_SECOND) == 0);
    naru_close(sender);
}

static void listen_as_another_user(void *context)
{
    struct naru_options options = test_options(NARU_CREATE, 0);
    struct naru_endpoint *receiver;
    char data[8];

    (void)context;
    place_become_another_user();
    options.peer_uid_any = 1;
    child_check(naru_open(&receiver, "abstract://naru-test-user", NARU_RECEIVER, &options) == 0);
    naru_recv(receiver, data, sizeof data, NULL, NARU_SECOND);
    naru_close(receiver);
}

static void test_users(void **state)
{
    struct naru_options options = test_options(NARU_CREATE, 0);
    struct naru_message message = {0};
    struct naru_endpoint *receiver;
    char data[8];
    (void)state;
    if (geteuid() != 0) {
        printf("SKIP: only root can be another user\n");
        skip();
    }
    options.file_mode = 0666;
    for (int any = 0; any < 2; any++) {
        options.peer_uid_any = (uint32_t)any;
        assert_int_equal(naru_open(&receiver, test_uri, NARU_RECEIVER, &options), 0);
        pid_t pid = child_start(another_user, &any);
        message = (struct naru_message){.data = data, .capacity_bytes = sizeof data};
        int result =
            naru_recv_many(receiver, &message, 1, any ? 5 * NARU_SECOND : 300 * NARU_MILLISECOND);
        assert_int_equal(child_end(pid), 0);
        assert_int_equal(result, any ? 1 : -ETIMEDOUT);
        if (any) {
            assert_int_equal(message.sender_uid, 65534);
            assert_int_equal(message.sender_pid, pid);
            assert_true(message.known & NARU_KNOWS_SENDER_UID);
        } else {
            assert_text_has("65534");
        }
        naru_close(receiver);
    }
    options = test_options(NARU_ATTACH, 2 * NARU_SECOND);
    pid_t pid = child_start(listen_as_another_user, NULL);
    sleep_ms(100);
    assert_int_equal(naru_open(&receiver, "abstract://naru-test-user", NARU_SENDER, &options),
                     -EACCES);
    assert_text_has("runs as user 65534");
    options.peer_uid_any = 1;
    assert_int_equal(naru_open(&receiver, "abstract://naru-test-user", NARU_SENDER, &options), 0);
    naru_close(receiver);
    child_end(pid);
}

/* -- strangers ------------------------------------------------------------------------------------- */

struct frame {
    uint16_t magic;
    uint8_t kind, zero;
    uint32_t total, offset, zero2;
    uint64_t sequence;
    int64_t type;
    struct {
        char magic[8];
        uint32_t version;
        uint8_t role, pattern, acknowledge, refusal;
        uint64_t size_max;
        uint32_t pid, zero;
    } hello;
};

static struct frame frame_hello(void)
{
    return (struct frame){
        .magic = 0x4e53,
        .kind = 1,
        .total = 32,
        .hello = {.magic = "naru-io", .version = 2, .role = NARU_SENDER, .pattern = NARU_QUEUE},
    };
}

/* Says good and bad things at random; whatever it is, the others must not notice. */
static void fuzz(void *context)
{
    unsigned char bytes[2000];

    (void)context;
    srand(4711);
    int64_t start = clock_ms();
    for (int i = 0; i < 3000 || clock_ms() - start < 400; i++) { /* as long as the good sender */
        int fd = test_raw(test_path, SOCK_SEQPACKET, 0);
        if (fd < 0 && clock_ms() - start >= 400)
            break; /* the good sender is done, and nobody accepts any more */
        child_check(fd >= 0);
        struct frame hello = frame_hello();
        if (rand() % 3)
            send(fd, &hello, sizeof hello, MSG_NOSIGNAL | MSG_DONTWAIT);
        for (int k = rand() % 4; k >= 0; k--) {
            size_t size = (size_t)rand() % (rand() % 2 ? 40 : sizeof bytes);
            for (size_t b = 0; b < size; b++)
                bytes[b] = (unsigned char)rand();
            struct frame frame = hello;
            if (rand() % 2) { /* nearly right: it has to be looked at closely */
                frame.kind = (uint8_t)(rand() % 9);
                if (frame.kind == 2)
                    frame.total = 0xffffffff; /* never a message that would count */
                memcpy(bytes, &frame, size < sizeof frame ? size : sizeof frame);
            }
            send(fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        }
        close(fd);
    }
}

static void send_200(void *context)
{
    struct naru_endpoint *sender = test_open(test_uri, NARU_SENDER);

    (void)context;
    child_check(sender);
    for (int i = 0; i < 200; i++) {
        child_check(naru_send(sender, &i, sizeof i, 5 * NARU_SECOND) == 0);
        sleep_ms(1);
    }
    naru_close(sender);
}

static void test_strangers(void **state)
{
    int silent[5], got;
    (void)state;
    struct naru_endpoint *receiver = test_open(test_uri, NARU_RECEIVER);
    assert_int_equal(naru_recv(receiver, &got, sizeof got, NULL, NARU_MILLISECOND), -ETIMEDOUT);
    int fds = test_fds();
    for (int i = 0; i < 5; i++) /* connect, and say nothing */
        assert_true((silent[i] = test_raw(test_path, SOCK_SEQPACKET, 0)) >= 0);
    pid_t pid = child_start(send_200, NULL), fuzzer = child_start(fuzz, NULL);
    int result, ends = 0;
    for (int i = 0; i < 200; i++) {
        do /* as long as the good one has not come, the end of each bad one is told */
            result = naru_recv(receiver, &got, sizeof got, NULL, 5 * NARU_SECOND);
        while (result == -EBADMSG || result == -EOWNERDEAD);
        assert_int_equal(result, 0);
        assert_int_equal(got, i);
    }
    assert_int_equal(child_end(pid), 0);
    while ((result = naru_recv(receiver, &got, sizeof got, NULL, 500 * NARU_MILLISECOND)) !=
           -ETIMEDOUT)
        ends += result == -EPIPE || result == -EBADMSG || result == -EOWNERDEAD;
    assert_true(ends >= 1);
    assert_int_equal(child_end(fuzzer), 0);
    for (int i = 0; i < 5; i++)
        close(silent[i]);
    while (naru_recv(receiver, &got, sizeof got, NULL, 50 * NARU_MILLISECOND) != -ETIMEDOUT)
        ;
    assert_int_equal(test_fds(), fds);
    naru_close(receiver);
}

static void test_what_is_wrong_is_said(void **state)
{
    struct naru_options attach = test_options(NARU_ATTACH, NARU_SECOND);
    struct frame hello = frame_hello(), huge = frame_hello();
    struct naru_endpoint *endpoint;
    int got;
    (void)state;
    struct naru_endpoint *receiver = test_open(test_uri, NARU_RECEIVER);
    int fd = test_raw(test_path, SOCK_SEQPACKET, 0);
    huge.kind = 2;
    huge.total = 0x7fffffff;
    assert_true(send(fd, &hello, sizeof hello, 0) > 0);
    assert_true(send(fd, &huge, sizeof huge, 0) > 0);
    assert_int_equal(naru_recv(receiver, &got, sizeof got, NULL, 5 * NARU_SECOND), -EBADMSG);
    assert_text_has("no frame of Naru's");
    close(fd);
    naru_close(receiver);

    fd = test_raw(test_path, SOCK_SEQPACKET, 1); /* a listener of another program */
    pid_t pid = fork();
    if (pid == 0) {
        alarm(10);
        int accepted = accept(fd, NULL, NULL);
        send(accepted, "what do you want?", 17, 0);
        pause();
    }
    close(fd);
    assert_int_equal(naru_open(&endpoint, test_uri, NARU_SENDER, &attach), -EPROTO);
    assert_text_has("does not speak Naru's protocol");
    kill(pid, SIGKILL);
    child_end(pid);
}

/* -- deaths ------------------------------------------------------------------------------------------ */

static void send_large(void *context)
{
    size_t size = *(size_t *)context;
    unsigned char *data = malloc(size);
    struct naru_endpoint *sender = test_open(test_uri, NARU_SENDER);

    child_check(sender && data);
    for (size_t i = 0; i < size; i++)
        data[i] = (unsigned char)(i * 7 + (i >> 12));
    child_check(naru_send(sender, data, size, NARU_FOREVER) == 0);
    naru_close(sender);
    free(data);
}

static void test_killed_in_mid_message(void **state)
{
    size_t size = 20 << 20;
    char data[8];
    (void)state;
    struct naru_endpoint *receiver = test_open(test_uri, NARU_RECEIVER);
    pid_t pid = child_start(send_large, &size);
    sleep_ms(400); /* it stands in the middle, waiting for room */
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_true(WIFSIGNALED(child_end(pid)));
    pid = child_start(send_one, test_uri);
    int result;
    while ((result = naru_recv(receiver, data, sizeof data, NULL, 5 * NARU_SECOND)) == -EOWNERDEAD)
        ;
    assert_int_equal(result, 0);
    assert_memory_equal(data, "hello", 5);
    assert_int_equal(child_end(pid), 0);
    naru_close(receiver);
}

static void test_100_mib(void **state)
{
    size_t size = 100 << 20, got = 0;
    unsigned char *data = malloc(size);
    (void)state;
    struct naru_endpoint *receiver = test_open(test_uri, NARU_RECEIVER);
    pid_t pid = child_start(send_large, &size);
    assert_int_equal(naru_recv(receiver, data, 10, &got, 20 * NARU_SECOND), -EMSGSIZE);
    assert_int_equal(got, size);
    assert_int_equal(naru_recv(receiver, data, size, &got, 20 * NARU_SECOND), 0);
    for (size_t i = 0; i < size; i++)
        if (data[i] != (unsigned char)(i * 7 + (i >> 12)))
            fail_msg("byte %zu", i);
    assert_int_equal(child_end(pid), 0);
    naru_close(receiver);
    free(data);
}

/* A forked child has copies of the sender's descriptors: its end of the connection stays open. */
static void send_and_leave_a_copy(void *context)
{
    int *pipe_fds = context;
    struct naru_endpoint *sender = test_open(test_uri, NARU_SENDER);

    child_check(sender && naru_send(sender, "hello", 5, NARU_SECOND) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(10);
        pause();
    }
    child_check(write(pipe_fds[1], &pid, sizeof pid) == sizeof pid);
    pause();
}

static void test_death_despite_a_copy(void **state)
{
    char data[8];
    int pipe_fds[2];
    pid_t copy;
    (void)state;
    assert_int_equal(pipe(pipe_fds), 0);
    struct naru_endpoint *receiver = test_open(test_uri, NARU_RECEIVER);
    pid_t pid = child_start(send_and_leave_a_copy, pipe_fds);
    expect_one(receiver);
    assert_int_equal(read(pipe_fds[0], &copy, sizeof copy), sizeof copy);
    kill(pid, SIGKILL);
    int64_t start = clock_ms();
    assert_int_equal(naru_recv(receiver, data, sizeof data, NULL, NARU_FOREVER), -EOWNERDEAD);
    assert_text_has("died without closing it");
    assert_in_range(clock_ms() - start, 0, 1000);
    assert_int_equal(naru_recv(receiver, data, sizeof data, NULL, 20 * NARU_MILLISECOND),
                     -ETIMEDOUT);
    kill(copy, SIGKILL);
    child_end(pid);
    naru_close(receiver);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void attach_and_wait(void *context)
{
    int expected = *(int *)context;
    struct naru_endpoint *receiver = test_open(test_uri, NARU_RECEIVER);
    char data[8];

    child_check(receiver);
    for (int i = 0; i < 2; i++) /* for good */
        child_check(naru_recv(receiver, data, sizeof data, NULL, NARU_FOREVER) == expected);
    naru_close(receiver);
}

static void listen_and_pause(void *context)
{
    (void)context;
    child_check(test_open(test_uri, NARU_SENDER));
    pause();
}

static void test_listener_is_gone(void **state)
{
    int expected = -EPIPE;
    (void)state;
    struct naru_endpoint *sender = test_open(test_uri, NARU_SENDER);
    pid_t pid = child_start(attach_and_wait, &expected);
    sleep_ms(100);
    naru_stat(sender,
              &(struct naru_stat){.size_bytes = sizeof(struct naru_stat)}); /* takes it in */
    naru_close(sender);
    assert_int_equal(child_end(pid), 0);

    expected = -EOWNERDEAD;
    pid_t listener = child_start(listen_and_pause, NULL);
    sleep_ms(100);
    pid = child_start(attach_and_wait, &expected);
    sleep_ms(400);
    kill(listener, SIGKILL);
    assert_int_equal(child_end(pid), 0);
    child_end(listener);
}

/* -- descriptors -------------------------------------------------------------------------------------- */

static void pass_in(const char *uri)
{
    struct naru_endpoint *ends[2];
    char data[100], small[2];
    int pipe_fds[2], got[4];
    size_t size, count;

    if (strcmp(uri, "unix://") == 0) {
        assert_int_equal(naru_pair(ends, uri, NULL), 0);
    } else {
        ends[1] = test_open(uri, NARU_RECEIVER);
        ends[0] = test_open(uri, NARU_SENDER);
    }
    assert_int_equal(pipe(pipe_fds), 0);
    int before = test_fds();
    int sent[3] = {pipe_fds[0], pipe_fds[1], pipe_fds[1]};
    assert_int_equal(naru_send_fds(ends[0], "abc", 3, sent, 2, NARU_SECOND), 0);
    assert_int_equal(naru_send_fds(ends[0], "def", 3, sent, 3, NARU_SECOND), 0);
    assert_int_equal(naru_send_fds(ends[0], "ghi", 3, sent, 3, NARU_SECOND), 0);
    assert_int_equal(naru_send(ends[0], "jkl", 3, NARU_SECOND), 0);
    count = 4;
    assert_int_equal(naru_recv_fds(ends[1], small, 2, &size, got, &count, NARU_SECOND), -EMSGSIZE);
    assert_int_equal(naru_recv_fds(ends[1], data, 100, &size, got, &count, NARU_SECOND), 0);
    assert_int_equal(count, 2);
    assert_memory_equal(data, "abc", 3);
    assert_int_equal(fcntl(got[0], F_GETFD), FD_CLOEXEC);
    assert_int_equal(write(got[1], "x", 1), 1);
    assert_int_equal(read(got[0], data, 9), 1);
    close(got[0]);
    close(got[1]);
    count = 1; /* room for one of three */
    assert_int_equal(naru_recv_fds(ends[1], data, 100, &size, got, &count, NARU_SECOND), 1);
    assert_int_equal(count, 1);
    close(got[0]);
    assert_int_equal(naru_recv(ends[1], data, 100, &size, NARU_SECOND), 0); /* wants none */
    assert_memory_equal(data, "ghi", 3);
    count = 4;
    assert_int_equal(naru_recv_fds(ends[1], data, 100, &size, got, &count, NARU_FOREVER), 0);
    assert_int_equal(count, 0);
    assert_int_equal(test_fds(), before);
    naru_close(ends[0]);
    naru_close(ends[1]);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void test_descriptors(void **state)
{
    (void)state;
    pass_in("unix://");
    pass_in(test_uri);
    pass_in("abstract://naru-test-fds");
}

static void many_send(void *context)
{
    int number = *(int *)context;
    struct naru_endpoint *sender = test_open(test_uri, NARU_SENDER);

    child_check(sender);
    for (int i = 0; i < 500; i++) {
        int data[2] = {number, i};
        child_check(naru_send(sender, data, sizeof data, NARU_FOREVER) == 0);
    }
    naru_close(sender);
}

static void test_many_senders(void **state)
{
    pid_t pids[8];
    int next[8] = {0}, data[2], result;
    struct naru_message message = {.data = data, .capacity_bytes = sizeof data};
    (void)state;
    struct naru_endpoint *receiver = test_open(test_uri, NARU_RECEIVER);
    for (int i = 0; i < 8; i++)
        pids[i] = child_start(many_send, &i);
    for (int i = 0; i < 8 * 500; i++) {
        while ((result = naru_recv_many(receiver, &message, 1, 5 * NARU_SECOND)) == -EPIPE)
            ;
        assert_int_equal(result, 1);
        assert_int_equal(message.sender_pid, pids[data[0]]);
        assert_int_equal(data[1], next[data[0]]++);
    }
    for (int i = 0; i < 8; i++)
        assert_int_equal(child_end(pids[i]), 0);
    assert_int_equal(naru_recv(receiver, data, sizeof data, NULL, 5 * NARU_SECOND), -EPIPE);
    assert_text_has("the next call waits for the next one");
    assert_int_equal(naru_recv(receiver, data, sizeof data, NULL, 20 * NARU_MILLISECOND),
                     -ETIMEDOUT);
    naru_close(receiver);
}

static void run_out_of_descriptors(void *context)
{
    struct rlimit limit, low;
    struct rusage before, after;
    char data[8];
    int spare[64], count = 0;

    (void)context;
    struct naru_endpoint *receiver = test_open(test_uri, NARU_RECEIVER);
    child_check(receiver);
    struct naru_endpoint *sender = test_open(test_uri, NARU_SENDER);
    child_check(sender);
    child_check(naru_recv(receiver, data, sizeof data, NULL, NARU_MILLISECOND) == -ETIMEDOUT);
    pid_t first = child_start(many_send, &count); /* forked while there are descriptors */
    getrlimit(RLIMIT_NOFILE, &limit);
    low = limit;
    low.rlim_cur = (rlim_t)test_fds() + 2;
    setrlimit(RLIMIT_NOFILE, &low);
    while (count < 64 && (spare[count] = dup(0)) >= 0)
        count++;
    getrusage(RUSAGE_SELF, &before);
    child_check(naru_recv(receiver, data, sizeof data, NULL, 400 * NARU_MILLISECOND) == -ETIMEDOUT);
    getrusage(RUSAGE_SELF, &after);
    child_check(strstr(naru_error_text(), "ulimit -n"));
    child_check(after.ru_stime.tv_usec + after.ru_utime.tv_usec +
                    1000000 * (after.ru_stime.tv_sec + after.ru_utime.tv_sec) -
                    before.ru_stime.tv_usec - before.ru_utime.tv_usec -
                    1000000 * (before.ru_stime.tv_sec + before.ru_utime.tv_sec) <
                100000);
    child_check(naru_send(sender, "hello", 5, NARU_SECOND) == 0); /* who is there is served */
    child_check(naru_recv(receiver, data, sizeof data, NULL, NARU_SECOND) == 0);
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int i = 0; i < 500; i++)
        child_check(naru_recv(receiver, data, sizeof data, NULL, 5 * NARU_SECOND) == 0);
    child_check(waitpid(first, NULL, 0) == first);
    naru_close(sender);
    naru_close(receiver);
}

static void test_no_descriptors_left(void **state)
{
    (void)state;
    assert_int_equal(child_run(run_out_of_descriptors, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, test_setup, test_teardown)
        TEST(test_stale_file_is_replaced),
        TEST(test_close_leaves_a_later_listeners_file),
        TEST(test_live_listener_is_left_alone),
        TEST(test_other_files_are_left_alone),
        TEST(test_nobody_there),
        TEST(test_attach_waits),
        TEST(test_long_path),
        TEST(test_two_starters),
        TEST(test_no_live_socket_is_replaced),
        TEST(test_roles_must_match),
        TEST(test_options_must_match),
        TEST(test_users),
        TEST(test_strangers),
        TEST(test_what_is_wrong_is_said),
        TEST(test_killed_in_mid_message),
        TEST(test_100_mib),
        TEST(test_death_despite_a_copy),
        TEST(test_listener_is_gone),
        TEST(test_descriptors),
        TEST(test_many_senders),
        TEST(test_no_descriptors_left),
    };

    return cmocka_run_group_tests_name("socket", tests, NULL, NULL);
}
