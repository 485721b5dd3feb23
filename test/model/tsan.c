/* SPDX-License-Identifier: MIT */
/*
 * What gcc and clang call for -fsanitize=thread: the names and types are theirs (sanitizer/tsan_interface_atomic.h,
 * compiler-rt). Copies come through the linker's --wrap, since compilers leave them as they are.
 */
#include "engine.h"
#include <string.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#if defined(__clang__)
#pragma GCC diagnostic ignored "-Wmissing-variable-declarations"
#endif
#define SEEN __attribute__((visibility("default")))

SEEN void __tsan_init(void)
{
}
SEEN void __tsan_func_entry(void *caller)
{
    (void)caller;
}
SEEN void __tsan_func_exit(void)
{
}

#define PLAIN(size)                                                                                \
    SEEN void __tsan_read##size(void *place)                                                       \
    {                                                                                              \
        model_plain(place, size, false);                                                           \
    }                                                                                              \
    SEEN void __tsan_write##size(void *place)                                                      \
    {                                                                                              \
        model_plain(place, size, true);                                                            \
    }                                                                                              \
    SEEN void __tsan_unaligned_read##size(void *place)                                             \
    {                                                                                              \
        model_plain(place, size, false);                                                           \
    }                                                                                              \
    SEEN void __tsan_unaligned_write##size(void *place)                                            \
    {                                                                                              \
        model_plain(place, size, true);                                                            \
    }                                                                                              \
    SEEN void __tsan_volatile_read##size(void *place)                                              \
    {                                                                                              \
        model_plain(place, size, false);                                                           \
    }                                                                                              \
    SEEN void __tsan_volatile_write##size(void *place)                                             \
    {                                                                                              \
        model_plain(place, size, true);                                                            \
    }                                                                                              \
    SEEN void __tsan_read_write##size(void *place)                                                 \
    {                                                                                              \
        model_plain(place, size, false);                                                           \
        model_plain(place, size, true);                                                            \
    }                                                                                              \
    SEEN void __tsan_unaligned_read_write##size(void *place)                                       \
    {                                                                                              \
        model_plain(place, size, false);                                                           \
        model_plain(place, size, true);                                                            \
    }
PLAIN(1)
PLAIN(2)
PLAIN(4)
PLAIN(8)
PLAIN(16)

SEEN void __tsan_read_range(void *place, size_t size)
{
    model_plain(place, size, false);
}
SEEN void __tsan_write_range(void *place, size_t size)
{
    model_plain(place, size, true);
}

static uint64_t model_op_exchange(uint64_t old, uint64_t operand)
{
    (void)old;
    return operand;
}
static uint64_t model_op_fetch_add(uint64_t old, uint64_t operand)
{
    return old + operand;
}
static uint64_t model_op_fetch_sub(uint64_t old, uint64_t operand)
{
    return old - operand;
}
static uint64_t model_op_fetch_and(uint64_t old, uint64_t operand)
{
    return old & operand;
}
static uint64_t model_op_fetch_or(uint64_t old, uint64_t operand)
{
    return old | operand;
}
static uint64_t model_op_fetch_xor(uint64_t old, uint64_t operand)
{
    return old ^ operand;
}

#define CHANGE(bits, name)                                                                         \
    SEEN uint##bits##_t __tsan_atomic##bits##_##name(volatile uint##bits##_t *place,               \
                                                     uint##bits##_t operand, int order)            \
    {                                                                                              \
        return (uint##bits##_t)model_exchange(place, bits / 8, operand, order, model_op_##name);   \
    }
#define COMPARE(bits, name, is_weak)                                                               \
    SEEN int __tsan_atomic##bits##_compare_exchange_##name(                                        \
        volatile uint##bits##_t *place, uint##bits##_t *expected, uint##bits##_t value, int order, \
        int failure_order)                                                                         \
    {                                                                                              \
        uint64_t found = *expected;                                                                \
        bool is_done =                                                                             \
            model_compare_exchange(place, bits / 8, &found, value, order, failure_order, is_weak); \
        *expected = (uint##bits##_t)found;                                                         \
        return is_done;                                                                            \
    }
/* clang's only form of it, weak or strong: the value that was found. */
#define COMPARE_VALUE(bits)                                                                        \
    SEEN uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(                                \
        volatile uint##bits##_t *place, uint##bits##_t expected, uint##bits##_t value, int order,  \
        int failure_order)                                                                         \
    {                                                                                              \
        uint64_t found = expected;                                                                 \
        model_compare_exchange(place, bits / 8, &found, value, order, failure_order, false);       \
        return (uint##bits##_t)found;                                                              \
    }
#define ATOMIC(bits)                                                                               \
    SEEN uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *place,           \
                                                   int order)                                      \
    {                                                                                              \
        return (uint##bits##_t)model_load(place, bits / 8, order);                                 \
    }                                                                                              \
    SEEN void __tsan_atomic##bits##_store(volatile uint##bits##_t *place, uint##bits##_t value,    \
                                          int order)                                               \
    {                                                                                              \
        model_store(place, bits / 8, value, order);                                                \
    }                                                                                              \
    CHANGE(bits, exchange)                                                                         \
    CHANGE(bits, fetch_add)                                                                        \
    CHANGE(bits, fetch_sub)                                                                        \
    CHANGE(bits, fetch_and)                                                                        \
    CHANGE(bits, fetch_or)                                                                         \
    CHANGE(bits, fetch_xor)                                                                        \
    COMPARE(bits, strong, false)                                                                   \
    COMPARE(bits, weak, true)                                                                      \
    COMPARE_VALUE(bits)
ATOMIC(8)
ATOMIC(16)
ATOMIC(32)
ATOMIC(64)

SEEN void __tsan_atomic_thread_fence(int order)
{
    model_fence(order);
}
SEEN void __tsan_atomic_signal_fence(int order)
{
    (void)order;
}

/* -- copies ----------------------------------------------------------------------------------- */

void *__real_memcpy(void *to, const void *from, size_t size);
void *__real_memmove(void *to, const void *from, size_t size);
void *__real_memset(void *to, int byte, size_t size);

/* Killed before, or in the middle. */
static size_t model_written(void *to, size_t size)
{
    model_plain(to, size, true);
    return size / 2;
}

SEEN void *__wrap_memcpy(void *to, const void *from, size_t size)
{
    size_t half = 0;

    if (model_is_inside && model_is_shared(from))
        model_plain(from, size, false);
    if (model_is_inside && model_is_shared(to) && size) {
        half = model_written(to, size);
        __real_memcpy(to, from, half);
        model_point_write(true);
    }
    __real_memcpy((char *)to + half, (const char *)from + half, size - half);
    return to;
}

SEEN void *__wrap_memmove(void *to, const void *from, size_t size)
{
    if (model_is_inside && model_is_shared(from))
        model_plain(from, size, false);
    if (model_is_inside && model_is_shared(to))
        model_plain(to, size, true);
    return __real_memmove(to, from, size);
}

SEEN void *__wrap_memset(void *to, int byte, size_t size)
{
    size_t half = 0;

    if (model_is_inside && model_is_shared(to) && size) {
        half = model_written(to, size);
        __real_memset(to, byte, half);
        model_point_write(true);
    }
    __real_memset((char *)to + half, byte, size - half);
    return to;
}
