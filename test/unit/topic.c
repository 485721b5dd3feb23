/* SPDX-License-Identifier: MIT */
/* topic -- data/topic.c by itself: rings of any size, each contract, far positions, what the dead leave, damaged memory */
#include "data/topic.h"
#include "data/words.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CURSORS = 4, READY = 1, SKIP = 2, KEPT = 2 };

static struct nr_topic topic;
static void *memory;

static void topic_make(uint32_t capacity, uint32_t cursors)
{
    memset(&topic, 0x5b, sizeof topic); /* what stands in a handle does not matter, but for these */
    atomic_init(&topic.checked_joins, 0);
    topic.slots_count = capacity + 1;
    topic.slot_bytes = 64;
    topic.chunks_count = capacity + 3;
    topic.chunk_bytes = 64;
    topic.cursors_count = cursors;
    topic.me = 1;
    free(memory);
    memory = aligned_alloc(64, nr_topic_bytes(&topic));
    assert_non_null(memory);
    memset(memory, 0, nr_topic_bytes(&topic));
    nr_topic_attach(&topic, memory);
    assert_true((char *)(topic.claims + topic.slots_count) <= topic.slots);
    assert_int_equal((uintptr_t)topic.slots % 64, 0);
    assert_ptr_equal(topic.chunks + topic.chunks_count * topic.chunk_bytes,
                     (char *)memory + nr_topic_bytes(&topic));
}

static int teardown(void **state)
{
    (void)state;
    free(memory);
    memory = NULL;
    return 0;
}

static int publish(uint64_t value)
{
    const struct nr_topic_label label = {.size_bytes = sizeof value, .type = (int64_t)value};
    struct nr_topic_claim claim;
    uint32_t blocker, chunk = value % 2 ? nr_topic_loan(&topic) : NR_TOPIC_NO_CHUNK;

    if (value % 2)
        assert_int_not_equal(chunk, NR_TOPIC_NO_CHUNK);
    int result = nr_topic_claim(&topic, &claim, &blocker);
    if (result < 0) {
        if (value % 2)
            nr_topic_unloan(&topic, chunk);
        return result;
    }
    nr_words_store(value % 2 ? nr_topic_chunk(&topic, chunk) : claim.slot->payload, &value,
                   sizeof value);
    nr_topic_publish(&topic, &claim, chunk, &label);
    return 0;
}

/* The value that comes next, or a negative error; skips go by. */
static int64_t receive(struct nr_topic_reader *reader)
{
    struct nr_topic_message message;
    uint32_t blocker;
    uint64_t value;

    for (;;) {
        int result = nr_topic_next(&topic, reader, &message, &blocker);
        if (result < 0 && result != -ENOMSG)
            return result;
        if (result == 0)
            nr_words_load(&value, message.payload, sizeof value);
        nr_topic_take(reader, &message);
        nr_topic_done(&topic, reader, message.position);
        if (result == 0)
            return (int64_t)value;
    }
}

static struct nr_topic_slot *slot_of(uint64_t position)
{
    return (void *)(topic.slots + position % topic.slots_count * topic.slot_bytes);
}

static _Atomic uint64_t *claim_of(uint64_t position)
{
    return &topic.claims[position % topic.slots_count];
}

/* All slots as if the ring had come to `position`. */
static void topic_advance(uint64_t position)
{
    for (uint64_t p = position - topic.slots_count; p < position; p++) {
        *claim_of(p) = (p + 1) << 16;
        slot_of(p)->word = ((p + 1) << 16) | (SKIP << 12);
    }
    topic.shared->tail = position;
}

static int peek(uint64_t position)
{
    struct nr_topic_message message;
    uint32_t blocker;

    return nr_topic_peek(&topic, position, &message, &blocker);
}

