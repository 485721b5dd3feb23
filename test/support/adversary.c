/* SPDX-License-Identifier: MIT */
/*
 * Contents   the segments - what is written - the functions that the compiler calls
 *
 * Nothing here is itself compiled with -fsanitize=thread.
 */
#include "adversary.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>

/* -- the segments ---------------------------------------------------------------------------- */

enum { SEGMENTS = 16 };
#define WALL ((size_t)1 << 32)

static struct segment {
    char *memory;
    size_t size_bytes;
    ino_t file;
    bool is_read_only;
} segments[SEGMENTS];

unsigned long nr_adversary_loads_count, nr_adversary_changes_count, nr_adversary_loads_most;
static unsigned long loads_before;

void *__real_mmap64(void *address, size_t size_bytes, int protection, int flags, int fd,
                    off_t offset);
int __real_munmap(void *address, size_t size_bytes);
void *__wrap_mmap64(void *address, size_t size_bytes, int protection, int flags, int fd,
                    off_t offset);
int __wrap_munmap(void *address, size_t size_bytes);

void *__wrap_mmap64(void *address, size_t size_bytes, int protection, int flags, int fd,
                    off_t offset)
{
    struct segment *segment = segments;

    if (fd < 0 || !(flags & MAP_SHARED))
        return __real_mmap64(address, size_bytes, protection, flags, fd, offset);
    while (segment->memory)
        if (++segment == segments + SEGMENTS)
            abort();
    char *wall = __real_mmap64(NULL, size_bytes + 2 * WALL, PROT_NONE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (wall == MAP_FAILED)
        return wall;
    void *memory =
        __real_mmap64(wall + WALL, size_bytes, protection, flags | MAP_FIXED, fd, offset);
    if (memory == MAP_FAILED) {
        int error = errno;
        __real_munmap(wall, size_bytes + 2 * WALL);
        errno = error;
        return memory;
    }
    struct stat status = {0};
    fstat(fd, &status);
    *segment = (struct segment){
        .memory = memory,
        .size_bytes = size_bytes,
        .file = status.st_ino,
        .is_read_only = !(protection & PROT_WRITE),
    };
    return memory;
}

int __wrap_munmap(void *address, size_t size_bytes)
{
    for (struct segment *segment = segments; segment < segments + SEGMENTS; segment++)
        if (segment->memory == address) {
            segment->memory = NULL;
            return __real_munmap((char *)address - WALL, size_bytes + 2 * WALL);
        }
    return __real_munmap(address, size_bytes);
}

bool nr_adversary_is_inside(const void *data, size_t size_bytes)
{
    const char *at = data;

    for (const struct segment *segment = segments; segment < segments + SEGMENTS; segment++)
        if (segment->memory && at >= segment->memory &&
            at + size_bytes <= segment->memory + segment->size_bytes)
            return true;
    return false;
}

unsigned long nr_adversary_loads(void)
{
    unsigned long count = nr_adversary_loads_count - loads_before;

    loads_before = nr_adversary_loads_count;
    return count;
}

/* -- what is written ------------------------------------------------------------------------- */

enum { REMEMBERED = 16 };

static uint64_t random_state, habit;
static unsigned one_in;
static uint64_t remembered[REMEMBERED]; /* words that were read somewhere in a segment */
static unsigned remembered_next;

static uint64_t next_random(void)
{
    uint64_t word = random_state += 0x9e3779b97f4a7c15u;

    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9u;
    word = (word ^ (word >> 27)) * 0x94d049bb133111ebu;
    return word ^ (word >> 31);
}

void nr_adversary_begin(uint64_t seed, unsigned rarity)
{
    random_state = seed;
    habit = next_random();
    one_in = rarity;
}

void nr_adversary_end(void)
{
    one_in = 0;
}

/* State words are [count:48 | state:4 | owner:12]: one part of it is changed, the rest stays likely. */
static uint64_t change_part(uint64_t word, uint64_t by)
{
    switch (by % 4) {
    case 0:
        return (word & ~(uint64_t)0xf000) | (by >> 8 & 15) << 12;
    case 1:
        return (word & ~(uint64_t)0xfff) | (by >> 8 & 7);
    case 2:
        return word + ((by >> 8 & 7) << 16) - (3 << 16);
    default:
        return word ^ (uint64_t)1 << (by >> 8 & 63);
    }
}

static uint64_t choose(uint64_t word, unsigned size_bytes)
{
    static const uint64_t edges[] = {0,
                                     1,
                                     7,
                                     8,
                                     15,
                                     16,
                                     63,
                                     64,
                                     255,
                                     4095,
                                     4096,
                                     4097,
                                     0x7fffffff,
                                     1u << 31,
                                     0xffffffff,
                                     0xfffffff8,
                                     (uint64_t)1 << 40,
                                     (uint64_t)1 << 63,
                                     UINT64_MAX,
                                     UINT64_MAX - 7};
    uint64_t by = next_random();
    bool is_stubborn = habit >> 62 == 0; /* in one episode of four */

    switch (is_stubborn ? 3 : by >> 32 & 7) {
    case 0:
        return edges[by % (sizeof edges / sizeof edges[0])];
    case 1:
        return word + (by & 63) - 32;
    case 2:
        return by;
    case 3: /* a habit: the same change again and again may keep a loop going */
        return change_part(word, habit);
    case 4:
        return remembered[by % REMEMBERED];
    case 5:
        return by % 512;
    case 6:
        return by % 8192 & ~(uint64_t)7;
    default:
        return size_bytes == 8 ? change_part(word, by) : word ^ (uint64_t)1 << (by & 31);
    }
}

/* Where the word at `at` can be written: this process may have mapped the file twice. NULL: nowhere. */
static char *writable(const struct segment *segment, char *at)
{
    const struct segment *other = segments;

    if (!segment->is_read_only)
        return at;
    while (!other->memory || other->file != segment->file || other->is_read_only ||
           other->size_bytes != segment->size_bytes)
        if (++other == segments + SEGMENTS)
            return NULL;
    return other->memory + (at - segment->memory);
}

static void loads(void *address, size_t size_bytes)
{
    const struct segment *segment = segments;
    const char *at = address;
    uint64_t word = 0;

    while (!segment->memory || at < segment->memory || at >= segment->memory + segment->size_bytes)
        if (++segment == segments + SEGMENTS)
            return;
    nr_adversary_loads_count++;
    if (nr_adversary_loads_most &&
        nr_adversary_loads_count - loads_before > nr_adversary_loads_most)
        abort();
    if (one_in == 0 || size_bytes > sizeof word)
        return;
    memcpy(&word, address, size_bytes);
    if (word)
        remembered[remembered_next++ % REMEMBERED] = word;
    char *place = writable(segment, address);
    if (next_random() % one_in || !place)
        return;
    word = choose(word, (unsigned)size_bytes);
    memcpy(place, &word, size_bytes);
    nr_adversary_changes_count++;
}

/* -- the functions that the compiler calls --------------------------------------------------- */

/* Their names and parameters are the compiler's. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#pragma GCC diagnostic ignored "-Wmissing-declarations"

void __tsan_init(void)
{
}
void __tsan_func_entry(void *caller)
{
    (void)caller;
}
void __tsan_func_exit(void)
{
}

/* Larger ones word by word: a structure that is copied is read in pieces. */
void __tsan_read_range(void *address, unsigned long size_bytes)
{
    for (unsigned long done = 0; done < size_bytes; done += 4)
        loads((char *)address + done, size_bytes - done < 4 ? size_bytes - done : 4);
}
void __tsan_write_range(void *address, unsigned long size_bytes)
{
    (void)address;
    (void)size_bytes;
}
void *__tsan_memcpy(void *to, void *from, unsigned long size_bytes)
{
    return memcpy(to, from, size_bytes);
}
void *__tsan_memmove(void *to, void *from, unsigned long size_bytes)
{
    return memmove(to, from, size_bytes);
}
void *__tsan_memset(void *to, int byte, unsigned long size_bytes)
{
    return memset(to, byte, size_bytes);
}

#define PLAIN(bytes)                                                                               \
    void __tsan_read##bytes(void *address)                                                         \
    {                                                                                              \
        __tsan_read_range(address, (bytes) > 8 ? (bytes) : 0);                                     \
        if ((bytes) <= 8)                                                                          \
            loads(address, bytes);                                                                 \
    }                                                                                              \
    void __tsan_write##bytes(void *address)                                                        \
    {                                                                                              \
        (void)address;                                                                             \
    }                                                                                              \
    void __tsan_unaligned_read##bytes(void *address)                                               \
    {                                                                                              \
        __tsan_read##bytes(address);                                                               \
    }                                                                                              \
    void __tsan_unaligned_write##bytes(void *address)                                              \
    {                                                                                              \
        (void)address;                                                                             \
    }                                                                                              \
    void __tsan_read_write##bytes(void *address)                                                   \
    {                                                                                              \
        __tsan_read##bytes(address);                                                               \
    }
PLAIN(1)
PLAIN(2)
PLAIN(4)
PLAIN(8)
PLAIN(16)

#define CHANGE(bits, name, builtin)                                                                \
    uint##bits##_t __tsan_atomic##bits##_##name(uint##bits##_t *address, uint##bits##_t value,     \
                                                int order)                                         \
    {                                                                                              \
        (void)order;                                                                               \
        loads(address, bits / 8);                                                                  \
        return builtin(address, value, __ATOMIC_SEQ_CST);                                          \
    }
