/* SPDX-License-Identifier: MIT */
/* socket_tcp -- tcp://: addresses, acknowledgement, deadlines in mid-message, strangers */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include <arpa/inet.h>
#include <errno.h>
#include <naru/endpoint.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>

static char test_uri[64];
static unsigned test_port;
static const struct naru_options test_raw_mode = {
    .size_bytes = sizeof test_raw_mode,
    .acknowledge = NARU_UNACKNOWLEDGED,
};

static int test_socket(unsigned port, int listens)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr = {htonl(INADDR_LOOPBACK)},
    };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    int result = listens ? bind(fd, (void *)&address, sizeof address)
                         : connect(fd, (void *)&address, sizeof address);
    if (result == 0 && (!listens || listen(fd, 8) == 0))
        return fd;
    close(fd);
    return -1;
}

static int test_setup(void **state)
{
    static unsigned count;
    int fd;

    (void)state;
    alarm(55);
    do
        test_port = 10000 + ((unsigned)getpid() * 32 + count++) % 20000;
    while ((fd = test_socket(test_port, 1)) < 0);
    close(fd);
    snprintf(test_uri, sizeof test_uri, "tcp://127.0.0.1:%u", test_port);
    return 0;
}

static struct naru_endpoint *test_open_with(const char *uri, enum naru_role role,
                                            const struct naru_options *options)
{
    struct naru_endpoint *endpoint = NULL;

    if (naru_open(&endpoint, uri, role, options) < 0) {
        fprintf(stderr, "# %s\n", naru_error_text());
        return NULL;
    }
    return endpoint;
}

static struct naru_endpoint *test_open(enum naru_role role)
{
    return test_open_with(test_uri, role, NULL);
}

static void send_ten(void *uri)
{
    struct naru_endpoint *sender = test_open_with(uri, NARU_SENDER, NULL);

    child_check(sender);
    for (int i = 0; i < 10; i++)
        child_check(naru_send(sender, &i, sizeof i, 5 * NARU_SECOND) == 0);
    naru_close(sender);
}

static void expect_ten(struct naru_endpoint *receiver)
{
    int got = -1;

    for (int i = 0; i < 10; i++) {
        assert_int_equal(naru_recv(receiver, &got, sizeof got, NULL, 5 * NARU_SECOND), 0);
        assert_int_equal(got, i);
    }
    assert_int_equal(naru_recv(receiver, &got, sizeof got, NULL, 5 * NARU_SECOND), -EPIPE);
}

static void test_addresses(void **state)
{
    static const char *const wrong[] = {
        "tcp://",         "tcp://host",      "tcp://127.0.0.1:0",
        "tcp://::1:7000", "tcp://[::1]7000", "tcp://127.0.0.1:65536",
        "tcp://[::1"};
    static const char *const right[] = {"tcp://:%u", "tcp://%u", "tcp://localhost:%u",
                                        "tcp://127.0.0.1:%u", "tcp://0.0.0.0:%u"};
    struct naru_endpoint *endpoint;
    char uri[64];
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(naru_open(&endpoint, wrong[i], NARU_SENDER, NULL), -EINVAL);
        assert_text_has("tcp://host:port");
    }
    for (size_t i = 0; i < sizeof right / sizeof right[0]; i++) {
        snprintf(uri, sizeof uri, right[i], test_port);
        struct naru_endpoint *receiver = test_open_with(uri, NARU_RECEIVER, NULL);
        assert_non_null(receiver);
        pid_t pid = child_start(send_ten, test_uri);
        expect_ten(receiver);
        assert_int_equal(child_end(pid), 0);
        naru_close(receiver);
    }
    assert_int_equal(naru_unlink(test_uri), -EOPNOTSUPP);
    assert_text_has("free when");
}

