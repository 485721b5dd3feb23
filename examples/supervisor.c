/* SPDX-License-Identifier: MIT */
/* supervisor -- a worker is kept running while it dies in every way, and is stopped in the end */
#include <naru/supervisor.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

static int lives; /* counted in the parent, inherited by each child */

/* The first lives end badly; the fourth goes on until it is told to stop. */
static int work(void *unused)
{
    (void)unused;
    naru_ready();
    switch (lives) {
    case 1:
        return 3;
    case 2:
        raise(SIGKILL);
        break;
    case 3:
        abort();
    }
    for (;;)
        pause();
}

static int prepare(void *unused, int service, struct naru_spawn_options *options)
{
    (void)unused, (void)service, (void)options;
    lives++;
    return 0;
}

int main(void)
{
    struct naru_spawn_limit no_core = {.resource = RLIMIT_CORE};
    struct naru_spawn_options options = {
        .size_bytes = sizeof options,
        .readiness = NARU_READY_BY_LINE,
        .limits = &no_core,
        .limits_count = 1,
    };
    struct naru_service service = {
        .size_bytes = sizeof service,
        .name = "worker",
        .function = work,
        .prepare = prepare,
        .options = &options,
        .backoff_ns = 10 * NARU_MILLISECOND,
    };
    struct naru_service_event event = {.size_bytes = sizeof event};
    struct naru_service_stat stat = {.size_bytes = sizeof stat};
    struct naru_supervisor *supervisor;

    if (naru_supervisor_open(&supervisor) < 0 || naru_supervisor_add(supervisor, &service) < 0) {
        fprintf(stderr, "%s\n", naru_error_text());
        return 1;
    }
    /* In a program with a loop of its own: when naru_supervisor_fd() is readable. */
    while (naru_supervisor_step(supervisor, &event, 10 * NARU_SECOND) == 0) {
        if (event.happening == NARU_SERVICE_DIED)
            printf("died: %s\n", event.death.text);
        if (event.happening == NARU_SERVICE_STARTED)
            printf("started again\n");
        if (event.happening == NARU_SERVICE_IS_READY && lives == 4)
            naru_supervisor_stop(supervisor, event.service);
        if (event.state == NARU_SERVICE_DOWN)
            break;
    }
    naru_supervisor_stat(supervisor, 0, &stat);
    printf("%s: %d starts, %d failed, %d killed\n", stat.name, (int)stat.starts, (int)stat.failed,
           (int)stat.killed);
    naru_supervisor_close(supervisor);
    return stat.starts != 4;
}
