/* SPDX-License-Identifier: MIT */
/* baton -- processes pass a baton round and round by a condition, after one event has started them all */
#include <naru/shm.h>
#include <naru/sync.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RUNNERS = 4, LAPS = 250 };

static struct track {
    struct naru_mutex_state mutex;
    struct naru_condition_state passed;
    struct naru_event_state start;
    long handovers;
} * track;

static struct naru_mutex *mutex;
static struct naru_condition *passed;
static struct naru_event *start;

static int failed(void)
{
    fprintf(stderr, "%s\n", naru_error_text());
    return 1;
}

static int run(long number)
{
    if (naru_event_wait(start, NARU_FOREVER) < 0)
        return failed();
    for (int lap = 0; lap < LAPS; lap++) {
        if (naru_mutex_lock(mutex, NARU_FOREVER) < 0)
            return failed();
        while (track->handovers % RUNNERS != number)
            if (naru_condition_wait(passed, mutex, NARU_FOREVER) < 0)
                return failed();
        track->handovers++;
        naru_mutex_unlock(mutex);
        naru_condition_wake(passed);
    }
    return 0;
}

int main(void)
{
    struct naru_shm *segment;
    int status, is_wrong = 0;

    if (naru_shm_open(&segment, "shm://", sizeof *track, NULL) < 0)
        return failed();
    track = naru_shm_data(segment);
    if (naru_mutex_init(&track->mutex) < 0 || naru_mutex_attach(&mutex, &track->mutex) < 0 ||
        naru_condition_init(&track->passed) < 0 ||
        naru_condition_attach(&passed, &track->passed) < 0 || naru_event_init(&track->start) < 0 ||
        naru_event_attach(&start, &track->start) < 0)
        return failed();
    for (long i = 0; i < RUNNERS; i++)
        if (fork() == 0)
            _exit(run(i));
    naru_event_set(start);
    while (wait(&status) > 0)
        is_wrong |= status;
    printf("%d runners have passed the baton %ld times\n", RUNNERS, track->handovers);
    naru_event_close(start);
    naru_condition_close(passed);
    naru_mutex_close(mutex);
    naru_shm_close(segment);
    return is_wrong != 0;
}
