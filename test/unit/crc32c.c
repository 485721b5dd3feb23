/* SPDX-License-Identifier: MIT */
/* crc32c -- known values, both ways of computing it, any alignment, any division into pieces */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "data/crc32c.h"
#include <string.h>

/* RFC 3720, B.4, and the check value of the catalogue of CRCs. */
static void test_vectors(void **state)
{
    unsigned char bytes[32];

    (void)state;
    assert_int_equal(nr_crc32c(0, "123456789", 9), 0xe3069283);
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(nr_crc32c(0, bytes, sizeof bytes), 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(nr_crc32c(0, bytes, sizeof bytes), 0x62a8ab43);
    for (unsigned i = 0; i < 32; i++)
        bytes[i] = (unsigned char)i;
    assert_int_equal(nr_crc32c(0, bytes, sizeof bytes), 0x46dd794e);
    assert_int_equal(nr_crc32c_by_tables(0, bytes, sizeof bytes), 0x46dd794e);
    for (unsigned i = 0; i < 32; i++)
        bytes[i] = (unsigned char)(31 - i);
    assert_int_equal(nr_crc32c(0, bytes, sizeof bytes), 0x113fdb5c);
    assert_int_equal(nr_crc32c(0, "", 0), 0);
    assert_int_equal(nr_crc32c(7, "", 0), 7);
}

static void test_pieces(void **state)
{
    unsigned char bytes[300];

    (void)state;
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 151 + i / 7);
    for (size_t from = 0; from < 9; from++)
        for (size_t size = 0; from + size <= sizeof bytes; size++) {
            uint32_t whole = nr_crc32c_by_tables(5, bytes + from, size);
            uint32_t first = nr_crc32c(5, bytes + from, size / 3);
            assert_int_equal(nr_crc32c(5, bytes + from, size), whole);
            assert_int_equal(nr_crc32c(first, bytes + from + size / 3, size - size / 3), whole);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_pieces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
