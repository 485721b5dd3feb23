/* SPDX-License-Identifier: MIT */
/* sum [TO [WORKERS]] -- the sum of 1..10000, split over ten processes, the parts collected over pipes */
#include <naru/endpoint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORKERS_MAX = 100 };

static int failed(const char *who, int worker)
{
    return fprintf(stderr, "%s %d: %s\n", who, worker, naru_error_text()), 1;
}

/* In the child: adds up (from, to] and sends the result. */
static int work(struct naru_endpoint *ends[2], int worker, long from, long to)
{
    long sum = 0;

    for (long i = from + 1; i <= to; i++)
        sum += i;
    if (naru_pair_assign(ends[1], getpid()) < 0 ||
        naru_send(ends[1], &sum, sizeof sum, NARU_FOREVER) < 0)
        return failed("worker", worker);
    naru_close(ends[1]);
    naru_close(ends[0]); /* the parent's, of which fork made a copy */
    return 0;
}

int main(int argc, char **argv)
{
    long to = argc > 1 ? atol(argv[1]) : 10000, total = 0, part = 0;
    int workers = argc > 2 ? atoi(argv[2]) : 10;
    struct naru_endpoint *ends[2], *from_worker[WORKERS_MAX];

    if (to < 0 || to > 1000000000 || workers < 1 || workers > WORKERS_MAX)
        return 2;
    for (int i = 0; i < workers; i++) { /* a pair for each: so a worker that dies is noticed */
        if (naru_pair(ends, "pipe://", NULL) < 0)
            return failed("pair", i);
        pid_t pid = fork();
        if (pid == 0)
            _exit(work(ends, i, to * i / workers, to * (i + 1) / workers));
        if (naru_pair_assign(ends[1], pid) < 0)
            return failed("worker", i);
        naru_close(ends[1]);
        from_worker[i] = ends[0];
    }
    for (int i = 0; i < workers; i++) {
        if (naru_recv(from_worker[i], &part, sizeof part, NULL, NARU_FOREVER) < 0)
            return failed("from worker", i); /* it died: no wrong sum is printed */
        printf("worker %d: %ld\n", i, part);
        total += part;
        naru_close(from_worker[i]);
        wait(NULL);
    }
    printf("1 + 2 + ... + %ld = %ld\n", to, total);
    return total != to * (to + 1) / 2;
}
