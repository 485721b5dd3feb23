/* SPDX-License-Identifier: MIT */
/* counter [PROCESSES] -- processes add to one plain variable; a semaphore lets in one at a time */
#include <naru/shm.h>
#include <naru/sync.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TIMES = 20000 };

/* Returns how far so many processes got. */
static long count(volatile long *counter, struct naru_semaphore *gate, int processes)
{
    int status, wrong = 0;

    fflush(stdout);
    *counter = 0;
    for (int i = 0; i < processes; i++)
        if (fork() == 0) {
            for (int j = 0; j < TIMES; j++) {
                if (gate && naru_semaphore_wait(gate, NARU_FOREVER) < 0)
                    _exit(1);
                long seen = *counter;
                if (j % 1000 == 0)
                    sched_yield();   /* another one may run here, read the same value ... */
                *counter = seen + 1; /* ... and what it adds meanwhile is overwritten */
                if (gate && naru_semaphore_post(gate) < 0)
                    _exit(1);
            }
            _exit(0);
        }
    while (wait(&status) > 0)
        wrong |= status;
    return wrong ? -1 : *counter;
}

int main(int argc, char **argv)
{
    int processes = argc > 1 ? atoi(argv[1]) : 4;
    struct naru_semaphore *gate;
    struct naru_shm *segment;
    char name[40];

    snprintf(name, sizeof name, "example-gate-%d", (int)getpid());
    if (naru_shm_open(&segment, "shm://", sizeof(long), NULL) < 0 || /* inherited by the children */
        naru_semaphore_open(&gate, name, 1, NULL) < 0) {             /* 1: one may pass */
        fprintf(stderr, "%s\n", naru_error_text());
        return 1;
    }
    printf("%d processes add 1 to a variable, %d times each\n", processes, TIMES);
    printf("without a semaphore: %ld\n", count(naru_shm_data(segment), NULL, processes));
    long guarded = count(naru_shm_data(segment), gate, processes);
    printf("with a semaphore:    %ld\n", guarded);
    naru_semaphore_close(gate);
    naru_semaphore_unlink(name);
    naru_shm_close(segment);
    return guarded != (long)processes * TIMES;
}