static void test_ipv6(void **state)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    char uri[64];
    (void)state;
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    int missing = fd < 0 || bind(fd, (void *)&address, sizeof address) < 0;
    close(fd);
    if (missing) {
        printf("SKIP: this machine has no ::1\n");
        skip();
    }
    snprintf(uri, sizeof uri, "tcp://[::1]:%u", test_port);
    struct naru_endpoint *receiver = test_open_with(uri, NARU_RECEIVER, NULL);
    assert_non_null(receiver);
    pid_t pid = child_start(send_ten, uri);
    expect_ten(receiver);
    assert_int_equal(child_end(pid), 0);
    naru_close(receiver);
}

static void test_who_is_there(void **state)
{
    struct naru_options options = {.size_bytes = sizeof options, .create = NARU_CREATE};
    struct naru_endpoint *endpoint;
    (void)state;
    struct naru_endpoint *receiver = test_open(NARU_RECEIVER);
    assert_int_equal(naru_open(&endpoint, test_uri, NARU_SENDER, &options), -EEXIST);
    assert_text_has("listens there already");
    assert_int_equal(naru_open(&endpoint, test_uri, NARU_RECEIVER, NULL), -EINVAL);
    assert_text_has("is a receiver");
    options = test_raw_mode;
    assert_int_equal(naru_open(&endpoint, test_uri, NARU_SENDER, &options), -EINVAL);
    assert_text_has("acknowledge");
    naru_close(receiver);
    options = (struct naru_options){.size_bytes = sizeof options,
                                    .create = NARU_ATTACH,
                                    .peer_timeout_ns = 100 * NARU_MILLISECOND};
    assert_int_equal(naru_open(&endpoint, test_uri, NARU_SENDER, &options), -ENOENT);
    assert_text_has("nobody listens");
    options = (struct naru_options){.size_bytes = sizeof options, .peer_uid_any = 1};
    assert_int_equal(naru_open(&endpoint, test_uri, NARU_SENDER, &options), -EOPNOTSUPP);
    assert_text_has("users");
    options = (struct naru_options){.size_bytes = sizeof options, .when_full = NARU_FAIL};
    assert_int_equal(naru_open(&endpoint, test_uri, NARU_SENDER, &options), -EOPNOTSUPP);
    assert_text_has("NARU_UNACKNOWLEDGED");
}

/* -- acknowledgement -------------------------------------------------------------------------------- */

/* What was given up does not arrive later, whatever the receiver was doing meanwhile. */
static void test_given_up_is_not_delivered(void **state)
{
    int data = 1;
    (void)state;
    struct naru_endpoint *receiver = test_open(NARU_RECEIVER), *sender = test_open(NARU_SENDER);
    for (int i = 0; i < 5; i++)
        assert_int_equal(naru_send(sender, &data, sizeof data, 10 * NARU_MILLISECOND), -ETIMEDOUT);
    assert_int_equal(naru_send(sender, &data, sizeof data, 0), -EAGAIN);
    assert_text_has("round trip");
    assert_int_equal(naru_send_fd(sender), -EOPNOTSUPP);
    assert_text_has("NARU_UNACKNOWLEDGED");
    assert_int_equal(naru_recv(receiver, &data, sizeof data, NULL, 50 * NARU_MILLISECOND),
                     -ETIMEDOUT);
    naru_close(sender);
    naru_close(receiver);
}

static void send_impatiently(void *context)
{
    int *counted = context; /* shared with the parent */
    struct naru_endpoint *sender = test_open(NARU_SENDER);

    child_check(sender);
    srand(7);
    for (int i = 0; i < 2000; i++) {
        int result = naru_send(sender, &i, sizeof i, 1000 + rand() % 100000);
        child_check(result == 0 || result == -ETIMEDOUT);
        if (result == 0)
            counted[i] = 1;
    }
    naru_close(sender);
}

