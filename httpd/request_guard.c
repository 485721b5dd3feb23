/* SPDX-License-Identifier: MIT */
#include "request_guard.h"
#include <ctype.h>
#include <string.h>
#include <strings.h>

static bool nr_request_guard_is_token(const char *text, size_t size_bytes)
{
    static const char marks[] = "!#$%&'*+-.^_`|~";

    for (size_t i = 0; i < size_bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x80 || !(isalnum(c) || (c && strchr(marks, c))))
            return false;
    }
    return size_bytes > 0;
}

/* Printable, a blank or a tab; bytes from 0x80 are let through (obs-text). */
static bool nr_request_guard_is_text(const char *text, size_t size_bytes)
{
    for (size_t i = 0; i < size_bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

static void nr_request_guard_refuse(struct nr_request_guard *guard, int status, const char *reason)
{
    if (guard->status)
        return;
    guard->status = status;
    guard->reason = reason;
}

/* "name", "name:80", "[::1]:80": what no name or number has, another program may read otherwise. */
static bool nr_request_guard_is_host(const char *value, size_t value_bytes)
{
    for (size_t i = 0; i < value_bytes; i++) {
        unsigned char c = (unsigned char)value[i];
        if (c >= 0x80 || !(isalnum(c) || (c && strchr(".-_~:[]%", c))))
            return false;
    }
    return true;
}

void nr_request_guard_field(struct nr_request_guard *guard, const char *name, size_t name_bytes,
                            const char *value, size_t value_bytes)
{
    static const char *const body_fields[] = {"content-length", "transfer-encoding", "trailer",
                                              "expect"};

    if (!nr_request_guard_is_token(name, name_bytes))
        nr_request_guard_refuse(guard, 400, "a header's name has a character that none may have");
    if (!nr_request_guard_is_text(value, value_bytes))
        nr_request_guard_refuse(guard, 400, "a header's value has a control character");
    for (size_t i = 0; i < sizeof body_fields / sizeof body_fields[0]; i++) {
        size_t length = strlen(body_fields[i]);
        if (name_bytes == length && strncasecmp(name, body_fields[i], length) == 0)
            nr_request_guard_refuse(guard, 400, "requests here have no body");
    }
    if (name_bytes == 4 && strncasecmp(name, "host", 4) == 0) {
        guard->hosts_count++;
        if (!nr_request_guard_is_host(value, value_bytes))
            nr_request_guard_refuse(guard, 400, "the Host is neither a name nor an address");
    }
}

int nr_request_guard_verdict(struct nr_request_guard *guard, const char *method, const char *target)
{
    if (guard->hosts_count != 1)
        nr_request_guard_refuse(guard, 400, "there must be exactly one Host");
    for (const char *c = target; *c; c++)
        if (*c <= ' ' || *c == 0x7f) /* signed or not: bytes from 0x80 don't belong here either */
            nr_request_guard_refuse(guard, 400, "the target has a character that it may not have");
    if (!nr_request_guard_is_token(method, strlen(method)))
        nr_request_guard_refuse(guard, 400, "the method is not a word");
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
        nr_request_guard_refuse(guard, 405, "there are GET and HEAD here");
    return guard->status;
}

static int nr_request_guard_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool nr_request_guard_path(const char *target, char *path, const char **ret_query)
{
    /* The absolute form, which a client may send as well (RFC 9112, 3.2.2). */
    if (strncasecmp(target, "http://", 7) == 0) {
        target += 7 + strcspn(target + 7, "/?");
        if (*target != '/')
            return false;
    }
    if (*target != '/')
        return false;
    while (*target && *target != '?') {
        unsigned char c = (unsigned char)*target++;
        if (c == '%') {
            int high = nr_request_guard_digit(target[0]);
            int low = high < 0 ? -1 : nr_request_guard_digit(target[1]);
            if (low < 0)
                return false;
            c = (unsigned char)(high * 16 + low);
            target += 2;
        }
        if (c < ' ' || c == 0x7f)
            return false;
        *path++ = (char)c;
    }
    *path = '\0';
    *ret_query = *target ? target + 1 : "";
    return strchr(*ret_query, '#') == NULL;
}
