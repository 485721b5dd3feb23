/* SPDX-License-Identifier: MIT */
/*
 * journal -- the format, byte by byte: as it is written, cut at every length, with every byte changed
 *
 * An image is a journal's bytes in memory, put into a file when it is to be opened. "Rebooted" is one whose
 * control page says that it was last open under another kernel.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include "place.h"
#include "data/crc32c.h"
#include "data/participants.h"
#include "transport/journal.h"
#include <errno.h>
#include <naru/endpoint.h>
#include <stdlib.h>

enum { TEST_RECORDS = 6, TEST_IMAGE_MAX = 64 * 1024 };

static const size_t test_sizes[TEST_RECORDS] = {0, 1, 7, 8, 100, 3};

struct test_image {
    _Alignas(64) unsigned char bytes[TEST_IMAGE_MAX];
    size_t size_bytes;
    size_t ends[TEST_RECORDS + 1]; /* ends[n]: where n records end */
};

static struct test_image test_image;        /* TEST_RECORDS records, none received */
static struct test_image test_image_before; /* all but the last */
static char test_uri[160], test_file[128];

static struct nr_journal_control *test_control(struct test_image *image)
{
    return (void *)(image->bytes + NR_JOURNAL_PAGE_BYTES);
}

static void test_payload(unsigned char *data, unsigned index)
{
    for (size_t i = 0; i < test_sizes[index]; i++)
        data[i] = (unsigned char)(index * 31 + i + 1);
}

static void test_load(struct test_image *image)
{
    int fd = open(test_file, O_RDONLY);
    assert_true(fd >= 0);
    ssize_t size = read(fd, image->bytes, sizeof image->bytes);
    close(fd);
    assert_true(size > 0 && size < TEST_IMAGE_MAX);
    image->size_bytes = (size_t)size;
    size_t end = (size_t)((struct nr_journal_header *)(void *)image->bytes)->records_offset;
    image->ends[0] = end;
    for (unsigned i = 0; i < TEST_RECORDS; i++)
        image->ends[i + 1] = end += nr_journal_length(test_sizes[i]);
}

static void test_store(const struct test_image *image, size_t size_bytes)
{
    unlink(test_file); /* a new inode: nothing of the last one sticks */
    place_write(test_file, image->bytes, size_bytes);
}

static int test_group_setup(void **state)
{
    struct naru_options options = {.size_bytes = sizeof options, .participants_max = 4};
    struct naru_endpoint *sender;
    unsigned char data[128];

    (void)state;
    alarm(55);
    place_make();
    snprintf(test_file, sizeof test_file, "%s/journal", place_directory);
    snprintf(test_uri, sizeof test_uri, "file://%s", test_file);
    if (naru_open(&sender, test_uri, NARU_SENDER, &options) < 0)
        fail_msg("%s", naru_error_text());
    for (unsigned i = 0; i < TEST_RECORDS; i++) {
        if (i == TEST_RECORDS - 1)
            test_load(&test_image_before);
        test_payload(data, i);
        assert_int_equal(naru_send(sender, data, test_sizes[i], 0), 0);
    }
    test_load(&test_image);
    assert_int_equal(test_image.size_bytes, test_image.ends[TEST_RECORDS]);
    naru_close(sender);
    /* Nobody is attached in the images, as after an orderly end. */
    return 0;
}

static int test_group_teardown(void **state)
{
    (void)state;
    place_remove();
    return 0;
}

/* Receives all there is, each the next of what was sent; how many, or the first error. */
static int test_receive(struct naru_endpoint *receiver, unsigned from)
{
    unsigned char data[128], expected[128];
    size_t size;
    unsigned count = from;

    for (;;) {
        int result = naru_recv(receiver, data, sizeof data, &size, 0);
        if (result == -EAGAIN)
            return (int)(count - from);
        if (result < 0)
            return result;
        assert_true(count < TEST_RECORDS);
        assert_int_equal(size, test_sizes[count]);
        test_payload(expected, count);
        assert_memory_equal(data, expected, size);
        count++;
    }
}

