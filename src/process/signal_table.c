/* SPDX-License-Identifier: MIT */
/* signal_table -- the table of signals, names in any spelling, and which sets make sense */
#include "process/signal.h"
#include "base/uri.h"
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

int naru_signal_describe(int number, struct naru_signal_row *ret)
{
    /* No text: this may be called in a handler. */
    return ret && nr_os_signal_row(number, ret) ? 0 : -EINVAL;
}

/* -- names --------------------------------------------------------------------------------- */

static const char *nr_signal_table_bare(const char *name)
{
    static const char prefix[] = "SIG";

    return strncasecmp(name, prefix, sizeof prefix - 1) == 0 ? name + sizeof prefix - 1 : name;
}

/* "RTMIN", "RTMIN+3", "RTMAX-1": relative to one end of what programs have; 0: it is none of these. */
static int nr_signal_table_real_time(const char *text)
{
    static const char low[] = "RTMIN", high[] = "RTMAX";
    bool is_high = strncasecmp(text, high, sizeof high - 1) == 0;
    int first = nr_os_signal_first(), last = nr_os_signal_last();
    int64_t distance = 0;

    if (!is_high && strncasecmp(text, low, sizeof low - 1) != 0)
        return 0;
    text += sizeof low - 1;
    if (*text && *text != (is_high ? '-' : '+'))
        return 0;
    if (*text && nr_uri_number(text + 1, 0, last - first, &distance) < 0)
        return 0;
    return is_high ? last - (int)distance : first + (int)distance;
}

static int nr_signal_table_find(const char *text)
{
    struct naru_signal_row row;
    int64_t number;

    if (nr_uri_number(text, 0, NR_SIGNAL_LAST, &number) == 0)
        return number == 0 || nr_os_signal_row((int)number, &row) ? (int)number : -EINVAL;
    const char *bare = nr_signal_table_bare(text);
    int real_time = nr_signal_table_real_time(bare);
    if (real_time > 0)
        return real_time;
    for (int i = 1; i <= NR_SIGNAL_LAST; i++) {
        if (!nr_os_signal_row(i, &row))
            continue;
        if (strcasecmp(nr_signal_table_bare(row.name), bare) == 0 ||
            (row.alias && strcasecmp(nr_signal_table_bare(row.alias), bare) == 0))
            return i;
    }
    return -EINVAL;
}

int naru_signal_number(const char *text)
{
    if (!text)
        return nr_fail(-EINVAL, "naru_signal_number() needs a name or a number");
    int number = nr_signal_table_find(text);
    if (number >= 0)
        return number;
    return nr_fail(number,
                   "\"%.40s\" is no signal; give a name such as TERM or SIGTERM, a number from 1 to "
                   "%d, or RTMIN+0 to RTMIN+%d; `naru signals` lists them",
                   text, NR_SIGNAL_LAST, nr_os_signal_last() - nr_os_signal_first());
}

/* -- sets ---------------------------------------------------------------------------------- */

int nr_signal_check_set(uint64_t *set, const char *what)
{
    uint64_t all = nr_os_signal_all(), wrong = *set & ~all;
    struct naru_signal_row row;

    if (*set == NARU_SIGNAL_ALL)
        wrong = 0;
    *set &= all;
    if (!wrong)
        return 0;
    int number = __builtin_ctzll(wrong) + 1;
    if (nr_os_signal_row(number, &row) && row.is_fixed)
        return nr_fail(-EINVAL, "%s can't be %s, nobody can refuse it; leave it out of the set",
                       row.name, what);
    return nr_fail(-EINVAL,
                   "signal %d can't be %s, libc keeps it for its threads; leave it out of the set",
                   number, what);
}
