/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * crc32c -- the Castagnoli checksum (polynomial 0x1EDC6F41, reflected), as in iSCSI (RFC 3720, B.4)
 *
 * What       nr_crc32c(0, data, size) is the checksum; nr_crc32c(crc, more, size) goes on with it. A
 *            checksum that starts from another number than 0 holds only for who knows that number.
 * Speed      The processor's own instruction where it has one, found out once; else eight tables.
 */
#include <stddef.h>
#include <stdint.h>

uint32_t nr_crc32c(uint32_t crc, const void *data, size_t size_bytes);

/* The same by tables, on any processor: for the tests. */
uint32_t nr_crc32c_by_tables(uint32_t crc, const void *data, size_t size_bytes);
