/* SPDX-License-Identifier: MIT */
#include "kit.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pid_t nr_kit_program;
static char nr_kit_directory_path[32];

__attribute__((constructor)) static void nr_kit_begin(void)
{
    nr_kit_program = getpid();
}

/* -- checks -------------------------------------------------------------------------------- */

void nr_kit_fail(const char *file, int line, const char *format, ...)
{
    char text[1024];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    printf("%s:%d: process %d: %s\n", file, line, (int)getpid(), text);
    if (getpid() == nr_kit_program)
        _fail(file, line);
    fflush(stdout);
    _exit(1); /* no leak report on top of it */
}

long nr_kit_check_ok(const char *file, int line, const char *call, long result)
{
    if (result < 0)
        nr_kit_fail(file, line, "%s gave %ld (%s): \"%s\" from %s", call, result,
                    strerrorname_np((int)-result), naru_error_text(), naru_error_origin());
    return result;
}

void nr_kit_check_fails(const char *file, int line, const char *call, long result, int expected,
                        const char *words)
{
    const char *text = naru_error_text();
    char copy[256], *rest = NULL;

    if (result != expected)
        nr_kit_fail(file, line, "%s gave %ld (%s), not %d (%s): \"%s\" from %s", call, result,
                    result < 0 ? strerrorname_np((int)-result) : "good", expected,
                    strerrorname_np(-expected), result < 0 ? text : "", naru_error_origin());
    if (strlen(text) < 12)
        nr_kit_fail(file, line, "%s: the text is only \"%s\"", call, text);
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok_r(copy, "|", &rest); word; word = strtok_r(NULL, "|", &rest))
        if (!strcasestr(text, word))
            nr_kit_fail(file, line, "%s: the text \"%s\" does not have \"%s\"", call, text, word);
}

/* -- time ---------------------------------------------------------------------------------- */

int64_t nr_kit_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void nr_kit_sleep_ms(int milliseconds)
{
    struct timespec left = {milliseconds / 1000, (long)(milliseconds % 1000) * 1000000};

    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

bool nr_kit_is_valgrind(void)
{
    const char *wrapper = getenv("NARU_TEST_WRAPPER");

    return wrapper && strstr(wrapper, "valgrind");
}

bool nr_kit_has_pidfds(void)
{
    int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);

    if (pidfd < 0)
        printf("SKIP: there is no pidfd_open(2) here\n");
    else
        close(pidfd);
    return pidfd >= 0;
}

int nr_kit_slowness(void)
{
    return nr_kit_is_valgrind() ? 10 : getenv("NARU_SANITIZED") ? 5 : 1;
}

/* -- processes ----------------------------------------------------------------------------- */

pid_t nr_kit_fork(void)
{
    pid_t parent = getpid();
    pid_t pid = fork();

    if (pid < 0)
        nr_kit_fail(__FILE__, __LINE__, "fork: %s", strerror(errno));
    if (pid == 0) {
        /* cmocka's handlers would jump back into the test program, and this process go on with its tests. */
        static const int deadly[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS};
        for (size_t i = 0; i < sizeof deadly / sizeof deadly[0]; i++)
            signal(deadly[i], SIG_DFL);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
    }
    return pid;
}

static int nr_kit_wait(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            nr_kit_fail(__FILE__, __LINE__, "waiting for process %d: %s", (int)pid,
                        strerror(errno));
    return status;
}

void nr_kit_join(pid_t pid)
{
    int status = nr_kit_wait(pid);

    nr_check(!WIFSIGNALED(status), "process %d died of signal %d", (int)pid, WTERMSIG(status));
    nr_check(WEXITSTATUS(status) == 0, "process %d ended with %d", (int)pid, WEXITSTATUS(status));
}

void nr_kit_kill(pid_t pid)
{
    kill(pid, SIGKILL);
    nr_kit_wait(pid);
}

void nr_kit_skip(const char *why)
{
    printf("SKIP: %s\n", why);
    fflush(stdout);
    _exit(77);
}

/* Waits until the child is a zombie, or the time is over. Valgrind 3.19 has no pidfd_open: then by looking. */
static bool nr_kit_is_over(pid_t pid, int64_t end_ns)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd over = {.fd = pidfd, .events = POLLIN};
    siginfo_t info = {0};
    int64_t left_ns;

    do {
        left_ns = end_ns - nr_kit_now_ns();
        int patience_ms = pidfd < 0 ? 5 : left_ns > 0 ? (int)(left_ns / 1000000) : 0;
        poll(&over, 1, patience_ms);
        waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | WNOHANG);
    } while (info.si_pid != pid && left_ns > 0);
    if (pidfd >= 0)
        close(pidfd);
    return info.si_pid == pid;
}

