/* SPDX-License-Identifier: MIT */
#include "share.h"
#include <stdint.h>

__int128 nr_share_terms(struct nr_range range)
{
    return range.to < range.from ? 0 : range.to - range.from + 1;
}

struct nr_range nr_share_of(struct nr_range range, unsigned workers_count, unsigned index)
{
    __int128 terms = nr_share_terms(range);

    return (struct nr_range){
        .from = range.from + terms * index / workers_count,
        .to = range.from + terms * (index + 1) / workers_count - 1,
    };
}

/* One add and one add-with-carry a term. The empty statement hides from the compiler how `term`
   continues, so that it must add. */
static unsigned __int128 nr_share_add_magnitudes(uint64_t term, uint64_t terms_count)
{
    unsigned __int128 total = 0;

    for (; terms_count; terms_count--) {
        total += term++;
        __asm__("" : "+r"(term));
    }
    return total;
}

__int128 nr_share_add(struct nr_range range)
{
    struct nr_range below = {.from = range.from, .to = range.to < -1 ? range.to : -1};
    struct nr_range above = {.from = range.from > 0 ? range.from : 0, .to = range.to};
    __int128 total = 0;

    if (below.from <= below.to)
        total -=
            (__int128)nr_share_add_magnitudes((uint64_t)-below.to, (uint64_t)nr_share_terms(below));
    if (above.from <= above.to)
        total += (__int128)nr_share_add_magnitudes((uint64_t)above.from,
                                                   (uint64_t)nr_share_terms(above));
    return total;
}
