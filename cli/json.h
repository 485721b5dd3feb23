/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * json -- writes JSON without blanks, commas where they belong
 *
 * What       Start with `struct nr_json json = {.file = stdout}`. In an object each value has its key,
 *            elsewhere key is NULL. Text must be UTF-8; numbers that may pass 2^53 go as text where
 *            a reader's doubles matter.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct nr_json {
    FILE *file;
    bool needs_comma;
};

void nr_json_begin(struct nr_json *json, const char *key, char bracket); /* '{' or '[' */
void nr_json_end(struct nr_json *json, char bracket);                    /* '}' or ']' */
void nr_json_text(struct nr_json *json, const char *key, const char *text);
void nr_json_bytes(struct nr_json *json, const char *key, const void *data, size_t size_bytes);
void nr_json_base64(struct nr_json *json, const char *key, const void *data, size_t size_bytes);
void nr_json_integer(struct nr_json *json, const char *key, __int128 value);
void nr_json_number(struct nr_json *json, const char *key,
                    double value); /* three decimals; null if not finite */
void nr_json_bool(struct nr_json *json, const char *key, bool value);
void nr_json_null(struct nr_json *json, const char *key);

/* Whether the bytes are well-formed UTF-8: no surrogates, no overlong forms. */
bool nr_json_is_utf8(const void *data, size_t size_bytes);
