/* SPDX-License-Identifier: MIT */
#include "output.h"
#include "command.h"
#include <errno.h>
#include <langinfo.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *nr_output_name = "naru";

void nr_output_set_name(const char *name)
{
    nr_output_name = name;
}

static void nr_output_complain_list(const char *format, va_list arguments)
{
    flockfile(stderr);
    fprintf(stderr, "%s: ", nr_output_name);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    funlockfile(stderr);
}

void nr_output_complain(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    nr_output_complain_list(format, arguments);
    va_end(arguments);
}

int nr_output_complain_usage(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    nr_output_complain_list(format, arguments);
    va_end(arguments);
    return nr_output_hint_usage();
}

int nr_output_hint_usage(void)
{
    fprintf(stderr, "`%s --help` tells how to use it.\n", nr_output_name);
    return NR_EXIT_USAGE;
}

int nr_output_finish(int code)
{
    bool failed_before = ferror(stdout);
    int error = 0;

    errno = 0;
    if (fflush(stdout) != 0)
        error = errno;
    if (fclose(stdout) != 0 && !error)
        error = errno;
    if (!failed_before && !error)
        return code;
    if (code == NR_EXIT_OK || code == NR_EXIT_FAILURE)
        nr_output_complain("cannot write to standard output: %s",
                           error ? strerror(error) : "an earlier write failed");
    return code == NR_EXIT_OK ? NR_EXIT_FAILURE : code;
}

bool nr_output_is_lively(FILE *file)
{
    const char *terminal = getenv("TERM");

    return isatty(fileno(file)) && terminal && strcmp(terminal, "dumb") != 0;
}

bool nr_output_has_colour(FILE *file)
{
    const char *no_colour = getenv("NO_COLOR");

    return nr_output_is_lively(file) && !(no_colour && no_colour[0]);
}

bool nr_output_is_utf8(void)
{
    return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

int64_t nr_output_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Three significant digits, never more than three before the point where a larger unit exists. */
static void nr_output_three_digits(char text[NR_OUTPUT_NUMBER_BYTES], double value,
                                   const char *unit)
{
    int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;

    snprintf(text, NR_OUTPUT_NUMBER_BYTES, "%.*f %s", decimals, value, unit);
}

const char *nr_output_duration(char text[NR_OUTPUT_NUMBER_BYTES], int64_t duration_ns)
{
    double value = (double)duration_ns;

    if (value < 999.5)
        snprintf(text, NR_OUTPUT_NUMBER_BYTES, "%.0f ns", value);
    else if (value < 999.5e3)
        nr_output_three_digits(text, value / 1e3, nr_output_is_utf8() ? "µs" : "us");
    else if (value < 999.5e6)
        nr_output_three_digits(text, value / 1e6, "ms");
    else
        nr_output_three_digits(text, value / 1e9, "s");
    return text;
}

const char *nr_output_rate(char text[NR_OUTPUT_NUMBER_BYTES], double rate_per_s)
{
    if (rate_per_s < 999.5)
        snprintf(text, NR_OUTPUT_NUMBER_BYTES, "%.0f /s", rate_per_s);
    else if (rate_per_s < 999.5e3)
        nr_output_three_digits(text, rate_per_s / 1e3, "k/s");
    else
        nr_output_three_digits(text, rate_per_s / 1e6, "M/s");
    return text;
}

const char *nr_output_integer(char text[NR_OUTPUT_NUMBER_BYTES], __int128 value)
{
    unsigned __int128 rest = value < 0 ? -(unsigned __int128)value : (unsigned __int128)value;
    char digits[NR_OUTPUT_NUMBER_BYTES];
    size_t at = sizeof digits;

    digits[--at] = '\0';
    do
        digits[--at] = (char)('0' + (int)(rest % 10));
    while (rest /= 10);
    if (value < 0)
        digits[--at] = '-';
    memcpy(text, digits + at, sizeof digits - at);
    return text;
}

size_t nr_output_width(const char *text)
{
    size_t width = 0;

    for (; *text; text++)
        width += ((unsigned char)*text & 0xC0) != 0x80;
    return width;
}

void nr_output_pad(FILE *file, const char *text, size_t width, bool right)
{
    size_t used = nr_output_width(text);
    int blanks = used < width ? (int)(width - used) : 0;

    if (right)
        fprintf(file, "%*s%s", blanks, "", text);
    else
        fprintf(file, "%s%*s", text, blanks, "");
}

size_t nr_output_fit(const char *text, size_t width)
{
    size_t length = strlen(text);

    if (length <= width)
        return length;
    for (size_t at = width; at > 0; at--)
        if (text[at] == ' ')
            return at;
    return width;
}

void nr_output_paragraph(FILE *file, const char *text, int indent, size_t width)
{
    while (*text) {
        size_t fit = nr_output_fit(text, width - (size_t)indent);

        fprintf(file, "%*s%.*s\n", indent, "", (int)fit, text);
        text += fit;
        text += strspn(text, " ");
    }
}
