/* SPDX-License-Identifier: MIT */
/* words -- copies by words: all sizes, and nothing behind the end but zeros up to the next word */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "data/words.h"

enum { WORDS = 4, BYTES = WORDS * sizeof(uint64_t) };

static void test_sizes(void **state)
{
    static const char sent[] = "abcdefghijklmnopqrstuvwxyz01234";

    (void)state;
    for (size_t size = 0; size < BYTES; size++) {
        size_t whole = (size + 7) / 8 * 8;
        _Atomic uint64_t words[WORDS];
        char got[BYTES + 1];
        memset(words, '#', sizeof words);
        memset(got, '#', sizeof got);
        nr_words_store(words, sent, size);
        nr_words_load(got, words, size);
        assert_memory_equal(got, sent, size);
        assert_int_equal(got[size], '#');
        for (size_t i = size; i < BYTES; i++)
            assert_int_equal(((const char *)words)[i], i < whole ? 0 : '#');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sizes)};

    return cmocka_run_group_tests_name("words", tests, NULL, NULL);
}
