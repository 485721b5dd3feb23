/* SPDX-License-Identifier: MIT */
#include "base/error.h"
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { NR_ERROR_TEXT_BYTES = 480 };

static _Thread_local struct {
    const char *origin;
    char text[NR_ERROR_TEXT_BYTES];
} nr_error_latest;
_Thread_local bool nr_error_is_set;

int nr_error_set(int error, const char *origin, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(nr_error_latest.text, sizeof nr_error_latest.text, format, arguments);
    va_end(arguments);
    nr_error_latest.origin = origin;
    nr_error_is_set = true;
    return error;
}

int nr_error_default(int error, const char *origin, const char *text)
{
    if (!nr_error_is_set) {
        size_t length = strnlen(text, sizeof nr_error_latest.text - 1);
        memcpy(nr_error_latest.text, text, length);
        nr_error_latest.text[length] = '\0';
        nr_error_latest.origin = origin;
        nr_error_is_set = true;
    }
    return error;
}

void nr_error_add(const char *words, const char *unless)
{
    size_t length = strlen(nr_error_latest.text);

    if (!strstr(nr_error_latest.text, unless))
        snprintf(nr_error_latest.text + length, sizeof nr_error_latest.text - length, "%s", words);
}

const char *nr_error_name(int error)
{
    const char *words = strerrordesc_np(error < 0 ? -error : error);

    return words ? words : "unknown error";
}

const char *naru_error_text(void)
{
    return nr_error_latest.text;
}

const char *naru_error_origin(void)
{
    return nr_error_latest.origin ? nr_error_latest.origin : "";
}

const char *naru_version(void)
{
    return NR_STRING(NARU_VERSION_MAJOR) "." NR_STRING(NARU_VERSION_MINOR) "." NR_STRING(
        NARU_VERSION_PATCH);
}