/* Deadlines fall everywhere into the exchange: what was reported as sent arrives, and nothing else. */
static void test_deadlines_are_exact(void **state)
{
    size_t size = 2000 * sizeof(int);
    int fd = memfd_create("counts", 0), got, result, came[2000] = {0}, arrived = 0;
    (void)state;
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    int *counted = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    struct naru_endpoint *receiver = test_open(NARU_RECEIVER);
    pid_t pid = child_start(send_impatiently, counted);
    srand(8);
    while ((result = naru_recv(receiver, &got, sizeof got, NULL, 5 * NARU_SECOND)) == 0) {
        assert_in_range(got, 0, 1999);
        assert_int_equal(came[got]++, 0);
        arrived++;
        if (rand() % 4 == 0)
            usleep((useconds_t)(rand() % 100));
    }
    assert_int_equal(result, -EPIPE);
    assert_int_equal(child_end(pid), 0);
    for (int i = 0; i < 2000; i++)
        if (came[i] != counted[i])
            fail_msg("message %d: reported %d, arrived %d", i, counted[i], came[i]);
    assert_in_range(arrived, 1, 2000);
    munmap(counted, size);
    naru_close(receiver);
}

static void take_one_and(void *context)
{
    struct naru_endpoint *receiver = test_open(NARU_RECEIVER);
    int got;

    child_check(receiver && naru_recv(receiver, &got, sizeof got, NULL, 5 * NARU_SECOND) == 0);
    sleep_ms(100);
    if (*(int *)context)
        kill(getpid(), SIGKILL);
    naru_close(receiver);
}

static void test_receiver_goes_unacknowledged(void **state)
{
    int dies, data = 5;
    (void)state;
    for (dies = 0; dies < 2; dies++) { /* it listens */
        pid_t pid = child_start(take_one_and, &dies);
        sleep_ms(100);
        struct naru_endpoint *sender = test_open(NARU_SENDER);
        assert_int_equal(naru_send(sender, &data, sizeof data, 5 * NARU_SECOND), 0);
        for (int i = 0; i < 2; i++) { /* for good */
            assert_int_equal(naru_send(sender, &data, sizeof data, NARU_FOREVER),
                             dies ? -EOWNERDEAD : -EPIPE);
            if (i == 0)
                assert_text_has("1 message is unconfirmed");
        }
        child_end(pid);
        naru_close(sender);
    }
    for (dies = 0; dies < 2;
         dies++) { /* we listen: what it did not confirm waits for the next one */
        struct naru_endpoint *sender = test_open(NARU_SENDER);
        pid_t pid = child_start(take_one_and, &dies);
        assert_int_equal(naru_send(sender, &data, sizeof data, 5 * NARU_SECOND), 0);
        if (dies) {
            assert_int_equal(naru_send(sender, &data, sizeof data, NARU_FOREVER), -EOWNERDEAD);
            assert_text_has("1 message is unconfirmed");
        }
        assert_int_equal(naru_send(sender, &data, sizeof data, 300 * NARU_MILLISECOND), -ETIMEDOUT);
        child_end(pid);
        pid = child_start(take_one_and, &dies);
        assert_int_equal(naru_send(sender, &data, sizeof data, 5 * NARU_SECOND), 0);
        child_end(pid);
        naru_close(sender);
    }
}

static void *send_in_thread(void *context)
{
    struct naru_endpoint *sender = context;

    for (int i = 0; i < 200; i++)
        if (naru_send(sender, &i, sizeof i, 10 * NARU_SECOND) < 0)
            return (void *)naru_error_text();
    return NULL;
}

static void take_800(void *context)
{
    struct naru_endpoint *receiver = test_open(NARU_RECEIVER);
    int got, sum = 0;

    (void)context;
    child_check(receiver);
    for (int i = 0; i < 800; i++) {
        child_check(naru_recv(receiver, &got, sizeof got, NULL, 10 * NARU_SECOND) == 0);
        sum += got;
    }
    child_check(sum == 4 * 199 * 200 / 2);
    naru_close(receiver);
}

static void test_threads_take_turns(void **state)
{
    pthread_t threads[4];
    void *failed;
    (void)state;
    pid_t pid = child_start(take_800, NULL);
    sleep_ms(50);
    struct naru_endpoint *sender = test_open(NARU_SENDER);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, send_in_thread, sender), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    assert_int_equal(child_end(pid), 0);
    naru_close(sender);
}

