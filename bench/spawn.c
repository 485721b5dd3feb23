/* SPDX-License-Identifier: MIT */
/*
 * spawn -- what a child costs, from its birth until its death has been waited for
 *
 * A function that returns at once: naru_spawn() beside fork(2), _exit(2) and waitpid(2). A program, /bin/true: naru_spawn_program()
 * beside posix_spawn(3). And all again from a parent that has 1 GiB in use, with a zygote that was opened before.
 */
#include <naru/process.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { REPEATS = 9 };
static const size_t LARGE_BYTES = (size_t)1 << 30;

static struct naru_spawn_options by_zygote = {.size_bytes = sizeof by_zygote};
static const char *const program[] = {"/bin/true", NULL};

static double now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int nothing(void *unused)
{
    return unused != NULL;
}

static void fail(const char *words)
{
    fprintf(stderr, "%s\n", words);
    exit(1);
}

static void bare_function(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    if (waitpid(pid, NULL, 0) != pid)
        fail("fork");
}

static void bare_program(void)
{
    union {
        const char *const *given;
        char *const *wanted;
    } arguments = {program};
    pid_t pid;

    if (posix_spawn(&pid, program[0], NULL, NULL, arguments.wanted, environ) != 0 ||
        waitpid(pid, NULL, 0) != pid)
        fail("posix_spawn");
}

static void finish(struct naru_child *child, int result)
{
    if (result < 0 || naru_child_wait(child, NULL, NARU_FOREVER) < 0)
        fail(naru_error_text());
    naru_child_close(child);
}

static void naru_function(void)
{
    struct naru_child *child = NULL;
    int result = naru_spawn(&child, nothing, NULL, NULL);

    finish(child, result);
}

static void zygote_function(void)
{
    struct naru_child *child = NULL;
    int result = naru_spawn(&child, nothing, NULL, &by_zygote);

    finish(child, result);
}

static void naru_program(void)
{
    struct naru_child *child = NULL;
    int result = naru_spawn_program(&child, program, NULL);

    finish(child, result);
}

static double time_us(void (*one)(void), int count)
{
    double begin = now_us();

    for (int i = 0; i < count; i++)
        one();
    return (now_us() - begin) / count;
}

static int by_size(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

/* Medians of runs that take turns. */
static void compare(const char *what, void (*bare)(void), void (*naru)(void), int count)
{
    double bare_us[REPEATS], naru_us[REPEATS];

    for (int i = 0; i < REPEATS; i++) {
        bare_us[i] = time_us(bare, count);
        naru_us[i] = time_us(naru, count);
    }
    qsort(bare_us, REPEATS, sizeof bare_us[0], by_size);
    qsort(naru_us, REPEATS, sizeof naru_us[0], by_size);
    printf("%-42s %9.1f us bare %9.1f us naru  %.2f x\n", what, bare_us[REPEATS / 2],
           naru_us[REPEATS / 2], naru_us[REPEATS / 2] / bare_us[REPEATS / 2]);
    fflush(stdout);
}

int main(void)
{
    if (naru_zygote_open(&by_zygote.zygote) < 0)
        fail(naru_error_text());
    compare("spawn: function, fork", bare_function, naru_function, 100);
    compare("spawn: function, by a zygote", bare_function, zygote_function, 100);
    compare("spawn: program, posix_spawn", bare_program, naru_program, 50);
    char *large =
        mmap(NULL, LARGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (large == MAP_FAILED)
        fail("no memory for 1 GiB");
    madvise(large, LARGE_BYTES, MADV_NOHUGEPAGE);
    memset(large, 1, LARGE_BYTES);
    compare("spawn, 1 GiB touched: function, fork", bare_function, naru_function, 3);
    compare("spawn, 1 GiB touched: function, by a zygote", bare_function, zygote_function, 3);
    compare("spawn, 1 GiB touched: program, posix_spawn", bare_program, naru_program, 20);
    naru_zygote_close(by_zygote.zygote);
    return 0;
}
