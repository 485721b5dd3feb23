/* SPDX-License-Identifier: MIT */
/* inputs -- what bad input gets: the code that is documented, and a sentence with the cure */
#include "kit.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <naru/transport.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct naru_options nr_inputs_options(void)
{
    return (struct naru_options){
        .size_bytes = sizeof(struct naru_options),
        .peer_timeout_ns = 20 * NARU_MILLISECOND,
    };
}

/* -- URIs ---------------------------------------------------------------------------------- */

static const struct nr_inputs_uri {
    const char *uri;
    int result;
    const char *words;
} nr_inputs_uris[] = {
    {"", -EINVAL, "is no URI|scheme://name"},
    {"jobs", -EINVAL, "is no URI|scheme://name"},
    {"mq:/jobs", -EINVAL, "is no URI|scheme://name"},
    {"mq:jobs", -EINVAL, "is no URI|scheme://name"},
    {"://jobs", -EINVAL, "is no URI|scheme://name"},
    {":", -EINVAL, "is no URI|scheme://name"},
    {"mq//jobs", -EINVAL, "is no URI|scheme://name"},
    {"MQ://jobs", -EPROTONOSUPPORT, "MQ://|naru transports"},
    {"http://localhost", -EPROTONOSUPPORT, "http://|naru transports"},
    {"mqq://x", -EPROTONOSUPPORT, "mqq://|naru transports"},
    {" mq://x", -EPROTONOSUPPORT, "naru transports"},
    {"mq ://x", -EPROTONOSUPPORT, "naru transports"},
    {"averyveryverylongscheme://x", -EPROTONOSUPPORT, "averyvery|naru transports"},
    {"mq://", -EINVAL, "1 to 200"},
    {"mq://a/b", -EINVAL, "letters, digits"},
    {"mq:///a", -EINVAL, "letters, digits"},
    {"mq://.hidden", -EINVAL, "does not begin with '.'"},
    {"mq://a b", -EINVAL, "letters, digits"},
    {"mq://a\nb", -EINVAL, "letters, digits"},
    {"mq://\xc3\xa4", -EINVAL, "letters, digits"},
    {"sysv://", -EINVAL, "whole number"},
    {"sysv://abc", -EINVAL, "abc|whole number"},
    {"sysv://0x", -EINVAL, "whole number"},
    {"sysv://99999999999", -EINVAL, "99999999999|4294967295"},
    {"sysv://0", -EINVAL, "IPC_PRIVATE|other number"},
    {"sysv:///no/such/path", -ENOENT, "/no/such/path|create it"},
    {"fifo://", -EINVAL, "absolute path|fifo:///tmp"},
    {"fifo://relative", -EINVAL, "absolute path|fifo:///tmp"},
    {"fifo:///", -EINVAL, "absolute path"},
    {"fifo:///tmp/", -EINVAL, "absolute path"},
    {"fifo:///tmp", -EBADMSG, "/tmp|no FIFO|another path"},
    {"fifo:///no/such/dir/x", -ENOENT, "/no/such/dir/x|directory"},
    {"unix://relative", -EINVAL, "absolute path|unix:///tmp"},
    {"unix:///tmp", -EBADMSG, "no socket|another path"},
    {"unix:///no/such/dir/x", -ENOENT, "/no/such/dir|make it"},
    {"abstract://", -EINVAL, "1 to 200"},
    {"abstract://a/b", -EINVAL, "letters, digits"},
    {"tcp://", -EINVAL, "tcp://host:port"},
    {"tcp://localhost", -EINVAL, "tcp://host:port"},
    {"tcp://127.0.0.1:", -EINVAL, "tcp://host:port"},
    {"tcp://127.0.0.1:0", -EINVAL, "tcp://host:port"},
    {"tcp://127.0.0.1:65536", -EINVAL, "tcp://host:port"},
    {"tcp://127.0.0.1:abc", -EINVAL, "tcp://host:port"},
    {"tcp://[::1:80", -EINVAL, "tcp://[::1]"},
    {"signal://", -EINVAL, "signal://PID|signal://self"},
    {"signal://abc", -EINVAL, "signal://PID|signal://self"},
    {"signal://0", -EINVAL, "signal://PID|signal://self"},
    {"signal://-5", -EINVAL, "signal://PID|signal://self"},
    {"file://relative", -EINVAL, "absolute path|file:///tmp"},
    {"file:///tmp", -EBADMSG, "/tmp|directory"},
    {"file:///no/such/dir/x", -ENOENT, "/no/such/dir/x|directory"},
    {"shm://", -EINVAL, "name|naru_pair"},
    {"shm://a/b", -EINVAL, "letters, digits"},
    {"shm:///tmp", -EBADMSG, "/tmp"},
    {"shm:///no/such/dir/x", -ENOENT, "/no/such/dir/x|directory"},
    {"pipe://", -EINVAL, "naru_pair|fifo://"},
    {"pipe://abc", -EINVAL, "whole number"},
    {"pipe://-1", -EINVAL, "whole number"},
    {"pipe://99999", -EBADF, "no pipe|pipeline"},
};

