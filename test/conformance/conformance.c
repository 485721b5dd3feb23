/* SPDX-License-Identifier: MIT */
/*
 * conformance -- one suite of behaviours over every row of the transport table
 *
 * conformance [SCHEME|table ...]: each pair of a row (rows.c) and a case (cases_*.c) is a test by itself,
 * "row: case", and runs in a process of its own with a time limit. `table` compares naru_transport_row()
 * with the rows that are expected.
 */
#include "cases.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <naru/transport.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fnmatch.h>

/* -- the table ----------------------------------------------------------------------------- */

struct nr_expected {
    const char *scheme;
    int can_pair, can_be_both;
    const char *refused_because[3]; /* topic, call, cell: words of the note; NULL: it is carried */
};

static const struct nr_expected nr_expected_rows[] = {
    {"shm", 1, 1, {NULL, NULL, NULL}},
    {"file", 0, 1, {"not in this version", "second channel", "not in this version"}},
    {"pipe", 1, 0, {"gone for the others", "not in this version", "not the newest"}},
    {"fifo", 0, 0, {"gone for the others", "second channel", "not the newest"}},
    {"mq", 1, 1, {"gone for the others", "not in this version", "not the newest"}},
    {"sysv", 0, 1, {"gone for the others", "not in this version", "not the newest"}},
    {"unix", 1, 1, {"not in this version", "not in this version", "not the newest"}},
    {"abstract", 0, 1, {"not in this version", "not in this version", "not the newest"}},
    {"tcp", 0, 1, {"not in this version", "not in this version", "not the newest"}},
    {"signal", 0, 0, {"one target", "second channel", "not the newest"}},
};
enum { NR_EXPECTED = sizeof nr_expected_rows / sizeof nr_expected_rows[0] };

static const struct naru_transport_row *nr_conformance_row(const char *scheme,
                                                           enum naru_pattern pattern)
{
    const struct naru_transport_row *found = NULL, *row;

    for (size_t i = 0; (row = naru_transport_row(i)); i++) {
        if (strcmp(row->scheme, scheme) != 0 || row->pattern != pattern)
            continue;
        nr_check(!found, "%s is there twice with pattern %d", scheme, (int)pattern);
        found = row;
    }
    nr_check(found, "%s is missing with pattern %d", scheme, (int)pattern);
    return found;
}

static void nr_conformance_texts(const struct naru_transport_row *row)
{
    const char *const texts[] = {
        row->technique,       row->example,    row->receivers, row->sender_killed,
        row->receiver_killed, row->descriptor, row->largest,   row->note};

    for (int t = 0; t < 8; t++)
        nr_check(texts[t] && (texts[t][0] || t == 7), "%s: text %d is empty", row->scheme, t);
}

static void nr_conformance_table(void **state)
{
    size_t count = 0;

    (void)state;
    while (naru_transport_row(count))
        count++;
    nr_check(count == NR_EXPECTED * 4, "%zu rows, and %d are expected", count, NR_EXPECTED * 4);
    nr_check(!naru_transport_row(count + 1) && !naru_transport_row(SIZE_MAX), "it does not end");
    for (int i = 0; i < NR_EXPECTED; i++) {
        const struct nr_expected *expected = &nr_expected_rows[i];
        const struct naru_transport_row *row = nr_conformance_row(expected->scheme, NARU_QUEUE);
        nr_check(row->supported && row->can_pair == expected->can_pair &&
                     row->can_be_both == expected->can_be_both,
                 "%s: supported %d, can_pair %d, can_be_both %d", row->scheme, row->supported,
                 row->can_pair, row->can_be_both);
        nr_conformance_texts(row);
        for (int p = 0; p < 3; p++) {
            row = nr_conformance_row(expected->scheme, (enum naru_pattern)(NARU_TOPIC + p));
            nr_check(row->supported == !expected->refused_because[p], "%s: pattern %d", row->scheme,
                     (int)row->pattern);
            if (row->supported)
                nr_conformance_texts(row);
            nr_check(row->supported || strstr(row->note, expected->refused_because[p]),
                     "%s: pattern %d is refused because \"%s\"", row->scheme, (int)row->pattern,
                     row->note);
        }
    }
}

/* What the table refuses, naru_open() and naru_pair() refuse with the table's reason. */
static void nr_conformance_refused(void **state)
{
    const struct naru_transport_row *row;

    (void)state;
    for (size_t i = 0; (row = naru_transport_row(i)); i++) {
        struct naru_options options = {.size_bytes = sizeof options, .pattern = row->pattern};
        struct naru_endpoint *endpoints[2] = {NULL, NULL};
        const char *example = nr_conformance_row(row->scheme, NARU_QUEUE)->example;
        if (row->supported)
            continue;
        nr_check_fails(naru_open(&endpoints[0], example, NARU_RECEIVER, &options), -EOPNOTSUPP,
                       row->note);
        nr_check_fails(naru_pair(endpoints, example, &options), -EOPNOTSUPP, row->note);
        nr_check(!endpoints[0] && !endpoints[1], "it gave an endpoint");
    }
}

