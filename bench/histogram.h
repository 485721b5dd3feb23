/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * histogram -- many durations in little memory, and their percentiles
 *
 * What       Log-linear: up to 255 each value has a counter of its own; above, each power of two is divided into
 *            128 counters, so that a percentile is off by at most 0.4 %. What is larger than 2^41 counts
 *            as that (37 minutes in nanoseconds); the maximum is exact. Where the clock goes in steps that are
 *            coarser than the counters, a percentile is interpolated within a step.
 * Memory     The caller's, all zero at first; no pointers, so it may be shared by processes.
 */
#include <stdint.h>

enum {
    BENCH_HISTOGRAM_PART_BITS = 7,
    BENCH_HISTOGRAM_PARTS = 1 << BENCH_HISTOGRAM_PART_BITS,
    BENCH_HISTOGRAM_VALUE_BITS = 41,
    BENCH_HISTOGRAM_COUNTERS =
        (BENCH_HISTOGRAM_VALUE_BITS - BENCH_HISTOGRAM_PART_BITS + 1) * BENCH_HISTOGRAM_PARTS,
};

struct bench_histogram {
    uint64_t count, min, max;
    uint64_t step; /* of the clock that measured; 0: it is exact */
    uint64_t counters[BENCH_HISTOGRAM_COUNTERS];
};

static inline unsigned bench_histogram_index(uint64_t value)
{
    if (value >> BENCH_HISTOGRAM_VALUE_BITS)
        return BENCH_HISTOGRAM_COUNTERS - 1;
    if (value < 2 * BENCH_HISTOGRAM_PARTS)
        return (unsigned)value;
    unsigned shift = 63 - (unsigned)__builtin_clzll(value) - BENCH_HISTOGRAM_PART_BITS;
    return shift * BENCH_HISTOGRAM_PARTS + (unsigned)(value >> shift);
}

/* The middle of what the counter counts. */
static inline uint64_t bench_histogram_value(unsigned index)
{
    if (index < 2 * BENCH_HISTOGRAM_PARTS)
        return index;
    unsigned shift = index / BENCH_HISTOGRAM_PARTS - 1;
    uint64_t lowest = (uint64_t)(index - shift * BENCH_HISTOGRAM_PARTS) << shift;
    return lowest + (((uint64_t)1 << shift) - 1) / 2;
}

static inline void bench_histogram_record(struct bench_histogram *histogram, uint64_t value)
{
    if (!histogram->count++ || value < histogram->min)
        histogram->min = value;
    if (value > histogram->max)
        histogram->max = value;
    histogram->counters[bench_histogram_index(value)]++;
}

/* How many of the counters before `index`. */
static inline uint64_t bench_histogram_before(const struct bench_histogram *histogram,
                                              unsigned index)
{
    uint64_t seen = 0;

    for (unsigned i = 0; i < index; i++)
        seen += histogram->counters[i];
    return seen;
}

/* A clock that goes in steps gives all within a step the same value: `position` tells where in it. */
static inline double bench_histogram_within(const struct bench_histogram *histogram, uint64_t value,
                                            uint64_t position)
{
    uint64_t lowest = value > histogram->step / 2 ? value - histogram->step / 2 : 0;
    unsigned first = bench_histogram_index(lowest);
    unsigned last = bench_histogram_index(lowest + histogram->step);
    uint64_t before = bench_histogram_before(histogram, first);
    uint64_t inside = bench_histogram_before(histogram, last) - before;

    if (inside == 0)
        return (double)value;
    return (double)lowest +
           (double)histogram->step * ((double)(position - before) - 0.5) / (double)inside;
}

/* The value at `rank` (0 to 1) of all that were recorded, by the nearest rank; 0 of none. */
static inline double bench_histogram_rank(const struct bench_histogram *histogram, double rank)
{
    double wanted = rank * (double)histogram->count;
    uint64_t position = (uint64_t)wanted + ((double)(uint64_t)wanted < wanted);
    uint64_t seen = 0;
    unsigned index = 0;

    if (histogram->count == 0)
        return 0;
    position = position ? position : 1;
    while ((seen += histogram->counters[index]) < position)
        index++;
    double value = (double)bench_histogram_value(index);
    if (histogram->step > 1)
        value = bench_histogram_within(histogram, bench_histogram_value(index), position);
    return value < (double)histogram->min   ? (double)histogram->min
           : value > (double)histogram->max ? (double)histogram->max
                                            : value;
}