/* -- streams ------------------------------------------------------------------------------------------ */

static void send_large(void *context)
{
    size_t size = 100 << 20;
    unsigned char *data = malloc(size);
    struct naru_endpoint *sender = test_open_with(test_uri, NARU_SENDER, context);

    child_check(sender && data);
    for (size_t i = 0; i < size; i++)
        data[i] = (unsigned char)(i * 7 + (i >> 12));
    child_check(naru_send(sender, data, size, context ? NARU_FOREVER : 20 * NARU_SECOND) == 0);
    naru_close(sender);
    free(data);
}

static void test_100_mib(void **state)
{
    size_t size = 100 << 20, got = 0;
    unsigned char *data = malloc(size);
    (void)state;
    for (int raw = 0; raw < 2; raw++) {
        struct naru_endpoint *receiver =
            test_open_with(test_uri, NARU_RECEIVER, raw ? &test_raw_mode : NULL);
        pid_t pid = child_start(send_large, raw ? (void *)&test_raw_mode : NULL);
        assert_int_equal(naru_recv(receiver, data, size, &got, 20 * NARU_SECOND), 0);
        assert_int_equal(got, size);
        for (size_t i = 0; i < size; i++)
            if (data[i] != (unsigned char)(i * 7 + (i >> 12)))
                fail_msg("byte %zu", i);
        assert_int_equal(child_end(pid), 0);
        naru_close(receiver);
    }
    free(data);
}

/* A deadline in the middle of a large message: it did not happen, and the stream goes on behind it. */
static void test_deadline_in_mid_message(void **state)
{
    size_t size = 30 << 20, got;
    char *data = calloc(1, size);
    int number;
    (void)state;
    struct naru_endpoint *receiver = test_open_with(test_uri, NARU_RECEIVER, &test_raw_mode);
    struct naru_endpoint *sender = test_open_with(test_uri, NARU_SENDER, &test_raw_mode);
    number = 1;
    assert_int_equal(naru_send(sender, &number, sizeof number, NARU_SECOND), 0);
    assert_int_equal(naru_send(sender, data, size, 50 * NARU_MILLISECOND), -ETIMEDOUT);
    assert_int_equal(naru_send(sender, data, 100, 0), -EAGAIN);
    assert_int_equal(naru_recv(receiver, &number, sizeof number, &got, NARU_SECOND), 0);
    assert_int_equal(number, 1);
    int sent = 0; /* both in this thread: each does a little */
    for (int i = 0; i < 5000 && sent <= 0; i++) {
        assert_int_equal(naru_recv(receiver, data, size, &got, NARU_MILLISECOND), -ETIMEDOUT);
        number = 2;
        sent = naru_send(sender, &number, sizeof number, 0) == 0;
    }
    assert_int_equal(sent, 1);
    assert_int_equal(naru_recv(receiver, &number, sizeof number, &got, NARU_SECOND), 0);
    assert_int_equal(number, 2);
    naru_close(sender);
    naru_close(receiver);
    free(data);
}

static void echo(void *context)
{
    struct naru_endpoint *client = test_open(NARU_BOTH);
    int number = *(int *)context, got;

    child_check(client);
    for (int i = 0; i < 100; i++) {
        int data = number * 1000 + i;
        child_check(naru_send(client, &data, sizeof data, 5 * NARU_SECOND) == 0);
        child_check(naru_recv(client, &got, sizeof got, NULL, 5 * NARU_SECOND) == 0);
        child_check(got == data + 1);
    }
    naru_close(client);
}