static void test_sizes_and_positions(void **state)
{
    static const uint64_t positions[] = {0, 1000, (1ull << 32) - 5, (1ull << 47) - 5};

    (void)state;
    for (uint32_t capacity = 1; capacity <= 40; capacity++)
        for (int i = 0; i < 4; i++) {
            struct nr_topic_reader reader;
            topic_make(capacity, CURSORS);
            if (positions[i])
                topic_advance(positions[i]);
            assert_int_equal(nr_topic_tail(&topic), positions[i]);
            nr_topic_join(&topic, &reader, NR_TOPIC_NOW, 0);
            for (uint64_t sent = 0; sent < 3 * capacity; sent += capacity) {
                for (uint64_t v = 0; v < capacity; v++)
                    assert_int_equal(publish(sent + v), 0);
                assert_int_equal(publish(4711), -EAGAIN);
                for (uint64_t v = 0; v < capacity; v++)
                    assert_int_equal(receive(&reader), sent + v);
                assert_int_equal(receive(&reader), -EAGAIN);
            }
        }
}

/* Late ones count messages, not slots that were skipped. */
static void test_last_with_skips(void **state)
{
    struct nr_topic_reader reader;
    struct nr_topic_claim claim;
    uint32_t blocker;

    (void)state;
    topic_make(6, CURSORS);
    assert_int_equal(publish(1), 0);
    assert_int_equal(publish(2), 0);
    topic.me = 2;
    assert_int_equal(nr_topic_claim(&topic, &claim, &blocker), 0);
    uint32_t chunk = nr_topic_loan(&topic); /* it dies with this in its hand */
    topic.me = 1;
    assert_int_equal(publish(3), 0);
    nr_topic_join(&topic, &reader, NR_TOPIC_LAST, 2);
    assert_int_equal(reader.next, 2); /* nobody knows yet what becomes of the third */
    assert_int_equal(receive(&reader), -EBUSY);
    for (int again = 0; again < 2; again++)
        nr_topic_repair(&topic, 2);
    assert_int_equal(receive(&reader), 3);
    nr_topic_join(&topic, &reader, NR_TOPIC_LAST, 2);
    assert_int_equal(receive(&reader), 2);
    assert_int_equal(receive(&reader), 3);
    topic.me = 3;
    for (uint32_t i = 0; i < topic.chunks_count - 2; i++) /* all but those of 1 and 3 */
        assert_int_not_equal(nr_topic_loan(&topic), NR_TOPIC_NO_CHUNK);
    assert_int_equal(nr_topic_loan(&topic), NR_TOPIC_NO_CHUNK);
    (void)chunk;
}

static void test_hands(void **state)
{
    struct nr_topic_message held[NR_TOPIC_HELD_MOST], more;
    struct nr_topic_reader reader;
    uint32_t blocker;

    (void)state;
    topic_make(100, CURSORS);
    nr_topic_join(&topic, &reader, NR_TOPIC_NOW, 0);
    for (uint64_t v = 0; v < 100; v++)
        assert_int_equal(publish(v), 0);
    for (int i = 0; i < NR_TOPIC_HELD_MOST; i++) {
        assert_int_equal(nr_topic_next(&topic, &reader, &held[i], &blocker), 0);
        nr_topic_take(&reader, &held[i]);
    }
    assert_int_equal(nr_topic_next(&topic, &reader, &more, &blocker), -ENOBUFS);
    for (int i = NR_TOPIC_HELD_MOST - 1; i > 0; i--) /* the oldest last */
        nr_topic_done(&topic, &reader, held[i].position);
    assert_int_equal(nr_topic_slowest(&topic, &blocker), 0);
    nr_topic_give_back(&reader, 0);
    assert_true(nr_topic_may_read(&topic, &reader));
    assert_int_equal(nr_topic_next(&topic, &reader, &more, &blocker), 0);
    assert_int_equal(more.position, 0);
    assert_int_equal(more.deliveries, 2);
    nr_topic_take(&reader, &more);
    nr_topic_done(&topic, &reader, 0);
    assert_int_equal(nr_topic_slowest(&topic, &blocker), NR_TOPIC_HELD_MOST);
    assert_int_equal(blocker, topic.me);
    assert_int_equal(receive(&reader), NR_TOPIC_HELD_MOST);
}

