/* SPDX-License-Identifier: MIT */
#include "os/signal_status.h"
#include "os/process.h"
#include "base/cleanup.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NR_SIGNAL_TEXT_BYTES = 4096 };

/* What of /proc/PID/status and /proc/PID/task/TID/status is about signals. */
struct nr_os_signal_fields {
    char name[64];
    char run_state;
    bool is_whole;
    uint64_t tgid, threads_count;
    uint64_t queued, queued_max;
    uint64_t pending, shared_pending, blocked, ignored, caught;
};

/* -- reading ------------------------------------------------------------------------------- */

/* In the name the kernel writes a newline as \n, and a backslash as two. */
static void nr_os_signal_copy_name(char *name, size_t size_bytes, const char *text)
{
    size_t length = 0;

    for (; *text && length < size_bytes - 1; text++) {
        bool is_escape = *text == '\\' && text[1];
        if (is_escape)
            text++;
        name[length++] = is_escape && *text == 'n' ? '\n' : *text;
    }
    name[length] = '\0';
}

static void nr_os_signal_read_line(struct nr_os_signal_fields *fields, const char *line)
{
    const struct {
        const char *key;
        int base;
        uint64_t *value;
    } numbers[] = {
        {"Tgid:\t", 10, &fields->tgid},      {"Threads:\t", 10, &fields->threads_count},
        {"SigPnd:\t", 16, &fields->pending}, {"ShdPnd:\t", 16, &fields->shared_pending},
        {"SigBlk:\t", 16, &fields->blocked}, {"SigIgn:\t", 16, &fields->ignored},
        {"SigCgt:\t", 16, &fields->caught},  {"SigQ:\t", 10, &fields->queued},
    };
    static const char name[] = "Name:\t", state[] = "State:\t";

    for (size_t i = 0; i < nr_count_of(numbers); i++) {
        size_t length = strlen(numbers[i].key);
        char *end;
        if (strncmp(line, numbers[i].key, length) != 0)
            continue;
        *numbers[i].value = strtoull(line + length, &end, numbers[i].base);
        if (*end == '/')
            fields->queued_max = strtoull(end + 1, NULL, 10);
        fields->is_whole |= numbers[i].value == &fields->caught; /* the last one */
        return;
    }
    if (strncmp(line, name, sizeof name - 1) == 0)
        nr_os_signal_copy_name(fields->name, sizeof fields->name, line + sizeof name - 1);
    else if (strncmp(line, state, sizeof state - 1) == 0)
        fields->run_state = line[sizeof state - 1];
}

/* Line by line, since a long list of groups may stand before what is wanted. A line that does not fit comes in pieces;
   it is of digits only. */
static int nr_os_signal_read_lines(int fd, struct nr_os_signal_fields *fields)
{
    char text[NR_SIGNAL_TEXT_BYTES];
    size_t filled = 0;

    while (!fields->is_whole) {
        ssize_t size = read(fd, text + filled, sizeof text - filled);
        if (size <= 0)
            return size < 0 ? -errno : -ESRCH; /* a task that ends is cut short */
        filled += (size_t)size;
        char *begin = text, *end;
        while ((end = memchr(begin, '\n', filled - (size_t)(begin - text)))) {
            *end = '\0';
            nr_os_signal_read_line(fields, begin);
            begin = end + 1;
        }
        filled -= (size_t)(begin - text);
        memmove(text, begin, filled);
        if (filled == sizeof text)
            filled = 0;
    }
    return 0;
}

static int nr_os_signal_read(int directory, const char *path, struct nr_os_signal_fields *ret)
{
    int fd = openat(directory, path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    *ret = (struct nr_os_signal_fields){0};
    int result = nr_os_signal_read_lines(fd, ret);
    close(fd);
    return result;
}

static int nr_os_signal_read_process(pid_t pid, struct nr_os_signal_fields *ret)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    int result = nr_os_signal_read(AT_FDCWD, path, ret);
    if (result == -ENOENT && access("/proc/self/status", F_OK) == 0)
        return nr_os_process_is_missing(pid) ? -ESRCH : -EACCES;
    return result;
}

static int nr_os_signal_read_thread(int directory, pid_t thread, struct nr_os_signal_fields *ret)
{
    char path[32];

    snprintf(path, sizeof path, "%d/status", (int)thread);
    return nr_os_signal_read(directory, path, ret);
}

static bool nr_os_signal_read_short(int directory, pid_t thread, const char *file,
                                    char text[static 256])
{
    char path[32];

    snprintf(path, sizeof path, "%d/%s", (int)thread, file);
    int fd = openat(directory, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t size = read(fd, text, 255);
    close(fd);
    text[size < 0 ? 0 : size] = '\0';
    return size > 0;
}

/*
 * While a thread sleeps in sigtimedwait(2) the kernel takes the awaited signals out of the mask that /proc
 * shows, though they can't kill it. So a thread without the signal in its mask may be waiting for it: the
 * name of what it sleeps in tells, or the number of its system call.
 */
static bool nr_os_signal_is_awaiting(int directory, pid_t thread)
{
    char text[256];

    if (nr_os_signal_read_short(directory, thread, "wchan", text) && strstr(text, "sigtimedwait"))
        return true;
    return nr_os_signal_read_short(directory, thread, "syscall", text) &&
           strtol(text, NULL, 10) == SYS_rt_sigtimedwait;
}

/* -- what a process does with a signal ------------------------------------------------------ */

/* 0: the thread blocks them, or waits for them if that counts; 1: neither; -errno */
static int nr_os_signal_thread(int directory, pid_t thread, uint64_t set, bool waiting_counts)
{
    struct nr_os_signal_fields fields;
    int result = nr_os_signal_read_thread(directory, thread, &fields);

    if (result == -ENOENT || result == -ESRCH)
        return 0; /* it has just ended */
    if (result < 0)
        return result;
    if ((fields.blocked & set) == set || fields.run_state == 'Z')
        return 0;
    return !(waiting_counts && nr_os_signal_is_awaiting(directory, thread));
}

static DIR *nr_os_signal_threads_open(pid_t pid)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    return opendir(path);
}

