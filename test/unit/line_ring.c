/* SPDX-License-Identifier: MIT */
/* line_ring -- every size, each way of writing and reading, laps and takeovers */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "data/line_short.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGE_MOST = 300, MESSAGES = 5 };

struct both {
    void *memory;
    struct nr_line_ring sender, receiver;
};

static void both_make(struct both *both, uint64_t lines, uint64_t bytes, bool at_most_once)
{
    struct nr_line_ring *rings[2] = {&both->sender, &both->receiver};

    if (!both->memory) {
        uint64_t memory_bytes = nr_line_ring_memory(lines, bytes);
        both->memory = aligned_alloc(64, memory_bytes);
        memset(both->memory, 0, memory_bytes);
    }
    for (int i = 0; i < 2; i++) {
        *rings[i] = (struct nr_line_ring){
            .lines_count = lines, .bytes_count = bytes, .at_most_once = at_most_once};
        nr_line_ring_attach(rings[i], both->memory);
    }
    assert_int_equal(nr_line_ring_sit(&both->sender, true), 0);
    assert_int_equal(nr_line_ring_sit(&both->receiver, false), 0);
}

static void both_sit(struct both *both, bool at_most_once)
{
    uint64_t lines, bytes;

    nr_line_ring_sizes(MESSAGE_MOST, MESSAGES, &lines, &bytes);
    both_make(both, lines, bytes, at_most_once);
}

static void fill(char *data, uint32_t size_bytes, unsigned number)
{
    for (uint32_t i = 0; i < size_bytes; i++)
        data[i] = (char)(number * 31 + i * 7 + size_bytes);
}

static bool is_short_way; /* the next time, where it goes */

static int put(struct nr_line_ring *ring, uint32_t size_bytes, int64_t type, unsigned number)
{
    char data[MESSAGE_MOST];
    struct nr_line_room room;

    fill(data, size_bytes, number);
    if (is_short_way && !type && nr_line_put(ring, data, size_bytes))
        return 0;
    memset(&room, 0xff, sizeof room);
    int result = nr_line_reserve(ring, size_bytes, type, &room);
    if (result < 0)
        return result;
    assert_true(!room.second || room.first_bytes < size_bytes);
    memcpy(room.first, data, room.first_bytes);
    if (room.second)
        memcpy(room.second, data + room.first_bytes, size_bytes - room.first_bytes);
    nr_line_publish(ring, size_bytes, type);
    return 0;
}

static int put_apart(struct nr_line_ring *ring, uint32_t reserved_bytes, uint32_t size_bytes,
                     int64_t type, unsigned number)
{
    char *payload;
    int result = nr_line_reserve_apart(ring, reserved_bytes, &payload);

    if (result < 0)
        return result;
    memset(payload, 'x', reserved_bytes);
    fill(payload, size_bytes, number);
    nr_line_publish_apart(ring, size_bytes, type);
    return 0;
}

/* Did the receiver give lines back since head was `before`? */
static bool is_freed(const struct nr_line_ring *ring, uint64_t before)
{
    return ring->shared->head >> 3 != before >> 3;
}

/* Expects that message, and returns whether it was flagged. */
static bool get(struct nr_line_ring *ring, uint32_t size_bytes, int64_t type, unsigned number)
{
    char data[MESSAGE_MOST], expected[MESSAGE_MOST];
    struct nr_line_record record;
    uint64_t before = ring->shared->head;
    bool frees;

    assert_true(nr_line_may_peek(ring));
    fill(expected, size_bytes, number);
    int got = is_short_way ? nr_line_get(ring, data, MESSAGE_MOST, &frees) : -1;
    if (got >= 0) {
        assert_int_equal(got, size_bytes);
        assert_int_equal(type, 0);
        assert_int_equal(frees, is_freed(ring, before));
        assert_memory_equal(data, expected, size_bytes);
        return false;
    }
    assert_int_equal(nr_line_peek(ring, &record), 0);
    assert_int_equal(record.size_bytes, size_bytes);
    assert_int_equal(record.type, type);
    nr_line_taking(ring, &record);
    nr_line_copy(&record, data);
    assert_memory_equal(data, expected, size_bytes);
    frees = nr_line_release(ring, &record);
    assert_int_equal(frees, is_freed(ring, before));
    return record.is_redelivered;
}