/* Opens what stands in the file, receives, sends one more and receives that; how many were there. */
static int test_life(void)
{
    struct naru_endpoint *both;
    char data[16];
    size_t size;

    int result = naru_open(&both, test_uri, NARU_BOTH, NULL);
    if (result < 0)
        return result;
    result = test_receive(both, 0);
    if (result >= 0) {
        struct naru_message message = {.data = data, .capacity_bytes = sizeof data};
        assert_int_equal(naru_send(both, "once more", 9, 0), 0);
        assert_int_equal(naru_recv_many(both, &message, 1, 0), 1);
        assert_int_equal(message.size_bytes, 9);
        assert_memory_equal(data, "once more", 9);
        assert_int_equal(message.sequence, result + 1);
        assert_int_equal(naru_recv(both, data, sizeof data, &size, 0), -EAGAIN);
    }
    naru_close(both);
    if (result >= 0) { /* nothing is left after what was appended */
        static struct test_image after;
        test_load(&after);
        assert_int_equal(after.size_bytes, test_control(&after)->tail & ~(uint64_t)7);
    }
    return result;
}

/* The rules of journal.h, computed here once more. */
static void test_format(void **state)
{
    const struct nr_journal_header *header = (void *)test_image.bytes;
    uint32_t previous = header->salt;

    (void)state;
    assert_memory_equal(header->magic, "NaruJrnl", 8);
    assert_int_equal(header->records_offset, 12288);
    for (unsigned i = 0; i < TEST_RECORDS; i++) {
        const unsigned char *at = test_image.bytes + test_image.ends[i];
        struct nr_journal_record record;
        memcpy(&record, at, sizeof record);
        assert_int_equal(test_image.ends[i] % 8, 0);
        assert_int_equal(record.magic, NR_JOURNAL_MAGIC);
        assert_int_equal(record.flags, 0);
        assert_int_equal(record.size_bytes, test_sizes[i]);
        assert_int_equal(record.crc, nr_crc32c_by_tables(header->salt, at + 8, 48));
        assert_int_equal(record.previous, previous);
        assert_int_equal(record.sequence, i + 1);
        assert_int_equal(record.pid, getpid());
        assert_int_equal(record.payload_crc,
                         nr_crc32c_by_tables(header->salt, at + 56, test_sizes[i]));
        for (const unsigned char *pad = at + 56 + test_sizes[i];
             pad < test_image.bytes + test_image.ends[i + 1]; pad++)
            assert_int_equal(*pad, 0);
        previous = record.crc;
    }
    test_store(&test_image, test_image.size_bytes);
    assert_int_equal(test_life(), TEST_RECORDS);
}

/* After a power cut: cut anywhere in the last three records, the whole ones before are kept. */
static void test_cut_and_rebooted(void **state)
{
    static struct test_image image;

    (void)state;
    image = test_image;
    test_control(&image)->boot[0] ^= 1;
    for (size_t cut = image.ends[0]; cut <= image.size_bytes; cut++) {
        int whole = 0;
        while (whole < TEST_RECORDS && image.ends[whole + 1] <= cut)
            whole++;
        test_store(&image, cut);
        int result = test_life();
        if (result != whole)
            fail_msg("cut at %zu: %d instead of %d (%s)", cut, result, whole, naru_error_text());
    }
}

/* Without one: committed records are gone, and that is said. */
static void test_cut(void **state)
{
    (void)state;
    for (size_t cut = test_image.size_bytes - 1; cut >= test_image.ends[3]; cut--) {
        test_store(&test_image, cut);
        assert_int_equal(test_life(), -EBADMSG);
        assert_text_has("truncated");
    }
    for (size_t cut = 0; cut < test_image.ends[0]; cut += 64) {
        test_store(&test_image, cut);
        assert_int_equal(test_life(), -EBADMSG);
    }
}

