/* SPDX-License-Identifier: MIT */
#include "arguments.h"
#include "output.h"
#include <ctype.h>
#include <errno.h>
#include <naru/signal.h>
#include <stdlib.h>
#include <string.h>

/* Digits of a number that may have 64 bits and a sign; false if there is anything else. */
static bool nr_arguments_parse(__int128 *ret, const char *text)
{
    bool negative = text[0] == '-';
    const char *digits = text + (negative || text[0] == '+');
    char *end = NULL;

    if (!isdigit((unsigned char)digits[0]))
        return false;
    errno = 0;
    bool hexadecimal = digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X');
    unsigned long long magnitude = strtoull(digits, &end, hexadecimal ? 16 : 10);
    if (errno || *end || (hexadecimal && end == digits + 1))
        return false;
    *ret = negative ? -(__int128)magnitude : (__int128)magnitude;
    return true;
}

int nr_arguments_integer(__int128 *ret, const char *option, const char *text, __int128 lowest,
                         __int128 highest)
{
    char low[NR_OUTPUT_NUMBER_BYTES], high[NR_OUTPUT_NUMBER_BYTES];
    __int128 value;

    if (!nr_arguments_parse(&value, text) || value < lowest || value > highest)
        return nr_output_complain_usage("%s: \"%s\" is not a whole number from %s to %s", option,
                                        text, nr_output_integer(low, lowest),
                                        nr_output_integer(high, highest));
    *ret = value;
    return 0;
}

int nr_arguments_size(size_t *ret, const char *option, const char *text)
{
    static const char units[] = "kMG";
    char digits[32];
    size_t length = strlen(text);
    int shift = 0;
    __int128 value;

    const char *unit = length > 1 ? strchr(units, text[length - 1]) : NULL;
    if (unit && *unit) {
        shift = 10 * (int)(unit - units + 1);
        length--;
    }
    if (length >= sizeof digits)
        return nr_output_complain_usage("%s: \"%s\" is not a size", option, text);
    memcpy(digits, text, length);
    digits[length] = '\0';
    if (!nr_arguments_parse(&value, digits) || value < 0 || (value << shift) > ((__int128)1 << 62))
        return nr_output_complain_usage("%s: \"%s\" is not a size such as 4096, 64k or 1M", option,
                                        text);
    *ret = (size_t)(value << shift);
    return 0;
}

int nr_arguments_seconds(int64_t *ret, const char *option, const char *text)
{
    char *end = NULL;

    if (strcmp(text, "forever") == 0) {
        *ret = NARU_FOREVER;
        return 0;
    }
    double seconds = strtod(text, &end);
    /* Up to a century: what is longer is a slip, or is meant as "forever". */
    if (end == text || *end || !(seconds >= 0 && seconds <= 3.2e9) ||
        !(isdigit((unsigned char)text[0]) || text[0] == '.'))
        return nr_output_complain_usage("%s: \"%s\" is not a number of seconds, nor \"forever\"",
                                        option, text);
    *ret = (int64_t)(seconds * 1e9);
    return 0;
}

static int nr_arguments_mode(uint32_t *ret, const char *text)
{
    char *end = NULL;
    unsigned long mode = strtoul(text, &end, 8);

    if (!isdigit((unsigned char)text[0]) || *end || mode > 0777 || mode == 0)
        return nr_output_complain_usage("--mode: \"%s\" is not an octal mode such as 600 or 0660",
                                        text);
    *ret = (uint32_t)mode;
    return 0;
}

static int nr_arguments_when_full(enum naru_when_full *ret, const char *text)
{
    static const char *const names[] = {
        [NARU_BLOCK] = "block",
        [NARU_DROP_NEWEST] = "drop-newest",
        [NARU_OVERWRITE_OLDEST] = "overwrite-oldest",
        [NARU_FAIL] = "fail",
    };

    for (enum naru_when_full i = NARU_BLOCK; i <= NARU_FAIL; i++) {
        if (strcmp(text, names[i]) != 0)
            continue;
        *ret = i;
        return 0;
    }
    return nr_output_complain_usage(
        "--when-full: \"%s\" is not block, fail, drop-newest or overwrite-oldest", text);
}

int nr_arguments_channel(struct naru_options *options, int option, const char *text)
{
    __int128 number = 0;
    int code = 0;

    switch (option) {
    case NR_ARGUMENTS_CREATE:
    case NR_ARGUMENTS_ATTACH:
        if (options->create != NARU_CREATE_OR_ATTACH)
            return nr_output_complain_usage("--create and --attach exclude each other");
        options->create = option == NR_ARGUMENTS_CREATE ? NARU_CREATE : NARU_ATTACH;
        return 0;
    case NR_ARGUMENTS_MESSAGE_SIZE:
        return nr_arguments_size(&options->message_size_max_bytes, "--message-size", text);
    case NR_ARGUMENTS_CAPACITY:
        code = nr_arguments_integer(&number, "--capacity", text, 1, UINT32_MAX);
        options->capacity_messages = (size_t)number;
        return code;
    case NR_ARGUMENTS_PAYLOAD:
        return nr_arguments_size(&options->payload_bytes, "--payload", text);
    case NR_ARGUMENTS_MODE:
        return nr_arguments_mode(&options->file_mode, text);
    case NR_ARGUMENTS_ONE_TO_ONE:
        options->one_to_one = 1;
        return 0;
    case NR_ARGUMENTS_SIGNAL:
        options->signal_number = naru_signal_number(text);
        return options->signal_number > 0
                   ? 0
                   : nr_output_complain_usage("--signal: \"%s\" is no signal; a name such as "
                                              "RTMIN+1 or a number is one",
                                              text);
    case NR_ARGUMENTS_WHEN_FULL:
        return nr_arguments_when_full(&options->when_full, text);
    case NR_ARGUMENTS_READ_ONLY:
        options->read_only = 1;
        return 0;
    default:
        return -1;
    }
}