static void nr_inputs_test_uris(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof nr_inputs_uris / sizeof nr_inputs_uris[0]; i++) {
        const struct nr_inputs_uri *row = &nr_inputs_uris[i];
        struct naru_options options = nr_inputs_options();
        struct naru_endpoint *endpoint = (void *)&options; /* must stay as it is */
        int fds = nr_kit_fds();
        for (int role = NARU_SENDER; role <= NARU_RECEIVER; role++) {
            int64_t begin = nr_kit_now_ns();
            int result = naru_open(&endpoint, row->uri, (enum naru_role)role, &options);
            if (result != row->result)
                printf("the URI is \"%s\", the role %d\n", row->uri, role);
            nr_check_fails(result, row->result, row->words);
            nr_check(endpoint == (void *)&options, "%s: the place was written to", row->uri);
            nr_check(nr_kit_now_ns() - begin < 2 * NR_SOON, "%s: it waited", row->uri);
        }
        nr_check(nr_kit_fds() == fds, "%s: a descriptor leaked", row->uri);
    }
}

/* The same text goes to naru_unlink() and naru_pair(): never a crash, never a success. */
static void nr_inputs_test_uris_elsewhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof nr_inputs_uris / sizeof nr_inputs_uris[0]; i++) {
        const char *uri = nr_inputs_uris[i].uri;
        struct naru_endpoint *ends[2] = {NULL, NULL};
        int result = naru_unlink(uri);
        nr_check(result < 0 && strlen(naru_error_text()) > 12, "naru_unlink(\"%s\") gave %d", uri,
                 result);
        if (strlen(uri) > 3 && strcmp(uri + strlen(uri) - 3, "://") == 0)
            continue; /* a bare scheme makes a pair */
        result = naru_pair(ends, uri, NULL);
        nr_check(result < 0 && strlen(naru_error_text()) > 12 && !ends[0] && !ends[1],
                 "naru_pair(\"%s\") gave %d", uri, result);
    }
}

static void nr_inputs_long(const char *begin, size_t length, int expected, const char *words)
{
    static char uri[8192];
    size_t begins = strlen(begin);
    struct naru_options options = nr_inputs_options();
    struct naru_endpoint *endpoint = NULL;

    memcpy(uri, begin, begins);
    memset(uri + begins, 'a', length);
    uri[begins + length] = '\0';
    nr_check_fails(naru_open(&endpoint, uri, NARU_RECEIVER, &options), expected, words);
    nr_check(naru_unlink(uri) < 0 && strlen(naru_error_text()) > 12, "naru_unlink(%.40s...)", uri);
}

static void nr_inputs_test_long_names(void **state)
{
    (void)state;
    nr_inputs_long("mq://", 201, -EINVAL, "1 to 200");
    nr_inputs_long("abstract://", 201, -EINVAL, "1 to 200");
    nr_inputs_long("shm://", 201, -EINVAL, "1 to 200");
    nr_inputs_long("fifo:///tmp/", 300, -ENAMETOOLONG, "too long");
    nr_inputs_long("unix:///tmp/", 110, -ENAMETOOLONG, "characters|shorter");
    nr_inputs_long("file:///tmp/", 1024, -EINVAL, "1023");
    nr_inputs_long("", 8000, -EINVAL, "scheme://name");
    nr_inputs_long("mq://", 8000, -EINVAL, "1023");
    nr_inputs_long("tcp://", 900, -EINVAL, "tcp://");
}

/* -- NULL ---------------------------------------------------------------------------------- */