/* What the table carries has rows in this suite, so that nothing is left out. */
static void nr_conformance_covered(void **state)
{
    const struct naru_transport_row *row;

    (void)state;
    for (size_t i = 0; (row = naru_transport_row(i)); i++) {
        size_t rows = 0;
        for (size_t r = 0; r < nr_rows_count; r++)
            rows += strcmp(nr_rows[r].scheme, row->scheme) == 0 &&
                    nr_row_pattern(&nr_rows[r]) == row->pattern;
        nr_check(!row->supported || rows > 0, "%s with pattern %d has no row in rows.c",
                 row->scheme, (int)row->pattern);
    }
}

/* -- rows x cases -------------------------------------------------------------------------- */

struct nr_test {
    char name[120];
    const struct nr_row *row;
    const struct nr_case *what;
};

static const struct nr_case *const nr_conformance_cases[] = {
    nr_basic_cases, nr_wait_cases,      nr_hold_cases,   nr_many_cases,
    nr_death_cases, nr_open_cases,      nr_prompt_cases, nr_cell_cases,
    nr_call_cases,  nr_call_loan_cases, nr_topic_cases,
};

static void nr_conformance_body(void *argument)
{
    const struct nr_test *test = argument;
    struct nr_channel channel;

    int before = nr_kit_fds();
    nr_case_pattern = nr_row_pattern(test->row);
    nr_channel_init(&channel, test->row);
    test->what->body(&channel);
    nr_channel_deinit(&channel);
    int after = nr_kit_fds();
    nr_check(before == after, "%d descriptors were open before, and %d after", before, after);
}

static void nr_conformance_run(void **state)
{
    struct nr_test *test = *state;

    int result =
        nr_kit_run(nr_conformance_body, test, test->what->seconds ? test->what->seconds : 10);
    nr_rows_remove_names();
    if (result == 77)
        skip();
    if (result != 0)
        fail_msg("%s failed", test->name);
}

static bool nr_conformance_wants(int count, char **words, const char *scheme)
{
    for (int i = 1; i < count; i++)
        if (strcmp(words[i], scheme) == 0)
            return true;
    return count < 2;
}

/* NARU_TEST_FILTER="fifo: *" chooses by name, for whoever looks for a fault. */
static bool nr_conformance_is_chosen(const char *name)
{
    const char *filter = getenv("NARU_TEST_FILTER");

    return !filter || fnmatch(filter, name, FNM_EXTMATCH) == 0;
}

enum { NR_TESTS_MAX = 2048 };
static struct nr_test nr_tests[NR_TESTS_MAX];
static struct CMUnitTest nr_units[NR_TESTS_MAX];

static size_t nr_conformance_add(size_t count, const struct nr_row *row, const struct nr_case *what)
{
    struct nr_test *test = &nr_tests[count];

    if ((row->has & what->needs) != what->needs || (row->has & what->lacks) ||
        (row->has & (NR_NEWEST | NR_CALLS | NR_OVERWRITES) & ~(what->needs | what->also)))
        return count;
    snprintf(test->name, sizeof test->name, "%s: %s", row->name, what->name);
    if (!nr_conformance_is_chosen(test->name))
        return count;
    nr_check(count < NR_TESTS_MAX, "too many tests");
    test->row = row;
    test->what = what;
    nr_units[count] = (struct CMUnitTest){
        .name = test->name,
        .test_func = nr_conformance_run,
        .initial_state = test,
    };
    return count + 1;
}

int main(int count, char **words)
{
    size_t tests = 0;

    if (nr_conformance_wants(count, words, "table")) {
        const struct CMUnitTest table[] = {
            cmocka_unit_test(nr_conformance_table),
            cmocka_unit_test(nr_conformance_refused),
            cmocka_unit_test(nr_conformance_covered),
        };
        for (int i = 0; i < 3; i++)
            nr_units[tests++] = table[i];
    }
    for (size_t r = 0; r < nr_rows_count; r++) {
        if (!nr_conformance_wants(count, words, nr_rows[r].scheme))
            continue;
        for (size_t l = 0; l < sizeof nr_conformance_cases / sizeof nr_conformance_cases[0]; l++)
            for (const struct nr_case *what = nr_conformance_cases[l]; what->name; what++)
                tests = nr_conformance_add(tests, &nr_rows[r], what);
    }
    nr_kit_directory(); /* made here, so that it can be removed here whatever happens to the tests */
    nr_rows_begin();
    int failed = _cmocka_run_group_tests("conformance", nr_units, tests, NULL, NULL);
    nr_kit_directory_remove();
    return failed;
}
