/* SPDX-License-Identifier: MIT */
#include "crew.h"
#include "stop.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int nr_crew_init(struct nr_crew *crew, unsigned members_count)
{
    *crew = (struct nr_crew){
        .members = calloc(members_count, sizeof *crew->members),
        .members_count = members_count,
        .casualty = -1,
    };
    return crew->members ? 0 : -ENOMEM;
}

void nr_crew_deinit(struct nr_crew *crew)
{
    nr_crew_kill(crew);
    free(crew->members);
    *crew = (struct nr_crew){.casualty = -1};
}

pid_t nr_crew_start(struct nr_crew *crew, int (*work)(void *context, unsigned index), void *context)
{
    unsigned index = crew->started_count;
    pid_t parent = getpid();
    sigset_t all, before;

    /* Blocked until the child has let go of the parent's handlers: in between they would interrupt
       the parent's endpoint. */
    fflush(NULL);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    int error = errno;
    if (pid == 0) {
        nr_stop_forget();
        sigprocmask(SIG_SETMASK, &before, NULL);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        int code = work(context, index);
        fflush(NULL);
        _exit(code);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (pid < 0)
        return -error;
    crew->members[index] = (struct nr_crew_member){.pid = pid};
    crew->started_count++;
    crew->alive_count++;
    return pid;
}

static void nr_crew_bury(struct nr_crew *crew, unsigned index, int status)
{
    struct nr_crew_member *member = &crew->members[index];

    member->ended = true;
    member->status = status;
    crew->alive_count--;
    /* A signal says more than the exit code of a worker that suffered from it. */
    bool is_worse = crew->casualty < 0 ||
                    (WIFSIGNALED(status) && WIFEXITED(crew->members[crew->casualty].status));
    if (status != 0 && is_worse)
        crew->casualty = (int)index;
}

void nr_crew_reap(struct nr_crew *crew)
{
    for (unsigned i = 0; i < crew->started_count; i++) {
        int status;

        if (!crew->members[i].ended && waitpid(crew->members[i].pid, &status, WNOHANG) > 0)
            nr_crew_bury(crew, i, status);
    }
}

void nr_crew_kill(struct nr_crew *crew)
{
    int casualty;

    nr_crew_reap(crew);
    casualty = crew->casualty;
    for (unsigned i = 0; i < crew->started_count; i++)
        if (!crew->members[i].ended)
            kill(crew->members[i].pid, SIGKILL);
    for (unsigned i = 0; i < crew->started_count; i++) {
        int status = 0;

        if (crew->members[i].ended)
            continue;
        while (waitpid(crew->members[i].pid, &status, 0) < 0 && errno == EINTR)
            ;
        nr_crew_bury(crew, i, status);
    }
    crew->casualty = casualty;
}

const char *nr_crew_casualty(const struct nr_crew *crew, char *text, size_t text_bytes)
{
    const struct nr_crew_member *member = &crew->members[crew->casualty];
    int number = WTERMSIG(member->status);

    if (WIFSIGNALED(member->status))
        snprintf(text, text_bytes, "worker %d (process %d) was killed by SIG%s (%s)",
                 crew->casualty + 1, (int)member->pid,
                 sigabbrev_np(number) ? sigabbrev_np(number) : "?", strsignal(number));
    else
        snprintf(text, text_bytes, "worker %d (process %d) failed: exit status %d",
                 crew->casualty + 1, (int)member->pid, WEXITSTATUS(member->status));
    return text;
}