static void nr_inputs_test_null(void **state)
{
    struct naru_endpoint *ends[2] = {NULL, NULL};
    struct naru_message message = {0};
    struct naru_stat stat = {.size_bytes = sizeof stat};
    size_t size_bytes, count = 1;
    int fd;
    char byte = 0;

    (void)state;
    nr_check_fails(naru_open(NULL, "pipe://", NARU_SENDER, NULL), -EINVAL, "place|URI");
    nr_check_fails(naru_open(&ends[0], NULL, NARU_SENDER, NULL), -EINVAL, "URI");
    nr_check_fails(naru_pair(NULL, "pipe://", NULL), -EINVAL, "room");
    nr_check_fails(naru_pair(ends, NULL, NULL), -EINVAL, "URI");
    nr_check_fails(naru_unlink(NULL), -EINVAL, "URI");
    nr_check_fails(naru_pair_assign(NULL, getpid()), -EINVAL, "naru_pair()");
    nr_check_fails(naru_send(NULL, &byte, 1, 0), -EINVAL, "NULL|naru_open");
    nr_check_fails(naru_sendv(NULL, NULL, 0, NULL, 0), -EINVAL, "NULL");
    nr_check_fails(naru_send_many(NULL, &message, 1, 0), -EINVAL, "NULL");
    nr_check_fails(naru_send_fds(NULL, &byte, 1, &fd, 1, 0), -EINVAL, "NULL");
    nr_check_fails(naru_recv(NULL, &byte, 1, &size_bytes, 0), -EINVAL, "NULL");
    nr_check_fails(naru_recv_many(NULL, &message, 1, 0), -EINVAL, "NULL");
    nr_check_fails(naru_recv_fds(NULL, &byte, 1, &size_bytes, &fd, &count, 0), -EINVAL, "NULL");
    nr_check_fails(naru_loan(NULL, 1, &message, 0), -EINVAL, "NULL");
    nr_check_fails(naru_commit(NULL, &message), -EINVAL, "NULL");
    nr_check_fails(naru_cancel(NULL, &message), -EINVAL, "NULL");
    nr_check_fails(naru_take(NULL, &message, 0), -EINVAL, "NULL");
    nr_check_fails(naru_ack(NULL, &message), -EINVAL, "NULL");
    nr_check_fails(naru_requeue(NULL, &message), -EINVAL, "NULL");
    nr_check_fails(naru_fd(NULL), -EINVAL, "NULL");
    nr_check_fails(naru_send_fd(NULL), -EINVAL, "NULL");
    nr_check_fails(naru_stat(NULL, &stat), -EINVAL, "NULL");
    nr_check(naru_interrupt(NULL) == -EINVAL, "NULL can be interrupted");
    naru_close(NULL);
}

/* -- options ------------------------------------------------------------------------------- */

static int nr_inputs_pair(const struct naru_options *options)
{
    struct naru_endpoint *ends[2] = {NULL, NULL};
    int result = naru_pair(ends, "pipe://", options);

    nr_check((result < 0) == !ends[0], "the result is %d, the endpoint %p", result,
             (void *)ends[0]);
    naru_close(ends[0]);
    naru_close(ends[1]);
    return result;
}

static void nr_inputs_test_options_size(void **state)
{
    struct {
        struct naru_options known;
        unsigned char later[64];
    } future = {.known = {.size_bytes = sizeof future}};
    struct naru_options options = nr_inputs_options();

    (void)state;
    nr_check_ok(nr_inputs_pair(NULL));
    nr_check_ok(nr_inputs_pair(&options));
    options.size_bytes = 0;
    nr_check_fails(nr_inputs_pair(&options), -EINVAL, "size_bytes|sizeof");
    options.size_bytes = 7;
    nr_check_fails(nr_inputs_pair(&options), -EINVAL, "size_bytes|sizeof");
    nr_check_ok(
        nr_inputs_pair(&future.known)); /* a later program that leaves its new fields zero */
    future.later[63] = 1;
    nr_check_fails(nr_inputs_pair(&future.known), -EINVAL, "does not know|library");
    future.later[63] = 0;
    future.later[0] = 1;
    nr_check_fails(nr_inputs_pair(&future.known), -EINVAL, "does not know|library");
}