static void nothing(struct nr_line_ring *ring)
{
    struct nr_line_record record;

    assert_false(nr_line_may_peek(ring));
    assert_int_equal(nr_line_peek(ring, &record), -EAGAIN);
}

/* Messages of any size, typed or not, in any way, as many in between as fit; both sides begin anew now and then. */
static void any_sizes_in_order(void **state)
{
    struct both both = {0};
    struct {
        uint32_t size_bytes;
        int64_t type;
    } sent[4096];
    unsigned tail = 0, head = 0, longest = 0, full = 0;

    (void)state;
    srand(7);
    both_sit(&both, false);
    for (int step = 0; step < 300000; step++) {
        uint32_t limit = rand() % 3 ? 60 : MESSAGE_MOST + 1;
        uint32_t size_bytes = (uint32_t)rand() % limit;
        int64_t type = rand() % 4 ? 0 : rand() - 1000;
        bool apart = rand() % 16 == 0;
        is_short_way = rand() % 4;
        if (rand() % 2) {
            int result = apart ? put_apart(&both.sender, MESSAGE_MOST, size_bytes, type, tail)
                               : put(&both.sender, size_bytes, type, tail);
            if (result == 0) {
                sent[tail % 4096].size_bytes = size_bytes;
                sent[tail++ % 4096].type = type;
            } else {
                assert_int_equal(result, -EAGAIN);
                assert_true(tail - head >= MESSAGES);
                full++;
            }
        } else if (head < tail) {
            assert_false(
                get(&both.receiver, sent[head % 4096].size_bytes, sent[head % 4096].type, head));
            head++;
        } else {
            nothing(&both.receiver);
        }
        longest = tail - head > longest ? tail - head : longest;
        if (rand() % 64 == 0) {
            struct nr_line_ring *ring = rand() % 2 ? &both.sender : &both.receiver;
            assert_int_equal(nr_line_ring_sit(ring, ring == &both.sender), 0);
        }
    }
    assert_true(full > 100 && longest > 2 * MESSAGES);
    free(both.memory);
}

/* As many as were asked for, also beside a line that the receiver keeps until the next one is there. No more memory than
   that takes. */
static void sizes_hold_what_they_promise(void **state)
{
    static const struct {
        uint32_t message_bytes, messages, lines, bytes;
    } sizes[] = {{0, 1, 4, 128},   {1, 3, 4, 256},    {56, 3, 4, 256},  {56, 4, 8, 320},
                 {57, 1, 4, 128},  {57, 2, 8, 192},   {112, 3, 8, 512}, {112, 4, 16, 640},
                 {113, 3, 8, 512}, {300, 7, 16, 2560}};

    (void)state;
    is_short_way = false;
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int apart = 0; apart < 2; apart++) {
            struct both both = {0};
            uint64_t lines, bytes;
            nr_line_ring_sizes(sizes[i].message_bytes, sizes[i].messages, &lines, &bytes);
            assert_int_equal(lines, sizes[i].lines);
            assert_int_equal(bytes, sizes[i].bytes);
            both_make(&both, lines, bytes, false);
            for (unsigned round = 0; round < 5; round++) {
                for (unsigned j = 0; j < sizes[i].messages; j++)
                    assert_int_equal(apart ? put_apart(&both.sender, sizes[i].message_bytes,
                                                       sizes[i].message_bytes, 0, j)
                                           : put(&both.sender, sizes[i].message_bytes, 0, j),
                                     0);
                for (unsigned j = 0; j < sizes[i].messages; j++)
                    get(&both.receiver, sizes[i].message_bytes, 0, j);
            }
            free(both.memory);
        }
}

static void small_ones_share_a_line(void **state)
{
    (void)state;
    for (uint32_t size_bytes = 0; size_bytes <= 24; size_bytes += 8)
        for (int way = 0; way < 2; way++) {
            struct both both = {0};
            unsigned number = 0;
            both_sit(&both, false);
            is_short_way = way;
            while (put(&both.sender, size_bytes, 0, number) == 0)
                number++;
            unsigned each = size_bytes < 16 ? 7 : 7 / (size_bytes / 8);
            assert_int_equal(number, each * both.sender.lines_count);
            for (unsigned i = 0; i < number; i++)
                get(&both.receiver, size_bytes, 0, i);
            nothing(&both.receiver);
            free(both.memory);
        }
}