/* The next thread of that directory, or 0. */
static pid_t nr_os_signal_threads_next(DIR *directory)
{
    const struct dirent *entry;
    pid_t thread = 0;

    while (thread <= 0 && (entry = readdir(directory)))
        thread = (pid_t)strtol(entry->d_name, NULL, 10);
    return thread;
}

/* 0: all threads block all of `set`; 1: *ret_thread does not; -errno */
static int nr_os_signal_threads(pid_t pid, uint64_t set, bool waiting_counts, pid_t *ret_thread)
{
    DIR *directory = nr_os_signal_threads_open(pid);
    int result = 0;
    pid_t thread;

    if (!directory)
        return -errno;
    while (result == 0 && (thread = nr_os_signal_threads_next(directory))) {
        result = nr_os_signal_thread(dirfd(directory), thread, set, waiting_counts);
        if (result > 0)
            *ret_thread = thread;
    }
    closedir(directory);
    return result;
}

int nr_os_signal_unblocked_thread(uint64_t set, pid_t *ret_thread)
{
    return nr_os_signal_threads(getpid(), set, false, ret_thread);
}

static int nr_os_signal_care_now(pid_t pid, int signal_number, pid_t *ret_thread)
{
    uint64_t set = NARU_SIGNAL_BIT(signal_number);
    struct nr_os_signal_fields fields;

    int result = nr_os_signal_read_process(pid, &fields);
    if (result < 0)
        return result;
    if (fields.caught & set)
        return NR_SIGNAL_CAUGHT;
    if (fields.threads_count == 1 && fields.blocked & set)
        return NR_SIGNAL_BLOCKED;
    result = nr_os_signal_threads(pid, set, true, ret_thread);
    if (result < 0)
        return result == -ENOENT ? -ESRCH : result;
    if (result == 0)
        return NR_SIGNAL_BLOCKED;
    return fields.ignored & set ? NR_SIGNAL_IGNORED : NR_SIGNAL_DEADLY;
}

/* A thread that goes in and out of sigtimedwait(2) may slip between the two looks at it: look again. */
int nr_os_signal_care(pid_t pid, int signal_number, pid_t *ret_thread)
{
    enum { NR_SIGNAL_LOOKS = 4 };
    int care = NR_SIGNAL_DEADLY;

    for (int i = 0; i < NR_SIGNAL_LOOKS && care == NR_SIGNAL_DEADLY; i++)
        care = nr_os_signal_care_now(pid, signal_number, ret_thread);
    return care;
}

/* -- all of it ----------------------------------------------------------------------------- */

int nr_os_signal_status(pid_t pid, struct naru_signal_state *ret)
{
    struct nr_os_signal_fields fields;
    int result = nr_os_signal_read_process(pid, &fields);

    if (result < 0)
        return result;
    if (fields.tgid != (uint64_t)pid) /* /proc has it, but does not list it: a thread */
        return -ESRCH;
    *ret = (struct naru_signal_state){
        .pid = pid,
        .pending = fields.shared_pending,
        .ignored = fields.ignored,
        .caught = fields.caught,
        .queued = fields.queued,
        .queued_max = fields.queued_max,
        .threads_count = (uint32_t)fields.threads_count,
        .run_state = fields.run_state,
    };
    memcpy(ret->name, fields.name, sizeof ret->name);
    return 0;
}

static int nr_os_signal_status_thread(int directory, pid_t thread, struct naru_signal_thread *ret)
{
    struct nr_os_signal_fields fields;
    int result = nr_os_signal_read_thread(directory, thread, &fields);

    if (result < 0)
        return result;
    *ret = (struct naru_signal_thread){
        .thread_id = thread,
        .pending = fields.pending,
        .blocked = fields.blocked,
        .run_state = fields.run_state,
        .is_awaiting = nr_os_signal_is_awaiting(directory, thread),
    };
    memcpy(ret->name, fields.name, sizeof ret->name);
    return 0;
}

int nr_os_signal_status_threads(pid_t pid, struct naru_signal_thread *threads, size_t capacity)
{
    struct nr_os_signal_fields fields;
    size_t count = 0;
    pid_t thread;

    int result = nr_os_signal_read_process(pid, &fields);
    if (result == 0 && fields.tgid != (uint64_t)pid)
        result = -ESRCH;
    DIR *directory = result == 0 ? nr_os_signal_threads_open(pid) : NULL;
    if (!directory)
        return result == 0 ? (errno == ENOENT ? -ESRCH : -errno) : result;
    while (result == 0 && (thread = nr_os_signal_threads_next(directory))) {
        if (count < capacity)
            result = nr_os_signal_status_thread(dirfd(directory), thread, &threads[count]);
        if (result == 0)
            count++;
        if (result == -ENOENT || result == -ESRCH) /* it has just ended */
            result = 0;
    }
    closedir(directory);
    return result < 0 ? result : count > 0 ? (int)count : -ESRCH;
}