/* An older program's options end earlier; what stands behind them is not looked at. */
static void nr_inputs_test_options_older(void **state)
{
    long page_bytes = sysconf(_SC_PAGESIZE);
    size_t older_bytes = offsetof(struct naru_options, payload_bytes);
    char *pages = mmap(NULL, (size_t)page_bytes * 2, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)state;
    nr_check(pages != MAP_FAILED &&
                 mprotect(pages + page_bytes, (size_t)page_bytes, PROT_NONE) == 0,
             "no guard page");
    struct naru_options *options = (void *)(pages + page_bytes - older_bytes);
    options->size_bytes = older_bytes;
    nr_check_ok(nr_inputs_pair(options));
    munmap(pages, (size_t)page_bytes * 2);
}

static void nr_inputs_test_options_range(void **state)
{
    static const struct {
        const char *words;
        struct naru_options options;
    } bad[] = {
        {"create|9", {.create = (enum naru_create)9}},
        {"pattern|5", {.pattern = (enum naru_pattern)5}},
        {"when_full|5", {.when_full = (enum naru_when_full)5}},
        {"delivery|3", {.delivery = (enum naru_delivery)3}},
        {"durability|4", {.durability = (enum naru_durability)4}},
        {"acknowledge|3", {.acknowledge = (enum naru_acknowledge)3}},
        {"participants_max|4097|4096", {.participants_max = 4097}},
        {"file_mode", {.file_mode = 01000}},
        {"one_to_one|2", {.one_to_one = 2}},
        {"peer_uid_any|2", {.peer_uid_any = 2}},
        {"message_size_max_bytes|1 GiB", {.message_size_max_bytes = (size_t)1 << 31}},
        {"message_size_max_bytes|1 GiB", {.message_size_max_bytes = SIZE_MAX}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct naru_options options = bad[i].options;
        options.size_bytes = sizeof options;
        nr_check_fails(nr_inputs_pair(&options), -EINVAL, bad[i].words);
    }
}

/* A pipe cannot be made so large: the text names the limit. */
static void nr_inputs_test_options_capacity(void **state)
{
    struct naru_options options = nr_inputs_options();
    struct naru_endpoint *ends[2] = {NULL, NULL};

    (void)state;
    options.capacity_messages = SIZE_MAX / 8;
    int result = naru_pair(ends, "pipe://", &options);
    nr_check(result < 0, "a pipe of that size was made");
    nr_check_fails(result, result, "pipe-max-size");
}

/* -- nobody comes -------------------------------------------------------------------------- */

static void nr_inputs_test_nobody_comes(void **state)
{
    struct naru_options options = nr_inputs_options();
    struct naru_endpoint *endpoint = NULL;
    char uri[128];

    (void)state;
    snprintf(uri, sizeof uri, "fifo://%s/alone", nr_kit_directory());
    int64_t begin = nr_kit_now_ns();
    nr_check_fails(naru_open(&endpoint, uri, NARU_SENDER, &options), -ETIMEDOUT,
                   "nobody|peer_timeout_ns");
    nr_check(nr_kit_now_ns() - begin >= 20 * NARU_MILLISECOND, "it did not wait");
    nr_check(!endpoint, "it gave an endpoint");
    naru_unlink(uri);
    nr_kit_directory_remove();
}

/* -- error texts --------------------------------------------------------------------------- */

static void nr_inputs_test_origin(void **state)
{
    (void)state;
    nr_check(naru_open(NULL, NULL, NARU_SENDER, NULL) == -EINVAL, "NULL was accepted");
    nr_check(strstr(naru_error_origin(), ".c:"), "the origin is \"%s\"", naru_error_origin());
    nr_check(strcmp(naru_version(), "0.1.0") == 0, "version %s", naru_version());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nr_inputs_test_uris),
        cmocka_unit_test(nr_inputs_test_uris_elsewhere),
        cmocka_unit_test(nr_inputs_test_long_names),
        cmocka_unit_test(nr_inputs_test_null),
        cmocka_unit_test(nr_inputs_test_options_size),
        cmocka_unit_test(nr_inputs_test_options_older),
        cmocka_unit_test(nr_inputs_test_options_range),
        cmocka_unit_test(nr_inputs_test_options_capacity),
        cmocka_unit_test(nr_inputs_test_nobody_comes),
        cmocka_unit_test(nr_inputs_test_origin),
    };

    alarm(50);
    return cmocka_run_group_tests_name("inputs", tests, NULL, NULL);
}