/* Empty ones take no room in their line, but one of seven codes. */
static void one_behind_seven_empty_ones(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        struct both both = {0};
        both_sit(&both, false);
        is_short_way = way;
        for (unsigned i = 0; i < 7; i++)
            put(&both.sender, 0, 0, i);
        put(&both.sender, 8, 0, 7);
        for (unsigned i = 0; i < 7; i++)
            get(&both.receiver, 0, 0, i);
        get(&both.receiver, 8, 0, 7);
        nothing(&both.receiver);
        free(both.memory);
    }
}

/* An empty ring has room for each size, wherever the one before has ended. */
static void any_size_when_all_was_received(void **state)
{
    static char data[4096];
    struct both both = {0};
    struct nr_line_record record;
    char *room;

    (void)state;
    both_make(&both, 16, 8192, false);
    for (uint32_t i = 0; i < 2000; i++) {
        uint32_t size_bytes = 1 + i * 1213 % 4096;
        assert_int_equal(nr_line_reserve_apart(&both.sender, size_bytes, &room), 0);
        memset(room, (int)i, size_bytes);
        nr_line_publish_apart(&both.sender, size_bytes, 0);
        assert_int_equal(nr_line_peek(&both.receiver, &record), 0);
        assert_int_equal(record.size_bytes, size_bytes);
        memset(data, (int)i, size_bytes);
        assert_memory_equal(record.first, data, size_bytes);
        nr_line_release(&both.receiver, &record);
    }
    free(both.memory);
}

/* What a receiver had in hand when it died comes again and is flagged, or is skipped and counted. */
static void a_message_in_hand(void **state)
{
    struct nr_line_record record;

    (void)state;
    for (int at_most_once = 0; at_most_once < 2; at_most_once++) {
        static const uint32_t sizes[] = {8, 100, 250};
        for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            struct both both = {0};
            both_sit(&both, at_most_once);
            put(&both.sender, 3, 0, 0);
            put(&both.sender, sizes[i], 0, 1);
            put(&both.sender, 5, 0, 2);
            get(&both.receiver, 3, 0, 0);
            assert_int_equal(nr_line_peek(&both.receiver, &record), 0);
            nr_line_taking(&both.receiver, &record);
            assert_int_equal(nr_line_ring_sit(&both.receiver, false), at_most_once);
            if (!at_most_once)
                assert_true(get(&both.receiver, sizes[i], 0, 1));
            assert_false(get(&both.receiver, 5, 0, 2));
            nothing(&both.receiver);
            for (unsigned more = 0; more < 4 * MESSAGES; more++) { /* its room is free again */
                assert_int_equal(put(&both.sender, 290, 0, more), 0);
                get(&both.receiver, 290, 0, more);
            }
            free(both.memory);
        }
    }
}

/* When the laps begin anew, a second line has nothing of the time when it was a first one. */
static void laps_come_again(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        struct both both = {0};
        is_short_way = way;
        both_make(&both, 4, 64, false);
        for (unsigned i = 0; i < 4; i++) {
            put(&both.sender, 56, 0, i);
            get(&both.receiver, 56, 0, i);
        }
        for (unsigned lap = 1; lap < 0x10000; lap++)
            for (unsigned i = 0; i < 2; i++) {
                put(&both.sender, 100, 0, lap);
                get(&both.receiver, 100, 0, lap);
            }
        for (unsigned i = 0; i < 4; i++) {
            put(&both.sender, 56, 0, i);
            get(&both.receiver, 56, 0, i);
            nothing(&both.receiver);
        }
        free(both.memory);
    }
}

/* A sender that died with two lines written and not published leaves nothing that could be read. */
static void an_unfinished_message(void **state)
{
    struct both both = {0};
    struct nr_line_room room;

    (void)state;
    both_sit(&both, false);
    for (unsigned round = 0; round < 100; round++) {
        assert_int_equal(nr_line_reserve(&both.sender, 100, 0, &room), 0);
        memset(room.first, 0xff, room.first_bytes);
        memset(room.second, 0xff, 100 - room.first_bytes);
        uint64_t inside = 1;
        memcpy(room.second - 8, &inside, sizeof inside);
        nothing(&both.receiver);
        assert_int_equal(nr_line_ring_sit(&both.sender, true), 0);
        assert_int_equal(put(&both.sender, 56, 0, round), 0);
        get(&both.receiver, 56, 0, round);
        nothing(&both.receiver);
    }
    free(both.memory);
}

