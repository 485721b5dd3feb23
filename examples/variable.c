/* SPDX-License-Identifier: MIT */
/* variable [URI] -- memory that two processes use like a variable: one writes, the other sees it */
#include <naru/shm.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct weather {
    double degrees;
    char place[32];
};

/* Another process, which knows nothing but the name. */
static int writer(const char *uri, struct naru_shm *inherited)
{
    struct naru_shm *segment;

    naru_shm_close(inherited);                       /* which would have done as well */
    if (naru_shm_open(&segment, uri, 0, NULL) < 0) { /* 0: as large as it is */
        fprintf(stderr, "writer: %s\n", naru_error_text());
        return 1;
    }
    struct weather *weather = naru_shm_data(segment);
    weather->degrees = 21.5;
    strcpy(weather->place, "Seoul");
    printf("writer: %zu bytes at %p written\n", naru_shm_size(segment), (void *)weather);
    fflush(stdout);
    naru_shm_close(segment);
    return 0;
}

int main(int argc, char **argv)
{
    const char *uri = argc > 1 ? argv[1] : "shm://example-weather"; /* sysv://1234 does as well */
    struct naru_shm *segment;
    int status = 1;

    if (naru_shm_open(&segment, uri, sizeof(struct weather), NULL) < 0) {
        fprintf(stderr, "%s\n", naru_error_text());
        return 1;
    }
    const struct weather *weather = naru_shm_data(segment);
    printf("before: %.1f degrees in '%s'\n", weather->degrees, weather->place); /* zeros, if new */
    fflush(stdout);
    if (fork() == 0)
        _exit(writer(uri, segment));
    wait(&status); /* only now: the order of writing and reading is up to us; see counter.c */
    printf("after:  %.1f degrees in '%s'\n", weather->degrees, weather->place);
    int is_right = weather->degrees == 21.5 && strcmp(weather->place, "Seoul") == 0;
    naru_shm_close(segment);
    naru_shm_unlink(uri);
    return status != 0 || !is_right;
}
