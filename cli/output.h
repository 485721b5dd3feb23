/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * output -- what the user sees: complaints, colours, and numbers that read well
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The name before each complaint, "naru" until set. The text must stay. */
void nr_output_set_name(const char *name);

/* "naru sum: ..." on standard error. */
void nr_output_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same, then where to find help. Returns NR_EXIT_USAGE. */
int nr_output_complain_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* For getopt_long()'s '?': it has complained itself. Returns NR_EXIT_USAGE. */
int nr_output_hint_usage(void);

/* Flushes and closes standard output. Returns `code`, or NR_EXIT_FAILURE with a complaint if not all
   of the output has arrived and nothing else had failed. */
int nr_output_finish(int code);

/* True if colours and moving lines may go to `file`: a terminal that can, and NO_COLOR is not set. */
bool nr_output_is_lively(FILE *file);
bool nr_output_has_colour(FILE *file);

/* True if the user's locale shows UTF-8. */
bool nr_output_is_utf8(void);

/* Monotonic nanoseconds. */
int64_t nr_output_now_ns(void);

enum { NR_OUTPUT_NUMBER_BYTES = 48 };

/* "1.23 µs", "45.6 ms"; "310 k/s"; three significant digits. Return `text`. */
const char *nr_output_duration(char text[NR_OUTPUT_NUMBER_BYTES], int64_t duration_ns);
const char *nr_output_rate(char text[NR_OUTPUT_NUMBER_BYTES], double rate_per_s);

/* The decimal digits of a 128-bit number. Returns `text`. */
const char *nr_output_integer(char text[NR_OUTPUT_NUMBER_BYTES], __int128 value);

/* Columns that a UTF-8 text takes: code points. */
size_t nr_output_width(const char *text);

/* Prints `text`, cut by nothing and filled with blanks to `width` columns; right: blanks first. */
void nr_output_pad(FILE *file, const char *text, size_t width, bool right);

/* Bytes of `text` that go on a line of `width`: up to the last blank that fits. */
size_t nr_output_fit(const char *text, size_t width);

/* Prints `text` in lines of at most `width` columns, `indent` blanks before each. */
void nr_output_paragraph(FILE *file, const char *text, int indent, size_t width);