/* A writer died after any number of bytes of its last record. */
static void test_torn(void **state)
{
    static struct test_image image;

    (void)state;
    image = test_image;
    memcpy(image.bytes, test_image_before.bytes, image.ends[0]);
    for (size_t cut = image.ends[TEST_RECORDS - 1]; cut <= image.ends[TEST_RECORDS]; cut++) {
        test_store(&image, cut);
        int result = test_life();
        if (result != TEST_RECORDS - (cut < image.ends[TEST_RECORDS]))
            fail_msg("torn at %zu: %d (%s)", cut, result, naru_error_text());
    }
    /* Nor does it matter what the rest of a record was filled with. */
    for (int fill = 0; fill < 256; fill += 51) {
        memset(image.bytes + image.ends[TEST_RECORDS - 1] + 20, fill, 100);
        test_store(&image, image.ends[TEST_RECORDS - 1] + 120);
        assert_int_equal(test_life(), TEST_RECORDS - 1);
    }
}

/* No changed byte may change a message; in the header and in a record each is noticed. */
static void test_flip(void **state)
{
    static struct test_image image;
    unsigned unnoticed = 0;

    (void)state;
    image = test_image;
    for (size_t at = 0; at < image.size_bytes; at++) {
        if (at >= NR_JOURNAL_PARTICIPANTS_OFFSET && at < image.ends[0] && at % 61)
            continue; /* void when nobody is attached: some will do */
        image.bytes[at] ^= (unsigned char)(1u << at % 8);
        test_store(&image, image.size_bytes);
        struct naru_endpoint *receiver;
        int result = naru_open(&receiver, test_uri, NARU_RECEIVER, NULL);
        if (result == 0) {
            result = test_receive(receiver, 0);
            naru_close(receiver);
        }
        bool is_strict = at < NR_JOURNAL_PAGE_BYTES || at >= image.ends[0];
        if (result >= 0 && (is_strict || result != TEST_RECORDS))
            fail_msg("a changed byte at %zu: %d messages", at, result);
        if (result < 0 && result != -EBADMSG && result != -EPROTO)
            fail_msg("a changed byte at %zu: %s", at, naru_error_text());
        unnoticed += result >= 0;
        image.bytes[at] ^= (unsigned char)(1u << at % 8);
    }
    assert_true(unnoticed < NR_JOURNAL_PAGE_BYTES + 100);
}

/* The tail, its point and the cursor are noticed bit by bit. */
static void test_flip_control(void **state)
{
    const struct nr_journal_control *control = test_control(&test_image);
    const struct {
        const void *field;
        size_t size_bytes;
    } fields[] = {
        {&control->tail, sizeof control->tail},
        {&control->points[control->tail & 1], offsetof(struct nr_journal_point, reserved)},
        {&control->cursor, sizeof control->cursor},
    };
    static struct test_image image;

    (void)state;
    image = test_image;
    for (unsigned i = 0; i < sizeof fields / sizeof fields[0]; i++)
        for (size_t bit = 0; bit < fields[i].size_bytes * 8; bit++) {
            size_t at =
                (size_t)((const unsigned char *)fields[i].field - test_image.bytes) + bit / 8;
            image.bytes[at] ^= (unsigned char)(1u << bit % 8);
            test_store(&image, image.size_bytes);
            int result = test_life();
            if (result != -EBADMSG)
                fail_msg("field %u bit %zu: %d", i, bit, result);
            image.bytes[at] ^= (unsigned char)(1u << bit % 8);
        }
}

/* Damage with a valid record behind it is no torn tail. */
static void test_damage_within(void **state)
{
    static struct test_image image;
    struct stat status;

    (void)state;
    image = test_image;
    test_control(&image)->boot[0] ^= 1;
    for (size_t at = image.ends[0]; at < image.ends[TEST_RECORDS - 2]; at++) {
        image.bytes[at] ^= 0x20;
        test_store(&image, image.size_bytes);
        assert_int_equal(test_life(), -EBADMSG);
        assert_text_has("beyond");
        assert_int_equal(stat(test_file, &status), 0);
        assert_int_equal(status.st_size, image.size_bytes);
        image.bytes[at] ^= 0x20;
    }
}

