/* SPDX-License-Identifier: MIT */
/* topic -- data/topic.c by itself: rings of any size, far positions, what the dead leave, damaged memory */
#include "data/topic.h"
#include "data/words.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CURSORS = 4, MEMORY_BYTES = 64 * 1024 };

static struct nr_topic topic;
static void *memory;

static void topic_make(uint32_t capacity, uint32_t cursors)
{
    free(memory);
    memory = aligned_alloc(64, MEMORY_BYTES);
    assert_non_null(memory);
    memset(memory, 0, MEMORY_BYTES);
    topic = (struct nr_topic){
        .slots_count = capacity + 1,
        .slot_bytes = 64,
        .chunks_count = capacity + 3,
        .chunk_bytes = 64,
        .cursors_count = cursors,
        .me = 1,
    };
    assert_true(nr_topic_bytes(&topic) <= MEMORY_BYTES);
    nr_topic_attach(&topic, memory);
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

/* All slots as if the ring had come to `position`. */
static void topic_advance(uint64_t position)
{
    for (uint64_t p = position - topic.slots_count; p < position; p++) {
        struct nr_topic_slot *slot =
            (void *)(topic.slots + p % topic.slots_count * topic.slot_bytes);
        slot->word = ((p + 1) << 16) | (3 << 12); /* SKIP */
    }
    topic.shared->tail = position;
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
        cmocka_unit_test(test_damaged),
    };

    return cmocka_run_group_tests_name("topic", tests, NULL, teardown);
}