/* What a publisher notes of the subscribers it looks at again only when it has to. */
static void test_limit_is_noted(void **state)
{
    struct nr_topic_reader readers[2];
    uint32_t blocker;

    (void)state;
    topic_make(3, CURSORS);
    topic.shared->cursors_end = 2;
    topic.cursors[1].position = 1;
    for (uint64_t v = 0; v < 3; v++)
        assert_int_equal(publish(2 * v), 0);
    assert_int_equal(publish(0), -EAGAIN);
    topic_make(3, CURSORS);
    assert_int_equal(publish(0), 0);
    assert_true(topic.checked_joins == 0 && topic.limit == UINT64_MAX);
    nr_topic_join(&topic, &readers[0], NR_TOPIC_NOW, 0);
    assert_int_equal(topic.shared->cursors_end, 2);
    for (uint64_t v = 2; v <= 6; v += 2)
        assert_int_equal(publish(v), 0);
    assert_true(topic.checked_joins == 1 && topic.limit == 4);
    assert_int_equal(receive(&readers[0]), 2);
    assert_int_equal(receive(&readers[0]), 4);
    assert_int_equal(publish(8), 0);
    assert_true(topic.limit == 6);
    topic.cursors[1].position = 1; /* nobody looks */
    assert_int_equal(publish(10), 0);
    topic.cursors[1].position = 4;
    /* The first of the slowest; whoever has an index below counts as well, and one that was never used does not. */
    topic.me = 3;
    nr_topic_join(&topic, &readers[1], NR_TOPIC_OLDEST, 0);
    assert_int_equal(topic.shared->cursors_end, 4);
    assert_int_equal(nr_topic_slowest(&topic, &blocker), 3);
    assert_int_equal(blocker, 1);
    topic.me = 0;
    nr_topic_join(&topic, &readers[0], NR_TOPIC_NOW, 0);
    assert_int_equal(topic.shared->cursors_end, 4);
    topic.shared->cursors_end = 3;
    topic.cursors[3].position = 1;
    assert_int_equal(nr_topic_slowest(&topic, &blocker), 3);
    topic.shared->cursors_end = 4711;
    topic.cursors[3].position = 3;
    topic.claims[0] = 1; /* behind the cursors */
    assert_int_equal(nr_topic_slowest(&topic, &blocker), 2);
    assert_int_equal(blocker, 3);
}

static bool publish_chunk(uint32_t chunk)
{
    const struct nr_topic_label label = {.size_bytes = 8, .sender_pid = 4711, .type = -1};
    struct nr_topic_claim claim;
    uint32_t blocker;

    assert_int_equal(nr_topic_claim(&topic, &claim, &blocker), 0);
    assert_int_equal(topic.shared->tail, claim.position + 1);
    return nr_topic_publish(&topic, &claim, chunk, &label);
}

/* Not at once what was just free, but what the cache has. */
static void test_chunks(void **state)
{
    struct nr_topic_message message;
    uint32_t blocker;

    (void)state;
    topic_make(2, 0); /* 3 slots, 5 chunks */
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(nr_topic_loan(&topic), i);
    nr_topic_unloan(&topic, 2);
    assert_int_equal(nr_topic_loan(&topic), 3);
    assert_int_equal(nr_topic_loan(&topic), 4);
    assert_int_equal(nr_topic_loan(&topic), 2);
    assert_int_equal(nr_topic_loan(&topic), NR_TOPIC_NO_CHUNK);
    assert_false(publish_chunk(2));
    assert_int_equal(nr_topic_peek(&topic, 0, &message, &blocker), 0);
    assert_true(message.label.sender_pid == 4711 && message.label.type == -1);
    assert_ptr_equal(message.payload, nr_topic_chunk(&topic, 2));
    assert_false(publish_chunk(NR_TOPIC_NO_CHUNK));
    assert_false(publish_chunk(4));
    assert_true(publish_chunk(NR_TOPIC_NO_CHUNK)); /* where 2 was */
    assert_false(publish_chunk(NR_TOPIC_NO_CHUNK));
    nr_topic_unloan(&topic, 0);
    assert_int_equal(nr_topic_loan(&topic), 2);
    /* A name that is none. */
    slot_of(2)->chunk = topic.chunks_count + 1;
    topic.chunk_words[topic.chunks_count] = topic.chunk_words[4];
    assert_false(publish_chunk(NR_TOPIC_NO_CHUNK));
    assert_true(topic.chunk_words[topic.chunks_count] == topic.chunk_words[4]);
}