/* A record that is whole by itself, and follows another one than it says. */
static void test_unchained(void **state)
{
    static struct test_image image;
    struct nr_journal_record record;

    (void)state;
    image = test_image;
    test_control(&image)->boot[0] ^= 1;
    unsigned char *at = image.bytes + image.ends[TEST_RECORDS - 1];
    memcpy(&record, at, sizeof record);
    record.previous ^= 1;
    record.crc = nr_crc32c(((struct nr_journal_header *)(void *)image.bytes)->salt,
                           (unsigned char *)&record + 8, sizeof record - 8);
    memcpy(at, &record, sizeof record);
    test_store(&image, image.size_bytes);
    assert_int_equal(test_life(), TEST_RECORDS - 1);
}

/* A power cut may leave the cursor ahead of the records that were kept. */
static void test_cursor_ahead(void **state)
{
    static struct test_image image;

    (void)state;
    image = test_image;
    test_control(&image)->boot[0] ^= 1;
    test_control(&image)->cursor = nr_journal_cursor_word(image.ends[5]);
    test_store(&image, image.ends[3]);
    struct naru_endpoint *both;
    assert_int_equal(naru_open(&both, test_uri, NARU_BOTH, NULL), 0);
    assert_int_equal(naru_recv(both, NULL, 0, NULL, 0), -EAGAIN);
    assert_int_equal(naru_send(both, NULL, 0, 0), 0);
    assert_int_equal(naru_recv(both, NULL, 0, NULL, 0), 0);
    naru_close(both);
    test_store(&image, image.size_bytes); /* and in one that was not cut it holds */
    assert_int_equal(naru_open(&both, test_uri, NARU_RECEIVER, NULL), 0);
    assert_int_equal(test_receive(both, 5), 1);
    naru_close(both);
}

/* Who seems to be attached, by what the file says, is not when nobody has it open: after a reboot, in a copy. */
static void test_stale_participants(void **state)
{
    static struct test_image image;

    (void)state;
    image = test_image;
    struct nr_journal_control *control = test_control(&image);
    struct nr_participant *entries = (void *)(image.bytes + NR_JOURNAL_PARTICIPANTS_OFFSET);
    for (int i = 0; i < 4; i++) /* the process 1 lives */
        atomic_init(&entries[i].state, (uint64_t)NR_PARTICIPANT_ALIVE << 32 | 1);
    control->lock = control->receiver = 1;
    control->doorbell = 7;
    for (int is_rebooted = 0; is_rebooted < 2; is_rebooted++) {
        test_store(&image, image.size_bytes);
        assert_int_equal(test_life(), TEST_RECORDS);
        control->boot[0] ^= 1;
    }
}

/* Records of another journal are not taken for this one's. */
static void test_foreign(void **state)
{
    static struct test_image image;
    struct naru_endpoint *sender;

    (void)state;
    unlink(test_file);
    struct naru_options options = {.size_bytes = sizeof options, .participants_max = 4};
    assert_int_equal(naru_open(&sender, test_uri, NARU_SENDER, &options), 0);
    naru_close(sender);
    test_load(&image);
    memcpy(image.bytes + image.ends[0], test_image.bytes + image.ends[0], 500);
    test_store(&image, test_image.size_bytes);
    assert_int_equal(test_life(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format),        cmocka_unit_test(test_cut_and_rebooted),
        cmocka_unit_test(test_cut),           cmocka_unit_test(test_torn),
        cmocka_unit_test(test_flip),          cmocka_unit_test(test_flip_control),
        cmocka_unit_test(test_damage_within), cmocka_unit_test(test_unchained),
        cmocka_unit_test(test_cursor_ahead),  cmocka_unit_test(test_stale_participants),
        cmocka_unit_test(test_foreign),
    };

    return cmocka_run_group_tests(tests, test_group_setup, test_group_teardown);
}