/* With its last message, when the sender has gone on: not with the next message. */
static void a_line_is_free_at_once(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        struct both both = {0};
        is_short_way = way;
        both_sit(&both, false);
        put(&both.sender, 8, 0, 0);
        put(&both.sender, 50, 0, 1);
        get(&both.receiver, 8, 0, 0);
        assert_int_equal(both.receiver.shared->head, 1 << 3);
        get(&both.receiver, 50, 0, 1);
        assert_int_equal(both.receiver.shared->head, 2 << 3);
        free(both.memory);
    }
}

/* What the receiver gives back to itself, in whatever order. */
static void flagged(void **state)
{
    struct nr_line_record record[2];
    struct both both = {0};

    (void)state;
    is_short_way = false;
    both_sit(&both, false);
    for (unsigned i = 0; i < 3; i++)
        put(&both.sender, 50, 0, i);
    assert_int_equal(nr_line_peek(&both.receiver, &record[0]), 0);
    record[1] = record[0];
    record[1].next += 8; /* of the next line */
    nr_line_flag(&both.receiver, &record[1]);
    nr_line_flag(&both.receiver, &record[0]);
    assert_true(get(&both.receiver, 50, 0, 0));
    assert_true(get(&both.receiver, 50, 0, 1));
    assert_false(get(&both.receiver, 50, 0, 2));
    free(both.memory);
}

/* The receiver before had read the last small one, and the next message takes two lines. */
static void three_lines_in_hand(void **state)
{
    struct nr_line_record record;
    struct both both = {0};

    (void)state;
    is_short_way = false;
    both_sit(&both, false);
    put(&both.sender, 3, 0, 0);
    get(&both.receiver, 3, 0, 0);
    put(&both.sender, 100, 0, 1);
    assert_int_equal(nr_line_peek(&both.receiver, &record), 0);
    nr_line_taking(&both.receiver, &record);
    assert_int_equal(nr_line_ring_sit(&both.receiver, false), 0);
    is_short_way = true;
    char data[100];
    bool frees;
    assert_int_equal(nr_line_get(&both.receiver, data, 100, &frees), -EMSGSIZE); /* flagged */
    assert_true(get(&both.receiver, 100, 0, 1));
    free(both.memory);
}

/* The short way is not for what is larger than the caller's room, and leaves it where it is; what just fits it takes. */
static void too_large_for_the_short_way(void **state)
{
    static const uint32_t sizes[] = {8, 56, 100, 120};

    (void)state;
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct both both = {0};
        char data[120], wanted[120];
        bool frees;
        both_sit(&both, false);
        is_short_way = false;
        put(&both.sender, sizes[i], 0, i);
        assert_int_equal(nr_line_get(&both.receiver, data, sizes[i] - 1, &frees), -EMSGSIZE);
        assert_int_equal(nr_line_get(&both.receiver, data, sizes[i], &frees), sizes[i]);
        fill(wanted, sizes[i], i);
        assert_memory_equal(data, wanted, sizes[i]);
        nothing(&both.receiver);
        free(both.memory);
    }
    struct both both = {0};
    char data[113] = "";
    both_sit(&both, false);
    assert_false(nr_line_put(&both.sender, data, 0) || nr_line_put(&both.sender, data, 113));
    assert_true(nr_line_put(&both.sender, data, 112));
    free(both.memory);
}

/* What a look at a line has told of is handed out without another look, unless something else was done with it. */
static void what_was_seen_and_then_moved(void **state)
{
    enum { RELEASED, PASSED, FLAGGED, TAKEN, WAYS };
    static const uint32_t sizes[] = {8, 8, 16, 7, 9};

    (void)state;
    for (int way = 0; way < WAYS; way++) {
        struct nr_line_record record;
        struct both both = {0};
        struct nr_line_ring *in = &both.receiver;
        char data[8];
        bool frees;
        both_sit(&both, false);
        is_short_way = true;
        for (unsigned i = 0; i < 5; i++)
            put(&both.sender, sizes[i], 0, i);
        get(in, 8, 0, 0);
        assert_int_equal(nr_line_get(in, data, 7, &frees), -EMSGSIZE);
        assert_false(frees);
        is_short_way = false;
        if (way == RELEASED)
            assert_false(get(in, 8, 0, 1));
        if (way == PASSED)
            nr_line_pass(in, in->line, in->index + 1, in->units + 1);
        if (way == FLAGGED || way == TAKEN) {
            assert_int_equal(nr_line_peek(in, &record), 0);
            nr_line_taking(in, &record);
            if (way == FLAGGED)
                nr_line_flag(in, &record);
            else
                assert_int_equal(nr_line_ring_sit(in, false), 0);
            assert_int_equal(nr_line_get(in, data, 8, &frees), -EMSGSIZE);
            assert_true(get(in, 8, 0, 1));
        }
        is_short_way = true;
        for (unsigned i = 2; i < 5; i++)
            assert_false(get(in, sizes[i], 0, i));
        nothing(in);
        free(both.memory);
    }
}