#define COMPARE(bits, strength)                                                                    \
    int __tsan_atomic##bits##_compare_exchange_##strength(                                         \
        uint##bits##_t *address, uint##bits##_t *expected, uint##bits##_t value, int order,        \
        int order_of_failure)                                                                      \
    {                                                                                              \
        (void)order;                                                                               \
        (void)order_of_failure;                                                                    \
        loads(address, bits / 8);                                                                  \
        return __atomic_compare_exchange_n(address, expected, value, 0, __ATOMIC_SEQ_CST,          \
                                           __ATOMIC_SEQ_CST);                                      \
    }
/* clang's only form of it, weak or strong: the value that was found. */
#define COMPARE_VALUE(bits)                                                                        \
    uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(                                     \
        uint##bits##_t *address, uint##bits##_t expected, uint##bits##_t value, int order,         \
        int order_of_failure)                                                                      \
    {                                                                                              \
        __tsan_atomic##bits##_compare_exchange_strong(address, &expected, value, order,            \
                                                      order_of_failure);                           \
        return expected;                                                                           \
    }
#define ATOMIC(bits)                                                                               \
    uint##bits##_t __tsan_atomic##bits##_load(uint##bits##_t *address, int order)                  \
    {                                                                                              \
        (void)order;                                                                               \
        loads(address, bits / 8);                                                                  \
        return __atomic_load_n(address, __ATOMIC_SEQ_CST);                                         \
    }                                                                                              \
    void __tsan_atomic##bits##_store(uint##bits##_t *address, uint##bits##_t value, int order)     \
    {                                                                                              \
        (void)order;                                                                               \
        __atomic_store_n(address, value, __ATOMIC_SEQ_CST);                                        \
    }                                                                                              \
    CHANGE(bits, exchange, __atomic_exchange_n)                                                    \
    CHANGE(bits, fetch_add, __atomic_fetch_add)                                                    \
    CHANGE(bits, fetch_sub, __atomic_fetch_sub)                                                    \
    CHANGE(bits, fetch_and, __atomic_fetch_and)                                                    \
    CHANGE(bits, fetch_or, __atomic_fetch_or)                                                      \
    CHANGE(bits, fetch_xor, __atomic_fetch_xor)                                                    \
    COMPARE(bits, strong)                                                                          \
    COMPARE(bits, weak)                                                                            \
    COMPARE_VALUE(bits)
ATOMIC(8)
ATOMIC(16)
ATOMIC(32)
ATOMIC(64)

void __tsan_atomic_thread_fence(int order)
{
    (void)order;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
void __tsan_atomic_signal_fence(int order)
{
    (void)order;
}
