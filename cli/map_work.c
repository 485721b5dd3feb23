/* SPDX-License-Identifier: MIT */
#include "map_work.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

int nr_map_work_init(uint32_t worker, void *context)
{
    const struct rlimit none = {0, 0};
    struct nr_map_work *work = context;

    (void)worker;
    setrlimit(RLIMIT_CORE, &none); /* it is the command's death, not ours */
    work->null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return work->null_fd < 0 ? -errno : 0;
}

/* `word` with the item in place of each {}. The caller frees it; NULL: no memory. */
static char *nr_map_work_fill(const char *word, const char *item)
{
    size_t item_bytes = strlen(item), size_bytes = strlen(word) + 1;
    const char *from = word;

    for (const char *at = word; (at = strstr(at, "{}")); at += 2)
        size_bytes += item_bytes;
    char *filled = malloc(size_bytes), *to = filled;
    for (const char *at; filled && (at = strstr(from, "{}")); from = at + 2) {
        to = mempcpy(to, from, (size_t)(at - from));
        to = mempcpy(to, item, item_bytes);
    }
    if (filled)
        strcpy(to, from);
    return filled;
}

static void nr_map_work_forget(char **argv, int count)
{
    for (int i = 0; argv && i < count; i++)
        free(argv[i]);
    free(argv);
}

static char **nr_map_work_argv(const struct nr_map_work *work, const struct naru_pool_task *task)
{
    int count = work->words_count + !work->has_place;
    char *item = strndup(task->size_bytes ? task->data : "", task->size_bytes);
    char **argv = calloc((size_t)count + 1, sizeof *argv);
    bool has_all = item && argv;

    for (int i = 0; has_all && i < count; i++) {
        argv[i] = nr_map_work_fill(i < work->words_count ? work->words[i] : "{}", item);
        has_all = argv[i] != NULL;
    }
    free(item);
    if (has_all)
        return argv;
    nr_map_work_forget(argv, count);
    return NULL;
}

/* Replies with what the command prints, and says how it ended. */
static int nr_map_work_follow(struct naru_pool_task *task, struct naru_child *child, int output)
{
    struct naru_death death = {.size_bytes = sizeof death};
    char data[16384];
    ssize_t size;

    while ((size = read(output, data, sizeof data)) > 0 || (size < 0 && errno == EINTR))
        if (size > 0 && naru_pool_reply(task, data, (size_t)size) < 0)
            return -1;
    if (naru_child_wait(child, &death, NARU_FOREVER) < 0)
        return -1;
    if (death.cause == NARU_EXITED)
        return death.exit_status ? NR_MAP_EXITED - death.exit_status : 0;
    if (death.signal_number)
        raise(death.signal_number);
    raise(SIGKILL);
    return -1;
}

static int nr_map_work_refuse(struct naru_pool_task *task, const char *text)
{
    naru_pool_reply(task, text, strlen(text));
    return NR_MAP_NOT_STARTED;
}

int nr_map_work(struct naru_pool_task *task, void *context)
{
    const struct nr_map_work *work = context;
    struct naru_spawn_options options = {.size_bytes = sizeof options};
    struct naru_child *child;
    int output[2];

    char **argv = nr_map_work_argv(work, task);
    if (!argv || pipe2(output, O_CLOEXEC) < 0) {
        nr_map_work_forget(argv, work->words_count + !work->has_place);
        return nr_map_work_refuse(task,
                                  argv ? strerror(errno) : "no memory for the command's words");
    }
    const struct naru_spawn_fd fds[] = {{.fd = work->null_fd, .target = STDIN_FILENO},
                                        {.fd = output[1], .target = STDOUT_FILENO}};
    options.fds = fds;
    options.fds_count = sizeof fds / sizeof fds[0];
    int code = naru_spawn_program(&child, (const char *const *)argv, &options);
    close(output[1]);
    if (code < 0) {
        code = nr_map_work_refuse(task, naru_error_text());
    } else {
        code = nr_map_work_follow(task, child, output[0]);
        naru_child_close(child);
    }
    close(output[0]);
    nr_map_work_forget(argv, work->words_count + !work->has_place);
    return code;
}