/* Its slot, the chunk of the last lap, the new one, its loan and its cursor; and nothing else. */
static void test_repair(void **state)
{
    struct nr_topic_reader reader;
    struct nr_topic_claim claim;
    uint32_t blocker;

    (void)state;
    topic_make(2, CURSORS);
    for (uint32_t i = 0; i < 3; i++)
        assert_false(publish_chunk(nr_topic_loan(&topic)));
    topic.me = 3;
    nr_topic_join(&topic, &reader, NR_TOPIC_NOW, 0);
    assert_int_equal(nr_topic_loan(&topic), 3);
    assert_int_equal(nr_topic_loan(&topic), 4);
    assert_int_equal(nr_topic_claim(&topic, &claim, &blocker), 0);
    uint64_t loaned = topic.chunk_words[4];
    topic.chunk_words[topic.chunks_count] = loaned;         /* there is none */
    topic.claims[topic.slots_count] = UINT64_MAX << 16 | 3; /* nor that */
    nr_topic_repair(&topic, 2);
    assert_true(topic.chunk_words[0] && topic.chunk_words[3] && peek(3) == -EBUSY);
    nr_topic_repair(&topic, 3);
    assert_int_equal(peek(3), -ENOMSG);
    assert_true(!topic.chunk_words[0] && topic.chunk_words[1] && topic.chunk_words[2]);
    assert_true(!topic.chunk_words[3] && !topic.chunk_words[4]);
    assert_true(topic.chunk_words[topic.chunks_count] == loaned);
    assert_int_equal(nr_topic_slowest(&topic, &blocker), UINT64_MAX);
    /* It had said that the new one is kept, and not published it. */
    assert_int_equal(nr_topic_loan(&topic), 0);
    assert_int_equal(nr_topic_claim(&topic, &claim, &blocker), 0);
    claim.slot->chunk = 1;
    topic.chunk_words[0] = ((claim.position + 1) << 16) | (KEPT << 12);
    nr_topic_repair(&topic, 3);
    assert_true(!topic.chunk_words[0] && peek(claim.position) == -ENOMSG);
    uint64_t first = topic.claims[0];
    nr_topic_repair(&topic, CURSORS); /* no subscriber can have that number */
    assert_true(topic.claims[0] == first);
}

/* What it has published stays; so does what was never claimed, though the word of that names owner 0. */
static void test_repair_changes_nothing(void **state)
{
    (void)state;
    topic_make(3, CURSORS);
    topic.me = 0;
    assert_int_equal(publish(1), 0);
    assert_int_equal(publish(2), 0);
    size_t bytes = nr_topic_bytes(&topic);
    void *before = malloc(bytes);
    assert_non_null(before);
    memcpy(before, memory, bytes);
    nr_topic_repair(&topic, 0);
    assert_memory_equal(memory, before, bytes);
    free(before);
}