static void test_echo(void **state)
{
    pid_t pids[3];
    int got, served = 0, result;
    (void)state;
    struct naru_endpoint *server = test_open(NARU_BOTH);
    for (int i = 0; i < 3; i++)
        pids[i] = child_start(echo, &i);
    while (served < 300) {
        result = naru_recv(server, &got, sizeof got, NULL, 5 * NARU_SECOND);
        if (result == -EPIPE) /* one was done before the next came */
            continue;
        assert_int_equal(result, 0);
        got++;
        assert_int_equal(naru_send(server, &got, sizeof got, 5 * NARU_SECOND), 0);
        served++;
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(child_end(pids[i]), 0);
    naru_close(server);
}

static void test_descriptor_with_buffered(void **state)
{
    int got;
    (void)state;
    struct naru_endpoint *receiver = test_open_with(test_uri, NARU_RECEIVER, &test_raw_mode);
    struct naru_endpoint *sender = test_open_with(test_uri, NARU_SENDER, &test_raw_mode);
    struct pollfd fds = {.fd = naru_fd(receiver), .events = POLLIN};
    assert_true(fds.fd >= 0);
    for (int i = 0; i < 20; i++) /* all in one segment or two: most are read ahead */
        assert_int_equal(naru_send(sender, &i, sizeof i, NARU_SECOND), 0);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(poll(&fds, 1, 1000), 1);
        assert_int_equal(naru_recv(receiver, &got, sizeof got, NULL, 0), 0);
        assert_int_equal(got, i);
    }
    assert_int_equal(naru_recv(receiver, &got, sizeof got, NULL, 0), -EAGAIN);
    assert_int_equal(poll(&fds, 1, 20), 0);
    naru_close(sender);
    naru_close(receiver);
}

/* -- strangers ------------------------------------------------------------------------------------- */

struct hello {
    uint64_t sequence;
    uint32_t length;
    uint16_t frame_magic;
    uint8_t flags, kind;
    char magic[8];
    uint32_t version;
    uint8_t role, pattern, acknowledge, refusal;
    uint64_t size_max;
    uint32_t pid, zero;
};

/* The receiver does not deliver before it is told that the sender has its acknowledgement. */
static void test_acknowledged_is_not_yet_delivered(void **state)
{
    struct hello hello = {
        .length = 32,
        .kind = 1,
        .frame_magic = 0x4e53,
        .magic = "naru-io",
        .version = 2,
        .role = NARU_SENDER,
        .pattern = NARU_QUEUE,
    };
    struct {
        struct hello hello;
        char message[4];
    } answer;
    struct hello frame = hello;
    int got = 0;
    (void)state;
    struct naru_endpoint *receiver = test_open(NARU_RECEIVER);
    int fd = test_socket(test_port, 0);
    assert_int_equal(send(fd, &hello, sizeof hello, 0), sizeof hello);
    for (int number = 1; number <= 2; number++) {
        frame.length = 4;
        frame.kind = 2;      /* MESSAGE */
        frame.flags = 1 | 2; /* WANTS_ACK, NEEDS_GO */
        frame.sequence = (uint64_t)number;
        assert_int_equal(send(fd, &frame, 16, 0), 16);
        assert_int_equal(send(fd, &number, 4, 0), 4);
        assert_int_equal(naru_recv(receiver, &got, sizeof got, NULL, 50 * NARU_MILLISECOND),
                         -ETIMEDOUT);
        if (number == 1)
            assert_int_equal(recv(fd, &answer, sizeof hello, MSG_WAITALL), sizeof hello);
        assert_int_equal(recv(fd, &answer, 16, MSG_WAITALL), 16);
        assert_int_equal(answer.hello.kind, 4); /* ACKNOWLEDGE */
        assert_int_equal(answer.hello.sequence, number);
        frame.length = frame.flags = 0;
        frame.kind = number == 1 ? 6 : 5; /* CANCEL, GO */
        assert_int_equal(send(fd, &frame, 16, 0), 16);
    }
    assert_int_equal(naru_recv(receiver, &got, sizeof got, NULL, NARU_SECOND), 0);
    assert_int_equal(got, 2);
    close(fd);
    assert_int_equal(naru_recv(receiver, &got, sizeof got, NULL, NARU_SECOND), -EOWNERDEAD);
    naru_close(receiver);
}

enum { TEST_HEADER = 16, TEST_GO = 5, TEST_CANCEL = 6, TEST_ARRIVED = 32 << 20 };

