/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * share -- a range of whole numbers, its division among workers, and its sum by adding each term
 */

struct nr_range {
    __int128 from, to; /* both belong to it; from > to: empty. Ends within -2^63 .. 2^64 - 1 */
};

__int128 nr_share_terms(struct nr_range range);

/* The part of worker `index` of `workers_count`: sizes differ by at most one term. */
struct nr_range nr_share_of(struct nr_range range, unsigned workers_count, unsigned index);

/* Adds term by term, in a loop that the compiler can't replace by a formula. */
__int128 nr_share_add(struct nr_range range);
