/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * mapping -- does another process still map the memory that I map?
 *
 * What       Compares device and inode as the kernel tells them in /proc/PID/maps: of both from there, since fstat
 *            gives other device numbers on some file systems. Reads that file whole: some 20 us for a small
 *            program.
 */
#include <stdbool.h>
#include <sys/types.h>

struct nr_mapping {
    char file[48]; /* device and inode; empty: unknown */
};

/* What is mapped at that address here. -ENOENT: nothing, or /proc is not there. */
int nr_os_mapping_of(struct nr_mapping *ret, const void *address);

/* 1: it maps that file somewhere; 0: it does not; -EACCES, ...: that can't be told. */
int nr_os_mapping_is_in(const struct nr_mapping *mapping, pid_t pid);