/* How many of that kind there are among what has arrived whole. */
static int test_count_frames(const unsigned char *bytes, size_t size, int kind)
{
    struct hello frame;
    int count = 0;

    for (size_t at = 0; at + TEST_HEADER <= size; at += TEST_HEADER + frame.length) {
        memcpy(&frame, bytes + at, TEST_HEADER);
        assert_int_equal(frame.frame_magic, 0x4e53);
        count += frame.kind == kind;
    }
    return count;
}

/* Until nothing came for a while: the kernel moves what it has from one end's buffers to the other's, with pauses. */
static size_t test_read_all(int fd, unsigned char *bytes, size_t filled)
{
    struct pollfd fds = {.fd = fd, .events = POLLIN};

    while (filled < TEST_ARRIVED && poll(&fds, 1, 500) == 1) {
        ssize_t got = recv(fd, bytes + filled, TEST_ARRIVED - filled, 0);
        if (got <= 0)
            break;
        filled += (size_t)got;
    }
    return filled;
}

/* All that counts as sent comes without another call of the sender's, also if the kernel was full in the middle of the
   last GO; and what does not count is cancelled. */
static void test_sent_is_sent(void **state)
{
    enum { TRIES = 4 };
    const struct hello hello = {
        .length = 32,
        .kind = 1,
        .frame_magic = 0x4e53,
        .magic = "naru-io",
        .version = 2,
        .role = NARU_RECEIVER,
        .pattern = NARU_QUEUE,
        .acknowledge = NARU_UNACKNOWLEDGED,
    };
    unsigned char *bytes = malloc(TEST_ARRIVED);

    (void)state;
    for (int i = 0; i < TRIES; i++) {
        struct naru_endpoint *sender = test_open_with(test_uri, NARU_SENDER, &test_raw_mode);
        int fd = test_socket(test_port, 0), sent = 1, refused = 0;
        assert_int_equal(send(fd, &hello, sizeof hello, 0), sizeof hello);
        assert_int_equal(naru_send(sender, "", 1, 10 * NARU_SECOND), 0);
        while (refused < 3) {
            int result = naru_send(sender, "", 1, 0);
            assert_true(result == 0 || result == -EAGAIN);
            sent += result == 0;
            refused = result == 0 ? 0 : refused + 1;
        }
        size_t filled = test_read_all(fd, bytes, 0);
        assert_int_equal(test_count_frames(bytes, filled, TEST_GO), sent);
        naru_close(sender);
        filled = test_read_all(fd, bytes, filled);
        assert_int_equal(test_count_frames(bytes, filled, TEST_GO), sent);
        assert_true(test_count_frames(bytes, filled, TEST_CANCEL) <= 3);
        close(fd);
        test_setup(state); /* another port, for the next one */
    }
    free(bytes);
}

static void fuzz(void *context)
{
    const struct hello hello = {
        .length = 32,
        .kind = 1,
        .frame_magic = 0x4e53,
        .magic = "naru-io",
        .version = 2,
        .role = NARU_SENDER,
        .pattern = NARU_QUEUE,
    };
    unsigned char bytes[1000];

    (void)context;
    srand(815);
    for (int i = 0; i < 2000; i++) {
        int fd = test_socket(test_port, 0);
        child_check(fd >= 0);
        size_t size = (size_t)rand() % sizeof bytes;
        for (size_t b = 0; b < size; b++)
            bytes[b] = (unsigned char)rand();
        if (rand() % 3)
            send(fd, &hello, sizeof hello, MSG_NOSIGNAL);
        if (rand() %
            2) { /* a header that is nearly right, of a message that never ends, or an odd kind */
            struct hello odd = hello;
            odd.kind = (uint8_t)(rand() % 8);
            odd.flags = (uint8_t)rand();
            odd.length = odd.kind == 2 ? 100000 + (uint32_t)rand() : (uint32_t)rand() % 40;
            memcpy(bytes, &odd, size < 16 ? size : 16);
        }
        send(fd, bytes, size, MSG_NOSIGNAL);
        close(fd);
    }
}

