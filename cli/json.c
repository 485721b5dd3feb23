/* SPDX-License-Identifier: MIT */
#include "json.h"
#include "output.h"
#include <math.h>
#include <string.h>

static void nr_json_quote(struct nr_json *json, const unsigned char *text, size_t size_bytes)
{
    fputc('"', json->file);
    for (size_t i = 0; i < size_bytes; i++) {
        unsigned char c = text[i];

        if (c == '"' || c == '\\')
            fprintf(json->file, "\\%c", c);
        else if (c == '\n')
            fputs("\\n", json->file);
        else if (c == '\t')
            fputs("\\t", json->file);
        else if (c < 0x20 || c == 0x7F)
            fprintf(json->file, "\\u%04x", c);
        else
            fputc(c, json->file);
    }
    fputc('"', json->file);
}

static void nr_json_key(struct nr_json *json, const char *key)
{
    if (json->needs_comma)
        fputc(',', json->file);
    json->needs_comma = true;
    if (!key)
        return;
    nr_json_quote(json, (const unsigned char *)key, strlen(key));
    fputc(':', json->file);
}

void nr_json_begin(struct nr_json *json, const char *key, char bracket)
{
    nr_json_key(json, key);
    fputc(bracket, json->file);
    json->needs_comma = false;
}

void nr_json_end(struct nr_json *json, char bracket)
{
    fputc(bracket, json->file);
    json->needs_comma = true;
}

void nr_json_text(struct nr_json *json, const char *key, const char *text)
{
    nr_json_bytes(json, key, text, strlen(text));
}

void nr_json_bytes(struct nr_json *json, const char *key, const void *data, size_t size_bytes)
{
    nr_json_key(json, key);
    nr_json_quote(json, data, size_bytes);
}

void nr_json_base64(struct nr_json *json, const char *key, const void *data, size_t size_bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *bytes = data;

    nr_json_key(json, key);
    fputc('"', json->file);
    for (size_t i = 0; i < size_bytes; i += 3) {
        size_t left = size_bytes - i;
        uint32_t three = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                         (left > 2 ? bytes[i + 2] : 0);

        fputc(digits[three >> 18], json->file);
        fputc(digits[three >> 12 & 63], json->file);
        fputc(left > 1 ? digits[three >> 6 & 63] : '=', json->file);
        fputc(left > 2 ? digits[three & 63] : '=', json->file);
    }
    fputc('"', json->file);
}

void nr_json_integer(struct nr_json *json, const char *key, __int128 value)
{
    char text[NR_OUTPUT_NUMBER_BYTES];

    nr_json_key(json, key);
    fputs(nr_output_integer(text, value), json->file);
}

void nr_json_number(struct nr_json *json, const char *key, double value)
{
    nr_json_key(json, key);
    if (isfinite(value))
        fprintf(json->file, "%.3f", value);
    else
        fputs("null", json->file);
}

void nr_json_bool(struct nr_json *json, const char *key, bool value)
{
    nr_json_key(json, key);
    fputs(value ? "true" : "false", json->file);
}

void nr_json_null(struct nr_json *json, const char *key)
{
    nr_json_key(json, key);
    fputs("null", json->file);
}

bool nr_json_is_utf8(const void *data, size_t size_bytes)
{
    static const uint32_t smallest[] = {0, 0x80, 0x800, 0x10000};
    const unsigned char *at = data;
    const unsigned char *end = at + size_bytes;

    while (at < end) {
        unsigned char lead = *at++;
        int more = lead < 0x80       ? 0
                   : lead >> 5 == 6  ? 1
                   : lead >> 4 == 14 ? 2
                   : lead >> 3 == 30 ? 3
                                     : -1;
        if (more < 0 || end - at < more)
            return false;
        uint32_t point = more ? lead & (0x3Fu >> more) : lead;
        for (int i = 0; i < more; i++) {
            if (*at >> 6 != 2)
                return false;
            point = point << 6 | (*at++ & 0x3F);
        }
        if (point < smallest[more] || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF))
            return false;
    }
    return true;
}