/* Seven messages that would fill the line each. */
static void sizes_that_no_line_has(void **state)
{
    struct both both = {0};
    uint64_t codes = 0;
    char data[56];
    bool frees;

    (void)state;
    both_sit(&both, false);
    for (unsigned i = 0; i < NR_LINE_SMALL_MOST; i++)
        codes |= (uint64_t)57 << NR_LINE_CODE_BITS * i;
    nr_line_at(&both.sender, 0)->stamp =
        nr_line_stamp(&both.sender, 0, NR_LINE_SMALL) | codes << NR_LINE_SIZE_SHIFT;
    assert_int_equal(nr_line_get(&both.receiver, data, 56, &frees), 56);
    assert_int_equal(nr_line_get(&both.receiver, data, 56, &frees), -EMSGSIZE);
    free(both.memory);
}

/* A line that takes no more is done with when its last message is, whether the next one is there or not. */
static void a_full_line_is_free_with_its_last(void **state)
{
    struct both both = {0};

    (void)state;
    both_sit(&both, false);
    is_short_way = true;
    for (unsigned i = 0; i < 7; i++)
        put(&both.sender, 8, 0, i);
    for (unsigned i = 0; i < 7; i++)
        get(&both.receiver, 8, 0, i);
    assert_int_equal(both.receiver.shared->head, 1 << 3);
    nothing(&both.receiver);
    put(&both.sender, 16, 0, 7);
    get(&both.receiver, 16, 0, 7);
    free(both.memory);
}

/* It stands there alone, and the next one as soon as it was received. */
static void as_large_as_the_ring_of_bytes(void **state)
{
    struct both both = {0};

    (void)state;
    is_short_way = false;
    both_make(&both, 4, 256, false);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(put_apart(&both.sender, 256, 256, 0, i), 0);
        assert_int_equal(put_apart(&both.sender, 1, 1, 0, i), -EAGAIN);
        get(&both.receiver, 256, 0, i);
        nothing(&both.receiver);
    }
    /* Two that fill it, and a third where the first was. */
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(put_apart(&both.sender, 128, 128, 0, i), 0);
        assert_int_equal(put_apart(&both.sender, 128, 128, 0, i + 1), 0);
        assert_int_equal(put_apart(&both.sender, 128, 128, 0, i + 2), -EAGAIN);
        get(&both.receiver, 128, 0, i);
        assert_int_equal(put_apart(&both.sender, 128, 128, 0, i + 2), 0);
        get(&both.receiver, 128, 0, i + 1);
        get(&both.receiver, 128, 0, i + 2);
        nothing(&both.receiver);
    }
    free(both.memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_sizes_in_order),
        cmocka_unit_test(any_size_when_all_was_received),
        cmocka_unit_test(sizes_hold_what_they_promise),
        cmocka_unit_test(small_ones_share_a_line),
        cmocka_unit_test(too_large_for_the_short_way),
        cmocka_unit_test(what_was_seen_and_then_moved),
        cmocka_unit_test(sizes_that_no_line_has),
        cmocka_unit_test(a_full_line_is_free_with_its_last),
        cmocka_unit_test(a_message_in_hand),
        cmocka_unit_test(three_lines_in_hand),
        cmocka_unit_test(an_unfinished_message),
        cmocka_unit_test(laps_come_again),
        cmocka_unit_test(one_behind_seven_empty_ones),
        cmocka_unit_test(flagged),
        cmocka_unit_test(a_line_is_free_at_once),
        cmocka_unit_test(as_large_as_the_ring_of_bytes),
    };

    return cmocka_run_group_tests_name("line_ring", tests, NULL, NULL);
}