/* Overwriting: only who reads close behind the horizon looks at the claims, which publishers keep changing. */
static void test_horizon(void **state)
{
    struct nr_topic_message first, second;
    struct nr_topic_claim claim;
    uint32_t blocker;

    (void)state;
    topic_make(8, 0); /* 9 slots; the horizon goes up by 3 */
    for (uint64_t v = 0; v < 9; v++) {
        assert_int_equal(publish(2 * v), 0);
        assert_int_equal(topic.shared->horizon, v - v % 3 + 3);
    }
    assert_int_equal(nr_topic_peek(&topic, 0, &first, &blocker), 0);
    assert_int_equal(nr_topic_peek(&topic, 1, &second, &blocker), 0);
    *claim_of(0) = 17 << 16; /* nobody looks */
    assert_true(nr_topic_is_intact(&topic, &first));
    *claim_of(0) = 1 << 16;
    assert_int_equal(nr_topic_claim(&topic, &claim, &blocker), 0);
    assert_int_equal(topic.shared->horizon, 12);
    assert_false(nr_topic_is_intact(&topic, &first));
    assert_true(nr_topic_is_intact(&topic, &second)); /* within the horizon, and not claimed */
    nr_topic_publish(&topic, &claim, NR_TOPIC_NO_CHUNK, &(struct nr_topic_label){0});
    topic.shared->horizon = 11; /* behind what is claimed: the next one raises it */
    assert_int_equal(publish(2), 0);
    assert_int_equal(topic.shared->horizon, 11);
    assert_int_equal(publish(4), 0);
    assert_int_equal(topic.shared->horizon, 14);
    assert_false(nr_topic_is_intact(&topic, &second));
    assert_true(nr_topic_may_claim(&topic, false));
    topic_make(8, CURSORS); /* lossless: there is none */
    assert_int_equal(publish(2), 0);
    assert_int_equal(topic.shared->horizon, 0);
}

/* -- one thing at a time ----------------------------------------------------------------------- */

static void test_room(void **state)
{
    struct nr_topic_reader reader;
    struct nr_topic_claim claim;
    uint32_t blocker, chunks[8];

    (void)state;
    topic_make(3, CURSORS);
    for (uint64_t v = 0; v < 10; v++) /* without a subscriber nobody waits */
        assert_int_equal(publish(v), 0);
    nr_topic_drop(&topic);
    nr_topic_join(&topic, &reader, NR_TOPIC_NOW, 0);
    assert_int_equal(reader.dropped, 1);
    for (uint64_t v = 0; v < 3; v++) {
        assert_true(nr_topic_may_claim(&topic, false));
        assert_int_equal(publish(v), 0);
    }
    assert_false(nr_topic_may_claim(&topic, false));
    assert_int_equal(nr_topic_claim(&topic, &claim, &blocker), -EAGAIN);
    assert_int_equal(blocker, topic.me);
    assert_int_equal(receive(&reader), 0);
    assert_true(nr_topic_may_claim(&topic, false));
    nr_topic_leave(&topic);
    assert_int_equal(nr_topic_slowest(&topic, &blocker), UINT64_MAX);
    assert_int_equal(blocker, NR_TOPIC_NOBODY);
    for (uint64_t v = 0; v < 20; v += 2) /* none stands in a chunk any more */
        assert_int_equal(publish(v), 0);
    for (uint32_t i = 0; i < topic.chunks_count; i++) {
        assert_true(nr_topic_may_claim(&topic, true));
        chunks[i] = nr_topic_loan(&topic);
        assert_true(chunks[i] < topic.chunks_count);
    }
    assert_true(nr_topic_may_claim(&topic, false) && !nr_topic_may_claim(&topic, true));
    assert_int_equal(nr_topic_loan(&topic), NR_TOPIC_NO_CHUNK);
    nr_topic_unloan(&topic, chunks[2]);
    assert_int_equal(nr_topic_loan(&topic), chunks[2]);
}

/* Subscribers that wait are not disturbed by a claim, and ask who is in the middle only if they want to know. */
static void test_claims_stand_apart(void **state)
{
    struct nr_topic_message message;
    struct nr_topic_claim claim;
    uint32_t blocker = 4711;

    (void)state;
    topic_make(1, CURSORS);
    for (uint64_t v = 0; v < 6; v++) {
        uint64_t word = slot_of(v)->word;
        assert_int_equal(nr_topic_claim(&topic, &claim, &blocker), 0);
        assert_true(slot_of(v)->word == word);
        assert_int_equal(nr_topic_peek(&topic, v, &message, NULL), -EAGAIN);
        assert_int_equal(nr_topic_peek(&topic, v, &message, &blocker), -EBUSY);
        assert_int_equal(blocker, topic.me);
        assert_int_equal(nr_topic_tail(&topic), v + 1);
        nr_topic_publish(&topic, &claim, NR_TOPIC_NO_CHUNK, &(struct nr_topic_label){0});
        assert_int_equal(nr_topic_peek(&topic, v, &message, NULL), 0);
        assert_int_equal(nr_topic_peek(&topic, v + 1, &message, &blocker), -EAGAIN);
    }
}