int nr_kit_run(void (*body)(void *argument), void *argument, int seconds)
{
    pid_t pid = nr_kit_fork();

    if (pid == 0) {
        setpgid(0, 0);
        body(argument);
        exit(0);
    }
    setpgid(pid, pid);
    /* The leader stays a zombie for a moment, so that its group's number can't be taken by others. */
    bool is_over = nr_kit_is_over(pid, nr_kit_now_ns() + seconds * nr_kit_slowness() * NARU_SECOND);
    kill(-pid, SIGKILL);
    int status = nr_kit_wait(pid);
    if (!is_over)
        printf("it hung: not over after %d s\n", seconds * nr_kit_slowness());
    else if (WIFSIGNALED(status))
        printf("it died of signal %d\n", WTERMSIG(status));
    return is_over && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int nr_kit_fds(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int count = -1; /* the directory's own */

    nr_check(directory, "no /proc");
    for (struct dirent *entry; (entry = readdir(directory));)
        if (entry->d_name[0] != '.')
            count++;
    closedir(directory);
    return count;
}

void *nr_kit_shared(size_t size_bytes)
{
    void *memory =
        mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    nr_check(memory != MAP_FAILED, "mmap: %s", strerror(errno));
    return memory;
}

/* In time that this process has seen go by: one in which the machine stood still counts for nobody. */
void nr_kit_await(const int *place, int at_least)
{
    const struct timespec pause = {.tv_nsec = 500000};

    for (int64_t left_ns = NR_SOON; nr_kit_get(place) < at_least; left_ns -= pause.tv_nsec) {
        nr_check(left_ns > 0, "waited in vain for %d; it is %d", at_least, nr_kit_get(place));
        nanosleep(&pause, NULL);
    }
}

const char *nr_kit_directory(void)
{
    if (!nr_kit_directory_path[0]) {
        strcpy(nr_kit_directory_path, "/tmp/naru-XXXXXX");
        nr_check(mkdtemp(nr_kit_directory_path), "mkdtemp: %s", strerror(errno));
        chmod(nr_kit_directory_path, 0755); /* for the tests that become another user */
    }
    return nr_kit_directory_path;
}

static int nr_kit_remove_one(const char *path, const struct stat *status, int kind,
                             struct FTW *where)
{
    (void)status, (void)kind, (void)where;
    return remove(path);
}

void nr_kit_directory_remove(void)
{
    if (nr_kit_directory_path[0])
        nftw(nr_kit_directory_path, nr_kit_remove_one, 16, FTW_DEPTH | FTW_PHYS);
    nr_kit_directory_path[0] = '\0';
}

/* -- messages ------------------------------------------------------------------------------ */

/* splitmix64: each word depends on all of who, which and how large. */
static uint64_t nr_payload_next(uint64_t *state)
{
    uint64_t word = *state += 0x9e3779b97f4a7c15u;

    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9u;
    word = (word ^ (word >> 27)) * 0x94d049bb133111ebu;
    return word ^ (word >> 31);
}

static bool nr_payload_go(unsigned char *data, const unsigned char *given, size_t size_bytes,
                          struct nr_payload_stamp stamp)
{
    uint64_t word = (uint64_t)stamp.sender << 32 | stamp.index;
    uint64_t state = word ^ (uint64_t)size_bytes << 40;

    for (size_t offset = 0; offset < size_bytes; offset += sizeof word) {
        size_t left = size_bytes - offset < sizeof word ? size_bytes - offset : sizeof word;
        if (data)
            memcpy(data + offset, &word, left);
        else if (memcmp(given + offset, &word, left) != 0)
            return false;
        word = nr_payload_next(&state);
    }
    return true;
}

void nr_payload_fill(void *data, size_t size_bytes, unsigned sender, unsigned index)
{
    nr_payload_go(data, NULL, size_bytes,
                  (struct nr_payload_stamp){.sender = sender, .index = index});
}

bool nr_payload_is_whole(const void *data, size_t size_bytes, unsigned sender, unsigned index)
{
    return nr_payload_go(NULL, data, size_bytes,
                         (struct nr_payload_stamp){.sender = sender, .index = index});
}

bool nr_payload_read(const void *data, size_t size_bytes, struct nr_payload_stamp *ret)
{
    uint64_t word;

    if (size_bytes < sizeof word)
        return false;
    memcpy(&word, data, sizeof word);
    ret->index = (uint32_t)word;
    ret->sender = (uint32_t)(word >> 32);
    return nr_payload_is_whole(data, size_bytes, ret->sender, ret->index);
}
