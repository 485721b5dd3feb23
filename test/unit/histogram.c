/* SPDX-License-Identifier: MIT */
/* histogram -- the percentiles of naru bench, against those of a sorted array */
#include "histogram.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

enum { NR_HISTOGRAM_TEST_COUNT = 20000 };

static const double nr_histogram_test_ranks[] = {0, 0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1};

static uint64_t nr_histogram_test_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static int nr_histogram_test_compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

    return (left > right) - (left < right);
}

/* The nearest rank: the smallest value that at least rank * count of them do not exceed. */
static uint64_t nr_histogram_test_rank(const uint64_t *sorted, size_t count, double rank)
{
    size_t position = (size_t)(rank * (double)count);

    position += (double)position < rank * (double)count;
    return sorted[position ? position - 1 : 0];
}

static void nr_histogram_test_sorted(void **state)
{
    static uint64_t values[NR_HISTOGRAM_TEST_COUNT];
    static struct bench_histogram histogram;
    uint64_t seed = 1;

    (void)state;
    for (unsigned bits = 1; bits <= 40; bits++) {
        memset(&histogram, 0, sizeof histogram);
        for (size_t i = 0; i < NR_HISTOGRAM_TEST_COUNT; i++) {
            uint64_t wide = nr_histogram_test_random(&seed) << 31 | nr_histogram_test_random(&seed);
            /* All magnitudes up to this one. */
            values[i] =
                (wide & (((uint64_t)1 << bits) - 1)) >> nr_histogram_test_random(&seed) % bits;
            bench_histogram_record(&histogram, values[i]);
        }
        qsort(values, NR_HISTOGRAM_TEST_COUNT, sizeof values[0], nr_histogram_test_compare);
        assert_int_equal(histogram.count, NR_HISTOGRAM_TEST_COUNT);
        assert_int_equal(histogram.min, values[0]);
        assert_int_equal(histogram.max, values[NR_HISTOGRAM_TEST_COUNT - 1]);
        for (size_t i = 0; i < sizeof nr_histogram_test_ranks / sizeof(double); i++) {
            double rank = nr_histogram_test_ranks[i];
            double exact = (double)nr_histogram_test_rank(values, NR_HISTOGRAM_TEST_COUNT, rank);
            double told = bench_histogram_rank(&histogram, rank);
            assert_true(told >= exact * 0.996 && told <= exact * 1.004);
        }
    }
}

/* Each counter begins where the one before ends, and its middle belongs to it. */
static void nr_histogram_test_counters(void **state)
{
    unsigned before = 0;

    (void)state;
    for (uint64_t value = 0; value < 1 << 20; value++) {
        unsigned index = bench_histogram_index(value);
        assert_true(index == before || index == before + 1);
        assert_int_equal(bench_histogram_index(bench_histogram_value(index)), index);
        before = index;
    }
    assert_int_equal(bench_histogram_index(((uint64_t)1 << BENCH_HISTOGRAM_VALUE_BITS) - 1),
                     BENCH_HISTOGRAM_COUNTERS - 1);
    assert_int_equal(bench_histogram_index(UINT64_MAX), BENCH_HISTOGRAM_COUNTERS - 1);
}

static void nr_histogram_test_extremes(void **state)
{
    static struct bench_histogram histogram;

    (void)state;
    memset(&histogram, 0, sizeof histogram);
    assert_true(bench_histogram_rank(&histogram, 0.5) == 0);
    bench_histogram_record(&histogram, 0);
    assert_true(bench_histogram_rank(&histogram, 1) == 0);
    bench_histogram_record(&histogram, UINT64_MAX);
    assert_true(bench_histogram_rank(&histogram, 0) == 0);
    assert_int_equal(histogram.max, UINT64_MAX);
}

/* What a clock in steps of 10 makes of evenly spread durations is told to better than a step. */
static void nr_histogram_test_steps(void **state)
{
    static uint64_t values[NR_HISTOGRAM_TEST_COUNT];
    static struct bench_histogram histogram;
    uint64_t seed = 7;

    (void)state;
    memset(&histogram, 0, sizeof histogram);
    histogram.step = 10;
    for (size_t i = 0; i < NR_HISTOGRAM_TEST_COUNT; i++) {
        uint64_t begin = nr_histogram_test_random(&seed) % 1000;
        values[i] = 90 + nr_histogram_test_random(&seed) % 30;
        uint64_t end = begin + values[i];
        bench_histogram_record(&histogram, end / 10 * 10 - begin / 10 * 10);
    }
    qsort(values, NR_HISTOGRAM_TEST_COUNT, sizeof values[0], nr_histogram_test_compare);
    double exact = (double)nr_histogram_test_rank(values, NR_HISTOGRAM_TEST_COUNT, 0.5);
    double told = bench_histogram_rank(&histogram, 0.5);
    assert_true(told > exact - 1.5 && told < exact + 1.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nr_histogram_test_sorted),
        cmocka_unit_test(nr_histogram_test_counters),
        cmocka_unit_test(nr_histogram_test_extremes),
        cmocka_unit_test(nr_histogram_test_steps),
    };

    return cmocka_run_group_tests_name("histogram", tests, NULL, NULL);
}