static void test_what_is_there(void **state)
{
    struct nr_topic_reader reader;
    struct nr_topic_message message;
    struct nr_topic_claim claim;
    uint32_t blocker;

    (void)state;
    topic_make(3, 0);
    nr_topic_join(&topic, &reader, NR_TOPIC_NOW, 0);
    assert_false(nr_topic_may_read(&topic, &reader));
    assert_int_equal(peek(0), -EAGAIN);
    topic.me = 2;
    assert_int_equal(nr_topic_claim(&topic, &claim, &blocker), 0);
    assert_false(nr_topic_may_read(&topic, &reader));
    assert_int_equal(nr_topic_peek(&topic, 0, &message, &blocker), -EBUSY);
    assert_int_equal(blocker, 2);
    nr_topic_repair(&topic, 3); /* not that one */
    assert_int_equal(peek(0), -EBUSY);
    nr_topic_repair(&topic, 2);
    assert_true(nr_topic_may_read(&topic, &reader));
    assert_int_equal(peek(0), -ENOMSG);
    for (uint64_t v = 1; v <= 3; v++)
        assert_int_equal(publish(v), 0);
    assert_int_equal(peek(0), -ENOMSG);
    assert_int_equal(nr_topic_peek(&topic, 1, &message, &blocker), 0);
    assert_int_equal(publish(4), 0);
    assert_int_equal(peek(0), -EOVERFLOW);
    assert_true(nr_topic_may_read(&topic, &reader));
    assert_true(nr_topic_is_intact(&topic, &message));
    assert_int_equal(publish(6), 0);
    assert_false(nr_topic_is_intact(&topic, &message));
    assert_int_equal(nr_topic_claim(&topic, &claim, &blocker), 0); /* over it, and not published */
    reader.next = 2;
    assert_true(nr_topic_may_read(&topic, &reader));
}

/* A whole lap behind it is still being written. */
static void test_a_lap_behind(void **state)
{
    struct nr_topic_claim claim;
    uint32_t blocker;

    (void)state;
    topic_make(3, 0);
    topic.me = 3;
    assert_int_equal(nr_topic_claim(&topic, &claim, &blocker), 0);
    topic.me = 1;
    for (uint64_t v = 0; v < 6; v += 2)
        assert_int_equal(publish(v), 0);
    assert_int_equal(nr_topic_claim(&topic, &claim, &blocker), -EBUSY);
    assert_int_equal(blocker, 3);
}

static void test_limits(void **state)
{
    static const struct {
        uint32_t chunk, size_bytes;
        int expected;
    } cases[] = {
        {0, 32, 0}, {0, 33, -EBADMSG}, /* in the slot */
        {1, 64, 0}, {1, 65, -EBADMSG}, /* in a chunk */
        {6, 64, 0}, {7, 64, -EBADMSG}, {UINT32_MAX, 8, -EBADMSG},
    };
    struct nr_topic_claim claim;
    uint32_t blocker;

    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        topic_make(3, 0);
        slot_of(0)->word = (1 << 16) | (READY << 12);
        slot_of(0)->size_bytes = cases[i].size_bytes;
        slot_of(0)->chunk = cases[i].chunk;
        assert_int_equal(peek(0), cases[i].expected);
    }
    topic_make(3, 0); /* words of no lap that there is */
    topic_advance(1000);
    *claim_of(1000) = 996 << 16;
    blocker = 2;
    assert_int_equal(nr_topic_claim(&topic, &claim, &blocker), -EBADMSG);
    assert_int_equal(blocker, NR_TOPIC_NOBODY);
    *claim_of(1000) = 0;
    assert_int_equal(nr_topic_claim(&topic, &claim, &blocker), -EBADMSG);
    *claim_of(1000) = 997 << 16;
    assert_int_equal(nr_topic_claim(&topic, &claim, &blocker), 0);
    for (uint64_t first = 3; first < 5; first++) { /* never used: in the first lap only */
        topic_make(3, 0);
        topic.shared->tail = first;
        assert_int_equal(nr_topic_claim(&topic, &claim, &blocker), first == 3 ? 0 : -EBADMSG);
    }
}

