/* SPDX-License-Identifier: MIT */
/*
 * Slicing by eight: eight tables let eight bytes be folded in at once (M. Kounavis, F. Berry, "A
 * Systematic Approach to Building High Performance, Software-based, CRC Generators", 2005).
 */
#include "data/crc32c.h"
#include <stdbool.h>
#include <string.h>

enum { NR_CRC32C_SLICES = 8 };
#define NR_CRC32C_POLYNOMIAL 0x82f63b78u /* reflected */

static uint32_t nr_crc32c_tables[NR_CRC32C_SLICES][256];

#if defined(__x86_64__)
static bool nr_crc32c_has_instruction;

__attribute__((target("sse4.2"))) static uint32_t
nr_crc32c_by_instruction(uint32_t crc, const void *data, size_t size_bytes)
{
    const unsigned char *bytes = data;
    uint64_t state = ~crc;

    for (; size_bytes >= 8; size_bytes -= 8, bytes += 8) {
        uint64_t eight;
        memcpy(&eight, bytes, sizeof eight);
        state = __builtin_ia32_crc32di(state, eight);
    }
    uint32_t rest = (uint32_t)state;
    for (; size_bytes; size_bytes--)
        rest = __builtin_ia32_crc32qi(rest, *bytes++);
    return ~rest;
}
#endif

/* Before main() and before anybody can call: afterwards the tables are only read. */
__attribute__((constructor)) static void nr_crc32c_init(void)
{
    for (unsigned i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? NR_CRC32C_POLYNOMIAL : 0);
        nr_crc32c_tables[0][i] = crc;
    }
    for (unsigned i = 0; i < 256; i++)
        for (int slice = 1; slice < NR_CRC32C_SLICES; slice++) {
            uint32_t crc = nr_crc32c_tables[slice - 1][i];
            nr_crc32c_tables[slice][i] = (crc >> 8) ^ nr_crc32c_tables[0][crc & 0xff];
        }
#if defined(__x86_64__)
    __builtin_cpu_init();
    nr_crc32c_has_instruction = __builtin_cpu_supports("sse4.2");
#endif
}

uint32_t nr_crc32c_by_tables(uint32_t crc, const void *data, size_t size_bytes)
{
    const unsigned char *bytes = data;

    crc = ~crc;
    for (; size_bytes >= 8; size_bytes -= 8, bytes += 8) {
        uint32_t low = crc ^ (bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
                              (uint32_t)bytes[3] << 24);
        crc = nr_crc32c_tables[7][low & 0xff] ^ nr_crc32c_tables[6][(low >> 8) & 0xff] ^
              nr_crc32c_tables[5][(low >> 16) & 0xff] ^ nr_crc32c_tables[4][low >> 24] ^
              nr_crc32c_tables[3][bytes[4]] ^ nr_crc32c_tables[2][bytes[5]] ^
              nr_crc32c_tables[1][bytes[6]] ^ nr_crc32c_tables[0][bytes[7]];
    }
    for (; size_bytes; size_bytes--)
        crc = (crc >> 8) ^ nr_crc32c_tables[0][(crc ^ *bytes++) & 0xff];
    return ~crc;
}

uint32_t nr_crc32c(uint32_t crc, const void *data, size_t size_bytes)
{
#if defined(__x86_64__)
    if (nr_crc32c_has_instruction)
        return nr_crc32c_by_instruction(crc, data, size_bytes);
#endif
    return nr_crc32c_by_tables(crc, data, size_bytes);
}
