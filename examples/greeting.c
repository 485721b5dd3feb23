/* SPDX-License-Identifier: MIT */
/* greeting -- a parent greets its child over a pipe, and the child answers */
#include <naru/endpoint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int failed(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, naru_error_text());
    return 1;
}

static int child(struct naru_endpoint *end, struct naru_endpoint *parents)
{
    char text[80], answer[120];
    size_t size_bytes;

    if (naru_pair_assign(end, getpid()) < 0) /* this end is mine now */
        return failed("child");
    if (naru_recv(end, text, sizeof text - 1, &size_bytes, NARU_FOREVER) < 0)
        return failed("child receives");
    text[size_bytes] = '\0';
    printf("child  got: %s\n", text);
    fflush(stdout);
    int length = snprintf(answer, sizeof answer, "hello parent, you said %zu bytes", size_bytes);
    if (naru_send(end, answer, (size_t)length, NARU_FOREVER) < 0)
        return failed("child answers");
    naru_close(end);
    naru_close(parents);
    return 0;
}

int main(void)
{
    static const char greeting[] = "hello child";
    struct naru_endpoint *ends[2];
    char answer[120];
    size_t size_bytes;

    if (naru_pair(ends, "pipe://", NULL) < 0)
        return failed("pair");
    pid_t pid = fork();
    if (pid == 0)
        _exit(child(ends[1], ends[0]));
    if (naru_pair_assign(ends[1], pid) < 0) /* that end is the child's: its death will be noticed */
        return failed("parent");
    if (naru_send(ends[0], greeting, strlen(greeting), NARU_FOREVER) < 0 ||
        naru_recv(ends[0], answer, sizeof answer - 1, &size_bytes, 5 * NARU_SECOND) < 0)
        return failed("parent");
    answer[size_bytes] = '\0';
    printf("parent got: %s\n", answer);
    naru_close(ends[1]);
    naru_close(ends[0]);
    int status = 1;
    waitpid(pid, &status, 0);
    return status != 0 || strcmp(answer, "hello parent, you said 11 bytes") != 0;
}