static void test_starts(void **state)
{
    static const struct {
        enum nr_topic_start start;
        uint64_t count, next;
    } cases[] = {
        {NR_TOPIC_NOW, 0, 20},  {NR_TOPIC_OLDEST, 0, 15}, {NR_TOPIC_LAST, 0, 20},
        {NR_TOPIC_LAST, 1, 19}, {NR_TOPIC_LAST, 5, 15},   {NR_TOPIC_LAST, 6, 15},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (uint32_t cursors = 0; cursors <= CURSORS; cursors += CURSORS) {
            struct nr_topic_reader reader;
            uint32_t index;
            topic_make(5, cursors);
            for (uint64_t v = 0; v < 20; v++)
                assert_int_equal(publish(v), 0);
            nr_topic_join(&topic, &reader, cases[i].start, cases[i].count);
            assert_int_equal(reader.next, cases[i].next);
            assert_int_equal(nr_topic_slowest(&topic, &index),
                             cursors ? cases[i].next : UINT64_MAX);
        }
}

/* Overwriting: on with the oldest; with younger ones, the more often it was in vain; never back, never beyond. */
static void test_catch_up(void **state)
{
    static const struct {
        uint64_t tail, next;
        unsigned times;
        uint64_t expected;
    } cases[] = {
        {20, 0, 0, 12},  {20, 0, 1, 15},  {20, 0, 2, 18}, {20, 0, 3, 19}, {20, 11, 0, 12},
        {20, 12, 0, 13}, {20, 18, 0, 19}, {9, 0, 0, 1},   {10, 0, 0, 2},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct nr_topic_reader reader = {.next = cases[i].next, .lost = 100};
        topic_make(8, 0);
        for (uint64_t v = 0; v < cases[i].tail; v++)
            assert_int_equal(publish(2 * v), 0);
        nr_topic_catch_up(&topic, &reader, cases[i].times);
        assert_int_equal(reader.next, cases[i].expected);
        assert_int_equal(reader.lost, 100 + cases[i].expected - cases[i].next);
    }
    topic_make(4, 0); /* the youngest that there is */
    for (uint64_t v = 0; v < 20; v++)
        assert_int_equal(publish(2 * v), 0);
    for (unsigned times = 2; times < 4; times++) {
        struct nr_topic_reader late = {0};
        nr_topic_catch_up(&topic, &late, times);
        assert_int_equal(late.next, 19);
    }
    struct nr_topic_reader reader = {0}; /* there is not as much */
    topic_make(8, 0);
    assert_int_equal(publish(0), 0);
    assert_int_equal(publish(2), 0);
    nr_topic_catch_up(&topic, &reader, 2);
    assert_int_equal(reader.next, 2);
}

/* However often it comes again. */
static void test_deliveries(void **state)
{
    struct nr_topic_reader reader;
    struct nr_topic_message message;
    uint32_t blocker;

    (void)state;
    topic_make(3, CURSORS);
    nr_topic_join(&topic, &reader, NR_TOPIC_NOW, 0);
    assert_int_equal(publish(0), 0);
    assert_int_equal(publish(2), 0);
    for (unsigned i = 1; i <= 300; i++) {
        assert_int_equal(nr_topic_next(&topic, &reader, &message, &blocker), 0);
        assert_int_equal(message.position, 0);
        assert_int_equal(message.deliveries, i < 256 ? i : 256);
        nr_topic_take(&reader, &message);
        nr_topic_give_back(&reader, 0);
    }
    nr_topic_next(&topic, &reader, &message, &blocker);
    nr_topic_take(&reader, &message);
    nr_topic_done(&topic, &reader, 0);
    assert_int_equal(nr_topic_next(&topic, &reader, &message, &blocker), 0);
    assert_int_equal(message.position, 1);
    assert_int_equal(message.deliveries, 1);
    for (uint64_t v = 0; v < 63; v++) { /* until one stands where position 0 was counted */
        assert_int_equal(publish(2 * v), 0);
        assert_true(receive(&reader) >= 0);
    }
    assert_int_equal(nr_topic_next(&topic, &reader, &message, &blocker), 0);
    assert_int_equal(message.position, NR_TOPIC_HELD_MOST);
    assert_int_equal(message.deliveries, 1);
}

/* One that was given back, when those before it are done with. */
static void test_given_back_behind(void **state)
{
    struct nr_topic_message held[3], message;
    struct nr_topic_reader reader;
    uint32_t blocker;

    (void)state;
    topic_make(4, CURSORS);
    nr_topic_join(&topic, &reader, NR_TOPIC_NOW, 0);
    for (uint64_t v = 0; v < 3; v++)
        assert_int_equal(publish(2 * v), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(nr_topic_next(&topic, &reader, &held[i], &blocker), 0);
        nr_topic_take(&reader, &held[i]);
    }
    assert_false(nr_topic_may_read(&topic, &reader));
    nr_topic_give_back(&reader, held[1].position);
    assert_true(nr_topic_may_read(&topic, &reader));
    assert_int_equal(publish(6), 0);
    nr_topic_done(&topic, &reader, held[2].position);
    nr_topic_done(&topic, &reader, held[0].position);
    assert_int_equal(nr_topic_next(&topic, &reader, &message, &blocker), 0);
    assert_int_equal(message.position, 1);
    nr_topic_take(&reader, &message);
    assert_int_equal(nr_topic_next(&topic, &reader, &message, &blocker), 0);
    assert_int_equal(message.position, 3);
    nr_topic_done(&topic, &reader, 1);
    assert_int_equal(nr_topic_slowest(&topic, &blocker), 3);
}

/* Whatever stands there: no crash, no walk without end, an error. */
static void test_damaged(void **state)
{
    struct nr_topic_reader reader;
    struct nr_topic_message message;
    struct nr_topic_claim claim;
    uint32_t blocker;

    (void)state;
    srand(17);
    memset(&message, 0, sizeof message);
    for (int round = 0; round < 2000; round++) {
        topic_make(5, round % 2 ? CURSORS : 0);
        uint64_t *words = memory;
        size_t count = nr_topic_bytes(&topic) / sizeof *words;
        for (size_t i = 0; i < count; i++)
            if (rand() % 3 == 0)
                words[i] = (uint64_t)rand() << (rand() % 34);
        nr_topic_join(&topic, &reader, (enum nr_topic_start)(round % 3), 3);
        for (int i = 0; i < 10; i++) {
            if (nr_topic_claim(&topic, &claim, &blocker) == 0)
                nr_topic_publish(&topic, &claim, nr_topic_loan(&topic),
                                 &(struct nr_topic_label){.size_bytes = 8});
            if (nr_topic_peek(&topic, reader.next, &message, &blocker) == 0)
                assert_true(message.label.size_bytes <= topic.chunk_bytes);
            nr_topic_is_intact(&topic, &message);
            nr_topic_may_read(&topic, &reader);
            nr_topic_catch_up(&topic, &reader, (unsigned)i);
        }
        nr_topic_repair(&topic, (uint32_t)round % 8);
        nr_topic_slowest(&topic, &blocker);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_and_positions),
        cmocka_unit_test(test_last_with_skips),
        cmocka_unit_test(test_hands),
        cmocka_unit_test(test_limit_is_noted),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_repair),
        cmocka_unit_test(test_repair_changes_nothing),
        cmocka_unit_test(test_horizon),
        cmocka_unit_test(test_claims_stand_apart),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_what_is_there),
        cmocka_unit_test(test_a_lap_behind),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_starts),
        cmocka_unit_test(test_catch_up),
        cmocka_unit_test(test_deliveries),
        cmocka_unit_test(test_given_back_behind),
        cmocka_unit_test(test_damaged),
    };

    return cmocka_run_group_tests_name("topic", tests, NULL, teardown);
}