static void test_strangers(void **state)
{
    int silent[5], got, result;
    (void)state;
    struct naru_endpoint *receiver = test_open(NARU_RECEIVER);
    for (int i = 0; i < 5; i++)
        assert_true((silent[i] = test_socket(test_port, 0)) >= 0);
    pid_t fuzzer = child_start(fuzz, NULL), pid = child_start(send_ten, test_uri);
    for (int i = 0; i < 10; i++) {
        do
            result = naru_recv(receiver, &got, sizeof got, NULL, 5 * NARU_SECOND);
        while (result == -EOWNERDEAD || result == -EBADMSG || result == -EPIPE);
        assert_int_equal(result, 0);
        assert_int_equal(got, i);
    }
    assert_int_equal(child_end(pid), 0);
    while (waitpid(fuzzer, &result, WNOHANG) == 0)
        naru_recv(receiver, &got, sizeof got, NULL, 10 * NARU_MILLISECOND);
    assert_int_equal(result, 0);
    pid = child_start(send_ten, test_uri);
    for (int i = 0; i < 10; i++) {
        do
            result = naru_recv(receiver, &got, sizeof got, NULL, 5 * NARU_SECOND);
        while (result == -EOWNERDEAD || result == -EBADMSG || result == -EPIPE);
        assert_int_equal(result, 0);
        assert_int_equal(got, i);
    }
    assert_int_equal(child_end(pid), 0);
    for (int i = 0; i < 5; i++)
        close(silent[i]);
    naru_close(receiver);
}

static void test_another_server(void **state)
{
    static const char answer[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
    struct naru_endpoint *endpoint;
    (void)state;
    int fd = test_socket(test_port, 1);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(10);
        int accepted = accept(fd, NULL, NULL);
        send(accepted, answer, sizeof answer, 0);
        pause();
    }
    close(fd);
    assert_int_equal(naru_open(&endpoint, test_uri, NARU_SENDER, NULL), -EPROTO);
    assert_text_has("does not speak Naru's protocol");
    kill(pid, SIGKILL);
    child_end(pid);
}

static void interrupt_later(void *context)
{
    (void)context;
    sleep_ms(100);
    kill(getppid(), SIGUSR1);
}

static struct naru_endpoint *test_interrupted;

static void on_signal(int number)
{
    (void)number;
    naru_interrupt(test_interrupted);
}

static void test_interrupt_takes_back(void **state)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    int data = 1;
    (void)state;
    struct naru_endpoint *receiver = test_open(NARU_RECEIVER), *sender = test_open(NARU_SENDER);
    test_interrupted = sender;
    sigaction(SIGUSR1, &action, NULL);
    pid_t pid = child_start(interrupt_later, NULL);
    assert_int_equal(naru_send(sender, &data, sizeof data, NARU_FOREVER), -EINTR);
    assert_int_equal(child_end(pid), 0);
    assert_int_equal(naru_recv(receiver, &data, sizeof data, NULL, 50 * NARU_MILLISECOND),
                     -ETIMEDOUT);
    signal(SIGUSR1, SIG_DFL);
    naru_close(sender);
    naru_close(receiver);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup(name, test_setup)
        TEST(test_addresses),
        TEST(test_ipv6),
        TEST(test_who_is_there),
        TEST(test_given_up_is_not_delivered),
        TEST(test_deadlines_are_exact),
        TEST(test_receiver_goes_unacknowledged),
        TEST(test_threads_take_turns),
        TEST(test_100_mib),
        TEST(test_deadline_in_mid_message),
        TEST(test_echo),
        TEST(test_descriptor_with_buffered),
        TEST(test_acknowledged_is_not_yet_delivered),
        TEST(test_sent_is_sent),
        TEST(test_strangers),
        TEST(test_another_server),
        TEST(test_interrupt_takes_back),
    };

    return cmocka_run_group_tests_name("socket_tcp", tests, NULL, NULL);
}
