/* SPDX-License-Identifier: MIT */
/* cell -- data/cell.c by itself: numbers of buffers, values of each size, what a reader is told, damaged memory */
#include "data/cell.h"
#include "data/words.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 100, PID = 4711 };

static struct nr_cell cell;
static void *memory;

static void cell_make(uint32_t buffers, size_t value_bytes)
{
    cell = (struct nr_cell){.buffers_count = buffers, .value_bytes = value_bytes};
    free(memory);
    memory = aligned_alloc(64, nr_cell_bytes(&cell));
    assert_non_null(memory);
    memset(memory, 0, nr_cell_bytes(&cell));
    nr_cell_attach(&cell, memory);
}

static int teardown(void **state)
{
    (void)state;
    free(memory);
    memory = NULL;
    return 0;
}

static void fill(char *data, size_t size_bytes, uint64_t version)
{
    for (size_t i = 0; i < size_bytes; i++)
        data[i] = (char)(version * 31 + i);
}

static void write_value(uint64_t version, size_t size_bytes)
{
    const struct nr_cell_value value = {
        .size_bytes = size_bytes, .type = -(int64_t)version, .sender_pid = PID};
    struct nr_cell_buffer *buffer = nr_cell_begin(&cell);
    char data[MOST];

    fill(data, size_bytes, version);
    nr_words_store(buffer->payload, data, size_bytes);
    nr_cell_publish(&cell, buffer, &value);
    assert_int_equal(nr_cell_latest(&cell), version);
}

static void read_value(uint64_t seen, uint64_t version, size_t size_bytes)
{
    struct nr_cell_value value = {.version = 0};
    char data[MOST], expected[MOST];

    fill(expected, size_bytes, version);
    assert_int_equal(nr_cell_read(&cell, seen, data, size_bytes, &value), 0);
    assert_int_equal(value.version, version);
    assert_int_equal(value.size_bytes, size_bytes);
    assert_int_equal(value.type, -(int64_t)version);
    assert_int_equal(value.sender_pid, PID);
    assert_memory_equal(data, expected, size_bytes);
}

static int read_fails(uint64_t seen, size_t capacity_bytes, struct nr_cell_value *ret)
{
    char data[MOST];

    return nr_cell_read(&cell, seen, data, capacity_bytes, ret);
}

static void test_buffers_and_sizes(void **state)
{
    (void)state;
    for (uint32_t buffers = NR_CELL_BUFFERS_LEAST; buffers <= 6; buffers++)
        for (size_t most = 0; most <= MOST; most++) {
            struct nr_cell_value value;
            cell_make(buffers, most);
            assert_int_equal(read_fails(0, MOST, &value), -EAGAIN);
            for (uint64_t version = 1; version <= 2 * buffers + 1; version++) {
                size_t size_bytes = version % 2 ? most : most / 2;
                write_value(version, size_bytes);
                read_value(version - 1, version, size_bytes);
                read_value(0, version, size_bytes);
                assert_int_equal(read_fails(version, MOST, &value), -EAGAIN);
            }
        }
}

static void test_what_is_being_written_disturbs_nobody(void **state)
{
    (void)state;
    cell_make(NR_CELL_BUFFERS_LEAST, 8);
    for (uint64_t version = 1; version <= 7; version++) {
        write_value(version, 8);
        struct nr_cell_buffer *buffer = nr_cell_begin(&cell);
        nr_words_store(buffer->payload, "garbage", 8);
        read_value(0, version, 8);
        assert_ptr_equal(nr_cell_begin(&cell), buffer); /* the next writer takes the same */
    }
}

static void test_no_room(void **state)
{
    struct nr_cell_value value = {.version = 0};

    (void)state;
    cell_make(NR_CELL_BUFFERS_LEAST, 64);
    write_value(1, 40);
    for (size_t capacity = 0; capacity < 40; capacity++) {
        assert_int_equal(read_fails(0, capacity, &value), -EMSGSIZE);
        assert_int_equal(value.size_bytes, 40);
        assert_int_equal(value.version, 1);
    }
    read_value(0, 1, 40);
}

/* The buffer of the newest version. */
static struct nr_cell_buffer *newest(void)
{
    size_t stride = (sizeof(struct nr_cell_buffer) + cell.value_bytes + 63) / 64 * 64;

    return (void *)(cell.buffers + nr_cell_latest(&cell) % cell.buffers_count * stride);
}

static void test_damaged(void **state)
{
    struct nr_cell_value value;

    (void)state;
    cell_make(4, 64);
    for (uint64_t version = 1; version <= 6; version++) {
        write_value(version, 64);
        newest()->size_bytes = 65;
        assert_int_equal(read_fails(0, MOST, &value), -EBADMSG);
        newest()->size_bytes = UINT32_MAX;
        assert_int_equal(read_fails(0, MOST, &value), -EBADMSG);
        newest()->size_bytes = 64;
        read_value(0, version, 64);
        /* `latest` names what is not there. */
        newest()->version = version - 1;
        assert_int_equal(read_fails(0, MOST, &value), -EBADMSG);
        newest()->version = version;
    }
    cell.shared->latest = UINT64_MAX;
    assert_int_equal(read_fails(0, MOST, &value), -EBADMSG);
    assert_int_equal(read_fails(UINT64_MAX, MOST, &value), -EAGAIN);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_buffers_and_sizes, teardown),
        cmocka_unit_test_teardown(test_what_is_being_written_disturbs_nobody, teardown),
        cmocka_unit_test_teardown(test_no_room, teardown),
        cmocka_unit_test_teardown(test_damaged, teardown),
    };

    return cmocka_run_group_tests_name("cell", tests, NULL, NULL);
}
